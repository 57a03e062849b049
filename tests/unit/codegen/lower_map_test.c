/* MAP groups: every elementwise op and index map on awkward shapes, alone and fused. */
#include "tests/unit/codegen/lower_check.h"

typedef struct Size {
  int64_t B, R;
} Size;
static const Size sizes[] = {{1, 1}, {2, 3}, {5, 17}};

static const char *const shapes[] = {"[]",    "[1]",      "[17]", "[33]",  "[0]",     "[4,0]",
                                     "[5,7]", "[3,1,16]", "[B]",  "[B,3]", "[R,13,2]"};

static void op_on(const char *op, const char *dtype, int arity, const char *attrs, const char *result,
                  const char *shape) {
  char types[300] = "", text[700], out[100];
  for (int i = 0; i < arity; i++)
    snprintf(types + strlen(types), sizeof types - strlen(types), "%s%s%s", i ? " " : "", dtype, shape);
  snprintf(out, sizeof out, "%s%s", result, shape);
  case_text(text, sizeof text, op, types, attrs, out);
  bool symbolic = strpbrk(shape, "BR"), compile = !strcmp(shape, "[B,3]");
  for (int s = 0; s < (symbolic ? COUNT_OF(sizes) : 1); s++)
    check_run(&(Check){.family = FAMILY_MAP,
                       .text = text,
                       .B = sizes[s].B,
                       .R = sizes[s].R,
                       .interpret_only = !compile || s < COUNT_OF(sizes) - 1});
}

static void op_everywhere(const char *op, const char *dtype, int arity, const char *attrs, const char *result) {
  for (int i = 0; i < COUNT_OF(shapes); i++) op_on(op, dtype, arity, attrs, result, shapes[i]);
}

TEST("elementwise ops on floats agree with the interpreter on every shape") {
  static const char *const one[] = {"neg", "abs", "exp", "tanh", "erf", "sin", "cos", "floor", "detach"};
  static const char *const two[] = {"add", "sub", "mul", "maximum", "minimum"};
  for (int i = 0; i < COUNT_OF(one); i++) op_everywhere(one[i], "f32", 1, "", "f32");
  for (int i = 0; i < COUNT_OF(two); i++) op_everywhere(two[i], "f32", 2, "", "f32");
  op_everywhere("fma", "f32", 3, "", "f32");
  op_everywhere("cast", "f32", 1, "dtype=i32", "i32");
  op_everywhere("cast", "f32", 1, "dtype=u8", "u8");
  op_everywhere("lt", "f32", 2, "", "u8");
  op_everywhere("le", "f32", 2, "", "u8");
  op_everywhere("eq", "f32", 2, "", "u8");
}

TEST("elementwise ops on integers agree exactly: wrapping, rounding down, division by zero") {
  static const char *const ops[] = {"add", "sub", "mul", "div", "mod", "maximum", "minimum"};
  static const char *const dtypes[] = {"i32", "u8"};
  for (int d = 0; d < 2; d++) {
    for (int i = 0; i < COUNT_OF(ops); i++) op_everywhere(ops[i], dtypes[d], 2, "", dtypes[d]);
    op_everywhere("neg", dtypes[d], 1, "", dtypes[d]);
    op_everywhere("abs", dtypes[d], 1, "", dtypes[d]);
    op_everywhere("lt", dtypes[d], 2, "", "u8");
    op_everywhere("le", dtypes[d], 2, "", "u8");
    op_everywhere("eq", dtypes[d], 2, "", "u8");
    op_everywhere("cast", dtypes[d], 1, "dtype=f32", "f32");
    op_everywhere("cast", dtypes[d], 1, d ? "dtype=i32" : "dtype=u8", d ? "i32" : "u8");
  }
}

TEST("functions of positive numbers, select, fill and iota agree with the interpreter") {
  static const char *const positive =
      "func @f(%p: f32[B,21], %x: f32[B,21], %u: u8[B,21]) {\n"
      "  %1 = log(%p) : f32[B,21]\n  %2 = sqrt(%p) : f32[B,21]\n  %3 = div(%x, %p) : f32[B,21]\n"
      "  %4 = select(%u, %x, %p) : f32[B,21]\n  %5 = fill() {value=2.5} : f32[B,21]\n  %6 = iota() {axis=0} : "
      "i32[B,21]\n"
      "  %7 = iota() {axis=1} : i32[B,21]\n  return a = %1, b = %2, c = %3, d = %4, e = %5, f = %6, g = %7\n}\n";
  for (int s = 0; s < COUNT_OF(sizes); s++) check(FAMILY_MAP, positive, sizes[s].B, sizes[s].R);
}

typedef struct MoveCase {
  const char *op, *types, *attrs, *result;
} MoveCase;

