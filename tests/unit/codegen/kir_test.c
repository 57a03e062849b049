/* Kernel IR: building, folding, printing, checking, and its interpreter. */
#include <math.h>

#include "codegen/kir/build.h"
#include "tests/test.h"
#include "tests/unit/codegen/random_kernel.h"

typedef struct Fix {
  Arena *a;
  Kernel *k;
  int x, y;
} Fix;

static Fix fix_new(void) {
  Fix f = {.a = arena_new()};
  f.k = kir_new(f.a, "t");
  f.x = kir_arg(f.k, "x", DTYPE_F32, false);
  f.y = kir_arg(f.k, "y", DTYPE_F32, true);
  return f;
}

TEST("constants fold, and equal values are one") {
  Fix f = fix_new();
  Kernel *k = f.k;
  EXPECT(add(k, kir_f32(k, 1), kir_f32(k, 2)) == kir_f32(k, 3));
  EXPECT(add(k, kir_i32(k, INT32_MAX), kir_i32(k, 1)) == kir_i32(k, INT32_MIN));
  EXPECT(kir_bin(k, KOP_DIV, kir_i64(k, -7), kir_i64(k, 2)) == kir_i64(k, -4));
  EXPECT(kir_bin(k, KOP_MOD, kir_i64(k, -7), kir_i64(k, 2)) == kir_i64(k, 1));
  EXPECT(kir_bin(k, KOP_MAX, kir_f32(k, 2), kir_f32(k, 5)) == kir_f32(k, 5));
  EXPECT(kir_op(k, KOP_FMA, kir_f32(k, 0x1.000002p0f), kir_f32(k, 0x1.000002p0f), kir_f32(k, -1)) ==
         kir_f32(k, fmaf(0x1.000002p0f, 0x1.000002p0f, -1)));
  KInst *item = kir_item(k), *lane = kir_lane(k);
  EXPECT(add(k, item, kir_i64(k, 3)) == add(k, kir_i64(k, 3), item));
  EXPECT(add(k, add(k, item, kir_i64(k, 3)), kir_i64(k, -3)) == item);
  EXPECT(mul(k, lane, kir_i32(k, 0)) == kir_i32(k, 0));
  EXPECT(kir_f32(k, 0) != kir_f32(k, -0.0f));
  arena_free(f.a);
}

TEST("what flushing or the default NaN could change is not folded") {
  Fix f = fix_new();
  Kernel *k = f.k;
  EXPECT(mul(k, kir_f32(k, 0x1p-100f), kir_f32(k, 0x1p-40f))->op == KOP_MUL);
  EXPECT(add(k, kir_f32(k, 0x1p-140f), kir_f32(k, 1))->op == KOP_ADD);
  EXPECT(kir_bin(k, KOP_SUB, kir_f32(k, INFINITY), kir_f32(k, INFINITY))->op == KOP_SUB);
  KInst *x = kir_load(k, f.x, kir_i64(k, 0), NULL, NULL);
  EXPECT(add(k, x, kir_f32(k, 0)) != x, "-0 + 0 is 0");
  EXPECT(mul(k, x, kir_f32(k, 0))->op == KOP_MUL);
  EXPECT(add(k, x, kir_f32(k, -0.0f)) == x);
  arena_free(f.a);
}

TEST("ranges decide comparisons and remainders") {
  Fix f = fix_new();
  Kernel *k = f.k;
  KInst *lane = kir_lane(k);
  EXPECT(kir_bin(k, KOP_LT, lane, kir_i32(k, 16)) == kir_bool(k, true));
  EXPECT(kir_bin(k, KOP_LT, lane, kir_i32(k, 15))->op == KOP_LT);
  EXPECT(kir_bin(k, KOP_MOD, lane, kir_i32(k, 16)) == lane);
  EXPECT(kir_bin(k, KOP_DIV, lane, kir_i32(k, 16)) == kir_i32(k, 0));
  KInst *i = kir_for(k, kir_i64(k, 0), kir_i64(k, 20), 8, 0);
  EXPECT(i->lo == 0 && i->hi == 16);
  KInst *at = add(k, mul(k, i, kir_i64(k, 4)), kir_i64(k, 1));
  EXPECT(at->lo == 1 && at->hi == 65);
  EXPECT(kir_bin(k, KOP_MIN, at, kir_i64(k, 65)) == at);
  KInst *narrow = kir_un(k, KOP_TO_I32, at);
  EXPECT(narrow->hi == 65 && mul(k, narrow, kir_i32(k, 1 << 30))->hi == INT64_MAX);
  kir_end(k);
  arena_free(f.a);
}

