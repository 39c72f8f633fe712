/*
 * Inside src/draft: a drafter on one device (drafter.h), and what its files share.
 *
 *   drafter.c          its memory: planned, allocated, extended, given back
 *   drafter_graphs.c   its graphs
 *   drafter_context.c  the context pass: features of the target's rows become keys and values
 *   drafter_block.c    the drafting pass
 */
#ifndef DSPARK_DRAFT_DRAFTER_INTERNAL_H
#define DSPARK_DRAFT_DRAFTER_INTERNAL_H

#include "draft/drafter.h"

/*
 * Three kinds of graphs, each built twice: on planned memory, for the size of their scratch, and on the real one.
 *
 *   context   one for each bucket of rows
 *   joined    the same, behind the target's own pass over these rows: one launch in the place of two
 *   block     one for each number of sequences and of slots; extended ones heed penalties and draw by masses
 */

/* Numbers of rows, sequences and slots that there are graphs for. */
void ds_drafter_choose_sizes(struct ds_drafter *drafter);

/* All but the extended ones. On failure some may have been built: ds_drafter_destroy_graphs. */
ds_status ds_drafter_build_graphs(struct ds_drafter *drafter, struct ds_error *err);
void ds_drafter_destroy_graphs(struct ds_drafter *drafter);

/* Blocks with these extensions (enum ds_extension), in the place of those there are. On failure these stay. */
ds_status ds_drafter_extend_graphs(struct ds_drafter *drafter, uint32_t extensions, struct ds_error *err);
void ds_drafter_destroy_extended(struct ds_drafter *drafter); /* blocks and joined ones */

/* Steps: where the last context feature of a sequence is kept, which drafting goes on from. */
static inline struct ds_slice ds_drafter_carry_of(const struct ds_drafter *d, int32_t sequence) {
    return ds_slice_add(d->carry.at, 4 * (uint64_t)d->carry.cols * (uint32_t)sequence);
}

/* The logits that drafts are drawn from, in `buffer`. */
struct ds_view ds_drafter_sampled_view(const struct ds_drafter *drafter, struct ds_buffer *buffer);

#endif
