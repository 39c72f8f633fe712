/*
 * numerics.h is defined for every input, exact where it says so, and gives pinned bits. Accuracy and monotony over all
 * floats are search_numerics.c's part, conversions test_conversions.c's.
 */
#include "number_samples.h"

#include <float.h>

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
