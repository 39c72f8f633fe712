#include "op.h"

#include "../pack.h"
#include "../shaders/embed.h"

extern const struct ds_vk_code ds_vk_code_embed;

ds_status ds_vk_op_embed(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_embed *p = &params->embed;
    const struct embed_args args = {
        .table = ds_vk_at(r, 0, p->table.at), .ids = ds_vk_at(r, 1, p->ids), .outputs = ds_vk_at(r, 2, p->out.at), .count = ds_vk_at(r, 3, p->count),
        .rows = p->out.rows, .cols = p->out.cols, .out_stride = p->out.stride, .scale = p->scale,
    };
    struct ds_vk_dispatch dispatch = {.code = &ds_vk_code_embed, .args = &args, .bytes = sizeof args,
                                      .groups = {ds_vk_blocks(args.cols, DS_VK_THREADS), args.rows, 1}};
    ds_vk_type_constants(p->table.type, dispatch.constants);
    return ds_vk_dispatch(r, &dispatch, err);
}
