#include "op.h"

#include "../shaders/rope.h"

extern const struct ds_vk_code ds_vk_code_rope;

ds_status ds_vk_op_rope(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_rope *p = &params->rope;
    const struct rope_args args = {
        .x = ds_vk_rows(r, 0, &p->x), .cosines = ds_vk_at(r, 1, p->cos), .sines = ds_vk_at(r, 2, p->sin), .positions = ds_vk_at(r, 3, p->positions),
        .count = ds_vk_at(r, 4, p->count), .rows = p->x.rows, .heads = p->x.cols / p->head_dim, .head_dim = p->head_dim, .half_rot = p->n_rot / 2,
        .neox = p->neox, .stride = p->x.stride,
    };
    return DS_VK_RUN(r, rope, args, ds_vk_blocks((uint64_t)args.heads * args.half_rot, DS_VK_THREADS), args.rows, 1, err, 0);
}
