/* What the commands share: their frame, parsing of options, finding and loading models, and messages.
 *
 * A command is a function of its own arguments (argv[0] is its name) that returns the exit status: 0, 1 failed, 2
 * wrong usage.  Data goes to stdout or files, everything else to stderr.
 *
 * Wrong usage (ERROR_USAGE) is a command line that is wrong in itself (options, their values, what they need beside
 * them) or that asks for what the model does not have: an option, a function, a pass, an input.  All else has failed:
 * files that are missing, damaged or do not fit, what this machine or version lacks, work that goes wrong. */
#ifndef NUWA_CLI_H
#define NUWA_CLI_H

#include "runtime/base/json.h"
#include "synth/kit.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

int cli_run(int argc, char **argv);
int cli_describe(int argc, char **argv);
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
  ARG_OUT,       /* const char *, a file to write: that it can be is checked before the command begins */
  ARG_PNG,       /* the same, and its name must end in .png; where it is a stream ("-", a pipe) any will do */
  ARG_FOLDER,    /* const char *, a folder to write into, made if missing: checked likewise */
  ARG_INT,       /* int64_t in [lo, hi] */
  ARG_INT32,     /* int32_t in [lo, hi] */
  ARG_REAL,      /* double in [lo, hi] */
  ARG_CHOICE,    /* const char *, one of the words of `value`: "interp|cpu" */
  ARG_LIST,      /* ArgList: may be given several times */
  ARG_DEFINE,    /* DefineList: name=value, may be given several times, each name once */
  ARG_VARIANTS,  /* DefineList: the same, and each name as often as it has values */
} ArgKind;

typedef struct ArgList {
  const char **item;
  int n;
} ArgList;

typedef struct DefineList {
  const Define *item;
  int n;
} DefineList;

/* A model and what executes it, as the command line says. */
typedef struct ModelArgs {
  const char *path;       /* MODEL.lua, or a bundle where the command takes one */
  const SourceMap *source;/* no option: files that path only names */
  DefineList defines;
  const char *arch;       /* --arch */
  /* Options that commands share: */
  const char *models_dir; /* --models */
  const char *isa;        /* --isa */
  const char *device;     /* --device; NULL: a bundle's own, else the CPU */
  const char *driver;     /* --cuda-driver */
  const char *nvrtc;      /* --nvrtc */
  const char *cublaslt;   /* --cublaslt */
  const char *products;   /* --products; NULL: cublaslt */
  const char *precision;  /* --precision; NULL: f32 */
  int64_t threads;        /* --threads; 0: all */
  bool no_cache;          /* --no-cache */
  ArgList ignore;         /* --ignore */
} ModelArgs;

typedef struct Arg {
  const char *name;     /* "--seed", "-D" */
  ArgKind kind;
  const char *value;    /* how help calls the value: "N"; for a choice the words */
  const char *help;
  void *to;
  double lo, hi;
  const char *lacking;  /* for a choice: a word that is known but refused, and why: "cuda: needs ..."; or NULL */
  RecipeField shapes;   /* what it is in the recipe of a result: then a run is resumed with the same value only */
  const char *with;     /* "-o|--tokens-out": without one of these it has no effect, which is refused; NULL: it has */
  const char *without;  /* beside any of these it has none */
} Arg;

enum { ARGS_MAX = 64 };

typedef struct Command {
  const char *name;     /* "run" */
  const char *usage;    /* what follows "nuwa run" */
  const char *about;    /* lines for --help, without the options */
  const Arg *arg;
  int n_arg;            /* at most ARGS_MAX with the shared ones */
  const char **model;   /* the word that is no option; NULL: none is allowed */
  bool is_model_optional;
  ModelArgs *target;        /* adds the options that commands share (target.c) to its own; NULL: it takes none */
  const char *devices;      /* words of --device then; NULL: "cpu|cuda" */
  void *ctx;            /* of the functions below */
  bool (*check)(void *ctx, Error *err);             /* of options that need each other; NULL: nothing to check */
  bool (*run)(void *ctx, Arena *arena, Error *err); /* the command; the arena may run out anywhere within */
  void (*done)(void *ctx);                          /* frees what run has opened, however run ended; may be NULL */
} Command;

