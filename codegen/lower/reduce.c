/* REDUCE groups: which loops there are, and what each computes.
 *
 * There are two layouts: lanes along the reduced elements (rows), or along the kept ones when those are innermost
 * (columns); both give the same bits, and which it is is a parameter.  Element-level values are computed again by every loop that needs them, unless
 * they are costly: then the row layout keeps them in scratch. */
#include "codegen/lower/reduce.h"

#include <string.h>

static Member *member_of(const Reduce *r, const Node *n) {
  for (int i = 0; i < r->n_member; i++)
    if (r->member[i].node == n) return &r->member[i];
  return NULL;
}

/* The member behind views that are not members themselves, or NULL when n is read from memory. */
static Member *member_behind(const Reduce *r, Node *n) {
  for (;;) {
    Member *m = member_of(r, n);
    if (m || (n->op != OP_RESHAPE && n->op != OP_DETACH)) return m;
    for (int i = 0; i < r->l->group->n_in; i++)
      if (r->l->group->in[i] == n) return NULL;
    n = n->in[0];
  }
}

static bool is_reduction(const Node *n) { return op_info[n->op].class == CLASS_REDUCE; }

static uint32_t axes_of(const Node *n) {
  return n->op == OP_ARGMAX ? 1u << n->attrs.axis.axis : (uint32_t)n->attrs.axes.axes;
}

static Node *first_reduction(const Group *g) {
  for (int i = 0; i < g->n_node; i++)
    if (is_reduction(g->node[i])) return g->node[i];
  return NULL;
}

static bool has_elems(const Node *n, Dim want) {
  Dim elems;
  return type_elems(&n->type, &elems) && dim_equal(elems, want);
}

/* Fills in shapes and sizes from the first reduction. */
static bool shapes(Reduce *r) {
  Lower *l = r->l;
  Node *first = first_reduction(l->group);
  if (!first) return lower_fail(l, l->group->anchor, "a reduction group without a reduction");
  r->domain = &first->in[0]->type;
  r->axes = axes_of(first);
  for (int i = 0; i < r->domain->rank; i++) {
    Type *t = r->axes >> i & 1 ? &r->reduced : &r->kept;
    t->dim[t->rank++] = r->domain->dim[i];
  }
  if (!type_elems(r->domain, &r->n_domain) || !type_elems(&r->kept, &r->n_kept) ||
      !type_elems(&r->reduced, &r->n_reduced))
    return lower_fail(l, first, "the number of elements is not affine in B and R");
  return true;
}

static bool classify(Reduce *r, Member *m) {
  Node *n = m->node;
  for (int i = 0; i < n->n_in; i++) {
    Member *x = member_behind(r, n->in[i]);
    if (x && x->stage > m->stage) m->stage = x->stage;
  }
  if (is_reduction(n)) {
    m->loop = m->stage++;
    m->row = true;
    if (!type_same_shape(&n->in[0]->type, r->domain) || axes_of(n) != r->axes)
      return lower_fail(r->l, n, "reductions of one group differ in their axes or operand shapes");
  } else {
    m->element = has_elems(n, r->n_domain) && !(has_elems(n, r->n_kept) && m->stage > 0);
    m->row = !m->element && has_elems(n, r->n_kept);
  }
  if (m->out >= 0 && !m->element && !m->row)
    return lower_fail(r->l, n, "a result of a reduction group has neither the domain's nor the reduced shape");
  int last = m->loop >= 0 ? m->loop : m->out >= 0 && m->element ? m->stage : -1;
  if (last >= r->n_loops) r->n_loops = last + 1;
  return true;
}

static bool members(Reduce *r) {
  const Group *g = r->l->group;
  r->member = ARENA_ARRAY(r->l->arena, Member, g->n_node);
  for (int i = 0; i < g->n_node; i++) {
    Member *m = &r->member[i];
    *m = (Member){.node = g->node[i], .loop = -1, .out = -1, .first_loop = -1, .cache = -1};
    for (int o = 0; o < g->n_out; o++)
      if (g->out[o] == m->node) m->out = o;
    r->n_member = i + 1;
    if (!classify(r, m)) return false;
  }
  return true;
}

