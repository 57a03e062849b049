/* Attention forward and backward, alone.  Counted are the operations of an algorithm that keeps all weights: two
 * products of pairs x width forward, five backward; the kernels compute the scores again and so do eight. */
#include "bench/bench.h"

#define EVERYWHERE "[-inf,-inf,-inf]", "[inf,inf,inf]"
#define VIDEO 1, 20, 1280, {10, 21, 21}, {10, 21, 21}
#define CODES 64, 6, 192, {1, 8, 8}, {1, 8, 8}
#define WORDS 64, 6, 192, {1, 8, 8}, {16, 1, 1}

static const AttendCase cases[] = {
    {"attend.video.nearby", "nearby 3x3x3", "nearby", VIDEO, "[-1,-1,-1]", "[1,1,1]", "none"},
    {"attend.video.causal", "nearby 3x3x3, causal", "nearby", VIDEO, "[-1,-1,-1]", "[1,1,1]", "raster"},
    {"attend.video.axis", "axis", "axis", VIDEO, EVERYWHERE, "none"},
    {"attend.video.full", "full", "full", VIDEO, EVERYWHERE, "none"},
    {"attend.codes.nearby", "nearby 3x3, causal", "nearby", CODES, "[-1,-1,-1]", "[1,1,1]", "raster"},
    {"attend.codes.axis", "axis, causal", "axis", CODES, EVERYWHERE, "raster"},
    {"attend.codes.full", "full, causal", "full", CODES, EVERYWHERE, "raster"},
    {"attend.words.full", "from codes to 16 words", "full", WORDS, EVERYWHERE, "none"},
};

typedef struct AttendText {
  char query[64], key[64], heads[64], attrs[320];
} AttendText;

/* Statistics (heads) are f32 in every precision. */
static AttendText text_of(const AttendCase *c, DType precision) {
  AttendText t;
  const int64_t *q = c->query, *k = c->key;
  const char *type = dtype_name(precision);
  snprintf(t.query, sizeof t.query, "%s[B,%d,%d,%d,%d]", type, (int)q[0], (int)q[1], (int)q[2], (int)c->width);
  snprintf(t.key, sizeof t.key, "%s[B,%d,%d,%d,%d]", type, (int)k[0], (int)k[1], (int)k[2], (int)c->width);
  snprintf(t.heads, sizeof t.heads, "f32[B,%d,%d,%d,%d]", (int)q[0], (int)q[1], (int)q[2], (int)c->heads);
  snprintf(t.attrs, sizeof t.attrs,
           "{heads=%d, kind=%s, lo=%s, hi=%s, block=[0,0,0], edge=clip, causal=%s, query_grid=[%d,%d,%d], "
           "key_grid=[%d,%d,%d]}",
           (int)c->heads, c->kind, c->lo, c->hi, c->causal, (int)q[0], (int)q[1], (int)q[2], (int)k[0], (int)k[1],
           (int)k[2]);
  return t;
}

static void print_forward(const AttendText *t, Buffer *out) {
  buffer_printf(out,
                "func @f(%%q: %s, %%k: %s, %%v: %s) {\n  %%y = attend(%%q, %%k, %%v) %s : %s\n  return y = %%y\n}\n",
                t->query, t->key, t->key, t->attrs, t->query);
}

static void print_backward(const AttendText *t, Buffer *out) {
  buffer_printf(out, "func @f(%%q: %s, %%k: %s, %%v: %s, %%dy: %s, %%lse: %s, %%delta: %s) {\n", t->query, t->key,
                t->key, t->query, t->heads, t->heads);
  buffer_printf(out, "  %%dq = attend_grad_q(%%q, %%k, %%v, %%dy, %%lse, %%delta) %s : %s\n", t->attrs, t->query);
  buffer_printf(out, "  %%dk = attend_grad_k(%%q, %%k, %%v, %%dy, %%lse, %%delta) %s : %s\n", t->attrs, t->key);
  buffer_printf(
      out, "  %%dv = attend_grad_v(%%q, %%k, %%dy, %%lse) %s : %s\n  return dq = %%dq, dk = %%dk, dv = %%dv\n}\n",
      t->attrs, t->key);
}

static bool measure(Bench *b, const AttendCase *c, bool backward, Error *err) {
  AttendText t = text_of(c, b->o->precision);
  Buffer text = {0};
  (backward ? print_backward : print_forward)(&t, &text);
  if (text.failed) return error_set(err, ERROR_MEMORY, "out of memory");
  char id[64], what[96], size[96];
  snprintf(id, sizeof id, "%s.%s", c->id, backward ? "backward" : "forward");
  snprintf(what, sizeof what, "attention %s, %s", backward ? "backward" : "forward", c->what);
  snprintf(size, sizeof size, "%d x %dx%dx%d, %d heads x %d", (int)c->samples, (int)c->query[0], (int)c->query[1],
           (int)c->query[2], (int)c->heads, (int)(c->width / c->heads));
  const TextCase row = {id, what, size, text.data, c->samples, UNIT_FLOPS, backward ? 5.0 / 8.0 : 0.0};
  bool ok = bench_text(b, &row, err);
  buffer_done(&text);
  return ok;
}

bool bench_attention_cases(Bench *b, const AttendCase *c, int n, Error *err) {
  for (int i = 0; i < n; i++)
    if (!measure(b, &c[i], false, err) || !measure(b, &c[i], true, err)) return false;
  return true;
}

bool bench_attention(Bench *b, Error *err) { return bench_attention_cases(b, cases, COUNT_OF(cases), err); }
