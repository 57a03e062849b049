/* Products of a plan: forms, shapes, algorithms, the workspace.  What cuBLASLt is asked, and how, is blaslt.c's. */
#include "runtime/cuda/products.h"

#include <string.h>

/* A fixed list makes the choice the same for every session; sizes beyond it are only checked. */
enum { USUAL_B = 8, USUAL_R = 64, EVERY_B = 16, MOST_B = 256, LEAST_R = 8, MOST_R = 4096, MAX_SIZES = 40 };
static const size_t most_workspace = (size_t)32 << 20;   /* what NVIDIA recommends for its newest GPUs */

typedef struct Ready {
  BlasLtProduct *run;
  char algorithm[BLASLT_TEXT_BYTES];
  size_t workspace_bytes;
} Ready;

struct CudaProducts {
  CudaDevice *device;
  const Plan *plan;
  BlasLt *lt;
  Ready *product;            /* [plan.n_product] */
  CudaAddress workspace;     /* 0: none is needed */
  size_t workspace_bytes;
};

/* ---- forms and shapes ---- */

static BlasLtForm form_of(const PlanProduct *p) {
  int align = PLAN_ALIGNMENT;
  return (BlasLtForm){.in = p->in, .out = p->out, .transpose_a = p->transpose_a, .transpose_b = p->transpose_b,
                      .bias = p->bias, .align_a = align, .align_b = align, .align_c = align, .align_bias = align};
}

static BlasLtShape shape_of(const PlanProduct *p, const PlanShape *s, int64_t B, int64_t R) {
  BlasLtShape x = {.m = dim_value(s->m, B, R), .n = dim_value(s->n, B, R), .k = dim_value(s->k, B, R),
                   .batch = dim_value(s->batch, B, R)};
  x.lda = p->transpose_a ? x.m : x.k;
  x.ldb = p->transpose_b ? x.k : x.n;
  x.ldc = x.n;
  if (x.batch == 1) return x;
  x.stride_a = x.m * x.k;
  x.stride_b = p->share_b ? 0 : x.k * x.n;
  x.stride_c = x.m * x.n;
  return x;
}

typedef struct Size {
  int64_t B, R;
} Size;

/* The size that should be fast first. */
static int usual_sizes(Size out[MAX_SIZES]) {
  int n = 0;
  out[n++] = (Size){USUAL_B, USUAL_R};
  for (int64_t B = 1; B <= MOST_B; B += B < EVERY_B ? 1 : B) out[n++] = (Size){B, USUAL_R};
  for (int64_t R = 1; R <= MOST_R; R = R == 1 ? LEAST_R : 2 * R) out[n++] = (Size){USUAL_B, R};
  return n;
}

static bool is_listed(const BlasLtShape *list, int n, const BlasLtShape *x) {
  for (int i = 0; i < n; i++)
    if (list[i].m == x->m && list[i].k == x->k && list[i].batch == x->batch) return true;   /* n is constant */
  return false;
}

static bool is_possible(const BlasLtShape *x) {
  return x->m >= 1 && x->k >= 1 && x->batch >= 1 && x->m <= INT32_MAX && x->k <= INT32_MAX && x->batch <= INT32_MAX;
}

typedef struct Shapes {
  BlasLtShape *list;
  int n, room;
} Shapes;

static bool add_shapes(Shapes *to, const Plan *p, int index, const Size *size, int n_size, Error *err) {
  for (int f = 0; f < p->n_function; f++)
    for (int i = 0; i < p->function[f].n_launch; i++) {
      const PlanLaunch *l = &p->function[f].launch[i];
      for (int k = 0; l->kind == LAUNCH_PRODUCT && l->product == index && k < n_size; k++) {
        BlasLtShape x = shape_of(&p->product[index], &l->shape, size[k].B, size[k].R);
        if (!is_possible(&x) || is_listed(to->list, to->n, &x)) continue;
        if (to->n == to->room) {
          int room = to->room ? 2 * to->room : 64;
          BlasLtShape *grown = mem_realloc(to->list, (size_t)room * sizeof *grown);
          if (!grown) return error_set(err, ERROR_MEMORY, "out of memory for %d shapes of products", room);
          to->list = grown;
          to->room = room;
        }
        to->list[to->n++] = x;
      }
    }
  return true;
}

/* ---- opening ---- */

static void at_least(size_t *most, size_t bytes) {
  if (*most < bytes) *most = bytes;
}

