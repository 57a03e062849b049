/* Variants of a model against each other: what makes them, runs that go on and are shared, and the table. */
#include <math.h>

#include "tests/cli/commands.h"

/* A small autoencoder, one whose `kind` is broken in its third step. */
static const char model[] =
    "local optim = require 'optim'\n"
    "local o = options { dim = 2, kind = one_of { 'plain', 'bent', 'breaks' } }\n"
    "local loss = fn({ image = f32(batch, 32, 32, 3), step = i32() }, function(i)\n"
    "  local x = reshape(i.image, i.image.shape[1], 3072)\n"
    "  local w, v = param('w', f32(3072, o.dim), { normal = 0.02 }), param('v', f32(o.dim, 3072), { normal = 0.1 })\n"
    "  local y = matmul(o.kind == 'bent' and tanh(matmul(x, w)) or matmul(x, w), v)\n"
    "  local late = o.kind == 'breaks' and log(2.5 - cast(i.step, f32)) or 0.0\n"
    "  return { loss = mean((y - x) * (y - x)) + late }\n"
    "end)\n"
    "return module { train = { { 'main', optim.adam(loss, { lr = 0.01 }) } }, evaluate = loss }\n";

#define ABLATE "ablate m.lua --data world:things=4 --steps 4 --batch 4 "

static void make_model(void) {
  open_folder();
  write_text("m.lua", model);
}

TEST("options given several times make the product of their values, each run as train makes it, with a mean over seeds") {
  make_model();
  expect_shell("nuwa " ABLATE "-D dim=2 -D kind=plain -D dim=3 -D kind=bent --seeds 2 --seed 5 --csv t.csv --report t.html "
               "2>/dev/null > t.md && cat t.md && grep -c '^| dim=' t.md | grep -qx 4 && "
               "ls runs | wc -l | grep -qx 8 && cut -d, -f1 t.csv | tr '\\n' ';' | "
               "grep -qx 'variant;dim=2 kind=plain;dim=2 kind=bent;dim=3 kind=plain;dim=3 kind=bent;' && "
               "head -1 t.csv | grep -q 'val.loss,val.loss.deviation,held.loss,held.loss.deviation,samples/s' && "
               "grep -q 'dim=3 kind=bent' t.html && ! ls runs/*/checkpoint runs/*/lease 2>/dev/null");
  expect_shell("nuwa train m.lua -D dim=3 -D kind=bent --data world:things=4 --steps 4 --batch 4 --seed 6 --eval 4 --out w --log log "
               "2>/dev/null && cmp w 'runs/dim=3,kind=bent-seed6/weights.safetensors' && "
               "grep -o '\"val.loss\": [0-9.e-]*' log/metrics.jsonl > a && "
               "grep -o '\"val.loss\": [0-9.e-]*' 'runs/dim=3,kind=bent-seed6/result.json' > b && cmp a b");
  double first = 0, second = 0, mean = 0, deviation = 0;
  expect_shell("cat 'runs/dim=2,kind=plain-seed5/result.json'");
  const char *at = strstr(output, "\"val.loss\": ");
  if (at) first = atof(at + 12);
  expect_shell("cat 'runs/dim=2,kind=plain-seed6/result.json'");
  if ((at = strstr(output, "\"val.loss\": "))) second = atof(at + 12);
  expect_shell("nuwa " ABLATE "-D dim=2 -D kind=plain -D dim=3 -D kind=bent --seeds 2 --seed 5 --json 2>err; ! grep -q step err");
  at = strstr(output, "\"val.loss\": {\"mean\": ");
  int read = at ? sscanf(at, "\"val.loss\": {\"mean\": %lf, \"deviation\": %lf", &mean, &deviation) : 0;
  EXPECT(read == 2, "%s", output);
  EXPECT(first > 0 && first != second && fabs(mean - (first + second) / 2) < 1e-12 &&
             fabs(deviation - fabs(first - second) / sqrt(2)) < 1e-12, "%g %g: %g %g", first, second, mean, deviation);
}

