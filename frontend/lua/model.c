/* Loading a model: runs its file in the sandbox and turns the table given to `module` into functions and fields. */
#include "frontend/lua/model.h"

#include <string.h>

#include "frontend/lua/binding.h"
#include "ir/text.h"

enum { MAX_DEPTH = 8 };

/* What the Lua part of a load works with. */
typedef struct ModelLoad {
  Model *m;
  Binding b;
  const ModelOptions *options;
  int func_cap, decode_cap, field_cap;
} ModelLoad;

/* ---- collecting ---- */

/* One entry of the module's table, for the graph's side. */
typedef struct ModelEntry {
  ModelLoad *load;
  const char *name;
  const FnBody *fn;
  const DecodeSpec *decode;
  Value value;
} ModelEntry;

static void *add_func(Graph *g, void *ctx) {
  ModelEntry *e = ctx;
  Model *m = e->load->m;
  const FnBody *body = e->decode ? e->decode->fn : e->fn;
  g->here = body->loc;
  Func *f = func_new(g, e->name, body->in, body->n_in, body->out, body->n_out);
  if (!f) return NULL;
  f->update = body->update;
  f->n_update = body->n_update;
  ARENA_PUSH(g->arena, m->func, m->n_func, e->load->func_cap, f);
  if (e->decode) {
    ModelDecode d = {f->name, f, e->decode->tokens, e->decode->logits};
    ARENA_PUSH(g->arena, m->decode, m->n_decode, e->load->decode_cap, d);
  }
  return f;
}

static void *add_field(Graph *g, void *ctx) {
  ModelEntry *e = ctx;
  Model *m = e->load->m;
  ModelField f = {arena_strdup(g->arena, e->name), e->value};
  if (f.value.kind == VALUE_TEXT) f.value.text = arena_strdup(g->arena, f.value.text);
  ARENA_PUSH(g->arena, m->field, m->n_field, e->load->field_cap, f);
  return m;
}

static bool read_plain(lua_State *L, Value *v) {
  switch (lua_type(L, -1)) {
  case LUA_TBOOLEAN:
    *v = (Value){.kind = VALUE_BOOL, .boolean = lua_toboolean(L, -1)};
    return true;
  case LUA_TSTRING:
    *v = (Value){.kind = VALUE_TEXT, .text = lua_tostring(L, -1)};
    return true;
  case LUA_TNUMBER:
    if (lua_isinteger(L, -1))
      *v = (Value){.kind = VALUE_INT, .integer = lua_tointeger(L, -1)};
    else
      *v = (Value){.kind = VALUE_REAL, .real = lua_tonumber(L, -1)};
    return true;
  default:
    return false;
  }
}

static void collect_table(lua_State *L, ModelLoad *load, const char *prefix, int depth);

/* The value on top of the stack, called name. */
static void collect_value(lua_State *L, ModelLoad *load, const char *name, int depth) {
  ModelEntry e = {.load = load, .name = name};
  const FnBody **fn = luaL_testudata(L, -1, BIND_FN);
  const DecodeSpec **decode = luaL_testudata(L, -1, BIND_DECODE);
  if (fn || decode) {
    if (fn) e.fn = *fn;
    if (decode) e.decode = *decode;
    bind_graph(L, add_func, &e);
  } else if (read_plain(L, &e.value)) {
    bind_graph(L, add_field, &e);
  } else if (lua_istable(L, -1)) {
    if (depth == MAX_DEPTH) luaL_error(L, "module: \"%s\": tables are nested more than %d deep", name, MAX_DEPTH);
    collect_table(L, load, name, depth + 1);
  } else {
    luaL_error(L,
               "module: \"%s\" is %s; a module holds functions made by fn or decode, numbers, strings, booleans and "
               "tables of them",
               name, sandbox_tostring(L, -1));
  }
}

/* The table on top of the stack. */
static void collect_table(lua_State *L, ModelLoad *load, const char *prefix, int depth) {
  luaL_checkstack(L, 10, NULL);
  int table = lua_gettop(L);
  lua_Integer n = sandbox_sorted_keys(L, table);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, table + 1, i);
    lua_pushvalue(L, -1);
    const char *key = sandbox_tostring(L, -1);
    if (!*key || strlen(key) != lua_rawlen(L, -1)) luaL_error(L, "module: a name is empty or holds a zero");
    if (strchr(key, '.') && lua_type(L, -2) == LUA_TSTRING)
      luaL_error(L, "module: the name \"%s\" holds a dot, which stands between nested names", key);
    const char *name = *prefix ? lua_pushfstring(L, "%s.%s", prefix, key) : lua_pushstring(L, key);
    lua_rawgeti(L, table + 1, i);
    lua_rawget(L, table);
    collect_value(L, load, name, depth);
    lua_settop(L, table + 1);
  }
  lua_settop(L, table);
}

static int load_body(lua_State *L) {
  ModelLoad *load = lua_touserdata(L, 1);
  lua_settop(L, 0);
  sandbox_of(L)->user = &load->b;
  binding_open(L);
  const char *slash = strrchr(load->m->path, '/');
  sandbox_load_file(L, load->m->path, slash ? slash + 1 : load->m->path);
  lua_call(L, 0, 1);
  if (!luaL_testudata(L, -1, BIND_MODULE)) {
    lua_pushfstring(L, "%s: the file must return module { ... }, not %s", load->m->path, sandbox_tostring(L, -1));
    bind_raise_complete(L);
  }
  lua_getiuservalue(L, -1, 1);
  collect_table(L, load, "", 0);
  if (load->m->n_func == 0) {
    lua_pushfstring(L, "%s: the module has no functions", load->m->path);
    bind_raise_complete(L);
  }
  return 0;
}

