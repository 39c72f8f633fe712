#include "op.h"

#include "../shaders/rms_norm.h"

extern const struct ds_vk_code ds_vk_code_rms_norm;

enum { TEAMS = 4 };

ds_status ds_vk_op_rms_norm(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_rms_norm *p = &params->rms_norm;
    const struct rms_norm_args args = {
        .x = ds_vk_rows(r, 0, &p->x), .outputs = ds_vk_rows(r, 1, &p->out), .weight = ds_vk_at(r, 2, p->weight),
        .residual = ds_vk_rows(r, 3, &p->residual), .count = ds_vk_at(r, 4, p->count),
        .rows = p->x.rows, .groups = p->x.cols / p->dim, .dim = p->dim, .x_stride = p->x.stride, .out_stride = p->out.stride,
        .residual_stride = p->residual.stride, .eps = p->eps,
    };
    return DS_VK_RUN(r, rms_norm, args, ds_vk_blocks(args.groups, TEAMS), args.rows, 1, err, 0);
}
