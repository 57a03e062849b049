/* Clusters -> groups: members with the free nodes they read through, operands, results, and the reason for the
 * border. */
#include "passes/fuse.h"

typedef struct GroupMaker {
  Fuse *f;
  int cluster;
  int stamp;
  Node **node; int n_node, cap_node;
  Node **in; int n_in, cap_in;
  Node **out; int n_out, cap_out;
} GroupMaker;

static bool is_home_outside(const GroupMaker *e, const Node *home) {
  if (op_info[home->op].class == CLASS_LEAF) return true;
  int u = e->f->unit_of[home->id];
  return u >= 0 && e->f->unit[u].cluster != e->cluster && !node_is_constant(home);
}

static void add_in(GroupMaker *e, Node *home) {
  int *mark = e->f->in_mark;
  if (mark[home->id] == e->stamp) return;
  mark[home->id] = e->stamp;
  ARENA_PUSH(e->f->arena, e->in, e->n_in, e->cap_in, home);
}

/* n: a node that a member reads by index.  Views of memory are operands; other free nodes become members. */
static void visit(GroupMaker *e, Node *n) {
  Fuse *f = e->f;
  Node *home = program_home(n);
  if (is_home_outside(e, home)) {
    add_in(e, home);
    return;
  }
  int u = f->unit_of[n->id];
  bool inside = u >= 0 && f->unit[u].cluster == e->cluster;
  if (inside || f->node_mark[n->id] == e->stamp) return;
  f->node_mark[n->id] = e->stamp;
  ARENA_PUSH(f->arena, e->node, e->n_node, e->cap_node, n);
  for (int i = 0; i < n->n_in; i++) visit(e, n->in[i]);
}

static void sort_by_id(Node **x, int n) {
  for (int i = 1; i < n; i++) {
    Node *v = x[i];
    int j = i;
    for (; j > 0 && x[j - 1]->id > v->id; j--) x[j] = x[j - 1];
    x[j] = v;
  }
}

static bool is_out(const Fuse *f, int unit, int *out_reader) {
  const Unit *u = &f->unit[unit];
  *out_reader = -1;
  for (int i = 0; i < u->n_out && *out_reader < 0; i++) {
    int to = f->edge[f->out_edge[u->first_out + i]].to;
    if (f->unit[to].cluster != u->cluster) *out_reader = to;
  }
  return u->stored || *out_reader >= 0;
}

/* The first result that another kernel reads, and why that one is apart. */
static const char *border(GroupMaker *e) {
  Fuse *f = e->f;
  for (int u = f->cluster[e->cluster].first; u >= 0; u = f->unit[u].next) {
    int reader;
    if (!is_out(f, u, &reader) || reader < 0) continue;
    const char *why = fuse_refusal(f, e->cluster, f->unit[reader].cluster);
    return arena_printf(f->arena, "%s is read by %s: %s", op_info[f->unit[u].node->op].text,
                        op_info[f->unit[reader].node->op].text, why ? why : "merging them was not wanted");
  }
  return "its results are outputs or updates";
}

static Node *anchor_of(const GroupMaker *e, const Cluster *c) {
  if (c->family == FAMILY_MAP) return e->out[0];
  for (int i = 0; i < e->n_node && c->family == FAMILY_REDUCE; i++) {
    if (op_info[e->node[i]->op].class == CLASS_REDUCE) return e->node[i];
  }
  return e->f->unit[c->anchor].node;
}

static Group emit_group(Fuse *f, int c) {
  GroupMaker e = {.f = f, .cluster = c, .stamp = ++f->stamp};
  for (int u = f->cluster[c].first, reader; u >= 0; u = f->unit[u].next) {
    Node *n = f->unit[u].node;
    ARENA_PUSH(f->arena, e.node, e.n_node, e.cap_node, n);
    if (is_out(f, u, &reader)) ARENA_PUSH(f->arena, e.out, e.n_out, e.cap_out, n);
    for (int i = 0; i < n->n_in; i++) {
      if (fuse_needs_memory(n, i)) add_in(&e, program_home(n->in[i]));
      else visit(&e, n->in[i]);
    }
  }
  sort_by_id(e.node, e.n_node);
  sort_by_id(e.in, e.n_in);
  sort_by_id(e.out, e.n_out);
  Node *anchor = anchor_of(&e, &f->cluster[c]);
  uint8_t *seen = ARENA_ARRAY(f->arena, uint8_t, e.n_node);
  return (Group){f->cluster[c].family, e.node, e.n_node, e.in, e.n_in, e.out, e.n_out, anchor, border(&e), seen};
}

Program *fuse_emit(Fuse *f) {
  Program *p = ARENA_NEW(f->arena, Program);
  *p = (Program){f->func, ARENA_ARRAY(f->arena, Group, f->n_unit), 0};
  for (int r = 0; r < f->n_unit; r++) {
    if (f->at_rank[r] >= 0) p->group[p->n_group++] = emit_group(f, f->at_rank[r]);
  }
  return p;
}

/* ---- which operands may be overwritten ---- */

enum { SEEN_SAME = 1, SEEN_ELSEWHERE = 2 };

/* Position of n among the members, which stand in order of id, or -1. */
static int member_index(const Group *g, const Node *n) {
  int lo = 0, hi = g->n_node;
  while (lo < hi) {
    int mid = (lo + hi) / 2;
    if (g->node[mid]->id < n->id) lo = mid + 1;
    else hi = mid;
  }
  return lo < g->n_node && g->node[lo] == n ? lo : -1;
}

/* How `in` is read for results [from, to).  g->seen becomes how each member is read itself.  Flat indices count, so
 * reshapes keep the element. */
static int how_read(const Group *g, const Node *in, int from, int to) {
  uint8_t *seen = g->seen;
  int found = 0;
  for (int i = 0; i < g->n_node; i++) seen[i] = 0;
  for (int i = from; i < to; i++) seen[member_index(g, g->out[i])] = SEEN_SAME;
  for (int i = g->n_node - 1; i >= 0; i--) {
    Node *n = g->node[i];
    bool keeps = op_info[n->op].class == CLASS_MAP || n->op == OP_RESHAPE;
    int below = keeps || !seen[i] ? seen[i] : SEEN_ELSEWHERE;
    for (int k = 0; k < n->n_in; k++) {
      int m = member_index(g, n->in[k]);
      if (m >= 0) seen[m] |= (uint8_t)below;
      else if (program_home(n->in[k]) == in) found |= below;
    }
  }
  return found;
}

static bool same_bytes(const Type *x, const Type *y) {
  Dim nx, ny;
  return x->dtype == y->dtype && type_elems(x, &nx) && type_elems(y, &ny) && dim_equal(nx, ny);
}

bool group_overwrites(const Group *g, Node *in, Node *out) {
  if (g->family != FAMILY_MAP || !same_bytes(&in->type, &out->type)) return false;
  bool ok = how_read(g, in, 0, g->n_out) == SEEN_SAME;
  for (int i = 0; ok && i < g->n_out; i++) {
    if (g->out[i] == out) ok = how_read(g, in, i, i + 1) == SEEN_SAME;
  }
  return ok;
}
