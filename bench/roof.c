/* What the machine can do at most: f32 FMA of each instruction set, reading and copying at several footprints, and
 * the cost of a parallel loop.  Decides the hand-written loops that measure it; how rows compare with them is
 * bench.c's.  Of a roof the best sample counts: noise only ever lowers it.
 *
 * A loop that measures a roof is easily wrong: the compiler does less than is written, or the loop does not reach what
 * the machine can.  So every roof is measured by two loops that have nothing in common but what they measure; the
 * higher counts, and where they disagree the report says that it is not to be trusted.  Values come through memory that
 * the compiler cannot see into, every chain its own: equal chains would be computed once. */
#include <string.h>

#include "bench/bench.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* 12 chains cover the latency of two FMA units of four cycles, and fit in 16 registers beside the operands. */
#define EACH_CHAIN(F, ...) \
  F(0, __VA_ARGS__) F(1, __VA_ARGS__) F(2, __VA_ARGS__) F(3, __VA_ARGS__) F(4, __VA_ARGS__) F(5, __VA_ARGS__) \
  F(6, __VA_ARGS__) F(7, __VA_ARGS__) F(8, __VA_ARGS__) F(9, __VA_ARGS__) F(10, __VA_ARGS__) F(11, __VA_ARGS__)
#define CHAIN_LOAD(k, Vec, load) Vec c##k = load(sink + 16 * k);
#define CHAIN_STEP(k, fma) c##k = fma(c##k, y, x);
#define CHAIN_STORE(k, store) store(sink + 16 * k, c##k);
enum { CHAINS = 12, FMA_STEPS = 20000, SINK_FLOATS = 16 * CHAINS, TILE_K = 16 };

/* The other loop over FMA, a tile of a matrix product as libraries have it: 4 x 3 vectors of sums, operands from the
 * first-level cache.  a: [TILE_K][4], b: [TILE_K][3 vectors]. */
#define TILE_ROW(r, set1, fma)                                                                            \
  {                                                                                                       \
    float one = a[4 * k + r];                                                                             \
    s##r##0 = fma(b0, set1(one), s##r##0), s##r##1 = fma(b1, set1(one), s##r##1),                         \
    s##r##2 = fma(b2, set1(one), s##r##2);                                                                \
  }
#define TILE_SUMS(r, Vec, load) \
  Vec s##r##0 = load(sink + 48 * r), s##r##1 = load(sink + 48 * r + 16), s##r##2 = load(sink + 48 * r + 32);
