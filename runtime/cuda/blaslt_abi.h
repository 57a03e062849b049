/* What cublasLt.h says, declared anew so that building needs no CUDA headers: constants, structs and functions.
 * tests/gpu/blaslt_toolkit_test.c compares every line with the real header where a toolkit is installed.  Only what
 * blaslt.c and the tests' stand-in use is here; the values hold for cuBLASLt 12 and 13. */
#ifndef NUWA_BLASLT_ABI_H
#define NUWA_BLASLT_ABI_H

#include <stddef.h>
#include <stdint.h>

/* Our name, the value, its name in cublasLt.h (and cublas_api.h, library_types.h). */
#define BLASLT_CONSTANTS(X)                                                                            \
  X(LT_SUCCESS, 0, CUBLAS_STATUS_SUCCESS)                                                              \
  X(LT_NOT_INITIALIZED, 1, CUBLAS_STATUS_NOT_INITIALIZED)                                              \
  X(LT_ALLOC_FAILED, 3, CUBLAS_STATUS_ALLOC_FAILED)                                                    \
  X(LT_INVALID_VALUE, 7, CUBLAS_STATUS_INVALID_VALUE)                                                  \
  X(LT_ARCH_MISMATCH, 8, CUBLAS_STATUS_ARCH_MISMATCH)                                                  \
  X(LT_EXECUTION_FAILED, 13, CUBLAS_STATUS_EXECUTION_FAILED)                                           \
  X(LT_INTERNAL_ERROR, 14, CUBLAS_STATUS_INTERNAL_ERROR)                                               \
  X(LT_NOT_SUPPORTED, 15, CUBLAS_STATUS_NOT_SUPPORTED)                                                 \
  X(LT_COMPUTE_32F, 68, CUBLAS_COMPUTE_32F)                                                            \
  X(LT_R_32F, 0, CUDA_R_32F)                                                                           \
  X(LT_R_16BF, 14, CUDA_R_16BF)                                                                        \
  X(LT_OP_N, 0, CUBLAS_OP_N)                                                                           \
  X(LT_OP_T, 1, CUBLAS_OP_T)                                                                           \
  X(LT_REDUCTION_NONE, 0, CUBLASLT_REDUCTION_SCHEME_NONE)                                              \
  X(LT_REDUCTION_COMPUTE_TYPE, 2, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)                              \
  X(LT_REDUCTION_MASK, 7, CUBLASLT_REDUCTION_SCHEME_MASK)                                              \
  X(LT_EPILOGUE_DEFAULT, 1, CUBLASLT_EPILOGUE_DEFAULT)                                                 \
  X(LT_EPILOGUE_BIAS, 4, CUBLASLT_EPILOGUE_BIAS)                                                       \
  X(LT_DESC_TRANSA, 3, CUBLASLT_MATMUL_DESC_TRANSA)                                                    \
  X(LT_DESC_TRANSB, 4, CUBLASLT_MATMUL_DESC_TRANSB)                                                    \
  X(LT_DESC_EPILOGUE, 7, CUBLASLT_MATMUL_DESC_EPILOGUE)                                                \
  X(LT_DESC_BIAS_POINTER, 8, CUBLASLT_MATMUL_DESC_BIAS_POINTER)                                        \
  X(LT_LAYOUT_ROWS, 2, CUBLASLT_MATRIX_LAYOUT_ROWS)                                                    \
  X(LT_LAYOUT_COLS, 3, CUBLASLT_MATRIX_LAYOUT_COLS)                                                    \
  X(LT_LAYOUT_LD, 4, CUBLASLT_MATRIX_LAYOUT_LD)                                                        \
  X(LT_LAYOUT_BATCH_COUNT, 5, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT)                                      \
  X(LT_LAYOUT_BATCH_STRIDE, 6, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET)                            \
  X(LT_PREF_WORKSPACE, 1, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)                                    \
  X(LT_PREF_REDUCTION_MASK, 3, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)                             \
  X(LT_PREF_ALIGN_A, 5, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES)                                    \
  X(LT_PREF_ALIGN_B, 6, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES)                                    \
  X(LT_PREF_ALIGN_C, 7, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES)                                    \
  X(LT_PREF_ALIGN_D, 8, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES)                                    \
  X(LT_PREF_IMPL_MASK, 12, CUBLASLT_MATMUL_PREF_IMPL_MASK)                                             \
  X(LT_CAP_NUMERICS, 15, CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS)                                       \
  X(LT_CAP_ALIGN_A, 16, CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_A_BYTES)                                       \
  X(LT_CAP_ALIGN_B, 17, CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_B_BYTES)                                       \
  X(LT_CAP_ALIGN_C, 18, CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_C_BYTES)                                       \
  X(LT_CAP_ALIGN_D, 19, CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_D_BYTES)                                       \
  X(LT_CONFIG_ID, 0, CUBLASLT_ALGO_CONFIG_ID)                                                          \
  X(LT_CONFIG_TILE, 1, CUBLASLT_ALGO_CONFIG_TILE_ID)                                                   \
  X(LT_CONFIG_SPLIT_K, 2, CUBLASLT_ALGO_CONFIG_SPLITK_NUM)                                             \
  X(LT_CONFIG_REDUCTION, 3, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME)                                     \
  X(LT_CONFIG_SWIZZLE, 4, CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING)                                          \
  X(LT_CONFIG_CUSTOM, 5, CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION)                                           \
  X(LT_CONFIG_STAGES, 6, CUBLASLT_ALGO_CONFIG_STAGES_ID)                                               \
  X(LT_CONFIG_INNER, 7, CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID)                                           \
  X(LT_CONFIG_CLUSTER, 8, CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID)                                       \
  X(LT_NUMERICS_FMA, 0x1, CUBLASLT_NUMERICAL_IMPL_FLAGS_FMA)                                           \
  X(LT_NUMERICS_HMMA, 0x2, CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA)                                         \
  X(LT_NUMERICS_TENSOR, 0xfe, CUBLASLT_NUMERICAL_IMPL_FLAGS_TENSOR_OP_MASK)                            \
  X(LT_NUMERICS_SUM_16F, 0x100, CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_16F)                         \
  X(LT_NUMERICS_SUM_32F, 0x200, CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32F)                         \
  X(LT_NUMERICS_IN_16BF, 0x20000, CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16BF)                            \
  X(LT_NUMERICS_IN_TF32, 0x40000, CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32)                            \
  X(LT_NUMERICS_IN_32F, 0x80000, CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_32F)

