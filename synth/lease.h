/* Leases: who works in a folder that several processes share, on one machine or on several.
 *
 * A lease is a file "lease" in the folder, which its holder touches every few seconds; one that was not touched for
 * LEASE_SECONDS is nobody's any more.  Ages are compared by the clock of whoever keeps the files.  Its holder also locks the
 * file, so that on the same machine a lease ends with the process. */
#ifndef NUWA_SYNTH_LEASE_H
#define NUWA_SYNTH_LEASE_H

#include "runtime/base/error.h"

enum { LEASE_SECONDS = 60 };

typedef struct Lease Lease;

/* NULL where somebody else holds it (err untouched, *is_taken set) or after err was set. */
Lease *lease_take(const char *folder, bool *is_taken, Error *err);
/* Whether it is still ours: a process that stood still for too long has lost it, and must write nothing more.  Asks nobody
 * while it was touched not long ago. */
bool lease_is_held(Lease *l);
/* Touches it; whether it is still ours. */
bool lease_renew(Lease *l);
/* NULL is fine. */
void lease_release(Lease *l);

#endif
