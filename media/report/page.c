/* See page.h.  The style sheet is the whole design: colours are variables, set once for light and once for dark mode.
 * Those of series are told apart with every common form of colour blindness and stand at 3:1 or more against their
 * background; plots also tell series apart by marks and dashes. */
#include "media/report/page.h"

#include <string.h>

#include "runtime/base/utf8.h"

#define VARIABLE(i, colour) "--s" #i ":" colour ";"

static const char head_style[] =
    ":root{color-scheme:light dark;--back:#fff;--card:#f7f8f9;--text:" PAGE_TEXT ";--faint:" PAGE_FAINT ";--line:" PAGE_LINE
    ";--best:#e2f1e6;" PAGE_SERIES(VARIABLE) "}\n"
    "@media(prefers-color-scheme:dark){:root{--back:#14171a;--card:#1c2024;--text:#e4e7ea;--faint:#9aa4ae;--line:#343b42;"
    "--best:#1d3a28;--s0:#5ab4f0;--s1:#ff9a52;--s2:#3fd0a0;--s3:#ec9bd6;--s4:#e3cf57;--s5:#b4bec8;--s6:#b3a0ff;--s7:#ff8aa5}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;padding:1.5rem clamp(.75rem,3vw,2.5rem) 4rem;max-width:84rem;background:var(--back);color:var(--text);"
    "font:15px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,\"DejaVu Sans\",sans-serif;overflow-wrap:anywhere}\n"
    "h1{margin:0;font-size:1.6rem;line-height:1.25}h2{margin:2.2rem 0 .8rem;font-size:1.15rem;padding-bottom:.3rem;"
    "border-bottom:1px solid var(--line)}\n"
    ".lead{margin:.3rem 0 0;color:var(--faint)}p{margin:.6rem 0;white-space:pre-line;max-width:70ch}\n"
    "h1,h2,p,td,th,dd,dt,figcaption,li,pre{unicode-bidi:isolate}\n"
    "pre{margin:.6rem 0;padding:.6rem .8rem;background:var(--card);border:1px solid var(--line);border-radius:6px;overflow-x:auto;"
    "white-space:pre-wrap;font:13px/1.5 ui-monospace,\"DejaVu Sans Mono\",monospace}\n"
    "details{margin:.6rem 0}summary{cursor:pointer;color:var(--faint)}\n"
    ".scroll{overflow-x:auto;margin:.6rem 0}\n"
    "table{border-collapse:collapse;font-size:14px}caption{text-align:left;color:var(--faint);padding-bottom:.3rem}\n"
    "th,td{padding:.28rem .8rem .28rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}\n"
    "thead th{font-weight:600;border-bottom:2px solid var(--line)}tbody th{font-weight:400}\n"
    ".n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.best{background:var(--best);font-weight:600}\n"
    "dl{display:grid;grid-template-columns:minmax(7rem,max-content) minmax(0,1fr);gap:.25rem 1.2rem;margin:.6rem 0;font-size:14px}\n"
    "dt{color:var(--faint)}dd{margin:0}\n"
    ".figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,23rem),1fr));gap:1rem;align-items:start}\n"
    "figure{margin:0;break-inside:avoid}.plot{padding:.7rem .8rem .6rem;background:var(--card);border:1px solid var(--line);"
    "border-radius:8px}\n"
    ".plot figcaption{font-weight:600}figcaption{font-size:14px}.picture figcaption{color:var(--faint)}\n"
    ".plot svg{display:block;width:100%;height:auto;font:12px system-ui,-apple-system,\"Segoe UI\",Roboto,\"DejaVu Sans\",sans-serif;"
    "font-variant-numeric:tabular-nums}\n"
    ".plot text{fill:var(--faint)}.plot .name{fill:var(--text)}.grid{stroke:var(--line);stroke-width:1}\n"
    ".l{fill:none;stroke:var(--c);stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}.b{fill:var(--c);opacity:.2}\n"
    ".m{fill:var(--card);stroke:var(--c);stroke-width:1.6}.f{fill:var(--c)}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;margin:.35rem 0 0;padding:0;list-style:none;font-size:13px}\n"
    ".legend svg{display:inline-block;width:30px;height:12px;vertical-align:-1px;margin-right:.4rem}.legend b{font-weight:600;"
    "font-variant-numeric:tabular-nums}\n"
    ".picture img{display:block;max-width:100%;height:auto;image-rendering:pixelated;border-radius:4px}\n"
    ".picture img.smooth{image-rendering:auto}\n"
    "@media(max-width:34rem){.plot svg{font-size:15px}}\n"
    "@media print{:root{--back:#fff;--card:#fff;--text:#000;--faint:#444;--line:#bbb}body{max-width:none;padding:0;font-size:11pt}"
    ".figures{grid-template-columns:1fr 1fr}h2{break-after:avoid}tr{break-inside:avoid}.scroll{overflow:visible}"
    "*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}\n";

static void put(Buffer *out, const char *text) { buffer_append(out, text, strlen(text)); }

static const char *entity(char c) {
  switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
  }
}

