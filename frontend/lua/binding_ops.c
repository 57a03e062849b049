/* Every op of ops.def as a Lua function of its text name, by one function over the op table, and the Lua operators.
 *
 *   op(operands..., attributes...)
 *
 * Elementwise ops broadcast by numpy's rules and take numbers, which become constants of the tensors' element type.
 * Attributes follow the operands: binding_attrs.c says how each kind is written. */
#include "frontend/lua/binding.h"

#include <string.h>

/* ---- broadcasting ---- */

static bool is_one(Dim d) { return dim_equal(d, dim_const(1)); }

/* The shape that x and *shape broadcast to, aligned at the last axis; false when an axis disagrees: *out_axis,
 * counted in the result. */
static bool join_shapes(Type *shape, const Type *x, int *out_axis) {
  Type wide = shape->rank >= x->rank ? *shape : *x;
  const Type *narrow = shape->rank >= x->rank ? x : shape;
  int extra = wide.rank - narrow->rank;
  for (int i = 0; i < narrow->rank; i++) {
    Dim *w = &wide.dim[i + extra], n = narrow->dim[i];
    if (dim_equal(*w, n) || is_one(n)) continue;
    if (!is_one(*w)) {
      *out_axis = i + extra;
      return false;
    }
    *w = n;
  }
  wide.dtype = shape->dtype;
  *shape = wide;
  return true;
}

static void *refuse_broadcast(Graph *g, const OpCall *c, const Type *shape, const Type *x, int axis) {
  char types[600] = "", text[200], tx[64], ty[64];
  size_t at = 0;
  int rank = shape->rank > x->rank ? shape->rank : x->rank;
  for (int i = 0; i < c->n && at < sizeof types; i++)
    at += (size_t)snprintf(types + at, sizeof types - at, "%s%s", i ? " x " : "",
                           c->in[i] ? type_print(&c->in[i]->type, text, sizeof text) : "number");
  return graph_error(g, NULL, "%s: shapes do not broadcast: %s (axis %d: %s vs %s)", c->text, types, axis,
                     bind_dim_text(shape->dim[axis - (rank - shape->rank)], tx),
                     bind_dim_text(x->dim[axis - (rank - x->rank)], ty));
}

/* Numbers take the element type of the first tensor operand that is not a condition. */
static DType number_dtype(const OpCall *c) {
  for (int i = c->op == OP_SELECT ? 1 : 0; i < c->n; i++)
    if (c->in[i]) return c->in[i]->type.dtype;
  return DTYPE_F32;
}

/* Makes all operands of an elementwise op tensors of one shape. */
static bool broadcast_operands(Graph *g, OpCall *c) {
  Type shape = {0};
  int axis;
  for (int i = 0; i < c->n; i++)
    if (c->in[i] && !join_shapes(&shape, &c->in[i]->type, &axis)) {
      refuse_broadcast(g, c, &shape, &c->in[i]->type, axis);
      return false;
    }
  shape.dtype = number_dtype(c);
  for (int i = 0; i < c->n; i++) {
    c->in[i] = c->in[i] ? graph_broadcast(g, c->in[i], &shape) : graph_fill(g, c->number[i], &shape);
    if (!c->in[i]) return false;
  }
  return true;
}

/* ---- calls ---- */

static void *build(Graph *g, void *ctx) {
  OpCall *c = ctx;
  if (op_info[c->op].class == CLASS_MAP && c->n > 1 && !broadcast_operands(g, c)) return NULL;
  if (c->op == OP_BROADCAST && c->in[0]) return graph_broadcast(g, c->in[0], &c->type);
  if (c->op == OP_RESHAPE && c->in[0]) return graph_reshape(g, c->in[0], &c->type);
  bool reduces = op_info[c->op].attrs == ATTR_axes && op_info[c->op].class != CLASS_MOVE;
  /* No axes: nothing to reduce. */
  Node *n = reduces && c->attrs.axes.axes == 0
                ? c->in[0]
                : graph_op(g, c->op, c->in, c->n, &c->attrs, c->has_type ? &c->type : NULL);
  if (n && reduces && c->keep) n = graph_insert_axes(g, n, (uint32_t)c->attrs.axes.axes);
  return n;
}

static void read_operand(lua_State *L, OpCall *c, int k, int arg) {
  bool may_be_number = op_info[c->op].class == CLASS_MAP && c->n > 1;
  c->in[k] = bind_test_tensor(L, arg);
  if (c->in[k]) return;
  if (may_be_number && lua_type(L, arg) == LUA_TNUMBER)
    c->number[k] = lua_tonumber(L, arg);
  else
    luaL_error(L, "%s: operand %d must be a tensor%s, not %s", c->text, k, may_be_number ? " or number" : "",
               lua_isnone(L, arg) ? "missing" : sandbox_tostring(L, arg));
}

