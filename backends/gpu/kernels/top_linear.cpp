/*
 * A linear for the outputs with the greatest residuals. Meaning: cpu/ref/top_linear.c. A block finds which of a row's outputs these are and
 * leaves the last one taken in scratch; then a block for each tile of 32 outputs computes it, as kernel `expert_linear` does, if one of its
 * outputs is among them, and fills the others.
 */
#include "filters.h"
#include "linear_one_row.h"

namespace {

GPU_KERNEL(THREADS) choose(struct matrix<const float> residual, uint32_t top, struct selection *last, struct active active) {
    gpu_begin();
    GPU_SHARED(struct shared, s);
    const uint32_t r = gpu_block_x();
    if (r >= active.get()) return;
    const struct row row = {residual.row(r), nullptr, {}, residual.cols, 0, {0, 0}, {0, 0}, 0};
    const struct selection chosen = select<BY_LOGIT>(row, top, s);
    if (gpu_thread() == 0) last[r] = chosen;
}

template <ds_type TYPE> GPU_KERNEL(TILE_THREADS) multiply(struct linear p, const struct selection *last, float fill, struct active active) {
    gpu_begin();
    GPU_SHARED(struct tile_sums, s);
    const uint32_t r = gpu_block_y(), output = gpu_block_x() * DS_GPU_TILE + gpu_lane();
    if (r >= active.get()) return;
    const bool there = output < p.outputs;
    const float residual = there ? p.residual.row(r)[output] : 0.0f;
    const bool taken = there && last[r].takes(ds_order_key(residual), output);
    uint32_t any = taken; /* the same for all teams */
    for (uint32_t mask = GPU_TEAM / 2; mask > 0; mask /= 2) any |= gpu_shuffle_xor(any, mask);
    float total = 0;
    if (any) {
        const uint8_t *const tile = p.weight + gpu_block_x() * p.tile_bytes;
        p.x += static_cast<size_t>(r) * p.x_pitch;
        total = tile_of_one_row<TYPE>(p, tile, s);
    }
    if (gpu_team() == 0 && there) p.y.row(r)[output] = taken ? total + residual : fill;
}

using kernel = void (*)(struct linear, const struct selection *, float, struct active);

kernel kernel_of(ds_type type) {
    switch (type) {
    case DS_TYPE_F32: return multiply<DS_TYPE_F32>;
    case DS_TYPE_F16: return multiply<DS_TYPE_F16>;
    case DS_TYPE_BF16: return multiply<DS_TYPE_BF16>;
#define PACK(type, ...) \
    case DS_TYPE_##type: return multiply<DS_TYPE_##type>;
        DS_GPU_PACKS(PACK)
#undef PACK
    default: return nullptr;
    }
}

} // namespace

uint64_t GPU_OP_SCRATCH(top_linear)(const union ds_op_params *params, uint32_t processors) {
    (void)processors;
    return sizeof(struct selection) * static_cast<uint64_t>(params->top_linear.x.rows);
}

gpuError_t GPU_OP(top_linear)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_top_linear &p = params->top_linear;
    struct selection *const last = reinterpret_cast<struct selection *>(launch->scratch);
    const struct active active = active_of(p.count, p.x.rows);
    const gpuError_t error = gpu_launch(choose, gpu_grid_of(p.x.rows), THREADS, 0, where_of(launch), matrix_of<const float>(p.residual), p.top, last,
                                        active);
    if (error != gpuSuccess) return error;
    const struct linear linear = linear_of(p.weight, p.weight.rows, p.x, p.y, matrix_of<const float>(p.residual));
    return gpu_launch(kernel_of(p.weight.type), gpu_grid_of(ceil_div(p.weight.rows, DS_GPU_TILE), p.x.rows), TILE_THREADS, 0, where_of(launch), linear,
                      static_cast<const struct selection *>(last), p.fill, active);
}
