/* All tasks of one model: text, sketches, pictures and clips in; pictures, clips and captions out, as a user meets
 * them. */
#include <math.h>

#include "media/clip.h"
#include "media/clip_write.h"
#include "media/image.h"
#include "runtime/base/safetensors.h"
#include "tests/cli/commands.h"

#define WORLD "--data world:single,clips,size=32,things=8 "
#define SMALL                                                                                                        \
  "-D size=32 -D multipliers=1,1,1,1 -D channels=8 -D blocks=1 -D attention= -D middle_attention=false -D latent=8 " \
  "-D width=4 "
#define CODES "-D codebook=16 -D norm=place -D sees=patch --batch 2 --steps 2 "
#define TASKS "text_image,text_video,none_image,none_video,sketch_image,sketch_video,image_text,video_text"
#define GENERATE "generate --models models --weights kit.st "
#define CAPTION "--text 'a fox at the left on a red background' "

/* kit.st with its codecs image.st and labels.st beside it; scene/000000.png, .labels.png: a picture,
 * scene/000000.webp, .maps: a clip, and what they show. */
static bool have_kit(void) {
  static bool has;
  if (has) return true;
  has =
      nuwa("train models/vqgan.lua --models models " SMALL CODES WORLD "--out image.st") == 0 &&
      nuwa("train models/vqgan.lua --models models -D of=labels -D classes=9 " SMALL CODES WORLD "--out labels.st") ==
          0 &&
      nuwa("data world:single,size=32,things=8 --out scene --count 2 --maps --bpe merges --vocab 560") == 0 &&
      nuwa("data world:clips,size=32,things=8 --out scene --count 2 --maps --clips webp") == 0 &&
      nuwa(
          "train models/nuwa.lua --models models -D tasks=" TASKS
          " -D task_weights=1,0,0,0,0,1,0,1 -D grid_s=8 -D grid_h=4 "
          "-D grid_w=4 -D dim=16 -D heads=2 -D encoder_layers=1 -D decoder_layers=1 -D codebook=16 -D text_tokens=24 "
          "-D vocab=560 -D copy=true -D null_text=0.5 -D noise=0.5 --bpe merges --tokens image=image.st --tokens "
          "labels=labels.st " WORLD "--batch 2 --steps 2 --out kit.st") == 0;
  EXPECT(has, "%s", output);
  return has;
}

static Safetensors *open_tokens(const char *name) {
  char path[200];
  Error err;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  Safetensors *w = safetensors_open(path, &err);
  EXPECT(w, "%s", err.text);
  return w;
}

TEST("weights to begin with need no examples: data may lack what the steps would read") {
#define OF_CLIPS                                                                                                     \
  "train " MODELS_DIR "/metrics/features.lua --models models -D size=32 -D frames=5 -D channels=2 -D levels=2 "       \
  "-D features=4 -D vocab=560 --bpe merges --data world:single,size=32,things=8 --batch 2 "
  REQUIRE(have_kit(), "");
  EXPECT_STATUS(2, OF_CLIPS "--steps 1 --out early.st", "[5, 32, 32, 3]");
  EXPECT_STATUS(0, OF_CLIPS "--steps 0 --out early.st", "");
}

#define PATCHES                                                                                                      \
  "train models/vqgan.lua --models models -D size=32 -D patch=4 -D multipliers=1,1 -D channels=8 -D groups=2 "       \
  "-D blocks=1 -D attention= -D middle_attention=false -D latent=8 -D norm=place -D sees=patch --batch 2 --steps 2 "

TEST("an autoencoder of patches learns what its pixels show; trained on, its decoder alone moves, and codes stay") {
  open_folder();
  EXPECT_STATUS(0, PATCHES "-D width=4 -D codebook=16 -D label_weight=0.5 -D classes=9 " WORLD "--out patches.st --json", "loss");
  EXPECT_STATUS(0, PATCHES "-D width=4 -D codebook=16 -D part=decoder --weights patches.st --ignore 'loss.*' -D label_weight=0 -D classes=0 " WORLD
                "--out sharper.st", "");
  Safetensors *a = open_tokens("patches.st"), *b = open_tokens("sharper.st");
  int same = 0, moved = 0;
  for (int i = 0; a && b && i < safetensors_count(b); i++) {
    const TensorView *y = safetensors_get(b, i), *x = safetensors_find(a, y->name);
    bool is_decoder = strncmp(y->name, "decoder", 7) == 0 || strncmp(y->name, "post_quant", 10) == 0;
    EXPECT(x && (memcmp(x->data, y->data, y->bytes) == 0 || is_decoder), "%s", y->name);
    same += !is_decoder;
    moved += x && memcmp(x->data, y->data, y->bytes) != 0;
  }
  EXPECT(same > 10 && moved > 10, "%d, %d", same, moved);
  if (a) safetensors_close(a);
  if (b) safetensors_close(b);
  EXPECT_STATUS(1, PATCHES "-D label_weight=1 " WORLD, "label_weight needs classes");
  EXPECT_STATUS(1, "inspect models/vqgan.lua -D size=36 -D patch=4 -D multipliers=1,1", "size 36 must be a multiple of 8");
}

