/* What the two layouts of REDUCE groups share: the stages of a group, and how a reduction starts, steps and ends.
 *
 * A reduction whose operand needs s earlier reductions one after the other is computed by loop s; loops run 0, 1, ...
 * Element level: one value for each element of the domain; row level: one for each element of the reduced shape. */
#ifndef NUWA_LOWER_REDUCE_H
#define NUWA_LOWER_REDUCE_H

#include "codegen/lower/lower.h"

typedef struct Member {
  Node *node;
  int stage;    /* loops that must have run before its value is known */
  int loop;     /* REDUCE: the loop that computes it, else -1 */
  int out;      /* group->out index, or -1 */
  bool element; /* element level; else row level or neither */
  bool row;
  bool reached;   /* scratch of the analysis: needed by the loop under inspection */
  int first_loop; /* first loop that needs its value, -1: none */
  int n_loops;    /* how many do */
  int cache;      /* scratch buffer that keeps it from its first loop on, or -1 */
} Member;

typedef struct Reduce {
  Lower *l;
  const ReduceParams *params;
  const Type *domain;
  uint32_t axes;
  Type kept, reduced; /* shapes: axes of the domain that stay, and that vanish */
  Dim n_domain, n_kept, n_reduced;
  Member *member;
  int n_member, n_loops;
  Ix *kept_idx[MAX_RANK]; /* of the item (rows) or of the vector (columns) */
  int loop;               /* that is being built */
} Reduce;

/* The running value of one reduction; index is argmax's only. */
typedef struct Running {
  KInst *value, *index;
} Running;

Running reduce_start(Lower *l, const Node *n);
/* One more element: x at position `at` (i32, argmax only; NULL otherwise).  Lanes outside l->mask keep what they had.
 */
Running reduce_step(Lower *l, const Node *n, Running r, KInst *x, KInst *at);
/* The two halves of the fixed tree: by instruction over the lanes of r, or over 16 values, lane[i] first. */
KInst *reduce_end_lanes(Lower *l, const Node *n, Running r);
KInst *reduce_end_values(Lower *l, const Node *n, Running lane[LANES]);

/* The domain's index from r->kept_idx and that of the reduced axes. */
void reduce_element_index(const Reduce *r, Ix *const *reduced_idx, Ix **out);
/* The value of a row-level member at r->kept_idx. */
KInst *reduce_row_value(Reduce *r, const Member *m);
/* Makes v that value. */
void reduce_bind_row(Reduce *r, const Member *m, KInst *v);
/* Stores out m of row level. */
void reduce_store_row(Reduce *r, const Member *m);
/* Stores out m of element level at domain index idx. */
void reduce_store_element(Reduce *r, const Member *m, Ix *const *idx);

bool reduce_rows(Reduce *r);
bool reduce_columns(Reduce *r);

#endif
