/* What every command says, writes and returns. */
#include "runtime/base/safetensors.h"
#include "tests/cli/commands.h"

TEST("a wrong command line is wrong usage") {
  EXPECT_STATUS(2, "", "usage: nuwa COMMAND");
  EXPECT_STATUS(2, "draw", "no command \"draw\"");
  EXPECT_STATUS(2, "inspect", "needs a model");
  EXPECT_STATUS(2, "inspect models/vq.lua models/vq.lua", "one model at most");
  EXPECT_STATUS(2, "score models/vq.lua", "is not expected here");
  EXPECT_STATUS(2, "train models/vq.lua --stepz 3", "no option \"--stepz\"");
  EXPECT_STATUS(2, "train models/vq.lua --steps x", "must be a whole number");
  EXPECT_STATUS(2, "train models/vq.lua --vq models/vq.lua", "--vq has no effect without --vq-weights");
  EXPECT_STATUS(2, "run models/vq.lua --out o.safetensors", "needs --fn");
  EXPECT_STATUS(2, "compile models/vq.lua", "needs -o");
  EXPECT_STATUS(2, "generate --text x", "nothing to write");
  EXPECT_STATUS(2, "score --sheet s.png --count 7", "--sheet needs --count 8");
  EXPECT_STATUS(2, "bench --repeat 0", "from 1 to 101");
  EXPECT_STATUS(2, "ablate m.lua --steps 0", "from 1 to");
  EXPECT_STATUS(2, "data --count 0", "from 1 to");
  EXPECT_STATUS(2, "data world:odd", "is none of single");
  EXPECT_STATUS(2, "data world:thing_min=20,thing_max=18", "things of 20 to 18 pixels");
  EXPECT_STATUS(2, "inspect models/vq.lua --isa mmx", "must be one of");
}

TEST("asking a model for what it does not have is wrong usage") {
  EXPECT_STATUS(2, "inspect models/nuwa.lua -D layers=3", "-D layers: no such option");
  EXPECT_STATUS(2, "inspect models/nuwa.lua -D dim=wide", "needs an integer");
  EXPECT_STATUS(2, "inspect models/nuwa.lua -D encoder=odd", "needs one of: nearby");
  EXPECT_STATUS(2, "inspect models/vq.lua --fn draw", "there is no function \"draw\"");
  EXPECT_STATUS(2, "inspect models/vq.lua --fn loss --after lunch", "no pass \"lunch\"");
  EXPECT_STATUS(2, "inspect models/vq.lua --fn loss --after step", "no pass \"step\"; there are: lua precision grad");
  EXPECT_STATUS(2, "inspect models/vq.lua --fn loss --schedule", "no generated function \"loss\"");
  EXPECT_STATUS(2, "compile models/vq.lua --fn draw -o b.nuwa", "there is no function \"draw\"");
  EXPECT_STATUS(2, "run models/vq.lua --fn draw --out o.safetensors", "there is no function \"draw\"");
  EXPECT_STATUS(2, "train models/products.lua", "does not say how it is trained: its module needs  train = {");
  EXPECT_HAS(output, "optim.adam(loss, { lr = 1e-3 })");
  EXPECT_STATUS(2, "train models/vq.lua --data world:things=1", "world: 1 things");
}

TEST("inspect shows what every pass gives") {
  static const char *const pass[] = {"lua", "precision", "grad", "sizes", "extents", "incremental", "wavefront", "expand",
                                     "fold", "dce", "layout", "copy", "fuse", "products", "memplan"};
  static const char *const shown[] = {
      "attend(", "attend(", "attend(", "decode: any batch", "key box:", "attend_rows(", "t = 0 s + 1 h + 1 w, 7 steps",
      "attend_rows(", "attend_rows(", "attend_rows(", "prepare.decode", "attend_rows(", "ends:", "ends:", "arena at"};
  for (int i = 0; i < COUNT_OF(pass); i++) {
    char args[300];
    snprintf(args, sizeof args,
             "inspect models/nuwa.lua -D grid_s=1 -D grid_h=4 -D grid_w=4 -D dim=16 -D heads=2 -D encoder_layers=1 "
             "-D decoder_layers=1 -D text_tokens=8 -D vocab=300 -D codebook=16 --fn decode --after %s", pass[i]);
    EXPECT_STATUS(0, args, shown[i]);
  }
  EXPECT_STATUS(2, "inspect models/vq.lua --fn loss --after wavefront", "is no decode");
}

