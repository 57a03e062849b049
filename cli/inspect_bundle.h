/* What a bundle has, for `nuwa inspect BUNDLE.nuwa`. */
#ifndef NUWA_CLI_INSPECT_BUNDLE_H
#define NUWA_CLI_INSPECT_BUNDLE_H

#include "cli/cli.h"

/* Appends what p is for, its functions, decodes, params, code and products; with fn (may be NULL) the launches of
 * that function instead. */
bool inspect_bundle(const Plan *p, const char *fn, bool json, Buffer *out, Error *err);

#endif
