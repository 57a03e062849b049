/* Which things there are, and in what order: reads emoji-test.txt.  Pictures are world_font.c's. */
#include <stdlib.h>
#include <string.h>

#include "media/world_internal.h"
#include "runtime/base/file.h"

/* The head of the order.  Weights depend on it: append only. */
static const char *const fixed_order[] = {
#define THING(name) name,
#include "media/things.def"
#undef THING
};

static const char *const wanted_groups[] = {"Animals & Nature", "Food & Drink", "Travel & Places", "Activities",
                                            "Objects"};

/* A line without its newline. */
typedef struct Line {
  const char *at;
  int len;
} Line;

static bool line_next(const char **p, Line *out) {
  if (!**p) return false;
  const char *end = strchr(*p, '\n');
  size_t n = end ? (size_t)(end - *p) : strlen(*p);
  *out = (Line){*p, n < 4096 ? (int)n : 4096};
  *p += n + (end != NULL);
  return true;
}

static bool line_begins(const Line *l, const char *prefix) {
  size_t n = strlen(prefix);
  return (size_t)l->len >= n && !memcmp(l->at, prefix, n);
}

static bool is_wanted_group(const Line *l) {
  for (int i = 0; i < COUNT_OF(wanted_groups); i++) {
    size_t n = strlen(wanted_groups[i]);
    if ((size_t)l->len >= 9 + n && !memcmp(l->at + 9, wanted_groups[i], n)) return true;
  }
  return false;
}

/* Names in lower case, with a plain apostrophe; clocks are left out, all show the same thing. */
static bool copy_name(const char *at, int len, char *out) {
  int n = 0;
  while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\r')) len--;
  for (int i = 0; i < len; i++) {
    if (n + 1 >= THING_NAME_BYTES) return false;
    if (len - i >= 3 && !memcmp(at + i, "\xe2\x80\x99", 3))
      out[n++] = '\'', i += 2;
    else
      out[n++] = at[i] >= 'A' && at[i] <= 'Z' ? (char)(at[i] + 32) : at[i];
  }
  out[n] = 0;
  return n > 0 && !strstr(out, "clock") && !strstr(out, "-thirty");
}

/* "1F34E ; fully-qualified # <emoji> E0.6 red apple" -> code and name; false when the line is no such thing (another
 * status, or a sequence: those need shaping, and the variation selector FE0F is the only second code that does not).
 */
static bool parse_thing(const Line *l, ThingName *out) {
  char text[4097];
  memcpy(text, l->at, (size_t)l->len);
  text[l->len] = 0;
  char *end;
  unsigned long code = strtoul(text, &end, 16);
  if (end == text || code == 0 || code > 0x10ffff) return false;
  char *status = strchr(end, ';');
  if (!status) return false;
  while (*end == ' ') end++;
  if (end != status && strncmp(end, "FE0F", 4)) return false;
  if (end != status && strspn(end + 4, " ") != (size_t)(status - end - 4)) return false;
  if (strncmp(status, "; fully-qualified", 17)) return false;
  char *name = strstr(status, " E");
  if (!name || !(name = strchr(name + 1, ' '))) return false;
  out->code = (uint32_t)code;
  return copy_name(name + 1, (int)strlen(name + 1), out->name);
}

static int count_words(const char *name) {
  int n = 1;
  for (; *name; name++) n += *name == ' ';
  return n;
}

static int find_name(const ThingName *list, int n, const char *name) {
  for (int i = 0; i < n; i++)
    if (!strcmp(list[i].name, name)) return i;
  return -1;
}

/* All things in file order. */
static bool parse_file(const char *text, const char *path, ThingName **out, int *out_count, Error *err) {
  int n = 0, cap = 0;
  bool wanted = false;
  ThingName *list = NULL, t;
  Line l;
  for (const char *p = text; line_next(&p, &l);) {
    if (line_begins(&l, "# group: ")) wanted = is_wanted_group(&l);
    if (!wanted || l.len == 0 || l.at[0] == '#' || !parse_thing(&l, &t) || find_name(list, n, t.name) >= 0) continue;
    if (n == cap) {
      cap = cap ? 2 * cap : 256;
      ThingName *grown = mem_realloc(list, (size_t)cap * sizeof *list);
      if (!grown) {
        mem_free(list);
        return error_set(err, ERROR_MEMORY, "%s: out of memory", path);
      }
      list = grown;
    }
    list[n++] = t;
  }
  *out = list;
  *out_count = n;
  return true;
}

/* Stable partition of list[from..n) by words; the number of things is small, so insertion is fine. */
static void short_names_first(ThingName *list, int from, int n) {
  int at = from;
  for (int i = from; i < n; i++) {
    if (count_words(list[i].name) > 2) continue;
    ThingName t = list[i];
    memmove(&list[at + 1], &list[at], (size_t)(i - at) * sizeof t);
    list[at++] = t;
  }
}

/* Moves the things of things.def to the head. */
static bool fixed_names_first(ThingName *list, int n, const char *path, Error *err) {
  for (int k = 0; k < COUNT_OF(fixed_order); k++) {
    int i = find_name(list, n, fixed_order[k]);
    if (i < k)
      return error_set(
          err, ERROR_FORMAT,
          "%s: no emoji \"%s\" in the five groups of things: not an emoji-test.txt of Unicode 13 or later", path,
          fixed_order[k]);
    ThingName t = list[i];
    memmove(&list[k + 1], &list[k], (size_t)(i - k) * sizeof t);
    list[k] = t;
  }
  return true;
}

bool things_read(const char *path, ThingName **out, int *out_count, int *out_fixed, Error *err) {
  if (!path) path = "/usr/share/unicode/emoji/emoji-test.txt";
  size_t len;
  char *text = file_read(path, &len, err);
  if (!text) return error_prefix(err, "the world's names (Debian package unicode-data)");
  ThingName *list = NULL;
  int n = 0;
  bool ok = parse_file(text, path, &list, &n, err) && fixed_names_first(list, n, path, err);
  mem_free(text);
  if (!ok) {
    mem_free(list);
    return false;
  }
  short_names_first(list, COUNT_OF(fixed_order), n);
  *out = list;
  *out_count = n;
  *out_fixed = COUNT_OF(fixed_order);
  return true;
}
