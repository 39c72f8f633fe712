/* RoPE tables: the same bits everywhere, as near to the exact values as f32 allows, and the scalings' own properties. */
#include "ops/numerics64.h"
#include "ops/rope_table.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { MAX_PAIRS = 128, ROWS = 4096 };

static const struct ds_rope_config plain = {.n_rot = 128, .theta = 1e6};
static const struct ds_rope_config small = {.n_rot = 64, .theta = 10000};
static const struct ds_rope_config linear = {.kind = DS_ROPE_LINEAR, .n_rot = 256, .theta = 1e6, .factor = 8};
static const struct ds_rope_config yarn = {
    .kind = DS_ROPE_YARN, .n_rot = 128, .theta = 1e6, .factor = 4, .original_context = 32768};
static const struct ds_rope_config yarn_exact_ends = {.kind = DS_ROPE_YARN, .n_rot = 64, .theta = 150000, .factor = 32,
                                                      .original_context = 4096, .no_truncate = true};
static const struct ds_rope_config llama3 = {.kind = DS_ROPE_LLAMA3, .n_rot = 128, .theta = 500000, .factor = 8,
                                             .original_context = 8192, .low_freq_factor = 1, .high_freq_factor = 4};
static const struct ds_rope_config proportional = {.kind = DS_ROPE_PROPORTIONAL, .n_rot = 256, .n_pairs = 32, .theta = 1e6};

struct table {
    float *cos, *sin;
};

static struct table make(const struct ds_rope_config *config, uint32_t first, uint32_t count) {
    const size_t bytes = (size_t)count * (config->n_rot / 2) * sizeof(float);
    struct table t = {malloc(bytes), malloc(bytes)};
    assert_non_null(t.cos);
    assert_non_null(t.sin);
    ds_rope_table(config, first, count, t.cos, t.sin);
    return t;
}

static void drop(struct table t) {
    free(t.cos);
    free(t.sin);
}

/* FNV-1a over little-endian bytes. */
static uint64_t hash_floats(uint64_t h, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        for (int k = 0; k < 4; k++) h = (h ^ (u >> (8 * k) & 0xff)) * 0x100000001b3u;
    }
    return h;
}

static void tables_have_the_pinned_bits(void **state) {
    (void)state;
    static const struct {
        const char *name;
        const struct ds_rope_config *config;
        uint64_t hash;
    } pinned[] = {
        {"plain", &plain, 0x8b512ad1e0e5193cu},
        {"small", &small, 0x3f82cf546ec3a99du},
        {"linear", &linear, 0xd7e2439da29bfe56u},
        {"yarn", &yarn, 0xbaa4529d0bf98c69u},
        {"yarn_exact_ends", &yarn_exact_ends, 0xfe6b876d3bf33c61u},
        {"llama3", &llama3, 0x38f59299c44afebeu},
        {"proportional", &proportional, 0x1d2302e3694bc4d9u},
    };
    int differing = 0;
    for (size_t i = 0; i < sizeof pinned / sizeof pinned[0]; i++) {
        const size_t n = (size_t)ROWS * (pinned[i].config->n_rot / 2);
        uint64_t h = 0xcbf29ce484222325u;
        for (uint32_t first = 0; first <= 1000000; first += 1000000) { /* short and long contexts */
            const struct table t = make(pinned[i].config, first, ROWS);
            h = hash_floats(hash_floats(h, t.cos, n), t.sin, n);
            drop(t);
        }
        if (h != pinned[i].hash) {
            print_error("%s: expected 0x%016llx, found 0x%016llx\n", pinned[i].name, (unsigned long long)pinned[i].hash,
                        (unsigned long long)h);
            differing++;
        }
    }
    assert_int_equal(differing, 0);
}

/* libm's binary64 results rounded to f32 are correctly rounded but for a few in 10^8; ours may differ about as often. */
static void sines_agree_with_libm_rounded_to_f32(void **state) {
    (void)state;
    const struct ds_rope_config *configs[] = {&plain, &small, &linear, &llama3};
    unsigned long tried = 0, differing = 0;
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++)
        for (uint32_t first = 0; first < 4000000; first += 777777) {
            float inv_freq[MAX_PAIRS], scale;
            ds_rope_inv_freq(configs[i], inv_freq, &scale);
            const uint32_t n_pairs = configs[i]->n_rot / 2;
            const struct table t = make(configs[i], first, 1024);
            for (uint32_t row = 0; row < 1024; row++)
                for (uint32_t k = 0; k < n_pairs; k++, tried += 2) {
                    const float angle = (float)(first + row) * inv_freq[k];
                    const float c = (float)cos((double)angle), s = (float)sin((double)angle);
                    assert_true(fabsf(t.cos[row * n_pairs + k] - c) <= 6e-8f && fabsf(t.sin[row * n_pairs + k] - s) <= 6e-8f);
                    differing += t.cos[row * n_pairs + k] != c;
                    differing += t.sin[row * n_pairs + k] != s;
                }
            drop(t);
        }
    print_message("# %lu of %lu values differ from libm's, by one unit in the last place\n", differing, tried);
    assert_true(differing * 1000000 <= tried);
}