#define DECODER(start) "train models/vqgan.lua --models models " SMALL CODES WORLD "-D part=decoder --weights " start " "

/* What `grep` finds of the metadata of a weights file: whose codes it makes. */
static bool names_codes_of(const char *name, const char *of) {
  char command[400];
  snprintf(command, sizeof command, "grep -aq \"\\\"codes_sha256\\\":\\\"$(sha256sum <%s | cut -c1-64)\\\"\" %s", of, name);
  return shell(command) == 0;
}

TEST("an autoencoder whose decoder was trained on goes with the models that draw its codes") {
  REQUIRE(have_kit(), "");
  EXPECT_STATUS(0, DECODER("image.st") "--out sharper.st", "");
  EXPECT_STATUS(0, DECODER("sharper.st") "--seed 3 --out sharpest.st", "");
  EXPECT(names_codes_of("sharper.st", "image.st") && names_codes_of("sharpest.st", "image.st"), "%s", output);
  EXPECT_STATUS(0, GENERATE CAPTION "--task text_image -o first.png --tokens-out first.st", "");
  EXPECT_STATUS(0, GENERATE CAPTION "--task text_image -o other.png --tokens image=sharpest.st --tokens-out other.st", "");
  EXPECT(shell("cmp first.st other.st") == 0 && shell("cmp -s first.png other.png") == 1, "the same codes, other pixels");
  EXPECT_STATUS(0, GENERATE "--replay other.png --tokens image=sharpest.st -o again.png", "");
  EXPECT(shell("cmp other.png again.png") == 0, "%s", output);
  EXPECT_STATUS(1, GENERATE "--replay other.png -o again.png", "vq_sha256");
}

TEST("models trained on from the codes of either autoencoder name those, and find the one that is there") {
  REQUIRE(have_kit() && shell("test -e sharper.st") == 0, "");
  EXPECT_STATUS(0, "train models/nuwa.lua --models models --weights kit.st --tokens image=sharper.st --tokens labels=labels.st " WORLD "--batch 2 --steps 1 --out on.st", "");
  EXPECT_STATUS(0, "generate --models models --weights on.st --tokens image=image.st " CAPTION "--task text_image -o on.png", "");
  REQUIRE(shell("mkdir -p alone && cp on.st sharper.st labels.st alone && cp sharpest.st alone/zz.st") == 0, "%s", output);
  EXPECT_STATUS(0, "generate --models models --weights alone/on.st " CAPTION "--task text_image -o found.png", "");
  EXPECT_STATUS(0, "generate --models models --weights on.st --tokens image=sharper.st " CAPTION "--task text_image -o said.png", "");
  EXPECT(shell("cmp found.png said.png") == 0, "of several the first by name");
}

#define OTHER_CODES                                                                                                  \
  "train models/vqgan.lua --models models " SMALL WORLD "-D part=decoder -D norm=place -D sees=patch --batch 2 "       \
  "--steps 1 --weights image.st --fresh 'quantize.*' "

TEST("codes that moved are others: with all of it trained, or rounded where they were not") {
  REQUIRE(have_kit(), "");
  EXPECT_STATUS(0, "train models/vqgan.lua --models models " SMALL CODES WORLD "--weights image.st --out moved.st", "");
  EXPECT_STATUS(1, GENERATE CAPTION "--task text_image --tokens image=moved.st -o no.png", "they were trained with vq_sha256 \"");
  EXPECT_STATUS(0, OTHER_CODES "-D codebook=64 --out more.st", "");
  EXPECT_STATUS(0, OTHER_CODES "-D codebook=4 --out fewer.st", "");
  EXPECT(shell("grep -aq codes_sha256 more.st fewer.st") == 1, "other codes under the old ones' name");
  EXPECT_STATUS(0, DECODER("image.st") "--store bf16 --out rounded.st", "");
  EXPECT_STATUS(1, GENERATE CAPTION "--task text_image --tokens image=rounded.st -o no.png", "they were trained with vq_sha256 \"");
  EXPECT_STATUS(0, DECODER("rounded.st") "--store bf16 --out finer.st", "");
  EXPECT(names_codes_of("finer.st", "rounded.st"), "%s", output);
  EXPECT(shell("test -e no.png") == 1, "a picture of the wrong codes");
}

