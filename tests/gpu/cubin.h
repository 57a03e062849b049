/* For tests: what a cubin says of a kernel, read from its ELF sections and its machine code without a disassembler.
 *
 * From sm_70 on an instruction is 16 bytes: the operation is the low 12 bits, the width of a memory access bits 73 to
 * 75.  A branch holds the distance from the next instruction, in bytes from bit 32 on in sm_80; sm_90 keeps words, of
 * which the low 8 bits stand apart.  Found by comparing with the loops of known kernels; a loop that is not understood is
 * not found, so tests also ask for the loops that must be there. */
#ifndef TEST_CUBIN_H
#define TEST_CUBIN_H

#include <elf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef struct Cubin {
  int registers, stack_bytes;      /* of a thread */
  int fma, wide_global, wide_shared, copies;   /* FFMA; 128-bit loads from global and shared memory; 128-bit LDGSTS */
  int spills;                      /* accesses to local memory */
  int inner_loops, inner_fma, inner_spills;    /* innermost loops; what stands in them */
} Cubin;

enum { SASS_FFMA = 0x223, SASS_BRA = 0x947, SASS_LDL = 0x983, SASS_STL = 0x387, SASS_LDG = 0x981, SASS_LDS = 0x984,
       SASS_LDGSTS = 0xfae, SASS_WIDE = 6, CUBIN_REGISTERS = 0x2f, CUBIN_FRAME = 0x11, CUBIN_MAX_LOOPS = 256 };

typedef struct CubinFile {
  const unsigned char *data;
  size_t bytes;
  const Elf64_Shdr *section;
  int n, arch;
} CubinFile;

static inline uint64_t cubin_word(const unsigned char *p) {
  uint64_t w;
  memcpy(&w, p, sizeof w);
  return w;
}

static inline const char *cubin_section_name(const CubinFile *f, int i) {
  const Elf64_Ehdr *head = (const void *)f->data;
  return (const char *)f->data + f->section[head->e_shstrndx].sh_offset + f->section[i].sh_name;
}

static inline int cubin_operation(const unsigned char *code, int at) { return (int)(cubin_word(code + 16 * at) & 0xfff); }

/* Where the branch at instruction `at` goes. */
static inline int64_t cubin_target(const CubinFile *f, const unsigned char *code, int at) {
  uint64_t w = cubin_word(code + 16 * at);
  if (f->arch < 90) return at + 1 + (int64_t)(int32_t)(w >> 32) / 16;
  int64_t words = (int64_t)(int32_t)(w >> 32) / 4 * 256 + (int64_t)(w >> 16 & 0xff);
  return at + 1 + words / 4;
}

static inline void cubin_loops(const CubinFile *f, const unsigned char *code, int n, Cubin *out) {
  int64_t first[CUBIN_MAX_LOOPS], last[CUBIN_MAX_LOOPS];
  int loops = 0;
  for (int i = 0; i < n && loops < CUBIN_MAX_LOOPS; i++) {
    int64_t to = cubin_operation(code, i) == SASS_BRA ? cubin_target(f, code, i) : i;
    if (to < 0 || to >= i) continue;   /* forward, or the endless loop behind the code */
    first[loops] = to;
    last[loops++] = i;
  }
  for (int l = 0; l < loops; l++) {
    bool inner = true;
    for (int m = 0; m < loops; m++)
      inner &= m == l || first[m] < first[l] || last[m] > last[l];
    out->inner_loops += inner;
    for (int64_t i = first[l]; inner && i <= last[l]; i++) {
      int op = cubin_operation(code, (int)i);
      out->inner_fma += (op & 0x1ff) == (SASS_FFMA & 0x1ff);
      out->inner_spills += op == SASS_LDL || op == SASS_STL;
    }
  }
}

static inline void cubin_code(const CubinFile *f, const Elf64_Shdr *text, Cubin *out) {
  const unsigned char *code = f->data + text->sh_offset;
  int n = (int)(text->sh_size / 16);
  for (int i = 0; i < n; i++) {
    int op = cubin_operation(code, i);
    bool wide = (cubin_word(code + 16 * i + 8) >> 9 & 7) == SASS_WIDE;
    out->fma += (op & 0x1ff) == (SASS_FFMA & 0x1ff);
    out->wide_global += op == SASS_LDG && wide;
    out->wide_shared += op == SASS_LDS && wide;
    out->copies += op == SASS_LDGSTS && wide;
    out->spills += op == SASS_LDL || op == SASS_STL;
  }
  cubin_loops(f, code, n, out);
}

/* Attributes: format, name, size or value in 16 bits; of format 4 then the size's bytes: symbol, value. */
static inline void cubin_attributes(const CubinFile *f, int text, Cubin *out) {
  const Elf64_Sym *symbol = NULL;
  for (int i = 0; i < f->n; i++)
    if (f->section[i].sh_type == SHT_SYMTAB) symbol = (const void *)(f->data + f->section[i].sh_offset);
  for (int i = 0; i < f->n && symbol; i++) {
    if (strcmp(cubin_section_name(f, i), ".nv.info")) continue;
    const unsigned char *p = f->data + f->section[i].sh_offset, *end = p + f->section[i].sh_size;
    while (p + 4 <= end) {
      int size = p[0] == 4 ? p[2] | p[3] << 8 : 0;
      if (size == 8 && p + 12 <= end) {
        uint64_t w = cubin_word(p + 4);
        bool mine = symbol[(uint32_t)w].st_shndx == text;
        if (mine && p[1] == CUBIN_REGISTERS) out->registers = (int)(w >> 32);
        if (mine && p[1] == CUBIN_FRAME) out->stack_bytes = (int)(w >> 32);
      }
      p += 4 + size;
    }
  }
}

/* The kernel `name` of a cubin for sm_<arch>; false when it is not there.  The image comes from NVRTC and is trusted. */
static inline bool cubin_read(const void *image, size_t bytes, int arch, const char *name, Cubin *out) {
  const Elf64_Ehdr *head = image;
  *out = (Cubin){0};
  if (bytes < sizeof *head || memcmp(image, ELFMAG, SELFMAG)) return false;
  CubinFile f = {image, bytes, (const void *)((const char *)image + head->e_shoff), head->e_shnum, arch};
  char wanted[512];
  snprintf(wanted, sizeof wanted, ".text.%s", name);
  for (int i = 0; i < f.n; i++) {
    if (strcmp(cubin_section_name(&f, i), wanted)) continue;
    cubin_attributes(&f, i, out);
    cubin_code(&f, &f.section[i], out);
    return true;
  }
  return false;
}

#endif
