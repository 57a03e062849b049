/* Finding, loading, compiling and opening models, for whoever has said what compiles and executes. */
#ifndef NUWA_SYNTH_MODELS_H
#define NUWA_SYNTH_MODELS_H

#include "frontend/compile/compile.h"
#include "runtime/base/safetensors.h"
#include "runtime/include/nuwa.h"
#include "runtime/plan.h"

/* Which model, with values for its options. */
typedef struct ModelSpec {
  const char *path;            /* a Lua file, or a bundle where that is said; NULL: not known yet */
  const SourceMap *source;     /* its files as text, which path only names; NULL: files are files */
  const Define *define;
  int n_define;
} ModelSpec;

/* Plain values of a module that something reads; no others may be there. */
#define MODEL_CODEBOOK "codebook"              /* codes there are, of an autoencoder and of what draws them */
#define MODEL_LABELS_CODEBOOK "labels_codebook" /* codes of maps of labels, of what reads them */
#define MODEL_NULL "null_condition"            /* "token": a text of zeros and codes of -1 are no condition */
#define MODEL_VOCAB "vocab"                    /* tokens of texts */
#define MODEL_CLASSES "classes"                /* classes there are, of what reads or gives one */

/* What all compilations and sessions share, and who listens.  synth itself prints nothing. */
typedef struct SynthTarget {
  CompileOptions compile;      /* of which precision, device, isa, archs, products, threads and store count */
  NuwaOptions session;         /* of which device, cuda and threads count */
  bool is_device_given;        /* else a bundle runs on what it is for */
  const char *const *ignore;   /* [n_ignore] patterns of names that weights files are read without */
  int n_ignore;
  const char *models_dir;      /* the shipped models; NULL: only files beside a model are found */
  void (*say)(void *ctx, const char *text);                          /* a message of one line; NULL: nobody listens */
  void (*progress)(void *ctx, int64_t done, int64_t total);          /* tokens drawn; may be NULL */
  bool (*is_cancelled)(void *ctx);                                   /* asked during long work; may be NULL */
  void *ctx;
} SynthTarget;

void synth_say(const SynthTarget *t, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Whether the path names a bundle rather than a Lua file. */
bool models_is_bundle(const char *path);
/* The path of a file of the shipped models ("nuwa.lua", "weights/nuwa.safetensors").  In a. */
const char *models_find(Arena *a, const SynthTarget *t, const char *file);
/* Sets or replaces an option's value.  In a. */
void models_define(Arena *a, ModelSpec *m, const char *name, const char *value);
Model *models_load(const SynthTarget *t, const ModelSpec *m, Error *err);
/* Compiles what o names (functions, training, explanation) for the target; appends the bundle, or gives its plan. */
bool models_compile(const SynthTarget *t, Model *model, const CompileOptions *o, Buffer *out, Error *err);
Plan *models_compile_plan(const SynthTarget *t, Model *model, const CompileOptions *o, Error *err);
/* Kernels and launches with what these are estimated to do; lowered_done frees them, also after a failure. */
bool models_lower(const SynthTarget *t, const Model *model, const CompileOptions *o, Lowered *out, Error *err);
/* A bundle's plan, or some functions of a model as one; w must have its params, and none that the model does not have (what
 * only training uses, a discriminator say, the functions do not read). */
Plan *models_open_plan(const SynthTarget *t, const ModelSpec *m, const char *const *functions, int n, const Safetensors *w,
                       Error *err);
/* A session of the plan for these sizes (NuwaOptions has them; ring_slots 0: as planned).  Says when a GPU runs PTX
 * although the plan has machine code for others. */
NuwaSession *models_open_session(const SynthTarget *t, const Plan *p, int64_t samples, int64_t rows,
                                 int64_t ring_slots, Error *err);

/* The names in its `tasks` with spaces between; "" where it has none.  In a (call inside arena_protect). */
const char *models_list_tasks(const Model *model, Arena *a);
/* Such a list with the task whose decode has that name; without, where that is none. */
const char *models_add_task(Arena *a, const char *list, const char *decode);
/* Every param of the model, sorted by name.  In the graph's arena (call inside arena_protect). */
Node **models_params(const Model *model, int *out_n);
/* Fails when the file holds a tensor that is no param of the model. */
bool models_check_weights(const Model *model, const Safetensors *w, Error *err);

#endif
