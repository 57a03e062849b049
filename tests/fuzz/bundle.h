/* Bundles with damage.  What the digest catches is refused; what is damaged and signed again reaches the checks
 * behind it: such a bundle is refused, or it is consistent, and then it writes, reads and opens like any other.  It
 * is not run: native code is trusted. */
#ifndef NUWA_FUZZ_BUNDLE_H
#define NUWA_FUZZ_BUNDLE_H

#include "runtime/base/sha256.h"
#include "runtime/base/safetensors.h"
#include "runtime/include/nuwa.h"
#include "runtime/plan.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model.h"
#include "tests/test.h"

enum { HEADER = 56, LENGTH_AT = 16, DIGEST_AT = 24 };

static inline void sign(uint8_t *bytes, size_t n) {
  uint64_t length = n - HEADER;
  memcpy(bytes + LENGTH_AT, &length, sizeof length);
  sha256(bytes + HEADER, n - HEADER, bytes + DIGEST_AT);
}

/* Where the first object starts: most of what precedes it says what a plan is, and is damaged most. */
static inline size_t plan_bytes(const uint8_t *bytes, size_t n) {
  const uint8_t *elf = memmem(bytes, n, "\x7f" "ELF", 4);
  return elf ? (size_t)(elf - bytes) : n;
}

static inline void expect_refused(int i, const Error *err) {
  EXPECT(err->code == ERROR_FORMAT || err->code == ERROR_MEMORY, "case %d: code %d", i, err->code);
  EXPECT(strncmp(err->text, "damaged: ", 9) == 0, "case %d: \"%s\"", i, err->text);
}

/* A damaged size may be a large one that is consistent: the machine need not give that much memory. */
static inline bool is_small(const Plan *p) {
  int64_t bytes = 0, n;
  for (int k = 0; k < p->n_function; k++) {
    const PlanFunction *f = &p->function[k];
    bytes += f->part_bytes[0] + 2 * f->part_bytes[1] + 4 * f->part_bytes[2];
    for (int i = 0; i < f->n_in; i++) bytes += plan_tensor_bytes(&f->in[i], 2, 4, &n) ? n : 0;
    for (int i = 0; i < f->n_out; i++) bytes += plan_tensor_bytes(&f->out[i], 2, 4, &n) ? n : 0;
  }
  for (int k = 0; k < p->n_param; k++) bytes += plan_tensor_bytes(&p->param[k].type, 2, 4, &n) ? n : 0;
  for (int k = 0; k < p->n_state; k++) bytes += plan_tensor_bytes(&p->state[k].type, 2, 4, &n) ? n : 0;
  for (int k = 0; k < p->n_kernel; k++) bytes += p->kernel[k].scratch_bytes;
  for (int k = 0; k < p->n_decode; k++) bytes += 4 * p->decode[k].vocab;
  return bytes < 4 << 20;
}

/* A plan that was accepted: written and read again it is the same, and a session opens, or says why not. */
static inline void use_plan(int i, const Plan *p, const NuwaOptions *o) {
  Buffer once = {0}, again = {0};
  Error err = {0};
  REQUIRE(plan_write(p, &once, &err), "case %d: %s", i, err.text);
  Plan *q = plan_read(once.data, once.len, "again", &err);
  EXPECT(q && plan_write(q, &again, &err), "case %d: %s", i, err.text);
  EXPECT(once.len == again.len && (!again.data || memcmp(once.data, again.data, once.len) == 0), "case %d", i);
  plan_free(q);
  buffer_done(&once);
  buffer_done(&again);
  if (!is_small(p)) return;
  NuwaSession *s = nuwa_session_open(p, o, &err);
  EXPECT(s || err.text[0], "case %d gives no reason", i);
  nuwa_session_close(s);
}

/* Any damage is refused by the digest. */
static inline void check_damage(const Buffer *bundle) {
  uint8_t *bytes = malloc(bundle->len);
  for (int i = 0; i < 300; i += FUZZ_STRIDE) {
    Fuzz f = {(uint64_t)i};
    memcpy(bytes, bundle->data, bundle->len);
    fuzz_damage(&f, bytes, fuzz_below(&f, 2) ? bundle->len : 256);
    if (memcmp(bytes, bundle->data, bundle->len) == 0) continue;
    Error e = {0};
    Plan *p = plan_read(bytes, bundle->len, "damaged", &e);
    EXPECT(!p, "case %d is accepted", i);
    if (!p) expect_refused(i, &e);
    plan_free(p);
  }
  for (size_t n = 0; n < bundle->len; n += 1 + n / 16) {
    Error e = {0};
    Plan *p = plan_read(memcpy(bytes, bundle->data, n), n, "damaged", &e);
    EXPECT(!p, "%zu bytes are accepted", n);
    if (!p) expect_refused((int)n, &e);
    plan_free(p);
  }
  free(bytes);
}

/* What is damaged and signed again is refused with a reason or is consistent. */
static inline void check_signed_damage(const Buffer *bundle, const NuwaOptions *o) {
  uint8_t *bytes = malloc(bundle->len);
  size_t head = plan_bytes((uint8_t *)bundle->data, bundle->len) - HEADER, accepted = 0;
  for (int i = 0; i < 1200; i += FUZZ_STRIDE) {
    Fuzz f = {(uint64_t)i * 13};
    memcpy(bytes, bundle->data, bundle->len);
    size_t n = fuzz_below(&f, 8) ? bundle->len : HEADER + fuzz_below(&f, bundle->len - HEADER);
    for (size_t edits = fuzz_below(&f, 3) + 1; edits > 0; edits--) {
      bool early = fuzz_below(&f, 8) && head + HEADER <= n && head >= 8;
      if (n >= HEADER + 8) fuzz_damage(&f, bytes + HEADER, early ? head : n - HEADER);
    }
    sign(bytes, n);
    Error e = {0};
    Plan *p = plan_read(bytes, n, "damaged", &e);
    if (!p) expect_refused(i, &e);
    if (p) accepted++, use_plan(i, p, o);
    plan_free(p);
  }
  EXPECT(accepted > 10, "only %zu are accepted", accepted);
  free(bytes);
}

/* Every number may be any number. */
static inline void check_numbers(const Buffer *bundle, const NuwaOptions *o) {
  uint8_t *bytes = malloc(bundle->len);
  size_t head = plan_bytes((uint8_t *)bundle->data, bundle->len);
  Fuzz f = {4711};
  for (size_t at = HEADER; at + 8 <= head; at += FUZZ_STRIDE * (1 + head / 1500)) {
    int64_t number = fuzz_number(&f);
    memcpy(bytes, bundle->data, bundle->len);
    memcpy(bytes + at, &number, sizeof number);
    sign(bytes, bundle->len);
    Error e = {0};
    Plan *p = plan_read(bytes, bundle->len, "damaged", &e);
    if (!p) expect_refused((int)at, &e);
    if (p) use_plan((int)at, p, o);
    plan_free(p);
  }
  free(bytes);
}

#endif
