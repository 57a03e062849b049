#include "runtime/cpu/reloc.h"

#include <elf.h>

#include "runtime/base/memory.h"
#include "tests/test.h"

static bool apply(unsigned machine, uint32_t type, uint64_t place, uint64_t target, uint64_t *word, Error *err) {
  return reloc_apply(machine, type, (uint8_t *)word, place, target, err);
}

/* The instruction that `before` becomes; the encodings on the right are an assembler's. */
static void expect_arm(uint32_t type, uint32_t before, uint64_t place, uint64_t target, uint32_t want) {
  uint64_t word = before;
  Error err = {0};
  EXPECT(apply(EM_AARCH64, type, place, target, &word, &err), "%s", err.text);
  EXPECT((uint32_t)word == want, "type %u: %08x, not %08x", (unsigned)type, (unsigned)word, (unsigned)want);
}

static void expect_refused(unsigned machine, uint32_t type, uint64_t place, uint64_t target, const char *part) {
  uint64_t word = 0x1122334455667788u;
  Error err = {0};
  EXPECT(!apply(machine, type, place, target, &word, &err), "type %u should say: %s", (unsigned)type, part);
  EXPECT(word == 0x1122334455667788u, "a refused relocation changes nothing");
  EXPECT_HAS(err.text, part);
}

TEST("aarch64: calls and jumps hold a distance in instructions") {
  expect_arm(R_AARCH64_CALL26, 0x94000000, 0x1000, 0x1008, 0x94000002);                 /* bl .+8 */
  expect_arm(R_AARCH64_CALL26, 0x94000000, 0x1000, 0x0FFC, 0x97FFFFFF);                 /* bl .-4 */
  expect_arm(R_AARCH64_JUMP26, 0x14000000, 0x1000, 0x1000 + 0x7FFFFFC, 0x15FFFFFF);     /* b .+0x7fffffc */
  expect_arm(R_AARCH64_JUMP26, 0x14000000, 0x10000000, 0x10000000 - 0x8000000, 0x16000000);
  expect_refused(EM_AARCH64, R_AARCH64_CALL26, 0x1000, 0x1000 + 0x8000000, "R_AARCH64_CALL26 at 0x1000");
  expect_refused(EM_AARCH64, R_AARCH64_CALL26, 0x1000, 0x1002, "is not an instruction's address");
  expect_refused(EM_AARCH64, R_AARCH64_CALL26, 0x1002, 0x1006, "is not for an instruction's address");
}

TEST("aarch64: adrp holds a distance in pages") {
  expect_arm(R_AARCH64_ADR_PREL_PG_HI21, 0x90000000, 0x1FFC, 0x1008, 0x90000000);       /* adrp x0, . */
  expect_arm(R_AARCH64_ADR_PREL_PG_HI21, 0x90000000, 0x1FFC, 0x2000, 0xB0000000);       /* adrp x0, .+4096 */
  expect_arm(R_AARCH64_ADR_PREL_PG_HI21, 0x90000003, 0x1000, 0x5123, 0x90000023);       /* adrp x3, .+16384 */
  expect_arm(R_AARCH64_ADR_PREL_PG_HI21, 0x90000000, 0x2000, 0x1FFF, 0xF0FFFFE0);       /* adrp x0, .-4096 */
  expect_refused(EM_AARCH64, R_AARCH64_ADR_PREL_PG_HI21, 0, (uint64_t)1 << 32, "is out of reach");
}

TEST("aarch64: low bits are scaled by the size of the access, and must be aligned to it") {
  expect_arm(R_AARCH64_ADD_ABS_LO12_NC, 0x91000000, 0, 0xABC123, 0x91048C00);    /* add x0, x0, #0x123 */
  expect_arm(R_AARCH64_LDST8_ABS_LO12_NC, 0x39400000, 0, 0xABC001, 0x39400400);  /* ldrb w0, [x0, #1] */
  expect_arm(R_AARCH64_LDST16_ABS_LO12_NC, 0x79400000, 0, 0xABC002, 0x79400400); /* ldrh w0, [x0, #2] */
  expect_arm(R_AARCH64_LDST32_ABS_LO12_NC, 0xB9400000, 0, 0xABC004, 0xB9400400); /* ldr w0, [x0, #4] */
  expect_arm(R_AARCH64_LDST64_ABS_LO12_NC, 0xF9400001, 0, 0xABC008, 0xF9400401); /* ldr x1, [x0, #8] */
  expect_arm(R_AARCH64_LDST128_ABS_LO12_NC, 0x3DC00000, 0, 0xABC010, 0x3DC00400); /* ldr q0, [x0, #16] */
  expect_refused(EM_AARCH64, R_AARCH64_LDST16_ABS_LO12_NC, 0, 1, "is not aligned to the access");
  expect_refused(EM_AARCH64, R_AARCH64_LDST128_ABS_LO12_NC, 0, 8, "is not aligned to the access");
}

TEST("words hold addresses and distances") {
  static const unsigned machines[] = {EM_X86_64, EM_AARCH64};
  static const uint32_t abs64[] = {R_X86_64_64, R_AARCH64_ABS64}, pc64[] = {R_X86_64_PC64, R_AARCH64_PREL64};
  static const uint32_t pc32[] = {R_X86_64_PC32, R_AARCH64_PREL32};
  for (int m = 0; m < 2; m++) {
    uint64_t word = 0;
    Error err = {0};
    EXPECT(apply(machines[m], abs64[m], 16, UINT64_MAX - 99, &word, &err) && word == UINT64_MAX - 99, "abs64");
    EXPECT(apply(machines[m], pc64[m], 16, 8, &word, &err) && word == UINT64_MAX - 7, "pc64");
    word = 0;
    EXPECT(apply(machines[m], pc32[m], 0x7FFF00000010u, 0x7FFF00000008u, &word, &err) && word == 0xFFFFFFF8u, "pc32");
    expect_refused(machines[m], pc32[m], 0, (uint64_t)1 << 31, "is out of reach");
    expect_refused(machines[m], pc32[m], ((uint64_t)1 << 31) + 1, 0, "is out of reach");
  }
}

TEST("x86-64: 32-bit addresses are checked, signed or unsigned") {
  uint64_t word = 0;
  Error err = {0};
  EXPECT(apply(EM_X86_64, R_X86_64_32, 0, 0xFFFFFFFFu, &word, &err) && word == 0xFFFFFFFFu, "unsigned");
  EXPECT(apply(EM_X86_64, R_X86_64_32S, 0, (uint64_t)-5, &word, &err) && word == 0xFFFFFFFBu, "signed");
  expect_refused(EM_X86_64, R_X86_64_32, 0, (uint64_t)1 << 32, "R_X86_64_32 at 0: 0x100000000 is out of reach");
  expect_refused(EM_X86_64, R_X86_64_32S, 0, 0x80000000u, "is out of reach");
}

TEST("types that are not known have no width") {
  EXPECT(reloc_width(EM_X86_64, R_X86_64_GOTPCREL) == -1 && reloc_width(EM_AARCH64, R_X86_64_64) == -1, "unknown");
  EXPECT(reloc_width(EM_X86_64, R_X86_64_NONE) == 0 && reloc_width(EM_AARCH64, R_AARCH64_ABS64) == 8, "known");
  expect_refused(EM_X86_64, R_X86_64_GOTPCREL, 0, 0, "relocations of type 9 are not supported");
  EXPECT(!reloc_machine_name(EM_RISCV), "no name");
}

TEST_MAIN()
