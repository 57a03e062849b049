/* Where a node's value lives, before anything is planned. */
#include "ir/program.h"

Node *program_home(Node *n) {
  while (n->op == OP_RESHAPE || n->op == OP_DETACH) n = n->in[0];
  return n;
}
