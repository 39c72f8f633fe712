#include "op.h"

#include "../shaders/heads.h"

extern const struct ds_vk_code ds_vk_code_heads;

enum { TEAMS = 4, MOST_DIM = 512, MOST_HEADS = 0xffff };

static uint32_t query_heads(const struct ds_op_heads *p) { return p->q.at.buffer ? p->q.cols / p->kv.head_dim : 0; }

ds_status ds_vk_op_heads(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_heads *p = &params->heads;
    const struct heads_args args = {
        .q = ds_vk_at(r, 0, p->q.at), .k = ds_vk_at(r, 1, p->k.at), .v = ds_vk_at(r, 2, p->v.at), .q_norm = ds_vk_at(r, 3, p->q_norm),
        .k_norm = ds_vk_at(r, 4, p->k_norm), .cosines = ds_vk_at(r, 5, p->cos), .sines = ds_vk_at(r, 6, p->sin), .keys = ds_vk_at(r, 7, p->kv.k),
        .values = ds_vk_at(r, 8, p->kv.v), .page_table = ds_vk_at(r, 9, p->paging.page_table), .row_sequence = ds_vk_at(r, 10, p->paging.row_sequence),
        .positions = ds_vk_at(r, 11, p->paging.positions), .count = ds_vk_at(r, 12, p->count), .q_stride = p->q.stride, .k_stride = p->k.stride,
        .v_stride = p->v.stride, .heads = query_heads(p) | p->kv.kv_heads << 16, .pages_per_sequence = p->paging.pages_per_sequence, .eps = p->eps,
    };
    return DS_VK_RUN(r, heads, args, ds_vk_blocks(query_heads(p) + p->kv.kv_heads, TEAMS), p->k.rows, 1, err, p->kv.f16, p->kv.head_dim, p->n_rot / 2,
                     p->neox);
}

/* A workgroup stages its teams' heads in shared memory, of which every device has 16 KiB. */
bool ds_vk_can_heads(const struct ds_vk_device *device, const union ds_op_params *params) {
    (void)device;
    const struct ds_op_heads *p = &params->heads;
    return p->kv.head_dim <= MOST_DIM && query_heads(p) <= MOST_HEADS && p->kv.kv_heads <= MOST_HEADS;
}
