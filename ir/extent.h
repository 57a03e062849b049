/* What an attention sees, per axis: the single definition that interpreter, passes, generated code and runtime use.
 *
 * On each axis the visible keys of a query coordinate form an interval (design section 2: centre, extent or block,
 * edge rule, and `past`).  The intervals of the three axes combine as a product (full, nearby, block) or as a union
 * of lines through the centre (axis).  `raster` cuts what comes after the query.  Reverse intervals (which queries
 * hold a key) exist because both ends of an interval never decrease with the query. */
#ifndef NUWA_EXTENT_H
#define NUWA_EXTENT_H

#include "ir/ir.h"

typedef struct AxisExtent {
  int32_t queries, keys;
  int32_t *centre;              /* [queries] */
  int32_t *lo, *hi;             /* [queries], inclusive; lo > hi: nothing */
  int32_t *query_lo, *query_hi; /* [keys]: queries q with lo[q] <= key <= hi[q]; query_lo > query_hi: none */
  int32_t *at_lo, *at_hi;       /* [keys]: queries whose centre is the key; at_lo > at_hi: none */
} AxisExtent;

typedef struct Extent {
  AxisExtent axis[3];
  bool is_axis;                 /* union of lines instead of a product */
  bool is_raster;
} Extent;

/* From the attributes (both grids filled in).  In arena a. */
Extent *extent_new(Arena *a, const AttendAttrs *attrs);

/* The definition.  q, key: coordinates s, h, w. */
bool extent_sees(const Extent *e, const int64_t q[3], const int64_t key[3]);

/* The largest number of keys that any query sees. */
int64_t extent_max_keys(const Extent *e);

/* Offsets key - query (same grid) that occur between some query and a key it sees, without duplicates, in raster
 * order of the offset: what the wavefront's schedule must respect.  *out [n][3] in arena a. */
int extent_offsets(Arena *a, const Extent *e, int64_t (**out)[3]);

#endif
