/* The kernels of a function on a GPU: what NVRTC makes of each, as text or JSON.  Needs NVRTC, but no GPU. */
#include "cli/inspect_cuda.h"

#include <string.h>

#include "codegen/emit/cuda_facts.h"

typedef struct Show {
  const InspectCuda *q;
  Model *model;
  Lowered e;
  CudaFacts facts;
  Nvrtc *nvrtc;
  Buffer *out;
  Error *err;
} Show;

static bool is_launch_of(const LaunchEstimate *l, int kernel) {
  return l->kind == LAUNCH_KERNEL && l->kernel == kernel;
}

/* The first launch of a kernel: its cost is that of all. */
static const LaunchEstimate *first_launch(const Show *s, int kernel) {
  for (int i = 0; i < s->e.n_launch; i++)
    if (is_launch_of(&s->e.launch[i], kernel)) return &s->e.launch[i];
  BUG("kernel %d is never launched", kernel);
}

/* Functions that launch the kernel, with how often, through `format`: name, number. */
static void print_uses(const Show *s, int kernel, const char *format, Buffer *out) {
  const char *comma = "";
  for (int i = 0; i < s->e.n_launch; i++) {
    const LaunchEstimate *l = &s->e.launch[i];
    int launches = 0;
    bool seen = false;
    for (int j = 0; j < s->e.n_launch; j++) {
      bool same = is_launch_of(&s->e.launch[j], kernel) && strcmp(s->e.launch[j].function, l->function) == 0;
      launches += same;
      seen |= same && j < i;
    }
    if (!is_launch_of(l, kernel) || seen) continue;
    buffer_printf(out, "%s", comma);
    if (s->q->json) json_print_text(out, l->function);
    else buffer_printf(out, "%s", l->function);
    buffer_printf(out, format, launches);
    comma = ", ";
  }
}

/* ---- text ---- */

static void print_cost(const GroupCost *c, Buffer *out) {
  char reads[DIM_TEXT], writes[DIM_TEXT], flops[DIM_TEXT];
  buffer_printf(out, "  a launch reads %s bytes, writes %s, computes %s operations\n", dim_print(c->bytes_read, reads),
                dim_print(c->bytes_written, writes), dim_print(c->flops, flops));
}

static void print_fact(int arch, const CudaFact *f, Buffer *out) {
  const CubinKernel *c = &f->code;
  buffer_printf(out, "  sm_%d: %d registers, ", arch, c->registers);
  if (c->spills)
    buffer_printf(out, "%d spills of %lld bytes (%d in loops, %d in inner ones)", c->spills,
                  (long long)c->local_bytes, c->loop_spills, c->inner_spills);
  else buffer_printf(out, "no spills");
  buffer_printf(out, ", %lld bytes of shared memory; %d instructions", (long long)f->shared_bytes, c->instructions);
  if (c->tensor) buffer_printf(out, ", %d of tensor cores", c->tensor);
  if (f->occupancy.limit)
    buffer_printf(out, "; %d blocks of %d threads: %d warps, %.0f %%, limited by %s", f->occupancy.blocks,
                  f->shape.threads, f->occupancy.warps, 100.0 * f->occupancy.share, f->occupancy.limit);
  else buffer_printf(out, "; occupancy unknown: no limits of sm_%d are in the table", arch);
  buffer_printf(out, "\n");
}

/* What the assembler warns of; its figures (lines of "ptxas info" and their continuations, "ptxas  .") are told
 * above. */
static void print_log(const char *log, Buffer *out) {
  for (const char *line = log; *line;) {
    int n = (int)strcspn(line, "\n"), word = (int)strspn(line, "ptxas ");
    bool is_figure = strncmp(line + word, "info", 4) == 0 || line[word] == '.';
    if (n && !is_figure) buffer_printf(out, "    %.*s\n", n, line);
    line += n + (line[n] == '\n');
  }
}

static bool print_ptx(const Show *s, const Kernel *k) {
  static const char *const options[] = {"--ftz=true"};
  char arch[32];
  Buffer text = {0};
  NvrtcResult r = {0};
  snprintf(arch, sizeof arch, "compute_%d", s->facts.arch[0]);
  cuda_print(k, &text);
  bool ok = !text.failed && nvrtc_compile(s->nvrtc, text.data, arch, options, 1, &r);
  if (ok) buffer_printf(s->out, "%s\n", r.image);
  else error_set(s->err, ERROR_DEVICE, "NVRTC makes no PTX of %s:\n%s", k->name, r.log ? r.log : "");
  nvrtc_result_done(&r);
  buffer_done(&text);
  return ok;
}

static bool print_text(const Show *s, int i) {
  const Kernel *k = s->e.kernel[i];
  buffer_printf(s->out, "# kernel %d: %s\n  launched by ", i, k->name);
  print_uses(s, i, " x%d", s->out);
  buffer_printf(s->out, "\n");
  print_cost(&first_launch(s, i)->cost, s->out);
  for (int a = 0; a < s->facts.n_arch; a++) {
    const CudaFact *f = cuda_fact(&s->facts, a, i);
    print_fact(s->facts.arch[a], f, s->out);
    print_log(f->log, s->out);
  }
  if (s->q->kernels) kir_print(k, s->out);
  if (i) cuda_print_entry(k, s->out);
  else cuda_print(k, s->out);
  return !s->q->assembly || print_ptx(s, k);
}

