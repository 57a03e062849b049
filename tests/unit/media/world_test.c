#include <math.h>

#include "media/world_internal.h"
#include "runtime/base/file.h"
#include "runtime/base/hooks.h"
#include "tests/test.h"

/* Things of two sizes that stand up to a pixel off: more than the default world has. */
static void varied_options(WorldOptions *o) {
  world_options_init(o);
  o->thing_max = 18;
  o->jitter = 1;
}

static World *open_world(int things, unsigned kinds) {
  WorldOptions o;
  Error err;
  varied_options(&o);
  o.things = things;
  o.kinds = kinds;
  World *w = world_open(&o, &err);
  if (!w) TEST_FAIL_("%s", err.text);
  return w;
}

enum { EVERYTHING = WORLD_SINGLE | WORLD_TWO | WORLD_CLIPS | WORLD_RECOLOUR | WORLD_SIZED | WORLD_TEXTURED, PIXELS = 32 * 32 };

static double square(double x) { return x * x; }

/* Root mean square difference of two things of 16 pixels, alpha included. */
static double thing_distance(const World *w, int i, int j) {
  const Sprite *a = world_sprite(w, i, 16), *b = world_sprite(w, j, 16);
  double sum = 0;
  for (int k = 0; k < 768; k++) sum += square(a->rgb[k] - b->rgb[k]);
  for (int k = 0; k < 256; k++) sum += square(a->alpha[k] - b->alpha[k]);
  return sqrt(sum / 1024);
}

TEST("the chosen things differ from each other and from every background") {
  World *w = open_world(128, WORLD_SINGLE);
  REQUIRE(w, "");
  for (int i = 0; i < 128; i++) {
    for (int j = 0; j < i; j++) {
      double d = thing_distance(w, i, j);
      EXPECT(d > (i < 64 ? 50 : 40), "%s and %s: %.1f", world_thing_name(w, i), world_thing_name(w, j), d);
      EXPECT(strcmp(world_thing_name(w, i), world_thing_name(w, j)), "%s", world_thing_name(w, i));
    }
    const Sprite *s = world_sprite(w, i, 16);
    for (int c = 0; c < WORLD_COLOURS; c++) {
      double sum = 0;
      for (int k = 0; k < 768; k++) sum += square(s->rgb[k] - s->alpha[k / 3] / 255.0 * world_colour_rgb(c)[k % 3]);
      EXPECT(sqrt(sum / 768) > (i < 64 ? 25 : 14), "%s on %s: %.1f", world_thing_name(w, i), world_colour_name(c),
             sqrt(sum / 768));
    }
  }
  world_close(w);
}

TEST("backgrounds are clearly distinct") {
  for (int i = 0; i < WORLD_COLOURS; i++)
    for (int j = 0; j < i; j++) {
      double d = 0;
      for (int c = 0; c < 3; c++) d += square(world_colour_rgb(i)[c] - world_colour_rgb(j)[c]);
      EXPECT(sqrt(d) > 90, "%s and %s: %.0f", world_colour_name(i), world_colour_name(j), sqrt(d));
    }
}

TEST("a world of all things has some eight hundred, the first of them the same as in a small world") {
  World *all = open_world(0, WORLD_SINGLE), *few = open_world(20, WORLD_SINGLE);
  REQUIRE(all && few, "");
  EXPECT(world_thing_count(all) > 700 && world_thing_count(all) < 1100, "%d", world_thing_count(all));
  EXPECT(world_thing_count(few) == 20, "");
  for (int i = 0; i < 20; i++) EXPECT_TEXT(world_thing_name(few, i), world_thing_name(all, i));
  for (int i = 0; i < world_thing_count(all); i++)
    EXPECT(!strstr(world_thing_name(all, i), "clock"), "%s", world_thing_name(all, i));
  world_close(all), world_close(few);
}

