/* From a group to a kernel: picks the family's template, and the parameters it gets unless a tuner has better ones.
 */
#include "codegen/lower/lower.h"

#include <stdlib.h>
#include <string.h>

Kernel *lower_group(Arena *a, const Group *g, const KernelParams *p, const char *name, Error *err) {
  static bool (*const family[])(Lower *, const KernelParams *) = {
      [FAMILY_MAP] = lower_map,           [FAMILY_REDUCE] = lower_reduce, [FAMILY_SCATTER] = lower_scatter,
      [FAMILY_CONTRACT] = lower_contract, [FAMILY_ATTEND] = lower_attend,
  };
  Lower *l = lower_begin(a, g, name, err);
  if (!l || !family[g->family](l, p) || l->failed) return NULL;
  return kir_verify(l->k, err) ? l->k : NULL;
}

/* ---- parameters ---- */

static bool is_costly(Op op) {
  return op == OP_EXP || op == OP_LOG || op == OP_TANH || op == OP_ERF || op == OP_SIN || op == OP_COS ||
         op == OP_DIV || op == OP_SQRT;
}

/* Vectors of a row, or elements of a column, that a lane of a GPU has under way: fewer where each costs much code. */
static int reduce_unroll(const Group *g, int costly) {
  int n = 96 / (g->n_node + 8 * costly);
  return n < 2 ? 2 : n > 16 ? 16 : n;
}

KernelParams params_default(const Group *g, const Target *t) {
  KernelParams p = {.tile_m = 1, .tile_n = 1, .tile_k = 1, .block_m = 1, .block_n = 1, .pack_b = false, .unroll = 4};
  int costly = 0;
  /* The polynomial of erf fills the registers by itself: two at once spill its constants. */
  for (int i = 0; i < g->n_node; i++) costly += is_costly(g->node[i]->op) + (g->node[i]->op == OP_ERF);
  if (costly > 1 || g->n_node > 24)
    p.unroll = 1;
  else if (costly || g->n_node > 8)
    p.unroll = 2;
  if (g->family == FAMILY_CONTRACT) contract_params(g, t, &p);
  else if (g->family == FAMILY_ATTEND) attend_params(t, &p);
  else p.stages = t->capability > 0;
  if (g->family == FAMILY_REDUCE && t->capability) p.unroll = reduce_unroll(g, costly);
  return p;
}

typedef struct ParamField {
  const char *name;
  size_t at;
  bool is_flag;
  int min, max;
} ParamField;

static const ParamField param_fields[] = {
    {"tile_m", offsetof(KernelParams, tile_m), false, 1, 64},
    {"tile_n", offsetof(KernelParams, tile_n), false, 1, 16},
    {"tile_k", offsetof(KernelParams, tile_k), false, 1, 65536},
    {"block_m", offsetof(KernelParams, block_m), false, 1, 4096},
    {"block_n", offsetof(KernelParams, block_n), false, 1, 64},
    {"stages", offsetof(KernelParams, stages), false, 0, 8},
    {"swap", offsetof(KernelParams, swap), true, 0, 1},
    {"pack_b", offsetof(KernelParams, pack_b), true, 0, 1},
    {"unroll", offsetof(KernelParams, unroll), false, 1, 64},
};

void params_print(const KernelParams *p, Buffer *out) {
  for (int i = 0; i < COUNT_OF(param_fields); i++) {
    const ParamField *f = &param_fields[i];
    const void *at = (const char *)p + f->at;
    buffer_printf(out, "%s%s=%d", i ? " " : "", f->name, f->is_flag ? *(const bool *)at : *(const int *)at);
  }
}

/* One "name=value" of n characters. */
static bool param_set(KernelParams *p, const char *text, int n, unsigned *seen, Error *err) {
  for (int i = 0; i < COUNT_OF(param_fields); i++) {
    const ParamField *f = &param_fields[i];
    int len = (int)strlen(f->name);
    if (n <= len || strncmp(text, f->name, (size_t)len) || text[len] != '=') continue;
    char *end;
    long v = strtol(text + len + 1, &end, 10);
    if (end != text + n || end == text + len + 1 || v < f->min || v > f->max)
      return error_set(err, ERROR_ARGUMENT, "parameter \"%.*s\": %s goes from %d to %d", n, text, f->name, f->min,
                       f->max);
    if (*seen >> i & 1) return error_set(err, ERROR_ARGUMENT, "parameter %s is given twice", f->name);
    *seen |= 1u << i;
    void *at = (char *)p + f->at;
    if (f->is_flag)
      *(bool *)at = v != 0;
    else
      *(int *)at = (int)v;
    return true;
  }
  return error_set(err, ERROR_ARGUMENT, "unknown parameter \"%.*s\"", n, text);
}

bool params_parse(const char *text, KernelParams *out, Error *err) {
  KernelParams p = {0};
  unsigned seen = 0;
  while (*(text += strspn(text, " "))) {
    int n = (int)strcspn(text, " ");
    if (!param_set(&p, text, n, &seen, err)) return false;
    text += n;
  }
  for (int i = 0; i < COUNT_OF(param_fields); i++)
    if (!(seen >> i & 1)) return error_set(err, ERROR_ARGUMENT, "parameter %s is missing", param_fields[i].name);
  *out = p;
  return true;
}
