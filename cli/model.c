/* What the command line says of models and of what executes them, as the library wants it. */
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
#ifndef NUWA_MODELS_FROM_PROGRAM
#define NUWA_MODELS_FROM_PROGRAM "../share/nuwa/models"
#endif

static bool is_folder(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Without "..", and seen from here where it lies below: as messages and --explain show files. */
static void show_path(const char *path, char *out, size_t cap) {
  char full[PATH_MAX], here[PATH_MAX];
  if (!realpath(path, full)) {
    snprintf(out, cap, "%s", path);
    return;
  }
  size_t n = getcwd(here, sizeof here) ? strlen(here) : 0;
  bool is_below = n > 1 && strncmp(full, here, n) == 0 && full[n] == '/';
  snprintf(out, cap, "%s", is_below ? full + n + 1 : full);
}

/* The shipped models: as installed beside the program, else as it is built below them, else where the build said.  False: nowhere. */
static bool find_models(char *out, size_t cap) {
  static const char *const places[] = {NUWA_MODELS_FROM_PROGRAM, "../models"};
  char exe[PATH_MAX], place[PATH_MAX + 32];
  ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
  exe[n > 0 ? n : 0] = 0;
  char *slash = strrchr(exe, '/');
  for (int i = 0; slash && i < COUNT_OF(places); i++) {
    snprintf(place, sizeof place, "%.*s/%s", (int)(slash - exe), exe, places[i]);
    if (!is_folder(place)) continue;
    show_path(place, out, cap);
    return true;
  }
  snprintf(out, cap, "%s", NUWA_MODELS_DIR);
  return is_folder(NUWA_MODELS_DIR);
}

/* m's folder, or the shipped one in `found`; NULL: none. */
const char *cli_models_dir(const ModelArgs *m, char found[CLI_PATH_BYTES]) {
  return m->models_dir ? m->models_dir : find_models(found, CLI_PATH_BYTES) ? found : NULL;
}

const char *cli_find_model(Arena *a, const ModelArgs *m, const char *file) {
  char found[CLI_PATH_BYTES];
  SynthTarget t = {.models_dir = cli_models_dir(m, found)};
  return models_find(a, &t, file);
}

ModelSpec cli_spec(const ModelArgs *m) {
  return (ModelSpec){.path = m->path, .source = m->source, .define = m->defines.item, .n_define = m->defines.n};
}

bool cli_codecs(const DefineList *tokens, const ModelArgs *vq, const char *vq_weights, CodecSpec out[CODEC_KINDS],
                Error *err) {
  for (int k = 0; k < CODEC_KINDS; k++) out[k] = (CodecSpec){0};
  for (int i = 0; i < tokens->n; i++) {
    CodecKind kind = codec_of_name(tokens->item[i].name);
    if (kind == CODEC_KINDS)
      return error_set(err, ERROR_USAGE, "--tokens %s=%s: codes are of image or of labels", tokens->item[i].name,
                       tokens->item[i].value);
    out[kind].weights = tokens->item[i].value;
  }
  if (vq_weights && out[CODEC_IMAGE].weights)
    return error_set(err, ERROR_USAGE, "--vq-weights and --tokens image= say the same: give one of them");
  if (vq_weights) out[CODEC_IMAGE].weights = vq_weights;
  out[CODEC_IMAGE].model = cli_spec(vq);
  return true;
}

bool cli_kit(const KitArgs *a, KitSpec *out, Error *err) {
  *out = (KitSpec){.model = cli_spec(&a->model), .weights = a->weights};
  return cli_codecs(&a->tokens, &a->vq, a->vq_weights, out->codec, err);
}

bool cli_check_chance(double temperature, int64_t top_k, double top_p, Error *err) {
  return temperature != 0.0 || (!top_k && top_p == 1.0) ||
         error_set(err, ERROR_ARGUMENT, "--top-k and --top-p have no effect at --temperature 0, which takes the "
                                        "likeliest token");
}

/* ---- the target ---- */

static void say(void *ctx, const char *text) {
  fputs("nuwa: ", stderr);
  cli_show(stderr, text);
  fputc('\n', stderr);
}

static void show_progress(void *ctx, int64_t done, int64_t total) {
  if (!isatty(STDERR_FILENO)) return;
  fprintf(stderr, "\r%lld of %lld tokens%s", (long long)done, (long long)total, done == total ? "\n" : "");
}

const char *cli_cache(const char *name, char out[CLI_PATH_BYTES]) {
  const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  int n = CLI_PATH_BYTES;
  if (cache && cache[0] == '/')
    n = snprintf(out, CLI_PATH_BYTES, "%s/nuwa/%s", cache, name);
  else if (home && home[0] == '/')
    n = snprintf(out, CLI_PATH_BYTES, "%s/.cache/nuwa/%s", home, name);
  return n < CLI_PATH_BYTES ? out : NULL;
}

static Store *open_store(Error *err) {
  char path[CLI_PATH_BYTES];
  return cli_cache("kernels.sqlite", path) ? store_open(path, STORE_WAIT_MS, err) : NULL;
}

static bool fill_compile(const ModelArgs *m, CliTarget *t, Error *err) {
  CompileOptions *o = &t->synth.compile;
  *o = (CompileOptions){.precision = cli_precision(m), .threads = cli_threads(m)};
  if (!cli_is_cuda(m)) return cli_isa(m, &o->isa, err);
  o->device = PLAN_CUDA;
  o->nvrtc = m->nvrtc;
  o->cublaslt = cli_uses_cublaslt(m);
  o->arch = t->arch;
  return cli_archs(m->arch, t->arch, &o->n_arch, err);
}

bool cli_target_open(const ModelArgs *m, CliTarget *t, Error *err) {
  *t = (CliTarget){.synth = {.say = say, .progress = show_progress, .is_cancelled = cli_is_interrupted}};
  if (m->models_dir && !is_folder(m->models_dir))
    return error_set(err, ERROR_IO, "--models %s: no such folder", m->models_dir);
  t->synth.models_dir = cli_models_dir(m, t->models_dir);
  t->synth.session =
      (NuwaOptions){.device = cli_is_cuda(m) ? PLAN_CUDA : PLAN_CPU, .threads = (int)m->threads, .cuda = cli_cuda(m)};
  t->synth.is_device_given = m->device != NULL;
  t->synth.ignore = m->ignore.item;
  t->synth.n_ignore = m->ignore.n;
  if (!fill_compile(m, t, err)) return false;
  Error store_err = {0};
  if (!m->no_cache) t->store = open_store(&store_err);
  if (store_err.code != ERROR_NONE) say(NULL, store_err.text);
  t->synth.compile.store = store_objects(t->store);
  return true;
}

void cli_target_close(CliTarget *t) {
  const char *warning = t->store ? store_warning(t->store) : NULL;
  if (warning) say(NULL, warning);
  store_close(t->store);
  *t = (CliTarget){0};
}

/* ---- models ---- */

Model *cli_load_model(const CliTarget *t, const ModelArgs *m, Error *err) {
  ModelSpec spec = cli_spec(m);
  Model *model = models_load(&t->synth, &spec, err);
  error_asked(model != NULL, err); /* the only arguments it refuses are defines */
  return model;
}

Func *cli_find_function(const Model *m, const char *name, Error *err) {
  Func *f = model_find(m, name, err);
  error_asked(f != NULL, err);
  return f;
}
