/* Training that goes wrong, and losses that update params and states of their own. */
#include <math.h>

#include "runtime/base/safetensors.h"
#include "tests/cli/commands.h"

/* A loss of |w| that counts its steps in a state and in a param, keeps a running mean of w, and from step 4 on has,
 * as `fault` says: a NaN in its gradient (the root of 0 times 0), or a gradient whose squares overflow. */
static const char model[] =
    "local optim = require 'optim'\n"
    "local o = options { fault = one_of { 'none', 'nan', 'large', 'loss' } }\n"
    "local w, calm = param('w', f32(4), { normal = 1 }), param('calm', f32(3), { normal = 1 })\n"
    "local steps, seen, mean_w = state('steps', f32(4)), param('seen', f32(2)), param('mean_w', f32(4))\n"
    "local loss = fn({ image = f32(batch, 32, 32, 3) }, function(a)\n"
    "    local late = select(lt(steps, 3), fill(0, f32(4)), fill(1, f32(4)))\n"
    "    local extra = fill(0, f32())\n"
    "    if o.fault == 'nan' then extra = sum(sqrt(w * w * (1 - late))) end\n"
    "    if o.fault == 'large' then extra = sum(w * late * 1e30) end\n"
    "    if o.fault == 'loss' then extra = sum(w * w / (1 - late)) end\n"
    "    local loss = mean(abs(w)) + mean(abs(calm)) + 0.001 * mean(a.image * a.image) + extra\n"
    "    return { loss = loss, seen = sum(seen) }, { { steps, steps + 1 }, { seen, seen + 1 },\n"
    "      { mean_w, 0.75 * mean_w + 0.25 * w } }\n"
    "end)\n"
    "return module {\n"
    "  train = { { 'main', optim.adam(loss, { lr = optim.cosine(0.01, 0.05, 0.1), clip = 1 }) } }, evaluate = loss,\n"
    "  peek = fn({ one = f32(1) }, function(a) return { w = w + 0 * a.one, seen = seen + 0 * a.one, mean_w = mean_w + 0 * a.one } end),\n"
    "}\n";

#define TRAIN "train counts.lua --things 4 --batch 2 --steps 6 "

static void make_model(void) {
  open_folder();
  write_text("counts.lua", model);
}

static const float *weight(Safetensors *s, const char *name) {
  const TensorView *v = s ? safetensors_find(s, name) : NULL;
  return v ? v->data : NULL;
}

static Safetensors *open_weights(const char *name) {
  char path[100];
  Error err = {0};
  snprintf(path, sizeof path, "%s/%s", folder, name);
  Safetensors *s = safetensors_open(path, &err);
  EXPECT(s, "%s", err.text);
  return s;
}

TEST("training stops before an update that is not finite: step and tensor are named, the last good checkpoint stays") {
  static const struct {
    const char *fault, *says;
  } cases[] = {{"nan", "the gradient of \"w\" holds NaN; the first tensor that is not finite is the result of \"div\" of counts.lua:8"},
               {"large", "the largest gradient is that of \"w\": 1e+30; the first tensor that is not finite is the result of \"mul\" of "},
               {"loss", "the gradient of \"w\" holds infinity; the first tensor that is not finite is"}};
  make_model();
  for (int i = 0; i < COUNT_OF(cases); i++) {
    char command[400];
    snprintf(command, sizeof command, TRAIN "-D fault=%s --checkpoint %s.ckpt --every 1 --out %s.out", cases[i].fault,
             cases[i].fault, cases[i].fault);
    EXPECT_STATUS(1, command, "step 4: \"grad_norm\" of \"main\" is ");
    EXPECT_HAS(output, cases[i].says);
    snprintf(command, sizeof command,
             "test ! -e %s.out && nuwa " TRAIN "-D fault=%s --checkpoint good.ckpt --stop 3 && cmp good.ckpt %s.ckpt && "
             "rm good.ckpt && ls | grep -c tmp | grep -qx 0",
             cases[i].fault, cases[i].fault, cases[i].fault);
    expect_shell(command);
  }
}

TEST("updates of a loss are made in training, not in validation, and a param that has one is not trained") {
  make_model();
  EXPECT_STATUS(0, TRAIN "--eval 1 --eval-batches 2 --out counted --log log", "");
  EXPECT_STATUS(0, TRAIN "--stop 5 --checkpoint five.ckpt --out five", "");
  Safetensors *s = open_weights("counted"), *five = open_weights("five");
  const float *seen = weight(s, "seen"), *w = weight(five, "w"), *mean = weight(s, "mean_w"), *before = weight(five, "mean_w");
  REQUIRE(seen && w && mean && before, "a weight is missing");
  EXPECT(seen[0] == 6 && seen[1] == 6, "%g %g", (double)seen[0], (double)seen[1]);
  for (int i = 0; i < 4; i++) /* the mean is taken of the w that the sixth step began with */
    EXPECT(fabsf(mean[i] - (0.75f * before[i] + 0.25f * w[i])) < 1e-6f, "%d: %g", i, (double)mean[i]);
  expect_shell("grep -c '\"seen\": 10[,}]' log/metrics.jsonl | grep -qx 1"); /* 5 twice, as the sixth step finds it */
  safetensors_close(s);
  safetensors_close(five);
}

TEST("a resumed run goes on counting: params and states of updates are in the checkpoint") {
  make_model();
  expect_shell("nuwa " TRAIN "--checkpoint whole.ckpt --out whole");
  expect_shell("nuwa " TRAIN "--checkpoint part.ckpt --stop 2");
  expect_shell("nuwa " TRAIN "--checkpoint part.ckpt --resume --stop 4");
  expect_shell("nuwa " TRAIN "--checkpoint part.ckpt --resume --out part && cmp part whole && cmp part.ckpt whole.ckpt");
  Safetensors *s = open_weights("part.ckpt");
  const float *steps = weight(s, "state.steps"), *seen = weight(s, "param.seen");
  EXPECT(steps && seen && steps[3] == 6 && seen[1] == 6, "the counters are not there");
  safetensors_close(s);
}

TEST_MAIN()
