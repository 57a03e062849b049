/* Finding, loading and compiling models for the commands. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autotune/store.h"
#include "cli/cli.h"

/* Where the shipped models are when they do not stand beside the program; the build may say. */
#ifndef NUWA_MODELS_DIR
#define NUWA_MODELS_DIR "/usr/local/share/nuwa/models"
#endif

bool cli_is_bundle(const char *path) {
  char magic[8];
  size_t n = strlen(path);
  if (n > 5 && strcmp(path + n - 5, ".nuwa") == 0) return true;
  FILE *f = fopen(path, "rb");
  bool is = f && fread(magic, 1, sizeof magic, f) == sizeof magic && memcmp(magic, "NUWAPLAN", sizeof magic) == 0;
  if (f) fclose(f);
  return is;
}

static bool is_folder(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Without "..", and seen from here where it lies below: as messages and --explain show files. */
static const char *shown_path(Arena *a, const char *path) {
  char full[PATH_MAX], here[PATH_MAX];
  if (!realpath(path, full)) return path;
  size_t n = getcwd(here, sizeof here) ? strlen(here) : 0;
  bool is_below = n > 1 && strncmp(full, here, n) == 0 && full[n] == '/';
  return arena_strdup(a, is_below ? full + n + 1 : full);
}

/* The shipped models: ../models from the program's folder, or where the build said. */
static void find_models(Arena *a, const char **out) {
  static const char *const places[] = {"../models", "../share/nuwa/models"};
  char exe[4096];
  ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
  exe[n > 0 ? n : 0] = 0;
  char *slash = strrchr(exe, '/');
  for (int i = 0; slash && i < COUNT_OF(places); i++) {
    *out = arena_printf(a, "%.*s/%s", (int)(slash - exe), exe, places[i]);
    if (is_folder(*out)) {
      *out = shown_path(a, *out);
      return;
    }
  }
  *out = is_folder(NUWA_MODELS_DIR) ? NUWA_MODELS_DIR : NULL;
}

const char *cli_find_model(Arena *a, const ModelArgs *m, const char *file) {
  const char *folder = m->models_dir;
  if (!folder) find_models(a, &folder);
  return folder ? arena_printf(a, "%s/%s", folder, file) : arena_strdup(a, file);
}

Model *cli_load_model(const ModelArgs *m, Error *err) {
  if (m->models_dir && !is_folder(m->models_dir)) {
    error_set(err, ERROR_IO, "--models %s: no such folder", m->models_dir);
    return NULL;
  }
  Arena *a = arena_new();
  if (!a) {
    error_set(err, ERROR_MEMORY, "out of memory");
    return NULL;
  }
  ModelOptions o = {.define = m->defines.item, .n_define = m->defines.n, .models_dir = m->models_dir};
  if (!o.models_dir) find_models(a, &o.models_dir);
  Model *model = model_load(m->path, &o, err);
  arena_free(a);
  cli_asked(model != NULL, err); /* the only arguments it refuses are defines */
  return model;
}

Func *cli_find_function(const Model *m, const char *name, Error *err) {
  Func *f = model_find(m, name, err);
  cli_asked(f != NULL, err);
  return f;
}

/* $XDG_CACHE_HOME/nuwa/kernels.sqlite, or ~/.cache/...; NULL when there is no home. */
static Store *open_store(Error *err) {
  const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  Buffer path = {0};
  if (cache && cache[0] == '/') buffer_printf(&path, "%s/nuwa/kernels.sqlite", cache);
  else if (home && home[0] == '/') buffer_printf(&path, "%s/.cache/nuwa/kernels.sqlite", home);
  Store *s = path.data && !path.failed ? store_open(path.data, err) : NULL;
  buffer_done(&path);
  return s;
}

bool cli_compile_model(Model *model, const ModelArgs *m, CompileOptions *o, Buffer *out, Error *err) {
  int arch[CUDA_MAX_ARCHS];
  if (!cli_target(m, arch, o, err)) return false;
  Error store_err = {0};
  Store *store = m->no_cache ? NULL : open_store(&store_err);
  o->store = store_objects(store);
  bool ok = compile_model(model, o, out, err);
  o->store = NULL;
  o->arch = NULL;
  const char *warning = store ? store_warning(store) : store_err.code != ERROR_NONE ? store_err.text : NULL;
  if (warning) fprintf(stderr, "nuwa: %s\n", warning);
  store_close(store);
  return ok;
}

Plan *cli_compile_plan(Model *model, const ModelArgs *m, CompileOptions *o, Error *err) {
  Buffer bundle = {0};
  Plan *p = NULL;
  if (cli_compile_model(model, m, o, &bundle, err)) p = plan_read(bundle.data, bundle.len, model->path, err);
  buffer_done(&bundle);
  return p;
}

/* ---- params ---- */

static int by_name(const void *x, const void *y) {
  return strcmp((*(Node *const *)x)->attrs.leaf.name, (*(Node *const *)y)->attrs.leaf.name);
}

/* A graph has one node a param, but functions share them. */
Node **cli_model_params(const Model *model, int *out_n) {
  Arena *a = model->graph->arena;
  bool *seen = ARENA_ARRAY(a, bool, model->graph->n_nodes);
  Node **param = NULL;
  int n = 0, cap = 0;
  for (int i = 0; i < model->n_func; i++) {
    int n_nodes;
    Node **nodes = func_nodes(model->func[i], &n_nodes);
    for (int k = 0; k < n_nodes; k++) {
      if (nodes[k]->op != OP_PARAM || seen[nodes[k]->id]) continue;
      seen[nodes[k]->id] = true;
      ARENA_PUSH(a, param, n, cap, nodes[k]);
    }
  }
  if (n) qsort(param, (size_t)n, sizeof(Node *), by_name);
  *out_n = n;
  return param;
}

bool cli_check_weights(const Model *model, const Safetensors *w, Error *err) {
  int n;
  Node **param = cli_model_params(model, &n);
  for (int i = 0; i < safetensors_count(w); i++) {
    const char *name = safetensors_get(w, i)->name;
    int k = 0;
    while (k < n && strcmp(param[k]->attrs.leaf.name, name) != 0) k++;
    if (k == n)
      return error_set(err, ERROR_ARGUMENT, "weight \"%s\" is in the file, but the model has no such param", name);
  }
  return true;
}
