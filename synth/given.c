/* See given.h. */
#include "synth/given.h"

#include <string.h>

static const char *const words[] = {"lower", "upper", "left", "right", "all"};

bool given_is_word(const char *mask) {
  for (int i = 0; i < COUNT_OF(words); i++)
    if (strcmp(mask, words[i]) == 0) return true;
  return false;
}

static void mask_of_word(const char *mask, int64_t size, uint8_t *unknown) {
  for (int64_t i = 0; i < size * size; i++) {
    int64_t y = i / size, x = i % size;
    const bool in[] = {2 * y >= size, 2 * y < size, 2 * x < size, 2 * x >= size, true};
    for (int w = 0; w < COUNT_OF(words); w++)
      if (strcmp(mask, words[w]) == 0) unknown[i] = in[w];
  }
}

/* The mask goes where its picture goes: cropped and resized alike. */
static bool mask_of_file(const char *mask, const Image *picture, int size, uint8_t *unknown, Error *err) {
  Image file = {0}, fitted = {0};
  if (!image_read(mask, &file, err))
    return error_prefix(err, "--mask (a picture, or lower, upper, left, right, all)");
  bool ok = (int64_t)file.width * picture->height == (int64_t)file.height * picture->width;
  if (!ok)
    error_set(err, ERROR_ARGUMENT, "--mask %s is %d x %d, its picture %d x %d: they must have the same shape", mask,
              file.width, file.height, picture->width, picture->height);
  ok = ok && image_fit(&file, size, size, &fitted, err);
  for (int i = 0; ok && i < size * size; i++)
    unknown[i] = fitted.rgb[3 * i] + fitted.rgb[3 * i + 1] + fitted.rgb[3 * i + 2] >= 3 * 128;
  image_done(&file);
  image_done(&fitted);
  return ok;
}

static uint8_t *fit(const Kit *k, Arena *a, const Image *picture, Error *err) {
  Image fitted = {0};
  if (!image_fit(picture, (int)k->size, (int)k->size, &fitted, err)) return NULL;
  size_t bytes = (size_t)(3 * k->size * k->size);
  uint8_t *rgb = arena_alloc(a, bytes);
  memcpy(rgb, fitted.rgb, bytes);
  image_done(&fitted);
  return rgb;
}

bool given_read_picture(const Kit *k, Arena *a, const char *path, uint8_t **out_rgb, Error *err) {
  Image picture = {0};
  *out_rgb = image_read(path, &picture, err) ? fit(k, a, &picture, err) : NULL;
  image_done(&picture);
  return *out_rgb;
}

static bool read_pixels(const Kit *k, Arena *a, const char *path, const char *mask, Given *g, Error *err) {
  Image picture = {0};
  bool ok = image_read(path, &picture, err) && (g->rgb = fit(k, a, &picture, err));
  if (ok && given_is_word(mask)) mask_of_word(mask, k->size, g->unknown);
  else ok = ok && mask_of_file(mask, &picture, (int)k->size, g->unknown, err);
  image_done(&picture);
  return ok;
}

/* A token is given unless one of its pixels is unknown. */
static void tokens_of_pixels(const Kit *k, const uint8_t *unknown, uint8_t *given) {
  int64_t h = k->grid[1], w = k->grid[2], size = k->size;
  memset(given, 1, (size_t)(h * w));
  for (int64_t y = 0; y < size; y++)
    for (int64_t x = 0; x < size; x++)
      if (unknown[y * size + x]) given[y * h / size * w + x * w / size] = 0;
}

bool given_read(Kit *k, Arena *a, const char *path, const char *mask, Given *g, Error *err) {
  size_t pixels = (size_t)(k->size * k->size);
  if (k->grid[0] != 1)
    return error_set(err, ERROR_USAGE, "--image completes pictures, this model makes %lld frames",
                     (long long)k->grid[0]);
  *g = (Given){.unknown = arena_alloc(a, pixels), .given = arena_alloc(a, (size_t)k->positions),
               .tokens = ARENA_ARRAY(a, int32_t, k->positions)};
  if (!read_pixels(k, a, path, mask, g, err)) return false;
  uint8_t *painted = arena_copy(a, g->rgb, 3 * pixels);
  for (size_t i = 0; i < pixels; i++)
    if (g->unknown[i]) memset(painted + 3 * i, 128, 3);
  tokens_of_pixels(k, g->unknown, g->given);
  return codec_encode(&k->codec[CODEC_IMAGE], painted, 1, g->tokens, err);
}

void given_restore(const Kit *k, const Given *g, uint8_t *rgb) {
  for (int64_t i = 0; i < k->size * k->size; i++)
    if (!g->unknown[i]) memcpy(rgb + 3 * i, g->rgb + 3 * i, 3);
}