TEST("shipped files are named without detours, and from the folder that holds them as people name them") {
  open_folder();
  write_text("linear.lua", "local nn = require 'nn'\nreturn module { f = fn({ x = f32(batch, 8) }, function(a) "
                           "return { y = nn.linear('l', a.x, 4) } end) }\n");
  EXPECT_STATUS(0, "inspect linear.lua --fn f --explain", "/models/nn.lua:");
  EXPECT(!strstr(output, "/../"), "%s", output);
  EXPECT(shell("here=$PWD; cd " MODELS_DIR "/.. && nuwa inspect $here/linear.lua --fn f --explain") == 0, "%s", output);
  EXPECT_HAS(output, "(models/nn.lua:");
}

TEST("work that fails is no wrong usage") {
  EXPECT_STATUS(1, "inspect models/none.lua", "none.lua");
  EXPECT_STATUS(1, "inspect models/nuwa.lua -D heads=7", "heads must divide the width");
  EXPECT_STATUS(1, "generate --text x -o x.png --vq models/vq.lua --vq-weights none.safetensors", "none.safetensors");
  EXPECT_STATUS(1, "run models/vq.lua --fn encode --in none.safetensors --out o.safetensors", "none.safetensors");
  EXPECT_STATUS(1, "data --font none.ttf", "none.ttf");
}

TEST("what this version lacks is refused with the reason, and help does not offer it") {
  EXPECT_STATUS(1, "inspect models/vq.lua --isa amx", "no kernels for its tiles yet");
  EXPECT_STATUS(2, "run models/vq.lua --fn loss --out o.safetensors --precision f16", "f32|bf16");
  EXPECT_STATUS(0, "run --help", "f32|bf16");
  EXPECT(!strstr(output, "amx"), "it offers:\n%s", output);
}

TEST("CUDA: archs and instruction sets that do not fit are wrong usage, a missing compiler is a failure") {
  EXPECT_STATUS(2, "compile models/vq.lua -o x.nuwa --device cpu --arch sm_80", "--arch is for --device cuda");
  EXPECT_STATUS(2, "compile models/vq.lua -o x.nuwa --device cuda --arch 80", "--arch 80");
  EXPECT_STATUS(2, "compile models/vq.lua -o x.nuwa --device cuda --isa plain", "--isa is for --device cpu");
  EXPECT_STATUS(1, "compile models/vq.lua -o x.nuwa --device cuda --nvrtc none/libnvrtc.so", "none/libnvrtc.so");
  EXPECT_STATUS(1, "compile models/vq.lua -o x.nuwa --arch sm_80 --nvrtc none/libnvrtc.so", "none/libnvrtc.so");
}

TEST("a bundle says what it is for and what it holds, as text and as JSON, and a function's launches") {
  EXPECT_STATUS(0, "compile models/vq.lua -o vq.nuwa --isa plain", "");
  EXPECT_STATUS(0, "inspect vq.nuwa", "for plain (");
  EXPECT(strstr(output, "decode(codes: i32[B,1,16,16]) -> (image: f32[B,32,32,3])"), "%s", output);
  EXPECT(strstr(output, "prepare.") && strstr(output, "ELF"), "%s", output);
  EXPECT_STATUS(0, "inspect vq.nuwa --fn decode", "launch 0: ");
  EXPECT(strstr(output, "items "), "%s", output);
  EXPECT_STATUS(0, "inspect vq.nuwa --json", "\"device\": \"cpu\", \"isa\": \"plain\", \"functions\": {");
  EXPECT_STATUS(2, "inspect vq.nuwa --fn none", "it has: ");
  EXPECT_STATUS(2, "inspect vq.nuwa --kernels --fn decode", "need the model file");
  EXPECT_STATUS(2, "inspect vq.nuwa -D dim=3", "need the model file");
  EXPECT_STATUS(1, "head -c 500 vq.nuwa >cut.nuwa; nuwa inspect cut.nuwa", "cut.nuwa");
}

static bool is_trained;

/* vq.safetensors: weights of the autoencoder after two steps; scene/: a picture. */
static bool have_autoencoder(void) {
  if (is_trained) return true;
  is_trained = nuwa("data --count 1 --out scene") == 0 &&
               nuwa("train models/vq.lua --models models --steps 2 --batch 2 --eval 2 --eval-batches 1 --log log "
                    "--out vq.safetensors") == 0;
  EXPECT(is_trained, "%s", output);
  return is_trained;
}

