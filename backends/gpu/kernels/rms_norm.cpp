/* Meaning: cpu/ref/rms_norm.c. A team of 32 lanes norms one group: they are the 32 lanes of the sum's definition. */
#include "common.h"

namespace {

enum { THREADS = 128, TEAMS = THREADS / GPU_TEAM };

struct norm {
    struct matrix<const float> x;
    struct matrix<float> out;
    const float *weight; /* [dim], or null */
    uint32_t dim;
    float eps;
    const float *residual; /* rows of `pitch` floats, or null */
    size_t pitch;
};

GPU_KERNEL(THREADS) norm_groups(struct norm p, struct active active) {
    const uint32_t r = gpu_block_y(), group = gpu_block_x() * TEAMS + gpu_team(), lane = gpu_lane();
    if (r >= active.get()) return;
    const bool present = group < p.x.cols / p.dim; /* else: a lane that only takes part in the shuffles */
    const float *const x = p.x.row(r) + static_cast<size_t>(group) * p.dim;
    float *const out = p.out.row(r) + static_cast<size_t>(group) * p.dim;
    float sum = 0;
    for (uint32_t c = lane; present && c < p.dim; c += DS_LANES) {
        const float square = x[c] * x[c];
        sum = sum + square;
    }
    sum = tree_sum(sum);
    const float mean = ds_div(sum, static_cast<float>(p.dim)), scale = ds_div(1.0f, ds_sqrt(mean + p.eps));
    for (uint32_t c = lane; present && c < p.dim; c += DS_LANES) {
        float scaled = x[c] * scale;
        if (p.weight) scaled = scaled * p.weight[c];
        out[c] = p.residual ? scaled + p.residual[r * p.pitch + static_cast<size_t>(group) * p.dim + c] : scaled;
    }
}

} // namespace

gpuError_t GPU_OP(rms_norm)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_rms_norm &p = params->rms_norm;
    const struct norm norm = {matrix_of<const float>(p.x), matrix_of<float>(p.out), at<const float>(p.weight), p.dim, p.eps,
                              at<const float>(p.residual.at), p.residual.stride};
    return gpu_launch(norm_groups, gpu_grid_of(ceil_div(p.x.cols / p.dim, TEAMS), p.x.rows), THREADS, 0, launch->stream, norm,
                      active_of(p.count, p.x.rows));
}
