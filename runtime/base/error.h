/* Failures that are not bugs: what went wrong, where, and what would be right, as text.
 *
 * A function that can fail takes an `Error *err` last, fills it with error_set and returns false (or NULL).
 * Success costs nothing: err is not touched.  `err` is never NULL.  A bug of ours is BUG_IF: it prints and aborts. */
#ifndef NUWA_ERROR_H
#define NUWA_ERROR_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/include/nuwa.h"

/* What the public header says of each, and: */
typedef enum ErrorCode {
  ERROR_NONE = NUWA_OK,
  ERROR_MEMORY = NUWA_ERROR_MEMORY,
  ERROR_IO = NUWA_ERROR_IO,
  ERROR_FORMAT = NUWA_ERROR_FORMAT,
  ERROR_ARGUMENT = NUWA_ERROR_ARGUMENT,
  ERROR_MODEL = NUWA_ERROR_MODEL,           /* the text starts with file:line */
  ERROR_DEVICE = NUWA_ERROR_DEVICE,
  ERROR_LIMIT = NUWA_ERROR_LIMIT,           /* a limit of the sandbox was reached */
  ERROR_USAGE = NUWA_ERROR_USAGE,           /* a command line that is wrong in itself, or that asks a model for what it
                                               does not have */
  ERROR_CANCELLED = NUWA_ERROR_CANCELLED,
} ErrorCode;

typedef NuwaError Error;

#if defined(__GNUC__)
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define NO_RETURN __attribute__((noreturn))
#else
#define PRINTF_LIKE(fmt, args)
#define NO_RETURN
#endif

/* Always returns false, so that `return error_set(...)` reads well.  An overlong text is cut. */
bool error_set(Error *err, ErrorCode code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Puts "fmt: " in front of the text that is already there.  Returns false. */
bool error_prefix(Error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Passes ok on.  When something that a user asked for was refused (ERROR_ARGUMENT), that is wrong usage. */
bool error_asked(bool ok, Error *err);

NO_RETURN void bug_report(const char *file, int line, const char *fmt, ...) PRINTF_LIKE(3, 4);
#define BUG(...) bug_report(__FILE__, __LINE__, __VA_ARGS__)
#define BUG_IF(condition, ...) ((condition) ? bug_report(__FILE__, __LINE__, __VA_ARGS__) : (void)0)

#endif
