/* What a plan says must be possible: indices in range, sizes that fit, references inside what they refer to.  Sizes are
 * compared by their coefficients of B and R, and at the smallest B that the function takes (least_samples) with R = 0:
 * what holds there holds for all, because these coefficients are not negative. */
#include <string.h>

#include "runtime/base/names.h"
#include "runtime/device.h"
#include "runtime/plan.h"

enum { MAX_COEFFICIENT_BITS = 46, MAX_THREADS = 1024, MAX_ITEMS = 1 << 20, MAX_SHARED = 1 << 18, MAX_ARCH = 999, MAX_INTERVALS = 1 << 23 };

/* From `least` samples on. */
static bool dim_is_sane(Dim d, int64_t least) {
  int64_t most = (int64_t)1 << MAX_COEFFICIENT_BITS;
  return d.c >= -most && d.b >= 0 && d.r >= 0 && d.c <= most && d.b <= most && d.r <= most && d.c + least * d.b >= 0;
}

static bool dim_value_checked(Dim d, int64_t B, int64_t R, int64_t *out) {
  int64_t b, r, sum;
  if (__builtin_mul_overflow(d.b, B, &b) || __builtin_mul_overflow(d.r, R, &r) || __builtin_add_overflow(d.c, b, &sum) ||
      __builtin_add_overflow(sum, r, out))
    return false;
  return *out >= 0;
}

bool plan_tensor_elems(const PlanTensor *t, int64_t B, int64_t R, int64_t *out) {
  int64_t n = 1;
  for (int i = 0; i < t->rank; i++) {
    int64_t d;
    if (!dim_value_checked(t->dim[i], B, R, &d) || __builtin_mul_overflow(n, d, &n)) return false;
  }
  *out = n;
  return n <= (int64_t)1 << MAX_COEFFICIENT_BITS;
}

bool plan_tensor_bytes(const PlanTensor *t, int64_t B, int64_t R, int64_t *out) {
  int64_t n;
  if (!plan_tensor_elems(t, B, R, &n)) return false;
  *out = n * (int64_t)dtype_bytes(t->dtype);
  return true;
}

static bool check_tensor(const PlanTensor *t, int64_t least, const char *what, Error *err) {
  if (!t->name[0]) return error_set(err, ERROR_FORMAT, "a %s has no name", what);
  if ((unsigned)t->dtype >= DTYPE_COUNT) return error_set(err, ERROR_FORMAT, "%s \"%s\": unknown element type", what, t->name);
  for (int i = 0; i < t->rank; i++)
    if (!dim_is_sane(t->dim[i], least)) return error_set(err, ERROR_FORMAT, "%s \"%s\": axis %d is out of range", what, t->name, i);
  int64_t bytes;
  if (!plan_tensor_bytes(t, 1, 1, &bytes)) return error_set(err, ERROR_FORMAT, "%s \"%s\" is too large", what, t->name);
  return true;
}

/* The product of the dims as an affine size in bytes, when it is one. */
static bool tensor_bytes_dim(const PlanTensor *t, Dim *out) {
  Dim n = dim_const((int64_t)dtype_bytes(t->dtype));
  for (int i = 0; i < t->rank; i++) {
    Dim d = t->dim[i];
    if (!dim_is_const(n) && !dim_is_const(d)) return false;
    Dim affine = dim_is_const(n) ? d : n;
    int64_t k = dim_is_const(n) ? n.c : d.c;
    if (__builtin_mul_overflow(affine.c, k, &n.c) || __builtin_mul_overflow(affine.b, k, &n.b) ||
        __builtin_mul_overflow(affine.r, k, &n.r))
      return false;
  }
  *out = n;
  return true;
}

static bool dim_within(Dim x, Dim y, int64_t least) {
  return x.b <= y.b && x.r <= y.r && x.c + least * x.b <= y.c + least * y.b;
}

/* Bytes a unit of a part of the arena, which is B or R times as large. */
static int64_t unit_bytes(const PlanRef *r) {
  return r->part == 0 ? r->bytes.c : (r->part == 1 ? r->bytes.b : r->bytes.r) + (r->bytes.c > 0 ? r->bytes.c : 0);
}

