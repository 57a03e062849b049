/* Between Lua and the graph IR, for the files binding*.c: values of the graph as Lua userdata, locations, and the one
 * way to call graph functions from Lua.
 *
 * Lua unwinds with its own longjmp and arenas with another; bind_graph keeps them apart: arguments are read first
 * (Lua errors only), then the graph works inside arena_protect (no Lua call), then a failure becomes a Lua error.
 *
 * Axes are counted from 0 as in IR text, negative ones from the end. */
#ifndef NUWA_BINDING_H
#define NUWA_BINDING_H

#include "frontend/lua/options.h"
#include "frontend/lua/sandbox.h"
#include "ir/ir.h"

typedef struct Binding {
  Graph *g;
  Options *options;
  Error diag;             /* the graph's diagnostics while the model runs */
  struct LocEntry **locs; /* interned locations, [LOC_BUCKETS] chains; in the arena */
  uint64_t charged_nodes;
} Binding;

typedef struct NodeList {
  Node **node;
  int n, cap;
} NodeList;

/* A traced function, not yet named.  In the graph's arena. */
typedef struct FnBody {
  Port *in, *out;
  int n_in, n_out;
  int n_declared;         /* inputs that Lua declared; the others are those of random numbers */
  Update *update;
  int n_update;
  NodeList params;        /* that its outputs are made of */
  const char *prefix;     /* of names, where it was made */
  const Loc *loc;
} FnBody;

/* An update of a function being made; one of the same target before it is over.  In the graph's arena, never taken away: the
 * list as it was is the pointer to its end. */
typedef struct TraceUpdate {
  Update update;
  bool is_read;           /* updated() gave the value */
  struct TraceUpdate *before;
} TraceUpdate;

/* A function being made. */
typedef struct Trace {
  TraceUpdate *last;      /* of its updates; NULL: none */
} Trace;

/* What is under way while a model's Lua runs: Sandbox.context, which lives on the C stack of who changes it. */
typedef struct Tracing {
  Trace *trace;           /* NULL outside of all functions */
  int scope;              /* functions being made inside each other */
  int calls;              /* functions called inside each other by the innermost of them */
  const char *prefix;     /* before names: "" or "decoder.layer.1." */
  const char *entry;      /* of the module's `train` that is being made; NULL: none */
} Tracing;
const Tracing *bind_tracing(lua_State *L); /* never NULL */


typedef struct DecodeSpec {
  const FnBody *fn;
  const char *tokens, *logits;
  bool has_stop;
  int64_t stop; /* token after which a line of words ends */
} DecodeSpec;

#define BIND_TENSOR "tensor"
#define BIND_DIM "size"
#define BIND_DTYPE "element type"
#define BIND_TYPE "type"
#define BIND_FN "fn"
#define BIND_DECODE "decode"
#define BIND_MODULE "module"

/* Registers everything; call inside sandbox_run with sandbox_of(L)->user = a Binding. */
void binding_open(lua_State *L);
static inline Binding *binding_of(lua_State *L) { return sandbox_of(L)->user; }

/* Runs run(g, ctx) inside arena_protect with g->here set to the Lua lines being executed.  run returns NULL after a
 * diagnostic, which is raised as a Lua error (like a failed allocation); it must not call Lua. */
void *bind_graph(lua_State *L, void *(*run)(Graph *g, void *ctx), void *ctx);

/* A new metatable on the stack, protected, with the given functions. */
void bind_new_kind(lua_State *L, const char *kind, const luaL_Reg *functions);
/* Makes an already pushed error text the current Lua error, complete as it is. */
NO_RETURN void bind_raise_complete(lua_State *L);

/* ---- values ---- */

void bind_push_node(lua_State *L, Node *n);
Node *bind_test_tensor(lua_State *L, int i); /* NULL when it is something else */
Node *bind_check_tensor(lua_State *L, int i, const char *op);
/* Integers when constant, else a size. */
void bind_push_dim(lua_State *L, Dim d);
bool bind_to_dim(lua_State *L, int i, Dim *out);
Dim bind_check_dim(lua_State *L, int i, const char *op, const char *what);
char *bind_dim_text(Dim d, char out[64]);
void bind_push_shape(lua_State *L, const Type *t);
/* A list of sizes at index i, or all arguments from i to the top.  One -1 stands for what is left of *elems_of (when
 * not NULL). dtype of the result is f32. */
Type bind_check_shape(lua_State *L, int i, const char *op, const Type *elems_of);
DType bind_check_dtype(lua_State *L, int i, const char *op); /* f32 or "f32" */
Type bind_check_type(lua_State *L, int i, const char *op);   /* f32(2, 3), or a tensor's type */
lua_Integer bind_check_integer(lua_State *L, int i, const char *op, const char *what);
/* Axis at index i, negative from the end. */
int bind_check_axis(lua_State *L, int i, const char *op, int rank);
/* Raises an error if the table at index i has a field besides `known` and the entries 1..n_list. */
void bind_check_fields(lua_State *L, int i, const char *op, const char *const *known, int n_known, int n_list);
/* What the argument i, { name = true } or nothing, says. */
bool bind_check_flag(lua_State *L, int i, const char *op, const char *name);

void bind_push_type(lua_State *L, const Type *t);
/* A string that is not empty and holds no zero. */
const char *bind_check_name(lua_State *L, int i, const char *what);

/* ---- functions (binding_trace.c) ---- */

const FnBody *bind_check_fn(lua_State *L, int i, const char *what);
/* The function at index i made again, as that entry of the module's `train`. */
const FnBody *bind_trace_entry(lua_State *L, int i, const char *entry);
/* The input of that name and type; those of one scope are shared. */
Node *bind_input(lua_State *L, const char *name, const Type *type, int scope);

/* ---- traces of one body (binding_retrace.c) ---- */

/* The params that outputs are made of, beside what they are made of `given`.  Call inside bind_graph. */
NodeList bind_params(Graph *g, const Port *out, int n_out, const Port *given, int n_given);
/* Refuses outputs of another trace of a body that are made of other params instead of its own. */
void bind_check_retrace(lua_State *L, const FnBody *before, const Port *out, int n_out, const Port *given, int n_given);

/* ---- the parts ---- */

typedef struct OpCall {
  Op op;
  const char *text; /* how errors call it */
  Node **in;        /* [n]; NULL: a number, to be broadcast */
  double *number;   /* [n] */
  int n;
  Attrs attrs;
  Type type; /* the result's, where the op needs to be told */
  bool has_type;
  bool keep; /* reduced axes stay as 1 */
} OpCall;

typedef void (*AttrReader)(lua_State *L, OpCall *c, int at);
extern const AttrReader attr_readers[ATTR_KIND_COUNT];  /* binding_attrs.c */
void bind_read_attend(lua_State *L, OpCall *c, int at); /* binding_attend.c */
void bind_read_shift(lua_State *L, OpCall *c, int at);

void binding_open_values(lua_State *L);    /* binding_values.c */
void binding_open_ops(lua_State *L);       /* binding_ops.c */
void binding_open_trace(lua_State *L);     /* binding_trace.c */
void binding_open_functions(lua_State *L); /* binding_fn.c */
void binding_open_random(lua_State *L);    /* binding_random.c */
void binding_open_options(lua_State *L);   /* options.c */
void binding_open_composed(lua_State *L);  /* binding_composed.c, after the ops */

#endif
