/* Products for cuBLASLt: the rule of which, and the split of groups that need one.
 *
 * The library computes a matrix product when
 *   - rows of A, B and C have constant lengths, multiples of ROW_BYTES: what its fast kernels ask for;
 *   - n, and k and m where they are constant, are LEAST_SIZE at least: smaller ones hardly use a tile, and the own
 *     kernel saves passes over memory by what it fuses;
 *   - nothing follows but the addition of a bias to an f32 result.  (To a bf16 result it would be added before the only
 *     rounding, where our ops round twice.)
 * Other epilogues (GELU, residuals, norms' scales) become a map kernel of their own when k is SPLIT_K at least: what
 * the result costs on its way through memory and back, 2 elements, is then small beside the 2 k operations it takes.
 * With less k, and wherever the results of the group have several shapes, product and epilogue stay one own kernel.
 *
 * Convolutions are own kernels always. */
#include "codegen/plan/products.h"

#include "codegen/lower/contract/contract.h"

enum { LEAST_SIZE = 32, ROW_BYTES = 16, SPLIT_K = 256 };

/* ---- products ---- */

static const char *refuse_size(Dim d, bool must_be_constant) {
  if (!dim_is_const(d)) return must_be_constant ? "rows of an operand have no constant length" : NULL;
  return d.c < LEAST_SIZE ? "it is too small" : NULL;
}

static bool is_unaligned(Dim row, DType t) { return row.c * (int64_t)dtype_bytes(t) % ROW_BYTES != 0; }

static const char *refuse_shape(const PlanProduct *f, const PlanShape *s) {
  Dim row_a = f->transpose_a ? s->m : s->k, row_b = f->transpose_b ? s->k : s->n;
  const char *why = refuse_size(s->n, true);
  if (!why) why = refuse_size(s->m, f->transpose_a);
  if (!why) why = refuse_size(s->k, !f->transpose_a || f->transpose_b);
  if (why) return why;
  if (!dim_equal(s->batch, dim_const(1)) && (!dim_is_const(s->m) || !dim_is_const(s->k)))
    return "a batch of it has matrices of no constant size";
  if (is_unaligned(row_a, f->in) || is_unaligned(row_b, f->in) || is_unaligned(s->n, f->out))
    return "rows of an operand are no multiple of 16 bytes";
  return NULL;
}

/* The product itself, whatever follows it. */
static bool describe(Node *n, LibraryProduct *out, const char **out_why) {
  Product p;
  *out_why = NULL;
  if (n->op != OP_MATMUL) return false;
  DType t = n->type.dtype;   /* f32 or bf16, that of the operands too */
  contract_describe(&p, n);
  if (p.n_outer > 1) *out_why = "the library lacks its axes";
  *out = (LibraryProduct){.result = n, .operand = {program_home(n->in[0]), program_home(n->in[1])}};
  out->form = (PlanProduct){.in = t, .out = t, .transpose_a = n->attrs.matmul.trans_a,
                            .transpose_b = n->attrs.matmul.trans_b, .algorithm = ""};
  out->shape = (PlanShape){.batch = dim_const(1), .m = p.rows, .n = p.cols, .k = p.k[0].size};
  if (p.n_outer) {
    out->shape.batch = p.outer[0].size;
    out->form.share_b = dim_equal(p.outer[0].step_b, dim_const(0));
  }
  if (!*out_why) *out_why = refuse_shape(&out->form, &out->shape);
  return !*out_why;
}

static bool is_operand(const Group *g, const Node *home) {
  for (int i = 0; i < g->n_in; i++)
    if (g->in[i] == home) return true;
  return false;
}

/* The vector in memory that y repeats along its rows of n elements, or NULL. */
static Node *bias_of(const Group *g, Node *y, Dim n) {
  while (y->op == OP_DETACH) y = y->in[0];
  if (y->op != OP_BROADCAST) return NULL;
  Node *x = y->in[0], *home = program_home(x);
  Dim elems;
  bool along = x->type.rank > 0 && dim_equal(x->type.dim[x->type.rank - 1], n) &&
               dim_equal(y->type.dim[y->type.rank - 1], n);
  return along && type_elems(&x->type, &elems) && dim_equal(elems, n) && is_operand(g, home) ? home : NULL;
}

static bool is_view(const Node *n) { return n->op == OP_RESHAPE || n->op == OP_DETACH; }

/* product + bias as the group's only result, and nothing else. */
static bool take_bias(const Group *g, LibraryProduct *out) {
  Node *sum = g->out[0], *product = g->anchor;
  if (sum->op != OP_ADD || sum->type.dtype != DTYPE_F32 || out->form.in != DTYPE_F32) return false;
  for (int i = 0; i < g->n_node; i++)
    if (g->node[i] != sum && g->node[i] != product && g->node[i]->op != OP_BROADCAST && !is_view(g->node[i]))
      return false;
  for (int side = 0; side < 2; side++) {
    if (program_home(sum->in[side]) != product) continue;
    Node *bias = bias_of(g, sum->in[1 - side], out->shape.n);
    if (!bias || !dim_is_const(out->shape.k)) return false;   /* with k = 0 nobody would write the bias */
    out->operand[2] = bias;
    out->form.bias = true;
    out->result = sum;
    return true;
  }
  return false;
}

