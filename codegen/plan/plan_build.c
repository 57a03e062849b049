/* Assembles a plan: which memory every operand is, and which kernel every launch runs.  Machine code is images.c's.
 *
 * Kernels are shared between groups that lower to the same text.  Params and states are those that some function names;
 * the same name means the same tensor in all of them. */
#include "codegen/plan/plan_build.h"

#include <string.h>

#include "codegen/plan/products.h"
#include "runtime/order.h"
#include "runtime/plan.h"

struct PlanBuild {
  Arena *arena;
  ImageOptions options;
  const ParamsChooser *chooser;
  Error *err;
  Plan plan;
  int cap_param, cap_state, cap_function, cap_kernel, cap_product, cap_decode, cap_text;
  Kernel **kernel;             /* [plan.n_kernel] */
  const char **kernel_text;
  int cap_kernel_list, cap_text_list, n_kernel_list, n_text_list;
  PlanShape *product_size;     /* [plan.n_product] of the first launch */
  int n_product_size, cap_product_size;
  LaunchGroup *launch;
  int n_launch, cap_launch;
};

/* "compute_80 sm_80 sm_90" */
static const char *cuda_features(Arena *a, const ImageOptions *o) {
  char *text = arena_printf(a, "compute_%d", o->target.capability);
  for (int i = 0; i < o->cuda.n_arch; i++) text = arena_printf(a, "%s sm_%d", text, o->cuda.arch[i]);
  return text;
}

PlanBuild *plan_build_new(Arena *a, const ImageOptions *o, Error *err) {
  PlanBuild *b = ARENA_NEW(a, PlanBuild);
  bool cuda = target_is_gpu(&o->target);
  *b = (PlanBuild){.arena = a, .options = *o, .err = err};
  b->plan.device = cuda ? PLAN_CUDA : PLAN_CPU;
  b->plan.isa = cuda ? "cuda" : isa_name(o->target.isa);
  b->plan.features = cuda ? cuda_features(a, o) : o->target.features;
  return b;
}

void plan_build_choose(PlanBuild *b, const ParamsChooser *chooser) { b->chooser = chooser; }

void plan_build_text(PlanBuild *b, const char *key, const char *value) {
  PlanText t = {arena_strdup(b->arena, key), arena_strdup(b->arena, value)};
  ARENA_PUSH(b->arena, b->plan.text, b->plan.n_text, b->cap_text, t);
}

/* ---- tensors ---- */

static PlanTensor tensor_of(const char *name, const Node *n) {
  PlanTensor t = {.name = name, .dtype = n->type.dtype, .rank = n->type.rank};
  memcpy(t.dim, n->type.dim, sizeof t.dim);
  return t;
}

static bool same_tensor(const PlanTensor *x, const PlanTensor *y) {
  if (x->dtype != y->dtype || x->rank != y->rank) return false;
  for (int i = 0; i < x->rank; i++)
    if (!dim_equal(x->dim[i], y->dim[i])) return false;
  return true;
}

static int find_param(PlanBuild *b, const Node *leaf) {
  PlanTensor t = tensor_of(leaf->attrs.leaf.name, leaf);
  int i = plan_find_param(&b->plan, t.name);
  if (i >= 0) return i;
  PlanParam p = {.type = t, .init = (int32_t)leaf->attrs.leaf.init.kind, .scale = leaf->attrs.leaf.init.scale};
  ARENA_PUSH(b->arena, b->plan.param, b->plan.n_param, b->cap_param, p);
  return b->plan.n_param - 1;
}

static int find_state(PlanBuild *b, const Node *leaf) {
  PlanTensor t = tensor_of(leaf->attrs.leaf.name, leaf);
  int i = plan_find_state(&b->plan, t.name);
  BUG_IF(i >= 0 && !same_tensor(&b->plan.state[i].type, &t), "state \"%s\" has two types", t.name);
  if (i >= 0) return i;
  ARENA_PUSH(b->arena, b->plan.state, b->plan.n_state, b->cap_state, ((PlanState){.type = t}));
  return b->plan.n_state - 1;
}

