/* Instruction sets as LLVM targets.  Which of them a machine has is the runtime's answer, so that what is compiled here
 * is what loads there. */
#include "codegen/target.h"

#include <string.h>

#include "runtime/base/isa.h"
#include "runtime/base/memory.h"

static const char *const isa_names[ISA_COUNT] = {"plain", "avx2", "avx512", "neon"};

const char *isa_name(Isa isa) {
  BUG_IF((unsigned)isa >= ISA_COUNT, "instruction set %d does not exist", (int)isa);
  return isa_names[isa];
}

bool isa_from_name(const char *name, Isa *out) {
  for (int i = 0; i < ISA_COUNT; i++)
    if (!strcmp(name, isa_names[i])) {
      *out = (Isa)i;
      return true;
    }
  return false;
}

bool isa_available(Isa isa) { return isa_is_available(isa_name(isa)); }

Isa isa_best(void) {
  static const Isa order[] = {ISA_AVX512, ISA_AVX2, ISA_NEON};
  for (int i = 0; i < COUNT_OF(order); i++)
    if (isa_available(order[i])) return order[i];
  return ISA_PLAIN;
}

#define X86_TRIPLE "x86_64-unknown-linux-gnu"
#define ARM_TRIPLE "aarch64-unknown-linux-gnu"
#define PLAIN_FEATURES "+sse4.2,+avx,+fma"
#define AVX2_FEATURES PLAIN_FEATURES ",+avx2,+fast-gather"

Target target_of(Isa isa) {
#if defined(__aarch64__)
  if (isa == ISA_PLAIN) isa = ISA_NEON;
#endif
  switch (isa) {
  case ISA_AVX2: return (Target){TARGET_CPU, isa, 256, 16, X86_TRIPLE, AVX2_FEATURES, true};
  case ISA_AVX512:
    return (Target){TARGET_CPU, isa, 512, 32, X86_TRIPLE,
                    AVX2_FEATURES ",+avx512f,+avx512vl,+avx512bw,+avx512dq,-prefer-256-bit", true};
  case ISA_NEON: return (Target){TARGET_CPU, isa, 128, 32, ARM_TRIPLE, "+neon", true};
  default: return (Target){TARGET_CPU, ISA_PLAIN, 128, 16, X86_TRIPLE, PLAIN_FEATURES, true};
  }
}

/* A CPU's fields do not matter there. */
Target target_cuda(int capability) {
  Target t = target_of(ISA_PLAIN);
  t.device = TARGET_CUDA;
  t.capability = capability;
  return t;
}

bool target_host(Isa isa, Target *out, Error *err) {
  if (!isa_available(isa)) {
    char have[64] = "";
    for (int i = 0; i < ISA_COUNT; i++)
      if (isa_available((Isa)i)) strcat(strcat(have, " "), isa_names[i]);
    return error_set(err, ERROR_DEVICE, "this machine cannot run %s; it has:%s", isa_name(isa), *have ? have : " none");
  }
  *out = target_of(isa);
  out->isa = isa;
  return true;
}
