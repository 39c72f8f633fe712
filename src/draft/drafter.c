#include "draft/drafter.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

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
    if (d->model->has_confidence) d->block_outputs.confidence = ds_view_of(d->block.at.out_scores, DS_ELEM_F32, g, 1); /* read with the tokens */
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
 * The rows' positions, sequences and pages are the target's own. What is quantised on the way raises no flag of the target's: a drafter's overflow
 * is not its failure. A drafter in steps pairs a row with the token drawn behind it, which is the draft it was accepted with or the one in its place.
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

/* Where a launch costs nothing (a processor, a device without recordings) rows that are rejected would cost more than is gained. */
static bool joins(const struct ds_drafter *d, uint32_t rows) {
    const struct ds_target_params *target = &d->target->params;
    const struct ds_device_fns *fns = target->device->fns;
    return !d->bridged && d->params.stream == target->stream && fns->graph_create && !fns->host && rows <= DS_JOINED_ROWS &&
           (!d->model->arch->steps || rows <= target->out_rows);
}

const struct ds_history *ds_drafter_history(const struct ds_drafter *d) { return d->bridged ? &d->own_history : &d->target->history; }

static struct ds_view sampled_view(const struct ds_drafter *d, struct ds_buffer *buffer) {
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
    if (extensions) rows.sampled = ds_view_first_rows(sampled_view(d, d->sampled), slots);
    if (extensions & DS_EXTENDS_ADJUST) rows.history = ds_drafter_history(d);
    rows.rejects = extensions & DS_EXTENDS_REJECT;
    const struct ds_draft_outputs *all = &d->block_outputs;
    const struct ds_draft_outputs outputs = {.confidence = ds_view_first_rows(all->confidence, slots), .hidden = ds_view_first_rows(all->hidden, slots),
                                             .base_logits = ds_view_first_rows(all->base_logits, slots), .logits = ds_view_first_rows(all->logits, slots)};
    d->model->arch->build_block(d->model, graph, &rows, &cache, &outputs);
    return finish_graph(d, graph, out, err);
}

