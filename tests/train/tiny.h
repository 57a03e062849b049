/* A tiny autoencoder with a codebook, compiled once, and files in a folder that goes away at exit. */
#ifndef NUWA_TEST_TINY_H
#define NUWA_TEST_TINY_H

#include <stdlib.h>
#include <unistd.h>

#include "frontend/compile/compile.h"
#include "runtime/base/file.h"
#include "runtime/base/safetensors.h"
#include "runtime/include/nuwa.h"
#include "runtime/plan.h"
#include "tests/test.h"
#include "train/source.h"

enum { TINY_CODES = 16 }; /* of the codebook */

static const char tiny_text[] =
    "local nn, optim = require 'nn', require 'optim'\n"
    "local o = options { lr = 5e-3, window = 10 }\n"
    "local picture = f32(batch, 32, 32, 3)\n"
    "local book = param('book', f32(16, 4), { uniform = 0.1 })\n"
    "local function encode(x)\n"
    "  x = silu(nn.conv('down', x, 8, { stride = 2, padding = { 0, 1, 0, 1 } }))\n"
    "  return tanh(nn.conv('latent', x, 4, { size = 1 }))\n"
    "end\n"
    "local loss = fn({ image = picture }, function(a)\n"
    "  local z = encode(a.image)\n"
    "  local codes = nn.nearest_code(z, book)\n"
    "  local q = gather(book, codes)\n"
    "  local y = nn.conv('out', nn.repeat2(z + detach(q - z)), 3)\n"
    "  local e, c, d = y - a.image, q - detach(z), z - detach(q)\n"
    "  local mse = mean(e * e)\n"
    "  if is_training() then nn.revive('book', book, z, codes, o.window) end\n"
    "  return { loss = mse + mean(c * c) + 0.25 * mean(d * d), mse = mse }\n"
    "end)\n"
    "return module {\n"
    "  loss = loss, evaluate = loss,\n"
    "  train = { { 'main', optim.adam(loss, { lr = optim.cosine(o.lr, 0.05, 0.1), clip = 1 }) } },\n"
    "  encode = fn({ image = picture }, function(a)\n"
    "    local codes = nn.nearest_code(encode(a.image), book)\n"
    "    return { codes = reshape(codes, codes.shape[1], 1, 16, 16) }\n"
    "  end),\n"
    "  told = fn({ text = i32(batch, 16), labels = i32(batch, 32, 32), tokens = i32(batch, 1, 16, 16) }, "
    "function(a)\n"
    "    local words = nn.embedding('words', a.text, 1200, 8)\n"
    "    return { loss = mean(words * words) }\n"
    "  end),\n"
    "  strange = fn({ sound = f32(batch, 7) }, function(a) return { loss = mean(a.sound) } end),\n"
    "  large = fn({ image = f32(batch, 64, 64, 3) }, function(a) return { loss = mean(a.image) } end),\n"
    "}\n";

static char tiny_folder[64];

static inline void tiny_remove(void) {
  char command[100];
  snprintf(command, sizeof command, "rm -rf '%s'", tiny_folder);
  if (tiny_folder[0] && system(command) != 0) fputs("cannot remove the folder\n", stderr);
}

/* A path in the folder; valid until the eighth call from now. */
static inline const char *tiny_path(const char *name) {
  static char path[8][300];
  static int turn;
  if (!tiny_folder[0]) {
    strcpy(tiny_folder, "/tmp/nuwa-train-XXXXXX");
    if (!mkdtemp(tiny_folder)) abort();
    atexit(tiny_remove);
  }
  turn = (turn + 1) % 8;
  snprintf(path[turn], sizeof path[turn], "%s/%s", tiny_folder, name);
  return path[turn];
}

/* The plan of these functions, and with an option of the model of its training; NULL after a message. */
static inline Plan *tiny_plan(const char *const *function, int n, bool train, const char *lr) {
  Error err = {0};
  const char *path = tiny_path("tiny.lua");
  const Define rate = {"lr", lr};
  ModelOptions load = {.models_dir = MODELS_DIR, .define = &rate, .n_define = lr != NULL};
  CompileOptions o = {.function = function,
                      .n_function = n,
                      .train = train,
                      .isa = isa_best(),
                      .threads = 2};
  Buffer bundle = {0};
  Plan *p = NULL;
  Model *m = file_write_all(path, tiny_text, strlen(tiny_text), &err) ? model_load(path, &load, &err) : NULL;
  if (m && compile_model(m, &o, &bundle, &err)) p = plan_read(bundle.data, bundle.len, "tiny", &err);
  if (!p) TEST_FAIL_("%s", err.text);
  buffer_done(&bundle);
  model_free(m);
  return p;
}

/* Eight things. */
static inline const Dataset *tiny_data(void) {
  static Dataset *d;
  Error err = {0};
  if (!d) d = dataset_open("world:things=8", &(DatasetOptions){0}, &err);
  if (!d) TEST_FAIL_("%s", err.text);
  return d;
}

#endif
