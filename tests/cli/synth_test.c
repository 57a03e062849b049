/* Weights that carry their model, recipes, pairs, completion, captions, and options without effect, as a user meets
 * them. */
#include <math.h>

#include "media/image.h"
#include "runtime/base/safetensors.h"
#include "tests/cli/commands.h"

#define DRAWER                                                                                                       \
  "-D grid_s=1 -D grid_h=16 -D grid_w=16 -D dim=16 -D heads=2 -D encoder_layers=1 -D decoder_layers=1 "              \
  "-D text_tokens=24 -D vocab=514 -D codebook=16 --bpe merges"
#define VQ "train models/vq.lua --models models --batch 2 --steps 2 "

/* vq.safetensors and kit.safetensors: an autoencoder and what draws its codes, after a step; scene/: a picture. */
static bool have_kit(void) {
  static bool has;
  if (has) return true;
  has = nuwa("data --count 1 --out scene") == 0 && nuwa(VQ "--out vq.safetensors") == 0 &&
        nuwa(VQ "--seed 1 --out other.safetensors") == 0 && nuwa("data --bpe merges --vocab 514") == 0 &&
        nuwa("train models/nuwa.lua --models models " DRAWER " --vq-weights vq.safetensors --steps 1 --batch 1 "
             "--out kit.safetensors") == 0;
  EXPECT(has, "%s", output);
  return has;
}

#define KIT "generate --models models --weights kit.safetensors --text \"a panda at the top on red\" "

static void path_of(const char *name, char out[200]) { snprintf(out, 200, "%s/%s", folder, name); }

TEST("weights are enough by themselves: the model's files, its options, and the autoencoder by its digest") {
  REQUIRE(have_kit(), "");
  EXPECT_STATUS(0, KIT "-o here.png", "");
  REQUIRE(shell("mkdir -p far/empty && cp kit.safetensors far && cp vq.safetensors far/codes.st") == 0, "%s", output);
  EXPECT(shell("cd far && nuwa generate --weights kit.safetensors --models empty --text 'a panda at the top on red' "
               "-o there.png") == 0, "%s", output);
  EXPECT(shell("cmp here.png far/there.png") == 0, "%s", output);
  EXPECT_STATUS(0, "compile --weights far/kit.safetensors --models far/empty -o far.nuwa", "");
  EXPECT_STATUS(0, "compile models/nuwa.lua --models models --weights kit.safetensors -o near.nuwa", "");
  EXPECT(shell("rm far/codes.st; cd far && nuwa generate --weights kit.safetensors --models empty --text x "
               "-o x.png") == 1, "%s", output);
  EXPECT_HAS(output, "was trained with an autoencoder whose weights have the SHA-256 ");
}

/* A copy of a weights file with another text under a key (NULL: without it); key NULL: with a last tensor of NaN, or
 * all tensors of that value. */
static bool change_weights(const char *from, const char *to, const char *key, const char *value) {
  char path[200];
  Error err = {0};
  MetadataEntry meta[7];
  static const char *const keys[] = {"format", "model", "source", "options", "bpe", "words", "recipe"};
  path_of(from, path);
  Safetensors *w = safetensors_open(path, &err);
  int n = w ? safetensors_count(w) : 0, n_meta = 0;
  TensorView *view = calloc((size_t)n + 1, sizeof *view);
  float *bad = NULL;
  for (int i = 0; i < n; i++) view[i] = *safetensors_get(w, i);
  size_t most = 0;
  for (int i = 0; i < n; i++) most = view[i].bytes > most ? view[i].bytes : most;
  if (!key && (bad = calloc(1, most))) {
    for (size_t i = 0; i < most / sizeof *bad; i++) bad[i] = value ? strtof(value, NULL) : NAN;
    for (int i = value ? 0 : n - 1; i < n; i++) view[i].data = bad;
  }
  for (int i = 0; w && i < COUNT_OF(keys); i++) {
    const char *text = key && strcmp(keys[i], key) == 0 ? value : safetensors_metadata(w, keys[i]);
    if (text) meta[n_meta++] = (MetadataEntry){keys[i], text};
  }
  path_of(to, path);
  bool ok = w && safetensors_write(path, view, n, meta, n_meta, &err);
  EXPECT(ok, "%s", err.text);
  safetensors_close(w);
  free(view);
  free(bad);
  return ok;
}

