/* The passes: graph -> graph, and the analyses that decide fusion, memory, schedule.
 *
 * Their order is a table, frontend/compile/pipeline.c.  Each file states what form it needs, gives and breaks.
 *
 * All functions return NULL / false after a diagnostic in graph->err and must run inside arena_protect. */
#ifndef NUWA_PASSES_H
#define NUWA_PASSES_H

#include "ir/program.h"

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
/* The gradients that grad nodes stand for.  gives: FORM_GIVEN */
Func *pass_grad(Func *f);

/* Reverse mode. y: a scalar (rank 0).  out[i] has the type of wrt[i] (zeros when y does not depend on it).
 * Expands composites on the way. */
bool grad_build(Graph *g, Node *y, Node *const *wrt, int n, Node **out);
/* Whether that would work, but for gradients of gradients.  False after a diagnostic. */
bool grad_check(Graph *g, Node *y, Node *const *wrt, int n);

/* Splits what depends only on params (weight packing, transposed filters) into a function of its own that runs once
 * when weights are loaded.  f's use of such a value becomes a STATE "prepare.<k>", which *out_prepare updates.
 * *out_prepare is NULL when there is nothing to prepare.  Not for functions that update params. */
Func *pass_layout(Func *f, Func **out_prepare);

/* Copies where a ring or a leaf would be overwritten too early.  After fold. */
Func *pass_copy(Func *f);

/* ---- training ---- */

/* f as an entry of training: it updates nothing where a scalar output is not finite; average > 0: also keeps averages of
 * the params that it updates (train.c). */
Func *pass_train(Func *f, const char *entry, double average);
/* Whose params have averages. */
typedef struct Averaged {
  const char *entry;
  const char **param;
  int n_param;
} Averaged;
/* f without its updates, reading averages for params where there are some. */
Func *pass_evaluate(Func *f, const Averaged *a, int n);
/* Whether the entry that makes this update keeps an average of its target. */
bool train_averages(const Update *u);
/* The states of an entry: a param's average, and how many steps are in it. */
Node *train_average(Graph *g, const char *entry, const Node *param);
Node *train_averaged(Graph *g, const char *entry);

/* ---- decoding ---- */

/* f: the teacher-forced function; tokens: name of its input i32 [B,S,H,W]; logits: name of
 * its output f32 [B,S,H,W,V].  NULL after a diagnostic that names the op that mixes
 * positions of the generated grid. */
Decode *pass_incremental(Func *f, const char *tokens, const char *logits);

/* The schedule with the fewest steps (design section 2), and the one of raster order. */
bool wavefront_find(Graph *g, const int64_t grid[3], const SelfAttend *attend, int n_attend,
                    const StencilEntry *stencil, int n_stencil, Schedule *out);
Schedule wavefront_raster(const int64_t grid[3]);
/* ---- analyses ---- */

/* needs: FORM_PRIMITIVE.  Never duplicates arithmetic: only FILL, IOTA and MOVE nodes may stand in several groups. */
Program *pass_fuse(Func *f);

/* Whether `out` of MAP group g may be written over operand `in`: out reads in, the group reads in only at the element
 * it writes, and the two have one size and element type. */
bool group_overwrites(const Group *g, Node *in, Node *out);

/* ---- memory ---- */

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
