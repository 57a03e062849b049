/* The Lua files of a model as text: what a load has read, or what it is to read instead of folders. */
#ifndef NUWA_SOURCE_MAP_H
#define NUWA_SOURCE_MAP_H

#include <stddef.h>

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

#endif
