/* Gradients of attention, and of a whole small model, against central differences. */
#include "tests/test.h"
#include "tests/unit/passes/grad_case.h"
#include "tests/unit/passes/toy_model.h"

static uint32_t draw(uint32_t test, uint32_t i, uint32_t n) { return philox(13, test, i, STREAM_TEST).word[0] % n; }

/* ---- attention alone ---- */

static AttendAttrs random_attrs(uint32_t t, int64_t key_grid[3], int64_t query_grid[3]) {
  AttendAttrs a = {.kind = (AttendKind)(t % 4), .edge = (EdgeRule)(t / 4 % 2), .causal = (Causal)(t / 8 % 3)};
  a.heads = 1 + draw(t, 0, 3);
  if (draw(t, 1, 3) == 0) a.scale = (double)draw(t, 5, 9) / 4 - 1.125;
  for (uint32_t x = 0; x < 3; x++) {
    query_grid[x] = 1 + draw(t, 10 + x, 4);
    key_grid[x] = a.causal != CAUSAL_NONE ? query_grid[x] : 1 + draw(t, 20 + x, 4);
    int64_t width = 1 + draw(t, 30 + x, 5);
    a.lo[x] = -(width / 2);
    a.hi[x] = a.lo[x] + width - 1;
    if (draw(t, 40 + x, 4) == 0) a.lo[x] = (int64_t)draw(t, 50 + x, 5) - 3, a.hi[x] = a.lo[x] + draw(t, 60 + x, 3);
    if (draw(t, 70 + x, 4) == 0) a.lo[x] = -EXTENT_INF;
    if (draw(t, 80 + x, 4) == 0) a.hi[x] = EXTENT_INF;
    a.block[x] = 1 + draw(t, 90 + x, 3);
  }
  return a;
}

static Type token_type(bool batch, const int64_t grid[3], int64_t width) {
  Type t = {.dtype = DTYPE_F32};
  if (batch) t.dim[t.rank++] = (Dim){0, 1, 0};
  for (int x = 0; x < 3; x++) t.dim[t.rank++] = dim_const(grid[x]);
  t.dim[t.rank++] = dim_const(width);
  return t;
}

/* Sum of weighed attention; q, k, v become wrt. */
static Node *attend_loss(GradCase *c, uint32_t t, bool self) {
  int64_t key_grid[3], query_grid[3];
  Attrs a = {.attend = random_attrs(t, key_grid, query_grid)};
  bool batch = draw(t, 2, 2), is_masked = draw(t, 7, 3) == 0;
  int64_t width = 1 + draw(t, 3, 3), v_width = 1 + draw(t, 4, 3), heads = a.attend.heads, kv_heads = heads;
  if (self) v_width = width, memcpy(key_grid, query_grid, sizeof query_grid);
  else if (draw(t, 6, 2)) a.attend.kv_heads = kv_heads = 1;
  Type type[4] = {token_type(batch, query_grid, width * heads), token_type(batch, key_grid, width * kv_heads),
                  token_type(batch, key_grid, v_width * kv_heads), token_type(batch, key_grid, 1)};
  type[3].rank--;
  Node *in[4];
  for (int i = 0; i < 3; i++)
    in[i] = grad_case_input(c, self ? "x" : (const char *[]){"q", "k", "v"}[i], &type[self ? 0 : i]);
  c->n_wrt = self ? 1 : 3;
  memcpy(c->wrt, in, 3 * sizeof *in);
  if (is_masked) in[3] = graph_binary(c->g, OP_LT, grad_case_input(c, "m", &type[3]), graph_fill(c->g, 0, &type[3]));
  return grad_case_weigh(c, graph_op(c->g, OP_ATTEND, in, 3 + is_masked, &a, NULL), "w");
}

TEST("attention of every kind, extent, edge and causal rule, on equal and unequal grids, with one head or several, masks and shared keys") {
  for (uint32_t t = 0; t < 240; t++) {
    GradCase c;
    grad_case_init(&c);
    bool ok = grad_case_check(&c, attend_loss(&c, t, t % 5 == 0), false);
    EXPECT(ok && c.compared > 0, "case %u: off by %g %s", t, c.worst, c.err.text);
    grad_case_done(&c);
  }
}

TEST("the gradient of attention's gradient is refused by name") {
  GradCase c;
  grad_case_init(&c);
  Node *dx[3], *y = attend_loss(&c, 2, false);
  REQUIRE(y && grad_build(c.g, y, c.wrt, 3, dx), "%s", c.err.text);
  Node *again = grad_case_weigh(&c, dx[0], "v");
  EXPECT(again && !grad_build(c.g, again, c.wrt, 3, dx));
  EXPECT_HAS(c.err.text, "attend: its gradient has no gradient");
  grad_case_done(&c);
}

/* ---- a model ---- */

/* mean over positions of the cross-entropy of the next tokens */
static Node *model_loss(GradCase *c, const Toy *m) {
  Func *f = toy_build(c->g, m);
  if (!f) return NULL;
  grad_case_take_leafs(c, f);
  Node *in[2] = {f->out[0].node, f->in[0].node};
  Node *ce = graph_op(c->g, OP_CROSS_ENTROPY, in, 2, NULL, NULL);
  Attrs all = {.axes.axes = 15};
  return ce ? graph_op(c->g, OP_MEAN, &ce, 1, &all, NULL) : NULL;
}

static void check_model(const char *what, const Toy *m) {
  GradCase c;
  grad_case_init(&c);
  c.store.int_high = 4;
  bool ok = grad_case_check(&c, model_loss(&c, m), false);
  EXPECT(ok && c.n_wrt > 15, "%s: off by %g %s", what, c.worst, c.err.text);
  grad_case_done(&c);
}

static Toy model(void) {
  Toy m = {.grid = {2, 2, 2}, .dim = 4, .heads = 2, .vocab = 5, .layers = 1, .has_position = true, .is_tied = true};
  m.self = (AttendAttrs){.kind = ATTEND_NEARBY, .lo = {-1, -1, -1}, .hi = {1, 1, 1}, .causal = CAUSAL_RASTER};
  m.cross = (AttendAttrs){.kind = ATTEND_FULL};
  m.n_stencil = 3;
  m.stencil[0].delta[2] = m.stencil[1].delta[1] = m.stencil[2].delta[0] = -1;
  return m;
}

TEST("a transformer with cross-entropy, in all its params") {
  Toy m = model();
  check_model("tied, local stencil", &m);
  m.is_tied = false;
  m.has_style = true;
  m.shape = TOY_ROWS;
  m.cond_grid[0] = 3, m.cond_grid[1] = m.cond_grid[2] = 1;
  check_model("with an encoder of text and a style", &m);
  m = model();
  m.n_stencil = 1;
  m.stencil[0].raster = true;
  m.stencil[0].delta[2] = 0;
  m.self.kind = ATTEND_AXIS;
  m.position_on_batch = m.concat_stencil = true;
  check_model("axis attention, raster stencil", &m);
}

TEST_MAIN()
