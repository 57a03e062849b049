/* The cuBLASLt stand-in: its algorithms, what they can do, and which it proposes. */
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/blaslt_emu.h"

/* Tile ids as cublasLtMatmulTile_t has them. */
static const struct { uint32_t id; uint64_t rows, cols; } tiles[] = {
    {1, 8, 8}, {5, 16, 16}, {11, 32, 32}, {15, 64, 64}, {18, 128, 64}, {20, 128, 128}, {23, 128, 256}};
enum { TILES = sizeof tiles / sizeof *tiles, MOST = 4, UNITS = 4 };

typedef struct Algorithm {
  int32_t id;
  uint64_t numerics;
  bool f32, bf16;
  uint32_t tile[MOST], stages[MOST];   /* ids; a 0 after the first ends the list */
  uint32_t reductions;          /* 0: does not split k */
  uint32_t swizzles, customs, clusters;   /* the largest values */
  uint32_t align;               /* bytes; 0: an element */
  uint64_t least_columns;       /* of D */
  size_t workspace_bytes;
  double speed;
} Algorithm;

enum { F32 = LT_NUMERICS_FMA | LT_NUMERICS_SUM_32F | LT_NUMERICS_IN_32F,
       BF16 = LT_NUMERICS_HMMA | LT_NUMERICS_SUM_32F | LT_NUMERICS_IN_16BF,
       TF32 = LT_NUMERICS_HMMA | LT_NUMERICS_SUM_32F | LT_NUMERICS_IN_TF32 };
static const Algorithm algorithms[] = {
    {0, F32 | LT_NUMERICS_IN_16BF, true, true, {1, 5}, {0}, 0, 0, 0, 0, 0, 1, 0, 0.4},
    {4, F32, true, false, {11, 15, 20}, {8, 10}, LT_REDUCTION_MASK, 1, 2, 0, 0, 1, 0, 1},
    {5, F32, true, false, {18, 23}, {8, 10}, 0, 1, 0, 0, 16, 32, 8192, 1.6},
    {21, BF16, false, true, {11, 15, 20}, {13, 15}, LT_REDUCTION_COMPUTE_TYPE, 1, 0, 0, 16, 1, 0, 4},
    {23, BF16, false, true, {15, 18}, {14}, 0, 1, 3, 0, 2, 1, 1024, 3},
    {31, BF16, false, true, {20, 23}, {15, 16}, 0, 1, 0, 3, 16, 64, 4096, 8},
    {40, TF32, true, false, {15, 20}, {15}, 0, 0, 0, 0, 16, 1, 0, 9}};
enum { ALGORITHMS = sizeof algorithms / sizeof *algorithms };

static const Algorithm *find(int32_t id) {
  for (int k = 0; k < ALGORITHMS; k++)
    if (algorithms[k].id == id) return &algorithms[k];
  return NULL;
}

static LtAlgo algo_of(const Config *c) {
  LtAlgo algo = {{0}};
  _Static_assert(sizeof *c <= sizeof algo, "a Config fits in an LtAlgo");
  memcpy(&algo, c, sizeof *c);
  return algo;
}

bool config_of(const LtAlgo *algo, Config *out) {
  if (!algo) return false;
  memcpy(out, algo, sizeof *out);
  return out->magic == MAGIC_ALGO && find(out->id);
}

static bool offered(const Algorithm *a, int in) { return in == LT_R_16BF ? a->bf16 : a->f32; }

static int check_types(int compute, int scale, int a, int b, int c, int d) {
  bool known = (a == LT_R_32F || a == LT_R_16BF) && a == b && c == d &&
               (c == LT_R_32F || (c == LT_R_16BF && a == LT_R_16BF));
  return known && compute == LT_COMPUTE_32F && scale == LT_R_32F
             ? LT_SUCCESS
             : lt_fail(LT_NOT_SUPPORTED, "types %d, %d, %d, %d, compute %d, scale %d", a, b, c, d, compute, scale);
}

