/* Measured launches beside their estimates: launch k of a function has its k-th estimate. */
#include "cli/profile.h"

#include <inttypes.h>
#include <string.h>

#include "passes/family.h"

enum { LABEL_BYTES = 160, MAX_FAMILIES = 8, SHOWN = 40 };

/* One kernel, or one family, with all its launches. */
typedef struct KernelRow {
  const char *family;
  char label[LABEL_BYTES];
  int64_t ns, launches;
  double bytes, operations; /* of one run */
} KernelRow;

static double size_of(Dim d, int64_t B) { return (double)dim_value(d, B, 1); }

static KernelRow row_of(const LaunchEstimate *e, int64_t B) {
  const Node *out = e->group->n_out ? e->group->out[0] : e->group->anchor;
  char type[100];
  KernelRow r = {.family = program_family_name(e->group->family),
           .bytes = size_of(dim_add(e->cost.bytes_read, e->cost.bytes_written), B),
           .operations = size_of(e->cost.flops, B)};
  snprintf(r.label, sizeof r.label, "%s %s", op_info[out->op].text, type_print(&out->type, type, sizeof type));
  return r;
}

/* The next estimate of the function from *at on. */
static const LaunchEstimate *next_estimate(const Lowered *e, const char *function, int *at) {
  while (*at < e->n_launch && strcmp(e->launch[*at].function, function) != 0) ++*at;
  BUG_IF(*at == e->n_launch, "function %s has more launches than estimates", function);
  return &e->launch[(*at)++];
}

static void add_row(KernelRow *to, const KernelRow *r, int64_t ns) {
  if (!to->launches)
    *to = *r;
  else
    to->bytes += r->bytes, to->operations += r->operations;
  to->ns += ns;
  to->launches++;
}

static KernelRow *find_family(KernelRow *list, int *n, const char *family) {
  for (int i = 0; i < *n; i++)
    if (strcmp(list[i].family, family) == 0) return &list[i];
  return *n < MAX_FAMILIES ? &list[(*n)++] : &list[MAX_FAMILIES - 1];
}

static int by_time(const void *x, const void *y) {
  int64_t a = ((const KernelRow *)x)->ns, b = ((const KernelRow *)y)->ns;
  return a < b ? 1 : a > b ? -1 : 0;
}

static void print_row(const KernelRow *r, int64_t total, int64_t runs, bool with_label) {
  double seconds = (double)r->ns * 1e-9 / (double)runs;
  if (seconds <= 0.0) return;
  fprintf(stderr, "%9.3f ms %5.1f %%  %4" PRId64 " x %-8s %7.1f GFLOP/s %6.1f GB/s  %s\n", 1e3 * seconds,
          100.0 * (double)r->ns / (double)total, r->launches, r->family, r->operations * 1e-9 / seconds,
          r->bytes * 1e-9 / seconds, with_label ? r->label : "");
}

void profile_print(const NuwaSession *s, const Plan *p, const char *function, const Lowered *e, int64_t runs,
                   int64_t B) {
  int f = plan_find_function(p, function);
  KernelRow *kernel = mem_alloc((size_t)(p->n_kernel + 1) * sizeof *kernel), family[MAX_FAMILIES] = {0};
  int n_family = 0, at = 0;
  int64_t total = 0;
  for (int i = 0; kernel && f >= 0 && i < p->function[f].n_launch; i++) {
    KernelRow r = row_of(next_estimate(e, function, &at), B);
    int64_t ns = nuwa_profile_ns(s, f, i);
    const PlanLaunch *launch = &p->function[f].launch[i];
    add_row(&kernel[launch->kind == LAUNCH_KERNEL ? launch->kernel : p->n_kernel], &r, ns);   /* the last row: products by a library */
    KernelRow *of_family = find_family(family, &n_family, r.family);
    add_row(of_family, &r, ns);
    total += ns;
  }
  if (kernel && total > 0 && runs > 0) {
    fprintf(stderr, "%s: %d launches, %.2f ms a run\n", function, p->function[f].n_launch,
            (double)total * 1e-6 / (double)runs);
    qsort(family, (size_t)n_family, sizeof *family, by_time);
    for (int i = 0; i < n_family; i++) print_row(&family[i], total, runs, false);
    qsort(kernel, (size_t)p->n_kernel + 1, sizeof *kernel, by_time);
    for (int i = 0; i <= p->n_kernel && i < SHOWN; i++) print_row(&kernel[i], total, runs, true);
  }
  mem_free(kernel);
}
