/* A list of nodes, recorded once into a command buffer and replayed. */
#include "device.h"

#include <stdlib.h>

struct ds_device_graph {
    struct ds_vk_device *device;
    VkCommandPool pool;
    VkCommandBuffer commands;
    struct ds_vk_sets sets;
    struct ds_buffer *scratch; /* its addresses are recorded, so it is the graph's own */
};

void ds_vk_graph_destroy(struct ds_device_graph *graph) {
    if (!graph) return;
    struct ds_vk_device *device = graph->device;
    ds_vk_settle(device);
    if (graph->pool) device->api.DestroyCommandPool(device->handle, graph->pool, NULL);
    ds_vk_sets_destroy(device, &graph->sets);
    ds_vk_buffer_destroy(graph->scratch);
    free(graph);
}

static ds_status begin(struct ds_device_graph *graph, struct ds_error *err) {
    struct ds_vk_device *device = graph->device;
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .queueFamilyIndex = device->family};
    VkResult result = DS_VK_CALL(device, device->api.CreateCommandPool(device->handle, &pool, NULL, &graph->pool));
    const VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, .commandPool = graph->pool,
                                              .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY, .commandBufferCount = 1};
    if (result == VK_SUCCESS) result = DS_VK_CALL(device, device->api.AllocateCommandBuffers(device->handle, &info, &graph->commands));
    /* Once more on its way while an earlier run is: prefill does that. */
    const VkCommandBufferBeginInfo begin_info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                                 .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT};
    if (result == VK_SUCCESS) result = DS_VK_CALL(device, device->api.BeginCommandBuffer(graph->commands, &begin_info));
    return result == VK_SUCCESS ? DS_OK : ds_vk_fail(device, result, "a recording of ops", 0, err);
}

static ds_status record(struct ds_device_graph *graph, const struct ds_graph_node *nodes, uint32_t count, struct ds_error *err) {
    struct ds_vk_device *device = graph->device;
    uint64_t scratch = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t bytes = ds_vk_ops[nodes[i].op].scratch ? ds_vk_ops[nodes[i].op].scratch(device, &nodes[i].params) : 0;
        scratch = DS_MAX(scratch, bytes);
    }
    if (scratch) DS_TRY(ds_vk_buffer_create(&device->base, scratch, &graph->scratch, err));
    DS_TRY(begin(graph, err));
    struct ds_vk_recorder *recorder = calloc(1, sizeof *recorder);
    if (!recorder) return ds_fail_memory(err, sizeof *recorder, "a recording of ops");
    *recorder = (struct ds_vk_recorder){.device = device, .commands = graph->commands, .sets = &graph->sets, .scratch = {graph->scratch, 0}};
    ds_vk_record_begin(recorder);
    ds_status status = DS_OK;
    for (uint32_t i = 0; i < count && status == DS_OK; i++) status = ds_vk_record_op(recorder, nodes[i].op, &nodes[i].params, err);
    if (status == DS_OK) {
        ds_vk_record_end(recorder);
        const VkResult result = DS_VK_CALL(device, device->api.EndCommandBuffer(graph->commands));
        if (result != VK_SUCCESS) status = ds_vk_fail(device, result, "a recording of ops", 0, err);
    }
    free(recorder);
    return status;
}

ds_status ds_vk_graph_create(struct ds_device *base, const struct ds_graph_node *nodes, uint32_t count, struct ds_device_graph **out,
                             struct ds_error *err) {
    *out = NULL;
    struct ds_device_graph *graph = calloc(1, sizeof *graph);
    if (!graph) return ds_fail_memory(err, sizeof *graph, "a graph");
    graph->device = (struct ds_vk_device *)base;
    const ds_status status = record(graph, nodes, count, err);
    if (status != DS_OK) {
        ds_vk_graph_destroy(graph);
        return status;
    }
    *out = graph;
    return DS_OK;
}

ds_status ds_vk_graph_run(struct ds_stream *stream, struct ds_device_graph *graph, struct ds_error *err) {
    return ds_vk_stream_append(stream, graph->commands, err);
}
