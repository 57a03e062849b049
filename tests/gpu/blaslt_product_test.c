/* runtime/cuda/blaslt.c on the stand-in, loaded as the runtime loads the library.  EMUBLASLT, EMUCUDA: paths. */
#include "runtime/base/hooks.h"
#include "runtime/base/memory.h"
#include "runtime/cuda/blaslt.h"
#include "tests/gpu/emu_test.h"

enum { N = 48, K = 96, BUCKETS = 4, MOST_ROWS = 441, MAX_WORKSPACE = 1 << 16 };
static const int64_t buckets[BUCKETS] = {441, 64, 16, 8};   /* the first is the one to be fast */

static BlasLt *open_emu(void) {
  Error err = {0};
  device_fresh();
  BlasLt *lt = blaslt_open(EMUBLASLT, &err);
  EXPECT(lt, "%s", err.text);
  return lt;
}

static BlasLtForm form_of(DType in, DType out) {
  return (BlasLtForm){.in = in, .out = out, .align_a = 16, .align_b = 16, .align_c = 16, .align_bias = 16};
}

/* Densely stored. */
static BlasLtShape shape_of(const BlasLtForm *f, int64_t m, int64_t n, int64_t k) {
  return (BlasLtShape){m, n, k, f->transpose_a ? m : k, f->transpose_b ? k : n, n, 1, m * k, k * n, m * n};
}

static void bucket_shapes(const BlasLtForm *f, BlasLtShape out[BUCKETS]) {
  for (int k = 0; k < BUCKETS; k++) out[k] = shape_of(f, buckets[k], N, K);
}

/* ---- arrays ---- */

typedef struct Array {
  CUdeviceptr at;
  float *host;                  /* what the device has, as f32 */
  size_t n;
  DType type;
} Array;

static Array array_random(DType type, size_t n, uint64_t seed) {
  Array a = {0, malloc(n * sizeof(float)), n, type};
  uint16_t *half = malloc(n * sizeof *half);
  for (size_t k = 0; k < n; k++) {
    half[k] = bf16_from_f32(a.host[k] = random_unit(&seed));
    if (type == DTYPE_BF16) a.host[k] = f32_from_bf16(half[k]);
  }
  a.at = type == DTYPE_BF16 ? device_array(half, n * sizeof *half) : device_array(a.host, n * sizeof(float));
  free(half);
  return a;
}

/* The array as it is now; free it. */
static float *array_read(const Array *a) {
  float *out = malloc(a->n * sizeof *out);
  uint16_t *half = malloc(a->n * sizeof *half);
  if (a->type == DTYPE_F32) cuMemcpyDtoH_v2(out, a->at, a->n * sizeof *out);
  else cuMemcpyDtoH_v2(half, a->at, a->n * sizeof *half);
  for (size_t k = 0; a->type == DTYPE_BF16 && k < a->n; k++) out[k] = f32_from_bf16(half[k]);
  free(half);
  return out;
}

/* ---- one product ---- */

typedef struct Operands { Array a, b, c, bias; CUdeviceptr workspace; } Operands;

static size_t stored(int64_t rows, int64_t ld, int64_t batch, int64_t stride) {
  return (size_t)((batch - 1) * stride + rows * ld);
}

static Operands operands_of(const BlasLtForm *f, const BlasLtShape *s) {
  return (Operands){
      array_random(f->in, stored(f->transpose_a ? s->k : s->m, s->lda, s->batch, s->stride_a), 1),
      array_random(f->in, stored(f->transpose_b ? s->n : s->k, s->ldb, s->batch, s->stride_b), 2),
      array_random(f->out, stored(s->m, s->ldc, s->batch, s->stride_c), 3), array_random(f->out, (size_t)s->n, 4),
      device_array(NULL, MAX_WORKSPACE)};
}

static void operands_done(Operands *o) {
  free(o->a.host);
  free(o->b.host);
  free(o->c.host);
  free(o->bias.host);
}

static BlasLtArgs args_of(const Operands *o, size_t workspace) {
  return (BlasLtArgs){o->a.at, o->b.at, o->c.at, o->bias.at, o->workspace, workspace, NULL};
}

