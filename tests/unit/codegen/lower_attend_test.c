/* Parameters of attention: whichever legal ones a group gets, its kernel computes the same bits, those of a CPU and of
 * a GPU too, and close to what the reference interpreter computes in f64.  Kernels run in their interpreter. */
#include "tests/unit/codegen/lower_check.h"

#define EVERYWHERE "lo=[-inf,-inf,-inf], hi=[inf,inf,inf], block=[0,0,0], edge=clip"
#define GRIDS(q, k) ", query_grid=[" q "], key_grid=[" k "]}"

/* What is seen, and the two grids. */
static const char *const sight[][3] = {
    {"kind=full, " EVERYWHERE ", causal=raster" GRIDS("2,2,3", "2,2,3"), "2,2,3", "2,2,3"},
    {"kind=full, " EVERYWHERE ", causal=none" GRIDS("1,3,6", "4,1,1"), "1,3,6", "4,1,1"},
    {"kind=nearby, lo=[-1,-1,-1], hi=[1,1,1], block=[0,0,0], edge=clip, causal=raster" GRIDS("2,2,3", "2,2,3"),
     "2,2,3", "2,2,3"},
    {"kind=axis, " EVERYWHERE ", causal=past" GRIDS("2,3,3", "2,3,3"), "2,3,3", "2,3,3"},
    {"kind=nearby, lo=[0,-1,-2], hi=[1,1,0], block=[0,0,0], edge=shift, causal=none" GRIDS("2,3,3", "3,2,4"), "2,3,3",
     "3,2,4"},
    {"kind=block, lo=[-inf,-inf,-inf], hi=[inf,inf,inf], block=[1,2,2], edge=clip, causal=none"
     GRIDS("2,2,5", "2,2,5"), "2,2,5", "2,2,5"},
    {"kind=axis, " EVERYWHERE ", causal=none" GRIDS("2,2,3", "4,2,6"), "2,2,3", "4,2,6"},
    {"kind=axis, " EVERYWHERE ", causal=raster" GRIDS("2,3,3", "2,3,3"), "2,3,3", "2,3,3"},
    {"kind=axis, lo=[-1,1,-1], hi=[1,2,2], block=[0,0,0], edge=clip, causal=none" GRIDS("2,3,3", "3,3,2"), "2,3,3",
     "3,3,2"},
};

/* Q and K stand for the grids, A for what is seen; heads of 5, values of 3. */
static const char *const source[] = {
    "func @f(%q: f32[B,Q,10], %k: f32[B,K,10], %v: f32[B,K,6]) {\n"
    "  %1 = attend(%q, %k, %v) A : f32[B,Q,6]\n  %2 = attend_lse(%q, %k) A : f32[B,Q,2]\n"
    "  return y = %1, lse = %2\n}\n",
    "func @f(%q: f32[B,Q,10], %k: f32[B,K,10], %v: f32[B,K,6], %dy: f32[B,Q,6], "
    "%lse: f32[B,Q,2], %delta: f32[B,Q,2]) {\n"
    "  %1 = attend_grad_q(%q, %k, %v, %dy, %lse, %delta) A : f32[B,Q,10]\n  return dq = %1\n}\n",
    "func @f(%q: f32[B,Q,10], %k: f32[B,K,10], %v: f32[B,K,6], %dy: f32[B,Q,6], "
    "%lse: f32[B,Q,2], %delta: f32[B,Q,2]) {\n"
    "  %1 = attend_grad_k(%q, %k, %v, %dy, %lse, %delta) A : f32[B,K,10]\n"
    "  %2 = attend_grad_v(%q, %k, %dy, %lse) A : f32[B,K,6]\n  return dk = %1, dv = %2\n}\n",
    /* under a mask, both heads sharing the keys */
    "func @f(%q: f32[B,Q,10], %k: f32[B,K,5], %v: f32[B,K,3], %m: u8[B,K]) {\n"
    "  %1 = attend(%q, %k, %v, %m) A : f32[B,Q,6]\n  %2 = attend_lse(%q, %k, %m) A : f32[B,Q,2]\n"
    "  return y = %1, lse = %2\n}\n",
    "func @f(%q: f32[B,Q,10], %k: f32[B,K,5], %v: f32[B,K,3], %dy: f32[B,Q,6], "
    "%lse: f32[B,Q,2], %delta: f32[B,Q,2], %m: u8[B,K]) {\n"
    "  %1 = attend_grad_q(%q, %k, %v, %dy, %lse, %delta, %m) A : f32[B,Q,10]\n  return dq = %1\n}\n",
    "func @f(%q: f32[B,Q,10], %k: f32[B,K,5], %v: f32[B,K,3], %dy: f32[B,Q,6], "
    "%lse: f32[B,Q,2], %delta: f32[B,Q,2], %m: u8[B,K]) {\n"
    "  %1 = attend_grad_k(%q, %k, %v, %dy, %lse, %delta, %m) A : f32[B,K,10]\n"
    "  %2 = attend_grad_v(%q, %k, %dy, %lse, %m) A : f32[B,K,6]\n  return dk = %1, dv = %2\n}\n",
};

