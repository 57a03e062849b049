/* Ctrl-C and its like: a command that can end well after what it is doing asks for it; the second time it ends at once. */
#include <signal.h>
#include <unistd.h>

#include "cli/cli.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int signal_number) {
  if (interrupted) {
    signal(signal_number, SIG_DFL);
    raise(signal_number);   /* delivered when this returns */
  }
  interrupted = 1;
  static const char says[] = "\nending after what is under way; once more ends at once\n";
  if (signal_number == SIGINT && write(STDERR_FILENO, says, sizeof says - 1) < 0) return;   /* nobody reads it */
}

void cli_catch_interrupts(void) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  struct sigaction hangup;
  bool is_ignored = sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler == SIG_IGN;   /* by nohup */
  if (!is_ignored) sigaction(SIGHUP, &action, NULL);
}

bool cli_is_interrupted(void *ctx) { return interrupted != 0; }
