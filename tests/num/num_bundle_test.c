/* Bundles as files: what is truncated, foreign, damaged or inconsistent is refused with the reason, and nothing a file
 * says makes reading or opening crash. */
#include <string.h>

#include "runtime/base/philox.h"
#include "runtime/base/sha256.h"
#include "tests/num/rig.h"
#include "tests/test.h"

enum { HEADER = 56, DIGEST_AT = 24 };

static Buffer bundle;
static Rig rig;

static void build(Rig *r) {
  Dim x[] = {{0, 1, 0}, {33, 0, 0}};
  Type w = type_make(DTYPE_F32, 2, (Dim[]){dim_const(33), dim_const(20)});
  Graph *g = r->model.graph;
  Node *in[] = {rig_input(r, "x", DTYPE_F32, 2, x), graph_op(g, OP_PARAM, NULL, 0, &(Attrs){.leaf.name = "w"}, &w)};
  Node *y = graph_op(g, OP_MATMUL, in, 2, NULL, NULL);
  rig_add(r, rig_function(r, "f", (Port[]){{"sum", graph_sum(g, y, 2)}, {"y", y}}, 2));
}

static bool make_bundle(void) {
  if (bundle.data) return true;
  CompileOptions o = {.isa = isa_best(), .threads = 1};
  return rig_open(&rig) && rig_build(&rig, build) && compile_model(&rig.model, &o, &bundle, &rig.err);
}

static void expect_refused(const void *bytes, size_t n, const char *part) {
  Error err = {0};
  Plan *p = plan_read(bytes, n, "x.nuwa", &err);
  EXPECT(!p, "a bad bundle of %zu bytes was taken", n);
  if (!p) {
    EXPECT_HAS(err.text, "x.nuwa");
    EXPECT_HAS(err.text, part);
  }
  plan_free(p);
}

/* With the right digest again. */
static void sign(uint8_t *bytes, size_t n) { sha256(bytes + HEADER, n - HEADER, bytes + DIGEST_AT); }

TEST("a whole bundle is taken") {
  REQUIRE(make_bundle(), "%s", rig.err.text);
  Error err = {0};
  Plan *p = plan_read(bundle.data, bundle.len, "x.nuwa", &err);
  REQUIRE(p, "%s", err.text);
  EXPECT(plan_find_function(p, "f") >= 0 && p->n_param == 1);
  plan_free(p);
}

TEST("the CPU answers what any device is asked, and a launch that is no kernel is refused for it") {
  REQUIRE(make_bundle(), "%s", rig.err.text);
  Error err = {0};
  Plan *p = plan_read(bundle.data, bundle.len, "x.nuwa", &err);
  NuwaOptions o = {.threads = 1, .samples = 1, .rows = 1};
  NuwaSession *s = p ? nuwa_session_open(p, &o, &err) : NULL;
  REQUIRE(s, "%s", err.text);
  EXPECT(strcmp(nuwa_device_name(s), "cpu") == 0 && !nuwa_kernel_is_compiled(s, 0));
  nuwa_session_close(s);
  PlanLaunch *l = &p->function[plan_find_function(p, "f")].launch[0];
  EXPECT(l->kind == LAUNCH_KERNEL && l->kernel >= 0);
  l->kind = LAUNCH_PRODUCT;
  EXPECT(!plan_check(p, &err));
  EXPECT_HAS(err.text, "launch of product 0, there are 0");
  plan_free(p);
}

TEST("a truncated bundle is refused, wherever it ends") {
  REQUIRE(make_bundle(), "%s", rig.err.text);
  for (size_t n = 0; n < bundle.len; n += n < 2 * HEADER ? 1 : 97) expect_refused(bundle.data, n, "");
}

TEST("a foreign file is refused") {
  expect_refused("PK\003\004 this is a zip file, or begins like one, and is long enough to hold a header", 80, "");
}

TEST("a bundle with one flipped bit is refused, wherever it is") {
  REQUIRE(make_bundle(), "%s", rig.err.text);
  uint8_t *copy = mem_alloc(bundle.len);
  for (size_t at = 0; at < bundle.len; at += at < 2 * HEADER ? 1 : 61) {
    memcpy(copy, bundle.data, bundle.len);
    copy[at] ^= (uint8_t)(1u << (at % 8));
    expect_refused(copy, bundle.len, "");
  }
  mem_free(copy);
}

static int64_t bytes_of(const PlanTensor *t, int n) {
  int64_t total = 0, bytes = 0;
  for (int i = 0; i < n; i++) total += plan_tensor_bytes(&t[i], 1, 1, &bytes) ? bytes : 0;
  return total;
}

/* A session that would be honestly huge is not opened here. */
static bool is_small(const Plan *p) {
  int64_t most = 1 << 24, total = 0;
  for (int i = 0; i < p->n_param; i++) total += bytes_of(&p->param[i].type, 1);
  for (int i = 0; i < p->n_kernel; i++) total += p->kernel[i].scratch_bytes > most ? most : p->kernel[i].scratch_bytes;
  for (int i = 0; i < p->n_function; i++) {
    total += bytes_of(p->function[i].in, p->function[i].n_in) + bytes_of(p->function[i].out, p->function[i].n_out);
    for (int k = 0; k < 3; k++) total += p->function[i].part_bytes[k] > most ? most : p->function[i].part_bytes[k];
  }
  return total < most;
}

TEST("a signed bundle that says impossible things is refused or harmless to open") {
  REQUIRE(make_bundle(), "%s", rig.err.text);
  static const int64_t wild[] = {-1, 0, 1, 7, 1 << 20, INT64_MAX, INT64_MIN, (int64_t)1 << 40};
  uint8_t *copy = mem_alloc(bundle.len);
  int refused = 0, tries = 0;
  for (uint32_t i = 0; i < 2000; i++, tries++) {
    memcpy(copy, bundle.data, bundle.len);
    Philox p = philox(1, i, 0, 0);
    size_t at = HEADER + p.word[0] % (bundle.len - HEADER - 8);
    memcpy(copy + at, &wild[p.word[1] % (uint32_t)COUNT_OF(wild)], 8);
    sign(copy, bundle.len);
    Error err = {0};
    Plan *plan = plan_read(copy, bundle.len, "x.nuwa", &err);
    if (!plan) {
      refused += err.text[0] != 0;
      continue;
    }
    NuwaOptions o = {.threads = 1, .samples = 1, .rows = 1};
    NuwaSession *s = is_small(plan) ? nuwa_session_open(plan, &o, &err) : NULL;
    refused += !s;
    nuwa_session_close(s);
    plan_free(plan);
  }
  printf("%d of %d refused\n", refused, tries);
  EXPECT(refused > 0);
  mem_free(copy);
  buffer_done(&bundle);
  rig_close(&rig);
}

TEST_MAIN()
