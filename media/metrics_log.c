/* See metrics_log.h. */
#include "media/metrics_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/file.h"
#include "runtime/base/json.h"

enum { PATH_BYTES = 4096 };
static const char lines_name[] = "metrics.jsonl", events_name[] = "events.out.tfevents.nuwa", pictures_name[] = "pictures";
static const char picture_suffix[] = ".png", step_name[] = "step";

struct MetricsLog {
  FILE *lines, *events;
  char pictures[PATH_BYTES];
};

static bool join(char out[PATH_BYTES], const char *dir, const char *name, Error *err) {
  return snprintf(out, PATH_BYTES, "%s/%s", dir, name) < PATH_BYTES ||
         error_set(err, ERROR_ARGUMENT, "the folder of the metrics has too long a name");
}

static bool make_folder(const char *path, Error *err) {
  return !mkdir(path, 0777) || errno == EEXIST || error_set(err, ERROR_IO, "%s: %s", path, strerror(errno));
}

/* ---- pictures ---- */

/* Names are of functions, and those anybody's: of what file systems and shells know otherwise nothing is left. */
static void picture_path(Buffer *out, const char *folder, const char *name, int64_t step) {
  buffer_printf(out, "%s/", folder);
  for (const char *p = name; *p && p - name < 100; p++) {
    bool is_plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '_' ||
                    *p == '-' || (*p == '.' && p > name);
    buffer_append(out, is_plain ? p : "_", 1);
  }
  buffer_printf(out, "-%08" PRId64 "%s", step, picture_suffix);
}

/* "NAME-STEP.png" taken apart; where the step begins, or NULL. */
static const char *find_step(const char *file, int64_t *out_step) {
  const char *dash = strrchr(file, '-');
  char *end;
  if (!dash || dash == file || dash[1] < '0' || dash[1] > '9') return NULL;
  errno = 0;
  *out_step = strtoll(dash + 1, &end, 10);
  return errno || strcmp(end, picture_suffix) != 0 ? NULL : dash + 1;
}

static bool remove_pictures_after(const char *folder, int64_t last_step, Error *err) {
  DIR *d = opendir(folder);
  bool ok = true;
  for (struct dirent *e; ok && d && (e = readdir(d));) {
    int64_t step;
    if (find_step(e->d_name, &step) && step > last_step && unlinkat(dirfd(d), e->d_name, 0))
      ok = error_set(err, ERROR_IO, "%s/%s: %s", folder, e->d_name, strerror(errno));
  }
  if (d) closedir(d);
  return ok;
}

static bool write_picture(const MetricsLog *log, int64_t step, const LogPicture *p, Error *err) {
  Buffer path = {0};
  picture_path(&path, log->pictures, p->name, step);
  bool ok = !path.failed || error_set(err, ERROR_MEMORY, "writing pictures: out of memory");
  ok = ok && make_folder(log->pictures, err) && file_write_all(path.data, p->png, p->bytes, err);
  buffer_done(&path);
  return ok;
}

/* ---- the files that grow ---- */

static FILE *open_log(const char *path, Error *err) {
  FILE *f = fopen(path, "ab");
  if (!f) error_set(err, ERROR_IO, "%s: %s", path, strerror(errno));
  return f;
}

/* The lock ends with the process.  Where the file system has none, nobody is kept out. */
static bool lock_log(FILE *f, const char *dir, Error *err) {
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  if (fcntl(fileno(f), F_OFD_SETLK, &whole) == 0 || (errno != EAGAIN && errno != EACCES)) return true;
  return error_set(err, ERROR_ARGUMENT, "%s: another process writes this log", dir);
}

static bool append(FILE *f, Buffer *b, Error *err) {
  bool ok = !b->failed && fwrite(b->data, 1, b->len, f) == b->len && !fflush(f);
  if (!ok)
    error_set(err, b->failed ? ERROR_MEMORY : ERROR_IO, "writing metrics: %s", strerror(b->failed ? ENOMEM : errno));
  buffer_done(b);
  return ok;
}

