/* Chances for simulators, the same on every machine. */
#ifndef DSPARK_TESTS_CHANCE_H
#define DSPARK_TESTS_CHANCE_H

#include <stdint.h>

/* SplitMix64's finaliser: of neighbouring numbers, results that say nothing of each other. */
static inline uint64_t mixed(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

struct chance {
    uint64_t state;
};

/* In [0, 1). */
static inline double draw(struct chance *c) {
    c->state = c->state * 6364136223846793005u + 1442695040888963407u;
    return (double)(c->state >> 11) * 0x1p-53;
}

/* Nearly normal, of variance 1. */
static inline double bell(struct chance *c) {
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += draw(c);
    return sum;
}

#endif
