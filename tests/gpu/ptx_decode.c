/* Decodes one PTX instruction: guard, operation, modifiers, operands.  Whether the combination exists in the
 * interpreter is ptx_instr_bind's decision; calls become argument copies, a jump and a result copy. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/ptx_lex.h"

static const struct { const char *name; int bytes; } types[T_COUNT] = {
    [T_NONE] = {"", 0},      [T_PRED] = {"pred", 1},     [T_B8] = {"b8", 1},     [T_U8] = {"u8", 1},
    [T_S8] = {"s8", 1},      [T_B16] = {"b16", 2},       [T_U16] = {"u16", 2},   [T_S16] = {"s16", 2},
    [T_B32] = {"b32", 4},    [T_U32] = {"u32", 4},       [T_S32] = {"s32", 4},   [T_B64] = {"b64", 8},
    [T_U64] = {"u64", 8},    [T_S64] = {"s64", 8},       [T_F16] = {"f16", 2},   [T_BF16] = {"bf16", 2},
    [T_F32] = {"f32", 4},    [T_F64] = {"f64", 8},       [T_TF32] = {"tf32", 4}, [T_F16X2] = {"f16x2", 4},
    [T_BF16X2] = {"bf16x2", 4}};

int ptx_type_bytes(PtxType t) { return types[t].bytes; }
const char *ptx_type_name(PtxType t) { return types[t].name; }

PtxType type_from_text(const char *s, int n) {
  for (int t = 1; t < T_COUNT; t++)
    if ((int)strlen(types[t].name) == n && memcmp(types[t].name, s, (size_t)n) == 0) return (PtxType)t;
  return T_NONE;
}

static const struct { const char *text; uint32_t groups; int fewest, most; } ops[OP_COUNT] = {
#define OP(id, text, groups, fewest, most, run) {text, groups, fewest, most},
#include "tests/gpu/ptx_ops.def"
};

/* What a modifier means inside its group: which field of the instruction it sets to what. */
typedef enum Field { F_NONE, F_ROUND, F_SUB, F_SUB2, F_SPACE, F_VECTOR, F_SHAPE, F_FLAG } Field;
static const struct { const char *text; uint32_t group; Field field; int value; } modifiers[] = {
    {"rn", G_ROUND, F_ROUND, ROUND_RN}, {"rz", G_ROUND, F_ROUND, ROUND_RZ}, {"rm", G_ROUND, F_ROUND, ROUND_RM},
    {"rp", G_ROUND, F_ROUND, ROUND_RP}, {"rni", G_ROUND, F_ROUND, ROUND_RNI}, {"rzi", G_ROUND, F_ROUND, ROUND_RZI},
    {"rmi", G_ROUND, F_ROUND, ROUND_RMI}, {"rpi", G_ROUND, F_ROUND, ROUND_RPI},
    {"rna", G_ROUND, F_ROUND, ROUND_RNA},
    {"ftz", G_FTZ, F_FLAG, FLAG_FTZ}, {"sat", G_SAT, F_FLAG, FLAG_SAT},
    {"lo", G_WIDTH, F_SUB, WIDTH_LO}, {"hi", G_WIDTH, F_SUB, WIDTH_HI}, {"wide", G_WIDTH, F_SUB, WIDTH_WIDE},
    {"eq", G_COMPARE, F_SUB, CMP_EQ}, {"ne", G_COMPARE, F_SUB, CMP_NE}, {"lt", G_COMPARE, F_SUB, CMP_LT},
    {"le", G_COMPARE, F_SUB, CMP_LE}, {"gt", G_COMPARE, F_SUB, CMP_GT}, {"ge", G_COMPARE, F_SUB, CMP_GE},
    {"lo", G_COMPARE, F_SUB, CMP_LT}, {"ls", G_COMPARE, F_SUB, CMP_LE}, {"hi", G_COMPARE, F_SUB, CMP_GT},
    {"hs", G_COMPARE, F_SUB, CMP_GE}, {"num", G_COMPARE, F_SUB, CMP_NUM}, {"nan", G_COMPARE, F_SUB, CMP_NAN},
    {"equ", G_COMPARE, F_SUB, CMP_EQ | 16}, {"neu", G_COMPARE, F_SUB, CMP_NE | 16},
    {"ltu", G_COMPARE, F_SUB, CMP_LT | 16}, {"leu", G_COMPARE, F_SUB, CMP_LE | 16},
    {"gtu", G_COMPARE, F_SUB, CMP_GT | 16}, {"geu", G_COMPARE, F_SUB, CMP_GE | 16},
    {"and", G_BOOL, F_SUB2, BOOL_AND}, {"or", G_BOOL, F_SUB2, BOOL_OR}, {"xor", G_BOOL, F_SUB2, BOOL_XOR},
    {"global", G_SPACE, F_SPACE, SPACE_GLOBAL}, {"shared", G_SPACE, F_SPACE, SPACE_SHARED},
    {"shared::cta", G_SPACE, F_SPACE, SPACE_SHARED}, {"local", G_SPACE, F_SPACE, SPACE_LOCAL},
    {"param", G_SPACE, F_SPACE, SPACE_PARAM}, {"const", G_SPACE, F_SPACE, SPACE_CONST},
    {"v2", G_VECTOR, F_VECTOR, 2}, {"v4", G_VECTOR, F_VECTOR, 4},
    {"cg", G_COPY, F_FLAG, FLAG_BYPASS},   /* before the hint of this name */
    {"nc", G_HINT, F_NONE, 0}, {"weak", G_HINT, F_NONE, 0}, {"volatile", G_HINT, F_NONE, 0},
    {"relaxed", G_HINT, F_NONE, 0}, {"acquire", G_HINT, F_NONE, 0}, {"release", G_HINT, F_NONE, 0},
    {"acq_rel", G_HINT, F_NONE, 0}, {"sc", G_HINT, F_NONE, 0}, {"cta", G_HINT, F_NONE, 0}, {"gpu", G_HINT, F_NONE, 0},
    {"gl", G_HINT, F_NONE, 0}, {"sys", G_HINT, F_NONE, 0}, {"ca", G_HINT, F_NONE, 0}, {"cg", G_HINT, F_NONE, 0},
    {"cs", G_HINT, F_NONE, 0}, {"lu", G_HINT, F_NONE, 0}, {"cv", G_HINT, F_NONE, 0}, {"wb", G_HINT, F_NONE, 0},
    {"wt", G_HINT, F_NONE, 0}, {"L1", G_HINT, F_NONE, 0}, {"L2", G_HINT, F_NONE, 0},
    {"L1::evict_last", G_HINT, F_NONE, 0}, {"L1::evict_first", G_HINT, F_NONE, 0},
    {"L1::no_allocate", G_HINT, F_NONE, 0}, {"L2::64B", G_HINT, F_NONE, 0}, {"L2::128B", G_HINT, F_NONE, 0},
    {"L2::256B", G_HINT, F_NONE, 0},
    {"up", G_SHUFFLE, F_SUB, SHUFFLE_UP}, {"down", G_SHUFFLE, F_SUB, SHUFFLE_DOWN},
    {"bfly", G_SHUFFLE, F_SUB, SHUFFLE_BFLY}, {"idx", G_SHUFFLE, F_SUB, SHUFFLE_IDX},
    {"any", G_VOTE, F_SUB, VOTE_ANY}, {"all", G_VOTE, F_SUB, VOTE_ALL}, {"uni", G_VOTE, F_SUB, VOTE_UNI},
    {"ballot", G_VOTE, F_SUB, VOTE_BALLOT},
    {"add", G_ATOMIC, F_SUB, ATOMIC_ADD}, {"min", G_ATOMIC, F_SUB, ATOMIC_MIN}, {"max", G_ATOMIC, F_SUB, ATOMIC_MAX},
    {"and", G_ATOMIC, F_SUB, ATOMIC_AND}, {"or", G_ATOMIC, F_SUB, ATOMIC_OR}, {"xor", G_ATOMIC, F_SUB, ATOMIC_XOR},
    {"exch", G_ATOMIC, F_SUB, ATOMIC_EXCH}, {"cas", G_ATOMIC, F_SUB, ATOMIC_CAS},
    {"inc", G_ATOMIC, F_SUB, ATOMIC_INC},
    {"dec", G_ATOMIC, F_SUB, ATOMIC_DEC},
    {"warp", G_BARRIER, F_SUB, BARRIER_WARP}, {"red", G_BARRIER, F_SUB, BARRIER_RED},
    {"arrive", G_BARRIER, F_SUB, BARRIER_ARRIVE},
    {"and", G_BARRIER, F_SUB2, REDUCE_AND}, {"or", G_BARRIER, F_SUB2, REDUCE_OR},
    {"popc", G_BARRIER, F_SUB2, REDUCE_POPC}, {"cta", G_BARRIER, F_NONE, 0},
    {"sync", G_SYNC, F_NONE, 0}, {"aligned", G_SYNC, F_FLAG, FLAG_ALIGNED},
    {"l", G_SHIFT, F_NONE, 0}, {"r", G_SHIFT, F_FLAG, FLAG_SHIFT_RIGHT}, {"wrap", G_SHIFT, F_NONE, 0},
    {"clamp", G_SHIFT, F_FLAG, FLAG_SHIFT_CLAMP},
    {"to", G_TO, F_FLAG, FLAG_TO}, {"uni", G_UNI, F_NONE, 0}, {"idx", G_UNI, F_NONE, 0},
    {"async", G_COPY, F_SUB, COPY_ASYNC}, {"commit_group", G_COPY, F_SUB, COPY_COMMIT},
    {"wait_group", G_COPY, F_SUB, COPY_WAIT}, {"wait_all", G_COPY, F_SUB, COPY_WAIT_ALL},
    {"m16n8k16", G_MATRIX, F_SHAPE, SHAPE_M16N8K16}, {"m16n8k8", G_MATRIX, F_SHAPE, SHAPE_M16N8K8},
    {"m8n8", G_MATRIX, F_SHAPE, SHAPE_M8N8}, {"x1", G_MATRIX, F_VECTOR, 1}, {"x2", G_MATRIX, F_VECTOR, 2},
    {"x4", G_MATRIX, F_VECTOR, 4}, {"trans", G_MATRIX, F_FLAG, FLAG_TRANS}, {"row", G_MATRIX, F_FLAG, FLAG_ROW},
    {"col", G_MATRIX, F_FLAG, FLAG_COL},
    {"NaN", G_NAN, F_FLAG, FLAG_NAN}, {"shiftamt", G_SHIFTAMT, F_FLAG, FLAG_SHIFTAMT},
    {"finite", G_TEST, F_SUB, TEST_FINITE}, {"infinite", G_TEST, F_SUB, TEST_INFINITE},
    {"number", G_TEST, F_SUB, TEST_NUMBER}, {"notanumber", G_TEST, F_SUB, TEST_NOTANUMBER},
    {"normal", G_TEST, F_SUB, TEST_NORMAL}, {"subnormal", G_TEST, F_SUB, TEST_SUBNORMAL},
};

