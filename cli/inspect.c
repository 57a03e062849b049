/* `nuwa inspect`: what a model has, what the compiler makes of a function, and why. */
#include <string.h>

#include "cli/inspect_bundle.h"
#include "cli/inspect_cuda.h"
#include "ir/text.h"

typedef struct InspectArgs {
  ModelArgs model;
  const char *fn, *after;
  bool explain, schedule, json, kernels, assembly, products;
} InspectArgs;

typedef struct Inspect {
  InspectArgs args;
  CliTarget target;
  Model *model;          /* or */
  NuwaBundle *bundle;
  Buffer text, *out; /* out: text, all that is printed at the end */
  Error *err;
} Inspect;

/* ---- the model as a whole ---- */

static void print_json_value(Buffer *out, const Value *v) {
  Buffer text = {0};
  value_print(v, &text);
  bool is_plain = v->kind == VALUE_BOOL || v->kind == VALUE_INT ||
                  (v->kind == VALUE_REAL && text.data && strspn(text.data, "0123456789+-.e") == text.len);
  if (is_plain) buffer_append(out, text.data, text.len);
  else json_print_text(out, text.data ? text.data : "");
  buffer_done(&text);
}

static int64_t count_elems(Node *const *param, int n) {
  int64_t total = 0;
  Dim d;
  for (int i = 0; i < n; i++)
    if (type_elems(&param[i]->type, &d)) total += d.c;
  return total;
}

static void print_json_ports(Buffer *out, const Port *p, int n) {
  char text[300];
  buffer_printf(out, "{");
  for (int i = 0; i < n; i++) {
    buffer_printf(out, "%s", i ? ", " : "");
    json_print_text(out, p[i].name);
    buffer_printf(out, ": \"%s\"", type_print(&p[i].node->type, text, sizeof text));
  }
  buffer_printf(out, "}");
}

static void list_json(const Inspect *s, Node *const *param, int n) {
  const Model *m = s->model;
  char text[300];
  buffer_printf(s->out, "{\"functions\": {");
  for (int i = 0; i < m->n_func; i++) {
    buffer_printf(s->out, "%s", i ? ", " : "");
    json_print_text(s->out, m->func[i]->name);
    buffer_printf(s->out, ": {\"inputs\": ");
    print_json_ports(s->out, m->func[i]->in, m->func[i]->n_in);
    buffer_printf(s->out, ", \"outputs\": ");
    print_json_ports(s->out, m->func[i]->out, m->func[i]->n_out);
    buffer_printf(s->out, ", \"decode\": %s}", compile_decode_of(m, m->func[i]) ? "true" : "false");
  }
  buffer_printf(s->out, "}, \"train\": [");
  for (int i = 0; i < m->n_train; i++) {
    const ModelTrain *t = &m->train[i];
    buffer_printf(s->out, "%s{\"name\": ", i ? ", " : "");
    json_print_text(s->out, t->name);
    buffer_printf(s->out, ", \"inputs\": ");
    print_json_ports(s->out, t->func->in, t->func->n_in);
    buffer_printf(s->out, ", \"outputs\": ");
    print_json_ports(s->out, t->func->out, t->func->n_out);
    buffer_printf(s->out, ", \"from\": %lld, \"to\": ", (long long)t->from);
    if (t->to < TRAIN_LAST) buffer_printf(s->out, "%lld", (long long)t->to);
    else buffer_printf(s->out, "null");
    buffer_printf(s->out, ", \"every\": %lld, \"average\": %.17g}", (long long)t->every, t->average);
  }
  buffer_printf(s->out, "], \"options\": {");
  for (int i = 0; i < m->options.n; i++) {
    buffer_printf(s->out, "%s", i ? ", " : "");
    json_print_text(s->out, m->options.option[i].name);
    buffer_printf(s->out, ": ");
    print_json_value(s->out, &m->options.option[i].value);
  }
  buffer_printf(s->out, "}, \"params\": {");
  for (int i = 0; i < n; i++) {
    buffer_printf(s->out, "%s", i ? ", " : "");
    json_print_text(s->out, param[i]->attrs.leaf.name);
    buffer_printf(s->out, ": \"%s\"", type_print(&param[i]->type, text, sizeof text));
  }
  buffer_printf(s->out, "}, \"elements\": %lld}\n", (long long)count_elems(param, n));
}

