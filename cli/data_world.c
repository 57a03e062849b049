/* See data_world.h. */
#include "cli/data_world.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int count_held_out(const World *w) {
  int n = 0;
  for (int t = 0; t < world_thing_count(w); t++)
    for (int c = 0; c < world_background_count(w); c++) n += world_pair_held_out(w, PAIR_BACKGROUND, t, c);
  return n;
}

/* What captions can say. */
typedef struct NameList {
  const char *what;
  int n;
  const char *(*name)(const World *w, int i);
} NameList;

static const char *thing_name(const World *w, int i) { return world_thing_name(w, i); }
static const char *recolour_name(const World *w, int i) { return world_colour_name(world_recolour(w, i)); }
static const char *background_name(const World *w, int i) { return world_background_name(i); }
static const char *place_name(const World *w, int i) { return world_place_name(i); }
static const char *motion_name(const World *w, int i) { return world_motion_name((Motion)(i + 1)); }

enum { NAME_LISTS = 5 };
static void list_names(const World *w, NameList out[NAME_LISTS]) {
  unsigned kinds = world_options(w)->kinds;
  const NameList lists[NAME_LISTS] = {{"things", world_thing_count(w), thing_name},
                                      {"backgrounds", world_background_count(w), background_name},
                                      {"places", WORLD_PLACES, place_name},
                                      {"colours", world_recolour_count(w), recolour_name},
                                      {"motions", kinds & WORLD_MOVING ? MOTION_COUNT - 1 : 0, motion_name}};
  memcpy(out, lists, sizeof lists);
}

void data_world_print_json(const World *w) {
  const WorldOptions *o = world_options(w);
  NameList list[NAME_LISTS];
  list_names(w, list);
  for (int k = 0; k < NAME_LISTS; k++) {
    printf("\"%s\": [", list[k].what);
    for (int i = 0; i < list[k].n; i++) printf("%s\"%s\"", i ? ", " : "", list[k].name(w, i));
    printf("], ");
  }
  printf("\"size\": %d, \"thing_min\": %d, \"thing_max\": %d, \"size_step\": %d, \"jitter\": %d, \"align\": %d, \"seed\": %" PRIu64, o->size,
         o->thing_min, o->thing_max, o->size_step, o->jitter, o->align, o->seed);
  printf(", \"pairs\": %d, \"held_out_pairs\": %d", world_thing_count(w) * world_background_count(w), count_held_out(w));
}

/* Lines of at most some 100 columns. */
static void print_names(const World *w, const NameList *list) {
  int column = printf("%s:", list->what);
  for (int i = 0; i < list->n; i++) {
    const char *name = list->name(w, i);
    if (column + (int)strlen(name) > 98) column = printf("\n   ") - 1;
    column += printf(" %s%s", name, i + 1 < list->n ? "," : "\n");
  }
}

void data_world_print(const World *w) {
  const WorldOptions *o = world_options(w);
  NameList list[NAME_LISTS];
  printf("%d things of %d to %d pixels at %d places on %d backgrounds, pictures of %d x %d, seed %" PRIu64 "\n",
         world_thing_count(w), o->thing_min, o->thing_max, WORLD_PLACES, world_background_count(w), o->size, o->size, o->seed);
  printf("%d pairs (thing, background), %d of them held out\n", world_thing_count(w) * world_background_count(w),
         count_held_out(w));
  list_names(w, list);
  for (int k = 0; k < NAME_LISTS; k++)
    if (list[k].n) print_names(w, &list[k]);
}

static bool judge_scene(const World *w, Judge *j, const Scene *s, SlotScore *out, Error *err) {
  size_t bytes = 3 * (size_t)world_options(w)->size * (size_t)world_options(w)->size;
  int frames = world_scene_frames(s);
  uint8_t *rgb = mem_alloc((size_t)frames * bytes);
  if (!rgb) return error_set(err, ERROR_MEMORY, "rendering a scene: out of memory");
  for (int f = 0; f < frames; f++) world_render(w, s, f, rgb + (size_t)f * bytes, NULL);
  Judgement got = frames > 1 ? judge_clip(j, rgb) : judge_picture(j, rgb);
  judge_count(&got, s, out);
  mem_free(rgb);
  return true;
}

bool data_world_judge(const World *w, WorldSplit part, uint64_t first, int count, SlotScore *out, Error *err) {
  Judge *j = judge_new(w, err);
  bool ok = j != NULL;
  for (int i = 0; ok && i < count; i++) {
    Scene s = world_scene(w, part, first + (uint64_t)i);
    ok = judge_scene(w, j, &s, out, err);
  }
  judge_free(j);
  return ok;
}
