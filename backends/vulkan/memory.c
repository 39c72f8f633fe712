/* Buffers in pieces of device memory (slab.c), mapped where the device shares the host's memory. */
#include "device.h"

#include "base/os.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int64_t ds_vk_buffers_alive;

bool ds_vk_injected(struct ds_vk_device *device) {
    const uint64_t call = __atomic_add_fetch(&device->calls, 1, __ATOMIC_RELAXED);
    return device->fail_at != 0 && call == device->fail_at;
}

bool ds_vk_injected_allocation(struct ds_vk_device *device) {
    const uint64_t call = __atomic_add_fetch(&device->allocating_calls, 1, __ATOMIC_RELAXED);
    return ds_vk_injected(device) || (device->fail_allocation_at != 0 && call == device->fail_allocation_at);
}

ds_status ds_vk_fail_lost(const struct ds_vk_device *device, const char *what, struct ds_error *err) {
    return ds_fail(err, DS_ERROR_DEVICE, "device %s is lost (%s): what was under way is gone. Close the engine and open it again; if this repeats, use "
                   "device cpu", device->name, what);
}

ds_status ds_vk_fail(const struct ds_vk_device *device, VkResult result, const char *what, uint64_t bytes, struct ds_error *err) {
    const bool memory = result == VK_ERROR_OUT_OF_DEVICE_MEMORY || result == VK_ERROR_OUT_OF_HOST_MEMORY || result == VK_ERROR_OUT_OF_POOL_MEMORY ||
                        result == VK_ERROR_TOO_MANY_OBJECTS || result == VK_ERROR_FRAGMENTED_POOL;
    if (memory && bytes)
        return ds_fail(err, DS_ERROR_MEMORY, "out of memory on %s: %" PRIu64 " bytes for %s, of %" PRIu64 " that the device has: %s", device->name, bytes,
                       what, device->memory_bytes, ds_vk_result_name(result));
    if (memory) return ds_fail(err, DS_ERROR_MEMORY, "out of memory on %s: %s: %s", device->name, what, ds_vk_result_name(result));
    if (result == VK_ERROR_DEVICE_LOST) return ds_vk_fail_lost(device, what, err);
    return ds_fail(err, DS_ERROR_DEVICE, "%s failed: %s: %s (%d); if this repeats, open the device anew", device->name, what,
                   ds_vk_result_name(result), (int)result);
}

/* --- kinds of memory --- */

/* The first allowed type that has all of `wanted`; -1: none. */
static int type_with(const struct ds_vk_device *device, uint32_t allowed, VkMemoryPropertyFlags wanted) {
    for (uint32_t i = 0; i < device->memory.memoryTypeCount; i++)
        if (allowed >> i & 1u && (device->memory.memoryTypes[i].propertyFlags & wanted) == wanted) return (int)i;
    return -1;
}

static int type_for(const struct ds_vk_device *device, enum ds_vk_place place, uint32_t allowed) {
    const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, cached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    const VkMemoryPropertyFlags host = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    const VkMemoryPropertyFlags unified[] = {local | host | cached, local | host, local, 0}, apart[] = {local, 0};
    const VkMemoryPropertyFlags upload[] = {host}, readback[] = {host | cached, host};
    const VkMemoryPropertyFlags *wanted = device->features.unified ? unified : apart;
    size_t n = device->features.unified ? DS_COUNT(unified) : DS_COUNT(apart);
    if (place == DS_VK_UPLOAD_MEMORY) wanted = upload, n = DS_COUNT(upload);
    if (place == DS_VK_READBACK_MEMORY) wanted = readback, n = DS_COUNT(readback);
    for (size_t i = 0; i < n; i++) {
        const int type = type_with(device, allowed, wanted[i]);
        if (type >= 0) return type;
    }
    return -1;
}

static VkResult allocate(struct ds_vk_device *device, enum ds_vk_place place, struct ds_vk_memory *out) {
    VkMemoryRequirements needs;
    device->api.GetBufferMemoryRequirements(device->handle, out->buffer, &needs);
    const int type = type_for(device, place, needs.memoryTypeBits);
    if (type < 0) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    const VkMemoryPropertyFlags host = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    const bool visible = (device->memory.memoryTypes[type].propertyFlags & host) == host;
    const bool address = place == DS_VK_DEVICE_MEMORY && device->features.variant & DS_VK_ADDRESS;
    const struct ds_vk_room room = {.bytes = needs.size, .align = needs.alignment, .type = (uint32_t)type, .address = address,
                                    .mapped = visible && (place != DS_VK_DEVICE_MEMORY || device->features.unified)};
    VkResult result = ds_vk_piece_take(device, &room, &out->piece);
    if (result != VK_SUCCESS) return result;
    uint64_t offset;
    const VkDeviceMemory memory = ds_vk_piece_memory(out->piece, &offset);
    result = DS_VK_CALL(device, device->api.BindBufferMemory(device->handle, out->buffer, memory, offset));
    if (room.mapped) out->mapped = ds_vk_piece_mapped(out->piece);
    if (result == VK_SUCCESS && address)
        out->address = device->api.GetBufferDeviceAddress(device->handle, &(VkBufferDeviceAddressInfo){
                                                                              .sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO, .buffer = out->buffer});
    return result;
}

