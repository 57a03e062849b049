/* Text to words as CLIP's tokenizer does it, its regular expression written out by hand. */
#include <string.h>

#include "runtime/text/bpe_internal.h"
#include "runtime/text/unicode.h"
#include "runtime/base/utf8.h"

static const char *const special_words[] = {"<|startoftext|>", "<|endoftext|>"};
static const char *const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};

static void put_char(Buffer *b, uint32_t c) {
  char bytes[4];
  buffer_append(b, bytes, (size_t)utf8_write(c, bytes));
}

/* The next character and its length; a damaged byte is U+FFFD. */
static uint32_t next_char(const char *p, size_t n, size_t *out_len) {
  uint32_t c;
  int len = utf8_read(p, n, &c);
  *out_len = len ? (size_t)len : 1;
  return len ? c : 0xfffd;
}

/* "&#233;" and "&#xe9;": 0 when it is none. */
static size_t read_numeric_entity(const char *p, size_t n, uint32_t *out) {
  size_t i = 2;
  bool hex = i < n && (p[i] == 'x' || p[i] == 'X');
  uint32_t value = 0;
  size_t first = i += hex;
  for (; i < n && i < first + 7; i++) {
    int c = p[i] | 32, digit = p[i] >= '0' && p[i] <= '9'    ? p[i] - '0'
                               : hex && c >= 'a' && c <= 'f' ? c - 'a' + 10
                                                             : -1;
    if (digit < 0) break;
    value = value * (hex ? 16 : 10) + (uint32_t)digit;
  }
  bool valid = value && value <= 0x10ffff && (value < 0xd800 || value > 0xdfff);
  if (i == first || i >= n || p[i] != ';' || !valid) return 0;
  *out = value;
  return i + 1;
}

static size_t read_entity(const char *p, size_t n, uint32_t *out) {
  static const struct {
    const char *name;
    uint32_t c;
  } named[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}, {"&nbsp;", 0xa0}};
  if (n > 2 && p[1] == '#') return read_numeric_entity(p, n, out);
  for (int i = 0; i < COUNT_OF(named); i++) {
    size_t len = strlen(named[i].name);
    if (n < len || memcmp(p, named[i].name, len)) continue;
    *out = named[i].c;
    return len;
  }
  return 0;
}

static void resolve_entities(const char *p, size_t n, Buffer *out) {
  for (size_t i = 0; i < n;) {
    uint32_t c;
    size_t len = p[i] == '&' ? read_entity(p + i, n - i, &c) : 0;
    if (len)
      put_char(out, c);
    else
      buffer_append(out, p + i, len = 1);
    i += len;
  }
}

static void lower_and_space(const char *p, size_t n, Buffer *out) {
  bool gap = false;
  for (size_t i = 0, len; i < n; i += len) {
    uint32_t c = next_char(p + i, n - i, &len);
    if (unicode_is_space(c)) {
      gap = out->len > 0;
      continue;
    }
    if (gap) buffer_append(out, " ", 1);
    gap = false;
    put_char(out, unicode_lower(c));
  }
}

bool bpe_words_init(BpeWords *w, const char *text, Error *err) {
  *w = (BpeWords){0};
  size_t n = strlen(text);
  if (n > BPE_MAX_TEXT)
    return error_set(err, ERROR_LIMIT, "a text of %zu bytes; at most %d are encoded", n, BPE_MAX_TEXT);
  Buffer once = {0}, twice = {0}, clean = {0};
  resolve_entities(text, n, &once);
  if (!once.failed && once.len) resolve_entities(once.data, once.len, &twice);
  if (!twice.failed && twice.len) lower_and_space(twice.data, twice.len, &clean);
  bool ok = !once.failed && !twice.failed && !clean.failed;
  buffer_done(&once);
  buffer_done(&twice);
  if (!ok) {
    buffer_done(&clean);
    return error_set(err, ERROR_MEMORY, "cleaning a text: out of memory");
  }
  w->text = clean.data;
  w->len = clean.len;
  return true;
}

void bpe_words_done(BpeWords *w) {
  mem_free(w->text);
  *w = (BpeWords){0};
}

static size_t match_any(const char *p, size_t n, const char *const *list, int count) {
  for (int i = 0; i < count; i++) {
    size_t len = strlen(list[i]);
    if (n >= len && !memcmp(p, list[i], len)) return len;
  }
  return 0;
}

typedef enum CharClass { CLASS_LETTER, CLASS_NUMBER, CLASS_SPACE, CLASS_OTHER } CharClass;

static CharClass class_of(uint32_t c) {
  if (unicode_is_letter(c)) return CLASS_LETTER;
  if (unicode_is_number(c)) return CLASS_NUMBER;
  return unicode_is_space(c) ? CLASS_SPACE : CLASS_OTHER;
}

bool bpe_words_next(BpeWords *w, const char **out_word, size_t *out_len) {
  while (w->at < w->len && w->text[w->at] == ' ') w->at++;
  if (w->at == w->len) return false;
  const char *p = w->text + w->at;
  size_t n = w->len - w->at, len = match_any(p, n, special_words, COUNT_OF(special_words)), one;
  if (!len) len = match_any(p, n, endings, COUNT_OF(endings));
  if (!len) {
    CharClass first = class_of(next_char(p, n, &len));
    while (first != CLASS_NUMBER && len < n && class_of(next_char(p + len, n - len, &one)) == first) len += one;
  }
  *out_word = p;
  *out_len = len;
  w->at += len;
  return true;
}
