/* A small model with everything a bundle can hold: compiled once, as bytes. */
#ifndef NUWA_FUZZ_MODEL_H
#define NUWA_FUZZ_MODEL_H

#include "frontend/compile/compile.h"
#include "tests/unit/frontend/load.h"

static const char fuzz_model[] =
  "local optim = require 'optim'\n"
  "local w = param('w', f32(5, 8), { normal = 0.3 })\n"
  "local v = param('v', f32(8, 5), { normal = 0.3 })\n"
  "local start = param('start', f32(8), { normal = 0.3 })\n"
  "local function draw(x, c)\n"
  "  local e = shift(gather(w, x), { w = -1 }, start) + c\n"
  "  local y = attend(e, e, e, { heads = 2, extent = { s = 1, h = 3, w = 3 }, causal = 'raster' })\n"
  "  return matmul(e + y, v)\n"
  "end\n"
  "local inputs = { x = i32(batch, 1, 2, 3), c = f32(batch, 1, 1, 1, 8) }\n"
  "local f = fn(inputs, function(p) return { logits = draw(p.x, p.c * p.c) } end)\n"
  "local loss = fn(inputs, function(p) return { loss = mean(cross_entropy(draw(p.x, p.c), p.x)) } end)\n"
  "return module {\n"
  "  draw = decode(f, { tokens = 'x', logits = 'logits' }), loss = loss,\n"
  "  train = { { 'main', optim.adam(loss, { lr = 1e-3, clip = 1 }) } },\n"
  "}\n";

/* Appends the bundle of the model: its decode, its loss and, if asked for, the entry of its training. */
static inline bool fuzz_bundle(bool with_train, Buffer *out, Error *err) {
  Model *m = load_with(fuzz_model, (ModelOptions){.models_dir = MODELS_DIR}, err);
  CompileOptions o = {.train = with_train, .isa = ISA_PLAIN, .threads = 1};
  bool ok = m && compile_model(m, &o, out, err);
  model_free(m);
  return ok;
}

#endif
