/* The key of what NVRTC makes: it changes with every option, with the architecture, the version and the build, and with
 * nothing else.  No NVRTC is needed: two stubs of different builds stand for it. */
#include <dlfcn.h>
#include <string.h>

#include "codegen/emit/nvrtc.h"
#include "tests/test.h"

static Nvrtc *open_stub(const char *path) {
  Error err = {0};
  Nvrtc *n = nvrtc_open(path, &err);
  EXPECT(n, "%s", err.text);
  return n;
}

static void set_version(const char *path, int version) {
  void *library = dlopen(path, RTLD_NOW);
  int *at = library ? dlsym(library, "nvrtc_stub_version") : NULL;
  EXPECT(at, "%s", path);
  if (at) *at = version;
  if (library) dlclose(library);
}

enum { MOST_KEYS = 40 };
static char *key[MOST_KEYS];
static int n_key;

/* The key, and whether it is none of those so far. */
static bool is_new(const Nvrtc *n, const char *arch, const char *const *options, int n_options) {
  Buffer b = {0};
  nvrtc_key(n, arch, options, n_options, &b);
  bool found = false;
  for (int i = 0; i < n_key; i++) found |= strcmp(key[i], b.data) == 0;
  key[n_key++] = b.data;
  return !found;
}

static void forget(void) {
  while (n_key) mem_free(key[--n_key]);
}

static const char *const options[] = {"--ftz=true", "--std=c++17", "-lineinfo"};

TEST("the key changes with every option, its value, the number of options and the architecture") {
  static const char *const others[][3] = {{"--ftz=false", "--std=c++17", "-lineinfo"}, {"--ftz=true", "--std=c++14", "-lineinfo"},
                                          {"--ftz=true", "--std=c++17", "-G"}, {"--std=c++17", "--ftz=true", "-lineinfo"}};
  Nvrtc *n = open_stub(STUB_ONE);
  if (!n) return;
  EXPECT(is_new(n, "sm_80", options, 3) && !is_new(n, "sm_80", options, 3), "the same again is the same");
  for (int i = 0; i < 3; i++) EXPECT(is_new(n, "sm_80", options, i), "%d options", i);
  EXPECT(is_new(n, "sm_80", (const char *const[]){"--ftz=true --std=c++17", "-lineinfo"}, 2), "two options in one");
  for (int i = 0; i < COUNT_OF(others); i++) EXPECT(is_new(n, "sm_80", others[i], 3), "options %d", i);
  static const char *const arch[] = {"sm_86", "sm_8", "compute_80", "compute_90"};
  for (int i = 0; i < COUNT_OF(arch); i++) EXPECT(is_new(n, arch[i], options, 3), "%s", arch[i]);
  forget();
  nvrtc_close(n);
}

TEST("the key changes with NVRTC's version and with its build") {
  static const int version[] = {1300, 1301, 1200, 1310, 1330};
  Nvrtc *one = open_stub(STUB_ONE), *two = open_stub(STUB_TWO);
  if (!one || !two) return;
  for (int i = 0; i < COUNT_OF(version); i++) {
    set_version(STUB_ONE, version[i]);
    set_version(STUB_TWO, version[i]);
    EXPECT(is_new(one, "sm_80", options, 3) && is_new(two, "sm_80", options, 3), "version %d", version[i]);
  }
  set_version(STUB_ONE, 1300);
  set_version(STUB_TWO, 1300);
  forget();
  nvrtc_close(one);
  nvrtc_close(two);
}

TEST("the key does not change with anything else: another handle, other memory of the same options, another name") {
  char copy[] = "--ftz=true", arch[] = "sm_80";
  const char *const again[] = {copy, options[1], options[2]};
  Nvrtc *one = open_stub(STUB_ONE), *other = open_stub(STUB_ONE_LINK);
  if (!one || !other) return;
  EXPECT(is_new(one, "sm_80", options, 3), "the first");
  EXPECT(!is_new(other, arch, again, 3), "another handle, under another name, with other memory");
  Buffer after = {0};
  buffer_printf(&after, "before\n");
  nvrtc_key(one, "sm_80", options, 3, &after);
  EXPECT(strncmp(after.data, "before\n", 7) == 0 && strcmp(after.data + 7, key[0]) == 0, "it is appended");
  buffer_done(&after);
  forget();
  nvrtc_close(one);
  nvrtc_close(other);
}

TEST_MAIN()
