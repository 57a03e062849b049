/* Products by the cuBLASLt stand-in inside of plans, against own kernels: results, tokens, the same bits for any number
 * of rows; algorithms that vary are caught; what goes wrong. */
#include "runtime/base/hooks.h"
#include "runtime/cuda/blaslt.h"
#include "tests/gpu/pair.h"
#include "tests/test.h"

enum { OWN = ON_CPU, LIBRARY = ON_CUDA };   /* the sides of a pair, both on the emulated device */
static const double tolerance = 1e-4;       /* of the largest value */

static NuwaOptions options_of(int64_t samples, int64_t rows) {
  NuwaOptions o = pair_options(PLAN_CUDA, samples, rows);
  o.cuda.cublaslt = EMUBLASLT;
  return o;
}

static bool compile_in(Pair *p, const char *text, bool is_decode, DType precision) {
  CompileOptions own = {.device = PLAN_CUDA, .precision = precision}, library = own;
  library.cublaslt = true;
  return pair_parse_text(p, text, is_decode) && (p->plan[OWN] = pair_compile(p, own)) &&
         (p->plan[LIBRARY] = pair_compile(p, library));
}

static bool compile_pair(Pair *p, const char *text, bool is_decode) {
  return compile_in(p, text, is_decode, DTYPE_F32);
}

static bool open_pair(Pair *p, const char *text, int64_t samples) {
  if (!compile_pair(p, text, false)) return false;
  NuwaOptions o = options_of(samples, 1);
  for (int side = OWN; side <= LIBRARY; side++) {
    p->session[side] = nuwa_session_open(p->plan[side], &o, &p->err);
    if (!p->session[side] || !nuwa_init_weights(p->session[side], 7)) return false;
  }
  return true;
}

/* Launches of products in function f. */
static int count_products(const Plan *p, int f) {
  int n = 0;
  for (int i = 0; i < p->function[f].n_launch; i++) n += p->function[f].launch[i].kind == LAUNCH_PRODUCT;
  return n;
}

/* ---- functions ---- */

static const RigData data = {3, NULL, NULL};

#define PARAM(i, name, type) "  %" #i " = param() {name=\"" name "\", init=normal, scale=0.2} : " type "\n"

/* A bias; an epilogue that is split off; one that is not; a stored transpose on either side; a batch; a gradient. */
static const char layers[] =
    "func @a_bias(%x: f32[B,6,64]) {\n" PARAM(1, "w", "f32[64,48]") PARAM(2, "b", "f32[48]")
    "  %3 = matmul(%x, %1) {trans_a=0, trans_b=0} : f32[B,6,48]\n  %4 = broadcast(%2) : f32[B,6,48]\n"
    "  %5 = add(%3, %4) : f32[B,6,48]\n  return y = %5\n}\n"
    "func @b_split(%x: f32[B,6,256]) {\n" PARAM(1, "u", "f32[64,256]") PARAM(2, "c", "f32[64]")
    "  %3 = matmul(%x, %1) {trans_a=0, trans_b=1} : f32[B,6,64]\n  %4 = broadcast(%2) : f32[B,6,64]\n"
    "  %5 = add(%3, %4) : f32[B,6,64]\n  %6 = gelu(%5) : f32[B,6,64]\n  return y = %6, before = %3\n}\n"
    "func @c_own(%x: f32[B,6,64]) {\n" PARAM(1, "w", "f32[64,48]")
    "  %3 = matmul(%x, %1) {trans_a=0, trans_b=0} : f32[B,6,48]\n  %4 = gelu(%3) : f32[B,6,48]\n  return y = %4\n}\n"
    "func @d_small(%x: f32[B,64], %z: f32[B,37]) {\n" PARAM(1, "s", "f32[64,20]") PARAM(2, "t", "f32[37,64]")
    "  %3 = matmul(%x, %1) {trans_a=0, trans_b=0} : f32[B,20]\n"
    "  %4 = matmul(%z, %2) {trans_a=0, trans_b=0} : f32[B,64]\n  return y = %3, z = %4\n}\n"
    "func @e_batch(%x: f32[B,40,64], %y: f32[B,40,32]) {\n"
    "  %3 = matmul(%x, %y) {trans_a=1, trans_b=0} : f32[B,64,32]\n  return y = %3\n}\n"
    "func @f_gradient(%x: f32[B,6,64], %y: f32[B,6,48]) {\n"
    "  %1 = reshape(%x) : f32[6B,64]\n  %2 = reshape(%y) : f32[6B,48]\n"
    "  %3 = matmul(%1, %2) {trans_a=1, trans_b=0} : f32[64,48]\n  %4 = state() {name=\"sum\"} : f32[64,48]\n"
    "  %5 = add(%3, %4) : f32[64,48]\n  update %4 = %5\n  return y = %3\n}\n";

