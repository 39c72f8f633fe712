/*
 * weight_write of a device that packs weights in tiles of DS_GPU_TILE outputs: all processors pack, pieces go out through the device's own
 * write. What backends/gpu and backends/vulkan differ in is the layout of a tile.
 */
#ifndef DSPARK_GPU_PACK_WRITE_H
#define DSPARK_GPU_PACK_WRITE_H

#include "pool.h"

#include "ops/device.h"

/* Functions as pack.h has them. */
struct ds_gpu_tiles {
    uint64_t (*tile_bytes)(ds_type type, uint32_t cols);
    uint64_t (*matrix_bytes)(ds_type type, uint32_t rows, uint32_t cols);
    void (*pack)(ds_type type, uint32_t cols, const uint8_t *from, uint64_t row_bytes, uint32_t outputs, uint8_t *tile);
    ds_status (*write)(struct ds_stream *stream, struct ds_slice to, const void *from, uint64_t bytes, struct ds_error *err);
};

/*
 * Rows first_row .. first_row + rows - 1 of the weight from `from`, in file layout. *pool is created with the first weight, of `threads`
 * (0: one per processor); the caller sees to it that one thread at a time is here with it.
 */
ds_status ds_gpu_pack_write(const struct ds_gpu_tiles *tiles, struct ds_pool **pool, unsigned threads, struct ds_stream *stream,
                            const struct ds_weight *weight, uint32_t first_row, uint32_t rows, const void *from, struct ds_error *err);

#endif
