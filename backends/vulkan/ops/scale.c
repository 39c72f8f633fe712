#include "op.h"

#include "../shaders/scale.h"

extern const struct ds_vk_code ds_vk_code_scale;

ds_status ds_vk_op_scale(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_scale *p = &params->scale;
    const struct scale_args args = {
        .x = ds_vk_rows(r, 0, &p->x), .outputs = ds_vk_rows(r, 1, &p->out), .count = ds_vk_at(r, 2, p->count),
        .rows = p->x.rows, .cols = p->x.cols, .x_stride = p->x.stride, .out_stride = p->out.stride, .factor = p->scale, .softcap = p->softcap,
    };
    return DS_VK_RUN(r, scale, args, ds_vk_blocks(args.cols, DS_VK_THREADS), args.rows, 1, err, 0);
}
