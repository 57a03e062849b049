/* Kernel IR as CUDA C: one half warp a group, a thread a lane; 8 items of one group share a block of 128 threads, an
 * item of several groups is a block.
 *
 * How to compile and launch is said in codegen.h.  The two halves of a warp go different ways, so every shuffle and
 * barrier names only its own half.
 *
 * Values with one reader are written into its expression.  Loads, and what exchanges lanes, get statements of their own:
 * their place matters. */
#include <math.h>
#include <string.h>

#include "codegen/codegen.h"
#include "codegen/kir/build.h"

enum { MAX_NESTING = 4, MAX_SCAN = 64 };

typedef struct Cuda {
  const Kernel *k;
  Buffer *out;
  int *uses;              /* by id; negative: not printed */
  int *label;             /* by id: v<label> */
  int *nesting;           /* by id: 0 for a statement, else how deep in its reader's expression */
  const KInst **reader;   /* by id, of values read once; then the statement it is printed in */
  int n_label;
} Cuda;

/* Guarded, so that the texts of several kernels make one program. */
static const char prelude[] =
    "#ifndef NUWA_KERNELS\n"
    "#define NUWA_KERNELS\n"
    "typedef long long i64;\n"
    "template <class T> static __device__ __forceinline__ T min_of(T x, T y) { return y < x || y != y ? y : x; }\n"
    "template <class T> static __device__ __forceinline__ T max_of(T x, T y) { return x < y || y != y ? y : x; }\n"
    "template <class T> static __device__ __forceinline__ T abs_of(T x) { return x < 0 ? -x : x; }\n"
    "template <class T> static __device__ __forceinline__ T floor_div(T x, T y) { return x / y - (x % y < 0); }\n"
    "template <class T> static __device__ __forceinline__ T floor_mod(T x, T y) { return x % y + (x % y < 0 ? y : 0); }\n"
    "static __device__ __forceinline__ float from_bf16(unsigned short x) { return __uint_as_float((unsigned)x << 16); }\n"
    "static __device__ __forceinline__ unsigned short to_bf16(float x) {\n"
    "  unsigned u = __float_as_uint(x);\n"
    "  if ((u & 0x7fffffffu) > 0x7f800000u) return (unsigned short)(u >> 16 | 0x40);\n"
    "  if ((u & 0x7f800000u) == 0) return (unsigned short)(u >> 16 & 0x8000);\n"
    "  return (unsigned short)((u + 0x7fffu + (u >> 16 & 1)) >> 16);\n"
    "}\n"
    "static __device__ __forceinline__ float round_bf16(float x) { return from_bf16(to_bf16(x)); }\n"
    "static __device__ __forceinline__ unsigned short rounded_bf16(float x) { return __float_as_uint(x) >> 16; }\n"
    "static __device__ __forceinline__ float4 load4(const float *p) { return *(const float4 *)p; }\n"
    "static __device__ __forceinline__ float4 load4(const unsigned short *p) {\n"
    "  ushort4 x = *(const ushort4 *)p;\n"
    "  return make_float4(from_bf16(x.x), from_bf16(x.y), from_bf16(x.z), from_bf16(x.w));\n"
    "}\n"
    "static __device__ __forceinline__ void store4(float *p, float x, float y, float z, float w) {\n"
    "  *(float4 *)p = make_float4(x, y, z, w);\n"
    "}\n"
    "static __device__ __forceinline__ void store4(unsigned short *p, float x, float y, float z, float w) {\n"
    "  *(ushort4 *)p = make_ushort4(to_bf16(x), to_bf16(y), to_bf16(z), to_bf16(w));\n"
    "}\n"
    "/* The fixed tree: lane i meets lane i^8, then i^4, i^2, i^1; the lower lane is the left operand. */\n"
    "static __device__ __forceinline__ float tree_add(unsigned half, float x) {\n"
    "  for (int d = 8; d; d >>= 1) x = x + __shfl_xor_sync(half, x, d, 16);\n"
    "  return x;\n"
    "}\n"
    "template <class T> static __device__ __forceinline__ T tree_max(unsigned half, T x) {\n"
    "  for (int d = 8; d; d >>= 1) {\n"
    "    T y = __shfl_xor_sync(half, x, d, 16);\n"
    "    x = threadIdx.x & d ? max_of(y, x) : max_of(x, y);\n"
    "  }\n"
    "  return x;\n"
    "}\n"
    "template <class T> static __device__ __forceinline__ T tree_min(unsigned half, T x) {\n"
    "  for (int d = 8; d; d >>= 1) {\n"
    "    T y = __shfl_xor_sync(half, x, d, 16);\n"
    "    x = threadIdx.x & d ? min_of(y, x) : min_of(x, y);\n"
    "  }\n"
    "  return x;\n"
    "}\n"
    "template <class T> static __device__ __forceinline__ T low_of(unsigned half, T x, T y, int d) {\n"
    "  T z = __shfl_xor_sync(half, y, d, 16);\n"
    "  return threadIdx.x & d ? z : x;\n"
    "}\n"
    "template <class T> static __device__ __forceinline__ T high_of(unsigned half, T x, T y, int d) {\n"
    "  T z = __shfl_xor_sync(half, x, d, 16);\n"
    "  return threadIdx.x & d ? y : z;\n"
    "}\n"
    "/* Asynchronous copies from global to shared memory: zeros where there is nothing to be read. */\n"
    "#if __CUDA_ARCH__ >= 800\n"
    "static __device__ __forceinline__ unsigned shared_address(const void *p) {\n"
    "  return (unsigned)__cvta_generic_to_shared(p);\n"
    "}\n"
    "template <int BYTES> static __device__ __forceinline__ void copy(void *to, const void *from, bool there) {\n"
    "  asm volatile(\"cp.async.ca.shared.global [%0], [%1], %2, %3;\" ::\"r\"(shared_address(to)), \"l\"(from),\n"
    "               \"n\"(BYTES), \"r\"(there ? BYTES : 0) : \"memory\");\n"
    "}\n"
    "template <> __device__ __forceinline__ void copy<16>(void *to, const void *from, bool there) {\n"
    "  asm volatile(\"cp.async.cg.shared.global [%0], [%1], 16, %2;\" ::\"r\"(shared_address(to)), \"l\"(from),\n"
    "               \"r\"(there ? 16 : 0) : \"memory\");\n"
    "}\n"
    "static __device__ __forceinline__ void commit() { asm volatile(\"cp.async.commit_group;\" ::: \"memory\"); }\n"
    "template <int N> static __device__ __forceinline__ void wait() {\n"
    "  asm volatile(\"cp.async.wait_group %0;\" ::\"n\"(N) : \"memory\");\n"
    "}\n"
    "/* 16 x 16 elements, x by k, as four 8 x 8: low and high x of low k, then of high k.  A thread gives the address of a\n"
    "   line of 8. */\n"
    "static __device__ __forceinline__ uint4 tile_xk(const unsigned short *p, int stride) {\n"
    "  int t = threadIdx.x & 31;\n"
    "  uint4 r;\n"
    "  asm volatile(\"ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\" : \"=r\"(r.x), \"=r\"(r.y),\n"
    "               \"=r\"(r.z), \"=r\"(r.w) : \"r\"(shared_address(p + (t & 15) * stride + (t >> 4) * 8)) : \"memory\");\n"
    "  return r;\n"
    "}\n"
    "static __device__ __forceinline__ uint4 tile_kx(const unsigned short *p, int stride) {\n"
    "  int t = threadIdx.x & 31, line = (t >> 4) * 8 + (t & 7);\n"
    "  uint4 r;\n"
    "  asm volatile(\"ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\" : \"=r\"(r.x), \"=r\"(r.y),\n"
    "               \"=r\"(r.z), \"=r\"(r.w) : \"r\"(shared_address(p + line * stride + (t & 8))) : \"memory\");\n"
    "  return r;\n"
    "}\n"
    "/* b: low and high k of 8 columns. */\n"
    "static __device__ __forceinline__ float4 mma(uint4 a, unsigned b0, unsigned b1, float x, float y, float z, float w) {\n"
    "  asm volatile(\"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, \"\n"
    "               \"{%0, %1, %2, %3};\" : \"+f\"(x), \"+f\"(y), \"+f\"(z), \"+f\"(w)\n"
    "               : \"r\"(a.x), \"r\"(a.y), \"r\"(a.z), \"r\"(a.w), \"r\"(b0), \"r\"(b1));\n"
    "  return make_float4(x, y, z, w);\n"
    "}\n"
    "#endif\n"
    "#endif\n\n";

