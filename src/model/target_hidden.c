/* All hidden states of a pass, by graphs that are built for it alone: for people who port models. */
#include "model/target.h"

/* What a pass is made of here: a graph for each stage, and one for the end; of a target that is not cut only that. */
struct piece {
    struct ds_device *device;
    struct ds_graph *graph;
    struct ds_buffer *states, *scratch;
};
enum { MOST_PIECES = DS_MOST_STAGES + 1 };

struct hidden_pass {
    struct ds_target *target;
    uint32_t rows, n;
    struct piece pieces[MOST_PIECES];
};

static struct ds_graph *end_graph(const struct ds_target *target, uint32_t n_rows, struct ds_view hidden) {
    struct ds_graph *graph = ds_graph_create(target->params.device);
    if (!graph) return NULL;
    struct ds_rows rows = target->rows.at;
    rows.rows = n_rows;
    rows.out_rows = DS_MIN(rows.out_rows, n_rows);
    const struct ds_cache cache = {target->stages[0].cache.layers, target->stages[0].cache.n};
    const struct ds_model_outputs outputs = {.hidden = hidden};
    const struct ds_model_part part = ds_stages_end(target, graph, &rows, false);
    target->model->arch->build(target->model, graph, &part, &rows, &cache, &outputs);
    return graph;
}

static ds_status build(struct hidden_pass *pass, uint32_t i, struct ds_error *err) {
    struct piece *piece = &pass->pieces[i];
    const struct ds_model_config *c = &pass->target->model->config;
    const struct ds_device_fns *fns = piece->device->fns;
    uint64_t bytes;
    DS_TRY(fns->buffer_create(piece->device, 4 * (uint64_t)(c->layers + 1) * pass->rows * c->hidden, &piece->states, err));
    const struct ds_view hidden = ds_view_of((struct ds_slice){piece->states, 0}, DS_ELEM_F32, (c->layers + 1) * pass->rows, c->hidden);
    piece->graph = i + 1 < pass->n ? ds_stage_graph(pass->target, i, pass->rows, hidden) : end_graph(pass->target, pass->rows, hidden);
    if (!piece->graph) return ds_fail_memory(err, 0, "a graph");
    DS_TRY(ds_graph_plan(piece->graph, &bytes, err));
    DS_TRY(fns->buffer_create(piece->device, DS_MAX(bytes, 1), &piece->scratch, err));
    return ds_graph_place(piece->graph, piece->scratch, err);
}

/* States [first, first + n) of those a piece made. */
static ds_status read_states(const struct hidden_pass *pass, uint32_t i, uint32_t first, uint32_t n, float *hidden, struct ds_error *err) {
    const struct piece *piece = &pass->pieces[i];
    struct ds_stream *const stream = i + 1 < pass->n ? pass->target->stages[i].stream : pass->target->params.stream;
    const uint64_t state = (uint64_t)pass->rows * pass->target->model->config.hidden;
    return n ? piece->device->fns->read(stream, (struct ds_slice){piece->states, 4 * first * state}, hidden + first * state, 4 * n * state, err) : DS_OK;
}

static ds_status run(struct hidden_pass *pass, float *hidden, struct ds_error *err) {
    struct ds_target *target = pass->target;
    const uint32_t layers = target->model->config.layers, last = pass->n - 1;
    struct ds_graph *stages[DS_MOST_STAGES] = {0};
    for (uint32_t i = 0; i < pass->n; i++) DS_TRY(build(pass, i, err));
    for (uint32_t i = 0; i < last; i++) stages[i] = pass->pieces[i].graph;
    DS_TRY(ds_target_begin(target, pass->rows, 0, err));
    DS_TRY(ds_stages_run(target, stages, err));
    DS_TRY(ds_graph_run(pass->pieces[last].graph, target->params.stream, err));
    if (!last) return read_states(pass, 0, 0, layers + 1, hidden, err);
    for (uint32_t i = 0; i < last; i++) { /* the last layer's output is told as the end has it: normed */
        const struct ds_model_stage *part = target->stages[i].part;
        const uint32_t first = i ? part->first + 1 : 0;
        DS_TRY(read_states(pass, i, first, DS_MIN(part->end + 1, layers) - first, hidden, err));
    }
    return read_states(pass, last, layers, 1, hidden, err);
}

ds_status ds_target_run_hidden(struct ds_target *target, uint32_t n_rows, float *hidden, struct ds_error *err) {
    struct hidden_pass pass = {.target = target, .rows = n_rows, .n = target->n_stages > 1 ? target->n_stages + 1 : 1};
    for (uint32_t i = 0; i < pass.n; i++) pass.pieces[i].device = i + 1 < pass.n ? target->stages[i].device : target->params.device;
    const ds_status status = run(&pass, hidden, err);
    for (uint32_t i = 0; i < pass.n; i++) {
        ds_graph_destroy(pass.pieces[i].graph);
        ds_buffer_drop(&pass.pieces[i].scratch);
        ds_buffer_drop(&pass.pieces[i].states);
    }
    return status;
}
