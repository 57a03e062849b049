/* See weights_file.h. */
#include "synth/weights_file.h"

#include <string.h>

#include "runtime/base/sha256.h"

const char *weights_file_shipped(Arena *a, const SynthTarget *t, const char *name) {
  return models_find(a, t, arena_printf(a, "weights/%s.safetensors", name));
}

bool weights_file_digest(const char *path, char out[65], Error *err) {
  FileMap map;
  uint8_t digest[32];
  if (!file_map(path, &map, err)) return false;
  sha256(map.data, map.len, digest);
  file_unmap(&map);
  sha256_hex(digest, out);
  return true;
}

/* ---- reading ---- */

static bool is_defined(const ModelSpec *m, const char *name) {
  for (int i = 0; i < m->n_define; i++)
    if (strcmp(m->define[i].name, name) == 0) return true;
  return false;
}

void models_define(Arena *a, ModelSpec *m, const char *name, const char *value) {
  Define *grown = ARENA_ARRAY(a, Define, m->n_define + 1);
  int n = 0;
  for (int i = 0; i < m->n_define; i++)
    if (strcmp(m->define[i].name, name) != 0) grown[n++] = m->define[i];
  grown[n++] = (Define){arena_strdup(a, name), arena_strdup(a, value)};
  m->define = grown;
  m->n_define = n;
}

bool weights_file_complete(Arena *a, const SynthTarget *t, ModelSpec *m, const Safetensors *w, Error *err) {
  const char *model = safetensors_metadata(w, WEIGHTS_MODEL), *options = safetensors_metadata(w, WEIGHTS_OPTIONS);
  if (!m->path) {
    if (!model)
      return error_set(err, ERROR_ARGUMENT, "the weights do not say which model they are for; name its file");
    m->path = models_find(a, t, model);
  }
  for (const char *line = options ? options : ""; *line;) {
    size_t n = strcspn(line, "\n"), eq = strcspn(line, "=");
    const char *name = arena_printf(a, "%.*s", (int)eq, line);
    if (eq < n && !is_defined(m, name))
      models_define(a, m, name, arena_printf(a, "%.*s", (int)(n - eq - 1), line + eq + 1));
    line += n + (line[n] == '\n');
  }
  return true;
}

/* ---- writing ---- */

int weights_file_describe(Arena *a, const Model *m, const char *merges, const char *recipe,
                          MetadataEntry out[WEIGHTS_META]) {
  Buffer options = {0};
  for (int i = 0; i < m->options.n; i++) {
    buffer_printf(&options, "%s=", m->options.option[i].name);
    value_print(&m->options.option[i].value, &options);
    buffer_printf(&options, "\n");
  }
  const char *slash = strrchr(m->path, '/');
  int n = 0;
  out[n++] = (MetadataEntry){WEIGHTS_FORMAT, "nuwa-weights"};
  if (recipe) out[n++] = (MetadataEntry){WEIGHTS_RECIPE, recipe};
  out[n++] = (MetadataEntry){WEIGHTS_MODEL, arena_strdup(a, slash ? slash + 1 : m->path)};
  out[n++] = (MetadataEntry){WEIGHTS_OPTIONS, arena_take_buffer(a, &options)};
  if (merges) out[n++] = (MetadataEntry){WEIGHTS_BPE, merges};
  return n;
}
