/* Which build of a library is loaded. */
#ifndef NUWA_BUILD_ID_H
#define NUWA_BUILD_ID_H

#include "runtime/base/memory.h"

/* Appends what tells apart builds of the library (or program) that the function at this address belongs to: the id that
 * its linker gave it, in hex; where it has none, the size and the time of its file; "unknown" where there is neither. */
void build_id_print(const void *function, Buffer *out);

#endif
