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
#include "ref/ref.h"

#include "base/philox.h"
#include "ops/numerics.h"

#include <stdlib.h>

struct candidate {
    uint32_t id;
    float x, t;
    uint64_t w;
};

static int by_logit(const void *left, const void *right) {
    const struct candidate *a = left, *b = right;
    return ds_better(a->x, a->id, b->x, b->id) ? -1 : ds_better(b->x, b->id, a->x, a->id);
}

static int by_mass(const void *left, const void *right) {
    const struct candidate *a = left, *b = right;
    if (a->w != b->w) return a->w > b->w ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

/* A fraction of at most 1 in units of 2^-32; the product is exact, so this rounds once. */
static uint64_t fixed_point(float fraction) {
    return (uint64_t)ds_nearest(ds_min(fraction, 1.0f) * 4294967296.0f);
}

/* (a * fraction + 2^31) >> 32 for fraction < 2^32, by halves of a: nothing is lost. */
static uint64_t share(uint64_t a, uint64_t fraction) {
    return (a >> 32) * fraction + (((a & UINT32_MAX) * fraction + (UINT64_C(1) << 31)) >> 32);
}

static uint32_t keep_top_k(struct candidate *list, uint32_t n, uint32_t k) {
    if (k == 0 || k >= n) return n;
    qsort(list, n, sizeof *list, by_logit);
    return k;
}

static uint32_t keep_top_p(struct candidate *list, uint32_t n, float p) {
    if (!(p > 0 && p < 1)) return n;
    uint64_t total = 0, sum = 0;
    for (uint32_t i = 0; i < n; i++) total += list[i].w;
    const uint64_t wanted = share(total, fixed_point(p));
    qsort(list, n, sizeof *list, by_mass);
    for (uint32_t i = 0; i < n; i++) {
        sum += list[i].w;
        if (sum >= wanted) return i + 1;
    }
    return n;
}

static uint32_t keep_min_p(struct candidate *list, uint32_t n, float p) {
    if (!(p > 0)) return n;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (list[i].w >= fixed_point(p)) list[kept++] = list[i];
    return kept;
}

static const struct candidate *largest_logit(const struct candidate *list, uint32_t n) {
    const struct candidate *best = list;
    for (uint32_t i = 1; i < n; i++)
        if (ds_better(list[i].x, list[i].id, best->x, best->id)) best = &list[i];
    return best;
}

static uint32_t draw(struct candidate *list, uint32_t n, const struct ds_sample_row *how) {
    const float top = largest_logit(list, n)->x;
    for (uint32_t i = 0; i < n; i++) {
        list[i].t = (list[i].x - top) * how->inverse_temperature;
        list[i].w = ds_mass(list[i].t);
    }
    n = keep_top_k(list, n, how->top_k);
    n = keep_top_p(list, n, how->top_p);
    n = keep_min_p(list, n, how->min_p);

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
                      struct candidate *list, uint32_t *flags) {
    uint32_t candidates = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!ds_is_finite(logits[i])) {
            *flags |= DS_FLAG_LOGIT;
            return -1;
        }
        if (bias && ds_bits(bias[i]) == (DS_NUM_INF | DS_NUM_SIGN)) continue;
        list[candidates++] = (struct candidate){.id = i, .x = bias ? logits[i] + bias[i] : logits[i]};
    }
    if (candidates == 0) {
        *flags |= DS_FLAG_MASKED;
        return -1;
    }
    return (int32_t)(how->inverse_temperature > 0 ? draw(list, candidates, how) : largest_logit(list, candidates)->id);
}

ds_status ds_ref_sample(const struct ds_op_sample *p, struct ds_error *err) {
    const uint32_t vocabulary = p->logits.cols, rows = ds_host_rows(&p->count, p->logits.rows);
    const struct ds_sample_row *how = ds_host_at(&p->rows);
    const float *bias = ds_host_at(&p->bias);
    int32_t *tokens = ds_host_at(&p->tokens);
    uint32_t *flags = ds_host_at(&p->flags);
    struct candidate *list = malloc(vocabulary * sizeof *list);
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