static bool check_new(const char *dir, const char *lines, Error *err) {
  struct stat st;
  return stat(lines, &st) || st.st_size == 0 ||
         error_set(err, ERROR_ARGUMENT,
                   "%s holds the log of a run already: resume that run, or name another folder, or remove it", dir);
}

/* Keeps what was up to a step; the version record, which is no step's, is put where nothing is left. */
static bool open_files(MetricsLog *log, const char *dir, int64_t last_step, bool is_alone, Error *err) {
  char lines[PATH_BYTES], events[PATH_BYTES];
  int64_t kept_events;
  if (!join(lines, dir, lines_name, err) || !join(events, dir, events_name, err) ||
      !join(log->pictures, dir, pictures_name, err) || !make_folder(dir, err) ||
      (last_step < 0 && !check_new(dir, lines, err)) || !(log->lines = open_log(lines, err)) ||
      (is_alone && !lock_log(log->lines, dir, err)) || !jsonl_truncate_after(lines, last_step, NULL, err) ||
      !events_truncate_after(events, last_step, &kept_events, err) ||
      !remove_pictures_after(log->pictures, last_step, err) || !(log->events = open_log(events, err)))
    return false;
  if (kept_events) return true;
  Buffer b = {0};
  event_format_version(&b, 0);
  return append(log->events, &b, err);
}

MetricsLog *metrics_open(const char *dir, int64_t last_step, bool is_alone, Error *err) {
  MetricsLog *log = mem_alloc(sizeof *log);
  if (!log) error_set(err, ERROR_MEMORY, "opening metrics: out of memory");
  if (log && open_files(log, dir, last_step, is_alone, err)) return log;
  Error ignored;
  metrics_close(log, &ignored);
  return NULL;
}

bool metrics_write(MetricsLog *log, double wall_time, int64_t step, const LogRecord *r, Error *err) {
  Buffer line = {0}, event = {0};
  for (int i = 0; i < r->n_picture; i++)
    if (!write_picture(log, step, &r->picture[i], err)) return false;
  if (r->n_metric) jsonl_format(&line, step, r->metric, r->n_metric);
  event_format_record(&event, wall_time, step, r);
  bool ok = !r->n_metric || append(log->lines, &line, err);
  return append(log->events, &event, err) && ok;
}

bool metrics_close(MetricsLog *log, Error *err) {
  if (!log) return true;
  bool ok = true;
  if (log->lines && fclose(log->lines)) ok = false;
  if (log->events && fclose(log->events)) ok = false;
  mem_free(log);
  return ok || error_set(err, ERROR_IO, "closing the metrics: %s", strerror(errno));
}

/* ---- reading ---- */

static LogCurve *find_curve(LogCurves *c, const char *name) {
  for (int i = 0; i < c->n; i++)
    if (strcmp(c->curve[i].name, name) == 0) return &c->curve[i];
  if (c->n == c->cap) {
    int cap = c->cap ? 2 * c->cap : 16;
    LogCurve *more = mem_realloc(c->curve, (size_t)cap * sizeof *more);
    if (!more) return NULL;
    c->curve = more, c->cap = cap;
  }
  LogCurve new = {.name = mem_alloc(strlen(name) + 1)};
  if (!new.name) return NULL;
  strcpy(new.name, name);
  c->curve[c->n] = new;
  return &c->curve[c->n++];
}

static bool add_point(LogCurve *c, double step, double value) {
  if (c->n == c->cap) {
    int cap = c->cap ? 2 * c->cap : 64;
    double *steps = mem_realloc(c->step, (size_t)cap * sizeof *steps);
    if (steps) c->step = steps;
    double *values = steps ? mem_realloc(c->value, (size_t)cap * sizeof *values) : NULL;
    if (!values) return false;
    c->value = values, c->cap = cap;
  }
  c->step[c->n] = step;
  c->value[c->n++] = value;
  return true;
}

typedef struct CurvesReading {
  LogCurves *c;
  Arena *arena;
  const char *text; /* whole lines, ended by NULs */
  size_t len;
  const char *path;
  Error *err;
  bool ok;
} CurvesReading;

