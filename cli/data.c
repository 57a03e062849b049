/* `nuwa data`: looks into a data set.  What it writes is a text encoder, pictures and captions to look at, and
 * numbers. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/data_feeds.h"
#include "cli/data_world.h"
#include "media/clip_write.h"
#include "media/dataset.h"
#include "media/image.h"
#include "runtime/base/file.h"
#include "runtime/base/names.h"

static const char about[] =
    "Shows a data set: how many examples, which fields of which sizes, and what was left out.  SPEC is one of\n"
    "  world, world:clips,size=64,things=64  the training world (the default); options single, two, clips, pairs "
    "(what is said\n"
    "                                        twice is twice as likely), recolour, sized, textured, any_frame, things, size,\n"
    "                                        thing_min, thing_max, size_step, jitter, align, recolours, seed\n"
    "  FOLDER, FOLDER:fps=8,short=hold\n"
    "                     pictures (PNG, JPEG, WebP) and clips (GIF, MP4, WebM, animated WebP ..., or NAME.frames/, "
    "a "
    "folder of\n"
    "                     pictures), with NAME.txt, captions.txt or metadata.jsonl as captions, NAME.labels.png as "
    "maps of\n"
    "                     labels, sub-folders as classes; fps: frames a second of clips (else all that are stored); "
    "short=hold:\n"
    "                     the last frame of a short clip stays (else it is refused)\n"
    "  shards-{000..031}.tar, with the same options\n"
    "                     WebDataset's tar files: KEY.png (or any picture or clip), .txt or .json (\"text\" or "
    "\"caption\"), .cls,\n"
    "                     .labels.png are an example\n"
    "  FILE.safetensors   arrays [n, ...]\n"
    "  idx:PREFIX         PREFIX-images-idx3-ubyte and PREFIX-labels-idx1-ubyte, gzipped or not\n"
    "Of all but the world, the option flip (FOLDER:flip) mirrors half of the examples of an epoch of training, with "
    "their maps\n"
    "of labels.\n"
    "--sheet, --out, --captions and --bpe write files beside that.\n";

enum { BPE_EXAMPLES = 20000 };

typedef struct DataArgs {
  const char *spec;
  DatasetOptions data;
  int64_t first;
  int count, columns, zoom, vocab, size, frames;
  const char *sheet, *out, *captions, *bpe;
  ModelArgs model;
  const char *clips;
  bool held_out, judge, json, maps;
} DataArgs;

/* All that is open, and what was found out along the way. */
typedef struct DataCommand {
  DataArgs a;
  Dataset *data;
  const World *world;              /* NULL: the data are another */
  int count;                       /* examples that there are, at most a.count */
  int vocab, merges, longest_text; /* 0: no encoder was trained */
  SlotScore score;
  char cache[CLI_PATH_BYTES];
} DataCommand;

static bool check(void *ctx, Error *err) {
  const DataArgs *a = &((DataCommand *)ctx)->a;
  if (a->sheet && a->count > 10000)
    return error_set(err, ERROR_ARGUMENT, "--sheet: holds at most 10000 examples, not %d", a->count);
  if (a->json && a->captions && strcmp(a->captions, "-") == 0)
    return error_set(err, ERROR_ARGUMENT, "--json has no effect beside --captions -, which takes standard output");
  return true;
}

static WorldSplit part_of(const DataCommand *c) {
  return !c->a.held_out ? WORLD_TRAIN : c->world ? WORLD_HELD_OUT : WORLD_VALIDATION;
}

/* ---- pictures ---- */

static int frames_of(const DataCommand *c) {
  if (!c->world) return c->a.frames;
  return world_options(c->world)->kinds & WORLD_MOVING ? WORLD_FRAMES : 1;
}

static int size_of(const DataCommand *c) { return c->world ? world_options(c->world)->size : c->a.size; }