TEST("a value of a closed block is not shared with what follows") {
  Fix f = fix_new();
  Kernel *k = f.k;
  KInst *item = kir_item(k);
  kir_for(k, kir_i64(k, 0), kir_i64(k, 2), 1, 0);
  KInst *inside = add(k, item, kir_i64(k, 5));
  kir_end(k);
  KInst *after = add(k, item, kir_i64(k, 5));
  EXPECT(inside != after && inside->block != after->block);
  Error err;
  EXPECT(kir_verify(k, &err), "%s", err.text);
  kir_store(k, f.y, inside, NULL, kir_f32(k, 1), NULL);
  EXPECT(!kir_verify(k, &err));
  EXPECT_HAS(err.text, "not visible");
  arena_free(f.a);
}

static void build_row_sum(Kernel *k, int x, int y, bool with_dead_code) {
  KInst *row = kir_item(k), *lane = kir_lane(k);
  KInst *sum = kir_var(k, kir_f32(k, 0), true);
  if (with_dead_code) kir_exp(k, kir_load(k, x, row, NULL, NULL));
  KInst *i = kir_for(k, kir_i64(k, 0), kir_i64(k, 40), 16, 2);
  KInst *mask = kir_bin(k, KOP_LT, add(k, kir_un(k, KOP_TO_I32, i), lane), kir_i32(k, 40));
  KInst *base = add(k, mul(k, row, kir_i64(k, 40)), i);
  KInst *old = kir_get(k, sum);
  kir_set(k, sum, add(k, old, kir_load(k, x, base, lane, mask)));
  kir_end(k);
  kir_store(k, y, row, NULL, kir_un(k, KOP_TREE_ADD, kir_get(k, sum)), NULL);
}

TEST("text is exact, and the same with dead code") {
  const char *want =
      "kernel t\n"
      "  global f32 x\n"
      "  global f32 y written\n"
      "  items 2B+1, grain 1\n"
      "  %0:i64 = item\n"
      "  %1:i32x16 = lane\n"
      "  %2:f32x16 = var 0\n"
      "  for %3 = 0 to 40 step 16 unroll 2 {\n"
      "    %4:i32 = to_i32 %3\n"
      "    %5:i32x16 = add %4, %1\n"
      "    %6:boolx16 = lt %5, 40\n"
      "    %7:i64 = mul %0, 40\n"
      "    %8:i64 = add %7, %3\n"
      "    %9:f32x16 = get %2\n"
      "    %10:f32x16 = load x[%8 + %1] if %6\n"
      "    %11:f32x16 = add %9, %10\n"
      "    set %2, %11\n"
      "  }\n"
      "  %12:f32x16 = get %2\n"
      "  %13:f32 = tree_add %12\n"
      "  store y[%0] = %13\n";
  for (int dead = 0; dead < 2; dead++) {
    Fix f = fix_new();
    kir_factor(f.k, (Dim){1, 2, 0}, 1);
    build_row_sum(f.k, f.x, f.y, dead);
    Buffer out = {0};
    kir_print(f.k, &out);
    EXPECT_TEXT(out.data, want);
    buffer_done(&out);
    arena_free(f.a);
  }
}

