/* One kernel of every family and direction on the emulated device: bit for bit the kernel interpreter's, and within
 * 1e-5 (bf16: 2e-2) of the largest the reference interpreter's.  The emulator also refuses races between the lanes of
 * an item. */
#include "tests/gpu/device_group.h"

static void run_f32(Family family, const char *source) {
  device_check((DeviceCase){.c = {.family = family, .B = 3, .R = 5}, .source = source});
}

/* The same function with every f32 tensor in bf16. */
static void run_bf16(DeviceCase d) {
  const char *p = d.source;
  char text[4000], *out = text;
  while (*p && out < text + sizeof text - 8) {
    bool is_type = strncmp(p, "f32[", 4) == 0;
    out += sprintf(out, "%s", is_type ? "bf16" : (char[]){*p, 0});
    p += is_type ? 3 : 1;
  }
  d.source = text;
  device_check(d);
}

static void run(Family family, const char *source, int wrt) {
  DeviceCase d = {.c = {.family = family, .B = 3, .R = 5}, .source = source, .wrt = wrt};
  device_check(d);
  run_bf16(d);
}

/* What is several groups in bf16: conversions of gains, biases and results stand apart. */
static void run_parts(Family family, const char *source, int wrt) {
  DeviceCase d = {.c = {.family = family, .B = 3, .R = 5}, .source = source, .wrt = wrt};
  device_check(d);
  d.part = true;
  run_bf16(d);
}

/* ---- map ---- */

TEST("map, forward: arithmetic, transcendental functions, comparisons") {
  NEED_NVRTC();
  run(FAMILY_MAP, "func @f(%x: f32[B,3,37], %b: f32[37], %s: f32[B,3,37]) {\n  %1 = broadcast(%b) : f32[B,3,37]\n"
                  "  %2 = add(%x, %1) : f32[B,3,37]\n  %3 = gelu(%2) : f32[B,3,37]\n  %4 = silu(%s) : f32[B,3,37]\n"
                  "  %5 = fma(%3, %4, %x) : f32[B,3,37]\n  return y = %5\n}\n", 0);
  run(FAMILY_MAP, "func @f(%p: f32[B,21], %x: f32[B,21]) {\n  %1 = log(%p) : f32[B,21]\n  %2 = sin(%x) : f32[B,21]\n"
                  "  %3 = cos(%x) : f32[B,21]\n  %4 = div(%2, %p) : f32[B,21]\n  %5 = tanh(%x) : f32[B,21]\n"
                  "  %6 = sqrt(%p) : f32[B,21]\n  %7 = lt(%1, %5) : u8[B,21]\n  %8 = select(%7, %3, %6) : f32[B,21]\n"
                  "  %9 = sub(%8, %4) : f32[B,21]\n  return y = %9\n}\n", 0);
}

TEST("map, forward: integers") {
  NEED_NVRTC();
  run(FAMILY_MAP, "func @f(%a: i32[B,21], %b: i32[B,21], %c: u8[B,21]) {\n  %1 = div(%a, %b) : i32[B,21]\n"
                  "  %2 = mod(%a, %b) : i32[B,21]\n  %3 = mul(%1, %2) : i32[B,21]\n"
                  "  %4 = cast(%c) {dtype=i32} : i32[B,21]\n  %5 = add(%3, %4) : i32[B,21]\n  return y = %5\n}\n", 0);
}

TEST("map, forward: gather, shift, upsampling, padding, transposition") {
  NEED_NVRTC();
  run(FAMILY_MAP, "func @f(%e: f32[9,20], %t: i32[B,2,3,4], %s: f32[20]) {\n  %1 = gather(%e, %t) : f32[B,2,3,4,20]\n"
                  "  %2 = shift(%1, %s) {delta=[0,0,-1], raster=0} : f32[B,2,3,4,20]\n"
                  "  %3 = shift(%1, %s) {delta=[-1,0,0], raster=0} : f32[B,2,3,4,20]\n"
                  "  %4 = add(%2, %3) : f32[B,2,3,4,20]\n  return y = %4\n}\n", 0);
  run(FAMILY_MAP, "func @f(%x: f32[B,3,3,18]) {\n  %1 = reshape(%x) : f32[B,3,1,3,1,18]\n"
                  "  %2 = broadcast(%1) : f32[B,3,2,3,2,18]\n  %3 = reshape(%2) : f32[B,6,6,18]\n"
                  "  %4 = pad(%3) {lo=[0,1,1,0], hi=[0,1,1,0], interior=[0,0,0,0], value=0} : f32[B,8,8,18]\n"
                  "  %5 = exp(%4) : f32[B,8,8,18]\n  return y = %5\n}\n", 0);
  run(FAMILY_MAP, "func @f(%x: f32[B,19,18]) {\n  %1 = transpose(%x) {perm=[0,2,1]} : f32[B,18,19]\n"
                  "  %2 = neg(%1) : f32[B,18,19]\n  return y = %2\n}\n", 0);
}

