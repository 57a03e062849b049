/* Weights inside of a bundle: what may stay where the file is mapped does, and nobody notices but by the memory. */
#include "runtime/bundle.h"
#include "tests/fuzz/model.h"
#include "tests/test.h"

static const char model[] =
  "local w = param('w', f32(64, 1024), { normal = 0.3 })\n"
  "local m = param('m', f32(64, 64), { normal = 0.3 })\n"
  "local odd = param('odd', f32(3), { normal = 0.3 })\n"
  "return module {\n"
  "  f = fn({ x = f32(batch, 64) }, function(p) return { y = matmul(p.x, w), o = odd + 1, m = m + 0 } end),\n"
  "  g = fn({ x = f32(64, 64) }, function(p) return { done = mean(p.x) }, { { m, m * 2 + p.x } } end),\n"
  "}\n";

enum { W = 64 * 1024, M = 64 * 64, ODD = 3 };
static float w[W], m[M], odd[ODD];
static const TensorView view[] = {{.name = "w", .rank = 2, .dim = {64, 1024}, .data = w, .bytes = sizeof w},
                                  {.name = "m", .rank = 2, .dim = {64, 64}, .data = m, .bytes = sizeof m},
                                  {.name = "odd", .rank = 1, .dim = {3}, .data = odd, .bytes = sizeof odd}};

/* The model with weights in that order, as a bundle of the folder. */
static NuwaBundle *open_bundle(const char *name, const int order[3], Error *err) {
  Buffer plan = {0}, weights = {0};
  TensorView v[3];
  for (int i = 0; i < W; i++) w[i] = (float)(i % 31 - 15) / 8;
  for (int i = 0; i < M; i++) m[i] = (float)(i % 7);
  for (int i = 0; i < ODD; i++) odd[i] = (float)i;
  for (int i = 0; i < 3; i++) v[i] = view[order[i]];
  Model *loaded = load_text(model, err);
  CompileOptions o = {.isa = ISA_PLAIN, .threads = 1};
  bool ok = loaded && compile_model(loaded, &o, &plan, err) &&
            safetensors_write_head("weights", v, 3, NULL, 0, &weights, err);
  for (int i = 0; ok && i < 3; i++) buffer_append(&weights, v[i].data, v[i].bytes);
  BundlePart part[] = {{NUWA_PART_PLAN, "model", (const uint8_t *)plan.data, plan.len},
                       {NUWA_PART_WEIGHTS, "model", (const uint8_t *)weights.data, weights.len}};
  ok = ok && bundle_write(load_path(name), part, 2, err);
  NuwaBundle *b = ok ? nuwa_bundle_open(load_path(name), err) : NULL;
  EXPECT(b, "%s", err->text);
  model_free(loaded);
  buffer_done(&plan);
  buffer_done(&weights);
  return b;
}

/* A session of one bundle's plan with the weights of another, which are closed again; the bytes that it no longer
 * holds then. */
static NuwaSession *open_session(const NuwaBundle *plan, const NuwaBundle *weights, size_t *out_saved) {
  Error err = {0};
  NuwaOptions o = {.threads = 1, .samples = 1, .rows = 1};
  NuwaSession *s = nuwa_session_open(nuwa_bundle_plan(plan, NULL), &o, &err);
  NuwaWeights *from = s ? nuwa_bundle_weights(weights, "model", &err) : NULL;
  size_t before = s ? nuwa_session_bytes(s) : 0;
  EXPECT(from && nuwa_load_weights(s, from, false, &err), "%s", err.text);
  nuwa_weights_close(from);
  *out_saved = s ? before - nuwa_session_bytes(s) : 0;
  return s;
}

static float *output_of_f(NuwaSession *s, const NuwaBundle *b, const char *name) {
  int f = nuwa_find_function(nuwa_bundle_plan(b, NULL), "f");
  float *x = nuwa_input(s, f, "x");
  for (int i = 0; i < 64; i++) x[i] = (float)i;
  if (!nuwa_run(s, f, 1, 0)) abort();
  return nuwa_output(s, f, name);
}

