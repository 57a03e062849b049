/* Options of the commands: one table a command, from which parsing and help both come. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include "cli/cli.h"
#include "runtime/base/file.h"

static const Arg *find_arg(const Command *c, const char *name, size_t n) {
  for (int i = 0; i < c->n_arg; i++)
    if (strlen(c->arg[i].name) == n && memcmp(c->arg[i].name, name, n) == 0) return &c->arg[i];
  return NULL;
}

static bool refuse_unknown(const Command *c, const char *name, Error *err) {
  error_set(err, ERROR_USAGE, "there is no option \"%s\"; there are: --help", name);
  for (int i = 0; i < c->n_arg; i++) {
    size_t at = strlen(err->text);
    snprintf(err->text + at, sizeof err->text - at, ", %s", c->arg[i].name);
  }
  return false;
}

/* strtoll and its kin skip spaces in front. */
static bool begins_with_space(const char *text) { return *text && strchr(" \t\n\v\f\r", *text); }

static bool read_int(const Arg *a, const char *text, int64_t *out, Error *err) {
  char *end;
  errno = 0;
  long long v = strtoll(text, &end, 10);
  if (end == text || *end || errno || begins_with_space(text) || (double)v < a->lo || (double)v > a->hi)
    return error_set(err, ERROR_USAGE, "%s %s: must be a whole number from %.0f to %.0f", a->name, text, a->lo,
                     a->hi);
  *out = v;
  return true;
}

static bool read_int32(const Arg *a, const char *text, Error *err) {
  int64_t v = 0;
  if (!read_int(a, text, &v, err)) return false;
  *(int32_t *)a->to = (int32_t)v;
  return true;
}

static bool read_real(const Arg *a, const char *text, Error *err) {
  char *end;
  errno = 0;
  double v = strtod(text, &end);
  bool is_lost = errno == ERANGE && v == 0.0;   /* a number too small to be one */
  if (end == text || *end || begins_with_space(text) || is_lost || !(v >= a->lo && v <= a->hi))
    return error_set(err, ERROR_USAGE, "%s %s: must be a number from %g to %g", a->name, text, a->lo, a->hi);
  *(double *)a->to = v;
  return true;
}

static bool read_choice(const Arg *a, const char *text, Error *err) {
  size_t n = strlen(text);
  for (const char *word = a->value; *word;) {
    size_t len = strcspn(word, "|");
    if (len == n && memcmp(word, text, n) == 0) {
      *(const char **)a->to = text;
      return true;
    }
    word += len + (word[len] == '|');
  }
  if (a->lacking && strncmp(a->lacking, text, n) == 0 && a->lacking[n] == ':')
    return error_set(err, ERROR_DEVICE, "%s %s", a->name, a->lacking);
  return error_set(err, ERROR_USAGE, "%s %s: must be one of %s", a->name, text, a->value);
}

static bool read_png(const Arg *a, const char *text, Error *err) {
  if (!file_is_stream(text) && !file_has_ending(text, ".png"))
    return error_set(err, ERROR_USAGE, "%s %s: a PNG is what is written, so the name must end in .png", a->name,
                     text);
  *(const char **)a->to = text;
  return true;
}

static bool read_define(Arena *arena, const Arg *a, const char *text, Error *err) {
  DefineList *list = a->to;
  const char *equals = strchr(text, '=');
  if (!equals || equals == text)
    return error_set(err, ERROR_USAGE, "%s %s: must be NAME=VALUE", a->name, text);
  const char *name = arena_printf(arena, "%.*s", (int)(equals - text), text);
  for (int i = 0; i < list->n && a->kind == ARG_DEFINE; i++)
    if (strcmp(list->item[i].name, name) == 0)
      return error_set(err, ERROR_USAGE, "%s %s: %s is %s already; give it one value", a->name, text, name,
                       list->item[i].value);
  Define *grown = ARENA_ARRAY(arena, Define, list->n + 1);
  if (list->n) memcpy(grown, list->item, sizeof *grown * (size_t)list->n);
  grown[list->n++] = (Define){name, equals + 1};
  list->item = grown;
  return true;
}

static void list_push(Arena *arena, ArgList *list, const char *text) {
  const char **grown = ARENA_ARRAY(arena, const char *, list->n + 1);
  if (list->n) memcpy(grown, list->item, sizeof *grown * (size_t)list->n);
  grown[list->n++] = text;
  list->item = grown;
}

bool args_read_value(Arena *arena, const Arg *a, const char *text, Error *err) {
  switch (a->kind) {
  case ARG_FLAG: *(bool *)a->to = true; return true;
  case ARG_TEXT:
  case ARG_OUT:
  case ARG_FOLDER: *(const char **)a->to = text; return true;
  case ARG_PNG: return read_png(a, text, err);
  case ARG_INT: return read_int(a, text, a->to, err);
  case ARG_INT32: return read_int32(a, text, err);
  case ARG_REAL: return read_real(a, text, err);
  case ARG_CHOICE: return read_choice(a, text, err);
  case ARG_LIST: list_push(arena, a->to, text); return true;
  case ARG_DEFINE:
  case ARG_VARIANTS: return read_define(arena, a, text, err);
  }
  return false;
}

