/* For tests: kernels to compare back ends with (a softmax, and random ones), arguments, and comparison of results. */
#ifndef NUWA_RANDOM_KERNEL_H
#define NUWA_RANDOM_KERNEL_H

#include <math.h>
#include <string.h>

#include "codegen/kir/build.h"
#include "tests/test.h"

enum { MAX_ARGS = 10, MAX_ELEMS = 4096 };

static inline KInst *add(Kernel *k, KInst *x, KInst *y) { return kir_bin(k, KOP_ADD, x, y); }
static inline KInst *mul(Kernel *k, KInst *x, KInst *y) { return kir_bin(k, KOP_MUL, x, y); }
static inline KInst *lt(Kernel *k, KInst *x, KInst *y) { return kir_bin(k, KOP_LT, x, y); }
static inline KInst *fma_(Kernel *k, KInst *x, KInst *y, KInst *z) { return kir_op(k, KOP_FMA, x, y, z); }

static uint64_t random_state = 1;
static inline uint32_t random_u32(void) {
  random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
  return (uint32_t)(random_state >> 33);
}
static inline int random_below(int n) { return (int)(random_u32() % (uint32_t)n); }

static inline void fill_arg(DType t, void *p, int elems) {
  for (int i = 0; i < elems; i++) {
    float x = (float)(random_below(4001) - 2000) / 256.0f;
    if (t == DTYPE_F32) ((float *)p)[i] = x;
    if (t == DTYPE_BF16) ((uint16_t *)p)[i] = bf16_from_f32(x);
    if (t == DTYPE_I32) ((int32_t *)p)[i] = random_below(200) - 100;
    if (t == DTYPE_U8) ((uint8_t *)p)[i] = (uint8_t)random_below(256);
  }
}

/* NaNs are equal whatever their bits. */
static inline bool same_elem(DType t, const void *a, const void *b, int i) {
  if (t == DTYPE_U8) return ((const uint8_t *)a)[i] == ((const uint8_t *)b)[i];
  if (t == DTYPE_I32) return ((const int32_t *)a)[i] == ((const int32_t *)b)[i];
  if (t == DTYPE_BF16) {
    float x = f32_from_bf16(((const uint16_t *)a)[i]), y = f32_from_bf16(((const uint16_t *)b)[i]);
    return !memcmp(&x, &y, 4) || (isnan(x) && isnan(y));
  }
  const float *x = (const float *)a + i, *y = (const float *)b + i;
  return !memcmp(x, y, 4) || (isnan(*x) && isnan(*y));
}

static inline double elem_value(DType t, const void *a, int i) {
  if (t == DTYPE_U8) return ((const uint8_t *)a)[i];
  if (t == DTYPE_I32) return ((const int32_t *)a)[i];
  return (double)(t == DTYPE_BF16 ? f32_from_bf16(((const uint16_t *)a)[i]) : ((const float *)a)[i]);
}

static inline int compare_args(const Kernel *k, void *const *got, void *const *want, const char *isa) {
  for (int a = 0; a < k->n_args; a++)
    for (int i = 0; i < MAX_ELEMS; i++)
      if (!same_elem(k->buf[a].dtype, got[a], want[a], i)) {
        TEST_FAIL_("%s on %s: %s[%d] is %.9g, the interpreter says %.9g", k->name, isa, k->buf[a].name, i,
                   elem_value(k->buf[a].dtype, got[a], i), elem_value(k->buf[a].dtype, want[a], i));
        return 1;
      }
  return 0;
}

