/* Cubins: ELF sections, the attributes of a kernel, and its machine code as far as its own bits tell.
 *
 * From sm_70 on an instruction is 16 bytes: the operation is the low 12 bits, the width of a memory access bits 73 to
 * 75.  A branch holds the distance from the next instruction in words from bit 34 on; from sm_90 on the low 8 bits of
 * it stand apart, from bit 16 on.  Found by comparing with the loops of known kernels. */
#include "codegen/emit/cubin.h"

#include <elf.h>
#include <string.h>

#include "runtime/base/memory.h"

enum {
  SASS_BYTES = 16, SASS_FFMA = 0x223, SASS_BRA = 0x947, SASS_LDL = 0x983, SASS_STL = 0x387, SASS_LDG = 0x981,
  SASS_LDG_OLD = 0x381, SASS_LDS = 0x984, SASS_LDSM = 0x83b, SASS_LDGSTS = 0xfae, SASS_WIDE = 6,   /* 128 bits */
  SASS_FORM = 0x1ff,        /* of the operation; the bits above say where operands are */
  ATTRIBUTE_REGISTERS = 0x2f, ATTRIBUTE_FRAME = 0x11, ATTRIBUTE_SIZED = 4,
  SYSTEM_BYTES = 1 << 10,   /* of shared memory that the system takes of each block from sm_80 on */
  MAX_LOOPS = 1024
};

typedef struct File {
  const uint8_t *data;
  size_t bytes;
  Elf64_Ehdr head;
  int arch;
  Error *err;
} File;

static bool damaged(const File *f, const char *what) {
  return error_set(f->err, ERROR_FORMAT, "the cubin is damaged: %s", what);
}

static bool is_inside(const File *f, uint64_t at, uint64_t bytes) { return at <= f->bytes && bytes <= f->bytes - at; }

static uint64_t word_at(const uint8_t *p) {
  uint64_t w;
  memcpy(&w, p, sizeof w);
  return w;
}

static bool open_file(File *f) {
  if (f->bytes < sizeof f->head || memcmp(f->data, ELFMAG, SELFMAG))
    return error_set(f->err, ERROR_FORMAT, "this is no cubin: it is no ELF file");
  memcpy(&f->head, f->data, sizeof f->head);
  if (f->head.e_ident[EI_CLASS] != ELFCLASS64 || f->head.e_ident[EI_DATA] != ELFDATA2LSB)
    return error_set(f->err, ERROR_FORMAT, "this is no cubin: not a 64-bit little-endian file");
  if (f->head.e_shentsize != sizeof(Elf64_Shdr)) return damaged(f, "its section headers have another size");
  if (!is_inside(f, f->head.e_shoff, (uint64_t)f->head.e_shnum * sizeof(Elf64_Shdr)))
    return damaged(f, "its section headers are outside of the file");
  return true;
}

/* Section i; one without contents in the file has none inside of it. */
static bool section_at(const File *f, int i, Elf64_Shdr *out) {
  if (i < 0 || i >= f->head.e_shnum) return damaged(f, "a section is missing");
  memcpy(out, f->data + f->head.e_shoff + (size_t)i * sizeof *out, sizeof *out);
  if (out->sh_type == SHT_NOBITS || is_inside(f, out->sh_offset, out->sh_size)) return true;
  return damaged(f, "a section is outside of the file");
}

/* Does the section's name consist of these two?  False too when it cannot be read. */
static bool is_named(const File *f, const Elf64_Shdr *names, const Elf64_Shdr *s, const char *prefix,
                     const char *rest) {
  size_t a = strlen(prefix), b = strlen(rest);
  if (s->sh_name >= names->sh_size || names->sh_size - s->sh_name < a + b + 1) return false;
  const char *name = (const char *)f->data + names->sh_offset + s->sh_name;
  return memcmp(name, prefix, a) == 0 && memcmp(name + a, rest, b + 1) == 0;
}

typedef struct KernelSections {
  int text;                 /* number of the section; 0: none, which is never a section with code */
  Elf64_Shdr code, info, symbols;
  int64_t shared_bytes;
} KernelSections;

static bool find_sections(const File *f, const char *name, KernelSections *out) {
  Elf64_Shdr names, s;
  if (f->head.e_shnum == 0) return damaged(f, "it has no sections");
  if (!section_at(f, f->head.e_shstrndx, &names)) return false;
  if (names.sh_type == SHT_NOBITS) return damaged(f, "its sections have no names");
  for (int i = 0; i < f->head.e_shnum; i++) {
    if (!section_at(f, i, &s)) return false;
    if (is_named(f, &names, &s, ".nv.shared.", name))
      out->shared_bytes = s.sh_size > INT32_MAX ? -1 : (int64_t)s.sh_size;
    if (s.sh_type == SHT_NOBITS) continue;
    if (is_named(f, &names, &s, ".text.", name)) out->text = i, out->code = s;
    if (is_named(f, &names, &s, ".nv.info", "")) out->info = s;
    if (s.sh_type == SHT_SYMTAB) out->symbols = s;
  }
  if (out->shared_bytes < 0) return damaged(f, "a kernel with more shared memory than there is");
  return out->text > 0 || error_set(f->err, ERROR_ARGUMENT, "the cubin has no kernel \"%s\"", name);
}

