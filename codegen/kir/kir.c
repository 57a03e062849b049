/* Building kernels: buffers, structured blocks, and instructions with value numbering.
 *
 * Equal pure instructions of the open block and the blocks around it become one.  What an instruction simplifies to is
 * kir_fold.c's, what its operands may be is kir_infer's. */
#include "codegen/kir/build.h"

#include <string.h>

const KOpInfo kop_info[KOP_COUNT] = {
#define X(id, text, n, pure) {text, n, pure},
    KIR_OPS(X)
#undef X
};

const char *ktype_name(KType t) {
  static const char *const names[] = {"bool", "i32", "i64", "f32", "quad", "tile"};
  return names[t];
}

Kernel *kir_new(Arena *a, const char *name) {
  Kernel *k = ARENA_NEW(a, Kernel);
  k->arena = a;
  k->name = arena_strdup(a, name);
  k->grain = k->groups = 1;
  k->body = ARENA_NEW(a, KBlock);
  k->open = k->body;
  k->n_bucket = 256;
  k->bucket = ARENA_ARRAY(a, KInst *, k->n_bucket);
  return k;
}

/* ---- buffers ---- */

static int buf_add(Kernel *k, const KBuf *b) {
  BUG_IF(k->n_buf == KIR_MAX_BUFS, "kernel %s needs more than %d buffers", k->name, KIR_MAX_BUFS);
  k->buf[k->n_buf] = *b;
  k->buf[k->n_buf].name = arena_strdup(k->arena, b->name);
  return k->n_buf++;
}

int kir_arg(Kernel *k, const char *name, DType dtype, bool written) {
  BUG_IF(k->n_args != k->n_buf, "kernel %s: argument %s comes after a scratch buffer or table", k->name, name);
  k->n_args++;
  return buf_add(k, &(KBuf){.name = name, .dtype = dtype, .space = SPACE_GLOBAL, .written = written, .restrict_ = true});
}

int kir_scratch(Kernel *k, const char *name, DType dtype, int64_t elems) {
  BUG_IF(elems <= 0 || elems > (int64_t)1 << 40, "kernel %s: scratch %s of %lld elements", k->name, name,
         (long long)elems);
  return buf_add(k, &(KBuf){.name = name, .dtype = dtype, .space = SPACE_SCRATCH, .written = true, .restrict_ = true,
                            .elems = elems});
}

static int64_t buf_bytes(const KBuf *b) { return b->elems * (int64_t)dtype_bytes(b->dtype); }

int kir_scratch_over(Kernel *k, const char *name, DType dtype, int64_t elems, int buf) {
  int i = kir_scratch(k, name, dtype, elems);
  BUG_IF(buf < 0 || buf >= i || k->buf[buf].space != SPACE_SCRATCH || k->buf[buf].over ||
             buf_bytes(&k->buf[i]) > buf_bytes(&k->buf[buf]),
         "kernel %s: scratch %s does not fit into buffer %d", k->name, name, buf);
  k->buf[i].over = buf + 1;
  return i;
}

int kir_table(Kernel *k, const char *name, DType dtype, const void *data, int64_t elems) {
  BUG_IF(elems <= 0 || elems > (int64_t)1 << 32, "kernel %s: table %s of %lld elements", k->name, name,
         (long long)elems);
  void *copy = arena_copy(k->arena, data, (size_t)elems * dtype_bytes(dtype));
  return buf_add(k, &(KBuf){.name = name, .dtype = dtype, .space = SPACE_TABLE, .restrict_ = true, .elems = elems,
                            .data = copy});
}

void kir_factor(Kernel *k, Dim size, int64_t tile) {
  BUG_IF(k->n_factor == KIR_MAX_FACTORS, "kernel %s: too many item factors", k->name);
  BUG_IF(tile <= 0, "kernel %s: tile %lld", k->name, (long long)tile);
  k->factor[k->n_factor++] = (KFactor){size, tile};
}

int64_t kir_scratch_offset(const Kernel *k, int buf) {
  int64_t at = 0;
  if (buf < k->n_buf && k->buf[buf].over) buf = k->buf[buf].over - 1;
  for (int i = 0; i < buf; i++)
    if (k->buf[i].space == SPACE_SCRATCH && !k->buf[i].over) at += (buf_bytes(&k->buf[i]) + 63) & ~63ll;
  return at;
}

int64_t kir_scratch_bytes(const Kernel *k) { return kir_scratch_offset(k, k->n_buf); }

