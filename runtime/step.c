/* Steps of a decode.  A device that records keeps a step when its number of rows first comes up and replays it from then
 * on.  For one that rounds, numbers of rows are rounded up to a few: what is computed for rows beyond those asked for is
 * never looked at. */
#include "runtime/session.h"

/* 8, 16, 32, ...: bucket i has 8 << i rows, but no more than the session. */
static int bucket_of(int64_t R) {
  int i = 0;
  while ((int64_t)SMALLEST_BUCKET << i < R) i++;
  return i;
}

int64_t step_round_rows(const NuwaSession *s, int64_t R) {
  if (!s->device->rounds_rows) return R;
  int64_t rounded = (int64_t)SMALLEST_BUCKET << bucket_of(R);
  return rounded < s->options.rows ? rounded : s->options.rows;
}

static bool enqueue_step(NuwaSession *s, const PlanDecode *d, int state, int64_t streams, int64_t R) {
  size_t bytes = sizeof *s->tokens * (size_t)(streams * plan_positions(d));
  if (!s->device->is_host &&
      !s->device->does->copy_in(s->device, s->state[state], s->tokens, bytes, &s->failure))
    return false;
  return session_enqueue(s, d->step, streams, R);
}

static void free_records(NuwaSession *s, StepRecords *r) {
  for (int i = 0; i < STEP_BUCKETS; i++) {
    s->device->does->record_free(s->device, r->bucket[i]);
    r->bucket[i] = NULL;
  }
}

static bool replay_step(NuwaSession *s, int decode, int state, int64_t streams, int64_t R) {
  const DeviceKind *does = s->device->does;
  StepRecords *r = &s->records[decode];
  DeviceRecord **record = &r->bucket[bucket_of(R)];
  if (r->streams != streams) free_records(s, r);
  r->streams = streams;
  if (!*record) {
    if (!does->record_begin(s->device, &s->failure)) return false;
    bool ok = enqueue_step(s, &s->plan->decode[decode], state, streams, R);
    if (!does->record_end(s->device, ok, record, &s->failure)) return false;
  }
  return does->replay(s->device, *record, &s->failure);
}

bool step_run(NuwaSession *s, int decode, int state, int64_t streams, int64_t R) {
  const PlanDecode *d = &s->plan->decode[decode];
  const DeviceKind *does = s->device->does;
  if (s->failure.code != ERROR_NONE) return false;
  bool direct = !s->device->records || s->launch_ns;
  bool ok = does->enter(s->device, &s->failure) &&
            (direct ? enqueue_step(s, d, state, streams, R) : replay_step(s, decode, state, streams, R)) &&
            does->wait(s->device, &s->failure);
  return ok || error_prefix(&s->failure, "step of decode \"%s\", %lld rows", d->name, (long long)R);
}

void step_free_records(NuwaSession *s) {
  Error ignored;
  if (!s->records || !s->device->does->enter(s->device, &ignored)) return;
  for (int i = 0; i < s->plan->n_decode; i++) free_records(s, &s->records[i]);
}
