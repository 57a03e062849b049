/* JSON as the program writes it into files and onto stdout, and reads back what it wrote: flat objects. */
#ifndef NUWA_JSON_H
#define NUWA_JSON_H

#include "runtime/base/memory.h"

/* Appends text as a string; bytes that are no UTF-8 become replacement characters. */
void json_print_text(Buffer *out, const char *text);
/* Appends a number with as few digits as read back as the same double; null when it is not finite. */
void json_print_real(Buffer *out, double x);

typedef struct JsonField {
  const char *name;
  const char *value;   /* a string's characters; of anything else its text */
  bool is_text;        /* it was a string */
} JsonField;

/* The fields of an object in their order, in a (call inside arena_protect).  Values that are objects or lists stay
 * text, balanced but otherwise unread.  False with what is wrong and at which byte. */
bool json_read_object(Arena *a, const char *text, JsonField **out, int *out_n, Error *err);
/* NULL when there is none of that name. */
const JsonField *json_find(const JsonField *list, int n, const char *name);

/* The first field that two objects do not share, those of an object within counted as fields; name NULL: they are alike. */
typedef struct JsonDifference {
  const char *within, *name;   /* within: the field that is an object and holds it, with a dot behind it; else "" */
  const char *theirs, *ours;   /* values; "not set" */
} JsonDifference;
/* Compares objects as of json_read_object.  skips: fields whose difference is none; NULL: there are no such. */
bool json_compare(Arena *a, const char *theirs, const char *ours, bool (*skips)(const char *name),
                  JsonDifference *out, Error *err);

#endif
