/* Meaning: cpu/ref/glu.c. */
#include "common.h"

namespace {

enum { THREADS = 256 };

template <ds_activation ACTIVATION>
GPU_KERNEL(THREADS) gated(struct matrix<const float> gate, struct matrix<const float> up, struct matrix<float> out, struct active active) {
    const uint32_t r = gpu_block_y(), c = gpu_block_x() * THREADS + gpu_thread();
    if (r >= active.get() || c >= gate.cols) return;
    const float x = gate.row(r)[c];
    const float open = ACTIVATION == DS_ACT_SILU ? ds_silu(x) : ACTIVATION == DS_ACT_GELU_TANH ? ds_gelu(x) : ds_sigmoid(x);
    out.row(r)[c] = open * up.row(r)[c];
}

} // namespace

gpuError_t GPU_OP(glu)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_glu &p = params->glu;
    const auto kernel = p.activation == DS_ACT_SILU        ? gated<DS_ACT_SILU>
                        : p.activation == DS_ACT_GELU_TANH ? gated<DS_ACT_GELU_TANH>
                                                           : gated<DS_ACT_SIGMOID>;
    return gpu_launch(kernel, gpu_grid_of(ceil_div(p.gate.cols, THREADS), p.gate.rows), THREADS, 0, launch->stream, matrix_of<const float>(p.gate),
                      matrix_of<const float>(p.up), matrix_of<float>(p.out), active_of(p.count, p.gate.rows));
}
