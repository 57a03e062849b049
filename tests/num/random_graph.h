/* Random valid functions over every op of the table: shared operands, constants where tensors are expected, the same
 * node twice, odd, empty and symbolic sizes, gradients of scalars, updates, inputs as outputs.
 *
 * Values stay tame (about 1) and what is not continuous is asked of exact numbers only, so that f32 and the interpreter's
 * f64 can be compared: comparisons, floor, argmax and casts to integers take leafs, moves and integer arithmetic. */
#ifndef NUWA_RANDOM_GRAPH_H
#define NUWA_RANDOM_GRAPH_H

#include "tests/num/rig.h"

enum { RANDOM_SAMPLES = 3, RANDOM_ROWS = 5 };

typedef struct RandomGraph {
  uint64_t seed;
  bool made[OP_COUNT];   /* ops of the functions so far; stays from one to the next */
} RandomGraph;

/* The function of a seed, called graph<seed>, in the rig's graph; inside rig_build.  NULL after a diagnostic, which is a
 * bug: only valid ops are asked for. */
Func *random_graph(Rig *r, RandomGraph *s);
/* The data that the functions are made for: indices of rows are rows, slots of a ring distinct. */
RigData random_data(uint64_t seed);

#endif