TEST("functions with products by the library give what own kernels give, for every B; the rule says which are") {
  static const struct { const char *name; int products; } wanted[] = {
      {"a_bias", 1}, {"b_split", 1}, {"c_own", 0}, {"d_small", 0}, {"e_batch", 1}, {"f_gradient", 1}};
  enum { SAMPLES = 3 };
  NEED_NVRTC();
  Pair p;
  bool ok = open_pair(&p, layers, SAMPLES);
  EXPECT(ok, "%s", p.err.text);
  for (int i = 0; ok && i < COUNT_OF(wanted); i++) {
    int f = plan_find_function(p.plan[LIBRARY], wanted[i].name), n = count_products(p.plan[LIBRARY], f);
    EXPECT(count_products(p.plan[OWN], f) == 0, "an own plan with products");
    EXPECT(n == wanted[i].products, "%s: %d products, not %d", wanted[i].name, n, wanted[i].products);
    for (int64_t B = p.plan[OWN]->function[f].least_samples; ok && B <= SAMPLES; B++) {
      ok = pair_run(&p, f, &data, B, 1);
      EXPECT(ok, "B=%d: %s", (int)B, p.err.text);
      double e = ok ? pair_error(&p, f, B, 1) : 0;
      EXPECT(e <= tolerance, "%s, B=%d: differs by %g of the largest", wanted[i].name, (int)B, e);
    }
  }
  float sum[2][64 * 48];
  for (int side = 0; ok && side < 2; side++)
    EXPECT(nuwa_read_state(p.session[side], "sum", sum[side], &p.err), "%s", p.err.text);
  EXPECT(!ok || pair_difference(DTYPE_F32, sum[0], sum[1], 64 * 48) <= tolerance, "the gradients' sum differs");
  pair_close(&p);
}

/* ---- bf16 ---- */

/* A bias; a function of the sum; k too small for either; a batch; a gradient.  A product, a sum and what follows are
 * each rounded: the library must not add a bias before its only rounding. */
static const char halves[] =
    "func @a_plain(%w: bf16[64,48], %x: bf16[B,6,64]) {\n"
    "  %1 = matmul(%x, %w) {trans_a=0, trans_b=0} : bf16[B,6,48]\n  return y = %1\n}\n"
    "func @b_bias(%c: bf16[64], %w: bf16[64,256], %x: bf16[B,6,256]) {\n"
    "  %1 = matmul(%x, %w) {trans_a=0, trans_b=1} : bf16[B,6,64]\n  %2 = broadcast(%c) : bf16[B,6,64]\n"
    "  %3 = add(%1, %2) : bf16[B,6,64]\n  return y = %3\n}\n"
    "func @c_more(%c: bf16[64], %w: bf16[64,256], %x: bf16[B,6,256]) {\n"
    "  %1 = matmul(%x, %w) {trans_a=0, trans_b=1} : bf16[B,6,64]\n  %2 = broadcast(%c) : bf16[B,6,64]\n"
    "  %3 = add(%1, %2) : bf16[B,6,64]\n  %4 = add(%3, %3) : bf16[B,6,64]\n  %5 = add(%4, %3) : bf16[B,6,64]\n"
    "  return before = %1, y = %5\n}\n"
    "func @d_own(%c: bf16[48], %w: bf16[64,48], %x: bf16[B,6,64]) {\n"
    "  %1 = matmul(%x, %w) {trans_a=0, trans_b=0} : bf16[B,6,48]\n  %2 = broadcast(%c) : bf16[B,6,48]\n"
    "  %3 = add(%1, %2) : bf16[B,6,48]\n  return y = %3\n}\n"
    "func @e_batch(%x: bf16[B,40,64], %z: bf16[B,40,32]) {\n"
    "  %1 = matmul(%x, %z) {trans_a=1, trans_b=0} : bf16[B,64,32]\n  return y = %1\n}\n"
    "func @f_gradient(%x: bf16[B,6,64], %z: bf16[B,6,48]) {\n"
    "  %1 = reshape(%x) : bf16[6B,64]\n  %2 = reshape(%z) : bf16[6B,48]\n"
    "  %3 = matmul(%1, %2) {trans_a=1, trans_b=0} : bf16[64,48]\n  return y = %3\n}\n";

