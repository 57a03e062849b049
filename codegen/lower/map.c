/* MAP groups: elementwise chains with index maps.
 *
 * Decides which trailing axes the lanes run over.  Merged axes give long vectors and few items; an index map that
 * does not survive the merge turns loads into gathers with quotients.  So every split is built and the cheapest kept.
 * A gather that is contiguous along an outer axis (a transpose) walks over 16 steps of that axis for each vector, so
 * that cache lines are used whole.
 *
 * On a GPU items are small, so that there are many, and where it is cheaper a block of groups has four neighbours a
 * lane: 128-bit loads and stores. */
#include "codegen/kir/build.h"
#include "codegen/lower/lower.h"

enum {
  PIECE_VECTORS = 64, TILE = 16, TILE_VECTORS = 4, GRAIN_ELEMS = 16384,
  GPU_VECTORS = 4, GPU_TILE_VECTORS = 1,
  GROUP_ELEMS = QUAD * LANES, BLOCK_GROUPS = 8,
};

typedef struct MapBody {
  const Type *domain;
  int split; /* axes before it are outer: uniform within an item */
  Type inner;
  Ix *outer[MAX_RANK];
  int tile;  /* outer axis of which an item takes TILE steps, or -1 */
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
  KInst *base, *none, *steps = kir_i64(k, TILE);
  ix_emit(l, ix_scale(l, m->block, TILE), &base, &none);
  if (n.c % TILE != 0) steps = kir_bin(k, KOP_MIN, steps, kir_bin(k, KOP_SUB, kir_dim(k, n), base));
  Ix *step = ix_value(l, kir_for(k, kir_i64(k, 0), steps, 1, 4), dim_const(TILE));
  m->outer[m->tile] = ix_assume(l, ix_add(l, ix_scale(l, m->block, TILE), step), n);
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

typedef struct Built {
  Kernel *kernel;
  double cost; /* rough, per element */
  int along;   /* outer axis along which its gathers are contiguous, or -1 */
} Built;

static bool kernel_cost(const Kernel *k, double elems, double *out, Error *err);

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

static int vectors_of_piece(const Lower *l, bool is_tile) {
  if (target_is_gpu(l->target)) return is_tile ? GPU_TILE_VECTORS : GPU_VECTORS;
  return is_tile ? TILE_VECTORS : PIECE_VECTORS;
}

/* Builds the kernel with lanes over axes [split, rank).  False after a diagnostic. */
static bool build(Lower *l, const MapParams *params, const Type *domain, int split, int tile, Built *out) {
  MapBody m = {domain, split, type_make(domain->dtype, domain->rank - split, domain->dim + split), {0}, tile, NULL};
  Type outer_type = type_make(domain->dtype, split, domain->dim);
  Dim outer, inner;
  Ix *piece;
  if (tile >= 0) outer_type.dim[tile] = dim_const((domain->dim[tile].c + TILE - 1) / TILE);
  if (!type_elems(&outer_type, &outer) || !type_elems(&m.inner, &inner))
    return lower_fail(l, l->group->anchor, "the number of elements is not affine in B and R");
  LanePlan p = lane_plan(inner, vectors_of_piece(l, tile >= 0));
  place_item(l, &m, &p, &outer_type, outer, &piece);
  m.block = tile >= 0 ? m.outer[tile] : NULL;
  lane_each(l, &p, piece, params->unroll, tile >= 0 ? map_tile : map_vector, &m);
  double elems = (p.single ? (double)inner.c : (double)(LANES * p.vectors)) * (tile >= 0 ? TILE : 1);
  int64_t grain = (int64_t)((double)GRAIN_ELEMS / (elems > 1 ? elems : 1));
  l->k->grain = grain > 1 ? grain : 1;
  *out = (Built){l->k, 0, -1};
  if (!kernel_cost(l->k, elems, &out->cost, l->err)) return false;
  for (int a = 0; a < split && l->gather_along; a++)
    if (ix_equal(l->gather_along, m.outer[a])) out->along = a;
  return !l->failed;
}

static bool is_multiple(Dim d, int64_t of) { return d.c % of == 0 && d.b % of == 0 && d.r % of == 0; }

/* How a block of groups shares the work of lanes with four elements each. */
typedef struct Quads {
  int groups;   /* of a block */
  int per_row;  /* groups that take one outer index together */
  int rows;     /* outer indices of a block; only where one piece is all of the inner axes */
  bool is_whole;
} Quads;

static Quads quads_plan(Dim outer, Dim inner) {
  Quads q = {BLOCK_GROUPS, BLOCK_GROUPS, 1, dim_is_const(inner) && inner.c <= BLOCK_GROUPS * GROUP_ELEMS};
  if (!q.is_whole) return q;
  q.per_row = (int)((inner.c + GROUP_ELEMS - 1) / GROUP_ELEMS);
  if (!dim_equal(outer, dim_const(1))) q.rows = BLOCK_GROUPS / q.per_row;
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

/* Four elements a lane over axes [split, rank), or out->kernel NULL when these do not come in fours.  False after a
 * diagnostic. */
static bool build_quads(Lower *l, const Type *domain, int split, Built *out) {
  MapBody m = {domain, split, type_make(domain->dtype, domain->rank - split, domain->dim + split), {0}, -1, NULL};
  Type outer_type = type_make(domain->dtype, split, domain->dim);
  Kernel *k = l->k;
  Dim outer, inner;
  out->kernel = NULL;
  if (!type_elems(&outer_type, &outer) || !type_elems(&m.inner, &inner)) return true;
  if (!is_multiple(inner, QUAD) || (dim_is_const(inner) && inner.c < GROUP_ELEMS)) return true;
  Quads q = quads_plan(outer, inner);
  int64_t span = (int64_t)q.per_row * GROUP_ELEMS;
  Ix *piece = ix_const(l, 0);
  LanePlan p = {inner, span / LANES, q.is_whole, !is_multiple(inner, span)};
  bool cut = false;
  kir_block(k, q.groups, 0);
  if (q.rows > 1) cut = place_rows(l, &m, &q, &outer_type, outer);
  else place_item(l, &m, &p, &outer_type, outer, &piece);
  KInst *own = kir_un(k, KOP_TO_I64, kir_bin(k, KOP_MOD, kir_group(k), kir_i32(k, q.per_row))), *base, *none;
  Ix *lane = ix_scale(l, ix_value(l, kir_lane(k), dim_const(LANES)), QUAD), *start = ix_scale(l, piece, span);
  Ix *local = ix_add(l, ix_scale(l, ix_value(l, own, dim_const(q.per_row)), GROUP_ELEMS), lane);
  if (p.has_tail) {
    ix_emit(l, start, &base, &none);
    KInst *left = kir_bin(k, KOP_MIN, kir_bin(k, KOP_SUB, kir_dim(k, inner), base), kir_i64(k, span));
    l->mask = kir_bin(k, KOP_LT, ix_emit_i32(l, local), kir_un(k, KOP_TO_I32, left));
  }
  l->quads = true;
  map_quad(&m, l, ix_assume(l, ix_add(l, start, ix_add(l, local, ix_part(l))), inner));
  l->mask = NULL;
  if (cut) kir_end(k);
  *out = (Built){k, 0, -1};
  return kernel_cost(k, GROUP_ELEMS, &out->cost, l->err) && !l->failed;
}

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
      sum += (known ? (double)(i->in[1]->imm - i->in[0]->imm) : PIECE_VECTORS) * block_cost(i->body, uses, branch);
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

static bool is_one(Dim d) { return dim_equal(d, dim_const(1)); }

bool lower_map(Lower *l, const Params *p) {
  const MapParams *params = &p->map;
  const Type *domain = &l->group->out[0]->type;
  Built best = {0}, built;
  int best_split = 0;
  for (int split = 0; split == 0 || split < domain->rank; split++) {
    if (split > 0 && is_one(domain->dim[split - 1])) continue; /* the same vectors as the split before */
    if (best.kernel) lower_restart(l);
    if (!build(l, params, domain, split, -1, &built)) return false;
    if (best.kernel && built.cost >= 0.95 * best.cost) continue;
    best = built;
    best_split = split;
  }
  bool tiles = best.along >= 0 && dim_is_const(domain->dim[best.along]) && domain->dim[best.along].c >= TILE / 2;
  if (tiles) {
    lower_restart(l);
    if (!build(l, params, domain, best_split, best.along, &best)) return false;
  }
  for (int split = 0; target_is_gpu(l->target) && !tiles && (split == 0 || split < domain->rank); split++) {
    if (split > 0 && is_one(domain->dim[split - 1])) continue;
    lower_restart(l);
    if (!build_quads(l, domain, split, &built)) return false;
    if (built.kernel && built.cost < best.cost) best = built;
  }
  l->k = best.kernel;
  return true;
}

/* ---- parameters ---- */

bool map_params(Arena *a, const Group *g, const Target *t, Params *out, Error *err) {
  int costly = lower_costly(g);
  out->map.unroll = costly > 1 || g->n_node > 24 ? 1 : costly || g->n_node > 8 ? 2 : 4;
  return true;
}

int map_params_refuse(const Group *g, const Target *t, const Params *p, Error *err) { return -1; }