TEST("captions of pictures are learned from clips that stand still alone where that is asked for") {
  REQUIRE(have_kit(), "");
#define MOVING                                                                                                       \
  "train models/nuwa.lua --models models -D tasks=text_video,image_text -D grid_s=8 -D grid_h=4 -D grid_w=4 -D dim=16 " \
  "-D heads=2 -D encoder_layers=1 -D decoder_layers=1 -D codebook=16 -D text_tokens=24 -D vocab=560 --bpe merges "   \
  "--tokens image=image.st --data world:clips,size=32,things=8 --batch 2 --steps 1 "
  EXPECT_STATUS(0, MOVING "--log moving.log", "");
  EXPECT_STATUS(0, MOVING "-D describe=still --log still.log", "");
  expect_shell("grep -q '\"image_text\": [1-9]' moving.log/metrics.jsonl && grep -q '\"image_text\": 0[,}]' still.log/metrics.jsonl");
}

static const struct Given {
  const char *task, *args, *out;   /* where the drawings are looked at again: the file */
} drawn[] = {
    {"T2I", CAPTION "--task text_image"},
    {"S2I", "--sketch scene/000000.labels.png --task sketch_image"},
    {"I2I", "--image scene/000000.png --mask lower --task none_image", "lower.png"},
    {"TI2I", "--image scene/000000.png --mask center " CAPTION "--task text_image"},
    {"T2V", CAPTION "--task text_video --guidance 2"},
    {"S2V", "--sketch scene/000001.maps --guidance 3"},
    {"V2V", "--video scene/000000.webp --given-frames 3", "three.webp"},
    {"V2V from a picture", "--image scene/000000.png --task none_video"},
    {"TV2V", "--video scene/000000.webp --given-frames 1 " CAPTION},
    {"TV2V, a part", "--video scene/000000.webp --mask 8,8,16,16 " CAPTION, "box.webp"},
};

TEST("each of the eight tasks gives the same tokens in raster order as in waves") {
  REQUIRE(have_kit(), "");
  for (int i = 0; i < COUNT_OF(drawn); i++) {
    char command[400];
    for (int k = 0; k < 2; k++) {
      snprintf(command, sizeof command, GENERATE "%s --seed 5 --count 2 --order %s --tokens-out %s.st %s %s", drawn[i].args,
               k ? "raster" : "wavefront", k ? "raster" : "wave", drawn[i].out ? "-o" : "", drawn[i].out ? drawn[i].out : "");
      EXPECT_STATUS(0, command, "");
    }
    Safetensors *a = open_tokens("wave.st"), *b = open_tokens("raster.st");
    const TensorView *x = a ? safetensors_get(a, 0) : NULL, *y = b ? safetensors_get(b, 0) : NULL;
    EXPECT(x && y && x->bytes == y->bytes && memcmp(x->data, y->data, x->bytes) == 0, "%s", drawn[i].task);
    safetensors_close(a);
    safetensors_close(b);
  }
}

/* kit.st with a gate of copying open: what is at a place comes from the left of it, a frame before. */
static bool write_moving(const char *name) {
  enum { FROM_THE_LEFT = 3, WAYS = 9 };
  char path[200];
  Error err = {0};
  float open[WAYS] = {0};
  int n_meta;
  Safetensors *w = open_tokens("kit.st");
  int n = w ? safetensors_count(w) : 0;
  TensorView *view = calloc((size_t)n + 1, sizeof *view);
  bool has = false;
  open[FROM_THE_LEFT] = 100;
  for (int i = 0; i < n; i++) {
    view[i] = *safetensors_get(w, i);
    if (strcmp(view[i].name, "decoder.copy.gates.bias") != 0 || view[i].bytes != sizeof open) continue;
    view[i].data = open;
    has = true;
  }
  snprintf(path, sizeof path, "%s/%s", folder, name);
  const MetadataEntry *meta = w ? safetensors_all_metadata(w, &n_meta) : NULL;
  bool ok = has && safetensors_write(path, view, n, meta, n_meta, &err);
  EXPECT(ok, "%s", err.text);
  safetensors_close(w);
  free(view);
  return ok;
}

