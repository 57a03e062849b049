/* What a bundle has, for `nuwa inspect BUNDLE.nuwa`. */
#ifndef NUWA_CLI_INSPECT_BUNDLE_H
#define NUWA_CLI_INSPECT_BUNDLE_H

#include "cli/cli.h"
#include "runtime/bundle.h"

/* Appends the parts of b, and what each plan is for, its functions, decodes, params, code and products; with fn (may be
 * NULL) the launches of that function instead.  Weights are read to check their digests. */
bool inspect_bundle(const NuwaBundle *b, const char *fn, bool json, Buffer *out, Error *err);

#endif