static bool is_root(const Member *m, int loop) {
  return m->loop == loop || (m->out >= 0 && m->element && m->stage == loop);
}

/* Which loops need which members.  Members are in topological order, so a sweep from the end reaches everything. */
static void reach(Reduce *r, int loop) {
  for (int i = 0; i < r->n_member; i++) r->member[i].reached = is_root(&r->member[i], loop);
  for (int i = r->n_member - 1; i >= 0; i--) {
    Member *m = &r->member[i];
    if (!m->reached || (is_reduction(m->node) && m->loop != loop)) continue;
    for (int j = 0; j < m->node->n_in; j++) {
      Member *x = member_behind(r, m->node->in[j]);
      if (x) x->reached = true;
    }
  }
  for (int i = 0; i < r->n_member; i++) {
    Member *m = &r->member[i];
    if (!m->reached) continue;
    if (m->first_loop < 0) m->first_loop = loop;
    m->n_loops++;
  }
}

static bool is_costly(Op op) { return op_info[op].work == WORK_POLYNOMIAL; }

static void choose_cached(Reduce *r) {
  int n = 0;
  for (int i = 0; i < r->n_member && n < r->params->kept; i++) {
    Member *m = &r->member[i];
    if (!m->element || m->n_loops < 2 || !is_costly(m->node->op) || !type_same_shape(&m->node->type, r->domain))
      continue;
    m->cache = kir_scratch(r->l->k, arena_printf(r->l->arena, "row%d", n++), DTYPE_F32, r->n_reduced.c);
  }
}

/* ---- indices ---- */

void reduce_element_index(const Reduce *r, Ix *const *reduced_idx, Ix **out) {
  int kept = 0, gone = 0;
  for (int i = 0; i < r->domain->rank; i++) out[i] = r->axes >> i & 1 ? reduced_idx[gone++] : r->kept_idx[kept++];
}

static void reindex(Lower *l, const Type *from, const Type *to, Ix *const *idx, Ix **out) {
  if (type_same_shape(from, to))
    memcpy(out, idx, (size_t)to->rank * sizeof *out);
  else
    ix_unflatten(l, to, ix_flatten(l, from, idx), out);
}

void reduce_bind_row(Reduce *r, const Member *m, KInst *v) {
  Ix *idx[MAX_RANK];
  reindex(r->l, &r->kept, &m->node->type, r->kept_idx, idx);
  lower_bind_at(r->l, m->node, idx, v);
}

KInst *reduce_row_value(Reduce *r, const Member *m) {
  Ix *idx[MAX_RANK];
  reindex(r->l, &r->kept, &m->node->type, r->kept_idx, idx);
  return lower_value(r->l, m->node, idx);
}

void reduce_store_row(Reduce *r, const Member *m) {
  Ix *idx[MAX_RANK];
  reindex(r->l, &r->kept, &m->node->type, r->kept_idx, idx);
  lower_store(r->l, m->out, idx, lower_value(r->l, m->node, idx));
}

void reduce_store_element(Reduce *r, const Member *m, Ix *const *idx) {
  Ix *at[MAX_RANK];
  reindex(r->l, r->domain, &m->node->type, idx, at);
  lower_store(r->l, m->out, at, lower_value(r->l, m->node, at));
}

/* ---- the template ---- */

bool lower_reduce(Lower *l, const Params *p) {
  Reduce r = {.l = l, .params = &p->reduce};
  if (!shapes(&r) || !members(&r)) return false;
  for (int loop = 0; loop < r.n_loops; loop++) reach(&r, loop);
  if (p->reduce.columns) return reduce_columns(&r);
  choose_cached(&r);
  return reduce_rows(&r);
}

/* ---- parameters ---- */

/* On a GPU: vectors of a row, or elements of a column, that a lane has under way: fewer where each costs much code. */
static int gpu_unroll(const Group *g, int costly) {
  int n = 96 / (g->n_node + 8 * costly);
  return n < 2 ? 2 : n > 16 ? 16 : n;
}

enum {
  KEPT = 3,                  /* costly values of a row, at most */
  KEPT_ELEMS = 16384         /* of a row that has some, at most */
};

