/* What is in the key of compiled code: everything that shaped it. */
#include "codegen/emit/build_id.h"
#include "codegen/emit/images.h"
#include "tests/test.h"

static Kernel *kernel_of(Arena *a, int unroll) {
  Kernel *k = kir_new(a, "k");
  int y = kir_arg(k, "y", DTYPE_F32, true);
  KInst *i = kir_for(k, kir_i64(k, 0), kir_i64(k, 9), 1, unroll);
  kir_store(k, y, i, NULL, kir_f32(k, 1), NULL);
  kir_end(k);
  return k;
}

TEST("the key names the generator, LLVM's exact build, its passes and options, the target with its features") {
  Arena *a = arena_new();
  ImageOptions o = {.target = target_of(ISA_AVX2)};
  Buffer build = {0};
  const char *key = images_key(a, &o, kernel_of(a, 0), 0);
  build_id_print((const void *)(uintptr_t)llvm_key, &build);   /* this program's, which links LLVM's library */
  EXPECT_HAS(key, arena_printf(a, "generator %s\n", codegen_revision));
  EXPECT_HAS(key, "\nllvm 19.");
  EXPECT_HAS(key, "\npasses function(mem2reg,");
  EXPECT_HAS(key, "\nlevel ");
  EXPECT_HAS(key, "\ntarget avx2 x86_64-unknown-linux-gnu x86-64 +sse4.2,+avx,+fma,+avx2,+fast-gather vectors 16 x 256 fma 1\n");
  EXPECT_HAS(key, "\nkernel k\n");
  EXPECT(!strstr(key, "unknown\n") && !strstr(key, build.data), "LLVM is not this program:\n%s", key);
  buffer_done(&build);
  arena_free(a);
}

TEST("another target, another hint for a loop, another kernel make another key") {
  Arena *a = arena_new();
  ImageOptions avx2 = {.target = target_of(ISA_AVX2)}, avx512 = {.target = target_of(ISA_AVX512)}, slow = avx2;
  slow.target.has_fma = false;
  const char *key[] = {images_key(a, &avx2, kernel_of(a, 0), 0), images_key(a, &avx2, kernel_of(a, 1), 0),
                       images_key(a, &avx512, kernel_of(a, 0), 0), images_key(a, &slow, kernel_of(a, 0), 0)};
  for (int i = 0; i < COUNT_OF(key); i++)
    for (int j = 0; j < i; j++) EXPECT(strcmp(key[i], key[j]) != 0, "%d and %d", i, j);
  EXPECT_TEXT(images_key(a, &avx2, kernel_of(a, 0), 0), key[0]);
  arena_free(a);
}

TEST("the generator's revision is a digest") {
  EXPECT(strlen(codegen_revision) == 32 && strspn(codegen_revision, "0123456789abcdef") == 32, "%s", codegen_revision);
}

TEST("the build of a library is not that of another") {
  Buffer own = {0}, libc = {0};
  build_id_print((const void *)(uintptr_t)build_id_print, &own);
  build_id_print(stdout, &libc);   /* data of libc */
  EXPECT(own.data && libc.data && strcmp(own.data, libc.data) != 0, "%s", own.data);
  buffer_done(&own);
  buffer_done(&libc);
}

TEST_MAIN()
