/* Meaning of attention and its gradients, from extent_sees and the formulas alone.
 *
 * For a head: s = scale (q . k), p = exp(s - lse), y = sum p v.  With delta = y . dy:
 *   dv = sum over queries p dy;   ds = p scale (dy . v - delta);   dq = sum ds k;  dk = sum over queries ds q */
#include <math.h>

#include "ir/eval.h"
#include "runtime/base/extent.h"

typedef struct AttendEval {
  const AttendAttrs *a;
  Extent *extent;
  int64_t queries, keys, batch, heads, share;   /* share: heads that read one head of keys */
  const Tensor *mask;      /* [b?, keys], or NULL */
  int64_t *seen;      /* [keys]: raster indices of the keys that the current query sees, in raster order */
  int64_t n_seen;
  const double **k, **v;   /* [keys]: the pieces of those keys, for one sample and head */
} AttendEval;

static AttendEval attention_new(Eval *e, int64_t batch) {
  const AttendAttrs *a = &e->node->attrs.attend;
  AttendEval t = {.a = a, .batch = batch, .heads = a->heads, .extent = extent_new(e->arena, a)};
  t.share = a->heads / a->kv_heads;
  if (attend_mask(e->node)) t.mask = e->in[e->node->n_in - 1];
  t.queries = a->query_grid[0] * a->query_grid[1] * a->query_grid[2];
  t.keys = a->key_grid[0] * a->key_grid[1] * a->key_grid[2];
  t.seen = ARENA_ARRAY(e->arena, int64_t, t.keys);
  t.k = ARENA_ARRAY(e->arena, const double *, t.keys);
  t.v = ARENA_ARRAY(e->arena, const double *, t.keys);
  return t;
}

static void look(AttendEval *t, int64_t query, int64_t b) {
  int64_t q[3], k[3];
  grid_point(t->a->query_grid, query, q);
  t->n_seen = 0;
  for (int64_t i = 0; i < t->keys; i++) {
    if (t->mask && t->mask->data[b * t->keys + i] == 0) continue;
    grid_point(t->a->key_grid, i, k);
    if (extent_sees(t->extent, q, k)) t->seen[t->n_seen++] = i;
  }
}

/* The head-wide piece of token `token` of sample b in x [b?, tokens, heads * width]. */
static double *piece(const Tensor *x, int64_t tokens, int64_t heads, int64_t b, int64_t token, int64_t head) {
  int64_t width = x->dim[x->rank - 1];
  return x->data + (b * tokens + token) * width + head * (width / heads);
}

/* That piece of keys or values, for a head of the queries. */
static double *key_piece(const AttendEval *t, const Tensor *x, int64_t b, int64_t token, int64_t head) {
  return piece(x, t->keys, t->a->kv_heads, b, token, head / t->share);
}

static int64_t head_width(const Tensor *x, int64_t heads) { return x->dim[x->rank - 1] / heads; }

static double dot(const double *x, const double *y, int64_t n) {
  double lane[16] = {0};
  for (int64_t i = 0; i < n; i++) lane[i % 16] += x[i] * y[i];
  return lanes_tree(lane);
}

static double score(const AttendEval *t, const double *q, const double *k, int64_t width) {
  return dot(q, k, width) * t->a->scale;
}

/* Softmax-weighted sum of the n_seen values into y [v_width]; returns log sum exp.  Nothing seen: y stays 0, -inf. */
static double attend_one(const AttendEval *t, const double *q, int64_t width, int64_t v_width, double *y) {
  double m = -INFINITY, l = 0;
  for (int64_t i = 0; i < t->n_seen; i++) m = fmax(m, score(t, q, t->k[i], width));
  for (int64_t i = 0; i < t->n_seen; i++) {
    double p = exp(score(t, q, t->k[i], width) - m);
    l += p;
    for (int64_t j = 0; j < v_width; j++) y[j] += p * t->v[i][j];
  }
  for (int64_t j = 0; t->n_seen > 0 && j < v_width; j++) y[j] /= l;
  return m + log(l); /* -inf where nothing is seen */
}

