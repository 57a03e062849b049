/* Choices and products of cuBLASLt as text. */
#include "runtime/cuda/blaslt.h"

#include <inttypes.h>
#include <string.h>

void blaslt_algo_print(const BlasLtAlgo *algo, char out_text[BLASLT_TEXT_BYTES]) {
  snprintf(out_text, BLASLT_TEXT_BYTES,
           "cublaslt %" PRIu64 " algo %" PRIu32 " tile %" PRIu32 " stages %" PRIu32 " swizzle %" PRIu32
           " custom %" PRIu32 " inner %" PRIu32 " cluster %" PRIu32,
           algo->version, algo->id, algo->tile, algo->stages, algo->swizzle, algo->custom, algo->inner,
           algo->cluster);
}

/* Decimal without sign or leading zeros, so that what parses prints as it was. */
static bool read_number(const char **at, uint64_t most, uint64_t *out) {
  const char *s = *at;
  uint64_t value = 0;
  if (*s < '0' || *s > '9' || (s[0] == '0' && s[1] >= '0' && s[1] <= '9')) return false;
  for (; *s >= '0' && *s <= '9'; s++) {
    uint64_t digit = (uint64_t)(*s - '0');
    if (value > (most - digit) / 10) return false;
    value = value * 10 + digit;
  }
  *at = s;
  *out = value;
  return true;
}

bool blaslt_algo_parse(const char *text, BlasLtAlgo *out, Error *err) {
  static const struct { const char *word; uint64_t most; } field[] = {
      {"cublaslt ", UINT64_MAX}, {" algo ", INT32_MAX}, {" tile ", UINT32_MAX}, {" stages ", UINT32_MAX},
      {" swizzle ", UINT32_MAX}, {" custom ", UINT32_MAX}, {" inner ", UINT16_MAX}, {" cluster ", UINT16_MAX}};
  enum { FIELDS = sizeof field / sizeof *field };
  uint64_t value[FIELDS];
  const char *at = text;
  for (int k = 0; k < FIELDS; k++) {
    size_t length = strlen(field[k].word);
    bool known = strncmp(at, field[k].word, length) == 0;
    if (known) at += length;
    if (!known || !read_number(&at, field[k].most, &value[k]))
      return error_set(err, ERROR_FORMAT,
                       "cuBLASLt algorithm: \"%.150s\": expected \"%s\" and a number up to %" PRIu64 " at %d",
                       text, field[k].word, field[k].most, (int)(at - text));
  }
  if (*at)
    return error_set(err, ERROR_FORMAT, "cuBLASLt algorithm: \"%.150s\": unexpected text at %d", text,
                     (int)(at - text));
  *out = (BlasLtAlgo){value[0], (uint32_t)value[1], (uint32_t)value[2], (uint32_t)value[3], (uint32_t)value[4],
                      (uint32_t)value[5], (uint32_t)value[6], (uint32_t)value[7]};
  return true;
}

void blaslt_product_print(const BlasLtForm *form, const BlasLtShape *shape, char out_text[BLASLT_TEXT_BYTES]) {
  char batch[32] = "";
  if (shape->batch != 1) snprintf(batch, sizeof batch, "%" PRId64 " x ", shape->batch);
  snprintf(out_text, BLASLT_TEXT_BYTES,
           "%s%s C[%" PRId64 ",%" PRId64 "] %s %s A%s[%" PRId64 ",%" PRId64 "] B%s[%" PRId64 ",%" PRId64 "]%s", batch,
           dtype_name(form->out), shape->m, shape->n, form->accumulate ? "+=" : "=", dtype_name(form->in),
           form->transpose_a ? "^T" : "", shape->m, shape->k, form->transpose_b ? "^T" : "", shape->k, shape->n,
           form->bias ? " + bias" : "");
}
