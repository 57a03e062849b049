/* The derived prologue and step against the teacher-forced function: whatever the attention, the stencil, the order
 * and the given tokens, the logits of a step are those of the function on the tokens that came out. */
#include "tests/test.h"
#include "tests/unit/passes/store.h"
#include "tests/unit/passes/toy_model.h"

static Error err;

/* ---- a host that decodes: order, slots, rows, argmax ---- */

enum { MOST_POSITIONS = 128 };

typedef struct Host {
  const Decode *d;
  const Func *f;
  Store *store;
  int64_t positions, B, vocab;
  int64_t wave_of[MOST_POSITIONS], slot[MOST_POSITIONS], n_wave;
  const uint8_t *given;
  double *tokens, *logits;   /* [B][P], [B][P][V] as the steps gave them */
} Host;

static void point(const int64_t grid[3], int64_t i, int64_t at[3]) {
  at[2] = i % grid[2];
  at[1] = i / grid[2] % grid[1];
  at[0] = i / grid[2] / grid[1];
}

static bool host_sees(const Host *h, int64_t query, int64_t key) {
  int64_t q[3], k[3];
  point(h->d->grid, query, q);
  point(h->d->grid, key, k);
  for (int i = 0; i < h->d->n_attend; i++)
    if (extent_sees(h->d->attend[i].extent, q, k)) return true;
  return false;
}

static bool host_reads(const Host *h, int64_t i, int64_t token) {
  int64_t p[3], k[3];
  point(h->d->grid, i, p);
  point(h->d->grid, token, k);
  for (int s = 0; s < h->d->n_stencil; s++) {
    const StencilEntry *e = &h->d->stencil[s];
    if (e->raster ? token == i - 1
                  : k[0] == p[0] + e->delta[0] && k[1] == p[1] + e->delta[1] && k[2] == p[2] + e->delta[2])
      return true;
  }
  return false;
}

static bool runs_first(const Host *h, int64_t i) {
  for (int64_t k = 0; k < h->positions; k++) {
    if (host_reads(h, i, k) && !h->given[k]) return false;
    if (k != i && host_sees(h, i, k) && h->wave_of[k] != 0) return false;
  }
  return true;
}

/* Wave 0: what depends on given tokens only; then by time. */
static void host_order(Host *h, const Schedule *s) {
  int64_t at[3], last = 0, n = 0;
  for (int64_t p = 0; p < h->positions; p++) h->wave_of[p] = -1;
  for (int64_t p = 0; h->given && p < h->positions; p++)
    if (runs_first(h, p)) h->wave_of[p] = 0, n = 1;
  for (int x = 0; x < 3; x++) last += s->a[x] * (h->d->grid[x] - 1);
  for (int64_t t = 0; t <= last; t++) {
    bool any = false;
    for (int64_t p = 0; p < h->positions; p++) {
      point(h->d->grid, p, at);
      if (h->wave_of[p] != -1 || s->a[0] * at[0] + s->a[1] * at[1] + s->a[2] * at[2] != t) continue;
      h->wave_of[p] = n;
      any = true;
    }
    n += any;
  }
  h->n_wave = n;
}

static bool is_seen_later(const Host *h, int64_t p, int64_t wave) {
  for (int64_t q = 0; q < h->positions; q++)
    if (h->wave_of[q] > wave && host_sees(h, q, p)) return true;
  return false;
}

static void free_slots(Host *h, int64_t wave) {
  for (int64_t p = 0; p < h->positions; p++)
    if (h->wave_of[p] <= wave && !is_seen_later(h, p, wave)) h->slot[p] = -1;
}

/* The highest free slot, so that slots and positions have nothing to do with each other. */
static void take_slots(Host *h, int64_t wave) {
  for (int64_t p = 0; p < h->positions; p++) {
    if (h->wave_of[p] != wave) continue;
    bool used[MOST_POSITIONS] = {false};
    for (int64_t q = 0; q < h->positions; q++)
      if (h->slot[q] >= 0) used[h->slot[q]] = true;
    int64_t slot = h->positions - 1;
    while (used[slot]) slot--;
    h->slot[p] = slot;
  }
}

