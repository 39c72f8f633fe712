/*
 * Added tokens: texts found in the input before it is split into words. Matching is leftmost-longest without overlap, as
 * the reference implementation's automaton does it, its quirks included: a match that is then turned down (a special
 * token where special tokens are plain text, a single word inside a word) has still consumed its text.
 */
#ifndef DSPARK_TEXT_ADDED_H
#define DSPARK_TEXT_ADDED_H

#include "base/arena.h"
#include "ckpt/checkpoint.h"

/* A longer one is refused by the loaders: it bounds the work at each byte of a text. */
enum { DS_ADDED_MAX_BYTES = 1024 };

struct ds_added_token {
    struct ds_text content;
    int32_t id;
    bool special;
    bool single_word;    /* matches only between characters that are not of words */
    bool lstrip, rstrip; /* takes the blanks on its left, right with it */
};

struct ds_added_set {
    struct ds_added_token *tokens; /* sorted by content */
    uint32_t count;
    uint32_t first[257]; /* tokens that begin with byte b: first[b]..first[b + 1] */
};

/* Copies and sorts `count` tokens with non-empty contents; of equal contents the lowest id is found. */
ds_status ds_added_init(struct ds_added_set *set, const struct ds_added_token *tokens, uint32_t count, struct ds_arena *arena,
                        struct ds_error *err);

/* What is plain text although it is an added token. */
struct ds_added_filter {
    bool special;           /* special tokens are recognised */
    const int32_t *refused; /* these are not, whatever they are; may be NULL */
    size_t n_refused;
};

struct ds_added_scan {
    const struct ds_added_set *set;
    const char *text;
    size_t length;
    struct ds_added_filter filter;
    size_t searched, emitted; /* zero to start, as are the rest */
    bool pending;
    int32_t pending_id;
    size_t pending_end;
};

struct ds_segment {
    size_t start, length;
    int32_t id; /* -1: plain text */
};

/* The next segment of the text, in order; false at its end. Plain segments are never empty. */
bool ds_added_next(struct ds_added_scan *scan, struct ds_segment *segment);

#endif
