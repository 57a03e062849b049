/* Trainings that are killed at any moment end as the one that nobody disturbed: a GAN, so two networks with two
 * optimisers, dropout, noise and averaged weights, on pictures that threads load ahead. */
#include "tests/cli/commands.h"

#define GAN                                                                                                          \
  "train models/families/gan.lua -D size=16 -D colours=3 -D hidden=24 -D latent=8 --data pictures:flip --batch 8 "  \
  "--seed 3 --every 3 --steps "

static bool have_pictures(void) {
  open_folder();
  return shell("test -d pictures || { mkdir models/families && cp " MODELS_DIR "/families/gan.lua models/families/ && "
               "nuwa data --count 20 --out pictures; }") == 0;
}

/* Kills runs of `steps` steps `n` times, each after 20 to 400 ms with threads of its own number, and compares every run
 * that ends with the one that nobody killed.  The killed ones have their own store of kernels, empty at first. */
static void kill_trainings(int n, int steps) {
  REQUIRE(have_pictures(), "%s", output);
  char command[1000];
  snprintf(command, sizeof command, "rm -rf whole killed && mkdir whole killed && nuwa " GAN
           "%d --checkpoint whole/ckpt --log whole/log --out whole/w", steps);
  expect_shell(command);
  unsigned moment = 1;
  for (int kills = 0, ended = 0; kills < n || !ended;) {
    moment = moment * 1664525u + 1013904223u;
    int ms = kills < n ? 20 + (int)(moment >> 8) % 380 : 600000;
    snprintf(command, sizeof command,
             "export XDG_CACHE_HOME=$PWD/killed && timeout -s KILL %d.%03d \"" NUWA "\" " GAN
             "%d --resume --threads %d --load-threads %d --checkpoint killed/ckpt --log killed/log --out killed/w",
             ms / 1000, ms % 1000, steps, 1 + kills % 2, kills % 4);
    int status = shell(command);
    if (status == 137) {
      kills++;
      continue;
    }
    REQUIRE(status == 0, "after %d kills: %d\n%s", kills, status, output);
    expect_shell("cmp whole/w killed/w && cmp whole/ckpt killed/ckpt && cmp whole/log/metrics.jsonl killed/log/metrics.jsonl");
    expect_shell("ls -A killed | sort | tr '\\n' ' ' | grep -qx 'ckpt log nuwa w ' || { ls -A killed; false; }");
    expect_shell("rm -rf killed/ckpt killed/log killed/w");
    ended++;
  }
}

TEST("a GAN that is killed three times, while threads load its pictures, ends with the bits of an undisturbed one") {
  kill_trainings(3, 150);
}
LONG_TEST("so does one that is killed a hundred times") { kill_trainings(100, 3000); }

TEST_MAIN()
