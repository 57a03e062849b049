/* Which products of a program the library computes instead of an own kernel. */
#ifndef NUWA_PRODUCTS_H
#define NUWA_PRODUCTS_H

#include "ir/program.h"
#include "runtime/plan.h"

/* A group that is a product of the library. */
typedef struct LibraryProduct {
  PlanProduct form;        /* algorithm: "" */
  PlanShape shape;
  Node *operand[3];        /* homes of A, B and the bias (NULL: none) */
  Node *result;            /* the group's only one */
} LibraryProduct;

/* False when the group is an own kernel; *out_why then says why, or is NULL when it is no product at all.  Of every
 * matrix product *out says what it is; of convolutions, result is NULL. */
bool product_of_group(const Group *g, LibraryProduct *out, const char **out_why);

/* The pass: marks the groups that the library computes, large products first parted from epilogues that it does not
 * have.  needs: groups.  gives: Group.is_library.  breaks: a memory plan. */
Program *pass_products(Arena *a, Program *p);

/* For --explain: every product, by whom and why. */
void products_explain(const Program *p, Buffer *out);

#endif
