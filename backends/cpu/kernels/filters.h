/*
 * A row's logits, its masses and what the filters keep of them, for the kernels that draw tokens (ref/sample.c says what they mean).
 */
#ifndef DSPARK_CPU_FILTERS_H
#define DSPARK_CPU_FILTERS_H

#include "kernels/select.h"
#include "kernels/vec.h"

/* One row's inputs. */
struct row {
    const float *logits, *bias; /* bias NULL: none */
    uint32_t n;
};

/* x = logit + bias of `n` tokens from `first` on; a forbidden token becomes a NaN, which no comparison chooses. */
static inline void biased_logits(const struct row *row, uint32_t first, uint32_t n, float *x) {
    if (!row->bias) {
        memcpy(x, row->logits + first, n * sizeof(float));
        return;
    }
    const float *logits = row->logits + first, *bias = row->bias + first;
    for (uint32_t i = 0; i < n; i++)
        x[i] = ds_pick(ds_bits(bias[i]) == (DS_NUM_INF | DS_NUM_SIGN), ds_float(DS_NUM_NAN), logits[i] + bias[i]);
}

static inline bool all_finite(const float *x, uint32_t n) {
    int32_t largest = 0;
    for (uint32_t i = 0; i < n; i++) {
        const int32_t magnitude = ds_abs_bits(x[i]);
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest < (int32_t)DS_NUM_INF;
}

/* A fraction of at most 1 in units of 2^-32, and the rounded product with a total. */
static inline uint64_t fixed_point(float fraction) { return (uint64_t)ds_nearest(ds_min(fraction, 1.0f) * 4294967296.0f); }
static inline uint64_t share_of(uint64_t a, uint64_t fraction) {
    return (a >> 32) * fraction + (((a & UINT32_MAX) * fraction + (UINT64_C(1) << 31)) >> 32);
}

/* Numbers in the order of floats, of which a NaN is the least: 0. */
static inline uint32_t ordered_key(float x) {
    const uint32_t bits = ds_bits(x + 0.0f); /* one zero */
    const uint32_t ordered = bits ^ (DS_NUM_SIGN | (0u - (bits >> 31)));
    return ds_is_nan(x) ? 0 : ordered;
}

/* Forbids all but the k largest of x; `keys` is scratch. */
static inline void keep_top_k(float *x, uint32_t n, uint32_t k, uint32_t *keys) {
    uint64_t candidates = 0;
    for (uint32_t i = 0; i < n; i++) {
        keys[i] = ordered_key(x[i]);
        candidates += keys[i] != 0;
    }
    if (k == 0 || k >= candidates) return;
    const struct ds_selection last = ds_select(keys, n, k, false);
    for (uint32_t i = 0; i < n; i++)
        if (!ds_selected(&last, keys[i], i)) x[i] = ds_float(DS_NUM_NAN);
}

/* t from x, and the masses as floats (integers below 2^33, so exact; forbidden tokens weigh 0). */
static inline void masses(float *x, uint32_t n, float largest, float inverse_temperature, float *mass) {
    for (uint32_t i = 0; i < n; i++) x[i] = (x[i] - largest) * inverse_temperature;
    for (uint32_t i = 0; i < n; i++) mass[i] = ds_mass_float(x[i]);
}

static inline struct ds_selection keep_top_p(const float *mass, uint32_t n, float p) {
    if (!(p > 0 && p < 1)) return (struct ds_selection){.key = 0, .last_id = UINT32_MAX};
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++) total += (uint64_t)mass[i];
    const uint64_t wanted = share_of(total, fixed_point(p));
    return ds_select((const uint32_t *)(const void *)mass, n, DS_MAX(wanted, 1), true);
}

#endif
