/* Every kernel of the demo models as CUDA C, compiled to machine code by NVRTC, which is then looked into: spills,
 * registers, 128-bit accesses.
 *
 * Kernels come from where the compiler takes them: all functions of a model, its training step, prologue and step of
 * its decode.  Two that differ in nothing but their name count once. */
#include <pthread.h>
#include <stdlib.h>

#include "codegen/nvrtc.h"
#include "frontend/compile.h"
#include "tests/gpu/cubin.h"
#include "tests/test.h"

/* Shared memory that one block may ask for, from the CUDA C programming guide's table of compute capabilities. */
static const struct { const char *arch; int64_t block_bytes; } devices[] = {{"sm_80", 163 << 10},
                                                                          {"sm_90", 227 << 10}};
enum { REGISTERS = 65536 };   /* of a multiprocessor */

static const Define nuwa_options[] = {
    {"grid_s", "1"},         {"grid_h", "8"},         {"grid_w", "8"},     {"dim", "192"},
    {"heads", "6"},          {"encoder_layers", "2"}, {"decoder_layers", "2"}, {"codebook", "512"},
    {"text_tokens", "16"},   {"vocab", "1024"},       {"extent_h", "5"},   {"extent_w", "5"}};
static const Define vqgan_options[] = {
    {"size", "32"},    {"channels", "32"}, {"multipliers", "1,2,2"}, {"blocks", "1"}, {"attention", ""},
    {"latent", "64"},  {"width", "32"},    {"codebook", "512"},      {"groups", "8"}};

/* ---- which kernels ---- */

typedef enum Kind { KIND_MAP, KIND_REDUCE, KIND_SCATTER, KIND_ATTEND, KIND_PRODUCT, KIND_UNKNOWN } Kind;
static const char *const kind_names[] = {"map", "reduce", "scatter", "attend", "product"};

/* Names of kernels begin with that of the group's anchor, or with "map". */
static Kind kind_of(const Kernel *k) {
  static const struct { const char *prefix; Kind kind; } list[] = {
      {"map", KIND_MAP}, {"sum", KIND_REDUCE}, {"max", KIND_REDUCE}, {"argmax", KIND_REDUCE},
      {"scatter_add", KIND_SCATTER}, {"ring_write", KIND_SCATTER}, {"attend", KIND_ATTEND},
      {"matmul", KIND_PRODUCT}, {"conv2d", KIND_PRODUCT}};
  for (int i = 0; i < COUNT_OF(list); i++)
    if (strncmp(k->name, list[i].prefix, strlen(list[i].prefix)) == 0) return list[i].kind;
  return KIND_UNKNOWN;
}

typedef struct Set {
  Arena *arena;
  Model *model[2];
  int n_model;
  Kernel **kernel;      /* distinct; names made different */
  const char **text;    /* as kernel IR, but for the name */
  int n_kernel, cap_kernel, n_text, cap_text, by_kind[KIND_UNKNOWN + 1];
} Set;

static void set_add(Set *s, Kernel *k) {
  Kind kind = kind_of(k);
  const char *name = k->name;
  EXPECT(kind != KIND_UNKNOWN, "%s: of which family?", name);
  if (kind == KIND_UNKNOWN) return;
  Buffer text = {0};
  k->name = "k";
  kir_print(k, &text);
  for (int i = 0; i < s->n_kernel; i++)
    if (strcmp(s->text[i], text.data) == 0) {
      buffer_done(&text);
      return;
    }
  k->name = arena_printf(s->arena, "k%d_%s", s->n_kernel, name);
  ARENA_PUSH(s->arena, s->text, s->n_text, s->cap_text, arena_strdup(s->arena, text.data));
  ARENA_PUSH(s->arena, s->kernel, s->n_kernel, s->cap_kernel, k);
  s->by_kind[kind]++;
  buffer_done(&text);
}

/* whole: decodes as plain functions, else as prologue and step, and the training step too. */
static bool set_add_functions(Set *s, Model *m, bool whole) {
  Kernel *const *kernel;
  int n;
  Error err = {0};
  CompileOptions o = {.whole = whole, .train = whole ? NULL : "loss", .device = PLAN_CUDA, .threads = 1,
                      .adam = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.01, .clip = 1.0}};
  bool ok = compile_lower(m, &o, &kernel, &n, &err);
  EXPECT(ok, "%s", err.text);
  for (int i = 0; ok && i < n; i++) set_add(s, kernel[i]);
  return ok;
}

