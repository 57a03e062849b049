/* See variants.h.  The file's result is written down as texts while Lua runs, and read back when Lua is gone: nothing of one
 * lives in the other's memory. */
#include "frontend/lua/variants.h"

#include <math.h>
#include <string.h>

#include "frontend/lua/sandbox.h"

typedef struct Reading {
  const char *path;
  Buffer text;   /* of every variant: its name, names and values of its options, and an empty text; each ends in a NUL */
  int n;
} Reading;

static void put(Reading *r, const char *text) { buffer_append(&r->text, text, strlen(text) + 1); }

/* The text at the top of the stack, which may be no longer than C has it. */
static const char *text_at_top(lua_State *L, const Reading *r, const char *what) {
  size_t n;
  const char *text = lua_tolstring(L, -1, &n);
  if (strlen(text) != n) luaL_error(L, "%s: variant %d: %s holds a zero", r->path, r->n + 1, what);
  return text;
}

/* The option's value at the top of the stack, as -D takes it. */
static void put_value(lua_State *L, Reading *r, const char *name) {
  Value v = {0};
  if (lua_type(L, -1) == LUA_TBOOLEAN) v = (Value){.kind = VALUE_BOOL, .boolean = lua_toboolean(L, -1)};
  else if (lua_isinteger(L, -1)) v = (Value){.kind = VALUE_INT, .integer = lua_tointeger(L, -1)};
  else if (lua_type(L, -1) == LUA_TNUMBER) v = (Value){.kind = VALUE_REAL, .real = lua_tonumber(L, -1)};
  else if (lua_type(L, -1) == LUA_TSTRING) v = (Value){.kind = VALUE_TEXT, .text = text_at_top(L, r, name)};
  else
    luaL_error(L, "%s: variant %d: \"%s\" is %s, not a value of an option", r->path, r->n + 1, name,
               sandbox_tostring(L, -1));
  value_print(&v, &r->text);
  put(r, "");
}

/* The table at the top of the stack. */
static void put_variant(lua_State *L, Reading *r) {
  int table = lua_gettop(L);
  if (!lua_istable(L, table))
    luaL_error(L, "%s: variant %d is %s, not a table of options", r->path, r->n + 1, sandbox_tostring(L, table));
  int type = lua_rawgeti(L, table, 1);
  if (type != LUA_TNIL && type != LUA_TSTRING)
    luaL_error(L, "%s: variant %d: its name is %s, not a text", r->path, r->n + 1, sandbox_tostring(L, -1));
  put(r, type == LUA_TNIL ? "" : text_at_top(L, r, "its name"));
  lua_pop(L, 1);
  lua_Integer n = sandbox_sorted_keys(L, table);
  int keys = lua_gettop(L);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, keys, i);
    if (lua_isinteger(L, -1) && lua_tointeger(L, -1) == 1) {
      lua_pop(L, 1);
      continue;
    }
    if (lua_type(L, -1) != LUA_TSTRING || !lua_rawlen(L, -1))
      luaL_error(L, "%s: variant %d: %s names no option", r->path, r->n + 1, sandbox_tostring(L, -1));
    const char *name = text_at_top(L, r, "the name of an option");
    put(r, name);
    lua_pushvalue(L, -1);
    lua_rawget(L, table);
    put_value(L, r, name);
    lua_pop(L, 2);
  }
  put(r, "");
  r->n++;
  lua_settop(L, table);
}

static int read_body(lua_State *L) {
  Reading *r = lua_touserdata(L, 1);
  const char *slash = strrchr(r->path, '/');
  sandbox_load_file(L, r->path, slash ? slash + 1 : r->path);
  lua_call(L, 0, 1);
  if (!lua_istable(L, -1))
    luaL_error(L, "%s: must return a list of tables of options, not %s", r->path, sandbox_tostring(L, -1));
  lua_Integer n = luaL_len(L, -1);
  if (n < 1 || n > VARIANTS_MAX)
    luaL_error(L, "%s: returns %I variants; 1 to %d are possible", r->path, (LUAI_UACINT)n, VARIANTS_MAX);
  if (sandbox_sorted_keys(L, -1) != n) luaL_error(L, "%s: must return a list; other fields have no meaning", r->path);
  lua_pop(L, 1);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, -1, i);
    put_variant(L, r);
    lua_pop(L, 1);
    sandbox_charge(L, 100);
  }
  return 0;
}

typedef struct Keeping {
  Arena *a;
  const Reading *r;
  Variant *variant;
} Keeping;

static const char *next_text(const char **at) {
  const char *text = *at;
  *at += strlen(text) + 1;
  return text;
}

static void keep(void *ctx) {
  Keeping *k = ctx;
  const char *at = arena_copy(k->a, k->r->text.data, k->r->text.len);
  k->variant = ARENA_ARRAY(k->a, Variant, k->r->n);
  for (int i = 0; i < k->r->n; i++) {
    Variant *v = &k->variant[i];
    int cap = 0;
    v->name = next_text(&at);
    if (!*v->name) v->name = NULL;
    while (*at) {
      Define d = {.name = next_text(&at)};
      d.value = next_text(&at);
      ARENA_PUSH(k->a, v->define, v->n_define, cap, d);
    }
    at++;
  }
}

bool variants_read(Arena *a, const char *path, Variant **out, int *out_n, Error *err) {
  Reading r = {.path = path};
  Sandbox *sb = sandbox_new(&(SandboxLimits){0}, NULL, stderr, err);
  bool ok = sb && sandbox_run(sb, read_body, &r, err);
  Keeping k = {a, &r, NULL};
  if (ok && r.text.failed) ok = error_set(err, ERROR_MEMORY, "%s: out of memory", path);
  ok = ok && arena_protect(a, keep, &k, err);
  sandbox_free(sb);
  buffer_done(&r.text);
  *out = k.variant;
  *out_n = ok ? r.n : 0;
  return ok;
}
