/* Static checks of the machine code that NVRTC makes of every distinct kernel of the demo's models, with the options of
 * the shipped weights, in bf16: decoding, drawing all at once, losses.  The long campaign adds those in f32 with their
 * training steps, the paper-scale model (the defaults of nuwa.lua), and a second arch.  Every kernel is compiled once
 * for each arch; all tests look at the same code. */
#include "bench/gpu.h"
#include "runtime/base/pool.h"
#include "tests/test.h"

enum { ARCHS = 2, KERNELS_TOGETHER = 24 };

/* Sanitizers see nothing of NVRTC's locks. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { IS_SANITIZED = 1 };
#else
enum { IS_SANITIZED = 0 };
#endif

static struct {
  bool tried;
  Nvrtc *nvrtc;
  GpuKernels kernels;
  CudaFacts facts;
  int n_demo;               /* kernels of the demo come first */
  Error err;
} all;

static bool open_all(void) {
  Error *err = &all.err;
  CudaFactsOptions o = {.arch = {80, 90}, .n_arch = test_is_long ? ARCHS : 1, .together = KERNELS_TOGETHER,
                        .threads = IS_SANITIZED ? 1 : pool_count_processors(), .nvrtc = all.nvrtc};
  const GpuModel paper = {.name = "nuwa, paper scale", .path = MODELS_DIR "/nuwa.lua", .models_dir = MODELS_DIR};
  if (!gpu_kernels_open(&all.kernels, err) || !gpu_kernels_add_demo(&all.kernels, MODELS_DIR, DTYPE_BF16, err) ||
      (test_is_long && !gpu_kernels_add_demo(&all.kernels, MODELS_DIR, DTYPE_F32, err)))
    return false;
  all.n_demo = all.kernels.n;
  if (test_is_long && !gpu_kernels_add(&all.kernels, &paper, err)) return false;
  return gpu_kernels_facts(&all.kernels, &o, &all.facts, err);
}

/* Skips the test without NVRTC. */
#define NEEDS_NVRTC()                                                       \
  do {                                                                      \
    if (!all.nvrtc) all.nvrtc = nvrtc_open(NULL, &all.err);                 \
    if (!all.nvrtc) SKIP("NVRTC is not installed: %s", all.err.text);       \
  } while (0)

/* The same, and fails the test without code. */
#define NEEDS_CODE()                                                        \
  do {                                                                      \
    NEEDS_NVRTC();                                                          \
    if (!all.tried && !open_all()) cuda_facts_done(&all.facts);             \
    all.tried = true;                                                       \
    REQUIRE(all.facts.fact, "%s", all.err.text);                            \
  } while (0)

static const char *name_of(int i) { return all.kernels.kernel[i].kernel->name; }

/* Kernels of an arch in turn: fact, number. */
#define FOR_ALL(a, i, f)                         \
  for (int a = 0; a < all.facts.n_arch; a++)     \
    for (int i = 0; i < all.facts.n; i++)        \
      for (const CudaFact *f = cuda_fact(&all.facts, a, i); f; f = NULL)

/* Does the block or one inside it hold this instruction for 16 bytes a lane? */
static bool holds(const KBlock *b, KOp op, KSpace space, const Kernel *k) {
  for (const KInst *i = b->first; i; i = i->next) {
    int64_t count = op == KOP_COPY ? i->count : QUAD;
    bool here = i->op == op && (op == KOP_COPY || k->buf[i->imm].space == space) &&
                count * (int64_t)dtype_bytes(k->buf[i->imm].dtype) == 16;
    if (here || (i->body && holds(i->body, op, space, k)) || (i->other && holds(i->other, op, space, k))) return true;
  }
  return false;
}

WIDE_TEST("every distinct kernel of the demo's models and of the paper-scale model compiles") {
  NEEDS_CODE();
  printf("%d distinct kernels, %d of the demo; %d archs\n", all.kernels.n, all.n_demo, all.facts.n_arch);
  EXPECT(all.n_demo > (test_is_long ? 200 : 100) && (!test_is_long || all.kernels.n > all.n_demo + 20), "%d, %d",
         all.n_demo, all.kernels.n);
  FOR_ALL(a, i, f)
    EXPECT(f->code.instructions > 0 && f->code.registers <= 255, "%s: %d instructions", name_of(i), f->code.instructions);
}

