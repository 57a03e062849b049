/* The cuBLASLt stand-in: the product itself, on the host, from and to the emulated device's memory.
 *
 * The order of summation is a permutation of k drawn from the configuration, cut into as many parts as k is split
 * into: no two configurations share it, and it depends on nothing else, so that one algorithm gives a row the same
 * bits whatever stands beside it.
 *
 * It runs when the emulator comes to it (emu_enqueue), late and in any legal order, and every replay of a graph runs
 * it again from what was captured. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/blaslt_emu.h"
#include "tests/gpu/emucuda.h"

/* A product as it was issued; everything that the caller may change afterwards is copied. */
typedef struct Job {
  char what[120];
  struct LtLayout_ a, b, c, d;
  int32_t op_a, op_b;
  uint64_t m, n, k;
  Config config;
  float alpha, beta;
  CUdeviceptr at_a, at_b, at_c, at_d, bias, workspace;
  size_t workspace_bytes;
} Job;

/* ---- numbers ---- */

static float from_bf16(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

static uint16_t to_bf16(float f) {
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 64);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float to_tf32(float f) {
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  bits &= ~0x1fffu;
  memcpy(&f, &bits, sizeof f);
  return f;
}

/* FNV-1a over what makes the order. */
static uint64_t order_seed(const Config *c) {
  const uint64_t part[] = {(uint64_t)c->id, c->tile, c->stages, c->swizzle, c->custom, c->cluster};
  uint64_t h = 14695981039346656037u;
  for (size_t k = 0; k < sizeof part / sizeof *part; k++) h = (h ^ part[k]) * 1099511628211u;
  return h;
}

static void draw_order(uint64_t seed, uint64_t n, uint64_t *out) {
  for (uint64_t k = 0; k < n; k++) out[k] = k;
  for (uint64_t k = n; k > 1; k--) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    uint64_t other = (seed >> 33) % k, x = out[k - 1];
    out[k - 1] = out[other];
    out[other] = x;
  }
}

/* ---- device memory ---- */

/* Column `col` of matrix `i` of the batch. */
static CUdeviceptr column_at(const struct LtLayout_ *l, CUdeviceptr base, uint64_t i, uint64_t col) {
  return base + (i * (uint64_t)l->stride + col * (uint64_t)l->ld) * lt_bytes(l->type);
}

static CUresult read_elements(int type, CUdeviceptr from, uint64_t n, float *out, uint16_t *spare) {
  if (type == LT_R_32F) return emu_read(out, from, n * sizeof *out);
  CUresult code = emu_read(spare, from, n * sizeof *spare);
  for (uint64_t k = 0; k < n && !code; k++) out[k] = from_bf16(spare[k]);
  return code;
}

static CUresult write_elements(int type, CUdeviceptr to, uint64_t n, const float *from, uint16_t *spare) {
  if (type == LT_R_32F) return emu_write(to, from, n * sizeof *from);
  for (uint64_t k = 0; k < n; k++) spare[k] = to_bf16(from[k]);
  return emu_write(to, spare, n * sizeof *spare);
}

/* ---- one product ---- */

typedef struct Room {
  float *a, *b, *column, *part, *bias;   /* a [k, m] and b [n, k] in the order of summation; columns of m */
  float *spare;                 /* a column of A or B */
  uint16_t *half;
  uint64_t *order;
} Room;

static void room_done(Room *r) {
  free(r->a);
  free(r->b);
  free(r->column);
  free(r->part);
  free(r->bias);
  free(r->spare);
  free(r->half);
  free(r->order);
}

static bool room_init(Room *r, const Job *j) {
  uint64_t longest = j->m > j->n ? j->m : j->n;
  if (longest < j->k) longest = j->k;
  *r = (Room){malloc(j->k * j->m * sizeof(float)), malloc(j->n * j->k * sizeof(float)), malloc(j->m * sizeof(float)),
              malloc(j->m * sizeof(float)), malloc(j->m * sizeof(float)), malloc(longest * sizeof(float)),
              malloc(longest * sizeof(uint16_t)), malloc(j->k * sizeof(uint64_t))};
  return r->a && r->b && r->column && r->part && r->bias && r->spare && r->half && r->order;
}

