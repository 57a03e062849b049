/* cuBLASLt by dlopen: loading, the choice of algorithms, and running them.
 *
 * The library is column-major.  A row-major matrix is its transpose there, so C = A B is asked for as C^T = B^T A^T:
 * our B is the library's A, our A its B, our n its rows of D (where the bias runs along), our m its columns. */
#include "runtime/cuda/blaslt.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <string.h>

#include "runtime/base/memory.h"
#include "runtime/cuda/blaslt_abi.h"

enum { OLDEST_VERSION = 120000, CANDIDATES = 32, MAX_IDS = 512 };

struct BlasLt {
  void *library;
  LtHandle handle;
  uint64_t version;
#define FIELD(result, name, arguments) result(*name) arguments;
  BLASLT_FUNCTIONS(FIELD)
#undef FIELD
};

enum { A, B, C };

struct BlasLtProduct {
  BlasLt *lt;
  BlasLtForm form;
  LtDesc desc;
  LtLayout layout[3];           /* of our A, B and C */
  LtAlgo algo;
  BlasLtShape shape;            /* what the layouts say; m == 0: nothing yet */
  uint64_t bias;                /* what the descriptor says */
};

/* ---- loading ---- */

static bool call_failed(const BlasLt *lt, const char *call, int status, Error *err) {
  const char *name = lt->cublasLtGetStatusName(status), *text = lt->cublasLtGetStatusString(status);
  return error_set(err, ERROR_DEVICE, "%s: status %d, %s: %s", call, status, name ? name : "unknown",
                   text ? text : "no text");
}

