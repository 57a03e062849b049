/* Where model files run: a Lua 5.4 state that can compute but neither reach outside nor go on for ever.
 *
 * Limits on memory, instructions and time are final: once one is hit, every pcall raises the same error again, so
 * nothing in a model can swallow it.  Left out: io, os, debug, coroutines, load and its kin, collectgarbage, utf8,
 * math.random, string.dump and packing.  Rewritten with a budget, because no hook fires inside C: patterns,
 * string.rep, the table functions.  Refused: __gc (hooks do not fire in finalisers) and __mode (collection would
 * show). Deterministic: pairs and next go by sorted keys, tostring shows no addresses. */
#ifndef NUWA_SANDBOX_H
#define NUWA_SANDBOX_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "frontend/lua/source.h"
#include "runtime/base/error.h"
#include "runtime/base/memory.h"

/* 0 means the default: 256 MiB, 200 million instructions, 10 s of the processor's time. */
typedef struct SandboxLimits {
  size_t memory_bytes;
  uint64_t instructions;
  double seconds;
} SandboxLimits;

typedef struct Sandbox {
  lua_State *L;
  SandboxLimits limits;
  size_t bytes, max_block_bytes; /* in use; the largest single value */
  size_t fresh_bytes;            /* allocated since the last check */
  uint64_t instructions, unchecked;
  int period; /* instructions between two calls of the hook */
  int64_t start_ns;
  bool memory_refused;  /* by our limit; else by the system */
  char refused_at[300]; /* "FILE:LINE: " of the last refusal */
  ErrorCode exhausted;  /* ERROR_NONE, or why nothing runs any more */
  char reason[600];
  bool has_callers;       /* the error on its way already names the lines that called */
  const char *models_dir; /* shipped models; NULL: none.  Not owned */
  char *model_dir;        /* folder of the model file, "" for the current one.  Owned */
  const SourceMap *source; /* files come from here alone; NULL: from the folders.  Not owned */
  SourceFile *read;       /* [n_read] files read so far, each once; names and texts owned */
  int n_read;
  FILE *print_to;         /* where `print` writes */
  const void *context;    /* of the binding: what is under way; where an error is caught, what was begun inside is over */
  /* Of the binding; may be NULL: what is done so far of that, and undoing what was done since, where an error is caught. */
  void *(*mark)(struct Sandbox *sb);
  void (*undo)(struct Sandbox *sb, void *mark);
  void *user;             /* of the binding */
} Sandbox;

/* NULL when memory is short. models_dir must outlive the result. */
Sandbox *sandbox_new(const SandboxLimits *limits, const char *models_dir, FILE *print_to, Error *err);
/* NULL is fine. */
void sandbox_free(Sandbox *sb);

static inline Sandbox *sandbox_of(lua_State *L) { return *(Sandbox **)lua_getextraspace(L); }

/* Calls body(L) with ctx as light userdata at index 1; Lua errors become *err (ERROR_MODEL with file and line, then
 * "; called from FILE:LINE" for each caller; ERROR_LIMIT; ERROR_MEMORY). */
bool sandbox_run(Sandbox *sb, lua_CFunction body, void *ctx, Error *err);

/* Reads a model file (text only, at most 4 MiB, a plain file), or its text in the source, and pushes its chunk; raises
 * an error otherwise.  path names it in messages, name in sources.  For use inside sandbox_run. */
void sandbox_load_file(lua_State *L, const char *path, const char *name);

/* Has the functions of the table on top of the stack called through C: Lua forgets the caller's line in a tail call between
 * two Lua functions, and errors inside a shared file must name the line that used it. */
void sandbox_wrap_functions(lua_State *L);

/* Counts n units of work done in C, a unit being about an instruction; raises the error when a limit is reached. */
void sandbox_charge(lua_State *L, uint64_t n);
/* What is left of the instructions. */
uint64_t sandbox_budget(const Sandbox *sb);
/* Ends the run for good: this error cannot be caught. */
NO_RETURN void sandbox_exhaust(lua_State *L, ErrorCode code, const char *fmt, ...) PRINTF_LIKE(3, 4);

typedef struct Frame {
  const char *file; /* valid while the function lives */
  int line;
} Frame;
enum { FRAMES_MAX = 12 };
/* The Lua functions on the stack, innermost first, from stack level `level` on.  Allocates nothing. */
int sandbox_frames(lua_State *L, int level, Frame frames[FRAMES_MAX]);

/* Pushes the text with its beginning "...TAIL" replaced by file, if it is the cut form of file. */
bool sandbox_push_whole_name(lua_State *L, const char *text, const char *file);

/* tostring without addresses: pushes the text of the value at index i. */
const char *sandbox_tostring(lua_State *L, int i);

/* Lets errors call the function on top of the stack, which models reach only through a wrapper, by this name. */
void sandbox_name_function(lua_State *L, const char *name);

/* Sorts the first n elements of the list at index `list` (merge sort, stable).  less pops the two topmost values (x
 * below y) and says whether x < y; `ctx` is a stack index for its use. */
void sandbox_sort(lua_State *L, int list, lua_Integer n, bool (*less)(lua_State *L, int ctx), int ctx);
/* Pushes the list of the keys of the table at index i, sorted (numbers, then strings, then booleans); raises an error
 * for others, which have no order.  Returns their number. */
lua_Integer sandbox_sorted_keys(lua_State *L, int i);

/* The parts: each fills the globals or a table of them. */
void sandbox_open_base(lua_State *L);    /* sandbox_base.c */
void sandbox_open_require(lua_State *L); /* sandbox_require.c */
void sandbox_open_table(lua_State *L);   /* sandbox_table.c */
void sandbox_open_string(lua_State *L);  /* sandbox_string.c */

#endif