static void list_text(const Inspect *s, Node *const *param, int n) {
  const Model *m = s->model;
  buffer_printf(s->out, "functions\n");
  for (int i = 0; i < m->n_func; i++) {
    buffer_printf(s->out, "  ");
    model_print_signature(m->func[i], s->out);
    buffer_printf(s->out, "%s\n", compile_decode_of(m, m->func[i]) ? "   (decode)" : "");
  }
  if (m->n_train) buffer_printf(s->out, "training\n");
  for (int i = 0; i < m->n_train; i++) {
    const ModelTrain *t = &m->train[i];
    buffer_printf(s->out, "  ");
    model_print_signature(t->func, s->out);
    if (t->from > 1) buffer_printf(s->out, "   from step %lld", (long long)t->from);
    if (t->to < TRAIN_LAST) buffer_printf(s->out, "   to step %lld", (long long)t->to);
    if (t->every > 1) buffer_printf(s->out, "   every %lld", (long long)t->every);
    if (t->average > 0) buffer_printf(s->out, "   averages its params by %g", t->average);
    buffer_printf(s->out, "\n");
  }
  if (m->options.n) buffer_printf(s->out, "options\n");
  for (int i = 0; i < m->options.n; i++) {
    buffer_printf(s->out, "  ");
    text_name(s->out, m->options.option[i].name);
    buffer_printf(s->out, " = ");
    value_print(&m->options.option[i].value, s->out);
    buffer_printf(s->out, "\n");
  }
  buffer_printf(s->out, "params: %d tensors, %lld elements\n", n, (long long)count_elems(param, n));
}

static void list_body(void *ctx) {
  Inspect *s = ctx;
  int n;
  Node **param = models_params(s->model, &n);
  if (s->args.json) list_json(s, param, n);
  else list_text(s, param, n);
}

/* ---- a function ---- */

static bool print_schedule(const Inspect *s) {
  const ModelDecode *md = model_find_decode(s->model, s->args.fn, s->err);
  DecodeFacts facts;
  if (!error_asked(md != NULL, s->err) ||
      !compile_decode_describe(s->model, md, cli_precision(&s->args.model), &facts, s->err))
    return false;
  const PlanDecode *d = &facts.plan;
  long long tokens = (long long)(d->grid[0] * d->grid[1] * d->grid[2]), steps = (long long)facts.steps;
  const long long a[] = {(long long)d->wavefront[0], (long long)d->wavefront[1], (long long)d->wavefront[2]};
  if (s->args.json)
    buffer_printf(s->out,
                  "{\"s\": %lld, \"h\": %lld, \"w\": %lld, \"steps\": %lld, \"tokens\": %lld, \"live\": %lld, "
                  "\"kv_bytes\": %lld}\n",
                  a[0], a[1], a[2], steps, tokens, (long long)d->live, (long long)facts.kv_bytes);
  else
    buffer_printf(s->out,
                  "%s: t = %lld s + %lld h + %lld w: %lld steps for %lld tokens (%lld x %lld x %lld), at most %lld "
                  "live\n",
                  d->name, a[0], a[1], a[2], steps, tokens, (long long)d->grid[0], (long long)d->grid[1],
                  (long long)d->grid[2], (long long)d->live);
  return true;
}

/* --explain, --kernels, --asm: all from one lowering. */
static bool print_lowered(const Inspect *s) {
  const InspectArgs *a = &s->args;
  CompileOptions o = s->target.synth.compile;
  o.function = &a->fn;
  o.n_function = 1;
  o.explain = a->explain ? s->out : NULL;
  Target target;
  const InspectCuda cuda = {&a->model, &s->target.synth, a->kernels, a->assembly, a->json};
  if (a->products) return inspect_products(s->model, &cuda, &o, s->out, s->err);
  if (cli_is_cuda(&a->model)) return inspect_cuda(s->model, &cuda, &o, s->out, s->err);
  Lowered l;
  if (!target_host(o.isa, &target, s->err)) return false;
  bool ok = compile_lower(s->model, &o, &l, s->err);
  for (int i = 0; ok && i < l.n_kernel && (a->kernels || a->assembly); i++) {
    buffer_printf(s->out, "# kernel %d\n", i);
    if (a->kernels) kir_print(l.kernel[i], s->out);
    ok = !a->assembly || llvm_print(l.kernel[i], &target, true, s->out, s->err);
  }
  lowered_done(&l);
  return ok;
}

