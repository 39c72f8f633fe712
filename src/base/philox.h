/*
 * Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", 2011): random words as a pure
 * function of a key and a counter, so that any thread of any device finds the same word without shared state.
 * C11, CUDA and HIP.
 */
#ifndef DSPARK_BASE_PHILOX_H
#define DSPARK_BASE_PHILOX_H

#include <stdint.h>

#if defined(__CUDACC__) || defined(__HIPCC__)
#define DS_PHILOX_FN static __host__ __device__ __forceinline__
#else
#define DS_PHILOX_FN static inline
#endif

/* What a word is for: the third word of the counter. */
enum ds_philox_purpose {
    DS_PHILOX_TARGET = 0,     /* the target's noise, and the drafter's when coupled */
    DS_PHILOX_DRAFT = 1,      /* rejection sampling's draft */
    DS_PHILOX_ACCEPTANCE = 2, /* rejection sampling's coins */
    DS_PHILOX_RESIDUAL = 3,   /* the draw after a rejection */
};

/* The four words of block `counter` under `key`, whose low half is the cipher's first key word. May work in place. */
DS_PHILOX_FN void ds_philox(uint64_t key, const uint32_t counter[4], uint32_t out[4]) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xd2511f53u * c0, p1 = (uint64_t)0xcd9e8d57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9e3779b9u; /* Weyl sequences: the golden ratio, sqrt(3) - 1 */
        k1 += 0xbb67ae85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/*
 * The word of token `id` at `position`: block (id >> 2, position, purpose, stream), word id & 3. `stream` numbers the
 * choices of one request. Code that wants all words of a row calls ds_philox once for four ids.
 */
DS_PHILOX_FN uint32_t ds_philox_word(uint64_t seed, uint32_t id, uint32_t position, uint32_t purpose, uint32_t stream) {
    const uint32_t counter[4] = {id >> 2, position, purpose, stream};
    uint32_t out[4];
    ds_philox(seed, counter, out);
    return out[id & 3];
}

#endif
