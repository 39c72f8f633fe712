#include "model/stages.h"

#include "model/target.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static bool is_cut(const struct ds_target *target) { return target->n_stages > 1; }

/* --- what crosses --- */

struct cursor {
    struct ds_buffer *buffer;
    uint64_t bytes;
};

static struct ds_slice take(struct cursor *cursor, uint64_t bytes) {
    const struct ds_slice slice = {cursor->buffer, cursor->bytes};
    cursor->bytes += DS_ALIGN_UP(bytes, (uint64_t)DS_ALIGN);
    return slice;
}

static struct ds_view take_rows(struct cursor *cursor, uint32_t rows, uint32_t cols) {
    return ds_view_of(take(cursor, 4 * (uint64_t)rows * cols), DS_ELEM_F32, rows, cols);
}

static uint32_t out_width(const struct ds_target *target, const struct ds_stage *stage) { return target->model->config.hidden * (1 + stage->n_taps); }

/* Home: what leaves, then what arrives from each of the others. */
static void lay_out_home(struct ds_target *target, struct ds_buffer *buffer) {
    const struct ds_model_config *c = &target->model->config;
    struct cursor cursor = {.buffer = buffer};
    target->stages[0].out = take_rows(&cursor, target->params.rows, c->hidden + ds_config_carried(c));
    for (uint32_t s = 1; s < target->n_stages; s++)
        target->stages[s].arrived = take_rows(&cursor, target->params.rows, out_width(target, &target->stages[s]));
    target->stages[0].planned.bytes = cursor.bytes;
}

/* Elsewhere: [written before a run | read after it | zeros]. */
static void lay_out(const struct ds_target *target, struct ds_stage *stage, struct ds_buffer *buffer) {
    const struct ds_model_config *c = &target->model->config;
    const struct ds_rows *home = &target->rows.at;
    const uint64_t words = 4 * (uint64_t)home->rows;
    struct cursor cursor = {.buffer = buffer};
    stage->rows = (struct ds_rows){.rows = home->rows, .page_table = ds_page_table_slice(&stage->pages), .sequences_max = home->sequences_max,
                                   .pages_per_sequence = home->pages_per_sequence};
    stage->rows.count = take(&cursor, 4);
    stage->rows.positions = take(&cursor, words);
    stage->rows.sequences = take(&cursor, words);
    stage->rows.visible = take(&cursor, words);
    stage->in = take_rows(&cursor, home->rows, c->hidden + ds_config_carried(c));
    stage->rows.flags = take(&cursor, words);
    stage->out = take_rows(&cursor, home->rows, out_width(target, stage));
    stage->no_flags = take(&cursor, words);
    stage->planned.bytes = cursor.bytes;
}

static void lay_out_all(struct ds_target *target) {
    if (!is_cut(target)) return;
    for (uint32_t s = 0; s < target->n_stages; s++) {
        struct ds_stage *stage = &target->stages[s];
        struct ds_buffer *const buffer = stage->buffer ? stage->buffer : &stage->planned;
        if (s) lay_out(target, stage, buffer);
        else lay_out_home(target, buffer);
    }
}

/* --- planning --- */

static ds_status plan_cache(const struct ds_target *target, struct ds_stage *stage, struct ds_error *err) {
    const struct ds_model_config *c = &target->model->config;
    struct ds_kv_shape layers[DS_MOST_LAYERS];
    for (uint32_t l = 0; l < c->layers; l++) {
        const bool here = l >= stage->part->first && l < stage->part->end;
        layers[l] = here ? ds_config_kv_shape(c, l) : (struct ds_kv_shape){.source = l};
        assert(!here || layers[l].source >= stage->part->first);
    }
    return ds_cache_plan_layers(&stage->cache, stage->device, layers, c->layers, target->params.pager->pages, target->params.kv_f16, err);
}

/* Home keeps its own taps where they belong. */
static void choose_taps(const struct ds_target *target, struct ds_stage *stage) {
    for (uint32_t i = 0; i < target->params.n_taps; i++) {
        const int32_t layer = target->tap_layers[i];
        if (layer < (int32_t)stage->part->first || layer >= (int32_t)stage->part->end) continue;
        stage->tap_layers[stage->n_taps] = layer;
        stage->tap_places[stage->n_taps++] = i;
    }
}

ds_status ds_stages_plan(struct ds_target *target, struct ds_error *err) {
    for (uint32_t s = 0; s < target->n_stages; s++) {
        struct ds_stage *stage = &target->stages[s];
        ds_page_table_plan(&stage->pages, stage->device, target->params.pager);
        DS_TRY(plan_cache(target, stage, err));
        if (s) choose_taps(target, stage);
    }
    lay_out_all(target);
    for (uint32_t s = 1; s < target->n_stages; s++) {
        struct ds_stage *stage = &target->stages[s];
        stage->host = calloc(1, (size_t)stage->planned.bytes);
        if (!stage->host) return ds_fail_memory(err, (size_t)stage->planned.bytes, "rows on their way between devices");
    }
    return DS_OK;
}

