/*
 * exp, log, pow, sin and cos in binary64, for constants that are made once on the host (ops/rope_table.c): libm's results
 * differ from version to version and from CPU to CPU, and a table must not. Only + - * / and integer operations, no
 * contraction; relative errors are below 4e-16 (pow: 3e-15), so that a result rounded to f32 is the correctly rounded one
 * except about once in 10^7. Not for devices, not for the token loop. Pure and thread-safe.
 */
#ifndef DSPARK_OPS_NUMERICS64_H
#define DSPARK_OPS_NUMERICS64_H

#include <stdint.h>
#include <string.h>

#define DS64_PI 0x1.921fb54442d18p+1
#define DS64_LN2_HI 0x1.62e42fefa3800p-1 /* 42 bits: times an exponent it is exact */
#define DS64_LN2_LO 0x1.ef35793c76730p-45
#define DS64_ROUND 6755399441055744.0 /* 1.5 * 2^52: adding it rounds |x| < 2^51 to an integer, kept in the low bits */

static inline uint64_t ds64_bits(double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
static inline double ds64_float(uint64_t u) {
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* For -700 <= x <= 700; x is clamped to that. exp(r) by its Taylor series to r^13 over |r| <= ln(2)/2. */
static inline double ds64_exp(double x) {
    x = x > 700.0 ? 700.0 : x;
    x = x > -700.0 ? x : -700.0;
    const double t = x * 0x1.71547652b82fep+0 + DS64_ROUND;
    const double n = t - DS64_ROUND;
    const double r = (x - n * DS64_LN2_HI) - n * DS64_LN2_LO;
    double p = 1.0;
    for (int k = 13; k > 0; k--) p = 1.0 + p * (r / k);
    return p * ds64_float((ds64_bits(t) - ds64_bits(DS64_ROUND) + 1023) << 52);
}

/* For normal x > 0. log(m) = 2 atanh(s), s = (m - 1) / (m + 1), m in [sqrt(1/2), sqrt(2)), to s^23. */
static inline double ds64_log(double x) {
    const uint64_t below_one = 0x3fe6a09e667f3bcdu; /* sqrt(1/2) */
    const uint64_t u = ds64_bits(x) + (0x3ff0000000000000u - below_one);
    const double e = (double)((int)(u >> 52) - 1023);
    const double m = ds64_float((u & 0x000fffffffffffffu) + below_one);
    const double s = (m - 1.0) / (m + 1.0);
    const double z = s * s;
    double p = 1.0 / 23;
    for (int k = 21; k > 1; k -= 2) p = 1.0 / k + z * p;
    return e * DS64_LN2_HI + (2 * s + (2 * s * z * p + e * DS64_LN2_LO));
}

/* a^b for normal a > 0. */
static inline double ds64_pow(double a, double b) { return ds64_exp(b * ds64_log(a)); }

/*
 * sin and cos for |x| < 2^23: pi/2 in three parts, the first two short enough that their product with the quadrant's number
 * is exact (Cody, Waite); Taylor series to r^17 and r^18 over |r| <= pi/4. Beyond 2^23 the results lose digits, no more.
 */
static inline void ds64_sincos(double x, double *sin_x, double *cos_x) {
    const double t = x * 0x1.45f306dc9c883p-1 + DS64_ROUND; /* 2/pi */
    const double n = t - DS64_ROUND;
    const double r = ((x - n * 0x1.921fb54000000p+0) - n * 0x1.10b4611800000p-30) - n * 0x1.313198a2e0370p-61;
    const double z = r * r;
    double s = 1.0, c = 1.0 - z / (17 * 18);
    for (int k = 16; k > 1; k -= 2) {
        s = 1.0 - s * (z / (k * (k + 1)));
        c = 1.0 - c * (z / ((k - 1) * k));
    }
    s *= r;
    const unsigned quadrant = (unsigned)ds64_bits(t) & 3;
    const double swapped_s = quadrant & 1 ? c : s, swapped_c = quadrant & 1 ? s : c;
    *sin_x = quadrant & 2 ? -swapped_s : swapped_s;
    *cos_x = quadrant == 1 || quadrant == 2 ? -swapped_c : swapped_c;
}

#endif
