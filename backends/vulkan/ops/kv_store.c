#include "op.h"

#include "../shaders/kv_store.h"

extern const struct ds_vk_code ds_vk_code_kv_store;

static uint64_t page_bytes(const struct ds_kv *kv) { return (uint64_t)kv->kv_heads * kv->head_dim * DS_PAGE * (kv->f16 ? 2 : 4); }

/* The pages from `first` on that one descriptor shows: rows of others are left alone. */
static ds_status part(struct ds_vk_recorder *r, const struct ds_op_kv_store *p, uint32_t first, uint32_t pages, struct ds_error *err) {
    const uint64_t page = page_bytes(&p->kv);
    const struct kv_store_args args = {
        .k = ds_vk_rows(r, 0, &p->k), .v = ds_vk_rows(r, 1, &p->v), .keys = ds_vk_part(r, 2, p->kv.k, first * page, pages * page),
        .values = ds_vk_part(r, 3, p->kv.v, first * page, pages * page),
        .page_table = ds_vk_at(r, 4, p->paging.page_table), .row_sequence = ds_vk_at(r, 5, p->paging.row_sequence),
        .positions = ds_vk_at(r, 6, p->paging.positions), .count = ds_vk_at(r, 7, p->count), .rows = p->k.rows, .cols = p->k.cols,
        .k_stride = p->k.stride, .v_stride = p->v.stride, .kv_heads = p->kv.kv_heads, .head_dim = p->kv.head_dim,
        .pages_per_sequence = p->paging.pages_per_sequence, .first_page = first, .end_page = first + pages,
    };
    return DS_VK_RUN(r, kv_store, args, ds_vk_blocks(args.cols, DS_VK_THREADS), args.rows, 1, err, p->kv.f16);
}

ds_status ds_vk_op_kv_store(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_kv_store *p = &params->kv_store;
    const uint32_t most = ds_vk_items_at_once(r->device, page_bytes(&p->kv), p->kv.pages);
    for (uint32_t first = 0; first < p->kv.pages; first += most) {
        if (first) ds_vk_barrier(r);
        DS_TRY(part(r, p, first, DS_MIN(most, p->kv.pages - first), err));
    }
    return DS_OK;
}
