/* Names by which rooms know functions, ports and metadata that another room has made: each is said here, and nowhere
 * else (tests/names.sh).  Shapes: B samples, s frames, h rows, w columns. */
#ifndef NUWA_NAMES_H
#define NUWA_NAMES_H

/* ---- a contract with who writes models, and with who links the runtime (docs/bundle.md) ---- */

#define FUNC_ENCODE "encode"    /* of an autoencoder: image to codes */
#define FUNC_DECODE "decode"    /* of an autoencoder: codes to image; of a generating model: what is drawn with */
#define FUNC_LOSS "loss"        /* what is trained when nobody says otherwise */
#define PORT_IMAGE "image"      /* f32 [B, h, w, 3] in [-1, 1] */
#define PORT_VIDEO "video"      /* f32 [B, s, h, w, 3] */
#define PORT_TEXT "text"        /* i32 [B, n]: start, tokens, end, zeros */
#define PORT_LABELS "labels"    /* i32 [B, (s,) h, w]: what each pixel shows */
#define PORT_CODES "codes"      /* i32 [B, 1, h, w]: of one picture */
#define PORT_TOKENS "tokens"    /* i32 [B, s, h, w]: the codes of all frames */
#define PORT_SEEN "seen"        /* the tokens as a model reads them in training, some of them replaced */
#define PORT_LOSS "loss"        /* f32, a scalar */
#define SHIPPED_DRAWER "demo"   /* models/weights/NAME.safetensors: of the generating model, */
#define SHIPPED_IMAGE "demo_vq" /* and of its autoencoder */

/* ---- between the compiler and what runs its bundles ---- */

/* The training step.  Beside the loss's own it has inputs for what a schedule gives, and outputs from which one sees
 * whether the step was one; states hold two moments of every param. */
#define FUNC_TRAIN "train"
#define TRAIN_LR "lr"
#define TRAIN_CORRECTION1 "correction1"   /* 1 / (1 - beta1^step) */
#define TRAIN_CORRECTION2 "correction2"
#define TRAIN_GRAD_NORM "grad_norm"
#define TRAIN_GRAD_SQUARE "grad_square."  /* and a param's name: the sum of its gradient's squares */
#define TRAIN_MOMENTS "adam."             /* what the names of both begin with: */
#define TRAIN_MOMENT1 TRAIN_MOMENTS "m."  /* and a param's name */
#define TRAIN_MOMENT2 TRAIN_MOMENTS "v."

/* The step of a decode, over R rows. */
#define STEP_ROWS "rows"                  /* i32 [R, 2]: sample, position */
#define STEP_ROW_SLOT "row_slot"          /* i32 [R]: the row of the rings that it writes */
#define STEP_SLOTS "slots"                /* i32 [positions]: the slot of every position */
#define STEP_LOGITS "logits"              /* f32 [R, vocab] */

/* ---- metadata of files that one room writes and another reads ---- */

#define META_FORMAT "format"
#define META_OPTIONS "options"            /* of weights: their model's, "name=value" a line */
#define META_RECIPE "recipe"              /* JSON: all that shaped what the file holds */

#endif
