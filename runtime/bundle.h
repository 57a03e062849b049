/* The file of a bundle: parts under names, each a plan, weights or a text (docs/bundle.md has the format).
 *
 * A part is checked when it is read: plans when the bundle is opened, weights when they are asked for, so that opening
 * does not take as long as reading gigabytes does. */
#ifndef NUWA_BUNDLE_H
#define NUWA_BUNDLE_H

#include "runtime/base/safetensors.h"
#include "runtime/include/nuwa.h"
#include "runtime/plan.h"

enum { BUNDLE_MAX_PARTS = 256, BUNDLE_NAME = 72, BUNDLE_MAGIC_BYTES = 8 };

/* The first bytes of every bundle. */
extern const char bundle_magic[BUNDLE_MAGIC_BYTES + 1];

/* Names that the parts of an application have: what draws, the tokeniser of pictures, the text encoder's merges, and the
 * caption of the null condition.  A bundle of one model has a plan "model". */
#define BUNDLE_MODEL "model"
#define BUNDLE_DRAWER "drawer"
#define BUNDLE_IMAGE "image"
#define BUNDLE_MERGES "merges"
#define BUNDLE_NULL_TEXT "null_text"

typedef struct BundlePart {
  int kind;              /* NUWA_PART_... */
  const char *name;      /* of 1 to BUNDLE_NAME - 1 bytes, no control characters */
  const uint8_t *bytes;  /* as plan_write gives them; a safetensors file; text with its final NUL */
  size_t len;
} BundlePart;

/* Writes the file atomically.  Refuses what bundle_parse would. */
bool bundle_write(const char *path, const BundlePart *part, int n, Error *err);
/* The same from bytes in memory, which must outlive the result. */
NuwaBundle *bundle_parse(const uint8_t *bytes, size_t n, const char *where, Error *err);
/* The i-th part; NULL when there is none. */
const BundlePart *bundle_part(const NuwaBundle *b, int i);
/* NULL when absent. */
const BundlePart *bundle_find(const NuwaBundle *b, int kind, const char *name);
/* SHA-256 of the part, as the file says and nuwa_bundle_weights checks it. */
const uint8_t *bundle_digest(const NuwaBundle *b, const BundlePart *part);
/* The first plan that has the function, else the first of all, becomes the caller's, to be freed with plan_free. */
Plan *bundle_take_plan(NuwaBundle *b, const char *function);
/* That of a file.  NULL with err set. */
Plan *bundle_open_plan(const char *path, const char *function, Error *err);

#endif