static void the_functions_behind_are_near_libm(void **state) {
    (void)state;
    for (double x = -690; x < 690; x += 0.0137) assert_true(fabs(ds64_exp(x) / exp(x) - 1) < 1e-15);
    for (double x = 1e-5; x < 1e9; x *= 1.000137) assert_true(fabs(ds64_log(x) - log(x)) <= 1e-15 * fabs(log(x)));
    for (double e = 0; e <= 1; e += 1.0 / 4096) assert_true(fabs(ds64_pow(1e7, e) / pow(1e7, e) - 1) < 6e-15);
    assert_true(ds64_exp(0) == 1 && ds64_log(1) == 0 && ds64_pow(10000, 0) == 1);
    for (double x = -50; x < 50; x += 0.00137) {
        double s, c;
        ds64_sincos(x, &s, &c);
        assert_true(fabs(s - sin(x)) < 4e-16 && fabs(c - cos(x)) < 4e-16);
    }
}

/* A correctly rounded power, then its reciprocal: at most 1.5 units from the exact frequency. */
static void plain_frequencies_are_powers_of_theta(void **state) {
    (void)state;
    float inv_freq[MAX_PAIRS], scale;
    ds_rope_inv_freq(&plain, inv_freq, &scale);
    assert_true(scale == 1.0f && inv_freq[0] == 1.0f && inv_freq[32] == 1.0f / 1000.0f);
    for (int i = 0; i < 64; i++) assert_true(fabs(inv_freq[i] * pow(1e6, i / 64.0) - 1) < 1.5e-7);
}

static void linear_scaling_divides_by_the_factor(void **state) {
    (void)state;
    float scaled[MAX_PAIRS], unscaled[MAX_PAIRS], scale;
    const struct ds_rope_config same = {.n_rot = linear.n_rot, .theta = linear.theta};
    ds_rope_inv_freq(&linear, scaled, &scale);
    ds_rope_inv_freq(&same, unscaled, &scale);
    for (int i = 0; i < 128; i++) assert_true(scaled[i] == unscaled[i] / 8.0f);
}

static void yarn_keeps_fast_pairs_and_interpolates_slow_ones(void **state) {
    (void)state;
    float f[MAX_PAIRS], unscaled[MAX_PAIRS], scale, one;
    ds_rope_inv_freq(&yarn, f, &scale);
    ds_rope_inv_freq(&plain, unscaled, &one);
    assert_true(scale == (float)(0.1 * log(4.0) + 1.0));
    /* Ends of the ramp: pairs with 32 and with 1 turns over 32768 positions, rounded outwards. */
    const double per_pair = 128 / (2 * log(1e6)), turns = 32768 / (2 * acos(-1.0));
    const int low = (int)floor(per_pair * log(turns / 32)), high = (int)ceil(per_pair * log(turns));
    assert_true(low == 23 && high == 40);
    for (int i = 0; i < 64; i++) {
        const double ramp = fmin(fmax((i - low) / (double)(high - low), 0), 1);
        assert_true(fabs(f[i] / (unscaled[i] * (1 - ramp) + unscaled[i] / 4 * ramp) - 1) < 4e-7);
    }
    assert_true(f[low] == unscaled[low] && fabsf(f[high] * 4 / unscaled[high] - 1) < 2e-7f);
}

static void yarn_derives_its_attention_factor(void **state) {
    (void)state;
    float f[MAX_PAIRS], same[MAX_PAIRS], scale;
    struct ds_rope_config c = yarn;
    c.attention_factor = 1.25;
    ds_rope_inv_freq(&c, f, &scale);
    assert_true(scale == 1.25f);
    c = yarn, c.mscale = 1, c.mscale_all_dim = 0.5;
    ds_rope_inv_freq(&c, f, &scale);
    assert_true(scale == (float)((0.1 * log(4.0) + 1) / (0.05 * log(4.0) + 1)));
    c = yarn, c.factor = 0, c.max_context = 131072; /* 4 times the original context */
    ds_rope_inv_freq(&yarn, same, &scale);
    ds_rope_inv_freq(&c, f, &scale);
    assert_true(scale == (float)(0.1 * log(4.0) + 1));
    assert_memory_equal(f, same, 64 * sizeof(float));
}