TEST("a model that weights name outside of the models' folder is refused, and a source that is damaged") {
  REQUIRE(have_kit(), "");
  REQUIRE(change_weights("kit.safetensors", "no-source.safetensors", "source", NULL), "");
  EXPECT_STATUS(0, "generate --models models --weights no-source.safetensors --text panda -o old.png", "");
  REQUIRE(change_weights("no-source.safetensors", "up.safetensors", "model", "../models/nuwa.lua"), "");
  EXPECT_STATUS(1, "generate --models models --weights up.safetensors --text panda -o up.png", "lies outside of");
  REQUIRE(change_weights("no-source.safetensors", "root.safetensors", "model", "/etc/nuwa.lua"), "");
  EXPECT_STATUS(1, "generate --models models --weights root.safetensors --text panda -o up.png", "lies outside of");
  REQUIRE(change_weights("kit.safetensors", "cut.safetensors", "source", "{\"nuwa.lua\": \"return"), "");
  EXPECT_STATUS(1, "generate --models models --weights cut.safetensors --text panda -o up.png",
                "the model's source: JSON");
  REQUIRE(change_weights("kit.safetensors", "lone.safetensors", "source", "{\"nuwa.lua\": \"require 'nn'\"}"), "");
  EXPECT_STATUS(1, "generate --models models --weights lone.safetensors --text panda -o up.png",
                "lone.safetensors/nuwa.lua:1: require: there is no nn.lua in the source that came with the weights");
}

TEST("an autoencoder of other weights is refused: the drawer knows its own") {
  REQUIRE(have_kit(), "");
  EXPECT_STATUS(1, "generate --models models --weights vq.safetensors --vq-weights vq.safetensors -o wrong.png",
                "--weights is an autoencoder, which draws nothing by itself: --vq-weights names it");
  EXPECT_STATUS(1, KIT "--vq-weights other.safetensors -o wrong.png",
                "kit.safetensors: they were trained with vq_sha256 \"");
  EXPECT(shell("test -e wrong.png") == 1, "a picture of the wrong codes");
}

#define GO_ON "train models/nuwa.lua --models models " DRAWER " --steps 1 --batch 1 "

TEST("training begins with weights that learnt the same autoencoder's codes and the same merges only") {
  REQUIRE(have_kit(), "");
  EXPECT_STATUS(1, GO_ON "--weights kit.safetensors --vq-weights other.safetensors --out wrong.safetensors",
                "kit.safetensors: they were trained with vq_sha256 \"");
  EXPECT(shell("test -e wrong.safetensors") == 1, "weights of the wrong codes");
  REQUIRE(change_weights("kit.safetensors", "words.safetensors", "bpe", "#version: 0.2\na b\n"), "");
  EXPECT_STATUS(1, GO_ON "--weights words.safetensors --vq-weights vq.safetensors --out wrong.safetensors",
                "words.safetensors: they were trained with another text encoder");
  EXPECT_STATUS(0, GO_ON "--weights kit.safetensors --vq-weights vq.safetensors --out more.safetensors", "step 1/1");
  REQUIRE(change_weights("kit.safetensors", "unsaid.safetensors", "recipe", NULL), "");
  EXPECT_STATUS(0, GO_ON "--weights unsaid.safetensors --vq-weights other.safetensors --out more.safetensors",
                "step 1/1");
}

