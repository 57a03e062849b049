/* The world as a data set, and what all data sets share. */
#include <pthread.h>
#include <stdlib.h>

#include "media/dataset.h"
#include "media/epoch.h"
#include "media/image.h"
#include "runtime/base/hooks.h"
#include "tests/test.h"

enum { N = 24, T = 32, VALUES = 32 * 32 * 3 };

typedef struct Fixture {
  Dataset *data;
  const World *world;
  Bpe *bpe;
} Fixture;

static bool open_fixture(Fixture *f, const char *spec) {
  Error err;
  *f = (Fixture){.data = dataset_open(spec, &(DatasetOptions){0}, &err)};
  if (f->data) f->world = dataset_world(f->data), f->bpe = dataset_train_bpe(f->data, 4000, 1000, &err);
  if (!f->bpe) TEST_FAIL_("%s", err.text);
  return f->bpe != NULL;
}

static void close_fixture(Fixture *f) { bpe_free(f->bpe), dataset_close(f->data); }

static bool fill(const Fixture *f, WorldSplit part, uint64_t first, int n, DataWant *want, int n_want) {
  Error err;
  for (int i = 0; i < n_want; i++)
    if (!dataset_match(f->data, f->bpe, &want[i], &err)) return TEST_FAIL_("%s", err.text), false;
  return dataset_fill(f->data, f->bpe, part, first, n, want, n_want, &err) || (TEST_FAIL_("%s", err.text), false);
}

TEST("a batch holds what the world shows and says") {
  Fixture f;
  REQUIRE(open_fixture(&f, "world"), "");
  static float images[N * VALUES];
  static int32_t text[N * T], labels[N * 1024], class[N];
  static uint8_t text_mask[N * T];
  Error err;
  for (int split = WORLD_TRAIN; split <= WORLD_HELD_OUT; split++) {
    DataWant want[] = {{"image", DTYPE_F32, 3, {32, 32, 3}, images},
                       {"text", DTYPE_I32, 1, {T}, text},
                       {"text_mask", DTYPE_U8, 1, {T}, text_mask},
                       {"labels", DTYPE_I32, 2, {32, 32}, labels},
                       {"class", DTYPE_I32, 0, {0}, class}};
    REQUIRE(fill(&f, (WorldSplit)split, 100, N, want, COUNT_OF(want)), "");
    for (int i = 0; i < N; i++) {
      Scene s = world_scene(f.world, (WorldSplit)split, 100 + (uint64_t)i), t;
      uint8_t rgb[VALUES];
      uint16_t map[1024];
      world_render(f.world, &s, 0, rgb, map);
      int off = 0;
      for (int k = 0; k < VALUES; k++) off += images[i * VALUES + k] != (float)rgb[k] * (2.0f / 255.0f) - 1.0f;
      for (int k = 0; k < 1024; k++) off += labels[i * 1024 + k] != map[k];
      EXPECT(off == 0 && class[i] == s.part[0].thing, "example %d: %d values differ", i, off);
      uint8_t mask[T];
      bpe_mask(f.bpe, text + i * T, mask, T);
      EXPECT(memcmp(mask, text_mask + i * T, T) == 0 && mask[2] && !mask[T - 1], "what of example %d is text", i);
      Buffer out = {0};
      REQUIRE(bpe_decode(f.bpe, text + i * T, T, &out, &err), "%s", err.text);
      REQUIRE(world_parse_caption(f.world, out.data, &t, &err), "%s: %s", out.data, err.text);
      EXPECT(t.part[0].thing == s.part[0].thing && t.background == s.background && t.part[0].place == s.part[0].place,
             "%s", out.data);
      buffer_done(&out);
    }
  }
  close_fixture(&f);
}

TEST("batches do not depend on where they begin, bytes are the floats' pixels, and grey is one channel") {
  Fixture f;
  REQUIRE(open_fixture(&f, "world"), "");
  static float a[N * VALUES], b[N * VALUES];
  static uint8_t pixels[N * VALUES], grey[N * 1024];
  DataWant floats = {"image", DTYPE_F32, 3, {32, 32, 3}, a}, bytes = {"image", DTYPE_U8, 3, {32, 32, 3}, pixels};
  DataWant greys = {"image", DTYPE_U8, 3, {32, 32, 1}, grey};
  REQUIRE(fill(&f, WORLD_TRAIN, 7, N, (DataWant[]){floats, bytes, greys}, 3), "");
  for (int i = 0; i < N; i++) {
    floats.out = b + i * VALUES;
    REQUIRE(fill(&f, WORLD_TRAIN, 7 + (uint64_t)i, 1, &floats, 1), "");
  }
  EXPECT(!memcmp(a, b, sizeof a), "");
  int off = 0;
  for (int i = 0; i < N * VALUES; i++) off += a[i] != (float)pixels[i] * (2.0f / 255.0f) - 1.0f;
  for (int i = 0; i < N * 1024; i++) {
    const uint8_t *p = pixels + 3 * i;
    off += grey[i] != (77 * p[0] + 150 * p[1] + 29 * p[2] + 128) / 256;
  }
  EXPECT(off == 0, "%d", off);
  close_fixture(&f);
}