static bool run_func(Host *h, const Func *f, int64_t R, Tensor *out) {
  Arena *a = h->store->arena;
  Tensor *update = ARENA_ARRAY(a, Tensor, f->n_update + 1);
  h->store->R = R;
  if (!func_verify(f, FORM_PRIMITIVE, "incremental", &err)) return false;
  if (!interp_run(f, h->B, R, store_leaf, h->store, a, out, update, &err)) return false;
  for (int i = 0; i < f->n_update; i++) store_put(h->store, f->update[i].target->attrs.leaf.name, update[i]);
  return true;
}

static void put_ints(Host *h, const char *name, int rank, const int64_t *dim, const double *from) {
  Tensor t = tensor_new(h->store->arena, DTYPE_I32, rank, dim);
  memcpy(t.data, from, sizeof *from * (size_t)tensor_elems(&t));
  store_put(h->store, name, t);
}

static int64_t argmax(const double *x, int64_t n) {
  int64_t best = 0;
  for (int64_t i = 1; i < n; i++)
    if (x[i] > x[best]) best = i;
  return best;
}

static bool run_wave(Host *h, int64_t wave) {
  double rows[4 * MOST_POSITIONS], row_slot[2 * MOST_POSITIONS], slots[MOST_POSITIONS];
  int64_t R = 0;
  take_slots(h, wave);
  for (int64_t p = 0; p < h->positions; p++) {
    slots[p] = (double)h->slot[p];
    for (int64_t b = 0; h->wave_of[p] == wave && b < h->B; b++, R++) {
      rows[2 * R] = (double)b;
      rows[2 * R + 1] = (double)p;
      row_slot[R] = (double)(h->slot[p] * h->B + b);
    }
  }
  put_ints(h, "rows", 2, (int64_t[]){R, 2}, rows);
  put_ints(h, "row_slot", 1, (int64_t[]){R}, row_slot);
  put_ints(h, "slots", 1, (int64_t[]){h->positions}, slots);
  put_ints(h, arena_printf(h->store->arena, "%s.tokens", h->d->name), 2, (int64_t[]){h->B, h->positions}, h->tokens);
  Tensor out;
  if (!run_func(h, h->d->step, R, &out)) return false;
  for (int64_t r = 0; r < R; r++) {
    int64_t at = (int64_t)rows[2 * r] * h->positions + (int64_t)rows[2 * r + 1];
    const double *logits = out.data + r * h->vocab;
    memcpy(h->logits + at * h->vocab, logits, sizeof *logits * (size_t)h->vocab);
    if (!h->given || !h->given[(int64_t)rows[2 * r + 1]]) h->tokens[at] = (double)argmax(logits, h->vocab);
  }
  free_slots(h, wave);
  return true;
}

static bool host_decode(Host *h, const Schedule *s) {
  for (int64_t p = 0; p < h->positions; p++) h->slot[p] = -1;
  for (int64_t i = 0; i < h->B * h->positions; i++)
    h->tokens[i] = h->given && h->given[i % h->positions]
                       ? (double)(philox(3, (uint32_t)i, 0, 0).word[0] % (uint32_t)h->vocab)
                       : 0;
  host_order(h, s);
  if (!run_func(h, h->d->prologue, 0, NULL)) return false;
  for (int64_t w = 0; w < h->n_wave; w++)
    if (!run_wave(h, w)) return false;
  return true;
}

/* The largest difference to the teacher-forced logits on the tokens that came out, over the largest logit. */
static double host_error(Host *h) {
  Tensor out;
  int64_t *g = (int64_t *)h->d->grid;
  put_ints(h, "tokens", 4, (int64_t[]){h->B, g[0], g[1], g[2]}, h->tokens);
  if (!interp_run(h->f, h->B, 1, store_leaf, h->store, h->store->arena, &out, NULL, &err)) return INFINITY;
  double most = 0, worst = 0;
  for (int64_t i = 0; i < tensor_elems(&out); i++) {
    most = fmax(most, fabs(out.data[i]));
    worst = out.data[i] - h->logits[i] == 0 ? worst : fmax(worst, fabs(out.data[i] - h->logits[i]));
    if (isnan(h->logits[i]) || isnan(out.data[i])) worst = INFINITY;
  }
  return most > 0 ? worst / most : INFINITY;
}

