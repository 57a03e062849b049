/* Attention: forward, backward and cached decoding.  This file describes what is computed and who sees whom; loops.c,
 * list.c and tile.c are its loop nests on a CPU, gpu*.c the one on a GPU.
 *
 * Order of summation (ir/ops.def): a score is a 16-lane product sum and the fixed tree; p, the sum of weights and the
 * results are chains over what is visible in raster order.  It depends on what is visible only, so all nests, cached
 * steps and the teacher-forced function compute the same bits. */
#include <math.h>
#include <string.h>

#include "codegen/lower/attend/attend.h"

/* ---- who sees whom ---- */

static void make_tables(Attention *a) {
  static const char *const name[2][3] = {{"window_s", "window_h", "window_w"},
                                         {"queries_s", "queries_h", "queries_w"}};
  for (int x = 0; x < 3; x++) {
    const AxisExtent *e = &a->extent->axis[x];
    const int32_t *const window[] = {e->centre, e->lo, e->hi};
    const int32_t *const reverse[] = {e->query_lo, e->query_hi, e->at_lo, e->at_hi};
    int32_t *of_query = ARENA_ARRAY(a->arena, int32_t, 3 * e->queries);
    for (int32_t i = 0; i < 3 * e->queries; i++) of_query[i] = window[i % 3][i / 3];
    a->table[x] = kir_table(a->k, name[0][x], DTYPE_I32, of_query, 3 * (int64_t)e->queries);
    if (!a->for_keys) continue;
    int32_t *of_key = ARENA_ARRAY(a->arena, int32_t, 4 * e->keys);
    for (int32_t i = 0; i < 4 * e->keys; i++) of_key[i] = reverse[i % 4][i / 4];
    a->reverse[x] = kir_table(a->k, name[1][x], DTYPE_I32, of_key, 4 * (int64_t)e->keys);
  }
}

/* The same entry for all queries of an axis (full attention: the whole axis) needs no table. */
static KInst *window_entry(Attention *a, int x, int entry, KInst *q) {
  const AxisExtent *e = &a->extent->axis[x];
  const int32_t *list = entry == 0 ? e->centre : entry == 1 ? e->lo : e->hi;
  bool is_same = true;
  for (int32_t i = 1; i < e->queries; i++) is_same &= list[i] == list[0];
  return is_same ? num(a->k, list[0]) : load_int(a->k, a->table[x], plus(a->k, times(a->k, q, 3), entry));
}

Window attend_window(Attention *a, KInst *const q[3]) {
  Window w;
  for (int x = 0; x < 3; x++) {
    w.centre[x] = window_entry(a, x, 0, q[x]);
    w.lo[x] = window_entry(a, x, 1, q[x]);
    w.hi[x] = window_entry(a, x, 2, q[x]);
  }
  return w;
}

KInst *attend_reverse(Attention *a, int axis, KInst *at, int i) {
  return kir_load(a->k, a->reverse[axis], to_i64(a->k, plus(a->k, times(a->k, at, 4), i)), NULL, NULL);
}

KInst *attend_on_line(Kernel *k, const Window *w, KInst *const key[3]) {
  KInst *at[3], *in[3], *sees = NULL;
  bool wide = key[0]->type == K_I64;
  for (int x = 0; x < 3; x++) {
    at[x] = wide ? equal(k, w->centre[x], key[x]) : equal(k, key[x], to_i32(k, w->centre[x]));
    in[x] = wide ? within(k, w->lo[x], key[x], w->hi[x])
                 : within(k, to_i32(k, w->lo[x]), key[x], to_i32(k, w->hi[x]));
  }
  for (int x = 0; x < 3; x++) {
    KInst *line = both(k, in[x], both(k, at[(x + 1) % 3], at[(x + 2) % 3]));
    sees = sees ? kir_bin(k, KOP_OR, sees, line) : line;
  }
  return sees;
}

