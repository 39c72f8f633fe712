/* Features of the target's rows become the drafter's context. */
#include "draft/drafter_internal.h"

#include <assert.h>

/* The target's taps, when they lie on another device. */
static ds_status bridge(struct ds_drafter *d, uint32_t n_rows, struct ds_error *err) {
    const struct ds_target *t = d->target;
    const uint64_t bytes = (uint64_t)n_rows * d->features.cols * 4;
    DS_TRY(t->params.device->fns->read(t->params.stream, t->taps.at, d->host_features, bytes, err));
    return d->params.device->fns->write(d->params.stream, d->features.at, d->host_features, bytes, err);
}

void ds_drafter_context_begin(struct ds_drafter *d) { d->context_rows = d->n_fed = 0; }

void ds_drafter_context_add(struct ds_drafter *d, int32_t sequence, uint32_t first, uint32_t row, uint32_t n, const ds_token *following) {
    assert(n >= 1 && row >= d->context_rows && row + n <= d->context.at.rows);
    struct ds_rows_buffer *rows = &d->context;
    for (uint32_t i = d->context_rows; i < row; i++) { /* passed over */
        rows->in_ids[i] = rows->in_positions[i] = -1;
        rows->in_sequences[i] = sequence;
    }
    for (uint32_t i = 0; i < n; i++) {
        rows->in_ids[row + i] = following[i];
        rows->in_positions[row + i] = (int32_t)(first + i);
        rows->in_sequences[row + i] = sequence;
    }
    d->context_rows = row + n;
    d->fed[d->n_fed++] = (struct ds_fed){sequence, row + n - 1};
}

/* The features that drafting goes on from. */
static ds_status keep_carries(struct ds_drafter *d, struct ds_error *err) {
    const uint64_t bytes = 4 * (uint64_t)d->carry.cols;
    for (uint32_t i = 0; d->model->arch->steps && i < d->n_fed; i++) {
        const struct ds_slice from = ds_slice_add(d->feature_out.at, d->fed[i].row * bytes);
        DS_TRY(d->params.device->fns->copy(d->params.stream, ds_drafter_carry_of(d, d->fed[i].sequence), from, bytes, err));
    }
    return DS_OK;
}

ds_status ds_drafter_context_run(struct ds_drafter *d, struct ds_error *err) {
    const uint32_t n_rows = d->context_rows;
    if (!n_rows) return DS_OK;
    *d->context.in_count = n_rows;
    if (d->bridged) DS_TRY(bridge(d, n_rows, err));
    DS_TRY(ds_page_table_sync(&d->pages, d->target->params.pager, d->params.stream, err));
    DS_TRY(ds_rows_write(&d->context, d->params.stream, err));
    uint32_t bucket = 0;
    while (d->buckets[bucket] < n_rows) bucket++;
    DS_TRY(ds_graph_run(d->context_graphs[bucket], d->params.stream, err));
    return keep_carries(d, err);
}

struct ds_graph *ds_drafter_joined_graph(const struct ds_drafter *d, uint32_t rows, uint32_t outputs, bool extended) {
    uint32_t bucket = 0;
    if (d->model->arch->steps && outputs != rows) return NULL;
    while (bucket < d->n_joined && d->buckets[bucket] < rows) bucket++;
    return bucket < d->n_joined ? (extended ? d->joined_extended : d->joined_graphs)[bucket] : NULL;
}

ds_status ds_drafter_context_joined(struct ds_drafter *d, struct ds_error *err) { return keep_carries(d, err); }

ds_status ds_drafter_context(struct ds_drafter *d, int32_t sequence, uint32_t first, uint32_t n_rows, const ds_token *following,
                             struct ds_error *err) {
    ds_drafter_context_begin(d);
    ds_drafter_context_add(d, sequence, first, 0, n_rows, following);
    return ds_drafter_context_run(d, err);
}
