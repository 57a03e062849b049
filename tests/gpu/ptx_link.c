/* Makes the kernel of an entry: the entry's code with the code of all functions it calls behind it, registers, local
 * and shared memory laid side by side.  Frames are static, so recursion is refused. */
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/ptx_lex.h"

/* Where a function lies inside the kernel being linked. */
typedef struct Placed {
  bool placed, open;
  int code, row, local, shared, targets, link;
} Placed;

typedef struct Linker {
  Parser *p;
  Function *out;
  Placed *placed;               /* one for each function of the module */
} Linker;

enum { MOST_SHARED = 48 << 10, MOST_LOCAL = 512 << 10 };   /* the hardware's limits */

static void place_function(Linker *l, int index, const Instr *from) {
  Function *f = l->p->m->function[index], *out = l->out;
  Placed *at = &l->placed[index];
  if (at->open) parse_fail(l->p, from->line, "function %s calls itself: recursion is not supported", f->name);
  if (at->placed) return;
  if (!f->defined)
    parse_fail(l->p, from->line, "function %s is not defined: %.*s", f->name, from->text_bytes, from->text);
  *at =
      (Placed){.placed = true, .open = true, .code = out->instrs, .row = out->rows, .targets = out->n_branch_targets};
  at->local = frame_alloc(&out->local_bytes, f->local_bytes, 128);
  at->shared = frame_alloc(&out->shared_bytes, f->shared_bytes, 128);
  if (out->shared_bytes > MOST_SHARED || out->local_bytes > MOST_LOCAL)
    parse_fail(l->p, f->instrs ? f->code[0].line : 0,
               "kernel %s needs %d bytes of static shared and %d of local memory, %d and %d are allowed", out->name,
               out->shared_bytes, out->local_bytes, MOST_SHARED, MOST_LOCAL);
  for (int k = 0; k < f->rows; k++) {
    Row r = f->row[k];
    if (r.kind == ROW_LOCAL) r = (Row){ROW_CONSTANT, 0, 0, r.value + (uint64_t)at->local};
    if (r.kind == ROW_SHARED) r = (Row){ROW_CONSTANT, 0, 0, r.value + (uint64_t)at->shared};
    EMU_PUSH(out->row, out->rows, out->row_cap, r);
  }
  at->link = row_add(out, ROW_REGISTER, 0, 0);
  for (int k = 0; k < f->n_branch_targets; k++)
    EMU_PUSH(out->branch_targets, out->n_branch_targets, out->branch_target_cap, f->branch_targets[k] + at->code);
  for (int k = 0; k < f->instrs; k++) EMU_PUSH(out->code, out->instrs, out->instr_cap, f->code[k]);
  for (int k = 0; k < f->instrs; k++)
    if (f->code[k].op == OP_CALL) place_function(l, f->code[k].target, &f->code[k]);
  at->open = false;
}

/* Every field of the copied instructions that counts from the function's start counts from the kernel's. */
static void relocate_function(Linker *l, const Function *f, const Placed *at) {
  for (int k = 0; k < f->instrs; k++) {
    Instr *i = &l->out->code[at->code + k];
    for (int r = 0; r < MAX_ROWS; r++) i->row[r] += at->row;
    if (i->guard >= 0) i->guard += at->row;
    if (i->op == OP_BRA) i->target += at->code;
    if (i->op == OP_BRX) i->target += at->targets;
    if (i->op == OP_RET && f->entry) i->op = OP_EXIT;
    if (i->op == OP_RET) i->link = at->link;
    if (i->op != OP_CALL && i->op != OP_PARAM_COPY) continue;
    const Function *callee = l->p->m->function[i->target];
    const Placed *to = &l->placed[i->target];
    if (i->op == OP_CALL) {
      i->target = to->code;
      i->link = to->link;
      continue;
    }
    /* offset[0] = to, offset[1] = from; both in the local frame. */
    int64_t mine = i->offset[0] + at->local;
    const Param *q = i->sub ? callee->result : &callee->param[i->offset[1]];
    int64_t theirs = q->offset + to->local;
    if (q->bytes < i->targets) i->targets = q->bytes;
    i->offset[0] = i->sub ? mine : theirs;
    i->offset[1] = i->sub ? theirs : mine;
  }
}

