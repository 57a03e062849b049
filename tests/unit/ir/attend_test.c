/* Attention in the interpreter: its gradients against central differences, its rows against the whole. */
#include "ir/interp.h"
#include "runtime/base/philox.h"
#include "tests/test.h"

#include <math.h>

enum { B = 2, HEADS = 2, QK_WIDTH = 6, V_WIDTH = 4, TRIALS = 60 };

static Error err;

static uint32_t draw(uint32_t trial, uint32_t i, uint32_t n) { return philox(11, trial, i, STREAM_TEST).word[0] % n; }
static double number(uint32_t trial, uint32_t i) {
  return 2.0 * philox_uniform(philox(12, trial, i, STREAM_TEST).word[0]) - 1.0;
}

static AttendAttrs random_attrs(uint32_t t) {
  AttendAttrs a = {.heads = HEADS, .kv_heads = HEADS, .kind = (AttendKind)(t % 4), .edge = (EdgeRule)draw(t, 1, 2)};
  a.causal = (Causal)draw(t, 2, 3);
  if (draw(t, 3, 3) == 0) a.scale = -0.7;
  for (uint32_t x = 0; x < 3; x++) {
    a.query_grid[x] = 1 + draw(t, 10 + x, 3);
    a.key_grid[x] = a.causal != CAUSAL_NONE ? a.query_grid[x] : 1 + draw(t, 20 + x, 3);
    a.lo[x] = draw(t, 40 + x, 4) == 0 ? -EXTENT_INF : (int64_t)draw(t, 50 + x, 4) - 2;
    a.hi[x] = draw(t, 60 + x, 4) == 0 ? EXTENT_INF : (a.lo[x] < -9 ? 0 : a.lo[x] + draw(t, 70 + x, 3));
    a.block[x] = 1 + draw(t, 80 + x, 3);
  }
  return a;
}

typedef struct Trial {
  uint32_t t;
  Graph *g;
  Arena *arena;
  AttendAttrs attrs;
  Tensor leaf[9];     /* q, k, v, dy, rows, ring k, ring v, slot, mask */
  double loss;
} Trial;

static const char *const leaf_names[] = {"q", "k", "v", "dy", "rows", "ring_k", "ring_v", "slot", "mask"};

static const Tensor *leaf_of(void *ctx, const Node *leaf, Error *e) {
  for (int i = 0; i < COUNT_OF(leaf_names); i++)
    if (strcmp(leaf->attrs.leaf.name, leaf_names[i]) == 0) return &((Trial *)ctx)->leaf[i];
  error_set(e, ERROR_ARGUMENT, "no %s", leaf->attrs.leaf.name);
  return NULL;
}

static Node *input(Graph *g, const char *name, Type t) {
  Attrs a = {.leaf = {.name = name}};
  return graph_op(g, OP_INPUT, NULL, 0, &a, &t);
}

static Type tokens(const int64_t grid[3], int64_t width) {
  Type t = {DTYPE_F32, 5, {{0, 1, 0}}};
  for (int x = 0; x < 3; x++) t.dim[1 + x] = dim_const(grid[x]);
  t.dim[4] = dim_const(width);
  return t;
}

/* The mask of a third of the trials, the last operand of all that attends. */
static Node *mask_of(Trial *c) {
  Type t = tokens(c->attrs.key_grid, 1);
  t.dtype = DTYPE_U8;
  t.rank = 4;
  return c->t % 3 ? NULL : input(c->g, "mask", t);
}

static Node *attention(Trial *c, Op op, Node **in, int n) {
  Attrs a = {.attend = c->attrs};
  Node *all[7], *mask = mask_of(c);
  memcpy(all, in, (size_t)n * sizeof *in);
  if (mask) all[n++] = mask;
  return graph_op(c->g, op, all, n, &a, NULL);
}

static int64_t key_width(const Trial *c, int64_t width) { return width / HEADS * c->attrs.kv_heads; }

/* Each other key is masked; in each fourth trial that has a mask, all are. */
static void fill_mask(Trial *c) {
  const int64_t *g = c->attrs.key_grid;
  c->leaf[8] = tensor_new(c->arena, DTYPE_U8, 4, (int64_t[]){B, g[0], g[1], g[2]});
  for (int64_t i = 0; c->t % 12 && i < tensor_elems(&c->leaf[8]); i++) c->leaf[8].data[i] = draw(c->t, 900 + (uint32_t)i, 2);
}

static Tensor random_tensor(Trial *c, const Type *t, uint32_t seed) {
  int64_t dim[MAX_RANK];
  for (int i = 0; i < t->rank; i++) dim[i] = dim_value(t->dim[i], B, 0);
  Tensor x = tensor_new(c->arena, t->dtype, t->rank, dim);
  for (int64_t i = 0; i < tensor_elems(&x); i++) x.data[i] = number(c->t, seed + (uint32_t)i);
  return x;
}

static Node *delta_of(Graph *g, Node *y, Node *dy) {
  Type split = y->type;
  split.rank = 6;
  split.dim[4] = dim_const(HEADS);
  split.dim[5] = dim_const(V_WIDTH / HEADS);
  return graph_sum(g, graph_reshape(g, graph_binary(g, OP_MUL, y, dy), &split), 1u << 5);
}

