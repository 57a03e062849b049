/* The cuBLASLt stand-in by itself, called as a user of the library would, column-major: what it computes,
 * refuses and chooses, and when its products run. */
#include "tests/gpu/blaslt_emu.h"
#include "tests/gpu/emu_test.h"

/* D = op(A) op(B) (+ C) (+ bias), with room around every column and matrix. */
typedef struct Call {
  uint64_t m, n, k;
  bool ta, tb, bias, add;
  int32_t batch;
  int in, out;
} Call;

typedef struct Setup {
  Call call;
  LtHandle handle;
  LtDesc desc;
  LtLayout a, b, d;
  CUdeviceptr at_a, at_b, at_d, at_bias, workspace;
  float *host_a, *host_b, *host_d, *host_bias;   /* as f32 whatever the type; inputs are exact in bf16 */
  size_t elems_a, elems_b, elems_d, workspace_bytes;
  CUstream stream;              /* where `run` runs */
} Setup;

enum { PAD = 16, WORKSPACE = 1 << 20 };

/* Exact in bf16, of sizes so different that sums round. */
static float *random_floats(uint64_t *seed, size_t n) {
  float *x = malloc(n * sizeof *x);
  for (size_t k = 0; k < n; k++) {
    uint32_t bits = bits_of(random_unit(seed) * random_unit(seed) * random_unit(seed)) & 0xffff0000;
    memcpy(&x[k], &bits, sizeof bits);
  }
  return x;
}

static CUdeviceptr to_device(int type, const float *from, size_t n) {
  if (type == LT_R_32F) return device_array(from, n * sizeof *from);
  uint16_t *half = malloc(n * sizeof *half);
  for (size_t k = 0; k < n; k++) half[k] = (uint16_t)(bits_of(from[k]) >> 16);
  CUdeviceptr p = device_array(half, n * sizeof *half);
  free(half);
  return p;
}

static void from_device(int type, CUdeviceptr from, size_t n, float *out) {
  if (type == LT_R_32F) {
    cuMemcpyDtoH_v2(out, from, n * sizeof *out);
    return;
  }
  uint16_t *half = malloc(n * sizeof *half);
  cuMemcpyDtoH_v2(half, from, n * sizeof *half);
  for (size_t k = 0; k < n; k++) {
    uint32_t bits = (uint32_t)half[k] << 16;
    memcpy(&out[k], &bits, sizeof bits);
  }
  free(half);
}

static LtLayout layout_of(int type, uint64_t rows, uint64_t cols, int32_t batch, size_t *out_elems) {
  LtLayout l = NULL;
  int64_t ld = (int64_t)rows + PAD, stride = ld * (int64_t)cols + PAD;
  cublasLtMatrixLayoutCreate(&l, type, rows, cols, ld);
  cublasLtMatrixLayoutSetAttribute(l, LT_LAYOUT_BATCH_COUNT, &batch, sizeof batch);
  cublasLtMatrixLayoutSetAttribute(l, LT_LAYOUT_BATCH_STRIDE, &stride, sizeof stride);
  *out_elems = (size_t)(stride * batch);
  return l;
}

static Setup setup(Call c) {
  Setup s = {.call = c, .workspace_bytes = WORKSPACE};
  uint64_t seed = 7;
  int32_t ta = c.ta, tb = c.tb;
  uint32_t epilogue = c.bias ? LT_EPILOGUE_BIAS : LT_EPILOGUE_DEFAULT;
  device_fresh();
  cublasLtCreate(&s.handle);
  cublasLtMatmulDescCreate(&s.desc, LT_COMPUTE_32F, LT_R_32F);
  cublasLtMatmulDescSetAttribute(s.desc, LT_DESC_TRANSA, &ta, sizeof ta);
  cublasLtMatmulDescSetAttribute(s.desc, LT_DESC_TRANSB, &tb, sizeof tb);
  cublasLtMatmulDescSetAttribute(s.desc, LT_DESC_EPILOGUE, &epilogue, sizeof epilogue);
  s.a = layout_of(c.in, c.ta ? c.k : c.m, c.ta ? c.m : c.k, c.batch, &s.elems_a);
  s.b = layout_of(c.in, c.tb ? c.n : c.k, c.tb ? c.k : c.n, c.batch, &s.elems_b);
  s.d = layout_of(c.out, c.m, c.n, c.batch, &s.elems_d);
  s.host_a = random_floats(&seed, s.elems_a);
  s.host_b = random_floats(&seed, s.elems_b);
  s.host_d = random_floats(&seed, s.elems_d);
  s.host_bias = random_floats(&seed, c.m);
  s.at_a = to_device(c.in, s.host_a, s.elems_a);
  s.at_b = to_device(c.in, s.host_b, s.elems_b);
  s.at_d = to_device(c.out, s.host_d, s.elems_d);
  s.at_bias = to_device(c.out, s.host_bias, c.m);
  s.workspace = device_array(NULL, WORKSPACE);
  void *bias = (void *)(uintptr_t)s.at_bias;
  cublasLtMatmulDescSetAttribute(s.desc, LT_DESC_BIAS_POINTER, &bias, sizeof bias);
  return s;
}

