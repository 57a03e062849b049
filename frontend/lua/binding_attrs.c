/* How attributes are written in Lua, one reader for each kind of attrs.def.  `at` is the first argument behind the
 * operands.
 *
 *   axes     sum(x), sum(x, -1), sum(x, {0, 1}), sum(x, {0, 1, keep = true}), sum(x, -1, {keep = true})
 *   axis     concat({x, y}, -1), argmax(x), argmax(x, 0), iota(i32(4, 8), 1)
 *   fill     fill(0.5, f32(4, 8))
 *   cast     cast(x, f32), cast(x, "f32")
 *   shape    reshape(x, 4, -1), reshape(x, {4, -1}), broadcast(x, {4, 8})
 *   perm     transpose(x) swaps the last two axes; transpose(x, 0, 2, 1), transpose(x, {0, 2, 1})
 *   slice    slice(x, axis, start, stop, step) with negative places from the end, stop and step optional;
 *            slice(x, {start = {...}, stop = {...}, step = {...}}) with one entry an axis
 *   pad      pad(x, {lo = {...}, hi = {...}, interior = {...}, value = 0}) with one entry an axis
 *   matmul   matmul(a, b, {trans_a = true, trans_b = true})
 *   conv     conv2d(x, w, {stride = 2}), conv2d_grad_w(x, dy, {stride = 1, kh = 3, kw = 3})
 *   scatter  scatter_add(index, x, rows)
 *   norm     layer_norm(x, gain, bias, {eps = 1e-5}), group_norm(x, gain, bias, {groups = 32, eps = 1e-6})
 *   shift, attend: binding_attend.c */
#include "frontend/lua/binding.h"

#include <string.h>

/* No arguments from index i on. */
static void check_end(lua_State *L, const OpCall *c, int i) {
  if (lua_gettop(L) >= i) luaL_error(L, "%s: unexpected argument %s", c->text, sandbox_tostring(L, i));
}

/* The options table at index i, if any; raises an error for unknown fields. */
static bool options_table(lua_State *L, const OpCall *c, int i, const char *const *known, int n_known) {
  if (lua_isnoneornil(L, i)) return false;
  if (!lua_istable(L, i)) luaL_error(L, "%s: needs a table of options, not %s", c->text, sandbox_tostring(L, i));
  check_end(L, c, i + 1);
  bind_check_fields(L, i, c->text, known, n_known, 0);
  return true;
}

static int64_t integer_field(lua_State *L, const OpCall *c, int i, const char *name, int64_t otherwise) {
  int64_t v = otherwise;
  if (lua_getfield(L, i, name) != LUA_TNIL) v = bind_check_integer(L, -1, c->text, name);
  lua_pop(L, 1);
  return v;
}

static double number_field(lua_State *L, const OpCall *c, int i, const char *name, double otherwise) {
  double v = otherwise;
  int kind = lua_getfield(L, i, name);
  if (kind == LUA_TNUMBER)
    v = lua_tonumber(L, -1);
  else if (kind != LUA_TNIL)
    luaL_error(L, "%s: %s must be a number, not %s", c->text, name, sandbox_tostring(L, -1));
  lua_pop(L, 1);
  return v;
}

static bool flag_field(lua_State *L, const OpCall *c, int i, const char *name) {
  int kind = lua_getfield(L, i, name);
  if (kind != LUA_TNIL && kind != LUA_TBOOLEAN)
    luaL_error(L, "%s: %s must be true or false, not %s", c->text, name, sandbox_tostring(L, -1));
  bool v = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return v;
}

int bind_check_axis(lua_State *L, int i, const char *op, int rank) {
  lua_Integer axis = bind_check_integer(L, i, op, "an axis");
  if (axis < -rank || axis >= rank)
    luaL_error(L, "%s: there is no axis %I in rank %d (axes are counted from 0, or from the end with -1)", op,
               (LUAI_UACINT)axis, rank);
  return (int)(axis < 0 ? axis + rank : axis);
}

static int axis_of(lua_State *L, const OpCall *c, int i, const Type *x) {
  lua_Integer axis = bind_check_integer(L, i, c->text, "the axis");
  char text[200];
  if (axis < -x->rank || axis >= x->rank)
    luaL_error(L, "%s: there is no axis %I in %s (axes are counted from 0, or from the end with -1)", c->text,
               (LUAI_UACINT)axis, type_print(x, text, sizeof text));
  return (int)(axis < 0 ? axis + x->rank : axis);
}

/* ---- readers ---- */

static void read_none(lua_State *L, OpCall *c, int at) {
  if (c->op == OP_RESHAPE || c->op == OP_BROADCAST) {
    c->type = bind_check_shape(L, at, c->text, c->op == OP_RESHAPE ? &c->in[0]->type : NULL);
    c->has_type = true;
  } else {
    check_end(L, c, at);
  }
}

