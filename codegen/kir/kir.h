/* Kernel IR: one kernel in structured SSA, executed once for each work item by a group of 16 lanes.
 *
 * The model.  A kernel has `item_count` independent work items.  An item is executed by one group of 16 logical lanes:
 * on the CPU a lane-varying value is a vector of 16 elements (one zmm, two ymm or four xmm), on a GPU each lane is a
 * thread and a group is half a warp.  A value is either uniform (same in all lanes) or varying.  Control flow is uniform;
 * lanes differ only by data and by masks of loads and stores.  Instructions are appended to the open block, and a value
 * may be used in its own block and in blocks inside it.  Mutable variables (accumulators) are explicit.
 *
 * Arithmetic is exactly what is written: no contraction, no reassociation; FMA is an instruction.  Building folds
 * constants and shares equal pure values within a block.  exp, log and the like are built from these instructions
 * (ir/math_forms.h), so every target computes the same bits.
 *
 * Blocks.  On a GPU an item may be executed by several groups (kernel.groups > 1), which share its scratch and meet at
 * barriers; "uniform" then still means the same in all lanes of one group.  Such kernels also have loads and stores of
 * four elements a lane, and asynchronous copies from arguments into scratch: a copy's bytes may be read by its own
 * group after a wait that covers it, by others after a barrier that follows.  The CPU back end refuses them.
 *
 * Matrix tiles.  Groups 2p and 2p + 1 of a block are pair p, on a GPU a warp.  TILE reads 16 x 16 elements of bf16
 * scratch, x by k; MMA multiplies two of them and adds to what its lanes hold of a 16 x 8 tile of results.  Both groups
 * of a pair execute these together, on the same tiles; which elements of the result a group's lanes have is part of the
 * definition (kir_mma), so a group can be understood without the other.  The sum so far and the 16 products, which are
 * exact in f32, are added in an order and with a rounding that are the machine's own, but the same for every element and
 * lane, with an error of a few 2^-23 of the largest of them; the interpreter takes a chain over k.
 *
 * CPU ABI:  void name(void *const *buf, const int64_t *dim, int64_t begin, int64_t end, void *scratch)
 *   buf[i]: buffer i of the kernel;  dim: {B, R};  items [begin, end);  scratch: kernel.scratch_bytes, 64-aligned.
 * CUDA:     the same kernel with one half warp a group (see cuda_print.c). */
#ifndef NUWA_KIR_H
#define NUWA_KIR_H

#include "ir/ir.h"
#include "ir/number.h"

enum { LANES = 16, QUAD = 4, KIR_MAX_GROUPS = 64 /* 1024 threads of a block */ };

/* The first four are NumberType's. */
typedef enum KType { K_BOOL, K_I32, K_I64, K_F32, K_QUAD, K_TILE } KType;
/* K_QUAD: four f32, of LOAD4 and MMA, for PART only.  K_TILE: of TILE, for MMA only. */

