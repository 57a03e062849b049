/* What the public header asks about plans, and the names it gives to what has a module of its own. */
#include "runtime/base/safetensors.h"
#include "runtime/plan.h"

_Static_assert(NUWA_F32 == (int)DTYPE_F32 && NUWA_BF16 == (int)DTYPE_BF16 && NUWA_I32 == (int)DTYPE_I32 &&
                   NUWA_U8 == (int)DTYPE_U8 && DTYPE_COUNT == 4, "nuwa.h names the element types");
_Static_assert(NUWA_MAX_RANK == (int)MAX_RANK, "nuwa.h has room for every rank");

#ifndef NUWA_VERSION
#define NUWA_VERSION "unknown"
#endif

const char *nuwa_version(void) { return NUWA_VERSION; }

/* ---- plans ---- */

int nuwa_plan_device(const Plan *p) { return (int)p->device; }

const char *nuwa_plan_entry(const Plan *p, const char *key) { return plan_text(p, key); }

int nuwa_function_count(const Plan *p) { return p->n_function; }

int nuwa_find_function(const Plan *p, const char *name) { return plan_find_function(p, name); }

static const PlanFunction *function_of(const Plan *p, int function) {
  return function >= 0 && function < p->n_function ? &p->function[function] : NULL;
}

const char *nuwa_function_name(const Plan *p, int function) {
  const PlanFunction *f = function_of(p, function);
  return f ? f->name : NULL;
}

static bool describe(const PlanTensor *t, int64_t B, int64_t R, NuwaPort *out) {
  int64_t bytes;
  if (B < 0 || R < 0 || !plan_tensor_bytes(t, B, R, &bytes)) return false;
  *out = (NuwaPort){.name = t->name, .type = (int)t->dtype, .rank = t->rank, .bytes = (size_t)bytes};
  for (int i = 0; i < t->rank; i++) out->dim[i] = dim_value(t->dim[i], B, R);
  return true;
}

bool nuwa_input_port(const Plan *p, int function, int i, int64_t B, int64_t R, NuwaPort *out) {
  const PlanFunction *f = function_of(p, function);
  return f && i >= 0 && i < f->n_in && describe(&f->in[i], B, R, out);
}

bool nuwa_output_port(const Plan *p, int function, int i, int64_t B, int64_t R, NuwaPort *out) {
  const PlanFunction *f = function_of(p, function);
  return f && i >= 0 && i < f->n_out && describe(&f->out[i], B, R, out);
}

bool nuwa_find_input(const Plan *p, int function, const char *name, int64_t B, int64_t R, NuwaPort *out) {
  const PlanFunction *f = function_of(p, function);
  const PlanTensor *t = f ? plan_find_input(f, name) : NULL;
  return t && describe(t, B, R, out);
}

bool nuwa_find_output(const Plan *p, int function, const char *name, int64_t B, int64_t R, NuwaPort *out) {
  const PlanFunction *f = function_of(p, function);
  const PlanTensor *t = f ? plan_find_output(f, name) : NULL;
  return t && describe(t, B, R, out);
}

int nuwa_decode_count(const Plan *p) { return p->n_decode; }

int nuwa_find_decode(const Plan *p, const char *name) { return plan_find_decode(p, name); }

bool nuwa_decode_info(const Plan *p, int decode, NuwaDecode *out) {
  if (decode < 0 || decode >= p->n_decode) return false;
  const PlanDecode *d = &p->decode[decode];
  *out = (NuwaDecode){.name = d->name, .grid = {d->grid[0], d->grid[1], d->grid[2]}, .vocab = d->vocab, .stop = d->has_stop ? d->stop : -1,
                      .positions = plan_positions(d), .prologue = d->prologue};
  return true;
}

/* ---- weights ---- */

Safetensors *nuwa_weights_open(const char *path, Error *err) { return safetensors_open(path, err); }

void nuwa_weights_close(Safetensors *w) {
  if (w) safetensors_close(w);
}

const char *nuwa_weights_metadata(const Safetensors *w, const char *key) { return safetensors_metadata(w, key); }