/* Chooses or checks the algorithm of a product, for the usual sizes and for the largest of this session. */
static bool settle(CudaProducts *s, int index, const Shapes *usual, const Shapes *own, BlasLtAlgo *out, Error *err) {
  const PlanProduct *p = &s->plan->product[index];
  BlasLtForm form = form_of(p);
  size_t bytes = 0;
  bool ok = p->algorithm[0] ? blaslt_algo_parse(p->algorithm, out, err) &&
                                  blaslt_check(s->lt, &form, usual->list, usual->n, out, most_workspace, &bytes, err)
                            : blaslt_choose(s->lt, &form, usual->list, usual->n, most_workspace, out, &bytes, err);
  size_t own_bytes = 0;
  ok = ok && (!own->n || blaslt_check(s->lt, &form, own->list, own->n, out, most_workspace, &own_bytes, err));
  at_least(&bytes, own_bytes);
  s->product[index].workspace_bytes = bytes;
  at_least(&s->workspace_bytes, bytes);
  return ok;
}

/* Which product failed; and of a pin where it was made, which is what somebody can change. */
static bool name_product(const CudaProducts *s, int index, Error *err) {
  const char *where = plan_text(s->plan, PLAN_TEXT_PINNED);
  if (!s->plan->product[index].algorithm[0]) return error_prefix(err, "product %d of this plan", index);
  return error_prefix(err, "product %d of this plan, whose algorithm was pinned on %s and does not fit %s (compile there, "
                           "or without --pin)", index, where ? where : "another machine", cuda_device_name(s->device));
}

static bool open_product(CudaProducts *s, int index, const NuwaOptions *o, Error *err) {
  Size size[MAX_SIZES], largest[] = {{o->samples, o->rows}};
  int n = usual_sizes(size);
  Shapes usual = {0}, own = {0};
  BlasLtAlgo algo;
  BlasLtForm form = form_of(&s->plan->product[index]);
  bool ok = add_shapes(&usual, s->plan, index, size, n, err) &&
            add_shapes(&own, s->plan, index, largest, COUNT_OF(largest), err);
  if (ok && usual.n) {   /* else nothing launches it */
    ok = settle(s, index, &usual, &own, &algo, err) &&
         (s->product[index].run = blaslt_product_new(s->lt, &form, &algo, err)) != NULL;
    if (ok) blaslt_algo_print(&algo, s->product[index].algorithm);
  }
  mem_free(usual.list);
  mem_free(own.list);
  return ok || name_product(s, index, err);
}

static bool open_library(CudaProducts *s, const char *path, Error *err) {
  if ((s->lt = blaslt_open(path, err))) return true;
  return error_prefix(err, "this plan has products by cuBLASLt; say where that is (--cublaslt FILE, NuwaCuda.cublaslt), "
                           "or compile with --products own");
}

CudaProducts *cuda_products_open(CudaDevice *d, const Plan *p, const NuwaOptions *o, Error *err) {
  CudaProducts *s = mem_alloc(sizeof *s + (size_t)p->n_product * sizeof *s->product);
  if (!s) {
    error_set(err, ERROR_MEMORY, "out of memory for %d products", p->n_product);
    return NULL;
  }
  s->device = d;
  s->plan = p;
  s->product = (Ready *)(s + 1);
  bool ok = open_library(s, o->cuda.cublaslt, err);
  for (int i = 0; ok && i < p->n_product; i++) ok = open_product(s, i, o, err);
  if (ok && s->workspace_bytes)
    ok = cuda_alloc(d, s->workspace_bytes, "the workspace of products", &s->workspace, err);
  if (ok) return s;
  cuda_products_close(s);
  return NULL;
}

void cuda_products_close(CudaProducts *s) {
  Error ignored;
  if (!s) return;
  cuda_enter(s->device, &ignored);
  for (int i = 0; i < s->plan->n_product; i++) blaslt_product_free(s->product[i].run);
  blaslt_close(s->lt);
  mem_free(s);
}

size_t cuda_products_workspace(const CudaProducts *s) { return s->workspace_bytes; }

size_t cuda_products_workspace_of(const CudaProducts *s, int index) { return s->product[index].workspace_bytes; }

const char *cuda_products_algorithm(const CudaProducts *s, int index) { return s->product[index].algorithm; }

/* ---- running ---- */

bool cuda_products_run(CudaProducts *s, const PlanLaunch *l, void *const *ref, int64_t B, int64_t R, Error *err) {
  const PlanProduct *p = &s->plan->product[l->product];
  BlasLtShape x = shape_of(p, &l->shape, B, R);
  BlasLtArgs args = {.a = (uintptr_t)ref[0], .b = (uintptr_t)ref[1], .c = (uintptr_t)ref[l->n_ref - 1],
                     .bias = p->bias ? (uintptr_t)ref[2] : 0, .workspace = s->workspace,
                     .workspace_bytes = s->workspace_bytes, .stream = cuda_stream(s->device)};
  if (x.k == 0)   /* sums of nothing; such a product has no bias */
    return cuda_clear(s->device, args.c, (size_t)(x.batch * x.m * x.n) * dtype_bytes(p->out), err);
  return blaslt_product_run(s->product[l->product].run, &x, &args, err);
}
