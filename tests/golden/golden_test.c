/* The golden runner.  A case is
 *
 *   case: fold: x + -0 is x
 *   passes: fold dce
 *   func @f(%x: f32[4]) { ... }
 *   expect:
 *   the function after the passes, or after `fuse` the groups, or after `memplan` the storages
 *   end
 *
 * Lines that start with # outside of cases are comments.  The function is also computed before and after the
 * passes on random numbers.  --rewrite writes what comes out into the files. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/file.h"
#include "tests/unit/passes/pass_case.h"

typedef struct Golden {
  char sentence[200], passes[200];
  Buffer input, expect;
} Golden;

/* ---- passes by name ---- */

/* Adds an output d_NAME for every f32 input and param: the gradient of output `y`. */
static Func *add_gradients(Func *f) {
  Graph *g = f->graph;
  int n, n_wrt = 0;
  Node **nodes = func_nodes(f, &n), **wrt = ARENA_ARRAY(g->arena, Node *, n), **d = ARENA_ARRAY(g->arena, Node *, n);
  Port *out = ARENA_ARRAY(g->arena, Port, n + f->n_out);
  for (int i = 0; i < n; i++) {
    if ((nodes[i]->op == OP_INPUT || nodes[i]->op == OP_PARAM) && nodes[i]->type.dtype == DTYPE_F32)
      wrt[n_wrt++] = nodes[i];
  }
  if (!grad_build(g, f->out[0].node, wrt, n_wrt, d)) return NULL;
  for (int i = 0; i < f->n_out; i++) out[i] = f->out[i];
  for (int i = 0; i < n_wrt; i++)
    out[f->n_out + i] = (Port){arena_printf(g->arena, "d_%s", wrt[i]->attrs.leaf.name), d[i]};
  return func_new(g, f->name, f->in, f->n_in, out, f->n_out + n_wrt);
}

static bool print_storages(const Program *p, Buffer *out) {
  static const char *const kind[] = {"none", "arena", "input", "output", "param", "state"}, *const part[] = {"", " B",
                                                                                                             " R"};
  MemPlan *m = pass_memplan(p);
  if (!m) return false;
  for (int k = 0; k < p->n_group; k++) {
    for (int i = 0; i < p->group[k].n_out; i++) {
      Node *n = p->group[k].out[i];
      const Storage *s = &m->of[n->id];
      buffer_printf(out, "%s#%d: %s", op_info[n->op].text, k, kind[s->kind]);
      if (s->kind == STORAGE_ARENA)
        buffer_printf(out, "%s %lld+%lld\n", part[s->part], (long long)s->unit_offset, (long long)s->unit_bytes);
      else
        buffer_printf(out, " %d\n", s->index);
    }
  }
  for (int i = 0; i < m->n_copy; i++) {
    buffer_printf(out, "copy:");
    case_print_value(p, m->copy[i].from, out);
    if (m->copy[i].to) buffer_printf(out, " to %s\n", m->copy[i].to->attrs.leaf.name);
    else buffer_printf(out, " to output %d\n", m->copy[i].output);
  }
  buffer_printf(out, "arena: %lld + %lldB + %lldR, in place: %lld\n", (long long)m->part_bytes[0],
                (long long)m->part_bytes[1], (long long)m->part_bytes[2], (long long)m->in_place);
  return true;
}

static bool run_pass(const char *name, Func **f, Program **p, Buffer *text, Error *err) {
  typedef Func *(*PassFn)(Func *);
  static const struct { const char *name; PassFn run; } pass[] = {
    {"expand", pass_expand}, {"fold", pass_fold}, {"dce", pass_dce}, {"grad", add_gradients},
  };
  for (int i = 0; i < COUNT_OF(pass); i++) {
    if (strcmp(name, pass[i].name) == 0) return (*f = pass[i].run(*f)) && func_verify(*f, FORM_ANY, name, err);
  }
  if (strcmp(name, "fuse") == 0) {
    *p = pass_fuse(*f);
    if (!*p || !case_program_sound(*p, err)) return false;
    case_print_groups(*p, text);
    return true;
  }
  if (strcmp(name, "memplan") == 0 && *p) {
    buffer_done(text);
    return print_storages(*p, text);
  }
  return error_set(err, ERROR_ARGUMENT, "no pass is named %s", name);
}

