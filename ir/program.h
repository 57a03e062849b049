/* What the passes find out of a function, as plain structs: how it decodes, which nodes become one kernel, where values
 * live.  Passes make them, code generation reads them. */
#ifndef NUWA_PROGRAM_H
#define NUWA_PROGRAM_H

#include "runtime/base/extent.h"
#include "ir/ir.h"

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
  bool has_stop;
  int64_t stop;   /* token that ends a line */
  int64_t vocab;             /* classes of the logits */
  Func *prologue;            /* what does not depend on generated tokens; writes STATEs by updates */
  Func *step;                /* see passes/incremental.c for its ports and states */
  SelfAttend *attend; int n_attend;
  StencilEntry *stencil; int n_stencil;
  Schedule wavefront, raster;
} Decode;

/* ---- groups ---- */

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
  bool is_library;           /* a product that a library computes: the pass products says so */
} Group;

typedef struct Program {
  Func *func;
  Group *group; int n_group;   /* in order of execution */
} Program;

/* The group's canonical text, by which parameters that were found for it are kept: the same for the same group in any
 * model (no names, no numbers of nodes), another for one that differs in an op, an attribute, a type or how its values
 * depend on each other.  Works in a; inside arena_protect. */
void group_print(Arena *a, const Group *g, Buffer *out);

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

#endif
