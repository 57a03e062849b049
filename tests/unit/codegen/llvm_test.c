/* Compiled kernels against the kernel interpreter, to the bit, on every instruction set this machine has. */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "codegen/kir_build.h"
#include "tests/test.h"
#include "tests/unit/codegen/run_kernel.h"

enum { MAX_ARGS = 10, MAX_ELEMS = 4096 };

static KInst *add(Kernel *k, KInst *x, KInst *y) { return kir_bin(k, KOP_ADD, x, y); }
static KInst *mul(Kernel *k, KInst *x, KInst *y) { return kir_bin(k, KOP_MUL, x, y); }
static KInst *lt(Kernel *k, KInst *x, KInst *y) { return kir_bin(k, KOP_LT, x, y); }
static KInst *fma_(Kernel *k, KInst *x, KInst *y, KInst *z) { return kir_op(k, KOP_FMA, x, y, z); }

static uint64_t random_state = 1;
static uint32_t random_u32(void) {
  random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
  return (uint32_t)(random_state >> 33);
}
static int random_below(int n) { return (int)(random_u32() % (uint32_t)n); }

static void fill_arg(DType t, void *p, int elems) {
  for (int i = 0; i < elems; i++) {
    float x = (float)(random_below(4001) - 2000) / 256.0f;
    if (t == DTYPE_F32) ((float *)p)[i] = x;
    if (t == DTYPE_BF16) ((uint16_t *)p)[i] = bf16_from_f32(x);
    if (t == DTYPE_I32) ((int32_t *)p)[i] = random_below(200) - 100;
    if (t == DTYPE_U8) ((uint8_t *)p)[i] = (uint8_t)random_below(256);
  }
}

/* NaNs are equal whatever their bits. */
static bool same_elem(DType t, const void *a, const void *b, int i) {
  if (t == DTYPE_U8) return ((const uint8_t *)a)[i] == ((const uint8_t *)b)[i];
  if (t == DTYPE_I32) return ((const int32_t *)a)[i] == ((const int32_t *)b)[i];
  if (t == DTYPE_BF16) {
    float x = f32_from_bf16(((const uint16_t *)a)[i]), y = f32_from_bf16(((const uint16_t *)b)[i]);
    return !memcmp(&x, &y, 4) || (isnan(x) && isnan(y));
  }
  const float *x = (const float *)a + i, *y = (const float *)b + i;
  return !memcmp(x, y, 4) || (isnan(*x) && isnan(*y));
}

static double elem_value(DType t, const void *a, int i) {
  if (t == DTYPE_U8) return ((const uint8_t *)a)[i];
  if (t == DTYPE_I32) return ((const int32_t *)a)[i];
  return (double)(t == DTYPE_BF16 ? f32_from_bf16(((const uint16_t *)a)[i]) : ((const float *)a)[i]);
}

static int compare_args(const Kernel *k, void *const *got, void *const *want, const char *isa) {
  for (int a = 0; a < k->n_args; a++)
    for (int i = 0; i < MAX_ELEMS; i++)
      if (!same_elem(k->buf[a].dtype, got[a], want[a], i)) {
        TEST_FAIL_("%s on %s: %s[%d] is %.9g, the interpreter says %.9g", k->name, isa, k->buf[a].name, i,
                   elem_value(k->buf[a].dtype, got[a], i), elem_value(k->buf[a].dtype, want[a], i));
        return 1;
      }
  return 0;
}

static void copy_args(void **to, void *const *from, int n) {
  for (int i = 0; i < n; i++) memcpy(to[i], from[i], MAX_ELEMS * sizeof(float));
}

/* Fills arguments of MAX_ELEMS elements each, interprets, then compiles and runs on every target.  Returns false at the
 * first difference. */
static bool check_targets(const Kernel *k, int64_t B, int64_t R, bool emulated_fma) {
  void *first[MAX_ARGS], *want[MAX_ARGS], *got[MAX_ARGS];
  Error err;
  int wrong = 0;
  for (int i = 0; i < k->n_args; i++) {
    first[i] = mem_alloc(MAX_ELEMS * sizeof(float));
    want[i] = mem_alloc(MAX_ELEMS * sizeof(float));
    got[i] = mem_alloc(MAX_ELEMS * sizeof(float));
    fill_arg(k->buf[i].dtype, first[i], MAX_ELEMS);
  }
  copy_args(want, first, k->n_args);
  bool ok = kir_interpret(k, want, B, R, &err);
  EXPECT(ok, "%s", err.text);
  for (int isa = 0; ok && isa < ISA_COUNT + emulated_fma; isa++) {
    Target t;
    if (isa < ISA_COUNT && !isa_available((Isa)isa)) continue;
    if (!target_host(isa < ISA_COUNT ? (Isa)isa : ISA_PLAIN, &t, &err)) continue;
    if (isa == ISA_COUNT) t.has_fma = false;
    copy_args(got, first, k->n_args);
    ok = kernel_run(k, &t, got, B, R, &err);
    EXPECT(ok, "%s: %s", isa_name(t.isa), err.text);
    if (ok) wrong += compare_args(k, got, want, t.has_fma ? isa_name(t.isa) : "plain without FMA");
  }
  for (int i = 0; i < k->n_args; i++) {
    mem_free(first[i]);
    mem_free(want[i]);
    mem_free(got[i]);
  }
  return ok && !wrong;
}

