/* The options of a model: `options { dim = 64, kind = one_of { "nearby", "full" } }` in Lua, -D name=value outside.
 * An option has the type of its default; a float option takes "inf"; one_of allows the listed texts, the first is the
 * default.  The table that models get is read-only and knows its names. */
#ifndef NUWA_OPTIONS_H
#define NUWA_OPTIONS_H

#include "runtime/base/error.h"
#include "runtime/base/memory.h"

typedef enum ValueKind { VALUE_BOOL, VALUE_INT, VALUE_REAL, VALUE_TEXT } ValueKind;

typedef struct Value {
  ValueKind kind;
  bool boolean;
  int64_t integer;
  double real;
  const char *text;
} Value;

/* -D name=value, as text. */
typedef struct Define {
  const char *name, *value;
} Define;

typedef struct Option {
  const char *name;
  Value standard, value;
  bool given;          /* by a Define */
  const char **choice; /* of one_of */
  int n_choice;
} Option;

typedef struct Options {
  Option *option; /* sorted by name */
  int n, cap;
  const Define *define;
  int n_define;
  bool refused; /* a define had a value that its option cannot have */
  Arena *arena;
} Options;

/* A value as Lua would write it, for lists and JSON: true, 12, 0.5, inf, "text" without quotes. */
void value_print(const Value *v, Buffer *out);
const char *value_kind_name(ValueKind k);

/* Fails when a define names no option; the text lists the options there are. */
bool options_check_defines(const Options *o, const char *where, Error *err);

#endif
