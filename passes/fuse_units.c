/* Units of fusion and the paths between them.
 *
 * Decides what must stand in memory: outputs and updates, operands of products, attentions and the tables and
 * indices of scatters; reshapes and detach are views of what they stand on.  Decides nothing about kernels. */
#include "passes/fuse.h"

bool fuse_needs_memory(const Node *n, int i) {
  switch (op_info[n->op].class) {
    case CLASS_CONTRACT: case CLASS_ATTEND: return true;
    case CLASS_SCATTER: return i < n->n_in - 1;   /* the values come last */
    case CLASS_LEAF: case CLASS_MAP: case CLASS_MOVE: case CLASS_REDUCE: case CLASS_GRADIENT: case CLASS_COMPOSITE: break;
  }
  return false;
}

static void store_home(Fuse *f, Node *n) {
  Node *home = program_home(n);
  if (op_info[home->op].class != CLASS_LEAF) f->stored[home->id] = true;
}

static void count_uses(Fuse *f) {
  for (int k = 0; k < f->n_node; k++) {
    Node *n = f->node[k];
    for (int i = 0; i < n->n_in; i++) {
      f->users[n->in[i]->id]++;
      if (fuse_needs_memory(n, i)) store_home(f, n->in[i]);
    }
  }
  for (int i = 0; i < f->func->n_out; i++) {
    f->users[f->func->out[i].node->id]++;
    store_home(f, f->func->out[i].node);
  }
  for (int i = 0; i < f->func->n_update; i++) {
    f->users[f->func->update[i].value->id]++;
    store_home(f, f->func->update[i].value);
  }
}

static bool is_unit(const Fuse *f, const Node *n) {
  OpClass class = op_info[n->op].class;
  if (class == CLASS_LEAF) return false;
  if (f->stored[n->id]) return true;
  if (class == CLASS_MAP) return !node_is_constant(n) && n->op != OP_DETACH;
  return class != CLASS_MOVE;
}

/* ---- how much one unit reads ---- */

/* Homes and leafs that a node reads through free nodes. */
typedef struct Reads {
  int n, id[MAX_READS];
} Reads;

static void add_read(Reads *r, int id, bool *out_full) {
  for (int i = 0; i < r->n; i++)
    if (r->id[i] == id) return;
  if (r->n == MAX_READS) *out_full = true;
  else r->id[r->n++] = id;
}

/* What reading operand i of n takes: one home when it stands in memory, else what the free node reads itself. */
static const Reads *reads_through(const Fuse *f, Reads *const *reads, const Node *n, int i) {
  const Node *x = n->in[i];
  bool is_memory = fuse_needs_memory(n, i) || op_info[x->op].class == CLASS_LEAF || is_unit(f, x);
  return is_memory ? NULL : reads[x->id];
}

static void collect_reads(const Fuse *f, Reads *const *reads, Node *n, Reads *out, bool *out_full) {
  *out = (Reads){0};
  *out_full = false;
  for (int i = 0; i < n->n_in; i++) {
    const Reads *x = reads_through(f, reads, n, i);
    if (!x && !node_is_constant(n->in[i])) add_read(out, program_home(n->in[i])->id, out_full);
    for (int k = 0; x && k < x->n; k++) add_read(out, x->id[k], out_full);
  }
}

/* A kernel has room for so many operands; where a node would read more, moves before it are stored, those that read
 * most first.  (No op has more operands than there is room for: pass_copy cuts concats.) */
static void limit_reads(Fuse *f) {
  Reads **reads = ARENA_ARRAY(f->arena, Reads *, f->func->graph->n_nodes), all;
  for (int k = 0; k < f->n_node; k++) {
    Node *n = f->node[k];
    bool is_full;
    for (collect_reads(f, reads, n, &all, &is_full); is_full; collect_reads(f, reads, n, &all, &is_full)) {
      int most = -1, most_n = 1;
      for (int i = 0; i < n->n_in; i++) {
        const Reads *x = reads_through(f, reads, n, i);
        if (x && x->n > most_n) most = i, most_n = x->n;
      }
      BUG_IF(most < 0, "%s reads more than %d tensors", op_info[n->op].text, MAX_READS);
      store_home(f, n->in[most]);
    }
    if (!is_unit(f, n) && op_info[n->op].class != CLASS_LEAF) {
      reads[n->id] = ARENA_NEW(f->arena, Reads);
      *reads[n->id] = all;
    }
  }
}

