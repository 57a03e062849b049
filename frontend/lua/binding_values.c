/* The values models handle besides Lua's own: sizes that grow with the batch, element types, types, tensors. */
#include "frontend/lua/binding.h"

#include <math.h>
#include <string.h>

/* ---- sizes ---- */

char *bind_dim_text(Dim d, char out[64]) {
  size_t at = 0;
  out[0] = 0;
  const struct {
    int64_t k;
    const char *name;
  } term[] = {{d.b, "B"}, {d.r, "R"}};
  for (int i = 0; i < 2; i++) {
    if (!term[i].k) continue;
    at += (size_t)snprintf(out + at, 64 - at, "%s", at && term[i].k > 0 ? "+" : "");
    if (term[i].k == -1)
      at += (size_t)snprintf(out + at, 64 - at, "-");
    else if (term[i].k != 1)
      at += (size_t)snprintf(out + at, 64 - at, "%lld", (long long)term[i].k);
    at += (size_t)snprintf(out + at, 64 - at, "%s", term[i].name);
  }
  if (d.c || !at) snprintf(out + at, 64 - at, "%s%lld", at && d.c > 0 ? "+" : "", (long long)d.c);
  return out;
}

void bind_push_dim(lua_State *L, Dim d) {
  if (dim_is_const(d)) {
    lua_pushinteger(L, d.c);
    return;
  }
  *(Dim *)lua_newuserdatauv(L, sizeof(Dim), 0) = d;
  luaL_setmetatable(L, BIND_DIM);
}

bool bind_to_dim(lua_State *L, int i, Dim *out) {
  int is_integer;
  lua_Integer n = lua_type(L, i) == LUA_TNUMBER ? lua_tointegerx(L, i, &is_integer) : (is_integer = 0);
  if (is_integer) {
    *out = dim_const(n);
    return true;
  }
  const Dim *d = luaL_testudata(L, i, BIND_DIM);
  if (d) *out = *d;
  return d != NULL;
}

Dim bind_check_dim(lua_State *L, int i, const char *op, const char *what) {
  Dim d = {0};
  if (!bind_to_dim(L, i, &d))
    luaL_error(L, "%s: %s must be an integer or a size, not %s", op, what, sandbox_tostring(L, i));
  return d;
}

lua_Integer bind_check_integer(lua_State *L, int i, const char *op, const char *what) {
  int is_integer = 0;
  lua_Integer n = lua_type(L, i) == LUA_TNUMBER ? lua_tointegerx(L, i, &is_integer) : 0;
  if (!is_integer) luaL_error(L, "%s: %s must be an integer, not %s", op, what, sandbox_tostring(L, i));
  return n;
}

static bool linear(const Dim *x, int64_t kx, const Dim *y, int64_t ky, Dim *out) {
  const int64_t a[] = {x->c, x->b, x->r}, b[] = {y->c, y->b, y->r};
  int64_t r[3], p, q;
  for (int i = 0; i < 3; i++)
    if (__builtin_mul_overflow(a[i], kx, &p) || __builtin_mul_overflow(b[i], ky, &q) ||
        __builtin_add_overflow(p, q, &r[i]))
      return false;
  *out = (Dim){r[0], r[1], r[2]};
  return true;
}

enum { DIM_ADD, DIM_SUB, DIM_MUL, DIM_DIV };

/* Upvalue: which operation. */
static int dim_arith(lua_State *L) {
  int what = (int)lua_tointeger(L, lua_upvalueindex(1));
  Dim x = bind_check_dim(L, 1, "size", "an operand"), y = bind_check_dim(L, 2, "size", "an operand"), z = {0};
  const Dim none = {0};
  char tx[64], ty[64];
  bool ok = true;
  if (what == DIM_MUL && !dim_is_const(x) && !dim_is_const(y))
    return luaL_error(L, "size: the product of %s and %s is not affine in the batch", bind_dim_text(x, tx),
                      bind_dim_text(y, ty));
  if (what == DIM_DIV) {
    ok = dim_is_const(y) && y.c > 0 && x.c % y.c == 0 && x.b % y.c == 0 && x.r % y.c == 0;
    if (!ok) return luaL_error(L, "size: %s // %s is not exact", bind_dim_text(x, tx), bind_dim_text(y, ty));
    z = (Dim){x.c / y.c, x.b / y.c, x.r / y.c};
  } else if (what == DIM_MUL) {
    ok = dim_is_const(y) ? linear(&x, y.c, &none, 0, &z) : linear(&y, x.c, &none, 0, &z);
  } else {
    ok = linear(&x, 1, &y, what == DIM_SUB ? -1 : 1, &z);
  }
  if (!ok) return luaL_error(L, "size: arithmetic overflow");
  bind_push_dim(L, z);
  return 1;
}

static int dim_eq(lua_State *L) {
  Dim x, y;
  lua_pushboolean(L, bind_to_dim(L, 1, &x) && bind_to_dim(L, 2, &y) && dim_equal(x, y));
  return 1;
}

