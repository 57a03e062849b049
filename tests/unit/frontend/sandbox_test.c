/* What models may not do: every attack ends in a clear error, soon. */
#include "tests/test.h"

#include <sys/stat.h>

#include "tests/unit/frontend/load.h"

/* Instrumented programs are slow, and may reach the limit of time before that of instructions. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool is_slow = true;
#else
static const bool is_slow = false;
#endif

/* Runs `body` before a valid module; expects ERROR_LIMIT within a few seconds.  Where the count of instructions is to
 * end it, the clock gets room: on a loaded machine it would be first. */
static void expect_limit(const char *body, const char *part) {
  double seconds = strcmp(part, "instructions") == 0 ? 40 : 4;
  char text[4000];
  snprintf(text, sizeof text, "%s\nreturn module { f = fn({ x = f32(2) }, function(x) return { y = -x.x } end) }",
           body);
  Error err;
  double start = load_seconds();
  Model *m = load_with(text, (ModelOptions){.limits.seconds = seconds}, &err);
  double took = load_seconds() - start;
  EXPECT(!m, "it loaded: %s", body);
  EXPECT(err.code == ERROR_LIMIT, "code %d: %s\nof %s", err.code, err.text, body);
  EXPECT(took < seconds + 5, "took %.1f s: %s", took, body);
  if (!is_slow || !strstr(err.text, "the model ran for more than")) EXPECT_HAS(err.text, part);
  EXPECT_HAS(err.text, "model.lua:");
  model_free(m);
}

/* Runs `body` and expects true or the like. */
static void expect_true(const char *condition) {
  char text[4000];
  snprintf(text, sizeof text,
           "assert(%s)\nreturn module { f = fn({ x = f32(2) }, function(x) return { y = -x.x } end) }", condition);
  Error err;
  Model *m = load_text(text, &err);
  EXPECT(m, "%s: %s", condition, err.text);
  model_free(m);
}

TEST("an endless loop ends with the line that loops") {
  expect_limit("while true do end", "model.lua:1: the model took more than 10000000 instructions");
}

TEST("an endless loop cannot hide in pcall") {
  expect_limit("while true do pcall(function() while true do end end) end", "instructions");
  expect_limit("pcall(pcall, pcall, function() while true do end end)", "instructions");
  expect_limit("while true do xpcall(function() while true do end end, function() while true do end end) end",
               "endless loop");
  expect_limit("local function f() pcall(f) pcall(f) end f()", "endless loop");
}

TEST("an endless loop cannot hide behind error values and metamethods") {
  expect_limit("error(setmetatable({}, { __tostring = function() while true do end end }))", "instructions");
  expect_limit("local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end }) "
               "while true do pcall(function() return t[1] end) end",
               "instructions");
}

TEST("errors of Lua's own functions name the line and the function") {
  EXPECT_HAS(load_error("\nstring.format('%d', 'x')"),
             "model.lua:2: bad argument #2 to 'string.format' (number expected");
  EXPECT_HAS(load_error("('x'):rep({})"), "model.lua:1: bad argument #1 to 'rep'");
}

TEST("an endless loop at close ends") {
  expect_limit("local x <close> = setmetatable({}, { __close = function() while true do end end })\n"
               "error 'first'",
               "instructions");
  expect_limit("while true do pcall(function()\n"
               "local a <close> = setmetatable({}, { __close = function() while true do end end })\n"
               "local b <close> = setmetatable({}, { __close = function() while true do end end })\n"
               "while true do end end) end",
               "instructions");
  expect_limit("for i in next, {1}, nil, setmetatable({}, { __close = function() while true do end end }) do end",
               "instructions");
}

TEST("finalisers are refused, for hooks do not fire in them") {
  EXPECT_HAS(load_error("setmetatable({}, { __gc = function() while true do end end })"),
             "model.lua:1: models cannot use the metamethod __gc");
  EXPECT_HAS(load_error("setmetatable({}, { __mode = 'k' })"), "__mode");
}

TEST("patterns that backtrack for ever end") {
  const char *calls[] = {"string.find(s, p)", "string.match(s, p)", "s:gsub(p, '')", "for _ in s:gmatch(p) do end"};
  for (int i = 0; i < COUNT_OF(calls); i++) {
    char body[300];
    snprintf(body, sizeof body, "local s, p = ('a'):rep(200000), ('a*'):rep(30) .. 'b'\n%s", calls[i]);
    expect_limit(body, "instructions");
  }
  expect_limit("local s = ('a'):rep(1000000)\nwhile true do pcall(string.find, s, '.-.-.-b') end", "instructions");
  expect_limit("local s = ('('):rep(1000000)\nwhile true do s:find('%b()') end", "instructions");
}

