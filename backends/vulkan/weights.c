/* weight_write: tiles are packed by all processors and written in pieces. */
#include "device.h"
#include "pack.h"

#include "base/os.h"
#include "pool.h"

#include <inttypes.h>
#include <stdlib.h>

struct job {
    const struct ds_weight *weight;
    const uint8_t *from; /* the job's first row, in file layout */
    uint64_t row_bytes, tile_bytes;
    uint32_t rows;
    uint8_t *to;
};

static void pack_share(void *context, unsigned member, unsigned members) {
    const struct job *job = context;
    uint64_t tile, end;
    ds_pool_share((job->rows + DS_VK_TILE - 1) / DS_VK_TILE, member, members, &tile, &end);
    for (; tile < end; tile++) {
        const uint32_t first = (uint32_t)tile * DS_VK_TILE;
        ds_vk_pack_tile(job->weight->type, job->weight->cols, job->from + first * job->row_bytes, job->row_bytes,
                         DS_MIN(job->rows - first, (uint32_t)DS_VK_TILE), job->to + tile * job->tile_bytes);
    }
}

static ds_status check_rows(const struct ds_weight *weight, uint32_t first_row, uint32_t rows, struct job *job, struct ds_error *err) {
    const bool inside = first_row <= weight->rows && rows <= weight->rows - first_row;
    const bool whole = first_row % DS_WEIGHT_ROWS == 0 && (rows % DS_WEIGHT_ROWS == 0 || first_row + rows == weight->rows);
    if (!inside || !whole)
        return ds_fail(err, DS_ERROR_ARGUMENT, "weight_write of rows %u to %" PRIu64 " of %u: both ends must be multiples of %d or the last row",
                       first_row, (uint64_t)first_row + rows, weight->rows, DS_WEIGHT_ROWS);
    if (ds_vk_matrix_bytes(weight->type, weight->rows, weight->cols) == 0 || !ds_type_size(weight->type, 1, weight->cols, &job->row_bytes))
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "weight_write: there is no layout for %s [%u, %u]", ds_type_get(weight->type)->name, weight->rows,
                       weight->cols);
    job->tile_bytes = ds_vk_tile_bytes(weight->type, weight->cols);
    return DS_OK;
}

static ds_status pack_and_write(struct ds_stream *stream, const struct ds_weight *weight, uint32_t first_row, struct job job, struct ds_error *err) {
    struct ds_vk_device *device = ds_vk_device_of(stream);
    if (!device->pool) DS_TRY(ds_pool_create(device->threads, &device->pool, err));
    enum { MOST_BYTES = 16 << 20 };
    const uint32_t at_once = (uint32_t)DS_MAX(MOST_BYTES / job.tile_bytes, 1), rows = job.rows;
    const uint64_t room = job.tile_bytes * DS_MIN(at_once, (rows + DS_VK_TILE - 1) / DS_VK_TILE);
    job.to = malloc((size_t)room);
    if (!job.to) return ds_fail_memory(err, (size_t)room, "packed weights on their way to the device");
    ds_status status = DS_OK;
    for (uint32_t row = 0; row < rows && status == DS_OK; row += at_once * DS_VK_TILE) {
        struct job piece = job;
        piece.from = job.from + row * job.row_bytes;
        piece.rows = DS_MIN(rows - row, at_once * DS_VK_TILE);
        status = ds_pool_run(device->pool, pack_share, &piece, err);
        struct ds_slice to = weight->at;
        to.offset += (first_row + row) / DS_VK_TILE * job.tile_bytes;
        const uint64_t bytes = (piece.rows + DS_VK_TILE - 1) / DS_VK_TILE * job.tile_bytes;
        if (status == DS_OK) status = ds_vk_write(stream, to, job.to, bytes, err);
    }
    free(job.to);
    return status;
}

ds_status ds_vk_weight_write(struct ds_stream *stream, const struct ds_weight *weight, uint32_t first_row, uint32_t rows,
                              const void *from, struct ds_error *err) {
    struct ds_vk_device *device = ds_vk_device_of(stream);
    struct job job = {.weight = weight, .from = from, .rows = rows};
    DS_TRY(check_rows(weight, first_row, rows, &job, err));
    ds_os_mutex_lock(device->pack_mutex);
    const ds_status status = pack_and_write(stream, weight, first_row, job, err);
    ds_os_mutex_unlock(device->pack_mutex);
    return status;
}
