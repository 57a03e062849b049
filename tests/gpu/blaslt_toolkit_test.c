/* What runtime/cuda/blaslt_abi.h declares, against the CUDA toolkit, where one is installed. */
#include <dlfcn.h>
#include <stdlib.h>

#include "runtime/cuda/blaslt.h"
#include "runtime/cuda/blaslt_abi.h"
#include "tests/test.h"

#if defined(__has_include)
#if __has_include(<cublasLt.h>)
#define HAVE_HEADER
#include <cublasLt.h>
#endif
#endif

TEST("every constant and struct is that of cublasLt.h") {
#ifdef HAVE_HEADER
#define SAME(ours, value, theirs)                                                                      \
  EXPECT((long long)(ours) == (long long)(theirs), "%s is %lld", #theirs, (long long)(theirs));
  BLASLT_CONSTANTS(SAME)
#undef SAME
  EXPECT(sizeof(LtAlgo) == sizeof(cublasLtMatmulAlgo_t), "%zu", sizeof(cublasLtMatmulAlgo_t));
  EXPECT(sizeof(LtHeuristic) == sizeof(cublasLtMatmulHeuristicResult_t), "%zu", sizeof(LtHeuristic));
  EXPECT(offsetof(LtHeuristic, workspace_bytes) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize), "bytes");
  EXPECT(offsetof(LtHeuristic, state) == offsetof(cublasLtMatmulHeuristicResult_t, state), "state");
  EXPECT(offsetof(LtHeuristic, waves) == offsetof(cublasLtMatmulHeuristicResult_t, wavesCount), "waves");
#else
  SKIP("cublasLt.h is not installed");
#endif
}

/* The library that blaslt_open(NULL) would find, kept loaded; NULL: none. */
static void *real_library(void) {
  static const char *const name[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
  void *library = NULL;
  for (int k = 0; k < 2 && !library; k++) library = dlopen(name[k], RTLD_NOW | RTLD_LOCAL);
  return library;
}

TEST("every function is in the real library") {
  void *library = real_library();
  if (!library) SKIP("libcublasLt is not installed");
#define PRESENT(result, name, arguments) EXPECT(dlsym(library, #name), "%s", #name);
  BLASLT_FUNCTIONS(PRESENT)
#undef PRESENT
}

TEST("the real library opens, or says by name what it lacks") {
  if (!real_library()) SKIP("libcublasLt is not installed");
  Error err = {0};
  BlasLt *lt = blaslt_open(NULL, &err);
  if (!lt) EXPECT_HAS(err.text, "cublasLtCreate: status 1, CUBLAS_STATUS_NOT_INITIALIZED");
  blaslt_close(lt);
}

/* cublasLtCreate keeps what it allocated when it finds no driver: the library's leak, not ours. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libcublasLt"; }

TEST_MAIN()
