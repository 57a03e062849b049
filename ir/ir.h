/* The graph IR: a DAG of typed tensor operations, hash-consed, in SSA form.
 *
 * A Graph owns all nodes (one arena).  A Func is a view: named inputs, named outputs, updates of state; what a
 * function computes is what its outputs reach.  Ops are declared once, in ops.def; their attributes in attrs.def.
 * Shapes are exact: an elementwise op needs operands of one shape, `broadcast` is an op (the Lua binding inserts it).
 * Every dimension is affine in B (samples) and R (rows of a decoding step). */
#ifndef NUWA_IR_H
#define NUWA_IR_H

#include "runtime/base/dim.h"
#include "runtime/base/dtype.h"
#include "runtime/base/extent.h"
#include "runtime/base/error.h"
#include "runtime/base/memory.h"

typedef struct Type {
  DType dtype;
  int rank;
  Dim dim[MAX_RANK];
} Type;

/* Where a node comes from: a line of a model file, and the line that called the function it stands in. */
typedef struct Loc {
  const char *file;           /* NULL: made by a pass */
  int line;
  const struct Loc *caller;   /* NULL at the outermost */
} Loc;

typedef enum OpClass {
  CLASS_LEAF,       /* input, param, state: no computation */
  CLASS_MAP,        /* elementwise */
  CLASS_MOVE,       /* an index map: element of the result = element of an operand, or a constant */
  CLASS_REDUCE,     /* reduction over axes */
  CLASS_SCATTER,    /* rows written or added at computed places, in a fixed order */
  CLASS_CONTRACT,   /* matrix products and convolutions */
  CLASS_ATTEND,     /* attention, forward, backward, cached */
  CLASS_COMPOSITE,  /* has an expansion into the above */
  CLASS_GRADIENT,   /* stands for the gradient that the pass grad makes of it */
} OpClass;

/* How an op behaves over the positions of a generated grid (passes/incremental.c). */
typedef enum OpRows {
  ROWS_NONE,        /* a leaf */
  ROWS_EACH,        /* element by element, so position by position */
  ROWS_AXES,        /* keeps positions apart where it leaves the grid's axes alone */
  ROWS_TABLE,       /* reads rows of a table at an index that may depend on the position */
  ROWS_STENCIL,     /* a position reads another, at a fixed offset */
  ROWS_PRODUCT,     /* rows times a matrix that all positions share */
  ROWS_VISIBLE,     /* a query reads the keys that it sees */
  ROWS_NEIGHBOURS,  /* a position reads those around it: refused */
  ROWS_MIXED,       /* no form for rows: refused */
  ROWS_EXPANDED,    /* whatever its expansion does */
} OpRows;

/* What an element of the result costs. */
typedef enum OpWork {
  WORK_NONE,        /* leafs and constants: nothing */
  WORK_VIEW,        /* nothing: the same elements in their order, or repeated */
  WORK_MOVE,        /* elements go elsewhere */
  WORK_CHEAP,       /* an instruction or a few */
  WORK_DIVIDE,      /* one that takes many cycles */
  WORK_POLYNOMIAL,  /* tens of instructions */
  WORK_SUM,         /* many elements of operands */
} OpWork;

/* Where an element of the result is found in the first operand (fuse follows that). */
typedef enum OpReads {
  READS_NONE,       /* a leaf or a constant */
  READS_SAME,       /* at the same place */
  READS_ORDER,      /* in the same order, under another shape */
  READS_ONCE,       /* elsewhere; no element is read twice */
  READS_PADDED,     /* the same, or a constant */
  READS_REPEATED,   /* elements are read several times */
  READS_TABLE,      /* at the second operand's index */
  READS_OTHER,      /* of several operands, or many elements at once */
} OpReads;

typedef enum Op {
#define OP(id, text, arity, attrs, class, rows, work, reads, infer, eval, grad, fold, scalar) OP_##id,
#include "ir/ops.def"
#undef OP
  OP_COUNT
} Op;

/* ---- attributes: one struct a kind, see attrs.def for how they print ---- */

typedef enum InitKind { INIT_ZEROS, INIT_ONES, INIT_NORMAL, INIT_UNIFORM } InitKind;
typedef struct ParamInit {
  InitKind kind;
  double scale;               /* standard deviation, or half width of the uniform interval around 0 */
} ParamInit;

