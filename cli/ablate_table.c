/* See ablate_table.h. */
#include "cli/ablate_table.h"

#include <math.h>
#include <string.h>

#include "media/report/page.h"
#include "runtime/base/json.h"

Figure figure_of(const double *x, int n) {
  double sum = 0, squares = 0;
  for (int i = 0; i < n; i++) sum += x[i];
  double mean = n ? sum / n : NAN;
  for (int i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
  return (Figure){mean, n > 1 ? sqrt(squares / (n - 1)) : NAN};
}

static const Figure *at(const FigureTable *t, int row, int column) { return &t->figure[row * t->n_column + column]; }

/* "0.4231 ± 0.0021", "12", "-". */
static void print_cell(const FigureTable *t, int row, int column, const char *none, Buffer *out) {
  const Figure *f = at(t, row, column);
  int digits = t->column[column].digits;
  if (isnan(f->mean)) buffer_printf(out, "%s", none);
  else buffer_printf(out, "%.*f", digits, f->mean);
  if (!isnan(f->deviation)) buffer_printf(out, " ± %.*f", digits, f->deviation);
}

/* A bar would end the cell. */
static void print_name(const char *name, Buffer *out) {
  for (; *name; name++) buffer_printf(out, *name == '|' ? "\\%c" : "%c", *name == '\n' ? ' ' : *name);
}

void figures_print_markdown(const FigureTable *t, Buffer *out) {
  buffer_printf(out, "| variant |");
  for (int c = 0; c < t->n_column; c++) {
    buffer_printf(out, " ");
    print_name(t->column[c].name, out);
    buffer_printf(out, " |");
  }
  buffer_printf(out, "\n|---|");
  for (int c = 0; c < t->n_column; c++) buffer_printf(out, "---|");
  for (int r = 0; r < t->n_row; r++) {
    buffer_printf(out, "\n| ");
    print_name(t->row[r], out);
    buffer_printf(out, " |");
    for (int c = 0; c < t->n_column; c++) {
      buffer_printf(out, " ");
      print_cell(t, r, c, "-", out);
      buffer_printf(out, " |");
    }
  }
  buffer_printf(out, "\n");
}

static bool has_deviations(const FigureTable *t, int column) {
  for (int r = 0; r < t->n_row; r++)
    if (!isnan(at(t, r, column)->deviation)) return true;
  return false;
}

/* RFC 4180. */
static void print_quoted(const char *text, const char *behind, Buffer *out) {
  if (!strpbrk(text, ",\"\r\n")) {
    buffer_printf(out, "%s%s", text, behind);
    return;
  }
  buffer_printf(out, "\"");
  for (; *text; text++) buffer_printf(out, *text == '"' ? "\"%c" : "%c", *text);
  buffer_printf(out, "%s\"", behind);
}

static void print_exact(double x, Buffer *out) {
  if (!isnan(x)) json_print_real(out, x);
}

void figures_print_csv(const FigureTable *t, Buffer *out) {
  buffer_printf(out, "variant");
  for (int c = 0; c < t->n_column; c++) {
    buffer_printf(out, ",");
    print_quoted(t->column[c].name, "", out);
    if (!has_deviations(t, c)) continue;
    buffer_printf(out, ",");
    print_quoted(t->column[c].name, ".deviation", out);
  }
  for (int r = 0; r < t->n_row; r++) {
    buffer_printf(out, "\n");
    print_quoted(t->row[r], "", out);
    for (int c = 0; c < t->n_column; c++) {
      buffer_printf(out, ",");
      print_exact(at(t, r, c)->mean, out);
      if (!has_deviations(t, c)) continue;
      buffer_printf(out, ",");
      print_exact(at(t, r, c)->deviation, out);
    }
  }
  buffer_printf(out, "\n");
}

void figures_print_json(const FigureTable *t, Buffer *out) {
  for (int r = 0; r < t->n_row; r++) {
    buffer_printf(out, "%s{\"variant\": ", r ? ",\n " : "[");
    json_print_text(out, t->row[r]);
    for (int c = 0; c < t->n_column; c++) {
      const Figure *f = at(t, r, c);
      if (isnan(f->mean)) continue;
      buffer_printf(out, ", ");
      json_print_text(out, t->column[c].name);
      buffer_printf(out, isnan(f->deviation) ? ": " : ": {\"mean\": ");
      json_print_real(out, f->mean);
      if (isnan(f->deviation)) continue;
      buffer_printf(out, ", \"deviation\": ");
      json_print_real(out, f->deviation);
      buffer_printf(out, "}");
    }
    buffer_printf(out, "}");
  }
  buffer_printf(out, "]\n");
}

static bool is_best(const FigureTable *t, int row, int column) {
  double x = at(t, row, column)->mean;
  if (!t->column[column].less_is_better || isnan(x)) return false;
  for (int r = 0; r < t->n_row; r++)
    if (at(t, r, column)->mean < x) return false;
  return true;
}

void figures_print_page(const FigureTable *t, Arena *a, Buffer *out) {
  int width = t->n_column + 1;
  PageColumn *column = ARENA_ARRAY(a, PageColumn, width);
  const char **cell = ARENA_ARRAY(a, const char *, t->n_row * width);
  bool *best = ARENA_ARRAY(a, bool, t->n_row * width);
  column[0].name = "variant";
  for (int c = 0; c < t->n_column; c++) column[c + 1] = (PageColumn){t->column[c].name, true};
  for (int r = 0; r < t->n_row; r++) {
    cell[r * width] = t->row[r];
    for (int c = 0; c < t->n_column; c++) {
      Buffer text = {0};
      print_cell(t, r, c, "", &text);
      cell[r * width + c + 1] = arena_take_buffer(a, &text);
      best[r * width + c + 1] = is_best(t, r, c);
    }
  }
  page_table(out, &(PageTable){.column = column, .n_column = width, .cell = cell, .n_row = t->n_row, .is_best = best});
}