/* How many kept elements lie behind the last reduced axis; false: none, or their number is not affine. */
static bool columns_of(const Group *g, Dim *out) {
  const Node *first = first_reduction(g);
  const Type *domain = &first->in[0]->type;
  int from = domain->rank;
  while (from > 0 && !(axes_of(first) >> (from - 1) & 1)) from--;
  return from < domain->rank && type_elems_range(domain, from, domain->rank, out);
}

/* Elements of a row whose costly values can be kept; 0: they cannot. */
static int64_t kept_elems(const Group *g) {
  const Node *first = first_reduction(g);
  int64_t n = 1;
  for (int i = 0; i < first->in[0]->type.rank; i++) {
    Dim d = first->in[0]->type.dim[i];
    if (!(axes_of(first) >> i & 1)) continue;
    if (!dim_is_const(d) || d.c > KEPT_ELEMS) return 0;
    n *= d.c;
    if (n > KEPT_ELEMS) return 0;
  }
  return n;
}

/* How many there is room for: a GPU's block has the rows of all its items in shared memory. */
static int most_kept(const Group *g, const Target *t) {
  int64_t elems = kept_elems(g), row = CUDA_ITEMS * (int64_t)sizeof(float) * elems;
  if (!elems) return 0;
  return target_is_gpu(t) && CUDA_SHARED_BYTES / row < KEPT ? (int)(CUDA_SHARED_BYTES / row) : KEPT;
}

bool reduce_params(Arena *a, const Group *g, const Target *t, Params *out, Error *err) {
  int costly = lower_costly(g);
  ReduceParams *p = &out->reduce;
  Dim inner;
  *p = (ReduceParams){.vectors = 1, .start_unroll = 1, .end_unroll = 1, .grain = GRAIN_ELEMS};
  if (!first_reduction(g)) return error_set(err, ERROR_MODEL, "a reduction group without a reduction");
  p->columns = columns_of(g, &inner) && (!dim_is_const(inner) || inner.c >= LANES / 2);
  p->kept = p->columns ? 0 : most_kept(g, t);
  if (target_is_gpu(t)) p->unroll = gpu_unroll(g, costly);
  else p->unroll = costly > 1 || g->n_node > 24 ? 1 : costly || g->n_node > 8 ? 2 : 4;
  if (p->columns && target_is_gpu(t)) {
    if (p->unroll > 8) p->unroll = 8;   /* loads that a thread has under way */
  } else if (p->columns) {
    p->vectors = 8;
    p->start_unroll = 4;
  }
  return true;
}

int reduce_params_refuse(const Group *g, const Target *t, const Params *params, Error *err) {
  const ReduceParams *p = &params->reduce;
  Dim inner;
  bool has_vectors = p->columns && !target_is_gpu(t);
  if (p->columns && !columns_of(g, &inner))
    return params_refuse(PARAM_AT(ReduceParams, columns), err, "it must be 0: no kept axis stands behind the reduced ones");
  if (p->vectors > 1 && !has_vectors)
    return params_refuse(PARAM_AT(ReduceParams, vectors), err, "it must be 1 but for columns on a CPU");
  if (p->kept && (p->columns || !kept_elems(g)))
    return params_refuse(PARAM_AT(ReduceParams, kept), err, "it must be 0: values are kept of rows of 1 to %d elements, "
                         "not of columns", (int)KEPT_ELEMS);
  if (p->kept > most_kept(g, t))
    return params_refuse(PARAM_AT(ReduceParams, kept), err, "a block's %d rows of %lld elements have room for %d in %d bytes "
                         "of shared memory", (int)CUDA_ITEMS, (long long)kept_elems(g), most_kept(g, t), (int)CUDA_SHARED_BYTES);
  if (p->start_unroll > 1 && !has_vectors)
    return params_refuse(PARAM_AT(ReduceParams, start_unroll), err, "it must be 1 but for columns on a CPU");
  if (p->end_unroll > 1 && !has_vectors)
    return params_refuse(PARAM_AT(ReduceParams, end_unroll), err, "it must be 1 but for columns on a CPU");
  return params_refuse_grain(PARAM_AT(ReduceParams, grain), p->grain, t, err);
}
