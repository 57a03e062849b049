/* Data sets other than the world: looked into with `nuwa data`, and trained on. */
#include "runtime/base/safetensors.h"
#include "tests/cli/commands.h"

/* A hundred captioned pictures in two folders, which are classes. */
static void make_folder(void) {
  if (folder[0]) return;
  open_folder();
  expect_shell("nuwa data --count 100 --out scenes >/dev/null && mkdir -p pets/cat pets/dog && cp scenes/00000?.png "
               "pets/cat && "
               "cp scenes/0000[1-9]?.png pets/dog && grep '^00000' scenes/captions.txt >pets/cat/captions.txt && "
               "grep -v '^00000' scenes/captions.txt >pets/dog/captions.txt && touch pets/dog/x.svg");
}

static const char model[] =
    "local optim = require 'optim'\n"
    "local words, kinds = param('words', f32(600, 4), { normal = 1 }), param('kinds', f32(2, 4), { normal = 1 })\n"
    "local f = fn({ image = f32(batch, 24, 16, 1), text = i32(batch, 12), class = i32(batch) }, function(a)\n"
    "  local w, k = gather(words, a.text), gather(kinds, a.class)\n"
    "  return { loss = mean(w * w) + mean(k * k) * mean(a.image * a.image) } end)\n"
    "return module { train = { { 'main', optim.sgd(f, { lr = 0.1 }) } }, evaluate = f }\n";

#define PETS_OF(data) "train pets.lua --models models --data " data " --bpe merges --batch 6 --steps 12 --eval 6 --eval-batches 1 "
#define PETS PETS_OF("pets")

TEST("a folder is shown with its counts, fields, classes and what was passed over, as text and as JSON") {
  make_folder();
  EXPECT_STATUS(0, "data pets", "examples for training, ");
  EXPECT_HAS(output, "  image f32 or u8 [any, any, 3 or 1]\n  text i32 [any]\n  class i32 []\n2 classes: cat, dog\n");
  EXPECT_HAS(output, "1 files are neither pictures nor clips and were passed over, \"dog/x.svg\" the first");
  EXPECT_STATUS(0, "data pets --json",
                "\"fields\": [\"image f32 or u8 [any, any, 3 or 1]\", \"text i32 [any]\", \"class i32 []\"]");
  EXPECT_HAS(output, "\"classes\": 2}");
  EXPECT_STATUS(2, "data no/such", "no such folder; data are world,");
  EXPECT_STATUS(2, "data pets --judge", "--judge are of the world");
  EXPECT_STATUS(2, "data pets --first 99 --sheet s.png", "--first 99: there are ");
}

TEST("a contact sheet shows any data's pictures, those of the world's scenes in a folder as the world's own") {
  make_folder();
  EXPECT_STATUS(0, "data pets --sheet pets.png --size 20 --zoom 1 --count 8", "");
  expect_shell("test -s pets.png");
  /* The first example of the folder is the first scene, held out or not. */
  expect_shell(
      "mkdir -p one && cp scenes/000000.png one && nuwa data one --sheet one.png --size 32 --count 1 >/dev/null; "
      "nuwa data one --held-out --sheet held.png --size 32 --count 1 >/dev/null; "
      "nuwa data --sheet world.png --count 1 >/dev/null && { cmp one.png world.png || cmp held.png world.png; }");
  expect_shell("printf 'no picture' >one/000000.png && mkdir -p two && cp one/000000.png two/a.png && cp "
               "one/000000.png two/b.png");
  float x[3 * 2 * 2] = {0};
  TensorView v = {.name = "image", .dtype = DTYPE_F32, .rank = 3, .dim = {3, 2, 2}, .data = x, .bytes = sizeof x};
  char path[100];
  Error err;
  snprintf(path, sizeof path, "%s/f.safetensors", folder);
  REQUIRE(safetensors_write(path, &v, 1, NULL, 0, &err), "%s", err.text);
  expect_shell("nuwa data f.safetensors --sheet floats.png >/dev/null && test -s floats.png");
  EXPECT_STATUS(1, "data two --sheet two.png", "two: none of ");
  EXPECT_HAS(output, "not a PNG, JPEG or WebP file");
}

