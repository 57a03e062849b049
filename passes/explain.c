/* What fuse and memplan decided, and what every attention sees, as text for people. */
#include <math.h>
#include <string.h>

#include "passes/family.h"
#include "passes/passes.h"

/* ---- cost ---- */

static bool is_leaf(const Node *n) { return op_info[n->op].class == CLASS_LEAF; }

/* Elements of a type; where the product is not affine (B*B), with one B taken as 1. */
static Dim elems_of(const Type *t) {
  Dim all = dim_const(1);
  for (int i = 0; i < t->rank; i++) {
    Dim d = t->dim[i];
    if (dim_is_const(d)) all = dim_scale(all, d.c);
    else all = dim_is_const(all) ? dim_scale(d, all.c) : dim_scale(all, d.b + d.r + d.c);
  }
  return all;
}

static Dim bytes_of(const Type *t) { return dim_scale(elems_of(t), (int64_t)dtype_bytes(t->dtype)); }

/* Queries x keys that see each other, over the whole grid (of one sample); *out_max: the most that one query sees. */
static int64_t visible_pairs(Arena *a, const AttendAttrs *attrs, int64_t *out_max) {
  const Extent *e = extent_new(a, attrs);
  const int64_t *G = attrs->query_grid;
  int64_t pairs = 0, q[3];
  *out_max = extent_max_keys(e);
  for (q[0] = 0; q[0] < G[0]; q[0]++)
    for (q[1] = 0; q[1] < G[1]; q[1]++)
      for (q[2] = 0; q[2] < G[2]; q[2]++) pairs += extent_count(e, q);
  return pairs;
}

/* Passes over the pairs, each a multiply-add per element of a head: scores, and values or gradients. */
static int attend_products(Op op) {
  static const uint8_t products[OP_COUNT] = {[OP_ATTEND] = 2,        [OP_ATTEND_LSE] = 1,    [OP_ATTEND_GRAD_Q] = 3,
                                             [OP_ATTEND_GRAD_K] = 3, [OP_ATTEND_GRAD_V] = 2, [OP_ATTEND_ROWS] = 2};
  BUG_IF(!products[op], "%s: its products are not known", op_info[op].text);
  return products[op];
}

static int64_t attend_pairs(Arena *a, const Node *n, bool one_query) {
  int64_t most, pairs = visible_pairs(a, &n->attrs.attend, &most);
  return one_query ? most : pairs;
}

static Dim attend_flops(Arena *a, const Node *n) {
  const Type *q = &n->in[0]->type;
  int64_t width = q->dim[q->rank - 1].c;
  bool rows = n->op == OP_ATTEND_ROWS;
  Dim samples = rows ? q->dim[0] : q->rank == 5 ? q->dim[0] : dim_const(1);
  return dim_scale(samples, 2 * attend_products(n->op) * width * attend_pairs(a, n, rows));
}

static Dim product_flops(const Node *n) {
  const Type *x = &n->in[0]->type, *y = &n->in[1]->type;
  Dim out = elems_of(&n->type);
  if (n->op == OP_MATMUL) {
    Dim k = x->dim[x->rank - (n->attrs.matmul.trans_a ? 2 : 1)];
    return dim_is_const(k) ? dim_scale(out, 2 * k.c) : dim_scale(k, 2 * (out.c + out.b + out.r));
  }
  if (n->op == OP_CONV2D) return dim_scale(out, 2 * y->dim[0].c * y->dim[1].c * y->dim[2].c);
  Dim places = elems_of(y);
  return dim_scale(places, 2 * n->attrs.conv.kh * n->attrs.conv.kw * x->dim[3].c);
}

static Dim node_flops(Arena *a, const Node *n) {
  switch (op_info[n->op].class) {
    case CLASS_MAP:
      if (op_info[n->op].work < WORK_MOVE) return dim_const(0);
      return dim_scale(elems_of(&n->type), n->op == OP_FMA ? 2 : 1);
    case CLASS_REDUCE: return elems_of(&n->in[0]->type);
    case CLASS_SCATTER: return n->op == OP_SCATTER_ADD ? elems_of(&n->in[1]->type) : dim_const(0);
    case CLASS_CONTRACT: return product_flops(n);
    case CLASS_ATTEND: return attend_flops(a, n);
    case CLASS_LEAF: case CLASS_MOVE: case CLASS_GRADIENT: case CLASS_COMPOSITE: break;
  }
  return dim_const(0);
}

