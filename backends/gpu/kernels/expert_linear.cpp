/*
 * A linear whose matrix each (row, slot) picks. Meaning: cpu/ref/expert_linear.c. A block computes a tile of 32 outputs of one of them, with
 * the runs of kernel `linear`: experts of a row differ, so that there is one row to share the weights with.
 */
#include "linear_blocks.h"
#include "linear_floats.h"

namespace {

enum { TEAMS = 8, THREADS = TEAMS * GPU_TEAM };

struct experts {
    struct matrix<const int32_t> ids; /* [row][slot] */
    uint32_t tiles;                   /* from one expert's to the next */
    bool row_each;                    /* x has a row for each slot */
};

struct shared {
    float sums[TEAMS][8][DS_GPU_TILE]; /* row 0 is the one */
};

template <ds_type TYPE> struct one_run : tile_run<TYPE, 1, 1> {};
template <> struct one_run<DS_TYPE_F32> : tile_run_of_floats<DS_TYPE_F32, 1> {};
template <> struct one_run<DS_TYPE_F16> : tile_run_of_floats<DS_TYPE_F16, 1> {};
template <> struct one_run<DS_TYPE_BF16> : tile_run_of_floats<DS_TYPE_BF16, 1> {};

template <ds_type TYPE> GPU_KERNEL(THREADS) multiply(struct linear p, struct experts experts, struct active active) {
    gpu_begin();
    GPU_SHARED(struct shared, s);
    const uint32_t r = gpu_block_y(), slot = gpu_block_z(), slots = experts.ids.cols, output = gpu_block_x() * DS_GPU_TILE + gpu_thread();
    if (r >= active.get()) return;
    const uint32_t expert = static_cast<uint32_t>(experts.ids.row(r)[slot]), runs = (p.inputs + DS_RUN - 1) / DS_RUN;
    const uint8_t *const tile = p.weight + (static_cast<uint64_t>(expert) * experts.tiles + gpu_block_x()) * p.tile_bytes;
    p.x += static_cast<size_t>(experts.row_each ? r * slots + slot : r) * p.x_pitch;
    float total = 0;
    for (uint32_t base = 0; base < runs; base += TEAMS) {
        /* Teams without a run of their own repeat the last one: gpu_mma wants whole waves. */
        const uint32_t run = least(base + gpu_team(), runs - 1);
        typename one_run<TYPE>::held weights;
        one_run<TYPE>::read(p, tile, run, weights);
        one_run<TYPE>::go(p, weights, tile, run, 0, 1, s.sums[gpu_team()]);
        gpu_barrier();
        for (uint32_t k = 0; gpu_thread() < DS_GPU_TILE && k < least(TEAMS, runs - base); k++) total = total + s.sums[k][0][gpu_thread()];
        gpu_barrier();
    }
    if (gpu_thread() < DS_GPU_TILE && output < p.outputs) p.y.row(r)[static_cast<size_t>(slot) * p.outputs + output] = total;
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
    struct linear linear = {at<const uint8_t>(p.weight.at), ds_gpu_tile_bytes(p.weight.type, p.weight.cols), p.outputs, p.weight.cols,
                            at<const uint8_t>(p.x.at), static_cast<uint32_t>(ds_view_pitch(&p.x)), 0, 0, false, matrix_of<float>(p.y), nullptr,
                            {nullptr, 0, 0}};
    linear.scale_at = ds_q8_scale_offset(p.x.cols);
    linear.sum_at = p.x.elem == DS_ELEM_Q8_32 ? ds_q8_32_sum_offset(p.x.cols) : ds_q8_sum_offset(p.x.cols);
    const struct experts experts = {matrix_of<const int32_t>(p.ids), ds_expert_rows(p.outputs) / DS_GPU_TILE, p.x.rows != p.ids.rows};
    return gpu_launch(kernel_of(p.weight.type), gpu_grid_of(ceil_div(p.outputs, DS_GPU_TILE), p.ids.rows, p.ids.cols), THREADS, 0, where_of(launch),
                      linear, experts, active_of(p.count, p.ids.rows));
}