TEST("a model is trained on a folder: sizes as it wants them, captions, classes; resumed bit for bit") {
  make_folder();
  write_text("pets.lua", model);
  expect_shell("nuwa data pets --bpe merges --vocab 560 >/dev/null");
  EXPECT_STATUS(0, PETS "--log log --out whole --checkpoint whole.ckpt", "step 12/12");
  EXPECT_HAS(output, "pets: 1 files are neither pictures nor clips and were passed over, \"dog/x.svg\" the first\n");
  expect_shell("grep -q 'val.loss' log/metrics.jsonl && ! grep -q 'held.loss' log/metrics.jsonl");
  EXPECT_STATUS(0, PETS "--checkpoint part.ckpt --stop 7", "");
  EXPECT_STATUS(0, PETS "--checkpoint part.ckpt --resume --out part", "");
  expect_shell("cmp part whole && cmp part.ckpt whole.ckpt");
  expect_shell("grep -aqF '\\\"data\\\": \\\"pets\\\", \\\"data_sha256\\\": ' whole");
  expect_shell(
      "cp -r pets same && cp scenes/000000.png pets/cat/more.png && echo 'more\ta cat' >>pets/cat/captions.txt");
  EXPECT_STATUS(1, PETS "--checkpoint part.ckpt --resume", "its data_sha256 is ");
  expect_shell("mkdir elsewhere && cp -r same elsewhere/moved && nuwa " PETS_OF("elsewhere/moved") "--checkpoint part.ckpt --resume");
  EXPECT_STATUS(1, PETS_OF("same:fps=8") "--checkpoint part.ckpt --resume", "its data_sha256 is ");
  EXPECT_STATUS(1, PETS_OF("same:flip") "--checkpoint part.ckpt --resume", "its data_sha256 is ");
  expect_shell("rm -r pets && mv same pets");
}

TEST("--eval-data measures on all of another data set, and trains on all of the first") {
  make_folder();
  write_text("pets.lua", model);
  expect_shell("nuwa data pets --bpe merges --vocab 560 >/dev/null && cp -r pets other && mv other/dog other/fox");
#define APART "train pets.lua --models models --bpe merges --batch 6 --steps 2 --eval 1 "
  EXPECT_STATUS(2, APART "--data pets --eval-data other", "class 1 is \"fox\" in other and \"dog\" in pets");
  expect_shell("mv other/fox other/dog && rm other/dog/00001?.png");
  EXPECT_STATUS(0, APART "--data pets --eval-data other --checkpoint apart.ckpt --stop 1", "val.loss");
  EXPECT_STATUS(1, APART "--data pets --checkpoint apart.ckpt --resume", "its eval_data_sha256 is ");
  expect_shell("mkdir -p lone/cat lone/dog && cp scenes/000000.png lone/cat && cp scenes/000010.png lone/dog");
  EXPECT_STATUS(2, "train models/vq.lua --models models --data lone --steps 1 --eval 1",
                "none is held out: --eval needs --eval-data");
  EXPECT_STATUS(0, "train models/vq.lua --models models --data lone --eval-data lone --steps 1 --eval 1", "val.loss");
  EXPECT_STATUS(0, "train models/vq.lua --models models --data lone --eval-data world --steps 1 --eval 1",
                "held.loss");
  EXPECT_STATUS(2, "train models/vq.lua --models models --data lone --eval-data lone --steps 1",
                "--eval-data has no effect without --eval");
}

