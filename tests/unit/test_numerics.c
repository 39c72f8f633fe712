/*
 * numerics.h is defined for every input, exact where it says so, and gives pinned bits. Accuracy and monotony over all
 * floats are search_numerics.c's part.
 */
#include "chance.h"
#include "ops/numerics.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
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
static float edge(size_t i) { return ds_float(edges[i / 2] | (i & 1 ? 0x80000000u : 0)); }

static uint64_t next_random(uint64_t *state) {
    return mixed(*state += 0x9e3779b97f4a7c15u); /* splitmix64 */
}

static bool same_bits(float a, float b) { return ds_bits(a) == ds_bits(b) || (isnan(a) && isnan(b)); }
static bool is_the_nan(float x) { return ds_bits(x) == 0x7fc00000; }

/* --- division, square root --- */

static void check_quotient(float a, float b) {
    const float q = ds_div(a, b);
    if (!same_bits(q, a / b)) fail_msg("%a / %a: expected %a, found %a", (double)a, (double)b, (double)(a / b), (double)q);
    if (isnan(q)) assert_true(is_the_nan(q));
}

static void quotients_are_ieee_quotients(void **state) {
    (void)state;
    for (size_t i = 0; i < EDGES; i++)
        for (size_t k = 0; k < EDGES; k++) check_quotient(edge(i), edge(k));
    uint64_t seed = 1;
    for (int i = 0; i < 8000000; i++) {
        const uint64_t r = next_random(&seed);
        check_quotient(ds_float((uint32_t)r), ds_float((uint32_t)(r >> 32)));
    }
    /* Quotients of small integers: all exact ones, and many that end far behind a one. */
    for (int a = 1; a < 1500; a++)
        for (int b = 1; b < 1500; b++) check_quotient((float)a, (float)b);
}

static void denormal_quotients_round_once(void **state) {
    (void)state;
    uint64_t seed = 2;
    for (int i = 0; i < 1000000; i++) {
        const uint64_t r = next_random(&seed);
        const uint32_t down = (uint32_t)(r >> 56) % 28; /* the quotient lies about this many bits under the smallest normal */
        const float a = ds_float(((uint32_t)r & 0x007fffff) | (40u << 23));
        const float b = ds_float(((uint32_t)(r >> 23) & 0x007fffff) | ((40u + 125 + down) << 23));
        check_quotient(a, b);
        check_quotient(-(float)(1 + (r & 0xffff)) * 0x1p-149f, (float)(1 + (r >> 48)));
    }
}

static void square_roots_are_ieee_square_roots(void **state) {
    (void)state;
    for (size_t i = 0; i < EDGES; i++) assert_true(same_bits(ds_sqrt(edge(i)), sqrtf(edge(i))));
    assert_true(is_the_nan(ds_sqrt(-1.0f)) && is_the_nan(ds_sqrt(ds_float(0xffc00001))));
    for (uint64_t u = 0; u < 0x7f800000; u += 997) {
        const float x = ds_float((uint32_t)u);
        if (ds_bits(ds_sqrt(x)) != ds_bits(sqrtf(x))) fail_msg("square root of %a", (double)x);
    }
}

/* --- functions --- */

