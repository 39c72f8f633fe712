/* What kernels/chain.h wants to know of a row's run of activations beside the activations themselves. */
#ifndef DSPARK_CPU_CHAIN_PREPARE_H
#define DSPARK_CPU_CHAIN_PREPARE_H

#include "kernels/chain.h"

#if DS_CHAINS
/* Of each chain of `length` vectors: -offset times its x, as the int16 pairs that the products are summed in. */
static void chain_prepare_starts(const int8_t *q, int length, int offset, int16_t *out) {
    for (int c = 0; c < DS_TILE_GROUPS / length; c++, q += 4 * length) {
        int even = 0, odd = 0;
        for (int v = 0; v < length; v++) {
            even += q[4 * v] + q[4 * v + 1];
            odd += q[4 * v + 2] + q[4 * v + 3];
        }
        out[2 * c] = (int16_t)(-offset * even);
        out[2 * c + 1] = (int16_t)(-offset * odd);
    }
}

/* int16 pairs (x0, x2), (x1, x3) of each four, then -128 times the sum of each 32. */
static void chain_prepare_wide(const int8_t *q, const int16_t *sums, int16_t *out) {
    for (int v = 0; v < DS_TILE_GROUPS; v++)
        for (int j = 0; j < 4; j++) out[4 * v + j] = q[4 * v + (j % 2 * 2 + j / 2)];
    int32_t *start = (int32_t *)(void *)(out + DS_RUN);
    for (int b = 0; b < 8; b++) start[b] = -128 * (sums[2 * b] + sums[2 * b + 1]);
}

#else
/* Of each group: -offset times the sum of its x, as int32. */
static void chain_prepare_dots(const int16_t *sums, int groups, int offset, int32_t *out) {
    for (int g = 0; g < (groups == 16 ? 16 : 8); g++) out[g] = -offset * (groups == 16 ? sums[g] : sums[2 * g] + sums[2 * g + 1]);
}
#endif

/* Sums of x for the minimums: of each group of 16, of each 32, or as floats where the minimums are. */
static void chain_prepare_sums(const int16_t *sums, int groups, void *out) {
    int16_t *words = out;
    float *floats = out;
    for (int g = 0; g < 16 && groups == 16; g++) words[g] = sums[g];
    for (int g = 0; g < 8 && groups == 8; g++) words[g] = (int16_t)(sums[2 * g] + sums[2 * g + 1]);
    for (int g = 0; g < 8 && groups == 0; g++) floats[g] = (float)(sums[2 * g] + sums[2 * g + 1]);
}

#endif