TEST("a scene is a function of seed and index, in any order, and seeds differ") {
  World *w = open_world(64, EVERYTHING), *v = open_world(64, EVERYTHING);
  REQUIRE(w && v, "");
  static uint8_t a[3 * PIXELS], b[3 * PIXELS];
  for (int i = 0; i < 300; i++) {
    Scene s = world_scene(w, WORLD_TRAIN, (uint64_t)(299 - i) << (i % 3 * 16)),
          t = world_scene(v, WORLD_TRAIN, (uint64_t)(299 - i) << (i % 3 * 16));
    world_render(w, &s, 0, a, NULL), world_render(v, &t, 0, b, NULL);
    EXPECT(!memcmp(&s, &t, sizeof s) && !memcmp(a, b, sizeof a), "%d", i);
  }
  v->options.seed = 2;
  int equal = 0;
  for (uint64_t i = 0; i < 300; i++) {
    Scene s = world_scene(w, WORLD_TRAIN, i), t = world_scene(v, WORLD_TRAIN, i),
          u = world_scene(w, WORLD_VALIDATION, i);
    equal += s.part[0].thing == t.part[0].thing;
    equal += s.part[0].thing == u.part[0].thing;
  }
  EXPECT(equal < 40, "%d of 600 things equal", equal);
  world_close(w), world_close(v);
}

TEST("training never shows a held-out pair, held-out scenes always do, about one pair in eight is held out") {
  World *w = open_world(64, WORLD_SINGLE);
  REQUIRE(w, "");
  static int seen[64][WORLD_COLOURS], held_seen[64][WORLD_COLOURS];
  for (uint64_t i = 0; i < 40000; i++) {
    Scene s = world_scene(w, i % 4 ? WORLD_TRAIN : WORLD_VALIDATION, i), h = world_held_out_scene(w, i);
    seen[s.part[0].thing][s.background]++;
    held_seen[h.part[0].thing][h.background]++;
  }
  int held = 0, by_background[WORLD_COLOURS] = {0};
  for (int t = 0; t < 64; t++) {
    int of_thing = 0;
    for (int b = 0; b < WORLD_COLOURS; b++) {
      bool out = world_pair_held_out(w, PAIR_BACKGROUND, t, b);
      EXPECT(out ? !seen[t][b] && held_seen[t][b] : seen[t][b] && !held_seen[t][b], "%s on %s: %d, %d",
             world_thing_name(w, t), world_colour_name(b), seen[t][b], held_seen[t][b]);
      held += out, of_thing += out, by_background[b] += out;
    }
    EXPECT(of_thing >= 1 && of_thing <= 2, "%s: %d", world_thing_name(w, t), of_thing);
  }
  EXPECT(held >= 64 && held <= 96, "%d of 640", held);
  for (int b = 0; b < WORLD_COLOURS; b++)
    EXPECT(by_background[b] < 24, "%s: %d", world_colour_name(b), by_background[b]);
  world_close(w);
}

TEST("with all kinds of scenes the rule holds for every kind of pair") {
  World *w = open_world(96, EVERYTHING);
  REQUIRE(w, "");
  int kinds[3] = {0};
  for (uint64_t i = 0; i < 20000; i++) {
    Scene s = world_scene(w, WORLD_TRAIN, i), h = world_held_out_scene(w, i);
    EXPECT(!world_scene_held_out(w, &s) && world_scene_held_out(w, &h), "%d", (int)i);
    kinds[s.motion ? 2 : s.n_things - 1]++;
    for (int k = 0; k < s.n_things; k++) EXPECT(s.part[k].colour != s.background, "%d", (int)i);
  }
  for (int k = 0; k < 3; k++) EXPECT(kinds[k] > 2500, "kind %d: %d of 20000", k, kinds[k]);
  world_close(w);
}

