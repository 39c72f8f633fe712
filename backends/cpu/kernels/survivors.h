/*
 * The tokens of a row that its filters may leave, without the others: what selects them looks at hundreds of tokens then, and not at the
 * whole vocabulary three times. A token is dropped only where no filter could keep it, whatever the others are like, and those left stay
 * in the order of ids, so the choice is the one that the whole row would give.
 */
#ifndef DSPARK_CPU_SURVIVORS_H
#define DSPARK_CPU_SURVIVORS_H

#include "kernels/filters.h"

struct survivors {
    float *x;    /* logits, then distances from the largest, (x - largest) / T */
    float *mass;
    uint32_t *ids, n;
    bool whole; /* nothing is dropped yet: token i is at i, and `ids` says nothing */
};

enum { GROUP = 64 };

/* The largest of each 64 of `x`; returns how many there are. */
static inline uint32_t group_tops(const float *x, uint32_t n, float *tops) {
    uint32_t groups = 0;
    for (uint32_t at = 0; at < n; at += GROUP) tops[groups++] = ds_largest(x + at, DS_MIN(n - at, (uint32_t)GROUP));
    return groups;
}

/* Those of a whole row whose x is at least `bound`: no NaN. */
static inline void keep_from_row(struct survivors *s, const float *tops, float bound) {
    uint32_t kept = 0;
    for (uint32_t at = 0; at < s->n; at += GROUP) {
        if (!(tops[at / GROUP] >= bound)) continue;
        const uint32_t end = DS_MIN(s->n, at + GROUP);
        for (uint32_t i = at; i < end; i++) {
            if (!(s->x[i] >= bound)) continue;
            s->x[kept] = s->x[i];
            s->ids[kept++] = i;
        }
    }
    s->n = kept;
    s->whole = false;
}

/* The k largest of a row. In each of the k groups with the largest tops one token at least is as large as the last of those tops. */
static inline void survive_top_k(struct survivors *s, uint32_t k) {
    float *tops = s->mass;
    uint32_t *keys = s->ids; /* of groups; none survives yet */
    const uint32_t groups = group_tops(s->x, s->n, tops);
    float bound = ds_float(DS_NUM_INF | DS_NUM_SIGN);
    if (k < groups) {
        for (uint32_t g = 0; g < groups; g++) keys[g] = ordered_key(tops[g]);
        const struct ds_selection last = ds_select(keys, groups, k, false);
        for (uint32_t g = 0; g < groups; g++)
            if (keys[g] == last.key) bound = tops[g];
    }
    keep_from_row(s, tops, bound);
    if (k >= s->n) return;
    ds_key *exact = (ds_key *)(void *)s->mass;
    for (uint32_t i = 0; i < s->n; i++) exact[i] = ordered_key(s->x[i]);
    const struct ds_selection last = ds_select(exact, s->n, k, false);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (!ds_selected(&last, exact[i], i)) continue;
        s->x[kept] = s->x[i];
        s->ids[kept++] = s->ids[i];
    }
    s->n = kept;
}

static inline void move_survivor(struct survivors *s, uint32_t to, uint32_t from) {
    s->x[to] = s->x[from];
    s->mass[to] = s->mass[from];
    s->ids[to] = s->whole ? from : s->ids[from];
}

/* Those with a mass of at least `least`. */
static inline void keep_masses(struct survivors *s, float least) {
    uint32_t kept = 0;
    for (uint32_t at = 0; at < s->n; at += GROUP) {
        const uint32_t end = DS_MIN(s->n, at + GROUP);
        if (!(ds_largest(s->mass + at, end - at) >= least)) continue;
        for (uint32_t i = at; i < end; i++)
            if (s->mass[i] >= least) move_survivor(s, kept++, i);
    }
    s->n = kept;
    s->whole = false;
}

/* Exact: a block's sum stays below 2^53. */
static inline uint64_t mass_total(const float *mass, uint32_t n) {
    enum { AT_ONCE = 1 << 14, LANES = 8 };
    uint64_t total = 0;
    for (uint32_t end; n > 0; mass += end, n -= end) {
        double lane[LANES] = {0};
        uint32_t i = 0;
        end = DS_MIN(n, (uint32_t)AT_ONCE);
        for (; i + LANES <= end; i += LANES)
            for (uint32_t j = 0; j < LANES; j++) lane[j] += (double)mass[i + j];
        for (; i < end; i++) lane[0] += (double)mass[i];
        for (uint32_t j = 0; j < LANES; j++) total += (uint64_t)lane[j];
    }
    return total;
}

/*
 * The smallest set by (mass descending, id ascending) that reaches `wanted`. All tokens below an n-th of what may be left out weigh
 * less than that together, so none of them is in it.
 */
static inline void survive_top_p(struct survivors *s, float p) {
    const uint64_t total = mass_total(s->mass, s->n), wanted = DS_MAX(share_of(total, fixed_point(p)), 1);
    if (total == 0) return; /* logits that a bias has lifted beyond all floats */
    const uint64_t spare = (total - wanted) / s->n;
    keep_masses(s, spare > 0 ? (float)spare * 0.999f : 1.0f); /* rounded downwards */
    const ds_key *keys = (const ds_key *)(const void *)s->mass;
    const struct ds_selection last = ds_select(keys, s->n, wanted, true);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (ds_selected(&last, keys[i], i)) move_survivor(s, kept++, i);
    }
    s->n = kept;
}

#endif
