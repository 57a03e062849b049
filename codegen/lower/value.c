/* The value of a node at a symbolic index: loads, index maps, scalar forms.
 *
 * Decides how an index map that may leave its operand stays inside it: a uniform coordinate is clamped and the result
 * selected; for a varying one the lanes outside are masked, which keeps vector loads. */
#include "codegen/lower/lower.h"

#include <stdarg.h>
#include <string.h>

enum { MEMO_BUCKETS = 256, SLOT_NONE = 0, SLOT_MEMBER = -1 /* i + 1: group->in[i] */ };

typedef struct Memo {
  const Node *node;
  Ix **idx;
  KInst *mask;
  int part;
  KInst *value;
  KBlock *block;
  struct Memo *next;
} Memo;

/* What was loaded for all parts: a quad, or the one element that they share. */
typedef struct Loaded {
  int buf;
  bool is_quad;
  Ix *at;
  KInst *mask, *value;
  KBlock *block;
  struct Loaded *next;
} Loaded;

typedef struct Bind {
  const Node *node;
  Ix **idx; /* NULL: any */
  KInst *value;
  KBlock *block;
  struct Bind *next;
} Bind;

typedef struct Slot {
  const Node *node;
  int what;
} Slot;

struct LowerMemo {
  Memo *bucket[MEMO_BUCKETS];
  Bind *bind;
  Loaded *loaded;
  Slot *slot; /* open addressing by node id */
  uint32_t n_slot;
};

/* ---- set-up ---- */

void *lower_fail(Lower *l, const Node *n, const char *fmt, ...) {
  if (l->failed) return NULL;
  char text[600];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  if (n->loc && n->loc->file)
    error_set(l->err, ERROR_MODEL, "%s:%d: %s: %s", n->loc->file, n->loc->line, op_info[n->op].text, text);
  else
    error_set(l->err, ERROR_MODEL, "%s: %s", op_info[n->op].text, text);
  l->failed = true;
  return NULL;
}

static Slot *slot_of(const Lower *l, const Node *n) {
  uint32_t at = (uint32_t)n->id * 0x9e3779b1u;
  for (;; at++) {
    Slot *s = &l->memo->slot[at & (l->memo->n_slot - 1)];
    if (!s->node || s->node == n) return s;
  }
}

static void slots_fill(Lower *l) {
  const Group *g = l->group;
  uint32_t n = 16;
  while (n < 2 * (uint32_t)(g->n_node + g->n_in)) n *= 2;
  l->memo->n_slot = n;
  l->memo->slot = ARENA_ARRAY(l->arena, Slot, n);
  /* A constant may be both: the product reads it from memory, everything else as the number it is. */
  for (int i = 0; i < g->n_in; i++) *slot_of(l, g->in[i]) = (Slot){g->in[i], i + 1};
  for (int i = 0; i < g->n_node; i++) *slot_of(l, g->node[i]) = (Slot){g->node[i], SLOT_MEMBER};
}

bool lower_is_member(const Lower *l, const Node *n) { return slot_of(l, n)->what == SLOT_MEMBER; }

/* Only a map group or a ring may write over what it reads: an operand of the result's size. */
static bool may_alias(const Group *g, const Node *in, const Node *out) {
  if (g->family != FAMILY_MAP && g->family != FAMILY_SCATTER) return false;
  Dim x, y;
  return dtype_bytes(in->type.dtype) == dtype_bytes(out->type.dtype) && type_elems(&in->type, &x) &&
         type_elems(&out->type, &y) && dim_equal(x, y);
}

static void kernel_start(Lower *l, const char *name) {
  const Group *g = l->group;
  l->k = kir_new(l->arena, name);
  for (int i = 0; i < g->n_in; i++)
    l->in_buf[i] = kir_arg(l->k, arena_printf(l->arena, "in%d", i), g->in[i]->type.dtype, false);
  for (int i = 0; i < g->n_out; i++)
    l->out_buf[i] = kir_arg(l->k, arena_printf(l->arena, "out%d", i), g->out[i]->type.dtype, true);
  for (int i = 0; i < g->n_in; i++)
    for (int j = 0; j < g->n_out; j++)
      if (may_alias(g, g->in[i], g->out[j]))
        l->k->buf[l->in_buf[i]].restrict_ = l->k->buf[l->out_buf[j]].restrict_ = false;
}

