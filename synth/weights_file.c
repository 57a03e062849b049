/* See weights_file.h. */
#include "synth/weights_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/convert.h"
#include "runtime/base/json.h"
#include "runtime/base/sha256.h"
#include "synth/tensors.h"

const char *weights_file_shipped(Arena *a, const SynthTarget *t, const char *name) {
  return models_find(a, t, arena_printf(a, "weights/%s.safetensors", name));
}

Safetensors *weights_file_open(const SynthTarget *t, const char *path, Error *err) {
  Safetensors *w = safetensors_open(path, err);
  for (int i = 0; w && i < t->n_ignore; i++) {
    int n = safetensors_ignore(w, t->ignore[i]);
    synth_say(t, "%s: %d tensors ignored by \"%s\"", path, n, t->ignore[i]);
  }
  return w;
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

/* ---- looking for a digest ---- */

/* Whether a file begins as safetensors do, with the bytes of a header that is an object.  Its name may be any. */
static bool looks_like_weights(const char *path) {
  uint8_t head[9];
  uint64_t n = 0;
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  bool is = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && read(fd, head, sizeof head) == sizeof head;
  for (int i = 0; is && i < 8; i++) n |= (uint64_t)head[i] << 8 * i;
  if (fd >= 0) close(fd);
  return is && head[8] == '{' && n <= (uint64_t)st.st_size - 8;
}

static bool has_codes_of(const char *path, const char *digest) {
  Error ignored;
  Safetensors *w = safetensors_open(path, &ignored);
  const char *codes = w ? safetensors_metadata(w, WEIGHTS_CODES) : NULL;
  bool has = codes && strcmp(codes, digest) == 0;
  safetensors_close(w);
  return has;
}

/* Of several files of those codes the first by name. */
static const char *find_in_folder(Arena *a, const char *folder, const char *digest) {
  DIR *dir = opendir(folder);
  const char *is = NULL, *like = NULL;
  for (struct dirent *e; dir && !is && (e = readdir(dir));) {
    char path[4096], have[65];
    Error ignored;
    if (snprintf(path, sizeof path, "%s/%s", folder, e->d_name) >= (int)sizeof path || !looks_like_weights(path)) continue;
    if (!weights_file_digest(path, have, &ignored)) continue;
    if (strcmp(have, digest) == 0) is = arena_strdup(a, path);
    else if ((!like || strcmp(path, like) < 0) && has_codes_of(path, digest)) like = arena_strdup(a, path);
  }
  if (dir) closedir(dir);
  return is ? is : like;
}

const char *weights_file_find(Arena *a, const SynthTarget *t, const char *digest, const char *beside) {
  const char *found = NULL;
  if (beside) {
    const char *slash = strrchr(beside, '/');
    const char *folder = slash ? arena_printf(a, "%.*s", (int)(slash - beside + (slash == beside)), beside) : ".";
    found = find_in_folder(a, folder, digest);
  }
  return found ? found : find_in_folder(a, models_find(a, t, "weights"), digest);
}

const char *weights_file_recipe_text(Arena *a, const Safetensors *w, RecipeField field) {
  const char *recipe = safetensors_metadata(w, META_RECIPE);
  JsonField *list;
  int n;
  Error ignored;
  if (!recipe || !json_read_object(a, recipe, &list, &n, &ignored)) return NULL;
  const JsonField *f = json_find(list, n, recipe_name(field));
  return f && f->is_text ? f->value : NULL;
}

/* ---- reading ---- */

static bool is_defined(const ModelSpec *m, const char *name) {
  for (int i = 0; i < m->n_define; i++)
    if (strcmp(m->define[i].name, name) == 0) return true;
  return false;
}

/* A name inside of a folder: neither from the root nor upwards. */
static bool stays_inside(const char *name) {
  if (*name == '/' || !*name) return false;
  for (const char *p = name; *p;) {
    size_t n = strcspn(p, "/");
    if (n == 2 && memcmp(p, "..", 2) == 0) return false;
    p += n + (p[n] == '/');
  }
  return true;
}

static bool find_model(Arena *a, const SynthTarget *t, ModelSpec *m, const Safetensors *w, const char *path,
                       Error *err) {
  const char *model = safetensors_metadata(w, WEIGHTS_MODEL), *source = safetensors_metadata(w, META_SOURCE);
  if (!model)
    return error_set(err, ERROR_ARGUMENT, "%s does not say which model it is for; name its file", path);
  if (!stays_inside(model))
    return error_set(err, ERROR_FORMAT,
                     "%s: its model \"%s\" lies outside of the models' folder; name the file to use", path, model);
  if (!source) {
    m->path = models_find(a, t, model);
    return true;
  }
  SourceMap *map = ARENA_NEW(a, SourceMap);
  if (!source_read(a, source, map, err)) return error_prefix(err, "%s", path);
  if (!source_find(map, model) || strchr(model, '/'))
    return error_set(err, ERROR_FORMAT, "%s: its source has no file \"%s\", which its model is", path, model);
  m->source = map;
  m->path = arena_printf(a, "%s/%s", path, model);
  return true;
}

bool weights_file_complete(Arena *a, const SynthTarget *t, ModelSpec *m, const Safetensors *w, const char *path,
                           Error *err) {
  const char *options = safetensors_metadata(w, META_OPTIONS);
  if (!m->path && !find_model(a, t, m, w, path, err)) return false;
  for (const char *line = options ? options : ""; *line;) {
    size_t n = strcspn(line, "\n"), eq = strcspn(line, "=");
    const char *name = arena_printf(a, "%.*s", (int)eq, line);
    if (eq < n && !is_defined(m, name))
      models_define(a, m, name, arena_printf(a, "%.*s", (int)(n - eq - 1), line + eq + 1));
    line += n + (line[n] == '\n');
  }
  return true;
}

/* The exponent's bits are all ones: 16 upper bits of an f32 are a bf16. */
static bool is_finite(DType t, const char *at) {
  uint16_t upper;
  memcpy(&upper, t == DTYPE_F32 ? at + 2 : at, sizeof upper);
  return (upper & 0x7f80) != 0x7f80;
}

bool weights_file_check_finite(const Safetensors *w, const char *path, Error *err) {
  for (int i = 0; i < safetensors_count(w); i++) {
    const TensorView *v = safetensors_get(w, i);
    if (v->dtype != DTYPE_F32 && v->dtype != DTYPE_BF16) continue;
    size_t step = dtype_bytes(v->dtype);
    for (size_t at = 0; at < v->bytes; at += step)
      if (!is_finite(v->dtype, (const char *)v->data + at))
        return error_set(err, ERROR_FORMAT,
                         "%s: \"%s\" holds NaN or an infinity (element %zu): nothing can be made with it", path,
                         v->name, at / step);
  }
  return true;
}

/* ---- parts ---- */

static bool write_part(NuwaSession *s, const PlanTensor *want, const TensorView *v, Error *err) {
  char have[200];
  int64_t bytes = 0;
  bool fits = v->rank == want->rank && convert_is_possible(v, want->dtype);
  for (int i = 0; fits && i < v->rank; i++) fits = dim_equal(want->dim[i], dim_const(v->dim[i]));
  tensors_print_shape(v, have, sizeof have);
  if (!fits) {
    char wanted[200];
    return error_set(err, ERROR_ARGUMENT, "\"%s\" is %s; \"%s\" is %s", v->name, have, want->name,
                     tensors_print_type(want, wanted, sizeof wanted));
  }
  BUG_IF(!plan_tensor_bytes(want, 0, 0, &bytes), "param \"%s\" has no size", want->name);
  void *values = mem_alloc((size_t)bytes + 1);
  bool ok = (values || error_set(err, ERROR_MEMORY, "out of memory for \"%s\"", want->name)) &&
            convert_tensor(v, want->dtype, values, err) && nuwa_write_param(s, want->name, values, err);
  mem_free(values);
  return ok;
}

static bool load_part(NuwaSession *s, const Plan *p, const char *prefix, const Safetensors *w, int *taken, Error *err) {
  size_t n = strlen(prefix);
  *taken = 0;
  for (int i = 0; i < p->n_param; i++) {
    const char *name = p->param[i].type.name;
    if (strncmp(name, prefix, n) != 0 || name[n] != '.') continue;
    const TensorView *v = safetensors_find(w, name + n + 1);
    if (!v) return error_set(err, ERROR_ARGUMENT, "holds no \"%s\", which \"%s\" is to begin with", name + n + 1, name);
    if (!write_part(s, &p->param[i].type, v, err)) return false;
    ++*taken;
  }
  return *taken || error_set(err, ERROR_ARGUMENT, "the model has no params \"%s.*\"", prefix);
}

bool weights_file_load_part(const SynthTarget *t, NuwaSession *s, const Plan *p, const char *prefix, const char *path,
                            Error *err) {
  int taken;
  Safetensors *w = weights_file_open(t, path, err);
  bool ok = w && weights_file_check_finite(w, path, err) &&
            (load_part(s, p, prefix, w, &taken, err) || error_prefix(err, "%s", path));
  if (ok && taken < safetensors_count(w))
    synth_say(t, "%s: %d of its %d tensors are no params \"%s.*\"", path, safetensors_count(w) - taken,
              safetensors_count(w), prefix);
  safetensors_close(w);
  return ok && (nuwa_prepare(s) || nuwa_check(s, err));
}

bool weights_file_is_like(const char *name, const char *const *pattern, int n) {
  int i = 0;
  while (i < n && fnmatch(pattern[i], name, 0) != 0) i++;
  return i < n;
}

static bool has_param_like(const Plan *p, const char *pattern) {
  int i = 0;
  while (i < p->n_param && !weights_file_is_like(p->param[i].type.name, &pattern, 1)) i++;
  return i < p->n_param;
}

bool weights_file_load_rest(const SynthTarget *t, NuwaSession *s, const Plan *p, const Safetensors *w,
                            const char *const *fresh, int n_fresh, Error *err) {
  int kept = 0;
  for (int k = 0; k < n_fresh; k++)
    if (!has_param_like(p, fresh[k]))
      return error_set(err, ERROR_ARGUMENT, "--fresh has no effect: no param has a name like \"%s\"", fresh[k]);
  for (int i = 0; i < p->n_param; i++) {
    const char *name = p->param[i].type.name;
    const TensorView *v = safetensors_find(w, name);
    if (weights_file_is_like(name, fresh, n_fresh)) kept++;
    else if (!v) return error_set(err, ERROR_ARGUMENT, "weights lack \"%s\", and no pattern of --fresh is like it", name);
    else if (!write_part(s, &p->param[i].type, v, err)) return false;
  }
  synth_say(t, "%d of %d params begin at initial values", kept, p->n_param);
  return nuwa_prepare(s) || nuwa_check(s, err);
}

/* ---- embedding ---- */

static TensorView view_of(const PlanTensor *t) {
  TensorView v = {.name = t->name, .dtype = t->dtype, .rank = t->rank};
  int64_t bytes;
  BUG_IF(!plan_tensor_bytes(t, 0, 0, &bytes), "param \"%s\" has no size", t->name);
  for (int i = 0; i < t->rank; i++) v.dim[i] = t->dim[i].c;
  v.bytes = (size_t)bytes;
  return v;
}

/* The params in the order in which they are written. */
static void order_params(const Plan *p, TensorView *out) {
  int n = 0;
  for (int odd = 0; odd < 2; odd++)
    for (int i = 0; i < p->n_param; i++) {
      TensorView v = view_of(&p->param[i].type);
      if ((v.bytes % PLAN_ALIGNMENT != 0) == odd) out[n++] = v;
    }
}

/* The metadata of w with its digest; the number of entries. */
static int describe_embedded(const Safetensors *w, const char *digest, MetadataEntry *out) {
  int n_old, n = 0;
  const MetadataEntry *old = safetensors_all_metadata(w, &n_old);
  for (int i = 0; i < n_old; i++)
    if (strcmp(old[i].key, WEIGHTS_DIGEST) != 0) out[n++] = old[i];
  out[n++] = (MetadataEntry){WEIGHTS_DIGEST, digest};
  return n;
}

static bool append_param(const Safetensors *w, const TensorView *v, Buffer *out, Error *err) {
  void *converted = mem_alloc(v->bytes);
  if (!converted) return error_set(err, ERROR_MEMORY, "out of memory for \"%s\"", v->name);
  bool ok = convert_tensor(safetensors_find(w, v->name), v->dtype, converted, err);
  if (ok) buffer_append(out, converted, v->bytes);
  mem_free(converted);
  return ok && (!out->failed || error_set(err, ERROR_MEMORY, "out of memory for the weights of a bundle"));
}

bool weights_file_embed(const Safetensors *w, const Plan *p, const char *digest, Buffer *out, Error *err) {
  int n_meta;
  safetensors_all_metadata(w, &n_meta);
  TensorView *v = mem_alloc((size_t)p->n_param * sizeof *v);
  MetadataEntry *meta = mem_alloc(((size_t)n_meta + 1) * sizeof *meta);
  bool ok = v && meta;
  if (!ok) error_set(err, ERROR_MEMORY, "out of memory for the weights of a bundle");
  if (ok) order_params(p, v);
  ok = ok && safetensors_write_head("the weights of a bundle", v, p->n_param, meta,
                                    describe_embedded(w, digest, meta), out, err);
  for (int i = 0; ok && i < p->n_param; i++) ok = append_param(w, &v[i], out, err);
  mem_free(v);
  mem_free(meta);
  return ok;
}

/* ---- writing ---- */

static const char *print_options(Arena *a, const Options *o) {
  Buffer b = {0};
  for (int i = 0; i < o->n; i++) {
    buffer_printf(&b, "%s=", o->option[i].name);
    value_print(&o->option[i].value, &b);
    buffer_printf(&b, "\n");
  }
  return arena_take_buffer(a, &b);
}

int weights_file_describe(Arena *a, const WeightsMeta *m, MetadataEntry out[WEIGHTS_META]) {
  const char *slash = strrchr(m->model->path, '/');
  Buffer source = {0};
  source_print(&m->model->source, &source);
  int n = 0;
  out[n++] = (MetadataEntry){META_FORMAT, "nuwa-weights"};
  out[n++] = (MetadataEntry){WEIGHTS_MODEL, arena_strdup(a, slash ? slash + 1 : m->model->path)};
  out[n++] = (MetadataEntry){META_SOURCE, arena_take_buffer(a, &source)};
  out[n++] = (MetadataEntry){META_OPTIONS, print_options(a, &m->model->options)};
  if (m->merges) out[n++] = (MetadataEntry){WEIGHTS_BPE, m->merges};
  if (m->words) out[n++] = (MetadataEntry){WEIGHTS_WORDS, m->words};
  if (m->recipe) out[n++] = (MetadataEntry){META_RECIPE, m->recipe};
  if (m->codes) out[n++] = (MetadataEntry){WEIGHTS_CODES, m->codes};
  return n;
}
