/* Cubins made by hand say what was put into them, damaged ones are refused or read within their bounds, and occupancy
 * is what the tables of compute capabilities give. */
#include <elf.h>
#include <stdlib.h>

#include "codegen/emit/cubin.h"
#include "runtime/base/memory.h"
#include "runtime/base/philox.h"
#include "tests/test.h"

/* A file with one kernel "k" of these instructions. */
enum { SECTIONS = 6 };
typedef struct Instruction { uint64_t low, high; } Instruction;

static const char names[] = "\0.shstrtab\0.text.k\0.nv.info\0.symtab\0.nv.shared.k";
enum { NAME_STRINGS = 1, NAME_TEXT = 11, NAME_INFO = 19, NAME_SYMBOLS = 28, NAME_SHARED = 36 };

static size_t append(uint8_t *file, size_t *at, const void *bytes, size_t n) {
  size_t here = *at;
  memcpy(file + here, bytes, n);
  *at += (n + 7) / 8 * 8;
  return here;
}

/* Returns the size; registers 40, 16 bytes of local memory, 512 bytes of shared memory. */
static size_t make_cubin(const Instruction *code, int n, uint8_t *file) {
  Elf64_Ehdr head = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB}, .e_shentsize = sizeof(Elf64_Shdr),
                     .e_shnum = SECTIONS, .e_shstrndx = 1};
  Elf64_Sym symbols[2] = {{0}, {.st_shndx = 2}};
  const uint8_t info[] = {4, 0x2f, 8, 0, 1, 0, 0, 0, 40, 0, 0, 0, 4, 0x11, 8, 0, 1, 0, 0, 0, 16, 0, 0, 0, 3, 1, 0, 0};
  Elf64_Shdr s[SECTIONS] = {{0}};
  size_t at = sizeof head;
  s[1] = (Elf64_Shdr){NAME_STRINGS, SHT_STRTAB, .sh_offset = append(file, &at, names, sizeof names),
                      .sh_size = sizeof names};
  s[2] = (Elf64_Shdr){NAME_TEXT, SHT_PROGBITS, .sh_offset = append(file, &at, code, sizeof *code * (size_t)n),
                      .sh_size = sizeof *code * (size_t)n};
  s[3] = (Elf64_Shdr){NAME_INFO, 0x70000000, .sh_offset = append(file, &at, info, sizeof info),
                      .sh_size = sizeof info};
  s[4] = (Elf64_Shdr){NAME_SYMBOLS, SHT_SYMTAB, .sh_offset = append(file, &at, symbols, sizeof symbols),
                      .sh_size = sizeof symbols};
  s[5] = (Elf64_Shdr){NAME_SHARED, SHT_NOBITS, .sh_offset = 1u << 30, .sh_size = 512};
  head.e_shoff = append(file, &at, s, sizeof s);
  memcpy(file, &head, sizeof head);
  return at;
}

/* A branch over `instructions`, as both generations write it. */
static Instruction branch(int arch, int64_t instructions) {
  uint64_t words = (uint64_t)(instructions * 4), high_bits = arch >= 90 ? words >> 8 : words;
  if (arch >= 90 && instructions < 0) high_bits |= 0xffull << 56;
  Instruction i = {0x947 | high_bits << 34, (high_bits & 0xffffffffffffull) >> 30};
  if (arch >= 90) i.low |= (words & 0xff) << 16;
  return i;
}

/* LDG.128; LDG; loop { STL; loop { LDL; FFMA; FFMA; LDSM; HMMA }; LDS.128 }; LDGSTS.128; HMMA; the endless loop at the
 * end. */
static size_t make_loops(int arch, uint8_t *file) {
  const uint64_t bits128 = 6u << 9;
  const Instruction code[] = {{0x981, bits128}, {0x981, 4u << 9}, {0x387, 0}, {0x983, 0}, {0x223, 0}, {0x823, 0},
                              {0x83b, 0}, {0x23c, 0}, branch(arch, -6), {0x984, bits128}, branch(arch, -9), {0xfae, bits128}, {0x23c, 0},
                              branch(arch, -1)};
  return make_cubin(code, COUNT_OF(code), file);
}