enum {
#define X(ours, value, theirs) ours = value,
  BLASLT_CONSTANTS(X)
#undef X
};

typedef struct LtHandle_ *LtHandle;      /* cublasLtHandle_t */
typedef struct LtDesc_ *LtDesc;          /* cublasLtMatmulDesc_t */
typedef struct LtLayout_ *LtLayout;      /* cublasLtMatrixLayout_t */
typedef struct LtPreference_ *LtPreference;
typedef struct LtStream_ *LtStream;      /* cudaStream_t, which is CUstream */
typedef struct LtAlgo { uint64_t data[8]; } LtAlgo;
typedef struct LtHeuristic {             /* cublasLtMatmulHeuristicResult_t */
  LtAlgo algo;
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
} LtHeuristic;

/* Every function used, once: what it returns, its name, its arguments.  Statuses and enums are int there too. */
#define BLASLT_FUNCTIONS(F)                                                                            \
  F(size_t, cublasLtGetVersion, (void))                                                                \
  F(const char *, cublasLtGetStatusName, (int status))                                                 \
  F(const char *, cublasLtGetStatusString, (int status))                                               \
  F(int, cublasLtCreate, (LtHandle *handle))                                                           \
  F(int, cublasLtDestroy, (LtHandle handle))                                                           \
  F(int, cublasLtMatmulDescCreate, (LtDesc *desc, int compute_type, int scale_type))                   \
  F(int, cublasLtMatmulDescDestroy, (LtDesc desc))                                                     \
  F(int, cublasLtMatmulDescSetAttribute, (LtDesc desc, int attribute, const void *value, size_t bytes)) \
  F(int, cublasLtMatrixLayoutCreate, (LtLayout *layout, int type, uint64_t rows, uint64_t cols, int64_t ld)) \
  F(int, cublasLtMatrixLayoutDestroy, (LtLayout layout))                                               \
  F(int, cublasLtMatrixLayoutSetAttribute, (LtLayout layout, int attribute, const void *value, size_t bytes)) \
  F(int, cublasLtMatmulPreferenceCreate, (LtPreference *preference))                                   \
  F(int, cublasLtMatmulPreferenceDestroy, (LtPreference preference))                                   \
  F(int, cublasLtMatmulPreferenceSetAttribute,                                                         \
    (LtPreference preference, int attribute, const void *value, size_t bytes))                         \
  F(int, cublasLtMatmulAlgoGetHeuristic,                                                               \
    (LtHandle handle, LtDesc desc, LtLayout a, LtLayout b, LtLayout c, LtLayout d, LtPreference preference, \
     int requested, LtHeuristic *results, int *returned))                                              \
  F(int, cublasLtMatmulAlgoGetIds,                                                                     \
    (LtHandle handle, int compute_type, int scale_type, int a_type, int b_type, int c_type, int d_type, \
     int requested, int *ids, int *returned))                                                          \
  F(int, cublasLtMatmulAlgoInit,                                                                       \
    (LtHandle handle, int compute_type, int scale_type, int a_type, int b_type, int c_type, int d_type, int id, \
     LtAlgo *algo))                                                                                    \
  F(int, cublasLtMatmulAlgoCheck,                                                                      \
    (LtHandle handle, LtDesc desc, LtLayout a, LtLayout b, LtLayout c, LtLayout d, const LtAlgo *algo, \
     LtHeuristic *result))                                                                             \
  F(int, cublasLtMatmulAlgoCapGetAttribute,                                                            \
    (const LtAlgo *algo, int attribute, void *value, size_t bytes, size_t *written))                   \
  F(int, cublasLtMatmulAlgoConfigSetAttribute, (LtAlgo *algo, int attribute, const void *value, size_t bytes)) \
  F(int, cublasLtMatmulAlgoConfigGetAttribute,                                                         \
    (const LtAlgo *algo, int attribute, void *value, size_t bytes, size_t *written))                   \
  F(int, cublasLtMatmul,                                                                               \
    (LtHandle handle, LtDesc desc, const void *alpha, const void *a, LtLayout a_layout, const void *b, \
     LtLayout b_layout, const void *beta, const void *c, LtLayout c_layout, void *d, LtLayout d_layout, \
     const LtAlgo *algo, void *workspace, size_t workspace_bytes, LtStream stream))

#endif