/* ---- which values become part of an expression ---- */

static void find_readers(Cuda *c, const KBlock *b) {
  for (const KInst *i = b->first; i; i = i->next) {
    if (c->uses[i->id] < 0) continue;
    for (int j = 0; j < i->n_in; j++)
      if (i->in[j]) c->reader[i->in[j]->id] = i;
    if (i->body) find_readers(c, i->body);
    if (i->other) find_readers(c, i->other);
  }
}

/* Nothing between the get and the statement changes the variable. */
static bool get_can_move(const KInst *get, const KInst *statement) {
  int n = 0;
  for (const KInst *i = get->next; i && n < MAX_SCAN; i = i->next, n++) {
    if (i == statement) return true;
    if (i->op == KOP_FOR || i->op == KOP_IF || (i->op == KOP_SET && i->in[0] == get->in[0])) return false;
  }
  return false;
}

static bool exchanges_lanes(KOp op) { return op >= KOP_TREE_ADD && op <= KOP_LANE_GET; }

static bool can_inline(const Cuda *c, const KInst *i) {
  const KInst *r = c->reader[i->id];
  bool moves = (kop_info[i->op].pure || i->op == KOP_GET) && !exchanges_lanes(i->op);
  if (!moves || c->uses[i->id] != 1 || r->block != i->block || r->op == KOP_FOR) return false;
  if (c->nesting[r->id] == MAX_NESTING) return false;
  return i->op != KOP_GET || get_can_move(i, c->nesting[r->id] ? c->reader[r->id] : r);
}

