/* Functions of a model: fn traces its body once, at once; param and state declare what outlives a call; grad
 * differentiates; decode and module say what is generated and what the model offers.
 *
 *   fn({ x = f32(batch, 8), ... }, function(x) return { y = ... } end)
 *   fn(inputs, function(x) return outputs, { { w, w - 0.1 * g }, ... } end)      with updates {target, value}
 *   param("name", f32(8, 8), { normal = 0.02 })    { uniform = half_width }, "zeros" (the default), "ones"
 *   state("name", f32(8, 8))                       zeros at first, written by updates
 *   grad(loss, { x, y })                           a list in the same order
 *   parameters(loss, ...)                          the params that the tensors depend on, sorted by name */
#include "frontend/lua/binding.h"

#include <math.h>
#include <string.h>

#include "passes/passes.h"

/* ---- leafs ---- */

typedef struct Leaf {
  Op op;
  Attrs attrs;
  Type type;
  int scope;
} Leaf;

static void *make_leaf(Graph *g, void *ctx) {
  Leaf *l = ctx;
  return graph_op(g, l->op, NULL, 0, &l->attrs, &l->type);
}

static const char *check_name(lua_State *L, int i, const char *what) {
  size_t len;
  if (lua_type(L, i) != LUA_TSTRING) luaL_error(L, "%s: needs a name, not %s", what, sandbox_tostring(L, i));
  const char *name = lua_tolstring(L, i, &len);
  if (!len || strlen(name) != len) luaL_error(L, "%s: the name is empty or holds a zero", what);
  return name;
}

static ParamInit read_init(lua_State *L, int i, const char *name) {
  static const char wrong[] =
      "param: \"%s\": init must be \"zeros\", \"ones\", { normal = s } or { uniform = s }, not %s";
  static const char *const known[] = {"normal", "uniform"};
  if (lua_isnoneornil(L, i)) return (ParamInit){INIT_ZEROS, 0};
  if (lua_type(L, i) == LUA_TSTRING) {
    if (strcmp(lua_tostring(L, i), "zeros") == 0) return (ParamInit){INIT_ZEROS, 0};
    if (strcmp(lua_tostring(L, i), "ones") == 0) return (ParamInit){INIT_ONES, 0};
  }
  if (!lua_istable(L, i)) luaL_error(L, wrong, name, sandbox_tostring(L, i));
  bind_check_fields(L, i, "param: init", known, 2, 0);
  bool normal = lua_getfield(L, i, "normal") != LUA_TNIL, uniform = lua_getfield(L, i, "uniform") != LUA_TNIL;
  int at = normal ? -2 : -1;
  if (normal == uniform || lua_type(L, at) != LUA_TNUMBER) luaL_error(L, wrong, name, "this table");
  ParamInit init = {normal ? INIT_NORMAL : INIT_UNIFORM, lua_tonumber(L, at)};
  lua_pop(L, 2);
  return init;
}

/* An input of a function that is traced inside of `scope` others: functions beside each other share inputs of one name
 * and type, and what they compute from them. */
static void *make_input(Graph *g, void *ctx) {
  const Leaf *l = ctx;
  g->scope = l->scope;
  Node *n = make_leaf(g, ctx);
  g->scope = 0;
  return n;
}

static int declare_param(lua_State *L) {
  Leaf l = {.op = OP_PARAM};
  l.attrs.leaf.name = check_name(L, 1, "param");
  l.type = bind_check_type(L, 2, "param");
  l.attrs.leaf.init = read_init(L, 3, l.attrs.leaf.name);
  bind_push_node(L, bind_graph(L, make_leaf, &l));
  return 1;
}

static int declare_state(lua_State *L) {
  Leaf l = {.op = OP_STATE};
  l.attrs.leaf.name = check_name(L, 1, "state");
  l.type = bind_check_type(L, 2, "state");
  bind_push_node(L, bind_graph(L, make_leaf, &l));
  return 1;
}

/* ---- fn ---- */

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

/* fn's table of inputs knows its names.  Upvalue: the list of them as text. */
static int no_such_input(lua_State *L) {
  return luaL_error(L, "fn: there is no input \"%s\"; the inputs are: %s", sandbox_tostring(L, 2),
                    lua_tostring(L, lua_upvalueindex(1)));
}

static void guard_inputs(lua_State *L, int table, const Ports *p) {
  luaL_Buffer b;
  lua_createtable(L, 0, 2);
  luaL_buffinit(L, &b);
  for (int i = 0; i < p->n; i++) {
    luaL_addstring(&b, i ? ", " : "");
    luaL_addstring(&b, p->port[i].name);
  }
  luaL_pushresult(&b);
  lua_pushcclosure(L, no_such_input, 1);
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, table);
}

