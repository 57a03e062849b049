/* Checks a finished kernel: scoping, types, uniformity, barriers that some groups may not reach, and accesses that are
 * surely out of bounds. */
#include "codegen/kir/build.h"

/* Between which of an item's groups a value may differ; the latter includes the former. */
enum { NOWHERE, BETWEEN_PAIRS, BETWEEN_GROUPS };

typedef struct Verifier {
  const Kernel *k;
  bool *seen;       /* by id: the instruction stands before the current one, in a block around it */
  uint8_t *differs; /* by id: who may have different values */
  int apart[3];     /* blocks around the current one that may be executed by some only: [BETWEEN_PAIRS] of the pairs,
                       [BETWEEN_GROUPS] of the groups of a pair */
  Error *err;
} Verifier;

static bool broken(Verifier *v, const KInst *i, const char *what) {
  return error_set(v->err, ERROR_ARGUMENT, "kernel %s: instruction %d (%s): %s", v->k->name, i->id,
                   kop_info[i->op].text, what);
}

static bool check_operands(Verifier *v, const KInst *i) {
  if (i->n_in != kop_info[i->op].n_in) return broken(v, i, "wrong number of operands");
  for (int j = 0; j < i->n_in; j++) {
    const KInst *x = i->in[j];
    bool is_access = i->op == KOP_LOAD || i->op == KOP_STORE || i->op == KOP_LOAD4;
    bool optional = (is_access && (j == 1 || j == 2)) || (i->op == KOP_STORE4 && j == 2) ||
                    (i->op == KOP_COPY && (j == 2 || j == 4));
    if (!x && optional) continue;
    if (!x) return broken(v, i, "an operand is missing");
    if (x->id < 0 || x->id >= v->k->n_inst || !v->seen[x->id]) return broken(v, i, "an operand is not visible here");
    if ((x->op == KOP_VAR) != ((i->op == KOP_GET || i->op == KOP_SET) && j == 0))
      return broken(v, i, "variables are read by get and written by set only");
    bool statement = x->op == KOP_STORE || x->op == KOP_SET || x->op == KOP_IF || x->op == KOP_SYNC ||
                     x->op >= KOP_STORE4;
    if (statement) return broken(v, i, "an operand has no value");
  }
  return true;
}

static bool check_type(Verifier *v, const KInst *i) {
  KType type = i->type;
  bool varying = false;
  const char *wrong = kir_infer(i, &type, &varying);
  if (wrong) return broken(v, i, wrong);
  bool no_value = i->op == KOP_IF || i->op == KOP_SYNC || i->op == KOP_STORE || i->op >= KOP_STORE4;
  if (type != i->type && (!no_value || i->op == KOP_STORE)) return broken(v, i, "wrong type");
  if (!no_value && varying != i->varying) return broken(v, i, "uniform and varying confused");
  if (i->op == KOP_GET && i->type != i->in[0]->type) return broken(v, i, "not the variable's type");
  if (i->op == KOP_FOR && (!kir_is_const(i->in[2]) || i->in[2]->imm <= 0))
    return broken(v, i, "the step must be a positive constant");
  return true;
}

/* Ranges are upper bounds of what can happen, so only an access none of whose values fits is surely wrong; LANE itself
 * takes all its values. */
static bool check_bounds(Verifier *v, const KInst *i) {
  if (i->imm < 0 || i->imm >= v->k->n_buf) return broken(v, i, "the buffer does not exist");
  const KBuf *b = &v->k->buf[i->imm];
  bool stores = i->op == KOP_STORE || i->op == KOP_STORE4 || i->op == KOP_COPY;
  if (stores && !b->written) return broken(v, i, "the buffer is only read");
  if (b->space == SPACE_GLOBAL || i->in[2]) return true;
  int64_t lo = i->in[0]->lo, hi = i->in[0]->hi;
  if (lo == INT64_MIN || hi == INT64_MAX) return true;
  int64_t lane_lo = i->in[1] ? i->in[1]->lo : 0, lane_hi = i->in[1] ? i->in[1]->hi : 0;
  if (lane_lo == INT64_MIN || lane_hi == INT64_MAX) return true;
  bool exact = i->in[1] && i->in[1]->op == KOP_LANE;
  int64_t last = hi + lane_lo, first = exact ? lo + lane_hi : lo + lane_lo;
  if (i->op == KOP_TILE) first += (LANES - 1) * (i->stride + 1);
  if (last < 0 || first >= b->elems) return broken(v, i, "the access is outside the buffer");
  return true;
}

static bool check_copy(Verifier *v, const KInst *i) {
  const Kernel *k = v->k;
  DType t = k->buf[i->imm].dtype;
  size_t bytes = (size_t)i->count * dtype_bytes(t);
  if (i->from < 0 || i->from >= k->n_args || k->buf[i->from].written || k->buf[i->from].dtype != t)
    return broken(v, i, "a copy reads an argument of the target's type that is not written to");
  if (k->buf[i->imm].space != SPACE_SCRATCH) return broken(v, i, "a copy goes to scratch");
  return (bytes >= 4 && bytes <= 16) || broken(v, i, "a lane copies 4, 8 or 16 bytes");
}