TEST("a run that was stopped goes on from its checkpoint to the same weights, and processes share the runs of a folder") {
  make_model();
  expect_shell("nuwa " ABLATE "-D dim=2 -D dim=3 --seeds 2 --runs whole >/dev/null 2>&1 && "
               "mkdir -p shared/dim=3-seed0 && nuwa train m.lua -D dim=3 --data world:things=4 --steps 4 --batch 4 --seed 0 --stop 2 "
               "--eval 4 --log shared/dim=3-seed0/log --checkpoint shared/dim=3-seed0/checkpoint 2>/dev/null && "
               "{ nuwa " ABLATE "-D dim=2 -D dim=3 --seeds 2 --runs shared >/dev/null 2>one & "
               "nuwa " ABLATE "-D dim=2 -D dim=3 --seeds 2 --runs shared >/dev/null 2>two; wait; } && "
               "for r in whole/*; do cmp $r/weights.safetensors shared/${r#whole/}/weights.safetensors || exit 1; done; "
               "cat one two | grep -c ', seed' | grep -qx 4");
}

TEST("a run that somebody is at is left to him, until he was not heard of for a minute") {
  make_model();
  expect_shell("mkdir -p runs2/dim=2-seed0 && echo other > runs2/dim=2-seed0/lease && nuwa " ABLATE "-D dim=2 -D dim=3 --runs runs2");
  EXPECT_HAS(output, "1 runs are under way elsewhere");
  EXPECT_HAS(output, "| dim=2 | - |");
  expect_shell("touch -d '-2 minutes' runs2/dim=2-seed0/lease && nuwa " ABLATE "-D dim=2 -D dim=3 --runs runs2 2>/dev/null | "
               "grep -q '| dim=2 | [0-9.]* |' && test ! -e runs2/dim=2-seed0/lease");
}

TEST("who finds that another has taken its run goes on with the next") {
  make_model();
  expect_shell("nuwa ablate m.lua --data world:things=4 --batch 4 --steps 200 -D dim=2 -D dim=3 --runs taken >out 2>err & "
               "until test -e taken/dim=2-seed0/lease; do sleep 0.02; done; echo other > taken/dim=2-seed0/lease; wait $! && "
               "grep -q '1 runs are under way elsewhere' err && grep -q '| dim=2 | - |' out && grep -q '| dim=3 | [0-9.]* |' out && "
               "grep -qx other taken/dim=2-seed0/lease && test ! -e taken/dim=2-seed0/result.json");
}

TEST("a run that went half its way measured otherwise is refused: its log has the other figures") {
  make_model();
  expect_shell("mkdir -p half/model-seed0/weights.safetensors; nuwa ablate m.lua --data world:things=4 --batch 4 --steps 4 --runs half || true; "
               "rmdir half/model-seed0/weights.safetensors");
  EXPECT_STATUS(1, "ablate m.lua --data world:things=4 --batch 4 --steps 4 --runs half --eval-batches 1",
                "half/model-seed0/recipe.json is of another run: its eval_batches is not set, this run's is 1");
  EXPECT_STATUS(0, "ablate m.lua --data world:things=4 --batch 4 --steps 4 --runs half", "| model | ");
}

TEST("a run whose process was killed is nobody's at once") {
  make_model();
  expect_shell("'" NUWA "' ablate m.lua --data world:things=4 --batch 4 --steps 100000 -D dim=2 -D dim=3 --every 5 --runs died >out 2>&1 & p=$!; "
               "while kill -0 $p && ! test -e died/dim=2-seed0/checkpoint; do sleep 0.02; done; kill -9 $p; wait $p; "
               "ls died/dim=2-seed0/lease");
  EXPECT_STATUS(1, ABLATE "-D dim=2 -D dim=3 --every 5 --runs died", "the first: died/dim=2-seed0/recipe.json is of another run: its steps is 100000");
  EXPECT(!strstr(output, "under way elsewhere"), "%s", output);
}

LONG_TEST("who stood still for over a minute writes nothing into a run that another has taken since") {
  make_model();
  expect_shell("'" NUWA "' ablate m.lua --data world:things=4 --batch 4 --steps 20000 -D dim=2 -D dim=3 --every 5 --runs stood >out 2>err & p=$!; "
               "while kill -0 $p && ! test -e stood/dim=2-seed0/checkpoint; do sleep 0.02; done; kill -STOP $p; sleep 62; "
               "nuwa ablate m.lua --data world:things=4 --batch 4 --steps 20000 -D dim=2 -D dim=3 --every 5 --runs stood "
               ">two 2>&1; grep -q elsewhere two && cat two; kill -CONT $p; wait $p; cat err; "
               "wc -l <stood/dim=2-seed0/log/metrics.jsonl | grep -qx 20001 && ls stood/*/weights.safetensors");
}

