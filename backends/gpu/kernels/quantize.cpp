/* Meaning: cpu/ref/quantize.c. A team of 32 lanes quantises a run of 256 inputs, eight neighbours a lane. */
#include "quantize.h"

namespace {

enum { THREADS = 128, TEAMS = THREADS / GPU_TEAM };

GPU_KERNEL(THREADS) quantize_rows(struct matrix<const float> x, struct quantized p, uint32_t groups, struct active active) {
    gpu_begin();
    const uint32_t r = gpu_block_y(), unit = gpu_block_x() * TEAMS + gpu_team(), runs = p.runs(), group = unit / runs, run = unit % runs;
    const bool present = group < groups; /* else: a team that only takes part in the shuffles */
    if (r >= active.get()) return;
    const uint32_t first = run * DS_RUN + gpu_lane() * EACH;
    float value[EACH];
    GPU_UNROLL for (uint32_t i = 0; i < EACH; i++)
        value[i] = present && first + i < p.cols ? x.row(r)[static_cast<size_t>(group) * p.cols + first + i] : 0.0f;
    quantize_run(p, r * groups + group, r, run, present, value);
}

} // namespace

gpuError_t GPU_OP(quantize)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_quantize &p = params->quantize;
    const uint32_t groups = p.groups > 1 ? p.groups : 1;
    const struct quantized quantized = quantized_of(p.out, p.flags);
    return gpu_launch(quantize_rows, gpu_grid_of(ceil_div(ceil_div(p.out.cols, DS_RUN) * groups, TEAMS), p.x.rows), THREADS, 0, where_of(launch),
                      matrix_of<const float>(p.x), quantized, groups, active_of(p.count, p.x.rows));
}
