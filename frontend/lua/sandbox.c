/* The state, its limits, and how errors leave it.  What models may call is in the sandbox_*.c beside this. */
#include "frontend/lua/sandbox.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>

enum {
  HOOK_PERIOD = 100,     /* instructions */
  CHARGE_PERIOD = 10000, /* units of work in C */
  FRESH_BYTES = 1 << 20, /* copying this much counts as a reason to look at the clock */
  MAX_CALLERS = 8,       /* lines printed */
};

/* Of this thread's own work: a model must not fail because others keep the processor busy. */
static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- limits ---- */

int sandbox_frames(lua_State *L, int level, Frame frames[FRAMES_MAX]) {
  lua_Debug ar;
  int n = 0;
  for (; n < FRAMES_MAX && lua_getstack(L, level, &ar); level++) {
    if (!lua_getinfo(L, "Sl", &ar) || ar.currentline <= 0) continue;
    frames[n++] = (Frame){ar.source[0] == '@' ? ar.source + 1 : ar.source, ar.currentline};
  }
  return n;
}

/* "FILE:LINE: " of the innermost Lua function, or "". */
static void print_place(lua_State *L, char *out, size_t cap) {
  Frame f[FRAMES_MAX];
  out[0] = 0;
  if (sandbox_frames(L, 0, f)) snprintf(out, cap, "%s:%d: ", f[0].file, f[0].line);
}

void sandbox_exhaust(lua_State *L, ErrorCode code, const char *fmt, ...) {
  Sandbox *sb = sandbox_of(L);
  if (!sb->exhausted) {
    char place[300];
    print_place(L, place, sizeof place);
    int n = snprintf(sb->reason, sizeof sb->reason, "%s", place);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(sb->reason + n, sizeof sb->reason - (size_t)n, fmt, ap);
    va_end(ap);
    sb->exhausted = code;
  }
  lua_pushstring(L, sb->reason);
  lua_error(L);
  abort();
}

static void check_limits(lua_State *L) {
  Sandbox *sb = sandbox_of(L);
  sb->unchecked = 0;
  sb->fresh_bytes = 0;
  if (sb->exhausted) sandbox_exhaust(L, sb->exhausted, "%s", sb->reason);
  if (sb->instructions > sb->limits.instructions)
    sandbox_exhaust(L, ERROR_LIMIT, "the model took more than %llu instructions; is there an endless loop?",
                    (unsigned long long)sb->limits.instructions);
  if ((double)(now_ns() - sb->start_ns) * 1e-9 > sb->limits.seconds)
    sandbox_exhaust(L, ERROR_LIMIT, "the model ran for more than %g s; is there an endless loop?",
                    sb->limits.seconds);
}

static void on_count(lua_State *L, lua_Debug *ar) {
  Sandbox *sb = sandbox_of(L);
  sb->instructions += (uint64_t)sb->period;
  bool over = sb->exhausted || sb->instructions > sb->limits.instructions;
  /* What still runs after a limit was hit (__close on the way out) gets one instruction each. */
  if (sb->period != (over ? 1 : HOOK_PERIOD)) {
    sb->period = over ? 1 : HOOK_PERIOD;
    lua_sethook(L, on_count, LUA_MASKCOUNT, sb->period);
  }
  check_limits(L);
}

void sandbox_charge(lua_State *L, uint64_t n) {
  Sandbox *sb = sandbox_of(L);
  sb->instructions += n;
  sb->unchecked += n;
  if (sb->unchecked >= CHARGE_PERIOD || sb->exhausted) check_limits(L);
}

uint64_t sandbox_budget(const Sandbox *sb) {
  return sb->instructions < sb->limits.instructions ? sb->limits.instructions - sb->instructions : 0;
}

static bool refuse(Sandbox *sb, bool by_limit) {
  sb->memory_refused = by_limit;
  if (sb->L) print_place(sb->L, sb->refused_at, sizeof sb->refused_at);
  return true;
}

/* lua_Alloc.  A refusal makes Lua collect garbage and ask once more before it gives up. */
static void *sandbox_alloc(void *ud, void *old, size_t old_bytes, size_t bytes) {
  Sandbox *sb = ud;
  if (!old) old_bytes = 0; /* then it tells the kind of object */
  if (bytes == 0) {
    mem_free(old);
    sb->bytes -= old_bytes;
    return NULL;
  }
  size_t more = bytes > old_bytes ? bytes - old_bytes : 0;
  if (more && (bytes > sb->max_block_bytes || more > sb->limits.memory_bytes - sb->bytes) && refuse(sb, true))
    return NULL;
  void *p = mem_realloc(old, bytes);
  if (!p && !more) p = old; /* Lua counts on shrinking */
  if (!p && refuse(sb, false)) return NULL;
  sb->bytes += bytes - old_bytes;
  sb->fresh_bytes += more;
  /* Long strings cost much time and few instructions: have the clock looked at with the next one. */
  if (sb->fresh_bytes >= FRESH_BYTES && sb->L && sb->period != 1) {
    sb->period = 1;
    lua_sethook(sb->L, on_count, LUA_MASKCOUNT, 1);
  }
  return p;
}

/* ---- errors ---- */

/* Lua cuts long file names in messages to "...tail". */
bool sandbox_push_whole_name(lua_State *L, const char *text, const char *file) {
  size_t len = strlen(file);
  if (len < LUA_IDSIZE - 1 || strncmp(text, "...", 3) != 0) return false;
  /* LUA_IDSIZE counts the final zero; the "@" of the chunk's name is not shown. */
  const char *cut = file + len - (LUA_IDSIZE - 1 - 3);
  if (strncmp(text + 3, cut, strlen(cut)) != 0) return false;
  lua_pushfstring(L, "%s%s", file, text + 3 + strlen(cut));
  return true;
}