TEST("map of four elements a lane: broadcasts, whole and partial blocks, operands that do not come in fours") {
  NEED_NVRTC();
  run(FAMILY_MAP, "func @f(%x: f32[B,3,68], %b: f32[68], %s: f32[B,3,1], %t: f32[1]) {\n"
                  "  %1 = broadcast(%b) : f32[B,3,68]\n  %2 = broadcast(%s) : f32[B,3,68]\n"
                  "  %3 = broadcast(%t) : f32[B,3,68]\n  %4 = fma(%x, %1, %2) : f32[B,3,68]\n"
                  "  %5 = mul(%4, %3) : f32[B,3,68]\n  return y = %5, z = %4\n}\n", 0);
  run(FAMILY_MAP, "func @f(%x: f32[4B,64], %p: f32[4B,64], %c: u8[4B,64]) {\n  %1 = exp(%x) : f32[4B,64]\n"
                  "  %2 = div(%1, %p) : f32[4B,64]\n  %3 = select(%c, %2, %x) : f32[4B,64]\n"
                  "  %4 = lt(%3, %p) : u8[4B,64]\n  return y = %3, z = %4\n}\n", 0);
  run(FAMILY_MAP, "func @f(%x: f32[B,2,280], %y: f32[280,2]) {\n  %1 = transpose(%y) {perm=[1,0]} : f32[2,280]\n"
                  "  %2 = broadcast(%1) : f32[B,2,280]\n  %3 = add(%x, %2) : f32[B,2,280]\n  return y = %3\n}\n", 0);
}

TEST("map of four elements a lane: gather, shift, padding, slices, joining") {
  NEED_NVRTC();
  run(FAMILY_MAP, "func @f(%e: f32[9,64], %t: i32[B,2,3,4], %s: f32[64]) {\n  %1 = gather(%e, %t) : f32[B,2,3,4,64]\n"
                  "  %2 = shift(%1, %s) {delta=[0,-1,-1], raster=0} : f32[B,2,3,4,64]\n"
                  "  %3 = shift(%1, %s) {delta=[0,0,0], raster=1} : f32[B,2,3,4,64]\n"
                  "  %4 = add(%2, %3) : f32[B,2,3,4,64]\n  return y = %4\n}\n", 0);
  run(FAMILY_MAP, "func @f(%x: f32[B,5,61]) {\n"
                  "  %1 = pad(%x) {lo=[0,1,4], hi=[0,0,3], interior=[0,0,0], value=2} : f32[B,6,68]\n"
                  "  %2 = neg(%1) : f32[B,6,68]\n  return y = %2\n}\n", 0);
  run(FAMILY_MAP, "func @f(%x: f32[B,6,64], %y: f32[B,6,68]) {\n"
                  "  %1 = concat(%x, %y) {axis=2} : f32[B,6,132]\n"
                  "  %2 = slice(%1) {start=[0,2,4], stop=[B,6,132], step=[1,2,1]} : f32[B,2,128]\n"
                  "  %3 = slice(%1) {start=[0,0,2], stop=[B,2,130], step=[1,1,1]} : f32[B,2,128]\n"
                  "  %4 = mul(%2, %3) : f32[B,2,128]\n  return y = %4\n}\n", 0);
  run(FAMILY_MAP, "func @f(%x: f32[B,64], %i: i32[B,64]) {\n  %1 = iota() {axis=1} : i32[B,64]\n"
                  "  %2 = add(%i, %1) : i32[B,64]\n  %3 = cast(%2) {dtype=f32} : f32[B,64]\n"
                  "  %4 = mul(%3, %x) : f32[B,64]\n  %5 = reverse(%4) {axes=[1]} : f32[B,64]\n"
                  "  %6 = sub(%5, %x) : f32[B,64]\n  return y = %6\n}\n", 0);
}

TEST("map, backward: gelu, silu, shift") {
  NEED_NVRTC();
  run(FAMILY_MAP, "func @f(%x: f32[B,37], %s: f32[B,37], %dy: f32[B,37]) {\n  %1 = gelu(%x) : f32[B,37]\n"
                  "  %2 = silu(%s) : f32[B,37]\n  %3 = mul(%1, %2) : f32[B,37]\n  %4 = mul(%3, %dy) : f32[B,37]\n"
                  "  %5 = sum(%4) {axes=[0,1]} : f32[]\n  return y = %5\n}\n", 3);
  run(FAMILY_MAP, "func @f(%x: f32[B,2,3,4,20], %s: f32[20], %dy: f32[B,2,3,4,20]) {\n"
                  "  %1 = shift(%x, %s) {delta=[0,-1,1], raster=0} : f32[B,2,3,4,20]\n"
                  "  %2 = mul(%1, %1) : f32[B,2,3,4,20]\n  %3 = mul(%2, %dy) : f32[B,2,3,4,20]\n"
                  "  %4 = sum(%3) {axes=[0,1,2,3,4]} : f32[]\n  return y = %4\n}\n", 1);
}

/* ---- reduce ---- */

TEST("reduce over rows, forward: softmax, layer norm, cross-entropy, the largest") {
  NEED_NVRTC();
  run(FAMILY_REDUCE, "func @f(%x: f32[B,2,37]) {\n  %1 = softmax(%x) : f32[B,2,37]\n  return y = %1\n}\n", 0);
  run_parts(FAMILY_REDUCE, "func @f(%x: f32[B,2,37], %g: f32[37], %b: f32[37]) {\n"
                           "  %1 = layer_norm(%x, %g, %b) {eps=1e-05, groups=0} : f32[B,2,37]\n"
                           "  return y = %1\n}\n", 0);
  run(FAMILY_REDUCE, "func @f(%x: f32[B,6,19], %t: i32[B,6]) {\n  %1 = cross_entropy(%x, %t) : f32[B,6]\n"
                     "  return y = %1\n}\n", 0);
  run(FAMILY_REDUCE, "func @f(%x: f32[B,70]) {\n  %1 = argmax(%x) {axis=1} : i32[B]\n"
                     "  %2 = max(%x) {axes=[1]} : f32[B]\n  return i = %1, y = %2\n}\n", 0);
}

