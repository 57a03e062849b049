/* From a group to a kernel by its family's template. */
#include "codegen/lower/lower.h"

Kernel *lower_group(Arena *a, const Group *g, const Target *t, const Params *p, const char *name, Error *err) {
  static bool (*const family[])(Lower *, const Params *) = {
      [FAMILY_MAP] = lower_map,           [FAMILY_REDUCE] = lower_reduce, [FAMILY_SCATTER] = lower_scatter,
      [FAMILY_CONTRACT] = lower_contract, [FAMILY_ATTEND] = lower_attend,
  };
  if (!params_is_legal(g, t, p, err)) return NULL;
  Lower *l = lower_begin(a, g, t, name, err);
  if (!l || !family[g->family](l, p) || l->failed) return NULL;
  return kir_verify(l->k, err) ? l->k : NULL;
}
