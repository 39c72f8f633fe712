/* Heads of rows are shared out among threads, as grid.h says. Meaning: ref/kv_store.c. */
#include "kernels.h"
#include "kernels/vec.h"

static void store_f16(const float *restrict k, const float *restrict v, uint32_t dim, uint16_t *restrict keys, uint16_t *restrict values) {
    for (uint32_t d = 0; d < dim; d++) values[d] = (uint16_t)ds_f32_to_f16(v[d]);
    for (uint32_t d = 0; d < dim; d++) keys[(size_t)d * DS_PAGE] = (uint16_t)ds_f32_to_f16(k[d]);
}

static void store_f32(const float *restrict k, const float *restrict v, uint32_t dim, float *restrict keys, float *restrict values) {
    memcpy(values, v, dim * sizeof(float));
    for (uint32_t d = 0; d < dim; d++) keys[(size_t)d * DS_PAGE] = k[d];
}

void DS_CPU_NAME(kv_store)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_kv_store *p = &params->kv_store;
    const struct ds_kv *kv = &p->kv;
    const uint32_t rows = ds_host_rows(&p->count, p->k.rows), heads = kv->kv_heads, dim = kv->head_dim;
    const int32_t *positions = ds_host_at(&p->paging.positions);
    uint64_t unit, end;
    ds_cpu_share(work, (uint64_t)rows * heads, &unit, &end);
    for (; unit < end; unit++) {
        const uint32_t r = (uint32_t)(unit / heads), head = (uint32_t)(unit % heads);
        if (positions[r] < 0) continue;
        const uint32_t position = (uint32_t)positions[r], slot = position % DS_PAGE, page = ds_host_page(&p->paging, r, position);
        const float *k = (const float *)ds_host_row(&p->k, r) + (size_t)head * dim, *v = (const float *)ds_host_row(&p->v, r) + (size_t)head * dim;
        const uint64_t key = ds_kv_key_index(page, head, slot, 0, heads, dim), value = ds_kv_value_index(page, head, slot, 0, heads, dim);
        if (kv->f16) store_f16(k, v, dim, (uint16_t *)ds_host_at(&kv->k) + key, (uint16_t *)ds_host_at(&kv->v) + value);
        else store_f32(k, v, dim, (float *)ds_host_at(&kv->k) + key, (float *)ds_host_at(&kv->v) + value);
    }
}
