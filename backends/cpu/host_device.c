#include "host_device.h"

#include "base/os.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* From here on a buffer is mapped on its own: its pages go back to the system, and large ones may be huge pages. */
enum { MAPPED_BYTES = 256 * 1024 };

ds_status ds_host_buffer_create(struct ds_device *device, uint64_t bytes, struct ds_buffer **out, struct ds_error *err) {
    *out = NULL;
    if (bytes > SIZE_MAX / 2)
        return ds_fail(err, DS_ERROR_MEMORY, "out of memory: %" PRIu64 " bytes for a device buffer", bytes);
    struct ds_host_buffer *buffer = malloc(sizeof *buffer);
    if (!buffer) return ds_fail_memory(err, sizeof *buffer, "a device buffer");
    *buffer = (struct ds_host_buffer){.base = {.device = device, .bytes = bytes}, .pages = bytes >= MAPPED_BYTES};
    if (buffer->pages) {
        buffer->data = ds_os_alloc_pages(bytes, DS_ALIGN);
    } else {
        const size_t rounded = DS_ALIGN_UP(DS_MAX((size_t)bytes, 1), (size_t)DS_ALIGN);
        buffer->data = aligned_alloc(DS_ALIGN, rounded);
        if (buffer->data) memset(buffer->data, 0, rounded);
    }
    if (!buffer->data) {
        free(buffer);
        return ds_fail_memory(err, (size_t)bytes, "a device buffer");
    }
    *out = &buffer->base;
    return DS_OK;
}

ds_status ds_host_buffer_import(struct ds_device *device, const void *data, uint64_t bytes, struct ds_buffer **out, struct ds_error *err) {
    *out = NULL;
    if ((uintptr_t)data % DS_ALIGN != 0)
        return ds_fail(err, DS_ERROR_ARGUMENT, "memory for a device buffer starts at %p, which is no multiple of %d", data, DS_ALIGN);
    struct ds_host_buffer *buffer = malloc(sizeof *buffer);
    if (!buffer) return ds_fail_memory(err, sizeof *buffer, "a device buffer");
    /* As a number, since a const pointer may not be made another: nothing writes there. */
    *buffer = (struct ds_host_buffer){.base = {.device = device, .bytes = bytes}, .data = (uint8_t *)(uintptr_t)data, .imported = true};
    *out = &buffer->base;
    return DS_OK;
}

void ds_host_buffer_destroy(struct ds_buffer *base) {
    if (!base) return;
    struct ds_host_buffer *buffer = (struct ds_host_buffer *)base;
    if (buffer->pages)
        ds_os_free_pages(buffer->data, base->bytes);
    else if (!buffer->imported)
        free(buffer->data);
    free(buffer);
}

void *ds_host_data(struct ds_buffer *buffer) {
    return ((struct ds_host_buffer *)buffer)->data;
}

ds_status ds_host_stream_create(struct ds_device *device, struct ds_stream **out, struct ds_error *err) {
    *out = malloc(sizeof **out);
    if (!*out) return ds_fail_memory(err, sizeof **out, "a stream");
    **out = (struct ds_stream){.device = device};
    return DS_OK;
}

ds_status ds_host_stream_sync(struct ds_stream *stream, struct ds_error *err) {
    (void)stream;
    (void)err;
    return DS_OK;
}

void ds_host_stream_destroy(struct ds_stream *stream) {
    free(stream);
}

ds_status ds_host_write(struct ds_stream *stream, struct ds_slice to, const void *from, uint64_t bytes, struct ds_error *err) {
    (void)stream;
    DS_TRY(ds_slice_require("write", &to, bytes, err));
    if (bytes) memcpy(ds_host_at(&to), from, (size_t)bytes);
    return DS_OK;
}

ds_status ds_host_read(struct ds_stream *stream, struct ds_slice from, void *to, uint64_t bytes, struct ds_error *err) {
    (void)stream;
    DS_TRY(ds_slice_require("read", &from, bytes, err));
    if (bytes) memcpy(to, ds_host_at(&from), (size_t)bytes);
    return DS_OK;
}

ds_status ds_host_copy(struct ds_stream *stream, struct ds_slice to, struct ds_slice from, uint64_t bytes,
                       struct ds_error *err) {
    (void)stream;
    DS_TRY(ds_slice_require("copy from", &from, bytes, err));
    DS_TRY(ds_slice_require("copy to", &to, bytes, err));
    if (bytes) memmove(ds_host_at(&to), ds_host_at(&from), (size_t)bytes);
    return DS_OK;
}

ds_status ds_host_check_weight_rows(const struct ds_weight *weight, uint32_t first_row, uint32_t rows, uint64_t *row_bytes,
                                    struct ds_error *err) {
    DS_TRY(ds_weight_require_rows(weight, first_row, rows, err));
    if (!ds_type_size(weight->type, 1, weight->cols, row_bytes))
        return ds_fail(err, DS_ERROR_ARGUMENT, "weight_write: %u columns are not whole blocks of %s", weight->cols,
                       ds_type_get(weight->type)->name);
    return DS_OK;
}
