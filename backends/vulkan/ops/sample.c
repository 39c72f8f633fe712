#include "op.h"

#include "../shaders/sample.h"

extern const struct ds_vk_code ds_vk_code_sample;

ds_status ds_vk_op_sample(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_sample *p = &params->sample;
    const struct sample_args args = {
        .logits = ds_vk_rows(r, 0, &p->logits), .how = ds_vk_at(r, 1, p->rows), .bias = ds_vk_at(r, 2, p->bias), .tokens = ds_vk_at(r, 3, p->tokens),
        .flags = ds_vk_at(r, 4, p->flags), .count = ds_vk_at(r, 5, p->count), .rows = p->logits.rows, .vocabulary = p->logits.cols,
        .stride = p->logits.stride,
    };
    return DS_VK_RUN(r, sample, args, 1, args.rows, 1, err, 0);
}