/* Of C0 and C1: browsers refuse them even as references, or read C1 as another encoding's letters. */
static bool is_control(uint32_t c) { return (c < 0x20 && c != '\t' && c != '\n') || (c >= 0x7f && c < 0xa0); }

void page_escape(Buffer *out, const char *text) {
  for (const char *p = text, *end = text + strlen(text); p < end;) {
    uint32_t c = 0;
    int n = utf8_read(p, (size_t)(end - p), &c);
    const char *e = entity(*p);
    if (e) put(out, e);
    else if (!n || is_control(c)) put(out, "\xef\xbf\xbd");
    else buffer_append(out, p, (size_t)n);
    p += n ? n : 1;
  }
}

static void put_element(Buffer *out, const char *open, const char *text, const char *close) {
  put(out, open);
  page_escape(out, text);
  put(out, close);
}

void page_begin(Buffer *out, const char *title, const char *lead) {
  put(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
           "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
           "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
  put_element(out, "<title>", title, "</title>\n<style>\n");
  put(out, head_style);
  put_element(out, "</style>\n</head>\n<body>\n<h1>", title, "</h1>\n");
  if (lead) put_element(out, "<p class=\"lead\">", lead, "</p>\n");
}

void page_end(Buffer *out) { put(out, "</body>\n</html>\n"); }

void page_heading(Buffer *out, const char *text) { put_element(out, "<h2>", text, "</h2>\n"); }

void page_text(Buffer *out, const char *text) { put_element(out, "<p>", text, "</p>\n"); }

void page_code(Buffer *out, const char *text) { put_element(out, "<pre>\n", text, "</pre>\n"); }

void page_fold_begin(Buffer *out, const char *summary) { put_element(out, "<details>\n<summary>", summary, "</summary>\n"); }

void page_fold_end(Buffer *out) { put(out, "</details>\n"); }

void page_figures_begin(Buffer *out) { put(out, "<div class=\"figures\">\n"); }

void page_figures_end(Buffer *out) { put(out, "</div>\n"); }

void page_facts(Buffer *out, const PageFact *fact, int n) {
  put(out, "<dl>\n");
  for (int i = 0; i < n; i++) {
    put_element(out, "<dt>", fact[i].name, "</dt>");
    put_element(out, "<dd>", fact[i].value, "</dd>\n");
  }
  put(out, "</dl>\n");
}

/* ---- tables ---- */

static void put_row(Buffer *out, const PageTable *t, int row) {
  put(out, "<tr>");
  for (int i = 0; i < t->n_column; i++) {
    int at = row * t->n_column + i;
    bool is_best = t->is_best && t->is_best[at];
    const char *element = i ? "td" : "th", *name = t->column[i].is_number ? (is_best ? "n best" : "n") : is_best ? "best" : "";
    buffer_printf(out, *name ? "<%s%s class=\"%s\">" : "<%s%s>", element, i ? "" : " scope=\"row\"", name);
    if (t->cell[at]) page_escape(out, t->cell[at]);
    buffer_printf(out, "</%s>", element);
  }
  put(out, "</tr>\n");
}

void page_table(Buffer *out, const PageTable *t) {
  put(out, "<div class=\"scroll\"><table>\n");
  if (t->caption) put_element(out, "<caption>", t->caption, "</caption>\n");
  put(out, "<thead><tr>");
  for (int i = 0; i < t->n_column; i++)
    put_element(out, t->column[i].is_number ? "<th scope=\"col\" class=\"n\">" : "<th scope=\"col\">", t->column[i].name, "</th>");
  put(out, "</tr></thead>\n<tbody>\n");
  for (int i = 0; i < t->n_row; i++) put_row(out, t, i);
  put(out, "</tbody>\n</table></div>\n");
}

/* ---- pictures ---- */

static void put_base64(Buffer *out, const uint8_t *p, size_t n) {
  static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < n; i += 3) {
    size_t left = n - i;
    uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (left > 2 ? p[i + 2] : 0);
    char four[4] = {digit[v >> 18], digit[v >> 12 & 63], left > 1 ? digit[v >> 6 & 63] : '=', left > 2 ? digit[v & 63] : '='};
    buffer_append(out, four, sizeof four);
  }
}

enum { SMALL_SIDE = 160, LARGE_SIDE = 480 };

void page_picture(Buffer *out, const PagePicture *p) {
  int side = p->width > p->height ? p->width : p->height, zoom = side < SMALL_SIDE && side > 0 ? 2 * SMALL_SIDE / side : 1;
  buffer_printf(out, "<figure class=\"picture\"><img%s width=\"%d\" height=\"%d\" alt=\"", side > LARGE_SIDE ? " class=\"smooth\"" : "",
                p->width * zoom, p->height * zoom);
  if (p->caption) page_escape(out, p->caption);
  put(out, "\" src=\"data:image/png;base64,");
  put_base64(out, p->png, p->bytes);
  put(out, "\">");
  if (p->caption) put_element(out, "<figcaption>", p->caption, "</figcaption>");
  put(out, "</figure>\n");
}
