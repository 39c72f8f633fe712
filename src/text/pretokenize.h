/*
 * Pre-tokenization: a text is cut by one pattern after the other, each applied to the pieces of the one before, and the
 * last pieces ("words") go to the merges. Nothing is ever joined across a cut.
 */
#ifndef DSPARK_TEXT_PRETOKENIZE_H
#define DSPARK_TEXT_PRETOKENIZE_H

#include "text/buffer.h"
#include "text/regex.h"

/* What becomes of a match. */
typedef enum ds_split_behavior {
    DS_SPLIT_ISOLATED,             /* a piece of its own */
    DS_SPLIT_REMOVED,              /* dropped */
    DS_SPLIT_CONTIGUOUS,           /* neighbouring matches are one piece */
    DS_SPLIT_MERGED_WITH_PREVIOUS, /* the end of the piece before, if that is no match */
    DS_SPLIT_MERGED_WITH_NEXT      /* the beginning of the piece behind, if that is no match */
} ds_split_behavior;

struct ds_split {
    struct ds_regex *regex; /* owned */
    ds_split_behavior behavior;
    bool invert; /* what the pattern does not match counts as the match */
};

enum { DS_PRETOKENIZER_MAX = 16 };

/* Zero is a pre-tokenizer that cuts nothing. */
struct ds_pretokenizer {
    struct ds_split splits[DS_PRETOKENIZER_MAX];
    uint32_t count;
    bool prefix_space;      /* pieces that do not begin with ' ' get one */
    uint32_t prefix_before; /* this split (or `count`: at the end) */
};

/* Takes the pattern; DS_ERROR_UNSUPPORTED when there are too many. */
ds_status ds_pretokenizer_add(struct ds_pretokenizer *pre, const char *pattern, size_t length, bool literal,
                              ds_split_behavior behavior, bool invert, struct ds_error *err);
void ds_pretokenizer_free(struct ds_pretokenizer *pre); /* what it owns */

/* The pattern of GPT-2, which "ByteLevel" brings with it. */
extern const char ds_gpt2_pattern[];

/* Scratch of one thread. Zero it to start. */
struct ds_pretokenizer_work {
    struct ds_regex_match *matches[DS_PRETOKENIZER_MAX];
    struct ds_buffer prefixed;
};
void ds_pretokenizer_work_free(struct ds_pretokenizer_work *work);

typedef ds_status (*ds_word_fn)(void *user, const char *word, size_t length, struct ds_error *err);

/* Calls `fn` for each word of `text` (valid UTF-8), in order; stops at the first failure. */
ds_status ds_pretokenize(const struct ds_pretokenizer *pre, struct ds_pretokenizer_work *work, const char *text, size_t length,
                         ds_word_fn fn, void *user, struct ds_error *err);

#endif