/* loss = sum(attend(q, k, v) * dy) and its three gradients. */
static Func *build(Trial *c) {
  Graph *g = c->g;
  Node *in[] = {input(g, "q", tokens(c->attrs.query_grid, QK_WIDTH)),
                input(g, "k", tokens(c->attrs.key_grid, key_width(c, QK_WIDTH))),
                input(g, "v", tokens(c->attrs.key_grid, key_width(c, V_WIDTH))),
                input(g, "dy", tokens(c->attrs.query_grid, V_WIDTH)),
                NULL,
                NULL};
  for (int i = 0; i < 4; i++) c->leaf[i] = random_tensor(c, &in[i]->type, 1000u * (uint32_t)(i + 1));
  fill_mask(c);
  Node *y = attention(c, OP_ATTEND, in, 3), *lse = attention(c, OP_ATTEND_LSE, in, 2);
  in[4] = lse;
  in[5] = delta_of(g, y, in[3]);
  Node *for_v[] = {in[0], in[1], in[3], lse};
  Port ports[] = {{"q", in[0]}, {"k", in[1]}, {"v", in[2]}, {"dy", in[3]}, {"mask", mask_of(c)}};
  Port out[] = {{"dk", attention(c, OP_ATTEND_GRAD_K, in, 6)}, {"dq", attention(c, OP_ATTEND_GRAD_Q, in, 6)},
                {"dv", attention(c, OP_ATTEND_GRAD_V, for_v, 4)},
                {"y", y}, {"z", graph_sum(g, graph_binary(g, OP_MUL, y, in[3]), 31)}};
  return func_new(g, "f", ports, 4 + (ports[4].node != NULL), out, 5);
}

static double loss_at(Trial *c, const Func *f) {
  Tensor out[5];
  EXPECT(interp_run(f, B, 0, leaf_of, c, c->arena, out, NULL, &err), "%s", err.text);
  return out[4].data[0];
}

static void check_gradient(Trial *c, const Func *loss, Tensor *x, const Tensor *grad, const char *name) {
  const double h = 1e-5;
  for (int64_t i = 0; i < tensor_elems(x); i += 1 + tensor_elems(x) / 24) {
    double old = x->data[i];
    x->data[i] = old + h;
    double up = loss_at(c, loss);
    x->data[i] = old - h;
    double down = loss_at(c, loss), want = (up - down) / (2 * h);
    x->data[i] = old;
    EXPECT(fabs(grad->data[i] - want) <= 1e-8, "trial %u: d%s[%d] is %g, want %g", c->t, name, (int)i, grad->data[i],
           want);
  }
}

static void gradients(void *ctx) {
  Trial *c = ctx;
  c->attrs = random_attrs(c->t);
  Func *f = build(c);
  REQUIRE(f, "%s", err.text);
  Tensor out[5];
  REQUIRE(interp_run(f, B, 0, leaf_of, c, c->arena, out, NULL, &err), "%s", err.text);
  check_gradient(c, f, &c->leaf[0], &out[1], "q");
  check_gradient(c, f, &c->leaf[1], &out[0], "k");
  check_gradient(c, f, &c->leaf[2], &out[2], "v");
}

/* Calls body in a fresh graph and arena, TRIALS times. */
static void each_trial(void (*body)(void *ctx)) {
  for (uint32_t t = 0; t < TRIALS; t++) {
    err = (Error){0};
    Trial c = {.t = t, .g = graph_new(&err), .arena = arena_new()};
    EXPECT(arena_protect(c.g->arena, body, &c, &err), "%s", err.text);
    arena_free(c.arena);
    graph_free(c.g);
  }
}

TEST("gradients of attention agree with central differences, for every kind, edge and causal rule") {
  each_trial(gradients);
}

static int64_t count(const int64_t g[3]) { return g[0] * g[1] * g[2]; }

/* All positions of all samples as rows, in a mixed-up order; rings that hold position i in slot n - 1 - i. */
static void fill_rows(Trial *c) {
  int64_t n = count(c->attrs.query_grid), keys = count(c->attrs.key_grid), widths[] = {key_width(c, QK_WIDTH), key_width(c, V_WIDTH)};
  c->leaf[4] = tensor_new(c->arena, DTYPE_I32, 2, (int64_t[]){n * B, 2});
  for (int64_t r = 0; r < n * B; r++) {
    c->leaf[4].data[2 * r] = (double)((r + 1) % B);
    c->leaf[4].data[2 * r + 1] = (double)(n - 1 - r / B);
  }
  c->leaf[7] = tensor_new(c->arena, DTYPE_I32, 1, (int64_t[]){keys});
  for (int64_t i = 0; i < keys; i++) c->leaf[7].data[i] = (double)(keys - 1 - i);
  for (int half = 0; half < 2; half++) {
    int64_t w = widths[half];
    Tensor *ring = &c->leaf[5 + half], *whole = &c->leaf[1 + half];
    *ring = tensor_new(c->arena, DTYPE_F32, 3, (int64_t[]){keys, B, w});
    for (int64_t i = 0; i < keys; i++)
      for (int64_t b = 0; b < B; b++)
        memcpy(ring->data + ((keys - 1 - i) * B + b) * w, whole->data + (b * keys + i) * w,
               (size_t)w * sizeof(double));
  }
}