TEST("what the data do not have is refused beside what they have, and missing captions unless they are allowed") {
  make_folder();
  write_text("pets.lua", model);
  expect_shell("nuwa data pets --bpe merges --vocab 560 >/dev/null && cp -r pets lack && rm lack/dog/captions.txt");
  EXPECT_STATUS(
      2, "train pets.lua --models models --data lack --bpe merges --steps 1",
      "input \"text\" of \"train.main\": lack: 90 of 100 examples have no caption, \"dog/000010\" the first of them");
  EXPECT_STATUS(0, "train pets.lua --models models --data lack --bpe merges --steps 1 --allow-missing", "step 1/1");
  expect_shell("mkdir -p flat && cp scenes/* flat");
  EXPECT_STATUS(
      2, "train pets.lua --models models --data flat --bpe merges --steps 1",
      "input \"class\" of \"train.main\": class i32 [] is wanted of every example; flat has image f32 or u8 [");
  EXPECT_STATUS(2, "train models/vq.lua --models models --data idx:none --steps 1",
                "neither none-images-idx3-ubyte nor");
  EXPECT_STATUS(2, "train models/vq.lua --models models --data flat --font x --steps 1",
                "--names and --font are of the world");
  expect_shell("mkdir -p few && cp scenes/000000.png scenes/000001.png few");
  EXPECT_STATUS(0, "train models/vq.lua --models models --data few --steps 1 --batch 4", "step 1/1");
}

TEST("ids beyond a model's tables are refused with both numbers, before training or when they are met") {
  make_folder();
  write_text("ids.lua",
             "local optim = require 'optim'\n"
             "local o = options { kinds = 2, codes = 8 }\n"
             "local kinds = param('kinds', f32(o.kinds, 4), { normal = 1 })\n"
             "local codes = param('codes', f32(o.codes, 4), { normal = 1 })\n"
             "local f = fn({ class = i32(batch), tokens = i32(batch, 3) }, function(a)\n"
             "  return { loss = mean(gather(kinds, a.class)) + mean(gather(codes, a.tokens)) } end)\n"
             "return module { train = { { 'main', optim.sgd(f, { lr = 0.1 }) } } }\n");
  int32_t class[4] = {0, 1, 2, 1}, tokens[12] = {0, 1, 2, 3, 4, 5, 6, 7, 7, 9, 1, 2};
  TensorView v[] = {{.name = "class", .dtype = DTYPE_I32, .rank = 1, .dim = {4}, .data = class, .bytes = sizeof class},
                    {.name = "tokens", .dtype = DTYPE_I32, .rank = 2, .dim = {4, 3}, .data = tokens, .bytes = sizeof tokens}};
  char path[100];
  Error err;
  snprintf(path, sizeof path, "%s/ids.safetensors", folder);
  REQUIRE(safetensors_write(path, v, 2, NULL, 0, &err), "%s", err.text);
#define IDS "train ids.lua --models models --data ids.safetensors --steps 3 --batch 2 "
  EXPECT_STATUS(2, IDS, "input \"class\" of \"train.main\": class: ids.safetensors has 3 classes, the model takes 2");
  EXPECT_STATUS(2, IDS "-D kinds=3", "tokens of \"3\" has 9; the model takes 0 to 7");
  EXPECT_STATUS(0, IDS "-D kinds=3 -D codes=10", "step 3/3");
}

TEST("what a data set would feed to a model's inputs is shown, and what it could not is said") {
  make_folder();
  write_text("pets.lua", model);
  EXPECT_STATUS(0, "data pets --model pets.lua --models models",
                "pets.lua is fed\n  train.main\n    class i32[B] <- class i32 []; the model takes 0 to 1\n"
                "    image f32[B,24,16,1] <- image f32 or u8 [any, any, 3 or 1]\n"
                "    step i32[] <- the trainer\n    steps i32[] <- the trainer\n"
                "    text i32[B,12] <- text i32 [any], by the merges of nuwa train --bpe; the model takes 0 to 599\n"
                "  evaluate\n    class i32[B] <- ");
  EXPECT_STATUS(2, "data scenes --model pets.lua --models models",
                "input \"class\" of \"train.main\": class i32 [] is wanted of every example; scenes has image ");
  EXPECT_STATUS(2, "data pets -D x=1", "-D");
}

