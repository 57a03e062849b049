/* Products of bf16 by matrix tiles on the emulated device: every awkward shape against the reference interpreter and the
 * interpreter of kernels, with default parameters and with tiles that these sizes do not get by themselves. */
#include "tests/gpu/device_group.h"

/* Tiles with several warps either way, deep ones, wide ones, one stage of plain loads. */
static const char *const tiles[] = {
    NULL,
    "contract_gpu tile_m=2 tile_n=1 tile_k=16 block_m=1 block_n=2 stages=2 swap=0 unroll=4 resident=0",
    "contract_gpu tile_m=1 tile_n=4 tile_k=64 block_m=2 block_n=1 stages=2 swap=0 unroll=4 resident=0",
    "contract_gpu tile_m=1 tile_n=3 tile_k=32 block_m=1 block_n=1 stages=1 swap=0 unroll=4 resident=0",
};

static void contract(int64_t B, int64_t R, const char *source) {
  for (int i = 0; i < COUNT_OF(tiles); i++)
    device_check((DeviceCase){.c = {.family = FAMILY_CONTRACT, .B = B, .R = R}, .source = source, .params = tiles[i]});
}

TEST("bf16 matmul: whole tiles, copied by 16 bytes") {
  NEED_NVRTC();
  contract(2, 1, "func @f(%a: bf16[B,32,64], %b: bf16[64,64]) {\n"
                 "  %1 = matmul(%a, %b) {trans_a=0, trans_b=0} : bf16[B,32,64]\n  return y = %1\n}\n");
}

TEST("bf16 matmul: borders in rows, columns and k, whatever bytes a row has") {
  NEED_NVRTC();
  contract(3, 1, "func @f(%a: bf16[B,23,40], %b: bf16[40,72]) {\n"      /* copies of 16 bytes */
                 "  %1 = matmul(%a, %b) {trans_a=0, trans_b=0} : bf16[B,23,72]\n  return y = %1\n}\n");
  contract(3, 1, "func @f(%a: bf16[B,9,36], %b: bf16[36,70]) {\n"       /* of 8 and 4 */
                 "  %1 = matmul(%a, %b) {trans_a=0, trans_b=0} : bf16[B,9,70]\n  return y = %1\n}\n");
  contract(3, 1, "func @f(%a: bf16[B,23,37], %b: bf16[37,33]) {\n"      /* none */
                 "  %1 = matmul(%a, %b) {trans_a=0, trans_b=0} : bf16[B,23,33]\n  return y = %1\n}\n");
  contract(1, 1, "func @f(%a: bf16[1,1], %b: bf16[1,1]) {\n"
                 "  %1 = matmul(%a, %b) {trans_a=0, trans_b=0} : bf16[1,1]\n  return y = %1\n}\n");
  contract(3, 1, "func @f(%a: bf16[B,50,21], %b: bf16[21,1]) {\n"
                 "  %1 = matmul(%a, %b) {trans_a=0, trans_b=0} : bf16[B,50,1]\n  return y = %1\n}\n");
}

TEST("bf16 matmul: transposed operands, batches, k of B elements") {
  NEED_NVRTC();
  contract(2, 1, "func @f(%a: bf16[B,40,24], %b: bf16[33,40]) {\n"
                 "  %1 = matmul(%a, %b) {trans_a=1, trans_b=1} : bf16[B,24,33]\n  return y = %1\n}\n");
  contract(3, 1, "func @f(%a: bf16[B,17,24], %b: bf16[B,40,24]) {\n"
                 "  %1 = matmul(%a, %b) {trans_a=0, trans_b=1} : bf16[B,17,40]\n  return y = %1\n}\n");
  contract(3, 1, "func @f(%a: bf16[B,17,24], %b: bf16[B,24,41]) {\n"
                 "  %1 = matmul(%a, %b) {trans_a=0, trans_b=0} : bf16[B,17,41]\n  return y = %1\n}\n");
  contract(19, 1, "func @f(%a: bf16[B,36], %b: bf16[B,20]) {\n"
                  "  %1 = matmul(%a, %b) {trans_a=1, trans_b=0} : bf16[36,20]\n  return y = %1\n}\n");
}

TEST("bf16 matmul of few rows, with bias, gelu and a second operand") {
  NEED_NVRTC();
  contract(2, 11, "func @f(%a: bf16[R,80], %b: bf16[80,72], %c: bf16[72], %x: bf16[R,72]) {\n"
                  "  %1 = matmul(%a, %b) {trans_a=0, trans_b=0} : bf16[R,72]\n  %2 = broadcast(%c) : bf16[R,72]\n"
                  "  %3 = add(%1, %2) : bf16[R,72]\n  %4 = gelu(%3) : bf16[R,72]\n  %5 = add(%4, %x) : bf16[R,72]\n"
                  "  return y = %5\n}\n");
}