/* Decodes in one order and compares; the tokens go to out [B][P]. */
static bool check_one(const char *what, const Func *f, const Decode *d, const Schedule *s, const uint8_t *given,
                      double *out) {
  Store store;
  store_init(&store, 2);
  store.int_high = 2;
  Host h = {.d = d,
            .f = f,
            .store = &store,
            .positions = d->grid[0] * d->grid[1] * d->grid[2],
            .B = 2,
            .vocab = d->vocab,
            .given = given};
  h.tokens = ARENA_ARRAY(store.arena, double, h.B * h.positions);
  h.logits = ARENA_ARRAY(store.arena, double, h.B * h.positions * h.vocab);
  bool ok = host_decode(&h, s);
  EXPECT(ok, "%s: %s", what, err.text);
  EXPECT(!ok || h.n_wave <= s->steps + 1, "%s: %lld waves", what, (long long)h.n_wave);
  double e = ok ? host_error(&h) : INFINITY;
  EXPECT(e <= 1e-10, "%s: logits differ by %g %s", what, e, err.text);
  memcpy(out, h.tokens, sizeof *out * (size_t)(h.B * h.positions));
  store_done(&store);
  return ok;
}

/* Both orders, without and with given tokens. */
static void check_decode(const char *what, const Func *f, const Decode *d) {
  int64_t n = d->grid[0] * d->grid[1] * d->grid[2];
  uint8_t given[MOST_POSITIONS];
  double raster[2 * MOST_POSITIONS], wave[2 * MOST_POSITIONS];
  for (int64_t i = 0; i < n; i++) given[i] = philox(9, (uint32_t)i, (uint32_t)n, STREAM_TEST).word[0] % 3 > 0;
  for (int forced = 0; forced < 2; forced++) {
    const uint8_t *mask = forced ? given : NULL;
    if (!check_one(what, f, d, &d->raster, mask, raster) || !check_one(what, f, d, &d->wavefront, mask, wave)) return;
    EXPECT(memcmp(raster, wave, sizeof *wave * (size_t)(2 * n)) == 0, "%s: the orders give different tokens", what);
  }
}

static Decode *derive(Graph *g, const Toy *m, Func **out_f) {
  *out_f = toy_build(g, m);
  return *out_f ? pass_incremental(*out_f, "tokens", "logits") : NULL;
}

static void check_toy(const char *what, const Toy *m) {
  err = (Error){0};
  Graph *g = graph_new(&err);
  Func *f;
  Decode *d = derive(g, m, &f);
  EXPECT(d, "%s: %s", what, err.text);
  if (d) check_decode(what, f, d);
  graph_free(g);
}

/* ---- models ---- */

static Toy plain(int64_t s, int64_t h, int64_t w) {
  Toy m = {.grid = {s, h, w}, .dim = 4, .heads = 2, .vocab = 5, .layers = 1, .has_position = true};
  m.self = (AttendAttrs){.kind = ATTEND_NEARBY, .lo = {-1, -1, -1}, .hi = {1, 1, 1}, .causal = CAUSAL_RASTER};
  m.cross = (AttendAttrs){.kind = ATTEND_FULL};
  return m;
}

static void add_stencil(Toy *m, int64_t s, int64_t h, int64_t w) {
  int i = m->n_stencil++;
  m->stencil[i].delta[0] = s, m->stencil[i].delta[1] = h, m->stencil[i].delta[2] = w;
}

static void set_stencil(Toy *m, int which) {
  m->n_stencil = 0;
  if (which == 0) add_stencil(m, 0, 0, -1), add_stencil(m, 0, -1, 0), add_stencil(m, -1, 0, 0);
  if (which == 1) add_stencil(m, 0, 0, -1);
  if (which == 2) m->stencil[m->n_stencil++].raster = true;
  if (which == 3) add_stencil(m, 0, 0, -1), add_stencil(m, 0, -1, 1);
}

