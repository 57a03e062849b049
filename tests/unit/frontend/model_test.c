/* Models as Lua describes them: functions, options, fields, and errors that say where and why. */
#include "runtime/base/hooks.h"
#include "tests/test.h"

#include "tests/unit/frontend/load.h"

/* A module of one function y = `expression` of x.a f32[8,4], x.b f32[5,4], x.i i32[8], x.g f32[B,2,3,4,8]. */
static const char *wrap(const char *expression) {
  static char text[4000];
  snprintf(
      text, sizeof text,
      "return module { f = fn({ a = f32(8, 4), b = f32(5, 4), i = i32(8), g = f32(batch, 2, 3, 4, 8) }, function(x)\n"
      "return { y = %s } end) }",
      expression);
  return text;
}

/* The type of the expression's value. */
static const char *type_of(const char *expression) {
  static char type[1500];
  Error err;
  Model *m = load_text(wrap(expression), &err);
  if (m)
    type_print(&m->func[0]->out[0].node->type, type, sizeof type);
  else
    snprintf(type, sizeof type, "%s", err.text);
  model_free(m);
  return type;
}

/* What the error says behind "FOLDER/". */
static const char *complaint(const char *expression) {
  const char *text = load_error(wrap(expression)), *at = strstr(text, "model.lua");
  return at ? at : text;
}

static const char ten_lines[] = "local o = options { dim = 64, kind = \"nearby\" }\n"
                                "local q = f32(4, 8, 8, 64)\n"
                                "\n"
                                "return module {\n"
                                "  step = fn({ q = q, k = q, v = q }, function(x)\n"
                                "    return { y = attend(x.q, x.k, x.v, {\n"
                                "      heads = 4, kind = o.kind, extent = { s = 3, h = 3, w = 3 },\n"
                                "      causal = \"raster\", edge = \"clip\" }) }\n"
                                "  end),\n"
                                "}\n";

TEST("the ten-line model of the design becomes one attention") {
  Error err;
  Model *m = load_text(ten_lines, &err);
  REQUIRE(m, "%s", err.text);
  Buffer out = {0};
  func_print(model_find(m, "step", &err), &out);
  EXPECT_TEXT(out.data,
              "func @step(%k: f32[4,8,8,64], %q: f32[4,8,8,64], %v: f32[4,8,8,64]) {\n"
              "  %1 = attend(%q, %k, %v) {heads=4, kv_heads=4, scale=0.25, kind=nearby, lo=[-1,-1,-1], hi=[1,1,1], block=[0,0,0], edge=clip, "
              "causal=raster, query_grid=[4,8,8], key_grid=[4,8,8]} : f32[4,8,8,64]\n"
              "  return y = %1\n"
              "}\n");
  buffer_done(&out);
  model_print_signature(m->func[0], &out);
  EXPECT_TEXT(out.data, "step(k: f32[4,8,8,64], q: f32[4,8,8,64], v: f32[4,8,8,64]) -> y: f32[4,8,8,64]");
  buffer_done(&out);
  EXPECT(!model_find(m, "stop", &err), "found");
  EXPECT_HAS(err.text, "there is no function \"stop\"; there is: step");
  model_free(m);
}

TEST("options take the type of their default") {
  const char *text = "local o = options { n = 3, r = 0.5, on = false, s = 'a', k = one_of { 'x', 'y' } }\n"
                     "return module { n = o.n, r = o.r, on = o.on, s = o.s, k = o.k,\n"
                     "f = fn({ x = f32(2) }, function(x) return { y = x.x } end) }";
  const Define define[] = {{"n", "-7"}, {"r", "inf"}, {"on", "true"}, {"s", "b c"}, {"k", "y"}};
  Error err;
  Model *m = load_with(text, (ModelOptions){.define = define, .n_define = 5}, &err);
  REQUIRE(m, "%s", err.text);
  EXPECT(m->options.n == 5, "%d", m->options.n);
  EXPECT(model_field(m, "n")->integer == -7 && model_field(m, "n")->kind == VALUE_INT, "n");
  EXPECT(model_field(m, "r")->real > 1e300 && model_field(m, "on")->boolean, "r, on");
  EXPECT_TEXT(model_field(m, "s")->text, "b c");
  EXPECT_TEXT(model_field(m, "k")->text, "y");
  EXPECT(m->options.option[1].given && m->options.option[1].standard.integer == 3, "n is given");
  EXPECT_TEXT(m->options.option[0].name, "k");
  EXPECT(m->options.option[0].n_choice == 2, "choices");
  model_free(m);
}

static const char *define_error(const char *name, const char *value) {
  static Error err;
  const Define define = {name, value};
  Model *m = load_with("local o = options { dim = 64, rate = 0.5, on = true, kind = one_of { 'full', 'axis' } }\n"
                       "return module { f = fn({ x = f32(2) }, function(x) return { y = x.x } end) }",
                       (ModelOptions){.define = &define, .n_define = 1}, &err);
  if (m) err.text[0] = 0;
  model_free(m);
  return err.text;
}

TEST("wrong options are refused with the valid ones") {
  EXPECT_HAS(define_error("dmi", "3"),
             "-D dmi: no such option; the options are: dim = 64, kind = full, on = true, rate = 0.5");
  EXPECT_HAS(define_error("dim", "3.5"), "model.lua:1: options: -D dim=3.5: needs an integer");
  EXPECT_HAS(define_error("dim", ""), "needs an integer");
  EXPECT_HAS(define_error("dim", "99999999999999999999"), "needs an integer");
  EXPECT_HAS(define_error("rate", "fast"), "-D rate=fast: needs a number");
  EXPECT_HAS(define_error("on", "1"), "-D on=1: needs true or false");
  EXPECT_HAS(define_error("kind", "near"), "-D kind=near: needs one of: full, axis");
  EXPECT_TEXT(define_error("dim", "3"), "");
  const Define define = {"x", "1"};
  Error err;
  EXPECT(!load_with("return module { f = fn({ x = f32(2) }, function(x) return { y = x.x } end) }",
                    (ModelOptions){.define = &define, .n_define = 1}, &err),
         "it loaded");
  EXPECT_HAS(err.text, "the model has no options");
  EXPECT(err.code == ERROR_ARGUMENT, "%d", err.code);
}

