/* The frame of every command: what happens before and after its work, and which exit status that gives. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "runtime/base/file.h"

typedef struct CommandCall {
  const Command *command;
  int argc;
  char **argv;
  Arena *arena;
  Error err;
  bool ok;
} CommandCall;

static bool take_model(const Command *c, const ArgList *words, Error *err) {
  int most = c->model != NULL;
  if (words->n > most)
    return error_set(err, ERROR_USAGE, "\"%s\" is not expected here%s", words->item[most],
                     most ? ": one model at most" : "");
  if (words->n) *c->model = words->item[0];
  return words->n == most || c->is_model_optional ||
         error_set(err, ERROR_USAGE, "needs a model: nuwa %s %s", c->name, c->usage);
}

/* ---- outputs ---- */

bool cli_check_output(const char *option, const char *path, Error *err) {
  FileWriter *w = file_create(path, err);
  if (!w) return error_prefix(err, "%s", option);
  file_abort(w);
  return true;
}

/* A folder that is not there is made and removed again; in one that is, a file is. */
static bool check_folder(Arena *arena, const char *option, const char *path, Error *err) {
  if (mkdir(path, 0777) == 0)
    return rmdir(path) == 0 ||
           error_set(err, ERROR_IO, "%s: cannot remove %s: %s", option, path, strerror(errno));
  if (errno == EEXIST) return cli_check_output(option, arena_printf(arena, "%s/.nuwa-probe", path), err);
  return error_set(err, ERROR_IO, "%s: cannot create %s: %s", option, path, strerror(errno));
}

/* One name for each file, however it is spelt.  The folder is there. */
static const char *whole_path(Arena *arena, const char *path) {
  const char *slash = strrchr(path, '/');
  const char *folder = !slash ? "." : slash == path ? "/" : arena_printf(arena, "%.*s", (int)(slash - path), path);
  char real[PATH_MAX];
  if (realpath(path, real)) return arena_strdup(arena, real);
  return realpath(folder, real) ? arena_printf(arena, "%s/%s", real, slash ? slash + 1 : path) : path;
}

/* No two outputs may be one file. */
static bool check_apart(const Command *c, Arena *arena, Error *err) {
  const char *whole[ARGS_MAX] = {0};
  for (int i = 0; i < c->n_arg; i++) {
    const Arg *a = &c->arg[i];
    const char *path = a->kind == ARG_OUT || a->kind == ARG_PNG ? *(const char **)a->to : NULL;
    if (!path || file_is_stream(path)) continue;
    whole[i] = whole_path(arena, path);
    for (int k = 0; k < i; k++)
      if (whole[k] && strcmp(whole[k], whole[i]) == 0)
        return error_set(err, ERROR_USAGE, "%s and %s are both %s: they hold different things", c->arg[k].name,
                         a->name, path);
  }
  return true;
}

static bool check_outputs(const Command *c, Arena *arena, Error *err) {
  const char *on_stdout = NULL;
  for (int i = 0; i < c->n_arg; i++) {
    const Arg *a = &c->arg[i];
    if (a->kind != ARG_OUT && a->kind != ARG_PNG && a->kind != ARG_FOLDER) continue;
    const char *path = *(const char **)a->to;
    bool ok = !path || (a->kind == ARG_FOLDER ? check_folder(arena, a->name, path, err)
                                              : cli_check_output(a->name, path, err));
    if (!ok) return false;
    if (!path || strcmp(path, "-") != 0) continue;
    if (on_stdout)
      return error_set(err, ERROR_USAGE, "%s - and %s -: standard output has room for one", on_stdout, a->name);
    on_stdout = a->name;
  }
  return true;
}

/* ---- a command ---- */

/* The command with the options that all share behind its own. */
static Command with_target(const Command *c, Arena *a) {
  Command all = *c;
  if (!c->target) return all;
  Arg *arg = ARENA_ARRAY(a, Arg, c->n_arg + TARGET_ARGS);
  memcpy(arg, c->arg, sizeof *arg * (size_t)c->n_arg);
  all.n_arg += target_args(c->target, c->devices, arg + c->n_arg);
  all.arg = arg;
  return all;
}

static void call_body(void *ctx) {
  CommandCall *call = ctx;
  const Command all = with_target(call->command, call->arena), *c = &all;
  Error *err = &call->err;
  ArgList words = {0};
  bool given[ARGS_MAX] = {0};
  ArgResult parsed = args_parse(c, call->argc, call->argv, call->arena, &words, given, err);
  call->ok = parsed == ARGS_HELP;
  if (parsed != ARGS_OK) return;
  call->ok = take_model(c, &words, err) && (!c->check || error_asked(c->check(c->ctx, err), err)) &&
             args_check_effects(c, given, err) && (!c->target || target_check(c->target, err)) &&
             check_outputs(c, call->arena, err) && check_apart(c, call->arena, err) &&
             c->run(c->ctx, call->arena, err);
}

static bool flush_stdout(Error *err) {
  return (fflush(stdout) == 0 && !ferror(stdout)) || error_set(err, ERROR_IO, "cannot write to standard output");
}

static void show_failure(const Command *c, const Error *err) {
  fprintf(stderr, "nuwa %s: ", c->name);
  cli_show(stderr, err->text);
  fputc('\n', stderr);
}

int cli_command(const Command *c, int argc, char **argv) {
  CommandCall call = {.command = c, .argc = argc, .argv = argv, .arena = arena_new()};
  Error *err = &call.err;
  bool within = call.arena ? arena_protect(call.arena, call_body, &call, err)
                           : error_set(err, ERROR_MEMORY, "out of memory");
  bool ok = within && call.ok && flush_stdout(err);
  if (!ok) show_failure(c, err);
  if (!ok && err->code == ERROR_USAGE) fprintf(stderr, "(nuwa %s --help lists the options)\n", c->name);
  if (c->done) c->done(c->ctx);
  arena_free(call.arena);
  return ok ? EXIT_OK : err->code == ERROR_USAGE ? EXIT_USAGE : EXIT_FAILED;
}

/* ---- text ---- */

void cli_show(FILE *to, const char *text) {
  for (; *text; text++) {
    unsigned char ch = (unsigned char)*text;
    if ((ch < 32 && ch != '\n' && ch != '\t') || ch == 127) fprintf(to, "\\x%02x", ch);
    else fputc(ch, to);
  }
}