static void read_lines(void *ctx) {
  CurvesReading *r = ctx;
  for (const char *line = r->text; line < r->text + r->len; line += strlen(line) + 1) {
    JsonField *field;
    int n;
    if (!json_read_object(r->arena, line, &field, &n, r->err)) {
      error_prefix(r->err, "%s", r->path);
      return;
    }
    const JsonField *step = json_find(field, n, step_name);
    for (int i = 0; step && i < n; i++) {
      if (&field[i] == step) continue;
      LogCurve *c = find_curve(r->c, field[i].name);
      double value = strcmp(field[i].value, "null") == 0 ? NAN : strtod(field[i].value, NULL);
      if (!c || !add_point(c, strtod(step->value, NULL), value)) {
        error_set(r->err, ERROR_MEMORY, "%s: out of memory", r->path);
        return;
      }
    }
  }
  r->ok = true;
}

/* The lines that were added, with NULs for their ends; NULL without err set where the file is not there. */
static char *read_new_lines(const LogCurves *c, const char *path, size_t *out_len, Error *err) {
  FILE *f = fopen(path, "rb");
  long end = -1;
  char *text = NULL;
  *out_len = 0;
  err->code = ERROR_NONE;
  if (!f && errno == ENOENT) return NULL;
  bool ok = f && !fseek(f, 0, SEEK_END) && (end = ftell(f)) >= 0 && !fseek(f, (long)c->read, SEEK_SET);
  size_t n = ok && (size_t)end > c->read ? (size_t)end - c->read : 0;
  ok = ok && (text = mem_alloc(n + 1)) && fread(text, 1, n, f) == n;
  if (f) fclose(f);
  if (!ok) {
    mem_free(text);
    error_set(err, ERROR_IO, "%s cannot be read: %s", path, strerror(errno));
    return NULL;
  }
  for (size_t i = 0; i < n; i++)
    if (text[i] == '\n') text[i] = 0, *out_len = i + 1;
  return text;
}

bool log_read_curves(LogCurves *c, const char *dir, Error *err) {
  char path[PATH_BYTES];
  CurvesReading r = {.c = c, .path = path, .err = err};
  if (!join(path, dir, lines_name, err)) return false;
  char *text = read_new_lines(c, path, &r.len, err);
  if (!text) return err->code == ERROR_NONE;
  r.text = text;
  bool ok = (r.arena = arena_new()) || error_set(err, ERROR_MEMORY, "%s: out of memory", path);
  ok = ok && arena_protect(r.arena, read_lines, &r, err) && r.ok;
  if (ok) c->read += r.len;
  arena_free(r.arena);
  mem_free(text);
  return ok;
}

void log_curves_done(LogCurves *c) {
  for (int i = 0; i < c->n; i++) {
    mem_free(c->curve[i].name);
    mem_free(c->curve[i].step);
    mem_free(c->curve[i].value);
  }
  mem_free(c->curve);
  *c = (LogCurves){0};
}

static int by_name_and_step(const void *x, const void *y) {
  const LogPictureFile *a = x, *b = y;
  int order = strcmp(a->name, b->name);
  return order ? order : (a->step > b->step) - (a->step < b->step);
}

bool log_list_pictures(Arena *a, const char *dir, LogPictureFile **out, int *out_n, Error *err) {
  char folder[PATH_BYTES];
  int n = 0, cap = 0;
  LogPictureFile *list = NULL;
  if (!join(folder, dir, pictures_name, err)) return false;
  DIR *d = opendir(folder);
  if (!d && errno != ENOENT) return error_set(err, ERROR_IO, "%s: %s", folder, strerror(errno));
  for (struct dirent *e; d && (e = readdir(d));) {
    LogPictureFile p;
    const char *step = find_step(e->d_name, &p.step);
    if (!step) continue;
    p.path = arena_printf(a, "%s/%s", folder, e->d_name);
    p.name = arena_printf(a, "%.*s", (int)(step - 1 - e->d_name), e->d_name);
    ARENA_PUSH(a, list, n, cap, p);
  }
  if (d) closedir(d);
  if (n) qsort(list, (size_t)n, sizeof *list, by_name_and_step);
  *out = list, *out_n = n;
  return true;
}
