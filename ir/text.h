/* How names and numbers stand in IR text: what the printer writes and the parser reads. */
#ifndef NUWA_IR_TEXT_H
#define NUWA_IR_TEXT_H

#include "ir/internal.h"

/* A letter or _, then letters, digits, _ and dots: prints bare; all other names are quoted. */
bool name_is_bare(const char *s);
void text_quote(Buffer *out, const char *s);   /* "with \"escapes\" and \x01" */
void text_name(Buffer *out, const char *s);    /* bare or quoted */
/* Appends a separator and a name, which a model or a file gave, to the text of err. */
void text_add_name(Error *err, const char *separator, const char *name);
/* " {name=value, ...}" of a node, or nothing. */
void text_attrs(Buffer *out, const Node *n);
/* The shortest decimal that reads back as v; inf, -inf, nan. */
void text_real(Buffer *out, double v);

#endif