/* The path to operand i of a move, when the move itself is read along `path`. */
static Path through(const Node *n, int i, Path path, const Node **cast) {
  bool near = path == PATH_SAME || path == PATH_ONCE;
  switch (op_info[n->op].reads) {
    case READS_SAME: return path;
    case READS_ORDER: return path == PATH_SAME ? PATH_ONCE : path;
    case READS_ONCE: return near ? PATH_ONCE : PATH_FAR;
    case READS_PADDED:
      for (int a = 0; a < n->type.rank; a++) {
        if (n->attrs.pad.interior[a]) return PATH_FAR;
      }
      return near ? PATH_ONCE : PATH_FAR;
    case READS_REPEATED:
      *cast = n;
      return path == PATH_SAME ? PATH_ROW : PATH_FAR;
    case READS_TABLE: return i == 1 && n->in[0]->type.rank == 1 ? path : PATH_FAR;
    case READS_NONE: case READS_OTHER: break;
  }
  return PATH_FAR;
}

typedef struct Walk {
  Fuse *f;
  int to;             /* unit that reads */
  int cap_read;
} Walk;

static void note_read(Walk *w, Node *home) {
  Unit *u = &w->f->unit[w->to];
  for (int i = 0; i < u->n_read; i++) {
    if (u->read[i] == home) return;
  }
  ARENA_PUSH(w->f->arena, u->read, u->n_read, w->cap_read, home);
}

/* Follows operand n of the unit down to units and leafs.  only_reader: every free node on the way has one user. */
static void walk(Walk *w, Node *n, Path path, const Node *cast, bool only_reader) {
  Fuse *f = w->f;
  only_reader = only_reader && f->users[n->id] == 1;
  if (path == PATH_ONCE && !only_reader) path = PATH_FAR;
  if (op_info[n->op].class == CLASS_LEAF) {
    note_read(w, n);
    return;
  }
  if (node_is_constant(n)) return;
  if (f->unit_of[n->id] >= 0) {
    note_read(w, n);
    ARENA_PUSH(f->arena, f->edge, f->n_edge, f->cap_edge, ((Edge){f->unit_of[n->id], w->to, path, cast}));
    return;
  }
  for (int i = 0; i < n->n_in; i++) {
    const Node *below = cast;
    Path p = through(n, i, path, &below);
    walk(w, n->in[i], p, below, only_reader);
  }
}

static void read_memory(Walk *w, Node *n) {
  Fuse *f = w->f;
  Node *home = program_home(n);
  note_read(w, home);
  if (op_info[home->op].class == CLASS_LEAF) return;
  ARENA_PUSH(f->arena, f->edge, f->n_edge, f->cap_edge, ((Edge){f->unit_of[home->id], w->to, PATH_FAR, NULL}));
}

static void find_edges(Fuse *f) {
  for (int u = 0; u < f->n_unit; u++) {
    Node *n = f->unit[u].node;
    Walk w = {f, u, 0};
    bool is_move = op_info[n->op].class == CLASS_MOVE;
    for (int i = 0; i < n->n_in; i++) {
      const Node *cast = NULL;
      Path path = is_move ? through(n, i, PATH_SAME, &cast) : PATH_SAME;
      if (fuse_needs_memory(n, i)) read_memory(&w, n->in[i]);
      else walk(&w, n->in[i], path, cast, true);
    }
  }
}

static void index_edges_by_producer(Fuse *f) {
  for (int i = 0; i < f->n_edge; i++) f->unit[f->edge[i].from].n_out++;
  int at = 0;
  for (int u = 0; u < f->n_unit; u++) {
    f->unit[u].first_out = at;
    at += f->unit[u].n_out;
    f->unit[u].n_out = 0;
  }
  f->out_edge = ARENA_ARRAY(f->arena, int, f->n_edge);
  for (int i = 0; i < f->n_edge; i++) {
    Unit *u = &f->unit[f->edge[i].from];
    f->out_edge[u->first_out + u->n_out++] = i;
  }
}

bool fuse_units(Fuse *f) {
  int n_ids = f->func->graph->n_nodes;
  f->node = func_nodes(f->func, &f->n_node);
  f->unit_of = ARENA_ARRAY(f->arena, int, n_ids);
  f->users = ARENA_ARRAY(f->arena, int, n_ids);
  f->node_mark = ARENA_ARRAY(f->arena, int, n_ids);
  f->in_mark = ARENA_ARRAY(f->arena, int, n_ids);
  f->stored = ARENA_ARRAY(f->arena, bool, n_ids);
  f->unit = ARENA_ARRAY(f->arena, Unit, f->n_node);
  count_uses(f);
  limit_reads(f);
  for (int k = 0; k < f->n_node; k++) {
    Node *n = f->node[k];
    f->unit_of[n->id] = -1;
    if (op_info[n->op].class == CLASS_COMPOSITE)
      return graph_error(f->func->graph, n->loc, "fuse: %s is a composite: expand first", op_info[n->op].text), false;
    if (!is_unit(f, n)) continue;
    f->unit_of[n->id] = f->n_unit;
    f->unit[f->n_unit++] = (Unit){.node = n, .stored = f->stored[n->id], .next = -1};
  }
  find_edges(f);
  index_edges_by_producer(f);
  return true;
}
