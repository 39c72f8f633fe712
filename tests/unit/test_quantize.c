/* Quantised blocks: as good as those of the field's own quantiser, the same on every machine, defined for every finite weight. */
#include "base/mix.h"
#include "ckpt/quantize.h"
#include "check.h"
#include "ckpt/checkpoint.h"

#include <math.h>

static const ds_type writable[] = {DS_TYPE_F32,  DS_TYPE_F16,  DS_TYPE_BF16, DS_TYPE_Q8_0,
                                   DS_TYPE_Q4_0, DS_TYPE_Q4_K, DS_TYPE_Q5_K, DS_TYPE_Q6_K};

/* Roughly normal, as weights are: sums of four uniform numbers. */
static void fill(float *x, size_t n, uint32_t seed, float size) {
    for (size_t i = 0; i < n; i++) {
        float sum = 0;
        for (int k = 0; k < 4; k++) {
            seed = seed * 1664525u + 1013904223u;
            sum += (float)(seed >> 8) / 16777216.0f - 0.5f;
        }
        x[i] = size * sum;
    }
}

static double error_of(ds_type type, const void *stored, const float *x, uint64_t n) {
    float *y = malloc((size_t)n * sizeof *y);
    assert_non_null(y);
    ds_dequantize_row(type, stored, n, y);
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) sum += ((double)y[i] - (double)x[i]) * ((double)y[i] - (double)x[i]);
    free(y);
    return sum;
}

/* Quantises and returns the squared error. */
static double own_error(ds_type type, const float *x, uint64_t n) {
    uint64_t bytes;
    assert_true(ds_type_size(type, 1, n, &bytes));
    uint8_t *stored = malloc((size_t)bytes);
    assert_non_null(stored);
    ds_quantize_row(type, x, n, stored);
    const double error = error_of(type, stored, x, n);
    free(stored);
    return error;
}

/* --- against files of the field's quantiser --- */

/* The original of a tensor: the GGUF names of the tiny target, translated. */
static const struct ds_ckpt_tensor *original_of(const struct ds_ckpt *originals, const char *name) {
    static const char *const parts[][2] = {{"attn_q", "self_attn.q_proj"}, {"attn_k", "self_attn.k_proj"}, {"attn_v", "self_attn.v_proj"},
                                           {"attn_output", "self_attn.o_proj"}, {"ffn_gate", "mlp.gate_proj"}, {"ffn_up", "mlp.up_proj"},
                                           {"ffn_down", "mlp.down_proj"}};
    if (strcmp(name, "token_embd.weight") == 0) return ds_ckpt_find(originals, "model.embed_tokens.weight");
    for (unsigned layer = 0; layer < 8; layer++) {
        for (size_t i = 0; i < DS_COUNT(parts); i++) {
            char text[96];
            snprintf(text, sizeof text, "blk.%u.%s.weight", layer, parts[i][0]);
            if (strcmp(text, name) != 0) continue;
            snprintf(text, sizeof text, "model.layers.%u.%s.weight", layer, parts[i][1]);
            return ds_ckpt_find(originals, text);
        }
    }
    return NULL;
}

static size_t compare_with(const char *file) {
    char path[512];
    struct ds_error err;
    struct ds_ckpt *theirs, *originals;
    snprintf(path, sizeof path, "%s/tests/golden/gguf/%s/model.gguf", DSPARK_SOURCE_ROOT, file);
    check_ok(ds_ckpt_open(path, &theirs, &err), &err);
    check_ok(ds_ckpt_open(DSPARK_SOURCE_ROOT "/models/tiny/target", &originals, &err), &err);
    size_t compared = 0;
    for (size_t i = 0; i < ds_ckpt_tensor_count(theirs); i++) {
        const struct ds_ckpt_tensor *tensor = ds_ckpt_tensor_at(theirs, i);
        if (tensor->dims < 2) continue;
        const struct ds_ckpt_tensor *original = original_of(originals, tensor->name);
        assert_non_null(original);
        const uint64_t n = original->shape[0] * original->shape[1];
        float *x = malloc((size_t)n * sizeof *x);
        assert_non_null(x);
        ds_dequantize_row(original->type, original->data, n, x);
        const double ours = own_error(tensor->type, x, n), field = error_of(tensor->type, tensor->data, x, n);
        if (!(ours <= field))
            fail_msg("%s as %s: squared error %g, the field's quantiser has %g", tensor->name, ds_type_get(tensor->type)->name, ours, field);
        free(x);
        compared++;
    }
    ds_ckpt_close(originals);
    ds_ckpt_close(theirs);
    return compared;
}

