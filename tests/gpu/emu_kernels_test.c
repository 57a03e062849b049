/* Kernels as NVRTC compiles them, against plain loops. */
#include <time.h>

#include "tests/gpu/emu_test.h"

TEST("vadd adds two vectors whose length is no multiple of the block") {
  NEED_NVRTC();
  enum { N = 100003 };
  static float a[N], b[N], c[N];
  uint64_t seed = 1;
  for (int i = 0; i < N; i++) a[i] = random_unit(&seed), b[i] = random_unit(&seed);
  CUfunction f = kernel_of("extern \"C\" __global__ void k(const float *a, const float *b, float *c, int n) {\n"
                           "  int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
                           "  if (i < n) c[i] = a[i] + b[i];\n"
                           "}\n");
  REQUIRE(f, "no kernel");
  CUdeviceptr da = device_array(a, sizeof a), db = device_array(b, sizeof b), dc = device_array(NULL, sizeof c);
  int n = N;
  REQUIRE_RUNS(launch(f, (N + 255) / 256, 256, 0, (void *[]){&da, &db, &dc, &n}));
  cuMemcpyDtoH_v2(c, dc, sizeof c);
  int wrong = 0;
  for (int i = 0; i < N; i++) wrong += c[i] != a[i] + b[i];
  EXPECT(wrong == 0, "%d of %d differ", wrong, N);
}

TEST("rows are summed by shuffles inside warps and shared memory between them") {
  NEED_NVRTC();
  enum { ROWS = 37, N = 259 };
  static float x[ROWS * N], sum[ROWS], most[ROWS];
  uint64_t seed = 2;
  for (int i = 0; i < ROWS * N; i++) x[i] = random_unit(&seed);
  CUfunction f = kernel_of(
      "extern \"C\" __global__ void k(const float *x, float *sum, float *most, int n) {\n"
      "  __shared__ float ss[32], sm[32];\n"
      "  const float *row = x + (size_t)blockIdx.x * n;\n"
      "  float s = 0, m = -3e38f;\n"
      "  for (int i = threadIdx.x; i < n; i += blockDim.x) { s += row[i]; m = fmaxf(m, row[i]); }\n"
      "  for (int o = 16; o; o >>= 1) {\n"
      "    s += __shfl_xor_sync(~0u, s, o); m = fmaxf(m, __shfl_xor_sync(~0u, m, o)); }\n"
      "  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;\n"
      "  if (lane == 0) { ss[warp] = s; sm[warp] = m; }\n"
      "  __syncthreads();\n"
      "  if (warp) return;\n"
      "  bool in = lane < blockDim.x / 32;\n"
      "  s = in ? ss[lane] : 0; m = in ? sm[lane] : -3e38f;\n"
      "  for (int o = 16; o; o >>= 1) {\n"
      "    s += __shfl_down_sync(~0u, s, o); m = fmaxf(m, __shfl_down_sync(~0u, m, o)); }\n"
      "  if (lane == 0) { sum[blockIdx.x] = s; most[blockIdx.x] = m; }\n"
      "}\n");
  REQUIRE(f, "no kernel");
  CUdeviceptr dx = device_array(x, sizeof x), ds = device_array(NULL, sizeof sum);
  CUdeviceptr dm = device_array(NULL, sizeof most);
  int n = N;
  REQUIRE_RUNS(launch(f, ROWS, 128, 0, (void *[]){&dx, &ds, &dm, &n}));
  cuMemcpyDtoH_v2(sum, ds, sizeof sum);
  cuMemcpyDtoH_v2(most, dm, sizeof most);
  for (int r = 0; r < ROWS; r++) {
    double s = 0;
    float m = -3e38f;
    for (int i = 0; i < N; i++) s += x[r * N + i], m = fmaxf(m, x[r * N + i]);
    EXPECT(fabs(sum[r] - s) < 1e-4 && most[r] == m,
           "row %d: sum %g for %g, most %g for %g", r, sum[r], s, most[r], m);
  }
}

static const char transpose[] =
    "extern \"C\" __global__ void k(const float *x, float *y, int rows, int cols) {\n"
    "  __shared__ float tile[16][17];\n"
    "  int r = blockIdx.y * 16 + threadIdx.y, c = blockIdx.x * 16 + threadIdx.x;\n"
    "  if (r < rows && c < cols) tile[threadIdx.y][threadIdx.x] = x[r * cols + c];\n"
    "  __syncthreads();\n"
    "  r = blockIdx.x * 16 + threadIdx.y; c = blockIdx.y * 16 + threadIdx.x;\n"
    "  if (r < cols && c < rows) y[r * rows + c] = tile[threadIdx.x][threadIdx.y];\n"
    "}\n";

