/* Named tensors between files and functions. */
#ifndef NUWA_SYNTH_TENSORS_H
#define NUWA_SYNTH_TENSORS_H

#include "ir/ir.h"
#include "runtime/base/safetensors.h"
#include "runtime/plan.h"

/* "f32[2,3]" */
void tensors_print_shape(const TensorView *v, char *out, size_t cap);
/* "f32[B,3]"; returns out. */
const char *tensors_print_type(const PlanTensor *t, char *out, size_t cap);
/* Whether t is an input of random numbers, which is 0 where nobody says otherwise. */
bool tensors_may_be_absent(const PlanTensor *t);
/* Checks the file's tensors (file NULL: none) against the inputs: names, element types, shapes.  Sizes B and R are
 * what all inputs agree on (1 where none says).  err names the input, the axis and both sizes. */
bool tensors_bind(const PlanTensor *in, int n, const Safetensors *file, int64_t *out_B, int64_t *out_R, Error *err);
/* A view of memory that holds t under B and R. */
bool tensors_view(const PlanTensor *t, const void *data, int64_t B, int64_t R, TensorView *out, Error *err);

/* Whether the values of v can be those of a param of that type: its shape, all of constants, and a type that converts. */
bool tensors_fit(const TensorView *v, const Type *type);

#endif