static void functions_are_exact_at_their_fixed_points(void **state) {
    (void)state;
    assert_true(ds_exp(0.0f) == 1.0f && ds_exp(-0.0f) == 1.0f);
    assert_int_equal(ds_bits(ds_exp(-INFINITY)), 0);
    assert_true(ds_exp(INFINITY) == INFINITY && ds_exp(89.0f) == INFINITY && ds_exp(FLT_MAX) == INFINITY);
    assert_true(ds_exp(88.72283f) < INFINITY && ds_exp(88.72284f) == INFINITY);
    assert_int_equal(ds_bits(ds_exp(-103.972076f)), 1); /* the smallest denormal */
    assert_int_equal(ds_bits(ds_exp(-103.972084f)), 0);
    assert_int_equal(ds_bits(ds_exp(-FLT_MAX)), 0);
    assert_int_equal(ds_bits(ds_log(1.0f)), 0);
    assert_true(ds_log(0.0f) == -INFINITY && ds_log(-0.0f) == -INFINITY && ds_log(INFINITY) == INFINITY);
    assert_true(is_the_nan(ds_log(-1.0f)) && is_the_nan(ds_log(-INFINITY)) && is_the_nan(ds_log(-FLT_TRUE_MIN)));
    assert_true(ds_log1p(-1.0f) == -INFINITY && ds_log1p(INFINITY) == INFINITY && is_the_nan(ds_log1p(-1.0000001f)));
    assert_true(is_the_nan(ds_log1p(-INFINITY)));
    assert_true(ds_sigmoid(0.0f) == 0.5f && ds_sigmoid(-0.0f) == 0.5f);
    assert_true(ds_sigmoid(INFINITY) == 1.0f && ds_sigmoid(20.0f) == 1.0f);
    assert_int_equal(ds_bits(ds_sigmoid(-INFINITY)), 0);
    assert_true(ds_sigmoid(-100.0f) > 0.0f); /* a denormal, not 0 */
    assert_true(ds_tanh(INFINITY) == 1.0f && ds_tanh(-INFINITY) == -1.0f && ds_tanh(FLT_MAX) == 1.0f);
    assert_true(ds_silu(INFINITY) == INFINITY && ds_gelu(INFINITY) == INFINITY && ds_gelu(FLT_MAX) == FLT_MAX);
    assert_int_equal(ds_bits(ds_silu(-INFINITY)), 0x80000000);
    assert_int_equal(ds_bits(ds_gelu(-INFINITY)), 0x80000000);
    assert_true(ds_softcap(1e30f, 30.0f) == 30.0f && ds_softcap(-INFINITY, 50.0f) == -50.0f);
    assert_true(fabsf(ds_softcap(10.0f, 30.0f) - (float)(30 * tanh(10.0 / 30))) < 2e-6f);
}

static void odd_functions_keep_the_sign_of_zero(void **state) {
    (void)state;
    float (*const odd[])(float) = {ds_log1p, ds_tanh, ds_silu, ds_gelu};
    for (size_t i = 0; i < COUNT(odd); i++) {
        assert_int_equal(ds_bits(odd[i](0.0f)), 0);
        assert_int_equal(ds_bits(odd[i](-0.0f)), 0x80000000);
    }
}

static void a_nan_goes_in_and_the_one_nan_comes_out(void **state) {
    (void)state;
    float (*const functions[])(float) = {ds_exp,  ds_log,  ds_log1p, ds_sigmoid,       ds_tanh,          ds_silu,
                                         ds_gelu, ds_sqrt};
    const uint32_t nans[] = {0x7f800001, 0x7fc00000, 0x7fffffff, 0xff800001, 0xffc00000, 0xffffffff};
    for (size_t i = 0; i < COUNT(functions); i++)
        for (size_t k = 0; k < COUNT(nans); k++) assert_true(is_the_nan(functions[i](ds_float(nans[k]))));
    for (size_t k = 0; k < COUNT(nans); k++) {
        const float nan = ds_float(nans[k]);
        assert_true(is_the_nan(ds_div(nan, 1.0f)) && is_the_nan(ds_div(0.0f, nan)));
        assert_int_equal(ds_f32_to_f16(nan), 0x7e00);
        assert_int_equal(ds_f32_to_bf16(nan), 0x7fc0);
        assert_int_equal(ds_bf16_activation(nan), 0x7fc0);
        assert_int_equal(ds_f32_to_i32(nan), 0);
        assert_int_equal(ds_quant(nan, 1.0f, 1.0f), 0);
        assert_true(ds_mass(nan) == 0);
    }
}

/* --- the same bits from every compiler --- */

static const uint64_t PINNED = 0xebf0cec473c55a7eu;

