/* Merges files of text encoders, plain or gzipped (as CLIP's own comes). */
#ifndef NUWA_MERGES_H
#define NUWA_MERGES_H

#include "runtime/text/bpe.h"

/* NULL after an error. */
Bpe *merges_read(const char *path, Error *err);

#endif
