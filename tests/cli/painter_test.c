/* Drawing by plain functions of a module's `tasks`, and measuring what is drawn by features. */
#include <math.h>

#include "runtime/base/safetensors.h"
#include "tests/cli/commands.h"

enum { EXAMPLES = 24, SIDE = 8 };

/* Pictures of one grey each, 0, step, 2 step, ..., of 3 classes. */
static bool write_greys(const char *name, int step) {
  static uint8_t image[EXAMPLES][SIDE][SIDE];
  int32_t class[EXAMPLES];
  char path[100];
  Error err;
  open_folder();
  for (int i = 0; i < EXAMPLES; i++) {
    class[i] = i % 3;
    memset(image[i], step * i, sizeof image[i]);
  }
  TensorView t[] = {{.name = "class",
                     .dtype = DTYPE_I32,
                     .stored = STORED_I32,
                     .rank = 1,
                     .dim = {EXAMPLES},
                     .data = class,
                     .bytes = sizeof class},
                    {.name = "image",
                     .dtype = DTYPE_U8,
                     .stored = STORED_U8,
                     .rank = 3,
                     .dim = {EXAMPLES, SIDE, SIDE},
                     .data = image,
                     .bytes = sizeof image}};
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return safetensors_write(path, t, COUNT_OF(t), NULL, 0, &err);
}

/* data.safetensors and darker.safetensors, and p.safetensors: a model trained for a step. */
static bool have_painter(void) {
  static bool has;
  if (has) return true;
  has = write_greys("data.safetensors", 10) && write_greys("darker.safetensors", 5) &&
        nuwa("train models/painter.lua --models models --data data.safetensors --steps 1 --batch 4 --out "
             "p.safetensors") == 0;
  EXPECT(has, "%s", output);
  return has;
}

#define DRAW "generate --models models --weights p.safetensors -o p.png "

/* The number behind a word of the last output. */
static double number_after(const char *word) {
  const char *at = strstr(output, word);
  return at ? strtod(at + strlen(word), NULL) : strtod("nan", NULL);
}

TEST("a plain function draws of random numbers, each picture the same whatever else is drawn") {
  REQUIRE(have_painter(), "");
  EXPECT_STATUS(0, "generate --models models --weights p.safetensors --count 70 --seed 5 -o many.png", "");
  EXPECT_STATUS(0, DRAW "--first 66 --seed 5", "");
  EXPECT(shell("cmp p.png many-0067.png && ! cmp -s p.png many-0066.png") == 0, "%s", output);
  EXPECT(shell("grep -aq '\"model\": \"painter.lua\".*\"device\": \"cpu\", \"weights_sha256\": \"[0-9a-f]*\", "
               "\"seed\": 5, \"sample\": 66}' p.png") == 0,
         "the recipe");
  EXPECT_STATUS(0, "compile --weights p.safetensors --models models -o p.nuwa", "");
  EXPECT_STATUS(0, "generate p.nuwa --weights p.safetensors --first 66 --seed 5 -o bundled.png", "");
  EXPECT(shell("cmp p.png bundled.png") == 0, "%s", output);
  EXPECT_STATUS(0, "compile --weights p.safetensors --models models --embed -o p.nuwa", "");
  EXPECT_STATUS(0, "generate p.nuwa --first 66 --seed 5 -o embedded.png", "");
  EXPECT(shell("cmp p.png embedded.png") == 0, "%s", output);
  EXPECT_STATUS(0,
                "run models/painter.lua --models models --weights p.safetensors --fn tasks.none_image --rng-seed 5 "
                "--out run.safetensors",
                "");
}

TEST("a class is drawn where the model knows it") {
  REQUIRE(have_painter(), "");
  EXPECT_STATUS(0, DRAW "--class 2", "");
  EXPECT(shell("grep -aq '\"sample\": 0, \"class\": 2' p.png") == 0, "the recipe has the class");
  EXPECT(shell("cp p.png two.png; nuwa " DRAW "--class 0 && ! cmp -s two.png p.png") == 0, "classes look alike: %s",
         output);
  EXPECT_STATUS(2, DRAW "--class 3", "p.safetensors draws of a class from 0 to 2, not of another");
  EXPECT_STATUS(2, "generate --class 1 -o p.png", "--class is for models that draw of classes: give --weights");
}

