/* The basic functions of models: those of Lua that are harmless, and rewritten ones where Lua's let a model swallow a
 * limit, see addresses, or depend on the seed of the hash tables. */
#include "frontend/lua/sandbox.h"

#include <string.h>

/* ---- errors ---- */

/* lua_pcall, but limits cannot be caught. */
static int protected_call(lua_State *L, int n_args, int n_results) {
  Sandbox *sb = sandbox_of(L);
  const void *context = sb->context;
  void *mark = sb->mark ? sb->mark(sb) : NULL;
  int status = lua_pcall(L, n_args, n_results, 0);
  if (status == LUA_OK) return status;
  sb->context = context;
  if (sb->undo) sb->undo(sb, mark);
  sb->has_callers = false;
  if (sb->exhausted) lua_error(L);
  if (status == LUA_ERRMEM)
    sandbox_exhaust(L, sb->memory_refused ? ERROR_LIMIT : ERROR_MEMORY, "the model ran out of memory (limit %zu MiB)",
                    sb->limits.memory_bytes >> 20);
  return status;
}

static int base_pcall(lua_State *L) {
  luaL_checkany(L, 1);
  int status = protected_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  lua_pushboolean(L, status == LUA_OK);
  lua_insert(L, 1);
  return lua_gettop(L);
}

/* The handler runs after the stack was unwound: without `debug` it could not look at it anyway.  Its own errors are
 * caught too, and stand for what it would have made of the first. */
static int base_xpcall(lua_State *L) {
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_pushvalue(L, 2);
  lua_rotate(L, 1, 1);
  lua_remove(L, 3); /* handler, f, arguments... */
  if (protected_call(L, lua_gettop(L) - 2, LUA_MULTRET) != LUA_OK) {
    protected_call(L, 1, 1);
    lua_pushboolean(L, false);
    lua_insert(L, -2);
    return 2;
  }
  lua_pushboolean(L, true);
  lua_replace(L, 1);
  return lua_gettop(L);
}

/* error(message, level): levels count Lua functions only, so that C wrappers between do not matter. */
static int base_error(lua_State *L) {
  lua_Integer level = luaL_optinteger(L, 2, 1);
  lua_settop(L, 1);
  Frame frames[FRAMES_MAX];
  int n = sandbox_frames(L, 1, frames);
  if (lua_type(L, 1) == LUA_TSTRING && level >= 1 && level <= n) {
    lua_pushfstring(L, "%s:%d: ", frames[level - 1].file, frames[level - 1].line);
    lua_insert(L, 1);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

/* ---- text ---- */

const char *sandbox_tostring(lua_State *L, int i) {
  i = lua_absindex(L, i);
  switch (lua_type(L, i)) {
  case LUA_TNIL:
  case LUA_TBOOLEAN:
  case LUA_TNUMBER:
  case LUA_TSTRING:
    return luaL_tolstring(L, i, NULL);
  default:
    break;
  }
  if (luaL_getmetafield(L, i, "__tostring") != LUA_TNIL) {
    lua_pop(L, 1);
    return luaL_tolstring(L, i, NULL);
  }
  int kind = luaL_getmetafield(L, i, "__name");
  if (kind == LUA_TSTRING) return lua_tostring(L, -1);
  if (kind != LUA_TNIL) lua_pop(L, 1);
  return lua_pushstring(L, luaL_typename(L, i));
}

static int base_tostring(lua_State *L) {
  luaL_checkany(L, 1);
  sandbox_tostring(L, 1);
  return 1;
}

static int base_print(lua_State *L) {
  Sandbox *sb = sandbox_of(L);
  int n = lua_gettop(L);
  for (int i = 1; i <= n; i++) {
    const char *s = sandbox_tostring(L, i);
    sandbox_charge(L, 10 + lua_rawlen(L, -1) / 16);
    fprintf(sb->print_to, "%s%s", i > 1 ? "\t" : "", s);
    lua_pop(L, 1);
  }
  fputc('\n', sb->print_to);
  return 0;
}

static int base_tonumber(lua_State *L) {
  if (lua_type(L, 1) == LUA_TSTRING) sandbox_charge(L, lua_rawlen(L, 1));
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, 1);
  return 1;
}

/* ---- traversal by sorted keys ---- */

static int key_class(lua_State *L, int i) {
  switch (lua_type(L, i)) {
  case LUA_TNUMBER:
    return 0;
  case LUA_TSTRING:
    return 1;
  case LUA_TBOOLEAN:
    return 2;
  default:
    return luaL_error(L, "pairs: keys of type %s have no order", luaL_typename(L, i));
  }
}

static bool key_less(lua_State *L, int ctx) {
  int cx = key_class(L, -2), cy = key_class(L, -1);
  bool less;
  if (cx != cy) {
    less = cx < cy;
  } else if (cx == 0) {
    less = lua_compare(L, -2, -1, LUA_OPLT);
  } else if (cx == 2) {
    less = !lua_toboolean(L, -2) && lua_toboolean(L, -1);
  } else {
    size_t nx, ny;
    const char *x = lua_tolstring(L, -2, &nx), *y = lua_tolstring(L, -1, &ny);
    int order = memcmp(x, y, nx < ny ? nx : ny);
    less = order < 0 || (order == 0 && nx < ny);
  }
  lua_pop(L, 2);
  return less;
}

lua_Integer sandbox_sorted_keys(lua_State *L, int i) {
  i = lua_absindex(L, i);
  lua_Integer n = 0;
  lua_newtable(L);
  for (lua_pushnil(L); lua_next(L, i);) {
    lua_pop(L, 1);
    key_class(L, -1);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, ++n);
    sandbox_charge(L, 1);
  }
  sandbox_sort(L, lua_gettop(L), n, key_less, 0);
  return n;
}

