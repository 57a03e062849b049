/* Symbolic indices: canonical affine forms over atoms with ranges, and their emission as kernel instructions.
 *
 * Decides which quotients and remainders vanish.  Three rules do nearly all of it:
 *   (by q + r) / by = q and mod = r      when 0 <= r < by,
 *   (g q + r) / (g m) = q / m            when 0 <= r < g,
 *   m (x / m) + x mod m = x.
 * Comparisons of symbolic sizes must hold for all B >= 1 and R >= 1. */
#include "codegen/lower/lower.h"

#include <math.h>

typedef enum AtomKind {
  ATOM_VALUE,   /* a kernel value */
  ATOM_ASSUMED, /* inner, with a range that the caller vouches for */
  ATOM_DIV,
  ATOM_MOD,
  ATOM_PRODUCT, /* inner * by, where that is not affine in B and R */
  ATOM_PART,    /* which of a lane's four elements */
} AtomKind;

typedef struct IndexRange {
  bool has_lo, has_hi;
  Dim lo, hi; /* inclusive */
} IndexRange;

typedef struct IxAtom {
  AtomKind kind;
  int id;
  bool varying;
  KInst *value;
  const Ix *inner;
  Dim by;
  IndexRange range;
  struct IxAtom *next;
} IxAtom;

typedef struct IxTerm {
  Dim coef;
  IxAtom *atom;
} IxTerm;

struct Ix {
  Dim c;
  int n;
  IxTerm *term; /* by increasing atom id, coefficients not 0 */
};

struct IxTable {
  IxAtom *first;
  int n;
};

/* ---- sizes ---- */

static bool dim_is_zero(Dim d) { return d.c == 0 && d.b == 0 && d.r == 0; }
static bool dim_is_one(Dim d) { return d.c == 1 && d.b == 0 && d.r == 0; }
static Dim dim_sub(Dim x, Dim y) { return dim_add(x, dim_scale(y, -1)); }
static bool dim_never_negative(Dim d) { return d.b >= 0 && d.r >= 0 && d.c + d.b + d.r >= 0; }

static bool scale_checked(Dim d, int64_t k, Dim *out) {
  return !__builtin_mul_overflow(d.c, k, &out->c) && !__builtin_mul_overflow(d.b, k, &out->b) &&
         !__builtin_mul_overflow(d.r, k, &out->r);
}

/* x * y when that is affine. */
static bool dim_times(Dim x, Dim y, Dim *out) {
  if (dim_is_const(x)) return scale_checked(y, x.c, out);
  if (dim_is_const(y)) return scale_checked(x, y.c, out);
  return false;
}

/* The affine q with q * y = x, if there is one. */
static bool dim_ratio(Dim x, Dim y, Dim *out) {
  if (dim_is_const(y)) {
    if (y.c == 0 || x.c % y.c || x.b % y.c || x.r % y.c) return false;
    *out = (Dim){x.c / y.c, x.b / y.c, x.r / y.c};
    return true;
  }
  int64_t num = y.b ? x.b : x.r, den = y.b ? y.b : y.r;
  if (num % den || !dim_equal(dim_scale(y, num / den), x)) return false;
  *out = dim_const(num / den);
  return true;
}

static int64_t gcd(int64_t a, int64_t b) {
  if (a < 0) a = -a;
  if (b < 0) b = -b;
  while (b) {
    int64_t t = a % b;
    a = b;
    b = t;
  }
  return a;
}

static int64_t dim_content(Dim d) { return gcd(gcd(d.c, d.b), d.r); }
static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

/* ---- building ---- */

static Ix *ix_new(Lower *l, Dim c, int cap) {
  Ix *x = ARENA_NEW(l->arena, Ix);
  x->c = c;
  x->term = ARENA_ARRAY(l->arena, IxTerm, cap ? cap : 1);
  return x;
}

Ix *ix_dim(Lower *l, Dim d) { return ix_new(l, d, 0); }
Ix *ix_const(Lower *l, int64_t c) { return ix_dim(l, dim_const(c)); }

static Ix *of_atom(Lower *l, IxAtom *a) {
  Ix *x = ix_new(l, dim_const(0), 1);
  x->term[x->n++] = (IxTerm){dim_const(1), a};
  return x;
}

