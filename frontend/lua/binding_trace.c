/* Tracing: fn runs a Lua body once on symbolic inputs and keeps what it made; a function so made can be called on tensors
 * inside another, where its body is traced again.
 *
 *   fn({ x = f32(batch, 8), ... }, function(x) return { y = ... } end)
 *   fn(inputs, function(x) return outputs, { { w, w - 0.1 * g }, ... } end)      with updates {target, value}
 *   f({ x = tensor })             the outputs, as a table; sizes that its type leaves open may be any
 *   f.inputs, f.outputs           tables of types by name
 *   update(target, value)         in a body: the function being made leaves value in a param or state
 *   updated(target)               what it leaves there as far as it is made: target, or the last update
 *   scope(name, body, ...)        body(...), with "NAME." before every name that scoped() completes inside
 *   scoped(name)                  NAME with the scopes around it */
#include "frontend/lua/binding.h"
#include "runtime/base/names.h"

#include <string.h>

/* ---- what is under way ---- */

const Tracing *bind_tracing(lua_State *L) {
  static const Tracing outside = {.prefix = ""};
  const Tracing *now = sandbox_of(L)->context;
  return now ? now : &outside;
}

/* lua_call with another context; an error restores the old one where it is caught. */
static void call_within(lua_State *L, const Tracing *now, int n_args, int n_results) {
  Sandbox *sb = sandbox_of(L);
  const void *before = sb->context;
  sb->context = now;
  lua_call(L, n_args, n_results);
  sb->context = before;
}

const char *bind_check_name(lua_State *L, int i, const char *what) {
  size_t len;
  if (lua_type(L, i) != LUA_TSTRING) luaL_error(L, "%s: needs a name, not %s", what, sandbox_tostring(L, i));
  const char *name = lua_tolstring(L, i, &len);
  if (!len || strlen(name) != len) luaL_error(L, "%s: the name is empty or holds a zero", what);
  return name;
}

static int call_scope(lua_State *L) {
  Tracing now = *bind_tracing(L);
  const char *name = bind_check_name(L, 1, "scope");
  luaL_checktype(L, 2, LUA_TFUNCTION);
  now.prefix = lua_pushfstring(L, "%s%s.", now.prefix, name);
  lua_replace(L, 1); /* keeps the prefix while the body runs */
  call_within(L, &now, lua_gettop(L) - 2, LUA_MULTRET);
  return lua_gettop(L) - 1;
}

static int call_scoped(lua_State *L) {
  lua_pushfstring(L, "%s%s", bind_tracing(L)->prefix, bind_check_name(L, 1, "a layer"));
  return 1;
}

/* ---- inputs and outputs ---- */

typedef struct Input {
  const char *name;
  Type type;
  int scope;
} Input;

/* Ports whose names Lua keeps while they are read. */
typedef struct Ports {
  Port *port;
  int n;
} Ports;

/* A list of n ports as userdata on the stack. */
static Ports push_ports(lua_State *L, lua_Integer n) {
  if (n > 10000) luaL_error(L, "fn: %I names are too many", (LUAI_UACINT)n);
  Ports p = {lua_newuserdatauv(L, ((size_t)n + 1) * sizeof(Port), 0), (int)n};
  return p;
}

/* An input of a function that is traced inside of `scope` others: functions beside each other share inputs of one name
 * and type, and what they compute from them. */
static void *make_input(Graph *g, void *ctx) {
  const Input *in = ctx;
  g->scope = in->scope;
  Node *n = graph_op(g, OP_INPUT, NULL, 0, &(Attrs){.leaf.name = in->name}, &in->type);
  g->scope = 0;
  return n;
}

Node *bind_input(lua_State *L, const char *name, const Type *type, int scope) {
  Input in = {name, *type, scope};
  return bind_graph(L, make_input, &in);
}

/* fn's table of inputs knows its names.  Upvalue: the list of them as text. */
static int no_such_input(lua_State *L) {
  return luaL_error(L, "fn: there is no input \"%s\"; the inputs are: %s", sandbox_tostring(L, 2),
                    lua_tostring(L, lua_upvalueindex(1)));
}

static void push_names(lua_State *L, const Port *p, int n) {
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (int i = 0; i < n; i++) {
    luaL_addstring(&b, i ? ", " : "");
    luaL_addstring(&b, p[i].name);
  }
  luaL_pushresult(&b);
}