#define TILE_STORE(r, store) \
  store(sink + 48 * r, s##r##0), store(sink + 48 * r + 16, s##r##1), store(sink + 48 * r + 32, s##r##2);

/* The loops over vectors Vec of one instruction set.  Copies of two kinds: an ordinary store reads its line first, a
 * streaming one does not, but never finds it in a cache.  Reads of two kinds: sums along one stream, and largest values
 * along two. */
#define DEFINE_LOOPS(isa, attribute, Vec, set1, fma, add, max, load, store, stream)  \
  attribute static void fma_##isa(float *sink, const float *operands) {              \
    Vec x = set1(operands[0]), y = set1(operands[1]);                                \
    EACH_CHAIN(CHAIN_LOAD, Vec, load)                                                \
    for (int i = 0; i < FMA_STEPS; i++) {                                            \
      EACH_CHAIN(CHAIN_STEP, fma)                                                    \
    }                                                                                \
    EACH_CHAIN(CHAIN_STORE, store)                                                   \
  }                                                                                  \
  attribute static void tile_##isa(float *sink, const float *operands) {             \
    const float *a = operands, *b = operands + 4 * TILE_K;                           \
    enum { L = sizeof(Vec) / 4 };                                                    \
    TILE_SUMS(0, Vec, load) TILE_SUMS(1, Vec, load) TILE_SUMS(2, Vec, load) TILE_SUMS(3, Vec, load) \
    for (int i = 0; i < FMA_STEPS; i += TILE_K) {                                    \
      for (int k = 0; k < TILE_K; k++) {                                             \
        Vec b0 = load(b + 48 * k), b1 = load(b + 48 * k + L), b2 = load(b + 48 * k + 2 * L); \
        TILE_ROW(0, set1, fma) TILE_ROW(1, set1, fma) TILE_ROW(2, set1, fma) TILE_ROW(3, set1, fma) \
      }                                                                              \
      __asm__ volatile("" : : "r"(operands) : "memory");                             \
    }                                                                                \
    TILE_STORE(0, store) TILE_STORE(1, store) TILE_STORE(2, store) TILE_STORE(3, store) \
  }                                                                                  \
  attribute static void read_##isa(const float *p, int64_t n, float *sink) {         \
    enum { L = sizeof(Vec) / 4 };                                                    \
    Vec a = set1(0.0f), b = a, c = a, d = a, e = a, f = a, g = a, h = a;             \
    for (int64_t i = 0; i + 8 * L <= n; i += 8 * L) {                                \
      __builtin_prefetch(p + i + 1024);                                              \
      a = add(a, load(p + i)), b = add(b, load(p + i + L));                          \
      c = add(c, load(p + i + 2 * L)), d = add(d, load(p + i + 3 * L));              \
      e = add(e, load(p + i + 4 * L)), f = add(f, load(p + i + 5 * L));              \
      g = add(g, load(p + i + 6 * L)), h = add(h, load(p + i + 7 * L));              \
    }                                                                                \
    store(sink, add(add(add(a, b), add(c, d)), add(add(e, f), add(g, h))));          \
  }                                                                                  \
  attribute static void peak_##isa(const float *p, int64_t n, float *sink) {         \
    enum { L = sizeof(Vec) / 4 };                                                    \
    const float *q = p + n / 2;                                                      \
    Vec a = set1(0.0f), b = a, c = a, d = a, e = a, f = a, g = a, h = a;             \
    for (int64_t i = 0; i + 4 * L <= n / 2; i += 4 * L) {                            \
      a = max(a, load(p + i)), b = max(b, load(q + i));                              \
      c = max(c, load(p + i + L)), d = max(d, load(q + i + L));                      \
      e = max(e, load(p + i + 2 * L)), f = max(f, load(q + i + 2 * L));              \
      g = max(g, load(p + i + 3 * L)), h = max(h, load(q + i + 3 * L));              \
    }                                                                                \
    store(sink, max(max(max(a, b), max(c, d)), max(max(e, f), max(g, h))));          \
  }                                                                                  \
  attribute static void copy_##isa(float *to, const float *p, int64_t n) {           \
    enum { L = sizeof(Vec) / 4 };                                                    \
    for (int64_t i = 0; i + L <= n; i += L) store(to + i, load(p + i));              \
  }                                                                                  \
  attribute static void stream_##isa(float *to, const float *p, int64_t n) {         \
    enum { L = sizeof(Vec) / 4 };                                                    \
    for (int64_t i = 0; i + L <= n; i += L) stream(to + i, load(p + i));             \
  }

#if defined(__x86_64__)
#define ON(features) __attribute__((target(features)))
DEFINE_LOOPS(plain, ON("avx,fma"), __m128, _mm_set1_ps, _mm_fmadd_ps, _mm_add_ps, _mm_max_ps, _mm_load_ps, _mm_store_ps,
             _mm_stream_ps)
DEFINE_LOOPS(avx2, ON("avx2,fma"), __m256, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_add_ps, _mm256_max_ps,
             _mm256_load_ps, _mm256_store_ps, _mm256_stream_ps)
DEFINE_LOOPS(avx512, ON("avx512f"), __m512, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_add_ps, _mm512_max_ps,
             _mm512_load_ps, _mm512_store_ps, _mm512_stream_ps)
#elif defined(__aarch64__)
#define NEON_FMA(c, y, x) vfmaq_f32(x, c, y)
DEFINE_LOOPS(neon, , float32x4_t, vdupq_n_f32, NEON_FMA, vaddq_f32, vmaxq_f32, vld1q_f32, vst1q_f32, vst1q_f32)
#endif

typedef struct RoofLoops {
  Isa isa;
  int lanes;
  void (*fma[2])(float *sink, const float *operands);
  void (*read[2])(const float *p, int64_t n, float *sink);
  void (*copy)(float *to, const float *p, int64_t n);
  void (*stream)(float *to, const float *p, int64_t n);
} RoofLoops;