bool ix_equal(const Ix *x, const Ix *y) {
  if (x == y) return true;
  if (x->n != y->n || !dim_equal(x->c, y->c)) return false;
  for (int i = 0; i < x->n; i++)
    if (x->term[i].atom != y->term[i].atom || !dim_equal(x->term[i].coef, y->term[i].coef)) return false;
  return true;
}

uint32_t ix_hash(const Ix *x) {
  uint64_t h = (uint64_t)x->c.c * 0x9e3779b97f4a7c15u + (uint64_t)x->n;
  for (int i = 0; i < x->n; i++)
    h = (h ^ ((uint64_t)x->term[i].atom->id << 32) ^ (uint64_t)x->term[i].coef.c) * 0x9e3779b97f4a7c15u + (h >> 29);
  return (uint32_t)(h >> 32);
}

bool ix_is_varying(const Ix *x) {
  for (int i = 0; i < x->n; i++)
    if (x->term[i].atom->varying) return true;
  return false;
}

/* Adds coef * [from, to] of one atom to a range. */
static void range_add(IndexRange *r, Dim coef, const IndexRange *a) {
  bool up = dim_never_negative(coef), down = dim_never_negative(dim_scale(coef, -1));
  Dim d;
  bool lo = (up && a->has_lo && dim_times(coef, a->lo, &d)) || (down && a->has_hi && dim_times(coef, a->hi, &d));
  if (lo) r->lo = dim_add(r->lo, d);
  r->has_lo &= lo;
  bool hi = (up && a->has_hi && dim_times(coef, a->hi, &d)) || (down && a->has_lo && dim_times(coef, a->lo, &d));
  if (hi) r->hi = dim_add(r->hi, d);
  r->has_hi &= hi;
}

static IndexRange range_of(const Ix *x) {
  IndexRange r = {true, true, x->c, x->c};
  for (int i = 0; i < x->n; i++) range_add(&r, x->term[i].coef, &x->term[i].atom->range);
  return r;
}

static bool range_within(const IndexRange *r, Dim extent) {
  return r->has_lo && r->has_hi && dim_never_negative(r->lo) &&
         dim_never_negative(dim_sub(dim_sub(extent, dim_const(1)), r->hi));
}

bool ix_is_within(const Ix *x, Dim extent) {
  IndexRange r = range_of(x);
  return range_within(&r, extent);
}

/* The atom equal to this one, made if there is none yet. */
static Ix *intern(Lower *l, IxAtom want) {
  if (!l->index) l->index = ARENA_NEW(l->arena, struct IxTable);
  for (IxAtom *a = l->index->first; a; a = a->next)
    if (a->kind == want.kind && a->value == want.value && dim_equal(a->by, want.by) &&
        (a->inner == want.inner || (a->inner && want.inner && ix_equal(a->inner, want.inner))))
      return of_atom(l, a);
  IxAtom *a = arena_copy(l->arena, &want, sizeof want);
  a->id = l->index->n++;
  a->next = l->index->first;
  l->index->first = a;
  return of_atom(l, a);
}

static IndexRange range_below(Dim extent) { return (IndexRange){true, true, dim_const(0), dim_sub(extent, dim_const(1))}; }

Ix *ix_value(Lower *l, KInst *v, Dim extent) {
  BUG_IF(v->type != (v->varying ? K_I32 : K_I64), "index value of the wrong type");
  return intern(l, (IxAtom){ATOM_VALUE, 0, v->varying, v, NULL, extent, range_below(extent), NULL});
}

Ix *ix_assume(Lower *l, Ix *x, Dim extent) {
  if (ix_is_within(x, extent)) return x;
  if (dim_is_one(extent)) return ix_const(l, 0);
  return intern(l, (IxAtom){ATOM_ASSUMED, 0, ix_is_varying(x), NULL, x, extent, range_below(extent), NULL});
}

Ix *ix_part(Lower *l) {
  Dim four = dim_const(QUAD);
  return intern(l, (IxAtom){ATOM_PART, 0, false, NULL, NULL, four, range_below(four), NULL});
}

static Ix *scale_to(Lower *l, Ix *x, Dim k) {
  Ix *y = ix_new(l, dim_const(0), x->n);
  if (dim_is_zero(k)) return y;
  if (!dim_times(x->c, k, &y->c)) return NULL;
  for (; y->n < x->n; y->n++) {
    y->term[y->n].atom = x->term[y->n].atom;
    if (!dim_times(x->term[y->n].coef, k, &y->term[y->n].coef)) return NULL;
  }
  return y;
}

