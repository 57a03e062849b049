/* The order of examples in an epoch, computed where it is asked for: any step of a run can be made again from its
 * number. */
#ifndef NUWA_EPOCH_H
#define NUWA_EPOCH_H

#include <stdint.h>

/* What stands at place i of epoch `epoch`, both in [0, n), n >= 1 and at most 2^62: a permutation of [0, n) for every
 * (seed, epoch). */
uint64_t epoch_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t i);

/* The same of what lies in groups that are read one after another: a permutation of the groups, and one within each.
 * Group g is [start[g], start[g + 1]), may be empty, start[0] is 0 and n is start[n_group].  The groups' order of one epoch is
 * kept, so that places of that epoch are found in log2 n_group steps; any thread may ask. */
typedef struct EpochGroups EpochGroups;
/* start outlives it.  NULL: out of memory. */
EpochGroups *epoch_groups_new(uint64_t seed, const uint64_t *start, uint32_t n_group);
void epoch_groups_free(EpochGroups *g);
uint64_t epoch_groups_permute(EpochGroups *g, uint64_t epoch, uint64_t i);

#endif
