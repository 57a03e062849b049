/* The loop nest of attention on a GPU, forward and backward: how the work is cut.
 *
 * An item is a block of groups and computes a patch of own positions of one head.  The box of others that the patch
 * meets (the union of its windows) goes through shared memory in chunks: while one is worked on, the next is copied
 * into the other of two slots.  A chunk is a run of planes, lines or single others of the box, so that chunk after
 * chunk visits others in raster order. */
#include <math.h>
#include <string.h>

#include "codegen/lower/attend/gpu.h"

enum {
  CHUNK_BYTES = 40 << 10,     /* of all slots, by default */
  LIST_BYTES = 32 << 10,      /* of a block's lists of whole windows */
  WIDE_THREADS = 512, NARROW_THREADS = 768,   /* of a multiprocessor: 128 and 80 registers each */
  MAX_RESIDENT = 16,
  BLOCK_COST = 16             /* what a block costs by itself, in rows of the box */
};

/* ---- patches ---- */

/* Others that all blocks read together, the patch being what it is; a little for each block and each idle group. */
static double patch_cost(const Block *e, const int64_t size[3]) {
  double boxes = 1, blocks = 1;
  for (int x = 0; x < 3; x++) {
    boxes *= (double)attend_box(e->a, x, size[x], NULL, NULL);
    blocks *= (double)parts_of(e->a->own->grid[x], size[x]);
  }
  return blocks * (boxes + (double)volume(size) + BLOCK_COST);
}

/* The cheapest patch of at most `limit` tiles. */
static void choose_patch(Block *e, int limit) {
  const int64_t *own = e->a->own->grid;
  double best = INFINITY;
  int64_t by[3] = {1, 1, 1}, all = (int64_t)limit * e->tile;
  by[e->axis] = e->tile;
  for (int64_t s = by[0]; s <= all && s < own[0] + by[0]; s += by[0])
    for (int64_t h = by[1]; s * h <= all && h < own[1] + by[1]; h += by[1])
      for (int64_t w = by[2]; s * h * w <= all && w < own[2] + by[2]; w += by[2]) {
        int64_t size[3] = {s, h, w};
        double cost = patch_cost(e, size);
        if (cost >= best) continue;
        best = cost;
        memcpy(e->t.size, size, sizeof size);
      }
  attend_patches(e->a, &e->t);
}

static int64_t patch_groups(const Block *e) { return volume(e->t.size) / e->tile; }

/* Planes while a plane fits, else lines, else single others. */
static void choose_chunk(Block *e, int64_t others) {
  int64_t inner = 1;
  bool whole = true;
  e->n_step = 1;
  for (int x = 2; x >= 0; x--) {
    int64_t room = whole ? others / inner : 1;
    e->chunk[x] = room < 1 ? 1 : room < e->t.box[x] ? room : e->t.box[x];
    whole = whole && e->chunk[x] == e->t.box[x];
    inner *= e->chunk[x];
    e->steps[x] = parts_of(e->t.box[x], e->chunk[x]);
    e->n_step *= e->steps[x];
  }
}

/* Others that a tile visits: its windows' union with what loops skip. */
static int64_t longest_list(const Block *e) {
  int64_t n = 1;
  for (int x = 0; x < 3; x++) n *= attend_box(e->a, x, x == e->axis ? e->tile : 1, NULL, NULL);
  return n;
}

/* ---- where a block is ---- */

/* The tile's own positions, the first of which is at `at`. */
static void locate_own(Block *e, KInst *const at[3], KInst *exists) {
  Attention *a = e->a;
  Kernel *k = e->k;
  for (int t = 0; t < e->tile; t++) {
    Own *o = &e->of[t];
    KInst *own[3];
    o->exists = exists;
    for (int x = 0; x < 3; x++) {
      KInst *p = x == e->axis ? plus(k, at[x], t) : at[x], *last = num32(k, a->own->grid[x] - 1);
      o->exists = both(k, o->exists, kir_bin(k, KOP_LE, p, last));
      own[x] = least(k, p, last);
    }
    o->index = attend_raster(k, a->own->grid, own);
    o->unmasked = a->for_keys ? attend_unmasked(a, num(k, 0), o->index) : NULL;
    o->sight = attend_sight(a, own);
    if (a->is_axis && !a->for_keys) o->window = attend_window(a, own);
    for (int x = 0; x < 3; x++) {
      e->lo[x] = t ? least(k, e->lo[x], o->sight.lo[x]) : o->sight.lo[x];
      e->hi[x] = t ? most(k, e->hi[x], o->sight.hi[x]) : o->sight.hi[x];
    }
  }
}

