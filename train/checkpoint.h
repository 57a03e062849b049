/* Checkpoints: everything a run needs to go on exactly, in one safetensors file that appears whole or not at all.
 *
 * Tensors: "param.<name>" of the plan; "state.<name>", the states that the entries of training use.  Metadata: format, step, recipe, sha256 of all tensors' bytes in the order of the file. */
#ifndef NUWA_CHECKPOINT_H
#define NUWA_CHECKPOINT_H

#include "runtime/base/safetensors.h"
#include "runtime/include/nuwa.h"
#include "runtime/plan.h"
#include "train/trainer.h"

typedef struct Checkpoint {
  NuwaSession *session;
  const Plan *plan;
  const TrainEntry *entry; /* whose states belong to the run */
  int n_entry;
  const char *recipe; /* a JSON object of all that shapes the run: a checkpoint with another is refused by the field */
  bool (*is_told)(const char *field); /* as of TrainOptions */
  int64_t step;
} Checkpoint;

bool checkpoint_write(const Checkpoint *c, const char *path, Error *err);
/* Reads into the session, c->uses and c->step.  Everything is checked before anything is changed.  The caller
 * prepares. */
bool checkpoint_read(Checkpoint *c, const char *path, Error *err);

/* The params alone, strictly what nuwa_load_weights wants, and behind them more [n_more] that the plan has no place for; as_bf16
 * stores f32 ones rounded to bf16. */
bool weights_write(NuwaSession *s, const Plan *p, const TensorView *more, int n_more, const char *path, bool as_bf16,
                   const MetadataEntry *meta, int n_meta, Error *err);

#endif