static void set_extent(AttendAttrs *a, int which) {
  static const int64_t lo[][3] = {
      {-1, -1, -1}, {-1, -2, -1}, {-EXTENT_INF, -EXTENT_INF, -EXTENT_INF}, {-2, -1, 0}, {0, -EXTENT_INF, -3}};
  static const int64_t hi[][3] = {{1, 1, 1}, {0, 1, 0}, {EXTENT_INF, EXTENT_INF, EXTENT_INF}, {-1, 1, 2}, {0, 0, 1}};
  for (int x = 0; x < 3; x++) a->lo[x] = lo[which][x], a->hi[x] = hi[which][x], a->block[x] = 1 + (which + x) % 3;
}

TEST("every kind of self-attention, extent, edge rule and causal rule") {
  for (int kind = 0; kind < 4; kind++)
    for (int extent = 0; extent < 5; extent++)
      for (int edge = 0; edge < 2; edge++)
        for (int causal = 1; causal < 3; causal++) {
          if ((kind == ATTEND_FULL && extent) || ((kind == ATTEND_FULL || kind == ATTEND_BLOCK) && edge)) continue;
          Toy m = plain(2, 3, 3);
          set_stencil(&m, (kind + extent) % 4);
          set_extent(&m.self, extent);
          m.self.kind = (AttendKind)kind;
          m.self.edge = (EdgeRule)edge;
          m.self.causal = (Causal)causal;
          m.layers = 1 + extent % 2;
          char what[100];
          snprintf(what, sizeof what, "kind %d, extent %d, edge %d, causal %d", kind, extent, edge, causal);
          check_toy(what, &m);
        }
}

TEST("every stencil, embedding, feed-forward shape and position table") {
  for (int i = 0; i < 48; i++) {
    Toy m = plain(2, 2, 3);
    set_stencil(&m, i % 4);
    m.concat_stencil = i / 4 % 2;
    m.shape = (ToyShape)(i % 3);
    m.is_tied = i / 8 % 2;
    m.position_on_batch = i / 2 % 2;
    m.has_position = i % 5 != 0;
    m.has_style = i / 3 % 2;
    m.position_inside = i / 4 % 3 == 0;
    m.shift_twice = i % 7 < 2;
    char what[100];
    snprintf(what, sizeof what, "model %d", i);
    check_toy(what, &m);
  }
}

TEST("cross-attention to encoders on other grids, text among them") {
  static const int64_t cond[][3] = {{1, 1, 7}, {5, 1, 1}, {1, 4, 4}, {3, 2, 1}, {2, 3, 3}};
  for (int i = 0; i < 30; i++) {
    Toy m = plain(2, 3, 3);
    set_stencil(&m, 0);
    memcpy(m.cond_grid, cond[i % 5], sizeof m.cond_grid);
    m.cross.kind = (AttendKind)(i % 4);
    m.cross.edge = (EdgeRule)(i / 2 % 2);
    set_extent(&m.cross, i % 3);
    m.layers = 1 + i % 2;
    m.position_on_batch = i / 5 % 2;
    char what[100];
    snprintf(what, sizeof what, "condition %d", i);
    check_toy(what, &m);
  }
}

TEST("layers that see different things, and conditions on the grid itself") {
  for (int i = 0; i < 16; i++) {
    Toy m = plain(2, 3, 3);
    set_stencil(&m, i % 4);
    set_extent(&m.self, i % 2);
    m.odd = (AttendAttrs){.kind = (AttendKind)(i / 2 % 4), .causal = i / 4 % 2 ? CAUSAL_PAST : CAUSAL_RASTER};
    set_extent(&m.odd, 4 - i % 5);
    m.odd.heads = m.layers = 2;
    m.add_cond = i / 8;
    if (m.add_cond) memcpy(m.cond_grid, m.grid, sizeof m.grid);
    char what[100];
    snprintf(what, sizeof what, "odd layers %d", i);
    check_toy(what, &m);
  }
}

