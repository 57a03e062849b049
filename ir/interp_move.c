/* Meaning of index maps, reductions and scatters. */
#include <math.h>
#include <string.h>

#include "ir/eval.h"

/* ---- index maps: each walks the result and computes the place in the operand ---- */

bool eval_reshape(Eval *e) {
  memcpy(e->out->data, e->in[0]->data, (size_t)tensor_elems(e->out) * sizeof(double));
  return true;
}

/* out[at] = x[base + sum at[i] * step[i]] */
static bool strided(Eval *e, int64_t base, const int64_t *step) {
  const Tensor *out = e->out;
  int64_t at[MAX_RANK] = {0}, n = tensor_elems(out);
  for (int64_t i = 0; i < n; i++, index_next(out->rank, out->dim, at)) {
    int64_t from = base;
    for (int a = 0; a < out->rank; a++) from += at[a] * step[a];
    out->data[i] = e->in[0]->data[from];
  }
  return true;
}

bool eval_transpose(Eval *e) {
  int64_t stride[MAX_RANK], step[MAX_RANK];
  strides_of(e->in[0], stride);
  for (int i = 0; i < e->out->rank; i++) step[i] = stride[e->node->attrs.perm.perm[i]];
  return strided(e, 0, step);
}

bool eval_broadcast(Eval *e) {
  const Tensor *x = e->in[0];
  int64_t stride[MAX_RANK], step[MAX_RANK] = {0};
  int extra = e->out->rank - x->rank;
  strides_of(x, stride);
  for (int i = 0; i < x->rank; i++) step[i + extra] = x->dim[i] == 1 ? 0 : stride[i];
  return strided(e, 0, step);
}

bool eval_slice(Eval *e) {
  int64_t stride[MAX_RANK], step[MAX_RANK], base = 0;
  strides_of(e->in[0], stride);
  for (int i = 0; i < e->out->rank; i++) {
    base += dim_value(e->node->attrs.slice.start[i], e->B, e->R) * stride[i];
    step[i] = stride[i] * e->node->attrs.slice.step[i];
  }
  return strided(e, base, step);
}

bool eval_reverse(Eval *e) {
  int64_t stride[MAX_RANK], base = 0;
  strides_of(e->in[0], stride);
  for (int i = 0; i < e->out->rank; i++) {
    if (!(e->node->attrs.axes.axes >> i & 1)) continue;
    base += (e->out->dim[i] - 1) * stride[i];
    stride[i] = -stride[i];
  }
  return strided(e, base, stride);
}

bool eval_pad(Eval *e) {
  const Tensor *x = e->in[0], *out = e->out;
  int64_t stride[MAX_RANK], at[MAX_RANK] = {0}, n = tensor_elems(x);
  strides_of(out, stride);
  for (int64_t i = 0, all = tensor_elems(out); i < all; i++) out->data[i] = e->node->attrs.pad.value;
  for (int64_t i = 0; i < n; i++, index_next(x->rank, x->dim, at)) {
    int64_t to = 0;
    for (int a = 0; a < x->rank; a++)
      to += (dim_value(e->node->attrs.pad.lo[a], e->B, e->R) + at[a] * (1 + e->node->attrs.pad.interior[a])) *
            stride[a];
    out->data[to] = x->data[i];
  }
  return true;
}

static int64_t dims_product(const Tensor *t, int from, int to) {
  int64_t n = 1;
  for (int i = from; i < to; i++) n *= t->dim[i];
  return n;
}

static void copy_elems(double *to, const double *from, int64_t n) {
  if (n > 0) memcpy(to, from, (size_t)n * sizeof *to);
}

bool eval_concat(Eval *e) {
  int axis = (int)e->node->attrs.axis.axis;
  int64_t outer = dims_product(e->out, 0, axis), row = dims_product(e->out, axis, e->out->rank), at = 0;
  for (int i = 0; i < e->node->n_in; i++) {
    int64_t part = dims_product(e->in[i], axis, e->in[i]->rank);
    for (int64_t o = 0; o < outer; o++) copy_elems(e->out->data + o * row + at, e->in[i]->data + o * part, part);
    at += part;
  }
  return true;
}

bool eval_gather(Eval *e) {
  const Tensor *x = e->in[0], *index = e->in[1];
  int64_t row = dims_product(x, 1, x->rank), n = tensor_elems(index);
  for (int64_t i = 0; i < n; i++) {
    int64_t k = (int64_t)index->data[i];
    k = k < 0 ? 0 : k >= x->dim[0] ? x->dim[0] - 1 : k;
    copy_elems(e->out->data + i * row, x->data + k * row, row);
  }
  return true;
}

void grid_point(const int64_t grid[3], int64_t index, int64_t p[3]) {
  p[2] = index % grid[2];
  p[1] = index / grid[2] % grid[1];
  p[0] = index / grid[2] / grid[1];
}

/* Where the token at raster index i reads: a raster index, or -1 for the start vector. */
static int64_t shift_source(const Node *n, const int64_t grid[3], int64_t i) {
  if (n->attrs.shift.raster) return i - 1;
  int64_t p[3];
  grid_point(grid, i, p);
  for (int x = 0; x < 3; x++) {
    p[x] += n->attrs.shift.delta[x];
    if (p[x] < 0 || p[x] >= grid[x]) return -1;
  }
  return (p[0] * grid[1] + p[1]) * grid[2] + p[2];
}

