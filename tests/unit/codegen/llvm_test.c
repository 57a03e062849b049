/* Compiled kernels against the kernel interpreter, to the bit, on every instruction set this machine has. */
#include "runtime/base/hooks.h"
#include "tests/test.h"
#include "tests/unit/codegen/random_kernel.h"
#include "tests/unit/codegen/run_kernel.h"

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

static float any_float(void) {
  uint32_t bits = random_u32() << 1 ^ random_u32();
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

TEST("FMA rounds once: in hardware, and emulated in f64") {
  enum { N = 1 << 16 };
  static float x[N], y[N], z[N], got[N];
  Arena *a = arena_new();
  Kernel *k = kir_new(a, "fma_of");
  for (int i = 0; i < 3; i++) kir_arg(k, "in", DTYPE_F32, false);
  int out = kir_arg(k, "out", DTYPE_F32, true);
  kir_factor(k, dim_const(N), LANES);
  KInst *base = mul(k, kir_item(k), kir_i64(k, LANES)), *lane = kir_lane(k), *in[3];
  for (int i = 0; i < 3; i++) in[i] = kir_load(k, i, base, lane, NULL);
  kir_store(k, out, base, lane, fma_(k, in[0], in[1], in[2]), NULL);
  /* Any exponents; and sums that nearly cancel, or end half way between two floats. */
  for (int i = 0; i < N; i++) {
    x[i] = any_float();
    y[i] = i % 4 ? 1 + (float)random_below(1 << 23) * 0x1p-23f : any_float();
    z[i] = i % 4 == 0 ? any_float() : i % 4 == 1 ? -x[i] * y[i] : x[i] * 0x1p24f * (i % 4 == 2 ? 1.0f : 1.5f);
  }
  static float want[N];
  Error err;
  REQUIRE(kir_interpret(k, (void *[]){x, y, z, want}, 0, 0, &err), "%s", err.text);
  for (int emulated = 0; emulated < 2; emulated++) {
    Target t;
    REQUIRE(target_host(ISA_PLAIN, &t, &err), "%s", err.text);
    t.has_fma = !emulated;
    REQUIRE(kernel_run(k, &t, (void *[]){x, y, z, got}, 0, 0, &err), "%s", err.text);
    int wrong = 0;
    for (int i = 0; i < N; i++)
      if (!same_elem(DTYPE_F32, got, want, i) && wrong++ < 3)
        TEST_FAIL_("%a * %a + %a is %a, not %a", (double)x[i], (double)y[i], (double)z[i], (double)got[i],
                   (double)want[i]);
  }
  arena_free(a);
}

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

TEST("short of memory is an error") {
  Arena *a = arena_new();
  Kernel *k = softmax_kernel(a, 64);
  Target t = target_of(ISA_PLAIN);
  bool ok = false;
  int failures = 0;
  for (uint64_t n = 1; !ok && n < 100; n++) {
    Buffer out = {0};
    Error err = {0};
    mem_fail_at(n);
    ok = llvm_compile(&k, 1, &t, &out, &err);
    mem_fail_at(0);
    if (!ok) failures += err.code == ERROR_MEMORY;
    if (!ok) EXPECT(err.code == ERROR_MEMORY, "%s", err.text);
    buffer_done(&out);
  }
  EXPECT(ok && failures >= 4, "%d failures", failures);
  arena_free(a);
}

TEST("an item of several groups is refused") {
  Arena *a = arena_new();
  Kernel *k = kir_new(a, "block");
  Target t = target_of(isa_best());
  Buffer out = {0};
  Error err = {0};
  kir_block(k, 4, 0);
  kir_barrier(k);
  EXPECT(!llvm_compile(&k, 1, &t, &out, &err));
  EXPECT_HAS(err.text, "kernel block: an item of 4 groups is a GPU's block; a CPU executes items of one group");
  buffer_done(&out);
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
