/* For tests: a function that fuses into one group, its kernel run on the emulated device.
 *
 * The kernel must compute what the reference interpreter computes in f64, within the tolerance of lower_check.h, and
 * on the device the bits of the kernel interpreter: the same instructions in the same order, each one rounded as
 * IEEE 754 says on both sides, denormals flushed on both; of matrix tiles too, because the emulator adds products in the
 * interpreter's order.  The loop nest for the CPU is another one and must give the same bits too, but for products of
 * bf16, which it sums in another order.
 *
 * Numbers are lower_check.h's, but for two names: "rows" of attend_rows are (sample, position), "slot" its slots. */
#ifndef TEST_DEVICE_GROUP_H
#define TEST_DEVICE_GROUP_H

#include "codegen/codegen.h"
#include "passes/passes.h"
#include "tests/gpu/emu_test.h"
#include "tests/unit/codegen/lower_check.h"

enum { DEVICE_MAX_SHARED = 163 << 10, FUNCTION_MAX_DYNAMIC_SHARED = 8 };   /* bytes of sm_80; CUfunction_attribute */

typedef struct DeviceCase {
  Check c;              /* first: Check.build is given its address */
  const char *source;   /* one function; with wrt, of one scalar */
  int wrt;              /* bit i: the function becomes the gradient for input i */
  int64_t positions, slots;   /* of attend_rows */
  const char *params;   /* instead of the default ones of sm_80; attention: tiles no wider than the grid */
  bool part;            /* the function's groups of the family, one by one, among others; no reference values */
} DeviceCase;

/* The function, or its gradients alone, in primitive form. */
static Func *device_build(Check *c) {
  DeviceCase *d = (DeviceCase *)c;
  Graph *g = c->graph;
  Func **f;
  int n, n_wrt = 0;
  if (!ir_parse(g, "case", d->source, &f, &n)) return NULL;
  Func *func = f[0];
  if (d->wrt) {
    Node *wrt[8], *grads[8];
    Port out[8];
    for (int i = 0; i < func->n_in; i++)
      if (d->wrt >> i & 1) wrt[n_wrt++] = func->in[i].node;
    if (!grad_build(g, func->out[0].node, wrt, n_wrt, grads)) return NULL;
    for (int i = 0; i < n_wrt; i++) out[i] = (Port){arena_printf(g->arena, "d%d", i), grads[i]};
    func = func_new(g, "gradient", func->in, func->n_in, out, n_wrt);
  }
  if (func) func = pass_expand(func);
  if (func) func = pass_fold(func);
  return func ? pass_dce(func) : NULL;
}

/* ---- operands with a meaning ---- */

static double device_place(const DeviceCase *d, bool is_rows, int64_t i) {
  if (!is_rows) return (double)(i * 7 % d->slots);
  return (double)(i % 2 ? (i / 2 * 5 + 1) % d->positions : i / 2 % d->c.B);
}

static bool device_is_place(const Node *leaf, bool *out_rows) {
  const char *name = op_info[leaf->op].class == CLASS_LEAF ? leaf->attrs.leaf.name : "";
  *out_rows = strcmp(name, "rows") == 0;
  return *out_rows || strcmp(name, "slot") == 0;
}

static const Tensor *device_leaf(void *ctx, const Node *leaf, Error *err) {
  bool is_rows;
  const Tensor *t = check_leaf(ctx, leaf, err);
  if (device_is_place(leaf, &is_rows))
    for (int64_t i = 0; i < tensor_elems(t); i++) t->data[i] = device_place(ctx, is_rows, i);
  return t;
}

static void device_args(DeviceCase *d, void **args) {
  const Group *g = &d->c.group;
  bool is_rows;
  check_args(&d->c, args);
  for (int k = 0; k < g->n_in; k++)
    if (device_is_place(g->in[k], &is_rows))
      for (int64_t i = 0; i < check_elems(g->in[k], d->c.B, d->c.R); i++)
        ((int32_t *)args[k])[i] = (int32_t)device_place(d, is_rows, i);
}

/* ---- running ---- */

static CUfunction device_compile(const Kernel *k) {
  static const char *const options[] = {"--ftz=true"};
  Buffer text = {0};
  NvrtcResult r;
  CUfunction f = NULL;
  cuda_print(k, &text);
  bool ok = nvrtc_compile(the_nvrtc, text.data, "compute_80", options, 1, &r);
  EXPECT(ok, "%s\n%s", text.data, r.log);
  if (ok) EXPECT(f = kernel_of_ptx(r.image, k->name), "%s", emu_last_error());
  nvrtc_result_done(&r);
  buffer_done(&text);
  return f;
}

static size_t device_bytes(const DeviceCase *d, int arg) {
  const Group *g = &d->c.group;
  const Node *n = arg < g->n_in ? g->in[arg] : g->out[arg - g->n_in];
  return (size_t)check_elems(n, d->c.B, d->c.R) * dtype_bytes(n->type.dtype);
}

static bool is_ring(const DeviceCase *d, int arg) {
  const Group *g = &d->c.group;
  return arg >= g->n_in && g->out[arg - g->n_in]->op == OP_RING_WRITE;
}

