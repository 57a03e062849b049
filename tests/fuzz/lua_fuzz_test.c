/* Model files with random edits: each loads or is refused with a reason, within its limits. */
#include "ir/ir.h"
#include "tests/fuzz/fuzz.h"
#include "tests/test.h"
#include "tests/unit/frontend/load.h"

static const char *const seed_model[] = {
  "local o = options { dim = 8, heads = 2, kind = one_of { 'nearby', 'axis', 'full', 'block' }, scale = 0.5 }\n"
  "local x = f32(batch, 2, 4, 4, o.dim)\n"
  "local w = param('w', f32(o.dim, o.dim), { normal = 0.02 })\n"
  "return module {\n"
  "  step = fn({ q = x, k = x }, function(t)\n"
  "    local y = attend(t.q, t.k, t.k, { heads = o.heads, kind = o.kind, causal = 'raster', edge = 'clip',\n"
  "                                      extent = { s = 3, h = { -1, 0 }, w = math.huge } })\n"
  "    return { y = matmul(y, w) * o.scale, l = sum(softmax(y), { 1, -1, keep = true }) }\n"
  "  end),\n"
  "  how = { lr = 1e-3, sizes = { 1, 2, 3 } },\n"
  "}\n",
  "local function norm(x) return x / sqrt(mean(x * x, -1) + 1e-5) end\n"
  "local t = setmetatable({}, { __index = function(t, k) return k .. '!' end, __add = function() return 1 end })\n"
  "local s = string.format('%5.2f %s %q', 1.5, t.a, 'x'):gsub('(%w+)', '<%1>'):rep(3, ','):upper()\n"
  "local list = {}\n"
  "for i = 1, 20 do table.insert(list, i // 3 | i << 2) end\n"
  "table.sort(list, function(a, b) return a > b end)\n"
  "local ok, err = pcall(error, { list[1] })\n"
  "return module { f = fn({ x = f32(3, 4), i = i32(5) }, function(p)\n"
  "  local g = p.x:reshape(4, -1):transpose():slice(0, 1, 3):pad({ lo = { 1, 0 }, hi = { 0, 2 }, value = 0 })\n"
  "  local l = sum(p.x * exp(p.x))\n"
  "  local d = grad(l, { p.x })\n"
  "  return { a = concat({ g, g }, -1), b = gather(p.x, p.i), d = d[1], c = conv2d(fill(1, f32(1, 4, 4, 2)),\n"
  "    param('k', f32(3, 3, 2, 1)), { stride = 1 }), s = select(lt(p.x, 0), p.x, cast(iota(i32(3, 4), 1), f32)) }\n"
  "end) }\n",
};

static const char *const lua_word[] = {
  "nil", "-1", "0", "1e300", "0/0", "math.huge", "{}", "''", "function() end", "batch", "f32(2, 3)", "x", "t", "p.x",
  "grad(", ")", "(", "..", "#", "end", "do ", "while true do ", "for i = 1, 1e9 do ", "string.rep('x', 1e9)", "\0\1",
  "setmetatable({}, { __index = error })", "error({})", "require 'nn'", "9223372036854775807", "- ", "[", "]", "%",
  ",", "goto ", "::a::", "pcall(", "local ", "return ", "options {", "fn(", "module {", "attend(", "softmax(",
  "\xff", "\\",
};

/* Up to four edits of a seed.  text has room for 64 more bytes an edit. */
static void make_case(Fuzz *f, char *text) {
  strcpy(text, seed_model[fuzz_below(f, sizeof seed_model / sizeof *seed_model)]);
  size_t n = strlen(text);
  for (size_t edits = fuzz_below(f, 4) + 1; edits > 0; edits--)
    n = fuzz_edit(f, text, n, lua_word, sizeof lua_word / sizeof *lua_word);
}

/* Not flushed to the disk, unlike what load_with writes: there are thousands. */
static Model *load_case(const char *text, Error *err) {
  const ModelOptions o = {.limits = {64 << 20, 400000, 5}};
  const char *path = load_path("case.lua");
  FILE *file = fopen(path, "wb");
  if (!file || fputs(text, file) < 0 || fclose(file) != 0) abort();
  *err = (Error){0};
  return model_load(path, &o, err);
}

TEST("edited models load or say why not, and what loads verifies") {
  static char text[8192];
  int loaded = 0;
  for (uint64_t i = 0; i < 4000; i += FUZZ_STRIDE) {
    Fuzz f = {i * 7919};
    make_case(&f, text);
    Error err;
    double start = load_seconds();
    Model *m = load_case(text, &err);
    EXPECT(load_seconds() - start < 20, "case %d took %.1f s:\n%s", (int)i, load_seconds() - start, text);
    EXPECT(m || (err.code != ERROR_NONE && err.text[0]), "case %d gives no reason:\n%s", (int)i, text);
    EXPECT(m || err.code == ERROR_MODEL || err.code == ERROR_LIMIT, "case %d: code %d, %s\n%s", (int)i, err.code,
           err.text, text);
    if (!m) continue;
    loaded++;
    for (int k = 0; k < m->n_func; k++) {
      Error broken = {0};
      EXPECT(func_verify(m->func[k], FORM_ANY, "loading", &broken), "case %d: %s\n%s", (int)i, broken.text, text);
    }
    model_free(m);
  }
  EXPECT(loaded > 20, "only %d of the edited models load", loaded);
}

TEST("the seeds themselves load") {
  for (size_t i = 0; i < sizeof seed_model / sizeof *seed_model; i++) {
    Error err;
    Model *m = load_text(seed_model[i], &err);
    EXPECT(m, "%s", err.text);
    model_free(m);
  }
}

TEST_MAIN()
