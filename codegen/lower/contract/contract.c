/* Contractions: matrix products, convolutions and their filter gradients, as one kind of product.
 *
 * Which coordinates rows, columns and k have, and what becomes of a result's element, is said here once; a target's loop
 * nest decides tiles and the order of elements (lower_contract_cpu.c, lower_contract_gpu.c). */
#include "codegen/lower/contract/contract.h"

/* ---- the three ops as products ---- */

static Dim elems_between(const Type *t, int from, int to) {
  Dim d;
  BUG_IF(!type_elems_range(t, from, to, &d), "a range of axes is not affine");
  return d;
}

static void describe_matmul(Product *p, const Node *n) {
  const Type *a = &n->in[0]->type, *b = &n->in[1]->type;
  bool ta = n->attrs.matmul.trans_a, tb = n->attrs.matmul.trans_b, is_shared = b->rank == 2 && a->rank > 2;
  Dim m = a->dim[a->rank - (ta ? 1 : 2)], k = a->dim[a->rank - (ta ? 2 : 1)], one = dim_const(1);
  p->cols = n->type.dim[n->type.rank - 1];
  p->rows = m;
  p->row_step = ta ? one : k;
  p->col_step = tb ? k : one;
  p->k[p->n_k++] = (Axis){k, ta ? m : one, tb ? one : p->cols};
  if (a->rank == 2) return;
  if (is_shared && !ta) {
    p->rows = elems_between(a, 0, a->rank - 1);
    return;
  }
  Dim none = dim_const(0);
  p->outer[p->n_outer++] = (Axis){elems_between(a, 0, a->rank - 2), elems_between(a, a->rank - 2, a->rank),
                                  is_shared ? none : elems_between(b, b->rank - 2, b->rank)};
}

static void describe_conv2d(Product *p, const Node *n) {
  const Type *x = &n->in[0]->type, *w = &n->in[1]->type;
  int64_t c = x->dim[3].c, line = x->dim[2].c * c, stride = n->attrs.conv.stride, o = w->dim[3].c;
  Dim none = dim_const(0);
  p->outer[p->n_outer++] = (Axis){x->dim[0], dim_const(x->dim[1].c * line), none};
  p->outer[p->n_outer++] = (Axis){n->type.dim[1], dim_const(stride * line), none};
  p->rows = n->type.dim[2];
  p->row_step = dim_const(stride * c);
  p->cols = w->dim[3];
  p->col_step = dim_const(1);
  int64_t run = w->dim[1].c * c;   /* kx and c are contiguous in both operands */
  p->k[p->n_k++] = (Axis){w->dim[0], dim_const(line), dim_const(run * o)};
  p->k[p->n_k++] = (Axis){dim_const(run), dim_const(1), dim_const(o)};
}

static void describe_conv2d_grad_w(Product *p, const Node *n) {
  const Type *x = &n->in[0]->type, *dy = &n->in[1]->type;
  int64_t c = x->dim[3].c, line = x->dim[2].c * c, stride = n->attrs.conv.stride, o = dy->dim[3].c;
  Dim none = dim_const(0);
  p->outer[p->n_outer++] = (Axis){n->type.dim[0], dim_const(line), none};
  p->outer[p->n_outer++] = (Axis){n->type.dim[1], dim_const(c), none};
  p->outer_inside = true;
  p->rows = x->dim[3];
  p->row_step = dim_const(1);
  p->cols = dy->dim[3];
  p->col_step = dim_const(1);
  p->k[p->n_k++] = (Axis){dy->dim[0], dim_const(x->dim[1].c * line), dim_const(dy->dim[1].c * dy->dim[2].c * o)};
  p->k[p->n_k++] = (Axis){dy->dim[1], dim_const(stride * line), dim_const(dy->dim[2].c * o)};
  p->k[p->n_k++] = (Axis){dy->dim[2], dim_const(stride * c), dim_const(o)};
}

void contract_describe(Product *p, Node *n) {
  *p = (Product){.node = n};
  if (n->op == OP_MATMUL) describe_matmul(p, n);
  else if (n->op == OP_CONV2D) describe_conv2d(p, n);
  else describe_conv2d_grad_w(p, n);
}

int64_t contract_k_elems(const Product *p) {
  int64_t n = 1;
  for (int i = 0; i < p->n_k; i++) {
    if (!dim_is_const(p->k[i].size)) return -1;
    n *= p->k[i].size.c;
  }
  return n;
}

/* ---- results ---- */

bool contract_is_bare(const Group *g, const Product *p) { return g->n_out == 1 && g->out[0] == p->node; }

void contract_store(Lower *l, const Product *p, Ix *flat, KInst *mask, KInst *value) {
  l->mask = mask;
  lower_bind(l, p->node, lower_round(l, p->node, value));
  for (int i = 0; i < l->group->n_out; i++) {
    Node *out = l->group->out[i];
    Ix *idx[MAX_RANK];
    ix_unflatten(l, &out->type, flat, idx);
    lower_store(l, i, idx, lower_value(l, out, idx));
  }
  l->mask = NULL;
}

/* ---- the family ---- */

bool contract_takes_gpu(const Group *g, const Target *t) {
  return target_is_gpu(t) && (g->anchor->type.dtype == DTYPE_F32 || target_has_bf16_tiles(t));
}

bool lower_contract(Lower *l, const Params *params) {
  Product p;
  contract_describe(&p, l->group->anchor);
  p.buf_a = lower_operand(l, p.node->in[0]);
  p.buf_b = lower_operand(l, p.node->in[1]);
  if (params->kind == PARAMS_CONTRACT_GPU) return contract_gpu(l, &p, &params->contract_gpu);
  return contract_cpu(l, &p, &params->contract);
}
