/* Meaning: cpu/ref/glu_quantize.c. A team of 32 lanes gates and quantises a run of 256 columns, eight neighbours a lane. */
#include "glu.h"
#include "quantize.h"

namespace {

enum { THREADS = 128, TEAMS = THREADS / GPU_TEAM };

struct gates {
    struct matrix<const float> gate, up;
    struct matrix<float> out;
    uint32_t groups;
};

template <ds_activation ACTIVATION> GPU_KERNEL(THREADS) gate_and_quantize(struct gates p, struct quantized q, struct active active) {
    gpu_begin();
    const uint32_t r = gpu_block_y(), unit = gpu_block_x() * TEAMS + gpu_team(), runs = q.runs(), group = unit / runs, run = unit % runs;
    const bool present = group < p.groups; /* else: a team that only takes part in the shuffles */
    if (r >= active.get()) return;
    const uint32_t first = run * DS_RUN + gpu_lane() * EACH, column = group * q.cols + first;
    float gate[EACH], up[EACH], value[EACH];
    GPU_UNROLL for (uint32_t i = 0; i < EACH; i++) {
        const bool inside = present && first + i < q.cols;
        gate[i] = inside ? p.gate.row(r)[column + i] : 0.0f;
        up[i] = inside ? p.up.row(r)[column + i] : 0.0f;
    }
    GPU_UNROLL for (uint32_t i = 0; i < EACH; i++) {
        value[i] = opened<ACTIVATION>(gate[i]) * up[i];
        if (present && first + i < q.cols) p.out.row(r)[column + i] = value[i];
    }
    quantize_run(q, r * p.groups + group, r, run, present, value);
}

} // namespace

gpuError_t GPU_OP(glu_quantize)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_glu_quantize &p = params->glu_quantize;
    const struct gates gates = {matrix_of<const float>(p.gate), matrix_of<const float>(p.up), matrix_of<float>(p.gated), p.groups > 1 ? p.groups : 1};
    const auto kernel = p.activation == DS_ACT_SILU        ? gate_and_quantize<DS_ACT_SILU>
                        : p.activation == DS_ACT_GELU_TANH ? gate_and_quantize<DS_ACT_GELU_TANH>
                                                           : gate_and_quantize<DS_ACT_SIGMOID>;
    return gpu_launch(kernel, gpu_grid_of(ceil_div(ceil_div(p.out.cols, DS_RUN) * gates.groups, TEAMS), p.gate.rows), THREADS, 0, where_of(launch), gates,
                      quantized_of(p.out, p.flags), active_of(p.count, p.gate.rows));
}
