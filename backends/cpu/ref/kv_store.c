/*
 * Row r's keys and values into the slot of its position in its sequence's pages (layout.h). An f16 cache takes them rounded
 * to nearest even, saturated at 65504. Rows of position -1 are skipped.
 *
 * Fast kernels: every element is on its own. No two rows of a pass share a position of a sequence.
 */
#include "ref/ref.h"

#include "ops/numerics.h"

static void put(const struct ds_kv *kv, const struct ds_slice *cache, uint64_t index, float x) {
    if (kv->f16)
        ((uint16_t *)ds_host_at(cache))[index] = (uint16_t)ds_f32_to_f16(x);
    else
        ((float *)ds_host_at(cache))[index] = x;
}

ds_status ds_ref_kv_store(const struct ds_op_kv_store *p, struct ds_error *err) {
    (void)err;
    const struct ds_kv *kv = &p->kv;
    const int32_t *positions = ds_host_at(&p->paging.positions);
    const uint32_t rows = ds_host_rows(&p->count, p->k.rows);
    for (uint32_t r = 0; r < rows; r++) {
        if (positions[r] < 0) continue;
        const uint32_t position = (uint32_t)positions[r], slot = position % DS_PAGE;
        const uint32_t page = ds_host_page(&p->paging, r, position);
        const float *k = ds_host_row(&p->k, r), *v = ds_host_row(&p->v, r);
        for (uint32_t c = 0; c < p->k.cols; c++) {
            const uint32_t head = c / kv->head_dim, dim = c % kv->head_dim;
            put(kv, &kv->k, ds_kv_key_index(page, head, slot, dim, kv->kv_heads, kv->head_dim), k[c]);
            put(kv, &kv->v, ds_kv_value_index(page, head, slot, dim, kv->kv_heads, kv->head_dim), v[c]);
        }
    }
    return DS_OK;
}