TEST("an evaluation on other data shows each of them once, whatever the batch") {
  make_folder();
  write_text("still.lua",
             "local optim = require 'optim'\n"
             "local w = param('w', f32(1), { normal = 1 })\n"
             "local f = fn({ image = f32(batch, 8, 8, 1) }, function(a)\n"
             "  return { loss = mean(a.image * a.image) + mean(w) * 0 } end)\n"
             "return module { train = { { 'main', optim.sgd(f, { lr = 0 }) } }, evaluate = f }\n");
#define STILL "train still.lua --models models --data pets --eval-data pets --steps 1 --eval 1 --log still"
  expect_shell("nuwa " STILL "1 --batch 7 && nuwa " STILL "2 --batch 100 && nuwa " STILL "3 --batch 64 && "
               "grep -ho 'val.loss\": [0-9.]\\{6\\}' still[123]/metrics.jsonl | sort | uniq -c | grep ' 3 '");
  EXPECT_HAS(output, "steps waited for data ");
}

TEST("a model of clips is trained on folders of frames, resumed bit for bit; they are shown in rows of frames") {
  make_folder();
  write_text("moves.lua",
             "local optim = require 'optim'\n"
             "local w = param('w', f32(3), { normal = 1 })\n"
             "local f = fn({ video = f32(batch, 4, 12, 8, 3) }, function(a)\n"
             "  return { loss = mean(abs(a.video * w)) } end)\n"
             "return module { train = { { 'main', optim.sgd(f, { lr = 0.1 }) } }, evaluate = f }\n");
  expect_shell("for i in 1 2 3 4 5 6 7 8 9; do mkdir -p moves/$i.frames && cp scenes/0000${i}[0-3].png moves/$i.frames; "
               "done && rm moves/7.frames/*3.png");
  EXPECT_STATUS(0, "data moves --sheet moves.png --frames 4 --size 16", "  video f32 or u8 [any, any, any, 3 or 1]\n");
  EXPECT_HAS(output, "7.frames: a clip of 3 frames, where 4 are wanted (short=hold lets the last one stay)");
#define MOVES "train moves.lua --models models --data moves:short=hold,flip --batch 3 --steps 9 "
  EXPECT_STATUS(0, MOVES "--out moves.whole", "step 9/9");
  EXPECT_STATUS(0, MOVES "--checkpoint moves.ckpt --stop 5", "");
  EXPECT_STATUS(0, MOVES "--checkpoint moves.ckpt --resume --out moves.part", "");
  expect_shell("cmp moves.whole moves.part");
  EXPECT_STATUS(2, "train moves.lua --models models --data scenes --steps 1",
                "video f32 [4, 12, 8, 3] is wanted of every example; scenes has image f32 or u8 [");
}

TEST("shards that tar makes are shown and trained on, with captions and classes, resumed bit for bit") {
  make_folder();
  write_text("pets.lua", model);
  expect_shell("nuwa data pets --bpe merges --vocab 560 >/dev/null && mkdir -p tars && cd tars && cp ../scenes/0000*.png . && "
               "while IFS='\t' read -r n text; do echo \"$text\" >${n%.png}.txt && echo $((1$n % 2)) >${n%.png}.cls; done "
               "<<EOF\n$(sed 's/.png//' ../scenes/captions.txt)\nEOF\n"
               "tar cf s-0.tar 0000[0-4]* && tar cf s-1.tar --format=pax 0000[5-9]*");
  EXPECT_STATUS(0, "data 'tars/s-{0..1}.tar' --sheet tars.png --size 16",
                "  image f32 or u8 [any, any, 3 or 1]\n  text i32 [any]\n  class i32 []\n2 classes\n");
#define TARS "train pets.lua --models models --data 'tars/s-{0..1}.tar' --bpe merges --batch 6 --steps 20 "
  EXPECT_STATUS(0, TARS "--out tars.whole", "step 20/20");
  EXPECT_STATUS(0, TARS "--checkpoint tars.ckpt --stop 13", "");
  EXPECT_STATUS(0, TARS "--checkpoint tars.ckpt --resume --out tars.part", "");
  expect_shell("cmp tars.whole tars.part");
  expect_shell("head -c 20000 tars/s-1.tar >cut-1.tar");
  EXPECT_STATUS(0, "data cut-1.tar", "1 shards are cut short or damaged, and what follows is left out, \"cut-1.tar (");
  EXPECT_STATUS(1, "data cut-1.tar --strict", "cut-1.tar: 1 shards are cut short or damaged, cut-1.tar (");
}

