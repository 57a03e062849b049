/* Seeded bugs in hand-written PTX: each is caught, and its correct twin passes.  Needs no NVRTC; what a compiler
 * makes of such bugs in CUDA C is emu_faults_test.c's and emu_kernels_test.c's. */
#include "tests/gpu/emu_test.h"

enum { THREADS = 64, DYNAMIC = 1024 };

/* A kernel of two arrays; %r1 is the thread, %rd3 and %rd4 are its element of `in` and `out`; s is static shared
 * memory, %r2 the thread's word of it, d what the launch brings. */
#define KERNEL(body)                                                                                   \
  ".version 8.0\n.target sm_80\n.address_size 64\n.extern .shared .align 16 .b8 d[];\n"                \
  ".visible .entry k(.param .u64 k_param_0, .param .u64 k_param_1)\n{\n"                               \
  ".reg .b64 %rd<10>;\n.reg .b32 %r<30>;\n.reg .f32 %f<30>;\n.reg .pred %p<4>;\n"                      \
  ".shared .align 16 .b8 s[2048];\n"                                                                   \
  "ld.param.u64 %rd1, [k_param_0];\nld.param.u64 %rd2, [k_param_1];\nmov.u32 %r1, %tid.x;\n"           \
  "mad.wide.u32 %rd3, %r1, 4, %rd1;\nmad.wide.u32 %rd4, %r1, 4, %rd2;\n"                               \
  "mov.u32 %r3, s;\nmad.lo.u32 %r2, %r1, 4, %r3;\nmov.u32 %r4, d;\n" body "ret;\n}\n"

static float in[256], out[256];

/* Runs the kernel with in[i] = i + 1; the result is in `out` when 0 is returned. */
static CUresult run(const char *ptx, unsigned threads) {
  for (int i = 0; i < 256; i++) in[i] = (float)(i + 1);
  device_fresh();
  CUfunction f = kernel_of_ptx(ptx, "k");
  if (!f) return -1;
  CUdeviceptr a = device_array(in, sizeof in), b = device_array(NULL, sizeof out);
  cuMemsetD32_v2(b, 0, 256);
  CUresult code = launch(f, 1, threads, DYNAMIC, (void *[]){&a, &b});
  return code ? code : cuMemcpyDtoH_v2(out, b, sizeof out);
}

#define EXPECT_CAUGHT(ptx, threads, code, text)                                                        \
  do {                                                                                                 \
    CUresult got_ = run(ptx, threads);                                                                 \
    EXPECT(got_ == (code), "code %d: %s", got_, emu_last_error());                                     \
    EXPECT_HAS(emu_last_error(), text);                                                                \
  } while (0)
#define EXPECT_PASSES(ptx, threads)                                                                    \
  do {                                                                                                 \
    CUresult got_ = run(ptx, threads);                                                                 \
    EXPECT(got_ == 0, "%s", emu_last_error());                                                         \
  } while (0)
#define EXPECT_REFUSED(ptx, text)                                                                      \
  do {                                                                                                 \
    CUresult got_ = run(ptx, 32);                                                                      \
    EXPECT(got_ == -1, "it loaded");                                                                   \
    EXPECT_HAS(emu_last_error(), text);                                                                \
  } while (0)

#define REVERSE(barrier)                                                                               \
  KERNEL("ld.global.f32 %f1, [%rd3];\nst.shared.f32 [%r2], %f1;\n" barrier                             \
         "sub.s32 %r5, 63, %r1;\nmad.lo.u32 %r6, %r5, 4, %r3;\nld.shared.f32 %f2, [%r6];\n"            \
         "st.global.f32 [%rd4], %f2;\n")