bool product_of_group(const Group *g, LibraryProduct *out, const char **out_why) {
  *out_why = NULL;
  *out = (LibraryProduct){0};
  if (g->family != FAMILY_CONTRACT) return false;
  if (!describe(g->anchor, out, out_why)) {
    if (!*out_why) *out_why = "the library has no such product";
    return false;
  }
  if (g->n_out == 1 && (g->out[0] == g->anchor || take_bias(g, out))) return true;
  *out_why = "what follows is more than a bias, and k too small for a kernel of its own";
  return false;
}

/* ---- splitting ---- */

static bool is_worth_splitting(const Group *g) {
  LibraryProduct x;
  const char *why;
  if (g->family != FAMILY_CONTRACT || product_of_group(g, &x, &why) || !describe(g->anchor, &x, &why)) return false;
  for (int i = 1; i < g->n_out; i++)
    if (!type_same_shape(&g->out[i]->type, &g->out[0]->type)) return false;
  return !dim_is_const(x.shape.k) || x.shape.k.c >= SPLIT_K;
}

static bool has_node(Node *const *list, int n, const Node *x) {
  for (int i = 0; i < n; i++)
    if (list[i] == x) return true;
  return false;
}

static void insert_by_id(Node **list, int *n, Node *x) {
  if (has_node(list, *n, x)) return;
  int at = (*n)++;
  for (; at > 0 && list[at - 1]->id > x->id; at--) list[at] = list[at - 1];
  list[at] = x;
}

static Group product_alone(Arena *a, const Group *g) {
  Node *n = g->anchor;
  Group p = {.family = FAMILY_CONTRACT, .node = ARENA_ARRAY(a, Node *, 1), .n_node = 1, .in = ARENA_ARRAY(a, Node *, 2),
             .out = ARENA_ARRAY(a, Node *, 1), .n_out = 1, .anchor = n, .seen = ARENA_ARRAY(a, uint8_t, 1),
             .why = "the product is the library's, what follows a map kernel"};
  p.node[0] = p.out[0] = n;
  for (int i = 0; i < 2; i++) insert_by_id(p.in, &p.n_in, program_home(n->in[i]));
  return p;
}

/* The members but the product and its views, which are memory now. */
static Group rest_of(Arena *a, const Group *g) {
  Group r = {.family = FAMILY_MAP, .node = ARENA_ARRAY(a, Node *, g->n_node), .in = ARENA_ARRAY(a, Node *, g->n_in + 1),
             .out = ARENA_ARRAY(a, Node *, g->n_out), .seen = ARENA_ARRAY(a, uint8_t, g->n_node), .why = g->why};
  for (int i = 0; i < g->n_node; i++)
    if (program_home(g->node[i]) != g->anchor) r.node[r.n_node++] = g->node[i];
  for (int i = 0; i < r.n_node; i++)
    for (int k = 0; k < r.node[i]->n_in; k++) {
      Node *x = r.node[i]->in[k];
      if (!has_node(r.node, r.n_node, x)) insert_by_id(r.in, &r.n_in, program_home(x));
    }
  for (int i = 0; i < g->n_out; i++)
    if (g->out[i] != g->anchor) r.out[r.n_out++] = g->out[i];
  r.anchor = r.out[0];
  return r;
}

static void add_group(Program *p, Group g) {
  LibraryProduct x;
  const char *why;
  g.is_library = product_of_group(&g, &x, &why);
  p->group[p->n_group++] = g;
}

Program *pass_products(Arena *a, Program *p) {
  Program *q = ARENA_NEW(a, Program);
  *q = (Program){.func = p->func, .group = ARENA_ARRAY(a, Group, 2 * (size_t)p->n_group)};
  for (int i = 0; i < p->n_group; i++) {
    bool split = is_worth_splitting(&p->group[i]);
    add_group(q, split ? product_alone(a, &p->group[i]) : p->group[i]);
    if (split) add_group(q, rest_of(a, &p->group[i]));
  }
  return q;
}

/* ---- --explain ---- */

void products_explain(const Program *p, Buffer *out) {
  for (int i = 0; i < p->n_group; i++) {
    LibraryProduct x;
    const char *why;
    bool library = product_of_group(&p->group[i], &x, &why) && p->group[i].is_library;
    if (!library && !why) continue;
    buffer_printf(out, "  product of group %d: ", i);
    if (!library) {
      buffer_printf(out, "an own kernel: %s\n", why);
      continue;
    }
    buffer_printf(out, "cuBLASLt, ");
    const Dim size[] = {x.shape.batch, x.shape.m, x.shape.n, x.shape.k};
    char dim[DIM_TEXT];
    for (int k = 0; k < COUNT_OF(size); k++) buffer_printf(out, "%s%s", k ? " x " : "", dim_print(size[k], dim));
    buffer_printf(out, " (batch, m, n, k)%s\n", x.form.bias ? ", with the bias" : "");
  }
}
