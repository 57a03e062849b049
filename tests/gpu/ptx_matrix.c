/* ldmatrix and mma.sync: 8x8 tiles of 16-bit elements spread over a warp.
 *
 * Fragments (PTX ISA, "Matrix Fragments for mma.m16n8k16"): lane l belongs to group g = l / 4 and holds, of every
 * 8x8 tile of A or C, row g and the two columns 2 (l % 4), + 1; of B, which is stored by columns, column g and those
 * rows.  A's registers are the tiles top left, bottom left, top right, bottom right; C's pairs are top and bottom.
 * Sums: to C the products, which are exact in f32, are added one after the other, k ascending, each sum rounded to
 * nearest; the device's own order is not specified, so results agree within its tolerance and not bit by bit. */
#include <string.h>

#include "tests/gpu/ptx_exec.h"

const char *bind_matrix(Instr *i) {
  if (i->negated) return "a negated operand";
  if (i->op == OP_LDMATRIX)
    return i->shape == SHAPE_M8N8 && i->space == SPACE_SHARED && i->types == 1 && i->type[0] == T_B16 &&
                   i->count[0] == i->vector
               ? NULL
               : "this matrix load";
  bool f32 = i->types == 4 && i->type[0] == T_F32 && i->type[3] == T_F32 && i->type[1] == i->type[2];
  bool layout = (i->flags & FLAG_ROW) && (i->flags & FLAG_COL);
  bool half = i->type[1] == T_BF16 || i->type[1] == T_F16, deep = i->shape == SHAPE_M16N8K16;
  bool counts = i->count[0] == 4 && i->count[3] == 4;
  if (half) counts = counts && i->count[1] == (deep ? 4 : 2) && i->count[2] == (deep ? 2 : 1);
  else counts = counts && !deep && i->count[1] == 4 && i->count[2] == 2;
  if (!f32 || !layout || !counts || i->shape == SHAPE_M8N8 || i->shape == SHAPE_NONE ||
      (!half && i->type[1] != T_TF32))
    return "this matrix product";
  return NULL;
}

static void need_whole_warp(Exec *x, const Instr *i, uint32_t lanes) {
  if (lanes != UINT32_MAX)
    exec_fault(x, i, __builtin_ctz(lanes), FAULT_LAUNCH, "only lanes %#x are here, but this needs the whole warp",
               lanes);
}

void run_ldmatrix(Exec *x, const Instr *i, uint32_t lanes) {
  need_whole_warp(x, i, lanes);
  const uint64_t *address = operand_row(x, i, 1, 0);
  uint16_t row[LANES][8];
  unsigned unwritten[LANES], any = 0;
  uint64_t from[LANES];
  int tiles = i->vector;
  for (int l = 0; l < tiles * 8; l++) {
    from[l] = address[l] + (uint64_t)i->offset[0];
    memcpy(row[l], exec_access(x, i, l, SPACE_SHARED, from[l], 16, ACCESS_LOAD), 16);
    any |= unwritten[l] = x->unwritten;
  }
  for (int t = 0; t < tiles; t++) {
    uint64_t *d = operand_row(x, i, 0, t);
    for (int l = 0; l < LANES; l++) {
      int r = l / 4, c = l % 4 * 2;
      uint32_t low = i->flags & FLAG_TRANS ? row[8 * t + c][r] : row[8 * t + r][c];
      uint32_t high = i->flags & FLAG_TRANS ? row[8 * t + c + 1][r] : row[8 * t + r][c + 1];
      d[l] = low | high << 16;
      if (!any && !x->warp[x->current].tainted) continue;
      Unknown u = {.line = i->line, .shared = true};
      for (int h = 0; h < 2; h++) {
        int at = i->flags & FLAG_TRANS ? 8 * t + c + h : 8 * t + r, column = i->flags & FLAG_TRANS ? r : c + h;
        if (!(unwritten[at] >> 2 * column & 3)) continue;
        u.address = from[at] + (unsigned)(2 * column);
        u.bits |= (uint64_t)0xffff << 16 * h;
      }
      unknown_set(x, i->row[t], l, u);
    }
  }
}