static uint64_t hash_u32(uint64_t h, uint32_t u) { return (h ^ u) * 0x100000001b3u; }

static void a_dense_sample_has_the_pinned_bits(void **state) {
    (void)state;
    uint64_t h = 0xcbf29ce484222325u;
    uint32_t before = 0;
    for (uint64_t u = 0; u < 0x100000000u; u += 4001) {
        const float x = ds_float((uint32_t)u), z = ds_float(before);
        h = hash_u32(h, ds_bits(ds_exp(x)));
        h = hash_u32(h, ds_bits(ds_log(x)));
        h = hash_u32(h, ds_bits(ds_log1p(x)));
        h = hash_u32(h, ds_bits(ds_sqrt(x)));
        h = hash_u32(h, ds_bits(ds_sigmoid(x)));
        h = hash_u32(h, ds_bits(ds_tanh(x)));
        h = hash_u32(h, ds_bits(ds_silu(x)));
        h = hash_u32(h, ds_bits(ds_gelu(x)));
        h = hash_u32(h, ds_bits(ds_softcap(x, 30.0f)));
        h = hash_u32(h, ds_bits(ds_div(x, z)));
        h = hash_u32(h, ds_bits(ds_gumbel((uint32_t)u)));
        h = hash_u32(h, ds_bits(ds_coin((uint32_t)u)));
        h = hash_u32(h, ds_bits(ds_mass_float(x)));
        h = hash_u32(h, ds_f32_to_f16(x) | ds_f32_to_bf16(x) << 16);
        h = hash_u32(h, (uint32_t)ds_f32_to_i32(x));
        before = (uint32_t)u * 2654435761u;
    }
    if (h != PINNED) fail_msg("expected 0x%016llx, found 0x%016llx", (unsigned long long)PINNED, (unsigned long long)h);
}

/* --- max, min, argmax --- */

static void max_and_min_do_not_depend_on_order(void **state) {
    (void)state;
    for (size_t i = 0; i < EDGES; i++)
        for (size_t k = 0; k < EDGES; k++) {
            const float a = edge(i), b = edge(k);
            assert_true(same_bits(ds_max(a, b), ds_max(b, a)) && same_bits(ds_min(a, b), ds_min(b, a)));
            if (isnan(a) || isnan(b)) {
                assert_true(same_bits(ds_max(a, b), isnan(a) ? b : a) && same_bits(ds_min(a, b), isnan(a) ? b : a));
                continue;
            }
            assert_true(ds_max(a, b) == fmaxf(a, b) && ds_min(a, b) == fminf(a, b));
        }
    assert_int_equal(ds_bits(ds_max(-0.0f, 0.0f)), 0);
    assert_int_equal(ds_bits(ds_min(0.0f, -0.0f)), 0x80000000);
}

/* Any number before any NaN, the greater first, the lower id first among equals. */
static void better_is_a_total_order(void **state) {
    (void)state;
    for (size_t i = 0; i < EDGES; i++)
        for (size_t k = 0; k < EDGES; k++) {
            const uint32_t a_id = (uint32_t)i, b_id = (uint32_t)k;
            const float a = edge(i), b = edge(k);
            assert_true(ds_better(a, a_id, b, b_id) + ds_better(b, b_id, a, a_id) == (i != k));
            if (isnan(b) && !isnan(a)) assert_true(ds_better(a, a_id, b, b_id));
            if (a > b) assert_true(ds_better(a, a_id, b, b_id));
            if (a == b || (isnan(a) && isnan(b))) assert_int_equal(ds_better(a, a_id, b, b_id), a_id < b_id);
        }
}

/* --- conversions --- */

static void f16_values_survive_the_way_to_f32_and_back(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float x = ds_f16_to_f32(h);
        const int exponent = (int)(h >> 10 & 31), mantissa = (int)(h & 1023);
        if (exponent == 31) {
            assert_true(mantissa == 0 ? isinf(x) : is_the_nan(x));
            if (mantissa == 0) assert_int_equal(ds_f32_to_f16(x), (h & 0x8000) | 0x7bff); /* saturates */
            continue;
        }
        const double value = exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);
        assert_true((double)x == (h & 0x8000 ? -value : value) && !signbit(x) == !(h & 0x8000));
        assert_int_equal(ds_f32_to_f16(x), h);
    }
}

