/* `nuwa`: finds the command and lets it do everything else. */
#include <string.h>

#include "cli/cli.h"
#include "runtime/base/stack.h"

typedef struct CommandEntry {
  const char *name;
  int (*run)(int argc, char **argv);
  const char *about;
} CommandEntry;

static const CommandEntry commands[] = {
    {"run", cli_run, "execute one function of a model on named tensors"},
    {"generate", cli_generate, "draw pictures and clips of captions and sketches, complete and change them"},
    {"describe", cli_describe, "print a caption of a picture or clip"},
    {"ablate", cli_ablate, "compare full, axis and nearby attention"},
    {"score", cli_score, "judge what a model draws, slot by slot"},
    {"compile", cli_compile, "compile a model to a bundle"},
    {"inspect", cli_inspect, "show functions, the IR after a pass, decisions, schedules, kernels"},
    {"train", cli_train, "train a model on the training world"},
    {"data", cli_data, "look into the training world, train a text encoder"},
    {"bench", cli_bench, "measure kernels, decoding and training beside the roofs of this machine"},
};

static void print_help(FILE *to) {
  fprintf(to, "usage: nuwa COMMAND [options]\n\n");
  for (int i = 0; i < COUNT_OF(commands); i++) fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].about);
  fprintf(to, "\nnuwa COMMAND --help lists the options of a command; nuwa --version prints the version\n");
}

typedef struct CommandCall {
  const CommandEntry *entry;
  int argc;
  char **argv;
  int status;
} CommandCall;

static void run_command(void *ctx) {
  CommandCall *c = ctx;
  c->status = c->entry->run(c->argc, c->argv);
}

/* On a stack of its own: compiling needs more than a process may be given. */
static int start_command(const CommandEntry *entry, int argc, char **argv) {
  CommandCall c = {entry, argc, argv, EXIT_FAILED};
  Error err = {0};
  if (!stack_run(STACK_BYTES, run_command, &c, &err)) fprintf(stderr, "nuwa: %s\n", err.text);
  return c.status;
}

/* The status of a program that has printed what it was asked for: a full disk is a failure. */
static int finish(void) {
  if (fflush(stdout) == 0 && !ferror(stdout)) return EXIT_OK;
  fprintf(stderr, "nuwa: cannot write to standard output\n");
  return EXIT_FAILED;
}

int main(int argc, char **argv) {
  if (argc < 2) {
    print_help(stderr);
    return EXIT_USAGE;
  }
  if (strcmp(argv[1], "--version") == 0) {
    printf("nuwa %s\n", NUWA_VERSION);
    return finish();
  }
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
    print_help(stdout);
    return finish();
  }
  for (int i = 0; i < COUNT_OF(commands); i++)
    if (strcmp(argv[1], commands[i].name) == 0) return start_command(&commands[i], argc - 1, argv + 1);
  fprintf(stderr, "nuwa: there is no command \"%s\"\n", argv[1]);
  print_help(stderr);
  return EXIT_USAGE;
}
