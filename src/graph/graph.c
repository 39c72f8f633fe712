#include "graph/graph_internal.h"

#include <assert.h>
#include <stdlib.h>

struct ds_graph *ds_graph_create(struct ds_device *device) {
    struct ds_graph *graph = calloc(1, sizeof *graph);
    if (graph) graph->device = device;
    return graph;
}

void ds_graph_destroy(struct ds_graph *graph) {
    if (!graph) return;
    if (graph->recording) graph->device->fns->graph_destroy(graph->recording);
    for (struct ds_planned_tensor *t = graph->tensors; t;) {
        struct ds_planned_tensor *next = t->next;
        free(t);
        t = next;
    }
    free(graph->nodes);
    free(graph);
}

/* --- building --- */

static void remember_failure(struct ds_graph *graph, const struct ds_error *err) {
    if (graph->failure.status == DS_OK) graph->failure = *err;
}

static void out_of_memory(struct ds_graph *graph, size_t bytes) {
    struct ds_error err;
    ds_fail_memory(&err, bytes, "a graph");
    remember_failure(graph, &err);
}

void ds_graph_set_count(struct ds_graph *graph, struct ds_slice count) {
    graph->count = count;
    graph->quantized.at.buffer = NULL; /* made for other rows */
}

struct ds_slice ds_graph_get_count(const struct ds_graph *graph) { return graph->count; }

void ds_graph_set_flags(struct ds_graph *graph, struct ds_slice flags) { graph->flags = flags; }

struct ds_view ds_graph_tensor(struct ds_graph *graph, ds_elem elem, uint32_t rows, uint32_t cols) {
    struct ds_view view = {.elem = elem, .rows = rows, .cols = cols, .stride = cols};
    struct ds_planned_tensor *t = calloc(1, sizeof *t);
    if (!t) {
        out_of_memory(graph, sizeof *t);
        return view;
    }
    t->buffer.bytes = DS_ALIGN_UP(ds_view_bytes(&view), (uint64_t)DS_ALIGN);
    t->next = graph->tensors;
    graph->tensors = t;
    view.at.buffer = &t->buffer;
    return view;
}

bool ds_graph_has_op(const struct ds_graph *graph, ds_op op, const union ds_op_params *params) {
    const struct ds_device_fns *fns = graph->device->fns;
    return fns->op[op] && fns->can_run(graph->device, op, params);
}

void ds_graph_append(struct ds_graph *graph, ds_op op, const union ds_op_params *params) {
    assert(!graph->planned);
    ds_graph_forget_overwritten(graph, op, params);
    if (graph->n_nodes == graph->capacity) {
        const uint32_t capacity = graph->capacity ? 2 * graph->capacity : 64;
        struct ds_graph_node *nodes = realloc(graph->nodes, capacity * sizeof *nodes);
        if (!nodes) {
            out_of_memory(graph, capacity * sizeof *nodes);
            return;
        }
        graph->nodes = nodes;
        graph->capacity = capacity;
    }
    graph->nodes[graph->n_nodes++] = (struct ds_graph_node){.op = op, .params = *params};
}

/* --- running --- */

ds_status ds_graph_run(struct ds_graph *graph, struct ds_stream *stream, struct ds_error *err) {
    assert(graph->placed);
    const struct ds_device_fns *fns = graph->device->fns;
    if (graph->recording) return fns->graph_run(stream, graph->recording, err);
    for (uint32_t i = 0; i < graph->n_nodes; i++)
        DS_TRY(fns->op[graph->nodes[i].op](stream, &graph->nodes[i].params, err));
    return DS_OK;
}

uint32_t ds_graph_node_count(const struct ds_graph *graph) { return graph->n_nodes; }
const struct ds_graph_node *ds_graph_nodes(const struct ds_graph *graph) { return graph->nodes; }