static void locate(Block *e) {
  Kernel *k = e->k;
  KInst *rest = least(k, kir_group(k), num32(k, patch_groups(e) - 1)), *at[3], *patch[3];
  attend_open_item(e->a, 3, e->t.count, patch);
  for (int x = 2; x >= 0; x--) {
    int64_t by = x == e->axis ? e->tile : 1, n = e->t.size[x] / by;
    for (int i = 0; i < 2; i++)
      e->box[x][i] = kir_load(k, e->t.bounds[x], plus(k, times(k, patch[x], 2), i), NULL, NULL);
    KInst *local = times(k, remainder_of(k, rest, n), by);
    rest = quotient(k, rest, n);
    at[x] = add(k, times(k, to_i32(k, patch[x]), e->t.size[x]), local);
  }
  locate_own(e, at, below(k, kir_group(k), num32(k, patch_groups(e))));
}

/* ---- planning ---- */

/* What goes through shared memory: gradients and streamed attention make weights and sums of the same chunk. */
static void choose_loads(Block *e, bool stream) {
  const Attention *a = e->a;
  const bool all[LOADS][OPERANDS] = {{true, !a->is_forward}, {stream, a->is_forward && a->has[Y]}};
  e->is_streamed = stream || !a->is_forward;
  memcpy(e->loads, all, sizeof all);
}

static DType stored_type(const Block *e) { return e->a->other->of[X].dtype; }

static int64_t block_bytes(const Block *e) {
  int64_t own = e->groups * (stage_own_elems(e) + e->tile * lists_of(e->a) * e->list);
  int64_t numbers = e->slots * e->slot_numbers + own;
  return e->slots * e->slot_elems * (int64_t)dtype_bytes(stored_type(e)) + numbers * (int64_t)sizeof(float);
}

/* Elements of a slot that an other takes. */
static int64_t row_elems(const Block *e) {
  int64_t longest = 0;
  for (int i = 0; i < LOADS; i++) {
    int64_t n = 0;
    for (int j = X; j <= Y; j++)
      if (e->loads[i][j]) n += slot_pitch(&e->a->other->of[j]);
    if (n > longest) longest = n;
  }
  return longest;
}

static void plan_chunks(Block *e, int wanted) {
  int64_t row = row_elems(e) * (int64_t)dtype_bytes(stored_type(e)), box = volume(e->t.box);
  e->slots = !e->a->is_forward && (wanted > 1 ? wanted >= box : box * row <= CHUNK_BYTES) ? 1 : 2;
  choose_chunk(e, wanted > 1 ? wanted : CHUNK_BYTES / (e->slots * row));
  int64_t chunk = volume(e->chunk);
  if (e->is_streamed && chunk < e->list) e->list = chunk;
  e->list = (e->list + LANES - 1) / LANES * LANES;
  stage_plan(e);
}

/* Patch, chunks and room.  False: shared memory is too small. */
static bool plan(Block *e, const AttendGpuParams *p) {
  e->tile = p->tile_m;
  e->is_async = p->stages > 1;
  e->list = longest_list(e);
  choose_loads(e, p->stream);
  choose_patch(e, p->block_m);
  e->groups = (int)((patch_groups(e) + 1) / 2 * 2);   /* whole warps */
  plan_chunks(e, p->tile_k);
  return block_bytes(e) <= CUDA_SHARED_BYTES;
}

/* Blocks of a multiprocessor that leave enough registers: without a number the compiler spills to use fewer. */
static int resident_of(const Block *e) {
  int64_t widest = 0;
  for (int i = X; i <= Y && keeps(e->a, i); i++)
    if (e->a->own->of[i].width > widest) widest = e->a->own->of[i].width;
  int threads = widest > 2 * LANES ? WIDE_THREADS : NARROW_THREADS;
  int fit = (int)((160 << 10) / (block_bytes(e) + 1024)), blocks = threads / (e->groups * LANES);
  return fit < blocks ? fit : blocks < MAX_RESIDENT ? blocks : MAX_RESIDENT;
}