static void modifier_apply(Parser *p, Instr *i, int k) {
  int value = modifiers[k].value;
  switch (modifiers[k].field) {
  case F_NONE: break;
  case F_ROUND: i->round = (uint8_t)value; break;
  case F_SUB: i->sub = (uint8_t)value; break;
  case F_SUB2: i->sub2 = (uint8_t)value; break;
  case F_SPACE:
    /* "cp.async.cg.shared.global" names both; the order is fixed, so the first one is enough. */
    if (!i->space) i->space = (uint8_t)value;
    break;
  case F_VECTOR: i->vector = (uint8_t)value; break;
  case F_SHAPE: i->shape = (uint8_t)value; break;
  case F_FLAG: i->flags |= (uint16_t)value; break;
  }
}

static bool word_is(const char *s, int n, const char *text) {
  return (int)strlen(text) == n && memcmp(s, text, (size_t)n) == 0;
}

static void decode_modifier(Parser *p, Instr *i, const char *s, int n) {
  uint32_t groups = ops[i->op].groups;
  if (groups & G_TYPE) {
    PtxType t = type_from_text(s, n);
    if (t && i->types < MAX_TYPES) {
      i->type[i->types++] = (uint8_t)t;
      return;
    }
  }
  for (size_t k = 0; k < sizeof modifiers / sizeof *modifiers; k++)
    if ((modifiers[k].group & groups) && word_is(s, n, modifiers[k].text)) {
      modifier_apply(p, i, (int)k);
      return;
    }
  parse_fail(p, i->line, "modifier .%.*s is not supported: %.*s", n, s, i->text_bytes, i->text);
}