static bool check_ref(const Plan *p, const PlanFunction *f, const PlanRef *r, Error *err) {
  const PlanTensor *t = NULL;
  if (!dim_is_sane(r->bytes, f->least_samples)) return error_set(err, ERROR_FORMAT, "function \"%s\": an operand has a size out of range", f->name);
  if (r->kind == REF_ARENA) {
    bool right_part = (r->part == 0 && r->bytes.b == 0 && r->bytes.r == 0) || (r->part == 1 && r->bytes.r == 0) ||
                      (r->part == 2 && r->bytes.b == 0);
    if (!right_part || r->unit_offset < 0 || r->unit_offset % 64 != 0 || r->unit_offset > f->part_bytes[r->part] - unit_bytes(r))
      return error_set(err, ERROR_FORMAT, "function \"%s\": an operand lies outside the arena", f->name);
    return true;
  }
  int32_t i = r->index;
  if (i < 0) return error_set(err, ERROR_FORMAT, "function \"%s\": an operand has a negative index", f->name);
  if (r->kind == REF_INPUT && i < f->n_in) t = &f->in[i];
  if (r->kind == REF_OUTPUT && i < f->n_out) t = &f->out[i];
  if (r->kind == REF_PARAM && i < p->n_param) t = &p->param[i].type;
  if (r->kind == REF_STATE && i < p->n_state) t = &p->state[i].type;
  if (!t) return error_set(err, ERROR_FORMAT, "function \"%s\": an operand refers to tensor %d, which does not exist", f->name, i);
  Dim have;
  if (!tensor_bytes_dim(t, &have) || !dim_within(r->bytes, have, f->least_samples))
    return error_set(err, ERROR_FORMAT, "function \"%s\": an operand is larger than \"%s\"", f->name, t->name);
  return true;
}

/* ---- products ---- */

static bool dim_is_one(Dim d) { return dim_equal(d, dim_const(1)); }

/* x y elements of `bytes` each, when that is an affine size. */
static bool dim_product(Dim x, Dim y, int64_t bytes, Dim *out) {
  Dim affine = dim_is_const(x) ? y : x, factor = dim_is_const(x) ? x : y;
  int64_t n;
  return dim_is_const(factor) && !__builtin_mul_overflow(factor.c, bytes, &n) &&
         !__builtin_mul_overflow(affine.c, n, &out->c) && !__builtin_mul_overflow(affine.b, n, &out->b) &&
         !__builtin_mul_overflow(affine.r, n, &out->r);
}

/* Whether the operand has room for batch matrices of rows x cols. */
static bool has_room(const PlanRef *r, int64_t least, Dim batch, Dim rows, Dim cols, DType t) {
  Dim one, all;
  return dim_product(rows, cols, (int64_t)dtype_bytes(t), &one) && dim_product(batch, one, 1, &all) &&
         dim_is_sane(all, least) && dim_within(all, r->bytes, least);
}

/* Both are checked references. */
static bool refs_overlap(const PlanRef *x, const PlanRef *y) {
  if (x->kind != y->kind || x->index != y->index || x->part != y->part) return false;
  return x->kind != REF_ARENA ||
         (x->unit_offset < y->unit_offset + unit_bytes(y) && y->unit_offset < x->unit_offset + unit_bytes(x));
}

/* The stored rows of A, B and C have constant lengths, so that what an algorithm asks of them holds for all B and R;
 * the others fit in 31 bits for every B and R that a session takes, or the library refuses them. */
static bool is_shape(const PlanProduct *p, const PlanShape *s, int64_t least) {
  const Dim *dim[] = {&s->batch, &s->m, &s->n, &s->k};
  for (int i = 0; i < COUNT_OF(dim); i++)
    if (!dim_is_sane(*dim[i], least) || dim[i]->c + dim[i]->b + dim[i]->r < 1 || (dim[i]->b && dim[i]->r)) return false;
  bool constant_k = dim_is_const(s->k);
  if (!dim_is_const(s->n) || !dim_is_const(p->transpose_a ? s->m : s->k) || (p->transpose_b && !constant_k)) return false;
  return (constant_k || !p->bias) && (dim_is_one(s->batch) || (dim_is_const(s->m) && constant_k));
}

