/* A ring of slots under one lock: an example is long work, so nobody waits for the lock. */
#include "train/loader.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "runtime/base/stack.h"

enum { MAX_THREADS = 64 };

typedef struct Slot {
  LoaderBatch batch;
  int64_t begun, done; /* examples */
  int64_t failed;      /* the first that failed; n: none did */
  Error err;           /* of it */
  DataBroken **broken; /* [batch] of each example */
} Slot;

struct Loader {
  LoaderOptions o;
  LoaderBatches batches; /* next is NULL: only what is asked for is loaded */
  Slot *slot;            /* [slots] */
  int first, n;          /* the ring: slots that hold batches, in the order of these */
  bool is_taken;         /* the first of them */
  bool has_ended;        /* there are no more batches */
  bool stop;
  pthread_mutex_t lock;
  pthread_cond_t work, loaded; /* something to do; a batch is whole */
  pthread_t thread[MAX_THREADS];
  int threads;
  double waited;
};

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static Slot *slot_at(Loader *l, int i) { return &l->slot[(l->first + i) % l->o.slots]; }

/* ---- under the lock ---- */

/* Examples after one that failed are not needed. */
static bool has_work(const Slot *s) { return s->begun < s->failed; }
static bool is_loaded(const Slot *s) { return !has_work(s) && s->done == s->begun; }

static Slot *add_batch(Loader *l, const LoaderBatch *b) {
  Slot *s = slot_at(l, l->n++);
  s->batch = *b;
  s->begun = s->done = 0;
  s->failed = b->n;
  pthread_cond_broadcast(&l->work);
  return s;
}

/* The first slot that needs work, after a batch was put into a free one; NULL: there is nothing to do. */
static Slot *find_work(Loader *l) {
  LoaderBatch b;
  for (int i = 0; i < l->n; i++)
    if (has_work(slot_at(l, i))) return slot_at(l, i);
  if (l->n == l->o.slots || l->has_ended || !l->batches.next) return NULL;
  l->has_ended = !l->batches.next(l->batches.ctx, &b);
  return l->has_ended ? NULL : add_batch(l, &b);
}

/* Loads one example of a slot that has work; the lock is free meanwhile. */
static void work_on(Loader *l, Slot *s) {
  int64_t i = s->begun++;
  DataBroken *broken = NULL;
  Error err;
  pthread_mutex_unlock(&l->lock);
  bool ok = l->o.load(l->o.ctx, &s->batch, i, (int)(s - l->slot), &broken, &err);
  pthread_mutex_lock(&l->lock);
  s->broken[i] = broken;
  s->done++;
  if (!ok && i < s->failed) s->failed = i, s->err = err;
  if (is_loaded(s)) pthread_cond_broadcast(&l->loaded);
}

/* Takes the first slot out of the ring; its examples are all done. */
static void drop_first(Loader *l) {
  Slot *s = slot_at(l, 0);
  for (int64_t i = 0; i < s->begun; i++) {
    for (DataBroken *b = s->broken[i], *next; b; b = next) next = b->next, mem_free(b);
    s->broken[i] = NULL;
  }
  l->first = (l->first + 1) % l->o.slots;
  l->n--;
  l->is_taken = false;
  pthread_cond_broadcast(&l->work);
}

/* ---- threads ---- */

static void *loader_main(void *ctx) {
  Loader *l = ctx;
  pthread_mutex_lock(&l->lock);
  while (!l->stop) {
    Slot *s = find_work(l);
    if (s)
      work_on(l, s);
    else
      pthread_cond_wait(&l->work, &l->lock);
  }
  pthread_mutex_unlock(&l->lock);
  return NULL;
}

