/* Captions from slots and back.  The grammar:
 *
 *   caption    = [ "a picture of" ] body "on" ground | ground "with" body | "on" ground body
 *   body       = what [ motion ] where [ "and" what where ]
 *   what       = [ "a" | "an" | "some" ] [ "little" | "big" ] [ colour ] thing
 *   where      = "at the" place
 *   ground     = [ "a" | "an" ] ( colour | texture ) [ "background" ]
 *
 * A thing's name is read before a colour in front of it ("red apple" is a thing), the longest one that fits. */
#include <string.h>

#include "media/world_internal.h"

/* No Unicode name of more than a few letters ends in s and is singular but for these endings; "skis" is the other
 * exception. */
static bool is_plural(const char *name) {
  size_t n = strlen(name);
  return n > 3 && name[n - 1] == 's' && (!strchr("suio", name[n - 2]) || !strcmp(name, "skis"));
}

static const char *article_of(const char *word, bool plural) {
  if (plural) return "some";
  if (!strncmp(word, "uni", 3)) return "a";
  return strchr("aeiou", word[0]) ? "an" : "a";
}

/* Text that grows in the caller's WORLD_CAPTION_BYTES; longer names than the files have are cut. */
typedef struct Out {
  char *text;
  int len;
} Out;

static void put(Out *o, const char *s) {
  for (; *s && o->len + 1 < WORLD_CAPTION_BYTES; s++) o->text[o->len++] = *s;
  o->text[o->len] = 0;
}

static void put_what(Out *o, const World *w, const SceneThing *t) {
  const char *name = world_thing_name(w, t->thing);
  const char *size = t->size_word < 0 ? "little " : t->size_word > 0 ? "big " : "";
  const char *colour = t->colour >= 0 ? world_colour_name(t->colour) : "";
  put(o, article_of(*size ? size : *colour ? colour : name, is_plural(name)));
  put(o, " ");
  put(o, size);
  put(o, colour);
  put(o, *colour ? " " : "");
  put(o, name);
}

static void put_body(Out *o, const World *w, const Scene *s) {
  for (int i = 0; i < s->n_things; i++) {
    if (i) put(o, " and ");
    put_what(o, w, &s->part[i]);
    if (i == 0 && s->motion != MOTION_NONE) put(o, " "), put(o, world_motion_name(s->motion));
    put(o, " at the ");
    put(o, world_place_name(s->part[i].place));
  }
}

static void put_ground(Out *o, int background) {
  put(o, article_of(world_background_name(background), false));
  put(o, " ");
  put(o, world_background_name(background));
  put(o, " background");
}

int world_caption(const World *w, const Scene *s, char *out) {
  Out o = {out, 0};
  out[0] = 0;
  switch (s->phrasing) {
  case 1:
    put(&o, "a picture of ");
    put_body(&o, w, s);
    put(&o, " on ");
    if (s->background < WORLD_COLOURS) put(&o, world_colour_name(s->background));
    else put_ground(&o, s->background);
    break;
  case 2:
    put_ground(&o, s->background);
    put(&o, " with ");
    put_body(&o, w, s);
    break;
  case 3:
    put(&o, "on ");
    put_ground(&o, s->background);
    put(&o, ", ");
    put_body(&o, w, s);
    break;
  default:
    put_body(&o, w, s);
    put(&o, " on ");
    put_ground(&o, s->background);
    break;
  }
  return o.len;
}

/* ---- words ---- */

enum { WORD_BYTES = 64 };

typedef struct WordSet {
  char (*word)[WORD_BYTES];   /* sorted */
  int n, cap;
  bool failed;
} WordSet;

