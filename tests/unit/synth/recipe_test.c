/* Recipes: what they print, and whether weights go together. */
#include "synth/recipe.h"
#include "tests/test.h"

typedef struct Case {
  Arena *arena;
  Recipe r;
  const char *text;
} Case;

static void fill(void *ctx) {
  Case *c = ctx;
  Option option[] = {{.name = "dim", .value = {.kind = VALUE_INT, .integer = 64}},
                     {.name = "kind", .value = {.kind = VALUE_TEXT, .text = "a \"b\""}}};
  c->r = (Recipe){.arena = c->arena};
  recipe_set_real(&c->r, RECIPE_TEMPERATURE, 0.1);
  recipe_set_real(&c->r, RECIPE_GUIDANCE, 1.0 / 3.0);
  recipe_set_int(&c->r, RECIPE_SEED, 9000000000000000);
  recipe_set_text(&c->r, RECIPE_DATA, "world:clips");
  recipe_set_text(&c->r, RECIPE_TEXT, "a \"panda\"");
  recipe_set_text(&c->r, RECIPE_VQ, "abc");
  recipe_set_options(&c->r, RECIPE_OPTIONS, &(Options){.option = option, .n = 2});
}

static void print_run(void *ctx) {
  Case *c = ctx;
  fill(c);
  c->text = recipe_print(&c->r, RECIPE_RUN);
}

static void print_drawing(void *ctx) {
  Case *c = ctx;
  fill(c);
  c->text = recipe_print(&c->r, RECIPE_DRAWING);
}

static Case open_case(void (*body)(void *)) {
  Case c = {.arena = arena_new()};
  Error err;
  if (!c.arena || !arena_protect(c.arena, body, &c, &err)) abort();
  return c;
}

TEST("a run's recipe has what shapes runs, a drawing's what shapes drawings, and numbers are exact") {
  Case run = open_case(print_run), drawing = open_case(print_drawing);
  EXPECT_TEXT(run.text, "{\"options\": {\"dim\": \"64\", \"kind\": \"a \\\"b\\\"\"}, \"vq_sha256\": \"abc\", "
                        "\"data\": \"world:clips\", \"seed\": 9000000000000000}");
  EXPECT_TEXT(drawing.text, "{\"text\": \"a \\\"panda\\\"\", \"options\": {\"dim\": \"64\", \"kind\": "
                            "\"a \\\"b\\\"\"}, \"vq_sha256\": \"abc\", \"seed\": 9000000000000000, "
                            "\"temperature\": 0.1, \"guidance\": 0.3333333333333333}");
  arena_free(run.arena);
  arena_free(drawing.arena);
}

TEST("weights go with what their recipe says; without a recipe, or a field, nothing is known") {
  Case c = open_case(fill);
  Error err = {0};
  EXPECT(recipe_check_pair("{\"vq_sha256\": \"abc\", \"lr\": 2}", &c.r, &err), "%s", err.text);
  EXPECT(recipe_check_pair(NULL, &c.r, &err) && recipe_check_pair("{\"lr\": 1}", &c.r, &err), "%s", err.text);
  EXPECT(recipe_check_pair("lr=1; vq-weights=0123; ", &c.r, &err), "%s", err.text);
  EXPECT(!recipe_check_pair("{\"vq_sha256\": \"abd\"}", &c.r, &err), "other weights");
  EXPECT_HAS(err.text, "trained with vq_sha256 \"abd\", not \"abc\"");
  EXPECT(!recipe_check_pair("{\"vq_sha256\": ", &c.r, &err), "a damaged recipe");
  EXPECT_HAS(err.text, "the recipe: JSON, byte");
  arena_free(c.arena);
}

TEST_MAIN()