typedef enum ArgResult { ARGS_OK, ARGS_HELP, ARGS_WRONG } ArgResult;

/* Sets what an option points to from its value's text, as the command line does; lists grow in the arena. */
bool args_read_value(Arena *arena, const Arg *a, const char *text, Error *err);
/* Fills what the table points to, and words with what is no option; values are kept as pointers into argv. ARGS_HELP:
 * help was printed.  ARGS_WRONG: err was set.  given (zeroes at first) tells which options were there.  Lists are
 * allocated from `a` (call inside arena_protect). */
ArgResult args_parse(const Command *c, int argc, char **argv, Arena *a, ArgList *words, bool given[ARGS_MAX],
                     Error *err);
/* Refuses options that have no effect beside the others that were given. */
bool args_check_effects(const Command *c, const bool given[ARGS_MAX], Error *err);
void args_print_help(const Command *c, FILE *to);
/* Fills what the options shape into a recipe; of files their digests. */
bool args_recipe(const Arg *arg, int n, Recipe *r, Error *err);

/* ---- the frame (frame.c) ---- */

/* Parses, checks, runs, reports and cleans up: all that a command does beside its work.  Returns the exit status. */
int cli_command(const Command *c, int argc, char **argv);
/* Fails when the file cannot be written, as far as trying to create one beside it tells; leaves nothing. */
bool cli_check_output(const char *option, const char *path, Error *err);
/* From now on Ctrl-C asks the command to end well, and ends the program the second time. */
void cli_catch_interrupts(void);
bool cli_is_interrupted(void *ctx);   /* ctx is not used */
/* Prints text of unknown origin to a terminal: control characters but tabs and ends of lines as \x1b, like IR text
 * has them. */
void cli_show(FILE *to, const char *text);

/* ---- what executes (target.c) ---- */

/* An entry of a command's own table (a constant expression cannot take m's address). */
#define ARG_DEFINES(m) {"-D", ARG_DEFINE, "NAME=VALUE", "an option of the model", &(m)->defines, 0, 0}

enum { TARGET_ARGS = 11 };
/* The options that commands share, to be read into m; their number.  devices: as in Command. */
int target_args(ModelArgs *m, const char *devices, Arg out[TARGET_ARGS]);
/* Whether they go together. */
bool target_check(const ModelArgs *m, Error *err);
bool cli_isa(const ModelArgs *m, Isa *out, Error *err);
DType cli_precision(const ModelArgs *m);
int cli_threads(const ModelArgs *m);
/* Is the device a GPU?  Without --device, --arch says so. */
bool cli_is_cuda(const ModelArgs *m);
/* Does the library compute large products? */
bool cli_uses_cublaslt(const ModelArgs *m);
NuwaCuda cli_cuda(const ModelArgs *m);
/* Adds what --arch says to the *out_n that are there; NULL says nothing. */
bool cli_archs(const char *text, int arch[CUDA_MAX_ARCHS], int *out_n, Error *err);

enum { CLI_PATH_BYTES = 4096 + 64 };

/* $XDG_CACHE_HOME/nuwa/NAME, or ~/.cache/nuwa/NAME; NULL when there is no home. */
const char *cli_cache(const char *name, char out[CLI_PATH_BYTES]);
/* The folder in it of what data sets hold. */
#define CACHE_LISTINGS "listings"

/* What the options say, opened: the store of kernels is. */
typedef struct CliTarget {
  SynthTarget synth;
  int arch[CUDA_MAX_ARCHS];
  char models_dir[CLI_PATH_BYTES];
  struct Store *store;
} CliTarget;
/* *t must stay where it is, and m live, until cli_target_close, which tells of the store when something was wrong
 * with it.  May be closed when zeroed or when opening failed. */
