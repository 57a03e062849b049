/* Names by which rooms know functions, ports and metadata that another room has made: each is said here, and nowhere
 * else (tests/names.sh).  Shapes: B samples, s frames, h rows, w columns. */
#ifndef NUWA_NAMES_H
#define NUWA_NAMES_H

/* ---- a contract with who writes models, and with who links the runtime (docs/bundle.md) ---- */

#define FUNC_ENCODE "encode"    /* of an autoencoder: image to codes */
#define FUNC_DECODE "decode"    /* of an autoencoder: codes to image; of a generating model: what is drawn with */
#define FUNC_RECONSTRUCT "reconstruct" /* of an autoencoder: image to what it makes of it */
#define FUNC_EVALUATE "evaluate" /* what measures a model while it trains */
#define FUNC_TRAIN "train"      /* the module's list of what training does; its entries are functions "train.NAME" */
#define FUNC_TASKS "tasks"      /* the module's table of what can be drawn: functions "tasks.TASK", of which each is one of */
#define TASK_NONE "none_image"  /* image f32 [B, h, w, 1 or 3] in [-1, 1] from random numbers alone */
#define TASK_CLASS "class_image" /* the same of a class i32 [B] */
#define FUNC_FEATURES "features" /* of a classifier: image to features f32 [B, n] */
#define FUNC_SEGMENT "segment"  /* of a judge: image to labels i32 [B, h, w], what each pixel shows */
#define FUNC_IMAGE_FEATURES "image_features" /* of a model of likeness: image to features f32 [B, n] */
#define FUNC_TEXT_FEATURES "text_features"   /* text to features that these are compared with */
#define PORT_IMAGE "image"      /* f32 [B, h, w, 3] in [-1, 1] */
#define PORT_VIDEO "video"      /* f32 [B, s, h, w, 3] */
#define PORT_TEXT "text"        /* i32 [B, n]: start, tokens, end, zeros */
#define PORT_TEXT_MASK "text_mask" /* u8 [B, n]: 1 for the text, 0 for the zeros behind it */
#define PORT_LABELS "labels"    /* i32 [B, (s,) h, w]: what each pixel shows */
#define PORT_CLASS "class"      /* i32 [B]: what a picture shows */
#define PORT_CODES "codes"      /* i32 [B, 1, h, w]: of one picture */
#define PORT_TOKENS "tokens"    /* i32 [B, s, h, w]: the codes of all frames */
#define PORT_IMAGE_TOKENS "image_tokens"   /* i32 [B, 1, h, w]: the codes of a picture, */
#define PORT_VIDEO_TOKENS "video_tokens"   /* i32 [B, s, h, w]: of all frames of a clip, */
#define PORT_LABELS_TOKENS "labels_tokens" /* i32 [B, s, h, w]: of maps of labels */
#define PORT_LOSS "loss"        /* f32, a scalar */
#define PORT_FEATURES "features" /* f32 [B, n]: what is known of a picture */
#define SHIPPED_DRAWER "nuwa"   /* models/weights/NAME.safetensors: of the generating model, */
#define SHIPPED_IMAGE "image"   /* of the autoencoder of its pictures, */
#define SHIPPED_LABELS "labels" /* and of that of maps of labels */

/* ---- between the compiler and what runs its bundles ---- */

/* Inputs that a function has when it draws random numbers, or asks for them: what the trainer feeds.  All 0 where nobody
 * does. */
#define PORT_SEED "seed"       /* i32 [2], the lower word first */
#define PORT_STEP "step"       /* i32 [], counted from 1 */
#define PORT_STEPS "steps"     /* i32 [], of the whole training */
#define PORT_EXAMPLE "example" /* i32 [B], numbers of the samples */

/* Outputs of a step of training, f32 []: one that says whether gradients are finite, and one that does where a step lacks
 * it: the largest of the absolute values that it writes (passes/train.c). */
#define PORT_GRAD_NORM "grad_norm"
#define PORT_LARGEST "largest_value"

/* The step of a decode, over R rows. */
#define STEP_ROWS "rows"                  /* i32 [R, 2]: sample, position */
#define STEP_ROW_SLOT "row_slot"          /* i32 [R]: the row of the rings that it writes */
#define STEP_SLOTS "slots"                /* i32 [positions]: the slot of every position */
#define STEP_LOGITS "logits"              /* f32 [R, vocab] */

/* ---- metadata of files that one room writes and another reads ---- */

#define META_FORMAT "format"
#define META_OPTIONS "options"            /* of weights: their model's, "name=value" a line */
#define META_SOURCE "source"              /* of weights: {"nuwa.lua": text, ...}, all Lua files of their model */
#define META_RECIPE "recipe"              /* JSON: all that shaped what the file holds */

#endif