typedef union Attrs {
  struct { const char *name; ParamInit init; } leaf;       /* input, state (init unused), param */
  struct { double value; } fill;
  struct { int64_t axis; } axis;                           /* iota, concat, argmax */
  struct { int64_t axes; } axes;                           /* bit set: sum, max, reverse */
  struct { DType dtype; } cast;
  struct { int64_t perm[MAX_RANK]; } perm;                 /* result axis i is operand axis perm[i] */
  struct { Dim start[MAX_RANK], stop[MAX_RANK]; int64_t step[MAX_RANK]; } slice;
  struct { Dim lo[MAX_RANK], hi[MAX_RANK]; int64_t interior[MAX_RANK]; double value; } pad;
  struct { int64_t delta[3]; int64_t raster; } shift;      /* raster: the previous token in raster order */
  struct { int64_t trans_a, trans_b; } matmul;
  struct { int64_t stride; int64_t kh, kw; } conv;         /* kh, kw: conv2d_grad_w only, else 0 */
  struct { int64_t stream; } random;                       /* digest of the stream's name, as the i32 of its bits */
  struct { int64_t rows; } scatter;                        /* rows of the result */
  struct { double eps; int64_t groups; } norm;             /* groups: group_norm only, else 0 */
  AttendAttrs attend;
} Attrs;

typedef enum AttrKind {
#define ATTRS(kind, FIELDS) ATTR_##kind,
#include "ir/attrs.def"
#undef ATTRS
  ATTR_KIND_COUNT
} AttrKind;

typedef struct OpInfo {
  const char *text;
  int arity;         /* -1: any number, at least one; -2: see the op's shape rule */
  AttrKind attrs;
  OpClass class;
  OpRows rows;
  OpWork work;
  OpReads reads;
} OpInfo;
extern const OpInfo op_info[OP_COUNT];
enum { MAP_OPERANDS = 5 }; /* the most that a MAP op has */
/* OP_COUNT when there is none. */
Op op_from_text(const char *text);

typedef struct Node Node;
struct Node {
  Op op;
  int id;            /* order of creation: operands have smaller ids */
  int n_in;
  Type type;
  Node **in;
  Attrs attrs;
  const Loc *loc;    /* never NULL */
  int scope;         /* of an input: Graph.scope when it was made; else 0 */
  uint32_t hash;
  Node *next;        /* chain of the hash table */
};

typedef struct Graph {
  Arena *arena;      /* owned */
  int n_nodes;
  Node **buckets;
  uint32_t n_buckets;
  const Loc *here;   /* stamped on nodes that are made; passes set it to the node they replace */
  int scope;         /* inputs of two scopes are two, whatever their names; 0 but while an inner function declares its own */
  Error *err;        /* first diagnostic; owned by the caller of graph_new */
} Graph;

/* err receives the first diagnostic of any function of this header that returns NULL.  Call inside arena_protect
 * for everything that follows. NULL when memory is short. */
Graph *graph_new(Error *err);
void graph_free(Graph *g);

/* Checks operands and attributes, infers the type, and returns the node (an old one if an equal one exists; equal
 * params, inputs and states are those of the same name).  NULL after a diagnostic
 * "FILE:LINE: OP: what disagrees: f32[8,4] x f32[5,4] (axis 0: 8 vs 5)".  For leafs and fill, iota, cast, reshape,
 * broadcast `type` is the result's type (cast: only dtype matters); for others it is NULL. attrs NULL: all zero. */
Node *graph_op(Graph *g, Op op, Node *const *in, int n_in, const Attrs *attrs, const Type *type);

/* The mask of an attention: its last operand where that is u8, which no other is.  NULL: it has none. */
static inline Node *attend_mask(const Node *n) {
  Node *last = n->in[n->n_in - 1];
  return last->type.dtype == DTYPE_U8 ? last : NULL;
}