TEST("a dropped barrier") {
  EXPECT_CAUGHT(REVERSE(""), THREADS, 719, "read of shared memory never written");
  EXPECT_CAUGHT(REVERSE(""), 32, 719, "read of shared memory never written");
  EXPECT_CAUGHT(REVERSE("bar.warp.sync -1;\n"), THREADS, 719, "read of shared memory never written");
  EXPECT_CAUGHT(REVERSE("bar.sync 0;\nst.shared.f32 [%r2], 0f00000000;\n"), THREADS, 719, "was read by thread");
  EXPECT_PASSES(REVERSE("bar.sync 0;\n"), THREADS);
  EXPECT(out[0] == 64 && out[63] == 1, "%g %g", out[0], out[63]);
}

TEST("a barrier for fewer threads than there are, or for a part of a warp") {
  EXPECT_PASSES(REVERSE("bar.sync 3, 64;\n"), THREADS);
  EXPECT_CAUGHT(REVERSE("bar.sync 3, 32;\n"), THREADS, 719, "read of shared memory never written");
  EXPECT_CAUGHT(REVERSE("bar.sync 3, 96;\n"), THREADS, 719, "deadlock: barrier 3 waits for 96 threads, 64 have come");
  EXPECT_CAUGHT(REVERSE("bar.sync 3, 40;\n"), THREADS, 719, "not a number of whole warps");
}

/* Warp 0 writes and goes on, warp 1 waits for it and reads.  `after`: what warp 0 does behind its barrier. */
#define HAND_OVER(first, second, after)                                                                \
  KERNEL("setp.ge.u32 %p1, %r1, 32;\n@%p1 bra READ;\n"                                                 \
         "ld.global.f32 %f1, [%rd3];\nst.shared.f32 [%r2], %f1;\n" first after "ret;\n"                \
         "READ:\n" second "ld.shared.f32 %f2, [%r2+-128];\nst.global.f32 [%rd4], %f2;\n")

TEST("warps hand over through barriers of their own, and only what they waited for") {
  EXPECT_PASSES(HAND_OVER("bar.arrive 1, 64;\n", "bar.sync 1, 64;\n", ""), THREADS);
  EXPECT(out[32] == 1 && out[63] == 32, "%g %g", out[32], out[63]);
  EXPECT_CAUGHT(HAND_OVER("bar.arrive 1, 64;\n", "bar.sync 2, 64;\n", ""), THREADS, 719, "deadlock: ");
  EXPECT_CAUGHT(HAND_OVER("bar.arrive 1, 64;\n", "bar.sync 1, 64;\n", "st.shared.f32 [%r2], %f1;\n"), THREADS, 719,
                "was written by thread");
  EXPECT_CAUGHT(HAND_OVER("", "bar.sync 1, 32;\n", ""), THREADS, 719, "was written by thread");
}

#define NEIGHBOUR(last)                                                                                \
  KERNEL("setp.lt.u32 %p1, %r1, " last ";\n@!%p1 bra END;\n"                                           \
         "ld.global.f32 %f1, [%rd3+4];\nst.global.f32 [%rd4], %f1;\nEND:\n")

TEST("a bound that is one too large") {
  EXPECT_CAUGHT(NEIGHBOUR("256"), 256, 700, "offset 1024 of the 1024 bytes");
  EXPECT_PASSES(NEIGHBOUR("255"), 256);
  EXPECT(out[254] == 256 && out[255] == 0, "%g %g", out[254], out[255]);
}

/* Two groups of copies; the thread reads its word of the one that `at` names. */
#define COPIES(wait, at)                                                                               \
  KERNEL("cp.async.ca.shared.global [%r2], [%rd3], 4;\ncp.async.commit_group;\n"                       \
         "cp.async.ca.shared.global [%r2+1024], [%rd3+256], 4;\ncp.async.commit_group;\n" wait         \
         "ld.shared.f32 %f1, [%r2+" at "];\nst.global.f32 [%rd4], %f1;\n")