/* Chooses, makes, runs; false with the error. */
static bool run_chosen(BlasLt *lt, const BlasLtForm *f, const BlasLtShape *s, const Operands *o, Error *err) {
  BlasLtAlgo algo;
  size_t workspace;
  if (!blaslt_choose(lt, f, s, 1, MAX_WORKSPACE, &algo, &workspace, err)) return false;
  BlasLtProduct *p = blaslt_product_new(lt, f, &algo, err);
  BlasLtArgs args = args_of(o, workspace);
  bool ok = p && blaslt_product_run(p, s, &args, err);
  blaslt_product_free(p);
  return ok;
}

static double product_at(const BlasLtForm *f, const BlasLtShape *s, const Operands *o, int64_t i, int64_t row,
                         int64_t col) {
  const float *a = o->a.host + i * s->stride_a, *b = o->b.host + i * s->stride_b;
  double sum = f->accumulate ? o->c.host[i * s->stride_c + row * s->ldc + col] : 0;
  for (int64_t k = 0; k < s->k; k++)
    sum += (double)a[f->transpose_a ? k * s->lda + row : row * s->lda + k] *
           b[f->transpose_b ? col * s->ldb + k : k * s->ldb + col];
  return f->bias ? sum + o->bias.host[col] : sum;
}

/* The largest distance from the product in f64, relative to the largest element; infinite where something beside C
 * was written. */
static double error_of(const BlasLtForm *f, const BlasLtShape *s, const Operands *o) {
  double worst = 0, largest = 0;
  float *got = array_read(&o->c);
  for (size_t at = 0; at < o->c.n; at++) {
    int64_t i = s->batch > 1 ? (int64_t)at / s->stride_c : 0, in = (int64_t)at - i * s->stride_c;
    int64_t row = in / s->ldc, col = in % s->ldc;
    bool inside = row < s->m && col < s->n;
    if (!inside && got[at] != o->c.host[at]) worst = INFINITY;
    if (!inside) continue;
    double want = product_at(f, s, o, i, row, col), distance = fabs(got[at] - want);
    if (!(distance <= worst)) worst = distance;
    if (fabs(want) > largest) largest = fabs(want);
  }
  free(got);
  return worst / largest;
}

TEST("products agree with f64 in every form, layout and type") {
  static const DType types[][2] = {{DTYPE_F32, DTYPE_F32}, {DTYPE_BF16, DTYPE_F32}, {DTYPE_BF16, DTYPE_BF16}};
  for (int v = 0; v < 3 * 32; v++) {
    BlasLt *lt = open_emu();
    REQUIRE(lt, "no library");
    BlasLtForm f = form_of(types[v / 32][0], types[v / 32][1]);
    f.transpose_a = v & 1;
    f.transpose_b = v & 2;
    f.accumulate = v & 4;
    f.bias = v & 8;
    BlasLtShape s = shape_of(&f, 40, N, K);
    if (v & 16) {   /* a batch of matrices with room between their rows and between them */
      int64_t rows_a = f.transpose_a ? s.k : s.m, rows_b = f.transpose_b ? s.n : s.k;
      s = (BlasLtShape){s.m, s.n, s.k, s.lda + 8, s.ldb + 16, s.ldc + 24, 3, 0, 0, 0};
      s.stride_a = rows_a * s.lda + 32;
      s.stride_b = rows_b * s.ldb;
      s.stride_c = s.m * s.ldc + 8;
    }
    Operands o = operands_of(&f, &s);
    Error err = {0};
    EXPECT(run_chosen(lt, &f, &s, &o, &err), "variant %d: %s", v, err.text);
    double e = error_of(&f, &s, &o);
    EXPECT(e < (f.out == DTYPE_BF16 ? 0x1p-8 : 1e-5), "variant %d: %g", v, e);
    operands_done(&o);
    blaslt_close(lt);
  }
}

TEST("a batch may share one matrix") {
  BlasLt *lt = open_emu();
  REQUIRE(lt, "no library");
  BlasLtForm f = form_of(DTYPE_F32, DTYPE_F32);
  BlasLtShape s = shape_of(&f, 16, N, K);
  Error err = {0};
  s.batch = 4;
  s.stride_b = 0;
  Operands o = operands_of(&f, &s);
  EXPECT(run_chosen(lt, &f, &s, &o, &err), "%s", err.text);
  EXPECT(error_of(&f, &s, &o) < 1e-5, "%g", error_of(&f, &s, &o));
  operands_done(&o);
  blaslt_close(lt);
}