/* Row softmax over `cols`, one item a row; two passes over scratch. */
static inline Kernel *softmax_kernel(Arena *a, int cols) {
  Kernel *k = kir_new(a, "softmax");
  int x = kir_arg(k, "x", DTYPE_F32, false), y = kir_arg(k, "y", DTYPE_F32, true);
  int s = kir_scratch(k, "s", DTYPE_F32, (cols + 15) / 16 * 16);
  kir_factor(k, (Dim){0, 1, 0}, 1);
  KInst *lane = kir_lane(k), *row = mul(k, kir_item(k), kir_i64(k, cols));
  KInst *max = kir_var(k, kir_f32(k, -INFINITY), true), *sum = kir_var(k, kir_f32(k, 0), true);
  KInst *top = NULL;
  for (int pass = 0; pass < 3; pass++) {
    KInst *inv = NULL;
    if (pass == 1) top = kir_un(k, KOP_TREE_MAX, kir_get(k, max));
    if (pass == 2) inv = kir_bin(k, KOP_DIV, kir_f32(k, 1), kir_un(k, KOP_TREE_ADD, kir_get(k, sum)));
    KInst *i = kir_for(k, kir_i64(k, 0), kir_i64(k, cols), LANES, 0);
    KInst *mask = lt(k, add(k, kir_un(k, KOP_TO_I32, i), lane), kir_i32(k, cols));
    KInst *at = add(k, row, i);
    if (pass == 0) {
      KInst *v = kir_load(k, x, at, lane, mask);
      v = kir_op(k, KOP_SELECT, mask, v, kir_f32(k, -INFINITY));
      kir_set(k, max, kir_bin(k, KOP_MAX, kir_get(k, max), v));
    } else if (pass == 1) {
      KInst *e = kir_exp(k, kir_bin(k, KOP_SUB, kir_load(k, x, at, lane, mask), top));
      e = kir_op(k, KOP_SELECT, mask, e, kir_f32(k, 0));
      kir_store(k, s, i, lane, e, NULL);
      kir_set(k, sum, add(k, kir_get(k, sum), e));
    } else {
      kir_store(k, y, at, lane, mul(k, kir_load(k, s, i, lane, NULL), inv), mask);
    }
    kir_end(k);
    kir_sync(k);
  }
  return k;
}

/* y = x + 0.5 in bf16, in one of two groups: `count` elements a lane are copied to scratch, zeros from lane 9 on, and read
 * from there by fours. */
static inline Kernel *halves_kernel(Arena *a, int count) {
  Kernel *k = kir_new(a, "halves");
  int x = kir_arg(k, "x", DTYPE_BF16, false), y = kir_arg(k, "y", DTYPE_BF16, true);
  int s = kir_scratch(k, "s", DTYPE_BF16, LANES * count);
  kir_block(k, 2, 0);
  KInst *zero = kir_i64(k, 0), *lane = kir_lane(k), *at = mul(k, lane, kir_i32(k, count));
  kir_if(k, kir_bin(k, KOP_EQ, kir_group(k), kir_i32(k, 0)));
  kir_copy(k, (KPlace){s, zero, at}, (KPlace){x, zero, at}, count, lt(k, lane, kir_i32(k, 9)));
  kir_commit(k);
  kir_wait(k, 0);
  kir_sync(k);
  KInst *quads = mul(k, lane, kir_i32(k, QUAD)), *sum[QUAD];
  KInst *there = lt(k, quads, kir_i32(k, LANES * (count < QUAD ? count : QUAD)));
  KInst *quad = kir_load4(k, s, zero, quads, there);
  for (int j = 0; j < QUAD; j++) sum[j] = add(k, kir_part(k, quad, j), kir_f32(k, 0.5f));
  kir_store4(k, y, zero, quads, sum, there);
  kir_end(k);
  return k;
}

enum { TILES_K = 48, TILES_STRIDE = 56 };   /* elements between rows in scratch */

/* y f32 [32, 16] = a b^T, sums over TILES_K, by two pairs of groups: pair p has the rows from 16 p on.  a: bf16 [32, k] or,
 * for LAYOUT_KX, [k, 32]; b: [16, k] or [k, 16].  The results go through scratch that lies over the operands'. */
