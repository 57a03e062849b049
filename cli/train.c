/* `nuwa train`: what a user says of a training and sees of it.  What is opened is synth/training.h's, the loop is
 * train/'s. */
#include <math.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/profile.h"
#include "cli/progress.h"
#include "cli/train_page.h"
#include "cli/training_args.h"
#include "runtime/base/file.h"
#include "runtime/base/names.h"

typedef struct TrainArgs {
  TrainingArgs of;
  const char *out, *store, *report;
  bool json, profile;
} TrainArgs;

/* All that is open while training. */
typedef struct TrainCommand {
  TrainArgs a;
  CliTarget target;
  Training training;
  TrainingSpec spec;
  Lowered lowered;         /* for --profile and --report */
  TrainPage page;          /* its path NULL: none */
  const char *command;     /* as it was typed */
  TrainProgress progress;
  int64_t begin, done;     /* the steps after which this process began, and ended */
} TrainCommand;

static const char about[] =
    "Trains a model as the list `train` in its module says, on --data; nuwa data --help says what data are.\n"
    "Inputs of its functions are fed by name: image, video, text, labels, class, tokens, and arrays by their own.\n"
    "Learning rates and other numbers are options of the model (-D lr=3e-4).\n"
    "A killed run goes on from its checkpoint with --resume, bit for bit as if nothing had happened.\n"
    "Without --out and --checkpoint (to measure, say) a warning tells that nothing is kept.\n"
    "With --steps 0 it writes the weights that the training would begin with, in little memory; no example is read.\n";

static void args_init(TrainArgs *a) {
  *a = (TrainArgs){.store = "f32"};
  training_args_init(&a->of, "train");
  a->of.least_steps = 0;
}

/* The options, to be read into a; their number. */
static int list_args(TrainArgs *a, Arg out[ARGS_MAX]) {
  int n = training_args_list(&a->of, "--eval", out);
  const Arg args[] = {
      ARG_DEFINES(&a->of.model),
      {"--stop", ARG_INT, "N", "stop after this step, with a checkpoint; --resume goes on", &a->of.loop.stop, 1,
       1e12},
      {"--out", ARG_OUT, "FILE", "the weights at the end", &a->out, 0, 0},
      {"--store", ARG_CHOICE, "f32|bf16", "how --out stores them (f32)", &a->store, 0, 0, .with = "--out"},
      {"--checkpoint", ARG_OUT, "FILE", "to resume from", &a->of.loop.checkpoint, 0, 0},
      {"--every", ARG_INT, "N", "steps between checkpoints (500)", &a->of.loop.checkpoint_every, 1, 1e12,
       .with = "--checkpoint"},
      {"--resume", ARG_FLAG, NULL, "go on from the checkpoint, if there is one", &a->of.loop.resume, 0, 0,
       .with = "--checkpoint"},
      {"--log", ARG_FOLDER, "DIR", "metrics.jsonl and a TensorBoard file", &a->of.loop.log, 0, 0},
      {"--log-every", ARG_INT, "N", "steps between their lines (1)", &a->of.loop.log_every, 1, 1e12, .with = "--log"},
      {"--eval", ARG_INT, "N",
       "steps between calls of `evaluate`: val.loss on what is held out (of the world: seen pairs), held.loss on the "
       "world's held-out pairs (none)",
       &a->of.loop.evaluate_every, 1, 1e12},
      {"--report", ARG_OUT, "FILE.html",
       "a page with curves, pictures, recipe and times, made anew at each evaluation", &a->report, 0, 0},
      {"--profile", ARG_FLAG, NULL, "time of each kernel at the end", &a->profile, 0, 0},
      {"--json", ARG_FLAG, NULL, "the last loss as JSON on stdout", &a->json, 0, 0},
  };
  BUG_IF(n + COUNT_OF(args) > ARGS_MAX, "too many options");
  memcpy(out + n, args, sizeof args);
  return n + COUNT_OF(args);
}

/* ---- opening ---- */