/* ---- instructions ---- */

bool kblock_inside(const KBlock *b, const KBlock *outer) {
  while (b && b != outer) b = b->parent;
  return b != NULL;
}

static KInst *append(Kernel *k, const KInst *from) {
  KInst *i = arena_copy(k->arena, from, sizeof *from);
  i->id = k->n_inst++;
  i->block = k->open;
  i->next = NULL;
  if (k->open->last) k->open->last->next = i;
  else k->open->first = i;
  k->open->last = i;
  return i;
}

static uint32_t inst_hash(const KInst *i) {
  uint32_t f, h = (uint32_t)i->op * 31u + (uint32_t)i->type;
  memcpy(&f, &i->fimm, sizeof f);
  uint64_t word[4] = {(uint64_t)i->imm ^ (uint64_t)f << 17, 0, 0, 0};
  for (int j = 0; j < i->n_in; j++) word[1 + j] = (uint64_t)i->in[j]->id + 1;
  for (int j = 0; j < 4; j++) h = (uint32_t)(((uint64_t)h + word[j]) * 0x9e3779b97f4a7c15ull >> 31);
  return h;
}

static bool inst_equal(const KInst *x, const KInst *y) {
  return x->op == y->op && x->type == y->type && x->imm == y->imm && x->n_in == y->n_in &&
         !memcmp(&x->fimm, &y->fimm, sizeof x->fimm) && !memcmp(x->in, y->in, sizeof x->in);
}

static void bucket_grow(Kernel *k) {
  int n = 4 * k->n_bucket;
  KInst **bucket = ARENA_ARRAY(k->arena, KInst *, n);
  for (int b = 0; b < k->n_bucket; b++)
    for (KInst *i = k->bucket[b], *next; i; i = next) {
      next = i->chain;
      uint32_t h = inst_hash(i) % (uint32_t)n;
      i->chain = bucket[h];
      bucket[h] = i;
    }
  k->bucket = bucket;
  k->n_bucket = n;
}

/* The equal instruction that is visible here, or a new one. */
static KInst *number(Kernel *k, KInst *from) {
  uint32_t h = inst_hash(from);
  for (KInst *i = k->bucket[h % (uint32_t)k->n_bucket]; i; i = i->chain)
    if (inst_equal(i, from) && kblock_inside(k->open, i->block)) return i;
  if (k->n_inst > 2 * k->n_bucket) bucket_grow(k);
  KInst *i = append(k, from);
  i->chain = k->bucket[h % (uint32_t)k->n_bucket];
  k->bucket[h % (uint32_t)k->n_bucket] = i;
  return i;
}

KInst *kir_const(Kernel *k, KType type, int64_t imm, float fimm) {
  KInst i = {.op = KOP_CONST, .type = type, .imm = imm, .fimm = fimm, .lo = imm, .hi = imm};
  if (!kir_is_int(type)) i.lo = INT64_MIN, i.hi = INT64_MAX;
  return number(k, &i);
}

KInst *kir_i32(Kernel *k, int32_t x) { return kir_const(k, K_I32, x, 0); }
KInst *kir_i64(Kernel *k, int64_t x) { return kir_const(k, K_I64, x, 0); }
KInst *kir_f32(Kernel *k, float x) { return kir_const(k, K_F32, 0, x); }
KInst *kir_bool(Kernel *k, bool x) { return kir_const(k, K_BOOL, x, 0); }

KInst *kir_item(Kernel *k) {
  KInst i = {.op = KOP_ITEM, .type = K_I64, .lo = 0, .hi = INT64_MAX};
  return number(k, &i);
}

KInst *kir_lane(Kernel *k) {
  KInst i = {.op = KOP_LANE, .type = K_I32, .varying = true, .lo = 0, .hi = LANES - 1};
  return number(k, &i);
}

static KInst *size_of(Kernel *k, int which) {
  KInst i = {.op = KOP_SIZE, .type = K_I64, .imm = which, .lo = 0, .hi = INT64_MAX};
  return number(k, &i);
}

KInst *kir_dim(Kernel *k, Dim d) {
  KInst *sum = kir_i64(k, d.c);
  if (d.b) sum = kir_bin(k, KOP_ADD, kir_bin(k, KOP_MUL, size_of(k, 0), kir_i64(k, d.b)), sum);
  if (d.r) sum = kir_bin(k, KOP_ADD, kir_bin(k, KOP_MUL, size_of(k, 1), kir_i64(k, d.r)), sum);
  return sum;
}

