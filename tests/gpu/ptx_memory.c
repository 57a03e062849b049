/* Device memory and what is known about it: allocations with a bit per written byte, and the shadow of shared memory
 * that finds races.  Global memory is not watched for races between threads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/ptx_exec.h"

uint64_t memory_alloc(Memory *m, size_t bytes) {
  if (bytes == 0 || bytes > m->limit - m->used) return 0;
  if (!m->next) m->next = GLOBAL_BASE;
  Allocation a = {.address = m->next, .bytes = bytes, .data = malloc(bytes), .written = calloc(1, bytes / 8 + 3)};
  if (!a.data || !a.written) {
    free(a.data);
    free(a.written);
    return 0;
  }
  memset(a.data, 0xff, bytes);   /* what is read by mistake shows: NaN, -1 */
  m->next += (bytes + ALLOCATION_GAP + ALLOCATION_ALIGN - 1) / ALLOCATION_ALIGN * ALLOCATION_ALIGN;
  m->used += bytes;
  EMU_PUSH(m->list, m->n, m->cap, a);
  return a.address;
}

Allocation *memory_find(Memory *m, uint64_t address) {
  if (m->recent < m->n && address - m->list[m->recent].address < m->list[m->recent].bytes) return &m->list[m->recent];
  int low = 0, high = m->n;
  while (low < high) {
    int mid = (low + high) / 2;
    if (m->list[mid].address <= address) low = mid + 1;
    else high = mid;
  }
  if (low == 0 || address - m->list[low - 1].address >= m->list[low - 1].bytes) return NULL;
  m->recent = low - 1;
  return &m->list[low - 1];
}

bool memory_free(Memory *m, uint64_t address) {
  Allocation *a = memory_find(m, address);
  if (!a || a->address != address) return false;
  m->used -= a->bytes;
  free(a->data);
  free(a->written);
  int k = (int)(a - m->list);
  memmove(&m->list[k], &m->list[k + 1], (size_t)(m->n - k - 1) * sizeof *m->list);
  m->n--;
  return true;
}

void memory_done(Memory *m) {
  for (int k = 0; k < m->n; k++) {
    free(m->list[k].data);
    free(m->list[k].written);
  }
  free(m->list);
  *m = (Memory){.limit = m->limit, .next = m->next};
}

void memory_mark_written(Allocation *a, uint64_t address, size_t bytes) {
  size_t at = (size_t)(address - a->address), end = at + bytes;
  for (; at < end && at % 8; at++) a->written[at / 8] |= (unsigned char)(1u << at % 8);
  size_t whole = (end - at) / 8;
  memset(a->written + at / 8, 0xff, whole);
  for (at += whole * 8; at < end; at++) a->written[at / 8] |= (unsigned char)(1u << at % 8);
}

void memory_forget(Allocation *a, uint64_t address, size_t bytes) {
  size_t at = (size_t)(address - a->address), end = at + bytes;
  memset(a->data + at, 0xff, bytes);
  for (; at < end && at % 8; at++) a->written[at / 8] &= (unsigned char)~(1u << at % 8);
  size_t whole = (end - at) / 8;
  memset(a->written + at / 8, 0, whole);
  for (at += whole * 8; at < end; at++) a->written[at / 8] &= (unsigned char)~(1u << at % 8);
}

bool memory_is_written(const Allocation *a, uint64_t address, size_t bytes) {
  size_t at = (size_t)(address - a->address), end = at + bytes;
  if (at % 8 == 0 && bytes % 8 == 0) {
    for (; at < end; at += 8)
      if (a->written[at / 8] != 0xff) return false;
    return true;
  }
  for (; at < end; at++)
    if (!(a->written[at / 8] >> at % 8 & 1)) return false;
  return true;
}