static void done(Setup *s) {
  cublasLtMatrixLayoutDestroy(s->a);
  cublasLtMatrixLayoutDestroy(s->b);
  cublasLtMatrixLayoutDestroy(s->d);
  cublasLtMatmulDescDestroy(s->desc);
  cublasLtDestroy(s->handle);
  free(s->host_a);
  free(s->host_b);
  free(s->host_d);
  free(s->host_bias);
}

static int init_algo(const Setup *s, int id, uint32_t tile, uint32_t stages, LtAlgo *out) {
  const Call *c = &s->call;
  int status = cublasLtMatmulAlgoInit(s->handle, LT_COMPUTE_32F, LT_R_32F, c->in, c->in, c->out, c->out, id, out);
  if (!status) status = cublasLtMatmulAlgoConfigSetAttribute(out, LT_CONFIG_TILE, &tile, sizeof tile);
  return status ? status : cublasLtMatmulAlgoConfigSetAttribute(out, LT_CONFIG_STAGES, &stages, sizeof stages);
}

static int set_split(LtAlgo *algo, int32_t split, uint32_t scheme) {
  int status = cublasLtMatmulAlgoConfigSetAttribute(algo, LT_CONFIG_SPLIT_K, &split, sizeof split);
  return status ? status : cublasLtMatmulAlgoConfigSetAttribute(algo, LT_CONFIG_REDUCTION, &scheme, sizeof scheme);
}

static void *pointer(CUdeviceptr p) { return (void *)(uintptr_t)p; }

static int run(const Setup *s, const LtAlgo *algo) {
  float alpha = 1, beta = s->call.add;
  return cublasLtMatmul(s->handle, s->desc, &alpha, pointer(s->at_a), s->a, pointer(s->at_b), s->b, &beta,
                        pointer(s->at_d), s->d, pointer(s->at_d), s->d, algo, pointer(s->workspace),
                        s->workspace_bytes, (LtStream)s->stream);
}

/* The largest distance from the product in f64; what lies between the columns must be as it was. */
static double error_of(const Setup *s) {
  const Call *c = &s->call;
  double worst = 0;
  float *got = malloc(s->elems_d * sizeof *got);
  from_device(c->out, s->at_d, s->elems_d, got);
  for (int32_t i = 0; i < c->batch; i++) {
    const float *a = s->host_a + i * s->a->stride, *b = s->host_b + i * s->b->stride;
    for (uint64_t at = 0; at < (uint64_t)s->d->stride; at++) {
      uint64_t col = at / (uint64_t)s->d->ld, row = at % (uint64_t)s->d->ld;
      size_t here = (size_t)i * (size_t)s->d->stride + at;
      double sum = c->add ? s->host_d[here] : 0;
      for (uint64_t k = 0; k < c->k && col < c->n && row < c->m; k++)
        sum += (double)a[c->ta ? row * (uint64_t)s->a->ld + k : k * (uint64_t)s->a->ld + row] *
               b[c->tb ? k * (uint64_t)s->b->ld + col : col * (uint64_t)s->b->ld + k];
      if (col >= c->n || row >= c->m) sum = s->host_d[here];
      else if (c->bias) sum += s->host_bias[row];
      double e = fabs(got[here] - sum) / (1 + (c->out == LT_R_16BF ? 512 * fabs(sum) : 0));
      if (!(e <= worst)) worst = e;
    }
  }
  free(got);
  return worst;
}

TEST("a product is what it says in every layout, with and without bias, sum and batch") {
  static const int types[][2] = {{LT_R_32F, LT_R_32F}, {LT_R_16BF, LT_R_32F}, {LT_R_16BF, LT_R_16BF}};
  for (int v = 0; v < 3 * 32; v++) {
    Call c = {13, 9, 70, v & 1, v & 2, v & 4, v & 8, v & 16 ? 3 : 1, types[v / 32][0], types[v / 32][1]};
    Setup s = setup(c);
    LtAlgo algo;
    int status = init_algo(&s, 0, 5, 0, &algo);
    if (!status) status = run(&s, &algo);
    EXPECT(status == 0, "variant %d: %s", v, cublasLtGetStatusString(status));
    EXPECT(error_of(&s) < 1e-5, "variant %d: %g", v, error_of(&s));
    done(&s);
  }
}

/* Every configuration that the stand-in offers for s, and the bits that it gives. */
enum { CONFIGURATIONS = 64, ELEMS = (24 + PAD) * 40 + PAD };
typedef struct Outcome { int id; uint32_t tile, stages; int32_t split; float value[ELEMS]; } Outcome;