TEST("reduce over rows, backward: softmax, layer norm, cross-entropy") {
  NEED_NVRTC();
  run(FAMILY_REDUCE, "func @f(%x: f32[B,2,37], %dy: f32[B,2,37]) {\n  %1 = softmax(%x) : f32[B,2,37]\n"
                     "  %2 = mul(%1, %dy) : f32[B,2,37]\n  %3 = sum(%2) {axes=[0,1,2]} : f32[]\n"
                     "  return y = %3\n}\n", 1);
  run_parts(FAMILY_REDUCE, "func @f(%x: f32[B,2,37], %g: f32[37], %b: f32[37], %dy: f32[B,2,37]) {\n"
                           "  %1 = layer_norm(%x, %g, %b) {eps=1e-05, groups=0} : f32[B,2,37]\n"
                           "  %2 = mul(%1, %dy) : f32[B,2,37]\n  %3 = sum(%2) {axes=[0,1,2]} : f32[]\n"
                           "  return y = %3\n}\n", 1);
  run(FAMILY_REDUCE, "func @f(%x: f32[B,6,19], %t: i32[B,6]) {\n  %1 = cross_entropy(%x, %t) : f32[B,6]\n"
                     "  %2 = sum(%1) {axes=[0,1]} : f32[]\n  return y = %2\n}\n", 1);
}

TEST("reduce over columns: the gradients of a gain and a bias, the largest, a column of one") {
  NEED_NVRTC();
  run(FAMILY_REDUCE, "func @f(%x: f32[3,7,37], %g: f32[37], %b: f32[37], %dy: f32[3,7,37]) {\n"
                     "  %1 = broadcast(%g) : f32[3,7,37]\n  %2 = mul(%x, %1) : f32[3,7,37]\n"
                     "  %3 = broadcast(%b) : f32[3,7,37]\n  %4 = add(%2, %3) : f32[3,7,37]\n"
                     "  %5 = mul(%4, %dy) : f32[3,7,37]\n  %6 = sum(%5) {axes=[0,1,2]} : f32[]\n"
                     "  return y = %6\n}\n", 6);
  run(FAMILY_REDUCE, "func @f(%x: f32[40,19]) {\n  %1 = argmax(%x) {axis=0} : i32[19]\n"
                     "  %2 = max(%x) {axes=[0]} : f32[19]\n  return i = %1, y = %2\n}\n", 0);
  run(FAMILY_REDUCE, "func @f(%x: f32[B,9,18]) {\n  %1 = transpose(%x) {perm=[0,2,1]} : f32[B,18,9]\n"
                     "  %2 = softmax(%1) : f32[B,18,9]\n  return y = %2\n}\n", 0);
  run(FAMILY_REDUCE, "func @f(%x: f32[B,4,4,8]) {\n  %1 = mul(%x, %x) : f32[B,4,4,8]\n"
                     "  %2 = sum(%1) {axes=[1,2]} : f32[B,8]\n  return y = %2\n}\n", 0);
  run(FAMILY_REDUCE, "func @f(%x: f32[3,9,1]) {\n  %1 = sum(%x) {axes=[0,1]} : f32[1]\n  return y = %1\n}\n", 0);
  run(FAMILY_REDUCE, "func @f(%x: f32[B,3,19]) {\n  %1 = sum(%x) {axes=[0]} : f32[3,19]\n  return y = %1\n}\n", 0);
  run(FAMILY_REDUCE, "func @f(%x: i32[B,45,19]) {\n  %1 = sum(%x) {axes=[1]} : i32[B,19]\n"
                     "  %2 = max(%x) {axes=[1]} : i32[B,19]\n  return y = %1, z = %2\n}\n", 0);
}

TEST("a softmax over columns, several samples long: later loops read totals of earlier ones") {
  NEED_NVRTC();
  run(FAMILY_REDUCE, "func @f(%x: f32[B,50,2,21], %s: f32[B,2,21]) {\n  %1 = max(%x) {axes=[1]} : f32[B,2,21]\n"
                     "  %2 = reshape(%1) : f32[B,1,2,21]\n  %3 = broadcast(%2) : f32[B,50,2,21]\n"
                     "  %4 = sub(%x, %3) : f32[B,50,2,21]\n  %5 = exp(%4) : f32[B,50,2,21]\n"
                     "  %6 = sum(%5) {axes=[1]} : f32[B,2,21]\n  %7 = div(%s, %6) : f32[B,2,21]\n"
                     "  %8 = reshape(%7) : f32[B,1,2,21]\n  %9 = broadcast(%8) : f32[B,50,2,21]\n"
                     "  %10 = mul(%5, %9) : f32[B,50,2,21]\n  return y = %10, n = %6\n}\n", 0);
}

/* ---- scatter ---- */