static inline Kernel *tiles_kernel(Arena *a, KLayout layout_a, KLayout layout_b) {
  Kernel *k = kir_new(a, "tiles");
  int arg[2] = {kir_arg(k, "a", DTYPE_BF16, false), kir_arg(k, "b", DTYPE_BF16, false)};
  int y = kir_arg(k, "y", DTYPE_F32, true), place[2], over;
  KLayout layout[2] = {layout_a, layout_b};
  KInst *tile[2], *sum[2][QUAD];
  for (int i = 0; i < 2; i++) place[i] = kir_scratch(k, i ? "of_b" : "of_a", DTYPE_BF16, TILES_K * TILES_STRIDE);
  over = kir_scratch_over(k, "sums", DTYPE_F32, 32 * 16, place[0]);
  kir_block(k, 4, 0);
  KInst *lane = kir_lane(k), *group = kir_un(k, KOP_TO_I64, kir_group(k)), *zero = kir_i64(k, 0);
  for (int i = 0; i < 2; i++) {   /* by rows of 16 elements */
    int wide = layout[i] == LAYOUT_XK ? TILES_K : i ? 16 : 32, rows = (i ? 16 : 32) * TILES_K / wide;
    KInst *row = kir_for(k, group, kir_i64(k, rows), 4, 0), *c = kir_for(k, zero, kir_i64(k, wide), LANES, 0);
    KInst *x = kir_load(k, arg[i], add(k, mul(k, row, kir_i64(k, wide)), c), lane, NULL);
    kir_store(k, place[i], add(k, mul(k, row, kir_i64(k, TILES_STRIDE)), c), lane, x, NULL);
    kir_end(k);
    kir_end(k);
  }
  kir_barrier(k);
  KInst *pair = kir_bin(k, KOP_DIV, kir_group(k), kir_i32(k, 2)), *first = mul(k, pair, kir_i32(k, 16));
  for (int h = 0; h < 2; h++)
    for (int q = 0; q < QUAD; q++) sum[h][q] = kir_var(k, kir_f32(k, 0), true);
  KInst *step = kir_for(k, zero, kir_i64(k, TILES_K), 16, 0);
  for (int i = 0; i < 2; i++) {
    KInst *x = i ? zero : kir_un(k, KOP_TO_I64, first), *stride = kir_i64(k, TILES_STRIDE);
    KInst *at = layout[i] == LAYOUT_XK ? add(k, mul(k, x, stride), step) : add(k, mul(k, step, stride), x);
    tile[i] = kir_tile(k, place[i], at, TILES_STRIDE, layout[i]);
  }
  for (int h = 0; h < 2; h++) {
    KInst *c[QUAD];
    for (int q = 0; q < QUAD; q++) c[q] = kir_get(k, sum[h][q]);
    KInst *quad = kir_mma(k, tile[0], tile[1], h, c);
    for (int q = 0; q < QUAD; q++) kir_set(k, sum[h][q], kir_part(k, quad, q));
  }
  kir_end(k);
  kir_barrier(k);
  KInst *own = mul(k, kir_bin(k, KOP_MOD, kir_group(k), kir_i32(k, 2)), kir_i32(k, 4));
  for (int h = 0; h < 2; h++)
    for (int q = 0; q < QUAD; q++) {
      KInst *row = add(k, add(k, first, own), kir_bin(k, KOP_DIV, lane, kir_i32(k, 4)));
      KInst *col = mul(k, kir_bin(k, KOP_MOD, lane, kir_i32(k, 4)), kir_i32(k, 2));
      KInst *at = add(k, add(k, mul(k, row, kir_i32(k, 16)), col), kir_i32(k, q / 2 * 128 + 8 * h + q % 2));
      kir_store(k, over, zero, at, kir_get(k, sum[h][q]), NULL);
    }
  kir_barrier(k);
  KInst *row = kir_for(k, group, kir_i64(k, 32), 4, 0), *at = mul(k, row, kir_i64(k, 16));
  kir_store(k, y, at, lane, kir_load(k, over, at, lane, NULL), NULL);
  kir_end(k);
  return k;
}

/* ---- random kernels ---- */