Ix *ix_scale_dim(Lower *l, Ix *x, Dim k) {
  if (dim_is_one(k)) return x;
  Ix *y = scale_to(l, x, k);
  return y ? y : intern(l, (IxAtom){ATOM_PRODUCT, 0, ix_is_varying(x), NULL, x, k, (IndexRange){0}, NULL});
}

Ix *ix_scale(Lower *l, Ix *x, int64_t k) { return ix_scale_dim(l, x, dim_const(k)); }

static Ix *merge(Lower *l, const Ix *x, const Ix *y) {
  Ix *z = ix_new(l, dim_add(x->c, y->c), x->n + y->n);
  int i = 0, j = 0;
  while (i < x->n || j < y->n) {
    IxTerm t;
    if (j == y->n || (i < x->n && x->term[i].atom->id < y->term[j].atom->id)) {
      t = x->term[i++];
    } else if (i == x->n || y->term[j].atom->id < x->term[i].atom->id) {
      t = y->term[j++];
    } else {
      t = (IxTerm){dim_add(x->term[i].coef, y->term[j].coef), x->term[i].atom};
      i++, j++;
    }
    if (!dim_is_zero(t.coef)) z->term[z->n++] = t;
  }
  return z;
}

static Ix *without(Lower *l, const Ix *x, int i, int j) {
  Ix *y = ix_new(l, x->c, x->n);
  for (int k = 0; k < x->n; k++)
    if (k != i && k != j) y->term[y->n++] = x->term[k];
  return y;
}

/* k m (x / m) + k (x mod m) = k x. */
static Ix *recombine(Lower *l, Ix *x) {
  for (int i = 0; i < x->n; i++) {
    IxAtom *q = x->term[i].atom;
    if (q->kind != ATOM_DIV) continue;
    for (int j = 0; j < x->n; j++) {
      IxAtom *m = x->term[j].atom;
      Dim want;
      if (m->kind != ATOM_MOD || !dim_equal(q->by, m->by) || !ix_equal(q->inner, m->inner) ||
          !dim_times(x->term[j].coef, q->by, &want) || !dim_equal(want, x->term[i].coef))
        continue;
      Ix *back = scale_to(l, (Ix *)q->inner, x->term[j].coef);
      if (back) return recombine(l, merge(l, without(l, x, i, j), back));
    }
  }
  return x;
}

Ix *ix_add(Lower *l, Ix *x, Ix *y) { return recombine(l, merge(l, x, y)); }

/* Assumed atoms replaced by what they stand for. */
static Ix *expand(Lower *l, Ix *x) {
  for (int i = 0; i < x->n; i++) {
    IxAtom *a = x->term[i].atom;
    if (a->kind != ATOM_ASSUMED) continue;
    Ix *inner = scale_to(l, (Ix *)a->inner, x->term[i].coef);
    if (inner) return expand(l, ix_add(l, without(l, x, i, i), inner));
  }
  return x;
}

bool ix_same(Lower *l, Ix *x, Ix *y) { return ix_equal(x, y) || ix_equal(expand(l, x), expand(l, y)); }

Ix *ix_unit_term(Lower *l, Ix *x) {
  x = expand(l, x);
  for (int i = 0; i < x->n; i++)
    if (!x->term[i].atom->varying && dim_is_one(x->term[i].coef)) return of_atom(l, x->term[i].atom);
  return NULL;
}

static bool holds_part(const Ix *x) {
  for (int i = 0; i < x->n; i++) {
    const IxAtom *a = x->term[i].atom;
    if (a->kind == ATOM_PART || (a->inner && holds_part(a->inner))) return true;
  }
  return false;
}

int64_t ix_part_step(Lower *l, Ix *x, Ix **out_rest) {
  int at = -1;
  *out_rest = x = expand(l, x);
  for (int i = 0; i < x->n; i++) {
    const IxAtom *a = x->term[i].atom;
    if (a->kind == ATOM_PART) at = i;
    else if (a->inner && holds_part(a->inner)) return -1;
  }
  if (at < 0) return 0;
  Dim step = x->term[at].coef;
  *out_rest = without(l, x, at, at);
  return dim_is_const(step) && step.c > 0 ? step.c : -1;
}

