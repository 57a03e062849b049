/* What executes, as the options that commands share say it: declared here once, for all of them. */
#include <string.h>

#include "cli/cli.h"

#if defined(__aarch64__)
#define ISA_WORDS "neon|plain"
#else
#define ISA_WORDS "avx512|avx2|plain"
#endif

int target_args(ModelArgs *m, const char *devices, Arg out[TARGET_ARGS]) {
  const Arg args[] = {
      {"--device", ARG_CHOICE, devices ? devices : "cpu|cuda", "what executes (cpu; a bundle: what it is for)",
       &m->device, 0, 0},
      {"--cuda-driver", ARG_TEXT, "FILE", "the driver's library (libcuda.so.1)", &m->driver, 0, 0},
      {"--cublaslt", ARG_TEXT, "FILE", "cuBLASLt's library (the usual names)", &m->cublaslt, 0, 0},
      {"--nvrtc", ARG_TEXT, "FILE", "the CUDA compiler's library (the usual places)", &m->nvrtc, 0, 0},
      {"--products", ARG_CHOICE, "cublaslt|own", "who computes large matrix products on CUDA (cublaslt)",
       &m->products, 0, 0},
      {"--isa", ARG_CHOICE, ISA_WORDS, "instruction set of a CPU (the best here)", &m->isa, 0, 0,
       "amx: there are no kernels for its tiles yet; --precision bf16 computes their bits on avx512"},
      {"--precision", ARG_CHOICE, "f32|bf16", "of weights and activations (f32)", &m->precision, 0, 0},
      {"--threads", ARG_INT, "N", "threads (all)", &m->threads, 0, POOL_MAX_THREADS},
      {"--models", ARG_TEXT, "DIR", "where the shipped models are", &m->models_dir, 0, 0},
      {"--ignore", ARG_LIST, "PATTERN", "read weights without the tensors of such names (\"loss.*\")", &m->ignore, 0, 0},
      {"--no-cache", ARG_FLAG, NULL, "compile every kernel anew", &m->no_cache, 0, 0},
  };
  _Static_assert(COUNT_OF(args) == TARGET_ARGS, "TARGET_ARGS counts them");
  memcpy(out, args, sizeof args);
  return TARGET_ARGS;
}

bool target_check(const ModelArgs *m, Error *err) {
  if (cli_is_cuda(m) && m->cublaslt && !cli_uses_cublaslt(m))
    return error_set(err, ERROR_USAGE, "--cublaslt has no effect beside --products own");
  if (cli_is_cuda(m)) return !m->isa || error_set(err, ERROR_USAGE, "--isa is for --device cpu");
  if (m->arch) return error_set(err, ERROR_USAGE, "--arch is for --device cuda");
  if (m->products) return error_set(err, ERROR_USAGE, "--products is for --device cuda");
  bool may_be_cuda = !m->device && m->path && models_is_bundle(m->path);
  if (m->driver && !may_be_cuda) return error_set(err, ERROR_USAGE, "--cuda-driver is for --device cuda");
  return !m->cublaslt || may_be_cuda || error_set(err, ERROR_USAGE, "--cublaslt is for --device cuda");
}

bool cli_isa(const ModelArgs *m, Isa *out, Error *err) {
  *out = isa_best();
  if (!m->isa) return true;
  if (!isa_from_name(m->isa, out)) return error_set(err, ERROR_ARGUMENT, "--isa %s: unknown", m->isa);
  if (!isa_available(*out)) return error_set(err, ERROR_DEVICE, "--isa %s: this machine lacks it", m->isa);
  return true;
}

DType cli_precision(const ModelArgs *m) {
  return m->precision && strcmp(m->precision, "bf16") == 0 ? DTYPE_BF16 : DTYPE_F32;
}

int cli_threads(const ModelArgs *m) { return m->threads ? (int)m->threads : pool_count_processors(); }

bool cli_is_cuda(const ModelArgs *m) { return m->device ? strcmp(m->device, "cuda") == 0 : m->arch != NULL; }

bool cli_uses_cublaslt(const ModelArgs *m) {
  return cli_is_cuda(m) && (!m->products || strcmp(m->products, "cublaslt") == 0);
}

NuwaCuda cli_cuda(const ModelArgs *m) { return (NuwaCuda){.driver = m->driver, .cublaslt = m->cublaslt}; }

/* "sm_80,sm_90" */
bool cli_archs(const char *text, int arch[CUDA_MAX_ARCHS], int *out_n, Error *err) {
  for (const char *at = text; at;) {
    int used = 0;
    if (*out_n == CUDA_MAX_ARCHS || sscanf(at, "sm_%3d%n", &arch[*out_n], &used) != 1 ||
        strspn(at + 3, "0123456789") + 3 != (size_t)used || (at[used] && at[used] != ','))
      return error_set(err, ERROR_USAGE, "--arch %s: must be at most %d of sm_80, sm_90, ... with commas between",
                       text, CUDA_MAX_ARCHS);
    ++*out_n;
    at = at[used] ? at + used + 1 : NULL;
  }
  return true;
}

