#include "op.h"

#include "../shaders/max_prob.h"

extern const struct ds_vk_code ds_vk_code_max_prob;

ds_status ds_vk_op_max_prob(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_max_prob *p = &params->max_prob;
    const struct max_prob_args args = {
        .logits = ds_vk_rows(r, 0, &p->logits), .log_odds = ds_vk_rows(r, 1, &p->log_odds), .count = ds_vk_at(r, 2, p->count),
        .rows = p->logits.rows, .vocabulary = p->logits.cols, .stride = p->logits.stride, .log_odds_stride = p->log_odds.stride,
    };
    return DS_VK_RUN(r, max_prob, args, 1, args.rows, 1, err, 0);
}