/* All frames of an example. */
static DataWant want_of(const DataCommand *c) {
  int64_t frames = frames_of(c), size = size_of(c);
  return (DataWant){.name = PORT_VIDEO, .dtype = DTYPE_U8, .rank = 4, .dim = {frames, size, size, 3}};
}

/* All frames of count examples, one after another (a still scene among clips repeats its frame); NULL after an error.
 */
static uint8_t *read_pictures(const DataCommand *c, int first, int count, Error *err) {
  DataWant want = want_of(c);
  if (!error_asked(dataset_match(c->data, NULL, &want, err), err)) return NULL;
  uint8_t *rgb = mem_alloc((size_t)count * data_want_bytes(&want));
  want.out = rgb;
  if (!rgb) error_set(err, ERROR_MEMORY, "%d pictures: out of memory", count);
  if (rgb && dataset_fill(c->data, NULL, part_of(c), (uint64_t)(c->a.first + first), count, &want, 1, err))
    return rgb;
  mem_free(rgb);
  return NULL;
}

static bool write_sheet(const DataCommand *c, Error *err) {
  int frames = frames_of(c), columns = frames > 1 ? frames : c->a.columns, size = size_of(c);
  uint8_t *rgb = read_pictures(c, 0, c->count, err);
  Image sheet = {0};
  bool ok = rgb && image_sheet(rgb, c->count * frames, size, size, columns, 2, c->a.zoom, &sheet, err) &&
            image_write_png(c->a.sheet, &sheet, NULL, 0, err);
  image_done(&sheet);
  mem_free(rgb);
  return ok;
}

static bool append_caption(const DataCommand *c, int i, Buffer *out, Error *err) {
  return dataset_caption(c->data, part_of(c), (uint64_t)(c->a.first + i), out, err) &&
         (!out->failed || error_set(err, ERROR_MEMORY, "a caption: out of memory"));
}

/* The captions, a line each: their breaks become spaces. */
static bool write_captions(const DataCommand *c, Error *err) {
  Buffer b = {0};
  bool ok = true;
  for (int i = 0; ok && i < c->count; i++) {
    size_t from = b.len;
    ok = append_caption(c, i, &b, err);
    for (; ok && from < b.len; from++)
      if (b.data[from] == '\n' || b.data[from] == '\r') b.data[from] = ' ';
    buffer_append(&b, "\n", 1);
  }
  if (ok && b.failed) ok = error_set(err, ERROR_MEMORY, "%d captions: out of memory", c->count);
  ok = ok && file_write_all(c->a.captions, b.data, b.len, err);
  buffer_done(&b);
  return ok;
}

/* ---- a folder of examples ---- */

enum { EXAMPLE_PATH = 1100 };

/* What is written beside pictures: captions.txt, and metadata.jsonl for captions that a line cannot hold. */
typedef struct Tables {
  Buffer lines, objects;
} Tables;

static bool is_line(const Buffer *caption) {
  const char *last = caption->data + caption->len - 1;
  return !strpbrk(caption->data, "\n\r") && !isspace((unsigned char)*last);
}

static void add_caption(Tables *t, const char *name, const Buffer *caption) {
  if (!caption->len) return;
  if (is_line(caption)) {
    buffer_printf(&t->lines, "%s\t%s\n", name, caption->data);
    return;
  }
  buffer_printf(&t->objects, "{\"file_name\": \"%s\", \"text\": ", name);
  json_print_text(&t->objects, caption->data);
  buffer_printf(&t->objects, "}\n");
}

/* One example's own frames, and its caption; without them where it is broken, of which the user is told. */
static uint8_t *read_example(const DataCommand *c, int i, Buffer *caption, Error *err) {
  DataBroken *broken = NULL;
  uint64_t at = (uint64_t)(c->a.first + i);
  DataWant want = want_of(c);
  if (!append_caption(c, i, caption, err) || !error_asked(dataset_match(c->data, NULL, &want, err), err)) return NULL;
  uint8_t *rgb = want.out = mem_alloc(data_want_bytes(&want));
  bool ok = rgb ? dataset_read(c->data, NULL, part_of(c), at, &want, 1, 0, &broken, err)
                : error_set(err, ERROR_MEMORY, "a picture: out of memory");
  bool is_broken = broken != NULL;
  dataset_tell(c->data, broken);
  if (ok && !is_broken) return rgb;
  mem_free(rgb);
  if (ok) err->code = ERROR_NONE;
  return NULL;
}

