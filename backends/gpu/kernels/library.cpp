/* Around a library's matrix product (blas.h): weights out of their tiles, and what a linear adds to its sums. */
#include "common.h"
#include "pack.h"

namespace {

enum { THREADS = 256, SIDE = 8 };

/* A block has a tile of 32 outputs and eight pieces of each: a thread a piece, neighbours of one output beside each other. */
GPU_KERNEL(THREADS) unpack_tiles(const uint8_t *tiles, uint64_t tile_bytes, uint32_t pieces, uint32_t n, uint32_t pitch_bytes, bool widen, unsigned char *out) {
    gpu_begin();
    const uint32_t piece = gpu_block_x() * SIDE + gpu_thread() % SIDE, output = gpu_thread() / SIDE, o = gpu_block_y() * DS_GPU_TILE + output;
    if (piece >= pieces || o >= n) return;
    const struct gpu_words words = gpu_load16(tiles + gpu_block_y() * tile_bytes + (static_cast<size_t>(piece) * DS_GPU_TILE + output) * DS_GPU_PIECE);
    unsigned char *const to = out + static_cast<size_t>(o) * pitch_bytes + static_cast<size_t>(piece) * DS_GPU_PIECE * (widen ? 2 : 1);
    if (!widen) {
        gpu_write16(to, words);
        return;
    }
    uint32_t wide[8];
    GPU_UNROLL for (uint32_t i = 0; i < 8; i++) wide[i] = ds_bits(gpu_from_f16(static_cast<uint16_t>(words.w[i / 2] >> (i % 2 * 16) & 0xffffu)));
    GPU_UNROLL for (uint32_t i = 0; i < 2; i++) gpu_write16(to + i * DS_GPU_PIECE, {{wide[4 * i], wide[4 * i + 1], wide[4 * i + 2], wide[4 * i + 3]}});
}

GPU_KERNEL(THREADS) finish_rows(const float *sums, uint32_t first, uint32_t n, struct matrix<float> y, const float *bias, struct matrix<const float> residual,
                                struct active active) {
    gpu_begin();
    const uint32_t r = gpu_block_y(), o = gpu_block_x() * THREADS + gpu_thread();
    if (r >= active.get() || o >= n) return;
    float sum = sums[static_cast<size_t>(r) * n + o];
    if (bias) sum = sum + bias[first + o];
    if (residual.data) sum = sum + residual.row(r)[first + o];
    y.row(r)[first + o] = sum;
}

} // namespace

gpuError_t DS_GPU_JOIN(DS_GPU_NAME(unpack_), DS_GPU_WAVE)(const struct ds_gpu_launch *launch, const struct ds_weight *weight, uint32_t first, uint32_t n,
                                                          uint32_t pitch, void *out) {
    const uint32_t size = weight->type == DS_TYPE_F32 ? 4 : 2, pieces = ceil_div(static_cast<uint64_t>(weight->cols) * size, DS_GPU_PIECE);
    const uint64_t tile_bytes = ds_gpu_float_tile_bytes(size, weight->cols);
    const uint32_t pitch_bytes = pitch * (weight->type == DS_TYPE_BF16 ? 2 : 4);
    return gpu_launch(unpack_tiles, gpu_grid_of(ceil_div(pieces, SIDE), ceil_div(n, DS_GPU_TILE)), THREADS, 0, where_of(launch),
                      at<const uint8_t>(weight->at) + first / DS_GPU_TILE * tile_bytes, tile_bytes, pieces, n, pitch_bytes, weight->type == DS_TYPE_F16,
                      static_cast<unsigned char *>(out));
}

gpuError_t DS_GPU_JOIN(DS_GPU_NAME(finish_), DS_GPU_WAVE)(const struct ds_gpu_launch *launch, const struct ds_op_linear *p, uint32_t first, uint32_t n,
                                                          const float *sums) {
    return gpu_launch(finish_rows, gpu_grid_of(ceil_div(n, THREADS), p->x.rows), THREADS, 0, where_of(launch), sums, first, n, matrix_of<float>(p->y),
                      at<const float>(p->bias), matrix_of<const float>(p->residual), active_of(p->count, p->x.rows));
}