TEST("strings of gigabytes are refused") {
  expect_limit("local s = ('x'):rep(10000000000)", "10000000000 bytes; one value has at most 32 MiB");
  expect_limit("while true do pcall(string.rep, 'x', 1 << 36) end", "68719476736 bytes");
  expect_limit("local s = ('x'):rep(1000):rep(100000)", "256 MiB of memory");
  expect_limit("local s = 'x'\nwhile true do s = s .. s end", "MiB");
  expect_limit("local t, s = {}, ('x'):rep(1000):rep(100)\nfor i = 1, 1e9 do t[i] = s .. i end", "MiB");
  expect_limit(
      "local t, s = {}, ('x'):rep(1000):rep(1000)\nwhile true do pcall(function() t[#t + 1] = s .. #t end) end",
      "limit 256 MiB");
  expect_limit("local s = ('x'):rep(1000):rep(10000)\nwhile true do local t = s .. 'y' end",
               "model ran for more than 4 s");
}

TEST("empty repetitions and great counts do not hang in C") {
  expect_true("(''):rep(1 << 62) == ''");
  expect_true("not pcall(string.rep, 'x', 1 << 62)");
  expect_limit("local t = setmetatable({}, { __index = tostring })\ntable.concat(t, '', 1, 1 << 60)", "i");
  expect_limit(
      "table.move(setmetatable({}, { __index = type }), 1, 1 << 60, 1, setmetatable({}, { __newindex = rawlen }))",
      "instructions");
  expect_limit("table.insert(setmetatable({}, { __len = function() return 1 << 52 end, __index = type }), 1, 2)",
               "i");
  expect_limit("local t = {}\nfor i = 1, 1000000 do t[i] = i end\nwhile true do table.sort(t) end", "i");
  expect_true("not pcall(table.insert, setmetatable({}, { __len = function() return math.maxinteger end }), 1)");
  expect_true("not pcall(table.unpack, {}, 1, 1 << 60)");
  expect_true("not pcall(string.format, '%99999999d', 1)");
}

TEST("deep recursion is an error with a line") {
  EXPECT_HAS(load_error("local function f(n) return 1 + f(n + 1) end\nf(1)"), "model.lua:1: stack overflow");
  EXPECT_HAS(load_error("local function f() pcall(f) error('x') end\nf()"), "model.lua:");
  EXPECT_HAS(load_error("local t = setmetatable({}, { __index = function(t, k) return t[k] end })\nreturn t.x"),
             "overflow");
  EXPECT_HAS(load_error("local s = 'x'\nlocal function f() return (s:gsub('.', f)) end\nf()"), "overflow");
  char text[3000] = "return ";
  for (int i = 0; i < 2000; i++) strcat(text, "(");
  EXPECT_HAS(load_error(text), "model.lua: C stack overflow");
}

TEST("metamethods cannot be made dangerous after they were checked") {
  EXPECT_HAS(load_error("local t = {}\nsetmetatable(t, { __call = t })()"),
             "model.lua:2: the metamethod __call must be a function");
  EXPECT_HAS(load_error("local t, mt = {}, {}\nsetmetatable(t, mt)\nmt.__call = t\nt()"),
             "model.lua:4: attempt to call a table value (local 't')");
  expect_true("(function() local C = {} C.__index = C function C.get() return 3 end local x = setmetatable({}, C) "
              "function C.more() return 4 end return x.get() + x.more() == 7 and getmetatable(x) == C "
              "and getmetatable(setmetatable(x, nil)) == nil end)()");
  expect_true("not pcall(setmetatable, setmetatable({}, { __metatable = 1 }), {})");
  expect_true("setmetatable({}, { __call = function(_, x) return x + 1 end })(2) == 3");
  expect_true("getmetatable(setmetatable(setmetatable({}, {}), { __index = { a = 5 } })).__index.a == 5");
}

TEST("a graph without end is refused") {
  expect_limit("fn({ x = f32(2) }, function(x) local y = x.x while true do y = y + 1 end end)", "i");
}

