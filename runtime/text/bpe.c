/* Byte-pair encoding: symbols, merges, and words to tokens and back.  Words are bpe_words.c's, files and learning
 * bpe_file.c's and bpe_train.c's. */
#include "runtime/text/bpe.h"

#include <string.h>

#include "runtime/text/bpe_internal.h"

enum { MAX_SYMBOL_BYTES = 1024 };

/* Printable Latin-1 stands for itself and comes first; the 68 other bytes follow in order, written as U+0100 on. */
static void fill_alphabet(Bpe *b) {
  int printable = 0, other = 0;
  for (int i = 0; i < 512; i++) b->byte_of_char[i] = -1;
  for (int i = 0; i < 256; i++) {
    bool shown = (i >= 33 && i <= 126) || (i >= 161 && i != 173);
    b->char_of_byte[i] = (uint16_t)(shown ? i : 256 + other);
    b->id_of_byte[i] = (uint8_t)(shown ? printable++ : 188 + other++);
    b->byte_of_char[b->char_of_byte[i]] = (int16_t)i;
  }
}

static uint32_t hash_bytes(const void *bytes, size_t n, uint32_t h) {
  const uint8_t *p = bytes;
  for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 16777619u;
  return h ^ h >> 15;
}

static uint32_t hash_pair(int left, int right) {
  uint32_t h = (uint32_t)left * 0x9e3779b1u ^ (uint32_t)right * 0x85ebca77u;
  return h ^ h >> 15;
}

static bool has_text(const Bpe *b, int id, const char *bytes, size_t n, bool ends_word) {
  const BpeSymbol *s = &b->symbol[id];
  return s->bytes == n && s->ends_word == ends_word && !memcmp(b->pool + s->at, bytes, n);
}

static uint32_t text_slot(const Bpe *b, const char *bytes, size_t n, bool ends_word) {
  uint32_t at = hash_bytes(bytes, n, ends_word ? 77u : 2166136261u);
  while (b->texts[at &= b->slots - 1] && !has_text(b, b->texts[at] - 1, bytes, n, ends_word)) at++;
  return at;
}

static uint32_t pair_slot(const Bpe *b, int left, int right) {
  uint32_t at = hash_pair(left, right);
  for (; b->pairs[at &= b->slots - 1]; at++) {
    const BpeMerge *m = &b->merge[b->pairs[at] - 1];
    if (m->left == left && m->right == right) break;
  }
  return at;
}

int bpe_find_text(const Bpe *b, const char *bytes, size_t n, bool ends_word) {
  return b->texts[text_slot(b, bytes, n, ends_word)] - 1;
}

int bpe_find_merge(const Bpe *b, int left, int right) { return b->pairs[pair_slot(b, left, right)] - 1; }

/* Puts a symbol behind the others. */
static bool add_symbol(Bpe *b, int id, const char *bytes, size_t n, bool ends_word) {
  if (b->pool_bytes + n > b->pool_cap) {
    size_t cap = 2 * (b->pool_cap + n);
    char *grown = mem_realloc(b->pool, cap);
    if (!grown) return false;
    b->pool = grown;
    b->pool_cap = cap;
  }
  memcpy(b->pool + b->pool_bytes, bytes, n);
  b->symbol[id] = (BpeSymbol){(uint32_t)b->pool_bytes, (uint16_t)n, ends_word, id};
  b->pool_bytes += n;
  uint32_t slot = text_slot(b, bytes, n, ends_word);
  if (b->texts[slot])
    b->symbol[b->texts[slot] - 1].last_id = id;
  else
    b->texts[slot] = id + 1;
  return true;
}

static bool add_bytes(Bpe *b) {
  bool ok = true;
  for (int i = 0; i < 256 && ok; i++) {
    char byte = (char)i;
    int id = b->id_of_byte[i];
    ok = add_symbol(b, id, &byte, 1, false) && add_symbol(b, 256 + id, &byte, 1, true);
  }
  return ok;
}

Bpe *bpe_new(int merges, Error *err) {
  Bpe *b = mem_alloc(sizeof *b);
  bool ok = b != NULL;
  if (ok) {
    b->slots = 2048;
    while (b->slots < 2u * (uint32_t)(BPE_BYTES + merges)) b->slots *= 2;
    fill_alphabet(b);
    b->merge = mem_alloc((size_t)merges * sizeof *b->merge);
    b->symbol = mem_alloc((size_t)(BPE_BYTES + merges) * sizeof *b->symbol);
    b->pairs = mem_alloc(b->slots * sizeof *b->pairs);
    b->texts = mem_alloc(b->slots * sizeof *b->texts);
    ok = b->merge && b->symbol && b->pairs && b->texts && add_bytes(b);
  }
  if (ok) return b;
  error_set(err, ERROR_MEMORY, "a byte-pair encoder of %d merges: out of memory", merges);
  bpe_free(b);
  return NULL;
}

void bpe_free(Bpe *b) {
  if (!b) return;
  mem_free(b->merge);
  mem_free(b->symbol);
  mem_free(b->pool);
  mem_free(b->pairs);
  mem_free(b->texts);
  mem_free(b);
}