/* Reads matrix `i` of l so that out[k * k_step + x * x_step] is its element of the k-th place in the order of
 * summation.  k_down: k runs down the stored columns. */
static CUresult read_operand(const Job *j, Room *r, const struct LtLayout_ *l, CUdeviceptr base, uint64_t i,
                             bool k_down, uint64_t *place, float *out, uint64_t k_step, uint64_t x_step) {
  bool tf32 = config_is_tf32(&j->config);
  for (uint64_t col = 0; col < l->cols; col++) {
    CUresult code = read_elements(l->type, column_at(l, base, i, col), l->rows, r->spare, r->half);
    if (code) return code;
    for (uint64_t row = 0; row < l->rows; row++) {
      uint64_t k = place[k_down ? row : col], x = k_down ? col : row;
      out[k * k_step + x * x_step] = tf32 ? to_tf32(r->spare[row]) : r->spare[row];
    }
  }
  return 0;
}

/* One column of D before the epilogue: the parts of k one after the other, each summed by itself. */
static void sum_column(const Job *j, const Room *r, const float *b) {
  uint64_t parts = (uint64_t)j->config.split;
  for (uint64_t i = 0; i < j->m; i++) r->column[i] = 0;
  for (uint64_t part = 0; part < parts; part++) {
    for (uint64_t i = 0; i < j->m; i++) r->part[i] = 0;
    for (uint64_t k = part * j->k / parts; k < (part + 1) * j->k / parts; k++)
      for (uint64_t i = 0; i < j->m; i++) r->part[i] += r->a[k * j->m + i] * b[k];
    for (uint64_t i = 0; i < j->m; i++) r->column[i] += r->part[i];
  }
}

static CUresult run_matrix(const Job *j, Room *r, uint64_t i) {
  CUresult code = read_operand(j, r, &j->a, j->at_a, i, j->op_a == LT_OP_T, r->order, r->a, j->m, 1);
  if (!code) code = read_operand(j, r, &j->b, j->at_b, i, j->op_b != LT_OP_T, r->order, r->b, 1, j->k);
  for (uint64_t col = 0; col < j->n && !code; col++) {
    sum_column(j, r, r->b + col * j->k);
    if (j->beta != 0) code = read_elements(j->c.type, column_at(&j->c, j->at_c, i, col), j->m, r->spare, r->half);
    for (uint64_t k = 0; k < j->m; k++) {
      float x = j->alpha * r->column[k];
      if (j->beta != 0) x += j->beta * r->spare[k];
      r->column[k] = j->bias ? x + r->bias[k] : x;
    }
    if (!code) code = write_elements(j->d.type, column_at(&j->d, j->at_d, i, col), j->m, r->column, r->half);
  }
  return code;
}

/* Everything is there before the first column of D is written, and nothing of it is D. */
static CUresult check_operands(const Job *j) {
  const struct { const struct LtLayout_ *layout; CUdeviceptr base; } operand[] = {{&j->a, j->at_a}, {&j->b, j->at_b}};
  CUresult code = 0;
  for (uint64_t i = 0; i < (uint64_t)j->d.batch; i++) {
    for (uint64_t col = 0; j->beta == 0 && col < j->n && !code; col++)
      code = emu_forget(column_at(&j->d, j->at_d, i, col), j->m * lt_bytes(j->d.type));
  }
  for (int k = 0; k < 2; k++)
    for (uint64_t i = 0; i < (uint64_t)j->d.batch; i++)
      for (uint64_t col = 0; col < operand[k].layout->cols && !code; col++)
        code = emu_read(NULL, column_at(operand[k].layout, operand[k].base, i, col),
                        operand[k].layout->rows * lt_bytes(operand[k].layout->type));
  return code;
}