TEST("a wait that leaves one group of copies too many open") {
  EXPECT_PASSES(COPIES("cp.async.wait_group 1;\n", "0"), THREADS);
  EXPECT(out[5] == 6, "%g", out[5]);
  EXPECT_PASSES(COPIES("cp.async.wait_group 0;\n", "1024"), THREADS);
  EXPECT(out[5] == 70, "%g", out[5]);
  EXPECT_PASSES(COPIES("cp.async.wait_all;\n", "1024"), THREADS);
  EXPECT_CAUGHT(COPIES("cp.async.wait_group 1;\n", "1024"), THREADS, 719, "has not been waited for");
  EXPECT_CAUGHT(COPIES("cp.async.wait_group 2;\n", "0"), THREADS, 719, "has not been waited for");
  EXPECT_CAUGHT(COPIES("", "0"), THREADS, 719, "has not been waited for");
}

#define COPY_16(form, from, bytes, read)                                                               \
  KERNEL("mad.lo.u32 %r5, %r1, 16, %r3;\nmad.wide.u32 %rd5, %r1, 16, %rd1;\n"                          \
         "cp.async." form ".shared.global [%r5], [%rd5+" from "], " bytes ";\n"                        \
         "cp.async.wait_all;\n" read "st.global.f32 [%rd4], %f1;\n")

TEST("copies of 4, 8 and 16 bytes, with zeros where the source is short; misaligned and unordered ones") {
  EXPECT_PASSES(COPY_16("cg", "0", "16", "ld.shared.f32 %f1, [%r5+12];\n"), 32);
  EXPECT(out[1] == 8, "%g", out[1]);
  EXPECT_PASSES(
      COPY_16("cg", "0", "16, 8", "ld.shared.v4.f32 {%f3, %f1, %f2, %f4}, [%r5];\nadd.f32 %f1, %f1, %f4;\n"), 32);
  EXPECT(out[1] == 6, "%g", out[1]);
  EXPECT_PASSES(COPY_16("ca", "8", "8", "ld.shared.f32 %f1, [%r5+4];\n"), 32);
  EXPECT(out[1] == 8, "%g", out[1]);
  EXPECT_CAUGHT(COPY_16("ca", "0", "8", "ld.shared.f32 %f1, [%r5+8];\n"), 32, 719, "never written");
  EXPECT_CAUGHT(COPY_16("cg", "8", "16", "ld.shared.f32 %f1, [%r5];\n"), 32, 716, "misaligned");
  EXPECT_CAUGHT(COPY_16("cg", "0", "8", "ld.shared.f32 %f1, [%r5];\n"), 32, 719, "only 16 can be copied");
  EXPECT_CAUGHT(COPY_16("cg", "0", "16", "xor.b32 %r5, %r5, 16;\nld.shared.f32 %f1, [%r5];\n"), 32, 719, "race");
}

#define SHUFFLE(before)                                                                                \
  KERNEL("ld.global.f32 %f1, [%rd3];\nmov.b32 %r5, %f1;\nand.b32 %r6, %r1, 1;\nsetp.eq.s32 %p1, %r6, 0;\n" \
         "mov.b32 %r7, %r5;\n" before "shfl.sync.bfly.b32 %r7, %r5, 1, 31, -1;\n"                      \
         "END:\nmov.b32 %f2, %r7;\nst.global.f32 [%rd4], %f2;\n")

TEST("a shuffle that half of its lanes branch around") {
  EXPECT_CAUGHT(SHUFFLE("@%p1 bra END;\n"), 32, 719, "of the member mask 0xffffffff are not here");
  EXPECT_PASSES(SHUFFLE(""), 32);
  EXPECT(out[0] == 2 && out[1] == 1, "%g %g", out[0], out[1]);
}

#define VECTOR(scale, base)                                                                            \
  KERNEL("mad.wide.u32 %rd5, %r1, " scale ", %rd1;\nld.global.nc.v4.f32 {%f1, %f2, %f3, %f4}, [%rd5+" base "];\n" \
         "mad.lo.u32 %r5, %r1, 16, %r3;\nst.shared.v4.f32 [%r5], {%f1, %f2, %f3, %f4};\n"              \
         "ld.shared.v4.u32 {%r6, %r7, %r8, %r9}, [%r5];\nmov.b32 %f5, %r9;\nst.global.f32 [%rd4], %f5;\n")

