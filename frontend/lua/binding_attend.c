/* `attend` and `shift` as the design writes them (section 3):
 *
 *   attend(q, k, v, { heads = 4, kind = "nearby", extent = { s = 3, h = {-2, 0} }, causal = "raster", ... })
 *   shift(x, { s = 0, h = 0, w = -1 }, start)
 *   shift(x, "raster", start)
 *
 * An extent is a width or a pair {lo, hi}; math.huge, the default, is the whole axis; for kind "block" it is the
 * block's size.  A width e means lo = -(e-1)/2, hi = (e-1)/2 when odd, lo = -e/2, hi = e/2 - 1 when even (design,
 * section 2). */
#include "frontend/lua/binding.h"

#include <math.h>
#include <string.h>

static const char *const axis_names[] = {"s", "h", "w"};

/* An integer or +-math.huge at index i; infinities become +-EXTENT_INF. */
static int64_t offset_at(lua_State *L, int i, const char *op, const char *axis) {
  double v = lua_tonumber(L, i);
  if (lua_type(L, i) != LUA_TNUMBER || isnan(v) || (!isinf(v) && v != floor(v)))
    luaL_error(L, "%s: extent.%s must be an integer, math.huge or a pair {lo, hi} of them, not %s", op, axis,
               sandbox_tostring(L, i));
  if (v >= (double)EXTENT_INF) return EXTENT_INF;
  if (v <= -(double)EXTENT_INF) return -EXTENT_INF;
  return (int64_t)v;
}

static void read_width(lua_State *L, OpCall *c, int x) {
  AttendAttrs *a = &c->attrs.attend;
  int64_t e = offset_at(L, -1, c->text, axis_names[x]);
  char text[64];
  if (e < 1)
    luaL_error(L, "%s: extent.%s must be at least 1, not %s", c->text, axis_names[x],
               bind_dim_text(dim_const(e), text));
  if (a->kind == ATTEND_BLOCK) {
    a->block[x] = e;
  } else if (e < EXTENT_INF) {
    a->lo[x] = e % 2 ? -(e - 1) / 2 : -e / 2;
    a->hi[x] = e % 2 ? (e - 1) / 2 : e / 2 - 1;
  }
}

static void read_pair(lua_State *L, OpCall *c, int x) {
  AttendAttrs *a = &c->attrs.attend;
  if (a->kind == ATTEND_BLOCK)
    luaL_error(L, "%s: extent.%s is the size of a block, one number", c->text, axis_names[x]);
  if (luaL_len(L, -1) != 2) luaL_error(L, "%s: extent.%s must be a pair {lo, hi}", c->text, axis_names[x]);
  int64_t ends[2];
  for (int k = 0; k < 2; k++) {
    lua_geti(L, -1, k + 1);
    ends[k] = offset_at(L, -1, c->text, axis_names[x]);
    lua_pop(L, 1);
  }
  if (ends[0] > ends[1])
    luaL_error(L, "%s: extent.%s: lo %I is above hi %I", c->text, axis_names[x], (LUAI_UACINT)ends[0],
               (LUAI_UACINT)ends[1]);
  a->lo[x] = ends[0];
  a->hi[x] = ends[1];
}

/* The table `extent` at the top of the stack. */
static void read_extent(lua_State *L, OpCall *c) {
  char op[64];
  snprintf(op, sizeof op, "%s: extent", c->text);
  if (!lua_istable(L, -1))
    luaL_error(L, "%s: extent must be a table such as { s = 3, h = 3, w = 3 }, not %s", c->text,
               sandbox_tostring(L, -1));
  bind_check_fields(L, -1, op, axis_names, 3, 0);
  for (int x = 0; x < 3; x++) {
    int kind = lua_getfield(L, -1, axis_names[x]);
    if (kind == LUA_TTABLE)
      read_pair(L, c, x);
    else if (kind != LUA_TNIL)
      read_width(L, c, x);
    lua_pop(L, 1);
  }
}

/* The field `name` of the table at i: the place of its text in `choices`. */
static int choice_field(lua_State *L, const OpCall *c, int i, const char *name, const char *const *choices, int n,
                        int otherwise) {
  if (lua_getfield(L, i, name) == LUA_TNIL) {
    lua_pop(L, 1);
    return otherwise;
  }
  char list[100] = "";
  size_t at = 0;
  for (int k = 0; k < n; k++) {
    if (lua_type(L, -1) == LUA_TSTRING && strcmp(lua_tostring(L, -1), choices[k]) == 0) {
      lua_pop(L, 1);
      return k;
    }
    at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", k ? ", " : "", choices[k]);
  }
  return luaL_error(L, "%s: %s must be one of: %s; not %s", c->text, name, list, sandbox_tostring(L, -1));
}

/* The grid of a tensor [b?, s, h, w, d]; where it is none, the op's own check says so. */
static void grid_of(const Node *x, int64_t grid[3]) {
  if (x->type.rank < 4 || x->type.rank > 5) return;
  for (int i = 0; i < 3; i++) grid[i] = x->type.dim[x->type.rank - 4 + i].c;
}

