/* Parameters of attention: which loop nest takes a group by default, and what is legal.  Each nest says its part. */
#include "codegen/lower/attend/attend.h"

enum {
  OWN = 8,          /* positions of an item, in the nest that takes them one by one */
  RESIDENT = 8      /* its blocks, of CUDA_THREADS: leaves 64 registers a thread; without a number the compiler
                       spills to use fewer */
};

bool attend_params(Arena *arena, const Group *g, const Target *t, Params *out, Error *err) {
  Attention a;
  AttendParams *p = &out->attend;
  attend_describe(&a, arena, g, NULL);
  if (!a.is_rows && (attend_tiles_params(&a, t, p) || attend_listed_params(&a, t, p))) return true;
  *p = (AttendParams){.patch_s = 1, .patch_h = 1, .patch_w = a.is_rows ? 1 : OWN, .rows = 1, .vectors = 1,
                      .unroll = 1};
  return true;
}

bool attend_gpu_params(Arena *arena, const Group *g, const Target *t, Params *out, Error *err) {
  Attention a;
  AttendGpuParams *p = &out->attend_gpu;
  attend_describe(&a, arena, g, NULL);
  if (!a.is_rows && attend_blocks_params(&a, t, p)) return true;
  *p = (AttendGpuParams){.own = a.is_rows ? 1 : OWN, .block_m = 1, .tile_m = 1, .tile_k = 1, .stages = 1,
                         .resident = RESIDENT};
  return true;
}

/* ---- what is legal ---- */

/* Fields that a nest does not have are at this value; ANY: it has them. */
enum { ANY = -1 };
static const signed char fixed[][PARAMS_MAX_FIELDS] = {
    {ANY, 1, 1, ANY, 1, 1, 0, 0, 1},
    {ANY, ANY, ANY, ANY, 1, 1, 0, 0, ANY},
    {ANY, 1, 1, ANY, ANY, ANY, ANY, ANY, ANY},
};
static const signed char gpu_fixed[][PARAMS_MAX_FIELDS] = {
    {ANY, ANY, 1, 1, 0, 1, 1, ANY},
    {ANY, 0, ANY, ANY, ANY, ANY, ANY, ANY},
};

static int refuse_fixed(const Params *p, int nest, const signed char *want, Error *err) {
  for (int i = 0; i < params_fields(p->kind); i++)
    if (want[i] != ANY && p->value[i] != want[i])
      return params_refuse(i, err, "it must be %d in nest %d", want[i], nest);
  return -1;
}

static int loops_refuse(const Attention *a, const Params *p, Error *err) {
  int own = p->attend.patch_w;
  if (own && (!a->is_rows || own == 1)) return -1;
  return ATTEND_REFUSE(patch_w, "it must be %s", own ? "1: items are rows" : "positive");
}

static int gpu_loops_refuse(const Attention *a, const Params *p, Error *err) {
  int own = p->attend_gpu.own;
  if (!own || (a->is_rows && own > 1))
    return ATTEND_GPU_REFUSE(own, "it must be %s", own ? "1: items are rows" : "positive");
  if (p->attend_gpu.resident * CUDA_THREADS > 1024)
    return ATTEND_GPU_REFUSE(resident, "blocks of %d threads are more than 1024 together", CUDA_THREADS);
  return -1;
}

typedef struct Refusal {
  const Group *g;
  const Target *t;
  const Params *p;
  Arena *arena;
  Error *err;
  int field;
} Refusal;

static void refuse_body(void *ctx) {
  Refusal *r = ctx;
  Attention a;
  attend_describe(&a, r->arena, r->g, NULL);
  const AttendParams *p = &r->p->attend;
  bool is_gpu = target_is_gpu(r->t);
  int nest = is_gpu ? r->p->attend_gpu.nest : p->nest;
  if (a.is_rows && nest) r->field = params_refuse(0, r->err, "rows of a table are taken by nest 0");
  else r->field = refuse_fixed(r->p, nest, is_gpu ? gpu_fixed[nest] : fixed[nest], r->err);
  if (r->field >= 0) return;
  if (!nest) r->field = (is_gpu ? gpu_loops_refuse : loops_refuse)(&a, r->p, r->err);
  else if (is_gpu) r->field = attend_blocks_refuse(&a, r->t, &r->p->attend_gpu, r->err);
  else r->field = (nest == 1 ? attend_listed_refuse : attend_tiles_refuse)(&a, p, r->err);
}

int attend_params_refuse(const Group *g, const Target *t, const Params *p, Error *err) {
  Refusal r = {g, t, p, arena_new(), err, -1};
  if (!r.arena || !arena_protect(r.arena, refuse_body, &r, err)) {
    error_set(err, ERROR_MEMORY, "out of memory");
    r.field = 0;
  }
  arena_free(r.arena);
  return r.field;
}

int attend_gpu_params_refuse(const Group *g, const Target *t, const Params *p, Error *err) {
  return attend_params_refuse(g, t, p, err);
}