/* Results that PTX leaves to the device are not of this project: "div.full.f32", "ex2.approx.ftz.f32". */
static void refuse_approximate(Parser *p, const Instr *i, const char *s, const char *end) {
  for (const char *dot = memchr(s, '.', (size_t)(end - s)); dot; dot = memchr(s, '.', (size_t)(end - s))) {
    s = dot + 1;
    const char *next = memchr(s, '.', (size_t)(end - s));
    int n = (int)((next ? next : end) - s);
    if (word_is(s, n, "approx") || word_is(s, n, "full"))
      parse_fail(p, i->line, ".%.*s is refused, as results would differ from device to device: %.*s", n, s,
                 i->text_bytes, i->text);
  }
}

/* "ld.global.nc.v4.f32" */
static void decode_opcode(Parser *p, Instr *i) {
  const char *s = p->t.s, *end = s + p->t.n, *dot = memchr(s, '.', (size_t)p->t.n);
  int n = (int)((dot ? dot : end) - s), op = 0;
  refuse_approximate(p, i, s, end);
  while (op < OP_COUNT && !word_is(s, n, ops[op].text)) op++;
  if (op == OP_COUNT)
    parse_fail(p, i->line, "opcode %.*s is not supported: %.*s", n, s, i->text_bytes, i->text);
  i->op = (uint16_t)op;
  i->vector = 1;
  i->sub = op == OP_BAR || op == OP_BARRIER ? BARRIER_SYNC : 0;
  if (op == OP_BAR) i->flags |= FLAG_ALIGNED;
  while (dot) {
    s = dot + 1;
    dot = memchr(s, '.', (size_t)(end - s));
    decode_modifier(p, i, s, (int)((dot ? dot : end) - s));
  }
  lex_advance(p);
}

