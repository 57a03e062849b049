/* Initial values of params, for those who hold params outside of a session. */
#ifndef NUWA_WEIGHTS_H
#define NUWA_WEIGHTS_H

#include "runtime/plan.h"

/* n values of the param into `to` (of its element type), as nuwa_init_weights gives them: they depend on nothing but the
 * seed, the param's name, initialiser, scale and the element's index. */
void weights_init(const PlanParam *p, uint64_t seed, int64_t n, void *to);

#endif