/* A path in --out, "DIR/000007.png". */
static bool example_path(const DataCommand *c, int i, const char *ending, char path[EXAMPLE_PATH], Error *err) {
  int n = snprintf(path, EXAMPLE_PATH, "%s/%06" PRId64 "%s", c->a.out, c->a.first + i, ending);
  return n < EXAMPLE_PATH || error_set(err, ERROR_ARGUMENT, "--out: too long a path");
}

/* Its frames: a clip, or side by side in a picture, which has its caption under the key "caption". */
static bool write_frames(const DataCommand *c, int i, const uint8_t *rgb, int frames, const Buffer *caption,
                         char path[EXAMPLE_PATH], Error *err) {
  enum { RATE = 8 };
  int size = size_of(c);
  Image strip = {0};
  ImageText text = {"caption", caption->data};
  char ending[8] = ".png";
  if (c->a.clips && frames > 1) snprintf(ending, sizeof ending, ".%s", c->a.clips);
  if (!example_path(c, i, ending, path, err)) return false;
  if (c->a.clips && frames > 1) return clip_write(path, rgb, frames, size, size, (ClipRate){RATE, 1}, NULL, err);
  bool ok = image_sheet(rgb, frames, size, size, frames, 0, 1, &strip, err) &&
            image_write_png(path, &strip, &text, caption->len > 0, err);
  image_done(&strip);
  return ok;
}

/* Before anything is written. */
static bool check_maps(const DataCommand *c, Error *err) {
  enum { PALETTE = 256 };
  int64_t size = size_of(c);
  DataWant want = {.name = PORT_LABELS, .dtype = DTYPE_I32, .rank = 2, .dim = {size, size}};
  if (c->world && world_thing_count(c->world) >= PALETTE)
    return error_set(err, ERROR_LIMIT, "--maps: a palette has %d labels, this world %d things", PALETTE,
                     world_thing_count(c->world));
  return error_asked(dataset_match(c->data, NULL, &want, err), err);
}

/* What its pixels show: a PNG, of a clip a folder of them. */
static bool write_maps(const DataCommand *c, int i, int frames, Error *err) {
  int size = size_of(c);
  int64_t area = (int64_t)size * size;
  DataWant want = {.name = PORT_LABELS,
                   .dtype = DTYPE_I32,
                   .rank = frames > 1 ? 3 : 2,
                   .dim = {frames > 1 ? frames : size, size, size}};
  char path[EXAMPLE_PATH], ending[32];
  if (!error_asked(dataset_match(c->data, NULL, &want, err), err)) return false;
  int32_t *labels = want.out = mem_alloc(data_want_bytes(&want));
  uint16_t *map = mem_alloc((size_t)area * sizeof *map);
  bool ok = (labels && map) || error_set(err, ERROR_MEMORY, "maps of labels: out of memory");
  ok = ok && dataset_fill(c->data, NULL, part_of(c), (uint64_t)(c->a.first + i), 1, &want, 1, err);
  for (int f = 0; ok && f < frames; f++) {
    for (int64_t k = 0; k < area; k++) map[k] = (uint16_t)labels[f * area + k];
    snprintf(ending, sizeof ending, frames > 1 ? ".maps/%03d.labels.png" : ".labels.png", f);
    ok = example_path(c, i, ending, path, err) && (frames == 1 || file_make_folders(path, err)) &&
         image_write_labels(path, map, size, size, err);
  }
  mem_free(labels);
  mem_free(map);
  return ok;
}