void attend_meets(const Attention *a, int axis, int32_t i, int32_t *lo, int32_t *hi) {
  const AxisExtent *e = &a->extent->axis[axis];
  int32_t near_lo = a->for_keys ? e->at_lo[i] : e->centre[i], near_hi = a->for_keys ? e->at_hi[i] : e->centre[i];
  *lo = a->for_keys ? e->query_lo[i] : e->lo[i];
  *hi = a->for_keys ? e->query_hi[i] : e->hi[i];
  if (a->is_axis && near_lo <= near_hi) {
    bool is_empty = *lo > *hi;
    if (is_empty || near_lo < *lo) *lo = near_lo;
    if (is_empty || near_hi > *hi) *hi = near_hi;
  }
  if (axis != a->cut) return;
  if (a->for_keys && *lo < i) *lo = i;
  if (!a->for_keys && *hi > i) *hi = i;
}

int64_t attend_box(const Attention *a, int axis, int64_t size, double *sum, int32_t *bounds) {
  int64_t longest = 1, n = a->own->grid[axis], others = a->other->grid[axis];
  if (sum) *sum = 0;
  for (int64_t from = 0; from < n; from += size) {
    int32_t first = (int32_t)others, last = -1;
    for (int64_t i = from; i < n && i < from + size; i++) {
      int32_t lo, hi;
      attend_meets(a, axis, (int32_t)i, &lo, &hi);
      if (lo > hi) continue;
      if (lo < first) first = lo;
      if (hi > last) last = hi;
    }
    if (first < 0) first = 0;
    if (last >= others) last = (int32_t)others - 1;
    if (last - first + 1 > longest) longest = last - first + 1;
    if (sum && last >= first) *sum += last - first + 1;
    if (bounds) bounds[from / size * 2] = first, bounds[from / size * 2 + 1] = last;
  }
  return longest;
}

void attend_patches(const Attention *a, Patches *p) {
  for (int x = 0; x < 3; x++) {
    p->count[x] = parts_of(a->own->grid[x], p->size[x]);
    p->box[x] = attend_box(a, x, p->size[x], NULL, NULL);
  }
}

void attend_patch_tables(Attention *a, Patches *p, const char *const name[3]) {
  for (int x = 0; x < 3; x++) {
    int32_t *bounds = ARENA_ARRAY(a->arena, int32_t, 2 * p->count[x]);
    attend_box(a, x, p->size[x], NULL, bounds);
    p->bounds[x] = kir_table(a->k, name[x], DTYPE_I32, bounds, 2 * p->count[x]);
  }
}

void attend_items(Attention *a, int n, const int64_t *grid, const int64_t *size) {
  kir_factor(a->k, a->samples, 1);
  for (int x = 0; x < n; x++) kir_factor(a->k, dim_const(grid[x]), size[x]);
  kir_factor(a->k, dim_const(a->attrs->heads), 1);
}

/* ---- head vectors ---- */

KInst *attend_row(Attention *a, const Side *s, KInst *index) {
  Kernel *k = a->k;
  if (s == &a->query || !a->has_slots) return add(k, times(k, a->sample, s->n), index);
  KInst *slot = load_int(k, a->buf_slots, index);
  return add(k, mul(k, slot, kir_dim(k, (Dim){0, 1, 0})), a->sample);
}

KInst *attend_raster(Kernel *k, const int64_t grid[3], KInst *const at[3]) {
  return add(k, times(k, add(k, times(k, at[0], grid[1]), at[1]), grid[2]), at[2]);
}

void attend_coords(Kernel *k, const int64_t grid[3], KInst *index, KInst *at[3]) {
  at[2] = remainder_of(k, index, grid[2]);
  KInst *rest = quotient(k, index, grid[2]);
  at[1] = remainder_of(k, rest, grid[1]);
  at[0] = quotient(k, rest, grid[1]);
}

KInst *attend_base(Attention *a, const Heads *h, KInst *row) {
  KInst *head = times(a->k, a->head, h->width);
  return add(a->k, times(a->k, row, h->row), head);
}

KInst *attend_number_at(Attention *a, KInst *row) { return add(a->k, times(a->k, row, a->attrs->heads), a->head); }

KInst *attend_number(Attention *a, int buf, KInst *row) {
  return kir_load(a->k, buf, attend_number_at(a, row), NULL, NULL);
}

/* Lanes of vector j of a head that exist; NULL: all. */
static KInst *lanes_of_head(Attention *a, const Heads *h, int j) {
  int64_t left = h->width - (int64_t)j * LANES;
  return left >= LANES ? NULL : below(a->k, kir_lane(a->k), num32(a->k, left));
}

