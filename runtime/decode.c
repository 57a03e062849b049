/* Generation: the prologue once, then one step call a wave, a token drawn for every row.
 *
 * A row is (sample, position).  With guidance every sample has two rows: stream `i` under its condition and stream
 * `count + i` under the null condition; both are given the token drawn from the guided logits.  The order of
 * positions (order.c) and the number of rows a call takes change no bit of the result: kernels compute every row
 * alike, and the random number of a token depends on (seed, raster position, sample) only. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "runtime/base/names.h"
#include "runtime/base/philox.h"
#include "runtime/session.h"

typedef struct Drawing {
  NuwaSession *s;
  const NuwaGenerate *g;
  const PlanDecode *d;
  int64_t streams;        /* samples of the session in use: count, or 2 count with guidance */
  int state;              /* which holds the tokens */
  int32_t *tokens;        /* [samples][positions]: the state itself, or what every step sends there */
  int32_t *rows;          /* [rows][2] */
  int32_t *row_slot;      /* [rows] or NULL */
  int32_t *slots;         /* [positions] or NULL */
  const float *logits;    /* [rows][vocab] */
  const int32_t *chunk;   /* positions of the call in progress */
  _Atomic int64_t nan_at; /* the least raster position * count + sample whose logits hold NaN; INT64_MAX: none */
} Drawing;

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* Of a token under the softmax of logits. */
static float chance_of(const float *logits, int n, int32_t token) {
  float most = logits[0];
  double sum = 0;
  for (int i = 1; i < n; i++)
    if (logits[i] > most) most = logits[i];
  for (int i = 0; i < n; i++) sum += exp((double)logits[i] - (double)most);
  return (float)(exp((double)logits[token] - (double)most) / sum);
}

static bool is_guided(const NuwaGenerate *g) { return g->guidance != 1.0f; }

static bool check_request(const Plan *p, const NuwaGenerate *g, Error *err) {
  if (g->decode < 0 || g->decode >= p->n_decode)
    return error_set(err, ERROR_ARGUMENT, "this model has no decode %d", g->decode);
  if (g->count < 1 || g->count >= UINT32_MAX)
    return error_set(err, ERROR_ARGUMENT, "count is %lld, must be 1 to %lld", (long long)g->count, (long long)UINT32_MAX - 1);
  if (g->first < 0 || g->first > UINT32_MAX - g->count)
    return error_set(err, ERROR_ARGUMENT, "the first of %lld samples is %lld, must be from 0 to %lld", (long long)g->count,
                     (long long)g->first, (long long)UINT32_MAX - (long long)g->count);
  if (!(g->guidance == g->guidance)) return error_set(err, ERROR_ARGUMENT, "guidance is not a number");
  const PlanDecode *d = &p->decode[g->decode];
  int64_t positions = plan_positions(d);
  for (int64_t i = 0; g->given && i < g->count * positions; i++)
    if (g->given[i % positions] && (g->given_tokens[i] < 0 || g->given_tokens[i] >= d->vocab))
      return error_set(err, ERROR_ARGUMENT, "given token %d at position %lld of sample %lld: the vocabulary has %lld",
                       g->given_tokens[i], (long long)(i % positions), (long long)(i / positions),
                       (long long)d->vocab);
  return true;
}

bool nuwa_generate_needs(const Plan *p, const NuwaGenerate *g, int64_t *out_slots, int64_t *out_rows, Error *err) {
  if (!check_request(p, g, err)) return false;
  const PlanDecode *d = &p->decode[g->decode];
  DecodeOrder order = {0};
  if (!order_init(&order, d, 1, err)) return false;
  order_build(&order, 0, g->raster, g->given);
  *out_slots = order.slots;
  *out_rows = order.rows * g->count * (is_guided(g) ? 2 : 1);
  order_done(&order);
  return true;
}

static int64_t ring_slots(const NuwaSession *s, const PlanDecode *d) {
  return s->options.ring_slots ? s->options.ring_slots : d->live;
}

/* The state "<decode>.tokens", i32 [B, positions]; -1 when the plan has none. */
static int find_tokens(const NuwaSession *s, const PlanDecode *d) {
  size_t n = strlen(d->name);
  for (int i = 0; i < s->plan->n_state; i++) {
    const PlanTensor *t = &s->plan->state[i].type;
    if (strncmp(t->name, d->name, n) != 0 || strcmp(t->name + n, ".tokens") != 0) continue;
    bool fits = t->dtype == DTYPE_I32 && t->rank == 2 && dim_equal(t->dim[0], (Dim){0, 1, 0}) &&
                dim_equal(t->dim[1], dim_const(s->order.positions));
    return fits ? i : -1;
  }
  return -1;
}

