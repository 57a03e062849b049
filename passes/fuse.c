/* Which nodes become one kernel.
 *
 * needs: FORM_PRIMITIVE.  gives: groups in order of execution, each computing without memory between its members.
 * Never duplicates arithmetic: an element that two kernels need, or one kernel at several places, stands in
 * memory; only moves and constants are repeated (fuse_units.c).
 *
 * Every unit begins as a kernel of its own.  Kernels are merged along edges, greedily and in a fixed order, while the
 * result still has the form of its family and no third kernel stands between them:
 *   1. epilogues of products, where that writes no more than before;  2. attentions over the same queries and keys;
 *   3. reductions over the same axes of the same shape, with the maps before, between and after them;
 *   4. epilogues of products that write one more result;  5. maps;  6. independent reductions that share an
 * operand. */
#include "passes/fuse.h"

#include <string.h>

enum {
  MAX_BUFFERS = 40,        /* operands and results of a kernel; below KIR_MAX_BUFS */
  MAX_UNITS = 160,         /* of a kernel: compile time grows faster than what one more saves */
  ROW_FITS = 256,          /* elements of a row of 16 lanes that stay in the first-level cache (16 KiB) */
  FEW_ROWS = 4,            /* fewer rows than this are no work for several threads... */
  LONG_ROW = 1024,         /* ...when a row is longer than this */
};

/* ---- shapes of reductions ---- */

static bool is_one(Dim d) { return dim_equal(d, dim_const(1)); }

static uint32_t reduced_axes(const Node *n) {
  return n->op == OP_ARGMAX ? 1u << n->attrs.axis.axis : (uint32_t)n->attrs.axes.axes;
}

/* The shape that is left, and the number of elements that are reduced to one (-1: symbolic). */
static Type row_type(const Cluster *c, int64_t *out_row) {
  Type t = {c->domain.dtype, 0, {{0}}};
  *out_row = 1;
  for (int i = 0; i < c->domain.rank; i++) {
    Dim d = c->domain.dim[i];
    if (!(c->axes >> i & 1)) t.dim[t.rank++] = d;
    else if (*out_row >= 0) *out_row = dim_is_const(d) ? *out_row * d.c : -1;
  }
  return t;
}

static bool is_innermost(const Cluster *c) {
  uint32_t all = (1u << c->domain.rank) - 1, inner = c->axes;
  for (int i = c->domain.rank - 1; i >= 0 && (inner >> i & 1); i--) inner &= ~(1u << i);
  return (inner & all) == 0;
}

/* One row is the work of one thread; with few long rows nothing may hang on a reduction that others could do. */
static bool has_few_rows(const Cluster *c) {
  int64_t row;
  Dim rows;
  Type t = row_type(c, &row);
  return type_elems(&t, &rows) && dim_is_const(rows) && rows.c < FEW_ROWS && (row < 0 || row > LONG_ROW);
}

/* Whether values of the row may go back to its elements in the same kernel, which then passes over the row again. */
static bool may_pass_again(const Cluster *c) {
  int64_t row;
  row_type(c, &row);
  return !has_few_rows(c) && (is_innermost(c) || (row >= 0 && row <= ROW_FITS));
}

/* Whether broadcast `cast` repeats values of the row along exactly the reduced axes. */
static bool casts_rows(const Node *cast, const Cluster *c) {
  const Type *x = &cast->in[0]->type, *d = &c->domain;
  if (!type_same_shape(&cast->type, d)) return false;
  int extra = d->rank - x->rank;
  for (int i = 0; i < d->rank; i++) {
    bool one = i < extra || is_one(x->dim[i - extra]);
    if (c->axes >> i & 1 ? !one : !(one ? is_one(d->dim[i]) : dim_equal(x->dim[i - extra], d->dim[i]))) return false;
  }
  return true;
}

/* ---- what leaves a cluster ---- */

static bool is_read_outside(const Fuse *f, int unit, int p, int c) {
  const Unit *u = &f->unit[unit];
  if (u->stored) return true;
  for (int i = 0; i < u->n_out; i++) {
    int reader = f->unit[f->edge[f->out_edge[u->first_out + i]].to].cluster;
    if (reader != p && reader != c) return true;
  }
  return false;
}

/* Results of cluster x when x and y are one; y = x: of x alone. */
static int count_out(const Fuse *f, int x, int y) {
  int n = 0;
  for (int u = f->cluster[x].first; u >= 0; u = f->unit[u].next) n += is_read_outside(f, u, x, y);
  return n;
}