int row_add(Function *f, RowKind kind, int axis, uint64_t value) {
  Row r = {(uint8_t)kind, (uint8_t)axis, 0, value};
  EMU_PUSH(f->row, f->rows, f->row_cap, r);
  return f->rows - 1;
}

/* Rows that are not registers get a name too, so that each value has one row per scope. */
static int row_of_value(Parser *p, RowKind kind, int axis, uint64_t value) {
  char name[48];
  int n = snprintf(name, sizeof name, "#%d.%d.%llx", kind, axis, (unsigned long long)value);
  Symbol *y = symbol_find(p, name, n);
  if (y) return (int)y->value;
  int row = row_add(p->f, kind, axis, value);
  symbol_add(p, emu_strndup(name, (size_t)n), n, SYMBOL_REGISTER, row)->owned = true;
  return row;
}

int row_of_constant(Parser *p, uint64_t value) { return row_of_value(p, ROW_CONSTANT, 0, value); }

static const struct { const char *name; RowKind kind; int axis; } specials[] = {
    {"%tid.x", ROW_TID, 0}, {"%tid.y", ROW_TID, 1}, {"%tid.z", ROW_TID, 2}, {"%ntid.x", ROW_NTID, 0},
    {"%ntid.y", ROW_NTID, 1}, {"%ntid.z", ROW_NTID, 2}, {"%ctaid.x", ROW_CTAID, 0}, {"%ctaid.y", ROW_CTAID, 1},
    {"%ctaid.z", ROW_CTAID, 2}, {"%nctaid.x", ROW_NCTAID, 0}, {"%nctaid.y", ROW_NCTAID, 1},
    {"%nctaid.z", ROW_NCTAID, 2}, {"%laneid", ROW_LANEID, 0}, {"%warpid", ROW_WARPID, 0},
    {"%nwarpid", ROW_NWARPID, 0}, {"%smid", ROW_SMID, 0}, {"%nsmid", ROW_NSMID, 0},
    {"%lanemask_eq", ROW_LANEMASK_EQ, 0}, {"%lanemask_lt", ROW_LANEMASK_LT, 0}, {"%lanemask_le", ROW_LANEMASK_LE, 0},
    {"%lanemask_gt", ROW_LANEMASK_GT, 0}, {"%lanemask_ge", ROW_LANEMASK_GE, 0},
    {"%dynamic_smem_size", ROW_DYNAMIC_SHARED_BYTES, 0}};

