/* models/metrics: what their authors' files must hold, and CLIP trained small.  bench/peers/metrics_check.py compares the
 * networks with PyTorch's. */
#include <math.h>

#include "runtime/base/safetensors.h"
#include "tests/cli/commands.h"

#define METRICS MODELS_DIR "/metrics/"
#define INSPECT(name, more) "inspect " METRICS name ".lua --models " MODELS_DIR " " more
#define PARAMS(name, function) INSPECT(name, "--fn " function " | grep -o 'param().*'")
#define SMALL_CLIP                                                                                                    \
  "-D size=32 -D patch=8 -D width=32 -D heads=2 -D layers=1 -D text_width=32 -D text_heads=2 -D text_layers=1 "       \
  "-D vocab=560 -D text_tokens=32 -D embed=16 -D most_pairs=16 "
#define TRAIN                                                                                                         \
  "train " METRICS "clip.lua --models " MODELS_DIR " " SMALL_CLIP                                                     \
  "--data world:single,things=8 --bpe merges --threads 1 "

/* A param as a function's IR declares it. */
static void expect_param(const char *name, const char *type) {
  char declared[200];
  snprintf(declared, sizeof declared, "name=\"%s\"", name);
  const char *at = strstr(output, declared), *end = at ? strchr(at, '\n') : NULL;
  char line[300] = "";
  if (at) snprintf(line, sizeof line, "%.*s", (int)(end - at), at);
  EXPECT(at && strstr(line, type), "%s is not %s: %s", name, type, at ? line : "it is not there");
}

TEST("Inception has the params of pytorch-fid's file") {
  EXPECT_STATUS(0, INSPECT("inception", ""), "params: 472 tensors, 23885392 elements");
  EXPECT_HAS(output, "features(image: f32[B,299,299,3]) -> features: f32[B,2048]");
  EXPECT_HAS(output, "logits(image: f32[B,299,299,3]) -> logits: f32[B,1008]");
  EXPECT_STATUS(0, PARAMS("inception", "logits"), "fc.bias");
  expect_param("Conv2d_1a_3x3.conv.weight", "f32[32,3,3,3]");
  expect_param("Mixed_5b.branch_pool.bn.running_var", "f32[32]");
  expect_param("Mixed_6c.branch7x7dbl_2.conv.weight", "f32[160,160,7,1]");
  expect_param("Mixed_7c.branch3x3dbl_3a.conv.weight", "f32[384,384,1,3]");
  expect_param("fc.weight", "f32[1008,2048]");
}

TEST("I3D has the params of pytorch-i3d's file") {
  EXPECT_STATUS(0, INSPECT("i3d", ""), "params: 287 tensors, 12711824 elements");
  EXPECT_HAS(output, "features(video: f32[B,16,224,224,3]) -> features: f32[B,1024]");
  EXPECT_STATUS(0, INSPECT("i3d", "-D s=27 -D size=64"), "logits(video: f32[B,27,64,64,3]) -> logits: f32[B,400]");
  EXPECT_STATUS(0, PARAMS("i3d", "logits"), "Conv3d_2b_1x1.bn.weight");
  expect_param("Conv3d_1a_7x7.conv3d.weight", "f32[64,3,7,7,7]");
  expect_param("Mixed_4e.b2b.bn.running_mean", "f32[64]");
  expect_param("Mixed_5c.b1b.conv3d.weight", "f32[384,192,3,3,3]");
  expect_param("logits.conv3d.weight", "f32[400,1024,1,1,1]");
  expect_param("logits.conv3d.bias", "f32[400]");
}

TEST("CLIP has the params of OpenAI's file, and is refused where the patches do not fill the picture") {
  EXPECT_STATUS(0, INSPECT("clip", ""), "params: 302 tensors, 151277313 elements");
  EXPECT_HAS(output, "image_features(image: f32[B,224,224,3]) -> features: f32[B,512]");
  EXPECT_HAS(output, "text_features(text: i32[B,77]) -> features: f32[B,512]");
  EXPECT_STATUS(0, PARAMS("clip", "loss"), "ln_final.weight");
  expect_param("visual.conv1.weight", "f32[768,3,32,32]");
  expect_param("visual.positional_embedding", "f32[50,768]");
  expect_param("visual.transformer.resblocks.11.attn.in_proj_weight", "f32[2304,768]");
  expect_param("visual.proj", "f32[768,512]");
  expect_param("transformer.resblocks.3.mlp.c_fc.bias", "f32[2048]");
  expect_param("text_projection", "f32[512,512]");
  expect_param("logit_scale", "f32[]");
  EXPECT_STATUS(1, INSPECT("clip", "-D patch=30"), "size 224 must be a multiple of patch, 30");
}

/* The param logit_scale of a file. */
static double scale_of(const char *name) {
  char path[100];
  Error err;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  Safetensors *s = safetensors_open(path, &err);
  const TensorView *v = s ? safetensors_find(s, "logit_scale") : NULL;
  double scale = v ? (double)*(const float *)v->data : NAN;
  safetensors_close(s);
  return scale;
}

static void make_merges(void) { EXPECT_STATUS(0, "data world:single,things=8 --bpe merges --vocab 560", ""); }

TEST("CLIP learns which caption is whose, its scale from 1 / 0.07 on") {
  make_merges();
  EXPECT_STATUS(0, TRAIN "-D lr=3e-3 --batch 16 --steps 30 --eval 30 --out clip.safetensors", "val.accuracy ");
  const char *at = strstr(output, "val.loss ");
  double loss = at ? atof(at + 9) : NAN, learnt = scale_of("clip.safetensors");
  EXPECT(loss < 2.0, "the loss is %g of log 16, 2.77", loss);
  EXPECT(fabs(learnt + log(0.07)) < 0.1 && fabs(learnt + log(0.07)) > 1e-3, "the scale is exp %g", learnt);
  EXPECT_STATUS(0, TRAIN "-D lr=1e-5 --batch 16 --steps 1 --weights clip.safetensors --out next.safetensors", "");
  EXPECT(fabs(scale_of("next.safetensors") - learnt) < 1e-4, "%g after %g", scale_of("next.safetensors"), learnt);
}

LONG_TEST("a batch of more pairs than CLIP's `most_pairs` ends the training") {
  make_merges();
  EXPECT_STATUS(1, TRAIN "--batch 17 --steps 1 --out none.safetensors", "step 1: \"grad_norm\" of \"main\" is nan");
}

TEST_MAIN()
