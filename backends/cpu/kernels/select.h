/*
 * The first elements in the order (key descending, index ascending), without sorting: three histograms over digits of the key,
 * from the top. Keys are uint32; key 0 is never selected.
 */
#ifndef DSPARK_CPU_SELECT_H
#define DSPARK_CPU_SELECT_H

#include "kernels/vec.h"

/* Keys may be the bits of floats, in place. */
typedef uint32_t __attribute__((may_alias)) ds_key;

struct ds_selection {
    uint32_t key;     /* of the last element taken */
    uint32_t last_id; /* its index: elements of the same key beyond it are not taken */
};

static inline bool ds_selected(const struct ds_selection *last, uint32_t key, uint32_t id) {
    return key > last->key || (key == last->key && id <= last->last_id);
}

/*
 * The shortest beginning whose weights reach `wanted` (at least 1). An element weighs 1, or, `by_mass`, the number that its key is
 * the bits of: a float that holds an integer. The weights of all together reach `wanted`.
 */
static struct ds_selection ds_select(const ds_key *keys, uint32_t n, uint64_t wanted, bool by_mass) {
    enum { DIGIT_BITS = 11, BUCKETS = 1 << DIGIT_BITS };
    uint32_t prefix = 0; /* the digits chosen so far */
    for (int shift = 32 - DIGIT_BITS;; shift = shift > DIGIT_BITS ? shift - DIGIT_BITS : 0) {
        const int above = shift + DIGIT_BITS; /* bits from here up must equal the prefix; 32: none chosen yet */
        uint64_t weight[BUCKETS] = {0};
        for (uint32_t i = 0; i < n; i++) {
            if (keys[i] == 0 || (above < 32 && keys[i] >> above != prefix >> above)) continue;
            weight[keys[i] >> shift & (BUCKETS - 1)] += by_mass ? (uint64_t)ds_float(keys[i]) : 1;
        }
        uint32_t digit = BUCKETS - 1;
        for (; digit > 0 && weight[digit] < wanted; digit--) wanted -= weight[digit];
        prefix = (above < 32 ? prefix >> above << above : 0) | digit << shift;
        if (shift == 0) break;
    }
    /* All that is left to take has this key. */
    const uint64_t each = by_mass ? (uint64_t)ds_float(prefix) : 1;
    uint64_t ties = (wanted + each - 1) / each;
    for (uint32_t i = 0; i < n; i++)
        if (keys[i] == prefix && --ties == 0) return (struct ds_selection){.key = prefix, .last_id = i};
    return (struct ds_selection){.key = prefix, .last_id = UINT32_MAX};
}

#endif
