/* The sheet of a scoring, and its figures. */
#include "synth/score_figures.h"
#include "tests/test.h"

enum { COUNT = 5, COLUMNS = 2 };

typedef struct Case {
  Arena *arena;
  Scores s;
  Image sheet;
  Error err;
  bool ok;
} Case;

/* Pictures of one pixel, whose value is 50 times the row's number and the scene's. */
static void make_sheet(void *ctx) {
  Case *c = ctx;
  c->s = (Scores){.count = COUNT, .size = 1, .frames = 1};
  for (int row = 0; row < SCORE_SHUFFLED; row++) {
    c->s.rgb[row] = arena_alloc(c->arena, 3 * COUNT);
    for (int i = 0; i < 3 * COUNT; i++) c->s.rgb[row][i] = (uint8_t)(50 * row + i / 3);
  }
  c->ok = score_sheet(&c->s, COLUMNS, c->arena, &c->sheet, &c->err);
}

TEST("a sheet has rows of truths, reconstructions and drawings, of the scenes that fill their rows") {
  Case c = {.arena = arena_new()};
  REQUIRE(c.arena && arena_protect(c.arena, make_sheet, &c, &c.err) && c.ok, "%s", c.err.text);
  static const int want[][COLUMNS] = {{0, 1}, {50, 51}, {100, 101}, {2, 3}, {52, 53}, {102, 103}};
  int side = 2, gap = 2;   /* of a picture, and between */
  EXPECT(c.sheet.width == gap + COLUMNS * (side + gap) && c.sheet.height == gap + COUNT_OF(want) * (side + gap),
         "%d x %d", c.sheet.width, c.sheet.height);
  for (int y = 0; y < COUNT_OF(want); y++)
    for (int x = 0; x < COLUMNS; x++) {
      int at = (gap + y * (side + gap)) * c.sheet.width + gap + x * (side + gap);
      EXPECT(c.sheet.rgb[3 * at] == want[y][x], "row %d, scene %d: %d", y, x, c.sheet.rgb[3 * at]);
    }
  image_done(&c.sheet);
  arena_free(c.arena);
}

/* Scores of s2v, four scenes, of which one drawing is right. */
static void name_metrics(void *ctx) {
  Case *c = ctx;
  Metric metric[SCORE_FIGURES];
  Buffer b = {0};
  c->s = (Scores){.task = score_task("s2v"), .has_frechet = true};
  c->s.row[SCORE_DRAWN] = (ScoreRow){.slots = {.n = 4, .thing = 3, .place = 4, .background = 2, .motion = 1, .all = 1},
                                     .moves = 2, .frechet = 1.5};
  int n = score_metrics(&c->s, c->arena, metric);
  for (int i = 0; i < n; i++) buffer_printf(&b, "%s %g\n", metric[i].name, metric[i].value);
  EXPECT_TEXT(b.data, "s2v.thing 75\ns2v.place 100\ns2v.background 50\ns2v.motion 25\ns2v.moves 50\ns2v.all 25\n"
                      "s2v.frechet 1.5\n");
  buffer_done(&b);
  c->ok = n && score_figure_of_metric(metric[0].name) == score_figure(FIGURE_THING);
}

TEST("drawings give a metric for each figure that their task has, by whose name it is known again") {
  Case c = {.arena = arena_new()};
  REQUIRE(c.arena && arena_protect(c.arena, name_metrics, &c, &c.err) && c.ok, "%s", c.err.text);
  const ScoreFigure *f = score_figure_of_metric("tv2v.frechet");
  EXPECT(f == score_figure(FIGURE_FRECHET) && f->less_is_better, "");
  static const char *const others[] = {"loss", "val.loss", "s2v", "s2v.", "s2v.loss", "held.thing", "s2v.thing.x"};
  for (int i = 0; i < COUNT_OF(others); i++) EXPECT(!score_figure_of_metric(others[i]), "%s", others[i]);
  arena_free(c.arena);
}

TEST_MAIN()