TEST("saxpy with a masked tail") {
  for (int n = 1; n < 70; n += 17) {
    Arena *a = arena_new();
    Kernel *k = kir_new(a, "saxpy");
    int x = kir_arg(k, "x", DTYPE_F32, false), y = kir_arg(k, "y", DTYPE_F32, true);
    kir_factor(k, (Dim){n, 0, 0}, LANES);
    KInst *base = mul(k, kir_item(k), kir_i64(k, LANES)), *lane = kir_lane(k);
    KInst *mask = lt(k, add(k, kir_un(k, KOP_TO_I32, base), lane), kir_i32(k, n));
    KInst *vx = kir_load(k, x, base, lane, mask), *vy = kir_load(k, y, base, lane, mask);
    kir_store(k, y, base, lane, fma_(k, kir_f32(k, 1.7f), vx, vy), mask);
    check_targets(k, 1, 0, true);
    arena_free(a);
  }
}

TEST("dot products by the tree, in f32 and bf16") {
  for (int t = 0; t < 2; t++) {
    Arena *a = arena_new();
    Kernel *k = kir_new(a, "dot");
    DType dt = t ? DTYPE_BF16 : DTYPE_F32;
    int x = kir_arg(k, "x", dt, false), y = kir_arg(k, "y", dt, false), z = kir_arg(k, "z", dt, true);
    kir_factor(k, (Dim){1, 3, 0}, 1);
    KInst *lane = kir_lane(k), *acc = kir_var(k, kir_f32(k, 0), true);
    KInst *row = mul(k, kir_item(k), kir_i64(k, 100));
    KInst *i = kir_for(k, kir_i64(k, 0), kir_i64(k, 100), LANES, 3);
    KInst *mask = lt(k, add(k, kir_un(k, KOP_TO_I32, i), lane), kir_i32(k, 100));
    KInst *at = add(k, row, i);
    KInst *vx = kir_load(k, x, at, lane, mask), *vy = kir_load(k, y, at, lane, mask);
    kir_set(k, acc, fma_(k, vx, vy, kir_get(k, acc)));
    kir_end(k);
    kir_store(k, z, kir_item(k), NULL, kir_un(k, KOP_TREE_ADD, kir_get(k, acc)), NULL);
    check_targets(k, 4, 0, true);
    arena_free(a);
  }
}

