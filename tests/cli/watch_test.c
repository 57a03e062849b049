/* What a user sees of a training while it runs and afterwards: pictures and counts in its log, a page, a bar. */
#include <sys/stat.h>

#include "media/image.h"
#include "media/metrics_log.h"
#include "tests/cli/commands.h"

/* Reconstructs exactly, with codes 5 alone, of 8; draws squares of noise without inputs; and has what is not to be shown: a
 * picture of inputs that no data have, one of params that are not trained, and one that is no picture. */
static const char model[] =
    "local optim, o = require 'optim', options { note = '' }\n"
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
  setenv("NUWA", NUWA, 1);
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

TEST("a model without `evaluate` shows what it draws; one with nothing to show is refused") {
  make_model();
  expect_shell("sed '/evaluate/d' shown.lua >draws.lua && rm -rf log && sed '/reconstruct/,/draw/d; /mean =/d; /evaluate/d' shown.lua >silent.lua");
  EXPECT_STATUS(0, "train draws.lua --data world:things=4 --batch 4 --steps 4 --eval 2 --log log", "step 2  reconstruct.codes.used 1 ");
  expect_shell("test $(ls log/pictures | grep -c draw.image) = 2 && ! grep -q val.loss log/metrics.jsonl");
  EXPECT_STATUS(2, "train silent.lua --data world:things=4 --batch 4 --steps 4 --eval 2 --log none", "--eval needs a function in its module:  evaluate = loss");
  EXPECT_STATUS(2, "train draws.lua --data world:things=4 --batch 4 --steps 4 --eval 2", "--eval needs a function in its module:  evaluate = loss");
}

TEST("a run is not written over the log of another; --resume goes on with it, from the start where no checkpoint is") {
  make_model();
  expect_shell("rm -rf log && nuwa " TRAIN "--log log && cp log/metrics.jsonl first");
  EXPECT_STATUS(1, TRAIN "--log log", "log holds the log of a run already: resume that run, or name another folder, or remove it");
  expect_shell("cmp log/metrics.jsonl first");
  expect_shell("nuwa " TRAIN "--log log --checkpoint none.ckpt --resume && cmp log/metrics.jsonl first");
}

/* How often `part` is in a file of the folder. */
static int count_in(const char *name, const char *part) {
  char path[200];
  size_t len;
  Error err;
  int n = 0;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  char *text = file_read(path, &len, &err);
  for (const char *p = text; p && (p = strstr(p, part)); p += strlen(part)) n++;
  mem_free(text);
  return n;
}

TEST("--report writes one page of curves, pictures over time, use of codes, times, recipe, command and data") {
  make_model();
  EXPECT_STATUS(0, TRAIN "-D 'note=</pre><b>' --report page.html", "step 6/6");
  EXPECT(count_in("page.html", "<p class=\"lead\">finished: 6 steps (") == 1, "");
  EXPECT(count_in("page.html", "<svg viewBox=\"0 0 480 250\"") >= 5, "%d plots", count_in("page.html", "<svg viewBox"));
  EXPECT(count_in("page.html", "val.loss <b>") == 1 && count_in("page.html", "held.loss <b>") == 1, "");
  EXPECT(count_in("page.html", "src=\"data:image/png;base64,") == 9, "three evaluations of three functions");
  EXPECT(count_in("page.html", "<figcaption>step 4</figcaption>") == 3, "");
  EXPECT(count_in("page.html", "<figcaption>reconstruct.codes</figcaption>") == 1, "");
  EXPECT(count_in("page.html", "train.main: ") == 1 && count_in("page.html", "over 6 runs") == 1, "");
  EXPECT(count_in("page.html", "<dt>source_sha256</dt>") == 1 && count_in("page.html", "<dt>machine</dt>") == 1, "");
  EXPECT(count_in("page.html", "nuwa train shown.lua --data world:things=4 ") == 1 && count_in("page.html", "&#39;note=&lt;/pre&gt;&lt;b&gt;&#39; --report page.html") == 1, "");
  EXPECT(count_in("page.html", "world:things=4: endless") == 1, "");
  EXPECT(count_in("page.html", "</html>") == 1 && count_in("page.html", "http:") == 0 && count_in("page.html", "https:") == 0, "");
}

