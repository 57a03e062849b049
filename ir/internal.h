/* What the files of ir/ share and nobody else needs. */
#ifndef NUWA_IR_INTERNAL_H
#define NUWA_IR_INTERNAL_H

#include "ir/ir.h"

/* ---- attributes by table (attrs.c) ---- */

typedef enum FieldType {
  FIELD_int, FIELD_real, FIELD_text, FIELD_dtype, FIELD_axes, FIELD_dim8, FIELD_int8, FIELD_int3,
  FIELD_init, FIELD_attend_kind, FIELD_edge, FIELD_causal,
} FieldType;

typedef struct AttrField {
  const char *text;
  FieldType type;
  size_t offset;      /* into Attrs */
} AttrField;

const AttrField *attr_fields(AttrKind kind, int *out_n);
/* Only the fields of the kind are looked at, so whatever else a union holds does not matter. */
/* The rest of *to becomes zero, and every NaN the same NaN. */
void attrs_copy(AttrKind kind, Attrs *to, const Attrs *from);
bool attrs_equal(AttrKind kind, const Attrs *x, const Attrs *y);
uint32_t attrs_hash(AttrKind kind, const Attrs *x, uint32_t h);

/* Names of a field's enumeration; NULL for field types that are none. */
const char *const *field_names(FieldType type, int *out_n);

uint32_t hash_bytes(uint32_t h, const void *bytes, size_t n);

/* ---- sizes (type.c) ---- */

enum { TYPE_TEXT = 400 };

/* x <= y for all B, R >= 1. */
bool dim_le(Dim x, Dim y);
bool dim_is_one(Dim d);
/* A sound size: not negative for any B, R >= 1, and not absurdly large. */
bool dim_is_sound(Dim d);

/* ---- shape rules (infer*.c) ---- */

/* One call of a shape rule: checks operands, puts attributes in their one normal form, and fills `out`. */
typedef struct Infer {
  Graph *g;
  Op op;
  Node *const *in;
  int n_in;
  Attrs *attrs;
  const Type *given;   /* the caller's type; NULL when it gave none */
  Type *out;
} Infer;

#define OP(id, text, arity, attrs, class, rows, work, reads, infer, eval, grad, fold, scalar) bool infer_##infer(Infer *c);
#include "ir/ops.def"
#undef OP

/* Number of operands, the op's own rule, and what holds for every result. */
bool infer_all(Infer *c);

/* "op: what: f32[8,4] x f32[5,4] (detail)"; an empty detail leaves the brackets out.  Returns false. */
bool infer_refuse(Infer *c, const char *what, const char *detail, ...) PRINTF_LIKE(3, 4);
bool infer_rank(Infer *c, int operand, int lo, int hi);
bool infer_dtype(Infer *c, int operand, DType t);
bool infer_is_float(Infer *c, int operand);
/* Axis `ax` of operand x and axis `ay` of operand y have one size. */
bool infer_same_dim(Infer *c, int x, int ax, int y, int ay);

#endif