static void read_grid_field(lua_State *L, const OpCall *c, int i, const char *name, int64_t grid[3]) {
  if (lua_getfield(L, i, name) != LUA_TNIL) {
    if (!lua_istable(L, -1)) luaL_error(L, "%s: %s must be a list {s, h, w}", c->text, name);
    for (int x = 0; x < 3; x++) {
      lua_geti(L, -1, x + 1);
      grid[x] = bind_check_integer(L, -1, c->text, name);
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
}

/* kv_heads 0, which a model cannot say, stands for as many as the queries have. */
static void read_heads(lua_State *L, OpCall *c, int at) {
  AttendAttrs *a = &c->attrs.attend;
  if (lua_getfield(L, at, "heads") == LUA_TNIL) luaL_error(L, "%s: needs heads", c->text);
  a->heads = bind_check_integer(L, -1, c->text, "heads");
  if (lua_getfield(L, at, "kv_heads") != LUA_TNIL) {
    a->kv_heads = bind_check_integer(L, -1, c->text, "kv_heads");
    if (a->kv_heads < 1) luaL_error(L, "%s: kv_heads must be at least 1, not %I", c->text, (LUAI_UACINT)a->kv_heads);
  }
  lua_pop(L, 2);
}

/* The last operand; make_room has left a place for it. */
static void read_mask(lua_State *L, OpCall *c, int at) {
  if (lua_getfield(L, at, "mask") != LUA_TNIL) {
    Node *mask = bind_test_tensor(L, -1);
    if (!mask || mask->type.dtype != DTYPE_U8)
      luaL_error(L, "%s: mask must be a tensor of u8, a byte for every key, not %s", c->text, sandbox_tostring(L, -1));
    c->in[c->n++] = mask;
  }
  lua_pop(L, 1);
}

/* 0, which a model cannot say, stands for 1 / sqrt(head width). */
static void read_scale(lua_State *L, OpCall *c, int at) {
  int kind = lua_getfield(L, at, "scale");
  double v = lua_tonumber(L, -1);
  if (kind != LUA_TNIL && (kind != LUA_TNUMBER || !isfinite(v) || v == 0))
    luaL_error(L, "%s: scale must be a number that is not 0, not %s", c->text, sandbox_tostring(L, -1));
  c->attrs.attend.scale = v;
  lua_pop(L, 1);
}

void bind_read_attend(lua_State *L, OpCall *c, int at) {
  static const char *const known[] = {"heads",    "kv_heads",   "kind",    "extent", "causal",
                                      "edge",     "scale",      "mask",    "query_grid", "key_grid"};
  static const char *const kinds[] = {"full", "axis", "nearby", "block"};
  static const char *const edges[] = {"clip", "shift"}, *const causals[] = {"none", "raster", "past"};
  AttendAttrs *a = &c->attrs.attend;
  if (!lua_istable(L, at))
    luaL_error(L, "%s: needs a table of options, heads at least, behind its tensors (there are %d), not %s", c->text, c->n,
               lua_isnone(L, at) ? "nothing" : sandbox_tostring(L, at));
  if (lua_gettop(L) > at) luaL_error(L, "%s: unexpected argument behind the options", c->text);
  bool rows = c->op == OP_ATTEND_ROWS;
  bind_check_fields(L, at, c->text, known, rows ? COUNT_OF(known) : COUNT_OF(known) - 2, 0);
  read_heads(L, c, at);
  read_scale(L, c, at);
  bool has_extent = lua_getfield(L, at, "extent") != LUA_TNIL;
  a->kind = (AttendKind)choice_field(L, c, at, "kind", kinds, 4, has_extent ? ATTEND_NEARBY : ATTEND_FULL);
  a->edge = (EdgeRule)choice_field(L, c, at, "edge", edges, 2, EDGE_CLIP);
  a->causal = (Causal)choice_field(L, c, at, "causal", causals, 3, CAUSAL_NONE);
  for (int x = 0; x < 3; x++) {
    a->lo[x] = -EXTENT_INF;
    a->hi[x] = EXTENT_INF;
    a->block[x] = a->kind == ATTEND_BLOCK ? EXTENT_INF : 0;
  }
  if (has_extent) read_extent(L, c);
  lua_pop(L, 1);
  if (!rows && c->n > 1) {
    grid_of(c->in[0], a->query_grid);
    grid_of(c->in[1], a->key_grid);
  } else if (rows) {
    read_grid_field(L, c, at, "query_grid", a->query_grid);
    read_grid_field(L, c, at, "key_grid", a->key_grid);
  }
  read_mask(L, c, at);
}

/* call_op has put the place behind the operands. */
void bind_read_shift(lua_State *L, OpCall *c, int i) {
  if (lua_gettop(L) > i) luaL_error(L, "shift: unexpected argument %s", sandbox_tostring(L, i + 1));
  if (lua_type(L, i) == LUA_TSTRING && strcmp(lua_tostring(L, i), "raster") == 0) {
    c->attrs.shift.raster = 1;
    return;
  }
  if (!lua_istable(L, i))
    luaL_error(L, "shift: needs { s =, h =, w = } or \"raster\" after the tensor, not %s", sandbox_tostring(L, i));
  bind_check_fields(L, i, "shift", axis_names, 3, 0);
  for (int x = 0; x < 3; x++) {
    if (lua_getfield(L, i, axis_names[x]) != LUA_TNIL)
      c->attrs.shift.delta[x] = bind_check_integer(L, -1, "shift", axis_names[x]);
    lua_pop(L, 1);
  }
}
