/* Buffers, streams, transfers. */
#include "device.h"

#include "base/os.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *data_of(const struct ds_slice *slice) { return ((struct ds_gpu_buffer *)slice->buffer)->data + slice->offset; }

ds_status ds_gpu_enter(const struct ds_gpu_device *device, struct ds_error *err) {
    const gpuError_t error = gpuSetDevice(device->index);
    return error == gpuSuccess ? DS_OK : ds_gpu_fail(device, error, "taking the device", 0, err);
}

ds_status ds_gpu_fail(const struct ds_gpu_device *device, gpuError_t error, const char *what, uint64_t bytes, struct ds_error *err) {
    (void)gpuGetLastError(); /* forgets it, where it can be forgotten */
    if (error == gpuErrorMemoryAllocation) {
        size_t unused = 0, all = 0;
        const bool known = gpuMemGetInfo(&unused, &all) == gpuSuccess;
        return ds_fail(err, DS_ERROR_MEMORY,
                       "out of memory on %s: %" PRIu64 " bytes for %s%s; %" PRIu64 " of %" PRIu64 " are unused; a shorter context, fewer sessions, a smaller "
                       "model or another device fit better",
                       device->name, bytes, what, known ? "" : " (what is there is not known)", (uint64_t)unused, (uint64_t)all);
    }
    if (error == gpuErrorNoKernelImage)
        return ds_fail(err, DS_ERROR_DEVICE, "%s (%s): this build has no kernels for it: %s; build it with this architecture (-Dnvidia_archs, -Damd_archs)",
                       device->name, device->description, gpuGetErrorString(error));
    return ds_fail(err, DS_ERROR_DEVICE, "%s failed: %s: %s; open the engine anew, in a new process if that fails, too, or use device cpu", device->name, what,
                   gpuGetErrorString(error));
}

/* --- buffers --- */

ds_status ds_gpu_buffer_create(struct ds_device *base, uint64_t bytes, struct ds_buffer **out, struct ds_error *err) {
    struct ds_gpu_device *device = (struct ds_gpu_device *)base;
    *out = NULL;
    if (bytes > SIZE_MAX / 2) return ds_gpu_fail(device, gpuErrorMemoryAllocation, "a buffer", bytes, err);
    DS_TRY(ds_gpu_enter(device, err));
    struct ds_gpu_buffer *buffer = malloc(sizeof *buffer);
    if (!buffer) return ds_fail_memory(err, sizeof *buffer, "a device buffer");
    *buffer = (struct ds_gpu_buffer){.base = {.device = base, .bytes = bytes}};
    void *data = NULL;
    const size_t size = (size_t)DS_MAX(bytes, 1);
    gpuError_t error = gpuMalloc(&data, size);
    if (error == gpuSuccess) {
        ds_os_mutex_lock(device->mutex);
        error = gpuMemsetAsync(data, 0, size, device->own);
        if (error == gpuSuccess) error = gpuStreamSynchronize(device->own);
        ds_os_mutex_unlock(device->mutex);
    }
    if (error != gpuSuccess) {
        gpuFree(data);
        free(buffer);
        return ds_gpu_fail(device, error, "a buffer", bytes, err);
    }
    buffer->data = data;
    *out = &buffer->base;
    return DS_OK;
}

void ds_gpu_buffer_destroy(struct ds_buffer *base) {
    if (!base) return;
    struct ds_gpu_buffer *buffer = (struct ds_gpu_buffer *)base;
    struct ds_error err;
    (void)ds_gpu_enter((struct ds_gpu_device *)base->device, &err); /* what a lost device had is given up all the same */
    gpuFree(buffer->data);
    free(buffer);
}

/* --- streams --- */

static gpuError_t create_staging(struct ds_gpu_staging *staging) {
    void *data = NULL;
    gpuError_t error = gpuMallocHost(&data, (size_t)DS_GPU_SLOTS * DS_GPU_SLOT_BYTES);
    staging->data = data;
    for (int i = 0; i < DS_GPU_SLOTS && error == gpuSuccess; i++) error = gpuEventCreateWithFlags(&staging->done[i], gpuEventDisableTiming);
    return error;
}

ds_status ds_gpu_stream_create(struct ds_device *base, struct ds_stream **out, struct ds_error *err) {
    struct ds_gpu_device *device = (struct ds_gpu_device *)base;
    *out = NULL;
    DS_TRY(ds_gpu_enter(device, err));
    struct ds_stream *stream = calloc(1, sizeof *stream);
    if (!stream) return ds_fail_memory(err, sizeof *stream, "a stream");
    stream->device = base;
    gpuError_t error = gpuStreamCreateWithFlags(&stream->handle, gpuStreamNonBlocking);
    if (error == gpuSuccess) error = create_staging(&stream->staging);
    if (error != gpuSuccess) {
        ds_gpu_stream_destroy(stream);
        return ds_gpu_fail(device, error, "a stream and its pinned memory", (uint64_t)DS_GPU_SLOTS * DS_GPU_SLOT_BYTES, err);
    }
    error = ds_gpu_blas_begin(device->blas, &stream->blas);
    if (error != gpuSuccess) {
        const ds_status status = ds_gpu_fail_op(device, &stream->blas, error, "a library's handle", 0, err);
        ds_gpu_stream_destroy(stream);
        return status;
    }
    *out = stream;
    return DS_OK;
}

ds_status ds_gpu_stream_sync(struct ds_stream *stream, struct ds_error *err) {
    const struct ds_gpu_device *device = ds_gpu_device_of(stream);
    DS_TRY(ds_gpu_enter(device, err));
    const gpuError_t error = gpuStreamSynchronize(stream->handle);
    return error == gpuSuccess ? DS_OK : ds_gpu_fail(device, error, "work on a stream", 0, err);
}