TEST("xpcall catches its handler's errors too, and gives one value of the handler") {
  expect_true("select('#', xpcall(error, function() error('inner', 0) end, 'outer')) == 2");
  expect_true("select(2, xpcall(error, function() error('inner', 0) end, 'outer')) == 'inner'");
  expect_true("not xpcall(error, function() error() end) and select(2, xpcall(error, function() error() end)) == nil");
  expect_true("type(select(2, xpcall(error, function(e) error({ e }) end, 'x'))) == 'table'");
  expect_true("select('#', xpcall(error, function() return 1, 2, 3 end)) == 2");
  expect_true("select('#', xpcall(error, function() end)) == 2");
  expect_true("select('#', xpcall(function() return 1, nil, 3 end, error)) == 4");
  expect_true("not xpcall(error, function() local function f() return f() + 1 end f() end)");
  expect_limit("xpcall(error, function() while true do end end)", "instructions");
  expect_limit("while true do xpcall(error, function() error() end) end", "endless loop");
  expect_limit("xpcall(error, function() xpcall(error, function() ('x'):rep(1e9) end) end)", "string.rep");
}

TEST("a byte-order mark and a first line for the system are passed over, and lines count as they stand") {
  static const char module[] = "return module { f = fn({ x = f32(2) }, function(x) return { y = -x.x } end) }";
  static const char *const heads[] = {"\xef\xbb\xbf", "#!/usr/bin/env nuwa\n", "\xef\xbb\xbf#!nuwa inspect\r\n", "#\n"};
  for (int i = 0; i < COUNT_OF(heads); i++) {
    char text[300];
    Error err;
    snprintf(text, sizeof text, "%s%s", heads[i], module);
    Model *m = load_text(text, &err);
    EXPECT(m, "head %d: %s", i, err.text);
    model_free(m);
    snprintf(text, sizeof text, "%s\nnothing()", heads[i]);
    EXPECT_HAS(load_error(text), strchr(heads[i], '\n') ? "model.lua:3: " : "model.lua:2: ");
  }
  EXPECT_HAS(load_error("\xef\xbb\xbf\x1bLua"), "compiled Lua is not accepted");
  EXPECT_HAS(load_error("#!only"), "must return module");
  EXPECT_HAS(load_error("\xef\xbb\xbf"), "must return module");
  EXPECT_HAS(load_error("\xef\xbbreturn 1"), "model.lua:1:");
}

TEST("there is nothing to reach outside with") {
  const char *names[] = {"io",   "os",          "debug",       "package",    "coroutine",
                         "load", "loadstring",  "loadfile",    "dofile",     "collectgarbage",
                         "utf8", "string.dump", "math.random", "string.pack"};
  for (int i = 0; i < COUNT_OF(names); i++) {
    char condition[60];
    snprintf(condition, sizeof condition, "%s == nil", names[i]);
    expect_true(condition);
  }
  EXPECT_HAS(load_error("os.execute('true')"), "model.lua:1: attempt to index a nil value (global 'os')");
  EXPECT_HAS(load_error("io.open('/etc/passwd')"), "global 'io'");
}

TEST("compiled Lua is refused") {
  EXPECT_HAS(load_error("\x1bLuaT"), "model.lua: compiled Lua is not accepted, only text");
  EXPECT_HAS(load_error("load(string.dump(function() end))"), "attempt to call a nil value");
}

TEST("require finds only model files beside the model and in the shipped folder") {
  load_write("part.lua", "return { value = 7 }");
  mkdir(load_path("sub"), 0700);
  load_write("sub/part.lua", "return 8");
  expect_true("require('part').value == 7 and require 'sub.part' == 8 and require 'sub/part' == 8");
  expect_true("require('part') == require('part')");
  const char *names[] = {"../part", "..", "/etc/passwd", "sub..part", "sub//part", "", ".", "part/", "a\\0b", "~/x"};
  for (int i = 0; i < COUNT_OF(names); i++) {
    char text[100];
    snprintf(text, sizeof text, "require('%s')", names[i]);
    EXPECT_HAS(load_error(text), "is no name of a model file");
  }
  EXPECT_HAS(load_error("require 'absent'"), "model.lua:1: require: there is no absent.lua beside the model");
  EXPECT(symlink("/etc", load_path("etc")) == 0 && symlink("/tmp", load_path("out")) == 0, "links");
  load_write("../nuwa-lua-outside.lua", "return 1");
  EXPECT_HAS(load_error("require 'out.nuwa-lua-outside'"), "is a link that leads out of its folder");
  unlink(load_path("../nuwa-lua-outside.lua"));
  load_write("again.lua", "return require 'again'");
  EXPECT_HAS(load_error("require 'again'"), "requires itself");
  EXPECT(mkfifo(load_path("pipe.lua"), 0600) == 0, "fifo");
  EXPECT_HAS(load_error("require 'pipe'"), "not a plain file");
  load_write("code.lua", "\x1bLuaS");
  EXPECT_HAS(load_error("require 'code'"), "compiled Lua");
  load_write("wrong.lua", "local = 3");
  EXPECT_HAS(load_error("require 'wrong'"), "wrong.lua:1:");
}