TEST("the interpreter sums rows with a tail") {
  Fix f = fix_new();
  kir_factor(f.k, (Dim){1, 2, 0}, 1);
  build_row_sum(f.k, f.x, f.y, false);
  float x[3 * 40], y[3] = {0};
  for (int i = 0; i < 120; i++) x[i] = (float)i;
  Error err;
  REQUIRE(kir_interpret(f.k, (void *[]){x, y}, 1, 0, &err), "%s", err.text);
  EXPECT(y[0] == 780 && y[1] == 2380 && y[2] == 3980, "%g %g %g", y[0], y[1], y[2]);
  arena_free(f.a);
}

TEST("trees add halves: lane i meets lane i+8 first") {
  Fix f = fix_new();
  Kernel *k = f.k;
  KInst *x = kir_load(k, f.x, kir_i64(k, 0), kir_lane(k), NULL);
  kir_store(k, f.y, kir_i64(k, 0), NULL, kir_un(k, KOP_TREE_ADD, x), NULL);
  kir_store(k, f.y, kir_i64(k, 1), NULL, kir_un(k, KOP_TREE_MAX, x), NULL);
  kir_store(k, f.y, kir_i64(k, 2), NULL, kir_bin(k, KOP_LANE_GET, x, kir_i32(k, 3)), NULL);
  float in[16] = {[0] = 1e8f, [8] = -1e8f, [1] = 1, [3] = 7}, out[3];
  Error err;
  REQUIRE(kir_interpret(k, (void *[]){in, out}, 1, 0, &err), "%s", err.text);
  EXPECT(out[0] == 8 && out[1] == 1e8f && out[2] == 7, "%g %g %g", out[0], out[1], out[2]);
  arena_free(f.a);
}

/* The trees of 16 vectors at once: the sum of vector j in lane j. */
static KInst *sum_vectors(Kernel *k, KInst *const *x, int first, int step) {
  if (step == LANES) return x[first];
  KInst *a = sum_vectors(k, x, first, 2 * step), *b = sum_vectors(k, x, first + step, 2 * step), *d = kir_i32(k, step);
  return kir_bin(k, KOP_ADD, kir_op(k, KOP_LOW, a, b, d), kir_op(k, KOP_HIGH, a, b, d));
}

TEST("low and high exchange lanes: they transpose, and add 16 trees at once") {
  Fix f = fix_new();
  Kernel *k = f.k;
  KInst *x[LANES];
  float in[LANES * LANES], out[2 * LANES + 3 * LANES];
  for (int i = 0; i < LANES * LANES; i++) in[i] = 1.0f / (float)(3 * i + 1);
  for (int j = 0; j < LANES; j++) {
    x[j] = kir_load(k, f.x, kir_i64(k, j * LANES), kir_lane(k), NULL);
    kir_store(k, f.y, kir_i64(k, j), NULL, kir_un(k, KOP_TREE_ADD, x[j]), NULL);
  }
  kir_store(k, f.y, kir_i64(k, LANES), kir_lane(k), sum_vectors(k, x, 0, 1), NULL);
  kir_store(k, f.y, kir_i64(k, 2 * LANES), kir_lane(k), kir_op(k, KOP_LOW, x[0], x[1], kir_i32(k, 4)), NULL);
  kir_store(k, f.y, kir_i64(k, 3 * LANES), kir_lane(k), kir_op(k, KOP_HIGH, x[0], x[1], kir_i32(k, 4)), NULL);
  Error err;
  REQUIRE(kir_verify(k, &err) && kir_interpret(k, (void *[]){in, out}, 1, 0, &err), "%s", err.text);
  for (int i = 0; i < LANES; i++) {
    EXPECT(out[i] == out[LANES + i], "%d: %g and %g", i, out[i], out[LANES + i]);
    EXPECT(out[2 * LANES + i] == (i & 4 ? in[LANES + (i ^ 4)] : in[i]), "low %d", i);
    EXPECT(out[3 * LANES + i] == (i & 4 ? in[LANES + i] : in[i ^ 4]), "high %d", i);
  }
  arena_free(f.a);
}

