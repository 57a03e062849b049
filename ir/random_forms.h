/* Random numbers, once: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers, as Easy as 1, 2, 3; 2011),
 * and what is made of its words, over the operations of math_forms.h, which includes this.  runtime/base/philox.h is the
 * same generator in plain C. */

/* The words 0 and 1 of the block that a counter of four words gives under a key of two. */
typedef struct RandomWords {
  Num word[2];
} RandomWords;

static RandomWords philox(Calc *c, const Num counter[4], const Num key[2]) {
  enum { ROUNDS = 10 };
  static const int32_t multiplier[2] = {(int32_t)0xD2511F53u, (int32_t)0xCD9E8D57u};
  static const uint32_t weyl[2] = {0x9E3779B9u, 0xBB67AE85u};
  Num x[4] = {counter[0], counter[1], counter[2], counter[3]};
  for (uint32_t round = 0; round < ROUNDS; round++) {
    Num high[2], low[2], k[2];
    for (int i = 0; i < 2; i++) {
      Num m = whole(c, multiplier[i]);
      high[i] = op2(c, NUMBER_MUL_HIGH, x[2 * i], m);
      low[i] = mul(c, x[2 * i], m);
      k[i] = add(c, key[i], whole(c, (int32_t)(round * weyl[i])));
    }
    Num y[4] = {op2(c, NUMBER_XOR, op2(c, NUMBER_XOR, high[1], x[1]), k[0]), low[1],
                op2(c, NUMBER_XOR, op2(c, NUMBER_XOR, high[0], x[3]), k[1]), low[0]};
    memcpy(x, y, sizeof x);
  }
  return (RandomWords){{x[0], x[1]}};
}

/* The multiples of 2^-24 in [0, 1), each as likely. */
static Num math_uniform(Calc *c, const Num counter[4], const Num key[2]) {
  Num high = masked(c, shr(c, philox(c, counter, key).word[0], 8), 0xffffff);
  return mul(c, op1(c, NUMBER_TO_F32, high), real(c, 0x1p-24f));
}

/* (w + 1/2) 2^-32 of a word without sign: its upper 24 bits and the rest are exact, and are rounded once. */
static Num open_unit(Calc *c, Num w) {
  Num high = op1(c, NUMBER_TO_F32, masked(c, shr(c, w, 8), 0xffffff));
  Num low = add(c, op1(c, NUMBER_TO_F32, masked(c, w, 255)), real(c, 0.5f));
  return mul(c, fused_by(c, high, 256, low), real(c, 0x1p-32f));
}

/* -log of the same, relatively right at both ends: u above 1/2 is 1 - d, and what rounding 1 - d took is put back. */
static Num minus_log_unit(Calc *c, Num w) {
  Num above = op2(c, NUMBER_LT, w, whole(c, 0));   /* the highest bit */
  Num u = open_unit(c, w), d = open_unit(c, op1(c, NUMBER_NOT, w)), one = real(c, 1);
  Num near = sub(c, one, d), lost = op2(c, NUMBER_DIV, sub(c, sub(c, one, near), d), near);
  Num log_u = add(c, math_log(c, either(c, above, near, u)), either(c, above, lost, real(c, 0)));
  return negative(c, log_u);
}

/* cos(2 pi w 2^-32): whole quarter turns are integers. */
static Num cos_turn(Calc *c, Num w) {
  Num q = shr(c, add(c, w, whole(c, 1 << 29)), 30);
  Num rest = op1(c, NUMBER_TO_F32, sub(c, w, shl(c, q, 30)));
  return sine_of(c, (Angle){q, mul(c, rest, real(c, 0x1.921fb6p-30f))}, 1);
}

/* Box and Muller: u = (word 0 + 1/2) 2^-32, v = word 1 2^-32, sqrt(-2 log u) cos(2 pi v). */
static Num math_normal(Calc *c, const Num counter[4], const Num key[2]) {
  RandomWords r = philox(c, counter, key);
  Num square = mul(c, real(c, 2), minus_log_unit(c, r.word[0]));
  return mul(c, op1(c, NUMBER_SQRT, square), cos_turn(c, r.word[1]));
}
