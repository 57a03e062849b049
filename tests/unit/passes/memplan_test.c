/* Memory plans: executed on memory that remembers whose value each 64 bytes hold.  A plan is right when every
 * kernel finds its operands, writes only over what is dead (or what it may overwrite), and all outputs and updates
 * end in their place. */
#include "tests/test.h"
#include "tests/unit/passes/pass_random.h"
#include "tests/unit/passes/toy_model.h"

/* Memory: the arena and one area for each leaf, input and output; owner[granule] is a node id, or -1. */
typedef struct Sim {
  const Program *p;
  const MemPlan *m;
  int64_t B, R;
  int *arena;
  int64_t n_arena;
  int leaf[100], input[20], output[20];
  Error err;
} Sim;

static int64_t part_base(const Sim *s, ArenaPart part) {
  int64_t base = 0;
  if (part > PART_CONST) base += s->m->part_bytes[PART_CONST];
  if (part > PART_B) base += s->m->part_bytes[PART_B] * s->B;
  return base / 64;
}

static int64_t units(const Sim *s, ArenaPart part) { return part == PART_B ? s->B : part == PART_R ? s->R : 1; }

/* The granules of a home: *out_n of them at the result. */
static int *where(Sim *s, const Node *home, int64_t *out_n) {
  const Storage *at = &s->m->of[home->id];
  *out_n = 1;
  switch (at->kind) {
    case STORAGE_INPUT: return &s->input[at->index];
    case STORAGE_OUTPUT: return &s->output[at->index];
    case STORAGE_PARAM: case STORAGE_STATE: return &s->leaf[at->index];
    case STORAGE_ARENA: break;
    default: error_set(&s->err, ERROR_FORMAT, "%s has no storage", op_info[home->op].text); return NULL;
  }
  int64_t k = units(s, at->part), first = part_base(s, at->part) + at->unit_offset / 64 * k;
  Dim elems;
  type_elems(&home->type, &elems);
  int64_t needs = (dim_value(elems, s->B, s->R) * (int64_t)dtype_bytes(home->type.dtype) + 63) / 64;
  *out_n = at->unit_bytes / 64 * k;
  if (at->unit_offset % 64 || at->unit_bytes % 64 || needs > *out_n || first + *out_n > s->n_arena)
    error_set(&s->err, ERROR_FORMAT, "%s: storage too small or not in the arena", op_info[home->op].text);
  return s->arena + first;
}

static bool holds(Sim *s, const Node *home, const char *who) {
  int64_t n;
  int *owner = where(s, home, &n);
  for (int64_t i = 0; i < n && owner && s->err.code == ERROR_NONE; i++) {
    if (owner[i] != home->id)
      error_set(&s->err, ERROR_FORMAT, "%s: %%%d (%s) was overwritten by %%%d", who, home->id, op_info[home->op].text,
                owner[i]);
  }
  return s->err.code == ERROR_NONE;
}

static bool overlap(Sim *s, const Node *x, const Node *y) {
  int64_t nx, ny;
  int *px = where(s, x, &nx), *py = where(s, y, &ny);
  return px && py && px < py + ny && py < px + nx;
}

static bool run_group(Sim *s, const Group *g) {
  for (int i = 0; i < g->n_in; i++) {
    if (!holds(s, g->in[i], "operand")) return false;
    for (int k = 0; k < g->n_out; k++) {
      bool ring = g->out[k]->op == OP_RING_WRITE && program_home(g->out[k]->in[0]) == g->in[i];
      if (overlap(s, g->in[i], g->out[k]) && !ring && !group_overwrites(g, g->in[i], g->out[k]))
        return error_set(&s->err, ERROR_FORMAT, "%s is written over an operand", op_info[g->out[k]->op].text);
    }
  }
  for (int k = 0; k < g->n_out; k++) {
    int64_t n;
    int *owner = where(s, g->out[k], &n);
    for (int j = 0; j < k; j++) {
      if (overlap(s, g->out[j], g->out[k])) return error_set(&s->err, ERROR_FORMAT, "two results overlap");
    }
    for (int64_t i = 0; i < n && owner; i++) owner[i] = g->out[k]->id;
  }
  return s->err.code == ERROR_NONE;
}