static CUresult run_job(void *context) {
  enum { OUT_OF_MEMORY = 2 };
  const Job *j = context;
  Room r;
  CUresult code = room_init(&r, j) ? check_operands(j) : OUT_OF_MEMORY;
  if (!code) {
    draw_order(order_seed(&j->config), j->k, r.order);
    if (j->bias) code = read_elements(j->d.type, j->bias, j->m, r.bias, r.half);
    for (uint64_t i = 0; i < (uint64_t)j->d.batch && !code; i++) code = run_matrix(j, &r, i);
  }
  room_done(&r);
  return code;
}

/* ---- the call ---- */

static int enqueue(LtStream stream, const Job *j) {
  Job *copy = malloc(sizeof *copy);
  if (!copy) return lt_fail(LT_ALLOC_FAILED, "out of memory");
  *copy = *j;
  snprintf(copy->what, sizeof copy->what, "cublasLtMatmul of %llu x %llu by %llu x %llu", (unsigned long long)j->m,
           (unsigned long long)j->k, (unsigned long long)j->k, (unsigned long long)j->n);
  EmuWork work = {copy->what, run_job, copy, free, j->workspace, j->workspace_bytes};
  return emu_enqueue((CUstream)stream, &work) ? lt_fail(LT_EXECUTION_FAILED, "%.300s", emu_last_error()) : LT_SUCCESS;
}

static int check_address(const char *what, const void *p, uint32_t align) {
  if (p && (uintptr_t)p % align == 0) return LT_SUCCESS;
  return lt_fail(LT_INVALID_VALUE, "%s at %p: an address aligned to %u is needed", what, p, align);
}

static int check_call(const Problem *p, const Config *config, const Job *j, const void *const matrix[4]) {
  static const char *const name[] = {"A", "B", "C", "D"};
  size_t needed;
  int status = config_check(p, config, &needed);
  for (int k = 0; k < 4 && !status; k++)
    if (k != 2 || j->beta != 0) status = check_address(name[k], matrix[k], config_alignment(config));
  if (!status && p->desc->epilogue == LT_EPILOGUE_BIAS)
    status = check_address("the bias", p->desc->bias, (uint32_t)lt_bytes(p->d->type));
  if (status) return status;
  if (j->workspace_bytes < needed || j->workspace % 256 || (needed && !j->workspace))
    return lt_fail(LT_INVALID_VALUE, "a workspace of %zu bytes at %#llx: %zu bytes aligned to 256 are needed",
                   j->workspace_bytes, j->workspace, needed);
  return LT_SUCCESS;
}

static CUdeviceptr address_of(const void *p) { return (CUdeviceptr)(uintptr_t)p; }

int cublasLtMatmul(LtHandle handle, LtDesc desc, const void *alpha, const void *a, LtLayout a_layout, const void *b,
                   LtLayout b_layout, const void *beta, const void *c, LtLayout c_layout, void *d, LtLayout d_layout,
                   const LtAlgo *algo, void *workspace, size_t workspace_bytes, LtStream stream) {
  Problem p;
  int status = problem_init(&p, handle, desc, a_layout, b_layout, c_layout, d_layout);
  if (status) return status;
  Config config;
  if (!alpha || !beta || !config_of(algo, &config))
    return lt_fail(LT_INVALID_VALUE, "alpha, beta and an algorithm are needed: the stand-in chooses none");
  const void *bias = desc->epilogue == LT_EPILOGUE_BIAS ? desc->bias : NULL;
  Job j = {"", *a_layout, *b_layout, *c_layout, *d_layout, desc->op_a, desc->op_b, p.m, p.n, p.k, config,
           *(const float *)alpha, *(const float *)beta, address_of(a), address_of(b), address_of(c), address_of(d),
           address_of(bias), address_of(workspace), workspace_bytes};
  const void *const matrix[] = {a, b, c, d};
  status = check_call(&p, &config, &j, matrix);
  return status ? status : enqueue(stream, &j);
}
