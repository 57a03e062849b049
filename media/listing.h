/* What a folder of examples holds: which files, what belongs to which, and captions of tables.  Or what archives hold.
 *
 * A listing is a file that is mapped, so that a million examples cost no heap.  It is kept in a cache folder under a
 * name made of the folder's own, and read again when everything listed still has the size and the time that it had;
 * else, and where the file is damaged or of another version, it is made anew.  It may be deleted at any time, and any
 * number of processes may make it at once: who is last has made the one that stays.  Without a cache folder, or where
 * that cannot be written, it is on the heap. */
#ifndef NUWA_LISTING_H
#define NUWA_LISTING_H

#include <sys/stat.h>

#include "media/captions.h"
#include "media/dataset.h"
#include "runtime/base/file.h"
#include "runtime/base/sha256.h"

/* The examples come first, in the order of their paths' bytes; then what else is watched. */
typedef enum FileKind {
  FILE_PICTURE, /* an example, as the next two */
  FILE_CLIP,
  FILE_FRAMES,  /* the folder NAME.frames: a clip of which each frame is a picture within */
  FILE_FRAME,   /* one of these */
  FILE_FRAME_LABELS, /* NAME.labels.png among them: what the frame NAME shows */
  FILE_TEXT,    /* NAME.txt: captions of the example NAME */
  FILE_LABELS,  /* NAME.labels.png: what its pixels show */
  FILE_TABLE,   /* captions.txt, metadata.jsonl */
  FILE_FOLDER,
  FILE_SHARD,   /* an archive whose members the examples are */
  FILE_NOWHERE, /* a link to what is not there */
  FILE_OTHER,   /* counted, not listed */
} FileKind;

enum { /* what belongs to an example; of a table, captions; of a shard's JSON, a text or none */
  HAS_TEXT = 1, HAS_LABELS = 2, HAS_TABLE = 4, HAS_JSON = 8, HAS_CLASS = 16, HAS_FRAME_LABELS = 32
};

typedef struct ListedFile {
  uint64_t path; /* relative to the root ("" is the root itself); where it begins in Listing.paths */
  int64_t size;
  int64_t mtime_ns;
  uint8_t kind, has, zero[6];
} ListedFile;

/* Where the members of an example of a shard lie. */
typedef enum MemberPart { MEMBER_PICTURE, MEMBER_TEXT, MEMBER_JSON, MEMBER_LABELS, MEMBER_PARTS } MemberPart;
typedef struct ListedMember {
  uint64_t at[MEMBER_PARTS], bytes[MEMBER_PARTS];
  uint32_t shard; /* which of the shards, in their order, which is that of the files behind the examples */
  int32_t class_id;
} ListedMember;

/* What was found that no example uses. */
typedef enum ListingNote {
  NOTE_OTHER,         /* files of other kinds */
  NOTE_EMPTY_TEXT,
  NOTE_LONE_TEXT,     /* of no example, as the next two */
  NOTE_LONE_LABELS,
  NOTE_LONE_CAPTION,  /* in a table */
  NOTE_NOWHERE,       /* links */
  NOTE_LISTED_BEFORE, /* links to folders that are listed under another path */
  NOTE_BAD_NAME,      /* members of no key, or with a path that leaves the archive */
  NOTE_TWICE,         /* members that their example has already */
  NOTE_LONE_MEMBER,   /* of no picture */
  NOTE_BAD_CLASS,     /* .cls that are no class */
  NOTE_BAD_JSON,      /* .json that are no object, or too large a one */
  NOTE_NO_EXAMPLE,    /* shards */
  NOTE_CUT,           /* shards that end early, or are damaged: with the reason */
  LISTING_NOTES
} ListingNote;

typedef struct ListingCount {
  uint64_t n;
  char first[120]; /* by name, perhaps cut short */
} ListingCount;

/* How the file begins; then come the files, the captions' items, members (of shards, one an example), the root, all
 * paths, and the captions' text. */
typedef struct ListingHead {
  char magic[8];
  uint32_t byte_order, head_bytes;
  uint8_t rules[32]; /* digest of what says how a folder is listed */
  uint64_t n_example, n_file, n_caption, n_member, root_bytes, path_bytes, caption_bytes;
  ListingCount note[LISTING_NOTES];
  char digest[72]; /* SHA-256, in hexadecimal, of names and sizes of all that examples use, and of the tables */
  uint64_t is_settled; /* 0: something changed so shortly before that a later change might show the same time */
  uint8_t sum[32]; /* SHA-256 of all that follows, then of what stands before */
} ListingHead;

typedef struct Listing {
  ListingHead head;
  const ListedFile *file;     /* [n_file] */
  const ListedMember *member; /* [n_member] */
  const char *paths;
  CaptionTable captions;
  /* where these lie: */
  FileMap map;
  ListedFile *own_file;
  ListedMember *own_member;
  Buffer own_paths;
  Captions own_captions;
} Listing;

/* Lists the folder, or reads what is kept of it.  o's cache may be NULL, and a cache that cannot be used is told by o's
 * warn and is no failure.  NULL with err set: the folder cannot be read. */
Listing *listing_open(const char *root, const DatasetOptions *o, Error *err);
/* The same of shards: tar files whose names are a path, the last part of which may hold one range {000..031}. */
Listing *listing_open_shards(const char *pattern, const DatasetOptions *o, Error *err);
void listing_close(Listing *l); /* NULL is fine */
/* What was found that no example uses, as lines; appended. */
void listing_print_notes(const Listing *l, Buffer *out);
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
/* Lists shards (listing_shards.c). */
bool listing_make_shards(Listing *l, const char *pattern, Error *err);
/* The suffixes and all else that decides what a listing is, appended. */
void listing_print_rules(Buffer *out);
/* Reads the bytes of a file, which must stay; false with why they are none.  The sum is not checked. */
bool listing_parse(Listing *l, const uint8_t *bytes, size_t n, const char *root, Error *err);
void listing_done(Listing *l);
/* Counts a note; the first by name, so that it depends on no order of the file system's. */
void listing_count(Listing *l, ListingNote note, const char *path);
/* Size and time of a file; begin_ns: when listing began. */
void listing_stamp(Listing *l, ListedFile *f, const struct stat *st, int64_t begin_ns);
/* All is on the heap, and `digest` has seen it. */
void listing_finish(Listing *l, Sha256 *digest);
/* Whether the first bytes of a WebP file say that it is a clip. */
bool listing_webp_moves(const uint8_t *bytes, size_t n);

#endif
