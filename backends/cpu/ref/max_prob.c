/*
 * With m the largest logit and masses w_i = round(exp(l_i - m) 2^32), the largest of which is 2^32:
 *     p = 2^32 / W,  W = sum of w_i,     log(p / (1 - p)) = -log((W - 2^32) / 2^32)    (ds_top_log_odds of numerics.h)
 * A row that holds a number that is not finite gives -infinity. Tokens of a logit 22.9 or more below m weigh nothing.
 *
 * Fast kernels: the sum is of integers, so in any order.
 */
#include "ref/ref.h"

#include "ops/numerics.h"

static float log_odds(const float *logits, uint32_t n) {
    float largest = logits[0];
    for (uint32_t i = 0; i < n; i++) {
        if (!ds_is_finite(logits[i])) return ds_float(DS_NUM_INF | DS_NUM_SIGN);
        largest = logits[i] > largest ? logits[i] : largest;
    }
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++) total += ds_mass(logits[i] - largest);
    const uint64_t rest = total - (UINT64_C(1) << 32);
    return ds_top_log_odds((uint32_t)(rest >> 32), (uint32_t)rest);
}

ds_status ds_ref_max_prob(const struct ds_op_max_prob *p, struct ds_error *err) {
    (void)err;
    const uint32_t rows = ds_host_rows(&p->count, p->logits.rows);
    for (uint32_t r = 0; r < rows; r++) {
        float *out = ds_host_row(&p->log_odds, r);
        *out = log_odds(ds_host_row(&p->logits, r), p->logits.cols);
    }
    return DS_OK;
}
