/* IR text: exact round trips, refusals with the line, damaged text, and the verifier. */
#include "ir/interp.h"
#include "runtime/base/hooks.h"
#include "runtime/base/philox.h"
#include "tests/test.h"

#include <math.h>

static Error err;

static Graph *new_graph(void) {
  err = (Error){0};
  return graph_new(&err);
}

static const char *const two_functions =
    "func @step(%q: f32[4,8,8,64], %\"odd \\\"name\\\"\": i32[B]) {\n"
    "  %1 = param() {name=\"seen\", init=zeros, scale=0} : f32[64]\n"
    "  %2 = fill() {value=0.1} : f32[64]\n"
    "  %3 = add(%1, %2) : f32[64]\n"
    "  %4 = state() {name=\"ring.0\"} : f32[5,B]\n"
    "  %5 = fill() {value=-inf} : f32[5,B]\n"
    "  %6 = attend(%q, %q, %q) {heads=4, kv_heads=4, scale=-0.3, kind=nearby, lo=[-1,-inf,-1], hi=[1,inf,0], block=[0,0,0], edge=shift, "
    "causal=raster, query_grid=[4,8,8], key_grid=[4,8,8]} : f32[4,8,8,64]\n"
    "  %7 = param() {name=\"dec.w\\\\1\", init=normal, scale=0.02} : f32[64,64]\n"
    "  %8 = matmul(%6, %7) {trans_a=0, trans_b=1} : f32[4,8,8,64]\n"
    "  %9 = iota() {axis=0} : i32[B]\n"
    "  %10 = eq(%\"odd \\\"name\\\"\", %9) : u8[B]\n"
    "  update %1 = %3\n"
    "  update %4 = %5\n"
    "  return y = %8, \"z z\" = %10\n"
    "}\n"
    "func @empty() {\n"
    "  return\n"
    "}\n"
    "func @\"second one\"(%q: f32[2B+1]) {\n"
    "  %1 = slice(%q) {start=[B], stop=[2B+1], step=[1]} : f32[B+1]\n"
    "  %2 = pad(%1) {lo=[0], hi=[R-1], interior=[0], value=1e-300} : f32[B+R]\n"
    "  %3 = param() {name=\"seen\", init=zeros, scale=0} : f32[64]\n"
    "  return n = %2, w = %3\n"
    "}\n";

TEST("functions with params, states, updates, symbols and odd names print as they were written") {
  Graph *g = new_graph();
  Func **f;
  int n;
  REQUIRE(ir_parse(g, "t.ir", two_functions, &f, &n), "%s", err.text);
  EXPECT(n == 3 && f[0]->n_update == 2 && f[0]->n_in == 2);
  Buffer out = {0};
  for (int i = 0; i < n; i++) func_print(f[i], &out);
  EXPECT_TEXT(out.data, two_functions);
  for (int i = 0; i < n; i++) EXPECT(func_verify(f[i], FORM_PRIMITIVE, "parsing", &err), "%s", err.text);
  EXPECT(f[0]->update[0].target->loc->line == 2 && strcmp(f[0]->loc->file, "t.ir") == 0);
  buffer_done(&out);
  graph_free(g);
}

TEST("comments, blanks and missing attributes are fine in hand-written text") {
  Graph *g = new_graph();
  Func **f;
  int n;
  const char *text = "# a comment\n func @f ( %x : f32[ 2 , 1+B ] )\n{ %sum = sum(%x){axes=[1]}:f32[2] # why\n"
                     "%w = param() {name=w} : f32[2] return y=%sum,w=%w}";
  REQUIRE(ir_parse(g, "t.ir", text, &f, &n), "%s", err.text);
  Buffer out = {0};
  func_print(f[0], &out);
  EXPECT_TEXT(out.data, "func @f(%x: f32[2,B+1]) {\n  %1 = param() {name=\"w\", init=zeros, scale=0} : f32[2]\n"
                        "  %2 = sum(%x) {axes=[1]} : f32[2]\n  return w = %1, y = %2\n}\n");
  buffer_done(&out);
  graph_free(g);
}

