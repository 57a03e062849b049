/* The text of a kernel is the key under which its code is kept: whatever differs must be seen in it. */
#include "tests/test.h"
#include "tests/unit/codegen/random_kernel.h"

enum { MAX_PLACES = 4000 };

/* A number in a kernel that shapes its code, and another value for it. */
typedef struct Place {
  const char *what;
  void *at;
  size_t bytes;
  int64_t other;
} Place;

typedef struct Places {
  Place place[MAX_PLACES];
  int n;
} Places;

static void add_place(Places *p, const char *what, void *at, size_t bytes, int64_t other) {
  if (p->n < MAX_PLACES) p->place[p->n++] = (Place){what, at, bytes, other};
}
#define ADD_PLACE(p, what, field, other) add_place(p, what, &(field), sizeof(field), (int64_t)(other))

static void add_float(Places *p, KInst *i) {
  uint32_t bits;
  memcpy(&bits, &i->fimm, sizeof bits);
  ADD_PLACE(p, "f32 constant, last bit", i->fimm, bits ^ 1);
  ADD_PLACE(p, "f32 constant, sign", i->fimm, bits ^ 0x80000000u);
}

static bool has_imm(const KInst *i) {
  switch (i->op) {
  case KOP_SIZE: case KOP_PART: case KOP_WAIT: case KOP_LOAD: case KOP_LOAD4: case KOP_STORE: case KOP_STORE4:
  case KOP_TILE: case KOP_COPY: case KOP_MMA: case KOP_FOR: return true;
  default: return i->op == KOP_CONST && i->type != K_F32;
  }
}

/* A constant is printed where it is used, so those of operands count. */
static void inst_places(Places *p, KInst *i) {
  for (int j = 0; j < i->n_in; j++)
    if (i->in[j] && i->in[j]->op == KOP_CONST) {
      KInst *c = i->in[j];
      if (c->type == K_F32) add_float(p, c);
      else ADD_PLACE(p, "constant", c->imm, c->type == K_BOOL ? !c->imm : c->imm + 1);
    }
  if (has_imm(i)) ADD_PLACE(p, kop_info[i->op].text, i->imm, i->op == KOP_FOR && i->imm == 0 ? 1 : i->imm ? i->imm - 1 : 1);
  if (i->op == KOP_COPY) {
    ADD_PLACE(p, "copy from", i->from, i->from ? i->from - 1 : 1);
    ADD_PLACE(p, "copy count", i->count, 2 * i->count);
  }
  if (i->op == KOP_TILE) {
    ADD_PLACE(p, "stride", i->stride, i->stride + 8);
    ADD_PLACE(p, "layout", i->layout, !i->layout);
  }
  if (i->op == KOP_ADD || i->op == KOP_MIN || i->op == KOP_LT || i->op == KOP_DIV)
    ADD_PLACE(p, "op", i->op, i->op + 1);
  if (i->op == KOP_VAR || i->op == KOP_LOAD) ADD_PLACE(p, "varying", i->varying, !i->varying);
}

static void block_places(Places *p, KBlock *b, const int *uses) {
  for (KInst *i = b->first; i; i = i->next) {
    if (i->op == KOP_CONST || uses[i->id] < 0) continue;
    inst_places(p, i);
    if (i->body) block_places(p, i->body, uses);
    if (i->other) block_places(p, i->other, uses);
  }
}

static void head_places(Places *p, Kernel *k) {
  for (int b = 0; b < k->n_buf; b++) {
    KBuf *x = &k->buf[b];
    ADD_PLACE(p, "dtype", x->dtype, x->dtype == DTYPE_F32 ? DTYPE_I32 : DTYPE_F32);
    ADD_PLACE(p, "space", x->space, x->space == SPACE_SCRATCH ? SPACE_GLOBAL : SPACE_SCRATCH);
    if (x->space == SPACE_GLOBAL) ADD_PLACE(p, "written", x->written, !x->written);
    if (x->space == SPACE_GLOBAL) ADD_PLACE(p, "restrict", x->restrict_, !x->restrict_);
    if (x->space == SPACE_SCRATCH) ADD_PLACE(p, "elements", x->elems, x->elems + 16);
    if (x->space == SPACE_SCRATCH) ADD_PLACE(p, "over", x->over, !x->over);
    if (x->space == SPACE_TABLE) add_place(p, "table", (char *)(uintptr_t)x->data + 4, 1, 0x77);
  }
  for (int f = 0; f < k->n_factor; f++) {
    ADD_PLACE(p, "factor", k->factor[f].size.c, k->factor[f].size.c + 1);
    ADD_PLACE(p, "factor of B", k->factor[f].size.b, k->factor[f].size.b + 1);
    ADD_PLACE(p, "factor of R", k->factor[f].size.r, k->factor[f].size.r + 1);
    ADD_PLACE(p, "tile of a factor", k->factor[f].tile, k->factor[f].tile + 1);
  }
  ADD_PLACE(p, "grain", k->grain, k->grain + 1);
  ADD_PLACE(p, "groups", k->groups, k->groups + 1);
  ADD_PLACE(p, "resident", k->resident, k->resident + 1);
}

