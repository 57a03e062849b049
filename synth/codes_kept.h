/* What an autoencoder's codes are of.  A training that leaves all that `encode` reads as it was, to the bit, as one of the
 * decoder alone does, leaves the codes as they were: its weights file says so (WEIGHTS_CODES), and a model that draws such codes
 * goes with either file. */
#ifndef NUWA_SYNTH_CODES_KEPT_H
#define NUWA_SYNTH_CODES_KEPT_H

#include "synth/training.h"

/* Notes what the weights w, a file at path, say of the params of `encode`, where t's model has such a function
 * and they hold all of them.  Call both inside arena_protect. */
bool codes_note_start(Training *t, const Safetensors *w, const char *path, Error *err);
/* The digest that t's weights, as they will be written, name as that of their codes; NULL: these are their own.  As they
 * stand in the session: after averages took their places. */
bool codes_are_kept(Training *t, bool as_bf16, const char **out, Error *err);

#endif
