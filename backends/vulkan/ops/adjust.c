#include "op.h"

#include "../shaders/adjust.h"

extern const struct ds_vk_code ds_vk_code_adjust;

enum { STRETCH = 1024 }; /* logits of a workgroup */

ds_status ds_vk_op_adjust(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_adjust *p = &params->adjust;
    const struct adjust_args args = {
        .x = ds_vk_rows(r, 0, &p->x), .outputs = ds_vk_rows(r, 1, &p->out), .how = ds_vk_at(r, 2, p->rows), .history = ds_vk_at(r, 3, p->history.at),
        .drafted = ds_vk_at(r, 4, p->drafted), .bias_ids = ds_vk_at(r, 5, p->bias_ids.at), .bias_values = ds_vk_at(r, 6, p->bias_values.at),
        .count = ds_vk_at(r, 7, p->count), .rows = p->x.rows, .cols = p->x.cols, .x_stride = p->x.stride, .out_stride = p->out.stride,
        .history_stride = p->history.stride, .ids_stride = p->bias_ids.stride, .values_stride = p->bias_values.stride,
    };
    return DS_VK_RUN(r, adjust, args, ds_vk_blocks(args.cols, STRETCH), args.rows, 1, err, 0);
}
