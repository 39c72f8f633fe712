/* Meaning: cpu/ref/kv_store.c. A thread stores one element of K and one of V. */
#include "common.h"

namespace {

enum { THREADS = 128 };

struct store {
    struct matrix<const float> k, v;
    void *k_cache, *v_cache;
    struct paging paging;
    uint32_t kv_heads, head_dim;
};

GPU_FN void put(float *cache, uint64_t index, float x) { cache[index] = x; }
GPU_FN void put(uint16_t *cache, uint64_t index, float x) { cache[index] = static_cast<uint16_t>(ds_f32_to_f16(x)); }

template <class T> GPU_KERNEL(THREADS) store_rows(struct store p, struct active active) {
    gpu_begin();
    const uint32_t r = gpu_block_y(), c = gpu_block_x() * THREADS + gpu_thread();
    if (r >= active.get() || c >= p.k.cols || p.paging.positions[r] < 0) return;
    const uint32_t position = static_cast<uint32_t>(p.paging.positions[r]), slot = position % DS_PAGE, page = p.paging.page(r, position);
    const uint32_t head = c / p.head_dim, dim = c % p.head_dim;
    put(static_cast<T *>(p.k_cache), ds_kv_key_index(page, head, slot, dim, p.kv_heads, p.head_dim), p.k.row(r)[c]);
    put(static_cast<T *>(p.v_cache), ds_kv_value_index(page, head, slot, dim, p.kv_heads, p.head_dim), p.v.row(r)[c]);
}

} // namespace

gpuError_t GPU_OP(kv_store)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_kv_store &p = params->kv_store;
    const struct store store = {matrix_of<const float>(p.k), matrix_of<const float>(p.v), at<void>(p.kv.k), at<void>(p.kv.v),
                                paging_of(p.paging), p.kv.kv_heads, p.kv.head_dim};
    return gpu_launch(p.kv.f16 ? store_rows<uint16_t> : store_rows<float>, gpu_grid_of(ceil_div(p.k.cols, THREADS), p.k.rows), THREADS, 0,
                      where_of(launch), store, active_of(p.count, p.k.rows));
}