/* n captions of a world, there and back. */
static void parse_back(World *w, uint64_t n) {
  char text[WORLD_CAPTION_BYTES];
  Error err;
  for (uint64_t i = 0; i < n; i++) {
    Scene s = world_scene(w, i % 2 ? WORLD_TRAIN : WORLD_HELD_OUT, i), t;
    int len = world_caption(w, &s, text);
    EXPECT(len == (int)strlen(text) && len < WORLD_CAPTION_BYTES - 1, "%d", len);
    REQUIRE(world_parse_caption(w, text, &t, &err), "%s: %s", text, err.text);
    EXPECT(t.n_things == s.n_things && t.background == s.background && t.motion == s.motion &&
               t.phrasing == s.phrasing,
           "%s", text);
    for (int k = 0; k < s.n_things; k++)
      EXPECT(t.part[k].thing == s.part[k].thing && t.part[k].place == s.part[k].place &&
                 t.part[k].colour == s.part[k].colour && t.part[k].size_word == s.part[k].size_word,
             "%s", text);
  }
}

TEST("of a pair the first moves and the second is never in its way") {
  World *w = open_world(48, WORLD_PAIRS);
  REQUIRE(w, "");
  int motions[MOTION_COUNT] = {0};
  for (uint64_t i = 0; i < 4000; i++) {
    Scene s = world_scene(w, i % 2 ? WORLD_TRAIN : WORLD_HELD_OUT, i);
    EXPECT(s.n_things == 2 && world_scene_frames(&s) == WORLD_FRAMES && world_scene_is_settled(&s), "scene %d", (int)i);
    motions[s.motion]++;
    for (int f = 0; f < WORLD_FRAMES; f++) {
      int x[2], y[2], size[2];
      for (int k = 0; k < 2; k++) world_box(w, &s, k, f, &x[k], &y[k], &size[k]);
      bool apart = x[0] + size[0] <= x[1] || x[1] + size[1] <= x[0] || y[0] + size[0] <= y[1] || y[1] + size[1] <= y[0];
      EXPECT(apart, "scene %d, %s, frame %d", (int)i, world_motion_name(s.motion), f);
    }
  }
  for (int m = 1; m < MOTION_COUNT; m++)
    EXPECT(motions[m] > 100 || m == MOTION_DIAGONAL, "%s: %d of 4000", world_motion_name((Motion)m), motions[m]);
  parse_back(w, 400);
  world_close(w);
}

TEST("things, backgrounds, places, sizes and phrasings are spread evenly") {
  World *w = open_world(64, WORLD_SINGLE);
  REQUIRE(w, "");
  int things[64] = {0}, grounds[WORLD_COLOURS] = {0}, places[9] = {0}, sizes[2] = {0}, phrasings[4] = {0};
  for (uint64_t i = 0; i < 64000; i++) {
    Scene s = world_scene(w, WORLD_TRAIN, i);
    things[s.part[0].thing]++, grounds[s.background]++, places[s.part[0].place]++;
    sizes[(s.part[0].size - 16) / 2]++, phrasings[s.phrasing]++;
  }
  for (int i = 0; i < 64; i++)
    EXPECT(things[i] > 700 && things[i] < 1300, "%s: %d", world_thing_name(w, i), things[i]);
  for (int i = 0; i < WORLD_COLOURS; i++) EXPECT(grounds[i] > 4500 && grounds[i] < 8500, "%d", grounds[i]);
  for (int i = 0; i < 9; i++) EXPECT(places[i] > 6500 && places[i] < 7700, "%d", places[i]);
  EXPECT(sizes[0] > 31000 && sizes[1] > 31000, "%d %d", sizes[0], sizes[1]);
  for (int i = 0; i < 4; i++) EXPECT(phrasings[i] > 15200, "%d", phrasings[i]);
  world_close(w);
}

TEST("places touch the borders, stay inside, and no two share a position") {
  World *w = open_world(64, WORLD_SINGLE);
  REQUIRE(w, "");
  for (int size = 16; size <= 18; size += 2) {
    int last = -1;
    for (int cell = 0; cell < 3; cell++)
      for (int d = 0; d <= 1; d++) {
        int at = world_axis_position(w, size, cell, d);
        EXPECT(at > last && at + size <= 32, "size %d cell %d: %d", size, cell, at);
        last = at;
      }
    EXPECT(world_axis_position(w, size, 0, 0) == 0 && last + size == 32, "size %d ends at %d", size, last + size);
    int middle = world_axis_position(w, size, 1, 0);
    EXPECT(middle + 1 == (32 - size) / 2, "size %d: %d is not the middle", size, middle);
  }
  world_close(w);
}

