/* Of whichever legal parameters it is given a loop nest makes a kernel with the same bits. */
#include "passes/passes.h"
#include "tests/unit/codegen/lower_check.h"

#define BOX "heads=2, kind=nearby, lo=[-1,-1,-1], hi=[1,1,1], block=[0,0,0], edge=clip, causal=raster, "                  \
            "query_grid=[2,3,4], key_grid=[2,3,4]"

static const char *const functions[] = {
    "func @f(%x: f32[B,24,20], %b: f32[20]) {\n  %1 = broadcast(%b) : f32[B,24,20]\n  %2 = add(%x, %1) : f32[B,24,20]\n"
    "  %3 = exp(%2) : f32[B,24,20]\n  return y = %3\n}\n",
    "func @f(%x: f32[2,9,17,8]) {\n  %1 = neg(%x) : f32[2,9,17,8]\n"
    "  %2 = transpose(%1) {perm=[0,3,2,1]} : f32[2,8,17,9]\n  return y = %2\n}\n",
    "func @f(%x: f32[3,300], %y: f32[3,300]) {\n  %1 = mul(%x, %y) : f32[3,300]\n  %2 = add(%1, %x) : f32[3,300]\n"
    "  return y = %2\n}\n",
    "func @f(%x: f32[B,33]) {\n  %1 = max(%x) {axes=[1]} : f32[B]\n  %2 = reshape(%1) : f32[B,1]\n"
    "  %3 = broadcast(%2) : f32[B,33]\n  %4 = sub(%x, %3) : f32[B,33]\n  %5 = exp(%4) : f32[B,33]\n"
    "  %6 = sum(%5) {axes=[1]} : f32[B]\n  %7 = reshape(%6) : f32[B,1]\n  %8 = broadcast(%7) : f32[B,33]\n"
    "  %9 = div(%5, %8) : f32[B,33]\n  return y = %9\n}\n",
    "func @f(%x: f32[B,21,45]) {\n  %1 = mul(%x, %x) : f32[B,21,45]\n  %2 = sum(%1) {axes=[1]} : f32[B,45]\n"
    "  return y = %2\n}\n",
    "func @f(%x: f32[7,3]) {\n  %1 = argmax(%x) {axis=0} : i32[3]\n  return y = %1\n}\n",
    "func @f(%t: i32[B,7], %x: f32[B,7,70]) {\n  %1 = scatter_add(%t, %x) {rows=9} : f32[9,70]\n  return y = %1\n}\n",
    "func @f(%ring: f32[9,B,20], %slot: i32[1], %x: f32[1,B,20]) {\n  %1 = ring_write(%ring, %slot, %x) : f32[9,B,20]\n"
    "  return y = %1\n}\n",
    "func @f(%a: f32[7B,37], %b: f32[37,50]) {\n  %1 = matmul(%a, %b) {trans_a=0, trans_b=0} : f32[7B,50]\n"
    "  return y = %1\n}\n",
    "func @f(%a: f32[7B,33], %b: f32[5,33]) {\n  %1 = matmul(%a, %b) {trans_a=0, trans_b=1} : f32[7B,5]\n"
    "  %2 = exp(%1) : f32[7B,5]\n  return y = %2\n}\n",
    "func @f(%a: bf16[7B,34], %b: bf16[34,40]) {\n  %1 = matmul(%a, %b) {trans_a=0, trans_b=0} : bf16[7B,40]\n"
    "  return y = %1\n}\n",
    "func @f(%x: f32[B,6,7,3], %w: f32[3,3,3,20]) {\n  %1 = conv2d(%x, %w) {stride=1, kh=0, kw=0} : f32[B,4,5,20]\n"
    "  return y = %1\n}\n",
    "func @f(%q: f32[B,2,3,4,40], %k: f32[B,2,3,4,40], %v: f32[B,2,3,4,40]) {\n  %1 = attend(%q, %k, %v) {" BOX "} : "
    "f32[B,2,3,4,40]\n  return y = %1\n}\n",
};

/* The targets, and which of them sum bf16 alike. */
static Target target_number(int i) {
  static const Isa isa[] = {ISA_PLAIN, ISA_AVX2, ISA_AVX512};
  return i < COUNT_OF(isa) ? target_of(isa[i]) : target_cuda(i == COUNT_OF(isa) ? 75 : 90);
}
enum { TARGETS = 5 };

typedef struct Trial {
  Check c;
  Target target;
  Arena *arena;              /* of one kernel */
  const Params *params;
  void *want[64], *got[64], *first[64];
  bool ok;
} Trial;