static void add_word(WordSet *s, const char *text, size_t len) {
  char word[WORD_BYTES];
  int lo = 0, hi = s->n;
  if (len >= WORD_BYTES || s->failed) return;
  snprintf(word, sizeof word, "%.*s", (int)len, text);
  while (lo < hi) {
    int mid = (lo + hi) / 2, order = strcmp(s->word[mid], word);
    if (order == 0) return;
    if (order < 0) lo = mid + 1;
    else hi = mid;
  }
  if (s->n == s->cap) {
    int cap = s->cap ? 2 * s->cap : 256;
    void *grown = mem_realloc(s->word, (size_t)cap * WORD_BYTES);
    if (!grown) {
      s->failed = true;
      return;
    }
    s->word = grown;
    s->cap = cap;
  }
  memmove(s->word[lo + 1], s->word[lo], (size_t)(s->n - lo) * WORD_BYTES);
  memcpy(s->word[lo], word, WORD_BYTES);
  s->n++;
}

/* Scene i of a list that shows every thing on every background in every phrasing, and goes through the rest. */
static Scene word_scene(const World *w, int i) {
  unsigned kinds = w->options.kinds;
  bool has_one = kinds & (WORLD_SINGLE | WORLD_CLIPS), has_two = kinds & (WORLD_TWO | WORLD_PAIRS);
  Scene s = {.n_things = has_two && (i % 2 || !has_one) ? 2 : 1,
             .phrasing = i % WORLD_PHRASINGS,
             .background = i / WORLD_PHRASINGS % world_background_count(w)};
  int thing = i / (WORLD_PHRASINGS * world_background_count(w));
  for (int k = 0; k < s.n_things; k++)
    s.part[k] = (SceneThing){.thing = thing,
                             .colour = world_recolour(w, i % (world_recolour_count(w) + 1) - 1),
                             .size_word = kinds & WORLD_SIZED ? i / 2 % 3 - 1 : 0,
                             .place = i % WORLD_PLACES};
  if (kinds & (s.n_things == 1 ? WORLD_CLIPS : WORLD_PAIRS)) s.motion = (Motion)(i / 3 % MOTION_COUNT);
  return s;
}

void world_words(const World *w, Buffer *out) {
  WordSet set = {0};
  for (int i = 0; i < w->things * world_background_count(w) * WORLD_PHRASINGS; i++) {
    char caption[WORLD_CAPTION_BYTES];
    Scene s = word_scene(w, i);
    world_caption(w, &s, caption);
    for (const char *p = caption; *p;) {
      size_t n = strcspn(p, " ");
      add_word(&set, p, n && p[n - 1] == ',' ? n - 1 : n);
      p += n + (p[n] == ' ');
    }
  }
  for (int i = 0; i < set.n; i++) buffer_printf(out, "%s%s", i ? " " : "", set.word[i]);
  out->failed |= set.failed;
  mem_free(set.word);
}

/* ---- reading ---- */

/* A caption being read: lower case, one space between words and one at each end of what is left. */
typedef struct In {
  const World *w;
  char text[2 * WORLD_CAPTION_BYTES];
  const char *at;
} In;

static bool clean(In *in, const char *text, Error *err) {
  int n = 0;
  bool gap = true;
  for (const char *p = text; *p; p++) {
    if (n + 3 >= (int)sizeof in->text)
      return error_set(err, ERROR_ARGUMENT, "caption: longer than %d bytes", (int)sizeof in->text - 4);
    bool stop = *p == '.' && (!p[1] || p[1] == ' ');
    if (strchr(" \t\r\n,", *p) || stop)
      gap = true;
    else {
      if (gap && n) in->text[n++] = ' ';
      gap = false;
      in->text[n++] = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
    }
  }
  if (n) in->text[n++] = ' ';
  in->text[n] = 0;
  in->at = in->text;
  return true;
}

/* Takes `words` if the text goes on with exactly those. */
static bool take(In *in, const char *words) {
  size_t n = strlen(words);
  if (n == 0 || strncmp(in->at, words, n) || in->at[n] != ' ') return false;
  in->at += n + 1;
  return true;
}

static bool take_article(In *in) { return take(in, "a") || take(in, "an") || take(in, "some"); }

static bool expected(In *in, const char *what, Error *err) {
  return error_set(err, ERROR_ARGUMENT, "caption: %s expected at \"%.60s\"", what, *in->at ? in->at : "(end)");
}

/* The first `count` of colours and textures. */
static int take_colour(In *in, int count) {
  for (int i = 0; i < count; i++)
    if (take(in, world_background_name(i))) return i;
  return -1;
}

