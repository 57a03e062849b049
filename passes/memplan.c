/* Where every value lives.
 *
 * needs: groups in order of execution.  gives: a storage for every home in memory, and the copies that remain.
 * Decides in this order: ring_writes stand on their ring; values of updates are computed into their target,
 * outputs into the caller's buffer, when nobody misses the old contents; a MAP group writes over an operand that
 * dies in it; what is left is placed by first fit, largest first, where lifetimes meet no other.  Views have no
 * storage: see program_home. */
#include "passes/passes.h"

typedef struct Buf {
  Node *home;          /* the first of those that share it */
  ArenaPart part;
  int64_t unit_bytes, unit_offset;
  int first, last;     /* groups that use it */
  bool placed;
} Buf;

typedef struct Plan {
  const Program *p;
  Arena *arena;
  Graph *g;
  MemPlan *m;
  int *def, *last;     /* [n_ids] group that writes a home (-1: none), last group that reads it (n_group: the end) */
  Buf *buf; int n_buf;
  int *buf_of;         /* [n_ids], -1 */
  bool *kept;          /* [n_ids] leafs whose old contents are wanted after the last group */
} Plan;

static bool is_leaf(const Node *n) { return op_info[n->op].class == CLASS_LEAF; }

/* ---- lifetimes ---- */

static void find_lifetimes(Plan *w) {
  const Program *p = w->p;
  for (int i = 0; i < w->m->n_ids; i++) w->def[i] = w->last[i] = w->buf_of[i] = -1;
  for (int k = 0; k < p->n_group; k++) {
    const Group *g = &p->group[k];
    for (int i = 0; i < g->n_in; i++) w->last[g->in[i]->id] = k;
    for (int i = 0; i < g->n_out; i++) w->def[g->out[i]->id] = w->last[g->out[i]->id] = k;
  }
}

/* ---- leafs, outputs, updates ---- */

static void add_leaf(Plan *w, Node *n) {
  MemPlan *m = w->m;
  for (int i = 0; i < m->n_leaf; i++) {
    if (m->leaf[i] == n) return;
  }
  int at = m->n_leaf++;
  for (; at > 0 && m->leaf[at - 1]->id > n->id; at--) m->leaf[at] = m->leaf[at - 1];
  m->leaf[at] = n;
}

static void place_leafs(Plan *w) {
  const Func *f = w->p->func;
  int n;
  Node **nodes = func_nodes(f, &n);
  w->m->leaf = ARENA_ARRAY(w->arena, Node *, n + f->n_update);
  for (int i = 0; i < n; i++) {
    if (nodes[i]->op == OP_PARAM || nodes[i]->op == OP_STATE) add_leaf(w, nodes[i]);
  }
  for (int i = 0; i < f->n_update; i++) add_leaf(w, f->update[i].target);
  for (int i = 0; i < w->m->n_leaf; i++) {
    Node *leaf = w->m->leaf[i];
    w->m->of[leaf->id] = (Storage){.kind = leaf->op == OP_PARAM ? STORAGE_PARAM : STORAGE_STATE, .index = i};
  }
  for (int i = 0; i < f->n_in; i++) w->m->of[f->in[i].node->id] = (Storage){.kind = STORAGE_INPUT, .index = i};
}

/* Leafs that outputs or other updates copy from at the end: their old contents must survive until then. */
static void find_kept(Plan *w) {
  const Func *f = w->p->func;
  for (int i = 0; i < f->n_out; i++) w->kept[program_home(f->out[i].node)->id] = true;
  for (int i = 0; i < f->n_update; i++) {
    Node *home = program_home(f->update[i].value);
    if (home != f->update[i].target) w->kept[home->id] = true;
  }
}

static void add_copy(Plan *w, Node *from, Node *to, int output) {
  w->m->copy[w->m->n_copy++] = (CopyStep){from, to, output};
  if (!is_leaf(from)) w->last[from->id] = w->p->n_group;
}

static bool reads(const Group *g, const Node *home) {
  for (int i = 0; i < g->n_in; i++) {
    if (g->in[i] == home) return true;
  }
  return false;
}

/* Whether n is the anchor of g, a ring_write of `ring`, and nothing else in g reads the ring. */
static bool writes_ring(const Group *g, const Node *n, const Node *ring) {
  if (n->op != OP_RING_WRITE || program_home(n->in[0]) != ring) return false;
  for (int i = 0; i < g->n_node; i++) {
    for (int k = g->node[i] == n; k < g->node[i]->n_in; k++) {
      if (program_home(g->node[i]->in[k]) == ring) return false;
    }
  }
  return true;
}

