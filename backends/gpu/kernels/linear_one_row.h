/*
 * A linear of one row whose weights nobody shares: a block computes a tile of 32 outputs with the runs of kernel `linear`. For rows that
 * choose their matrices (expert_linear.cpp) or their outputs (top_linear.cpp).
 */
#ifndef DSPARK_GPU_KERNELS_LINEAR_ONE_ROW_H
#define DSPARK_GPU_KERNELS_LINEAR_ONE_ROW_H

#include "linear_blocks.h"
#include "linear_floats.h"

namespace {

enum { TILE_TEAMS = 8, TILE_THREADS = TILE_TEAMS * GPU_TEAM };

struct tile_sums {
    float sums[TILE_TEAMS][8][DS_GPU_TILE]; /* row 0 is the one */
};

template <ds_type TYPE> struct one_run : tile_run<TYPE, 1, 1> {};
template <> struct one_run<DS_TYPE_F32> : tile_run_of_floats<DS_TYPE_F32, 1> {};
template <> struct one_run<DS_TYPE_F16> : tile_run_of_floats<DS_TYPE_F16, 1> {};
template <> struct one_run<DS_TYPE_BF16> : tile_run_of_floats<DS_TYPE_BF16, 1> {};

/* Of p.x as its only row. The first team's lanes return the tile's outputs; all threads of the block call it. */
template <ds_type TYPE> GPU_FN float tile_of_one_row(const struct linear &p, const uint8_t *tile, struct tile_sums &s) {
    const uint32_t runs = (p.inputs + DS_RUN - 1) / DS_RUN;
    float total = 0;
    for (uint32_t base = 0; base < runs; base += TILE_TEAMS) {
        /* Teams without a run of their own repeat the last one: gpu_mma wants whole waves. */
        const uint32_t run = least(base + gpu_team(), runs - 1);
        typename one_run<TYPE>::held weights;
        one_run<TYPE>::read(p, tile, run, weights);
        one_run<TYPE>::go(p, weights, tile, run, 0, 1, s.sums[gpu_team()]);
        gpu_barrier();
        for (uint32_t k = 0; gpu_team() == 0 && k < least(TILE_TEAMS, runs - base); k++) total = total + s.sums[k][0][gpu_lane()];
        gpu_barrier();
    }
    return total;
}

} // namespace

#endif