static bool sees_weights(NuwaSession *s, const NuwaBundle *b) {
  bool ok = true;
  const float *y = output_of_f(s, b, "y"), *o = output_of_f(s, b, "o"), *kept = output_of_f(s, b, "m");
  for (int i = 0; i < 1024; i++) {
    float sum = 0;
    for (int k = 0; k < 64; k++) sum += (float)k * w[k * 1024 + i];   /* exact: few bits each */
    ok &= y[i] == sum;
  }
  for (int i = 0; i < ODD; i++) ok &= o[i] == odd[i] + 1;
  return ok && memcmp(kept, m, sizeof m) == 0;
}

static const int aligned[] = {0, 1, 2}, shifted[] = {2, 0, 1};

TEST("weights of the plan's own bundle take no memory, but for those that a function updates") {
  Error err = {0};
  size_t saved;
  NuwaBundle *b = open_bundle("a.nuwa", aligned, &err);
  if (!b) return;
  NuwaSession *s = open_session(b, b, &saved);
  EXPECT(saved == sizeof w + sizeof odd, "%zu bytes saved", saved);
  EXPECT(sees_weights(s, b), "other results");
  nuwa_session_close(s);
  nuwa_bundle_close(b);
}

TEST("weights that do not begin at a multiple of 64, or are of another bundle, are copied") {
  Error err = {0};
  size_t saved;
  NuwaBundle *b = open_bundle("a.nuwa", shifted, &err), *other = b ? open_bundle("b.nuwa", aligned, &err) : NULL;
  if (!other) return;
  NuwaSession *s = open_session(b, b, &saved);
  EXPECT(saved == sizeof odd && sees_weights(s, b), "%zu bytes saved", saved);
  nuwa_session_close(s);
  s = open_session(b, other, &saved);
  nuwa_bundle_close(other);
  EXPECT(saved == 0 && sees_weights(s, b), "%zu bytes saved", saved);
  nuwa_session_close(s);
  nuwa_bundle_close(b);
}

TEST("what one session writes into its params reaches neither another session nor the bundle") {
  Error err = {0};
  size_t saved;
  NuwaBundle *b = open_bundle("a.nuwa", aligned, &err);
  if (!b) return;
  NuwaSession *one = open_session(b, b, &saved), *two = open_session(b, b, &saved);
  static float read[W], zeros[W];
  int g = nuwa_find_function(nuwa_bundle_plan(b, NULL), "g");
  EXPECT(nuwa_read_param(one, "w", read, &err) && memcmp(read, w, sizeof w) == 0, "a param is read where it lies");
  EXPECT(nuwa_session_bytes(one) == nuwa_session_bytes(two), "reading copies");
  EXPECT(nuwa_write_param(one, "w", zeros, &err) && nuwa_prepare(one), "%s", err.text);
  const float *y = output_of_f(one, b, "y");
  for (int i = 0; i < 1024; i++) EXPECT(y[i] == 0, "%g", (double)y[i]);
  float *mine = nuwa_param(one, "odd");
  EXPECT(mine && memcmp(mine, odd, sizeof odd) == 0, "a param that is asked for holds what it held");
  mine[0] = 5;
  EXPECT(output_of_f(one, b, "o")[0] == 6, "a param that was written is not used");
  EXPECT(nuwa_session_bytes(one) == nuwa_session_bytes(two) + saved, "%zu bytes", nuwa_session_bytes(one));
  EXPECT(nuwa_run(one, g, 0, 0) && output_of_f(one, b, "m")[1] == 2 * m[1], "an update");
  EXPECT(sees_weights(two, b), "another session sees it");
  NuwaWeights *again = nuwa_bundle_weights(b, "model", &err);
  EXPECT(again && nuwa_load_weights(one, again, false, &err) && sees_weights(one, b), "%s", err.text);
  EXPECT(nuwa_session_bytes(one) == nuwa_session_bytes(two), "loaded again they are copied");
  nuwa_weights_close(again);
  EXPECT(nuwa_init_weights(one, 1) && !sees_weights(one, b) && sees_weights(two, b), "drawn weights");
  nuwa_session_close(one);
  nuwa_session_close(two);
  nuwa_bundle_close(b);
}

TEST_MAIN()
