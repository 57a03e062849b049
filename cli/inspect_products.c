/* The products of a function on a GPU: what they multiply, who computes them and why.  The rule is
 * codegen/plan/products.c's; the algorithms are what a session on the GPU at hand chooses. */
#include <string.h>

#include "bench/gpu_bench.h"
#include "cli/inspect_cuda.h"
#include "codegen/plan/products.h"

typedef struct Listing {
  const InspectCuda *q;
  Model *model;
  Lowered e;
  Plan *plan;
  NuwaSession *session;   /* NULL: no algorithms */
  Buffer *out;
  Error *err;
} Listing;

/* A launch of a product. */
typedef struct ProductItem {
  const LaunchEstimate *launch;
  int launches;           /* of the same kernel or product in the same function */
  bool is_library;
  LibraryProduct x;       /* result NULL: a convolution */
  const char *why;
} ProductItem;

static bool is_same(const LaunchEstimate *x, const LaunchEstimate *y) {
  return x->kind == y->kind && x->kernel == y->kernel && x->product == y->product && strcmp(x->function, y->function) == 0;
}

/* False when launch i is no product, or like one before. */
static bool find_item(const Listing *l, int i, ProductItem *out) {
  const LaunchEstimate *launch = &l->e.launch[i];
  *out = (ProductItem){.launch = launch};
  bool possible = product_of_group(launch->group, &out->x, &out->why);
  out->is_library = launch->kind == LAUNCH_PRODUCT;
  if (!possible && !out->why) return false;
  if (possible && !out->is_library) out->why = "--products own";
  for (int k = 0; k < l->e.n_launch; k++) {
    if (!is_same(&l->e.launch[k], launch)) continue;
    if (k < i) return false;
    out->launches++;
  }
  return true;
}

/* ---- what follows the product in its kernel ---- */

static bool is_shown(const ProductItem *item, const Node *n) {
  bool computes = n->op != OP_RESHAPE && n->op != OP_DETACH && n->op != OP_BROADCAST && n->op != OP_FILL;
  return n != item->launch->group->anchor && computes;
}

/* Names of ops, with `between` before each. */
static void print_epilogue(const ProductItem *item, const char *between, const char *quote, Buffer *out) {
  const Group *g = item->launch->group;
  const char *comma = "";
  for (int i = 0; i < g->n_node; i++) {
    if (item->is_library || !is_shown(item, g->node[i])) continue;
    buffer_printf(out, "%s%s%s%s", comma, quote, op_info[g->node[i]->op].text, quote);
    comma = between;
  }
}

/* ---- text ---- */

static void print_matrix(const char *name, Dim rows, Dim cols, Buffer *out) {
  char text[2][DIM_TEXT];
  buffer_printf(out, "%s[%s,%s]", name, dim_print(rows, text[0]), dim_print(cols, text[1]));
}

static void print_product(const ProductItem *item, Buffer *out) {
  const PlanProduct *f = &item->x.form;
  const PlanShape *s = &item->x.shape;
  char batch[DIM_TEXT];
  if (!dim_equal(s->batch, dim_const(1))) buffer_printf(out, "%s x ", dim_print(s->batch, batch));
  buffer_printf(out, "%s ", dtype_name(f->out));
  print_matrix("C", s->m, s->n, out);
  buffer_printf(out, " = %s ", dtype_name(f->in));
  print_matrix(f->transpose_a ? "A^T" : "A", s->m, s->k, out);
  print_matrix(f->transpose_b ? " B^T" : " B", s->k, s->n, out);
  if (f->bias) buffer_printf(out, " + bias");
}

static void print_node(const Node *n, Buffer *out) {
  char text[300];
  buffer_printf(out, "%s %s", op_info[n->op].text, type_print(&n->in[0]->type, text, sizeof text));
  buffer_printf(out, " with %s", type_print(&n->in[1]->type, text, sizeof text));
  buffer_printf(out, " -> %s", type_print(&n->type, text, sizeof text));
}

static void print_item(const Listing *l, const ProductItem *item) {
  const Node *anchor = item->launch->group->anchor;
  Buffer epilogue = {0}, *out = l->out;
  if (item->is_library) buffer_printf(out, "  cuBLASLt, product %d: ", item->launch->product);
  else buffer_printf(out, "  own kernel %s: ", l->e.kernel[item->launch->kernel]->name);
  if (item->x.result) print_product(item, out);
  else print_node(anchor, out);
  print_epilogue(item, " ", "", &epilogue);
  if (epilogue.data) buffer_printf(out, ", then %s", epilogue.data);
  out->failed |= epilogue.failed;
  buffer_done(&epilogue);
  if (item->launches > 1) buffer_printf(out, "; %d launches", item->launches);
  if (anchor->loc && anchor->loc->file) buffer_printf(out, " (%s:%d)", anchor->loc->file, anchor->loc->line);
  buffer_printf(out, "\n");
  if (!item->is_library) buffer_printf(out, "    not the library's: %s\n", item->why);
  else if (l->session)
    buffer_printf(out, "    %s, %zu bytes of workspace\n", nuwa_product_algorithm(l->session, item->launch->product),
                  nuwa_product_workspace(l->session, item->launch->product));
}

