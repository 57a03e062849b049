/* The SQLite store of compiled kernels: a cache that may be deleted at any time.
 * A hit is one whose whole key is equal (the digest is only the index), so a kernel for another CPU, generator or
 * compiler is never taken.  A store that cannot be opened or written only costs time: it warns once and stores nothing. */
#ifndef NUWA_STORE_H
#define NUWA_STORE_H

#include "codegen/plan_build.h"

typedef struct Store Store;

/* path NULL: $XDG_CACHE_HOME/nuwa/kernels.sqlite, or ~/.cache/...  NULL (with a warning in err) when it cannot be. */
Store *store_open(const char *path, Error *err);
void store_close(Store *s);   /* NULL is fine */
/* Callbacks for plan_build_new over this store; s may be NULL (then NULL is returned). */
const ObjectStore *store_objects(Store *s);

#endif
