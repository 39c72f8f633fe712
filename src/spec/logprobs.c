#include "spec/logprobs.h"

#include "ops/numerics.h"

/* Into the list of the largest so far, in their order. */
static void insert(ds_token_logprob *top, uint32_t n_top, uint32_t *held, ds_token token, float logit) {
    if (*held == n_top && !(logit > top[n_top - 1].logprob)) return; /* of equals the lowest id is there already */
    uint32_t at = *held < n_top ? (*held)++ : n_top - 1;
    for (; at > 0 && logit > top[at - 1].logprob; at--) top[at] = top[at - 1];
    top[at] = (ds_token_logprob){token, logit};
}

void ds_logprobs_of(const float *logits, uint32_t n, ds_token chosen, uint32_t n_top, struct ds_row_logprobs *out) {
    float max = logits[0];
    for (uint32_t i = 1; i < n; i++) max = logits[i] > max ? logits[i] : max;
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++) total += ds_mass(logits[i] - max);
    const float log_total = ds_log((float)total * 2.3283064365386962890625e-10f);
    out->chosen = (ds_token_logprob){chosen, (logits[chosen] - max) - log_total};
    uint32_t held = 0;
    for (uint32_t i = 0; i < n && n_top; i++) insert(out->top, n_top, &held, (ds_token)i, logits[i]);
    for (uint32_t i = 0; i < held; i++) out->top[i].logprob = (out->top[i].logprob - max) - log_total;
    for (uint32_t i = held; i < n_top; i++) out->top[i] = (ds_token_logprob){-1, 0};
}
