/* A bundle as text or JSON: all of it comes from the file, nothing is loaded or executed. */
#include "cli/inspect_bundle.h"

#include <string.h>

#include "ir/text.h"
#include "runtime/base/sha256.h"
#include "synth/tensors.h"

/* ---- a function's launches ---- */

static void print_product(const PlanProduct *p, const PlanShape *s, Buffer *out) {
  char batch[DIM_TEXT], m[DIM_TEXT], n[DIM_TEXT], k[DIM_TEXT];
  bool is_batch = !dim_equal(s->batch, dim_const(1));
  dim_print(s->k, k);
  buffer_printf(out, "%s%s %s [%s,%s] [%s,%s]%s", is_batch ? " " : "", is_batch ? dim_print(s->batch, batch) : "",
                dtype_name(p->in), dim_print(s->m, m), k, k, dim_print(s->n, n), p->bias ? " + bias" : "");
}

static void print_items(const PlanLaunch *l, Buffer *out) {
  char size[DIM_TEXT];
  for (int i = 0; i < l->n_factor; i++) {
    buffer_printf(out, "%s%s", i ? " x " : "items ", dim_print(l->factor[i].size, size));
    if (l->factor[i].tile != 1) buffer_printf(out, "/%lld", (long long)l->factor[i].tile);
  }
  if (!l->n_factor) buffer_printf(out, "1 item");
}

/* The next plan of b from part *at on; then *at is its part.  NULL: no more. */
static const Plan *next_plan(const NuwaBundle *b, int *at) {
  const BundlePart *part = bundle_part(b, *at);
  while (part && part->kind != NUWA_PART_PLAN) part = bundle_part(b, ++*at);
  return part ? nuwa_bundle_plan(b, part->name) : NULL;
}

static bool print_function(const NuwaBundle *b, const char *name, Buffer *out, Error *err) {
  int at = 0, f = -1;
  const Plan *p;
  while ((p = next_plan(b, &at)) && (f = plan_find_function(p, name)) < 0) at++;
  if (f < 0) {
    error_set(err, ERROR_ARGUMENT, "the bundle has no function \"%s\"; it has:", name);
    for (at = 0; (p = next_plan(b, &at)); at++)
      for (int i = 0; i < p->n_function; i++) text_add_name(err, " ", p->function[i].name);
    return error_asked(false, err);
  }
  for (int i = 0; i < p->function[f].n_launch; i++) {
    const PlanLaunch *l = &p->function[f].launch[i];
    buffer_printf(out, "launch %d: ", i);
    if (l->kind == LAUNCH_PRODUCT) {
      buffer_printf(out, "product %d:", (int)l->product);
      print_product(&p->product[l->product], &l->shape, out);
    } else {
      text_name(out, p->kernel[l->kernel].name);
      buffer_printf(out, ", ");
      print_items(l, out);
    }
    buffer_printf(out, "\n");
  }
  return true;
}

/* ---- the whole ---- */

static int64_t count_elems(const Plan *p) {
  int64_t total = 0, n;
  for (int i = 0; i < p->n_param; i++)
    if (plan_tensor_elems(&p->param[i].type, 0, 0, &n)) total += n;
  return total;
}

typedef struct Code {
  int arch;              /* 0: PTX, or ELF on the CPU */
  int64_t images, bytes;
} Code;

/* Images of each arch together. */
static int sum_code(const Plan *p, Code *code, int room) {
  int n = 0;
  for (int o = 0; o < p->n_object; o++)
    for (int i = 0; i < p->object[o].n_image; i++) {
      const PlanImage *m = &p->object[o].image[i];
      int k = 0;
      while (k < n && code[k].arch != m->arch) k++;
      if (k == room) continue;
      if (k == n) code[n++] = (Code){.arch = m->arch};
      code[k].images++;
      code[k].bytes += m->len;
    }
  return n;
}

static const char *code_name(const Plan *p, const Code *c, char out[20]) {
  snprintf(out, 20, c->arch ? "sm_%d" : p->device == PLAN_CUDA ? "PTX" : "ELF", c->arch);
  return out;
}

enum { MAX_CODES = 16 };

static void print_ports(const PlanTensor *t, int n, Buffer *out) {
  char text[300];
  for (int i = 0; i < n; i++) {
    buffer_printf(out, "%s", i ? ", " : "");
    text_name(out, t[i].name);
    buffer_printf(out, ": %s", tensors_print_type(&t[i], text, sizeof text));
  }
}