TEST("an access of 128 bits at an address that is no multiple of 16") {
  EXPECT_PASSES(VECTOR("16", "0"), 32);
  EXPECT(out[3] == 16, "%g", out[3]);
  EXPECT_CAUGHT(VECTOR("16", "8"), 32, 716, "an access of 16 bytes needs a multiple of 16");
  EXPECT_CAUGHT(VECTOR("12", "0"), 32, 716, "an access of 16 bytes needs a multiple of 16");
}

#define DYNAMIC_WORD(scale)                                                                            \
  KERNEL("mad.lo.u32 %r5, %r1, " scale ", %r4;\nst.shared.f32 [%r5], 0f3f800000;\n"                    \
         "ld.shared.f32 %f1, [%r5];\nst.global.f32 [%rd4], %f1;\n")

TEST("shared memory beyond what the launch brings") {
  EXPECT_PASSES(DYNAMIC_WORD("16"), THREADS);
  EXPECT_CAUGHT(DYNAMIC_WORD("20"), THREADS, 700, "offset 3088 of 3072 bytes of shared memory");
}

#define UNWRITTEN(count)                                                                               \
  KERNEL("setp.lt.u32 %p1, %r1, " count ";\n@%p1 st.shared.f32 [%r2], 0f3f800000;\nbar.sync 0;\n"      \
         "ld.shared.f32 %f1, [%r2];\nst.global.f32 [%rd4], %f1;\n")

TEST("a read of memory never written") {
  EXPECT_PASSES(UNWRITTEN("64"), THREADS);
  EXPECT_CAUGHT(UNWRITTEN("63"), THREADS, 719, "read of shared memory never written: offset 252");
}

/* Of its four words each thread writes two and the lower half of the third, then reads all. */
#define PARTLY(use)                                                                                    \
  KERNEL("mad.lo.u32 %r5, %r1, 16, %r3;\nld.global.f32 %f1, [%rd3];\nst.shared.v2.f32 [%r5], {%f1, %f1};\n" \
         "mov.b32 %r6, %f1;\nshr.u32 %r6, %r6, 16;\nst.shared.u16 [%r5+8], %r6;\nmov.f32 %f9, 0f3f800000;\n" \
         "ld.shared.v4.b32 {%r10, %r11, %r12, %r13}, [%r5];\nsetp.lt.u32 %p1, %r1, 256;\n" use           \
         "st.global.f32 [%rd4], %f9;\n")
#define UNUSED(use) EXPECT_PASSES(PARTLY(use), 32)
#define USED(offset, use) EXPECT_CAUGHT(PARTLY(use), 32, 719, "shared memory never written: offset " #offset ",")

