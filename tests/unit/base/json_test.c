/* JSON: what comes from a command line or a model may be any bytes, JSON is UTF-8; flat objects read back. */
#include "runtime/base/json.h"
#include "tests/test.h"

static void expect_json(const char *text, const char *want) {
  Buffer out = {0};
  json_print_text(&out, text);
  EXPECT(out.len == strlen(want) && memcmp(out.data, want, out.len) == 0, "%.*s, not %s", (int)out.len, out.data,
         want);
  buffer_done(&out);
}

TEST("quotes, backslashes and control characters are escaped") {
  expect_json("", "\"\"");
  expect_json("a \"b\" \\ \n\x01", "\"a \\\"b\\\" \\\\ \\n\\u0001\"");
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

TEST("numbers read back as the same double, with as few digits as that takes") {
  static const double x[] = {0.1, 1.0 / 3.0, 1e-3, 0.6, 1e300, -0.0, 5e-324, 1700.0};
  for (int i = 0; i < COUNT_OF(x); i++) {
    Buffer out = {0};
    json_print_real(&out, x[i]);
    EXPECT(strtod(out.data, NULL) == x[i], "%s, not %.17g", out.data, x[i]);
    EXPECT(out.len <= 22, "%s", out.data);
    buffer_done(&out);
  }
}

typedef struct Read {
  Arena *arena;
  const char *text;
  JsonField *field;
  int n;
  Error err;
  bool ok;
} Read;

static void read_body(void *ctx) {
  Read *r = ctx;
  r->ok = json_read_object(r->arena, r->text, &r->field, &r->n, &r->err);
}

static Read read_json(const char *text) {
  Read r = {.arena = arena_new(), .text = text};
  if (!r.arena || !arena_protect(r.arena, read_body, &r, &r.err)) abort();
  return r;
}

TEST("an object's fields read back: strings as their characters, anything else as its text") {
  Read r = read_json(" {\"a\": \"x\\n\\u00e9\\ud83d\\udc3c\", \"b\" : -1.5e3, \"c\": {\"d\": [1, \"}\"]}, \"e\":true } ");
  EXPECT(r.ok && r.n == 4, "%s", r.err.text);
  EXPECT_TEXT(json_find(r.field, r.n, "a")->value, "x\n\xc3\xa9\xf0\x9f\x90\xbc");
  EXPECT_TEXT(json_find(r.field, r.n, "b")->value, "-1.5e3");
  EXPECT_TEXT(json_find(r.field, r.n, "c")->value, "{\"d\": [1, \"}\"]}");
  EXPECT(json_find(r.field, r.n, "a")->is_text && !json_find(r.field, r.n, "e")->is_text, "kinds");
  EXPECT(!json_find(r.field, r.n, "z"), "z");
  arena_free(r.arena);
}

TEST("what is no object is refused with the byte") {
  static const char *const text[] = {"", "[]", "{", "{\"a\"", "{\"a\":}", "{\"a\":1,}", "{\"a\":1 \"b\":2}",
                                     "{\"a\":\"x}", "{\"a\":\"\\u12\"}", "{\"a\":\"\\ud800\"}", "{\"a\":[}]}",
                                     "{\"a\":1} x", "{\"a\":1,\"a\":2}", "{\"a\":\"\xff\"}", "{\"a\":\"\\u0000\"}"};
  for (int i = 0; i < COUNT_OF(text); i++) {
    Read r = read_json(text[i]);
    EXPECT(!r.ok, "it reads %s", text[i]);
    EXPECT_HAS(r.err.text, "JSON, byte");
    arena_free(r.arena);
  }
}

static bool is_told(const char *name) { return strcmp(name, "told") == 0; }

TEST("two objects are compared field by field, also within one, in any order; what is only told is no difference") {
  static const struct {
    const char *theirs, *ours, *within, *name, *has, *wants;
  } cases[] = {
      {"{\"a\": 1, \"told\": 2}", "{\"told\": 3, \"a\": 1}", NULL, NULL, NULL, NULL},
      {"{\"a\": 1}", "{\"a\": 2}", "", "a", "1", "2"},
      {"{\"a\": 1}", "{\"a\": \"1\"}", "", "a", "1", "1"},
      {"{\"a\": 1, \"b\": 2}", "{\"a\": 1}", "", "b", "2", "not set"},
      {"{\"a\": 1}", "{\"a\": 1, \"b\": 2}", "", "b", "not set", "2"},
      {"{\"o\": {\"x\": 1, \"told\": 1}}", "{\"o\": {\"x\": 1, \"told\": 2}}", "o.", "told", "1", "2"},
      {"{\"o\": {\"x\": 1}, \"z\": 1}", "{\"o\": {\"y\": 1}, \"z\": 1}", "o.", "y", "not set", "1"},
      {"{\"o\": {\"p\": {\"x\": 1}}}", "{\"o\": {\"p\": {\"x\": 2}}}", "o.", "p", "{\"x\": 1}", "{\"x\": 2}"},
      {"{\"a\": \"{b\"}", "{\"a\": \"{c\"}", "", "a", "{b", "{c"},
  };
  Arena *a = arena_new();
  for (int i = 0; i < COUNT_OF(cases); i++) {
    JsonDifference d;
    Error err = {0};
    REQUIRE(json_compare(a, cases[i].theirs, cases[i].ours, is_told, &d, &err), "%d: %s", i, err.text);
    EXPECT(!d.name == !cases[i].name, "%d: %s", i, d.name ? d.name : "alike");
    if (!d.name || !cases[i].name) continue;
    EXPECT(strcmp(d.within, cases[i].within) == 0 && strcmp(d.name, cases[i].name) == 0 && strcmp(d.theirs, cases[i].has) == 0 &&
               strcmp(d.ours, cases[i].wants) == 0, "%d: %s%s %s %s", i, d.within, d.name, d.theirs, d.ours);
  }
  JsonDifference d;
  Error err = {0};
  EXPECT(!json_compare(a, "{\"a\": 1}", "[]", NULL, &d, &err) && err.code != ERROR_NONE, "a list");
  arena_free(a);
}

TEST_MAIN()
