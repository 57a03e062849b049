/* Shape rules of leafs, maps and reductions, and what all rules share.  Index maps: infer_move.c; products:
 * infer_product.c; attention: infer_attend.c.  A rule either fills out and leaves the attributes in their one normal
 * form, or has given a diagnostic that shows the operands and where they disagree. */
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "ir/internal.h"

bool infer_refuse(Infer *c, const char *what, const char *detail, ...) {
  char types[900] = "", type[TYPE_TEXT], why[400];
  size_t at = 0;
  for (int i = 0; i < c->n_in && at < sizeof types; i++)
    at += (size_t)snprintf(types + at, sizeof types - at, "%s%s", i ? " x " : ": ",
                           type_print(&c->in[i]->type, type, sizeof type));
  va_list ap;
  va_start(ap, detail);
  vsnprintf(why, sizeof why, detail, ap);
  va_end(ap);
  graph_error(c->g, NULL, "%s: %s%s%s%s%s", op_info[c->op].text, what, types, *why ? " (" : "", why,
              *why ? ")" : "");
  return false;
}

bool infer_rank(Infer *c, int operand, int lo, int hi) {
  int rank = c->in[operand]->type.rank;
  if (rank >= lo && rank <= hi) return true;
  if (lo == hi) return infer_refuse(c, "wrong rank", "operand %d needs rank %d, has %d", operand, lo, rank);
  return infer_refuse(c, "wrong rank", "operand %d needs rank %d to %d, has %d", operand, lo, hi, rank);
}

bool infer_dtype(Infer *c, int operand, DType t) {
  DType has = c->in[operand]->type.dtype;
  if (has == t) return true;
  return infer_refuse(c, "wrong element type", "operand %d needs %s, has %s", operand, dtype_name(t),
                      dtype_name(has));
}

bool infer_is_float(Infer *c, int operand) {
  DType has = c->in[operand]->type.dtype;
  if (dtype_is_float(has)) return true;
  return infer_refuse(c, "wrong element type", "operand %d needs f32 or bf16, has %s", operand, dtype_name(has));
}

bool infer_same_dim(Infer *c, int x, int ax, int y, int ay) {
  Dim dx = c->in[x]->type.dim[ax], dy = c->in[y]->type.dim[ay];
  char tx[DIM_TEXT], ty[DIM_TEXT];
  if (dim_equal(dx, dy)) return true;
  dim_print(dx, tx);
  dim_print(dy, ty);
  if (ax == ay) return infer_refuse(c, "sizes differ", "axis %d: %s vs %s", ax, tx, ty);
  return infer_refuse(c, "sizes differ", "axis %d of operand %d vs axis %d of operand %d: %s vs %s", ax, x, ay, y, tx,
                      ty);
}

/* Operand i has the shape of operand `first`, and if `dtype` its element type. */
static bool like_operand(Infer *c, int first, int i, bool dtype) {
  const Type *x = &c->in[first]->type, *y = &c->in[i]->type;
  if (x->rank != y->rank) return infer_refuse(c, "ranks differ", "%d vs %d", x->rank, y->rank);
  for (int a = 0; a < x->rank; a++)
    if (!infer_same_dim(c, first, a, i, a)) return false;
  if (dtype && x->dtype != y->dtype)
    return infer_refuse(c, "element types differ", "%s vs %s", dtype_name(x->dtype), dtype_name(y->dtype));
  return true;
}

/* ---- leafs ---- */

/* The type that the caller gives for a leaf, fill, iota. */
static bool given_type(Infer *c) {
  const Type *t = c->given;
  char dim[DIM_TEXT];
  if (!t) return infer_refuse(c, "needs a type", "%s", "");
  if ((unsigned)t->dtype >= DTYPE_COUNT || t->rank < 0 || t->rank > MAX_RANK)
    return infer_refuse(c, "not a type", "rank %d, at most %d", t->rank, MAX_RANK);
  for (int i = 0; i < t->rank; i++)
    if (!dim_is_sound(t->dim[i]))
      return infer_refuse(c, "not a size", "axis %d: %s", i, dim_print(t->dim[i], dim));
  *c->out = type_make(t->dtype, t->rank, t->dim);
  return true;
}

static bool leaf_name(Infer *c) {
  const char *name = c->attrs->leaf.name;
  if (!name || !*name) return infer_refuse(c, "needs a name", "%s", "");
  return true;
}

static bool param_init(Infer *c) {
  ParamInit *init = &c->attrs->leaf.init;
  if ((unsigned)init->kind > INIT_UNIFORM) return infer_refuse(c, "unknown initialisation", "%d", (int)init->kind);
  if (!(init->scale >= 0) || isinf(init->scale))
    return infer_refuse(c, "the scale of the initialisation must be finite and not negative", "%g", init->scale);
  if (init->kind <= INIT_ONES) init->scale = 0;
  if (!dtype_is_float(c->out->dtype) && init->kind > INIT_ONES)
    return infer_refuse(c, "only f32 and bf16 can be initialised randomly", "%s", dtype_name(c->out->dtype));
  for (int i = 0; i < c->out->rank; i++)
    if (!dim_is_const(c->out->dim[i])) return infer_refuse(c, "a param needs a constant shape", "axis %d", i);
  return true;
}

