/* Stored types widen to exactly the values that the GGUF definition gives. */
#include "base/bytes.h"
#include "block_hashes.h"
#include "ckpt/blocks.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* The same generator as block_hashes.py. */
static void fill_random(uint8_t *data, size_t bytes, uint64_t seed) {
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t z = seed += UINT64_C(0x9E3779B97F4A7C15);
        z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
        z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
        z ^= z >> 31;
        for (size_t j = 0; j < 8 && i + j < bytes; j++) data[i + j] = (uint8_t)(z >> 8 * j);
    }
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits & 0x7FFFFFFF) > 0x7F800000 ? 0x7FC00000 : bits; /* all NaNs count as one */
}

static uint64_t hash_of(const float *values, size_t count) {
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < count; i++) hash = (hash ^ bits_of(values[i])) * UINT64_C(0x100000001B3);
    return hash;
}

static void every_quantised_type_equals_the_public_definition_bit_for_bit(void **state) {
    (void)state;
    static const struct {
        ds_type type;
        uint64_t hash;
    } expected[] = {
#define CASE(suffix, value) {DS_TYPE_##suffix, value},
        BLOCK_HASHES(CASE)
#undef CASE
    };
    for (size_t c = 0; c < DS_COUNT(expected); c++) {
        const struct ds_type_info *info = ds_type_get(expected[c].type);
        const size_t cols = (size_t)BLOCK_HASH_BLOCKS * info->block;
        /* One byte off, because files align nothing to our liking. */
        uint8_t *raw = malloc((size_t)BLOCK_HASH_BLOCKS * info->bytes + 1);
        float *values = malloc(cols * sizeof *values);
        assert_non_null(raw);
        assert_non_null(values);
        fill_random(raw + 1, (size_t)BLOCK_HASH_BLOCKS * info->bytes, info->gguf_id);
        for (size_t i = 0; i < BLOCK_HASH_BLOCKS; i++) raw[1 + i * info->bytes] = (uint8_t)i;
        ds_dequantize_row(expected[c].type, raw + 1, cols, values);
        if (hash_of(values, cols) != expected[c].hash) fail_msg("%s differs from gguf-py", info->name);
        free(values);
        free(raw);
    }
}

static void every_f16_widens_to_the_number_it_stands_for(void **state) {
    (void)state;
    for (uint32_t half = 0; half <= UINT16_MAX; half++) {
        const uint8_t raw[2] = {(uint8_t)half, (uint8_t)(half >> 8)};
        float value;
        ds_dequantize_row(DS_TYPE_F16, raw, 1, &value);
        const int exponent = (int)(half >> 10 & 31), mantissa = (int)(half & 1023);
        double expected = exponent == 31  ? (mantissa ? (double)NAN : (double)INFINITY)
                          : exponent == 0 ? ldexp(mantissa, -24)
                                          : ldexp(1024 + mantissa, exponent - 25);
        if (half & 0x8000) expected = -expected;
        assert_int_equal(bits_of(value), bits_of((float)expected));
    }
}

static void a_bf16_is_the_upper_half_of_an_f32(void **state) {
    (void)state;
    static const uint8_t raw[] = {0x80, 0x3F, 0x01, 0x00, 0x7F, 0xFF, 0x80, 0x7F};
    static const uint32_t expected[] = {0x3F800000, 0x00010000, 0xFF7F0000, 0x7F800000};
    float values[4];
    ds_dequantize_row(DS_TYPE_BF16, raw, 4, values);
    for (int i = 0; i < 4; i++) assert_int_equal(bits_of(values[i]), expected[i]);
}

static void unaligned_f32_keeps_its_bits(void **state) {
    (void)state;
    static const uint8_t raw[] = {0xAA, 0x01, 0x00, 0x00, 0x80, 0x00, 0x00, 0xC0, 0x3F};
    float values[2];
    ds_dequantize_row(DS_TYPE_F32, raw + 1, 2, values);
    assert_int_equal(bits_of(values[0]), 0x80000001); /* a denormal */
    assert_true(values[1] == 1.5f);
}

static void sizes_are_exact_or_refused(void **state) {
    (void)state;
    uint64_t bytes;
    assert_true(ds_type_size(DS_TYPE_Q4_K, 3, 512, &bytes));
    assert_int_equal(bytes, 3 * 2 * 144);
    assert_true(ds_type_size(DS_TYPE_F32, 0, 5, &bytes));
    assert_int_equal(bytes, 0);
    assert_false(ds_type_size(DS_TYPE_Q4_K, 3, 255, &bytes));              /* not a whole number of blocks */
    assert_false(ds_type_size(DS_TYPE_F32, UINT64_C(1) << 61, 1, &bytes)); /* 2^63 */
    assert_true(ds_type_size(DS_TYPE_I64, (UINT64_C(1) << 60) - 1, 1, &bytes));
    assert_false(ds_type_size(DS_TYPE_F16, UINT64_C(1) << 40, UINT64_C(1) << 40, &bytes)); /* wraps 64 bits */
}

static void types_are_found_by_id_and_by_name(void **state) {
    (void)state;
    ds_type type;
    for (unsigned i = 0; i < DS_TYPE_COUNT; i++) {
        const struct ds_type_info *info = ds_type_get((ds_type)i);
        assert_true(ds_type_from_gguf(info->gguf_id, &type) && type == i);
        assert_true(ds_type_from_name(info->name, &type) && type == i);
    }
    assert_false(ds_type_from_gguf(4, &type)); /* Q4_2, withdrawn from the format */
    assert_false(ds_type_from_gguf(UINT32_MAX, &type));
    assert_false(ds_type_from_name("q4", &type));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_quantised_type_equals_the_public_definition_bit_for_bit),
        cmocka_unit_test(every_f16_widens_to_the_number_it_stands_for),
        cmocka_unit_test(a_bf16_is_the_upper_half_of_an_f32),
        cmocka_unit_test(unaligned_f32_keeps_its_bits),
        cmocka_unit_test(sizes_are_exact_or_refused),
        cmocka_unit_test(types_are_found_by_id_and_by_name),
    };
    return cmocka_run_group_tests_name("blocks", tests, NULL, NULL);
}
