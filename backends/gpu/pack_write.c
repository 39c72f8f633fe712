#include "pack_write.h"

#include "pack.h"

#include <stdlib.h>

struct job {
    const struct ds_gpu_tiles *tiles;
    const struct ds_weight *weight;
    const uint8_t *from; /* the job's first row, in file layout */
    uint64_t row_bytes, tile_bytes;
    uint32_t rows;
    uint8_t *to;
};

static void pack_share(void *context, unsigned member, unsigned members) {
    const struct job *job = context;
    uint64_t tile, end;
    ds_pool_share((job->rows + DS_GPU_TILE - 1) / DS_GPU_TILE, member, members, &tile, &end);
    for (; tile < end; tile++) {
        const uint32_t first = (uint32_t)tile * DS_GPU_TILE;
        job->tiles->pack(job->weight->type, job->weight->cols, job->from + first * job->row_bytes, job->row_bytes,
                         DS_MIN(job->rows - first, (uint32_t)DS_GPU_TILE), job->to + tile * job->tile_bytes);
    }
}

static ds_status check(const struct ds_weight *weight, struct job *job, struct ds_error *err) {
    if (job->tiles->matrix_bytes(weight->type, weight->rows, weight->cols) == 0 || !ds_type_size(weight->type, 1, weight->cols, &job->row_bytes))
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "weight_write: there is no layout for %s [%u, %u]", ds_type_get(weight->type)->name, weight->rows,
                       weight->cols);
    job->tile_bytes = job->tiles->tile_bytes(weight->type, weight->cols);
    return DS_OK;
}

ds_status ds_gpu_pack_write(const struct ds_gpu_tiles *tiles, struct ds_pool **pool, unsigned threads, struct ds_stream *stream,
                            const struct ds_weight *weight, uint32_t first_row, uint32_t rows, const void *from, struct ds_error *err) {
    enum { MOST_BYTES = 16 << 20 };
    struct job job = {.tiles = tiles, .weight = weight, .from = from, .rows = rows};
    DS_TRY(ds_weight_require_rows(weight, first_row, rows, err));
    DS_TRY(check(weight, &job, err));
    if (!*pool) DS_TRY(ds_pool_create(threads, pool, err));
    const uint32_t at_once = (uint32_t)DS_MAX(MOST_BYTES / job.tile_bytes, 1);
    const uint64_t room = job.tile_bytes * DS_MIN(at_once, (rows + DS_GPU_TILE - 1) / DS_GPU_TILE);
    job.to = malloc((size_t)room);
    if (!job.to) return ds_fail_memory(err, (size_t)room, "packed weights on their way to the device");
    ds_status status = DS_OK;
    for (uint32_t row = 0; row < rows && status == DS_OK; row += at_once * DS_GPU_TILE) {
        struct job piece = job;
        piece.from = job.from + row * job.row_bytes;
        piece.rows = DS_MIN(rows - row, at_once * DS_GPU_TILE);
        status = ds_pool_run(*pool, pack_share, &piece, err);
        struct ds_slice to = weight->at;
        to.offset += (first_row + row) / DS_GPU_TILE * job.tile_bytes;
        const uint64_t bytes = (piece.rows + DS_GPU_TILE - 1) / DS_GPU_TILE * job.tile_bytes;
        if (status == DS_OK) status = tiles->write(stream, to, job.to, bytes, err);
    }
    free(job.to);
    return status;
}
