/* The cuBLASLt stand-in: handles, descriptors, layouts, preferences, statuses. */
#include "tests/gpu/blaslt_emu.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/emucuda.h"

static _Thread_local struct { int status; char text[400], shown[500]; } failure;

int lt_fail(int status, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  vsnprintf(failure.text, sizeof failure.text, fmt, args);
  va_end(args);
  failure.status = status;
  return status;
}

static const struct { int status; const char *name, *text; } statuses[] = {
    {LT_SUCCESS, "CUBLAS_STATUS_SUCCESS", "success"},
    {LT_NOT_INITIALIZED, "CUBLAS_STATUS_NOT_INITIALIZED", "the library was not initialized"},
    {LT_ALLOC_FAILED, "CUBLAS_STATUS_ALLOC_FAILED", "the resource allocation failed"},
    {LT_INVALID_VALUE, "CUBLAS_STATUS_INVALID_VALUE", "an unsupported value or parameter was passed to the function"},
    {LT_ARCH_MISMATCH, "CUBLAS_STATUS_ARCH_MISMATCH", "the device architecture lacks a feature that is needed"},
    {LT_EXECUTION_FAILED, "CUBLAS_STATUS_EXECUTION_FAILED", "the function failed to launch on the GPU"},
    {LT_INTERNAL_ERROR, "CUBLAS_STATUS_INTERNAL_ERROR", "an internal operation failed"},
    {LT_NOT_SUPPORTED, "CUBLAS_STATUS_NOT_SUPPORTED", "the requested functionality is not supported"},
};
enum { STATUSES = sizeof statuses / sizeof *statuses };

const char *cublasLtGetStatusName(int status) {
  for (int k = 0; k < STATUSES; k++)
    if (statuses[k].status == status) return statuses[k].name;
  return "unrecognized status";
}

/* The library's words, and after them why this thread's last failure happened. */
const char *cublasLtGetStatusString(int status) {
  for (int k = 0; k < STATUSES; k++) {
    if (statuses[k].status != status) continue;
    if (!status || status != failure.status) return statuses[k].text;
    snprintf(failure.shown, sizeof failure.shown, "%s: %s", statuses[k].text, failure.text);
    return failure.shown;
  }
  return "unrecognized status";
}

size_t cublasLtGetVersion(void) { return 130100; }

int cublasLtCreate(LtHandle *handle) {
  CUdevice device;
  int major, minor;
  if (!handle) return lt_fail(LT_INVALID_VALUE, "cublasLtCreate: no place for the handle");
  if (cuCtxGetDevice(&device) || cuDeviceGetAttribute(&major, 75, device) || cuDeviceGetAttribute(&minor, 76, device))
    return lt_fail(LT_NOT_INITIALIZED, "cublasLtCreate: no context is current");
  LtHandle h = calloc(1, sizeof *h);
  if (!h) return lt_fail(LT_ALLOC_FAILED, "out of memory");
  h->magic = MAGIC_HANDLE;
  h->capability = major * 10 + minor;
  *handle = h;
  return LT_SUCCESS;
}

/* Frees any of the objects; its first member tells a second time, while the memory lasts. */
#define DESTROY(object, expected)                                                                      \
  do {                                                                                                 \
    if (!(object) || (object)->magic != (expected))                                                    \
      return lt_fail(LT_INVALID_VALUE, "%s: no such object", __func__);                                \
    (object)->magic = 0;                                                                               \
    free(object);                                                                                      \
    return LT_SUCCESS;                                                                                 \
  } while (0)

int cublasLtDestroy(LtHandle handle) { DESTROY(handle, MAGIC_HANDLE); }
int cublasLtMatmulDescDestroy(LtDesc desc) { DESTROY(desc, MAGIC_DESC); }
int cublasLtMatrixLayoutDestroy(LtLayout layout) { DESTROY(layout, MAGIC_LAYOUT); }
int cublasLtMatmulPreferenceDestroy(LtPreference preference) { DESTROY(preference, MAGIC_PREFERENCE); }

