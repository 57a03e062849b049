/* The order of decoding: what runs when, and which slots its keys and values occupy.  What a query sees is written here
 * once more, from the words of the design. */
#include "runtime/base/hooks.h"
#include "runtime/base/philox.h"
#include "runtime/order.h"
#include "tests/test.h"

enum { MOST_AXIS = 21, MOST_EXTENTS = 2 };

typedef struct Case {
  PlanDecode d;
  AttendAttrs attend[MOST_EXTENTS];
  PlanStencil stencil[4];
} Case;

static void case_init(Case *c, int64_t s, int64_t h, int64_t w) {
  *c = (Case){.d = {.name = "decode", .grid = {s, h, w}, .vocab = 2, .raster = {h * w, w, 1}}};
  c->d.attend = c->attend;
  c->d.stencil = c->stencil;
}

typedef struct Box {
  int64_t lo[3], hi[3];
  bool is_axis, is_raster, is_shift;   /* not raster: past */
} Box;

static void add_extent(Case *c, const Box *b) {
  AttendAttrs *a = &c->attend[c->d.n_attend++];
  *a = (AttendAttrs){.kind = b->is_axis ? ATTEND_AXIS : ATTEND_NEARBY, .edge = b->is_shift ? EDGE_SHIFT : EDGE_CLIP,
                     .causal = b->is_raster ? CAUSAL_RASTER : CAUSAL_PAST};
  memcpy(a->lo, b->lo, sizeof a->lo);
  memcpy(a->hi, b->hi, sizeof a->hi);
  memcpy(a->query_grid, c->d.grid, sizeof c->d.grid);
  memcpy(a->key_grid, c->d.grid, sizeof c->d.grid);
}

static void add_box3(Case *c) { add_extent(c, &(Box){{-1, -1, -1}, {1, 1, 1}, .is_raster = true}); }

static void add_delta(Case *c, int64_t s, int64_t h, int64_t w) {
  c->stencil[c->d.n_stencil++] = (PlanStencil){{s, h, w}, false};
}

static void add_local(Case *c) { add_delta(c, 0, 0, -1), add_delta(c, 0, -1, 0), add_delta(c, -1, 0, 0); }

static void set_wavefront(Case *c, int64_t a, int64_t b, int64_t w) {
  c->d.wavefront[0] = a, c->d.wavefront[1] = b, c->d.wavefront[2] = w;
}

static int64_t size_of(const Case *c) { return c->d.grid[0] * c->d.grid[1] * c->d.grid[2]; }

static void point(const Case *c, int64_t i, int64_t at[3]) {
  at[2] = i % c->d.grid[2];
  at[1] = i / c->d.grid[2] % c->d.grid[1];
  at[0] = i / c->d.grid[2] / c->d.grid[1];
}

static int64_t clamp(int64_t x, int64_t lo, int64_t hi) { return x < lo ? lo : x > hi ? hi : x; }

static bool in_window(const AttendAttrs *a, int x, int64_t q, int64_t key) {
  int64_t n = a->key_grid[x], width = a->hi[x] - a->lo[x] + 1, lo = q + a->lo[x];
  if (a->edge == EDGE_SHIFT) lo = clamp(lo, 0, n > width ? n - width : 0);
  return key >= lo && key < lo + width && (a->causal != CAUSAL_PAST || key <= q);
}

static bool sees(const Case *c, const AttendAttrs *a, int64_t query, int64_t key) {
  int64_t q[3], k[3];
  int at_centre = 0, inside = 0, line = 0;
  point(c, query, q);
  point(c, key, k);
  if (a->causal == CAUSAL_RASTER && key > query) return false;
  for (int x = 0; x < 3; x++) {
    bool in = in_window(a, x, q[x], k[x]);
    at_centre += k[x] == q[x];
    inside += in;
    line |= in && k[x] != q[x];
  }
  if (a->kind != ATTEND_AXIS) return inside == 3;
  return at_centre == 3 ? inside > 0 : at_centre == 2 && line;
}

