#include "runtime/base/error.h"

#include "tests/test.h"

TEST("an error holds a code and a text, and setting it returns false") {
  Error err = {0};
  bool result = error_set(&err, ERROR_IO, "cannot open %s: %d", "x", 7);
  EXPECT(!result, "false");
  EXPECT(err.code == ERROR_IO, "%d", err.code);
  EXPECT_TEXT(err.text, "cannot open x: 7");
}

TEST("a prefix goes in front and keeps the code") {
  Error err = {0};
  error_set(&err, ERROR_FORMAT, "truncated");
  bool result = error_prefix(&err, "%s", "a.bundle");
  EXPECT(!result, "false");
  EXPECT_TEXT(err.text, "a.bundle: truncated");
  EXPECT(err.code == ERROR_FORMAT, "%d", err.code);
}

TEST("a text may be made from the text it replaces") {
  Error err = {0};
  error_set(&err, ERROR_IO, "inner");
  error_set(&err, ERROR_MODEL, "outer (%s)", err.text);
  EXPECT_TEXT(err.text, "outer (inner)");
  error_prefix(&err, "%s", err.text);
  EXPECT_TEXT(err.text, "outer (inner): outer (inner)");
}

TEST("overlong texts are cut") {
  Error err = {0};
  char text[4000];
  memset(text, 'a', sizeof text);
  text[sizeof text - 1] = 0;
  error_set(&err, ERROR_IO, "%s", text);
  EXPECT(strlen(err.text) == sizeof err.text - 1, "%zu", strlen(err.text));
  error_prefix(&err, "%s", "before");
  EXPECT(strlen(err.text) == sizeof err.text - 1 && !strncmp(err.text, "before: aaa", 11), "%.20s", err.text);
  error_prefix(&err, "%s", text);
  EXPECT(strlen(err.text) == sizeof err.text - 1 && err.text[0] == 'a', "%.20s", err.text);
}

TEST_MAIN()
