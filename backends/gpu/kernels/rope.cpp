/* Meaning: cpu/ref/rope.c. A thread turns one pair. */
#include "common.h"

namespace {

enum { THREADS = 128 };

struct rope {
    struct matrix<float> x;
    const float *cosine, *sine; /* [position][half] */
    const int32_t *positions;
    uint32_t head_dim, half;
    bool neox;
};

GPU_KERNEL(THREADS) rotate(struct rope p, struct active active) {
    gpu_begin();
    const uint32_t r = gpu_block_y(), pair = gpu_block_x() * THREADS + gpu_thread();
    const uint32_t head = pair / p.half, i = pair % p.half;
    if (r >= active.get() || head >= p.x.cols / p.head_dim) return;
    const int32_t position = p.positions[r];
    if (position < 0) return;
    float *const first = p.x.row(r) + head * p.head_dim + (p.neox ? i : 2 * i), *const second = first + (p.neox ? p.half : 1);
    const float c = p.cosine[static_cast<size_t>(position) * p.half + i], s = p.sine[static_cast<size_t>(position) * p.half + i];
    const float a = *first, b = *second;
    *first = a * c - b * s;
    *second = b * c + a * s;
}

} // namespace

gpuError_t GPU_OP(rope)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_rope &p = params->rope;
    const uint32_t half = p.n_rot / 2, pairs = p.x.cols / p.head_dim * half;
    const struct rope rope = {matrix_of<float>(p.x), at<const float>(p.cos), at<const float>(p.sin), at<const int32_t>(p.positions), p.head_dim,
                              half, p.neox};
    return gpu_launch(rotate, gpu_grid_of(ceil_div(pairs, THREADS), p.x.rows), THREADS, 0, where_of(launch), rope, active_of(p.count, p.x.rows));
}