bool cli_target_open(const ModelArgs *m, CliTarget *t, Error *err);
void cli_target_close(CliTarget *t);

/* ---- models (model.c) ---- */

ModelSpec cli_spec(const ModelArgs *m);
/* The path of a file of the shipped models, in a. */
/* The folder of shipped models: the one that is named, or the program's own in `found`; NULL: there is none. */
const char *cli_models_dir(const ModelArgs *m, char found[CLI_PATH_BYTES]);
const char *cli_find_model(Arena *a, const ModelArgs *m, const char *file);
Model *cli_load_model(const CliTarget *t, const ModelArgs *m, Error *err);
/* The function that the command line names. */
Func *cli_find_function(const Model *m, const char *name, Error *err);

/* ---- drawing (draw.c) ---- */

/* A kit, and what executes it, as the command line says. */
typedef struct KitArgs {
  ModelArgs model, vq;         /* of vq the path and its options */
  const char *weights, *vq_weights;
  DefineList tokens;           /* image=FILE, labels=FILE */
} KitArgs;
bool cli_kit(const KitArgs *a, KitSpec *out, Error *err);
/* The codecs that --tokens, and --vq and --vq-weights of images, name. */
bool cli_codecs(const DefineList *tokens, const ModelArgs *vq, const char *vq_weights, CodecSpec out[CODEC_KINDS],
                Error *err);

/* Entries of a command's table for its kit, and for drawing as the fields of these names in its arguments say;
 * `is_with` and `is_without` as in Arg. */
#define ARG_WEIGHTS(kit, is_without)                                                                                 \
  {"--weights", ARG_TEXT, "FILE", "of the generating model (default: the shipped ones)", &(kit)->weights, 0, 0,      \
   .without = is_without}
#define ARG_VQ_WEIGHTS(kit)                                                                                          \
  {"--vq-weights", ARG_TEXT, "FILE", "of the autoencoder (default: those that --weights were trained with)",         \
   &(kit)->vq_weights, 0, 0}
#define ARG_TOKENS(list)                                                                                             \
  {"--tokens", ARG_DEFINE, "NAME=FILE", "weights of the autoencoder of image (as --vq-weights), or of labels", list, 0, 0}
#define ARG_CHANCE(a, is_with, is_without)                                                                           \
  {"--temperature", ARG_REAL, "X", "0: the likeliest token (1)", &(a)->temperature, 0, 100,                          \
   .shapes = RECIPE_TEMPERATURE, .with = is_with, .without = is_without},                                            \
  {"--top-k", ARG_INT, "N", "only the N likeliest; 0: all (0)", &(a)->top_k, 0, 1 << 30, .shapes = RECIPE_TOP_K,     \
   .with = is_with, .without = is_without},                                                                          \
  {"--top-p", ARG_REAL, "X", "only the likeliest that hold this share (1)", &(a)->top_p, 0, 1,                       \
   .shapes = RECIPE_TOP_P, .with = is_with, .without = is_without},                                                  \
  {"--guidance", ARG_REAL, "X", "classifier-free guidance; 1: none (1)", &(a)->guidance, -1000, 1000,                \
   .shapes = RECIPE_GUIDANCE, .with = is_with, .without = is_without}
#define ARG_SAMPLING(a, is_with, is_without)                                                                         \
  {"--seed", ARG_INT, "N", "of the drawings (0)", &(a)->seed, 0, 9.0e15, .shapes = RECIPE_SEED, .with = is_with,     \
   .without = is_without},                                                                                           \
  ARG_CHANCE(a, is_with, is_without)

/* Whether what is said of chance goes together. */
bool cli_check_chance(double temperature, int64_t top_k, double top_p, Error *err);

#endif
