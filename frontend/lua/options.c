/* Options: see options.h. */
#include "frontend/lua/options.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "frontend/lua/binding.h"
#include "ir/text.h"

#define BIND_OPTIONS "options"
#define BIND_CHOICE "one_of"

/* ---- values ---- */

const char *value_kind_name(ValueKind k) {
  static const char *const names[] = {"boolean", "integer", "number", "string"};
  return names[k];
}

void value_print(const Value *v, Buffer *out) {
  char text[32];
  switch (v->kind) {
  case VALUE_BOOL:
    buffer_printf(out, "%s", v->boolean ? "true" : "false");
    return;
  case VALUE_INT:
    buffer_printf(out, "%lld", (long long)v->integer);
    return;
  case VALUE_TEXT:
    buffer_printf(out, "%s", v->text);
    return;
  case VALUE_REAL:
    break;
  }
  for (int digits = 6; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, v->real);
    if (strtod(text, NULL) == v->real) break;
  }
  buffer_printf(out, "%s%s", text, strpbrk(text, ".ein") ? "" : ".0");
}

/* "dim = 64, kind = nearby" */
static void print_list(const Options *o, Buffer *out) {
  for (int i = 0; i < o->n; i++) {
    if (i) buffer_printf(out, ", ");
    text_name(out, o->option[i].name);
    buffer_printf(out, " = ");
    value_print(&o->option[i].value, out);
  }
}

static Option *find_option(const Options *o, const char *name) {
  for (int i = 0; i < o->n; i++)
    if (strcmp(o->option[i].name, name) == 0) return &o->option[i];
  return NULL;
}

bool options_check_defines(const Options *o, const char *where, Error *err) {
  for (int i = 0; i < o->n_define; i++) {
    if (find_option(o, o->define[i].name)) continue;
    Buffer list = {0};
    print_list(o, &list);
    if (list.failed) {
      buffer_done(&list);
      return error_set(err, ERROR_MEMORY, "out of memory");
    }
    error_set(err, ERROR_ARGUMENT, "%s: -D %s: no such option; %s%s", where, o->define[i].name,
              o->n ? "the options are: " : "the model has no options", list.data ? list.data : "");
    buffer_done(&list);
    return false;
  }
  return true;
}

/* ---- parsing -D ---- */

static bool parse_value(const char *text, Value *v) {
  char *end;
  errno = 0;
  switch (v->kind) {
  case VALUE_BOOL:
    v->boolean = strcmp(text, "true") == 0;
    return v->boolean || strcmp(text, "false") == 0;
  case VALUE_INT:
    v->integer = strtoll(text, &end, 10);
    return end != text && !*end && !errno;
  case VALUE_REAL:
    v->real = strtod(text, &end);
    return end != text && !*end && !isnan(v->real) && !(errno == ERANGE && isinf(v->real));
  case VALUE_TEXT:
    v->text = text;
    return true;
  }
  return false;
}

static bool is_choice(const Option *o, const char *text) {
  for (int i = 0; i < o->n_choice; i++)
    if (strcmp(o->choice[i], text) == 0) return true;
  return o->n_choice == 0;
}

static void *bad_value(Graph *g, const Option *o, const char *given) {
  static const char *const wanted[] = {"true or false", "an integer", "a number", "a string"};
  if (!o->n_choice)
    return graph_error(g, NULL, "options: -D %s=%s: needs %s, as its default is one", o->name, given,
                       wanted[o->standard.kind]);
  char list[400] = "";
  size_t at = 0;
  for (int i = 0; i < o->n_choice && at < sizeof list; i++)
    at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", o->choice[i]);
  return graph_error(g, NULL, "options: -D %s=%s: needs one of: %s", o->name, given, list);
}

/* ---- Lua ---- */

/* Inserts `made` at its place and applies the defines.  Returns the option. */
typedef struct Declare {
  Options *o;
  Option made;
} Declare;

static void *declare(Graph *g, void *ctx) {
  Declare *d = ctx;
  Options *o = d->o;
  Option *m = &d->made;
  if (find_option(o, m->name)) return graph_error(g, NULL, "options: \"%s\" is declared twice", m->name);
  m->name = arena_strdup(o->arena, m->name);
  if (m->standard.kind == VALUE_TEXT) m->standard.text = arena_strdup(o->arena, m->standard.text);
  m->choice = arena_copy(o->arena, m->choice, (size_t)m->n_choice * sizeof *m->choice);
  for (int i = 0; i < m->n_choice; i++) m->choice[i] = arena_strdup(o->arena, m->choice[i]);
  m->value = m->standard;
  for (int i = 0; i < o->n_define; i++) {
    if (strcmp(o->define[i].name, m->name) != 0) continue;
    o->refused = !parse_value(o->define[i].value, &m->value) ||
                 (m->value.kind == VALUE_TEXT && !is_choice(m, m->value.text));
    if (o->refused) return bad_value(g, m, o->define[i].value);
    if (m->value.kind == VALUE_TEXT) m->value.text = arena_strdup(o->arena, m->value.text);
    m->given = true;
  }
  int at = o->n;
  ARENA_PUSH(o->arena, o->option, o->n, o->cap, *m);
  for (; at > 0 && strcmp(o->option[at - 1].name, m->name) > 0; at--) o->option[at] = o->option[at - 1];
  o->option[at] = *m;
  return &o->option[at];
}

