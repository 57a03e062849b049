/* Libraries that most runs never need, loaded when something is read for which they are there.
 *
 * FFmpeg's need 130 others on Debian.  A library is opened by the name of the ABI that its headers describe, and stays
 * loaded. */
#ifndef NUWA_LIBRARY_H
#define NUWA_LIBRARY_H

#include <stdbool.h>

enum { LIBRARY_WHY_BYTES = 300 };

/* A function of a library into *out, a pointer to it.  False with the reason in why. */
bool library_find(const char *library, const char *function, void *out, char why[LIBRARY_WHY_BYTES]);

#endif