int row_of_name(Parser *p, const Token *t) {
  for (size_t k = 0; k < sizeof specials / sizeof *specials; k++)
    if (word_is(t->s, t->n, specials[k].name)) return row_of_value(p, specials[k].kind, specials[k].axis, 0);
  if (word_is(t->s, t->n, "WARP_SZ")) return row_of_constant(p, LANES);
  Symbol *y = symbol_find(p, t->s, t->n);
  if (!y) parse_fail(p, t->line, "unknown name '%.*s'", t->n, t->s);
  switch (y->kind) {
  case SYMBOL_REGISTER: return (int)y->value;
  case SYMBOL_PARAM: return row_of_constant(p, (uint64_t)y->value);
  case SYMBOL_FRAME_PARAM:
  case SYMBOL_LOCAL: return row_of_value(p, ROW_LOCAL, 0, (uint64_t)y->value);
  case SYMBOL_SHARED: return row_of_value(p, ROW_SHARED, 0, (uint64_t)y->value);
  case SYMBOL_DYNAMIC_SHARED: return row_of_value(p, ROW_DYNAMIC_SHARED, 0, 0);
  case SYMBOL_VARIABLE: return row_of_constant(p, p->m->variable[y->value]->address);
  case SYMBOL_FUNCTION: break;
  }
  parse_fail(p, t->line, "the address of function '%.*s' is not supported", t->n, t->s);
}

static void operand_add_row(Parser *p, Instr *i, int row) {
  int used = 0;
  for (int k = 0; k < i->operands; k++) used += i->count[k];
  if (used >= MAX_ROWS) parse_fail(p, i->line, "too many operands: %.*s", i->text_bytes, i->text);
  int k = i->operands - 1;
  if (i->count[k]++ == 0) i->at[k] = (uint8_t)used;
  i->row[used] = row;
}

/* A register, an immediate, a name or "_"; advances over it. */
static void decode_scalar(Parser *p, Instr *i) {
  bool negated = lex_accept(p, "!"), negative = lex_accept(p, "-");
  Token t = p->t;
  uint64_t v;
  if (t.kind != 'w') parse_fail(p, i->line, "an operand expected: %.*s", i->text_bytes, i->text);
  if (negated) i->negated |= (uint8_t)(1u << (i->operands - 1));
  if (token_value(&t, negative, &v)) {
    if (memchr(t.s, '.', (size_t)t.n) && i->type[0] == T_F32) {   /* a decimal is written in f64 */
      double wide;
      memcpy(&wide, &v, sizeof wide);
      float narrow = (float)wide;
      v = 0;
      memcpy(&v, &narrow, sizeof narrow);
    }
    operand_add_row(p, i, row_of_constant(p, v));
  } else if (negative) {
    parse_fail(p, i->line, "'-%.*s' is not an operand", t.n, t.s);
  } else if (word_is(t.s, t.n, "_")) {
    operand_add_row(p, i, row_add(p->f, ROW_REGISTER, 0, 0));
  } else {
    operand_add_row(p, i, row_of_name(p, &t));
  }
  lex_advance(p);
}

