/* Rows are shared out among threads. Meaning and order of sums: ref/route.c. */
#include "kernels.h"
#include "kernels/vec.h"

/* Marks the `slots` best, one after the other: slots are few. */
static void choose(const float *logits, uint32_t experts, uint32_t slots, bool *chosen) {
    memset(chosen, 0, experts * sizeof *chosen);
    for (uint32_t s = 0; s < slots; s++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t e = 0; e < experts; e++)
            if (!chosen[e] && (best == UINT32_MAX || ds_better(logits[e], e, logits[best], best))) best = e;
        chosen[best] = true;
    }
}

/* exp(l - m) of all experts, zeros behind them, which add +0 to lanes that are not -0. */
static float sum_of_all(const float *logits, uint32_t experts, float m) {
    vf low = vf_zero(), high = vf_zero();
    for (uint32_t first = 0; first < experts; first += DS_LANES) {
        const uint32_t n = DS_MIN(experts - first, (uint32_t)DS_LANES);
        float p[DS_LANES] = {0};
        for (uint32_t i = 0; i < n; i++) p[i] = ds_exp(logits[first + i] - m);
        low = vf_add(low, vf_load(p));
        high = vf_add(high, vf_load(p + DS_WIDTH));
    }
    return vf_tree(low, high);
}

static void route(const struct ds_op_route *p, const float *logits, int32_t *ids, float *weights) {
    const uint32_t experts = p->logits.cols, slots = p->ids.cols;
    const float *scale = ds_host_at(&p->scale);
    bool is_chosen[DS_MOST_EXPERTS];
    choose(logits, experts, slots, is_chosen);
    float m = logits[0], chosen = 0;
    for (uint32_t e = 1; e < experts; e++) m = ds_max(m, logits[e]);
    uint32_t n = 0;
    for (uint32_t e = 0; e < experts; e++)
        if (is_chosen[e]) ids[n++] = (int32_t)e;
    for (uint32_t s = 0; s < slots; s++) weights[s] = ds_exp(logits[ids[s]] - m);
    for (uint32_t s = 0; s < slots; s++) chosen = chosen + weights[s];
    const float sum = p->normalise ? chosen : sum_of_all(logits, experts, m);
    for (uint32_t s = 0; s < slots; s++) {
        const float weight = ds_div(weights[s], sum);
        weights[s] = scale ? weight * scale[ids[s]] : weight;
    }
}

void DS_CPU_NAME(route)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_route *p = &params->route;
    uint64_t r, end;
    ds_cpu_share(work, ds_host_rows(&p->count, p->logits.rows), &r, &end);
    for (; r < end; r++)
        route(p, ds_host_row(&p->logits, (uint32_t)r), ds_host_row(&p->ids, (uint32_t)r), ds_host_row(&p->weights, (uint32_t)r));
}
