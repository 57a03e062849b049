/* What `nuwa data` says of the training world alone. */
#ifndef NUWA_CLI_DATA_WORLD_H
#define NUWA_CLI_DATA_WORLD_H

#include "media/judge.h"

/* Names and numbers: fields of a JSON object without its braces, and text. */
void data_world_print_json(const World *w);
void data_world_print(const World *w);

/* Judges the true renderings of count scenes. */
bool data_world_judge(const World *w, WorldSplit part, uint64_t first, int count, SlotScore *out, Error *err);

#endif
