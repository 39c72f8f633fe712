#include "ref/candidates.h"

#include "ops/numerics.h"

#include <stdlib.h>

static int by_logit(const void *left, const void *right) {
    const struct ds_candidate *a = left, *b = right;
    return ds_better(a->x, a->id, b->x, b->id) ? -1 : ds_better(b->x, b->id, a->x, a->id);
}

static int by_mass(const void *left, const void *right) {
    const struct ds_candidate *a = left, *b = right;
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

static uint32_t keep_top_k(struct ds_candidate *list, uint32_t n, uint32_t k) {
    if (k == 0 || k >= n) return n;
    qsort(list, n, sizeof *list, by_logit);
    return k;
}

static uint32_t keep_top_p(struct ds_candidate *list, uint32_t n, float p) {
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

static uint32_t keep_min_p(struct ds_candidate *list, uint32_t n, float p) {
    if (!(p > 0)) return n;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (list[i].w >= fixed_point(p)) list[kept++] = list[i];
    return kept;
}

const struct ds_candidate *ds_ref_largest(const struct ds_candidate *list, uint32_t n) {
    const struct ds_candidate *best = list;
    for (uint32_t i = 1; i < n; i++)
        if (ds_better(list[i].x, list[i].id, best->x, best->id)) best = &list[i];
    return best;
}

uint32_t ds_ref_candidates(const float *logits, uint32_t n, const float *bias, struct ds_candidate *list, uint32_t *flags) {
    uint32_t candidates = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!ds_is_finite(logits[i])) {
            *flags |= DS_FLAG_LOGIT;
            return 0;
        }
        if (bias && ds_bits(bias[i]) == (DS_NUM_INF | DS_NUM_SIGN)) continue;
        list[candidates++] = (struct ds_candidate){.id = i, .x = bias ? logits[i] + bias[i] : logits[i]};
    }
    if (candidates == 0) *flags |= DS_FLAG_MASKED;
    return candidates;
}

uint32_t ds_ref_filter(struct ds_candidate *list, uint32_t n, const struct ds_sample_row *how) {
    const float top = ds_ref_largest(list, n)->x;
    for (uint32_t i = 0; i < n; i++) {
        list[i].t = (list[i].x - top) * how->inverse_temperature;
        list[i].w = ds_mass(list[i].t);
    }
    n = keep_top_k(list, n, how->top_k);
    n = keep_top_p(list, n, how->top_p);
    return keep_min_p(list, n, how->min_p);
}