TEST("a matrix with partial tiles is transposed through shared memory") {
  NEED_NVRTC();
  enum { ROWS = 45, COLS = 67 };
  static float x[ROWS * COLS], y[ROWS * COLS];
  for (int i = 0; i < ROWS * COLS; i++) x[i] = (float)i;
  CUfunction f = kernel_of(transpose);
  REQUIRE(f, "no kernel");
  CUdeviceptr dx = device_array(x, sizeof x), dy = device_array(NULL, sizeof y);
  int rows = ROWS, cols = COLS;
  void *params[] = {&dx, &dy, &rows, &cols};
  REQUIRE_RUNS(cuLaunchKernel(f, (COLS + 15) / 16, (ROWS + 15) / 16, 1, 16, 16, 1, 0, NULL, params, NULL));
  REQUIRE_RUNS(cuCtxSynchronize());
  cuMemcpyDtoH_v2(y, dy, sizeof y);
  int wrong = 0;
  for (int r = 0; r < ROWS; r++)
    for (int c = 0; c < COLS; c++) wrong += y[c * ROWS + r] != x[r * COLS + c];
  EXPECT(wrong == 0, "%d differ", wrong);
}

/* Nearby attention over one axis: query i sees keys i - 1 .. i + 1, one warp a query, a lane a channel. */
static const char attention[] =
    "__device__ float exp_of(float x) {\n"   /* x <= 0: 2^n times a polynomial */
    "  if (x < -80.0f) return 0.0f;\n"
    "  float n = rintf(x * 1.44269504f), r = fmaf(n, -1.42860677e-6f, fmaf(n, -0.693145752f, x));\n"
    "  float p = fmaf(r, fmaf(r, fmaf(r, fmaf(r, 1.0f / 120, 1.0f / 24), 1.0f / 6), 0.5f), 1.0f);\n"
    "  return fmaf(r, p, 1.0f) * __int_as_float(((int)n + 127) << 23);\n"
    "}\n"
    "extern \"C\" __global__ void k(const float *q, const float *key, const float *v, float *o, int n,\n"
    "                             float scale) {\n"
    "  int lane = threadIdx.x & 31, i = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);\n"
    "  if (i >= n) return;\n"
    "  float qv = q[i * 32 + lane] * scale, m = -3e38f, l = 0, acc = 0;\n"
    "  for (int j = max(i - 1, 0); j <= min(i + 1, n - 1); j++) {\n"
    "    float s = qv * key[j * 32 + lane];\n"
    "    for (int t = 16; t; t >>= 1) s += __shfl_xor_sync(~0u, s, t);\n"
    "    float mn = fmaxf(m, s), c = exp_of(m - mn), e = exp_of(s - mn);\n"
    "    l = l * c + e; acc = acc * c + e * v[j * 32 + lane]; m = mn;\n"
    "  }\n"
    "  o[i * 32 + lane] = acc / l;\n"
    "}\n";

TEST("online softmax attention with loops of unequal length agrees with the plain one") {
  NEED_NVRTC();
  enum { N = 50 };
  static float q[N * 32], key[N * 32], v[N * 32], o[N * 32];
  uint64_t seed = 3;
  for (int i = 0; i < N * 32; i++) q[i] = random_unit(&seed), key[i] = random_unit(&seed), v[i] = random_unit(&seed);
  CUfunction f = kernel_of(attention);
  REQUIRE(f, "no kernel");
  CUdeviceptr dq = device_array(q, sizeof q), dk = device_array(key, sizeof key), dv = device_array(v, sizeof v);
  CUdeviceptr d_o = device_array(NULL, sizeof o);
  int n = N;
  float scale = 0.17677669f, worst = 0;
  REQUIRE_RUNS(launch(f, (N + 3) / 4, 128, 0, (void *[]){&dq, &dk, &dv, &d_o, &n, &scale}));
  cuMemcpyDtoH_v2(o, d_o, sizeof o);
  for (int i = 0; i < N; i++) {
    double e[3], sum = 0;
    int low = i > 0 ? i - 1 : 0, high = i < N - 1 ? i + 1 : i;
    for (int j = low; j <= high; j++) {
      double s = 0;
      for (int c = 0; c < 32; c++) s += q[i * 32 + c] * key[j * 32 + c];
      sum += e[j - low] = exp(s * scale);
    }
    for (int c = 0; c < 32; c++) {
      double want = 0;
      for (int j = low; j <= high; j++) want += e[j - low] / sum * v[j * 32 + c];
      worst = fmaxf(worst, fabsf((float)want - o[i * 32 + c]));
    }
  }
  EXPECT(worst < 2e-6f, "worst difference %g", worst);
}