/* ---- attributes ---- */

static bool symbol_is_in(const File *f, const Elf64_Shdr *symbols, uint32_t i, int section) {
  Elf64_Sym s;
  if ((uint64_t)i >= symbols->sh_size / sizeof s) return false;
  memcpy(&s, f->data + symbols->sh_offset + (size_t)i * sizeof s, sizeof s);
  return s.st_shndx == section;
}

/* Each attribute: format, name, 16 bits; in the format with a size those are the size of what follows: here the
 * symbol of a kernel, and a value. */
static bool read_attributes(const File *f, const KernelSections *s, CubinKernel *out) {
  const uint8_t *p = f->data + s->info.sh_offset;
  uint64_t left = s->info.sh_size;
  while (left >= 4) {
    uint64_t size = p[0] == ATTRIBUTE_SIZED ? (uint64_t)(p[2] | p[3] << 8) : 0;
    if (size > left - 4) return damaged(f, "an attribute is longer than its section");
    if (size == 8) {
      uint64_t w = word_at(p + 4);
      uint32_t value = (uint32_t)(w >> 32);
      bool mine = symbol_is_in(f, &s->symbols, (uint32_t)w, s->text);
      if (mine && value > INT32_MAX) return damaged(f, "an attribute is too large");
      if (mine && p[1] == ATTRIBUTE_REGISTERS) out->registers = (int)value;
      if (mine && p[1] == ATTRIBUTE_FRAME) out->local_bytes = value;
    }
    p += 4 + size;
    left -= 4 + size;
  }
  return (out->registers >= 1 && out->registers <= 256) ||
         damaged(f, "it does not say how many registers a kernel has");
}

/* ---- machine code ---- */

static int operation(const uint8_t *code, int64_t at) { return (int)(word_at(code + SASS_BYTES * at) & 0xfff); }

static bool is_spill(int op) { return op == SASS_LDL || op == SASS_STL; }
static bool is_fma(int op) { return (op & SASS_FORM) == (SASS_FFMA & SASS_FORM); }

static bool is_tensor(int op) {
  static const int forms[] = {0x23c /* HMMA */, 0x237 /* IMMA */, 0x23f /* DMMA */,
                              0x1f0, 0x5f0, 0x9f0, 0xdf0 /* HGMMA */};
  for (int i = 0; i < COUNT_OF(forms); i++)
    if (op == forms[i]) return true;
  return false;
}

/* Where the branch at instruction `at` goes: 48 bits of words, two words below in the instruction's upper half. */
static int64_t branch_target(const File *f, const uint8_t *code, int64_t at) {
  uint64_t low = word_at(code + SASS_BYTES * at), high = word_at(code + SASS_BYTES * at + 8);
  int64_t words = (int64_t)((low >> 34 | high << 30) << 16) >> 16;
  if (f->arch >= 90) words = words * 256 + (int64_t)(low >> 16 & 0xff);
  return at + 1 + words / 4;
}

typedef struct LoopList {
  int n;
  int64_t first[MAX_LOOPS], last[MAX_LOOPS];
} LoopList;

/* A branch to itself is no loop but the end of the code. */
static void find_loops(const File *f, const uint8_t *code, int64_t n, LoopList *out) {
  for (int64_t i = 0; i < n && out->n < MAX_LOOPS; i++) {
    int64_t to = operation(code, i) == SASS_BRA ? branch_target(f, code, i) : i;
    if (to < 0 || to >= i) continue;
    out->first[out->n] = to;
    out->last[out->n++] = i;
  }
}

static bool is_innermost(const LoopList *l, int i) {
  for (int k = 0; k < l->n; k++) {
    bool same = l->first[k] == l->first[i] && l->last[k] == l->last[i];
    if (!same && l->first[k] >= l->first[i] && l->last[k] <= l->last[i]) return false;
  }
  return true;
}

static bool is_in_loop(const LoopList *l, int64_t at, bool innermost) {
  for (int k = 0; k < l->n; k++)
    if (l->first[k] <= at && at <= l->last[k] && (!innermost || is_innermost(l, k))) return true;
  return false;
}