/* one_of { "first", ... }: a list kept for options. */
static int new_choice(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_Integer n = luaL_len(L, 1);
  if (n < 1 || n > 64) return luaL_error(L, "one_of: needs a list of 1 to 64 strings");
  lua_newuserdatauv(L, 1, 1);
  lua_createtable(L, (int)n, 0);
  for (lua_Integer i = 1; i <= n; i++) {
    if (lua_geti(L, 1, i) != LUA_TSTRING) return luaL_error(L, "one_of: entry %I is no string", (LUAI_UACINT)i);
    lua_seti(L, -2, i);
  }
  lua_setiuservalue(L, -2, 1);
  luaL_setmetatable(L, BIND_CHOICE);
  return 1;
}

static void push_value(lua_State *L, const Value *v) {
  switch (v->kind) {
  case VALUE_BOOL:
    lua_pushboolean(L, v->boolean);
    break;
  case VALUE_INT:
    lua_pushinteger(L, v->integer);
    break;
  case VALUE_REAL:
    lua_pushnumber(L, v->real);
    break;
  case VALUE_TEXT:
    lua_pushstring(L, v->text);
    break;
  }
}

/* The default at the top of the stack -> d; `choices` has room for 64. */
static void read_default(lua_State *L, const char *name, Declare *d, const char **choices) {
  Value *v = &d->made.standard;
  switch (lua_type(L, -1)) {
  case LUA_TBOOLEAN:
    *v = (Value){.kind = VALUE_BOOL, .boolean = lua_toboolean(L, -1)};
    return;
  case LUA_TSTRING:
    *v = (Value){.kind = VALUE_TEXT, .text = lua_tostring(L, -1)};
    return;
  case LUA_TNUMBER:
    if (lua_isinteger(L, -1))
      *v = (Value){.kind = VALUE_INT, .integer = lua_tointeger(L, -1)};
    else
      *v = (Value){.kind = VALUE_REAL, .real = lua_tonumber(L, -1)};
    return;
  default:
    break;
  }
  if (!luaL_testudata(L, -1, BIND_CHOICE))
    luaL_error(L, "options: the default of \"%s\" is a %s; it must be a number, string, boolean or one_of { ... }",
               name, sandbox_tostring(L, -1));
  lua_getiuservalue(L, -1, 1);
  d->made.n_choice = (int)lua_rawlen(L, -1);
  for (int i = 0; i < d->made.n_choice; i++) {
    lua_rawgeti(L, -1, i + 1);
    choices[i] = lua_tostring(L, -1); /* the list keeps it */
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  d->made.choice = choices;
  *v = (Value){.kind = VALUE_TEXT, .text = choices[0]};
}

static int new_options(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_Integer n = sandbox_sorted_keys(L, 1);
  lua_newuserdatauv(L, 1, 1);
  lua_newtable(L); /* 4: values */
  for (lua_Integer i = 1; i <= n; i++) {
    if (lua_rawgeti(L, 2, i) != LUA_TSTRING)
      return luaL_error(L, "options: names are strings, not %s", sandbox_tostring(L, -1));
    const char *name = lua_tostring(L, -1), *choices[64];
    lua_pushvalue(L, -1);
    lua_rawget(L, 1);
    Declare d = {.o = binding_of(L)->options, .made.name = name};
    read_default(L, name, &d, choices);
    const Option *o = bind_graph(L, declare, &d);
    push_value(L, &o->value);
    lua_setfield(L, 4, name);
    lua_settop(L, 4);
  }
  lua_setiuservalue(L, 3, 1);
  luaL_setmetatable(L, BIND_OPTIONS);
  return 1;
}

static int options_index(lua_State *L) {
  lua_getiuservalue(L, 1, 1);
  lua_pushvalue(L, 2);
  if (lua_rawget(L, -2) != LUA_TNIL) return 1;
  lua_settop(L, 3);
  lua_Integer n = sandbox_sorted_keys(L, 3);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (lua_Integer i = 1; i <= n; i++) {
    if (i > 1) luaL_addstring(&b, ", ");
    lua_rawgeti(L, 4, i);
    luaL_addvalue(&b);
  }
  luaL_pushresult(&b);
  return luaL_error(L, "options: there is no option \"%s\"; the options are: %s", sandbox_tostring(L, 2),
                    lua_tostring(L, 5));
}

static int options_newindex(lua_State *L) {
  return luaL_error(L, "options: values are read-only (%s)", sandbox_tostring(L, 2));
}

static int options_pairs(lua_State *L) {
  lua_getglobal(L, "pairs");
  lua_getiuservalue(L, 1, 1);
  lua_call(L, 1, 3);
  return 3;
}

void binding_open_options(lua_State *L) {
  static const luaL_Reg of_options[] = {
      {"__index", options_index}, {"__newindex", options_newindex}, {"__pairs", options_pairs}, {NULL, NULL}};
  static const luaL_Reg none[] = {{NULL, NULL}};
  bind_new_kind(L, BIND_OPTIONS, of_options);
  bind_new_kind(L, BIND_CHOICE, none);
  lua_pop(L, 2);
  lua_register(L, "options", new_options);
  lua_register(L, "one_of", new_choice);
}
