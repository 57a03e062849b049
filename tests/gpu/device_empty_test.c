/* A batch of nobody on a GPU: the results that it leaves are a CPU's, whatever stood in memory. */
#include "tests/gpu/pair.h"
#include "tests/num/empty_batch.h"
#include "tests/test.h"

enum { SAMPLES = 3 };

static const RigData data = {5, NULL, NULL};

TEST("without samples a GPU gives what a CPU gives: sums of nothing are 0, fills and other operands stay") {
  NEED_NVRTC();
  Pair p;
  bool ok = pair_open(&p, empty_batch_functions, false, SAMPLES, 1);
  EXPECT(ok && p.model.n_func == EMPTY_BATCH_FUNCTIONS, "%s", p.err.text);
  for (int f = 0; ok && f < p.model.n_func; f++) {
    const char *name = p.plan[ON_CUDA]->function[f].name;
    ok = pair_run(&p, f, &data, SAMPLES, 1) && pair_run(&p, f, &data, 0, 1);
    EXPECT(ok, "%s: %s", name, p.err.text);
    double e = ok ? pair_error(&p, f, 0, 1) : 0;
    EXPECT(e <= 1e-2, "%s differs by %g of the largest", name, e);
  }
  pair_close(&p);
}

TEST_MAIN()