static int all_outcomes(const Setup *s, Outcome *out) {
  int n = 0;
  for (int id = 0; id < 64; id++)
    for (uint32_t tile = 0; tile < 32; tile++)
      for (uint32_t stages = 0; stages < 20; stages++)
        for (int32_t split = 1; split <= 4; split += 3) {
          LtAlgo algo;
          LtHeuristic checked;
          if (init_algo(s, id, tile, stages, &algo)) continue;
          set_split(&algo, split, split > 1 ? LT_REDUCTION_COMPUTE_TYPE : LT_REDUCTION_NONE);
          if (cublasLtMatmulAlgoCheck(s->handle, s->desc, s->a, s->b, s->d, s->d, &algo, &checked)) continue;
          EXPECT(n < CONFIGURATIONS, "more than %d configurations", n);
          int status = run(s, &algo);
          EXPECT(status == 0, "%s", cublasLtGetStatusString(status));
          EXPECT(error_of(s) < 1e-5, "algorithm %d tile %u stages %u: %g", id, tile, stages, error_of(s));
          if (n == CONFIGURATIONS) return n;
          out[n] = (Outcome){id, tile, stages, split};
          from_device(s->call.out, s->at_d, ELEMS, out[n++].value);
        }
  return n;
}

TEST("no two configurations have the same bits") {
  static Outcome outcome[CONFIGURATIONS];
  for (int type = 0; type < 2; type++) {
    Setup s = setup((Call){24, 40, 256, .batch = 1, .in = type ? LT_R_16BF : LT_R_32F, .out = LT_R_32F});
    int n = all_outcomes(&s, outcome);
    EXPECT(n >= 9, "%d configurations", n);
    for (int i = 0; i < n; i++)
      for (int j = 0; j < i; j++)
        EXPECT(memcmp(outcome[i].value, outcome[j].value, sizeof outcome[i].value) != 0,
               "algorithms %d tile %u stages %u split %d and %d tile %u stages %u split %d", outcome[i].id,
               outcome[i].tile, outcome[i].stages, outcome[i].split, outcome[j].id, outcome[j].tile,
               outcome[j].stages, outcome[j].split);
    done(&s);
  }
}

TEST("a column's bits do not depend on the columns beside it") {
  static float all[ELEMS], one[ELEMS];
  Setup s = setup((Call){24, 40, 256, .batch = 1, .in = LT_R_16BF, .out = LT_R_32F});
  LtAlgo algo;
  uint64_t columns = 3;
  REQUIRE(init_algo(&s, 21, 15, 13, &algo) == 0 && run(&s, &algo) == 0, "%s", cublasLtGetStatusString(7));
  from_device(LT_R_32F, s.at_d, ELEMS, all);
  cublasLtMatrixLayoutSetAttribute(s.b, LT_LAYOUT_COLS, &columns, sizeof columns);
  cublasLtMatrixLayoutSetAttribute(s.d, LT_LAYOUT_COLS, &columns, sizeof columns);
  cuMemsetD8_v2(s.at_d, 0, ELEMS * sizeof(float));
  REQUIRE(run(&s, &algo) == 0, "%s", cublasLtGetStatusString(7));
  from_device(LT_R_32F, s.at_d, ELEMS, one);
  for (uint64_t col = 0; col < columns; col++)
    EXPECT(memcmp(all + col * (24 + PAD), one + col * (24 + PAD), 24 * sizeof(float)) == 0, "column %d", (int)col);
  EXPECT(one[columns * (24 + PAD)] == 0, "a fourth column was written");
  done(&s);
}

static int check(const Setup *s, const LtAlgo *algo) {
  LtHeuristic result;
  return cublasLtMatmulAlgoCheck(s->handle, s->desc, s->a, s->b, s->d, s->d, algo, &result);
}

TEST("what an algorithm does not have is refused, and why is said") {
  Setup s = setup((Call){32, 32, 32, .batch = 1, .in = LT_R_32F, .out = LT_R_32F});
  LtAlgo algo, other;
  uint32_t one = 1, nine = 9;
  uint16_t cluster = 2;
  EXPECT(init_algo(&s, 3, 5, 0, &algo) == LT_INVALID_VALUE, "algorithm 3");
  EXPECT(init_algo(&s, 21, 15, 13, &algo) == LT_INVALID_VALUE, "a bf16 algorithm for f32");
  EXPECT(init_algo(&s, 0, 15, 0, &algo) == 0 && check(&s, &algo) == LT_INVALID_VALUE, "a tile of others");
  EXPECT_HAS(cublasLtGetStatusString(LT_INVALID_VALUE), "algorithm 0 has no tile 15 with stages 0");
  EXPECT(init_algo(&s, 4, 15, 9, &algo) == 0 && check(&s, &algo) == LT_INVALID_VALUE, "stages of none");
  REQUIRE(init_algo(&s, 4, 15, 8, &algo) == 0 && check(&s, &algo) == 0, "algorithm 4");
  EXPECT(set_split(&algo, 2, LT_REDUCTION_NONE) == 0 && check(&s, &algo) == LT_INVALID_VALUE, "no scheme");
  EXPECT(set_split(&algo, 1, LT_REDUCTION_COMPUTE_TYPE) == 0 && check(&s, &algo) == LT_INVALID_VALUE, "one part");
  EXPECT(set_split(&algo, 2, LT_REDUCTION_COMPUTE_TYPE) == 0 && check(&s, &algo) == 0, "two parts");
  REQUIRE(init_algo(&s, 0, 5, 0, &other) == 0, "algorithm 0");
  cublasLtMatmulAlgoConfigSetAttribute(&other, LT_CONFIG_SWIZZLE, &one, sizeof one);
  EXPECT(check(&s, &other) == LT_INVALID_VALUE, "a swizzle");
  REQUIRE(init_algo(&s, 4, 15, 8, &algo) == 0, "algorithm 4");
  cublasLtMatmulAlgoConfigSetAttribute(&algo, LT_CONFIG_CUSTOM, &nine, sizeof nine);
  EXPECT(check(&s, &algo) == LT_INVALID_VALUE, "a custom option");
  EXPECT(cublasLtMatmulAlgoConfigSetAttribute(&algo, LT_CONFIG_CLUSTER, &one, 4) == LT_INVALID_VALUE, "size");
  EXPECT(cublasLtMatmulAlgoConfigSetAttribute(&algo, LT_CONFIG_ID, &one, sizeof one) == LT_INVALID_VALUE, "id");
  REQUIRE(init_algo(&s, 4, 15, 8, &algo) == 0, "algorithm 4");
  cublasLtMatmulAlgoConfigSetAttribute(&algo, LT_CONFIG_CLUSTER, &cluster, sizeof cluster);
  EXPECT(check(&s, &algo) == LT_INVALID_VALUE, "a cluster");
  memset(&algo, 0, sizeof algo);
  EXPECT(check(&s, &algo) == LT_INVALID_VALUE, "zeros");
  done(&s);
}