static bool run_copies(Sim *s) {
  for (int i = 0; i < s->m->n_copy; i++) {
    const CopyStep *c = &s->m->copy[i];
    if (!holds(s, c->from, "copied value")) return false;
    if (!c->to) s->output[c->output] = c->from->id;
    else s->leaf[s->m->of[c->to->id].index] = c->from->id;
  }
  return true;
}

static bool check_ends(Sim *s) {
  const Func *f = s->p->func;
  for (int i = 0; i < f->n_out; i++) {
    if (s->output[i] != program_home(f->out[i].node)->id)
      return error_set(&s->err, ERROR_FORMAT, "output %s does not hold its value", f->out[i].name);
  }
  for (int i = 0; i < f->n_update; i++) {
    if (s->leaf[s->m->of[f->update[i].target->id].index] != program_home(f->update[i].value)->id)
      return error_set(&s->err, ERROR_FORMAT, "%s does not hold its new value", f->update[i].target->attrs.leaf.name);
  }
  return true;
}

static bool plan_is_sound(const Program *p, const MemPlan *m, int64_t B, int64_t R, Error *err) {
  Sim s = {.p = p, .m = m, .B = B, .R = R};
  s.n_arena = (m->part_bytes[0] + m->part_bytes[1] * B + m->part_bytes[2] * R) / 64;
  s.arena = mem_alloc((size_t)(s.n_arena + 1) * sizeof(int));
  for (int64_t i = 0; i < s.n_arena; i++) s.arena[i] = -1;
  for (int i = 0; i < 20; i++) s.output[i] = -1;
  for (int i = 0; i < m->n_leaf; i++) s.leaf[i] = m->leaf[i]->id;
  for (int i = 0; i < p->func->n_in; i++) s.input[i] = p->func->in[i].node->id;
  bool ok = true;
  for (int k = 0; ok && k < p->n_group; k++) ok = run_group(&s, &p->group[k]);
  ok = ok && run_copies(&s) && check_ends(&s);
  mem_free(s.arena);
  *err = s.err;
  return ok;
}

TEST("plans of random functions are sound for several numbers of samples") {
  int64_t in_place = 0;
  for (uint64_t seed = 1; seed <= 300; seed++) {
    PassCase c = {0};
    Func *f = random_func(&c, seed, 20 + (int)(seed % 6) * 25);
    REQUIRE(f, "%s", c.err.text);
    Program *p = pass_fuse(seed % 2 ? f : pass_fold(f));
    REQUIRE(p, "%s", c.err.text);
    MemPlan *m = pass_memplan(p);
    if (!m) {
      EXPECT_HAS(c.err.text, "exchange");
      case_done(&c);
      continue;
    }
    in_place += m->in_place;
    for (int64_t B = 1; B <= 9; B += 4) {
      Error err = {0};
      EXPECT(plan_is_sound(p, m, B, 1, &err), "seed %llu: %s", (unsigned long long)seed, err.text);
    }
    case_done(&c);
  }
  EXPECT(in_place > 50, "only %lld values in place", (long long)in_place);
}

static bool text_is_sound(const char *source, int64_t *out_in_place) {
  PassCase c = {0};
  Error err = {0};
  Func *f = case_parse(&c, "t", source);
  Program *p = f ? pass_fuse(f) : NULL;
  MemPlan *m = p ? pass_memplan(p) : NULL;
  bool ok =
      m && plan_is_sound(p, m, 3, 5, &err) && plan_is_sound(p, m, 1, 1, &err) && plan_is_sound(p, m, 7, 2, &err);
  if (!ok) printf("%s%s\n", c.err.text, err.text);
  if (m) *out_in_place = m->in_place;
  case_done(&c);
  return ok;
}

TEST("samples, rows and constants are planned apart") {
  int64_t n;
  const char *text =
      "func @f(%x: f32[B,40], %y: f32[R,40], %w: f32[40,40]) {\n"
      " %1 = matmul(%x, %w) {trans_a=0, trans_b=0} : f32[B,40]\n"
      " %2 = matmul(%y, %w) {trans_a=0, trans_b=0} : f32[R,40]\n"
      " %3 = matmul(%w, %w) {trans_a=0, trans_b=0} : f32[40,40]\n"
      " %4 = matmul(%1, %3) {trans_a=0, trans_b=0} : f32[B,40]\n"
      " %5 = matmul(%2, %3) {trans_a=0, trans_b=0} : f32[R,40]\n"
      " return a = %4, b = %5\n}\n";
  EXPECT(text_is_sound(text, &n));
}

