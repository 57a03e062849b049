/* The one pipeline: a table of passes, which compiling and inspecting drive alike, with the verifier between all of
 * them.  Each pass says what must be known of a function before it, what is known after it, and what no longer is. */
#ifndef NUWA_PIPELINE_H
#define NUWA_PIPELINE_H

#include "frontend/lua/model.h"
#include "passes/passes.h"

/* What can be known of a function. */
enum {
  KNOWN_PRECISE = 1,     /* it is computed in the precision asked for */
  KNOWN_GIVEN = 2,       /* the gradients it asks for are taken: FORM_GIVEN */
  KNOWN_PART = 4,        /* of a decode it is the prologue or the step */
  KNOWN_PRIMITIVE = 8,   /* no composites: FORM_PRIMITIVE */
  KNOWN_FOLDED = 16,
  KNOWN_STORABLE = 32,   /* rings and updates can be stored in place, operands are few enough for a kernel */
  KNOWN_GROUPS = 64,     /* it is cut into kernels */
  KNOWN_PRODUCTS = 128,  /* who computes each product */
  KNOWN_MEMORY = 256,    /* where every value lives */
};

/* A function on its way, and what is known of it. */
typedef struct PassWork {
  Func *func;
  const ModelDecode *decode;   /* to be split; NULL: a plain function */
  Decode *split;               /* after incremental: the decode that func is a part of */
  bool is_prologue;            /* else its step */
  const ModelTrain *train;     /* the entry of the model's training that it is, or NULL */
  bool is_evaluation;          /* must not move what training moves; reads averages where there are some */
  bool is_prepare;             /* what layout took out of another function */
  const char *no_samples;      /* why it takes no empty batch, or NULL */
  Program *program;
  MemPlan *memplan;
  unsigned known;
} PassWork;

/* What `inspect --after` prints of it. */
typedef enum PassShow { SHOW_FUNCTION, SHOW_SIZES, SHOW_EXTENTS, SHOW_SCHEDULE, SHOW_GROUPS, SHOW_MEMORY } PassShow;

typedef struct Pipeline Pipeline;
typedef struct Pass {
  const char *name;
  unsigned needs, gives, breaks;
  /* Changes the work; NULL: nothing to do.  False after a diagnostic.  index: its own, for parts that it sends ahead. */
  bool (*run)(Pipeline *p, PassWork *w, int index);
  PassShow show;
} Pass;
extern const Pass pipeline_passes[];
extern const int pipeline_n_pass;

struct Pipeline {
  DType precision;
  const Averaged *averaged;    /* of works with is_evaluation */
  int n_averaged;
  bool cublaslt;               /* large products are the library's */
  const char *until;           /* the last pass; NULL: all */
  /* Takes a work that has come through, in order of execution: prologue before step, prepare before what needs it. */
  bool (*done)(void *ctx, PassWork *w, const Pass *last);
  void *ctx;
  Error *err;
};

/* Inside arena_protect, the graph's diagnostics going to p->err.  False after one. */
bool pipeline_run(Pipeline *p, const PassWork *w);
/* f, or that entry of training, as it is meant, which is what the interpreter runs: in a precision, with its gradients
 * taken.  NULL after a diagnostic.  Inside arena_protect. */
Func *pipeline_meaning(Func *f, const ModelTrain *train, DType precision, Error *err);
/* The pass of that name, or NULL after an error that lists them. */
const Pass *pipeline_find(const char *name, Error *err);

#endif
