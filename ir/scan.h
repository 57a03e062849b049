/* Reading IR text piece by piece: names, numbers, sizes, types, attributes.  Every function skips blanks and `#`
 * comments first, and returns false after a diagnostic "NAME:LINE: what was expected and what stands there". */
#ifndef NUWA_IR_SCAN_H
#define NUWA_IR_SCAN_H

#include "ir/text.h"

typedef struct Scan {
  Graph *g;
  const char *name;   /* of the text, for diagnostics */
  const char *p;      /* the next character */
  int line;
  const Loc *loc;     /* of the last scan_loc */
} Scan;

const Loc *scan_loc(Scan *s);                       /* the current line, in the graph's arena */
bool scan_fail(Scan *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool scan_at_end(Scan *s);
bool scan_accept(Scan *s, const char *mark);        /* false, silently, when something else stands there */
bool scan_expect(Scan *s, const char *mark);
bool scan_name(Scan *s, const char **out);          /* bare, a number, or quoted */
bool scan_type(Scan *s, Type *out);
/* "{a=1, b=[1,2]}" or nothing; what is not mentioned is zero.  rank: entries of per-axis lists. */
bool scan_attrs(Scan *s, Op op, int rank, Attrs *out);

#endif
