/* MAP groups: elementwise chains with index maps.
 *
 * The lanes run over some trailing axes, merged.  Merged axes give long vectors and few items; an index map that does
 * not survive the merge turns loads into gathers with quotients.  So the default is found by building every split and
 * taking the cheapest.  A gather that is contiguous along an outer axis (a transpose) walks over some steps of that axis
 * for each vector, so that cache lines are used whole.
 *
 * On a GPU items are small, so that there are many, and where it is cheaper a block of groups has four neighbours a
 * lane: 128-bit loads and stores. */
#include "codegen/kir/build.h"
#include "codegen/lower/lower.h"

enum { GROUP_ELEMS = QUAD * LANES };

typedef struct MapBody {
  const Type *domain;
  int split; /* axes before it are outer: uniform within an item */
  Type inner;
  Ix *outer[MAX_RANK];
  int tile;  /* outer axis of which an item takes several steps, or -1 */
  int steps, steps_unroll;
  Ix *block; /* which of its blocks */
} MapBody;

/* The index of the same element in a tensor of another shape. */
static void reindex(Lower *l, const Type *from, const Type *to, Ix *const *idx, Ix **out) {
  if (type_same_shape(from, to))
    for (int i = 0; i < to->rank; i++) out[i] = idx[i];
  else
    ix_unflatten(l, to, ix_flatten(l, from, idx), out);
}

static void map_vector(void *ctx, Lower *l, Ix *i) {
  MapBody *m = ctx;
  const Group *g = l->group;
  Ix *idx[MAX_RANK], *at[MAX_RANK];
  for (int a = 0; a < m->split; a++) idx[a] = m->outer[a];
  ix_unflatten(l, &m->inner, i, idx + m->split);
  /* All values before any store: an output may lie over an operand of another. */
  KInst **value = ARENA_ARRAY(l->arena, KInst *, g->n_out);
  for (int o = 0; o < g->n_out; o++) {
    reindex(l, m->domain, &g->out[o]->type, idx, at);
    value[o] = lower_value(l, g->out[o], at);
  }
  for (int o = 0; o < g->n_out; o++) {
    reindex(l, m->domain, &g->out[o]->type, idx, at);
    lower_store(l, o, at, value[o]);
  }
}

/* The same vector for every step of the block along the tiled axis. */
static void map_tile(void *ctx, Lower *l, Ix *i) {
  MapBody *m = ctx;
  Kernel *k = l->k;
  Dim n = m->domain->dim[m->tile];
  KInst *base, *none, *steps = kir_i64(k, m->steps);
  ix_emit(l, ix_scale(l, m->block, m->steps), &base, &none);
  if (n.c % m->steps != 0) steps = kir_bin(k, KOP_MIN, steps, kir_bin(k, KOP_SUB, kir_dim(k, n), base));
  Ix *step = ix_value(l, kir_for(k, kir_i64(k, 0), steps, 1, m->steps_unroll), dim_const(m->steps));
  m->outer[m->tile] = ix_assume(l, ix_add(l, ix_scale(l, m->block, m->steps), step), n);
  map_vector(m, l, i);
  kir_end(k);
}

/* The same with four elements a lane. */
static void map_quad(MapBody *m, Lower *l, Ix *i) {
  const Group *g = l->group;
  Ix *idx[MAX_RANK], *at[MAX_RANK];
  for (int a = 0; a < m->split; a++) idx[a] = m->outer[a];
  ix_unflatten(l, &m->inner, i, idx + m->split);
  KInst *(*value)[QUAD] = (void *)ARENA_ARRAY(l->arena, KInst *, QUAD * g->n_out);
  for (int o = 0; o < g->n_out; o++) {
    reindex(l, m->domain, &g->out[o]->type, idx, at);
    for (l->part = 0; l->part < QUAD; l->part++) value[o][l->part] = lower_value(l, g->out[o], at);
  }
  for (int o = 0; o < g->n_out; o++) {
    reindex(l, m->domain, &g->out[o]->type, idx, at);
    lower_store_quad(l, o, at, value[o]);
  }
}