TEST("every frame of every motion stays inside and the label map shows the thing where it is") {
  World *w = open_world(64, EVERYTHING);
  REQUIRE(w, "");
  static uint8_t rgb[3 * PIXELS];
  static uint16_t labels[PIXELS];
  int motions[MOTION_COUNT] = {0};
  for (uint64_t i = 0; i < 3000; i++) {
    Scene s = world_scene(w, WORLD_TRAIN, i);
    motions[s.motion]++;
    for (int f = 0; f < world_scene_frames(&s); f++) {
      int x, y, size, inside = 0, shown = 0;
      for (int p = 0; p < s.n_things; p++) {
        world_box(w, &s, p, f, &x, &y, &size);
        EXPECT(x >= 0 && y >= 0 && x + size <= 32 && y + size <= 32, "%s: %d %d %d", world_motion_name(s.motion), x,
               y, size);
      }
      world_render(w, &s, f, rgb, labels);
      world_box(w, &s, 0, f, &x, &y, &size);
      for (int k = 0; k < PIXELS; k++) {
        bool in = k % 32 >= x && k % 32 < x + size && k / 32 >= y && k / 32 < y + size;
        shown += labels[k] == 1 + s.part[0].thing;
        inside += in && labels[k] == 1 + s.part[0].thing;
        const uint8_t *ground = world_background_rgb(s.background, k % 32, k / 32);
        if (!in && s.n_things == 1)
          EXPECT(labels[k] == 0 && !memcmp(rgb + 3 * k, ground, 3), "scene %d pixel %d", (int)i, k);
      }
      EXPECT(shown == inside && shown > (size >= 14 ? 20 : 4), "%s %s: %d of %d",
             world_thing_name(w, s.part[0].thing), world_motion_name(s.motion), inside, shown);
    }
  }
  for (int m = 0; m < MOTION_COUNT; m++) EXPECT(motions[m] > 50, "%s: %d", world_motion_name((Motion)m), motions[m]);
  world_close(w);
}

TEST("motions do what their names say") {
  World *w = open_world(64, WORLD_CLIPS);
  REQUIRE(w, "");
  for (int m = 1; m < MOTION_COUNT; m++) {
    Scene s = {.n_things = 1, .motion = (Motion)m};
    s.part[0] = (SceneThing){.colour = -1, .size = 16, .place = m == MOTION_BOUNCE ? 7 : 4};
    int x0, y0, s0, x1, y1, s1;
    world_box(w, &s, 0, 0, &x0, &y0, &s0), world_box(w, &s, 0, 7, &x1, &y1, &s1);
    int across = m == MOTION_LEFT ? -16 : m == MOTION_RIGHT || m == MOTION_DIAGONAL ? 16 : 0;
    int down = m == MOTION_UP ? -16 : m == MOTION_DOWN || m == MOTION_DIAGONAL ? 16 : m == MOTION_BOUNCE ? -12 : 0;
    int grown = m == MOTION_GROW ? 8 : m == MOTION_SHRINK ? -8 : 0;
    EXPECT(x1 - x0 + (s1 - s0) / 2 == across && y1 - y0 + (s1 - s0) / 2 == down && s1 - s0 == grown, "%s: %d %d %d",
           world_motion_name((Motion)m), x1 - x0, y1 - y0, s1 - s0);
  }
  Scene s = {.n_things = 1, .motion = MOTION_TURN, .background = COLOUR_WHITE};
  s.part[0] = (SceneThing){.thing = 2, .colour = -1, .size = 18, .place = 4};
  static uint8_t a[3 * PIXELS], b[3 * PIXELS];
  world_render(w, &s, 0, a, NULL), world_render(w, &s, 4, b, NULL);
  int x, y, size, off = 0;
  world_box(w, &s, 0, 0, &x, &y, &size);
  for (int k = 0; k < size * size; k++) /* half a turn is a point reflection */
    for (int c = 0; c < 3; c++) {
      int p = 3 * ((y + k / size) * 32 + x + k % size) + c;
      int q = 3 * ((y + size - 1 - k / size) * 32 + x + size - 1 - k % size) + c;
      off += abs(a[p] - b[q]) > 3;
    }
  EXPECT(off < size * size * 3 / 50, "%d values differ", off);
  world_close(w);
}