TEST("scatter_add: the gradient of an embedding, rows of one element, integers") {
  NEED_NVRTC();
  run(FAMILY_SCATTER, "func @f(%t: i32[B,6], %x: f32[B,6,37], %dy: f32[B,6,37]) {\n"
                      "  %1 = mul(%x, %dy) : f32[B,6,37]\n  %2 = scatter_add(%t, %1) {rows=9} : f32[9,37]\n"
                      "  return y = %2\n}\n", 0);
  run(FAMILY_SCATTER, "func @f(%t: i32[40], %x: f32[40]) {\n  %1 = scatter_add(%t, %x) {rows=20} : f32[20]\n"
                      "  return y = %1\n}\n", 0);
  run(FAMILY_SCATTER, "func @f(%t: i32[B,7], %x: i32[B,7,3]) {\n  %1 = scatter_add(%t, %x) {rows=20} : i32[20,3]\n"
                      "  return y = %1\n}\n", 0);
}

TEST("scatter_add: several tiles of indices, rows of several blocks") {
  NEED_NVRTC();
  run(FAMILY_SCATTER, "func @f(%t: i32[B,150], %x: f32[B,150,37]) {\n"
                      "  %1 = scatter_add(%t, %x) {rows=11} : f32[11,37]\n  return y = %1\n}\n", 0);
  run(FAMILY_SCATTER, "func @f(%t: i32[9], %x: f32[9,3,100]) {\n"
                      "  %1 = scatter_add(%t, %x) {rows=7} : f32[7,3,100]\n  return y = %1\n}\n", 0);
}

TEST("ring_write replaces rows and leaves the others") {
  NEED_NVRTC();
  device_check((DeviceCase){.c = {.family = FAMILY_SCATTER, .B = 3, .R = 5}, .slots = 9,
      .source = "func @f(%ring: f32[9,B,20], %slot: i32[4], %x: f32[4,B,20]) {\n  %1 = exp(%x) : f32[4,B,20]\n"
                "  %2 = ring_write(%ring, %slot, %1) : f32[9,B,20]\n  return y = %2\n}\n"});
}

/* ---- contract ---- */

/* Blocks that border cases do not get by themselves: two stages, plain loads, other tiles. */
static const char *const tiles[] = {
    NULL,
    "contract_gpu tile_m=8 tile_n=8 tile_k=16 block_m=2 block_n=1 stages=2 swap=0 unroll=4 resident=0",
    "contract_gpu tile_m=3 tile_n=4 tile_k=16 block_m=2 block_n=2 stages=1 swap=0 unroll=4 resident=0",
};

static void contract(int64_t B, int64_t R, const char *source) {
  bool one_column = strstr(source, ",1]\n  return");   /* has one form only */
  for (int i = 0; i < (one_column ? 1 : COUNT_OF(tiles)); i++)
    device_check((DeviceCase){.c = {.family = FAMILY_CONTRACT, .B = B, .R = R}, .source = source, .params = tiles[i]});
}

TEST("matmul: borders in rows, columns and k") {
  NEED_NVRTC();
  contract(3, 5, "func @f(%a: f32[B,23,37], %b: f32[37,70]) {\n"
                 "  %1 = matmul(%a, %b) {trans_a=0, trans_b=0} : f32[B,23,70]\n"
                 "  return y = %1\n}\n");
  contract(1, 1, "func @f(%a: f32[1,1], %b: f32[1,1]) {\n  %1 = matmul(%a, %b) {trans_a=0, trans_b=0} : f32[1,1]\n"
                 "  return y = %1\n}\n");
  contract(5, 1, "func @f(%a: f32[B,20,64], %b: f32[64,132]) {\n"
                 "  %1 = matmul(%a, %b) {trans_a=0, trans_b=0} : f32[B,20,132]\n"
                 "  return y = %1\n}\n");
}

TEST("matmul: transposed operands, batches, k of B elements") {
  NEED_NVRTC();
  contract(2, 5, "func @f(%a: f32[B,40,18], %b: f32[33,40]) {\n"
                 "  %1 = matmul(%a, %b) {trans_a=1, trans_b=1} : f32[B,18,33]\n  return y = %1\n}\n");
  contract(3, 5, "func @f(%a: f32[B,17,24], %b: f32[B,40,24]) {\n"
                 "  %1 = matmul(%a, %b) {trans_a=0, trans_b=1} : f32[B,17,40]\n  return y = %1\n}\n");
  contract(9, 5, "func @f(%a: f32[B,36], %b: f32[B,20]) {\n"
                 "  %1 = matmul(%a, %b) {trans_a=1, trans_b=0} : f32[36,20]\n"
                 "  return y = %1\n}\n");
}

TEST("matmul of few rows, with bias, gelu and a second operand") {
  NEED_NVRTC();
  contract(2, 11, "func @f(%a: f32[R,48], %b: f32[48,72], %c: f32[72], %x: f32[R,72]) {\n"
                  "  %1 = matmul(%a, %b) {trans_a=0, trans_b=0} : f32[R,72]\n  %2 = broadcast(%c) : f32[R,72]\n"
                  "  %3 = add(%1, %2) : f32[R,72]\n  %4 = gelu(%3) : f32[R,72]\n  %5 = add(%4, %x) : f32[R,72]\n"
                  "  return y = %5\n}\n");
}

TEST("conv2d: lines that are no multiple of a tile, strides, one and three channels") {
  NEED_NVRTC();
  contract(2, 1, "func @f(%x: f32[B,7,9,20], %w: f32[3,3,20,36], %b: f32[36]) {\n"
                 "  %1 = conv2d(%x, %w) {stride=1, kh=0, kw=0} : f32[B,5,7,36]\n"
                 "  %2 = broadcast(%b) : f32[B,5,7,36]\n"
                 "  %3 = add(%1, %2) : f32[B,5,7,36]\n  %4 = silu(%3) : f32[B,5,7,36]\n  return y = %4\n}\n");
  contract(2, 1, "func @f(%x: f32[B,9,9,3], %w: f32[3,3,3,24]) {\n"
                 "  %1 = conv2d(%x, %w) {stride=2, kh=0, kw=0} : f32[B,4,4,24]\n  return y = %1\n}\n");
}

