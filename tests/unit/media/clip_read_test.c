/* Clips of every kind as pictures: which frames a rate gives, what is shown, and what is refused. */
#include "media/clip.h"
#include "media/ffmpeg.h"
#include "tests/test.h"
#include "tests/unit/media/clip_make.h"

/* The last of the frames read, and the greys of all: "30 70 110", with "!" and the reason at the end where it failed.
 */
static Image last;

static int grey_of(const Image *im) { return im->rgb[3 * (im->width / 2) + 1]; }

static const char *frames_of(const Buffer *bytes, ClipRate rate) {
  static char text[2000];
  Error err = {0};
  Clip *c = clip_open(bytes->data, bytes->len, "clip", rate, &err);
  size_t at = 0;
  *text = 0;
  image_done(&last);
  for (Image im; c && at < sizeof text - 300 && clip_next(c, &im, &err);) {
    int i = 0;
    while (i < 6 && abs(grey_of(&im) - make_grey(i)) > 12) i++;
    at += (size_t)snprintf(text + at, sizeof text - at, "%s%d", at ? " " : "", i);
    image_done(&last);
    last = im;
  }
  if (err.code) snprintf(text + at, sizeof text - at, "! %s", err.text);
  clip_close(c);
  return text;
}

static const char *frames_made(const ClipMake *m, ClipRate rate) {
  Buffer b = make_clip(m);
  const char *text = frames_of(&b, rate);
  buffer_done(&b);
  return text;
}

static bool is_near(double x, double y, int r, int g, int b, int within) {
  const uint8_t *p = last.rgb + 3 * ((int)(y * last.height) * last.width + (int)(x * last.width));
  bool near = abs(p[0] - r) <= within && abs(p[1] - g) <= within && abs(p[2] - b) <= within;
  if (!near) fprintf(stderr, "at %g %g: %d %d %d\n", x, y, p[0], p[1], p[2]);
  return near;
}

/* Red lower left, blue lower right, the grey of the last frame above. */
static void expect_colours(const char *what, int grey, int within) {
  EXPECT(is_near(0.5, 0.2, grey, grey, grey, within) && is_near(0.2, 0.8, 220, 40, 30, within) &&
             is_near(0.8, 0.8, 20, 40, 210, within),
         "%s", what);
}

static const ClipMake gif = {"gif", "gif", AV_PIX_FMT_PAL8, 32, 24, 4};
static const ClipMake mp4 = {"mp4", "libx264", AV_PIX_FMT_YUV420P, 32, 24, 6};

TEST("GIF, MP4, WebM, Matroska and AVI are read by what they hold, frame by frame") {
  static const ClipMake kinds[] = {
      {"gif", "gif", AV_PIX_FMT_PAL8, 32, 24, 6},
      {"mp4", "mpeg4", AV_PIX_FMT_YUV420P, 32, 24, 6},
      {"mp4", "libx264", AV_PIX_FMT_YUV420P, 32, 24, 6},
      {"webm", "libvpx", AV_PIX_FMT_YUV420P, 32, 24, 6},
      {"webm", "libvpx-vp9", AV_PIX_FMT_YUV420P, 32, 24, 6},
      {"matroska", "ffv1", AV_PIX_FMT_YUV444P, 32, 24, 6},
      {"avi", "mjpeg", AV_PIX_FMT_YUVJ420P, 32, 24, 6, .range = AVCOL_RANGE_JPEG},
      {"mpegts", "mpeg2video", AV_PIX_FMT_YUV420P, 32, 24, 6, .options = "strict=-2"},
  };
  for (int k = 0; k < COUNT_OF(kinds); k++) {
    const char *text = frames_made(&kinds[k], (ClipRate){0});
    EXPECT(strcmp(text, "0 1 2 3 4 5") == 0, "%s of %s: %s", kinds[k].format, kinds[k].codec, text);
    if (last.rgb) expect_colours(kinds[k].codec, make_grey(5), k ? 12 : 0);
  }
}

