/* Memory: checked allocation, arenas, and growing byte buffers.
 *
 * Everything of a compilation dies with its arena.  arena_alloc never returns NULL: when memory is short it leaves
 * the arena_protect call in progress, which then reports ERROR_MEMORY.  The stress build (NUWA_STRESS) makes arena
 * blocks tiny; tests can make any allocation fail (hooks.h). */
#ifndef NUWA_MEMORY_H
#define NUWA_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/error.h"

/* malloc, realloc and free.  mem_alloc and mem_alloc_aligned give zeroed memory (NULL on failure, and for 0 bytes a
 * valid pointer), mem_realloc does not zero what it adds.  alignment is a power of two.  Free all with mem_free. */
void *mem_alloc(size_t bytes);
void *mem_alloc_aligned(size_t bytes, size_t alignment);
void *mem_realloc(void *old, size_t bytes);
void mem_free(void *p);

/* Whole pages of zeros, each of which takes memory only when it is written; NULL on failure, bytes > 0.  Give them back
 * with mem_free_pages and the same size. */
void *mem_alloc_pages(size_t bytes);
void mem_free_pages(void *p, size_t bytes);

/* a * b, a + b; false on overflow (out is then unspecified). */
bool size_mul(size_t a, size_t b, size_t *out);
bool size_add(size_t a, size_t b, size_t *out);

typedef struct Arena Arena;
Arena *arena_new(void);   /* NULL when memory is short */
void arena_free(Arena *a);  /* NULL is fine */

/* Zeroed, aligned to 16 bytes (64 when bytes >= 64), valid until arena_free.  Must run inside arena_protect, or
 * the program ends with a message when memory is short. */
void *arena_alloc(Arena *a, size_t bytes);
void *arena_copy(Arena *a, const void *src, size_t bytes);
char *arena_strdup(Arena *a, const char *s);
char *arena_printf(Arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
size_t arena_bytes(const Arena *a);
#define ARENA_NEW(a, T) ((T *)arena_alloc((a), sizeof(T)))
#define ARENA_ARRAY(a, T, n) ((T *)arena_alloc_array((a), sizeof(T), (size_t)(n)))
void *arena_alloc_array(Arena *a, size_t elem_bytes, size_t n);

/* Runs body(ctx).  If an allocation from `a` fails inside, leaves body by longjmp, sets ERROR_MEMORY and returns
 * false; whatever body holds outside of arenas must be reachable from ctx.  Calls may nest. */
bool arena_protect(Arena *a, void (*body)(void *ctx), void *ctx, Error *err);

/* A growing array in an arena:  ARENA_PUSH(a, list, n, cap, value). */
#define ARENA_PUSH(a, list, n, cap, value)                                                             \
  do {                                                                                                 \
    if ((n) == (cap)) (list) = arena_grow((a), (list), (size_t)(n), sizeof *(list), &(cap));           \
    (list)[(n)++] = (value);                                                                           \
  } while (0)
void *arena_grow(Arena *a, const void *list, size_t n, size_t elem_bytes, int *cap);

/* Text or bytes that grow, on the heap.  A failed growth sets `failed` and drops what comes after; check it once
 * at the end.  data is NUL-terminated whenever it is not NULL. */
typedef struct Buffer {
  char *data;
  size_t len, cap;
  bool failed;
} Buffer;
void buffer_append(Buffer *b, const void *bytes, size_t n);
void buffer_printf(Buffer *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buffer_done(Buffer *b);
/* The text in an arena ("" when empty), and buffer_done; leaves arena_protect like arena_alloc, the buffer done first,
 * when memory is short or was for the buffer. */
char *arena_take_buffer(Arena *a, Buffer *b);

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof((array)[0])))

#endif
