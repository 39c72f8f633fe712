#include "op.h"

#include "../shaders/attention.h"

extern const struct ds_vk_code ds_vk_code_attention;

ds_status ds_vk_op_attention(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_attention *p = &params->attention;
    const struct attention_args args = {
        .q = ds_vk_rows(r, 0, &p->q), .outputs = ds_vk_rows(r, 1, &p->out), .keys = ds_vk_at(r, 2, p->kv.k), .values = ds_vk_at(r, 3, p->kv.v),
        .page_table = ds_vk_at(r, 4, p->paging.page_table), .row_sequence = ds_vk_at(r, 5, p->paging.row_sequence),
        .positions = ds_vk_at(r, 6, p->paging.positions), .visible = ds_vk_at(r, 7, p->visible), .count = ds_vk_at(r, 8, p->count),
        .rows = p->q.rows, .q_stride = p->q.stride, .out_stride = p->out.stride, .kv_heads = p->kv.kv_heads, .queries = p->heads / p->kv.kv_heads,
        .pages_per_sequence = p->paging.pages_per_sequence, .window = p->window, .scale = p->scale, .softcap = p->softcap,
    };
    return DS_VK_RUN(r, attention, args, p->heads, args.rows, 1, err, p->kv.f16, p->kv.head_dim);
}

bool ds_vk_can_attention(const struct ds_vk_device *device, const union ds_op_params *params) {
    (void)device;
    return params->attention.kv.head_dim <= 1024;
}