/* Whole numbers, whose sums f32 holds exactly in any order and bf16 does not; a bias that shows where it is added. */
static double whole(void *ctx, const char *name, int64_t i, double x) {
  return strcmp(name, "c") == 0 ? (double)(i % 9) * 1.75 : (double)((i * i + 3 * i) % 15) - 4;
}
static const RigData numbers = {3, whole, NULL};

/* Every output of both sides has the interpreter's bits. */
static void check_bits(Pair *p, int f, int64_t B) {
  const Func *func = p->model.func[f];
  const PlanFunction *pf = &p->plan[LIBRARY]->function[f];
  Arena *a = arena_new();
  Tensor out[4];
  bool ok = a && rig_interp(func, &numbers, B, 1, a, out, NULL, &p->err);
  EXPECT(ok, "%s", p->err.text);
  for (int side = OWN; ok && side <= LIBRARY; side++)
    for (int i = 0; i < pf->n_out; i++) {
      double e = rig_error(&pf->out[i], nuwa_output(p->session[side], f, pf->out[i].name), &out[i]);
      EXPECT(e == 0, "%s, side %d, B=%d: %s is off by %g of the largest", pf->name, side, (int)B, pf->out[i].name, e);
    }
  arena_free(a);
}

TEST("products of bf16 are rounded once and what follows again, as the ops say") {
  static const int products[] = {1, 1, 1, 0, 1, 1};
  NEED_NVRTC();
  Pair p;
  bool ok = open_pair(&p, halves, 3);
  EXPECT(ok, "%s", p.err.text);
  for (int f = 0; ok && f < COUNT_OF(products); f++) {
    int n = count_products(p.plan[LIBRARY], f);
    EXPECT(n == products[f], "%s: %d products, not %d", p.plan[LIBRARY]->function[f].name, n, products[f]);
    for (int64_t B = 1; ok && B <= 3; B++) {
      ok = pair_run(&p, f, &numbers, B, 1);
      EXPECT(ok, "B=%d: %s", (int)B, p.err.text);
      if (ok) check_bits(&p, f, B);
    }
  }
  for (int i = 0; ok && i < p.plan[LIBRARY]->n_product; i++) {
    const PlanProduct *x = &p.plan[LIBRARY]->product[i];
    EXPECT(x->in == DTYPE_BF16 && x->out == DTYPE_BF16 && !x->bias, "product %d: %s to %s", i, dtype_name(x->in),
           dtype_name(x->out));
  }
  pair_close(&p);
}

TEST("--explain says of every product who computes it and why") {
  Pair p;
  Buffer text = {0};
  Lowered lowered;
  EXPECT(pair_parse_text(&p, layers, false), "%s", p.err.text);
  CompileOptions o = {.device = PLAN_CUDA, .cublaslt = true, .explain = &text};
  bool ok = compile_lower(&p.model, &o, &lowered, &p.err);
  lowered_done(&lowered);
  REQUIRE(ok, "%s", p.err.text);
  EXPECT(strstr(text.data, "cuBLASLt, 1 x 6B x 48 x 64 (batch, m, n, k), with the bias"), "%s", text.data);
  EXPECT(strstr(text.data, "ends: the product is the library's, what follows a map kernel"), "%s", text.data);
  EXPECT(strstr(text.data, "an own kernel: what follows is more than a bias, and k too small"), "%s", text.data);
  EXPECT(strstr(text.data, "an own kernel: it is too small"), "%s", text.data);
  EXPECT(strstr(text.data, "an own kernel: rows of an operand are no multiple of 16 bytes"), "%s", text.data);
  EXPECT(strstr(text.data, "cuBLASLt, B x 64 x 32 x 40"), "%s", text.data);
  EXPECT(strstr(text.data, "cuBLASLt, 1 x 64 x 48 x 6B"), "%s", text.data);
  buffer_done(&text);
  graph_free(p.model.graph);
}