enum { POOL = 64 };
typedef struct Gen {
  Kernel *k;
  KInst *f[POOL], *n[POOL], *c[POOL];   /* f32, i32, bool values in scope */
  int n_f, n_n, n_c;
  KInst *var[6];
  int n_var;
  int in[4], out[4], scratch, table;
} Gen;

static inline KInst *pick(KInst **list, int n) { return list[n > 8 && random_below(2) ? n - 1 - random_below(8) : random_below(n)]; }
static inline KInst *pick_f(Gen *g) { return pick(g->f, g->n_f); }
static inline KInst *pick_n(Gen *g) { return pick(g->n, g->n_n); }
static inline KInst *pick_c(Gen *g) { return pick(g->c, g->n_c); }
static inline void push_f(Gen *g, KInst *x) { if (g->n_f < POOL) g->f[g->n_f++] = x; }
static inline void push_n(Gen *g, KInst *x) { if (g->n_n < POOL) g->n[g->n_n++] = x; }
static inline void push_c(Gen *g, KInst *x) { if (g->n_c < POOL) g->c[g->n_c++] = x; }

static inline KInst *any_index(Gen *g, int below) { return kir_bin(g->k, KOP_MOD, pick_n(g), kir_i32(g->k, below)); }

/* An item's own stretch of 32 elements. */
static inline KInst *own_base(Gen *g) { return mul(g->k, kir_item(g->k), kir_i64(g->k, 32)); }

static inline void random_memory(Gen *g) {
  Kernel *k = g->k;
  KInst *lane = kir_lane(k), *mask = random_below(2) ? pick_c(g) : NULL;
  KInst *off = random_below(2) ? lane : random_below(3) ? any_index(g, 32) : mul(k, lane, kir_i32(k, 2));
  int b = g->in[random_below(4)];
  if (random_below(5) == 0) {
    if (mask && mask->varying) mask = NULL;
    push_f(g, kir_load(k, g->in[0], own_base(g), NULL, mask));
    push_f(g, kir_load(k, g->table, kir_i64(k, random_below(16)), off == lane ? lane : any_index(g, 16), mask));
  } else if (random_below(3) == 0) {
    if (off != lane) return; /* lanes that store to one place are in no order */
    int o = g->out[random_below(4)];
    bool is_float = dtype_is_float(k->buf[o].dtype);
    kir_store(k, o, own_base(g), off, is_float ? pick_f(g) : pick_n(g), mask);
  } else if (random_below(4) == 0) {
    kir_store(k, g->scratch, kir_i64(k, 16 * random_below(3)), lane, pick_f(g), mask);
    kir_sync(k);
    push_f(g, kir_load(k, g->scratch, kir_i64(k, random_below(16)), off == lane ? lane : any_index(g, 32), NULL));
    kir_sync(k);
  } else {
    KInst *x = kir_load(k, b, own_base(g), off, mask);
    if (x->type == K_F32) push_f(g, x);
    else push_n(g, x);
  }
}

static inline KInst *bounded(Gen *g, KInst *x) {
  Kernel *k = g->k;
  KInst *ok = kir_bin(k, KOP_AND, lt(k, x, kir_f32(k, 1000)), lt(k, kir_f32(k, -1000), x));
  return kir_op(k, KOP_SELECT, ok, x, kir_f32(k, 0.5f));
}

static inline KInst *random_exchange(Gen *g, KInst *x, KInst *y) {
  return kir_op(g->k, random_below(2) ? KOP_LOW : KOP_HIGH, x, y, kir_i32(g->k, 1 << random_below(4)));
}

