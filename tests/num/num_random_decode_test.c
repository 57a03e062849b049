/* Random functions over a generated grid: what decoding makes of them.  Drawn in raster order, every step's logits are
 * those of the interpreter on the tokens that came out; the wavefront gives the same tokens.
 *
 * A failure prints its seed and its function; NUWA_DECODES=SEED or NUWA_DECODES=FIRST:COUNT runs these alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "passes/passes.h"
#include "runtime/base/philox.h"
#include "tests/num/rig.h"
#include "tests/test.h"

enum { COUNT = 2, CLASSES = 7, MOST_POSITIONS = 2 * 4 * 4, USUAL = 12, MANY = 1000, FIRST_SEED = 500 };

static Rig rig;

typedef struct Gen {
  Graph *g;
  uint64_t seed;
  uint32_t at;         /* numbers drawn */
  int n_param;
  int64_t grid[3], width, heads;
  Node *tokens, *cond; /* cond: f32 [B, s, h, w, width], or NULL */
  int64_t cond_grid[3];
} Gen;

static Gen gen;
static uint64_t seed_of_next;

static int draw(Gen *x, int n) { return (int)(philox(x->seed, x->at++, 1, STREAM_TEST).word[0] % (uint32_t)n); }
static bool chance(Gen *x, int percent) { return draw(x, 100) < percent; }

static Node *param(Gen *x, int rank, const Dim *dim) {
  Type t = type_make(DTYPE_F32, rank, dim);
  Attrs a = {.leaf = {arena_printf(x->g->arena, "w%d", x->n_param++), {INIT_NORMAL, 1}}};
  return graph_op(x->g, OP_PARAM, NULL, 0, &a, &t);
}

static Node *vector(Gen *x, int64_t n) { return param(x, 1, (Dim[]){dim_const(n)}); }

static Node *linear(Gen *x, Node *h, int64_t to) {
  Dim dim[] = {h->type.dim[h->type.rank - 1], dim_const(to)};
  return graph_matmul(x->g, h, param(x, 2, dim), false, false);
}

static Node *norm(Gen *x, Node *h) {
  int64_t n = h->type.dim[h->type.rank - 1].c;
  Node *gain = vector(x, n), *bias = vector(x, n);
  return graph_op(x->g, OP_LAYER_NORM, (Node *[]){h, gain, bias}, 3, &(Attrs){.norm.eps = 1e-3}, NULL);
}

/* ---- the input: what a position sees of the tokens before it ---- */

static Node *shifted(Gen *x, Node *h, const int64_t delta[3]) {
  Attrs a = {.shift.raster = !delta};
  if (delta) memcpy(a.shift.delta, delta, sizeof a.shift.delta);
  return graph_op(x->g, OP_SHIFT, (Node *[]){h, vector(x, x->width)}, 2, &a, NULL);
}

static Node *seen(Gen *x) {
  static const int64_t delta[][3] = {{0, 0, -1}, {0, -1, 0}, {-1, 0, 0}, {0, -1, 1}, {-1, 1, 0}, {0, 0, -2},
                                     {-1, -1, -1}};
  Dim table[] = {dim_const(CLASSES), dim_const(x->width)};
  Dim place[] = {dim_const(x->grid[0]), dim_const(x->grid[1]), dim_const(x->grid[2]), dim_const(x->width)};
  Node *h = graph_op(x->g, OP_GATHER, (Node *[]){param(x, 2, table), x->tokens}, 2, NULL, NULL);
  Node *y = graph_broadcast(x->g, param(x, 4, place), &h->type);
  if (chance(x, 15)) return graph_binary(x->g, OP_ADD, y, shifted(x, h, NULL));
  for (int i = 0, n = 1 + draw(x, 3); i < n; i++) {
    Node *one = shifted(x, h, delta[draw(x, COUNT_OF(delta))]);
    y = graph_binary(x->g, OP_ADD, y, chance(x, 50) ? linear(x, one, x->width) : one);
  }
  return y;
}

/* ---- layers ---- */

static AttendAttrs draw_attention(Gen *x, const int64_t key_grid[3]) {
  AttendAttrs a = {.heads = x->heads, .kv_heads = x->heads, .kind = (AttendKind)draw(x, 4), .edge = (EdgeRule)draw(x, 2)};
  if (chance(x, 20)) a.scale = 0.4;
  for (int i = 0; i < 3; i++) {
    int width = 1 + draw(x, 4);
    a.query_grid[i] = x->grid[i];
    a.key_grid[i] = key_grid[i];
    a.lo[i] = -(width / 2);
    a.hi[i] = (width - 1) / 2;
    if (chance(x, 20)) a.lo[i] = -EXTENT_INF, a.hi[i] = EXTENT_INF;
    a.block[i] = a.kind == ATTEND_BLOCK ? 1 + draw(x, 3) : 0;
  }
  return a;
}