TEST("grids with axes of length 1") {
  static const int64_t grid[][3] = {{1, 1, 1}, {1, 1, 6}, {5, 1, 1}, {1, 4, 1}, {1, 3, 3}, {3, 1, 3}, {3, 3, 1}};
  for (int i = 0; i < 56; i++) {
    Toy m = plain(grid[i % 7][0], grid[i % 7][1], grid[i % 7][2]);
    set_stencil(&m, i / 7 % 4);
    m.position_on_batch = i / 28;
    m.shape = (ToyShape)(i % 3);
    m.self.kind = (AttendKind)(i / 7 % 4);
    if (m.self.kind == ATTEND_BLOCK) m.self.block[0] = m.self.block[1] = m.self.block[2] = 2;
    if (i % 2) m.cond_grid[0] = 3, m.cond_grid[1] = m.cond_grid[2] = 1;
    char what[100];
    snprintf(what, sizeof what, "grid %d, stencil %d", i % 7, i / 7 % 4);
    check_toy(what, &m);
  }
}

TEST("a graph may hold several decodes") {
  err = (Error){0};
  Graph *g = graph_new(&err);
  Toy image = plain(1, 3, 3), video = plain(2, 2, 2);
  Func *f[2];
  image.has_position = video.has_position = false;
  set_stencil(&image, 0);
  set_stencil(&video, 2);
  Decode *d[2] = {derive(g, &image, &f[0])};
  f[1] = toy_build(g, &video);
  REQUIRE(f[1], "%s", err.text);
  f[1]->name = "video";
  d[1] = pass_incremental(f[1], "tokens", "logits");
  REQUIRE(d[0] && d[1], "%s", err.text);
  check_decode("image", f[0], d[0]);
  check_decode("video", f[1], d[1]);
  graph_free(g);
}

/* ---- what cannot be decoded ---- */

static const char prefix[] =
    "func @decode(%tokens: i32[B,2,2,2], %cond: f32[B,2,2,2,4]) {\n"
    "  %1 = param() {name=\"e\", init=ones, scale=0} : f32[5,4]\n"
    "  %2 = gather(%1, %tokens) : f32[B,2,2,2,4]\n"
    "  %3 = param() {name=\"start\", init=ones, scale=0} : f32[4]\n"
    "  %4 = shift(%2, %3) {delta=[0,0,-1], raster=0} : f32[B,2,2,2,4]\n";
static const char suffix[] =
    "  %99 = matmul(%98, %1) {trans_a=0, trans_b=1} : f32[B,2,2,2,5]\n"
    "  return logits = %99\n}\n";
#define GRID "f32[B,2,2,2,4]\n"
#define SEES(causal)                                                                                        \
  "{heads=1, kind=full, lo=[-inf,-inf,-inf], hi=[inf,inf,inf], block=[0,0,0], edge=clip, causal=" causal \
  ", query_grid=[2,2,2], key_grid=[2,2,2]} : " GRID

typedef struct Refusal {
  const char *body, *op, *why;
} Refusal;