/* Whether group k may compute `value` right into leaf `target`: all other reads of the old contents come earlier. */
static bool may_write_leaf(const Plan *w, Node *value, Node *target) {
  int k = w->def[value->id];
  const Group *g = &w->p->group[k];
  if (w->kept[target->id] || w->last[target->id] > k) return false;
  if (value->op == OP_RING_WRITE && program_home(value->in[0]) != target) return false;   /* it writes some rows only */
  return !reads(g, target) || writes_ring(g, value, target) || group_overwrites(g, target, value);
}

static void place_updates(Plan *w) {
  const Func *f = w->p->func;
  for (int i = 0; i < f->n_update; i++) {
    Node *target = f->update[i].target, *value = program_home(f->update[i].value);
    if (is_leaf(value) || w->m->of[value->id].kind != STORAGE_NONE || !may_write_leaf(w, value, target)) continue;
    w->m->of[value->id] = w->m->of[target->id];
    w->last[value->id] = w->p->n_group;
    w->m->in_place++;
  }
}

/* Outputs first: they may read what an update is about to replace. */
static void place_outputs(Plan *w) {
  const Func *f = w->p->func;
  for (int i = 0; i < f->n_out; i++) {
    Node *home = program_home(f->out[i].node);
    if (is_leaf(home) || w->m->of[home->id].kind != STORAGE_NONE || home->op == OP_RING_WRITE) {
      add_copy(w, home, NULL, i);
    } else {
      w->m->of[home->id] = (Storage){.kind = STORAGE_OUTPUT, .index = i};
      w->last[home->id] = w->p->n_group;
    }
  }
}

/* Copies into update targets, those first whose target no other copy still reads. */
static bool copy_updates(Plan *w) {
  const Func *f = w->p->func;
  bool *done = ARENA_ARRAY(w->arena, bool, f->n_update);
  for (int left = f->n_update; left > 0;) {
    int before = left;
    for (int i = 0; i < f->n_update; i++) {
      Node *target = f->update[i].target, *value = program_home(f->update[i].value);
      Storage at = w->m->of[target->id], from = w->m->of[value->id];
      bool blocked = false;
      for (int j = 0; j < f->n_update; j++)
        blocked |= j != i && !done[j] && program_home(f->update[j].value) == target;
      if (done[i] || blocked) continue;
      if (from.kind != at.kind || from.index != at.index) add_copy(w, value, target, -1);
      done[i] = true;
      left--;
    }
    if (left == before)
      return graph_error(w->g, f->loc, "function %s: updates exchange the contents of params or states", f->name),
             false;
  }
  return true;
}

/* ---- the arena ---- */

static int64_t round_up(int64_t x) { return (x + 63) / 64 * 64; }

static bool size_buf(Plan *w, Node *n, Buf *b) {
  Dim elems;
  char type[200];
  type_print(&n->type, type, sizeof type);
  if (!type_elems(&n->type, &elems))
    return graph_error(w->g, n->loc, "memplan: %s of %s: the size is not affine in B and R", op_info[n->op].text,
                       type),
           false;
  if (elems.b && elems.r)
    return graph_error(w->g, n->loc, "memplan: %s of %s mixes samples and rows in one size", op_info[n->op].text,
                       type),
           false;
  int64_t per_unit = elems.b + elems.r, fixed = elems.c > 0 || !per_unit ? elems.c : 0;
  b->part = elems.b ? PART_B : elems.r ? PART_R : PART_CONST;
  b->unit_bytes = round_up((per_unit + fixed) * (int64_t)dtype_bytes(n->type.dtype));
  return true;
}

static bool share_buf(Plan *w, Node *out, int b) {
  w->buf_of[out->id] = b;
  if (w->last[out->id] > w->buf[b].last) w->buf[b].last = w->last[out->id];
  w->m->in_place++;
  return true;
}

/* The operand of group k that `out` may take over: in the arena, dead after k, not taken yet. */
static int find_dying(const Plan *w, int k, Node *out) {
  const Group *g = &w->p->group[k];
  for (int i = 0; i < g->n_in; i++) {
    int b = w->buf_of[g->in[i]->id];
    if (b >= 0 && w->buf[b].last == k && group_overwrites(g, g->in[i], out)) return b;
  }
  return -1;
}