/* Results start as memory never written, which the emulator refuses to read: a hole in them is an error. */
static bool device_run(const DeviceCase *d, CUfunction f, void **args) {
  const Kernel *k = d->c.kernel;
  CUdeviceptr device[KIR_MAX_BUFS];
  long long B = d->c.B, R = d->c.R, items = kir_item_count(k, B, R);
  void *param[KIR_MAX_BUFS + 3];
  CudaShape shape = cuda_shape(k);
  for (int i = 0; i < k->n_args; i++) {
    bool filled = i < d->c.group.n_in || is_ring(d, i);
    device[i] = device_array(filled ? args[i] : NULL, device_bytes(d, i));
    param[i] = &device[i];
  }
  param[k->n_args] = &B;
  param[k->n_args + 1] = &R;
  param[k->n_args + 2] = &items;
  CUresult code = cuFuncSetAttribute(f, FUNCTION_MAX_DYNAMIC_SHARED, DEVICE_MAX_SHARED);
  if (!code) code = launch(f, (unsigned)((items + shape.items - 1) / shape.items), (unsigned)shape.threads,
                           (unsigned)shape.shared_bytes, param);
  for (int i = 0; i < k->n_args; i++) {
    if (!code && i >= d->c.group.n_in) code = cuMemcpyDtoH_v2(args[i], device[i], device_bytes(d, i));
    if (!code) code = cuMemFree_v2(device[i]);
  }
  EXPECT(code == 0, "%s\n%s", emu_last_error(), d->c.text);
  return code == 0;
}

/* The function's results in the order of the group's. */
static Tensor *device_expected(DeviceCase *d) {
  Check *c = &d->c;
  const Func *f = c->func;
  Arena *a = c->graph->arena;
  Tensor *all = ARENA_ARRAY(a, Tensor, f->n_out), *want = ARENA_ARRAY(a, Tensor, f->n_out);
  if (!interp_run(f, c->B, c->R, device_leaf, d, a, all, NULL, &c->err)) return NULL;
  for (int o = 0; o < c->group.n_out; o++)
    for (int i = 0; i < f->n_out; i++)
      if (program_home(f->out[i].node) == c->group.out[o]) want[o] = all[i];
  return want;
}

/* The kernel for the CPU on the same operands. */
static bool device_check_cpu(DeviceCase *d, void *const *want) {
  Check *c = &d->c;
  Target target = target_of(ISA_AVX512);
  Params params;
  void *args[64];
  if (!params_default(c->graph->arena, &c->group, &target, &params, &c->err)) return false;
  Kernel *k = lower_group(c->graph->arena, &c->group, &target, &params, "cpu", &c->err);
  device_args(d, args);
  if (!k || !kir_interpret(k, args, c->B, c->R, &c->err)) return false;
  EXPECT(check_same_bits(c, args, want), "the CPU's bits differ, B=%d R=%d\n%s", (int)c->B, (int)c->R, c->text);
  return true;
}

static bool device_check_group(DeviceCase *d) {
  Check *c = &d->c;
  Target target = target_cuda(80);
  void *want[64], *got[64];
  Params params;
  if (!params_default(c->graph->arena, &c->group, &target, &params, &c->err)) return false;
  if (d->params && !params_parse(d->params, &params, &c->err)) return false;
  Error err = {0};
  while (params.kind == PARAMS_ATTEND_GPU && params.attend_gpu.tile_m > 1 &&
         !params_is_legal(&c->group, &target, &params, &err))
    params.attend_gpu.tile_m /= 2;
  c->kernel = lower_group(c->graph->arena, &c->group, &target, &params, "k", &c->err);
  Tensor *reference = c->kernel && !d->part ? device_expected(d) : NULL;
  if (!c->kernel || (!reference && !d->part)) return false;
  device_args(d, want);
  device_args(d, got);
  if (!kir_interpret(c->kernel, want, c->B, c->R, &c->err)) return false;
  if (reference) check_results(c, "kernel interpreter", reference, want);
  bool is_mma = c->family == FAMILY_CONTRACT && c->group.anchor->type.dtype == DTYPE_BF16;
  if (!is_mma && !device_check_cpu(d, want)) return false;
  CUfunction f = device_compile(c->kernel);
  if (!f || !device_run(d, f, got)) return false;
  EXPECT(check_same_bits(c, got, want), "the device's bits differ, B=%d R=%d\n%s", (int)c->B, (int)c->R, c->text);
  return true;
}

static void device_body(void *ctx) {
  DeviceCase *d = ctx;
  Check *c = &d->c;
  Program *p = pass_fuse(c->func);
  bool one = p && p->n_group == 1 && p->group[0].family == c->family;
  EXPECT(one || (p && d->part), "%d groups\n%s", p ? p->n_group : 0, c->text);
  for (int i = 0; p && (one || d->part) && i < p->n_group; i++) {
    if (p->group[i].family != c->family) continue;
    c->group = p->group[i];
    c->ran = device_check_group(d);
    if (!c->ran) return;
  }
}

/* The function as one group of the family, at one pair of sizes.  Call after NEED_NVRTC. */
static void device_check(DeviceCase d) {
  Check *c = &d.c;
  c->build = device_build;
  c->text = d.source;
  c->graph = graph_new(&c->err);
  bool ok = arena_protect(c->graph->arena, check_parse, &d, &c->err) && c->func &&
            arena_protect(c->graph->arena, device_body, &d, &c->err) && c->ran;
  EXPECT(ok, "%s\n%s", c->err.text, c->text);
  check_done(c);
  device_fresh();
}

#endif
