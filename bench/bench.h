/* Benchmarks: speeds of generated code beside the roofs of the machine, measured in the same run.
 *
 * A row is a function that went through the whole chain (text or Lua -> passes -> plan -> session).  Its operations
 * and bytes are the least that the task needs (operands read once, results written once, nothing recomputed), so the
 * share of the roof also shows what a kernel does in excess. */
#ifndef NUWA_BENCH_H
#define NUWA_BENCH_H

#include "frontend/compile/compile.h"
#include "runtime/base/safetensors.h"
#include "runtime/include/nuwa.h"
#include "runtime/plan.h"

typedef struct BenchOptions {
  const char *filter;        /* only rows whose id holds this text; NULL: all */
  Isa isa;
  int threads;               /* at least 1 */
  int repeat;                /* timed samples a row, at least 1 */
  PlanDevice device;         /* CUDA: see gpu_bench.h, which fills nvrtc and capability */
  DType precision;           /* of tensors and models: DTYPE_F32 (0) or DTYPE_BF16 */
  NuwaCuda cuda;
  bool cublaslt;             /* CUDA: large products by the library */
  const Nvrtc *nvrtc;
  int capability;
  bool tiny;                 /* CUDA: a test of the harness; its figures say nothing */
  FILE *progress;            /* NULL: silent */
  /* Compiles a file of the shipped models ("nuwa.lua"); NULL after err was set.  Without it rows with models are
   * left out. */
  Plan *(*compile)(void *ctx, const char *file, const Define *define, int n_define, CompileOptions *o, Error *err);
  void *compile_ctx;
} BenchOptions;

/* ---- roofs (roof.c) ---- */

enum { ROOF_SIZES = 6 };      /* footprints from 256 KiB to 512 MiB */

/* What this machine can do with the options' threads.  Bandwidths depend on what the caches hold. */
typedef struct Roofs {
  int threads;
  double fma[ISA_COUNT];     /* f32 operations a second (2 an FMA); 0 where the machine lacks the instruction set */
  double fma_check[ISA_COUNT], read_check[ROOF_SIZES], copy_check[ROOF_SIZES];   /* by a second loop; 0: there is none */
  double tensor, tensor_check;   /* the same of bf16 products on a GPU's tensor cores; 0 on a CPU */
  size_t bytes[ROOF_SIZES];
  double read[ROOF_SIZES];   /* bytes a second, over a buffer of that many bytes */
  double copy[ROOF_SIZES];   /* read and written bytes a second, both buffers together that many bytes */
  double loop_s;             /* an empty loop over all threads: wake, chunk, barrier */
  double launch_s;           /* a function with one kernel of one vector */
} Roofs;

/* Raises what stands in r (zeros at first) to what is measured: noise hides a roof, it never invents one. */
bool roofs_measure(const BenchOptions *o, Roofs *r, Error *err);
/* Of f32 FMA alone. */
bool roofs_measure_fma(const BenchOptions *o, Roofs *r, Error *err);
/* Bytes a second for a footprint: of the smallest measured size that is about as large. */
double roofs_fma(const Roofs *r, Isa isa);
double roofs_read(const Roofs *r, double bytes);
double roofs_copy(const Roofs *r, double bytes);

/* The roof that two loops show, and how far the lower one stays below: a share of the roof.  Above these, one of the loops
 * does not measure what it should, or the machine was too busy for either; the report says so. */
double roof_of(double loop, double check);
double roof_disagreement(double loop, double check);
#define ROOF_FMA_DISAGREEMENT 0.05
#define ROOF_MEMORY_DISAGREEMENT 0.2
/* No row can be faster than its roof but for the noise of both. */
#define ROOF_MOST_SHARE 1.05

/* ---- rows ---- */

typedef enum BenchUnit { UNIT_FLOPS, UNIT_BYTES, UNIT_SAMPLES, UNIT_TIME } BenchUnit;

