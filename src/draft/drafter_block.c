/* Blocks of drafts, for several sequences in one pass, and how they come to the host or to the target. */
#include "draft/drafter_internal.h"

#include <assert.h>
#include <string.h>

/* --- the rows of a pass, slot-major: slot k of sequence s in row k * width + s --- */

/* A sequence that the graph has room for and nobody asked about. */
static void leave_idle(struct ds_drafter *d, uint32_t s) {
    for (uint32_t k = 0; k < d->model->block_rows; k++) {
        const uint32_t row = k * d->width + s;
        d->block.in_ids[row] = d->block.in_sequences[row] = d->block.in_visible[row] = d->block.in_causal[row] = 0;
        d->block.in_positions[row] = -1;
    }
}

/* Drafts that nobody asked for are greedy. */
void ds_drafter_begin(struct ds_drafter *d, uint32_t sequences, uint32_t slots) {
    assert(sequences >= 1 && sequences <= d->most_sequences && slots >= 1 && slots <= d->model->block_size);
    uint32_t w = 0, l = 0;
    while (d->widths[w] < sequences) w++;
    while (d->lengths[l] < slots) l++;
    d->drafting = sequences;
    d->width = d->widths[w];
    d->slots = d->lengths[l];
    d->drafting_graph = d->block_graphs[w][l];
    d->extended_graph = d->extended[w][l];
    for (uint32_t s = 0; s < d->width; s++) {
        for (uint32_t k = s < sequences ? slots : 0; k < d->slots; k++) *ds_drafter_sample(d, s, k) = (struct ds_sample_row){.bias_row = -1};
        for (uint32_t k = 0; k < d->slots; k++) *ds_drafter_adjust(d, s, k) = (struct ds_adjust_row){.sequence = -1};
        if (s >= sequences) leave_idle(d, s);
    }
}

uint32_t ds_drafter_length(const struct ds_drafter *d, uint32_t slots) {
    uint32_t l = 0;
    while (l + 1 < d->n_lengths && d->lengths[l] < slots) l++;
    return d->lengths[l];
}

/* struct ds_draft_arch says what the rows are. */
void ds_drafter_set(struct ds_drafter *d, uint32_t s, int32_t sequence, uint32_t position, int32_t anchor) {
    const uint32_t rows = d->model->block_rows;
    const bool steps = d->model->arch->steps;
    for (uint32_t k = 0; k < rows; k++) {
        const uint32_t row = k * d->width + s;
        d->block.in_ids[row] = k && !steps ? d->model->mask_token : anchor;
        d->block.in_positions[row] = (int32_t)(position + k - steps);
        d->block.in_sequences[row] = sequence;
        d->block.in_visible[row] = (int32_t)(position + (steps ? k : rows)); /* steps: up to itself; a block: all context and all of the block */
        d->block.in_causal[row] = d->block.in_positions[row] + 1;
    }
}

struct ds_sample_row *ds_drafter_sample(struct ds_drafter *d, uint32_t s, uint32_t slot) { return &d->block.in_sample[slot * d->width + s]; }
struct ds_adjust_row *ds_drafter_adjust(struct ds_drafter *d, uint32_t s, uint32_t slot) { return &d->block.in_adjust[slot * d->width + s]; }
uint32_t ds_drafter_sampled_row(const struct ds_drafter *d, uint32_t s, uint32_t slot) { return slot * d->width + s; }
void ds_drafter_use_extended(struct ds_drafter *d) { d->drafting_graph = d->extended_graph; }
ds_token ds_drafter_token(const struct ds_drafter *d, uint32_t s, uint32_t slot) { return d->block.out_tokens[slot * d->width + s]; }
float ds_drafter_confidence(const struct ds_drafter *d, uint32_t s, uint32_t slot) { return d->confidence[slot * d->width + s]; }

/* --- the pass --- */