/* Element `k % 2` of a register of packed halves; tf32 ignores the low 13 bits. */
static float element(const uint64_t *row, int lane, int high, int type) {
  if (type == T_TF32) return f32_of(row[lane] & 0xffffe000u);
  if (type == T_BF16) return f32_of((row[lane] >> 16 * high & 0xffff) << 16);
  return (float)half_value((uint32_t)(row[lane] >> 16 * high) & 0xffff, (PtxType)type);
}

static void gather_halves(Exec *x, const Instr *i, float a[16][16], float b[16][8], int depth) {
  for (int l = 0; l < LANES; l++)
    for (int h = 0; h < 2; h++) {
      int g = l / 4, c = l % 4 * 2 + h;
      for (int t = 0; t < depth / 4; t++)
        a[g + t % 2 * 8][c + t / 2 * 8] = element(operand_row(x, i, 1, t), l, h, i->type[1]);
      for (int t = 0; t < depth / 8; t++) b[c + t * 8][g] = element(operand_row(x, i, 2, t), l, h, i->type[1]);
    }
}

/* m16n8k8 of tf32: one element a register; A's are (g, c), (g + 8, c), (g, c + 4), (g + 8, c + 4). */
static void gather_tf32(Exec *x, const Instr *i, float a[16][16], float b[16][8]) {
  for (int l = 0; l < LANES; l++) {
    int g = l / 4, c = l % 4;
    for (int t = 0; t < 4; t++) a[g + t % 2 * 8][c + t / 2 * 4] = element(operand_row(x, i, 1, t), l, 0, T_TF32);
    for (int t = 0; t < 2; t++) b[c + t * 4][g] = element(operand_row(x, i, 2, t), l, 0, T_TF32);
  }
}

static WIDE void multiply_add(float c[16][8], float a[16][16], float b[16][8], int depth) {
  for (int r = 0; r < 16; r++)
    for (int k = 0; k < depth; k++)
      for (int n = 0; n < 8; n++) c[r][n] += a[r][k] * b[k][n];
}

/* An unknown element of A makes its row of the result unknown, one of B its column. */
static void follow_product(Exec *x, const Instr *i) {
  Unknown row[16] = {{0}}, column[8] = {{0}}, sum[4][LANES];
  for (int l = 0; l < LANES; l++) {
    for (int t = 0; t < i->count[1]; t++) {
      Unknown u = unknown_get(x, i->row[i->at[1] + t], l);
      if (u.bits) row[l / 4 + t % 2 * 8] = u;
    }
    for (int t = 0; t < i->count[2]; t++) {
      Unknown u = unknown_get(x, i->row[i->at[2] + t], l);
      if (u.bits) column[l / 4] = u;
    }
    for (int t = 0; t < 4; t++) sum[t][l] = unknown_get(x, i->row[i->at[3] + t], l);
  }
  for (int t = 0; t < 4; t++)
    for (int l = 0; l < LANES; l++) {
      Unknown r = row[l / 4 + t / 2 * 8], c = column[l % 4 * 2 + t % 2], u = sum[t][l];
      u = u.bits ? u : r.bits ? r : c;
      if (u.bits) u.bits = UINT32_MAX;
      unknown_set(x, i->row[t], l, u);
    }
}

void run_mma(Exec *x, const Instr *i, uint32_t lanes) {
  need_whole_warp(x, i, lanes);
  float a[16][16], b[16][8], c[16][8];
  int depth = i->shape == SHAPE_M16N8K16 ? 16 : 8;
  if (x->warp[x->current].tainted) follow_product(x, i);
  if (i->type[1] == T_TF32) gather_tf32(x, i, a, b);
  else gather_halves(x, i, a, b, depth);
  for (int t = 0; t < 4; t++)
    for (int l = 0; l < LANES; l++) c[l / 4 + t / 2 * 8][l % 4 * 2 + t % 2] = f32_of(operand_row(x, i, 3, t)[l]);
  multiply_add(c, a, b, depth);
  for (int t = 0; t < 4; t++)
    for (int l = 0; l < LANES; l++) operand_row(x, i, 0, t)[l] = f32_bits(c[l / 4 + t / 2 * 8][l % 4 * 2 + t % 2]);
}
