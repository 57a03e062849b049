#include <math.h>
#include <stdlib.h>

#include "media/report/plot.h"
#include "tests/test.h"

#define EXPECT_LACKS(text, part) EXPECT(!strstr((text), (part)), "\"%s\" is in:\n%s", (part), (text))

static const char hostile[] = "</title><script>alert(\"1\")</script> & 'x' \x01\x7f\xff\xc2\x85 \xe2\x9c\x93";

static void print_ticks(const PlotAxis *a, Buffer *out) {
  for (int i = 0; i < a->n_tick; i++) {
    char label[32];
    plot_label(a, a->tick[i], label, sizeof label);
    buffer_printf(out, "%s%s", i ? " " : "", label);
  }
}

static void expect_ticks(double lo, double hi, bool is_log, const char *want) {
  Buffer b = {0};
  PlotAxis a = plot_axis(lo, hi, 5, is_log, true);
  print_ticks(&a, &b);
  EXPECT_TEXT(b.data, want);
  EXPECT(a.lo <= lo * (1 + (lo < 0 ? -1e-9 : 1e-9)) && a.hi >= hi * (1 - 1e-9) && a.lo < a.hi, "[%g, %g] for [%g, %g]", a.lo, a.hi, lo, hi);
  buffer_done(&b);
}

static int count(const char *text, const char *part) {
  int n = 0;
  for (const char *p = text; (p = strstr(p, part)); p += strlen(part)) n++;
  return n;
}

TEST("text shows as it is and means nothing to a browser") {
  Buffer b = {0};
  page_escape(&b, hostile);
  EXPECT_TEXT(b.data, "&lt;/title&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;x&#39; "
                      "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xe2\x9c\x93");
  buffer_done(&b);
}

/* Where a name of the file stands. */
static void find_name(const char *svg, const char *name, double *x, double *y) {
  char end[24];
  snprintf(end, sizeof end, ">%s</text>", name);
  const char *at = strstr(svg, end);
  *x = *y = NAN;
  while (at && at > svg && *at != '<') at--;
  int read = at ? sscanf(at, "<text class=\"name\" x=\"%lf\" y=\"%lf\"", x, y) : 0;
  EXPECT(read == 2, "%s in %s", name, svg);
}

TEST("points have their names beside them, apart where points lie close, and bars of their deviations") {
  const PlotPoint point[] = {{"FF", 100, 40, 2}, {"NF", 99, 40.1, NAN}, {"<b>", 20, 30, NAN}, {"none", NAN, 1, NAN}};
  Buffer b = {0};
  double x, y, other_x, other_y;
  plot_points_file(&b, &(PlotPoints){hostile, "ms", point, 4});
  REQUIRE(!b.failed && strncmp(b.data, "<svg xmlns=", 11) == 0, "%s", b.data);
  EXPECT_LACKS(b.data, "<script");
  EXPECT_LACKS(b.data, "<b>");
  EXPECT_LACKS(b.data, "var(--line)");
  EXPECT_LACKS(b.data, "nan");
  EXPECT_HAS(b.data, ">1 without a number</text>");
  find_name(b.data, "FF", &x, &y);
  find_name(b.data, "NF", &other_x, &other_y);
  EXPECT(fabs(x - other_x) > 14 || fabs(y - other_y) > 12, "%g %g and %g %g", x, y, other_x, other_y);
  EXPECT(count(b.data, "class=\"m\"") == 3 && count(b.data, "class=\"l\"") == 1, "%s", b.data);
  buffer_done(&b);
  plot_points(&b, &(PlotPoints){.title = "empty", .x_name = "ms"});
  EXPECT_HAS(b.data, "empty <small>(no values yet)</small>");
  buffer_done(&b);
}