/* One example as files.  Nothing is written of a broken one: what stands in for it has a number of its own. */
static bool write_example(const DataCommand *c, int i, Tables *t, Error *err) {
  char path[EXAMPLE_PATH];
  int frames = frames_of(c);
  if (c->world) {
    Scene s = world_scene(c->world, part_of(c), (uint64_t)(c->a.first + i));
    frames = world_scene_frames(&s);
  }
  Buffer caption = {0};
  uint8_t *rgb = read_example(c, i, &caption, err);
  bool ok = rgb ? write_frames(c, i, rgb, frames, &caption, path, err) && (!c->a.maps || write_maps(c, i, frames, err))
                : err->code == ERROR_NONE;
  if (ok && rgb) add_caption(t, strrchr(path, '/') + 1, &caption);
  mem_free(rgb);
  buffer_done(&caption);
  return ok;
}

static bool write_table(const DataCommand *c, const char *name, const Buffer *b, Error *err) {
  char path[1100];
  if (b->failed) return error_set(err, ERROR_MEMORY, "%d captions: out of memory", c->count);
  if (snprintf(path, sizeof path, "%s/%s", c->a.out, name) >= (int)sizeof path)
    return error_set(err, ERROR_ARGUMENT, "--out: too long a path");
  return !b->len || file_write_all(path, b->data, b->len, err);
}

static bool has_captions(const DataCommand *c) {
  int n;
  const DataField *f = dataset_fields(c->data, &n);
  for (int i = 0; i < n; i++)
    if (f[i].fit == FIT_TEXT) return true;
  return false;
}

/* The real path of what there is of a path: of itself, or of the nearest folder above it. */
static bool real_path(const char *path, char out[PATH_MAX]) {
  char part[PATH_MAX];
  snprintf(part, sizeof part, "%s", path);
  while (!realpath(part, out)) {
    char *slash = strrchr(part, '/');
    if (!slash) return realpath(".", out) != NULL;
    slash[slash == part] = 0;   /* of "/x" the root is left */
    if (slash == part && !realpath("/", out)) return false;
  }
  return true;
}

/* Pictures written among those of the data set would replace them, or be in it.  What stands behind a colon are
 * options. */
static bool is_in_the_data(const DataCommand *c) {
  char path[PATH_MAX], data[PATH_MAX], out[PATH_MAX];
  const char *spec = c->a.spec ? c->a.spec : "", *colon = strrchr(spec, ':');
  struct stat st;
  snprintf(path, sizeof path, "%.*s", colon ? (int)(colon - spec) : 0, spec);
  if ((!realpath(spec, data) && !realpath(path, data)) || stat(data, &st) != 0 || !S_ISDIR(st.st_mode)) return false;
  size_t n = strlen(data);
  return real_path(c->a.out, out) && strncmp(out, data, n) == 0 && (!out[n] || out[n] == '/');
}

static bool write_folder(const DataCommand *c, Error *err) {
  const char *out = c->a.out;
  Tables t = {{0}, {0}};
  if (is_in_the_data(c))
    return error_set(err, ERROR_ARGUMENT, "--out %s lies in the data set itself: another folder is needed", out);
  if (c->a.maps && !check_maps(c, err)) return false;
  if (mkdir(out, 0777) && errno != EEXIST) return error_set(err, ERROR_IO, "%s: %s", out, strerror(errno));
  bool ok = true;
  for (int i = 0; ok && i < c->count; i++) ok = write_example(c, i, &t, err);
  ok = ok && write_table(c, "captions.txt", &t.lines, err) && write_table(c, "metadata.jsonl", &t.objects, err);
  buffer_done(&t.lines);
  buffer_done(&t.objects);
  return ok;
}