TEST("an options table is read-only and knows its names") {
  EXPECT_HAS(load_error("local o = options { dim = 1 }\nprint(o.dmi)"),
             "model.lua:2: options: there is no option \"dmi\"; the options are: dim");
  EXPECT_HAS(load_error("local o = options { dim = 1 }\no.dim = 2"),
             "model.lua:2: options: values are read-only (dim)");
  EXPECT_HAS(load_error("options { dim = {} }"), "options: the default of \"dim\" is a table");
  EXPECT_HAS(load_error("options { dim = 1 } options { dim = 2 }"), "\"dim\" is declared twice");
}

TEST("operators broadcast and take numbers") {
  EXPECT_TEXT(type_of("x.a + 1"), "f32[8,4]");
  EXPECT_TEXT(type_of("2 * x.a - x.a / 3"), "f32[8,4]");
  EXPECT_TEXT(type_of("reshape(x.a, 8, 1, 4) * x.b"), "f32[8,5,4]");
  EXPECT_TEXT(type_of("-x.i // 2 % 3"), "i32[8]");
  EXPECT_TEXT(type_of("x.a // 2"), "f32[8,4]");
  EXPECT_TEXT(type_of("select(lt(x.a, 0), 0, x.a)"), "f32[8,4]");
  EXPECT_TEXT(type_of("maximum(0, x.a):minimum(1)"), "f32[8,4]");
  EXPECT_TEXT(type_of("x.g + 1"), "f32[B,2,3,4,8]");
  EXPECT_HAS(complaint("x.i / 2"), "model.lua:2: /: i32 divides with //");
  EXPECT_HAS(complaint("x.i + 0.5"), "0.5 as i32");
  EXPECT_HAS(complaint("x.a + x.i:reshape(8, 1)"), "element types differ");
  EXPECT_HAS(complaint("x.a < x.a"), "tensors are compared with lt(x, y)");
  EXPECT_HAS(complaint("x.a + 'b'"), "operand 1 must be a tensor or number, not b");
}

TEST("ops take their attributes as documented") {
  EXPECT_TEXT(type_of("sum(x.a)"), "f32[]");
  EXPECT_TEXT(type_of("sum(x.g, { 1, -1 })"), "f32[B,3,4]");
  EXPECT_TEXT(type_of("mean(x.g, { 1, -1, keep = true })"), "f32[B,1,3,4,1]");
  EXPECT_TEXT(type_of("max(x.a, 0, { keep = true })"), "f32[1,4]");
  EXPECT_TEXT(type_of("argmax(x.a)"), "i32[8]");
  EXPECT_TEXT(type_of("concat({ x.a, x.b }, 0)"), "f32[13,4]");
  EXPECT_TEXT(type_of("concat(x.a, x.a)"), "f32[8,8]");
  EXPECT_TEXT(type_of("reshape(x.g, -1, 8)"), "f32[24B,8]");
  EXPECT_TEXT(type_of("reshape(x.g, batch * 6, 4, -1)"), "f32[6B,4,8]");
  EXPECT_TEXT(type_of("transpose(x.a)"), "f32[4,8]");
  EXPECT_TEXT(type_of("transpose(x.g, 0, -1, 1, 2, 3)"), "f32[B,8,2,3,4]");
  EXPECT_TEXT(type_of("slice(x.a, 0, 2, -1)"), "f32[5,4]");
  EXPECT_TEXT(type_of("slice(x.a, { start = { 1, 0 }, stop = { 8, 2 }, step = { 2, 1 } })"), "f32[4,2]");
  EXPECT_TEXT(type_of("pad(x.a, { lo = { 1, 0 }, hi = { 0, 2 }, interior = { 1, 0 }, value = 3 })"), "f32[16,6]");
  EXPECT_TEXT(type_of("matmul(x.a, x.b, { trans_b = true })"), "f32[8,5]");
  EXPECT_TEXT(type_of("gather(x.b, x.i)"), "f32[8,4]");
  EXPECT_TEXT(type_of("scatter_add(x.i, x.a, 10)"), "f32[10,4]");
  EXPECT_TEXT(type_of("cast(x.i, f32) + cast(x.i, 'f32')"), "f32[8]");
  EXPECT_TEXT(type_of("iota(i32(3, 4), 0)"), "i32[3,4]");
  EXPECT_TEXT(type_of("fill(0.5, bf16(3))"), "bf16[3]");
  EXPECT_TEXT(type_of("broadcast(sum(x.a, 0), x.a.shape)"), "f32[8,4]");
  EXPECT_TEXT(type_of("shift(x.g, { w = -1 }, fill(0, f32(8)))"), "f32[B,2,3,4,8]");
  EXPECT_TEXT(type_of("reverse(x.a, 0)"), "f32[8,4]");
  EXPECT_TEXT(type_of("layer_norm(x.a, fill(1, f32(4)), fill(0, f32(4)), { eps = 1e-3 })"), "f32[8,4]");
  EXPECT_TEXT(type_of("conv2d(reshape(x.g, batch * 2, 3, 4, 8), fill(0, f32(3, 3, 8, 5)), { stride = 1 })"),
              "f32[2B,1,2,5]");
}

TEST("a shape mistake names line, op, shapes and axis") {
  EXPECT_HAS(complaint("x.a + x.b"), "model.lua:2: +: shapes do not broadcast: f32[8,4] x f32[5,4] (axis 0: 8 vs 5)");
  EXPECT_HAS(complaint("select(lt(x.a, 0), x.b, 1)"),
             "model.lua:2: select: shapes do not broadcast: u8[8,4] x f32[5,4] x number (axis 0: 8 vs 5)");
  EXPECT_HAS(complaint("x.g + f32(3)"), "+: operand 1 must be a tensor or number, not f32[3]");
  EXPECT_HAS(complaint("matmul(x.a, x.b)"), "model.lua:2: matmul: inner sizes differ: f32[8,4] x f32[5,4] (4 vs 5)");
  EXPECT_HAS(complaint("concat({ x.a, x.b }, 1)"), "concat: sizes differ: f32[8,4] x f32[5,4] (axis 0: 8 vs 5)");
  EXPECT_HAS(complaint("sum(x.a, 2)"), "sum: there is no axis 2 in f32[8,4]");
  EXPECT_HAS(complaint("sum(x.a, { 0, -2 })"), "sum: axis -2 is listed twice");
  EXPECT_HAS(complaint("reshape(x.a, 3, -1)"), "cannot work out the size of axis 1: f32[8,4] to f32[3,1]");
  EXPECT_HAS(complaint("reshape(x.a, 5)"), "reshape: the number of elements changes: f32[8,4] (to f32[5]: 32 vs 5)");
  EXPECT_HAS(complaint("x.c"), "model.lua:2: fn: there is no input \"c\"; the inputs are: a, b, g, i");
  EXPECT_HAS(complaint("x.a.foo"), "tensor: there is no field \"foo\"");
  EXPECT_HAS(complaint("3"), "fn: output \"y\" is 3, not a tensor");
  EXPECT_HAS(complaint("exp(nil)"), "exp: operand 0 must be a tensor, not nil");
  EXPECT_HAS(complaint("exp(x.a, 1)"), "exp: unexpected argument 1");
  EXPECT_HAS(complaint("matmul(x.a, x.b, { transb = true })"),
             "matmul: there is no option \"transb\"; the options are: trans_a, trans_b");
  EXPECT_HAS(complaint("fill(0, f32(batch * batch))"), "size: the product of B and B is not affine in the batch");
}