static size_t bytes_of(const Check *c, int i) {
  const Group *g = &c->group;
  const Node *n = i < g->n_in ? g->in[i] : g->out[i - g->n_in];
  return (size_t)check_elems(n, c->B, c->R) * dtype_bytes(n->type.dtype);
}

static void try_body(void *ctx) {
  Trial *t = ctx;
  Kernel *k = lower_group(t->arena, &t->c.group, &t->target, t->params, "k", &t->c.err);
  if (k) t->ok = kir_interpret(k, t->got, t->c.B, t->c.R, &t->c.err);
}

/* A kernel with these parameters gives the wanted bits, or the first ones. */
static void expect_same(Trial *t, const Params *p, bool is_first) {
  const Group *g = &t->c.group;
  Buffer text = {0};
  for (int i = g->n_in; i < g->n_in + g->n_out; i++) memcpy(t->got[i], t->first[i], bytes_of(&t->c, i));
  t->params = p;
  t->ok = false;
  t->arena = arena_new();
  bool within = arena_protect(t->arena, try_body, t, &t->c.err);
  arena_free(t->arena);
  params_print(p, &text);
  EXPECT(within && t->ok, "%s: %s\n%s", text.data, t->c.err.text, t->c.text);
  for (int i = g->n_in; is_first && i < g->n_in + g->n_out; i++) memcpy(t->want[i], t->got[i], bytes_of(&t->c, i));
  EXPECT(check_same_bits(&t->c, t->got, t->want), "%s has other bits\n%s", text.data, t->c.text);
  buffer_done(&text);
}

/* Every value of every field, the others as in p: legal ones give the same bits, the others are refused by name. */
static int vary(Trial *t, const Params *p) {
  int n_legal = 0;
  for (int f = 0; f < params_fields(p->kind); f++) {
    const int *values;
    int n = params_field_values(p->kind, f, &values);
    for (int v = 0; v < n; v++) {
      Params x = *p;
      Error err = {0};
      x.value[f] = values[v];
      if (params_equal(&x, p)) continue;
      if (params_is_legal(&t->c.group, &t->target, &x, &err)) {
        n_legal++;
        if (test_is_long || n_legal % 8 == 0) expect_same(t, &x, false);
        continue;
      }
      EXPECT_HAS(err.text, "parameters of ");
      EXPECT(strchr(err.text, '=') != NULL, "no field is named: %s", err.text);
    }
  }
  return n_legal;
}

/* Some of all legal parameters, evenly: they are legal, in order, and give the same bits. */
static void enumerate(Trial *t, const Params *usual) {
  const Group *g = &t->c.group;
  int64_t n = 0, most = test_is_long ? 400 : 4, found = 0;
  Params p;
  for (bool ok = params_first(g, &t->target, &p); ok; ok = params_next(g, &t->target, &p)) {
    n++;
    found += params_equal(&p, usual);
  }
  EXPECT(found == 1, "the default is %d times among %d legal ones\n%s", (int)found, (int)n, t->c.text);
  int64_t step = n / most + 1, i = 0;
  for (bool ok = params_first(g, &t->target, &p); ok; ok = params_next(g, &t->target, &p), i++) {
    Error err = {0};
    if (i % step != step / 2) continue;
    EXPECT(params_is_legal(g, &t->target, &p, &err), "%s", err.text);
    expect_same(t, &p, false);
  }
}

static void try_target(Trial *t, int target, bool is_first) {
  Params usual;
  t->target = target_number(target);
  if (!params_default(t->c.graph->arena, &t->c.group, &t->target, &usual, &t->c.err)) return;
  bool is_legal = params_is_legal(&t->c.group, &t->target, &usual, &t->c.err);
  EXPECT(is_legal, "the default is refused: %s\n%s", t->c.err.text, t->c.text);
  expect_same(t, &usual, is_first);
  EXPECT(vary(t, &usual) > 0, "nothing can be chosen\n%s", t->c.text);
  enumerate(t, &usual);
  t->c.ran = true;
}

static void legal_body(void *ctx) {
  Trial *t = ctx;
  Check *c = &t->c;
  Program *p = pass_fuse(c->func);
  EXPECT(p && p->n_group == 1, "%d groups\n%s", p ? p->n_group : 0, c->text);
  if (!p || p->n_group != 1) return;
  c->group = p->group[0];
  check_args(c, t->want);
  check_args(c, t->got);
  check_args(c, t->first);
  bool is_bf16 = c->group.anchor->type.dtype == DTYPE_BF16;
  for (int i = 0; i < TARGETS; i++) {
    bool is_mma = is_bf16 && target_number(i).capability >= 80;   /* sums in another order */
    if (test_is_long || i != 0) try_target(t, i, c->ran == false || is_mma);
  }
}

