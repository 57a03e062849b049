/* Walking over a range of elements in vectors of 16: pieces for items, full vectors in a loop, the rest under a mask.
 */
#include "codegen/lower/lower.h"

static bool is_whole(Dim n) { return n.c % LANES == 0 && n.b % LANES == 0 && n.r % LANES == 0; }

LanePlan lane_plan(Dim n, int64_t max_vectors) {
  LanePlan p = {n, max_vectors, false, !is_whole(n)};
  if (!dim_is_const(n)) return p;
  int64_t full = n.c / LANES, all = (n.c + LANES - 1) / LANES;
  if (all <= max_vectors) {
    p.vectors = all > 0 ? all : 1;
    p.single = true;
    return p;
  }
  /* Equal pieces keep the ranges of indices exact, hence their quotients simple. */
  if (!p.has_tail)
    for (int64_t v = max_vectors; 4 * v >= max_vectors; v--)
      if (full % v == 0) {
        p.vectors = v;
        break;
      }
  return p;
}

typedef struct LaneWalk {
  Lower *l;
  const LanePlan *p;
  LaneFn body;
  void *ctx;
} LaneWalk;

/* One vector that starts at element 16 * block, all of it there or (rem not NULL) only its first rem lanes. */
static void visit(LaneWalk *w, Ix *block, KInst *rem, bool exact) {
  Lower *l = w->l;
  KInst *lane = kir_lane(l->k), *saved = l->mask;
  Dim lanes = dim_const(LANES);
  if (rem) {
    KInst *exists = kir_bin(l->k, KOP_LT, lane, rem);
    l->mask = saved ? kir_bin(l->k, KOP_AND, saved, exists) : exists;
    if (rem->op == KOP_CONST) lanes = dim_const(rem->imm);
  }
  Ix *i = ix_add(l, ix_scale(l, block, LANES), ix_value(l, lane, lanes));
  w->body(w->ctx, l, exact ? i : ix_assume(l, i, w->p->n));
  l->mask = saved;
}

/* A range of constant size that is one piece. */
static void walk_single(LaneWalk *w, int unroll) {
  Lower *l = w->l;
  int64_t full = w->p->n.c / LANES, rem = w->p->n.c % LANES;
  if (full == 1) {
    visit(w, ix_const(l, 0), NULL, true);
  } else if (full > 1) {
    KInst *v = kir_for(l->k, kir_i64(l->k, 0), kir_i64(l->k, full), 1, unroll);
    visit(w, ix_value(l, v, dim_const(full)), NULL, true);
    kir_end(l->k);
  }
  if (rem) visit(w, ix_const(l, full), kir_i32(l->k, (int32_t)rem), true);
}

void lane_each(Lower *l, const LanePlan *p, Ix *piece, int unroll, LaneFn body, void *ctx) {
  LaneWalk w = {l, p, body, ctx};
  Kernel *k = l->k;
  if (p->single) {
    walk_single(&w, unroll);
    return;
  }
  KInst *n = kir_dim(k, p->n), *lanes = kir_i64(k, LANES), *size = kir_i64(k, p->vectors), *base, *none;
  KInst *full = kir_bin(k, KOP_DIV, n, lanes);
  Ix *start = ix_scale(l, piece, p->vectors);
  ix_emit(l, start, &base, &none);
  bool exact = dim_is_const(p->n) && !p->has_tail && p->n.c / LANES % p->vectors == 0;
  KInst *count = exact ? size : kir_bin(k, KOP_MIN, size, kir_bin(k, KOP_SUB, full, base));
  KInst *v = kir_for(k, kir_i64(k, 0), count, 1, unroll);
  visit(&w, ix_add(l, start, ix_value(l, v, dim_const(p->vectors))), NULL, exact);
  kir_end(k);
  if (!p->has_tail) return;
  KInst *rem = kir_bin(k, KOP_MOD, n, lanes);
  KInst *here = kir_bin(k, KOP_LT, full, kir_bin(k, KOP_ADD, base, size));
  kir_if(k, kir_bin(k, KOP_AND, here, kir_bin(k, KOP_LT, kir_i64(k, 0), rem)));
  visit(&w, dim_is_const(p->n) ? ix_const(l, p->n.c / LANES) : ix_value(l, full, p->n), kir_un(k, KOP_TO_I32, rem),
        false);
  kir_end(k);
}
