/* Where a step went wrong: in long functions, and only as long as the user wants to know. */
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/file.h"
#include "synth/training.h"
#include "tests/test.h"

/* Some ops one after the other, no two of which are alike; one makes NaN of a good number, and all after it have that. */
static const char model[] =
    "local optim = require 'optim'\n"
    "local w = param('w', f32(3), 'ones')\n"
    "local loss = fn({ x = f32(batch, 3) }, function(a)\n"
    "  local y = w + 0 * a.x\n"
    "  for i = 1, 14 do\n"
    "    y = tanh(y) * (1 + i / 1000)\n"
    "    if i == 8 then\n"
    "      y = sqrt(y - 100)\n"
    "    end\n"
    "  end\n"
    "  return { loss = mean(y) } end)\n"
    "return module { train = { { 'main', optim.sgd(loss, { lr = 1 }) } } }\n";

typedef struct Run {
  SynthTarget target;
  Training training;
  Dataset *data;
  Error err;
  int asked;         /* whether it is cancelled */
  int cancel_after;  /* so many questions; 0: never */
} Run;

static bool is_cancelled(void *ctx) {
  Run *r = ctx;
  return ++r->asked > r->cancel_after && r->cancel_after;
}

/* 8 examples [3] of zeros. */
static void write_files(void) {
  static const float zeros[24];
  Error err;
  TensorView x = {.name = "x", .dtype = DTYPE_F32, .rank = 2, .dim = {8, 3}, .data = zeros, .bytes = sizeof zeros};
  EXPECT(file_write_all("divergence_test.lua", model, strlen(model), &err) && safetensors_write("divergence_test.safetensors", &x, 1, NULL, 0, &err),
         "%s", err.text);
}

/* The error of the first step. */
static void diverge(Run *r) {
  TrainingSpec spec;
  TrainOptions loop;
  DatasetOptions o = {.seed = 0};
  write_files();
  training_init(&spec, &loop);
  r->target = (SynthTarget){.models_dir = MODELS_DIR, .is_cancelled = is_cancelled, .ctx = r};
  r->data = dataset_open("divergence_test.safetensors", &o, &r->err);
  spec.model.path = "divergence_test.lua";
  spec.data = r->data;
  spec.batch = 2;
  loop.steps = 1;
  r->err.text[0] = 0;
  bool ok = r->data && training_open(&r->training, &r->target, &spec, &r->err);
  r->asked = 0;
  EXPECT(ok && !training_run(&r->training, &loop, &r->err), "%s", r->err.text);
  if (r->data) training_close(&r->training);
  dataset_close(r->data);
  remove("divergence_test.lua"), remove("divergence_test.safetensors");
}

TEST("the op that first gave no number is found among many more than are looked at at once, by a few compiles") {
  Run r = {.cancel_after = 0};
  diverge(&r);
  EXPECT_HAS(r.err.text, "step 1: \"grad_norm\" of \"main\" is nan");
  EXPECT_HAS(r.err.text, "the gradient of \"w\" holds NaN; the first tensor that is not finite is the result of \"sqrt\" of divergence_test.lua:8");
  EXPECT(r.asked <= 6, "it looked %d times", r.asked);
}

TEST("who interrupts the search is told what is known by then") {
  Run r = {.cancel_after = 1};
  diverge(&r);
  EXPECT_HAS(r.err.text, "the gradient of \"w\" holds NaN");
  EXPECT(!strstr(r.err.text, "the first tensor"), "%s", r.err.text);
  EXPECT(r.asked == 1 || r.asked == 2, "%d", r.asked);
}

TEST_MAIN()