static bool drawing_init(Drawing *r, NuwaSession *s, const NuwaGenerate *g, Error *err) {
  if (!check_request(s->plan, g, err)) return false;
  const PlanDecode *d = &s->plan->decode[g->decode];
  *r = (Drawing){.s = s, .g = g, .d = d, .streams = g->count * (is_guided(g) ? 2 : 1)};
  if (r->streams > s->options.samples || r->streams > s->options.rows)
    return error_set(err, ERROR_ARGUMENT,
                     "%lld samples with guidance %g need %lld rows, the session has %lld samples, %lld rows",
                     (long long)g->count, (double)g->guidance, (long long)r->streams, (long long)s->options.samples,
                     (long long)s->options.rows);
  order_build(&s->order, g->decode, g->raster, g->given);
  if (s->order.slots > ring_slots(s, d))
    return error_set(err, ERROR_ARGUMENT,
                     "this request holds %lld positions at once, the session's rings have %lld slots",
                     (long long)s->order.slots, (long long)ring_slots(s, d));
  r->state = find_tokens(s, d);
  r->rows = nuwa_input(s, d->step, STEP_ROWS);
  r->row_slot = nuwa_input(s, d->step, STEP_ROW_SLOT);
  r->slots = nuwa_input(s, d->step, STEP_SLOTS);
  r->logits = nuwa_output(s, d->step, STEP_LOGITS);
  if (r->state < 0)
    return error_set(err, ERROR_FORMAT, "decode \"%s\": its plan has no state for the tokens, i32[B,%lld]", d->name,
                     (long long)s->order.positions);
  r->tokens = s->tokens ? s->tokens : s->state[r->state];
  return true;
}

static void write_given(Drawing *r) {
  int64_t N = r->s->order.positions;
  for (int64_t stream = 0; stream < r->streams; stream++)
    for (int64_t p = 0; p < N; p++)
      r->tokens[stream * N + p] =
          r->g->given && r->g->given[p] ? r->g->given_tokens[stream % r->g->count * N + p] : 0;
}

/* Of a sample with a stop: the least position that holds it; INT32_MAX: none does yet. */
static int32_t stopped_at(const Drawing *r, int64_t sample) { return r->d->has_stop ? r->s->stopped[sample] : INT32_MAX; }

static void note_stop(Drawing *r, int64_t sample, int32_t p, int32_t token) {
  if (r->d->has_stop && token == r->d->stop && p < r->s->stopped[sample]) r->s->stopped[sample] = p;
}

static void begin_stops(Drawing *r) {
  int64_t N = r->s->order.positions;
  for (int64_t i = 0; r->d->has_stop && i < r->g->count; i++) {
    r->s->stopped[i] = INT32_MAX;
    for (int64_t p = N - 1; r->g->given && p >= 0; p--)
      if (r->g->given[p]) note_stop(r, i, (int32_t)p, r->tokens[i * N + p]);
  }
}

/* Whether every sample has stopped before all positions that the order has from `begin` on. */
static bool all_stopped(const Drawing *r, int64_t begin) {
  const DecodeOrder *o = &r->s->order;
  int32_t least = INT32_MAX, last = -1;
  for (int64_t i = begin; i < o->positions; i++)
    if (o->position[i] < least) least = o->position[i];
  for (int64_t i = 0; i < r->g->count; i++)
    if (stopped_at(r, i) > last) last = stopped_at(r, i);
  return last < least;
}

/* Behind its stop a sample has nothing else, whatever was drawn in the same wave.  The tokens that count. */
static int64_t finish_stops(Drawing *r) {
  int64_t N = r->s->order.positions, counted = 0;
  for (int64_t sample = 0; sample < r->g->count; sample++)
    for (int64_t p = 0; p < N; p++) {
      if (r->g->given && r->g->given[p]) continue;
      if (p <= stopped_at(r, sample)) {
        counted++;
        continue;
      }
      r->tokens[sample * N + p] = (int32_t)r->d->stop;
      if (r->g->chance) r->g->chance[sample * N + p] = 1;
    }
  return counted;
}

