/* The memory of a drafter: planned, allocated, extended, given back. */
#include "draft/drafter_internal.h"

#include <assert.h>
#include <stdlib.h>

static struct ds_view take(uint64_t *bytes, struct ds_buffer *buffer, uint32_t rows, uint32_t cols) {
    const struct ds_view view = ds_view_of((struct ds_slice){buffer, *bytes}, DS_ELEM_F32, rows, cols);
    *bytes += DS_ALIGN_UP(ds_view_bytes(&view), (uint64_t)DS_ALIGN);
    return view;
}

static void lay_out_outputs(struct ds_drafter *d, struct ds_buffer *buffer) {
    const struct ds_model_config *c = &d->model->config;
    const uint32_t g = d->model->block_size * d->most_sequences, rows = d->target->params.rows;
    uint64_t bytes = 0;
    d->block_outputs = (struct ds_draft_outputs){0};
    d->block_outputs.confidence = ds_view_of(d->block.at.out_scores, DS_ELEM_F32, g, 1); /* read with the tokens */
    if (d->bridged) d->features = take(&bytes, buffer, rows, d->model->n_taps * d->model->target_hidden);
    if (d->model->arch->steps || d->params.keep_outputs) d->feature_out = take(&bytes, buffer, rows, c->hidden);
    if (d->model->arch->steps) {
        d->carry = take(&bytes, buffer, d->target->params.pager->sequences, c->hidden);
        d->carried = take(&bytes, buffer, d->most_sequences, c->hidden);
    }
    if (d->params.keep_outputs) {
        d->block_outputs.hidden = take(&bytes, buffer, g, c->hidden);
        d->block_outputs.base_logits = take(&bytes, buffer, g, d->model->draft_vocabulary);
        d->block_outputs.logits = take(&bytes, buffer, g, d->model->draft_vocabulary);
    }
    d->planned_outputs.bytes = DS_MAX(bytes, (uint64_t)DS_ALIGN);
}

const struct ds_history *ds_drafter_history(const struct ds_drafter *d) { return d->bridged ? &d->own_history : &d->target->history; }

static ds_status allocate_host(struct ds_drafter *d, uint32_t rows, uint32_t drafts, struct ds_error *err) {
    d->following = malloc(rows * sizeof *d->following);
    if (!d->following) return ds_fail_memory(err, rows * sizeof *d->following, "tokens behind context rows");
    d->fed = malloc(rows * sizeof *d->fed);
    if (!d->fed) return ds_fail_memory(err, rows * sizeof *d->fed, "context rows");
    d->confidence = calloc(drafts, sizeof *d->confidence);
    if (!d->confidence) return ds_fail_memory(err, drafts * sizeof *d->confidence, "confidences");
    if (!d->bridged) return DS_OK;
    const uint64_t bytes = ds_view_bytes(&d->features);
    d->host_features = malloc((size_t)bytes);
    return d->host_features ? DS_OK : ds_fail_memory(err, (size_t)bytes, "features on their way between devices");
}

static ds_status plan(struct ds_drafter *d, struct ds_error *err) {
    const struct ds_pager *pager = d->target->params.pager;
    const struct ds_model_config *c = &d->model->config;
    const uint32_t n = d->most_sequences, g = d->model->block_size * n, rows = d->target->params.rows;
    ds_page_table_plan(&d->pages, d->params.device, pager);
    const struct ds_slice table = ds_page_table_slice(&d->pages);
    DS_TRY(ds_rows_plan(&d->context, d->params.device, rows, 1, table, pager->sequences, pager->pages_per_sequence, 0, err));
    DS_TRY(ds_rows_plan(&d->block, d->params.device, d->model->block_rows * n, g, table, pager->sequences, pager->pages_per_sequence, 0, err));
    const struct ds_kv_shape shape = ds_config_kv_shape(c, 0); /* all layers are alike */
    DS_TRY(ds_cache_plan(&d->cache, d->params.device, c->layers, shape.kv_heads, shape.head_dim, pager->pages, d->params.kv_f16, err));
    lay_out_outputs(d, &d->planned_outputs);
    DS_TRY(allocate_host(d, rows, g, err));
    d->n_buckets = ds_row_buckets(rows, d->buckets);
    ds_drafter_choose_sizes(d);
    return ds_drafter_build_graphs(d, err);
}

