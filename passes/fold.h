/* Between the two files of the fold pass. */
#ifndef NUWA_PASSES_FOLD_H
#define NUWA_PASSES_FOLD_H

#include "passes/passes.h"

/* A simpler node of the same value and type, or n itself when no rule applies, or NULL after a diagnostic. */
Node *fold_map(Graph *g, Node *n);    /* fold.c: MAP nodes */
Node *fold_move(Graph *g, Node *n);   /* fold_move.c: MOVE, REDUCE of single elements, transposes into products */

static inline bool fold_is_fill(const Node *n, double *out) {
  if (n->op != OP_FILL) return false;
  *out = n->attrs.fill.value;
  return true;
}

#endif
