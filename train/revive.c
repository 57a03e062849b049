/* Counting uses, and drawing vectors for codes without any.  All sums run in one fixed order, in doubles. */
#include "train/revive.h"

#include <string.h>

#include "runtime/base/names.h"
#include "runtime/base/philox.h"

struct Revive {
  NuwaSession *session;
  ReviveOptions options;
  int train;
  int64_t n_codes, width, rows;
  float *codebook;  /* [n_codes, width], the session's, or in copy */
  float *moment[2]; /* Adam's, of the same shape, or NULL */
  char moment_name[2][512];
  float *copy;      /* NULL: the host reaches the session's memory.  Else codebook and moments, fetched and stored */
  int32_t *uses;    /* [n_codes] */
  double *distance; /* [rows] squared, to the nearest code */
};

static bool fit(Revive *r, const Plan *p, int64_t batch, Error *err) {
  const ReviveOptions *o = &r->options;
  int param = plan_find_param(p, o->codebook);
  const PlanTensor *book = param < 0 ? NULL : &p->param[param].type;
  if (!book || book->rank != 2 || book->dtype != DTYPE_F32)
    return error_set(err, ERROR_ARGUMENT, "revive: the model has no codebook \"%s\", a param f32 [codes, width]",
                     o->codebook);
  const PlanFunction *f = &p->function[r->train];
  const PlanTensor *codes = plan_find_output(f, o->codes), *vectors = plan_find_output(f, o->vectors);
  int64_t n_codes = 0, n_values = 0;
  r->n_codes = book->dim[0].c;
  r->width = book->dim[1].c;
  if (!codes || codes->dtype != DTYPE_I32 || !vectors || vectors->dtype != DTYPE_F32)
    return error_set(err, ERROR_ARGUMENT, "revive: the loss needs outputs \"%s\" (i32) and \"%s\" (f32)", o->codes,
                     o->vectors);
  if (!plan_tensor_elems(codes, batch, 1, &n_codes) || !plan_tensor_elems(vectors, batch, 1, &n_values) ||
      r->width < 1 || n_codes * r->width != n_values)
    return error_set(err, ERROR_ARGUMENT, "revive: \"%s\" must hold one vector of %lld values for each of \"%s\"",
                     o->vectors, (long long)r->width, o->codes);
  if (o->window < 1) return error_set(err, ERROR_ARGUMENT, "revive: a window of %lld steps", (long long)o->window);
  r->rows = n_codes;
  return true;
}

/* Where codebook and moments are for the host. */
static bool reach(Revive *r, const Plan *p, Error *err) {
  NuwaSession *s = r->session;
  size_t n = (size_t)(r->n_codes * r->width);
  r->codebook = nuwa_param(s, r->options.codebook);
  if (!r->codebook && !(r->codebook = r->copy = mem_alloc(3 * n * sizeof(float))))
    return error_set(err, ERROR_MEMORY, "revive: out of memory for %lld codes", (long long)r->n_codes);
  for (int k = 0; k < 2; k++) {
    int length = snprintf(r->moment_name[k], sizeof r->moment_name[k], "%s%s", k ? TRAIN_MOMENT2 : TRAIN_MOMENT1,
                          r->options.codebook);
    if (length >= (int)sizeof r->moment_name[k] || plan_find_state(p, r->moment_name[k]) < 0) continue;
    r->moment[k] = r->copy ? r->copy + (size_t)(k + 1) * n : nuwa_state(s, r->moment_name[k]);
  }
  return true;
}

static bool fetch(Revive *r, Error *err) {
  bool ok = !r->copy || nuwa_read_param(r->session, r->options.codebook, r->codebook, err);
  for (int k = 0; k < 2 && r->copy && ok; k++)
    if (r->moment[k]) ok = nuwa_read_state(r->session, r->moment_name[k], r->moment[k], err);
  return ok;
}

static bool store(Revive *r, Error *err) {
  bool ok = !r->copy || nuwa_write_param(r->session, r->options.codebook, r->codebook, err);
  for (int k = 0; k < 2 && r->copy && ok; k++)
    if (r->moment[k]) ok = nuwa_write_state(r->session, r->moment_name[k], r->moment[k], err);
  return ok;
}

