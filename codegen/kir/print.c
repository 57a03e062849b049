/* Text of a kernel.
 *
 * Ids are given in the order of printing, constants stand where they are used, and what no effect needs is left out, so
 * kernels that do the same by the same instructions have the same text whatever else was built on the way.  Everything
 * that changes the meaning is printed exactly: floats with nine digits, tables in full. */
#include <math.h>
#include <string.h>

#include "codegen/kir/build.h"

typedef struct KernelPrinter {
  const Kernel *k;
  Buffer *out;
  int *uses, *label;
  int n_label;
} KernelPrinter;

static void print_dim(Buffer *out, Dim d) {
  const char *plus = "";
  if (d.b) buffer_printf(out, "%lldB", (long long)d.b), plus = "+";
  if (d.r) buffer_printf(out, "%s%lldR", plus, (long long)d.r), plus = "+";
  if (d.c || !*plus) buffer_printf(out, "%s%lld", plus, (long long)d.c);
}

static void print_float(Buffer *out, float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  if (isnan(x)) buffer_printf(out, "0x%08x", bits);
  else buffer_printf(out, "%.9g", (double)x);
}

static void print_value(KernelPrinter *p, const KInst *i) {
  if (!i) buffer_printf(p->out, "_");
  else if (i->op != KOP_CONST) buffer_printf(p->out, "%%%d", p->label[i->id]);
  else if (i->type == K_F32) print_float(p->out, i->fimm);
  else if (i->type == K_BOOL) buffer_printf(p->out, "%s", i->imm ? "true" : "false");
  else buffer_printf(p->out, "%lld", (long long)i->imm);
}

static void print_block(KernelPrinter *p, const KBlock *b, int depth);

static void print_indent(KernelPrinter *p, int depth) { buffer_printf(p->out, "%*s", 2 * depth, ""); }

static void print_result(KernelPrinter *p, const KInst *i) {
  p->label[i->id] = p->n_label++;
  buffer_printf(p->out, "%%%d:%s%s = ", p->label[i->id], ktype_name(i->type), i->varying ? "x16" : "");
}

static void print_for(KernelPrinter *p, const KInst *i, int depth) {
  p->label[i->id] = p->n_label++;
  buffer_printf(p->out, "for %%%d = ", p->label[i->id]);
  print_value(p, i->in[0]);
  buffer_printf(p->out, " to ");
  print_value(p, i->in[1]);
  buffer_printf(p->out, " step %lld", (long long)i->in[2]->imm);
  if (i->imm) buffer_printf(p->out, " unroll %lld", (long long)i->imm);
  buffer_printf(p->out, " {\n");
  print_block(p, i->body, depth + 1);
  print_indent(p, depth);
  buffer_printf(p->out, "}\n");
}

static void print_if(KernelPrinter *p, const KInst *i, int depth) {
  buffer_printf(p->out, "if ");
  print_value(p, i->in[0]);
  buffer_printf(p->out, " {\n");
  print_block(p, i->body, depth + 1);
  print_indent(p, depth);
  if (i->other) {
    buffer_printf(p->out, "} else {\n");
    print_block(p, i->other, depth + 1);
    print_indent(p, depth);
  }
  buffer_printf(p->out, "}\n");
}

/* A name, and where several buffers have it the number too. */
static void print_buf(const Kernel *k, int64_t buf, Buffer *out) {
  int n = 0;
  for (int i = 0; i < k->n_buf; i++) n += !strcmp(k->buf[i].name, k->buf[buf].name);
  buffer_printf(out, n > 1 ? "%s#%lld" : "%s", k->buf[buf].name, (long long)buf);
}

static void print_element(KernelPrinter *p, int64_t buf, const KInst *base, const KInst *lane_offset) {
  buffer_printf(p->out, " ");
  print_buf(p->k, buf, p->out);
  buffer_printf(p->out, "[");
  print_value(p, base);
  if (lane_offset) {
    buffer_printf(p->out, " + ");
    print_value(p, lane_offset);
  }
  buffer_printf(p->out, "]");
}

/* name[base + lane offset], ? mask */
static void print_place(KernelPrinter *p, const KInst *i) {
  print_element(p, i->imm, i->in[0], i->in[1]);
  if (i->in[2]) {
    buffer_printf(p->out, " if ");
    print_value(p, i->in[2]);
  }
}