/* item -> outer index (uniform, in [0, outer)) and piece. */
static void decode_item(Lower *l, const LanePlan *p, Dim outer, bool has_outer, Ix **out_outer, Ix **out_piece) {
  Kernel *k = l->k;
  KInst *item = kir_item(k);
  Dim step = dim_const(LANES * p->vectors);
  *out_outer = *out_piece = ix_const(l, 0);
  if (has_outer) kir_factor(k, outer, 1);
  if (!p->single) kir_factor(k, p->n, step.c);
  if (!has_outer && p->single) {
    kir_factor(k, dim_is_const(p->n) ? dim_const(p->n.c > 0) : p->n, step.c);
    return;
  }
  if (p->single) {
    *out_outer = ix_value(l, item, outer);
  } else if (!has_outer) {
    *out_piece = ix_value(l, item, p->n);
  } else {
    KInst *n = kir_bin(k, KOP_ADD, kir_dim(k, p->n), kir_i64(k, step.c - 1));
    KInst *pieces = kir_bin(k, KOP_DIV, n, kir_i64(k, step.c));
    Dim most = dim_is_const(p->n) ? dim_const((p->n.c + step.c - 1) / step.c) : p->n;
    *out_outer = ix_value(l, kir_bin(k, KOP_DIV, item, pieces), outer);
    *out_piece = ix_value(l, kir_bin(k, KOP_MOD, item, pieces), most);
  }
}

/* Finds the item's place: m->outer, and the piece of the inner axes. */
static void place_item(Lower *l, MapBody *m, const LanePlan *p, const Type *outer_type, Dim outer, Ix **out_piece) {
  Ix *flat;
  decode_item(l, p, outer, !dim_equal(outer, dim_const(1)), &flat, out_piece);
  ix_unflatten(l, outer_type, flat, m->outer);
  for (int a = 0; a < m->split; a++) { /* emitted here, once an item, for those that stay as they are */
    KInst *base, *none;
    ix_emit(l, m->outer[a], &base, &none);
  }
}

static MapBody body_of(const Type *domain, const MapParams *p) {
  int rank = domain->rank - p->split;
  return (MapBody){.domain = domain, .split = p->split, .inner = type_make(domain->dtype, rank, domain->dim + p->split),
                   .tile = p->tile - 1, .steps = p->steps, .steps_unroll = p->steps_unroll};
}

/* Elements of an item. */
static double elems_of(const LanePlan *p, const MapParams *params) {
  return (p->single ? (double)p->n.c : (double)(LANES * p->vectors)) * params->steps;
}

/* A vector a lane group, one after the other; m is where the item's place goes. */
static void build_vectors(Lower *l, const MapParams *params, MapBody *m) {
  Type outer_type = type_make(m->domain->dtype, m->split, m->domain->dim);
  Dim outer = {0}, inner = {0};
  Ix *piece;
  if (m->tile >= 0) outer_type.dim[m->tile] = dim_const((m->domain->dim[m->tile].c + m->steps - 1) / m->steps);
  type_elems(&outer_type, &outer);
  type_elems(&m->inner, &inner);
  LanePlan p = lane_plan(inner, params->vectors);
  place_item(l, m, &p, &outer_type, outer, &piece);
  m->block = m->tile >= 0 ? m->outer[m->tile] : NULL;
  lane_each(l, &p, piece, params->unroll, m->tile >= 0 ? map_tile : map_vector, m);
  double elems = elems_of(&p, params);
  int64_t grain = (int64_t)((double)params->grain / (elems > 1 ? elems : 1));
  l->k->grain = grain > 1 ? grain : 1;
}

static bool is_multiple(Dim d, int64_t of) { return d.c % of == 0 && d.b % of == 0 && d.r % of == 0; }

/* How a block of groups shares the work of lanes with four elements each. */
typedef struct Quads {
  int groups;   /* of a block */
  int per_row;  /* groups that take one outer index together */
  int rows;     /* outer indices of a block; only where one piece is all of the inner axes */
  bool is_whole;
} Quads;

static Quads quads_plan(Dim outer, Dim inner, int groups) {
  Quads q = {groups, groups, 1, dim_is_const(inner) && inner.c <= groups * GROUP_ELEMS};
  if (!q.is_whole) return q;
  q.per_row = (int)((inner.c + GROUP_ELEMS - 1) / GROUP_ELEMS);
  if (!dim_equal(outer, dim_const(1))) q.rows = groups / q.per_row;
  q.groups = q.rows * q.per_row;
  if (q.groups < 2) q.per_row = q.groups = 2;
  return q;
}