static int smallest_shared_access(const Function *f) {
  int least = 16;
  for (int k = 0; k < f->instrs; k++) {
    const Instr *i = &f->code[k];
    if (i->space != SPACE_SHARED && i->space != SPACE_GENERIC) continue;
    int bytes = 16;
    if (i->op == OP_LD || i->op == OP_ST) bytes = ptx_type_bytes((PtxType)i->type[0]) * i->vector;
    if (i->op == OP_ATOM || i->op == OP_RED) bytes = ptx_type_bytes((PtxType)i->type[0]);
    if (i->op == OP_CP) bytes = 4;
    least = bytes < least ? bytes : least;
  }
  return least;
}

/* ---- an estimate of registers ---- */

typedef struct Span {
  int first, last;
} Span;

static void span_touch(Span *s, int at) {
  if (s->last < 0) s->first = at;
  s->last = at;
}

/* A value that is alive at a loop's entry and used inside lives until the loop ends; inner loops come first, so twice
 * over the branches settles nests. */
static void spans_over_loops(const Function *f, Span *span) {
  for (int round = 0; round < 2; round++)
    for (int k = 0; k < f->instrs; k++) {
      const Instr *i = &f->code[k];
      if (i->op != OP_BRA || i->target > k) continue;
      for (int r = 0; r < f->rows; r++)
        if (span[r].first < i->target && span[r].last >= i->target && span[r].last < k) span[r].last = k;
    }
}

/* How many words are alive at once, and some for the hardware's own use; allotted by eight, as the hardware does. */
static int count_registers(const Function *f) {
  Span *span = emu_alloc((size_t)f->rows * sizeof *span);
  int *change = emu_alloc((size_t)(f->instrs + 2) * sizeof *change), alive = 0, most = 0;
  for (int r = 0; r < f->rows; r++) span[r] = (Span){0, -1};
  for (int k = 0; k < f->instrs; k++) {
    const Instr *i = &f->code[k];
    for (int o = 0; o < i->operands; o++)
      for (int c = 0; c < i->count[o]; c++) span_touch(&span[i->row[i->at[o] + c]], k);
  }
  spans_over_loops(f, span);
  for (int r = 0; r < f->rows; r++) {
    if (span[r].last < 0) continue;
    int type = f->row[r].type, words = type == T_PRED ? 0 : (ptx_type_bytes((PtxType)type) + 3) / 4;
    change[span[r].first] += words;
    change[span[r].last] -= words;   /* the last use and a new value may share a register */
  }
  for (int k = 0; k < f->instrs; k++) {
    alive += change[k];
    most = alive > most ? alive : most;
  }
  free(span);
  free(change);
  most = (most + 6 + 7) / 8 * 8;
  return most < 16 ? 16 : most > 255 ? 255 : most;
}

void link_kernel(Parser *p, Function *entry) {
  Linker l = {.p = p, .out = emu_alloc(sizeof *l.out)};
  Function *out = l.out;
  free(p->scratch);
  l.placed = p->scratch = emu_alloc((size_t)p->m->functions * sizeof *l.placed);
  /* From here on the module owns it, so that a failure frees it. */
  EMU_PUSH(p->m->kernel, p->m->kernels, p->m->kernel_cap, out);
  out->name = emu_strndup(entry->name, strlen(entry->name));
  out->entry = out->defined = true;
  out->max_threads = entry->max_threads;
  out->param_bytes = entry->param_bytes;
  for (int k = 0; k < entry->params; k++) EMU_PUSH(out->param, out->params, out->param_cap, entry->param[k]);
  int index = 0;
  while (p->m->function[index] != entry) index++;
  place_function(&l, index, NULL);
  for (int k = 0; k < p->m->functions; k++)
    if (l.placed[k].placed) relocate_function(&l, p->m->function[k], &l.placed[k]);
  frame_alloc(&out->shared_bytes, 0, 16);
  frame_alloc(&out->local_bytes, 0, 16);
  out->registers = count_registers(out);
  out->shared_access = smallest_shared_access(out);
}

void function_free(Function *f) {
  free(f->name);
  free(f->code);
  free(f->row);
  free(f->branch_targets);
  free(f->param);
  free(f->result);
  free(f);
}