static unsigned char *access_global(Exec *x, const Instr *i, int lane, uint64_t address, int bytes, AccessKind kind) {
  Allocation *a = memory_find(x->memory, address);
  if (!a || address - a->address + (unsigned)bytes > a->bytes) {
    const Allocation *near = a;
    for (int k = 0; k < x->memory->n && !a; k++)
      if (!near || llabs((long long)(x->memory->list[k].address - address)) <
                       llabs((long long)(near->address - address)))
        near = &x->memory->list[k];
    if (!near)
      exec_fault(x, i, lane, FAULT_ADDRESS, "access to %#llx: no memory is allocated", (unsigned long long)address);
    exec_fault(x, i, lane, FAULT_ADDRESS,
               "out of bounds: %d bytes at %#llx, which is offset %lld of the %zu bytes allocated at %#llx", bytes,
               (unsigned long long)address, (long long)(address - near->address), near->bytes,
               (unsigned long long)near->address);
  }
  if (kind == ACCESS_LOAD) {
    for (int k = 0; k < bytes; k++)
      x->unwritten |= (unsigned)!memory_is_written(a, address + (unsigned)k, 1) << k;
    return a->data + (address - a->address);
  }
  if (kind != ACCESS_WRITE && !memory_is_written(a, address, (size_t)bytes))
    exec_fault(x, i, lane, FAULT_LAUNCH, "read of global memory never written: offset %lld of the %zu bytes at %#llx",
               (long long)(address - a->address), a->bytes, (unsigned long long)a->address);
  if (kind > ACCESS_READ) {
    if (a->constant)
      exec_fault(x, i, lane, FAULT_ADDRESS, "write to constant memory at %#llx", (unsigned long long)address);
    memory_mark_written(a, address, (size_t)bytes);
  }
  return a->data + (address - a->address);
}

/* Did another thread, unordered with this one, leave this mark? */
static bool mark_races(const Exec *x, const Mark *m, int thread) {
  if (m->stamp < x->block_clock || m->thread == thread) return false;
  const uint32_t *seen = x->warp[x->current].seen;
  EACH_LANE(v, m->warps) {
    if (m->stamp >= seen[v]) return true;
  }
  return false;
}

/* The mark after one more thread has touched the piece. */
static void mark_add(const Exec *x, Mark *m, int thread) {
  uint32_t kept = 0, self = 1u << x->current;
  if (m->stamp >= x->block_clock) {
    const uint32_t *seen = x->warp[x->current].seen;
    EACH_LANE(v, m->warps) kept |= (uint32_t)(m->stamp >= seen[v]) << v;
  }
  if (kept && m->thread != thread) m->thread = -1;
  else m->thread = (int16_t)thread;
  m->warps = kept | self;
  m->stamp = x->clock;
}

static void describe_mark(const Mark *m, char text[32]) {
  if (m->thread >= 0) snprintf(text, 32, "thread %d", m->thread);
  else if (m->warps & (m->warps - 1)) snprintf(text, 32, "several warps");
  else snprintf(text, 32, "warp %d", __builtin_ctz(m->warps));
}

/* `byte` counts from the start of the access. */
static void shadow_load(Exec *x, const Instr *i, int lane, uint32_t at, Shadow *s, int byte) {
  int thread = x->current * LANES + lane;
  char who[32];
  if (s->in_flight)
    exec_fault(x, i, lane, FAULT_LAUNCH,
               "read of shared memory offset %u while a cp.async into it has not been waited for", at);
  if (s->write.stamp < x->block_clock) x->unwritten |= ((1u << (1 << x->piece_shift)) - 1) << byte;
  if (mark_races(x, &s->write, thread)) {
    describe_mark(&s->write, who);
    exec_fault(x, i, lane, FAULT_LAUNCH,
               "shared memory race: offset %u was written by %s and no barrier lies between", at, who);
  }
  mark_add(x, &s->read, thread);
}

/* Lanes of one warp may store the same value to one place: it is well defined, and a common idiom. */
static bool stores_the_same(const Exec *x, uint32_t at, const Shadow *s, int byte, int bytes) {
  return s->write.warps == 1u << x->current && x->storing &&
         memcmp(x->shared + at, x->storing + byte, (size_t)bytes) == 0;
}