/* The table of types at index 1 -> INPUT nodes in name order; pushes the list's memory and the table of tensors. */
static Ports make_inputs(lua_State *L) {
  luaL_argexpected(L, lua_istable(L, 1), 1, "table of named types");
  lua_Integer n = sandbox_sorted_keys(L, 1);
  int keys = lua_gettop(L);
  Ports p = push_ports(L, n);
  int scope = sandbox_of(L)->nesting;
  lua_newtable(L);
  int table = lua_gettop(L);
  for (int i = 0; i < p.n; i++) {
    lua_rawgeti(L, keys, i + 1);
    Leaf l = {.op = OP_INPUT, .scope = scope};
    l.attrs.leaf.name = check_name(L, -1, "fn: inputs");
    lua_pushvalue(L, -1);
    lua_rawget(L, 1);
    char what[200];
    snprintf(what, sizeof what, "fn: input \"%.150s\"", l.attrs.leaf.name);
    l.type = bind_check_type(L, -1, what);
    p.port[i] = (Port){l.attrs.leaf.name, bind_graph(L, make_input, &l)};
    bind_push_node(L, p.port[i].node);
    lua_setfield(L, table, l.attrs.leaf.name);
    lua_settop(L, table);
  }
  guard_inputs(L, table, &p);
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
    p.port[k].name = check_name(L, -1, "fn: outputs");
    lua_pushvalue(L, -1);
    lua_rawget(L, i);
    p.port[k].node = bind_test_tensor(L, -1);
    if (!p.port[k].node)
      luaL_error(L, "fn: output \"%s\" is %s, not a tensor", p.port[k].name, sandbox_tostring(L, -1));
    lua_pop(L, 2);
  }
  return p;
}

/* The list of updates at index i (or nil); pushes their memory. */
static Update *read_updates(lua_State *L, int i, int *out_n) {
  lua_Integer n = 0;
  if (!lua_isnoneornil(L, i)) {
    if (!lua_istable(L, i)) luaL_error(L, "fn: updates must be a list of pairs {target, value}");
    n = luaL_len(L, i);
    bind_check_fields(L, i, "fn: updates", NULL, 0, n > 100000 ? 0 : (int)n);
  }
  Update *u = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *u, 0);
  for (int k = 0; k < n; k++) {
    if (lua_geti(L, i, k + 1) != LUA_TTABLE) luaL_error(L, "fn: update %d is no pair {target, value}", k + 1);
    lua_geti(L, -1, 1);
    lua_geti(L, -2, 2);
    u[k] = (Update){bind_test_tensor(L, -2), bind_test_tensor(L, -1)};
    if (!u[k].target || !u[k].value) luaL_error(L, "fn: update %d is no pair {target, value}", k + 1);
    lua_pop(L, 3);
  }
  *out_n = (int)n;
  return u;
}

static bool check_update(Graph *g, const FnBody *f, int k) {
  const Update *u = &f->update[k];
  char had[300], has[300];
  if (u->target->op != OP_PARAM && u->target->op != OP_STATE)
    return graph_error(g, NULL, "fn: update %d: only params and states can be updated, not the result of %s", k + 1,
                       op_info[u->target->op].text);
  if (!type_equal(&u->target->type, &u->value->type))
    return graph_error(g, NULL, "fn: update of \"%s\": types differ: %s vs %s", u->target->attrs.leaf.name,
                       type_print(&u->target->type, had, sizeof had), type_print(&u->value->type, has, sizeof has));
  for (int i = 0; i < k; i++)
    if (f->update[i].target == u->target)
      return graph_error(g, NULL, "fn: \"%s\" is updated twice", u->target->attrs.leaf.name);
  return true;
}

/* Every input that is reached must be the function's own. */
static bool check_reach(Graph *g, const FnBody *f) {
  Func view = {.name = "fn",
               .graph = g,
               .in = f->in,
               .n_in = f->n_in,
               .out = f->out,
               .n_out = f->n_out,
               .update = f->update,
               .n_update = f->n_update,
               .loc = f->loc};
  int n;
  Node **nodes = func_nodes(&view, &n);
  for (int i = 0; i < n; i++) {
    bool own = nodes[i]->op != OP_INPUT;
    for (int k = 0; k < f->n_in && !own; k++) own = f->in[k].node == nodes[i];
    if (!own)
      return graph_error(g, NULL, "fn: the body uses \"%s\", an input of another function",
                         nodes[i]->attrs.leaf.name);
  }
  return true;
}

