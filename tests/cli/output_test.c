/* Where outputs may go: files, links, pipes, devices, standard output; and what is left when a run is killed. */
#include "runtime/base/safetensors.h"
#include "tests/cli/commands.h"

/* double.lua: y = x + x; in.safetensors: x of two samples; out: what it gives. */
static bool have_output(void) {
  open_folder();
  char path[100];
  Error err = {0};
  static const float x[] = {1, 2, 3, 4, 5, 6};
  TensorView v = {.name = "x", .dtype = DTYPE_F32, .rank = 2, .dim = {2, 3}, .data = x, .bytes = sizeof x};
  write_text("double.lua", "return module { f = fn({ x = f32(batch, 3) }, function(a) return { y = a.x + a.x } end) }\n");
  snprintf(path, sizeof path, "%s/in.safetensors", folder);
  bool ok = safetensors_write(path, &v, 1, NULL, 0, &err) &&
            nuwa("run double.lua --fn f --in in.safetensors --out out") == 0;
  EXPECT(ok, "%s%s", err.text, output);
  return ok;
}

TEST("outputs go through pipes, devices and standard output, inputs come through them") {
  REQUIRE(have_output(), "");
  expect_shell("nuwa run double.lua --fn f --in in.safetensors --out - | cmp - out");
  expect_shell("nuwa run double.lua --fn f --in in.safetensors --out /dev/stdout | cmp - out");
  expect_shell("nuwa run double.lua --fn f --in in.safetensors --out /dev/stdout >to && cmp to out");
  expect_shell("nuwa run double.lua --fn f --in in.safetensors --out /dev/null && test -c /dev/null");
  expect_shell("cat in.safetensors | nuwa run double.lua --fn f --in - --out - | cmp - out");
  expect_shell("mkfifo pipe && { nuwa run double.lua --fn f --in in.safetensors --out pipe & } && cmp pipe out && rm pipe");
  expect_shell("nuwa compile double.lua -o b.nuwa && nuwa compile double.lua -o - | cmp - b.nuwa");
  expect_shell("nuwa data --count 2 --sheet s.png >/dev/null && nuwa data --count 2 --sheet /dev/fd/3 3>&1 >/dev/null | "
               "cmp - s.png");
  expect_shell("nuwa data --count 3 --captions - | wc -l | grep -qx 3");
  EXPECT_STATUS(2, "data --captions - --bpe -", "--captions - and --bpe -: standard output has room for one");
  EXPECT_STATUS(2, "train double.lua --checkpoint /dev/null", "--checkpoint /dev/null: must be a file");
}

TEST("a full device is an error, whatever is written, and a closed standard output too") {
  REQUIRE(have_output(), "");
  EXPECT_STATUS(1, "run double.lua --fn f --in in.safetensors --out /dev/full", "cannot write /dev/full: No space left");
  EXPECT_STATUS(1, "run double.lua --fn f --in in.safetensors --out - >/dev/full", "cannot write -: No space left");
  EXPECT_STATUS(1, "run double.lua --fn f --in in.safetensors --out - >&-", "cannot write -: Bad file descriptor");
  EXPECT_STATUS(1, "compile double.lua -o /dev/full", "No space left");
  EXPECT_STATUS(1, "data --count 2 --captions /dev/full", "No space left");
}

TEST("a link stays a link, and a file keeps its mode") {
  REQUIRE(have_output(), "");
  expect_shell("mkdir -p kept && printf x >kept/real && chmod 600 kept/real && ln -sf kept/real link && "
               "nuwa run double.lua --fn f --in in.safetensors --out link && test -L link && cmp kept/real out && "
               "stat -c %a kept/real | grep -qx 600");
  expect_shell("ln -sf kept/later dangling && nuwa run double.lua --fn f --in in.safetensors --out dangling && "
               "test -L dangling && cmp kept/later out && ls kept | wc -l | grep -qx 2");
}

/* pub: w as F16, a counter as I64, and something of a loss as F8; own: the same w as F32. */
static void write_checkpoints(void) {
  static const char header[] = "{\"w\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[0,6]},"
                               "\"n\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[6,14]},"
                               "\"loss.a\":{\"dtype\":\"F8_E4M3\",\"shape\":[2],\"data_offsets\":[14,16]}}";
  static const uint16_t half[8] = {0x3c00, 0x4000, 0xb800, 7};
  static const float w[] = {1, 2, -0.5f};
  char bytes[400] = {(char)(sizeof header - 1)}, path[100];
  memcpy(bytes + 8, header, sizeof header - 1);
  memcpy(bytes + 8 + sizeof header - 1, half, sizeof half);
  Error err = {0};
  TensorView v = {.name = "w", .dtype = DTYPE_F32, .rank = 1, .dim = {3}, .data = w, .bytes = sizeof w};
  _Static_assert(sizeof header - 1 < 256, "its length is one byte");
  snprintf(path, sizeof path, "%s/pub", folder);
  if (!file_write_all(path, bytes, 8 + sizeof header - 1 + sizeof half, &err)) abort();
  snprintf(path, sizeof path, "%s/own", folder);
  if (!safetensors_write(path, &v, 1, NULL, 0, &err)) abort();
}

TEST("weights of other programs are converted, what the model does not know is listed and ignored by name") {
  REQUIRE(have_output(), "");
  write_checkpoints();
  write_text("plus.lua", "return module { f = fn({ x = f32(batch, 3) }, function(a) return { y = a.x + param('w', f32(3)) } end) }\n");
  EXPECT_STATUS(1, "run plus.lua --fn f --in in.safetensors --weights pub --out /dev/null",
                "weight \"n\" is in the file, but the model has no such param; nor has it \"loss.a\"; --ignore PATTERN");
  EXPECT_STATUS(1, "run plus.lua --fn f --in in.safetensors --weights pub --ignore 'loss.*' --out /dev/null", "weight \"n\"");
  EXPECT_STATUS(1, "run plus.lua --fn f --in in.safetensors --weights pub --ignore '*' --out /dev/null", "lack \"w\"");
  expect_shell("nuwa run plus.lua --fn f --in in.safetensors --weights own --out want");
  expect_shell("nuwa run plus.lua --fn f --in in.safetensors --weights pub --ignore 'loss.*' --ignore n --out - 2>said | cmp - want "
               "&& grep -q 'pub: 1 tensors ignored by \"n\"' said");
  expect_shell("nuwa run plus.lua --fn f --in in.safetensors --weights pub --ignore 'loss.*' --ignore n --device interp --out - | "
               "cmp - want");
}

static void kill_runs(int n) {
  REQUIRE(have_output(), "");
  for (int i = 0; i < n; i++) {
    char command[300];
    snprintf(command, sizeof command,
             "timeout -s KILL 0.%03d sh -c 'while :; do \"" NUWA "\" run double.lua --fn f --in in.safetensors --out "
             "killed/out; done'; sleep 0.01; test ! -e killed/out || cmp killed/out out", 60 + i * 37 % 100);
    EXPECT(shell(i ? command : "mkdir -p killed") == 0, "%s", output);
  }
  expect_shell("nuwa run double.lua --fn f --in in.safetensors --out killed/out && ls -A killed | grep -qx out && "
               "ls -A killed | wc -l | grep -qx 1; ls -A killed");
}

TEST("runs that are killed leave whole outputs and nothing else") { kill_runs(5); }
LONG_TEST("a hundred runs that are killed leave whole outputs and nothing else") { kill_runs(100); }

TEST_MAIN()