static void list_block(const KBlock *b, const KInst **by_id) {
  for (const KInst *i = b->first; i; i = i->next) {
    by_id[i->id] = i;
    if (i->body) list_block(i->body, by_id);
    if (i->other) list_block(i->other, by_id);
  }
}

/* Readers come after what they read and are decided first. */
static void choose_inline(Cuda *c, const KInst *const *by_id) {
  for (int id = c->k->n_inst - 1; id >= 0; id--) {
    const KInst *i = by_id[id];
    if (!i || c->uses[id] < 0 || !can_inline(c, i)) continue;
    const KInst *r = c->reader[id];
    c->nesting[id] = c->nesting[r->id] + 1;
    if (c->nesting[r->id]) c->reader[id] = c->reader[r->id];
  }
}

/* A loop from or up to an i32 value counts in int: half the registers, and half the instructions of its own. */
static bool counts_in_i32(const KInst *loop) {
  const KInst *from = loop->in[0], *to = loop->in[1];
  bool fits = from->lo >= INT32_MIN && to->lo >= INT32_MIN && to->hi <= INT32_MAX - loop->in[2]->imm + 1;
  return fits && (from->op == KOP_TO_I64 || to->op == KOP_TO_I64);
}

/* ---- expressions ---- */

static void expr(Cuda *c, const KInst *i, bool top);

static void print_name(Buffer *out, const char *name) {
  for (const char *s = name; *s; s++) {
    bool letter = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9');
    buffer_append(out, letter ? s : "_", 1);
  }
}

/* The number keeps buffers apart from each other, from values and from keywords. */
static void print_buf(Cuda *c, int64_t buf) {
  const char *name = c->k->buf[buf].name;
  if (*name >= '0' && *name <= '9') buffer_printf(c->out, "b");
  print_name(c->out, name);
  buffer_printf(c->out, "_%d", (int)buf);
}