static inline void random_float(Gen *g) {
  static const KOp two[] = {KOP_ADD, KOP_SUB, KOP_MUL, KOP_DIV, KOP_MIN, KOP_MAX};
  static const KOp one[] = {KOP_NEG, KOP_ABS, KOP_SQRT, KOP_FLOOR, KOP_RINT, KOP_ROUND};
  static const KOp tree[] = {KOP_TREE_ADD, KOP_TREE_MAX, KOP_TREE_MIN};
  Kernel *k = g->k;
  KInst *x = pick_f(g), *y = pick_f(g), *z = pick_f(g);
  switch (random_below(10)) {
  case 0: case 1: case 2: push_f(g, kir_bin(k, two[random_below(6)], x, y)); break;
  case 3: push_f(g, kir_un(k, one[random_below(6)], x)); break;
  case 4: push_f(g, fma_(k, x, y, z)); break;
  case 5: push_f(g, kir_op(k, KOP_SELECT, pick_c(g), x, y)); break;
  case 6: push_f(g, kir_un(k, tree[random_below(3)], x)); break;
  case 7: push_f(g, kir_un(k, KOP_TO_F32, pick_n(g))); break;
  case 8: push_f(g, random_exchange(g, x, y)); break;
  default: push_f(g, kir_f32(k, (float)random_below(100) / 8 - 6)); break;
  }
  if (random_below(12) == 0) push_f(g, kir_exp(k, bounded(g, x)));
  if (random_below(20) == 0) push_f(g, kir_tanh(k, bounded(g, x)));
}

static inline void random_int(Gen *g) {
  static const KOp two[] = {KOP_ADD, KOP_SUB, KOP_MUL, KOP_MIN, KOP_MAX, KOP_AND, KOP_OR, KOP_XOR};
  Kernel *k = g->k;
  KInst *x = pick_n(g), *y = pick_n(g);
  switch (random_below(9)) {
  case 0: case 1: push_n(g, kir_bin(k, two[random_below(8)], x, y)); break;
  case 2: push_n(g, kir_bin(k, random_below(2) ? KOP_DIV : KOP_MOD, x, kir_i32(k, 1 + random_below(20)))); break;
  case 3: push_n(g, kir_bin(k, random_below(2) ? KOP_SHL : KOP_SHR, x, kir_i32(k, random_below(8)))); break;
  case 4: push_n(g, kir_op(k, KOP_SELECT, pick_c(g), x, y)); break;
  case 5: push_n(g, kir_un(k, KOP_TO_I32, random_below(2) ? bounded(g, pick_f(g)) : pick_c(g))); break;
  case 6: push_n(g, kir_un(k, random_below(2) ? KOP_TREE_MAX : KOP_NOT, x)); break;
  case 7: push_n(g, random_exchange(g, x, y)); break;
  default: {
    KInst *lane = x->varying ? kir_i32(k, random_below(16)) : kir_bin(k, KOP_MOD, x, kir_i32(k, 16));
    push_n(g, kir_bin(k, KOP_LANE_GET, y, lane));
  }
  }
}

static inline void random_bool(Gen *g) {
  static const KOp compare[] = {KOP_LT, KOP_LE, KOP_EQ};
  static const KOp logic[] = {KOP_AND, KOP_OR, KOP_XOR, KOP_EQ};
  Kernel *k = g->k;
  switch (random_below(4)) {
  case 0: { KInst *x = pick_f(g), *y = pick_f(g); push_c(g, kir_bin(k, compare[random_below(3)], x, y)); break; }
  case 1: { KInst *x = pick_n(g), *y = pick_n(g); push_c(g, kir_bin(k, compare[random_below(3)], x, y)); break; }
  case 2: { KInst *x = pick_c(g), *y = pick_c(g); push_c(g, kir_bin(k, logic[random_below(4)], x, y)); break; }
  default: push_c(g, kir_un(k, KOP_NOT, pick_c(g)));
  }
}

static inline void random_statements(Gen *g, int n, int depth);

static inline void random_nested(Gen *g, int depth) {
  int n_f = g->n_f, n_n = g->n_n, n_c = g->n_c;
  KInst *cond = pick_c(g);
  if (random_below(2) && !cond->varying) {
    kir_if(g->k, cond);
    random_statements(g, 4, depth + 1);
    g->n_f = n_f, g->n_n = n_n, g->n_c = n_c;
    if (random_below(2)) {
      kir_else(g->k);
      random_statements(g, 4, depth + 1);
    }
  } else {
    KInst *hi = kir_i64(g->k, 1 + random_below(6));
    if (random_below(3) == 0) hi = kir_bin(g->k, KOP_MOD, kir_item(g->k), kir_i64(g->k, 4));
    KInst *i = kir_for(g->k, kir_i64(g->k, random_below(2)), hi, 1 + random_below(2), random_below(4));
    push_n(g, kir_un(g->k, KOP_TO_I32, i));
    random_statements(g, 6, depth + 1);
  }
  kir_end(g->k);
  g->n_f = n_f, g->n_n = n_n, g->n_c = n_c;
}