/* Upvalues: table, its keys when the traversal began, place.  Entries that became nil meanwhile are passed over. */
static int pairs_step(lua_State *L) {
  lua_Integer i = lua_tointeger(L, lua_upvalueindex(3));
  for (;;) {
    i++;
    if (lua_rawgeti(L, lua_upvalueindex(2), i) == LUA_TNIL) return 1;
    lua_pushvalue(L, -1);
    lua_rawget(L, lua_upvalueindex(1));
    if (!lua_isnil(L, -1)) break;
    lua_pop(L, 2);
    sandbox_charge(L, 1);
  }
  lua_pushinteger(L, i);
  lua_replace(L, lua_upvalueindex(3));
  return 2;
}

static int base_pairs(lua_State *L) {
  luaL_checkany(L, 1);
  if (luaL_getmetafield(L, 1, "__pairs") != LUA_TNIL) {
    lua_pushvalue(L, 1);
    lua_call(L, 1, 3);
    return 3;
  }
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_pushvalue(L, 1);
  sandbox_sorted_keys(L, 1);
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, pairs_step, 3);
  lua_pushvalue(L, 1);
  return 2;
}

/* next(t, key): the smallest key above `key` in the order of pairs. */
static int base_next(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 2);
  lua_pushnil(L); /* 3: the best so far */
  for (lua_pushnil(L); lua_next(L, 1);) {
    lua_pop(L, 1);
    sandbox_charge(L, 2);
    key_class(L, -1);
    bool above = lua_isnil(L, 2);
    if (!above) {
      lua_pushvalue(L, 2);
      lua_pushvalue(L, -2);
      above = key_less(L, 0);
    }
    if (above && !lua_isnil(L, 3)) {
      lua_pushvalue(L, -1);
      lua_pushvalue(L, 3);
      above = key_less(L, 0);
    }
    if (above) lua_copy(L, -1, 3);
  }
  if (lua_isnil(L, 3)) return 1;
  lua_pushvalue(L, 3);
  lua_rawget(L, 1);
  return 2;
}

/* ---- metatables ---- */

static const char seals_key[] = "nuwa.seals"; /* registry: metatable -> its sealed copy */

