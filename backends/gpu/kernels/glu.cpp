/* Meaning: cpu/ref/glu.c. */
#include "glu.h"

namespace {

enum { THREADS = 256 };

template <ds_activation ACTIVATION>
GPU_KERNEL(THREADS) gated(struct matrix<const float> gate, struct matrix<const float> up, struct matrix<float> out, struct active active) {
    gpu_begin();
    const uint32_t r = gpu_block_y(), c = gpu_block_x() * THREADS + gpu_thread();
    if (r >= active.get() || c >= gate.cols) return;
    out.row(r)[c] = opened<ACTIVATION>(gate.row(r)[c]) * up.row(r)[c];
}

} // namespace

gpuError_t GPU_OP(glu)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_glu &p = params->glu;
    const auto kernel = p.activation == DS_ACT_SILU        ? gated<DS_ACT_SILU>
                        : p.activation == DS_ACT_GELU_TANH ? gated<DS_ACT_GELU_TANH>
                                                           : gated<DS_ACT_SIGMOID>;
    return gpu_launch(kernel, gpu_grid_of(ceil_div(p.gate.cols, THREADS), p.gate.rows), THREADS, 0, where_of(launch), matrix_of<const float>(p.gate),
                      matrix_of<const float>(p.up), matrix_of<float>(p.out), active_of(p.count, p.gate.rows));
}
