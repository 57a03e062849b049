/* `nuwa data`: looks into the training world.  Nothing has to be made before training, which draws its scenes as it
 * goes; what this writes is the text encoder, pictures and captions to look at, and numbers about the world. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "media/dataset.h"
#include "media/image.h"
#include "media/judge.h"
#include "runtime/base/file.h"

static const char about[] =
    "Shows scenes of the training world: training scenes, or those with pairs kept from training.  --sheet, --out,\n"
    "--captions and --bpe write files; beside that it prints numbers about the world.\n";

enum { BPE_SCENES = 20000 };

typedef struct DataArgs {
  WorldOptions world;
  int64_t first, seed;
  int count, columns, zoom, vocab;
  const char *kinds, *sheet, *out, *captions, *bpe;
  bool held_out, judge, json;
} DataArgs;

/* What was found out along the way. */
typedef struct DataReport {
  int vocab, merges, longest_text; /* 0: no encoder was trained */
  SlotScore score;
} DataReport;

static bool parse_kinds(const char *text, unsigned *out, Error *err) {
  static const char *const names[] = {"single", "two", "clips", "recolour", "sized"};
  *out = 0;
  for (const char *p = text; p;) {
    size_t n = strcspn(p, ",");
    int k = 0;
    while (k < COUNT_OF(names) && (strlen(names[k]) != n || memcmp(names[k], p, n))) k++;
    if (k == COUNT_OF(names))
      return error_set(err, ERROR_ARGUMENT, "--kinds %s: \"%.*s\" is none of single, two, clips, recolour, sized",
                       text, (int)n, p);
    *out |= 1u << k;
    p = p[n] ? p + n + 1 : NULL;
  }
  return true;
}

static bool check(void *ctx, Error *err) {
  DataArgs *a = ctx;
  a->world.seed = (uint64_t)a->seed;
  if (a->kinds && !parse_kinds(a->kinds, &a->world.kinds, err)) return false;
  if (a->sheet && a->count > 10000)
    return error_set(err, ERROR_ARGUMENT, "--sheet: holds at most 10000 scenes, not %d", a->count);
  if (a->json && a->captions && strcmp(a->captions, "-") == 0)
    return error_set(err, ERROR_ARGUMENT, "--json has no effect beside --captions -, which takes standard output");
  if (a->judge && a->world.kinds != WORLD_SINGLE)
    return error_set(err, ERROR_ARGUMENT, "--judge: judges --kinds single only");
  return true;
}

static Scene scene_at(const World *w, const DataArgs *a, int i) {
  return world_scene(w, a->held_out ? WORLD_HELD_OUT : WORLD_TRAIN, (uint64_t)a->first + (uint64_t)i);
}

static int frames_of(const DataArgs *a) { return a->world.kinds & WORLD_CLIPS ? WORLD_FRAMES : 1; }

/* All frames of count scenes, one after another (a still scene among clips repeats its frame); NULL: no memory. */
static uint8_t *render_scenes(const World *w, const DataArgs *a, int first, int count, Error *err) {
  int frames = frames_of(a);
  size_t bytes = 3 * (size_t)a->world.size * (size_t)a->world.size;
  uint8_t *rgb = mem_alloc((size_t)count * (size_t)frames * bytes);
  if (!rgb) error_set(err, ERROR_MEMORY, "rendering %d scenes: out of memory", count);
  for (int i = 0; rgb && i < count; i++) {
    Scene s = scene_at(w, a, first + i);
    for (int f = 0; f < frames; f++)
      world_render(w, &s, f < world_scene_frames(&s) ? f : 0, rgb + ((size_t)i * (size_t)frames + (size_t)f) * bytes,
                   NULL);
  }
  return rgb;
}

static bool write_sheet(const World *w, const DataArgs *a, Error *err) {
  int frames = frames_of(a), columns = frames > 1 ? frames : a->columns;
  uint8_t *rgb = render_scenes(w, a, 0, a->count, err);
  Image sheet = {0};
  bool ok = rgb &&
            image_sheet(rgb, a->count * frames, a->world.size, a->world.size, columns, 2, a->zoom, &sheet, err) &&
            image_write_png(a->sheet, &sheet, NULL, 0, err);
  image_done(&sheet);
  mem_free(rgb);
  return ok;
}