TEST("sizes, leading dimensions and batches that do not fit are refused") {
  Setup s = setup((Call){32, 24, 16, .batch = 2, .in = LT_R_32F, .out = LT_R_32F});
  LtAlgo algo;
  REQUIRE(init_algo(&s, 0, 5, 0, &algo) == 0 && check(&s, &algo) == 0, "%s", cublasLtGetStatusString(7));
  const struct { LtLayout layout; int attribute; int64_t wrong, right; const char *words; } wrong[] = {
      {s.a, LT_LAYOUT_COLS, 17, 16, "op(A) is 32 x 17, op(B) 16 x 24"},
      {s.b, LT_LAYOUT_COLS, 25, 24, "D 32 x 24"},
      {s.d, LT_LAYOUT_ROWS, 31, 32, "C 31 x 24"},
      {s.a, LT_LAYOUT_LD, 31, 48, "leading dimension 31 for columns of 32"},
      {s.b, LT_LAYOUT_ROWS, 0, 16, "B is 0 x 24"}};
  for (int k = 0; k < 5; k++) {
    cublasLtMatrixLayoutSetAttribute(wrong[k].layout, wrong[k].attribute, &wrong[k].wrong, 8);
    EXPECT(check(&s, &algo) == LT_INVALID_VALUE, "case %d", k);
    EXPECT_HAS(cublasLtGetStatusString(LT_INVALID_VALUE), wrong[k].words);
    cublasLtMatrixLayoutSetAttribute(wrong[k].layout, wrong[k].attribute, &wrong[k].right, 8);
  }
  int32_t three = 3, two = 2;
  cublasLtMatrixLayoutSetAttribute(s.b, LT_LAYOUT_BATCH_COUNT, &three, sizeof three);
  EXPECT(check(&s, &algo) == LT_INVALID_VALUE, "a batch of 3 beside 2");
  cublasLtMatrixLayoutSetAttribute(s.b, LT_LAYOUT_BATCH_COUNT, &two, sizeof two);
  EXPECT(check(&s, &algo) == 0, "%s", cublasLtGetStatusString(7));
  EXPECT(cublasLtMatrixLayoutSetAttribute(s.b, LT_LAYOUT_ROWS, &two, 4) == LT_INVALID_VALUE, "4 bytes for 8");
  EXPECT(cublasLtMatrixLayoutSetAttribute(s.b, 99, &two, sizeof two) == LT_INVALID_VALUE, "attribute 99");
  done(&s);
}

TEST("addresses and columns must be aligned as the algorithm says, the workspace to 256") {
  Setup s = setup((Call){32, 24, 16, .batch = 1, .in = LT_R_16BF, .out = LT_R_16BF});
  LtAlgo algo, big;
  uint32_t align = 0;
  size_t written;
  int64_t odd = 33, even = 48;
  REQUIRE(init_algo(&s, 21, 15, 13, &algo) == 0 && run(&s, &algo) == 0, "%s", cublasLtGetStatusString(7));
  cublasLtMatmulAlgoCapGetAttribute(&algo, LT_CAP_ALIGN_A, &align, sizeof align, &written);
  EXPECT(align == 16 && written == 4, "%u, %zu", align, written);
  s.at_b += 8;
  EXPECT(run(&s, &algo) == LT_INVALID_VALUE, "B");
  s.at_b -= 8;
  cublasLtMatrixLayoutSetAttribute(s.a, LT_LAYOUT_LD, &odd, sizeof odd);
  EXPECT(check(&s, &algo) == LT_INVALID_VALUE, "columns of A");
  cublasLtMatrixLayoutSetAttribute(s.a, LT_LAYOUT_LD, &even, sizeof even);
  REQUIRE(init_algo(&s, 23, 15, 14, &big) == 0 && run(&s, &big) == 0, "%s", cublasLtGetStatusString(7));
  s.workspace_bytes = 1023;
  EXPECT(run(&s, &big) == LT_INVALID_VALUE, "a workspace too small");
  EXPECT_HAS(cublasLtGetStatusString(LT_INVALID_VALUE), "a workspace of 1023 bytes");
  s.workspace_bytes = 2048;
  s.workspace += 128;
  EXPECT(run(&s, &big) == LT_INVALID_VALUE, "a workspace in the middle");
  s.workspace = 0;
  EXPECT(run(&s, &big) == LT_INVALID_VALUE, "no workspace");
  s.workspace_bytes = 0;
  EXPECT(run(&s, &algo) == 0, "none is needed: %s", cublasLtGetStatusString(7));
  done(&s);
}

