/*
 * A row of logits as the threads of a block see it, and what its filters keep: for the kernels that draw tokens (cpu/ref/sample.c says
 * what it means).
 */
#ifndef DSPARK_GPU_FILTERS_H
#define DSPARK_GPU_FILTERS_H

#include "common.h"

namespace {

enum { THREADS = 512, TEAMS = THREADS / GPU_TEAM, DIGITS = 256 };

/* The last element taken in the order (key descending, id ascending). */
struct selection {
    uint32_t key, last_id;
    GPU_FN_MEMBER bool takes(uint32_t k, uint32_t id) const { return k > key || (k == key && id <= last_id); }
};

/* One row, as all threads of its block see it. */
struct row {
    const float *logits, *bias;
    struct ds_sample_row how;
    uint32_t n;
    float top; /* the largest biased logit */
    struct selection by_logit, by_mass;
    uint32_t least_mass; /* bits of a float */
};

struct shared {
    uint64_t weight[DIGITS];
    float best[TEAMS];
    uint32_t best_id[TEAMS];
    uint32_t raised, digit;
    uint64_t wanted;
};

GPU_FN bool forbidden(const struct row &row, uint32_t i) { return row.bias && ds_bits(row.bias[i]) == (DS_NUM_INF | DS_NUM_SIGN); }
GPU_FN float biased(const struct row &row, uint32_t i) { return row.bias ? row.logits[i] + row.bias[i] : row.logits[i]; }

/* --- the largest of all threads' (value, id) --- */

struct champion {
    float value;
    uint32_t id; /* UINT32_MAX: none */
};
GPU_FN void challenge(struct champion *champion, float value, uint32_t id) {
    if (id == UINT32_MAX || (champion->id != UINT32_MAX && !ds_better(value, id, champion->value, champion->id))) return;
    champion->value = value;
    champion->id = id;
}
/* The same for all threads of the block. */
GPU_FN struct champion best_of_block(struct champion mine, struct shared &s) {
    for (uint32_t mask = GPU_TEAM / 2; mask > 0; mask /= 2) {
        const float value = gpu_shuffle_xor_f(mine.value, mask);
        const uint32_t id = gpu_shuffle_xor(mine.id, mask);
        challenge(&mine, value, id);
    }
    if (gpu_lane() == 0) {
        s.best[gpu_team()] = mine.value;
        s.best_id[gpu_team()] = mine.id;
    }
    gpu_barrier();
    for (uint32_t i = 0; i < TEAMS; i++) challenge(&mine, s.best[i], s.best_id[i]);
    gpu_barrier();
    return mine;
}

/* --- selection --- */

/* Logits as unsigned keys of the same order, the two zeros being one; 0 is no logit's key. */
GPU_FN uint32_t logit_key(const struct row &row, uint32_t i) {
    return ds_order_key(biased(row, i));
}
GPU_FN float heat(const struct row &row, uint32_t i) {
    const float below = biased(row, i) - row.top;
    return below * row.how.inverse_temperature;
}
/* A mass as a float that holds an integer: the bits of floats above 0 have their order. */
GPU_FN uint32_t mass_key(const struct row &row, uint32_t i) { return ds_bits(ds_mass_float(heat(row, i))); }

enum which { BY_LOGIT, BY_MASS };

/* Whether token i still stands before filter WHICH, and its key there. */
template <which WHICH> GPU_FN bool stands(const struct row &row, uint32_t i, uint32_t *key) {
    if (forbidden(row, i)) return false;
    if (WHICH == BY_LOGIT) {
        *key = logit_key(row, i);
        return true;
    }
    if (row.how.top_k && !row.by_logit.takes(logit_key(row, i), i)) return false;
    *key = mass_key(row, i);
    return *key != 0;
}
template <which WHICH> GPU_FN uint64_t weight_of(uint32_t key) { return WHICH == BY_MASS ? static_cast<uint64_t>(ds_float(key)) : 1; }

/* With s.weight filled: the digit, from the top, at which s.wanted is reached; s.wanted becomes what is left to take there. */
GPU_FN uint32_t choose_digit(struct shared &s) {
    gpu_barrier();
    if (gpu_thread() == 0) {
        uint32_t digit = DIGITS - 1;
        for (; digit > 0 && s.weight[digit] < s.wanted; digit--) s.wanted -= s.weight[digit];
        s.digit = digit;
    }
    gpu_barrier();
    return s.digit;
}

GPU_FN void clear_weights(struct shared &s) {
    gpu_barrier();
    for (uint32_t d = gpu_thread(); d < DIGITS; d += THREADS) s.weight[d] = 0;
    gpu_barrier();
}

/* The shortest beginning, in the order (key descending, id ascending), whose weights reach `wanted` (at least 1). */
template <which WHICH> GPU_FN struct selection select(const struct row &row, uint64_t wanted, struct shared &s) {
    gpu_barrier();
    if (gpu_thread() == 0) s.wanted = wanted;
    uint32_t prefix = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        clear_weights(s);
        for (uint32_t i = gpu_thread(); i < row.n; i += THREADS) {
            uint32_t key;
            if (!stands<WHICH>(row, i, &key) || (shift < 24 && key >> (shift + 8) != prefix >> (shift + 8))) continue;
            gpu_atomic_add(&s.weight[key >> shift & (DIGITS - 1)], weight_of<WHICH>(key));
        }
        prefix |= choose_digit(s) << shift;
    }
    /* All that is left to take has this key: so many of its tokens, the lowest ids first. */
    gpu_barrier();
    if (gpu_thread() == 0) {
        const uint64_t each = weight_of<WHICH>(prefix);
        s.wanted = each ? (s.wanted + each - 1) / each : 1;
    }
    uint32_t inverse = 0; /* of the id: its digits are chosen from the top as well */
    for (int shift = 24; shift >= 0; shift -= 8) {
        clear_weights(s);
        for (uint32_t i = gpu_thread(); i < row.n; i += THREADS) {
            uint32_t key;
            if (!stands<WHICH>(row, i, &key) || key != prefix || (shift < 24 && ~i >> (shift + 8) != inverse >> (shift + 8))) continue;
            gpu_atomic_add(&s.weight[~i >> shift & (DIGITS - 1)], 1);
        }
        inverse |= choose_digit(s) << shift;
    }
    return {prefix, ~inverse};
}