/* One scene as a file: its frames side by side, its caption under the key "caption". */
static bool write_picture(const World *w, const DataArgs *a, int i, Error *err) {
  char path[1100], caption[WORLD_CAPTION_BYTES];
  Scene s = scene_at(w, a, i);
  world_caption(w, &s, caption);
  if (snprintf(path, sizeof path, "%s/%06" PRId64 ".png", a->out, a->first + i) >= (int)sizeof path)
    return error_set(err, ERROR_ARGUMENT, "--out: too long a path");
  uint8_t *rgb = render_scenes(w, a, i, 1, err);
  Image strip = {0};
  ImageText text = {"caption", caption};
  int frames = world_scene_frames(&s);
  bool ok = rgb && image_sheet(rgb, frames, a->world.size, a->world.size, frames, 0, 1, &strip, err) &&
            image_write_png(path, &strip, &text, 1, err);
  image_done(&strip);
  mem_free(rgb);
  return ok;
}

static bool write_captions(const World *w, const DataArgs *a, const char *path, Error *err) {
  Buffer b = {0};
  for (int i = 0; i < a->count; i++) {
    char caption[WORLD_CAPTION_BYTES];
    Scene s = scene_at(w, a, i);
    buffer_append(&b, caption, (size_t)world_caption(w, &s, caption));
    buffer_append(&b, "\n", 1);
  }
  bool ok = !b.failed || error_set(err, ERROR_MEMORY, "%d captions: out of memory", a->count);
  ok = ok && file_write_all(path, b.data, b.len, err);
  buffer_done(&b);
  return ok;
}

static bool write_folder(const World *w, const DataArgs *a, Error *err) {
  char path[1100];
  if (mkdir(a->out, 0777) && errno != EEXIST) return error_set(err, ERROR_IO, "%s: %s", a->out, strerror(errno));
  for (int i = 0; i < a->count; i++)
    if (!write_picture(w, a, i, err)) return false;
  if (snprintf(path, sizeof path, "%s/captions.txt", a->out) >= (int)sizeof path)
    return error_set(err, ERROR_ARGUMENT, "--out: too long a path");
  return write_captions(w, a, path, err);
}

static bool train_bpe(const World *w, const DataArgs *a, DataReport *r, Error *err) {
  Bpe *b = dataset_train_bpe(w, BPE_SCENES, a->vocab - BPE_BYTES - 2, err);
  bool ok = b && bpe_write(b, a->bpe, err);
  for (int i = 0; ok && i < BPE_SCENES; i++) {
    char caption[WORLD_CAPTION_BYTES];
    int n;
    Scene s = world_scene(w, i % 2 ? WORLD_TRAIN : WORLD_HELD_OUT, (uint64_t)i);
    world_caption(w, &s, caption);
    ok = bpe_encode(b, caption, NULL, 0, &n, err);
    if (ok && n + 2 > r->longest_text) r->longest_text = n + 2;
  }
  if (ok) r->vocab = bpe_vocab(b), r->merges = bpe_merge_count(b);
  bpe_free(b);
  return ok;
}

static bool judge_scenes(const World *w, const DataArgs *a, DataReport *r, Error *err) {
  Judge *j = judge_new(w, err);
  for (int i = 0; j && i < a->count; i++) {
    Scene s = scene_at(w, a, i);
    uint8_t *rgb = render_scenes(w, a, i, 1, err);
    if (!rgb) {
      judge_free(j);
      return false;
    }
    Judgement got = judge_picture(j, rgb);
    judge_count(&got, &s, &r->score);
    mem_free(rgb);
  }
  judge_free(j);
  return j != NULL;
}

static int count_held_out(const World *w) {
  int n = 0;
  for (int t = 0; t < world_thing_count(w); t++)
    for (int c = 0; c < WORLD_COLOURS; c++) n += world_pair_held_out(w, PAIR_BACKGROUND, t, c);
  return n;
}