TEST("functions that are not inlined, structures, tables, local arrays and switches work") {
  NEED_NVRTC();
  CUfunction f = kernel_of(
      "struct P { int a; float b[3]; };\n"
      "__constant__ float table[4] = {1, 2, 4, 8};\n"
      "__device__ int counter = 5;\n"
      "__device__ __noinline__ float weigh(float x, int n, P p) {\n"
      "  float s = 0; for (int i = 0; i < n; i++) s += x * p.b[i % 3]; return s + p.a;\n"
      "}\n"
      "__device__ __noinline__ float twice(float x, P p) { return weigh(x, 2, p) * 2; }\n"
      "extern \"C\" __global__ void k(float *o, P p, int n) {\n"
      "  int i = threadIdx.x; float a[8];\n"
      "  for (int j = 0; j < 8; j++) a[j] = j * i;\n"
      "  for (int j = 0; j < n; j++) a[(j * 3) % 8] += 1;\n"
      "  float r = a[n % 8];\n"
      "  switch (i % 5) {\n"
      "    case 0: r += weigh(i, n, p); break;\n"
      "    case 1: r += twice(i, p); break;\n"
      "    case 2: r *= table[n & 3]; break;\n"
      "    case 3: while (r < 40) r += counter; break;\n"
      "    default: r = -r; }\n"
      "  o[i] = r;\n"
      "}\n");
  REQUIRE(f, "no kernel");
  struct { int a; float b[3]; } p = {3, {0.5f, 1, 2}};
  float o[40];
  int n = 6;
  CUdeviceptr d = device_array(NULL, sizeof o);
  REQUIRE_RUNS(launch(f, 1, 40, 0, (void *[]){&d, &p, &n}));
  cuMemcpyDtoH_v2(o, d, sizeof o);
  for (int i = 0; i < 40; i++) {
    float a[8], r, w = 0, w2 = 0;
    for (int j = 0; j < 8; j++) a[j] = (float)(j * i);
    for (int j = 0; j < n; j++) a[j * 3 % 8] += 1;
    for (int j = 0; j < n; j++) w += (float)i * p.b[j % 3];
    for (int j = 0; j < 2; j++) w2 += (float)i * p.b[j];
    r = a[n % 8];
    if (i % 5 == 0) r += w + 3;
    else if (i % 5 == 1) r += (w2 + 3) * 2;
    else if (i % 5 == 2) r *= 4;
    else if (i % 5 == 3) while (r < 40) r += 5;
    else r = -r;
    EXPECT(o[i] == r, "thread %d: %g for %g", i, o[i], r);
  }
}