/* ---- faults, which show when somebody waits ---- */

typedef void Spoil(Setup *s);
static void workspace_over_b(Setup *s) { s->workspace = s->at_b, s->workspace_bytes = 256; }
static void workspace_over_d(Setup *s) { s->workspace = s->at_d, s->workspace_bytes = 256; }
static void result_over_a(Setup *s) { s->at_d = s->at_a; }
static void result_over_next_a(Setup *s) {   /* the first result over the second A, the second beyond */
  s->at_a = device_array(NULL, 3 * (size_t)s->a->stride * 4);
  cuMemcpyHtoD_v2(s->at_a, s->host_a, s->elems_a * 4);
  s->at_d = s->at_a + (CUdeviceptr)s->a->stride * 4;
}
static void result_beyond(Setup *s) { s->at_d += 32 * (32 + PAD) * 4; }
static void a_beyond(Setup *s) { s->at_a += 2 * PAD * 4 + 16; }
static void bias_unwritten(Setup *s) {
  void *bias = pointer(device_array(NULL, 128));
  cublasLtMatmulDescSetAttribute(s->desc, LT_DESC_BIAS_POINTER, &bias, sizeof bias);
}
/* The last element of the last column only. */
static void b_unwritten(Setup *s) {
  size_t last = ((size_t)s->b->stride + 31 * (32 + PAD) + 31) * 4;
  s->at_b = device_array(NULL, s->elems_b * 4);
  cuMemcpyHtoD_v2(s->at_b, s->host_b, last);
}
static void d_unwritten(Setup *s) {
  s->at_d = device_array(NULL, s->elems_d * 4);
  s->call.add = true;
}

TEST("memory that was never written, overlaps the result or the workspace, or is not there, is a fault") {
  static const struct { Spoil *spoil; CUresult code; const char *words; } cases[] = {
      {workspace_over_b, 719, "read of global memory never written"},
      {result_over_a, 719, "read of global memory never written"},
      {result_over_next_a, 719, "read of global memory never written"},
      {result_beyond, 700, "are not inside one allocation"}, {a_beyond, 700, "are not inside one allocation"},
      {bias_unwritten, 719, "read of global memory never written: offset 0 of the 128 bytes"},
      {b_unwritten, 719, "read of global memory never written"},
      {d_unwritten, 719, "read of global memory never written: offset 0"}};
  for (int k = 0; k < (int)(sizeof cases / sizeof *cases); k++) {
    Setup s = setup((Call){32, 32, 32, .bias = true, .batch = 2, .in = LT_R_32F, .out = LT_R_32F});
    LtAlgo algo;
    REQUIRE(init_algo(&s, 4, 15, 8, &algo) == 0 && run(&s, &algo) == 0 && error_of(&s) < 1e-5, "%s",
            cublasLtGetStatusString(7));
    cases[k].spoil(&s);
    EXPECT(run(&s, &algo) == 0, "case %d: %s", k, cublasLtGetStatusString(7));
    EXPECT(cuCtxSynchronize() == cases[k].code, "case %d: %s", k, emu_last_error());
    EXPECT_HAS(emu_last_error(), "cublasLtMatmul of 32 x 32 by 32 x 32: ");
    EXPECT_HAS(emu_last_error(), cases[k].words);
    EXPECT(run(&s, &algo) == LT_EXECUTION_FAILED, "case %d: the fault does not stay", k);
    EXPECT_HAS(cublasLtGetStatusString(LT_EXECUTION_FAILED), cases[k].words);
    done(&s);
  }
}

TEST("a result in the workspace, and what was left there, is lost") {
  Setup s = setup((Call){32, 32, 32, .batch = 1, .in = LT_R_32F, .out = LT_R_32F});
  LtAlgo algo;
  float got[32];
  REQUIRE(init_algo(&s, 4, 15, 8, &algo) == 0, "algorithm 4");
  workspace_over_d(&s);
  EXPECT(run(&s, &algo) == 0, "%s", cublasLtGetStatusString(7));
  from_device(LT_R_32F, s.at_d, 32, got);
  EXPECT(isnan(got[0]), "%g", got[0]);
  s.at_a = s.at_d;
  s.at_d = s.at_b;
  s.workspace_bytes = 0;
  EXPECT(run(&s, &algo) == 0, "%s", cublasLtGetStatusString(7));
  EXPECT(cuCtxSynchronize() == 719, "read from the workspace of another product");
  done(&s);
}