TEST("what a vector load brings of memory never written may be moved about and dropped") {
  UNUSED("");
  EXPECT(out[3] == 1, "%g", out[3]);
  UNUSED("mov.b32 %f9, %r11;\n");
  UNUSED("mov.b64 %rd5, {%r10, %r13};\nmov.b64 {%r14, %r15}, %rd5;\nmov.b32 %f9, %r14;\n");
  UNUSED("mov.b64 %rd5, {%r13, %r10};\nshr.u64 %rd5, %rd5, 32;\ncvt.u32.u64 %r14, %rd5;\nmov.b32 %f9, %r14;\n");
  UNUSED("shl.b32 %r14, %r12, 16;\nmov.b32 %f9, %r14;\n");
  EXPECT(out[3] == 4, "%g", out[3]);
  UNUSED("and.b32 %r14, %r12, 65535;\nshl.b32 %r14, %r14, 16;\nmov.b32 %f9, %r14;\n");
  UNUSED("prmt.b32 %r14, %r12, %r13, 0x1010;\nmov.b32 %f9, %r14;\n");
  UNUSED("bfe.u32 %r14, %r12, 0, 16;\nmov.b32 %f9, %r14;\n");
  UNUSED("lop3.b32 %r14, %r13, 7, 0, 0x30;\nor.b32 %r14, %r13, -1;\nmov.b32 %f9, %r14;\n");
  UNUSED("selp.b32 %r14, %r10, %r13, %p1;\nmov.b32 %f9, %r14;\n");
  UNUSED("add.s32 %r14, %r13, 1;\nmul.lo.s32 %r15, %r14, %r14;\nsetp.gt.s32 %p2, %r15, 0;\n");
  UNUSED("setp.gt.or.s32 %p2, %r13, 0, %p1;\n@%p2 mov.b32 %f9, %r10;\n");
  UNUSED("mov.b32 %r13, 5;\nadd.s32 %r14, %r13, 1;\nmov.b32 %f9, %r14;\n");
  UNUSED("shfl.sync.bfly.b32 %r14, %r13, 1, 31, -1;\n");
  UNUSED("st.shared.f32 [%r5+12], %f1;\nld.shared.b32 %r13, [%r5+12];\nmov.b32 %f9, %r13;\n");
}

TEST("where it decides something it is caught, with the load and the place") {
  USED(12, "mov.b32 %f9, %r13;\n");
  EXPECT_HAS(emu_last_error(), "by the load of line ");
  EXPECT_HAS(emu_last_error(), "its value is used here; PTX line ");
  EXPECT_HAS(emu_last_error(), "'st.global.f32 [%rd4], %f9'");
  USED(10, "mov.b32 %f9, %r12;\n");
  USED(12, "mov.b64 %rd5, {%r10, %r13};\nmov.b64 {%r14, %r15}, %rd5;\nmov.b32 %f9, %r15;\n");
  USED(10, "shr.u32 %r14, %r12, 1;\nmov.b32 %f9, %r14;\n");
  USED(10, "prmt.b32 %r14, %r12, %r13, 0x1012;\nmov.b32 %f9, %r14;\n");
  USED(10, "cvt.rn.f32.u32 %f9, %r12;\n");
  USED(12, "mov.b32 %f2, %r13;\nfma.rn.f32 %f9, %f2, 0f00000000, %f1;\n");
  USED(12, "and.b32 %r14, %r13, 1;\nmov.b32 %f9, %r14;\n");
  USED(12, "lop3.b32 %r14, %r13, 7, 0, 0xc0;\nmov.b32 %f9, %r14;\n");
  USED(12, "selp.b32 %r14, %r13, %r10, %p1;\nmov.b32 %f9, %r14;\n");
  USED(12, "setp.gt.s32 %p2, %r13, 0;\nselp.f32 %f9, %f1, %f9, %p2;\n");
  USED(12, "setp.gt.s32 %p2, %r13, 0;\n@%p2 bra NEXT;\nNEXT:\n");
  USED(12, "setp.gt.and.s32 %p2, %r13, 0, %p1;\n@%p2 mov.b32 %f9, %r10;\n");
  USED(12, "add.s32 %r14, %r13, %r5;\nld.shared.f32 %f9, [%r14];\n");
  USED(10, "st.shared.v4.b32 [%r5], {%r10, %r11, %r12, %r13};\n");
  USED(28, "shfl.sync.bfly.b32 %r14, %r13, 1, 31, -1;\nmov.b32 %f9, %r14;\n");
  USED(12, "shfl.sync.idx.b32 %r14, %r10, %r13, 31, -1;\n");
  USED(12, "setp.gt.s32 %p2, %r13, 0;\nvote.sync.any.pred %p3, %p2, -1;\n");
  USED(12, "red.shared.add.u32 [%r5], %r13;\n");
  EXPECT_CAUGHT(PARTLY("atom.shared.add.u32 %r14, [%r5+12], 1;\n"), 32, 719, "never written: offset 12");
}

