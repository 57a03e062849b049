/* Pages of figures: the one writer of HTML for everybody who has something to show.
 *
 * A page is appended to a Buffer (whose `failed` is asked once, at the end) and is one file: styles, plots (plot.h) and
 * pictures are inside, nothing is fetched and no script runs.  It follows the reader's light or dark mode, narrow screens
 * and printers.  All texts are anybody's (metrics, captions, paths): they are written so that they show as they are and
 * mean nothing to the browser. */
#ifndef NUWA_REPORT_PAGE_H
#define NUWA_REPORT_PAGE_H

#include "runtime/base/memory.h"

/* Colours of light mode, for what has no style sheet: --text, --faint and --line, and those of series, --s0 to --s7. */
#define PAGE_TEXT "#1b1f24"
#define PAGE_FAINT "#5c6670"
#define PAGE_LINE "#d9dee3"
#define PAGE_SERIES(X)                                                                                               \
  X(0, "#0067b1") X(1, "#c24a00") X(2, "#00805c") X(3, "#a3348c") X(4, "#8a6a00") X(5, "#4b5563") X(6, "#6a4cc4") X(7, "#b3123f")

/* Text as HTML shows it, in elements and in quoted attributes: markup is escaped; bytes that are no UTF-8 and control
 * characters but tabs and line ends become replacement characters. */
void page_escape(Buffer *out, const char *text);

/* lead: a line below the title; NULL: none. */
void page_begin(Buffer *out, const char *title, const char *lead);
void page_end(Buffer *out);
void page_heading(Buffer *out, const char *text);
/* A paragraph; line ends are kept. */
void page_text(Buffer *out, const char *text);
/* Lines of fixed width, as they stand: a command, a listing. */
void page_code(Buffer *out, const char *text);
/* What stands between the two is hidden until the reader opens it (printers print it closed). */
void page_fold_begin(Buffer *out, const char *summary);
void page_fold_end(Buffer *out);
/* Figures between the two stand beside each other where there is room: plots, pictures. */
void page_figures_begin(Buffer *out);
void page_figures_end(Buffer *out);

typedef struct PageFact {
  const char *name, *value;
} PageFact;
void page_facts(Buffer *out, const PageFact *fact, int n);

typedef struct PageColumn {
  const char *name;
  bool is_number; /* to the right, in figures of one width */
} PageColumn;
typedef struct PageTable {
  const char *caption; /* NULL: none */
  const PageColumn *column;
  int n_column;
  const char *const *cell; /* [n_row][n_column]; NULL: empty */
  int n_row;
  const bool *is_best; /* [n_row][n_column]: cells to stand out; NULL: none */
} PageTable;
/* The first column names its rows.  Wide tables scroll by themselves. */
void page_table(Buffer *out, const PageTable *t);

typedef struct PagePicture {
  const void *png; /* the file */
  size_t bytes;
  int width, height;   /* of it */
  const char *caption; /* also its text for who does not see it; NULL: none */
} PagePicture;
/* At its own size or less; small pictures are shown larger, pixel by pixel. */
void page_picture(Buffer *out, const PagePicture *p);

#endif