/* The query rows are gathered from q by (sample, position) = sample * n + position. */
static Func *build_rows(Trial *c) {
  Graph *g = c->g;
  int64_t n = count(c->attrs.query_grid), keys = count(c->attrs.key_grid);
  Dim R = {0, 0, 1}, samples = {0, 1, 0};
  Type flat = type_make(DTYPE_F32, 2, (Dim[]){{0, n, 0}, dim_const(QK_WIDTH)}), one = type_make(DTYPE_I32, 1, &R);
  Node *q = input(g, "q", tokens(c->attrs.query_grid, QK_WIDTH)),
       *k = input(g, "k", tokens(c->attrs.key_grid, key_width(c, QK_WIDTH)));
  Node *v = input(g, "v", tokens(c->attrs.key_grid, key_width(c, V_WIDTH)));
  Node *rows = input(g, "rows", type_make(DTYPE_I32, 2, (Dim[]){R, dim_const(2)}));
  Node *rk = input(g, "ring_k", type_make(DTYPE_F32, 3, (Dim[]){dim_const(keys), samples, k->type.dim[4]}));
  Node *rv = input(g, "ring_v", type_make(DTYPE_F32, 3, (Dim[]){dim_const(keys), samples, v->type.dim[4]}));
  Node *slot = input(g, "slot", type_make(DTYPE_I32, 1, (Dim[]){dim_const(keys)}));
  Attrs part = {0};
  part.slice.stop[0] = R;
  part.slice.stop[1] = dim_const(1);
  part.slice.step[0] = part.slice.step[1] = 1;
  Node *sample = graph_reshape(g, graph_op(g, OP_SLICE, &rows, 1, &part, NULL), &one);
  part.slice.start[1] = dim_const(1);
  part.slice.stop[1] = dim_const(2);
  Node *position = graph_reshape(g, graph_op(g, OP_SLICE, &rows, 1, &part, NULL), &one);
  Node *index =
      graph_binary(g, OP_ADD, graph_binary(g, OP_MUL, sample, graph_fill_like(g, (double)n, sample)), position);
  Node *pick[] = {graph_reshape(g, q, &flat), index};
  Node *qr = graph_op(g, OP_GATHER, pick, 2, NULL, NULL);
  Node *on_grid[] = {qr, rows, k, v}, *in_ring[] = {qr, rows, rk, rv, slot}, *whole[] = {q, k, v};
  Port in[] = {{"q", q}, {"k", k}, {"v", v}, {"rows", rows}, {"ring_k", rk}, {"ring_v", rv}, {"slot", slot}, {"mask", mask_of(c)}};
  Port out[] = {{"grid", attention(c, OP_ATTEND_ROWS, on_grid, 4)},
                {"ring", attention(c, OP_ATTEND_ROWS, in_ring, 5)},
                {"whole", attention(c, OP_ATTEND, whole, 3)}};
  return func_new(g, "f", in, 7 + (in[7].node != NULL), out, 3);
}

static void rows_are_attend(void *ctx) {
  Trial *c = ctx;
  c->attrs = random_attrs(c->t);
  c->attrs.kv_heads = 1 + draw(c->t, 4, 2);
  int64_t n = count(c->attrs.query_grid);
  REQUIRE(build(c), "%s", err.text);
  fill_rows(c);
  Func *f = build_rows(c);
  REQUIRE(f, "%s", err.text);
  EXPECT(func_verify(f, FORM_PRIMITIVE, "building", &err), "%s", err.text);
  Tensor out[3];
  REQUIRE(interp_run(f, B, n * B, leaf_of, c, c->arena, out, NULL, &err), "%s", err.text);
  for (int64_t r = 0; r < n * B; r++) {
    int64_t token = (int64_t)c->leaf[4].data[2 * r] * n + (int64_t)c->leaf[4].data[2 * r + 1];
    for (int64_t j = 0; j < V_WIDTH; j++) {
      double want = out[2].data[token * V_WIDTH + j];
      EXPECT(out[0].data[r * V_WIDTH + j] == want && out[1].data[r * V_WIDTH + j] == want, "trial %u row %d", c->t,
             (int)r);
    }
  }
  c->leaf[7].data[0] = -1;
  bool seen = !interp_run(f, B, n * B, leaf_of, c, c->arena, out, NULL, &err);
  if (seen) EXPECT_HAS(err.text, "is in slot -1 of");
  err = (Error){0};
  c->leaf[4].data[1] = (double)n;
  EXPECT(!interp_run(f, B, n * B, leaf_of, c, c->arena, out, NULL, &err));
  EXPECT_HAS(err.text, "attend_rows: row 0");
}

TEST("rows of attention, on grids and in rings, are the rows of the whole, to the bit") {
  each_trial(rows_are_attend);
}

TEST_MAIN()