/* Operands of p and c together: homes that neither computes. */
static int count_in(Fuse *f, int p, int c) {
  int n = 0, stamp = ++f->stamp, pair[2] = {p, c};
  for (int k = 0; k < 2; k++) {
    for (int u = f->cluster[pair[k]].first; u >= 0; u = f->unit[u].next) {
      for (int i = 0; i < f->unit[u].n_read; i++) {
        int id = f->unit[u].read[i]->id, from = f->unit_of[id];
        if (f->node_mark[id] == stamp || (from >= 0 && (f->unit[from].cluster == p || f->unit[from].cluster == c)))
          continue;
        f->node_mark[id] = stamp;
        n++;
      }
    }
  }
  return n;
}

/* ---- legality: the form of a family ---- */

/* Calls check for every edge from p to c until one gives a reason; *out_n: how many edges there are. */
typedef const char *(*EdgeCheck)(const Fuse *f, const Edge *e, const Cluster *home);

static const char *check_edges(const Fuse *f, int p, int c, EdgeCheck check, const Cluster *home, int *out_n) {
  *out_n = 0;
  for (int u = f->cluster[p].first; u >= 0; u = f->unit[u].next) {
    for (int i = 0; i < f->unit[u].n_out; i++) {
      const Edge *e = &f->edge[f->out_edge[f->unit[u].first_out + i]];
      if (f->unit[e->to].cluster != c) continue;
      ++*out_n;
      const char *why = check(f, e, home);
      if (why) return why;
    }
  }
  return NULL;
}

static const char *check_same(const Fuse *f, const Edge *e, const Cluster *home) {
  if (e->path != PATH_SAME) return "it is read at other elements than the ones written";
  return NULL;
}

/* The same element of what the kernel writes. */
static const char *check_same_map(const Fuse *f, const Edge *e, const Cluster *home) {
  if (f->unit[e->to].inner) return "an element would be computed again where it is moved";
  return check_same(f, e, home);
}

/* Each element once, elsewhere. */
static const char *check_once(const Fuse *f, const Edge *e, const Cluster *home) {
  if (e->path == PATH_ONCE || (e->path == PATH_SAME && f->unit[e->to].inner)) return NULL;
  return "an element is read more than once";
}

static const char *check_epilogue_operand(const Fuse *f, const Edge *e, const Cluster *home) {
  if (e->to == home->anchor) return "the product reads its operands from memory";
  return check_same(f, e, home);
}

/* Levels of a reduction: its elements, and its rows. */
static const char *check_levels(const Fuse *f, const Edge *e, const Cluster *home) {
  const Node *from = f->unit[e->from].node, *to = f->unit[e->to].node;
  bool from_row = op_info[from->op].class == CLASS_REDUCE || !type_same_shape(&from->type, &home->domain);
  bool to_row = op_info[to->op].class != CLASS_REDUCE && !type_same_shape(&to->type, &home->domain);
  if (from_row == to_row && e->path == PATH_SAME) return NULL;
  if (from_row && !to_row && e->path == PATH_ROW && casts_rows(e->cast, home))
    return may_pass_again(home) ? NULL : "a second pass over such rows would cost more than reading them from memory";
  return "it is read at other elements than the row's own";
}

static bool leaks(const Fuse *f, int x, int other) {
  return count_out(f, x, other) > 0;
}

static const char *refuse_maps(Fuse *f, int p, int c) {
  int n;
  const Cluster *P = &f->cluster[p], *C = &f->cluster[c];
  const char *why = check_edges(f, p, c, check_same_map, C, &n);
  if (!why) return type_same_shape(&P->domain, &C->domain) ? NULL : "the shapes differ";
  if (check_edges(f, p, c, check_once, C, &n)) return why;
  if (n != 1) return "it is read at other elements in several places";
  return leaks(f, p, c) ? "it is read in other places too" : NULL;
}