/* The page is drawn from a log; where none is asked for it has one beside it. */
static void choose_log(TrainCommand *t, Arena *arena) {
  TrainArgs *a = &t->a;
  if (!a->report) return;
  if (!a->of.loop.log) a->of.loop.log = arena_printf(arena, "%s.log", a->report);
  t->page = (TrainPage){.path = a->report, .log = a->of.loop.log, .command = t->command, .training = &t->training};
}

/* On a GPU a measured launch is waited for: only where that is asked for. */
static bool start_profile(TrainCommand *t, Error *err) {
  if (!t->a.profile && !(t->a.report && t->training.plan->device == PLAN_CPU)) return true;
  if (!training_lower(&t->training, &t->lowered, err) || !nuwa_profile_start(t->training.session, err)) return false;
  t->page.lowered = &t->lowered;
  return true;
}

static bool open_training(TrainCommand *t, Arena *arena, Error *err) {
  TrainingSpec *s = &t->spec;
  if (!training_args_spec(&t->a.of, arena, &t->target.synth, s, err)) return false;
  s->evaluates = t->a.of.loop.evaluate_every > 0;
  s->shows = s->evaluates && t->a.of.loop.log;
  s->begins = t->a.of.loop.steps == 0;
  if (!training_args_open(&t->a.of, s, err)) return false;
  training_args_say_notes(s);
  fprintf(stderr, "compiling the steps of training\n");
  return training_open(&t->training, &t->target.synth, s, err) && start_profile(t, err);
}

static bool set_recipe(TrainCommand *t, Arena *arena, Error *err) {
  Arg arg[ARGS_MAX];
  Recipe r = {.arena = arena};
  return args_recipe(arg, list_args(&t->a, arg), &r, err) && training_args_recipe(&t->a.of, &t->spec, &r, err) &&
         training_recipe(&t->training, &r, err);
}

/* ---- the command ---- */

static int64_t last_step(const TrainArgs *a) { return a->of.loop.stop ? a->of.loop.stop : a->of.loop.steps; }

static bool say_interrupted(const TrainCommand *t, Error *err) {
  long long step = (long long)t->done;
  if (!t->a.of.loop.checkpoint)
    return error_set(err, ERROR_CANCELLED, "interrupted after step %lld; without --checkpoint nothing is kept", step);
  return error_set(err, ERROR_CANCELLED, "interrupted after step %lld, which %s holds: --resume goes on from it",
                   step, t->a.of.loop.checkpoint);
}

static void report(void *ctx, const TrainReport *r) {
  TrainCommand *t = ctx;
  t->begin = r->begin;
  progress_show(&t->progress, r);
  if (t->page.path) train_page_report(&t->page, r);
}

/* What became of the run, as the page's last word. */
static bool finish_page(TrainCommand *t, bool ok, const Error *why, Error *err) {
  char state[sizeof why->text + 80];
  if (!t->page.path) return true;
  if (!ok) t->page.last.n_counts = 0; /* they may be gone with what failed */
  if (!ok) snprintf(state, sizeof state, "stopped after step %lld: %s", (long long)t->done, why->text);
  else if (t->done < t->a.of.loop.steps)
    snprintf(state, sizeof state, "stopped after step %lld of %lld", (long long)t->done,
             (long long)t->a.of.loop.steps);
  else snprintf(state, sizeof state, "finished: %lld steps", (long long)t->done);
  return train_page_write(&t->page, state, err);
}

static void print_profile(const TrainCommand *t) {
  const Training *open = &t->training;
  for (int i = 0; i < open->model->n_train; i++) {
    int64_t runs = progress_runs(&open->entry[i], t->done) - progress_runs(&open->entry[i], t->begin);
    profile_print(open->session, open->plan, open->model->train[i].func->name, &t->lowered, runs, t->a.of.spec.batch);
  }
}

