/* Loads a relocatable ELF object: its sections get pages, its relocations are applied, its code becomes executable.
 * No page is ever writable and executable.  x86-64 and aarch64, each on its own kind of machine.
 *
 * Objects are self-contained: an undefined symbol is an error, and so is a global offset table, which compilers want
 * for data that is neither internal nor hidden.  Everything the bytes say is checked before use, so damaged bytes give
 * an error; what the code does when it runs is the caller's trust (digests, see plan.h). */
#ifndef NUWA_LOADER_H
#define NUWA_LOADER_H

#include <stddef.h>

#include "runtime/base/error.h"

typedef struct Object Object;

/* The bytes are not needed afterwards.  NULL on failure. */
Object *object_load(const void *bytes, size_t n, Error *err);
/* The address of a global symbol that the object defines, NULL when it has none of that name. */
void *object_symbol(const Object *o, const char *name);
/* Unmaps code and data: nothing of the object may run or be used any more.  NULL is fine. */
void object_free(Object *o);

#endif
