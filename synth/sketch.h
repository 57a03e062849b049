/* Sketches: maps of labels as people have them, as the codes that a model draws of. */
#ifndef NUWA_SYNTH_SKETCH_H
#define NUWA_SYNTH_SKETCH_H

#include "synth/kit.h"

/* Reads the sketch of a kit whose codes_input is "labels_tokens": a PNG (the index into its palette, or its grey value, is the
 * label), for clips a folder of as many PNGs as there are frames, in the order of their names.  Each is fitted as pictures
 * are, by the nearest label; a label that the codec does not know is refused.  *out_codes [codes_grid] in a. */
bool sketch_read(Kit *k, Arena *a, const char *path, int32_t **out_codes, Error *err);
/* Whether it is a folder, of frames. */
bool sketch_is_clip(const char *path);
/* SHA-256, in hexadecimal, of a file, or of the files of such a folder in their order. */
bool sketch_digest(const char *path, Arena *a, char out[65], Error *err);

#endif
