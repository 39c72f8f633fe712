/* Meaning: cpu/ref/rnn_cell.c. */
#include "common.h"

namespace {

enum { THREADS = 256 };

GPU_KERNEL(THREADS) cell(struct matrix<const float> gates, struct matrix<const float> state, struct matrix<float> next, struct matrix<float> out,
                         struct active active) {
    gpu_begin();
    const uint32_t r = gpu_block_y(), c = gpu_block_x() * THREADS + gpu_thread(), size = next.cols;
    if (r >= active.get() || c >= size) return;
    const float *gate = gates.row(r);
    const float s = ds_sigmoid(gate[c]), before = state.data ? state.row(r)[c] : 0.0f;
    const float kept = s * before, rest = 1.0f - s, taken = rest * ds_tanh(gate[size + c]);
    next.row(r)[c] = kept + taken;
    out.row(r)[c] = ds_tanh(gate[2 * size + c]);
}

} // namespace

gpuError_t GPU_OP(rnn_cell)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_rnn_cell &p = params->rnn_cell;
    return gpu_launch(cell, gpu_grid_of(ceil_div(p.next.cols, THREADS), p.next.rows), THREADS, 0, where_of(launch), matrix_of<const float>(p.gates),
                      matrix_of<const float>(p.state), matrix_of<float>(p.next), matrix_of<float>(p.out), active_of(p.count, p.next.rows));
}
