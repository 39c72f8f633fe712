/* Streams: command buffers in a row, one timeline, and a ring of host memory for transfers. */
#include "device.h"

#include "base/os.h"

#include <stdlib.h>
#include <string.h>

/* --- submitting --- */

/* Work that was recorded is gone: buffers do not hold what their owner believes, so nothing goes on from here. */
ds_status ds_vk_lose(struct ds_vk_device *device, VkResult result, const char *what, struct ds_error *err) {
    if (device->lost == VK_SUCCESS) device->lost = result;
    return ds_vk_fail(device, result, what, 0, err);
}

static ds_status require_device(const struct ds_vk_device *device, struct ds_error *err) {
    return device->lost == VK_SUCCESS ? DS_OK : ds_vk_fail_lost(device, ds_vk_result_name(device->lost), err);
}

static ds_status wait_for(struct ds_stream *stream, uint64_t value, struct ds_error *err) {
    struct ds_vk_device *device = ds_vk_device_of(stream);
    DS_TRY(require_device(device, err));
    uint64_t reached = 0;
    VkResult result = DS_VK_CALL(device, device->api.GetSemaphoreCounterValue(device->handle, stream->timeline, &reached));
    if (result == VK_SUCCESS && reached >= value) return DS_OK;
    const VkSemaphoreWaitInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO, .semaphoreCount = 1, .pSemaphores = &stream->timeline,
                                      .pValues = &value};
    device->counts.waits++;
    if (result == VK_SUCCESS) result = DS_VK_CALL(device, device->api.WaitSemaphores(device->handle, &info, UINT64_MAX));
    return result == VK_SUCCESS ? DS_OK : ds_vk_lose(device, result, "waiting for work", err);
}

static VkResult close_slot(struct ds_stream *stream) {
    struct ds_vk_device *device = ds_vk_device_of(stream);
    if (!stream->open) return VK_SUCCESS;
    ds_vk_record_end(&stream->recorder);
    stream->open = false;
    const VkCommandBuffer commands = stream->slots[stream->slot].commands;
    stream->slots[stream->slot].value = stream->submitted + 1;
    stream->slot = (stream->slot + 1) % DS_VK_SLOTS;
    const VkResult result = DS_VK_CALL(device, device->api.EndCommandBuffer(commands));
    if (result == VK_SUCCESS) stream->pending[stream->n_pending++] = commands;
    return result;
}

ds_status ds_vk_flush(struct ds_stream *stream, struct ds_error *err) {
    struct ds_vk_device *device = ds_vk_device_of(stream);
    DS_TRY(require_device(device, err));
    VkResult result = close_slot(stream);
    if (result == VK_SUCCESS && stream->n_pending == 0) return DS_OK;
    const uint64_t value = stream->submitted + 1;
    const VkTimelineSemaphoreSubmitInfo timeline = {.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO, .signalSemaphoreValueCount = 1,
                                                    .pSignalSemaphoreValues = &value};
    const VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .pNext = &timeline, .commandBufferCount = stream->n_pending,
                               .pCommandBuffers = stream->pending, .signalSemaphoreCount = 1, .pSignalSemaphores = &stream->timeline};
    if (result == VK_SUCCESS) {
        ds_os_mutex_lock(device->mutex);
        result = DS_VK_CALL(device, device->api.QueueSubmit(device->queue, 1, &info, VK_NULL_HANDLE));
        device->counts.submissions++;
        ds_os_mutex_unlock(device->mutex);
    }
    stream->n_pending = stream->n_graphs = 0;
    if (result != VK_SUCCESS) return ds_vk_lose(device, result, "handing work to the queue", err);
    stream->submitted = value;
    return DS_OK;
}

ds_status ds_vk_stream_sync(struct ds_stream *stream, struct ds_error *err) {
    DS_TRY(ds_vk_flush(stream, err));
    return wait_for(stream, stream->submitted, err);
}

static void reuse_sets(struct ds_vk_device *device, struct ds_vk_sets *sets) {
    if (sets->n_pools != 1) {
        ds_vk_sets_destroy(device, sets);
        return;
    }
    device->api.ResetDescriptorPool(device->handle, sets->pools[0], 0);
    sets->left = 64;
}

