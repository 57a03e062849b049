/* Every op of the table on small operands with results worked out by hand, and everything its shape rule refuses. */
#include "tests/unit/ir/ir_case.h"

enum { B = 2, R = 3 };

typedef struct OpCase {
  const char *op, *types, *attrs, *result;
  const char *in[6], *want;
} OpCase;

#define X2 "f32[2]"
#define I3 "i32[3]"
#define I1x5 "i32[1] i32[1] i32[1] i32[1] i32[1]"
#define NEAR "heads=1, kv_heads=1, scale=1, kind=nearby, lo=[0,0,-1], hi=[0,0,1], block=[0,0,0], edge=clip, causal=none, "
#define FULL(more) FULL_OF("heads=1, kv_heads=1, scale=1", more)
#define FULL_OF(heads, more)                                                                                         \
  heads ", kind=full, lo=[-inf,-inf,-inf], hi=[inf,inf,inf], block=[0,0,0], edge=clip, causal=none, " more
#define GRID2 "query_grid=[1,1,2], key_grid=[1,1,2]"
#define TOK "f32[1,1,2,1]"
#define LN3 "1.0986122886681098"

static const OpCase cases[] = {
    {"fill", "", "value=2.5", X2, {0}, "2.5 2.5"},
    {"fill", "", "value=-inf", "f32[]", {0}, "-inf"},
    {"fill", "", "value=7", "i32[B]", {0}, "7 7"},
    {"iota", "", "axis=1", "i32[2,3]", {0}, "0 1 2 0 1 2"},
    {"iota", "", "axis=0", "i32[R,2]", {0}, "0 0 1 1 2 2"},
    {"neg", X2, "", X2, {"1 -2"}, "-1 2"},
    {"neg", "u8[2]", "", "u8[2]", {"1 0"}, "255 0"},
    {"abs", X2, "", X2, {"1 -2"}, "1 2"},
    {"abs", I3, "", I3, {"1 -2 -2147483648"}, "1 2 -2147483648"},
    {"exp", X2, "", X2, {"0 1"}, "1 2.718281828459045"},
    {"log", "f32[3]", "", "f32[3]", {"1 2.718281828459045 0"}, "0 1 -inf"},
    {"sqrt", X2, "", X2, {"9 2"}, "3 1.4142135623730951"},
    {"tanh", X2, "", X2, {"0 1"}, "0 0.7615941559557649"},
    {"log1p", "f32[4]", "", "f32[4]", {"0 1e-20 -1 nan"}, "0 1e-20 -inf nan"},
    {"erf", X2, "", X2, {"0 1"}, "0 0.8427007929497149"},
    {"normal_cdf", "f32[4]", "", "f32[4]", {"0 1 -20 -inf"}, "0.5 0.8413447460685429 2.753624118606233e-89 0"},
    {"sin", X2, "", X2, {"0 1"}, "0 0.8414709848078965"},
    {"cos", X2, "", X2, {"0 1"}, "1 0.5403023058681398"},
    {"floor", X2, "", X2, {"-1.5 1.5"}, "-2 1"},
    {"cast", "f32[5]", "dtype=i32", "i32[5]", {"-1.9 1.9 nan 1e20 -inf"}, "-1 1 0 2147483647 -2147483648"},
    {"cast", "f32[4]", "dtype=u8", "u8[4]", {"-3 255.5 1000 7.9"}, "0 255 255 7"},
    {"cast", "i32[2]", "dtype=u8", "u8[2]", {"256 -1"}, "0 255"},
    {"cast", "f32[2]", "dtype=bf16", "bf16[2]", {"1.00390625 3.14159265"}, "1 3.140625"},
    {"cast", "u8[2]", "dtype=f32", X2, {"0 200"}, "0 200"},
    {"detach", X2, "", X2, {"1 2"}, "1 2"},
    {"add", X2 " " X2, "", X2, {"1 2", "10 20"}, "11 22"},
    {"add", "i32[1] i32[1]", "", "i32[1]", {"2147483647", "1"}, "-2147483648"},
    {"add", "u8[1] u8[1]", "", "u8[1]", {"200", "100"}, "44"},
    {"add", "bf16[1] bf16[1]", "", "bf16[1]", {"256", "1"}, "256"},
    {"add", "f32[2B+R-1] f32[2B+R-1]", "", "f32[2B+R-1]", {"1 2 3 4 5 6", "1 1 1 1 1 1"}, "2 3 4 5 6 7"},
    {"add", "f32[0] f32[0]", "", "f32[0]", {"", ""}, ""},
    {"sub", X2 " " X2, "", X2, {"1 2", "10 30"}, "-9 -28"},
    {"mul", X2 " " X2, "", X2, {"3 2", "10 30"}, "30 60"},
    {"mul", "i32[1] i32[1]", "", "i32[1]", {"65537", "65537"}, "131073"},
    {"div", X2 " " X2, "", X2, {"1 2", "4 0"}, "0.25 inf"},
    {"div", "i32[5] i32[5]", "", "i32[5]", {"7 -7 7 -7 3", "2 2 -2 -2 0"}, "3 -4 -4 3 0"},
    {"div", "i32[6] i32[6]", "", "i32[6]",
     {"-2147483648 -2147483648 2147483647 1 -2147483648 -2147483648", "-3 -1 -2147483648 -2147483648 -2147483648 0"},
     "715827882 -2147483648 -1 -1 1 0"},
    {"pow", "f32[8] f32[8]", "", "f32[8]", {"2 -2 -2 0 -0 -inf nan 1", "-3 3 0.5 -1 3 0.5 0 nan"},
     "0.125 -8 nan inf 0 inf 1 1"},
    {"mod", "i32[5] i32[5]", "", "i32[5]", {"7 -7 7 -7 3", "2 2 -2 -2 0"}, "1 1 -1 -1 0"},
    {"mod", "i32[6] i32[6]", "", "i32[6]",
     {"-2147483648 -2147483648 2147483647 1 -2147483648 -2147483647", "-3 -1 -2147483648 -2147483648 -2147483648 -2147483648"},
     "-2 0 -1 -2147483647 0 -2147483647"},
    {"maximum", X2 " " X2, "", X2, {"1 5", "4 2"}, "4 5"},
    {"maximum", "f32[4] f32[4]", "", "f32[4]", {"nan 1 nan 0", "1 nan nan -0"}, "nan nan nan 0"},
    {"minimum", "f32[4] f32[4]", "", "f32[4]", {"nan 1 nan 0", "1 nan nan -0"}, "nan nan nan 0"},
    {"minimum", X2 " " X2, "", X2, {"1 5", "4 2"}, "1 2"},
    {"fma", "f32[1] f32[1] f32[1]", "", "f32[1]", {"2", "3", "4"}, "10"},
    {"lt", I3 " " I3, "", "u8[3]", {"1 2 3", "2 2 2"}, "1 0 0"},
    {"le", I3 " " I3, "", "u8[3]", {"1 2 3", "2 2 2"}, "1 1 0"},
    {"eq", "f32[2] f32[2]", "", "u8[2]", {"1 nan", "1 nan"}, "1 0"},
    {"select", "u8[2] " X2 " " X2, "", X2, {"1 0", "1 2", "3 4"}, "1 4"},
    /* the known answers of Philox 4x32-10: words 6627e8d5 e169c58d, 408f276d 41c83b0e, d16cfe09 94fdcceb */
    {"uniform", I1x5, "stream=0", "f32[1]", {"0", "0", "0", "0", "0"}, "0.3990464210510254"},
    {"uniform", I1x5, "stream=-1", "f32[1]", {"-1", "-1", "-1", "-1", "-1"}, "0.25218433141708374"},
    {"uniform", I1x5, "stream=320440878", "f32[1]",
     {"608135816", "-2052912941", "57701188", "-1542899678", "698298832"}, "0.818069338798523"},
    {"normal", I1x5, "stream=0", "f32[1]", {"0", "0", "0", "0", "0"}, "0.99113756418228149"},
    {"normal", I1x5, "stream=-1", "f32[1]", {"-1", "-1", "-1", "-1", "-1"}, "-0.072580784559249878"},
    {"normal", I1x5, "stream=320440878", "f32[1]",
     {"608135816", "-2052912941", "57701188", "-1542899678", "698298832"}, "-0.5514678955078125"},
    {"reshape", "f32[2,3]", "", "f32[3,2]", {"1 2 3 4 5 6"}, "1 2 3 4 5 6"},
    {"reshape", "f32[B,4]", "", "f32[2B,2]", {"1 2 3 4 5 6 7 8"}, "1 2 3 4 5 6 7 8"},
    {"transpose", "f32[2,3]", "perm=[1,0]", "f32[3,2]", {"1 2 3 4 5 6"}, "1 4 2 5 3 6"},
    {"transpose", "f32[1,2,3]", "perm=[2,0,1]", "f32[3,1,2]", {"1 2 3 4 5 6"}, "1 4 2 5 3 6"},
    {"broadcast", "f32[2,1]", "", "f32[2,2,3]", {"1 2"}, "1 1 1 2 2 2 1 1 1 2 2 2"},
    {"broadcast", "f32[]", "", "f32[B]", {"4"}, "4 4"},
    {"slice", "f32[6]", "start=[1], stop=[6], step=[2]", "f32[3]", {"0 1 2 3 4 5"}, "1 3 5"},
    {"slice", "f32[2B,2]", "start=[B,1], stop=[2B,2], step=[1,1]", "f32[B,1]", {"0 1 2 3 4 5 6 7"}, "5 7"},
    {"slice", "f32[2B]", "start=[0], stop=[2B], step=[2]", "f32[B]", {"0 1 2 3"}, "0 2"},
    {"pad", X2, "lo=[1], hi=[2], interior=[1], value=9", "f32[6]", {"1 2"}, "9 1 9 2 9 9"},
    {"pad", "i32[0]", "lo=[1], hi=[0], interior=[3], value=4", "i32[1]", {""}, "4"},
    {"pad", "f32[B]", "lo=[0], hi=[R], interior=[0], value=0", "f32[B+R]", {"1 2"}, "1 2 0 0 0"},
    {"reverse", "f32[2,2]", "axes=[0]", "f32[2,2]", {"1 2 3 4"}, "3 4 1 2"},
    {"reverse", "f32[2,2]", "axes=[0,1]", "f32[2,2]", {"1 2 3 4"}, "4 3 2 1"},
    {"concat", "f32[2,1] f32[2,2]", "axis=1", "f32[2,3]", {"1 2", "3 4 5 6"}, "1 3 4 2 5 6"},
    {"concat", "i32[B] i32[1]", "axis=0", "i32[B+1]", {"1 2", "3"}, "1 2 3"},
    {"gather", "f32[3,2] i32[4]", "", "f32[4,2]", {"1 2 3 4 5 6", "2 0 -5 99"}, "5 6 1 2 1 2 5 6"},
    {"gather", "f32[3] i32[]", "", "f32[]", {"1 2 3", "1"}, "2"},
    {"shift", "f32[1,2,2,1] f32[1]", "delta=[0,0,-1], raster=0", "f32[1,2,2,1]", {"1 2 3 4", "9"}, "9 1 9 3"},
    {"shift", "f32[1,2,2,1] f32[1]", "delta=[0,-1,1], raster=0", "f32[1,2,2,1]", {"1 2 3 4", "9"}, "9 9 2 9"},
    {"shift", "f32[B,1,1,2,1] f32[1]", "delta=[0,0,0], raster=1", "f32[B,1,1,2,1]", {"1 2 3 4", "9"}, "9 1 9 3"},
    {"sum", "f32[2,3]", "axes=[1]", "f32[2]", {"1 2 3 4 5 6"}, "6 15"},
    {"sum", "f32[2,3]", "axes=[0,1]", "f32[]", {"1 2 3 4 5 6"}, "21"},
    {"sum", "i32[2]", "axes=[0]", "i32[]", {"2147483647 2"}, "-2147483647"},
    {"sum", "f32[2,0]", "axes=[1]", "f32[2]", {""}, "0 0"},
    {"sum", "f32[18]", "axes=[0]", "f32[]", {"1e30 0 0 0 0 0 0 0 1 0 0 0 0 0 0 0 -1e30 0"}, "1"},
    {"max", "f32[2,3]", "axes=[0]", "f32[3]", {"1 9 3 4 5 6"}, "4 9 6"},
    {"max", "f32[0]", "axes=[0]", "f32[]", {""}, "-inf"},
    {"max", "f32[2,3]", "axes=[1]", "f32[2]", {"1 nan 3 4 5 6"}, "nan 6"},
    {"argmax", "f32[2,3]", "axis=1", "i32[2]", {"1 9 9 4 3 2"}, "1 0"},
    {"argmax", "f32[3,3]", "axis=1", "i32[3]", {"nan 1 2 5 nan nan -inf -inf -inf"}, "0 1 0"},
    {"scatter_add", "i32[4] f32[4,2]", "rows=2", "f32[2,2]", {"1 0 1 7", "1 2 3 4 5 6 7 8"}, "3 4 6 8"},
    {"ring_write", "f32[3,2] i32[2] f32[2,2]", "", "f32[3,2]", {"1 2 3 4 5 6", "2 0", "7 7 8 8"}, "8 8 3 4 7 7"},
    {"matmul", "f32[2,3] f32[3,2]", "trans_a=0, trans_b=0", "f32[2,2]", {"1 2 3 4 5 6", "1 0 0 1 1 1"}, "4 5 10 11"},
    {"matmul", "f32[3,2] f32[2,3]", "trans_a=1, trans_b=1", "f32[2,2]", {"1 4 2 5 3 6", "1 0 1 0 1 1"}, "4 5 10 11"},
    {"matmul", "f32[B,1,2] f32[2,1]", "trans_a=0, trans_b=0", "f32[B,1,1]", {"1 2 3 4", "1 10"}, "21 43"},
    {"matmul", "f32[2,1,2] f32[2,1,2]", "trans_a=0, trans_b=1", "f32[2,1,1]", {"1 2 3 4", "1 10 1 1"}, "21 7"},
    {"matmul", "f32[2,0] f32[0,1]", "trans_a=0, trans_b=0", "f32[2,1]", {"", ""}, "0 0"},
    {"conv2d",
     "f32[1,3,3,1] f32[2,2,1,1]",
     "stride=1, kh=0, kw=0",
     "f32[1,2,2,1]",
     {"1 2 3 4 5 6 7 8 9", "1 10 100 1000"},
     "5421 6532 8754 9865"},
    {"conv2d",
     "f32[B,2,2,2] f32[1,1,2,1]",
     "stride=2, kh=0, kw=0",
     "f32[B,1,1,1]",
     {"1 2 3 4 5 6 7 8 9 8 7 6 5 4 3 2", "1 10"},
     "21 89"},
    {"conv2d_grad_w",
     "f32[1,3,3,1] f32[1,2,2,1]",
     "stride=1, kh=2, kw=2",
     "f32[2,2,1,1]",
     {"1 2 3 4 5 6 7 8 9", "1 10 100 1000"},
     "5421 6532 8754 9865"},
    {"attend", TOK " " TOK " " TOK, FULL(GRID2), TOK, {"1 2", "0 " LN3, "1 5"}, "4 4.6"},
    {"attend", TOK " " TOK " " TOK, NEAR "query_grid=[1,1,2], key_grid=[1,1,2]", TOK, {"0 0", "3 4", "1 5"}, "3 3"},
    {"attend",
     "f32[1,1,2,2] f32[1,1,1,2] f32[1,1,1,4]",
     "heads=2, kv_heads=2, scale=1, kind=nearby, lo=[0,0,-2], hi=[0,0,-1], block=[0,0,0], edge=clip, causal=none, query_grid=[1,1,2], "
     "key_grid=[1,1,1]",
     "f32[1,1,2,4]",
     {"1 1 1 1", "2 2", "1 2 3 4"},
     "0 0 0 0 0 0 0 0"},
    {"attend", TOK " " TOK " " TOK " u8[1,1,2]", FULL(GRID2), TOK, {"1 2", "0 " LN3, "1 5", "0 1"}, "5 5"},
    {"attend", TOK " " TOK " " TOK " u8[1,1,2]", FULL(GRID2), TOK, {"1 2", "nan 0", "inf 5", "0 9"}, "5 5"},
    {"attend", TOK " " TOK " " TOK " u8[1,1,2]", FULL(GRID2), TOK, {"1 2", "0 0", "1 5", "0 0"}, "0 0"},
    {"attend", "f32[1,1,2,2] " TOK " " TOK, FULL_OF("heads=2, kv_heads=1, scale=1", GRID2), "f32[1,1,2,2]", {"1 2 2 1", "0 " LN3, "1 5"}, "4 4.6 4.6 4"},
    {"attend_lse", TOK " " TOK, FULL(GRID2), TOK, {"1 2", "0 " LN3}, "1.3862943611198906 2.302585092994046"},
    {"attend_lse", TOK " " TOK, FULL_OF("heads=1, kv_heads=1, scale=-4", GRID2), TOK, {"-0.25 -0.5", "0 " LN3}, "1.3862943611198906 2.302585092994046"},
    {"mean", "f32[2,2]", "axes=[1]", "f32[2]", {"1 2 3 5"}, "1.5 4"},
    {"sigmoid", X2, "", X2, {"0 1"}, "0.5 0.7310585786300049"},
    {"sigmoid", "f32[4]", "", "f32[4]", {"-40 -745 nan -inf"}, "4.2483542552915889e-18 5e-324 nan 0"},
    {"silu", X2, "", X2, {"0 1"}, "0 0.7310585786300049"},
    {"gelu", X2, "", X2, {"0 1"}, "0 0.8413447460685429"},
    {"gelu", X2, "", X2, {"-9 -20"}, "-1.0157295653584566e-18 -5.507248237212467e-88"},
    {"relu", "f32[3]", "", "f32[3]", {"-1 2 nan"}, "0 2 nan"},
    {"softmax", "f32[2,2]", "", "f32[2,2]", {"0 " LN3 " 1000 1000"}, "0.25 0.75 0.5 0.5"},
    {"log_softmax", X2, "", X2, {"0 " LN3}, "-1.3862943611198906 -0.2876820724517809"},
    {"layer_norm", "f32[2,2] " X2 " " X2, "eps=0, groups=0", "f32[2,2]", {"1 3 10 20", "2 3", "0 1"}, "-2 4 -2 4"},
    {"group_norm",
     "f32[1,1,2,2] " X2 " " X2,
     "eps=0, groups=1",
     "f32[1,1,2,2]",
     {"1 1 3 3", "1 2", "0 1"},
     "-1 -1 1 3"},
    {"group_norm",
     "f32[1,1,2,2] " X2 " " X2,
     "eps=0, groups=2",
     "f32[1,1,2,2]",
     {"1 5 3 9", "1 2", "0 1"},
     "-1 -1 1 3"},
    {"cross_entropy",
     "f32[2,2] i32[2]",
     "",
     X2,
     {"0 " LN3 " 0 " LN3, "0 1"},
     "1.3862943611198906 0.2876820724517809"},
};