KInst *kir_op(Kernel *k, KOp op, KInst *x, KInst *y, KInst *z) {
  KInst i = {.op = op, .n_in = kop_info[op].n_in, .in = {x, y, z}};
  BUG_IF(!kop_info[op].pure || i.n_in == 0, "kir_op cannot build %s", kop_info[op].text);
  for (int j = 0; j < 3; j++)
    BUG_IF((j < i.n_in) != (i.in[j] != NULL), "%s takes %d operands", kop_info[op].text, i.n_in);
  const char *wrong = kir_infer(&i, &i.type, &i.varying);
  BUG_IF(wrong, "kernel %s: %s: %s", k->name, kop_info[op].text, wrong);
  KInst *simple = kir_simplify(k, &i);
  if (simple) return simple;
  kir_set_range(&i);
  /* A range of one value is that value. */
  if (kir_is_int(i.type) && i.lo == i.hi) return kir_const(k, i.type, i.lo, 0);
  return number(k, &i);
}

static KType load_type(DType t) { return dtype_is_float(t) ? K_F32 : K_I32; }

/* The uniform part of a lane offset moves into the base, so that back ends see LANE itself where a whole vector is
 * contiguous. */
static void split_offset(Kernel *k, KInst **base, KInst **lane_offset) {
  KInst *off = *lane_offset;
  if (!off) return;
  if (!off->varying) {
    *base = kir_bin(k, KOP_ADD, *base, kir_un(k, KOP_TO_I64, off));
    *lane_offset = NULL;
    return;
  }
  for (int side = 0; off->op == KOP_ADD && side < 2; side++) {
    KInst *uniform = off->in[side];
    /* Only where the i32 sum is known not to wrap. */
    if (uniform->varying || off->lo < INT32_MIN || off->hi > INT32_MAX) continue;
    *base = kir_bin(k, KOP_ADD, *base, kir_un(k, KOP_TO_I64, uniform));
    *lane_offset = off->in[!side];
    split_offset(k, base, lane_offset);
    return;
  }
}

static void memory_operands(Kernel *k, KInst *i, int buf, KInst *base, KInst *lane_offset, KInst *mask) {
  BUG_IF(buf < 0 || buf >= k->n_buf, "kernel %s: buffer %d does not exist", k->name, buf);
  split_offset(k, &base, &lane_offset);
  if (mask && kir_is_const(mask) && mask->imm) mask = NULL;
  i->imm = buf;
  i->in[0] = base;
  i->in[1] = lane_offset;
  i->in[2] = mask;
}

KInst *kir_load(Kernel *k, int buf, KInst *base, KInst *lane_offset, KInst *mask) {
  KInst i = {.op = KOP_LOAD, .n_in = 3, .lo = INT64_MIN, .hi = INT64_MAX};
  memory_operands(k, &i, buf, base, lane_offset, mask);
  i.type = load_type(k->buf[buf].dtype);
  const char *wrong = kir_infer(&i, &i.type, &i.varying);
  BUG_IF(wrong, "kernel %s: load of %s: %s", k->name, k->buf[buf].name, wrong);
  if (k->buf[buf].dtype == DTYPE_U8) i.lo = 0, i.hi = 255;
  return append(k, &i);
}

void kir_store(Kernel *k, int buf, KInst *base, KInst *lane_offset, KInst *value, KInst *mask) {
  KInst i = {.op = KOP_STORE, .n_in = 4, .lo = INT64_MIN, .hi = INT64_MAX};
  memory_operands(k, &i, buf, base, lane_offset, mask);
  i.in[3] = value;
  i.type = load_type(k->buf[buf].dtype);
  const char *wrong = kir_infer(&i, &i.type, &i.varying);
  BUG_IF(wrong, "kernel %s: store to %s: %s", k->name, k->buf[buf].name, wrong);
  BUG_IF(!k->buf[buf].written, "kernel %s: store to %s, which is only read", k->name, k->buf[buf].name);
  append(k, &i);
}

KInst *kir_peel(Kernel *k, KInst **item, KInst *count) {
  KInst *rest = kir_bin(k, KOP_MOD, *item, count);
  *item = kir_bin(k, KOP_DIV, *item, count);
  return rest;
}