/* The features that drafters in steps go on from. */
static ds_status carry_over(struct ds_drafter *d, struct ds_error *err) {
    const uint64_t bytes = 4 * (uint64_t)d->carry.cols;
    for (uint32_t s = 0; s < d->drafting; s++) {
        assert(d->block.in_positions[s] >= 0); /* there is context */
        const struct ds_slice to = ds_slice_add(d->carried.at, s * bytes);
        DS_TRY(d->params.device->fns->copy(d->params.stream, to, ds_drafter_carry_of(d, d->block.in_sequences[s]), bytes, err));
    }
    return DS_OK;
}

ds_status ds_drafter_begin_run(struct ds_drafter *d, struct ds_error *err) {
    const uint32_t slots = d->slots * d->width;
    *d->block.in_count = d->model->block_rows * d->width;
    *d->block.in_out_count = slots;
    DS_TRY(ds_page_table_sync(&d->pages, d->target->params.pager, d->params.stream, err));
    DS_TRY(ds_rows_write(&d->block, d->params.stream, err));
    if (d->model->arch->steps) DS_TRY(carry_over(d, err));
    return ds_graph_run(d->drafting_graph, d->params.stream, err);
}

static void keep_confidences(struct ds_drafter *d) {
    memcpy(d->confidence, d->block.out_scores, d->slots * d->width * sizeof *d->confidence);
}

ds_status ds_drafter_run(struct ds_drafter *d, struct ds_error *err) {
    DS_TRY(ds_drafter_begin_run(d, err));
    DS_TRY(ds_rows_read(&d->block, d->params.stream, err));
    keep_confidences(d);
    return DS_OK;
}

ds_status ds_drafter_block(struct ds_drafter *d, int32_t sequence, uint32_t position, int32_t anchor, const struct ds_sample_row *sample,
                           uint32_t slots, struct ds_error *err) {
    ds_drafter_begin(d, 1, slots);
    ds_drafter_set(d, 0, sequence, position, anchor);
    for (uint32_t k = 0; k < slots; k++) *ds_drafter_sample(d, 0, k) = sample[k];
    return ds_drafter_run(d, err);
}

/* --- drafts that go to the target on the device --- */

uint64_t ds_drafter_results_bytes(const struct ds_draft_model *model, uint32_t sequences) {
    return ds_rows_results_bytes(model->block_size * DS_MAX(sequences, 1));
}

/* Drafts of one sequence lie `width` apart. */
ds_status ds_drafter_copy_tokens(const struct ds_drafter *d, uint32_t s, uint32_t n, struct ds_slice to, struct ds_error *err) {
    const struct ds_slice from = ds_slice_add(d->block.at.out_tokens, 4 * (uint64_t)s);
    if (d->width == 1) return n ? d->params.device->fns->copy(d->params.stream, to, from, 4 * (uint64_t)n, err) : DS_OK;
    for (uint32_t k = 0; k < n; k++) {
        const struct ds_slice token = ds_slice_add(from, 4 * (uint64_t)k * d->width);
        DS_TRY(d->params.device->fns->copy(d->params.stream, ds_slice_add(to, 4 * (uint64_t)k), token, 4, err));
    }
    return DS_OK;
}

ds_status ds_drafter_pass_on(const struct ds_drafter *d, struct ds_slice to, struct ds_error *err) {
    return ds_rows_pass_on(&d->block, d->params.stream, to, err);
}

void ds_drafter_take(struct ds_drafter *d, const uint8_t *results) {
    ds_rows_take(&d->block, results);
    keep_confidences(d);
}

/* --- rejection sampling --- */

ds_status ds_drafter_cross(struct ds_drafter *d, uint32_t s, uint32_t slots, struct ds_error *err) {
    const struct ds_target_params *home = &d->target->params;
    const uint64_t bytes = 4 * (uint64_t)d->model->config.vocabulary;
    for (uint32_t k = 0; d->bridged && k < slots; k++) {
        const uint64_t at = ds_drafter_sampled_row(d, s, k) * bytes;
        DS_TRY(d->params.device->fns->read(d->params.stream, (struct ds_slice){d->sampled, at}, d->host_sampled, bytes, err));
        DS_TRY(home->device->fns->write(home->stream, (struct ds_slice){d->crossed, at}, d->host_sampled, bytes, err));
    }
    return DS_OK;
}