typedef struct Bench {
  const OpCase *c;
  const Func *f;
  Tensor in[6];
  Arena *arena;
  Tensor want;
} Bench;

static const Tensor *leaf_of(void *ctx, const Node *leaf, Error *err) {
  Bench *b = ctx;
  return &b->in[leaf->attrs.leaf.name[0] - 'a'];
}

static Tensor tensor_of(Arena *a, const Type *t) {
  int64_t dim[MAX_RANK];
  for (int i = 0; i < t->rank; i++) dim[i] = dim_value(t->dim[i], B, R);
  return tensor_new(a, t->dtype, t->rank, dim);
}

static void make_tensors(void *ctx) {
  Bench *b = ctx;
  for (int i = 0; i < b->f->n_in; i++) {
    b->in[i] = tensor_of(b->arena, &b->f->in[i].node->type);
    EXPECT(case_values(b->c->in[i], &b->in[i]), "%s: operand %d of the test has the wrong size", b->c->op, i);
  }
  b->want = tensor_of(b->arena, &b->f->out[0].node->type);
  EXPECT(case_values(b->c->want, &b->want), "%s: the result of the test has the wrong size", b->c->op);
}

static void run_case(const OpCase *c, const Func *f) {
  Error err = {0};
  Bench b = {.c = c, .f = f, .arena = arena_new()};
  arena_protect(b.arena, make_tensors, &b, &err);
  Tensor out;
  bool ok = interp_run(f, B, R, leaf_of, &b, b.arena, &out, NULL, &err);
  EXPECT(ok, "%s: %s", c->op, err.text);
  for (int64_t i = 0; ok && i < tensor_elems(&b.want); i++)
    EXPECT(case_near(out.data[i], b.want.data[i], 1e-14), "%s: element %d is %.17g, want %.17g", c->op, (int)i,
           out.data[i], b.want.data[i]);
  arena_free(b.arena);
}