TEST("sizes are affine in the batch") {
  EXPECT_TEXT(type_of("fill(0, f32(batch * 64 + 3))"), "f32[64B+3]");
  EXPECT_TEXT(type_of("fill(0, f32({ 1 + batch, 2 }))"), "f32[B+1,2]");
  EXPECT_TEXT(type_of("fill(0, f32(2 * batch - 1))"), "f32[2B-1]");
  EXPECT_TEXT(type_of("fill(0, f32(batch * 6 // 3))"), "f32[2B]");
  EXPECT_TEXT(type_of("fill(#x.g.shape, f32(#x.g, x.g.rank))"), "f32[B,5]");
  EXPECT_HAS(complaint("fill(0, f32(batch // 2))"), "size: B // 2 is not exact");
  EXPECT_HAS(complaint("fill(0, f32(-3))"), "f32: size 0 is -3");
  EXPECT_HAS(complaint("fill(0, f32(1, 1, 1, 1, 1, 1, 1, 1, 1))"), "f32: 9 axes, at most 8");
  EXPECT_HAS(complaint("fill(0, f32(1.5))"), "f32: size 0 must be an integer or a size, not 1.5");
  EXPECT_HAS(complaint("fill(0, f32(batch * math.maxinteger + batch))"), "arithmetic overflow");
}

static AttendAttrs attend_attrs(const char *options) {
  char expression[400];
  snprintf(expression, sizeof expression, "attend(x.g, x.g, x.g, { heads = 2, %s })", options);
  Error err;
  Model *m = load_text(wrap(expression), &err);
  AttendAttrs a = {0};
  EXPECT(m, "%s", err.text);
  if (m) a = m->func[0]->out[0].node->attrs.attend;
  model_free(m);
  return a;
}

TEST("an extent is a width, a pair, or the whole axis") {
  AttendAttrs a = attend_attrs("kind = 'nearby', extent = { s = 3, h = 4, w = { -2, 0 } }, edge = 'shift'");
  EXPECT(a.lo[0] == -1 && a.hi[0] == 1, "odd: %d..%d", (int)a.lo[0], (int)a.hi[0]);
  EXPECT(a.lo[1] == -2 && a.hi[1] == 1, "even: %d..%d", (int)a.lo[1], (int)a.hi[1]);
  EXPECT(a.lo[2] == -2 && a.hi[2] == 0 && a.edge == EDGE_SHIFT, "pair");
  a = attend_attrs("kind = 'axis', extent = { s = math.huge, w = { -math.huge, 0 }, h = 1.0 }, causal = 'past'");
  EXPECT(a.lo[0] == -EXTENT_INF && a.hi[0] == EXTENT_INF && a.lo[1] == 0 && a.hi[1] == 0, "infinite and one");
  EXPECT(a.lo[2] == -EXTENT_INF && a.hi[2] == 0 && a.causal == CAUSAL_PAST && a.kind == ATTEND_AXIS, "half open");
  a = attend_attrs("kind = 'block', extent = { s = 1, h = 2 }");
  EXPECT(a.block[0] == 1 && a.block[1] == 2 && a.block[2] == EXTENT_INF, "block");
  a = attend_attrs("kind = 'full', extent = { s = 1 }");
  EXPECT(a.lo[0] == -EXTENT_INF && a.hi[0] == EXTENT_INF, "full ignores extents");
  EXPECT(a.query_grid[0] == 2 && a.query_grid[1] == 3 && a.key_grid[2] == 4, "grids");
}

TEST("scores are divided by the root of the head's width unless a scale is given") {
  EXPECT(attend_attrs("kind = 'full'").scale == 0.5);
  EXPECT(attend_attrs("scale = -3").scale == -3);
  EXPECT_HAS(complaint("attend(x.g, x.g, x.g, { heads = 2, scale = 0 })"), "attend: scale must be a number that is not 0, not 0");
  EXPECT_HAS(complaint("attend(x.g, x.g, x.g, { heads = 2, scale = 'big' })"), "attend: scale must be a number that is not 0, not big");
}

TEST("keys may have fewer heads, and a mask that leaves some out") {
  EXPECT(attend_attrs("kind = 'full'").kv_heads == 2);
  EXPECT_TEXT(type_of("attend(x.g, x.g:slice(4, 0, 4), x.g:slice(4, 2, 8), { heads = 2, kv_heads = 1 })"), "f32[B,2,3,4,12]");
  Error err;
  Model *m = load_text(wrap("attend(x.g, x.g, x.g, { heads = 2, mask = lt(slice(x.g, 4, 0, 1):reshape(batch, 2, 3, 4), 0) })"), &err);
  REQUIRE(m, "%s", err.text);
  EXPECT(attend_mask(m->func[0]->out[0].node)->op == OP_LT && m->func[0]->out[0].node->n_in == 4);
  model_free(m);
  EXPECT_HAS(complaint("attend(x.g, x.g, x.g, { heads = 2, kv_heads = 0 })"), "attend: kv_heads must be at least 1, not 0");
  EXPECT_HAS(complaint("attend(x.g, x.g, x.g, { heads = 4, kv_heads = 3 })"),
             "attend: kv_heads must divide heads: f32[B,2,3,4,8] x f32[B,2,3,4,8] x f32[B,2,3,4,8] (3 kv_heads, 4 heads)");
  EXPECT_HAS(complaint("attend(x.g, x.g, x.g, { heads = 4, kv_heads = 2 })"),
             "attend: heads of queries and keys differ in width: f32[B,2,3,4,8] x f32[B,2,3,4,8] x f32[B,2,3,4,8] (4 of 2 vs 2 of 4)");
  EXPECT_HAS(complaint("attend(x.g, x.g, x.g, { heads = 2, mask = x.g })"),
             "attend: mask must be a tensor of u8, a byte for every key, not f32[B,2,3,4,8]");
  EXPECT_HAS(complaint("attend(x.g, x.g, x.g, { heads = 2, mask = lt(fill(0, f32(batch, 2, 3, 5)), 1) })"),
             "attend: sizes differ: f32[B,2,3,4,8] x f32[B,2,3,4,8] x f32[B,2,3,4,8] x u8[B,2,3,5] (axis 3: 4 vs 5)");
  EXPECT_HAS(complaint("attend(x.g, x.g, { heads = 2 })"), "(needs 3 and perhaps a u8 mask)");
  EXPECT_HAS(complaint("attend(x.g, nil, x.g, { heads = 2 })"), "behind its tensors (there are 1), not nil");
}

