/* Lowers a whole function as one group and compares what the kernel computes with the reference interpreter: through
 * the kernel interpreter, and compiled for every instruction set of this machine, in one go and item by item.
 *
 * Leafs get random values by name: p... floats in [0.1, 2.1), other floats in [-2, 2), i32 in [-4, 20), u8 in [0, 3].
 * Buffers are exactly as large as their tensors and separate, so that address sanitizers see every stray access. */
#ifndef NUWA_TESTS_LOWER_CHECK_H
#define NUWA_TESTS_LOWER_CHECK_H

#include "codegen/lower/lower.h"
#include "ir/interp.h"
#include "runtime/base/philox.h"
#include "runtime/cpu/loader.h"
#include "tests/test.h"
#include "tests/unit/ir/ir_case.h"

#include <math.h>
#include <stdlib.h>

typedef struct Check Check;
struct Check {
  Graph *graph;
  Func *func;
  Group group;
  int64_t B, R;
  Error err;
  const char *text;
  Func *(*build)(struct Check *c); /* instead of text */
  uint32_t seed;                   /* for build */
  Family family;
  Kernel *kernel;
  int unroll;
  bool keep; /* leave graph and kernel for the caller */
  bool ran;
  bool interpret_only; /* do not compile */
  void *owned[512];    /* buffers, freed by check_done */
  int n_owned;
  int64_t in_place; /* bit o * 8 + i: output o lies over input i */
};

static inline double check_random(const Node *leaf, int64_t i) {
  uint32_t seed = 1;
  const char *name = op_info[leaf->op].class == CLASS_LEAF ? leaf->attrs.leaf.name : "x";
  for (const char *c = name; *c; c++) seed = seed * 31 + (uint32_t)*c;
  double u = philox_uniform(philox(seed, (uint32_t)i, 0, STREAM_TEST).word[0]);
  switch (leaf->type.dtype) {
  case DTYPE_I32:
    return floor(u * 24) - 4;
  case DTYPE_U8:
    return floor(u * 4);
  default: {
    float x = (float)(name[0] == 'p' ? 0.1 + 2 * u : 4 * u - 2);
    return (double)(leaf->type.dtype == DTYPE_BF16 ? bf16_round(x) : x);
  }
  }
}

static inline Tensor check_tensor(Arena *a, const Node *n, int64_t B, int64_t R) {
  int64_t dim[MAX_RANK];
  for (int i = 0; i < n->type.rank; i++) dim[i] = dim_value(n->type.dim[i], B, R);
  Tensor t = tensor_new(a, n->type.dtype, n->type.rank, dim);
  return t;
}

static inline const Tensor *check_leaf(void *ctx, const Node *leaf, Error *err) {
  Check *c = ctx;
  Tensor *t = ARENA_NEW(c->graph->arena, Tensor);
  *t = check_tensor(c->graph->arena, leaf, c->B, c->R);
  for (int64_t i = 0; i < tensor_elems(t); i++) t->data[i] = check_random(leaf, i);
  return t;
}

/* A buffer of exactly the tensor's bytes: random values for a leaf, 0xab for a result. */
static inline void *check_buffer(Check *c, const Node *n, int64_t elems, bool fill) {
  size_t bytes = (size_t)elems * dtype_bytes(n->type.dtype);
  char *p = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
  if (!p || c->n_owned == COUNT_OF(c->owned)) abort();
  c->owned[c->n_owned++] = p;
  p += ((bytes + 63) / 64 * 64) + 64 - bytes; /* ends where the block ends: what strays is seen */
  p -= (size_t)p % dtype_bytes(n->type.dtype);
  memset(p, 0xab, bytes);
  for (int64_t i = 0; fill && i < elems; i++) {
    double v = check_random(n, i);
    if (n->type.dtype == DTYPE_F32)
      ((float *)(void *)p)[i] = (float)v;
    else if (n->type.dtype == DTYPE_BF16)
      ((uint16_t *)(void *)p)[i] = bf16_from_f32((float)v);
    else if (n->type.dtype == DTYPE_I32)
      ((int32_t *)(void *)p)[i] = (int32_t)v;
    else
      ((uint8_t *)p)[i] = (uint8_t)v;
  }
  return p;
}

