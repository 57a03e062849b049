/* What the commands share: parsing of options, finding and loading models, and messages.
 *
 * A command is a function of its own arguments (argv[0] is its name) that returns the exit status: 0, 1 failed, 2 wrong
 * usage.  Data goes to stdout or files, everything else to stderr. */
#ifndef NUWA_CLI_H
#define NUWA_CLI_H

#include "frontend/compile.h"
#include "runtime/nuwa.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

int cli_run(int argc, char **argv);
int cli_generate(int argc, char **argv);
int cli_ablate(int argc, char **argv);
int cli_score(int argc, char **argv);
int cli_compile(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_train(int argc, char **argv);
int cli_data(int argc, char **argv);
int cli_bench(int argc, char **argv);

/* ---- options (args.c) ---- */

typedef enum ArgKind {
  ARG_FLAG,      /* bool */
  ARG_TEXT,      /* const char * */
  ARG_INT,       /* int64_t in [lo, hi] */
  ARG_REAL,      /* double in [lo, hi] */
  ARG_CHOICE,    /* const char *, one of the words of `value`: "interp|cpu|cuda" */
  ARG_LIST,      /* ArgList: may be given several times */
  ARG_DEFINE,    /* DefineList: name=value, may be given several times */
} ArgKind;

typedef struct ArgList {
  const char **item;
  int n;
} ArgList;

typedef struct DefineList {
  Define *item;
  int n;
} DefineList;

typedef struct Arg {
  const char *name;     /* "--seed", "-D" */
  ArgKind kind;
  const char *value;    /* how help calls the value: "N"; for a choice the words */
  const char *help;
  void *to;
  double lo, hi;
} Arg;

typedef struct Command {
  const char *name;     /* "run" */
  const char *usage;    /* what follows "nuwa run" */
  const char *about;    /* lines for --help, without the options */
  const Arg *arg;
  int n_arg;
  ArgList *words;       /* what is no option; NULL: none allowed */
} Command;

typedef enum ArgResult { ARGS_OK, ARGS_HELP, ARGS_WRONG } ArgResult;

/* Fills what the table points to; values are kept as pointers into argv.  ARGS_HELP: help was printed.  ARGS_WRONG: err
 * was set.  Lists are allocated from `a`; a program that lacks memory for its arguments ends with a message. */
ArgResult args_parse(const Command *c, int argc, char **argv, Arena *a, Error *err);
void args_print_help(const Command *c, FILE *to);
/* Prints "nuwa NAME: text" to stderr, for wrong usage also where to find help; returns the exit status. */
int cli_fail(const Command *c, int status, const Error *err);

/* ---- models (model.c) ---- */

/* The options that every command with a model takes. */
typedef struct ModelArgs {
  const char *path;       /* MODEL.lua, or a bundle where the command takes one */
  DefineList defines;
  const char *models_dir; /* --models */
  const char *isa;        /* --isa */
  int64_t threads;        /* --threads; 0: all */
  bool no_cache;          /* --no-cache */
} ModelArgs;

/* Entries of a command's table for m (a constant expression cannot take its address): */
#define ARG_DEFINES(m) {"-D", ARG_DEFINE, "NAME=VALUE", "an option of the model", &(m)->defines, 0, 0}
#define ARG_MODELS(m) {"--models", ARG_TEXT, "DIR", "where the shipped models are", &(m)->models_dir, 0, 0}
#define ARG_ISA(m) {"--isa", ARG_CHOICE, "amx|avx512|avx2|plain|neon", "instruction set (default: the best here)", &(m)->isa, 0, 0}
#define ARG_THREADS(m) {"--threads", ARG_INT, "N", "threads (default: all)", &(m)->threads, 0, POOL_MAX_THREADS}
#define ARG_NO_CACHE(m) {"--no-cache", ARG_FLAG, NULL, "compile every kernel anew", &(m)->no_cache, 0, 0}

/* Whether the path names a bundle rather than a Lua file. */
bool cli_is_bundle(const char *path);
/* The path of a file of the shipped models ("nuwa.lua", "weights/demo.safetensors").  In a. */
const char *cli_find_model(Arena *a, const ModelArgs *m, const char *file);
Model *cli_load_model(const ModelArgs *m, Error *err);
bool cli_isa(const ModelArgs *m, Isa *out, Error *err);
/* Compiles through the store of kernels; appends the bundle. */
bool cli_compile_model(Model *model, const ModelArgs *m, CompileOptions *o, Buffer *out, Error *err);
/* The same as a plan; the bundle's bytes are dropped. */
Plan *cli_compile_plan(Model *model, const ModelArgs *m, CompileOptions *o, Error *err);

/* Every param of the model, sorted by name. In the graph's arena (call inside arena_protect). */
Node **cli_model_params(const Model *model, int *out_n);
/* Fails when the file holds a tensor that is no param of the model. */
bool cli_check_weights(const Model *model, const Safetensors *w, Error *err);

#endif