TEST("a picture's recipe has all that shapes it, with numbers that read back exactly") {
  REQUIRE(have_kit(), "");
  EXPECT_STATUS(0, KIT "--temperature 0.1234567890123 --top-p 0.9 --seed 7 -o recipe.png", "");
  EXPECT(shell("grep -aq '\"temperature\": 0.1234567890123, \"top_k\": 0, \"top_p\": 0.9' recipe.png") == 0,
         "numbers");
  EXPECT(shell("grep -aq '\"precision\": \"f32\", \"device\": \"cpu\"' recipe.png") == 0, "precision and device");
  EXPECT(shell("v=$(sha256sum <vq.safetensors | cut -c1-64); w=$(sha256sum <kit.safetensors | cut -c1-64); "
               "grep -aq \"\\\"weights_sha256\\\": \\\"$w\\\", \\\"vq_sha256\\\": \\\"$v\\\"\" recipe.png") == 0,
         "digests");
}

TEST("a run is resumed with what shaped it only, and the message names the field and both values") {
  REQUIRE(have_kit(), "");
  EXPECT_STATUS(0, VQ "--stop 1 --checkpoint r.ckpt", "");
  EXPECT_STATUS(1, VQ "--checkpoint r.ckpt --resume --precision bf16", "its precision is f32, this run's is bf16");
  EXPECT_STATUS(1, VQ "--checkpoint r.ckpt --resume -D lr=0.5", "its options.lr is 0.001, this run's is 0.5");
  EXPECT_STATUS(1, VQ "--checkpoint r.ckpt --resume --data world:things=32", "its data_sha256 is ");
  EXPECT(shell("cp models/vq.lua models/vq2.lua && echo '-- another' >>models/vq2.lua") == 0, "%s", output);
  EXPECT_STATUS(1, "train models/vq2.lua --models models --batch 2 --steps 2 --checkpoint r.ckpt --resume",
                "its source_sha256 is ");
  EXPECT_STATUS(0, VQ "--checkpoint r.ckpt --resume --out resumed.safetensors", "step 2/2");
  EXPECT(shell("cmp resumed.safetensors vq.safetensors") == 0, "resumed weights differ: %s", output);
}

/* Every option of train with another value than that of a run. */
static const struct {
  const char *other, *field;   /* what differs then; NULL: it shapes no result, or another field tells */
} train_options[] = {
    {"--steps 3", "steps"}, {"--batch 3", "batch"}, {"--seed 5", "seed"}, {"--data world:things=32", "data_sha256"},
    {"--precision bf16", "precision"},
    {"--weights start", "start_sha256"}, {"-D dim=5", "options.dim"}, {"--bpe more", "bpe_sha256"},
    {"--vq-weights vq2", "vq_sha256"}, {"--tokens image=vq2", "vq_sha256"}, {"--weights-of part=plain", "parts_sha256"},
    {"--fresh c --weights start", "fresh"},
    /* Told by data_sha256, vq_source_sha256, vq_options; device and products need a GPU. */
    {"--names"}, {"--font"}, {"--vq"}, {"--vq-define"}, {"--device"}, {"--products"},
    /* What is refused. */
    {"--strict"}, {"--allow-missing"},
    /* data_test.c has it. */
    {"--eval-data"},
    /* How far, where to, and how fast. */
    {"--stop"}, {"--out"}, {"--store"}, {"--checkpoint"}, {"--every"}, {"--resume"}, {"--log"}, {"--log-every"},
    {"--report"}, {"--load-threads"}, {"--eval"}, {"--eval-batches"}, {"--raw"}, {"--profile"}, {"--json"}, {"--cuda-driver"}, {"--cublaslt"}, {"--nvrtc"},
    {"--isa"}, {"--threads"}, {"--models"}, {"--ignore"}, {"--no-cache"}};

/* A model that reads all there is, as little as it can of it. */
static const char reads_all[] =
    "local optim = require 'optim'\n"
    "local o = options { dim = 4 }\n"
    "local function mean_of(name, ids) local v = gather(param(name, f32(1000, o.dim), { uniform = 0.1 }), ids)\n"
    "  return mean(v * v) end\n"
    "local f = fn({ text = i32(batch, 8), tokens = i32(batch, 1, 16, 16) }, function(a)\n"
    "  return { loss = mean_of('part.t', a.text) + mean_of('c', a.tokens) } end)\n"
    "return module { train = { { 'main', optim.sgd(f, { lr = 0.1 }) } } }\n";

