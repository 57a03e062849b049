/* Calls from Lua into the graph, and where they come from. */
#include "frontend/lua/binding.h"

#include <string.h>

enum { LOC_BUCKETS = 256, GRAPH_CALL_COST = 50 };

/* ---- locations ---- */

typedef struct LocEntry {
  Loc loc; /* first: a Loc is its entry */
  struct LocEntry *next;
} LocEntry;

static const Loc *intern_loc(Binding *b, Arena *a, const char *file, int line, const Loc *caller) {
  if (!b->locs) b->locs = ARENA_ARRAY(a, LocEntry *, LOC_BUCKETS);
  uint32_t h = (uint32_t)line * 2654435761u ^ (caller ? (uint32_t)caller->line * 40503u : 0);
  LocEntry **chain = &b->locs[h % LOC_BUCKETS];
  for (LocEntry *e = *chain; e; e = e->next)
    if (e->loc.line == line && e->loc.caller == caller && strcmp(e->loc.file, file) == 0) return &e->loc;
  LocEntry *e = ARENA_NEW(a, LocEntry);
  *e = (LocEntry){.loc = {arena_strdup(a, file), line, caller}, .next = *chain};
  *chain = e;
  return &e->loc;
}

static const Loc *intern_frames(Binding *b, Arena *a, const Frame *frames, int n) {
  const Loc *loc = NULL;
  for (int i = n - 1; i >= 0; i--) loc = intern_loc(b, a, frames[i].file, frames[i].line, loc);
  return loc;
}

/* ---- calls ---- */

typedef struct GraphCall {
  Binding *b;
  Frame frames[FRAMES_MAX];
  int n_frames;
  void *(*run)(Graph *g, void *ctx);
  void *ctx, *result;
} GraphCall;

static void run_call(void *ctx) {
  GraphCall *c = ctx;
  Graph *g = c->b->g;
  const Loc *before = g->here, *loc = intern_frames(c->b, g->arena, c->frames, c->n_frames);
  if (loc) g->here = loc;
  c->result = c->run(g, c->ctx);
  g->here = before;
}

void bind_raise_complete(lua_State *L) {
  sandbox_of(L)->has_callers = true;
  lua_error(L);
  abort();
}

/* Graphs count against the limit of memory too: their nodes are not Lua's. */
static void charge_graph(lua_State *L, Binding *b) {
  const Sandbox *sb = sandbox_of(L);
  uint64_t made = (uint64_t)b->g->n_nodes - b->charged_nodes;
  b->charged_nodes = (uint64_t)b->g->n_nodes;
  if (arena_bytes(b->g->arena) > sb->limits.memory_bytes)
    sandbox_exhaust(L, ERROR_LIMIT, "the model's graph needs more than %zu MiB", sb->limits.memory_bytes >> 20);
  sandbox_charge(L, GRAPH_CALL_COST * (1 + made));
}

void *bind_graph(lua_State *L, void *(*run)(Graph *g, void *ctx), void *ctx) {
  GraphCall c = {.b = binding_of(L), .run = run, .ctx = ctx};
  Error failed = {0};
  const Loc *before = c.b->g->here;
  c.n_frames = sandbox_frames(L, 0, c.frames);
  if (!arena_protect(c.b->g->arena, run_call, &c, &failed)) {
    c.b->g->here = before;
    sandbox_exhaust(L, ERROR_MEMORY, "%s", failed.text);
  }
  if (!c.result) {
    Error diag = c.b->diag;
    c.b->diag = (Error){0};
    BUG_IF(diag.code == ERROR_NONE, "a graph function failed without a diagnostic");
    if (diag.code == ERROR_MEMORY) sandbox_exhaust(L, ERROR_MEMORY, "%s", diag.text);
    lua_pushstring(L, diag.text);
    bind_raise_complete(L);
  }
  charge_graph(L, c.b);
  return c.result;
}

/* ---- registration ---- */

void bind_new_kind(lua_State *L, const char *kind, const luaL_Reg *functions) {
  luaL_newmetatable(L, kind);
  luaL_setfuncs(L, functions, 0);
  lua_pushboolean(L, false);
  lua_setfield(L, -2, "__metatable");
}

void bind_check_fields(lua_State *L, int i, const char *op, const char *const *known, int n_known, int n_list) {
  i = lua_absindex(L, i);
  lua_Integer n = sandbox_sorted_keys(L, i);
  for (lua_Integer k = 1; k <= n; k++) {
    lua_rawgeti(L, -1, k);
    bool fine = lua_isinteger(L, -1) && lua_tointeger(L, -1) >= 1 && lua_tointeger(L, -1) <= n_list;
    for (int j = 0; j < n_known && !fine && lua_type(L, -1) == LUA_TSTRING; j++)
      fine = strcmp(lua_tostring(L, -1), known[j]) == 0;
    if (!fine) {
      const char *name = sandbox_tostring(L, -1);
      luaL_Buffer b;
      luaL_buffinit(L, &b);
      for (int j = 0; j < n_known; j++) {
        luaL_addstring(&b, j ? ", " : "");
        luaL_addstring(&b, known[j]);
      }
      luaL_pushresult(&b);
      luaL_error(L, n_known ? "%s: there is no option \"%s\"; the options are: %s" : "%s: unexpected entry \"%s\"",
                 op, name, lua_tostring(L, -1));
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

bool bind_check_flag(lua_State *L, int i, const char *op, const char *name) {
  if (lua_isnoneornil(L, i)) return false;
  if (!lua_istable(L, i))
    luaL_error(L, "%s: argument %d must be { %s = true }, not %s", op, i, name, sandbox_tostring(L, i));
  bind_check_fields(L, i, op, &name, 1, 0);
  lua_getfield(L, i, name);
  bool says = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return says;
}

void binding_open(lua_State *L) {
  binding_open_values(L);
  binding_open_ops(L);
  binding_open_trace(L);
  binding_open_functions(L);
  binding_open_random(L);
  binding_open_options(L);
  binding_open_composed(L);
  lua_settop(L, 0);
}