uint64_t ds_stage_own_bytes(const struct ds_stage *stage) { return stage->planned.bytes + stage->pages.planned.bytes; }

ds_status ds_stages_allocate(struct ds_target *target, uint32_t *failed, struct ds_error *err) {
    for (uint32_t s = 0; s < target->n_stages; s++) {
        struct ds_stage *stage = &target->stages[s];
        *failed = s;
        DS_TRY(ds_page_table_allocate(&stage->pages, err));
        DS_TRY(ds_cache_allocate(&stage->cache, err));
        if (is_cut(target)) DS_TRY(stage->device->fns->buffer_create(stage->device, stage->planned.bytes, &stage->buffer, err));
    }
    lay_out_all(target);
    return DS_OK;
}

void ds_stages_give_back(struct ds_target *target) {
    ds_stages_destroy_graphs(target);
    for (uint32_t s = 0; s < target->n_stages; s++) {
        struct ds_stage *stage = &target->stages[s];
        ds_buffer_drop(&stage->buffer);
        ds_buffer_drop(&stage->cache.buffer);
        ds_buffer_drop(&stage->pages.buffer);
        stage->scratch = NULL;
    }
}

void ds_stages_free(struct ds_target *target) {
    ds_stages_give_back(target);
    for (uint32_t s = 0; s < target->n_stages; s++) {
        ds_cache_free(&target->stages[s].cache);
        ds_page_table_free(&target->stages[s].pages);
        free(target->stages[s].host);
    }
}

/* --- graphs --- */

/* Flags are raised where they are read with what goes out. */
static void clear_flags(struct ds_graph *graph, const struct ds_stage *stage, uint32_t rows) {
    ds_graph_set_count(graph, stage->rows.count);
    ds_graph_copy(graph, ds_view_of(stage->no_flags, DS_ELEM_I32, rows, 1), (struct ds_slice){0}, ds_view_of(stage->rows.flags, DS_ELEM_I32, rows, 1));
}

struct ds_graph *ds_stage_graph(const struct ds_target *target, uint32_t s, uint32_t rows, struct ds_view hidden) {
    const struct ds_stage *stage = &target->stages[s];
    const uint32_t width = target->model->config.hidden;
    const struct ds_cache cache = {stage->cache.layers, stage->cache.n};
    struct ds_model_outputs outputs = {.hidden = hidden};
    struct ds_rows at = s ? stage->rows : target->rows.at;
    struct ds_model_part part = {.stage = stage->part, .first = stage->part->first, .end = stage->part->end, .out = ds_view_first_rows(stage->out, rows)};
    at.rows = rows;
    if (s) part.in = ds_view_first_rows(stage->in, rows);
    if (!hidden.at.buffer && s) {
        if (stage->n_taps) outputs.taps = ds_view_part(stage->out, 0, rows, width, stage->n_taps * width);
        outputs.tap_layers = stage->tap_layers;
        outputs.n_taps = stage->n_taps;
    } else if (!hidden.at.buffer) {
        outputs.taps = ds_view_first_rows(target->taps, rows);
        outputs.tap_layers = target->tap_layers;
        outputs.n_taps = target->params.n_taps;
    }
    struct ds_graph *graph = ds_graph_create(stage->device);
    if (!graph) return NULL;
    if (s) clear_flags(graph, stage, rows);
    target->model->arch->build(target->model, graph, &part, &at, &cache, &outputs);
    return graph;
}

static ds_status build(struct ds_target *target, uint32_t s, uint32_t bucket, struct ds_error *err) {
    struct ds_stage *stage = &target->stages[s];
    struct ds_graph *graph = ds_stage_graph(target, s, target->buckets[bucket], (struct ds_view){0});
    if (!graph) return ds_fail_memory(err, 0, "a graph");
    uint64_t bytes = 0;
    stage->graphs[bucket] = graph;
    DS_TRY(ds_graph_plan(graph, &bytes, err));
    stage->scratch_bytes = DS_MAX(stage->scratch_bytes, bytes);
    return stage->scratch ? ds_graph_place(graph, stage->scratch, err) : DS_OK;
}

ds_status ds_stages_build(struct ds_target *target, uint32_t *failed, struct ds_error *err) {
    for (uint32_t s = 0; is_cut(target) && s < target->n_stages; s++)
        for (uint32_t i = 0; i < target->n_buckets; i++) {
            const ds_status status = build(target, s, i, err);
            *failed = s;
            if (status == DS_OK) continue;
            ds_stages_destroy_graphs(target);
            return status;
        }
    return DS_OK;
}

void ds_stages_destroy_graphs(struct ds_target *target) {
    for (uint32_t s = 0; s < target->n_stages; s++)
        for (size_t i = 0; i < DS_MAX_BUCKETS; i++) {
            ds_graph_destroy(target->stages[s].graphs[i]);
            target->stages[s].graphs[i] = NULL;
        }
}