/* ---- streams: E = A (A B), in two products ---- */

enum { ORDERS = 24, SIZE = 32, NON_BLOCKING = 1 };

typedef struct Chain {
  Setup s;
  LtAlgo algo;
  CUstream a, b;
  CUevent e, e2;
  CUdeviceptr middle, end, second_workspace;
  size_t bytes;
} Chain;

static bool chain_open(Chain *c, uint64_t order) {
  c->s = setup((Call){SIZE, SIZE, SIZE, .batch = 1, .in = LT_R_32F, .out = LT_R_32F});
  c->bytes = c->s.elems_d * 4;
  cuStreamCreate(&c->a, NON_BLOCKING);
  cuStreamCreate(&c->b, NON_BLOCKING);
  cuEventCreate(&c->e, 2);
  cuEventCreate(&c->e2, 2);
  c->middle = device_array(NULL, c->bytes);
  c->end = device_array(NULL, c->bytes);
  c->second_workspace = device_array(NULL, WORKSPACE);
  emu_set_order(order);
  return init_algo(&c->s, 4, 15, 8, &c->algo) == 0 && cuCtxSynchronize() == 0;
}

/* to = A from, in a stream. */
static bool multiply(Chain *c, CUstream stream, CUdeviceptr to, CUdeviceptr from, CUdeviceptr workspace) {
  Setup s = c->s;
  s.stream = stream;
  s.at_b = from;
  s.at_d = to;
  s.workspace = workspace;
  return run(&s, &c->algo) == 0;
}

static double element(const Setup *s, const float *a, const float *b, int row, int col) {
  double sum = 0;
  for (int k = 0; k < SIZE; k++) sum += (double)a[k * s->a->ld + row] * b[col * s->b->ld + k];
  return sum;
}

/* Is `at` A `from`, `from` being on the device too?  Waits for everything. */
static bool is_product(Chain *c, CUdeviceptr at, CUdeviceptr from) {
  float *got = malloc(c->bytes), *b = malloc(c->bytes);
  bool right = cuCtxSynchronize() == 0 && cuMemcpyDtoH_v2(got, at, c->bytes) == 0 &&
               cuMemcpyDtoH_v2(b, from, c->bytes) == 0;
  for (int i = 0; i < SIZE * SIZE && right; i++) {
    int row = i % SIZE, col = i / SIZE;
    right = fabs(got[col * c->s.d->ld + row] - element(&c->s, c->s.host_a, b, row, col)) < 1e-4;
  }
  free(got);
  free(b);
  return right;
}
static bool chain_is_right(Chain *c) {
  return is_product(c, c->middle, c->s.at_b) && is_product(c, c->end, c->middle);
}