TEST("a variant that diverges is named, the others are trained, and the table has them") {
  make_model();
  EXPECT_STATUS(1, ABLATE "-D kind=plain -D kind=breaks -D kind=bent --runs broken", "1 runs failed, the first: step 3: \"loss\" of \"main\" is nan");
  EXPECT_HAS(output, "| kind=breaks | - |");
  expect_shell("ls broken/*/weights.safetensors | wc -l | grep -qx 2");
}

TEST("a file of variants is Lua, with names of its own, and is crossed with options") {
  make_model();
  write_text("v.lua", "local list = {}\nfor i = 1, 2 do list[i] = { 'size ' .. i, dim = i + 1 } end\nreturn list\n");
  expect_shell("nuwa " ABLATE "--variants v.lua -D kind=plain -D kind=bent --runs named 2>/dev/null | grep '^| size'");
  EXPECT_HAS(output, "| size 1 kind=plain | ");
  EXPECT_HAS(output, "| size 2 kind=bent | ");
  EXPECT_STATUS(2, ABLATE "--variants v.lua -D dim=3", "-D dim=3 has no effect: the variants set dim");
  static const struct {
    const char *text, *says;
  } wrong[] = {{"return 3", "must return a list"},
               {"return {}", "returns 0 variants"},
               {"return { { dim = {} } }", "variant 1: \"dim\" is "},
               {"return { { 'a', 'b' } }", "names no option"},
               {"return { { 'a', dim = 2 }, { 'a', dim = 3 } }", "two variants are called \"a\""},
               {"return { { dim = 2 }, x = 1 }", "other fields have no meaning"},
               {"return { { ['\\0a'] = 2 }, { dim = 3 } }", "variant 1: the name of an option holds a zero"},
               {"return { { 'a\\0b', dim = 2 } }", "variant 1: its name holds a zero"},
               {"return { { kind = 'plain\\0' } }", "variant 1: kind holds a zero"},
               {"while true do end", "w.lua"},
               {"return os.exit()", "os"}};
  for (int i = 0; i < COUNT_OF(wrong); i++) {
    write_text("w.lua", wrong[i].text);
    EXPECT_STATUS(1, ABLATE "--variants w.lua --runs wrong", wrong[i].says);
  }
  expect_shell("test ! -e wrong/*");
}

TEST("a folder of other runs, values given twice and evaluations without `evaluate` are refused") {
  make_model();
  EXPECT_STATUS(0, ABLATE "-D dim=2 -D dim=3 --runs kept", "| dim=2 | ");
  EXPECT_STATUS(1, "ablate m.lua --data world:things=4 --steps 5 --batch 4 -D dim=2 -D dim=3 --runs kept",
                "kept/dim=2-seed0/result.json is of another run: its steps is 4, this run's is 5; --runs names another folder");
  EXPECT_STATUS(2, ABLATE "-D dim=2 -D dim=2", "-D dim=2 is given twice");
  EXPECT_STATUS(2, ABLATE "-D dim=2 -D dim=3 --only-drawing", "draws nothing token by token");
  EXPECT_STATUS(1, ABLATE "-D dim=x -D dim=y --runs none", "dim=x");
  EXPECT_STATUS(1, "ablate none.lua", "none.lua");
  expect_shell("echo '{\"recipe\": {}' > kept/dim=3-seed0/result.json");
  EXPECT_STATUS(1, ABLATE "-D dim=2 -D dim=3 --runs kept", "kept/dim=3-seed0/result.json");
}