typedef struct Loader {
  const Fixture *f;
  float *images;
  int32_t *text;
  bool ok;
} Loader;

static void *load(void *arg) {
  Loader *l = arg;
  DataWant want[] = {{"image", DTYPE_F32, 3, {32, 32, 3}, l->images}, {"text", DTYPE_I32, 1, {T}, l->text}};
  l->ok = true;
  for (int round = 0; round < 20; round++) l->ok &= fill(l->f, WORLD_TRAIN, 40, N, want, 2);
  return NULL;
}

TEST("two threads fill the same batch at once and both get it right") {
  Fixture f;
  REQUIRE(open_fixture(&f, "world"), "");
  static float a[N * VALUES], b[N * VALUES];
  static int32_t at[N * T], bt[N * T];
  Loader loaders[2] = {{&f, a, at, false}, {&f, b, bt, false}};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) REQUIRE(!pthread_create(&threads[i], NULL, load, &loaders[i]), "");
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  EXPECT(loaders[0].ok && loaders[1].ok && !memcmp(a, b, sizeof a) && !memcmp(at, bt, sizeof at), "");
  close_fixture(&f);
}

TEST("clips have eight frames, stills among them stand still, and an image is the first frame") {
  Fixture f;
  REQUIRE(open_fixture(&f, "world:single,clips"), "");
  static uint8_t clips[N * WORLD_FRAMES * VALUES], first[N * VALUES];
  DataWant want[] = {{"video", DTYPE_U8, 4, {WORLD_FRAMES, 32, 32, 3}, clips},
                     {"image", DTYPE_U8, 3, {32, 32, 3}, first}};
  REQUIRE(fill(&f, WORLD_TRAIN, 0, N, want, 2), "");
  int moving = 0;
  for (int i = 0; i < N; i++) {
    const uint8_t *clip = clips + i * WORLD_FRAMES * VALUES;
    Scene s = world_scene(f.world, WORLD_TRAIN, (uint64_t)i);
    bool differs = memcmp(clip, clip + 2 * VALUES, VALUES) != 0;
    EXPECT(differs == (s.motion != MOTION_NONE) && !memcmp(clip, first + i * VALUES, VALUES), "example %d", i);
    moving += differs;
  }
  EXPECT(moving > 4 && moving < 20, "%d", moving);
  close_fixture(&f);
}

TEST("with any_frame a picture of a clip is one of its frames, the same each time, and its map of labels is of that frame") {
  Fixture f;
  REQUIRE(open_fixture(&f, "world:clips,any_frame"), "");
  static uint8_t picture[N * VALUES], again[VALUES];
  static int32_t map[N * VALUES / 3];
  static uint16_t labels[VALUES / 3];
  DataWant want[] = {{"image", DTYPE_U8, 3, {32, 32, 3}, picture}, {"labels", DTYPE_I32, 2, {32, 32}, map}};
  REQUIRE(fill(&f, WORLD_TRAIN, 0, N, want, 2), "");
  bool used[WORLD_FRAMES] = {0};
  for (int i = 0; i < N; i++) {
    Scene s = world_scene(f.world, WORLD_TRAIN, (uint64_t)i);
    int frame = 0, is_like = 0;
    for (; frame < WORLD_FRAMES && !is_like; frame++) {
      world_render(f.world, &s, frame, again, labels);
      is_like = !memcmp(again, picture + i * VALUES, VALUES);
      for (int k = 0; k < VALUES / 3 && is_like; k++) is_like = map[i * VALUES / 3 + k] == labels[k];
    }
    EXPECT(is_like, "example %d", i);
    used[frame - 1] = true;
  }
  int n = 0;
  for (int i = 0; i < WORLD_FRAMES; i++) n += used[i];
  EXPECT(n >= 5, "%d of 8 frames", n);
  close_fixture(&f);
}

TEST("running out of memory is reported") {
  Fixture f;
  REQUIRE(open_fixture(&f, "world"), "");
  int32_t text[T];
  uint8_t pixels[VALUES];
  Error err;
  int failures = 0;
  DataWant want[] = {{"image", DTYPE_U8, 3, {32, 32, 3}, pixels}, {"text", DTYPE_I32, 1, {T}, text}};
  REQUIRE(fill(&f, WORLD_TRAIN, 0, 1, want, 2), "");
  for (uint64_t k = 1; k < 10; k++) {
    mem_fail_at(k);
    bool ok = dataset_fill(f.data, f.bpe, WORLD_TRAIN, 0, 1, want, 2, &err);
    mem_fail_at(0);
    failures += !ok;
    if (!ok) EXPECT(err.code == ERROR_MEMORY, "%s", err.text);
  }
  EXPECT(failures >= 3, "%d", failures);
  close_fixture(&f);
}