void ds_gpu_stream_destroy(struct ds_stream *stream) {
    struct ds_error err;
    if (!stream) return;
    (void)ds_gpu_enter(ds_gpu_device_of(stream), &err);
    if (stream->handle) gpuStreamSynchronize(stream->handle);
    ds_gpu_blas_end(ds_gpu_device_of(stream)->blas, &stream->blas);
    for (int i = 0; i < DS_GPU_SLOTS; i++)
        if (stream->staging.done[i]) gpuEventDestroy(stream->staging.done[i]);
    gpuFreeHost(stream->staging.data);
    gpuFree(stream->scratch);
    if (stream->handle) gpuStreamDestroy(stream->handle);
    free(stream);
}

/* --- transfers --- */

/* Moves on to the next slot of the ring and waits until it is free. */
static gpuError_t next_slot(struct ds_stream *stream) {
    struct ds_gpu_staging *staging = &stream->staging;
    gpuError_t error = gpuEventRecord(staging->done[staging->slot], stream->handle);
    if (error != gpuSuccess) return error;
    staging->used[staging->slot] = true;
    staging->slot = (staging->slot + 1) % DS_GPU_SLOTS;
    staging->filled = 0;
    return staging->used[staging->slot] ? gpuEventSynchronize(staging->done[staging->slot]) : gpuSuccess;
}

static gpuError_t write_piece(struct ds_stream *stream, uint8_t *to, const uint8_t *from, size_t bytes) {
    struct ds_gpu_staging *staging = &stream->staging;
    uint8_t *const at = staging->data + (size_t)staging->slot * DS_GPU_SLOT_BYTES + staging->filled;
    memcpy(at, from, bytes);
    staging->filled += (uint32_t)DS_ALIGN_UP(bytes, (size_t)DS_ALIGN);
    return gpuMemcpyAsync(to, at, bytes, gpuHostToDevice, stream->handle);
}

ds_status ds_gpu_write(struct ds_stream *stream, struct ds_slice to, const void *from, uint64_t bytes, struct ds_error *err) {
    const struct ds_gpu_device *device = ds_gpu_device_of(stream);
    DS_TRY(ds_slice_require("write", &to, bytes, err));
    DS_TRY(ds_gpu_enter(device, err));
    gpuError_t error = gpuSuccess;
    for (uint64_t done = 0; done < bytes && error == gpuSuccess;) {
        const uint64_t left = bytes - done;
        /* A small write goes behind the last ones; one that does not fit there starts a slot. */
        if (stream->staging.filled >= DS_GPU_SLOT_BYTES || (left < DS_GPU_SLOT_BYTES && left > DS_GPU_SLOT_BYTES - stream->staging.filled))
            error = next_slot(stream);
        if (error != gpuSuccess) break;
        const size_t piece = (size_t)DS_MIN(left, (uint64_t)(DS_GPU_SLOT_BYTES - stream->staging.filled));
        error = write_piece(stream, data_of(&to) + done, (const uint8_t *)from + done, piece);
        done += piece;
    }
    return error == gpuSuccess ? DS_OK : ds_gpu_fail(device, error, "a write", 0, err);
}

/*
 * Through the ring, too: then the copy needs no second one by the driver. A small read goes behind what was written last, where nothing is on
 * its way, and waits once. The stream is idle when this returns.
 */
ds_status ds_gpu_read(struct ds_stream *stream, struct ds_slice from, void *to, uint64_t bytes, struct ds_error *err) {
    const struct ds_gpu_device *device = ds_gpu_device_of(stream);
    DS_TRY(ds_slice_require("read", &from, bytes, err));
    DS_TRY(ds_gpu_enter(device, err));
    const struct ds_gpu_staging *staging = &stream->staging;
    const bool behind = bytes <= DS_GPU_SLOT_BYTES - DS_MIN(staging->filled, (uint32_t)DS_GPU_SLOT_BYTES);
    uint8_t *const room = staging->data + (behind ? (size_t)staging->slot * DS_GPU_SLOT_BYTES + staging->filled : 0);
    const uint64_t most = behind ? bytes : (uint64_t)DS_GPU_SLOTS * DS_GPU_SLOT_BYTES;
    gpuError_t error = behind ? gpuSuccess : gpuStreamSynchronize(stream->handle);
    for (uint64_t done = 0; done < bytes && error == gpuSuccess;) {
        const size_t piece = (size_t)DS_MIN(bytes - done, most);
        error = gpuMemcpyAsync(room, data_of(&from) + done, piece, gpuDeviceToHost, stream->handle);
        if (error == gpuSuccess) error = gpuStreamSynchronize(stream->handle);
        if (error == gpuSuccess) memcpy((uint8_t *)to + done, room, piece);
        done += piece;
    }
    stream->staging.filled = 0; /* nothing in it is still on its way */
    return error == gpuSuccess ? DS_OK : ds_gpu_fail(device, error, "a read", 0, err);
}

ds_status ds_gpu_copy(struct ds_stream *stream, struct ds_slice to, struct ds_slice from, uint64_t bytes, struct ds_error *err) {
    const struct ds_gpu_device *device = ds_gpu_device_of(stream);
    DS_TRY(ds_slice_require("copy from", &from, bytes, err));
    DS_TRY(ds_slice_require("copy to", &to, bytes, err));
    DS_TRY(ds_gpu_enter(device, err));
    const gpuError_t error = bytes ? gpuMemcpyAsync(data_of(&to), data_of(&from), (size_t)bytes, gpuDeviceToDevice, stream->handle) : gpuSuccess;
    return error == gpuSuccess ? DS_OK : ds_gpu_fail(device, error, "a copy", 0, err);
}
