/* The op table and the attribute table as data: field lists drive hashing, comparison, printing and parsing. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "ir/internal.h"

const OpInfo op_info[OP_COUNT] = {
#define OP(id, text, arity, attrs, class, rows, work, reads, infer, eval, grad, fold, scalar) {text, arity, ATTR_##attrs, CLASS_##class, ROWS_##rows, WORK_##work, READS_##reads},
#include "ir/ops.def"
#undef OP
};

Op op_from_text(const char *text) {
  for (int i = 0; i < OP_COUNT; i++)
    if (strcmp(op_info[i].text, text) == 0) return (Op)i;
  return OP_COUNT;
}

#define F(member, text, type) {text, FIELD_##type, offsetof(Attrs, member)},
#define ATTRS(kind, FIELDS) static const AttrField fields_##kind[] = {FIELDS(F){NULL, FIELD_int, 0}};
#include "ir/attrs.def"
#undef ATTRS
#undef F

static const struct FieldList {
  const AttrField *field;
  int n;
} field_lists[ATTR_KIND_COUNT] = {
#define ATTRS(kind, FIELDS) {fields_##kind, COUNT_OF(fields_##kind) - 1},
#include "ir/attrs.def"
#undef ATTRS
};

const AttrField *attr_fields(AttrKind kind, int *out_n) {
  *out_n = field_lists[kind].n;
  return field_lists[kind].field;
}

static size_t field_bytes(FieldType t) {
  switch (t) {
    case FIELD_int: case FIELD_axes: return sizeof(int64_t);
    case FIELD_real: return sizeof(double);
    case FIELD_text: return sizeof(char *);
    case FIELD_dtype: return sizeof(DType);
    case FIELD_dim8: return MAX_RANK * sizeof(Dim);
    case FIELD_int8: return MAX_RANK * sizeof(int64_t);
    case FIELD_int3: return 3 * sizeof(int64_t);
    case FIELD_init: return sizeof(InitKind);
    case FIELD_attend_kind: return sizeof(AttendKind);
    case FIELD_edge: return sizeof(EdgeRule);
    case FIELD_causal: return sizeof(Causal);
  }
  BUG("field type %d", (int)t);
}

const char *const *field_names(FieldType type, int *out_n) {
  static const char *const init[] = {"zeros", "ones", "normal", "uniform"};
  static const char *const kind[] = {"full", "axis", "nearby", "block"};
  static const char *const edge[] = {"clip", "shift"};
  static const char *const causal[] = {"none", "raster", "past"};
  switch (type) {
    case FIELD_init: *out_n = COUNT_OF(init); return init;
    case FIELD_attend_kind: *out_n = COUNT_OF(kind); return kind;
    case FIELD_edge: *out_n = COUNT_OF(edge); return edge;
    case FIELD_causal: *out_n = COUNT_OF(causal); return causal;
    default: *out_n = 0; return NULL;
  }
}

/* FNV-1a. */
uint32_t hash_bytes(uint32_t h, const void *bytes, size_t n) {
  const uint8_t *p = bytes;
  for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 16777619u;
  return h;
}

static const char *text_at(const Attrs *a, const AttrField *f) {
  const char *s;
  memcpy(&s, (const char *)a + f->offset, sizeof s);
  return s;
}

void attrs_copy(AttrKind kind, Attrs *to, const Attrs *from) {
  memset(to, 0, sizeof *to);
  int n;
  const AttrField *f = attr_fields(kind, &n);
  for (int i = 0; i < n; i++) {
    double real;
    memcpy((char *)to + f[i].offset, (const char *)from + f[i].offset, field_bytes(f[i].type));
    if (f[i].type != FIELD_real) continue;
    memcpy(&real, (const char *)from + f[i].offset, sizeof real);
    if (isnan(real)) memcpy((char *)to + f[i].offset, &(double){NAN}, sizeof real);
  }
}

bool attrs_equal(AttrKind kind, const Attrs *x, const Attrs *y) {
  int n;
  const AttrField *f = attr_fields(kind, &n);
  for (int i = 0; i < n; i++) {
    if (f[i].type == FIELD_text) {
      if (strcmp(text_at(x, &f[i]), text_at(y, &f[i])) != 0) return false;
    } else if (memcmp((const char *)x + f[i].offset, (const char *)y + f[i].offset, field_bytes(f[i].type)) != 0) {
      return false;
    }
  }
  return true;
}

uint32_t attrs_hash(AttrKind kind, const Attrs *x, uint32_t h) {
  int n;
  const AttrField *f = attr_fields(kind, &n);
  for (int i = 0; i < n; i++) {
    if (f[i].type == FIELD_text)
      h = hash_bytes(h, text_at(x, &f[i]), strlen(text_at(x, &f[i])));
    else
      h = hash_bytes(h, (const char *)x + f[i].offset, field_bytes(f[i].type));
  }
  return h;
}