ds_status ds_vk_stream_recorder(struct ds_stream *stream, struct ds_vk_recorder **out, struct ds_error *err) {
    struct ds_vk_device *device = ds_vk_device_of(stream);
    *out = &stream->recorder;
    DS_TRY(require_device(device, err));
    if (stream->open) return DS_OK;
    struct ds_vk_slot *slot = &stream->slots[stream->slot];
    if (slot->value > stream->submitted || stream->n_pending >= DS_VK_PENDING - 2) DS_TRY(ds_vk_flush(stream, err));
    DS_TRY(wait_for(stream, slot->value, err));
    reuse_sets(device, &slot->sets);
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO, .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    const VkResult result = DS_VK_CALL(device, device->api.BeginCommandBuffer(slot->commands, &begin));
    if (result == VK_ERROR_DEVICE_LOST) return ds_vk_lose(device, result, "a command buffer", err);
    if (result != VK_SUCCESS) return ds_vk_fail(device, result, "a command buffer", 0, err);
    stream->recorder.commands = slot->commands;
    stream->recorder.sets = &slot->sets;
    ds_vk_record_begin(&stream->recorder);
    stream->open = true;
    return DS_OK;
}

ds_status ds_vk_stream_append(struct ds_stream *stream, VkCommandBuffer commands, struct ds_error *err) {
    enum { GRAPHS_AT_ONCE = 8 };
    if (stream->n_pending >= DS_VK_PENDING - 2 || stream->n_graphs >= GRAPHS_AT_ONCE) DS_TRY(ds_vk_flush(stream, err));
    const VkResult result = close_slot(stream);
    if (result != VK_SUCCESS) return ds_vk_lose(ds_vk_device_of(stream), result, "a command buffer", err);
    stream->pending[stream->n_pending++] = commands;
    stream->n_graphs++;
    return DS_OK;
}

/* --- ops outside graphs --- */

/* Grows when an op needs more than those before it. */
static ds_status reserve(struct ds_stream *stream, uint64_t bytes, struct ds_error *err) {
    struct ds_vk_device *device = ds_vk_device_of(stream);
    if (bytes <= stream->scratch_buffer.base.bytes) return DS_OK;
    DS_TRY(ds_vk_stream_sync(stream, err)); /* ops that are under way still use the old one */
    ds_vk_memory_destroy(device, &stream->scratch);
    stream->scratch_buffer = (struct ds_vk_buffer){.base = {.device = stream->device}};
    DS_TRY(ds_vk_memory_create(device, DS_VK_DEVICE_MEMORY, bytes, "scratch memory of an op", &stream->scratch, err));
    stream->scratch_buffer = (struct ds_vk_buffer){.base = {.device = stream->device, .bytes = bytes}, .memory = stream->scratch};
    return DS_OK;
}

ds_status ds_vk_stream_op(struct ds_stream *stream, ds_op op, const union ds_op_params *params, struct ds_error *err) {
    struct ds_vk_device *device = ds_vk_device_of(stream);
    struct ds_vk_recorder *recorder;
    if (ds_vk_ops[op].scratch) DS_TRY(reserve(stream, ds_vk_ops[op].scratch(device, params), err));
    DS_TRY(ds_vk_stream_recorder(stream, &recorder, err));
    recorder->scratch = (struct ds_slice){stream->scratch_buffer.base.bytes ? &stream->scratch_buffer.base : NULL, 0};
    return ds_vk_record_op(recorder, op, params, err);
}

/* --- creating --- */

static ds_status create_parts(struct ds_stream *stream, struct ds_error *err) {
    struct ds_vk_device *device = ds_vk_device_of(stream);
    const VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO, .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    const VkSemaphoreCreateInfo semaphore = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                          .queueFamilyIndex = device->family};
    VkResult result = DS_VK_CALL(device, device->api.CreateSemaphore(device->handle, &semaphore, NULL, &stream->timeline));
    if (result == VK_SUCCESS) result = DS_VK_CALL(device, device->api.CreateCommandPool(device->handle, &pool, NULL, &stream->pool));
    const VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, .commandPool = stream->pool,
                                              .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY, .commandBufferCount = DS_VK_SLOTS};
    VkCommandBuffer commands[DS_VK_SLOTS];
    if (result == VK_SUCCESS) result = DS_VK_CALL(device, device->api.AllocateCommandBuffers(device->handle, &info, commands));
    if (result != VK_SUCCESS) return ds_vk_fail(device, result, "a stream", 0, err);
    for (uint32_t i = 0; i < DS_VK_SLOTS; i++) stream->slots[i].commands = commands[i];
    result = ds_vk_marks_create(stream);
    if (result != VK_SUCCESS) return ds_vk_fail(device, result, "a stream", 0, err);
    const uint64_t room = (uint64_t)DS_VK_PARTS * DS_VK_PART_BYTES;
    DS_TRY(ds_vk_memory_create(device, DS_VK_UPLOAD_MEMORY, room, "memory that writes pass through", &stream->upload, err));
    if (device->features.unified) return DS_OK;
    return ds_vk_memory_create(device, DS_VK_READBACK_MEMORY, room, "memory that reads pass through", &stream->readback, err);
}

