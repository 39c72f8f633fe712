/*
 * Byte-pair merging: the pair with the lowest rank is joined first, the leftmost of equals, until no pair has a rank. A
 * priority queue over a doubly linked list: O(n log n) for a piece of n bytes, with 40 n bytes of scratch.
 */
#ifndef DSPARK_TEXT_BPE_H
#define DSPARK_TEXT_BPE_H

#include "text/ids.h"
#include "text/string_map.h"

struct ds_bpe {
    struct ds_bpe_pair *pairs; /* open addressing by (left, right) */
    size_t mask, count;
    int32_t *results;           /* by rank: the joined token */
    int32_t byte_ids[256];      /* -1: the vocabulary lacks this byte */
    int32_t unknown;            /* stands for a byte it lacks; -1: such a byte gives nothing, as in the reference */
    bool fuse_unknown;          /* neighbouring unknown bytes give one `unknown` */
    bool characters;            /* pieces start as characters, those that are no token as bytes */
    struct ds_string_map singles; /* characters that are tokens, for that */
    bool whole_words;           /* "ignore_merges": a piece that is a token is taken whole */
    struct ds_string_map words; /* bytes to id, for whole_words only */
};

/* Room for `merges` merges of ranks 0..merges - 1. */
ds_status ds_bpe_init(struct ds_bpe *bpe, size_t merges, struct ds_arena *arena, struct ds_error *err);
/* Of several ranks for one pair the last stays, as in the reference. */
void ds_bpe_add_merge(struct ds_bpe *bpe, uint32_t rank, int32_t left, int32_t right, int32_t result);

/* Scratch of one thread. Zero it to start; ds_bpe_work_free frees what it holds. */
struct ds_bpe_work {
    struct ds_bpe_symbol *symbols;
    uint64_t *heap;
    size_t capacity; /* symbols */
    size_t n_heap;
    uint64_t steps; /* heap comparisons and pair look-ups so far: what tests measure cost by */
};
void ds_bpe_work_free(struct ds_bpe_work *work);

/* Appends the ids of a piece. */
ds_status ds_bpe_encode(const struct ds_bpe *bpe, struct ds_bpe_work *work, const char *piece, size_t length,
                        struct ds_ids *out, struct ds_error *err);

#endif