static void expect_all(int from, int to) {
  for (int i = from; i < to; i++) {
    Trial t = {.c = {.text = functions[i], .B = 2, .R = 1}};
    t.c.graph = graph_new(&t.c.err);
    bool ok = arena_protect(t.c.graph->arena, check_parse, &t.c, &t.c.err) && t.c.func &&
              arena_protect(t.c.graph->arena, legal_body, &t, &t.c.err) && t.c.ran;
    EXPECT(ok, "%s\n%s", t.c.err.text, functions[i]);
    check_done(&t.c);
  }
}

WIDE_TEST("map: the default is legal, and all legal parameters give the same bits") { expect_all(0, 3); }
WIDE_TEST("reduce: the default is legal, and all legal parameters give the same bits") { expect_all(3, 6); }
WIDE_TEST("scatter: the default is legal, and all legal parameters give the same bits") { expect_all(6, 8); }
WIDE_TEST("contract: the default is legal, and all legal parameters give the same bits") { expect_all(8, 12); }
WIDE_TEST("attend: the default is legal, and all legal parameters give the same bits") { expect_all(12, 13); }

typedef struct Refusal {
  int function;
  bool on_gpu;
  const char *params, *want;
} Refusal;

static const Refusal refusals[] = {
    {0, false, "reduce columns=0 vectors=1 kept=0 unroll=1 start_unroll=1 end_unroll=1 grain=16384",
     "parameters of reduce are given, this group on this target takes those of map"},
    {0, false, "map split=5 quads=0 tile=0 steps=1 vectors=8 groups=1 unroll=1 steps_unroll=1 grain=16384",
     "parameters of map: split=5: there are 3 axes"},
    {0, false, "map split=0 quads=1 tile=0 steps=1 vectors=1 groups=8 unroll=1 steps_unroll=1 grain=16384",
     "parameters of map: quads=1: it must be 0: only GPUs have blocks"},
    {1, false, "map split=1 quads=0 tile=3 steps=8 vectors=8 groups=1 unroll=1 steps_unroll=1 grain=16384",
     "parameters of map: tile=3: its axis stands before split, which is 1"},
    {3, false, "reduce columns=1 vectors=1 kept=0 unroll=1 start_unroll=1 end_unroll=1 grain=16384",
     "parameters of reduce: columns=1: it must be 0: no kept axis"},
    {6, false, "scatter block=1 vectors=8 groups=8 scan=1 unroll=1 grain=16384",
     "parameters of scatter: block=1: it must be 0"},
    {8, false, "contract tile_m=4 tile_n=2 tile_k=64 block_m=1 pack_b=0 unroll=1 widen_unroll=1",
     "parameters of contract: tile_k=64: it must be less than k, which is 37"},
    {9, false, "contract tile_m=4 tile_n=2 tile_k=32 block_m=1 pack_b=0 unroll=1 widen_unroll=1",
     "parameters of contract: tile_k=32: it must be 0: only a f32 product without an epilogue"},
    {8, true, "contract_gpu swap=1 tile_m=8 tile_n=1 block_m=1 block_n=8 tile_k=16 stages=1 unroll=1 resident=0",
     "parameters of contract_gpu: tile_m=8: rows run along lanes (swap=1) only where"},
    {8, true, "contract_gpu swap=0 tile_m=8 tile_n=8 block_m=16 block_n=1 tile_k=128 stages=8 unroll=1 resident=0",
     "parameters of contract_gpu: stages=8: 8 stages and results need "},
    {8, true, "contract_gpu swap=0 tile_m=8 tile_n=4 block_m=8 block_n=1 tile_k=64 stages=1 unroll=1 resident=8",
     "parameters of contract_gpu: resident=8: blocks of "},
    {8, true, "contract_gpu swap=0 tile_m=4 tile_n=2 block_m=32 block_n=1 tile_k=16 stages=1 unroll=1 resident=8",
     "parameters of contract_gpu: resident=8: 4096 threads are more than a multiprocessor's 2048"},
    {0, true, "map split=0 quads=0 tile=0 steps=1 vectors=4 groups=1 unroll=1 steps_unroll=1 grain=4096",
     "parameters of map: grain=4096: it must be 16384 on a GPU"},
};

static void default_body(void *ctx) {
  Trial *t = ctx;
  Params usual;
  Program *p = pass_fuse(t->c.func);
  t->c.ran = p && p->n_group == 1 && params_default(t->c.graph->arena, &p->group[0], &t->target, &usual, &t->c.err) &&
             params_is_legal(&p->group[0], &t->target, &usual, &t->c.err);
}

