/* Unicode's normal form C: everything taken apart, marks put into order, and together again what can be. */
#include <stdlib.h>
#include <string.h>

#include "runtime/text/codes.h"

typedef struct CodePair {
  uint16_t c, first, second;
} CodePair;
typedef struct WidePair {
  uint32_t c, first, second;
} WidePair;
typedef struct ClassRun {
  uint32_t first;
  uint8_t more, class;
} ClassRun;

#define NONE(...)
#define ENTRY(...) {__VA_ARGS__},
#define VALUE(c) c,
#define RUN(first, last, class) {first, last - first, class},

#define PAIR ENTRY
#define APART NONE
#define WIDE_PAIR NONE
#define WIDE_APART NONE
#define COMPATIBLE NONE
#define CLASS NONE
static const CodePair pairs[] = {
#include "runtime/text/normal.def"
};
#undef PAIR
#undef APART
#define PAIR NONE
#define APART ENTRY
static const CodePair apart[] = {
#include "runtime/text/normal.def"
};
#undef APART
#undef WIDE_PAIR
#define APART NONE
#define WIDE_PAIR ENTRY
static const WidePair wide_pairs[] = {
#include "runtime/text/normal.def"
};
#undef WIDE_PAIR
#undef WIDE_APART
#define WIDE_PAIR NONE
#define WIDE_APART ENTRY
static const WidePair wide_apart[] = {
#include "runtime/text/normal.def"
};
#undef WIDE_APART
#undef COMPATIBLE
#define WIDE_APART NONE
#define COMPATIBLE VALUE
static const uint32_t compatible[] = {
#include "runtime/text/normal.def"
};
#undef COMPATIBLE
#undef CLASS
#define COMPATIBLE NONE
#define CLASS RUN
static const ClassRun classes[] = {
#include "runtime/text/normal.def"
};

enum { COMPATIBLE_FIRST = 0x2f800 };
/* Hangul syllables are computed (The Unicode Standard, 3.12). */
enum { S_BASE = 0xac00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11a7, L_COUNT = 19, V_COUNT = 21, T_COUNT = 28,
       S_COUNT = L_COUNT * V_COUNT * T_COUNT };

static int combining_class(uint32_t c) {
  int low = 0, high = COUNT_OF(classes);
  while (low < high) {
    int mid = (low + high) / 2;
    if (c < classes[mid].first) high = mid;
    else if (c > classes[mid].first + classes[mid].more) low = mid + 1;
    else return classes[mid].class;
  }
  return 0;
}

static const CodePair *find_pair(const CodePair *list, int n, uint32_t c) {
  int low = 0, high = n;
  while (low < high) {
    int mid = (low + high) / 2;
    if (c == list[mid].c) return &list[mid];
    if (c < list[mid].c) high = mid;
    else low = mid + 1;
  }
  return NULL;
}

/* One step of taking apart; second is 0 for what becomes another character. */
static bool split(uint32_t c, uint32_t *first, uint32_t *second) {
  if (c >= COMPATIBLE_FIRST && c < COMPATIBLE_FIRST + (uint32_t)COUNT_OF(compatible))
    return *first = compatible[c - COMPATIBLE_FIRST], *second = 0, true;
  const CodePair *p = c > 0xffff ? NULL : find_pair(pairs, COUNT_OF(pairs), c);
  if (!p && c <= 0xffff) p = find_pair(apart, COUNT_OF(apart), c);
  if (p) return *first = p->first, *second = p->second, true;
  for (int i = 0; i < COUNT_OF(wide_pairs) + COUNT_OF(wide_apart); i++) {
    const WidePair *w = i < COUNT_OF(wide_pairs) ? &wide_pairs[i] : &wide_apart[i - COUNT_OF(wide_pairs)];
    if (w->c == c) return *first = w->first, *second = w->second, true;
  }
  return false;
}

static void add_apart(Codes *out, uint32_t c) {
  uint32_t first, second;
  if (c < 0xc0) {
    codes_add(out, c);
  } else if (c - S_BASE < S_COUNT) {
    uint32_t s = c - S_BASE;
    codes_add(out, L_BASE + s / (V_COUNT * T_COUNT));
    codes_add(out, V_BASE + s % (V_COUNT * T_COUNT) / T_COUNT);
    if (s % T_COUNT) codes_add(out, T_BASE + s % T_COUNT);
  } else if (split(c, &first, &second)) {
    add_apart(out, first);
    if (second) add_apart(out, second);
  } else {
    codes_add(out, c);
  }
}

/* A mark, and where it stood. */
typedef struct Mark {
  uint32_t c, at;
  int class;
} Mark;

static int by_class(const void *x, const void *y) {
  const Mark *a = x, *b = y;
  if (a->class != b->class) return a->class < b->class ? -1 : 1;
  return a->at < b->at ? -1 : 1;
}

/* Sorts every run of marks by class, stably. */
static void order_marks(Codes *t, size_t from) {
  for (size_t i = from, end; i < t->n; i = end + 1) {
    for (end = i; end < t->n && combining_class(t->c[end]);) end++;
    size_t n = end - i;
    if (n < 2) continue;
    Mark *mark = mem_alloc(n * sizeof *mark);
    if (!mark) {
      t->failed = true;
      return;
    }
    for (size_t k = 0; k < n; k++) mark[k] = (Mark){t->c[i + k], (uint32_t)k, combining_class(t->c[i + k])};
    qsort(mark, n, sizeof *mark, by_class);
    for (size_t k = 0; k < n; k++) t->c[i + k] = mark[k].c;
    mem_free(mark);
  }
}

/* What two characters make together, or 0. */
static uint32_t join(uint32_t a, uint32_t b) {
  if (a - L_BASE < L_COUNT && b - V_BASE < V_COUNT) return S_BASE + ((a - L_BASE) * V_COUNT + b - V_BASE) * T_COUNT;
  if (a - S_BASE < S_COUNT && (a - S_BASE) % T_COUNT == 0 && b - T_BASE - 1 < T_COUNT - 1) return a + b - T_BASE;
  for (int i = 0; i < COUNT_OF(pairs); i++)
    if (pairs[i].second == b && pairs[i].first == a) return pairs[i].c;
  for (int i = 0; i < COUNT_OF(wide_pairs); i++)
    if (wide_pairs[i].second == b && wide_pairs[i].first == a) return wide_pairs[i].c;
  return 0;
}

/* Only marks and a few letters are ever the second of two; all begin here. */
static bool may_be_second(uint32_t c) { return c >= 0x300; }

static void compose(Codes *t, size_t from) {
  size_t kept = from, starter = SIZE_MAX;
  int last_class = -1; /* of what was kept behind the starter; -1: nothing */
  for (size_t i = from; i < t->n; i++) {
    uint32_t c = t->c[i], joined = 0;
    int class = combining_class(c);
    if (starter != SIZE_MAX && may_be_second(c) && last_class < class) joined = join(t->c[starter], c);
    if (joined) {
      t->c[starter] = joined;
      continue;
    }
    if (class == 0) starter = kept, last_class = -1;
    else last_class = class;
    t->c[kept++] = c;
  }
  t->n = kept;
}

void normal_compose(const Codes *in, Codes *out) {
  size_t from = out->n;
  bool is_simple = true;
  for (size_t i = 0; i < in->n; i++) is_simple = is_simple && in->c[i] < 0x300;
  for (size_t i = 0; i < in->n; i++)
    if (is_simple) codes_add(out, in->c[i]);
    else add_apart(out, in->c[i]);
  if (is_simple || out->failed) return;
  order_marks(out, from);
  if (!out->failed) compose(out, from);
}