static int64_t batch_of(const Tensor *x) { return x->rank == 5 ? x->dim[0] : 1; }

/* Calls body for every query, sample and head, after looking from the query. */
typedef void (*PerHead)(Eval *e, AttendEval *t, int64_t query, int64_t b, int64_t head);

static bool for_each_head(Eval *e, PerHead body) {
  AttendEval t = attention_new(e, batch_of(e->in[0]));
  for (int64_t query = 0; query < t.queries; query++)
    for (int64_t b = 0; b < t.batch; b++) {
      if (b == 0 || t.mask) look(&t, query, b);
      for (int64_t head = 0; head < t.heads; head++) body(e, &t, query, b, head);
    }
  return true;
}

/* ---- forward ---- */

static void forward(Eval *e, AttendEval *t, int64_t query, int64_t b, int64_t head) {
  for (int64_t i = 0; i < t->n_seen; i++) {
    t->k[i] = key_piece(t, e->in[1], b, t->seen[i], head);
    t->v[i] = key_piece(t, e->in[2], b, t->seen[i], head);
  }
  attend_one(t, piece(e->in[0], t->queries, t->heads, b, query, head), head_width(e->in[0], t->heads),
             head_width(e->in[2], t->a->kv_heads), piece(e->out, t->queries, t->heads, b, query, head));
}

static void forward_lse(Eval *e, AttendEval *t, int64_t query, int64_t b, int64_t head) {
  for (int64_t i = 0; i < t->n_seen; i++) t->k[i] = key_piece(t, e->in[1], b, t->seen[i], head);
  *piece(e->out, t->queries, t->heads, b, query, head) = attend_one(
      t, piece(e->in[0], t->queries, t->heads, b, query, head), head_width(e->in[0], t->heads), 0, NULL);
}

bool eval_attend(Eval *e) { return for_each_head(e, forward); }
bool eval_attend_lse(Eval *e) { return for_each_head(e, forward_lse); }

/* ---- rows: (q [R, d], rows [R, 2], k, v [B, s, h, w, d]), or rings k, v [slots, B, d] and slot [S*H*W] ---- */

static bool in_rings(const Eval *e) { return e->node->n_in - (attend_mask(e->node) != NULL) == 5; }

/* Where the key at a position is found in operand 2 or 3, as a token of [b, positions] or [slots, b]. */
static int64_t row_token(Eval *e, const AttendEval *t, int64_t sample, int64_t position) {
  if (!in_rings(e)) return sample * t->keys + position;
  return (int64_t)e->in[4]->data[position] * e->in[2]->dim[1] + sample;
}

static bool check_slots(Eval *e, const AttendEval *t, int64_t row) {
  for (int64_t i = 0; in_rings(e) && i < t->n_seen; i++) {
    double slot = e->in[4]->data[t->seen[i]];
    if (slot < 0 || slot >= (double)e->in[2]->dim[0])
      return error_set(e->err, ERROR_ARGUMENT,
                       "attend_rows: row %lld sees position %lld, which is in slot %g of %lld", (long long)row,
                       (long long)t->seen[i], slot, (long long)e->in[2]->dim[0]);
  }
  return true;
}