/* u8 [B, s, h, w], an input. */
static Node *mask_of(Gen *x, const char *name, const int64_t grid[3]) {
  Type t = {.dtype = DTYPE_U8, .rank = 4, .dim = {{0, 1, 0}}};
  for (int i = 0; i < 3; i++) t.dim[1 + i] = dim_const(grid[i]);
  return graph_op(x->g, OP_INPUT, NULL, 0, &(Attrs){.leaf.name = name}, &t);
}

static Node *attention(Gen *x, Node *h, Node *from, const int64_t key_grid[3]) {
  Attrs a = {.attend = draw_attention(x, key_grid)};
  if (from == h) a.attend.causal = chance(x, 50) ? CAUSAL_RASTER : CAUSAL_PAST;
  Node *q = chance(x, 50) ? linear(x, h, x->width) : h, *k = chance(x, 50) ? linear(x, from, x->width) : from;
  Node *v = chance(x, 50) ? linear(x, from, x->width) : from, *mask = NULL;
  if (chance(x, 30)) {   /* all queries share one head of keys */
    a.attend.kv_heads = 1;
    k = linear(x, from, x->width / x->heads);
    v = linear(x, from, 1 + draw(x, 9));
  }
  if (chance(x, 30)) mask = mask_of(x, from == h ? "seen" : "cond_seen", key_grid);
  Node *y = graph_op(x->g, OP_ATTEND, (Node *[]){q, k, v, mask}, mask ? 4 : 3, &a, NULL);
  return y && y->type.dim[4].c != x->width ? linear(x, y, x->width) : y;
}

static Node *activated(Gen *x, Node *h) {
  static const Op op[] = {OP_GELU,    OP_SILU,        OP_RELU, OP_TANH, OP_SIGMOID,
                          OP_SOFTMAX, OP_LOG_SOFTMAX, OP_SIN,  OP_ERF,  OP_ABS};
  return graph_unary(x->g, op[draw(x, COUNT_OF(op))], h);
}

static Node *feed_forward(Gen *x, Node *h) { return linear(x, activated(x, linear(x, h, 1 + draw(x, 40))), x->width); }

/* A piece of the channels, in another place. */
static Node *cut_and_joined(Gen *x, Node *h) {
  Attrs a = {0};
  int last = h->type.rank - 1;
  int64_t at = 1 + draw(x, (int)x->width - 1);
  for (int i = 0; i <= last; i++) a.slice.step[i] = 1, a.slice.stop[i] = h->type.dim[i];
  a.slice.start[last] = dim_const(at);
  Node *high = graph_op(x->g, OP_SLICE, &h, 1, &a, NULL);
  a.slice.start[last] = dim_const(0);
  a.slice.stop[last] = dim_const(at);
  Node *low = graph_op(x->g, OP_SLICE, &h, 1, &a, NULL);
  return graph_op(x->g, OP_CONCAT, (Node *[]){high, low}, 2, &(Attrs){.axis.axis = last}, NULL);
}

/* What the channels have in common, at each of them. */
static Node *levelled(Gen *x, Node *h) {
  int last = h->type.rank - 1;
  Op op = chance(x, 50) ? OP_MEAN : OP_MAX;
  Node *y = graph_op(x->g, op, &h, 1, &(Attrs){.axes.axes = 1 << last}, NULL);
  return graph_spread(x->g, y, 1u << last, &h->type);
}

/* A number of the token before, looked up again. */
static Node *remembered(Gen *x) {
  static const int64_t before[3] = {0, 0, -1};
  Dim table[] = {dim_const(CLASSES), dim_const(x->width)};
  Node *index = x->tokens, *wide = graph_insert_axes(x->g, index, 1u << 4);
  Type one = {.dtype = DTYPE_I32, .rank = 1, .dim = {dim_const(1)}};
  Attrs a = {0};
  memcpy(a.shift.delta, before, sizeof before);
  Node *seen = graph_op(x->g, OP_SHIFT, (Node *[]){wide, graph_fill(x->g, 0, &one)}, 2, &a, NULL);
  seen = graph_reshape(x->g, seen, &index->type);
  return graph_op(x->g, OP_GATHER, (Node *[]){param(x, 2, table), seen}, 2, NULL, NULL);
}