typedef bool RunChain(Chain *c);
static int orders_right(RunChain *run_chain) {
  int right = 0;
  for (uint64_t order = 0; order < ORDERS; order++) {
    Chain c;
    right += chain_open(&c, order) && run_chain(&c);
    done(&c.s);
  }
  return right;
}
static bool right_by_default(RunChain *run_chain) {
  Chain c;
  bool right = chain_open(&c, 0) && run_chain(&c);
  done(&c.s);
  return right;
}
#define EXPECT_ALWAYS(chain)                                                                           \
  EXPECT(orders_right(chain) == ORDERS, #chain ": right in %d orders: %s", orders_right(chain), emu_last_error())
#define EXPECT_CAUGHT(chain)                                                                           \
  do {                                                                                                 \
    EXPECT(orders_right(chain) < ORDERS - 3, #chain " is right in %d orders", orders_right(chain));    \
    EXPECT(!right_by_default(chain), #chain " is right in the default order");                         \
  } while (0)

static bool one_stream(Chain *c) {
  return multiply(c, c->a, c->middle, c->s.at_b, c->s.workspace) &&
         multiply(c, c->a, c->end, c->middle, c->s.workspace) && chain_is_right(c);
}
static bool event_between(Chain *c) {
  multiply(c, c->a, c->middle, c->s.at_b, c->s.workspace);
  cuEventRecord(c->e, c->a);
  cuStreamWaitEvent(c->b, c->e, 0);
  multiply(c, c->b, c->end, c->middle, c->s.workspace);
  return chain_is_right(c);
}
static bool event_missing(Chain *c) {
  multiply(c, c->a, c->middle, c->s.at_b, c->s.workspace);
  multiply(c, c->b, c->end, c->middle, c->second_workspace);
  return chain_is_right(c);
}
/* A copy reads the result. */
static bool copied(Chain *c, bool wait) {
  multiply(c, c->a, c->middle, c->s.at_b, c->s.workspace);
  cuEventRecord(c->e, c->a);
  if (wait) cuStreamWaitEvent(c->b, c->e, 0);
  cuMemcpyDtoDAsync_v2(c->end, c->middle, c->bytes, c->b);
  return cuStreamSynchronize(c->b) == 0 && is_product(c, c->end, c->s.at_b);
}
static bool copied_behind_event(Chain *c) { return copied(c, true); }
static bool copied_too_early(Chain *c) { return copied(c, false); }
/* A product still reads what is overwritten. */
static bool operand_overwritten(Chain *c) {
  multiply(c, c->a, c->middle, c->s.at_b, c->s.workspace);
  cuMemcpyDtoDAsync_v2(c->s.at_b, c->s.at_a, c->bytes, c->b);
  if (cuStreamSynchronize(c->b)) return false;
  CUdeviceptr b = device_array(c->s.host_b, c->bytes);
  return is_product(c, c->middle, b);
}

TEST("products run late: an event orders them with others, a missing one is caught") {
  EXPECT_ALWAYS(one_stream);
  EXPECT_ALWAYS(event_between);
  EXPECT_ALWAYS(copied_behind_event);
  EXPECT_CAUGHT(event_missing);
  EXPECT_HAS(emu_last_error(), "read of global memory never written");
  EXPECT_CAUGHT(copied_too_early);
  EXPECT_CAUGHT(operand_overwritten);
}

static bool workspaces_apart(Chain *c) {
  multiply(c, c->a, c->middle, c->s.at_b, c->s.workspace);
  multiply(c, c->b, c->end, c->s.at_a, c->second_workspace);
  return is_product(c, c->middle, c->s.at_b) && is_product(c, c->end, c->s.at_a);
}
static bool workspace_shared(Chain *c) {
  multiply(c, c->a, c->middle, c->s.at_b, c->s.workspace);
  multiply(c, c->b, c->end, c->s.at_a, c->s.workspace);
  return is_product(c, c->middle, c->s.at_b) && is_product(c, c->end, c->s.at_a);
}

TEST("two products at the same time need two workspaces") {
  EXPECT_ALWAYS(workspaces_apart);
  EXPECT_CAUGHT(workspace_shared);
  EXPECT_HAS(emu_last_error(), "its scratch memory of 1048576 bytes");
  EXPECT_HAS(emu_last_error(), "no event orders them");
}

/* Replays with another B in between.  fork: the second product is captured in another stream. */
static bool replayed(Chain *c, bool fork, bool join) {
  CUgraph g;
  CUgraphExec x;
  cuStreamBeginCapture_v2(c->a, 0);
  multiply(c, c->a, c->middle, c->s.at_b, c->s.workspace);
  cuEventRecord(c->e, c->a);
  if (fork) cuStreamWaitEvent(c->b, c->e, 0);
  multiply(c, fork ? c->b : c->a, c->end, c->middle, c->s.workspace);
  if (join) cuEventRecord(c->e2, c->b);
  if (join) cuStreamWaitEvent(c->a, c->e2, 0);
  if (cuStreamEndCapture(c->a, &g) || cuGraphInstantiateWithFlags(&x, g, 0) || cuGraphDestroy(g)) return false;
  for (int k = 0; k < 3; k++) {
    if (cuGraphLaunch(x, c->a) || !chain_is_right(c)) return false;
    cuMemcpyDtoDAsync_v2(c->s.at_b, c->end, c->bytes, c->a);
    if (cuGraphLaunch(x, c->a) || !chain_is_right(c)) return false;
  }
  return cuGraphExecDestroy(x) == 0;
}
static bool replayed_in_one_stream(Chain *c) { return replayed(c, false, false); }
static bool replayed_in_two(Chain *c) { return replayed(c, true, true); }
static bool not_joined(Chain *c) { return replayed(c, true, false); }

TEST("captured products are replayed with what memory holds then") {
  EXPECT_ALWAYS(replayed_in_one_stream);
  EXPECT_ALWAYS(replayed_in_two);
  EXPECT(orders_right(not_joined) == 0, "a capture with a stream that is not joined");
}

TEST("a captured product keeps the address and the shape of its capture") {
  Chain c;
  CUgraph g;
  CUgraphExec x;
  int64_t wide = SIZE + 2 * PAD;
  REQUIRE(chain_open(&c, 0), "%s", cublasLtGetStatusString(7));
  cuStreamBeginCapture_v2(c.a, 0);
  EXPECT(multiply(&c, c.a, c.middle, c.s.at_b, c.s.workspace), "%s", cublasLtGetStatusString(7));
  REQUIRE_RUNS(cuStreamEndCapture(c.a, &g));
  REQUIRE_RUNS(cuGraphInstantiateWithFlags(&x, g, 0));
  cublasLtMatrixLayoutSetAttribute(c.s.a, LT_LAYOUT_LD, &wide, sizeof wide);
  EXPECT_RUNS(cuGraphLaunch(x, c.a));
  wide = SIZE + PAD;
  cublasLtMatrixLayoutSetAttribute(c.s.a, LT_LAYOUT_LD, &wide, sizeof wide);
  EXPECT(is_product(&c, c.middle, c.s.at_b), "%s", emu_last_error());
  done(&c.s);
}

static LtPreference preference_of(uint32_t reductions, uint64_t numerics, uint32_t align) {
  LtPreference p = NULL;
  uint64_t workspace = WORKSPACE;
  cublasLtMatmulPreferenceCreate(&p);
  cublasLtMatmulPreferenceSetAttribute(p, LT_PREF_WORKSPACE, &workspace, sizeof workspace);
  cublasLtMatmulPreferenceSetAttribute(p, LT_PREF_REDUCTION_MASK, &reductions, sizeof reductions);
  cublasLtMatmulPreferenceSetAttribute(p, LT_PREF_IMPL_MASK, &numerics, sizeof numerics);
  for (int k = LT_PREF_ALIGN_A; k <= LT_PREF_ALIGN_D; k++)
    cublasLtMatmulPreferenceSetAttribute(p, k, &align, sizeof align);
  return p;
}

/* What a caller can see of a proposal. */
typedef struct Proposal { int32_t id, split; uint32_t tile, align; bool tf32; } Proposal;

static Proposal proposal_of(const LtAlgo *algo) {
  Proposal p;
  uint64_t numerics;
  size_t written;
  cublasLtMatmulAlgoConfigGetAttribute(algo, LT_CONFIG_ID, &p.id, sizeof p.id, &written);
  cublasLtMatmulAlgoConfigGetAttribute(algo, LT_CONFIG_SPLIT_K, &p.split, sizeof p.split, &written);
  cublasLtMatmulAlgoConfigGetAttribute(algo, LT_CONFIG_TILE, &p.tile, sizeof p.tile, &written);
  cublasLtMatmulAlgoCapGetAttribute(algo, LT_CAP_ALIGN_A, &p.align, sizeof p.align, &written);
  cublasLtMatmulAlgoCapGetAttribute(algo, LT_CAP_NUMERICS, &numerics, sizeof numerics, &written);
  p.tf32 = (numerics & LT_NUMERICS_IN_TF32) != 0;
  return p;
}

enum { ASKED = 64 };
static int proposals(const Setup *s, uint32_t reductions, uint64_t numerics, uint32_t align, Proposal *out) {
  LtHeuristic result[ASKED];
  int n = 0;
  LtPreference p = preference_of(reductions, numerics, align);
  int status = cublasLtMatmulAlgoGetHeuristic(s->handle, s->desc, s->a, s->b, s->d, s->d, p, ASKED, result, &n);
  cublasLtMatmulPreferenceDestroy(p);
  if (status) return 0;
  for (int k = 0; k < n; k++) out[k] = proposal_of(&result[k].algo);
  return n;
}

TEST("the heuristic prefers other algorithms for other shapes, and keeps to the preference") {
  Proposal small[ASKED], large[ASKED], plain[ASKED];
  Setup s = setup((Call){256, 8, 256, .batch = 1, .in = LT_R_32F, .out = LT_R_32F});
  int n = proposals(&s, LT_REDUCTION_MASK, UINT64_MAX, 256, small);
  uint64_t exact = ~(uint64_t)LT_NUMERICS_IN_TF32;
  int m = proposals(&s, LT_REDUCTION_NONE, exact, 256, plain);
  EXPECT(n > m && m > 0, "%d and %d proposals", n, m);
  bool splits = false, tf32 = false;
  for (int k = 0; k < n; k++) {
    splits = splits || small[k].split > 1;
    tf32 = tf32 || small[k].tf32;
  }
  EXPECT(splits && tf32, "everything is allowed, so everything is proposed: %d %d", splits, tf32);
  for (int k = 0; k < m; k++)
    EXPECT(plain[k].split == 1 && !plain[k].tf32, "proposal %d: algorithm %d", k, plain[k].id);
  m = proposals(&s, LT_REDUCTION_NONE, exact, 4, plain);
  for (int k = 0; k < m; k++) EXPECT(plain[k].align == 4, "proposal %d: algorithm %d", k, plain[k].id);
  done(&s);
  s = setup((Call){256, 441, 256, .batch = 1, .in = LT_R_32F, .out = LT_R_32F});
  REQUIRE(proposals(&s, LT_REDUCTION_NONE, exact, 256, large) > 0, "441 columns");
  done(&s);
  s = setup((Call){256, 8, 256, .batch = 1, .in = LT_R_32F, .out = LT_R_32F});
  REQUIRE(proposals(&s, LT_REDUCTION_NONE, exact, 256, small) > 0, "8 columns");
  EXPECT(small[0].id != large[0].id || small[0].tile != large[0].tile, "algorithm %d tile %u for both", small[0].id,
         small[0].tile);
  done(&s);
}

TEST("there is no handle without a context, and no bf16 before capability 80") {
  LtHandle handle = NULL;
  LtAlgo algo;
  emu_reset();
  EXPECT(cublasLtCreate(&handle) == LT_NOT_INITIALIZED && !handle, "before cuInit");
  Setup s = setup((Call){32, 32, 32, .batch = 1, .in = LT_R_16BF, .out = LT_R_32F});
  REQUIRE(init_algo(&s, 21, 15, 13, &algo) == 0 && check(&s, &algo) == 0, "capability 80");
  s.handle->capability = 75;
  EXPECT(check(&s, &algo) == LT_ARCH_MISMATCH, "capability 75");
  EXPECT_TEXT(cublasLtGetStatusName(LT_ARCH_MISMATCH), "CUBLAS_STATUS_ARCH_MISMATCH");
  done(&s);
}

TEST_MAIN()