static void no_tensor_has_a_larger_error_than_in_the_fields_q4_k_m_file(void **state) {
    (void)state;
    assert_int_equal(compare_with("target-Q4_K_M"), 57);
}

static void no_tensor_has_a_larger_error_than_in_the_fields_q8_0_file(void **state) {
    (void)state;
    assert_int_equal(compare_with("target-Q8_0"), 57);
}

/* --- against simple rounding, for types of which no such file is here --- */

static double scaled_rounding_error(const float *x, int n, float low, float high) {
    float largest = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(largest)) largest = x[i];
    const float scale = largest / low;
    double sum = 0;
    for (int i = 0; i < n; i++) {
        const float level = scale != 0 ? fminf(fmaxf(rintf(x[i] / scale), low), high) : 0;
        sum += ((double)x[i] - (double)(scale * level)) * ((double)x[i] - (double)(scale * level));
    }
    return sum;
}

static void four_bits_err_less_than_rounding_by_the_largest_element(void **state) {
    (void)state;
    float x[4096];
    fill(x, DS_COUNT(x), 1, 0.1f);
    double simple = 0;
    for (size_t i = 0; i < DS_COUNT(x); i += 32) simple += scaled_rounding_error(x + i, 32, -8, 7);
    assert_true(own_error(DS_TYPE_Q4_0, x, DS_COUNT(x)) < 0.9 * simple);
}

static void a_bit_more_divides_the_error_by_nearly_four(void **state) {
    (void)state;
    float x[4096];
    fill(x, DS_COUNT(x), 2, 0.1f);
    const double four = own_error(DS_TYPE_Q4_K, x, DS_COUNT(x)), five = own_error(DS_TYPE_Q5_K, x, DS_COUNT(x));
    assert_true(five < four / 3.5);
    assert_true(own_error(DS_TYPE_Q6_K, x, DS_COUNT(x)) < five / 2.5);
    assert_true(own_error(DS_TYPE_Q8_0, x, DS_COUNT(x)) < five / 20);
}

/* --- properties --- */

static void floats_are_stored_as_they_are_or_rounded_to_even(void **state) {
    (void)state;
    const float x[] = {0.0f, -0.0f, 1.0f, 1.00390625f, 1.01171875f, 65504.0f, 1e-40f, -3.0e38f};
    float back[DS_COUNT(x)];
    uint8_t stored[4 * DS_COUNT(x)];
    ds_quantize_row(DS_TYPE_F32, x, DS_COUNT(x), stored);
    ds_dequantize_row(DS_TYPE_F32, stored, DS_COUNT(x), back);
    assert_memory_equal(back, x, sizeof x);
    ds_quantize_row(DS_TYPE_BF16, x, DS_COUNT(x), stored);
    ds_dequantize_row(DS_TYPE_BF16, stored, DS_COUNT(x), back);
    assert_true(back[3] == 1.0f && back[4] == 1.015625f); /* ties */
    ds_quantize_row(DS_TYPE_F16, x, DS_COUNT(x), stored);
    ds_dequantize_row(DS_TYPE_F16, stored, DS_COUNT(x), back);
    assert_true(back[3] == x[3] && back[5] == 65504.0f);
}

static void every_float_that_a_format_holds_survives(void **state) {
    (void)state;
    static const ds_type types[] = {DS_TYPE_F16, DS_TYPE_BF16};
    for (size_t t = 0; t < DS_COUNT(types); t++) {
        for (uint32_t bits = 0; bits < 0x10000; bits++) {
            const uint8_t stored[2] = {(uint8_t)bits, (uint8_t)(bits >> 8)};
            uint8_t again[2];
            float value;
            ds_dequantize_row(types[t], stored, 1, &value);
            if (!isfinite(value)) continue;
            ds_quantize_row(types[t], &value, 1, again);
            assert_memory_equal(again, stored, 2);
        }
    }
}

static void zeros_stay_zeros(void **state) {
    (void)state;
    const float x[512] = {0};
    for (size_t t = 0; t < DS_COUNT(writable); t++) assert_true(own_error(writable[t], x, DS_COUNT(x)) == 0);
}

static void a_block_of_equal_elements_is_nearly_exact(void **state) {
    (void)state;
    for (size_t t = 0; t < DS_COUNT(writable); t++) {
        for (int sign = -1; sign <= 1; sign += 2) {
            float x[256];
            for (size_t i = 0; i < DS_COUNT(x); i++) x[i] = 0.37f * (float)sign;
            assert_true(own_error(writable[t], x, DS_COUNT(x)) <= 256 * pow(0.37 * 0.005, 2));
        }
    }
}