int cublasLtMatmulDescCreate(LtDesc *desc, int compute_type, int scale_type) {
  LtDesc d = calloc(1, sizeof *d);
  if (!d) return lt_fail(LT_ALLOC_FAILED, "out of memory");
  *d = (struct LtDesc_){MAGIC_DESC, compute_type, scale_type, LT_OP_N, LT_OP_N, LT_EPILOGUE_DEFAULT, NULL};
  *desc = d;
  return LT_SUCCESS;
}

int cublasLtMatrixLayoutCreate(LtLayout *layout, int type, uint64_t rows, uint64_t cols, int64_t ld) {
  LtLayout l = calloc(1, sizeof *l);
  if (!l) return lt_fail(LT_ALLOC_FAILED, "out of memory");
  *l = (struct LtLayout_){MAGIC_LAYOUT, type, rows, cols, ld, 1, 0};
  *layout = l;
  return LT_SUCCESS;
}

int cublasLtMatmulPreferenceCreate(LtPreference *preference) {
  LtPreference p = calloc(1, sizeof *p);
  if (!p) return lt_fail(LT_ALLOC_FAILED, "out of memory");
  *p = (struct LtPreference_){MAGIC_PREFERENCE, 0, UINT64_MAX, LT_REDUCTION_MASK, {256, 256, 256, 256}};
  *preference = p;
  return LT_SUCCESS;
}

/* One attribute: where its value is kept and how large it is. */
typedef struct Field { int attribute; void *at; size_t bytes; } Field;

static int set_field(const char *call, const Field *field, int n, int attribute, const void *value, size_t bytes) {
  for (int k = 0; k < n; k++) {
    if (field[k].attribute != attribute) continue;
    if (!value || bytes != field[k].bytes)
      return lt_fail(LT_INVALID_VALUE, "%s: attribute %d has %zu bytes, not %zu", call, attribute, field[k].bytes,
                     bytes);
    memcpy(field[k].at, value, bytes);
    return LT_SUCCESS;
  }
  return lt_fail(LT_INVALID_VALUE, "%s: attribute %d is not known to the stand-in", call, attribute);
}
#define SET_FIELD(list) set_field(__func__, list, (int)(sizeof list / sizeof *list), attribute, value, bytes)

int cublasLtMatmulDescSetAttribute(LtDesc desc, int attribute, const void *value, size_t bytes) {
  if (!desc || desc->magic != MAGIC_DESC) return lt_fail(LT_INVALID_VALUE, "this is no operation");
  const Field field[] = {{LT_DESC_TRANSA, &desc->op_a, sizeof desc->op_a},
                         {LT_DESC_TRANSB, &desc->op_b, sizeof desc->op_b},
                         {LT_DESC_EPILOGUE, &desc->epilogue, sizeof desc->epilogue},
                         {LT_DESC_BIAS_POINTER, &desc->bias, sizeof desc->bias}};
  return SET_FIELD(field);
}

int cublasLtMatrixLayoutSetAttribute(LtLayout layout, int attribute, const void *value, size_t bytes) {
  if (!layout || layout->magic != MAGIC_LAYOUT) return lt_fail(LT_INVALID_VALUE, "this is no layout");
  const Field field[] = {{LT_LAYOUT_ROWS, &layout->rows, sizeof layout->rows},
                         {LT_LAYOUT_COLS, &layout->cols, sizeof layout->cols},
                         {LT_LAYOUT_LD, &layout->ld, sizeof layout->ld},
                         {LT_LAYOUT_BATCH_COUNT, &layout->batch, sizeof layout->batch},
                         {LT_LAYOUT_BATCH_STRIDE, &layout->stride, sizeof layout->stride}};
  return SET_FIELD(field);
}

int cublasLtMatmulPreferenceSetAttribute(LtPreference preference, int attribute, const void *value, size_t bytes) {
  LtPreference p = preference;
  if (!p || p->magic != MAGIC_PREFERENCE) return lt_fail(LT_INVALID_VALUE, "this is no preference");
  const Field field[] = {{LT_PREF_WORKSPACE, &p->workspace_bytes, sizeof p->workspace_bytes},
                         {LT_PREF_REDUCTION_MASK, &p->reductions, sizeof p->reductions},
                         {LT_PREF_ALIGN_A, &p->align[0], sizeof p->align[0]},
                         {LT_PREF_ALIGN_B, &p->align[1], sizeof p->align[1]},
                         {LT_PREF_ALIGN_C, &p->align[2], sizeof p->align[2]},
                         {LT_PREF_ALIGN_D, &p->align[3], sizeof p->align[3]},
                         {LT_PREF_IMPL_MASK, &p->numerics, sizeof p->numerics}};
  return SET_FIELD(field);
}