TEST("conv2d to three channels and to one: rows along lanes") {
  NEED_NVRTC();
  static const char to_three[] = "func @f(%x: f32[B,8,13,16], %w: f32[3,3,16,3], %b: f32[3]) {\n"
                                 "  %1 = conv2d(%x, %w) {stride=1, kh=0, kw=0} : f32[B,6,11,3]\n"
                                 "  %2 = broadcast(%b) : f32[B,6,11,3]\n  %3 = add(%1, %2) : f32[B,6,11,3]\n"
                                 "  %4 = tanh(%3) : f32[B,6,11,3]\n  return y = %4\n}\n";
  contract(5, 1, to_three);
  contract(3, 1, "func @f(%a: f32[B,50,21], %b: f32[21,1]) {\n"
                 "  %1 = matmul(%a, %b) {trans_a=0, trans_b=0} : f32[B,50,1]\n"
                 "  return y = %1\n}\n");
}

TEST("conv2d, the gradients of picture and filter") {
  NEED_NVRTC();
  static const char source[] = "func @f(%x: f32[B,6,7,12], %w: f32[3,3,12,20], %dy: f32[B,4,5,20]) {\n"
                               "  %1 = conv2d(%x, %w) {stride=1, kh=0, kw=0} : f32[B,4,5,20]\n"
                               "  %2 = mul(%1, %dy) : f32[B,4,5,20]\n  %3 = sum(%2) {axes=[0,1,2,3]} : f32[]\n"
                               "  return y = %3\n}\n";
  for (int wrt = 1; wrt <= 2; wrt++)
    for (int i = 0; i < COUNT_OF(tiles); i++)
      device_check((DeviceCase){.c = {.family = FAMILY_CONTRACT, .B = 3, .R = 1}, .source = source, .wrt = wrt,
                                .params = tiles[i], .part = true});
}

/* ---- attend ---- */

#define INF3 "[-inf,-inf,-inf], hi=[inf,inf,inf]"
#define ONE_GRID "query_grid=[2,3,4], key_grid=[2,3,4]"
typedef struct Sight {
  const char *attrs;
  const char *query_grid, *key_grid;
} Sight;

#define CLIP "block=[0,0,0], edge=clip, causal="
#define SHIFT "block=[0,0,0], edge=shift, causal="
static const Sight sights[] = {
    {"kind=full, lo=" INF3 ", " CLIP "none, query_grid=[1,3,3], key_grid=[5,1,1]", "1,3,3", "5,1,1"},
    {"kind=full, lo=" INF3 ", " CLIP "raster, " ONE_GRID, "2,3,4", "2,3,4"},
    {"kind=axis, lo=" INF3 ", " CLIP "past, " ONE_GRID, "2,3,4", "2,3,4"},
    {"kind=axis, lo=[-1,1,-1], hi=[1,2,2], " CLIP "none, query_grid=[2,3,4], key_grid=[3,4,2]", "2,3,4", "3,4,2"},
    {"kind=nearby, lo=[-1,-1,-1], hi=[1,1,1], " CLIP "raster, " ONE_GRID, "2,3,4", "2,3,4"},
    {"kind=nearby, lo=[-1,-1,-1], hi=[0,1,1], " SHIFT "none, query_grid=[2,3,4], key_grid=[3,2,5]", "2,3,4", "3,2,5"},
    {"kind=nearby, lo=[-1,-2,-1], hi=[1,1,0], " SHIFT "past, " ONE_GRID, "2,3,4", "2,3,4"},
    {"kind=block, lo=" INF3 ", block=[1,2,3], edge=clip, causal=raster, " ONE_GRID, "2,3,4", "2,3,4"},
    /* words across: neighbours of a group on the first axis, lines that meet no word */
    {"kind=axis, lo=[-1,-1,0], hi=[2,1,0], " CLIP "none, query_grid=[7,1,1], key_grid=[3,2,2]", "7,1,1", "3,2,2"},
    {"kind=nearby, lo=[-1,0,0], hi=[1,0,0], " CLIP "raster, query_grid=[7,1,1], key_grid=[7,1,1]", "7,1,1", "7,1,1"},
    /* windows off the grid: for some queries, for all */
    {"kind=nearby, lo=[0,-1,2], hi=[0,0,3], " CLIP "none, " ONE_GRID, "2,3,4", "2,3,4"},
    {"kind=nearby, lo=[3,0,0], hi=[4,0,0], " CLIP "none, " ONE_GRID, "2,3,4", "2,3,4"},
};

enum { TEXT_BYTES = 4000 };

static const char *const stored[] = {"f32", "bf16"};

/* Two heads of 20 elements; `body` holds two %s for the attributes, T stands for what tensors are stored as. */
static void attend_text(char *text, const Sight *s, const char *type, const char *body, bool has_two) {
  char inner[TEXT_BYTES], attrs[400];
  snprintf(attrs, sizeof attrs, "heads=2, %s", s->attrs);
  snprintf(inner, sizeof inner, body, attrs, has_two ? attrs : "");
  char *out = text;
  for (const char *p = inner; *p && out < text + TEXT_BYTES - 100; p++) {   /* Q and K stand for the grids */
    const char *with = *p == 'Q' ? s->query_grid : *p == 'K' ? s->key_grid : *p == 'T' ? type : NULL;
    if (with) out += sprintf(out, "%s", with);
    else *out++ = *p;
  }
  *out = 0;
}