/* One function of text; NULL with a failed expectation. */
static Func *parse_one(Graph *g, const char *text) {
  Func **f;
  int n;
  bool ok = ir_parse(g, "test.ir", text, &f, &n);
  EXPECT(ok && n == 1, "%s\n%s", g->err->text, text);
  return ok ? f[0] : NULL;
}

TEST("every op computes what its definition says, and its text reads back exactly") {
  for (int i = 0; i < COUNT_OF(cases); i++) {
    const OpCase *c = &cases[i];
    Error err = {0};
    Graph *g = graph_new(&err);
    char text[2000];
    case_text(text, sizeof text, c->op, c->types, c->attrs, c->result);
    Func *f = parse_one(g, text);
    if (f) {
      Buffer printed = {0};
      func_print(f, &printed);
      EXPECT_TEXT(printed.data, text);
      buffer_done(&printed);
      EXPECT(func_verify(f, FORM_ANY, "parsing", &err), "%s", err.text);
      run_case(c, f);
    }
    graph_free(g);
  }
}

TEST("no op is left out of the table above, or is tested elsewhere") {
  static const char *const elsewhere[] = {"input", "param", "state",                       /* text_test.c */
                                          "attend_grad_q", "attend_grad_k", "attend_grad_v", /* attend_test.c */
                                          "attend_rows", "grad" /* grad_test.c */};
  for (int op = 0; op < OP_COUNT; op++) {
    bool found = false;
    for (int i = 0; i < COUNT_OF(cases); i++) found = found || strcmp(cases[i].op, op_info[op].text) == 0;
    for (int i = 0; i < COUNT_OF(elsewhere); i++) found = found || strcmp(elsewhere[i], op_info[op].text) == 0;
    EXPECT(found, "%s has no case", op_info[op].text);
  }
}