static Dim bytes_of(const Node *n) {
  Dim d;
  BUG_IF(!type_elems(&n->type, &d), "the size of a %s is not affine", op_info[n->op].text);
  return dim_scale(d, (int64_t)dtype_bytes(n->type.dtype));
}

static PlanRef leaf_ref(PlanBuild *b, const Node *leaf) {
  bool is_param = leaf->op == OP_PARAM;
  return (PlanRef){.kind = is_param ? REF_PARAM : REF_STATE, .index = is_param ? find_param(b, leaf) : find_state(b, leaf),
                   .bytes = bytes_of(leaf)};
}

/* Where a value is, by the memory plan. */
static PlanRef ref_of(PlanBuild *b, const MemPlan *m, Node *n) {
  Node *home = program_home(n);
  const Storage *s = &m->of[home->id];
  PlanRef r = {.index = s->index, .bytes = bytes_of(n)};
  switch (s->kind) {
  case STORAGE_INPUT: r.kind = REF_INPUT; return r;
  case STORAGE_OUTPUT: r.kind = REF_OUTPUT; return r;
  case STORAGE_PARAM: case STORAGE_STATE: {
    PlanRef leaf = leaf_ref(b, m->leaf[s->index]);
    leaf.bytes = r.bytes;
    return leaf;
  }
  case STORAGE_ARENA:
    r.kind = REF_ARENA;
    r.index = 0;
    r.part = (int32_t)s->part;
    r.unit_offset = s->unit_offset;
    return r;
  default: BUG("a %s has no memory", op_info[home->op].text);
  }
}

/* ---- kernels ---- */

static PlanKernel kernel_of(const PlanBuild *b, const Kernel *k, int object) {
  if (b->plan.device == PLAN_CPU)
    return (PlanKernel){.name = k->name, .object = object, .scratch_bytes = kir_scratch_bytes(k)};
  CudaShape s = cuda_shape(k);
  return (PlanKernel){.name = k->name, .object = object, .threads = s.threads, .items = s.items,
                      .shared_bytes = s.shared_bytes};
}

static int add_kernel(PlanBuild *b, Kernel *k) {
  Buffer printed = {0};
  kir_print(k, &printed);
  const char *text = arena_take_buffer(b->arena, &printed);
  for (int i = 0; i < b->plan.n_kernel; i++)
    if (strcmp(b->kernel_text[i], text) == 0) return i;
  int i = b->plan.n_kernel;
  ARENA_PUSH(b->arena, b->kernel_text, b->n_text_list, b->cap_text_list, text);
  ARENA_PUSH(b->arena, b->kernel, b->n_kernel_list, b->cap_kernel_list, k);
  PlanKernel pk = kernel_of(b, k, i);
  ARENA_PUSH(b->arena, b->plan.kernel, b->plan.n_kernel, b->cap_kernel, pk);
  return i;
}

static bool same_place(const PlanRef *x, const PlanRef *y) {
  return x->kind == y->kind && x->index == y->index && x->part == y->part && x->unit_offset == y->unit_offset;
}

/* Arguments that share memory (an operand written in place, one tensor read twice) may not be promised apart. */
static void find_aliases(Kernel *k, const PlanRef *ref, int n) {
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++)
      if (i != j && same_place(&ref[i], &ref[j]) && (k->buf[i].written || k->buf[j].written))
        k->buf[i].restrict_ = k->buf[j].restrict_ = false;
}

/* "conv2d_Bx32x32x64", "map_mul_add_Bx1024", "max_scalar": what profiles and `inspect --kernels` call it, and a symbol, so
 * never an op's text alone: CUDA has a function max. */