/* Between neighbours the middle goes to the even one, what is next to the middle to the nearer one. */
static void f16_rounds_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        const float middle = 0.5f * (ds_f16_to_f32(h) + ds_f16_to_f32(h + 1)); /* exact */
        assert_int_equal(ds_f32_to_f16(middle), h & 1 ? h + 1 : h);
        assert_int_equal(ds_f32_to_f16(ds_float(ds_bits(middle) - 1)), h);
        assert_int_equal(ds_f32_to_f16(ds_float(ds_bits(middle) + 1)), h + 1);
        assert_int_equal(ds_f32_to_f16(-middle), (h & 1 ? h + 1 : h) | 0x8000);
    }
    assert_int_equal(ds_f32_to_f16(65504.0f), 0x7bff);
    assert_int_equal(ds_f32_to_f16(65520.0f), 0x7bff); /* would round to infinity */
    assert_int_equal(ds_f32_to_f16(-INFINITY), 0xfbff);
    assert_int_equal(ds_f32_to_f16(FLT_TRUE_MIN), 0);
}

static void bf16_rounds_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7f7f; h++) {
        const uint32_t middle = h << 16 | 0x8000;
        assert_int_equal(ds_f32_to_bf16(ds_bf16_to_f32(h)), h);
        assert_int_equal(ds_f32_to_bf16(ds_float(middle)), h & 1 ? h + 1 : h);
        assert_int_equal(ds_f32_to_bf16(ds_float(middle - 1)), h);
        assert_int_equal(ds_f32_to_bf16(ds_float(middle + 1)), h + 1);
        assert_int_equal(ds_f32_to_bf16(ds_float(middle | 0x80000000)), (h & 1 ? h + 1 : h) | 0x8000);
    }
    assert_int_equal(ds_f32_to_bf16(FLT_MAX), 0x7f7f);
    assert_int_equal(ds_f32_to_bf16(-INFINITY), 0xff7f);
}

static void bf16_activations_lie_between_2_to_the_minus_60_and_2_to_the_60(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        if ((h & 0x7fff) > 0x7f80) continue; /* NaNs are elsewhere */
        const float x = ds_bf16_to_f32(h), y = ds_bf16_to_f32(ds_bf16_activation(x));
        const float expected = fabsf(x) < 0x1p-60f ? 0.0f : fabsf(x) > 0x1p60f ? copysignf(0x1p60f, x) : x;
        assert_int_equal(ds_bits(y), ds_bits(expected)); /* a +0, never a -0 */
        assert_int_equal(ds_bf16_bounded(h), ds_bf16_activation(x));
    }
    assert_int_equal(ds_bf16_activation(0x1.ffp-61f), 0x2180); /* the bound is applied after rounding: this is 2^-60 */
    assert_int_equal(ds_bf16_activation(0x1.fep-61f), 0);
}

/* Then an FMA rounds what a multiplication and an addition round. */
static void products_of_half_floats_are_exact(void **state) {
    (void)state;
    uint64_t seed = 3;
    for (int i = 0; i < 2000000; i++) {
        const uint64_t r = next_random(&seed);
        const uint32_t a = (uint32_t)r & 0xffff, b = (uint32_t)(r >> 16) & 0xffff;
        if ((a & 0x7c00) != 0x7c00 && (b & 0x7c00) != 0x7c00) {
            const float x = ds_f16_to_f32(a), y = ds_f16_to_f32(b);
            assert_true((double)(x * y) == (double)x * (double)y);
        }
        if ((a & 0x7f80) != 0x7f80 && (b & 0x7f80) != 0x7f80) {
            const float x = ds_bf16_to_f32(ds_bf16_bounded(a)), y = ds_bf16_to_f32(ds_bf16_bounded(b));
            assert_true((double)(x * y) == (double)x * (double)y);
        }
    }
}

