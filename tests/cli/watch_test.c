/* What a user sees of a training while it runs and afterwards: pictures and counts in its log. */
#include <sys/stat.h>

#include "media/image.h"
#include "media/metrics_log.h"
#include "tests/cli/commands.h"

/* Reconstructs exactly, with codes 5 alone, of 8; draws squares of noise without inputs; and has what is not to be shown: a
 * picture of inputs that no data have, one of params that are not trained, and one that is no picture. */
static const char model[] =
    "local optim = require 'optim'\n"
    "local image = f32(batch, 32, 32, 3)\n"
    "local w, other = param('w', f32(3), { normal = 1 }), param('other', f32(3), { normal = 1 })\n"
    "local loss = fn({ image = image }, function(a) return { loss = mean((a.image - w) * (a.image - w)) } end)\n"
    "return module {\n"
    "  codebook = 8,\n"
    "  reconstruct = fn({ image = image }, function(a)\n"
    "    return { image = a.image + 0 * w, codes = cast(0 * reshape(mean(a.image, { 1, 2, 3 }), batch, 1, 1, 1) + 5, i32) } end),\n"
    "  draw = fn({}, function() return { image = uniform(f32(batch, 4, 4, 1), 'z') * 2 - 1 + 0 * mean(w) } end),\n"
    "  mean = fn({ image = image }, function(a) return { image = a.image * 0 + w } end),\n"
    "  hidden = fn({ z = f32(batch, 4) }, function(a) return { image = reshape(a.z, batch, 2, 2, 1) } end),\n"
    "  untrained = fn({ image = image }, function(a) return { image = a.image * other } end),\n"
    "  flat = fn({ image = image }, function(a) return { image = reshape(a.image, batch, 3072) } end),\n"
    "  evaluate = loss,\n"
    "  train = { { 'main', optim.sgd(loss, { lr = 0.1 }), average = 0.5 } },\n"
    "}\n";

#define TRAIN "train shown.lua --data world:things=4 --batch 4 --steps 6 --eval 2 --eval-batches 1 "

static void make_model(void) {
  open_folder();
  write_text("shown.lua", model);
}

static bool read_picture(const char *name, Image *out) {
  char path[200];
  Error err;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  if (image_read(path, out, &err)) return true;
  TEST_FAIL_("%s", err.text);
  return false;
}

TEST("an evaluation logs pictures of fixed examples: what goes in above what comes out, and drawings") {
  Image a = {0}, b = {0};
  make_model();
  EXPECT_STATUS(0, TRAIN "--log log --out w", "reconstruct.codes.used 1 ");
  expect_shell("test \"$(ls log/pictures | tr '\\n' ' ')\" = 'draw.image-00000002.png draw.image-00000004.png draw.image-00000006.png "
               "mean.image-00000002.png mean.image-00000004.png mean.image-00000006.png "
               "reconstruct.image-00000002.png reconstruct.image-00000004.png reconstruct.image-00000006.png '");
  REQUIRE(read_picture("log/pictures/reconstruct.image-00000004.png", &a), "");
  REQUIRE(a.width == 8 * 64 + 9 * 2 && a.height == 2 * 64 + 3 * 2, "%d x %d", a.width, a.height);
  size_t row = (size_t)a.width * 3, half = 66 * row; /* a picture and its gap */
  EXPECT(memcmp(a.rgb + 2 * row, a.rgb + 2 * row + half, 64 * row) == 0, "the lower row is the upper one");
  EXPECT(memcmp(a.rgb + 10 * row + 6, a.rgb + 10 * row + 6 + 66 * 3, 64 * 3) != 0, "examples differ");
  expect_shell("cd log/pictures && cmp reconstruct.image-00000002.png reconstruct.image-00000006.png && "
               "cmp draw.image-00000002.png draw.image-00000006.png && ! cmp -s mean.image-00000002.png mean.image-00000006.png");
  REQUIRE(read_picture("log/pictures/draw.image-00000002.png", &b), "");
  EXPECT(b.width == 530 && b.height == 68, "%d x %d", b.width, b.height);
  EXPECT(b.rgb[(10 * 530 + 10) * 3] == b.rgb[(10 * 530 + 10) * 3 + 2], "grey");
  image_done(&a), image_done(&b);
}

TEST("codes are counted over 64 examples, and TensorBoard's file has the counts and the pictures") {
  make_model();
  expect_shell("rm -rf log && nuwa " TRAIN "--log log");
  expect_shell("test $(grep -c '\"reconstruct.codes.used\": 1, \"reconstruct.codes.perplexity\": 1}' log/metrics.jsonl) = 3");
  expect_shell("test $(grep -ac 'reconstruct.codes' log/events.out.tfevents.nuwa) -ge 3 && grep -aq 'draw.image' log/events.out.tfevents.nuwa");
}

TEST("showing changes nothing of the training, and a resumed run shows what an uninterrupted one does") {
  make_model();
  expect_shell("rm -rf log && nuwa " TRAIN "--out plain && nuwa " TRAIN "--log log --out logged --checkpoint whole.ckpt && cmp plain logged");
  expect_shell("nuwa " TRAIN "--log part --checkpoint part.ckpt --every 3 --stop 3 && nuwa " TRAIN "--log part --checkpoint part.ckpt --resume && "
               "cmp log/metrics.jsonl part/metrics.jsonl && diff -r log/pictures part/pictures");
}

TEST("averages are what is shown, and --raw shows the params") {
  Image average = {0}, raw = {0};
  make_model();
  expect_shell("rm -rf log raw && nuwa " TRAIN "--log log && nuwa " TRAIN "--log raw --raw");
  expect_shell("cd log/pictures && for p in *; do echo $p; done | grep -c mean | grep -qx 3");
  REQUIRE(read_picture("log/pictures/mean.image-00000002.png", &average) && read_picture("raw/pictures/mean.image-00000002.png", &raw), "");
  size_t below = ((size_t)average.width * 70 + 10) * 3; /* in the lower row */
  EXPECT(memcmp(average.rgb + below, raw.rgb + below, 3) != 0, "");
  image_done(&average), image_done(&raw);
}

TEST("a run is not written over the log of another; --resume goes on with it, from the start where no checkpoint is") {
  make_model();
  expect_shell("rm -rf log && nuwa " TRAIN "--log log && cp log/metrics.jsonl first");
  EXPECT_STATUS(1, TRAIN "--log log", "log holds the log of a run already: resume that run, or name another folder, or remove it");
  expect_shell("cmp log/metrics.jsonl first");
  expect_shell("nuwa " TRAIN "--log log --checkpoint none.ckpt --resume && cmp log/metrics.jsonl first");
}

TEST_MAIN()