TEST("captions parse back into the slots they were made from") {
  World *all = open_world(0, EVERYTHING & ~(unsigned)WORLD_CLIPS), *clips = open_world(128, EVERYTHING);
  REQUIRE(all && clips, "");
  parse_back(all, 8000);
  parse_back(clips, 8000);
  world_close(all), world_close(clips);
}

/* Is the word (n bytes) between spaces of the list? */
static bool has_word(const char *list, const char *word, size_t n) {
  for (const char *p = list; (p = strstr(p, word)) != NULL; p++) {
    if ((p == list || p[-1] == ' ') && (p[n] == ' ' || !p[n])) return true;
  }
  return false;
}

TEST("the words of a world are all that its captions have, and no more than that") {
  World *all = open_world(96, EVERYTHING), *single = open_world(64, WORLD_SINGLE);
  REQUIRE(all && single, "");
  Buffer words = {0}, few = {0};
  world_words(all, &words);
  world_words(single, &few);
  REQUIRE(words.data && few.data, "");
  for (uint64_t i = 0; i < 3000; i++) {
    char caption[WORLD_CAPTION_BYTES];
    Scene s = world_scene(all, i % 2 ? WORLD_TRAIN : WORLD_HELD_OUT, i);
    world_caption(all, &s, caption);
    for (char *word = strtok(caption, " ,"); word; word = strtok(NULL, " ,"))
      EXPECT(has_word(words.data, word, strlen(word)), "no \"%s\"", word);
  }
  EXPECT(has_word(words.data, "moving", 6) && has_word(words.data, "little", 6) && has_word(few.data, "panda", 5), "%s",
         few.data);
  EXPECT(!has_word(few.data, "moving", 6) && !has_word(few.data, "little", 6) && !has_word(few.data, "and", 3), "%s",
         few.data);
  buffer_done(&words), buffer_done(&few);
  world_close(all), world_close(single);
}

TEST("a world's digest tells things, pictures and options apart") {
  World *a = open_world(8, WORLD_SINGLE), *b = open_world(9, WORLD_SINGLE), *c = open_world(8, WORLD_TWO),
        *d = open_world(8, WORLD_SINGLE);
  REQUIRE(a && b && c && d, "");
  char x[65], y[65], z[65], same[65];
  world_digest(a, x), world_digest(b, y), world_digest(c, z), world_digest(d, same);
  EXPECT(strcmp(x, y) && strcmp(x, z) && strcmp(y, z), "%s %s %s", x, y, z);
  EXPECT_TEXT(x, same);
  world_close(a), world_close(b), world_close(c), world_close(d);
}

TEST("captions read well and are read leniently") {
  World *w = open_world(128, EVERYTHING);
  REQUIRE(w, "");
  char text[WORLD_CAPTION_BYTES];
  Error err;
  Scene s = {.n_things = 1, .background = COLOUR_BLUE};
  REQUIRE(world_parse_caption(w, "An Octopus in the top left on blue.", &s, &err), "%s", err.text);
  world_caption(w, &s, text);
  EXPECT_TEXT(text, "an octopus at the top left on a blue background");
  REQUIRE(world_parse_caption(w, "on a pink background , some jeans at the center", &s, &err), "%s", err.text);
  s.phrasing = 1;
  world_caption(w, &s, text);
  EXPECT_TEXT(text, "a picture of some jeans at the center on pink");
  REQUIRE(world_parse_caption(w, "red with a unicorn growing at the right", &s, &err), "%s", err.text);
  world_caption(w, &s, text);
  EXPECT_TEXT(text, "a red background with a unicorn growing at the right");
  world_close(w);
}

