/* Meaning: cpu/ref/copy.c. */
#include "common.h"

namespace {

enum { THREADS = 256 };

GPU_KERNEL(THREADS) copy_rows(struct matrix<const uint32_t> x, struct matrix<uint32_t> out, const int32_t *index, struct active active) {
    gpu_begin();
    const uint32_t r = gpu_block_y(), c = gpu_block_x() * THREADS + gpu_thread();
    if (r >= active.get() || c >= x.cols) return;
    out.row(r)[c] = x.row(index ? static_cast<uint32_t>(index[r]) : r)[c];
}

} // namespace

gpuError_t GPU_OP(copy)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_copy &p = params->copy;
    return gpu_launch(copy_rows, gpu_grid_of(ceil_div(p.x.cols, THREADS), p.out.rows), THREADS, 0, where_of(launch),
                      matrix_of<const uint32_t>(p.x), matrix_of<uint32_t>(p.out), at<const int32_t>(p.index), active_of(p.count, p.out.rows));
}