static bool set_add_model(Set *s, const char *path, const Define *define, int n) {
  Error err = {0};
  Model *m = model_load(path, &(ModelOptions){.define = define, .n_define = n, .models_dir = MODELS_DIR}, &err);
  EXPECT(m, "%s", err.text);
  if (!m) return false;
  s->model[s->n_model++] = m;
  return set_add_functions(s, m, false) && (m->n_decode == 0 || set_add_functions(s, m, true));
}

static Set the_set;

/* Both models' kernels, made once. */
static Set *demo_kernels(void) {
  if (the_set.arena) return &the_set;
  the_set.arena = arena_new();
  bool ok = set_add_model(&the_set, MODELS_DIR "/nuwa.lua", nuwa_options, COUNT_OF(nuwa_options));
  int n_nuwa = the_set.n_kernel;
  ok = ok && set_add_model(&the_set, MODELS_DIR "/vqgan.lua", vqgan_options, COUNT_OF(vqgan_options));
  if (!ok) return NULL;
  printf("%d distinct kernels, %d of them nuwa.lua's:", the_set.n_kernel, n_nuwa);
  for (int i = 0; i < KIND_UNKNOWN; i++) printf(" %s %d", kind_names[i], the_set.by_kind[i]);
  putchar('\n');
  return &the_set;
}

/* ---- compiling ---- */

/* Sanitizers see nothing of NVRTC's locks and make it slow: their builds print every kernel and compile few. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { COMPILE_EVERY = 8, THREADS = 1 };
#else
enum { COMPILE_EVERY = 1, THREADS = 2 };
#endif
enum { KERNELS_PER_PROGRAM = 24 };

/* Registers are given out by eights. */
static int round_registers(int n) { return (n + 7) / 8 * 8; }

typedef struct Jobs {
  const Set *set;
  Nvrtc *nvrtc;
  pthread_mutex_t lock;
  int wide_copies;        /* kernels with 128-bit asynchronous copies */
  int next, n, wanted, compiled;  /* jobs: those of one architecture after those of another; kernels */
  char failure[4000];     /* of the first program that did not compile */
} Jobs;

/* set_add put a number before the name. */
static Kind kind_of_code(const Kernel *k) {
  Kernel plain = *k;
  plain.name = strchr(k->name, '_') + 1;
  return kind_of(&plain);
}

/* What the machine code of products and attention must be: no spills in inner loops, in blocks of groups shared memory
 * read by fours, and as many blocks resident as the template counts on.  The first thing that it is not goes to
 * j->failure; spills of others are listed. */
static void check_code(Jobs *j, const Kernel *k, const char *arch, const Cubin *c) {
  const char *wrong = NULL;
  CudaShape shape = cuda_shape(k);
  bool attend = kind_of_code(k) == KIND_ATTEND, block = k->groups > 1;
  int blocks = REGISTERS / (round_registers(c->registers) * shape.threads);
  if ((block || attend) && c->inner_spills) wrong = "spills in an inner loop";
  if (block && !c->wide_shared) wrong = "a block without 128-bit loads from shared memory";
  if (blocks < k->resident) wrong = "a kernel of which fewer blocks fit than it says";
  if (wrong) printf("  %s %s: %s\n", arch, k->name, wrong);
  if (wrong && !*j->failure)
    snprintf(j->failure, sizeof j->failure, "%s %s: %s: %d registers, %d blocks for %d, %d inner spills", arch, k->name,
             wrong, c->registers, blocks, k->resident, c->inner_spills);
  if (c->spills) printf("  %s %s: %d spills, inner loops have %d\n", arch, k->name, c->spills, c->inner_spills);
  j->wide_copies += c->copies > 0;
}

