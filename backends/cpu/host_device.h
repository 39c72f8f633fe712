/*
 * What the devices whose memory is the host's share: buffers, streams, transfers, and ways to reach operands.
 *
 * A stream has no queue: work runs inside the call, on the caller's thread or on the device's own, and is done on return.
 */
#ifndef DSPARK_CPU_HOST_DEVICE_H
#define DSPARK_CPU_HOST_DEVICE_H

#include "ops/device.h"

struct ds_host_buffer {
    struct ds_buffer base;
    uint8_t *data;
    bool pages;    /* from ds_os_alloc_pages: large; else from aligned_alloc */
    bool imported; /* somebody else's */
};

struct ds_stream {
    struct ds_device *device;
};

/* --- slots of ds_device_fns --- */

ds_status ds_host_buffer_create(struct ds_device *device, uint64_t bytes, struct ds_buffer **out, struct ds_error *err);
ds_status ds_host_buffer_import(struct ds_device *device, const void *data, uint64_t bytes, struct ds_buffer **out, struct ds_error *err);
void ds_host_buffer_destroy(struct ds_buffer *buffer);
void *ds_host_data(struct ds_buffer *buffer);
ds_status ds_host_stream_create(struct ds_device *device, struct ds_stream **out, struct ds_error *err);
ds_status ds_host_stream_sync(struct ds_stream *stream, struct ds_error *err);
void ds_host_stream_destroy(struct ds_stream *stream);
/* A range outside the buffer is refused with DS_ERROR_ARGUMENT. */
ds_status ds_host_write(struct ds_stream *stream, struct ds_slice to, const void *from, uint64_t bytes, struct ds_error *err);
ds_status ds_host_read(struct ds_stream *stream, struct ds_slice from, void *to, uint64_t bytes, struct ds_error *err);
/* The ranges may overlap. */
ds_status ds_host_copy(struct ds_stream *stream, struct ds_slice to, struct ds_slice from, uint64_t bytes,
                       struct ds_error *err);

/*
 * A weight_write's rows: a multiple of DS_WEIGHT_ROWS from a multiple of it, or up to the last row; anything else is
 * refused with DS_ERROR_ARGUMENT. Fills *row_bytes with the size of a row in file layout.
 */
ds_status ds_host_check_weight_rows(const struct ds_weight *weight, uint32_t first_row, uint32_t rows, uint64_t *row_bytes,
                                    struct ds_error *err);

/* --- operands: places in host memory. An absent slice gives NULL. --- */

static inline void *ds_host_at(const struct ds_slice *slice) {
    return slice->buffer ? ((struct ds_host_buffer *)slice->buffer)->data + slice->offset : NULL;
}

/* Row r of a view. */
static inline void *ds_host_row(const struct ds_view *view, uint32_t r) {
    return (uint8_t *)ds_host_at(&view->at) + r * ds_view_pitch(view);
}

/* How many of `rows` rows an op computes: the common rule about `count`. */
static inline uint32_t ds_host_rows(const struct ds_slice *count, uint32_t rows) {
    const uint32_t *active = ds_host_at(count);
    return active && *active < rows ? *active : rows;
}

/* The page of the cache that holds position `position` of row r's sequence. */
static inline uint32_t ds_host_page(const struct ds_paging *paging, uint32_t r, uint32_t position) {
    const int32_t *table = ds_host_at(&paging->page_table), *sequence = ds_host_at(&paging->row_sequence);
    return (uint32_t)table[(size_t)sequence[r] * paging->pages_per_sequence + position / DS_PAGE];
}

#endif
