#include "tests/num/rig.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/philox.h"

bool rig_open(Rig *r) {
  memset(r, 0, sizeof *r);
  r->model.graph = graph_new(&r->err);
  r->model.func = r->func;
  r->model.decode = r->decode;
  r->model.path = "test";
  return r->model.graph != NULL;
}

void rig_close(Rig *r) { graph_free(r->model.graph); }

typedef struct Build {
  Rig *r;
  void (*build)(Rig *r);
} Build;

static void build_body(void *ctx) {
  Build *b = ctx;
  b->build(b->r);
}

bool rig_build(Rig *r, void (*build)(Rig *r)) {
  Build b = {r, build};
  r->err.code = ERROR_NONE;
  return arena_protect(r->model.graph->arena, build_body, &b, &r->err) && r->err.code == ERROR_NONE;
}

Func *rig_add(Rig *r, Func *f) {
  if (f) r->func[r->model.n_func++] = f;
  return f;
}

const char *rig_name(Rig *r, const char *text) {
  return arena_printf(r->model.graph->arena, "%s.%d", text, r->model.n_func);
}

Node *rig_input(Rig *r, const char *name, DType t, int rank, const Dim *dim) {
  Type type = type_make(t, rank, dim);
  return graph_op(r->model.graph, OP_INPUT, NULL, 0, &(Attrs){.leaf.name = name}, &type);
}

static int by_name(const void *x, const void *y) { return strcmp(((const Port *)x)->name, ((const Port *)y)->name); }

Func *rig_function(Rig *r, const char *name, const Port *out, int n_out) {
  Graph *g = r->model.graph;
  for (int i = 0; i < n_out; i++)
    if (!out[i].node) return NULL;
  Func view = {.name = name, .graph = g, .out = (Port *)out, .n_out = n_out};
  int n;
  Node **nodes = func_nodes(&view, &n);
  Port *in = ARENA_ARRAY(g->arena, Port, n);
  int n_in = 0;
  for (int i = 0; i < n; i++)
    if (nodes[i]->op == OP_INPUT) in[n_in++] = (Port){nodes[i]->attrs.leaf.name, nodes[i]};
  if (n_in) qsort(in, (size_t)n_in, sizeof *in, by_name);
  return func_new(g, name, in, n_in, out, n_out);
}

Plan *rig_compile(Rig *r, Isa isa, bool whole) {
  Buffer bundle = {0};
  CompileOptions o = {.isa = isa, .threads = 2, .whole = whole};
  Plan *p = NULL;
  r->err.code = ERROR_NONE;
  if (compile_model(&r->model, &o, &bundle, &r->err)) p = plan_read(bundle.data, bundle.len, "test", &r->err);
  buffer_done(&bundle);
  return p;
}

int rig_isas(Isa out[ISA_COUNT]) {
  static const Isa order[] = {ISA_AVX512, ISA_AVX2, ISA_NEON, ISA_PLAIN};
  int n = 0;
  for (int i = 0; i < COUNT_OF(order); i++)
    if (isa_available(order[i])) out[n++] = order[i];
  return n;
}

/* ---- blame ---- */

static char blamed[120];