void lower_restart(Lower *l) {
  memset(l->memo->bucket, 0, sizeof l->memo->bucket);
  l->memo->bind = NULL;
  l->memo->loaded = NULL;
  l->index = NULL;
  l->mask = NULL;
  l->quads = false;
  l->part = 0;
  l->gather_along = NULL;
  kernel_start(l, l->k->name);
}

Lower *lower_begin(Arena *a, const Group *g, const Target *t, const char *name, Error *err) {
  Lower *l = ARENA_NEW(a, Lower);
  *l = (Lower){.group = g, .target = t, .arena = a, .err = err, .memo = ARENA_NEW(a, struct LowerMemo)};
  l->in_buf = ARENA_ARRAY(a, int, g->n_in);
  l->out_buf = ARENA_ARRAY(a, int, g->n_out);
  if (g->n_in + g->n_out > KIR_MAX_BUFS - 8)
    return lower_fail(l, g->anchor, "a group has %d operands and results, at most %d fit", g->n_in + g->n_out,
                      KIR_MAX_BUFS - 8);
  slots_fill(l);
  kernel_start(l, name);
  return l;
}

/* ---- memory ---- */

static bool is_visible(const Lower *l, const KBlock *b) {
  const KBlock *open = l->k->open;
  while (open && open != b) open = open->parent;
  return open != NULL;
}

/* Can four neighbours from `at` (without the part) on be one access?  The quad of an element that exists exists. */
static bool is_quad(Lower *l, const Type *t, Ix *at, KInst **out_base, KInst **out_lane) {
  Dim n;
  if (!dtype_is_float(t->dtype) || !type_elems(t, &n) || n.c % QUAD || n.b % QUAD || n.r % QUAD) return false;
  ix_emit(l, at, out_base, out_lane);
  return kir_align(*out_base) >= QUAD && *out_lane && kir_align(*out_lane) >= QUAD;
}

static KInst *load_once(Lower *l, int buf, bool quad, Ix *at) {
  KInst *base, *lane;
  for (Loaded *x = l->memo->loaded; x; x = x->next)
    if (x->buf == buf && x->is_quad == quad && x->mask == l->mask && ix_equal(x->at, at) && is_visible(l, x->block))
      return x->value;
  ix_emit(l, at, &base, &lane);
  KInst *mask = lane ? l->mask : NULL;
  Loaded *x = ARENA_NEW(l->arena, Loaded);
  *x = (Loaded){buf, quad, at, l->mask, NULL, l->k->open, l->memo->loaded};
  x->value = quad ? kir_load4(l->k, buf, base, lane, mask) : kir_load(l->k, buf, base, lane, mask);
  l->memo->loaded = x;
  return x->value;
}

static KInst *load(Lower *l, int buf, const Type *t, Ix *const *idx) {
  KInst *base, *lane;
  Ix *at = ix_flatten(l, t, idx), *rest;
  int64_t step = l->quads ? ix_part_step(l, at, &rest) : -1;
  if (step == 0) return load_once(l, buf, false, rest);
  if (step == 1 && is_quad(l, t, rest, &base, &lane)) return kir_part(l->k, load_once(l, buf, true, rest), l->part);
  ix_emit(l, at, &base, &lane);
  if (lane && lane->op != KOP_LANE && !l->gather_along) l->gather_along = ix_unit_term(l, at);
  return kir_load(l->k, buf, base, lane, lane ? l->mask : NULL);
}

void lower_store(Lower *l, int out, Ix *const *idx, KInst *value) {
  KInst *base, *lane;
  ix_emit(l, ix_flatten(l, &l->group->out[out]->type, idx), &base, &lane);
  kir_store(l->k, l->out_buf[out], base, lane, value, lane ? l->mask : NULL);
}

void lower_store_quad(Lower *l, int out, Ix *const *idx, KInst *const value[QUAD]) {
  const Type *t = &l->group->out[out]->type;
  Ix *rest;
  KInst *base, *lane;
  if (ix_part_step(l, ix_flatten(l, t, idx), &rest) == 1 && is_quad(l, t, rest, &base, &lane))
    kir_store4(l->k, l->out_buf[out], base, lane, value, l->mask);
  else
    for (l->part = 0; l->part < QUAD; l->part++) lower_store(l, out, idx, value[l->part]);
}