static void shadow_write(Exec *x, const Instr *i, int lane, uint32_t at, Shadow *s, AccessKind kind, int byte) {
  int thread = x->current * LANES + lane;
  bool atomic = kind == ACCESS_ATOMIC;
  char who[32];
  if (s->in_flight)
    exec_fault(x, i, lane, FAULT_LAUNCH,
               "write to shared memory offset %u while a cp.async into it has not been waited for", at);
  if (atomic && s->write.stamp < x->block_clock)
    exec_fault(x, i, lane, FAULT_LAUNCH, "read of shared memory never written: offset %u", at);
  if (!(atomic && s->atomic) && mark_races(x, &s->write, thread) &&
      !stores_the_same(x, at, s, byte, 1 << x->piece_shift)) {
    describe_mark(&s->write, who);
    exec_fault(x, i, lane, FAULT_LAUNCH,
               "shared memory race: offset %u was also written by %s and no barrier lies between", at, who);
  }
  if (mark_races(x, &s->read, thread)) {
    describe_mark(&s->read, who);
    exec_fault(x, i, lane, FAULT_LAUNCH, "shared memory race: offset %u was read by %s and no barrier lies between",
               at, who);
  }
  if (atomic) mark_add(x, &s->write, thread);
  else s->write = (Mark){x->clock, 1u << x->current, (int16_t)thread};
  s->atomic = atomic;
  s->in_flight = kind == ACCESS_COPY;
}

static unsigned char *access_shared(Exec *x, const Instr *i, int lane, uint64_t address, int bytes, AccessKind kind) {
  if (address > x->shared_bytes || (unsigned)bytes > x->shared_bytes - address)
    exec_fault(x, i, lane, FAULT_ADDRESS, "out of bounds: %d bytes at offset %lld of %u bytes of shared memory",
               bytes, (long long)address, x->shared_bytes);
  uint32_t at = (uint32_t)address;
  Shadow *s = &x->shadow[at >> x->piece_shift];
  for (int k = 0; k < bytes; k += 1 << x->piece_shift, s++) {
    if (kind == ACCESS_LOAD) shadow_load(x, i, lane, at + (unsigned)k, s, k);
    else shadow_write(x, i, lane, at + (unsigned)k, s, kind, k);
  }
  return x->shared + at;
}

void exec_land_copy(Exec *x, const Instr *i, const PendingCopy *c) {
  unsigned char *to = x->shared + c->to;
  memset(to, 0, c->bytes);
  if (c->from_bytes == c->bytes)
    memcpy(to, exec_access(x, i, c->lane, SPACE_GLOBAL, c->from, c->bytes, ACCESS_READ), c->bytes);
  else
    for (unsigned k = 0; k < c->from_bytes; k++)
      to[k] = *exec_access(x, i, c->lane, SPACE_GLOBAL, c->from + k, 1, ACCESS_READ);
  for (uint32_t k = 0; k < c->bytes; k += 1u << x->piece_shift) {
    Shadow *s = &x->shadow[(c->to + k) >> x->piece_shift];
    s->in_flight = false;
    s->write = (Mark){x->clock, 1u << x->current, (int16_t)(x->current * LANES + c->lane)};
  }
}

unsigned char *exec_access(Exec *x, const Instr *i, int lane, int space, uint64_t address, int bytes,
                           AccessKind kind) {
  if (space == SPACE_GENERIC) {
    if (address - SHARED_BASE < WINDOW_BYTES) {
      space = SPACE_SHARED;
      address -= SHARED_BASE;
    } else if (address - LOCAL_BASE < WINDOW_BYTES) {
      space = SPACE_LOCAL;
      address -= LOCAL_BASE;
    }
  }
  x->unwritten = 0;
  if (address & (unsigned)(bytes - 1))
    exec_fault(x, i, lane, FAULT_MISALIGNED, "misaligned address %#llx: an access of %d bytes needs a multiple of %d",
               (unsigned long long)address, bytes, bytes);
  switch (space) {
  case SPACE_SHARED: return access_shared(x, i, lane, address, bytes, kind);
  case SPACE_LOCAL:
    if (address > (unsigned)x->f->local_bytes || (unsigned)bytes > (unsigned)x->f->local_bytes - address)
      exec_fault(x, i, lane, FAULT_ADDRESS, "out of bounds: %d bytes at offset %lld of %d bytes of local memory",
                 bytes, (long long)address, x->f->local_bytes);
    return x->warp[x->current].local + (size_t)lane * (size_t)x->f->local_bytes + address;
  case SPACE_PARAM:
    if (address > (unsigned)x->f->param_bytes || (unsigned)bytes > (unsigned)x->f->param_bytes - address)
      exec_fault(x, i, lane, FAULT_ADDRESS, "out of bounds: %d bytes at offset %lld of %d bytes of parameters", bytes,
                 (long long)address, x->f->param_bytes);
    if (kind > ACCESS_READ) exec_fault(x, i, lane, FAULT_ADDRESS, "write to the parameters of a kernel");
    return x->params + address;
  default: return access_global(x, i, lane, address, bytes, kind);
  }
}

