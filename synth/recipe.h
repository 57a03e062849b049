/* Recipes: all that shapes a result, each thing declared once, in the table below.  From it follow what is written
 * beside weights and into pictures, what must be the same when a run is resumed, and what must be the same of weights
 * that are used together.  A recipe is a JSON object of the fields that are set, in the order of the table; numbers
 * read back exactly. */
#ifndef NUWA_SYNTH_RECIPE_H
#define NUWA_SYNTH_RECIPE_H

#include "frontend/lua/options.h"
#include "frontend/lua/source.h"
#include "runtime/base/json.h"
#include "runtime/plan.h"

/* The key of the text in a PNG that is a recipe. */
#define RECIPE_KEY "nuwa"

/* What a field shapes: a training run (all of these must match to resume it), a drawing, and what weights used
 * together must agree on; or what is measured of weights.  What is only told shapes nothing: where data lie, whose digest
 * counts. */
enum {
  RECIPE_RUN = 1,
  RECIPE_DRAWING = 2,
  RECIPE_PAIR = 4,
  RECIPE_TOLD = 8,
  RECIPE_MEASURE = 16,
  RECIPE_BOTH = RECIPE_RUN | RECIPE_DRAWING
};

/*  id           name                 shapes        */
#define RECIPE_TABLE(X)                                                                                              \
  X(TEXT,        "text",              RECIPE_DRAWING)                                                                \
  X(MODEL,       "model",             RECIPE_DRAWING)                                                                \
  X(SOURCE,      "source_sha256",     RECIPE_BOTH)                                                                   \
  X(OPTIONS,     "options",           RECIPE_BOTH)                                                                   \
  X(PRECISION,   "precision",         RECIPE_BOTH)                                                                   \
  X(DEVICE,      "device",            RECIPE_BOTH)                                                                   \
  X(PRODUCTS,    "products",          RECIPE_BOTH)                                                                   \
  X(WEIGHTS,     "weights_sha256",    RECIPE_DRAWING)                                                                \
  X(VQ,          "vq_sha256",         RECIPE_BOTH | RECIPE_PAIR)                                                     \
  X(VQ_SOURCE,   "vq_source_sha256",  RECIPE_BOTH)                                                                   \
  X(VQ_OPTIONS,  "vq_options",        RECIPE_BOTH)                                                                   \
  X(LABELS_VQ,   "labels_vq_sha256",  RECIPE_BOTH | RECIPE_PAIR)                                                     \
  X(LABELS_VQ_SOURCE, "labels_vq_source_sha256", RECIPE_BOTH)                                                        \
  X(LABELS_VQ_OPTIONS, "labels_vq_options", RECIPE_BOTH)                                                             \
  X(BPE,         "bpe_sha256",        RECIPE_RUN)                                                                    \
  X(FRESH,       "fresh",             RECIPE_RUN)                                                                    \
  X(START,       "start_sha256",      RECIPE_RUN)                                                                    \
  X(PARTS,       "parts_sha256",      RECIPE_RUN)                                                                    \
  X(DATA,        "data",              RECIPE_RUN | RECIPE_TOLD)                                                      \
  X(DATA_DIGEST, "data_sha256",       RECIPE_RUN)                                                                    \
  X(EVAL_DATA,   "eval_data",         RECIPE_RUN | RECIPE_TOLD)                                                      \
  X(EVAL_DIGEST, "eval_data_sha256",  RECIPE_RUN)                                                                    \
  X(STEPS,       "steps",             RECIPE_RUN)                                                                    \
  X(BATCH,       "batch",             RECIPE_RUN)                                                                    \
  X(RAW,         "raw",               RECIPE_MEASURE)                                                                \
  X(EVAL_BATCHES, "eval_batches",     RECIPE_MEASURE)                                                                \
  X(SCORES,      "scores",            RECIPE_MEASURE)                                                                \
  X(SCORE_COUNT, "score_count",       RECIPE_MEASURE)                                                                \
  X(SEGMENT,     "segment_sha256",    RECIPE_MEASURE)                                                                \
  X(FEATURES,    "features_sha256",   RECIPE_MEASURE)                                                                \
  X(SIMILARITY,  "similarity_sha256", RECIPE_MEASURE)                                                                \
  X(SEED,        "seed",              RECIPE_BOTH)                                                                   \
  X(SAMPLE,      "sample",            RECIPE_DRAWING)                                                                \
  X(CLASS,       "class",             RECIPE_DRAWING)                                                                \
  X(TEMPERATURE, "temperature",       RECIPE_DRAWING | RECIPE_MEASURE)                                               \
  X(TOP_K,       "top_k",             RECIPE_DRAWING | RECIPE_MEASURE)                                               \
  X(TOP_P,       "top_p",             RECIPE_DRAWING | RECIPE_MEASURE)                                               \
  X(GUIDANCE,    "guidance",          RECIPE_DRAWING | RECIPE_MEASURE)                                               \
  X(ORDER,       "order",             RECIPE_DRAWING)                                                                \
  X(TASK,        "task",              RECIPE_DRAWING)                                                                \
  X(SKETCH,      "sketch",            RECIPE_DRAWING)                                                                \
  X(SKETCH_BYTES, "sketch_sha256",    RECIPE_DRAWING)                                                                \
  X(VIDEO,       "video",             RECIPE_DRAWING)                                                                \
  X(VIDEO_BYTES, "video_sha256",      RECIPE_DRAWING)                                                                \
  X(GIVEN_FRAMES, "given_frames",     RECIPE_DRAWING)                                                                \
  X(FPS,         "fps",               RECIPE_DRAWING)                                                                \
  X(ENCODER,     "encoder",           RECIPE_DRAWING)                                                                \
  X(IMAGE,       "image",             RECIPE_DRAWING)                                                                \
  X(IMAGE_BYTES, "image_sha256",      RECIPE_DRAWING)                                                                \
  X(MASK,        "mask",              RECIPE_DRAWING)                                                                \
  X(MASK_BYTES,  "mask_sha256",       RECIPE_DRAWING)