/* "[base+offset]".  Parameters of functions and calls live in the local frame. */
static void decode_address(Parser *p, Instr *i, int *addresses) {
  Symbol *y = p->t.kind == 'w' ? symbol_find(p, p->t.s, p->t.n) : NULL;
  if (y && y->kind == SYMBOL_FRAME_PARAM && i->space == SPACE_PARAM) i->space = SPACE_LOCAL;
  if (*addresses == 2) parse_fail(p, i->line, "too many addresses: %.*s", i->text_bytes, i->text);
  decode_scalar(p, i);
  int64_t offset = 0;
  if (lex_accept(p, "+")) offset = lex_integer(p, "an offset");
  else if (token_is(&p->t, "-")) offset = lex_integer(p, "an offset");
  i->offset[(*addresses)++] = offset;
  lex_expect(p, "]");
}

static void decode_operand(Parser *p, Instr *i, int *addresses) {
  if (i->operands == MAX_OPERANDS) parse_fail(p, i->line, "too many operands: %.*s", i->text_bytes, i->text);
  i->operands++;
  if (lex_accept(p, "[")) {
    decode_address(p, i, addresses);
  } else if (lex_accept(p, "{")) {
    do decode_scalar(p, i);
    while (lex_accept(p, ","));
    lex_expect(p, "}");
  } else {
    decode_scalar(p, i);
    if (lex_accept(p, "|")) decode_scalar(p, i);
  }
}

static void fixup_add(Parser *p) {
  Fixup x = {p->t.s, p->t.n, p->f->instrs, p->t.line, false};
  if (p->t.kind != 'w') parse_fail(p, p->t.line, "a label expected");
  EMU_PUSH(p->fixup, p->fixups, p->fixup_cap, x);
  lex_advance(p);
}

static void code_add(Parser *p, const Instr *i) { EMU_PUSH(p->f->code, p->f->instrs, p->f->instr_cap, *i); }

/* Names of call parameters in "(a, b)" -> copies between the caller's frame and parameter k of the callee. */
static int decode_call_list(Parser *p, const Instr *call, Instr *copy, int most) {
  int n = 0;
  if (!lex_accept(p, "(")) return 0;
  while (!token_is(&p->t, ")")) {
    Symbol *y = p->t.kind == 'w' ? symbol_find(p, p->t.s, p->t.n) : NULL;
    if (!y || y->kind != SYMBOL_FRAME_PARAM || n == most)
      parse_fail(p, call->line, "call parameter '%.*s' is not supported", p->t.n, p->t.s);
    copy[n] = *call;
    copy[n].op = OP_PARAM_COPY;
    copy[n].offset[0] = y->value;
    copy[n].offset[1] = n;
    copy[n++].targets = y->bytes;
    lex_advance(p);
    if (!lex_accept(p, ",")) break;
  }
  lex_expect(p, ")");
  return n;
}

static void decode_call(Parser *p, Instr *i) {
  enum { MOST = 64 };
  Instr argument[MOST], result[1];
  int arguments = 0, results = decode_call_list(p, i, result, 1);
  if (results) lex_expect(p, ",");
  Symbol *y = p->t.kind == 'w' ? symbol_find(p, p->t.s, p->t.n) : NULL;
  if (!y || y->kind != SYMBOL_FUNCTION)
    parse_fail(p, i->line, "call of '%.*s': only calls of known functions are supported", p->t.n, p->t.s);
  int callee = (int)y->value;
  lex_advance(p);
  if (lex_accept(p, ",")) arguments = decode_call_list(p, i, argument, MOST);
  const Function *f = p->m->function[callee];
  if (arguments != f->params || results != (f->result != NULL))
    parse_fail(p, i->line, "call of %s with %d arguments instead of %d", f->name, arguments, f->params);
  for (int k = 0; k < arguments; k++) {
    argument[k].target = callee;
    argument[k].sub = 0;
    code_add(p, &argument[k]);
  }
  i->target = callee;
  code_add(p, i);
  if (results) {
    result[0].target = callee;
    result[0].sub = 1;
    code_add(p, &result[0]);
  }
}