TEST("a clip whose codes are copied from the left moves to the right, from frame to frame") {
  enum { FRAMES = 8, H = 4, W = 4 };
  REQUIRE(have_kit() && write_moving("moving.st"), "");
  EXPECT_STATUS(0, "generate --models models --weights moving.st --video scene/000000.webp --given-frames 1 --task none_video "
                "-o moving.gif --tokens-out moves.st", "");
  Safetensors *w = open_tokens("moves.st");
  const TensorView *v = w ? safetensors_get(w, 0) : NULL;
  REQUIRE(v && v->bytes == sizeof(int32_t[FRAMES][H][W]), "");
  const int32_t (*code)[H][W] = v->data;
  for (int s = 1; s < FRAMES; s++)
    for (int h = 0; h < H; h++)
      for (int x = 1; x < W; x++) EXPECT(code[s][h][x] == code[s - 1][h][x - 1], "frame %d, row %d, column %d", s, h, x);
  safetensors_close(w);
}

/* Frames of a clip of the folder, or a picture as one: [*out_n, 32, 32, 3]. */
static uint8_t *read_frames(const char *name, int *out_n) {
  enum { BYTES = 32 * 32 * 3, MOST = 9 };
  char path[200];
  FileMap map = {0};
  Error err = {0};
  Image frame = {0};
  uint8_t *rgb = calloc(MOST, BYTES);
  snprintf(path, sizeof path, "%s/%s", folder, name);
  *out_n = 0;
  if (!rgb || !file_map(path, &map, &err)) TEST_FAIL_("%s", err.text);
  Clip *c = file_has_ending(name, ".png") ? NULL : clip_open(map.data, map.len, path, (ClipRate){0}, &err);
  while (*out_n < MOST && (c ? clip_next(c, &frame, &err) : !*out_n && image_read(path, &frame, &err))) {
    EXPECT(frame.width == 32 && frame.height == 32, "%d x %d", frame.width, frame.height);
    memcpy(rgb + BYTES * (*out_n)++, frame.rgb, BYTES);
    image_done(&frame);
  }
  clip_close(c);
  file_unmap(&map);
  return rgb;
}

static bool is_unknown(int task, int frame, int x, int y) {
  if (task == 0) return y >= 16;                                              /* lower */
  if (task == 1) return frame >= 3;                                           /* --given-frames 3 */
  return x >= 8 && x < 24 && y >= 8 && y < 24;                                /* the box */
}

TEST("what is known came out as it went in, and the rest did not") {
  static const char *const made[] = {"lower-0002.png", "three-0002.webp", "box-0002.webp"};
  REQUIRE(have_kit() && shell("test -e box-0002.webp") == 0, "the orders' sentence makes the drawings");
  for (int t = 0; t < COUNT_OF(made); t++) {
    int n, m, changed = 0, kept = 0;
    uint8_t *before = read_frames(t ? "scene/000000.webp" : "scene/000000.png", &n), *after = read_frames(made[t], &m);
    EXPECT(n == m && n == (t ? 8 : 1), "%d and %d frames", n, m);
    for (int i = 0; i < n * 32 * 32; i++) {
      bool unknown = is_unknown(t, i / 1024, i % 32, i / 32 % 32), same = memcmp(before + 3 * i, after + 3 * i, 3) == 0;
      EXPECT(unknown || same, "%d: frame %d, pixel %d, %d", t, i / 1024, i % 32, i / 32 % 32);
      changed += unknown && !same;
      kept += !unknown;
    }
    EXPECT(changed > 100 && kept > 100, "%d changed, %d kept", changed, kept);
    free(before);
    free(after);
  }
}

