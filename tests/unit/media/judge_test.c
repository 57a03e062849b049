
#include "media/judge.h"
#include "runtime/base/hooks.h"
#include "runtime/base/memory.h"
#include "runtime/base/philox.h"
#include "tests/test.h"

/* Things of two sizes that stand up to a pixel off: more than the default world has. */
static void varied_options(WorldOptions *o) {
  world_options_init(o);
  o->thing_max = 18;
  o->jitter = 1;
}

/* Judges n held-out scenes whose values get noise of +-`noise`. */
static SlotScore judge_scenes(World *w, int n, int noise) {
  Error err;
  SlotScore score = {0};
  Judge *j = judge_new(w, &err);
  if (!j) {
    TEST_FAIL_("%s", err.text);
    return score;
  }
  uint8_t rgb[32 * 32 * 3];
  for (int i = 0; i < n; i++) {
    Scene s = world_held_out_scene(w, (uint64_t)i);
    world_render(w, &s, 0, rgb, NULL);
    for (int k = 0; k < (noise ? 3072 : 0); k++) {
      int v = rgb[k] + (int)(philox(5, (uint32_t)k, (uint32_t)i, STREAM_TEST).word[0] % (uint32_t)(2 * noise + 1)) -
              noise;
      rgb[k] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
    Judgement got = judge_picture(j, rgb);
    judge_count(&got, &s, &score);
    if (!noise) {
      EXPECT(got.scene.part[0].size == s.part[0].size && got.scene.part[0].dx == s.part[0].dx && got.scene.part[0].dy == s.part[0].dy, "scene %d", i);
      EXPECT(got.error < 0.5, "scene %d: %g", i, got.error);
    }
  }
  judge_free(j);
  return score;
}

/* Instrumented code takes ten times as long. */
#ifdef __SANITIZE_THREAD__
enum { SCENES = 64 };
#else
enum { SCENES = 256 };
#endif

static World *open_world(int things) {
  WorldOptions o;
  Error err;
  varied_options(&o);
  o.things = things;
  World *w = world_open(&o, &err);
  if (!w) TEST_FAIL_("%s", err.text);
  return w;
}

TEST("things on textures are found, whatever their place, and so is the texture") {
  WorldOptions o;
  Error err;
  varied_options(&o);
  o.size = 64, o.thing_min = 22, o.thing_max = 24, o.things = 16, o.kinds = WORLD_SINGLE | WORLD_TEXTURED;
  World *w = world_open(&o, &err);
  Judge *j = w ? judge_new(w, &err) : NULL;
  EXPECT(j, "%s", err.text);
  int textured = 0;
  uint8_t *rgb = mem_alloc(64 * 64 * 3);
  for (uint64_t i = 0; j && rgb && i < 64; i++) {
    Scene s = world_held_out_scene(w, i);
    world_render(w, &s, 0, rgb, NULL);
    Judgement got = judge_picture(j, rgb);
    textured += s.background >= WORLD_COLOURS;
    EXPECT(got.scene.part[0].thing == s.part[0].thing && got.scene.part[0].place == s.part[0].place && got.scene.background == s.background, "scene %d", (int)i);
    EXPECT(got.scene.part[0].dx == s.part[0].dx && got.scene.part[0].dy == s.part[0].dy && got.error < 0.5, "scene %d: error %g", (int)i, got.error);
  }
  EXPECT(textured > 10, "%d of 64", textured);
  mem_free(rgb);
  judge_free(j);
  world_close(w);
}

TEST("clips of recoloured things are judged right in every slot, their motion too") {
  WorldOptions o;
  Error err;
  varied_options(&o);
  o.size = 64, o.thing_min = 22, o.thing_max = 24, o.things = 24;
  o.kinds = WORLD_SINGLE | WORLD_CLIPS | WORLD_RECOLOUR | WORLD_TEXTURED;
  World *w = world_open(&o, &err);
  Judge *j = w ? judge_new(w, &err) : NULL;
  EXPECT(j, "%s", err.text);
  SlotScore score = {0};
  enum { CLIPS = 24, BYTES = 64 * 64 * 3 };
  uint8_t *rgb = mem_alloc(WORLD_FRAMES * BYTES);
  for (uint64_t i = 0; j && rgb && i < CLIPS; i++) {
    Scene s = world_held_out_scene(w, i);
    for (int f = 0; f < WORLD_FRAMES; f++) world_render(w, &s, f, rgb + f * BYTES, NULL);
    Judgement got = judge_clip(j, rgb);
    judge_count(&got, &s, &score);
    EXPECT(got.error < 0.5, "clip %d: %g", (int)i, got.error);
  }
  EXPECT(score.n == CLIPS && score.all == CLIPS, "thing %d, place %d, background %d, colour %d, motion %d of %d", score.thing,
         score.place, score.background, score.colour, score.motion, CLIPS);
  mem_free(rgb);
  judge_free(j);
  world_close(w);
}

TEST("true renderings are judged right in every slot, 98 of 100 at least") {
  World *w = open_world(64);
  REQUIRE(w, "");
  SlotScore s = judge_scenes(w, SCENES, 0);
  EXPECT(s.n == SCENES && 100 * s.thing >= 98 * SCENES && 100 * s.place >= 98 * SCENES && 100 * s.background >= 98 * SCENES,
         "%d: thing %d, place %d, background %d", s.n, s.thing, s.place, s.background);
  world_close(w);
}

TEST("128 things under strong noise are still told apart") {
  World *w = open_world(128);
  REQUIRE(w, "");
  SlotScore s = judge_scenes(w, 64, 60);
  EXPECT(s.thing >= 63 && s.place >= 63 && s.background >= 63, "thing %d, place %d, background %d of 64", s.thing,
         s.place, s.background);
  world_close(w);
}

TEST("the error is the mean squared difference from the rendering found") {
  World *w = open_world(64);
  REQUIRE(w, "");
  Error err;
  Judge *j = judge_new(w, &err);
  REQUIRE(j, "%s", err.text);
  uint8_t a[3072], b[3072];
  for (int k = 0; k < 3072; k++) a[k] = (uint8_t)(philox(9, (uint32_t)k, 0, STREAM_TEST).word[0] >> 24);
  Judgement got = judge_picture(j, a);
  Scene s = {.n_things = 1, .background = got.scene.background};
  s.part[0] = (SceneThing){
      .thing = got.scene.part[0].thing, .colour = -1, .place = got.scene.part[0].place, .size = got.scene.part[0].size, .dx = got.scene.part[0].dx, .dy = got.scene.part[0].dy};
  world_render(w, &s, 0, b, NULL);
  double sum = 0;
  for (int k = 0; k < 3072; k++) sum += (a[k] - b[k]) * (a[k] - b[k]);
  EXPECT(sum / 3072 - got.error < 1 && got.error - sum / 3072 < 1, "%g and %g", got.error, sum / 3072);
  judge_free(j), world_close(w);
}

TEST("scenes shuffled against each other score by chance only") {
  World *w = open_world(64);
  REQUIRE(w, "");
  Error err;
  Judge *j = judge_new(w, &err);
  REQUIRE(j, "%s", err.text);
  SlotScore score = {0};
  uint8_t rgb[3072];
  for (uint64_t i = 0; i < 256; i++) {
    Scene s = world_held_out_scene(w, i), other = world_held_out_scene(w, (i + 1) % 256);
    world_render(w, &s, 0, rgb, NULL);
    Judgement got = judge_picture(j, rgb);
    judge_count(&got, &other, &score);
  }
  EXPECT(score.thing < 20 && score.place < 60 && score.background < 60, "%d %d %d", score.thing, score.place,
         score.background);
  judge_free(j), world_close(w);
}

TEST("a judge that finds no memory says so") {
  World *w = open_world(8);
  REQUIRE(w, "");
  Error err;
  for (uint64_t k = 1; k <= 5; k++) {
    mem_fail_at(k);
    Judge *j = judge_new(w, &err);
    mem_fail_at(0);
    EXPECT(!j && err.code == ERROR_MEMORY, "allocation %d", (int)k);
    judge_free(j);
  }
  world_close(w);
}

TEST_MAIN()