TEST("every option of train is part of the recipe, or known to shape nothing") {
  open_folder();
  write_text("models/all.lua", reads_all);
  REQUIRE(shell("sed 's/return module {/return module { codebook = 16,/' models/vq.lua >models/vq16.lua && "
                "T='nuwa train --models models --batch 2 --steps 1' && $T models/vq16.lua --out vq && "
                "$T models/vq16.lua --seed 1 --out vq2 && nuwa data --bpe text && nuwa data --bpe more --vocab 520 && "
                "R='nuwa train models/all.lua --models models --bpe text --vq-weights vq --steps 2 --batch 2' && "
                "sed \"s/'part.t'/'t'/\" models/all.lua >models/plain.lua && "
                "nuwa train models/plain.lua --models models --bpe text --vq-weights vq --steps 1 --batch 2 --out plain && "
                "$R --out start && $R --stop 1 --checkpoint all.ckpt") == 0, "%s", output);
  for (int i = 0; i < COUNT_OF(train_options) && train_options[i].field; i++) {
    static const struct { const char *name, *text; } same[] = {{"--bpe ", "--bpe text "}, {"--steps ", "--steps 2 "},
        {"--batch ", "--batch 2 "}, {"--vq-weights ", "--vq-weights vq "}};
    char command[400] = "train models/all.lua --models models --checkpoint all.ckpt --resume ", want[60];
    for (int k = 0; k < COUNT_OF(same); k++)
      if (strncmp(same[k].name, train_options[i].other, strlen(same[k].name)) != 0 &&
          (same[k].name[2] != 'v' || strncmp(train_options[i].other, "--tokens", 8) != 0)) strcat(command, same[k].text);
    strcat(command, train_options[i].other);
    snprintf(want, sizeof want, "its %s is ", train_options[i].field);
    EXPECT_STATUS(1, command, want);
  }
  REQUIRE(nuwa("train --help") == 0, "%s", output);
  for (char *at = strstr(output, "\noptions\n") + 8; (at = strstr(at, "\n  -")); at++) {
    size_t n = strcspn(at + 3, " \n");
    int k = 0;
    while (k < COUNT_OF(train_options) && (strncmp(train_options[k].other, at + 3, n) != 0 ||
                                           (train_options[k].other[n] && train_options[k].other[n] != ' ')))
      k++;
    EXPECT(k < COUNT_OF(train_options), "%.*s: does it shape a run?  The table here is to say", (int)n, at + 3);
  }
}

/* Pixels of a picture in the folder. */
static bool read_picture(const char *name, Image *out) {
  char path[200];
  Error err = {0};
  path_of(name, path);
  bool ok = image_read(path, out, &err);
  EXPECT(ok, "%s", err.text);
  return ok;
}

TEST("completion leaves known pixels as they were") {
  REQUIRE(have_kit(), "");
  Image before = {0}, after = {0}, mask = {0};
  EXPECT_STATUS(0, KIT "--image scene/000000.png --mask lower -o lower.png", "");
  REQUIRE(read_picture("scene/000000.png", &before) && read_picture("lower.png", &after), "");
  EXPECT(memcmp(before.rgb, after.rgb, 16 * 32 * 3) == 0, "the upper half changed");
  EXPECT(memcmp(before.rgb, after.rgb, 32 * 32 * 3) != 0, "the lower half did not");
  image_done(&after);
  /* A mask that cuts tokens in two: pixels 7 to 20 of rows 9 to 12. */
  Error err = {0};
  char path[200];
  REQUIRE(image_init(&mask, 32, 32, &err), "%s", err.text);
  for (int y = 9; y <= 12; y++) memset(mask.rgb + 3 * (32 * y + 7), 255, 3 * 14);
  path_of("mask.png", path);
  REQUIRE(image_write_png(path, &mask, NULL, 0, &err), "%s", err.text);
  EXPECT_STATUS(0, KIT "--image scene/000000.png --mask mask.png -o hole.png", "");
  REQUIRE(read_picture("hole.png", &after), "");
  for (int i = 0; i < 32 * 32; i++)
    if (!mask.rgb[3 * i]) EXPECT(memcmp(before.rgb + 3 * i, after.rgb + 3 * i, 3) == 0, "pixel %d changed", i);
  image_done(&mask);
  image_done(&before);
  image_done(&after);
}

