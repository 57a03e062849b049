/* Products of bf16 by matrix tiles on the emulated device: every awkward shape against the reference interpreter and the
 * interpreter of kernels, with default parameters and with tiles that these sizes do not get by themselves. */
#include "tests/gpu/device_group.h"

/* Tiles with several warps either way, deep ones, wide ones, one stage of plain loads. */
static const char *const tiles[] = {
    NULL,
    "tile_m=2 tile_n=1 tile_k=16 block_m=1 block_n=2 stages=2 swap=0 pack_b=0 unroll=1",
    "tile_m=1 tile_n=4 tile_k=64 block_m=2 block_n=1 stages=2 swap=0 pack_b=0 unroll=1",
    "tile_m=1 tile_n=3 tile_k=32 block_m=1 block_n=1 stages=1 swap=0 pack_b=0 unroll=1",
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

TEST_MAIN()