TEST("a mean over seeds of which one gave no number is none, and a run that was trained to its end has no speed") {
  make_model();
  write_text("odd.lua",
             "local optim = require 'optim'\nlocal w = param('w', f32(1), { normal = 1 })\n"
             "local loss = fn({ image = f32(batch, 32, 32, 3) }, function(i) return { loss = mean((i.image - w) ^ 2) } end)\n"
             "local evaluate = fn({ image = f32(batch, 32, 32, 3) }, function(i)\n"
             "  return { odd = log(mean(w)), even = mean(i.image - w) }\nend)\n"
             "return module { train = { { 'main', optim.sgd(loss, { lr = 1e-6 }) } }, evaluate = evaluate }\n");
  EXPECT_STATUS(0, "ablate odd.lua --data world:things=4 --steps 1 --batch 4 --seeds 6 --runs odd", " | - | ");
  expect_shell("test $(grep -l 'val.odd\": null' odd/*/result.json | wc -l) = 2");   /* logarithms of what is below 0 */
  expect_shell("mkdir -p ended/dim=2-seed0 && nuwa train m.lua -D dim=2 --data world:things=4 --steps 4 --batch 4 --eval 4 "
               "--log ended/dim=2-seed0/log --checkpoint ended/dim=2-seed0/checkpoint 2>/dev/null");
  EXPECT_STATUS(0, ABLATE "-D dim=2 -D dim=3 --runs ended", "| - | ");
  EXPECT_HAS(output, "| dim=2 | ");
}

/* idx:DIR/set, n pictures of 4 x 4. */
static void make_idx(const char *dir, int n) {
  char command[500];
  snprintf(command, sizeof command,
           "mkdir -p %s && { printf '\\0\\0\\10\\3\\0\\0\\0\\%o\\0\\0\\0\\4\\0\\0\\0\\4'; yes | head -c %d; } > %s/set-images-idx3-ubyte && "
           "{ printf '\\0\\0\\10\\1\\0\\0\\0\\%o'; head -c %d /dev/zero; } > %s/set-labels-idx1-ubyte", dir, n, 16 * n, dir, n, n, dir);
  expect_shell(command);
}

TEST("a result is of the data, first weights and evaluation that it was made with, wherever the data lie") {
  static const char tiny[] =
      "local optim = require 'optim'\nlocal o = options { prefix = '' }\n"
      "local loss = fn({ image = f32(batch, 4, 4, 1) }, function(i)\n"
      "  return { loss = mean((i.image - param(o.prefix .. 'w', f32(4, 1), { normal = 0.1 })) ^ 2) }\nend)\n"
      "return module { train = { { 'main', optim.adam(loss, { lr = 0.1 }) } }, evaluate = loss }\n";
  static const struct {
    const char *options, *says;
  } run[] = {{"--data idx:some/set --eval-data idx:measured/set --weights-of m=w1", NULL},
             {"--data idx:moved/set --eval-data idx:measured/set --weights-of m=w1", NULL},
             {"--data idx:some/set --eval-data idx:others/set --weights-of m=w1", "its eval_data_sha256 is"},
             {"--data idx:some/set --eval-data idx:measured/set --weights-of m=w2", "its parts_sha256.m is"},
             {"--data idx:some/set --eval-data idx:measured/set --weights-of m=w1 --raw", "its raw is not set, this run's is 1"},
             {"--data idx:some/set --eval-data idx:measured/set --weights-of m=w1 --eval-batches 1", "its eval_batches is not set, this run's is 1"},
             {"--data idx:some/set --weights-of m=w1", "its eval_data_sha256 is"}};
  open_folder();
  write_text("p.lua", tiny);
  make_idx("some", 60);
  make_idx("moved", 60);
  make_idx("measured", 8);
  make_idx("others", 9);
  expect_shell("for s in 1 2; do nuwa train p.lua --data idx:some/set --steps 1 --batch 4 --seed $s --out w$s 2>/dev/null || exit 1; done");
  for (int i = 0; i < COUNT_OF(run); i++) {
    char command[300];
    snprintf(command, sizeof command, "ablate p.lua -D prefix=m. %s --steps 2 --batch 4 --runs of", run[i].options);
    EXPECT_STATUS(run[i].says ? 1 : 0, command, run[i].says ? run[i].says : "| model | ");
  }
}

