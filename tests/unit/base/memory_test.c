#include "runtime/base/memory.h"

#include <pthread.h>

#include "runtime/base/hooks.h"
#include "tests/test.h"

static bool is_aligned(const void *p, size_t to) { return ((uintptr_t)p & (to - 1)) == 0; }

TEST("allocated memory is zeroed, aligned, and there even for no bytes") {
  for (size_t align = 1; align <= 4096; align *= 2) {
    uint8_t *p = mem_alloc_aligned(100, align);
    REQUIRE(p && is_aligned(p, align), "alignment %zu", align);
    for (int i = 0; i < 100; i++) EXPECT(p[i] == 0, "byte %d", i);
    memset(p, 1, 100);
    mem_free(p);
  }
  void *none[] = {mem_alloc(0), mem_alloc_aligned(0, 64), mem_realloc(NULL, 0)};
  for (int i = 0; i < 3; i++) {
    EXPECT(none[i], "%d", i);
    mem_free(none[i]);
  }
  uint8_t *pages = mem_alloc_pages(10000);
  bool is_zero = pages != NULL;
  for (int i = 0; is_zero && i < 10000; i++) is_zero = pages[i] == 0;
  EXPECT(is_zero && is_aligned(pages, 4096) && !mem_alloc_pages(SIZE_MAX), "pages");
  if (pages) mem_free_pages(pages, 10000);
  EXPECT(!mem_alloc(SIZE_MAX) && !mem_alloc_aligned(SIZE_MAX, 64) && !mem_realloc(NULL, SIZE_MAX), "too much");
}

TEST("the n-th allocation from now fails, and only that one") {
  uint64_t before = mem_alloc_count();
  mem_fail_at(3);
  for (int i = 1; i <= 5; i++) {
    void *p = i % 2 ? mem_alloc(8) : mem_alloc_aligned(8, 64);
    EXPECT((p == NULL) == (i == 3), "allocation %d", i);
    mem_free(p);
  }
  EXPECT(mem_alloc_count() == before + 5, "%d counted", (int)(mem_alloc_count() - before));
  mem_fail_at(1);
  mem_fail_at(0);
  void *p = mem_realloc(NULL, 8);
  EXPECT(p, "called off");
  mem_free(p);
}

TEST("the n-th allocation from now and all after it fail, until that is called off") {
  mem_fail_from(3);
  for (int i = 1; i <= 5; i++) {
    void *p = mem_alloc(8);
    EXPECT((p == NULL) == (i >= 3), "allocation %d", i);
    mem_free(p);
  }
  mem_fail_at(0);
  void *p = mem_alloc(8);
  EXPECT(p, "called off");
  mem_free(p);
}

static void *allocate_much(void *arg) {
  for (int i = 0; i < 1000; i++) mem_free(mem_alloc(16));
  return arg;
}

TEST("allocations are counted across threads") {
  pthread_t t[4];
  uint64_t before = mem_alloc_count();
  for (int i = 0; i < 4; i++) REQUIRE(!pthread_create(&t[i], NULL, allocate_much, NULL), "thread %d", i);
  for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
  EXPECT(mem_alloc_count() - before == 4000, "%d", (int)(mem_alloc_count() - before));
}

TEST("sizes that overflow are noticed") {
  size_t v;
  EXPECT(size_mul(1000, 1000, &v) && v == 1000000, "%zu", v);
  EXPECT(size_add(1, 2, &v) && v == 3, "%zu", v);
  EXPECT(!size_mul(SIZE_MAX / 2, 3, &v) && !size_add(SIZE_MAX, 1, &v), "overflow");
  EXPECT(size_mul(SIZE_MAX, 1, &v) && size_mul(SIZE_MAX, 0, &v) && v == 0, "%zu", v);
}

typedef struct Work {
  Arena *arena;
  size_t bytes;
  int reached;
  Error err;
  struct Work *inner;
  bool inner_ok;
} Work;

static void fill(void *ctx) {
  Work *w = ctx;
  uint8_t *last = NULL;
  for (size_t size = 0; size < w->bytes; size = size * 2 + 1) {
    uint8_t *p = arena_alloc(w->arena, size);
    EXPECT(is_aligned(p, size >= 64 ? 64 : 16), "%zu bytes", size);
    for (size_t i = 0; i < size; i++) EXPECT(p[i] == 0, "byte %zu of %zu", i, size);
    memset(p, 0xAA, size);
    EXPECT(p != last || size == 1, "%zu bytes lie where others do", size); /* before the 1 there were 0 */
    last = p;
    w->reached++;
  }
}

TEST("an arena gives zeroed, aligned memory of every size") {
  Work w = {.arena = arena_new(), .bytes = 3 << 20};
  REQUIRE(w.arena, "memory");
  EXPECT(arena_bytes(w.arena) == 0, "%zu", arena_bytes(w.arena));
  EXPECT(arena_protect(w.arena, fill, &w, &w.err), "%s", w.err.text);
  EXPECT(arena_bytes(w.arena) > 1 << 20, "%zu", arena_bytes(w.arena));
  arena_free(w.arena);
  arena_free(NULL);
}

