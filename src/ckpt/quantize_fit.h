/*
 * The inner loops of the searches for scales: a group of 16 or 32 floats x against integers q = clamp(round(x * inverse +
 * shift)). Four lanes with a fixed tree over them, so that every machine finds the same scales.
 *
 * Inputs must be finite. Sums may overflow for absurd weights; a search then keeps what it started with.
 */
#ifndef DSPARK_CKPT_QUANTIZE_FIT_H
#define DSPARK_CKPT_QUANTIZE_FIT_H

#include "base/status.h"
#include "ops/numerics.h"

typedef float ds_lanes __attribute__((vector_size(16)));
enum { DS_LANES = 4 };
#define DS_FIT_UNROLL _Pragma("GCC unroll 8")

static inline ds_lanes ds_lanes_all(float x) { return x - (ds_lanes){0}; }

static inline float ds_lanes_sum(ds_lanes x) {
    return (x[0] + x[2]) + (x[1] + x[3]);
}

/* condition ? a : b in each lane; a comparison gives all ones or zeros. */
#define DS_LANES_PICK(condition, a, b) ((ds_lanes)(((condition) & (ds_lanes_int)(a)) | (~(condition) & (ds_lanes_int)(b))))
typedef int32_t ds_lanes_int __attribute__((vector_size(16)));

/* Clamped first, so that rounding by DS_NUM_ROUND never sees a large number. */
static inline ds_lanes ds_lanes_level(ds_lanes t, ds_lanes low, ds_lanes high) {
    t = DS_LANES_PICK(t < low, low, t);
    t = DS_LANES_PICK(t > high, high, t);
    return (t + DS_NUM_ROUND) - DS_NUM_ROUND;
}

/* What q may be. */
struct ds_levels {
    float low, high;
};

/* How q is found from x. */
struct ds_rounding {
    float inverse, shift;
};

/* The rounding to the nearest of scale * q - offset. A scale too small to divide by gives q = 0 (or the level nearest to it). */
static inline struct ds_rounding ds_rounding_of(float scale, float offset) {
    const bool usable = ds_abs(scale) > 1e-30f;
    const float inverse = usable ? 1.0f / scale : 0.0f;
    return (struct ds_rounding){inverse, offset * inverse};
}

struct ds_fit {
    double q, qq, qx; /* sums of q, q * q, q * x */
};

static inline __attribute__((always_inline)) struct ds_fit ds_fit_sums(const float *x, int n, struct ds_rounding r, struct ds_levels levels) {
    const ds_lanes inverse = ds_lanes_all(r.inverse), shift = ds_lanes_all(r.shift);
    const ds_lanes low = ds_lanes_all(levels.low), high = ds_lanes_all(levels.high);
    ds_lanes sum = {0}, square = {0}, product = {0};
    DS_FIT_UNROLL for (int i = 0; i < n; i += DS_LANES) {
        ds_lanes v;
        memcpy(&v, x + i, sizeof v);
        const ds_lanes q = ds_lanes_level(v * inverse + shift, low, high);
        sum += q;
        square += q * q;
        product += q * v;
    }
    return (struct ds_fit){(double)ds_lanes_sum(sum), (double)ds_lanes_sum(square), (double)ds_lanes_sum(product)};
}

/* The squared error of x against scale * q - offset with the nearest q. */
static inline float ds_fit_error(const float *x, int n, float scale, float offset, struct ds_levels levels) {
    const struct ds_rounding r = ds_rounding_of(scale, offset);
    const ds_lanes inverse = ds_lanes_all(r.inverse), shift = ds_lanes_all(r.shift);
    const ds_lanes low = ds_lanes_all(levels.low), high = ds_lanes_all(levels.high);
    const ds_lanes step = ds_lanes_all(scale), zero = ds_lanes_all(offset);
    ds_lanes sum = {0};
    DS_FIT_UNROLL for (int i = 0; i < n; i += DS_LANES) {
        ds_lanes v;
        memcpy(&v, x + i, sizeof v);
        const ds_lanes q = ds_lanes_level(v * inverse + shift, low, high);
        const ds_lanes e = v - (step * q - zero);
        sum += e * e;
    }
    return ds_lanes_sum(sum);
}

/* The chosen levels themselves, for packing. */
static inline void ds_fit_levels(const float *x, int n, float scale, float offset, struct ds_levels levels, int8_t *q) {
    const struct ds_rounding r = ds_rounding_of(scale, offset);
    DS_FIT_UNROLL for (int i = 0; i < n; i += DS_LANES) {
        ds_lanes v;
        memcpy(&v, x + i, sizeof v);
        v = ds_lanes_level(v * r.inverse + r.shift, ds_lanes_all(levels.low), ds_lanes_all(levels.high));
        for (int l = 0; l < DS_LANES; l++) q[i + l] = (int8_t)v[l];
    }
}

/*
 * A scale for n elements on levels low..high, low = -high - 1: the largest magnitude goes near the lowest level, how near is
 * searched for, and the scale is the best one (least squares) for the levels found. 0 for a group of zeros.
 */
float ds_fit_scale(const float *x, int n, struct ds_levels levels);

/* The same with an offset >= 0: x is near scale * q - offset, q in 0..levels.high. */
struct ds_affine {
    float scale, offset;
};
struct ds_affine ds_fit_affine(const float *x, int n, struct ds_levels levels);

/* --- little-endian stores; the value of what is stored comes back --- */

static inline void ds_store_u16(uint8_t *p, uint32_t value) {
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}
static inline float ds_store_f16(uint8_t *p, float x) {
    const uint32_t half = ds_f32_to_f16(x);
    ds_store_u16(p, half);
    return ds_f16_to_f32(half);
}
static inline float ds_round_f16(float x) { return ds_f16_to_f32(ds_f32_to_f16(x)); }

/* --- blocks of 256 (quantize_k.c) --- */
void ds_quantize_block_q4_k(const float *x, uint8_t *block);
void ds_quantize_block_q5_k(const float *x, uint8_t *block);
void ds_quantize_block_q6_k(const float *x, uint8_t *block);

#endif