static void guard_inputs(lua_State *L, int table, const Port *p, int n) {
  lua_createtable(L, 0, 2);
  push_names(L, p, n);
  lua_pushcclosure(L, no_such_input, 1);
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, table);
}

/* The table of types at index `types` -> INPUT nodes in name order; pushes the list's memory and the table of tensors. */
static Ports make_inputs(lua_State *L, int types, int scope) {
  lua_Integer n = sandbox_sorted_keys(L, types);
  int keys = lua_gettop(L);
  Ports p = push_ports(L, n);
  lua_newtable(L);
  int table = lua_gettop(L);
  for (int i = 0; i < p.n; i++) {
    lua_rawgeti(L, keys, i + 1);
    const char *name = bind_check_name(L, -1, "fn: inputs");
    lua_pushvalue(L, -1);
    lua_rawget(L, types);
    char what[200];
    snprintf(what, sizeof what, "fn: input \"%.150s\"", name);
    Type type = bind_check_type(L, -1, what);
    p.port[i] = (Port){name, bind_input(L, name, &type, scope)};
    bind_push_node(L, p.port[i].node);
    lua_setfield(L, table, name);
    lua_settop(L, table);
  }
  guard_inputs(L, table, p.port, p.n);
  return p;
}

/* The table of outputs at index i -> ports; pushes their memory. */
static Ports read_outputs(lua_State *L, int i) {
  if (!lua_istable(L, i))
    luaL_error(L, "fn: the body must return a table of named tensors, not %s", sandbox_tostring(L, i));
  lua_Integer n = sandbox_sorted_keys(L, i);
  int keys = lua_gettop(L);
  Ports p = push_ports(L, n);
  for (int k = 0; k < p.n; k++) {
    lua_rawgeti(L, keys, k + 1);
    p.port[k].name = bind_check_name(L, -1, "fn: outputs");
    lua_pushvalue(L, -1);
    lua_rawget(L, i);
    p.port[k].node = bind_test_tensor(L, -1);
    if (!p.port[k].node)
      luaL_error(L, "fn: output \"%s\" is %s, not a tensor", p.port[k].name, sandbox_tostring(L, -1));
    lua_pop(L, 2);
  }
  return p;
}

/* ---- updates ---- */

typedef struct PushUpdate {
  Trace *trace;
  Update update;
} PushUpdate;

/* The one that counts; NULL: there is none. */
static TraceUpdate *find_update(const Trace *t, const Node *target) {
  TraceUpdate *u = t->last;
  while (u && u->update.target != target) u = u->before;
  return u;
}

/* Whether y is computed from x. */
static bool depends_on(Graph *g, Node *y, const Node *x) {
  Port out = {"", y};
  Func view = {.name = "update", .graph = g, .out = &out, .n_out = 1, .loc = g->here};
  int n;
  Node **nodes = func_nodes(&view, &n);
  for (int i = 0; i < n; i++)
    if (nodes[i] == x) return true;
  return false;
}

/* A second update of one target must go on from the first: nothing is dropped in silence. */
static void *push_update(Graph *g, void *ctx) {
  const PushUpdate *p = ctx;
  Node *target = p->update.target, *value = p->update.value;
  char had[300], has[300];
  if (target->op != OP_PARAM && target->op != OP_STATE)
    return graph_error(g, NULL, "update: only params and states can be updated, not the result of %s",
                       op_info[target->op].text);
  if (!type_equal(&target->type, &value->type))
    return graph_error(g, NULL, "update of \"%s\": types differ: %s vs %s", target->attrs.leaf.name,
                       type_print(&target->type, had, sizeof had), type_print(&value->type, has, sizeof has));
  TraceUpdate *before = find_update(p->trace, target), *u = ARENA_NEW(g->arena, TraceUpdate);
  if (before && before->update.value != value && !(before->is_read && depends_on(g, value, before->update.value)))
    return graph_error(
        g, NULL, "\"%s\" is updated twice, and the second value does not go on from the first, which is updated(x)",
        target->attrs.leaf.name);
  *u = (TraceUpdate){p->update, false, p->trace->last};
  if (before) u->update.by_call &= before->update.by_call;
  p->trace->last = u;
  return target;
}