static void print_float(Buffer *out, float x) {
  char text[32];
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  snprintf(text, sizeof text, "%.9g", (double)x);
  if (!isfinite(x)) buffer_printf(out, "__int_as_float(0x%08x)", bits);
  else buffer_printf(out, "%s%sf", text, strpbrk(text, ".e") ? "" : ".0");
}

static void print_const(Buffer *out, const KInst *i, bool top) {
  bool negative = i->type == K_F32 ? signbit(i->fimm) && isfinite(i->fimm) : i->imm < 0 && i->imm != INT32_MIN;
  if (negative && !top) buffer_printf(out, "(");
  if (i->type == K_F32) print_float(out, i->fimm);
  else if (i->type == K_BOOL) buffer_printf(out, "%s", i->imm ? "true" : "false");
  else if (i->type == K_I32 && i->imm == INT32_MIN) buffer_printf(out, "(-2147483647 - 1)");
  else buffer_printf(out, "%lld%s", (long long)i->imm, i->type == K_I64 ? "ll" : "");
  if (negative && !top) buffer_printf(out, ")");
}

static const char *binary_sign(const KInst *i) {
  switch (i->op) {
  case KOP_ADD: return "+";
  case KOP_SUB: return "-";
  case KOP_MUL: return "*";
  case KOP_DIV: return i->type != K_F32 && i->in[0]->lo >= 0 ? "/" : NULL;
  case KOP_MOD: return i->in[0]->lo >= 0 ? "%" : NULL;
  case KOP_AND: return "&";
  case KOP_OR: return "|";
  case KOP_XOR: return "^";
  case KOP_SHR: return ">>";
  case KOP_LT: return "<";
  case KOP_LE: return "<=";
  case KOP_EQ: return "==";
  default: return NULL;
  }
}

/* f(x, y, z), the half warp's mask first where lanes are exchanged. */
static const char *function_name(const KInst *i) {
  bool is_float = i->in[0]->type == K_F32;
  switch (i->op) {
  case KOP_DIV: return is_float ? "__fdiv_rn" : "floor_div";
  case KOP_MOD: return "floor_mod";
  case KOP_MIN: return "min_of";
  case KOP_MAX: return "max_of";
  case KOP_ABS: return is_float ? "fabsf" : "abs_of";
  case KOP_SQRT: return "__fsqrt_rn";
  case KOP_FLOOR: return "floorf";
  case KOP_RINT: return "rintf";
  case KOP_ROUND: return "round_bf16";
  case KOP_FMA: return "__fmaf_rn";
  case KOP_TO_F32: return "(float)";
  case KOP_TO_I32: return "(int)";
  case KOP_TO_I64: return "(i64)";
  case KOP_BITS_I32: return "__float_as_int";
  case KOP_BITS_F32: return "__int_as_float";
  case KOP_NEG: return "-";
  case KOP_NOT: return i->type == K_BOOL ? "!" : "~";
  case KOP_TREE_ADD: return "tree_add";
  case KOP_TREE_MAX: return "tree_max";
  case KOP_TREE_MIN: return "tree_min";
  case KOP_LOW: return "low_of";
  case KOP_HIGH: return "high_of";
  case KOP_LANE_GET: return "__shfl_sync";
  case KOP_MUL_HIGH: return "(int)__umulhi";
  default: BUG("%s has no CUDA form", kop_info[i->op].text);
  }
}

static bool is_prefix(KOp op) {
  return op == KOP_NEG || op == KOP_NOT || op == KOP_TO_F32 || op == KOP_TO_I32 || op == KOP_TO_I64;
}