/* ---- quotients and remainders ---- */

static Ix *divide(Lower *l, Ix *x, Dim by, bool want_mod);

/* x = by * quot + rest, by the coefficients that by divides; the constant is moved so that rest starts in [0, by). */
static void split(Lower *l, Ix *x, Dim by, Ix **out_quot, Ix **out_rest) {
  Ix *q = ix_new(l, dim_const(0), x->n), *r = ix_new(l, x->c, x->n);
  for (int i = 0; i < x->n; i++) {
    Dim k;
    if (dim_ratio(x->term[i].coef, by, &k))
      q->term[q->n++] = (IxTerm){k, x->term[i].atom};
    else
      r->term[r->n++] = x->term[i];
  }
  IndexRange range = range_of(r);
  Dim move = dim_const(0);
  if (dim_is_const(by)) {
    Dim whole = {x->c.c, x->c.b - x->c.b % by.c, x->c.r - x->c.r % by.c};
    int64_t start = range.has_lo && dim_is_const(range.lo) ? range.lo.c : x->c.c;
    move = (Dim){floor_div(start, by.c), whole.b / by.c, whole.r / by.c};
  } else if (!dim_ratio(x->c, by, &move)) {
    move = dim_const(0);
  }
  Dim back;
  if (dim_times(move, by, &back)) {
    q->c = move;
    r->c = dim_sub(r->c, back);
  }
  *out_quot = q;
  *out_rest = r;
}

/* The part of x whose coefficients g divides, over g; the remainder in *out_low. */
static Ix *high_part(Lower *l, Ix *x, int64_t g, Ix **out_low) {
  Ix *high, *low;
  split(l, x, dim_const(g), &high, &low);
  *out_low = low;
  return high;
}

/* Looks for a common factor g of by and of part of x that makes the rest vanish. */
static Ix *divide_by_factor(Lower *l, Ix *x, Dim by, bool want_mod) {
  int64_t content = dim_content(by), best = 1;
  for (int i = 0; i < x->n; i++) {
    int64_t g = gcd(content, dim_content(x->term[i].coef));
    Ix *low;
    if (g <= best) continue;
    high_part(l, x, g, &low);
    if (ix_is_within(low, dim_const(g))) best = g;
  }
  if (best == 1) return NULL;
  Ix *low, *high = high_part(l, x, best, &low);
  Dim m = {by.c / best, by.b / best, by.r / best};
  Ix *y = divide(l, high, m, want_mod);
  return want_mod ? ix_add(l, ix_scale(l, y, best), low) : y;
}

static IndexRange range_of_quotient(const Ix *x, Dim by) {
  IndexRange r = range_of(x), q = {0};
  if (r.has_lo && dim_never_negative(r.lo)) {
    q.has_lo = true;
  } else if (r.has_lo && dim_is_const(r.lo) && dim_is_const(by)) {
    q.has_lo = true;
    q.lo = dim_const(floor_div(r.lo.c, by.c));
  }
  Dim k;
  if (!r.has_hi) return q;
  if (dim_ratio(dim_add(r.hi, dim_const(1)), by, &k)) {
    q.has_hi = true;
    q.hi = dim_sub(k, dim_const(1));
  } else if (dim_is_const(r.hi) && dim_is_const(by)) {
    q.has_hi = true;
    q.hi = dim_const(floor_div(r.hi.c, by.c));
  }
  return q;
}

static bool has_varying_quotient(const Ix *x) {
  for (int i = 0; i < x->n; i++) {
    const IxAtom *a = x->term[i].atom;
    if ((a->kind == ATOM_DIV || a->kind == ATOM_MOD) && a->varying) return true;
    if (a->kind == ATOM_ASSUMED && has_varying_quotient(a->inner)) return true;
  }
  return false;
}

/* What an assumed atom stands for may divide where the atom does not; its range then bounds the quotient. */
static Ix *divide_expanded(Lower *l, Ix *x, Dim by, bool want_mod) {
  Ix *open = expand(l, x);
  if (open == x || ix_equal(open, x)) return NULL;
  Ix *y = divide(l, open, by, want_mod);
  if (has_varying_quotient(y)) return NULL;
  IndexRange r = want_mod ? range_below(by) : range_of_quotient(x, by);
  bool bounded = r.has_lo && r.has_hi && dim_never_negative(r.lo);
  return bounded ? ix_assume(l, y, dim_add(r.hi, dim_const(1))) : y;
}