static bool train_bpe(DataCommand *c, Error *err) {
  uint64_t count = dataset_count(c->data, WORLD_TRAIN);
  int examples = dataset_is_endless(c->data) || count > BPE_EXAMPLES ? BPE_EXAMPLES : (int)count;
  Bpe *b = dataset_train_bpe(c->data, examples, c->a.vocab - BPE_BYTES - 2, err);
  bool ok = b && bpe_write(b, c->a.bpe, err);
  Buffer caption = {0};
  for (int i = 0; ok && i < examples; i++) {
    int n = 0;
    caption.len = 0;
    ok = dataset_caption(c->data, i % 2 || !c->world ? WORLD_TRAIN : WORLD_HELD_OUT, (uint64_t)i, &caption, err);
    bool counts = ok && caption.len && caption.len <= BPE_MAX_TEXT;
    if (counts) ok = bpe_encode(b, caption.data, NULL, 0, &n, err);
    if (counts && ok && n + 2 > c->longest_text) c->longest_text = n + 2;
  }
  buffer_done(&caption);
  if (ok) c->vocab = bpe_vocab(b), c->merges = bpe_merge_count(b);
  bpe_free(b);
  return ok;
}

/* ---- numbers ---- */

static void print_fields_json(const DataCommand *c) {
  int n;
  const DataField *f = dataset_fields(c->data, &n);
  Buffer b = {0};
  buffer_printf(&b, "\"data\": ");
  json_print_text(&b, dataset_spec(c->data));
  buffer_printf(&b, ", \"digest\": \"%s\", \"fields\": [", dataset_digest(c->data));
  for (int i = 0; i < n; i++) {
    Buffer field = {0};
    dataset_print_field(&f[i], &field);
    if (i) buffer_printf(&b, ", ");
    json_print_text(&b, field.data ? field.data : "");
    buffer_done(&field);
  }
  buffer_printf(&b, "]");
  if (!dataset_is_endless(c->data))
    buffer_printf(&b, ", \"examples\": %" PRIu64 ", \"held_out\": %" PRIu64 ", \"classes\": %d",
                  dataset_count(c->data, WORLD_TRAIN), dataset_count(c->data, WORLD_VALIDATION),
                  dataset_class_count(c->data));
  printf("%s", b.data ? b.data : "");
  buffer_done(&b);
}

static void print_json(const DataCommand *c) {
  const SlotScore *s = &c->score;
  printf("{");
  print_fields_json(c);
  if (c->world) {
    printf(", ");
    data_world_print_json(c->world);
  }
  if (c->vocab) printf(", \"vocab\": %d, \"merges\": %d, \"longest_text\": %d", c->vocab, c->merges, c->longest_text);
  if (s->n)
    printf(", \"judged\": {\"scenes\": %d, \"thing\": %d, \"place\": %d, \"background\": %d, \"colour\": %d, "
           "\"motion\": %d, \"all\": %d}",
           s->n, s->thing, s->place, s->background, s->colour, s->motion, s->all);
  printf("}\n");
}

static void print_fields(const DataCommand *c) {
  int n, classes = dataset_class_count(c->data);
  const DataField *f = dataset_fields(c->data, &n);
  Buffer b = {0};
  if (!dataset_is_endless(c->data))
    buffer_printf(&b, "%s: %" PRIu64 " examples for training, %" PRIu64 " held out\n", dataset_spec(c->data),
                  dataset_count(c->data, WORLD_TRAIN), dataset_count(c->data, WORLD_VALIDATION));
  for (int i = 0; i < n; i++) {
    buffer_printf(&b, "  ");
    dataset_print_field(&f[i], &b);
    if (f[i].missing) buffer_printf(&b, ", not of %" PRIu64 " examples", f[i].missing);
    buffer_printf(&b, "\n");
  }
  if (classes && !c->world) {
    buffer_printf(&b, "%d classes", classes);
    for (int i = 0; i < classes && i < 20 && dataset_class_name(c->data, i); i++)
      buffer_printf(&b, "%s %s", i ? "," : ":", dataset_class_name(c->data, i));
    buffer_printf(&b, "%s\n", classes > 20 && dataset_class_name(c->data, 0) ? ", ..." : "");
  }
  dataset_print_notes(c->data, &b);
  cli_show(stdout, b.data ? b.data : "");
  buffer_done(&b);
}

