/* The definition of the kernel IR: executes a kernel lane by lane.  Groups of one item go side by side, instruction by
 * instruction; that what they do between two barriers is independent of this order is kir_interp_block.c's to check.
 *
 * Floating point runs in the mode kernels run in (denormals flushed); the caller's mode is restored.  Accesses to scratch
 * and tables are checked; the sizes of arguments are not known here. */
#include "codegen/kir/interp.h"

#include <string.h>

#include "runtime/base/float_mode.h"

bool machine_fault(Machine *m, const KInst *i, const char *what) {
  return error_set(m->err, ERROR_ARGUMENT, "kernel %s: instruction %d (%s) at item %lld: %s", m->k->name, i->id,
                   kop_info[i->op].text, (long long)m->item, what);
}

static Lane run_lane(const KInst *i, Lane x, Lane y, Lane z) {
  return number_compute((NumberOp)(i->op - KOP_ADD), (NumberType)i->in[0]->type, x, y, z);
}

/* Lane l of the first half meets lane l of the second, the half becomes the whole. */
static Lane run_tree(const KInst *i, const Value *x) {
  NumberOp op = i->op == KOP_TREE_ADD ? NUMBER_ADD : i->op == KOP_TREE_MAX ? NUMBER_MAX : NUMBER_MIN;
  Value v = *x;
  for (int half = LANES / 2; half; half /= 2)
    for (int l = 0; l < half; l++)
      v.lane[l] = number_compute(op, (NumberType)i->in[0]->type, v.lane[l], v.lane[l + half], (Lane){0});
  return v.lane[0];
}

static Value run_exchange(const KInst *i, const Value *x, const Value *y) {
  Value r;
  int d = (int)i->in[2]->imm;
  for (int l = 0; l < LANES; l++) {
    const Value *from = l & d ? y : x;
    bool stays = (l & d) == (i->op == KOP_HIGH ? d : 0);
    r.lane[l] = from->lane[stays ? l : l ^ d];
  }
  return r;
}

static char *buf_data(Machine *m, int buf) {
  const KBuf *b = &m->k->buf[buf];
  if (b->space == SPACE_GLOBAL) return m->args[buf];
  if (b->space == SPACE_SCRATCH) return m->scratch + kir_scratch_offset(m->k, buf);
  return (char *)(uintptr_t)b->data; /* never stored to: kir_verify */
}

static Lane load_elem(DType t, const char *p) {
  Lane r = {0};
  uint16_t half;
  int32_t word;
  switch (t) {
  case DTYPE_F32: memcpy(&r.f, p, 4); break;
  case DTYPE_BF16: memcpy(&half, p, 2); r.f = f32_from_bf16(half); break;
  case DTYPE_I32: memcpy(&word, p, 4); r.i = word; break;
  default: r.i = *(const uint8_t *)p;
  }
  return r;
}

static void store_elem(DType t, char *p, Lane x) {
  uint16_t half;
  int32_t word = (int32_t)x.i;
  switch (t) {
  case DTYPE_F32: memcpy(p, &x.f, 4); break;
  case DTYPE_BF16: half = bf16_from_f32(bf16_round(x.f)); memcpy(p, &half, 2); break;
  case DTYPE_I32: memcpy(p, &word, 4); break;
  default: *(uint8_t *)p = (uint8_t)word;
  }
}

/* Element `at` of a buffer; NULL after a fault. */
static char *element(Machine *m, const KInst *i, int64_t at, int n) {
  const KBuf *b = &m->k->buf[i->imm];
  int64_t bytes = (int64_t)dtype_bytes(b->dtype);
  if (b->space != SPACE_GLOBAL && (at < 0 || at + n > b->elems)) {
    machine_fault(m, i, "the access is outside the buffer");
    return NULL;
  }
  char *p = buf_data(m, (int)i->imm) + at * bytes;
  bool stores = i->op == KOP_STORE || i->op == KOP_STORE4;
  if (b->space == SPACE_SCRATCH && m->k->groups > 1 && !block_access(m, i, p - m->scratch, n * bytes, stores))
    return NULL;
  return p;
}