static Port *keep_ports(Arena *a, const Port *p, int n) {
  Port *kept = arena_copy(a, p, (size_t)n * sizeof *p);
  for (int i = 0; i < n; i++) kept[i].name = arena_strdup(a, p[i].name);
  return kept;
}

static void *make_fn(Graph *g, void *ctx) {
  FnBody *f = ARENA_NEW(g->arena, FnBody);
  *f = *(FnBody *)ctx;
  f->loc = g->here;
  f->in = keep_ports(g->arena, f->in, f->n_in);
  f->out = keep_ports(g->arena, f->out, f->n_out);
  f->update = arena_copy(g->arena, f->update, (size_t)f->n_update * sizeof *f->update);
  for (int i = 0; i < f->n_update; i++)
    if (!check_update(g, f, i)) return NULL;
  return check_reach(g, f) ? f : NULL;
}

static int new_fn(lua_State *L) {
  lua_settop(L, 2);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  Ports in = make_inputs(L);
  lua_pushvalue(L, 2);
  lua_insert(L, -2);
  sandbox_of(L)->nesting++;
  lua_call(L, 1, 2);
  sandbox_of(L)->nesting--;
  int results = lua_gettop(L) - 1;
  Ports out = read_outputs(L, results);
  FnBody f = {.in = in.port, .n_in = in.n, .out = out.port, .n_out = out.n};
  f.update = read_updates(L, results + 1, &f.n_update);
  if (!f.n_out && !f.n_update) return luaL_error(L, "fn: the body returns nothing");
  sandbox_charge(L, (uint64_t)binding_of(L)->g->n_nodes);
  *(const FnBody **)lua_newuserdatauv(L, sizeof(FnBody *), 0) = bind_graph(L, make_fn, &f);
  luaL_setmetatable(L, BIND_FN);
  return 1;
}

/* ---- grad, parameters ---- */

typedef struct Grad {
  Node *y, **wrt, **out;
  int n;
} Grad;

static void *make_grad(Graph *g, void *ctx) {
  Grad *d = ctx;
  char text[300];
  if (d->y->type.rank != 0)
    return graph_error(g, NULL, "grad: needs a scalar, has %s", type_print(&d->y->type, text, sizeof text));
  if (!grad_check(g, d->y, d->wrt, d->n)) return NULL;
  for (int i = 0; i < d->n; i++) {
    Node *in[] = {d->y, d->wrt[i]};
    if (!(d->out[i] = graph_op(g, OP_GRAD, in, 2, NULL, NULL))) return NULL;
  }
  return d;
}