/* As place_item, for several outer indices a block: true where those beyond the last were cut off by an IF. */
static bool place_rows(Lower *l, MapBody *m, const Quads *q, const Type *outer_type, Dim outer) {
  Kernel *k = l->k;
  KInst *row = kir_un(k, KOP_TO_I64, kir_bin(k, KOP_DIV, kir_group(k), kir_i32(k, q->per_row))), *base, *none;
  kir_factor(k, outer, q->rows);
  Ix *flat = ix_add(l, ix_scale(l, ix_value(l, kir_item(k), outer), q->rows), ix_value(l, row, dim_const(q->rows)));
  bool cut = !is_multiple(outer, q->rows);
  if (cut) {
    ix_emit(l, flat, &base, &none);
    kir_if(k, kir_bin(k, KOP_LT, base, kir_dim(k, outer)));
  }
  ix_unflatten(l, outer_type, ix_assume(l, flat, outer), m->outer);
  return cut;
}

static void build_quads(Lower *l, const MapParams *params, MapBody *m) {
  Type outer_type = type_make(m->domain->dtype, m->split, m->domain->dim);
  Kernel *k = l->k;
  Dim outer = {0}, inner = {0};
  type_elems(&outer_type, &outer);
  type_elems(&m->inner, &inner);
  Quads q = quads_plan(outer, inner, params->groups);
  int64_t span = (int64_t)q.per_row * GROUP_ELEMS;
  Ix *piece = ix_const(l, 0);
  LanePlan p = {inner, span / LANES, q.is_whole, !is_multiple(inner, span)};
  bool cut = false;
  kir_block(k, q.groups, 0);
  if (q.rows > 1) cut = place_rows(l, m, &q, &outer_type, outer);
  else place_item(l, m, &p, &outer_type, outer, &piece);
  KInst *own = kir_un(k, KOP_TO_I64, kir_bin(k, KOP_MOD, kir_group(k), kir_i32(k, q.per_row))), *base, *none;
  Ix *lane = ix_scale(l, ix_value(l, kir_lane(k), dim_const(LANES)), QUAD), *start = ix_scale(l, piece, span);
  Ix *local = ix_add(l, ix_scale(l, ix_value(l, own, dim_const(q.per_row)), GROUP_ELEMS), lane);
  if (p.has_tail) {
    ix_emit(l, start, &base, &none);
    KInst *left = kir_bin(k, KOP_MIN, kir_bin(k, KOP_SUB, kir_dim(k, inner), base), kir_i64(k, span));
    l->mask = kir_bin(k, KOP_LT, ix_emit_i32(l, local), kir_un(k, KOP_TO_I32, left));
  }
  l->quads = true;
  map_quad(m, l, ix_assume(l, ix_add(l, start, ix_add(l, local, ix_part(l))), inner));
  l->mask = NULL;
  if (cut) kir_end(k);
}

bool lower_map(Lower *l, const Params *p) {
  MapBody m = body_of(&l->group->out[0]->type, &p->map);
  if (p->map.quads) build_quads(l, &p->map, &m);
  else build_vectors(l, &p->map, &m);
  return !l->failed;
}

/* ---- rough costs ---- */

enum { UNKNOWN_STEPS = 64 };   /* of a loop */

static double inst_cost(const KInst *i) {
  bool fixed = i->n_in > 1 && i->in[1] && i->in[1]->op == KOP_CONST;
  bool spread = i->in[1] && i->in[1]->varying && i->in[1]->op != KOP_LANE;
  switch (i->op) {
  case KOP_LOAD:
    return spread ? 14 : i->varying ? 1 : 0.5;
  case KOP_STORE:
    return spread ? 24 : 1;
  case KOP_DIV:
  case KOP_MOD:
    if (i->type == K_F32) return 4;
    return i->varying ? (fixed ? 6 : 40) : fixed ? 2 : 20;
  default:
    return i->varying ? 0.5 : 0.25;
  }
}

/* Rough time of a block: loops count as often as they run (64 times where that is not known), the tail's branch
 * little (`branch`). */
