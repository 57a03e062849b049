/* What the tests of numbers share: functions of one graph are compiled together, through the whole chain, for each
 * instruction set, and run on the same data as the interpreter. */
#ifndef NUWA_RIG_H
#define NUWA_RIG_H

#include "frontend/compile/compile.h"
#include "ir/interp.h"
#include "runtime/base/safetensors.h"
#include "runtime/include/nuwa.h"
#include "runtime/plan.h"

typedef struct Rig {
  Model model;             /* made by hand: graph and functions */
  Func *func[4096];
  ModelDecode decode[8];
  Error err;
} Rig;

/* False when memory is short.  Building works inside rig_build. */
bool rig_open(Rig *r);
void rig_close(Rig *r);
/* Calls build(r) inside arena_protect; false with r->err set. */
bool rig_build(Rig *r, void (*build)(Rig *r));
/* Adds a function (NULL: keeps the diagnostic and gives NULL). */
Func *rig_add(Rig *r, Func *f);
/* A name of its own for the next function. */
const char *rig_name(Rig *r, const char *text);
Node *rig_input(Rig *r, const char *name, DType t, int rank, const Dim *dim);
/* func_new with inputs found from the outputs, in order of name. */
Func *rig_function(Rig *r, const char *name, const Port *out, int n_out);

/* The plan for an instruction set, NULL with r->err set.  plan_free.  whole: see CompileOptions. */
Plan *rig_compile(Rig *r, Isa isa, bool whole);
/* Those that this machine has, best first; the number of them. */
int rig_isas(Isa out[ISA_COUNT]);

/* What is to be named if the program is ended by a signal from here on (a bug that stops the compiler, say). */
void rig_blame(const char *what);

/* ---- kernels kept in memory ---- */

/* For tests that compile one model after the other: a store of objects, {rig_keep_get, rig_keep_put, a RigKeep}.  What
 * comes when it is full is not kept. */
enum { RIG_MOST_KEPT = 4096 };
typedef struct RigKeep {
  char *key[RIG_MOST_KEPT];
  Buffer object[RIG_MOST_KEPT];
  int n;
} RigKeep;
bool rig_keep_get(void *ctx, const char *key, Buffer *out);
void rig_keep_put(void *ctx, const char *key, const void *bytes, size_t n);
void rig_keep_done(RigKeep *k);

/* ---- data ---- */

/* Numbers that depend on seed and place only; floats about normal, ints -9..9, u8 0..255. */
double rig_value(DType t, uint64_t seed, int64_t i);
void rig_store(DType t, void *to, int64_t i, double x);
double rig_load(DType t, const void *from, int64_t i);
/* Inputs and params are rig_value with a seed from the name, or what `fit` (may be NULL) makes of it; states zeros. */
typedef double (*RigFit)(void *ctx, const char *name, int64_t i, double x);
typedef struct RigData {
  uint64_t seed;
  RigFit fit;
  void *ctx;
} RigData;
void rig_fill(const RigData *d, const char *name, DType t, int64_t n, void *to);
/* Interprets f on that data; outputs [n_out] and updates in arena a. */
bool rig_interp(const Func *f, const RigData *d, int64_t B, int64_t R, Arena *a, Tensor *out, Tensor *update, Error *err);
/* Writes the data into the session's inputs of function fn, and runs it. */
void rig_run(NuwaSession *s, const Plan *p, int fn, const RigData *d, int64_t B, int64_t R);

/* Largest |got - want| over largest |want| (1 if that is 0); NaN on both sides counts as equal. */
double rig_error(const PlanTensor *t, const void *got, const Tensor *want);

#endif
