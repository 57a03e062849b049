/* Relocations by the x86-64 and AArch64 psABI documents.  S + A is `target`, P is `place`. */
#include "runtime/cpu/reloc.h"

#include <elf.h>
#include <string.h>

typedef enum Field {
  FIELD_NONE,
  FIELD_ABS64,    /* S + A */
  FIELD_PC64,     /* S + A - P */
  FIELD_PC32,     /* the same as a signed 32-bit number */
  FIELD_U32,      /* S + A below 2^32 */
  FIELD_S32,      /* S + A as a signed 32-bit number */
  FIELD_BRANCH26, /* (S + A - P) / 4 in bits 0-25 */
  FIELD_PAGE21,   /* Page(S + A) - Page(P) in pages of 4096, in bits 5-23 and 29-30 */
  FIELD_LOW12,    /* the low 12 bits of S + A, divided by the access size, in bits 10-21 */
} Field;

typedef struct RelocInfo {
  unsigned machine;
  uint32_t type;
  const char *name;
  Field field;
  unsigned shift; /* FIELD_LOW12: log2 of the access size */
} RelocInfo;

#define X86(name, field) {EM_X86_64, R_X86_64_##name, "R_X86_64_" #name, field, 0}
#define ARM(name, field, shift) {EM_AARCH64, R_AARCH64_##name, "R_AARCH64_" #name, field, shift}
static const RelocInfo reloc_table[] = {
    X86(NONE, FIELD_NONE),
    X86(64, FIELD_ABS64),
    X86(PC64, FIELD_PC64),
    X86(PC32, FIELD_PC32),
    X86(PLT32, FIELD_PC32),
    X86(32, FIELD_U32),
    X86(32S, FIELD_S32),
    ARM(NONE, FIELD_NONE, 0),
    ARM(ABS64, FIELD_ABS64, 0),
    ARM(PREL64, FIELD_PC64, 0),
    ARM(PREL32, FIELD_PC32, 0),
    ARM(CALL26, FIELD_BRANCH26, 0),
    ARM(JUMP26, FIELD_BRANCH26, 0),
    ARM(ADR_PREL_PG_HI21, FIELD_PAGE21, 0),
    ARM(ADD_ABS_LO12_NC, FIELD_LOW12, 0),
    ARM(LDST8_ABS_LO12_NC, FIELD_LOW12, 0),
    ARM(LDST16_ABS_LO12_NC, FIELD_LOW12, 1),
    ARM(LDST32_ABS_LO12_NC, FIELD_LOW12, 2),
    ARM(LDST64_ABS_LO12_NC, FIELD_LOW12, 3),
    ARM(LDST128_ABS_LO12_NC, FIELD_LOW12, 4),
};

static const RelocInfo *reloc_find(unsigned machine, uint32_t type) {
  for (size_t i = 0; i < sizeof reloc_table / sizeof reloc_table[0]; i++)
    if (reloc_table[i].machine == machine && reloc_table[i].type == type) return &reloc_table[i];
  return NULL;
}

const char *reloc_machine_name(unsigned machine) {
  return machine == EM_X86_64 ? "x86-64" : machine == EM_AARCH64 ? "aarch64" : NULL;
}

int reloc_width(unsigned machine, uint32_t type) {
  const RelocInfo *info = reloc_find(machine, type);
  if (!info) return -1;
  if (info->field == FIELD_NONE) return 0;
  return info->field == FIELD_ABS64 || info->field == FIELD_PC64 ? 8 : 4;
}

static bool reloc_fail(const RelocInfo *info, uint64_t place, uint64_t target, const char *why, Error *err) {
  return error_set(err, ERROR_FORMAT, "%s at %#llx: %#llx %s", info->name, (unsigned long long)place,
                   (unsigned long long)target, why);
}

static bool fits_signed(int64_t v, int bits) {
  int64_t limit = (int64_t)1 << (bits - 1);
  return v >= -limit && v < limit;
}

static void put32(uint8_t *bytes, uint32_t v) { memcpy(bytes, &v, sizeof v); }
static void put64(uint8_t *bytes, uint64_t v) { memcpy(bytes, &v, sizeof v); }

/* Replaces the bits of an instruction that `mask` names. */
static void put_bits(uint8_t *bytes, uint32_t mask, uint32_t bits) {
  uint32_t instruction;
  memcpy(&instruction, bytes, sizeof instruction);
  put32(bytes, (instruction & ~mask) | bits);
}

static bool apply_instruction(const RelocInfo *info, uint8_t *bytes, uint64_t place, uint64_t target, Error *err) {
  if (place % 4) return reloc_fail(info, place, target, "is not for an instruction's address", err);
  if (info->field == FIELD_BRANCH26) {
    int64_t distance = (int64_t)(target - place);
    if (distance % 4) return reloc_fail(info, place, target, "is not an instruction's address", err);
    if (!fits_signed(distance, 28)) return reloc_fail(info, place, target, "is out of reach", err);
    put_bits(bytes, 0x03FFFFFF, (uint32_t)(distance / 4) & 0x03FFFFFF);
  } else if (info->field == FIELD_PAGE21) {
    int64_t pages = (int64_t)((target & ~(uint64_t)4095) - (place & ~(uint64_t)4095)) / 4096;
    if (!fits_signed(pages, 21)) return reloc_fail(info, place, target, "is out of reach", err);
    put_bits(bytes, 0x60FFFFE0, ((uint32_t)pages & 3) << 29 | ((uint32_t)(pages >> 2) & 0x7FFFF) << 5);
  } else {
    uint32_t low = target & 4095;
    if (low & ((1u << info->shift) - 1)) return reloc_fail(info, place, target, "is not aligned to the access", err);
    put_bits(bytes, 0x003FFC00, low >> info->shift << 10);
  }
  return true;
}

bool reloc_apply(unsigned machine, uint32_t type, uint8_t *bytes, uint64_t place, uint64_t target, Error *err) {
  const RelocInfo *info = reloc_find(machine, type);
  if (!info) return error_set(err, ERROR_FORMAT, "relocations of type %u are not supported", (unsigned)type);
  int64_t distance = (int64_t)(target - place);
  switch (info->field) {
  case FIELD_NONE: return true;
  case FIELD_ABS64: put64(bytes, target); return true;
  case FIELD_PC64: put64(bytes, (uint64_t)distance); return true;
  case FIELD_PC32:
    if (!fits_signed(distance, 32)) break;
    put32(bytes, (uint32_t)distance);
    return true;
  case FIELD_U32:
    if (target > UINT32_MAX) break;
    put32(bytes, (uint32_t)target);
    return true;
  case FIELD_S32:
    if (!fits_signed((int64_t)target, 32)) break;
    put32(bytes, (uint32_t)target);
    return true;
  default: return apply_instruction(info, bytes, place, target, err);
  }
  return reloc_fail(info, place, target, "is out of reach", err);
}
