/* From groups and where their values live to a plan: lowers every group, compiles each distinct kernel once. */
#ifndef NUWA_PLAN_BUILD_H
#define NUWA_PLAN_BUILD_H

#include "codegen/emit/images.h"
#include "runtime/plan.h"
#include "runtime/base/pool.h"

typedef struct PlanBuild PlanBuild;

/* Everything lives in a; inside arena_protect. */
PlanBuild *plan_build_new(Arena *a, const ImageOptions *o, Error *err);

/* Before the functions: who chooses the parameters of kernels; NULL, as without a call: they are the defaults. */
void plan_build_choose(PlanBuild *b, const ParamsChooser *chooser);
/* Adds one function, cut into groups (those that are a library's marked); its index, or -1 after a diagnostic. */
int plan_build_function(PlanBuild *b, const Program *p, const MemPlan *m, bool is_prepare);
/* The function takes no empty batch, and why. */
void plan_build_needs_samples(PlanBuild *b, int function, const char *why);
/* Adds what decoding needs beside the functions of prologue and step (their indices; prologue -1: none). */
bool plan_build_decode(PlanBuild *b, const Decode *d, int prologue, int step);
/* What the runtime must know of a decode, but for the functions; `live` is that of the wavefront.  Points into d. */
bool plan_decode_describe(Arena *a, const Decode *d, PlanDecode *out, Error *err);
/* The kernels so far, in order. */
int plan_build_kernels(const PlanBuild *b, Kernel *const **out);
/* Which group every launch so far runs, and by which of these kernels. */
typedef struct LaunchGroup {
  const char *function;
  LaunchKind kind;
  int kernel, product;      /* by kind; 0 else */
  const Group *group;
} LaunchGroup;
int plan_build_launches(const PlanBuild *b, const LaunchGroup **out);
void plan_build_text(PlanBuild *b, const char *key, const char *value);

/* Compiles and writes the bundle's bytes. */
bool plan_build_finish(PlanBuild *b, Buffer *out);

#endif