Revive *revive_new(NuwaSession *s, const Plan *p, int train, const ReviveOptions *o, int64_t batch, Error *err) {
  Revive *r = mem_alloc(sizeof *r);
  if (!r) {
    error_set(err, ERROR_MEMORY, "revive: out of memory");
    return NULL;
  }
  *r = (Revive){.session = s, .options = *o, .train = train};
  if (fit(r, p, batch, err) && reach(r, p, err)) {
    r->uses = mem_alloc((size_t)r->n_codes * sizeof *r->uses);
    r->distance = mem_alloc((size_t)r->rows * sizeof *r->distance);
    if (r->uses && r->distance) return r;
    error_set(err, ERROR_MEMORY, "revive: out of memory for %lld vectors", (long long)r->rows);
  }
  revive_free(r);
  return NULL;
}

void revive_free(Revive *r) {
  if (!r) return;
  mem_free(r->copy);
  mem_free(r->uses);
  mem_free(r->distance);
  mem_free(r);
}

int32_t *revive_uses(Revive *r, int64_t *out_n) {
  *out_n = r->n_codes;
  return r->uses;
}

static double squared_distance(const float *a, const float *b, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
  return sum;
}

/* The row up to which the distances make up more than `uniform` of their sum; by count when all are 0. */
static int64_t draw_row(const Revive *r, double uniform) {
  double total = 0.0, below = 0.0;
  for (int64_t i = 0; i < r->rows; i++) total += r->distance[i];
  if (!(total > 0.0)) return (int64_t)(uniform * (double)r->rows);
  for (int64_t i = 0; i < r->rows; i++)
    if ((below += r->distance[i]) > uniform * total) return i;
  return r->rows - 1;
}

static void place_code(Revive *r, int64_t code, const float *vectors, uint64_t seed, int64_t step) {
  float *at = r->codebook + code * r->width;
  Philox random = philox(seed, (uint32_t)code, (uint32_t)step, STREAM_REVIVE);
  int64_t row = draw_row(r, (double)philox_uniform(random.word[0]));
  size_t bytes = (size_t)r->width * sizeof(float);
  memcpy(at, vectors + row * r->width, bytes);
  for (int k = 0; k < 2; k++)
    if (r->moment[k]) memset(r->moment[k] + code * r->width, 0, bytes);
  for (int64_t i = 0; i < r->rows; i++) {
    double d = squared_distance(vectors + i * r->width, at, r->width);
    if (d < r->distance[i]) r->distance[i] = d;
  }
}

static bool is_code(const Revive *r, int32_t code) { return code >= 0 && code < r->n_codes; }

static int64_t revive_dead(Revive *r, const int32_t *codes, const float *vectors, uint64_t seed, int64_t step) {
  int64_t dead = 0;
  for (int64_t c = 0; c < r->n_codes; c++) dead += r->uses[c] == 0;
  if (dead == 0) return 0;
  for (int64_t i = 0; i < r->rows; i++)
    r->distance[i] = is_code(r, codes[i])
                         ? squared_distance(vectors + i * r->width, r->codebook + codes[i] * r->width, r->width)
                         : 0.0;
  for (int64_t c = 0; c < r->n_codes; c++)
    if (r->uses[c] == 0) place_code(r, c, vectors, seed, step);
  return dead;
}

bool revive_step(Revive *r, uint64_t seed, int64_t step, int64_t *out_n, Error *err) {
  const int32_t *codes = nuwa_output(r->session, r->train, r->options.codes);
  const float *vectors = nuwa_output(r->session, r->train, r->options.vectors);
  for (int64_t i = 0; i < r->rows; i++)
    if (is_code(r, codes[i]) && r->uses[codes[i]] < INT32_MAX) r->uses[codes[i]]++;
  *out_n = 0;
  if (step % r->options.window != 0) return true;
  if (!fetch(r, err)) return false;
  *out_n = revive_dead(r, codes, vectors, seed, step);
  memset(r->uses, 0, (size_t)r->n_codes * sizeof *r->uses);
  return store(r, err);
}

bool revive_start(Revive *r, int function, uint64_t seed, Error *err) {
  const float *vectors = nuwa_output(r->session, function, r->options.vectors);
  if (!vectors)
    return error_set(err, ERROR_ARGUMENT, "revive: the function has no output \"%s\"", r->options.vectors);
  if (!fetch(r, err)) return false;
  /* So far nothing is near: all rows count the same for the first code, and that code then sets the distances. */
  for (int64_t i = 0; i < r->rows; i++) r->distance[i] = 1e30;
  for (int64_t c = 0; c < r->n_codes; c++) place_code(r, c, vectors, seed, 0);
  return store(r, err);
}
