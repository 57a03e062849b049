#include "runtime/cpu/loader.h"

#include <elf.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/file.h"
#include "runtime/base/hooks.h"
#include "tests/test.h"

/* Objects come from gcc at test time; it is not needed to build with clang, so it may be absent. */
typedef struct Bytes {
  char *data;
  size_t n;
} Bytes;

static const char flags_hidden[] = "-O2 -fPIC -fvisibility=hidden -fcf-protection=none";

static bool compile_with(const char *command, const char *source, Bytes *out) {
  char folder[] = "/tmp/nuwa-loader-XXXXXX", path[64], object[64], text[600];
  Error err = {0};
  if (!mkdtemp(folder)) return false;
  snprintf(path, sizeof path, "%s/a.c", folder);
  snprintf(object, sizeof object, "%s/a.o", folder);
  snprintf(text, sizeof text, "%s -c %s -o %s >/dev/null 2>&1", command, path, object);
  bool ok = file_write_all(path, source, strlen(source), &err) && system(text) == 0;
  out->data = ok ? file_read(object, &out->n, &err) : NULL;
  unlink(path);
  unlink(object);
  rmdir(folder);
  return out->data != NULL;
}

static bool compile(const char *flags, const char *source, Bytes *out) {
  char command[300];
#if defined(__x86_64__)
  snprintf(command, sizeof command, "gcc %s", flags);
#else
  snprintf(command, sizeof command, "gcc -O2 -fPIC -fvisibility=hidden");
#endif
  return compile_with(command, source, out);
}

#define COMPILE(flags, source, out)                                                                                \
  if (!compile(flags, source, out)) SKIP("no gcc here that makes objects")

static const char program[] =
    "static const int squares[] = {0, 1, 4, 9, 16, 25};\n"
    "static int calls, large[100000];\n"
    "int start = 40;\n"
    "static int one(int x) { return x + 1; }\n"
    "static int two(int x) { return x * 2; }\n"
    "static int (*const table[])(int) = {one, two};\n"
    "static int (*volatile variable)(int) = two;\n"
    "__attribute__((noinline)) int count(void) { return ++calls; }\n"
    "int apply(int f, int x) { return table[f](x) + squares[x] + variable(0); }\n"
    "int next(void) { large[99999] += count(); return start + large[99999]; }\n"
    "double half(double x) { return x * 0.5; }\n"
    "const char *say(int i) {\n"
    "  switch (i) { case 0: return \"zero\"; case 1: return \"one\"; case 2: return \"two\";\n"
    "  case 3: return \"three\"; case 4: return \"four\"; }\n"
    "  return \"many\";\n"
    "}\n";

/* ISO C has no cast from an object pointer to a function pointer; POSIX has. */
#define FUNCTION(type, o, name) ((type)(uintptr_t)object_symbol(o, name))

TEST("an object's functions run: constants, variables, tables of functions, strings") {
  Bytes b;
  Error err = {0};
  COMPILE(flags_hidden, program, &b);
  Object *o = object_load(b.data, b.n, &err);
  mem_free(b.data);
  REQUIRE(o, "%s", err.text);
  int (*apply)(int, int) = FUNCTION(int (*)(int, int), o, "apply");
  int (*next)(void) = FUNCTION(int (*)(void), o, "next");
  double (*half)(double) = FUNCTION(double (*)(double), o, "half");
  const char *(*say)(int) = FUNCTION(const char *(*)(int), o, "say");
  int *start = object_symbol(o, "start");
  REQUIRE(apply && next && half && say && start, "a symbol is missing");
  EXPECT(apply(0, 3) == 13 && apply(1, 5) == 35, "%d %d", apply(0, 3), apply(1, 5));
  EXPECT(next() == 41 && next() == 43, "variables start from their values and keep them");
  *start = 100;
  EXPECT(next() == 106, "a variable is the one that code sees");
  EXPECT(half(3) == 1.5, "%g", half(3));
  EXPECT_TEXT(say(3), "three");
  EXPECT_TEXT(say(9), "many");
  EXPECT(!object_symbol(o, "one") && !object_symbol(o, "") && !object_symbol(o, "zzz"), "only global symbols");
  object_free(o);
}