/* ---- index maps ---- */

static KInst *zero_of(Lower *l, const Node *n) {
  return dtype_is_float(n->type.dtype) ? kir_f32(l->k, 0) : kir_i32(l->k, 0);
}

/* Restricts l->mask to lanes where inside holds. */
static void mask_lanes(Lower *l, KInst *inside) {
  l->mask = l->mask ? kir_bin(l->k, KOP_AND, l->mask, inside) : inside;
}

/* Coordinate x on an axis of n elements: kept inside by a clamp or by the mask; *inside is and-ed with whether it
 * was. */
static Ix *guard(Lower *l, Ix *x, Dim n, KInst **inside) {
  KInst *in = ix_inside(l, x, n);
  if (!in) return x;
  *inside = *inside ? kir_bin(l->k, KOP_AND, *inside, in) : in;
  if (!ix_is_varying(x)) return ix_clamp(l, x, n);
  mask_lanes(l, in);
  return ix_assume(l, x, n);
}

static bool is_empty(const Type *t) {
  for (int i = 0; i < t->rank; i++)
    if (dim_is_const(t->dim[i]) && t->dim[i].c == 0) return true;
  return false;
}

static KInst *value_reshape(Lower *l, Node *n, Ix *const *idx) {
  Ix *to[MAX_RANK];
  ix_unflatten(l, &n->in[0]->type, ix_flatten(l, &n->type, idx), to);
  return lower_value(l, n->in[0], to);
}

static KInst *value_transpose(Lower *l, Node *n, Ix *const *idx) {
  Ix *to[MAX_RANK];
  for (int i = 0; i < n->type.rank; i++) to[n->attrs.perm.perm[i]] = idx[i];
  return lower_value(l, n->in[0], to);
}

static KInst *value_broadcast(Lower *l, Node *n, Ix *const *idx) {
  const Type *x = &n->in[0]->type;
  Ix *to[MAX_RANK];
  for (int i = 0; i < x->rank; i++) {
    bool one = dim_equal(x->dim[i], dim_const(1));
    to[i] = one ? ix_const(l, 0) : idx[i + n->type.rank - x->rank];
  }
  return lower_value(l, n->in[0], to);
}

static KInst *value_slice(Lower *l, Node *n, Ix *const *idx) {
  Ix *to[MAX_RANK];
  for (int i = 0; i < n->type.rank; i++)
    to[i] = ix_add(l, ix_scale(l, idx[i], n->attrs.slice.step[i]), ix_dim(l, n->attrs.slice.start[i]));
  return lower_value(l, n->in[0], to);
}

static KInst *value_reverse(Lower *l, Node *n, Ix *const *idx) {
  Ix *to[MAX_RANK];
  for (int i = 0; i < n->type.rank; i++) {
    Dim last = dim_add(n->type.dim[i], dim_const(-1));
    bool turn = n->attrs.axes.axes >> i & 1;
    to[i] = turn ? ix_add(l, ix_dim(l, last), ix_scale(l, idx[i], -1)) : idx[i];
  }
  return lower_value(l, n->in[0], to);
}

/* x where inside holds (NULL: everywhere), else other. */
static KInst *choose(Lower *l, KInst *inside, KInst *x, KInst *other) {
  return inside ? kir_op(l->k, KOP_SELECT, inside, x, other) : x;
}

static KInst *value_pad(Lower *l, Node *n, Ix *const *idx) {
  const Type *x = &n->in[0]->type;
  double v = n->attrs.pad.value;
  KInst *fill = dtype_is_float(n->type.dtype) ? lower_round(l, n, kir_f32(l->k, (float)v)) : kir_i32(l->k, (int32_t)v);
  KInst *inside = NULL, *saved = l->mask;
  Ix *to[MAX_RANK];
  if (is_empty(x)) return fill;
  for (int i = 0; i < x->rank; i++) {
    Ix *at = ix_add(l, idx[i], ix_dim(l, dim_scale(n->attrs.pad.lo[i], -1)));
    Dim step = dim_const(n->attrs.pad.interior[i] + 1);
    Ix *between = ix_mod(l, at, step);
    if (!ix_is_within(between, dim_const(1))) guard(l, between, dim_const(1), &inside);
    to[i] = guard(l, ix_div(l, at, step), x->dim[i], &inside);
  }
  KInst *value = lower_value(l, n->in[0], to);
  l->mask = saved;
  return choose(l, inside, value, fill);
}

