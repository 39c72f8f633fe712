#include "quantized.h"

#include "../shaders/norm_quantize.h"

extern const struct ds_vk_code ds_vk_code_norm_quantize;

ds_status ds_vk_op_norm_quantize(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_norm_quantize *p = &params->norm_quantize;
    const struct ds_vk_quantized q = ds_vk_quantized_of(&p->out, 1);
    const struct norm_quantize_args args = {
        .x = ds_vk_rows(r, 0, &p->x), .weight = ds_vk_at(r, 1, p->weight), .normed = ds_vk_rows(r, 2, &p->normed), .outputs = ds_vk_rows(r, 3, &p->out),
        .flags = ds_vk_at(r, 4, p->flags), .count = ds_vk_at(r, 5, p->count), .rows = p->x.rows, .groups = 1, .cols = p->x.cols, .x_stride = p->x.stride,
        .normed_stride = p->normed.stride, .pitch = q.pitch, .scale_at = q.scale_at, .sum_at = q.sum_at, .eps = p->eps,
    };
    return DS_VK_RUN(r, norm_quantize, args, q.workgroups, args.rows, 1, err, q.share);
}