typedef enum RecipeField {
  RECIPE_NONE,   /* an option that shapes nothing */
#define X(id, name, shapes) RECIPE_##id,
  RECIPE_TABLE(X)
#undef X
      RECIPE_COUNT
} RecipeField;

typedef struct Recipe {
  Arena *arena;                     /* of the values; call what sets them inside arena_protect */
  const char *value[RECIPE_COUNT];  /* as JSON; NULL: not set */
} Recipe;

void recipe_set_text(Recipe *r, RecipeField f, const char *text);
void recipe_set_int(Recipe *r, RecipeField f, int64_t n);
void recipe_set_real(Recipe *r, RecipeField f, double x);
/* SHA-256 of bytes, of a file's. */
void recipe_set_digest(Recipe *r, RecipeField f, const void *bytes, size_t n);
bool recipe_set_file(Recipe *r, RecipeField f, const char *path, Error *err);
/* {"name": digest, ...} of files by name; n 0: not set. */
bool recipe_set_files(Recipe *r, RecipeField f, const Define *file, int n, Error *err);
/* {"dim": "64", ...}: of a model that was loaded. */
void recipe_set_options(Recipe *r, RecipeField f, const Options *o);
/* Source and options of a plan's model into these fields; and all that a drawing's recipe says of the plan that draws. */
void recipe_set_plan_model(Recipe *r, RecipeField source, RecipeField options, const Plan *p);
void recipe_set_plan(Recipe *r, const Plan *p);

/* Whether the field of that name is only told. */
bool recipe_is_told(const char *name);
/* The name of a field. */
const char *recipe_name(RecipeField f);
/* The recipe of a run, or of a drawing, as JSON.  In the recipe's arena. */
const char *recipe_print(const Recipe *r, unsigned shapes);

/* The field of that name; RECIPE_COUNT: there is none. */
RecipeField recipe_field(const char *name);

/* Do weights go with what is at hand?  trained: their recipe (NULL or without a field: it says nothing, which
 * passes); every field of `have` that pairs must share is compared.  err names the field and both values. */
bool recipe_check_pair(const char *trained, const Recipe *have, Error *err);

#endif