TEST("a mask is cropped and resized as its picture, and must have its shape") {
  REQUIRE(have_kit(), "");
  Image wide = {0}, mask = {0}, after = {0};
  Error err = {0};
  char path[200];
  /* 64 x 32: the model sees columns 16 to 47.  Of these 16 to 31 are unknown, and all that is cropped away. */
  REQUIRE(image_init(&wide, 64, 32, &err) && image_init(&mask, 64, 32, &err), "%s", err.text);
  for (int i = 0; i < 64 * 32; i++) {
    wide.rgb[3 * i] = (uint8_t)(i % 64 * 3);
    if (i % 64 < 32 || i % 64 >= 48) memset(mask.rgb + 3 * i, 255, 3);
  }
  path_of("wide.png", path);
  REQUIRE(image_write_png(path, &wide, NULL, 0, &err), "%s", err.text);
  path_of("wide-mask.png", path);
  REQUIRE(image_write_png(path, &mask, NULL, 0, &err), "%s", err.text);
  EXPECT_STATUS(0, KIT "--image wide.png --mask wide-mask.png -o wide-out.png", "");
  REQUIRE(read_picture("wide-out.png", &after), "");
  for (int y = 0; y < 32; y++)
    for (int x = 16; x < 32; x++)
      EXPECT(after.rgb[3 * (32 * y + x)] == (16 + x) * 3 && after.rgb[3 * (32 * y + x) + 1] == 0, "%d %d", x, y);
  EXPECT_STATUS(1, KIT "--image wide.png --mask scene/000000.png -o wide-out.png",
                "is 32 x 32, its picture 64 x 32: they must have the same shape");
  image_done(&wide);
  image_done(&mask);
  image_done(&after);
}

TEST("weights and logits that are no numbers are errors, with the tensor") {
  REQUIRE(have_kit(), "");
  REQUIRE(change_weights("kit.safetensors", "nan.safetensors", NULL, NULL), "");
  EXPECT_STATUS(1, "generate --models models --weights nan.safetensors --text panda -o nan.png",
                "holds NaN or an infinity (element 0)");
  REQUIRE(change_weights("kit.safetensors", "huge.safetensors", NULL, "3e38"), "");
  EXPECT_STATUS(1, "generate --models models --weights huge.safetensors --text panda -o nan.png",
                "the logits of sample 0 at position 0 hold NaN");
  REQUIRE(change_weights("vq.safetensors", "vq-nan.safetensors", NULL, NULL), "");
  EXPECT_STATUS(1, "generate --models models --vq-weights vq-nan.safetensors --image scene/000000.png "
                   "--reconstruct n.png",
                "vq-nan.safetensors: \"");
  EXPECT(shell("ls *nan.png n.png") != 0, "pictures of nothing: %s", output);
}