static double block_cost(const KBlock *b, const int *uses, double branch) {
  double sum = 0;
  for (const KInst *i = b->first; i; i = i->next) {
    if (uses[i->id] < 0) continue;
    if (i->op == KOP_FOR) {
      bool known = i->in[0]->op == KOP_CONST && i->in[1]->op == KOP_CONST;
      sum += (known ? (double)(i->in[1]->imm - i->in[0]->imm) : UNKNOWN_STEPS) * block_cost(i->body, uses, branch);
    } else if (i->op == KOP_IF) {
      sum += branch * block_cost(i->body, uses, branch);
    } else {
      sum += inst_cost(i);
    }
  }
  return sum;
}

static bool kernel_cost(const Kernel *k, double elems, double *out, Error *err) {
  int *uses = kir_count_uses(k);
  if (!uses) return error_set(err, ERROR_MEMORY, "out of memory while costing a kernel");
  double branch = k->groups > 1 ? 1 : 0.1;
  *out = (4 + block_cost(k->body, uses, branch)) / (elems > 0 ? elems : 1);
  mem_free(uses);
  return true;
}

/* ---- parameters ---- */

static bool is_one(Dim d) { return dim_equal(d, dim_const(1)); }

/* The values that say that a field is not used. */
static MapParams plain_params(const Target *t, int split, int unroll) {
  return (MapParams){.split = split, .steps = 1, .vectors = target_is_gpu(t) ? 4 : 64, .groups = 1, .unroll = unroll,
                     .steps_unroll = 1, .grain = GRAIN_ELEMS};
}

static MapParams tiled_params(const Target *t, int split, int unroll, int axis) {
  MapParams p = plain_params(t, split, unroll);
  p.tile = axis + 1;
  p.steps = 16;
  p.steps_unroll = 4;
  p.vectors = target_is_gpu(t) ? 1 : 4;
  return p;
}

static MapParams quad_params(const Target *t, int split) {
  MapParams p = plain_params(t, split, 1);
  p.quads = p.vectors = 1;
  p.groups = 8;
  return p;
}

/* Are there elements before and from the axis on whose number is affine? */
static bool counts_are_affine(const Type *domain, int split, Dim *out_inner) {
  Dim outer;
  return type_elems_range(domain, 0, split, &outer) && type_elems_range(domain, split, domain->rank, out_inner);
}

#define FIELD(name) PARAM_AT(MapParams, name)

static int refuse_split(const Type *domain, const MapParams *p, Dim *out_inner, Error *err) {
  if (p->split > 0 && p->split >= domain->rank)
    return params_refuse(FIELD(split), err, "there are %d axes, the lanes need one", domain->rank);
  if (p->split > 0 && is_one(domain->dim[p->split - 1]))
    return params_refuse(FIELD(split), err, "axis %d has one element: the same as split=%d", p->split - 1, p->split - 1);
  if (!counts_are_affine(domain, p->split, out_inner))
    return params_refuse(FIELD(split), err, "the number of elements before or behind it is not affine in B and R");
  return -1;
}

static int refuse_tile(const Type *domain, const MapParams *p, Error *err) {
  int axis = p->tile - 1;
  if (p->tile && p->quads) return params_refuse(FIELD(tile), err, "it must be 0 where lanes have four elements (quads=1)");
  if (axis >= p->split) return params_refuse(FIELD(tile), err, "its axis stands before split, which is %d", p->split);
  if (p->tile && (!dim_is_const(domain->dim[axis]) || domain->dim[axis].c < 2))
    return params_refuse(FIELD(tile), err, "axis %d has no constant number of elements, or fewer than 2", axis);
  if (p->tile && p->steps == 1) return params_refuse(FIELD(steps), err, "it must be more than 1 with tile=%d", p->tile);
  if (!p->tile && p->steps > 1) return params_refuse(FIELD(steps), err, "it must be 1 with tile=0");
  return -1;
}