static const char *kernel_name(PlanBuild *b, const Group *g) {
  enum { MAX_OPS = 3 };
  const Node *out = g->out[0];
  char *name = arena_strdup(b->arena, g->family == FAMILY_MAP ? "map" : op_info[g->anchor->op].text);
  for (int i = g->n_node - 1, ops = 0; i >= 0 && g->family == FAMILY_MAP && ops < MAX_OPS; i--) {
    if (g->node[i]->op == OP_FILL || op_info[g->node[i]->op].class != CLASS_MAP) continue;
    name = arena_printf(b->arena, "%s_%s", name, op_info[g->node[i]->op].text);
    ops++;
  }
  if (out->type.rank == 0) return arena_printf(b->arena, "%s_scalar", name);
  for (int i = 0; i < out->type.rank; i++) {
    Dim d = out->type.dim[i];
    const char *symbol = d.b ? "B" : d.r ? "R" : "";
    int64_t n = d.b ? d.b : d.r ? d.r : d.c;
    name = arena_printf(b->arena, "%s%s%lld%s", name, i ? "x" : "_", (long long)n, symbol);
  }
  return name;
}

static bool build_launch(PlanBuild *b, const char *function, const Group *g, const MemPlan *m, PlanLaunch *l) {
  const Target *target = &b->options.target;
  Params params;
  if (!params_default(b->arena, g, target, &params, b->err)) return false;
  if (b->chooser) b->chooser->choose(b->chooser->ctx, g, target, &params);
  Kernel *k = lower_group(b->arena, g, target, &params, kernel_name(b, g), b->err);
  if (!k) return false;
  l->n_ref = g->n_in + g->n_out;
  l->ref = ARENA_ARRAY(b->arena, PlanRef, l->n_ref);
  for (int i = 0; i < g->n_in; i++) l->ref[i] = ref_of(b, m, g->in[i]);
  for (int i = 0; i < g->n_out; i++) l->ref[g->n_in + i] = ref_of(b, m, g->out[i]);
  BUG_IF(k->n_args != l->n_ref, "a kernel has %d arguments, its group %d operands", k->n_args, l->n_ref);
  BUG_IF(k->n_factor > PLAN_MAX_FACTORS, "a kernel has %d factors", k->n_factor);
  find_aliases(k, l->ref, l->n_ref);
  l->n_factor = k->n_factor;
  for (int i = 0; i < k->n_factor; i++) l->factor[i] = (PlanFactor){k->factor[i].size, k->factor[i].tile};
  l->grain = k->grain > 0 ? k->grain : 1;
  l->kind = LAUNCH_KERNEL;
  l->kernel = add_kernel(b, k);
  ARENA_PUSH(b->arena, b->launch, b->n_launch, b->cap_launch, ((LaunchGroup){function, LAUNCH_KERNEL, l->kernel, 0, g}));
  return true;
}

/* ---- products ---- */

/* Launches with the same sizes but for m and batch are one product: what a weight is used with in all functions. */
static bool is_same_product(const PlanProduct *x, const PlanProduct *y) {
  return x->in == y->in && x->out == y->out && x->transpose_a == y->transpose_a && x->transpose_b == y->transpose_b &&
         x->share_b == y->share_b && x->bias == y->bias;
}

static int find_product(PlanBuild *b, const LibraryProduct *x) {
  for (int i = 0; i < b->plan.n_product; i++)
    if (is_same_product(&b->plan.product[i], &x->form) && dim_equal(b->product_size[i].n, x->shape.n) &&
        dim_equal(b->product_size[i].k, x->shape.k))
      return i;
  ARENA_PUSH(b->arena, b->product_size, b->n_product_size, b->cap_product_size, x->shape);
  ARENA_PUSH(b->arena, b->plan.product, b->plan.n_product, b->cap_product, x->form);
  return b->plan.n_product - 1;
}