enum { TEXT_BYTES = 2000 };

static void write_case(char *out, const char *body, const char *const *s) {
  char *end = out + TEXT_BYTES;
  for (const char *p = body; *p; p++) {
    if (*p == 'Q' || *p == 'K') out += snprintf(out, (size_t)(end - out), "%s", s[*p == 'Q' ? 1 : 2]);
    else if (*p == 'A') out += snprintf(out, (size_t)(end - out), "{heads=2, kv_heads=%d, %s", strstr(body, "%m") ? 1 : 2, s[0]);
    else out += snprintf(out, (size_t)(end - out), "%c", *p);
  }
}

/* One group, its reference bits, and how many kernels have been compared. */
typedef struct Sweep {
  Check c;
  void *args[64], *want[64];
  bool has_want;
  int n_run, n_nest, turn;
} Sweep;

/* The kernel of these parameters gives the bits of those before it. */
static void run_params(Sweep *s, const Target *t, const Params *p) {
  Check *c = &s->c;
  Params back;
  Buffer text = {0};
  params_print(p, &text);
  EXPECT(params_parse(text.data, &back, &c->err) && params_equal(p, &back), "%s: %s", text.data, c->err.text);
  Kernel *k = lower_group(c->graph->arena, &c->group, t, p, "k", &c->err);
  bool ok = k && kir_interpret(k, s->has_want ? s->args : s->want, c->B, c->R, &c->err);
  EXPECT(ok, "%s: %s\n%s", text.data, c->err.text, c->text);
  if (ok && s->has_want) EXPECT(check_same_bits(c, s->args, s->want), "%s: other bits\n%s", text.data, c->text);
  s->has_want |= ok;
  s->n_run += ok;
  buffer_done(&text);
}

/* Each field with each of its values that is legal beside the others of `base`; of long lists, which cases take in
 * turn, every fourth. */
static void sweep_fields(Sweep *s, const Target *t, const Params *base) {
  for (int field = 1; field < params_fields(base->kind); field++) {
    const int *value;
    int n = params_field_values(base->kind, field, &value);
    for (int i = 0; i < n; i++) {
      Params p = *base;
      Error err = {0};
      if (!test_is_long && n > 8 && (i + s->turn) % 4) continue;
      p.value[field] = value[i];
      if (params_is_legal(&s->c.group, t, &p, &err)) run_params(s, t, &p);
      else EXPECT_HAS(err.text, "parameters of attend");
    }
  }
}

static void sweep_nests(Sweep *s, const Target *t) {
  Check *c = &s->c;
  Params p, standard;
  bool ok = params_default(c->graph->arena, &c->group, t, &standard, &c->err) &&
            params_is_legal(&c->group, t, &standard, &c->err);
  EXPECT(ok, "the default: %s\n%s", c->err.text, c->text);
  if (!ok) return;
  run_params(s, t, &standard);
  sweep_fields(s, t, &standard);
  int last = standard.value[0];   /* the nest is the first field */
  for (ok = params_first(&c->group, t, &p); ok; ok = params_next(&c->group, t, &p)) {
    if (p.value[0] == standard.value[0] || p.value[0] == last) continue;
    run_params(s, t, &p);
    sweep_fields(s, t, &p);
    last = p.value[0];
    s->n_nest++;
    if (last >= (target_is_gpu(t) ? 1 : 2)) break;
  }
}

static void sweep_body(void *ctx) {
  Sweep *s = ctx;
  Check *c = &s->c;
  check_group(c);
  check_args(c, s->args);
  check_args(c, s->want);
  const Target target[] = {target_of(ISA_AVX512), target_cuda(80), target_cuda(75)};
  for (int i = 0; i < COUNT_OF(target) - !test_is_long; i++) sweep_nests(s, &target[i]);
  Tensor *want = ARENA_ARRAY(c->graph->arena, Tensor, c->func->n_out);
  c->ran = interp_run(c->func, c->B, c->R, check_leaf, c, c->graph->arena, want, NULL, &c->err);
  if (c->ran) check_results(c, "kernel interpreter", want, s->want);
}

