/* Symbolic indices: what their simplification must find, since vector loads depend on it. */
#include "codegen/lower/lower.h"
#include "tests/test.h"

/* A kernel over nothing, item index i in [0, n) and the lane. */
typedef struct Fixture {
  Arena *arena;
  Error err;
  Group group;
  Lower *l;
  Ix *lane;
} Fixture;

static void fixture_init(Fixture *f) {
  *f = (Fixture){.arena = arena_new()};
  f->l = ARENA_NEW(f->arena, Lower);
  *f->l = (Lower){.arena = f->arena, .err = &f->err, .group = &f->group, .k = kir_new(f->arena, "k")};
  f->lane = ix_value(f->l, kir_lane(f->l->k), dim_const(LANES));
}

/* A loop variable in [0, n). */
static Ix *loop(Fixture *f, Dim n) {
  Kernel *k = f->l->k;
  return ix_value(f->l, kir_for(k, kir_i64(k, 0), kir_dim(k, n), 1, 1), n);
}

static const Dim B = {0, 1, 0};

#define DIM(x) dim_const(x)

TEST("a quotient takes what the divisor divides when the rest is smaller") {
  Fixture f;
  fixture_init(&f);
  Lower *l = f.l;
  Ix *i = loop(&f, DIM(10)), *j = loop(&f, DIM(64)), *x = ix_add(l, ix_scale(l, i, 64), j);
  EXPECT(ix_equal(ix_div(l, x, DIM(64)), i), "not i");
  EXPECT(ix_equal(ix_mod(l, x, DIM(64)), j), "not j");
  EXPECT(ix_equal(ix_div(l, x, DIM(640)), ix_const(l, 0)), "not 0");
  arena_free(f.arena);
}

TEST("symbolic sizes divide like numbers") {
  Fixture f;
  fixture_init(&f);
  Lower *l = f.l;
  Ix *i = loop(&f, DIM(3)), *b = loop(&f, B), *j = loop(&f, DIM(16));
  Ix *x = ix_add(l, ix_scale_dim(l, i, dim_scale(B, 16)), ix_add(l, ix_scale(l, b, 16), j));
  EXPECT(ix_equal(ix_div(l, x, dim_scale(B, 16)), i), "not i");
  EXPECT(ix_equal(ix_div(l, ix_mod(l, x, dim_scale(B, 16)), DIM(16)), b), "not b");
  EXPECT(ix_equal(ix_mod(l, ix_div(l, x, DIM(16)), B), b), "not b through the other order");
  arena_free(f.arena);
}

TEST("a common factor leaves uniform quotients and contiguous lanes") {
  Fixture f;
  fixture_init(&f);
  Lower *l = f.l;
  Ix *v = loop(&f, DIM(100)), *x = ix_add(l, ix_scale(l, v, 16), f.lane);
  Ix *q = ix_div(l, x, DIM(64)), *r = ix_mod(l, x, DIM(64));
  EXPECT(!ix_is_varying(q), "the quotient varies");
  EXPECT(ix_equal(r, ix_add(l, ix_scale(l, ix_mod(l, v, DIM(4)), 16), f.lane)),
         "the remainder's lanes are not contiguous");
  KInst *base, *lane;
  ix_emit(l, r, &base, &lane);
  EXPECT(lane && lane->op == KOP_LANE, "lanes are not LANE itself");
  arena_free(f.arena);
}

TEST("flatten undoes unflatten, also where nothing divides") {
  Fixture f;
  fixture_init(&f);
  Lower *l = f.l;
  Ix *v = loop(&f, dim_scale(B, 7)), *x = ix_add(l, ix_scale(l, v, 16), f.lane), *idx[4];
  Type t = type_make(DTYPE_F32, 4, (Dim[]){dim_scale(B, 2), DIM(7), DIM(3), DIM(5)});
  ix_unflatten(l, &t, x, idx);
  EXPECT(ix_equal(ix_flatten(l, &t, idx), x), "another index came back");
  x = ix_assume(l, ix_add(l, x, ix_const(l, 3)), dim_scale(B, 210));
  ix_unflatten(l, &t, x, idx);
  EXPECT(ix_same(l, ix_flatten(l, &t, idx), x), "another index came back under an assumption");
  arena_free(f.arena);
}

TEST("negative and shifted indices divide downwards") {
  Fixture f;
  fixture_init(&f);
  Lower *l = f.l;
  Ix *i = loop(&f, DIM(10)), *j = loop(&f, DIM(4));
  Ix *x = ix_add(l, ix_scale(l, i, 4), ix_add(l, ix_const(l, -1), ix_scale(l, j, -1)));
  EXPECT(ix_equal(ix_div(l, x, DIM(4)), ix_add(l, i, ix_const(l, -1))), "4i - 1 - j over 4 is i - 1 for j in [0, 4)");
  EXPECT(ix_equal(ix_mod(l, x, DIM(4)), ix_add(l, ix_const(l, 3), ix_scale(l, j, -1))), "and leaves 3 - j");
  Ix *y = ix_add(l, ix_const(l, 19), ix_scale(l, i, -1));
  EXPECT(ix_is_within(y, DIM(20)) && !ix_is_within(y, DIM(19)), "wrong range");
  EXPECT(!ix_inside(l, y, DIM(20)) && ix_inside(l, y, DIM(19)), "wrong check");
  arena_free(f.arena);
}

TEST("lanes that span more than 2^31 elements are refused") {
  Fixture f;
  fixture_init(&f);
  Loc here = {"m.lua", 3, NULL};
  Node n = {.op = OP_ADD, .loc = &here};
  f.group.anchor = &n;
  KInst *base, *lane;
  ix_emit(f.l, ix_scale(f.l, f.lane, (int64_t)1 << 28), &base, &lane);
  EXPECT(f.l->failed, "accepted");
  EXPECT_HAS(f.err.text, "m.lua:3: add: lanes would span more than 2^31 elements");
  arena_free(f.arena);
}

TEST("uniform indices are 64 bits wide") {
  Fixture f;
  fixture_init(&f);
  Lower *l = f.l;
  Ix *i = loop(&f, DIM((int64_t)1 << 40)), *x = ix_add(l, ix_scale(l, i, 16), f.lane);
  KInst *base, *lane;
  ix_emit(l, ix_div(l, x, DIM(3)), &base, &lane);
  EXPECT(base->type == K_I64 && lane->type == K_I32 && !l->failed, "a large index does not fit");
  arena_free(f.arena);
}

TEST_MAIN()
