/* Opening a kit and drawing with it. */
#include "cli/kit.h"

#include <string.h>
#include <unistd.h>

#include "runtime/base/sha256.h"

/* ---- what the weights say ---- */

static bool is_defined(const DefineList *list, const char *name) {
  for (int i = 0; i < list->n; i++)
    if (strcmp(list->item[i].name, name) == 0) return true;
  return false;
}

static void define_option(Arena *a, DefineList *list, const char *name, const char *value) {
  if (is_defined(list, name)) return;
  Define *grown = ARENA_ARRAY(a, Define, list->n + 1);
  if (list->n) memcpy(grown, list->item, sizeof *grown * (size_t)list->n);
  grown[list->n++] = (Define){arena_strdup(a, name), arena_strdup(a, value)};
  list->item = grown;
}

bool kit_complete_args(Arena *a, ModelArgs *m, const Safetensors *w, Error *err) {
  const char *model = safetensors_metadata(w, "model"), *options = safetensors_metadata(w, "options");
  if (!m->path) {
    if (!model)
      return error_set(err, ERROR_ARGUMENT, "the weights do not say which model they are for; name its file");
    m->path = cli_find_model(a, m, model);
  }
  /* "name=value" a line. */
  for (const char *line = options ? options : ""; *line;) {
    size_t n = strcspn(line, "\n"), eq = strcspn(line, "=");
    if (eq < n)
      define_option(a, &m->defines, arena_printf(a, "%.*s", (int)eq, line),
                    arena_printf(a, "%.*s", (int)(n - eq - 1), line + eq + 1));
    line += n + (line[n] == '\n');
  }
  return true;
}

const char *kit_shipped_weights(Arena *a, const ModelArgs *m, const char *name) {
  return cli_find_model(a, m, arena_printf(a, "weights/%s.safetensors", name));
}

bool kit_digest_file(const char *path, char out[65], Error *err) {
  FileMap map;
  uint8_t digest[32];
  if (!file_map(path, &map, err)) return false;
  sha256(map.data, map.len, digest);
  file_unmap(&map);
  sha256_hex(digest, out);
  return true;
}

/* ---- opening ---- */

static Plan *open_plan(const ModelArgs *m, const char *const *functions, int n, Error *err) {
  if (cli_is_bundle(m->path)) return nuwa_bundle_open(m->path, err);
  Model *model = cli_load_model(m, err);
  if (!model) return NULL;
  CompileOptions o = {.function = functions, .n_function = n};
  Plan *p = cli_compile_plan(model, m, &o, err);
  model_free(model);
  return p;
}

static const PlanTensor *find_port(const PlanTensor *list, int n, const char *name) {
  for (int i = 0; i < n; i++)
    if (strcmp(list[i].name, name) == 0) return &list[i];
  return NULL;
}

/* Functions of the generating model, whose grid must be one of the autoencoder's pictures. */
static bool find_generator(Kit *k, Error *err) {
  k->decode = plan_find_decode(k->plan, "decode");
  if (k->decode < 0) return error_set(err, ERROR_ARGUMENT, "the generating model has no decode \"decode\"");
  const PlanDecode *d = &k->plan->decode[k->decode];
  if (k->grid[1] != d->grid[1] || k->grid[2] != d->grid[2])
    return error_set(err, ERROR_ARGUMENT, "the autoencoder makes %lldx%lld codes, the generating model %lldx%lld",
                     (long long)k->grid[1], (long long)k->grid[2], (long long)d->grid[1], (long long)d->grid[2]);
  k->grid[0] = d->grid[0];
  k->positions = d->grid[0] * d->grid[1] * d->grid[2];
  const PlanFunction *prologue = d->prologue >= 0 ? &k->plan->function[d->prologue] : NULL;
  const PlanTensor *text = prologue ? find_port(prologue->in, prologue->n_in, "text") : NULL;
  if (!text || text->rank != 2)
    return error_set(err, ERROR_ARGUMENT, "the generating model has no input \"text\" i32[batch,words]");
  k->text_tokens = text->dim[1].c;
  return true;
}