static inline double check_get(const Node *n, const void *p, int64_t i) {
  if (n->type.dtype == DTYPE_F32) return (double)((const float *)p)[i];
  if (n->type.dtype == DTYPE_BF16) return (double)f32_from_bf16(((const uint16_t *)p)[i]);
  return n->type.dtype == DTYPE_I32 ? ((const int32_t *)p)[i] : ((const uint8_t *)p)[i];
}

static inline int64_t check_elems(const Node *n, int64_t B, int64_t R) {
  int64_t e = 1;
  for (int i = 0; i < n->type.rank; i++) e *= dim_value(n->type.dim[i], B, R);
  return e;
}

static inline void check_group(Check *c) {
  int n;
  Node **all = func_nodes(c->func, &n);
  Arena *a = c->graph->arena;
  Group *g = &c->group;
  *g = (Group){.family = c->family,
               .node = ARENA_ARRAY(a, Node *, n),
               .in = ARENA_ARRAY(a, Node *, n),
               .out = ARENA_ARRAY(a, Node *, c->func->n_out)};
  for (int i = 0; i < n; i++) {
    OpClass class = op_info[all[i]->op].class;
    if (class == CLASS_LEAF)
      g->in[g->n_in++] = all[i];
    else
      g->node[g->n_node++] = all[i];
    if ((class == CLASS_REDUCE || class == CLASS_SCATTER) && !g->anchor) g->anchor = all[i];
  }
  for (int i = 0; i < c->func->n_out; i++) g->out[g->n_out++] = c->func->out[i].node;
  if (!g->anchor) g->anchor = g->out[0];
}

static inline bool check_lower(Check *c) {
  Target t = target_of(ISA_AVX512);
  Params p;
  if (!params_default(c->graph->arena, &c->group, &t, &p, &c->err)) return false;
  if (c->family == FAMILY_MAP) p.map.unroll = c->unroll ? c->unroll : 2;
  if (c->family == FAMILY_REDUCE) p.reduce.unroll = c->unroll ? c->unroll : 2;
  c->kernel = lower_group(c->graph->arena, &c->group, &t, &p, "k", &c->err);
  return c->kernel != NULL;
}

static inline int64_t check_items(const Kernel *k, int64_t B, int64_t R) {
  int64_t n = 1;
  for (int i = 0; i < k->n_factor; i++)
    n *= (dim_value(k->factor[i].size, B, R) + k->factor[i].tile - 1) / k->factor[i].tile;
  return n;
}

/* Fresh argument buffers: random inputs, results full of rubbish (a ring's result starts as the ring). */
static inline void check_args(Check *c, void **args) {
  const Group *g = &c->group;
  for (int i = 0; i < g->n_in; i++) args[i] = check_buffer(c, g->in[i], check_elems(g->in[i], c->B, c->R), true);
  for (int o = 0; o < g->n_out; o++) {
    int64_t n = check_elems(g->out[o], c->B, c->R);
    bool ring = g->out[o]->op == OP_RING_WRITE;
    args[g->n_in + o] = check_buffer(c, ring ? g->out[o]->in[0] : g->out[o], n, ring);
    for (int i = 0; i < g->n_in; i++)
      if (c->in_place >> (8 * o + i) & 1) args[g->n_in + o] = args[i];
  }
}

static inline void check_results(Check *c, const char *what, const Tensor *want, void *const *args) {
  const Group *g = &c->group;
  for (int o = 0; o < g->n_out; o++) {
    int64_t n = check_elems(g->out[o], c->B, c->R);
    double largest = 0, worst = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++)
      if (isfinite(want[o].data[i])) largest = fmax(largest, fabs(want[o].data[i]));
    for (int64_t i = 0; i < n; i++) {
      double x = check_get(g->out[o], args[g->n_in + o], i), y = want[o].data[i];
      double d = x == y || (isnan(x) && isnan(y)) ? 0 : fabs(x - y);
      if (!(d <= worst)) worst = d, at = i;
    }
    double most = g->out[o]->type.dtype == DTYPE_BF16 ? 2e-2 : 1e-5;
    bool ok = dtype_is_float(g->out[o]->type.dtype) ? worst <= most * fmax(largest, 1e-3) : worst == 0;
    EXPECT(ok, "%s, B=%d R=%d, output %d[%lld]: got %.9g, want %.9g (largest %g)\n%s", what, (int)c->B, (int)c->R, o,
           (long long)at, n ? check_get(g->out[o], args[g->n_in + o], at) : 0, n ? want[o].data[at] : 0, largest,
           c->text);
  }
}

