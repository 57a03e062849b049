/* The passes: graph -> graph, and the analyses that decide fusion, memory, schedule.
 *
 * The pipeline of a plain function:  expand, fold, dce, layout, fuse, memplan.  Of a decode:  incremental makes
 * prologue and step from the teacher-forced function, wavefront the order; then each part as a plain function.
 * `grad` runs when the model asks for it.  Each file states what form it needs, gives and breaks.
 *
 * All functions return NULL / false after a diagnostic in graph->err and must run inside arena_protect. */
#ifndef NUWA_PASSES_H
#define NUWA_PASSES_H

#include "ir/extent.h"
#include "ir/ir.h"

/* ---- graph -> graph ---- */

/* Constants, algebra that keeps every bit (also of -0, infinities, NaN), chains of moves; detach disappears, so
 * gradients are taken before.  To a fixed point. */
Func *pass_fold(Func *f);
/* Drops updates that change nothing, and what only they reached.  Inputs stay (a function keeps its signature). */
Func *pass_dce(Func *f);
/* Composites -> primitives.  gives: FORM_PRIMITIVE */
Func *pass_expand(Func *f);
/* One composite node as primitives, over the same operands. */
Node *expand_node(Graph *g, Node *n);

/* f32 -> bf16 storage with the same signature (precision.c says what stays f32).  Before gradients and decoding. */
Func *pass_precision(Func *f);

/* Reverse mode. y: a scalar (rank 0).  out[i] has the type of wrt[i] (zeros when y does not depend on it).
 * Expands composites on the way. */
bool grad_build(Graph *g, Node *y, Node *const *wrt, int n, Node **out);

/* Splits what depends only on params (weight packing, transposed filters) into a function of its own that runs once
 * when weights are loaded.  f's use of such a value becomes a STATE "prepare.<k>", which *out_prepare updates.
 * *out_prepare is NULL when there is nothing to prepare.  Not for functions that update params. */
Func *pass_layout(Func *f, Func **out_prepare);

/* ---- decoding ---- */

typedef struct Schedule {
  int64_t a[3];        /* t(p) = a[0] s + a[1] h + a[2] w */
  int64_t steps;       /* distinct t */
} Schedule;

/* One thing a step depends on: a self-attention or a stencil entry of the generated grid. */
typedef struct SelfAttend {
  const AttendAttrs *attrs;
  Extent *extent;
} SelfAttend;
typedef struct StencilEntry {
  int64_t delta[3];
  bool raster;         /* the previous token in raster order; delta is 0 */
} StencilEntry;

typedef struct Decode {
  const char *name;
  int64_t grid[3];
  int64_t vocab;             /* classes of the logits */
  Func *prologue;            /* what does not depend on generated tokens; writes STATEs by updates */
  Func *step;                /* see passes/incremental.c for its ports and states */
  SelfAttend *attend; int n_attend;
  StencilEntry *stencil; int n_stencil;
  Schedule wavefront, raster;
} Decode;

/* f: the teacher-forced function; tokens: name of its input i32 [B,S,H,W]; logits: name of
 * its output f32 [B,S,H,W,V].  NULL after a diagnostic that names the op that mixes
 * positions of the generated grid. */
Decode *pass_incremental(Func *f, const char *tokens, const char *logits);

/* The schedule with the fewest steps (design section 2), and the one of raster order. */
bool wavefront_find(Graph *g, const int64_t grid[3], const SelfAttend *attend, int n_attend,
                    const StencilEntry *stencil, int n_stencil, Schedule *out);
Schedule wavefront_raster(const int64_t grid[3]);
/* ---- analyses ---- */

/* Kernel families: how a group is lowered. */
typedef enum Family { FAMILY_MAP, FAMILY_REDUCE, FAMILY_SCATTER, FAMILY_CONTRACT, FAMILY_ATTEND } Family;