static char *text_of(const Kernel *k) {
  Buffer b = {0};
  kir_print(k, &b);
  return b.data;
}

/* How many texts stay as they are when one number differs. */
static int unseen(Kernel *k) {
  static Places p;
  int *uses = kir_count_uses(k), n = 0;
  p.n = 0;
  head_places(&p, k);
  block_places(&p, k->body, uses);
  mem_free(uses);
  EXPECT(p.n < MAX_PLACES, "%d places", p.n);
  char *before = text_of(k);
  for (int i = 0; i < p.n; i++) {
    char saved[8];
    memcpy(saved, p.place[i].at, p.place[i].bytes);
    memcpy(p.place[i].at, &p.place[i].other, p.place[i].bytes);
    char *after = text_of(k);
    bool same = strcmp(before, after) == 0;
    EXPECT(!same, "%s to %lld is not seen", p.place[i].what, (long long)p.place[i].other);
    n += same;
    mem_free(after);
    memcpy(p.place[i].at, saved, p.place[i].bytes);
  }
  mem_free(before);
  return n;
}

TEST("kernels that differ in one number differ in their text") {
  for (int seed = 0; seed < 20; seed++) {
    Arena *a = arena_new();
    EXPECT(unseen(random_kernel(a, seed)) == 0, "seed %d", seed);
    arena_free(a);
  }
  Arena *a = arena_new();
  EXPECT(unseen(tiles_kernel(a, LAYOUT_XK, LAYOUT_KX)) == 0, "matrix tiles");
  EXPECT(unseen(halves_kernel(a, 4)) == 0, "blocks");
  arena_free(a);
}

static char *loop_text(int unroll) {
  Arena *a = arena_new();
  Kernel *k = kir_new(a, "k");
  int y = kir_arg(k, "y", DTYPE_F32, true);
  KInst *i = kir_for(k, kir_i64(k, 0), kir_i64(k, 9), 1, unroll);
  kir_store(k, y, i, NULL, kir_f32(k, 1), NULL);
  kir_end(k);
  char *text = text_of(k);
  arena_free(a);
  return text;
}

TEST("a loop that is not to be unrolled has another text than one without a hint") {
  char *none = loop_text(0), *one = loop_text(1);
  EXPECT(strcmp(none, one) != 0);
  EXPECT_HAS(one, "for %0 = 0 to 9 step 1 unroll 1 {");
  EXPECT_HAS(none, "for %0 = 0 to 9 step 1 {");
  mem_free(none);
  mem_free(one);
}

static char *named_text(int from) {
  Arena *a = arena_new();
  Kernel *k = kir_new(a, "k");
  int y = kir_arg(k, "y", DTYPE_F32, true), s[2];
  for (int i = 0; i < 2; i++) s[i] = kir_scratch(k, "s", DTYPE_F32, 16);
  for (int i = 0; i < 2; i++) kir_store(k, s[i], kir_i64(k, 0), NULL, kir_f32(k, (float)i), NULL);
  kir_store(k, y, kir_i64(k, 0), NULL, kir_load(k, s[from], kir_i64(k, 0), NULL, NULL), NULL);
  char *text = text_of(k);
  arena_free(a);
  return text;
}

TEST("buffers of the same name are told apart") {
  char *first = named_text(0), *second = named_text(1);
  EXPECT(strcmp(first, second) != 0, "%s", first);
  EXPECT_HAS(first, "load s#1[0]");
  mem_free(first);
  mem_free(second);
}

TEST_MAIN()
