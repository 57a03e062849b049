/* Loading a model: runs its file in the sandbox and turns the table given to `module` into functions and fields. */
#include "frontend/lua/model.h"

#include <string.h>

#include "frontend/lua/binding.h"
#include "ir/text.h"
#include "passes/passes.h"
#include "runtime/base/names.h"

enum { MAX_DEPTH = 8 };

/* What the Lua part of a load works with. */
typedef struct ModelLoad {
  Model *m;
  Binding b;
  const ModelOptions *options;
  int func_cap, decode_cap, field_cap, train_cap;
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
    ModelDecode d = {f->name, f, e->decode->tokens, e->decode->logits, e->decode->has_stop, e->decode->stop};
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

/* ---- training ---- */

typedef struct TrainEntry {
  ModelLoad *load;
  ModelTrain t;
  const FnBody *body;
} TrainEntry;

static void *add_train(Graph *g, void *ctx) {
  TrainEntry *e = ctx;
  Model *m = e->load->m;
  ModelTrain t = e->t;
  g->here = e->body->loc;
  t.name = arena_strdup(g->arena, t.name);
  t.func = func_new(g, arena_printf(g->arena, FUNC_TRAIN ".%s", t.name), e->body->in, e->body->n_in, e->body->out,
                    e->body->n_out);
  if (!t.func) return NULL;
  t.func->update = e->body->update;
  t.func->n_update = e->body->n_update;
  ARENA_PUSH(g->arena, m->train, m->n_train, e->load->train_cap, t);
  return m;
}

/* A whole number of at least 1 in the entry on top of the stack. */
static int64_t step_field(lua_State *L, const char *entry, const char *name, int64_t otherwise) {
  lua_Integer n = otherwise;
  if (lua_getfield(L, -1, name) != LUA_TNIL) {
    n = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
    if (n < 1 || n > TRAIN_LAST)
      luaL_error(L, "module: train: \"%s\": %s must be a number of steps, at least 1, not %s", entry, name,
                 sandbox_tostring(L, -1));
  }
  lua_pop(L, 1);
  return n;
}

static double average_field(lua_State *L, const char *entry) {
  double d = 0;
  if (lua_getfield(L, -1, "average") != LUA_TNIL) {
    d = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : -1;
    if (!(d > 0 && d < 1))
      luaL_error(L, "module: train: \"%s\": average must be between 0 and 1, not %s", entry, sandbox_tostring(L, -1));
  }
  lua_pop(L, 1);
  return d;
}

static void check_entry_name(lua_State *L, const Model *m, const char *name) {
  if (strchr(name, '.'))
    luaL_error(L, "module: train: the name \"%s\" holds a dot, which stands between nested names", name);
  if (strcmp(name, "val") == 0 || strcmp(name, "held") == 0)
    luaL_error(L, "module: train: an entry cannot be called \"%s\", which is before the metrics of evaluations", name);
  for (int i = 0; i < m->n_train; i++)
    if (strcmp(m->train[i].name, name) == 0) luaL_error(L, "module: train: two entries are called \"%s\"", name);
}

/* An average of nothing would be the params themselves, without a word. */
static void check_average(lua_State *L, const ModelTrain *t, const FnBody *body) {
  int i = 0;
  while (i < body->n_update && !train_averages(&body->update[i])) i++;
  if (t->average > 0 && i == body->n_update)
    luaL_error(L,
               "module: train: \"%s\": average has no effect: its function itself updates no f32 param (what "
               "functions that it calls "
               "update is not averaged)",
               t->name);
}

/* The entry on top of the stack: { "name", fn, from = 1, to = ..., every = 1, average = 0.999 }. */
static void collect_entry(lua_State *L, ModelLoad *load, lua_Integer number) {
  static const char *const known[] = {"from", "to", "every", "average"};
  TrainEntry e = {.load = load};
  if (!lua_istable(L, -1))
    luaL_error(L, "module: train: entry %I must be { \"name\", fn, ... }, not %s", (LUAI_UACINT)number,
               sandbox_tostring(L, -1));
  bind_check_fields(L, -1, "module: train", known, COUNT_OF(known), 2);
  lua_geti(L, -1, 1);
  e.t.name = bind_check_name(L, -1, "module: train");
  check_entry_name(L, load->m, e.t.name);
  lua_geti(L, -2, 2);
  e.body = bind_trace_entry(L, -1, e.t.name);
  if (!e.body->n_update) luaL_error(L, "module: train: \"%s\" updates nothing", e.t.name);
  lua_pop(L, 1);
  lua_insert(L, -2);
  e.t.from = step_field(L, e.t.name, "from", 1);
  e.t.to = step_field(L, e.t.name, "to", TRAIN_LAST);
  e.t.every = step_field(L, e.t.name, "every", 1);
  e.t.average = average_field(L, e.t.name);
  check_average(L, &e.t, e.body);
  if (e.t.to < e.t.from) luaL_error(L, "module: train: \"%s\" ends (to) before it begins (from)", e.t.name);
  bind_graph(L, add_train, &e);
}

/* Two averages of one param would be two answers. */
static void check_averages(lua_State *L, const Model *m) {
  for (int i = 0; i < m->n_train; i++)
    for (int k = 0; k < i; k++)
      for (int u = 0; m->train[i].average > 0 && m->train[k].average > 0 && u < m->train[i].func->n_update; u++)
        for (int v = 0; v < m->train[k].func->n_update; v++) {
          const Update *x = &m->train[i].func->update[u], *y = &m->train[k].func->update[v];
          const Node *p = x->target;
          if (p->op == OP_PARAM && p == y->target && !x->by_call && !y->by_call)
            luaL_error(L, "module: train: \"%s\" and \"%s\" both average \"%s\"", m->train[k].name, m->train[i].name,
                       p->attrs.leaf.name);
        }
}

/* What an entry with an average keeps for it (passes/train.c): ENTRY.averaged, ENTRY.average.PARAM. */
static bool is_of_average(const ModelTrain *e, const char *state) {
  size_t n = strlen(e->name);
  return e->average > 0 && strncmp(state, e->name, n) == 0 &&
         (strcmp(state + n, ".averaged") == 0 || strncmp(state + n, ".average.", strlen(".average.")) == 0);
}

typedef struct StateOfAverage {
  const Model *m;
  const ModelTrain *holder, *of; /* of NULL: there is none */
  const char *state;
} StateOfAverage;

static void *find_state_of_average(Graph *g, void *ctx) {
  StateOfAverage *s = ctx;
  for (int i = 0; i < s->m->n_train; i++) {
    int n;
    Node **node = func_nodes(s->m->train[i].func, &n);
    for (int k = 0; k < n; k++)
      for (int e = 0; node[k]->op == OP_STATE && e < s->m->n_train; e++)
        if (is_of_average(&s->m->train[e], node[k]->attrs.leaf.name))
          *s = (StateOfAverage){s->m, &s->m->train[i], &s->m->train[e], node[k]->attrs.leaf.name};
  }
  return s;
}

static void check_states(lua_State *L, const Model *m) {
  StateOfAverage s = {.m = m};
  bind_graph(L, find_state_of_average, &s);
  if (s.of)
    luaL_error(L, "module: train: \"%s\" has a state \"%s\", a name under which the average of \"%s\" is kept",
               s.holder->name, s.state, s.of->name);
}

/* The list on top of the stack. */
static void collect_train(lua_State *L, ModelLoad *load) {
  if (!lua_istable(L, -1))
    luaL_error(L, "module: train must be a list of entries { \"name\", fn, ... }, not %s", sandbox_tostring(L, -1));
  lua_Integer n = luaL_len(L, -1);
  if (n < 1 || n > 100) luaL_error(L, "module: train: needs a list of 1 to 100 entries { \"name\", fn, ... }");
  bind_check_fields(L, -1, "module: train", NULL, 0, (int)n);
  int list = lua_gettop(L);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_geti(L, list, i);
    collect_entry(L, load, i);
    lua_settop(L, list);
  }
  check_averages(L, load->m);
  check_states(L, load->m);
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
    if (depth == 0 && strcmp(name, FUNC_TRAIN) == 0) collect_train(L, load);
    else collect_value(L, load, name, depth);
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
  if (load->m->n_func == 0 && load->m->n_train == 0) {
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
  if (m->n_func) qsort(m->func, (size_t)m->n_func, sizeof *m->func, by_name);
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
  for (int i = 0; i < m->n_train; i++)
    if (strcmp(m->train[i].func->name, name) == 0) return m->train[i].func;
  for (int i = 0; i < m->n_func; i++) add_name(&list, m->func[i]->name);
  for (int i = 0; i < m->n_train; i++) add_name(&list, m->train[i].func->name);
  return no_such(m, "function", name, &list, err);
}

const ModelDecode *model_find_decode(const Model *m, const char *name, Error *err) {
  Buffer list = {0};
  for (int i = 0; i < m->n_decode; i++)
    if (strcmp(m->decode[i].name, name) == 0) return &m->decode[i];
  for (int i = 0; i < m->n_decode; i++) add_name(&list, m->decode[i].name);
  return no_such(m, "generated function", name, &list, err);
}

const ModelTrain *model_train_of(const Model *m, const Func *f) {
  for (int i = 0; i < m->n_train; i++)
    if (m->train[i].func == f) return &m->train[i];
  return NULL;
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