TEST("captions outside the grammar are refused with what was expected where") {
  World *w = open_world(64, WORLD_SINGLE);
  REQUIRE(w, "");
  static const char *const cases[][2] = {
      {"", "the name of a thing expected at \"(end)\""},
      {"a dinosaur at the top on red", "the name of a thing expected at \"dinosaur at"},
      {"a fox on red", "\"at the\" and a place expected at \"on red"},
      {"a fox at the moon on red", "a place"},
      {"a fox at the top", "colour of the background"},
      {"a fox at the top on plaid", "a colour of the background expected at \"plaid"},
      {"a fox at the top on red and more", "nothing more expected at \"and more"},
  };
  Scene s;
  Error err;
  for (int i = 0; i < COUNT_OF(cases); i++) {
    EXPECT(!world_parse_caption(w, cases[i][0], &s, &err), "%s", cases[i][0]);
    EXPECT_HAS(err.text, cases[i][1]);
  }
  static char endless[5000];
  memset(endless, 'a', sizeof endless - 1);
  EXPECT(!world_parse_caption(w, endless, &s, &err), "");
  EXPECT_HAS(err.text, "longer than");
  world_close(w);
}

TEST("random words never harm the reader of captions, nor damaged names that of the world") {
  World *w = open_world(128, EVERYTHING);
  REQUIRE(w, "");
  static const char *const words[] = {"a",      "on",         "at the", "red",     "background", "with",
                                      "fox",    "top",        "left",   "and",     "in",         "little",
                                      "moving", "picture of", "light",  "growing", "blue,",      "\xff"};
  Error err;
  Scene s;
  uint32_t x = 3;
  int parsed = 0;
  for (int round = 0; round < 20000; round++) {
    char text[400] = "";
    for (int i = 0; i < 9; i++) {
      x = x * 1664525u + 1013904223u;
      strcat(text, words[(x >> 16) % COUNT_OF(words)]);
      strcat(text, " ");
    }
    parsed += world_parse_caption(w, text, &s, &err);
  }
  EXPECT(parsed < 20000, "%d", parsed);
  world_close(w);
  size_t len;
  char *names = file_read("/usr/share/unicode/emoji/emoji-test.txt", &len, &err);
  REQUIRE(names, "%s", err.text);
  for (int round = 0; round < 40; round++) {
    for (int i = 0; i < 2000; i++) {
      x = x * 1664525u + 1013904223u;
      names[x % len] = (char)(x >> 24);
    }
    REQUIRE(file_write_all("world_test.names", names, len, &err), "%s", err.text);
    ThingName *list = NULL;
    int n, fixed;
    if (things_read("world_test.names", &list, &n, &fixed, &err))
      EXPECT(n >= fixed, "%d", n);
    else
      EXPECT(err.code == ERROR_FORMAT, "%s", err.text);
    mem_free(list);
  }
  remove("world_test.names"), mem_free(names);
}

TEST("worlds that cannot be are refused with the reason") {
  WorldOptions o;
  Error err;
  varied_options(&o);
  o.thing_max = 30;
  EXPECT(!world_open(&o, &err), "");
  EXPECT_HAS(err.text, "leave no three places");
  varied_options(&o), o.thing_min = 8;
  EXPECT(!world_open(&o, &err), "");
  EXPECT_HAS(err.text, "at least 14");
  varied_options(&o), o.held_out = 1;
  EXPECT(!world_open(&o, &err), "");
  varied_options(&o), o.kinds = WORLD_SIZED;
  EXPECT(!world_open(&o, &err), "");
  varied_options(&o), o.things = 100000;
  EXPECT(!world_open(&o, &err), "");
  EXPECT_HAS(err.text, "there are only");
  varied_options(&o), o.names_path = "/dev/null";
  EXPECT(!world_open(&o, &err), "");
  EXPECT_HAS(err.text, "no emoji \"fox\"");
  varied_options(&o), o.font_path = "/etc/passwd";
  EXPECT(!world_open(&o, &err), "");
  EXPECT_HAS(err.text, "not a readable font");
  varied_options(&o), o.font_path = "/nowhere/at/all";
  EXPECT(!world_open(&o, &err), "");
}

