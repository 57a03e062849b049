/* See opened.h. */
#include "synth/opened.h"

#include "runtime/base/sha256.h"
#include "runtime/bundle.h"
#include "synth/weights_file.h"

static const BundlePart *embedded(const OpenedFrom *from, const char *part) {
  return from->bundle ? bundle_find(from->bundle, NUWA_PART_WEIGHTS, part) : NULL;
}

bool opened_is_embedded(const OpenedFrom *from, const char *part) { return embedded(from, part) != NULL; }

bool opened_weights(Opened *o, const OpenedFrom *from, const char *part, const char *path, Error *err) {
  const BundlePart *p = embedded(from, part);
  o->path = path;
  o->where = path ? path : from->bundle_path;
  if (path) {
    if (!weights_file_digest(path, o->digest, err)) return false;
    o->weights = weights_file_open(from->target, path, err);
  } else if ((o->weights = nuwa_bundle_weights(from->bundle, part, err))) {
    const char *of_file = safetensors_metadata(o->weights, WEIGHTS_DIGEST);
    if (of_file) snprintf(o->digest, sizeof o->digest, "%s", of_file);
    else sha256_hex(bundle_digest(from->bundle, p), o->digest);
  }
  const char *codes = o->weights ? safetensors_metadata(o->weights, WEIGHTS_CODES) : NULL;
  snprintf(o->codes, sizeof o->codes, "%s", codes ? codes : o->digest);
  return o->weights && weights_file_check_finite(o->weights, o->where, err);
}

bool opened_plan(Opened *o, const OpenedFrom *from, const char *part, ModelSpec *m, bool takes_bundle,
                 const char *const *function, int n, Error *err) {
  const Plan *p = from->bundle && takes_bundle ? nuwa_bundle_plan(from->bundle, part) : NULL;
  if (p) return nuwa_check_weights(o->plan = p, o->weights, false, err);
  if (!weights_file_complete(from->arena, from->target, m, o->weights, o->where, err)) return false;
  return (o->plan = o->owned = models_open_plan(from->target, m, function, n, o->weights, err)) != NULL;
}

void opened_close(Opened *o) {
  plan_free(o->owned);
  if (o->weights) safetensors_close(o->weights);
  *o = (Opened){0};
}