/* Instructions: id, text, number of operands, is it pure. */
#define KIR_OPS(X)                                                                                         \
  X(CONST, "const", 0, 1)   /* imm / fimm */                                                               \
  X(ITEM, "item", 0, 1)     /* i64, uniform */                                                             \
  X(SIZE, "size", 0, 1)     /* i64, uniform: B (imm 0) or R (imm 1) */                                     \
  X(LANE, "lane", 0, 1)     /* i32, varying: 0..15 */                                                      \
  NUMBER_OPS(X)             /* ADD .. BITS_F32: ir/number.h */                                              \
  X(TREE_ADD, "tree_add", 1, 1)  /* varying f32 -> uniform: the fixed tree x[i]+x[i^8], ^4, ^2, ^1 */      \
  X(TREE_MAX, "tree_max", 1, 1)  /* varying f32 or i32 -> uniform: x[i] max x[i+8] for i < 8, ^4, ^2, ^1 */                                       \
  X(TREE_MIN, "tree_min", 1, 1)                                                                            \
  /* x, y (both f32 or i32), a distance d: the constant i32 8, 4, 2 or 1.  Of the lanes whose bit d is clear (LOW) or set  \
     (HIGH), those of x become the lanes with bit d clear and those of y the lanes with bit d set, always varying. */       \
  X(LOW, "low", 3, 1)       /* lane i: i & d ? y[i ^ d] : x[i] */                                           \
  X(HIGH, "high", 3, 1)     /* lane i: i & d ? y[i] : x[i ^ d] */                                           \
  X(LANE_GET, "lane_get", 2, 1)  /* varying value, uniform i32 lane -> uniform */                          \
  X(LOAD, "load", 3, 0)     /* base, lane offset or NULL, mask or NULL: see kir_load */                    \
  X(STORE, "store", 4, 0)   /* base, lane offset or NULL, mask or NULL, value */                           \
  X(VAR, "var", 1, 0)       /* a mutable variable with its first value */                                  \
  X(GET, "get", 1, 0) X(SET, "set", 2, 0)                                                                  \
  X(FOR, "for", 3, 0)       /* lo, hi, step: i64 uniform; result is the loop variable */                   \
  X(IF, "if", 1, 0)                                                                                        \
  X(SYNC, "sync", 0, 0)     /* what lanes of the group stored is visible to its other lanes; a uniform store is one lane's */ \
  /* From here on only where groups > 1. */                                                                 \
  X(GROUP, "group", 0, 1)   /* i32, uniform: which of the item's groups */                                  \
  X(LOAD4, "load4", 3, 0)   /* as LOAD, elements base + lane offset + 0..3 of floats; a quad */      \
  X(PART, "part", 1, 1)     /* of a quad: element imm */                                                    \
  X(TILE, "tile", 1, 0)     /* base: see kir_tile */                                                        \
  X(MMA, "mma", 6, 0)       /* tile a, tile b, four f32: see kir_mma; a quad */                             \
  X(STORE4, "store4", 7, 0) /* as STORE, with four values */                                                \
  X(COPY, "copy", 5, 0)     /* to base, to lane offset, mask or NULL, from base, from lane offset or NULL */ \
  X(COMMIT, "commit", 0, 0) /* the lane's copies since the last commit become one batch */                  \
  X(WAIT, "wait", 0, 0)     /* until at most imm batches of the lane's are under way, the newest */         \
  X(BARRIER, "barrier", 0, 0) /* all groups of the item meet; what they stored is visible to all of them */

typedef enum KOp {
#define X(id, text, n, pure) KOP_##id,
  KIR_OPS(X)
#undef X
  KOP_COUNT
} KOp;

/* How a tile lies in scratch: element (x, k) at base + x * stride + k, or at base + k * stride + x. */
typedef enum KLayout { LAYOUT_XK, LAYOUT_KX } KLayout;

typedef struct KInst KInst;
typedef struct KBlock {
  KInst *first, *last;
  struct KBlock *parent;
} KBlock;

struct KInst {
  KOp op;
  KType type;
  bool varying;
  int id;
  int n_in;
  KInst *in[7];
  int64_t imm;              /* CONST of integers and bools, SIZE, PART, WAIT, buffer of LOAD/STORE/TILE/COPY's target,
                               unroll factor of FOR (0: none), MMA: the half of b */
  float fimm;
  int from, count;          /* COPY: the buffer that is read; elements a lane copies */
  int stride;               /* TILE: elements between rows of its place */
  KLayout layout;           /* TILE */
  int align;                /* integers: a power of two that divides the value; 0 is 1.  See kir_align */
  int64_t lo, hi;           /* range of integer values, inclusive, when known; else INT64_MIN / INT64_MAX */
  KBlock *body, *other;     /* FOR: body; IF: then, else */
  KBlock *block;            /* where it stands */
  KInst *next;
  KInst *chain;             /* value numbering */
};

typedef enum KSpace {
  SPACE_GLOBAL,             /* an argument */
  SPACE_SCRATCH,            /* private to the item while it is executed: CPU thread scratch; GPU shared memory */
  SPACE_TABLE,              /* constant data, part of the kernel */
} KSpace;