TEST("bf16 conv2d: lines that are no multiple of a tile, strides, one and three channels on either side") {
  NEED_NVRTC();
  contract(2, 1, "func @f(%x: bf16[B,7,9,24], %w: bf16[3,3,24,40], %b: bf16[40]) {\n"
                 "  %1 = conv2d(%x, %w) {stride=1, kh=0, kw=0} : bf16[B,5,7,40]\n"
                 "  %2 = broadcast(%b) : bf16[B,5,7,40]\n"
                 "  %3 = add(%1, %2) : bf16[B,5,7,40]\n  %4 = silu(%3) : bf16[B,5,7,40]\n  return y = %4\n}\n");
  contract(2, 1, "func @f(%x: bf16[B,9,9,3], %w: bf16[3,3,3,24]) {\n"
                 "  %1 = conv2d(%x, %w) {stride=2, kh=0, kw=0} : bf16[B,4,4,24]\n  return y = %1\n}\n");
  contract(2, 1, "func @f(%x: bf16[B,8,13,16], %w: bf16[3,3,16,3], %b: bf16[3]) {\n"
                 "  %1 = conv2d(%x, %w) {stride=1, kh=0, kw=0} : bf16[B,6,11,3]\n"
                 "  %2 = broadcast(%b) : bf16[B,6,11,3]\n  %3 = add(%1, %2) : bf16[B,6,11,3]\n"
                 "  %4 = tanh(%3) : bf16[B,6,11,3]\n  return y = %4\n}\n");
}

TEST("bf16 conv2d, the gradients of picture and filter") {
  NEED_NVRTC();
  static const char source[] = "func @f(%x: bf16[B,6,7,12], %w: bf16[3,3,12,20], %dy: bf16[B,4,5,20]) {\n"
                               "  %1 = conv2d(%x, %w) {stride=1, kh=0, kw=0} : bf16[B,4,5,20]\n"
                               "  %2 = mul(%1, %dy) : bf16[B,4,5,20]\n  %3 = sum(%2) {axes=[0,1,2,3]} : bf16[]\n"
                               "  return y = %3\n}\n";
  for (int wrt = 1; wrt <= 2; wrt++)
    for (int i = 0; i < COUNT_OF(tiles); i++)
      device_check((DeviceCase){.c = {.family = FAMILY_CONTRACT, .B = 3, .R = 1}, .source = source, .wrt = wrt,
                                .params = tiles[i], .part = true});
}

/* ---- without a device ---- */

enum { MOST_BYTES = 1 << 16 };

/* A product on the kernel interpreter, by one kernel: its result goes to `result`. */
typedef struct Sums {
  DeviceCase d;
  uint16_t result[MOST_BYTES / 2];
  size_t bytes;
} Sums;

static void sums_body(void *ctx) {
  Sums *s = ctx;
  Check *c = &s->d.c;
  Program *p = pass_fuse(c->func);
  Target target = target_cuda(80);
  void *args[8];
  if (!p || p->n_group != 1) return;
  c->group = p->group[0];
  Params params;
  if (!params_default(c->graph->arena, &c->group, &target, &params, &c->err)) return;
  if (s->d.params && !params_parse(s->d.params, &params, &c->err)) return;
  Kernel *k = lower_group(c->graph->arena, &c->group, &target, &params, "k", &c->err);
  Tensor *want = k ? device_expected(&s->d) : NULL;
  device_args(&s->d, args);
  if (!want || !kir_interpret(k, args, c->B, c->R, &c->err)) return;
  check_results(c, "kernel interpreter", want, args);
  s->bytes = device_bytes(&s->d, c->group.n_in);
  c->ran = s->bytes <= sizeof s->result;
  if (c->ran) memcpy(s->result, args[c->group.n_in], s->bytes);
}

static void sums_prepare(Sums *s, const char *source, const char *params, int64_t B, int64_t R) {
  Check *c = &s->d.c;
  *s = (Sums){.d = {.c = {.family = FAMILY_CONTRACT, .B = B, .R = R}, .source = source, .params = params}};
  c->build = device_build;
  c->text = source;
  c->graph = graph_new(&c->err);
}

static bool sums_run(Sums *s) {
  Check *c = &s->d.c;
  return arena_protect(c->graph->arena, check_parse, &s->d, &c->err) && c->func &&
         arena_protect(c->graph->arena, sums_body, s, &c->err) && c->ran;
}