TEST("a recipe in each kind of file draws the same bytes again, and refuses other input files") {
  REQUIRE(have_kit(), "");
  static const char *const endings[] = {"gif", "webp", "mp4"};
  char command[400];
  for (int i = 0; i < COUNT_OF(endings); i++) {
    snprintf(command, sizeof command,
             GENERATE CAPTION "--task text_video --seed 7 --count 2 --top-k 5 --temperature 0.9 -o r.%s", endings[i]);
    EXPECT_STATUS(0, command, "");
    snprintf(command, sizeof command, "generate --models models --replay r-0002.%s -o again.%s", endings[i],
             endings[i]);
    EXPECT_STATUS(0, command, "");
    snprintf(command, sizeof command, "cmp r-0002.%s again.%s", endings[i], endings[i]);
    expect_shell(command);
  }
  expect_shell("cp scene/000000.labels.png s.png && cp -r scene/000000.maps s.maps");
  EXPECT_STATUS(0, GENERATE "--sketch s.png --precision bf16 -o s1.png", "");
  EXPECT_STATUS(0, GENERATE "--replay s1.png -o s2.png", "");
  expect_shell("cmp s1.png s2.png");
  EXPECT_STATUS(0, GENERATE "--sketch s.maps -o s1.gif", "");
  expect_shell("cp scene/000001.labels.png s.png && cp s.maps/003.labels.png s.maps/004.labels.png");
  EXPECT_STATUS(1, GENERATE "--replay s1.png -o s3.png", "sketch_sha256");
  EXPECT_STATUS(1, GENERATE "--replay s1.gif -o s3.gif", "sketch_sha256");
  expect_shell("mkdir -p far && cp scene/000000.labels.png far/moved.png");
  EXPECT_STATUS(0, GENERATE "--replay s1.png --sketch far/moved.png -o s4.png", "");
  expect_shell("cmp s1.png s4.png");
  EXPECT_STATUS(2, GENERATE "--replay r-0001.gif --seed 8 -o s3.gif", "--seed");
  EXPECT_STATUS(2, GENERATE "--replay r-0001.gif " CAPTION "-o s3.gif", "--text");
  EXPECT_STATUS(0, GENERATE "--replay r-0001.gif -o frames.png", "");
  expect_shell("test -e frames-0008.png && ! test -e frames-0009.png");
  EXPECT_STATUS(0, GENERATE CAPTION "--task text_image --count 3 --sheet many.png", "");
  EXPECT_STATUS(1, GENERATE "--replay many.png -o s3.png", "holds no recipe");
  EXPECT_STATUS(1, GENERATE "--replay scene/000000.png -o s3.png", "holds no recipe");
  EXPECT_STATUS(1, GENERATE "--replay kit.st -o s3.png", "holds no recipe");
  expect_shell("! test -e s3.png && ! test -e s3.gif");
}

TEST("captions are drawn of pictures and clips, each word with its probability") {
  REQUIRE(have_kit(), "");
  EXPECT_STATUS(0, "describe scene/000000.png --models models --weights kit.st", "");
  EXPECT_STATUS(0, "describe scene/000000.webp --models models --weights kit.st --json", "{\"caption\": \"");
  EXPECT_HAS(output, ", \"probability\": ");
  EXPECT_HAS(output, "\"slots\": {");
  EXPECT_STATUS(0, "describe scene/000000.png --models models --weights kit.st --temperature 1 --seed 3", "");
  EXPECT_STATUS(1, "describe scene/000000.png --models models --weights kit.st --task video_text", "scene/000000.png");
  EXPECT_STATUS(1, "describe kit.st --models models --weights kit.st", "kit.st");
  EXPECT_STATUS(1, "describe none.png --models models --weights kit.st", "none.png");
  EXPECT_STATUS(2, "describe scene/000000.png --seed 3", "--seed");
}

TEST("a preview shows every step, and the last one is the drawing") {
  REQUIRE(have_kit(), "");
  EXPECT_STATUS(0, GENERATE "--video scene/000000.webp --given-frames 6 --count 2 -o p.webp --preview steps --json",
                "\"steps\": ");
  int steps = atoi(strstr(output, "\"steps\": ") + 9), n;
  char command[200], path[200];
  snprintf(command, sizeof command, "test $(ls steps | wc -l) = %d && test -e steps/step-%04d.png", steps, steps);
  expect_shell(command);
  Image last = {0};
  Error err;
  snprintf(path, sizeof path, "%s/steps/step-%04d.png", folder, steps);
  uint8_t *clip = read_frames("p-0001.webp", &n);
  bool ok = image_read(path, &last, &err) && n == 8;
  EXPECT(ok && last.width == 8 * 65 + 1, "%s", err.text);
  /* The sheet is twice as large, with a gap of one pixel; the frames drawn are those of the clip. */
  for (int y = 0; ok && y < 32; y++)
    for (int x = 0; x < 32; x++)
      EXPECT(memcmp(last.rgb + 3 * ((1 + 2 * y) * last.width + 1 + 7 * 65 + 2 * x),
                    clip + 3 * (7 * 1024 + y * 32 + x), 3) == 0,
             "%d %d", x, y);
  image_done(&last);
  free(clip);
  EXPECT_STATUS(1, GENERATE CAPTION "-o w.png --preview kit.st", "kit.st/step-0001.png");
}