/* What captions can say. */
typedef struct NameList {
  const char *what;
  int n;
  const char *(*name)(const World *w, int i);
} NameList;

static const char *thing_name(const World *w, int i) { return world_thing_name(w, i); }
static const char *colour_name(const World *w, int i) { return world_colour_name(i); }
static const char *place_name(const World *w, int i) { return world_place_name(i); }
static const char *motion_name(const World *w, int i) { return world_motion_name((Motion)(i + 1)); }

enum { NAME_LISTS = 5 };
static void list_names(const World *w, NameList out[NAME_LISTS]) {
  unsigned kinds = world_options(w)->kinds;
  const NameList lists[NAME_LISTS] = {{"things", world_thing_count(w), thing_name},
                                      {"backgrounds", WORLD_COLOURS, colour_name},
                                      {"places", WORLD_PLACES, place_name},
                                      {"colours", kinds & WORLD_RECOLOUR ? WORLD_RECOLOURS : 0, colour_name},
                                      {"motions", kinds & WORLD_CLIPS ? MOTION_COUNT - 1 : 0, motion_name}};
  memcpy(out, lists, sizeof lists);
}

static void print_json(const World *w, const DataReport *r) {
  const WorldOptions *o = world_options(w);
  NameList list[NAME_LISTS];
  list_names(w, list);
  for (int k = 0; k < NAME_LISTS; k++) {
    printf("%s\"%s\": [", k ? ", " : "{", list[k].what);
    for (int i = 0; i < list[k].n; i++) printf("%s\"%s\"", i ? ", " : "", list[k].name(w, i));
    printf("]");
  }
  printf(", \"size\": %d, \"thing_min\": %d, \"thing_max\": %d, \"jitter\": %d, \"seed\": %" PRIu64, o->size,
         o->thing_min, o->thing_max, o->jitter, o->seed);
  printf(", \"pairs\": %d, \"held_out_pairs\": %d", world_thing_count(w) * WORLD_COLOURS, count_held_out(w));
  if (r->vocab) printf(", \"vocab\": %d, \"merges\": %d, \"longest_text\": %d", r->vocab, r->merges, r->longest_text);
  if (r->score.n)
    printf(", \"judged\": {\"scenes\": %d, \"thing\": %d, \"place\": %d, \"background\": %d, \"all\": %d}",
           r->score.n, r->score.thing, r->score.place, r->score.background, r->score.all);
  printf("}\n");
}

/* Lines of at most some 100 columns. */
static void print_names(const World *w, const NameList *list) {
  int column = printf("%s:", list->what);
  for (int i = 0; i < list->n; i++) {
    const char *name = list->name(w, i);
    if (column + (int)strlen(name) > 98) column = printf("\n   ") - 1;
    column += printf(" %s%s", name, i + 1 < list->n ? "," : "\n");
  }
}

static void print_text(const World *w, const DataReport *r) {
  const WorldOptions *o = world_options(w);
  NameList list[NAME_LISTS];
  printf("%d things of %d to %d pixels at %d places on %d backgrounds, pictures of %d x %d, seed %" PRIu64 "\n",
         world_thing_count(w), o->thing_min, o->thing_max, WORLD_PLACES, WORLD_COLOURS, o->size, o->size, o->seed);
  printf("%d pairs (thing, background), %d of them held out\n", world_thing_count(w) * WORLD_COLOURS,
         count_held_out(w));
  list_names(w, list);
  for (int k = 0; k < NAME_LISTS; k++)
    if (list[k].n) print_names(w, &list[k]);
  if (r->vocab)
    printf("vocabulary of %d (%d merges), the longest caption has %d tokens\n", r->vocab, r->merges, r->longest_text);
  if (r->score.n)
    printf("judged right, of %d true renderings: thing %d, place %d, background %d, all three %d\n", r->score.n,
           r->score.thing, r->score.place, r->score.background, r->score.all);
}