/* ---- JSON ---- */

static void json_matrix(const ProductItem *item, Buffer *out) {
  const PlanProduct *f = &item->x.form;
  const PlanShape *s = &item->x.shape;
  inspect_json_dim("batch", s->batch, out);
  inspect_json_dim("m", s->m, out);
  inspect_json_dim("n", s->n, out);
  inspect_json_dim("k", s->k, out);
  buffer_printf(out, "\"in\": \"%s\", \"out\": \"%s\", \"transpose_a\": %s, \"transpose_b\": %s, \"bias\": %s, ",
                dtype_name(f->in), dtype_name(f->out), f->transpose_a ? "true" : "false",
                f->transpose_b ? "true" : "false", f->bias ? "true" : "false");
}

static void json_item(const Listing *l, const ProductItem *item) {
  const LaunchEstimate *launch = item->launch;
  const Node *anchor = launch->group->anchor;
  Buffer *out = l->out;
  buffer_printf(out, "{\"function\": ");
  json_print_text(out, launch->function);
  buffer_printf(out, ", \"op\": \"%s\", \"launches\": %d, ", op_info[anchor->op].text, item->launches);
  if (anchor->loc && anchor->loc->file) {
    buffer_printf(out, "\"line\": %d, \"file\": ", anchor->loc->line);
    json_print_text(out, anchor->loc->file);
    buffer_printf(out, ", ");
  }
  if (item->x.result) json_matrix(item, out);
  buffer_printf(out, "\"then\": [");
  print_epilogue(item, ", ", "\"", out);
  if (!item->is_library) {
    buffer_printf(out, "], \"by\": \"own\", \"kernel\": \"%s\", \"why\": ", l->e.kernel[launch->kernel]->name);
    json_print_text(out, item->why);
  } else {
    buffer_printf(out, "], \"by\": \"cublaslt\", \"product\": %d", launch->product);
    if (l->session)
      buffer_printf(out, ", \"algorithm\": \"%s\", \"workspace_bytes\": %zu",
                    nuwa_product_algorithm(l->session, launch->product),
                    nuwa_product_workspace(l->session, launch->product));
  }
  buffer_printf(out, "}");
}

/* ---- the GPU at hand ---- */

static int count_library(const Lowered *e) {
  int n = 0;
  for (int i = 0; i < e->n_launch; i++) n += e->launch[i].kind == LAUNCH_PRODUCT;
  return n;
}

static bool open_session(Listing *l, CompileOptions *o, Error *err) {
  NuwaCuda cuda = cli_cuda(l->q->args);
  NuwaOptions session = {.device = PLAN_CUDA, .cuda = cuda, .threads = 1, .samples = 1, .rows = 1};
  GpuDevice device;
  return gpu_find(&cuda, &device, err) && (l->plan = models_compile_plan(l->q->target, l->model, o, err)) &&
         (l->session = nuwa_session_open(l->plan, &session, err));
}

/* Without a driver that was named there may be none; one that was named must work. */
static bool choose(Listing *l, CompileOptions *o) {
  Error why = {0};
  if (!count_library(&l->e) || open_session(l, o, &why)) return true;
  if (l->q->args->driver) {
    *l->err = why;
    return false;
  }
  if (!l->q->json) buffer_printf(l->out, "without algorithms, which a GPU and its library choose: %s\n", why.text);
  return true;
}

/* ---- all ---- */

static void print_all(const Listing *l) {
  const char *function = "", *comma = "[";
  ProductItem item;
  for (int i = 0; i < l->e.n_launch; i++) {
    if (!find_item(l, i, &item)) continue;
    if (l->q->json) {
      buffer_printf(l->out, "%s", comma);
      json_item(l, &item);
      comma = ",\n ";
      continue;
    }
    if (strcmp(function, item.launch->function) != 0) {
      buffer_printf(l->out, "%s\n", item.launch->function);
      function = item.launch->function;
    }
    print_item(l, &item);
  }
  if (l->q->json) buffer_printf(l->out, "%s]\n", *comma == '[' ? "[" : "");
}

bool inspect_products(Model *m, const InspectCuda *q, CompileOptions *o, Buffer *out, Error *err) {
  Listing l = {.q = q, .model = m, .out = out, .err = err};
  bool ok = compile_lower(m, o, &l.e, err);
  o->explain = NULL;   /* it was said */
  ok = ok && choose(&l, o);
  if (ok) print_all(&l);
  nuwa_session_close(l.session);
  plan_free(l.plan);
  lowered_done(&l.e);
  return ok;
}