int cublasLtMatmulAlgoGetIds(LtHandle handle, int compute_type, int scale_type, int a_type, int b_type, int c_type,
                             int d_type, int requested, int *ids, int *returned) {
  int status = check_types(compute_type, scale_type, a_type, b_type, c_type, d_type), n = 0;
  if (!handle || handle->magic != MAGIC_HANDLE) return lt_fail(LT_NOT_INITIALIZED, "this is no handle");
  if (status) return status;
  if (requested <= 0) return lt_fail(LT_INVALID_VALUE, "%d ids are asked for", requested);
  for (int k = 0; k < ALGORITHMS && n < requested; k++)
    if (offered(&algorithms[k], a_type)) ids[n++] = algorithms[k].id;
  *returned = n;
  return LT_SUCCESS;
}

int cublasLtMatmulAlgoInit(LtHandle handle, int compute_type, int scale_type, int a_type, int b_type, int c_type,
                           int d_type, int id, LtAlgo *algo) {
  int status = check_types(compute_type, scale_type, a_type, b_type, c_type, d_type);
  const Algorithm *a = find(id);
  if (!handle || handle->magic != MAGIC_HANDLE) return lt_fail(LT_NOT_INITIALIZED, "this is no handle");
  if (status) return status;
  if (!a || !offered(a, a_type)) return lt_fail(LT_INVALID_VALUE, "there is no algorithm %d", id);
  Config c = {.magic = MAGIC_ALGO, .id = id, .split = 1, .in = a_type, .out = d_type};
  *algo = algo_of(&c);
  return LT_SUCCESS;
}

/* ---- attributes ---- */

/* Where an attribute of a configuration is, and its size; NULL: not known. */
static void *config_field(Config *c, int attribute, size_t *out_bytes) {
  *out_bytes = attribute == LT_CONFIG_INNER || attribute == LT_CONFIG_CLUSTER ? 2 : 4;
  switch (attribute) {
  case LT_CONFIG_ID: return &c->id;
  case LT_CONFIG_TILE: return &c->tile;
  case LT_CONFIG_SPLIT_K: return &c->split;
  case LT_CONFIG_REDUCTION: return &c->reduction;
  case LT_CONFIG_SWIZZLE: return &c->swizzle;
  case LT_CONFIG_CUSTOM: return &c->custom;
  case LT_CONFIG_STAGES: return &c->stages;
  case LT_CONFIG_INNER: return &c->inner;
  case LT_CONFIG_CLUSTER: return &c->cluster;
  default: return NULL;
  }
}

int cublasLtMatmulAlgoConfigSetAttribute(LtAlgo *algo, int attribute, const void *value, size_t bytes) {
  size_t size;
  Config c;
  void *at = config_of(algo, &c) ? config_field(&c, attribute, &size) : NULL;
  if (!at || !value || bytes != size || attribute == LT_CONFIG_ID)
    return lt_fail(LT_INVALID_VALUE, "configuration attribute %d of %zu bytes cannot be set", attribute, bytes);
  memcpy(at, value, bytes);
  *algo = algo_of(&c);
  return LT_SUCCESS;
}

/* As the library's getters: with bytes == 0, *written is the size. */
static int get_value(int attribute, const void *from, size_t size, void *value, size_t bytes, size_t *written) {
  if (!from || (!bytes && !written) || (bytes && (!value || bytes < size)))
    return lt_fail(LT_INVALID_VALUE, "attribute %d into %zu bytes", attribute, bytes);
  if (bytes) memcpy(value, from, size);
  if (written) *written = size;
  return LT_SUCCESS;
}

int cublasLtMatmulAlgoConfigGetAttribute(const LtAlgo *algo, int attribute, void *value, size_t bytes,
                                         size_t *written) {
  size_t size = 0;
  Config c;
  const void *from = config_of(algo, &c) ? config_field(&c, attribute, &size) : NULL;
  return get_value(attribute, from, size, value, bytes, written);
}

uint32_t config_alignment(const Config *c) {
  const Algorithm *a = find(c->id);
  return a->align ? a->align : (uint32_t)lt_bytes(c->in);
}

bool config_is_tf32(const Config *c) { return (find(c->id)->numerics & LT_NUMERICS_IN_TF32) != 0; }

