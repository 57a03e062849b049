/* softmax and its logarithms as primitives: the rules of expand.c's table for them.  x f32 (expand.c casts bf16). */
#ifndef NUWA_PASSES_SOFTMAX_H
#define NUWA_PASSES_SOFTMAX_H

#include "passes/passes.h"

Node *expand_softmax(Graph *g, Node *n);
Node *expand_log_softmax(Graph *g, Node *n);
Node *expand_cross_entropy(Graph *g, Node *n);

#endif