static Node *layer(Gen *x, Node *h) {
  switch (draw(x, 8)) {
  case 0: case 1: return attention(x, h, h, x->grid);
  case 2: return x->cond ? attention(x, h, x->cond, x->cond_grid) : feed_forward(x, h);
  case 3: return feed_forward(x, h);
  case 4: return cut_and_joined(x, h);
  case 5: return levelled(x, h);
  case 6: return remembered(x);
  default: return graph_binary(x->g, OP_MUL, h, graph_broadcast(x->g, vector(x, x->width), &h->type));
  }
}

static void grid_dims(Dim out[5], const int64_t grid[3], int64_t width) {
  out[0] = (Dim){0, 1, 0};
  for (int i = 0; i < 3; i++) out[1 + i] = dim_const(grid[i]);
  out[4] = dim_const(width);
}

static void build(Rig *r) {
  Gen *x = &gen;
  *x = (Gen){.g = r->model.graph, .seed = seed_of_next};
  x->heads = 1 + draw(x, 3);
  x->width = x->heads * (2 + draw(x, 12));
  for (int i = 0; i < 3; i++) x->grid[i] = 1 + draw(x, i ? 4 : 2), x->cond_grid[i] = 1 + draw(x, 3);
  Dim d[5];
  grid_dims(d, x->grid, x->width);
  x->tokens = rig_input(r, "tokens", DTYPE_I32, 4, d);
  if (chance(x, 70)) {
    grid_dims(d, x->cond_grid, x->width);
    x->cond = rig_input(r, "cond", DTYPE_F32, 5, d);
    if (chance(x, 50)) x->cond = norm(x, feed_forward(x, x->cond));
  }
  Node *h = seen(x);
  for (int i = 0, n = 1 + draw(x, 5); i < n; i++) {
    Node *y = layer(x, chance(x, 50) ? norm(x, h) : h);
    if (!y) return;
    h = chance(x, 70) ? graph_binary(x->g, OP_ADD, h, y) : norm(x, y);
  }
  Node *logits = linear(x, norm(x, h), CLASSES);
  Func *f = rig_add(r, rig_function(r, "draw", &(Port){"logits", logits}, 1));
  r->decode[0] = (ModelDecode){"draw", f, "tokens", "logits"};
  r->model.n_decode = f != NULL;
}

/* ---- checks ---- */

static double fit(void *ctx, const char *name, int64_t i, double x) {
  if (strcmp(name, "tokens") == 0) return ctx ? (double)((const int32_t *)ctx)[i] : 0;
  if (strcmp(name, "seen") == 0 || strcmp(name, "cond_seen") == 0) return (int)x % 3 ? x : 0;
  return strcmp(name, "cond") == 0 ? x : 0.4 * x;
}

typedef struct Record {
  const float *logits;   /* [COUNT][CLASSES] of the position that just ran */
  float all[COUNT][MOST_POSITIONS][CLASSES];
} Record;

static bool record_step(void *ctx, int64_t done, int64_t total) {
  Record *r = ctx;
  for (int b = 0; b < COUNT; b++) memcpy(r->all[b][done - 1], r->logits + b * CLASSES, sizeof r->all[b][0]);
  return true;
}

static void say(const char *what) {
  Buffer text = {0};
  func_print(rig.func[0], &text);
  TEST_FAIL_("NUWA_DECODES=%llu: %s\n%s", (unsigned long long)gen.seed, what, text.data ? text.data : "");
  buffer_done(&text);
}

static void fill_session(NuwaSession *s, const Plan *p) {
  RigData data = {gen.seed, fit, NULL};
  int64_t n = 0;
  for (int i = 0; i < p->n_param; i++)
    if (plan_tensor_elems(&p->param[i].type, 0, 0, &n))
      rig_fill(&data, p->param[i].type.name, p->param[i].type.dtype, n, nuwa_param(s, p->param[i].type.name));
  EXPECT(nuwa_prepare(s));
  int prologue = p->decode[0].prologue;
  for (int i = 0; prologue >= 0 && i < p->function[prologue].n_in; i++) {
    const PlanTensor *t = &p->function[prologue].in[i];
    if (plan_tensor_elems(t, COUNT, 0, &n)) rig_fill(&data, t->name, t->dtype, n, nuwa_input(s, prologue, t->name));
  }
}

