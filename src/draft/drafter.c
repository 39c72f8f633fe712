#include "draft/drafter.h"

#include <assert.h>
#include <stdlib.h>

static struct ds_view take(uint64_t *bytes, struct ds_buffer *buffer, uint32_t rows, uint32_t cols) {
    const struct ds_view view = ds_view_of((struct ds_slice){buffer, *bytes}, DS_ELEM_F32, rows, cols);
    *bytes += DS_ALIGN_UP(ds_view_bytes(&view), (uint64_t)DS_ALIGN);
    return view;
}

static void lay_out_outputs(struct ds_drafter *d, struct ds_buffer *buffer) {
    const struct ds_model_config *c = &d->model->config;
    const uint32_t g = d->model->block_size, rows = d->target->params.rows;
    uint64_t bytes = 0;
    d->block_outputs = (struct ds_draft_outputs){0};
    if (d->model->has_confidence) d->block_outputs.confidence = take(&bytes, buffer, g, 1);
    if (d->bridged) d->features = take(&bytes, buffer, rows, d->model->n_taps * d->model->target_hidden);
    if (d->model->arch->steps || d->params.keep_outputs) d->feature_out = take(&bytes, buffer, rows, c->hidden);
    if (d->model->arch->steps) {
        d->carry = take(&bytes, buffer, d->target->params.pager->sequences, c->hidden);
        d->carried = take(&bytes, buffer, 1, c->hidden);
    }
    if (d->params.keep_outputs) {
        d->block_outputs.hidden = take(&bytes, buffer, g, c->hidden);
        d->block_outputs.base_logits = take(&bytes, buffer, g, d->model->draft_vocabulary);
        d->block_outputs.logits = take(&bytes, buffer, g, d->model->draft_vocabulary);
    }
    d->planned_outputs.bytes = DS_MAX(bytes, (uint64_t)DS_ALIGN);
}

/* Plans the graph, and places it once the scratch is there. Owns nothing on failure. */
static ds_status finish_graph(struct ds_drafter *d, struct ds_graph *graph, struct ds_graph **out, struct ds_error *err) {
    uint64_t scratch = 0;
    ds_status status = ds_graph_plan(graph, &scratch, err);
    if (status == DS_OK && d->scratch) status = ds_graph_place(graph, d->scratch, err);
    if (status != DS_OK) {
        ds_graph_destroy(graph);
        return status;
    }
    d->scratch_bytes = DS_MAX(d->scratch_bytes, scratch);
    *out = graph;
    return DS_OK;
}

static ds_status build_graphs(struct ds_drafter *d, struct ds_error *err) {
    const struct ds_cache cache = {d->cache.layers, d->cache.n};
    for (uint32_t i = 0; i < d->n_buckets; i++) {
        struct ds_graph *graph = ds_graph_create(d->params.device);
        if (!graph) return ds_fail_memory(err, 0, "a graph");
        struct ds_rows rows = d->context.at;
        rows.rows = d->buckets[i];
        const struct ds_view features = ds_view_first_rows(d->bridged ? d->features : d->target->taps, rows.rows);
        d->model->arch->build_context(d->model, graph, &rows, &cache, features, ds_view_first_rows(d->feature_out, rows.rows));
        DS_TRY(finish_graph(d, graph, &d->context_graphs[i], err));
    }
    struct ds_graph *graph = ds_graph_create(d->params.device);
    if (!graph) return ds_fail_memory(err, 0, "a graph");
    const struct ds_draft_rows rows = {.rows = d->block.at, .sequences = 1, .carried = d->carried};
    d->model->arch->build_block(d->model, graph, &rows, &cache, &d->block_outputs);
    return finish_graph(d, graph, &d->block_graph, err);
}

static void destroy_graphs(struct ds_drafter *d) {
    for (size_t i = 0; i < DS_MAX_BUCKETS; i++) {
        ds_graph_destroy(d->context_graphs[i]);
        d->context_graphs[i] = NULL;
    }
    ds_graph_destroy(d->block_graph);
    d->block_graph = NULL;
}

static ds_status plan(struct ds_drafter *d, struct ds_error *err) {
    const struct ds_pager *pager = d->target->params.pager;
    const struct ds_model_config *c = &d->model->config;
    const uint32_t g = d->model->block_size, rows = d->target->params.rows;
    ds_page_table_plan(&d->pages, d->params.device, pager);
    const struct ds_slice table = ds_page_table_slice(&d->pages);
    DS_TRY(ds_rows_plan(&d->context, d->params.device, rows, 1, table, pager->sequences, pager->pages_per_sequence, err));
    DS_TRY(ds_rows_plan(&d->block, d->params.device, d->model->block_rows, g, table, pager->sequences, pager->pages_per_sequence, err));
    const struct ds_kv_shape shape = ds_config_kv_shape(c, 0); /* all layers are alike */
    DS_TRY(ds_cache_plan(&d->cache, d->params.device, c->layers, shape.kv_heads, shape.head_dim, pager->pages, d->params.kv_f16, err));
    lay_out_outputs(d, &d->planned_outputs);
    d->following = malloc(rows * sizeof *d->following);
    if (!d->following) return ds_fail_memory(err, rows * sizeof *d->following, "tokens behind context rows");
    d->confidence = calloc(g, sizeof *d->confidence);
    if (!d->confidence) return ds_fail_memory(err, g * sizeof *d->confidence, "confidences");
    if (d->bridged) {
        const uint64_t bytes = ds_view_bytes(&d->features);
        d->host_features = malloc((size_t)bytes);
        if (!d->host_features) return ds_fail_memory(err, (size_t)bytes, "features on their way between devices");
    }
    d->n_buckets = ds_row_buckets(rows, d->buckets);
    return build_graphs(d, err);
}