TEST("a cubin gives registers, memory, instructions and loops, as sm_80 and as sm_90 write them") {
  static const int arch[] = {80, 90};
  for (int i = 0; i < COUNT_OF(arch); i++) {
    static uint8_t file[4096];
    CubinKernel k;
    Error err = {0};
    size_t bytes = make_loops(arch[i], file);
    REQUIRE(cubin_read(file, bytes, arch[i], "k", &k, &err), "%s", err.text);
    EXPECT(k.registers == 40 && k.local_bytes == 16 && k.shared_bytes == 512 && k.instructions == 14,
           "%d registers, %lld local, %lld shared, %d instructions", k.registers, (long long)k.local_bytes,
           (long long)k.shared_bytes, k.instructions);
    EXPECT(k.loads == 2 && k.wide_loads == 1 && k.wide_shared == 1 && k.copies == 1 && k.wide_copies == 1 &&
               k.tensor == 2 && k.matrix_loads == 1 && k.fma == 2 && k.spills == 2, "sm_%d: other instructions", arch[i]);
    EXPECT(k.loops == 2 && k.loop_spills == 2 && k.inner_spills == 1 && k.inner_fma == 2 && k.inner_tensor == 1 &&
               k.inner_matrix_loads == 1,
           "sm_%d: %d loops, %d spills in loops, %d and %d fma in inner ones", arch[i], k.loops, k.loop_spills,
           k.inner_spills, k.inner_fma);
  }
}

TEST("what is no cubin, is cut, or has no such kernel is refused with the reason") {
  static uint8_t file[4096];
  CubinKernel k;
  Error err = {0};
  size_t bytes = make_loops(80, file);
  EXPECT(!cubin_read("PTX", 3, 80, "k", &k, &err), "accepted");
  EXPECT_HAS(err.text, "no ELF file");
  EXPECT(!cubin_read(file, bytes, 80, "kk", &k, &err), "accepted");
  EXPECT_HAS(err.text, "no kernel \"kk\"");
  for (size_t n = 0; n < bytes; n++) {
    uint8_t *cut = malloc(n ? n : 1);
    memcpy(cut, file, n);
    EXPECT(!cubin_read(cut, n, 80, "k", &k, &err), "%zu of %zu bytes are accepted", n, bytes);
    free(cut);
  }
}

/* Run with a sanitizer this also shows that nothing outside of the file is read: each copy is of the exact size. */
TEST("a cubin with damaged bytes is read within its bounds") {
  static uint8_t file[4096];
  size_t bytes = make_loops(90, file);
  int accepted = 0;
  for (uint32_t round = 0; round < 40000; round++) {
    uint8_t *copy = malloc(bytes);
    memcpy(copy, file, bytes);
    Philox p = philox(77, round, 0, STREAM_TEST);
    for (uint32_t i = 0; i < 1 + round % 3; i++) copy[p.word[i] % bytes] = (uint8_t)(p.word[3] >> 8 * i);
    CubinKernel k;
    Error err = {0};
    bool ok = cubin_read(copy, bytes, round % 2 ? 80 : 90, "k", &k, &err);
    EXPECT(ok || *err.text, "refused without a reason");
    EXPECT(!ok || (k.registers > 0 && k.instructions >= 0 && k.spills >= k.loop_spills &&
                   k.loop_spills >= k.inner_spills), "round %u", round);
    accepted += ok;
    free(copy);
  }
  EXPECT(accepted > 100 && accepted < 40000, "%d accepted", accepted);
}

TEST("occupancy is what the tables of compute capabilities give") {
  const GpuLimits *a = gpu_limits(80), *h = gpu_limits(90);
  REQUIRE(a && h && !gpu_limits(81), "the table");
  Occupancy o = gpu_occupancy(a, 32, 0, 128);
  EXPECT(o.blocks == 16 && o.warps == 64 && o.share == 1.0, "%d blocks", o.blocks);
  o = gpu_occupancy(a, 33, 0, 128);   /* 40 a thread: 12 warps a scheduler */
  EXPECT(o.blocks == 12 && strcmp(o.limit, "registers") == 0, "%d blocks, %s", o.blocks, o.limit);
  o = gpu_occupancy(a, 255, 0, 256);
  EXPECT(o.blocks == 1 && o.warps == 8, "%d blocks", o.blocks);
  o = gpu_occupancy(a, 255, 0, 512);
  EXPECT(o.blocks == 0, "%d blocks of 512 threads with 255 registers", o.blocks);
  o = gpu_occupancy(a, 32, 0, 32);
  EXPECT(o.blocks == 32 && strcmp(o.limit, "blocks") == 0, "%d blocks, %s", o.blocks, o.limit);
  o = gpu_occupancy(a, 32, 96 << 10, 256);
  EXPECT(o.blocks == 1 && strcmp(o.limit, "shared memory") == 0, "%d blocks, %s", o.blocks, o.limit);
  o = gpu_occupancy(h, 32, 96 << 10, 256);
  EXPECT(o.blocks == 2, "%d blocks", o.blocks);
  o = gpu_occupancy(a, 32, (163 << 10) + 1, 256);
  EXPECT(o.blocks == 0, "more shared memory than a block may have");
}

TEST_MAIN()