TEST("a page of hostile texts holds no script, fetches nothing, and closes what it opens") {
  const char *cell[] = {hostile, hostile};
  const PageColumn column[] = {{hostile, false}, {hostile, true}};
  const double one = 1;
  const PlotSeries s = {hostile, &one, &one, 1};
  Buffer b = {0};
  page_begin(&b, hostile, hostile);
  page_heading(&b, hostile);
  page_text(&b, hostile);
  page_code(&b, hostile);
  page_fold_begin(&b, hostile);
  page_facts(&b, &(PageFact){hostile, hostile}, 1);
  page_table(&b, &(PageTable){hostile, column, 2, cell, 1, NULL});
  page_fold_end(&b);
  page_figures_begin(&b);
  page_picture(&b, &(PagePicture){"x", 1, 8, 8, hostile});
  plot_lines(&b, &(Plot){hostile, hostile, &s, 1, PLOT_AUTO});
  plot_bars(&b, &(PlotBars){hostile, hostile, &one, 1});
  plot_points(&b, &(PlotPoints){hostile, hostile, &(PlotPoint){hostile, 1, 1, 1}, 1});
  page_figures_end(&b);
  page_end(&b);
  REQUIRE(!b.failed, "");
  EXPECT_LACKS(b.data, "<script");
  EXPECT_LACKS(b.data, "http:");
  EXPECT_LACKS(b.data, "https:");
  EXPECT_LACKS(b.data, "url(");
  static const char *const element[] = {"html", "head", "body", "title", "style", "h1", "h2", "p", "pre", "details", "summary", "dl", "dt", "dd",
                                        "table", "caption", "thead", "tbody", "tr", "td", "div", "figure", "figcaption", "svg", "g", "text", "ul", "li"};
  for (int i = 0; i < COUNT_OF(element); i++) {
    char plain[24], with[24], close[24];
    snprintf(plain, sizeof plain, "<%s>", element[i]);
    snprintf(with, sizeof with, "<%s ", element[i]);
    snprintf(close, sizeof close, "</%s>", element[i]);
    EXPECT(count(b.data, plain) + count(b.data, with) == count(b.data, close), "<%s>: %d + %d and %d", element[i], count(b.data, plain),
           count(b.data, with), count(b.data, close));
  }
  buffer_done(&b);
}

TEST("pictures are inside the page, in base64, and small ones are shown larger") {
  static const char *const bytes[] = {"f", "fo", "foo", "foob"}, *const want[] = {"Zg==", "Zm8=", "Zm9v", "Zm9vYg=="};
  for (int i = 0; i < 4; i++) {
    Buffer b = {0};
    char part[80];
    page_picture(&b, &(PagePicture){bytes[i], strlen(bytes[i]), 32, 16, "seen"});
    snprintf(part, sizeof part, "src=\"data:image/png;base64,%s\">", want[i]);
    EXPECT_HAS(b.data, part);
    EXPECT_HAS(b.data, "width=\"320\" height=\"160\" alt=\"seen\"");
    buffer_done(&b);
  }
}

TEST("a table marks its numbers, its rows' names and its best cells") {
  const PageColumn column[] = {{"kind", false}, {"loss", true}};
  const char *cell[] = {"full", "0.5", "nearby", NULL};
  const bool best[] = {false, true, false, false};
  Buffer b = {0};
  page_table(&b, &(PageTable){.column = column, .n_column = 2, .cell = cell, .n_row = 2, .is_best = best});
  EXPECT_HAS(b.data, "<tr><th scope=\"row\">full</th><td class=\"n best\">0.5</td></tr>\n"
                     "<tr><th scope=\"row\">nearby</th><td class=\"n\"></td></tr>\n");
  buffer_done(&b);
}

TEST("ticks stand at 1, 2, 5 times powers of ten") {
  expect_ticks(0, 5000, false, "0 1000 2000 3000 4000 5000");
  expect_ticks(0.13, 0.34, false, "0.10 0.15 0.20 0.25 0.30 0.35");
  expect_ticks(-3, 7, false, "-4 -2 0 2 4 6 8");
  expect_ticks(0, 40000, false, "0 10k 20k 30k 40k");
  expect_ticks(0, 3.2e6, false, "0 1M 2M 3M 4M");
  expect_ticks(0, 0.00012, false, "0 5e-05 0.0001 0.00015");
  expect_ticks(2, 2, false, "1.8 1.9 2.0 2.1 2.2");
  expect_ticks(0, 0, false, "-1.0 -0.5 0 0.5 1.0");
  expect_ticks(0.05, 4, true, "0.05 0.1 0.2 0.5 1 2 5");
  expect_ticks(1e-6, 100, true, "1e-06 0.0001 0.01 1 100");
  expect_ticks(1e-300, 1e300, true, "1e-300 1e-180 1e-60 1e+60 1e+180 1e+300");
}

