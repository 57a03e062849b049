/* What `nuwa ablate` found, as a table: rows are variants, columns are figures, each a mean and where several runs gave it
 * their deviation. */
#ifndef NUWA_CLI_ABLATE_TABLE_H
#define NUWA_CLI_ABLATE_TABLE_H

#include "runtime/base/memory.h"

typedef struct Figure {
  double mean, deviation;      /* NAN: there is none */
} Figure;

typedef struct FigureColumn {
  const char *name;            /* "held.loss", "ms a picture" */
  int digits;                  /* after the point */
  bool less_is_better;         /* the least stands out on a page */
} FigureColumn;

typedef struct FigureTable {
  const char *const *row;      /* [n_row] names of variants */
  const FigureColumn *column;
  const Figure *figure;        /* [n_row][n_column] */
  int n_row, n_column;
} FigureTable;

/* Of n numbers: the mean, and the square root of the sum of squared differences over n - 1. */
Figure figure_of(const double *x, int n);

void figures_print_markdown(const FigureTable *t, Buffer *out);
/* Names quoted where they must be; a column NAME and, where some figure has one, NAME.deviation. */
void figures_print_csv(const FigureTable *t, Buffer *out);
/* [{"variant": ..., "NAME": {"mean": ..., "deviation": ...}, ...}, ...]; figures without deviation are numbers. */
void figures_print_json(const FigureTable *t, Buffer *out);
/* For a page that has begun (media/report/page.h).  The arena holds its cells. */
void figures_print_page(const FigureTable *t, Arena *a, Buffer *out);

#endif
