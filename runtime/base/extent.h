/* What an attention sees: the one definition, which the interpreter, the passes, generated code and the order of
 * decoding use.
 *
 * On each axis the visible keys of a query coordinate form an interval (design section 2: centre, extent or block,
 * edge rule, and `past`).  The intervals of the three axes combine as a product (full, nearby, block) or as a union
 * of lines through the centre (axis).  `raster` cuts what comes after the query.  Reverse intervals (which queries
 * hold a key) exist because both ends of an interval never decrease with the query. */
#ifndef NUWA_EXTENT_H
#define NUWA_EXTENT_H

#include "runtime/base/memory.h"

typedef enum AttendKind { ATTEND_FULL, ATTEND_AXIS, ATTEND_NEARBY, ATTEND_BLOCK } AttendKind;
typedef enum EdgeRule { EDGE_CLIP, EDGE_SHIFT } EdgeRule;
typedef enum Causal { CAUSAL_NONE, CAUSAL_RASTER, CAUSAL_PAST } Causal;

/* Offsets beyond this mean "to the end of the axis". */
#define EXTENT_INF ((int64_t)1 << 30)

/* An attention as a model states it.  What it sees depends on neither its heads nor the scale. */
typedef struct AttendAttrs {
  int64_t heads;              /* of queries */
  int64_t kv_heads;           /* of keys and values: head i of the queries reads i / (heads / kv_heads) */
  double scale;               /* of scores */
  AttendKind kind;
  int64_t lo[3], hi[3];       /* key - centre on s, h, w; -EXTENT_INF and EXTENT_INF: the whole axis */
  int64_t block[3];           /* kind block only, else 0 */
  EdgeRule edge;
  Causal causal;
  int64_t query_grid[3];      /* S, H, W of the queries and of the keys */
  int64_t key_grid[3];
} AttendAttrs;

/* Whether extent_new takes them (both grids filled in).  If not, *out_rule is the rule that is broken and detail says
 * where. */
enum { EXTENT_DETAIL = 96 };
bool extent_check(const AttendAttrs *a, const char **out_rule, char detail[EXTENT_DETAIL]);

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

/* Calls visit for every key that q sees, once, in raster order, with the key's raster index, until visit returns
 * false; false then. */
typedef bool (*ExtentVisit)(void *ctx, int64_t key);
bool extent_visit(const Extent *e, const int64_t q[3], ExtentVisit visit, void *ctx);

/* How many keys q sees, and the largest number that any query does. */
int64_t extent_count(const Extent *e, const int64_t q[3]);
int64_t extent_max_keys(const Extent *e);
/* A bound on the number of queries that see one key: of a box the product of its axes' longest reverse intervals, of
 * lines their sum. */
int64_t extent_max_queries(const Extent *e);

/* Every query sees every key, but for the raster cut. */
bool extent_is_full(const Extent *e);
/* The windows of all queries hold their centre, so that a key on a line needs no test. */
bool extent_holds_centre(const Extent *e);

/* Offsets key - query (same grid) that occur between some query and a key it sees, without duplicates, in raster
 * order of the offset: what the wavefront's schedule must respect.  *out [n][3] in arena a. */
int extent_offsets(Arena *a, const Extent *e, int64_t (**out)[3]);

#endif
