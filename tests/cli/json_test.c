/* Texts as JSON: what comes from a command line or a model may be any bytes, JSON is UTF-8. */
#include "cli/cli.h"
#include "tests/test.h"

static void expect_json(const char *text, const char *want) {
  Buffer out = {0};
  cli_print_json(&out, text);
  EXPECT(out.len == strlen(want) && memcmp(out.data, want, out.len) == 0, "%.*s, not %s", (int)out.len, out.data,
         want);
  buffer_done(&out);
}

TEST("quotes, backslashes and control characters are escaped") {
  expect_json("", "\"\"");
  expect_json("a \"b\" \\ \n\x01", "\"a \\\"b\\\" \\\\ \\u000a\\u0001\"");
}

TEST("UTF-8 stays as it is") {
  expect_json("\xc3\xa9 \xe6\x97\xa5 \xf0\x9f\x90\xbc", "\"\xc3\xa9 \xe6\x97\xa5 \xf0\x9f\x90\xbc\"");
}

TEST("bytes that are no UTF-8 become replacement characters") {
  expect_json("caf\xe9", "\"caf\\ufffd\"");
  expect_json("\xe6\x97", "\"\\ufffd\\ufffd\"");
  expect_json("\xc0\xaf", "\"\\ufffd\\ufffd\"");
  expect_json("\xed\xa0\x80!", "\"\\ufffd\\ufffd\\ufffd!\"");
  expect_json("\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
}

TEST_MAIN()