/* Each sight with one type, in the long campaign with both. */
static bool is_left_out(int i) { return !test_is_long && (i / COUNT_OF(stored) + i) % COUNT_OF(stored); }

static void attend_everywhere(const char *body, bool has_two) {
  char text[TEXT_BYTES];
  for (int i = 0; i < COUNT_OF(sights) * COUNT_OF(stored); i++) {
    if (is_left_out(i)) continue;
    attend_text(text, &sights[i / COUNT_OF(stored)], stored[i % COUNT_OF(stored)], body, has_two);
    run_f32(FAMILY_ATTEND, text);
  }
}

/* Blocks that the default does not make at these sizes: many chunks, plain loads, few groups, other tiles.  Cases take
 * them in turn, in the long campaign each takes all. */
static const char *const blocks[] = {
    "attend_gpu nest=1 own=0 block_m=4 tile_m=4 stream=0 tile_k=3 stages=2 resident=0",
    "attend_gpu nest=1 own=0 block_m=6 tile_m=2 stream=0 tile_k=9 stages=1 resident=0",
    "attend_gpu nest=1 own=0 block_m=64 tile_m=1 stream=0 tile_k=1 stages=1 resident=0",
};

static void attend_in_blocks(const char *source, int64_t B) {
  static int turn;
  for (int i = 0; i < COUNT_OF(blocks); i++)
    if (test_is_long || i == turn % COUNT_OF(blocks))
      device_check((DeviceCase){.c = {.family = FAMILY_ATTEND, .B = B, .R = 1}, .source = source, .params = blocks[i]});
  turn++;
}

static void attend_everywhere_in_blocks(const char *body, bool has_two) {
  char text[TEXT_BYTES];
  for (int i = 0; i < COUNT_OF(sights); i++) {
    attend_text(text, &sights[i], stored[i % COUNT_OF(stored)], body, has_two);
    attend_in_blocks(text, 2);
  }
}

static const char forward_text[] = "func @f(%%q: T[B,Q,40], %%k: T[B,K,40], %%v: T[B,K,40]) {\n"
                                   "  %%1 = attend(%%q, %%k, %%v) {%s} : T[B,Q,40]\n"
                                   "  %%2 = attend_lse(%%q, %%k) {%s} : f32[B,Q,2]\n"
                                   "  return y = %%1, lse = %%2\n}\n";

/* Keys of 20 elements, values of 6. */
static const char grad_q_text[] = "func @f(%%q: T[B,Q,40], %%k: T[B,K,40], %%v: T[B,K,12], %%dy: T[B,Q,12], "
                                  "%%lse: f32[B,Q,2], %%delta: f32[B,Q,2]) {\n"
                                  "  %%1 = attend_grad_q(%%q, %%k, %%v, %%dy, %%lse, %%delta) {%s} : T[B,Q,40]\n"
                                  "  return dq = %%1\n}\n";
static const char grad_kv_text[] = "func @f(%%q: T[B,Q,40], %%k: T[B,K,40], %%v: T[B,K,12], %%dy: T[B,Q,12], "
                                   "%%lse: f32[B,Q,2], %%delta: f32[B,Q,2]) {\n"
                                   "  %%1 = attend_grad_k(%%q, %%k, %%v, %%dy, %%lse, %%delta) {%s} : T[B,K,40]\n"
                                   "  %%2 = attend_grad_v(%%q, %%k, %%dy, %%lse) {%s} : T[B,K,12]\n"
                                   "  return dk = %%1, dv = %%2\n}\n";

WIDE_TEST("attend, forward, with the sums that its gradient needs") {
  NEED_NVRTC();
  attend_everywhere(forward_text, true);
}

WIDE_TEST("attend, forward, in chunks of planes, lines and single keys") {
  NEED_NVRTC();
  attend_everywhere_in_blocks(forward_text, true);
}

/* Heads of these widths on 3x7x5 and one of words: patches reach over the grid's borders. */
static void attend_wide(const char *body) {
  static const char *const box[] = {"clip, causal=none", "shift, causal=raster", "clip, causal=past"};
  static const int wide[] = {9, 48, 70};
  char width[8], text[TEXT_BYTES], attrs[400];
  for (int i = 0; i < COUNT_OF(box) * COUNT_OF(stored); i++) {
    snprintf(attrs, sizeof attrs, "heads=2, kind=nearby, lo=[-1,-1,-2], hi=[1,1,2], block=[0,0,0], edge=%s, "
             "query_grid=[3,7,5], key_grid=[3,7,5]", box[i % COUNT_OF(box)]);
    snprintf(width, sizeof width, "%d", 2 * wide[i % COUNT_OF(wide)]);
    char *out = text;
    for (const char *p = body; *p; p++) {   /* D: the width, A: the attributes, G: the grid, T: the type */
      const char *with = *p == 'D' ? width : *p == 'A' ? attrs : *p == 'G' ? "3,7,5" :
                         *p == 'T' ? stored[i / COUNT_OF(box)] : NULL;
      if (with) out += sprintf(out, "%s", with);
      else *out++ = *p;
    }
    *out = 0;
    run_f32(FAMILY_ATTEND, text);
    if (i == 0) attend_in_blocks(text, 1);
  }
}