/* The frames behind the one that the text begins with. */
static int first_caller(lua_State *L, const char *text, const Frame *frames, int n) {
  for (int i = 0; i < n; i++) {
    lua_pushfstring(L, "%s:%d:", frames[i].file, frames[i].line);
    bool is_it = strncmp(text, lua_tostring(L, -1), lua_rawlen(L, -1)) == 0;
    lua_pop(L, 1);
    if (is_it) return i + 1;
  }
  return 0;
}

void sandbox_name_function(lua_State *L, const char *name) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushvalue(L, -2);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
}

/* Message handler: the text, with the lines that called behind it. */
static int on_error(lua_State *L) {
  Sandbox *sb = sandbox_of(L);
  if (sb->exhausted) return 1;
  if (lua_type(L, 1) != LUA_TSTRING) {
    lua_pushfstring(L, "the model raised an error that is no text: %s", sandbox_tostring(L, 1));
    lua_replace(L, 1);
  }
  lua_settop(L, 1);
  if (sb->has_callers) return 1;
  Frame frames[FRAMES_MAX];
  int n = sandbox_frames(L, 1, frames);
  for (int i = 0; i < n; i++)
    if (sandbox_push_whole_name(L, lua_tostring(L, 1), frames[i].file)) {
      lua_replace(L, 1);
      break;
    }
  const char *text = lua_tostring(L, 1);
  int first = first_caller(L, text, frames, n);
  if (first == 0 && n > 0 && !strstr(text, ".lua:")) { /* raised by a function in C without a place of its own */
    text = lua_pushfstring(L, "%s:%d: %s", frames[0].file, frames[0].line, text);
    first = 1;
  }
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addstring(&b, text);
  for (int i = first; i < n && i < first + MAX_CALLERS; i++) {
    lua_pushfstring(L, "; called from %s:%d", frames[i].file, frames[i].line);
    luaL_addvalue(&b);
  }
  luaL_pushresult(&b);
  sb->has_callers = true;
  return 1;
}

/* The error on top of the stack, as an Error. */
static bool report(Sandbox *sb, int status, Error *err) {
  const char *text = lua_type(sb->L, -1) == LUA_TSTRING ? lua_tostring(sb->L, -1) : "an error without a text";
  if (!sb->exhausted && status == LUA_ERRMEM) {
    if (!sb->memory_refused) return error_set(err, ERROR_MEMORY, "%sout of memory", sb->refused_at);
    return error_set(err, ERROR_LIMIT,
                     "%sthe model needs more than %zu MiB of memory, or one value of more than %zu MiB",
                     sb->refused_at, sb->limits.memory_bytes >> 20, sb->max_block_bytes >> 20);
  }
  if (sb->exhausted) return error_set(err, sb->exhausted, "%s", sb->reason);
  return error_set(err, ERROR_MODEL, "%s", text);
}

bool sandbox_run(Sandbox *sb, lua_CFunction body, void *ctx, Error *err) {
  lua_State *L = sb->L;
  lua_settop(L, 0);
  sb->start_ns = now_ns();
  lua_pushcfunction(L, on_error);
  lua_pushcfunction(L, body);
  lua_pushlightuserdata(L, ctx);
  int status = lua_pcall(L, 1, 0, 1);
  bool ok = status == LUA_OK || report(sb, status, err);
  lua_settop(L, 0);
  return ok;
}

/* ---- the state ---- */

static int open_all(lua_State *L) {
  sandbox_open_base(L);
  sandbox_open_table(L);
  sandbox_open_string(L);
  sandbox_open_require(L);
  return 0;
}

static SandboxLimits limits_or_default(const SandboxLimits *given) {
  SandboxLimits l = given ? *given : (SandboxLimits){0};
  if (!l.memory_bytes) l.memory_bytes = (size_t)256 << 20;
  if (!l.instructions) l.instructions = 200000000;
  if (!(l.seconds > 0)) l.seconds = 10;
  return l;
}

Sandbox *sandbox_new(const SandboxLimits *limits, const char *models_dir, FILE *print_to, Error *err) {
  Sandbox *sb = mem_alloc(sizeof *sb);
  if (!sb) {
    error_set(err, ERROR_MEMORY, "out of memory");
    return NULL;
  }
  sb->limits = limits_or_default(limits);
  sb->max_block_bytes = sb->limits.memory_bytes / 8;
  sb->models_dir = models_dir;
  sb->print_to = print_to ? print_to : stderr;
  sb->period = HOOK_PERIOD;
  lua_State *L = lua_newstate(sandbox_alloc, sb);
  if (!L) {
    sandbox_free(sb);
    error_set(err, ERROR_MEMORY, "out of memory");
    return NULL;
  }
  sb->L = L;
  *(Sandbox **)lua_getextraspace(L) = sb;
  lua_sethook(L, on_count, LUA_MASKCOUNT, HOOK_PERIOD);
  if (sandbox_run(sb, open_all, NULL, err)) return sb;
  sandbox_free(sb);
  return NULL;
}

void sandbox_free(Sandbox *sb) {
  if (!sb) return;
  lua_State *L = sb->L;
  sb->L = NULL; /* the allocator must not touch a state that is going away */
  if (L) lua_close(L);
  for (int i = 0; i < sb->n_read; i++) {
    mem_free((char *)sb->read[i].name);
    mem_free((char *)sb->read[i].text);
  }
  mem_free(sb->read);
  mem_free(sb->model_dir);
  mem_free(sb);
}
