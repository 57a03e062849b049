/* Error texts.  Formatting goes through a local copy, because an argument may be the text that is replaced. */
#include "runtime/base/error.h"

#include <stdarg.h>
#include <string.h>

static void error_store(Error *err, const char *text) {
  size_t n = strlen(text);
  if (n >= sizeof err->text) n = sizeof err->text - 1;
  memcpy(err->text, text, n);
  err->text[n] = 0;
}

bool error_set(Error *err, ErrorCode code, const char *fmt, ...) {
  char text[sizeof err->text];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  err->code = code;
  error_store(err, text);
  return false;
}

bool error_prefix(Error *err, const char *fmt, ...) {
  char text[2 * sizeof err->text + 2];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof err->text, fmt, ap);
  va_end(ap);
  size_t n = strlen(text);
  snprintf(text + n, sizeof text - n, ": %s", err->text);
  error_store(err, text);
  return false;
}

bool error_asked(bool ok, Error *err) {
  if (!ok && err->code == ERROR_ARGUMENT) err->code = ERROR_USAGE;
  return ok;
}

void bug_report(const char *file, int line, const char *fmt, ...) {
  fflush(stdout);
  fprintf(stderr, "%s:%d: a bug of nuwa: ", file, line);
  va_list ap;
  va_start(ap, fmt);
  vfprintf(stderr, fmt, ap);
  va_end(ap);
  fputc('\n', stderr);
  abort();
}
