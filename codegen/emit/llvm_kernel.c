/* One kernel as two LLVM functions: the entry with the runtime's ABI, which unpacks the argument array, and the body, which
 * takes every buffer as a parameter of its own, so that `noalias` says which buffers do not overlap. */
#include <llvm-c/DebugInfo.h>

#include <string.h>

#include "codegen/emit/llvm_emit.h"

static void add_attribute(Emit *e, LLVMValueRef fn, unsigned at, const char *name, uint64_t value) {
  unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
  LLVMAddAttributeAtIndex(fn, at, LLVMCreateEnumAttribute(e->ctx, kind, value));
}

static void add_text_attribute(Emit *e, LLVMValueRef fn, const char *name, const char *value) {
  LLVMAttributeRef a =
      LLVMCreateStringAttribute(e->ctx, name, (unsigned)strlen(name), value, (unsigned)strlen(value));
  LLVMAddAttributeAtIndex(fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex, a);
}

static void add_function_attributes(Emit *e, LLVMValueRef fn) {
  char bits[16];
  snprintf(bits, sizeof bits, "%d", e->t->vector_bits);
  add_attribute(e, fn, (unsigned)LLVMAttributeFunctionIndex, "nounwind", 0);
  add_text_attribute(e, fn, "no-builtins", "");
  add_text_attribute(e, fn, "prefer-vector-width", bits);
  add_text_attribute(e, fn, "min-legal-vector-width", bits);
  /* The pool's threads flush denormals; what LLVM folds must agree. */
  add_text_attribute(e, fn, "denormal-fp-math", "preserve-sign,preserve-sign");
}

/* ---- control flow ---- */

static void emit_block(Emit *e, const KBlock *b);

static LLVMBasicBlockRef new_block(Emit *e) { return LLVMAppendBasicBlockInContext(e->ctx, e->fn, ""); }

/* "llvm.loop.unroll.disable", or "llvm.loop.unroll.count" and n. */
static void mark_loop(Emit *e, LLVMValueRef branch, int64_t unroll) {
  const char *name = unroll > 1 ? "llvm.loop.unroll.count" : "llvm.loop.unroll.disable";
  LLVMMetadataRef hint[2] = {LLVMMDStringInContext2(e->ctx, name, strlen(name)),
                             LLVMValueAsMetadata(LLVMConstInt(e->i32, (unsigned long long)unroll, 0))};
  LLVMMetadataRef self = LLVMTemporaryMDNode(e->ctx, NULL, 0);
  LLVMMetadataRef parts[2] = {self, LLVMMDNodeInContext2(e->ctx, hint, unroll > 1 ? 2 : 1)};
  LLVMMetadataRef loop = LLVMMDNodeInContext2(e->ctx, parts, 2);
  LLVMMetadataReplaceAllUsesWith(self, loop);
  LLVMSetMetadata(branch, LLVMGetMDKindIDInContext(e->ctx, "llvm.loop", 9), LLVMMetadataAsValue(e->ctx, loop));
}

typedef struct Loop {
  LLVMBasicBlockRef body, exit;
  LLVMValueRef index, hi, step;
} Loop;

/* Test, then do-while: the form loop-invariant code motion wants. */
static Loop loop_open(Emit *e, LLVMValueRef lo, LLVMValueRef hi, LLVMValueRef step, bool surely_runs) {
  Loop l = {new_block(e), new_block(e), NULL, hi, step};
  LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b);
  if (surely_runs) LLVMBuildBr(e->b, l.body);
  else LLVMBuildCondBr(e->b, LLVMBuildICmp(e->b, LLVMIntSLT, lo, hi, ""), l.body, l.exit);
  LLVMPositionBuilderAtEnd(e->b, l.body);
  l.index = LLVMBuildPhi(e->b, e->i64, "");
  LLVMAddIncoming(l.index, &lo, &before, 1);
  return l;
}

static void loop_close(Emit *e, const Loop *l, int64_t unroll) {
  LLVMValueRef next = LLVMBuildNSWAdd(e->b, l->index, l->step, "");
  LLVMBasicBlockRef latch = LLVMGetInsertBlock(e->b);
  LLVMValueRef again = LLVMBuildICmp(e->b, LLVMIntSLT, next, l->hi, "");
  mark_loop(e, LLVMBuildCondBr(e->b, again, l->body, l->exit), unroll);
  LLVMAddIncoming(l->index, &next, &latch, 1);
  LLVMPositionBuilderAtEnd(e->b, l->exit);
}

static void emit_for(Emit *e, const KInst *i) {
  bool runs = i->in[0]->hi != INT64_MAX && i->in[1]->lo != INT64_MIN && i->in[0]->hi < i->in[1]->lo;
  Loop l = loop_open(e, emit_operand(e, i->in[0], 0), emit_operand(e, i->in[1], 0), emit_operand(e, i->in[2], 0), runs);
  e->value[i->id].v[0] = l.index;
  emit_block(e, i->body);
  loop_close(e, &l, i->imm);
}

