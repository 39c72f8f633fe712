#include "model/target.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

uint32_t ds_row_buckets(uint32_t most, uint32_t buckets[DS_MAX_BUCKETS]) {
    static const uint32_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32, 64, 128, 256};
    uint32_t n = 0;
    for (size_t i = 0; i < DS_COUNT(sizes) && sizes[i] < most; i++) buckets[n++] = sizes[i];
    buckets[n++] = most;
    return n;
}

/* The same buffer seen by a graph of fewer rows. */
static struct ds_rows rows_of_bucket(const struct ds_rows *all, uint32_t rows) {
    struct ds_rows part = *all;
    part.rows = rows;
    part.out_rows = DS_MIN(all->out_rows, rows);
    return part;
}

/* What chooses tokens from the logits; an extended graph has more of it. */
struct ending {
    uint32_t extensions;
    struct ds_view drafted;
};

static void append_sampling(const struct ds_target *target, struct ds_graph *graph, const struct ds_rows *rows, const struct ending *ending) {
    const bool biased = ending->extensions & DS_EXTENDS_BIAS;
    struct ds_view logits = ds_view_first_rows(target->logits, rows->out_rows);
    const struct ds_slice bias = {biased ? target->bias : NULL, 0};
    const uint32_t bias_rows = biased ? target->params.out_rows : 0;
    if (ending->extensions & DS_EXTENDS_ADJUST) {
        const struct ds_view adjusted = ds_view_of((struct ds_slice){target->adjusted, 0}, DS_ELEM_F32, logits.rows, logits.cols);
        const struct ds_history *h = &target->history;
        ds_graph_append(graph, DS_OP_adjust, &(union ds_op_params){
            .adjust = {.x = logits, .out = adjusted, .rows = rows->adjust, .history = h->tokens, .drafted = rows->ids, .n_drafted = rows->rows,
                       .bias_ids = h->bias_ids, .bias_values = h->bias_values, .count = rows->out_count}});
        logits = adjusted;
    }
    ds_graph_append(graph, DS_OP_sample, &(union ds_op_params){
        .sample = {.logits = logits, .rows = rows->sample, .bias = bias, .bias_rows = bias_rows, .tokens = rows->out_tokens,
                   .flags = rows->out_flags, .count = rows->out_count}});
    if (ending->extensions & DS_EXTENDS_REJECT)
        ds_graph_append(graph, DS_OP_reject, &(union ds_op_params){
            .reject = {.logits = logits, .drafted = ending->drafted, .rows = rows->sample, .bias = bias, .bias_rows = bias_rows,
                       .tokens = rows->out_tokens, .flags = rows->out_flags, .count = rows->out_count}});
}

static struct ds_graph *begin_graph(const struct ds_target *target, uint32_t bucket, const struct ending *ending) {
    struct ds_graph *graph = ds_graph_create(target->params.device);
    if (!graph) return NULL;
    const struct ds_rows rows = rows_of_bucket(&target->rows.at, bucket);
    const struct ds_cache cache = {target->stages[0].cache.layers, target->stages[0].cache.n};
    const struct ds_model_outputs outputs = {.taps = ds_view_first_rows(target->taps, bucket), .tap_layers = target->tap_layers,
                                             .n_taps = target->params.n_taps, .logits = ds_view_first_rows(target->logits, rows.out_rows)};
    const struct ds_model_part part = ds_stages_end(target, graph, &rows, true);
    target->model->arch->build(target->model, graph, &part, &rows, &cache, &outputs);
    append_sampling(target, graph, &rows, ending);
    return graph;
}

struct ds_graph *ds_target_begin_graph(const struct ds_target *target, uint32_t bucket, bool extended) {
    const struct ending plain = {0}, full = {.extensions = target->extensions, .drafted = target->drafted};
    return begin_graph(target, bucket, extended ? &full : &plain);
}

