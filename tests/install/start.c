/* How long it takes from the start of a process to the end of its first kernel: microseconds.  It starts itself again,
 * so that loading the program and the library count.  With weights in the bundle, until they are loaded.
 * usage: start BUNDLE.nuwa PLAN */
#include <nuwa.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long long now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int main(int argc, char **argv) {
  if (argc == 3) {
    char begin[32];
    snprintf(begin, sizeof begin, "%lld", now_us());
    execl(argv[0], argv[0], argv[1], argv[2], begin, (char *)NULL);
    return 1;
  }
  NuwaError err = {0};
  NuwaBundle *b = argc == 4 ? nuwa_bundle_open(argv[1], &err) : NULL;
  const NuwaPlan *p = b ? nuwa_bundle_plan(b, argv[2]) : NULL;
  NuwaOptions o = {.samples = 1, .rows = 1};
  NuwaSession *s = p ? nuwa_session_open(p, &o, &err) : NULL;
  NuwaPart part;
  bool has_weights = false;
  for (int i = 0; b && nuwa_bundle_part(b, i, &part); i++) has_weights |= part.kind == NUWA_PART_WEIGHTS;
  NuwaWeights *w = s && has_weights ? nuwa_bundle_weights(b, argv[2], &err) : NULL;
  bool ok = s && (has_weights ? w && nuwa_load_weights(s, w, false, &err) : nuwa_run(s, 0, 1, 0));
  long long end = now_us();
  if (!ok) return fprintf(stderr, "start: %s\n", err.text), 1;
  printf("%lld\n", end - strtoll(argv[3], NULL, 10));
  nuwa_weights_close(w);
  nuwa_session_close(s);
  nuwa_bundle_close(b);
  return 0;
}
