/* A model: what a Lua file describes, as functions of one graph.  The Lua state is gone when model_load returns. */
#ifndef NUWA_MODEL_H
#define NUWA_MODEL_H

#include "frontend/lua/options.h"
#include "frontend/lua/sandbox.h"
#include "ir/ir.h"

typedef struct ModelOptions {
  const Define *define; /* -D name=value */
  int n_define;
  const char *models_dir; /* the shipped models, for `require`; NULL: only beside the model */
  const SourceMap *source; /* the model's files as text: path names the main one, behind its last slash, and `require`
                              finds the others there alone; NULL: files are files */
  SandboxLimits limits;   /* zeros: the defaults */
  FILE *print_to;         /* NULL: stderr */
} ModelOptions;

/* decode(fn, ...): the function is also one of the model's, under the same name. */
typedef struct ModelDecode {
  const char *name;
  Func *func;                  /* teacher-forced */
  const char *tokens, *logits; /* an input and an output of func */
  bool has_stop;
  int64_t stop;                /* token after which a sample is filled with it, of grids with h = w = 1 */
} ModelDecode;

/* An entry of the module's `train`: one of the updates of a training step, in order. */
typedef struct ModelTrain {
  const char *name;
  Func *func;                /* "train.NAME" */
  int64_t from, to, every;   /* it runs in steps from, from + every, ..., counted from 1, not after `to` */
  double average;            /* of its params' averages; 0: none */
} ModelTrain;
enum { TRAIN_LAST = INT32_MAX }; /* `to` where none is given */

/* A plain value in the module's table; nested ones by "train.lr", list entries by "sizes.1". */
typedef struct ModelField {
  const char *name;
  Value value;
} ModelField;

typedef struct Model {
  Graph *graph; /* owned; its diagnostics go to `diag` until the caller sets graph->err anew */
  Func **func;
  int n_func; /* sorted by name */
  ModelDecode *decode;
  int n_decode;
  ModelTrain *train;
  int n_train;
  ModelField *field;
  int n_field;
  Options options; /* with the values in force */
  SourceMap source; /* all that was read, the main file first */
  const char *path;
  Error diag;
} Model;

/* Runs the file at path.  options NULL: all defaults.  NULL after err was set: ERROR_MODEL with file and line,
 * ERROR_LIMIT, ERROR_ARGUMENT for a -D that names no option or has a value that its option cannot have, ERROR_MEMORY,
 * ERROR_IO. */
Model *model_load(const char *path, const ModelOptions *options, Error *err);
/* NULL is fine. */
void model_free(Model *m);

/* The function of that name, or the entry of training ("train.NAME"); NULL after an error that lists the names there are. */
Func *model_find(const Model *m, const char *name, Error *err);
const ModelDecode *model_find_decode(const Model *m, const char *name, Error *err);
/* The entry of training that f is, or NULL. */
const ModelTrain *model_train_of(const Model *m, const Func *f);
/* The field of that dotted name, or NULL. */
const Value *model_field(const Model *m, const char *name);
/* "step(q: f32[4,8], k: ...) -> y: f32[4,8]" */
void model_print_signature(const Func *f, Buffer *out);

#endif