TEST("votes, matches, ballots and atomics") {
  NEED_NVRTC();
  CUfunction f = kernel_of("extern \"C\" __global__ void k(unsigned *o, unsigned *count, float *sum) {\n"
                           "  unsigned i = threadIdx.x;\n"
                           "  o[i] = __ballot_sync(~0u, i % 3 == 0);\n"
                           "  o[i + 64] = __any_sync(~0u, i == 40) * 2 + __all_sync(~0u, i < 32);\n"
                           "  o[i + 128] = __match_any_sync(~0u, i / 4);\n"
                           "  o[i + 192] = __reduce_add_sync(~0u, i);\n"
                           "  o[i + 256] = __syncthreads_count(i < 10);\n"
                           "  if (i % 2) atomicAdd(count, 2); atomicMax(count + 1, i); atomicAdd(sum, 0.5f);\n"
                           "  atomicCAS(count + 2, i, i + 1);\n"
                           "}\n");
  REQUIRE(f, "no kernel");
  unsigned o[320], count[3] = {7, 0, 0};
  float sum = 1;
  CUdeviceptr d = device_array(NULL, sizeof o), dc = device_array(count, sizeof count);
  CUdeviceptr ds = device_array(&sum, sizeof sum);
  REQUIRE_RUNS(launch(f, 1, 64, 0, (void *[]){&d, &dc, &ds}));
  cuMemcpyDtoH_v2(o, d, sizeof o);
  cuMemcpyDtoH_v2(count, dc, sizeof count);
  cuMemcpyDtoH_v2(&sum, ds, sizeof sum);
  for (unsigned i = 0; i < 64; i++) {
    unsigned ballot = 0;
    for (unsigned k = 0; k < 32; k++) ballot |= (unsigned)((i / 32 * 32 + k) % 3 == 0) << k;
    EXPECT(o[i] == ballot, "ballot %#x for %#x", o[i], ballot);
    EXPECT(o[i + 64] == (i < 32 ? 1 : 2), "vote %u at %u", o[i + 64], i);
    unsigned four = 0xfu << i % 32 / 4 * 4;
    EXPECT(o[i + 128] == four, "match %#x at %u", o[i + 128], i);
    EXPECT(o[i + 192] == (i < 32 ? 496 : 1520), "sum %u at %u", o[i + 192], i);
    EXPECT(o[i + 256] == 10, "count %u at %u", o[i + 256], i);
  }
  EXPECT(count[0] == 7 + 64 && count[1] == 63 && count[2] == 64 && sum == 33,
         "%u %u %u %g", count[0], count[1], count[2], sum);
}

/* C = A B with bf16 tiles: cp.async in two stages, ldmatrix, mma.sync; 32x32 of C a block of 2 warps. */
static const char product[] =
    "typedef unsigned short u16;\n"
    "__device__ unsigned at(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }\n"
    "__device__ void copy(void *d, const void *s)\n"
    "{ asm volatile(\"cp.async.cg.shared.global [%0], [%1], 16;\" :: \"r\"(at(d)), \"l\"(s) : \"memory\"); }\n"
    "extern \"C\" __global__ void k(const u16 *A, const u16 *B, float *C, int M, int N, int K) {\n"
    "  __shared__ __align__(16) u16 a[2][32][24], b[2][16][40];\n"
    "  int t = threadIdx.x, lane = t & 31, warp = t >> 5, m0 = blockIdx.y * 32, n0 = blockIdx.x * 32;\n"
    "  float acc[4][4] = {};\n"
    "  auto load = [&](int s, int k0) {\n"
    "    copy(&a[s][t / 2][t % 2 * 8], A + (m0 + t / 2) * K + k0 + t % 2 * 8);\n"
    "    copy(&b[s][t / 4][t % 4 * 8], B + (k0 + t / 4) * N + n0 + t % 4 * 8);\n"
    "    asm volatile(\"cp.async.commit_group;\" ::: \"memory\"); };\n"
    "  load(0, 0);\n"
    "  for (int k0 = 0, s = 0; k0 < K; k0 += 16, s ^= 1) {\n"
    "    if (k0 + 16 < K) { load(s ^ 1, k0 + 16);\n"
    "      asm volatile(\"cp.async.wait_group %0;\" :: \"n\"(WAIT) : \"memory\"); }\n"
    "    else asm volatile(\"cp.async.wait_group 0;\" ::: \"memory\");\n"
    "    __syncthreads();\n"
    "    unsigned x[4];\n"
    "    asm volatile(\"ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\"\n"
    "      : \"=r\"(x[0]), \"=r\"(x[1]), \"=r\"(x[2]), \"=r\"(x[3])\n"
    "      : \"r\"(at(&a[s][warp * 16 + (lane & 15)][lane / 16 * 8])) : \"memory\");\n"
    "    for (int j = 0; j < 2; j++) {\n"
    "      unsigned y[4];\n"
    "      asm volatile(\"ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\"\n"
    "        : \"=r\"(y[0]), \"=r\"(y[1]), \"=r\"(y[2]), \"=r\"(y[3])\n"
    "        : \"r\"(at(&b[s][lane & 15][j * 16 + lane / 16 * 8])) : \"memory\");\n"
    "      for (int h = 0; h < 2; h++) { float *c = acc[j * 2 + h];\n"
    "        asm volatile(\"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32\"\n"
    "          \" {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9},\"\n"
    "          \" {%0,%1,%2,%3};\" : \"+f\"(c[0]), \"+f\"(c[1]), \"+f\"(c[2]), \"+f\"(c[3])\n"
    "          : \"r\"(x[0]), \"r\"(x[1]), \"r\"(x[2]), \"r\"(x[3]),\n"
    "          \"r\"(y[FIRST ? h * 2 + 1 : h * 2]), \"r\"(y[FIRST ? h * 2 : h * 2 + 1])); } }\n"
    "    __syncthreads();\n"
    "  }\n"
    "  for (int j = 0; j < 4; j++) for (int e = 0; e < 4; e++)\n"
    "    C[(m0 + warp * 16 + lane / 4 + e / 2 * 8) * N + n0 + j * 8 + lane % 4 * 2 + e % 2] = acc[j][e];\n"
    "}\n";