/* Runs bucket `rows` of the same A and B with `algo`: C's bits, to be freed; NULL with the error. */
static float *run_bucket(BlasLt *lt, const BlasLtForm *f, int64_t rows, const BlasLtAlgo *algo, Error *err) {
  BlasLtShape s = shape_of(f, rows, N, K);
  Operands o = operands_of(f, &s);   /* the same seeds: the first rows are the same ones */
  BlasLtArgs args = args_of(&o, MAX_WORKSPACE);
  BlasLtProduct *p = blaslt_product_new(lt, f, algo, err);
  float *bits = p && blaslt_product_run(p, &s, &args, err) ? array_read(&o.c) : NULL;
  blaslt_product_free(p);
  operands_done(&o);
  return bits;
}

/* How many rows of the smaller buckets differ from the same rows of the largest; -1 where one does not run. */
static int rows_that_differ(BlasLt *lt, const BlasLtForm *f, const BlasLtAlgo algo[BUCKETS], Error *err) {
  float *all = run_bucket(lt, f, buckets[0], &algo[0], err);
  int n = all ? 0 : -1;
  for (int k = 1; k < BUCKETS && n >= 0; k++) {
    float *some = run_bucket(lt, f, buckets[k], &algo[k], err);
    for (int64_t row = 0; some && row < buckets[k]; row++)
      n += memcmp(all + row * N, some + row * N, N * sizeof(float)) != 0;
    if (!some) n = -1;
    free(some);
  }
  free(all);
  return n;
}

TEST("a row has the same bits in every bucket, and would not have if every bucket chose for itself") {
  for (int type = 0; type < 3; type++) {
    BlasLtForm f = form_of(type ? DTYPE_BF16 : DTYPE_F32, type == 2 ? DTYPE_BF16 : DTYPE_F32);
    BlasLtShape shape[BUCKETS];
    BlasLtAlgo algo[BUCKETS];
    size_t workspace = 1;
    Error err = {0};
    BlasLt *lt = open_emu();
    REQUIRE(lt, "no library");
    f.bias = true;
    bucket_shapes(&f, shape);
    REQUIRE(blaslt_choose(lt, &f, shape, BUCKETS, MAX_WORKSPACE, &algo[0], &workspace, &err), "%s", err.text);
    for (int k = 1; k < BUCKETS; k++) algo[k] = algo[0];
    EXPECT(rows_that_differ(lt, &f, algo, &err) == 0, "%d %s", rows_that_differ(lt, &f, algo, &err), err.text);
    for (int k = 0; k < BUCKETS; k++)
      EXPECT(blaslt_choose(lt, &f, &shape[k], 1, MAX_WORKSPACE, &algo[k], &workspace, &err), "%s", err.text);
    /* rounded to bf16, sums in two orders are mostly the same */
    EXPECT(f.out == DTYPE_BF16 || rows_that_differ(lt, &f, algo, &err) > 0,
           "the stand-in would hide a choice that varies: %s", err.text);
    blaslt_close(lt);
  }
}

TEST("a choice prints, parses back, is the same again and gives the same bits") {
  BlasLtForm f = form_of(DTYPE_BF16, DTYPE_F32);
  BlasLtShape shape[BUCKETS];
  BlasLtAlgo algo, again, pinned;
  char text[BLASLT_TEXT_BYTES], second[BLASLT_TEXT_BYTES];
  size_t workspace, checked = 1;
  Error err = {0};
  BlasLt *lt = open_emu();
  REQUIRE(lt, "no library");
  bucket_shapes(&f, shape);
  REQUIRE(blaslt_choose(lt, &f, shape, BUCKETS, MAX_WORKSPACE, &algo, &workspace, &err), "%s", err.text);
  REQUIRE(blaslt_choose(lt, &f, shape, BUCKETS, MAX_WORKSPACE, &again, &workspace, &err), "%s", err.text);
  blaslt_algo_print(&algo, text);
  blaslt_algo_print(&again, second);
  EXPECT_TEXT(second, text);
  REQUIRE(blaslt_algo_parse(text, &pinned, &err), "%s", err.text);
  blaslt_algo_print(&pinned, second);
  EXPECT_TEXT(second, text);
  EXPECT(blaslt_check(lt, &f, shape, BUCKETS, &pinned, MAX_WORKSPACE, &checked, &err), "%s", err.text);
  EXPECT(checked == workspace, "%zu and %zu bytes", checked, workspace);
  float *x = run_bucket(lt, &f, 441, &algo, &err), *y = run_bucket(lt, &f, 441, &pinned, &err);
  EXPECT(x && y && memcmp(x, y, 441 * N * sizeof *x) == 0, "%s", err.text);
  free(x);
  free(y);
  blaslt_close(lt);
}