TEST("contract: the default of filter gradients is legal from few channels to thousands") {
  for (int channels = 1; channels < 9000; channels += 1 + channels / 8)
    for (int i = 0; i < TARGETS; i++) {
      char text[256];
      snprintf(text, sizeof text, "func @f(%%x: f32[B,5,5,%d], %%dy: f32[B,4,4,24]) {\n"
               "  %%1 = conv2d_grad_w(%%x, %%dy) {stride=1, kh=2, kw=2} : f32[2,2,%d,24]\n  return y = %%1\n}\n", channels, channels);
      Trial t = {.c = {.text = text}, .target = target_number(i)};
      t.c.graph = graph_new(&t.c.err);
      REQUIRE(arena_protect(t.c.graph->arena, check_parse, &t.c, &t.c.err) && t.c.func, "%s", t.c.err.text);
      arena_protect(t.c.graph->arena, default_body, &t, &t.c.err);
      EXPECT(t.c.ran, "%d channels, target %d: %s", channels, i, t.c.err.text);
      check_done(&t.c);
    }
}

static void shape_body(void *ctx) {
  Trial *t = ctx;
  Params p;
  Program *program = pass_fuse(t->c.func);
  if (!program || program->n_group != 1 || !params_default(t->arena, &program->group[0], &t->target, &p, &t->c.err)) return;
  Kernel *k = lower_group(t->arena, &program->group[0], &t->target, &p, "k", &t->c.err);
  t->ok = k != NULL;
  if (!k) return;
  EXPECT(cuda_shape(k).shared_bytes <= CUDA_SHARED_BYTES, "%lld bytes\n%s", (long long)cuda_shape(k).shared_bytes, t->c.text);
  if (p.reduce.kept++ == 3) return;
  EXPECT(!params_is_legal(&program->group[0], &t->target, &p, &t->c.err), "more is legal than the default keeps\n%s", t->c.text);
  EXPECT_HAS(t->c.err.text, "parameters of reduce: kept=");
}

TEST("reduce: what a GPU's block keeps of its rows has room in shared memory, however long they are") {
  for (int n = 1; n < 20000; n += 1 + n / 8) {
    char text[900];
    snprintf(text, sizeof text, "func @f(%%x: f32[B,%d]) {\n  %%1 = exp(%%x) : f32[B,%d]\n  %%2 = sum(%%1) {axes=[1]} : f32[B]\n"
             "  %%3 = reshape(%%2) : f32[B,1]\n  %%4 = broadcast(%%3) : f32[B,%d]\n  %%5 = log(%%1) : f32[B,%d]\n"
             "  %%6 = exp(%%5) : f32[B,%d]\n  %%7 = add(%%6, %%1) : f32[B,%d]\n  %%8 = mul(%%7, %%4) : f32[B,%d]\n"
             "  %%9 = sum(%%6) {axes=[1]} : f32[B]\n  return y = %%8, z = %%9\n}\n", n, n, n, n, n, n, n);
    Trial t = {.c = {.text = text}, .target = target_cuda(80), .arena = arena_new()};
    t.c.graph = graph_new(&t.c.err);
    REQUIRE(arena_protect(t.c.graph->arena, check_parse, &t.c, &t.c.err) && t.c.func, "%s", t.c.err.text);
    EXPECT(arena_protect(t.arena, shape_body, &t, &t.c.err) && t.ok, "%d elements: %s", n, t.c.err.text);
    arena_free(t.arena);
    check_done(&t.c);
  }
}

static void refuse_body(void *ctx) {
  Trial *t = ctx;
  Program *p = pass_fuse(t->c.func);
  t->c.ran = p && p->n_group == 1 && params_is_legal(&p->group[0], &t->target, t->params, &t->c.err);
}

TEST("parameters that are not legal for a group on a target are refused: which field, and what would be right") {
  for (int i = 0; i < COUNT_OF(refusals); i++) {
    const Refusal *r = &refusals[i];
    Params p;
    Trial t = {.c = {.text = functions[r->function]}, .target = r->on_gpu ? target_cuda(80) : target_of(ISA_AVX2)};
    t.params = &p;
    REQUIRE(params_parse(r->params, &p, &t.c.err), "%s", t.c.err.text);
    t.c.graph = graph_new(&t.c.err);
    REQUIRE(arena_protect(t.c.graph->arena, check_parse, &t.c, &t.c.err) && t.c.func, "%s", t.c.err.text);
    arena_protect(t.c.graph->arena, refuse_body, &t, &t.c.err);
    EXPECT(!t.c.ran, "accepted %s", r->params);
    EXPECT_HAS(t.c.err.text, r->want);
    check_done(&t.c);
  }
}

TEST_MAIN()
