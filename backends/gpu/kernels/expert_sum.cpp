/* Meaning: cpu/ref/expert_sum.c. */
#include "common.h"

namespace {

enum { THREADS = 256 };

struct mixture {
    struct matrix<const float> x, weights;
    struct matrix<float> y;
    struct matrix<const float> residual; /* data null: none */
};

GPU_KERNEL(THREADS) mix(struct mixture p, struct active active) {
    gpu_begin();
    const uint32_t r = gpu_block_y(), c = gpu_block_x() * THREADS + gpu_thread();
    if (r >= active.get() || c >= p.y.cols) return;
    float sum = 0;
    for (uint32_t s = 0; s < p.weights.cols; s++) {
        const float product = p.weights.row(r)[s] * p.x.row(r)[static_cast<size_t>(s) * p.y.cols + c];
        sum = sum + product;
    }
    p.y.row(r)[c] = p.residual.data ? sum + p.residual.row(r)[c] : sum;
}

} // namespace

gpuError_t GPU_OP(expert_sum)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_expert_sum &p = params->expert_sum;
    const struct mixture mixture = {matrix_of<const float>(p.x), matrix_of<const float>(p.weights), matrix_of<float>(p.y),
                                    matrix_of<const float>(p.residual)};
    return gpu_launch(mix, gpu_grid_of(ceil_div(p.y.cols, THREADS), p.x.rows), THREADS, 0, where_of(launch), mixture,
                      active_of(p.count, p.x.rows));
}
