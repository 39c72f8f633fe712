/* What the linears' ops have in common. */
#ifndef DSPARK_VULKAN_LINEARS_H
#define DSPARK_VULKAN_LINEARS_H

#include "op.h"

#include "../pack.h"
#include "../shaders/linear.h"

/* A tile of weights for each workgroup along x. */
static inline uint64_t ds_vk_tiles(struct ds_vk_recorder *r, uint32_t binding, const struct ds_weight *weight) {
    return ds_vk_stepped(r, binding, weight->at, (struct ds_vk_steps){.x = ds_vk_tile_bytes(weight->type, weight->cols)});
}

/* Where rows of x begin and what is in them, in the units of the shader. */
static inline void ds_vk_linear_input(const struct ds_view *x, struct linear_args *args) {
    const uint32_t bytes = (uint32_t)ds_view_pitch(x);
    args->inputs = x->cols;
    args->x_pitch = x->elem == DS_ELEM_BF16 ? bytes / 2 : bytes / 4;
    args->scale_at = ds_q8_scale_offset(x->cols) / 4;
    args->sum_at = (x->elem == DS_ELEM_Q8_32 ? ds_q8_32_sum_offset(x->cols) : ds_q8_sum_offset(x->cols)) / 4;
}

/*
 * Threads of a workgroup: teams take runs of inputs in turn, so that a matrix of few outputs still has much under way. 4 teams where there are tiles enough
 * to fill any device, else up to 16: as many as there are runs, and as the sums of all rows leave room for in 8 KiB of shared memory.
 */
static inline uint32_t ds_vk_linear_threads(const struct ds_vk_device *device, uint32_t inputs, uint32_t rows, const uint32_t groups[3]) {
    enum { TEAM = 32, FEWEST = 4, MOST = 16, SUMS = 64, ENOUGH = 4096 };
    const uint64_t workgroups = (uint64_t)groups[0] * groups[1];
    const uint32_t runs = ds_vk_blocks(inputs, DS_RUN);
    uint32_t teams = FEWEST;
    while (teams < MOST && teams < runs && workgroups * teams < ENOUGH && 2 * teams * rows <= SUMS && 2 * teams * TEAM <= device->features.invocations)
        teams *= 2;
    return teams * TEAM;
}

#endif