static void integers_round_to_even_and_clamp(void **state) {
    (void)state;
    static const struct {
        float x;
        int32_t i;
    } cases[] = {
        {0.5f, 0}, {1.5f, 2}, {2.5f, 2}, {-0.5f, 0}, {-1.5f, -2}, {-2.5f, -2}, {0.49999997f, 0}, {0.50000006f, 1},
        {4194303.5f, 4194304}, {4194304.5f, 4194304}, {8388607.5f, 8388608}, {8388609.0f, 8388609}, {16777215.0f, 16777215},
        {-8388607.5f, -8388608}, {2147483520.0f, 2147483520}, {2147483648.0f, INT32_MAX}, {-2147483648.0f, INT32_MIN},
        {-2147483904.0f, INT32_MIN}, {INFINITY, INT32_MAX}, {-INFINITY, INT32_MIN}, {FLT_TRUE_MIN, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) assert_int_equal(ds_f32_to_i32(cases[i].x), cases[i].i);
    uint64_t seed = 4;
    for (int i = 0; i < 3000000; i++) {
        const float x = (float)(int64_t)next_random(&seed) * 0x1p-33f; /* within 2^30 */
        assert_int_equal(ds_f32_to_i32(x), lrintf(x));
        assert_true(same_bits(ds_nearest(x * 0x1p-20f), rintf(x * 0x1p-20f)));
    }
    for (size_t i = 0; i < EDGES; i++) assert_true(same_bits(ds_nearest(edge(i)), rintf(edge(i))));
    assert_true(ds_i32_to_f32(16777217) == 16777216.0f && ds_i32_to_f32(16777219) == 16777220.0f);
}

/* --- activations to int8 --- */

static void an_amax_quantises_to_127(void **state) {
    (void)state;
    for (uint64_t u = 1; u < 0x7f800000; u += 1009) { /* all of them: search_numerics quant */
        const float amax = ds_float((uint32_t)u), pre = ds_quant_pre(amax), inverse = ds_quant_inverse(amax);
        assert_true(ds_quant(amax, pre, inverse) == 127 && ds_quant(-amax, pre, inverse) == -127);
        assert_true(ds_quant(0.0f, pre, inverse) == 0 && ds_quant(0.25f * amax, pre, inverse) <= 32);
    }
    for (uint32_t u = 1; u < 300; u++) { /* the smallest denormals */
        const float amax = ds_float(u);
        assert_int_equal(ds_quant(amax, ds_quant_pre(amax), ds_quant_inverse(amax)), 127);
    }
}

static void quantised_values_are_nearest_and_bounded(void **state) {
    (void)state;
    uint64_t seed = 5;
    for (int i = 0; i < 2000000; i++) {
        const uint64_t r = next_random(&seed);
        const float amax = ds_float(0x30000000u + (uint32_t)(r & 0x1fffffff));
        const float x = amax * ((float)(int32_t)(r >> 32) * 0x1p-31f);
        const int32_t q = ds_quant(x, ds_quant_pre(amax), ds_quant_inverse(amax));
        assert_true(q >= -127 && q <= 127);
        /* At most half a step away, the rounding of x * (127 / amax) aside. */
        assert_true(fabs(q - (double)x / (double)amax * 127) <= 0.5 + 2e-5);
        assert_true(fabsf((float)q * ds_quant_scale(amax) - x) <= ds_quant_scale(amax) * 0.5001f);
    }
    assert_int_equal(ds_quant(1e30f, 1.0f, 127.0f), 127);
    assert_int_equal(ds_quant(-INFINITY, 1.0f, 127.0f), -127);
}

static void a_block_without_a_usable_amax_becomes_zeros(void **state) {
    (void)state;
    const float useless[] = {0.0f, INFINITY, NAN};
    for (size_t i = 0; i < COUNT(useless); i++) {
        assert_false(ds_quant_usable(useless[i]));
        assert_int_equal(ds_bits(ds_quant_scale(useless[i])), 0);
        const float pre = ds_quant_pre(useless[i]), inverse = ds_quant_inverse(useless[i]);
        for (size_t k = 0; k < EDGES; k++) assert_int_equal(ds_quant(edge(k), pre, inverse), 0);
    }
    assert_true(ds_quant_usable(FLT_TRUE_MIN) && ds_quant_usable(FLT_MAX));
}

/* --- randomness, masses --- */

static void noise_is_finite_and_exact_in_its_argument(void **state) {
    (void)state;
    uint64_t seed = 6;
    for (int i = 0; i < 1000000; i++) {
        const uint64_t r = next_random(&seed);
        const uint32_t w = (uint32_t)r >> (r >> 59); /* all magnitudes */
        uint32_t n = w | 1;
        for (uint32_t bit = 0; n >= 1u << 24 && (n >> bit) >= 1u << 24; bit++) n &= ~(1u << bit);
        const double v = n * 0x1p-32;
        const float noise = ds_gumbel(w);
        assert_true(fabs((double)noise + log(-log1p(-v))) <= 4e-7 * (1 + fabs((double)noise)));
        assert_true(noise > -2.82f && noise <= 22.2f);
        const float coin = ds_coin(w);
        assert_true(coin > 0 && coin < 1 && (double)coin == ((w >> 9) + 0.5) * 0x1p-23);
    }
    assert_true(ds_gumbel(0) > 22.18f && ds_gumbel(0) <= 22.2f && isfinite(ds_gumbel(0xffffffff)));
    assert_true(ds_coin(0) == 0x1p-24f && ds_coin(0xffffffff) == 1 - 0x1p-24f);
}

static void masses_are_the_rounded_exponentials(void **state) {
    (void)state;
    assert_true(ds_mass(0.0f) == 1ull << 32 && ds_mass(-0.0f) == 1ull << 32 && ds_mass(3.0f) == 1ull << 32);
    assert_true(ds_mass(-INFINITY) == 0 && ds_mass(-23.0f) == 0 && ds_mass(-22.0f) == 1);
    uint64_t before = UINT64_MAX;
    for (float x = 0; x > -24; x -= 0.00001f) {
        const uint64_t w = ds_mass(x);
        const double e = (double)ds_exp(x) * 0x1p32;
        assert_true((double)w == rint(e) && w <= before && (double)ds_mass_float(x) == (double)w);
        before = w;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quotients_are_ieee_quotients),
        cmocka_unit_test(denormal_quotients_round_once),
        cmocka_unit_test(square_roots_are_ieee_square_roots),
        cmocka_unit_test(functions_are_exact_at_their_fixed_points),
        cmocka_unit_test(odd_functions_keep_the_sign_of_zero),
        cmocka_unit_test(a_nan_goes_in_and_the_one_nan_comes_out),
        cmocka_unit_test(a_dense_sample_has_the_pinned_bits),
        cmocka_unit_test(max_and_min_do_not_depend_on_order),
        cmocka_unit_test(better_is_a_total_order),
        cmocka_unit_test(f16_values_survive_the_way_to_f32_and_back),
        cmocka_unit_test(f16_rounds_to_nearest_even),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(bf16_activations_lie_between_2_to_the_minus_60_and_2_to_the_60),
        cmocka_unit_test(products_of_half_floats_are_exact),
        cmocka_unit_test(integers_round_to_even_and_clamp),
        cmocka_unit_test(an_amax_quantises_to_127),
        cmocka_unit_test(quantised_values_are_nearest_and_bounded),
        cmocka_unit_test(a_block_without_a_usable_amax_becomes_zeros),
        cmocka_unit_test(noise_is_finite_and_exact_in_its_argument),
        cmocka_unit_test(masses_are_the_rounded_exponentials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