static bool reads(const Case *c, const PlanStencil *s, int64_t i, int64_t token) {
  int64_t p[3], k[3];
  if (s->raster) return token == i - 1;
  point(c, i, p);
  point(c, token, k);
  return k[0] == p[0] + s->delta[0] && k[1] == p[1] + s->delta[1] && k[2] == p[2] + s->delta[2];
}

/* ---- what every order must satisfy ---- */

static void check_bounds(const DecodeOrder *o, int64_t n) {
  static uint8_t seen[MOST_AXIS * MOST_AXIS * MOST_AXIS];
  memset(seen, 0, (size_t)n);
  EXPECT(o->positions == n && o->wave_begin[0] == 0 && o->wave_begin[o->n_wave] == n);
  int64_t rows = 0;
  for (int64_t w = 0; w < o->n_wave; w++) {
    int64_t begin = o->wave_begin[w], end = o->wave_begin[w + 1];
    EXPECT(begin < end, "wave %lld is empty", (long long)w);
    rows = end - begin > rows ? end - begin : rows;
    for (int64_t i = begin; i < end; i++) {
      int32_t p = o->position[i];
      EXPECT(!seen[p] && o->wave_of[p] == w, "position %d", p);
      EXPECT(i == begin || o->position[i - 1] < p, "a wave is not in raster order");
      seen[p] = 1;
    }
  }
  EXPECT(rows == o->rows);
}

static void check_pair(const Case *c, const DecodeOrder *o, const uint8_t *given, int64_t i, int64_t k) {
  for (int e = 0; e < c->d.n_attend; e++) {
    if (!sees(c, &c->attend[e], i, k)) continue;
    EXPECT(o->wave_of[k] <= o->wave_of[i], "%lld sees %lld, which runs later", (long long)i, (long long)k);
    EXPECT(o->last_wave[k] >= o->wave_of[i], "%lld is forgotten before %lld sees it", (long long)k, (long long)i);
  }
  for (int s = 0; s < c->d.n_stencil; s++) {
    if (!reads(c, &c->stencil[s], i, k)) continue;
    bool known = (given && given[k]) || o->wave_of[k] < o->wave_of[i];
    EXPECT(known, "%lld reads token %lld, which is not there", (long long)i, (long long)k);
  }
}

/* Runs the slots as decode.c does. */
static void check_slots(DecodeOrder *o) {
  static uint8_t used[MOST_AXIS * MOST_AXIS * MOST_AXIS];
  int64_t most = 0;
  for (int64_t w = 0; w < o->n_wave; w++) {
    order_take_slots(o, w);
    memset(used, 0, (size_t)o->slots);
    int64_t live = 0;
    for (int64_t p = 0; p < o->positions; p++) {
      bool lives = o->wave_of[p] <= w && w <= o->last_wave[p];
      EXPECT(lives == (o->slot[p] >= 0), "position %lld in wave %lld has slot %d", (long long)p, (long long)w,
             o->slot[p]);
      if (o->slot[p] < 0) continue;
      EXPECT(o->slot[p] < o->slots && !used[o->slot[p]], "slot %d is shared", o->slot[p]);
      used[o->slot[p]] = 1;
      live++;
    }
    most = live > most ? live : most;
    order_release_slots(o, w);
  }
  EXPECT(most == o->slots, "%lld slots, %lld in use at most", (long long)o->slots, (long long)most);
}

/* Wave 0 is exactly what can run before anything is drawn. */
static void check_first_wave(const Case *c, const DecodeOrder *o, const uint8_t *given) {
  int64_t n = size_of(c);
  for (int64_t i = 0; i < n; i++) {
    bool first = true;
    for (int64_t k = 0; k < n; k++) {
      for (int s = 0; s < c->d.n_stencil; s++) first &= given[k] || !reads(c, &c->stencil[s], i, k);
      for (int e = 0; e < c->d.n_attend; e++) first &= k == i || o->wave_of[k] == 0 || !sees(c, &c->attend[e], i, k);
    }
    EXPECT(first == (o->wave_of[i] == 0), "position %lld runs in wave %d", (long long)i, o->wave_of[i]);
  }
}