static bool check_product_launch(const Plan *p, const PlanFunction *f, const PlanLaunch *l, Error *err) {
  if (!device_kind(p->device)->check_algorithm || l->product < 0 || l->product >= p->n_product)
    return error_set(err, ERROR_FORMAT, "function \"%s\": launch of product %d, there are %d", f->name, l->product,
                     p->n_product);
  const PlanProduct *x = &p->product[l->product];
  const PlanShape *s = &l->shape;
  if (l->n_ref != 3 + x->bias || l->n_factor)
    return error_set(err, ERROR_FORMAT, "function \"%s\": a product has %d operands and %d factors, must have %d and none",
                     f->name, l->n_ref, l->n_factor, 3 + x->bias);
  if (!is_shape(x, s, f->least_samples)) return error_set(err, ERROR_FORMAT, "function \"%s\": a product has an impossible shape", f->name);
  for (int i = 0; i < l->n_ref; i++)
    if (!check_ref(p, f, &l->ref[i], err)) return false;
  const PlanRef *a = &l->ref[0], *b = &l->ref[1], *c = &l->ref[l->n_ref - 1];
  Dim one = dim_const(1);
  int64_t least = f->least_samples;
  if (!has_room(a, least, s->batch, s->m, s->k, x->in) ||
      !has_room(b, least, x->share_b ? one : s->batch, s->k, s->n, x->in) ||
      !has_room(c, least, s->batch, s->m, s->n, x->out) || (x->bias && !has_room(&l->ref[2], least, one, one, s->n, x->out)))
    return error_set(err, ERROR_FORMAT, "function \"%s\": a product is larger than one of its operands", f->name);
  for (int i = 0; i < l->n_ref - 1; i++)
    if (refs_overlap(c, &l->ref[i]))
      return error_set(err, ERROR_FORMAT, "function \"%s\": the result of a product overlaps an operand", f->name);
  return c->kind != REF_INPUT ||
         error_set(err, ERROR_FORMAT, "function \"%s\": a product writes an input", f->name);
}

static bool check_product(const Plan *p, int index, Error *err) {
  const PlanProduct *x = &p->product[index];
  bool known = (x->in == DTYPE_F32 && x->out == DTYPE_F32) ||
               (x->in == DTYPE_BF16 && (x->out == DTYPE_BF16 || x->out == DTYPE_F32));
  if (!known || (x->bias && x->in != DTYPE_F32))
    return error_set(err, ERROR_FORMAT, "product %d has an impossible form", index);
  bool (*check)(const char *text, Error *err) = device_kind(p->device)->check_algorithm;
  if (!check) return error_set(err, ERROR_FORMAT, "product %d: %s has no library for it", index, plan_device_name(p->device));
  return !x->algorithm[0] || check(x->algorithm, err) || error_prefix(err, "product %d", index);
}

static bool check_launch(const Plan *p, const PlanFunction *f, const PlanLaunch *l, Error *err) {
  if (l->kind == LAUNCH_PRODUCT) return check_product_launch(p, f, l, err);
  if (l->kernel < 0 || l->kernel >= p->n_kernel)
    return error_set(err, ERROR_FORMAT, "function \"%s\": launch of kernel %d, there are %d", f->name, l->kernel, p->n_kernel);
  if (l->grain < 1) return error_set(err, ERROR_FORMAT, "function \"%s\": a launch has no grain", f->name);
  if (p->device == PLAN_CUDA && l->n_ref > PLAN_MAX_REFS)
    return error_set(err, ERROR_FORMAT, "function \"%s\": a launch has %d operands, the most is %d", f->name, l->n_ref,
                     PLAN_MAX_REFS);
  for (int i = 0; i < l->n_factor; i++)
    if (!dim_is_sane(l->factor[i].size, f->least_samples) || l->factor[i].tile < 1)
      return error_set(err, ERROR_FORMAT, "function \"%s\": a launch has an impossible number of items", f->name);
  for (int i = 0; i < l->n_ref; i++)
    if (!check_ref(p, f, &l->ref[i], err)) return false;
  return true;
}

static bool check_function(const Plan *p, const PlanFunction *f, Error *err) {
  if (!f->name[0]) return error_set(err, ERROR_FORMAT, "a function has no name");
  if (f->least_samples < 0 || f->least_samples > 1)
    return error_set(err, ERROR_FORMAT, "function \"%s\": its smallest batch is out of range", f->name);
  for (int i = 0; i < 3; i++)
    if (f->part_bytes[i] < 0 || f->part_bytes[i] > (int64_t)1 << MAX_COEFFICIENT_BITS || f->part_bytes[i] % 64 != 0)
      return error_set(err, ERROR_FORMAT, "function \"%s\": the size of its arena is out of range", f->name);
  for (int i = 0; i < f->n_in; i++)
    if (!check_tensor(&f->in[i], f->least_samples, "input", err)) return false;
  for (int i = 0; i < f->n_out; i++)
    if (!check_tensor(&f->out[i], f->least_samples, "output", err)) return false;
  for (int i = 0; i < f->n_launch; i++)
    if (!check_launch(p, f, &f->launch[i], err)) return false;
  for (int i = 0; i < f->n_copy; i++) {
    const PlanCopy *c = &f->copy[i];
    if (!check_ref(p, f, &c->from, err) || !check_ref(p, f, &c->to, err)) return false;
    if (!dim_equal(c->from.bytes, c->to.bytes) || c->to.kind == REF_INPUT)
      return error_set(err, ERROR_FORMAT, "function \"%s\": an impossible copy", f->name);
    if (c->to.kind == REF_PARAM && !p->param[c->to.index].is_updated)
      return error_set(err, ERROR_FORMAT, "function \"%s\": a copy to a param that nothing updates", f->name);
  }
  return true;
}