TEST("wrong attention options are refused with the valid ones") {
  EXPECT_HAS(complaint("attend(x.g, x.g, x.g, { heads = 2, kind = 'near' })"),
             "attend: kind must be one of: full, axis, nearby, block; not near");
  EXPECT_HAS(complaint("attend(x.g, x.g, x.g, { heads = 2, extents = {} })"),
             "attend: there is no option \"extents\"; the options are: heads, kv_heads, kind, extent, causal, "
             "edge, scale, mask");
  EXPECT_HAS(complaint("attend(x.g, x.g, x.g, { heads = 2, extent = { x = 3 } })"), "the options are: s, h, w");
  EXPECT_HAS(complaint("attend(x.g, x.g, x.g, { heads = 2, extent = { s = 0 } })"),
             "extent.s must be at least 1, not 0");
  EXPECT_HAS(complaint("attend(x.g, x.g, x.g, { heads = 2, extent = { s = 2.5 } })"), "extent.s must be an integer");
  EXPECT_HAS(complaint("attend(x.g, x.g, x.g, { heads = 2, extent = { s = { 1, 0 } } })"),
             "extent.s: lo 1 is above hi 0");
  EXPECT_HAS(complaint("attend(x.g, x.g, x.g, { heads = 3 })"),
             "attend: heads must divide the width: f32[B,2,3,4,8]");
  EXPECT_HAS(complaint("attend(x.g, x.g, x.g)"), "attend: needs a table of options");
  EXPECT_HAS(complaint("attend(x.a, x.a, x.a, { heads = 1 })"), "attend: wrong rank: f32[8,4]");
}

TEST("a fault inside a shared file names the line that used it, tail calls included") {
  load_write("layers.lua", "local M = {}\n"
                           "function M.mix(x, w)\n"
                           "  return matmul(x, w)\n"
                           "end\n"
                           "function M.check(x) error('mix: no good') end\n"
                           "return M\n");
  const char *text = load_error("local layers = require 'layers'\n"
                                "local function body(x)\n"
                                "  return layers.mix(x.a, x.b)\n"
                                "end\n"
                                "return module { f = fn({ a = f32(8, 4), b = f32(5, 4) }, function(x)\n"
                                "  return { y = body(x) }\n"
                                "end) }");
  EXPECT_HAS(text, "layers.lua:3: matmul: inner sizes differ: f32[8,4] x f32[5,4] (4 vs 5)");
  EXPECT_HAS(text, "called from");
  EXPECT_HAS(text, "model.lua:3");
  EXPECT_HAS(text, "model.lua:6");
  text = load_error("local layers = require 'layers'\nlayers.check(1)");
  EXPECT_HAS(text, "layers.lua:5: mix: no good; called from");
  EXPECT_HAS(text, "model.lua:2");
}

TEST("every node knows its line and the lines that called") {
  Error err;
  Model *m =
      load_text("local function double(x)\n  return x + x\nend\n"
                "return module { f = fn({ x = f32(2) }, function(x)\n  local y = double(x.x)\n  return { y = y }\n"
                "end) }",
                &err);
  REQUIRE(m, "%s", err.text);
  const Loc *loc = m->func[0]->out[0].node->loc;
  EXPECT_HAS(loc->file, "model.lua");
  EXPECT(loc->line == 2 && loc->caller && loc->caller->line == 5, "line %d", loc->line);
  EXPECT(loc->caller->caller && loc->caller->caller->line == 4, "the line of fn");
  model_free(m);
}

TEST("an error that is caught leaves nothing half-made") {
  Error err;
  Model *m = load_text("local ok, why = pcall(fn, { x = f32(2) }, function(x) return { y = x.x + f32 } end)\n"
                       "assert(not ok and why:find '^.-: operand 1 must be a tensor or number')\n"
                       "ok, why = pcall(fn, { x = f32(2) }, function(x) return { y = matmul(x.x, x.x) } end)\n"
                       "assert(not ok and why:find 'matmul')\n"
                       "return module { f = fn({ x = f32(3) }, function(x) return { y = x.x + 1 } end) }",
                       &err);
  REQUIRE(m, "%s", err.text);
  EXPECT(m->n_func == 1 && m->graph->err->code == ERROR_NONE, "one function, no error");
  model_free(m);
}

TEST("params are shared by name and must agree") {
  EXPECT_HAS(load_error("local a = param('w', f32(2), 'ones')\nlocal b = param('w', f32(3), 'ones')"),
             "model.lua:2: param: \"w\" is f32[3] here but f32[2] where it was first declared at");
  EXPECT_HAS(load_error("param('w', f32(2), { normal = 'a' })"), "init must be \"zeros\", \"ones\", { normal = s }");
  EXPECT_HAS(load_error("param('w', f32(batch), 'ones')"), "a param needs a constant shape");
  EXPECT_HAS(load_error("param('', f32(2))"), "the name is empty");
}