static void the_attention_factor_multiplies_the_rounded_cosine(void **state) {
    (void)state;
    float inv_freq[MAX_PAIRS], scale;
    ds_rope_inv_freq(&yarn, inv_freq, &scale);
    const struct table t = make(&yarn, 5, 1);
    for (int i = 0; i < 64; i++) assert_true(t.cos[i] == (float)cos((double)(5.0f * inv_freq[i])) * scale);
    drop(t);
}

static void llama3_leaves_short_waves_and_stretches_long_ones(void **state) {
    (void)state;
    float f[MAX_PAIRS], unscaled[MAX_PAIRS], scale;
    const struct ds_rope_config same = {.n_rot = llama3.n_rot, .theta = llama3.theta};
    ds_rope_inv_freq(&llama3, f, &scale);
    ds_rope_inv_freq(&same, unscaled, &scale);
    int kept = 0, stretched = 0, between = 0;
    for (int i = 0; i < 64; i++) {
        const double wavelength = 2 * acos(-1.0) / unscaled[i];
        if (wavelength < 8192 / 4.0) {
            assert_true(f[i] == unscaled[i]);
            kept++;
        } else if (wavelength > 8192) {
            assert_true(f[i] == unscaled[i] / 8);
            stretched++;
        } else {
            const double smooth = (8192 / wavelength - 1) / 3;
            assert_true(fabs(f[i] / (((1 - smooth) / 8 + smooth) * unscaled[i]) - 1) < 1e-6);
            between++;
        }
    }
    assert_true(kept > 0 && stretched > 0 && between > 0);
}

static void proportional_turns_the_first_pairs_only(void **state) {
    (void)state;
    float f[MAX_PAIRS], unscaled[MAX_PAIRS], scale;
    const struct ds_rope_config same = {.n_rot = proportional.n_rot, .theta = proportional.theta};
    ds_rope_inv_freq(&proportional, f, &scale);
    ds_rope_inv_freq(&same, unscaled, &scale);
    for (int i = 0; i < 128; i++) assert_true(f[i] == (i < 32 ? unscaled[i] : 0.0f));
    const struct table t = make(&proportional, 12345, 1);
    for (int i = 32; i < 128; i++) assert_true(t.cos[i] == 1.0f && t.sin[i] == 0.0f);
    drop(t);
}

static void a_row_depends_on_its_position_alone(void **state) {
    (void)state;
    const struct table all = make(&yarn, 0, 300), one = make(&yarn, 257, 1), none = {NULL, NULL};
    assert_memory_equal(all.cos + 257 * 64, one.cos, 64 * sizeof(float));
    assert_memory_equal(all.sin + 257 * 64, one.sin, 64 * sizeof(float));
    ds_rope_table(&yarn, 0, 0, none.cos, none.sin); /* no rows: nothing is touched */
    drop(all);
    drop(one);
}

static void useless_parameters_do_no_harm(void **state) {
    (void)state;
    const struct ds_rope_config broken[] = {
        {.kind = DS_ROPE_YARN, .n_rot = 8, .theta = 1, .factor = 0},
        {.kind = DS_ROPE_YARN, .n_rot = 8, .theta = -5, .factor = NAN, .original_context = 1},
        {.kind = DS_ROPE_LLAMA3, .n_rot = 8, .theta = INFINITY, .factor = 1e300},
        {.kind = DS_ROPE_LINEAR, .n_rot = 8, .theta = NAN, .factor = 1e-300},
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) drop(make(&broken[i], 0xfffffff0u, 8));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_have_the_pinned_bits),
        cmocka_unit_test(sines_agree_with_libm_rounded_to_f32),
        cmocka_unit_test(the_functions_behind_are_near_libm),
        cmocka_unit_test(plain_frequencies_are_powers_of_theta),
        cmocka_unit_test(linear_scaling_divides_by_the_factor),
        cmocka_unit_test(yarn_keeps_fast_pairs_and_interpolates_slow_ones),
        cmocka_unit_test(yarn_derives_its_attention_factor),
        cmocka_unit_test(the_attention_factor_multiplies_the_rounded_cosine),
        cmocka_unit_test(llama3_leaves_short_waves_and_stretches_long_ones),
        cmocka_unit_test(proportional_turns_the_first_pairs_only),
        cmocka_unit_test(a_row_depends_on_its_position_alone),
        cmocka_unit_test(useless_parameters_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
