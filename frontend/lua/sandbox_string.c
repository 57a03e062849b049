/* The string functions of models: Lua's own where they do work in proportion to their result, rewritten ones where
 * they can run on for ever (patterns, rep) or show addresses (format). */
#include "frontend/lua/pattern.h"
#include "frontend/lua/sandbox.h"

#include <string.h>

static Pattern *check_pattern(lua_State *L, int i) {
  size_t len;
  const char *text = luaL_checklstring(L, i, &len);
  if (len > PATTERN_MAX_BYTES) luaL_error(L, "pattern too long (%d bytes, at most %d)", (int)len, PATTERN_MAX_BYTES);
  Pattern *p = lua_newuserdatauv(L, pattern_bytes(len), 0);
  const char *wrong = pattern_compile(p, text, len);
  if (wrong) luaL_error(L, "%s in '%s'", wrong, text);
  sandbox_charge(L, 50 + 10 * len);
  return p;
}

/* First match at or after `at`; charges the sandbox for the steps. */
static bool find_match(lua_State *L, const Pattern *p, const char *s, size_t len, size_t at, Match *out) {
  uint64_t budget = sandbox_budget(sandbox_of(L)), steps = budget;
  MatchResult r = MATCH_NO;
  for (; at <= len && r == MATCH_NO; at++) {
    r = pattern_match(p, s, len, at, &steps, out);
    if (pattern_is_anchored(p)) break;
    /* Let the clock be looked at now and then. */
    if (budget - steps > 1000000) {
      sandbox_charge(L, budget - steps);
      budget = steps = sandbox_budget(sandbox_of(L));
    }
  }
  sandbox_charge(L, budget - steps);
  if (r == MATCH_OUT_OF_STEPS) sandbox_charge(L, sandbox_budget(sandbox_of(L)) + 1000000);
  return r == MATCH_YES;
}

static void push_capture(lua_State *L, const Match *m, int i, const char *s) {
  if (m->n == 0 && i == 0)
    lua_pushlstring(L, s + m->start, m->end - m->start);
  else if (m->capture[i].is_position)
    lua_pushinteger(L, (lua_Integer)m->capture[i].start + 1);
  else
    lua_pushlstring(L, s + m->capture[i].start, m->capture[i].len);
}

/* All captures, or the whole match when there are none and it is wanted. */
static int push_captures(lua_State *L, const Match *m, const char *s, bool whole) {
  int n = m->n ? m->n : whole ? 1 : 0;
  luaL_checkstack(L, n, "too many captures");
  for (int i = 0; i < n; i++) push_capture(L, m, i, s);
  return n;
}

/* 1-based and negative positions -> 0-based, cut to [0, len + 1]. */
static size_t start_position(lua_Integer at, size_t len) {
  if (at > 0) return (size_t)at - 1 < len + 1 ? (size_t)at - 1 : len + 1;
  if (at == 0 || at < -(lua_Integer)len) return 0;
  return len - (size_t)-at;
}

static int find_plain(lua_State *L, const char *s, size_t len, size_t at) {
  size_t n;
  const char *what = lua_tolstring(L, 2, &n);
  sandbox_charge(L, (len - at) / 8);
  const char *hit = n ? memmem(s + at, len - at, what, n) : s + at;
  if (!hit) {
    lua_pushnil(L);
    return 1;
  }
  lua_pushinteger(L, hit - s + 1);
  lua_pushinteger(L, hit - s + (lua_Integer)n);
  return 2;
}

static int find_or_match(lua_State *L, bool find) {
  size_t len, pattern_len;
  const char *s = luaL_checklstring(L, 1, &len), *text = luaL_checklstring(L, 2, &pattern_len);
  size_t at = start_position(luaL_optinteger(L, 3, 1), len);
  if (at > len) {
    lua_pushnil(L);
    return 1;
  }
  if (find && (lua_toboolean(L, 4) || strcspn(text, "^$*+?.([%-") == pattern_len)) return find_plain(L, s, len, at);
  Match m;
  if (!find_match(L, check_pattern(L, 2), s, len, at, &m)) {
    lua_pushnil(L);
    return 1;
  }
  if (!find) return push_captures(L, &m, s, true);
  lua_pushinteger(L, (lua_Integer)m.start + 1);
  lua_pushinteger(L, (lua_Integer)m.end);
  return 2 + push_captures(L, &m, s, false);
}