static void check_order(const Case *c, bool raster, const uint8_t *given) {
  Error err = {0};
  DecodeOrder o = {0};
  int64_t n = size_of(c);
  REQUIRE(order_init(&o, &c->d, 1, &err), "%s", err.text);
  order_build(&o, 0, raster, given);
  check_bounds(&o, n);
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < n; k++) check_pair(c, &o, given, i, k);
  check_slots(&o);
  if (given) check_first_wave(c, &o, given);
  order_done(&o);
}

static int64_t live(const Case *c, bool raster, int64_t *out_waves, int64_t *out_rows) {
  Error err = {0};
  DecodeOrder o = {0};
  if (!order_init(&o, &c->d, 1, &err)) return -1;
  order_build(&o, 0, raster, NULL);
  int64_t slots = o.slots;
  *out_waves = o.n_wave;
  *out_rows = o.rows;
  check_slots(&o);
  order_done(&o);
  return slots;
}

TEST("a 3x3x3 window on a video of 10x21x21 keeps 464 positions in raster order, at most 800 in waves") {
  static Case c;
  int64_t waves, rows, slots;
  case_init(&c, 10, 21, 21);
  add_box3(&c);
  add_local(&c);
  set_wavefront(&c, 2, 1, 1);
  slots = live(&c, true, &waves, &rows);
  EXPECT(slots == 464 && waves == 4410 && rows == 1, "%lld slots, %lld waves", (long long)slots, (long long)waves);
  slots = live(&c, false, &waves, &rows);
  EXPECT(slots > 464 && slots <= 800 && waves == 59, "%lld slots, %lld waves", (long long)slots, (long long)waves);
}

TEST("full attention keeps everything, no attention keeps nothing but the wave") {
  static Case c;
  int64_t waves, rows;
  case_init(&c, 2, 4, 4);
  add_extent(&c, &(Box){{-9, -9, -9}, {9, 9, 9}, .is_raster = true});
  add_local(&c);
  EXPECT(live(&c, true, &waves, &rows) == 32);
  case_init(&c, 2, 4, 4);
  add_local(&c);
  set_wavefront(&c, 1, 1, 1);
  EXPECT(live(&c, false, &waves, &rows) == rows && waves == 8);
}

static uint32_t draw(uint32_t test, uint32_t i, uint32_t n) { return philox(5, test, i, STREAM_TEST).word[0] % n; }

static void add_random_extent(Case *c, uint32_t t, uint32_t at) {
  Box b = {.is_axis = draw(t, at, 3) == 0, .is_raster = draw(t, at + 1, 2), .is_shift = draw(t, at + 2, 2)};
  for (uint32_t x = 0; x < 3; x++) {
    int64_t width = 1 + draw(t, at + 3 + x, 5);
    b.lo[x] = -(width / 2);
    b.hi[x] = b.lo[x] + width - 1;
    if (draw(t, at + 6 + x, 4) == 0)
      b.lo[x] = (int64_t)draw(t, at + 9 + x, 5) - 4, b.hi[x] = b.lo[x] + draw(t, at + 12 + x, 2);
  }
  add_extent(c, &b);
}

static void add_random_stencil(Case *c, uint32_t t) {
  switch (draw(t, 20, 4)) {
    case 0: add_local(c); return;
    case 1: add_delta(c, 0, 0, -1); return;
    case 2: c->stencil[c->d.n_stencil++].raster = true; return;
    default: add_delta(c, 0, 0, -1), add_delta(c, 0, -1, 1), add_delta(c, -1, 1, 2);
  }
}

