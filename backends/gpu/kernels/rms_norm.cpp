/*
 * Meaning: cpu/ref/rms_norm.c. A team of 32 lanes sums one group: they are the 32 lanes of the sum's definition. Narrow groups (heads) have a
 * team each; a wide one (a row) has a block, whose threads read and write it together.
 */
#include "common.h"

namespace {

enum { THREADS = 128, TEAMS = THREADS / GPU_TEAM, WIDE_THREADS = 512, WIDE = 512, MOST_SHARED = 48 << 10 };

struct norm {
    struct matrix<const float> x;
    struct matrix<float> out;
    const float *weight; /* [dim], or null */
    uint32_t dim;
    float eps;
    const float *residual; /* rows of `pitch` floats, or null */
    size_t pitch;
};

/* The factor of a group with this sum of squares. */
GPU_FN float factor(const struct norm &p, float sum) {
    const float mean = ds_div(sum, static_cast<float>(p.dim));
    return ds_div(1.0f, ds_sqrt(mean + p.eps));
}

/* Element c of a group that begins at column `first` of row r. */
GPU_FN float normed(const struct norm &p, float x, float scale, uint32_t r, size_t first, uint32_t c) {
    float scaled = x * scale;
    if (p.weight) scaled = scaled * p.weight[c];
    return p.residual ? scaled + p.residual[r * p.pitch + first + c] : scaled;
}

GPU_KERNEL(THREADS) norm_groups(struct norm p, struct active active) {
    gpu_begin();
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
    const float scale = factor(p, sum);
    for (uint32_t c = lane; present && c < p.dim; c += DS_LANES) out[c] = normed(p, x[c], scale, r, static_cast<size_t>(group) * p.dim, c);
}

GPU_KERNEL(WIDE_THREADS) norm_row(struct norm p, struct active active) {
    gpu_begin();
    GPU_DYNAMIC_SHARED(memory);
    GPU_SHARED(float, factor_of_all);
    float *const staged = reinterpret_cast<float *>(memory);
    const uint32_t r = gpu_block_y();
    const size_t first = static_cast<size_t>(gpu_block_x()) * p.dim;
    if (r >= active.get()) return;
    for (uint32_t c = gpu_thread(); c < p.dim; c += WIDE_THREADS) staged[c] = p.x.row(r)[first + c];
    gpu_barrier();
    if (gpu_thread() < DS_GPU_WAVE) {
        float sum = 0;
        GPU_UNROLL_BY(16) for (uint32_t c = gpu_lane(); c < p.dim; c += DS_LANES) {
            const float square = staged[c] * staged[c];
            sum = sum + square;
        }
        const float scale = factor(p, tree_sum(sum));
        if (gpu_thread() == 0) factor_of_all = scale;
    }
    gpu_barrier();
    for (uint32_t c = gpu_thread(); c < p.dim; c += WIDE_THREADS) p.out.row(r)[first + c] = normed(p, staged[c], factor_of_all, r, first, c);
}

} // namespace

gpuError_t GPU_OP(rms_norm)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_rms_norm &p = params->rms_norm;
    const struct norm norm = {matrix_of<const float>(p.x), matrix_of<float>(p.out), at<const float>(p.weight), p.dim, p.eps,
                              at<const float>(p.residual.at), p.residual.stride};
    if (p.dim >= WIDE && p.dim * sizeof(float) <= MOST_SHARED - 64)
        return gpu_launch(norm_row, gpu_grid_of(p.x.cols / p.dim, p.x.rows), WIDE_THREADS, p.dim * sizeof(float), where_of(launch), norm,
                          active_of(p.count, p.x.rows));
    return gpu_launch(norm_groups, gpu_grid_of(ceil_div(p.x.cols / p.dim, TEAMS), p.x.rows), THREADS, 0, where_of(launch), norm,
                      active_of(p.count, p.x.rows));
}