TEST("training shows the loss over held-out pairs beside that of seen ones, and logs it") {
  REQUIRE(have_autoencoder(), "");
  EXPECT_HAS(output, " val.loss ");
  EXPECT_HAS(output, " held.loss ");
  EXPECT(shell("grep -c '\"held.loss\": ' log/metrics.jsonl") == 0, "%s", output);
  EXPECT_TEXT(output, "1\n");
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)   /* whose own start needs more */
TEST("commands work where the process has 64 KiB of stack") {
  REQUIRE(have_autoencoder(), "");
  EXPECT(shell("ulimit -s 64; XDG_CACHE_HOME=little nuwa compile models/vq.lua -o little.nuwa") == 0, "%s", output);
  EXPECT(shell("ulimit -s 64; nuwa inspect little.nuwa --fn decode") == 0, "%s", output);
  EXPECT_HAS(output, "launch 0: ");
  EXPECT(shell("ulimit -s 64; nuwa train models/vq.lua --models models --steps 1 --batch 2 --threads 2 --out l.safetensors") == 0,
         "%s", output);
  EXPECT(shell("ulimit -s 64; nuwa generate --models models --vq-weights vq.safetensors --image scene/*.png "
               "--reconstruct little.png") == 0, "%s", output);
}
#endif

TEST("reconstructing and scoring without drawings take the autoencoder's weights alone") {
  REQUIRE(have_autoencoder(), "");
  EXPECT_STATUS(0, "generate --models models --vq-weights vq.safetensors --image scene/*.png --reconstruct y.png",
                "");
  EXPECT(shell("test -s y.png") == 0, "no picture");
  EXPECT_STATUS(0, "score --models models --vq-weights vq.safetensors --no-drawings --count 8", "VQ reconstructions");
  EXPECT(!strstr(output, "| drawings"), "%s", output);
  EXPECT_STATUS(1, "score --models models --vq-weights vq.safetensors --count 8",
                "models/weights/nuwa.safetensors");
}

static bool has_kit;

/* w.safetensors: weights of a small generating model after a step, for the autoencoder of have_autoencoder. */
static bool have_kit(void) {
  if (has_kit || !have_autoencoder()) return has_kit;
  has_kit = nuwa("data --bpe merges --vocab 514") == 0 &&
            nuwa("train models/nuwa.lua --models models -D grid_s=1 -D grid_h=16 -D grid_w=16 -D dim=16 -D heads=2 "
                 "-D encoder_layers=1 -D decoder_layers=1 -D text_tokens=8 -D vocab=514 -D codebook=16 --bpe merges "
                 "--vq-weights vq.safetensors --steps 1 --batch 1 --out kit.safetensors") == 0;
  EXPECT(has_kit, "%s", output);
  return has_kit;
}

#define KIT "generate --models models --weights kit.safetensors --vq-weights vq.safetensors --text x "

/* The tokens i32[count, 1, 16, 16] of a file, from sample `first` on; false (and a failure) when there are none. */
static bool read_tokens(const char *name, int first, int count, int32_t *out) {
  char path[100];
  Error err = {0};
  snprintf(path, sizeof path, "%s/%s", folder, name);
  Safetensors *file = safetensors_open(path, &err);
  const TensorView *t = file ? safetensors_find(file, "tokens") : NULL;
  bool ok = t && t->rank == 4 && t->dim[0] >= first + count;
  EXPECT(ok, "%s: %s", name, err.text);
  if (ok) memcpy(out, (const char *)t->data + sizeof *out * 256 * (size_t)first, sizeof *out * 256 * (size_t)count);
  safetensors_close(file);
  return ok;
}

