/* A process that compiles for hours (a tuner) must not grow: everything of a compile goes with it. */
#include <malloc.h>
#include <stdlib.h>

#include "tests/num/rig.h"
#include "tests/test.h"

enum { DIM = 24, HEADS = 2, ROWS = 5, COLUMNS = 7, CLASSES = 11 };

static Rig rig;

/* A product, an attention, a loss, and the gradient of its weights. */
static void build(Rig *r) {
  Graph *g = r->model.graph;
  const Dim grid[] = {{0, 1, 0}, dim_const(1), dim_const(ROWS), dim_const(COLUMNS), dim_const(DIM)};
  const Dim square[] = {dim_const(DIM), dim_const(DIM)};
  Node *x = rig_input(r, "x", DTYPE_F32, 5, grid), *w = rig_input(r, "w", DTYPE_F32, 2, square);
  Node *y = graph_matmul(g, x, w, false, false);
  Attrs a = {.attend = {.heads = HEADS, .kind = ATTEND_NEARBY, .query_grid = {1, ROWS, COLUMNS}, .key_grid = {1, ROWS, COLUMNS},
                        .lo = {-1, -1, -1}, .hi = {1, 1, 1}}};
  Node *attended = graph_op(g, OP_ATTEND, (Node *[]){y, y, y}, 3, &a, NULL), *dw[1];
  Node *loss = graph_sum(g, graph_op(g, OP_MUL, (Node *[]){attended, attended}, 2, NULL, NULL), 31);
  if (loss && grad_build(g, loss, &w, 1, dw))
    rig_add(r, rig_function(r, "loss", (Port[]){{"dw", dw[0]}, {"loss", loss}}, 2));
}

/* There where a sanitizer has its own malloc, of which mallinfo2 sees nothing. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static int64_t bytes_in_use(void) {
  struct mallinfo2 m = mallinfo2();
  return __sanitizer_get_current_allocated_bytes ? (int64_t)__sanitizer_get_current_allocated_bytes()
                                                 : (int64_t)(m.uordblks + m.hblkhd);
}

/* One block that the heap holds, one that is mapped. */
TEST("what is allocated is seen, and no longer when it is freed") {
  enum { SLACK = 1 << 10 };
  static const int64_t sizes[] = {100 << 10, 1 << 20};
  for (int i = 0; i < COUNT_OF(sizes); i++) {
    int64_t before = bytes_in_use();
    void *volatile block = malloc((size_t)sizes[i]);
    int64_t grown = bytes_in_use() - before;
    EXPECT(grown >= sizes[i] && grown < 2 * sizes[i], "%lld bytes are seen as %lld", (long long)sizes[i], (long long)grown);
    free(block);
    int64_t left = bytes_in_use() - before;
    EXPECT(left >= 0 && left < SLACK, "%lld bytes are seen as kept", (long long)left);
  }
}

static void compile(int times) {
  for (int i = 0; i < times; i++) {
    Plan *p = rig_compile(&rig, isa_best(), true);
    REQUIRE(p, "%s", rig.err.text);
    plan_free(p);
  }
}

static void check_growth(int times) {
  enum { WARM = 2, SLACK = 64 << 10 };
  REQUIRE(rig_open(&rig), "memory");
  REQUIRE(rig_build(&rig, build) && rig.model.n_func == 1, "%s", rig.err.text);
  compile(WARM);
  int nodes = rig.model.graph->n_nodes;
  int64_t before = bytes_in_use();
  compile(times);
  int64_t grown = bytes_in_use() - before;
  printf("%d compiles: %lld bytes more in use\n", times, (long long)grown);
  EXPECT(grown < SLACK, "%lld bytes are kept", (long long)grown);
  EXPECT(rig.model.graph->n_nodes == nodes, "the model's graph has %d nodes instead of %d", rig.model.graph->n_nodes, nodes);
  rig_close(&rig);
}

TEST("compiling again and again keeps nothing, and leaves the model's graph as it was") { check_growth(4); }

LONG_TEST("nor do hundreds of compiles") { check_growth(400); }

TEST_MAIN()