TEST("a function inside another cannot use the other's input, nor what was made of it, whatever the names") {
  EXPECT_HAS(load_error("return module { f = fn({ x = f32(4) }, function(a)\n"
                        "  local inner = fn({ x = f32(4) }, function(b) return { y = a.x + 1 } end)\n"
                        "  return { y = a.x }\nend) }"),
             "model.lua:2: fn: the body uses \"x\", an input of another function");
  EXPECT_HAS(load_error("return module { f = fn({ x = f32(4) }, function(a)\n"
                        "  local z = a.x + 1\n"
                        "  fn({ x = f32(4) }, function(b) return { y = b.x * z } end)\n"
                        "  return { y = a.x }\nend) }"),
             "model.lua:3: fn: the body uses \"x\", an input of another function");
  Error err;
  Model *m = load_text("return module { f = fn({ x = f32(4) }, function(a)\n"
                       "  fn({ x = f32(4) }, function(b) return { y = b.x + 1 } end)\n"
                       "  pcall(fn, { x = f32(4) }, function(b) error('left early') end)\n"
                       "  return { y = a.x + 2 }\nend), g = fn({ x = f32(4) }, function(a) return { y = a.x } end) }", &err);
  EXPECT(m, "%s", err.text);
  model_free(m);
}

TEST("updates made in a call that failed and was caught are not made; those before it are") {
  Error err;
  Model *m = load_text("local w, v, n = param('w', f32(3)), param('v', f32(3)), state('n', i32())\n"
                       "return module { f = fn({ x = f32(3) }, function(x)\n"
                       "  update(w, w + x.x)\n"
                       "  assert(not pcall(function() update(w, updated(w) * 2) update(v, x.x) error('left') end))\n"
                       "  assert(not xpcall(function() update(n, n + 1) error('left') end, function() end))\n"
                       "  assert(updated(v) == v and updated(n) == n)\n"
                       "  assert(pcall(update, v, v * 3))\n"
                       "  return { y = x.x } end) }", &err);
  REQUIRE(m, "%s", err.text);
  const Func *f = m->func[0];
  REQUIRE(f->n_update == 2, "%d updates", f->n_update);
  EXPECT_TEXT(f->update[0].target->attrs.leaf.name, "w");
  EXPECT(f->update[0].value->op == OP_ADD && f->update[1].value->op == OP_MUL, "");
  EXPECT_TEXT(f->update[1].target->attrs.leaf.name, "v");
  model_free(m);
}

TEST("a state under the name of what an average is kept in is refused") {
  static const char text[] = "local w, n = param('w', f32(3)), nil\n"
                             "local f = fn({ x = f32(3) }, function(x) local n = state('%s', f32(3)%s)\n"
                             "  return { loss = sum(w * x.x) }, { { w, w - n }, { n, n + 1 } } end)\n"
                             "return module { train = { { 'main', f%s } } }";
  static const struct {
    const char *state, *options, *average, *says;
  } cases[] = {{"averaged", "", ", average = 0.5", "module: train: \"main\" has a state \"main.averaged\", a name under which the average of \"main\" is kept"},
               {"main.average.w", ", { shared = true }", ", average = 0.5", "has a state \"main.average.w\""},
               {"averaged", "", "", NULL},
               {"averages", "", ", average = 0.5", NULL}};
  for (int i = 0; i < COUNT_OF(cases); i++) {
    char model[500];
    Error err;
    snprintf(model, sizeof model, text, cases[i].state, cases[i].options, cases[i].average);
    Model *m = load_text(model, &err);
    EXPECT(!m == !!cases[i].says, "%d: %s", i, m ? "it loaded" : err.text);
    if (!m && cases[i].says) EXPECT_HAS(err.text, cases[i].says);
    model_free(m);
  }
}

TEST("updates and states carry over") {
  Error err;
  Model *m = load_text("local w, n = param('w', f32(3), { uniform = 0.5 }), state('n', i32())\n"
                       "return module { f = fn({ x = f32(3) }, function(x)\n"
                       "  local loss = sum(w * x.x)\n"
                       "  assert(#parameters(loss) == 1 and parameters(loss)[1] == w and w.name == 'w')\n"
                       "  local g = grad(loss, { w })[1]\n"
                       "  return { loss = loss }, { { w, w - 0.1 * g }, { n, n + 1 } }\n"
                       "end) }",
                       &err);
  REQUIRE(m, "%s", err.text);
  EXPECT(m->func[0]->n_update == 2, "%d", m->func[0]->n_update);
  EXPECT(func_verify(m->func[0], FORM_ANY, "loading", &err), "%s", err.text);
  model_free(m);
  EXPECT_HAS(
      load_error("local w = param('w', f32(3))\nfn({ x = f32(2) }, function(x) return {}, { { w, x.x } } end)"),
      "update of \"w\": types differ: f32[3] vs f32[2]");
  EXPECT_HAS(load_error("fn({ x = f32(2) }, function(x) return {}, { { x.x, x.x } } end)"),
             "only params and states can be updated");
  EXPECT_HAS(load_error("fn({ x = f32(2) }, function(x) return { g = grad(x.x, { x.x })[1] } end)"),
             "grad: needs a scalar, has f32[2]");
}

TEST("decode names the generated grid and what it is drawn from") {
  const char *text =
      "local f = fn({ tokens = i32(batch, 1, 2, 2) }, function(x)\n"
      "return { logits = gather(param('t', f32(10, 10)), x.tokens) } end)\n"
      "return module { draw = decode(f, { tokens = 'tokens', logits = 'logits' }), how = { loss = f } }";
  Error err;
  Model *m = load_text(text, &err);
  REQUIRE(m, "%s", err.text);
  const ModelDecode *d = model_find_decode(m, "draw", &err);
  REQUIRE(d, "%s", err.text);
  EXPECT_TEXT(d->tokens, "tokens");
  EXPECT(d->func == model_find(m, "draw", &err) && model_find(m, "how.loss", &err), "as functions too");
  model_free(m);
  EXPECT_HAS(
      load_error(
          "decode(fn({ t = i32(1, 2, 2) }, function(x) return { y = x.t } end), { tokens = 's', logits = 'y' })"),
      "decode: the function has no input \"s\"");
  EXPECT_HAS(
      load_error(
          "decode(fn({ t = i32(1, 2, 2) }, function(x) return { y = x.t } end), { tokens = 't', logits = 'y' })"),
      "decode: tokens must be i32[b?, s, h, w] and logits");
}

