/* LLVM modules: target machines, passes, objects.
 *
 * Kernels come as explicit vectors with their loops laid out, so the pipeline is short: it promotes variables, removes
 * what was computed twice, moves what does not change out of loops and unrolls where a kernel asks for it. */
#include <elf.h>
#include <llvm-c/Analysis.h>
#include <llvm-c/Error.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <pthread.h>
#include <string.h>

#include "codegen/emit/build_id.h"
#include "codegen/emit/llvm_emit.h"

#define PASSES                                                                                                     \
  "function(mem2reg,early-cse<memssa>,loop-mssa(licm),loop-unroll<O2;no-runtime>,instsimplify,early-cse<memssa>,dce)"

/* How LLVM is asked: what of it is not in a Target. */
#define CODE_LEVEL LLVMCodeGenLevelDefault
#define RELOCATION LLVMRelocPIC
#define CODE_MODEL LLVMCodeModelSmall

static const char *cpu_of(const Target *t) { return strncmp(t->triple, "x86_64", 6) ? "generic" : "x86-64"; }

void llvm_key(const Target *t, Buffer *out) {
  unsigned major, minor, patch;
  LLVMGetVersion(&major, &minor, &patch);
  buffer_printf(out, "llvm %u.%u.%u ", major, minor, patch);
  build_id_print((const void *)(uintptr_t)LLVMGetVersion, out);
  buffer_printf(out, "\npasses %s\nlevel %d relocation %d model %d\n", PASSES, CODE_LEVEL, RELOCATION, CODE_MODEL);
  buffer_printf(out, "target %s %s %s %s vectors %d x %d fma %d\n", isa_name(t->isa), t->triple, cpu_of(t), t->features,
                t->vector_registers, t->vector_bits, t->has_fma);
}

/* LLVM's table of targets is a global of the library. */
static pthread_once_t targets_once = PTHREAD_ONCE_INIT;
static void targets_register(void) {
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86AsmPrinter();
  LLVMInitializeAArch64TargetInfo();
  LLVMInitializeAArch64Target();
  LLVMInitializeAArch64TargetMC();
  LLVMInitializeAArch64AsmPrinter();
}

typedef struct LlvmUnit {
  LLVMContextRef ctx;
  LLVMModuleRef mod;
  LLVMTargetMachineRef machine;
  Error *err;
  bool failed;       /* err is set */
} LlvmUnit;

static bool unit_fail(LlvmUnit *u, const char *what, const char *text) {
  if (!u->failed) error_set(u->err, ERROR_DEVICE, "LLVM: %s: %s", what, text);
  u->failed = true;
  return false;
}

/* Takes LLVM's message. */
static bool unit_fail_message(LlvmUnit *u, const char *what, char *message) {
  unit_fail(u, what, message ? message : "no reason given");
  LLVMDisposeMessage(message);
  return false;
}

static void on_diagnostic(LLVMDiagnosticInfoRef info, void *ctx) {
  if (LLVMGetDiagInfoSeverity(info) != LLVMDSError) return;
  unit_fail_message(ctx, "code generation", LLVMGetDiagInfoDescription(info));
}

static bool unit_open(LlvmUnit *u, const Target *t, Error *err) {
  *u = (LlvmUnit){.err = err};
  pthread_once(&targets_once, targets_register);
  LLVMTargetRef target;
  char *message = NULL;
  if (LLVMGetTargetFromTriple(t->triple, &target, &message)) return unit_fail_message(u, t->triple, message);
  u->machine = LLVMCreateTargetMachine(target, t->triple, cpu_of(t), t->features, CODE_LEVEL, RELOCATION, CODE_MODEL);
  if (!u->machine) return unit_fail(u, t->triple, "no target machine");
  u->ctx = LLVMContextCreate();
  LLVMContextSetDiagnosticHandler(u->ctx, on_diagnostic, u);
  u->mod = LLVMModuleCreateWithNameInContext("nuwa", u->ctx);
  LLVMSetTarget(u->mod, t->triple);
  LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(u->machine);
  LLVMSetModuleDataLayout(u->mod, layout);
  LLVMDisposeTargetData(layout);
  return true;
}

static void unit_close(LlvmUnit *u) {
  if (u->mod) LLVMDisposeModule(u->mod);
  if (u->ctx) LLVMContextDispose(u->ctx);
  if (u->machine) LLVMDisposeTargetMachine(u->machine);
}

