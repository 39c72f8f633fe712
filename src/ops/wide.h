/*
 * Integers of 128 bits, for comparing products of masses exactly: C, CUDA and HIP alike, of halves of 64 bits, products of halves of
 * 32 bits.
 */
#ifndef DSPARK_OPS_WIDE_H
#define DSPARK_OPS_WIDE_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__CUDACC__) || defined(__HIPCC__)
#define DS_WIDE_FN static __host__ __device__ __forceinline__
#else
#define DS_WIDE_FN static inline
#endif

struct ds_wide {
    uint64_t high, low;
};

DS_WIDE_FN struct ds_wide ds_wide_mul(uint64_t a, uint64_t b) {
    const uint64_t mask = 0xffffffffu, low = (a & mask) * (b & mask), cross = (a >> 32) * (b & mask) + (low >> 32);
    const uint64_t other = (a & mask) * (b >> 32) + (cross & mask);
    struct ds_wide product;
    product.high = (a >> 32) * (b >> 32) + (cross >> 32) + (other >> 32);
    product.low = other << 32 | (low & mask);
    return product;
}

/* Modulo 2^128, as all of these. */
DS_WIDE_FN struct ds_wide ds_wide_add(struct ds_wide a, struct ds_wide b) {
    struct ds_wide sum;
    sum.low = a.low + b.low;
    sum.high = a.high + b.high + (sum.low < a.low);
    return sum;
}

DS_WIDE_FN struct ds_wide ds_wide_sub(struct ds_wide a, struct ds_wide b) {
    struct ds_wide difference;
    difference.low = a.low - b.low;
    difference.high = a.high - b.high - (a.low < b.low);
    return difference;
}

DS_WIDE_FN bool ds_wide_less(struct ds_wide a, struct ds_wide b) { return a.high < b.high || (a.high == b.high && a.low < b.low); }

/* floor(fraction * a / 2^64): below a, unless that is 0. */
DS_WIDE_FN struct ds_wide ds_wide_share(uint64_t fraction, struct ds_wide a) {
    struct ds_wide carried;
    carried.high = 0;
    carried.low = ds_wide_mul(fraction, a.low).high;
    return ds_wide_add(ds_wide_mul(fraction, a.high), carried);
}

/* max(0, p_t - p_d) of a token, in units of 1 / (total_t total_d): w_t total_d - w_d total_t, or 0 (backends/cpu/ref/reject.c). */
DS_WIDE_FN struct ds_wide ds_residual(uint64_t target, uint64_t target_total, uint64_t draft, uint64_t draft_total) {
    const struct ds_wide t = ds_wide_mul(target, draft_total), d = ds_wide_mul(draft, target_total);
    struct ds_wide none;
    none.high = none.low = 0;
    return ds_wide_less(d, t) ? ds_wide_sub(t, d) : none;
}

/* Whether a draft is accepted whose random word is `word`: coin < (w_t / total_t) / (w_d / total_d), coin = ds_coin(word). */
DS_WIDE_FN bool ds_accepts(uint32_t word, uint64_t target, uint64_t target_total, uint64_t draft, uint64_t draft_total) {
    const uint64_t coin = 2 * (uint64_t)(word >> 9) + 1; /* in units of 2^-24 */
    return ds_wide_less(ds_wide_mul(coin * draft, target_total), ds_wide_mul(target << 24, draft_total));
}

#endif