static bool write_all(const World *w, const DataArgs *a, Error *err) {
  DataReport r = {0};
  if (a->bpe && !train_bpe(w, a, &r, err)) return false;
  if (a->sheet && !write_sheet(w, a, err)) return false;
  if (a->out && !write_folder(w, a, err)) return false;
  if (a->captions && !write_captions(w, a, a->captions, err)) return false;
  if (a->judge && !judge_scenes(w, a, &r, err)) return false;
  bool to_stdout = a->captions && !strcmp(a->captions, "-");
  if (!to_stdout && a->json)
    print_json(w, &r);
  else if (!to_stdout)
    print_text(w, &r);
  return true;
}

static bool run(void *ctx, Arena *arena, Error *err) {
  const DataArgs *a = ctx;
  World *w = world_open(&a->world, err);
  bool ok = error_asked(w != NULL, err) && write_all(w, a, err);
  world_close(w);
  return ok;
}

int cli_data(int argc, char **argv) {
  DataArgs a = {.count = 64, .columns = 8, .zoom = 3, .vocab = 1024, .seed = 1};
  world_options_init(&a.world);
  const Arg arg[] = {
      {"--things", ARG_INT32, "N", "the first N things; 0: all (64)", &a.world.things, 0, 65535},
      {"--size", ARG_INT32, "N", "pictures of N x N pixels (32)", &a.world.size, 16, 1024},
      {"--thing-min", ARG_INT32, "N", "least size of things in pixels (16)", &a.world.thing_min, 14, 256},
      {"--thing-max", ARG_INT32, "N", "largest size (16)", &a.world.thing_max, 14, 256},
      {"--jitter", ARG_INT32, "N", "how far off their places things stand (0)", &a.world.jitter, 0, 64},
      {"--kinds", ARG_TEXT, "LIST", "of single,two,clips,recolour,sized (single)", &a.kinds, 0, 0},
      {"--seed", ARG_INT, "N", "of the scenes (1)", &a.seed, 0, 9e15},
      {"--names", ARG_TEXT, "FILE", "emoji-test.txt, if not in Debian's place", &a.world.names_path, 0, 0},
      {"--font", ARG_TEXT, "FILE", "NotoColorEmoji.ttf, if not in Debian's place", &a.world.font_path, 0, 0},
      {"--held-out", ARG_FLAG, NULL, "scenes with pairs kept from training, instead of training scenes", &a.held_out,
       0, 0},
      {"--first", ARG_INT, "N", "scenes N, N+1, ... (0)", &a.first, 0, 4e18},
      {"--count", ARG_INT32, "N", "that many (64)", &a.count, 1, 1000000},
      {"--sheet", ARG_PNG, "FILE.png", "a contact sheet of the scenes (clips: a row of frames each)", &a.sheet, 0, 0},
      {"--columns", ARG_INT32, "N", "of the sheet (8)", &a.columns, 1, 1000, .with = "--sheet"},
      {"--zoom", ARG_INT32, "N", "of the sheet (3)", &a.zoom, 1, 64, .with = "--sheet"},
      {"--out", ARG_FOLDER, "DIR", "each scene as DIR/NNNNNN.png with its caption inside, and DIR/captions.txt",
       &a.out, 0, 0},
      {"--captions", ARG_OUT, "FILE", "the captions, one a line (-: standard output, and no numbers)", &a.captions,
       0, 0},
      {"--bpe", ARG_OUT, "FILE", "merges of a byte-pair encoder trained on captions of 20000 scenes", &a.bpe, 0, 0},
      {"--vocab", ARG_INT32, "N", "its largest vocabulary (1024)", &a.vocab, BPE_BYTES + 2,
       BPE_BYTES + 2 + BPE_MAX_MERGES, .with = "--bpe"},
      {"--judge", ARG_FLAG, NULL, "score the true renderings of the scenes (single things only)", &a.judge, 0, 0},
      {"--json", ARG_FLAG, NULL, "numbers as JSON", &a.json, 0, 0},
  };
  const Command c = {.name = "data", .usage = "[options]", .about = about, .arg = arg, .n_arg = COUNT_OF(arg),
                     .ctx = &a, .check = check, .run = run};
  return cli_command(&c, argc, argv);
}