static inline void random_var(Gen *g) {
  KInst *v = g->var[random_below(g->n_var)];
  if (random_below(2)) {
    KInst *x = kir_get(g->k, v);
    if (v->type == K_F32) push_f(g, x);
    else push_n(g, x);
    return;
  }
  KInst *x = v->type == K_F32 ? pick_f(g) : pick_n(g);
  if (v->varying || !x->varying) kir_set(g->k, v, x);
}

static inline void random_statements(Gen *g, int n, int depth) {
  for (int i = 0; i < n; i++) switch (random_below(depth < 3 ? 10 : 9)) {
    case 0: case 1: case 2: random_float(g); break;
    case 3: case 4: random_int(g); break;
    case 5: random_bool(g); break;
    case 6: random_memory(g); break;
    case 7: case 8: random_var(g); break;
    default: random_nested(g, depth);
    }
}

static inline Kernel *random_kernel(Arena *a, int seed) {
  static const DType types[4] = {DTYPE_F32, DTYPE_BF16, DTYPE_I32, DTYPE_U8};
  random_state = (uint64_t)seed * 7919 + 17;
  Gen g = {.k = kir_new(a, "random")};
  float table[32];
  for (int i = 0; i < 32; i++) table[i] = (float)i / 3;
  for (int i = 0; i < 4; i++) g.in[i] = kir_arg(g.k, arena_printf(a, "in%d", i), types[i], false);
  for (int i = 0; i < 4; i++) g.out[i] = kir_arg(g.k, arena_printf(a, "out%d", i), types[i], true);
  g.scratch = kir_scratch(g.k, "scratch", DTYPE_F32, 48);
  g.table = kir_table(g.k, "table", DTYPE_F32, table, 32);
  kir_factor(g.k, (Dim){0, 2, 0}, 1);
  KInst *lane = kir_lane(g.k);
  for (int i = 0; i < 3; i++) kir_store(g.k, g.scratch, kir_i64(g.k, 16 * i), lane, kir_f32(g.k, (float)i), NULL);
  kir_sync(g.k);
  push_f(&g, kir_load(g.k, g.in[0], own_base(&g), lane, NULL));
  push_f(&g, kir_load(g.k, g.in[1], own_base(&g), lane, NULL));
  push_n(&g, kir_load(g.k, g.in[2], own_base(&g), lane, NULL));
  push_n(&g, kir_un(g.k, KOP_TO_I32, kir_item(g.k)));
  push_n(&g, lane);
  push_c(&g, lt(g.k, lane, kir_i32(g.k, 11)));
  push_c(&g, lt(g.k, g.n[1], kir_i32(g.k, 3)));
  for (int i = 0; i < 6; i++) {
    KInst *first = i % 2 ? kir_f32(g.k, 1) : kir_i32(g.k, 2);
    g.var[g.n_var++] = kir_var(g.k, first, i < 4);
  }
  random_statements(&g, 40, 0);
  kir_store(g.k, g.out[0], own_base(&g), lane, pick_f(&g), NULL);
  kir_store(g.k, g.out[0], add(g.k, own_base(&g), kir_i64(g.k, 16)), lane, kir_get(g.k, g.var[1]), NULL);
  kir_store(g.k, g.out[2], own_base(&g), lane, kir_get(g.k, g.var[0]), NULL);
  kir_store(g.k, g.out[1], add(g.k, own_base(&g), kir_i64(g.k, 16)), lane, pick_f(&g), NULL);
  return g.k;
}

#endif
