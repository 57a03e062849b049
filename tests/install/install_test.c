/* An installed tree in a folder of its own, moved after it was installed, as others see it: what programs that link
 * it need, what they draw, and what it costs them.  One program of the examples in four builds draws the same pixels as
 * `nuwa generate`. */
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "media/image.h"
#include "runtime/include/nuwa.h"
#include "runtime/base/file.h"
#include "tests/nvrtc.h"

enum { MOST_LIBRARY_BYTES = 256 << 10, MOST_EXAMPLE_LINES = 100, MOST_START_US = 20000, PICTURE = 64 };
#define CAPTION "a red apple at the top left on white"

static char folder[] = "/tmp/nuwa-install-XXXXXX", output[1 << 16];

static void remove_folder(void) {
  char command[100];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  if (system(command) != 0) fputs("cannot remove the folder\n", stderr);
}

/* A command in the folder, with $P the installed tree, and found by pkg-config there; its exit status. */
static int shell(const char *command) {
  char line[4000];
  snprintf(line, sizeof line,
           "cd '%s' && export P=\"$PWD/moved\" XDG_CACHE_HOME=\"$PWD/cache\" && "
           "L=$(dirname $(find $P -name libnuwa.a)) && export L PKG_CONFIG_PATH=$L/pkgconfig LD_LIBRARY_PATH=$L && { %s; } 2>&1 </dev/null", folder, command);
  FILE *f = popen(line, "r");
  if (!f) abort();
  size_t n = fread(output, 1, sizeof output - 1, f);
  output[n] = 0;
  int status = pclose(f);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define EXPECT_RUNS(command)                                                       \
  do {                                                                             \
    int status = shell(command);                                                   \
    EXPECT(status == 0, "%d from %s:\n%s", status, command, output);              \
  } while (0)

/* Installs under DESTDIR into another prefix than the build's, and moves the tree away from it. */
static bool installed(void) {
  static int state;
  if (state) return state > 0;
  state = -1;
  if (!mkdtemp(folder)) return false;
  atexit(remove_folder);
  char command[1000];
  snprintf(command, sizeof command,
           "cd '%s' && DESTDIR=$PWD/stage '%s' --install '%s' --prefix /opt/there >log 2>&1 && "
           "mv stage/opt/there moved",
           folder, CMAKE, BUILD_DIR);
  if (system(command) == 0) state = 1;
  return state > 0;
}

TEST("an installed tree has the program, models, both libraries, one header and what finds them") {
  REQUIRE(installed(), "not installed");
  EXPECT_RUNS("test -x $P/bin/nuwa && test -f $P/share/nuwa/models/nn.lua && test -f $L/libnuwa.a && "
              "test -L $L/libnuwa.so && test -f $L/libnuwa.so." VERSION);
  EXPECT_RUNS("ls $P/include");
  EXPECT_TEXT(output, "nuwa.h\n");
  EXPECT_RUNS("pkg-config --modversion nuwa");
  EXPECT_TEXT(output, VERSION "\n");
}

TEST("the installed program finds the installed models from any folder") {
  REQUIRE(installed(), "not installed");
  /* A module that only they have. */
  EXPECT_RUNS("mkdir -p elsewhere && cd elsewhere && M=$P/share/nuwa/models && mv $M/nn.lua $M/nn_there.lua && "
              "echo 'local nn = require \"nn_there\" return module { f = fn({ x = f32(2, 3) }, "
              "function(x) return { y = nn.linear(\"l\", x.x, 4) } end) }' > m.lua && "
              "$P/bin/nuwa inspect m.lua --json && cp $M/nn_there.lua $M/nn.lua");
  EXPECT_HAS(output, "\"f\"");
}

TEST("the shared library exports versioned nuwa_* and nothing else, and needs the C library alone") {
  REQUIRE(installed(), "not installed");
  EXPECT_RUNS("nm -D --defined-only $L/libnuwa.so | awk '$2 != \"A\" {print $3}' | "
              "grep -vE '^nuwa_[a-z_]+@@NUWA_0\\.1$'; "
              "nm -D --defined-only $L/libnuwa.so | grep -c ' T nuwa_'");
  EXPECT(atoi(output) > 40, "exports:\n%s", output);
  EXPECT_RUNS("readelf -d $L/libnuwa.so | sed -nE 's/.*NEEDED.*\\[(.*)\\]/\\1/p' | "
              "grep -vE '^(libc|libm|libdl|libpthread|ld-linux.*)\\.so'; "
              "readelf -d $L/libnuwa.so | grep -c 'SONAME.*libnuwa.so.0'");
  EXPECT_TEXT(output, "1\n");
}

TEST("the static library defines no global name but nuwa_*, the same as the shared one") {
  REQUIRE(installed(), "not installed");
  EXPECT_RUNS("nm -g --defined-only $L/libnuwa.a | awk 'NF == 3 {print $3}' | sort > static.txt; "
              "nm -D --defined-only $L/libnuwa.so | awk '$2 == \"T\" {sub(/@.*/, \"\", $3); print $3}' | "
              "sort > shared.txt; "
              "diff static.txt shared.txt && grep -vc '^nuwa_' static.txt || true");
  EXPECT_TEXT(output, "0\n");
}

TEST("neither the program nor the libraries have the hooks that tests have") {
  REQUIRE(installed(), "not installed");
  EXPECT_RUNS("grep -oE '\\bmem_[a-z_]+\\(' " SOURCE_DIR "/runtime/base/hooks.h | tr -d '(' | sort -u > hooks.txt; "
              "for f in " BUILD_DIR "/nuwa $P/bin/nuwa $L/libnuwa.a $L/libnuwa.so; do "
              "nm -a $f | sed 's/.* //' > names.txt; grep -x mem_alloc names.txt || exit 1; grep -xf hooks.txt names.txt; done | "
              "sort -u; "
              "wc -l < hooks.txt");
  EXPECT_TEXT(output, "mem_alloc\n3\n");
}

TEST("the header declares exactly what the library exports, for C99 and for C++11") {
  REQUIRE(installed(), "not installed");
  EXPECT_RUNS("grep -oE '\\bnuwa_[a-z_]+\\(' $P/include/nuwa.h | tr -d '(' | sort -u > declared.txt; "
              "nm -D --defined-only $L/libnuwa.so | awk '$2 == \"T\" {sub(/@.*/, \"\", $3); print $3}' | "
              "sort > shared.txt; "
              "diff declared.txt shared.txt");
  EXPECT_RUNS("echo '#include <nuwa.h>' > h.c && W='-Wall -Wextra -Wpedantic -Werror -fsyntax-only' && "
              CC " -std=c99 $W -I$P/include h.c && " CXX " -x c++ -std=c++11 $W -I$P/include h.c");
}

TEST("the stripped library is at most 256 KB") {
  REQUIRE(installed(), "not installed");
  EXPECT_RUNS(STRIP " -s -o stripped.so $L/libnuwa.so && stat -c %s stripped.so");
  printf("libnuwa.so, stripped: %d bytes\n", atoi(output));
  EXPECT(atoi(output) > 0 && atoi(output) <= MOST_LIBRARY_BYTES, "%d bytes", atoi(output));
}

/* ---- the example ---- */

/* Compiled with the installed program from the weights that were installed with it: one file that draws. */
static bool have_application(void) {
  static int state;
  if (state) return state > 0;
  state = installed() && shell("mkdir -p elsewhere && cd elsewhere && $P/bin/nuwa compile --weights "
                               "$P/share/nuwa/models/weights/nuwa.safetensors --embed -o ../app.nuwa") == 0 ? 1 : -1;
  EXPECT(state > 0, "%s", output);
  return state > 0;
}

/* What `nuwa generate` draws from the Lua models, and from the application. */
static bool have_reference(void) {
  static int state;
  if (state) return state > 0;
  state = have_application() &&
          shell("$P/bin/nuwa generate --text '" CAPTION "' --seed 7 -o want.png --tokens-out want.safetensors") == 0;
  if (!state) state = -1;
  EXPECT(state > 0, "%s", output);
  return state > 0;
}

static void expect_same_pixels(const char *wanted, const char *name, int size) {
  char path[200];
  Image want = {0}, got = {0};
  Error err = {0};
  snprintf(path, sizeof path, "%s/%s", folder, wanted);
  REQUIRE(image_read(path, &want, &err), "%s", err.text);
  snprintf(path, sizeof path, "%s/%s", folder, name);
  REQUIRE(image_read(path, &got, &err), "%s", err.text);
  EXPECT(want.width == size && got.width == want.width && got.height == want.height, "%d x %d", got.width, got.height);
  EXPECT(memcmp(want.rgb, got.rgb, (size_t)want.width * (size_t)want.height * 3) == 0, "%s: other pixels", name);
  image_done(&want);
  image_done(&got);
}

TEST("an application draws the tokens and pixels that its Lua models and weights draw") {
  REQUIRE(have_reference(), "no drawing");
  EXPECT_RUNS("$P/bin/nuwa generate app.nuwa --text '" CAPTION "' --seed 7 -o app.png "
              "--tokens-out app.safetensors && cmp want.safetensors app.safetensors");
  expect_same_pixels("want.png", "app.png", PICTURE);
}

TEST("inspect shows the parts of an application, and finds damage in its weights") {
  REQUIRE(have_application(), "no application");
  EXPECT_RUNS("$P/bin/nuwa inspect app.nuwa");
  static const char *const part[] = {"plan drawer: ", "weights drawer: ", "plan image: ", "weights image: ",
                                     "text merges: ", "text null_text: "};
  for (int i = 0; i < COUNT_OF(part); i++) EXPECT_HAS(output, part[i]);
  EXPECT_RUNS("$P/bin/nuwa inspect app.nuwa --json");
  EXPECT_HAS(output, "{\"kind\": \"weights\", \"name\": \"image\", \"bytes\": ");
  EXPECT_HAS(output, "\"plans\": {\"drawer\": {\"device\": \"cpu\"");
  EXPECT_HAS(output, ", \"image\": {\"device\": \"cpu\"");
  EXPECT_RUNS("cp app.nuwa bad.nuwa && S=$(($(stat -c %s bad.nuwa) / 2)) && "
              "printf damage | dd of=bad.nuwa bs=1 seek=$S conv=notrunc 2>/dev/null; ! $P/bin/nuwa inspect bad.nuwa");
  EXPECT_HAS(output, "does not match its SHA-256");
}

static NuwaBundle *open_application(void) {
  char path[200];
  NuwaError err = {0};
  snprintf(path, sizeof path, "%s/app.nuwa", folder);
  NuwaBundle *b = have_application() ? nuwa_bundle_open(path, &err) : NULL;
  EXPECT(b, "%s", err.text);
  return b;
}

TEST("the public header says what an application has: parts, functions, ports under B and R, the decode") {
  NuwaBundle *b = open_application();
  if (!b) return;
  NuwaPart part;
  int parts = 0;
  while (nuwa_bundle_part(b, parts, &part)) parts++;
  EXPECT(parts == 6 && !nuwa_bundle_part(b, -1, &part), "%d parts", parts);
  EXPECT_TEXT(nuwa_bundle_entry(b, "null_text"), "");
  EXPECT(!nuwa_bundle_entry(b, "drawer") && !nuwa_bundle_plan(b, "merges"), "kinds are told apart");
  const NuwaPlan *p = nuwa_bundle_plan(b, "drawer");
  NuwaDecode d;
  NuwaPort port;
  REQUIRE(p && nuwa_decode_count(p) == 1 && nuwa_decode_info(p, nuwa_find_decode(p, "decode"), &d), "no decode");
  EXPECT(d.grid[0] == 1 && d.grid[1] == 8 && d.grid[2] == 8 && d.positions == 64 && d.vocab == 256, "another grid");
  EXPECT(!nuwa_decode_info(p, 1, &d) && !nuwa_decode_info(p, -1, &d) && nuwa_find_decode(p, "x") == -1, "decodes");
  REQUIRE(nuwa_find_input(p, d.prologue, "text", 3, 0, &port), "no text");
  EXPECT(port.type == NUWA_I32 && port.rank == 2 && port.dim[0] == 3 && port.dim[1] == 32 && port.bytes == 3 * 32 * 4,
         "text is %d [%d, %d], %zu bytes", port.type, (int)port.dim[0], (int)port.dim[1], port.bytes);
  EXPECT(!nuwa_find_input(p, d.prologue, "text", -1, 0, &port) && !nuwa_find_input(p, -1, "text", 1, 0, &port) &&
             !nuwa_find_input(p, d.prologue, "texts", 1, 0, &port) &&
             !nuwa_find_input(p, d.prologue, "text", INT64_MAX, 0, &port), "a port that is none");
  EXPECT(nuwa_function_name(p, nuwa_function_count(p)) == NULL && nuwa_function_name(p, -1) == NULL, "functions");
  p = nuwa_bundle_plan(b, "image");
  REQUIRE(p && nuwa_plan_device(p) == NUWA_CPU, "no autoencoder");
  int decode = nuwa_find_function(p, "decode");
  EXPECT_TEXT(nuwa_function_name(p, decode), "decode");
  EXPECT(nuwa_output_port(p, decode, 0, 2, 0, &port) && port.type == NUWA_F32 && port.dim[1] == PICTURE &&
             port.dim[3] == 3 && port.bytes == 2 * PICTURE * PICTURE * 3 * 4 && !nuwa_output_port(p, decode, 1, 2, 0, &port), "its picture");
  EXPECT_TEXT(nuwa_plan_entry(p, "precision"), "f32");
  nuwa_bundle_close(b);
}

/* Memory of this process that is no file's. */
static long anonymous_kb(void) {
  char line[200];
  long kb = -1;
  FILE *f = fopen("/proc/self/status", "r");
  while (f && kb < 0 && fgets(line, sizeof line, f)) sscanf(line, "RssAnon: %ld", &kb);
  if (f) fclose(f);
  return kb;
}

/* How much a session of the plan grows when it loads the weights, in KB of memory that is no file's and in *out_held as
 * the session counts.  has_others: of params that the plan lacks, other tasks' say. */
static long load_growth_kb(const NuwaPlan *p, const NuwaWeights *w, bool has_others, long *out_held) {
  NuwaError err = {0};
  NuwaOptions o = {.threads = 1, .samples = 1, .rows = 1};
  NuwaSession *s = nuwa_session_open(p, &o, &err);
  long held = s ? (long)nuwa_session_bytes(s) : 0, before = anonymous_kb();
  EXPECT(s && w && nuwa_load_weights(s, w, has_others, &err), "%s", err.text);
  long grown = anonymous_kb() - before;
  *out_held = s ? (long)nuwa_session_bytes(s) - held : 0;
  nuwa_session_close(s);
  return grown;
}

TEST("an application's weights are used where the file is mapped: a session needs no memory for them") {
  NuwaBundle *b = open_application();
  if (!b) return;
  char path[200];
  NuwaError err = {0};
  NuwaPart part = {0};
  for (int i = 0; nuwa_bundle_part(b, i, &part) && (part.kind != NUWA_PART_WEIGHTS || strcmp(part.name, "drawer") != 0);) i++;
  snprintf(path, sizeof path, "%s/moved/share/nuwa/models/weights/nuwa.safetensors", folder);
  NuwaWeights *file = nuwa_weights_open(path, &err), *mapped = nuwa_bundle_weights(b, "drawer", &err);
  const NuwaPlan *p = nuwa_bundle_plan(b, "drawer");
  long held_file, held_mapped, weights_kb = (long)(part.bytes >> 10);
  long copied = load_growth_kb(p, file, true, &held_file), kept = load_growth_kb(p, mapped, false, &held_mapped);
  printf("weights of %ld KB: a session grows by %ld KB with the file's, by %ld KB with the bundle's own\n", weights_kb, copied, kept);
  EXPECT(weights_kb > 10000 && copied - kept > weights_kb / 10 * 9, "%ld KB and %ld KB for %ld KB", copied, kept, weights_kb);
  EXPECT(held_file == 0 && -held_mapped > (weights_kb << 10) / 10 * 9, "%ld and %ld bytes", held_file, held_mapped);
  nuwa_weights_close(file);
  nuwa_weights_close(mapped);
  nuwa_bundle_close(b);
}

TEST("text becomes tokens and text again through the public header, as much of it as there is room for") {
  NuwaBundle *b = open_application();
  if (!b) return;
  NuwaError err = {0};
  const char *merges = nuwa_bundle_entry(b, "merges");
  NuwaText *t = nuwa_text_parse(merges, strlen(merges), "merges", &err);
  REQUIRE(t, "%s", err.text);
  int32_t ids[16], fixed[16];
  char text[64];
  size_t bytes = 0;
  int n = 0;
  REQUIRE(nuwa_text_encode(t, "A red  Apple", ids, 16, &n, &err), "%s", err.text);
  EXPECT(n >= 3 && n < 12 && nuwa_text_decode(t, ids, n, text, sizeof text, &bytes, &err), "%d tokens", n);
  EXPECT(bytes == 11, "%zu bytes", bytes);
  EXPECT_TEXT(text, "a red apple");
  EXPECT(nuwa_text_decode(t, ids, n, text, 6, &bytes, &err) && bytes == 11, "%zu bytes", bytes);
  EXPECT_TEXT(text, "a red");
  EXPECT(nuwa_text_decode(t, ids, n, NULL, 0, &bytes, &err) && bytes == 11, "%zu bytes", bytes);
  int vocab = nuwa_text_vocab(t);
  EXPECT(nuwa_text_encode_fixed(t, "A red  Apple", fixed, 16, &err) &&
             memcmp(fixed + 1, ids, (size_t)n * sizeof *ids) == 0 && fixed[0] == vocab - 2 && fixed[n + 1] == vocab - 1 &&
             fixed[n + 2] == 0, "start, end, zeros");
  ids[0] = vocab;
  EXPECT(!nuwa_text_decode(t, ids, n, text, sizeof text, &bytes, &err) && err.code == NUWA_ERROR_ARGUMENT, "no such id");
  nuwa_text_close(t);
  nuwa_text_close(NULL);
  nuwa_bundle_close(b);
}

static const char build[] = "pkg-config --cflags --libs nuwa libpng > flags && S=" SOURCE_DIR "/examples/draw.c && "
                            "W='-O2 -Wall -Wextra -Wpedantic -Werror -ffp-contract=off' && ";

static void expect_example(const char *compile, const char *name) {
  char command[2000];
  REQUIRE(have_reference(), "no drawing");
  snprintf(command, sizeof command, "%s%s -o %s", build, compile, name);
  EXPECT_RUNS(command);
  snprintf(command, sizeof command, "./%s app.nuwa '" CAPTION "' %s.png 7", name, name);
  EXPECT_RUNS(command);
  snprintf(command, sizeof command, "%s.png", name);
  expect_same_pixels("want.png", command, PICTURE);
  snprintf(command, sizeof command, "readelf -d %s | sed -nE 's/.*NEEDED.*\\[(.*)\\]/\\1/p' | "
           "grep -vE '^(libc|libm|libdl|libpthread|libpng16|libnuwa|ld-linux.*)\\.so' || true", name);
  EXPECT_RUNS(command);
  EXPECT_TEXT(output, "");
}

TEST("the example, as C99 with the shared library by pkg-config, draws what nuwa generate draws") {
  expect_example(CC " -std=c99 $W $S $(cat flags)", "c_shared");
}

TEST("the example, as C++, draws what nuwa generate draws") {
  expect_example(CXX " -x c++ $W $S $(cat flags)", "cpp_shared");
}

TEST("the example with the static library draws what nuwa generate draws, without libnuwa.so") {
  expect_example(CC " -std=c99 $W $S -I$P/include $L/libnuwa.a $(pkg-config --libs libpng) -lm -ldl -lpthread",
                 "c_static");
  EXPECT_RUNS("! readelf -d c_static | grep libnuwa");
}

TEST("the examples' CMake project finds the installed package, and its programs draw the same") {
  REQUIRE(have_reference(), "no drawing");
  EXPECT_RUNS(CMAKE " -S " SOURCE_DIR "/examples -B examples -G Ninja -DCMAKE_PREFIX_PATH=$P -DCMAKE_C_COMPILER=" CC
              " -DCMAKE_C_FLAGS=-ffp-contract=off >/dev/null && " CMAKE " --build examples >/dev/null && "
              "for e in draw draw_static; do examples/$e app.nuwa '" CAPTION "' $e.png 7 || exit 1; done");
  expect_same_pixels("want.png", "draw.png", PICTURE);
  expect_same_pixels("want.png", "draw_static.png", PICTURE);
}

/* A drawer and an autoencoder after a step of training, as one application for GPUs, its products pinned. */
#define SMALL                                                                                                        \
  "-D grid_s=1 -D grid_h=16 -D grid_w=16 -D dim=64 -D heads=2 -D encoder_layers=1 -D decoder_layers=1 "              \
  "-D text_tokens=24 -D vocab=514 -D codebook=16 --bpe merges --vq-weights vq.safetensors --steps 1 --batch 1 "
#define ON_GPU " --cuda-driver " EMUCUDA " --cublaslt " EMUBLASLT " "

TEST("an application for GPUs, its products pinned, draws through libnuwa what nuwa generate draws") {
  NEED_NVRTC();
  REQUIRE(installed(), "not installed");
  EXPECT_RUNS("mkdir -p gpu && cd gpu && cp " SOURCE_DIR "/tests/cli/models/vq.lua . && $P/bin/nuwa data --bpe merges --vocab 514 && "
              "$P/bin/nuwa train vq.lua --steps 1 --batch 2 --out vq.safetensors && "
              "$P/bin/nuwa train $P/share/nuwa/models/nuwa.lua " SMALL "--out drawer.safetensors");
  EXPECT_RUNS("cd gpu && $P/bin/nuwa compile --weights drawer.safetensors --embed --device cuda --pin" ON_GPU "-o app.nuwa && "
              "$P/bin/nuwa inspect app.nuwa");
  EXPECT_HAS(output, "2 products pinned on nuwa emulated GPU");
  EXPECT_HAS(output, "algorithm cublaslt 130100 algo ");
  EXPECT_HAS(output, "pinned = nuwa emulated GPU");
  EXPECT_RUNS("cd gpu && $P/bin/nuwa generate app.nuwa" ON_GPU "--text 'a panda' --seed 7 -o want.png");
  /* The example names no library: it finds those of the machine. */
  EXPECT_RUNS("cd gpu && ln -s " EMUCUDA " libcuda.so.1 && ln -s " EMUBLASLT " libcublasLt.so.13 && " CC " -std=c99 -O2 "
              SOURCE_DIR "/examples/draw.c $(pkg-config --cflags --libs nuwa libpng) -o draw && "
              "LD_LIBRARY_PATH=$PWD:$LD_LIBRARY_PATH ./draw app.nuwa 'a panda' got.png 7");
  expect_same_pixels("gpu/want.png", "gpu/got.png", 32);
}

/* The least of some runs: what else the machine does is not the library's. */
static int start_us(const char *bundle, const char *plan, int runs) {
  char command[300];
  int least = -1;
  snprintf(command, sizeof command, "for i in $(seq %d); do ./start %s %s; done", runs, bundle, plan);
  if (shell(command) != 0) return -1;
  for (char *line = output, *end; strtol(line, &end, 10) > 0 && end > line; line = end)
    if (least < 0 || atoi(line) < least) least = atoi(line);
  return least;
}

TEST("the first kernel has run at most 20 ms after a process starts") {
  REQUIRE(have_application(), "no application");
  EXPECT_RUNS("cd elsewhere && $P/bin/nuwa compile m.lua -o ../tiny.nuwa && cd .. && " CC " -O2 " SOURCE_DIR
              "/tests/install/start.c $(pkg-config --cflags --libs nuwa) -o start");
  int tiny = start_us("tiny.nuwa", "model", 10), whole = start_us("app.nuwa", "drawer", 2);
  printf("to the end of the first kernel: %d us; to an application with its weights loaded: %d us\n", tiny, whole);
  EXPECT(tiny >= 0 && tiny <= MOST_START_US && whole >= 0, "%d us, %s", tiny, output);
}

TEST("the example is at most 100 lines") {
  REQUIRE(installed(), "not installed");
  EXPECT_RUNS("wc -l < " SOURCE_DIR "/examples/draw.c");
  EXPECT(atoi(output) > 0 && atoi(output) <= MOST_EXAMPLE_LINES, "%d lines", atoi(output));
}

TEST_MAIN()