/* LOAD, STORE, and the same of four elements. */
static bool run_memory(Machine *m, const KInst *i) {
  const KBuf *b = &m->k->buf[i->imm];
  int n = i->op == KOP_LOAD4 || i->op == KOP_STORE4 ? QUAD : 1;
  size_t bytes = dtype_bytes(b->dtype);
  bool stores = i->op == KOP_STORE || i->op == KOP_STORE4;
  Value result[QUAD] = {0};
  /* A uniform access happens once. */
  bool once = !i->in[1] && !(i->in[2] && i->in[2]->varying);
  for (int l = 0; l < (once ? 1 : LANES); l++) {
    if (i->in[2] && !m->value[i->in[2]->id].lane[l].i) continue;
    char *p = element(m, i, m->value[i->in[0]->id].lane[0].i + (i->in[1] ? m->value[i->in[1]->id].lane[l].i : 0), n);
    if (!p) return false;
    for (int j = 0; j < n; j++, p += bytes) {
      if (stores) store_elem(b->dtype, p, m->value[i->in[3 + j]->id].lane[l]);
      else result[j].lane[l] = load_elem(b->dtype, p);
    }
  }
  for (int j = 0; j < n && !stores; j++) {
    for (int l = 1; once && l < LANES; l++) result[j].lane[l] = result[j].lane[0];
    m->value[i->id + j] = result[j];
  }
  return true;
}

/* ---- control ---- */

static void fill(Value *v, Lane x) {
  for (int l = 0; l < LANES; l++) v->lane[l] = x;
}

static bool run_block(Machine *m, const KBlock *b, uint64_t groups);

#define EACH_GROUP(m, groups)                                                                        \
  for (uint64_t rest_ = (groups); rest_ && machine_group(m, __builtin_ctzll(rest_)); rest_ &= rest_ - 1)

static bool machine_group(Machine *m, int group) {
  m->group = group;
  m->value = m->values + (size_t)group * (size_t)m->k->n_inst;
  return true;
}

static int64_t uniform(const Machine *m, const KInst *i) { return m->value[i->id].lane[0].i; }

static bool run_for(Machine *m, const KInst *i, uint64_t groups) {
  int64_t next[KIR_MAX_GROUPS];
  EACH_GROUP(m, groups) next[m->group] = uniform(m, i->in[0]);
  for (;;) {
    EACH_GROUP(m, groups) {
      if (next[m->group] >= uniform(m, i->in[1])) groups &= ~((uint64_t)1 << m->group);
      fill(&m->value[i->id], (Lane){.i = next[m->group]});
      next[m->group] += i->in[2]->imm;
    }
    if (!groups) return true;
    if (!run_block(m, i->body, groups)) return false;
  }
}

static bool run_if(Machine *m, const KInst *i, uint64_t groups) {
  uint64_t chosen = 0;
  EACH_GROUP(m, groups) chosen |= (uint64_t)(uniform(m, i->in[0]) != 0) << m->group;
  if (chosen && !run_block(m, i->body, chosen)) return false;
  return !i->other || chosen == groups || run_block(m, i->other, groups & ~chosen);
}

static bool run_pure(Machine *m, const KInst *i) {
  static const Value none;
  const Value *in[3];
  for (int j = 0; j < 3; j++) in[j] = j < i->n_in ? &m->value[i->in[j]->id] : &none;
  Value r;
  bool divides = (i->op == KOP_DIV || i->op == KOP_MOD) && kir_is_int(i->type);
  for (int l = 0; l < LANES; l++) {
    if (divides && in[1]->lane[l].i <= 0) return machine_fault(m, i, "the divisor must be positive");
    r.lane[l] = run_lane(i, in[0]->lane[l], in[1]->lane[l], in[2]->lane[l]);
  }
  m->value[i->id] = r;
  return true;
}

