/* What data sets have in common: which kind a spec names, what feeds an input, parts and epochs, broken examples. */
#include "media/dataset_internal.h"

#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/convert.h"
#include "runtime/base/names.h"
#include "runtime/base/philox.h"

enum { FLIP_ROUND = 0xff }; /* of the counter: no round of epoch.c's */

/* ---- opening ---- */

static bool has_suffix(const char *text, const char *suffix) {
  size_t n = strlen(text), k = strlen(suffix);
  return n > k && strcmp(text + n - k, suffix) == 0;
}

static bool is_folder(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Where the options of "PATH:a=b" begin, behind its last colon; NULL: there are none. */
static const char *options_of(const char *spec, char *path, size_t room) {
  const char *colon = strrchr(spec, ':');
  size_t n = colon ? (size_t)(colon - spec) : 0;
  if (!n || n >= room) return NULL;
  memcpy(path, spec, n);
  path[n] = 0;
  return colon + 1;
}

static Dataset *open_kind(const char *spec, const DatasetOptions *o, Error *err) {
  char path[PATH_MAX];
  if (strcmp(spec, "world") == 0) return dataset_open_world("", o, err);
  if (strncmp(spec, "world:", 6) == 0) return dataset_open_world(spec + 6, o, err);
  if (strncmp(spec, "idx:", 4) == 0) return dataset_open_idx(spec + 4, o, err);
  if (has_suffix(spec, ".safetensors")) return dataset_open_safetensors(spec, o, err);
  if (is_folder(spec)) return dataset_open_folder(spec, "", o, err);
  const char *options = options_of(spec, path, sizeof path);
  if (options && is_folder(path)) return dataset_open_folder(path, options, o, err);
  if (has_suffix(spec, ".tar")) return dataset_open_shards(spec, "", o, err);
  if (options && has_suffix(path, ".tar")) return dataset_open_shards(path, options, o, err);
  error_set(
      err, ERROR_ARGUMENT,
      "data %s: no such folder; data are world, world:OPTIONS, FOLDER or FOLDER:OPTIONS (pictures and clips), "
      "shards-{000..031}.tar, FILE.safetensors, or idx:PREFIX",
      spec);
  return NULL;
}

static uint64_t key_hash(const char *key, size_t n) {
  uint8_t digest[32];
  uint64_t h = 0;
  sha256(key, n, digest);
  for (int i = 0; i < 8; i++) h |= (uint64_t)digest[i] << 8 * i;
  return h;
}

/* Where the groups begin in a part. */
static bool find_groups(Dataset *d, int k) {
  uint64_t *start = d->start[k] = mem_alloc(((size_t)d->n_group + 1) * sizeof *start);
  if (!start) return false;
  for (uint64_t i = 0; i < d->n_part[k]; i++) start[d->kind->group(d, d->part[k][i]) + 1]++;
  for (uint32_t g = 0; g < d->n_group; g++) start[g + 1] += start[g];
  return d->n_group == 0 || (d->groups[k] = epoch_groups_new(d->o.seed, start, d->n_group));
}

/* Parts by the hash of keys, so that an example stays where it is whatever else comes or goes. */
static bool divide(Dataset *d, Error *err) {
  Buffer key = {0};
  if (d->n >= UINT32_MAX)
    return error_set(err, ERROR_LIMIT, "%s: %llu examples are too many", d->spec, (unsigned long long)d->n);
  for (int k = 0; k < 2; k++) d->part[k] = mem_alloc((size_t)d->n * sizeof **d->part);
  d->told = mem_alloc((size_t)d->n + 1);
  bool ok = d->part[0] && d->part[1] && d->told;
  for (uint64_t i = 0; ok && i < d->n; i++) {
    key.len = 0;
    d->kind->key(d, &(DataExample){WORLD_TRAIN, i, 0}, &key);
    int k = !d->o.whole && key_hash(key.data, key.len) % DATA_HELD_OUT_OF == 0;
    d->part[k][d->n_part[k]++] = (uint32_t)i;
    ok = !key.failed;
  }
  buffer_done(&key);
  for (int k = 0; ok && k < 2; k++) { /* none needs room for all */
    uint32_t *fits = mem_realloc(d->part[k], (size_t)d->n_part[k] * sizeof *fits + 1);
    if (fits) d->part[k] = fits;
    if (d->kind->group) ok = find_groups(d, k);
  }
  return ok || error_set(err, ERROR_MEMORY, "%s: out of memory", d->spec);
}

/* The spec without "flip" among its options, in `rest`; false: it is not there.  A prefix of IDX files, and a folder,
 * may be called so. */
static bool take_flip(const char *spec, Buffer *rest) {
  static const char flip[] = "flip";
  const char *colon = strrchr(spec, ':'), *word = colon ? colon + 1 : NULL;
  bool is_there = false;
  if (!word || is_folder(spec) || (strncmp(spec, "idx:", 4) == 0 && word == spec + 4)) return false;
  buffer_append(rest, spec, (size_t)(colon - spec));
  for (char before = ':'; word;) {
    size_t n = strcspn(word, ",");
    bool is_flip = n == sizeof flip - 1 && memcmp(word, flip, n) == 0;
    is_there |= is_flip;
    if (!is_flip) buffer_printf(rest, "%c%.*s", before, (int)n, word), before = ',';
    word = word[n] ? word + n + 1 : NULL;
  }
  return is_there;
}

static bool says_where(const char *name) {
  return strcmp(name, PORT_LABELS) == 0 || strcmp(name, PORT_IMAGE) == 0 || strcmp(name, PORT_VIDEO) == 0;
}

/* What is flipped must be so in everything that says where something is. */
static bool check_flip(const Dataset *d, Error *err) {
  if (d->is_endless)
    return error_set(err, ERROR_ARGUMENT, "%s: no flip: captions of the world say left and right", d->spec);
  for (int i = 0; i < d->n_field; i++)
    if (d->field[i].fit == FIT_ARRAY && says_where(d->field[i].name))
      return error_set(err, ERROR_ARGUMENT, "%s: no flip: the array \"%s\" would stay as it is", d->spec,
                       d->field[i].name);
  return true;
}

static Dataset *open_rest(const char *spec, const DatasetOptions *o, Error *err) {
  Buffer rest = {0};
  bool flips = take_flip(spec, &rest);
  Dataset *d = NULL;
  if (rest.failed)
    error_set(err, ERROR_MEMORY, "%s: out of memory", spec);
  else if ((d = open_kind(flips ? rest.data : spec, o, err)))
    d->flips = flips, dataset_digest_options(d, flips ? "flip" : NULL);
  buffer_done(&rest);
  return d;
}

Dataset *dataset_open(const char *spec, const DatasetOptions *o, Error *err) {
  Dataset *d = open_rest(spec, o, err);
  if (!d) return NULL;
  d->o = *o;
  d->spec = mem_alloc(strlen(spec) + 1);
  bool ok = d->spec || error_set(err, ERROR_MEMORY, "%s: out of memory", spec);
  if (ok) strcpy(d->spec, spec);
  if (ok && (!d->flips || check_flip(d, err)) && (d->is_endless || divide(d, err))) return d;
  dataset_close(d);
  return NULL;
}

void dataset_close(Dataset *d) {
  if (!d) return;
  d->kind->close(d);
  mem_free(d->part[0]);
  mem_free(d->part[1]);
  for (int k = 0; k < 2; k++) {
    epoch_groups_free(d->groups[k]);
    mem_free(d->start[k]);
  }
  mem_free(d->told);
  mem_free(d->spec);
  mem_free(d);
}

bool dataset_add_field(Dataset *d, const char *name, DataFit fit, int rank, const int64_t *dim, Error *err) {
  if (d->n_field == DATA_MAX_FIELDS)
    return error_set(err, ERROR_LIMIT, "a data set of more than %d fields", DATA_MAX_FIELDS);
  DataField *f = &d->field[d->n_field++];
  *f = (DataField){.name = name, .fit = fit, .rank = rank};
  memcpy(f->dim, dim, (size_t)rank * sizeof *dim);
  return true;
}

void dataset_set_digest(Dataset *d, Sha256 *h) {
  uint8_t digest[32];
  sha256_done(h, digest);
  sha256_hex(digest, d->digest);
}

void dataset_digest_options(Dataset *d, const char *options) {
  Sha256 h;
  if (!options || !*options) return;
  sha256_init(&h);
  sha256_update(&h, d->digest, strlen(d->digest));
  sha256_update(&h, options, strlen(options));
  dataset_set_digest(d, &h);
}

/* ---- what there is ---- */

const char *dataset_spec(const Dataset *d) { return d->spec; }
bool dataset_is_endless(const Dataset *d) { return d->is_endless; }
int dataset_class_count(const Dataset *d) { return d->n_class; }
const char *dataset_class_name(const Dataset *d, int i) { return d->class_name ? d->class_name[i] : NULL; }
const char *dataset_digest(const Dataset *d) { return d->digest; }

const DataField *dataset_fields(const Dataset *d, int *out_n) {
  *out_n = d->n_field;
  return d->field;
}

uint64_t dataset_count(const Dataset *d, WorldSplit part) {
  return d->is_endless || part == WORLD_HELD_OUT ? 0 : d->n_part[part == WORLD_VALIDATION];
}

void dataset_print_notes(const Dataset *d, Buffer *out) {
  if (d->kind->notes) d->kind->notes(d, out);
}

static void print_sizes(const char *type, int rank, const int64_t *dim, const char *last, Buffer *out) {
  buffer_printf(out, "%s [", type);
  for (int i = 0; i < rank; i++) {
    if (i) buffer_printf(out, ", ");
    if (last && i == rank - 1)
      buffer_printf(out, "%s", last);
    else if (dim[i] == DATA_ANY)
      buffer_printf(out, "any");
    else
      buffer_printf(out, "%lld", (long long)dim[i]);
  }
  buffer_printf(out, "]");
}

void dataset_print_field(const DataField *f, Buffer *out) {
  static const char *const type[] = {
      [FIT_PICTURE] = "f32 or u8", [FIT_LABELS] = "i32", [FIT_TEXT] = "i32", [FIT_CLASS] = "i32"};
  buffer_printf(out, "%s ", f->name);
  print_sizes(f->fit == FIT_ARRAY ? stored_name(f->stored) : type[f->fit], f->rank, f->dim,
              f->fit == FIT_PICTURE ? "3 or 1" : NULL, out);
}

/* ---- what feeds a want ---- */

/* A caption gives its tokens, and which of them are its own. */
static bool is_text_mask(const DataWant *w) { return strcmp(w->name, PORT_TEXT_MASK) == 0; }

/* One frame is a picture. */
static bool sizes_fit(const DataField *f, const DataWant *w) {
  int skip = w->rank == f->rank + 1 && w->dim[0] == 1 && f->fit != FIT_ARRAY;
  if (w->rank - skip != f->rank) return false;
  for (int i = 0; i < f->rank; i++) {
    int64_t want = w->dim[i + skip];
    if (f->fit == FIT_PICTURE && i == f->rank - 1 ? want != 1 && want != 3
        : f->dim[i] == DATA_ANY                   ? want < 1
                                                  : want != f->dim[i])
      return false;
  }
  return f->fit != FIT_TEXT || w->dim[0] >= 2;
}

static bool type_fits(const DataField *f, const DataWant *w) {
  DType t = w->dtype;
  TensorView v = {.dtype = f->stored < (StoredType)DTYPE_COUNT ? (DType)f->stored : DTYPE_COUNT, .stored = f->stored};
  if (f->fit == FIT_ARRAY) return convert_is_possible(&v, t);
  if (f->fit == FIT_TEXT && is_text_mask(w)) return t == DTYPE_U8;
  return f->fit == FIT_PICTURE ? t == DTYPE_F32 || t == DTYPE_U8 : t == DTYPE_I32;
}

/* A video of one frame is an image; a text has a mask. */
static bool name_fits(const DataField *f, const DataWant *w) {
  return strcmp(f->name, w->name) == 0 || (f->fit == FIT_TEXT && is_text_mask(w)) ||
         (strcmp(w->name, PORT_VIDEO) == 0 && strcmp(f->name, PORT_IMAGE) == 0 && w->rank == 4 && w->dim[0] == 1);
}

static bool refuse(const Dataset *d, const DataWant *w, Error *err) {
  Buffer b = {0};
  buffer_printf(&b, "%s ", w->name);
  print_sizes(dtype_name(w->dtype), w->rank, w->dim, NULL, &b);
  buffer_printf(&b, " is wanted of every example; %s has ", d->spec);
  for (int i = 0; i < d->n_field; i++) {
    if (i) buffer_printf(&b, ", ");
    dataset_print_field(&d->field[i], &b);
  }
  error_set(err, b.failed ? ERROR_MEMORY : ERROR_ARGUMENT, "%s", b.data ? b.data : "out of memory");
  buffer_done(&b);
  return false;
}

static bool refuse_missing(const Dataset *d, const DataField *f, Error *err) {
  Buffer key = {0};
  d->kind->key(d, &(DataExample){WORLD_TRAIN, f->first_missing, 0}, &key);
  error_set(err, ERROR_ARGUMENT, "%s: %llu of %llu examples have no %s, \"%s\" the first of them%s", d->spec,
            (unsigned long long)f->missing, (unsigned long long)d->n, f->fit == FIT_TEXT ? "caption" : f->name,
            key.data ? key.data : "", f->fit == FIT_TEXT ? "; --allow-missing gives them empty ones" : "");
  buffer_done(&key);
  return false;
}

const DataField *dataset_find_field(const Dataset *d, const DataWant *w) {
  for (int i = 0; i < d->n_field; i++) {
    const DataField *f = &d->field[i];
    if (name_fits(f, w) && sizes_fit(f, w) && type_fits(f, w)) return f;
  }
  return NULL;
}

/* What is known of ids before anything is read. */
static bool check_id_count(const Dataset *d, const Bpe *bpe, const DataWant *w, Error *err) {
  bool is_text = w->field->fit == FIT_TEXT && w->dtype == DTYPE_I32;
  int64_t n = is_text ? bpe_vocab(bpe) : w->field->fit == FIT_CLASS ? dataset_class_count(d) : 0;
  int64_t most = w->ids + (w->ignored == w->ids);   /* the last may be the ignored one */
  if (!w->ids || n <= most) return true;
  return error_set(err, ERROR_ARGUMENT, "%s: %s %s %lld %s, the model takes %lld", w->name,
                   is_text ? "the merges" : d->spec, is_text ? "make" : "has", (long long)n, is_text ? "tokens" : "classes",
                   (long long)w->ids);
}

bool dataset_match(const Dataset *d, const Bpe *bpe, DataWant *w, Error *err) {
  if (!(w->field = dataset_find_field(d, w))) return refuse(d, w, err);
  if (w->field->fit == FIT_TEXT && !bpe)
    return error_set(err, ERROR_ARGUMENT,
                     "%s: a merges file is needed: --bpe names one, and nuwa data --bpe makes one of captions",
                     w->name);
  if (w->field->missing && !(w->field->fit == FIT_TEXT && d->o.allow_missing))
    return refuse_missing(d, w->field, err);
  return check_id_count(d, bpe, w, err);
}

size_t data_want_bytes(const DataWant *w) {
  size_t bytes = dtype_bytes(w->dtype);
  for (int i = 0; i < w->rank; i++) bytes *= (size_t)w->dim[i];
  return bytes;
}

/* ---- what stands where ---- */

/* Place of a position in its part, and the example there. */
static uint64_t place_of(const Dataset *d, WorldSplit part, uint64_t position) {
  uint64_t n = dataset_count(d, part), epoch = position / n, place = position % n;
  EpochGroups *groups = d->groups[part == WORLD_VALIDATION];
  if (d->o.in_order) return place;
  return groups ? epoch_groups_permute(groups, epoch, place) : epoch_permute(d->o.seed, epoch, n, place);
}

static DataExample example_at(const Dataset *d, WorldSplit part, uint64_t position, uint64_t place) {
  DataExample e = {part, position, 0};
  if (d->is_endless) return e;
  e.number = d->part[part == WORLD_VALIDATION][place];
  if (!d->o.in_order) e.draw = philox(d->o.seed, (uint32_t)position, (uint32_t)(position >> 32), STREAM_DATA).word[0];
  return e;
}

static DataExample example_of(const Dataset *d, WorldSplit part, uint64_t position) {
  return example_at(d, part, position, d->is_endless ? 0 : place_of(d, part, position));
}

void dataset_key(const Dataset *d, WorldSplit part, uint64_t position, Buffer *out) {
  DataExample e = example_of(d, part, position);
  d->kind->key(d, &e, out);
}

/* Tells the user once of an example. */
static void tell(const Dataset *d, uint64_t number, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void tell(const Dataset *d, uint64_t number, const char *fmt, ...) {
  char text[1200];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  if (!d->is_endless && !atomic_exchange(&d->told[number], 1) && d->o.warn) d->o.warn(d->o.warn_ctx, text);
}

bool dataset_caption(const Dataset *d, WorldSplit part, uint64_t position, Buffer *out, Error *err) {
  DataExample e = example_of(d, part, position);
  Error why = {0};
  size_t before = out->len;
  if (!d->kind->caption || d->kind->caption(d, &e, out, &why)) return true;
  if (d->o.strict || why.code == ERROR_MEMORY) return error_set(err, why.code, "%s", why.text);
  if (out->data) out->data[out->len = before] = 0;
  tell(d, e.number, "%s; it has none here", why.text);
  return true;
}

/* ---- filling ---- */

/* What only reading tells: a text that is empty but for translations. */
static bool refuse_empty(const Dataset *d, const DataExample *e, Error *err) {
  Buffer key = {0};
  d->kind->key(d, e, &key);
  error_set(err, ERROR_FORMAT, "%s: the caption of \"%s\" is empty", d->spec, key.data ? key.data : "");
  buffer_done(&key);
  return false;
}

static bool encode_text(const Bpe *bpe, const char *text, const DataWant *w, int64_t at, Error *err) {
  int64_t n = w->dim[0];
  if (!is_text_mask(w)) return bpe_encode_fixed(bpe, text, (int32_t *)w->out + at * n, (int)n, err);
  int32_t *ids = mem_alloc((size_t)n * sizeof *ids);
  bool ok = ids ? bpe_encode_fixed(bpe, text, ids, (int)n, err) : error_set(err, ERROR_MEMORY, "a caption: out of memory");
  if (ok) bpe_mask(bpe, ids, (uint8_t *)w->out + at * n, (int)n);
  mem_free(ids);
  return ok;
}

/* Says of an error whose caption it is of. */
static bool name_caption(const Dataset *d, const DataExample *e, Error *err) {
  Buffer key = {0};
  d->kind->key(d, e, &key);
  error_prefix(err, "%s: the caption of \"%s\"", d->spec, key.data ? key.data : "");
  buffer_done(&key);
  return false;
}

static bool read_text(const Dataset *d, const Bpe *bpe, const DataExample *e, const DataWant *w, int64_t at,
                      Error *err) {
  Buffer caption = {0};
  bool ok = d->kind->caption(d, e, &caption, err) &&
            (!caption.failed || error_set(err, ERROR_MEMORY, "a caption: out of memory")) &&
            (caption.len || d->o.allow_missing || refuse_empty(d, e, err)) &&
            (encode_text(bpe, caption.data ? caption.data : "", w, at, err) || name_caption(d, e, err));
  buffer_done(&caption);
  return ok;
}

/* What the model has no place for is nothing that another example could stand in for. */
static bool check_ids(const Dataset *d, const DataExample *e, const DataWant *w, int64_t at, Error *err) {
  size_t n = data_want_bytes(w) / sizeof(int32_t);
  const int32_t *id = (const int32_t *)w->out + (size_t)at * n;
  for (size_t i = 0; i < n; i++) {
    if ((id[i] >= 0 && id[i] < w->ids) || id[i] == w->ignored) continue;
    Buffer key = {0};
    d->kind->key(d, e, &key);
    error_set(err, ERROR_USAGE, "%s: %s of \"%s\" has %d; the model takes 0 to %lld", d->spec, w->name,
              key.data ? key.data : "", id[i], (long long)(w->ids - 1));
    buffer_done(&key);
    return false;
  }
  return true;
}

static bool read_example(const Dataset *d, const Bpe *bpe, const DataExample *e, const DataWant *want, int n,
                         int64_t at, Error *err) {
  for (int i = 0; i < n; i++)
    if (want[i].field->fit == FIT_TEXT && !read_text(d, bpe, e, &want[i], at, err)) return false;
  if (!d->kind->read(d, e, want, n, at, err)) return false;
  for (int i = 0; i < n; i++)
    if (want[i].ids && want[i].dtype == DTYPE_I32 && !check_ids(d, e, &want[i], at, err)) return false;
  return true;
}

/* Mirrors a picture's rows, left to right. */
static void mirror(const DataWant *w, int64_t at) {
  int height, width;
  int64_t rows = data_want_frames(w, &height, &width) * height;
  size_t bytes = data_want_bytes(w), pixel = bytes / (size_t)(rows * width);
  uint8_t *row = (uint8_t *)w->out + (size_t)at * bytes, kept[16];
  BUG_IF(pixel > sizeof kept, "a pixel of %zu bytes", pixel);
  for (int64_t y = 0; y < rows; y++, row += pixel * (size_t)width)
    for (uint8_t *a = row, *b = row + pixel * (size_t)(width - 1); a < b; a += pixel, b -= pixel) {
      memcpy(kept, a, pixel);
      memcpy(a, b, pixel);
      memcpy(b, kept, pixel);
    }
}

/* Whether an example is flipped is drawn anew in every epoch; what measures a model is shown as it is. */
static bool is_flipped(const Dataset *d, const DataExample *e, uint64_t position) {
  if (!d->flips || d->o.in_order || d->o.measures || e->part != WORLD_TRAIN) return false;
  uint64_t epoch = position / dataset_count(d, e->part);
  const uint32_t counter[4] = {(uint32_t)e->number, (uint32_t)epoch, (uint32_t)(epoch >> 32),
                               STREAM_DATA | FLIP_ROUND << 8};
  return philox_block(d->o.seed, counter).word[0] & 1;
}

static void flip(const DataWant *want, int n, int64_t at) {
  for (int i = 0; i < n; i++)
    if (want[i].field->fit == FIT_PICTURE || want[i].field->fit == FIT_LABELS) mirror(&want[i], at);
}

/* Puts a broken example behind the list. */
static bool note_broken(uint64_t number, const Error *why, DataBroken **list) {
  while (*list) list = &(*list)->next;
  if (!(*list = mem_alloc(sizeof **list))) return false;
  **list = (DataBroken){NULL, number, *why};
  return true;
}

/* Whether the model reads a caption to its end; else what to say of it.  Where nothing is known, it does. */
static bool is_whole(const Dataset *d, const Bpe *bpe, const DataExample *e, const DataWant *w, int64_t at, Error *why) {
  int64_t length = w->dim[0];
  Buffer caption = {0}, key = {0};
  Error ignored;
  int n = 0;
  if (is_text_mask(w) || ((const int32_t *)w->out)[(at + 1) * length - 1] != bpe_end(bpe)) return true;
  bool known = d->kind->caption(d, e, &caption, &ignored) && caption.data &&
               bpe_encode(bpe, caption.data, NULL, 0, &n, &ignored);
  if (known && n > length - 2) {
    d->kind->key(d, e, &key);
    error_set(why, ERROR_LIMIT,
              "%s: the caption of \"%s\" has %d tokens, of which the model reads %lld; others may be cut, too",
              d->spec, key.data ? key.data : "", n, (long long)length - 2);
  }
  buffer_done(&caption);
  buffer_done(&key);
  return !known || n <= length - 2;
}

/* Of captions that are cut the first is told, and noted by who comes to it before. */
static bool note_cut(const Dataset *d, const Bpe *bpe, const DataExample *e, const DataWant *want, int n, int64_t at,
                     DataBroken **list) {
  Error why;
  for (int i = 0; i < n; i++)
    if (want[i].field->fit == FIT_TEXT && !atomic_load(&d->told[d->n]) && !is_whole(d, bpe, e, &want[i], at, &why))
      return note_broken(d->n, &why, list);
  return true;
}

void dataset_tell(const Dataset *d, DataBroken *broken) {
  for (DataBroken *next; broken; broken = next) {
    char text[sizeof broken->why.text + 40];
    next = broken->next;
    if (!atomic_exchange(&d->told[broken->number], 1) && d->o.warn) {
      snprintf(text, sizeof text, "%s%s", broken->why.text, broken->number < d->n ? "; the next one stands in for it" : "");
      d->o.warn(d->o.warn_ctx, text);
    }
    mem_free(broken);
  }
}

bool dataset_read(const Dataset *d, const Bpe *bpe, WorldSplit part, uint64_t position, const DataWant *want,
                  int n_want, int64_t at, DataBroken **broken, Error *err) {
  if (d->is_endless) return read_example(d, bpe, &(DataExample){part, position, 0}, want, n_want, at, err);
  uint64_t n = dataset_count(d, part), place = n ? place_of(d, part, position) : 0;
  if (!n)
    return error_set(err, ERROR_ARGUMENT, "%s: none of its %llu examples is %s", d->spec, (unsigned long long)d->n,
                     part == WORLD_TRAIN ? "for training" : "held out");
  Error why = {0};   /* of the last that could not be read */
  for (uint64_t tries = 0; tries < n; tries++) {
    DataExample e = example_at(d, part, position, place);
    if (read_example(d, bpe, &e, want, n_want, at, &why)) {
      if (is_flipped(d, &e, position)) flip(want, n_want, at);
      return note_cut(d, bpe, &e, want, n_want, at, broken) || error_set(err, ERROR_MEMORY, "%s: out of memory", d->spec);
    }
    bool ends = d->o.strict || why.code == ERROR_MEMORY || why.code == ERROR_USAGE;
    if (ends) return error_set(err, why.code, "%s", why.text);
    if (!note_broken(e.number, &why, broken)) return error_set(err, ERROR_MEMORY, "%s: out of memory", d->spec);
    place = (place + 1) % n;
  }
  *err = why;
  return error_prefix(err, "%s: none of %llu examples can be read, this one neither", d->spec, (unsigned long long)n);
}

bool dataset_fill(const Dataset *d, const Bpe *bpe, WorldSplit part, uint64_t first, int64_t n, const DataWant *want,
                  int n_want, Error *err) {
  bool ok = true;
  for (int64_t i = 0; ok && i < n; i++) {
    DataBroken *broken = NULL;
    ok = dataset_read(d, bpe, part, first + (uint64_t)i, want, n_want, i, &broken, err);
    dataset_tell(d, broken);
  }
  return ok;
}

/* ---- pictures and labels into wants ---- */

int64_t data_want_frames(const DataWant *w, int *out_h, int *out_w) {
  int planes = w->field->fit == FIT_PICTURE ? 3 : 2; /* axes of one frame */
  *out_h = (int)w->dim[w->rank - planes];
  *out_w = (int)w->dim[w->rank - planes + 1];
  return w->rank > planes ? w->dim[0] : 1;
}

bool data_put_picture(const DataWant *w, int64_t at, int64_t frame, const Image *im, Error *err) {
  int height, width;
  int64_t frames = data_want_frames(w, &height, &width), channels = w->dim[w->rank - 1];
  bool fits = im->width == width && im->height == height;
  Image fitted = {0};
  if (!fits && !image_fit(im, width, height, &fitted, err)) return false;
  const uint8_t *rgb = fits ? im->rgb : fitted.rgb;
  size_t pixels = (size_t)width * (size_t)height, values = pixels * (size_t)channels;
  uint8_t *out = (uint8_t *)w->out + ((size_t)at * (size_t)frames + (size_t)frame) * values * dtype_bytes(w->dtype);
  if (w->dtype == DTYPE_F32)
    image_to_channels(rgb, pixels, channels, (float *)out);
  else if (channels == 3)
    memcpy(out, rgb, values);
  else
    for (size_t i = 0; i < pixels; i++) out[i] = image_grey(rgb + 3 * i);
  image_done(&fitted);
  return true;
}

void data_put_labels(const DataWant *w, int64_t at, int64_t frame, const uint16_t *labels, int width, int height) {
  int to_h, to_w;
  int64_t frames = data_want_frames(w, &to_h, &to_w);
  size_t place = ((size_t)at * (size_t)frames + (size_t)frame) * (size_t)to_h * (size_t)to_w;
  image_fit_labels(labels, width, height, to_w, to_h, (int32_t *)w->out + place);
}

/* ---- text ---- */

/* Captions end with a NUL each; at [n] says where they begin. */
static bool collect_captions(const Dataset *d, int n, Buffer *text, size_t *at, Error *err) {
  for (int i = 0; i < n; i++) {
    at[i] = text->len;
    if (!dataset_caption(d, WORLD_TRAIN, (uint64_t)i, text, err)) return false;
    if (text->len - at[i] > BPE_MAX_TEXT) {
      DataExample e = example_of(d, WORLD_TRAIN, (uint64_t)i);
      Buffer key = {0};
      d->kind->key(d, &e, &key);
      tell(d, e.number, "%s: the caption of \"%s\" has %zu bytes, and %d are the most: it is left out", d->spec,
           key.data ? key.data : "", text->len - at[i], BPE_MAX_TEXT);
      buffer_done(&key);
      text->len = at[i];
    }
    buffer_append(text, "", 1);
  }
  return !text->failed || error_set(err, ERROR_MEMORY, "%d captions: out of memory", n);
}

Bpe *dataset_train_bpe(const Dataset *d, int n, int max_merges, Error *err) {
  Buffer text = {0};
  Bpe *b = NULL;
  if (!d->is_endless && (uint64_t)n > dataset_count(d, WORLD_TRAIN)) n = (int)dataset_count(d, WORLD_TRAIN);
  size_t *at = mem_alloc((size_t)n * sizeof *at);
  const char **list = mem_alloc((size_t)n * sizeof *list);
  if (!at || !list) error_set(err, ERROR_MEMORY, "%d captions: out of memory", n);
  if (at && list && collect_captions(d, n, &text, at, err)) {
    for (int i = 0; i < n; i++) list[i] = text.data + at[i];
    b = bpe_train(list, n, max_merges, err);
  }
  buffer_done(&text);
  mem_free(at);
  mem_free(list);
  return b;
}
