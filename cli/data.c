/* `nuwa data`: looks into the training world.  Nothing has to be made before training, which draws its scenes as it
 * goes; what this writes is the text encoder, pictures and captions to look at, and numbers about the world. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "media/dataset.h"
#include "media/image.h"
#include "media/judge.h"
#include "runtime/base/file.h"

int cli_data(int argc, char **argv);

static const char usage[] =
    "usage: nuwa data [options]\n"
    "the world\n"
    "  --things N        the first N things (default 64; 0: all)\n"
    "  --size N          pictures of N x N pixels (default 32)\n"
    "  --thing-min N, --thing-max N, --jitter N   sizes of things in pixels (16, 16), how far off they stand (0)\n"
    "  --kinds LIST      of single,two,clips,recolour,sized (default single)\n"
    "  --seed N          (default 1)\n"
    "  --names FILE, --font FILE   emoji-test.txt and NotoColorEmoji.ttf, if not in Debian's places\n"
    "which scenes\n"
    "  --held-out        those with pairs kept from training, instead of training scenes\n"
    "  --first N, --count N   scenes N, N+1, ... (default 0), that many (default 64)\n"
    "what to write\n"
    "  --sheet FILE.png  a contact sheet of the scenes (clips: a row of frames each)\n"
    "  --columns N, --zoom N   of the sheet (8, 3)\n"
    "  --out DIR         each scene as DIR/NNNNNN.png with its caption inside, and DIR/captions.txt\n"
    "  --captions FILE   the captions, one a line (-: standard output, and no numbers)\n"
    "  --bpe FILE        merges of a byte-pair encoder trained on the captions of 20000 training scenes\n"
    "  --vocab N         its largest vocabulary (default 1024)\n"
    "  --judge           score the true renderings of the scenes (single things only)\n"
    "  --json            numbers as JSON\n";

enum { BPE_SCENES = 20000 };

typedef struct DataArgs {
  WorldOptions world;
  int64_t first;
  int count, columns, zoom, vocab;
  const char *sheet, *out, *captions, *bpe;
  bool held_out, judge, json, help;
} DataArgs;

/* What was found out along the way. */
typedef struct DataReport {
  int vocab, merges, longest_text; /* 0: no encoder was trained */
  SlotScore score;
} DataReport;

static bool parse_number(const char *name, const char *text, int64_t lo, int64_t hi, int64_t *out, Error *err) {
  char *end;
  errno = 0;
  long long v = strtoll(text, &end, 10);
  if (end == text || *end || errno || v < lo || v > hi)
    return error_set(err, ERROR_ARGUMENT, "%s %s: a number from %" PRId64 " to %" PRId64 " is needed", name, text, lo,
                     hi);
  *out = v;
  return true;
}

static bool parse_kinds(const char *text, unsigned *out, Error *err) {
  static const char *const names[] = {"single", "two", "clips", "recolour", "sized"};
  *out = 0;
  for (const char *p = text; *p;) {
    size_t n = strcspn(p, ",");
    int k = 0;
    while (k < COUNT_OF(names) && (strlen(names[k]) != n || memcmp(names[k], p, n))) k++;
    if (k == COUNT_OF(names))
      return error_set(err, ERROR_ARGUMENT, "--kinds %s: \"%.*s\" is none of single, two, clips, recolour, sized",
                       text, (int)n, p);
    *out |= 1u << k;
    p += n + (p[n] == ',');
  }
  return true;
}

/* Where an option's number goes. */
typedef struct NumberOption {
  const char *name;
  int *to;
  int lo, hi;
} NumberOption;

static bool set_number(DataArgs *a, const char *name, const char *value, bool *out_known, Error *err) {
  const NumberOption options[] = {
      {"--things", &a->world.things, 0, 65535},
      {"--size", &a->world.size, 16, 1024},
      {"--thing-min", &a->world.thing_min, 14, 256},
      {"--thing-max", &a->world.thing_max, 14, 256},
      {"--jitter", &a->world.jitter, 0, 64},
      {"--count", &a->count, 1, 1000000},
      {"--columns", &a->columns, 1, 1000},
      {"--zoom", &a->zoom, 1, 64},
      {"--vocab", &a->vocab, BPE_BYTES + 2, BPE_BYTES + 2 + BPE_MAX_MERGES},
  };
  int64_t v = 0;
  for (int i = 0; i < COUNT_OF(options); i++) {
    if (strcmp(name, options[i].name)) continue;
    *out_known = true;
    if (!parse_number(name, value, options[i].lo, options[i].hi, &v, err)) return false;
    *options[i].to = (int)v;
    return true;
  }
  if (!strcmp(name, "--first")) return *out_known = true, parse_number(name, value, 0, INT64_MAX / 2, &a->first, err);
  if (strcmp(name, "--seed")) return true;
  *out_known = true;
  if (!parse_number(name, value, 0, INT64_MAX, &v, err)) return false;
  a->world.seed = (uint64_t)v;
  return true;
}