static void read_fill(lua_State *L, OpCall *c, int at) {
  if (lua_type(L, at) != LUA_TNUMBER) luaL_error(L, "%s: needs a number, not %s", c->text, sandbox_tostring(L, at));
  c->attrs.fill.value = lua_tonumber(L, at);
  c->type = bind_check_type(L, at + 1, c->text);
  c->has_type = true;
  check_end(L, c, at + 2);
}

static void read_axis(lua_State *L, OpCall *c, int at) {
  if (c->op == OP_IOTA) {
    c->type = bind_check_type(L, at++, c->text);
    c->has_type = true;
  }
  const Type *x = c->has_type ? &c->type : c->n ? &c->in[0]->type : NULL;
  if (!x) luaL_error(L, "%s: needs at least one tensor", c->text);
  if (lua_isnoneornil(L, at) && x->rank)
    c->attrs.axis.axis = x->rank - 1;
  else
    c->attrs.axis.axis = axis_of(L, c, at, x);
  check_end(L, c, at + 1);
}

static void read_axes(lua_State *L, OpCall *c, int at) {
  static const char *const known[] = {"keep"};
  const Type *x = &c->in[0]->type;
  int64_t all = ((int64_t)1 << x->rank) - 1;
  if (lua_istable(L, at)) {
    lua_Integer n = luaL_len(L, at);
    bind_check_fields(L, at, c->text, known, 1, MAX_RANK);
    for (lua_Integer i = 1; i <= n; i++) {
      lua_geti(L, at, i);
      int64_t bit = (int64_t)1 << axis_of(L, c, -1, x);
      if (c->attrs.axes.axes & bit)
        luaL_error(L, "%s: axis %I is listed twice", c->text, (LUAI_UACINT)lua_tointeger(L, -1));
      c->attrs.axes.axes |= bit;
      lua_pop(L, 1);
    }
    c->keep = flag_field(L, c, at, "keep");
    if (n == 0) c->attrs.axes.axes = all;
  } else {
    c->attrs.axes.axes = lua_isnoneornil(L, at) ? all : (int64_t)1 << axis_of(L, c, at, x);
  }
  if (options_table(L, c, at + 1, known, 1)) c->keep = flag_field(L, c, at + 1, "keep");
}

static void read_cast(lua_State *L, OpCall *c, int at) {
  c->attrs.cast.dtype = bind_check_dtype(L, at, c->text);
  c->type = c->in[0]->type;
  c->type.dtype = c->attrs.cast.dtype;
  c->has_type = true;
  check_end(L, c, at + 1);
}

static void read_perm(lua_State *L, OpCall *c, int at) {
  const Type *x = &c->in[0]->type;
  int64_t *perm = c->attrs.perm.perm;
  if (lua_isnoneornil(L, at)) {
    if (x->rank < 2) luaL_error(L, "%s: a tensor of rank %d has no two axes to swap", c->text, x->rank);
    for (int i = 0; i < x->rank; i++) perm[i] = i;
    perm[x->rank - 2] = x->rank - 1;
    perm[x->rank - 1] = x->rank - 2;
    return;
  }
  bool is_list = lua_istable(L, at);
  lua_Integer n = is_list ? luaL_len(L, at) : lua_gettop(L) - at + 1;
  if (n != x->rank) luaL_error(L, "%s: %I axes for a tensor of rank %d", c->text, (LUAI_UACINT)n, x->rank);
  for (int i = 0; i < x->rank; i++) {
    if (is_list)
      lua_geti(L, at, i + 1);
    else
      lua_pushvalue(L, at + i);
    perm[i] = axis_of(L, c, -1, x);
    lua_pop(L, 1);
  }
}

/* The field `name` of the table at i: a list with one entry an axis (or absent: false). */
static bool axis_list(lua_State *L, const OpCall *c, int i, const char *name, int rank) {
  if (lua_getfield(L, i, name) == LUA_TNIL) return false;
  if (!lua_istable(L, -1) || luaL_len(L, -1) != rank)
    luaL_error(L, "%s: %s must be a list with one entry an axis (%d)", c->text, name, rank);
  return true;
}

/* The place at index i on an axis of the given size; negative ones count from the end. */
static Dim place_at(lua_State *L, const OpCall *c, int i, const char *name, Dim size) {
  const int64_t most = (int64_t)1 << 53;
  Dim d = bind_check_dim(L, i, c->text, name);
  if (d.c > most || d.c < -most || d.b > most || d.b < -most) luaL_error(L, "%s: %s is out of range", c->text, name);
  return dim_is_const(d) && d.c < 0 ? dim_add(size, d) : d;
}