WIDE_TEST("attend, forward: patches over the grid's borders, heads of 9, 48 and 70 elements") {
  NEED_NVRTC();
  attend_wide("func @f(%q: T[B,G,D], %k: T[B,G,D], %v: T[B,G,D]) {\n"
              "  %1 = attend(%q, %k, %v) {A} : T[B,G,D]\n  return y = %1\n}\n");
}

WIDE_TEST("attend, the sums of weights alone") {
  NEED_NVRTC();
  run_f32(FAMILY_ATTEND, "func @f(%q: f32[B,1,9,7,20], %k: f32[B,1,9,7,20]) {\n"
                         "  %1 = attend_lse(%q, %k) {heads=1, kind=nearby, lo=[0,-2,-2], hi=[0,2,2], block=[0,0,0], "
                         "edge=clip, causal=raster, query_grid=[1,9,7], key_grid=[1,9,7]} : f32[B,1,9,7,1]\n"
                         "  return y = %1\n}\n");
}

WIDE_TEST("attend, forward, where lists of whole windows are too long: scores are made twice") {
  NEED_NVRTC();
  static const char long_lists[] = "attend_gpu nest=1 own=0 block_m=64 tile_m=4 stream=1 tile_k=7 stages=2 resident=0";
  static const Sight wide[] = {
      {"kind=full, lo=" INF3 ", " CLIP "none, query_grid=[1,3,3], key_grid=[5,4,4]", "1,3,3", "5,4,4"},
      {"kind=axis, lo=" INF3 ", " CLIP "raster, query_grid=[4,4,5], key_grid=[4,4,5]", "4,4,5", "4,4,5"},
      {"kind=nearby, lo=[0,-3,-2], hi=[3,2,2], " SHIFT "none, query_grid=[4,4,5], key_grid=[4,4,5]", "4,4,5", "4,4,5"},
      {"kind=nearby, lo=[0,0,2], hi=[3,3,8], " CLIP "none, query_grid=[4,4,5], key_grid=[4,4,8]", "4,4,5", "4,4,8"},
  };
  char text[TEXT_BYTES];
  for (int i = 0; i < COUNT_OF(wide); i++) {
    attend_text(text, &wide[i], stored[i % COUNT_OF(stored)], forward_text, true);
    device_check((DeviceCase){.c = {.family = FAMILY_ATTEND, .B = 2, .R = 1}, .source = text, .params = long_lists});
  }
  attend_text(text, &wide[0], "f32", "func @f(%%q: T[B,Q,40], %%k: T[B,K,40]) {\n"
              "  %%1 = attend_lse(%%q, %%k) {%s} : f32[B,Q,2]\n  return y = %%1\n}\n", false);
  device_check((DeviceCase){.c = {.family = FAMILY_ATTEND, .B = 2, .R = 1}, .source = text, .params = long_lists});
}

WIDE_TEST("attend, the gradient of queries") {
  NEED_NVRTC();
  attend_everywhere(grad_q_text, false);
}

WIDE_TEST("attend, the gradient of queries, in chunks of planes, lines and single keys") {
  NEED_NVRTC();
  attend_everywhere_in_blocks(grad_q_text, false);
}

WIDE_TEST("attend, the gradients of keys and values") {
  NEED_NVRTC();
  attend_everywhere(grad_kv_text, true);
}

WIDE_TEST("attend, the gradients of keys and values, in chunks of planes, lines and single queries") {
  NEED_NVRTC();
  attend_everywhere_in_blocks(grad_kv_text, true);
}

WIDE_TEST("attend, the gradients: patches over the grid's borders, heads of 9, 48 and 70 elements, each alone") {
  NEED_NVRTC();
  attend_wide("func @f(%q: T[B,G,D], %k: T[B,G,D], %v: T[B,G,D], %dy: T[B,G,D], %lse: f32[B,G,2], "
              "%delta: f32[B,G,2]) {\n  %1 = attend_grad_q(%q, %k, %v, %dy, %lse, %delta) {A} : T[B,G,D]\n"
              "  return dq = %1\n}\n");
  attend_wide("func @f(%q: T[B,G,D], %k: T[B,G,D], %v: T[B,G,D], %dy: T[B,G,D], %lse: f32[B,G,2], "
              "%delta: f32[B,G,2]) {\n  %1 = attend_grad_k(%q, %k, %v, %dy, %lse, %delta) {A} : T[B,G,D]\n"
              "  return dk = %1\n}\n");
  attend_wide("func @f(%q: T[B,G,D], %k: T[B,G,D], %dy: T[B,G,D], %lse: f32[B,G,2]) {\n"
              "  %1 = attend_grad_v(%q, %k, %dy, %lse) {A} : T[B,G,D]\n  return dv = %1\n}\n");
}

/* What masks leave out, and keys that two heads share. */
static const char masked_text[] = "func @f(%%q: T[B,Q,40], %%k: T[B,K,20], %%v: T[B,K,20], %%m: u8[B,K]) {\n"
                                  "  %%1 = attend(%%q, %%k, %%v, %%m) {kv_heads=1, %s} : T[B,Q,40]\n"
                                  "  %%2 = attend_lse(%%q, %%k, %%m) {kv_heads=1, %s} : f32[B,Q,2]\n"
                                  "  return y = %%1, lse = %%2\n}\n";
