/* Floats to try functions with. */
#ifndef DSPARK_TESTS_NUMBER_SAMPLES_H
#define DSPARK_TESTS_NUMBER_SAMPLES_H

#include "chance.h"
#include "ops/numerics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Where things change: zeros, denormals, powers of two and their neighbours, halves, limits, infinities, NaNs. */
static const uint32_t edges[] = {
    0x00000000, 0x00000001, 0x00000002, 0x00000003, 0x00400000, 0x007ffffe, 0x007fffff, 0x00800000, 0x00800001, 0x00ffffff,
    0x01000000, 0x01000001, 0x0c7fffff, 0x0d800000, 0x20000000, 0x21800000, 0x21ffffff, 0x33000000, 0x337fffff, 0x33800000,
    0x33800001, 0x34000000, 0x38000000, 0x387fffff, 0x38800000, 0x38802000, 0x3effffff, 0x3f000000, 0x3f000001, 0x3f3504f3,
    0x3f3504f4, 0x3f7fffff, 0x3f800000, 0x3f800001, 0x3fc00000, 0x3fffffff, 0x40000000, 0x40400000, 0x40490fdb, 0x41a00000,
    0x42aeac50, 0x42b17217, 0x42b17218, 0x42cff1b5, 0x42fe0000, 0x477fdfff, 0x477fe000, 0x477fe001, 0x477ff000, 0x477fffff,
    0x47800000, 0x4affffff, 0x4b000000, 0x4b000001, 0x4b7fffff, 0x4b800000, 0x4effffff, 0x4f000000, 0x4f800000, 0x5d7fffff,
    0x5d800000, 0x5d800001, 0x7e7fffff, 0x7e800000, 0x7effffff, 0x7f000000, 0x7f7effff, 0x7f7f0000, 0x7f7f7fff, 0x7f7f8000,
    0x7f7fffff, 0x7f800000, 0x7f800001, 0x7fbfffff, 0x7fc00000, 0x7fffffff,
};
enum { EDGES = 2 * COUNT(edges) };
static inline float edge(size_t i) { return ds_float(edges[i / 2] | (i & 1 ? 0x80000000u : 0)); }

static inline uint64_t next_random(uint64_t *state) {
    return mixed(*state += 0x9e3779b97f4a7c15u); /* splitmix64 */
}

static inline bool same_bits(float a, float b) { return ds_bits(a) == ds_bits(b) || (isnan(a) && isnan(b)); }
static inline bool is_the_nan(float x) { return ds_bits(x) == 0x7fc00000; }

#endif
