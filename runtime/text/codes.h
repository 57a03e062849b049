/* Text as characters, while it is cleaned. */
#ifndef NUWA_CODES_H
#define NUWA_CODES_H

#include <stdint.h>

#include "runtime/base/memory.h"

/* Grows like a Buffer: a failed growth sets `failed` and drops what comes after. */
typedef struct Codes {
  uint32_t *c;
  size_t n, cap;
  bool failed;
} Codes;

static inline void codes_add(Codes *t, uint32_t c) {
  if (t->n == t->cap && !t->failed) {
    size_t cap = t->cap ? 2 * t->cap : 256;
    uint32_t *grown = mem_realloc(t->c, cap * sizeof *grown);
    if (grown) t->c = grown, t->cap = cap;
    else t->failed = true;
  }
  if (!t->failed) t->c[t->n++] = c;
}

/* C1 controls as what those bytes are in Windows-1252, as browsers take them (five stay); else c itself. */
uint32_t codes_from_c1(uint32_t c);

/* Each takes a text and appends what it makes of it. */
void entities_unescape(const Codes *in, Codes *out); /* as Python's html.unescape */
void entities_fix(const Codes *in, Codes *out);      /* as ftfy's unescape_html: with semicolons only, capitals too */
void normal_compose(const Codes *in, Codes *out);    /* to Unicode's normal form C */

#endif