TEST("a profile times products, running allocates nothing") {
  NEED_NVRTC();
  Pair p;
  bool ok = open_pair(&p, layers, 2);
  EXPECT(ok && pair_run(&p, 0, &data, 2, 1) && pair_run(&p, 0, &data, 1, 1), "%s", p.err.text);
  uint64_t count = mem_alloc_count();
  size_t before = 0, after = 1, total;
  cuMemGetInfo_v2(&before, &total);
  for (int64_t B = 1; ok && B <= 2; B++) ok = nuwa_run(p.session[LIBRARY], 0, B, 1);
  cuMemGetInfo_v2(&after, &total);
  EXPECT(ok && mem_alloc_count() == count && before == after, "running allocates");
  EXPECT(ok && nuwa_profile_start(p.session[LIBRARY], &p.err) && nuwa_run(p.session[LIBRARY], 0, 2, 1), "%s", p.err.text);
  EXPECT(ok && nuwa_profile_ns(p.session[LIBRARY], 0, 0) > 0, "the product took no time");
  pair_close(&p);
}

/* ---- decoding ---- */

enum { POSITIONS = 24, VOCAB = 32, COUNT = 2 };

/* Attention over what is to the left and above, a wide layer behind it, logits by a product. */
#define GRID "f32[B,2,3,4,32]\n"
#define WIDE "f32[B,2,3,4,256]\n"
static const char model[] =
    "func @paint(%tokens: i32[B,2,3,4], %cond: f32[B,5,1,1,32]) {\n" PARAM(1, "embedding", "f32[32,32]")
    "  %2 = gather(%1, %tokens) : " GRID PARAM(3, "start", "f32[32]")
    "  %4 = shift(%2, %3) {delta=[0,0,-1], raster=0} : " GRID
    "  %5 = shift(%2, %3) {delta=[0,-1,0], raster=0} : " GRID
    "  %6 = sub(%4, %5) : " GRID
    "  %7 = attend(%6, %6, %6) {heads=2, kind=nearby, lo=[-1,-1,-1], hi=[1,1,1], block=[0,0,0], edge=clip, "
    "causal=raster, query_grid=[2,3,4], key_grid=[2,3,4]} : " GRID
    "  %8 = attend(%7, %cond, %cond) {heads=2, kind=full, lo=[-inf,-inf,-inf], hi=[inf,inf,inf], block=[0,0,0], "
    "edge=clip, causal=none, query_grid=[2,3,4], key_grid=[5,1,1]} : " GRID
    "  %9 = add(%7, %8) : " GRID
    PARAM(10, "w1", "f32[256,32]") PARAM(11, "b1", "f32[256]") PARAM(12, "w2", "f32[32,256]")
    "  %13 = matmul(%9, %10) {trans_a=0, trans_b=1} : " WIDE "  %14 = broadcast(%11) : " WIDE
    "  %15 = add(%13, %14) : " WIDE
    "  %16 = matmul(%15, %12) {trans_a=0, trans_b=1} : " GRID "  %17 = add(%16, %9) : " GRID
    PARAM(18, "w3", "f32[32,32]") "  %19 = matmul(%17, %18) {trans_a=0, trans_b=0} : " GRID
    "  return logits = %19\n}\n";

static NuwaSession *open_decoder(Pair *p, const Plan *plan, int64_t samples, int64_t rows, bool direct) {
  NuwaOptions o = options_of(samples, rows);
  o.cuda.direct = direct;
  o.ring_slots = POSITIONS;
  NuwaSession *s = nuwa_session_open(plan, &o, &p->err);
  if (!s || !nuwa_init_weights(s, 7)) return NULL;
  rig_fill(&data, "cond", DTYPE_F32, samples * 5 * 32, nuwa_input(s, plan->decode[0].prologue, "cond"));
  return s;
}

