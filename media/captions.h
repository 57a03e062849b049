/* Captions that lie in files beside pictures: tables of many, and texts of one picture. */
#ifndef NUWA_CAPTIONS_H
#define NUWA_CAPTIONS_H

#include "runtime/base/error.h"
#include "runtime/base/memory.h"

enum { CAPTION_MAX_BYTES = 1 << 20 };

typedef struct Caption {
  uint64_t name, text; /* where they begin in the text of all */
} Caption;

/* As they are parsed.  Zeroed: empty. */
typedef struct Captions {
  Buffer text;
  Caption *item;
  size_t n, cap;
} Captions;

/* As they are looked up: sorted by name, those of one name in the order of their lines. */
typedef struct CaptionTable {
  const char *text;
  const Caption *item;
  size_t n;
} CaptionTable;

void captions_done(Captions *c);

/* Adds those of a table, whose names get `folder` ("", or with a slash at its end) in front.  Of captions.txt a line
 * is NAME, a tab, and the caption; of a .jsonl file an object with "file_name" and "text".  A name may have several.
 * Empty lines are passed over, anything else is refused with its line. */
bool captions_parse_text(Captions *c, const char *bytes, size_t n, const char *where, const char *folder, Error *err);
bool captions_parse_jsonl(Captions *c, const char *bytes, size_t n, const char *where, const char *folder,
                          Error *err);

/* Sorts c; valid as long as c stays what it is. */
CaptionTable captions_sort(Captions *c);
/* How many a name has; *out: the first. */
size_t captions_find(const CaptionTable *t, const char *name, size_t *out);
const char *captions_text(const CaptionTable *t, size_t i);

/* The caption that draw (any number) chooses among the lines of a picture's own text, appended; nothing where there
 * is none.  Empty lines do not count, nor do "xx.utf8=..." ones, which are translations. */
void captions_choose(const char *bytes, size_t n, uint64_t draw, Buffer *out);

/* The caption of one example's JSON object, appended: its "text", or else its "caption"; nothing where it has neither. */
bool captions_read_json(const char *bytes, size_t n, const char *where, Buffer *out, Error *err);

#endif