/* ---- how the parts fit ---- */

static int check_layout(const char *what, const struct LtLayout_ *l, int32_t batch) {
  if (!l || l->magic != MAGIC_LAYOUT) return lt_fail(LT_INVALID_VALUE, "%s has no layout", what);
  if (l->type != LT_R_32F && l->type != LT_R_16BF)
    return lt_fail(LT_NOT_SUPPORTED, "%s: type %d is not known to the stand-in", what, l->type);
  if (!l->rows || !l->cols || l->rows > INT32_MAX || l->cols > INT32_MAX)
    return lt_fail(LT_INVALID_VALUE, "%s is %llu x %llu", what, (unsigned long long)l->rows,
                   (unsigned long long)l->cols);
  if (l->ld < (int64_t)l->rows || l->ld > INT32_MAX)
    return lt_fail(LT_INVALID_VALUE, "%s: leading dimension %lld for columns of %llu", what, (long long)l->ld,
                   (unsigned long long)l->rows);
  if (l->batch < 1 || l->batch != batch || l->stride < 0)
    return lt_fail(LT_INVALID_VALUE, "%s: a batch of %d at stride %lld, beside one of %d", what, l->batch,
                   (long long)l->stride, batch);
  return LT_SUCCESS;
}

static int check_types(const Problem *p) {
  if (p->desc->compute_type != LT_COMPUTE_32F || p->desc->scale_type != LT_R_32F)
    return lt_fail(LT_NOT_SUPPORTED, "compute type %d, scale type %d", p->desc->compute_type, p->desc->scale_type);
  if (p->a->type != p->b->type || p->c->type != p->d->type || (p->a->type == LT_R_32F && p->d->type != LT_R_32F))
    return lt_fail(LT_NOT_SUPPORTED, "types %d, %d, %d, %d", p->a->type, p->b->type, p->c->type, p->d->type);
  if (p->desc->epilogue != LT_EPILOGUE_DEFAULT && p->desc->epilogue != LT_EPILOGUE_BIAS)
    return lt_fail(LT_NOT_SUPPORTED, "epilogue %u is not known to the stand-in", p->desc->epilogue);
  return LT_SUCCESS;
}

int problem_init(Problem *p, LtHandle handle, LtDesc desc, LtLayout a, LtLayout b, LtLayout c, LtLayout d) {
  if (!handle || handle->magic != MAGIC_HANDLE) return lt_fail(LT_NOT_INITIALIZED, "this is no handle");
  if (!desc || desc->magic != MAGIC_DESC) return lt_fail(LT_INVALID_VALUE, "this is no operation");
  int32_t batch = d && d->magic == MAGIC_LAYOUT ? d->batch : 1;
  int status = check_layout("A", a, batch);
  if (!status) status = check_layout("B", b, batch);
  if (!status) status = check_layout("C", c, batch);
  if (!status) status = check_layout("D", d, batch);
  if (status) return status;
  *p = (Problem){handle, desc, a, b, c, d, desc->op_a == LT_OP_T ? a->cols : a->rows,
                 desc->op_b == LT_OP_T ? b->rows : b->cols, desc->op_a == LT_OP_T ? a->rows : a->cols};
  uint64_t k = desc->op_b == LT_OP_T ? b->cols : b->rows;
  if (p->k != k || d->rows != p->m || d->cols != p->n || c->rows != p->m || c->cols != p->n)
    return lt_fail(LT_INVALID_VALUE, "op(A) is %llu x %llu, op(B) %llu x %llu, C %llu x %llu, D %llu x %llu",
                   (unsigned long long)p->m, (unsigned long long)p->k, (unsigned long long)k,
                   (unsigned long long)p->n, (unsigned long long)c->rows, (unsigned long long)c->cols,
                   (unsigned long long)d->rows, (unsigned long long)d->cols);
  return check_types(p);
}
