#include "op.h"

#include "../shaders/kv_store.h"

extern const struct ds_vk_code ds_vk_code_kv_store;

ds_status ds_vk_op_kv_store(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_kv_store *p = &params->kv_store;
    const struct kv_store_args args = {
        .k = ds_vk_at(r, 0, p->k.at), .v = ds_vk_at(r, 1, p->v.at), .keys = ds_vk_at(r, 2, p->kv.k), .values = ds_vk_at(r, 3, p->kv.v),
        .page_table = ds_vk_at(r, 4, p->paging.page_table), .row_sequence = ds_vk_at(r, 5, p->paging.row_sequence),
        .positions = ds_vk_at(r, 6, p->paging.positions), .count = ds_vk_at(r, 7, p->count), .rows = p->k.rows, .cols = p->k.cols,
        .k_stride = p->k.stride, .v_stride = p->v.stride, .kv_heads = p->kv.kv_heads, .head_dim = p->kv.head_dim,
        .pages_per_sequence = p->paging.pages_per_sequence,
    };
    return DS_VK_RUN(r, kv_store, args, ds_vk_blocks(args.cols, DS_VK_THREADS), args.rows, 1, err, p->kv.f16);
}