/* --- filters --- */

/* A fraction of at most 1 in units of 2^-32, and the rounded product with a total. */
GPU_FN uint64_t fixed_point(float fraction) { return static_cast<uint64_t>(ds_nearest(ds_min(fraction, 1.0f) * 4294967296.0f)); }
GPU_FN uint64_t share(uint64_t a, uint64_t fraction) {
    return (a >> 32) * fraction + (((a & 0xffffffffu) * fraction + 0x80000000u) >> 32);
}

GPU_FN uint64_t sum_of_block(uint64_t mine, struct shared &s) {
    clear_weights(s);
    gpu_atomic_add(&s.weight[0], mine);
    gpu_barrier();
    return s.weight[0];
}

GPU_FN uint64_t candidates_of(const struct row &row, struct shared &s) {
    uint64_t mine = 0;
    for (uint32_t i = gpu_thread(); i < row.n; i += THREADS) mine += !forbidden(row, i);
    return sum_of_block(mine, s);
}

GPU_FN uint64_t mass_of(const struct row &row, struct shared &s) {
    uint64_t mine = 0;
    for (uint32_t i = gpu_thread(); i < row.n; i += THREADS) {
        uint32_t key;
        if (stands<BY_MASS>(row, i, &key)) mine += weight_of<BY_MASS>(key);
    }
    return sum_of_block(mine, s);
}

GPU_FN void filter(struct row *row, struct shared &s) {
    const struct ds_sample_row &how = row->how;
    row->by_logit = {0, 0xffffffffu};
    row->by_mass = {0, 0xffffffffu};
    if (how.top_k && how.top_k < candidates_of(*row, s)) row->by_logit = select<BY_LOGIT>(*row, how.top_k, s);
    if (how.top_p > 0 && how.top_p < 1) {
        const uint64_t wanted = share(mass_of(*row, s), fixed_point(how.top_p));
        row->by_mass = select<BY_MASS>(*row, wanted ? wanted : 1, s);
    }
    row->least_mass = how.min_p > 0 ? ds_bits(static_cast<float>(fixed_point(how.min_p))) : 0;
}

GPU_FN bool kept(const struct row &row, uint32_t i) {
    if (forbidden(row, i) || (row.how.top_k && !row.by_logit.takes(logit_key(row, i), i))) return false;
    const uint32_t key = mass_key(row, i);
    return key >= row.least_mass && row.by_mass.takes(key, i);
}

} // namespace

#endif