ds_status ds_drafter_plan(struct ds_drafter *d, struct ds_draft_model *model, struct ds_target *target,
                          const struct ds_drafter_params *params, struct ds_error *err) {
    *d = (struct ds_drafter){.model = model, .params = *params, .target = target, .bridged = params->device != target->params.device,
                             .most_sequences = DS_MAX(params->sequences, 1)};
    assert(d->most_sequences <= DS_MOST_DRAFTING);
    const ds_status status = plan(d, err);
    ds_drafter_destroy_graphs(d); /* they were built on planned memory, for their size */
    if (status != DS_OK) ds_drafter_free(d);
    return status;
}

uint64_t ds_drafter_own_bytes(const struct ds_drafter *d) {
    return d->planned_outputs.bytes + d->context.planned.bytes + d->block.planned.bytes + d->pages.planned.bytes;
}

static ds_status allocate(struct ds_drafter *d, struct ds_buffer *scratch, struct ds_error *err) {
    DS_TRY(ds_page_table_allocate(&d->pages, err));
    DS_TRY(ds_rows_allocate(&d->context, ds_page_table_slice(&d->pages), err));
    DS_TRY(ds_rows_allocate(&d->block, ds_page_table_slice(&d->pages), err));
    DS_TRY(ds_cache_allocate(&d->cache, err));
    DS_TRY(d->params.device->fns->buffer_create(d->params.device, d->planned_outputs.bytes, &d->outputs, err));
    lay_out_outputs(d, d->outputs);
    d->scratch = scratch;
    return ds_drafter_build_graphs(d, err);
}

void ds_drafter_release(struct ds_drafter *d) {
    ds_drafter_destroy_graphs(d);
    ds_buffer_drop(&d->outputs);
    ds_buffer_drop(&d->cache.buffer);
    ds_buffer_drop(&d->block.buffer);
    ds_buffer_drop(&d->context.buffer);
    ds_buffer_drop(&d->pages.buffer);
    d->scratch = NULL;
}

ds_status ds_drafter_allocate(struct ds_drafter *d, struct ds_buffer *scratch, struct ds_error *err) {
    assert(!d->outputs && scratch->bytes >= d->scratch_bytes);
    const ds_status status = allocate(d, scratch, err);
    if (status != DS_OK) ds_drafter_release(d);
    return status;
}

/* --- extensions --- */

static ds_status extend_memory(struct ds_drafter *d, uint32_t extensions, struct ds_error *err) {
    struct ds_device *device = d->params.device, *home = d->target->params.device;
    const struct ds_pager *pager = d->target->params.pager;
    const struct ds_view all = ds_drafter_sampled_view(d, NULL);
    if (!d->sampled) DS_TRY(device->fns->buffer_create(device, ds_view_bytes(&all), &d->sampled, err));
    if (!d->bridged) return DS_OK;
    if ((extensions & DS_EXTENDS_ADJUST) && !d->own_history.buffer)
        DS_TRY(ds_history_create(&d->own_history, device, pager->sequences, pager->pages_per_sequence * DS_PAGE, err));
    if ((extensions & DS_EXTENDS_REJECT) && !d->host_sampled) {
        const size_t row = 4 * (size_t)all.cols;
        d->host_sampled = malloc(row);
        if (!d->host_sampled) return ds_fail_memory(err, row, "logits on their way between devices");
    }
    if ((extensions & DS_EXTENDS_REJECT) && !d->crossed) DS_TRY(home->fns->buffer_create(home, ds_view_bytes(&all), &d->crossed, err));
    return DS_OK;
}

ds_status ds_drafter_extend(struct ds_drafter *d, uint32_t extensions, struct ds_view *drafted, struct ds_error *err) {
    const uint32_t all = d->extensions | extensions;
    DS_TRY(extend_memory(d, all, err));
    *drafted = ds_drafter_sampled_view(d, d->bridged ? d->crossed : d->sampled);
    if (all == d->extensions) return DS_OK;
    DS_TRY(ds_drafter_extend_graphs(d, all, err));
    d->extensions = all;
    return DS_OK;
}

/* --- the end --- */

void ds_drafter_free(struct ds_drafter *d) {
    ds_drafter_destroy_graphs(d);
    ds_drafter_destroy_extended(d);
    ds_buffer_drop(&d->sampled);
    ds_buffer_drop(&d->crossed);
    ds_history_free(&d->own_history);
    free(d->host_sampled);
    ds_buffer_drop(&d->outputs);
    ds_cache_free(&d->cache);
    ds_rows_free(&d->context);
    ds_rows_free(&d->block);
    ds_page_table_free(&d->pages);
    free(d->host_features);
    free(d->following);
    free(d->confidence);
    free(d->fed);
    *d = (struct ds_drafter){0};
}
