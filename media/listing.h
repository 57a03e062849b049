/* What a folder of examples holds: which files, what belongs to which, and captions of tables.
 *
 * A listing is a file that is mapped, so that a million examples cost no heap.  It is kept in a cache folder under a
 * name made of the folder's own, and read again when everything listed still has the size and the time that it had;
 * else, and where the file is damaged or of another version, it is made anew.  It may be deleted at any time, and any
 * number of processes may make it at once: who is last has made the one that stays.  Without a cache folder, or where
 * that cannot be written, it is on the heap. */
#ifndef NUWA_LISTING_H
#define NUWA_LISTING_H

#include "media/captions.h"
#include "media/dataset.h"
#include "runtime/base/file.h"

/* The examples come first, in the order of their paths' bytes; then what else is watched. */
typedef enum FileKind {
  FILE_PICTURE, /* an example, as the next two */
  FILE_CLIP,
  FILE_FRAMES,  /* the folder NAME.frames: a clip of which each frame is a picture within */
  FILE_FRAME,   /* one of these */
  FILE_TEXT,    /* NAME.txt: captions of the example NAME */
  FILE_LABELS,  /* NAME.labels.png: what its pixels show */
  FILE_TABLE,   /* captions.txt, metadata.jsonl */
  FILE_FOLDER,
  FILE_NOWHERE, /* a link to what is not there */
  FILE_OTHER,   /* counted, not listed */
} FileKind;

enum { HAS_TEXT = 1, HAS_LABELS = 2, HAS_TABLE = 4 }; /* what belongs to an example; of a table, captions */

typedef struct ListedFile {
  uint64_t path; /* relative to the root ("" is the root itself); where it begins in Listing.paths */
  int64_t size;
  int64_t mtime_ns;
  uint8_t kind, has, zero[6];
} ListedFile;

/* What was found that no example uses. */
typedef enum ListingNote {
  NOTE_OTHER,         /* files of other kinds */
  NOTE_EMPTY_TEXT,
  NOTE_LONE_TEXT,     /* of no example, as the next two */
  NOTE_LONE_LABELS,
  NOTE_LONE_CAPTION,  /* in a table */
  NOTE_NOWHERE,       /* links */
  NOTE_LISTED_BEFORE, /* links to folders that are listed under another path */
  LISTING_NOTES
} ListingNote;

typedef struct ListingCount {
  uint64_t n;
  char first[120]; /* by name, perhaps cut short */
} ListingCount;

/* How the file begins; then come the files, the captions' items, the root, all paths, and the captions' text. */
typedef struct ListingHead {
  char magic[8];
  uint32_t byte_order, head_bytes;
  uint8_t rules[32]; /* digest of what says how a folder is listed */
  uint64_t n_example, n_file, n_caption, root_bytes, path_bytes, caption_bytes;
  ListingCount note[LISTING_NOTES];
  char digest[72]; /* SHA-256, in hexadecimal, of names and sizes of all that examples use, and of the tables */
  uint64_t is_settled; /* 0: something changed so shortly before that a later change might show the same time */
  uint8_t sum[32]; /* SHA-256 of all that follows, then of what stands before */
} ListingHead;

typedef struct Listing {
  ListingHead head;
  const ListedFile *file; /* [n_file] */
  const char *paths;
  CaptionTable captions;
  /* where these lie: */
  FileMap map;
  ListedFile *own_file;
  Buffer own_paths;
  Captions own_captions;
} Listing;

/* Lists the folder, or reads what is kept of it.  o's cache may be NULL, and a cache that cannot be used is told by o's
 * warn and is no failure.  NULL with err set: the folder cannot be read. */
Listing *listing_open(const char *root, const DatasetOptions *o, Error *err);
void listing_close(Listing *l); /* NULL is fine */
const char *listing_path(const Listing *l, uint64_t i);

/* What a name says its file is (and of a .webp its head, where the folder is listed). */
FileKind listing_kind(const char *path);
bool listing_is_example(FileKind k);
/* Where the suffix of a path begins; its end where it has none. */
size_t listing_suffix(const char *path);
/* The range of captions of example i in l's table; how many. */
size_t listing_captions(const Listing *l, uint64_t i, size_t *out_first);

/* The frames of example i, a folder of them: files *out_first and following, in the order of their names' bytes. */
uint64_t listing_frames(const Listing *l, uint64_t i, uint64_t *out_first);

/* ---- between the files of this module ---- */

/* Lists a folder on the heap (listing_make.c). */
bool listing_make(Listing *l, const char *root, Error *err);
/* The suffixes and all else that decides what a listing is, appended. */
void listing_print_rules(Buffer *out);
/* Reads the bytes of a file, which must stay; false with why they are none.  The sum is not checked. */
bool listing_parse(Listing *l, const uint8_t *bytes, size_t n, const char *root, Error *err);
void listing_done(Listing *l);

#endif