TEST("two loads of one object share nothing") {
  Bytes b;
  Error err = {0};
  COMPILE(flags_hidden, program, &b);
  Object *x = object_load(b.data, b.n, &err), *y = object_load(b.data, b.n, &err);
  mem_free(b.data);
  REQUIRE(x && y, "%s", err.text);
  EXPECT(FUNCTION(int (*)(void), x, "count")() == 1 && FUNCTION(int (*)(void), x, "count")() == 2, "x");
  EXPECT(FUNCTION(int (*)(void), y, "count")() == 1, "y");
  object_free(x);
  object_free(y);
}

/* The protection of the page at p, as in /proc/self/maps. */
static void page_mode(const void *p, char mode[5]) {
  char line[600];
  unsigned long long begin, end;
  FILE *f = fopen("/proc/self/maps", "r");
  strcpy(mode, "none");
  while (f && fgets(line, sizeof line, f)) {
    char m[5];
    if (sscanf(line, "%llx-%llx %4s", &begin, &end, m) == 3 && (uintptr_t)p >= begin && (uintptr_t)p < end)
      memcpy(mode, m, 5);
  }
  if (f) fclose(f);
}

TEST("code is executable and not writable, variables are writable and not executable") {
  Bytes b;
  Error err = {0};
  char mode[5];
  COMPILE(flags_hidden, "int variable = 1; const int constant[4] = {1, 2}; int f(void) { return variable; }", &b);
  Object *o = object_load(b.data, b.n, &err);
  mem_free(b.data);
  REQUIRE(o, "%s", err.text);
  page_mode(object_symbol(o, "f"), mode);
  EXPECT_TEXT(mode, "r-xp");
  page_mode(object_symbol(o, "constant"), mode);
  EXPECT_TEXT(mode, "r--p");
  page_mode(object_symbol(o, "variable"), mode);
  EXPECT_TEXT(mode, "rw-p");
  object_free(o);
}

TEST("an object may be empty") {
  Bytes b;
  Error err = {0};
  COMPILE(flags_hidden, "typedef int nothing;", &b);
  Object *o = object_load(b.data, b.n, &err);
  REQUIRE(o, "%s", err.text);
  EXPECT(!object_symbol(o, "main"), "no symbol");
  object_free(o);
  mem_free(b.data);
}

static void expect_refused(Bytes b, const char *part) {
  Error err = {0};
  Object *o = object_load(b.data, b.n, &err);
  EXPECT(!o, "should say: %s", part);
  object_free(o);
  EXPECT_HAS(err.text, part);
}

TEST("an undefined symbol is refused by its name") {
  Bytes b;
  COMPILE(flags_hidden, "int nowhere(int); int f(void) { return nowhere(1) + 1; }", &b);
  expect_refused(b, "symbol 'nowhere' is undefined");
  mem_free(b.data);
}

TEST("an object for another machine is refused with both names") {
  Bytes b;
  COMPILE(flags_hidden, program, &b);
  Elf64_Ehdr h;
  memcpy(&h, b.data, sizeof h);
#if defined(__x86_64__)
  h.e_machine = EM_AARCH64;
  memcpy(b.data, &h, sizeof h);
  expect_refused(b, "it is for aarch64 (ELF machine 183), this machine is x86-64");
#else
  h.e_machine = EM_X86_64;
  memcpy(b.data, &h, sizeof h);
  expect_refused(b, "it is for x86-64 (ELF machine 62), this machine is aarch64");
#endif
  h.e_machine = EM_RISCV;
  memcpy(b.data, &h, sizeof h);
  expect_refused(b, "it is for another machine (ELF machine 243)");
  mem_free(b.data);
}

TEST("constructors, thread-local variables and common symbols are refused") {
  Bytes b;
  COMPILE(flags_hidden, "__attribute__((constructor)) void f(void) { __asm__ volatile(\"\"); }", &b);
  expect_refused(b, "constructors");
  mem_free(b.data);
  COMPILE(flags_hidden, "static __thread int t; int f(void) { return ++t; }", &b);
  expect_refused(b, "thread-local");
  mem_free(b.data);
  COMPILE("-fcommon", "int common; int f(void) { return common; }", &b);
#if defined(__x86_64__)
  expect_refused(b, "symbol 'common' lies in no section");
#endif
  mem_free(b.data);
}