ds_status ds_vk_memory_create(struct ds_vk_device *device, enum ds_vk_place place, uint64_t bytes, const char *what, struct ds_vk_memory *out,
                              struct ds_error *err) {
    *out = (struct ds_vk_memory){0};
    if (place == DS_VK_DEVICE_MEMORY && bytes > device->features.max_buffer)
        return ds_fail(err, DS_ERROR_MEMORY, "out of memory on %s: %" PRIu64 " bytes for %s in one piece; the device takes at most %" PRIu64,
                       device->name, bytes, what, device->features.max_buffer);
    VkBufferUsageFlags usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT | VK_BUFFER_USAGE_STORAGE_BUFFER_BIT;
    if (place == DS_VK_DEVICE_MEMORY && device->features.variant & DS_VK_ADDRESS) usage |= VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT;
    /* Whole words: shaders read nothing smaller. */
    const VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = DS_ALIGN_UP(DS_MAX(bytes, 1), (uint64_t)DS_ALIGN),
                                     .usage = usage};
    VkResult result = DS_VK_ALLOCATE(device, device->api.CreateBuffer(device->handle, &info, NULL, &out->buffer));
    if (result == VK_SUCCESS) {
        device->counts.buffers++;
        (void)__atomic_add_fetch(&ds_vk_buffers_alive, 1, __ATOMIC_RELAXED);
        result = allocate(device, place, out);
    }
    if (result == VK_SUCCESS) return DS_OK;
    ds_vk_memory_destroy(device, out);
    return ds_vk_fail(device, result, what, bytes, err);
}

void ds_vk_memory_destroy(struct ds_vk_device *device, struct ds_vk_memory *memory) {
    if (memory->buffer) {
        device->api.DestroyBuffer(device->handle, memory->buffer, NULL);
        (void)__atomic_sub_fetch(&ds_vk_buffers_alive, 1, __ATOMIC_RELAXED);
    }
    ds_vk_piece_drop(device, memory->piece);
    *memory = (struct ds_vk_memory){0};
}

/* --- buffers --- */

static ds_status zero(struct ds_vk_device *device, struct ds_vk_buffer *buffer, struct ds_error *err) {
    if (buffer->memory.mapped) {
        memset(buffer->memory.mapped, 0, (size_t)buffer->base.bytes);
        return DS_OK;
    }
    struct ds_vk_recorder *recorder;
    ds_os_mutex_lock(device->own_mutex);
    ds_status status = ds_vk_stream_recorder(device->own, &recorder, err);
    if (status == DS_OK) {
        device->api.CmdFillBuffer(recorder->commands, buffer->memory.buffer, 0, VK_WHOLE_SIZE, 0);
        ds_vk_barrier(recorder);
        status = ds_vk_stream_sync(device->own, err);
    }
    ds_os_mutex_unlock(device->own_mutex);
    return status;
}

ds_status ds_vk_buffer_create(struct ds_device *base, uint64_t bytes, struct ds_buffer **out, struct ds_error *err) {
    struct ds_vk_device *device = (struct ds_vk_device *)base;
    *out = NULL;
    struct ds_vk_buffer *buffer = malloc(sizeof *buffer);
    if (!buffer) return ds_fail_memory(err, sizeof *buffer, "a device buffer");
    *buffer = (struct ds_vk_buffer){.base = {.device = base, .bytes = bytes}};
    ds_status status = ds_vk_memory_create(device, DS_VK_DEVICE_MEMORY, bytes, "a buffer", &buffer->memory, err);
    if (status == DS_OK) status = zero(device, buffer, err);
    if (status != DS_OK) {
        (void)device->api.DeviceWaitIdle(device->handle); /* zeroing may be under way although waiting for it failed */
        ds_vk_memory_destroy(device, &buffer->memory);
        free(buffer);
        return status;
    }
    *out = &buffer->base;
    return DS_OK;
}

void ds_vk_buffer_destroy(struct ds_buffer *base) {
    if (!base) return;
    struct ds_vk_buffer *buffer = (struct ds_vk_buffer *)base;
    ds_vk_settle((struct ds_vk_device *)base->device);
    ds_vk_memory_destroy((struct ds_vk_device *)base->device, &buffer->memory);
    free(buffer);
}