typedef struct KBuf {
  const char *name;
  DType dtype;
  KSpace space;
  bool written;
  bool restrict_;           /* no other buffer of the kernel overlaps it (in-place operands are not) */
  int64_t elems;            /* scratch and table: number of elements; 0 for arguments */
  int over;                 /* scratch: 1 + the buffer whose bytes it shares; 0: it has its own */
  const void *data;         /* table: [elems] */
} KBuf;

/* item_count = product of ceil(size / tile). */
typedef struct KFactor {
  Dim size;
  int64_t tile;
} KFactor;

enum { KIR_MAX_BUFS = 48, KIR_MAX_FACTORS = 6 };

typedef struct Kernel {
  Arena *arena;
  const char *name;
  KBuf buf[KIR_MAX_BUFS];
  int n_buf;                 /* arguments come first, in order */
  int n_args;
  KFactor factor[KIR_MAX_FACTORS];
  int n_factor;
  int64_t grain;             /* items a thread should take at once, at least 1 */
  int groups;                /* that execute an item together; 1 but for blocks of a GPU */
  int resident;              /* on a GPU: blocks that a multiprocessor should hold at once; 0: as it comes */
  KBlock *body;
  KBlock *open;              /* where instructions go */
  int n_inst;                /* ids are below this; operands have smaller ids than their users */
  KInst **bucket;            /* value numbering: pure instructions by hash */
  int n_bucket;
} Kernel;

Kernel *kir_new(Arena *a, const char *name);
int kir_arg(Kernel *k, const char *name, DType dtype, bool written);   /* before any scratch or table */
int kir_scratch(Kernel *k, const char *name, DType dtype, int64_t elems);
/* The bytes of scratch buffer `buf` as other elements, of no more bytes.  In a block, a barrier must stand between
 * accesses to the one and the other. */
int kir_scratch_over(Kernel *k, const char *name, DType dtype, int64_t elems, int buf);
int kir_table(Kernel *k, const char *name, DType dtype, const void *data, int64_t elems);
void kir_factor(Kernel *k, Dim size, int64_t tile);
/* Bytes of scratch a CPU thread needs: all scratch buffers, each aligned to 64. */
int64_t kir_scratch_bytes(const Kernel *k);

KInst *kir_i32(Kernel *k, int32_t x);
KInst *kir_i64(Kernel *k, int64_t x);
KInst *kir_f32(Kernel *k, float x);
KInst *kir_bool(Kernel *k, bool x);
KInst *kir_item(Kernel *k);
KInst *kir_lane(Kernel *k);
KInst *kir_dim(Kernel *k, Dim d);       /* i64: c + b B + r R */
/* Any pure instruction.  Types are checked (BUG on a mismatch); the result is varying when an operand is.  i32 and i64
 * do not mix: convert. */
KInst *kir_op(Kernel *k, KOp op, KInst *x, KInst *y, KInst *z);
static inline KInst *kir_un(Kernel *k, KOp op, KInst *x) { return kir_op(k, op, x, 0, 0); }
static inline KInst *kir_bin(Kernel *k, KOp op, KInst *x, KInst *y) { return kir_op(k, op, x, y, 0); }

/* Element base + lane_offset of buffer buf.  base: uniform i64.  lane_offset: NULL for a uniform load, else i32, usually
 * varying (contiguous when it is LANE itself, or LANE plus a uniform value).  mask: NULL, or bool (masked-off lanes give
 * 0 and are not read).  u8 and i32 load as i32; bf16 and f32 as f32. */
KInst *kir_load(Kernel *k, int buf, KInst *base, KInst *lane_offset, KInst *mask);
/* The same for storing (value converted to the buffer's dtype; to bf16 as ROUND does).  A uniform value with
 * lane_offset NULL is stored once. */
void kir_store(Kernel *k, int buf, KInst *base, KInst *lane_offset, KInst *value, KInst *mask);

/* The rest of `*item` modulo count; *item becomes the quotient. */
KInst *kir_peel(Kernel *k, KInst **item, KInst *count);