TEST("every double prints so that it reads back") {
  Graph *g = new_graph();
  Type t = type_make(DTYPE_F32, 0, NULL);
  const double known[] = {
      0.0, -0.0, 0.1, 1e300, 5e-324, 1.0 / 3, INFINITY, -INFINITY, NAN, -NAN, 123456789012345678.0};
  for (uint32_t i = 0; i < 3000; i++) {
    Philox bits = philox(3, i, 0, STREAM_TEST);
    double v;
    memcpy(&v, bits.word, sizeof v);
    Port y = {"y", graph_fill(g, i < COUNT_OF(known) ? known[i] : v, &t)};
    Buffer out = {0};
    func_print(func_new(g, "f", NULL, 0, &y, 1), &out);
    Func **f;
    int n;
    EXPECT(ir_parse(g, "t.ir", out.data, &f, &n) && f[0]->out[0].node == y.node, "%s: %s", err.text, out.data);
    buffer_done(&out);
  }
  graph_free(g);
}

static const struct {
  const char *text, *part;
} refused[] = {
    {"", "t.ir:1: \"func\" expected, at the end of the text"},
    {"func @f(%x: f32[2]) {\n  return y = %z\n}", "t.ir:2: %z is not defined before, at the end of the line"},
    {"func @f(%x: f32[2]) {\n  %x = neg(%x) : f32[2]\n return\n}", "%x is defined twice"},
    {"func @f(%x: f33[2]) {\n return\n}", "no element type is called \"f33\" (f32, bf16, i32, u8)"},
    {"func @f(%x: f32[Q]) {\n return\n}", "a size expected"},
    {"func @f(%x: f32[1,1,1,1,1,1,1,1,1]) {\n return\n}", "at most 8 axes"},
    {"func @f(%x: f32[99999999999999999999]) {\n return\n}", "too large"},
    {"func @f() {\n  %1 = nag() : f32[2]\n return\n}", "t.ir:2: there is no op \"nag\""},
    {"func @f(%x: f32[2]) {\n  %1 = neg(%x) {a=1} : f32[2]\n return\n}", "neg has no attribute \"a\" (it has none)"},
    {"func @f() {\n  %1 = fill() {v=1} : f32[2]\n return\n}", "fill has no attribute \"v\" (value)"},
    {"func @f() {\n  %1 = fill() {value=1, value=2} : f32[2]\n return\n}", "value is given twice"},
    {"func @f() {\n  %1 = fill() {value=1x} : f32[2]\n return\n}", "a number expected"},
    {"func @f() {\n  %1 = param() {name=\"w\", init=big} : f32[2]\n return\n}",
     "init cannot be \"big\" (zeros, ones, normal, uniform)"},
    {"func @f(%x: f32[2]) {\n  %1 = pad(%x) {lo=[1,2]} : f32[2]\n return\n}", "the list needs 1 entries"},
    {"func @f(%x: f32[2]) {\n  %1 = sum(%x) {axes=[9]} : f32[2]\n return\n}", "an axis is 0 to 7"},
    {"func @f(%x: f32[2]) {\n  update %x = %x\n return\n}", "only a param or a state can be updated, not input"},
    {"func @f() {\n %1 = state() {name=s} : f32[2]\n update %1 = %1\n update %1 = %1\n return }", "updated twice"},
    {"func @f() {\n %1 = state() {name=\"s\\q\"} : f32[2]\n return }", "no such escape"},
    {"func @f() {\n %1 = state() {name=\"s} : f32[2]\n return }", "does not end"},
    {"func @f(%x: f32[2]) {\n return y = %x, y = %x }", "two outputs have one name"},
    {"func @f(%x: f32[2]) {\n return y = %x", "\"}\" expected, at the end of the text"},
    {"func @f(%x: f32[2]) {\n 7", "\"%\", \"update\" or \"return\" expected"},
    {"func @f(%x: f32[2]) {\n return y = %x } trailing", "\"func\" expected, at \"trailing\""},
};

TEST("damaged text is refused with its line and what was expected") {
  for (int i = 0; i < COUNT_OF(refused); i++) {
    Graph *g = new_graph();
    Func **f;
    int n;
    EXPECT(!ir_parse(g, "t.ir", refused[i].text, &f, &n), "accepted: %s", refused[i].text);
    EXPECT_HAS(err.text, refused[i].part);
    graph_free(g);
  }
}