static void compile_job(Jobs *j, int job) {
  static const char *const options[] = {"--ftz=true"};
  int n_program = j->n / COUNT_OF(devices), first = job % n_program, wanted = 0, compiled = 0;
  const char *arch = devices[job / n_program].arch, *missing = NULL;
  Buffer text = {0};
  NvrtcResult r = {0};
  for (int i = first; i < j->set->n_kernel; i += n_program) cuda_print(j->set->kernel[i], &text);
  bool skip = job % COMPILE_EVERY != 0 && !text.failed;
  bool ok = skip || (!text.failed && nvrtc_compile(j->nvrtc, text.data, arch, options, 1, &r));
  pthread_mutex_lock(&j->lock);
  for (int i = first; !skip && i < j->set->n_kernel; i += n_program, wanted++) {
    const Kernel *k = j->set->kernel[i];
    Cubin c;
    bool found = ok && cubin_read(r.image, r.bytes, atoi(arch + 3), k->name, &c);
    compiled += found;
    if (found) check_code(j, k, arch, &c);
    else missing = k->name;
  }
  j->wanted += wanted;
  j->compiled += compiled;
  if (!*j->failure && !ok) snprintf(j->failure, sizeof j->failure, "%s: %s", arch, r.log ? r.log : "no memory");
  if (!*j->failure && missing) snprintf(j->failure, sizeof j->failure, "%s: no %s in the cubin", arch, missing);
  pthread_mutex_unlock(&j->lock);
  nvrtc_result_done(&r);
  buffer_done(&text);
}

static void *compile_thread(void *ctx) {
  Jobs *j = ctx;
  for (;;) {
    pthread_mutex_lock(&j->lock);
    int job = j->next < j->n ? j->next++ : -1;
    pthread_mutex_unlock(&j->lock);
    if (job < 0) return NULL;
    compile_job(j, job);
  }
}

TEST("the kernels of the demo models fit into the shared memory of a block") {
  Set *s = demo_kernels();
  REQUIRE(s, "no kernels");
  int64_t most = 0;
  for (int i = 0; i < s->n_kernel; i++) {
    int64_t bytes = cuda_shape(s->kernel[i]).shared_bytes;
    if (bytes > most) most = bytes;
    for (int d = 0; d < COUNT_OF(devices); d++)
      EXPECT(bytes <= devices[d].block_bytes, "%s needs %lld bytes of shared memory, %s has %lld", s->kernel[i]->name,
             (long long)bytes, devices[d].arch, (long long)devices[d].block_bytes);
  }
  printf("%lld bytes of shared memory at most\n", (long long)most);
}

TEST("every kernel of the demo models compiles for sm_80 and sm_90, products and attention without inner spills") {
  Error err;
  Jobs j = {.nvrtc = nvrtc_open(NULL, &err), .lock = PTHREAD_MUTEX_INITIALIZER};
  if (!j.nvrtc) SKIP("NVRTC is not installed");
  REQUIRE(j.set = demo_kernels(), "no kernels");
  j.n = COUNT_OF(devices) * ((j.set->n_kernel + KERNELS_PER_PROGRAM - 1) / KERNELS_PER_PROGRAM);
  pthread_t thread[THREADS];
  int started = 0;
  while (started < THREADS && pthread_create(&thread[started], NULL, compile_thread, &j) == 0) started++;
  for (int i = 0; i < started; i++) pthread_join(thread[i], NULL);
  REQUIRE(started > 0, "no thread could be started");
  printf("%d of %d kernels compiled\n", j.compiled, COUNT_OF(devices) * j.set->n_kernel);
  EXPECT(!*j.failure, "%s", j.failure);
  EXPECT(j.compiled == j.wanted, "%d of %d", j.compiled, j.wanted);
  EXPECT(COMPILE_EVERY > 1 || j.wide_copies > 0, "no product copies four elements at once");
  EXPECT(COMPILE_EVERY > 1 || j.wanted == COUNT_OF(devices) * j.set->n_kernel, "%d kernels", j.wanted);
  nvrtc_close(j.nvrtc);
}

TEST("the demo models have kernels of every family") {
  Set *s = demo_kernels();
  REQUIRE(s, "no kernels");
  for (int i = 0; i < KIND_UNKNOWN; i++) EXPECT(s->by_kind[i] > 0, "no %s kernel", kind_names[i]);
  for (int i = 0; i < s->n_model; i++) model_free(s->model[i]);
  arena_free(s->arena);
  *s = (Set){0};
}

TEST_MAIN()