TEST("animated and still WebP are read by libwebp, with their exact colours") {
  ClipMake m = {.width = 33, .height = 17, .frames = 4};
  Buffer b = make_webp(&m);
  EXPECT_TEXT(frames_of(&b, (ClipRate){0}), "0 1 2 3");
  expect_colours("animated", make_grey(3), 0);
  Image im;
  Error err;
  REQUIRE(image_decode(b.data, b.len, "w", &im, &err), "%s", err.text); /* of a clip the first */
  EXPECT(grey_of(&im) == make_grey(0) && im.width == 33, "%d", grey_of(&im));
  image_done(&im);
  buffer_done(&b);
  m.frames = 1;
  b = make_webp(&m);
  EXPECT_TEXT(frames_of(&b, (ClipRate){0}), "0");
  EXPECT_TEXT(frames_of(&b, (ClipRate){5, 1}), "0");
  buffer_done(&b);
}

TEST("a frame at a rate is the stored one nearest in time, the earlier of two, until the last one's end") {
  ClipMake m = {"matroska", "ffv1", AV_PIX_FMT_YUV420P, 32, 24, 4}, w = m;
  const struct {
    ClipRate rate;
    const char *frames;
  } even[] = {{{10, 1}, "0 1 2 3"}, {{5, 1}, "0 2"},          {{20, 1}, "0 0 1 1 2 2 3 3"},
              {{1, 1}, "0"},        {{4, 1}, "0 2"},            /* 2.5 */
              {{10, 3}, "0 3"},     {{100, 7}, "0 1 1 2 3 3"}}; /* 0 .7 1.4 2.1 2.8 3.5 */
  Buffer b = make_clip(&m), c = make_webp(&w);
  for (int k = 0; k < COUNT_OF(even); k++) {
    EXPECT_TEXT(frames_of(&b, even[k].rate), even[k].frames);
    EXPECT_TEXT(frames_of(&c, even[k].rate), even[k].frames);
  }
  buffer_done(&b);
  buffer_done(&c);
  static const int64_t stamps[] = {300, 310, 350, 400, 410}; /* 0, .1, .5, 1 from the first */
  m.stamps = stamps;
  EXPECT_TEXT(frames_made(&m, (ClipRate){0}), "0 1 2 3");
  EXPECT_TEXT(frames_made(&m, (ClipRate){10, 1}),
              "0 1 1 1 2 2 2 2 3 3 3 3 3 3 3"); /* the last lasts as the gap before it */
}

TEST("rates are whole numbers, decimals and fractions, within bounds") {
  ClipRate r;
  Error err;
  EXPECT(clip_parse_rate("8", &r, &err) && r.frames == 8 && r.seconds == 1, "");
  EXPECT(clip_parse_rate("12.5", &r, &err) && r.frames == 12500 && r.seconds == 1000, "%d", r.frames);
  EXPECT(clip_parse_rate("0.001", &r, &err) && r.frames == 1 && r.seconds == 1000, "");
  EXPECT(clip_parse_rate("30000/1001", &r, &err) && r.frames == 30000 && r.seconds == 1001, "");
  static const char *const bad[] = {"",       "0",   "-1", "1e3",      "1001",  "8.", ".5",
                                    "1.2345", "5/0", "8 ", "99999999", "1/2/3", "0.0"};
  for (int k = 0; k < COUNT_OF(bad); k++) EXPECT(!clip_parse_rate(bad[k], &r, &err), "%s", bad[k]);
  EXPECT_HAS(err.text, "is no rate: frames a second, above 0 and at most 1000, as 8, 12.5 or 30000/1001");
}