/* The option at argv[*i], its value in the same word after "=", directly after "-D", or in the next word. */
static bool read_option(const Command *c, int argc, char **argv, int *i, bool *given, Arena *arena, Error *err) {
  const char *word = argv[*i], *equals = word[1] == '-' ? strchr(word, '=') : NULL,
             *value = equals ? equals + 1 : NULL;
  const Arg *a = find_arg(c, word, equals ? (size_t)(equals - word) : strlen(word));
  if (!a && word[1] != '-' && (a = find_arg(c, word, 2))) value = word + 2;
  if (!a) return refuse_unknown(c, word, err);
  if (a->kind == ARG_FLAG && value) return error_set(err, ERROR_USAGE, "%s takes no value", a->name);
  if (a->kind != ARG_FLAG && !value) {
    if (*i + 1 >= argc) return error_set(err, ERROR_USAGE, "%s needs a value (%s)", a->name, a->value);
    value = argv[++*i];
  }
  if (given[a - c->arg] && a->kind != ARG_LIST && a->kind != ARG_DEFINE && a->kind != ARG_VARIANTS)
    return error_set(err, ERROR_USAGE, "%s is given twice", a->name);
  given[a - c->arg] = true;
  return args_read_value(arena, a, value, err);
}

/* ---- options without effect ---- */

/* The first of the names in "a|b" that was given; NULL: none. */
static const Arg *find_given(const Command *c, const bool *given, const char *names) {
  for (const char *name = names; *name;) {
    size_t n = strcspn(name, "|");
    const Arg *a = find_arg(c, name, n);
    BUG_IF(!a, "nuwa %s has no option %.*s", c->name, (int)n, name);
    if (given[a - c->arg]) return a;
    name += n + (name[n] == '|');
  }
  return NULL;
}

/* "-o or --tokens-out" */
static void print_names(const char *names, char *out, size_t cap) {
  size_t at = 0;
  for (const char *name = names; *name && at < cap;) {
    size_t n = strcspn(name, "|");
    at += (size_t)snprintf(out + at, cap - at, "%s%.*s", name == names ? "" : " or ", (int)n, name);
    name += n + (name[n] == '|');
  }
}

bool args_check_effects(const Command *c, const bool given[ARGS_MAX], Error *err) {
  for (int i = 0; i < c->n_arg; i++) {
    const Arg *a = &c->arg[i];
    char names[200];
    if (!given[i]) continue;
    const Arg *other = a->without ? find_given(c, given, a->without) : NULL;
    if (other) return error_set(err, ERROR_USAGE, "%s has no effect beside %s", a->name, other->name);
    if (!a->with || find_given(c, given, a->with)) continue;
    print_names(a->with, names, sizeof names);
    return error_set(err, ERROR_USAGE, "%s has no effect without %s", a->name, names);
  }
  return true;
}

/* ---- all ---- */

ArgResult args_parse(const Command *c, int argc, char **argv, Arena *arena, ArgList *words, bool given[ARGS_MAX],
                     Error *err) {
  BUG_IF(c->n_arg > ARGS_MAX, "nuwa %s has %d options", c->name, c->n_arg);
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
      args_print_help(c, stdout);
      return ARGS_HELP;
    }
    if (argv[i][0] == '-' && argv[i][1]) {
      if (!read_option(c, argc, argv, &i, given, arena, err)) return ARGS_WRONG;
    } else {
      list_push(arena, words, argv[i]);
    }
  }
  return ARGS_OK;
}

static bool is_file(RecipeField f) {
  return f == RECIPE_VQ || f == RECIPE_BPE || f == RECIPE_START || f == RECIPE_SEGMENT || f == RECIPE_FEATURES ||
         f == RECIPE_SIMILARITY;
}

/* The words of a list, with spaces between; NULL: none. */
static const char *join(Arena *arena, const ArgList *list) {
  const char *text = list->n ? list->item[0] : NULL;
  for (int i = 1; i < list->n; i++) text = arena_printf(arena, "%s %s", text, list->item[i]);
  return text;
}

bool args_recipe(const Arg *arg, int n, Recipe *r, Error *err) {
  for (const Arg *a = arg; a < arg + n; a++) {
    const char *text = a->kind == ARG_TEXT || a->kind == ARG_CHOICE ? *(const char *const *)a->to : NULL;
    if (a->shapes == RECIPE_NONE) continue;
    if (a->kind == ARG_LIST) text = join(r->arena, a->to);
    if (a->kind == ARG_INT) recipe_set_int(r, a->shapes, *(const int64_t *)a->to);
    else if (a->kind == ARG_INT32) recipe_set_int(r, a->shapes, *(const int32_t *)a->to);
    else if (a->kind == ARG_REAL) recipe_set_real(r, a->shapes, *(const double *)a->to);
    else if (!text) continue;
    else if (!is_file(a->shapes)) recipe_set_text(r, a->shapes, text);
    else if (!recipe_set_file(r, a->shapes, text, err)) return false;
  }
  return true;
}

void args_print_help(const Command *c, FILE *to) {
  fprintf(to, "usage: nuwa %s %s\n%s\noptions\n", c->name, c->usage, c->about);
  for (int i = 0; i < c->n_arg; i++) {
    const Arg *a = &c->arg[i];
    int n = fprintf(to, "  %s%s%s", a->name, a->value ? " " : "", a->value ? a->value : "");
    if (n > 30) fprintf(to, "\n%30s", "");
    else fprintf(to, "%*s", 30 - n, "");
    fprintf(to, "  %s\n", a->help);
  }
}