static Ix *divide(Lower *l, Ix *x, Dim by, bool want_mod) {
  if (dim_is_one(by)) return want_mod ? ix_const(l, 0) : x;
  Ix *quot, *rest;
  split(l, x, by, &quot, &rest);
  if (ix_is_within(rest, by)) return want_mod ? rest : recombine(l, quot);
  Ix *y = divide_by_factor(l, rest, by, want_mod);
  if (!y && ix_is_varying(rest)) y = divide_expanded(l, rest, by, want_mod);
  if (!y) {
    IxAtom a = {want_mod ? ATOM_MOD : ATOM_DIV,
                0,
                ix_is_varying(rest),
                NULL,
                rest,
                by,
                want_mod ? range_below(by) : range_of_quotient(rest, by),
                NULL};
    y = intern(l, a);
  }
  return want_mod ? y : ix_add(l, quot, y);
}

Ix *ix_div(Lower *l, Ix *x, Dim by) { return divide(l, x, by, false); }
Ix *ix_mod(Lower *l, Ix *x, Dim by) { return divide(l, x, by, true); }

/* ---- emission ---- */

static KInst *plus(Kernel *k, KInst *x, KInst *y) { return !x ? y : !y ? x : kir_bin(k, KOP_ADD, x, y); }

/* A quotient or remainder of uniform + varying: only uniform arithmetic is 64 bits wide. */
static void emit_divided(Lower *l, const IxAtom *a, KInst **out_base, KInst **out_lane) {
  Kernel *k = l->k;
  KOp op = a->kind == ATOM_DIV ? KOP_DIV : KOP_MOD;
  KInst *base, *lane, *by = kir_dim(k, a->by);
  ix_emit(l, (Ix *)a->inner, &base, &lane);
  *out_base = *out_lane = NULL;
  if (!lane) {
    *out_base = kir_bin(k, op, base, by);
    return;
  }
  if (base->op != KOP_CONST || base->imm != 0) {
    if (op == KOP_DIV) *out_base = kir_bin(k, KOP_DIV, base, by);
    lane = kir_bin(k, KOP_ADD, kir_un(k, KOP_TO_I32, kir_bin(k, KOP_MOD, base, by)), lane);
  }
  *out_lane = kir_bin(k, op, lane, kir_un(k, KOP_TO_I32, by));
}

static void emit_atom(Lower *l, const IxAtom *a, KInst **out_base, KInst **out_lane) {
  Kernel *k = l->k;
  *out_base = *out_lane = NULL;
  if (a->kind == ATOM_VALUE) {
    *(a->varying ? out_lane : out_base) = a->value;
  } else if (a->kind == ATOM_PART) {
    *out_base = kir_i64(k, l->part);
  } else if (a->kind == ATOM_DIV || a->kind == ATOM_MOD) {
    emit_divided(l, a, out_base, out_lane);
  } else {
    ix_emit(l, (Ix *)a->inner, out_base, out_lane);
    if (a->kind == ATOM_ASSUMED) return;
    KInst *by = kir_dim(k, a->by);
    *out_base = kir_bin(k, KOP_MUL, *out_base, by);
    if (*out_lane) *out_lane = kir_bin(k, KOP_MUL, *out_lane, kir_un(k, KOP_TO_I32, by));
  }
}

/* The largest varying part as far as sizes are constant; an estimate is enough, hence a double. */
static double lane_span(const Ix *x) {
  double span = 0;
  for (int i = 0; i < x->n; i++) {
    const IxAtom *a = x->term[i].atom;
    double part = 0, by = (double)(dim_is_const(a->by) ? a->by.c : 1);
    if (!a->varying || !dim_is_const(x->term[i].coef)) continue;
    switch (a->kind) {
    case ATOM_VALUE:
      part = dim_is_const(a->range.hi) ? (double)a->range.hi.c : 0;
      break;
    case ATOM_DIV:
      part = lane_span(a->inner) / by + 1;
      break;
    case ATOM_MOD:
      part = by;
      break;
    default:
      part = lane_span(a->inner);
      break;
    }
    span += part * fabs((double)x->term[i].coef.c);
  }
  return span;
}