TEST("what has no effect on a plain function is refused") {
  REQUIRE(have_painter(), "");
  EXPECT_STATUS(2, DRAW "--text x", "--text has no effect: p.safetensors draws by \"tasks.none_image\"");
  EXPECT_STATUS(2, DRAW "--temperature 0.5", "what is said of sampling has no effect");
  EXPECT_STATUS(2, DRAW "--tokens-out t.safetensors", "--tokens-out has no effect");
}

TEST("a function that cannot draw says what it would need") {
  REQUIRE(have_painter(), "");
  EXPECT_STATUS(1, DRAW "--class 0 -D fault=input",
                "\"tasks.class_image\" has an input \"other\", which nothing here gives");
  EXPECT_STATUS(1, DRAW "--class 0 -D fault=output",
                "\"tasks.class_image\" must give image f32[batch, h, w, 1 or 3]");
  EXPECT_STATUS(1, DRAW "--class 0 -D fault=classes", "the module does not say how many there are:  classes = N");
  EXPECT_STATUS(1,
                "train models/painter.lua --models models --data data.safetensors --steps 1 --batch 4 -D classes=2",
                "data.safetensors has 3 classes, the model's classes are 2");
}

TEST("pictures are as far from others as their features are, and not from themselves") {
  REQUIRE(have_painter(), "");
#define SCORE "score --models models --features p.safetensors --data data.safetensors --json "
  EXPECT_STATUS(0, SCORE "--pictures data.safetensors", "\"pictures\": 24, \"data\": 24, \"features\": 8}");
  EXPECT(number_after("\"frechet\": ") < 1e-6, "%g from themselves", number_after("\"frechet\": "));
#define TWO "score --models models --real data.safetensors --drawn data.safetensors --json --by "
  EXPECT_STATUS(0, TWO "p.safetensors", "\"pictures\": 24, \"data\": 24, \"features\": 8}");
  EXPECT(number_after("\"frechet\": ") < 1e-6, "%g from themselves", number_after("\"frechet\": "));
  EXPECT(shell("mkdir -p models/metrics && cp " MODELS_DIR "/metrics/inception.lua models/metrics/") == 0, "%s", output);
  EXPECT_STATUS(1, TWO "inception", "its weights models/weights/inception.safetensors are not there; give --by inception=FILE");
  EXPECT_STATUS(1, TWO "inception=p.safetensors", "models/metrics/inception.lua");
  EXPECT_STATUS(1, TWO "none", "is neither a weights file nor a network of models/metrics");
  EXPECT_STATUS(2, "score --real data.safetensors --by p.safetensors", "--by compares --real SPEC with --drawn SPEC: give both");
  /* Eight equal features, whose means are 5 x 11.5 greys apart, and whose variances are those of 0 ... 23, 50, times
   * 10^2 and 5^2: 8 (2 / 255)^2 5^2 (11.5^2 + 50). */
  EXPECT_STATUS(0, SCORE "--pictures darker.safetensors", "\"pictures\": 24, \"data\": 24");
  EXPECT(fabs(number_after("\"frechet\": ") - 2.24222) < 1e-4, "%g, not 2.24222", number_after("\"frechet\": "));
  /* Of both every other: 0, 10, ..., 110 and 0, 20, ..., 220; 8 (2 / 255)^2 10^2 (5.5^2 + 13). */
  EXPECT_STATUS(0, SCORE "--pictures darker.safetensors --count 12", "\"pictures\": 12, \"data\": 12");
  EXPECT(fabs(number_after("\"frechet\": ") - 2.12841) < 1e-4, "%g, not 2.12841", number_after("\"frechet\": "));
  EXPECT_STATUS(0, SCORE "--weights p.safetensors --count 100", "\"pictures\": 100, \"data\": 24");
  EXPECT(number_after("\"frechet\": ") > 0.01, "%g from drawings", number_after("\"frechet\": "));
  /* An autoencoder that halves every grey. */
  write_text("half.lua",
             "local optim = require 'optim'\n"
             "local o, one = options { size = 8 }, param('one', f32(), 'ones')\n"
             "local picture = f32(batch, o.size, o.size, 1)\n"
             "local loss = fn({ image = picture }, function(x) return { loss = one * one + 0 * mean(x.image) } end)\n"
             "return module { loss = loss, train = { { 'main', optim.sgd(loss, { lr = 1e-30 }) } },\n"
             "  reconstruct = fn({ image = picture }, function(x) return { image = one * x.image * 0.5 - 0.5 } end) }\n");
  EXPECT_STATUS(0, "train half.lua --models models --data data.safetensors --steps 1 --batch 4 --out half.safetensors", "");
  EXPECT_STATUS(0, SCORE "--vq-weights half.safetensors", "\"pictures\": 24, \"data\": 24");
  EXPECT(fabs(number_after("\"frechet\": ") - 2.24222) < 1e-4, "%g, not 2.24222", number_after("\"frechet\": "));
  EXPECT_STATUS(0, "train half.lua --models models -D size=4 --data data.safetensors --steps 1 --batch 4 --out small.safetensors", "");
  EXPECT_STATUS(1, SCORE "--vq-weights small.safetensors", "small.safetensors: its model needs a function \"reconstruct\" of pictures f32[B,8,8,");
  EXPECT_STATUS(1, SCORE "--vq-weights p.safetensors", "p.safetensors: its model needs a function \"reconstruct\"");
  EXPECT_STATUS(2, SCORE, "--features compares drawings of --weights FILE, or what the autoencoder of --vq-weights FILE makes of the data, "
                          "or --pictures SPEC: give one of the three");
  EXPECT_STATUS(2, "score --data data.safetensors", "data.safetensors is no world: world, or world:OPTIONS");
  EXPECT_STATUS(2, SCORE "--pictures data.safetensors --seed 3", "--seed has no effect without --weights");
  EXPECT_STATUS(2, SCORE "--pictures data.safetensors --vq-weights none", "give one of the three");
  EXPECT_STATUS(2, SCORE "--pictures data.safetensors --seen", "--seen has no effect beside --features");
}