static KInst *value_concat(Lower *l, Node *n, Ix *const *idx) {
  int axis = (int)n->attrs.axis.axis;
  KInst *result = NULL, *saved = l->mask;
  Dim start = dim_const(0);
  Ix *to[MAX_RANK];
  memcpy(to, idx, (size_t)n->type.rank * sizeof *to);
  for (int i = 0; i < n->n_in; i++) {
    const Type *x = &n->in[i]->type;
    if (is_empty(x)) continue;
    KInst *inside = NULL;
    to[axis] = guard(l, ix_add(l, idx[axis], ix_dim(l, dim_scale(start, -1))), x->dim[axis], &inside);
    KInst *value = lower_value(l, n->in[i], to);
    l->mask = saved;
    result = result ? choose(l, inside, value, result) : value;
    start = dim_add(start, x->dim[axis]);
  }
  return result ? result : zero_of(l, n);
}

static KInst *value_gather(Lower *l, Node *n, Ix *const *idx) {
  Node *x = n->in[0], *index = n->in[1];
  Kernel *k = l->k;
  Ix *to[MAX_RANK];
  if (is_empty(&x->type)) return zero_of(l, n);
  KInst *i = lower_value(l, index, idx);
  KInst *last = kir_un(k, KOP_TO_I32, kir_dim(k, dim_add(x->type.dim[0], dim_const(-1))));
  i = kir_bin(k, KOP_MIN, kir_bin(k, KOP_MAX, i, kir_i32(k, 0)), last);
  to[0] = ix_value(l, i->varying ? i : kir_un(k, KOP_TO_I64, i), x->type.dim[0]);
  for (int a = 1; a < x->type.rank; a++) to[a] = idx[index->type.rank + a - 1];
  return lower_value(l, x, to);
}

static KInst *value_shift(Lower *l, Node *n, Ix *const *idx) {
  Node *x = n->in[0], *start = n->in[1];
  int rank = x->type.rank, first = rank - 4;
  KInst *inside = NULL, *saved = l->mask;
  Ix *to[MAX_RANK];
  memcpy(to, idx, (size_t)rank * sizeof *to);
  if (n->attrs.shift.raster) {
    Type grid = type_make(DTYPE_I32, 3, &x->type.dim[first]);
    Dim positions;
    if (!type_elems(&grid, &positions)) return lower_fail(l, n, "the grid's size is not affine in B and R");
    Ix *before = ix_add(l, ix_flatten(l, &grid, idx + first), ix_const(l, -1));
    ix_unflatten(l, &grid, guard(l, before, positions, &inside), to + first);
  } else {
    for (int a = 0; a < 3; a++)
      to[first + a] =
          guard(l, ix_add(l, idx[first + a], ix_const(l, n->attrs.shift.delta[a])), x->type.dim[first + a], &inside);
  }
  KInst *value = lower_value(l, x, to);
  l->mask = saved;
  return inside ? choose(l, inside, value, lower_value(l, start, idx + rank - 1)) : value;
}

static KInst *value_move(Lower *l, Node *n, Ix *const *idx) {
  switch (n->op) {
  case OP_RESHAPE:
    return value_reshape(l, n, idx);
  case OP_TRANSPOSE:
    return value_transpose(l, n, idx);
  case OP_BROADCAST:
    return value_broadcast(l, n, idx);
  case OP_SLICE:
    return value_slice(l, n, idx);
  case OP_PAD:
    return value_pad(l, n, idx);
  case OP_REVERSE:
    return value_reverse(l, n, idx);
  case OP_CONCAT:
    return value_concat(l, n, idx);
  case OP_GATHER:
    return value_gather(l, n, idx);
  case OP_SHIFT:
    return value_shift(l, n, idx);
  default:
    BUG("%s is not an index map", op_info[n->op].text);
  }
}

/* ---- values ---- */

KInst *lower_round(Lower *l, const Node *n, KInst *x) {
  return n->type.dtype == DTYPE_BF16 ? kir_un(l->k, KOP_ROUND, x) : x;
}