static bool draw(NuwaSession *s, int64_t count, bool raster, int32_t *tokens) {
  Error err;
  NuwaGenerate g = {.count = count, .seed = 5, .guidance = 1, .raster = raster};
  bool ok = s && nuwa_generate(s, &g, tokens, NULL, NULL, NULL, &err);
  EXPECT(ok, "%s", s ? err.text : "no session");
  return ok;
}

static const struct { int64_t samples, rows; bool direct; } opened[] = {
    {COUNT, COUNT * POSITIONS, false}, {COUNT, COUNT * POSITIONS, true}, {COUNT, COUNT + 1, false}, {1, 1, false},
    {1, POSITIONS, false}};

/* Sessions of the library's plan draw `want`, or where that is NULL all the same. */
static void check_draws(Pair *p, const int32_t *want) {
  int32_t first[COUNT * POSITIONS], got[COUNT * POSITIONS];
  for (int i = 0; i < COUNT_OF(opened); i++) {
    NuwaSession *s = open_decoder(p, p->plan[LIBRARY], opened[i].samples, opened[i].rows, opened[i].direct);
    for (int raster = 0; s && raster < 2; raster++) {
      if (!draw(s, opened[i].samples, raster, got)) continue;
      if (!want) want = memcpy(first, got, sizeof first);
      size_t bytes = sizeof *got * POSITIONS * (size_t)opened[i].samples;
      EXPECT(!memcmp(want, got, bytes), "session %d, raster %d", i, raster);
    }
    EXPECT(s, "%s", p->err.text);
    nuwa_session_close(s);
  }
}

TEST("greedy tokens are those of own kernels, for any batch, order and number of rows, replayed and direct") {
  NEED_NVRTC();
  Pair p;
  int32_t want[COUNT * POSITIONS];
  REQUIRE(compile_pair(&p, model, true), "%s", p.err.text);
  EXPECT(count_products(p.plan[LIBRARY], p.plan[LIBRARY]->decode[0].step) == 3, "not all products are the library's");
  NuwaSession *own = open_decoder(&p, p.plan[OWN], COUNT, COUNT * POSITIONS, false);
  REQUIRE(own && draw(own, COUNT, false, want), "%s", p.err.text);
  nuwa_session_close(own);
  check_draws(&p, want);
  pair_close(&p);
}

TEST("in bf16 too greedy tokens are the same for any batch, order and number of rows") {
  NEED_NVRTC();
  Pair p;
  REQUIRE(compile_in(&p, model, true, DTYPE_BF16), "%s", p.err.text);
  EXPECT(count_products(p.plan[LIBRARY], p.plan[LIBRARY]->decode[0].step) == 2, "%d products are the library's",
         count_products(p.plan[LIBRARY], p.plan[LIBRARY]->decode[0].step));
  check_draws(&p, NULL);
  pair_close(&p);
}

/* Logits of a step on R equal-looking rows of different positions, the first `n` of them. */
static bool step_logits(NuwaSession *s, const Plan *plan, int64_t R, int64_t n, float *out) {
  int step = plan->decode[0].step;
  int32_t *rows = nuwa_input(s, step, "rows"), *row_slot = nuwa_input(s, step, "row_slot"),
          *slots = nuwa_input(s, step, "slots");
  for (int64_t i = 0; i < R; i++) {
    rows[2 * i] = 0;
    rows[2 * i + 1] = (int32_t)(i % POSITIONS);
    if (row_slot) row_slot[i] = (int32_t)(i % POSITIONS);
  }
  for (int i = 0; slots && i < POSITIONS; i++) slots[i] = i;
  if (!nuwa_run(s, plan->decode[0].prologue, 1, 0) || !nuwa_run(s, step, 1, R)) return false;
  memcpy(out, nuwa_output(s, step, "logits"), sizeof *out * (size_t)(n * VOCAB));
  return true;
}

