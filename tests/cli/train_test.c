/* Training that goes wrong, losses that update params and states of their own, and several networks. */
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

#define TRAIN "train counts.lua --data world:things=4 --batch 2 --steps 6 "

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

/* Steps written by hand, whose outputs show nothing of what they write. */
static const char by_hand[] =
    "local o = options { fault = one_of { 'gradient', 'rate', 'average', 'name' } }\n"
    "local w, m = param('w', f32(4), { normal = 1 }), state('m', bf16(4))\n"
    "return module { train = { { 'main', fn({ image = f32(batch, 32, 32, 3), step = i32() }, function(a)\n"
    "  local late = cast(a.step, f32)\n"
    "  local loss = mean(abs(w))\n"
    "  if o.fault == 'gradient' then loss = loss + sum(sqrt(w * w * maximum(4.0 - late, 0.0))) end\n"
    "  local g = grad(loss, { w })[1]\n"
    "  local rate = o.fault == 'rate' and exp(sum(a.image * 0.0) + late * 40.0) or 0.01\n"
    "  local kept = o.fault == 'average' and sum(a.image * 0.0) + 1.0 / (4.0 - late) or 0.0 * sum(a.image)\n"
    "  local out = { loss = loss }\n"
    "  if o.fault == 'name' then out.largest_value = loss end\n"
    "  return out, { { w, w - rate * g }, { m, cast(broadcast(kept, 4), bf16) } }\n"
    "end) } } }\n";

TEST("a step by hand whose outputs do not show its gradients still stops before what it would write is not finite") {
  static const char *const fault[] = {"gradient", "rate", "average"};
  static const int step[] = {4, 3, 4};
  open_folder();
  write_text("hand.lua", by_hand);
  for (int i = 0; i < COUNT_OF(fault); i++) {
    char command[300], says[100];
    snprintf(command, sizeof command, "train hand.lua -D fault=%s --data world:things=4 --batch 2 --steps 6 --checkpoint %s.ckpt --out %s.out",
             fault[i], fault[i], fault[i]);
    snprintf(says, sizeof says, "step %d: \"largest_value\" of \"main\" is ", step[i]);
    EXPECT_STATUS(1, command, says);
    snprintf(says, sizeof says, "%s.ckpt holds step %d", fault[i], step[i] - 1);
    EXPECT_HAS(output, says);
  }
  EXPECT_STATUS(1, "train hand.lua -D fault=name --data world:things=4 --batch 2 --steps 6", "another output needs another name");
}

TEST("where the second of two networks diverges, the step is half made: the checkpoint before is named, or that there is none") {
  open_folder();
  write_text("second.lua",
             "local optim = require 'optim'\n"
             "local w, z = param('w', f32(3), 'ones'), param('z', f32(3), 'ones')\n"
             "local one = fn({ image = f32(batch, 32, 32, 3) }, function(a) return { loss = mean((w * mean(a.image)) ^ 2) } end)\n"
             "local two = fn({ image = f32(batch, 32, 32, 3), step = i32() }, function(a)\n"
             "  return { loss = mean(sqrt(z * (5.5 - cast(a.step, f32)))) + 0 * mean(a.image) } end)\n"
             "return module { train = { { 'one', optim.sgd(one, { lr = 0.01 }) }, { 'two', optim.sgd(two, { lr = 0 }) } } }\n");
  EXPECT_STATUS(1, "train second.lua --data world:things=4 --batch 2 --steps 9 --checkpoint second.ckpt", "step 6: ");
  EXPECT_HAS(output, "no checkpoint was written before, --every says how often");
  EXPECT_STATUS(1, "train second.lua --data world:things=4 --batch 2 --steps 9 --checkpoint second.ckpt --every 2", "second.ckpt holds step 4");
}