TEST("variants of which one is not evaluated, one draws nothing and one has a wrong option are in one table") {
  open_folder();
  expect_shell("sed -e 's/  classes = 0,/  draws = true, evals = true, classes = 0,/; s/evaluate = loss/evaluate = o.evals and loss or nil/; "
               "s/  decode = \\(.*\\),$/  decode = o.draws and \\1 or nil,/' " MODELS_DIR "/families/prior.lua > models/some.lua && "
               "{ printf '\\104\\0\\0\\0\\0\\0\\0\\0{\"tokens\":{\"dtype\":\"I32\",\"shape\":[60,1,2,2],\"data_offsets\":[0,960]}}'; "
               "head -c 960 /dev/zero; } > tokens.safetensors");
  write_text("some-v.lua", "return { { 'all' }, { 'mute', draws = false }, { 'blind', evals = false }, { 'wrong', heads = 3 } }\n");
  EXPECT_STATUS(1, "ablate models/some.lua --models models --data tokens.safetensors --steps 2 --batch 4 -D grid=2 -D codebook=8 -D dim=8 "
                   "-D layers=1 --variants some-v.lua --runs some 2>/dev/null; nuwa ablate models/some.lua --models models --data "
                   "tokens.safetensors --steps 2 --batch 4 -D grid=2 -D codebook=8 -D dim=8 -D layers=1 --variants some-v.lua --runs some",
                "1 runs failed, the first: ");
  EXPECT_HAS(output, "wrong will not be trained: models/nn.lua:");
  EXPECT_HAS(output, "| mute | ");
  EXPECT_HAS(output, "| blind | ");
  EXPECT_HAS(output, "| wrong | - | ");
}

TEST("options of scores and figures without effect are refused before anything is trained") {
  static const struct {
    const char *options, *says;
  } wrong[] = {{"--score t2z", "--score t2z: is none of t2i, s2i, i2i, ti2i, t2v, s2v, v2v, tv2v, i2t, v2t"},
               {"--score t2i --score t2i", "--score t2i is given twice"},
               {"--score t2i --only-drawing", "--score has no effect beside --only-drawing"},
               {"--score i2t --segment w", "--segment has no effect with --score i2t, which draws captions"},
               {"--segment w", "--segment has no effect without --score"},
               {"--score-count 8", "--score-count has no effect without --score"},
               {"--guidance 2", "--guidance has no effect without --score"},
               {"--score t2i --temperature 0 --top-k 3", "--top-k and --top-p have no effect at --temperature 0"},
               {"--score t2i", "model: --score: it draws nothing token by token (decode)"},
               {"--figure f.svg", "--figure: m.lua draws nothing token by token (decode)"},
               {"--figure f.svg --only-drawing", "--figure has no effect beside --only-drawing"},
               {"--figure-of loss", "--figure-of has no effect without --figure or --report"}};
  make_model();
  for (int i = 0; i < COUNT_OF(wrong); i++) {
    char command[300];
    snprintf(command, sizeof command, ABLATE "--runs refused %s", wrong[i].options);
    EXPECT_STATUS(2, command, wrong[i].says);
  }
  expect_shell("! ls refused/* f.svg 2>/dev/null");
}

/* The bytes of keys and values of NN, which decodes 16 tokens in 7 steps. */
static long long kv_bytes(const char *precision) {
  char command[500];
  long long bytes = -1;
  snprintf(command, sizeof command,
           "ablate models/nuwa.lua --variants " MODELS_DIR "/variants/attention.lua --only-drawing --json --precision %s -D codebook=16 "
           "-D decoder_layers=1 -D dim=16 -D encoder_layers=1 -D grid_h=4 -D grid_s=1 -D grid_w=4 -D heads=2 -D text_tokens=8 "
           "-D vocab=300", precision);
  EXPECT_STATUS(0, command, "{\"variant\": \"NN\", \"steps\": 7, \"tokens\": 16, ");
  const char *at = strstr(output, "{\"variant\": \"NN\"");
  at = at ? strstr(at, "\"key/value bytes\": ") : NULL;
  if (at && sscanf(at, "\"key/value bytes\": %lld", &bytes) != 1) bytes = -1;
  return bytes;
}

TEST("what drawing takes is measured without training; bf16 halves the bytes of keys and values") {
  open_folder();
  long long full = kv_bytes("f32"), half = kv_bytes("bf16");
  EXPECT(full > 0 && full == 2 * half, "%lld in f32, %lld in bf16", full, half);
}

TEST_MAIN()