/* ---- loading ---- */

/* The folder of a path, heap-allocated: "models" of "models/x.lua", "" of "x.lua". */
static char *folder_of(const char *path) {
  const char *slash = strrchr(path, '/');
  size_t n = slash ? (size_t)(slash - path) : 0;
  if (slash == path) n = 1;
  char *folder = mem_alloc(n + 1);
  if (folder && n) memcpy(folder, path, n);
  return folder;
}

static void copy_path(void *ctx) {
  Model *m = ctx;
  m->path = arena_strdup(m->graph->arena, m->path);
}

typedef struct KeepSource {
  Model *m;
  const Sandbox *sb;
} KeepSource;

static void keep_source(void *ctx) {
  const KeepSource *k = ctx;
  Arena *a = k->m->graph->arena;
  SourceFile *file = ARENA_ARRAY(a, SourceFile, k->sb->n_read);
  for (int i = 0; i < k->sb->n_read; i++) {
    const SourceFile *f = &k->sb->read[i];
    file[i] = (SourceFile){arena_strdup(a, f->name), arena_copy(a, f->text, f->len + 1), f->len};
  }
  k->m->source = (SourceMap){file, k->sb->n_read};
}

static int by_name(const void *x, const void *y) {
  return strcmp((*(Func *const *)x)->name, (*(Func *const *)y)->name);
}

static bool load_into(Model *m, const ModelOptions *options, Error *err) {
  m->graph = graph_new(&m->diag);
  if (!m->graph) return error_set(err, ERROR_MEMORY, "out of memory");
  if (!arena_protect(m->graph->arena, copy_path, m, err)) return false;
  m->options = (Options){.define = options->define, .n_define = options->n_define, .arena = m->graph->arena};
  Sandbox *sb = sandbox_new(&options->limits, options->models_dir, options->print_to, err);
  if (!sb) return false;
  sb->source = options->source;
  ModelLoad load = {.m = m, .b = {.g = m->graph, .options = &m->options}, .options = options};
  m->graph->err = &load.b.diag;
  sb->model_dir = folder_of(m->path);
  bool ok = sb->model_dir ? sandbox_run(sb, load_body, &load, err) : error_set(err, ERROR_MEMORY, "out of memory");
  KeepSource keep = {m, sb};
  ok = ok && arena_protect(m->graph->arena, keep_source, &keep, err);
  sandbox_free(sb);
  m->graph->err = &m->diag;
  m->options.define = NULL;
  m->options.n_define = 0;
  if (!ok && m->options.refused && err->code == ERROR_MODEL) err->code = ERROR_ARGUMENT;
  if (!ok) return false;
  qsort(m->func, (size_t)m->n_func, sizeof *m->func, by_name);
  Options with_defines = m->options;
  with_defines.define = options->define;
  with_defines.n_define = options->n_define;
  return options_check_defines(&with_defines, m->path, err);
}

Model *model_load(const char *path, const ModelOptions *options, Error *err) {
  static const ModelOptions standard;
  Model *m = mem_alloc(sizeof *m);
  if (!m) {
    error_set(err, ERROR_MEMORY, "out of memory");
    return NULL;
  }
  m->path = path;
  if (load_into(m, options ? options : &standard, err)) return m;
  model_free(m);
  return NULL;
}

void model_free(Model *m) {
  if (!m) return;
  graph_free(m->graph);
  mem_free(m);
}

/* ---- asking ---- */

static void *no_such(const Model *m, const char *what, const char *name, Buffer *list, Error *err) {
  if (list->failed) error_set(err, ERROR_MEMORY, "out of memory");
  else
    error_set(err, ERROR_ARGUMENT, "%s: there is no %s \"%s\"; there is: %s", m->path, what, name,
              list->len ? list->data : "none");
  buffer_done(list);
  return NULL;
}

static void add_name(Buffer *list, const char *name) {
  if (list->len) buffer_printf(list, ", ");
  text_name(list, name);
}

Func *model_find(const Model *m, const char *name, Error *err) {
  Buffer list = {0};
  for (int i = 0; i < m->n_func; i++)
    if (strcmp(m->func[i]->name, name) == 0) return m->func[i];
  for (int i = 0; i < m->n_func; i++) add_name(&list, m->func[i]->name);
  return no_such(m, "function", name, &list, err);
}

const ModelDecode *model_find_decode(const Model *m, const char *name, Error *err) {
  Buffer list = {0};
  for (int i = 0; i < m->n_decode; i++)
    if (strcmp(m->decode[i].name, name) == 0) return &m->decode[i];
  for (int i = 0; i < m->n_decode; i++) add_name(&list, m->decode[i].name);
  return no_such(m, "generated function", name, &list, err);
}

const Value *model_field(const Model *m, const char *name) {
  for (int i = 0; i < m->n_field; i++)
    if (strcmp(m->field[i].name, name) == 0) return &m->field[i].value;
  return NULL;
}

static void print_ports(const Port *p, int n, Buffer *out) {
  char text[300];
  for (int i = 0; i < n; i++) {
    if (i) buffer_printf(out, ", ");
    text_name(out, p[i].name);
    buffer_printf(out, ": %s", type_print(&p[i].node->type, text, sizeof text));
  }
}

void model_print_signature(const Func *f, Buffer *out) {
  text_name(out, f->name);
  buffer_printf(out, "(");
  print_ports(f->in, f->n_in, out);
  buffer_printf(out, ") -> ");
  print_ports(f->out, f->n_out, out);
}
