/*
 * Everything a device does in its life, in small: opened, a stream, buffers, a write, a graph, an op by itself, a read. For tests that let each call of it
 * fail. And functions that a module exports for tests.
 */
#ifndef DSPARK_TESTS_SMALL_WORK_H
#define DSPARK_TESTS_SMALL_WORK_H

#include "base/os.h"
#include "check.h"
#include "graph/graph.h"

enum { SMALL_ROWS = 3, SMALL_COLS = 300 };

struct small_work {
    struct ds_device *device;
    struct ds_stream *stream;
    struct ds_buffer *buffer, *scratch;
    struct ds_graph *graph;
    float result[SMALL_ROWS * SMALL_COLS];
};

static inline ds_status small_work_do(struct small_work *w, const char *name, const struct ds_device_params *params, struct ds_error *err) {
    DS_TRY(ds_device_create(name, params, &w->device, err));
    const struct ds_device_fns *fns = w->device->fns;
    DS_TRY(fns->stream_create(w->device, &w->stream, err));
    DS_TRY(fns->buffer_create(w->device, 2 * sizeof w->result, &w->buffer, err));
    const struct ds_view x = ds_view_of((struct ds_slice){w->buffer, 0}, DS_ELEM_F32, SMALL_ROWS, SMALL_COLS);
    const struct ds_view y = ds_view_of((struct ds_slice){w->buffer, sizeof w->result}, DS_ELEM_F32, SMALL_ROWS, SMALL_COLS);
    float values[SMALL_ROWS * SMALL_COLS];
    for (size_t i = 0; i < DS_COUNT(values); i++) values[i] = (float)i;
    DS_TRY(fns->write(w->stream, x.at, values, sizeof values, err));
    w->graph = ds_graph_create(w->device);
    if (!w->graph) return ds_fail_memory(err, 1, "a graph");
    ds_graph_copy(w->graph, ds_graph_glu(w->graph, x, x, DS_ACT_SILU), (struct ds_slice){0}, y);
    uint64_t bytes;
    DS_TRY(ds_graph_plan(w->graph, &bytes, err));
    DS_TRY(fns->buffer_create(w->device, bytes, &w->scratch, err));
    DS_TRY(ds_graph_place(w->graph, w->scratch, err));
    DS_TRY(ds_graph_run(w->graph, w->stream, err));
    DS_TRY(fns->op[DS_OP_copy](w->stream, &(union ds_op_params){.copy = {.x = x, .out = ds_view_part(y, 0, 1, 0, SMALL_COLS)}}, err));
    return fns->read(w->stream, y.at, w->result, sizeof w->result, err);
}

/* However far it came. */
static inline void small_work_end(struct small_work *w) {
    ds_graph_destroy(w->graph);
    ds_buffer_drop(&w->scratch);
    ds_buffer_drop(&w->buffer);
    if (w->stream) w->device->fns->stream_destroy(w->stream);
    ds_device_destroy(w->device);
}

static inline void *module_symbol(struct ds_os_module *module, const char *name) {
    void *const found = ds_os_module_symbol(module, name);
    if (!found) fail_msg("the module has no %s", name);
    return found;
}

#endif