TEST("accesses outside scratch and tables are found") {
  Fix f = fix_new();
  Kernel *k = f.k;
  int32_t data[8] = {0};
  int table = kir_table(k, "codes", DTYPE_I32, data, 8);
  KInst *at = kir_un(k, KOP_TO_I32, kir_load(k, f.x, kir_i64(k, 0), NULL, NULL));
  KInst *c = kir_load(k, table, kir_un(k, KOP_TO_I64, at), NULL, NULL);
  kir_store(k, f.y, kir_i64(k, 0), NULL, kir_un(k, KOP_TO_F32, c), NULL);
  float in[1] = {7}, out[1];
  Error err;
  EXPECT(kir_interpret(k, (void *[]){in, out}, 1, 0, &err));
  in[0] = 8;
  EXPECT(!kir_interpret(k, (void *[]){in, out}, 1, 0, &err));
  EXPECT_HAS(err.text, "outside the buffer");
  kir_load(k, table, kir_i64(k, 0), kir_lane(k), NULL);
  EXPECT(!kir_verify(k, &err));
  EXPECT_HAS(err.text, "outside the buffer");
  arena_free(f.a);
}

TEST("the uniform part of an offset moves into the base") {
  Fix f = fix_new();
  Kernel *k = f.k;
  KInst *i = kir_for(k, kir_i64(k, 0), kir_i64(k, 4), 1, 0);
  KInst *off = add(k, mul(k, kir_un(k, KOP_TO_I32, i), kir_i32(k, 16)), kir_lane(k));
  KInst *x = kir_load(k, f.x, kir_i64(k, 0), off, NULL);
  EXPECT(x->in[1] == kir_lane(k));
  EXPECT(x->in[0]->lo == 0 && x->in[0]->hi == 48);
  kir_end(k);
  arena_free(f.a);
}

TEST("branches and variables") {
  Fix f = fix_new();
  Kernel *k = f.k;
  kir_factor(k, dim_const(4), 1);
  KInst *v = kir_var(k, kir_f32(k, 0), false);
  kir_if(k, kir_bin(k, KOP_LT, kir_item(k), kir_i64(k, 2)));
  kir_set(k, v, kir_f32(k, 5));
  kir_else(k);
  kir_set(k, v, kir_f32(k, 6));
  kir_end(k);
  kir_store(k, f.y, kir_item(k), NULL, kir_get(k, v), NULL);
  float in[1] = {0}, out[4];
  Error err;
  REQUIRE(kir_interpret(k, (void *[]){in, out}, 1, 0, &err), "%s", err.text);
  EXPECT(out[0] == 5 && out[1] == 5 && out[2] == 6 && out[3] == 6);
  arena_free(f.a);
}

/* ---- items of several groups ---- */

typedef struct Block {
  Arena *a;
  Kernel *k;
  int x, y, scratch;
  KInst *group, *lane;
} Block;

/* Two groups, which own 16 elements each of 32. */
static Block block_fix(void) {
  Block b = {.a = arena_new()};
  b.k = kir_new(b.a, "b");
  b.x = kir_arg(b.k, "x", DTYPE_F32, false);
  b.y = kir_arg(b.k, "y", DTYPE_F32, true);
  b.scratch = kir_scratch(b.k, "s", DTYPE_F32, 64);
  kir_block(b.k, 2, 0);
  b.group = kir_group(b.k);
  b.lane = kir_lane(b.k);
  return b;
}

static KInst *start_of(Block *b, KInst *group) {
  return kir_un(b->k, KOP_TO_I64, mul(b->k, group, kir_i32(b->k, LANES)));
}
static KInst *other_of(Block *b) { return kir_bin(b->k, KOP_SUB, kir_i32(b->k, 1), b->group); }