static void print_call(Cuda *c, const KInst *i) {
  if (is_prefix(i->op)) {
    buffer_printf(c->out, "%s", function_name(i));
    expr(c, i->in[0], false);
    return;
  }
  buffer_printf(c->out, "%s%s(", i->op == KOP_LANE_GET && i->type == K_BOOL ? "0 != " : "", function_name(i));
  if (exchanges_lanes(i->op)) buffer_printf(c->out, "half, ");
  for (int j = 0; j < i->n_in; j++) {
    if (j) buffer_printf(c->out, ", ");
    expr(c, i->in[j], true);
  }
  buffer_printf(c->out, i->op == KOP_LANE_GET ? ", 16)" : ")");
}

/* i32 arithmetic that may wrap goes through unsigned, where wrapping is defined. */
static void print_wrapping(Cuda *c, const KInst *i) {
  const char *sign = i->op == KOP_SHL ? "<<" : binary_sign(i);
  buffer_printf(c->out, "(int)(");
  if (i->op == KOP_NEG) buffer_printf(c->out, "0u - ");
  buffer_printf(c->out, "(unsigned)");
  expr(c, i->in[0], false);
  if (i->op != KOP_NEG) {
    buffer_printf(c->out, i->op == KOP_SHL ? " %s " : " %s (unsigned)", sign);
    expr(c, i->in[1], false);
  }
  buffer_printf(c->out, ")");
}

static bool may_wrap(const KInst *i) {
  if (i->type != K_I32) return false;
  bool arith = i->op == KOP_ADD || i->op == KOP_SUB || i->op == KOP_MUL || i->op == KOP_NEG;
  return i->op == KOP_SHL || (arith && i->lo == INT64_MIN);
}

static void print_operation(Cuda *c, const KInst *i, bool top) {
  const char *sign = i->n_in == 2 ? binary_sign(i) : NULL;
  if (i->op == KOP_PART) {
    expr(c, i->in[0], false);
    buffer_printf(c->out, ".%c", "xyzw"[i->imm]);
  } else if (may_wrap(i)) {
    print_wrapping(c, i);
  } else if (i->op == KOP_SELECT) {
    if (!top) buffer_printf(c->out, "(");
    expr(c, i->in[0], false);
    buffer_printf(c->out, " ? ");
    expr(c, i->in[1], false);
    buffer_printf(c->out, " : ");
    expr(c, i->in[2], false);
    if (!top) buffer_printf(c->out, ")");
  } else if (sign) {
    if (!top) buffer_printf(c->out, "(");
    expr(c, i->in[0], false);
    buffer_printf(c->out, " %s ", sign);
    expr(c, i->in[1], false);
    if (!top) buffer_printf(c->out, ")");
  } else {
    print_call(c, i);
  }
}

static void expr(Cuda *c, const KInst *i, bool top) {
  switch (i->op) {
  case KOP_CONST: print_const(c->out, i, top); return;
  case KOP_ITEM: buffer_printf(c->out, "item"); return;
  case KOP_LANE: buffer_printf(c->out, "lane"); return;
  case KOP_GROUP: buffer_printf(c->out, "group"); return;
  case KOP_SIZE: buffer_printf(c->out, i->imm ? "R" : "B"); return;
  default: break;
  }
  if (i->op == KOP_FOR && counts_in_i32(i)) buffer_printf(c->out, "(i64)v%d", c->label[i->id]);
  else if (!c->nesting[i->id]) buffer_printf(c->out, "v%d", c->label[i->id]);
  else if (i->op == KOP_GET) buffer_printf(c->out, "v%d", c->label[i->in[0]->id]);
  else print_operation(c, i, top);
}

/* ---- statements ---- */

static void print_block(Cuda *c, const KBlock *b, int depth);

static const char *c_type(KType t) {
  static const char *const names[] = {"bool", "int", "i64", "float", "float4", "uint4"};
  return names[t];
}

static const char *c_memory_type(DType t) {
  switch (t) {
  case DTYPE_F32: return "float";
  case DTYPE_BF16: return "unsigned short";
  case DTYPE_I32: return "int";
  default: return "unsigned char";
  }
}

