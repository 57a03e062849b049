/* Text to words as CLIP's tokenizer does it, its regular expression written out by hand. */
#include <string.h>

#include "runtime/text/bpe_internal.h"
#include "runtime/text/clean.h"
#include "runtime/text/unicode.h"
#include "runtime/base/utf8.h"

static const char *const special_words[] = {"<|startoftext|>", "<|endoftext|>"};
/* CLIP compares them without case, hence the last, a long s; all else is small already. */
static const char *const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'ſ"};

/* The next character and its length; a damaged byte is U+FFFD. */
static uint32_t next_char(const char *p, size_t n, size_t *out_len) {
  uint32_t c;
  int len = utf8_read(p, n, &c);
  *out_len = len ? (size_t)len : 1;
  return len ? c : 0xfffd;
}

bool bpe_words_init(BpeWords *w, const char *text, Error *err) {
  *w = (BpeWords){0};
  size_t n = strlen(text);
  if (n > BPE_MAX_TEXT)
    return error_set(err, ERROR_LIMIT, "a text of %zu bytes; at most %d are encoded", n, BPE_MAX_TEXT);
  Buffer clean = {0};
  if (!text_clean(text, n, &clean, err)) {
    buffer_done(&clean);
    return false;
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