/* Calls a function of the library; where it fails, the caller returns false with the error set. */
#define LT_TRY(lt, err, function, ...)                                                                 \
  do {                                                                                                 \
    int status_ = (lt)->function(__VA_ARGS__);                                                         \
    if (status_) return call_failed((lt), #function, status_, (err));                                  \
  } while (0)

static bool open_library(BlasLt *lt, const char *path, Error *err) {
  static const char *const usual[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so",
                                      "/usr/local/cuda/lib64/libcublasLt.so.13",
                                      "/usr/local/cuda/lib64/libcublasLt.so.12"};
  if (path) lt->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  for (int k = 0; !path && !lt->library && k < COUNT_OF(usual); k++)
    lt->library = dlopen(usual[k], RTLD_NOW | RTLD_LOCAL);
  if (lt->library) return true;
  const char *why = dlerror();
  return error_set(err, ERROR_DEVICE, "cuBLASLt cannot be loaded: %.600s", why ? why : "no such library");
}

static bool load_symbols(BlasLt *lt, const char *path, Error *err) {
  const char *missing = NULL;
  /* POSIX gives functions as void *; the copy keeps the conversion out of the language's way. */
#define LOAD(result, name, arguments)                                                                  \
  do {                                                                                                 \
    void *p = dlsym(lt->library, #name);                                                               \
    memcpy(&lt->name, &p, sizeof p);                                                                   \
    if (!p && !missing) missing = #name;                                                               \
  } while (0);
  BLASLT_FUNCTIONS(LOAD)
#undef LOAD
  if (!missing) return true;
  return error_set(err, ERROR_DEVICE, "%.300s has no function %s: cuBLASLt 12 or newer is needed",
                   path ? path : "libcublasLt", missing);
}

static bool open_handle(BlasLt *lt, Error *err) {
  lt->version = lt->cublasLtGetVersion();
  if (lt->version < OLDEST_VERSION)
    return error_set(err, ERROR_DEVICE, "this is cuBLASLt %" PRIu64 ", at least %d is needed", lt->version,
                     OLDEST_VERSION);
  LT_TRY(lt, err, cublasLtCreate, &lt->handle);
  return true;
}

BlasLt *blaslt_open(const char *path, Error *err) {
  BlasLt *lt = mem_alloc(sizeof *lt);
  if (!lt) {
    error_set(err, ERROR_MEMORY, "out of memory");
    return NULL;
  }
  if (open_library(lt, path, err) && load_symbols(lt, path, err) && open_handle(lt, err)) return lt;
  blaslt_close(lt);
  return NULL;
}

/* The library is not unloaded: it keeps threads and exit handlers of its own. */
void blaslt_close(BlasLt *lt) {
  if (!lt) return;
  if (lt->handle) lt->cublasLtDestroy(lt->handle);
  mem_free(lt);
}

/* ---- forms and shapes ---- */

static int lt_type(DType t) { return t == DTYPE_BF16 ? LT_R_16BF : LT_R_32F; }

static bool check_form(const BlasLtForm *f, Error *err) {
  bool known = (f->in == DTYPE_F32 && f->out == DTYPE_F32) ||
               (f->in == DTYPE_BF16 && (f->out == DTYPE_BF16 || f->out == DTYPE_F32));
  if (!known)
    return error_set(err, ERROR_ARGUMENT,
                     "a product of %s into %s: there are f32 into f32, and bf16 into bf16 or f32",
                     dtype_name(f->in), dtype_name(f->out));
  const struct { const char *what; int align; DType type; } part[] = {
      {"A", f->align_a, f->in}, {"B", f->align_b, f->in}, {"C", f->align_c, f->out},
      {"the bias", f->align_bias, f->out}};
  for (int k = 0; k < COUNT_OF(part) - !f->bias; k++) {
    int align = part[k].align;
    if (align < (int)dtype_bytes(part[k].type) || (align & (align - 1)))
      return error_set(err, ERROR_ARGUMENT, "alignment %d of %s: a power of two, at least %zu, is needed", align,
                       part[k].what, dtype_bytes(part[k].type));
  }
  return true;
}

/* One stored matrix: `cols` elements a row, `ld` from row to row. */
static bool check_matrix(const char *what, int64_t rows, int64_t cols, int64_t ld, int64_t batch, int64_t stride,
                         bool written, Error *err) {
  if (rows > INT32_MAX || cols > INT32_MAX || ld > INT32_MAX || ld < cols)
    return error_set(err, ERROR_ARGUMENT, "%s is stored as %" PRId64 " x %" PRId64 ", %" PRId64
                     " from row to row: at least the row's length and at most 2^31 - 1 is needed", what, rows, cols,
                     ld);
  int64_t extent = (rows - 1) * ld + cols;   /* < 2^62 */
  if (batch == 1) return true;
  if (stride < 0 || stride > ((int64_t)1 << 60) / batch)
    return error_set(err, ERROR_ARGUMENT, "%s: a stride of %" PRId64 " for a batch of %" PRId64, what, stride, batch);
  if (written && stride < extent)
    return error_set(err, ERROR_ARGUMENT, "%s: the matrices of the batch overlap: %" PRId64 " apart, %" PRId64
                     " elements each", what, stride, extent);
  return true;
}

static bool check_shape(const BlasLtForm *f, const BlasLtShape *s, Error *err) {
  if (s->m < 1 || s->n < 1 || s->k < 1 || s->batch < 1 || s->batch > INT32_MAX)
    return error_set(err, ERROR_ARGUMENT, "a product of m %" PRId64 ", n %" PRId64 ", k %" PRId64 ", batch %" PRId64
                     ": each must be from 1 to 2^31 - 1", s->m, s->n, s->k, s->batch);
  bool ta = f->transpose_a, tb = f->transpose_b;
  return check_matrix("A", ta ? s->k : s->m, ta ? s->m : s->k, s->lda, s->batch, s->stride_a, false, err) &&
         check_matrix("B", tb ? s->n : s->k, tb ? s->k : s->n, s->ldb, s->batch, s->stride_b, false, err) &&
         check_matrix("C", s->m, s->n, s->ldc, s->batch, s->stride_c, true, err);
}

static bool same_shape(const BlasLtShape *x, const BlasLtShape *y) {
  return x->m == y->m && x->n == y->n && x->k == y->k && x->lda == y->lda && x->ldb == y->ldb && x->ldc == y->ldc &&
         x->batch == y->batch && x->stride_a == y->stride_a && x->stride_b == y->stride_b &&
         x->stride_c == y->stride_c;
}

/* ---- descriptors ---- */

static bool set_layout(const BlasLt *lt, LtLayout layout, int64_t rows, int64_t cols, int64_t ld, int64_t batch,
                       int64_t stride, Error *err) {
  uint64_t lt_rows = (uint64_t)cols, lt_cols = (uint64_t)rows;   /* the library sees the transpose */
  int32_t count = (int32_t)batch;
  LT_TRY(lt, err, cublasLtMatrixLayoutSetAttribute, layout, LT_LAYOUT_ROWS, &lt_rows, sizeof lt_rows);
  LT_TRY(lt, err, cublasLtMatrixLayoutSetAttribute, layout, LT_LAYOUT_COLS, &lt_cols, sizeof lt_cols);
  LT_TRY(lt, err, cublasLtMatrixLayoutSetAttribute, layout, LT_LAYOUT_LD, &ld, sizeof ld);
  LT_TRY(lt, err, cublasLtMatrixLayoutSetAttribute, layout, LT_LAYOUT_BATCH_COUNT, &count, sizeof count);
  LT_TRY(lt, err, cublasLtMatrixLayoutSetAttribute, layout, LT_LAYOUT_BATCH_STRIDE, &stride, sizeof stride);
  return true;
}

static bool set_shape(BlasLtProduct *p, const BlasLtShape *s, Error *err) {
  if (same_shape(&p->shape, s)) return true;
  p->shape.m = 0;
  bool ta = p->form.transpose_a, tb = p->form.transpose_b;
  const BlasLt *lt = p->lt;
  if (!check_shape(&p->form, s, err) ||
      !set_layout(lt, p->layout[A], ta ? s->k : s->m, ta ? s->m : s->k, s->lda, s->batch, s->stride_a, err) ||
      !set_layout(lt, p->layout[B], tb ? s->n : s->k, tb ? s->k : s->n, s->ldb, s->batch, s->stride_b, err) ||
      !set_layout(lt, p->layout[C], s->m, s->n, s->ldc, s->batch, s->stride_c, err))
    return false;
  p->shape = *s;
  return true;
}

static bool set_bias(BlasLtProduct *p, uint64_t address, Error *err) {
  if (!p->form.bias || p->bias == address) return true;
  void *pointer = (void *)(uintptr_t)address;
  LT_TRY(p->lt, err, cublasLtMatmulDescSetAttribute, p->desc, LT_DESC_BIAS_POINTER, &pointer, sizeof pointer);
  p->bias = address;
  return true;
}

static bool make_descriptors(BlasLtProduct *p, Error *err) {
  const BlasLt *lt = p->lt;
  int32_t op_a = p->form.transpose_b ? LT_OP_T : LT_OP_N, op_b = p->form.transpose_a ? LT_OP_T : LT_OP_N;
  uint32_t epilogue = p->form.bias ? LT_EPILOGUE_BIAS : LT_EPILOGUE_DEFAULT;
  int in = lt_type(p->form.in), out = lt_type(p->form.out);
  LT_TRY(lt, err, cublasLtMatmulDescCreate, &p->desc, LT_COMPUTE_32F, LT_R_32F);
  LT_TRY(lt, err, cublasLtMatmulDescSetAttribute, p->desc, LT_DESC_TRANSA, &op_a, sizeof op_a);
  LT_TRY(lt, err, cublasLtMatmulDescSetAttribute, p->desc, LT_DESC_TRANSB, &op_b, sizeof op_b);
  LT_TRY(lt, err, cublasLtMatmulDescSetAttribute, p->desc, LT_DESC_EPILOGUE, &epilogue, sizeof epilogue);
  for (int k = A; k <= C; k++)
    LT_TRY(lt, err, cublasLtMatrixLayoutCreate, &p->layout[k], k == C ? out : in, 1, 1, 1);
  /* While choosing there is no bias yet; an address aligned as promised and no better stands for it. */
  return set_bias(p, (uint64_t)p->form.align_bias, err);
}

static void product_done(BlasLtProduct *p) {
  for (int k = A; k <= C; k++)
    if (p->layout[k]) p->lt->cublasLtMatrixLayoutDestroy(p->layout[k]);
  if (p->desc) p->lt->cublasLtMatmulDescDestroy(p->desc);
}

/* On failure too, p is for product_done. */
static bool product_init(BlasLtProduct *p, BlasLt *lt, const BlasLtForm *form, Error *err) {
  *p = (BlasLtProduct){.lt = lt, .form = *form};
  return check_form(form, err) && make_descriptors(p, err);
}

/* ---- algorithms ---- */

static bool offers_id(const BlasLt *lt, const BlasLtForm *f, uint32_t id, Error *err) {
  int ids[MAX_IDS], n = 0, in = lt_type(f->in), out = lt_type(f->out);
  LT_TRY(lt, err, cublasLtMatmulAlgoGetIds, lt->handle, LT_COMPUTE_32F, LT_R_32F, in, in, out, out, MAX_IDS, ids, &n);
  for (int k = 0; k < n; k++)
    if ((uint32_t)ids[k] == id) return true;
  return error_set(err, ERROR_DEVICE, "cuBLASLt algorithm %" PRIu32 " is not among the %d for %s into %s", id, n,
                   dtype_name(f->in), dtype_name(f->out));
}

/* The algorithm from its description alone, so that a chosen and a parsed one are the same. */
static bool build_algo(const BlasLt *lt, const BlasLtForm *f, const BlasLtAlgo *a, LtAlgo *out, Error *err) {
  int in = lt_type(f->in), to = lt_type(f->out);
  int32_t split = 1;
  uint32_t reduction = LT_REDUCTION_NONE;
  uint16_t inner = (uint16_t)a->inner, cluster = (uint16_t)a->cluster;
  const struct { int attribute; const void *value; size_t bytes; } set[] = {
      {LT_CONFIG_TILE, &a->tile, sizeof a->tile},       {LT_CONFIG_STAGES, &a->stages, sizeof a->stages},
      {LT_CONFIG_SPLIT_K, &split, sizeof split},        {LT_CONFIG_REDUCTION, &reduction, sizeof reduction},
      {LT_CONFIG_SWIZZLE, &a->swizzle, sizeof a->swizzle}, {LT_CONFIG_CUSTOM, &a->custom, sizeof a->custom},
      {LT_CONFIG_INNER, &inner, sizeof inner},          {LT_CONFIG_CLUSTER, &cluster, sizeof cluster}};
  if (a->version != lt->version)
    return error_set(err, ERROR_DEVICE, "the algorithm was chosen by cuBLASLt %" PRIu64 ", this is %" PRIu64
                     ": choose again", a->version, lt->version);
  if (!offers_id(lt, f, a->id, err)) return false;
  LT_TRY(lt, err, cublasLtMatmulAlgoInit, lt->handle, LT_COMPUTE_32F, LT_R_32F, in, in, to, to, (int)a->id, out);
  for (int k = 0; k < COUNT_OF(set); k++)
    LT_TRY(lt, err, cublasLtMatmulAlgoConfigSetAttribute, out, set[k].attribute, set[k].value, set[k].bytes);
  return true;
}

static bool get_config(const BlasLt *lt, const LtAlgo *algo, int attribute, void *out, size_t bytes, Error *err) {
  size_t written;
  LT_TRY(lt, err, cublasLtMatmulAlgoConfigGetAttribute, algo, attribute, out, bytes, &written);
  return true;
}

/* The description of what the heuristic proposes; false when it splits k or reduces. */
static bool describe_algo(const BlasLt *lt, const LtAlgo *algo, BlasLtAlgo *out, Error *err) {
  int32_t id = 0, split = 0;
  uint32_t reduction = 0;
  uint16_t inner = 0, cluster = 0;
  *out = (BlasLtAlgo){.version = lt->version};
  if (!get_config(lt, algo, LT_CONFIG_ID, &id, sizeof id, err) ||
      !get_config(lt, algo, LT_CONFIG_TILE, &out->tile, sizeof out->tile, err) ||
      !get_config(lt, algo, LT_CONFIG_STAGES, &out->stages, sizeof out->stages, err) ||
      !get_config(lt, algo, LT_CONFIG_SPLIT_K, &split, sizeof split, err) ||
      !get_config(lt, algo, LT_CONFIG_REDUCTION, &reduction, sizeof reduction, err) ||
      !get_config(lt, algo, LT_CONFIG_SWIZZLE, &out->swizzle, sizeof out->swizzle, err) ||
      !get_config(lt, algo, LT_CONFIG_CUSTOM, &out->custom, sizeof out->custom, err) ||
      !get_config(lt, algo, LT_CONFIG_INNER, &inner, sizeof inner, err) ||
      !get_config(lt, algo, LT_CONFIG_CLUSTER, &cluster, sizeof cluster, err))
    return false;
  out->id = (uint32_t)id;
  out->inner = inner;
  out->cluster = cluster;
  if (split <= 1 && reduction == LT_REDUCTION_NONE) return true;
  return error_set(err, ERROR_DEVICE, "algorithm %d splits k into %d parts, with reduction scheme %" PRIu32, id,
                   split, reduction);
}

/* Implementations that are not our product: f32 must not pass through tensor cores, nothing may sum in 16 bits. */
static uint64_t forbidden_numerics(const BlasLtForm *f) {
  uint64_t never = LT_NUMERICS_SUM_16F | LT_NUMERICS_IN_TF32;
  return f->in == DTYPE_F32 ? never | LT_NUMERICS_TENSOR : never;
}

static bool check_numerics(const BlasLt *lt, const BlasLtForm *f, const LtAlgo *algo, Error *err) {
  uint64_t flags = 0;
  size_t written;
  LT_TRY(lt, err, cublasLtMatmulAlgoCapGetAttribute, algo, LT_CAP_NUMERICS, &flags, sizeof flags, &written);
  uint64_t wrong = flags & forbidden_numerics(f);
  if (!wrong) return true;
  return error_set(err, ERROR_DEVICE, "the algorithm computes with less than f32 (numerical flags %#" PRIx64 ")",
                   flags);
}

/* Whether addresses, rows and matrices of the batch are aligned as the algorithm needs. */
static bool check_alignment(const BlasLtProduct *p, const BlasLtShape *s, Error *err) {
  const BlasLt *lt = p->lt;
  size_t in = dtype_bytes(p->form.in), out = dtype_bytes(p->form.out), written;
  const struct { const char *what; int capability, align; size_t row, stride; } part[] = {
      {"A", LT_CAP_ALIGN_B, p->form.align_a, (size_t)s->lda * in, (size_t)s->stride_a * in},
      {"B", LT_CAP_ALIGN_A, p->form.align_b, (size_t)s->ldb * in, (size_t)s->stride_b * in},
      {"C", LT_CAP_ALIGN_C, p->form.align_c, (size_t)s->ldc * out, (size_t)s->stride_c * out},
      {"C", LT_CAP_ALIGN_D, p->form.align_c, (size_t)s->ldc * out, (size_t)s->stride_c * out}};
  for (int k = 0; k < COUNT_OF(part); k++) {
    uint32_t needed = 1;
    LT_TRY(lt, err, cublasLtMatmulAlgoCapGetAttribute, &p->algo, part[k].capability, &needed, sizeof needed,
           &written);
    if (!needed) continue;
    if ((size_t)part[k].align % needed || part[k].row % needed || (s->batch > 1 && part[k].stride % needed))
      return error_set(err, ERROR_DEVICE, "the algorithm needs %s aligned to %" PRIu32
                       " bytes: addresses are to %d, rows are %zu bytes apart, matrices %zu", part[k].what, needed,
                       part[k].align, part[k].row, part[k].stride);
  }
  return true;
}

static bool check_one(BlasLtProduct *p, const BlasLtShape *s, size_t max_workspace, size_t *workspace, Error *err) {
  const BlasLt *lt = p->lt;
  LtHeuristic result = {0};
  if (!set_shape(p, s, err) || !check_alignment(p, s, err)) return false;
  LT_TRY(lt, err, cublasLtMatmulAlgoCheck, lt->handle, p->desc, p->layout[B], p->layout[A], p->layout[C],
         p->layout[C], &p->algo, &result);
  if (result.workspace_bytes > max_workspace)
    return error_set(err, ERROR_DEVICE, "the algorithm needs %zu bytes of workspace, %zu are allowed",
                     result.workspace_bytes, max_workspace);
  if (*workspace < result.workspace_bytes) *workspace = result.workspace_bytes;
  return true;
}

/* Builds `algo` into p and tries every shape; an error names the algorithm and the product. */
static bool algo_serves(BlasLtProduct *p, const BlasLtAlgo *algo, const BlasLtShape *shapes, int n_shapes,
                        size_t max_workspace, size_t *out_workspace, Error *err) {
  char text[BLASLT_TEXT_BYTES], product[BLASLT_TEXT_BYTES];
  size_t workspace = 0;
  blaslt_algo_print(algo, text);
  if (!build_algo(p->lt, &p->form, algo, &p->algo, err) || !check_numerics(p->lt, &p->form, &p->algo, err))
    return error_prefix(err, "%s", text);
  for (int k = 0; k < n_shapes; k++)
    if (!check_one(p, &shapes[k], max_workspace, &workspace, err)) {
      blaslt_product_print(&p->form, &shapes[k], product);
      return error_prefix(err, "%s for %s", text, product);
    }
  *out_workspace = workspace;
  return true;
}

bool blaslt_check(BlasLt *lt, const BlasLtForm *form, const BlasLtShape *shapes, int n_shapes, const BlasLtAlgo *algo,
                  size_t max_workspace, size_t *out_workspace, Error *err) {
  BlasLtProduct p;
  bool ok = product_init(&p, lt, form, err) &&
            algo_serves(&p, algo, shapes, n_shapes, max_workspace, out_workspace, err);
  product_done(&p);
  return ok;
}

/* ---- choosing ---- */

static bool set_preference(const BlasLt *lt, LtPreference preference, const BlasLtForm *f, size_t max_workspace,
                           Error *err) {
  uint64_t workspace = max_workspace, numerics = ~forbidden_numerics(f);
  uint32_t reduction = LT_REDUCTION_NONE;
  uint32_t a = (uint32_t)f->align_b, b = (uint32_t)f->align_a, c = (uint32_t)f->align_c;
  const struct { int attribute; const void *value; size_t bytes; } set[] = {
      {LT_PREF_WORKSPACE, &workspace, sizeof workspace}, {LT_PREF_REDUCTION_MASK, &reduction, sizeof reduction},
      {LT_PREF_IMPL_MASK, &numerics, sizeof numerics},   {LT_PREF_ALIGN_A, &a, sizeof a},
      {LT_PREF_ALIGN_B, &b, sizeof b},                   {LT_PREF_ALIGN_C, &c, sizeof c},
      {LT_PREF_ALIGN_D, &c, sizeof c}};
  for (int k = 0; k < COUNT_OF(set); k++)
    LT_TRY(lt, err, cublasLtMatmulPreferenceSetAttribute, preference, set[k].attribute, set[k].value, set[k].bytes);
  return true;
}

typedef struct AlgoSearch {
  BlasLtProduct product;
  LtPreference preference;
  const BlasLtShape *shapes;
  int n_shapes, tried;
  size_t max_workspace;
  Error last;                   /* why the last candidate was refused */
} AlgoSearch;

typedef enum AlgoFound { FOUND, NONE_FITS, FOUND_ERROR } AlgoFound;

/* The first of the proposals for `reference` that serves every shape. */
static AlgoFound search_proposals(AlgoSearch *s, const BlasLtShape *reference, BlasLtAlgo *out, size_t *out_workspace,
                              Error *err) {
  BlasLtProduct *p = &s->product;
  LtHeuristic result[CANDIDATES];
  int n = 0;
  if (!set_shape(p, reference, err)) return FOUND_ERROR;
  int status = p->lt->cublasLtMatmulAlgoGetHeuristic(p->lt->handle, p->desc, p->layout[B], p->layout[A], p->layout[C],
                                                     p->layout[C], s->preference, CANDIDATES, result, &n);
  if (status) {
    call_failed(p->lt, "cublasLtMatmulAlgoGetHeuristic", status, status == LT_NOT_SUPPORTED ? &s->last : err);
    return status == LT_NOT_SUPPORTED ? NONE_FITS : FOUND_ERROR;
  }
  for (int k = 0; k < n; k++) {
    if (result[k].state) continue;
    s->tried++;
    if (describe_algo(p->lt, &result[k].algo, out, &s->last) &&
        algo_serves(p, out, s->shapes, s->n_shapes, s->max_workspace, out_workspace, &s->last))
      return FOUND;
  }
  return NONE_FITS;
}

static bool search(AlgoSearch *s, BlasLtAlgo *out, size_t *out_workspace, Error *err) {
  BlasLtProduct *p = &s->product;
  char product[BLASLT_TEXT_BYTES];
  LT_TRY(p->lt, err, cublasLtMatmulPreferenceCreate, &s->preference);
  if (!set_preference(p->lt, s->preference, &p->form, s->max_workspace, err)) return false;
  for (int k = 0; k < s->n_shapes; k++) {
    AlgoFound found = search_proposals(s, &s->shapes[k], out, out_workspace, err);
    if (found != NONE_FITS) return found == FOUND;
  }
  blaslt_product_print(&p->form, &s->shapes[0], product);
  return error_set(err, ERROR_DEVICE,
                   "no cuBLASLt algorithm serves %s and the %d other shapes of that weight with at most %zu bytes of "
                   "workspace; %d were tried, the last: %.900s", product, s->n_shapes - 1, s->max_workspace, s->tried,
                   s->last.text);
}

bool blaslt_choose(BlasLt *lt, const BlasLtForm *form, const BlasLtShape *shapes, int n_shapes, size_t max_workspace,
                   BlasLtAlgo *out, size_t *out_workspace, Error *err) {
  BUG_IF(n_shapes < 1, "choosing an algorithm for no shape");
  AlgoSearch s = {.shapes = shapes, .n_shapes = n_shapes, .max_workspace = max_workspace};
  bool ok = product_init(&s.product, lt, form, err) && search(&s, out, out_workspace, err);
  if (s.preference) lt->cublasLtMatmulPreferenceDestroy(s.preference);
  product_done(&s.product);
  return ok;
}

/* ---- running ---- */

BlasLtProduct *blaslt_product_new(BlasLt *lt, const BlasLtForm *form, const BlasLtAlgo *algo, Error *err) {
  BlasLtProduct *p = mem_alloc(sizeof *p);
  if (!p) {
    error_set(err, ERROR_MEMORY, "out of memory");
    return NULL;
  }
  if (product_init(p, lt, form, err) && build_algo(lt, form, algo, &p->algo, err) &&
      check_numerics(lt, form, &p->algo, err))
    return p;
  blaslt_product_free(p);
  return NULL;
}

void blaslt_product_free(BlasLtProduct *p) {
  if (!p) return;
  product_done(p);
  mem_free(p);
}

static bool enqueue(BlasLtProduct *p, const BlasLtShape *s, const BlasLtArgs *args, Error *err) {
  const BlasLt *lt = p->lt;
  float alpha = 1, beta = p->form.accumulate ? 1 : 0;
  const void *a = (const void *)(uintptr_t)args->a, *b = (const void *)(uintptr_t)args->b;
  void *c = (void *)(uintptr_t)args->c, *workspace = (void *)(uintptr_t)args->workspace;
  if (!set_shape(p, s, err) || !set_bias(p, args->bias, err)) return false;
  LT_TRY(lt, err, cublasLtMatmul, lt->handle, p->desc, &alpha, b, p->layout[B], a, p->layout[A], &beta, c,
         p->layout[C], c, p->layout[C], &p->algo, workspace, args->workspace_bytes, (LtStream)args->stream);
  return true;
}

bool blaslt_product_run(BlasLtProduct *p, const BlasLtShape *shape, const BlasLtArgs *args, Error *err) {
  char product[BLASLT_TEXT_BYTES];
  if (shape->m == 0 || shape->batch == 0) return true;
  if (enqueue(p, shape, args, err)) return true;
  blaslt_product_print(&p->form, shape, product);
  return error_prefix(err, "%s", product);
}
