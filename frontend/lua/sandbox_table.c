/* The table functions of models.  They count the work they do, and sorting is stable and without random pivots. */
#include "frontend/lua/sandbox.h"

/* ---- sorting ---- */

typedef struct Sort {
  bool (*less)(lua_State *L, int ctx);
  int ctx;
} Sort;

/* Merges from[lo, mid) and from[mid, hi) into to[lo, hi); 1-based tables at the given indices. */
static void merge_runs(lua_State *L, const Sort *s, int from, int to, lua_Integer lo, lua_Integer mid,
                       lua_Integer hi) {
  lua_Integer i = lo, j = mid;
  for (lua_Integer k = lo; k < hi; k++) {
    bool right = i >= mid;
    if (!right && j < hi) {
      lua_rawgeti(L, from, j);
      lua_rawgeti(L, from, i);
      right = s->less(L, s->ctx);
    }
    lua_rawgeti(L, from, right ? j++ : i++);
    lua_rawseti(L, to, k);
  }
  sandbox_charge(L, 3 * (uint64_t)(hi - lo));
}

void sandbox_sort(lua_State *L, int list, lua_Integer n, bool (*less)(lua_State *L, int ctx), int ctx) {
  luaL_checkstack(L, 8, NULL);
  if (n < 2) return;
  const Sort s = {less, ctx};
  lua_newtable(L);
  int from = list, to = lua_gettop(L), spare = to;
  for (lua_Integer width = 1; width < n; width *= 2) {
    for (lua_Integer lo = 1; lo <= n; lo += 2 * width) {
      lua_Integer mid = lo + width < n + 1 ? lo + width : n + 1, hi = mid + width < n + 1 ? mid + width : n + 1;
      merge_runs(L, &s, from, to, lo, mid, hi);
    }
    int other = from;
    from = to;
    to = other;
  }
  for (lua_Integer i = 1; from != list && i <= n; i++) {
    lua_rawgeti(L, from, i);
    lua_rawseti(L, list, i);
  }
  lua_remove(L, spare);
}

static bool less_default(lua_State *L, int ctx) {
  bool less = lua_compare(L, -2, -1, LUA_OPLT);
  lua_pop(L, 2);
  return less;
}

static bool less_called(lua_State *L, int ctx) {
  lua_pushvalue(L, ctx);
  lua_insert(L, -3);
  lua_call(L, 2, 1);
  bool less = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return less;
}

static lua_Integer list_length(lua_State *L, int i) {
  luaL_checktype(L, i, LUA_TTABLE);
  lua_Integer n = luaL_len(L, i);
  /* So that places can be added up. */
  if (n < 0 || n > (lua_Integer)1 << 53) luaL_error(L, "the length of a list is out of range");
  return n;
}

static int table_sort(lua_State *L) {
  lua_Integer n = list_length(L, 1);
  lua_settop(L, 2);
  if (!lua_isnil(L, 2)) luaL_checktype(L, 2, LUA_TFUNCTION);
  sandbox_sort(L, 1, n, lua_isnil(L, 2) ? less_default : less_called, 2);
  return 0;
}

/* ---- the rest ---- */

static int table_concat(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  size_t sep_len;
  const char *sep = luaL_optlstring(L, 2, "", &sep_len);
  lua_Integer i = luaL_optinteger(L, 3, 1), last = lua_isnoneornil(L, 4) ? luaL_len(L, 1) : luaL_checkinteger(L, 4);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (; i <= last; i++) {
    lua_geti(L, 1, i);
    if (!lua_isstring(L, -1))
      return luaL_error(L, "table.concat: element %d is a %s, not a string or number", (int)i, luaL_typename(L, -1));
    sandbox_charge(L, 2 + (lua_rawlen(L, -1) + sep_len) / 16);
    luaL_addvalue(&b);
    if (i == last) break;
    luaL_addlstring(&b, sep, sep_len);
  }
  luaL_pushresult(&b);
  return 1;
}

static int table_insert(lua_State *L) {
  lua_Integer end = list_length(L, 1) + 1, at = end;
  int n = lua_gettop(L);
  if (n != 2 && n != 3) return luaL_error(L, "table.insert: takes a list, a place if any, and a value");
  if (n == 3) {
    at = luaL_checkinteger(L, 2);
    luaL_argcheck(L, at >= 1 && at <= end, 2, "place outside of the list");
  }
  for (lua_Integer i = end; i > at; i--) {
    lua_geti(L, 1, i - 1);
    lua_seti(L, 1, i);
    sandbox_charge(L, 1);
  }
  lua_seti(L, 1, at);
  return 0;
}

static int table_remove(lua_State *L) {
  lua_Integer n = list_length(L, 1), at = luaL_optinteger(L, 2, n);
  if (lua_gettop(L) > 1)
    luaL_argcheck(L, (at >= 1 && at <= n + 1) || (n == 0 && at == 0), 2, "place outside of the list");
  lua_geti(L, 1, at);
  for (; at < n; at++) {
    lua_geti(L, 1, at + 1);
    lua_seti(L, 1, at);
    sandbox_charge(L, 1);
  }
  lua_pushnil(L);
  lua_seti(L, 1, at);
  return 1;
}

static int table_move(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_Integer from = luaL_checkinteger(L, 2), last = luaL_checkinteger(L, 3), to = luaL_checkinteger(L, 4);
  int target = lua_isnoneornil(L, 5) ? 1 : 5;
  luaL_checktype(L, target, LUA_TTABLE);
  if (last >= from) {
    luaL_argcheck(L, from > 0 || last < LUA_MAXINTEGER + from, 3, "too many elements to move");
    lua_Integer n = last - from + 1;
    luaL_argcheck(L, to <= LUA_MAXINTEGER - n + 1, 4, "destination wraps around");
    bool upwards = to > last || to <= from || target != 1;
    for (lua_Integer k = 0; k < n; k++) {
      lua_Integer i = upwards ? k : n - 1 - k;
      lua_geti(L, 1, from + i);
      lua_seti(L, target, to + i);
      sandbox_charge(L, 1);
    }
  }
  lua_pushvalue(L, target);
  return 1;
}

static int table_pack(lua_State *L) {
  int n = lua_gettop(L);
  lua_createtable(L, n, 1);
  lua_insert(L, 1);
  for (int i = n; i >= 1; i--) lua_seti(L, 1, i);
  lua_pushinteger(L, n);
  lua_setfield(L, 1, "n");
  return 1;
}

static int table_unpack(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_Integer i = luaL_optinteger(L, 2, 1), last = lua_isnoneornil(L, 3) ? luaL_len(L, 1) : luaL_checkinteger(L, 3);
  if (i > last) return 0;
  uint64_t n = (uint64_t)last - (uint64_t)i; /* one less than the count: that could overflow */
  if (n >= 100000 || !lua_checkstack(L, (int)n + 1)) return luaL_error(L, "table.unpack: too many results");
  sandbox_charge(L, n);
  for (; i < last; i++) lua_geti(L, 1, i);
  lua_geti(L, 1, last);
  return (int)n + 1;
}

void sandbox_open_table(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"concat", table_concat}, {"insert", table_insert}, {"move", table_move},     {"pack", table_pack},
      {"remove", table_remove}, {"sort", table_sort},     {"unpack", table_unpack}, {NULL, NULL}};
  luaL_newlib(L, functions);
  lua_setglobal(L, "table");
}