static void read_slice(lua_State *L, OpCall *c, int at) {
  static const char *const known[] = {"start", "stop", "step"};
  const Type *x = &c->in[0]->type;
  for (int i = 0; i < x->rank; i++) {
    c->attrs.slice.stop[i] = x->dim[i];
    c->attrs.slice.step[i] = 1;
  }
  if (!lua_istable(L, at)) {
    int axis = axis_of(L, c, at, x);
    if (!lua_isnoneornil(L, at + 1)) c->attrs.slice.start[axis] = place_at(L, c, at + 1, "start", x->dim[axis]);
    if (!lua_isnoneornil(L, at + 2)) c->attrs.slice.stop[axis] = place_at(L, c, at + 2, "stop", x->dim[axis]);
    if (!lua_isnoneornil(L, at + 3)) c->attrs.slice.step[axis] = bind_check_integer(L, at + 3, c->text, "step");
    check_end(L, c, at + 4);
    return;
  }
  options_table(L, c, at, known, COUNT_OF(known));
  for (int k = 0; k < 3; k++) {
    if (axis_list(L, c, at, known[k], x->rank))
      for (int i = 0; i < x->rank; i++) {
        lua_geti(L, -1, i + 1);
        if (k == 0) c->attrs.slice.start[i] = place_at(L, c, -1, "start", x->dim[i]);
        if (k == 1) c->attrs.slice.stop[i] = place_at(L, c, -1, "stop", x->dim[i]);
        if (k == 2) c->attrs.slice.step[i] = bind_check_integer(L, -1, c->text, "step");
        lua_pop(L, 1);
      }
    lua_pop(L, 1);
  }
}

static void read_pad(lua_State *L, OpCall *c, int at) {
  static const char *const known[] = {"lo", "hi", "interior", "value"};
  int rank = c->in[0]->type.rank;
  if (!options_table(L, c, at, known, COUNT_OF(known))) luaL_error(L, "pad: needs a table {lo = {...}, hi = {...}}");
  for (int k = 0; k < 3; k++) {
    if (axis_list(L, c, at, known[k], rank))
      for (int i = 0; i < rank; i++) {
        lua_geti(L, -1, i + 1);
        if (k == 0) c->attrs.pad.lo[i] = bind_check_dim(L, -1, c->text, "lo");
        if (k == 1) c->attrs.pad.hi[i] = bind_check_dim(L, -1, c->text, "hi");
        if (k == 2) c->attrs.pad.interior[i] = bind_check_integer(L, -1, c->text, "interior");
        lua_pop(L, 1);
      }
    lua_pop(L, 1);
  }
  c->attrs.pad.value = number_field(L, c, at, "value", 0);
}

static void read_matmul(lua_State *L, OpCall *c, int at) {
  static const char *const known[] = {"trans_a", "trans_b"};
  if (!options_table(L, c, at, known, COUNT_OF(known))) return;
  c->attrs.matmul.trans_a = flag_field(L, c, at, "trans_a");
  c->attrs.matmul.trans_b = flag_field(L, c, at, "trans_b");
}

static void read_conv(lua_State *L, OpCall *c, int at) {
  static const char *const known[] = {"stride", "kh", "kw"};
  c->attrs.conv.stride = 1;
  if (!options_table(L, c, at, known, c->op == OP_CONV2D_GRAD_W ? 3 : 1)) return;
  c->attrs.conv.stride = integer_field(L, c, at, "stride", 1);
  c->attrs.conv.kh = integer_field(L, c, at, "kh", 0);
  c->attrs.conv.kw = integer_field(L, c, at, "kw", 0);
}

static void read_scatter(lua_State *L, OpCall *c, int at) {
  c->attrs.scatter.rows = bind_check_integer(L, at, c->text, "the number of rows");
  check_end(L, c, at + 1);
}

static void read_norm(lua_State *L, OpCall *c, int at) {
  static const char *const known[] = {"eps", "groups"};
  bool groups = c->op == OP_GROUP_NORM;
  c->attrs.norm.eps = groups ? 1e-6 : 1e-5;
  c->attrs.norm.groups = groups ? 32 : 0;
  if (!options_table(L, c, at, known, groups ? 2 : 1)) return;
  c->attrs.norm.eps = number_field(L, c, at, "eps", c->attrs.norm.eps);
  if (groups) c->attrs.norm.groups = integer_field(L, c, at, "groups", 32);
}

static void read_leaf(lua_State *L, OpCall *c, int at) {
  luaL_error(L, "%s: is declared by fn, param or state", c->text);
}

static void read_random(lua_State *L, OpCall *c, int at) { luaL_error(L, "%s: needs a type and a stream", c->text); }

#define read_param read_leaf
#define read_attend bind_read_attend
#define read_shift bind_read_shift
const AttrReader attr_readers[ATTR_KIND_COUNT] = {
#define ATTRS(kind, FIELDS) read_##kind,
#include "ir/attrs.def"
#undef ATTRS
};