ds_status ds_drafter_plan(struct ds_drafter *d, struct ds_draft_model *model, struct ds_target *target,
                          const struct ds_drafter_params *params, struct ds_error *err) {
    *d = (struct ds_drafter){.model = model, .params = *params, .target = target, .bridged = params->device != target->params.device};
    const ds_status status = plan(d, err);
    destroy_graphs(d); /* they were built on planned memory, for their size */
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
    return build_graphs(d, err);
}

/* Back to what was planned. */
static void give_back(struct ds_drafter *d) {
    destroy_graphs(d);
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
    if (status != DS_OK) give_back(d);
    return status;
}

void ds_drafter_free(struct ds_drafter *d) {
    destroy_graphs(d);
    ds_buffer_drop(&d->outputs);
    ds_cache_free(&d->cache);
    ds_rows_free(&d->context);
    ds_rows_free(&d->block);
    ds_page_table_free(&d->pages);
    free(d->host_features);
    free(d->following);
    free(d->confidence);
    *d = (struct ds_drafter){0};
}

/* The target's taps, when they lie on another device. */
static ds_status bridge(struct ds_drafter *d, uint32_t n_rows, struct ds_error *err) {
    const struct ds_target *t = d->target;
    const uint64_t bytes = (uint64_t)n_rows * d->features.cols * 4;
    DS_TRY(t->params.device->fns->read(t->params.stream, t->taps.at, d->host_features, bytes, err));
    return d->params.device->fns->write(d->params.stream, d->features.at, d->host_features, bytes, err);
}

/* Where the last context feature of a sequence is kept. */
static struct ds_slice carry_of(const struct ds_drafter *d, int32_t sequence) {
    return ds_slice_add(d->carry.at, 4 * (uint64_t)d->carry.cols * (uint32_t)sequence);
}

ds_status ds_drafter_context(struct ds_drafter *d, int32_t sequence, uint32_t first, uint32_t n_rows, const ds_token *following,
                             struct ds_error *err) {
    assert(n_rows >= 1 && n_rows <= d->context.at.rows);
    for (uint32_t i = 0; i < n_rows; i++) {
        d->context.in_ids[i] = following[i];
        d->context.in_positions[i] = (int32_t)(first + i);
        d->context.in_sequences[i] = sequence;
    }
    *d->context.in_count = n_rows;
    if (d->bridged) DS_TRY(bridge(d, n_rows, err));
    DS_TRY(ds_page_table_sync(&d->pages, d->target->params.pager, d->params.stream, err));
    DS_TRY(ds_rows_write(&d->context, d->params.stream, err));
    uint32_t bucket = 0;
    while (d->buckets[bucket] < n_rows) bucket++;
    DS_TRY(ds_graph_run(d->context_graphs[bucket], d->params.stream, err));
    if (!d->model->arch->steps) return DS_OK;
    const uint64_t bytes = 4 * (uint64_t)d->carry.cols;
    return d->params.device->fns->copy(d->params.stream, carry_of(d, sequence), ds_slice_add(d->feature_out.at, (n_rows - 1) * bytes), bytes, err);
}

/* The rows of a drafting pass: struct ds_draft_arch says what they are. */
static void set_block_rows(struct ds_drafter *d, int32_t sequence, uint32_t position, int32_t anchor) {
    const uint32_t rows = d->model->block_rows;
    const bool steps = d->model->arch->steps;
    for (uint32_t k = 0; k < rows; k++) {
        d->block.in_ids[k] = k && !steps ? d->model->mask_token : anchor;
        d->block.in_positions[k] = (int32_t)(position + k - steps);
        d->block.in_sequences[k] = sequence;
        d->block.in_visible[k] = (int32_t)(position + (steps ? k : rows)); /* steps: up to itself; a block: all context and all of the block */
        d->block.in_causal[k] = d->block.in_positions[k] + 1;
    }
    *d->block.in_count = rows;
}

ds_status ds_drafter_block(struct ds_drafter *d, int32_t sequence, uint32_t position, int32_t anchor, const struct ds_sample_row *sample,
                           struct ds_error *err) {
    const uint32_t g = d->model->block_size;
    assert(position >= 1 || !d->model->arch->steps);
    set_block_rows(d, sequence, position, anchor);
    for (uint32_t k = 0; k < g; k++) d->block.in_sample[k] = sample[k];
    *d->block.in_out_count = g;
    DS_TRY(ds_page_table_sync(&d->pages, d->target->params.pager, d->params.stream, err));
    DS_TRY(ds_rows_write(&d->block, d->params.stream, err));
    if (d->model->arch->steps)
        DS_TRY(d->params.device->fns->copy(d->params.stream, d->carried.at, carry_of(d, sequence), 4 * (uint64_t)d->carry.cols, err));
    DS_TRY(ds_graph_run(d->block_graph, d->params.stream, err));
    DS_TRY(ds_rows_read(&d->block, d->params.stream, err));
    if (!d->model->has_confidence) return DS_OK;
    return d->params.device->fns->read(d->params.stream, d->block_outputs.confidence.at, d->confidence, g * sizeof *d->confidence, err);
}