static void run_case(Sweep *s, const char *text, int turn) {
  Check *c = &s->c;
  *s = (Sweep){.c = {.text = text, .family = FAMILY_ATTEND, .B = test_is_long ? 2 : 1, .R = 1}, .turn = turn};
  c->graph = graph_new(&c->err);
  bool ok = arena_protect(c->graph->arena, check_parse, c, &c->err) && c->func &&
            arena_protect(c->graph->arena, sweep_body, s, &c->err) && c->ran;
  EXPECT(ok, "%s\n%s", c->err.text, c->text);
  check_done(c);
}

WIDE_TEST("every legal value of attention's parameters, in every nest, gives the same bits") {
  int n_run = 0, n_nest = 0;
  for (int i = 0; i < COUNT_OF(sight); i++)
    for (int j = 0; j < COUNT_OF(source); j++) {
      if (!test_is_long && (i + j) % 5) continue;
      char text[TEXT_BYTES];
      static Sweep s;
      write_case(text, source[j], sight[i]);
      run_case(&s, text, i);
      n_run += s.n_run;
      n_nest += s.n_nest;
    }
  EXPECT(n_run > 250 && n_nest >= 10, "%d kernels, %d nests beside the default", n_run, n_nest);
}

typedef struct Refused {
  Check c;
  const char *params;
  Target target;
  const char *because;
} Refused;

static void refused_body(void *ctx) {
  Refused *r = ctx;
  Params p;
  Error err = {0};
  check_group(&r->c);
  r->c.ran = params_parse(r->params, &p, &r->c.err);
  if (!r->c.ran) return;
  EXPECT(!params_is_legal(&r->c.group, &r->target, &p, &err), "%s is legal", r->params);
  EXPECT_HAS(err.text, r->because);
}

static void refuse(const char *text, Target target, const char *params, const char *because) {
  Refused r = {.c = {.text = text, .family = FAMILY_ATTEND, .B = 2, .R = 1}, .params = params, .target = target,
               .because = because};
  r.c.graph = graph_new(&r.c.err);
  bool ok = arena_protect(r.c.graph->arena, check_parse, &r.c, &r.c.err) && r.c.func &&
            arena_protect(r.c.graph->arena, refused_body, &r, &r.c.err) && r.c.ran;
  EXPECT(ok, "%s\n%s", r.c.err.text, text);
  check_done(&r.c);
}

TEST("parameters that an attention cannot take are refused with the field and the reason") {
  static const char rows[] =
      "func @f(%q: f32[R,10], %rows: i32[R,2], %k: f32[B,2,2,3,10], %v: f32[B,2,2,3,10]) {\n"
      "  %1 = attend_rows(%q, %rows, %k, %v) {heads=2, kind=full, " EVERYWHERE ", causal=raster" GRIDS("2,2,3", "2,2,3")
      " : f32[R,10]\n  return y = %1\n}\n";
  Target cpu = target_of(ISA_AVX2), gpu = target_cuda(75);
  char text[TEXT_BYTES];
  write_case(text, source[0], sight[2]);
  refuse(rows, cpu, "attend nest=1 patch_s=1 patch_h=1 patch_w=1 rows=1 vectors=1 chunk=0 sums=0 unroll=1",
         "nest=1: rows of a table are taken by nest 0");
  refuse(rows, cpu, "attend nest=0 patch_s=1 patch_h=1 patch_w=8 rows=1 vectors=1 chunk=0 sums=0 unroll=1",
         "patch_w=8: it must be 1");
  refuse(text, cpu, "attend nest=2 patch_s=1 patch_h=1 patch_w=16 rows=1 vectors=1 chunk=64 sums=16 unroll=1",
         "nest=2: queries see keys of their own");
  refuse(text, cpu, "attend nest=1 patch_s=1 patch_h=1 patch_w=4 rows=1 vectors=1 chunk=0 sums=0 unroll=1",
         "patch_w=4: the grid has 3");
  refuse(text, gpu, "attend_gpu nest=1 own=0 block_m=8 tile_m=2 stream=0 tile_k=1 stages=2 resident=0",
         "stages=2: sm_75 has no asynchronous copies");
  refuse(text, gpu, "attend_gpu nest=1 own=0 block_m=8 tile_m=4 stream=0 tile_k=1 stages=1 resident=0",
         "tile_m=4: only 3 are neighbours");
}

TEST_MAIN()
