/* Timestamps: when the device was done with what a stream was given. */
#include "device.h"

#include <assert.h>

VkResult ds_vk_marks_create(struct ds_stream *stream) {
    struct ds_vk_device *device = ds_vk_device_of(stream);
    const VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO, .queryType = VK_QUERY_TYPE_TIMESTAMP, .queryCount = DS_DEVICE_MARKS};
    if (!device->features.clock_bits) return VK_SUCCESS;
    return DS_VK_CALL(device, device->api.CreateQueryPool(device->handle, &info, NULL, &stream->marks));
}

ds_status ds_vk_mark(struct ds_stream *stream, uint32_t index, struct ds_error *err) {
    struct ds_vk_device *device = ds_vk_device_of(stream);
    struct ds_vk_recorder *recorder;
    assert(index < DS_DEVICE_MARKS);
    DS_TRY(ds_vk_stream_recorder(stream, &recorder, err));
    device->api.CmdResetQueryPool(recorder->commands, stream->marks, index, 1);
    device->api.CmdWriteTimestamp(recorder->commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, stream->marks, index);
    return DS_OK;
}

ds_status ds_vk_elapsed(struct ds_stream *stream, uint32_t from, uint32_t to, double *seconds, struct ds_error *err) {
    struct ds_vk_device *device = ds_vk_device_of(stream);
    const uint32_t indices[2] = {from, to}, bits = device->features.clock_bits;
    uint64_t ticks[2];
    *seconds = 0;
    for (uint32_t i = 0; i < 2; i++) {
        const VkResult result = DS_VK_CALL(device, device->api.GetQueryPoolResults(device->handle, stream->marks, indices[i], 1, sizeof ticks[i], &ticks[i],
                                                                                    sizeof ticks[i], VK_QUERY_RESULT_64_BIT));
        if (result != VK_SUCCESS) return ds_vk_lose(device, result, "a timestamp", err); /* both were waited for */
    }
    const uint64_t passed = (ticks[1] - ticks[0]) & (bits < 64 ? (UINT64_C(1) << bits) - 1 : UINT64_MAX); /* a clock may have gone round */
    *seconds = (double)passed * device->features.clock_period * 1e-9;
    return DS_OK;
}