static bool find_autoencoder(Kit *k, Error *err) {
  k->encode_codes = plan_find_function(k->vq_plan, "encode");
  k->decode_codes = plan_find_function(k->vq_plan, "decode");
  if (k->encode_codes < 0 || k->decode_codes < 0)
    return error_set(err, ERROR_ARGUMENT, "the autoencoder has no functions \"encode\" and \"decode\"");
  const PlanFunction *f = &k->vq_plan->function[k->encode_codes];
  const PlanTensor *image = find_port(f->in, f->n_in, "image"), *codes = find_port(f->out, f->n_out, "codes");
  if (!image || image->rank != 4 || !codes || codes->rank != 4 || image->dim[3].c != 3)
    return error_set(err, ERROR_ARGUMENT,
                     "the autoencoder must map image f32[batch,h,w,3] to codes i32[batch,1,h,w]");
  k->size = image->dim[1].c;
  k->colours = image->dim[3].c;
  k->grid[0] = 1;
  k->grid[1] = codes->dim[2].c;
  k->grid[2] = codes->dim[3].c;
  k->positions = k->grid[1] * k->grid[2];
  return true;
}

static bool open_bpe(Kit *k, Error *err) {
  const char *merges = safetensors_metadata(k->weights, "bpe");
  if (!merges) merges = plan_text(k->plan, "bpe");
  if (!merges) return error_set(err, ERROR_ARGUMENT, "the weights hold no text encoder (metadata \"bpe\")");
  k->bpe = bpe_parse(merges, strlen(merges), "merges in the weights", err);
  return k->bpe != NULL;
}

typedef struct OpenCall {
  Kit *k;
  KitArgs a;
  bool draws;
  int64_t samples;
  Error *err;
  bool ok;
} OpenCall;

static NuwaSession *open_session(const Kit *k, const Plan *p, int64_t samples, Error *err) {
  return cli_open_session(&k->args, p, samples, 1, 0, err);
}

static bool open_vq(const OpenCall *c, ModelArgs *m) {
  static const char *const functions[] = {"encode", "decode"};
  Kit *k = c->k;
  const char *path = c->a.vq_weights ? c->a.vq_weights : kit_shipped_weights(k->arena, m, "demo_vq");
  return (k->vq_weights = safetensors_open(path, c->err)) && kit_complete_args(k->arena, m, k->vq_weights, c->err) &&
         (k->vq_plan = open_plan(m, functions, 2, c->err)) && find_autoencoder(k, c->err) &&
         (k->vq = open_session(k, k->vq_plan, c->samples, c->err)) &&
         (nuwa_load_weights(k->vq, k->vq_weights, false, c->err) || error_prefix(c->err, "the autoencoder"));
}

static bool open_generator(const OpenCall *c, ModelArgs *m) {
  static const char *const functions[] = {"decode"};
  Kit *k = c->k;
  const char *path = c->a.weights ? c->a.weights : kit_shipped_weights(k->arena, m, "demo");
  return (k->weights = safetensors_open(path, c->err)) && kit_digest_file(path, k->digest, c->err) &&
         kit_complete_args(k->arena, m, k->weights, c->err) && (k->plan = open_plan(m, functions, 1, c->err)) &&
         find_generator(k, c->err) && open_bpe(k, c->err);
}

static void open_body(void *ctx) {
  OpenCall *c = ctx;
  c->k->args = c->a.model;
  c->ok = open_vq(c, &c->a.vq) && (!c->draws || open_generator(c, &c->a.model));
}

bool kit_open(Kit *k, const KitArgs *args, bool draws, int64_t samples, Error *err) {
  *k = (Kit){.arena = arena_new()};
  if (!k->arena) return error_set(err, ERROR_MEMORY, "out of memory");
  OpenCall c = {.k = k, .a = *args, .draws = draws, .samples = samples, .err = err};
  if (arena_protect(k->arena, open_body, &c, err) && c.ok) return true;
  kit_close(k);
  return false;
}

void kit_close(Kit *k) {
  nuwa_session_close(k->vq);
  plan_free(k->plan);
  plan_free(k->vq_plan);
  bpe_free(k->bpe);
  if (k->weights) safetensors_close(k->weights);
  if (k->vq_weights) safetensors_close(k->vq_weights);
  arena_free(k->arena);
  *k = (Kit){0};
}

/* ---- drawing ---- */

/* A request is drawn in parts that share a session, whose memory is that of one part. */
typedef struct Part {
  const KitRequest *r;
  int64_t first, count;          /* of the request's samples */
} Part;

static void show_progress(void *ctx, int64_t done, int64_t total) {
  const Part *p = ctx;
  if (!isatty(STDERR_FILENO)) return;
  int64_t at = p->first * total + p->count * done, all = p->r->count * total;
  fprintf(stderr, "\r%lld of %lld tokens%s", (long long)at, (long long)all, at == all ? "\n" : "");
}