static void make_update(lua_State *L, Node *target, Node *value, bool is_shown) {
  const Tracing *now = bind_tracing(L);
  PushUpdate p = {now->trace, {target, value, now->calls > 0, is_shown}};
  if (!p.trace) luaL_error(L, "update: has a meaning only in the body of a function");
  sandbox_charge(L, (uint64_t)binding_of(L)->g->n_nodes);
  bind_graph(L, push_update, &p);
}

static int call_update(lua_State *L) {
  bool is_shown = bind_check_flag(L, 3, "update", "shown");
  make_update(L, bind_check_tensor(L, 1, "update"), bind_check_tensor(L, 2, "update"), is_shown);
  return 0;
}

/* What an error that is caught leaves of a function being made: the updates before what failed. */
static void *mark_updates(Sandbox *sb) {
  const Tracing *now = sb->context;
  return now && now->trace ? now->trace->last : NULL;
}

static void undo_updates(Sandbox *sb, void *mark) {
  const Tracing *now = sb->context;
  if (now && now->trace) now->trace->last = mark;
}

static int call_updated(lua_State *L) {
  Node *target = bind_check_tensor(L, 1, "updated");
  const Trace *t = bind_tracing(L)->trace;
  if (!t) return luaL_error(L, "updated: has a meaning only in the body of a function");
  TraceUpdate *u = find_update(t, target);
  if (u) u->is_read = true;
  bind_push_node(L, u ? u->update.value : target);
  return 1;
}

/* The list of pairs {target, value} at index i, or nil. */
static void make_updates(lua_State *L, int i) {
  if (lua_isnoneornil(L, i)) return;
  if (!lua_istable(L, i)) luaL_error(L, "fn: updates must be a list of pairs {target, value}");
  lua_Integer n = luaL_len(L, i);
  bind_check_fields(L, i, "fn: updates", NULL, 0, n > 100000 ? 0 : (int)n);
  for (lua_Integer k = 1; k <= n; k++) {
    bool is_pair = lua_geti(L, i, k) == LUA_TTABLE;
    if (is_pair) {
      lua_geti(L, -1, 1);
      lua_geti(L, -2, 2);
    }
    Node *target = is_pair ? bind_test_tensor(L, -2) : NULL, *value = is_pair ? bind_test_tensor(L, -1) : NULL;
    if (!target || !value) luaL_error(L, "fn: update %I is no pair {target, value}", (LUAI_UACINT)k);
    make_update(L, target, value, false);
    lua_pop(L, 3);
  }
}

/* ---- making a function ---- */

/* Inputs that a function has when it draws random numbers, without declaring them. */
static bool is_implicit(const Node *n) {
  return n->scope == 0 && (strcmp(n->attrs.leaf.name, PORT_SEED) == 0 || strcmp(n->attrs.leaf.name, PORT_STEP) == 0 ||
                           strcmp(n->attrs.leaf.name, PORT_EXAMPLE) == 0);
}

static bool has_port(const FnBody *f, const Node *n) {
  for (int k = 0; k < f->n_in; k++)
    if (f->in[k].node == n) return true;
  return false;
}

/* Every input that is reached must be the function's own, or becomes so. */
static bool take_inputs(Graph *g, FnBody *f) {
  Func view = {.name = "fn",
               .graph = g,
               .in = f->in,
               .n_in = f->n_in,
               .out = f->out,
               .n_out = f->n_out,
               .update = f->update,
               .n_update = f->n_update,
               .loc = f->loc};
  int n, cap = f->n_in;
  Node **nodes = func_nodes(&view, &n);
  for (int i = 0; i < n; i++) {
    if (nodes[i]->op != OP_INPUT || has_port(f, nodes[i])) continue;
    if (!is_implicit(nodes[i]))
      return graph_error(g, NULL, "fn: the body uses \"%s\", an input of another function", nodes[i]->attrs.leaf.name);
    Port port = {nodes[i]->attrs.leaf.name, nodes[i]};
    ARENA_PUSH(g->arena, f->in, f->n_in, cap, port);
  }
  return true;
}

static Port *keep_ports(Arena *a, const Port *p, int n) {
  Port *kept = arena_copy(a, p, (size_t)n * sizeof *p);
  for (int i = 0; i < n; i++) kept[i].name = arena_strdup(a, p[i].name);
  return kept;
}

