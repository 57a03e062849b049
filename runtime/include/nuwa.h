/* The public interface of the lean runtime: open a bundle, give it weights, run its functions, decode; text to tokens
 * and back.
 *
 * One header for C (C99 on) and C++; programs link libnuwa, which needs libc, libm, libdl and pthread.  A bundle for
 * CUDA also needs the driver's libcuda, and cuBLASLt when it has products by that; both are loaded when a session is
 * opened.
 *
 * Inputs and outputs are host memory either way.  A CPU never fails while running; a device may: the session then keeps
 * the failure, every later call fails at once, and closing it is all that is left.  A session holds all memory; running
 * allocates nothing.  A session is for one thread at a time; different sessions are independent, and may share a plan.
 * A bundle's native code is executed: open only bundles you trust (damage is detected, malice is not).
 *
 * What can fail takes a NuwaError last, never NULL, and returns false, NULL or -1 with its code and text set; success
 * does not touch it.  Sizes of tensors depend on B, the samples at once, and R, the rows of a decode step. */
#ifndef NUWA_H
#define NUWA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define NUWA_API __attribute__((visibility("default")))
#else
#define NUWA_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0" */
NUWA_API const char *nuwa_version(void);

/* ---- errors ---- */

enum {
  NUWA_OK,
  NUWA_ERROR_MEMORY,     /* an allocation failed */
  NUWA_ERROR_IO,         /* the operating system refused a file */
  NUWA_ERROR_FORMAT,     /* a file is truncated, damaged, foreign or inconsistent */
  NUWA_ERROR_ARGUMENT,   /* the caller asked for something that does not exist or does not fit */
  NUWA_ERROR_MODEL,      /* a mistake in a model file: the compiler's, never given here; so are LIMIT and USAGE */
  NUWA_ERROR_DEVICE,     /* a device, or a feature of it, is missing */
  NUWA_ERROR_LIMIT,
  NUWA_ERROR_USAGE,
  NUWA_ERROR_CANCELLED   /* a callback said to stop */
};

typedef struct NuwaError {
  int code;          /* one of the above */
  char text[1500];   /* what, where, and what would be right; one or several lines without a final newline */
} NuwaError;

/* ---- bundles and plans ---- */

enum { NUWA_CPU, NUWA_CUDA };

/* A file with one plan or several, each under a name, and with --embed their weights and texts.  What `nuwa compile`
 * makes of one model is a plan "model"; of a model that draws, with --embed, a whole application: plan and weights
 * "drawer", plan and weights "image" (its functions "encode" and "decode" turn pictures into tokens and back), and the
 * texts "merges" (of the text encoder) and "null_text" (the caption of guidance's null condition). */
typedef struct NuwaBundle NuwaBundle;
/* All of a compiled model but its weights. */
typedef struct NuwaPlan NuwaPlan;
/* Named tensors and text about them, in a safetensors file or in a bundle. */
typedef struct NuwaWeights NuwaWeights;

enum { NUWA_PART_PLAN, NUWA_PART_WEIGHTS, NUWA_PART_TEXT };

typedef struct NuwaPart {
  int kind;
  const char *name;              /* the bundle's */
  size_t bytes;
} NuwaPart;

/* Maps the file, and reads and checks everything but the numbers of weights. */
NUWA_API NuwaBundle *nuwa_bundle_open(const char *path, NuwaError *err);
/* What was taken from it by the functions below must be closed before. */
NUWA_API void nuwa_bundle_close(NuwaBundle *b);
/* The i-th part; false when there is none. */
NUWA_API bool nuwa_bundle_part(const NuwaBundle *b, int i, NuwaPart *out);
/* The bundle's, not to be freed; NULL when absent.  A plan without a name (NULL) is the first. */
NUWA_API const NuwaPlan *nuwa_bundle_plan(const NuwaBundle *b, const char *name);
NUWA_API const char *nuwa_bundle_entry(const NuwaBundle *b, const char *name);
/* Weights without a copy, checked against their digest; to be closed by the caller. */
NUWA_API NuwaWeights *nuwa_bundle_weights(const NuwaBundle *b, const char *name, NuwaError *err);

enum { NUWA_F32, NUWA_BF16, NUWA_I32, NUWA_U8 };   /* element types; bf16 is the upper half of an f32 */
enum { NUWA_MAX_RANK = 8 };