static void list_functions(const Plan *p, Buffer *out) {
  buffer_printf(out, "functions\n");
  for (int i = 0; i < p->n_function; i++) {
    const PlanFunction *f = &p->function[i];
    char arena[DIM_TEXT];
    buffer_printf(out, "  ");
    text_name(out, f->name);
    buffer_printf(out, "(");
    print_ports(f->in, f->n_in, out);
    buffer_printf(out, ") -> (");
    print_ports(f->out, f->n_out, out);
    buffer_printf(out, "): %d launches, arena %s bytes\n", f->n_launch,
                  dim_print((Dim){f->part_bytes[0], f->part_bytes[1], f->part_bytes[2]}, arena));
  }
  if (p->n_decode) buffer_printf(out, "drawing\n");
  for (int i = 0; i < p->n_decode; i++) {
    const PlanDecode *d = &p->decode[i];
    buffer_printf(out, "  ");
    text_name(out, d->name);
    buffer_printf(out, ": %lld x %lld x %lld tokens out of %lld, t = %lld s + %lld h + %lld w, at most %lld live\n",
                  (long long)d->grid[0], (long long)d->grid[1], (long long)d->grid[2], (long long)d->vocab,
                  (long long)d->wavefront[0], (long long)d->wavefront[1], (long long)d->wavefront[2],
                  (long long)d->live);
  }
}

static void list_products(const Plan *p, Buffer *out) {
  if (p->n_product) buffer_printf(out, "products by cuBLASLt\n");
  for (int i = 0; i < p->n_product; i++) {
    const PlanProduct *q = &p->product[i];
    buffer_printf(out, "  %d: %s to %s%s%s%s, ", i, dtype_name(q->in), dtype_name(q->out),
                  q->transpose_a ? ", A stored [k,m]" : "", q->transpose_b ? ", B stored [n,k]" : "",
                  q->bias ? ", bias" : "");
    if (q->algorithm[0]) buffer_printf(out, "algorithm %s\n", q->algorithm);
    else buffer_printf(out, "algorithm chosen when a session opens\n");
  }
}

static void list_plan(const Plan *p, Buffer *out) {
  enum { SHOWN = 60 };
  Code code[MAX_CODES];
  char name[20];
  int n = sum_code(p, code, MAX_CODES);
  buffer_printf(out, "for %s (%s)\n", p->isa, p->features);
  list_functions(p, out);
  buffer_printf(out, "params: %d tensors, %lld elements\n", p->n_param, (long long)count_elems(p));
  buffer_printf(out, "code: %d kernels", p->n_kernel);
  for (int i = 0; i < n; i++)
    buffer_printf(out, "; %s: %lld images, %lld bytes", code_name(p, &code[i], name), (long long)code[i].images,
                  (long long)code[i].bytes);
  buffer_printf(out, "\n");
  list_products(p, out);
  if (p->n_text) buffer_printf(out, "entries\n");
  for (int i = 0; i < p->n_text; i++) {
    size_t bytes = strlen(p->text[i].value);
    buffer_printf(out, "  ");
    text_name(out, p->text[i].key);
    if (bytes <= SHOWN) buffer_printf(out, " = %s\n", p->text[i].value);
    else buffer_printf(out, ": %zu bytes\n", bytes);
  }
}

static void json_ports(const char *what, const PlanTensor *t, int n, Buffer *out) {
  char text[300];
  buffer_printf(out, "\"%s\": {", what);
  for (int i = 0; i < n; i++) {
    buffer_printf(out, "%s", i ? ", " : "");
    json_print_text(out, t[i].name);
    buffer_printf(out, ": \"%s\"", tensors_print_type(&t[i], text, sizeof text));
  }
  buffer_printf(out, "}, ");
}

