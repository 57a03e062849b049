/* Parameters as text, and those that are legal for a group on a target.  What is legal, and what the default is, each
 * loop nest says next to its template. */
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/lower/lower.h"

typedef struct ParamField {
  const char *name;
  const int *value;   /* ascending */
  int n_value;
} ParamField;

typedef struct ParamsInfo {
  const char *name;
  const ParamField *field;
  int n_field;
} ParamsInfo;

#define FIELD_INFO(field, ...)                                                                                       \
  {#field, (const int[]){__VA_ARGS__}, (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int))},
#define KIND_FIELDS(id, name, Type, fields)                                                                          \
  static const ParamField name##_fields[] = {fields(FIELD_INFO)};                                                    \
  _Static_assert(COUNT_OF(name##_fields) * sizeof(int) == sizeof(Type) && sizeof(Type) <= sizeof((Params){0}.value), \
                 "fields are read as an array");
PARAM_KINDS(KIND_FIELDS)

#define KIND_INFO(id, name, Type, fields) [PARAMS_##id] = {#name, name##_fields, COUNT_OF(name##_fields)},
static const ParamsInfo info[PARAMS_COUNT] = {PARAM_KINDS(KIND_INFO)};

#define KIND_RULES(id, name, Type, fields) [PARAMS_##id] = {name##_params, name##_params_refuse},
static const struct {
  bool (*fill)(Arena *a, const Group *g, const Target *t, Params *out, Error *err);
  int (*refuse)(const Group *g, const Target *t, const Params *p, Error *err);
} rules[PARAMS_COUNT] = {PARAM_KINDS(KIND_RULES)};

int params_fields(ParamsKind kind) { return info[kind].n_field; }
const char *params_field_name(ParamsKind kind, int field) { return info[kind].field[field].name; }

int params_field_values(ParamsKind kind, int field, const int **out) {
  *out = info[kind].field[field].value;
  return info[kind].field[field].n_value;
}

bool params_equal(const Params *x, const Params *y) {
  return x->kind == y->kind && !memcmp(x->value, y->value, (size_t)info[x->kind].n_field * sizeof(int));
}

/* ---- text ---- */

void params_print(const Params *p, Buffer *out) {
  const ParamsInfo *kind = &info[p->kind];
  buffer_printf(out, "%s", kind->name);
  for (int i = 0; i < kind->n_field; i++) buffer_printf(out, " %s=%d", kind->field[i].name, p->value[i]);
}

/* "1 2 4 to 9 16" */
static const char *values_text(const ParamField *f, char *out, size_t bytes) {
  size_t at = 0;
  out[0] = 0;
  for (int i = 0, last; i < f->n_value && at < bytes; i = last + 1) {
    for (last = i; last + 1 < f->n_value && f->value[last + 1] == f->value[last] + 1;) last++;
    if (last < i + 2) last = i;
    at += (size_t)snprintf(out + at, bytes - at, last > i ? "%s%d to %d" : "%s%d", i ? " " : "", f->value[i],
                           f->value[last]);
  }
  return out;
}

static bool field_has(const ParamField *f, long value) {
  for (int i = 0; i < f->n_value; i++)
    if (f->value[i] == value) return true;
  return false;
}

static bool refuse_value(const ParamsInfo *kind, const ParamField *f, const char *given, int n, Error *err) {
  char values[200];
  return error_set(err, ERROR_ARGUMENT, "parameters of %s: \"%.*s\": %s is one of %s", kind->name, n, given, f->name,
                   values_text(f, values, sizeof values));
}

/* One "name=value" of n characters. */
static bool param_set(Params *p, const char *text, int n, unsigned *seen, Error *err) {
  const ParamsInfo *kind = &info[p->kind];
  Buffer names = {0};
  for (int i = 0; i < kind->n_field; i++) {
    const ParamField *f = &kind->field[i];
    int len = (int)strlen(f->name);
    if (n <= len || strncmp(text, f->name, (size_t)len) || text[len] != '=') continue;
    const char *digits = text + len + 1;
    char *end;
    long v = strtol(digits, &end, 10);
    bool is_number = end == text + n && *digits >= '0' && *digits <= '9' && (*digits != '0' || end == digits + 1);
    if (!is_number || !field_has(f, v)) return refuse_value(kind, f, text, n, err);
    if (*seen >> i & 1)
      return error_set(err, ERROR_ARGUMENT, "parameters of %s: %s is given twice", kind->name, f->name);
    *seen |= 1u << i;
    p->value[i] = (int)v;
    return true;
  }
  for (int i = 0; i < kind->n_field; i++) buffer_printf(&names, " %s", kind->field[i].name);
  error_set(err, ERROR_ARGUMENT, "parameters of %s: there is no \"%.*s\"; there are:%s", kind->name, n, text,
            names.data ? names.data : "");
  buffer_done(&names);
  return false;
}

static bool find_kind(const char *text, int n, ParamsKind *out, Error *err) {
  Buffer names = {0};
  for (int i = 0; i < PARAMS_COUNT; i++) {
    *out = (ParamsKind)i;
    if ((int)strlen(info[i].name) == n && !strncmp(info[i].name, text, (size_t)n)) return true;
  }
  for (int i = 0; i < PARAMS_COUNT; i++) buffer_printf(&names, " %s", info[i].name);
  error_set(err, ERROR_ARGUMENT, "\"%.*s\" is no kind of parameters; there are:%s", n, text,
            names.data ? names.data : "");
  buffer_done(&names);
  return false;
}

bool params_parse(const char *text, Params *out, Error *err) {
  Params p = {0};
  unsigned seen = 0;
  int n = (int)strcspn(text, " ");
  if (!find_kind(text, n, &p.kind, err)) return false;
  const ParamsInfo *kind = &info[p.kind];
  for (text += n; *(text += strspn(text, " ")); text += n) {
    n = (int)strcspn(text, " ");
    if (!param_set(&p, text, n, &seen, err)) return false;
  }
  for (int i = 0; i < kind->n_field; i++)
    if (!(seen >> i & 1))
      return error_set(err, ERROR_ARGUMENT, "parameters of %s: %s is missing", kind->name, kind->field[i].name);
  *out = p;
  return true;
}

/* ---- of a group on a target ---- */

ParamsKind params_kind(const Group *g, const Target *t) {
  switch (g->family) {
  case FAMILY_MAP: return PARAMS_MAP;
  case FAMILY_REDUCE: return PARAMS_REDUCE;
  case FAMILY_SCATTER: return PARAMS_SCATTER;
  case FAMILY_CONTRACT: return contract_takes_gpu(g, t) ? PARAMS_CONTRACT_GPU : PARAMS_CONTRACT;
  default: return target_is_gpu(t) ? PARAMS_ATTEND_GPU : PARAMS_ATTEND;
  }
}

bool params_default(Arena *a, const Group *g, const Target *t, Params *out, Error *err) {
  *out = (Params){.kind = params_kind(g, t)};
  return rules[out->kind].fill(a, g, t, out, err);
}

int params_refuse(int field, Error *err, const char *fmt, ...) {
  char text[400];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  error_set(err, ERROR_ARGUMENT, "%s", text);
  return field;
}

int params_refuse_grain(int field, int grain, const Target *t, Error *err) {
  if (!target_is_gpu(t) || grain == GRAIN_ELEMS) return -1;
  return params_refuse(field, err, "it must be %d on a GPU, whose threads take no items in turn", (int)GRAIN_ELEMS);
}

/* As the rules' refuse, for values that may be none of their fields. */
static int refuse(const Group *g, const Target *t, const Params *p, Error *err) {
  const ParamsInfo *kind = &info[p->kind];
  for (int i = 0; i < kind->n_field; i++) {
    if (field_has(&kind->field[i], p->value[i])) continue;
    char given[16];
    int n = snprintf(given, sizeof given, "%d", p->value[i]);
    refuse_value(kind, &kind->field[i], given, n, err);
    return i;
  }
  int field = rules[p->kind].refuse(g, t, p, err);
  if (field >= 0) error_prefix(err, "parameters of %s: %s=%d", kind->name, kind->field[field].name, p->value[field]);
  return field;
}

bool params_is_legal(const Group *g, const Target *t, const Params *p, Error *err) {
  ParamsKind kind = params_kind(g, t);
  if (p->kind != kind)
    return error_set(err, ERROR_ARGUMENT, "parameters of %s are given, this group on this target takes those of %s",
                     (unsigned)p->kind < PARAMS_COUNT ? info[p->kind].name : "no kind", info[kind].name);
  return refuse(g, t, p, err) < 0;
}

static int position_of(const ParamField *f, int value) {
  int i = 0;
  while (i < f->n_value && f->value[i] != value) i++;
  return i;
}

/* The next combination of values that differs in `field` or before it; false: there is none. */
static bool advance(Params *p, int field) {
  const ParamsInfo *kind = &info[p->kind];
  for (; field >= 0; field--) {
    const ParamField *f = &kind->field[field];
    int i = position_of(f, p->value[field]);
    if (i + 1 >= f->n_value) continue;
    p->value[field] = f->value[i + 1];
    while (++field < kind->n_field) p->value[field] = kind->field[field].value[0];
    return true;
  }
  return false;
}

/* The first legal combination from p on.  What is refused for a field is so whatever the fields after it are. */
static bool settle(const Group *g, const Target *t, Params *p) {
  Error err = {0};
  for (int field; (field = rules[p->kind].refuse(g, t, p, &err)) >= 0;)
    if (!advance(p, field)) return false;
  return true;
}

bool params_first(const Group *g, const Target *t, Params *out) {
  *out = (Params){.kind = params_kind(g, t)};
  for (int i = 0; i < info[out->kind].n_field; i++) out->value[i] = info[out->kind].field[i].value[0];
  return settle(g, t, out);
}

bool params_next(const Group *g, const Target *t, Params *p) {
  return advance(p, info[p->kind].n_field - 1) && settle(g, t, p);
}