KInst *kir_var(Kernel *k, KInst *first, bool varying) {
  BUG_IF(first->varying && !varying, "kernel %s: a uniform variable starts with a varying value", k->name);
  BUG_IF(varying && first->type == K_I64, "kernel %s: a varying variable of type i64", k->name);
  KInst i = {.op = KOP_VAR, .type = first->type, .varying = varying, .n_in = 1, .in = {first}, .lo = INT64_MIN,
             .hi = INT64_MAX};
  return append(k, &i);
}

KInst *kir_get(Kernel *k, KInst *var) {
  BUG_IF(var->op != KOP_VAR, "kernel %s: get of something that is not a variable", k->name);
  KInst i = {.op = KOP_GET, .type = var->type, .varying = var->varying, .n_in = 1, .in = {var}, .lo = INT64_MIN,
             .hi = INT64_MAX};
  return append(k, &i);
}

void kir_set(Kernel *k, KInst *var, KInst *value) {
  KInst i = {.op = KOP_SET, .type = var->type, .n_in = 2, .in = {var, value}, .lo = INT64_MIN, .hi = INT64_MAX};
  const char *wrong = kir_infer(&i, &i.type, &i.varying);
  BUG_IF(wrong, "kernel %s: set: %s", k->name, wrong);
  append(k, &i);
}

/* ---- blocks ---- */

static KBlock *block_open(Kernel *k) {
  KBlock *b = ARENA_NEW(k->arena, KBlock);
  b->parent = k->open;
  return b;
}

KInst *kir_for(Kernel *k, KInst *lo, KInst *hi, int64_t step, int unroll) {
  BUG_IF(step <= 0, "kernel %s: a loop with step %lld", k->name, (long long)step);
  KInst i = {.op = KOP_FOR, .n_in = 3, .in = {lo, hi, kir_i64(k, step)}, .imm = unroll};
  const char *wrong = kir_infer(&i, &i.type, &i.varying);
  BUG_IF(wrong, "kernel %s: for: %s", k->name, wrong);
  i.lo = lo->lo;
  i.hi = hi->hi == INT64_MAX || hi->hi == INT64_MIN ? hi->hi : hi->hi - 1;
  i.align = kir_align(lo) < kir_align(i.in[2]) ? kir_align(lo) : kir_align(i.in[2]);
  if (kir_is_const(lo) && i.hi != INT64_MAX && i.hi >= i.lo) i.hi = i.lo + (i.hi - i.lo) / step * step;
  KInst *loop = append(k, &i);
  loop->body = block_open(k);
  k->open = loop->body;
  return loop;
}

void kir_if(Kernel *k, KInst *cond) {
  KInst i = {.op = KOP_IF, .n_in = 1, .in = {cond}, .lo = INT64_MIN, .hi = INT64_MAX};
  const char *wrong = kir_infer(&i, &i.type, &i.varying);
  BUG_IF(wrong, "kernel %s: if: %s", k->name, wrong);
  KInst *branch = append(k, &i);
  branch->body = block_open(k);
  k->open = branch->body;
}

void kir_else(Kernel *k) {
  KInst *branch = k->open->parent ? k->open->parent->last : NULL;
  BUG_IF(!branch || branch->op != KOP_IF || branch->body != k->open, "kernel %s: else without if", k->name);
  k->open = k->open->parent;
  branch->other = block_open(k);
  k->open = branch->other;
}

void kir_end(Kernel *k) {
  BUG_IF(!k->open->parent, "kernel %s: end without a block", k->name);
  k->open = k->open->parent;
}

void kir_sync(Kernel *k) {
  KInst i = {.op = KOP_SYNC, .lo = INT64_MIN, .hi = INT64_MAX};
  append(k, &i);
}

/* ---- blocks of several groups ---- */

void kir_block(Kernel *k, int groups, int resident) {
  BUG_IF(groups < 2 || groups > KIR_MAX_GROUPS, "kernel %s: a block of %d groups", k->name, groups);
  k->groups = groups;
  k->resident = resident;
}

KInst *kir_group(Kernel *k) {
  KInst i = {.op = KOP_GROUP, .type = K_I32, .lo = 0, .hi = k->groups - 1};
  return number(k, &i);
}

static KInst *append_checked(Kernel *k, KInst *i) {
  const char *wrong = kir_infer(i, &i->type, &i->varying);
  BUG_IF(wrong, "kernel %s: %s: %s", k->name, kop_info[i->op].text, wrong);
  i->lo = INT64_MIN;
  i->hi = INT64_MAX;
  return append(k, i);
}