static void print_element(Cuda *c, int64_t buf, const KInst *base, const KInst *lane_offset) {
  print_buf(c, buf);
  buffer_printf(c->out, "[");
  expr(c, base, !lane_offset);
  if (lane_offset) {
    buffer_printf(c->out, " + ");
    expr(c, lane_offset, false);
  }
  buffer_printf(c->out, "]");
}

static void print_place(Cuda *c, const KInst *i) { print_element(c, i->imm, i->in[0], i->in[1]); }

static void print_load(Cuda *c, const KInst *i) {
  bool bf16 = c->k->buf[i->imm].dtype == DTYPE_BF16, quad = i->op == KOP_LOAD4;
  if (i->in[2]) {
    expr(c, i->in[2], false);
    buffer_printf(c->out, " ? ");
  }
  buffer_printf(c->out, quad ? "load4(&" : bf16 ? "from_bf16(" : "");
  print_place(c, i);
  buffer_printf(c->out, bf16 || quad ? ")" : "");
  if (!i->in[2]) return;
  if (quad) buffer_printf(c->out, " : make_float4(0.0f, 0.0f, 0.0f, 0.0f)");
  else buffer_printf(c->out, i->type == K_F32 ? " : 0.0f" : " : 0");
}

/* A uniform store is lane 0's. */
static void print_store(Cuda *c, const KInst *i) {
  const char *and = "";
  if (i->in[2] || !i->in[1]) buffer_printf(c->out, "if (");
  if (!i->in[1]) buffer_printf(c->out, "lane == 0"), and = " && ";
  if (i->in[2]) {
    buffer_printf(c->out, "%s", and);
    expr(c, i->in[2], !*and);
  }
  if (i->in[2] || !i->in[1]) buffer_printf(c->out, ") ");
  DType t = c->k->buf[i->imm].dtype;
  bool quad = i->op == KOP_STORE4;
  const char *convert = t == DTYPE_BF16 ? i->in[3]->op == KOP_ROUND ? "rounded_bf16(" : "to_bf16("
                        : t == DTYPE_U8 ? "(unsigned char)("
                                        : "";
  if (quad) buffer_printf(c->out, "store4(&");
  print_place(c, i);
  buffer_printf(c->out, quad ? ", " : " = %s", convert);
  for (int j = 3; j < i->n_in; j++) {
    if (j > 3) buffer_printf(c->out, ", ");
    expr(c, i->in[j], true);
  }
  buffer_printf(c->out, quad || *convert ? ");\n" : ";\n");
}

static void print_tile(Cuda *c, const KInst *i) {
  buffer_printf(c->out, "tile_%s(&", i->layout == LAYOUT_XK ? "xk" : "kx");
  print_place(c, i);
  buffer_printf(c->out, ", %d)", i->stride);
}

static void print_mma(Cuda *c, const KInst *i) {
  int b = c->label[i->in[1]->id];
  buffer_printf(c->out, "mma(v%d, v%d.%c, v%d.%c", c->label[i->in[0]->id], b, "xy"[i->imm], b, "zw"[i->imm]);
  for (int j = 2; j < i->n_in; j++) {
    buffer_printf(c->out, ", ");
    expr(c, i->in[j], true);
  }
  buffer_printf(c->out, ")");
}

static void print_copy(Cuda *c, const KInst *i) {
  buffer_printf(c->out, "copy<%d>(&", i->count * (int)dtype_bytes(c->k->buf[i->imm].dtype));
  print_place(c, i);
  buffer_printf(c->out, ", &");
  print_element(c, i->from, i->in[3], i->in[4]);
  buffer_printf(c->out, ", ");
  if (i->in[2]) expr(c, i->in[2], true);
  else buffer_printf(c->out, "true");
  buffer_printf(c->out, ");\n");
}

