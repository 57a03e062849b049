/* Functions some of whose results have elements where there are no samples; for tests on both devices. */
#ifndef NUWA_TESTS_EMPTY_BATCH_H
#define NUWA_TESTS_EMPTY_BATCH_H

/* Long and short k, split or packed or neither; with and without what follows the product; every op whose result may
 * have elements where an operand has none.  What begins with w has no batch. */
static const char empty_batch_functions[] =
    "func @product(%x: f32[B,40], %y: f32[B,70]) {\n"
    "  %1 = matmul(%x, %y) {trans_a=1, trans_b=0} : f32[40,70]\n  return y = %1\n}\n"
    "func @long_product(%x: f32[B,300,40], %y: f32[B,300,20]) {\n"
    "  %1 = reshape(%x) : f32[300B,40]\n  %2 = reshape(%y) : f32[300B,20]\n"
    "  %3 = matmul(%1, %2) {trans_a=1, trans_b=0} : f32[40,20]\n  return y = %3\n}\n"
    "func @one_row(%x: f32[B,1], %y: f32[B,100]) {\n"
    "  %1 = matmul(%x, %y) {trans_a=1, trans_b=0} : f32[1,100]\n  return y = %1\n}\n"
    "func @turned(%x: f32[7,B], %y: f32[33,B]) {\n"
    "  %1 = matmul(%x, %y) {trans_a=0, trans_b=1} : f32[7,33]\n  return y = %1\n}\n"
    "func @epilogue(%x: f32[B,17], %y: f32[B,35], %w: f32[17,35]) {\n"
    "  %1 = matmul(%x, %y) {trans_a=1, trans_b=0} : f32[17,35]\n  %2 = add(%1, %w) : f32[17,35]\n"
    "  %3 = tanh(%2) : f32[17,35]\n  return p = %1, y = %3\n}\n"
    "func @halves(%x: bf16[B,40], %y: bf16[B,70]) {\n"
    "  %1 = matmul(%x, %y) {trans_a=1, trans_b=0} : bf16[40,70]\n  return y = %1\n}\n"
    "func @filter(%x: f32[B,5,6,3], %y: f32[B,4,4,20]) {\n"
    "  %1 = conv2d_grad_w(%x, %y) {stride=1, kh=2, kw=3} : f32[2,3,3,20]\n  return y = %1\n}\n"
    "func @filter_of_halves(%x: bf16[B,5,6,3], %y: bf16[B,4,4,20]) {\n"
    "  %1 = conv2d_grad_w(%x, %y) {stride=1, kh=2, kw=3} : bf16[2,3,3,20]\n  return y = %1\n}\n"
    "func @joined(%x: f32[B,3], %w: f32[2,3]) {\n"
    "  %1 = concat(%w, %x) {axis=0} : f32[B+2,3]\n  %2 = concat(%x, %w) {axis=0} : f32[B+2,3]\n"
    "  %3 = concat(%x, %x, %w) {axis=0} : f32[2B+2,3]\n  return a = %1, b = %2, c = %3\n}\n"
    "func @joined_lines(%x: f32[B], %w: f32[35]) {\n"
    "  %1 = concat(%x, %w) {axis=0} : f32[B+35]\n  %2 = concat(%w, %x) {axis=0} : f32[B+35]\n"
    "  return a = %1, b = %2\n}\n"
    "func @padded(%x: f32[B,3]) {\n"
    "  %1 = pad(%x) {lo=[1,0], hi=[2,1], interior=[0,1], value=7} : f32[B+3,6]\n"
    "  %2 = pad(%x) {lo=[0,0], hi=[2,0], interior=[0,0], value=5} : f32[B+2,3]\n"
    "  %3 = pad(%x) {lo=[0,0], hi=[2,0], interior=[0,0], value=6} : f32[B+2,3]\n"
    "  %4 = slice(%3) {start=[0,0], stop=[1,3], step=[1,1]} : f32[1,3]\n  return a = %1, b = %2, first = %4\n}\n"
    "func @reduced(%x: f32[B,33], %w: f32[1,33]) {\n"
    "  %1 = sum(%x) {axes=[0]} : f32[33]\n  %2 = max(%x) {axes=[0]} : f32[33]\n  %3 = sum(%x) {axes=[0,1]} : f32[]\n"
    "  %4 = concat(%x, %w) {axis=0} : f32[B+1,33]\n  %5 = max(%4) {axes=[0]} : f32[33]\n"
    "  %6 = argmax(%4) {axis=0} : i32[33]\n  return a = %1, b = %2, c = %3, d = %5, e = %6\n}\n"
    "func @meaned(%x: f32[B,5]) {\n"
    "  %1 = mean(%x) {axes=[0]} : f32[5]\n  %2 = mean(%x) {axes=[0,1]} : f32[]\n  return a = %1, b = %2\n}\n"
    "func @counted(%x: i32[B,5], %t: i32[B]) {\n"
    "  %1 = sum(%x) {axes=[0]} : i32[5]\n  %2 = max(%x) {axes=[0]} : i32[5]\n"
    "  %3 = scatter_add(%t, %x) {rows=9} : i32[9,5]\n  return a = %1, b = %2, c = %3\n}\n"
    "func @trained(%x: f32[B,17], %t: i32[B], %w: f32[17,20], %wg: f32[17], %wb: f32[17]) {\n"
    "  %1 = layer_norm(%x, %wg, %wb) {eps=1e-5, groups=0} : f32[B,17]\n"
    "  %2 = matmul(%1, %w) {trans_a=0, trans_b=0} : f32[B,20]\n  %3 = cross_entropy(%2, %t) : f32[B]\n"
    "  %4 = sum(%3) {axes=[0]} : f32[]\n  %5 = grad(%4, %w) : f32[17,20]\n  %6 = grad(%4, %wg) : f32[17]\n"
    "  %7 = grad(%4, %wb) : f32[17]\n  %8 = grad(%4, %x) : f32[B,17]\n"
    "  return dw = %5, dg = %6, db = %7, dx = %8, loss = %4\n}\n"
    "func @attended(%x: f32[B,1,2,3,8], %w: f32[8,8]) {\n"
    "  %1 = matmul(%x, %w) {trans_a=0, trans_b=0} : f32[B,1,2,3,8]\n"
    "  %2 = attend(%1, %1, %x) {heads=2, kind=full, lo=[-inf,-inf,-inf], hi=[inf,inf,inf], block=[0,0,0], edge=clip,"
    " causal=none, query_grid=[1,2,3], key_grid=[1,2,3]} : f32[B,1,2,3,8]\n"
    "  %3 = sum(%2) {axes=[0,1,2,3,4]} : f32[]\n  %4 = grad(%3, %w) : f32[8,8]\n  return dw = %4, y = %3\n}\n";

enum { EMPTY_BATCH_FUNCTIONS = 16 };

#endif