static inline bool check_same_bits(const Check *c, void *const *x, void *const *y) {
  const Group *g = &c->group;
  for (int o = 0; o < g->n_out; o++) {
    size_t bytes = (size_t)check_elems(g->out[o], c->B, c->R) * dtype_bytes(g->out[o]->type.dtype);
    if (bytes && memcmp(x[g->n_in + o], y[g->n_in + o], bytes)) return false;
  }
  return true;
}

typedef void (*CheckKernel)(void *const *buf, const int64_t *dim, int64_t begin, int64_t end, void *scratch);

/* Compiled for isa: the bits of `reference`, run in one go and then one item a call, backwards. */
static inline void check_compiled(Check *c, Isa isa, void *const *reference) {
  Target t;
  Buffer elf = {0};
  void *args[64];
  if (!isa_available(isa)) return;
  bool ok = target_host(isa, &t, &c->err) && llvm_compile(&c->kernel, 1, &t, &elf, &c->err);
  Object *o = ok ? object_load(elf.data, elf.len, &c->err) : NULL;
  EXPECT(o, "%s: %s\n%s", isa_name(isa), c->err.text, c->text);
  if (!o) return;
  CheckKernel run;
  void *symbol = object_symbol(o, "k");
  memcpy(&run, &symbol, sizeof run);
  int64_t dim[2] = {c->B, c->R}, items = check_items(c->kernel, c->B, c->R);
  void *scratch = mem_alloc_aligned((size_t)kir_scratch_bytes(c->kernel) + 64, 64);
  check_args(c, args);
  run(args, dim, 0, items, scratch);
  EXPECT(check_same_bits(c, args, reference), "%s differs from the kernel interpreter, B=%d\n%s", isa_name(isa),
         (int)c->B, c->text);
  if (!c->in_place) {
    check_args(c, args);
    for (int64_t i = items; i-- > 0;) run(args, dim, i, i + 1, scratch);
    EXPECT(check_same_bits(c, args, reference), "%s differs item by item, B=%d\n%s", isa_name(isa), (int)c->B,
           c->text);
  }
  mem_free(scratch);
  object_free(o);
  buffer_done(&elf);
}

static inline void check_body(void *ctx) {
  Check *c = ctx;
  check_group(c);
  if (!check_lower(c)) return;
  Tensor *want = ARENA_ARRAY(c->graph->arena, Tensor, c->func->n_out);
  if (!interp_run(c->func, c->B, c->R, check_leaf, c, c->graph->arena, want, NULL, &c->err)) return;
  void *args[64];
  check_args(c, args);
  if (!kir_interpret(c->kernel, args, c->B, c->R, &c->err)) return;
  check_results(c, "kernel interpreter", want, args);
  for (int isa = 0; isa < ISA_COUNT && !c->interpret_only; isa++) check_compiled(c, (Isa)isa, args);
  c->ran = true;
}

static inline void check_parse(void *ctx) {
  Check *c = ctx;
  Func **f;
  int n;
  if (c->build) {
    Buffer b = {0};
    c->func = c->build(c);
    if (c->func) func_print(c->func, &b);
    c->text = b.data ? arena_strdup(c->graph->arena, b.data) : "";
    buffer_done(&b);
  } else if (ir_parse(c->graph, "case", c->text, &f, &n) && n == 1)
    c->func = f[0];
}

static inline void check_done(Check *c) {
  while (c->n_owned) free(c->owned[--c->n_owned]);
  graph_free(c->graph);
  c->graph = NULL;
}

/* The function in `text`, lowered as one group of the family, at one pair of sizes. */
static inline void check_run(Check *c) {
  c->graph = graph_new(&c->err);
  bool ok = arena_protect(c->graph->arena, check_parse, c, &c->err) && c->func &&
            arena_protect(c->graph->arena, check_body, c, &c->err) && c->ran;
  EXPECT(ok, "%s\n%s", c->err.text, c->text);
  if (!c->keep) check_done(c);
}

static inline void check(Family family, const char *text, int64_t B, int64_t R) {
  check_run(&(Check){.family = family, .text = text, .B = B, .R = R});
}

#endif