TEST("a world that runs out of memory anywhere says so and leaks nothing") {
  WorldOptions o;
  Error err;
  varied_options(&o);
  o.things = 8;
  uint64_t before = mem_alloc_count();
  World *w = world_open(&o, &err);
  REQUIRE(w, "%s", err.text);
  uint64_t n = mem_alloc_count() - before;
  world_close(w);
  for (uint64_t k = 1; k <= n; k++) {
    mem_fail_at(k);
    w = world_open(&o, &err);
    mem_fail_at(0);
    EXPECT(!w && err.code == ERROR_MEMORY, "allocation %d of %d: %s", (int)k, (int)n, w ? "opened" : err.text);
    world_close(w);
  }
}

TEST_MAIN()

TEST("aligned things stand and move at multiples of align alone, and are judged right") {
  WorldOptions o;
  Error err;
  world_options_init(&o);
  o.size = 64, o.thing_min = 22, o.thing_max = 24, o.things = 8, o.jitter = 8, o.align = 8;
  o.kinds = WORLD_SINGLE | WORLD_TWO | WORLD_CLIPS | WORLD_PAIRS;
  World *w = world_open(&o, &err);
  REQUIRE(w, "%s", err.text);
  bool seen[64] = {0};
  for (uint64_t i = 0; i < 500; i++) {
    Scene s = world_scene(w, WORLD_TRAIN, i);
    bool resizes = s.motion == MOTION_GROW || s.motion == MOTION_SHRINK;
    for (int k = resizes; k < s.n_things; k++)
      for (int f = 0, x, y, size; f < world_scene_frames(&s); f++) {
        world_box(w, &s, k, f, &x, &y, &size);
        EXPECT(((x | y) & 7) == 0 && x + size <= 64 && y + size <= 64, "scene %d: %d, %d", (int)i, x, y);
        seen[x] = true;
      }
  }
  EXPECT(seen[0] && seen[8] && seen[16] && seen[24] && seen[32] && seen[40], "all columns are used");
  world_close(w);
  o.jitter = 4;
  EXPECT(!world_open(&o, &err) && strstr(err.text, "the jitter a multiple of it"), "%s", err.text);
  o.jitter = 0, o.align = 32;
  EXPECT(!world_open(&o, &err) && strstr(err.text, "no three places"), "%s", err.text);
}

TEST("sizes step as asked, and things are recoloured in the colours asked for alone") {
  WorldOptions o;
  Error err;
  world_options_init(&o);
  o.size = 64, o.thing_min = 16, o.thing_max = 24, o.size_step = 8, o.recolours = 4, o.things = 8;
  o.kinds = WORLD_SINGLE | WORLD_CLIPS | WORLD_RECOLOUR;
  World *w = world_open(&o, &err);
  REQUIRE(w, "%s", err.text);
  int sizes[2] = {0}, colours[1 + WORLD_COLOURS] = {0}, n_colours = 0;
  for (uint64_t i = 0; i < 400; i++) {
    SceneThing t = world_scene(w, WORLD_TRAIN, i).part[0];
    EXPECT(t.size == 16 || t.size == 24, "%d", t.size);
    sizes[t.size == 24]++;
    n_colours += colours[1 + t.colour]++ == 0;
  }
  EXPECT(sizes[0] > 150 && sizes[1] > 150, "%d, %d", sizes[0], sizes[1]);
  EXPECT(n_colours == 5 && colours[0] && colours[1 + COLOUR_RED] && colours[1 + COLOUR_YELLOW] && colours[1 + COLOUR_CYAN] &&
             colours[1 + COLOUR_PURPLE], "%d colours", n_colours);
  world_close(w);
  o.size_step = 3;
  EXPECT(!world_open(&o, &err) && strstr(err.text, "the last is missed"), "%s", err.text);
  o.size_step = 8, o.recolours = 9;
  EXPECT(!world_open(&o, &err) && strstr(err.text, "1 to 8"), "%s", err.text);
}
