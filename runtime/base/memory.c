/* Checked allocation, arenas and buffers.  Compiled a second time with NUWA_TEST_HOOKS, for tests (hooks.h). */
#include "runtime/base/memory.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#ifdef NUWA_TEST_HOOKS
#include <stdatomic.h>

#include "runtime/base/hooks.h"

/* Global, because failing the n-th allocation has to reach allocations in every thread and library. */
static atomic_uint_fast64_t alloc_count;
static atomic_uint_fast64_t alloc_fails_at;   /* the count to fail at; 0: never */
static atomic_uint_fast64_t alloc_fails_last; /* and the last one to fail */

uint64_t mem_alloc_count(void) { return atomic_load_explicit(&alloc_count, memory_order_relaxed); }

static void fail_between(uint64_t at, uint64_t last) {
  atomic_store_explicit(&alloc_fails_at, 0, memory_order_relaxed);
  atomic_store_explicit(&alloc_fails_last, last, memory_order_relaxed);
  atomic_store_explicit(&alloc_fails_at, at, memory_order_relaxed);
}

void mem_fail_at(uint64_t n) {
  uint64_t at = n ? mem_alloc_count() + n : 0;
  fail_between(at, at);
}

void mem_fail_from(uint64_t n) { fail_between(mem_alloc_count() + n, UINT64_MAX); }

static bool is_made_to_fail(void) {
  uint64_t now = atomic_fetch_add_explicit(&alloc_count, 1, memory_order_relaxed) + 1;
  uint64_t at = atomic_load_explicit(&alloc_fails_at, memory_order_relaxed);
  return at && now >= at && now <= atomic_load_explicit(&alloc_fails_last, memory_order_relaxed);
}
#else
static bool is_made_to_fail(void) { return false; }
#endif

/* Far above any machine of ours, and below the sizes at which a sanitizer ends the program by itself. */
static const size_t alloc_max = (size_t)1 << 38;

static bool alloc_refused(size_t bytes) { return is_made_to_fail() || bytes > alloc_max; }

void *mem_alloc(size_t bytes) { return alloc_refused(bytes) ? NULL : calloc(1, bytes ? bytes : 1); }

void *mem_alloc_aligned(size_t bytes, size_t alignment) {
  BUG_IF(alignment == 0 || (alignment & (alignment - 1)), "alignment %zu is not a power of two", alignment);
  if (alignment <= _Alignof(max_align_t)) return mem_alloc(bytes);
  void *p;
  if (alloc_refused(bytes) || posix_memalign(&p, alignment, bytes ? bytes : 1)) return NULL;
  return memset(p, 0, bytes);
}