/* ---- all lanes at once: what nearly every access needs, without the words for the others ---- */

static inline void bytes_copy(unsigned char *to, const unsigned char *from, int bytes) {
  switch (bytes) {
  case 4: memcpy(to, from, 4); break;
  case 8: memcpy(to, from, 8); break;
  case 16: memcpy(to, from, 16); break;
  default: memcpy(to, from, (size_t)bytes);
  }
}

/* The bits of `written` from byte `at` on; `at` is a multiple of `bytes`, there are two bytes to spare at the end. */
static inline bool quick_is_written(const Allocation *a, size_t at, int bytes) {
  uint16_t bits;
  unsigned mask = (1u << bytes) - 1;
  memcpy(&bits, a->written + at / 8, sizeof bits);
  return ((unsigned)bits >> at % 8 & mask) == mask;
}

static inline void quick_mark_written(Allocation *a, size_t at, int bytes) {
  uint16_t bits;
  memcpy(&bits, a->written + at / 8, sizeof bits);
  bits = (uint16_t)(bits | ((1u << bytes) - 1) << at % 8);
  memcpy(a->written + at / 8, &bits, sizeof bits);
}

/* The offset in the allocation used last, or SIZE_MAX where the access is not an aligned one inside of it. */
static inline size_t quick_offset(const Allocation *a, uint64_t address, int bytes) {
  uint64_t at = address - a->address;
  return at < a->bytes && a->bytes - at >= (unsigned)bytes && !(address & (unsigned)(bytes - 1)) ? at : SIZE_MAX;
}

static Allocation *recent_allocation(Memory *m) {
  static Allocation none;   /* of no bytes: nothing is inside */
  return m->recent < m->n ? &m->list[m->recent] : &none;
}

/* One load that may be anything. */
static uint32_t load_one(Exec *x, const Instr *i, int lane, uint64_t from, int bytes, unsigned char *out,
                         uint16_t *unwritten) {
  bytes_copy(out, exec_access(x, i, lane, i->space, from, bytes, ACCESS_LOAD), bytes);
  unwritten[lane] = (uint16_t)x->unwritten;
  return (uint32_t)(x->unwritten != 0) << lane;
}

static uint32_t load_global(Exec *x, const Instr *i, uint32_t lanes, const uint64_t *address, int bytes,
                            unsigned char (*out)[16], uint16_t *unwritten) {
  uint32_t unknown = 0;
  const Allocation *a = recent_allocation(x->memory);
  EACH_LANE(l, lanes) {
    uint64_t from = address[l] + (uint64_t)i->offset[0];
    size_t at = quick_offset(a, from, bytes);
    if (at != SIZE_MAX && quick_is_written(a, at, bytes)) {
      bytes_copy(out[l], a->data + at, bytes);
    } else {
      unknown |= load_one(x, i, (int)l, from, bytes, out[l], unwritten);
      a = recent_allocation(x->memory);
    }
  }
  return unknown;
}