static void say_blamed(int signal_number) {
  if (write(STDERR_FILENO, blamed, strlen(blamed)) < 0) return;
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

void rig_blame(const char *what) {
  snprintf(blamed, sizeof blamed, "ended by %s\n", what);
  signal(SIGABRT, say_blamed);
  signal(SIGSEGV, say_blamed);
}

/* ---- kernels kept in memory ---- */

bool rig_keep_get(void *ctx, const char *key, Buffer *out) {
  const RigKeep *k = ctx;
  for (int i = 0; i < k->n; i++)
    if (strcmp(k->key[i], key) == 0) return buffer_append(out, k->object[i].data, k->object[i].len), true;
  return false;
}

void rig_keep_put(void *ctx, const char *key, const void *bytes, size_t n) {
  RigKeep *k = ctx;
  if (k->n == RIG_MOST_KEPT) return;
  k->key[k->n] = strdup(key);
  buffer_append(&k->object[k->n++], bytes, n);
}

void rig_keep_done(RigKeep *k) {
  for (int i = 0; i < k->n; i++) {
    free(k->key[i]);
    buffer_done(&k->object[i]);
  }
  k->n = 0;
}

/* ---- data ---- */

double rig_value(DType t, uint64_t seed, int64_t i) {
  Philox p = philox(seed, (uint32_t)i, (uint32_t)((uint64_t)i >> 32), 7);
  if (t == DTYPE_I32) return (double)(int64_t)(p.word[0] % 19) - 9.0;
  if (t == DTYPE_U8) return (double)(p.word[0] % 256);
  double u = ((double)p.word[0] + 1.0) / 4294967296.0, v = (double)p.word[1] / 4294967296.0;
  return (double)(float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

/* Tensors of a file stand wherever its header ends, so elements are copied, not pointed at. */
void rig_store(DType t, void *to, int64_t i, double x) {
  size_t bytes = dtype_bytes(t);
  float real = (float)x;
  uint16_t half = bf16_from_f32(real);
  int32_t integer = t == DTYPE_I32 ? (int32_t)x : 0;
  uint8_t byte = t == DTYPE_U8 ? (uint8_t)x : 0;
  const void *from = t == DTYPE_F32    ? (void *)&real
                     : t == DTYPE_BF16 ? (void *)&half
                     : t == DTYPE_I32  ? (void *)&integer
                                       : (void *)&byte;
  memcpy((char *)to + (size_t)i * bytes, from, bytes);
}

double rig_load(DType t, const void *from, int64_t i) {
  const char *at = (const char *)from + (size_t)i * dtype_bytes(t);
  float real;
  uint16_t half;
  int32_t integer;
  if (t == DTYPE_BF16) return memcpy(&half, at, sizeof half), (double)f32_from_bf16(half);
  if (t == DTYPE_U8) return (double)*(const uint8_t *)at;
  if (t == DTYPE_I32) return memcpy(&integer, at, sizeof integer), (double)integer;
  return memcpy(&real, at, sizeof real), (double)real;
}

void rig_fill(const RigData *d, const char *name, DType t, int64_t n, void *to) {
  uint64_t seed = d->seed * 1000003u;
  for (const char *c = name; *c; c++) seed = seed * 31 + (unsigned char)*c;
  for (int64_t i = 0; i < n; i++) {
    double x = rig_value(t, seed, i);
    rig_store(t, to, i, d->fit ? d->fit(d->ctx, name, i, x) : x);
  }
}

typedef struct Leafs {
  const RigData *d;
  Arena *a;
  int64_t B, R;
} Leafs;

static const Tensor *read_leaf(void *ctx, const Node *leaf, Error *err) {
  Leafs *l = ctx;
  int64_t dim[MAX_RANK];
  for (int i = 0; i < leaf->type.rank; i++) dim[i] = dim_value(leaf->type.dim[i], l->B, l->R);
  Tensor *t = ARENA_NEW(l->a, Tensor);
  *t = tensor_new(l->a, leaf->type.dtype, leaf->type.rank, dim);
  int64_t n = tensor_elems(t);
  if (leaf->op == OP_STATE) return t;   /* as a session begins */
  void *values = arena_alloc(l->a, (size_t)n * dtype_bytes(t->dtype) + 1);
  rig_fill(l->d, leaf->attrs.leaf.name, t->dtype, n, values);
  for (int64_t i = 0; i < n; i++) t->data[i] = rig_load(t->dtype, values, i);
  return t;
}

typedef struct Interp {
  const Func *f;
  Leafs leafs;
  Tensor *out, *update;
  Error *err;
  bool ok;
} Interp;

static void interp_body(void *ctx) {
  Interp *i = ctx;
  i->ok = interp_run(i->f, i->leafs.B, i->leafs.R, read_leaf, &i->leafs, i->leafs.a, i->out, i->update, i->err);
}

bool rig_interp(const Func *f, const RigData *d, int64_t B, int64_t R, Arena *a, Tensor *out, Tensor *update, Error *err) {
  Interp i = {.f = f, .leafs = {d, a, B, R}, .out = out, .update = update, .err = err};
  return arena_protect(a, interp_body, &i, err) && i.ok;
}

void rig_run(NuwaSession *s, const Plan *p, int fn, const RigData *d, int64_t B, int64_t R) {
  for (int i = 0; i < p->function[fn].n_in; i++) {
    const PlanTensor *t = &p->function[fn].in[i];
    int64_t n = 0;
    BUG_IF(!plan_tensor_elems(t, B, R, &n), "input too large");
    rig_fill(d, t->name, t->dtype, n, nuwa_input(s, fn, t->name));
  }
  nuwa_run(s, fn, B, R);
}

double rig_error(const PlanTensor *t, const void *got, const Tensor *want) {
  double most = 0, error = 0;
  for (int64_t i = 0; i < tensor_elems(want); i++) {
    double x = rig_load(t->dtype, got, i), y = want->data[i];
    if ((isnan(x) && isnan(y)) || x == y || (float)y == (float)x) {
      if (isfinite(y)) most = fmax(most, fabs(y));
      continue;
    }
    if (!isfinite(x) || !isfinite(y)) return INFINITY;
    most = fmax(most, fabs(y));
    error = fmax(error, fabs(x - y));
  }
  return most > 0 ? error / most : error;
}