static void check_logits(const Record *r, const int32_t *tokens, int64_t positions, bool half) {
  RigData data = {gen.seed, fit, (void *)(uintptr_t)tokens};
  Arena *a = arena_new();
  Tensor want;
  Error err = {0};
  double most = 0, error = 0;
  Func *meaning = compile_meaning(&rig.model, "draw", half ? DTYPE_BF16 : DTYPE_F32, &err);
  if (!meaning || !rig_interp(meaning, &data, COUNT, 1, a, &want, NULL, &err)) say(err.text);
  for (int64_t i = 0; !err.code && i < COUNT * positions; i++)
    for (int c = 0; c < CLASSES; c++) {
      double w = want.data[i * CLASSES + c], got = (double)r->all[i / positions][i % positions][c];
      most = fmax(most, fabs(w));
      error = isfinite(w - got) ? fmax(error, fabs(w - got)) : INFINITY;
    }
  char text[100];
  snprintf(text, sizeof text, "%s: the step's logits are off by %g of %g", half ? "bf16" : "f32", error, most);
  if (error > (half ? 0.1 : 5e-5) * most) say(text);
  arena_free(a);
}

/* Without samples both halves run, or say what they need. */
static void check_nobody(NuwaSession *s, const Plan *p) {
  int half[] = {p->decode[0].prologue, p->decode[0].step};
  for (int i = 0; i < COUNT_OF(half); i++) {
    Error err = {0};
    bool runs = half[i] < 0 || p->function[half[i]].least_samples == 0;
    bool ran = half[i] < 0 || nuwa_run(s, half[i], 0, 0);
    if (ran != runs || (!ran && (nuwa_check(s, &err) || err.code != ERROR_ARGUMENT))) say("a batch of 0");
  }
}

static void check_drawing(const Plan *p, bool half) {
  static Record r;
  Error err = {0};
  int64_t positions = gen.grid[0] * gen.grid[1] * gen.grid[2];
  int32_t raster[COUNT * MOST_POSITIONS], wave[COUNT * MOST_POSITIONS];
  NuwaOptions o = {.threads = 1, .samples = COUNT, .rows = COUNT * positions, .ring_slots = positions};
  NuwaSession *s = nuwa_session_open(p, &o, &err);
  if (!s) {
    say(err.text);
    return;
  }
  fill_session(s, p);
  NuwaGenerate g = {.count = COUNT, .seed = 5, .guidance = 1, .raster = true, .sample = {.temperature = 1, .top_p = 1}};
  r.logits = nuwa_output(s, p->decode[0].step, "logits");
  bool ok = nuwa_generate(s, &g, raster, NULL, record_step, &r, &err);
  g.raster = false;
  ok = ok && nuwa_generate(s, &g, wave, NULL, NULL, NULL, &err);
  if (!ok) say(err.text);
  else if (memcmp(raster, wave, sizeof *wave * (size_t)(COUNT * positions)) != 0) say("the wavefront's tokens differ");
  else check_logits(&r, raster, positions, half);
  check_nobody(s, p);
  nuwa_session_close(s);
}

static void check_seed(uint64_t seed) {
  char name[40];
  snprintf(name, sizeof name, "NUWA_DECODES=%llu", (unsigned long long)seed);
  rig_blame(name);
  seed_of_next = seed;
  REQUIRE(rig_open(&rig) && rig_build(&rig, build) && rig.model.n_decode == 1, "%s: %s", name, rig.err.text);
  bool half = chance(&gen, 20);
  CompileOptions o = {.isa = isa_best(), .threads = 1, .precision = half ? DTYPE_BF16 : DTYPE_F32};
  Buffer bundle = {0};
  Plan *p = NULL;
  if (compile_model(&rig.model, &o, &bundle, &rig.err)) p = plan_read(bundle.data, bundle.len, "draw", &rig.err);
  buffer_done(&bundle);
  if (p) check_drawing(p, half);
  else say(rig.err.text);
  plan_free(p);
  rig_close(&rig);
}

static void campaign(uint64_t first, int count) {
  for (int i = 0; i < count; i++) check_seed(first + (uint64_t)i);
}

TEST("random functions over a grid draw the same in every order, with the logits of the teacher-forced function") {
  const char *text = getenv("NUWA_DECODES"), *colon = text ? strchr(text, ':') : NULL;
  if (text) campaign(strtoull(text, NULL, 10), colon ? atoi(colon + 1) : 1);
  else campaign(FIRST_SEED, USUAL);
}

LONG_TEST("so do a thousand") { campaign(1000000, MANY); }

TEST_MAIN()