static bool set_option(DataArgs *a, const char *name, const char *value, bool *out_known, Error *err) {
  const struct {
    const char *name;
    const char **to;
  } texts[] = {{"--sheet", &a->sheet},
               {"--out", &a->out},
               {"--captions", &a->captions},
               {"--bpe", &a->bpe},
               {"--names", &a->world.names_path},
               {"--font", &a->world.font_path}};
  for (int i = 0; i < COUNT_OF(texts); i++)
    if (!strcmp(name, texts[i].name)) return *texts[i].to = value, *out_known = true;
  if (!strcmp(name, "--kinds")) return *out_known = true, parse_kinds(value, &a->world.kinds, err);
  return set_number(a, name, value, out_known, err);
}

static bool parse_args(int argc, char **argv, DataArgs *a, Error *err) {
  *a = (DataArgs){.count = 64, .columns = 8, .zoom = 3, .vocab = 1024};
  world_options_init(&a->world);
  for (int i = 1; i < argc; i++) {
    const struct {
      const char *name;
      bool *to;
    } flags[] = {{"--held-out", &a->held_out},
                 {"--judge", &a->judge},
                 {"--json", &a->json},
                 {"--help", &a->help},
                 {"-h", &a->help}};
    bool known = false;
    for (int k = 0; k < COUNT_OF(flags); k++)
      if (!strcmp(argv[i], flags[k].name)) *flags[k].to = known = true;
    if (known) continue;
    const char *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (!value) return error_set(err, ERROR_ARGUMENT, "\"%s\" is no option, or it needs a value", argv[i]);
    if (!set_option(a, argv[i], value, &known, err)) return false;
    if (!known) return error_set(err, ERROR_ARGUMENT, "\"%s\" is no option of nuwa data", argv[i]);
    i++;
  }
  if (a->sheet && a->count > 10000)
    return error_set(err, ERROR_ARGUMENT, "--sheet: holds at most 10000 scenes, not %d", a->count);
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
  if (ok && !strcmp(path, "-"))
    ok =
        fwrite(b.data, 1, b.len, stdout) == b.len || error_set(err, ERROR_IO, "standard output: %s", strerror(errno));
  else if (ok)
    ok = file_write_all(path, b.data, b.len, err);
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

static void print_json(const World *w, const DataReport *r) {
  const WorldOptions *o = world_options(w);
  printf("{\"things\": [");
  for (int i = 0; i < world_thing_count(w); i++) printf("%s\"%s\"", i ? ", " : "", world_thing_name(w, i));
  printf("], \"backgrounds\": [");
  for (int i = 0; i < WORLD_COLOURS; i++) printf("%s\"%s\"", i ? ", " : "", world_colour_name(i));
  printf("], \"places\": [");
  for (int i = 0; i < WORLD_PLACES; i++) printf("%s\"%s\"", i ? ", " : "", world_place_name(i));
  printf("], \"size\": %d, \"thing_min\": %d, \"thing_max\": %d, \"jitter\": %d, \"seed\": %" PRIu64, o->size,
         o->thing_min, o->thing_max, o->jitter, o->seed);
  printf(", \"pairs\": %d, \"held_out_pairs\": %d", world_thing_count(w) * WORLD_COLOURS, count_held_out(w));
  if (r->vocab) printf(", \"vocab\": %d, \"merges\": %d, \"longest_text\": %d", r->vocab, r->merges, r->longest_text);
  if (r->score.n)
    printf(", \"judged\": {\"scenes\": %d, \"thing\": %d, \"place\": %d, \"background\": %d, \"all\": %d}",
           r->score.n, r->score.thing, r->score.place, r->score.background, r->score.all);
  printf("}\n");
}

static void print_text(const World *w, const DataReport *r) {
  const WorldOptions *o = world_options(w);
  printf("%d things of %d to %d pixels at %d places on %d backgrounds, pictures of %d x %d, seed %" PRIu64 "\n",
         world_thing_count(w), o->thing_min, o->thing_max, WORLD_PLACES, WORLD_COLOURS, o->size, o->size, o->seed);
  printf("%d pairs (thing, background), %d of them held out\n", world_thing_count(w) * WORLD_COLOURS,
         count_held_out(w));
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
  return (!fflush(stdout) && !ferror(stdout)) || error_set(err, ERROR_IO, "standard output: %s", strerror(errno));
}

int cli_data(int argc, char **argv) {
  DataArgs a;
  Error err;
  if (!parse_args(argc, argv, &a, &err)) {
    fprintf(stderr, "nuwa data: %s\n(nuwa data --help lists the options)\n", err.text);
    return 2;
  }
  if (a.help) {
    fputs(usage, stdout);
    return fflush(stdout) ? 1 : 0;
  }
  World *w = world_open(&a.world, &err);
  /* A world that cannot be was asked for in the arguments. */
  int status = w ? 1 : err.code == ERROR_ARGUMENT ? 2 : 1;
  if (w && write_all(w, &a, &err)) status = 0;
  world_close(w);
  if (status) fprintf(stderr, "nuwa data: %s\n", err.text);
  return status;
}