static ds_status build_graph(struct ds_target *target, uint32_t bucket, const struct ending *ending, struct ds_graph **out, uint64_t *scratch,
                             struct ds_error *err) {
    struct ds_graph *graph = begin_graph(target, bucket, ending);
    if (!graph) return ds_fail_memory(err, 0, "a graph");
    const ds_status status = ds_graph_plan(graph, scratch, err);
    if (status != DS_OK) {
        ds_graph_destroy(graph);
        return status;
    }
    *out = graph;
    return DS_OK;
}

static void destroy_graphs(struct ds_graph **graphs) {
    for (size_t i = 0; i < DS_MAX_BUCKETS; i++) {
        ds_graph_destroy(graphs[i]);
        graphs[i] = NULL;
    }
}

/* Builds all buckets; places them when the scratch is there. */
static ds_status build_graphs(struct ds_target *target, const struct ending *ending, struct ds_graph **graphs, struct ds_error *err) {
    struct ds_stage *home = &target->stages[0];
    for (uint32_t i = 0; i < target->n_buckets; i++) {
        uint64_t scratch = 0;
        ds_status status = build_graph(target, target->buckets[i], ending, &graphs[i], &scratch, err);
        if (status == DS_OK && home->scratch) {
            assert(scratch <= home->scratch->bytes);
            status = ds_graph_place(graphs[i], home->scratch, err);
        }
        if (status != DS_OK) {
            destroy_graphs(graphs);
            return status;
        }
        home->scratch_bytes = DS_MAX(home->scratch_bytes, scratch);
    }
    return DS_OK;
}

static void lay_out_outputs(struct ds_target *target, struct ds_buffer *buffer) {
    const struct ds_model_config *c = &target->model->config;
    target->logits = ds_view_of((struct ds_slice){buffer, 0}, DS_ELEM_F32, target->params.out_rows, c->vocabulary);
    uint64_t bytes = DS_ALIGN_UP(ds_view_bytes(&target->logits), (uint64_t)DS_ALIGN);
    target->taps = (struct ds_view){0};
    if (target->params.n_taps) {
        target->taps = ds_view_of((struct ds_slice){buffer, bytes}, DS_ELEM_F32, target->params.rows, target->params.n_taps * c->hidden);
        bytes += DS_ALIGN_UP(ds_view_bytes(&target->taps), (uint64_t)DS_ALIGN);
    }
    target->planned_outputs.bytes = bytes;
}

static ds_status plan(struct ds_target *target, struct ds_error *err) {
    const struct ds_target_params *p = &target->params;
    lay_out_outputs(target, &target->planned_outputs);
    DS_TRY(ds_rows_plan(&target->rows, p->device, p->rows, p->out_rows, (struct ds_slice){0}, p->pager->sequences, p->pager->pages_per_sequence,
                        p->beside_bytes, err));
    DS_TRY(ds_stages_plan(target, err));
    target->rows.at.page_table = ds_page_table_slice(&target->stages[0].pages);
    target->n_buckets = ds_row_buckets(p->rows, target->buckets);
    uint32_t failed;
    DS_TRY(ds_stages_build(target, &failed, err));
    return build_graphs(target, &(struct ending){0}, target->graphs, err);
}

static void place_stages(struct ds_target *target) {
    const struct ds_target_params *p = &target->params;
    target->n_stages = target->model->n_stages;
    for (uint32_t s = 0; s < target->n_stages; s++)
        target->stages[s] = (struct ds_stage){.part = &target->model->stages[s], .device = s ? p->others[s - 1].device : p->device,
                                              .stream = s ? p->others[s - 1].stream : p->stream};
}

ds_status ds_target_plan(struct ds_target *target, struct ds_model *model, const struct ds_target_params *params, struct ds_error *err) {
    *target = (struct ds_target){.model = model, .params = *params};
    assert(params->n_taps <= DS_MAX_TAPS);
    if (params->n_taps) memcpy(target->tap_layers, params->tap_layers, params->n_taps * sizeof *params->tap_layers);
    target->params.tap_layers = NULL;
    place_stages(target);
    const ds_status status = plan(target, err);
    destroy_graphs(target->graphs); /* they were built on planned memory, for their size */
    ds_stages_destroy_graphs(target);
    if (status != DS_OK) ds_target_free(target);
    return status;
}