KInst *attend_vector(Attention *a, const Heads *h, KInst *base, int j) {
  KInst *mask = lanes_of_head(a, h, j), *lane = kir_lane(a->k);
  return kir_load(a->k, h->buf, plus(a->k, base, j * LANES), lane, mask);
}

void attend_load(Attention *a, const Heads *h, KInst *row, KInst **out) {
  KInst *base = attend_base(a, h, row);
  for (int j = 0; j < vectors_of(h); j++) out[j] = attend_vector(a, h, base, j);
}

void attend_store(Attention *a, const Heads *h, KInst *row, int j, KInst *value) {
  KInst *mask = lanes_of_head(a, h, j), *lane = kir_lane(a->k);
  kir_store(a->k, h->buf, plus(a->k, attend_base(a, h, row), j * LANES), lane, value, mask);
}

/* ---- arithmetic that nests share ---- */

KInst *attend_scaled(Attention *a, KInst *x) {
  return mul(a->k, x, kir_f32(a->k, (float)(1.0 / sqrt((double)a->query.x.width))));
}

KInst *attend_term(Kernel *k, bool rounds, KInst *x, KInst *y, KInst *sum) {
  return rounds ? add(k, sum, mul(k, x, y)) : fma_of(k, x, y, sum);
}

KInst *attend_ds(Kernel *k, KInst *p, KInst *dp, KInst *delta) { return mul(k, p, sub(k, dp, delta)); }

void attend_exponentiate(Attention *a, KInst *start, KInst *n, KInst *m) {
  Kernel *k = a->k;
  kir_sync(k);
  KInst *i = kir_for(k, num(k, 0), n, LANES, 0), *at = add(k, start, i);
  KInst *mask = lanes_below(k, sub(k, n, i)), *x = kir_load(k, a->scores, at, kir_lane(k), mask);
  if (m) x = sub(k, x, m);
  kir_store(k, a->scores, at, kir_lane(k), kir_exp(k, x), mask);
  kir_end(k);
  kir_sync(k);
}

void attend_start_sums(Attention *a, const Heads *h, KInst **sum) {
  for (int j = 0; j < vectors_of(h); j++) sum[j] = kir_var(a->k, zero32(a->k), true);
}

void attend_add(Kernel *k, KInst *weight, KInst *x, KInst *sum) {
  kir_set(k, sum, fma_of(k, weight, x, kir_get(k, sum)));
}

void attend_finish(Attention *a, KInst *const *y, KInst *largest, KInst *total, KInst *row, KInst *has_keys) {
  Kernel *k = a->k;
  KInst *l = kir_get(k, total), *none = zero32(k);
  for (int j = 0; a->has_y && j < vectors_of(&a->out_y); j++) {
    KInst *mean = kir_bin(k, KOP_DIV, kir_get(k, y[j]), l);
    attend_store(a, &a->out_y, row, j, pick(k, has_keys, mean, none));
  }
  if (a->out_lse < 0) return;
  KInst *log = kir_log(k, l), *lse = add(k, kir_get(k, largest), log);
  lse = pick(k, has_keys, lse, kir_f32(k, -INFINITY));
  kir_store(k, a->out_lse, attend_number_at(a, row), NULL, lse, NULL);
}

void attend_finish_gradients(Attention *a, KInst *const *x, KInst *const *y, KInst *row) {
  for (int j = 0; a->has_x && j < vectors_of(&a->out_x); j++)
    attend_store(a, &a->out_x, row, j, attend_scaled(a, kir_get(a->k, x[j])));
  for (int j = 0; a->has_y && j < vectors_of(&a->out_y); j++)
    attend_store(a, &a->out_y, row, j, kir_get(a->k, y[j]));
}

/* ---- the description of a group ---- */

static Heads heads_of(Attention *a, const Node *n, int buf) {
  int64_t row = n->type.dim[n->type.rank - 1].c, width = row / a->attrs->heads;
  Heads h = {buf, n->type.dtype, width, row};
  if (vectors_of(&h) > a->widest) a->widest = vectors_of(&h);
  return h;
}

