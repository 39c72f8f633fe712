#include "op.h"

#include "../shaders/reject.h"

extern const struct ds_vk_code ds_vk_code_reject;

ds_status ds_vk_op_reject(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_reject *p = &params->reject;
    const struct reject_args args = {
        .logits = ds_vk_rows(r, 0, &p->logits), .how = ds_vk_at(r, 1, p->rows), .drafted = ds_vk_at(r, 2, p->drafted.at),
        .bias = ds_vk_at(r, 3, p->bias), .tokens = ds_vk_at(r, 4, p->tokens), .flags = ds_vk_at(r, 5, p->flags), .count = ds_vk_at(r, 6, p->count),
        .rows = p->logits.rows, .vocabulary = p->logits.cols, .stride = p->logits.stride, .drafted_stride = p->drafted.stride,
    };
    return DS_VK_RUN(r, reject, args, 1, args.rows, 1, err, 0);
}