/* A step may read only what ran before it or runs with it. */
static bool check_attend(const PlanDecode *d, const AttendAttrs *a, Error *err) {
  const char *rule;
  char detail[EXTENT_DETAIL];
  if (!extent_check(a, &rule, detail))
    return error_set(err, ERROR_FORMAT, "decode \"%s\": an attention is impossible: %s (%s)", d->name, rule, detail);
  for (int x = 0; x < 3; x++)
    if (a->query_grid[x] != d->grid[x] || a->key_grid[x] != d->grid[x])
      return error_set(err, ERROR_FORMAT, "decode \"%s\": an attention is on another grid", d->name);
  if (a->causal != CAUSAL_NONE) return true;
  return error_set(err, ERROR_FORMAT, "decode \"%s\": an attention sees tokens that are not there yet", d->name);
}

static bool port_is(const PlanTensor *t, DType dtype, int rank, const Dim *dim) {
  if (!t || t->dtype != dtype || t->rank != rank) return false;
  for (int i = 0; i < rank; i++)
    if (!dim_equal(t->dim[i], dim[i])) return false;
  return true;
}

/* The ports through which decode.c talks to a step, see passes/incremental.c. */
static bool check_step(const Plan *p, const PlanDecode *d, Error *err) {
  const PlanFunction *f = &p->function[d->step];
  int64_t positions = plan_positions(d);
  Dim rows = {0, 0, 1};
  const PlanTensor *slots = plan_find_input(f, STEP_SLOTS), *ring_rows = plan_find_input(f, STEP_ROW_SLOT);
  bool ok = port_is(plan_find_input(f, STEP_ROWS), DTYPE_I32, 2, (Dim[]){rows, dim_const(2)}) &&
            port_is(plan_find_output(f, STEP_LOGITS), DTYPE_F32, 2, (Dim[]){rows, dim_const(d->vocab)}) &&
            (!slots || port_is(slots, DTYPE_I32, 1, (Dim[]){dim_const(positions)})) &&
            (!ring_rows || port_is(ring_rows, DTYPE_I32, 1, (Dim[]){rows}));
  if (!ok) return error_set(err, ERROR_FORMAT, "decode \"%s\": its step lacks a port or has one of another type", d->name);
  return true;
}

static bool check_decode(const Plan *p, const PlanDecode *d, Error *err) {
  if (!d->name[0]) return error_set(err, ERROR_FORMAT, "a decode has no name");
  int64_t positions = 1;
  for (int x = 0; x < 3; x++)
    if (d->grid[x] < 1 || d->grid[x] > 1 << 20 || __builtin_mul_overflow(positions, d->grid[x], &positions) || positions > 1 << 24)
      return error_set(err, ERROR_FORMAT, "decode \"%s\": its grid is out of range", d->name);
  if (d->step < 0 || d->step >= p->n_function || d->prologue < -1 || d->prologue >= p->n_function)
    return error_set(err, ERROR_FORMAT, "decode \"%s\" refers to a function that does not exist", d->name);
  if (d->vocab < 1 || d->vocab > 1 << 28 || d->live < 0 || d->live > positions)
    return error_set(err, ERROR_FORMAT, "decode \"%s\": vocabulary or ring size out of range", d->name);
  if (d->has_stop && (d->grid[1] != 1 || d->grid[2] != 1 || d->stop < 0 || d->stop >= d->vocab))
    return error_set(err, ERROR_FORMAT, "decode \"%s\": stop %lld is no token of a line of words", d->name, (long long)d->stop);
  for (int x = 0; x < 3; x++)
    if (d->wavefront[x] < 0 || d->raster[x] < 0 || d->wavefront[x] > 1 << 24 || d->raster[x] > 1 << 24)
      return error_set(err, ERROR_FORMAT, "decode \"%s\": a schedule is out of range", d->name);
  if (d->n_attend * (d->grid[0] + d->grid[1] + d->grid[2]) > MAX_INTERVALS)
    return error_set(err, ERROR_FORMAT, "decode \"%s\": %d attentions are too many for its grid", d->name, d->n_attend);
  for (int i = 0; i < d->n_attend; i++)
    if (!check_attend(d, &d->attend[i], err)) return false;
  return check_step(p, d, err);
}