/* Whether the result is a bf16 number whenever the operands are. */
static bool keeps_bf16(const Node *n) {
  switch (n->op) {
  case OP_NEG: case OP_ABS: case OP_FLOOR: case OP_MAXIMUM: case OP_MINIMUM: case OP_SELECT: case OP_DETACH:
    return true;
  case OP_CAST: return n->in[0]->type.dtype == DTYPE_BF16 || n->in[0]->type.dtype == DTYPE_U8;
  default: return false;
  }
}

static KInst *value_map(Lower *l, Node *n, Ix *const *idx) {
  KInst *x[MAP_OPERANDS];
  BUG_IF(n->n_in > MAP_OPERANDS, "%s has %d operands", op_info[n->op].text, n->n_in);
  for (int i = 0; i < n->n_in; i++) {
    x[i] = lower_value(l, n->in[i], idx);
    if (!x[i]) return NULL;
  }
  KInst *y = lower_scalar(l, n, idx, x);
  return keeps_bf16(n) ? y : lower_round(l, n, y);
}

static KInst *value_make(Lower *l, Node *n, Ix *const *idx) {
  int slot = slot_of(l, n)->what;
  if (slot > 0) return load(l, l->in_buf[slot - 1], &n->type, idx);
  bool free_op = n->op == OP_RESHAPE || n->op == OP_DETACH || n->op == OP_FILL || n->op == OP_IOTA;
  OpClass class = op_info[n->op].class;
  if (slot == SLOT_MEMBER || free_op) {
    if (class == CLASS_MAP) return value_map(l, n, idx);
    if (class == CLASS_MOVE) return value_move(l, n, idx);
    return lower_fail(l, n, "node %d is needed at another element than the kernel has computed, or earlier", n->id);
  }
  return lower_fail(l, n, "node %d is neither in the group nor one of its operands", n->id);
}

static uint32_t memo_hash(const Node *n, Ix *const *idx) {
  uint32_t h = (uint32_t)n->id * 0x9e3779b1u;
  for (int i = 0; i < n->type.rank; i++) h = (h ^ ix_hash(idx[i])) * 0x85ebca6bu;
  return (h >> 16) % MEMO_BUCKETS;
}

static bool same_index(Lower *l, const Node *n, Ix *const *x, Ix *const *y) {
  for (int i = 0; i < n->type.rank; i++)
    if (!ix_same(l, x[i], y[i])) return false;
  return true;
}

static bool memo_matches(const Lower *l, const Memo *m, const Node *n, Ix *const *idx) {
  if (m->node != n || m->mask != l->mask || m->part != l->part || !is_visible(l, m->block)) return false;
  for (int i = 0; i < n->type.rank; i++)
    if (!ix_equal(m->idx[i], idx[i])) return false;
  return true;
}

static void bind(Lower *l, Node *n, Ix **idx, KInst *v) {
  Bind *b = ARENA_NEW(l->arena, Bind);
  *b = (Bind){n, idx, v, l->k->open, l->memo->bind};
  l->memo->bind = b;
}

void lower_bind(Lower *l, Node *n, KInst *v) { bind(l, n, NULL, v); }

void lower_bind_at(Lower *l, Node *n, Ix *const *idx, KInst *v) {
  bind(l, n, arena_copy(l->arena, idx, (size_t)n->type.rank * sizeof *idx), v);
}

KInst *lower_value(Lower *l, Node *n, Ix *const *idx) {
  for (Bind *b = l->memo->bind; b; b = b->next)
    if (b->node == n && is_visible(l, b->block) && (!b->idx || same_index(l, n, b->idx, idx))) return b->value;
  uint32_t h = memo_hash(n, idx);
  for (Memo *m = l->memo->bucket[h]; m; m = m->next)
    if (memo_matches(l, m, n, idx)) return m->value;
  KInst *v = value_make(l, n, idx);
  if (!v) v = zero_of(l, n); /* after a diagnostic */
  Memo *m = ARENA_NEW(l->arena, Memo);
  *m = (Memo){
      n, arena_copy(l->arena, idx, (size_t)n->type.rank * sizeof *idx), l->mask, l->part, v, l->k->open,
      l->memo->bucket[h]};
  l->memo->bucket[h] = m;
  return v;
}