enum { FEW = 8, MANY = 64, MANY_MORE = 512 };

/* The same rows among FEW and among more, by the plan as it is with `few` and with `many` pinned for every product;
 * NULL: a session's own choice. */
static bool same_bits(Pair *p, const char *few, const char *many, int64_t more) {
  Plan *plan = p->plan[LIBRARY];
  float logits[2][FEW * VOCAB];
  bool ok = true;
  for (int i = 0; ok && i < 2; i++) {
    const char *pin = i ? many : few;
    for (int k = 0; k < plan->n_product; k++) plan->product[k].algorithm = pin ? pin : "";
    NuwaSession *s = open_decoder(p, plan, 1, i ? more : FEW, true);
    ok = s && step_logits(s, plan, i ? more : FEW, FEW, logits[i]);
    EXPECT(ok, "%s", p->err.text);
    nuwa_session_close(s);
  }
  return ok && memcmp(logits[0], logits[1], sizeof logits[0]) == 0;
}

/* What the library would take for a product of m rows alone. */
static bool choose_for(int64_t m, int64_t n, int64_t k, char out[BLASLT_TEXT_BYTES]) {
  Error err;
  BlasLtAlgo algo;
  size_t workspace;
  BlasLtForm f = {.in = DTYPE_F32, .out = DTYPE_F32, .transpose_b = true, .align_a = 64, .align_b = 64, .align_c = 64,
                  .align_bias = 64};
  BlasLtShape s = {.m = m, .n = n, .k = k, .lda = k, .ldb = k, .ldc = n, .batch = 1};
  BlasLt *lt = blaslt_open(EMUBLASLT, &err);
  bool ok = lt && blaslt_choose(lt, &f, &s, 1, (size_t)32 << 20, &algo, &workspace, &err);
  if (ok) blaslt_algo_print(&algo, out);
  blaslt_close(lt);
  EXPECT(ok, "%s", err.text);
  return ok;
}

TEST("a row has the same bits in buckets of 8, 64 and 512; an algorithm for one bucket alone is caught") {
  NEED_NVRTC();
  Pair p;
  char few[BLASLT_TEXT_BYTES], many[BLASLT_TEXT_BYTES];
  REQUIRE(compile_pair(&p, model, true), "%s", p.err.text);
  EXPECT(same_bits(&p, NULL, NULL, MANY) && same_bits(&p, NULL, NULL, MANY_MORE), "the bits depend on the number of rows");
  REQUIRE(choose_for(FEW, 256, 32, few) && choose_for(MANY_MORE, 256, 32, many), "no choice");
  EXPECT(strcmp(few, many) != 0, "the stand-in takes \"%s\" for every number of rows: nothing to catch", few);
  EXPECT(same_bits(&p, few, few, MANY_MORE), "a pinned algorithm varies");
  snprintf(many, sizeof many, "%.*s algo 0 tile 5 stages 0 swizzle 0 custom 0 inner 0 cluster 0",
           (int)(strstr(few, " algo") - few), few);
  EXPECT(strcmp(few, many) != 0 && same_bits(&p, many, many, MANY), "%s and %s", few, many);
  EXPECT(!same_bits(&p, few, many, MANY), "two algorithms gave the same bits");
  pair_close(&p);
}

TEST("in bf16 too a row has the same bits in buckets of 8, 64 and 512") {
  NEED_NVRTC();
  Pair p;
  REQUIRE(compile_in(&p, model, true, DTYPE_BF16), "%s", p.err.text);
  EXPECT(same_bits(&p, NULL, NULL, MANY) && same_bits(&p, NULL, NULL, MANY_MORE), "the bits depend on how many");
  pair_close(&p);
}

TEST("an algorithm that does not serve every number of rows is refused") {
  NEED_NVRTC();
  Pair p;
  char many[BLASLT_TEXT_BYTES];
  REQUIRE(compile_pair(&p, model, true) && choose_for(MANY_MORE, 256, 32, many), "%s", p.err.text);
  p.plan[LIBRARY]->product[0].algorithm = many;
  EXPECT(!open_decoder(&p, p.plan[LIBRARY], 1, MANY_MORE, true), "%s was taken", many);
  EXPECT(strstr(p.err.text, "product 0 of this plan") && strstr(p.err.text, "needs 32 columns"), "%s", p.err.text);
  pair_close(&p);
}