struct ds_model_part ds_stages_end(const struct ds_target *target, struct ds_graph *graph, const struct ds_rows *rows, bool taps) {
    const uint32_t layers = target->model->config.layers, width = target->model->config.hidden;
    if (!is_cut(target)) return (struct ds_model_part){.stage = target->stages[0].part, .end = layers};
    ds_graph_set_count(graph, rows->count);
    for (uint32_t s = 1; taps && s < target->n_stages; s++) {
        const struct ds_stage *stage = &target->stages[s];
        for (uint32_t i = 0; i < stage->n_taps; i++)
            ds_graph_copy(graph, ds_view_part(stage->arrived, 0, rows->rows, (1 + i) * width, width), (struct ds_slice){0},
                          ds_view_part(target->taps, 0, rows->rows, stage->tap_places[i] * width, width));
    }
    return (struct ds_model_part){.stage = target->stages[0].part, .first = layers, .end = layers,
                                  .in = ds_view_first_rows(target->stages[target->n_stages - 1].arrived, rows->rows)};
}

/* --- running --- */

static void *host_of(const struct ds_stage *stage, struct ds_slice at) { return stage->host + at.offset; }

/* The residual stream from the stage before, and from further back what it did not change. */
static void pack(const struct ds_stage *before, const struct ds_stage *stage, uint32_t rows, uint32_t hidden) {
    const float *from = host_of(before, before->out.at), *carried = host_of(before, before->in.at);
    float *to = host_of(stage, stage->in.at);
    for (uint32_t i = 0; i < rows; i++) {
        memcpy(to, from, hidden * sizeof *to);
        memcpy(to + hidden, carried + hidden, (stage->in.cols - hidden) * sizeof *to);
        from += before->out.stride;
        carried += before->in.stride;
        to += stage->in.stride;
    }
}

static uint64_t rows_bytes(const struct ds_view *view, uint32_t rows) { return rows * ds_view_pitch(view); }

static ds_status run(struct ds_target *target, uint32_t s, struct ds_graph *graph, struct ds_error *err) {
    struct ds_stage *stage = &target->stages[s];
    const struct ds_rows_buffer *rows = &target->rows;
    const struct ds_device_fns *fns = stage->device->fns;
    const uint32_t n = *rows->in_count;
    const uint64_t out = stage->out.at.offset - stage->rows.flags.offset + rows_bytes(&stage->out, n);
    memcpy(host_of(stage, stage->rows.count), rows->in_count, 4);
    memcpy(host_of(stage, stage->rows.positions), rows->in_positions, 4 * (size_t)n);
    memcpy(host_of(stage, stage->rows.sequences), rows->in_sequences, 4 * (size_t)n);
    memcpy(host_of(stage, stage->rows.visible), rows->in_visible, 4 * (size_t)n);
    DS_TRY(ds_page_table_sync(&stage->pages, target->params.pager, stage->stream, err));
    DS_TRY(fns->write(stage->stream, (struct ds_slice){stage->buffer, 0}, stage->host, stage->in.at.offset + rows_bytes(&stage->in, n), err));
    DS_TRY(ds_graph_run(graph, stage->stream, err));
    return fns->read(stage->stream, stage->rows.flags, host_of(stage, stage->rows.flags), out, err);
}

ds_status ds_stages_run(struct ds_target *target, struct ds_graph *const graphs[DS_MOST_STAGES], struct ds_error *err) {
    if (!is_cut(target)) return DS_OK;
    const struct ds_stage *home = &target->stages[0];
    const struct ds_device_fns *fns = home->device->fns;
    const uint32_t n = *target->rows.in_count, last = target->n_stages - 1;
    DS_TRY(ds_graph_run(graphs[0], home->stream, err));
    DS_TRY(fns->read(home->stream, home->out.at, host_of(&target->stages[1], target->stages[1].in.at), rows_bytes(&home->out, n), err));
    for (uint32_t s = 1; s <= last; s++) {
        const struct ds_stage *stage = &target->stages[s];
        if (s > 1) pack(&target->stages[s - 1], stage, n, target->model->config.hidden);
        DS_TRY(run(target, s, graphs[s], err));
        if (stage->n_taps || s == last)
            DS_TRY(fns->write(home->stream, stage->arrived.at, host_of(stage, stage->out.at), rows_bytes(&stage->arrived, n), err));
    }
    return DS_OK;
}

void ds_stages_take_flags(const struct ds_target *target) {
    const struct ds_rows_buffer *rows = &target->rows;
    for (uint32_t s = 1; s < target->n_stages; s++) {
        const uint32_t *flags = host_of(&target->stages[s], target->stages[s].rows.flags);
        for (uint32_t i = 0; i < *rows->in_count; i++) rows->out_flags_rows[i] |= flags[i];
    }
}