static bool holds_nan(const float *x, int n) {
  for (int i = 0; i < n; i++)
    if (isnan(x[i])) return true;
  return false;
}

static void note_nan(Drawing *r, int64_t at) {
  int64_t least = atomic_load(&r->nan_at);
  while (at < least && !atomic_compare_exchange_weak(&r->nan_at, &least, at)) {}
}

static bool refuse_nan(const Drawing *r, Error *err) {
  int64_t at = atomic_load(&((Drawing *)r)->nan_at);
  return error_set(err, ERROR_ARGUMENT,
                   "decode \"%s\": the logits of sample %lld at position %lld hold NaN: nothing can be drawn",
                   r->d->name, (long long)(r->g->first + at % r->g->count), (long long)(at / r->g->count));
}

static void put_token(Drawing *r, int64_t sample, int32_t p, int32_t token) {
  int64_t N = r->s->order.positions;
  r->tokens[sample * N + p] = token;
  if (is_guided(r->g)) r->tokens[(r->g->count + sample) * N + p] = token;
}

/* Draws the tokens of positions [begin, end) of the chunk, all samples. */
static void draw_items(void *ctx, int64_t begin, int64_t end, int thread) {
  Drawing *r = ctx;
  const NuwaSession *s = r->s;
  int vocab = (int)r->d->vocab;
  float *guided = s->draw_scratch + (size_t)thread * s->draw_stride, *scratch = guided + vocab;
  for (int64_t item = begin; item < end; item++) {
    int64_t k = item / r->g->count, sample = item % r->g->count;
    int32_t p = r->chunk[k];
    if (r->g->given && r->g->given[p]) continue;
    if (stopped_at(r, sample) < p) {
      put_token(r, sample, p, (int32_t)r->d->stop);
      continue;
    }
    const float *logits = r->logits + (k * r->streams + sample) * vocab;
    if (is_guided(r->g)) {
      sampler_guide(guided, logits, logits + r->g->count * vocab, r->g->guidance, vocab);
      logits = guided;
    }
    if (holds_nan(logits, vocab)) note_nan(r, p * r->g->count + sample);
    Philox random = philox(r->g->seed, (uint32_t)p, (uint32_t)(r->g->first + sample), STREAM_SAMPLE);
    int32_t token = sampler_draw(logits, vocab, &r->g->sample, philox_uniform(random.word[0]), scratch);
    put_token(r, sample, p, token);
    if (r->g->chance) r->g->chance[sample * s->order.positions + p] = chance_of(logits, vocab, token);
  }
}

/* A device may want more rows than there are: the last one again, which writes what it writes anyway. */
static int64_t repeat_last_row(Drawing *r, int64_t R) {
  int64_t rounded = step_round_rows(r->s, R);
  for (int64_t i = R; i < rounded; i++) {
    memcpy(r->rows + 2 * i, r->rows + 2 * (R - 1), 2 * sizeof *r->rows);
    if (r->row_slot) r->row_slot[i] = r->row_slot[R - 1];
  }
  return rounded;
}

/* One step call on positions [begin, end) of the order. */
static bool draw_chunk(Drawing *r, int64_t begin, int64_t end) {
  DecodeOrder *o = &r->s->order;
  int64_t R = 0;
  r->chunk = o->position + begin;
  for (int64_t i = begin; i < end; i++)
    for (int64_t stream = 0; stream < r->streams; stream++, R++) {
      r->rows[2 * R] = (int32_t)stream;
      r->rows[2 * R + 1] = o->position[i];
      if (r->row_slot) r->row_slot[R] = o->slot[o->position[i]] * (int32_t)r->streams + (int32_t)stream;
    }
  if (r->slots) memcpy(r->slots, o->slot, sizeof *r->slots * (size_t)o->positions);
  if (!step_run(r->s, r->g->decode, r->state, r->streams, repeat_last_row(r, R))) return false;
  pool_run(r->s->pool, draw_items, r, (end - begin) * r->g->count, 1);
  for (int64_t i = begin; r->d->has_stop && i < end; i++)
    for (int64_t sample = 0; sample < r->g->count; sample++)
      note_stop(r, sample, o->position[i], r->tokens[sample * o->positions + o->position[i]]);
  return atomic_load(&r->nan_at) == INT64_MAX;
}