static const Refusal refusals[] = {
    {"  %5 = sum(%4) {axes=[2]} : f32[B,2,2,4]\n  %6 = reshape(%5) : f32[B,2,1,2,4]\n  %98 = broadcast(%6) : " GRID,
     "sum", "mixes positions"},
    {"  %5 = mean(%4) {axes=[1]} : f32[B,2,2,4]\n  %6 = reshape(%5) : f32[B,1,2,2,4]\n  %98 = broadcast(%6) : " GRID,
     "sum", "mixes positions"},
    {"  %5 = max(%4) {axes=[0]} : f32[2,2,2,4]\n  %98 = broadcast(%5) : " GRID, "max", "mixes positions"},
    {"  %98 = transpose(%4) {perm=[0,2,1,3,4]} : " GRID, "transpose", "mixes positions"},
    {"  %98 = reverse(%4) {axes=[3]} : " GRID, "reverse", "mixes positions"},
    {"  %5 = slice(%4) {start=[0,0,0,0,0], stop=[B,1,2,2,4], step=[1,1,1,1,1]} : f32[B,1,2,2,4]\n"
     "  %98 = concat(%5, %5) {axis=1} : " GRID,
     "slice", "mixes positions"},
    {"  %5 = reshape(%4) : f32[B,2,2,4,2]\n  %6 = exp(%5) : f32[B,2,2,4,2]\n  %7 = transpose(%6) {perm=[0,1,2,4,3]} "
     ": "
     "f32[B,2,2,2,4]\n  %98 = exp(%7) : " GRID,
     "reshape", "mixes positions"},
    {"  %98 = attend(%4, %4, %4) " SEES("none"), "attend", "causal"},
    {"  %98 = attend(%4, %4, %cond) " SEES("raster"), "attend", "must all depend"},
    {"  %5 = lt(%tokens, %tokens) : u8[B,2,2,2]\n  %98 = attend(%4, %4, %4, %5) " SEES("raster"), "attend",
     "its mask depends on the tokens"},
    {"  %5 = fill() {value=1} : u8[B,2,2,2]\n  %98 = attend(%4, %4, %4, %5) " SEES("raster"), "", ""},
    {"  %5 = attend(%4, %4, %4) " SEES("raster") "  %98 = shift(%5, %3) {delta=[0,0,-1], raster=0} : " GRID, "attend",
     "another ring"},
    {"  %5 = shift(%2, %3) {delta=[0,0,0], raster=1} : " GRID
     "  %98 = shift(%5, %3) {delta=[0,0,-1], raster=0} : " GRID,
     "shift", "combined"},
    {"  %5 = reshape(%4) : f32[2B,2,2,4]\n  %6 = reshape(%3) : f32[1,1,4,1]\n  %7 = broadcast(%6) : f32[1,1,4,4]\n"
     "  %8 = conv2d(%5, %7) {stride=1} : f32[2B,2,2,4]\n  %98 = reshape(%8) : " GRID,
     "conv2d", "convolution"},
    {"  %5 = reshape(%4) : f32[8B,4]\n  %6 = matmul(%5, %5) {trans_a=1, trans_b=0} : f32[4,4]\n"
     "  %98 = matmul(%4, %6) : " GRID,
     "matmul", "depends on the generated tokens"},
    {"  %5 = reshape(%4) : f32[8B,4]\n  %6 = iota() {axis=0} : i32[B]\n  %7 = gather(%5, %6) : f32[B,4]\n"
     "  %8 = reshape(%7) : f32[B,1,1,1,4]\n  %98 = broadcast(%8) : " GRID,
     "gather", "depends on the generated tokens"},
    {"  %98 = exp(%2) : " GRID, "decode", "own token"},
    {"  %98 = shift(%4, %3) {delta=[0,0,1], raster=0} : " GRID, "decode", "own token"},
    {"  %98 = shift(%2, %3) {delta=[0,0,1], raster=0} : " GRID, "decode", "raster order"},
    {"  %98 = shift(%2, %3) {delta=[0,-1,1], raster=0} : " GRID, "", ""},
    {"  %98 = exp(%cond) : " GRID, "decode", "do not depend"},
};

TEST("what mixes positions is refused, with the op and its line") {
  for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
    const Refusal *r = &refusals[i];
    char text[2000];
    Func **f;
    int n;
    err = (Error){0};
    Graph *g = graph_new(&err);
    snprintf(text, sizeof text, "%s%s%s", prefix, r->body, suffix);
    bool parsed = ir_parse(g, "model.ir", text, &f, &n);
    EXPECT(parsed, "refusal %zu: %s", i, err.text);
    Decode *d = parsed ? pass_incremental(f[0], "tokens", "logits") : NULL;
    EXPECT(!parsed || (d == NULL) == (*r->why != 0), "refusal %zu: %s", i, err.text);
    if (!d) EXPECT_HAS(err.text, r->op);
    if (!d) EXPECT_HAS(err.text, r->why);
    if (!d) EXPECT_HAS(err.text, "model.ir:");
    graph_free(g);
  }
}

TEST("names and types of tokens and logits are checked") {
  static const char *const tries[][3] = {
      {"token", "logits", "no input"}, {"tokens", "logit", "no output"}, {"cond", "logits", "i32[batch"}};
  for (int i = 0; i < 3; i++) {
    char text[2000];
    Func **f;
    int n;
    err = (Error){0};
    Graph *g = graph_new(&err);
    snprintf(text, sizeof text, "%s  %%98 = exp(%%4) : " GRID "%s", prefix, suffix);
    REQUIRE(ir_parse(g, "model.ir", text, &f, &n), "%s", err.text);
    EXPECT(!pass_incremental(f[0], tries[i][0], tries[i][1]));
    EXPECT_HAS(err.text, tries[i][2]);
    graph_free(g);
  }
}

TEST_MAIN()
