/* Lua patterns (Lua 5.4 manual, section 6.4.1) with a budget of steps.
 *
 * Backtracking is exponential in the worst case and Lua's own matcher cannot be stopped, so models get this one.  A
 * pattern is first compiled to a row of items; matching recurses once an item, so its depth is bounded by the length
 * of the pattern.  Nothing here knows of Lua states. */
#ifndef NUWA_PATTERN_H
#define NUWA_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PATTERN_MAX_CAPTURES = 32, PATTERN_MAX_BYTES = 512 };

typedef struct Pattern Pattern;

typedef struct Capture {
  size_t start, len;
  bool is_position; /* "()": the value is the place, start + 1 */
} Capture;

typedef struct Match {
  size_t start, end; /* [start, end) of the subject */
  int n;
  Capture capture[PATTERN_MAX_CAPTURES];
} Match;

typedef enum MatchResult { MATCH_NO, MATCH_YES, MATCH_OUT_OF_STEPS } MatchResult;

/* Bytes a compiled pattern of a text of len bytes needs. */
size_t pattern_bytes(size_t len);
/* Compiles into p (pattern_bytes of memory).  NULL, or what is wrong with the text. */
const char *pattern_compile(Pattern *p, const char *text, size_t len);
/* Whether the text began with ^. */
bool pattern_is_anchored(const Pattern *p);
/* Matches at exactly `at`.  Each step taken is subtracted from *steps. */
MatchResult pattern_match(const Pattern *p, const char *subject, size_t len, size_t at, uint64_t *steps, Match *out);

#endif