TEST("a size with a constant and samples fits for every number of samples") {
  int64_t n;
  const char *text =
      "func @f(%x: f32[4B+3,40], %z: f32[4B-3,40], %w: f32[40,40]) {\n"
      " %1 = matmul(%x, %w) {trans_a=0, trans_b=0} : f32[4B+3,40]\n"
      " %2 = matmul(%z, %w) {trans_a=0, trans_b=0} : f32[4B-3,40]\n"
      " %4 = matmul(%1, %w) {trans_a=0, trans_b=0} : f32[4B+3,40]\n"
      " %5 = matmul(%2, %w) {trans_a=0, trans_b=0} : f32[4B-3,40]\n"
      " return a = %4, b = %5\n}\n";
  EXPECT(text_is_sound(text, &n));
}

TEST("Adam updates its param and states where they stand") {
  int64_t n = 0;
  const char *text =
      "func @f(%g: f32[64]) {\n"
      " %p = param() {name=\"p\", init=normal, scale=0.1} : f32[64]\n"
      " %m = state() {name=\"m\"} : f32[64]\n %v = state() {name=\"v\"} : f32[64]\n"
      " %m2 = add(%m, %g) : f32[64]\n %2 = mul(%g, %g) : f32[64]\n %v2 = add(%v, %2) : f32[64]\n"
      " %3 = div(%m2, %v2) : f32[64]\n %p2 = sub(%p, %3) : f32[64]\n"
      " update %p = %p2\n update %m = %m2\n update %v = %v2\n return\n}\n";
  EXPECT(text_is_sound(text, &n));
  EXPECT(n == 3, "%lld in place", (long long)n);
}

TEST("a value that updates two states and is an output is computed once and copied") {
  int64_t n;
  const char *text =
      "func @f(%g: f32[64]) {\n %m = state() {name=\"m\"} : f32[64]\n"
      " %v = state() {name=\"v\"} : f32[64]\n %1 = add(%m, %g) : f32[64]\n"
      " update %v = %1\n update %m = %1\n return y = %1, old = %m\n}\n";
  EXPECT(text_is_sound(text, &n));
}

TEST("a step writes its ring through a reshape, where the ring stands") {
  int64_t n = 0;
  const char *text =
      "func @f(%q: f32[R,8], %rows: i32[R,2], %at: i32[R], %slot: i32[16]) {\n"
      " %k = state() {name=\"k\"} : f32[10,B,8]\n"
      " %v = state() {name=\"v\"} : f32[10,B,8]\n"
      " %1 = reshape(%k) : f32[10B,8]\n"
      " %2 = neg(%q) : f32[R,8]\n"
      " %3 = ring_write(%1, %at, %2) : f32[10B,8]\n"
      " %4 = reshape(%3) : f32[10,B,8]\n"
      " %5 = reshape(%v) : f32[10B,8]\n"
      " %6 = ring_write(%5, %at, %q) : f32[10B,8]\n"
      " %7 = reshape(%6) : f32[10,B,8]\n"
      " %y = attend_rows(%q, %rows, %4, %7, %slot) {heads=2, kind=nearby, lo=[0,-1,-1], hi=[0,1,1], block=[0,0,0], "
      "edge=clip, causal=raster, query_grid=[1,4,4], key_grid=[1,4,4]} : f32[R,8]\n"
      " update %k = %4\n update %v = %7\n return y = %y\n}\n";
  EXPECT(text_is_sound(text, &n));
  EXPECT(n == 2, "%lld in place", (long long)n);
}

