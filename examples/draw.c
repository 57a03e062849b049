/* Draws a caption: a bundle made by `nuwa compile --weights drawer.safetensors --embed -o app.nuwa` to a PNG, with
 * nothing but libnuwa and libpng.  C99 and C++.  usage: draw app.nuwa CAPTION OUT.png [SEED] */
#include <nuwa.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static NuwaError err;

static void fail(const char *what) {
  fprintf(stderr, "draw: %s%s%s\n", what, err.text[0] ? ": " : "", err.text);
  exit(1);
}

static bool show(void *ctx, int64_t done, int64_t total) {
  (void)ctx;
  fprintf(stderr, "\r%d of %d tokens%s", (int)done, (int)total, done == total ? "\n" : "");
  return true; /* false would stop the drawing */
}

static NuwaSession *open_session(const NuwaBundle *b, const char *name, int64_t rows) {
  const NuwaPlan *plan = nuwa_bundle_plan(b, name);
  NuwaOptions o;
  memset(&o, 0, sizeof o);
  o.device = plan ? nuwa_plan_device(plan) : NUWA_CPU;
  o.samples = 1, o.rows = rows;
  if (!plan) fail("not an application: compile it with --embed");
  NuwaSession *s = nuwa_session_open(plan, &o, &err);
  NuwaWeights *w = s ? nuwa_bundle_weights(b, name, &err) : NULL;
  if (!w || !nuwa_load_weights(s, w, false, &err)) fail(name);
  nuwa_weights_close(w);
  return s;
}

/* The tokens of a picture, [positions], to be freed. */
static int32_t *draw(const NuwaBundle *b, const char *caption, uint64_t seed) {
  const NuwaPlan *plan = nuwa_bundle_plan(b, "drawer");
  const char *merges = nuwa_bundle_entry(b, "merges");
  int64_t slots, rows;
  NuwaDecode d;
  NuwaPort text;
  NuwaGenerate g;
  memset(&g, 0, sizeof g);
  g.count = 1, g.seed = seed;
  g.guidance = g.sample.temperature = g.sample.top_p = 1;
  if (!plan || !merges || !nuwa_decode_info(plan, 0, &d)) fail("not an application: compile it with --embed");
  if (!nuwa_find_input(plan, d.prologue, "text", 1, 0, &text)) fail("it does not draw from text");
  if (!nuwa_generate_needs(plan, &g, &slots, &rows, &err)) fail("drawing");
  NuwaText *t = nuwa_text_parse(merges, strlen(merges), "merges", &err);
  NuwaSession *s = open_session(b, "drawer", rows);
  int32_t *tokens = (int32_t *)calloc((size_t)d.positions, sizeof *tokens);
  int32_t *words = (int32_t *)nuwa_input(s, d.prologue, "text");
  unsigned char *mask = (unsigned char *)nuwa_input(s, d.prologue, "text_mask"); /* NULL: it takes none */
  if (!t || !nuwa_text_encode_fixed(t, caption, words, (int)text.dim[1], &err)) fail("caption");
  if (mask) nuwa_text_mask(t, words, mask, (int)text.dim[1]);
  if (!tokens || !nuwa_generate(s, &g, tokens, NULL, show, NULL, &err)) fail("drawing");
  nuwa_session_close(s);
  nuwa_text_close(t);
  return tokens;
}

/* The picture of the tokens, to a file. */
static void write_picture(const NuwaBundle *b, const int32_t *tokens, const char *path) {
  const NuwaPlan *plan = nuwa_bundle_plan(b, "image");
  int decode = plan ? nuwa_find_function(plan, "decode") : -1;
  NuwaPort codes, image;
  NuwaSession *s = open_session(b, "image", 0);
  if (!nuwa_find_input(plan, decode, "codes", 1, 0, &codes) || !nuwa_find_output(plan, decode, "image", 1, 0, &image))
    fail("the autoencoder has no function \"decode\" from codes to image");
  memcpy(nuwa_input(s, decode, "codes"), tokens, codes.bytes);
  if (!nuwa_run(s, decode, 1, 0)) fail(nuwa_check(s, &err) ? "decoding" : "device");
  const float *value = (const float *)nuwa_output(s, decode, "image");
  size_t n = image.bytes / sizeof *value;
  png_bytep rgb = (png_bytep)malloc(n);
  for (size_t i = 0; rgb && i < n; i++) { /* from [-1, 1] */
    float x = value[i] * 127.5f + 127.5f;
    rgb[i] = (png_byte)(x > 0 ? x < 255 ? x + 0.5f : 255 : 0);
  }
  png_image png;
  memset(&png, 0, sizeof png);
  png.version = PNG_IMAGE_VERSION;
  png.width = (png_uint_32)image.dim[2];
  png.height = (png_uint_32)image.dim[1];
  png.format = PNG_FORMAT_RGB;
  if (!rgb || !png_image_write_to_file(&png, path, 0, rgb, 0, NULL)) fail(png.message);
  nuwa_session_close(s);
  free(rgb);
}

int main(int argc, char **argv) {
  if (argc < 4) fail("usage: draw app.nuwa CAPTION OUT.png [SEED]");
  NuwaBundle *b = nuwa_bundle_open(argv[1], &err);
  if (!b) fail("bundle");
  int32_t *tokens = draw(b, argv[2], argc > 4 ? strtoull(argv[4], NULL, 10) : 0);
  write_picture(b, tokens, argv[3]);
  free(tokens);
  nuwa_bundle_close(b);
  return 0;
}