uint64_t ds_target_own_bytes(const struct ds_target *target, uint32_t stage) {
    const uint64_t own = ds_stage_own_bytes(&target->stages[stage]);
    return stage ? own : own + target->planned_outputs.bytes + target->rows.planned.bytes;
}

static ds_status allocate(struct ds_target *target, struct ds_buffer *const *scratch, uint32_t *failed, struct ds_error *err) {
    const struct ds_device_fns *fns = target->params.device->fns;
    DS_TRY(ds_stages_allocate(target, failed, err));
    *failed = 0;
    DS_TRY(ds_rows_allocate(&target->rows, ds_page_table_slice(&target->stages[0].pages), err));
    DS_TRY(fns->buffer_create(target->params.device, target->planned_outputs.bytes, &target->outputs, err));
    lay_out_outputs(target, target->outputs);
    for (uint32_t s = 0; s < target->n_stages; s++) target->stages[s].scratch = scratch[s];
    DS_TRY(ds_stages_build(target, failed, err));
    *failed = 0;
    return build_graphs(target, &(struct ending){0}, target->graphs, err);
}

void ds_target_release(struct ds_target *target) {
    destroy_graphs(target->graphs);
    ds_buffer_drop(&target->outputs);
    ds_buffer_drop(&target->rows.buffer);
    ds_stages_give_back(target);
}

ds_status ds_target_allocate(struct ds_target *target, struct ds_buffer *const *scratch, uint32_t *failed, struct ds_error *err) {
    assert(!target->outputs);
    for (uint32_t s = 0; s < target->n_stages; s++) assert(scratch[s]->bytes >= target->stages[s].scratch_bytes);
    const ds_status status = allocate(target, scratch, failed, err);
    if (status != DS_OK) ds_target_release(target);
    return status;
}

void ds_target_free(struct ds_target *target) {
    destroy_graphs(target->graphs);
    destroy_graphs(target->extended);
    ds_buffer_drop(&target->outputs);
    ds_buffer_drop(&target->bias);
    ds_buffer_drop(&target->adjusted);
    ds_history_free(&target->history);
    ds_stages_free(target);
    ds_rows_free(&target->rows);
    *target = (struct ds_target){0};
}

ds_status ds_target_extend_memory(struct ds_target *target, uint32_t extensions, struct ds_error *err) {
    struct ds_device *device = target->params.device;
    const struct ds_pager *pager = target->params.pager;
    const uint64_t bytes = 4 * (uint64_t)target->params.out_rows * target->model->config.vocabulary;
    if ((extensions & DS_EXTENDS_BIAS) && !target->bias) DS_TRY(device->fns->buffer_create(device, bytes, &target->bias, err));
    if (!(extensions & DS_EXTENDS_ADJUST)) return DS_OK;
    if (!target->history.buffer)
        DS_TRY(ds_history_create(&target->history, device, pager->sequences, pager->pages_per_sequence * DS_PAGE, err));
    return target->adjusted ? DS_OK : device->fns->buffer_create(device, bytes, &target->adjusted, err);
}

ds_status ds_target_extend(struct ds_target *target, uint32_t extensions, struct ds_view drafted, struct ds_error *err) {
    const struct ending ending = {.extensions = target->extensions | extensions, .drafted = drafted};
    if (ending.extensions == target->extensions) return DS_OK;
    struct ds_graph *graphs[DS_MAX_BUCKETS] = {0};
    DS_TRY(build_graphs(target, &ending, graphs, err));
    destroy_graphs(target->extended);
    memcpy(target->extended, graphs, sizeof graphs);
    target->extensions = ending.extensions;
    target->drafted = drafted;
    return DS_OK;
}