static void decode_guard(Parser *p, Instr *i) {
  i->guard = -1;
  if (!lex_accept(p, "@")) return;
  i->guard_negated = lex_accept(p, "!");
  Symbol *y = symbol_find(p, p->t.s, p->t.n);
  if (!y || y->kind != SYMBOL_REGISTER) parse_fail(p, i->line, "'%.*s' is no predicate", p->t.n, p->t.s);
  i->guard = (int)y->value;
  lex_advance(p);
}

/* Operations whose operands are all of the type. */
static bool is_uniform(const Instr *i) {
  switch (i->op) {
  case OP_MUL: case OP_MAD: return i->sub != WIDTH_WIDE;
  case OP_ADD: case OP_SUB: case OP_FMA: case OP_MIN: case OP_MAX: case OP_NEG: case OP_ABS: case OP_AND: case OP_OR:
  case OP_XOR: case OP_NOT: case OP_DIV: case OP_REM: case OP_RCP: case OP_SQRT: return true;
  default: return false;
  }
}

/* As the hardware's assembler: a register must have the size of the type, and be no predicate where a number is
 * meant; fragments of 16-bit elements are .b32 and not .f32, sums are .f32. */
static void check_registers(Parser *p, const Instr *i) {
  bool product = i->op == OP_MMA, uniform = is_uniform(i);
  for (int k = 0; (product || uniform) && k < i->operands; k++)
    for (int c = 0; c < i->count[k]; c++) {
      int declared = p->f->row[i->row[i->at[k] + c]].type;
      if (declared == T_NONE) continue;
      int type = product ? i->type[k] : i->type[0], bytes = product ? 4 : ptx_type_bytes((PtxType)type);
      bool fits = ptx_type_bytes((PtxType)declared) == bytes && (declared == T_PRED) == (type == T_PRED);
      if (product && type != T_F32 && declared == T_F32) fits = false;
      if (product && type == T_F32 && declared != T_F32 && declared != T_B32) fits = false;
      if (!fits)
        parse_fail(p, i->line, "operand %d is a register of type .%s where .%s is meant: %.*s", k + 1,
                   ptx_type_name((PtxType)declared), ptx_type_name((PtxType)type), i->text_bytes, i->text);
    }
}

void decode_instruction(Parser *p) {
  const char *end = strchr(p->t.s, ';');
  Instr i = {.line = p->t.line, .text = p->t.s};
  if (!end) parse_fail(p, i.line, "';' expected");
  i.text_bytes = (int)(end - p->t.s) < 120 ? (int)(end - p->t.s) : 120;
  decode_guard(p, &i);
  decode_opcode(p, &i);
  if (i.op == OP_CALL) {
    decode_call(p, &i);
    lex_expect(p, ";");
    return;
  }
  int addresses = 0;
  if (i.op == OP_BRA) {
    fixup_add(p);
  } else if (!token_is(&p->t, ";")) {
    decode_operand(p, &i, &addresses);
    while (lex_accept(p, ",")) {
      if (i.op == OP_BRX) fixup_add(p);
      else decode_operand(p, &i, &addresses);
    }
  }
  lex_expect(p, ";");
  if (i.operands < ops[i.op].fewest || i.operands > ops[i.op].most)
    parse_fail(p, i.line, "%d operands are too %s: %.*s", i.operands, i.operands < ops[i.op].fewest ? "few" : "many",
               i.text_bytes, i.text);
  const char *missing = ptx_instr_bind(&i);
  if (missing) parse_fail(p, i.line, "%s is not supported: %.*s", missing, i.text_bytes, i.text);
  check_registers(p, &i);
  if (ptx_instr_capability(&i) > p->m->target)
    parse_fail(p, i.line, "this needs .target sm_%d or higher: %.*s", ptx_instr_capability(&i), i.text_bytes, i.text);
  code_add(p, &i);
}
