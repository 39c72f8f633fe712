/* What graphs a drafter has, and how each is built. */
#include "draft/drafter_internal.h"

#include <string.h>

/* Slots double; sequences, too, with a step in between. */
void ds_drafter_choose_sizes(struct ds_drafter *d) {
    static const uint32_t widths[] = {1, 2, 3, 4, 6, 8, 12};
    d->n_widths = d->n_lengths = 0;
    for (size_t i = 0; i < DS_COUNT(widths) && widths[i] < d->most_sequences; i++) d->widths[d->n_widths++] = widths[i];
    d->widths[d->n_widths++] = d->most_sequences;
    for (uint32_t slots = 1; slots < d->model->block_size; slots *= 2) d->lengths[d->n_lengths++] = slots;
    d->lengths[d->n_lengths++] = d->model->block_size;
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

/* --- context --- */

static ds_status build_context_graph(struct ds_drafter *d, uint32_t bucket, struct ds_error *err) {
    const struct ds_cache cache = {d->cache.layers, d->cache.n};
    struct ds_graph *graph = ds_graph_create(d->params.device);
    if (!graph) return ds_fail_memory(err, 0, "a graph");
    struct ds_rows rows = d->context.at;
    rows.rows = d->buckets[bucket];
    const struct ds_view features = ds_view_first_rows(d->bridged ? d->features : d->target->taps, rows.rows);
    d->model->arch->build_context(d->model, graph, &rows, &cache, features, ds_view_first_rows(d->feature_out, rows.rows));
    return finish_graph(d, graph, &d->context_graphs[bucket], err);
}

/*
 * The rows' positions, sequences and pages are the target's own. What is quantised on the way raises no flag of the target's: a
 * drafter's overflow is not its failure. A drafter in steps pairs a row with the token drawn behind it, which is the draft it
 * was accepted with or the one in its place.
 */
static ds_status build_joined_graph(struct ds_drafter *d, uint32_t bucket, bool extended, struct ds_graph **out, struct ds_error *err) {
    const struct ds_cache cache = {d->cache.layers, d->cache.n};
    struct ds_graph *graph = ds_target_begin_graph(d->target, d->buckets[bucket], extended);
    if (!graph) return ds_fail_memory(err, 0, "a graph");
    struct ds_rows rows = d->target->rows.at;
    rows.rows = d->buckets[bucket];
    rows.flags = d->context.at.flags;
    if (d->model->arch->steps) rows.ids = rows.out_tokens;
    d->model->arch->build_context(d->model, graph, &rows, &cache, ds_view_first_rows(d->target->taps, rows.rows),
                                  ds_view_first_rows(d->feature_out, rows.rows));
    return finish_graph(d, graph, out, err);
}

/*
 * Where a launch costs nothing (a processor, a device without recordings) rows that are rejected would cost more than is
 * gained.
 */
static bool joins(const struct ds_drafter *d, uint32_t rows) {
    const struct ds_target_params *target = &d->target->params;
    const struct ds_device_fns *fns = target->device->fns;
    return !d->bridged && d->params.stream == target->stream && fns->graph_create && !fns->host && rows <= DS_JOINED_ROWS &&
           (!d->model->arch->steps || rows <= target->out_rows);
}

/* --- blocks --- */

struct ds_view ds_drafter_sampled_view(const struct ds_drafter *d, struct ds_buffer *buffer) {
    return ds_view_of((struct ds_slice){buffer, 0}, DS_ELEM_F32, d->model->block_size * d->most_sequences, d->model->config.vocabulary);
}

/* The graph for widths[w] sequences and lengths[l] slots. Rows of all graphs lie alike: slot-major. */
static ds_status build_block_graph(struct ds_drafter *d, uint32_t w, uint32_t l, uint32_t extensions, struct ds_graph **out,
                                   struct ds_error *err) {
    const struct ds_cache cache = {d->cache.layers, d->cache.n};
    const uint32_t n = d->widths[w], slots = d->lengths[l] * n;
    struct ds_graph *graph = ds_graph_create(d->params.device);
    if (!graph) return ds_fail_memory(err, 0, "a graph");
    struct ds_draft_rows rows = {.rows = d->block.at, .sequences = n, .slots = d->lengths[l], .carried = ds_view_first_rows(d->carried, n)};
    rows.rows.rows = d->model->block_rows * n;
    rows.rows.out_rows = slots;
    if (extensions) rows.sampled = ds_view_first_rows(ds_drafter_sampled_view(d, d->sampled), slots);
    if (extensions & DS_EXTENDS_ADJUST) rows.history = ds_drafter_history(d);
    rows.rejects = extensions & DS_EXTENDS_REJECT;
    const struct ds_draft_outputs *all = &d->block_outputs;
    const struct ds_draft_outputs outputs = {.confidence = ds_view_first_rows(all->confidence, slots), .hidden = ds_view_first_rows(all->hidden, slots),
                                             .base_logits = ds_view_first_rows(all->base_logits, slots), .logits = ds_view_first_rows(all->logits, slots)};
    d->model->arch->build_block(d->model, graph, &rows, &cache, &outputs);
    return finish_graph(d, graph, out, err);
}

/* --- all of them --- */

ds_status ds_drafter_build_graphs(struct ds_drafter *d, struct ds_error *err) {
    for (uint32_t i = 0; i < d->n_buckets; i++) DS_TRY(build_context_graph(d, i, err));
    for (d->n_joined = 0; d->n_joined < d->n_buckets && joins(d, d->buckets[d->n_joined]); d->n_joined++)
        DS_TRY(build_joined_graph(d, d->n_joined, false, &d->joined_graphs[d->n_joined], err));
    for (uint32_t w = 0; w < d->n_widths; w++)
        for (uint32_t l = 0; l < d->n_lengths; l++) DS_TRY(build_block_graph(d, w, l, 0, &d->block_graphs[w][l], err));
    return DS_OK;
}

static void destroy_block_graphs(struct ds_graph *graphs[DS_DRAFT_WIDTHS][DS_DRAFT_LENGTHS]) {
    for (size_t i = 0; i < DS_DRAFT_WIDTHS * DS_DRAFT_LENGTHS; i++) {
        struct ds_graph **graph = &graphs[i / DS_DRAFT_LENGTHS][i % DS_DRAFT_LENGTHS];
        ds_graph_destroy(*graph);
        *graph = NULL;
    }
}

static void destroy_row_graphs(struct ds_graph *graphs[DS_MAX_BUCKETS]) {
    for (size_t i = 0; i < DS_MAX_BUCKETS; i++) {
        ds_graph_destroy(graphs[i]);
        graphs[i] = NULL;
    }
}

void ds_drafter_destroy_graphs(struct ds_drafter *d) {
    destroy_row_graphs(d->context_graphs);
    destroy_row_graphs(d->joined_graphs);
    destroy_block_graphs(d->block_graphs);
}

/* --- extended ones --- */

ds_status ds_drafter_extend_graphs(struct ds_drafter *d, uint32_t extensions, struct ds_error *err) {
    struct ds_graph *graphs[DS_DRAFT_WIDTHS][DS_DRAFT_LENGTHS] = {0};
    ds_status status = DS_OK;
    for (uint32_t w = 0; status == DS_OK && w < d->n_widths; w++)
        for (uint32_t l = 0; status == DS_OK && l < d->n_lengths; l++) status = build_block_graph(d, w, l, extensions, &graphs[w][l], err);
    if (status != DS_OK) {
        destroy_block_graphs(graphs);
        return status;
    }
    destroy_block_graphs(d->extended);
    memcpy(d->extended, graphs, sizeof graphs);
    return DS_OK;
}

ds_status ds_drafter_join_extended(struct ds_drafter *d, struct ds_error *err) {
    struct ds_graph *graphs[DS_MAX_BUCKETS] = {0};
    ds_status status = DS_OK;
    if (d->joined_extensions == d->target->extensions) return DS_OK;
    for (uint32_t i = 0; status == DS_OK && i < d->n_joined; i++) status = build_joined_graph(d, i, true, &graphs[i], err);
    if (status != DS_OK) {
        destroy_row_graphs(graphs);
        return status;
    }
    destroy_row_graphs(d->joined_extended);
    memcpy(d->joined_extended, graphs, sizeof graphs);
    d->joined_extensions = d->target->extensions;
    return DS_OK;
}

void ds_drafter_destroy_extended(struct ds_drafter *d) {
    destroy_row_graphs(d->joined_extended);
    destroy_block_graphs(d->extended);
}