/* A function and its updates, which are to be put into it. */
typedef struct NewFn {
  FnBody f;
  const Trace *made;
} NewFn;

static void put_update(FnBody *f, const Update *u) {
  int i = 0;
  while (i < f->n_update && f->update[i].target != u->target) i++;
  f->update[i] = *u;
  if (i == f->n_update) f->n_update++;
}

/* One of each target, the last, in the order of the first ones. */
static void keep_updates(Arena *a, const Trace *t, FnBody *f) {
  int n = 0;
  for (const TraceUpdate *u = t->last; u; u = u->before) n++;
  const TraceUpdate **all = ARENA_ARRAY(a, const TraceUpdate *, n + 1);
  f->update = ARENA_ARRAY(a, Update, n + 1);
  for (const TraceUpdate *u = t->last; u; u = u->before) all[--n] = u;
  for (; all[n]; n++) put_update(f, &all[n]->update);
}

static void *make_fn(Graph *g, void *ctx) {
  FnBody *f = ARENA_NEW(g->arena, FnBody);
  *f = ((NewFn *)ctx)->f;
  keep_updates(g->arena, ((NewFn *)ctx)->made, f);
  f->loc = g->here;
  f->in = keep_ports(g->arena, f->in, f->n_in);
  f->n_declared = f->n_in;
  f->out = keep_ports(g->arena, f->out, f->n_out);
  f->prefix = arena_strdup(g->arena, f->prefix);
  f->params = bind_params(g, f->out, f->n_out, NULL, 0);
  return take_inputs(g, f) ? f : NULL;
}

/* Traces the Lua function at index `body` on inputs of the types at index `types`. */
static const FnBody *trace(lua_State *L, int types, int body, const Tracing *around) {
  Trace made = {0};
  Tracing now = {.trace = &made, .scope = around->scope + 1, .prefix = around->prefix, .entry = around->entry};
  Ports in = make_inputs(L, types, around->scope);
  lua_pushvalue(L, body);
  lua_insert(L, -2);
  call_within(L, &now, 1, 2);
  int results = lua_gettop(L) - 1;
  Ports out = read_outputs(L, results);
  const void *before = sandbox_of(L)->context;
  sandbox_of(L)->context = &now;
  make_updates(L, results + 1);
  sandbox_of(L)->context = before;
  NewFn f = {{.in = in.port, .n_in = in.n, .out = out.port, .n_out = out.n, .prefix = around->prefix}, &made};
  if (!out.n && !made.last) luaL_error(L, "fn: the body returns nothing");
  sandbox_charge(L, (uint64_t)binding_of(L)->g->n_nodes);
  return bind_graph(L, make_fn, &f);
}

/* As user values, the function keeps its body and the types of its inputs. */
static int new_fn(lua_State *L) {
  lua_settop(L, 2);
  luaL_argexpected(L, lua_istable(L, 1), 1, "table of named types");
  luaL_checktype(L, 2, LUA_TFUNCTION);
  const FnBody *f = trace(L, 1, 2, bind_tracing(L));
  *(const FnBody **)lua_newuserdatauv(L, sizeof(FnBody *), 1) = f;
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, 1);
  luaL_setmetatable(L, BIND_FN);
  return 1;
}

/* ---- a function as a value ---- */

const FnBody *bind_check_fn(lua_State *L, int i, const char *what) {
  const FnBody **f = luaL_testudata(L, i, BIND_FN);
  if (!f) luaL_error(L, "%s: needs a function made by fn, not %s", what, sandbox_tostring(L, i));
  return *f;
}

static void push_types(lua_State *L, const Port *p, int n) {
  lua_createtable(L, 0, n);
  for (int i = 0; i < n; i++) {
    bind_push_type(L, &p[i].node->type);
    lua_setfield(L, -2, p[i].name);
  }
}

const FnBody *bind_trace_entry(lua_State *L, int i, const char *entry) {
  const FnBody *f = bind_check_fn(L, i, "train");
  i = lua_absindex(L, i);
  int top = lua_gettop(L);
  Tracing around = {.prefix = f->prefix, .entry = entry};
  push_types(L, f->in, f->n_declared);
  lua_getiuservalue(L, i, 1);
  const FnBody *made = trace(L, top + 1, top + 2, &around);
  bind_check_retrace(L, f, made->out, made->n_out, NULL, 0);
  lua_settop(L, top);
  return made;
}