/* ---- bundles ---- */

TEST("a bundle keeps products and the algorithms that were pinned; a pin that does not fit is refused") {
  NEED_NVRTC();
  Pair p;
  Buffer bytes = {0};
  REQUIRE(compile_pair(&p, model, true), "%s", p.err.text);
  Plan *plan = p.plan[LIBRARY], *back = NULL;
  NuwaSession *s = open_decoder(&p, plan, 1, FEW, true);
  REQUIRE(s, "%s", p.err.text);
  for (int i = 0; i < plan->n_product; i++) {
    plan->product[i].algorithm = arena_strdup(plan->arena, nuwa_product_algorithm(s, i));
    EXPECT(strncmp(plan->product[i].algorithm, "cublaslt ", 9) == 0, "%s", plan->product[i].algorithm);
  }
  nuwa_session_close(s);
  EXPECT(plan_write(plan, &bytes, &p.err) && (back = plan_read(bytes.data, bytes.len, "bundle", &p.err)), "%s", p.err.text);
  REQUIRE(back && back->n_product == plan->n_product && back->n_product == 3, "products are lost");
  for (int i = 0; i < plan->n_product; i++)
    EXPECT(strcmp(back->product[i].algorithm, plan->product[i].algorithm) == 0, "%s", back->product[i].algorithm);
  EXPECT((s = open_decoder(&p, back, 1, FEW, true)), "%s", p.err.text);
  nuwa_session_close(s);
  back->product[1].algorithm = "cublaslt 1 algo 4 tile 15 stages 8 swizzle 0 custom 0 inner 0 cluster 0";
  EXPECT(!open_decoder(&p, back, 1, FEW, true), "an algorithm of another version was taken");
  EXPECT(strstr(p.err.text, "product 1 of this plan") && strstr(p.err.text, "chosen by cuBLASLt 1"), "%s", p.err.text);
  plan_free(back);
  buffer_done(&bytes);
  pair_close(&p);
}

/* ---- what goes wrong ---- */

TEST("a missing cuBLASLt: the error names the file and the options; a plan without products needs none") {
  NEED_NVRTC();
  Pair p;
  REQUIRE(compile_pair(&p, layers, false), "%s", p.err.text);
  NuwaOptions o = options_of(1, 1);
  o.cuda.cublaslt = "/nowhere/libcublasLt.so";
  NuwaSession *s = nuwa_session_open(p.plan[LIBRARY], &o, &p.err);
  EXPECT(!s && strstr(p.err.text, "--cublaslt") && strstr(p.err.text, "--products own") &&
             strstr(p.err.text, "/nowhere/libcublasLt.so"), "%s", p.err.text);
  nuwa_session_close(s);
  s = nuwa_session_open(p.plan[OWN], &o, &p.err);
  EXPECT(s, "%s", p.err.text);
  nuwa_session_close(s);
  pair_close(&p);
}

TEST("every allocation of opening a session with products may fail") {
  NEED_NVRTC();
  Pair p;
  REQUIRE(compile_pair(&p, layers, false), "%s", p.err.text);
  NuwaOptions o = options_of(1, 1);
  int failures = 0;
  for (uint64_t n = 1;; n++, failures++) {
    Error err = {0};
    mem_fail_at(n);
    NuwaSession *s = nuwa_session_open(p.plan[LIBRARY], &o, &err);
    mem_fail_at(0);
    nuwa_session_close(s);
    if (s) break;
    EXPECT(err.code == ERROR_MEMORY, "allocation %d: %s", (int)n, err.text);
  }
  EXPECT(failures > 5, "%d allocations", failures);
  pair_close(&p);
}

static PlanLaunch *first_product(Plan *p, int f) {
  for (int i = 0; i < p->function[f].n_launch; i++)
    if (p->function[f].launch[i].kind == LAUNCH_PRODUCT) return &p->function[f].launch[i];
  return NULL;
}