#define LOOPS(isa, id, lanes) {id, lanes, {fma_##isa, tile_##isa}, {read_##isa, peak_##isa}, copy_##isa, stream_##isa}
static const RoofLoops all_loops[] = {
#if defined(__x86_64__)
    LOOPS(avx512, ISA_AVX512, 16), LOOPS(avx2, ISA_AVX2, 8), LOOPS(plain, ISA_PLAIN, 4),
#elif defined(__aarch64__)
    LOOPS(neon, ISA_NEON, 4), LOOPS(neon, ISA_PLAIN, 4),
#endif
};

/* ---- loops over all threads ---- */

enum { CHUNK_FLOATS = 8192 };  /* 32 KiB: many chunks a thread, so that a late thread does not decide */

typedef struct Work {
  const RoofLoops *loops;
  Pool *pool;
  float *from, *to;            /* [n] */
  int64_t n;
  int loop;                    /* which of the two; a copy: 0 stores, 1 streams, 2 is the C library's */
} Work;

/* Different starts and operands, below 1 so that nothing grows; the compiler must not know them, nor that results go
 * nowhere. */
static void begin_values(float *values, int n) {
  for (int i = 0; i < n; i++) values[i] = 0.25f + 0.5f * (float)i / (float)n;
  __asm__ volatile("" : : "r"(values) : "memory");
}
static void end_values(const float *values) { __asm__ volatile("" : : "r"(values) : "memory"); }

static void fma_chunk(void *ctx, int64_t begin, int64_t end, int thread) {
  const Work *w = ctx;
  _Alignas(64) float sink[SINK_FLOATS], operands[(4 + 48) * TILE_K];
  begin_values(operands, COUNT_OF(operands));
  for (int64_t i = begin; i < end; i++) {
    begin_values(sink, SINK_FLOATS);
    w->loops->fma[w->loop](sink, operands);
    end_values(sink);
  }
}

static void read_chunk(void *ctx, int64_t begin, int64_t end, int thread) {
  const Work *w = ctx;
  _Alignas(64) float sink[16];
  w->loops->read[w->loop](w->from + begin * CHUNK_FLOATS, (end - begin) * CHUNK_FLOATS, sink);
  end_values(sink);
}

static void copy_chunk(void *ctx, int64_t begin, int64_t end, int thread) {
  const Work *w = ctx;
  int64_t at = begin * CHUNK_FLOATS, n = (end - begin) * CHUNK_FLOATS;
  if (w->loop == 2) memcpy(w->to + at, w->from + at, (size_t)n * sizeof *w->to);
  else (w->loop ? w->loops->stream : w->loops->copy)(w->to + at, w->from + at, n);
}

static void empty_chunk(void *ctx, int64_t begin, int64_t end, int thread) {}

static bool run_fma(void *ctx, Error *err) {
  Work *w = ctx;
  pool_run(w->pool, fma_chunk, w, w->n, 1);
  return true;
}

/* Large footprints in larger chunks; small ones so that every thread has some. */
static int64_t grain_of(const Work *w) {
  int64_t chunks = w->n / CHUNK_FLOATS, grain = chunks / (8 * pool_threads(w->pool));
  return grain < 1 ? 1 : grain > 32 ? 32 : grain;
}

static bool run_read(void *ctx, Error *err) {
  Work *w = ctx;
  pool_run(w->pool, read_chunk, w, w->n / CHUNK_FLOATS, grain_of(w));
  return true;
}

static bool run_copy(void *ctx, Error *err) {
  Work *w = ctx;
  pool_run(w->pool, copy_chunk, w, w->n / CHUNK_FLOATS, grain_of(w));
  return true;
}

static bool run_empty(void *ctx, Error *err) {
  Work *w = ctx;
  pool_run(w->pool, empty_chunk, w, pool_threads(w->pool), 1);
  return true;
}

/* ---- roofs ---- */

/* More than a row has: the best of few is not the best. */
static int roof_samples(const BenchOptions *o) { return 3 * o->repeat; }

static void raise_to(double *roof, double measured) {
  if (measured > *roof) *roof = measured;
}

static bool measure_fma(Work w, const BenchOptions *o, Roofs *r, Error *err) {
  for (int i = 0; i < COUNT_OF(all_loops); i++) {
    if (!isa_available(all_loops[i].isa)) continue;
    w.loops = &all_loops[i];
    w.n = 8 * o->threads;
    for (w.loop = 0; w.loop < 2; w.loop++) {
      Sample s;
      if (!bench_time(roof_samples(o), run_fma, &w, &s, err)) return false;
      double rate = 2.0 * CHAINS * w.loops->lanes * FMA_STEPS * (double)w.n / s.best_s;
      raise_to(w.loop ? &r->fma_check[w.loops->isa] : &r->fma[w.loops->isa], rate);
    }
  }
  return true;
}