static void print_for(Cuda *c, const KInst *i, int depth) {
  int v = c->label[i->id] = c->n_label++;
  const char *type = counts_in_i32(i) ? "int" : "i64";
  if (i->imm > 0) buffer_printf(c->out, "#pragma unroll %lld\n%*s", (long long)i->imm, 2 * depth, "");
  buffer_printf(c->out, "for (%s v%d = (%s)", type, v, type);
  expr(c, i->in[0], false);
  buffer_printf(c->out, "; v%d < (%s)", v, type);
  expr(c, i->in[1], false);
  buffer_printf(c->out, "; v%d += %lld) {\n", v, (long long)i->in[2]->imm);
  print_block(c, i->body, depth + 1);
  buffer_printf(c->out, "%*s}\n", 2 * depth, "");
}

static void print_if(Cuda *c, const KInst *i, int depth) {
  buffer_printf(c->out, "if (");
  expr(c, i->in[0], true);
  buffer_printf(c->out, ") {\n");
  print_block(c, i->body, depth + 1);
  if (i->other) {
    buffer_printf(c->out, "%*s} else {\n", 2 * depth, "");
    print_block(c, i->other, depth + 1);
  }
  buffer_printf(c->out, "%*s}\n", 2 * depth, "");
}

static void print_definition(Cuda *c, const KInst *i) {
  c->label[i->id] = c->n_label++;
  buffer_printf(c->out, "%s%s v%d = ", i->op == KOP_VAR ? "" : "const ", c_type(i->type), c->label[i->id]);
  if (i->op == KOP_LOAD || i->op == KOP_LOAD4) print_load(c, i);
  else if (i->op == KOP_TILE) print_tile(c, i);
  else if (i->op == KOP_MMA) print_mma(c, i);
  else if (i->op == KOP_VAR) expr(c, i->in[0], true);
  else if (i->op == KOP_GET) buffer_printf(c->out, "v%d", c->label[i->in[0]->id]);
  else print_operation(c, i, true);
  buffer_printf(c->out, ";\n");
}

static void print_statement(Cuda *c, const KInst *i, int depth) {
  buffer_printf(c->out, "%*s", 2 * depth, "");
  switch (i->op) {
  case KOP_FOR: print_for(c, i, depth); break;
  case KOP_IF: print_if(c, i, depth); break;
  case KOP_STORE: case KOP_STORE4: print_store(c, i); break;
  case KOP_COPY: print_copy(c, i); break;
  case KOP_COMMIT: buffer_printf(c->out, "commit();\n"); break;
  case KOP_WAIT: buffer_printf(c->out, "wait<%lld>();\n", (long long)i->imm); break;
  case KOP_BARRIER: buffer_printf(c->out, "__syncthreads();\n"); break;
  case KOP_SYNC: buffer_printf(c->out, "__syncwarp(half);\n"); break;
  case KOP_SET:
    buffer_printf(c->out, "v%d = ", c->label[i->in[0]->id]);
    expr(c, i->in[1], true);
    buffer_printf(c->out, ";\n");
    break;
  default: print_definition(c, i);
  }
}

static void print_block(Cuda *c, const KBlock *b, int depth) {
  for (const KInst *i = b->first; i; i = i->next) {
    bool named = i->op == KOP_CONST || i->op == KOP_ITEM || i->op == KOP_LANE || i->op == KOP_SIZE ||
                 i->op == KOP_GROUP;
    if (!named && c->uses[i->id] >= 0 && !c->nesting[i->id]) print_statement(c, i, depth);
  }
}

/* ---- the kernel ---- */

/* Tables hold bits, which say infinities and NaN too. */
static void print_table(Cuda *c, int buf) {
  const KBuf *b = &c->k->buf[buf];
  size_t bytes = dtype_bytes(b->dtype);
  const char *word = bytes == 4 ? "unsigned" : bytes == 2 ? "unsigned short" : "unsigned char";
  buffer_printf(c->out, "static __device__ const %s %s_bits_%d[%lld] = {", word, c->k->name, buf, (long long)b->elems);
  for (int64_t i = 0; i < b->elems; i++) {
    uint32_t bits = 0;
    memcpy(&bits, (const char *)b->data + (size_t)i * bytes, bytes);
    buffer_printf(c->out, "%s0x%x", i == 0 ? "" : i % 12 ? ", " : ",\n    ", bits);
  }
  buffer_printf(c->out, "};\n\n");
}

