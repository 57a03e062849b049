/* Checkpoints with damage: refused with a reason and nothing changed, or read as what was written. */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model.h"
#include "tests/test.h"
#include "train/checkpoint.h"

typedef struct Case {
  Buffer bundle;
  Plan *plan;
  NuwaSession *session;
  char *file;
  size_t n;
  TrainEntry entry;
  Checkpoint c;
} Case;

static void case_done(Case *k) {
  mem_free(k->file);
  nuwa_session_close(k->session);
  plan_free(k->plan);
  buffer_done(&k->bundle);
}

/* A session with weights, and the bytes of its checkpoint at step 7. */
static bool case_init(Case *k, Error *err) {
  *k = (Case){0};
  NuwaOptions o = {.threads = 1, .samples = 2, .rows = 4};
  if (!fuzz_bundle(true, &k->bundle, err) || !(k->plan = plan_read(k->bundle.data, k->bundle.len, "bundle", err)) ||
      !(k->session = nuwa_session_open(k->plan, &o, err)))
    return false;
  nuwa_init_weights(k->session, 3);
  k->entry = (TrainEntry){.name = "main", .function = plan_find_function(k->plan, "train.main")};
  k->c = (Checkpoint){k->session, k->plan, &k->entry, 1, "{\"lr\": 1, \"options\": {\"a\": \"x\"}}", .step = 7};
  const char *path = load_path("whole.ckpt");
  return k->entry.function >= 0 && checkpoint_write(&k->c, path, err) && (k->file = file_read(path, &k->n, err)) != NULL;
}

static void digest_of(Case *k, float out[3]) {
  const float *w = nuwa_param(k->session, "w"), *v = nuwa_param(k->session, "v");
  out[0] = w[0] + w[39], out[1] = v[0] + v[39], out[2] = *(const float *)nuwa_state(k->session, "main.m.w");
}

TEST("an intact checkpoint is read, one of another run is refused") {
  Case k;
  Error err = {0};
  REQUIRE(case_init(&k, &err), "%s", err.text);
  float before[3], after[3];
  digest_of(&k, before);
  k.c.step = 0;
  nuwa_init_weights(k.session, 4);
  REQUIRE(checkpoint_read(&k.c, load_path("whole.ckpt"), &err), "%s", err.text);
  digest_of(&k, after);
  EXPECT(k.c.step == 7 && memcmp(before, after, sizeof after) == 0, "");
  static const char *const other[][2] = {
      {"{\"lr\": 2, \"options\": {\"a\": \"x\"}}", "its lr is 1, this run's is 2"},
      {"{\"lr\": 1, \"options\": {\"a\": \"y\"}}", "its options.a is x, this run's is y"},
      {"{\"lr\": 1, \"options\": {\"a\": \"x\", \"b\": \"1\"}}", "its options.b is not set, this run's is 1"},
      {"{\"lr\": 1}", "its options is {\"a\": \"x\"}, this run's is not set"}};
  for (int i = 0; i < COUNT_OF(other); i++) {
    k.c.recipe = other[i][0];
    EXPECT(!checkpoint_read(&k.c, load_path("whole.ckpt"), &err), "%s", other[i][0]);
    EXPECT_HAS(err.text, other[i][1]);
  }
  case_done(&k);
}

TEST("damaged checkpoints are refused with a reason and change nothing") {
  Case k;
  Error err = {0};
  REQUIRE(case_init(&k, &err), "%s", err.text);
  uint64_t header;
  memcpy(&header, k.file, sizeof header);
  float before[3], after[3];
  digest_of(&k, before);
  uint8_t *bytes = malloc(k.n);
  const char *path = load_path("damaged.ckpt");
  char name[300];
  snprintf(name, sizeof name, "%s", path);
  for (int i = 0; i < 1500; i += FUZZ_STRIDE) {
    Fuzz f = {(uint64_t)i};
    memcpy(bytes, k.file, k.n);
    fuzz_damage(&f, bytes, fuzz_below(&f, 2) ? (size_t)header + 8 : k.n);
    size_t n = fuzz_below(&f, 6) ? k.n : fuzz_below(&f, k.n);
    if (n == k.n && memcmp(bytes, k.file, k.n) == 0) continue;
    FILE *out = fopen(name, "wb");
    REQUIRE(out && fwrite(bytes, 1, n, out) == n && fclose(out) == 0, "cannot write %s", name);
    Error e = {0};
    k.c.step = 1;
    bool ok = checkpoint_read(&k.c, name, &e);
    digest_of(&k, after);
    EXPECT(ok || (e.text[0] && strstr(e.text, "damaged.ckpt")), "case %d: \"%s\"", i, e.text);
    EXPECT(ok || k.c.step == 1, "case %d changes the step", i);
    EXPECT(memcmp(before, after, sizeof after) == 0, "case %d changes the session: %s", i, e.text);
  }
  free(bytes);
  case_done(&k);
}

TEST_MAIN()