bool bpe_add_merge(Bpe *b, int left, int right, const char *where, Error *err) {
  const BpeSymbol l = b->symbol[left], r = b->symbol[right];
  char text[2 * MAX_SYMBOL_BYTES];
  size_t n = (size_t)l.bytes + r.bytes;
  uint32_t slot = pair_slot(b, left, right);
  if (b->pairs[slot]) return error_set(err, ERROR_FORMAT, "%s: the same merge twice", where);
  if (l.ends_word) return error_set(err, ERROR_FORMAT, "%s: the left part ends a word (</w>)", where);
  if (n > MAX_SYMBOL_BYTES)
    return error_set(err, ERROR_LIMIT, "%s: a symbol of more than %d bytes", where, MAX_SYMBOL_BYTES);
  memcpy(text, b->pool + l.at, l.bytes);
  memcpy(text + l.bytes, b->pool + r.at, r.bytes);
  int rank = b->merges, id = BPE_BYTES + rank;
  if (!add_symbol(b, id, text, n, r.ends_word)) return error_set(err, ERROR_MEMORY, "%s: out of memory", where);
  b->merge[rank] = (BpeMerge){left, right, bpe_find_text(b, text, n, r.ends_word)};
  b->pairs[slot] = rank + 1;
  b->merges++;
  return true;
}

int bpe_merge_count(const Bpe *b) { return b->merges; }
int bpe_vocab(const Bpe *b) { return BPE_BYTES + b->merges + 2; }
int bpe_start(const Bpe *b) { return BPE_BYTES + b->merges; }
int bpe_end(const Bpe *b) { return BPE_BYTES + b->merges + 1; }

/* Merges the neighbours of the lowest rank, everywhere, until none are left; returns the new length. */
static int merge_word(const Bpe *b, int32_t *ids, int n) {
  for (;;) {
    int best = INT32_MAX, kept = 0;
    for (int i = 0; i + 1 < n; i++) {
      int rank = bpe_find_merge(b, ids[i], ids[i + 1]);
      if (rank >= 0 && rank < best) best = rank;
    }
    if (best == INT32_MAX) return n;
    const BpeMerge *m = &b->merge[best];
    for (int i = 0; i < n; kept++) {
      bool here = i + 1 < n && ids[i] == m->left && ids[i + 1] == m->right;
      ids[kept] = here ? m->made : ids[i];
      i += here ? 2 : 1;
    }
    n = kept;
  }
}

/* One word to ids in `scratch` (room for len). */
static int encode_word(const Bpe *b, const char *word, size_t len, int32_t *scratch) {
  bool start = len == 15 && !memcmp(word, "<|startoftext|>", 15),
       end = len == 13 && !memcmp(word, "<|endoftext|>", 13);
  if (start || end) {
    scratch[0] = start ? bpe_start(b) : bpe_end(b);
    return 1;
  }
  for (size_t i = 0; i < len; i++) scratch[i] = b->id_of_byte[(uint8_t)word[i]] + (i + 1 == len ? 256 : 0);
  int n = merge_word(b, scratch, (int)len);
  for (int i = 0; i < n; i++) scratch[i] = b->symbol[scratch[i]].last_id;
  return n;
}

bool bpe_encode(const Bpe *b, const char *text, int32_t *out, int cap, int *out_n, Error *err) {
  BpeWords words;
  if (!bpe_words_init(&words, text, err)) return false;
  int32_t *scratch = mem_alloc((words.len + 1) * sizeof *scratch);
  const char *word;
  size_t len;
  int n = 0;
  while (scratch && bpe_words_next(&words, &word, &len)) {
    int made = encode_word(b, word, len, scratch);
    for (int i = 0; i < made; i++, n++)
      if (n < cap) out[n] = scratch[i];
  }
  bool ok = scratch || error_set(err, ERROR_MEMORY, "encoding a text: out of memory");
  mem_free(scratch);
  bpe_words_done(&words);
  *out_n = n;
  return ok;
}

bool bpe_encode_fixed(const Bpe *b, const char *text, int32_t *out, int length, Error *err) {
  int n;
  if (length < 2) return error_set(err, ERROR_ARGUMENT, "a text of %d tokens; start and end need 2", length);
  if (!bpe_encode(b, text, out + 1, length - 2, &n, err)) return false;
  if (n > length - 2) n = length - 2;
  out[0] = bpe_start(b);
  out[n + 1] = bpe_end(b);
  for (int i = n + 2; i < length; i++) out[i] = 0;
  return true;
}

void bpe_mask(const Bpe *b, const int32_t *ids, uint8_t *out, int length) {
  bool ended = false;
  for (int i = 0; i < length; i++) {
    out[i] = !ended;
    ended |= ids[i] == bpe_end(b);
  }
}

bool bpe_decode(const Bpe *b, const int32_t *ids, int n, Buffer *out, Error *err) {
  bool gap = false;
  for (int i = 0; i < n && ids[i] != bpe_end(b); i++) {
    if (ids[i] == bpe_start(b)) continue;
    if (ids[i] < 0 || ids[i] >= bpe_vocab(b))
      return error_set(err, ERROR_ARGUMENT, "token %d is outside of the vocabulary of %d", ids[i], bpe_vocab(b));
    const BpeSymbol *s = &b->symbol[ids[i]];
    if (gap) buffer_append(out, " ", 1);
    buffer_append(out, b->pool + s->at, s->bytes);
    gap = s->ends_word;
  }
  return !out->failed || error_set(err, ERROR_MEMORY, "decoding a text: out of memory");
}