/* Through the whole pipeline; the plan for B samples and 7 rows. */
static void expect_planned(Graph *g, Func *f, const char *what) {
  Func *ready = f ? pass_expand(f) : NULL;
  ready = ready ? pass_fold(ready) : NULL;
  ready = ready ? pass_dce(ready) : NULL;
  Program *p = ready ? pass_fuse(ready) : NULL;
  MemPlan *m = p ? pass_memplan(p) : NULL;
  Error err = {0};
  REQUIRE(m, "%s: %s", what, g->err->text);
  EXPECT(case_program_sound(p, &err), "%s: %s", what, err.text);
  EXPECT(plan_is_sound(p, m, 1, 7, &err) && plan_is_sound(p, m, 3, 7, &err), "%s: %s", what, err.text);
  EXPECT(m->n_copy <= f->n_out + f->n_update);
}

/* f with the loss and its gradients for all params. */
static Func *with_gradients(Graph *g, Func *f) {
  int n, n_wrt = 0;
  Node **nodes = func_nodes(f, &n), **wrt = ARENA_ARRAY(g->arena, Node *, n), **d = ARENA_ARRAY(g->arena, Node *, n);
  Node *loss = f->out[0].node;
  loss = graph_sum(g, graph_binary(g, OP_MUL, loss, loss), (1u << loss->type.rank) - 1);
  for (int i = 0; i < n; i++) {
    if (nodes[i]->op == OP_PARAM) wrt[n_wrt++] = nodes[i];
  }
  if (!grad_build(g, loss, wrt, n_wrt, d)) return NULL;
  Port *out = ARENA_ARRAY(g->arena, Port, n_wrt);
  for (int i = 0; i < n_wrt && i < 15; i++) out[i] = (Port){wrt[i]->attrs.leaf.name, d[i]};
  return func_new(g, "train", f->in, f->n_in, out, n_wrt < 15 ? n_wrt : 15);
}

TEST("forward, gradients, prologue and step of a small model are planned soundly") {
  Error err = {0};
  Graph *g = graph_new(&err);
  AttendAttrs nearby = {.kind = ATTEND_NEARBY, .lo = {-1, -1, -1}, .hi = {1, 1, 1}, .causal = CAUSAL_RASTER};
  AttendAttrs cross = {.kind = ATTEND_FULL, .lo = {-EXTENT_INF, -EXTENT_INF, -EXTENT_INF},
                       .hi = {EXTENT_INF, EXTENT_INF, EXTENT_INF}};
  Toy toy = {.grid = {2, 3, 4}, .cond_grid = {5, 1, 1}, .dim = 8, .heads = 2, .vocab = 11,
             .layers = 1, .self = nearby, .cross = cross, .stencil = {{{0, 0, -1}, false}}, .n_stencil = 1,
             .shape = TOY_GRID};
  Func *f = toy_build(g, &toy);
  REQUIRE(f, "%s", err.text);
  Decode *d = pass_incremental(f, "tokens", "logits");
  REQUIRE(d, "%s", err.text);
  expect_planned(g, f, "forward");
  expect_planned(g, with_gradients(g, f), "gradients");
  expect_planned(g, d->prologue, "prologue");
  expect_planned(g, d->step, "step");
  graph_free(g);
}

static void expect_refused(const char *text, const char *why) {
  PassCase c = {0};
  Func *f = case_parse(&c, "t", text);
  REQUIRE(f, "%s", c.err.text);
  EXPECT(!pass_memplan(pass_fuse(f)));
  EXPECT_HAS(c.err.text, why);
  case_done(&c);
}

TEST("states that exchange their contents are refused") {
  expect_refused("func @f() {\n %a = state() {name=\"a\"} : f32[4]\n %b = state() {name=\"b\"} : f32[4]\n"
                 " update %a = %b\n update %b = %a\n return\n}\n", "exchange the contents");
}

TEST("a ring whose old contents are still wanted is refused") {
  expect_refused(
      "func @f(%i: i32[R], %x: f32[R,8]) {\n %a = state() {name=\"a\"} : f32[20,8]\n"
      " %1 = ring_write(%a, %i, %x) : f32[20,8]\n update %a = %1\n return y = %1, old = %a\n}\n",
      "old contents");
  expect_refused(
      "func @f(%i: i32[R], %x: f32[R,8]) {\n %a = state() {name=\"a\"} : f32[20,8]\n"
      " %1 = ring_write(%a, %i, %x) : f32[20,8]\n return y = %1\n}\n",
      "no state that the function updates");
}

TEST_MAIN()