/* y = x with its halves exchanged. */
static bool run_exchange(Block *b, bool barrier, bool copies, int waits, Error *err) {
  Kernel *k = b->k;
  float x[32], y[32] = {0};
  void *args[2] = {x, y};
  KInst *own = start_of(b, b->group), *other = start_of(b, other_of(b));
  for (int i = 0; i < 32; i++) x[i] = (float)i;
  if (copies) kir_copy(k, (KPlace){b->scratch, own, b->lane}, (KPlace){b->x, own, b->lane}, 1, NULL);
  else kir_store(k, b->scratch, own, b->lane, kir_load(k, b->x, own, b->lane, NULL), NULL);
  if (copies) kir_commit(k);
  if (copies) kir_wait(k, waits);
  if (barrier) kir_barrier(k);
  kir_store(k, b->y, own, b->lane, kir_load(k, b->scratch, other, b->lane, NULL), NULL);
  bool ok = kir_interpret(k, args, 0, 0, err);
  for (int i = 0; ok && i < 32; i++) EXPECT(y[i] == x[i ^ 16], "%d: %g", i, (double)y[i]);
  return ok;
}

TEST("groups of one item exchange through scratch at a barrier, and a missing one is found") {
  Error err = {0};
  Block b = block_fix();
  EXPECT(run_exchange(&b, true, false, 0, &err), "%s", err.text);
  arena_free(b.a);
  b = block_fix();
  EXPECT(!run_exchange(&b, false, false, 0, &err));
  EXPECT_HAS(err.text, "another group wrote these elements, and no barrier came since");
  arena_free(b.a);
}

TEST("copies land when they are waited for, not before") {
  Error err = {0};
  Block b = block_fix();
  EXPECT(run_exchange(&b, true, true, 0, &err), "%s", err.text);
  arena_free(b.a);
  b = block_fix();
  EXPECT(!run_exchange(&b, true, true, 1, &err));
  EXPECT_HAS(err.text, "a copy to these elements is under way");
  arena_free(b.a);
  b = block_fix();
  float x[32] = {0}, y[32];
  void *args[2] = {x, y};
  kir_copy(b.k, (KPlace){b.scratch, start_of(&b, b.group), b.lane}, (KPlace){b.x, kir_i64(b.k, 0), b.lane}, 1, NULL);
  EXPECT(!kir_interpret(b.k, args, 0, 0, &err));
  EXPECT_HAS(err.text, "item 0 ends while copies of group 0 are under way");
  arena_free(b.a);
}

TEST("four elements a lane, masked, by copies, loads and stores") {
  Block b = block_fix();
  Kernel *k = b.k;
  float x[128], y[128] = {0};
  void *args[2] = {x, y};
  Error err = {0};
  for (int i = 0; i < 128; i++) x[i] = (float)i;
  KInst *at = mul(k, b.lane, kir_i32(k, QUAD)), *from = mul(k, start_of(&b, b.group), kir_i64(k, QUAD));
  kir_if(k, kir_bin(k, KOP_EQ, b.group, kir_i32(k, 1)));
  KInst *some = kir_bin(k, KOP_LT, b.lane, kir_i32(k, 15));
  kir_copy(k, (KPlace){b.scratch, kir_i64(k, 0), at}, (KPlace){b.x, from, at}, QUAD, some);
  kir_commit(k);
  kir_wait(k, 0);
  KInst *quad = kir_load4(k, b.scratch, kir_i64(k, 0), at, NULL), *turned[QUAD];
  for (int j = 0; j < QUAD; j++) turned[j] = kir_part(k, quad, QUAD - 1 - j);
  kir_store4(k, b.y, from, at, turned, kir_bin(k, KOP_LT, kir_i32(k, 0), b.lane));
  kir_end(k);
  REQUIRE(kir_interpret(k, args, 0, 0, &err), "%s", err.text);
  for (int i = 0; i < 128; i++) {
    float want = i < 68 || i >= 124 ? 0 : (float)(i / QUAD * QUAD + QUAD - 1 - i % QUAD);
    EXPECT(y[i] == want, "%d: %g, not %g", i, (double)y[i], (double)want);
  }
  Buffer text = {0};
  kir_print(k, &text);
  EXPECT_HAS(text.data, "groups 2, resident 0");
  EXPECT_HAS(text.data, "copy4 s[0 + %");
  EXPECT_HAS(text.data, "= part 3, %");
  buffer_done(&text);
  arena_free(b.a);
}