void loader_begin(Loader *l, const LoaderBatches *b, int threads) {
  sigset_t all, before;
  loader_end(l);
  l->batches = *b;
  l->waited = 0;
  sigfillset(&all); /* signals belong to the program's own threads */
  if (pthread_sigmask(SIG_SETMASK, &all, &before)) return;
  while (l->threads < threads && l->threads < MAX_THREADS &&
         !stack_thread_start(&l->thread[l->threads], STACK_BYTES, loader_main, l))
    l->threads++;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void loader_end(Loader *l) {
  pthread_mutex_lock(&l->lock);
  l->stop = true;
  pthread_cond_broadcast(&l->work);
  pthread_mutex_unlock(&l->lock);
  for (int i = 0; i < l->threads; i++) pthread_join(l->thread[i], NULL);
  while (l->n) drop_first(l);
  l->threads = 0;
  l->batches = (LoaderBatches){0};
  l->stop = l->has_ended = false;
}

/* ---- taking ---- */

static bool is_same(const LoaderBatch *a, const LoaderBatch *b) {
  return a->is_evaluation == b->is_evaluation && a->split == b->split && a->first == b->first && a->n == b->n;
}

/* The slot of the batch, at the front of the ring. */
static Slot *find_batch(Loader *l, const LoaderBatch *b) {
  LoaderBatch next = *b;
  if (l->is_taken && is_same(&slot_at(l, 0)->batch, b)) return slot_at(l, 0);
  if (l->is_taken) drop_first(l);
  if (l->n == 0) {
    if (l->batches.next && !l->batches.next(l->batches.ctx, &next)) l->has_ended = true;
    add_batch(l, &next);
  }
  BUG_IF(!is_same(&slot_at(l, 0)->batch, b), "a batch is asked for that is not the next one");
  return slot_at(l, 0);
}

/* What the user is to know of a loaded batch: nothing of what stands behind a failure. */
static void tell(Loader *l, Slot *s) {
  for (int64_t i = 0; i < s->begun && i <= s->failed; i++) {
    if (s->broken[i]) l->o.tell(l->o.ctx, &s->batch, s->broken[i]);
    s->broken[i] = NULL;
  }
}

bool loader_take(Loader *l, const LoaderBatch *b, int *out_slot, Error *err) {
  double begin = seconds();
  BUG_IF(b->n < 1 || b->n > l->o.batch, "a batch of no size");
  pthread_mutex_lock(&l->lock);
  Slot *s = find_batch(l, b);
  while (!is_loaded(s)) {
    if (has_work(s))
      work_on(l, s);
    else
      pthread_cond_wait(&l->loaded, &l->lock);
  }
  l->is_taken = true;
  tell(l, s);
  bool ok = s->failed == s->batch.n;
  if (!ok) *err = s->err;
  *out_slot = (int)(s - l->slot);
  pthread_mutex_unlock(&l->lock);
  l->waited += seconds() - begin;
  return ok;
}

double loader_waited(const Loader *l) { return l->waited; }
int loader_threads(const Loader *l) { return l->threads; }

/* ---- life ---- */

Loader *loader_new(const LoaderOptions *o, Error *err) {
  Loader *l = mem_alloc(sizeof *l);
  bool ok = l && (l->slot = mem_alloc((size_t)o->slots * sizeof *l->slot));
  if (l) {
    l->o = *o;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->loaded, NULL);
  }
  for (int i = 0; ok && i < o->slots; i++)
    ok = (l->slot[i].broken = mem_alloc((size_t)o->batch * sizeof *l->slot[i].broken)) != NULL;
  if (ok) return l;
  loader_free(l);
  error_set(err, ERROR_MEMORY, "loading batches of %lld: out of memory", (long long)o->batch);
  return NULL;
}

void loader_free(Loader *l) {
  if (!l) return;
  if (l->slot) loader_end(l);
  for (int i = 0; l->slot && i < l->o.slots; i++) mem_free(l->slot[i].broken);
  pthread_cond_destroy(&l->loaded);
  pthread_cond_destroy(&l->work);
  pthread_mutex_destroy(&l->lock);
  mem_free(l->slot);
  mem_free(l);
}
