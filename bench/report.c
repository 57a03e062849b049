/* What was measured, as a markdown table for people and JSON for programs.  Decides formats only. */
#include "bench/bench.h"

#include <string.h>
#include <time.h>

#include "runtime/base/file.h"

/* ---- the machine ---- */

void bench_cpu_name(char *out, size_t n) {
  char line[512];
  FILE *f = fopen("/proc/cpuinfo", "r");
  snprintf(out, n, "unknown CPU");
  while (f && fgets(line, sizeof line, f)) {
    char *colon = strchr(line, ':');
    if (strncmp(line, "model name", 10) != 0 || !colon) continue;
    colon[strcspn(colon, "\n")] = 0;
    snprintf(out, n, "%.150s", colon + 2);
    break;
  }
  if (f) fclose(f);
}

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

typedef struct BenchMachine {
  char cpu[160], date[32];
  double load;               /* runnable processes over the last minute, ours included */
} BenchMachine;

static BenchMachine describe_machine(void) {
  BenchMachine m;
  time_t now = time(NULL);
  struct tm utc;
  bench_cpu_name(m.cpu, sizeof m.cpu);
  strftime(m.date, sizeof m.date, "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &utc));
  if (getloadavg(&m.load, 1) != 1) m.load = -1.0;
  return m;
}

/* ---- markdown ---- */

static const char *bytes_text(size_t bytes, char out[32]) {
  if (bytes >= (size_t)1 << 20) snprintf(out, 32, "%zu MiB", bytes >> 20);
  else snprintf(out, 32, "%zu KiB", bytes >> 10);
  return out;
}

/* What the second loop says of a roof; empty where it agrees. */
static const char *doubt(double loop, double check, double most, char out[80]) {
  double d = roof_disagreement(loop, check);
  out[0] = 0;
  if (d > most) snprintf(out, 80, " (not to be trusted: two loops differ by %.0f %%)", 100.0 * d);
  return out;
}

static void print_roofs(const Bench *b, Buffer *out) {
  const Roofs *r = &b->roofs;
  char why[80], also[80];
  buffer_printf(out, "| roof | |\n|---|---|\n");
  for (int i = 0; i < ISA_COUNT; i++)
    if (r->fma[i] > 0.0)
      buffer_printf(out, "| f32 FMA, %s | %.0f GFLOP/s%s |\n", b->device ? "the device" : isa_name((Isa)i),
                    roofs_fma(r, (Isa)i) * 1e-9, doubt(r->fma[i], r->fma_check[i], ROOF_FMA_DISAGREEMENT, why));
  if (r->tensor > 0.0)
    buffer_printf(out, "| bf16 products, tensor cores | %.0f GFLOP/s%s |\n", roof_of(r->tensor, r->tensor_check) * 1e-9,
                  doubt(r->tensor, r->tensor_check, ROOF_FMA_DISAGREEMENT, why));
  for (int i = 0; i < ROOF_SIZES; i++) {
    char size[32];
    buffer_printf(out, "| %s in all: read; copy (read + written) | %.0f GB/s%s; %.0f GB/s%s |\n",
                  bytes_text(r->bytes[i], size), roof_of(r->read[i], r->read_check[i]) * 1e-9,
                  doubt(r->read[i], r->read_check[i], ROOF_MEMORY_DISAGREEMENT, why),
                  roof_of(r->copy[i], r->copy_check[i]) * 1e-9,
                  doubt(r->copy[i], r->copy_check[i], ROOF_MEMORY_DISAGREEMENT, also));
  }
  if (!b->device)
    buffer_printf(out, "| empty loop over all threads | %.2f us |\n| function with one tiny kernel | %.2f us |\n",
                  r->loop_s * 1e6, r->launch_s * 1e6);
  buffer_printf(out, "\n");
}

static void print_rate(const BenchRow *r, Buffer *out) {
  switch (r->unit) {
  case UNIT_FLOPS: buffer_printf(out, "%.1f GFLOP/s", r->rate * 1e-9); break;
  case UNIT_BYTES: buffer_printf(out, "%.1f GB/s", r->rate * 1e-9); break;
  case UNIT_SAMPLES: buffer_printf(out, "%.1f samples/s", r->rate); break;
  case UNIT_TIME: break;
  }
}

static void print_row(const BenchRow *r, Buffer *out) {
  buffer_printf(out, "| `%s` | %s | %s | %.3f | %.3f | ", r->id, r->what, r->size, r->median_s * 1e3,
                r->best_s * 1e3);
  print_rate(r, out);
  if (r->share > ROOF_MOST_SHARE) buffer_printf(out, " | %.0f %% of %s: above its roof |\n", r->share * 100.0, r->bound);
  else if (r->share > 0.0) buffer_printf(out, " | %.0f %% of %s |\n", r->share * 100.0, r->bound);
  else buffer_printf(out, " | %s |\n", r->note);
}

static void print_markdown(const Bench *b, const BenchMachine *m, const char *command, Buffer *out) {
  Target t = target_of(b->o->isa);
  const char *precision = dtype_name(b->o->precision);
  if (b->device)
    buffer_printf(out, "`%s`\n\n%s, %s; kernels by NVRTC, large products by %s; %s.%s\n\n", command, m->date,
                  b->device, b->o->cublaslt ? "cuBLASLt" : "own kernels", precision,
                  b->o->tiny ? "  A test of the harness: the figures say nothing." : "");
  else
    buffer_printf(
        out,
        "`%s`\n\n%s, %s; kernels for %s (%s), LLVM 19; %s; runtime by %s; %d threads of %d processors; load "
        "%.1f at the end.\n\n",
        command, m->date, m->cpu, isa_name(b->o->isa), t.features, precision, COMPILER, b->o->threads,
        pool_count_processors(), m->load);
  print_roofs(b, out);
  buffer_printf(
      out,
      "| id | what | size | median ms | best ms | rate | share of its roof |\n|---|---|---|---:|---:|---:|---|\n");
  for (int i = 0; i < b->rows.n; i++) print_row(&b->rows.row[i], out);
  int above = 0;
  for (int i = 0; i < b->rows.n; i++) above += b->rows.row[i].share > ROOF_MOST_SHARE;
  if (above)
    buffer_printf(out, "\n%d rows are faster than their roof by more than %.0f %%: those roofs are not to be trusted.\n",
                  above, 100.0 * (ROOF_MOST_SHARE - 1.0));
}

/* ---- JSON ---- */

static void json_text(Buffer *out, const char *s) {
  buffer_append(out, "\"", 1);
  for (; *s; s++) {
    if (*s == '"' || *s == '\\') buffer_printf(out, "\\%c", *s);
    else if ((unsigned char)*s < 32) buffer_printf(out, "\\u%04x", (unsigned)(unsigned char)*s);
    else buffer_append(out, s, 1);
  }
  buffer_append(out, "\"", 1);
}

static void json_field(Buffer *out, const char *name, const char *value) {
  buffer_printf(out, "\"%s\": ", name);
  json_text(out, value);
  buffer_printf(out, ", ");
}

static void json_roofs(const Bench *b, Buffer *out) {
  const Roofs *r = &b->roofs;
  const char *comma = "";
  buffer_printf(out, "  \"roofs\": {\"fma_flops\": {");
  for (int i = 0; i < ISA_COUNT; i++) {
    if (r->fma[i] <= 0.0) continue;
    buffer_printf(out, "%s\"%s\": %.6g", comma, isa_name((Isa)i), roofs_fma(r, (Isa)i));
    comma = ", ";
  }
  buffer_printf(out, "}, \"tensor_flops\": %.6g, \"memory\": [", roof_of(r->tensor, r->tensor_check));
  for (int i = 0; i < ROOF_SIZES; i++)
    buffer_printf(out, "%s{\"bytes\": %zu, \"read\": %.6g, \"copy\": %.6g}", i ? ", " : "", r->bytes[i],
                  roof_of(r->read[i], r->read_check[i]), roof_of(r->copy[i], r->copy_check[i]));
  buffer_printf(out, "], \"fma_disagreement\": %.3g, \"loop_s\": %.6g, \"launch_s\": %.6g},\n",
                roof_disagreement(r->fma[b->o->isa], r->fma_check[b->o->isa]), r->loop_s, r->launch_s);
}

static void json_row(const BenchRow *r, Buffer *out) {
  static const char *const units[] = {"flop/s", "byte/s", "samples/s", ""};
  buffer_printf(out, "    {");
  json_field(out, "id", r->id);
  json_field(out, "what", r->what);
  json_field(out, "size", r->size);
  json_field(out, "unit", units[r->unit]);
  json_field(out, "bound", r->bound);
  json_field(out, "note", r->note);
  buffer_printf(
      out, "\"median_s\": %.6g, \"best_s\": %.6g, \"rate\": %.6g, \"flops\": %.6g, \"bytes\": %.6g, \"share\": %.4g}",
      r->median_s, r->best_s, r->rate, r->flops, r->bytes, r->share);
}

static void print_json(const Bench *b, const BenchMachine *m, const char *command, Buffer *out) {
  buffer_printf(out, "{\n  ");
  json_field(out, "command", command);
  json_field(out, "date", m->date);
  json_field(out, "cpu", m->cpu);
  json_field(out, "isa", isa_name(b->o->isa));
  json_field(out, "features", target_of(b->o->isa).features);
  json_field(out, "compiler", COMPILER);
  json_field(out, "precision", dtype_name(b->o->precision));
  if (b->device) json_field(out, "device", b->device);
  if (b->device) json_field(out, "products", b->o->cublaslt ? "cublaslt" : "own");
  buffer_printf(out, "\"threads\": %d, \"processors\": %d, \"load\": %.2f,\n", b->o->threads, pool_count_processors(),
                m->load);
  json_roofs(b, out);
  buffer_printf(out, "  \"rows\": [\n");
  for (int i = 0; i < b->rows.n; i++) {
    json_row(&b->rows.row[i], out);
    buffer_printf(out, i + 1 < b->rows.n ? ",\n" : "\n");
  }
  buffer_printf(out, "  ]\n}\n");
}

void bench_report(const Bench *b, const char *command, BenchReport *out) {
  BenchMachine m = describe_machine();
  print_markdown(b, &m, command, &out->markdown);
  print_json(b, &m, command, &out->json);
}

/* ---- the table in a document ---- */

bool bench_rewrite(const char *path, const char *part, const char *markdown, Error *err) {
  char begin[64], end[64];
  snprintf(begin, sizeof begin, "<!-- %s:begin -->", part);
  snprintf(end, sizeof end, "<!-- %s:end -->", part);
  size_t len;
  char *text = file_read(path, &len, err);
  if (!text) return false;
  char *from = strstr(text, begin), *to = from ? strstr(from, end) : NULL;
  Buffer out = {0};
  bool ok = to != NULL;
  if (!ok) {
    error_set(err, ERROR_FORMAT, "%s: needs a line \"%s\" and after it a line \"%s\"", path, begin, end);
  } else {
    buffer_append(&out, text, (size_t)(from - text) + strlen(begin));
    buffer_printf(&out, "\n%s", markdown);
    buffer_append(&out, to, len - (size_t)(to - text));
    ok = out.failed ? error_set(err, ERROR_MEMORY, "%s: out of memory", path)
                    : file_write_all(path, out.data, out.len, err);
  }
  buffer_done(&out);
  mem_free(text);
  return ok;
}