bool eval_shift(Eval *e) {
  const Tensor *x = e->in[0];
  const int64_t *grid = x->dim + x->rank - 4;
  int64_t tokens = grid[0] * grid[1] * grid[2], d = x->dim[x->rank - 1], batch = x->rank == 5 ? x->dim[0] : 1;
  for (int64_t b = 0; b < batch; b++)
    for (int64_t i = 0; i < tokens; i++) {
      int64_t from = shift_source(e->node, grid, i);
      copy_elems(e->out->data + (b * tokens + i) * d,
                 from < 0 ? e->in[1]->data : x->data + (b * tokens + from) * d, d);
    }
  return true;
}

/* ---- reductions ---- */

double lanes_tree(double lane[16]) {
  for (int half = 8; half >= 1; half /= 2)
    for (int i = 0; i < half; i++) lane[i] += lane[i + half];
  return lane[0];
}

typedef double (*Reducer)(DType t, const double *x, const int64_t *at, int64_t n);

static double reduce_sum(DType t, const double *x, const int64_t *at, int64_t n) {
  double lane[16] = {0};
  int64_t whole = 0;
  for (int64_t i = 0; i < n; i++) {
    if (dtype_is_float(t))
      lane[i % 16] += x[at[i]];
    else
      whole += (int64_t)x[at[i]];
  }
  return dtype_is_float(t) ? lanes_tree(lane) : integer_wrap(t, whole);
}

static double larger(double x, double y) { return x < y || isnan(y) ? y : x; }

/* Of nothing: the smallest number of the type. */
static double reduce_max(DType t, const double *x, const int64_t *at, int64_t n) {
  double m = dtype_is_float(t) ? -INFINITY : t == DTYPE_U8 ? 0 : -2147483648.0, lane[16];
  for (int i = 0; i < 16; i++) lane[i] = m;
  for (int64_t i = 0; i < n; i++) lane[i % 16] = larger(lane[i % 16], x[at[i]]);
  for (int half = 8; half >= 1; half /= 2)
    for (int i = 0; i < half; i++) lane[i] = larger(lane[i], lane[i + half]);
  return lane[0];
}

static double reduce_argmax(DType t, const double *x, const int64_t *at, int64_t n) {
  int64_t best = 0;
  for (int64_t i = 1; i < n && !isnan(x[at[best]]); i++)
    if (!(x[at[i]] <= x[at[best]])) best = i;
  return (double)best;
}

/* Offsets of all coordinates of the chosen axes, in raster order; n in *out_n. */
static int64_t *axis_offsets(Eval *e, int64_t axes, int64_t *out_n) {
  const Tensor *x = e->in[0];
  int64_t stride[MAX_RANK], dim[MAX_RANK], step[MAX_RANK], at[MAX_RANK] = {0}, n = 1;
  int rank = 0;
  strides_of(x, stride);
  for (int i = 0; i < x->rank; i++) {
    if (!(axes >> i & 1)) continue;
    dim[rank] = x->dim[i];
    step[rank++] = stride[i];
    n *= x->dim[i];
  }
  int64_t *offset = ARENA_ARRAY(e->arena, int64_t, n);
  for (int64_t i = 0; i < n; i++, index_next(rank, dim, at))
    for (int a = 0; a < rank; a++) offset[i] += at[a] * step[a];
  *out_n = n;
  return offset;
}

static bool reduce(Eval *e, int64_t axes, Reducer f) {
  int64_t n_kept, n_reduced;
  int64_t *kept = axis_offsets(e, ~axes, &n_kept), *reduced = axis_offsets(e, axes, &n_reduced);
  for (int64_t i = 0; i < n_kept; i++)
    e->out->data[i] = f(e->in[0]->dtype, e->in[0]->data + kept[i], reduced, n_reduced);
  return true;
}

bool eval_sum(Eval *e) { return reduce(e, e->node->attrs.axes.axes, reduce_sum); }
bool eval_max(Eval *e) { return reduce(e, e->node->attrs.axes.axes, reduce_max); }
bool eval_argmax(Eval *e) { return reduce(e, (int64_t)1 << e->node->attrs.axis.axis, reduce_argmax); }

/* ---- scatters ---- */

bool eval_scatter_add(Eval *e) {
  int64_t n = tensor_elems(e->in[0]), row = dims_product(e->out, 1, e->out->rank), rows = e->out->dim[0];
  for (int64_t i = 0; i < n; i++) {
    int64_t k = (int64_t)e->in[0]->data[i];
    if (k < 0 || k >= rows) continue;
    for (int64_t j = 0; j < row; j++) e->out->data[k * row + j] += e->in[1]->data[i * row + j];
  }
  for (int64_t i = 0; e->out->dtype == DTYPE_I32 && i < rows * row; i++)
    e->out->data[i] = integer_wrap(DTYPE_I32, (int64_t)e->out->data[i]);
  return true;
}

bool eval_ring_write(Eval *e) {
  int64_t n = tensor_elems(e->in[1]), row = dims_product(e->out, 1, e->out->rank);
  copy_elems(e->out->data, e->in[0]->data, tensor_elems(e->out));
  for (int64_t i = 0; i < n; i++) {
    int64_t k = (int64_t)e->in[1]->data[i];
    if (k >= 0 && k < e->out->dim[0]) copy_elems(e->out->data + k * row, e->in[2]->data + i * row, row);
  }
  return true;
}