static void build_product(PlanBuild *b, const LibraryProduct *x, const MemPlan *m, PlanLaunch *l) {
  *l = (PlanLaunch){.kind = LAUNCH_PRODUCT, .product = find_product(b, x), .shape = x->shape, .grain = 1,
                    .ref = ARENA_ARRAY(b->arena, PlanRef, 4)};
  for (int i = 0; i < COUNT_OF(x->operand); i++)
    if (x->operand[i]) l->ref[l->n_ref++] = ref_of(b, m, x->operand[i]);
  l->ref[l->n_ref++] = ref_of(b, m, x->result);
}

static bool build_step(PlanBuild *b, const char *function, const Group *g, const MemPlan *m, PlanLaunch *l) {
  LibraryProduct x;
  const char *why;
  if (!g->is_library) return build_launch(b, function, g, m, l);
  BUG_IF(!product_of_group(g, &x, &why), "a group that a library computes is no product of it: %s", why);
  build_product(b, &x, m, l);
  ARENA_PUSH(b->arena, b->launch, b->n_launch, b->cap_launch, ((LaunchGroup){function, LAUNCH_PRODUCT, 0, l->product, g}));
  return true;
}

/* ---- functions ---- */

static void build_ports(PlanBuild *b, const Func *f, PlanFunction *pf) {
  pf->n_in = f->n_in;
  pf->n_out = f->n_out;
  pf->in = ARENA_ARRAY(b->arena, PlanTensor, f->n_in);
  pf->out = ARENA_ARRAY(b->arena, PlanTensor, f->n_out);
  for (int i = 0; i < f->n_in; i++) pf->in[i] = tensor_of(f->in[i].name, f->in[i].node);
  for (int i = 0; i < f->n_out; i++) pf->out[i] = tensor_of(f->out[i].name, f->out[i].node);
}

static void build_copies(PlanBuild *b, const MemPlan *m, PlanFunction *pf) {
  pf->n_copy = m->n_copy;
  pf->copy = ARENA_ARRAY(b->arena, PlanCopy, m->n_copy);
  for (int i = 0; i < m->n_copy; i++) {
    const CopyStep *c = &m->copy[i];
    pf->copy[i].from = ref_of(b, m, c->from);
    pf->copy[i].to = c->to ? leaf_ref(b, c->to) : (PlanRef){.kind = REF_OUTPUT, .index = c->output};
    pf->copy[i].to.bytes = pf->copy[i].from.bytes;
  }
}

static void note_updates(PlanBuild *b, const Func *f) {
  for (int i = 0; i < f->n_update; i++)
    if (f->update[i].target->op == OP_PARAM) b->plan.param[find_param(b, f->update[i].target)].is_updated = true;
}

/* Nothing is launched for results without elements. */
static bool is_empty(const Group *g) {
  for (int i = 0; i < g->n_out; i++) {
    Dim d = bytes_of(g->out[i]);
    if (d.c || d.b || d.r) return false;
  }
  return true;
}

void plan_build_needs_samples(PlanBuild *b, int function, const char *why) {
  PlanFunction *f = &b->plan.function[function];
  f->least_samples = 1;
  f->least_why = arena_strdup(b->arena, why);
}

int plan_build_function(PlanBuild *b, const Program *p, const MemPlan *m, bool is_prepare) {
  Func *f = p->func;
  PlanFunction pf = {.name = f->name, .is_prepare = is_prepare, .least_why = ""};
  build_ports(b, f, &pf);
  pf.launch = ARENA_ARRAY(b->arena, PlanLaunch, p->n_group);
  for (int i = 0; i < p->n_group; i++)
    if (!is_empty(&p->group[i]) && !build_step(b, f->name, &p->group[i], m, &pf.launch[pf.n_launch++]))
      return -1;
  build_copies(b, m, &pf);
  note_updates(b, f);
  memcpy(pf.part_bytes, m->part_bytes, sizeof pf.part_bytes);
  for (int i = 0; i < m->n_leaf; i++) leaf_ref(b, m->leaf[i]);
  ARENA_PUSH(b->arena, b->plan.function, b->plan.n_function, b->cap_function, pf);
  Error why = {0};
  if (!func_holds_at(f, 0, 1, &why)) plan_build_needs_samples(b, b->plan.n_function - 1, why.text);
  return b->plan.n_function - 1;
}