static void print_inst(KernelPrinter *p, const KInst *i, int depth) {
  print_indent(p, depth);
  if (i->op == KOP_FOR) {
    print_for(p, i, depth);
    return;
  }
  if (i->op == KOP_IF) {
    print_if(p, i, depth);
    return;
  }
  bool effect = i->op == KOP_STORE || i->op == KOP_SET || i->op == KOP_SYNC || i->op >= KOP_STORE4;
  if (!effect) print_result(p, i);
  buffer_printf(p->out, "%s", kop_info[i->op].text);
  if (i->op == KOP_SIZE) buffer_printf(p->out, " %s", i->imm ? "R" : "B");
  if (i->op == KOP_PART || i->op == KOP_WAIT || i->op == KOP_MMA) buffer_printf(p->out, " %lld", (long long)i->imm);
  if (i->op == KOP_TILE) {
    buffer_printf(p->out, " %s by %d", i->layout == LAYOUT_XK ? "xk" : "kx", i->stride);
    print_place(p, i);
  } else if (i->op == KOP_COPY) {
    buffer_printf(p->out, "%d", i->count);
    print_place(p, i);
    buffer_printf(p->out, " =");
    print_element(p, i->from, i->in[3], i->in[4]);
  } else if (i->op == KOP_LOAD || i->op == KOP_STORE || i->op == KOP_LOAD4 || i->op == KOP_STORE4) {
    print_place(p, i);
    for (int j = 3; j < i->n_in; j++) {
      buffer_printf(p->out, j == 3 ? " = " : ", ");
      print_value(p, i->in[j]);
    }
  } else {
    for (int j = 0; j < i->n_in; j++) {
      buffer_printf(p->out, j || i->op == KOP_PART || i->op == KOP_MMA ? ", " : " ");
      print_value(p, i->in[j]);
    }
  }
  buffer_printf(p->out, "\n");
}

static void print_block(KernelPrinter *p, const KBlock *b, int depth) {
  for (const KInst *i = b->first; i; i = i->next)
    if (i->op != KOP_CONST && p->uses[i->id] >= 0) print_inst(p, i, depth);
}

static void print_table(Buffer *out, const KBuf *b) {
  size_t bytes = dtype_bytes(b->dtype);
  buffer_printf(out, " = {");
  for (int64_t i = 0; i < b->elems; i++) {
    uint32_t bits = 0;
    memcpy(&bits, (const char *)b->data + (size_t)i * bytes, bytes);
    buffer_printf(out, "%s%x", i ? " " : "", bits);
  }
  buffer_printf(out, "}");
}

static void print_head(const Kernel *k, Buffer *out) {
  static const char *const space[] = {"global", "scratch", "table"};
  buffer_printf(out, "kernel %s\n", k->name);
  for (int i = 0; i < k->n_buf; i++) {
    const KBuf *b = &k->buf[i];
    buffer_printf(out, "  %s %s ", space[b->space], dtype_name(b->dtype));
    print_buf(k, i, out);
    if (b->space != SPACE_GLOBAL) buffer_printf(out, "[%lld]", (long long)b->elems);
    else buffer_printf(out, "%s%s", b->written ? " written" : "", b->restrict_ ? "" : " shared");
    if (b->over) {
      buffer_printf(out, " over ");
      print_buf(k, b->over - 1, out);
    }
    if (b->space == SPACE_TABLE) print_table(out, b);
    buffer_printf(out, "\n");
  }
  buffer_printf(out, "  items");
  for (int i = 0; i < k->n_factor; i++) {
    buffer_printf(out, "%s", i ? " * " : " ");
    print_dim(out, k->factor[i].size);
    if (k->factor[i].tile != 1) buffer_printf(out, " / %lld", (long long)k->factor[i].tile);
  }
  buffer_printf(out, "%s, grain %lld\n", k->n_factor ? "" : " 1", (long long)k->grain);
  if (k->groups > 1 || k->resident) buffer_printf(out, "  groups %d, resident %d\n", k->groups, k->resident);
}

void kir_print(const Kernel *k, Buffer *out) {
  KernelPrinter p = {.k = k, .out = out, .uses = kir_count_uses(k)};
  p.label = mem_alloc((size_t)k->n_inst * sizeof *p.label);
  if (p.uses && p.label) {
    print_head(k, out);
    print_block(&p, k->body, 1);
  } else {
    out->failed = true;
  }
  mem_free(p.uses);
  mem_free(p.label);
}