/* Sizes that the declared type leaves open may be any: a batch of two halves is one. */
static bool fits(const Type *declared, const Type *given) {
  bool same = declared->dtype == given->dtype && declared->rank == given->rank;
  for (int i = 0; same && i < declared->rank; i++)
    same = !dim_is_const(declared->dim[i]) || dim_equal(declared->dim[i], given->dim[i]);
  return same;
}

/* The table of tensors at index 2, checked, as a table of its own that knows its names; and as ports, below it. */
static Ports push_arguments(lua_State *L, const FnBody *f) {
  Ports given = push_ports(L, f->n_declared);
  lua_createtable(L, 0, f->n_declared);
  int table = lua_gettop(L);
  for (int i = 0; i < f->n_declared; i++) {
    const Port *p = &f->in[i];
    char wants[300], has[300];
    lua_getfield(L, 2, p->name);
    Node *n = bind_test_tensor(L, -1);
    given.port[i] = (Port){p->name, n};
    if (!n || !fits(&p->node->type, &n->type))
      luaL_error(L, "fn: input \"%s\" needs %s, has %s", p->name, type_print(&p->node->type, wants, sizeof wants),
                 n ? type_print(&n->type, has, sizeof has) : lua_isnil(L, -1) ? "nothing" : sandbox_tostring(L, -1));
    lua_setfield(L, table, p->name);
  }
  lua_Integer n = sandbox_sorted_keys(L, 2);
  for (lua_Integer k = 1; k <= n; k++) {
    lua_rawgeti(L, -1, k);
    const char *name = sandbox_tostring(L, -1);
    bool known = false;
    for (int i = 0; i < f->n_declared && !known; i++) known = strcmp(name, f->in[i].name) == 0;
    if (!known) {
      push_names(L, f->in, f->n_declared);
      luaL_error(L, "fn: there is no input \"%s\"; the inputs are: %s", name, lua_tostring(L, -1));
    }
    lua_settop(L, table + 1);
  }
  lua_settop(L, table);
  guard_inputs(L, table, f->in, f->n_declared);
  return given;
}

static int call_fn(lua_State *L) {
  const FnBody *f = bind_check_fn(L, 1, "fn");
  lua_settop(L, 2);
  luaL_argexpected(L, lua_istable(L, 2), 2, "table of named tensors");
  Tracing now = *bind_tracing(L);
  now.prefix = f->prefix;
  now.calls++;
  Ports given = push_arguments(L, f);
  lua_getiuservalue(L, 1, 1);
  lua_insert(L, -2);
  call_within(L, &now, 1, 2);
  int results = lua_gettop(L) - 1;
  Ports out = read_outputs(L, results);
  bind_check_retrace(L, f, out.port, out.n, given.port, given.n);
  if (!lua_isnil(L, results + 1)) make_updates(L, results + 1);
  lua_settop(L, results);
  return 1;
}

static int fn_index(lua_State *L) {
  const FnBody *f = bind_check_fn(L, 1, "fn");
  const char *name = sandbox_tostring(L, 2);
  if (strcmp(name, "inputs") == 0) push_types(L, f->in, f->n_declared);
  else if (strcmp(name, "outputs") == 0) push_types(L, f->out, f->n_out);
  else return luaL_error(L, "fn: there is no field \"%s\"; the fields are: inputs, outputs", name);
  return 1;
}

static int call_is_training(lua_State *L) {
  lua_pushboolean(L, bind_tracing(L)->entry != NULL);
  return 1;
}

void binding_open_trace(lua_State *L) {
  static const luaL_Reg of_fn[] = {{"__call", call_fn}, {"__index", fn_index}, {NULL, NULL}};
  sandbox_of(L)->mark = mark_updates;
  sandbox_of(L)->undo = undo_updates;
  bind_new_kind(L, BIND_FN, of_fn);
  lua_register(L, "fn", new_fn);
  lua_register(L, "update", call_update);
  lua_register(L, "updated", call_updated);
  lua_register(L, "scope", call_scope);
  lua_register(L, "scoped", call_scoped);
  lua_register(L, "is_training", call_is_training);
  lua_settop(L, 0);
}