TEST("the page of a run that was stopped and resumed goes on, and says how the run stands") {
  make_model();
  EXPECT_STATUS(0, TRAIN "--checkpoint r.ckpt --report r.html --stop 4", "");
  EXPECT(count_in("r.html", "stopped after step 4 of 6") == 1 && count_in("r.html", "data:image/png") == 6, "");
  EXPECT_STATUS(1, TRAIN "--report r.html", "r.html.log holds the log of a run already");
  EXPECT(count_in("r.html", "data:image/png") == 6, "the page is still there");
  EXPECT_STATUS(0, TRAIN "--checkpoint r.ckpt --resume --report r.html", "");
  EXPECT(count_in("r.html", "finished: 6 steps") == 1 && count_in("r.html", "data:image/png") == 9, "");
  EXPECT(count_in("r.html", "over 2 runs") == 1, "times are of what ran since");
}

TEST("the page is there and whole while a run goes on, and after it was killed") {
  make_model();
  expect_shell("\"$NUWA\" train shown.lua --data world:things=4 --batch 4 --steps 100000 --eval 20 --eval-batches 1 --report k.html & "
               "for i in $(seq 200); do grep -qs data:image k.html && break; sleep 0.05; done; kill -9 $!; wait $! || true");
  EXPECT(count_in("k.html", "<p class=\"lead\">running: step ") == 1 && count_in("k.html", " of 100000, ") == 1 && count_in("k.html", "</html>") == 1, "");
  EXPECT(count_in("k.html", "data:image/png") >= 3, "");
}

/* Runs on a terminal of so many columns; `output` has what came to it, each drawing of the bar on a line of its own. */
static void run_on_terminal(const char *arguments, int columns) {
  char command[700];
  snprintf(command, sizeof command, "script -qec 'stty cols %d; \"$NUWA\" %s' /dev/null | tr '\r' '\n'", columns, arguments);
  expect_shell(command);
}

TEST("on a terminal there is a bar with losses, rate and time left, within its columns: the least important goes first") {
  make_model();
  if (shell("command -v script") != 0) SKIP("no script(1)");
  const char *train = "train shown.lua --data world:things=4 --batch 4 --steps 2 --eval 2 --eval-batches 1 --out bar";
  run_on_terminal(train, 120);
  EXPECT_HAS(output, "[############            ]  step 1/2  loss 0.");
  EXPECT_HAS(output, "[########################]  step 2/2  loss 0.");
  EXPECT_HAS(output, " samples/s  0s left");
  EXPECT_HAS(output, "\nstep 2  val.loss 0.");
  run_on_terminal(train, 60);
  EXPECT(!strstr(output, "[#"), "no bar fits:\n%s", output);
  EXPECT_HAS(output, "step 2/2  loss 0.");
  EXPECT_HAS(output, " samples/s  0s left");
  run_on_terminal(train, 40);
  EXPECT(!strstr(output, "samples/s"), "%s", output);
  EXPECT_HAS(output, "step 2/2  loss 0.");
  EXPECT_HAS(output, "  0s left");
  EXPECT_STATUS(0, TRAIN, "step 6/6  loss 0.");
  EXPECT(!strchr(output, '\r') && !strstr(output, "[#"), "not on a terminal:\n%s", output);
}

TEST("the page of a run that failed says why, and there is one without evaluations") {
  make_model();
  write_text("fails.lua", "local optim = require 'optim'\nlocal w = param('w', f32(3), { normal = 1 })\n"
                          "local loss = fn({ image = f32(batch, 32, 32, 3), step = i32() }, function(a)\n"
                          "  return { loss = mean(w * w) + mean(a.image) + log(3.0 - cast(a.step, f32)) } end)\n"
                          "return module { train = { { 'main', optim.sgd(loss, { lr = 0.1 }) } } }\n");
  EXPECT_STATUS(1, "train fails.lua --data world:things=4 --batch 2 --steps 6 --report f.html", "training diverged");
  EXPECT(count_in("f.html", "stopped after step 2: step 3: &quot;loss&quot; of &quot;main&quot; is -inf") == 1, "");
  EXPECT(count_in("f.html", "<figcaption>loss</figcaption>") == 1, "");
}

TEST("a page is a file of its own") {
  make_model();
  EXPECT_STATUS(2, TRAIN "--report /dev/stdout", "--report /dev/stdout: must be a file");
  EXPECT_STATUS(2, TRAIN "--report same --out same", "--out and --report are both same");
  EXPECT_STATUS(1, TRAIN "--report none/page.html", "--report: ");
}

TEST_MAIN()