TEST("ten bits, grey, full range, other matrices and odd sizes show the same colours") {
  static const ClipMake kinds[] = {
      {"mp4", "libx264", AV_PIX_FMT_YUV420P10LE, 32, 24, 1, .options = "qp=1"},
      {"mp4", "libx264", AV_PIX_FMT_YUV444P, 33, 25, 1, .options = "qp=1"},
      {"mp4", "libx264", AV_PIX_FMT_YUV420P, 32, 24, 1, .range = AVCOL_RANGE_JPEG, .options = "qp=1"},
      {"mp4", "libx264", AV_PIX_FMT_YUV420P, 32, 24, 1, .range = AVCOL_RANGE_MPEG, .space = AVCOL_SPC_BT709,
       .options = "qp=1"},
      {"mp4", "libx264", AV_PIX_FMT_YUV420P, 32, 24, 1, .space = AVCOL_SPC_BT2020_NCL, .options = "qp=1"},
      {"matroska", "ffv1", AV_PIX_FMT_YUV420P16LE, 34, 26, 1},
      {"matroska", "ffv1", AV_PIX_FMT_BGRA, 31, 23, 1},
      {"matroska", "libx264rgb", AV_PIX_FMT_BGR24, 31, 23, 1, .options = "qp=0"},
      {"matroska", "ffv1", AV_PIX_FMT_YUV420P, 1280, 64, 1, .space = AVCOL_SPC_BT709}};
  for (int k = 0; k < COUNT_OF(kinds); k++) {
    const ClipMake *m = &kinds[k];
    EXPECT_TEXT(frames_made(m, (ClipRate){0}), "0");
    if (!last.rgb) continue;
    EXPECT(last.width == m->width && last.height == m->height, "%d: %d x %d", k, last.width, last.height);
    char what[20];
    snprintf(what, sizeof what, "case %d", k);
    expect_colours(what, make_grey(0), 6);
  }
  ClipMake grey = {"matroska", "ffv1", AV_PIX_FMT_GRAY8, 32, 24, 1};
  EXPECT_TEXT(frames_made(&grey, (ClipRate){0}), "0");
  EXPECT(is_near(0.5, 0.2, 30, 30, 30, 1), "");
}

TEST("transparency is laid on white") {
  ClipMake m = {"matroska", "ffv1", AV_PIX_FMT_BGRA, 32, 24, 2, .is_clear = true};
  EXPECT_TEXT(frames_made(&m, (ClipRate){0}), "0 1");
  EXPECT(is_near(0.2, 0.8, 255, 255, 255, 0) && is_near(0.5, 0.2, 70, 70, 70, 1), "");
  ClipMake indexed = {"gif", "gif", AV_PIX_FMT_PAL8, 32, 24, 2, .is_clear = true};
  EXPECT_TEXT(frames_made(&indexed, (ClipRate){0}), "0 1");
  EXPECT(is_near(0.2, 0.8, 255, 255, 255, 0) && is_near(0.5, 0.2, 70, 70, 70, 0), "");
  Buffer b = make_webp(&m);
  EXPECT_TEXT(frames_of(&b, (ClipRate){0}), "0 1");
  EXPECT(is_near(0.2, 0.8, 255, 255, 255, 0) && is_near(0.5, 0.2, 70, 70, 70, 0), "");
  buffer_done(&b);
}

TEST("clips are turned and mirrored as their matrix says, and their pixels made square") {
  const int one = 65536;
  /* Where red and blue are shown: left, right, and the grey side between. */
  const struct {
    int32_t matrix[4];
    double red[2], blue[2], grey[2];
  } turns[] = {{{one, 0, 0, one}, {.2, .8}, {.8, .8}, {.5, .2}},   {{0, one, -one, 0}, {.2, .2}, {.2, .8}, {.8, .5}},
               {{-one, 0, 0, -one}, {.8, .2}, {.2, .2}, {.5, .8}}, {{0, -one, one, 0}, {.8, .8}, {.8, .2}, {.2, .5}},
               {{-one, 0, 0, one}, {.8, .8}, {.2, .8}, {.5, .2}},  {{one, 0, 0, -one}, {.2, .2}, {.8, .2}, {.5, .8}}};
  for (int k = 0; k < COUNT_OF(turns); k++) {
    ClipMake m = mp4;
    m.frames = 1;
    m.shape = (AVRational){3, 2};
    memcpy(m.matrix, turns[k].matrix, sizeof m.matrix);
    Buffer b = make_clip(&m);
    Error err = {0};
    Clip *c = clip_open(b.data, b.len, "turned", (ClipRate){0}, &err);
    image_done(&last);
    REQUIRE(c && clip_next(c, &last, &err), "%s", err.text);
    EXPECT(last.width == (m.matrix[0] ? 48 : 24) && last.height == (m.matrix[0] ? 24 : 48), "%d: %d x %d", k,
           last.width, last.height);
    EXPECT(is_near(turns[k].red[0], turns[k].red[1], 220, 40, 30, 16) &&
               is_near(turns[k].blue[0], turns[k].blue[1], 20, 40, 210, 16) &&
               is_near(turns[k].grey[0], turns[k].grey[1], 30, 30, 30, 16),
           "matrix %d", k);
    clip_close(c);
    buffer_done(&b);
  }
  ClipMake skewed = mp4;
  memcpy(skewed.matrix, (int32_t[]){46341, 46341, -46341, 46341}, sizeof skewed.matrix);
  EXPECT_TEXT(frames_made(&skewed, (ClipRate){0}),
              "! clip: shown turned or skewed by other than right angles, which is not read");
}