static int take_thing(In *in) {
  int best = -1;
  size_t best_len = 0;
  for (int i = 0; i < in->w->things; i++) {
    size_t n = strlen(in->w->names[i]);
    if (n > best_len && !strncmp(in->at, in->w->names[i], n) && in->at[n] == ' ') best = i, best_len = n;
  }
  if (best >= 0) in->at += best_len + 1;
  return best;
}

static bool parse_what(In *in, SceneThing *t, Error *err) {
  const WorldOptions *o = &in->w->options;
  int sizes = world_size_count(in->w), middle = o->align * ((world_jitter_steps(in->w) - 1) / 2);
  *t = (SceneThing){.thing = -1, .colour = -1, .size = o->thing_min, .dx = middle, .dy = middle};
  take_article(in);
  t->thing = take_thing(in);
  if (t->thing >= 0) return true;
  t->size_word = take(in, "little") ? -1 : take(in, "big") ? 1 : 0;
  if (t->size_word > 0) t->size += o->size_step * (sizes - 1);
  t->thing = take_thing(in);
  if (t->thing >= 0) return true;
  t->colour = take_colour(in, WORLD_RECOLOURS);
  t->thing = take_thing(in);
  return t->thing >= 0 || expected(in, "the name of a thing", err);
}

static bool parse_where(In *in, SceneThing *t, Error *err) {
  size_t best_len = 0;
  if (!take(in, "at the") && !take(in, "in the")) return expected(in, "\"at the\" and a place", err);
  for (int i = 0; i < WORLD_PLACES; i++) {
    size_t n = strlen(world_place_name(i));
    if (n > best_len && !strncmp(in->at, world_place_name(i), n) && in->at[n] == ' ') t->place = i, best_len = n;
  }
  if (!best_len) return expected(in, "a place (top left, top, ... center, ... bottom right)", err);
  in->at += best_len + 1;
  return true;
}

static bool parse_body(In *in, Scene *s, Error *err) {
  if (!parse_what(in, &s->part[0], err)) return false;
  for (int m = 1; m < MOTION_COUNT; m++)
    if (take(in, world_motion_name((Motion)m))) {
      s->motion = (Motion)m;
      break;
    }
  if (!parse_where(in, &s->part[0], err)) return false;
  s->n_things = 1;
  if (!take(in, "and")) return true;
  s->n_things = 2;
  return parse_what(in, &s->part[1], err) && parse_where(in, &s->part[1], err);
}

static bool parse_ground(In *in, Scene *s, Error *err) {
  take_article(in);
  s->background = take_colour(in, world_background_count(in->w));
  if (s->background < 0) return expected(in, "a colour of the background", err);
  take(in, "background");
  return true;
}

/* "a red background ..." against "a red apple ...": the word background decides. */
static bool begins_with_ground(const In *in) {
  In copy = *in;
  copy.at = copy.text + (in->at - in->text);
  take_article(&copy);
  return take_colour(&copy, world_background_count(in->w)) >= 0 && (take(&copy, "background") || take(&copy, "with"));
}

bool world_parse_caption(const World *w, const char *text, Scene *out, Error *err) {
  In in = {.w = w};
  Scene s = {0};
  if (!clean(&in, text, err)) return false;
  if (take(&in, "on")) {
    if (!parse_ground(&in, &s, err) || !parse_body(&in, &s, err)) return false;
    s.phrasing = 3;
  } else if (begins_with_ground(&in)) {
    if (!parse_ground(&in, &s, err)) return false;
    if (!take(&in, "with")) return expected(&in, "\"with\"", err);
    if (!parse_body(&in, &s, err)) return false;
    s.phrasing = 2;
  } else {
    s.phrasing = take(&in, "a picture of") ? 1 : 0;
    if (!parse_body(&in, &s, err)) return false;
    if (!take(&in, "on")) return expected(&in, "\"on\" and the colour of the background", err);
    if (!parse_ground(&in, &s, err)) return false;
  }
  if (*in.at) return expected(&in, "nothing more", err);
  *out = s;
  return true;
}