static bool train(TrainCommand *t, Error *err) {
  const TrainArgs *a = &t->a;
  const NuwaSession *s = t->training.session;
  TrainOptions loop = a->of.loop;
  double waiting = 0.0;
  loop.is_cancelled = cli_is_interrupted;
  loop.report = report;
  loop.done = &t->done;
  loop.waiting = &waiting;
  loop.report_ctx = t;
  fprintf(stderr, "%.1f MB for the session, %d threads\n", (double)nuwa_session_bytes(s) * 1e-6, nuwa_threads(s));
  bool ok = training_run(&t->training, &loop, err);
  Error of_page = {0};
  progress_end(&t->progress);
  if (ok && loop.steps) fprintf(stderr, "steps waited for data %.1f %% of the time\n", 100.0 * waiting);
  bool has_page = finish_page(t, ok, err, &of_page);
  if (ok && t->done < last_step(a)) return say_interrupted(t, err);
  if (ok && a->profile) print_profile(t);
  if (ok && a->out) ok = training_write(&t->training, a->out, strcmp(a->store, "bf16") == 0, err);
  if (ok && !has_page) *err = of_page;
  return ok && has_page;
}

static bool check(void *ctx, Error *err) {
  const TrainOptions *o = &((TrainCommand *)ctx)->a.of.loop;
  if (o->checkpoint && file_is_stream(o->checkpoint))
    return error_set(err, ERROR_ARGUMENT, "--checkpoint %s: must be a file, which is replaced again and again",
                     o->checkpoint);
  const char *report = ((TrainCommand *)ctx)->a.report;
  const char *idle = o->steps              ? NULL
                     : o->checkpoint       ? "--checkpoint"
                     : o->evaluate_every   ? "--eval"
                     : o->log              ? "--log"
                     : report              ? "--report"
                     : ((TrainCommand *)ctx)->a.profile ? "--profile"
                                           : NULL;
  if (idle) return error_set(err, ERROR_USAGE, "%s has no effect with --steps 0, which only writes --out", idle);
  if (report && file_is_stream(report))
    return error_set(err, ERROR_ARGUMENT, "--report %s: must be a file, which is replaced again and again", report);
  return o->stop <= o->steps || error_set(err, ERROR_ARGUMENT, "--stop %lld has no effect: --steps %lld come first",
                                          (long long)o->stop, (long long)o->steps);
}

static bool run(void *ctx, Arena *arena, Error *err) {
  TrainCommand *t = ctx;
  const TrainArgs *a = &t->a;
  cli_catch_interrupts();
  choose_log(t, arena);
  if (!a->out && !a->of.loop.checkpoint)
    fprintf(stderr,
            "nuwa train: nothing will be left of what is trained: neither --out nor --checkpoint names a file\n");
  if (!cli_target_open(&a->of.model, &t->target, err) || !open_training(t, arena, err) ||
      !training_args_check(&a->of, &t->training, err) || !set_recipe(t, arena, err) || !train(t, err))
    return false;
  if (a->json && isfinite(t->progress.loss))
    printf("{\"steps\": %lld, \"loss\": %.9g}\n", (long long)t->done, t->progress.loss);
  else if (a->json) printf("{\"steps\": %lld, \"loss\": null}\n", (long long)t->done);   /* no step was left to make */
  return true;
}

static void run_done(void *ctx) {
  TrainCommand *t = ctx;
  train_page_done(&t->page);
  lowered_done(&t->lowered);
  training_close(&t->training);
  training_args_close(&t->spec);
  training_args_done(&t->a.of);
  cli_target_close(&t->target);
}

int cli_train(int argc, char **argv) {
  TrainCommand t = {.progress = progress_begin()};
  Buffer command = {0};
  Arg arg[ARGS_MAX];
  args_init(&t.a);
  const Command c = {.name = "train", .usage = "MODEL.lua [-D NAME=VALUE]... [options]", .about = about, .arg = arg,
                     .n_arg = list_args(&t.a, arg), .model = &t.a.of.model.path, .target = &t.a.of.model, .ctx = &t,
                     .check = check, .run = run, .done = run_done};
  train_page_command(&command, argc, argv);
  t.command = command.data ? command.data : "";
  int status = cli_command(&c, argc, argv);
  buffer_done(&command);
  return status;
}