/* A constant of an integer type must be one of its numbers. */
static bool fill_value(Infer *c) {
  double v = c->attrs->fill.value, lo, hi;
  switch (c->out->dtype) {
    case DTYPE_I32: lo = -2147483648.0, hi = 2147483647.0; break;
    case DTYPE_U8: lo = 0, hi = 255; break;
    case DTYPE_BF16: c->attrs->fill.value = (double)bf16_round((float)v); return true;
    default: return true;
  }
  if (v >= lo && v <= hi && v == floor(v)) {
    c->attrs->fill.value = v + 0.0; /* no -0 */
    return true;
  }
  return infer_refuse(c, "the value is no number of the type", "%g as %s", v, dtype_name(c->out->dtype));
}

bool infer_leaf(Infer *c) {
  if (!given_type(c)) return false;
  switch (c->op) {
    case OP_PARAM: return leaf_name(c) && param_init(c);
    case OP_FILL: return fill_value(c);
    default: return leaf_name(c);
  }
}

static bool axis_in_rank(Infer *c, int rank) {
  int64_t axis = c->attrs->axis.axis;
  if (axis >= 0 && axis < rank) return true;
  return infer_refuse(c, "no such axis", "axis %lld of rank %d", (long long)axis, rank);
}

bool infer_iota(Infer *c) {
  if (!given_type(c)) return false;
  if (c->out->dtype != DTYPE_I32) return infer_refuse(c, "needs i32", "has %s", dtype_name(c->out->dtype));
  return axis_in_rank(c, c->out->rank);
}

/* ---- maps ---- */

static bool axes_in_rank(Infer *c, int rank) {
  int64_t axes = c->attrs->axes.axes;
  if (axes == 0) return infer_refuse(c, "needs at least one axis", "%s", "");
  for (int i = 0; i < 63; i++)
    if (i >= rank && (axes >> i & 1)) return infer_refuse(c, "no such axis", "axis %d of rank %d", i, rank);
  return axes > 0 || infer_refuse(c, "no such axis", "axes %lld", (long long)axes);
}

bool infer_same(Infer *c) {
  for (int i = 1; i < c->n_in; i++)
    if (!like_operand(c, 0, i, true)) return false;
  *c->out = c->in[0]->type;
  return op_info[c->op].attrs != ATTR_axes || axes_in_rank(c, c->out->rank);
}

bool infer_float(Infer *c) { return infer_is_float(c, 0) && infer_same(c); }

bool infer_same_int(Infer *c) {
  if (dtype_is_float(c->in[0]->type.dtype))
    return infer_refuse(c, "wrong element type", "needs i32 or u8, has %s", dtype_name(c->in[0]->type.dtype));
  return infer_same(c);
}

bool infer_cast(Infer *c) {
  DType to = c->given ? c->given->dtype : c->attrs->cast.dtype;
  if ((unsigned)to >= DTYPE_COUNT) return infer_refuse(c, "no such element type", "%d", (int)to);
  c->attrs->cast.dtype = to;
  *c->out = c->in[0]->type;
  c->out->dtype = to;
  return true;
}

bool infer_compare(Infer *c) {
  if (!infer_same(c)) return false;
  c->out->dtype = DTYPE_U8;
  return true;
}

bool infer_select(Infer *c) {
  if (!infer_dtype(c, 0, DTYPE_U8) || !like_operand(c, 0, 1, false) || !like_operand(c, 1, 2, true)) return false;
  *c->out = c->in[1]->type;
  return true;
}

bool infer_random(Infer *c) {
  for (int i = 0; i < c->n_in; i++)
    if (!infer_dtype(c, i, DTYPE_I32) || !like_operand(c, 0, i, true)) return false;
  c->attrs->random.stream = (int32_t)(uint32_t)(uint64_t)c->attrs->random.stream;
  *c->out = c->in[0]->type;
  c->out->dtype = DTYPE_F32;
  return true;
}

/* ---- reductions ---- */

bool infer_reduce(Infer *c) {
  const Type *x = &c->in[0]->type;
  if (!axes_in_rank(c, x->rank)) return false;
  if (c->op == OP_MEAN && !infer_is_float(c, 0)) return false;
  if (c->op == OP_SUM && x->dtype == DTYPE_U8)
    return infer_refuse(c, "u8 is too small for sums: cast it first", "%s", "");
  *c->out = (Type){.dtype = x->dtype};
  for (int i = 0; i < x->rank; i++)
    if (!(c->attrs->axes.axes >> i & 1)) c->out->dim[c->out->rank++] = x->dim[i];
  return true;
}

bool infer_argmax(Infer *c) {
  const Type *x = &c->in[0]->type;
  if (!axis_in_rank(c, x->rank)) return false;
  int64_t axis = c->attrs->axis.axis;
  if (!dim_le(dim_const(1), x->dim[axis])) return infer_refuse(c, "nothing to choose from", "axis %d: 0", (int)axis);
  *c->out = (Type){.dtype = DTYPE_I32};
  for (int i = 0; i < x->rank; i++)
    if (i != axis) c->out->dim[c->out->rank++] = x->dim[i];
  return true;
}