static bool measure_memory(Work w, const BenchOptions *o, Roofs *r, Error *err) {
  for (int i = 0; i < ROOF_SIZES; i++) {
    double bytes = (double)r->bytes[i];
    Sample s;
    w.n = (int64_t)r->bytes[i] / 4;
    for (w.loop = 0; w.loop < 2; w.loop++) {
      if (!bench_time(roof_samples(o), run_read, &w, &s, err)) return false;
      raise_to(w.loop ? &r->read_check[i] : &r->read[i], bytes / s.best_s);
    }
    w.n /= 2;
    for (w.loop = 0; w.loop < 3; w.loop++) {
      if (!bench_time(roof_samples(o), run_copy, &w, &s, err)) return false;
      raise_to(w.loop == 2 ? &r->copy_check[i] : &r->copy[i], bytes / s.best_s);
    }
  }
  return true;
}

static bool measure_all(Work *w, const BenchOptions *o, Roofs *out, Error *err) {
  Sample loop;
  if (!measure_fma(*w, o, out, err) || !measure_memory(*w, o, out, err)) return false;
  if (!bench_time(roof_samples(o), run_empty, w, &loop, err)) return false;
  if (out->loop_s == 0.0 || loop.best_s < out->loop_s) out->loop_s = loop.best_s;
  return true;
}

static const RoofLoops *best_loops(void) {
  for (int i = 0; i < COUNT_OF(all_loops); i++)
    if (isa_available(all_loops[i].isa)) return &all_loops[i];
  return NULL;
}

bool roofs_measure_fma(const BenchOptions *o, Roofs *out, Error *err) {
  Work w = {.pool = pool_new(o->threads, err)};
  bool ok = w.pool && measure_fma(w, o, out, err);
  pool_free(w.pool);
  return ok;
}

bool roofs_measure(const BenchOptions *o, Roofs *out, Error *err) {
  out->threads = o->threads;
  /* 256 KiB, 1, 4, 32, 128, 512 MiB */
  for (int i = 0; i < ROOF_SIZES; i++) out->bytes[i] = (size_t)1 << (18 + (11 * i + 2) / 5);
  size_t most = out->bytes[ROOF_SIZES - 1];
  Work w = {.loops = best_loops(), .pool = pool_new(o->threads, err)};
  if (!w.loops) error_set(err, ERROR_DEVICE, "roofs: neither x86-64 with AVX nor aarch64");
  w.from = mem_alloc_aligned(most, 4096);
  w.to = mem_alloc_aligned(most / 2, 4096);
  if (!w.from || !w.to) error_set(err, ERROR_MEMORY, "roofs: out of memory for %zu bytes", most + most / 2);
  bool ok = w.loops && w.pool && w.from && w.to;
  if (ok) {   /* zeroed memory may be one shared page until it is written */
    memset(w.from, 1, most);
    memset(w.to, 1, most / 2);
    ok = measure_all(&w, o, out, err);
  }
  mem_free(w.from);
  mem_free(w.to);
  pool_free(w.pool);
  return ok;
}

double roof_of(double loop, double check) { return loop > check ? loop : check; }

double roof_disagreement(double loop, double check) {
  double most = roof_of(loop, check);
  return most > 0.0 && check > 0.0 ? 1.0 - (loop < check ? loop : check) / most : 0.0;
}

static int of_footprint(const Roofs *r, double bytes) {
  int i = 0;
  while (i + 1 < ROOF_SIZES && (double)r->bytes[i] * 1.5 < bytes) i++;
  return i;
}

double roofs_fma(const Roofs *r, Isa isa) { return roof_of(r->fma[isa], r->fma_check[isa]); }

double roofs_read(const Roofs *r, double bytes) {
  int i = of_footprint(r, bytes);
  return roof_of(r->read[i], r->read_check[i]);
}

double roofs_copy(const Roofs *r, double bytes) {
  int i = of_footprint(r, bytes);
  return roof_of(r->copy[i], r->copy_check[i]);
}
