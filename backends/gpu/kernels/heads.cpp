/*
 * Meaning: cpu/ref/heads.c. A team of 32 lanes takes a head of a row, of the queries or of the keys; that of a key's head stores it, and the
 * value's head beside it. The normed head stands in shared memory, because a pair's columns are other lanes'.
 */
#include "common.h"

namespace {

enum { THREADS = 128, TEAMS = THREADS / GPU_TEAM, MOST_DIM = 512 };

struct heads {
    struct matrix<float> q, k; /* q.data null: none */
    struct matrix<const float> v;
    const float *q_norm, *k_norm; /* [head_dim], or null */
    float eps;
    const float *cosine, *sine; /* [position][half] */
    void *k_cache, *v_cache;
    struct paging paging;
    uint32_t q_heads, kv_heads, head_dim, half;
    bool neox;
};

GPU_FN void put(float *cache, uint64_t index, float x) { cache[index] = x; }
GPU_FN void put(uint16_t *cache, uint64_t index, float x) { cache[index] = static_cast<uint16_t>(ds_f32_to_f16(x)); }

/* The head into shared memory, normed if there is a weight. */
GPU_FN void norm_head(const struct heads &p, const float *x, const float *weight, bool present, float *staged) {
    float sum = 0;
    for (uint32_t c = gpu_lane(); present && c < p.head_dim; c += DS_LANES) {
        const float square = x[c] * x[c];
        sum = sum + square;
    }
    sum = tree_sum(sum);
    const float mean = ds_div(sum, static_cast<float>(p.head_dim)), factor = ds_div(1.0f, ds_sqrt(mean + p.eps));
    for (uint32_t c = gpu_lane(); present && c < p.head_dim; c += DS_LANES) {
        const float scaled = x[c] * factor;
        staged[c] = weight ? scaled * weight[c] : x[c];
    }
}

/* The staged head, rotated. */
GPU_FN float turned(const struct heads &p, const float *staged, int32_t position, uint32_t c) {
    const uint32_t n_rot = 2 * p.half;
    if (position < 0 || c >= n_rot) return staged[c];
    const uint32_t i = p.neox ? c % p.half : c / 2;
    const bool second = p.neox ? c >= p.half : c % 2 != 0;
    const float a = staged[p.neox ? i : 2 * i], b = staged[p.neox ? i + p.half : 2 * i + 1];
    const size_t at = static_cast<size_t>(position) * p.half + i;
    const float cosine = p.cosine[at], sine = p.sine[at];
    return second ? b * cosine + a * sine : a * cosine - b * sine;
}

template <class T> GPU_KERNEL(THREADS) heads_of_rows(struct heads p, struct active active) {
    gpu_begin();
    struct staged {
        float x[TEAMS][MOST_DIM];
    };
    GPU_SHARED(struct staged, staged);
    const uint32_t r = gpu_block_y(), unit = gpu_block_x() * TEAMS + gpu_team(), dim = p.head_dim;
    if (r >= active.get()) return;
    const bool is_query = unit < p.q_heads, present = unit < p.q_heads + p.kv_heads; /* else: a team that only takes part */
    const uint32_t head = is_query ? unit : unit - p.q_heads;
    float *const x = (is_query ? p.q.row(r) : p.k.row(r)) + static_cast<size_t>(present ? head : 0) * dim, *const mine = staged.x[gpu_team()];
    norm_head(p, x, is_query ? p.q_norm : p.k_norm, present, mine);
    gpu_barrier();
    if (!present) return;
    const int32_t position = p.paging.positions[r];
    const bool stores = !is_query && position >= 0;
    const uint32_t slot = static_cast<uint32_t>(position) % DS_PAGE, page = stores ? p.paging.page(r, static_cast<uint32_t>(position)) : 0;
    for (uint32_t c = gpu_lane(); c < dim; c += DS_LANES) {
        const float y = turned(p, mine, position, c);
        x[c] = y;
        if (!stores) continue;
        put(static_cast<T *>(p.k_cache), ds_kv_key_index(page, head, slot, c, p.kv_heads, dim), y);
        put(static_cast<T *>(p.v_cache), ds_kv_value_index(page, head, slot, c, p.kv_heads, dim), p.v.row(r)[static_cast<size_t>(head) * dim + c]);
    }
}

} // namespace

bool GPU_OP_CAN(heads)(const union ds_op_params *params) { return params->heads.kv.head_dim <= MOST_DIM; }

gpuError_t GPU_OP(heads)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_heads &p = params->heads;
    const struct heads heads = {matrix_of<float>(p.q), matrix_of<float>(p.k), matrix_of<const float>(p.v), at<const float>(p.q_norm),
                                at<const float>(p.k_norm), p.eps, at<const float>(p.cos), at<const float>(p.sin), at<void>(p.kv.k), at<void>(p.kv.v),
                                paging_of(p.paging), p.q.at.buffer ? p.q.cols / p.kv.head_dim : 0, p.kv.kv_heads, p.kv.head_dim, p.n_rot / 2, p.neox};
    return gpu_launch(p.kv.f16 ? heads_of_rows<uint16_t> : heads_of_rows<float>, gpu_grid_of(ceil_div(heads.q_heads + heads.kv_heads, TEAMS), p.k.rows),
                      THREADS, 0, where_of(launch), heads, active_of(p.count, p.k.rows));
}
