/* Batches loaded ahead, and which batches a run announces. */
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/test.h"
#include "train/loader.h"
#include "train/schedule.h"

enum { BATCH = 6, SLOTS = 3, BATCHES = 30 };

/* Example i of the batch at `first` is the number first + i; some take longer than others. */
typedef struct Fake {
  int value[SLOTS][BATCH];
  int next; /* batch to be announced */
  atomic_int farthest;
  int taken;
  int fails_at; /* an example; -1: none */
  int told[BATCH * BATCHES], n_told;
} Fake;

static bool next_batch(void *ctx, LoaderBatch *out) {
  Fake *f = ctx;
  *out = (LoaderBatch){false, WORLD_TRAIN, (uint64_t)(BATCH * f->next), f->next % 5 == 4 ? BATCH - 2 : BATCH};
  return f->next++ < BATCHES;
}

static void note_farthest(Fake *f, int batch) {
  int old = atomic_load(&f->farthest);
  while (old < batch && !atomic_compare_exchange_weak(&f->farthest, &old, batch)) {}
}

/* Every third example is broken; the first of a batch takes longest. */
static bool load(void *ctx, const LoaderBatch *b, int64_t i, int slot, DataBroken **broken, Error *err) {
  Fake *f = ctx;
  int number = (int)b->first + (int)i;
  note_farthest(f, (int)b->first / BATCH);
  usleep((useconds_t)(number % BATCH ? number % 3 * 20 : 300));
  if (number % 3 == 0) {
    *broken = mem_alloc(sizeof **broken);
    (*broken)->number = (uint64_t)number;
  }
  f->value[slot][i] = number;
  return f->fails_at < 0 || number < f->fails_at || error_set(err, ERROR_IO, "example %d", number);
}

static void tell(void *ctx, const LoaderBatch *b, DataBroken *broken) {
  Fake *f = ctx;
  f->told[f->n_told++] = (int)broken->number;
  mem_free(broken);
}

static Loader *open_loader(Fake *f, int slots) {
  Error err;
  *f = (Fake){.fails_at = -1};
  Loader *l = loader_new(&(LoaderOptions){slots, BATCH, load, tell, f}, &err);
  if (!l) TEST_FAIL_("%s", err.text);
  return l;
}

/* Takes batch k; the value of example i, or -1 after an error. */
static int *take(Loader *l, Fake *f, int k, Error *err) {
  Fake plan = {.next = k};
  LoaderBatch b;
  int slot;
  next_batch(&plan, &b);
  f->taken = k;
  return loader_take(l, &b, &slot, err) ? f->value[slot] : NULL;
}

TEST("a batch holds the same whatever the threads and slots, and broken examples are told in order, once") {
  static const int threads[] = {0, 1, 2, 7};
  for (int t = 0; t < 4; t++)
    for (int slots = 1; slots <= SLOTS; slots++) {
      Fake f;
      Error err;
      Loader *l = open_loader(&f, slots);
      REQUIRE(l, "");
      loader_begin(l, &(LoaderBatches){next_batch, &f}, threads[t]);
      EXPECT(loader_threads(l) == threads[t], "%d", loader_threads(l));
      int off = 0, want = 0;
      for (int k = 0; k < BATCHES; k++)
        for (int again = 0; again < 2; again++) { /* every function of a step takes it */
          int n = k % 5 == 4 ? BATCH - 2 : BATCH, *value = take(l, &f, k, &err);
          REQUIRE(value, "%s", err.text);
          for (int i = 0; i < n; i++) off += value[i] != BATCH * k + i;
          EXPECT(atomic_load(&f.farthest) < k + slots, "batch %d is loaded while %d is taken", f.farthest, k);
        }
      for (int k = 0; k < BATCHES; k++)
        for (int i = 0; i < (k % 5 == 4 ? BATCH - 2 : BATCH); i += 3) off += f.told[want++] != BATCH * k + i;
      EXPECT(off == 0 && want == f.n_told, "%d differ; told of %d, not %d", off, f.n_told, want);
      EXPECT(loader_waited(l) > 0, "time was spent");
      loader_free(l);
    }
}

TEST("of examples that cannot be had the first one is the error, and nothing behind it is told") {
  for (int threads = 0; threads < 6; threads += 5) {
    Fake f;
    Error err;
    Loader *l = open_loader(&f, SLOTS);
    REQUIRE(l, "");
    f.fails_at = 2 * BATCH + 4;
    loader_begin(l, &(LoaderBatches){next_batch, &f}, threads);
    EXPECT(take(l, &f, 0, &err) && take(l, &f, 1, &err) && !take(l, &f, 2, &err), "batch 2 fails");
    EXPECT_TEXT(err.text, "example 16");
    EXPECT(f.n_told == 6 && f.told[5] == 15, "%d", f.n_told);
    loader_free(l);
  }
}

TEST("a loader ends at any moment, tells of nothing that was not taken, and begins again") {
  Fake f;
  Error err;
  Loader *l = open_loader(&f, SLOTS);
  REQUIRE(l, "");
  for (int round = 0; round < 40; round++) {
    f.next = f.n_told = 0;
    loader_begin(l, &(LoaderBatches){next_batch, &f}, 3);
    int took = round % 4;
    for (int k = 0; k < took; k++) EXPECT(take(l, &f, k, &err), "%s", err.text);
    usleep((useconds_t)(round * 20));
    loader_end(l);
    EXPECT(f.n_told == 2 * took, "round %d: told of %d", round, f.n_told);
  }
  int *value = take(l, &f, 7, &err); /* without a plan what is asked for is loaded */
  EXPECT(value && value[5] == 47, "");
  value = take(l, &f, 3, &err);
  EXPECT(value && value[0] == 18, "");
  loader_free(l);
}

/* ---- what is announced ---- */

static uint64_t count(void *ctx, WorldSplit split) { return split == WORLD_VALIDATION ? 10 : 3; }

TEST("the batches of a run are those of its steps and evaluations, and an evaluation shows no example twice") {
  const TrainEntry entry[] = {{"a", 0, 2, 100, 2}, {"b", 1, 4, 5, 1}};
  TrainOptions o = {.steps = 7, .batch = 4, .entry = entry, .n_entry = 2, .evaluate = 3, .evaluate_every = 3,
                    .evaluate_batches = 8};
  TrainSource from = {.has_held_out = true, .count = count};
  TrainSchedule s = {&o, &from, 1, -1};
  Buffer out = {0};
  for (LoaderBatch b; schedule_next(&s, &b);)
    buffer_printf(&out, "%s%d:%d+%d ", b.is_evaluation ? "e" : "", b.split, (int)b.first, (int)b.n);
  EXPECT_TEXT(out.data, "0:4+4 e1:0+4 e1:4+4 e1:8+2 e2:0+3 0:12+4 0:16+4 0:20+4 e1:0+4 e1:4+4 e1:8+2 e2:0+3 "
                        "e1:0+4 e1:4+4 e1:8+2 e2:0+3 ");
  out.len = 0;
  from.count = NULL; /* without end, and without held-out pairs */
  from.has_held_out = false;
  o.evaluate_batches = 2;
  s = (TrainSchedule){&o, &from, 5, -1};
  for (LoaderBatch b; schedule_next(&s, &b);) buffer_printf(&out, "%d:%d+%d ", b.split, (int)b.first, (int)b.n);
  EXPECT_TEXT(out.data, "0:20+4 1:0+4 1:4+4 1:0+4 1:4+4 ");
  buffer_done(&out);
}

TEST_MAIN()