static const char *refusal(const char *spec) {
  static Error err;
  Dataset *d = dataset_open(spec, &(DatasetOptions){0}, &err);
  dataset_close(d);
  return d ? "" : err.text;
}

TEST("options of the world are read, and refused by name") {
  Error err;
  Dataset *d = dataset_open("world:clips,sized,size=48,things=9,seed=7", &(DatasetOptions){0}, &err);
  REQUIRE(d, "%s", err.text);
  const WorldOptions *o = world_options(dataset_world(d));
  EXPECT(o->kinds == (WORLD_CLIPS | WORLD_SIZED) && o->size == 48 && o->things == 9 && o->seed == 7, "%u", o->kinds);
  dataset_close(d);
  EXPECT_HAS(refusal("world:sise=3"), "\"sise\" is none of things, size,");
  EXPECT_HAS(refusal("world:size=3"), "size=3: must be a whole number from 16 to 1024");
  EXPECT_HAS(refusal("world:size=3x"), "size=3x: must be");
  EXPECT_HAS(refusal("world:size="), "size=: must be");
  EXPECT_HAS(refusal("world:clip"), "\"clip\" is none of single, two, clips");
  EXPECT_HAS(refusal("world:clips,"), "\"\" is none of");
  EXPECT_HAS(refusal("world:seed=99999999999999999999"), "at most 9e15");
  EXPECT_HAS(refusal("no/such"), "data no/such: no such folder; data are world,");
}

TEST("an epoch is a permutation, another one for every epoch and seed, without a stored order") {
  static uint8_t seen[1000];
  static const uint64_t n[] = {1, 2, 3, 4, 5, 16, 17, 97, 256, 1000};
  for (int k = 0; k < COUNT_OF(n); k++)
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
      memset(seen, 0, sizeof seen);
      for (uint64_t i = 0; i < n[k]; i++) {
        uint64_t p = epoch_permute(5, epoch, n[k], i);
        REQUIRE(p < n[k] && !seen[p]++, "%d of %d", (int)p, (int)n[k]);
      }
    }
  int same[3] = {0}; /* of random permutations one place in all is the same on average */
  for (uint64_t i = 0; i < 1000; i++) {
    uint64_t p = epoch_permute(5, 0, 1000, i);
    same[0] += p == i;
    same[1] += p == epoch_permute(5, 1, 1000, i);
    same[2] += p == epoch_permute(6, 0, 1000, i);
  }
  EXPECT(same[0] < 9 && same[1] < 9 && same[2] < 9, "%d %d %d", same[0], same[1], same[2]);
  int steps = 0; /* neighbours go anywhere: a step is longer than a third of the whole in 4 of 9 cases */
  for (uint64_t i = 0; i + 1 < 1000; i++)
    steps += llabs((long long)epoch_permute(5, 0, 1000, i) - (long long)epoch_permute(5, 0, 1000, i + 1)) > 333;
  EXPECT(steps > 380 && steps < 510, "%d", steps);
  EXPECT(epoch_permute(1, UINT64_C(1) << 40, UINT64_C(1) << 40, 12345) < UINT64_C(1) << 40, "large");
}

TEST("an epoch of groups goes through one after another, empty ones too, each in an order of its own, whatever was asked before") {
  static const uint64_t start[] = {0, 0, 3, 3, 3, 10, 11, 31, 31};
  enum { GROUPS = COUNT_OF(start) - 1, ALL = 31 };
  EpochGroups *g = epoch_groups_new(5, start, GROUPS);
  REQUIRE(g, "none");
  for (uint64_t step = 0; step < 4 * ALL; step++) {   /* two epochs in turn, as where one ends and the next begins */
    uint64_t epoch = step % 2, i = step / 2 % ALL, k = 0, before = 0, of;
    for (;; k++) {
      of = epoch_permute(5, epoch, GROUPS, k);
      if (i < before + start[of + 1] - start[of]) break;
      before += start[of + 1] - start[of];
    }
    uint64_t n = start[of + 1] - start[of];
    uint64_t want = start[of] + epoch_permute(5 ^ (of + 1) * UINT64_C(0x9e3779b97f4a7c15), epoch, n, i - before);
    uint64_t got = epoch_groups_permute(g, epoch, i);
    EXPECT(got == want, "epoch %d, place %d: %d, not %d", (int)epoch, (int)i, (int)got, (int)want);
  }
  epoch_groups_free(g);
}

TEST_MAIN()
