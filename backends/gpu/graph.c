/* A list of nodes, recorded once and replayed with one launch. */
#include "device.h"

#include "base/os.h"

#include <stdlib.h>

struct ds_device_graph {
    struct ds_gpu_device *device;
    gpuGraphExec_t exec;
    uint8_t *scratch; /* its addresses are recorded, so it is the graph's own */
};

void ds_gpu_graph_destroy(struct ds_device_graph *graph) {
    struct ds_error err;
    if (!graph) return;
    (void)ds_gpu_enter(graph->device, &err);
    if (graph->exec) gpuGraphExecDestroy(graph->exec);
    gpuFree(graph->scratch);
    free(graph);
}

static uint64_t scratch_of(const struct ds_gpu_device *device, const struct ds_graph_node *nodes, uint32_t count) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t bytes = ds_gpu_scratch_of(device, nodes[i].op, &nodes[i].params);
        most = DS_MAX(most, bytes);
    }
    return most;
}

/* Linears that follow each other and may share a launch, from the first node on; 0: it is none. */
static uint32_t linears_from(const struct ds_gpu_device *device, const struct ds_graph_node *nodes, uint32_t count,
                             const union ds_op_params *out[DS_GPU_MOST_LINEARS]) {
    uint32_t n = 0;
    for (; n < DS_MIN(count, (uint32_t)DS_GPU_MOST_LINEARS) && nodes[n].op == DS_OP_linear; n++) {
        if (ds_gpu_blas_takes(device->blas, DS_OP_linear, &nodes[n].params)) return n;
        for (uint32_t i = 0; i < n; i++)
            if (!device->kernels->may_join(out[i], &nodes[n].params)) return n;
        out[n] = &nodes[n].params;
    }
    return n;
}

/* Under the device's mutex: a library's products run once before they are recorded. */
static gpuError_t rehearse(const struct ds_device_graph *graph, const struct ds_graph_node *nodes, uint32_t count) {
    struct ds_gpu_device *device = graph->device;
    const struct ds_gpu_launch launch = ds_gpu_launch_on(device, device->own, graph->scratch);
    gpuError_t error = gpuSuccess;
    bool any = false;
    for (uint32_t i = 0; i < count && error == gpuSuccess; i++) {
        if (!ds_gpu_blas_takes(device->blas, nodes[i].op, &nodes[i].params)) continue;
        error = ds_gpu_blas_rehearse(device->blas, &device->own_blas, &launch, &nodes[i].params);
        any = true;
    }
    return any && error == gpuSuccess ? gpuStreamSynchronize(device->own) : error;
}

/* Under the device's mutex: the nodes' launches, taken down instead of run. */
static gpuError_t record(const struct ds_device_graph *graph, const struct ds_graph_node *nodes, uint32_t count, gpuGraphExec_t *out) {
    struct ds_gpu_device *device = graph->device;
    const struct ds_gpu_launch launch = ds_gpu_launch_on(device, device->own, graph->scratch);
    gpuError_t error = gpuStreamBeginCapture(device->own, gpuCaptureThreadLocal);
    if (error != gpuSuccess) return error;
    for (uint32_t i = 0; i < count && error == gpuSuccess;) {
        const union ds_op_params *linears[DS_GPU_MOST_LINEARS];
        const uint32_t alike = linears_from(device, nodes + i, count - i, linears);
        if (alike > 1) error = device->kernels->linears(&launch, linears, alike);
        else error = ds_gpu_put_op(device, &device->own_blas, &launch, nodes[i].op, &nodes[i].params);
        i += DS_MAX(alike, 1);
    }
    gpuGraph_t recording = NULL;
    const gpuError_t ended = gpuStreamEndCapture(device->own, &recording);
    if (error == gpuSuccess) error = ended;
    if (error == gpuSuccess) error = gpuGraphInstantiateWithFlags(out, recording, 0);
    if (recording) gpuGraphDestroy(recording);
    return error;
}

ds_status ds_gpu_graph_create(struct ds_device *base, const struct ds_graph_node *nodes, uint32_t count, struct ds_device_graph **out,
                              struct ds_error *err) {
    struct ds_gpu_device *device = (struct ds_gpu_device *)base;
    *out = NULL;
    DS_TRY(ds_gpu_enter(device, err));
    struct ds_device_graph *graph = calloc(1, sizeof *graph);
    if (!graph) return ds_fail_memory(err, sizeof *graph, "a graph");
    graph->device = device;
    const uint64_t bytes = scratch_of(device, nodes, count);
    ds_status status = DS_OK;
    void *scratch = NULL;
    gpuError_t error = bytes ? gpuMalloc(&scratch, (size_t)bytes) : gpuSuccess;
    graph->scratch = scratch;
    if (error == gpuSuccess) {
        ds_os_mutex_lock(device->mutex);
        error = rehearse(graph, nodes, count);
        if (error == gpuSuccess) error = record(graph, nodes, count, &graph->exec);
        if (error != gpuSuccess) status = ds_gpu_fail_op(device, &device->own_blas, error, "a recording of ops and its scratch", bytes, err);
        ds_os_mutex_unlock(device->mutex);
    }
    if (error != gpuSuccess) {
        ds_gpu_graph_destroy(graph);
        return status != DS_OK ? status : ds_gpu_fail(device, error, "a recording of ops and its scratch", bytes, err);
    }
    *out = graph;
    return DS_OK;
}

ds_status ds_gpu_graph_run(struct ds_stream *stream, struct ds_device_graph *graph, struct ds_error *err) {
    DS_TRY(ds_gpu_enter(graph->device, err));
    const gpuError_t error = gpuGraphLaunch(graph->exec, stream->handle);
    return error == gpuSuccess ? DS_OK : ds_gpu_fail(graph->device, error, "launching a graph", 0, err);
}