static const char masked_q_text[] =
    "func @f(%%q: T[B,Q,40], %%k: T[B,K,20], %%v: T[B,K,6], %%dy: T[B,Q,12], %%lse: f32[B,Q,2], %%delta: f32[B,Q,2], "
    "%%m: u8[B,K]) {\n"
    "  %%1 = attend_grad_q(%%q, %%k, %%v, %%dy, %%lse, %%delta, %%m) {kv_heads=1, scale=-0.25, %s} : T[B,Q,40]\n"
    "  return dq = %%1\n}\n";
static const char masked_kv_text[] =
    "func @f(%%q: T[B,Q,40], %%k: T[B,K,20], %%v: T[B,K,6], %%dy: T[B,Q,12], %%lse: f32[B,Q,2], %%delta: f32[B,Q,2], "
    "%%m: u8[B,K]) {\n"
    "  %%1 = attend_grad_k(%%q, %%k, %%v, %%dy, %%lse, %%delta, %%m) {kv_heads=1, scale=-0.25, %s} : T[B,K,40]\n"
    "  %%2 = attend_grad_v(%%q, %%k, %%dy, %%lse, %%m) {kv_heads=1, scale=-0.25, %s} : T[B,K,12]\n"
    "  return dk = %%1, dv = %%2\n}\n";

WIDE_TEST("attend under masks, with keys that two heads share") {
  NEED_NVRTC();
  const char *const body[] = {masked_text, masked_q_text, masked_kv_text};
  char text[TEXT_BYTES];
  for (int i = 0; i < 2 * COUNT_OF(sights); i++) {
    if (!test_is_long && i % 6) continue;
    const char *of = body[i / 6 % COUNT_OF(body)];
    attend_text(text, &sights[i / 2], stored[i / 8 % COUNT_OF(stored)], of, of != masked_q_text);
    run_f32(FAMILY_ATTEND, text);
    attend_in_blocks(text, 2);
  }
}

static void rows_everywhere(const char *body, int64_t slots) {
  char text[TEXT_BYTES];
  for (int i = 0; i < COUNT_OF(sights) * COUNT_OF(stored); i++) {
    const Sight *s = &sights[i / COUNT_OF(stored)];
    int grid[3] = {0};
    if (is_left_out(i)) continue;
    attend_text(text, s, stored[i % COUNT_OF(stored)], body, false);
    sscanf(s->query_grid, "%d,%d,%d", &grid[0], &grid[1], &grid[2]);
    device_check((DeviceCase){.c = {.family = FAMILY_ATTEND, .B = 2, .R = 11}, .source = text,
                              .positions = grid[0] * grid[1] * grid[2], .slots = slots});
  }
}

WIDE_TEST("attend_rows over whole keys") {
  NEED_NVRTC();
  rows_everywhere("func @f(%%q: T[R,40], %%rows: i32[R,2], %%k: T[B,K,40], %%v: T[B,K,40]) {\n"
                  "  %%1 = attend_rows(%%q, %%rows, %%k, %%v) {%s} : T[R,40]\n  return y = %%1\n}\n", 1);
}

WIDE_TEST("attend_rows under masks, with keys that two heads share") {
  NEED_NVRTC();
  char text[TEXT_BYTES];
  const char *const body[] = {
      "func @f(%%q: T[R,40], %%rows: i32[R,2], %%k: T[B,K,20], %%v: T[B,K,20], %%m: u8[B,K]) {\n"
      "  %%1 = attend_rows(%%q, %%rows, %%k, %%v, %%m) {kv_heads=1, %s} : T[R,40]\n  return y = %%1\n}\n",
      "func @f(%%q: T[R,40], %%rows: i32[R,2], %%k: T[17,B,20], %%v: T[17,B,20], %%slot: i32[24], %%m: u8[B,K]) {\n"
      "  %%1 = attend_rows(%%q, %%rows, %%k, %%v, %%slot, %%m) {kv_heads=1, %s} : T[R,40]\n  return y = %%1\n}\n"};
  for (int i = 0; i < COUNT_OF(body); i++) {
    const Sight *s = sights;
    while (strcmp(s->key_grid, "2,3,4")) s++;
    attend_text(text, s, stored[i], body[i], false);
    device_check((DeviceCase){.c = {.family = FAMILY_ATTEND, .B = 2, .R = 11}, .source = text, .positions = 24,
                              .slots = i ? 17 : 1});
  }
}

WIDE_TEST("attend_rows over rings, through a table from position to slot") {
  NEED_NVRTC();
  char text[TEXT_BYTES];
  for (int i = 1; i < COUNT_OF(sights) * COUNT_OF(stored); i++) {
    const Sight *s = &sights[i / COUNT_OF(stored)];
    if (strcmp(s->key_grid, "2,3,4")) continue;
    attend_text(text, s, stored[i % COUNT_OF(stored)],
                "func @f(%%q: T[R,40], %%rows: i32[R,2], %%k: T[17,B,40], %%v: T[17,B,40], %%slot: i32[24]) {\n"
                "  %%1 = attend_rows(%%q, %%rows, %%k, %%v, %%slot) {%s} : T[R,40]\n  return y = %%1\n}\n", false);
    device_check((DeviceCase){.c = {.family = FAMILY_ATTEND, .B = 2, .R = 11}, .source = text, .positions = 24,
                              .slots = 17});
  }
}

TEST_MAIN()
