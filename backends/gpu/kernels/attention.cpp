/*
 * Meaning: cpu/ref/attention.c. A block computes one query head of one row, chunk by chunk: first a thread is a key (scores, the
 * chunk's maximum, weights), then a thread is a dimension (the weighted values, and the recurrence over chunks).
 */
#include "common.h"

namespace {

enum { THREADS = DS_CHUNK, MOST_DIM = 512, EACH = MOST_DIM / THREADS };

struct attention {
    struct matrix<const float> q;
    struct matrix<float> out;
    const void *k, *v;
    struct paging paging;
    const int32_t *visible;
    uint32_t heads, kv_heads, head_dim, window;
    float scale, softcap;
};

struct shared {
    float q[MOST_DIM];
    float weight[DS_CHUNK];
    float part[THREADS / GPU_TEAM];
    float sum;
    uint32_t page[DS_CHUNK / DS_PAGE];
};

template <class T> struct cache;
template <> struct cache<float> {
    GPU_FN_MEMBER static float get(float x) { return x; }
    GPU_FN_MEMBER static float round(float x) { return x; }
};
template <> struct cache<uint16_t> {
    GPU_FN_MEMBER static float get(uint16_t x) { return ds_f16_to_f32(x); }
    GPU_FN_MEMBER static float round(float x) { return ds_f16_to_f32(ds_f32_to_f16(x)); }
};

/* The largest value of the block's threads. The same for all. */
GPU_FN float block_max(float value, float part[THREADS / GPU_TEAM]) {
    for (uint32_t mask = GPU_TEAM / 2; mask > 0; mask /= 2) value = ds_max(value, gpu_shuffle_xor_f(value, mask));
    if (gpu_lane() == 0) part[gpu_team()] = value;
    gpu_barrier();
    value = part[0];
    for (uint32_t i = 1; i < THREADS / GPU_TEAM; i++) value = ds_max(value, part[i]);
    return value;
}

template <class T> GPU_FN float score(const struct attention &p, const struct shared &s, uint32_t kv_head, uint32_t key) {
    const T *const k = static_cast<const T *>(p.k) + ds_kv_key_index(s.page[key / DS_PAGE], kv_head, key % DS_PAGE, 0, p.kv_heads, p.head_dim);
    float sum = 0;
    for (uint32_t d = 0; d < p.head_dim; d++) {
        const float product = s.q[d] * cache<T>::get(k[static_cast<size_t>(d) * DS_PAGE]);
        sum = sum + product;
    }
    const float scaled = sum * p.scale;
    return p.softcap > 0 ? ds_softcap(scaled, p.softcap) : scaled;
}

template <class T> GPU_KERNEL(THREADS) attend(struct attention p, struct active active) {
    GPU_SHARED(struct shared, s);
    const uint32_t r = gpu_block_y(), head = gpu_block_x(), kv_head = head / (p.heads / p.kv_heads), thread = gpu_thread();
    if (r >= active.get() || p.paging.positions[r] < 0) return;
    const int64_t oldest = p.window > 0 ? static_cast<int64_t>(p.paging.positions[r]) - p.window + 1 : 0;
    const uint32_t first = oldest > 0 ? static_cast<uint32_t>(oldest) : 0, last = p.visible[r] > 0 ? static_cast<uint32_t>(p.visible[r]) : 0;
    float *const out = p.out.row(r) + static_cast<size_t>(head) * p.head_dim;
    if (first >= last) {
        for (uint32_t d = thread; d < p.head_dim; d += THREADS) out[d] = 0;
        return;
    }
    for (uint32_t d = thread; d < p.head_dim; d += THREADS) s.q[d] = cache<T>::round(p.q.row(r)[static_cast<size_t>(head) * p.head_dim + d]);

    float all_m = 0, all_l = 0, all_o[EACH] = {};
    for (uint32_t base = first / DS_CHUNK * DS_CHUNK; base < last; base += DS_CHUNK) {
        const uint32_t from = first > base ? first - base : 0, to = least(last - base, DS_CHUNK); /* visible keys of this chunk */
        if (thread < DS_CHUNK / DS_PAGE && thread * DS_PAGE < to) s.page[thread] = p.paging.page(r, base + thread * DS_PAGE);
        gpu_barrier();
        const bool seen = thread >= from && thread < to;
        const float x = seen ? score<T>(p, s, kv_head, thread) : ds_float(DS_NUM_NAN); /* a NaN loses a maximum */
        const float m = block_max(x, s.part);
        s.weight[thread] = seen ? cache<T>::round(ds_exp(x - m)) : 0.0f;
        gpu_barrier();
        if (thread < GPU_TEAM) {
            float lane_sum = 0;
            for (uint32_t key = thread; key < DS_CHUNK; key += DS_LANES) lane_sum = lane_sum + s.weight[key];
            const float l = tree_sum(lane_sum);
            if (thread == 0) s.sum = l;
        } else if (DS_GPU_WAVE > GPU_TEAM && thread < DS_GPU_WAVE) {
            (void)tree_sum(0); /* the wave's other team goes along */
        }
        gpu_barrier();
        const float l = s.sum, new_m = base <= first ? m : ds_max(all_m, m), a = ds_exp(all_m - new_m), b = ds_exp(m - new_m);
        for (uint32_t i = 0; i < EACH; i++) {
            const uint32_t d = thread + i * THREADS;
            if (d >= p.head_dim) continue;
            float o = 0;
            for (uint32_t key = from; key < to; key++) {
                const T *const v = static_cast<const T *>(p.v) +
                                   ds_kv_value_index(s.page[key / DS_PAGE], kv_head, key % DS_PAGE, d, p.kv_heads, p.head_dim);
                const float product = s.weight[key] * cache<T>::get(*v);
                o = o + product;
            }
            if (base <= first) {
                all_o[i] = o;
            } else {
                const float left = all_o[i] * a, right = o * b;
                all_o[i] = left + right;
            }
        }
        if (base <= first) {
            all_l = l;
        } else {
            const float left = all_l * a, right = l * b;
            all_l = left + right;
        }
        all_m = new_m;
        gpu_barrier(); /* weights and pages are written again */
    }
    const float inverse = ds_div(1.0f, all_l);
    for (uint32_t i = 0; i < EACH; i++) {
        const uint32_t d = thread + i * THREADS;
        if (d < p.head_dim) out[d] = all_o[i] * inverse;
    }
}

} // namespace

bool GPU_OP_CAN(attention)(const union ds_op_params *params) { return params->attention.kv.head_dim <= MOST_DIM; }

uint64_t GPU_OP_SCRATCH(attention)(const union ds_op_params *params, uint32_t processors) {
    (void)params;
    (void)processors;
    return 0;
}

gpuError_t GPU_OP(attention)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_attention &p = params->attention;
    const struct attention attention = {matrix_of<const float>(p.q), matrix_of<float>(p.out), at<const void>(p.kv.k), at<const void>(p.kv.v),
                                        paging_of(p.paging), at<const int32_t>(p.visible), p.heads, p.kv.kv_heads, p.kv.head_dim, p.window,
                                        p.scale, p.softcap};
    return gpu_launch(p.kv.f16 ? attend<uint16_t> : attend<float>, gpu_grid_of(p.heads, p.q.rows), THREADS, 0, launch->stream, attention,
                      active_of(p.count, p.q.rows));
}
