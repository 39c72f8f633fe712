/*
 * A drafter on one device: cache, buffers and graphs, as target.h is for a target. Its pages are the target's pages.
 *
 * Runs belong to whoever holds the device lock.
 */
#ifndef DSPARK_DRAFT_DRAFTER_H
#define DSPARK_DRAFT_DRAFTER_H

#include "draft/draft.h"
#include "model/target.h"

struct ds_drafter_params {
    struct ds_device *device;
    struct ds_stream *stream;
    bool kv_f16;
    bool keep_outputs; /* hidden, base_logits and logits of a block stay readable: for comparison with references */
};

struct ds_drafter {
    struct ds_draft_model *model; /* borrowed */
    struct ds_drafter_params params;
    struct ds_target *target;             /* borrowed: taps, pager */
    bool bridged;                         /* on another device than the target: features cross through host memory */
    struct ds_rows_buffer context, block; /* rows of the two passes */
    struct ds_page_table pages;
    struct ds_cache_memory cache;
    struct ds_buffer planned_outputs, *outputs;
    struct ds_view features;              /* bridged: f32 [rows, n_taps * hidden] on our device */
    float *host_features;                 /* bridged: the same in host memory */
    struct ds_view feature_out;           /* steps, keep_outputs: f32 [rows, hidden], features of the last context rows */
    struct ds_view carry;                 /* steps: f32 [sequences, hidden], the last context feature of each sequence */
    struct ds_view carried;               /* steps: f32 [1, hidden], that of the sequence to draft for */
    struct ds_draft_outputs block_outputs;
    uint32_t n_buckets, buckets[DS_MAX_BUCKETS];
    struct ds_graph *context_graphs[DS_MAX_BUCKETS], *block_graph;
    uint64_t scratch_bytes;
    struct ds_buffer *scratch; /* borrowed */
    ds_token *following;       /* [rows] scratch for ds_drafter_context's caller; owned */
    float *confidence;         /* [block_size] after ds_drafter_block; owned */
};

/* `target` must be planned. On failure *drafter holds nothing. */
ds_status ds_drafter_plan(struct ds_drafter *drafter, struct ds_draft_model *model, struct ds_target *target,
                          const struct ds_drafter_params *params, struct ds_error *err);
uint64_t ds_drafter_own_bytes(const struct ds_drafter *drafter);
/* As ds_target_allocate, which comes first. */
ds_status ds_drafter_allocate(struct ds_drafter *drafter, struct ds_buffer *scratch, struct ds_error *err);
void ds_drafter_free(struct ds_drafter *drafter); /* accepts a zeroed struct */

/*
 * Takes the taps of rows 0..n_rows-1 of the target's last run in as context of `sequence` at positions first, first+1, ..
 * Pages for them must be reserved. `following`: the tokens at positions first+1, first+2, .. [n_rows]: a drafter in steps pairs
 * them with the features.
 */
ds_status ds_drafter_context(struct ds_drafter *drafter, int32_t sequence, uint32_t first, uint32_t n_rows, const ds_token *following,
                             struct ds_error *err);

/*
 * Drafts a block behind `anchor` at `position`; context of positions 0..position-1 is in. Pages for position + block_rows
 * positions must be reserved. Row k of `sample` says how draft k is drawn. Drafts: block.out_tokens[0..g); confidences,
 * before the sigmoid: drafter->confidence[0..g). A drafter in steps goes on from the last context row it took in, which must be
 * that of position - 1.
 */
ds_status ds_drafter_block(struct ds_drafter *drafter, int32_t sequence, uint32_t position, int32_t anchor,
                           const struct ds_sample_row *sample, struct ds_error *err);

#endif
