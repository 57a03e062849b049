/* Learning merges: counts words once, then merges the most frequent neighbours again and again.  Counting anew after
 * each merge is plain and quick enough: captions have some hundred different words. */
#include <string.h>

#include "runtime/text/bpe_internal.h"

/* A different word of the texts, as symbols that get fewer. */
typedef struct Word {
  uint32_t at, bytes; /* the word in pool */
  int64_t count;
  int32_t *ids; /* [n], into Trainer.ids */
  int n;
} Word;

typedef struct PairCount {
  int32_t left, right;
  int64_t count; /* 0: free */
} PairCount;

typedef struct MergeTrainer {
  Buffer pool; /* all words */
  Word *words;
  uint32_t n, cap;
  uint32_t *slots; /* [slot_count] open hash of word + 1 */
  uint32_t slot_count;
  int32_t *ids;     /* [pool.len] */
  PairCount *pairs; /* [pair_slots] open hash */
  uint32_t pair_slots;
} MergeTrainer;

static void trainer_done(MergeTrainer *t) {
  buffer_done(&t->pool);
  mem_free(t->words);
  mem_free(t->slots);
  mem_free(t->ids);
  mem_free(t->pairs);
}

static uint32_t find_slot(const MergeTrainer *t, const char *word, size_t len) {
  uint32_t h = 2166136261u;
  for (size_t i = 0; i < len; i++) h = (h ^ (uint8_t)word[i]) * 16777619u;
  for (h ^= h >> 15; t->slots[h &= t->slot_count - 1]; h++) {
    const Word *w = &t->words[t->slots[h] - 1];
    if (w->bytes == len && !memcmp(t->pool.data + w->at, word, len)) break;
  }
  return h;
}

static bool grow(MergeTrainer *t) {
  uint32_t cap = t->cap ? 2 * t->cap : 1024;
  Word *words = mem_realloc(t->words, cap * sizeof *words);
  if (!words) return false;
  t->words = words;
  t->cap = cap;
  mem_free(t->slots);
  t->slot_count = 2 * cap;
  t->slots = mem_alloc(t->slot_count * sizeof *t->slots);
  if (!t->slots) return false;
  for (uint32_t i = 0; i < t->n; i++) t->slots[find_slot(t, t->pool.data + words[i].at, words[i].bytes)] = i + 1;
  return true;
}

static bool count_word(MergeTrainer *t, const char *word, size_t len) {
  if (t->n == t->cap && !grow(t)) return false;
  uint32_t slot = find_slot(t, word, len);
  if (!t->slots[slot]) {
    t->words[t->n] = (Word){.at = (uint32_t)t->pool.len, .bytes = (uint32_t)len};
    buffer_append(&t->pool, word, len);
    if (t->pool.failed || t->pool.len > UINT32_MAX / 8) return false;
    t->slots[slot] = ++t->n;
  }
  t->words[t->slots[slot] - 1].count++;
  return true;
}

static bool count_texts(MergeTrainer *t, const char *const *texts, int n, Error *err) {
  for (int i = 0; i < n; i++) {
    BpeWords words;
    const char *word;
    size_t len;
    bool ok = true;
    if (!bpe_words_init(&words, texts[i], err)) return error_prefix(err, "text %d", i);
    while (ok && bpe_words_next(&words, &word, &len))
      if (len > 1 && memcmp(word, "<|", 2)) ok = count_word(t, word, len);
    bpe_words_done(&words);
    if (!ok) return error_set(err, ERROR_MEMORY, "counting the words of %d texts: out of memory", n);
  }
  return true;
}

static bool words_to_ids(const Bpe *b, MergeTrainer *t, Error *err) {
  t->pair_slots = 1024;
  while (t->pair_slots < 2 * t->pool.len) t->pair_slots *= 2;
  t->ids = mem_alloc(t->pool.len * sizeof *t->ids);
  t->pairs = mem_alloc(t->pair_slots * sizeof *t->pairs);
  if (!t->ids || !t->pairs) return error_set(err, ERROR_MEMORY, "learning merges: out of memory");
  for (uint32_t i = 0; i < t->n; i++) {
    Word *w = &t->words[i];
    w->ids = t->ids + w->at;
    w->n = (int)w->bytes;
    for (int k = 0; k < w->n; k++)
      w->ids[k] = b->id_of_byte[(uint8_t)t->pool.data[w->at + (uint32_t)k]] + (k + 1 == w->n ? 256 : 0);
  }
  return true;
}

static PairCount *pair_at(MergeTrainer *t, int32_t left, int32_t right) {
  uint32_t h = (uint32_t)left * 0x9e3779b1u ^ (uint32_t)right * 0x85ebca77u;
  for (h ^= h >> 15; t->pairs[h &= t->pair_slots - 1].count; h++)
    if (t->pairs[h].left == left && t->pairs[h].right == right) break;
  return &t->pairs[h];
}

static bool comes_first(const PairCount *a, const PairCount *b) {
  if (a->count != b->count) return a->count > b->count;
  return a->left != b->left ? a->left < b->left : a->right < b->right;
}

static PairCount most_frequent(MergeTrainer *t) {
  memset(t->pairs, 0, t->pair_slots * sizeof *t->pairs);
  for (uint32_t i = 0; i < t->n; i++)
    for (int k = 0; k + 1 < t->words[i].n; k++) {
      PairCount *p = pair_at(t, t->words[i].ids[k], t->words[i].ids[k + 1]);
      *p = (PairCount){t->words[i].ids[k], t->words[i].ids[k + 1], p->count + t->words[i].count};
    }
  PairCount best = {0};
  for (uint32_t i = 0; i < t->pair_slots; i++)
    if (t->pairs[i].count && comes_first(&t->pairs[i], &best)) best = t->pairs[i];
  return best;
}

static void merge_everywhere(MergeTrainer *t, const PairCount *p, int32_t made) {
  for (uint32_t i = 0; i < t->n; i++) {
    Word *w = &t->words[i];
    int kept = 0;
    for (int k = 0; k < w->n; kept++) {
      bool here = k + 1 < w->n && w->ids[k] == p->left && w->ids[k + 1] == p->right;
      w->ids[kept] = here ? made : w->ids[k];
      k += here ? 2 : 1;
    }
    w->n = kept;
  }
}

Bpe *bpe_train(const char *const *texts, int n, int max_merges, Error *err) {
  if (max_merges < 0 || max_merges > BPE_MAX_MERGES) {
    error_set(err, ERROR_ARGUMENT, "%d merges; 0 to %d are possible", max_merges, BPE_MAX_MERGES);
    return NULL;
  }
  MergeTrainer t = {0};
  Bpe *b = bpe_new(max_merges, err);
  bool ok = b && count_texts(&t, texts, n, err) && words_to_ids(b, &t, err);
  while (ok && b->merges < max_merges) {
    PairCount best = most_frequent(&t);
    if (best.count < 2) break;
    ok = bpe_add_merge(b, best.left, best.right, "learning merges", err);
    if (ok) merge_everywhere(&t, &best, b->merge[b->merges - 1].made);
  }
  trainer_done(&t);
  if (ok) return b;
  bpe_free(b);
  return NULL;
}
