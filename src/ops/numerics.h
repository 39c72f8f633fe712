/*
 * The functions every backend shares: the part of the numerics contract (docs/numerics.md) that is not a sum.
 *
 * One text for C11, CUDA C++, HIP and GLSL. Only + - * on binary32, which every device rounds alike, and integer or bit
 * operations, so that equal inputs give equal bits everywhere. It needs rounding to nearest even, denormals kept, and no
 * contraction, no reassociation. Every function is defined for every input; a NaN result is always 0x7fc00000, zeros have
 * the sign of the exact result. No branches, no loops, no tables: a loop over an array vectorises. Pure and thread-safe.
 *
 * ds_div and ds_sqrt are rounded correctly, as IEEE division is. A file whose target divides that way defines
 * DS_NUM_HARDWARE_DIV before including this one and gets the plain operators: the same bits (NaN payloads aside), sooner.
 */
#ifndef DSPARK_OPS_NUMERICS_H
#define DSPARK_OPS_NUMERICS_H

/* --- the layer between the languages --- */

#if defined(DS_NUM_GLSL) /* set by our shaders, which need #version 450 and nothing else */

#define DS_NUM_FN
#define ds_f32 precise float
#define uint32_t uint
#define int32_t int
#define DS_NUM_U32(x) uint(x)
#define DS_NUM_I32(x) int(x)
#define DS_NUM_F32(x) float(x)
#define ds_bits(x) floatBitsToUint(x)
#define ds_float(u) uintBitsToFloat(u)

#else

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__) || defined(__HIPCC__)
#define DS_NUM_FN static __host__ __device__ __forceinline__
#else
#define DS_NUM_FN static inline
#endif
typedef float ds_f32; /* a value the contract fixes; in GLSL it carries the word `precise` */
#define DS_NUM_U32(x) ((uint32_t)(x))
#define DS_NUM_I32(x) ((int32_t)(x))
#define DS_NUM_F32(x) ((float)(x))

