/* Meaning: cpu/ref/scale.c. */
#include "common.h"

namespace {

enum { THREADS = 256 };

GPU_KERNEL(THREADS) scaled(struct matrix<const float> x, struct matrix<float> out, float scale, float softcap, struct active active) {
    gpu_begin();
    const uint32_t r = gpu_block_y(), c = gpu_block_x() * THREADS + gpu_thread();
    if (r >= active.get() || c >= x.cols) return;
    const float value = x.row(r)[c] * scale;
    out.row(r)[c] = softcap > 0 ? ds_softcap(value, softcap) : value;
}

} // namespace

gpuError_t GPU_OP(scale)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_scale &p = params->scale;
    return gpu_launch(scaled, gpu_grid_of(ceil_div(p.x.cols, THREADS), p.x.rows), THREADS, 0, where_of(launch), matrix_of<const float>(p.x),
                      matrix_of<float>(p.out), p.scale, p.softcap, active_of(p.count, p.x.rows));
}