TEST("examples are written with their own captions: none of broken ones, those of several lines in metadata.jsonl") {
  make_folder();
  expect_shell("mkdir -p odd && cp scenes/00000[0-4].png odd && echo broken >odd/000001.png && "
               "printf '000000\\tone\\n000001\\ttwo\\n000002\\tthree\\n' >odd/captions.txt && "
               "printf '{\"file_name\": \"000003\", \"text\": \"two\\\\nlines \"}\\n' >odd/metadata.jsonl");
  EXPECT_STATUS(0, "data odd --out even --count 5 --size 16", "000001.png: not a PNG");
  expect_shell("cd even && ls | tr '\\n' ' '; cat captions.txt metadata.jsonl");
  EXPECT_TEXT(output, "000000.png 000002.png 000003.png 000004.png captions.txt metadata.jsonl "
                      "000000.png\tone\n000002.png\tthree\n{\"file_name\": \"000003.png\", \"text\": \"two\\nlines \"}\n");
  EXPECT_STATUS(0, "data even", "text i32 [any], not of 1 examples");
  EXPECT_STATUS(0, "data odd --captions - --count 4", "one\ntwo\nthree\ntwo lines \n");
  EXPECT_STATUS(1, "data odd:flip --out odd", "--out odd lies in the data set itself");
  EXPECT_STATUS(1, "data odd --out ./odd/deeper", "--out ./odd/deeper lies in the data set itself");
  EXPECT_STATUS(0, "data odd --out odd-one --count 1", "");
}

TEST("a caption that cannot be read leaves its picture without one, or ends it; one that is too long makes no merges") {
  make_folder();
  expect_shell("mkdir -p said && cp scenes/00000[0-2].png said && echo cap >said/000000.txt && printf 'x\\0' >said/000001.txt && "
               "head -c 70000 /dev/zero | tr '\\0' y >said/000002.txt");
  EXPECT_STATUS(0, "data said --out heard --count 2", "said/000001.txt holds a zero byte: captions are UTF-8 text; it has none here");
  expect_shell("cd heard && ls | tr '\n' ' '; cat captions.txt");
  EXPECT_TEXT(output, "000000.png 000001.png captions.txt 000000.png\tcap\n");
  EXPECT_STATUS(0, "data said --bpe said.txt --vocab 520", "the caption of \"000002\" has 70000 bytes, and 65536 are the most: it is left out");
  EXPECT_STATUS(1, "data said --strict --captions -", "said/000001.txt holds a zero byte");
}

TEST("a broken picture is told of and passed over while training, or ends it") {
  make_folder();
  expect_shell("mkdir -p worn && cp scenes/00001?.png worn && head -c 99 scenes/000010.png >worn/000010.png && "
               "head -c 98 scenes/000011.png >worn/000011.png && head -c 97 scenes/000012.png >worn/000012.png");
  EXPECT_STATUS(0, "train models/vq.lua --models models --data worn --steps 4 --batch 8", "damaged PNG");
  EXPECT_HAS(output, "; the next one stands in for it");
  EXPECT_STATUS(1, "train models/vq.lua --models models --data worn --steps 4 --batch 8 --strict", "damaged PNG");
#define WORN "nuwa train models/vq.lua --models models --data worn --steps 5 --batch 6 --load-threads "
  expect_shell(WORN "0 --out none 2>&1 | grep 'damaged PNG' >none.txt && " WORN
                    "4 --out four 2>&1 | grep 'damaged PNG' >four.txt; cmp none four && cmp none.txt four.txt && "
                    "test $(wc -l <four.txt) -ge 2");
}

TEST_MAIN()