static int string_find(lua_State *L) { return find_or_match(L, true); }
static int string_match(lua_State *L) { return find_or_match(L, false); }

/* Upvalues: subject, compiled pattern, where to go on, end of the last match (an empty one there is passed over). */
static int gmatch_step(lua_State *L) {
  size_t len;
  const char *s = lua_tolstring(L, lua_upvalueindex(1), &len);
  const Pattern *p = lua_touserdata(L, lua_upvalueindex(2));
  size_t at = (size_t)lua_tointeger(L, lua_upvalueindex(3));
  lua_Integer last = lua_tointeger(L, lua_upvalueindex(4));
  Match m;
  for (; at <= len; at = m.start + 1) {
    if (!find_match(L, p, s, len, at, &m)) return 0;
    if ((lua_Integer)m.end == last && m.end == m.start) continue;
    lua_pushinteger(L, (lua_Integer)m.end);
    lua_copy(L, -1, lua_upvalueindex(3));
    lua_replace(L, lua_upvalueindex(4));
    return push_captures(L, &m, s, true);
  }
  return 0;
}

static int string_gmatch(lua_State *L) {
  size_t len;
  luaL_checklstring(L, 1, &len);
  size_t at = start_position(luaL_optinteger(L, 3, 1), len);
  if (pattern_is_anchored(check_pattern(L, 2)))
    return luaL_error(L, "string.gmatch: a pattern cannot begin with '^'");
  lua_pushvalue(L, 1);
  lua_insert(L, -2);
  lua_pushinteger(L, (lua_Integer)at);
  lua_pushinteger(L, -1);
  lua_pushcclosure(L, gmatch_step, 4);
  return 1;
}

static void add_template(lua_State *L, luaL_Buffer *b, const Match *m, const char *s) {
  size_t n;
  const char *t = lua_tolstring(L, 3, &n);
  sandbox_charge(L, n / 4);
  for (size_t i = 0; i < n; i++) {
    if (t[i] != '%') {
      luaL_addchar(b, t[i]);
      continue;
    }
    char c = ++i < n ? t[i] : 0;
    int index = c - '1';
    if (c == '%') {
      luaL_addchar(b, '%');
    } else if (c == '0') {
      luaL_addlstring(b, s + m->start, m->end - m->start);
    } else if (c >= '1' && c <= '9' && index < (m->n ? m->n : 1)) {
      push_capture(L, m, index, s);
      luaL_addvalue(b);
    } else {
      luaL_error(L, "string.gsub: invalid use of '%%' in the replacement '%s'", t);
    }
  }
}

/* Adds what replaces the match: template, table entry or result of a call; false and nil keep the text. */
static void add_replacement(lua_State *L, luaL_Buffer *b, const Match *m, const char *s) {
  int kind = lua_type(L, 3);
  if (kind == LUA_TSTRING || kind == LUA_TNUMBER) {
    add_template(L, b, m, s);
    return;
  }
  if (kind == LUA_TFUNCTION) {
    lua_pushvalue(L, 3);
    lua_call(L, push_captures(L, m, s, true), 1);
  } else {
    push_capture(L, m, 0, s);
    lua_gettable(L, 3);
  }
  if (!lua_toboolean(L, -1)) {
    lua_pop(L, 1);
    luaL_addlstring(b, s + m->start, m->end - m->start);
  } else if (lua_isstring(L, -1)) {
    luaL_addvalue(b);
  } else {
    luaL_error(L, "string.gsub: the replacement is a %s, not a string", luaL_typename(L, -1));
  }
}

