/* Parameters of kernels: what a template leaves open.  Of whichever legal values it is given it makes a kernel with the
 * same bits; only the time differs.
 *
 * A kind of parameters belongs to one loop nest of a family.  Its fields are integers, listed once here with every value
 * that each can have; which of these are legal for a group on a target, and which is the default, the family says. */
#ifndef NUWA_PARAMS_H
#define NUWA_PARAMS_H

#include "codegen/target.h"
#include "ir/program.h"

#define PARAM_UP_TO_4 1, 2, 3, 4
#define PARAM_UP_TO_8 PARAM_UP_TO_4, 5, 6, 7, 8
#define PARAM_UP_TO_16 PARAM_UP_TO_8, 9, 10, 11, 12, 13, 14, 15, 16
#define PARAM_UP_TO_32 PARAM_UP_TO_16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32
#define PARAM_FLAG 0, 1
/* Elements that a thread takes at once, as whole items: more cost balance, fewer cost calls.  On a GPU the middle one. */
#define PARAM_GRAIN 4096, GRAIN_ELEMS, 65536
enum { GRAIN_ELEMS = 16384 };

/* F(field, value...), values ascending. */
#define MAP_PARAMS(F)                                                                                                \
  F(split, 0, PARAM_UP_TO_8)             /* lanes run over the axes from this one on, merged */                      \
  F(quads, PARAM_FLAG)                   /* a block of groups has four neighbours a lane: GPU */                     \
  F(tile, 0, PARAM_UP_TO_8)              /* 1 + the axis before split of which an item takes several steps; 0: none */ \
  F(steps, 1, 4, 8, 16, 32)              /* how many of it */                                                        \
  F(vectors, 1, 2, 4, 8, 16, 32, 64, 128)   /* of 16 lanes that an item has at most */                              \
  F(groups, 1, 2, 4, 8, 16, 32)          /* of a block, at most */                                                   \
  F(unroll, 1, 2, 4, 8)                  /* vectors that a step of the loop over them takes */                       \
  F(steps_unroll, 1, 2, 4, 8)                                                                                        \
  F(grain, PARAM_GRAIN)

#define REDUCE_PARAMS(F)                                                                                             \
  F(columns, PARAM_FLAG)                 /* lanes run along the kept axes behind the last reduced one */             \
  F(vectors, 1, 2, 4, 8, 16)             /* of columns that an item has at most: CPU */                             \
  F(kept, 0, 1, 2, 3)                    /* costly values of a row, needed by several loops, that are kept at most */ \
  F(unroll, PARAM_UP_TO_16)              /* vectors that a step of a loop takes; of columns on a GPU: elements */    \
  F(start_unroll, 1, 2, 4, 8)            /* the same where columns start, and where they end: CPU */                 \
  F(end_unroll, 1, 2, 4, 8)                                                                                          \
  F(grain, PARAM_GRAIN)

#define SCATTER_PARAMS(F)                                                                                            \
  F(block, PARAM_FLAG)                   /* groups of a block share the scanning of the indices: GPU */              \
  F(vectors, 1, 2, 4, 8, 16, 32, 64)     /* of a row that an item has at most */                                     \
  F(groups, 1, 2, 4, 8, 16, 32)          /* of a block at least; those without columns only scan */                  \
  F(scan, 1, 2, 4, 8)                    /* vectors of indices that a group scans at once */                         \
  F(unroll, 1, 2, 4, 8)                  /* vectors of a row that a step of a loop takes */                          \
  F(grain, PARAM_GRAIN)

#define CONTRACT_PARAMS(F)                                                                                           \
  F(tile_m, PARAM_UP_TO_16)              /* rows of the register tile */                                             \
  F(tile_n, PARAM_UP_TO_8)               /* its columns, in vectors of 16 lanes */                                   \
  F(tile_k, 0, 32, 64, 128, 256, 512, 1024, 2048)   /* elements of k between stores of the accumulators; 0: all */   \
  F(block_m, PARAM_UP_TO_32, 48, 64, 128, 256)      /* register tiles that an item has along m */                    \
  F(pack_b, PARAM_FLAG)                  /* the item's columns of b are copied into scratch first */                 \
  F(unroll, 1, 2, 4, 8)                  /* elements of k (bf16: of a chain) that a step of the loop takes */        \
  F(widen_unroll, 1, 2, 4, 8)            /* of bf16: the same where rows of a are widened */

/* Of bf16 a register is a matrix tile of 16 x 16, and pairs of groups multiply. */
#define CONTRACT_GPU_PARAMS(F)                                                                                       \
  F(swap, PARAM_FLAG)                    /* m and n change places in the tiles: lanes run along rows */              \
  F(tile_m, PARAM_UP_TO_8)               /* registers that who multiplies has along m */                             \
  F(tile_n, PARAM_UP_TO_8)               /* the same along n, each of 16 lanes */                                    \
  F(block_m, PARAM_UP_TO_16, 32)         /* how many multiply along m */                                             \
  F(block_n, PARAM_UP_TO_8, 16)          /* and along n */                                                           \
  F(tile_k, 16, 32, 48, 64, 96, 128)     /* elements of k of a tile in shared memory */                              \
  F(stages, PARAM_UP_TO_8)               /* such tiles, filled by asynchronous copies; 1: one, filled by loads */    \
  F(unroll, 1, 2, 4, 8)                  /* steps of 4 elements of k (bf16: 16) that the loop takes at once */      \
  F(resident, 0, 1, 2, 4, 8)             /* blocks of a multiprocessor at once; 0: as registers and bytes allow */

