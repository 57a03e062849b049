/* Names of kernel families, for people. */
#ifndef NUWA_FAMILY_H
#define NUWA_FAMILY_H

#include "ir/program.h"

const char *program_family_name(Family f);   /* "map", "reduce", ... */

#endif