/* A ring_write replaces rows of its ring where that stands. */
static bool place_ring(Plan *w, int k, Node *out) {
  Node *ring = program_home(out->in[0]);
  int b = w->buf_of[ring->id];
  bool later = w->last[ring->id] > k || (is_leaf(ring) ? w->kept[ring->id] : b < 0 || w->buf[b].last > k);
  if (later || ring->op == OP_INPUT || !writes_ring(&w->p->group[k], out, ring))
    return graph_error(w->g, out->loc, "ring_write: the old contents of the ring are still wanted"), false;
  if (b >= 0) return share_buf(w, out, b);
  if (w->m->of[out->id].kind == w->m->of[ring->id].kind && w->m->of[out->id].index == w->m->of[ring->id].index)
    return true;
  return graph_error(w->g, out->loc, "ring_write: its ring is no state that the function updates with the result"),
         false;
}

static bool make_bufs(Plan *w) {
  const Program *p = w->p;
  for (int k = 0; k < p->n_group; k++) {
    for (int i = 0; i < p->group[k].n_out; i++) {
      Node *out = p->group[k].out[i];
      if (out->op == OP_RING_WRITE) {
        if (!place_ring(w, k, out)) return false;
        continue;
      }
      if (w->m->of[out->id].kind != STORAGE_NONE) continue;
      int dying = find_dying(w, k, out);
      if (dying >= 0) {
        share_buf(w, out, dying);
        continue;
      }
      Buf *b = &w->buf[w->n_buf];
      *b = (Buf){.home = out, .first = k, .last = w->last[out->id]};
      if (!size_buf(w, out, b)) return false;
      w->buf_of[out->id] = w->n_buf++;
    }
  }
  return true;
}

/* The lowest offset where b meets no placed buffer of its part that lives when b does. */
static int64_t first_fit(const Plan *w, const Buf *b) {
  int64_t at = 0;
  for (bool moved = true; moved;) {
    moved = false;
    for (int i = 0; i < w->n_buf; i++) {
      const Buf *x = &w->buf[i];
      if (!x->placed || x->part != b->part || x->last < b->first || b->last < x->first) continue;
      if (at + b->unit_bytes <= x->unit_offset || x->unit_offset + x->unit_bytes <= at) continue;
      at = x->unit_offset + x->unit_bytes;
      moved = true;
    }
  }
  return at;
}

static int larger_first(const void *x, const void *y) {
  const Buf *a = *(Buf *const *)x, *b = *(Buf *const *)y;
  if (a->unit_bytes != b->unit_bytes) return a->unit_bytes > b->unit_bytes ? -1 : 1;
  return a->home->id < b->home->id ? -1 : 1;
}

static void place_bufs(Plan *w) {
  Buf **order = ARENA_ARRAY(w->arena, Buf *, w->n_buf);
  for (int i = 0; i < w->n_buf; i++) order[i] = &w->buf[i];
  qsort(order, (size_t)w->n_buf, sizeof *order, larger_first);
  for (int i = 0; i < w->n_buf; i++) {
    Buf *b = order[i];
    b->unit_offset = first_fit(w, b);
    b->placed = true;
    int64_t end = b->unit_offset + b->unit_bytes;
    if (end > w->m->part_bytes[b->part]) w->m->part_bytes[b->part] = end;
  }
  for (int id = 0; id < w->m->n_ids; id++) {
    if (w->buf_of[id] < 0) continue;
    const Buf *b = &w->buf[w->buf_of[id]];
    w->m->of[id] = (Storage){STORAGE_ARENA, 0, b->part, b->unit_offset, b->unit_bytes};
  }
}

MemPlan *pass_memplan(const Program *p) {
  Graph *g = p->func->graph;
  int n_ids = g->n_nodes, n_out = 0;
  MemPlan *m = ARENA_NEW(g->arena, MemPlan);
  Plan w = {.p = p, .arena = g->arena, .g = g, .m = m};
  for (int k = 0; k < p->n_group; k++) n_out += p->group[k].n_out;
  m->n_ids = n_ids;
  m->of = ARENA_ARRAY(g->arena, Storage, n_ids);
  m->copy = ARENA_ARRAY(g->arena, CopyStep, p->func->n_out + p->func->n_update);
  w.def = ARENA_ARRAY(g->arena, int, n_ids);
  w.last = ARENA_ARRAY(g->arena, int, n_ids);
  w.buf_of = ARENA_ARRAY(g->arena, int, n_ids);
  w.kept = ARENA_ARRAY(g->arena, bool, n_ids);
  w.buf = ARENA_ARRAY(g->arena, Buf, n_out);
  find_lifetimes(&w);
  place_leafs(&w);
  find_kept(&w);
  place_updates(&w);
  place_outputs(&w);
  if (!copy_updates(&w) || !make_bufs(&w)) return NULL;
  place_bufs(&w);
  return m;
}