/* ---- what shape rules refuse ---- */

typedef struct Refusal {
  const char *op, *types, *attrs, *result, *part;
} Refusal;

#define Q "f32[1,2,2,8]"
#define ATTN(heads, kind, lo, hi, block, causal) \
  "heads=" heads ", kind=" kind ", lo=" lo ", hi=" hi ", block=" block ", causal=" causal
#define PLAIN ATTN("2", "full", "[0,0,0]", "[0,0,0]", "[0,0,0]", "none")
#define LSE "f32[1,2,2,2]"

static const Refusal refusals[] = {
    {"fill", "", "value=0.5", "i32[2]", "fill: the value is no number of the type (0.5 as i32)"},
    {"fill", "", "value=256", "u8[2]", "256 as u8"},
    {"fill", "", "value=0", "f32[B,B]", "f32[B,B] is not affine in B and R"},
    {"fill", "", "value=0", "f32[-1]", "axis 0: -1"},
    {"iota", "", "axis=2", "i32[2,3]", "axis 2 of rank 2"},
    {"iota", "", "axis=0", "f32[2]", "needs i32"},
    {"param", "", "name=\"\"", "f32[2]", "needs a name"},
    {"param", "", "name=\"w\", init=normal, scale=-1", "f32[2]", "not negative (-1)"},
    {"param", "", "name=\"w\", init=normal, scale=1", "i32[2]", "randomly"},
    {"param", "", "name=\"w\", init=zeros", "f32[B]", "constant shape"},
    {"state", "", "", "f32[2]", "needs a name"},
    {"exp", "i32[2]", "", "i32[2]", "exp: wrong element type: i32[2] (operand 0 needs f32 or bf16, has i32)"},
    {"add", "f32[8,16] f32[8,12]", "", "f32[8,16]", "sizes differ: f32[8,16] x f32[8,12] (axis 1: 16 vs 12)"},
    {"add", "f32[B,2] f32[R,2]", "", "f32[B,2]", "axis 0: B vs R"},
    {"add", "f32[2] i32[2]", "", "f32[2]", "f32 vs i32"},
    {"add", "f32[2] f32[2,1]", "", "f32[2]", "ranks differ: f32[2] x f32[2,1] (1 vs 2)"},
    {"add", "f32[2]", "", "f32[2]", "add: needs 2 operands, has 1"},
    {"concat", "", "axis=0", "f32[2]", "at least one operand"},
    {"mod", "f32[2] f32[2]", "", "f32[2]", "needs i32 or u8, has f32"},
    {"select", "f32[2] f32[2] f32[2]", "", "f32[2]", "operand 0 needs u8"},
    {"select", "u8[3] f32[2] f32[2]", "", "f32[2]", "axis 0: 3 vs 2"},
    {"neg", "f32[2]", "", "f32[3]", "the result is f32[2], the text says f32[3]"},
    {"reshape", "f32[2,3]", "", "f32[7]", "reshape: the number of elements changes: f32[2,3] (to f32[7]: 6 vs 7)"},
    {"transpose", "f32[2,3]", "perm=[0,0]", "f32[2,2]", "entry 1 is 0"},
    {"broadcast", "f32[2]", "", "f32[2,3]", "to f32[2,3], axis 1: 2 vs 3"},
    {"broadcast", "f32[2,2]", "", "f32[2]", "lower rank"},
    {"slice", "f32[6]", "start=[2], stop=[7], step=[1]", "f32[5]", "axis 0: 2 to 7 of 6"},
    {"slice", "f32[6]", "start=[4], stop=[2], step=[1]", "f32[5]", "axis 0: 4 to 2 of 6"},
    {"slice", "f32[6]", "start=[0], stop=[6], step=[0]", "f32[6]", "step must be at least 1"},
    {"slice", "f32[B]", "start=[0], stop=[B], step=[2]", "f32[B]", "not affine"},
    {"slice", "f32[B]", "start=[0], stop=[2], step=[1]", "f32[2]", "0 to 2 of B"},
    {"pad", "f32[2]", "lo=[-1], hi=[0], interior=[0]", "f32[1]", "axis 0: -1, 0, interior 0"},
    {"pad", "u8[2]", "lo=[1], hi=[0], interior=[0], value=-1", "u8[3]", "-1 as u8"},
    {"reverse", "f32[2]", "axes=[1]", "f32[2]", "axis 1 of rank 1"},
    {"concat", "f32[2,1] f32[3,1]", "axis=1", "f32[2,2]", "axis 0: 2 vs 3"},
    {"gather", "f32[3,2] f32[4]", "", "f32[4,2]", "operand 1 needs i32"},
    {"gather", "f32[0,2] i32[4]", "", "f32[4,2]", "nothing to gather from"},
    {"shift", "f32[1,2,2,3] f32[2]", "delta=[0,0,-1]", "f32[1,2,2,3]",
     "axis 3 of operand 0 vs axis 0 of operand 1: 3 vs 2"},
    {"shift", "f32[1,2,2,3] f32[3]", "delta=[0,0,-1], raster=1", "f32[1,2,2,3]", "axis w: -1"},
    {"shift", "f32[2,2,3] f32[3]", "", "f32[2,2,3]", "needs rank 4 to 5, has 3"},
    {"sum", "f32[2]", "axes=[]", "f32[2]", "at least one axis"},
    {"sum", "u8[2]", "axes=[0]", "u8[]", "cast it first"},
    {"mean", "i32[2]", "axes=[0]", "i32[]", "needs f32 or bf16"},
    {"max", "f32[2]", "axes=[3]", "f32[]", "axis 3 of rank 1"},
    {"argmax", "f32[2,0]", "axis=1", "i32[2]", "nothing to choose from"},
    {"scatter_add", "i32[4] f32[3,2]", "rows=2", "f32[2,2]", "axis 0: 4 vs 3"},
    {"scatter_add", "i32[4] f32[4]", "rows=0", "f32[0]", "rows 0"},
    {"ring_write", "f32[3,2] i32[2] f32[2,3]", "", "f32[3,2]", "axis 1: 2 vs 3"},
    {"ring_write", "f32[3,2] i32[1] f32[2,2]", "", "f32[3,2]", "1 vs 2"},
    {"matmul", "f32[8,197,768] f32[512,768]", "", "f32[8,197,768]",
     "matmul: inner sizes differ: f32[8,197,768] x f32[512,768] (768 vs 512)"},
    {"matmul", "f32[2,4,4] f32[3,4,4]", "", "f32[2,4,4]", "axis 0: 2 vs 3"},
    {"matmul", "f32[4,4] f32[2,4,4]", "", "f32[4,4]", "operand 1 needs rank 2"},
    {"matmul", "i32[4,4] i32[4,4]", "", "i32[4,4]", "needs f32 or bf16"},
    {"conv2d", "f32[1,2,2,1] f32[3,3,1,1]", "stride=1", "f32[1,1,1,1]", "axis h: kernel 3 on 2"},
    {"conv2d", "f32[1,2,2,3] f32[1,1,2,1]", "stride=1", "f32[1,2,2,1]", "3 vs 2"},
    {"conv2d", "f32[1,2,2,3] f32[1,1,3,1]", "stride=0", "f32[1,2,2,1]", "stride 0"},
    {"conv2d_grad_w", "f32[1,3,3,1] f32[1,1,2,1]", "stride=1, kh=2, kw=2", "f32[2,2,1,1]", "axis 1: 1 vs 2"},
    {"softmax", "f32[]", "", "f32[]", "operand 0 needs rank 1 to 8, has 0"},
    {"layer_norm", "f32[2,3] f32[2] f32[3]", "eps=1e-5", "f32[2,3]", "3 vs 2"},
    {"layer_norm", "f32[2,3] f32[3] f32[3]", "eps=-1", "f32[2,3]", "eps"},
    {"group_norm", "f32[1,2,2,6] f32[6] f32[6]", "eps=0, groups=4", "f32[1,2,2,6]", "4 groups, 6 channels"},
    {"cross_entropy", "f32[2,3] i32[3]", "", "f32[2]", "axis 0: 2 vs 3"},
    {"cross_entropy", "f32[2,3] f32[2]", "", "f32[2]", "operand 1 needs i32"},
    {"attend", Q " " Q " " Q, ATTN("3", "full", "[0,0,0]", "[0,0,0]", "[0,0,0]", "none"), Q, "width 8, 3 heads"},
    {"attend", Q " f32[1,2,3,8] " Q, PLAIN, Q, "axis 2: 3 vs 2"},
    {"attend", Q " f32[1,2,2,4] f32[1,2,2,4]", PLAIN, Q, "heads of queries and keys differ in width: f32[1,2,2,8] x f32[1,2,2,4] x f32[1,2,2,4] (2 of 4 vs 2 of 2)"},
    {"attend", Q " f32[1,2,2,4] " Q, PLAIN ", kv_heads=-1", Q, "kv_heads must divide heads"},
    {"attend", Q " f32[1,2,2,4] f32[1,2,2,4] u8[1,2,3]", PLAIN ", kv_heads=1", Q, "axis 2: 2 vs 3"},
    {"attend", Q " " Q " " Q " u8[1,2]", PLAIN, Q, "operand 3 needs rank 3, has 2"},
    {"attend", Q " " Q " " Q " i32[1,2,2]", PLAIN, Q, "wrong number of operands: f32[1,2,2,8] x f32[1,2,2,8] x f32[1,2,2,8] x i32[1,2,2] (needs 3 and perhaps a u8 mask)"},
    {"attend", Q " f32[1,2,3,8] f32[1,2,3,8]", ATTN("2", "full", "[0,0,0]", "[0,0,0]", "[0,0,0]", "raster"), Q,
     "causal needs equal grids: f32[1,2,2,8] x f32[1,2,3,8] x f32[1,2,3,8] (axis w: 2 vs 3)"},
    {"attend", Q " " Q " " Q, ATTN("2", "nearby", "[0,1,0]", "[0,0,0]", "[0,0,0]", "none"), Q, "axis h: lo 1 > hi 0"},
    {"attend", Q " " Q " " Q, ATTN("2", "block", "[0,0,0]", "[0,0,0]", "[1,1,0]", "none"), Q, "axis w: 0"},
    {"attend", Q " " Q " " Q, PLAIN ", query_grid=[1,2,3]", Q, "axis w: 3 vs 2"},
    {"attend", "f32[B,1,2,2,8] f32[2,1,2,2,8] f32[2,1,2,2,8]", PLAIN, Q, "axis 0: B vs 2"},
    {"attend", "f32[1,B,2,8] f32[1,B,2,8] f32[1,B,2,8]", PLAIN, Q, "axis h: B"},
    {"attend", Q " " Q " " Q, PLAIN ", scale=1e39", Q, "the scale of scores must be a finite f32, not 0"},
    {"attend", Q " " Q " " Q, PLAIN ", scale=1e-50", Q, "the scale of scores must be a finite f32, not 0"},
    {"attend_lse", Q " f32[2,2,8]", PLAIN, LSE, "operand 1 needs rank 4"},
    {"attend_grad_q", Q " " Q " " Q " f32[1,2,2,4] " LSE " " LSE, PLAIN, Q, "axis 3 of operand 3: 4 vs 8"},
    {"attend_grad_k", Q " " Q " " Q " " Q " f32[1,2,2,3] " LSE, PLAIN, Q, "operand 4: 3 vs 2 heads"},
    {"attend_grad_v", Q " " Q " f32[1,1,2,8] " LSE, PLAIN, Q, "axis 1: 2 vs 1"},
    {"attend_rows", "f32[R,8] i32[R,2] f32[B,1,2,2,8]", PLAIN, "f32[R,8]", "needs 4 or 5 and perhaps a u8 mask"},
    {"attend_rows", "f32[R,8] i32[R,3] f32[B,1,2,2,8] f32[B,1,2,2,8]", PLAIN, "f32[R,8]",
     "pairs of sample and position"},
    {"attend_rows", "f32[R,8] i32[R,2] f32[B,1,2,2,8] f32[B,1,2,2,8]", PLAIN, "f32[R,8]", "queries' grid"},
    {"attend_rows", "f32[R,8] i32[R,2] f32[3,B,8] f32[3,B,8] i32[3]", PLAIN ", key_grid=[1,2,2]", "f32[R,8]",
     "3 vs 4"},
    {"attend_rows", "f32[R,8] i32[R,2] f32[3,B,8] f32[3,B,8] i32[4] u8[B,1,2,3]", PLAIN ", key_grid=[1,2,2]", "f32[R,8]",
     "the mask needs a byte for every position"},
};

TEST("shape rules refuse what does not fit, and say what and where") {
  for (int i = 0; i < COUNT_OF(refusals); i++) {
    const Refusal *r = &refusals[i];
    Error err = {0};
    Graph *g = graph_new(&err);
    char text[2000];
    Func **f;
    int n;
    case_text(text, sizeof text, r->op, r->types, r->attrs, r->result);
    EXPECT(!ir_parse(g, "m.lua", text, &f, &n), "accepted:\n%s", text);
    EXPECT(err.code == ERROR_MODEL);
    EXPECT_HAS(err.text, r->part);
    EXPECT_HAS(err.text, "m.lua:");
    graph_free(g);
  }
}

TEST_MAIN()
