/* Scenes to tensors. */
#include "media/dataset.h"

#include "media/image.h"

size_t dataset_image_values(const Dataset *d) {
  size_t size = (size_t)world_options(d->world)->size;
  return (size_t)d->frames * size * size * 3;
}

/* One example's frames, through `rgb` (one frame) and `labels` where those are wanted. */
static void fill_frames(const Dataset *d, const Scene *s, const Batch *out, size_t example, uint8_t *rgb,
                        uint16_t *labels) {
  size_t values = dataset_image_values(d), frame_values = values / (size_t)d->frames, pixels = frame_values / 3;
  for (int f = 0; f < d->frames; f++) {
    int shown = world_scene_frames(s) > 1 ? f : 0;
    size_t at = example * values + (size_t)f * frame_values;
    uint8_t *frame = out->pixels ? out->pixels + at : rgb;
    world_render(d->world, s, shown, frame, out->labels ? labels : NULL);
    if (out->images) image_to_floats(frame, frame_values, out->images + at);
    for (size_t i = 0; out->labels && i < pixels; i++) out->labels[at / 3 + i] = labels[i];
  }
}

static bool fill_text(const Dataset *d, const Scene *s, int32_t *text, Error *err) {
  char caption[WORLD_CAPTION_BYTES];
  world_caption(d->world, s, caption);
  return bpe_encode_fixed(d->bpe, caption, text, d->text_tokens, err);
}

bool dataset_fill(const Dataset *d, WorldSplit split, uint64_t first, int n, const Batch *out, Error *err) {
  size_t pixels = dataset_image_values(d) / 3 / (size_t)d->frames;
  uint8_t *rgb = mem_alloc(pixels * 3);
  uint16_t *labels = mem_alloc(pixels * sizeof *labels);
  bool ok = (rgb && labels) || error_set(err, ERROR_MEMORY, "a batch of %d: out of memory", n);
  for (int i = 0; ok && i < n; i++) {
    Scene s = world_scene(d->world, split, first + (uint64_t)i);
    if (out->images || out->pixels || out->labels) fill_frames(d, &s, out, (size_t)i, rgb, labels);
    if (out->text) ok = fill_text(d, &s, out->text + (size_t)i * (size_t)d->text_tokens, err);
    if (out->slots) {
      int32_t *slots = out->slots + (size_t)i * DATASET_SLOTS;
      slots[SLOT_THING] = s.part[0].thing;
      slots[SLOT_BACKGROUND] = s.background;
      slots[SLOT_PLACE] = s.part[0].place;
      slots[SLOT_MOTION] = (int32_t)s.motion;
    }
  }
  mem_free(rgb);
  mem_free(labels);
  return ok;
}

Bpe *dataset_train_bpe(const World *w, int n, int max_merges, Error *err) {
  char(*captions)[WORLD_CAPTION_BYTES] = mem_alloc((size_t)n * sizeof *captions);
  const char **list = mem_alloc((size_t)n * sizeof *list);
  Bpe *b = NULL;
  if (captions && list) {
    for (int i = 0; i < n; i++) {
      Scene s = world_scene(w, WORLD_TRAIN, (uint64_t)i);
      world_caption(w, &s, captions[i]);
      list[i] = captions[i];
    }
    b = bpe_train(list, n, max_merges, err);
  } else {
    error_set(err, ERROR_MEMORY, "%d captions: out of memory", n);
  }
  mem_free(captions);
  mem_free(list);
  return b;
}