TEST("an address that does not fit 32 bits is refused") {
#if defined(__x86_64__)
  Bytes b;
  COMPILE("-O2", "__asm__(\".globl f\\nf: movl $f, %eax\\nret\");", &b);
  expect_refused(b, "R_X86_64_32");
  mem_free(b.data);
  COMPILE("-O2", "__asm__(\".globl f\\nf: movq $f, %rax\\nret\");", &b);
  expect_refused(b, "is out of reach");
  mem_free(b.data);
#else
  SKIP("aarch64 has no such relocations");
#endif
}

TEST("what is not an object is refused") {
  char text[] = "this is text, and longer than the header of an ELF file has to be to be one";
  expect_refused((Bytes){text, 0}, "not an ELF file");
  expect_refused((Bytes){text, sizeof text}, "not an ELF file");
  size_t n;
  Error err = {0};
  char *own = file_read("/proc/self/exe", &n, &err);
  REQUIRE(own, "%s", err.text);
  expect_refused((Bytes){own, n}, "is not a relocatable object");
  mem_free(own);
}

/* A copy of exactly n bytes, so that a sanitizer sees every read beyond. */
static Object *load_copy(const char *data, size_t n, Error *err) {
  char *copy = malloc(n ? n : 1);
  if (n) memcpy(copy, data, n);
  Object *o = object_load(copy, n, err);
  free(copy);
  return o;
}

TEST("a truncated object is refused, wherever it ends") {
  Bytes b;
  COMPILE(flags_hidden, program, &b);
  for (size_t n = 0; n < b.n; n += n % 64 ? 1 : 7) {
    Error err = {0};
    Object *o = load_copy(b.data, n, &err);
    EXPECT(!o && err.code == ERROR_FORMAT && err.text[0], "%zu of %zu bytes", n, b.n);
    object_free(o);
  }
  mem_free(b.data);
}

TEST("damaged bytes never crash the loader") {
  static const uint8_t values[] = {0x00, 0x01, 0x7F, 0x80, 0xFF};
  Bytes b;
  int refused = 0, loaded = 0;
  COMPILE(flags_hidden, program, &b);
  for (size_t at = 0; at < b.n; at++)
    for (size_t v = 0; v <= sizeof values; v++) {
      char before = b.data[at];
      Error err = {0};
      b.data[at] = (char)(v < sizeof values ? values[v] : (uint8_t)before ^ (1u << at % 8));
      Object *o = load_copy(b.data, b.n, &err);
      if (o) loaded++;
      else refused++, EXPECT(err.code != ERROR_NONE && err.text[0], "no reason at byte %zu", at);
      object_free(o);
      b.data[at] = before;
    }
  EXPECT(refused > 1000 && loaded > 1000, "%d refused, %d loaded", refused, loaded);
  mem_free(b.data);
}

TEST("fields of every header set to extremes never crash the loader") {
  static const uint64_t values[] = {0,          1,         7,          0xFFFF,           0x7FFFFFFF,
                                    0xFFFFFFFF, INT64_MAX, UINT64_MAX, UINT64_MAX - 4095};
  Bytes b;
  Elf64_Ehdr h;
  COMPILE(flags_hidden, program, &b);
  memcpy(&h, b.data, sizeof h);
  for (size_t at = h.e_shoff; at + 8 <= h.e_shoff + (size_t)h.e_shnum * h.e_shentsize; at += 4)
    for (size_t v = 0; v < sizeof values / sizeof values[0]; v++)
      for (size_t width = 4; width <= 8; width += 4) {
        char before[8];
        Error err = {0};
        memcpy(before, b.data + at, 8);
        memcpy(b.data + at, &values[v], width);
        object_free(load_copy(b.data, b.n, &err));
        memcpy(b.data + at, before, 8);
      }
  Error err = {0};
  Object *o = load_copy(b.data, b.n, &err);
  EXPECT(o, "undamaged again: %s", err.text);
  object_free(o);
  mem_free(b.data);
}

TEST("every failed allocation is reported and leaves nothing") {
  Bytes b;
  COMPILE(flags_hidden, program, &b);
  int failures = 0;
  for (;; failures++) {
    Error err = {0};
    mem_fail_at((uint64_t)failures + 1);
    Object *o = object_load(b.data, b.n, &err);
    mem_fail_at(0);
    object_free(o);
    if (o) break;
    EXPECT(err.code == ERROR_MEMORY, "%s", err.text);
  }
  EXPECT(failures >= 3, "%d", failures);
  mem_free(b.data);
}

TEST_MAIN()