TEST("what a step writes by hand beside an optimiser is looked at, too, and where an output grad_norm is no norm") {
  open_folder();
  write_text("beside.lua",
             "local optim = require 'optim'\n"
             "local o = options { norm = 'optimiser' }\n"
             "local w, z = param('w', f32(3), 'ones'), param('z', f32(3), 'ones')\n"
             "local loss = fn({ image = f32(batch, 32, 32, 3) }, function(a) return { loss = mean((w * mean(a.image)) ^ 2) } end)\n"
             "local step = optim.sgd(loss, { lr = 0.01 })\n"
             "return module { train = { { 'main', fn(step.inputs, function(a)\n"
             "  local out = step(a)\n"
             "  if o.norm == 'own' then out = { loss = out.loss, grad_norm = out.loss } end\n"
             "  update(z, z / (3.0 - cast(a.step, f32)))\n"
             "  return out\n"
             "end) } } }\n");
  for (int own = 0; own < 2; own++) {
    EXPECT_STATUS(1, own ? "train beside.lua -D norm=own --data world:things=4 --batch 2 --steps 6 --checkpoint own.ckpt"
                         : "train beside.lua --data world:things=4 --batch 2 --steps 6 --checkpoint beside.ckpt",
                  "step 3: \"largest_value\" of \"main\" is inf");
    EXPECT_HAS(output, "the result of \"div\" of beside.lua:9");
    EXPECT_HAS(output, "holds step 2");
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

/* Two networks against each other; the generator begins later, moves every second step and keeps averages. */
static const char gan[] =
    "local nn, optim = require 'nn', require 'optim'\n"
    "local o = options { lr = 1e-3 }\n"
    "local function generator(z) return nn.scope('generator', function()\n"
    "  local h = gelu(nn.linear('a', z, 64))\n"
    "  return tanh(reshape(nn.linear('b', h, 32 * 32 * 3), z.shape[1], 32, 32, 3)) end) end\n"
    "local function discriminator(x) return nn.scope('discriminator', function()\n"
    "  local h = gelu(nn.linear('a', reshape(x, x.shape[1], 32 * 32 * 3), 64))\n"
    "  h = nn.dropout('drop', h, 0.2)\n"
    "  return nn.linear('b', h, 1) end) end\n"
    "local image = f32(batch, 32, 32, 3)\n"
    "local function softplus(x) return relu(x) + log1p(exp(-abs(x))) end\n"
    "local g_loss = fn({ image = image }, function(a)\n"
    "  return { loss = mean(softplus(-discriminator(generator(normal(f32(batch, 16), 'z'))))) } end)\n"
    "local d_loss = fn({ image = image }, function(a)\n"
    "  local fake = detach(generator(normal(f32(batch, 16), 'z')))\n"
    "  return { loss = mean(softplus(-discriminator(a.image))) + mean(softplus(discriminator(fake))) } end)\n"
    "return module {\n"
    "  evaluate = d_loss,\n"
    "  draw = fn({ z = f32(batch, 16) }, function(a) return { image = generator(a.z) } end),\n"
    "  train = {\n"
    "    { 'd', optim.adam(d_loss, { params = '^discriminator%.', lr = o.lr, beta1 = 0.5 }) },\n"
    "    { 'g', optim.adam(g_loss, { params = '^generator%.', lr = optim.constant(o.lr, 0.1), beta1 = 0.5 }), from = 3, every = 2, average = 0.9 },\n"
    "  },\n"
    "}\n";

#define GAN "train gan.lua --data world:things=4 --batch 4 --steps 12 --eval 6 --eval-batches 1 "

TEST("several networks train in turn: in their steps, on their params, with averages, and resume bit for bit") {
  open_folder();
  write_text("gan.lua", gan);
  EXPECT_STATUS(0, "inspect gan.lua", "from step 3   every 2   averages its params by 0.9");
  EXPECT_STATUS(0, GAN "--checkpoint gan.ckpt --log gan --out gan.out", "d.loss");
  expect_shell("test $(grep -c '\"d.loss\"' gan/metrics.jsonl) = 12 && test $(grep -c '\"g.loss\"' gan/metrics.jsonl) = 5");
  expect_shell("nuwa " GAN "--checkpoint part.gan --stop 5 && nuwa " GAN "--checkpoint part.gan --resume --threads 1 --out part.out && "
               "cmp part.gan gan.ckpt && cmp part.out gan.out");
  expect_shell("nuwa " GAN "--raw --out raw.out");
  Safetensors *ckpt = open_weights("gan.ckpt"), *out = open_weights("gan.out"), *raw = open_weights("raw.out");
  const float *param = weight(ckpt, "param.generator.a.bias"), *average = weight(ckpt, "state.g.average.generator.a.bias");
  const int32_t *moves = safetensors_find(ckpt, "state.g.moves")->data, *d_moves = safetensors_find(ckpt, "state.d.moves")->data;
  REQUIRE(param && average && weight(out, "generator.a.bias") && weight(raw, "generator.a.bias"), "a tensor is missing");
  EXPECT(*moves == 5 && *d_moves == 12, "%d and %d moves", *moves, *d_moves);
  EXPECT(!weight(ckpt, "state.g.m.discriminator.a.bias") && !weight(ckpt, "state.d.m.generator.a.bias"), "moments of another's params");
  EXPECT(memcmp(weight(out, "generator.a.bias"), average, 64 * sizeof(float)) == 0, "--out writes no averages");
  EXPECT(memcmp(weight(raw, "generator.a.bias"), param, 64 * sizeof(float)) == 0, "--raw writes no params");
  EXPECT(memcmp(average, param, 64 * sizeof(float)) != 0, "an average is its param");
  safetensors_close(ckpt);
  safetensors_close(out);
  safetensors_close(raw);
}

/* A layer whose weights are packed before the step, a step that is data, and a loss that ends at step 4. */
static const char layer[] =
    "local nn, optim = require 'nn', require 'optim'\n"
    "local o = options { per_sample = false }\n"
    "local inputs = { image = f32(batch, 32, 32, 3), step = i32() }\n"
    "if o.per_sample then inputs.step = i32(batch) end\n"
    "local loss = fn(inputs, function(a)\n"
    "  local y = nn.linear('w', reshape(a.image, a.image.shape[1], 3072), 4)\n"
    "  local late = o.per_sample and mean(cast(a.step, f32)) or cast(a.step, f32)\n"
    "  local padded = max(pad(y, { lo = { 0, 1 }, hi = { 0, 0 }, value = -math.huge }), { 1 })\n"
    "  return { loss = mean(padded * padded) + log(4.0 - late) * 0.0 } end)\n"
    "return module { train = { { 'main', optim.sgd(loss, { lr = 1e-4 }) } } }\n";

TEST("a diverged step is explained on its own inputs, infinities of padding are no fault, and the step before it is kept") {
  open_folder();
  write_text("layer.lua", layer);
  EXPECT_STATUS(1, "train layer.lua --data world:things=4 --batch 2 --steps 9 --checkpoint layer.ckpt --every 100 --out layer.out",
                "step 4: \"loss\" of \"main\" is ");
  EXPECT_HAS(output, "the first tensor that is not finite is the result of \"log\" of layer.lua:9");
  EXPECT_HAS(output, "layer.ckpt holds step 3");
  expect_shell("test ! -e layer.out");
}

TEST("random params that no step moves are named, and not those that a file gives") {
  open_folder();
  write_text("frozen.lua",
             "local optim = require 'optim'\n"
             "local w, f, one = param('w', f32(4), { normal = 1 }), param('net.f', f32(4), { normal = 1 }), param('one', f32(4), 'ones')\n"
             "local loss = fn({ image = f32(batch, 32, 32, 3) }, function(a) return { loss = mean(abs(w * f * one)) + 0 * mean(a.image) } end)\n"
             "return module { train = { { 'main', optim.sgd(loss, { params = '^w$', lr = 0.1 }) } },\n"
             "  f = fn({ x = f32(1) }, function(a) return { y = sum(f) + a.x } end) }\n");
  EXPECT_STATUS(0, "train frozen.lua --data world:things=4 --batch 2 --steps 1 --out frozen", "no step moves \"net.f\": random, and to stay so");
  REQUIRE(shell("sed 's/net\\.f/f/' frozen.lua >plain.lua && nuwa train plain.lua --data world:things=4 --batch 2 --steps 1 --out plain") == 0,
          "%s", output);
  EXPECT_STATUS(0, "train frozen.lua --data world:things=4 --batch 2 --steps 1 --weights-of net=plain --out given", "step 1/1");
  EXPECT(!strstr(output, "no step moves"), "%s", output);
}

TEST("weights to begin with give options too, where none are given, and --fresh names what they need not hold") {
  open_folder();
  write_text("grown.lua",
             "local optim = require 'optim'\n"
             "local o = options { width = 2, head = false, lr = 0.5 }\n"
             "local w = param('w', f32(o.width), { normal = 1 })\n"
             "local head = o.head and param('head.w', f32(o.width), 'ones')\n"
             "local loss = fn({ image = f32(batch, 32, 32, 3) }, function(a)\n"
             "  return { loss = mean(abs(head and w * head or w)) + 0 * mean(a.image) } end)\n"
             "return module { train = { { 'main', optim.sgd(loss, { params = '^w$', lr = o.lr }) } },\n"
             "  f = fn({ x = f32(1) }, function(a) return { y = head and w * head or w } end) }\n");
  EXPECT_STATUS(0, "train grown.lua --data world:things=4 --batch 2 --steps 1 -D width=3 -D lr=0 --seed 4 --out narrow", "step 1/1");
  EXPECT_STATUS(0, "train grown.lua --data world:things=4 --batch 2 --steps 1 --weights narrow --out again", "step 1/1");
  expect_shell("grep -aq 'head=false.u000alr=0.*u000awidth=3' again");
  EXPECT_STATUS(1, "train grown.lua --data world:things=4 --batch 2 --steps 1 --weights narrow -D head=true --out grown",
                "narrow: the weights lack \"head.w\" f32[3]; --fresh PATTERN begins such params at initial values");
  EXPECT_STATUS(1, "train grown.lua --data world:things=4 --batch 2 --steps 1 --weights narrow -D head=true --fresh 'foot.*' --out grown",
                "--fresh has no effect: no param has a name like \"foot.*\"");
  EXPECT_STATUS(1, "train grown.lua --data world:things=4 --batch 2 --steps 1 --weights narrow --fresh 'head.*' --out grown",
                "--fresh has no effect: no param has a name like \"head.*\"");
  EXPECT_STATUS(2, "train grown.lua --data world:things=4 --batch 2 --steps 1 --fresh w --out grown", "--weights");
  expect_shell("test ! -e grown");
  EXPECT_STATUS(0, "train grown.lua --data world:things=4 --batch 2 --steps 1 --weights narrow -D head=true --fresh 'head.*' --out grown",
                "1 of 2 params begin at initial values");
}

TEST("an entry that begins after the last step is named, and what stays random though weights were given") {
  open_folder();
  write_text("late.lua",
             "local optim = require 'optim'\n"
             "local w, f = param('w', f32(4), { normal = 1 }), param('net.f', f32(4), { normal = 1 })\n"
             "local loss = fn({ image = f32(batch, 32, 32, 3) }, function(a) return { loss = mean(abs(w * f)) + 0 * mean(a.image) } end)\n"
             "local step = optim.sgd(loss, { params = '^w$', lr = 0.1 })\n"
             "return module { train = { { 'main', step }, { 'late', step, from = 3 } } }\n");
  EXPECT_STATUS(0, "train late.lua --data world:things=4 --batch 2 --steps 2 --out late", "\"late\" makes no step: it begins at step 3, and --steps is 2");
  EXPECT_STATUS(0, "train late.lua --data world:things=4 --batch 2 --steps 3 --weights late --out later", "step 3/3");
  EXPECT(!strstr(output, "makes no step") && !strstr(output, "no step moves"), "%s", output);
  EXPECT_STATUS(0, "train late.lua --data world:things=4 --batch 2 --steps 3 --weights late --fresh 'net.*' --out later",
                "no step moves \"net.f\": random, and to stay so");
}

TEST("a model that is trained in parts begins with the weights of both, and keeps those of the part that rests") {
  open_folder();
  write_text("parts.lua",
             "local nn, optim = require 'nn', require 'optim'\n"
             "local o = options { phase = 1 }\n"
             "local picture = f32(batch, 32, 32, 3)\n"
             "local function seen(x) return nn.linear('body', reshape(x, x.shape[1], 3072), 3) end\n"
             "local function told(x) return nn.linear('head', seen(x), 2) end\n"
             "local body = fn({ image = picture }, function(a) return { loss = mean(seen(a.image) ^ 2) } end)\n"
             "local head = fn({ image = picture }, function(a) return { loss = mean(told(a.image) ^ 2) } end)\n"
             "return module { predict = fn({ image = picture }, function(a) return { y = told(a.image) } end),\n"
             "  train = { { 'main', optim.sgd(o.phase == 1 and body or head, { lr = 0.01 }) } } }\n");
#define PARTS "train parts.lua --data world:things=4 --batch 2 --steps 2 "
  EXPECT_STATUS(0, PARTS "-D phase=2 --out both", "step 2/2");
  EXPECT_STATUS(0, PARTS "-D phase=1 --weights both --out again", "step 2/2");
  EXPECT_STATUS(0, PARTS "-D phase=2 --weights again --out third", "step 2/2");
  expect_shell("grep -aq '\"head.weight\"' again");
  EXPECT_STATUS(0, PARTS "-D phase=1 --out lone", "step 2/2");
  EXPECT_STATUS(1, PARTS "-D phase=2 --weights lone --out third", "the weights lack \"head.weight\"");
  EXPECT_STATUS(2, "train late.lua --data world:things=4 --batch 2 --steps 2 --weights both --out third", "both: trained as parts.lua, whose options are "
                "taken for late.lua, too");
}

TEST("what the trainer feeds has its shape; another input of such a name is data, and is refused where there is none") {
  open_folder();
  write_text("layer.lua", layer);
  EXPECT_STATUS(1, "train layer.lua -D per_sample=true --data world:things=4 --batch 2 --steps 2",
                "input \"step\" needs i32[B], has i32[]");
}

TEST("a hundred metrics are logged, all of them, and those of an evaluation too") {
  open_folder();
  write_text("many.lua", "local optim, w = require 'optim', param('w', f32(3), { normal = 1 })\n"
                         "local loss = fn({ image = f32(batch, 32, 32, 3) }, function(a)\n"
                         "  local out = { loss = mean(w * w) + 0 * mean(a.image) }\n"
                         "  for i = 1, 99 do out['m' .. i] = out.loss * i end return out end)\n"
                         "return module { evaluate = loss, train = { { 'main', optim.sgd(loss, { lr = 0.1 }) } } }\n");
  expect_shell("nuwa train many.lua --data world:things=4 --batch 2 --steps 1 --eval 1 --eval-batches 1 --log many");
  expect_shell("test $(head -1 many/metrics.jsonl | grep -oE '\"m[0-9]+\": [0-9]' | wc -l) = 99");
  expect_shell("test $(tail -1 many/metrics.jsonl | grep -oE '\"(val|held).m[0-9]+\": [0-9]' | wc -l) = 198");
}

TEST("the pictures that a model is measured on are not mirrored") {
  open_folder();
  write_text("sides.lua",
             "local optim = require 'optim'\nlocal loss = fn({ image = f32(batch, 32, 32, 3) }, function(i)\n"
             "  return { loss = mean((i.image - param('w', f32(32, 1), { normal = 1 })) ^ 2) }\nend)\n"
             "return module { train = { { 'main', optim.sgd(loss, { lr = 0.1 }) } }, evaluate = loss }\n");
  expect_shell("nuwa data world:things=4 --count 6 --out seen >/dev/null && for f in '' :flip; do nuwa train sides.lua --data world:things=4 "
               "--batch 4 --steps 1 --eval 1 --eval-data seen$f 2>&1 | grep -o 'val.loss [0-9.]*' > val$f || exit 1; done; cmp val val:flip");
}

TEST("--json tells the last loss, and null where no step was left to make") {
  make_model();
  expect_shell("rm -f json.ckpt; nuwa " TRAIN "--checkpoint json.ckpt --json 2>/dev/null >first && nuwa " TRAIN "--checkpoint json.ckpt --resume --json 2>/dev/null >second");
  expect_shell("grep -qE '^.\"steps\": 6, \"loss\": [0-9.]+.$' first && grep -qxF '{\"steps\": 6, \"loss\": null}' second");
}

TEST("a run whose checkpoint is not where it is said to be does not begin anew over its log") {
  make_model();
  expect_shell("nuwa " TRAIN "--checkpoint origin.ckpt --every 2 --log origin --stop 4");
  EXPECT_STATUS(1, TRAIN "--checkpoint typo --every 2 --log origin --resume",
                "origin holds steps up to 4, and there is no typo: --checkpoint names the checkpoint of that run");
  expect_shell("wc -l < origin/metrics.jsonl | grep -qx 4 && nuwa " TRAIN "--checkpoint origin.ckpt --every 2 --log origin --resume && "
               "wc -l < origin/metrics.jsonl | grep -qx 6");
  expect_shell("nuwa " TRAIN "--log sooner --stop 1 --checkpoint gone --every 5 && rm gone && "
               "nuwa " TRAIN "--log sooner --checkpoint gone --every 5 --resume && wc -l < sooner/metrics.jsonl | grep -qx 6");
}

TEST("a run that is finished still gives its weights, and its checkpoint is no place for them") {
  make_model();
  expect_shell("nuwa " TRAIN "--checkpoint done.ckpt --out done.out && nuwa " TRAIN "--checkpoint done.ckpt --resume --out again.out && "
               "cmp done.out again.out");
  EXPECT_STATUS(2, TRAIN "--checkpoint same --out same", "--out and --checkpoint are both same: they hold different things");
  EXPECT_STATUS(2, TRAIN "--checkpoint ../${PWD##*/}/same --out ./same", "are both");
  expect_shell("test ! -e same && ln -s done.ckpt alias");
  EXPECT_STATUS(2, TRAIN "--checkpoint done.ckpt --out alias", "--out and --checkpoint are both");
}

TEST_MAIN()