static const MoveCase moves[] = {
    {"reshape", "f32[6,35]", "", "f32[5,2,21]"},
    {"reshape", "f32[B,4,9]", "", "f32[36B]"},
    {"reshape", "f32[36B]", "", "f32[B,3,12]"},
    {"reshape", "f32[1,1,7]", "", "f32[7,1]"},
    {"transpose", "f32[5,7]", "perm=[1,0]", "f32[7,5]"},
    {"transpose", "f32[B,3,17,4]", "perm=[0,2,1,3]", "f32[B,17,3,4]"},
    {"transpose", "f32[B,3,17]", "perm=[1,0,2]", "f32[3,B,17]"},
    {"transpose", "f32[B,3,17]", "perm=[2,1,0]", "f32[17,3,B]"},
    {"transpose", "f32[R,2,40]", "perm=[1,2,0]", "f32[2,40,R]"},
    {"transpose", "u8[3,20]", "perm=[1,0]", "u8[20,3]"},
    {"broadcast", "f32[]", "", "f32[3,7]"},
    {"broadcast", "f32[7]", "", "f32[B,3,7]"},
    {"broadcast", "f32[3,1]", "", "f32[B,3,19]"},
    {"broadcast", "f32[B,1,1]", "", "f32[B,3,5]"},
    {"broadcast", "i32[1,17,1]", "", "i32[2,17,3]"},
    {"slice", "f32[9,40]", "start=[1,3], stop=[8,37], step=[2,1]", "f32[4,34]"},
    {"slice", "f32[9,40]", "start=[0,1], stop=[9,40], step=[1,3]", "f32[9,13]"},
    {"slice", "f32[B,20]", "start=[0,5], stop=[B,5], step=[1,1]", "f32[B,0]"},
    {"slice", "f32[2B,20]", "start=[B,4], stop=[2B,20], step=[1,1]", "f32[B,16]"},
    {"pad", "f32[3,20]", "lo=[1,2], hi=[2,0], interior=[0,0], value=1.5", "f32[6,22]"},
    {"pad", "f32[3,20]", "lo=[0,1], hi=[0,4], interior=[1,2], value=-1", "f32[5,63]"},
    {"pad", "f32[B,4,5,17]", "lo=[0,1,1,0], hi=[0,1,1,0], interior=[0,0,0,0], value=0", "f32[B,6,7,17]"},
    {"pad", "f32[B,4,5,3]", "lo=[0,0,0,0], hi=[0,1,1,0], interior=[0,1,1,0], value=0", "f32[B,8,10,3]"},
    {"pad", "f32[0,5]", "lo=[2,0], hi=[1,0], interior=[0,0], value=7", "f32[3,5]"},
    {"pad", "i32[B,5]", "lo=[B,0], hi=[0,0], interior=[0,0], value=7", "i32[2B,5]"},
    {"pad", "f32[1]", "lo=[0], hi=[0], interior=[3], value=7", "f32[1]"},
    {"reverse", "f32[B,3,19]", "axes=[2]", "f32[B,3,19]"},
    {"reverse", "f32[B,3,19]", "axes=[0,1]", "f32[B,3,19]"},
    {"concat", "f32[3,5] f32[3,20] f32[3,1]", "axis=1", "f32[3,26]"},
    {"concat", "f32[3,16] f32[3,32]", "axis=1", "f32[3,48]"},
    {"concat", "f32[B,5] f32[2B,5] f32[3,5]", "axis=0", "f32[3B+3,5]"},
    {"concat", "f32[B,0] f32[B,5]", "axis=1", "f32[B,5]"},
    {"gather", "f32[9,20] i32[B,3]", "", "f32[B,3,20]"},
    {"gather", "f32[9] i32[B,19]", "", "f32[B,19]"},
    {"gather", "f32[B,3] i32[R]", "", "f32[R,3]"},
    {"gather", "i32[12,2] i32[]", "", "i32[2]"},
    {"shift", "f32[B,3,4,5,18] f32[18]", "delta=[0,0,-1], raster=0", "f32[B,3,4,5,18]"},
    {"shift", "f32[B,3,4,5,2] f32[2]", "delta=[-1,1,0], raster=0", "f32[B,3,4,5,2]"},
    {"shift", "f32[3,4,5,2] f32[2]", "delta=[1,-1,-2], raster=0", "f32[3,4,5,2]"},
    {"shift", "f32[B,3,4,5,20] f32[20]", "delta=[0,0,0], raster=1", "f32[B,3,4,5,20]"},
    {"shift", "f32[3,4,5,1] f32[1]", "delta=[0,0,0], raster=1", "f32[3,4,5,1]"},
    {"shift", "f32[B,1,1,1,3] f32[3]", "delta=[0,0,-1], raster=0", "f32[B,1,1,1,3]"},
};

TEST("every index map agrees with the interpreter and stays inside its operands") {
  char text[900];
  for (int i = 0; i < COUNT_OF(moves); i++) {
    const MoveCase *m = &moves[i];
    case_text(text, sizeof text, m->op, m->types, m->attrs, m->result);
    bool symbolic = strpbrk(m->types, "BR") || strpbrk(m->result, "BR");
    int n = symbolic ? COUNT_OF(sizes) : 1;
    for (int s = 0; s < n; s++)
      check_run(&(Check){
          .family = FAMILY_MAP, .text = text, .B = sizes[s].B, .R = sizes[s].R, .interpret_only = s < n - 1});
  }
}