static bool unit_add(LlvmUnit *u, const Kernel *k, const Target *t) {
  if (!kir_verify(k, u->err)) return false;
  if (k->groups > 1)
    return error_set(u->err, ERROR_ARGUMENT, "kernel %s: an item of %d groups is a GPU's block; a CPU executes items of "
                     "one group", k->name, k->groups);
  if (LLVMGetNamedFunction(u->mod, k->name))
    return error_set(u->err, ERROR_ARGUMENT, "two kernels are called %s", k->name);
  return emit_kernel(u->ctx, u->mod, k, t) || error_set(u->err, ERROR_MEMORY, "out of memory");
}

static bool unit_optimise(LlvmUnit *u) {
  char *message = NULL;
  if (LLVMVerifyModule(u->mod, LLVMReturnStatusAction, &message)) return unit_fail_message(u, "broken module", message);
  LLVMDisposeMessage(message);
  LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
  LLVMErrorRef error = LLVMRunPasses(u->mod, PASSES, u->machine, options);
  LLVMDisposePassBuilderOptions(options);
  if (error) {
    char *text = LLVMGetErrorMessage(error);
    unit_fail(u, "passes", text);
    LLVMDisposeErrorMessage(text);
  }
  return !u->failed;
}

static bool unit_emit(LlvmUnit *u, LLVMCodeGenFileType kind, LLVMMemoryBufferRef *out) {
  char *message = NULL;
  if (LLVMTargetMachineEmitToMemoryBuffer(u->machine, u->mod, kind, &message, out))
    return unit_fail_message(u, "code generation", message);
  if (!u->failed) return true;
  LLVMDisposeMemoryBuffer(*out);
  return false;
}

/* The loader resolves nothing outside of the object: a call that LLVM invented (memset, fmaf) is an error here. */
static bool check_symbols(LlvmUnit *u, const char *bytes, size_t n) {
  const Elf64_Ehdr *head = (const void *)bytes;
  if (n < sizeof *head || memcmp(bytes, ELFMAG, SELFMAG)) return unit_fail(u, "object", "it is not ELF");
  const Elf64_Shdr *section = (const void *)(bytes + head->e_shoff);
  for (int s = 0; s < head->e_shnum; s++) {
    if (section[s].sh_type != SHT_SYMTAB) continue;
    const Elf64_Sym *symbol = (const void *)(bytes + section[s].sh_offset);
    const char *names = bytes + section[section[s].sh_link].sh_offset;
    for (size_t i = 1; i < section[s].sh_size / sizeof *symbol; i++)
      if (symbol[i].st_shndx == SHN_UNDEF) return unit_fail(u, "the object needs a symbol", names + symbol[i].st_name);
  }
  return true;
}

static bool unit_compile(LlvmUnit *u, Kernel *const *kernels, int n, const Target *t, Buffer *out) {
  for (int i = 0; i < n; i++)
    if (!unit_add(u, kernels[i], t)) return false;
  LLVMMemoryBufferRef object;
  if (!unit_optimise(u) || !unit_emit(u, LLVMObjectFile, &object)) return false;
  const char *bytes = LLVMGetBufferStart(object);
  size_t len = LLVMGetBufferSize(object);
  bool ok = check_symbols(u, bytes, len);
  if (ok) buffer_append(out, bytes, len);
  LLVMDisposeMemoryBuffer(object);
  if (ok && out->failed) return error_set(u->err, ERROR_MEMORY, "out of memory");
  return ok;
}

bool llvm_compile(Kernel *const *kernels, int n, const Target *t, Buffer *out, Error *err) {
  LlvmUnit u;
  bool ok = unit_open(&u, t, err) && unit_compile(&u, kernels, n, t, out);
  unit_close(&u);
  return ok;
}

static bool unit_print(LlvmUnit *u, const Kernel *k, const Target *t, bool assembly, Buffer *out) {
  if (!unit_add(u, k, t) || !unit_optimise(u)) return false;
  if (!assembly) {
    char *text = LLVMPrintModuleToString(u->mod);
    buffer_append(out, text, strlen(text));
    LLVMDisposeMessage(text);
    return true;
  }
  LLVMMemoryBufferRef text;
  if (!unit_emit(u, LLVMAssemblyFile, &text)) return false;
  buffer_append(out, LLVMGetBufferStart(text), LLVMGetBufferSize(text));
  LLVMDisposeMemoryBuffer(text);
  return true;
}

bool llvm_print(const Kernel *k, const Target *t, bool assembly, Buffer *out, Error *err) {
  LlvmUnit u;
  bool ok = unit_open(&u, t, err) && unit_print(&u, k, t, assembly, out);
  unit_close(&u);
  return ok;
}