TEST("the shipped folder is searched after the model's own") {
  mkdir(load_path("shipped"), 0700);
  load_write("shipped/base.lua", "return 'shipped'");
  Error err;
  Model *m = load_with("assert(require 'base' == 'shipped')\n"
                       "return module { f = fn({ x = f32(2) }, function(x) return { y = x.x } end) }",
                       (ModelOptions){.models_dir = load_path("shipped")}, &err);
  EXPECT(m, "%s", err.text);
  model_free(m);
}

TEST("a long path is shown whole") {
  char folder[400];
  snprintf(folder, sizeof folder, "%s", load_path("a-folder-with-a-name-that-is-longer-than-what-lua-shows"));
  mkdir(folder, 0700);
  const char *path =
      load_write("a-folder-with-a-name-that-is-longer-than-what-lua-shows/m.lua", "\nlocal x = nil + 1");
  Error err = {0};
  EXPECT(!model_load(path, NULL, &err), "it loaded");
  EXPECT(strncmp(err.text, path, strlen(path)) == 0, "%s", err.text);
  EXPECT_HAS(err.text, "m.lua:2: attempt");
  path = load_write("a-folder-with-a-name-that-is-longer-than-what-lua-shows/m.lua", "\n\nlocal = 1");
  EXPECT(!model_load(path, NULL, &err), "it loaded");
  EXPECT(strncmp(err.text, path, strlen(path)) == 0, "%s", err.text);
}

TEST("nothing shows an address or the order of a hash table") {
  expect_true("tostring({}) == 'table' and tostring(print) == 'function' and ('%s'):format({}) == 'table'");
  expect_true("not pcall(string.format, '%p', {})");
  expect_true("not pcall(pairs, { [{}] = 1 })");
  expect_true(
      "(function() local s = '' for k, v in pairs { c = 1, a = 2, [3] = 1, [1] = 1, b = 3, [2.5] = 0, [true] = 1 } "
      "do s = s .. tostring(k) .. ' ' end return s end)() == '1 2.5 3 a b c true '");
  expect_true("(function() local s, t = '', { x = 1, y = 2, z = 3 } for k in next, t do s = s .. k t[k] = nil end "
              "return s end)() == 'xyz'");
  expect_true("next({}) == nil");
}

TEST("metatables of strings cannot be changed") {
  expect_true("getmetatable('') == false and not pcall(setmetatable, '', {})");
  expect_true("getmetatable(f32(2)) == false and getmetatable(batch) == false");
}

TEST("errors caught and raised again keep their text") {
  expect_true("select(2, pcall(error, 'x', 0)) == 'x'");
  expect_true("select(2, pcall(function() error('x') end)):find('model.lua:1: x$')");
  expect_true("select(2, pcall(error, { code = 5 })).code == 5");
  expect_true("select('#', pcall(function(...) return ... end, 1, nil, nil)) == 4");
  expect_true("select(2, xpcall(error, function(e) return 'handled ' .. e end, 'x', 0)) == 'handled x'");
  expect_true("select(2, xpcall(function(a, b) return a + b end, print, 3, 4)) == 7");
  EXPECT_HAS(load_error("error({})"), "the model raised an error that is no text: table");
  EXPECT_HAS(load_error("error()"), "nil");
}