/* ---- what is refused ---- */

TEST("what is no clip is refused by name, whatever it is called") {
  static const struct {
    const char *bytes, *reason;
  } bad[] = {{"", "clip: not a clip that is read"},
             {"hello, I am text", "clip: not a clip that is read"},
             {"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n", "clip: not a clip that is read"},
             {"ffconcat version 1.0\nfile /etc/passwd\n", "clip: not a clip that is read"},
             {"GIF89a", "clip: "},
             {"RIFF1234WEBPVP8 ", "clip: damaged WebP"}};
  for (int k = 0; k < COUNT_OF(bad); k++) {
    Buffer b = {0};
    buffer_append(&b, bad[k].bytes, strlen(bad[k].bytes));
    EXPECT_HAS(frames_of(&b, (ClipRate){0}), bad[k].reason);
    buffer_done(&b);
  }
  ClipMake sound = {.format = "mov", .with_sound_only = true};
  EXPECT_TEXT(frames_made(&sound, (ClipRate){0}), "! clip: holds no video (1 other streams)");
  ClipMake empty = mp4;
  empty.frames = 0;
  EXPECT_HAS(frames_made(&empty, (ClipRate){0}), "! clip: ");
}

TEST("sizes beyond the limits are refused before anything is allocated for them") {
  Buffer b = make_clip(&gif);
  memcpy(b.data + 6, "\xff\xff\xff\xff", 4);
  EXPECT_HAS(frames_of(&b, (ClipRate){0}), "Picture size 65535x65535 is invalid");
  buffer_done(&b);
  ClipMake m = {.width = 8, .height = 8, .frames = 2, .is_clear = true};
  b = make_webp(&m);
  memcpy(b.data + 24, "\x3f\x9c\x00\x1f\x4e\x00", 6); /* VP8X: one less than width and height */
  EXPECT_HAS(frames_of(&b, (ClipRate){0}), "40000 x 20000; the limits are");
  buffer_done(&b);
  ClipMake wide = {"matroska", "ffv1", AV_PIX_FMT_YUV420P, 32, 24, 1, .shape = {20000, 1}};
  EXPECT_HAS(frames_made(&wide, (ClipRate){0}), "a picture of 640000 x 24; the limits are");
}

/* A GIF of n frames of one pixel, each shown for a tenth of a second; it says that it repeats for ever. */
static Buffer make_long_gif(int n) {
  static const uint8_t head[] = "GIF89a\1\0\1\0\x80\0\0\x1e\x1e\x1e\xff\xff\xff!\xff\x0bNETSCAPE2.0\3\1\0\0\0",
                       frame[] = "!\xf9\4\0\x0a\0\0\0,\0\0\0\0\1\0\1\0\0\2\2\x44\1\0";
  Buffer b = {0};
  buffer_append(&b, head, sizeof head - 1);
  for (int i = 0; i < n; i++) buffer_append(&b, frame, sizeof frame - 1);
  buffer_append(&b, ";", 1);
  return b;
}