ds_status ds_target_write_bias(struct ds_target *target, uint32_t row, const float *bias, struct ds_error *err) {
    const uint64_t bytes = 4 * (uint64_t)target->model->config.vocabulary;
    return target->params.device->fns->write(target->params.stream, (struct ds_slice){target->bias, row * bytes}, bias, bytes, err);
}

static uint32_t bucket_of(const struct ds_target *target, uint32_t n_rows) {
    uint32_t i = 0;
    while (target->buckets[i] < n_rows) i++;
    return i;
}

uint32_t ds_target_graphs(const struct ds_target *target, uint32_t n_rows, struct ds_target_graph out[DS_MOST_STAGES + 1]) {
    const uint32_t bucket = bucket_of(target, n_rows);
    uint32_t n = 0;
    for (uint32_t s = 0; target->n_stages > 1 && s < target->n_stages; s++)
        out[n++] = (struct ds_target_graph){target->stages[s].graphs[bucket], target->stages[s].device, target->stages[s].stream};
    out[n++] = (struct ds_target_graph){target->graphs[bucket], target->params.device, target->params.stream};
    return n;
}

ds_status ds_target_begin(struct ds_target *target, uint32_t n_rows, uint32_t n_out, struct ds_error *err) {
    assert(n_rows >= 1 && n_rows <= target->params.rows && n_out <= DS_MIN(target->params.out_rows, target->buckets[bucket_of(target, n_rows)]));
    *target->rows.in_count = n_rows;
    *target->rows.in_out_count = n_out;
    DS_TRY(ds_page_table_sync(&target->stages[0].pages, target->params.pager, target->params.stream, err));
    return ds_rows_write(&target->rows, target->params.stream, err);
}

ds_status ds_target_end(struct ds_target *target, uint32_t n_rows, bool extended, struct ds_error *err) {
    return ds_target_end_graph(target, (extended ? target->extended : target->graphs)[bucket_of(target, n_rows)], err);
}

ds_status ds_target_end_graph(struct ds_target *target, struct ds_graph *graph, struct ds_error *err) {
    struct ds_graph *stages[DS_MOST_STAGES];
    const uint32_t bucket = bucket_of(target, *target->rows.in_count);
    for (uint32_t s = 0; s < target->n_stages; s++) stages[s] = target->stages[s].graphs[bucket];
    DS_TRY(ds_stages_run(target, stages, err));
    DS_TRY(ds_graph_run(graph, target->params.stream, err));
    DS_TRY(ds_rows_read(&target->rows, target->params.stream, err));
    ds_stages_take_flags(target);
    return DS_OK;
}

ds_status ds_target_run(struct ds_target *target, uint32_t n_rows, uint32_t n_out, bool extended, struct ds_error *err) {
    DS_TRY(ds_target_begin(target, n_rows, n_out, err));
    return ds_target_end(target, n_rows, extended, err);
}

ds_status ds_target_read_logits(struct ds_target *target, uint32_t first, uint32_t n, float *logits, struct ds_error *err) {
    const uint64_t row = 4 * (uint64_t)target->model->config.vocabulary;
    return target->params.device->fns->read(target->params.stream, ds_slice_add(target->logits.at, first * row), logits, n * row, err);
}

/* --- the cache --- */

ds_status ds_target_copy_page(const struct ds_target *target, int32_t from, int32_t to, struct ds_error *err) {
    for (uint32_t s = 0; s < target->n_stages; s++) DS_TRY(ds_cache_copy_page(&target->stages[s].cache, target->stages[s].stream, from, to, err));
    return DS_OK;
}

uint64_t ds_target_pages_bytes(const struct ds_target *target) {
    uint64_t bytes = 0;
    for (uint32_t s = 0; s < target->n_stages; s++) bytes += ds_cache_pages_bytes(&target->stages[s].cache);
    return bytes;
}
