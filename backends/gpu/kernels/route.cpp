/* Meaning: cpu/ref/route.c. A block chooses one row's experts: a thread looks at an expert, and counts those that come before it. */
#include "common.h"

namespace {

enum { THREADS = 128 };

struct route {
    struct matrix<const float> logits;
    struct matrix<int32_t> ids;
    struct matrix<float> weights;
    const float *scale; /* or null */
    bool normalise;
};

struct shared {
    float logits[DS_MOST_EXPERTS], p[DS_MOST_EXPERTS];
    bool chosen[DS_MOST_EXPERTS];
    float weight[DS_MOST_SLOTS];
    int32_t id[DS_MOST_SLOTS];
    float sum;
};

GPU_FN bool is_chosen(const struct shared &s, uint32_t experts, uint32_t slots, uint32_t e) {
    uint32_t before = 0;
    for (uint32_t k = 0; k < experts; k++) before += k != e && ds_better(s.logits[k], k, s.logits[e], e);
    return before < slots;
}

/* Over all experts, by lanes; or over the chosen ones, ascending. */
GPU_FN void add_up(struct shared &s, uint32_t experts, uint32_t slots, bool normalise) {
    if (gpu_thread() >= DS_GPU_WAVE) return;
    float sum = 0;
    if (!normalise) {
        for (uint32_t e = gpu_lane(); e < experts; e += DS_LANES) sum = sum + s.p[e];
        sum = tree_sum(sum);
    } else {
        for (uint32_t i = 0; i < slots; i++) sum = sum + s.weight[i];
    }
    if (gpu_thread() == 0) s.sum = sum;
}

GPU_KERNEL(THREADS) choose(struct route p, struct active active) {
    gpu_begin();
    GPU_SHARED(struct shared, s);
    const uint32_t r = gpu_block_x(), experts = p.logits.cols, slots = p.ids.cols;
    if (r >= active.get()) return;
    for (uint32_t e = gpu_thread(); e < experts; e += THREADS) s.logits[e] = p.logits.row(r)[e];
    gpu_barrier();
    float m = s.logits[0];
    for (uint32_t e = 1; e < experts; e++) m = ds_max(m, s.logits[e]);
    for (uint32_t e = gpu_thread(); e < experts; e += THREADS) {
        s.p[e] = ds_exp(s.logits[e] - m);
        s.chosen[e] = is_chosen(s, experts, slots, e);
    }
    gpu_barrier();
    for (uint32_t e = gpu_thread(); e < experts; e += THREADS) {
        if (!s.chosen[e]) continue;
        uint32_t slot = 0; /* by ascending id */
        for (uint32_t k = 0; k < e; k++) slot += s.chosen[k];
        s.id[slot] = static_cast<int32_t>(e);
        s.weight[slot] = s.p[e];
    }
    gpu_barrier();
    add_up(s, experts, slots, p.normalise);
    gpu_barrier();
    for (uint32_t i = gpu_thread(); i < slots; i += THREADS) {
        const float weight = ds_div(s.weight[i], s.sum);
        p.ids.row(r)[i] = s.id[i];
        p.weights.row(r)[i] = p.scale ? weight * p.scale[s.id[i]] : weight;
    }
}

} // namespace

gpuError_t GPU_OP(route)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_route &p = params->route;
    const struct route route = {matrix_of<const float>(p.logits), matrix_of<int32_t>(p.ids), matrix_of<float>(p.weights), at<const float>(p.scale),
                                p.normalise};
    return gpu_launch(choose, gpu_grid_of(p.logits.rows), THREADS, 0, where_of(launch), route, active_of(p.count, p.logits.rows));
}
