/* Colours are counted in 64 x 64 x 64 cells.  A box of cells is cut across one axis where that lessens the sum of
 * squared errors most, always the box that gains most by it, until there are 256 (after X. Wu, "Efficient statistical
 * computations for optimal color quantization", Graphics Gems II, 1991).  The colour of a box is its mean. */
#include "media/palette.h"

#include <string.h>

#include "runtime/base/memory.h"

enum { AXIS_BITS = 6, AXIS_CELLS = 1 << AXIS_BITS, CELLS = 1 << (3 * AXIS_BITS) };

/* Of pixels: how many, and the sums of their values. */
typedef struct Sums {
  double n, sum[3];
} Sums;

typedef struct Cell {
  Sums sums;
  uint8_t at[3];
} Cell;

typedef struct Box {
  int from, to; /* of the cells */
  double gain;  /* by the best cut; 0: there is none */
  int axis, cut;
} Box;

/* ---- few colours ---- */

static uint32_t pack(const uint8_t *rgb) { return (uint32_t)rgb[0] << 16 | (uint32_t)rgb[1] << 8 | rgb[2]; }

static uint32_t spread(uint32_t colour, int bits) { return (colour * 2654435761u) >> (32 - bits); }

/* False when there are more than fit. */
static bool take_all(const uint8_t *rgb, size_t pixels, Palette *out) {
  enum { BITS = 10 };
  uint32_t slots[1 << BITS] = {0}; /* colour + 1, at the first free place from its own on */
  out->n = 0;
  for (size_t i = 0; i < pixels; i++, rgb += 3) {
    uint32_t colour = pack(rgb), at = spread(colour, BITS);
    while (slots[at] && slots[at] != colour + 1) at = (at + 1) % (1 << BITS);
    if (slots[at]) continue;
    if (out->n == PALETTE_MAX) return false;
    slots[at] = colour + 1;
    memcpy(out->rgb[out->n++], rgb, 3);
  }
  return true;
}

/* ---- many ---- */

static void add(Sums *to, const Sums *s, double sign) {
  to->n += sign * s->n;
  for (int c = 0; c < 3; c++) to->sum[c] += sign * s->sum[c];
}

/* What the squared error about the mean is short of the sum of squares. */
static double energy(const Sums *s) {
  return (s->sum[0] * s->sum[0] + s->sum[1] * s->sum[1] + s->sum[2] * s->sum[2]) / s->n;
}

/* The cells that hold pixels, moved to the front. */
static int count_cells(const uint8_t *rgb, size_t pixels, Cell *cells) {
  enum { SHIFT = 8 - AXIS_BITS };
  int n = 0;
  for (size_t i = 0; i < pixels; i++, rgb += 3) {
    int r = rgb[0] >> SHIFT, g = rgb[1] >> SHIFT, b = rgb[2] >> SHIFT;
    Cell *c = &cells[(r << AXIS_BITS | g) << AXIS_BITS | b];
    add(&c->sums, &(Sums){1.0, {rgb[0], rgb[1], rgb[2]}}, 1.0);
    c->at[0] = (uint8_t)r, c->at[1] = (uint8_t)g, c->at[2] = (uint8_t)b;
  }
  for (int i = 0; i < CELLS; i++)
    if (cells[i].sums.n > 0) cells[n++] = cells[i];
  return n;
}

static void plan_cut_across(const Cell *cells, Box *b, int axis) {
  Sums slices[AXIS_CELLS] = {0}, low = {0}, high = {0};
  for (int i = b->from; i < b->to; i++) {
    add(&slices[cells[i].at[axis]], &cells[i].sums, 1.0);
    add(&high, &cells[i].sums, 1.0);
  }
  double whole = energy(&high);
  for (int cut = 1; cut < AXIS_CELLS; cut++) {
    add(&low, &slices[cut - 1], 1.0);
    add(&high, &slices[cut - 1], -1.0); /* whole numbers below 2^53: exact */
    double gain = low.n > 0 && high.n > 0 ? energy(&low) + energy(&high) - whole : 0.0;
    if (gain > b->gain) b->gain = gain, b->axis = axis, b->cut = cut;
  }
}

static Box make_box(const Cell *cells, int from, int to) {
  Box b = {from, to};
  for (int axis = 0; axis < 3; axis++) plan_cut_across(cells, &b, axis);
  return b;
}

/* Cells below the cut first; where the others begin. */
static int part(Cell *cells, const Box *b) {
  int at = b->from;
  for (int i = b->from; i < b->to; i++) {
    if (cells[i].at[b->axis] >= b->cut) continue;
    Cell c = cells[i];
    cells[i] = cells[at];
    cells[at++] = c;
  }
  return at;
}

static int cut_boxes(Cell *cells, int n_cells, Box boxes[PALETTE_MAX]) {
  int n = 1;
  boxes[0] = make_box(cells, 0, n_cells);
  for (; n < PALETTE_MAX; n++) {
    Box *best = boxes;
    for (int i = 1; i < n; i++)
      if (boxes[i].gain > best->gain) best = &boxes[i];
    if (best->gain <= 0) break;
    int middle = part(cells, best);
    boxes[n] = make_box(cells, middle, best->to);
    *best = make_box(cells, best->from, middle);
  }
  return n;
}

static void take_mean(const Cell *cells, const Box *b, uint8_t out[3]) {
  Sums s = {0};
  for (int i = b->from; i < b->to; i++) add(&s, &cells[i].sums, 1.0);
  for (int c = 0; c < 3; c++) out[c] = (uint8_t)(s.sum[c] / s.n + 0.5);
}

bool palette_make(const uint8_t *rgb, size_t pixels, Palette *out, Error *err) {
  Box boxes[PALETTE_MAX];
  *out = (Palette){0};
  if (take_all(rgb, pixels, out)) return true;
  Cell *cells = mem_alloc(CELLS * sizeof *cells);
  if (!cells) return error_set(err, ERROR_MEMORY, "choosing 256 colours: out of memory");
  out->n = cut_boxes(cells, count_cells(rgb, pixels, cells), boxes);
  for (int i = 0; i < out->n; i++) take_mean(cells, &boxes[i], out->rgb[i]);
  mem_free(cells);
  return true;
}

/* ---- pixels ---- */

static int nearest(const Palette *p, const uint8_t *rgb) {
  int best = 0, least = INT32_MAX;
  for (int i = 0; i < p->n; i++) {
    int r = p->rgb[i][0] - rgb[0], g = p->rgb[i][1] - rgb[1], b = p->rgb[i][2] - rgb[2];
    int error = r * r + g * g + b * b;
    if (error < least) least = error, best = i;
  }
  return best;
}

void palette_map(const Palette *p, const uint8_t *rgb, size_t pixels, uint8_t *out) {
  enum { BITS = 12 };
  uint32_t known[1 << BITS] = {0}; /* colour + 1 of the last that came here */
  uint8_t index[1 << BITS];
  for (size_t i = 0; i < pixels; i++, rgb += 3) {
    uint32_t colour = pack(rgb), at = spread(colour, BITS);
    if (known[at] != colour + 1) {
      known[at] = colour + 1;
      index[at] = (uint8_t)nearest(p, rgb);
    }
    out[i] = index[at];
  }
}