TEST("bf16 is copied by 4, 8 and 16 bytes a lane, loaded and stored by fours") {
  for (int count = 2; count <= 8; count *= 2) {
    Arena *a = arena_new();
    uint16_t in[128], out[128] = {0};
    void *args[2] = {in, out};
    Error err = {0};
    for (int i = 0; i < 128; i++) in[i] = bf16_from_f32((float)i);
    REQUIRE(kir_interpret(halves_kernel(a, count), args, 0, 0, &err), "%s", err.text);
    for (int i = 0; i < 64; i++) {
      float want = i >= LANES * count ? 0 : i < 9 * count ? (float)i + 0.5f : 0.5f;
      EXPECT(f32_from_bf16(out[i]) == want, "%d of %d: %g", i, count, (double)f32_from_bf16(out[i]));
    }
    arena_free(a);
  }
}

TEST("a copy of 2 bytes or 32 a lane is refused") {
  Block b = block_fix();
  Error err = {0};
  KInst *zero = kir_i64(b.k, 0), *at = mul(b.k, b.lane, kir_i32(b.k, 8));
  kir_copy(b.k, (KPlace){b.scratch, zero, at}, (KPlace){b.x, zero, at}, 8, NULL);
  EXPECT(!kir_verify(b.k, &err));
  EXPECT_HAS(err.text, "a lane copies 4, 8 or 16 bytes");
  Kernel *k = kir_new(b.a, "halves");
  int x = kir_arg(k, "x", DTYPE_BF16, false), s = kir_scratch(k, "s", DTYPE_BF16, 128);
  kir_block(k, 2, 0);
  kir_copy(k, (KPlace){s, kir_i64(k, 0), kir_lane(k)}, (KPlace){x, kir_i64(k, 0), kir_lane(k)}, 1, NULL);
  EXPECT(!kir_verify(k, &err));
  EXPECT_HAS(err.text, "a lane copies 4, 8 or 16 bytes");
  arena_free(b.a);
}

TEST("pairs of groups multiply matrix tiles of operands stored either way") {
  static uint16_t a[32 * TILES_K], b[16 * TILES_K];
  float y[32 * 16];
  void *args[3] = {a, b, y};
  Error err = {0};
  fill_arg(DTYPE_BF16, a, COUNT_OF(a));
  fill_arg(DTYPE_BF16, b, COUNT_OF(b));
  for (int form = 0; form < 4; form++) {
    Arena *arena = arena_new();
    bool a_kx = form / 2, b_kx = form % 2;
    REQUIRE(kir_interpret(tiles_kernel(arena, (KLayout)a_kx, (KLayout)b_kx), args, 0, 0, &err), "%s", err.text);
    for (int i = 0; i < 32 * 16; i++) {
      double sum = 0, size = 0;
      for (int k = 0; k < TILES_K; k++) {
        float u = f32_from_bf16(a[a_kx ? k * 32 + i / 16 : i / 16 * TILES_K + k]);
        float v = f32_from_bf16(b[b_kx ? k * 16 + i % 16 : i % 16 * TILES_K + k]);
        sum += (double)u * (double)v;
        size += fabs((double)u * (double)v);
      }
      EXPECT(fabs((double)y[i] - sum) <= 1e-6 * size, "%d: %g, not %g", i, (double)y[i], sum);
    }
    arena_free(arena);
  }
}