/* Operands, from whichever members of the group name them: their places, -1 where the op has none. */
static void bind_inputs(Attention *a, const Group *g) {
  enum { Q, K, V, DY, LSE, DELTA, ROWS, SLOTS, PLACES };
  static const struct {
    Op op;
    signed char at[PLACES];
  } takes[] = {
      {OP_ATTEND, {0, 1, 2, -1, -1, -1, -1, -1}},       {OP_ATTEND_LSE, {0, 1, -1, -1, -1, -1, -1, -1}},
      {OP_ATTEND_GRAD_Q, {0, 1, 2, 3, 4, 5, -1, -1}},   {OP_ATTEND_GRAD_K, {0, 1, 2, 3, 4, 5, -1, -1}},
      {OP_ATTEND_GRAD_V, {0, 1, -1, 2, 3, -1, -1, -1}}, {OP_ATTEND_ROWS, {0, 2, 3, -1, -1, -1, 1, 4}},
  };
  Heads *const heads[] = {&a->query.x, &a->key.x, &a->key.y, &a->query.y};
  int *const buf[] = {&a->buf_lse, &a->buf_delta, &a->buf_rows, &a->buf_slots};
  for (int i = 0; i < g->n_node; i++)
    for (int j = 0; j < COUNT_OF(takes); j++)
      for (int p = 0; p < PLACES && takes[j].op == g->node[i]->op; p++) {
        int at = takes[j].at[p];
        if (at < 0 || at >= g->node[i]->n_in) continue;
        int operand = a->l ? lower_operand(a->l, g->node[i]->in[at]) : 0;
        if (p < LSE) *heads[p] = heads_of(a, g->node[i]->in[at], operand);
        else *buf[p - LSE] = operand;
      }
}

static void bind_outputs(Attention *a, const Group *g) {
  a->out_lse = a->out_x.buf = a->out_y.buf = -1;
  for (int i = 0; i < g->n_out; i++) {
    Node *out = g->out[i];
    int buf = a->l ? a->l->out_buf[i] : 0;
    bool is_x = out->op == OP_ATTEND_GRAD_Q || out->op == OP_ATTEND_GRAD_K;
    if (out->op == OP_ATTEND_LSE) a->out_lse = buf;
    else *(is_x ? &a->out_x : &a->out_y) = heads_of(a, out, buf);
  }
  a->has_x = a->out_x.buf >= 0;
  a->has_y = a->out_y.buf >= 0;
}

void attend_describe(Attention *a, Arena *arena, const Group *g, Lower *l) {
  Node *anchor = g->anchor;
  *a = (Attention){.l = l, .k = l ? l->k : NULL, .arena = arena, .attrs = &anchor->attrs.attend, .cut = -1};
  a->extent = extent_new(arena, a->attrs);
  a->is_raster = a->extent->is_raster;
  a->is_axis = a->extent->is_axis;
  a->centred = extent_holds_centre(a->extent);
  a->for_keys = anchor->op == OP_ATTEND_GRAD_K || anchor->op == OP_ATTEND_GRAD_V;
  a->is_rows = anchor->op == OP_ATTEND_ROWS;
  a->is_forward = anchor->op == OP_ATTEND || anchor->op == OP_ATTEND_LSE || a->is_rows;
  a->has_slots = a->is_rows && anchor->n_in == 5;
  a->samples = anchor->in[0]->type.rank == 5 ? anchor->in[0]->type.dim[0] : dim_const(1);
  a->query.grid = a->attrs->query_grid;
  a->key.grid = a->attrs->key_grid;
  a->query.n = volume(a->query.grid);
  a->key.n = volume(a->key.grid);
  a->own = a->for_keys ? &a->key : &a->query;
  a->other = a->for_keys ? &a->query : &a->key;
  a->most = a->for_keys ? extent_max_queries(a->extent) : extent_max_keys(a->extent);
  bind_inputs(a, g);
  bind_outputs(a, g);
}

bool lower_attend(Lower *l, const Params *params) {
  static void (*const nest[])(Attention *, const AttendParams *) = {NULL, attend_listed, attend_tiles};
  Attention a;
  attend_describe(&a, l->arena, l->group, l);
  if (l->failed) return false;
  make_tables(&a);
  const AttendParams *p = &params->attend;
  const AttendGpuParams *gpu = &params->attend_gpu;
  if (target_is_gpu(l->target) && gpu->nest) attend_blocks(&a, gpu);
  else if (target_is_gpu(l->target)) attend_loops(&a, gpu->own, gpu->resident);
  else if (p->nest) nest[p->nest](&a, p);
  else attend_loops(&a, p->patch_w, 0);
  return !l->failed;
}
