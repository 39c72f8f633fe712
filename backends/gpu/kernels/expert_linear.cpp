/*
 * A linear whose matrix each (row, slot) picks. Meaning: cpu/ref/expert_linear.c. A block computes a tile of 32 outputs of one of them, with
 * the runs of kernel `linear`: experts of a row differ, so that there is one row to share the weights with.
 */
#include "linear_one_row.h"

namespace {

struct experts {
    struct matrix<const int32_t> ids; /* [row][slot] */
    uint32_t tiles;                   /* from one expert's to the next */
    bool row_each;                    /* x has a row for each slot */
};

template <ds_type TYPE> GPU_KERNEL(TILE_THREADS) multiply(struct linear p, struct experts experts, struct active active) {
    gpu_begin();
    GPU_SHARED(struct tile_sums, s);
    const uint32_t r = gpu_block_y(), slot = gpu_block_z(), slots = experts.ids.cols, output = gpu_block_x() * DS_GPU_TILE + gpu_lane();
    if (r >= active.get()) return;
    const uint32_t expert = static_cast<uint32_t>(experts.ids.row(r)[slot]);
    const uint8_t *const tile = p.weight + (static_cast<uint64_t>(expert) * experts.tiles + gpu_block_x()) * p.tile_bytes;
    p.x += static_cast<size_t>(experts.row_each ? r * slots + slot : r) * p.x_pitch;
    const float total = tile_of_one_row<TYPE>(p, tile, s);
    if (gpu_team() == 0 && output < p.outputs) p.y.row(r)[static_cast<size_t>(slot) * p.outputs + output] = total;
}

using kernel = void (*)(struct linear, struct experts, struct active);

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

gpuError_t GPU_OP(expert_linear)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_expert_linear &p = params->expert_linear;
    const struct linear linear = linear_of(p.weight, p.outputs, p.x, p.y, {nullptr, 0, 0});
    const struct experts experts = {matrix_of<const int32_t>(p.ids), ds_expert_rows(p.outputs) / DS_GPU_TILE, p.x.rows != p.ids.rows};
    return gpu_launch(kernel_of(p.weight.type), gpu_grid_of(ceil_div(p.outputs, DS_GPU_TILE), p.ids.rows, p.ids.cols), TILE_THREADS, 0, where_of(launch),
                      linear, experts, active_of(p.count, p.ids.rows));
}