TEST("patterns mean what the manual says") {
  const char *conditions[] = {
      "('hello world'):find('o w') == 5",
      "select('#', ('hello'):find('l+')) == 2 and select(2, ('hello'):find('l+')) == 4",
      "('hello'):find('xyz') == nil and ('a.b'):find('.', 1, true) == 2 and ('abc'):find('b', -1) == nil",
      "('abc'):find('', 10) == nil and ('abc'):find('', 4) == 4 and ('key = value'):match('^(%w+)%s*=%s*(%w+)$') == "
      "'key'",
      "select(2, ('key = value'):match('^(%w+)%s*=%s*(%w+)$')) == 'value'",
      "('  trim  '):match('^%s*(.-)%s*$') == 'trim' and ('abc'):match('()b()') == 2",
      "select(2, ('abc'):match('()b()')) == 3 and ('f(a(b)c)d'):match('%b()') == '(a(b)c)'",
      "('THE (quick) fox'):find('%f[%a]%a+%f[%A]') == 1 and ('say \"hi\"'):match('([\"\\'])(.-)%1') == '\"'",
      "('[x]'):match('[]x[]+') == '[x]' and ('a-z'):match('[a%-z]+') == 'a-z' and ('2024'):match('^[0-9]+$') == "
      "'2024'",
      "('abc'):match('[^b]+') == 'a' and ('a$'):match('a$') == nil and ('a$'):match('a%$') == 'a$'",
      "('abc'):gsub('', '-') == '-a-b-c-' and ('hello world'):gsub('o', '0') == 'hell0 w0rld'",
      "('hello'):gsub('l', '%0%0', 1) == 'helllo' and ('abc'):gsub('%w', '%%%0') == '%a%b%c'",
      "('$name is $what'):gsub('%$(%w+)', { name = 'Lua' }) == 'Lua is $what'",
      "('abc'):gsub('.', function(c) return c ~= 'b' and c:upper() end) == 'AbC'",
      "select(2, ('abc'):gsub('%w', 'x')) == 3 and ('abc'):gsub('b*', '-') == '-a-c-'",
      "('hello'):gsub('^h', 'j') == 'jello' and ('k=v, a=b'):gsub('(%w)=(%w)', '%2=%1') == 'v=k, b=a'",
      "(function() local s = '' for k, v in ('a=1,b=2'):gmatch('(%w)=(%w)') do s = s .. k .. v end return s end)() "
      "== 'a1b2'",
      "(function() local n = 0 for _ in ('abc'):gmatch('') do n = n + 1 end return n end)() == 4",
      "('aaa'):match('a-$') == 'aaa' and ('aXb'):match('a?X?b') == 'aXb' and ('b'):match('a?b') == 'b'",
      "('\\0a\\0'):find('\\0', 2) == 3 and ('x'):rep(3, ',') == 'x,x,x'",
  };
  for (int i = 0; i < COUNT_OF(conditions); i++) expect_true(conditions[i]);
  const char *bad[] = {"[a", "%", "(", ")", "(()", "%1", "%f", "%b", "[%"};
  for (int i = 0; i < COUNT_OF(bad); i++) {
    char condition[100];
    snprintf(condition, sizeof condition, "not pcall(string.match, 'abc', '%s')", bad[i]);
    expect_true(condition);
  }
}

TEST("table functions mean what the manual says") {
  const char *conditions[] = {
      "table.concat({ 1, 'a', 2.5 }, ', ') == '1, a, 2.5' and table.concat({}) == '' and table.concat({ 1, 2, 3 }, "
      "'', 2) == '23'",
      "(function() local t = { 5, 2, 9, 1, 7 } table.sort(t) return table.concat(t, ' ') end)() == '1 2 5 7 9'",
      "(function() local t = { 5, 2, 9 } table.sort(t, function(a, b) return a > b end) return table.concat(t, ' ') "
      "end)() == '9 5 2'",
      "(function() local t = { 1, 2 } table.insert(t, 3) table.insert(t, 1, 0) return table.concat(t) end)() == "
      "'0123'",
      "(function() local t = { 1, 2, 3 } local x = table.remove(t, 1) return x .. table.concat(t) .. table.remove(t) "
      "end)() == '1233'",
      "table.concat(table.move({ 1, 2, 3 }, 1, 3, 2)) == '1123' and table.pack(1, nil, 3).n == 3",
      "select('#', table.unpack({ 1, nil, 3 }, 1, 3)) == 3 and table.remove({}) == nil",
      "not pcall(table.concat, { {} }) and not pcall(table.insert, { 1 }, 5, 1)",
  };
  for (int i = 0; i < COUNT_OF(conditions); i++) expect_true(conditions[i]);
}

TEST("the default limits end a loop in seconds") {
  Error err = {0};
  double start = load_seconds();
  EXPECT(!model_load(load_write("model.lua", "while true do end"), NULL, &err), "it loaded");
  EXPECT(err.code == ERROR_LIMIT && load_seconds() - start < 12, "%.1f s: %s", load_seconds() - start, err.text);
}

/* A terminal that takes what is printed slowly, as a busy machine would. */
static ssize_t write_slowly(void *ctx, const char *text, size_t n) {
  nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
  return (ssize_t)n;
}

TEST("the limit of time counts the model's own work, not what the machine does meanwhile") {
  Error err = {0};
  FILE *slow = fopencookie(NULL, "w", (cookie_io_functions_t){.write = write_slowly});
  REQUIRE(slow && setvbuf(slow, NULL, _IOLBF, 4096) == 0, "");
  Model *m = load_with("print('a')\nprint('b')\nfor i = 1, 1000000 do end\n"
                       "return module { f = fn({ x = f32(2) }, function(x) return { y = -x.x } end) }",
                       (ModelOptions){.limits.seconds = is_slow ? 5 : 0.5, .print_to = slow}, &err);
  EXPECT(m, "%s", err.text);
  model_free(m);
  fclose(slow);
}

TEST_MAIN()
