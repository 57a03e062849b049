/* The Lua files of a model as text: what a load has read, or what it is to read instead of folders. */
#ifndef NUWA_SOURCE_MAP_H
#define NUWA_SOURCE_MAP_H

#include "runtime/base/memory.h"

enum { SOURCE_MAX_BYTES = 1 << 20 }; /* of all texts together, where they travel with weights */

typedef struct SourceFile {
  const char *name; /* as `require` finds it: "nuwa.lua", "families/row.lua"; the main file by its bare name */
  const char *text;
  size_t len;
} SourceFile;

typedef struct SourceMap {
  const SourceFile *file;
  int n;
} SourceMap;

/* NULL when it has none of that name. */
const SourceFile *source_find(const SourceMap *m, const char *name);
/* Can weights carry it: UTF-8, and not too much? */
bool source_check(const SourceMap *m, Error *err);
/* {"nuwa.lua": "text", ...}, appended. */
void source_print(const SourceMap *m, Buffer *out);
/* The same back; names and texts in a (call inside arena_protect). */
bool source_read(Arena *a, const char *text, SourceMap *out, Error *err);
/* SHA-256 over names and texts. */
void source_digest(const SourceMap *m, char out[65]);

#endif