static void check_span(Lower *l, const Ix *x) {
  if (lane_span(x) > INT32_MAX)
    lower_fail(l, l->group->anchor, "lanes would span more than 2^31 elements of a tensor");
}

void ix_emit(Lower *l, Ix *x, KInst **out_base, KInst **out_lane) {
  Kernel *k = l->k;
  KInst *base = NULL, *lane = NULL;
  x = expand(l, x);
  check_span(l, x);
  for (int i = 0; i < x->n; i++) {
    KInst *b, *v;
    Dim coef = x->term[i].coef;
    emit_atom(l, x->term[i].atom, &b, &v);
    if (b) base = plus(k, base, dim_is_one(coef) ? b : kir_bin(k, KOP_MUL, b, kir_dim(k, coef)));
    if (v)
      lane = plus(k, lane, dim_is_one(coef) ? v : kir_bin(k, KOP_MUL, v, kir_un(k, KOP_TO_I32, kir_dim(k, coef))));
  }
  if (!base || !dim_is_zero(x->c)) base = plus(k, base, kir_dim(k, x->c));
  *out_base = base;
  *out_lane = lane;
}

KInst *ix_emit_i32(Lower *l, Ix *x) {
  KInst *base, *lane;
  ix_emit(l, x, &base, &lane);
  KInst *low = kir_un(l->k, KOP_TO_I32, base);
  return lane ? kir_bin(l->k, KOP_ADD, low, lane) : low;
}

KInst *ix_inside(Lower *l, Ix *x, Dim extent) {
  Kernel *k = l->k;
  IndexRange r = range_of(x);
  bool low = r.has_lo && dim_never_negative(r.lo);
  Dim room = dim_sub(dim_sub(extent, dim_const(1)), r.hi);
  bool high = r.has_hi && dim_never_negative(room) && room.c + room.r >= 0;   /* with no samples too */
  if (low && high) return NULL;
  KInst *v, *lane, *n = kir_dim(k, extent), *zero = kir_i64(k, 0);
  ix_emit(l, x, &v, &lane);
  if (lane) {
    v = ix_emit_i32(l, x);
    n = kir_un(k, KOP_TO_I32, n);
    zero = kir_i32(k, 0);
  }
  KInst *above = low ? NULL : kir_bin(k, KOP_LE, zero, v), *below = high ? NULL : kir_bin(k, KOP_LT, v, n);
  return !above ? below : !below ? above : kir_bin(k, KOP_AND, above, below);
}

Ix *ix_clamp(Lower *l, Ix *x, Dim extent) {
  if (ix_is_within(x, extent)) return x;
  KInst *v, *lane;
  ix_emit(l, x, &v, &lane);
  BUG_IF(lane, "a varying index cannot be clamped");
  v = kir_bin(l->k, KOP_MAX, v, kir_i64(l->k, 0));
  v = kir_bin(l->k, KOP_MIN, v, kir_dim(l->k, dim_sub(extent, dim_const(1))));
  if (extent.c == 0) v = kir_bin(l->k, KOP_MAX, v, kir_i64(l->k, 0));   /* of no samples */
  return ix_value(l, v, extent);
}

/* ---- tensors ---- */

Ix *ix_flatten(Lower *l, const Type *t, Ix *const *idx) {
  Ix *flat = ix_const(l, 0);
  for (int i = 0; i < t->rank; i++) flat = ix_add(l, ix_scale_dim(l, flat, t->dim[i]), idx[i]);
  return flat;
}

void ix_unflatten(Lower *l, const Type *t, Ix *flat, Ix **out_idx) {
  int first = 0; /* the outermost axis that is not 1 takes what is left */
  while (first < t->rank && dim_is_one(t->dim[first])) out_idx[first++] = ix_const(l, 0);
  for (int i = t->rank - 1; i >= first; i--) {
    if (dim_is_zero(t->dim[i])) {   /* there is no element: the loop that asks does nothing */
      out_idx[i] = ix_const(l, 0);
      continue;
    }
    out_idx[i] = i == first ? flat : ix_mod(l, flat, t->dim[i]);
    flat = i == first ? flat : ix_div(l, flat, t->dim[i]);
  }
}