static int string_gsub(lua_State *L) {
  size_t len;
  const char *s = luaL_checklstring(L, 1, &len);
  int kind = lua_type(L, 3);
  luaL_argexpected(L, kind == LUA_TNUMBER || kind == LUA_TSTRING || kind == LUA_TFUNCTION || kind == LUA_TTABLE, 3,
                   "string/function/table");
  lua_Integer most = luaL_optinteger(L, 4, LUA_MAXINTEGER), n = 0;
  lua_settop(L, 3);
  if (kind == LUA_TNUMBER) lua_tostring(L, 3);
  const Pattern *p = check_pattern(L, 2);
  size_t done = 0, at = 0; /* s[0, done) is in the result */
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  Match m;
  bool has_last = false;
  while (n < most && at <= len && find_match(L, p, s, len, at, &m)) {
    if (has_last && m.end == done && m.start == m.end) { /* empty, right behind the last match */
      at = m.start + 1;
      if (pattern_is_anchored(p)) break;
      continue;
    }
    luaL_addlstring(&b, s + done, m.start - done);
    add_replacement(L, &b, &m, s);
    n++;
    has_last = true;
    done = at = m.end;
    if (pattern_is_anchored(p)) break;
  }
  luaL_addlstring(&b, s + done, len - done);
  luaL_pushresult(&b);
  lua_pushinteger(L, n);
  return 2;
}

static int string_rep(lua_State *L) {
  size_t len, sep_len;
  const char *s = luaL_checklstring(L, 1, &len), *sep = luaL_optlstring(L, 3, "", &sep_len);
  lua_Integer n = luaL_checkinteger(L, 2);
  luaL_Buffer b;
  if (n <= 0 || len + sep_len == 0) {
    lua_pushliteral(L, "");
    return 1;
  }
  size_t total;
  if (!size_mul(len + sep_len, (size_t)n, &total) || total > (size_t)1 << 40)
    return luaL_error(L, "string.rep: the result would have more than 2^40 bytes");
  const Sandbox *sb = sandbox_of(L);
  if (total > sb->max_block_bytes)
    sandbox_exhaust(L, ERROR_LIMIT,
                    "string.rep: the result would have %zu bytes; one value has at most %zu MiB (of %zu MiB of memory)",
                    total, sb->max_block_bytes >> 20, sb->limits.memory_bytes >> 20);
  sandbox_charge(L, total / 16);
  luaL_buffinitsize(L, &b, total);
  for (lua_Integer i = 0; i < n; i++) {
    luaL_addlstring(&b, s, len);
    if (i + 1 < n) luaL_addlstring(&b, sep, sep_len);
    if (i % 4096 == 4095) sandbox_charge(L, 4096);
  }
  luaL_pushresult(&b);
  return 1;
}

/* Whether a format uses %p, which prints addresses. */
static bool format_shows_address(const char *f, size_t n) {
  for (size_t i = 0; i + 1 < n; i++) {
    if (f[i] != '%') continue;
    i++;
    while (i < n && strchr("-+ #0123456789.", f[i]) && f[i]) i++;
    if (i < n && f[i] == 'p') return true;
  }
  return false;
}

static int string_format(lua_State *L) {
  size_t n;
  const char *f = luaL_checklstring(L, 1, &n);
  if (format_shows_address(f, n)) return luaL_error(L, "string.format: %%p is not available");
  sandbox_charge(L, n);
  int top = lua_gettop(L);
  for (int i = 2; i <= top; i++) {
    int kind = lua_type(L, i);
    if (kind != LUA_TTABLE && kind != LUA_TFUNCTION && kind != LUA_TUSERDATA && kind != LUA_TLIGHTUSERDATA) continue;
    sandbox_tostring(L, i);
    lua_replace(L, i);
  }
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, top, 1);
  return 1;
}

void sandbox_open_string(lua_State *L) {
  static const luaL_Reg replaced[] = {{"find", string_find}, {"match", string_match}, {"gmatch", string_gmatch},
                                      {"gsub", string_gsub}, {"rep", string_rep},     {NULL, NULL}};
  static const char *const dropped[] = {"dump", "pack", "unpack", "packsize", NULL};
  luaL_requiref(L, LUA_STRLIBNAME, luaopen_string, 1);
  for (const char *const *name = dropped; *name; name++) {
    lua_pushnil(L);
    lua_setfield(L, -2, *name);
  }
  luaL_setfuncs(L, replaced, 0);
  lua_getfield(L, -1, "format");
  sandbox_name_function(L, "string.format");
  lua_pushcclosure(L, string_format, 1);
  lua_setfield(L, -2, "format");
  lua_pop(L, 1);
  lua_pushliteral(L, "");
  lua_getmetatable(L, -1);
  lua_pushboolean(L, false);
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 2);
}