typedef struct BenchRow {
  char id[64];               /* "attend.nearby.forward" */
  char what[96], size[96];
  double median_s, best_s;   /* of one run */
  double rate;               /* a second, of `unit` (UNIT_TIME: 0) */
  BenchUnit unit;
  double flops, bytes;       /* of one run; 0 where not counted */
  double written;            /* of the bytes */
  double share;              /* of the roof; 0: not given */
  const char *bound;         /* which roof: "fma", "tensor", "read", "copy", "" */
  char note[96];             /* "15 steps" */
} BenchRow;

typedef struct BenchRows {
  BenchRow *row;
  int n, cap;
} BenchRows;

/* Everything of one run of the benchmarks. */
typedef struct Bench {
  const BenchOptions *o;
  Arena *arena;              /* of rows and texts */
  Roofs roofs;
  BenchRows rows;
  const char *device;        /* a GPU's name and kind; NULL: the CPU */
} Bench;

/* True when the filter takes this row; then it also says so on o->progress. */
bool bench_wants(const Bench *b, const char *id);
void bench_add(Bench *b, const BenchRow *row);
/* Fills rate, share and bound from unit, flops, bytes, written and median_s. */
void bench_rate(const Bench *b, BenchRow *row);

/* ---- measuring (measure.c) ---- */

double bench_now(void);      /* seconds */

typedef struct Sample {
  double median_s, best_s;   /* of one call */
} Sample;
/* Calls run(ctx) `repeat` times after a warm-up, fewer when that takes more than a few seconds; a warm-up that takes
 * as long is the only sample.  Short calls are timed in groups of a millisecond. */
bool bench_time(int repeat, bool (*run)(void *ctx, Error *err), void *ctx, Sample *out, Error *err);

/* The same of nuwa_run; on a GPU only its kernels count, each measured by the device and waited for. */
bool bench_time_function(const BenchOptions *o, NuwaSession *s, const Plan *p, int function, int64_t B, Sample *out,
                         Error *err);

/* Fills the inputs of a function: floats (f32 or bf16) uniform in [-1/2, 1/2), integers in [0, 64) (indices that any
 * table here has), scalars of f32 with `scalar`. */
bool bench_fill(NuwaSession *s, const Plan *p, int function, int64_t B, int64_t R, double scalar, Error *err);

/* One function as IR text; `%in` ports and params are filled. */
typedef struct TextCase {
  const char *id, *what, *size, *text;
  int64_t samples;
  BenchUnit unit;
  double needed;             /* share of the operations in its products that the task needs; 0: all */
} TextCase;
/* A failure to parse or compile is err. */
bool bench_text(Bench *b, const TextCase *c, Error *err);
/* IR text with the tensors of f32 in it as the options' precision has them. */
const char *bench_precise(const Bench *b, const char *text);

/* ---- the groups of rows; each skips what the filter leaves out ---- */

bool bench_products(Bench *b, Error *err);      /* cases.c */
bool bench_convolutions(Bench *b, Error *err);
bool bench_maps(Bench *b, Error *err);
bool bench_attention(Bench *b, Error *err);     /* attention.c */
/* Attention alone: lo and hi are key boxes as IR text. */
typedef struct AttendCase {
  const char *id, *what, *kind;
  int64_t samples, heads, width;
  int64_t query[3], key[3];
  const char *lo, *hi;
  const char *causal;
} AttendCase;
bool bench_attention_cases(Bench *b, const AttendCase *c, int n, Error *err);   /* each forward and backward */
bool bench_decoding(Bench *b, Error *err);      /* models.c */
bool bench_training(Bench *b, Error *err);
bool bench_gpu_models(Bench *b, Error *err);    /* autoencoder, decoding and training in the sizes for a GPU */

/* ---- the whole (bench.c), and its report (report.c) ---- */

typedef struct BenchReport {
  Buffer markdown, json;
} BenchReport;

/* Measures all that the filter takes.  command: how it was called, for the report. */
bool bench_run(const BenchOptions *o, const char *command, BenchReport *out, Error *err);
/* Of /proc/cpuinfo. */
void bench_cpu_name(char *out, size_t n);
void bench_report(const Bench *b, const char *command, BenchReport *out);
/* Puts the markdown between the lines "<!-- PART:begin -->" and "<!-- PART:end -->" of a file. */
bool bench_rewrite(const char *path, const char *part, const char *markdown, Error *err);

#endif
