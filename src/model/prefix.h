/*
 * Prefix cache: pages of sequences that have been computed, kept for sequences that begin alike. A tree: each node is a page with the
 * tokens whose keys and values it holds, behind the pages of its ancestors. Only leaves may be partly filled.
 *
 * Host data only, and of tokens and page numbers alone: what a page holds depends on its tokens and those in front of them, so it is
 * right for whoever has the same. The drafter's half of a page can be missing (`drafted`). Not thread-safe: the engine's lock guards it,
 * as it does the pager.
 */
#ifndef DSPARK_MODEL_PREFIX_H
#define DSPARK_MODEL_PREFIX_H

#include "model/pages.h"

struct ds_prefix_node {
    int32_t page;
    uint32_t count; /* of its tokens: DS_PAGE, or fewer in a leaf; the root has none */
    bool drafted;   /* the drafter's context is there, too */
    bool taken;
    uint32_t parent, child, next; /* indices; 0: none */
    uint64_t used;                /* when it was last of use */
    int32_t tokens[DS_PAGE];
};

struct ds_prefix {
    struct ds_pager *pager;
    struct ds_prefix_node *nodes; /* [capacity + 1], owned; [0] is the root */
    uint32_t capacity, count;     /* pages: at most, now */
    int32_t *path;                /* [pages_per_sequence], owned: pages of the last match */
    uint64_t clock;
};

/* Keeps at most `capacity` pages, 0: none, and gives them back when the pager needs some. The pager must stay where it is and outlive it. */
ds_status ds_prefix_create(struct ds_pager *pager, uint32_t capacity, struct ds_prefix *out, struct ds_error *err);
void ds_prefix_free(struct ds_prefix *prefix); /* drops all pages; accepts a zeroed struct */

/*
 * How many of tokens[0..n) it holds from the first on, and in which pages: path[0..pages of so many positions). `drafted`: the drafter's
 * context is wanted, too.
 */
uint32_t ds_prefix_match(struct ds_prefix *prefix, const int32_t *tokens, uint32_t n, bool drafted);

/* Keeps the pages of tokens[0..n) of a sequence; `partial`: also the last one, if it is partly filled, which must then never be written again. */
void ds_prefix_insert(struct ds_prefix *prefix, int32_t sequence, const int32_t *tokens, uint32_t n, bool drafted, bool partial);

#endif
