/* Between the two files of the fold pass: one rule an op, named in the column `fold` of the op table.  fold.c has those of
 * MAP ops, fold_move.c the others. */
#ifndef NUWA_PASSES_FOLD_H
#define NUWA_PASSES_FOLD_H

#include "passes/passes.h"

/* A simpler node of the same value and type, or n itself when no rule applies, or NULL after a diagnostic. */
typedef Node *(*FoldRule)(Graph *g, Node *n);

#define OP(id, text, arity, attrs, class, rows, work, reads, infer, eval, grad, fold, scalar) \
  Node *fold_##fold(Graph *g, Node *n);
#include "ir/ops.def"
#undef OP

/* Whether every element of the result is one of the first operand. */
bool fold_keeps_values(Op op);

static inline bool fold_is_fill(const Node *n, double *out) {
  if (n->op != OP_FILL) return false;
  *out = n->attrs.fill.value;
  return true;
}

#endif