/* A tensor that goes into a function or comes out, in C order. */
typedef struct NuwaPort {
  const char *name;              /* the plan's */
  int type, rank;
  int64_t dim[NUWA_MAX_RANK];    /* under the B and R that were asked for */
  size_t bytes;
} NuwaPort;

/* A grid of tokens that is drawn token by token. */
typedef struct NuwaDecode {
  const char *name;              /* the plan's */
  int64_t grid[3], positions;    /* frames, rows, columns, and their product */
  int64_t vocab;                 /* a token is from 0 to vocab - 1 */
  int64_t stop;                  /* that ends a line of words; -1: none does */
  int prologue;                  /* the function that takes the conditions, -1: none */
} NuwaDecode;

/* NUWA_CPU or NUWA_CUDA: what the plan was compiled for, and runs on. */
NUWA_API int nuwa_plan_device(const NuwaPlan *p);
/* What the compiler noted: "model", "option.NAME", "precision", ...; NULL when absent. */
NUWA_API const char *nuwa_plan_entry(const NuwaPlan *p, const char *key);
/* Functions are numbers from 0; -1 when there is none of that name.  The name of one that does not exist is NULL. */
NUWA_API int nuwa_function_count(const NuwaPlan *p);
NUWA_API int nuwa_find_function(const NuwaPlan *p, const char *name);
NUWA_API const char *nuwa_function_name(const NuwaPlan *p, int function);
/* Ports of a function in their order, under B and R; false when there is no i-th or its size overflows. */
NUWA_API bool nuwa_input_port(const NuwaPlan *p, int function, int i, int64_t B, int64_t R, NuwaPort *out);
NUWA_API bool nuwa_output_port(const NuwaPlan *p, int function, int i, int64_t B, int64_t R, NuwaPort *out);
/* By name; false when absent. */
NUWA_API bool nuwa_find_input(const NuwaPlan *p, int function, const char *name, int64_t B, int64_t R, NuwaPort *out);
NUWA_API bool nuwa_find_output(const NuwaPlan *p, int function, const char *name, int64_t B, int64_t R, NuwaPort *out);
/* Decodes, likewise. */
NUWA_API int nuwa_decode_count(const NuwaPlan *p);
NUWA_API int nuwa_find_decode(const NuwaPlan *p, const char *name);
NUWA_API bool nuwa_decode_info(const NuwaPlan *p, int decode, NuwaDecode *out);

/* ---- sessions ---- */

typedef struct NuwaSession NuwaSession;

typedef struct NuwaCuda {
  const char *driver;     /* path of the driver; NULL: "libcuda.so.1" */
  const char *cublaslt;   /* path of cuBLASLt, for plans with products by it; NULL: the usual names */
  int ordinal;            /* which device, 0 the first */
  bool direct;            /* decode steps launch their kernels one by one instead of replaying a graph: the same bits */
} NuwaCuda;

typedef struct NuwaOptions {
  int device;             /* NUWA_CPU or NUWA_CUDA, must be the plan's */
  NuwaCuda cuda;          /* when that is CUDA */
  int threads;            /* 0: as many as the process may use */
  int64_t samples;        /* the largest B that will be asked for, at least 1 */
  int64_t rows;           /* the largest R, at least 1 when a decode step is to run */
  int64_t ring_slots;     /* slots of the rings; 0: as planned */
} NuwaOptions;

/* Allocates everything, loads the objects, zeroes states and params.  The plan, and the bundle that it is of, must
 * outlive the session. */
NUWA_API NuwaSession *nuwa_session_open(const NuwaPlan *p, const NuwaOptions *o, NuwaError *err);
NUWA_API void nuwa_session_close(NuwaSession *s);

/* False, with the first failure of the device in err, once there was one. */
NUWA_API bool nuwa_check(const NuwaSession *s, NuwaError *err);
/* Questions that every device answers.  Its name: "cpu", or a GPU's as its driver has it. */
NUWA_API const char *nuwa_device_name(const NuwaSession *s);
/* Whether the device had to compile the kernel when the session was opened, as it took no machine code of the bundle;
 * false when there is no such kernel. */
