/* The loop nest of attention that takes everything, attend_rows included: one own position after the other.  Others are
 * visited by three nested loops whose bounds come from the tables of intervals, so no invisible key costs anything; the
 * union of lines (kind axis) and raster order only change the bounds; a mask is asked for each key.  Elements of a
 * head run along lanes. */
#include <math.h>

#include "codegen/lower/attend/attend.h"

typedef struct Position {
  KInst *at[3];
  KInst **vector[OPERANDS];     /* [vectors of the head] */
  KInst *number[OPERANDS];      /* lse and delta of a query, for gradients */
  Sums sums;
} Position;

/* Emits what is done with one other; index is its raster index. */
typedef void (*VisitFn)(Attention *a, const Position *p, KInst *index);

static void visit(Attention *a, const Position *p, VisitFn body) {
  Kernel *k = a->k;
  Sight s = attend_sight(a, p->at);
  KInst *at[3], *lo[3], *hi[3];
  bool is_masked = a->buf_mask >= 0;
  if (is_masked && a->for_keys) kir_if(k, attend_unmasked(a, attend_raster(k, a->own->grid, p->at), NULL));
  attend_visit(a, &s, 3, at, lo, hi);
  KInst *index = attend_raster(k, a->other->grid, at);
  if (is_masked && !a->for_keys) kir_if(k, attend_unmasked(a, index, NULL));
  if (a->tests_lines) {
    Sight window = attend_window(a, a->for_keys ? at : p->at);
    kir_if(k, attend_on_line(k, &window, a->for_keys ? p->at : at));
  }
  body(a, p, index);
  for (int i = 0; i < 3 + is_masked + a->tests_lines; i++) kir_end(k);
}

/* ---- the list of weights, in scratch: scalars first, then exp over 16 lanes, then scalars again ---- */

static void list_begin(Attention *a) { kir_set(a->k, a->n, num(a->k, 0)); }
static void list_next(Attention *a) { kir_set(a->k, a->n, plus(a->k, kir_get(a->k, a->n), 1)); }

static void list_push(Attention *a, KInst *x) {
  kir_store(a->k, a->scores, kir_get(a->k, a->n), NULL, x, NULL);
  list_next(a);
}

static KInst *list_pull(Attention *a) {
  KInst *x = kir_load(a->k, a->scores, kir_get(a->k, a->n), NULL, NULL);
  list_next(a);
  return x;
}

/* ---- one position ---- */

/* The product of an operand's head vectors: a chain per lane from 0, then the tree. */
static KInst *dot(Attention *a, const Position *p, int operand, KInst *row) {
  const Heads *h = &a->other->of[operand];
  KInst *sum = zero32(a->k), *base = attend_base(a, h, row);
  for (int j = 0; j < vectors_of(h); j++)
    sum = attend_term(a->k, operand, p->vector[operand][j], attend_vector(a, h, base, j), sum);
  return kir_un(a->k, KOP_TREE_ADD, sum);
}

/* lse or delta: of the query, whichever side it is on. */
static KInst *number_of(Attention *a, const Position *p, int operand, KInst *other_row) {
  return a->for_keys ? attend_number(a, a->number[operand], other_row) : p->number[operand];
}

static void score_other(Attention *a, const Position *p, KInst *index) {
  Kernel *k = a->k;
  KInst *row = attend_row(a, a->other, index), *score = attend_scaled(a, dot(a, p, X, row));
  list_push(a, a->is_forward ? score : sub(k, score, number_of(a, p, X, row)));
  if (a->is_forward) kir_set(k, p->sums.largest, most(k, kir_get(k, p->sums.largest), score));
}

static void add_row(Attention *a, const Position *p, int operand, KInst *row, KInst *weight) {
  const Heads *h = &a->other->of[operand];
  KInst *base = attend_base(a, h, row);
  for (int j = 0; j < vectors_of(h); j++)
    attend_add(a->k, weight, attend_vector(a, h, base, j), p->sums.of[operand][j]);
}

static void weigh_other(Attention *a, const Position *p, KInst *index) {
  Kernel *k = a->k;
  KInst *weight = list_pull(a), *row = attend_row(a, a->other, index);
  if (a->is_forward) kir_set(k, p->sums.total, add(k, kir_get(k, p->sums.total), weight));
  if (a->has[Y]) add_row(a, p, Y, row, weight);
  if (a->has[X]) add_row(a, p, X, row, attend_ds(k, weight, dot(a, p, Y, row), number_of(a, p, Y, row)));
}

static void load_own(Attention *a, Position *p, int operand, KInst *row) {
  p->vector[operand] = ARENA_ARRAY(a->arena, KInst *, a->widest);
  attend_load(a, &a->own->of[operand], row, p->vector[operand]);
  if (!a->is_forward && !a->for_keys) p->number[operand] = attend_number(a, a->number[operand], row);
}

/* row: of the own side's tensors; at: coordinates. */
static void one_position(Attention *a, KInst *row, KInst *const at[3]) {
  Kernel *k = a->k;
  Position p = {.at = {at[0], at[1], at[2]}};
  KInst *has_keys = NULL, *largest = NULL;
  load_own(a, &p, X, row);
  if (a->is_forward) {
    p.sums.largest = kir_var(k, kir_f32(k, -INFINITY), false);
    p.sums.total = kir_var(k, zero32(k), false);
  }
  list_begin(a);
  visit(a, &p, score_other);
  if (a->is_forward) {
    has_keys = below(k, num(k, 0), kir_get(k, a->n));
    largest = kir_get(k, p.sums.largest);
  }
  attend_exponentiate(a, num(k, 0), kir_get(k, a->n), largest);
  list_begin(a);
  if (a->has[X]) load_own(a, &p, Y, row);
  attend_start_sums(a, &p.sums);
  visit(a, &p, weigh_other);
  kir_sync(k);
  attend_finish(a, &p.sums, row, has_keys);
}

/* ---- items ---- */

static void over_rows(Attention *a) {
  Kernel *k = a->k;
  kir_factor(k, (Dim){0, 0, 1}, 1);
  kir_factor(k, dim_const(a->attrs->heads), 1);
  KInst *row = kir_item(k), *at[3];
  a->head = kir_peel(k, &row, num(k, a->attrs->heads));
  a->sample = load_int(k, a->buf_rows, times(k, row, 2));
  attend_coords(k, a->own->grid, load_int(k, a->buf_rows, plus(k, times(k, row, 2), 1)), at);
  one_position(a, row, at);
}

static void over_positions(Attention *a, int64_t size) {
  Kernel *k = a->k;
  int64_t n = a->own->n, count = parts_of(n, size);
  KInst *piece, *at[3];
  attend_items(a, 1, &n, &size);
  attend_open_item(a, 1, &count, &piece);
  KInst *first = times(k, piece, size);
  KInst *index = kir_for(k, first, least(k, plus(k, first, size), num(k, n)), 1, 0);
  attend_coords(k, a->own->grid, index, at);
  one_position(a, attend_row(a, a->own, index), at);
  kir_end(k);
}

void attend_loops(Attention *a, int positions, int resident) {
  a->k->resident = resident;
  a->scores = kir_scratch(a->k, "scores", DTYPE_F32, (a->most + LANES) / LANES * LANES);
  a->n = kir_var(a->k, num(a->k, 0), false);
  if (a->is_rows) over_rows(a);
  else over_positions(a, positions);
}
