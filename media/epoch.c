/* A Feistel network of Philox rounds permutes the smallest square of a power of two that holds n; what lands outside
 * of [0, n) is permuted again until it does not (cycle walking: Black and Rogaway, Ciphers with Arbitrary Finite
 * Domains, 2002).  The square is less than four times n, so this ends after four rounds on average. */
#include "media/epoch.h"

#include <pthread.h>

#include "runtime/base/memory.h"
#include "runtime/base/philox.h"

enum { FEISTEL_ROUNDS = 6 };

static uint64_t feistel(uint64_t seed, uint64_t epoch, int half_bits, uint64_t x) {
  uint64_t mask = ((uint64_t)1 << half_bits) - 1, left = x >> half_bits, right = x & mask;
  for (uint32_t round = 0; round < FEISTEL_ROUNDS; round++) {
    const uint32_t counter[4] = {(uint32_t)right, (uint32_t)epoch, (uint32_t)(epoch >> 32),
                                 STREAM_DATA | (round + 1) << 8};
    uint64_t next = left ^ (philox_block(seed, counter).word[0] & mask);
    left = right;
    right = next;
  }
  return left << half_bits | right;
}

uint64_t epoch_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t i) {
  int half_bits = 0;
  if (n < 2) return 0;
  while (((uint64_t)1 << 2 * half_bits) < n) half_bits++;
  do i = feistel(seed, epoch, half_bits, i);
  while (i >= n);
  return i;
}

/* ---- groups ---- */

struct EpochGroups {
  uint64_t seed;
  const uint64_t *start;   /* [n_group + 1] */
  uint32_t n_group;
  pthread_mutex_t mutex;   /* of what follows: the order of one epoch */
  bool is_made;
  uint64_t epoch;
  uint32_t *group;         /* [n_group] */
  uint64_t *end;           /* [n_group] places before the end of each in that order */
};

EpochGroups *epoch_groups_new(uint64_t seed, const uint64_t *start, uint32_t n_group) {
  EpochGroups *g = mem_alloc(sizeof *g);
  if (!g) return NULL;
  *g = (EpochGroups){.seed = seed, .start = start, .n_group = n_group, .group = mem_alloc(n_group * sizeof *g->group),
                     .end = mem_alloc(n_group * sizeof *g->end)};
  pthread_mutex_init(&g->mutex, NULL);
  if (g->group && g->end) return g;
  epoch_groups_free(g);
  return NULL;
}

void epoch_groups_free(EpochGroups *g) {
  if (!g) return;
  pthread_mutex_destroy(&g->mutex);
  mem_free(g->group);
  mem_free(g->end);
  mem_free(g);
}

static void order_groups(EpochGroups *g, uint64_t epoch) {
  uint64_t end = 0;
  for (uint32_t k = 0; k < g->n_group; k++) {
    g->group[k] = (uint32_t)epoch_permute(g->seed, epoch, g->n_group, k);
    g->end[k] = end += g->start[g->group[k] + 1] - g->start[g->group[k]];
  }
  g->epoch = epoch;
  g->is_made = true;
}

/* The first in the order that ends behind place i; empty ones end where they begin. */
static uint32_t find_group(const EpochGroups *g, uint64_t i) {
  uint32_t lo = 0, hi = g->n_group - 1;
  while (lo < hi) {
    uint32_t mid = lo + (hi - lo) / 2;
    if (i < g->end[mid]) hi = mid;
    else lo = mid + 1;
  }
  return lo;
}

uint64_t epoch_groups_permute(EpochGroups *g, uint64_t epoch, uint64_t i) {
  const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15); /* groups of one size get orders of their own */
  pthread_mutex_lock(&g->mutex);
  if (!g->is_made || g->epoch != epoch) order_groups(g, epoch);
  uint32_t k = find_group(g, i), group = g->group[k];
  uint64_t before = k ? g->end[k - 1] : 0;
  pthread_mutex_unlock(&g->mutex);
  uint64_t first = g->start[group], n = g->start[group + 1] - first;
  return first + epoch_permute(g->seed ^ (group + UINT64_C(1)) * odd, epoch, n, i - before);
}