static const char *refuse_reduce(Fuse *f, int p, int c) {
  int n;
  int64_t row;
  const Cluster *P = &f->cluster[p], *C = &f->cluster[c];
  const Cluster *home = P->family == FAMILY_REDUCE ? P : C, *other = home == P ? C : P;
  if (other->family == FAMILY_REDUCE) {
    if (other->axes != home->axes || !type_same_shape(&other->domain, &home->domain))
      return "it reduces other axes or another shape";
    return check_edges(f, p, c, check_levels, home, &n);
  }
  Type rows = row_type(home, &row);
  bool elements = type_same_shape(&other->domain, &home->domain);
  if (other->has_inner || (!elements && !type_same_shape(&other->domain, &rows)))
    return "its shape is neither that of the reduced elements nor that of the rows";
  if (elements && has_few_rows(home) && (other == C || leaks(f, p, c)))
    return "a reduction to so few rows has no work for several threads";
  return check_edges(f, p, c, check_levels, home, &n);
}

static const char *refuse_epilogue(Fuse *f, int p, int c) {
  int n;
  const Cluster *P = &f->cluster[p], *C = &f->cluster[c];
  if (C->has_inner || !type_same_shape(&P->domain, &C->domain)) return "the shapes differ";
  return check_edges(f, p, c, check_same, P, &n);
}

static const char *refuse_prologue(Fuse *f, int p, int c) {
  int n;
  const Cluster *P = &f->cluster[p], *C = &f->cluster[c];
  EdgeCheck check = C->family == FAMILY_SCATTER ? check_same : check_epilogue_operand;
  const char *why = check_edges(f, p, c, check, C, &n);
  if (why) return why;
  if (P->has_inner || !type_same_shape(&P->domain, &C->domain)) return "the shapes differ";
  return leaks(f, p, c) ? "it is read in other places too" : NULL;
}

static const char *refuse_attention(Fuse *f, int p, int c) {
  const Node *x = f->unit[f->cluster[p].anchor].node, *y = f->unit[f->cluster[c].anchor].node;
  const Node *v = x->op == OP_ATTEND_GRAD_V ? x : y, *k = v == x ? y : x;
  bool forward = (x->op == OP_ATTEND && y->op == OP_ATTEND_LSE) || (y->op == OP_ATTEND && x->op == OP_ATTEND_LSE);
  bool backward = v->op == OP_ATTEND_GRAD_V && k->op == OP_ATTEND_GRAD_K;
  if (f->cluster[p].n > 1 || f->cluster[c].n > 1 || (!forward && !backward))
    return "attention kernels take no other nodes";
  bool same = x->in[0] == y->in[0] && x->in[1] == y->in[1] && attend_mask(x) == attend_mask(y) &&
              memcmp(&x->attrs.attend, &y->attrs.attend, sizeof x->attrs.attend) == 0;
  if (backward) same = same && k->in[3] == v->in[2] && k->in[4] == v->in[3];
  return same ? NULL : "the attentions differ in queries, keys, mask or extent";
}

static const char *refuse_product(const Fuse *f, int p, int c) {
  int n;
  const char *why = check_edges(f, p, c, check_epilogue_operand, &f->cluster[c], &n);
  return why ? why : f->cluster[p].family == FAMILY_CONTRACT ? "a kernel holds one product"
                                                             : "a product's kernel holds no reduction";
}

static const char *refuse_family(Fuse *f, int p, int c) {
  Family fp = f->cluster[p].family, fc = f->cluster[c].family;
  if (fp == FAMILY_MAP && fc == FAMILY_MAP) return refuse_maps(f, p, c);
  if (fp == FAMILY_ATTEND && fc == FAMILY_ATTEND) return refuse_attention(f, p, c);
  if (fp == FAMILY_ATTEND) return "attention kernels write their result to memory";
  if (fc == FAMILY_ATTEND) return "attention reads its operands from memory";
  if (fp == FAMILY_SCATTER) return "a scatter writes its result to memory";
  if (fp == FAMILY_CONTRACT && fc == FAMILY_MAP) return refuse_epilogue(f, p, c);
  if (fp == FAMILY_MAP && fc == FAMILY_CONTRACT) return refuse_prologue(f, p, c);
  if (fp == FAMILY_MAP && fc == FAMILY_SCATTER) return refuse_prologue(f, p, c);
  if (fc == FAMILY_CONTRACT) return refuse_product(f, p, c);
  if (fp == FAMILY_CONTRACT) return "a product's kernel holds no reduction";
  if (fc == FAMILY_SCATTER) return "a scatter's kernel holds no reduction";
  return refuse_reduce(f, p, c);
}

/* ---- order: no third kernel in between ---- */

/* Whether a cluster that p reaches reaches c.  If not, those that p reaches and that stand before c are marked with a
 * fresh stamp. */
