/* What a data set would feed to the inputs of a model that trains on it. */
#ifndef NUWA_CLI_DATA_FEEDS_H
#define NUWA_CLI_DATA_FEEDS_H

#include "frontend/lua/model.h"
#include "media/dataset.h"

/* Prints every input of the model's entries of training and of its evaluation, and where it comes from.  False with what
 * is wanted and what there is of the first that nothing feeds. */
bool data_feeds_print(const Dataset *d, const Model *m, Error *err);

#endif
