/* Stored tensors to the element types that params have. */
#ifndef NUWA_CONVERT_H
#define NUWA_CONVERT_H

#include "runtime/base/safetensors.h"

/* Whether tensors of its stored type are read as `to`: numbers as floats, whole ones as integers. */
bool convert_is_possible(const TensorView *v, DType to);

/* All elements of v to `out` (of type `to`).  Exact where `to` has the number; other fractions to the nearest, ties to
 * even; a number that would become infinite, a whole one that `to` does not have, or a type that is not read is an error
 * with the tensor's name. */
bool convert_tensor(const TensorView *v, DType to, void *out, Error *err);

#endif