TEST("the drawings most like the caption are kept, the best first, each with its own recipe") {
  REQUIRE(have_kit(), "");
  REQUIRE(shell("mkdir -p models/metrics && cp " MODELS_DIR "/metrics/*.lua models/metrics/") == 0, "%s", output);
  EXPECT_STATUS(
      0,
      "train models/metrics/clip.lua --models models -D size=32 -D patch=16 -D width=16 -D heads=2 -D layers=1 "
      "-D text_width=16 -D text_heads=2 -D text_layers=1 -D embed=8 -D vocab=560 -D text_tokens=24 -D most_pairs=4 "
      "--bpe merges " WORLD "--steps 0 --out clip.st",
      "");
  EXPECT_STATUS(0, GENERATE CAPTION "--task text_image --count 5 --seed 3 -o all.png", "");
  EXPECT_STATUS(0,
                GENERATE CAPTION
                "--task text_image --count 5 --seed 3 --best 2 --by clip.st -o best.png --sheet best_sheet.png",
                "1. sample ");
  int sample[2];
  double likeness[2];
  const char *at = strstr(output, "1. sample ");
  int found =
      at ? sscanf(at, "1. sample %d: %lf\n2. sample %d: %lf", &sample[0], &likeness[0], &sample[1], &likeness[1]) : 0;
  REQUIRE(found == 4, "%s", output);
  EXPECT(likeness[0] >= likeness[1] && sample[0] != sample[1], "%g %g", likeness[0], likeness[1]);
  char command[200];
  for (int i = 0; i < 2; i++) {
    snprintf(command, sizeof command, "cmp best-000%d.png all-000%d.png", i + 1, sample[i] + 1);
    expect_shell(command);
  }
  expect_shell("! test -e best-0003.png && test -e best_sheet.png");
  EXPECT_STATUS(2, GENERATE CAPTION "-o w.png --count 2 --best 3 --by clip.st", "there are not so many");
}

static double similarity_of(const char *row) {
  const char *at = strstr(output, row), *value = at ? strstr(at, "\"similarity\": ") : NULL;
  return value ? strtod(value + strlen("\"similarity\": "), NULL) : NAN;
}

TEST("of several drawings of a scene the one most like its caption is judged, and is more like it than the first") {
  REQUIRE(have_kit() && shell("test -e clip.st") == 0, "the sentence before makes clip.st");
  EXPECT_STATUS(0, "score --models models --weights kit.st --task t2i --count 4 --draws 4 --similarity clip.st --json", "\"likest\": {");
  double first = similarity_of("\"drawn\": {"), likest = similarity_of("\"likest\": {");
  EXPECT(likest > first, "%g, %g", first, likest);
  EXPECT_STATUS(0, "score --models models --weights kit.st --task t2i --count 4 --draws 1 --similarity clip.st --json", "\"drawn\": {");
  EXPECT(similarity_of("\"drawn\": {") == first && !strstr(output, "likest"), "%s", output);
}

TEST("a stop token is for lines of words, and one of the vocabulary") {
  REQUIRE(have_kit(), "");
  EXPECT_STATUS(0,
                "inspect models/nuwa.lua --models models -D tasks=image_text -D grid_h=4 -D grid_w=4 -D grid_s=1 -D "
                "text_tokens=24 "
                "-D vocab=560 --fn tasks.image_text --schedule",
                "23 steps for 23 tokens (23 x 1 x 1)");
  write_text(
      "stop.lua",
      "return module { d = decode(fn({ tokens = i32(2, 3, 3) }, function(x) return { logits = shift(gather(param("
      "'t', f32(9, 9), { normal = 1 }), x.tokens), { s = -1, h = 0, w = 0 }, param('s', f32(9), 'zeros')) } end), "
      "{ tokens = 'tokens', logits = 'logits', stop = 3 }) }\n");
  EXPECT_STATUS(1, "inspect stop.lua", "stop is for grids with h = w = 1, not i32[2,3,3]");
  expect_shell("sed -i 's/i32(2, 3, 3)/i32(6, 1, 1)/; s/stop = 3/stop = 9/' stop.lua");
  EXPECT_STATUS(1, "inspect stop.lua", "stop = 9 is no token: there are 0 to 8");
}