ds_status ds_vk_stream_create(struct ds_device *base, struct ds_stream **out, struct ds_error *err) {
    *out = NULL;
    struct ds_stream *stream = calloc(1, sizeof *stream);
    if (!stream) return ds_fail_memory(err, sizeof *stream, "a stream");
    stream->device = base;
    stream->recorder.device = (struct ds_vk_device *)base;
    const ds_status status = create_parts(stream, err);
    if (status != DS_OK) {
        ds_vk_stream_destroy(stream);
        return status;
    }
    struct ds_vk_device *device = ds_vk_device_of(stream);
    ds_os_mutex_lock(device->mutex);
    stream->next = device->streams;
    device->streams = stream;
    ds_os_mutex_unlock(device->mutex);
    *out = stream;
    return DS_OK;
}

static void take_out(struct ds_stream *stream) {
    struct ds_vk_device *device = ds_vk_device_of(stream);
    ds_os_mutex_lock(device->mutex);
    for (struct ds_stream **at = &device->streams; *at; at = &(*at)->next) {
        if (*at != stream) continue;
        *at = stream->next;
        break;
    }
    ds_os_mutex_unlock(device->mutex);
}

void ds_vk_settle(struct ds_vk_device *device) {
    struct ds_error err; /* what fails here fails again where the stream is used, and is told there */
    ds_os_mutex_lock(device->mutex);
    struct ds_stream *stream = device->streams;
    ds_os_mutex_unlock(device->mutex);
    for (; stream; stream = stream->next)
        if (stream != device->own) (void)ds_vk_stream_sync(stream, &err);
    ds_os_mutex_lock(device->own_mutex); /* `own` waits for all that it does, unless that failed */
    if (device->own) (void)ds_vk_stream_sync(device->own, &err);
    ds_os_mutex_unlock(device->own_mutex);
    if (device->lost != VK_SUCCESS) (void)device->api.DeviceWaitIdle(device->handle); /* waiting has failed, perhaps not what was waited for */
}

void ds_vk_stream_destroy(struct ds_stream *stream) {
    if (!stream) return;
    struct ds_vk_device *device = ds_vk_device_of(stream);
    take_out(stream);
    struct ds_error err;
    if (stream->timeline && stream->pool && ds_vk_stream_sync(stream, &err) != DS_OK) (void)device->api.DeviceWaitIdle(device->handle);
    for (uint32_t i = 0; i < DS_VK_SLOTS; i++) ds_vk_sets_destroy(device, &stream->slots[i].sets);
    if (stream->pool) device->api.DestroyCommandPool(device->handle, stream->pool, NULL);
    if (stream->marks) device->api.DestroyQueryPool(device->handle, stream->marks, NULL);
    if (stream->timeline) device->api.DestroySemaphore(device->handle, stream->timeline, NULL);
    ds_vk_memory_destroy(device, &stream->upload);
    ds_vk_memory_destroy(device, &stream->readback);
    ds_vk_memory_destroy(device, &stream->scratch);
    free(stream);
}

/* --- transfers --- */

/* Nothing of the stream is recorded or under way: the host may write where the device reads. */
static bool idle(struct ds_stream *stream) {
    struct ds_vk_device *device = ds_vk_device_of(stream);
    uint64_t reached = 0;
    if (stream->open || stream->n_pending) return false;
    return device->api.GetSemaphoreCounterValue(device->handle, stream->timeline, &reached) == VK_SUCCESS && reached >= stream->submitted;
}

static void record_copy(struct ds_vk_recorder *r, VkBuffer to, uint64_t to_offset, VkBuffer from, uint64_t from_offset, uint64_t bytes) {
    const VkBufferCopy region = {from_offset, to_offset, bytes};
    r->device->api.CmdCopyBuffer(r->commands, from, to, 1, &region);
}