/* Does the schedule run what it depends on first? */
static bool is_schedule(const Case *c, const int64_t a[3]) {
  int64_t n = size_of(c), q[3], k[3];
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) {
      point(c, i, q);
      point(c, j, k);
      int64_t ahead = a[0] * (k[0] - q[0]) + a[1] * (k[1] - q[1]) + a[2] * (k[2] - q[2]);
      for (int e = 0; e < c->d.n_attend; e++)
        if (ahead > 0 && sees(c, &c->attend[e], i, j)) return false;
      for (int s = 0; s < c->d.n_stencil; s++)
        if (ahead >= 0 && reads(c, &c->stencil[s], i, j)) return false;
    }
  return true;
}

/* Some schedule, far from the best at times: an order must be right for any. */
static void choose_schedule(Case *c, uint32_t t) {
  memcpy(c->d.wavefront, c->d.raster, sizeof c->d.raster);
  for (uint32_t i = 0; i < 60; i++) {
    int64_t a[3];
    for (uint32_t x = 0; x < 3; x++) a[x] = draw(t, 300 + 3 * i + x, 12);
    if (!is_schedule(c, a)) continue;
    memcpy(c->d.wavefront, a, sizeof a);
    return;
  }
}

/* 0 nothing, 1 all, 2 the upper half, 3 the first frame, 4.. random. */
static void fill_mask(const Case *c, uint32_t t, uint32_t kind, uint8_t *given) {
  int64_t n = size_of(c), at[3];
  for (int64_t i = 0; i < n; i++) {
    point(c, i, at);
    given[i] = kind == 1 || (kind == 2 && 2 * at[1] < c->d.grid[1]) || (kind == 3 && at[0] == 0) ||
               (kind > 3 && draw(t, 1000 + (uint32_t)i, 4) >= kind - 3);
  }
}

TEST("with any window, stencil and given tokens: all run once, after what they need, and no slot is shared") {
  static Case c;
  uint8_t given[216];
  for (uint32_t t = 0; t < 150; t++) {
    case_init(&c, 1 + draw(t, 0, 4), 1 + draw(t, 1, 6), 1 + draw(t, 2, 6));
    for (uint32_t i = 0; i < draw(t, 3, 3); i++) add_random_extent(&c, t, 30 + 20 * i);
    add_random_stencil(&c, t);
    choose_schedule(&c, t);
    for (int raster = 0; raster < 2; raster++) {
      check_order(&c, raster, NULL);
      for (uint32_t kind = 0; kind < 6; kind++) {
        fill_mask(&c, t, kind, given);
        check_order(&c, raster, given);
      }
    }
  }
}

TEST("when everything is given, everything runs at once") {
  static Case c;
  uint8_t given[64];
  Error err = {0};
  DecodeOrder o = {0};
  case_init(&c, 4, 4, 4);
  add_box3(&c);
  add_local(&c);
  set_wavefront(&c, 2, 1, 1);
  memset(given, 1, sizeof given);
  REQUIRE(order_init(&o, &c.d, 1, &err));
  order_build(&o, 0, false, given);
  EXPECT(o.n_wave == 1 && o.rows == 64 && o.slots == 64);
  order_done(&o);
}

TEST("short memory is reported") {
  static Case c;
  Error err = {0};
  DecodeOrder o = {0};
  case_init(&c, 10, 21, 21);
  add_box3(&c);
  uint64_t before = mem_alloc_count();
  REQUIRE(order_init(&o, &c.d, 1, &err));
  uint64_t n = mem_alloc_count() - before;
  order_done(&o);
  EXPECT(n >= 2);
  for (uint64_t i = 1; i <= n; i++) {
    mem_fail_at(i);
    EXPECT(!order_init(&o, &c.d, 1, &err) && err.code == ERROR_MEMORY);
    mem_fail_at(0);
  }
}

TEST_MAIN()
