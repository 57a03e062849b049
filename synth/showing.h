/* What a model makes while it is trained, for people to look at: pictures of fixed examples, and which codes it uses.
 *
 * Shown is every function of the module that gives `image` or `video` and whose inputs the data feed: `reconstruct`, with what
 * it was given above what it made, and what a GAN or VAE draws from noise.  A `decode` is shown by drawing for the
 * conditions of these examples, where there is an autoencoder that turns its tokens into pictures.  Examples are the first
 * that are held out (where none are, the first of training), and all randomness is fixed, so that pictures of two steps differ by what was learnt between them.
 * Whole numbers that such a function gives (`codes`), and drawn tokens, are counted over more examples.
 *
 * It computes in a session of its own: training does not notice. */
#ifndef NUWA_SYNTH_SHOWING_H
#define NUWA_SYNTH_SHOWING_H

#include "media/events.h"
#include "synth/training.h"

#define SHOWING_CAPTIONS "captions" /* text in a PNG: what its examples say, a line each */

/* *out NULL: there is nothing to show.  t must outlive it. */
bool showing_open(Training *t, Showing **out, Error *err);
void showing_close(Showing *s); /* NULL is fine */
/* With the params as they are now, or their averages.  *out is valid until the next call. */
bool showing_make(Showing *s, LogRecord *out, Error *err);

#endif
