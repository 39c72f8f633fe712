#include "op.h"

#include "../shaders/expert_sum.h"

extern const struct ds_vk_code ds_vk_code_expert_sum;

ds_status ds_vk_op_expert_sum(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_expert_sum *p = &params->expert_sum;
    const struct expert_sum_args args = {
        .x = ds_vk_rows(r, 0, &p->x), .weights = ds_vk_rows(r, 1, &p->weights), .y = ds_vk_rows(r, 2, &p->y), .residual = ds_vk_rows(r, 3, &p->residual),
        .count = ds_vk_at(r, 4, p->count), .rows = p->y.rows, .cols = p->y.cols, .slots = p->weights.cols, .x_stride = p->x.stride,
        .weights_stride = p->weights.stride, .y_stride = p->y.stride, .residual_stride = p->residual.stride,
    };
    return DS_VK_RUN(r, expert_sum, args, ds_vk_blocks(args.cols, DS_VK_THREADS), args.rows, 1, err, 0);
}
