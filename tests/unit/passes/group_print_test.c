/* A group's canonical text: the same for the same group in any model, another for another group. */
#include "ir/ir.h"
#include "passes/passes.h"
#include "tests/test.h"

typedef struct Printing {
  Graph *graph;
  const char *source;
  int group;
  Buffer text;
} Printing;

static void print_body(void *ctx) {
  Printing *p = ctx;
  Func **f;
  int n;
  if (!ir_parse(p->graph, "case", p->source, &f, &n)) return;
  Program *program = pass_fuse(f[n - 1]);
  if (program && p->group < program->n_group) group_print(p->graph->arena, &program->group[p->group], &p->text);
}

/* The text of a group of the last function of a source. */
static char *text_of_group(const char *source, int group) {
  Error err = {0};
  Printing p = {.graph = graph_new(&err), .source = source, .group = group};
  arena_protect(p.graph->arena, print_body, &p, &err);
  graph_free(p.graph);
  EXPECT(p.text.data, "%s\n%s", err.text, source);
  return p.text.data;
}

#define SOFTMAX                                                                                                       \
  "  %1 = max(%x) {axes=[1]} : f32[B]\n  %2 = reshape(%1) : f32[B,1]\n  %3 = broadcast(%2) : f32[B,33]\n"             \
  "  %4 = sub(%x, %3) : f32[B,33]\n  %5 = exp(%4) : f32[B,33]\n  %6 = sum(%5) {axes=[1]} : f32[B]\n"                  \
  "  return y = %5, z = %6\n}\n"

TEST("a group prints its family, what it reads, computes and gives") {
  char *text = text_of_group("func @f(%x: f32[4B,20], %b: f32[20]) {\n  %1 = broadcast(%b) : f32[4B,20]\n"
                             "  %2 = add(%x, %1) : f32[4B,20]\n  return y = %2\n}\n", 0);
  EXPECT_TEXT(text, "group map\n"
                    "  %0 = read : f32[4B,20]\n"
                    "  %1 = read : f32[20]\n"
                    "  %2 = broadcast : f32[4B,20] of %1\n"
                    "  %3 = add : f32[4B,20] of %0, %2\n"
                    "  results %3\n");
  mem_free(text);
}

TEST("names, and what was made before, do not matter") {
  char *one = text_of_group("func @f(%x: f32[B,33]) {\n" SOFTMAX, 0);
  char *other = text_of_group("func @g(%u: f32[B,33]) {\n  %1 = exp(%u) : f32[B,33]\n  return y = %1\n}\n"
                              "func @f(%b: f32[B,33]) {\n  %1 = max(%b) {axes=[1]} : f32[B]\n"
                              "  %2 = reshape(%1) : f32[B,1]\n  %3 = broadcast(%2) : f32[B,33]\n"
                              "  %4 = sub(%b, %3) : f32[B,33]\n  %5 = exp(%4) : f32[B,33]\n"
                              "  %6 = sum(%5) {axes=[1]} : f32[B]\n  return a = %6, b = %5\n}\n", 0);
  EXPECT_TEXT(other, one);
  mem_free(one);
  mem_free(other);
}

TEST("a param, an input and a result of another group are read alike") {
  char *input = text_of_group("func @f(%x: f32[8,4], %w: f32[8,4]) {\n  %1 = mul(%x, %w) : f32[8,4]\n  return y = %1\n}\n", 0);
  char *param = text_of_group("func @f(%x: f32[8,4]) {\n  %1 = param() {name=\"any\", init=normal, scale=0.5} : f32[8,4]\n"
                              "  %2 = mul(%x, %1) : f32[8,4]\n  return y = %2\n}\n", 0);
  EXPECT_TEXT(param, input);
  mem_free(input);
  mem_free(param);
}

/* Each differs from the first in one thing. */
static const char *const different[] = {
    "func @f(%x: f32[8,4], %y: f32[8,4]) {\n  %1 = sub(%x, %y) : f32[8,4]\n  return y = %1\n}\n",
    "func @f(%x: f32[8,4], %y: f32[8,4]) {\n  %1 = mul(%x, %y) : f32[8,4]\n  return y = %1\n}\n",
    "func @f(%x: f32[8,5], %y: f32[8,5]) {\n  %1 = sub(%x, %y) : f32[8,5]\n  return y = %1\n}\n",
    "func @f(%x: f32[B,4], %y: f32[B,4]) {\n  %1 = sub(%x, %y) : f32[B,4]\n  return y = %1\n}\n",
    "func @f(%x: f32[R,4], %y: f32[R,4]) {\n  %1 = sub(%x, %y) : f32[R,4]\n  return y = %1\n}\n",
    "func @f(%x: bf16[8,4], %y: bf16[8,4]) {\n  %1 = sub(%x, %y) : bf16[8,4]\n  return y = %1\n}\n",
    "func @f(%x: f32[8,4]) {\n  %1 = sub(%x, %x) : f32[8,4]\n  return y = %1\n}\n",
    "func @f(%x: f32[8,4], %y: f32[8,4]) {\n  %1 = sub(%x, %y) : f32[8,4]\n  %2 = sub(%1, %y) : f32[8,4]\n"
    "  return y = %2\n}\n",
    "func @f(%x: f32[8,4], %y: f32[8,4]) {\n  %1 = sub(%x, %y) : f32[8,4]\n  %2 = sub(%1, %y) : f32[8,4]\n"
    "  return y = %2, z = %1\n}\n",
    "func @f(%x: f32[8,4]) {\n  %1 = fill() {value=1} : f32[8,4]\n  %2 = sub(%x, %1) : f32[8,4]\n  return y = %2\n}\n",
    "func @f(%x: f32[8,4]) {\n  %1 = fill() {value=2} : f32[8,4]\n  %2 = sub(%x, %1) : f32[8,4]\n  return y = %2\n}\n",
    "func @f(%x: f32[8,8]) {\n  %1 = sum(%x) {axes=[0]} : f32[8]\n  return y = %1\n}\n",
    "func @f(%x: f32[8,8]) {\n  %1 = sum(%x) {axes=[1]} : f32[8]\n  return y = %1\n}\n",
};

TEST("groups that differ have different texts") {
  char *text[COUNT_OF(different)];
  for (int i = 0; i < COUNT_OF(different); i++) text[i] = text_of_group(different[i], 0);
  for (int i = 0; i < COUNT_OF(different); i++)
    for (int j = 0; j < i; j++) EXPECT(strcmp(text[i], text[j]) != 0, "%s is\n%s", different[i], text[i]);
  for (int i = 0; i < COUNT_OF(different); i++) mem_free(text[i]);
}

TEST_MAIN()
