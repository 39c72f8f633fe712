#include "op.h"

#include "../shaders/quantize.h"

extern const struct ds_vk_code ds_vk_code_quantize;

enum { TEAMS = 4 };

ds_status ds_vk_op_quantize(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_quantize *p = &params->quantize;
    const bool narrow = p->out.elem == DS_ELEM_Q8_32;
    struct quantize_args args = {
        .x = ds_vk_at(r, 0, p->x.at), .outputs = ds_vk_at(r, 1, p->out.at), .flags = ds_vk_at(r, 2, p->flags), .count = ds_vk_at(r, 3, p->count),
        .rows = p->x.rows, .groups = DS_MAX(p->groups, 1), .cols = p->out.cols, .x_stride = p->x.stride,
    };
    if (p->out.elem == DS_ELEM_BF16) {
        args.pitch = p->out.stride;
        return DS_VK_RUN(r, quantize, args, ds_vk_blocks(p->x.cols, DS_VK_THREADS), args.rows, 1, err, 0);
    }
    args.pitch = (uint32_t)ds_view_pitch(&p->out);
    args.scale_at = ds_q8_scale_offset(args.cols);
    args.sum_at = narrow ? ds_q8_32_sum_offset(args.cols) : ds_q8_sum_offset(args.cols);
    return DS_VK_RUN(r, quantize, args, ds_vk_blocks((uint64_t)ds_q8_padded(args.cols) / DS_RUN * args.groups, TEAMS), args.rows, 1, err, narrow ? 4 : 32);
}
