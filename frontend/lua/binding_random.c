/* Random numbers in models:
 *
 *   uniform(f32(batch, 64), "dropout")      in [0, 1)
 *   normal(f32(batch, 64), "noise")         mean 0, variance 1
 *
 * A tensor whose leading axis is `batch` is drawn sample by sample, any other once.  The name of the stream tells draws
 * apart: the same name gives the same numbers.  A function that draws has inputs of its own: the seed, the step, and the
 * numbers of its samples (ops.def). */
#include <string.h>

#include "frontend/lua/binding.h"
#include "runtime/base/names.h"
#include "runtime/base/sha256.h"

#define STREAMS "nuwa.streams" /* registry: digest -> name */

/* The first four bytes of SHA-256 of the name, lowest first. */
static int32_t stream_of(lua_State *L, const char *name) {
  uint8_t digest[32];
  sha256(name, strlen(name), digest);
  uint32_t word = (uint32_t)digest[0] | (uint32_t)digest[1] << 8 | (uint32_t)digest[2] << 16 | (uint32_t)digest[3] << 24;
  luaL_getsubtable(L, LUA_REGISTRYINDEX, STREAMS);
  if (lua_rawgeti(L, -1, word) == LUA_TSTRING && strcmp(lua_tostring(L, -1), name) != 0)
    luaL_error(L, "the streams \"%s\" and \"%s\" have one digest: call one of them otherwise", name, lua_tostring(L, -1));
  lua_pushstring(L, name);
  lua_rawseti(L, -3, word);
  lua_pop(L, 2);
  return (int32_t)word;
}

typedef struct Draw {
  Op op;
  Type type;
  int32_t stream;
  bool by_sample;
  Node *seed, *step, *example; /* example NULL: one draw for all */
} Draw;

static Node *spread(Graph *g, Node *scalar, const Type *type) { return graph_broadcast(g, scalar, type); }

/* The number of each element within its sample, counted in raster order. */
static Node *element(Graph *g, const Draw *d, const Type *whole) {
  Node *at = NULL;
  int64_t stride = 1;
  for (int axis = whole->rank - 1; axis >= d->by_sample; axis--) {
    Node *along = graph_iota(g, axis, whole);
    if (stride > 1) along = graph_binary(g, OP_MUL, along, graph_fill(g, (double)stride, whole));
    at = at ? graph_binary(g, OP_ADD, along, at) : along;
    stride *= whole->dim[axis].c;
  }
  return at ? at : graph_fill(g, 0, whole);
}

static Node *word_of_seed(Graph *g, const Draw *d, int word, const Type *whole) {
  Attrs a = {.slice = {.start = {dim_const(word)}, .stop = {dim_const(word + 1)}, .step = {1}}};
  Node *one = graph_op(g, OP_SLICE, &d->seed, 1, &a, NULL);
  return one ? spread(g, graph_reshape(g, one, &(Type){.dtype = DTYPE_I32}), whole) : NULL;
}

/* [b] -> [b, 1, ...] -> the whole */
static Node *examples(Graph *g, const Draw *d, const Type *whole) {
  if (!d->example) return graph_fill(g, 0, whole);
  Type column = *whole;
  for (int i = 1; i < column.rank; i++) column.dim[i] = dim_const(1);
  return spread(g, graph_reshape(g, d->example, &column), whole);
}

static void *make_draw(Graph *g, void *ctx) {
  const Draw *d = ctx;
  Type whole = d->type;
  whole.dtype = DTYPE_I32;
  Node *in[] = {element(g, d, &whole), examples(g, d, &whole), spread(g, d->step, &whole), word_of_seed(g, d, 0, &whole),
                word_of_seed(g, d, 1, &whole)};
  Node *n = graph_op(g, d->op, in, COUNT_OF(in), &(Attrs){.random.stream = d->stream}, NULL);
  if (!n || d->type.dtype == DTYPE_F32) return n;
  /* bf16 has eight digits: rounding would give 1. */
  if (d->op == OP_UNIFORM) {
    n = graph_binary(g, OP_MUL, n, graph_fill_like(g, 256, n));
    n = n ? graph_unary(g, OP_FLOOR, n) : NULL;
    n = n ? graph_binary(g, OP_MUL, n, graph_fill_like(g, 0x1p-8, n)) : NULL;
  }
  return graph_cast(g, n, d->type.dtype);
}

static void check_draw(lua_State *L, const Draw *d, const char *op) {
  char text[300];
  int64_t n = 1;
  type_print(&d->type, text, sizeof text);
  if (!dtype_is_float(d->type.dtype)) luaL_error(L, "%s: needs f32 or bf16, has %s", op, text);
  for (int i = d->by_sample; i < d->type.rank; i++) {
    if (!dim_is_const(d->type.dim[i]))
      luaL_error(L, "%s: only the leading axis can be the batch, and that itself: %s", op, text);
    if (d->type.dim[i].c > 0 && n > INT32_MAX / d->type.dim[i].c)
      luaL_error(L, "%s: more than 2^31 numbers a sample: %s", op, text);
    n *= d->type.dim[i].c;
  }
}

/* Upvalue: the op. */
static int call_draw(lua_State *L) {
  Draw d = {.op = (Op)lua_tointeger(L, lua_upvalueindex(1))};
  const char *op = op_info[d.op].text;
  lua_settop(L, 2);
  d.type = bind_check_type(L, 1, op);
  d.by_sample = d.type.rank > 0 && dim_equal(d.type.dim[0], (Dim){.b = 1});
  check_draw(L, &d, op);
  d.stream = stream_of(L, bind_check_name(L, 2, op));
  Type seed = {.dtype = DTYPE_I32, .rank = 1, .dim = {dim_const(2)}}, step = {.dtype = DTYPE_I32};
  Type example = {.dtype = DTYPE_I32, .rank = 1, .dim = {{.b = 1}}};
  if (!bind_tracing(L)->trace) return luaL_error(L, "%s: numbers are drawn in the body of a function", op);
  d.seed = bind_input(L, PORT_SEED, &seed, 0);
  d.step = bind_input(L, PORT_STEP, &step, 0);
  if (d.by_sample) d.example = bind_input(L, PORT_EXAMPLE, &example, 0);
  bind_push_node(L, bind_graph(L, make_draw, &d));
  return 1;
}

void binding_open_random(lua_State *L) {
  static const Op ops[] = {OP_UNIFORM, OP_NORMAL};
  for (int i = 0; i < COUNT_OF(ops); i++) {
    lua_pushinteger(L, ops[i]);
    lua_pushcclosure(L, call_draw, 1);
    lua_setglobal(L, op_info[ops[i]].text);
  }
}