static bool reaches_around(Fuse *f, int p, int c) {
  int stamp = ++f->stamp, n = 0, limit = f->cluster[c].rank;
  int *stack = f->mark + f->n_unit;
  stack[n++] = p;
  while (n > 0) {
    int x = stack[--n];
    for (int u = f->cluster[x].first; u >= 0; u = f->unit[u].next) {
      for (int i = 0; i < f->unit[u].n_out; i++) {
        int y = f->unit[f->edge[f->out_edge[f->unit[u].first_out + i]].to].cluster;
        if (y == c && x != p) return true;
        if (y == c || y == p || f->cluster[y].rank > limit || f->mark[y] == stamp) continue;
        f->mark[y] = stamp;
        stack[n++] = y;
      }
    }
  }
  return false;
}

/* Between the ranks of p and c: first what p does not reach, then the merged cluster c, then what p reaches
 * (marked). */
static void reorder(Fuse *f, int p, int c, int *spare) {
  int lo = f->cluster[p].rank, hi = f->cluster[c].rank, at = lo, n = 0;
  for (int r = lo; r <= hi; r++) {
    int x = f->at_rank[r];
    if (x < 0 || x == p || x == c) continue;
    if (f->mark[x] == f->stamp) {
      spare[n++] = x;
    } else {
      f->at_rank[at] = x;
      f->cluster[x].rank = at++;
    }
  }
  f->at_rank[at] = c;
  f->cluster[c].rank = at++;
  for (int i = 0; i < n; i++) {
    f->at_rank[at] = spare[i];
    f->cluster[spare[i]].rank = at++;
  }
  while (at <= hi) f->at_rank[at++] = -1;
}

const char *fuse_refusal(Fuse *f, int p, int c) {
  const char *why = refuse_family(f, p, c);
  if (why) return why;
  if (f->cluster[p].n + f->cluster[c].n > MAX_UNITS) return "the kernel would have too many operations";
  if (count_in(f, p, c) + count_out(f, p, c) + count_out(f, c, p) > MAX_BUFFERS)
    return "the kernel would have too many operands and results";
  return reaches_around(f, p, c) ? "another kernel stands between them" : NULL;
}

/* Makes p part of c.  The last fuse_refusal was for them, so its marks are those of what p reaches. */
static void merge(Fuse *f, int p, int c) {
  Cluster *P = &f->cluster[p], *C = &f->cluster[c];
  bool keep_p = P->family != FAMILY_MAP && C->family == FAMILY_MAP;
  int n;
  bool inner = P->family == FAMILY_MAP && C->family == FAMILY_MAP && check_edges(f, p, c, check_same_map, C, &n);
  reorder(f, p, c, f->mark + f->n_unit);
  for (int u = P->first; u >= 0; u = f->unit[u].next) {
    f->unit[u].cluster = c;
    f->unit[u].inner |= inner;
  }
  f->unit[P->last].next = C->first;
  C->first = P->first;
  C->n += P->n;
  P->n = 0;
  if (keep_p) {
    C->family = P->family;
    C->domain = P->domain;
    C->axes = P->axes;
    C->anchor = P->anchor;
  }
  C->has_inner = C->family == FAMILY_MAP && (inner || P->has_inner || C->has_inner);
}

/* ---- the order of merging ---- */

static bool has_family(const Fuse *f, int p, int c, Family x) {
  return f->cluster[p].family == x || f->cluster[c].family == x;
}

static bool wants_epilogue(Fuse *f, int p, int c) {
  if (!has_family(f, p, c, FAMILY_CONTRACT) || has_family(f, p, c, FAMILY_REDUCE)) return false;
  return count_out(f, p, c) + count_out(f, c, p) <= count_out(f, f->cluster[p].family == FAMILY_CONTRACT ? p : c, -1);
}
static bool wants_reduce(Fuse *f, int p, int c) { return has_family(f, p, c, FAMILY_REDUCE); }
static bool wants_map(Fuse *f, int p, int c) { return true; }

typedef bool (*PairFilter)(Fuse *f, int p, int c);

/* Merges along edges until nothing changes; whether anything did. */
static bool merge_edges(Fuse *f, PairFilter wants) {
  bool any = false, changed = true;
  while (changed) {
    changed = false;
    for (int i = 0; i < f->n_edge; i++) {
      int p = f->unit[f->edge[i].from].cluster, c = f->unit[f->edge[i].to].cluster;
      if (p == c || !wants(f, p, c) || fuse_refusal(f, p, c)) continue;
      merge(f, p, c);
      changed = any = true;
    }
  }
  return any;
}

