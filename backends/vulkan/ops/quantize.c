#include "quantized.h"

#include "../shaders/quantize.h"

extern const struct ds_vk_code ds_vk_code_quantize;

ds_status ds_vk_op_quantize(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_quantize *p = &params->quantize;
    const uint32_t groups = DS_MAX(p->groups, 1);
    const struct ds_vk_quantized q = ds_vk_quantized_of(&p->out, groups);
    const struct quantize_args args = {
        .x = ds_vk_rows(r, 0, &p->x), .outputs = ds_vk_stepped(r, 1, p->out.at, (struct ds_vk_steps){.y = groups * ds_view_pitch(&p->out)}), .flags = ds_vk_at(r, 2, p->flags), .count = ds_vk_at(r, 3, p->count),
        .rows = p->x.rows, .groups = groups, .cols = p->out.cols, .x_stride = p->x.stride, .pitch = q.pitch, .scale_at = q.scale_at, .sum_at = q.sum_at,
    };
    return DS_VK_RUN(r, quantize, args, q.workgroups, args.rows, 1, err, q.share);
}