TEST("a module's plain fields can be read") {
  Error err;
  Model *m = load_text("return module { f = fn({ x = f32(2) }, function(x) return { y = x.x } end),\n"
                       "how = { lr = 1e-3, steps = 5, name = 'adam', on = true, sizes = { 4, 5 } } }",
                       &err);
  REQUIRE(m, "%s", err.text);
  EXPECT(model_field(m, "how.lr")->real == 1e-3 && model_field(m, "how.steps")->integer == 5, "numbers");
  EXPECT(model_field(m, "how.on")->boolean && model_field(m, "how.sizes.2")->integer == 5, "others");
  EXPECT_TEXT(model_field(m, "how.name")->text, "adam");
  EXPECT(!model_field(m, "train"), "tables are no value");
  model_free(m);
  EXPECT_HAS(load_error("return 5"), "model.lua: the file must return module { ... }, not 5");
  EXPECT_HAS(load_error("return module { f = print }"), "module: \"f\" is function; a module holds");
  EXPECT_HAS(load_error("return module { n = 1 }"), "the module has no functions");
  EXPECT_HAS(load_error("local t = {} t.t = t return module(t)"), "nested more than 8 deep");
  EXPECT_HAS(load_error("local y fn({ x = f32(2) }, function(x) y = x.x return { y = y } end)\n"
                        "fn({ z = f32(2) }, function(x) return { z = y } end)"),
             "uses \"x\", an input of another function");
}

TEST("a function can be called on tensors in another: traced again, with the params that it has") {
  Error err;
  Model *m = load_text(
      "local function layer(name, x) return matmul(x, param(scoped(name), f32(3, 3), { normal = 1 })) end\n"
      "local f = scope('net', function() return fn({ x = f32(batch, 3) }, function(i)\n"
      "  update(param('count', f32()), updated(param('count', f32())) + 1)\n"
      "  return { y = layer('w', i.x) } end) end)\n"
      "assert(f.inputs.x.rank == 2 and f.outputs.y.dtype == 'f32')\n"
      "local g = fn({ a = f32(batch, 3), b = f32(batch, 3) }, function(i)\n"
      "  local y = scope('elsewhere', function() return f { x = i.a }.y end)\n"
      "  local both = f { x = concat({ i.a, i.b }, 0) }.y\n"
      "  assert(#parameters(y) == 1 and parameters(y, '^net%.')[1].name == 'net.w')\n"
      "  return { y = y, both = both, g = grad(sum(both), parameters(both))[1] }\n"
      "end)\n"
      "return module { f = f, g = g }",
      &err);
  REQUIRE(m, "%s", err.text);
  Func *g = model_find(m, "g", &err), *f = model_find(m, "f", &err);
  EXPECT(f && f->n_update == 1, "its own update");
  EXPECT(g && g->n_update == 1 && g->update[0].value->op == OP_ADD && g->update[0].value->in[0]->op == OP_ADD,
         "two calls make one update, the second from the first");
  EXPECT(g && dim_equal(g->out[0].node->type.dim[0], (Dim){.b = 2}), "both: twice the batch");
  EXPECT(g && func_verify(g, FORM_ANY, "loading", &err), "%s", err.text);
  model_free(m);
}

TEST("a body that makes other params each time it is traced is refused; fewer or more of its own are not") {
  static const char counted[] =
      "local n, own, kind = 0, 0, '%s'\n"
      "local f = fn({ x = f32(batch, 4) }, function(a)\n"
      "  if kind == 'counts' then n = n + 1 end\n"
      "  local y = a.x * param('layer' .. n, f32(4))\n"
      "  if kind == 'more' and is_training() then y = y * param('late', f32(4)) end\n"
      "  if kind == 'fewer' and not is_training() then y = y * param('early', f32(4)) end\n"
      "  return { y = y, loss = sum(y) }\n"
      "end)\n"
      "local step = fn(f.inputs, function(a)\n"
      "  local loss, w = f { x = a.x * param('outer', f32(4)) }.loss, param('layer0', f32(4))\n"
      "  return { loss = loss }, { { w, w + loss } }\n"
      "end)\n"
      "local once = fn({ x = f32(batch, 4) }, function(a)\n"
      "  if kind == 'entry' then own = own + 1 end\n"
      "  local w = param('own' .. own, f32(4))\n"
      "  return { loss = sum(a.x * w) }, { { w, w * 0.5 } }\n"
      "end)\n"
      "return module { f = f, train = { { 'main', step }, { 'own', once } } }\n";
  static const struct {
    const char *kind, *says;
  } cases[] = {{"none", NULL}, {"more", NULL}, {"fewer", NULL},
               {"counts", ":10: fn: traced again, the body made param \"layer2\" where it made \"layer1\" before: is a name counted outside"},
               {"entry", "fn: traced again, the body made param \"own2\" where it made \"own1\" before"}};
  for (int i = 0; i < COUNT_OF(cases); i++) {
    char text[2000];
    Error err = {0};
    snprintf(text, sizeof text, counted, cases[i].kind);
    Model *m = load_text(text, &err);
    if (cases[i].says) EXPECT_HAS(err.text, cases[i].says);
    EXPECT(!m == !!cases[i].says, "%s: %s", cases[i].kind, err.text);
    model_free(m);
  }
}

TEST("calls are checked like declarations, and an update is never dropped in silence") {
#define F "local f = fn({ x = f32(batch, 3) }, function(i) return { y = i.x } end)\n"
  EXPECT_HAS(load_error(F "fn({ a = f32(batch, 4) }, function(i) return f { x = i.a } end)"),
             "fn: input \"x\" needs f32[B,3], has f32[B,4]");
  EXPECT_HAS(load_error(F "fn({ a = f32(batch, 3) }, function(i) return f { x = i.a, z = i.a } end)"),
             "fn: there is no input \"z\"; the inputs are: x");
  EXPECT_HAS(load_error(F "fn({ a = f32(batch, 3) }, function(i) return f {} end)"), "fn: input \"x\" needs f32[B,3], has nothing");
  EXPECT_HAS(load_error(F "fn({ a = f32(batch, 3) }, function(i) return f(i.a) end)"), "table of named tensors");
  EXPECT_HAS(load_error("update(param('w', f32()), param('v', f32()))"), "update: has a meaning only in the body of a function");
  EXPECT_HAS(load_error("local w = param('w', f32())\n"
                        "fn({ a = f32() }, function(i) update(w, i.a) update(w, i.a + 1) return { y = w } end)"),
             "\"w\" is updated twice, and the second value does not go on from the first");
  EXPECT_HAS(load_error("fn({ a = f32(2) }, function(i) return { y = parameters(param('w', f32()), '^v')[1] } end)"),
             "no param has a name that \"^v\" finds; there are: w");
  Error err = {0};
  Model *m = load_text("local v, w = param('v', f32()), param('w', f32())\n"
                       "return module { f = fn({ a = f32() }, function(i) local y = i.a * v + detach(w * w)\n"
                       "  assert(#parameters(y) == 1 and parameters(y)[1] == v and #parameters(y + w) == 2) return { y = y } end) }", &err);
  EXPECT(m, "behind detach: %s", err.text);
  model_free(m);
  EXPECT_HAS(load_error(F "return f.output"), "fn: there is no field \"output\"; the fields are: inputs, outputs");
#undef F
}