int cublasLtMatmulAlgoCapGetAttribute(const LtAlgo *algo, int attribute, void *value, size_t bytes, size_t *written) {
  Config c;
  if (!config_of(algo, &c)) return lt_fail(LT_INVALID_VALUE, "this is no algorithm");
  uint32_t align = config_alignment(&c);
  if (attribute == LT_CAP_NUMERICS)
    return get_value(attribute, &find(c.id)->numerics, sizeof(uint64_t), value, bytes, written);
  bool known = attribute >= LT_CAP_ALIGN_A && attribute <= LT_CAP_ALIGN_D;
  return get_value(attribute, known ? &align : NULL, sizeof align, value, bytes, written);
}

/* ---- checking ---- */

static bool in_list(uint32_t value, const uint32_t *list) {
  for (int k = 0; k < MOST && (k == 0 || list[k]); k++)
    if (list[k] == value) return true;
  return false;
}

static int check_config(const Algorithm *a, const Config *c, int capability) {
  if (!in_list(c->tile, a->tile) || !in_list(c->stages, a->stages))
    return lt_fail(LT_INVALID_VALUE, "algorithm %d has no tile %u with stages %u", a->id, c->tile, c->stages);
  bool one_scheme = c->reduction && !(c->reduction & (c->reduction - 1)) && (c->reduction & a->reductions);
  if (c->split < 1 || (c->split > 1 ? !one_scheme : c->reduction != LT_REDUCTION_NONE))
    return lt_fail(LT_INVALID_VALUE, "algorithm %d cannot split k in %d with reduction scheme %u", a->id, c->split,
                   c->reduction);
  if (c->swizzle > a->swizzles || c->custom > a->customs || c->inner || c->cluster > a->clusters)
    return lt_fail(LT_INVALID_VALUE, "algorithm %d with swizzle %u, custom option %u, inner shape %u, cluster %u",
                   a->id, c->swizzle, c->custom, c->inner, c->cluster);
  if (c->cluster && capability < 90)
    return lt_fail(LT_NOT_SUPPORTED, "clusters need capability 90, this device has %d", capability);
  return LT_SUCCESS;
}

static int check_aligned(const char *what, const struct LtLayout_ *l, uint32_t align) {
  uint64_t column = (uint64_t)l->ld * lt_bytes(l->type), matrix = (uint64_t)l->stride * lt_bytes(l->type);
  if (column % align == 0 && (l->batch == 1 || matrix % align == 0)) return LT_SUCCESS;
  return lt_fail(LT_INVALID_VALUE, "%s: columns %llu bytes apart and matrices %llu are not aligned to %u", what,
                 (unsigned long long)column, (unsigned long long)matrix, align);
}

int config_check(const Problem *p, const Config *c, size_t *out_workspace) {
  const Algorithm *a = find(c->id);
  uint32_t align = config_alignment(c);
  int status = check_config(a, c, p->handle->capability);
  if (status) return status;
  if (c->in != p->a->type || c->out != p->d->type)
    return lt_fail(LT_INVALID_VALUE, "the algorithm was initialised for types %d and %d", c->in, c->out);
  if (p->a->type == LT_R_16BF && p->handle->capability < 80)
    return lt_fail(LT_ARCH_MISMATCH, "bf16 needs capability 80, this device has %d", p->handle->capability);
  if (p->n < a->least_columns)
    return lt_fail(LT_NOT_SUPPORTED, "algorithm %d needs %llu columns, there are %llu", a->id,
                   (unsigned long long)a->least_columns, (unsigned long long)p->n);
  if (!(status = check_aligned("A", p->a, align)) && !(status = check_aligned("B", p->b, align)) &&
      !(status = check_aligned("C", p->c, align)))
    status = check_aligned("D", p->d, align);
  *out_workspace = a->workspace_bytes;
  if (c->split > 1) *out_workspace += 4 * p->m * p->n * (uint64_t)p->d->batch * (uint64_t)c->split;
  return status;
}

int cublasLtMatmulAlgoCheck(LtHandle handle, LtDesc desc, LtLayout a, LtLayout b, LtLayout c, LtLayout d,
                            const LtAlgo *algo, LtHeuristic *result) {
  Problem p;
  int status = problem_init(&p, handle, desc, a, b, c, d);
  if (status) return status;
  Config config;
  if (!config_of(algo, &config) || !result) return lt_fail(LT_INVALID_VALUE, "this is no algorithm");
  LtHeuristic r = {.algo = *algo, .waves = 1};
  status = config_check(&p, &config, &r.workspace_bytes);
  if (!status) *result = r;
  return status;
}