static void print_text(const DataCommand *c) {
  const SlotScore *s = &c->score;
  if (c->world) data_world_print(c->world);
  print_fields(c);
  if (c->vocab)
    printf("vocabulary of %d (%d merges), the longest caption has %d tokens\n", c->vocab, c->merges, c->longest_text);
  if (s->n)
    printf("judged right, of %d true renderings: thing %d, place %d, background %d, colour %d, motion %d, all %d\n",
           s->n, s->thing, s->place, s->background, s->colour, s->motion, s->all);
}

/* ---- the command ---- */

static bool open_data(DataCommand *c, Error *err) {
  c->a.data.cache = cli_cache(CACHE_LISTINGS, c->cache);
  if (!error_asked((c->data = dataset_open(c->a.spec, &c->a.data, err)) != NULL, err)) return false;
  c->world = dataset_world(c->data);
  c->count = c->a.count;
  if (c->world) return true;
  if (c->a.data.names_path || c->a.data.font_path || c->a.judge)
    return error_set(err, ERROR_USAGE, "--names, --font and --judge are of the world: %s is another", c->a.spec);
  uint64_t n = dataset_count(c->data, part_of(c)), first = (uint64_t)c->a.first;
  if (n <= first && (c->a.sheet || c->a.out || c->a.captions))
    return error_set(err, ERROR_USAGE, "--first %" PRIu64 ": there are %" PRIu64 " examples", first, n);
  if (n - first < (uint64_t)c->count) c->count = (int)(n - first);
  return true;
}

static bool write_all(DataCommand *c, Error *err) {
  const DataArgs *a = &c->a;
  if ((a->bpe || a->captions) && !has_captions(c))
    return error_set(err, ERROR_USAGE, "%s: %s has no captions", a->bpe ? "--bpe" : "--captions", a->spec);
  if (a->judge && world_options(c->world)->kinds & (WORLD_TWO | WORLD_PAIRS))
    return error_set(err, ERROR_USAGE, "--judge: judges single things only");
  if (a->bpe && !train_bpe(c, err)) return false;
  if (a->sheet && !write_sheet(c, err)) return false;
  if (a->out && !write_folder(c, err)) return false;
  if (a->captions && !write_captions(c, err)) return false;
  return !a->judge || data_world_judge(c->world, part_of(c), (uint64_t)a->first, a->count, &c->score, err);
}

static void warn(void *ctx, const char *text) {
  fprintf(stderr, "nuwa data: ");
  cli_show(stderr, text);
  fputc('\n', stderr);
}

static bool show_feeds(const DataCommand *c, Error *err) {
  CliTarget t;
  if (!c->a.model.path) return true;
  Model *m = cli_target_open(&c->a.model, &t, err) ? cli_load_model(&t, &c->a.model, err) : NULL;
  bool ok = m && data_feeds_print(c->data, m, err);
  model_free(m);
  cli_target_close(&t);
  return ok;
}

static bool run(void *ctx, Arena *arena, Error *err) {
  DataCommand *c = ctx;
  const DataArgs *a = &c->a;
  if (!open_data(c, err) || !write_all(c, err)) return false;
  bool to_stdout = a->captions && !strcmp(a->captions, "-");
  if (!to_stdout && a->json)
    print_json(c);
  else if (!to_stdout)
    print_text(c);
  return show_feeds(c, err);
}

static void run_done(void *ctx) { dataset_close(((DataCommand *)ctx)->data); }