static ds_status build_graphs(struct ds_drafter *d, struct ds_error *err) {
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

static void destroy_graphs(struct ds_drafter *d) {
    for (size_t i = 0; i < DS_MAX_BUCKETS; i++) {
        ds_graph_destroy(d->context_graphs[i]);
        ds_graph_destroy(d->joined_graphs[i]);
        d->context_graphs[i] = d->joined_graphs[i] = NULL;
    }
    destroy_block_graphs(d->block_graphs);
}

/* Slots double; sequences, too, with a step in between. */
static void choose_sizes(struct ds_drafter *d) {
    static const uint32_t widths[] = {1, 2, 3, 4, 6, 8, 12};
    d->n_widths = d->n_lengths = 0;
    for (size_t i = 0; i < DS_COUNT(widths) && widths[i] < d->most_sequences; i++) d->widths[d->n_widths++] = widths[i];
    d->widths[d->n_widths++] = d->most_sequences;
    for (uint32_t slots = 1; slots < d->model->block_size; slots *= 2) d->lengths[d->n_lengths++] = slots;
    d->lengths[d->n_lengths++] = d->model->block_size;
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
    d->following = malloc(rows * sizeof *d->following);
    if (!d->following) return ds_fail_memory(err, rows * sizeof *d->following, "tokens behind context rows");
    d->fed = malloc(rows * sizeof *d->fed);
    if (!d->fed) return ds_fail_memory(err, rows * sizeof *d->fed, "context rows");
    d->confidence = calloc(g, sizeof *d->confidence);
    if (!d->confidence) return ds_fail_memory(err, g * sizeof *d->confidence, "confidences");
    if (d->bridged) {
        const uint64_t bytes = ds_view_bytes(&d->features);
        d->host_features = malloc((size_t)bytes);
        if (!d->host_features) return ds_fail_memory(err, (size_t)bytes, "features on their way between devices");
    }
    d->n_buckets = ds_row_buckets(rows, d->buckets);
    choose_sizes(d);
    return build_graphs(d, err);
}

ds_status ds_drafter_plan(struct ds_drafter *d, struct ds_draft_model *model, struct ds_target *target,
                          const struct ds_drafter_params *params, struct ds_error *err) {
    *d = (struct ds_drafter){.model = model, .params = *params, .target = target, .bridged = params->device != target->params.device,
                             .most_sequences = DS_MAX(params->sequences, 1)};
    assert(d->most_sequences <= DS_MOST_DRAFTING);
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

void ds_drafter_release(struct ds_drafter *d) {
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
    if (status != DS_OK) ds_drafter_release(d);
    return status;
}

/* --- extensions --- */

static ds_status extend_memory(struct ds_drafter *d, uint32_t extensions, struct ds_error *err) {
    struct ds_device *device = d->params.device, *home = d->target->params.device;
    const struct ds_pager *pager = d->target->params.pager;
    const struct ds_view all = sampled_view(d, NULL);
    if (!d->sampled) DS_TRY(device->fns->buffer_create(device, ds_view_bytes(&all), &d->sampled, err));
    if (!d->bridged) return DS_OK;
    if ((extensions & DS_EXTENDS_ADJUST) && !d->own_history.buffer)
        DS_TRY(ds_history_create(&d->own_history, device, pager->sequences, pager->pages_per_sequence * DS_PAGE, err));
    if ((extensions & DS_EXTENDS_REJECT) && !d->host_sampled) {
        const size_t row = 4 * (size_t)all.cols;
        d->host_sampled = malloc(row);
        if (!d->host_sampled) return ds_fail_memory(err, row, "logits on their way between devices");
    }
    return (extensions & DS_EXTENDS_REJECT) && !d->crossed ? home->fns->buffer_create(home, ds_view_bytes(&all), &d->crossed, err) : DS_OK;
}

ds_status ds_drafter_extend(struct ds_drafter *d, uint32_t extensions, struct ds_view *drafted, struct ds_error *err) {
    const uint32_t all = d->extensions | extensions;
    DS_TRY(extend_memory(d, all, err));
    *drafted = sampled_view(d, d->bridged ? d->crossed : d->sampled);
    if (all == d->extensions) return DS_OK;
    struct ds_graph *graphs[DS_DRAFT_WIDTHS][DS_DRAFT_LENGTHS] = {0};
    ds_status status = DS_OK;
    for (uint32_t w = 0; status == DS_OK && w < d->n_widths; w++)
        for (uint32_t l = 0; status == DS_OK && l < d->n_lengths; l++) status = build_block_graph(d, w, l, all, &graphs[w][l], err);
    if (status != DS_OK) {
        destroy_block_graphs(graphs);
        return status;
    }
    destroy_block_graphs(d->extended);
    memcpy(d->extended, graphs, sizeof graphs);
    d->extensions = all;
    return DS_OK;
}

static void destroy_joined(struct ds_graph *graphs[DS_MAX_BUCKETS]) {
    for (size_t i = 0; i < DS_MAX_BUCKETS; i++) ds_graph_destroy(graphs[i]);
}

ds_status ds_drafter_join_extended(struct ds_drafter *d, struct ds_error *err) {
    struct ds_graph *graphs[DS_MAX_BUCKETS] = {0};
    ds_status status = DS_OK;
    if (d->joined_extensions == d->target->extensions) return DS_OK;
    for (uint32_t i = 0; status == DS_OK && i < d->n_joined; i++) status = build_joined_graph(d, i, true, &graphs[i], err);
    if (status != DS_OK) {
        destroy_joined(graphs);
        return status;
    }
    destroy_joined(d->joined_extended);
    memcpy(d->joined_extended, graphs, sizeof graphs);
    d->joined_extensions = d->target->extensions;
    return DS_OK;
}

void ds_drafter_free(struct ds_drafter *d) {
    destroy_graphs(d);
    destroy_joined(d->joined_extended);
    destroy_block_graphs(d->extended);
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

/* The target's taps, when they lie on another device. */
static ds_status bridge(struct ds_drafter *d, uint32_t n_rows, struct ds_error *err) {
    const struct ds_target *t = d->target;
    const uint64_t bytes = (uint64_t)n_rows * d->features.cols * 4;
    DS_TRY(t->params.device->fns->read(t->params.stream, t->taps.at, d->host_features, bytes, err));
    return d->params.device->fns->write(d->params.stream, d->features.at, d->host_features, bytes, err);
}

/* --- context --- */

/* Where the last context feature of a sequence is kept. */
static struct ds_slice carry_of(const struct ds_drafter *d, int32_t sequence) {
    return ds_slice_add(d->carry.at, 4 * (uint64_t)d->carry.cols * (uint32_t)sequence);
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
        DS_TRY(d->params.device->fns->copy(d->params.stream, carry_of(d, d->fed[i].sequence), from, bytes, err));
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

/* --- drafting --- */

/*
 * Rows are slot-major: row k * width + s. Sequences that the graph has room for and nobody asked about stand at position -1; drafts nobody
 * asked for are greedy.
 */
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
        if (s < sequences) continue;
        for (uint32_t k = 0; k < d->model->block_rows; k++) {
            const uint32_t row = k * d->width + s;
            d->block.in_ids[row] = d->block.in_sequences[row] = d->block.in_visible[row] = d->block.in_causal[row] = 0;
            d->block.in_positions[row] = -1;
        }
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

/* The features that drafters in steps go on from. */
static ds_status carry_over(struct ds_drafter *d, struct ds_error *err) {
    const uint64_t bytes = 4 * (uint64_t)d->carry.cols;
    for (uint32_t s = 0; s < d->drafting; s++) {
        assert(d->block.in_positions[s] >= 0); /* there is context */
        const struct ds_slice to = ds_slice_add(d->carried.at, s * bytes);
        DS_TRY(d->params.device->fns->copy(d->params.stream, to, carry_of(d, d->block.in_sequences[s]), bytes, err));
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
    if (d->model->has_confidence) memcpy(d->confidence, d->block.out_scores, d->slots * d->width * sizeof *d->confidence);
}

ds_status ds_drafter_run(struct ds_drafter *d, struct ds_error *err) {
    DS_TRY(ds_drafter_begin_run(d, err));
    DS_TRY(ds_rows_read(&d->block, d->params.stream, err));
    keep_confidences(d);
    return DS_OK;
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

ds_status ds_drafter_block(struct ds_drafter *d, int32_t sequence, uint32_t position, int32_t anchor, const struct ds_sample_row *sample,
                           uint32_t slots, struct ds_error *err) {
    ds_drafter_begin(d, 1, slots);
    ds_drafter_set(d, 0, sequence, position, anchor);
    for (uint32_t k = 0; k < slots; k++) *ds_drafter_sample(d, 0, k) = sample[k];
    return ds_drafter_run(d, err);
}

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