NUWA_API bool nuwa_kernel_is_compiled(const NuwaSession *s, int kernel);
/* The algorithm by which the device's library computes a product of the plan, as the text that a bundle may carry (""
 * where nothing launches it, or there is none), and the bytes that it needs beside the operands. */
NUWA_API const char *nuwa_product_algorithm(const NuwaSession *s, int product);
NUWA_API size_t nuwa_product_workspace(const NuwaSession *s, int product);

/* ---- weights ---- */

/* Maps and checks a safetensors file. */
NUWA_API NuwaWeights *nuwa_weights_open(const char *path, NuwaError *err);
NUWA_API void nuwa_weights_close(NuwaWeights *w);
/* Of the file's metadata ("bpe": the merges of its text encoder, ...); NULL when absent. */
NUWA_API const char *nuwa_weights_metadata(const NuwaWeights *w, const char *key);

/* Strict: every param must be there with its shape; a tensor that is no param is an error too, unless allow_others.
 * Tensors of F32, F64, F16, BF16, I32, I64, U8 and BOOL are converted to what the param is, where it can hold the
 * numbers.  On the CPU weights of the bundle that the plan is of are not copied but used where they are mapped; only
 * those are that a function updates, or that are stored otherwise.  Runs the prepare functions.  w may be closed
 * afterwards. */
NUWA_API bool nuwa_load_weights(NuwaSession *s, const NuwaWeights *w, bool allow_others, NuwaError *err);
/* Would they load?  Needs no session. */
NUWA_API bool nuwa_check_weights(const NuwaPlan *p, const NuwaWeights *w, bool allow_others, NuwaError *err);
/* Params from their initialisers and the seed (counter: element, param's name digest).  Runs the prepare functions. */
NUWA_API bool nuwa_init_weights(NuwaSession *s, uint64_t seed);

/* Whole params and states, by name, in C order for the session's largest B and R, out of the session and into it. */
NUWA_API bool nuwa_read_param(NuwaSession *s, const char *name, void *to, NuwaError *err);
NUWA_API bool nuwa_write_param(NuwaSession *s, const char *name, const void *from, NuwaError *err);
NUWA_API bool nuwa_read_state(NuwaSession *s, const char *name, void *to, NuwaError *err);
NUWA_API bool nuwa_write_state(NuwaSession *s, const char *name, const void *from, NuwaError *err);
/* Their memory where the host can reach it, valid as long as the session.  NULL when absent, and always on CUDA.  A param
 * that is used where it lies in a bundle is copied first. */
NUWA_API void *nuwa_param(NuwaSession *s, const char *name);
NUWA_API void *nuwa_state(NuwaSession *s, const char *name);
/* After params were written. */
NUWA_API bool nuwa_prepare(NuwaSession *s);

/* ---- running ---- */

/* Input and output memory of a function, in C order, for the largest B and R; NULL when absent. */
NUWA_API void *nuwa_input(NuwaSession *s, int function, const char *name);
NUWA_API void *nuwa_output(NuwaSession *s, int function, const char *name);
/* Executes one function on B <= samples and R <= rows, from its inputs to its outputs.  False: see nuwa_check, which says
 * of an argument that does not fit until the next call, and of a failure of the device for good. */
NUWA_API bool nuwa_run(NuwaSession *s, int function, int64_t B, int64_t R);
NUWA_API int nuwa_threads(const NuwaSession *s);
/* From now on the time of every launch is added up; false when memory is short.  (Two readings of the clock a
 * launch; on CUDA every launch is waited for.) */
NUWA_API bool nuwa_profile_start(NuwaSession *s, NuwaError *err);
/* Nanoseconds in launch i of a function so far; 0 when nothing is measured. */
NUWA_API int64_t nuwa_profile_ns(const NuwaSession *s, int function, int launch);
NUWA_API int64_t nuwa_samples(const NuwaSession *s);
/* Bytes held, on the host and on the device: arena, states, params, inputs, outputs.  Weights that are used where they
 * lie in a bundle are none of them. */
NUWA_API size_t nuwa_session_bytes(const NuwaSession *s);

/* ---- decoding ---- */

typedef struct NuwaSampling {
  float temperature;   /* 0 (or below, or NaN): the largest logit */
  int top_k;           /* only the k largest; below 1 or from vocab on: no limit */
  float top_p;         /* of those the fewest, largest first, that hold this share; at least one; from 1 on: no limit */
} NuwaSampling;