TEST("words that the model never read are named, and captions that are cut") {
  REQUIRE(have_kit(), "");
  EXPECT_STATUS(0, KIT "-o words.png", "256 tokens");
  EXPECT(!strstr(output, "no caption") && !strstr(output, "is cut"), "%s", output);
  EXPECT_STATUS(0, "generate --models models --weights kit.safetensors --text 'A Panda, (zeppelin) on mauve.' "
                   "-o words.png",
                "no caption that the weights were trained on had \"zeppelin\", \"mauve\"");
  EXPECT_STATUS(0, "generate --models models --weights kit.safetensors --text "
                   "'a panda at the bottom right on purple' -o words.png",
                "the caption has 30 tokens, the model reads 22: it is cut after \"a panda at the bottom right\"");
  EXPECT_STATUS(1, "generate --models models --weights kit.safetensors --text 一只红色的狐狸 -o words.png",
                "know no word of \"一只红色的狐狸\": nuwa data lists what there is");
  EXPECT_STATUS(0, "generate --models models --weights kit.safetensors --text 'a 狐狸狐狸狐狸狐狸狐狸狐狸狐狸狐狸狐狸 on red' -o words.png",
                "it is cut after \"a 狐狸");
  EXPECT(strstr(output, "狐\"") || strstr(output, "狸\""), "cut within a character: %s", output);
  EXPECT_STATUS(0, "data", "panda");
  EXPECT_HAS(output, "top left");
  EXPECT_HAS(output, "purple");
}

TEST("--steps 0 writes the weights that a training begins with, whole, and they draw") {
  REQUIRE(have_kit(), "");
#define BEGIN "train models/nuwa.lua --models models " DRAWER " --vq-weights vq.safetensors --seed 4 -D lr=0 "
  EXPECT_STATUS(0, BEGIN "--steps 0 --out begin.safetensors", "");
  EXPECT_STATUS(0, BEGIN "--batch 1 --steps 1 --out after.safetensors", "");
  EXPECT_STATUS(0, "generate --models models --weights begin.safetensors --text \"a panda\" -o begin.png --tokens-out begin.tokens", "");
  EXPECT_STATUS(0, "generate --models models --weights after.safetensors --text \"a panda\" -o after.png --tokens-out after.tokens", "");
  EXPECT(shell("cmp begin.tokens after.tokens") == 0, "%s", output);
  EXPECT_STATUS(2, BEGIN "--steps 0 --out x --log x.log", "--log has no effect with --steps 0");
  EXPECT_STATUS(2, "ablate models/nuwa.lua --models models --steps 0", "--steps");
}

TEST("options without effect are refused, with what would be right") {
  REQUIRE(have_kit(), "");
  EXPECT_STATUS(2, "train models/vq.lua --every 5", "--every has no effect without --checkpoint");
  EXPECT_STATUS(2, "train models/vq.lua --models models --bpe merges --steps 1", "nothing that is trained has an input \"text\"");
  EXPECT_STATUS(2, "train models/vq.lua --steps 5 --stop 6", "--stop 6 has no effect");
  EXPECT_STATUS(2, "generate --image x.png --reconstruct y.png --seed 3",
                "--seed has no effect without -o or --tokens-out");
  EXPECT_STATUS(2, KIT "-o x.png --temperature 0 --top-k 3", "no effect at --temperature 0");
  EXPECT_STATUS(2, "score --no-drawings --seed 3", "--seed has no effect beside --no-drawings");
  EXPECT_STATUS(2, "data --zoom 2", "--zoom has no effect without --sheet");
  EXPECT_STATUS(2, "data --vocab 600", "--vocab has no effect without --bpe");
  EXPECT_STATUS(2, "generate --text x --cuda-driver y -o x.png", "--cuda-driver is for --device cuda");
}