KInst *kir_var(Kernel *k, KInst *first, bool varying);
KInst *kir_get(Kernel *k, KInst *var);
void kir_set(Kernel *k, KInst *var, KInst *value);
/* for (i = lo; i < hi; i += step): returns i (i64).  Close with kir_end.  unroll: a hint; 0: as the compiler likes. */
KInst *kir_for(Kernel *k, KInst *lo, KInst *hi, int64_t step, int unroll);
void kir_if(Kernel *k, KInst *cond);
void kir_else(Kernel *k);
void kir_end(Kernel *k);
void kir_sync(Kernel *k);

/* Blocks: from the start, `groups` groups execute an item. */
void kir_block(Kernel *k, int groups, int resident);
KInst *kir_group(Kernel *k);
/* Four elements of an f32 or bf16 buffer a lane.  base + lane_offset must be a multiple of 4 by kir_align; a mask that
 * is false gives zeros. */
KInst *kir_load4(Kernel *k, int buf, KInst *base, KInst *lane_offset, KInst *mask);
KInst *kir_part(Kernel *k, KInst *quad, int which);
void kir_store4(Kernel *k, int buf, KInst *base, KInst *lane_offset, KInst *const value[QUAD], KInst *mask);
/* The 16 x 16 tile of bf16 scratch at base, a multiple of 8 by kir_align that is the same in both groups of a pair;
 * stride: a multiple of 8. */
KInst *kir_tile(Kernel *k, int buf, KInst *base, int stride, KLayout layout);
/* Adds to sum[0..3]: c[i][j] += sum over k of a[i][k] * b[8 half + j][k], where lane l of the pair's first (g = 0) or
 * second group (g = 1) has i = 4 g + l / 4, with 8 more in sum[2] and sum[3], and j = 2 (l % 4), with 1 more in sum[1]
 * and sum[3].  The four sums are the quad's parts. */
KInst *kir_mma(Kernel *k, KInst *a, KInst *b, int half, KInst *const sum[QUAD]);
/* Where elements go, or come from. */
typedef struct KPlace {
  int buf;
  KInst *base, *lane_offset;
} KPlace;
/* Starts copying count elements a lane, of 4, 8 or 16 bytes together and at multiples of count, from an f32 or bf16
 * argument that is not written to scratch of its type; where mask is false zeros go there and nothing is read. */
void kir_copy(Kernel *k, KPlace to, KPlace from, int count, KInst *mask);
void kir_commit(Kernel *k);
void kir_wait(Kernel *k, int batches);
void kir_barrier(Kernel *k);
/* A power of two that surely divides an integer value, at most 64. */
int kir_align(const KInst *i);

/* Polynomials, the same bits on every target (ir/math_forms.h states each one's error against the true function). */
KInst *kir_exp(Kernel *k, KInst *x);
KInst *kir_log(Kernel *k, KInst *x);
KInst *kir_log1p(Kernel *k, KInst *x);
KInst *kir_pow(Kernel *k, KInst *x, KInst *y);
KInst *kir_normal_cdf(Kernel *k, KInst *x);
KInst *kir_tanh(Kernel *k, KInst *x);
KInst *kir_erf(Kernel *k, KInst *x);
KInst *kir_sin(Kernel *k, KInst *x);
KInst *kir_cos(Kernel *k, KInst *x);
/* Random numbers of a block of Philox, all i32 (ir/random_forms.h). */
KInst *kir_uniform(Kernel *k, KInst *const counter[4], KInst *const key[2]);
KInst *kir_normal(Kernel *k, KInst *const counter[4], KInst *const key[2]);

/* Text of the kernel: for people, and the exact key under which compiled code is kept. */
void kir_print(const Kernel *k, Buffer *out);
/* Checks scoping, types, uniformity, and that masks and ranges keep loads in tables and scratch in bounds where known. */
bool kir_verify(const Kernel *k, Error *err);

/* Product of ceil(size / tile) over the factors; 1 without factors. */
int64_t kir_item_count(const Kernel *k, int64_t B, int64_t R);

/* The definition of the kernel IR, slow: executes a kernel on buffers; for tests. args[i]: argument buffers. */
bool kir_interpret(const Kernel *k, void *const *args, int64_t B, int64_t R, Error *err);

#endif
