/* Operands that templates read by address, not through lower_value. */
#include "codegen/lower/lower.h"

int lower_operand(Lower *l, Node *operand) {
  Node *home = program_home(operand);
  for (int i = 0; i < l->group->n_in; i++)
    if (program_home(l->group->in[i]) == home) return l->in_buf[i];
  lower_fail(l, operand, "this operand of %s is not in memory", op_info[l->group->anchor->op].text);
  return 0;
}

void lower_move(Kernel *k, bool is_async, KPlace to, KPlace from, int count, KInst *mask) {
  if (is_async && count * (int64_t)dtype_bytes(k->buf[from.buf].dtype) >= 4) {
    kir_copy(k, to, from, count, mask);
  } else if (count == 1) {
    kir_store(k, to.buf, to.base, to.lane_offset, kir_load(k, from.buf, from.base, from.lane_offset, mask), NULL);
  } else {
    KInst *part[QUAD], *quad = kir_load4(k, from.buf, from.base, from.lane_offset, mask);
    for (int j = 0; j < QUAD; j++) part[j] = kir_part(k, quad, j);
    kir_store4(k, to.buf, to.base, to.lane_offset, part, NULL);
  }
}
