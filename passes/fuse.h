/* Between the files of the fuse pass: units (fuse_units.c), clusters and their merging (fuse.c), groups
 * (fuse_emit.c).
 *
 * A *unit* is a node that belongs to exactly one kernel: arithmetic, reductions, products, attention, scatters,
 * and moves whose result must stand in memory.  The other nodes (moves, constants) are *free*: each kernel repeats
 * those it reads through.  An *edge* is a way from one unit to another through free nodes; its path says which
 * elements are read. */
#ifndef NUWA_PASSES_FUSE_H
#define NUWA_PASSES_FUSE_H

#include "passes/passes.h"

typedef enum Path {
  PATH_SAME,    /* element i of the reader needs element i */
  PATH_ONCE,    /* each element is read at most once, elsewhere, and by nothing else */
  PATH_ROW,     /* through broadcast `cast` (and reshapes below it) */
  PATH_FAR,     /* several times, at computed places, or where the reader needs memory */
} Path;

typedef struct Edge {
  int from, to;       /* units */
  Path path;
  const Node *cast;
} Edge;

typedef struct Unit {
  Node *node;
  bool stored;        /* must stand in memory: output, update, operand of a product or attention */
  bool inner;         /* in a MAP cluster: read through a move, so not at the elements that are written */
  int cluster;
  int next;           /* next unit of the cluster, or -1 */
  int first_out, n_out;   /* edges from here: out_edge[first_out...] */
  Node **read; int n_read;  /* homes and leafs it reads, through free nodes */
} Unit;

typedef struct Fuse {
  Arena *arena;
  Func *func;
  Node **node; int n_node;
  int *unit_of;       /* [n_ids], -1: leaf or free */
  int *users;         /* [n_ids]: operands, outputs, updates that name the node */
  bool *stored;       /* [n_ids] */
  Unit *unit; int n_unit;
  Edge *edge; int n_edge, cap_edge;     /* by reader */
  int *out_edge;      /* edge numbers by producer */
  struct Cluster *cluster;   /* [n_unit] */
  int *at_rank;       /* cluster at each place of the order, -1: merged away */
  int *mark;          /* [n_unit] stamps of the last search */
  int stamp;
  int *node_mark;     /* [n_ids] */
  int *in_mark;       /* [n_ids] of operands: a constant may be one, for a product, and a member for what follows it */
} Fuse;

typedef struct Cluster {
  Family family;
  int first, last, n; /* its units, linked; n = 0: merged away */
  int anchor;         /* unit */
  Type domain;        /* MAP: shape of the outputs; REDUCE: of what is reduced; CONTRACT: result; SCATTER: values */
  uint32_t axes;      /* REDUCE */
  bool has_inner;     /* MAP: some units are read through a move and have another shape */
  int rank;           /* place in a topological order of clusters */
} Cluster;

enum { MAX_READS = 32 };   /* tensors that one unit reads; with its results they fit a kernel */

/* Whether operand i of n is read from memory, as a whole tensor, whatever the kernel. */
bool fuse_needs_memory(const Node *n, int i);
/* Finds units and edges.  False after a diagnostic. */
bool fuse_units(Fuse *f);
/* Why clusters p and c (p before c in the order) cannot be one kernel, or NULL. */
const char *fuse_refusal(Fuse *f, int p, int c);
Program *fuse_emit(Fuse *f);

static inline bool node_is_constant(const Node *n) { return n->op == OP_FILL || n->op == OP_IOTA; }

#endif
