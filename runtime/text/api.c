/* Text in the public header, by the byte-pair encoder. */
#include <string.h>

#include "runtime/text/bpe.h"

NuwaText *nuwa_text_parse(const char *merges, size_t bytes, const char *where, Error *err) {
  return bpe_parse(merges, bytes, where, err);
}

void nuwa_text_close(NuwaText *t) { bpe_free(t); }

int nuwa_text_vocab(const NuwaText *t) { return bpe_vocab(t); }

bool nuwa_text_encode(const NuwaText *t, const char *text, int32_t *out, int cap, int *out_n, Error *err) {
  return bpe_encode(t, text, out, cap, out_n, err);
}

bool nuwa_text_encode_fixed(const NuwaText *t, const char *text, int32_t *out, int length, Error *err) {
  return bpe_encode_fixed(t, text, out, length, err);
}

void nuwa_text_mask(const NuwaText *t, const int32_t *ids, unsigned char *out, int length) {
  bpe_mask(t, ids, out, length);
}

bool nuwa_text_decode(const NuwaText *t, const int32_t *ids, int n, char *out, size_t cap, size_t *out_bytes, Error *err) {
  Buffer text = {0};
  bool ok = bpe_decode(t, ids, n, &text, err);
  if (ok) {
    size_t kept = text.len < cap ? text.len : cap ? cap - 1 : 0;
    if (kept) memcpy(out, text.data, kept);
    if (cap) out[kept] = 0;
    *out_bytes = text.len;
  }
  buffer_done(&text);
  return ok;
}