WIDE_TEST("every kernel runs on every arch, with the blocks that the generator counts on") {
  NEEDS_CODE();
  int assumed = 0;
  FOR_ALL(a, i, f) {
    int wanted = all.kernels.kernel[i].kernel->resident;
    EXPECT(f->occupancy.blocks >= 1, "sm_%d %s: %d registers x %d threads, %lld bytes of shared memory",
           all.facts.arch[a], name_of(i), f->code.registers, f->shape.threads, (long long)f->shared_bytes);
    EXPECT(f->occupancy.blocks >= wanted, "sm_%d %s: %d blocks instead of %d (%s: %d registers, %lld bytes)",
           all.facts.arch[a], name_of(i), f->occupancy.blocks, wanted, f->occupancy.limit, f->code.registers,
           (long long)f->shared_bytes);
    assumed += wanted > 0;
  }
  EXPECT(assumed > 0, "no kernel says how many blocks it counts on");
}

static bool is_attention(const Kernel *k) { return strncmp(k->name, "attend", strlen("attend")) == 0; }

WIDE_TEST("products and attention do not spill in inner loops; all other spills are listed") {
  NEEDS_CODE();
  int inner = 0;
  FOR_ALL(a, i, f) {
    const Kernel *k = all.kernels.kernel[i].kernel;
    if (!f->code.spills) continue;
    printf("  sm_%d %s: %d accesses of %d bytes, %d in loops, %d in inner loops; %d registers\n",
           all.facts.arch[a], name_of(i), f->code.spills, (int)f->code.local_bytes, f->code.loop_spills,
           f->code.inner_spills, f->code.registers);
    EXPECT((k->groups == 1 && !is_attention(k)) || f->code.inner_spills == 0, "sm_%d %s spills in an inner loop",
           all.facts.arch[a], name_of(i));
    inner += f->code.inner_spills > 0;
  }
  printf("%d kernels spill in inner loops\n", inner);
}

WIDE_TEST("what the kernel IR moves by four elements moves by 128 bits, and large tiles do") {
  NEEDS_CODE();
  int products = 0, wide = 0;
  FOR_ALL(a, i, f) {
    const Kernel *k = all.kernels.kernel[i].kernel;
    bool copies = holds(k->body, KOP_COPY, SPACE_GLOBAL, k), shared = holds(k->body, KOP_LOAD4, SPACE_SCRATCH, k);
    bool global = holds(k->body, KOP_LOAD4, SPACE_GLOBAL, k);
    EXPECT(!copies || f->code.wide_copies > 0, "sm_%d %s: no LDGSTS of 128 bits", all.facts.arch[a], name_of(i));
    EXPECT(!shared || f->code.wide_shared > 0, "sm_%d %s: no LDS of 128 bits", all.facts.arch[a], name_of(i));
    EXPECT(!global || f->code.wide_loads > 0, "sm_%d %s: no LDG of 128 bits", all.facts.arch[a], name_of(i));
    products += k->groups > 1;
    wide += copies && shared;
  }
  printf("%d of %d products copy and load by 128 bits\n", wide, products);
  EXPECT(products > 0 && wide > 0, "%d of %d", wide, products);
}

static bool has_op(const KBlock *b, KOp op) {
  for (const KInst *i = b->first; i; i = i->next)
    if (i->op == op || (i->body && has_op(i->body, op)) || (i->other && has_op(i->other, op))) return true;
  return false;
}

/* Is it a product of bf16?  Kernels are named by what they are made for. */
static bool is_bf16_product(const Kernel *k) {
  bool is_product = strncmp(k->name, "matmul", 6) == 0 || strncmp(k->name, "conv2d", 6) == 0;
  return is_product && k->n_args > 1 && k->buf[0].dtype == DTYPE_BF16 && k->buf[1].dtype == DTYPE_BF16;
}

WIDE_TEST("every product of bf16 in the demo's models uses tensor cores") {
  NEEDS_CODE();
  int products = 0;
  FOR_ALL(a, i, f) {
    const Kernel *k = all.kernels.kernel[i].kernel;
    bool has_tiles = has_op(k->body, KOP_MMA);
    EXPECT(has_tiles || !is_bf16_product(k), "%s has no matrix tiles", name_of(i));
    /* Short loops over k are unrolled whole, so these need not stand in loops. */
    EXPECT(!has_tiles || (f->code.tensor > 0 && f->code.matrix_loads > 0), "sm_%d %s: %d HMMA, %d LDSM",
           all.facts.arch[a], name_of(i), f->code.tensor, f->code.matrix_loads);
    products += has_tiles;
  }
  printf("%d products by matrix tiles\n", products);
  EXPECT(products > 20, "%d products", products);
}

/* The largest tiles of their kind, as text: what they need does not depend on which models there are. */
typedef struct Tile {
  const char *text;
  Graph *graph;
  Kernel *const *kernel;
  int n;
  Error err;
  bool ok;
} Tile;