/* What is wrong with a kernel of 4 groups (or as many as given) that multiplies one tile by itself. */
static void expect_wrong_tiles(int groups, DType t, bool own_base, bool torn, const char *want) {
  Arena *a = arena_new();
  Kernel *k = kir_new(a, "tiles");
  int s = kir_scratch(k, "s", t, 2048);
  Error err = {0};
  kir_block(k, groups, 0);
  KInst *pair = kir_bin(k, KOP_DIV, kir_group(k), kir_i32(k, 2)), *zero = kir_f32(k, 0);
  KInst *at = kir_un(k, KOP_TO_I64, mul(k, own_base ? kir_group(k) : pair, kir_i32(k, 256)));
  kir_if(k, lt(k, torn ? kir_group(k) : pair, kir_i32(k, 1)));
  KInst *tile = kir_tile(k, s, at, 16, LAYOUT_XK);
  kir_mma(k, tile, tile, 0, (KInst *[]){zero, zero, zero, zero});
  kir_end(k);
  bool ok = kir_verify(k, &err);
  EXPECT(ok == !want, "%s", err.text);
  if (want) EXPECT_HAS(err.text, want);
  arena_free(a);
}

TEST("tiles must be the same for both groups of a pair, which must come together") {
  expect_wrong_tiles(4, DTYPE_BF16, false, false, NULL);
  expect_wrong_tiles(4, DTYPE_BF16, true, false, "the groups of a pair may mean different tiles");
  expect_wrong_tiles(4, DTYPE_BF16, false, true, "one group of a pair may come here without the other");
  expect_wrong_tiles(3, DTYPE_BF16, false, false, "the last group has no other to make a pair with");
  expect_wrong_tiles(4, DTYPE_F32, false, false, "tiles are read from bf16 scratch");
}

TEST("a tile outside of its buffer is a fault, as is one that another group has just written") {
  Error err = {0};
  for (int wrong = 0; wrong < 2; wrong++) {
    Block b = block_fix();
    int s = kir_scratch(b.k, "tile", DTYPE_BF16, 256);
    KInst *zero = kir_f32(b.k, 0), *at = kir_i64(b.k, wrong ? 0 : 8);
    if (wrong) kir_store(b.k, s, start_of(&b, b.group), b.lane, zero, NULL);
    KInst *tile = kir_tile(b.k, s, at, 16, LAYOUT_XK);
    kir_store(b.k, b.y, kir_i64(b.k, 0), b.lane,
              kir_part(b.k, kir_mma(b.k, tile, tile, 0, (KInst *[]){zero, zero, zero, zero}), 0), NULL);
    float y[32] = {0};
    void *args[2] = {y, y};
    EXPECT(!kir_interpret(b.k, args, 0, 0, &err));
    EXPECT_HAS(err.text, wrong ? "another group wrote these elements" : "the access is outside the buffer");
    arena_free(b.a);
  }
}

TEST("a barrier that some groups may not reach is refused, and blocks where items have one group") {
  Error err = {0};
  Block b = block_fix();
  kir_if(b.k, kir_bin(b.k, KOP_LT, b.group, kir_i32(b.k, 1)));
  kir_barrier(b.k);
  kir_end(b.k);
  EXPECT(!kir_verify(b.k, &err));
  EXPECT_HAS(err.text, "not all groups may come here");
  arena_free(b.a);
  Fix f = fix_new();
  kir_barrier(f.k);
  EXPECT(!kir_verify(f.k, &err));
  EXPECT_HAS(err.text, "only an item of several groups has this");
  arena_free(f.a);
}

TEST("powers of two that divide a value are known") {
  Fix f = fix_new();
  Kernel *k = f.k;
  KInst *n = kir_dim(k, (Dim){0, 6, 0});
  EXPECT(kir_align(n) == 2);
  EXPECT(kir_align(add(k, mul(k, n, kir_i64(k, 4)), kir_i64(k, 12))) == 4);
  EXPECT(kir_align(kir_bin(k, KOP_MOD, mul(k, n, kir_i64(k, 8)), kir_i64(k, 36))) == 4);
  EXPECT(kir_align(kir_i64(k, 0)) == 64 && kir_align(kir_i64(k, -8)) == 8 && kir_align(kir_lane(k)) == 1);
  KInst *i = kir_for(k, kir_i64(k, 32), kir_dim(k, (Dim){0, 1, 0}), 16, 0);
  EXPECT(kir_align(i) == 16);
  kir_end(k);
  arena_free(f.a);
}

TEST_MAIN()