/* Runs the case; *text is what came out.  False with err set. */
static bool golden_run(const Golden *c, Buffer *text, Error *err) {
  PassCase pc = {0};
  Program *p = NULL;
  Func *before = case_parse(&pc, c->sentence, c->input.data), *after = before;
  char names[200];
  snprintf(names, sizeof names, "%s", c->passes);
  bool ok = before != NULL;
  for (char *save, *name = strtok_r(names, " ", &save); ok && name; name = strtok_r(NULL, " ", &save))
    ok = run_pass(name, &after, &p, text, err);
  if (ok && !p) func_print(after, text);
  ok = ok && case_equal(&pc, before, after, err);
  if (!ok && pc.err.code) *err = pc.err;
  case_done(&pc);
  return ok;
}

/* ---- files ---- */

static const char *after_prefix(const char *line, const char *prefix) {
  size_t n = strlen(prefix);
  if (strncmp(line, prefix, n) != 0) return NULL;
  while (line[n] == ' ') n++;
  return line + n;
}

typedef struct Tally { int n, failed; bool rewrite; } Tally;

static void write_case(const Golden *c, const Buffer *text, Buffer *file) {
  buffer_printf(file, "case: %s\npasses: %s\n%sexpect:\n%send\n", c->sentence, c->passes, c->input.data, text->data);
}

static void finish_case(Golden *c, Tally *t, Buffer *file) {
  Buffer text = {0};
  Error err = {0};
  t->n++;
  if (!golden_run(c, &text, &err)) {
    printf("%s: %s\n", c->sentence, err.text);
    t->failed++;
    buffer_done(&text);
    buffer_append(&text, c->expect.data ? c->expect.data : "", c->expect.len);
  } else if (!t->rewrite && strcmp(text.data ? text.data : "", c->expect.data ? c->expect.data : "") != 0) {
    printf("%s: got\n%sexpected\n%s", c->sentence, text.data, c->expect.data);
    t->failed++;
  }
  if (!text.data) buffer_append(&text, "", 0);
  write_case(c, &text, file);
  buffer_done(&text);
  buffer_done(&c->input);
  buffer_done(&c->expect);
}

typedef enum Where { OUTSIDE, IN_INPUT, IN_EXPECT } Where;

static Where take_line(Golden *c, Where where, const char *line, Tally *t, Buffer *file) {
  const char *rest;
  if (where == OUTSIDE) {
    if (!(rest = after_prefix(line, "case:"))) {
      buffer_printf(file, "%s\n", line);
      return OUTSIDE;
    }
    *c = (Golden){0};
    snprintf(c->sentence, sizeof c->sentence, "%s", rest);
    return IN_INPUT;
  }
  if (where == IN_EXPECT && strcmp(line, "end") == 0) {
    finish_case(c, t, file);
    return OUTSIDE;
  }
  if (where == IN_INPUT && (rest = after_prefix(line, "passes:"))) snprintf(c->passes, sizeof c->passes, "%s", rest);
  else if (where == IN_INPUT && strcmp(line, "expect:") == 0) return IN_EXPECT;
  else buffer_printf(where == IN_INPUT ? &c->input : &c->expect, "%s\n", line);
  return where;
}

static bool golden_file(const char *path, Tally *t) {
  Error err = {0};
  size_t len;
  Buffer file = {0};
  Golden c;
  Where where = OUTSIDE;
  char *text = file_read(path, &len, &err);
  for (char *save, *line = text ? text : NULL; line && *line; line = save) {
    save = strchr(line, '\n');
    if (save) *save++ = 0;
    else save = line + strlen(line);
    where = take_line(&c, where, line, t, &file);
  }
  bool ok = text && where == OUTSIDE && !file.failed;
  if (text && where != OUTSIDE) error_set(&err, ERROR_FORMAT, "the last case has no end");
  if (ok && t->rewrite) ok = file_write_all(path, file.data, file.len, &err);
  if (!ok) printf("%s: %s\n", path, err.text);
  buffer_done(&file);
  mem_free(text);
  return ok;
}

int main(int argc, char **argv) {
  Tally t = {0};
  bool ok = true;
  struct dirent **entry;
  t.rewrite = argc > 1 && strcmp(argv[1], "--rewrite") == 0;
  int n = scandir(GOLDEN_DIR, &entry, NULL, alphasort);
  for (int i = 0; i < n; i++) {
    char path[1000];
    size_t len = strlen(entry[i]->d_name);
    snprintf(path, sizeof path, "%s/%s", GOLDEN_DIR, entry[i]->d_name);
    if (len > 4 && strcmp(entry[i]->d_name + len - 4, ".txt") == 0 && strcmp(entry[i]->d_name, "CMakeLists.txt") != 0)
      ok = golden_file(path, &t) && ok;
    free(entry[i]);
  }
  if (n >= 0) free(entry);
  printf("%d cases, %d failures\n", t.n, t.failed);
  return !ok || t.failed || t.n == 0;
}