typedef struct NuwaGenerate {
  int decode;                    /* which decode of the plan */
  bool raster;                   /* raster order instead of the wavefront: the same tokens */
  int64_t count;                 /* samples, at least 1 */
  int64_t first;                 /* number of the first: samples 64 to 127 alone are what they are among 128 */
  uint64_t seed;
  NuwaSampling sample;
  float guidance;                /* 1: none.  Else samples [count, 2 count) of the inputs are the null condition */
  const uint8_t *given;          /* [S*H*W] 1 where the token is given, NULL: none.  The same for all samples */
  const int32_t *given_tokens;   /* [count][S*H*W] */
  float *chance;                 /* [count][S*H*W] written: of each drawn token the probability that the logits, guided, give
                                  * it at temperature 1; 1 for tokens that are given or behind a stop.  NULL: not wanted */
  int32_t *so_far;               /* [count][S*H*W] written before each call of progress: the tokens that are given or drawn by
                                  * then, -1 where there is none yet.  NULL: not wanted */
} NuwaGenerate;

typedef struct NuwaGenerateStats {
  int64_t steps, tokens;         /* step calls, and tokens that were drawn: up to the stop token, where there is one */
  int64_t live;                  /* most positions whose keys and values were held at once */
  double prologue_ms, step_ms;
} NuwaGenerateStats;

/* Called after each step with the positions done and in all; false stops the drawing. */
typedef bool NuwaProgress(void *ctx, int64_t done, int64_t total);

/* How many ring slots and rows a session needs for g (rows: all of the largest wave at once; fewer rows work too, waves
 * are then cut), and with guidance 2 count samples. */
NUWA_API bool nuwa_generate_needs(const NuwaPlan *p, const NuwaGenerate *g, int64_t *out_slots, int64_t *out_rows,
                                  NuwaError *err);
/* Runs prologue (inputs were written through nuwa_input; a "text_mask" that is 0 for a whole text is refused) and all
 * steps; tokens [count][S*H*W]: a sample that has drawn its decode's stop token, or was given it, has nothing but it
 * and what is given behind that.  progress and stats may be NULL.  When progress stops it, err says NUWA_ERROR_CANCELLED,
 * tokens and stats are not written, and the session is as good as before. */
NUWA_API bool nuwa_generate(NuwaSession *s, const NuwaGenerate *g, int32_t *tokens, NuwaGenerateStats *stats,
                            NuwaProgress *progress, void *ctx, NuwaError *err);

/* ---- text ---- */

/* Byte-pair encoding of text as in CLIP.  It never changes: any number of threads may use one. */
typedef struct NuwaText NuwaText;

/* From the bytes of a merges file; `where` names them in errors.  The bytes are copied. */
NUWA_API NuwaText *nuwa_text_parse(const char *merges, size_t bytes, const char *where, NuwaError *err);
NUWA_API void nuwa_text_close(NuwaText *t);
/* Ids are from 0 to this - 1. */
NUWA_API int nuwa_text_vocab(const NuwaText *t);
/* The tokens of a text (UTF-8, at most 64 KiB) without start and end.  Writes the first `cap`; *out_n is how many there
 * are. */
NUWA_API bool nuwa_text_encode(const NuwaText *t, const char *text, int32_t *out, int cap, int *out_n, NuwaError *err);
/* Exactly `length` >= 2 ids, as a model's text input takes them: start, the tokens, end, and zeros after it.  What is too
 * long is cut before the end token. */
NUWA_API bool nuwa_text_encode_fixed(const NuwaText *t, const char *text, int32_t *out, int length, NuwaError *err);
/* What a model's input "text_mask" takes: 1 for each of `length` ids up to the end token and for it, 0 behind it. */
NUWA_API void nuwa_text_mask(const NuwaText *t, const int32_t *ids, unsigned char *out, int length);
/* The text of ids up to the first end token, NUL-terminated, of which cap - 1 bytes at most are written (nothing when
 * cap is 0); *out_bytes is its whole length.  Ids outside of the vocabulary are an error. */
NUWA_API bool nuwa_text_decode(const NuwaText *t, const int32_t *ids, int n, char *out, size_t cap, size_t *out_bytes,
                               NuwaError *err);

#ifdef __cplusplus
}
#endif

#endif