TEST("samples beyond those of one session go on counting, whatever is drawn at once") {
  enum { MORE = 6, ALL = 64 + MORE };
  static int32_t all[ALL * 256], part[40 * 256];
  const char *options[] = {"", "--guidance 2", "--image scene/000000.png --mask lower"};
  REQUIRE(have_kit(), "");
  for (int i = 0; i < COUNT_OF(options); i++) {
    char args[300];
    snprintf(args, sizeof args, KIT "%s --count 70 --tokens-out all --json", options[i]);
    EXPECT_STATUS(0, args, "\"pictures\": 70, ");
    snprintf(args, sizeof args, KIT "%s --first 30 --count 40 --tokens-out part", options[i]);
    EXPECT_STATUS(0, args, "");
    REQUIRE(read_tokens("all", 0, ALL, all) && read_tokens("part", 0, 40, part), "");
    EXPECT(memcmp(all + 30 * 256, part, sizeof part) == 0, "other tokens with \"%s\"", options[i]);
    EXPECT(memcmp(all, all + 64 * 256, sizeof *all * 256) != 0, "sample 64 is sample 0 again");
  }
  EXPECT_STATUS(0, KIT "--count 66 -o many.png", "");
  EXPECT_STATUS(0, KIT "--first 65 -o one.png", "");
  EXPECT(shell("cmp one.png many-0066.png && test -s many-0001.png && ! test -e many-0067.png") == 0, "%s", output);
}

TEST("training that keeps nothing says so, and resuming needs a checkpoint") {
  EXPECT_STATUS(2, "train models/vq.lua --models models --steps 1 --batch 1 --out o --resume",
                "--resume has no effect without --checkpoint");
  EXPECT_STATUS(0, "train models/vq.lua --models models --steps 1 --batch 1", "nothing will be left");
  EXPECT_STATUS(0, "train models/vq.lua --models models --steps 1 --batch 1 --checkpoint c --resume", "step 1/1");
  EXPECT(!strstr(output, "nothing will be left"), "%s", output);
}

TEST("the same drawing has the same bytes in every checkout, from every folder") {
  REQUIRE(have_kit(), "");
  EXPECT_STATUS(0, KIT "-o here.png", "");
  EXPECT(shell("grep -aq '\"model\": \"nuwa.lua\"' here.png") == 0, "the recipe names no nuwa.lua");
  REQUIRE(shell("mkdir -p other/deep && cp -r models other/m && cp kit.safetensors vq.safetensors other") == 0, "%s",
          output);
  EXPECT(shell("cd other/deep && nuwa generate --models ../m --weights ../kit.safetensors "
               "--vq-weights ../vq.safetensors --text x -o there.png") == 0, "%s", output);
  EXPECT(shell("cmp here.png other/deep/there.png") == 0, "%s", output);
  EXPECT(shell("cp models/nuwa.lua other && nuwa generate other/nuwa.lua --models models --weights kit.safetensors "
               "--vq-weights vq.safetensors --text x -o outside.png && cmp here.png outside.png") == 0, "%s", output);
  EXPECT(shell("mkdir other/m/deep && cp models/nuwa.lua other/m/deep && "
               "nuwa generate other/m/deep/nuwa.lua --models other/m --weights kit.safetensors "
               "--vq-weights vq.safetensors --text x -o deep.png && "
               "grep -aq '\"model\": \"nuwa.lua\"' deep.png") == 0,
         "%s", output);
}

TEST("names of a model print without their control characters") {
  static const char text[] =
      "local f = fn({ ['a\\27[2J'] = f32(batch) }, function(a) return { ['b\\nc'] = a['a\\27[2J'] } end)\n"
      "return module { ['one\\27]0;x\\7'] = f, two = f }\n";
  open_folder();
  write_text("odd.lua", text);
  EXPECT_STATUS(0, "inspect odd.lua", "\"one\\x1b]0;x\\x07\"(\"a\\x1b[2J\": f32[B]) -> \"b\\x0ac\": f32[B]");
  EXPECT_STATUS(0, "inspect odd.lua --fn two", "\"a\\x1b[2J\"");
  EXPECT_STATUS(2, "inspect odd.lua --fn none", "there is: \"one\\x1b]0;x\\x07\", two");
  EXPECT_STATUS(2, "inspect odd.lua --fn \"$(printf 'n\\033[1m')\"", "no function \"n\\x1b[1m\"");
  EXPECT_STATUS(1, "run odd.lua --fn two --out o", "\\x1b[2J");
  EXPECT(!strchr(output, 27), "%s", output);
}

