/* Collecting the distinct kernels of models, as the compiler makes them for GPUs. */
#include "bench/gpu.h"
#include "runtime/base/names.h"

#include <string.h>

#include "runtime/base/safetensors.h"

bool gpu_kernels_open(GpuKernels *g, Error *err) {
  *g = (GpuKernels){.arena = arena_new()};
  return g->arena || error_set(err, ERROR_MEMORY, "out of memory");
}

void gpu_kernels_close(GpuKernels *g) {
  for (int i = 0; i < g->n_lowered; i++) lowered_done(&g->lowered[i]);
  for (int i = 0; i < g->n_model; i++) model_free(g->model[i]);
  arena_free(g->arena);
  *g = (GpuKernels){0};
}

/* ---- what weights carry ---- */

typedef struct DefineLines {
  Define *item;
  int n, cap;
} DefineLines;

static bool is_defined(const DefineLines *d, const char *name) {
  for (int i = 0; i < d->n; i++)
    if (strcmp(d->item[i].name, name) == 0) return true;
  return false;
}

/* "name=value" a line; of a name that there is, the value stays. */
static void read_options(Arena *a, const char *text, DefineLines *out) {
  for (const char *line = text ? text : ""; *line;) {
    int n = (int)strcspn(line, "\n"), eq = (int)strcspn(line, "=");
    if (eq < n) {
      Define d = {arena_printf(a, "%.*s", eq, line), arena_printf(a, "%.*s", n - eq - 1, line + eq + 1)};
      if (!is_defined(out, d.name)) ARENA_PUSH(a, out->item, out->n, out->cap, d);
    }
    line += n + (line[n] == '\n');
  }
}

static bool load_weights(Arena *a, const char *path, DefineLines *options, SourceMap *source, Error *err) {
  Safetensors *w = safetensors_open(path, err);
  const char *text = w ? safetensors_metadata(w, META_SOURCE) : NULL;
  if (w) read_options(a, safetensors_metadata(w, META_OPTIONS), options);
  bool ok = text ? source_read(a, text, source, err) : w && error_set(err, ERROR_FORMAT, "%s carries no source", path);
  safetensors_close(w);
  return ok;
}

/* ---- the list ---- */

static void count_use(GpuKernel *k, const char *function) {
  int i = 0;
  while (i < k->n_use && strcmp(k->use[i].function, function) != 0) i++;
  if (i == GPU_MAX_USES) return;
  if (i == k->n_use) k->use[k->n_use++].function = function;
  k->use[i].launches++;
}

static const char *text_of(Arena *a, const Kernel *k) {
  Kernel nameless = *k;
  Buffer text = {0};
  nameless.name = "k";
  kir_print(&nameless, &text);
  return arena_take_buffer(a, &text);
}

/* The place in the list. */
static int find_kernel(GpuKernels *g, const char *model, Kernel *k) {
  const char *text = text_of(g->arena, k);
  for (int i = 0; i < g->n; i++)
    if (strcmp(g->kernel[i].text, text) == 0) return i;
  GpuKernel new_one = {.kernel = k, .model = model, .text = text};
  ARENA_PUSH(g->arena, g->kernel, g->n, g->cap, new_one);
  return g->n - 1;
}

typedef struct Add {
  GpuKernels *g;
  const GpuModel *m;
  Model *model;
  const char *name;
  Error *err;
  bool ok;
} Add;

/* whole: only what decodes, and as a plain function. */
static bool add_functions(Add *a, bool whole) {
  Lowered *e = &a->g->lowered[a->g->n_lowered++];
  const char *decode[1];
  CompileOptions o = {.device = PLAN_CUDA,
                      .threads = 1,
                      .precision = a->m->precision,
                      .train = a->m->train && !whole,
                      .whole = whole};
  if (whole) {
    decode[0] = a->model->decode[0].func->name;
    o.function = decode;
    o.n_function = 1;
  }
  if (!compile_lower(a->model, &o, e, a->err)) return false;
  int *place = ARENA_ARRAY(a->g->arena, int, e->n_kernel);
  for (int i = 0; i < e->n_kernel; i++) place[i] = find_kernel(a->g, a->name, e->kernel[i]);
  for (int i = 0; i < e->n_launch; i++) {
    GpuKernel *k = &a->g->kernel[place[e->launch[i].kernel]];
    if (k->n_use == 0) k->cost = e->launch[i].cost;
    count_use(k, arena_printf(a->g->arena, "%s%s", e->launch[i].function, whole ? " (all at once)" : ""));
  }
  return true;
}

static void add_body(void *ctx) {
  Add *a = ctx;
  Arena *arena = a->g->arena;
  DefineLines options = {0};
  SourceMap source = {0};
  a->name = arena_strdup(arena, a->m->name);
  for (int i = 0; i < a->m->n_define; i++) ARENA_PUSH(arena, options.item, options.n, options.cap, a->m->define[i]);
  if (a->m->weights && !load_weights(arena, a->m->weights, &options, &source, a->err)) return;
  ModelOptions mo = {.define = options.item, .n_define = options.n, .models_dir = a->m->models_dir,
                     .source = a->m->weights ? &source : NULL};
  a->model = model_load(a->m->path, &mo, a->err);
  if (!a->model) return;
  a->g->model[a->g->n_model++] = a->model;
  a->ok = add_functions(a, false) && (a->model->n_decode == 0 || add_functions(a, true));
}

bool gpu_kernels_add(GpuKernels *g, const GpuModel *m, Error *err) {
  Add a = {.g = g, .m = m, .err = err};
  if (g->n_model == GPU_MAX_MODELS) return error_set(err, ERROR_ARGUMENT, "more than %d models", GPU_MAX_MODELS);
  return (arena_protect(g->arena, add_body, &a, err) && a.ok) || error_prefix(err, "%s", m->name);
}

/* Tasks share most kernels: these draw pictures, clips and captions, and train pictures and captions.  Of the autoencoder
 * all is trained, and by no other network. */
static const struct {
  const char *name, *weights;
  Define define[3];
  int n_define;
} demo[] = {
    {"nuwa", SHIPPED_DRAWER, {{"tasks", "text_image,sketch_video,image_text"}, {"task_weights", "1,0,1"}}, 2},
    {"vqgan", SHIPPED_IMAGE, {{"part", "all"}, {"codes_by", "gradient"}, {"perceptual", "none"}}, 3},
};

bool gpu_kernels_add_demo(GpuKernels *g, const char *models_dir, DType precision, Error *err) {
  for (int i = 0; i < COUNT_OF(demo); i++) {
    char path[1024], weights[1024];
    const GpuModel m = {.name = demo[i].name, .path = path, .weights = weights, .define = demo[i].define,
                        .n_define = demo[i].n_define, .models_dir = models_dir, .train = precision == DTYPE_F32,
                        .precision = precision};
    snprintf(path, sizeof path, "%s/%s.lua", models_dir, demo[i].name);
    snprintf(weights, sizeof weights, "%s/weights/%s.safetensors", models_dir, demo[i].weights);
    if (!gpu_kernels_add(g, &m, err)) return false;
  }
  return true;
}

bool gpu_kernels_facts(const GpuKernels *g, const CudaFactsOptions *o, CudaFacts *out, Error *err) {
  Kernel **kernel = mem_alloc(sizeof *kernel * (size_t)g->n);
  if (!kernel) return error_set(err, ERROR_MEMORY, "out of memory");
  for (int i = 0; i < g->n; i++) kernel[i] = g->kernel[i].kernel;
  bool ok = cuda_facts(kernel, g->n, o, out, err);
  mem_free(kernel);
  return ok;
}