TEST("an algorithm that refuses one bucket is passed over") {
  BlasLtForm f = form_of(DTYPE_F32, DTYPE_F32);
  BlasLtShape shape[BUCKETS];
  BlasLtAlgo alone, all;
  size_t workspace, unused;
  Error err = {0};
  BlasLt *lt = open_emu();
  REQUIRE(lt, "no library");
  for (int k = 0; k < BUCKETS; k++) shape[k] = shape_of(&f, buckets[k], 512, K);
  REQUIRE(blaslt_choose(lt, &f, shape, 1, MAX_WORKSPACE, &alone, &workspace, &err), "%s", err.text);
  REQUIRE(blaslt_choose(lt, &f, shape, BUCKETS, MAX_WORKSPACE, &all, &unused, &err), "%s", err.text);
  EXPECT(alone.id == 5 && workspace == 8192, "for 441 rows: algorithm %u, %zu bytes", alone.id, workspace);
  EXPECT(all.id != 5, "for 8 rows too: algorithm %u", all.id);
  EXPECT(!blaslt_check(lt, &f, shape, BUCKETS, &alone, MAX_WORKSPACE, &unused, &err), "8 rows");
  EXPECT_HAS(err.text, "cublaslt 130100 algo 5 tile ");
  EXPECT_HAS(err.text, " for f32 C[16,512] = f32 A[16,96] B[96,512]: cublasLtMatmulAlgoCheck: status 15, "
             "CUBLAS_STATUS_NOT_SUPPORTED");
  EXPECT(!blaslt_check(lt, &f, shape, 1, &alone, 8191, &unused, &err), "a workspace too small");
  EXPECT_HAS(err.text, "needs 8192 bytes of workspace, 8191 are allowed");
  blaslt_close(lt);
}

TEST("TF32 is neither chosen nor accepted, addresses less aligned than an algorithm needs neither") {
  BlasLtForm f = form_of(DTYPE_F32, DTYPE_F32);
  BlasLtShape s = shape_of(&f, 441, 512, K);
  BlasLtAlgo algo, tf32;
  size_t workspace;
  Error err = {0};
  BlasLt *lt = open_emu();
  REQUIRE(lt, "no library");
  REQUIRE(blaslt_algo_parse("cublaslt 130100 algo 40 tile 15 stages 15 swizzle 0 custom 0 inner 0 cluster 0", &tf32,
                            &err), "%s", err.text);
  EXPECT(!blaslt_check(lt, &f, &s, 1, &tf32, MAX_WORKSPACE, &workspace, &err), "TF32 passes");
  EXPECT_HAS(err.text, "computes with less than f32");
  EXPECT(!blaslt_product_new(lt, &f, &tf32, &err), "a product in TF32");
  REQUIRE(blaslt_choose(lt, &f, &s, 1, MAX_WORKSPACE, &algo, &workspace, &err), "%s", err.text);
  EXPECT(algo.id == 5, "algorithm %u", algo.id);
  f.align_b = 4;
  EXPECT(!blaslt_check(lt, &f, &s, 1, &algo, MAX_WORKSPACE, &workspace, &err), "B aligned to 4");
  EXPECT_HAS(err.text, "needs B aligned to 16 bytes: addresses are to 4");
  REQUIRE(blaslt_choose(lt, &f, &s, 1, MAX_WORKSPACE, &algo, &workspace, &err), "%s", err.text);
  EXPECT(algo.id != 5 && algo.id != 40, "algorithm %u", algo.id);
  blaslt_close(lt);
}

TEST("where no algorithm serves, the error says what was asked and why the last was refused") {
  BlasLtForm f = form_of(DTYPE_BF16, DTYPE_BF16);
  f.align_a = 2;
  BlasLtShape s = shape_of(&f, 441, 30, 7);
  BlasLtAlgo algo;
  size_t workspace;
  Error err = {0};
  emu_reset();
  CUcontext c;
  cuInit(0);
  emu_set_capability(75);
  cuDevicePrimaryCtxRetain(&c, 0);
  cuCtxSetCurrent(c);
  BlasLt *lt = blaslt_open(EMUBLASLT, &err);
  REQUIRE(lt, "%s", err.text);
  EXPECT(!blaslt_choose(lt, &f, &s, 1, MAX_WORKSPACE, &algo, &workspace, &err), "bf16 on capability 75");
  EXPECT(err.code == ERROR_DEVICE, "code %d", err.code);
  EXPECT_HAS(err.text, "no cuBLASLt algorithm serves bf16 C[441,30] = bf16 A[441,7] B[7,30]");
  EXPECT_HAS(err.text, "at most 65536 bytes of workspace; 0 were tried");
  EXPECT_HAS(err.text, "CUBLAS_STATUS_NOT_SUPPORTED");
  blaslt_close(lt);
}

