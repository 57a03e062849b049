/* What a model cannot make of a caption: words that it never read in training, and what does not fit. */
#include <string.h>

#include "runtime/base/utf8.h"
#include "synth/kit.h"
#include "synth/weights_file.h"

static char small(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

/* The next word at *at, without the punctuation around it; its length, 0 at the end. */
static size_t next_word(const char **at, const char **out) {
  static const char space[] = " \t\r\n", marks[] = ".,;:!?\"'()";
  for (;;) {
    *at += strspn(*at, space);
    size_t n = strcspn(*at, space);
    const char *word = *at;
    *at += n;
    if (!n) return 0;
    while (n && strchr(marks, *word)) word++, n--;
    while (n && strchr(marks, word[n - 1])) n--;
    *out = word;
    if (n) return n;
  }
}

/* Is the word, in small letters, one of the words that spaces separate? */
static bool is_known(const char *words, const char *word, size_t n) {
  for (const char *p = words; *p;) {
    size_t len = strcspn(p, " "), i = 0;
    if (len == n) {
      while (i < n && small(word[i]) == p[i]) i++;
      if (i == n) return true;
    }
    p += len + (p[len] == ' ');
  }
  return false;
}

static bool is_ascii(const char *text) {
  while (*text && (unsigned char)*text < 128) text++;
  return !*text;
}

/* Some unknown words are told; a caption of none but such, in letters that no caption had, is in another language. */
static bool say_unknown(const Kit *k, const char *text, Error *err) {
  const char *words = safetensors_metadata(k->drawer.weights, WEIGHTS_WORDS), *word;
  Buffer list = {0};
  int known = 0;
  if (!words) return true;
  for (const char *at = text; ;) {
    size_t n = next_word(&at, &word);
    if (!n) break;
    if (is_known(words, word, n)) known++;
    else buffer_printf(&list, "%s\"%.*s\"", list.len ? ", " : "", (int)n, word);
  }
  bool is_foreign = list.len && !known && !is_ascii(text) && is_ascii(words);
  if (is_foreign)
    error_set(err, ERROR_ARGUMENT, "the weights were trained on captions in English letters, and know no word of \"%s\": "
              "nuwa data lists what there is", text);
  else if (list.len && !list.failed)
    synth_say(k->target, "no caption that the weights were trained on had %s: what is drawn for it means nothing "
              "(nuwa data lists what there is)", list.data);
  buffer_done(&list);
  return !is_foreign;
}

/* How much of a text is whole: tokens may end within a character. */
static size_t whole_length(const Buffer *text) {
  size_t n = text->len;
  while (n && text->len - n < 3 && !utf8_is_text(text->data, n)) n--;
  return n;
}

/* The text of the tokens that fit, between start and end. */
static bool say_cut(const Kit *k, const char *text, Error *err) {
  int n, fit = (int)k->text_tokens - 2;
  if (!bpe_encode(k->bpe, text, NULL, 0, &n, err)) return false;
  if (n <= fit) return true;
  int32_t *ids = mem_alloc(sizeof *ids * (size_t)(fit + 1));
  Buffer kept = {0};
  bool ok = ids ? bpe_encode(k->bpe, text, ids, fit, &n, err) && bpe_decode(k->bpe, ids, fit, &kept, err)
                : error_set(err, ERROR_MEMORY, "out of memory");
  if (ok)
    synth_say(k->target, "the caption has %d tokens, the model reads %d: it is cut after \"%.*s\"", n, fit,
              (int)whole_length(&kept), kept.data ? kept.data : "");
  buffer_done(&kept);
  mem_free(ids);
  return ok;
}

bool kit_check_caption(const Kit *k, const char *text, Error *err) {
  return say_unknown(k, text, err) && say_cut(k, text, err);
}