int cli_data(int argc, char **argv) {
  DataCommand c = {.a = {.spec = "world",
                         .data = {.in_order = true, .warn = warn},
                         .count = 64,
                         .columns = 8,
                         .zoom = 3,
                         .vocab = 1024,
                         .size = 64,
                         .frames = 1}};
  DataArgs *a = &c.a;
  const Arg arg[] = {
      {"--names", ARG_TEXT, "FILE", "of the world: emoji-test.txt, if not in Debian's place", &a->data.names_path, 0,
       0},
      {"--font", ARG_TEXT, "FILE", "NotoColorEmoji.ttf, if not in Debian's place", &a->data.font_path, 0, 0},
      {"--strict", ARG_FLAG, NULL, "an example that cannot be read ends the command; else the next stands in for it",
       &a->data.strict, 0, 0},
      {"--held-out", ARG_FLAG, NULL, "what is kept from training (of the world: scenes with such pairs)",
       &a->held_out, 0, 0},
      {"--first", ARG_INT, "N", "examples N, N+1, ... (0)", &a->first, 0, 4e18},
      {"--count", ARG_INT32, "N", "that many (64)", &a->count, 1, 1000000},
      {"--sheet", ARG_PNG, "FILE.png", "a contact sheet of them (clips: a row of frames each)", &a->sheet, 0, 0},
      {"--size", ARG_INT32, "N",
       "pictures of N x N pixels in --sheet and --out, of data that have others than the world's (64)", &a->size, 1,
       1024, .with = "--sheet|--out"},
      {"--frames", ARG_INT32, "N",
       "of clips in a row in --sheet and --out, of data other than the world (1: the first)", &a->frames, 1, 64,
       .with = "--sheet|--out"},
      {"--columns", ARG_INT32, "N", "of the sheet (8)", &a->columns, 1, 1000, .with = "--sheet"},
      {"--zoom", ARG_INT32, "N", "of the sheet (3)", &a->zoom, 1, 64, .with = "--sheet"},
      {"--out", ARG_FOLDER, "DIR",
       "each as DIR/NNNNNN.png with its caption inside, and tables of captions: a data set", &a->out, 0, 0},
      {"--clips", ARG_CHOICE, "gif|webp|mp4", "clips in --out as such files, not as strips of their frames",
       &a->clips, 0, 0, .with = "--out"},
      {"--maps", ARG_FLAG, NULL, "their maps of labels, too: NNNNNN.labels.png, of clips NNNNNN.maps/, for --sketch",
       &a->maps, 0, 0, .with = "--out"},
      {"--captions", ARG_OUT, "FILE", "the captions, one a line (-: standard output, and no numbers)", &a->captions,
       0, 0},
      {"--bpe", ARG_OUT, "FILE", "merges of a byte-pair encoder trained on captions of 20000 examples", &a->bpe, 0,
       0},
      {"--vocab", ARG_INT32, "N", "its largest vocabulary (1024)", &a->vocab, BPE_BYTES + 2,
       BPE_BYTES + 2 + BPE_MAX_MERGES, .with = "--bpe"},
      {"--model", ARG_TEXT, "MODEL.lua", "shows what would be fed to its inputs, or which nothing feeds",
       &a->model.path, 0, 0, .without = "--json"},
      {"-D", ARG_DEFINE, "NAME=VALUE", "an option of it", &a->model.defines, 0, 0, .with = "--model"},
      {"--models", ARG_TEXT, "DIR", "shipped Lua models, where require looks too", &a->model.models_dir, 0, 0,
       .with = "--model"},
      {"--judge", ARG_FLAG, NULL, "score the true renderings of the world's scenes (single things only)", &a->judge,
       0, 0},
      {"--json", ARG_FLAG, NULL, "numbers as JSON", &a->json, 0, 0},
  };
  const Command command = {.name = "data",
                           .usage = "[SPEC] [options]",
                           .about = about,
                           .arg = arg,
                           .n_arg = COUNT_OF(arg),
                           .model = &a->spec,
                           .is_model_optional = true,
                           .ctx = &c,
                           .check = check,
                           .run = run,
                           .done = run_done};
  return cli_command(&command, argc, argv);
}
