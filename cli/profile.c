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

static double ms_of(const KernelRow *r, int64_t runs) { return (double)r->ns * 1e-6 / (double)runs; }
static double share_of(const KernelRow *r, int64_t total) { return 100.0 * (double)r->ns / (double)total; }
static double gflops_of(const KernelRow *r, int64_t runs) { return r->operations * 1e-6 / ms_of(r, runs); }
static double gbytes_of(const KernelRow *r, int64_t runs) { return r->bytes * 1e-6 / ms_of(r, runs); }

/* All rows of a function, the slowest first. */
typedef struct FunctionProfile {
  KernelRow *kernel, family[MAX_FAMILIES]; /* kernel [n_kernel] on the heap; some rows have no launches */
  int n_kernel, n_family, n_launch;
  int64_t total; /* ns */
} FunctionProfile;

static FunctionProfile measure(const NuwaSession *s, const Plan *p, const char *function, const Lowered *e, int64_t B) {
  int f = plan_find_function(p, function), at = 0;
  FunctionProfile m = {.kernel = mem_alloc((size_t)(p->n_kernel + 1) * sizeof *m.kernel), .n_kernel = p->n_kernel + 1};
  if (!m.kernel || f < 0) return m;
  m.n_launch = p->function[f].n_launch;
  for (int i = 0; i < m.n_launch; i++) {
    KernelRow r = row_of(next_estimate(e, function, &at), B);
    int64_t ns = nuwa_profile_ns(s, f, i);
    const PlanLaunch *launch = &p->function[f].launch[i];
    add_row(&m.kernel[launch->kind == LAUNCH_KERNEL ? launch->kernel : p->n_kernel], &r,
            ns); /* the last row: products by a library */
    add_row(find_family(m.family, &m.n_family, r.family), &r, ns);
    m.total += ns;
  }
  qsort(m.family, (size_t)m.n_family, sizeof *m.family, by_time);
  qsort(m.kernel, (size_t)m.n_kernel, sizeof *m.kernel, by_time);
  return m;
}

static void print_row(const KernelRow *r, int64_t total, int64_t runs, bool with_label) {
  if (r->ns <= 0) return;
  fprintf(stderr, "%9.3f ms %5.1f %%  %4" PRId64 " x %-8s %7.1f GFLOP/s %6.1f GB/s  %s\n", ms_of(r, runs),
          share_of(r, total), r->launches, r->family, gflops_of(r, runs), gbytes_of(r, runs),
          with_label ? r->label : "");
}

void profile_print(const NuwaSession *s, const Plan *p, const char *function, const Lowered *e, int64_t runs,
                   int64_t B) {
  FunctionProfile m = measure(s, p, function, e, B);
  if (m.total > 0 && runs > 0) {
    fprintf(stderr, "%s: %d launches, %.2f ms a run\n", function, m.n_launch, (double)m.total * 1e-6 / (double)runs);
    for (int i = 0; i < m.n_family; i++) print_row(&m.family[i], m.total, runs, false);
    for (int i = 0; i < m.n_kernel && i < SHOWN; i++) print_row(&m.kernel[i], m.total, runs, true);
  }
  mem_free(m.kernel);
}

static void put_table(Arena *a, Buffer *out, const KernelRow *row, int n_row, bool of_families, int64_t total,
                      int64_t runs) {
  static const PageColumn columns[] = {{"kernel", false}, {"family", false}, {"launches", true}, {"ms a run", true},
                                       {"share", true}, {"GFLOP/s", true}, {"GB/s", true}};
  const PageColumn *column = columns + (of_families ? 1 : 0);
  int width = COUNT_OF(columns) - (of_families ? 1 : 0), n = 0;
  const char **cell = ARENA_ARRAY(a, const char *, n_row * width + 1);
  for (int i = 0; i < n_row && n < SHOWN; i++) {
    const KernelRow *r = &row[i];
    const char **to = cell + width * n;
    if (r->ns <= 0) continue;
    if (!of_families) *to++ = arena_strdup(a, r->label);
    *to++ = r->family;
    *to++ = arena_printf(a, "%" PRId64, r->launches);
    *to++ = arena_printf(a, "%.3f", ms_of(r, runs));
    *to++ = arena_printf(a, "%.1f %%", share_of(r, total));
    *to++ = arena_printf(a, "%.1f", gflops_of(r, runs));
    *to++ = arena_printf(a, "%.1f", gbytes_of(r, runs));
    n++;
  }
  page_table(out, &(PageTable){.column = column, .n_column = width, .cell = cell, .n_row = n});
}

void profile_page(Arena *a, Buffer *out, const NuwaSession *s, const Plan *p, const char *function, const Lowered *e,
                  int64_t runs, int64_t B) {
  FunctionProfile m = measure(s, p, function, e, B);
  if (m.total > 0) {
    page_text(out, arena_printf(a, "%s: %d launches, %.2f ms a run, over %" PRId64 " runs", function, m.n_launch,
                                (double)m.total * 1e-6 / (double)runs, runs));
    put_table(a, out, m.family, m.n_family, true, m.total, runs);
    page_fold_begin(out, arena_printf(a, "The slowest kernels of %s", function));
    put_table(a, out, m.kernel, m.n_kernel, false, m.total, runs);
    page_fold_end(out);
  }
  mem_free(m.kernel);
}
