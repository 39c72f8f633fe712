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

#endif