static void print_signature(Cuda *c) {
  buffer_printf(c->out, "extern \"C\" __global__ void __launch_bounds__(%d", cuda_shape(c->k).threads);
  if (c->k->resident) buffer_printf(c->out, ", %d", c->k->resident);
  buffer_printf(c->out, ") %s(", c->k->name);
  for (int i = 0; i < c->k->n_args; i++) {
    const KBuf *b = &c->k->buf[i];
    buffer_printf(c->out, "%s%s *%s", b->written ? "" : "const ", c_memory_type(b->dtype),
                  b->restrict_ ? "__restrict__ " : "");
    print_buf(c, i);
    buffer_printf(c->out, ", ");
  }
  buffer_printf(c->out, "i64 B, i64 R, i64 items) {\n");
}

static void print_locals(Cuda *c) {
  const Kernel *k = c->k;
  int64_t bytes = kir_scratch_bytes(k);
  buffer_printf(c->out, "  const int lane = threadIdx.x & 15, group = threadIdx.x >> 4;\n"
                        "  const unsigned half = 0xffffu << (threadIdx.x & 16);\n"
                        "  const i64 item = ");
  if (k->groups > 1) buffer_printf(c->out, "blockIdx.x;\n");
  else buffer_printf(c->out, "(i64)blockIdx.x * %d + group;\n", CUDA_ITEMS);
  if (bytes) buffer_printf(c->out, "  extern __shared__ __align__(64) unsigned char shared[];\n");
  for (int i = k->n_args; i < k->n_buf; i++) {
    const KBuf *b = &k->buf[i];
    const char *type = c_memory_type(b->dtype);
    bool table = b->space == SPACE_TABLE;
    buffer_printf(c->out, "  %s%s *const ", table ? "const " : "", type);
    print_buf(c, i);
    if (table) {
      buffer_printf(c->out, " = (const %s *)%s_bits_%d;\n", type, k->name, i);
    } else {
      buffer_printf(c->out, " = (%s *)(shared + ", type);
      if (k->groups == 1) buffer_printf(c->out, "group * %lld + ", (long long)bytes);
      buffer_printf(c->out, "%lld);\n", (long long)kir_scratch_offset(k, i));
    }
  }
}

static void print_kernel(Cuda *c) {
  for (int i = 0; i < c->k->n_buf; i++)
    if (c->k->buf[i].space == SPACE_TABLE) print_table(c, i);
  print_signature(c);
  print_locals(c);
  buffer_printf(c->out, "  if (item < items) {\n");
  print_block(c, c->k->body, 2);
  buffer_printf(c->out, "  }\n}\n");
}

CudaShape cuda_shape(const Kernel *k) {
  int items = k->groups > 1 ? 1 : CUDA_ITEMS;
  return (CudaShape){items, items * k->groups * LANES, items * kir_scratch_bytes(k)};
}

void cuda_print(const Kernel *k, Buffer *out) {
  buffer_append(out, prelude, sizeof prelude - 1);
  cuda_print_entry(k, out);
}

void cuda_print_entry(const Kernel *k, Buffer *out) {
  size_t n = (size_t)k->n_inst;
  Cuda c = {.k = k, .out = out, .uses = kir_count_uses(k)};
  c.label = mem_alloc(n * sizeof *c.label);
  c.nesting = mem_alloc(n * sizeof *c.nesting);
  c.reader = mem_alloc(n * sizeof *c.reader);
  const KInst **by_id = mem_alloc(n * sizeof *by_id);
  if (c.uses && c.label && c.nesting && c.reader && by_id) {
    find_readers(&c, k->body);
    list_block(k->body, by_id);
    choose_inline(&c, by_id);
    print_kernel(&c);
  } else {
    out->failed = true;
  }
  mem_free(c.uses);
  mem_free(c.label);
  mem_free(c.nesting);
  mem_free(c.reader);
  mem_free(by_id);
}