TEST("text with random damage is parsed or refused, and what is parsed prints and verifies") {
  size_t len = strlen(two_functions);
  char *text = mem_alloc(len + 1);
  for (uint32_t t = 0; t < 4000; t++) {
    memcpy(text, two_functions, len + 1);
    for (uint32_t k = 0; k < 1 + t % 3; k++) {
      Philox r = philox(5, t, k, STREAM_TEST);
      char with = r.word[2] % 2 ? two_functions[r.word[1] % len] : (char)(r.word[1] % 256);
      text[r.word[0] % len] = with;
    }
    Graph *g = new_graph();
    Func **f;
    int n;
    if (ir_parse(g, "t.ir", text, &f, &n)) {
      Buffer out = {0};
      for (int i = 0; i < n; i++) func_print(f[i], &out);
      EXPECT(func_verify(f[0], FORM_ANY, "damage", &err), "%s", err.text);
      Graph *again = new_graph();
      EXPECT(ir_parse(again, "t.ir", out.data, &f, &n), "%s\n%s", err.text, out.data);
      graph_free(again);
      buffer_done(&out);
    } else {
      EXPECT(err.code == ERROR_MODEL && *err.text);
    }
    graph_free(g);
  }
  mem_free(text);
}

/* ---- the verifier ---- */

static const char *const healthy =
    "func @f(%x: f32[2,3], %y: f32[2,3]) {\n  %1 = state() {name=\"s\"} : f32[2,3]\n  %2 = add(%x, %y) : f32[2,3]\n"
    "  %3 = mul(%2, %1) : f32[2,3]\n  %4 = sum(%3) {axes=[1]} : f32[2]\n  %5 = silu(%4) : f32[2]\n  update %1 = %3\n"
    "  return a = %5, b = %2\n}\n";

typedef struct Corruption {
  void (*break_it)(Func *f);
  Form form;
  const char *part;
} Corruption;

static Node *silu_of(Func *f) { return f->out[0].node; }
static void nothing(Func *f) { (void)f; }
static void wrong_type(Func *f) { silu_of(f)->in[0]->type.dim[0] = dim_const(5); }
static void wrong_dtype(Func *f) { f->out[1].node->type.dtype = DTYPE_I32; }
static void no_dtype(Func *f) { silu_of(f)->in[0]->type.dtype = DTYPE_COUNT; }
static void no_rank(Func *f) { f->out[1].node->type.rank = MAX_RANK + 1; }
static void no_op(Func *f) { silu_of(f)->op = OP_COUNT; }
static void wrong_order(Func *f) { silu_of(f)->id = 0; }
static void wrong_arity(Func *f) { f->out[1].node->n_in = 1; }
static void wrong_axes(Func *f) { silu_of(f)->in[0]->attrs.axes.axes = 16; }
static void not_normal(Func *f) { f->update[0].target->attrs.leaf.name = ""; }
static void no_loc(Func *f) { f->out[1].node->loc = NULL; }
static void no_input(Func *f) { f->n_in = 1; }
static void two_inputs(Func *f) { f->in[1] = f->in[0]; }
static void renamed_input(Func *f) { f->in[0].name = "other"; }
static void unsorted(Func *f) { f->out[0].name = "c"; }
static void no_target(Func *f) { f->update[0].target = f->out[1].node; }
static void other_type(Func *f) { f->update[0].value = silu_of(f); }
static void no_output(Func *f) { f->out[1].node = NULL; }

static const Corruption corruptions[] = {
    {nothing, FORM_PRIMITIVE, "a composite in primitive form"},
    {wrong_type, FORM_ANY, "its type should be f32[2]"},
    {wrong_dtype, FORM_ANY, "its type should be f32[2,3]"},
    {no_dtype, FORM_ANY, "its type is no type"},
    {no_rank, FORM_ANY, "its type is no type"},
    {no_op, FORM_ANY, "there is no such op"},
    {wrong_order, FORM_ANY, "shares its id|comes after its user"},
    {wrong_arity, FORM_ANY, "add: needs 2 operands, has 1"},
    {wrong_axes, FORM_ANY, "axis 4 of rank 2"},
    {not_normal, FORM_ANY, "needs a name"},
    {no_loc, FORM_ANY, "no location"},
    {no_input, FORM_ANY, "an input that is not in the signature: y"},
    {two_inputs, FORM_ANY, "two inputs are called x"},
    {renamed_input, FORM_ANY, "an input has two names: other"},
    {unsorted, FORM_ANY, "outputs are not sorted at b"},
    {no_target, FORM_ANY, "updated, but neither param nor state"},
    {other_type, FORM_ANY, "updated by another type"},
    {no_output, FORM_ANY, "nothing is returned as b"},
};