/* A driver is given no length: PTX must end by itself, and a cubin be one. */
static bool is_image(const Plan *p, const PlanImage *m, bool is_last) {
  if (m->len < 1) return false;
  if (p->device == PLAN_CPU) return m->arch == 0;
  if (m->arch == 0) return is_last && memchr(m->bytes, 0, (size_t)m->len) == m->bytes + m->len - 1;
  return m->arch > 0 && m->arch <= MAX_ARCH && m->len >= 64 && memcmp(m->bytes, "\177ELF", 4) == 0;
}

static bool check_object(const Plan *p, int index, Error *err) {
  const PlanObject *o = &p->object[index];
  if (o->n_image < 1 || (p->device == PLAN_CPU && o->n_image != 1))
    return error_set(err, ERROR_FORMAT, "object %d has %d images", index, o->n_image);
  for (int i = 0; i < o->n_image; i++) {
    if (!is_image(p, &o->image[i], i == o->n_image - 1))
      return error_set(err, ERROR_FORMAT, "object %d: image %d is not of its kind", index, i);
    for (int k = 0; k < i; k++)
      if (o->image[k].arch == o->image[i].arch)
        return error_set(err, ERROR_FORMAT, "object %d has two images for sm_%d", index, o->image[i].arch);
  }
  if (p->device == PLAN_CUDA && o->image[o->n_image - 1].arch != 0)
    return error_set(err, ERROR_FORMAT, "object %d has no PTX", index);
  return true;
}

static bool check_kernel(const Plan *p, const PlanKernel *k, Error *err) {
  if (k->object < 0 || k->object >= p->n_object || k->scratch_bytes < 0 || k->scratch_bytes > (int64_t)1 << 34)
    return error_set(err, ERROR_FORMAT, "kernel \"%s\" refers to an object that does not exist or asks for too much",
                     k->name);
  bool cuda = p->device == PLAN_CUDA;
  bool fits = k->threads >= cuda && k->threads <= (cuda ? MAX_THREADS : 0) && k->items >= cuda &&
              k->items <= (cuda ? MAX_ITEMS : 0) && k->shared_bytes >= 0 && k->shared_bytes <= (cuda ? MAX_SHARED : 0);
  if (!fits)
    return error_set(err, ERROR_FORMAT, "kernel \"%s\": impossible blocks of %d threads, %d items, %lld shared bytes",
                     k->name, k->threads, k->items, (long long)k->shared_bytes);
  return true;
}

bool plan_check(const Plan *p, Error *err) {
  for (int i = 0; i < p->n_param; i++) {
    if (!check_tensor(&p->param[i].type, 0, "param", err)) return false;
    for (int k = 0; k < p->param[i].type.rank; k++)
      if (!dim_is_const(p->param[i].type.dim[k]))
        return error_set(err, ERROR_FORMAT, "param \"%s\" has a symbolic size", p->param[i].type.name);
    if (p->param[i].init < 0 || p->param[i].init > 3)
      return error_set(err, ERROR_FORMAT, "param \"%s\" has an unknown initialiser", p->param[i].type.name);
  }
  for (int i = 0; i < p->n_state; i++) {
    if (!check_tensor(&p->state[i].type, 0, "state", err)) return false;
    if (p->state[i].is_ring && (p->state[i].type.rank < 2 || !dim_is_const(p->state[i].type.dim[0])))
      return error_set(err, ERROR_FORMAT, "state \"%s\" cannot be a ring", p->state[i].type.name);
  }
  if ((unsigned)p->device >= PLAN_DEVICE_COUNT)
    return error_set(err, ERROR_FORMAT, "this plan is for device %d, which does not exist", (int)p->device);
  for (int i = 0; i < p->n_object; i++)
    if (!check_object(p, i, err)) return false;
  for (int i = 0; i < p->n_kernel; i++)
    if (!check_kernel(p, &p->kernel[i], err)) return false;
  for (int i = 0; i < p->n_product; i++)
    if (!check_product(p, i, err)) return false;
  for (int i = 0; i < p->n_function; i++)
    if (!check_function(p, &p->function[i], err)) return false;
  for (int i = 0; i < p->n_decode; i++)
    if (!check_decode(p, &p->decode[i], err)) return false;
  return true;
}