/* As shadow_read where nothing is wrong and all other warps were last met at one barrier. */
static inline bool quick_read(const Exec *x, const Warp *w, Shadow *s, int thread) {
  uint32_t self = 1u << x->current;
  if (s->in_flight || s->write.stamp < x->block_clock || !w->even) return false;
  if (s->write.stamp >= w->settled && s->write.thread != thread) return false;
  if (s->read.stamp < w->settled || (s->read.warps == self && s->read.stamp < w->seen[x->current])) {
    s->read = (Mark){x->clock, self, (int16_t)thread};
  } else {
    s->read.warps |= self;
    s->read.stamp = x->clock;
    if (s->read.thread != thread) s->read.thread = -1;
  }
  return true;
}

static uint32_t load_shared(Exec *x, const Instr *i, uint32_t lanes, const uint64_t *address, int bytes,
                            unsigned char (*out)[16], uint16_t *unwritten) {
  const Warp *w = &x->warp[x->current];
  uint32_t unknown = 0;
  int step = 1 << x->piece_shift;
  EACH_LANE(l, lanes) {
    uint64_t from = address[l] + (uint64_t)i->offset[0];
    bool inside = from < x->shared_bytes && x->shared_bytes - from >= (unsigned)bytes;
    bool quick = inside && !(from & (unsigned)(bytes - 1));
    Shadow *s = &x->shadow[quick ? from >> x->piece_shift : 0];
    for (int k = 0; quick && k < bytes; k += step, s++) quick = quick_read(x, w, s, x->current * LANES + (int)l);
    if (quick) bytes_copy(out[l], x->shared + from, bytes);
    else unknown |= load_one(x, i, (int)l, from, bytes, out[l], unwritten);
  }
  return unknown;
}

uint32_t exec_load(Exec *x, const Instr *i, uint32_t lanes, const uint64_t *address, int bytes,
                   unsigned char (*out)[16], uint16_t *unwritten) {
  uint32_t unknown = 0;
  if (i->space == SPACE_SHARED) return load_shared(x, i, lanes, address, bytes, out, unwritten);
  if (i->space == SPACE_GLOBAL) return load_global(x, i, lanes, address, bytes, out, unwritten);
  EACH_LANE(l, lanes)
    unknown |= load_one(x, i, (int)l, address[l] + (uint64_t)i->offset[0], bytes, out[l], unwritten);
  return unknown;
}

/* A first write since the last barrier of all. */
static inline bool quick_write(const Exec *x, const Warp *w, Shadow *s, int thread) {
  if (s->in_flight) return false;
  if (s->write.stamp >= w->settled && s->write.thread != thread) return false;
  if (s->read.stamp >= w->settled && s->read.thread != thread) return false;
  s->write = (Mark){x->clock, 1u << x->current, (int16_t)thread};
  s->atomic = false;
  return true;
}

/* Lanes store in order: a later one may find that an earlier one has stored the same. */
void exec_store(Exec *x, const Instr *i, uint32_t lanes, const uint64_t *address, int bytes,
                unsigned char (*from)[16]) {
  const Warp *w = &x->warp[x->current];
  Allocation *a = recent_allocation(x->memory);
  int step = 1 << x->piece_shift;
  EACH_LANE(l, lanes) {
    uint64_t to = address[l] + (uint64_t)i->offset[0];
    if (i->space == SPACE_GLOBAL && !a->constant) {
      size_t at = quick_offset(a, to, bytes);
      if (at != SIZE_MAX) {
        quick_mark_written(a, at, bytes);
        bytes_copy(a->data + at, from[l], bytes);
        continue;
      }
    }
    bool quick = i->space == SPACE_SHARED && !(to & (unsigned)(bytes - 1)) && to < x->shared_bytes &&
                 x->shared_bytes - to >= (unsigned)bytes;
    Shadow *s = &x->shadow[quick ? to >> x->piece_shift : 0];
    for (int k = 0; quick && k < bytes; k += step, s++) quick = quick_write(x, w, s, x->current * LANES + (int)l);
    x->storing = from[l];
    unsigned char *p = quick ? x->shared + to : exec_access(x, i, (int)l, i->space, to, bytes, ACCESS_WRITE);
    bytes_copy(p, from[l], bytes);
    a = recent_allocation(x->memory);
  }
  x->storing = NULL;
}