TEST("a library that is missing, foreign or without a context is an error that says so") {
  Error err = {0};
  EXPECT(!blaslt_open("/nowhere/libcublasLt.so", &err) && err.code == ERROR_DEVICE, "a path that is wrong");
  EXPECT_HAS(err.text, "cuBLASLt cannot be loaded: /nowhere/libcublasLt.so");
  EXPECT(!blaslt_open(EMUCUDA, &err) && err.code == ERROR_DEVICE, "another library");
  EXPECT_HAS(err.text, "has no function cublasLtGetVersion: cuBLASLt 12 or newer is needed");
  emu_reset();
  EXPECT(!blaslt_open(EMUBLASLT, &err) && err.code == ERROR_DEVICE, "no context");
  EXPECT_HAS(err.text, "cublasLtCreate: status 1, CUBLAS_STATUS_NOT_INITIALIZED");
  blaslt_close(NULL);
}

TEST("choices that are damaged, of another version or unknown to the library are refused") {
  static const struct { const char *text, *words; } damaged[] = {
      {"", "expected \"cublaslt \""},
      {"cublaslt x", "a number up to 18446744073709551615 at 9"},
      {"cublaslt 130100 algo -1 tile 0 stages 0 swizzle 0 custom 0 inner 0 cluster 0", "expected \" algo \""},
      {"cublaslt 130100 algo 4294967296 tile 0 stages 0 swizzle 0 custom 0 inner 0 cluster 0", "up to 2147483647"},
      {"cublaslt 130100 algo 01 tile 0 stages 0 swizzle 0 custom 0 inner 0 cluster 0", "expected \" algo \""},
      {"cublaslt 130100 algo 1 tile 0 stages 0 swizzle 0 custom 0 inner 70000 cluster 0", "up to 65535"},
      {"cublaslt 130100 algo 1 tile 0 stages 0 swizzle 0 custom 0 inner 0", "expected \" cluster \""},
      {"cublaslt 130100 algo 1 tile 0 stages 0 swizzle 0 custom 0 inner 0 cluster 0 ", "unexpected text at 75"}};
  BlasLtForm f = form_of(DTYPE_F32, DTYPE_F32);
  BlasLtShape s = shape_of(&f, 8, N, K);
  BlasLtAlgo algo;
  size_t workspace;
  Error err = {0};
  BlasLt *lt = open_emu();
  REQUIRE(lt, "no library");
  for (int k = 0; k < COUNT_OF(damaged); k++) {
    EXPECT(!blaslt_algo_parse(damaged[k].text, &algo, &err) && err.code == ERROR_FORMAT, "%s", damaged[k].text);
    EXPECT_HAS(err.text, damaged[k].words);
  }
  REQUIRE(blaslt_choose(lt, &f, &s, 1, MAX_WORKSPACE, &algo, &workspace, &err), "%s", err.text);
  BlasLtAlgo other = algo;
  other.version = 120405;
  EXPECT(!blaslt_check(lt, &f, &s, 1, &other, MAX_WORKSPACE, &workspace, &err), "another version");
  EXPECT_HAS(err.text, "was chosen by cuBLASLt 120405, this is 130100: choose again");
  other = algo;
  other.id = 99;
  EXPECT(!blaslt_check(lt, &f, &s, 1, &other, MAX_WORKSPACE, &workspace, &err), "algorithm 99");
  EXPECT_HAS(err.text, "algorithm 99 is not among the 4 for f32 into f32");
  other = algo;
  other.tile = 77;
  EXPECT(!blaslt_check(lt, &f, &s, 1, &other, MAX_WORKSPACE, &workspace, &err), "tile 77");
  EXPECT_HAS(err.text, "cublasLtMatmulAlgoCheck: status 7, CUBLAS_STATUS_INVALID_VALUE");
  blaslt_close(lt);
}