/* Nodes that become one kernel.  The members compute without touching memory between them.
 * MAP:      outputs share one shape (the domain); members are MAP and MOVE nodes.
 * REDUCE:   all reductions of the group are over the same axes of the same domain shape; members may be MAP and MOVE
 *           nodes at the domain shape ("element level", before or after a reduction) or at the reduced shape ("row
 *           level").
 *           Element-level members reach row-level values through reshape/broadcast of them along the reduced axes.
 * SCATTER:  one scatter_add or ring_write, with MAP/MOVE prologue on its values.
 * CONTRACT: one product, then an epilogue of MAP nodes (and MOVE nodes on its other operands) on the result's shape.
 * ATTEND:   nodes over the same q, k and attributes (attend + attend_lse; grad_k + grad_v; one alone). */
typedef struct Group {
  Family family;
  Node **node; int n_node;   /* members, in topological order */
  Node **in; int n_in;       /* read from memory: leafs, results of earlier groups (program_home of what is read) */
  Node **out; int n_out;     /* written to memory */
  Node *anchor;              /* the product, attention or scatter; for REDUCE the first reduction; for MAP out[0] */
  const char *why;           /* for --explain: why it ends where it ends */
  uint8_t *seen;             /* [n_node] working memory of group_overwrites */
} Group;

typedef struct Program {
  Func *func;
  Group *group; int n_group;   /* in order of execution */
} Program;

/* needs: FORM_PRIMITIVE.  Never duplicates arithmetic: only FILL, IOTA and MOVE nodes may stand in several groups. */
Program *pass_fuse(Func *f);

/* Whether `out` of MAP group g may be written over operand `in`: out reads in, the group reads in only at the element
 * it writes, and the two have one size and element type. */
bool group_overwrites(const Group *g, Node *in, Node *out);

/* The node whose memory holds n: n itself, or the operand behind reshape and detach, which cost nothing. */
Node *program_home(Node *n);

/* ---- memory ---- */

typedef enum StorageKind {
  STORAGE_NONE, STORAGE_ARENA, STORAGE_INPUT, STORAGE_OUTPUT, STORAGE_PARAM, STORAGE_STATE
} StorageKind;

/* Sizes are affine, so the arena has three parts that are planned apart in units: constant, per B, per R.  A buffer of
 * c + b B bytes goes to the part of B with b + c bytes a unit (b where c < 0), likewise for R; sizes with both B and R
 * are refused.  Parts stand in this order; address = start of the part + unit_offset * B (or R, or 1). */
typedef enum ArenaPart { PART_CONST, PART_B, PART_R } ArenaPart;

typedef struct Storage {
  StorageKind kind;
  int index;            /* INPUT, OUTPUT: port of the function; PARAM, STATE: position in MemPlan.leaf */
  ArenaPart part;
  int64_t unit_offset;  /* bytes a unit of the part, a multiple of 64 */
  int64_t unit_bytes;
} Storage;

typedef struct CopyStep {
  Node *from, *to;      /* home of the value -> PARAM/STATE target, after the last group, in this order; to NULL: */
  int output;           /* -> this output of the function (-1 when there is a target) */
} CopyStep;

typedef struct MemPlan {
  Storage *of;          /* by node id; only homes that live in memory are set; [n_ids] */
  int n_ids;
  Node **leaf; int n_leaf;      /* the PARAMs and STATEs that are read or written, in order of id */
  int64_t part_bytes[3];
  CopyStep *copy; int n_copy;   /* updates and outputs that could not be computed in place */
  int64_t in_place;             /* how many values were, for --explain */
} MemPlan;

/* First fit by decreasing size over lifetimes in order of groups; a MAP group may write over an operand that dies in it
 * (same shape, read only at the written element); a ring_write always does; updates of states and params are written
 * in place when every other read of the old contents comes earlier. */
MemPlan *pass_memplan(const Program *p);   /* NULL after a diagnostic */

/* ---- names, for `nuwa inspect --after PASS` and --explain ---- */

/* Bytes read and written by a group, and its floating-point operations, per B and R (cut to the leading term).
 * Works in the arena. */
typedef struct GroupCost { Dim bytes_read, bytes_written, flops; } GroupCost;
GroupCost program_cost(Arena *a, const Group *g);
void program_explain(const Program *p, const MemPlan *m, Buffer *out);
/* Every attention: key box, keys a query, reuse, bytes, operations, dependence offsets. */
void extents_explain(const Func *f, Buffer *out);

#endif