TEST("an axis puts its ends at 0 and 1, by ratio where it is logarithmic") {
  PlotAxis linear = plot_axis(0, 10, 5, false, true), log = plot_axis(0.01, 100, 5, true, true);
  EXPECT(plot_place(&linear, 0) == 0 && plot_place(&linear, 10) == 1 && plot_place(&linear, 2.5) == 0.25, "");
  EXPECT(fabs(plot_place(&log, 1) - 0.5) < 1e-12, "%g", plot_place(&log, 1));
}

TEST("losses that fall thirtyfold are drawn logarithmically, others not") {
  const double x[] = {1, 2}, falls[] = {3, 0.1}, stays[] = {3, 1}, below[] = {3, -0.01};
  Buffer b = {0};
  plot_lines(&b, &(Plot){"l", "step", &(PlotSeries){"a", x, falls, 2}, 1, PLOT_AUTO});
  EXPECT_HAS(b.data, ">0.2<");
  EXPECT_HAS(b.data, ">0.5<");
  buffer_done(&b);
  plot_lines(&b, &(Plot){"l", "step", &(PlotSeries){"a", x, stays, 2}, 1, PLOT_AUTO});
  EXPECT_HAS(b.data, ">1.5<");
  buffer_done(&b);
  plot_lines(&b, &(Plot){"l", "step", &(PlotSeries){"a", x, below, 2}, 1, PLOT_AUTO});
  EXPECT_HAS(b.data, ">-1<");
  buffer_done(&b);
}

TEST("what is no number is a gap that the title counts, and nothing that a number can be gets into the drawing") {
  const double x[] = {1, 2, 3, 4, 5}, y[] = {1, NAN, INFINITY, 1e308, 2}, none[] = {NAN, NAN, NAN, NAN, NAN};
  Buffer b = {0};
  plot_lines(&b, &(Plot){"odd", "step", (PlotSeries[]){{"some", x, y, 5}, {"none", x, none, 5}}, 2, PLOT_AUTO});
  EXPECT_HAS(b.data, "odd <small>(8 values are not shown)</small>");
  EXPECT_LACKS(b.data, "nan");
  EXPECT_LACKS(b.data, "inf");
  EXPECT_HAS(b.data, "h0M");   /* the two that are left are no line */
  buffer_done(&b);
  plot_lines(&b, &(Plot){.title = "empty", .x_name = "step"});
  EXPECT_HAS(b.data, "empty <small>(no values yet)</small>");
  EXPECT_LACKS(b.data, "nan");
  buffer_done(&b);
}

TEST("a long series is a line of means in a band from its least to its largest") {
  enum { N = 100000 };
  double *x = calloc(N, sizeof *x), *y = calloc(N, sizeof *y);
  for (int i = 0; i < N; i++) x[i] = i, y[i] = 5 + (i % 2 ? 1 : -1);
  Buffer b = {0};
  plot_lines(&b, &(Plot){"long", "step", &(PlotSeries){"a", x, y, N}, 1, PLOT_LINEAR});
  EXPECT(b.len < 20000, "%zu bytes", b.len);
  const char *band = strstr(b.data, "class=\"b\" d=\"M"), *line = strstr(b.data, "class=\"l\" d=\"M");
  REQUIRE(band && line, "");
  double top = atof(strchr(band + 14, ' ')), mean = atof(strchr(line + 14, ' '));
  EXPECT(top == 10 && fabs(mean - 111) < 0.5, "%g %g", top, mean);   /* of an axis from 4 to 6 between 212 and 10 */
  buffer_done(&b);
  free(x), free(y);
}

TEST("bars are as high as their values, and neighbours are summed where there are many") {
  double few[] = {0, 5, 10}, many[2400];
  for (int i = 0; i < 2400; i++) many[i] = 1;
  Buffer b = {0};
  plot_bars(&b, &(PlotBars){"few", "code", few, 3});
  EXPECT(count(b.data, "V10.00H") == 1 && count(b.data, "V111.00H") == 1, "%s", b.data);   /* nothing for 0 */
  buffer_done(&b);
  plot_bars(&b, &(PlotBars){"many", "code", many, 2400});
  EXPECT(count(b.data, "V10.00H") == 240, "%d", count(b.data, "V10.00H"));
  buffer_done(&b);
}

TEST_MAIN()