static void emit_if(Emit *e, const KInst *i) {
  LLVMBasicBlockRef then = new_block(e), join = new_block(e), other = i->other ? new_block(e) : join;
  LLVMBuildCondBr(e->b, emit_operand(e, i->in[0], 0), then, other);
  LLVMPositionBuilderAtEnd(e->b, then);
  emit_block(e, i->body);
  LLVMBuildBr(e->b, join);
  if (i->other) {
    LLVMPositionBuilderAtEnd(e->b, other);
    emit_block(e, i->other);
    LLVMBuildBr(e->b, join);
  }
  LLVMPositionBuilderAtEnd(e->b, join);
}

/* ---- variables: stack slots that mem2reg turns into values ---- */

static void set_var(Emit *e, const KInst *var, const KInst *value) {
  for (int p = 0; p < (var->varying ? e->pieces : 1); p++)
    LLVMBuildStore(e->b, var->varying ? emit_piece(e, value, p) : emit_operand(e, value, 0), e->value[var->id].v[p]);
}

static LLVMTypeRef var_type(Emit *e, const KInst *var) {
  LLVMTypeRef t = emit_type(e, var->type);
  return var->varying ? emit_vector(e, t) : t;
}

static void emit_var(Emit *e, const KInst *i) {
  LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
  LLVMValueRef last = LLVMGetBasicBlockTerminator(e->entry);
  LLVMPositionBuilderBefore(e->b, last);
  for (int p = 0; p < (i->varying ? e->pieces : 1); p++)
    e->value[i->id].v[p] = LLVMBuildAlloca(e->b, var_type(e, i), "");
  LLVMPositionBuilderAtEnd(e->b, here);
  set_var(e, i, i->in[0]);
}

static void emit_get(Emit *e, const KInst *i) {
  for (int p = 0; p < (i->varying ? e->pieces : 1); p++)
    e->value[i->id].v[p] = LLVMBuildLoad2(e->b, var_type(e, i), e->value[i->in[0]->id].v[p], "");
}

static void emit_inst(Emit *e, const KInst *i) {
  switch (i->op) {
  case KOP_LOAD: emit_load(e, i); break;
  case KOP_STORE: emit_store(e, i); break;
  case KOP_VAR: emit_var(e, i); break;
  case KOP_GET: emit_get(e, i); break;
  case KOP_SET: set_var(e, i->in[0], i->in[1]); break;
  case KOP_FOR: emit_for(e, i); break;
  case KOP_IF: emit_if(e, i); break;
  case KOP_SYNC: break; /* the lanes are one thread */
  default: emit_pure(e, i);
  }
}

static void emit_block(Emit *e, const KBlock *b) {
  for (const KInst *i = b->first; i; i = i->next)
    if (e->uses[i->id] >= 0) emit_inst(e, i);
}

/* ---- functions ---- */

static LLVMValueRef emit_table(Emit *e, const KBuf *b) {
  size_t bytes = (size_t)b->elems * dtype_bytes(b->dtype);
  LLVMValueRef data = LLVMConstStringInContext2(e->ctx, b->data, bytes, true);
  LLVMValueRef g = LLVMAddGlobal(e->mod, LLVMTypeOf(data), "");
  LLVMSetInitializer(g, data);
  LLVMSetGlobalConstant(g, true);
  LLVMSetLinkage(g, LLVMPrivateLinkage);
  LLVMSetAlignment(g, 64);
  return g;
}

/* Parameters of the body: arguments, then B, R, begin, end, scratch. */
enum { EXTRA_PARAMS = 5 };

static LLVMTypeRef body_type(Emit *e) {
  LLVMTypeRef param[KIR_MAX_BUFS + EXTRA_PARAMS];
  int n = e->k->n_args;
  for (int i = 0; i < n; i++) param[i] = e->ptr;
  for (int i = 0; i < 4; i++) param[n + i] = e->i64;
  param[n + 4] = e->ptr;
  return LLVMFunctionType(LLVMVoidTypeInContext(e->ctx), param, (unsigned)(n + EXTRA_PARAMS), false);
}