int map_params_refuse(const Group *g, const Target *t, const Params *params, Error *err) {
  const MapParams *p = &params->map;
  const Type *domain = &g->out[0]->type;
  Dim inner;
  int field = refuse_split(domain, p, &inner, err);
  if (field >= 0) return field;
  if (p->quads && !target_is_gpu(t)) return params_refuse(FIELD(quads), err, "it must be 0: only GPUs have blocks");
  if (p->quads && (!is_multiple(inner, QUAD) || (dim_is_const(inner) && inner.c < GROUP_ELEMS)))
    return params_refuse(FIELD(quads), err, "it must be 0: elements behind split=%d do not come in fours, or are fewer "
                         "than %d", p->split, (int)GROUP_ELEMS);
  if ((field = refuse_tile(domain, p, err)) >= 0) return field;
  if (p->quads && p->vectors > 1) return params_refuse(FIELD(vectors), err, "it must be 1 with quads=1");
  if (p->quads && p->groups == 1) return params_refuse(FIELD(groups), err, "it must be more than 1 with quads=1");
  if (!p->quads && p->groups > 1) return params_refuse(FIELD(groups), err, "it must be 1 with quads=0");
  if (p->quads && p->unroll > 1) return params_refuse(FIELD(unroll), err, "it must be 1 with quads=1");
  if (!p->tile && p->steps_unroll > 1) return params_refuse(FIELD(steps_unroll), err, "it must be 1 with tile=0");
  return params_refuse_grain(FIELD(grain), p->grain, t, err);
}

#undef FIELD

/* ---- the default ---- */

typedef struct Choice {
  const Group *group;
  const Target *target;
  MapParams *out;
  Arena *arena;
  Error *err;
  bool ok;
} Choice;

typedef struct Candidate {
  MapParams params;
  double cost;          /* rough, per element; -1: there is none yet */
  int along;            /* outer axis along which its gathers are contiguous, or -1 */
} Candidate;

static bool build_candidate(Choice *c, Lower *l, const MapParams *p, Candidate *out) {
  MapBody m = body_of(&c->group->out[0]->type, p);
  Dim inner = {0};
  lower_restart(l);
  if (p->quads) build_quads(l, p, &m);
  else build_vectors(l, p, &m);
  type_elems(&m.inner, &inner);
  LanePlan plan = lane_plan(inner, p->vectors);
  *out = (Candidate){*p, 0, -1};
  if (l->failed || !kernel_cost(l->k, p->quads ? GROUP_ELEMS : elems_of(&plan, p), &out->cost, c->err)) return false;
  for (int a = 0; a < p->split && l->gather_along; a++)
    if (ix_equal(l->gather_along, m.outer[a])) out->along = a;
  return true;
}

/* The candidate of every split that is legal, where its cost is below `margin` times the best so far. */
static bool consider_splits(Choice *c, Lower *l, int unroll, bool quads, double margin, Candidate *best) {
  int rank = c->group->out[0]->type.rank;
  for (int split = 0; split == 0 || split < rank; split++) {
    Params p = {.kind = PARAMS_MAP, .map = plain_params(c->target, split, unroll)};
    Candidate x;
    Error ignored;
    if (quads) p.map = quad_params(c->target, split);
    if (map_params_refuse(c->group, c->target, &p, &ignored) >= 0) continue;
    if (!build_candidate(c, l, &p.map, &x)) return false;
    if (best->cost < 0 || x.cost < margin * best->cost) *best = x;
  }
  return true;
}

static void choose_body(void *ctx) {
  Choice *c = ctx;
  const Type *domain = &c->group->out[0]->type;
  int costly = lower_costly(c->group), n = c->group->n_node;
  int unroll = costly > 1 || n > 24 ? 1 : costly || n > 8 ? 2 : 4;
  Candidate best = {.cost = -1};
  Lower *l = lower_begin(c->arena, c->group, c->target, "map", c->err);
  if (!l || !consider_splits(c, l, unroll, false, 0.95, &best)) return;
  if (best.cost < 0) {
    lower_fail(l, c->group->anchor, "the number of elements is not affine in B and R");
    return;
  }
  bool tiles = best.along >= 0 && dim_is_const(domain->dim[best.along]) && domain->dim[best.along].c >= LANES / 2;
  if (tiles) best.params = tiled_params(c->target, best.params.split, unroll, best.along);
  else if (target_is_gpu(c->target) && !consider_splits(c, l, unroll, true, 1, &best)) return;
  *c->out = best.params;
  c->ok = true;
}

bool map_params(Arena *a, const Group *g, const Target *t, Params *out, Error *err) {
  Choice c = {.group = g, .target = t, .out = &out->map, .arena = arena_new(), .err = err};
  if (!c.arena) return error_set(err, ERROR_MEMORY, "out of memory for the candidates of a kernel");
  bool within = arena_protect(c.arena, choose_body, &c, err);
  arena_free(c.arena);
  return within && c.ok;
}
