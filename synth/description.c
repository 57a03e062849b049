/* See description.h. */
#include "synth/description.h"

#include <string.h>

#include "media/clip.h"
#include "runtime/base/file.h"

bool description_is_clip(const char *path, Error *err) {
  FileMap map;
  int n = 0;
  if (!file_map(path, &map, err)) return false;
  Error ignored;
  Clip *c = clip_open(map.data, map.len, path, (ClipRate){0}, &ignored);
  for (Image frame = {0}; c && n < 2 && clip_next(c, &frame, &ignored); n++) image_done(&frame);
  clip_close(c);
  file_unmap(&map);
  err->code = ERROR_NONE;
  return n == 2;
}

/* ---- words ---- */

typedef struct Reading {
  Kit *k;
  Arena *arena;
  Error *err;
} Reading;

/* The text of the first n tokens. */
static bool text_of(const Reading *r, const int32_t *tokens, int n, const char **out) {
  Buffer text = {0};
  if (!bpe_decode(r->k->bpe, tokens, n, &text, r->err)) {
    buffer_done(&text);
    return false;
  }
  *out = arena_take_buffer(r->arena, &text);
  return true;
}

/* Tokens are parts of words; a word begins where the text so far gets a space. */
static bool read_caption(const Reading *r, const int32_t *tokens, const float *chance, Description *d) {
  int n = 0, cap = 0;
  const char *before = "", *text;
  bool is_start = true;
  *d = (Description){.chance = 1};
  while (n < r->k->positions && tokens[n] != bpe_end(r->k->bpe)) n++;
  for (int i = 0; i < n; i++, before = text) {
    if (!text_of(r, tokens, i + 1, &text)) return false;
    size_t common = strlen(before);
    const char *added = strlen(text) > common ? text + common : "";
    if (*added == ' ') added++, is_start = true;
    if (is_start) ARENA_PUSH(r->arena, d->word, d->n_word, cap, ((DescriptionWord){"", 1}));
    DescriptionWord *w = &d->word[d->n_word - 1];
    w->text = arena_printf(r->arena, "%s%s", w->text, added);
    w->chance *= chance[i];
    d->chance *= chance[i];
    is_start = false;
  }
  if (n < r->k->positions) d->chance *= chance[n];
  return text_of(r, tokens, n, &d->caption);
}

bool description_make(Kit *k, Arena *a, const uint8_t *rgb, int64_t n, uint64_t seed, NuwaSampling sample,
                      Description *out, Error *err) {
  int64_t frames = k->codes_grid[0], grid = k->codes_grid[1] * k->codes_grid[2], done;
  BUG_IF(!k->draws_words || !k->codes_input, "a kit that draws no words of codes");
  int32_t *codes = ARENA_ARRAY(a, int32_t, n * frames * grid), *tokens = ARENA_ARRAY(a, int32_t, n * k->positions);
  float *chance = ARENA_ARRAY(a, float, n * k->positions);
  KitRequest r = {
      .class = -1, .codes = codes, .count = n, .seed = seed, .sample = sample, .guidance = 1, .chance = chance};
  NuwaGenerateStats stats;
  if (!codec_encode(&k->codec[CODEC_IMAGE], rgb, n * frames, codes, err) ||
      !kit_generate(k, &r, tokens, &stats, &done, err))
    return false;
  if (done < n) return error_set(err, ERROR_CANCELLED, "interrupted");
  Reading reading = {k, a, err};
  for (int64_t i = 0; i < n; i++)
    if (!read_caption(&reading, tokens + i * k->positions, chance + i * k->positions, &out[i])) return false;
  return true;
}

/* ---- slots ---- */

/* The first word, from `from` on, at which the words of `value` stand; -1: none. */
static int find_words(const Description *d, const char *value, int from) {
  for (int i = from; i < d->n_word; i++) {
    const char *p = value;
    for (int k = i; k < d->n_word && *p; k++) {
      size_t n = strcspn(p, " "), len = strcspn(d->word[k].text, ",.");
      if (len != n || strncmp(d->word[k].text, p, n) != 0) break;
      p += n + (p[n] == ' ');
    }
    if (!*p) return i;
  }
  return -1;
}

static void add_slot(const Description *d, const char *name, const char *value, int at, DescriptionSlot *out, int *n) {
  if (at < 0) return;
  double chance = 1;
  for (const char *p = value; *p; at++) {
    size_t len = strcspn(p, " ");
    chance *= d->word[at].chance;
    p += len + (p[len] == ' ');
  }
  out[(*n)++] = (DescriptionSlot){name, value, chance};
}

int description_slots(const Description *d, const World *w, Arena *a, DescriptionSlot out[DESCRIPTION_SLOTS]) {
  Scene s;
  Error ignored;
  int n = 0;
  if (!world_parse_caption(w, d->caption, &s, &ignored)) return 0;
  const SceneThing *t = &s.part[0];
  const char *thing = world_thing_name(w, t->thing), *ground = world_background_name(s.background);
  int at = find_words(d, thing, 0), colour = t->colour >= 0 ? at - 1 : -1;
  add_slot(d, "thing", thing, at, out, &n);
  if (colour >= 0) add_slot(d, "colour", world_colour_name(t->colour), colour, out, &n);
  if (s.motion != MOTION_NONE)
    add_slot(d, "motion", world_motion_name(s.motion), find_words(d, world_motion_name(s.motion), 0), out, &n);
  add_slot(d, "place", world_place_name(t->place), find_words(d, world_place_name(t->place), at < 0 ? 0 : at), out, &n);
  int behind = find_words(d, ground, 0);
  if (behind >= 0 && behind == colour) behind = find_words(d, ground, behind + 1);
  add_slot(d, "background", ground, behind, out, &n);
  return n;
}