/* Row softmax over `cols`, one item a row; two passes over scratch. */
static Kernel *softmax_kernel(Arena *a, int cols) {
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

TEST("softmax of rows through scratch") {
  Arena *a = arena_new();
  check_targets(softmax_kernel(a, 37), 9, 0, true);
  check_targets(softmax_kernel(a, 64), 5, 0, false);
  arena_free(a);
}

TEST("gathers and scatters of every type, strided and by index, with and without mask") {
  for (int t = 0; t < DTYPE_COUNT; t++)
    for (int masked = 0; masked < 2; masked++) {
      Arena *a = arena_new();
      Kernel *k = kir_new(a, "gather");
      int x = kir_arg(k, "x", (DType)t, false), at = kir_arg(k, "at", DTYPE_U8, false);
      int y = kir_arg(k, "y", (DType)t, true), z = kir_arg(k, "z", (DType)t, true);
      kir_factor(k, (Dim){0, 0, 1}, 1);
      KInst *lane = kir_lane(k), *base = mul(k, kir_item(k), kir_i64(k, LANES));
      KInst *mask = masked ? lt(k, kir_bin(k, KOP_MOD, lane, kir_i32(k, 5)), kir_i32(k, 3)) : NULL;
      KInst *index = kir_load(k, at, base, lane, NULL);
      KInst *v = kir_load(k, x, kir_i64(k, 3), index, mask);
      kir_store(k, y, base, mul(k, lane, kir_i32(k, 2)), v, mask);
      kir_store(k, z, kir_i64(k, 15), add(k, kir_bin(k, KOP_SUB, kir_i32(k, 0), lane), kir_un(k, KOP_TO_I32, base)),
                kir_load(k, x, base, mul(k, lane, kir_i32(k, 3)), NULL), mask);
      check_targets(k, 0, 7, false);
      arena_free(a);
    }
}

TEST("tables, nested loops, branches, lanes and integer division") {
  Arena *a = arena_new();
  Kernel *k = kir_new(a, "mixed");
  int32_t steps[5] = {3, -1, 4, -1, 5};
  float weight[20];
  for (int i = 0; i < 20; i++) weight[i] = (float)i * 0.25f;
  int x = kir_arg(k, "x", DTYPE_I32, false), y = kir_arg(k, "y", DTYPE_I32, true), z = kir_arg(k, "z", DTYPE_F32, true);
  int table = kir_table(k, "steps", DTYPE_I32, steps, 5), weights = kir_table(k, "weights", DTYPE_F32, weight, 20);
  kir_factor(k, dim_const(12), 1);
  KInst *item = kir_item(k), *lane = kir_lane(k), *base = mul(k, item, kir_i64(k, 16));
  KInst *n = kir_var(k, kir_i32(k, 0), true), *w = kir_var(k, kir_f32(k, 1), false);
  KInst *v = kir_load(k, x, base, lane, NULL);
  KInst *i = kir_for(k, kir_i64(k, 0), kir_bin(k, KOP_MOD, item, kir_i64(k, 6)), 1, 0);
  KInst *s = kir_load(k, table, kir_bin(k, KOP_MOD, add(k, i, item), kir_i64(k, 5)), NULL, NULL);
  KInst *j = kir_for(k, i, kir_i64(k, 7), 2, 4);
  KInst *j32 = kir_un(k, KOP_TO_I32, j);
  kir_if(k, lt(k, s, j32));
  kir_set(k, n, add(k, kir_get(k, n), kir_bin(k, KOP_DIV, add(k, v, j32), kir_i32(k, 7))));
  kir_set(k, w, add(k, kir_get(k, w), kir_load(k, weights, add(k, i, j), NULL, NULL)));
  kir_else(k);
  kir_set(k, n, add(k, kir_get(k, n), kir_bin(k, KOP_MOD, kir_bin(k, KOP_SUB, v, j32), kir_i32(k, 7))));
  kir_end(k);
  kir_end(k);
  kir_end(k);
  KInst *got = kir_get(k, n);
  KInst *who = kir_bin(k, KOP_MOD, kir_un(k, KOP_TO_I32, item), kir_i32(k, 16));
  KInst *one = kir_bin(k, KOP_LANE_GET, got, who);
  KInst *most = kir_un(k, KOP_TREE_MAX, got), *least = kir_un(k, KOP_TREE_MIN, got);
  kir_store(k, y, base, lane, add(k, got, add(k, one, mul(k, most, least))), NULL);
  KInst *last = kir_load(k, weights, kir_i64(k, 1), kir_bin(k, KOP_MOD, v, kir_i32(k, 19)), NULL);
  kir_store(k, z, item, NULL, add(k, kir_get(k, w), kir_un(k, KOP_TREE_ADD, last)), NULL);
  check_targets(k, 0, 0, false);
  arena_free(a);
}

TEST("uniform loads and stores under uniform masks touch nothing when the mask is off") {
  Arena *a = arena_new();
  Kernel *k = kir_new(a, "guarded");
  int x = kir_arg(k, "x", DTYPE_BF16, false), y = kir_arg(k, "y", DTYPE_BF16, true);
  kir_factor(k, dim_const(12), 1);
  KInst *item = kir_item(k), *on = lt(k, item, kir_i64(k, 7));
  KInst *far = kir_op(k, KOP_SELECT, on, item, kir_i64(k, (int64_t)1 << 40));
  kir_store(k, y, far, NULL, add(k, kir_load(k, x, far, NULL, on), kir_f32(k, 0.5f)), on);
  check_targets(k, 0, 0, false);
  arena_free(a);
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

static KInst *pick(KInst **list, int n) { return list[n > 8 && random_below(2) ? n - 1 - random_below(8) : random_below(n)]; }
static KInst *pick_f(Gen *g) { return pick(g->f, g->n_f); }
static KInst *pick_n(Gen *g) { return pick(g->n, g->n_n); }
static KInst *pick_c(Gen *g) { return pick(g->c, g->n_c); }
static void push_f(Gen *g, KInst *x) { if (g->n_f < POOL) g->f[g->n_f++] = x; }
static void push_n(Gen *g, KInst *x) { if (g->n_n < POOL) g->n[g->n_n++] = x; }
static void push_c(Gen *g, KInst *x) { if (g->n_c < POOL) g->c[g->n_c++] = x; }

static KInst *any_index(Gen *g, int below) { return kir_bin(g->k, KOP_MOD, pick_n(g), kir_i32(g->k, below)); }

/* An item's own stretch of 32 elements. */
static KInst *own_base(Gen *g) { return mul(g->k, kir_item(g->k), kir_i64(g->k, 32)); }

static void random_memory(Gen *g) {
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

static KInst *bounded(Gen *g, KInst *x) {
  Kernel *k = g->k;
  KInst *ok = kir_bin(k, KOP_AND, lt(k, x, kir_f32(k, 1000)), lt(k, kir_f32(k, -1000), x));
  return kir_op(k, KOP_SELECT, ok, x, kir_f32(k, 0.5f));
}

static void random_float(Gen *g) {
  static const KOp two[] = {KOP_ADD, KOP_SUB, KOP_MUL, KOP_DIV, KOP_MIN, KOP_MAX};
  static const KOp one[] = {KOP_NEG, KOP_ABS, KOP_SQRT, KOP_FLOOR, KOP_RINT};
  static const KOp tree[] = {KOP_TREE_ADD, KOP_TREE_MAX, KOP_TREE_MIN};
  Kernel *k = g->k;
  KInst *x = pick_f(g), *y = pick_f(g), *z = pick_f(g);
  switch (random_below(9)) {
  case 0: case 1: case 2: push_f(g, kir_bin(k, two[random_below(6)], x, y)); break;
  case 3: push_f(g, kir_un(k, one[random_below(5)], x)); break;
  case 4: push_f(g, fma_(k, x, y, z)); break;
  case 5: push_f(g, kir_op(k, KOP_SELECT, pick_c(g), x, y)); break;
  case 6: push_f(g, kir_un(k, tree[random_below(3)], x)); break;
  case 7: push_f(g, kir_un(k, KOP_TO_F32, pick_n(g))); break;
  default: push_f(g, kir_f32(k, (float)random_below(100) / 8 - 6)); break;
  }
  if (random_below(12) == 0) push_f(g, kir_exp(k, bounded(g, x)));
  if (random_below(20) == 0) push_f(g, kir_tanh(k, bounded(g, x)));
}

static void random_int(Gen *g) {
  static const KOp two[] = {KOP_ADD, KOP_SUB, KOP_MUL, KOP_MIN, KOP_MAX, KOP_AND, KOP_OR, KOP_XOR};
  Kernel *k = g->k;
  KInst *x = pick_n(g), *y = pick_n(g);
  switch (random_below(8)) {
  case 0: case 1: push_n(g, kir_bin(k, two[random_below(8)], x, y)); break;
  case 2: push_n(g, kir_bin(k, random_below(2) ? KOP_DIV : KOP_MOD, x, kir_i32(k, 1 + random_below(20)))); break;
  case 3: push_n(g, kir_bin(k, random_below(2) ? KOP_SHL : KOP_SHR, x, kir_i32(k, random_below(8)))); break;
  case 4: push_n(g, kir_op(k, KOP_SELECT, pick_c(g), x, y)); break;
  case 5: push_n(g, kir_un(k, KOP_TO_I32, random_below(2) ? bounded(g, pick_f(g)) : pick_c(g))); break;
  case 6: push_n(g, kir_un(k, random_below(2) ? KOP_TREE_MAX : KOP_NOT, x)); break;
  default: {
    KInst *lane = x->varying ? kir_i32(k, random_below(16)) : kir_bin(k, KOP_MOD, x, kir_i32(k, 16));
    push_n(g, kir_bin(k, KOP_LANE_GET, y, lane));
  }
  }
}

static void random_bool(Gen *g) {
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

static void random_statements(Gen *g, int n, int depth);

static void random_nested(Gen *g, int depth) {
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

static void random_var(Gen *g) {
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

static void random_statements(Gen *g, int n, int depth) {
  for (int i = 0; i < n; i++) switch (random_below(depth < 3 ? 10 : 9)) {
    case 0: case 1: case 2: random_float(g); break;
    case 3: case 4: random_int(g); break;
    case 5: random_bool(g); break;
    case 6: random_memory(g); break;
    case 7: case 8: random_var(g); break;
    default: random_nested(g, depth);
    }
}

static Kernel *random_kernel(Arena *a, int seed) {
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

TEST("random kernels give the interpreter's bits on every instruction set") {
  for (int seed = 0; seed < 100; seed++) {
    Arena *a = arena_new();
    Kernel *k = random_kernel(a, seed);
    if (!check_targets(k, 5, 0, seed % 4 == 0)) {
      fprintf(stderr, "seed %d\n", seed);
      arena_free(a);
      return;
    }
    arena_free(a);
  }
}

/* ---- math ---- */

typedef KInst *(*Build)(Kernel *k, KInst *x);

TEST("the polynomials have the same bits on every instruction set, every 97th float") {
  static const Build build[] = {kir_exp, kir_log, kir_tanh, kir_erf, kir_sin, kir_cos};
  enum { N = 1 << 20 };
  float *x = mem_alloc(N * sizeof *x), *want = mem_alloc(N * sizeof *x), *got = mem_alloc(N * sizeof *x);
  for (int f = 0; f < COUNT_OF(build); f++) {
    Arena *a = arena_new();
    Kernel *k = kir_new(a, "unary");
    int in = kir_arg(k, "x", DTYPE_F32, false), out = kir_arg(k, "y", DTYPE_F32, true);
    kir_factor(k, dim_const(N), LANES);
    KInst *base = mul(k, kir_item(k), kir_i64(k, LANES)), *lane = kir_lane(k);
    kir_store(k, out, base, lane, build[f](k, kir_load(k, in, base, lane, NULL)), NULL);
    uint32_t bits = 0;
    for (int block = 0; block < 43; block += f < 2 ? 1 : 11) {
      bits = (uint32_t)block * 97u * N;
      for (int i = 0; i < N; i++, bits += 97) {
        memcpy(&x[i], &bits, 4);
        if (isnan(x[i])) x[i] = 1;
      }
      bool first = true;
      for (int isa = 0; isa < ISA_COUNT; isa++) {
        Target t;
        Error err;
        if (!isa_available((Isa)isa) || !target_host((Isa)isa, &t, &err)) continue;
        REQUIRE(kernel_run(k, &t, (void *[]){x, got}, 0, 0, &err), "%s", err.text);
        for (int i = 0; !first && i < N; i++)
          if (!same_elem(DTYPE_F32, got, want, i)) {
            TEST_FAIL_("function %d of %a: %a on %s, %a before", f, (double)x[i], (double)got[i], isa_name((Isa)isa),
                       (double)want[i]);
            return;
          }
        memcpy(want, got, N * sizeof *x);
        first = false;
      }
    }
    arena_free(a);
  }
  mem_free(x);
  mem_free(want);
  mem_free(got);
}

/* ---- objects, texts and errors ---- */

TEST("kernels of one module become functions of one object, also for aarch64") {
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    Arena *a = arena_new();
    Kernel *two[2] = {softmax_kernel(a, 37), random_kernel(a, 3)};
    Target t = target_of((Isa)isa);
    Buffer object = {0};
    Error err;
    EXPECT(llvm_compile(two, 2, &t, &object, &err), "%s", err.text);
    EXPECT(object.len > 500 && !memcmp(object.data, "\177ELF", 4));
    buffer_done(&object);
    two[1] = two[0];
    EXPECT(!llvm_compile(two, 2, &t, &object, &err));
    EXPECT_HAS(err.text, "two kernels");
    buffer_done(&object);
    arena_free(a);
  }
}

TEST("a medium kernel uses the registers of its target") {
  Arena *a = arena_new();
  Kernel *k = softmax_kernel(a, 64);
  static const char *const want[ISA_COUNT] = {"xmm", "ymm", "zmm", ".4s"};
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    Target t = target_of((Isa)isa);
    Buffer text = {0};
    Error err;
    REQUIRE(llvm_print(k, &t, true, &text, &err), "%s", err.text);
    EXPECT(strstr(text.data, want[isa]), "%s:\n%s", isa_name((Isa)isa), text.data);
    buffer_done(&text);
  }
  arena_free(a);
}

TEST("a broken target is an error") {
  Arena *a = arena_new();
  Kernel *k = softmax_kernel(a, 64);
  Target t = target_of(ISA_PLAIN);
  t.triple = "pdp11-dec-unix";
  Buffer out = {0};
  Error err;
  EXPECT(!llvm_compile(&k, 1, &t, &out, &err));
  EXPECT_HAS(err.text, "pdp11");
  buffer_done(&out);
  arena_free(a);
}

TEST_MAIN()