static void make_things(void *ctx) {
  Work *w = ctx;
  Arena *a = w->arena;
  char *s = arena_strdup(a, "hello");
  EXPECT_TEXT(s, "hello");
  EXPECT_TEXT(arena_printf(a, "%s %d %0100d", s, 42, 7) + 102, "0000007");
  int *copy = arena_copy(a, (int[]){1, 2, 3}, 3 * sizeof(int));
  EXPECT(copy[2] == 3, "%d", copy[2]);
  int *list = NULL, n = 0, cap = 0;
  for (int i = 0; i < 1000; i++) ARENA_PUSH(a, list, n, cap, i * i);
  for (int i = 0; i < 1000; i++) EXPECT(list[i] == i * i, "element %d", i);
  EXPECT(n == 1000 && cap >= n, "%d of %d", n, cap);
  EXPECT(ARENA_NEW(a, Work)->reached == 0 && ARENA_ARRAY(a, Work, 3)[2].bytes == 0, "zeroed");
  w->reached = 1;
}

TEST("copies, texts and lists live in an arena") {
  Work w = {.arena = arena_new()};
  REQUIRE(w.arena && arena_protect(w.arena, make_things, &w, &w.err), "%s", w.err.text);
  EXPECT(w.reached, "all of it");
  arena_free(w.arena);
}

TEST("whichever allocation fails, an arena reports it and can be freed") {
  int failures = 0;
  for (bool ok = false; !ok; failures += !ok) {
    Work w = {.bytes = 1 << 16};
    mem_fail_at((uint64_t)failures + 1);
    w.arena = arena_new();
    ok = w.arena && arena_protect(w.arena, make_things, &w, &w.err) && arena_protect(w.arena, fill, &w, &w.err);
    EXPECT(ok || !w.arena || (w.err.code == ERROR_MEMORY && !strcmp(w.err.text, "out of memory")), "%s", w.err.text);
    mem_fail_at(0);
    arena_free(w.arena);
  }
  EXPECT(failures >= 3, "%d", failures);
}

static void too_many(void *ctx) { arena_alloc_array(((Work *)ctx)->arena, 1 << 20, SIZE_MAX / 2); }
static void too_large(void *ctx) { arena_alloc(((Work *)ctx)->arena, SIZE_MAX - 8); }

TEST("absurd sizes are out of memory, not overflow") {
  Work w = {.arena = arena_new()};
  REQUIRE(w.arena, "memory");
  EXPECT(!arena_protect(w.arena, too_many, &w, &w.err) && w.err.code == ERROR_MEMORY, "an array");
  EXPECT(!arena_protect(w.arena, too_large, &w, &w.err) && w.err.code == ERROR_MEMORY, "one value");
  arena_free(w.arena);
}

static void nest(void *ctx) {
  Work *w = ctx;
  w->inner_ok = arena_protect(w->inner->arena, too_large, w->inner, &w->inner->err);
  w->reached = 1;
  fill(w);
  if (w->bytes == 0) too_large(w);
  w->reached = -1;
}

TEST("protection nests: the innermost leaves, the outer goes on, in one arena or two") {
  for (int two = 0; two < 2; two++)
    for (int outer_fails = 0; outer_fails < 2; outer_fails++) {
      Arena *a = arena_new(), *b = arena_new();
      REQUIRE(a && b, "memory");
      Work inner = {.arena = two ? b : a, .inner_ok = true}, w = {.arena = a, .inner = &inner, .inner_ok = true};
      w.bytes = outer_fails ? 0 : 1000;
      bool ok = arena_protect(a, nest, &w, &w.err);
      EXPECT(!w.inner_ok && inner.err.code == ERROR_MEMORY, "the inner one fails");
      EXPECT(ok == !outer_fails && w.reached == (outer_fails ? 1 : -1), "%d, at %d", ok, w.reached);
      EXPECT((w.err.code == ERROR_MEMORY) == outer_fails, "%s", w.err.text);
      arena_free(a);
      arena_free(b);
    }
}

TEST("a buffer grows and stays NUL-terminated") {
  Buffer b = {0};
  for (int i = 0; i < 300; i++) {
    buffer_printf(&b, "%d,", i);
    EXPECT(strlen(b.data) == b.len, "after %d", i);
  }
  buffer_append(&b, "\0x", 2);
  EXPECT(!b.failed && b.len == 1092 && b.data[1091] == 'x' && b.data[1092] == 0, "%zu", b.len);
  EXPECT(!strncmp(b.data, "0,1,2,", 6), "%.10s", b.data);
  buffer_done(&b);
  buffer_append(&b, NULL, 0);
  EXPECT(b.data && b.len == 0 && b.data[0] == 0, "empty text");
  buffer_done(&b);
}

TEST("a buffer that cannot grow keeps what it had and drops the rest") {
  Buffer b = {0};
  buffer_append(&b, "abc", 3);
  mem_fail_at(1);
  buffer_printf(&b, "%0500d", 1);
  mem_fail_at(0);
  buffer_append(&b, "d", 1);
  EXPECT(b.failed && b.len == 3, "%zu", b.len);
  EXPECT_TEXT(b.data, "abc");
  buffer_done(&b);
}

#ifdef NUWA_STRESS
static void step_out(void *ctx) {
  Work *w = ctx;
  uint64_t before = mem_alloc_count();
  for (int i = 0; i < 64; i++) arena_alloc(w->arena, 16);
  w->reached = (int)(mem_alloc_count() - before);
}

TEST("stress: arena blocks hold 64 bytes") {
  Work w = {.arena = arena_new()};
  REQUIRE(w.arena && arena_protect(w.arena, step_out, &w, &w.err), "%s", w.err.text);
  EXPECT(w.reached == 16, "%d blocks for 64 values of 16 bytes", w.reached);
  arena_free(w.arena);
}
#endif

TEST_MAIN()