TEST("a function that draws has the inputs that draws need, and names of streams are told apart") {
  Error err;
  Model *m = load_text("return module { f = fn({ x = f32(batch, 3) }, function(i)\n"
                       "  return { u = uniform(i.x, 'a'), n = normal(f32(4), 'b'), same = uniform(f32(batch, 3), 'a') } end),\n"
                       "  g = fn({ step = i32(), x = f32(3) }, function(i) return { y = uniform(i.x, 'c') + i.step } end) }",
                       &err);
  if (!m) EXPECT_HAS(err.text, "element types differ");
  model_free(m);
  m = load_text("return module { f = fn({ x = f32(batch, 3) }, function(i)\n"
                "  return { u = uniform(i.x, 'a'), n = normal(f32(4), 'b'), same = uniform(f32(batch, 3), 'a') } end) }",
                &err);
  REQUIRE(m, "%s", err.text);
  const Func *f = m->func[0];
  EXPECT(f->n_in == 4 && strcmp(f->in[0].name, "x") == 0, "%d inputs", f->n_in);
  EXPECT(f->out[1].node == f->out[2].node, "one name gives one draw");
  EXPECT(func_verify(f, FORM_ANY, "loading", &err), "%s", err.text);
  model_free(m);
  EXPECT_HAS(load_error("uniform(f32(3), 'a')"), "uniform: numbers are drawn in the body of a function");
  EXPECT_HAS(load_error("fn({ x = f32(batch) }, function(i) return { y = normal(f32(3, batch), 'a') } end)"),
             "normal: only the leading axis can be the batch");
  EXPECT_HAS(load_error("fn({ x = f32(batch) }, function(i) return { y = normal(i32(3), 'a') } end)"), "normal: needs f32 or bf16");
  EXPECT_HAS(load_error("fn({ x = f32(batch) }, function(i) return { y = normal(f32(3), '') } end)"), "normal: the name is empty");
}

TEST("a module lists what training does, and each entry has states of its own") {
#define LOSS                                                                                                     \
  "local w, n = param('w', f32(3)), state('shared', f32(3))\n"                                                   \
  "local loss = fn({ x = f32(batch, 3) }, function(i)\n"                                                        \
  "  local seen = state('seen', f32(), { shared = true })\n"                                                      \
  "  update(seen, updated(seen) + (is_training() and 1.0 or 2.0))\n"                                             \
  "  return { loss = mean(i.x * w) } end)\n"                                                                    \
  "local function step() return fn(loss.inputs, function(i)\n"                                                  \
  "  local out = loss(i)\n"                                                                                     \
  "  local m = state('m', f32(3))\n"                                                                            \
  "  update(m, m + grad(out.loss, { w })[1])\n"                                                                 \
  "  update(w, w - m + n)\n"                                                                                    \
  "  return out end) end\n"
  Error err;
  Model *m = load_text(LOSS "return module { loss = loss, train = { { 'a', step() }, { 'b', step(), from = 10, to = 20, every = 5, "
                            "average = 0.9 } } }", &err);
  REQUIRE(m, "%s", err.text);
  EXPECT(m->n_train == 2 && m->n_func == 1, "%d entries", m->n_train);
  EXPECT(m->train[0].from == 1 && m->train[0].to == TRAIN_LAST && m->train[0].every == 1 && m->train[0].average == 0, "defaults");
  EXPECT(m->train[1].from == 10 && m->train[1].to == 20 && m->train[1].every == 5 && m->train[1].average == 0.9, "fields");
  static const char *const own[] = {"a.m", "b.m"};
  for (int i = 0; i < 2; i++) {
    const Func *f = m->train[i].func;
    bool has_own = false, has_shared = false, trains = false;
    for (int k = 0; k < f->n_update; k++) {
      const char *name = f->update[k].target->attrs.leaf.name;
      has_own |= strcmp(name, own[i]) == 0;
      has_shared |= strcmp(name, "seen") == 0;
      if (strcmp(name, "seen") == 0) trains = f->update[k].value->in[1]->attrs.fill.value == 1;
    }
    EXPECT(f->n_update == 3 && has_own && has_shared && trains, "entry %d", i);
  }
  EXPECT(model_find(m, "train.b", &err) == m->train[1].func && model_train_of(m, m->train[1].func) == &m->train[1], "found by name");
  model_free(m);
#define TRAIN(list) LOSS "return module { train = " list " }"
  EXPECT_HAS(load_error(TRAIN("{ lr = 1 }")), "module: train: needs a list");
  EXPECT_HAS(load_error(TRAIN("{ { 'a' } }")), "train: needs a function made by fn, not nil");
  EXPECT_HAS(load_error(TRAIN("{ { 'a', step(), evry = 2 } }")), "there is no option \"evry\"; the options are: from, to, every, average");
  EXPECT_HAS(load_error(TRAIN("{ { 'a', step(), every = 0 } }")), "\"a\": every must be a number of steps, at least 1, not 0");
  EXPECT_HAS(load_error(TRAIN("{ { 'a', step(), from = 9, to = 8 } }")), "ends (to) before it begins (from)");
  EXPECT_HAS(load_error(TRAIN("{ { 'a', step(), average = 1 } }")), "average must be between 0 and 1, not 1");
  EXPECT_HAS(load_error(TRAIN("{ { 'a', step() }, { 'a', step() } }")), "two entries are called \"a\"");
  EXPECT_HAS(load_error(TRAIN("{ { 'a.b', step() } }")), "holds a dot");
  EXPECT_HAS(load_error(TRAIN("{ { 'held', step() } }")), "an entry cannot be called \"held\"");
  EXPECT_HAS(load_error(LOSS "local s = step() return module { train = { { 'a', fn(s.inputs, function(x) return s(x) end), average = 0.5 } } }"),
             "\"a\": average has no effect");
  EXPECT_HAS(load_error("local s = state('h', f32(batch, 4)) return module {}"),
             "state: \"h\" needs a constant shape, not f32[B,4]: it is kept from step to step");
  EXPECT_HAS(load_error(TRAIN("{ { 'a', step(), average = 0.5 }, { 'b', step(), average = 0.5 } }")), "\"a\" and \"b\" both average \"w\"");
  EXPECT_HAS(load_error(TRAIN("{ { 'a', fn({ x = f32(2) }, function(i) return { y = i.x } end) } }")), "\"a\" updates nothing");
#undef TRAIN
#undef LOSS
}