TEST("values with more behind them, given twice, or out of range are refused") {
  EXPECT_STATUS(2, "data --first 3x", "--first 3x: must be a whole number");
  EXPECT_STATUS(2, "data --first ' 3'", "must be a whole number");
  EXPECT_STATUS(2, "data --first 99999999999999999999", "must be a whole number");
  EXPECT_STATUS(2, "data --first 1 --first 2", "--first is given twice");
  EXPECT_STATUS(2, "inspect models/nuwa.lua -D dim=64 -D heads=2 -Ddim=32",
                "-D dim=32: dim is 64 already; give it one value");
  EXPECT_STATUS(2, "generate --vq-define size=32 --vq-define size=32 --text x -o x.png",
                "--vq-define size=32: size is 32 already");
  EXPECT_STATUS(2, "data world:single,", "is none of single");
  EXPECT_STATUS(2, "generate --text x -o x.png --top-k -1", "must be a whole number from 0");
  EXPECT_STATUS(2, "generate --text x -o x.png --top-p nan", "must be a number from 0 to 1");
  EXPECT_STATUS(2, "generate --text x -o x.png --temperature 1e-400", "must be a number from 0 to 100");
  EXPECT_STATUS(2, "inspect models/nuwa.lua --device cuda --arch sm_80, --fn decode", "--arch sm_80,: must be");
  EXPECT_STATUS(1, "inspect models/vqgan.lua -D multipliers=1,1.5", "multipliers");
  EXPECT_HAS(output, "\"1.5\"");
  EXPECT_STATUS(1, "inspect models/vqgan.lua -D multipliers=1,2,x", "\"x\"");
  EXPECT_STATUS(1, "inspect models/vqgan.lua -D multipliers=1,,2", "multipliers");
}

TEST("a module's plain value that nothing reads is refused") {
  open_folder();
  write_text("field.lua", "return module { f = fn({ x = f32(4) }, function(a) return { y = a.x } end), "
                          "lr = 1e-3 }\n");
  EXPECT_STATUS(1, "inspect field.lua", "field.lua: module: \"lr\" has no effect");
  EXPECT_HAS(output, "optim.adam");
}

TEST("an input that drawing leaves unset is refused") {
  REQUIRE(have_kit(), "");
  REQUIRE(shell("sed 's/^  inputs.tokens = /  inputs.labels = i32(batch, 1)\\n&/; "
                "s/{ logits = decoder(task, x.tokens, x) }/{ logits = decoder(task, x.tokens, x) + reshape(cast(x.labels, f32), batch, 1, 1, 1, 1) }/' models/nuwa.lua "
                ">models/labelled.lua && "
                "grep -c labels models/labelled.lua") == 0, "%s", output);
  EXPECT_STATUS(1, "generate models/labelled.lua --models models --weights kit.safetensors --text panda -o l.png",
                "has an input \"labels\", which nothing here gives");
}

/* Tokens drawn with these arguments, all the same; else -1. */
static int drawn_token(const char *args) {
  char path[200], command[400];
  snprintf(command, sizeof command, "generate models/counting.lua --models models --weights kit.safetensors --text panda "
           "--tokens-out counted.safetensors %s", args);
  EXPECT_STATUS(0, command, "");
  path_of("counted.safetensors", path);
  Error err = {0};
  Safetensors *w = safetensors_open(path, &err);
  EXPECT(w, "%s", err.text);
  int token = w ? ((const int32_t *)safetensors_get(w, 0)->data)[0] : -1;
  for (int i = 0; w && i < 256; i++)
    if (((const int32_t *)safetensors_get(w, 0)->data)[i] != token) token = -1;
  safetensors_close(w);
  return token;
}

TEST("drawing says which words a caption has, and that guidance's null has no caption") {
  REQUIRE(have_kit(), "");
  REQUIRE(shell("sed 's/{ logits = decoder(task, x.tokens, x) }/{ logits = decoder(task, x.tokens, x) + 1000 * "
                "one_hot(reshape(minimum(sum(cast(x.text_mask, i32), 1), 15), batch, 1, 1, 1), o.codebook) }/' models/nuwa.lua "
                ">models/counting.lua && grep -q one_hot models/counting.lua") == 0, "%s", output);
  EXPECT(drawn_token("") == 2 + 5, "start, p, a, n, d, a, end: %s", output);
  EXPECT(drawn_token("--guidance 0.25") == 15, "a mask of ones, 24: %s", output);
}

