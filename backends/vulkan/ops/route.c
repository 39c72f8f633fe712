#include "op.h"

#include "../shaders/route.h"

extern const struct ds_vk_code ds_vk_code_route;

ds_status ds_vk_op_route(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_route *p = &params->route;
    const struct route_args args = {
        .logits = ds_vk_rows(r, 0, &p->logits), .ids = ds_vk_rows(r, 1, &p->ids), .weights = ds_vk_rows(r, 2, &p->weights),
        .factors = ds_vk_at(r, 3, p->scale), .count = ds_vk_at(r, 4, p->count), .rows = p->logits.rows, .experts = p->logits.cols, .slots = p->ids.cols,
        .normalise = p->normalise, .logits_stride = p->logits.stride, .ids_stride = p->ids.stride, .weights_stride = p->weights.stride,
    };
    return DS_VK_RUN(r, route, args, 1, args.rows, 1, err, 0);
}