GroupCost program_cost(Arena *a, const Group *g) {
  GroupCost c = {{0}};
  for (int i = 0; i < g->n_in; i++) c.bytes_read = dim_add(c.bytes_read, bytes_of(&g->in[i]->type));
  for (int i = 0; i < g->n_out; i++) c.bytes_written = dim_add(c.bytes_written, bytes_of(&g->out[i]->type));
  for (int i = 0; i < g->n_node; i++) c.flops = dim_add(c.flops, node_flops(a, g->node[i]));
  return c;
}

/* ---- text ---- */

static void print_dim(Buffer *out, Dim d) {
  const char *plus = "";
  if (d.b) buffer_printf(out, "%lldB", (long long)d.b), plus = "+";
  if (d.r) buffer_printf(out, "%s%lldR", plus, (long long)d.r), plus = "+";
  if (d.c || !*plus) buffer_printf(out, "%s%lld", d.c < 0 ? "" : plus, (long long)d.c);
}

const char *program_family_name(Family f) {
  static const char *const name[] = {"map", "reduce", "scatter", "contract", "attend"};
  return name[f];
}

static void print_node(Buffer *out, const Node *n) {
  char type[200];
  type_print(&n->type, type, sizeof type);
  if (is_leaf(n)) buffer_printf(out, "%s %s", n->attrs.leaf.name, type);
  else buffer_printf(out, "%s %s", op_info[n->op].text, type);
}

static void print_list(Buffer *out, const char *title, Node *const *node, int n) {
  if (!n) return;
  buffer_printf(out, "    %s:", title);
  for (int i = 0; i < n; i++) {
    buffer_printf(out, i ? ", " : " ");
    print_node(out, node[i]);
  }
  buffer_printf(out, "\n");
}

static void print_members(Buffer *out, const Group *g) {
  buffer_printf(out, "    members:");
  for (int i = 0; i < g->n_node; i++) buffer_printf(out, " %s", op_info[g->node[i]->op].text);
  buffer_printf(out, "\n");
}

static void print_loc(Buffer *out, const Node *n) {
  if (n->loc && n->loc->file) buffer_printf(out, " (%s:%d)", n->loc->file, n->loc->line);
}

static Dim total_bytes(GroupCost c) { return dim_add(c.bytes_read, c.bytes_written); }

/* What the group would move if each arithmetic member were a kernel of its own. */
static Dim unfused_bytes(const Group *g) {
  Dim all = {0};
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    if (op_info[n->op].class == CLASS_MOVE || n->op == OP_FILL || n->op == OP_IOTA || n->op == OP_DETACH) continue;
    all = dim_add(all, bytes_of(&n->type));
    for (int k = 0; k < n->n_in; k++) all = dim_add(all, bytes_of(&n->in[k]->type));
  }
  return all;
}

static void explain_group(Arena *a, const Group *g, int k, Buffer *out) {
  GroupCost cost = program_cost(a, g);
  buffer_printf(out, "  group %d: %s", k, program_family_name(g->family));
  print_loc(out, g->anchor);
  buffer_printf(out, "\n");
  print_members(out, g);
  print_list(out, "reads", g->in, g->n_in);
  print_list(out, "writes", g->out, g->n_out);
  buffer_printf(out, "    cost: ");
  print_dim(out, total_bytes(cost));
  buffer_printf(out, " bytes (node by node: ");
  print_dim(out, unfused_bytes(g));
  buffer_printf(out, "), ");
  print_dim(out, cost.flops);
  buffer_printf(out, " operations\n    ends: %s\n", g->why);
}

static void explain_memory(const MemPlan *m, Buffer *out) {
  buffer_printf(out,
                "  memory: %lld bytes + %lld a sample + %lld a row; %lld values in place of another; %d copies\n",
                (long long)m->part_bytes[PART_CONST], (long long)m->part_bytes[PART_B],
                (long long)m->part_bytes[PART_R], (long long)m->in_place, m->n_copy);
  for (int i = 0; i < m->n_copy; i++) {
    buffer_printf(out, "    copy: ");
    print_node(out, m->copy[i].from);
    if (m->copy[i].to) buffer_printf(out, " to %s\n", m->copy[i].to->attrs.leaf.name);
    else buffer_printf(out, " to output %d\n", m->copy[i].output);
  }
}

