#include "engine/op_times.h"

#include "base/os.h"

#include <assert.h>

static ds_status by_the_host(struct ds_stream *stream, const struct ds_device_fns *fns, const struct ds_graph_node *node, double *seconds, struct ds_error *err) {
    const double start = ds_os_seconds();
    DS_TRY(fns->op[node->op](stream, &node->params, err));
    DS_TRY(fns->stream_sync(stream, err));
    *seconds = ds_os_seconds() - start;
    return DS_OK;
}

ds_status ds_time_ops(struct ds_stream *stream, const struct ds_device *device, const struct ds_graph_node *nodes, uint32_t n,
                      double seconds[DS_OPS_TIMED], struct ds_error *err) {
    const struct ds_device_fns *fns = device->fns;
    assert(n <= DS_OPS_TIMED);
    for (uint32_t i = 0; i < n && !fns->mark; i++) DS_TRY(by_the_host(stream, fns, &nodes[i], &seconds[i], err));
    if (!fns->mark) return DS_OK;
    DS_TRY(fns->mark(stream, 0, err));
    for (uint32_t i = 0; i < n; i++) {
        DS_TRY(fns->op[nodes[i].op](stream, &nodes[i].params, err));
        DS_TRY(fns->mark(stream, i + 1, err));
    }
    DS_TRY(fns->stream_sync(stream, err));
    for (uint32_t i = 0; i < n; i++) DS_TRY(fns->elapsed(stream, i, i + 1, &seconds[i], err));
    return DS_OK;
}