TEST("wrong input to a task gets a clear error, and nothing is written") {
  static const struct {
    int status;
    const char *args, *why;
  } wrong[] = {
      {2, CAPTION "--sketch scene/000000.labels.png -o w.png", "--sketch and --text exclude each other"},
      {2, "--image scene/000000.png --video scene/000000.webp --mask left -o w.gif",
       "--image and --video exclude each other"},
      {2, "--sketch scene/000000.labels.png --image scene/000000.png --mask left -o w.png",
       "--sketch and --image exclude each other"},
      {1, "--sketch scene/000000.png -o w.png", "a map of labels is grey or has a palette"},
      {2, "--sketch scene/000000.maps --task sketch_image -o w.png", "gives a picture, and --sketch is for a clip"},
      {1, "--sketch scene/000000.labels.png -o w.gif", "has 1 map, the clip that is drawn 8 frames"},
      {1, "--sketch strange.png -o w.png", "the model knows 0 to 8"},
      {1, "--sketch none.png -o w.png", "none.png"},
      {2, CAPTION "--tokens-out w.st", "--task text_image or --task text_video"},
      {2, CAPTION "--task text_sound -o w.png", "the model has the tasks"},
      {2, CAPTION "--task sketch_image -o w.png", "what is given is text"},
      {2, CAPTION "--task text_image -o w.gif", "--task text_image gives a picture, and w.gif is for a clip"},
      {1, "--image scene/000000.png --mask black.png -o w.png", "hides nothing"},
      {1, "--image scene/000000.png --mask white.png -o w.png", "hides all"},
      {1, "--image scene/000000.png --mask 0,0,32,33 -o w.png", "must lie in the picture, 32 x 32"},
      {1, "--image scene/000000.png --mask 4294967295,0,2,2 -o w.png", "must lie in the picture, 32 x 32"},
      {1, "--image scene/000000.png --mask 0,0,0,5 -o w.png", "must lie in the picture, 32 x 32"},
      {1, "--image black.png --mask thing -o w.png", "no thing is found"},
      {1, "--video scene/000000.webp --mask wide.png --task none_video -o w.gif", "they must have the same shape"},
      {2, "--video scene/000000.webp -o w.gif", "--given-frames N, --mask, or both"},
      {2, "--video scene/000000.webp --given-frames 8 -o w.gif", "of which 1 to 7 can be given"},
      {1, "--video black.png --given-frames 1 -o w.gif", "black.png"},
      {1, "--video short.gif --given-frames 4 -o w.gif", "short.gif has 3 frames, --given-frames wants 4"},
      {1, "--video short.gif --mask left -o w.gif", "short.gif has 3 frames, the model makes 8"},
      {2, "--image scene/000000.png -o w.png", "--image and --mask go together"},
      {2, CAPTION "-o w.png --fps 9", "--fps has no effect"},
      {2, CAPTION "-o w.png --best 2", "--best K and --by FILE go together"},
      {1, CAPTION "-o w.png --by image.st --best 1", "is no model of likeness"},
  };
  REQUIRE(have_kit(), "");
  Image im = {0};
  Error err;
  for (int i = 0; i < 3; i++) {
    static const char *const name[] = {"black.png", "white.png", "wide.png"};
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name[i]);
    EXPECT(image_init(&im, i == 2 ? 64 : 32, 32, &err), "%s", err.text);
    memset(im.rgb, i == 1 ? 255 : 0, (size_t)(im.width * 32 * 3));
    EXPECT(image_write_png(path, &im, NULL, 0, &err), "%s", err.text);
    image_done(&im);
  }
  uint16_t labels[32 * 32];
  char path[200];
  for (int i = 0; i < 32 * 32; i++) labels[i] = (uint16_t)(i == 100 ? 9 : 0);
  snprintf(path, sizeof path, "%s/strange.png", folder);
  EXPECT(image_write_labels(path, labels, 32, 32, &err), "%s", err.text);
  snprintf(path, sizeof path, "%s/short.gif", folder);
  uint8_t *rgb = calloc(3, 32 * 32 * 3);
  for (int i = 0; rgb && i < 3; i++) rgb[i * 32 * 32 * 3] = (uint8_t)(100 * i);
  EXPECT(clip_write(path, rgb, 3, 32, 32, (ClipRate){8, 1}, NULL, &err), "%s", err.text);
  free(rgb);
  for (int i = 0; i < COUNT_OF(wrong); i++) {
    char command[400];
    snprintf(command, sizeof command, GENERATE "%s", wrong[i].args);
    EXPECT_STATUS(wrong[i].status, command, wrong[i].why);
  }
  expect_shell("! ls w.png w.gif w.st 2>/dev/null");
}