static void check_metatable(lua_State *L, int i) {
  static const char *const refused[] = {"__gc", "__mode"};
  for (int k = 0; k < COUNT_OF(refused); k++) {
    lua_pushstring(L, refused[k]);
    if (lua_rawget(L, i) != LUA_TNIL) luaL_error(L, "models cannot use the metamethod %s", refused[k]);
    lua_pop(L, 1);
  }
  lua_pushliteral(L, "__call");
  int kind = lua_rawget(L, i);
  /* Lua follows a __call that is a table in a loop without hooks, and one that leads to itself for minutes. */
  if (kind != LUA_TNIL && kind != LUA_TFUNCTION) luaL_error(L, "the metamethod __call must be a function");
  lua_pop(L, 1);
}

/* Makes the table at index `to` hold what the one at `from` holds. */
static void copy_fields(lua_State *L, int from, int to) {
  for (lua_pushnil(L); lua_next(L, to);) {
    lua_pop(L, 1);
    lua_pushvalue(L, -1);
    lua_pushnil(L);
    lua_rawset(L, to);
  }
  for (lua_pushnil(L); lua_next(L, from);) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, to);
    sandbox_charge(L, 2);
  }
}

/* Pushes the sealed copy of the metatable at index i: what tables really get, so that nothing that was checked can be
 * changed afterwards.  Its __metatable shows the original to getmetatable. */
static void push_sealed(lua_State *L, int i) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, seals_key);
  lua_pushvalue(L, i);
  if (lua_rawget(L, -2) == LUA_TNIL) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, i);
    lua_pushvalue(L, -2);
    lua_rawset(L, -4);
  }
  lua_remove(L, -2);
  int sealed = lua_gettop(L);
  copy_fields(L, i, sealed);
  lua_pushliteral(L, "__metatable");
  if (lua_rawget(L, sealed) == LUA_TNIL) {
    lua_pushvalue(L, i);
    lua_setfield(L, sealed, "__metatable");
  }
  lua_pop(L, 1);
}

/* Whether the table at index 1 has a metatable that a model protected by a __metatable of its own. */
static bool is_protected(lua_State *L) {
  if (!lua_getmetatable(L, 1)) return false;
  luaL_getsubtable(L, LUA_REGISTRYINDEX, seals_key);
  lua_pushliteral(L, "__metatable");
  lua_rawget(L, -3);
  lua_rawget(L, -2);
  bool ours = lua_rawequal(L, -1, -3);
  lua_pop(L, 3);
  return !ours;
}

/* Metamethods count as they are at the time of the call. */
static int base_setmetatable(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
  lua_settop(L, 2);
  if (is_protected(L)) return luaL_error(L, "cannot change a protected metatable");
  if (lua_istable(L, 2)) {
    check_metatable(L, 2);
    push_sealed(L, 2);
  }
  lua_setmetatable(L, 1);
  lua_settop(L, 1);
  return 1;
}

/* ---- opening ---- */

static void remove_fields(lua_State *L, const char *const *names) {
  for (; *names; names++) {
    lua_pushnil(L);
    lua_setfield(L, -2, *names);
  }
}

void sandbox_open_base(lua_State *L) {
  static const luaL_Reg replaced[] = {
      {"pcall", base_pcall}, {"xpcall", base_xpcall}, {"error", base_error}, {"tostring", base_tostring},
      {"print", base_print}, {"pairs", base_pairs},   {"next", base_next},   {"setmetatable", base_setmetatable},
      {NULL, NULL}};
  static const char *const dropped[] = {"dofile", "load", "loadfile", "loadstring", "collectgarbage", "warn", NULL};
  static const char *const dropped_math[] = {"random", "randomseed", NULL};
  luaL_requiref(L, LUA_GNAME, luaopen_base, 1);
  remove_fields(L, dropped);
  luaL_setfuncs(L, replaced, 0);
  lua_getfield(L, -1, "tonumber");
  sandbox_name_function(L, "tonumber");
  lua_pushcclosure(L, base_tonumber, 1);
  lua_setfield(L, -2, "tonumber");
  lua_pop(L, 1);
  luaL_requiref(L, LUA_MATHLIBNAME, luaopen_math, 1);
  remove_fields(L, dropped_math);
  lua_pop(L, 1);
}
