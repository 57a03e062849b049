/* Interpreting items of several groups: who touched which byte of scratch since the last barrier, and copies under way.
 *
 * Between two barriers a byte belongs to the group that writes it; any other access is a race, and a fault.  A copy
 * lands when its group waits for it, the last moment that the IR allows, and touching its bytes before is a fault. */
#include <math.h>
#include <string.h>

#include "codegen/kir/interp.h"

enum { NOBODY = -1, SEVERAL = -2, START_COPIES = 64 };

struct Shadow {
  uint32_t write_epoch, read_epoch;
  int8_t writer, reader;   /* a group, NOBODY or SEVERAL */
  bool in_flight;
};

typedef struct Pending {
  int64_t at;              /* in scratch */
  const char *from;        /* NULL: zeros */
  int64_t bytes, batch;
} Pending;

struct CopyQueue {
  Pending *copy;
  int n, cap;
  int64_t batches;         /* committed */
};

bool block_new(Machine *m) {
  int64_t bytes = kir_scratch_bytes(m->k);
  m->shadow = mem_alloc((size_t)(bytes + 1) * sizeof *m->shadow);
  m->queue = mem_alloc((size_t)m->k->groups * sizeof *m->queue);
  if (!m->shadow || !m->queue) return false;
  for (int64_t i = 0; i < bytes; i++) m->shadow[i].writer = m->shadow[i].reader = NOBODY;
  return true;
}

void block_free(Machine *m) {
  for (int g = 0; m->queue && g < m->k->groups; g++) mem_free(m->queue[g].copy);
  mem_free(m->queue);
  mem_free(m->shadow);
}

bool block_access(Machine *m, const KInst *i, int64_t at, int64_t bytes, bool stores) {
  for (int64_t b = at; b < at + bytes; b++) {
    Shadow *s = &m->shadow[b];
    if (s->in_flight) return machine_fault(m, i, "a copy to these elements is under way");
    if (s->write_epoch == m->epoch && s->writer != m->group)
      return machine_fault(m, i, "another group wrote these elements, and no barrier came since");
    if (stores && s->read_epoch == m->epoch && s->reader != m->group)
      return machine_fault(m, i, "another group reads these elements, and no barrier came since");
    if (stores) {
      s->write_epoch = m->epoch;
      s->writer = (int8_t)m->group;
    } else {
      s->reader = s->read_epoch == m->epoch && s->reader != m->group ? SEVERAL : (int8_t)m->group;
      s->read_epoch = m->epoch;
    }
  }
  return true;
}

static bool queue_push(Machine *m, Pending p) {
  CopyQueue *q = &m->queue[m->group];
  if (q->n == q->cap) {
    int cap = q->cap ? 2 * q->cap : START_COPIES;
    Pending *more = mem_alloc((size_t)cap * sizeof *more);
    if (!more) return error_set(m->err, ERROR_MEMORY, "out of memory");
    if (q->n) memcpy(more, q->copy, (size_t)q->n * sizeof *more);
    mem_free(q->copy);
    q->copy = more;
    q->cap = cap;
  }
  p.batch = q->batches;
  q->copy[q->n++] = p;
  return true;
}

static int64_t place(const Machine *m, const KInst *base, const KInst *lane_offset, int lane) {
  return m->value[base->id].lane[0].i + (lane_offset ? m->value[lane_offset->id].lane[lane].i : 0);
}

bool block_copy(Machine *m, const KInst *i) {
  const KBuf *b = &m->k->buf[i->imm];
  int64_t elem = (int64_t)dtype_bytes(b->dtype), bytes = i->count * elem, start = kir_scratch_offset(m->k, (int)i->imm);
  for (int l = 0; l < LANES; l++) {
    bool there = !i->in[2] || m->value[i->in[2]->id].lane[l].i;
    int64_t to = place(m, i->in[0], i->in[1], l), from = place(m, i->in[3], i->in[4], l);
    if (to < 0 || to + i->count > b->elems) return machine_fault(m, i, "the copy goes outside the buffer");
    Pending p = {.at = start + to * elem, .bytes = bytes};
    if (there) p.from = (const char *)m->args[i->from] + from * elem;
    if (!block_access(m, i, p.at, bytes, true) || !queue_push(m, p)) return false;
    for (int64_t x = p.at; x < p.at + bytes; x++) m->shadow[x].in_flight = true;
  }
  return true;
}

void block_commit(Machine *m) { m->queue[m->group].batches++; }

void block_wait(Machine *m, int64_t batches) {
  CopyQueue *q = &m->queue[m->group];
  int kept = 0;
  for (int c = 0; c < q->n; c++) {
    const Pending p = q->copy[c];
    if (p.batch >= q->batches - batches) {
      q->copy[kept++] = p;
      continue;
    }
    if (p.from) memcpy(m->scratch + p.at, p.from, (size_t)p.bytes);
    else memset(m->scratch + p.at, 0, (size_t)p.bytes);
    for (int64_t x = p.at; x < p.at + p.bytes; x++) {
      m->shadow[x].in_flight = false;
      m->shadow[x].write_epoch = m->epoch;
      m->shadow[x].writer = (int8_t)m->group;
    }
  }
  q->n = kept;
}

/* Row x of the tile is value id + x, its lanes are k. */
bool block_tile(Machine *m, const KInst *i) {
  const KBuf *b = &m->k->buf[i->imm];
  int64_t start = kir_scratch_offset(m->k, (int)i->imm), base = m->value[i->in[0]->id].lane[0].i;
  for (int x = 0; x < LANES; x++)
    for (int k = 0; k < LANES; k++) {
      int64_t at = base + (i->layout == LAYOUT_XK ? x * i->stride + k : k * i->stride + x);
      uint16_t half;
      if (at < 0 || at >= b->elems) return machine_fault(m, i, "the tile is not inside the buffer");
      at = start + at * (int64_t)sizeof half;
      if (!block_access(m, i, at, sizeof half, false)) return false;
      memcpy(&half, m->scratch + at, sizeof half);
      m->value[i->id + x].lane[k].f = f32_from_bf16(half);
    }
  return true;
}

/* Each lane's four elements of the result. */
void block_mma(Machine *m, const KInst *i) {
  const Value *a = &m->value[i->in[0]->id], *b = &m->value[i->in[1]->id] + 8 * i->imm;
  for (int q = 0; q < QUAD; q++)
    for (int l = 0; l < LANES; l++) {
      const Value *row = a + 4 * (m->group % 2) + l / 4 + q / 2 * 8, *col = b + l % 4 * 2 + q % 2;
      float sum = m->value[i->in[2 + q]->id].lane[l].f;
      for (int k = 0; k < LANES; k++) sum = fmaf(row->lane[k].f, col->lane[k].f, sum);
      m->value[i->id + q].lane[l].f = sum;
    }
}

bool block_done(Machine *m) {
  for (m->group = 0; m->group < m->k->groups; m->group++)
    if (m->queue[m->group].n)
      return error_set(m->err, ERROR_ARGUMENT, "kernel %s: item %lld ends while copies of group %d are under way",
                       m->k->name, (long long)m->item, m->group);
  return true;
}