/* Epilogues that write one more result, the last products first: what only a product of the backward part reads is
 * then computed there, and not stored by the forward part. */
static void widen_epilogues(Fuse *f) {
  for (int u = f->n_unit - 1; u >= 0; u--) {
    if (op_info[f->unit[u].node->op].class != CLASS_CONTRACT) continue;
    for (bool changed = true; changed;) {
      changed = false;
      for (int i = 0; i < f->n_edge; i++) {
        int p = f->unit[f->edge[i].from].cluster, c = f->unit[f->edge[i].to].cluster, own = f->unit[u].cluster;
        if (p == c || (p != own && c != own) || fuse_refusal(f, p, c)) continue;
        merge(f, p, c);
        changed = true;
      }
    }
  }
}

static bool share_operand(Fuse *f, int p, int c) {
  int stamp = ++f->stamp;
  for (int u = f->cluster[p].first; u >= 0; u = f->unit[u].next) {
    for (int i = 0; i < f->unit[u].n_read; i++) f->node_mark[f->unit[u].read[i]->id] = stamp;
  }
  for (int u = f->cluster[c].first; u >= 0; u = f->unit[u].next) {
    for (int i = 0; i < f->unit[u].n_read; i++) {
      if (f->node_mark[f->unit[u].read[i]->id] == stamp) return true;
    }
  }
  return false;
}

/* Merges pairs of one family that share an operand, whether or not one reads the other. */
static bool merge_siblings(Fuse *f, Family family) {
  bool any = false;
  for (int x = 0; x < f->n_unit; x++) {
    if (f->cluster[x].family != family) continue;
    for (int y = x + 1; y < f->n_unit && f->cluster[x].n; y++) {
      if (!f->cluster[y].n || f->cluster[y].family != family) continue;
      int p = f->cluster[x].rank < f->cluster[y].rank ? x : y, c = p == x ? y : x;
      if (!share_operand(f, p, c) || fuse_refusal(f, p, c)) continue;
      merge(f, p, c);
      any = true;
    }
  }
  return any;
}

static Family family_of(const Node *n) {
  switch (op_info[n->op].class) {
    case CLASS_REDUCE: return FAMILY_REDUCE;
    case CLASS_SCATTER: return FAMILY_SCATTER;
    case CLASS_CONTRACT: return FAMILY_CONTRACT;
    case CLASS_ATTEND: return FAMILY_ATTEND;
    case CLASS_MAP: case CLASS_MOVE: return FAMILY_MAP;
    case CLASS_LEAF: case CLASS_GRADIENT: case CLASS_COMPOSITE: break;
  }
  BUG("%s is in no family", op_info[n->op].text);
}

static void begin_clusters(Fuse *f) {
  f->cluster = ARENA_ARRAY(f->arena, Cluster, f->n_unit);
  f->at_rank = ARENA_ARRAY(f->arena, int, f->n_unit);
  f->mark = ARENA_ARRAY(f->arena, int, 2 * (size_t)f->n_unit + 1);
  for (int u = 0; u < f->n_unit; u++) {
    Node *n = f->unit[u].node;
    Cluster *c = &f->cluster[u];
    *c = (Cluster){.family = family_of(n), .first = u, .last = u, .n = 1, .anchor = u, .domain = n->type, .rank = u};
    if (c->family == FAMILY_REDUCE) {
      c->domain = n->in[0]->type;
      c->axes = reduced_axes(n);
    }
    if (c->family == FAMILY_SCATTER) c->domain = n->in[n->n_in - 1]->type;
    f->unit[u].cluster = u;
    f->at_rank[u] = u;
  }
}

Program *pass_fuse(Func *func) {
  Fuse *f = ARENA_NEW(func->graph->arena, Fuse);
  f->arena = func->graph->arena;
  f->func = func;
  if (!fuse_units(f)) return NULL;
  begin_clusters(f);
  merge_siblings(f, FAMILY_ATTEND);
  merge_edges(f, wants_epilogue);
  merge_edges(f, wants_reduce);
  widen_epilogues(f);
  merge_edges(f, wants_map);
  if (merge_siblings(f, FAMILY_REDUCE)) merge_edges(f, wants_reduce);
  return fuse_emit(f);
}
