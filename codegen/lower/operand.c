/* Operands that templates read by address, not through lower_value. */
#include "codegen/lower/lower.h"

int lower_operand(Lower *l, Node *operand) {
  Node *home = program_home(operand);
  for (int i = 0; i < l->group->n_in; i++)
    if (program_home(l->group->in[i]) == home) return l->in_buf[i];
  lower_fail(l, operand, "this operand of %s is not in memory", op_info[l->group->anchor->op].text);
  return 0;
}