/* Loops may overlap; an instruction counts once. */
static void count_loops(const LoopList *l, const uint8_t *code, int64_t n, CubinKernel *out) {
  out->loops = l->n;
  for (int64_t i = 0; i < n; i++) {
    int op = operation(code, i);
    bool counts = is_spill(op) || is_fma(op) || is_tensor(op) || op == SASS_LDSM;
    bool inner = counts && is_in_loop(l, i, true);
    out->inner_fma += inner && is_fma(op);
    out->inner_tensor += inner && is_tensor(op);
    out->inner_matrix_loads += inner && op == SASS_LDSM;
    out->inner_spills += inner && is_spill(op);
    out->loop_spills += is_spill(op) && is_in_loop(l, i, false);
  }
}

static bool read_code(const File *f, const KernelSections *s, CubinKernel *out) {
  const uint8_t *code = f->data + s->code.sh_offset;
  if (s->code.sh_size % SASS_BYTES || s->code.sh_size / SASS_BYTES > INT32_MAX)
    return damaged(f, "its code is no whole number of instructions");
  int n = out->instructions = (int)(s->code.sh_size / SASS_BYTES);
  for (int i = 0; i < n; i++) {
    int op = operation(code, i);
    bool wide = (word_at(code + SASS_BYTES * i + 8) >> 9 & 7) == SASS_WIDE;
    bool load = op == SASS_LDG || op == SASS_LDG_OLD;
    out->fma += is_fma(op);
    out->tensor += is_tensor(op);
    out->loads += load;
    out->wide_loads += load && wide;
    out->wide_shared += op == SASS_LDS && wide;
    out->matrix_loads += op == SASS_LDSM;
    out->copies += op == SASS_LDGSTS;
    out->wide_copies += op == SASS_LDGSTS && wide;
    out->spills += is_spill(op);
  }
  LoopList loops = {0};
  find_loops(f, code, n, &loops);
  count_loops(&loops, code, n, out);
  return true;
}

bool cubin_read(const void *image, size_t bytes, int arch, const char *name, CubinKernel *out, Error *err) {
  File f = {.data = image, .bytes = bytes, .arch = arch, .err = err};
  KernelSections found = {0};
  *out = (CubinKernel){0};
  if (!open_file(&f) || !find_sections(&f, name, &found)) return false;
  /* From sm_90 on the section begins with the kibibyte that the system takes of every block. */
  bool has_system = arch >= 90 && found.shared_bytes >= SYSTEM_BYTES;
  out->shared_bytes = found.shared_bytes - (has_system ? SYSTEM_BYTES : 0);
  return read_attributes(&f, &found, out) && read_code(&f, &found, out);
}

/* ---- occupancy ---- */

const GpuLimits *gpu_limits(int arch) {
  static const GpuLimits list[] = {
      {75, 32, 16, 65536, 64 << 10, 64 << 10},   {80, 64, 32, 65536, 164 << 10, 163 << 10},
      {86, 48, 16, 65536, 100 << 10, 99 << 10},  {87, 48, 16, 65536, 164 << 10, 163 << 10},
      {89, 48, 24, 65536, 100 << 10, 99 << 10},  {90, 64, 32, 65536, 228 << 10, 227 << 10},
      {100, 64, 32, 65536, 228 << 10, 227 << 10}};
  for (int i = 0; i < COUNT_OF(list); i++)
    if (list[i].arch == arch) return &list[i];
  return NULL;
}

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* A warp gets registers by 256, and warps are spread over four schedulers with a quarter of the registers each; a
 * block gets shared memory by 128 bytes, and from sm_80 on the system takes 1 KiB of each. */
Occupancy gpu_occupancy(const GpuLimits *g, int registers, int64_t shared_bytes, int threads) {
  enum { WARP = 32, WARP_REGISTERS = 256, SCHEDULERS = 4, SHARED_UNIT = 128 };
  Occupancy o = {.limit = "warps"};
  if (threads < 1 || threads > 1024 || registers < 0 || shared_bytes < 0 || shared_bytes > g->block_bytes) return o;
  int warps = (threads + WARP - 1) / WARP;
  int64_t a_warp = round_up((int64_t)(registers < 1 ? 1 : registers) * WARP, WARP_REGISTERS);
  int64_t by_registers = g->registers / SCHEDULERS / a_warp * SCHEDULERS / warps;
  int64_t a_block = round_up(shared_bytes + (g->arch >= 80 ? SYSTEM_BYTES : 0), SHARED_UNIT);
  o.blocks = g->warps / warps;
  if (g->blocks < o.blocks) o.blocks = g->blocks, o.limit = "blocks";
  if (by_registers < o.blocks) o.blocks = (int)by_registers, o.limit = "registers";
  if (a_block > 0 && g->shared_bytes / a_block < o.blocks)
    o.blocks = (int)(g->shared_bytes / a_block), o.limit = "shared memory";
  o.warps = o.blocks * warps;
  o.share = (double)o.warps / g->warps;
  return o;
}
