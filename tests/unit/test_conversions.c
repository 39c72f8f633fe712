/*
 * The conversions of numerics.h round as they say, for every input: half floats, integers, activations to int8, noise and
 * masses.
 */
#include "number_samples.h"

#include <float.h>

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
