/* Activations in the form that linears read, as shaders/quantize.glsl writes them. */
#ifndef DSPARK_VULKAN_QUANTIZED_H
#define DSPARK_VULKAN_QUANTIZED_H

#include "op.h"

enum { DS_VK_QUANTIZE_TEAMS = 4 }; /* runs of a workgroup */

struct ds_vk_quantized {
    uint32_t pitch, scale_at, sum_at; /* of the shader's arguments */
    uint32_t share;                   /* its constant_id 1 */
    uint32_t workgroups;              /* for the runs of a row of x */
};

static inline struct ds_vk_quantized ds_vk_quantized_of(const struct ds_view *out, uint32_t groups) {
    const bool narrow = out->elem == DS_ELEM_Q8_32, bf16 = out->elem == DS_ELEM_BF16;
    return (struct ds_vk_quantized){
        .pitch = bf16 ? out->stride : (uint32_t)ds_view_pitch(out),
        .scale_at = ds_q8_scale_offset(out->cols),
        .sum_at = narrow ? ds_q8_32_sum_offset(out->cols) : ds_q8_sum_offset(out->cols),
        .share = bf16 ? 0 : narrow ? 4 : 32,
        .workgroups = ds_vk_blocks((uint64_t)ds_vk_blocks(out->cols, DS_RUN) * groups, DS_VK_QUANTIZE_TEAMS),
    };
}

#endif