static bool run_inst(Machine *m, const KInst *i) {
  Value *v = &m->value[i->id];
  switch (i->op) {
  case KOP_CONST: fill(v, i->type == K_F32 ? (Lane){.f = i->fimm} : (Lane){.i = i->imm}); return true;
  case KOP_ITEM: fill(v, (Lane){.i = m->item}); return true;
  case KOP_GROUP: fill(v, (Lane){.i = m->group}); return true;
  case KOP_SIZE: fill(v, (Lane){.i = m->size[i->imm]}); return true;
  case KOP_LANE:
    for (int l = 0; l < LANES; l++) v->lane[l].i = l;
    return true;
  case KOP_TREE_ADD: case KOP_TREE_MAX: case KOP_TREE_MIN: fill(v, run_tree(i, &m->value[i->in[0]->id])); return true;
  case KOP_LOW: case KOP_HIGH: *v = run_exchange(i, &m->value[i->in[0]->id], &m->value[i->in[1]->id]); return true;
  case KOP_LANE_GET: {
    int64_t l = m->value[i->in[1]->id].lane[0].i;
    if (l < 0 || l >= LANES) return machine_fault(m, i, "there are 16 lanes");
    fill(v, m->value[i->in[0]->id].lane[l]);
    return true;
  }
  case KOP_LOAD: case KOP_STORE: case KOP_LOAD4: case KOP_STORE4: return run_memory(m, i);
  case KOP_PART: *v = m->value[i->in[0]->id + i->imm]; return true;
  case KOP_COPY: return block_copy(m, i);
  case KOP_TILE: return block_tile(m, i);
  case KOP_MMA: block_mma(m, i); return true;
  case KOP_COMMIT: block_commit(m); return true;
  case KOP_WAIT: block_wait(m, i->imm); return true;
  case KOP_VAR: case KOP_GET: *v = m->value[i->in[0]->id]; return true;
  case KOP_SET: m->value[i->in[0]->id] = m->value[i->in[1]->id]; return true;
  case KOP_SYNC: return true;
  default: return run_pure(m, i);
  }
}

static bool run_block(Machine *m, const KBlock *b, uint64_t groups) {
  for (const KInst *i = b->first; i; i = i->next) {
    bool ok = true;
    if (i->op == KOP_FOR) ok = run_for(m, i, groups);
    else if (i->op == KOP_IF) ok = run_if(m, i, groups);
    else if (i->op == KOP_BARRIER) m->epoch++;   /* kir_verify: all groups are here */
    else EACH_GROUP(m, groups) ok = ok && run_inst(m, i);
    if (!ok) return false;
  }
  return true;
}

static bool run_item(Machine *m) {
  uint64_t all = ~(uint64_t)0 >> (64 - m->k->groups);
  m->epoch++;
  return run_block(m, m->k->body, all) && (m->k->groups == 1 || block_done(m));
}

int64_t kir_item_count(const Kernel *k, int64_t B, int64_t R) {
  int64_t n = 1;
  for (int i = 0; i < k->n_factor; i++) {
    int64_t size = dim_value(k->factor[i].size, B, R);
    n *= size <= 0 ? 0 : (size - 1) / k->factor[i].tile + 1;
  }
  return n;
}

bool kir_interpret(const Kernel *k, void *const *args, int64_t B, int64_t R, Error *err) {
  if (!kir_verify(k, err)) return false;
  Machine m = {.k = k, .args = args, .size = {B, R}, .err = err};
  m.scratch = mem_alloc_aligned((size_t)kir_scratch_bytes(k) + 64, 64);
  m.values = mem_alloc((size_t)k->groups * (size_t)k->n_inst * sizeof *m.values);
  bool ok = m.scratch && m.values && (k->groups == 1 || block_new(&m));
  if (!ok) error_set(err, ERROR_MEMORY, "out of memory");
  FloatMode mode = float_mode_enter();
  int64_t items = kir_item_count(k, B, R);
  for (m.item = 0; ok && m.item < items; m.item++) ok = run_item(&m);
  float_mode_set(mode);
  mem_free(m.scratch);
  mem_free(m.values);
  block_free(&m);
  return ok;
}