static int call_grad(lua_State *L) {
  Grad d = {.y = bind_check_tensor(L, 1, "grad")};
  luaL_argexpected(L, lua_istable(L, 2), 2, "list of tensors");
  lua_Integer n = luaL_len(L, 2);
  if (n < 0 || n > 100000) return luaL_error(L, "grad: %I tensors are too many", (LUAI_UACINT)n);
  bind_check_fields(L, 2, "grad", NULL, 0, (int)n);
  d.n = (int)n;
  d.wrt = lua_newuserdatauv(L, ((size_t)n + 1) * 2 * sizeof *d.wrt, 0);
  d.out = d.wrt + n;
  for (int i = 0; i < d.n; i++) {
    lua_geti(L, 2, i + 1);
    d.wrt[i] = bind_test_tensor(L, -1);
    if (!d.wrt[i])
      return luaL_error(L, "grad: entry %d of the list is %s, not a tensor", i + 1, sandbox_tostring(L, -1));
    lua_pop(L, 1);
  }
  sandbox_charge(L, (uint64_t)binding_of(L)->g->n_nodes);
  bind_graph(L, make_grad, &d);
  lua_createtable(L, d.n, 0);
  for (int i = 0; i < d.n; i++) {
    bind_push_node(L, d.out[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

typedef struct Reached {
  Port *out;
  int n_out;
  Node **nodes;
  int n;
} Reached;

static void *find_reached(Graph *g, void *ctx) {
  Reached *r = ctx;
  Func view = {.name = "parameters", .graph = g, .out = r->out, .n_out = r->n_out, .loc = g->here};
  r->nodes = func_nodes(&view, &r->n);
  return r;
}

static int call_parameters(lua_State *L) {
  int n = lua_gettop(L);
  Ports p = push_ports(L, n);
  for (int i = 0; i < n; i++) p.port[i] = (Port){"", bind_check_tensor(L, i + 1, "parameters")};
  sandbox_charge(L, (uint64_t)binding_of(L)->g->n_nodes);
  Reached r = {.out = p.port, .n_out = n};
  bind_graph(L, find_reached, &r);
  lua_newtable(L);
  int by_name = lua_gettop(L);
  for (int i = 0; i < r.n; i++) {
    if (r.nodes[i]->op != OP_PARAM) continue;
    bind_push_node(L, r.nodes[i]);
    lua_setfield(L, by_name, r.nodes[i]->attrs.leaf.name);
  }
  lua_Integer found = sandbox_sorted_keys(L, by_name);
  for (lua_Integer i = 1; i <= found; i++) { /* keys -> tensors */
    lua_rawgeti(L, -1, i);
    lua_rawget(L, by_name);
    lua_rawseti(L, -2, i);
  }
  return 1;
}

/* ---- decode, module ---- */

static const FnBody *check_fn(lua_State *L, int i, const char *what) {
  const FnBody **f = luaL_testudata(L, i, BIND_FN);
  if (!f) luaL_error(L, "%s: needs a function made by fn, not %s", what, sandbox_tostring(L, i));
  return *f;
}

static Node *port_named(const Port *p, int n, const char *name) {
  for (int i = 0; i < n; i++)
    if (strcmp(p[i].name, name) == 0) return p[i].node;
  return NULL;
}

static void *make_decode(Graph *g, void *ctx) {
  DecodeSpec *d = ARENA_NEW(g->arena, DecodeSpec);
  *d = *(DecodeSpec *)ctx;
  d->tokens = arena_strdup(g->arena, d->tokens);
  d->logits = arena_strdup(g->arena, d->logits);
  const Node *t = port_named(d->fn->in, d->fn->n_in, d->tokens), *l = port_named(d->fn->out, d->fn->n_out, d->logits);
  char tt[300], tl[300];
  if (!t) return graph_error(g, NULL, "decode: the function has no input \"%s\"", d->tokens);
  if (!l) return graph_error(g, NULL, "decode: the function has no output \"%s\"", d->logits);
  Type places = l->type;
  places.rank--;
  bool fits = t->type.dtype == DTYPE_I32 && (t->type.rank == 3 || t->type.rank == 4) &&
              dtype_is_float(l->type.dtype) && l->type.rank == t->type.rank + 1 && type_same_shape(&places, &t->type);
  if (fits) return d;
  return graph_error(g, NULL, "decode: tokens must be i32[b?, s, h, w] and logits f32[b?, s, h, w, classes]: %s x %s",
                     type_print(&t->type, tt, sizeof tt), type_print(&l->type, tl, sizeof tl));
}

static int new_decode(lua_State *L) {
  static const char *const known[] = {"tokens", "logits"};
  DecodeSpec d = {.fn = check_fn(L, 1, "decode")};
  luaL_argexpected(L, lua_istable(L, 2), 2, "table { tokens = NAME, logits = NAME }");
  bind_check_fields(L, 2, "decode", known, 2, 0);
  lua_getfield(L, 2, "tokens");
  lua_getfield(L, 2, "logits");
  d.tokens = check_name(L, -2, "decode: tokens");
  d.logits = check_name(L, -1, "decode: logits");
  *(const DecodeSpec **)lua_newuserdatauv(L, sizeof(DecodeSpec *), 0) = bind_graph(L, make_decode, &d);
  luaL_setmetatable(L, BIND_DECODE);
  return 1;
}

/* Its fields stay readable: m.encode gives what stands there. */
static int module_index(lua_State *L) {
  lua_getiuservalue(L, 1, 1);
  lua_pushvalue(L, 2);
  lua_rawget(L, -2);
  return 1;
}

static int module_pairs(lua_State *L) {
  lua_getglobal(L, "pairs");
  lua_getiuservalue(L, 1, 1);
  lua_call(L, 1, 3);
  return 3;
}

static int new_module(lua_State *L) {
  luaL_argexpected(L, lua_istable(L, 1), 1, "table of functions");
  lua_newuserdatauv(L, 1, 1);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  luaL_setmetatable(L, BIND_MODULE);
  return 1;
}

void binding_open_functions(lua_State *L) {
  static const luaL_Reg none[] = {{NULL, NULL}};
  static const luaL_Reg of_module[] = {{"__index", module_index}, {"__pairs", module_pairs}, {NULL, NULL}};
  bind_new_kind(L, BIND_FN, none);
  bind_new_kind(L, BIND_DECODE, none);
  bind_new_kind(L, BIND_MODULE, of_module);
  lua_register(L, "fn", new_fn);
  lua_register(L, "param", declare_param);
  lua_register(L, "state", declare_state);
  lua_register(L, "grad", call_grad);
  lua_register(L, "parameters", call_parameters);
  lua_register(L, "decode", new_decode);
  lua_register(L, "module", new_module);
  lua_settop(L, 0);
}