bool eval_attend_rows(Eval *e) {
  AttendEval t = attention_new(e, e->in[2]->dim[in_rings(e) ? 1 : 0]);
  for (int64_t row = 0; row < e->out->dim[0]; row++) {
    double sample = e->in[1]->data[2 * row], position = e->in[1]->data[2 * row + 1];
    if (sample < 0 || sample >= (double)t.batch || position < 0 || position >= (double)t.queries)
      return error_set(e->err, ERROR_ARGUMENT,
                       "attend_rows: row %lld is position %g of sample %g: there are %lld of %lld", (long long)row,
                       position, sample, (long long)t.queries, (long long)t.batch);
    look(&t, (int64_t)position, (int64_t)sample);
    if (!check_slots(e, &t, row)) return false;
    for (int64_t head = 0; head < t.heads; head++) {
      for (int64_t i = 0; i < t.n_seen; i++) {
        int64_t token = row_token(e, &t, (int64_t)sample, t.seen[i]);
        t.k[i] = key_piece(&t, e->in[2], 0, token, head);
        t.v[i] = key_piece(&t, e->in[3], 0, token, head);
      }
      attend_one(&t, piece(e->in[0], 0, t.heads, 0, row, head), head_width(e->in[0], t.heads),
                 head_width(e->in[3], t.a->kv_heads), piece(e->out, 0, t.heads, 0, row, head));
    }
  }
  return true;
}

/* ---- gradients; operands (q, k, v, dy, lse, delta) ---- */

typedef struct QueryKey {
  const double *q, *k;
  double p, ds;
  int64_t width;
} QueryKey;

/* What query and key have to do with each other.  Keys are visited in the order of queries, so sums over queries have
 * the order in which a gathering kernel makes them. */
static QueryKey pair_of(Eval *e, const AttendEval *t, int64_t query, int64_t key, int64_t b, int64_t head) {
  QueryKey x = {.width = head_width(e->in[0], t->heads)};
  x.q = piece(e->in[0], t->queries, t->heads, b, query, head);
  x.k = key_piece(t, e->in[1], b, key, head);
  bool has_v = e->node->op != OP_ATTEND_GRAD_V;
  double lse = *piece(e->in[has_v ? 4 : 3], t->queries, t->heads, b, query, head);
  x.p = exp(score(t, x.q, x.k, x.width) - lse);
  if (!has_v) return x;
  const double *v = key_piece(t, e->in[2], b, key, head);
  const double *dy = piece(e->in[3], t->queries, t->heads, b, query, head);
  double delta = *piece(e->in[5], t->queries, t->heads, b, query, head);
  x.ds = x.p * (dot(dy, v, head_width(e->in[2], t->a->kv_heads)) - delta) * t->a->scale;
  return x;
}

static void grad_q(Eval *e, AttendEval *t, int64_t query, int64_t b, int64_t head) {
  double *dq = piece(e->out, t->queries, t->heads, b, query, head);
  for (int64_t i = 0; i < t->n_seen; i++) {
    QueryKey x = pair_of(e, t, query, t->seen[i], b, head);
    for (int64_t j = 0; j < x.width; j++) dq[j] += x.ds * x.k[j];
  }
}

static void grad_k(Eval *e, AttendEval *t, int64_t query, int64_t b, int64_t head) {
  for (int64_t i = 0; i < t->n_seen; i++) {
    QueryKey x = pair_of(e, t, query, t->seen[i], b, head);
    double *dk = piece(e->out, t->keys, t->heads, b, t->seen[i], head);
    for (int64_t j = 0; j < x.width; j++) dk[j] += x.ds * x.q[j];
  }
}

static void grad_v(Eval *e, AttendEval *t, int64_t query, int64_t b, int64_t head) {
  const double *dy = piece(e->in[2], t->queries, t->heads, b, query, head);
  int64_t v_width = head_width(e->in[2], t->heads);
  for (int64_t i = 0; i < t->n_seen; i++) {
    QueryKey x = pair_of(e, t, query, t->seen[i], b, head);
    double *dv = piece(e->out, t->keys, t->heads, b, t->seen[i], head);
    for (int64_t j = 0; j < v_width; j++) dv[j] += x.p * dy[j];
  }
}

bool eval_attend_grad_q(Eval *e) { return for_each_head(e, grad_q); }
bool eval_attend_grad_k(Eval *e) { return for_each_head(e, grad_k); }
bool eval_attend_grad_v(Eval *e) { return for_each_head(e, grad_v); }
