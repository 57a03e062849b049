/* The decoded form of PTX: what the parser makes of NVRTC's text and the interpreter executes.
 *
 * A module is parsed once.  Every kernel then becomes one flat array of instructions: the functions it calls are
 * appended behind it, with registers and local memory of their own (so there is no recursion), and every register,
 * immediate and special register is a *row* of 32 lane values.  Reading a row truncates it to the type of the
 * instruction; what lies above means nothing. */
#ifndef EMU_PTX_H
#define EMU_PTX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LANES = 32, MAX_WARPS = 32, MAX_ROWS = 16, MAX_OPERANDS = 6, MAX_TYPES = 4, MAX_PARAM_BYTES = 4096 };

typedef enum PtxType {
  T_NONE, T_PRED, T_B8, T_U8, T_S8, T_B16, T_U16, T_S16, T_B32, T_U32, T_S32, T_B64, T_U64, T_S64,
  T_F16, T_BF16, T_F32, T_F64, T_TF32, T_F16X2, T_BF16X2, T_COUNT
} PtxType;

typedef enum PtxSpace { SPACE_GENERIC, SPACE_GLOBAL, SPACE_SHARED, SPACE_LOCAL, SPACE_PARAM, SPACE_CONST } PtxSpace;

enum {   /* groups of modifiers, see ptx_decode.c */
  G_TYPE = 1 << 0, G_ROUND = 1 << 1, G_FTZ = 1 << 2, G_SAT = 1 << 3, G_WIDTH = 1 << 4,
  G_COMPARE = 1 << 6, G_BOOL = 1 << 7, G_SPACE = 1 << 8, G_VECTOR = 1 << 9, G_HINT = 1 << 10, G_SHUFFLE = 1 << 11,
  G_VOTE = 1 << 12, G_ATOMIC = 1 << 13, G_SYNC = 1 << 14, G_SHIFT = 1 << 15, G_TO = 1 << 16, G_UNI = 1 << 17,
  G_COPY = 1 << 18, G_MATRIX = 1 << 19, G_NAN = 1 << 20, G_TEST = 1 << 21, G_SHIFTAMT = 1 << 22, G_BARRIER = 1 << 23
};

typedef enum PtxOp {
#define OP(id, text, groups, fewest, most, run) OP_##id,
#include "ptx_ops.def"
  OP_COUNT
} PtxOp;

typedef enum PtxRound { ROUND_NONE, ROUND_RN, ROUND_RZ, ROUND_RM, ROUND_RP, ROUND_RNI, ROUND_RZI, ROUND_RMI,
                        ROUND_RPI, ROUND_RNA } PtxRound;
typedef enum PtxCompare { CMP_EQ, CMP_NE, CMP_LT, CMP_LE, CMP_GT, CMP_GE, CMP_NUM, CMP_NAN } PtxCompare;

/* Sub-operations share one field: no operation has two of them. */
enum { WIDTH_NONE, WIDTH_LO, WIDTH_HI, WIDTH_WIDE };
enum { SHUFFLE_UP = 1, SHUFFLE_DOWN, SHUFFLE_BFLY, SHUFFLE_IDX };
enum { VOTE_ANY = 1, VOTE_ALL, VOTE_UNI, VOTE_BALLOT };
enum { ATOMIC_ADD = 1, ATOMIC_MIN, ATOMIC_MAX, ATOMIC_AND, ATOMIC_OR, ATOMIC_XOR, ATOMIC_EXCH, ATOMIC_CAS, ATOMIC_INC,
       ATOMIC_DEC };
enum { BOOL_NONE, BOOL_AND, BOOL_OR, BOOL_XOR };
enum { COPY_ASYNC = 1, COPY_COMMIT, COPY_WAIT, COPY_WAIT_ALL };
enum { BARRIER_SYNC = 1, BARRIER_WARP, BARRIER_RED, BARRIER_ARRIVE };
enum { REDUCE_AND = 1, REDUCE_OR, REDUCE_POPC };
enum { TEST_FINITE = 1, TEST_INFINITE, TEST_NUMBER, TEST_NOTANUMBER, TEST_NORMAL, TEST_SUBNORMAL };
enum { SHAPE_NONE, SHAPE_M16N8K16, SHAPE_M16N8K8, SHAPE_M8N8 };

enum {   /* Instr.flags */
  FLAG_FTZ = 1, FLAG_SAT = 2, FLAG_UNORDERED = 8, FLAG_TO = 16, FLAG_TRANS = 32, FLAG_NAN = 64,
  FLAG_SHIFT_RIGHT = 128, FLAG_SHIFT_CLAMP = 256, FLAG_SHIFTAMT = 512, FLAG_ALIGNED = 1024, FLAG_UNSIGNED = 2048,
  FLAG_ROW = 4096, FLAG_COL = 8192, FLAG_BYPASS = 16384
};

/* 32 lanes of results from 32 lanes of up to four sources; d may be one of them. */
typedef void AluFn(uint64_t *d, const uint64_t *a, const uint64_t *b, const uint64_t *c, const uint64_t *e);