static void bind_buffers(Emit *e) {
  const Kernel *k = e->k;
  LLVMValueRef scratch = LLVMGetParam(e->fn, (unsigned)k->n_args + 4);
  for (int i = 0; i < k->n_buf; i++) {
    const KBuf *b = &k->buf[i];
    if (b->space == SPACE_TABLE) {
      e->buf[i] = emit_table(e, b);
    } else if (b->space == SPACE_SCRATCH) {
      LLVMValueRef at = LLVMConstInt(e->i64, (unsigned long long)kir_scratch_offset(k, i), 0);
      e->buf[i] = LLVMBuildGEP2(e->b, e->i8, scratch, &at, 1, "");
    } else {
      e->buf[i] = LLVMGetParam(e->fn, (unsigned)i);
      if (b->restrict_) add_attribute(e, e->fn, (unsigned)i + 1, "noalias", 0);
      if (!b->written) add_attribute(e, e->fn, (unsigned)i + 1, "readonly", 0);
    }
  }
  add_attribute(e, e->fn, (unsigned)k->n_args + 5, "noalias", 0);
  add_attribute(e, e->fn, (unsigned)k->n_args + 5, "align", 64);
}

static void emit_body(Emit *e) {
  unsigned n = (unsigned)e->k->n_args;
  e->entry = new_block(e);
  LLVMBasicBlockRef start = new_block(e);
  LLVMPositionBuilderAtEnd(e->b, e->entry);
  bind_buffers(e);
  LLVMBuildBr(e->b, start);
  LLVMPositionBuilderAtEnd(e->b, start);
  e->size[0] = LLVMGetParam(e->fn, n);
  e->size[1] = LLVMGetParam(e->fn, n + 1);
  Loop items = loop_open(e, LLVMGetParam(e->fn, n + 2), LLVMGetParam(e->fn, n + 3), LLVMConstInt(e->i64, 1, 0), false);
  e->item = items.index;
  emit_block(e, e->k->body);
  loop_close(e, &items, 0);
  LLVMBuildRetVoid(e->b);
}

static LLVMValueRef load_slot(Emit *e, LLVMTypeRef t, LLVMValueRef array, int index) {
  LLVMValueRef at = LLVMConstInt(e->i64, (unsigned long long)index, 0);
  return LLVMBuildLoad2(e->b, t, LLVMBuildGEP2(e->b, t, array, &at, 1, ""), "");
}

/* void name(void *const *buf, const int64_t *dim, int64_t begin, int64_t end, void *scratch) */
static void emit_entry(Emit *e, LLVMTypeRef type, LLVMValueRef body) {
  LLVMTypeRef param[5] = {e->ptr, e->ptr, e->i64, e->i64, e->ptr};
  LLVMTypeRef entry_type = LLVMFunctionType(LLVMVoidTypeInContext(e->ctx), param, 5, false);
  LLVMValueRef fn = LLVMAddFunction(e->mod, e->k->name, entry_type), arg[KIR_MAX_BUFS + EXTRA_PARAMS];
  add_function_attributes(e, fn);
  LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->ctx, fn, ""));
  int n = e->k->n_args;
  for (int i = 0; i < n; i++) arg[i] = load_slot(e, e->ptr, LLVMGetParam(fn, 0), i);
  for (int i = 0; i < 2; i++) arg[n + i] = load_slot(e, e->i64, LLVMGetParam(fn, 1), i);
  for (int i = 2; i < 5; i++) arg[n + i] = LLVMGetParam(fn, (unsigned)i);
  LLVMSetTailCall(LLVMBuildCall2(e->b, type, body, arg, (unsigned)(n + EXTRA_PARAMS), ""), true);
  LLVMBuildRetVoid(e->b);
}

static void emit_types(Emit *e) {
  e->i1 = LLVMInt1TypeInContext(e->ctx);
  e->i8 = LLVMInt8TypeInContext(e->ctx);
  e->i16 = LLVMInt16TypeInContext(e->ctx);
  e->i32 = LLVMInt32TypeInContext(e->ctx);
  e->i64 = LLVMInt64TypeInContext(e->ctx);
  e->f32 = LLVMFloatTypeInContext(e->ctx);
  e->f64 = LLVMDoubleTypeInContext(e->ctx);
  e->ptr = LLVMPointerTypeInContext(e->ctx, 0);
}

bool emit_kernel(LLVMContextRef ctx, LLVMModuleRef mod, const Kernel *k, const Target *t) {
  Emit e = {.k = k, .t = t, .ctx = ctx, .mod = mod, .pieces = 512 / t->vector_bits, .width = t->vector_bits / 32};
  e.uses = kir_count_uses(k);
  e.value = mem_alloc((size_t)k->n_inst * sizeof *e.value);
  bool ok = e.uses && e.value;
  if (ok) {
    emit_types(&e);
    e.b = LLVMCreateBuilderInContext(ctx);
    char name[512];
    snprintf(name, sizeof name, "%s.body", k->name);
    LLVMTypeRef type = body_type(&e);
    e.fn = LLVMAddFunction(mod, name, type);
    LLVMSetLinkage(e.fn, LLVMPrivateLinkage);
    add_function_attributes(&e, e.fn);
    emit_body(&e);
    emit_entry(&e, type, e.fn);
    LLVMDisposeBuilder(e.b);
  }
  mem_free(e.uses);
  mem_free(e.value);
  return ok;
}