void *mem_alloc_pages(size_t bytes) {
  if (alloc_refused(bytes)) return NULL;
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

void mem_free_pages(void *p, size_t bytes) { munmap(p, bytes); }

void *mem_realloc(void *old, size_t bytes) { return alloc_refused(bytes) ? NULL : realloc(old, bytes ? bytes : 1); }

void mem_free(void *p) { free(p); }

bool size_mul(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
bool size_add(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }

/* Arenas: a list of blocks, the newest first; an allocation that does not fit opens a new block. */

#ifdef NUWA_STRESS
enum { BLOCK_FIRST = 64, BLOCK_MAX = 64 };
#else
enum { BLOCK_FIRST = 8 << 10, BLOCK_MAX = 1 << 20 };
#endif
enum { BLOCK_ALIGN = 64 };

typedef struct ArenaBlock {
  struct ArenaBlock *next;
  size_t used, cap; /* of the bytes that follow this header */
  char pad[BLOCK_ALIGN - sizeof(void *) - 2 * sizeof(size_t)];
} ArenaBlock;
_Static_assert(sizeof(ArenaBlock) == BLOCK_ALIGN, "the bytes after a block's header are aligned like the block");

struct Arena {
  ArenaBlock *blocks;
  jmp_buf *leave; /* of the innermost arena_protect; NULL outside */
  size_t bytes, next_cap;
};

Arena *arena_new(void) {
  Arena *a = mem_alloc(sizeof *a);
  if (a) a->next_cap = BLOCK_FIRST;
  return a;
}

void arena_free(Arena *a) {
  if (!a) return;
  for (ArenaBlock *b = a->blocks, *next; b; b = next) {
    next = b->next;
    mem_free(b);
  }
  mem_free(a);
}

NO_RETURN static void arena_fail(Arena *a) {
  if (a->leave) longjmp(*a->leave, 1);
  fputs("nuwa: out of memory\n", stderr);
  abort();
}

/* NULL when memory is short. */
static ArenaBlock *arena_open_block(Arena *a, size_t bytes) {
  size_t cap = bytes > a->next_cap ? bytes : a->next_cap, total;
  ArenaBlock *b = size_add(cap, sizeof(ArenaBlock), &total) ? mem_alloc_aligned(total, BLOCK_ALIGN) : NULL;
  if (!b) return NULL;
  b->cap = cap;
  /* A block for one large value goes behind the open one, whose rest would be lost otherwise. */
  if (a->blocks && bytes > a->next_cap / 2) {
    b->next = a->blocks->next;
    a->blocks->next = b;
  } else {
    b->next = a->blocks;
    a->blocks = b;
  }
  if (a->next_cap < BLOCK_MAX) a->next_cap *= 2;
  return b;
}

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

static void *arena_try_alloc(Arena *a, size_t bytes) {
  if (bytes > alloc_max) return NULL;
  size_t align = bytes >= 64 ? 64 : 16;
  ArenaBlock *b = a->blocks;
  size_t at = b ? round_up(b->used, align) : 0;
  if (!b || at > b->cap || bytes > b->cap - at) {
    b = arena_open_block(a, bytes);
    if (!b) return NULL;
    at = 0;
  }
  b->used = at + bytes;
  a->bytes += bytes;
  return (char *)(b + 1) + at;
}

void *arena_alloc(Arena *a, size_t bytes) {
  void *p = arena_try_alloc(a, bytes);
  if (!p) arena_fail(a);
  return p;
}

void *arena_alloc_array(Arena *a, size_t elem_bytes, size_t n) {
  size_t bytes;
  if (!size_mul(elem_bytes, n, &bytes)) arena_fail(a);
  return arena_alloc(a, bytes);
}

void *arena_copy(Arena *a, const void *src, size_t bytes) {
  void *p = arena_alloc(a, bytes);
  if (bytes) memcpy(p, src, bytes);
  return p;
}

char *arena_strdup(Arena *a, const char *s) { return arena_copy(a, s, strlen(s) + 1); }

char *arena_printf(Arena *a, const char *fmt, ...) {
  va_list ap, again;
  va_start(ap, fmt);
  va_copy(again, ap);
  int n = vsnprintf(NULL, 0, fmt, ap);
  va_end(ap);
  BUG_IF(n < 0, "a format or its arguments are invalid");
  char *s = arena_alloc(a, (size_t)n + 1);
  vsnprintf(s, (size_t)n + 1, fmt, again);
  va_end(again);
  return s;
}

size_t arena_bytes(const Arena *a) { return a->bytes; }

bool arena_protect(Arena *a, void (*body)(void *ctx), void *ctx, Error *err) {
  jmp_buf here, *outer = a->leave;
  if (setjmp(here)) {
    a->leave = outer;
    return error_set(err, ERROR_MEMORY, "out of memory");
  }
  a->leave = &here;
  body(ctx);
  a->leave = outer;
  return true;
}

void *arena_grow(Arena *a, const void *list, size_t n, size_t elem_bytes, int *cap) {
  if (*cap > INT_MAX / 2) arena_fail(a);
  int wanted = *cap ? 2 * *cap : 4;
  BUG_IF(n > (size_t)wanted, "a list of %zu elements says it has room for %d", n, *cap);
  void *p = arena_alloc_array(a, elem_bytes, (size_t)wanted);
  if (n) memcpy(p, list, n * elem_bytes);
  *cap = wanted;
  return p;
}

/* Room for n more bytes and the NUL. */
static bool buffer_reserve(Buffer *b, size_t n) {
  if (b->failed) return false;
  size_t need;
  if (!size_add(b->len, n, &need) || !size_add(need, 1, &need) || need > SIZE_MAX / 2) return !(b->failed = true);
  if (need <= b->cap) return true;
  size_t cap = b->cap ? b->cap : 64;
  while (cap < need) cap *= 2;
  char *data = mem_realloc(b->data, cap);
  if (!data) return !(b->failed = true);
  b->data = data;
  b->cap = cap;
  return true;
}

void buffer_append(Buffer *b, const void *bytes, size_t n) {
  if (!buffer_reserve(b, n)) return;
  if (n) memcpy(b->data + b->len, bytes, n);
  b->len += n;
  b->data[b->len] = 0;
}

void buffer_printf(Buffer *b, const char *fmt, ...) {
  va_list ap, again;
  va_start(ap, fmt);
  va_copy(again, ap);
  int n = vsnprintf(NULL, 0, fmt, ap);
  va_end(ap);
  BUG_IF(n < 0, "a format or its arguments are invalid");
  if (buffer_reserve(b, (size_t)n)) {
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
    b->len += (size_t)n;
  }
  va_end(again);
}

void buffer_done(Buffer *b) {
  mem_free(b->data);
  *b = (Buffer){0};
}

char *arena_take_buffer(Arena *a, Buffer *b) {
  char *text = b->failed ? NULL : arena_try_alloc(a, b->len + 1);
  if (text && b->len) memcpy(text, b->data, b->len);
  buffer_done(b);
  if (!text) arena_fail(a);
  return text;
}