static void absurd_weights_give_finite_blocks(void **state) {
    (void)state;
    static const float sizes[] = {1e-45f, 1e-38f, 1e-30f, 1e-9f, 1e-6f, 1e4f, 1e6f, 1e20f, 3e38f};
    for (size_t t = 0; t < DS_COUNT(writable); t++) {
        for (size_t s = 0; s < DS_COUNT(sizes); s++) {
            float x[512], back[512];
            uint8_t stored[4 * DS_COUNT(x)];
            fill(x, DS_COUNT(x), (uint32_t)s, sizes[s] / 2);
            for (size_t i = 256; i < DS_COUNT(x); i += 3) x[i] = s % 2 ? 0.0f : sizes[DS_COUNT(sizes) - 1 - s];
            ds_quantize_row(writable[t], x, DS_COUNT(x), stored);
            ds_dequantize_row(writable[t], stored, DS_COUNT(x), back);
            for (size_t i = 0; i < DS_COUNT(x); i++)
                if (!isfinite(back[i])) fail_msg("%s, weights near %g: element %zu", ds_type_get(writable[t])->name, (double)sizes[s], i);
        }
    }
}

static void what_cannot_be_stored_is_found(void **state) {
    (void)state;
    float x[256] = {0};
    uint64_t bad = 0;
    for (size_t t = 0; t < DS_COUNT(writable); t++) assert_true(ds_row_fits(writable[t], x, DS_COUNT(x), &bad));
    x[100] = 70000.0f;
    assert_false(ds_row_fits(DS_TYPE_F16, x, DS_COUNT(x), &bad));
    assert_int_equal(bad, 100);
    assert_true(ds_row_fits(DS_TYPE_Q4_K, x, DS_COUNT(x), &bad));
    x[7] = NAN;
    assert_true(ds_row_fits(DS_TYPE_BF16, x, DS_COUNT(x), &bad));
    assert_false(ds_row_fits(DS_TYPE_Q8_0, x, DS_COUNT(x), &bad));
    assert_int_equal(bad, 7);
}

/* Pinned: other compilers and processors must find the same blocks. */
static void blocks_have_the_same_bits_everywhere(void **state) {
    (void)state;
    static const struct {
        ds_type type;
        uint64_t hash;
    } expected[] = {
        {DS_TYPE_Q8_0, UINT64_C(0xbd8ea8a23f527075)},
        {DS_TYPE_Q4_0, UINT64_C(0x06ecf644cd9dee7c)},
        {DS_TYPE_Q4_K, UINT64_C(0x012be580284a9255)},
        {DS_TYPE_Q5_K, UINT64_C(0x8b5edc86efe21f35)},
        {DS_TYPE_Q6_K, UINT64_C(0x8c97c3de2aa96671)},
    };
    float x[4096];
    fill(x, DS_COUNT(x), 3, 0.05f);
    for (size_t t = 0; t < DS_COUNT(expected); t++) {
        uint64_t bytes;
        uint8_t stored[4096 * 2];
        assert_true(ds_type_size(expected[t].type, 1, DS_COUNT(x), &bytes));
        ds_quantize_row(expected[t].type, x, DS_COUNT(x), stored);
        const uint64_t hash = ds_hash_mix(DS_HASH_START, stored, (size_t)bytes);
        if (hash != expected[t].hash)
            fail_msg("%s: expected 0x%016llx, found 0x%016llx", ds_type_get(expected[t].type)->name, (unsigned long long)expected[t].hash,
                     (unsigned long long)hash);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_tensor_has_a_larger_error_than_in_the_fields_q4_k_m_file),
        cmocka_unit_test(no_tensor_has_a_larger_error_than_in_the_fields_q8_0_file),
        cmocka_unit_test(four_bits_err_less_than_rounding_by_the_largest_element),
        cmocka_unit_test(a_bit_more_divides_the_error_by_nearly_four),
        cmocka_unit_test(floats_are_stored_as_they_are_or_rounded_to_even),
        cmocka_unit_test(every_float_that_a_format_holds_survives),
        cmocka_unit_test(zeros_stay_zeros),
        cmocka_unit_test(a_block_of_equal_elements_is_nearly_exact),
        cmocka_unit_test(absurd_weights_give_finite_blocks),
        cmocka_unit_test(what_cannot_be_stored_is_found),
        cmocka_unit_test(blocks_have_the_same_bits_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