/* A pair's groups execute TILE and MMA together, on the same tiles. */
static bool check_pair(Verifier *v, const KInst *i) {
  const KBuf *b = &v->k->buf[i->imm];
  if (v->k->groups % 2) return broken(v, i, "the last group has no other to make a pair with");
  if (v->apart[BETWEEN_GROUPS]) return broken(v, i, "one group of a pair may come here without the other");
  for (int j = 0; j < (i->op == KOP_MMA ? 2 : 1); j++)
    if (v->differs[i->in[j]->id] == BETWEEN_GROUPS) return broken(v, i, "the groups of a pair may mean different tiles");
  bool fits = i->op == KOP_MMA || (b->space == SPACE_SCRATCH && b->dtype == DTYPE_BF16);
  return fits || broken(v, i, "tiles are read from bf16 scratch");
}

/* What only items of several groups have. */
static bool check_groups(Verifier *v, const KInst *i) {
  const Kernel *k = v->k;
  if (i->op < KOP_GROUP) return true;
  if (k->groups < 2) return broken(v, i, "only an item of several groups has this");
  bool is_quad = i->op == KOP_LOAD4 || i->op == KOP_STORE4 || i->op == KOP_COPY;
  if (is_quad && !dtype_is_float(k->buf[i->imm].dtype)) return broken(v, i, "the buffer must be f32 or bf16");
  if (i->op == KOP_COPY && !check_copy(v, i)) return false;
  if ((i->op == KOP_TILE || i->op == KOP_MMA) && !check_pair(v, i)) return false;
  if (i->op == KOP_WAIT && i->imm < 0) return broken(v, i, "a negative number of batches");
  bool apart = v->apart[BETWEEN_PAIRS] || v->apart[BETWEEN_GROUPS];
  return i->op != KOP_BARRIER || !apart || broken(v, i, "not all groups may come here");
}

/* What memory and variables hold is taken to differ; what tiles hold is their place's. */
static int differs_where(const Verifier *v, const KInst *i) {
  int where = NOWHERE;
  bool always = i->op == KOP_GROUP || i->op == KOP_GET || i->op == KOP_LOAD || i->op == KOP_LOAD4 || i->op == KOP_MMA;
  if (always) return BETWEEN_GROUPS;
  bool is_pair = i->op == KOP_DIV && i->in[0]->op == KOP_GROUP && kir_is_const(i->in[1]) && i->in[1]->imm % 2 == 0;
  if (is_pair) return BETWEEN_PAIRS;
  for (int j = 0; j < i->n_in; j++)
    if (i->in[j] && v->differs[i->in[j]->id] > where) where = v->differs[i->in[j]->id];
  return where;
}

static bool check_block(Verifier *v, const KBlock *b, const KBlock *parent);

static bool check_inst(Verifier *v, const KInst *i) {
  bool is_access = i->op == KOP_LOAD || i->op == KOP_STORE || i->op == KOP_LOAD4 || i->op == KOP_STORE4 ||
                   i->op == KOP_COPY || i->op == KOP_TILE;
  if (!check_operands(v, i) || !check_type(v, i)) return false;
  if ((is_access && !check_bounds(v, i)) || !check_groups(v, i)) return false;
  if ((i->op == KOP_FOR || i->op == KOP_IF) != (i->body != NULL)) return broken(v, i, "its block is missing");
  v->seen[i->id] = true;
  int where = differs_where(v, i);
  v->differs[i->id] = (uint8_t)where;
  v->apart[where] += i->body != NULL;
  bool ok = (!i->body || check_block(v, i->body, i->block)) && (!i->other || check_block(v, i->other, i->block));
  v->apart[where] -= i->body != NULL;
  return ok;
}

static bool check_block(Verifier *v, const KBlock *b, const KBlock *parent) {
  if (b->parent != parent)
    return error_set(v->err, ERROR_ARGUMENT, "kernel %s: a block with the wrong parent", v->k->name);
  for (const KInst *i = b->first; i; i = i->next) {
    if (i->block != b || i->id < 0 || i->id >= v->k->n_inst) return broken(v, i, "it stands in the wrong block");
    if (!check_inst(v, i)) return false;
  }
  for (const KInst *i = b->first; i; i = i->next) v->seen[i->id] = false;
  return true;
}

bool kir_verify(const Kernel *k, Error *err) {
  if (k->open != k->body) return error_set(err, ERROR_ARGUMENT, "kernel %s: a block is still open", k->name);
  if (k->groups < 1 || k->groups > KIR_MAX_GROUPS)
    return error_set(err, ERROR_ARGUMENT, "kernel %s: items of %d groups; 1 to %d can be", k->name, k->groups,
                     KIR_MAX_GROUPS);
  Verifier v = {.k = k, .err = err, .seen = mem_alloc((size_t)k->n_inst), .differs = mem_alloc((size_t)k->n_inst)};
  bool ok = v.seen && v.differs;
  if (!ok) error_set(err, ERROR_MEMORY, "out of memory");
  ok = ok && check_block(&v, k->body, NULL);
  mem_free(v.seen);
  mem_free(v.differs);
  return ok;
}