/* Room for n operands, as userdata on the stack below the arguments' copies. */
static void make_room(lua_State *L, OpCall *c, int n) {
  c->n = n;
  c->in = lua_newuserdatauv(L, ((size_t)n + 1) * (sizeof *c->in + sizeof *c->number), 0);
  memset(c->in, 0, ((size_t)n + 1) * (sizeof *c->in + sizeof *c->number));
  c->number = (double *)(c->in + n + 1);
  lua_insert(L, 1);
}

/* concat takes its operands as a list or as leading arguments.  Returns where the attributes begin. */
static int read_list_operands(lua_State *L, OpCall *c) {
  if (lua_istable(L, 1)) {
    lua_Integer n = luaL_len(L, 1);
    if (n > 10000) luaL_error(L, "%s: too many operands", c->text);
    make_room(L, c, (int)n);
    for (int i = 0; i < c->n; i++) {
      lua_geti(L, 2, i + 1);
      if (!(c->in[i] = bind_test_tensor(L, -1)))
        luaL_error(L, "%s: entry %d of the list must be a tensor, not %s", c->text, i + 1, sandbox_tostring(L, -1));
      lua_pop(L, 1);
    }
    return 3;
  }
  int n = 0;
  while (bind_test_tensor(L, n + 1)) n++;
  make_room(L, c, n);
  for (int i = 0; i < n; i++) read_operand(L, c, i, i + 2);
  return n + 2;
}

static int read_operands(lua_State *L, OpCall *c) {
  int arity = op_info[c->op].arity;
  if (arity < 0) return read_list_operands(L, c);
  make_room(L, c, arity);
  bool any = arity == 0;
  for (int i = 0; i < arity; i++) {
    read_operand(L, c, i, i + 2);
    any = any || c->in[i];
  }
  if (!any) luaL_error(L, "%s: needs at least one tensor", c->text);
  return arity + 2;
}

/* Upvalue: the op. */
static int call_op(lua_State *L) {
  OpCall c = {.op = (Op)lua_tointeger(L, lua_upvalueindex(1))};
  c.text = op_info[c.op].text;
  if (c.op == OP_SHIFT && lua_gettop(L) >= 3) { /* shift(x, where, start) */
    lua_pushvalue(L, 2);
    lua_remove(L, 2);
  }
  int at = read_operands(L, &c);
  attr_readers[op_info[c.op].attrs](L, &c, at);
  bind_push_node(L, bind_graph(L, build, &c));
  return 1;
}

/* `select` is Lua's as well: with a tensor first it is the op.  Upvalues: the op, Lua's function. */
static int call_select(lua_State *L) {
  if (bind_test_tensor(L, 1)) return call_op(L);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

/* ---- operators ---- */

typedef struct Operator {
  const char *event, *text;
  Op op;
} Operator;
static const Operator operators[] = {{"__add", "+", OP_ADD}, {"__sub", "-", OP_SUB},   {"__mul", "*", OP_MUL},
                                     {"__div", "/", OP_DIV}, {"__idiv", "//", OP_DIV}, {"__mod", "%", OP_MOD},
                                     {"__unm", "-", OP_NEG}};

static void *floor_of(Graph *g, void *ctx) { return graph_unary(g, OP_FLOOR, ctx); }

/* Upvalue: place in operators.  The operands' arguments are 1 and 2 (Lua passes the one of "-x" twice). */
static int call_operator(lua_State *L) {
  const Operator *o = &operators[lua_tointeger(L, lua_upvalueindex(1))];
  OpCall c = {.op = o->op, .text = o->text};
  lua_settop(L, op_info[o->op].arity);
  read_operands(L, &c);
  bool is_float = dtype_is_float(number_dtype(&c)), rounds = strcmp(o->text, "//") == 0;
  if (o->op == OP_DIV && !rounds && !is_float)
    return luaL_error(L, "/: %s divides with //, which rounds down", dtype_name(number_dtype(&c)));
  Node *n = bind_graph(L, build, &c);
  if (rounds && is_float) n = bind_graph(L, floor_of, n);
  bind_push_node(L, n);
  return 1;
}

/* ---- registration ---- */

/* Leafs are declared by param, state and fn instead; grad takes a list (binding_fn.c); random numbers are drawn by type
 * (binding_random.c). */
void binding_open_ops(lua_State *L) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, "nuwa.ops");
  for (int op = 0; op < OP_COUNT; op++) {
    if (op_info[op].class == CLASS_LEAF || op_info[op].class == CLASS_GRADIENT || op_info[op].attrs == ATTR_random) continue;
    lua_pushinteger(L, op);
    if (op == OP_SELECT) lua_getglobal(L, "select");
    lua_pushcclosure(L, op == OP_SELECT ? call_select : call_op, op == OP_SELECT ? 2 : 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, op_info[op].text);
    lua_setglobal(L, op_info[op].text);
  }
  luaL_getmetatable(L, BIND_TENSOR);
  for (int i = 0; i < COUNT_OF(operators); i++) {
    lua_pushinteger(L, i);
    lua_pushcclosure(L, call_operator, 1);
    lua_setfield(L, -2, operators[i].event);
  }
  lua_settop(L, 0);
}