/* ---- decoding ---- */

/* Rings hold the slots that the wavefront needs, not all positions.  Their operands shrink with them. */
static void shrink_rings(PlanBuild *b, const Decode *d, int step, int64_t live) {
  for (int i = 0; i < d->step->n_update; i++) {
    int index = find_state(b, d->step->update[i].target);
    PlanState *s = &b->plan.state[index];
    Dim bytes = dim_scale(s->type.dim[1], live * s->type.dim[2].c * (int64_t)dtype_bytes(s->type.dtype));
    s->is_ring = true;
    s->type.dim[0] = dim_const(live);
    PlanFunction *f = &b->plan.function[step];
    for (int k = 0; k < f->n_launch; k++)
      for (int r = 0; r < f->launch[k].n_ref; r++) {
        PlanRef *ref = &f->launch[k].ref[r];
        if (ref->kind == REF_STATE && ref->index == index) ref->bytes = bytes;
      }
  }
}

bool plan_decode_describe(Arena *a, const Decode *d, PlanDecode *out, Error *err) {
  PlanDecode pd = {.name = d->name, .vocab = d->vocab, .prologue = -1, .step = -1, .n_attend = d->n_attend,
                   .n_stencil = d->n_stencil, .has_stop = d->has_stop, .stop = d->stop};
  memcpy(pd.grid, d->grid, sizeof pd.grid);
  memcpy(pd.wavefront, d->wavefront.a, sizeof pd.wavefront);
  memcpy(pd.raster, d->raster.a, sizeof pd.raster);
  pd.attend = ARENA_ARRAY(a, AttendAttrs, d->n_attend);
  for (int i = 0; i < d->n_attend; i++) pd.attend[i] = *d->attend[i].attrs;
  pd.stencil = ARENA_ARRAY(a, PlanStencil, d->n_stencil);
  for (int i = 0; i < d->n_stencil; i++) {
    memcpy(pd.stencil[i].delta, d->stencil[i].delta, sizeof pd.stencil[i].delta);
    pd.stencil[i].raster = d->stencil[i].raster;
  }
  DecodeOrder order = {0};
  if (!order_init(&order, &pd, 1, err)) return false;
  order_build(&order, 0, false, NULL);
  pd.live = order.slots;
  order_done(&order);
  *out = pd;
  return true;
}

bool plan_build_decode(PlanBuild *b, const Decode *d, int prologue, int step) {
  PlanDecode pd;
  if (!plan_decode_describe(b->arena, d, &pd, b->err)) return false;
  pd.prologue = prologue;
  pd.step = step;
  shrink_rings(b, d, step, pd.live);
  ARENA_PUSH(b->arena, b->plan.decode, b->plan.n_decode, b->cap_decode, pd);
  return true;
}

int plan_build_kernels(const PlanBuild *b, Kernel *const **out) {
  *out = b->kernel;
  return b->plan.n_kernel;
}

int plan_build_launches(const PlanBuild *b, const LaunchGroup **out) {
  *out = b->launch;
  return b->n_launch;
}

typedef struct PlanWriting {
  PlanBuild *b;
  Buffer *out;
} PlanWriting;

static bool write_plan(void *ctx, PlanObject *objects) {
  PlanWriting *w = ctx;
  Plan *p = &w->b->plan;
  p->object = objects;
  p->n_object = p->n_kernel;
  return plan_check(p, w->b->err) && plan_write(p, w->out, w->b->err);
}

bool plan_build_finish(PlanBuild *b, Buffer *out) {
  PlanWriting w = {b, out};
  return images_compile(b->arena, b->kernel, b->plan.n_kernel, &b->options, write_plan, &w, b->err);
}