TEST("forms and shapes that make no sense are refused before the library sees them") {
  BlasLtForm good = form_of(DTYPE_F32, DTYPE_F32), f = good;
  BlasLtShape s = shape_of(&good, 8, N, K), wrong = s;
  BlasLtAlgo algo;
  size_t workspace;
  Error err = {0};
  BlasLt *lt = open_emu();
  REQUIRE(lt, "no library");
#define REFUSED(words)                                                                                 \
  EXPECT(!blaslt_choose(lt, &f, &wrong, 1, MAX_WORKSPACE, &algo, &workspace, &err) &&                  \
             err.code == ERROR_ARGUMENT, "%s", words);                                                 \
  EXPECT_HAS(err.text, words);                                                                         \
  f = good;                                                                                            \
  wrong = s
  f.out = DTYPE_BF16;
  REFUSED("a product of f32 into bf16");
  f.in = DTYPE_I32;
  REFUSED("a product of i32 into f32");
  f.align_c = 12;
  REFUSED("alignment 12 of C");
  wrong.k = 0;
  REFUSED("a product of m 8, n 48, k 0, batch 1");
  wrong.m = (int64_t)1 << 31;
  REFUSED("A is stored as 2147483648 x 96");
  wrong.ldb = N - 1;
  REFUSED("B is stored as 96 x 48, 47 from row to row");
  wrong.batch = 2;
  wrong.stride_c = 8 * N - 1;
  REFUSED("the matrices of the batch overlap: 383 apart, 384 elements each");
  wrong.batch = 2;
  wrong.stride_a = INT64_MAX;
  REFUSED("a stride of 9223372036854775807");
  blaslt_close(lt);
}

TEST("running allocates nothing, runs nothing for no rows, and says what failed") {
  BlasLtForm f = form_of(DTYPE_F32, DTYPE_F32);
  f.bias = true;
  BlasLtShape s = shape_of(&f, 441, 512, K), none = s;
  BlasLtAlgo algo;
  size_t workspace;
  Error err = {0};
  BlasLt *lt = open_emu();
  REQUIRE(lt, "no library");
  Operands o = operands_of(&f, &s);
  REQUIRE(blaslt_choose(lt, &f, &s, 1, MAX_WORKSPACE, &algo, &workspace, &err), "%s", err.text);
  BlasLtProduct *p = blaslt_product_new(lt, &f, &algo, &err);
  REQUIRE(p, "%s", err.text);
  BlasLtArgs args = args_of(&o, workspace);
  uint64_t allocations = mem_alloc_count();
  none.m = 0;
  EXPECT(blaslt_product_run(p, &none, &args, &err), "%s", err.text);
  float *untouched = array_read(&o.c);
  EXPECT(memcmp(untouched, o.c.host, o.c.n * sizeof *untouched) == 0, "no rows wrote something");
  free(untouched);
  EXPECT(blaslt_product_run(p, &s, &args, &err), "%s", err.text);
  EXPECT(error_of(&f, &s, &o) < 1e-5, "%g", error_of(&f, &s, &o));
  args.workspace_bytes = 16;
  EXPECT(!blaslt_product_run(p, &s, &args, &err), "a workspace of 16 bytes");
  EXPECT_HAS(err.text, "f32 C[441,512] = f32 A[441,96] B[96,512] + bias: cublasLtMatmul: status 7, "
             "CUBLAS_STATUS_INVALID_VALUE");
  EXPECT(mem_alloc_count() == allocations, "%d allocations", (int)(mem_alloc_count() - allocations));
  blaslt_product_free(p);
  operands_done(&o);
  blaslt_close(lt);
}

TEST("a lack of memory is an error") {
  BlasLtForm f = form_of(DTYPE_F32, DTYPE_F32);
  BlasLtShape s = shape_of(&f, 8, N, K);
  BlasLtAlgo algo;
  size_t workspace;
  Error err = {0};
  device_fresh();
  mem_fail_at(1);
  EXPECT(!blaslt_open(EMUBLASLT, &err) && err.code == ERROR_MEMORY, "%s", err.text);
  mem_fail_at(0);
  BlasLt *lt = open_emu();
  REQUIRE(lt && blaslt_choose(lt, &f, &s, 1, MAX_WORKSPACE, &algo, &workspace, &err), "%s", err.text);
  mem_fail_at(1);
  EXPECT(!blaslt_product_new(lt, &f, &algo, &err) && err.code == ERROR_MEMORY, "%s", err.text);
  mem_fail_at(0);
  blaslt_close(lt);
}

TEST_MAIN()