TEST("an unknown element of a matrix makes its row or its column of the product unknown") {
#define UNKNOWN_AT(thread, set, read)                                                                  \
  KERNEL("mov.b32 %r10, 0;\nmov.b32 %r12, 0;\nmov.b32 %r20, 0;\nmov.f32 %f10, 0f3f000000;\n"           \
         "setp.ne.u32 %p1, %r1, " thread ";\n@%p1 bra NEXT;\nld.shared.b32 " set ", [%r3];\nNEXT:\n"     \
         "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f11, %f12, %f13, %f14}, "              \
         "{%r20, %r10, %r10, %r10}, {%r12, %r12}, {%f10, %f10, %f10, %f10};\n"                         \
         "setp.eq.u32 %p2, %r1, " read ";\n@%p2 st.global.f32 [%rd4], %f11;\n@%p2 st.global.f32 [%rd4], %f13;\n")
  EXPECT_PASSES(UNKNOWN_AT("9", "%r20", "4"), 32);
  EXPECT_PASSES(UNKNOWN_AT("9", "%r20", "12"), 32);
  for (int k = 0; k < 2; k++)
    EXPECT_CAUGHT(k ? UNKNOWN_AT("9", "%r20", "8") : UNKNOWN_AT("9", "%r20", "11"), 32, 719,
                  "never written: offset 0, by the load");
  EXPECT_PASSES(UNKNOWN_AT("9", "%r12", "0"), 32);
  EXPECT_CAUGHT(UNKNOWN_AT("9", "%r12", "13"), 32, 719, "never written: offset 0, by the load");
}

/* Small whole numbers as packed bf16: A's rows are 1, 2, .. 16; B's columns 1 .. 8 (as powers of two), C is 0.5. */
#define PRODUCT(a, b, c)                                                                               \
  KERNEL("shr.u32 %r5, %r1, 2;\nadd.s32 %r6, %r5, 1;\nadd.s32 %r7, %r5, 9;\n"                          \
         "cvt.rn.f32.u32 %f1, %r6;\ncvt.rn.f32.u32 %f2, %r7;\nadd.s32 %r8, %r5, 127;\n"                \
         "shl.b32 %r9, %r8, 23;\nmov.b32 %f3, %r9;\n"                                                  \
         "cvt.rn.bf16x2.f32 %r10, %f1, %f1;\ncvt.rn.bf16x2.f32 %r11, %f2, %f2;\n"                      \
         "cvt.rn.bf16x2.f32 %r12, %f3, %f3;\nmov.f32 %f10, 0f3f000000;\n"                              \
         "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f11, %f12, %f13, %f14}, " a ", " b ", " c ";\n" \
         "st.global.f32 [%rd4], %f11;\nst.global.f32 [%rd4+256], %f14;\n")
#define ROWS "{%r10, %r11, %r10, %r11}"
#define COLS "{%r12, %r12}"
#define HALF "{%f10, %f10, %f10, %f10}"

static int wrong_products(void) {
  int wrong = 0;
  for (int l = 0; l < 32; l++) {
    int g = l / 4, n = l % 4 * 2;
    wrong += out[l] != 16.0f * (float)((g + 1) << n) + 0.5f;
    wrong += out[l + 64] != 16.0f * (float)((g + 9) << (n + 1)) + 0.5f;
  }
  return wrong;
}

TEST("a product on tensor cores, with swapped operands, and with operands of other types") {
  EXPECT_PASSES(PRODUCT(ROWS, COLS, HALF), 32);
  EXPECT(wrong_products() == 0, "%d differ, %g", wrong_products(), out[1]);
  EXPECT_PASSES(PRODUCT("{%r11, %r10, %r11, %r10}", COLS, HALF), 32);
  EXPECT(wrong_products() > 0, "swapped rows show nothing");
  EXPECT_PASSES(PRODUCT("{%r12, %r12, %r12, %r12}", "{%r10, %r10}", HALF), 32);
  EXPECT(wrong_products() > 0, "A for B shows nothing");
  EXPECT_REFUSED(PRODUCT(COLS, ROWS, HALF), "this matrix product is not supported");
  EXPECT_REFUSED(PRODUCT(ROWS, COLS, "{%rd5, %rd5, %rd5, %rd5}"),
                 "operand 4 is a register of type .b64 where .f32 is meant");
  EXPECT_REFUSED(PRODUCT("{%f10, %f10, %f10, %f10}", COLS, HALF),
                 "operand 2 is a register of type .f32 where .bf16 is meant");
  EXPECT_CAUGHT(PRODUCT(ROWS, COLS, HALF), 16, 719, "needs the whole warp");
}