TEST("a missing file is an error of its own") {
  Error err = {0};
  EXPECT(!model_load(load_path("absent.lua"), NULL, &err), "it loaded");
  EXPECT_HAS(err.text, "absent.lua");
  EXPECT(!model_load("/dev/zero", NULL, &err), "it loaded");
  EXPECT_HAS(err.text, "not a plain file");
}

static const char hostile[] =
    "local function\n"
    "bad(f, ...) local ok, why = pcall(f, ...) assert(not ok and why, 'it passed') end\n"
    "fn({ x = f32(2 * batch + -1, 4), y = f32(1, 2, 2, 8) }, function(x)\n"
    "  local big, small = math.maxinteger, math.mininteger\n"
    "  bad(slice, x.x, 0, small) bad(slice, x.x, 0, 0, big) bad(slice, x.x, 0, batch * big)\n"
    "bad(slice, x.x, 1, 0, 2, big) bad(slice, x.x, 1, -5)\n"
    "  bad(pad, x.x, { lo = { big, big }, hi = { big, big } })\n"
    "bad(pad, x.x, { lo = { 0, 0 }, interior = { big, big } })\n"
    "  bad(reshape, x.x, big, big) bad(reshape, x.x, -1, -1) bad(reshape, x.x, -1, 0)\n"
    "bad(sum, x.x, big) bad(sum, x.x, small) bad(iota, i32(3), big)\n"
    "  bad(broadcast, x.x, small) bad(transpose, x.x, big, small) bad(transpose, x.x, 0, 0)\n"
    "bad(scatter_add, x.x, x.x, big)\n"
    "  bad(conv2d, x.y, x.y, { stride = small })\n"
    "bad(conv2d_grad_w, x.y, x.y, { kh = big, kw = big })\n"
    "  bad(attend, x.y, x.y, x.y, { heads = big }) bad(attend, x.y, x.y, x.y, { heads = small })\n"
    "bad(attend, x.y, x.y, x.y, { heads = 1, kind = \"block\", extent = { s = big } , causal = \"x\"})\n"
    "  bad(shift, x.y, { s = big }, x.y) bad(shift, x.y, \"up\", x.y) bad(shift, x.y)\n"
    "bad(attend_rows, x.x, x.x)\n"
    "bad(attend_rows, x.x, x.x, x.y, x.y, {heads = 1, query_grid = {big, big, big}, key_grid = {1, 1, small}})\n"
    "  bad(layer_norm, x.x, x.x, x.x, { eps = 0/0 })\n"
    "bad(group_norm, x.y, x.y, x.y, { groups = 0 }) bad(fill, 0/0, i32(2)) bad(fill, 1e300, u8())\n"
    "bad(ring_write, x.x, x.x, x.x)\n"
    "  bad(matmul, x.x) bad(concat) bad(concat, {}) bad(concat, x.x, x.y) bad(argmax, x.x, 5)\n"
    "bad(cast, x.x, \"f64\") bad(add, 1, 2) bad(select, x.x, 1, 2) bad(gather, x.x, x.x)\n"
    "  bad(cross_entropy, x.x, x.x) bad(param, \"a\", 3) bad(param, \"a\", f32(2), { normal = -1 })\n"
    "bad(param, \"a\", f32(2), { normal = 1, uniform = 1 }) bad(param, \"a\", i32(2), { normal = 1 })\n"
    "  bad(grad, x.x, {}) bad(grad, sum(x.x), { 1 }) bad(grad, sum(x.x), { x = x.x })\n"
    "bad(decode, 1) bad(module) bad(one_of, {}) bad(options, { [1] = 2 })\n"
    "bad(options, {a = 0/0, b = print})\n"
    "  bad(function() return batch * 1.5 end) bad(function() return batch + \"x\" end)\n"
    "bad(function() return x.x .. \"\" end) bad(function() return x.x[1] end)\n"
    "bad(function() x.x.y = 1 end) bad(function() return batch < 3 end)\n"
    "  bad(fn, {}, nil) bad(fn, { a = 1 }, print) bad(fn, { a = f32(1) }, function() end)\n"
    "bad(fn, { a = f32(1) }, error)\n"
    "  return { y = x.x }\n"
    "end)\n"
    "return module { f = fn({ x = f32(2) }, function(x) return { y = x.x } end) }\n";

TEST("attributes of any value are refused or fit, never undefined") {
  Error err;
  Model *m = load_text(hostile, &err);
  EXPECT(m, "%s", err.text);
  model_free(m);
}

TEST("any failed allocation is an error, never a crash or a leak") {
  const char *text = "local o = options { n = 4, k = one_of { 'a', 'b' } }\n"
                     "local w = param('w', f32(o.n, 8), { normal = 0.02 })\n"
                     "return module { how = { lr = 0.1, name = 'x' },\n"
                     "f = fn({ x = f32(batch, o.n) }, function(x)\n"
                     "  local loss = mean(gelu(matmul(x.x, w)))\n"
                     "  return { loss = loss, s = softmax(x.x + 1) }, { { w, w - grad(loss, { w })[1] } } end) }";
  const char *path = load_write("model.lua", text);
  const Define define = {"n", "6"};
  const ModelOptions options = {.define = &define, .n_define = 1};
  int failures = 0, n = 1;
  for (bool reached = true; reached && n < 100000; n++) {
    Error err = {0};
    uint64_t before = mem_alloc_count();
    mem_fail_at((uint64_t)n);
    Model *m = model_load(path, &options, &err);
    mem_fail_at(0);
    reached = mem_alloc_count() - before >= (uint64_t)n;
    if (!m) {
      failures++;
      if (err.code != ERROR_MEMORY) {
        EXPECT(err.code == ERROR_MEMORY, "allocation %d: code %d: %s", n, err.code, err.text);
        break;
      }
    }
    model_free(m);
  }
  EXPECT(failures > 10 && n > 500, "%d failures in %d allocations", failures, n);
}

TEST_MAIN()