static bool inspect(Inspect *s) {
  const InspectArgs *a = &s->args;
  if (models_is_bundle(a->model.path))
    return (s->bundle = nuwa_bundle_open(a->model.path, s->err)) &&
           inspect_bundle(s->bundle, a->fn, a->json, s->out, s->err);
  ModelArgs m = a->model;
  m.no_cache |= !a->fn;   /* nothing is compiled */
  if (!cli_target_open(&m, &s->target, s->err) || !(s->model = cli_load_model(&s->target, &m, s->err))) return false;
  if (!a->fn) return arena_protect(s->model->graph->arena, list_body, s, s->err);
  Func *f = cli_find_function(s->model, a->fn, s->err);
  if (!f) return false;
  if (a->schedule) return print_schedule(s);
  DType precision = cli_precision(&a->model);
  if (a->after && !error_asked(compile_print_after(s->model, f, a->after, precision, s->out, s->err), s->err))
    return false;
  if (a->explain || a->kernels || a->assembly || cli_is_cuda(&a->model)) return print_lowered(s);
  return a->after || compile_print_after(s->model, f, NULL, DTYPE_F32, s->out, s->err);
}

static bool check(void *ctx, Error *err) {
  const InspectArgs *a = &((Inspect *)ctx)->args;
  bool wants_fn = a->after || a->explain || a->schedule || a->kernels || a->assembly || a->products;
  bool wants_model = wants_fn || a->model.defines.n || a->model.device || a->model.arch || a->model.isa ||
                     a->model.precision || a->model.products;
  if (models_is_bundle(a->model.path) && wants_model)
    return error_set(err, ERROR_ARGUMENT,
                     "of a bundle there are --fn and --json; the other options need the model file");
  if (wants_fn && !a->fn) return error_set(err, ERROR_ARGUMENT, "needs --fn NAME with these options");
  if (a->products && !cli_is_cuda(&a->model))
    return error_set(err, ERROR_ARGUMENT, "--list-products is for --device cuda");
  if (cli_is_cuda(&a->model) && !a->fn)
    return error_set(err, ERROR_ARGUMENT, "--device cuda shows kernels: needs --fn NAME");
  if (a->json && (a->after || a->explain))
    return error_set(err, ERROR_ARGUMENT, "--after and --explain print text, not JSON");
  if (a->json && a->fn && !a->schedule && !cli_is_cuda(&a->model))
    return error_set(err, ERROR_ARGUMENT,
                     "--json goes with --schedule, with --device cuda, or with no function at all");
  return true;
}

static bool run(void *ctx, Arena *arena, Error *err) {
  Inspect *s = ctx;
  s->out = &s->text;
  s->err = err;
  if (!inspect(s)) return false;
  if (s->text.failed) return error_set(err, ERROR_MEMORY, "out of memory");
  if (s->text.data) cli_show(stdout, s->text.data);
  return true;
}

static void run_done(void *ctx) {
  Inspect *s = ctx;
  buffer_done(&s->text);
  nuwa_bundle_close(s->bundle);
  model_free(s->model);
  cli_target_close(&s->target);
}

int cli_inspect(int argc, char **argv) {
  Inspect s = {0};
  InspectArgs *a = &s.args;
  const Arg table[] = {
      ARG_DEFINES(&a->model),
      {"--fn", ARG_TEXT, "NAME", "the function; without: list the model's functions, options, params", &a->fn, 0, 0},
      {"--after", ARG_TEXT, "PASS", "print what this pass gives (lua, expand, fold, dce, layout, fuse, memplan, ...)",
       &a->after, 0, 0},
      {"--explain", ARG_FLAG, NULL, "print every decision with its estimated cost", &a->explain, 0, 0},
      {"--schedule", ARG_FLAG, NULL, "print the decoding schedule", &a->schedule, 0, 0},
      {"--json", ARG_FLAG, NULL, "the schedule, the list, or what --device cuda shows as JSON", &a->json, 0, 0},
      {"--kernels", ARG_FLAG, NULL, "print the kernel IR", &a->kernels, 0, 0},
      {"--asm", ARG_FLAG, NULL, "print the assembly of the kernels; with --device cuda PTX", &a->assembly, 0, 0},
      {"--list-products", ARG_FLAG, NULL, "with --device cuda: who computes each product, and why", &a->products, 0,
       0},
      {"--arch", ARG_TEXT, "LIST", "the GPUs of --device cuda (default sm_80,sm_90)", &a->model.arch, 0, 0},
  };
  const Command c = {.name = "inspect", .usage = "MODEL.lua|BUNDLE.nuwa [--fn NAME] [options]",
                     .about = "Shows what a model has, and what the compiler makes of a function;\n"
                              "of a bundle what it has, and a function's launches.\n",
                     .arg = table, .n_arg = COUNT_OF(table), .model = &a->model.path,
                     .target = &a->model, .ctx = &s, .check = check, .run = run, .done = run_done};
  return cli_command(&c, argc, argv);
}