enum { M = 64, N = 96, K = 80 };

/* Runs the product with `wait` groups left open and B's registers swapped or not; the worst difference. */
static CUresult run_product(int wait, int swapped, float *out_worst) {
  static uint16_t a[M * K], b[K * N];
  static float c[M * N];
  char source[4096];
  uint64_t seed = 4;
  for (int i = 0; i < M * K; i++) a[i] = (uint16_t)(bits_of(random_unit(&seed)) >> 16);
  for (int i = 0; i < K * N; i++) b[i] = (uint16_t)(bits_of(random_unit(&seed)) >> 16);
  snprintf(source, sizeof source, "#define WAIT %d\n#define FIRST %d\n%s", wait, swapped, product);
  CUfunction f = kernel_of(source);
  if (!f) return -1;
  CUdeviceptr da = device_array(a, sizeof a), db = device_array(b, sizeof b), dc = device_array(NULL, sizeof c);
  int m = M, n = N, k = K;
  void *params[] = {&da, &db, &dc, &m, &n, &k};
  CUresult code = cuLaunchKernel(f, N / 32, M / 32, 1, 64, 1, 1, 0, NULL, params, NULL);
  if (!code) code = cuCtxSynchronize();
  if (code) return code;
  cuMemcpyDtoH_v2(c, dc, sizeof c);
  *out_worst = 0;
  for (int i = 0; i < M * N; i++) {
    double s = 0;
    for (int j = 0; j < K; j++) {
      uint32_t x = (uint32_t)a[i / N * K + j] << 16, y = (uint32_t)b[j * N + i % N] << 16;
      float u, v;
      memcpy(&u, &x, 4);
      memcpy(&v, &y, 4);
      s += (double)u * v;
    }
    *out_worst = fmaxf(*out_worst, fabsf((float)s - c[i]));
  }
  return 0;
}

TEST("a bf16 product through cp.async, ldmatrix and mma.sync is right") {
  NEED_NVRTC();
  float worst = INFINITY;
  EXPECT_RUNS(run_product(1, 0, &worst));
  EXPECT(worst < 1e-5f, "worst difference %g", worst);
}

TEST("a tf32 product through mma.sync is right") {
  NEED_NVRTC();
  CUfunction f = kernel_of(
      "__device__ unsigned tf(float x)\n"
      "{ unsigned r; asm(\"cvt.rna.tf32.f32 %0, %1;\" : \"=r\"(r) : \"f\"(x)); return r; }\n"
      "extern \"C\" __global__ void k(const float *a, const float *b, float *c) {\n"
      "  int l = threadIdx.x, g = l / 4, t = l % 4; float d[4] = {1, 1, 1, 1};\n"
      "  asm volatile(\"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9},\"\n"
      "    \" {%0,%1,%2,%3};\" : \"+f\"(d[0]), \"+f\"(d[1]), \"+f\"(d[2]), \"+f\"(d[3]) : \"r\"(tf(a[g * 8 + t])),\n"
      "    \"r\"(tf(a[(g + 8) * 8 + t])), \"r\"(tf(a[g * 8 + t + 4])), \"r\"(tf(a[(g + 8) * 8 + t + 4])),\n"
      "    \"r\"(tf(b[t * 8 + g])), \"r\"(tf(b[(t + 4) * 8 + g])));\n"
      "  for (int e = 0; e < 4; e++) c[(g + e / 2 * 8) * 8 + t * 2 + e % 2] = d[e];\n"
      "}\n");
  REQUIRE(f, "no kernel");
  float a[16 * 8], b[8 * 8], c[16 * 8];
  for (int i = 0; i < 128; i++) a[i] = (float)(i * 7 % 31 - 15) / 8;
  for (int i = 0; i < 64; i++) b[i] = (float)(i * 5 % 29 - 14) / 4;
  CUdeviceptr da = device_array(a, sizeof a), db = device_array(b, sizeof b), dc = device_array(NULL, sizeof c);
  REQUIRE_RUNS(launch(f, 1, 32, 0, (void *[]){&da, &db, &dc}));
  cuMemcpyDtoH_v2(c, dc, sizeof c);
  for (int i = 0; i < 128; i++) {
    float want = 1;
    for (int j = 0; j < 8; j++) want += a[i / 8 * 8 + j] * b[j * 8 + i % 8];
    EXPECT(c[i] == want, "at %d: %g for %g", i, c[i], want);
  }
}