static bool has_one_of(const char *text, const char *parts) {
  const char *bar = strchr(parts, '|');
  char first[80];
  snprintf(first, sizeof first, "%.*s", bar ? (int)(bar - parts) : (int)strlen(parts), parts);
  return strstr(text, first) || (bar && strstr(text, bar + 1));
}

TEST("the verifier finds every seeded corruption, and says after which pass") {
  for (int i = 0; i < COUNT_OF(corruptions); i++) {
    Graph *g = new_graph();
    Func **f;
    int n;
    REQUIRE(ir_parse(g, "t.ir", healthy, &f, &n) && func_verify(f[0], FORM_ANY, "parsing", &err), "%s", err.text);
    corruptions[i].break_it(f[0]);
    EXPECT(!func_verify(f[0], corruptions[i].form, "fold", &err), "corruption %d", i);
    EXPECT(has_one_of(err.text, corruptions[i].part), "corruption %d: %s", i, err.text);
    EXPECT_HAS(err.text, "after fold: function f: ");
    graph_free(g);
  }
}

/* ---- leafs, updates and failing memory ---- */

static const Tensor *ones(void *ctx, const Node *leaf, Error *e) {
  if (strcmp(leaf->attrs.leaf.name, "y") == 0 && !ctx) return error_set(e, ERROR_ARGUMENT, "no y"), NULL;
  static double data[6] = {1, 1, 1, 1, 1, 1};
  static const Tensor good = {DTYPE_F32, 2, {2, 3}, data}, bad = {DTYPE_F32, 2, {3, 2}, data};
  return ctx && *(int *)ctx ? &bad : &good;
}

TEST("the interpreter gives outputs and updates, and refuses values that do not fit") {
  Graph *g = new_graph();
  Arena *a = arena_new();
  Func **f;
  int n, is_bad = 0;
  REQUIRE(ir_parse(g, "t.ir", healthy, &f, &n), "%s", err.text);
  Tensor out[2], update[1];
  REQUIRE(interp_run(f[0], 1, 1, ones, &is_bad, a, out, update, &err), "%s", err.text);
  EXPECT(update[0].data[5] == 2 && out[1].data[0] == 2 && fabs(out[0].data[1] - 6 / (1 + exp(-6))) < 1e-15);
  EXPECT(interp_run(f[0], 1, 1, ones, &is_bad, a, out, NULL, &err));
  EXPECT(!interp_run(f[0], 1, 1, ones, NULL, a, out, NULL, &err));
  EXPECT_TEXT(err.text, "no y");
  is_bad = 1;
  EXPECT(!interp_run(f[0], 1, 1, ones, &is_bad, a, out, NULL, &err));
  EXPECT_HAS(err.text, "needs f32[2,3], has f32[3,2]");
  arena_free(a);
  graph_free(g);
}

typedef struct Whole {
  Graph *g;
  Arena *arena;
  Buffer text;
  bool ok;
} Whole;

static void parse_print_run(void *ctx) {
  Whole *w = ctx;
  Func **f;
  int n, is_bad = 0;
  Tensor out[2];
  if (!ir_parse(w->g, "t.ir", healthy, &f, &n)) return;
  func_print(f[0], &w->text);
  w->ok = func_verify(f[0], FORM_ANY, "parsing", &err) && !w->text.failed &&
          interp_run(f[0], 1, 1, ones, &is_bad, w->arena, out, NULL, &err);
}

TEST("when any allocation fails, text and interpreter report it and leak nothing") {
  bool done = false;
  for (uint64_t i = 1; i < 10000 && !done; i++) {
    mem_fail_at(i);
    uint64_t before = mem_alloc_count();
    Whole w = {.g = new_graph(), .arena = arena_new()};
    bool ok = w.g && w.arena && arena_protect(w.g->arena, parse_print_run, &w, &err) && w.ok;
    done = mem_alloc_count() - before < i;
    mem_fail_at(0);
    EXPECT(ok || err.code == ERROR_MEMORY || w.text.failed || !w.arena, "allocation %d: %s", (int)i, err.text);
    buffer_done(&w.text);
    arena_free(w.arena);
    graph_free(w.g);
  }
  EXPECT(done);
}

TEST_MAIN()