TEST("a clip that repeats is read once, and one that goes on and on costs no more than it may") {
  Buffer b = make_long_gif(3);
  EXPECT_TEXT(frames_of(&b, (ClipRate){0}), "0 0 0");
  buffer_done(&b);
  b = make_long_gif(CLIP_MAX_STORED + 10);
  EXPECT_HAS(frames_of(&b, (ClipRate){1, 10000}), "0! clip: more than 65536 stored frames before frame 1");
  buffer_done(&b);
}

/* Cuts and flips in turn: a clip gives all of its frames as they are, fewer and a reason, or is refused. */
static void expect_honest(const char *what, const Buffer *whole) {
  const char *all = "0 1 2 3 4 5";
  int refused = 0, cuts = 0;
  EXPECT_TEXT(frames_of(whole, (ClipRate){0}), all);
  for (size_t n = 0; n < whole->len; n += 1 + whole->len / 40, cuts++) {
    Buffer cut = {0};
    buffer_append(&cut, whole->data, n);
    const char *text = frames_of(&cut, (ClipRate){0});
    size_t good = strcspn(text, "!");
    EXPECT(strncmp(text, all, good) == 0, "%s cut to %zu of %zu bytes: %s", what, n, whole->len, text);
    EXPECT(strchr(text, '!') || strcmp(text, all) == 0, "%s cut to %zu of %zu bytes is taken for a shorter one: %s",
           what, n, whole->len, text);
    refused += strchr(text, '!') != NULL;
    buffer_done(&cut);
  }
  EXPECT(refused >= cuts - 4, "%s: %d of %d cuts were seen", what, refused, cuts);
}

TEST("a clip that is cut short gives a reason, and never fewer frames without one") {
  ClipMake kinds[] = {
      {"gif", "gif", AV_PIX_FMT_PAL8, 32, 24, 6}, mp4, {"webm", "libvpx-vp9", AV_PIX_FMT_YUV420P, 32, 24, 6}};
  for (int k = 0; k < COUNT_OF(kinds); k++) {
    Buffer b = make_clip(&kinds[k]);
    expect_honest(kinds[k].format, &b);
    buffer_done(&b);
  }
  ClipMake m = {.width = 32, .height = 24, .frames = 6};
  Buffer b = make_webp(&m);
  expect_honest("webp", &b);
  buffer_done(&b);
}

TEST("seeded damage in every kind of clip crashes nothing, and what FFmpeg says of it is not printed") {
  ClipMake kinds[] = {{"gif", "gif", AV_PIX_FMT_PAL8, 32, 24, 4},
                      mp4,
                      {"webm", "libvpx-vp9", AV_PIX_FMT_YUV420P, 32, 24, 4},
                      {"avi", "mjpeg", AV_PIX_FMT_YUVJ420P, 32, 24, 4, .range = AVCOL_RANGE_JPEG}};
  int to[2], kept = dup(2), reasons = 0;
  char said[8];
  if (pipe(to) != 0 || dup2(to[1], 2) < 0) abort();
  unsigned seed = 1;
  for (int k = 0; k <= COUNT_OF(kinds); k++) {
    ClipMake w = {.width = 32, .height = 24, .frames = 4};
    Buffer b = k < COUNT_OF(kinds) ? make_clip(&kinds[k]) : make_webp(&w);
    av_log_set_level(AV_LOG_INFO);
    for (int round = 0; round < 60; round++) {
      Buffer bad = {0};
      buffer_append(&bad, b.data, b.len);
      for (int i = 0; i < 3; i++) {
        seed = seed * 1664525 + 1013904223;
        bad.data[seed % bad.len] ^= (char)(1 << (seed >> 29));
      }
      reasons += strchr(frames_of(&bad, (ClipRate){0}), '!') != NULL;
      buffer_done(&bad);
    }
    buffer_done(&b);
  }
  dup2(kept, 2);
  close(kept);
  close(to[1]);
  EXPECT(read(to[0], said, sizeof said) == 0, "something was printed");
  close(to[0]);
  EXPECT(reasons > 100, "%d of 300 were refused", reasons);
}

TEST_MAIN()