static void lower_tile(void *ctx) {
  Tile *t = ctx;
  Func **func;
  int n;
  ImageOptions o = {.target = target_cuda(80)};
  PlanBuild *b = plan_build_new(t->graph->arena, &o, &t->err);
  if (!ir_parse(t->graph, "tile", t->text, &func, &n)) return;
  Func *f = pass_expand(func[0]);
  f = f ? pass_fold(f) : NULL;
  Program *p = f ? pass_fuse(f) : NULL;
  MemPlan *m = p ? pass_memplan(p) : NULL;
  if (!m || plan_build_function(b, p, m, false) < 0) return;
  t->n = plan_build_kernels(b, &t->kernel);
  t->ok = t->n == 1;
}

#define PRODUCT(type) "func @f(%a: " type "[4096,1024], %b: " type "[1024,4096]) {\n" \
  "  %y = matmul(%a, %b) {trans_a=0, trans_b=0} : " type "[4096,4096]\n  return y = %y\n}\n"

/* The code of the product in t->text; false with t->err. */
static bool compile_tile(Tile *t, CudaFacts *out) {
  CudaFactsOptions o = {.nvrtc = all.nvrtc, .arch = {80, 90}, .n_arch = ARCHS, .together = 1, .threads = 1};
  t->graph = graph_new(&t->err);
  return t->graph && arena_protect(t->graph->arena, lower_tile, t, &t->err) && t->ok &&
         cuda_facts(t->kernel, t->n, &o, out, &t->err);
}

TEST("the large tile of an f32 product copies and loads 128 bits at once, and multiplies in its inner loop") {
  NEEDS_NVRTC();
  Tile t = {.text = PRODUCT("f32")};
  CudaFacts facts = {0};
  if (!compile_tile(&t, &facts)) EXPECT(false, "%s", t.err.text);
  else {
    const CubinKernel *k = &facts.fact[0].code;
    EXPECT(k->wide_copies > 0 && k->wide_shared > 0, "%d LDGSTS, %d LDS of 128 bits", k->wide_copies, k->wide_shared);
    EXPECT(k->inner_fma >= 64 && k->inner_spills == 0, "%d FMA in inner loops, %d spills", k->inner_fma,
           k->inner_spills);
    printf("128 x 128: %d registers, %d FMA in inner loops, %d spills outside of them, %d blocks\n", k->registers,
           k->inner_fma, k->spills, facts.fact[0].occupancy.blocks);
  }
  cuda_facts_done(&facts);
  graph_free(t.graph);
}

/* What every large tile of bf16 must have; the kernel has k whole tiles, so that its inner loop is the only one. */
static void check_tensor_tile(const char *what, const char *text) {
  Tile t = {.text = text};
  CudaFacts facts = {0};
  bool compiled = compile_tile(&t, &facts);
  EXPECT(compiled, "%s", t.err.text);
  for (int a = 0; compiled && a < facts.n_arch; a++) {
    const CudaFact *f = cuda_fact(&facts, a, 0);
    const CubinKernel *k = &f->code;
    printf("%s, sm_%d: %d registers, %d HMMA, %d LDSM in inner loops, %d wide LDGSTS, %d spills, %d instructions; "
           "%d blocks of %d threads\n", what, facts.arch[a], k->registers, k->inner_tensor, k->inner_matrix_loads,
           k->wide_copies, k->spills, k->instructions, f->occupancy.blocks, f->shape.threads);
    EXPECT(k->inner_tensor >= 16 && k->inner_tensor == k->tensor, "%s: %d of %d HMMA in inner loops", what,
           k->inner_tensor, k->tensor);
    EXPECT(k->inner_matrix_loads > 0 && k->inner_matrix_loads == k->matrix_loads, "%s: %d of %d LDSM", what,
           k->inner_matrix_loads, k->matrix_loads);
    EXPECT(k->wide_copies > 0 && k->wide_copies == k->copies, "%s: %d of %d LDGSTS are of 128 bits", what,
           k->wide_copies, k->copies);
    EXPECT(k->inner_spills == 0, "%s: %d spills in inner loops", what, k->inner_spills);
    EXPECT(f->occupancy.blocks >= t.kernel[0]->resident, "%s: %d blocks instead of %d (%s)", what,
           f->occupancy.blocks, t.kernel[0]->resident, f->occupancy.limit);
  }
  cuda_facts_done(&facts);
  graph_free(t.graph);
}

TEST("the large tile of a bf16 product uses tensor cores") {
  NEEDS_NVRTC();
  check_tensor_tile("bf16 product, 128 x 128", PRODUCT("bf16"));
}

TEST("a bf16 convolution of 3 x 3 uses tensor cores, its input copied as it lies in memory") {
  NEEDS_NVRTC();
  check_tensor_tile("bf16 convolution", "func @f(%x: bf16[B,66,66,256], %w: bf16[3,3,256,256]) {\n"
                    "  %y = conv2d(%x, %w) {stride=1, kh=0, kw=0} : bf16[B,64,64,256]\n  return y = %y\n}\n");
}

TEST_MAIN()