static void json_plan(const Plan *p, Buffer *out) {
  Code code[MAX_CODES];
  char name[20];
  int n = sum_code(p, code, MAX_CODES);
  buffer_printf(out, "\"device\": \"%s\", \"isa\": ", plan_device_name(p->device));
  json_print_text(out, p->isa);
  buffer_printf(out, ", \"functions\": {");
  for (int i = 0; i < p->n_function; i++) {
    const PlanFunction *f = &p->function[i];
    buffer_printf(out, "%s", i ? ", " : "");
    json_print_text(out, f->name);
    buffer_printf(out, ": {");
    json_ports("inputs", f->in, f->n_in, out);
    json_ports("outputs", f->out, f->n_out, out);
    buffer_printf(out, "\"launches\": %d}", f->n_launch);
  }
  buffer_printf(out, "}, \"params\": %d, \"elements\": %lld, \"kernels\": %d, \"code\": {", p->n_param,
                (long long)count_elems(p), p->n_kernel);
  for (int i = 0; i < n; i++)
    buffer_printf(out, "%s\"%s\": {\"images\": %lld, \"bytes\": %lld}", i ? ", " : "", code_name(p, &code[i], name),
                  (long long)code[i].images, (long long)code[i].bytes);
  buffer_printf(out, "}, \"algorithms\": [");
  for (int i = 0; i < p->n_product; i++) {
    buffer_printf(out, "%s", i ? ", " : "");
    json_print_text(out, p->product[i].algorithm);
  }
  buffer_printf(out, "], \"entries\": {");
  for (int i = 0; i < p->n_text; i++) {
    buffer_printf(out, "%s", i ? ", " : "");
    json_print_text(out, p->text[i].key);
    buffer_printf(out, ": ");
    json_print_text(out, p->text[i].value);
  }
  buffer_printf(out, "}");
}

/* ---- a bundle of several parts ---- */

static const char *const kind_name[] = {"plan", "weights", "text"};

static void list_parts(const NuwaBundle *b, Buffer *out) {
  char hex[65];
  const BundlePart *p;
  buffer_printf(out, "parts\n");
  for (int i = 0; (p = bundle_part(b, i)); i++) {
    sha256_hex(bundle_digest(b, p), hex);
    buffer_printf(out, "  %s ", kind_name[p->kind]);
    text_name(out, p->name);
    buffer_printf(out, ": %zu bytes, SHA-256 %s\n", p->len, hex);
  }
}

/* What opening a bundle leaves out. */
static bool check_weights(const NuwaBundle *b, Error *err) {
  const BundlePart *p;
  for (int i = 0; (p = bundle_part(b, i)); i++) {
    if (p->kind != NUWA_PART_WEIGHTS) continue;
    Safetensors *w = nuwa_bundle_weights(b, p->name, err);
    if (!w) return false;
    safetensors_close(w);
  }
  return true;
}

static void json_parts(const NuwaBundle *b, Buffer *out) {
  const BundlePart *p;
  char hex[65];
  buffer_printf(out, "\"parts\": [");
  for (int i = 0; (p = bundle_part(b, i)); i++) {
    buffer_printf(out, "%s{\"kind\": \"%s\", \"name\": ", i ? ", " : "", kind_name[p->kind]);
    json_print_text(out, p->name);
    sha256_hex(bundle_digest(b, p), hex);
    buffer_printf(out, ", \"bytes\": %zu, \"sha256\": \"%s\"}", p->len, hex);
  }
  buffer_printf(out, "]");
}

static int count_plans(const NuwaBundle *b) {
  int n = 0;
  for (int at = 0; next_plan(b, &at); at++) n++;
  return n;
}

/* A bundle with one plan is that plan's object, with its parts; one with several has an object for each. */
static void list_json(const NuwaBundle *b, Buffer *out) {
  bool several = count_plans(b) > 1;
  const Plan *p;
  const char *comma = "";
  buffer_printf(out, "{");
  json_parts(b, out);
  buffer_printf(out, several ? ", \"plans\": {" : ", ");
  for (int at = 0; (p = next_plan(b, &at)); at++, comma = ", ") {
    buffer_printf(out, "%s", comma);
    if (several) json_print_text(out, bundle_part(b, at)->name);
    if (several) buffer_printf(out, ": {");
    json_plan(p, out);
    if (several) buffer_printf(out, "}");
  }
  buffer_printf(out, several ? "}}\n" : "}\n");
}

static void list_text(const NuwaBundle *b, Buffer *out) {
  const Plan *p;
  if (bundle_part(b, 1)) list_parts(b, out);
  for (int at = 0; (p = next_plan(b, &at)); at++) {
    if (bundle_part(b, 1)) {
      buffer_printf(out, "\nplan ");
      text_name(out, bundle_part(b, at)->name);
      buffer_printf(out, "\n");
    }
    list_plan(p, out);
  }
}

bool inspect_bundle(const NuwaBundle *b, const char *fn, bool json, Buffer *out, Error *err) {
  if (fn && json) return error_set(err, ERROR_USAGE, "--json describes a whole bundle, without --fn");
  if (fn) return print_function(b, fn, out, err);
  if (!check_weights(b, err)) return false;
  if (json) list_json(b, out);
  else list_text(b, out);
  return true;
}
