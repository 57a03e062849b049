/* The SQLite store of compiled kernels: a cache that may be deleted at any time, and that any number of processes share.
 * A hit is one whose whole key is equal (the digest is only the index), so a kernel for another CPU, generator or
 * compiler is never taken.  A damaged file is deleted and begun anew; one that cannot be used only costs time.  At most
 * some 256 MiB; what was used longest ago goes first. */
#ifndef NUWA_STORE_H
#define NUWA_STORE_H

#include "codegen/plan/plan_build.h"

typedef struct Store Store;

/* How long others' locks are waited for, all waits of a store together, from its opening on; then it is no longer used. */
enum { STORE_WAIT_MS = 3000 };

/* Makes the folders of path as needed.  NULL after err was set: then kernels are not kept. */
Store *store_open(const char *path, int wait_ms, Error *err);
void store_close(Store *s);   /* NULL is fine */
/* What went wrong so far, to be told once; NULL: nothing. */
const char *store_warning(const Store *s);
/* Callbacks for plan_build_new over this store; s may be NULL (then NULL is returned). */
const ObjectStore *store_objects(Store *s);

#endif