/* Texts of the samples, then as many empty ones for the null condition. */
static bool fill_text(const Kit *k, NuwaSession *s, const Part *p, Error *err) {
  int32_t *to = nuwa_input(s, k->plan->decode[k->decode].prologue, "text");
  int64_t streams = p->r->guidance != 1.0f ? 2 * p->count : p->count;
  for (int64_t i = 0; i < streams; i++, to += k->text_tokens)
    if (!bpe_encode_fixed(k->bpe, i < p->count ? p->r->text[p->first + i] : "", to, (int)k->text_tokens, err))
      return false;
  return true;
}

static NuwaSession *open_generating(const Kit *k, const NuwaGenerate *g, Error *err) {
  int64_t slots, rows;
  if (!nuwa_generate_needs(k->plan, g, &slots, &rows, err)) return NULL;
  if (slots <= k->plan->decode[k->decode].live) slots = 0;
  return cli_open_session(&k->args, k->plan, g->count * (g->guidance != 1.0f ? 2 : 1), rows, slots, err);
}

static void add_stats(NuwaGenerateStats *sum, const NuwaGenerateStats *part) {
  sum->steps = part->steps;
  sum->tokens += part->tokens;
  sum->live = part->live;
  sum->prologue_ms += part->prologue_ms;
  sum->step_ms += part->step_ms;
}

/* The given tokens once a sample.  Free with mem_free. */
static int32_t *repeat_given(const Kit *k, const KitRequest *r, int64_t n, Error *err) {
  size_t bytes = sizeof(int32_t) * (size_t)k->positions;
  int32_t *given = mem_alloc((size_t)n * bytes);
  if (!given) error_set(err, ERROR_MEMORY, "out of memory for the given tokens");
  for (int64_t i = 0; given && i < n; i++) memcpy(given + i * k->positions, r->given_tokens, bytes);
  return given;
}

bool kit_generate(Kit *k, const KitRequest *r, int32_t *tokens, NuwaGenerateStats *stats, Error *err) {
  Part p = {r, 0, r->count < KIT_PART ? r->count : KIT_PART};
  NuwaGenerate g = {.decode = k->decode, .raster = r->raster, .count = p.count, .first = r->first, .seed = r->seed,
                    .sample = r->sample, .guidance = r->guidance, .given = r->given};
  int32_t *given = NULL;
  if (r->given && !(given = repeat_given(k, r, p.count, err))) return false;
  g.given_tokens = given;
  NuwaSession *s = open_generating(k, &g, err);
  bool ok = s && nuwa_load_weights(s, k->weights, false, err);
  *stats = (NuwaGenerateStats){0};
  for (; ok && p.first < r->count; p.first += p.count) {
    NuwaGenerateStats part;
    if (p.count > r->count - p.first) p.count = r->count - p.first;
    g.count = p.count;
    g.first = r->first + p.first;
    ok = fill_text(k, s, &p, err) &&
         nuwa_generate(s, &g, tokens + p.first * k->positions, &part, show_progress, &p, err);
    if (ok) add_stats(stats, &part);
  }
  nuwa_session_close(s);
  mem_free(given);
  return ok;
}

static int64_t vq_samples(const Kit *k) { return nuwa_samples(k->vq); }

bool kit_encode(Kit *k, const uint8_t *rgb, int64_t n, int32_t *codes, Error *err) {
  int64_t values = k->size * k->size * k->colours, per_picture = k->grid[1] * k->grid[2];
  for (int64_t at = 0; at < n; at += vq_samples(k)) {
    int64_t B = n - at < vq_samples(k) ? n - at : vq_samples(k);
    image_to_floats(rgb + at * values, (size_t)(B * values), nuwa_input(k->vq, k->encode_codes, "image"));
    if (!nuwa_run(k->vq, k->encode_codes, B, 0)) return nuwa_check(k->vq, err);
    memcpy(codes + at * per_picture, nuwa_output(k->vq, k->encode_codes, "codes"),
           sizeof *codes * (size_t)(B * per_picture));
  }
  return true;
}

bool kit_decode(Kit *k, const int32_t *codes, int64_t n, uint8_t *rgb, Error *err) {
  int64_t values = k->size * k->size * k->colours, per_picture = k->grid[1] * k->grid[2];
  for (int64_t at = 0; at < n; at += vq_samples(k)) {
    int64_t B = n - at < vq_samples(k) ? n - at : vq_samples(k);
    memcpy(nuwa_input(k->vq, k->decode_codes, "codes"), codes + at * per_picture,
           sizeof *codes * (size_t)(B * per_picture));
    if (!nuwa_run(k->vq, k->decode_codes, B, 0)) return nuwa_check(k->vq, err);
    image_from_floats(nuwa_output(k->vq, k->decode_codes, "image"), (size_t)(B * values), rgb + at * values);
  }
  return true;
}
