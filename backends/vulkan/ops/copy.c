#include "op.h"

#include "../shaders/copy.h"

extern const struct ds_vk_code ds_vk_code_copy;

ds_status ds_vk_op_copy(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_copy *p = &params->copy;
    const struct copy_args args = {
        .x = p->index.buffer ? ds_vk_at(r, 0, p->x.at) : ds_vk_rows(r, 0, &p->x), .outputs = ds_vk_rows(r, 1, &p->out), .index = ds_vk_at(r, 2, p->index), .count = ds_vk_at(r, 3, p->count),
        .rows = p->out.rows, .cols = p->x.cols, .x_stride = p->x.stride, .out_stride = p->out.stride,
    };
    return DS_VK_RUN(r, copy, args, ds_vk_blocks(args.cols, DS_VK_THREADS), args.rows, 1, err, 0);
}