DS_NUM_FN uint32_t ds_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
DS_NUM_FN float ds_float(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

#endif

/* --- bit patterns --- */

#define DS_NUM_SIGN 0x80000000u
#define DS_NUM_INF 0x7f800000u
#define DS_NUM_NAN 0x7fc00000u
#define DS_NUM_LARGEST 3.40282346638528859812e38f
#define DS_NUM_ROUND 12582912.0f /* 1.5 * 2^23: adding it rounds |x| < 2^22 to an integer, kept in the low bits */
#define DS_NUM_ROUND_BITS 0x4b400000u

/* The bits without the sign, signed because vector units compare signed integers. Above 0x7f800000: a NaN. */
DS_NUM_FN int32_t ds_abs_bits(float x) { return DS_NUM_I32(ds_bits(x) & 0x7fffffffu); }
DS_NUM_FN bool ds_is_nan(float x) { return ds_abs_bits(x) > 0x7f800000; }
DS_NUM_FN bool ds_is_finite(float x) { return ds_abs_bits(x) < 0x7f800000; }
DS_NUM_FN ds_f32 ds_abs(float x) { return ds_float(ds_bits(x) & 0x7fffffffu); }
/*
 * condition ? a : b of two values at hand. Masks, because gcc keeps ?: of floats as control flow, which stops it from
 * vectorising the loop around; compilers for GPUs need no such help.
 */
#if defined(DS_NUM_GLSL) || defined(__CUDACC__) || defined(__HIPCC__)
DS_NUM_FN uint32_t ds_pick_u32(bool condition, uint32_t a, uint32_t b) { return condition ? a : b; }
DS_NUM_FN int32_t ds_pick_i32(bool condition, int32_t a, int32_t b) { return condition ? a : b; }
DS_NUM_FN ds_f32 ds_pick(bool condition, float a, float b) { return condition ? a : b; }
#else
DS_NUM_FN uint32_t ds_pick_u32(bool condition, uint32_t a, uint32_t b) {
    uint32_t mask = 0u - (uint32_t)condition;
    return (a & mask) | (b & ~mask);
}
DS_NUM_FN int32_t ds_pick_i32(bool condition, int32_t a, int32_t b) {
    return (int32_t)ds_pick_u32(condition, (uint32_t)a, (uint32_t)b);
}
DS_NUM_FN ds_f32 ds_pick(bool condition, float a, float b) {
    return ds_float(ds_pick_u32(condition, ds_bits(a), ds_bits(b)));
}
#endif
/* 2^n for -126 <= n <= 127. */
DS_NUM_FN ds_f32 ds_pow2(int32_t n) { return ds_float(DS_NUM_U32(n + 127) << 23); }

/* --- max, min, argmax --- */

/*
 * A NaN loses and +0 is above -0: so a maximum does not depend on the order in which it is taken. NaN only from two NaNs.
 */
DS_NUM_FN ds_f32 ds_max(float a, float b) {
    ds_f32 m = ds_pick(b > a, b, a);
    m = ds_pick(a == b, ds_float(ds_bits(a) & ds_bits(b)), m); /* equal floats differ in bits only as zeros */
    return ds_pick(ds_is_nan(a), b, m);
}
DS_NUM_FN ds_f32 ds_min(float a, float b) {
    ds_f32 m = ds_pick(b < a, b, a);
    m = ds_pick(a == b, ds_float(ds_bits(a) | ds_bits(b)), m);
    return ds_pick(ds_is_nan(a), b, m);
}

/*
 * Whether (value, id) takes the place of (best, best_id) in an argmax, a top-k or a choice of experts: the greater value,
 * the lower id among equals (+0 equals -0), any number before a NaN. A total order: any tree of comparisons agrees.
 */
DS_NUM_FN bool ds_better(float value, uint32_t id, float best, uint32_t best_id) {
    bool value_nan = ds_is_nan(value), best_nan = ds_is_nan(best);
    bool same = value_nan ? best_nan : value == best;
    return same ? id < best_id : (best_nan || value > best);
}

/* Floats as unsigned keys of the same order: the two zeros are one, every NaN is above all numbers. No number's key is 0. */
DS_NUM_FN uint32_t ds_order_key(float x) {
    uint32_t bits = ds_bits(x + 0.0f);
    uint32_t key = ds_pick_u32((bits & DS_NUM_SIGN) != 0u, ~bits, bits | DS_NUM_SIGN);
    return ds_pick_u32(ds_is_nan(x), 0xffffffffu, key);
}

/* --- division and square root, rounded to nearest even --- */

#if defined(DS_NUM_HARDWARE_DIV) && !defined(DS_NUM_GLSL)

#if defined(__CUDA_ARCH__)
DS_NUM_FN ds_f32 ds_div(float a, float b) { return __fdiv_rn(a, b); }
DS_NUM_FN ds_f32 ds_sqrt(float a) { return __fsqrt_rn(a); }
#else
DS_NUM_FN ds_f32 ds_div(float a, float b) { return a / b; }
DS_NUM_FN ds_f32 ds_sqrt(float a) { return __builtin_sqrtf(a); }
#endif

#else

/*
 * a / b. The mantissas A, B are integers in [2^23, 2^24), A doubled when below B. A float reciprocal, refined thrice, gives
 * q ~ A 2^24 / B within a few units; the remainder A 2^24 - q B is then small enough to be exact modulo 2^32, and makes q
 * the floor, whatever the estimate's last bits were. The 25 bits of q and "is there a remainder" decide the rounding.
 */
DS_NUM_FN ds_f32 ds_div(float a, float b) {
    uint32_t sign = (ds_bits(a) ^ ds_bits(b)) & DS_NUM_SIGN;
    int32_t ia = ds_abs_bits(a), ib = ds_abs_bits(b);

    bool tiny_a = ia < 0x00800000, tiny_b = ib < 0x00800000; /* denormals are made normal, exactly */
    uint32_t ua = DS_NUM_U32(ds_pick_i32(tiny_a, ds_abs_bits(a * 16777216.0f), ia));
    uint32_t ub = DS_NUM_U32(ds_pick_i32(tiny_b, ds_abs_bits(b * 16777216.0f), ib));
    uint32_t ma = (ua & 0x007fffffu) | 0x00800000u, mb = (ub & 0x007fffffu) | 0x00800000u;
    int32_t e = DS_NUM_I32(ua >> 23) - DS_NUM_I32(ub >> 23) + ds_pick_i32(tiny_b, 24, 0) - ds_pick_i32(tiny_a, 24, 0) + 127;
    bool below = DS_NUM_I32(ma) < DS_NUM_I32(mb);
    ma = ds_pick_u32(below, ma << 1, ma);
    e = ds_pick_i32(below, e - 1, e);

    ds_f32 x = ds_float((mb & 0x007fffffu) | 0x3f800000u); /* B 2^-23, in [1, 2) */
    ds_f32 r = ds_float(0x7ef311c7u - ds_bits(x));         /* 1 / x within 12 %; each step squares the error */
    r = r * (2.0f - x * r);
    r = r * (2.0f - x * r);
    r = r * (2.0f - x * r);
    ds_f32 scaled = r * 1.1920928955078125e-7f; /* ~ 1 / B */
    int32_t q = DS_NUM_I32(DS_NUM_F32(DS_NUM_I32(ma)) * scaled * 16777216.0f);
    int32_t rem = DS_NUM_I32((ma << 24) - DS_NUM_U32(q) * mb);
    int32_t fix = DS_NUM_I32(DS_NUM_F32(rem) * scaled);
    q += fix;
    rem -= fix * DS_NUM_I32(mb); /* now within (-B, B), give or take the estimate's last bits: one step either way is left */
    bool under = rem < 0;
    q = ds_pick_i32(under, q - 1, q);
    rem = ds_pick_i32(under, rem + DS_NUM_I32(mb), rem);
    bool over = rem >= DS_NUM_I32(mb);
    q = ds_pick_i32(over, q + 1, q);
    rem = ds_pick_i32(over, rem - DS_NUM_I32(mb), rem);

    /* q 2^-24 is in [1, 2). Two bits are dropped from a normal result, up to 27 from a denormal one. */
    uint32_t wide = (DS_NUM_U32(q) << 1) | DS_NUM_U32(rem != 0);
    int32_t down = ds_pick_i32(e < 1, 3 - e, 2);
    uint32_t drop = DS_NUM_U32(ds_pick_i32(down > 27, 27, down));
    uint32_t mantissa = (wide + ((1u << (drop - 1u)) - 1u) + ((wide >> drop) & 1u)) >> drop;
    uint32_t u = mantissa + ds_pick_u32(e < 1, 0u, DS_NUM_U32(e - 1) << 23); /* a carry rounds up into the exponent */
    u = ds_pick_u32(e > 254, DS_NUM_INF, u);

    uint32_t from_zero = ds_pick_u32(ib == 0, DS_NUM_NAN, 0u);              /* 0 / b */
    uint32_t from_inf = ds_pick_u32(ib == 0x7f800000, DS_NUM_NAN, DS_NUM_INF); /* inf / b */
    u = ds_pick_u32(ib == 0x7f800000, 0u, u);
    u = ds_pick_u32(ib == 0, DS_NUM_INF, u);
    u = ds_pick_u32(ia == 0, from_zero, u);
    u = ds_pick_u32(ia == 0x7f800000, from_inf, u);
    u = ds_pick_u32(ia > 0x7f800000, DS_NUM_NAN, u);
    u = ds_pick_u32(ib > 0x7f800000, DS_NUM_NAN, u);
    return ds_float(ds_pick_u32(DS_NUM_I32(u) > 0x7f800000, u, u | sign));
}

/*
 * The square root, in the same way: M in [2^23, 2^25) with an even exponent, s = floor(sqrt(M 2^25)) of 25 bits from a
 * float estimate, the remainder M 2^25 - s^2 exact modulo 2^32. A square root is never half way between two floats.
 */
DS_NUM_FN ds_f32 ds_sqrt(float a) {
    int32_t ia = ds_abs_bits(a);
    bool tiny = ia < 0x00800000;
    uint32_t ua = DS_NUM_U32(ds_pick_i32(tiny, ds_abs_bits(a * 16777216.0f), ia));
    int32_t e = DS_NUM_I32(ua >> 23) - ds_pick_i32(tiny, 151, 127);
    uint32_t m = (ua & 0x007fffffu) | 0x00800000u;
    bool odd = (DS_NUM_U32(e) & 1u) != 0u;
    m = ds_pick_u32(odd, m << 1, m);
    int32_t half_e = DS_NUM_I32(DS_NUM_U32(e + 256) >> 1) - 128; /* floor(e / 2) */

    ds_f32 x = DS_NUM_F32(DS_NUM_I32(m)) * 1.1920928955078125e-7f; /* M 2^-23, in [1, 4) */
    ds_f32 y = ds_float(0x5f375a86u - (ds_bits(x) >> 1));          /* 1 / sqrt(x) within 4 % */
    ds_f32 h = 0.5f * x;
    y = y * (1.5f - h * y * y);
    y = y * (1.5f - h * y * y);
    y = y * (1.5f - h * y * y);
    int32_t s = DS_NUM_I32(x * y * 16777216.0f);
    int32_t rem = DS_NUM_I32((m << 25) - DS_NUM_U32(s) * DS_NUM_U32(s));
    int32_t fix = DS_NUM_I32(DS_NUM_F32(rem) * y * 2.98023223876953125e-8f); /* rem / (2 s) */
    s += fix;
    rem = DS_NUM_I32((m << 25) - DS_NUM_U32(s) * DS_NUM_U32(s));
    bool under = rem < 0;
    s = ds_pick_i32(under, s - 1, s);
    rem = ds_pick_i32(under, rem + 2 * s + 1, rem);
    bool over = rem > 2 * s;
    s = ds_pick_i32(over, s + 1, s);

    uint32_t u = ((DS_NUM_U32(s) + 1u) >> 1) + (DS_NUM_U32(half_e + 126) << 23);
    u = ds_pick_u32(ia == 0x7f800000, DS_NUM_INF, u);
    u = ds_pick_u32(DS_NUM_I32(ds_bits(a)) < 0, DS_NUM_NAN, u);
    u = ds_pick_u32(ia == 0, ds_bits(a), u);
    return ds_float(ds_pick_u32(ia > 0x7f800000, DS_NUM_NAN, u));
}

#endif

/* --- exp, log, log1p --- */

#define DS_NUM_LN2_HI 0.693145752f /* ln 2 in 15 bits: times an exponent it is exact */
#define DS_NUM_LN2_LO 1.42860677e-6f

/*
 * exp(x) = 2^n exp(r), |r| <= ln(2)/2. r and 1 + r carry their rounding errors along, so that little more than the last
 * rounding is lost; that is what keeps it monotone. 2^n is applied in two halves: the first product is exact, the second
 * rounds once, into denormals or to infinity.
 */
DS_NUM_FN ds_f32 ds_exp(float x) {
    ds_f32 c = ds_pick(x < -104.0f, -104.0f, x); /* below: 0. exp(89) overflows. */
    c = ds_pick(c > 89.0f, 89.0f, c);
    ds_f32 t = c * 1.44269502f + DS_NUM_ROUND;
    ds_f32 n = t - DS_NUM_ROUND;
    uint32_t exponent = ds_bits(t) - DS_NUM_ROUND_BITS; /* n as an integer, modulo 2^32 */

    ds_f32 a = c - n * DS_NUM_LN2_HI;
    ds_f32 b = n * DS_NUM_LN2_LO;
    ds_f32 r = a - b;
    ds_f32 r_low = (a - r) - b;
    ds_f32 q = (((0.00138143182f * r + 0.00836885069f) * r + 0.0416684002f) * r + 0.166665196f) * r + 0.49999994f;
    ds_f32 h = 1.0f + r;
    ds_f32 h_low = r - (h - 1.0f);
    ds_f32 p = h + (r * r * q + (h_low + r_low));

    uint32_t first = (exponent + 256u) >> 1; /* floor(n / 2) + 128 */
    uint32_t second = exponent + 256u - first;
    ds_f32 y = p * ds_float((first - 1u) << 23) * ds_float((second - 1u) << 23);
    return ds_pick(ds_is_nan(x), ds_float(DS_NUM_NAN), y);
}

/* log(2^e (1 + f + f_low)) for 1 + f in [sqrt(1/2), sqrt(2)], f_low below f's last bit. */
DS_NUM_FN ds_f32 ds_log_reduced(float e, float f, float f_low) {
    ds_f32 z = f * f;
    ds_f32 p = (((0.0674776062f * f - 0.116774999f) * f + 0.118886739f) * f - 0.124053411f) * f + 0.142194569f;
    p = (((p * f - 0.166680053f) * f + 0.200021237f) * f - 0.250000089f) * f + 0.333333135f;
    ds_f32 a = e * DS_NUM_LN2_HI;
    ds_f32 h = a + f;
    ds_f32 h_low = f - (h - a);
    return h + ((h_low + f_low) + ((z * f * p + e * DS_NUM_LN2_LO) - 0.5f * z));
}

/* log(0) = -inf, of a negative number NaN. */
DS_NUM_FN ds_f32 ds_log(float x) {
    int32_t ix = ds_abs_bits(x);
    bool tiny = ix < 0x00800000;
    uint32_t u = ds_pick_u32(tiny, ds_bits(x * 16777216.0f), ds_bits(x));
    u += 0x3f800000u - 0x3f3504f3u; /* the exponent field steps at sqrt(1/2) */
    int32_t e = DS_NUM_I32(u >> 23) - ds_pick_i32(tiny, 151, 127);
    ds_f32 f = ds_float((u & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
    ds_f32 y = ds_log_reduced(DS_NUM_F32(e), f, 0.0f);
    y = ds_pick(ds_bits(x) == DS_NUM_INF, x, y);
    y = ds_pick(DS_NUM_I32(ds_bits(x)) < 0, ds_float(DS_NUM_NAN), y);
    y = ds_pick(ix == 0, ds_float(DS_NUM_INF | DS_NUM_SIGN), y);
    return ds_pick(ix > 0x7f800000, ds_float(DS_NUM_NAN), y);
}

/* log(1 + x); the error of 1 + x is known exactly and carried along. log1p(-1) = -inf, below it NaN. */
DS_NUM_FN ds_f32 ds_log1p(float x) {
    ds_f32 w = 1.0f + x;
    ds_f32 v = w - 1.0f;
    ds_f32 w_low = (1.0f - (w - v)) + (x - v);
    uint32_t u = ds_bits(w) + (0x3f800000u - 0x3f3504f3u);
    int32_t e = DS_NUM_I32(u >> 23) - 127;
    ds_f32 f_high = ds_float((u & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
    ds_f32 low = ds_pick(e > 64, 0.0f, w_low * ds_float(DS_NUM_U32(127 - e) << 23)); /* far above 1 nothing is lost */
    ds_f32 f = f_high + low;
    ds_f32 f_low = low - (f - f_high);
    ds_f32 y = ds_log_reduced(DS_NUM_F32(e), f, f_low);
    int32_t ix = ds_abs_bits(x);
    y = ds_pick(ix < 0x33000000, x, y); /* under 2^-25 it is x, with x's sign when 0 */
    y = ds_pick(ds_bits(x) == DS_NUM_INF, x, y);
    y = ds_pick(ds_bits(x) == 0xbf800000u, ds_float(DS_NUM_INF | DS_NUM_SIGN), y);
    y = ds_pick(x < -1.0f, ds_float(DS_NUM_NAN), y);
    return ds_pick(ix > 0x7f800000, ds_float(DS_NUM_NAN), y);
}

/* --- what networks squash with --- */

/* 1 / (1 + exp(-x)), and exp(x) where the two agree to 2^-28: the left half stays precise into the denormals. */
DS_NUM_FN ds_f32 ds_sigmoid(float x) {
    bool far_left = x < -20.0f;
    ds_f32 e = ds_exp(ds_pick(far_left, x, -x));
    ds_f32 y = ds_pick(far_left, e, ds_div(1.0f, 1.0f + e));
    return ds_pick(ds_is_nan(x), ds_float(DS_NUM_NAN), y);
}

/* 1 - 2 / (exp(2 |x|) + 1), and an odd polynomial below 0.55. */
DS_NUM_FN ds_f32 ds_tanh(float x) {
    ds_f32 a = ds_abs(x);
    ds_f32 big = 1.0f - ds_div(2.0f, ds_exp(a + a) + 1.0f);
    ds_f32 z = a * a;
    ds_f32 p = (((-0.00627423543f * z + 0.0210716762f) * z - 0.0538523085f) * z + 0.13332586f) * z - 0.333333164f;
    ds_f32 small = a + a * z * p;
    ds_f32 y = ds_pick(ds_abs_bits(x) < 0x3f0ccccd, small, big);
    return ds_pick(ds_is_nan(x), ds_float(DS_NUM_NAN), ds_float(ds_bits(y) | (ds_bits(x) & DS_NUM_SIGN)));
}

/* x * gate, a closed gate stopping even an infinity. */
DS_NUM_FN ds_f32 ds_gated(float x, float gate) {
    ds_f32 y = ds_pick(ds_abs_bits(gate) == 0, ds_float(ds_bits(x) & DS_NUM_SIGN), x * gate);
    return ds_pick(ds_is_nan(x), ds_float(DS_NUM_NAN), y);
}

DS_NUM_FN ds_f32 ds_silu(float x) { return ds_gated(x, ds_sigmoid(x)); }

/*
 * GELU in its tanh form ("gelu_pytorch_tanh"), x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), written as the same
 * function x sigmoid(2 ...): there is nothing to cancel on the left.
 */
DS_NUM_FN ds_f32 ds_gelu(float x) {
    ds_f32 inner = x + 0.0447149985f * (x * x * x);
    return ds_gated(x, ds_sigmoid(1.59576917f * inner));
}

/* cap * tanh(x / cap), for a finite cap above 0. */
DS_NUM_FN ds_f32 ds_softcap(float x, float cap) { return cap * ds_tanh(ds_div(x, cap)); }

/* --- conversions --- */

/* To the nearest integer, halves to even, as a float; for any x. */
DS_NUM_FN ds_f32 ds_nearest(float x) {
    ds_f32 magic = ds_float(0x4b000000u | (ds_bits(x) & DS_NUM_SIGN)); /* 2^23 with x's sign */
    ds_f32 y = (x + magic) - magic;
    y = ds_float((ds_bits(y) & 0x7fffffffu) | (ds_bits(x) & DS_NUM_SIGN));
    return ds_pick(ds_abs_bits(x) < 0x4b000000, y, x);
}

/* The same as an integer, clamped to what int32 holds; NaN gives 0. */
DS_NUM_FN int32_t ds_f32_to_i32(float x) {
    ds_f32 r = ds_pick(ds_is_nan(x), 0.0f, ds_nearest(x));
    bool above = r >= 2147483648.0f;
    r = ds_pick(r < -2147483648.0f, -2147483648.0f, r);
    int32_t i = DS_NUM_I32(ds_pick(above, 0.0f, r));
    return ds_pick_i32(above, 0x7fffffff, i);
}

/* Rounded to nearest even: what the cast does in the default rounding mode. */
DS_NUM_FN ds_f32 ds_i32_to_f32(int32_t i) { return DS_NUM_F32(i); }

/* f16 and bf16 travel as bit patterns in the low half of a uint32. */

/* Nearest even; what is above 65504, infinity too, becomes 65504; NaN becomes 0x7e00. */
DS_NUM_FN uint32_t ds_f32_to_f16(float x) {
    uint32_t sign = (ds_bits(x) >> 16) & 0x8000u;
    int32_t ix = ds_abs_bits(x);
    uint32_t a = DS_NUM_U32(ds_pick_i32(ix > 0x477fe000, 0x477fe000, ix));
    uint32_t normal = (a + 0xfffu + ((a >> 13) & 1u) - 0x38000000u) >> 13;
    ds_f32 shifted = ds_float(a) + 0.5f; /* 0.5's last bit is the smallest f16: the adder rounds */
    uint32_t denormal = ds_bits(shifted) - 0x3f000000u;
    uint32_t h = ds_pick_u32(ix < 0x38800000, denormal, normal) | sign;
    return ds_pick_u32(ix > 0x7f800000, 0x7e00u, h);
}

/* Exact. */
DS_NUM_FN ds_f32 ds_f16_to_f32(uint32_t h) {
    uint32_t m = (h & 0x7fffu) << 13;
    ds_f32 y = ds_float(m) * 5.192296858534828e33f; /* 2^112, the difference of the biases */
    uint32_t special = ds_pick_u32(m > 0x0f800000u, DS_NUM_NAN, DS_NUM_INF | ((h & 0x8000u) << 16));
    uint32_t u = ds_bits(y) | ((h & 0x8000u) << 16);
    return ds_float(ds_pick_u32(m < 0x0f800000u, u, special));
}

/* Nearest even; what rounds above the largest bf16, infinity too, becomes that; NaN becomes 0x7fc0. */
DS_NUM_FN uint32_t ds_f32_to_bf16(float x) {
    int32_t ix = ds_abs_bits(x);
    uint32_t a = DS_NUM_U32(ds_pick_i32(ix > 0x7f7f0000, 0x7f7f0000, ix));
    uint32_t h = ((a + 0x7fffu + ((a >> 16) & 1u)) >> 16) | ((ds_bits(x) >> 16) & 0x8000u);
    return ds_pick_u32(ix > 0x7f800000, 0x7fc0u, h);
}

/* Exact; a NaN keeps its bits. */
DS_NUM_FN ds_f32 ds_bf16_to_f32(uint32_t h) { return ds_float(h << 16); }

/*
 * A bf16 whose products are exact in f32: under 2^-60 it becomes +0, above 2^60 it becomes 2^60, the sign kept. For
 * activations after rounding and for weights at load.
 */
DS_NUM_FN uint32_t ds_bf16_bounded(uint32_t h) {
    uint32_t a = h & 0x7fffu;
    uint32_t clamped = ds_pick_u32(a > 0x5d80u, (h & 0x8000u) | 0x5d80u, h);
    clamped = ds_pick_u32(a > 0x7f80u, 0x7fc0u, clamped);
    return ds_pick_u32(a < 0x2180u, 0u, clamped);
}
DS_NUM_FN uint32_t ds_bf16_activation(float x) { return ds_bf16_bounded(ds_f32_to_bf16(x)); }

/* --- activations to int8 --- */

/*
 * For a block with amax = max |x|: its scale is ds_quant_scale(amax), its values are
 * ds_quant(x, ds_quant_pre(amax), ds_quant_inverse(amax)), and x ~ scale * value. amax itself gives exactly 127 whenever it
 * is finite and not 0, denormals included: `pre` is 1, or 2^64 where 127 / amax would overflow (a multiplication by 1 may be
 * left out). An amax that is 0 or not finite gives zeros and scale 0; the caller raises the row's flag when not finite.
 */
DS_NUM_FN bool ds_quant_usable(float amax) { return DS_NUM_U32(ds_abs_bits(amax) - 1) < 0x7f7fffffu; }
DS_NUM_FN ds_f32 ds_quant_scale(float amax) { return ds_quant_usable(amax) ? ds_div(amax, 127.0f) : 0.0f; }
DS_NUM_FN ds_f32 ds_quant_pre(float amax) { return ds_abs_bits(amax) < 0x0d800000 ? 18446744073709551616.0f : 1.0f; }
DS_NUM_FN ds_f32 ds_quant_inverse(float amax) {
    return ds_quant_usable(amax) ? ds_div(127.0f, amax * ds_quant_pre(amax)) : 0.0f;
}
DS_NUM_FN int32_t ds_quant(float x, float pre, float inverse) {
    ds_f32 scaled = x * pre * inverse;
    int32_t q = ds_f32_to_i32(scaled);
    q = ds_pick_i32(q > 127, 127, q);
    return ds_pick_i32(q < -127, -127, q);
}

/* --- random numbers from a word of Philox (base/philox.h) --- */

/*
 * Gumbel noise -log(-log1p(-v)) with v = n 2^-32, n = w | 1 cut (not rounded) to its 24 leading significant bits, so that v
 * is exact and inside (0, 1). Finite: from -2.82 to 22.2.
 */
DS_NUM_FN ds_f32 ds_gumbel(uint32_t w) {
    uint32_t n = w | 1u;
    uint32_t extra = n >> 24; /* as many low bits go as this has */
    extra |= extra >> 1;
    extra |= extra >> 2;
    extra |= extra >> 4;
    n &= ~extra;
    ds_f32 high = DS_NUM_F32(DS_NUM_I32(n >> 16)), low = DS_NUM_F32(DS_NUM_I32(n & 0xffffu));
    ds_f32 v = (high * 65536.0f + low) * 2.3283064365386962890625e-10f;
    return -ds_log(-ds_log1p(-v));
}

/* A number inside (0, 1), a multiple of 2^-24, symmetric about 1/2. */
DS_NUM_FN ds_f32 ds_coin(uint32_t w) { return (DS_NUM_F32(DS_NUM_I32(w >> 9)) + 0.5f) * 1.1920928955078125e-7f; }

/* --- sampling masses --- */

/*
 * round(exp(x) 2^32), halves to even, for x = (logit - max) * (1 / T) <= 0: a float that is an integer of 33 bits, at most
 * 2^32. A positive x counts as 0, a NaN weighs nothing.
 */
DS_NUM_FN ds_f32 ds_mass_float(float x) {
    ds_f32 e = ds_nearest(ds_exp(ds_pick(x > 0.0f, 0.0f, x)) * 4294967296.0f);
    return ds_pick(ds_is_nan(x), 0.0f, e);
}

/*
 * log(p / (1 - p)) of the greatest of some probabilities, whose mass is 2^32 itself; high 2^32 + low: the masses of all others, of which nothing
 * counts as one unit. Rounded word by word, each step to nearest even.
 */
DS_NUM_FN ds_f32 ds_top_log_odds(uint32_t high, uint32_t low) {
    ds_f32 upper = DS_NUM_F32(DS_NUM_I32(high >> 16)) * 65536.0f + DS_NUM_F32(DS_NUM_I32(high & 0xffffu));
    ds_f32 rest = (upper * 65536.0f + DS_NUM_F32(DS_NUM_I32(low >> 16))) * 65536.0f + DS_NUM_F32(DS_NUM_I32(low & 0xffffu));
    return -ds_log(ds_pick(rest < 1.0f, 1.0f, rest) * 2.3283064365386962890625e-10f);
}

#if !defined(DS_NUM_GLSL)
/* The same as an integer. Sums are exact in any order, for vocabularies below 2^31. */
DS_NUM_FN uint64_t ds_mass(float x) {
    float m = ds_mass_float(x);
    int32_t high = (int32_t)(m * 1.52587890625e-5f); /* in halves: vector units convert 32 bits */
    int32_t low = (int32_t)(m - (float)high * 65536.0f);
    return ((uint64_t)(uint32_t)high << 16) + (uint32_t)low;
}
#endif

#endif
