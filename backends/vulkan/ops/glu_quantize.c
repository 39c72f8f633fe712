#include "quantized.h"

#include "../shaders/glu_quantize.h"

extern const struct ds_vk_code ds_vk_code_glu_quantize;

ds_status ds_vk_op_glu_quantize(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_glu_quantize *p = &params->glu_quantize;
    const uint32_t groups = DS_MAX(p->groups, 1);
    const struct ds_vk_quantized q = ds_vk_quantized_of(&p->out, groups);
    const struct glu_quantize_args args = {
        .gate = ds_vk_rows(r, 0, &p->gate), .up = ds_vk_rows(r, 1, &p->up), .gated = ds_vk_rows(r, 2, &p->gated), .outputs = ds_vk_stepped(r, 3, p->out.at, (struct ds_vk_steps){.y = groups * ds_view_pitch(&p->out)}),
        .flags = ds_vk_at(r, 4, p->flags), .count = ds_vk_at(r, 5, p->count), .rows = p->gate.rows, .groups = groups, .cols = p->out.cols,
        .gate_stride = p->gate.stride, .up_stride = p->up.stride, .gated_stride = p->gated.stride, .pitch = q.pitch, .scale_at = q.scale_at,
        .sum_at = q.sum_at,
    };
    return DS_VK_RUN(r, glu_quantize, args, q.workgroups, args.rows, 1, err, q.share, p->activation);
}
