/* A batch of nobody: results that do not shrink with it are sums over nothing, fills and what other operands hold. */
#include "tests/num/empty_batch.h"
#include "tests/num/rig.h"
#include "tests/test.h"

enum { SAMPLES = 3 };

static Rig rig;
static const RigData data = {5, NULL, NULL};

static void build(Rig *r) {
  Func **f;
  int n;
  if (!ir_parse(r->model.graph, "functions", empty_batch_functions, &f, &n)) return;
  for (int i = 0; i < n; i++) rig_add(r, f[i]);
}

/* Like the interpreter with B samples, where what is in memory is from more of them. */
static void check(NuwaSession *s, const Plan *p, int f, Isa isa, int64_t B) {
  enum { MOST_OUT = 8 };
  Tensor out[MOST_OUT], update[1];
  Arena *a = arena_new();
  Error err = {0};
  Func *meaning = compile_meaning(&rig.model, rig.func[f]->name, DTYPE_F32, &err);
  rig_run(s, p, f, &data, SAMPLES, 1);
  rig_run(s, p, f, &data, B, 1);
  bool ok = meaning && rig_interp(meaning, &data, B, 1, a, out, update, &err) && nuwa_check(s, &err);
  EXPECT(ok, "%s with B = %d: %s", rig.func[f]->name, (int)B, err.text);
  for (int i = 0; ok && i < rig.func[f]->n_out; i++) {
    const PlanTensor *t = &p->function[f].out[i];
    double e = rig_error(t, nuwa_output(s, f, t->name), &out[i]);
    EXPECT(e <= (t->dtype == DTYPE_BF16 ? 1e-2 : 1e-5), "%s: %s of %s with B = %d is off by %g", isa_name(isa), t->name,
           rig.func[f]->name, (int)B, e);
  }
  arena_free(a);
}

TEST("what is left without samples: sums of nothing are 0, products too, fills and other operands stay") {
  REQUIRE(rig_open(&rig), "memory");
  REQUIRE(rig_build(&rig, build) && rig.model.n_func == EMPTY_BATCH_FUNCTIONS, "%s", rig.err.text);
  Isa isa[ISA_COUNT];
  for (int k = 0, n = rig_isas(isa); k < n; k++) {
    Plan *p = rig_compile(&rig, isa[k], true);
    REQUIRE(p, "%s", rig.err.text);
    NuwaSession *s = nuwa_session_open(p, &(NuwaOptions){.threads = 1, .samples = SAMPLES, .rows = 1}, &rig.err);
    REQUIRE(s, "%s", rig.err.text);
    for (int f = 0; f < rig.model.n_func; f++) {
      EXPECT(p->function[f].least_samples == 0, "%s needs samples: %s", p->function[f].name, p->function[f].least_why);
      for (int64_t B = 0; B <= SAMPLES; B += B ? 2 : 1) check(s, p, f, isa[k], B);
    }
    nuwa_session_close(s);
    plan_free(p);
  }
  rig_close(&rig);
}

TEST_MAIN()