KInst *kir_load4(Kernel *k, int buf, KInst *base, KInst *lane_offset, KInst *mask) {
  KInst i = {.op = KOP_LOAD4, .n_in = 3};
  memory_operands(k, &i, buf, base, lane_offset, mask);
  KInst *quad = append_checked(k, &i);
  k->n_inst += QUAD - 1;   /* its four values are numbered from its id on */
  return quad;
}

KInst *kir_part(Kernel *k, KInst *quad, int which) {
  KInst i = {.op = KOP_PART, .n_in = 1, .in = {quad}, .imm = which, .lo = INT64_MIN, .hi = INT64_MAX};
  const char *wrong = kir_infer(&i, &i.type, &i.varying);
  BUG_IF(wrong, "kernel %s: part: %s", k->name, wrong);
  return number(k, &i);
}

void kir_store4(Kernel *k, int buf, KInst *base, KInst *lane_offset, KInst *const value[QUAD], KInst *mask) {
  KInst i = {.op = KOP_STORE4, .n_in = 3 + QUAD, .type = K_F32};
  memory_operands(k, &i, buf, base, lane_offset, mask);
  for (int j = 0; j < QUAD; j++) i.in[3 + j] = value[j];
  append_checked(k, &i);
}

KInst *kir_tile(Kernel *k, int buf, KInst *base, int stride, KLayout layout) {
  KInst i = {.op = KOP_TILE, .n_in = 1, .stride = stride, .layout = layout};
  memory_operands(k, &i, buf, base, NULL, NULL);
  KInst *tile = append_checked(k, &i);
  k->n_inst += LANES - 1;   /* its rows are numbered from its id on */
  return tile;
}

KInst *kir_mma(Kernel *k, KInst *a, KInst *b, int half, KInst *const sum[QUAD]) {
  KInst i = {.op = KOP_MMA, .n_in = 2 + QUAD, .in = {a, b}, .imm = half};
  for (int j = 0; j < QUAD; j++) i.in[2 + j] = sum[j];
  KInst *quad = append_checked(k, &i);
  k->n_inst += QUAD - 1;
  return quad;
}

void kir_copy(Kernel *k, KPlace to, KPlace from, int count, KInst *mask) {
  KInst i = {.op = KOP_COPY, .n_in = 5, .type = K_F32, .from = from.buf, .count = count};
  memory_operands(k, &i, to.buf, to.base, to.lane_offset, mask);
  split_offset(k, &from.base, &from.lane_offset);
  i.in[3] = from.base;
  i.in[4] = from.lane_offset;
  append_checked(k, &i);
}

static void append_statement(Kernel *k, KOp op, int64_t imm) {
  KInst i = {.op = op, .imm = imm, .lo = INT64_MIN, .hi = INT64_MAX};
  append(k, &i);
}

void kir_commit(Kernel *k) { append_statement(k, KOP_COMMIT, 0); }
void kir_wait(Kernel *k, int batches) { append_statement(k, KOP_WAIT, batches); }
void kir_barrier(Kernel *k) { append_statement(k, KOP_BARRIER, 0); }

/* ---- uses ---- */

static void list_block(const KBlock *b, const KInst **by_id) {
  for (const KInst *i = b->first; i; i = i->next) {
    by_id[i->id] = i;
    if (i->body) list_block(i->body, by_id);
    if (i->other) list_block(i->other, by_id);
  }
}

static bool has_effect(KOp op) {
  return op == KOP_STORE || op == KOP_VAR || op == KOP_SET || op == KOP_FOR || op == KOP_IF || op == KOP_SYNC ||
         op >= KOP_STORE4;
}

int *kir_count_uses(const Kernel *k) {
  size_t n = (size_t)k->n_inst;
  int *uses = mem_alloc(n * sizeof *uses);
  const KInst **by_id = mem_alloc(n * sizeof *by_id);
  if (!uses || !by_id) {
    mem_free(uses);
    mem_free(by_id);
    return NULL;
  }
  list_block(k->body, by_id);
  /* Users have larger ids than their operands, so one sweep from the end sees all uses of a value before it. */
  for (int id = k->n_inst - 1; id >= 0; id--) {
    const KInst *i = by_id[id];
    if (uses[id] == 0 && !(i && has_effect(i->op))) uses[id] = -1;
    if (uses[id] < 0) continue;
    for (int j = 0; j < i->n_in; j++)
      if (i->in[j]) uses[i->in[j]->id]++;
  }
  mem_free(by_id);
  return uses;
}