TEST("an evaluation shows what a drawer draws of captions") {
  REQUIRE(have_kit(), "");
  EXPECT_STATUS(0, "train models/nuwa.lua --models models " DRAWER " --vq-weights vq.safetensors --steps 1 --batch 1 --eval 1 "
                "--eval-batches 1 --log seen", "");
  EXPECT(shell("test -s seen/pictures/decode.image-00000001.png") == 0, "%s", output);
}

TEST("a full disk is noticed, whatever was to be printed") {
  EXPECT(shell("nuwa --help >/dev/full") == 1, "nuwa --help: %s", output);
  EXPECT(shell("nuwa --version >/dev/full") == 1, "nuwa --version");
  EXPECT(shell("nuwa data --help >/dev/full") == 1, "nuwa data --help");
  EXPECT(shell("nuwa inspect models/nuwa.lua >/dev/full") == 1, "nuwa inspect");
  EXPECT_HAS(output, "standard output");
}

/* Runs the program in the background, waits until the condition holds, sends signals, and waits for its end. */
static int interrupt(const char *arguments, const char *until, const char *signals) {
  char command[1600];
  open_folder();
  snprintf(command, sizeof command,
           "rm -f said; '%s' %s >said 2>&1 & p=$!; until %s 2>/dev/null; do kill -0 $p || break; "
           "sleep 0.02; done; %s; wait $p; s=$?; "
           "cat said; exit $s", NUWA, arguments, until, signals);
  return shell(command);
}

TEST("Ctrl-C in training leaves the checkpoint of the last whole step, from which it goes on bit for bit") {
  REQUIRE(have_kit(), "");
  EXPECT(interrupt("train models/vq.lua --models models --batch 2 --steps 1000000 -D schedule=constant -D warmup=0 "
                   "--checkpoint i.ckpt", "grep -q 'step 1/' said", "kill -INT $p") == 1, "%s", output);
  EXPECT_HAS(output, "interrupted after step ");
  EXPECT_HAS(output, "i.ckpt holds: --resume goes on from it");
  long step = strtol(strstr(output, "after step ") + 11, NULL, 10);
  char command[600];
  snprintf(command, sizeof command,
           "nuwa train models/vq.lua --models models --batch 2 --steps 1000000 -D schedule=constant -D warmup=0 "
           "--checkpoint w.ckpt --stop %ld && cmp i.ckpt w.ckpt", step);
  EXPECT(shell(command) == 0, "%s", output);
  EXPECT(interrupt("train models/vq.lua --models models --batch 2 --steps 1000000", "grep -q 'step 1/' said",
                   "kill -INT $p") == 1, "%s", output);
  EXPECT_HAS(output, "without --checkpoint nothing is kept");
}

TEST("a second Ctrl-C ends at once") {
  REQUIRE(have_kit(), "");
  EXPECT(interrupt("train models/vq.lua --models models --batch 4096 --steps 100 --checkpoint second.ckpt",
                   "grep -q 'MB for the session' said", "kill -INT $p; sleep 0.05; kill -INT $p") == 130, "%s",
         output);
  EXPECT(shell("test -e second.ckpt") == 1, "it went on to the end of the step");
}

TEST("Ctrl-C in drawing leaves every picture that was finished") {
  REQUIRE(have_kit(), "");
  EXPECT(interrupt(KIT "--count 20000 -o drawn.png", "test -e drawn-0001.png", "kill -INT $p") == 1, "%s", output);
  EXPECT_HAS(output, " of 20000 drawings are finished and written");
  long done = strtol(strstr(output, "interrupted: ") + 13, NULL, 10);
  char command[300];
  snprintf(command, sizeof command, "test $(ls drawn-*.png | wc -l) = %ld && test -s drawn-%04ld.png", done, done);
  EXPECT(done > 0 && done < 20000 && shell(command) == 0, "%ld: %s", done, output);
  EXPECT_STATUS(0, KIT "-o first.png", "");
  EXPECT(shell("cmp first.png drawn-0001.png") == 0, "%s", output);
}

TEST_MAIN()