/* What damage does to the launch of a_bias, m = 6B, n = 48, k = 64. */
static void no_product(Plan *p, PlanLaunch *l) { l->product = p->n_product; }
static void other_kernel(Plan *p, PlanLaunch *l) { l->kind = LAUNCH_KERNEL, l->kernel = -1; }
static void lost_operand(Plan *p, PlanLaunch *l) { l->n_ref--; }
static void factors(Plan *p, PlanLaunch *l) { l->n_factor = 1, l->factor[0] = (PlanFactor){dim_const(1), 1}; }
static void more_rows(Plan *p, PlanLaunch *l) { l->shape.m.b++; }
static void constant_row(Plan *p, PlanLaunch *l) { l->shape.m.c++; }
static void more_columns(Plan *p, PlanLaunch *l) { l->shape.n.c++; }
static void more_k(Plan *p, PlanLaunch *l) { l->shape.k.c++; }
static void symbolic_k(Plan *p, PlanLaunch *l) { l->shape.k.b++; }
static void symbolic_n(Plan *p, PlanLaunch *l) { l->shape.n = (Dim){0, 48, 0}; }
static void negative(Plan *p, PlanLaunch *l) { l->shape.k.c = -64; }
static void nothing(Plan *p, PlanLaunch *l) { l->shape.k.c = 0; }
static void huge(Plan *p, PlanLaunch *l) { l->shape.m.b = l->shape.batch.c = (int64_t)1 << 46; }
static void batch(Plan *p, PlanLaunch *l) { l->shape.batch.c = 2; }
static void mixed(Plan *p, PlanLaunch *l) { l->shape.m.r = 1; }
static void onto_itself(Plan *p, PlanLaunch *l) { l->ref[3] = l->ref[0]; }
static void onto_weight(Plan *p, PlanLaunch *l) { l->ref[3] = l->ref[1], l->shape.m = dim_const(1); }
static void types(Plan *p, PlanLaunch *l) { p->product[l->product].out = DTYPE_I32; }
static void bf16_bias(Plan *p, PlanLaunch *l) { p->product[l->product].in = p->product[l->product].out = DTYPE_BF16; }
static void bad_text(Plan *p, PlanLaunch *l) { p->product[l->product].algorithm = "cublaslt x"; }
static void transposed(Plan *p, PlanLaunch *l) { p->product[l->product].transpose_a = true; }
static void no_bias(Plan *p, PlanLaunch *l) { p->product[l->product].bias = false; }
static void for_cpu(Plan *p, PlanLaunch *l) { p->device = PLAN_CPU; }

TEST("damaged launches of products are refused, in memory and in a bundle") {
  static void (*const damage[])(Plan *, PlanLaunch *) = {
      no_product, other_kernel, lost_operand, factors, more_rows, constant_row, more_columns, more_k, symbolic_k,
      symbolic_n, negative, nothing, huge, batch, mixed, onto_itself, onto_weight, types, bf16_bias, bad_text, transposed,
      no_bias, for_cpu};
  NEED_NVRTC();
  Pair p;
  REQUIRE(compile_pair(&p, layers, false), "%s", p.err.text);
  Buffer whole = {0};
  REQUIRE(plan_write(p.plan[LIBRARY], &whole, &p.err), "%s", p.err.text);
  for (int i = -1; i < COUNT_OF(damage); i++) {
    Error err = {0};
    Plan *plan = plan_read(whole.data, whole.len, "case", &err);
    PlanLaunch *l = plan ? first_product(plan, 0) : NULL;
    REQUIRE(l, "%s", err.text);
    if (i >= 0) damage[i](plan, l);
    EXPECT(plan_check(plan, &err) == (i < 0), "damage %d", i);
    Buffer bytes = {0};
    Error read_err = {0};
    EXPECT(plan_write(plan, &bytes, &err), "damage %d: %s", i, err.text);
    Plan *back = plan_read(bytes.data, bytes.len, "case", &read_err);
    EXPECT((back != NULL) == (i < 0), "damage %d was read back", i);
    plan_free(back);
    plan_free(plan);
    buffer_done(&bytes);
  }
  buffer_done(&whole);
  pair_close(&p);
}

TEST_MAIN()
