/* A test program is a list of sentences.
 *
 *   #include "tests/test.h"
 *   TEST("adding zero changes nothing") { EXPECT(x + 0 == x, "x is %d", x); }
 *   TEST_MAIN()
 *
 * Tests run in the order of the file; one failure fails the program and names its sentence.  EXPECT goes on,
 * REQUIRE leaves the test.  SKIP("why") is visible in the output.  `program word` runs the sentences holding word.
 * LONG_TEST is a campaign of hundreds of runs and more: `program long` runs these, and nothing else does.  WIDE_TEST
 * runs in both; test_is_long then tells it to take every case instead of a sample. */
#ifndef NUWA_TEST_H
#define NUWA_TEST_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct TestCase {
  const char *sentence;
  void (*run)(void);
  bool is_short, is_long;
  struct TestCase *next;
} TestCase;

static TestCase *test_first, **test_last = &test_first;
static int test_failures, test_skips;
static bool test_is_long;
static const char *test_current;

static inline void test_add(TestCase *t) {
  *test_last = t;
  test_last = &t->next;
}

#define TEST_CAT_(a, b) a##b
#define TEST_CAT(a, b) TEST_CAT_(a, b)
#define TEST(text) TEST_(text, true, false)
#define LONG_TEST(text) TEST_(text, false, true)
#define WIDE_TEST(text) TEST_(text, true, true)
#define TEST_(text, is_short, is_long)                                                                 \
  static void TEST_CAT(test_run_, __LINE__)(void);                                                     \
  __attribute__((constructor)) static void TEST_CAT(test_register_, __LINE__)(void) {                  \
    static TestCase t = {text, TEST_CAT(test_run_, __LINE__), is_short, is_long, 0};                   \
    test_add(&t);                                                                                      \
  }                                                                                                    \
  static void TEST_CAT(test_run_, __LINE__)(void)

#define TEST_FAIL_(...)                                                                                \
  (test_failures++, fprintf(stderr, "%s:%d: in \"%s\": ", __FILE__, __LINE__, test_current),           \
   fprintf(stderr, __VA_ARGS__), fputc('\n', stderr))
#define EXPECT(condition, ...) ((condition) ? (void)0 : (void)TEST_FAIL_(#condition ": " __VA_ARGS__))
#define REQUIRE(condition, ...)                                                                        \
  do {                                                                                                 \
    if (!(condition)) {                                                                                \
      TEST_FAIL_(#condition ": " __VA_ARGS__);                                                         \
      return;                                                                                          \
    }                                                                                                  \
  } while (0)
#define EXPECT_TEXT(got, want)                                                                         \
  (strcmp((got), (want)) == 0 ? (void)0 : (void)TEST_FAIL_("got:\n%s\nwant:\n%s", (got), (want)))
#define EXPECT_HAS(text, part)                                                                         \
  (strstr((text), (part)) ? (void)0 : (void)TEST_FAIL_("no \"%s\" in:\n%s", (part), (text)))
#define SKIP(...)                                                                                      \
  do {                                                                                                 \
    test_skips++;                                                                                      \
    printf("skipped: %s: ", test_current);                                                             \
    printf(__VA_ARGS__);                                                                               \
    putchar('\n');                                                                                     \
    return;                                                                                            \
  } while (0)

#define TEST_MAIN()                                                                                    \
  int main(int argc, char **argv) {                                                                    \
    int n = 0;                                                                                         \
    test_is_long = argc > 1 && !strcmp(argv[1], "long");                                               \
    const char *word = argc > 1 && !test_is_long ? argv[1] : "";                                       \
    for (TestCase *t = test_first; t; t = t->next) {                                                   \
      if (!(test_is_long ? t->is_long : t->is_short) || !strstr(t->sentence, word)) continue;          \
      test_current = t->sentence;                                                                      \
      t->run();                                                                                        \
      n++;                                                                                             \
    }                                                                                                  \
    printf("%d sentences, %d failures, %d skipped\n", n, test_failures, test_skips);                   \
    return test_failures || n == 0;                                                                    \
  }

#endif
