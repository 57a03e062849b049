#include <pthread.h>

#include "media/dataset.h"
#include "runtime/base/hooks.h"
#include "tests/test.h"

enum { N = 24, T = 32, VALUES = 32 * 32 * 3 };

typedef struct Fixture {
  World *world;
  Bpe *bpe;
  Dataset data;
} Fixture;

static bool open_fixture(Fixture *f, unsigned kinds, int frames) {
  WorldOptions o;
  Error err;
  world_options_init(&o);
  o.kinds = kinds;
  *f = (Fixture){.world = world_open(&o, &err)};
  if (f->world) f->bpe = dataset_train_bpe(f->world, 4000, 1000, &err);
  if (!f->bpe) TEST_FAIL_("%s", err.text);
  f->data = (Dataset){f->world, f->bpe, T, frames};
  return f->bpe != NULL;
}

static void close_fixture(Fixture *f) { bpe_free(f->bpe), world_close(f->world); }

TEST("a batch holds what the world shows and says") {
  Fixture f;
  REQUIRE(open_fixture(&f, WORLD_SINGLE, 1), "");
  static float images[N * VALUES];
  static int32_t text[N * T], labels[N * 1024], slots[N * DATASET_SLOTS];
  Error err;
  for (int split = WORLD_TRAIN; split <= WORLD_HELD_OUT; split++) {
    REQUIRE(dataset_fill(&f.data, (WorldSplit)split, 100, N, &(Batch){images, NULL, text, labels, slots}, &err), "%s",
            err.text);
    for (int i = 0; i < N; i++) {
      Scene s = world_scene(f.world, (WorldSplit)split, 100 + (uint64_t)i), t;
      uint8_t rgb[VALUES];
      uint16_t map[1024];
      world_render(f.world, &s, 0, rgb, map);
      int off = 0;
      for (int k = 0; k < VALUES; k++) off += images[i * VALUES + k] != (float)rgb[k] * (2.0f / 255.0f) - 1.0f;
      for (int k = 0; k < 1024; k++) off += labels[i * 1024 + k] != map[k];
      EXPECT(off == 0, "example %d: %d values differ", i, off);
      EXPECT(slots[4 * i] == s.part[0].thing && slots[4 * i + 1] == s.background &&
                 slots[4 * i + 2] == s.part[0].place && slots[4 * i + 3] == 0,
             "example %d", i);
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

TEST("batches do not depend on where they begin, and pixels equal images") {
  Fixture f;
  REQUIRE(open_fixture(&f, WORLD_SINGLE, 1), "");
  static float a[N * VALUES], b[N * VALUES];
  static uint8_t pixels[N * VALUES];
  Error err;
  REQUIRE(dataset_fill(&f.data, WORLD_TRAIN, 7, N, &(Batch){.images = a, .pixels = pixels}, &err), "%s", err.text);
  for (int i = 0; i < N; i++)
    REQUIRE(dataset_fill(&f.data, WORLD_TRAIN, 7 + (uint64_t)i, 1, &(Batch){.images = b + i * VALUES}, &err), "%s",
            err.text);
  EXPECT(!memcmp(a, b, sizeof a), "");
  int off = 0;
  for (int i = 0; i < N * VALUES; i++) off += a[i] != (float)pixels[i] * (2.0f / 255.0f) - 1.0f;
  EXPECT(off == 0, "%d", off);
  close_fixture(&f);
}

typedef struct Loader {
  const Dataset *data;
  float *images;
  int32_t *text;
  bool ok;
} Loader;

static void *load(void *arg) {
  Loader *l = arg;
  Error err;
  l->ok = true;
  for (int round = 0; round < 20; round++)
    l->ok &= dataset_fill(l->data, WORLD_TRAIN, 40, N, &(Batch){.images = l->images, .text = l->text}, &err);
  return NULL;
}

TEST("two threads fill the same batch at once and both get it right") {
  Fixture f;
  REQUIRE(open_fixture(&f, WORLD_SINGLE, 1), "");
  static float a[N * VALUES], b[N * VALUES];
  static int32_t at[N * T], bt[N * T];
  Loader loaders[2] = {{&f.data, a, at, false}, {&f.data, b, bt, false}};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) REQUIRE(!pthread_create(&threads[i], NULL, load, &loaders[i]), "");
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  EXPECT(loaders[0].ok && loaders[1].ok && !memcmp(a, b, sizeof a) && !memcmp(at, bt, sizeof at), "");
  close_fixture(&f);
}

TEST("clips have eight frames and stills among them stand still") {
  Fixture f;
  REQUIRE(open_fixture(&f, WORLD_SINGLE | WORLD_CLIPS, WORLD_FRAMES), "");
  static uint8_t pixels[N * WORLD_FRAMES * VALUES];
  int32_t slots[N * DATASET_SLOTS];
  Error err;
  REQUIRE(dataset_fill(&f.data, WORLD_TRAIN, 0, N, &(Batch){.pixels = pixels, .slots = slots}, &err), "%s", err.text);
  EXPECT(dataset_image_values(&f.data) == WORLD_FRAMES * VALUES, "");
  int moving = 0;
  for (int i = 0; i < N; i++) {
    uint8_t *clip = pixels + i * WORLD_FRAMES * VALUES;
    bool differs = memcmp(clip, clip + 2 * VALUES, VALUES) != 0;
    EXPECT(differs == (slots[DATASET_SLOTS * i + SLOT_MOTION] != MOTION_NONE), "example %d", i);
    moving += differs;
  }
  EXPECT(moving > 4 && moving < 20, "%d", moving);
  close_fixture(&f);
}

TEST("running out of memory is reported") {
  Fixture f;
  REQUIRE(open_fixture(&f, WORLD_SINGLE, 1), "");
  int32_t text[T];
  uint8_t pixels[VALUES];
  Error err;
  int failures = 0;
  for (uint64_t k = 1; k < 10; k++) {
    mem_fail_at(k);
    bool ok = dataset_fill(&f.data, WORLD_TRAIN, 0, 1, &(Batch){.pixels = pixels, .text = text}, &err);
    mem_fail_at(0);
    failures += !ok;
    if (!ok) EXPECT(err.code == ERROR_MEMORY, "%s", err.text);
  }
  EXPECT(failures >= 3, "%d", failures);
  close_fixture(&f);
}

TEST_MAIN()
