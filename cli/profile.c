/* Reads the groups of --explain back: group k of a function is its launch k. */
#include "cli/profile.h"

#include <inttypes.h>
#include <string.h>

enum { LABEL_BYTES = 160, FAMILY_BYTES = 16, MAX_FAMILIES = 8, SHOWN = 40 };

/* One kernel, or one family, with all its launches. */
typedef struct Row {
  char family[FAMILY_BYTES], label[LABEL_BYTES];
  int64_t ns, launches;
  double bytes, operations; /* of one run */
} Row;

/* "12B+34" -> 12 B + 34 */
static double read_dim(const char *text, int64_t B) {
  double sum = 0.0;
  for (char *end; *text == '-' || *text == '+' || (*text >= '0' && *text <= '9'); text = end) {
    double n = strtod(text, &end);
    if (end == text) break;
    if (*end == 'B') n *= (double)B;
    if (*end == 'B' || *end == 'R') end++;
    sum += n;
  }
  return sum;
}

/* What follows `key` in the lines of a group, up to the end of its line. */
static const char *after(const char *group, const char *end, const char *key) {
  const char *at = strstr(group, key);
  return at && at < end ? at + strlen(key) : NULL;
}

static void copy_line(char *out, size_t cap, const char *from) {
  size_t n = from ? strcspn(from, "\n") : 0;
  snprintf(out, cap, "%.*s", (int)n, from ? from : "");
}

static Row read_group(const char *group, const char *end, int64_t B) {
  Row r = {0};
  const char *family = strchr(group, ':'), *cost = after(group, end, "    cost: "),
             *operations = after(group, end, "), ");
  if (family) snprintf(r.family, sizeof r.family, "%.*s", (int)strcspn(family + 2, " \n"), family + 2);
  copy_line(r.label, sizeof r.label, after(group, end, "    writes: "));
  if (cost) r.bytes = read_dim(cost, B);
  if (operations) r.operations = read_dim(operations, B);
  return r;
}

static const char *function_part(const char *explain, const char *function) {
  char head[200];
  snprintf(head, sizeof head, "function %s: ", function);
  return explain ? strstr(explain, head) : NULL;
}

static void add_row(Row *to, const Row *r, int64_t ns) {
  if (!to->launches)
    *to = *r;
  else
    to->bytes += r->bytes, to->operations += r->operations;
  to->ns += ns;
  to->launches++;
}

static Row *find_family(Row *list, int *n, const char *family) {
  for (int i = 0; i < *n; i++)
    if (strcmp(list[i].family, family) == 0) return &list[i];
  return *n < MAX_FAMILIES ? &list[(*n)++] : &list[MAX_FAMILIES - 1];
}

static int by_time(const void *x, const void *y) {
  int64_t a = ((const Row *)x)->ns, b = ((const Row *)y)->ns;
  return a < b ? 1 : a > b ? -1 : 0;
}

static void print_row(const Row *r, int64_t total, int64_t runs, bool with_label) {
  double seconds = (double)r->ns * 1e-9 / (double)runs;
  if (seconds <= 0.0) return;
  fprintf(stderr, "%9.3f ms %5.1f %%  %4" PRId64 " x %-8s %7.1f GFLOP/s %6.1f GB/s  %s\n", 1e3 * seconds,
          100.0 * (double)r->ns / (double)total, r->launches, r->family, r->operations * 1e-9 / seconds,
          r->bytes * 1e-9 / seconds, with_label ? r->label : "");
}

void profile_print(const NuwaSession *s, const Plan *p, const char *function, const char *explain, int64_t runs,
                   int64_t B) {
  int f = plan_find_function(p, function);
  const char *group = function_part(explain, function);
  Row *kernel = mem_alloc((size_t)(p->n_kernel + 1) * sizeof *kernel), family[MAX_FAMILIES] = {0};
  int n_family = 0;
  int64_t total = 0;
  for (int i = 0; kernel && f >= 0 && i < p->function[f].n_launch; i++) {
    group = group ? strstr(group + 1, "\n  group ") : NULL;
    const char *end = group ? strstr(group + 1, "\n  group ") : NULL;
    Row r = group ? read_group(group, end ? end : group + strlen(group), B) : (Row){0};
    int64_t ns = nuwa_profile_ns(s, f, i);
    const PlanLaunch *launch = &p->function[f].launch[i];
    add_row(&kernel[launch->kind == LAUNCH_KERNEL ? launch->kernel : p->n_kernel], &r, ns);   /* the last row: products by a library */
    Row *of_family = find_family(family, &n_family, r.family);
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