static void make_buffers(Block *e) {
  static const char *const name[3] = {"box_s", "box_h", "box_w"};
  Kernel *k = e->k;
  attend_patch_tables(e->a, &e->t, name);
  e->stage = kir_scratch(k, "stage", stored_type(e), e->slots * e->slot_elems);
  if (e->slot_numbers) e->numbers = kir_scratch(k, "numbers", DTYPE_F32, e->slots * e->slot_numbers);
  e->vectors = kir_scratch(k, "own", DTYPE_F32, e->groups * stage_own_elems(e));
  e->a->scores = kir_scratch(k, "scores", DTYPE_F32, e->groups * e->tile * lists_of(e->a) * e->list);
}

static Block block_of(Attention *a) {
  Block e = {.a = a, .k = a->k, .axis = 2};
  while (e.axis > 0 && a->own->grid[e.axis] == 1) e.axis--;
  return e;
}

void attend_blocks(Attention *a, const AttendGpuParams *p) {
  Block e = block_of(a);
  plan(&e, p);
  kir_block(e.k, e.groups, p->resident ? p->resident : resident_of(&e));
  make_buffers(&e);
  attend_items(a, 3, a->own->grid, e.t.size);
  locate(&e);
  stage_begin(&e);
  stage_own(&e);
  pass_all(&e);
}

/* ---- parameters ---- */

/* Whether heads fit in lanes, and offsets have at most 31 bits. */
static bool is_narrow(const Block *e) {
  if (e->a->widest > MAX_BLOCK_VECTORS) return false;
  const Heads *other = e->a->other->of;
  int64_t widest = other[Y].row > other[X].row ? other[Y].row : other[X].row;
  return (double)e->a->other->n * (double)widest < 0x1p31;
}

/* Not where patches' boxes hold as many others as their positions see together. */
bool attend_blocks_params(Attention *a, const Target *t, AttendGpuParams *out) {
  Block e = block_of(a);
  e.tile = a->own->grid[e.axis] > 1 ? 2 : 1;
  *out = (AttendGpuParams){.nest = 1, .block_m = 16, .tile_m = e.tile, .tile_k = 1,
                           .stages = target_has_async_copies(t) ? 2 : 1};
  out->stream = a->is_forward && out->block_m * e.tile * longest_list(&e) * (int64_t)sizeof(float) > LIST_BYTES;
  return is_narrow(&e) && plan(&e, out) && volume(e.t.box) < a->most * volume(e.t.size);
}

int attend_blocks_refuse(Attention *a, const Target *t, const AttendGpuParams *p, Error *err) {
  Block e = block_of(a);
  int most_threads = target_has_async_copies(t) ? 1536 : 1024;
  if (!is_narrow(&e)) return ATTEND_GPU_REFUSE(nest, "offsets have more than 31 bits, or heads more than %d vectors",
                                              MAX_BLOCK_VECTORS);
  if (p->block_m < 2) return ATTEND_GPU_REFUSE(block_m, "it must be at least 2 in nest 1");
  if (p->tile_m > a->own->grid[e.axis])
    return ATTEND_GPU_REFUSE(tile_m, "only %lld are neighbours", (long long)a->own->grid[e.axis]);
  if (p->stream && !a->is_forward) return ATTEND_GPU_REFUSE(stream, "gradients make scores once");
  if (!plan(&e, p))
    return ATTEND_GPU_REFUSE(tile_k, "a block takes %lld bytes of shared memory, more than %d",
                             (long long)block_bytes(&e), CUDA_SHARED_BYTES);
  if (p->stages > 1 && !target_has_async_copies(t))
    return ATTEND_GPU_REFUSE(stages, "sm_%d has no asynchronous copies", t->capability);
  if (p->resident * e.groups * LANES > most_threads && p->resident)
    return ATTEND_GPU_REFUSE(resident, "%d groups of 16 threads are more than %d threads together",
                             p->resident * e.groups, most_threads);
  return -1;
}