/* ---- the heuristic ---- */

typedef struct Proposal {
  Config config;
  size_t workspace_bytes;
  double cost;
  int number;                   /* decides between equal costs */
} Proposal;

/* Work of whole tiles, small tiles being slow, over the machine's few units: other shapes prefer other tiles. */
static double cost_of(const Problem *p, const Algorithm *a, const Config *c) {
  for (int k = 0; k < TILES; k++) {
    if (tiles[k].id != c->tile) continue;
    uint64_t down = (p->m + tiles[k].rows - 1) / tiles[k].rows, across = (p->n + tiles[k].cols - 1) / tiles[k].cols;
    double area = (double)(tiles[k].rows * tiles[k].cols), blocks = (double)(down * across) * (double)c->split;
    double waves = blocks < UNITS ? 1 : blocks / UNITS;
    return waves * (area + 2000) / a->speed / c->split * (1 + 0.01 * (double)(p->k % (c->stages + 2)));
  }
  return 1e30;
}

static int by_cost(const void *x, const void *y) {
  const Proposal *a = x, *b = y;
  if (a->cost != b->cost) return a->cost < b->cost ? -1 : 1;
  return a->number - b->number;
}

static bool wanted(const LtPreference pref, const Algorithm *a, const Config *c, size_t workspace_bytes) {
  uint32_t align = config_alignment(c);
  for (int k = 0; k < 4; k++)
    if (pref->align[k] % align) return false;
  return !(a->numerics & ~pref->numerics) && !(c->reduction & ~pref->reductions) &&
         workspace_bytes <= pref->workspace_bytes;
}

enum { PROPOSALS = ALGORITHMS * MOST * MOST * 2 };

static int propose(const Problem *p, const LtPreference pref, Proposal *out) {
  int n = 0;
  for (int k = 0; k < ALGORITHMS; k++)
    for (int t = 0; t < MOST * MOST * 2; t++) {
      const Algorithm *a = &algorithms[k];
      int tile = t / 2 / MOST, stages = t / 2 % MOST, split = t % 2 ? 4 : 1;
      if ((tile && !a->tile[tile]) || (stages && !a->stages[stages]) || !offered(a, p->a->type)) continue;
      Config c = {MAGIC_ALGO, a->id, split, a->tile[tile], a->stages[stages], LT_REDUCTION_NONE, a->swizzles,
                  a->customs, 0, 0, p->a->type, p->d->type};
      if (split > 1) c.reduction = LT_REDUCTION_COMPUTE_TYPE;
      Proposal proposal = {c, 0, cost_of(p, a, &c), n};
      if (config_check(p, &c, &proposal.workspace_bytes) || !wanted(pref, a, &c, proposal.workspace_bytes)) continue;
      out[n++] = proposal;
    }
  return n;
}

int cublasLtMatmulAlgoGetHeuristic(LtHandle handle, LtDesc desc, LtLayout a, LtLayout b, LtLayout c, LtLayout d,
                                   LtPreference preference, int requested, LtHeuristic *results, int *returned) {
  Proposal list[PROPOSALS];
  Problem p;
  int status = problem_init(&p, handle, desc, a, b, c, d);
  if (status) return status;
  if (!preference || preference->magic != MAGIC_PREFERENCE || requested < 1 || !results || !returned)
    return lt_fail(LT_INVALID_VALUE, "no preference, or no place for results");
  int n = propose(&p, preference, list);
  qsort(list, (size_t)n, sizeof *list, by_cost);
  *returned = n < requested ? n : requested;
  for (int k = 0; k < *returned; k++) {
    results[k] = (LtHeuristic){algo_of(&list[k].config), list[k].workspace_bytes, LT_SUCCESS, 1, {0}};
  }
  return n ? LT_SUCCESS : lt_fail(LT_NOT_SUPPORTED, "no algorithm fits the preference");
}