TEST("packed bf16 and f16 arithmetic rounds every half once") {
  NEED_NVRTC();
  CUfunction f = kernel_of(
      "extern \"C\" __global__ void k(const unsigned *a, unsigned *r) {\n"
      "  unsigned d, x = a[0], y = a[1], z = a[2];\n"
      "  asm(\"fma.rn.bf16x2 %0, %1, %2, %3;\" : \"=r\"(d) : \"r\"(x), \"r\"(y), \"r\"(z)); r[0] = d;\n"
      "  asm(\"add.rn.f16x2 %0, %1, %2;\" : \"=r\"(d) : \"r\"(a[3]), \"r\"(a[4])); r[1] = d;\n"
      "  asm(\"max.bf16x2 %0, %1, %2;\" : \"=r\"(d) : \"r\"(x), \"r\"(y)); r[2] = d;\n"
      "}\n");
  REQUIRE(f, "no kernel");
  /* bf16 1.5 * 3 + 2^-7 = 4.5078, next to 4.5; -2 * 0.5 + 1 = 0.  f16 2048 + 1 ties to 2048; 1 + 2 = 3. */
  unsigned a[5] = {0xc0003fc0, 0x3f004040, 0x3f803c00, 0x3c006800, 0x40003c00}, r[3];
  CUdeviceptr da = device_array(a, sizeof a), dr = device_array(NULL, sizeof r);
  REQUIRE_RUNS(launch(f, 1, 1, 0, (void *[]){&da, &dr}));
  cuMemcpyDtoH_v2(r, dr, sizeof r);
  EXPECT(r[0] == 0x00004090, "%#x", r[0]);
  EXPECT(r[1] == 0x42006800, "%#x", r[1]);
  EXPECT(r[2] == 0x3f004040, "%#x", r[2]);
}

TEST("a wait for too few groups of copies is caught") {
  NEED_NVRTC();
  float worst;
  EXPECT(run_product(2, 0, &worst) == 719, "it ran");
  EXPECT_HAS(emu_last_error(), "cp.async into it has not been waited for");
}

TEST("swapped operands in inline assembly give a wrong product") {
  NEED_NVRTC();
  float worst = 0;
  EXPECT_RUNS(run_product(1, 1, &worst));
  EXPECT(worst > 0.1f, "worst difference %g", worst);
}

TEST("ten million lane instructions take about a second at most") {
  NEED_NVRTC();
  CUfunction f = kernel_of("extern \"C\" __global__ void k(float *x, int n) {\n"
                           "  int i = blockIdx.x * blockDim.x + threadIdx.x; float a = x[i];\n"
                           "  for (int j = 0; j < n; j++) { a = fmaf(a, 0.5f, 1.0f); x[i] = a; }\n"
                           "}\n");
  REQUIRE(f, "no kernel");
  float x[4096] = {0};
  int n = 400;
  CUdeviceptr d = device_array(x, sizeof x);
  struct timespec t0, t1;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t0);
  REQUIRE_RUNS(launch(f, 16, 256, 0, (void *[]){&d, &n}));
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t1);
  double seconds = (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) * 1e-9;
  double per = seconds / (double)(emu_last_steps() * 32) * 1e7;
  printf("%.3f s for 10^7 lane instructions\n", per);
#if defined(__SANITIZE_ADDRESS__) || !defined(__OPTIMIZE__)
  EXPECT(per < 20, "%.2f s", per);
#else
  EXPECT(per < 1.5, "%.2f s", per);
#endif
}

TEST_MAIN()