TEST("scores of each task stand beside those of true renderings and shuffled conditions") {
  REQUIRE(have_kit(), "");
  EXPECT_STATUS(0, "score --models models --weights kit.st --task s2v --count 8 --json --sheet sheet.png",
                "\"task\": \"s2v\", \"count\": 8");
  EXPECT_HAS(output, "\"true\": {\"thing\": 100.00, \"place\": 100.00, \"background\": 100.00, \"motion\": 100.00, "
                     "\"moves\": 100.00, \"all\": 100.00}");
  EXPECT_HAS(output, "\"frozen\": {\"thing\": ");
  EXPECT_STATUS(0, "score --models models --weights kit.st --task i2i --count 4 --json", "\"seen\": ");
  EXPECT_STATUS(0, "score --models models --weights kit.st --task tv2v --count 4 --draws 2",
                "| first frame, standing still |");
  EXPECT_HAS(output, "| best of the draws |");
  EXPECT_STATUS(0, "score --models models --weights kit.st --task v2t --count 4 --json", "\"shuffled\": {");
  EXPECT_STATUS(2, "score --models models --weights kit.st --task t2t", "is none of t2i, s2i");
  EXPECT_STATUS(2, "score --models models --weights kit.st --task i2t --segment kit.st",
                "--segment has no effect with --task i2t");
  EXPECT_STATUS(1, "score --models models --weights kit.st --task s2i --count 9 --things 30",
                "the autoencoder of labels knows 0 to 8");
  EXPECT_STATUS(2,
                "train models/nuwa.lua --models models --weights kit.st --data world:single,size=32,things=60 "
                "--batch 8 --steps 2",
                "labels");
}

#define SWEEP                                                                                                        \
  "ablate models/nuwa.lua --models models -D tasks=sketch_image,none_image -D task_weights=1,0 -D grid_s=1 -D "      \
  "grid_h=4 -D grid_w=4 -D dim=8 -D heads=1 -D encoder_layers=1 -D decoder_layers=1 -D codebook=16 -D decoder=full " \
  "-D decoder=nearby --tokens image=image.st --tokens labels=labels.st " WORLD "--batch 2 --steps 2 "
#define SCORED "--score s2i --score i2i --score-count 4 --temperature 0.7 "

TEST("scores of tasks are metrics of a sweep's runs, as `score` has them of the weights") {
#define FEATURES                                                                                                     \
  "train " MODELS_DIR "/metrics/features.lua --models models -D size=32 -D channels=2 -D levels=2 -D features=4 -D " \
  "vocab=560 --bpe merges " WORLD "--steps 0 "
  REQUIRE(have_kit() && nuwa(FEATURES "--out features.st") == 0 && nuwa(FEATURES "-D frames=8 --out of_clips.st") == 0,
          "%s", output);
  /* A run that is trained, and ends before it is scored. */
  expect_shell("mkdir -p runs/decoder=nearby-seed0/weights.safetensors");
  EXPECT_STATUS(1, SWEEP SCORED "--features features.st", "1 runs failed");
  expect_shell("rmdir runs/decoder=nearby-seed0/weights.safetensors");
  EXPECT_STATUS(0, SWEEP SCORED "--features features.st --csv t.csv --figure f.svg --report t.html", "decoder=nearby, seed 0");
  EXPECT(!strstr(output, "step 2/2"), "%s", output);
  expect_shell("head -1 t.csv | grep -o 's2i.*,samples'");
  EXPECT_HAS(output, "s2i.thing,s2i.place,s2i.background,s2i.all,s2i.frechet,"
                     "i2i.thing,i2i.place,i2i.background,i2i.all,i2i.frechet,samples");
  expect_shell("grep -q '>s2i.frechet (less is better) against' f.svg && grep -q '>decoder=nearby</text>' f.svg && "
               "grep -q 'against the time of drawing</figcaption>' t.html");
  double mine = NAN, theirs = NAN;
  expect_shell("grep -o 's2i.frechet.*' runs/decoder=nearby-seed0/result.json");
  if (sscanf(output, "s2i.frechet\": %lf", &mine) != 1) mine = NAN;
  EXPECT_STATUS(0, "score --models models --weights runs/decoder=nearby-seed0/weights.safetensors --tokens image=image.st --tokens "
                   "labels=labels.st --task s2i --count 4 --temperature 0.7 --features features.st --json", "\"drawn\": {");
  const char *row = strstr(output, "\"drawn\": {"), *at = row ? strstr(row, "\"frechet\": ") : NULL;
  if (!at || sscanf(at, "\"frechet\": %lf", &theirs) != 1) theirs = NAN;
  EXPECT(fabs(mine - theirs) < 1e-6, "%g and %g", mine, theirs);
  EXPECT_STATUS(1, SWEEP SCORED "--features features.st --guidance 2", "its guidance is 1, this run's is 2");
  EXPECT_STATUS(1, SWEEP SCORED, "its features_sha256 is");
  EXPECT_STATUS(1, SWEEP, "its scores is s2i i2i, this run's is not set");
  EXPECT_STATUS(2, SWEEP "--score t2v", "decoder=full: --score: t2v needs a model with the task text_video; it has");
  EXPECT_STATUS(2, SWEEP "--score s2i --features of_clips.st",
                "--features of_clips.st: sees clips of other lengths than any task of --score draws");
}

TEST_MAIN()