TEST("an autoencoder of grey pictures has its codes drawn of no text, or of a class") {
  REQUIRE(have_painter(), "");
#define FAMILY "train " MODELS_DIR "/families/"
#define PRIOR                                                                                                        \
  FAMILY "prior.lua --models models --data data.safetensors --batch 4 -D grid=2 -D codebook=8 -D dim=8 -D heads=2 "  \
         "-D layers=1 "                                                                                              \
         "--vq-weights vq.safetensors --steps 2 "
#define CODES "generate --models models --weights prior.safetensors -o c.png "
  EXPECT_STATUS(
      0,
      FAMILY
      "vqvae.lua --models models --data data.safetensors --batch 4 -D size=8 -D channels=4 -D blocks=0 -D codebook=8 "
      "-D width=4 --steps 2 --out vq.safetensors",
      "step 2/2");
  EXPECT_STATUS(0, PRIOR "--out prior.safetensors", "step 2/2");
  EXPECT_STATUS(0, CODES "--count 2", "4 tokens a picture");
  EXPECT_STATUS(2, CODES "--text x", "--text has no effect: the model draws of no text");
  EXPECT_STATUS(1, CODES "--class 0", "the generating model draws of no class");
  EXPECT_STATUS(1, CODES "--guidance 2", "guidance is between a text and none");
  EXPECT_STATUS(0, PRIOR "-D classes=3 --out prior.safetensors", "step 2/2");
  EXPECT_STATUS(0, CODES "--class 2", "4 tokens a picture");
  EXPECT_STATUS(1, CODES, "the generating model draws of a class from 0 to 2");
  EXPECT_STATUS(0, "generate --models models --vq-weights vq.safetensors --image p.png --reconstruct r.png", "");
}

TEST_MAIN()