static const char *const fused[] = {
    /* bias and gelu */
    "func @f(%x: f32[B,5,64], %b: f32[64]) {\n  %1 = broadcast(%b) : f32[B,5,64]\n  %2 = add(%x, %1) : f32[B,5,64]\n"
    "  %3 = fill() {value=0.7071067811865476} : f32[B,5,64]\n  %4 = mul(%2, %3) : f32[B,5,64]\n  %5 = erf(%4) : "
    "f32[B,5,64]\n"
    "  %6 = fill() {value=1} : f32[B,5,64]\n  %7 = add(%5, %6) : f32[B,5,64]\n  %8 = mul(%2, %7) : f32[B,5,64]\n"
    "  return y = %8\n}\n",
    /* up-sampling by two through reshape and broadcast, then padding */
    "func @f(%x: f32[B,3,4,20]) {\n  %1 = reshape(%x) : f32[B,3,1,4,1,20]\n  %2 = broadcast(%1) : f32[B,3,2,4,2,20]\n"
    "  %3 = reshape(%2) : f32[B,6,8,20]\n"
    "  %4 = pad(%3) {lo=[0,1,1,0], hi=[0,1,1,0], interior=[0,0,0,0], value=0} : f32[B,8,10,20]\n  return y = %4\n}\n",
    /* heads split and moved, then merged with another tensor through pad and concat */
    "func @f(%x: f32[B,6,24], %y: f32[B,3,6,2]) {\n  %1 = reshape(%x) : f32[B,6,3,8]\n"
    "  %2 = transpose(%1) {perm=[0,2,1,3]} : f32[B,3,6,8]\n  %3 = concat(%2, %y) {axis=3} : f32[B,3,6,10]\n"
    "  %4 = exp(%3) : f32[B,3,6,10]\n  %5 = reverse(%4) {axes=[3]} : f32[B,3,6,10]\n  return y = %5\n}\n",
    /* position tables of a decoder: shift of an embedding lookup plus broadcast tables */
    "func @f(%t: i32[B,2,3,4], %e: f32[11,18], %s: f32[18], %ph: f32[3,1,18], %pw: f32[4,18]) {\n"
    "  %1 = gather(%e, %t) : f32[B,2,3,4,18]\n  %2 = shift(%1, %s) {delta=[0,0,-1], raster=0} : f32[B,2,3,4,18]\n"
    "  %3 = broadcast(%ph) : f32[B,2,3,4,18]\n  %4 = broadcast(%pw) : f32[B,2,3,4,18]\n  %5 = add(%2, %3) : "
    "f32[B,2,3,4,18]\n"
    "  %6 = add(%5, %4) : f32[B,2,3,4,18]\n  %7 = shift(%6, %s) {delta=[0,0,0], raster=1} : f32[B,2,3,4,18]\n"
    "  return y = %7\n}\n",
    /* a pad inside a pad on the lanes' axis, over a broadcast operand */
    "func @f(%x: f32[5,1], %y: f32[9]) {\n  %1 = broadcast(%x) : f32[5,9]\n  %2 = pad(%1) {lo=[1,2], hi=[0,3], "
    "interior=[0,1], value=2} "
    ": f32[6,22]\n  %3 = exp(%2) : f32[6,22]\n  %4 = pad(%3) {lo=[0,1], hi=[2,0], interior=[1,0], value=3} : "
    "f32[13,23]\n"
    "  return y = %4\n}\n",
    /* one-hot rows, by comparison with an iota */
    "func @f(%t: i32[B,3]) {\n  %1 = reshape(%t) : i32[B,3,1]\n  %2 = broadcast(%1) : i32[B,3,19]\n  %3 = iota() "
    "{axis=2} : i32[B,3,19]\n"
    "  %4 = eq(%2, %3) : u8[B,3,19]\n  %5 = cast(%4) {dtype=f32} : f32[B,3,19]\n  return y = %5\n}\n",
};

TEST("fused chains agree with the interpreter") {
  for (int i = 0; i < COUNT_OF(fused); i++)
    for (int s = 0; s < COUNT_OF(sizes); s++) check(FAMILY_MAP, fused[i], sizes[s].B, sizes[s].R);
}

TEST("results may lie over operands that are read only at the written element") {
  static const char *const adam =
      "func @f(%g: f32[B,21], %m: f32[B,21], %p: f32[B,21]) {\n  %1 = fill() {value=0.9} : f32[B,21]\n"
      "  %2 = mul(%m, %1) : f32[B,21]\n  %3 = add(%2, %g) : f32[B,21]\n  %4 = sub(%p, %3) : f32[B,21]\n"
      "  return m = %3, p = %4\n}\n";
  for (int s = 0; s < COUNT_OF(sizes); s++)
    check_run(
        &(Check){.family = FAMILY_MAP, .text = adam, .B = sizes[s].B, .R = 1, .in_place = 1 << 1 | 1 << (8 + 2)});
}

TEST_MAIN()