/* A part of the ring with room; small writes share one. */
static ds_status make_room(struct ds_stream *stream, uint64_t left, struct ds_error *err) {
    if (stream->filled < DS_VK_PART_BYTES && (left <= DS_VK_PART_BYTES - stream->filled || left >= DS_VK_PART_BYTES)) return DS_OK;
    const uint32_t next = (stream->part + 1) % DS_VK_PARTS;
    DS_TRY(ds_vk_flush(stream, err)); /* the device begins while the host goes on */
    DS_TRY(wait_for(stream, stream->part_value[next], err));
    stream->part = next;
    stream->filled = 0;
    return DS_OK;
}

ds_status ds_vk_write(struct ds_stream *stream, struct ds_slice to, const void *from, uint64_t bytes, struct ds_error *err) {
    DS_TRY(ds_slice_require("write", &to, bytes, err));
    if (bytes == 0) return DS_OK;
    struct ds_vk_device *device = ds_vk_device_of(stream);
    const struct ds_vk_memory *memory = &ds_vk_buffer_of(&to)->memory;
    device->counts.writes++;
    device->counts.bytes_to_device += bytes;
    if (memory->mapped && idle(stream)) {
        memcpy(memory->mapped + to.offset, from, (size_t)bytes);
        return DS_OK;
    }
    struct ds_vk_recorder *recorder;
    for (uint64_t done = 0; done < bytes;) {
        DS_TRY(make_room(stream, bytes - done, err));
        const uint64_t piece = DS_MIN(bytes - done, (uint64_t)(DS_VK_PART_BYTES - stream->filled));
        const uint64_t at = (uint64_t)stream->part * DS_VK_PART_BYTES + stream->filled;
        memcpy(stream->upload.mapped + at, (const uint8_t *)from + done, (size_t)piece);
        DS_TRY(ds_vk_stream_recorder(stream, &recorder, err));
        /* All of it, not the piece alone: a descriptor shows a shader its buffer to the end, and the validation layer takes it to write that. */
        ds_vk_touch(recorder, &to, bytes, true);
        record_copy(recorder, memory->buffer, to.offset + done, stream->upload.buffer, at, piece);
        stream->part_value[stream->part] = stream->submitted + 1;
        stream->filled = (uint32_t)DS_MIN(DS_ALIGN_UP(stream->filled + piece, (uint64_t)DS_ALIGN), (uint64_t)DS_VK_PART_BYTES);
        done += piece;
    }
    return DS_OK;
}

ds_status ds_vk_read(struct ds_stream *stream, struct ds_slice from, void *to, uint64_t bytes, struct ds_error *err) {
    DS_TRY(ds_slice_require("read", &from, bytes, err));
    struct ds_vk_device *device = ds_vk_device_of(stream);
    const struct ds_vk_memory *memory = &ds_vk_buffer_of(&from)->memory;
    const uint64_t room = (uint64_t)DS_VK_PARTS * DS_VK_PART_BYTES;
    device->counts.reads++;
    device->counts.bytes_to_host += bytes;
    if (memory->mapped || bytes == 0) {
        DS_TRY(ds_vk_stream_sync(stream, err));
        if (bytes) memcpy(to, memory->mapped + from.offset, (size_t)bytes);
        return DS_OK;
    }
    struct ds_vk_recorder *recorder;
    for (uint64_t done = 0; done < bytes;) {
        const uint64_t piece = DS_MIN(bytes - done, room);
        DS_TRY(ds_vk_stream_recorder(stream, &recorder, err));
        const struct ds_slice source = {from.buffer, from.offset + done};
        ds_vk_touch(recorder, &source, piece, false);
        record_copy(recorder, stream->readback.buffer, 0, memory->buffer, source.offset, piece);
        DS_TRY(ds_vk_stream_sync(stream, err));
        memcpy((uint8_t *)to + done, stream->readback.mapped, (size_t)piece);
        done += piece;
    }
    return DS_OK;
}

ds_status ds_vk_copy(struct ds_stream *stream, struct ds_slice to, struct ds_slice from, uint64_t bytes, struct ds_error *err) {
    DS_TRY(ds_slice_require("copy from", &from, bytes, err));
    DS_TRY(ds_slice_require("copy to", &to, bytes, err));
    if (bytes == 0) return DS_OK;
    struct ds_vk_recorder *recorder;
    DS_TRY(ds_vk_stream_recorder(stream, &recorder, err));
    ds_vk_touch(recorder, &from, bytes, false);
    ds_vk_touch(recorder, &to, bytes, true);
    record_copy(recorder, ds_vk_buffer_of(&to)->memory.buffer, to.offset, ds_vk_buffer_of(&from)->memory.buffer, from.offset, bytes);
    return DS_OK;
}