/* Sets the first diagnostic, with the location of `here` (and its callers).  Returns NULL. */
void *graph_error(Graph *g, const Loc *loc, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Short forms used by passes.  All return NULL after a diagnostic and accept NULL operands (then return NULL). */
Node *graph_unary(Graph *g, Op op, Node *x);
Node *graph_binary(Graph *g, Op op, Node *x, Node *y);                /* equal shapes */
Node *graph_select(Graph *g, Node *cond, Node *x, Node *y);
Node *graph_fill(Graph *g, double value, const Type *type);
Node *graph_fill_like(Graph *g, double value, const Node *like);
Node *graph_iota(Graph *g, int axis, const Type *type);               /* type's dtype must be i32 */
Node *graph_cast(Graph *g, Node *x, DType t);
Node *graph_reshape(Graph *g, Node *x, const Type *shape);            /* shape's dtype is ignored */
Node *graph_broadcast(Graph *g, Node *x, const Type *shape);          /* numpy rules, aligned at the last axis */
Node *graph_transpose(Graph *g, Node *x, const int64_t *perm);
Node *graph_sum(Graph *g, Node *x, uint32_t axes);                    /* reduced axes vanish */
Node *graph_max(Graph *g, Node *x, uint32_t axes);
Node *graph_matmul(Graph *g, Node *a, Node *b, bool trans_a, bool trans_b);
/* Sum of x down to `shape`: the transpose of graph_broadcast. */
Node *graph_sum_to(Graph *g, Node *x, const Type *shape);
/* x with size-1 axes put in at the positions of the bit set `axes` (of the result). */
Node *graph_insert_axes(Graph *g, Node *x, uint32_t axes);
/* What was reduced over `axes` of a tensor of this shape, back at the shape: repeated along those axes. */
Node *graph_spread(Graph *g, Node *reduced, uint32_t axes, const Type *shape);

/* ---- functions ---- */

typedef struct Port {
  const char *name;
  Node *node;
} Port;

typedef struct Update {
  Node *target;      /* a PARAM or STATE node of the same type as value */
  Node *value;       /* what it holds after the function has run; all reads inside see the old contents */
  bool by_call;      /* made only by functions that the traced one called: running statistics, not what it trains */
  bool is_shown;     /* the output PORT_GRAD_NORM tells whether the value is finite */
} Update;

typedef struct Func {
  const char *name;
  Graph *graph;
  Port *in;          /* INPUT nodes, in order of declaration */
  int n_in;
  Port *out;         /* sorted by name */
  int n_out;
  Update *update;
  int n_update;
  const Loc *loc;
} Func;

/* Ports are copied.  An input's name is that of its node; names are unique.  Updates are set afterwards. */
Func *func_new(Graph *g, const char *name, const Port *in, int n_in, const Port *out, int n_out);
/* All nodes the function needs, and its inputs whether needed or not, operands before users, in order of id; n in
 * *out_n.  In the graph's arena. */
Node **func_nodes(const Func *f, int *out_n);

/* What an input of whole numbers may be where tables are read at it, classes told or counted by it: 0 ... n - 1, or
 * `ignored`, with which it is compared; n is 0 where nothing says.  loc: what says it.  Inside arena_protect. */
typedef struct IdRange {
  int64_t n, ignored;
  const Loc *loc;
} IdRange;
IdRange func_ids(const Func *f, const Node *input);

/* A rewriting visit: calls make(ctx, node, new_operands) for every node of f in topological order and builds a new
 * function in the same graph from the results.  make returns NULL after a diagnostic (then so does this).  Leafs are
 * passed too; an input that becomes something else leaves the signature.  node_rebuild gives the node itself over new
 * operands. */
typedef Node *(*RewriteFn)(void *ctx, Graph *g, Node *n, Node *const *in);
Func *func_rewrite(Func *f, RewriteFn make, void *ctx);
Node *node_rebuild(Graph *g, Node *n, Node *const *in);
/* f in another graph, its nodes in the order of their ids.  Locations stay those of f's graph, which must live on.
 * work [f->graph->n_nodes] is all NULL, and is so again afterwards.  NULL after a diagnostic. */
Func *func_copy(Graph *to, const Func *f, Node **work);

/* ---- types ---- */

bool type_equal(const Type *x, const Type *y);
bool type_same_shape(const Type *x, const Type *y);
enum { DIM_TEXT = 72 };
/* "8", "B", "4B+2", "R-1".  Returns out, [DIM_TEXT]. */
char *dim_print(Dim d, char *out);
/* "f32[B,8,8,64]"; dims print as "8", "B", "4B+2", "R".  Written into out (cut if too small), which is returned. */
char *type_print(const Type *t, char *out, size_t cap);
Type type_make(DType dtype, int rank, const Dim *dim);
/* The product of all dims; false when it is not affine (B*B) or overflows 2^62. */
bool type_elems(const Type *t, Dim *out);
/* The product of dims [from, to). */
bool type_elems_range(const Type *t, int from, int to, Dim *out);

/* ---- text form ---- */

/* Prints functions so that ir_parse gives them back exactly:
 *
 *   func @step(%q: f32[4,8,8,64]) {
 *     %1 = param() {name="w", init=normal, scale=0.02} : f32[64,64]
 *     %2 = matmul(%q, %1) {trans_a=0, trans_b=0} : f32[4,8,8,64]
 *     update %1 = %9
 *     return y = %2
 *   }
 *
 * Numbers print with as many digits as it takes to read them back exactly. */
void func_print(const Func *f, Buffer *out);
/* Parses one or more functions.  NULL and a diagnostic "NAME:LINE: ..." in g->err.  *out_funcs in g's arena. */
bool ir_parse(Graph *g, const char *name, const char *text, Func ***out_funcs, int *out_n);

/* ---- verifier ---- */

typedef enum Form {
  FORM_ANY,
  FORM_GIVEN,        /* gradients are taken: no marks */
  FORM_PRIMITIVE,    /* no composites either */
} Form;
/* Re-infers every type, checks order, arity, attributes, names, updates, and the form.  A broken function is a bug
 * of a pass: the text names `after` and the node. */
bool func_verify(const Func *f, Form form, const char *after, Error *err);
/* Whether every shape rule also holds with B samples and R rows: sizes are checked when a function is built for all B,
 * R >= 1, so 0 may leave an axis empty that is sliced, indexed or chosen from.  If not, err names the op, its line and
 * the sizes.  Inside arena_protect. */
bool func_holds_at(const Func *f, int64_t B, int64_t R, Error *err);

#endif
