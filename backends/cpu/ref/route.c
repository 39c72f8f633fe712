/*
 * The `slots` first experts of a row in the order (logit descending, id ascending; NaN last: ds_better), listed by ascending id
 * e_0 < e_1 < .., and with m the greatest logit (ds_max: NaN loses)
 *     p_e = exp(l_e - m),   weight of e = p_e / S  (ds_div),  then * scale[e]
 *     S = over all experts: lane (e mod 32) adds its experts ascending from +0, then the halving tree
 *         normalised: over the chosen ones, ascending from +0
 *
 * Fast kernels: rows and experts in any order; only the sums are ordered.
 */
#include "ref/ref.h"

#include "ops/numerics.h"

/* Whether expert e is among the first `slots`: fewer than that many come before it. */
static bool is_chosen(const float *logits, uint32_t experts, uint32_t slots, uint32_t e) {
    uint32_t before = 0;
    for (uint32_t k = 0; k < experts; k++)
        if (k != e && ds_better(logits[k], k, logits[e], e)) before++;
    return before < slots;
}

static float sum_of_all(const float *logits, uint32_t experts, float m) {
    float lanes[DS_LANES] = {0};
    for (uint32_t e = 0; e < experts; e++) lanes[e % DS_LANES] = lanes[e % DS_LANES] + ds_exp(logits[e] - m);
    return ds_ref_tree(lanes);
}

static void route(const struct ds_op_route *p, const float *logits, int32_t *ids, float *weights) {
    const uint32_t experts = p->logits.cols, slots = p->ids.cols;
    const float *scale = ds_host_at(&p->scale);
    float m = logits[0], chosen = 0;
    for (uint32_t e = 1; e < experts; e++) m = ds_max(m, logits[e]);
    uint32_t n = 0;
    for (uint32_t e = 0; e < experts; e++) {
        if (!is_chosen(logits, experts, slots, e)) continue;
        ids[n] = (int32_t)e;
        weights[n] = ds_exp(logits[e] - m);
        chosen = chosen + weights[n++];
    }
    const float sum = p->normalise ? chosen : sum_of_all(logits, experts, m);
    for (uint32_t s = 0; s < slots; s++) {
        weights[s] = ds_div(weights[s], sum);
        if (scale) weights[s] = weights[s] * scale[ids[s]];
    }
}

ds_status ds_ref_route(const struct ds_op_route *p, struct ds_error *err) {
    (void)err;
    const uint32_t rows = ds_host_rows(&p->count, p->logits.rows);
    for (uint32_t r = 0; r < rows; r++) route(p, ds_host_row(&p->logits, r), ds_host_row(&p->ids, r), ds_host_row(&p->weights, r));
    return DS_OK;
}