void program_explain(const Program *p, const MemPlan *m, Buffer *out) {
  buffer_printf(out, "function %s: %d kernels\n", p->func->name, p->n_group);
  for (int k = 0; k < p->n_group; k++) explain_group(p->func->graph->arena, &p->group[k], k, out);
  if (m) explain_memory(m, out);
}

/* ---- extents ---- */

static void print_box(Buffer *out, const AttendAttrs *a) {
  for (int x = 0; x < 3; x++) {
    buffer_printf(out, " %c", "shw"[x]);
    if (a->kind == ATTEND_BLOCK) {
      buffer_printf(out, " block %lld", (long long)a->block[x]);
      continue;
    }
    if (a->lo[x] <= -EXTENT_INF) buffer_printf(out, " [-inf");
    else buffer_printf(out, " [%lld", (long long)a->lo[x]);
    if (a->hi[x] >= EXTENT_INF) buffer_printf(out, ",inf]");
    else buffer_printf(out, ",%lld]", (long long)a->hi[x]);
  }
}

/* What is not usual about an attention. */
static void print_options(Buffer *out, const Node *n) {
  const AttendAttrs *t = &n->attrs.attend;
  const Type *q = &n->in[0]->type;
  if (t->kv_heads != t->heads)
    buffer_printf(out, "  heads of keys and values: %lld, each read by %lld\n", (long long)t->kv_heads,
                  (long long)(t->heads / t->kv_heads));
  if (t->scale != 1 / sqrt((double)(q->dim[q->rank - 1].c / t->heads)))
    buffer_printf(out, "  scale of scores: %g\n", t->scale);
  if (attend_mask(n)) buffer_printf(out, "  mask: leaves out keys that are counted here\n");
}

/* Bytes with every operand read once, and how often each key is read from caches because several queries see it. */
static void explain_attention(Arena *a, const Node *n, Buffer *out) {
  static const char *const kind[] = {"full", "axis", "nearby", "block"}, *const edge[] = {"clip", "shift"},
                    *const causal[] = {"none", "raster", "past"};
  const AttendAttrs *t = &n->attrs.attend;
  const int64_t *G = t->query_grid, *K = t->key_grid;
  int64_t most, pairs = visible_pairs(a, t, &most), queries = G[0] * G[1] * G[2], keys = K[0] * K[1] * K[2];
  buffer_printf(out, "%s", op_info[n->op].text);
  print_loc(out, n);
  buffer_printf(out, ": %s, edge %s, causal %s, %lld heads, queries %lldx%lldx%lld, keys %lldx%lldx%lld\n",
                kind[t->kind], edge[t->edge], causal[t->causal], (long long)t->heads, (long long)G[0],
                (long long)G[1], (long long)G[2], (long long)K[0], (long long)K[1], (long long)K[2]);
  print_options(out, n);
  buffer_printf(out, "  key box:");
  print_box(out, t);
  buffer_printf(out, "\n  keys a query: at most %lld, %.1f on average of %lld\n", (long long)most,
                queries ? (double)pairs / (double)queries : 0.0, (long long)keys);
  buffer_printf(out, "  reuse: each key is read by %.1f queries\n", keys ? (double)pairs / (double)keys : 0.0);
  Dim bytes = bytes_of(&n->type);
  for (int i = 0; i < n->n_in; i++) bytes = dim_add(bytes, bytes_of(&n->in[i]->type));
  buffer_printf(out, "  bytes: ");
  print_dim(out, bytes);
  buffer_printf(out, "\n  operations: ");
  print_dim(out, attend_flops(a, n));
  buffer_printf(out, "\n");
  if (memcmp(G, K, sizeof t->query_grid) == 0) {
    int64_t(*offset)[3];
    buffer_printf(out, "  dependence offsets: %d\n", extent_offsets(a, extent_new(a, t), &offset));
  }
}

void extents_explain(const Func *f, Buffer *out) {
  int n;
  Node **nodes = func_nodes(f, &n);
  for (int i = 0; i < n; i++) {
    if (op_info[nodes[i]->op].class == CLASS_ATTEND) explain_attention(f->graph->arena, nodes[i], out);
  }
}