#define PARAM_POSITIONS 0, PARAM_UP_TO_32, 48, 64, 128, 256, 512, 1024

/* The own positions of an item (queries, or keys for their gradients) are a box of the grid in nest 1, and patch_w of
 * them in raster order in the others.  What only one nest has is at its first value in the others. */
#define ATTEND_PARAMS(F)                                                                                             \
  F(nest, 0, 1, 2)                       /* 0: position by position; 1: lists of keys; 2: tiles of keys */           \
  F(patch_s, PARAM_POSITIONS)            /* 0 in all three: the cheapest box, where its sizes are none of these */   \
  F(patch_h, PARAM_POSITIONS)                                                                                        \
  F(patch_w, PARAM_POSITIONS)                                                                                        \
  F(rows, PARAM_UP_TO_4)                 /* nest 2: keys of a register tile */                                       \
  F(vectors, 1, 2)                       /* nest 2: vectors of 16 own positions in it */                             \
  F(chunk, 0, 16, 32, 64, 128, 256)      /* nest 2: keys whose weights are made before they are summed */            \
  F(sums, 0, 4, 8, 16)                   /* nest 2: vectors of results in registers, unless one position has more */ \
  F(unroll, 1, 2, 4)                     /* nests 1 and 2: keys that a step of a sum takes */

#define ATTEND_GPU_PARAMS(F)                                                                                         \
  F(nest, PARAM_FLAG)                    /* 0: position by position; 1: blocks */                                    \
  F(own, 0, 1, 2, 4, 8, 16, 32)          /* nest 0: own positions of an item */                                      \
  F(block_m, PARAM_UP_TO_32, 48, 64)     /* nest 1: groups of a block at most */                                     \
  F(tile_m, 1, 2, 4)                     /* own positions of a group */                                              \
  F(stream, PARAM_FLAG)                  /* forward: scores are made twice, lists of weights hold a chunk */         \
  F(tile_k, PARAM_UP_TO_32, 64, 128)     /* others in shared memory at once; 1: as many as fit well */               \
  F(stages, 1, 2)                        /* parts of these, filled by asynchronous copies; 1: by loads */            \
  F(resident, 0, PARAM_UP_TO_16)         /* blocks of a multiprocessor at once; 0: as registers and bytes allow */

/* K(ID, name, Type, fields) */
#define PARAM_KINDS(K)                                                                                               \
  K(MAP, map, MapParams, MAP_PARAMS)                                                                                 \
  K(REDUCE, reduce, ReduceParams, REDUCE_PARAMS)                                                                     \
  K(SCATTER, scatter, ScatterParams, SCATTER_PARAMS)                                                                 \
  K(CONTRACT, contract, ContractParams, CONTRACT_PARAMS)                                                             \
  K(CONTRACT_GPU, contract_gpu, ContractGpuParams, CONTRACT_GPU_PARAMS)                                              \
  K(ATTEND, attend, AttendParams, ATTEND_PARAMS)                                                                     \
  K(ATTEND_GPU, attend_gpu, AttendGpuParams, ATTEND_GPU_PARAMS)

#define PARAM_FIELD(name, ...) int name;
#define PARAM_STRUCT(id, name, Type, fields) typedef struct Type { fields(PARAM_FIELD) } Type;
PARAM_KINDS(PARAM_STRUCT)

#define PARAM_ID(id, name, Type, fields) PARAMS_##id,
typedef enum ParamsKind { PARAM_KINDS(PARAM_ID) PARAMS_COUNT } ParamsKind;

enum { PARAMS_MAX_FIELDS = 16 };

typedef struct Params {
  ParamsKind kind;
  union {
#define PARAM_MEMBER(id, name, Type, fields) Type name;
    PARAM_KINDS(PARAM_MEMBER)
#undef PARAM_MEMBER
    int value[PARAMS_MAX_FIELDS];   /* the fields in order; 0 beyond them */
  };
} Params;

/* Number of a field of a kind's struct. */
#define PARAM_AT(Type, field) ((int)(offsetof(Type, field) / sizeof(int)))

/* ---- the kinds ---- */

int params_fields(ParamsKind kind);
const char *params_field_name(ParamsKind kind, int field);
/* How many values the field can have; *out: these. */
int params_field_values(ParamsKind kind, int field, const int **out);

bool params_equal(const Params *x, const Params *y);
/* "contract tile_m=6 tile_n=2 ..." */
void params_print(const Params *p, Buffer *out);
/* What params_print gave; names in any order, all of them, each with one of the field's values. */
bool params_parse(const char *text, Params *out, Error *err);

/* ---- of a group on a target ---- */

ParamsKind params_kind(const Group *g, const Target *t);
/* Works in a; inside arena_protect.  False after a diagnostic: the group cannot be lowered at all. */
bool params_default(Arena *a, const Group *g, const Target *t, Params *out, Error *err);
/* False: the error names the field and says what would be right. */
bool params_is_legal(const Group *g, const Target *t, const Params *p, Error *err);
/* All legal parameters, the last field running fastest: for (ok = params_first(g, t, &p); ok; ok = params_next(g, t, &p)) */
bool params_first(const Group *g, const Target *t, Params *out);
bool params_next(const Group *g, const Target *t, Params *p);

/* Who chooses: fills *out (the default when it comes in) for a group. */
typedef struct ParamsChooser {
  void (*choose)(void *ctx, const Group *g, const Target *t, Params *out);
  void *ctx;
} ParamsChooser;

#endif