typedef struct Instr {
  uint16_t op, flags;
  uint8_t type[MAX_TYPES], types, space, round, sub, sub2, shape, vector, negated;   /* negated: bit k, operand k */
  uint8_t operands, at[MAX_OPERANDS], count[MAX_OPERANDS];   /* operand k: rows row[at[k]] .. + count[k] */
  bool guard_negated;
  int32_t guard;                /* row of the predicate, or -1 */
  int32_t row[MAX_ROWS];
  int64_t offset[2];            /* of the address operands, in order */
  int32_t target;               /* bra: instruction; brx: first of branch_targets; call: function, then instruction */
  int32_t targets;              /* brx: how many; (argument): bytes */
  int32_t link;                 /* call and ret: row that holds the instruction to return to */
  AluFn *alu;
  bool plain;                   /* alu does it all: nothing to flush, saturate, round or refuse */
  int line;
  const char *text;             /* in the module's text, text_bytes long */
  int text_bytes;
} Instr;

typedef enum RowKind { ROW_REGISTER, ROW_CONSTANT, ROW_TID, ROW_NTID, ROW_CTAID, ROW_NCTAID, ROW_LANEID, ROW_WARPID,
                       ROW_LANEMASK_EQ, ROW_LANEMASK_LT, ROW_LANEMASK_LE, ROW_LANEMASK_GT, ROW_LANEMASK_GE,
                       ROW_NWARPID, ROW_SMID, ROW_NSMID, ROW_SHARED, ROW_LOCAL, ROW_DYNAMIC_SHARED,
                       ROW_DYNAMIC_SHARED_BYTES } RowKind;
typedef struct Row {
  uint8_t kind, axis;           /* axis: 0 x, 1 y, 2 z */
  uint8_t type;                 /* PtxType that a register was declared with, or T_NONE */
  uint64_t value;               /* of a constant; of SHARED and LOCAL the offset in the function, until linking */
} Row;

typedef struct Param {
  int offset, bytes;
} Param;

/* A function as written, and a kernel after linking. */
typedef struct Function {
  char *name;
  bool entry, defined;
  Instr *code;
  int instrs, instr_cap;
  Row *row;
  int rows, row_cap;
  int *branch_targets;
  int n_branch_targets, branch_target_cap;
  Param *param, *result;        /* a kernel's: in its parameter block; a function's: in its local frame */
  int params, param_cap, param_bytes;
  int local_bytes, shared_bytes;   /* static; both multiples of 16 */
  int max_threads;              /* .maxntid, or 0 */
  int shared_access;            /* a kernel's: bytes of the smallest access to what may be shared memory */
  int registers;                /* a kernel's: an estimate of what the hardware's assembler would need */
} Function;

/* A .global or .const variable: bytes at `address` once the module is loaded. */
typedef struct Variable {
  char *name;
  bool constant;
  size_t bytes, align;
  unsigned char *init;          /* `bytes` long, zeroed */
  uint64_t address;
} Variable;

typedef struct Module {
  int target;                   /* 80 for sm_80 */
  char *text;                   /* comments blanked out, newlines kept */
  Function **function;          /* parsed; [0, functions) */
  int functions, function_cap;
  Function **kernel;            /* linked: one for every defined entry */
  int kernels, kernel_cap;
  Variable **variable;
  int variables, variable_cap;
} Module;

/* Reads PTX.  `place(ctx, variable)` gives every variable its device address as it is declared (false: no memory).
 * NULL, and what is wrong at which line in `error`, when the text is not PTX or uses what the emulator lacks. */
typedef bool PlaceFn(void *ctx, Variable *v);
Module *ptx_module_new(const char *text, PlaceFn *place, void *ctx, char *error, size_t error_bytes);
void ptx_module_free(Module *m);

int ptx_type_bytes(PtxType t);
const char *ptx_type_name(PtxType t);
static inline bool ptx_type_is_signed(int t) { return t == T_S8 || t == T_S16 || t == T_S32 || t == T_S64; }
static inline bool ptx_type_is_float(int t) { return t >= T_F16 && t <= T_TF32; }

/* Resolves i->alu and checks that operation, types and sub-operation are one combination the interpreter has.
 * NULL, or what is missing. */
const char *ptx_instr_bind(Instr *i);
/* The least compute capability (80 for sm_80) that has this instruction. */
int ptx_instr_capability(const Instr *i);

/* Memory of the emulator's own: never NULL, the program ends with a message when there is none.  The emulator stands
 * for a foreign library, so it stays out of nuwa's allocator and of the failures that the stress build injects. */
void *emu_alloc(size_t bytes);   /* zeroed */
void *emu_grow(void *old, int n, size_t elem_bytes, int *cap);
char *emu_strndup(const char *s, size_t n);
#define EMU_PUSH(list, n, cap, value)                                                                  \
  do {                                                                                                 \
    if ((n) == (cap)) (list) = emu_grow((list), (n), sizeof *(list), &(cap));                          \
    (list)[(n)++] = (value);                                                                           \
  } while (0)

#endif