/* None of the models, weights and fonts named here exist: the work would have failed at once, had it begun. */
TEST("a file that cannot be written is noticed before the work, and nothing is left behind") {
  open_folder();
  REQUIRE(shell("mkdir outputs outputs/folder.png && ls -R outputs > before") == 0, "%s", output);
  EXPECT_STATUS(1, "generate none.lua --text x -o no/a.png", "-o: cannot create no/a.png: folder no: No such file");
  EXPECT_STATUS(1, "generate none.lua --text x -o outputs/folder.png",
                "-o: cannot write outputs/folder.png: it is a directory");
  EXPECT_STATUS(1, "generate none.lua --text x -o outputs/a.png --tokens-out no/t",
                "--tokens-out: cannot create no/t");
  EXPECT_STATUS(1, "generate none.lua --image none.png --reconstruct no/a.png",
                "--reconstruct: cannot create no/a.png");
  EXPECT_STATUS(1, "score --weights none --sheet no/a.png", "--sheet: cannot create no/a.png");
  EXPECT_STATUS(1, "train none.lua --out no/w", "--out: cannot create no/w");
  EXPECT_STATUS(1, "train none.lua --checkpoint no/c", "--checkpoint: cannot create no/c");
  EXPECT_STATUS(1, "train none.lua --log no/log/log", "--log: cannot create no/log/log");
  EXPECT_STATUS(1, "train none.lua --log before", "--log: cannot create before/.nuwa-probe: folder before: Not a directory");
  EXPECT_STATUS(1, "train none.lua --log outputs/log --out outputs/w", "none.lua");
  EXPECT_STATUS(1, "ablate none.lua --runs no/r/s", "--runs: cannot create no/r/s");
  EXPECT_STATUS(1, "data --font none.ttf --bpe no/b", "--bpe: cannot create no/b");
  EXPECT_STATUS(1, "data --font none.ttf --captions no/c", "--captions: cannot create no/c");
  EXPECT_STATUS(1, "data --font none.ttf --out no/no", "--out: cannot create no/no");
  EXPECT_STATUS(1, "data --font none.ttf --out outputs/scenes --sheet outputs/a.png", "none.ttf");
  EXPECT_STATUS(1, "run none.lua --fn loss --out no/o", "--out: cannot create no/o");
  EXPECT_STATUS(1, "compile none.lua -o no/b.nuwa", "-o: cannot create no/b.nuwa");
  EXPECT(shell("ls -R outputs | diff before - && ! test -e no") == 0, "%s", output);
}

TEST("a drawing's name ends as a picture's or a clip's does") {
  EXPECT_STATUS(2, "generate --text x -o a.jpg", "-o a.jpg: must end in .png, .gif, .webp or .mp4");
  EXPECT_STATUS(2, "generate --text x -o .png", "must end in .png");
  EXPECT_STATUS(2, "generate --image x.jpg --reconstruct png", "--reconstruct png: a PNG");
  EXPECT_STATUS(2, "score --sheet s.jpeg", "--sheet s.jpeg: a PNG");
  EXPECT_STATUS(2, "data --sheet s", "--sheet s: a PNG");
  EXPECT_STATUS(1, "generate none.lua --text x --weights none -o a.PNG", "none");
}

/* The number behind "key": in the output. */
static long long number(const char *key) {
  const char *at = strstr(output, key);
  return at ? atoll(at + strlen(key) + 2) : -1;
}

/* Two layers of width 16: a key and a value for each of the words, and for each of the slots of the rings.  The row
 * above is seen in whole, so a full row and what was made of the next are alive. */
TEST("keys and values are counted in the type they are stored in, and nothing else that the prologue keeps") {
  const char *arguments =
      "inspect models/nuwa.lua -D grid_s=1 -D grid_h=4 -D grid_w=4 -D dim=16 -D heads=2 -D encoder_layers=1 "
      "-D decoder_layers=2 -D text_tokens=8 -D codebook=10 -D vocab=300 -D decoder=full --fn decode --schedule "
      "--json";
  EXPECT_STATUS(0, arguments, "kv_bytes");
  EXPECT(number("\"live\"") == 16, "with full attention all 16 positions live, not %lld", number("\"live\""));
  EXPECT(number("\"kv_bytes\"") == 2 * 2 * (16 + 8) * 16 * 4, "%lld", number("\"kv_bytes\""));
  char half[600];
  snprintf(half, sizeof half, "%s --precision bf16", arguments);
  EXPECT_STATUS(0, half, "kv_bytes");
  EXPECT(number("\"kv_bytes\"") == 2 * 2 * (16 + 8) * 16 * 2, "%lld in bf16", number("\"kv_bytes\""));
}

TEST_MAIN()
