/* What functions are made of and belong to: param and state declare what outlives a call; grad differentiates; decode and
 * module say what is generated and what the model offers.  fn itself: binding_trace.c.
 *
 *   param("name", f32(8, 8), { normal = 0.02 })    { uniform = half_width }, "zeros" (the default), "ones"
 *   state("name", f32(8, 8))                       zeros at first, written by updates; declared while an entry of the
 *                                                  module's `train` is made, it is that entry's own, ENTRY.name, unless
 *                                                  { shared = true }
 *   grad(loss, { x, y })                           a list in the same order
 *   parameters(loss, ..., "^decoder%.", ...)       the params that the tensors depend on but behind detach, by name;
 *                                                  with patterns, those whose name one of them finds */
#include "frontend/lua/binding.h"

#include <math.h>
#include <string.h>

#include "passes/passes.h"

/* ---- leafs ---- */

typedef struct Leaf {
  Op op;
  Attrs attrs;
  Type type;
} Leaf;

static void *make_leaf(Graph *g, void *ctx) {
  Leaf *l = ctx;
  return graph_op(g, l->op, NULL, 0, &l->attrs, &l->type);
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

static int declare_param(lua_State *L) {
  Leaf l = {.op = OP_PARAM};
  l.attrs.leaf.name = bind_check_name(L, 1, "param");
  l.type = bind_check_type(L, 2, "param");
  l.attrs.leaf.init = read_init(L, 3, l.attrs.leaf.name);
  bind_push_node(L, bind_graph(L, make_leaf, &l));
  return 1;
}

/* What is kept from step to step cannot grow with the batch. */
static void check_kept(lua_State *L, const Leaf *l) {
  char text[300];
  for (int i = 0; i < l->type.rank; i++)
    if (!dim_is_const(l->type.dim[i]))
      luaL_error(L, "state: \"%s\" needs a constant shape, not %s: it is kept from step to step, whatever the batch",
                 l->attrs.leaf.name, type_print(&l->type, text, sizeof text));
}

static int declare_state(lua_State *L) {
  const Tracing *t = bind_tracing(L);
  Leaf l = {.op = OP_STATE, .type = bind_check_type(L, 2, "state")};
  l.attrs.leaf.name = bind_check_name(L, 1, "state");
  check_kept(L, &l);
  bool is_shared = bind_check_flag(L, 3, "state", "shared");
  if (t->entry && !is_shared)
    l.attrs.leaf.name = lua_pushfstring(L, "%s.%s", t->entry, l.attrs.leaf.name);
  bind_push_node(L, bind_graph(L, make_leaf, &l));
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

/* What gradients of the tensors can reach. */
static void *find_reached(Graph *g, void *ctx) {
  Reached *r = ctx;
  Func view = {.name = "parameters", .graph = g, .out = r->out, .n_out = r->n_out, .loc = g->here};
  int n;
  Node **all = func_nodes(&view, &n);
  bool *reached = ARENA_ARRAY(g->arena, bool, g->n_nodes);
  r->nodes = ARENA_ARRAY(g->arena, Node *, n);
  for (int i = 0; i < r->n_out; i++) reached[r->out[i].node->id] = true;
  for (int i = n - 1; i >= 0; i--) {
    if (!reached[all[i]->id]) continue;
    r->nodes[r->n++] = all[i];
    for (int k = 0; all[i]->op != OP_DETACH && k < all[i]->n_in; k++) reached[all[i]->in[k]->id] = true;
  }
  return r;
}

/* Whether string.find finds one of the patterns at indices [first, last] in a name; no patterns: always. */
static bool is_chosen(lua_State *L, const char *name, int first, int last) {
  bool found = first > last;
  for (int i = first; i <= last && !found; i++) {
    lua_getglobal(L, "string");
    lua_getfield(L, -1, "find");
    lua_pushstring(L, name);
    lua_pushvalue(L, i);
    lua_call(L, 2, 1);
    found = !lua_isnil(L, -1);
    lua_pop(L, 2);
  }
  return found;
}

/* A pattern that finds nothing is a mistake, also beside one that finds something. */
static void check_pattern(lua_State *L, const Reached *r, int pattern) {
  int i = 0;
  while (i < r->n && (r->nodes[i]->op != OP_PARAM || !is_chosen(L, r->nodes[i]->attrs.leaf.name, pattern, pattern))) i++;
  if (i < r->n) return;
  luaL_Buffer b;
  int shown = 0;
  luaL_buffinit(L, &b);
  for (int k = 0; k < r->n && shown < 8; k++) {
    if (r->nodes[k]->op != OP_PARAM) continue;
    luaL_addstring(&b, shown++ ? ", " : "");
    luaL_addstring(&b, r->nodes[k]->attrs.leaf.name);
  }
  luaL_pushresult(&b);
  luaL_error(L, "parameters: no param has a name that \"%s\" finds; there are: %s", lua_tostring(L, pattern),
             shown ? lua_tostring(L, -1) : "none");
}

static int call_parameters(lua_State *L) {
  int last = lua_gettop(L), n = last;
  while (n > 0 && lua_type(L, n) == LUA_TSTRING) n--;
  Port *port = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *port, 0);
  for (int i = 0; i < n; i++) port[i] = (Port){"", bind_check_tensor(L, i + 1, "parameters")};
  sandbox_charge(L, (uint64_t)binding_of(L)->g->n_nodes);
  Reached r = {.out = port, .n_out = n};
  bind_graph(L, find_reached, &r);
  lua_newtable(L);
  int by_name = lua_gettop(L);
  for (int i = 0; i < r.n; i++) {
    if (r.nodes[i]->op != OP_PARAM || !is_chosen(L, r.nodes[i]->attrs.leaf.name, n + 1, last)) continue;
    bind_push_node(L, r.nodes[i]);
    lua_setfield(L, by_name, r.nodes[i]->attrs.leaf.name);
  }
  lua_Integer found = sandbox_sorted_keys(L, by_name);
  for (int i = n + 1; i <= last; i++) check_pattern(L, &r, i);
  for (lua_Integer i = 1; i <= found; i++) { /* keys -> tensors */
    lua_rawgeti(L, -1, i);
    lua_rawget(L, by_name);
    lua_rawseti(L, -2, i);
  }
  return 1;
}

/* ---- decode, module ---- */

static Node *port_named(const Port *p, int n, const char *name) {
  for (int i = 0; i < n; i++)
    if (strcmp(p[i].name, name) == 0) return p[i].node;
  return NULL;
}

/* A stop ends a line of words; of rows and columns nobody knows what is after it. */
static bool check_stop(Graph *g, const DecodeSpec *d, const Node *tokens, const Node *logits) {
  const Dim *last = &tokens->type.dim[tokens->type.rank - 1], classes = logits->type.dim[logits->type.rank - 1];
  char text[300];
  if (!d->has_stop) return true;
  if (!dim_equal(last[0], dim_const(1)) || !dim_equal(last[-1], dim_const(1)))
    return graph_error(g, NULL, "decode: stop is for grids with h = w = 1, not %s",
                       type_print(&tokens->type, text, sizeof text)) != NULL;
  return (d->stop >= 0 && d->stop < classes.c) ||
         graph_error(g, NULL, "decode: stop = %lld is no token: there are 0 to %lld", (long long)d->stop,
                     (long long)classes.c - 1) != NULL;
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
  if (fits) return check_stop(g, d, t, l) ? d : NULL;
  return graph_error(g, NULL, "decode: tokens must be i32[b?, s, h, w] and logits f32[b?, s, h, w, classes]: %s x %s",
                     type_print(&t->type, tt, sizeof tt), type_print(&l->type, tl, sizeof tl));
}

static int new_decode(lua_State *L) {
  static const char *const known[] = {"tokens", "logits", "stop"};
  DecodeSpec d = {.fn = bind_check_fn(L, 1, "decode")};
  luaL_argexpected(L, lua_istable(L, 2), 2, "table { tokens = NAME, logits = NAME }");
  bind_check_fields(L, 2, "decode", known, COUNT_OF(known), 0);
  lua_getfield(L, 2, "tokens");
  lua_getfield(L, 2, "logits");
  d.tokens = bind_check_name(L, -2, "decode: tokens");
  d.logits = bind_check_name(L, -1, "decode: logits");
  if ((d.has_stop = lua_getfield(L, 2, "stop") != LUA_TNIL)) {
    if (!lua_isinteger(L, -1)) luaL_error(L, "decode: stop must be a token, a whole number, not %s", sandbox_tostring(L, -1));
    d.stop = lua_tointeger(L, -1);
  }
  lua_pop(L, 1);
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
  bind_new_kind(L, BIND_DECODE, none);
  bind_new_kind(L, BIND_MODULE, of_module);
  lua_register(L, "param", declare_param);
  lua_register(L, "state", declare_state);
  lua_register(L, "grad", call_grad);
  lua_register(L, "parameters", call_parameters);
  lua_register(L, "decode", new_decode);
  lua_register(L, "module", new_module);
  lua_settop(L, 0);
}