/* Also checks the result against the reference interpreter. */
static void sums_of(Sums *s, const char *source, const char *params, int64_t B, int64_t R) {
  sums_prepare(s, source, params, B, R);
  EXPECT(sums_run(s), "%s\n%s", s->d.c.err.text, source);
  check_done(&s->d.c);
}

#define ROWS(n) "func @f(%a: bf16[" n ",74], %b: bf16[74,40]) {\n" \
                "  %1 = matmul(%a, %b) {trans_a=0, trans_b=0} : bf16[" n ",40]\n  return y = %1\n}\n"

TEST("a row has the same bits in any batch, in a wave of any width, and in any tile") {
  static Sums all, some;
  static const int64_t rows[] = {1, 7, 16, 33};
  sums_of(&all, ROWS("100B"), NULL, 1, 1);
  for (int i = 0; i < COUNT_OF(rows); i++) {   /* a wave's kernel has few rows: other tiles, another tile_k */
    sums_of(&some, ROWS("R"), NULL, 1, rows[i]);
    EXPECT(some.bytes > 0 && !memcmp(some.result, all.result, some.bytes), "%d rows", (int)rows[i]);
  }
  for (int i = 1; i < COUNT_OF(tiles); i++) {
    sums_of(&some, ROWS("25B"), tiles[i], 3, 1);
    EXPECT(some.bytes > 0 && !memcmp(some.result, all.result, some.bytes), "%s", tiles[i]);
  }
}

TEST("a picture has the same bits in any batch") {
  static Sums one, some;
  static const char source[] = "func @f(%x: bf16[B,6,7,12], %w: bf16[3,3,12,20]) {\n"
                               "  %1 = conv2d(%x, %w) {stride=1, kh=0, kw=0} : bf16[B,4,5,20]\n  return y = %1\n}\n";
  sums_of(&one, source, NULL, 1, 1);
  sums_of(&some, source, NULL, 7, 1);
  EXPECT(one.bytes > 0 && !memcmp(one.result, some.result, one.bytes), "the first of 7 differs");
}

static void expect_refused(const char *params, const char *want) {
  static Sums s;
  sums_prepare(&s, ROWS("100B"), params, 1, 1);
  EXPECT(!sums_run(&s), "%s", params);
  EXPECT_HAS(s.d.c.err.text, want);
  check_done(&s.d.c);
}

TEST("tiles that a block has no room for are refused") {
  expect_refused("contract_gpu tile_m=5 tile_n=4 tile_k=16 block_m=1 block_n=1 stages=2 swap=0 unroll=4 resident=0",
                 "no registers for 5 x 4 matrix tiles");
  expect_refused("contract_gpu tile_m=2 tile_n=2 tile_k=16 block_m=1 block_n=1 stages=2 swap=1 unroll=4 resident=0",
                 "rows of matrix tiles do not run along lanes");
  expect_refused("contract_gpu tile_m=4 tile_n=4 tile_k=16 block_m=4 block_n=3 stages=2 swap=0 unroll=4 resident=0",
                 "2 stages and results need 204800 bytes of shared memory, there are 98304");
  expect_refused("contract_gpu tile_m=1 tile_n=1 tile_k=16 block_m=8 block_n=5 stages=2 swap=0 unroll=4 resident=0",
                 "no block of 8 x 5 groups");
}

TEST("random bf16 products are right") {
  static Sums s;
  uint64_t seed = 5;
  for (int n = 0; n < 60; n++) {
    char a[64], b[64], source[400];
    int size[3];   /* m, n, k: often multiples of 2, 4 or 8 */
    for (int i = 0; i < 3; i++) {
      int times = 1 << (int)(4 * fabsf(random_unit(&seed)));
      size[i] = (1 + (int)(90 * fabsf(random_unit(&seed)))) / times * times + times;
    }
    bool ta = random_unit(&seed) < 0, tb = random_unit(&seed) < 0;
    snprintf(a, sizeof a, "bf16[B,%d,%d]", size[ta ? 2 : 0], size[ta ? 0 : 2]);
    snprintf(b, sizeof b, random_unit(&seed) < 0 ? "bf16[B,%d,%d]" : "bf16[%d,%d]", size[tb ? 1 : 2], size[tb ? 2 : 1]);
    snprintf(source, sizeof source, "func @f(%%a: %s, %%b: %s) {\n  %%1 = matmul(%%a, %%b) {trans_a=%d, trans_b=%d} : "
             "bf16[B,%d,%d]\n  return y = %%1\n}\n", a, b, ta, tb, size[0], size[1]);
    sums_of(&s, source, tiles[n % COUNT_OF(tiles)], 2, 1);
  }
}

TEST_MAIN()