TEST("a register of another size than the operation") {
  EXPECT_REFUSED(KERNEL("add.s32 %r5, %r6, %rd5;\n"), "operand 3 is a register of type .b64 where .s32 is meant");
  EXPECT_REFUSED(KERNEL("and.pred %p1, %p2, %r5;\n"), "operand 3 is a register of type .b32 where .pred is meant");
}

/* ---- what an older device lacks ---- */
#define ON(target, body) ".version 8.0\n.target sm_" target "\n.address_size 64\n.visible .entry k()\n{\n" \
                         ".reg .b64 %rd<3>;\n.reg .b32 %r<16>;\n.reg .f32 %f<9>;\n" body "\nret;\n}\n"

static CUresult load(int capability, const char *ptx) {
  CUmodule m;
  device_fresh();
  emu_set_capability(capability);
  return cuModuleLoadData(&m, ptx);
}

TEST("an instruction that a target does not have is refused as the assembler would") {
  static const struct { int needs; const char *old, *new; } cases[] = {
#define CASE(needs, old, new, body) {needs, ON(old, body), ON(new, body)}
      CASE(80, "75", "80", "cp.async.wait_all;"),
      CASE(80, "75", "80", "cvt.rn.bf16x2.f32 %r1, %f1, %f2;"),
      CASE(80, "75", "80", "redux.sync.add.u32 %r1, %r2, -1;"),
      CASE(80, "75", "80", "fma.rn.bf16x2 %r1, %r2, %r3, %r4;"),
      CASE(80, "75", "80", "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1, %f2, %f3, %f4}, "
                           "{%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4};"),
      CASE(90, "80", "90", "add.rn.bf16x2 %r1, %r2, %r3;"),
  };
  char text[64];
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    snprintf(text, sizeof text, "this needs .target sm_%d or higher", cases[k].needs);
    EXPECT(load(90, cases[k].old) == 218, "case %zu loaded", k);
    EXPECT_HAS(emu_last_error(), text);
    EXPECT(load(cases[k].needs, cases[k].new) == 0, "case %zu: %s", k, emu_last_error());
    EXPECT(load(75, cases[k].new) == 218, "case %zu loaded", k);
  }
  CUresult code =
      load(75, ON("75", "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r1, %r2}, {%r3}, "
                           "{%f1, %f2, %f3, %f4};"));
  EXPECT(code == 0, "%s", emu_last_error());
}

TEST("registers, shared memory and threads limit the occupancy") {
  int value, blocks;
  device_fresh();
  CUfunction f = kernel_of_ptx(REVERSE("bar.sync 0;\n"), "k");
  REQUIRE(f, "%s", emu_last_error());
  EXPECT_RUNS(cuFuncGetAttribute(&value, 4, f));
  EXPECT(value >= 16 && value <= 40, "%d registers", value);
  static const struct { int threads, dynamic, blocks; } cases[] = {
      {64, 0, 32}, {1024, 0, 2}, {256, 0, 8}, {64, 30 << 10, 4}, {64, 46 << 10, 3}, {64, 47 << 10, 0}};
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    EXPECT_RUNS(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, cases[k].threads, (size_t)cases[k].dynamic));
    EXPECT(blocks == cases[k].blocks, "case %zu: %d blocks", k, blocks);
  }
}

TEST_MAIN()
