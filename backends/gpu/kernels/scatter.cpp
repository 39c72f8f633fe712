/* Meaning: cpu/ref/scatter.c. */
#include "common.h"

namespace {

enum { THREADS = 256 };

GPU_KERNEL(THREADS) fill_rows(struct matrix<float> out, float value, struct active active) {
    gpu_begin();
    const uint32_t r = gpu_block_y(), c = gpu_block_x() * THREADS + gpu_thread();
    if (r < active.get() && c < out.cols) out.row(r)[c] = value;
}

GPU_KERNEL(THREADS) place(struct matrix<const float> x, const int32_t *ids, struct matrix<float> out, struct active active) {
    gpu_begin();
    const uint32_t r = gpu_block_y(), c = gpu_block_x() * THREADS + gpu_thread();
    if (r < active.get() && c < x.cols) out.row(r)[ids[c]] = x.row(r)[c];
}

} // namespace

gpuError_t GPU_OP(scatter)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_scatter &p = params->scatter;
    const struct active active = active_of(p.count, p.x.rows);
    const gpuError_t error = gpu_launch(fill_rows, gpu_grid_of(ceil_div(p.out.cols, THREADS), p.out.rows), THREADS, 0, where_of(launch),
                                        matrix_of<float>(p.out), p.fill, active);
    if (error != gpuSuccess) return error;
    return gpu_launch(place, gpu_grid_of(ceil_div(p.x.cols, THREADS), p.x.rows), THREADS, 0, where_of(launch), matrix_of<const float>(p.x),
                      at<const int32_t>(p.ids), matrix_of<float>(p.out), active);
}
