/* Words and punctuation of PTX, with lines; and the names in scope.  Used by the parser only. */
#ifndef EMU_PTX_LEX_H
#define EMU_PTX_LEX_H

#include <setjmp.h>

#include "tests/gpu/ptx.h"

typedef struct Token {
  const char *s;
  int n, line;
  char kind;                    /* 'w' word, '"' string, 0 end, else the character itself */
} Token;

typedef enum SymbolKind { SYMBOL_REGISTER, SYMBOL_PARAM, SYMBOL_FRAME_PARAM, SYMBOL_LOCAL, SYMBOL_SHARED,
                          SYMBOL_DYNAMIC_SHARED, SYMBOL_VARIABLE, SYMBOL_FUNCTION } SymbolKind;
typedef struct Symbol {
  const char *name;             /* not terminated unless owned */
  int n;
  bool owned;
  SymbolKind kind;
  int64_t value;                /* row, offset, index of a variable or function */
  int bytes;
  int next;                     /* chain of its bucket */
  unsigned bucket;
} Symbol;

/* A label, known once it is met; a .branchtargets list has `targets` > 0 and starts at f->branch_targets[instr]. */
typedef struct Label {
  const char *name;
  int n, instr, targets;
} Label;
/* A place that waits for a label: instruction `instr`, or entry `instr` of f->branch_targets when `in_table`. */
typedef struct Fixup {
  const char *name;
  int n, instr, line;
  bool in_table;
} Fixup;

enum { BUCKETS = 1 << 14 };
typedef struct Parser {
  Module *m;
  Function *f;                  /* being parsed, or NULL at module level */
  const char *p;
  int line;
  Token t;                      /* the current token */
  Symbol *symbol;
  int symbols, symbol_cap;
  int bucket[BUCKETS];          /* newest symbol of the bucket + 1 */
  Label *label;                 /* of the function being parsed, as are the fixups */
  int labels, label_cap;
  Fixup *fixup;
  int fixups, fixup_cap;
  PlaceFn *place;
  void *place_ctx;
  jmp_buf escape;
  char *error;
  size_t error_bytes;
  void *scratch;                /* freed with the parser, whatever happens */
} Parser;

__attribute__((noreturn, format(printf, 3, 4))) void parse_fail(Parser *p, int line, const char *fmt, ...);

void lex_advance(Parser *p);                     /* p->t becomes the next token */
void lex_skip_line(Parser *p);                   /* ... the first one of the next line */
bool token_is(const Token *t, const char *text);
bool lex_accept(Parser *p, const char *text);    /* advances over it if it is there */
void lex_expect(Parser *p, const char *text);
int64_t lex_integer(Parser *p, const char *what);   /* with an optional sign */
bool token_value(const Token *t, bool negative, uint64_t *out_bits);   /* an immediate: integer, 0f, 0d or decimal */

/* Names: the newest of a name wins; scope_close forgets those above `mark` (= p->symbols when it was opened). */
Symbol *symbol_add(Parser *p, const char *name, int n, SymbolKind kind, int64_t value);
Symbol *symbol_find(Parser *p, const char *name, int n);
void scope_close(Parser *p, int mark);

/* ptx_decode.c: the instruction at p->t, up to and with its ';', appended to p->f. */
void decode_instruction(Parser *p);
PtxType type_from_text(const char *s, int n);    /* T_NONE if it is none */
int row_of_constant(Parser *p, uint64_t value);
int row_of_name(Parser *p, const Token *t);      /* of a register, special register, variable or immediate */
int row_add(Function *f, RowKind kind, int axis, uint64_t value);
int frame_alloc(int *total, int bytes, int align);   /* offset of a new piece of a frame */

/* ptx_link.c: adds the kernel of an entry, with all it calls, to p->m. */
void link_kernel(Parser *p, Function *entry);
void function_free(Function *f);

#endif