/* ---- JSON ---- */

void inspect_json_dim(const char *name, Dim d, Buffer *out) {
  buffer_printf(out, "\"%s\": {\"constant\": %lld, \"per_sample\": %lld, \"per_row\": %lld}, ", name, (long long)d.c,
                (long long)d.b, (long long)d.r);
}

static void json_text(const char *name, void (*print)(const Kernel *, Buffer *), const Kernel *k, Buffer *out) {
  Buffer text = {0};
  print(k, &text);
  buffer_printf(out, "\"%s\": ", name);
  json_print_text(out, text.data ? text.data : "");
  buffer_printf(out, ", ");
  out->failed |= text.failed;
  buffer_done(&text);
}

static void json_fact(int arch, const CudaFact *f, Buffer *out) {
  const CubinKernel *c = &f->code;
  buffer_printf(
      out,
      "{\"arch\": \"sm_%d\", \"registers\": %d, \"spills\": %d, \"loop_spills\": %d, \"inner_spills\": %d, "
      "\"local_bytes\": %lld, \"shared_bytes\": %lld, \"instructions\": %d, \"tensor\": %d, \"threads\": %d, "
      "\"blocks\": %d, \"warps\": %d, \"occupancy\": %.4f, \"limit\": ",
      arch, c->registers, c->spills, c->loop_spills, c->inner_spills, (long long)c->local_bytes,
      (long long)f->shared_bytes, c->instructions, c->tensor, f->shape.threads, f->occupancy.blocks,
      f->occupancy.warps, f->occupancy.share);
  json_print_text(out, f->occupancy.limit ? f->occupancy.limit : "");
  buffer_printf(out, ", \"log\": ");
  json_print_text(out, f->log);
  buffer_printf(out, "}");
}

static void print_json(const Show *s, int i) {
  const Kernel *k = s->e.kernel[i];
  const GroupCost *c = &first_launch(s, i)->cost;
  buffer_printf(s->out, "%s{\"name\": \"%s\", \"launches\": {", i ? ",\n " : "[", k->name);
  print_uses(s, i, ": %d", s->out);
  buffer_printf(s->out, "}, ");
  inspect_json_dim("bytes_read", c->bytes_read, s->out);
  inspect_json_dim("bytes_written", c->bytes_written, s->out);
  inspect_json_dim("operations", c->flops, s->out);
  if (s->q->kernels) json_text("ir", kir_print, k, s->out);
  if (s->q->kernels) json_text("source", cuda_print, k, s->out);
  buffer_printf(s->out, "\"targets\": [");
  for (int a = 0; a < s->facts.n_arch; a++) {
    buffer_printf(s->out, "%s", a ? ", " : "");
    json_fact(s->facts.arch[a], cuda_fact(&s->facts, a, i), s->out);
  }
  buffer_printf(s->out, "]}");
}

/* ---- all ---- */

/* What is not among the kernels. */
static void print_library(const Show *s) {
  int n = 0;
  for (int i = 0; i < s->e.n_launch; i++) n += s->e.launch[i].kind == LAUNCH_PRODUCT;
  if (n) buffer_printf(s->out, "# %d launches are products of cuBLASLt: --list-products shows them\n", n);
}

static bool show(Show *s, CompileOptions *o) {
  CudaFactsOptions f = {.nvrtc = s->nvrtc, .arch = {80, 90}, .n_arch = 2, .together = 1,
                        .threads = cli_threads(s->q->args)};
  if (s->q->args->arch && (f.n_arch = 0, !cli_archs(s->q->args->arch, f.arch, &f.n_arch, s->err))) return false;
  o->arch = f.arch;
  o->n_arch = f.n_arch;
  bool ok = compile_lower(s->model, o, &s->e, s->err) &&
            cuda_facts(s->e.kernel, s->e.n_kernel, &f, &s->facts, s->err);
  o->arch = NULL;
  for (int i = 0; ok && i < s->e.n_kernel; i++) {
    if (s->q->json) print_json(s, i);
    else ok = print_text(s, i);
  }
  if (ok && s->q->json) buffer_printf(s->out, "%s]\n", s->e.n_kernel ? "" : "[");
  else if (ok) print_library(s);
  return ok;
}

bool inspect_cuda(Model *m, const InspectCuda *q, CompileOptions *o, Buffer *out, Error *err) {
  Show s = {.q = q, .model = m, .nvrtc = nvrtc_open(q->args->nvrtc, err), .out = out, .err = err};
  bool ok = s.nvrtc && show(&s, o);
  cuda_facts_done(&s.facts);
  lowered_done(&s.e);
  nvrtc_close(s.nvrtc);
  return ok;
}