/* Tokens of positions [begin, end) of the order, for who looks on. */
static void tell_so_far(const Drawing *r, int64_t begin, int64_t end) {
  const DecodeOrder *o = &r->s->order;
  int64_t N = o->positions;
  for (int64_t sample = 0; r->g->so_far && sample < r->g->count; sample++)
    for (int64_t i = begin; i < end; i++)
      r->g->so_far[sample * N + o->position[i]] = r->tokens[sample * N + o->position[i]];
}

static void begin_so_far(const Drawing *r) {
  int64_t N = r->s->order.positions;
  for (int64_t i = 0; r->g->so_far && i < r->g->count * N; i++)
    r->g->so_far[i] = r->g->given && r->g->given[i % N] ? r->tokens[i] : -1;
}

static bool is_all_zero(const uint8_t *x, size_t n) { return n > 0 && x[0] == 0 && memcmp(x, x + 1, n - 1) == 0; }

/* A caption has its start at least.  A caller who knows nothing of the mask, or forgets the half for the null condition,
 * would have no word seen, and pictures of anything. */
static bool check_text_mask(const Drawing *r, Error *err) {
  const PlanFunction *f = r->d->prologue < 0 ? NULL : &r->s->plan->function[r->d->prologue];
  const PlanTensor *t = f ? plan_find_input(f, PORT_TEXT_MASK) : NULL;
  bool is_mask = t && t->dtype == DTYPE_U8 && t->rank == 2 && dim_equal(t->dim[0], (Dim){0, 1, 0}) && dim_is_const(t->dim[1]);
  const uint8_t *mask = is_mask ? nuwa_input(r->s, r->d->prologue, PORT_TEXT_MASK) : NULL;
  for (int64_t i = 0; mask && i < r->streams; i++)
    if (is_all_zero(mask + i * t->dim[1].c, (size_t)t->dim[1].c))
      return error_set(err, ERROR_ARGUMENT, "input \"%s\" is 0 for the whole %s of sample %lld: nuwa_text_mask fills it",
                       PORT_TEXT_MASK, i < r->g->count ? "text" : "empty text", (long long)(r->g->first + i % r->g->count));
  return true;
}

bool nuwa_generate(NuwaSession *s, const NuwaGenerate *g, int32_t *tokens, NuwaGenerateStats *stats,
                   NuwaProgress *progress, void *ctx, Error *err) {
  Drawing r;
  s->refusal.code = ERROR_NONE;
  if (!drawing_init(&r, s, g, err) || !check_text_mask(&r, err)) return false;
  atomic_store(&r.nan_at, INT64_MAX);
  DecodeOrder *o = &s->order;
  write_given(&r);
  begin_stops(&r);
  begin_so_far(&r);
  for (int64_t i = 0; g->chance && i < g->count * o->positions; i++) g->chance[i] = 1;
  double t0 = now_ms();
  if (r.d->prologue >= 0 && !nuwa_run(s, r.d->prologue, r.streams, 0)) return nuwa_check(s, err);
  double t1 = now_ms();
  int64_t most = s->options.rows / r.streams, calls = 0;
  for (int64_t wave = 0; wave < o->n_wave; wave++) {
    int64_t begin = o->wave_begin[wave], end = o->wave_begin[wave + 1];
    if (r.d->has_stop && all_stopped(&r, begin)) break;
    order_take_slots(o, wave);
    /* Cutting a wave in raster order is safe: causal keys never come later in raster order than their query. */
    for (int64_t at = begin, to; at < end; at = to, calls++) {
      to = at + most < end ? at + most : end;
      if (!draw_chunk(&r, at, to)) return nuwa_check(s, err) && refuse_nan(&r, err);
      tell_so_far(&r, at, to);
      if (progress && !progress(ctx, to, o->positions))
        return error_set(err, ERROR_CANCELLED, "drawing was stopped after %lld of %lld positions", (long long)to,
                         (long long)o->positions);
    }
    order_release_slots(o, wave);
  }
  int64_t counted = finish_stops(&r);
  memcpy(tokens, r.tokens, sizeof *tokens * (size_t)(g->count * o->positions));
  if (stats)
    *stats = (NuwaGenerateStats){.steps = calls, .tokens = counted, .live = o->slots, .prologue_ms = t1 - t0,
                                 .step_ms = now_ms() - t1};
  return true;
}
