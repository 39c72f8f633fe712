/*
 * tokens[r] from logits[r], as rows[r] says. With x_i = logit_i (+ bias_i):
 *
 *   A logit that is not finite: token -1 and DS_FLAG_LOGIT, even where the bias forbids that token.
 *   A bias of -infinity forbids: the token is no candidate from the start. No candidate left: -1 and DS_FLAG_MASKED.
 *   inverse_temperature 0: the largest x, ties to the lowest id. Otherwise
 *     t_i = (x_i - max x) * inverse_temperature,   w_i = ds_mass(t_i) = round(exp(t_i) * 2^32)
 *     top-k   keeps the k largest x, ties to the lowest id
 *     top-p   of what is left, in the order (w descending, id ascending), keeps the shortest beginning whose sum reaches
 *             (total * P + 2^31) >> 32 with P = round(top_p * 2^32): integers, exact; at least one token
 *     min-p   keeps w_i >= round(min_p * 2^32); the largest w is 2^32, so this is relative to the most probable token
 *     score_i = t_i + ds_gumbel(ds_philox_word(seed, i, position, purpose, stream)); the largest wins, ties to the lowest id
 *
 * Fast kernels: maxima and integer sums in any order, selection instead of sorting. Noise lies in [-2.82, 22.2], so that a
 * token whose t is more than 26 below the best kept one needs none.
 */
#include "ref/candidates.h"

#include "base/philox.h"
#include "ops/numerics.h"

#include <stdlib.h>

static uint32_t draw(struct ds_candidate *list, uint32_t n, const struct ds_sample_row *how) {
    n = ds_ref_filter(list, n, how);

    const uint64_t seed = how->seed_low | (uint64_t)how->seed_high << 32;
    uint32_t best_id = UINT32_MAX;
    float best = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t word = ds_philox_word(seed, list[i].id, how->position, how->purpose, how->stream);
        const float score = list[i].t + ds_gumbel(word);
        if (best_id == UINT32_MAX || ds_better(score, list[i].id, best, best_id)) {
            best = score;
            best_id = list[i].id;
        }
    }
    return best_id;
}

static int32_t sample(const float *logits, uint32_t n, const float *bias, const struct ds_sample_row *how,
                      struct ds_candidate *list, uint32_t *flags) {
    const uint32_t candidates = ds_ref_candidates(logits, n, bias, list, flags);
    if (candidates == 0) return -1;
    return (int32_t)(how->inverse_temperature > 0 ? draw(list, candidates, how) : ds_ref_largest(list, candidates)->id);
}

ds_status ds_ref_sample(const struct ds_op_sample *p, struct ds_error *err) {
    const uint32_t vocabulary = p->logits.cols, rows = ds_host_rows(&p->count, p->logits.rows);
    const struct ds_sample_row *how = ds_host_at(&p->rows);
    const float *bias = ds_host_at(&p->bias);
    int32_t *tokens = ds_host_at(&p->tokens);
    uint32_t *flags = ds_host_at(&p->flags);
    struct ds_candidate *list = malloc(vocabulary * sizeof *list);
    if (!list) return ds_fail_memory(err, vocabulary * sizeof *list, "the candidates of a row");
    for (uint32_t r = 0; r < rows; r++) {
        const float *row_bias = bias && how[r].bias_row >= 0 ? bias + (size_t)how[r].bias_row * vocabulary : NULL;
        uint32_t raised = 0;
        tokens[r] = sample(ds_host_row(&p->logits, r), vocabulary, row_bias, &how[r], list, &raised);
        if (flags) flags[r] |= raised;
    }
    free(list);
    return DS_OK;
}