static int dim_tostring(lua_State *L) {
  char text[64];
  lua_pushstring(L, bind_dim_text(bind_check_dim(L, 1, "tostring", "the value"), text));
  return 1;
}

/* ---- shapes and types ---- */

void bind_push_shape(lua_State *L, const Type *t) {
  lua_createtable(L, t->rank, 0);
  for (int i = 0; i < t->rank; i++) {
    bind_push_dim(L, t->dim[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

/* Replaces a size of -1 at `axis` by what makes the elements those of x. */
static void fill_in_axis(lua_State *L, const char *op, Type *t, int axis, const Type *x) {
  Dim all, rest;
  Type others = *t;
  others.dim[axis] = dim_const(1);
  bool ok = x && type_elems(x, &all) && type_elems(&others, &rest);
  if (ok && dim_is_const(rest)) ok = rest.c > 0 && all.c % rest.c == 0 && all.b % rest.c == 0 && all.r % rest.c == 0;
  if (ok && dim_is_const(rest)) {
    t->dim[axis] = (Dim){all.c / rest.c, all.b / rest.c, all.r / rest.c};
    return;
  }
  /* (k B) / (j B) */
  if (ok && !all.c && !rest.c && !all.r && !rest.r && rest.b && all.b % rest.b == 0) {
    t->dim[axis] = dim_const(all.b / rest.b);
    return;
  }
  char tx[160] = "", to[160];
  if (x) type_print(x, tx, sizeof tx);
  luaL_error(L, "%s: cannot work out the size of axis %d: %s to %s", op, axis, tx,
             type_print(&others, to, sizeof to));
}

Type bind_check_shape(lua_State *L, int i, const char *op, const Type *elems_of) {
  bool is_list = lua_istable(L, i);
  lua_Integer n = is_list ? luaL_len(L, i) : lua_gettop(L) - i + 1;
  if (n < 0 || n > MAX_RANK) luaL_error(L, "%s: %I axes, at most %d", op, (LUAI_UACINT)n, MAX_RANK);
  if (is_list && lua_gettop(L) > i) luaL_error(L, "%s: unexpected argument behind the list of sizes", op);
  Type t = {.dtype = DTYPE_F32, .rank = (int)n};
  int open = -1;
  for (int k = 0; k < t.rank; k++) {
    char what[32], text[64];
    snprintf(what, sizeof what, "size %d", k);
    if (is_list)
      lua_geti(L, i, k + 1);
    else
      lua_pushvalue(L, i + k);
    Dim d = t.dim[k] = bind_check_dim(L, -1, op, what);
    lua_pop(L, 1);
    if (elems_of && dim_equal(d, dim_const(-1)) && open < 0)
      open = k;
    else if (d.c < 0 && d.b <= 0 && d.r <= 0)
      luaL_error(L, "%s: size %d is %s", op, k, bind_dim_text(d, text));
  }
  if (open >= 0) fill_in_axis(L, op, &t, open, elems_of);
  return t;
}

DType bind_check_dtype(lua_State *L, int i, const char *op) {
  const DType *made = luaL_testudata(L, i, BIND_DTYPE);
  DType t = DTYPE_F32;
  if (made) return *made;
  if (lua_type(L, i) != LUA_TSTRING || !dtype_from_name(lua_tostring(L, i), &t))
    luaL_error(L, "%s: needs an element type (f32, bf16, i32 or u8), not %s", op, sandbox_tostring(L, i));
  return t;
}

Type bind_check_type(lua_State *L, int i, const char *op) {
  const Type *t = luaL_testudata(L, i, BIND_TYPE);
  if (t) return *t;
  Node *n = bind_test_tensor(L, i);
  if (!n) luaL_error(L, "%s: needs a type such as f32(2, 3), not %s", op, sandbox_tostring(L, i));
  return n->type;
}

void bind_push_type(lua_State *L, const Type *t) {
  *(Type *)lua_newuserdatauv(L, sizeof *t, 0) = *t;
  luaL_setmetatable(L, BIND_TYPE);
}

/* f32(2, 3), f32({2, 3}) */
static int dtype_call(lua_State *L) {
  DType dtype = bind_check_dtype(L, 1, "type");
  Type t = bind_check_shape(L, 2, dtype_name(dtype), NULL);
  t.dtype = dtype;
  bind_push_type(L, &t);
  return 1;
}

static int dtype_tostring(lua_State *L) {
  lua_pushstring(L, dtype_name(bind_check_dtype(L, 1, "tostring")));
  return 1;
}

static int type_tostring(lua_State *L) {
  Type t = bind_check_type(L, 1, "tostring");
  char text[300];
  lua_pushstring(L, type_print(&t, text, sizeof text));
  return 1;
}

/* shape, dtype and rank, of types and tensors; true when `name` is one of them. */
static bool push_type_field(lua_State *L, const Type *t, const char *name) {
  if (strcmp(name, "shape") == 0)
    bind_push_shape(L, t);
  else if (strcmp(name, "dtype") == 0)
    lua_pushstring(L, dtype_name(t->dtype));
  else if (strcmp(name, "rank") == 0)
    lua_pushinteger(L, t->rank);
  else
    return false;
  return true;
}

static int type_index(lua_State *L) {
  Type t = bind_check_type(L, 1, "type");
  const char *name = luaL_checkstring(L, 2);
  if (push_type_field(L, &t, name)) return 1;
  return luaL_error(L, "type: there is no field \"%s\"; the fields are: shape, dtype, rank", name);
}

/* ---- tensors ---- */

void bind_push_node(lua_State *L, Node *n) {
  *(Node **)lua_newuserdatauv(L, sizeof n, 0) = n;
  luaL_setmetatable(L, BIND_TENSOR);
}

Node *bind_test_tensor(lua_State *L, int i) {
  Node **n = luaL_testudata(L, i, BIND_TENSOR);
  return n ? *n : NULL;
}

Node *bind_check_tensor(lua_State *L, int i, const char *op) {
  Node *n = bind_test_tensor(L, i);
  if (!n)
    luaL_error(L, "%s: argument %d must be a tensor, not %s", op, i,
               lua_isnone(L, i) ? "missing" : sandbox_tostring(L, i));
  return n;
}

/* Upvalue: the table of ops, which are methods too. */
static int tensor_index(lua_State *L) {
  Node *n = bind_check_tensor(L, 1, "tensor");
  const char *name = sandbox_tostring(L, 2);
  if (push_type_field(L, &n->type, name)) return 1;
  if (strcmp(name, "name") == 0 && op_info[n->op].class == CLASS_LEAF) {
    lua_pushstring(L, n->attrs.leaf.name);
    return 1;
  }
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
  return luaL_error(
      L, "tensor: there is no field \"%s\"; the fields are: shape, dtype, rank, name (of a param), and the ops",
      name);
}

static int tensor_len(lua_State *L) {
  Node *n = bind_check_tensor(L, 1, "#");
  if (n->type.rank == 0) return luaL_error(L, "#: a scalar has no first axis");
  bind_push_dim(L, n->type.dim[0]);
  return 1;
}

static int tensor_eq(lua_State *L) {
  lua_pushboolean(L, bind_test_tensor(L, 1) == bind_test_tensor(L, 2));
  return 1;
}

static int tensor_compare(lua_State *L) {
  return luaL_error(L, "tensors are compared with lt(x, y), le, gt, ge, eq and ne, which give a u8 tensor");
}

static int tensor_tostring(lua_State *L) {
  char text[300];
  lua_pushstring(L, type_print(&bind_check_tensor(L, 1, "tostring")->type, text, sizeof text));
  return 1;
}

/* ---- registration ---- */

static void open_dims(lua_State *L) {
  static const luaL_Reg functions[] = {{"__eq", dim_eq}, {"__tostring", dim_tostring}, {NULL, NULL}};
  static const struct {
    const char *name;
    int what;
  } arith[] = {{"__add", DIM_ADD}, {"__sub", DIM_SUB}, {"__mul", DIM_MUL}, {"__idiv", DIM_DIV}};
  bind_new_kind(L, BIND_DIM, functions);
  for (int i = 0; i < COUNT_OF(arith); i++) {
    lua_pushinteger(L, arith[i].what);
    lua_pushcclosure(L, dim_arith, 1);
    lua_setfield(L, -2, arith[i].name);
  }
  bind_push_dim(L, (Dim){0, 1, 0});
  lua_setglobal(L, "batch");
}

static void open_types(lua_State *L) {
  static const luaL_Reg of_dtype[] = {{"__call", dtype_call}, {"__tostring", dtype_tostring}, {NULL, NULL}};
  static const luaL_Reg of_type[] = {{"__index", type_index}, {"__tostring", type_tostring}, {NULL, NULL}};
  bind_new_kind(L, BIND_DTYPE, of_dtype);
  bind_new_kind(L, BIND_TYPE, of_type);
  for (int t = 0; t < DTYPE_COUNT; t++) {
    *(DType *)lua_newuserdatauv(L, sizeof(DType), 0) = (DType)t;
    luaL_setmetatable(L, BIND_DTYPE);
    lua_setglobal(L, dtype_name((DType)t));
  }
}

void binding_open_values(lua_State *L) {
  static const luaL_Reg of_tensor[] = {{"__len", tensor_len},           {"__eq", tensor_eq},
                                       {"__lt", tensor_compare},        {"__le", tensor_compare},
                                       {"__tostring", tensor_tostring}, {NULL, NULL}};
  open_dims(L);
  open_types(L);
  bind_new_kind(L, BIND_TENSOR, of_tensor);
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, "nuwa.ops");
  lua_pushcclosure(L, tensor_index, 1);
  lua_setfield(L, -2, "__index");
  lua_settop(L, 0);
}
