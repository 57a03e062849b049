/* The least that a user of the runtime alone writes: linked against nuwa_runtime and nuwa_base, and looked at by
 * arrows.sh.  usage: sample BUNDLE.nuwa */
#include <stdio.h>

#include "runtime/include/nuwa.h"

int main(int argc, char **argv) {
  NuwaError err = {0};
  NuwaBundle *b = argc > 1 ? nuwa_bundle_open(argv[1], &err) : NULL;
  const NuwaPlan *p = b ? nuwa_bundle_plan(b, NULL) : NULL;
  NuwaOptions o = {.samples = 1, .rows = 1};
  NuwaSession *s = p ? nuwa_session_open(p, &o, &err) : NULL;
  if (s) nuwa_init_weights(s, 0);
  for (int f = 0; s && f < nuwa_function_count(p); f++) nuwa_run(s, f, 1, 1);
  int64_t slots, rows;
  NuwaGenerate g = {.count = 1, .guidance = 1};
  if (s && nuwa_decode_count(p)) nuwa_generate_needs(p, &g, &slots, &rows, &err);
  puts(s ? "ran" : err.text);
  nuwa_session_close(s);
  nuwa_bundle_close(b);
  return !s;
}
