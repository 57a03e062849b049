/* The benchmarks measure what they say: times that add up, rows that pass the filter, reports that parse, documents
 * that keep what is not the table. */
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"
#include "runtime/base/file.h"
#include "tests/test.h"

static Error err;

static bool sleep_2ms(void *ctx, Error *e) {
  struct timespec t = {0, 2000000};
  (*(int *)ctx)++;
  return nanosleep(&t, NULL) == 0;
}

static bool fail_third(void *ctx, Error *e) { return ++*(int *)ctx < 3 || error_set(e, ERROR_IO, "third"); }

TEST("a call of two milliseconds takes at least two, and is called as often as asked, and once to warm up") {
  int calls = 0;
  Sample s;
  EXPECT(bench_time(5, sleep_2ms, &calls, &s, &err), "%s", err.text);
  EXPECT(calls == 6, "%d calls", calls);
  EXPECT(s.best_s >= 2e-3 && s.median_s >= s.best_s, "best %g, median %g", s.best_s, s.median_s);
}

TEST("a call that fails ends the measurement with its error") {
  int calls = 0;
  Sample s;
  Error e = {0};
  EXPECT(!bench_time(5, fail_third, &calls, &s, &e), "it went on");
  EXPECT(calls == 3 && e.code == ERROR_IO, "%d calls, %s", calls, e.text);
}

static Bench bench_of(const BenchOptions *o, Arena *a) {
  Bench b = {.o = o, .arena = a, .roofs = {.threads = 1}};
  for (int i = 0; i < ISA_COUNT; i++) b.roofs.fma[i] = 1e12;
  for (int i = 0; i < ROOF_SIZES; i++)
    b.roofs.bytes[i] = (size_t)1 << (18 + 2 * i), b.roofs.read[i] = 1e10, b.roofs.copy[i] = 2e10;
  return b;
}

TEST("the roof of a row is the slower of arithmetic and memory") {
  BenchOptions o = {.isa = isa_best(), .threads = 1, .repeat = 1};
  Bench b = bench_of(&o, NULL);
  BenchRow row = {.median_s = 1.0, .unit = UNIT_FLOPS, .flops = 5e11, .bytes = 1e9, .written = 1e6};
  bench_rate(&b, &row);
  EXPECT(strcmp(row.bound, "fma") == 0 && fabs(row.share - 0.5) < 1e-12 && row.rate == 5e11, "%s %g", row.bound,
         row.share);
  row.flops = 1e9;
  bench_rate(&b, &row);
  EXPECT(strcmp(row.bound, "read") == 0 && fabs(row.share - 0.1) < 1e-12, "%s %g", row.bound, row.share);
  row.unit = UNIT_BYTES;
  row.written = 5e8;
  bench_rate(&b, &row);
  EXPECT(strcmp(row.bound, "copy") == 0 && fabs(row.share - 0.05) < 1e-12 && row.rate == 1e9, "%s %g", row.bound,
         row.share);
}

typedef struct Small {
  Bench *b;
  bool ok;
} Small;

static void measure_small(void *ctx) {
  Small *s = ctx;
  const TextCase c = {"small",
                      "product",
                      "[16,8] x [8,4]",
                      "func @f(%a: f32[16,8], %b: f32[8,4]) {\n"
                      "  %y = matmul(%a, %b) {trans_a=0, trans_b=0} : f32[16,4]\n  return y = %y\n}\n",
                      1,
                      UNIT_FLOPS,
                      0};
  TextCase wrong = c;
  wrong.text = "func @f( {\n}\n";
  Error e = {0};
  s->ok = bench_text(s->b, &c, &err) && !bench_text(s->b, &wrong, &e) && strstr(e.text, "small");
}

TEST("a function as text is counted, measured and refused when it is wrong") {
  BenchOptions o = {.isa = isa_best(), .threads = 1, .repeat = 3};
  Bench b = bench_of(&o, arena_new());
  Small s = {&b, false};
  EXPECT(arena_protect(b.arena, measure_small, &s, &err) && s.ok, "%s", err.text);
  EXPECT(b.rows.n == 1, "%d rows", b.rows.n);
  const BenchRow *r = &b.rows.row[0];
  EXPECT(r->flops == 2.0 * 16 * 8 * 4, "%g operations", r->flops);
  EXPECT(r->bytes == 4.0 * (16 * 8 + 8 * 4 + 16 * 4), "%g bytes", r->bytes);
  EXPECT(r->median_s > 0.0 && r->median_s >= r->best_s, "%g s", r->median_s);
  arena_free(b.arena);
}

TEST("roofs are positive, caches are no slower than half of memory, and the filter leaves one row") {
  BenchOptions o = {.isa = isa_best(), .threads = 1, .repeat = 1, .filter = "map.upsample"};
  BenchReport report = {0};
  EXPECT(bench_run(&o, "bench \"quoted\"", &report, &err), "%s", err.text);
  EXPECT(strstr(report.markdown.data, "| `map.upsample` |") != NULL, "%s", report.markdown.data);
  EXPECT(strstr(report.markdown.data, "map.add") == NULL, "%s", report.markdown.data);
  EXPECT(strstr(report.json.data, "\"command\": \"bench \\\"quoted\\\"\"") != NULL, "%s", report.json.data);
  EXPECT(strstr(report.json.data, "inf") == NULL && strstr(report.json.data, "nan") == NULL, "%s", report.json.data);
  buffer_done(&report.markdown);
  buffer_done(&report.json);
}

/* Whether they agree is a matter of the clock: `nuwa bench` says in each report by how much they differ. */
TEST("the f32 roof is measured by two loops of different kinds, of which the higher counts") {
  BenchOptions o = {.isa = isa_best(), .threads = 1, .repeat = 1};
  Roofs r = {0};
  REQUIRE(roofs_measure_fma(&o, &r, &err), "%s", err.text);
  EXPECT(r.fma[o.isa] > 0 && r.fma_check[o.isa] > 0, "%g %g", r.fma[o.isa], r.fma_check[o.isa]);
  EXPECT(fabs(roof_disagreement(100, 150) - 1.0 / 3) < 1e-12 && roof_of(100, 150) == 150, "the higher counts");
  EXPECT(roof_disagreement(5, 0) == 0 && roof_disagreement(0, 0) == 0, "one loop alone has nothing to disagree with");
}

TEST("a roof whose loops disagree, and rows above their roof, are said not to be trusted") {
  BenchOptions o = {.isa = isa_best(), .threads = 1, .repeat = 1};
  Bench b = bench_of(&o, arena_new());
  BenchReport report = {0};
  b.roofs.fma_check[o.isa] = 1.5e12;
  bench_report(&b, "bench", &report);
  EXPECT_HAS(report.markdown.data, "1500 GFLOP/s (not to be trusted: two loops differ by 33 %)");
  EXPECT(!strstr(report.markdown.data, "faster than their roof"), "%s", report.markdown.data);
  buffer_done(&report.markdown), buffer_done(&report.json);
  BenchRow row = {.id = "x", .median_s = 1.0, .unit = UNIT_FLOPS, .flops = 1.6e12, .bound = ""};
  bench_rate(&b, &row);
  b.rows = (BenchRows){&row, 1, 1};
  bench_report(&b, "bench", &report);
  EXPECT_HAS(report.markdown.data, "1 rows are faster than their roof by more than 5 %");
  EXPECT_HAS(report.markdown.data, "| 107 % of fma: above its roof |");
  buffer_done(&report.markdown), buffer_done(&report.json);
  arena_free(b.arena);
}

TEST("of a roof that two kernels of a GPU show the higher counts, and what they disagree about is said") {
  BenchOptions o = {.isa = ISA_PLAIN, .threads = 1, .repeat = 1, .precision = DTYPE_BF16, .device = PLAN_CUDA};
  Bench b = bench_of(&o, arena_new());
  BenchReport report = {0};
  b.device = "a GPU";
  b.roofs.tensor = 2e14;
  b.roofs.tensor_check = 4e14;
  BenchRow row = {.id = "x", .median_s = 1.0, .unit = UNIT_FLOPS, .flops = 3e14, .bound = ""};
  bench_rate(&b, &row);
  EXPECT(strcmp(row.bound, "tensor") == 0 && fabs(row.share - 0.75) < 1e-12, "%s %g", row.bound, row.share);
  bench_report(&b, "bench", &report);
  EXPECT_HAS(report.markdown.data, "tensor cores | 400000 GFLOP/s (not to be trusted: two loops differ by 50 %)");
  EXPECT_HAS(report.json.data, "\"tensor_flops\": 4e+14");
  buffer_done(&report.markdown), buffer_done(&report.json);
  arena_free(b.arena);
}

TEST("a document keeps all but what stands between the markers") {
  char path[] = "/tmp/nuwa-bench-XXXXXX";
  int fd = mkstemp(path);
  EXPECT(fd >= 0, "no file");
  close(fd);
  const char before[] = "a\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nz\n",
             after[] = "a\n<!-- bench:begin -->\nnew\n<!-- bench:end -->\nz\n";
  size_t len = 0;
  EXPECT(file_write_all(path, before, strlen(before), &err) && bench_rewrite(path, "bench", "new\n", &err), "%s", err.text);
  char *text = file_read(path, &len, &err);
  EXPECT(text && strcmp(text, after) == 0, "%s", text ? text : "nothing");
  mem_free(text);
  Error e = {0};
  EXPECT(file_write_all(path, "none", 4, &err) && !bench_rewrite(path, "bench", "new\n", &e), "it was accepted");
  EXPECT_HAS(e.text, "needs a line");
  unlink(path);
}

TEST_MAIN()
