/* Philox 4x32-10 is the published cipher, and its counter is laid out as docs/numerics.md says. */
#include "base/philox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* Known answers published with Random123 (tests/kat_vectors): counter, key, words. */
static const uint32_t answers[][10] = {
    {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
    {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
    {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
};

static void the_published_answers_come_out(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        const uint64_t key = (uint64_t)answers[i][5] << 32 | answers[i][4];
        uint32_t out[4];
        ds_philox(key, answers[i], out);
        assert_memory_equal(out, answers[i] + 6, sizeof out);
    }
}

static void a_block_may_be_made_in_place(void **state) {
    (void)state;
    uint32_t block[4] = {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344};
    ds_philox(0x299f31d0a4093822u, block, block);
    assert_memory_equal(block, answers[2] + 6, sizeof block);
}

/* id >> 2 picks the block, id & 3 the word in it. */
static void a_word_is_found_by_id_position_purpose_and_stream(void **state) {
    (void)state;
    const uint32_t first_id = 0x043f6a88u << 2;
    const uint32_t counter[4] = {0x043f6a88, 0x85a308d3, DS_PHILOX_RESIDUAL, 0x03707344};
    uint32_t block[4];
    ds_philox(0x299f31d0a4093822u, counter, block);
    for (uint32_t k = 0; k < 4; k++)
        assert_int_equal(ds_philox_word(0x299f31d0a4093822u, first_id + k, 0x85a308d3, DS_PHILOX_RESIDUAL, 0x03707344), block[k]);
    assert_int_equal(ds_philox_word(0, 0, 0, DS_PHILOX_TARGET, 0), answers[0][6]);
    assert_int_equal(ds_philox_word(0, 3, 0, DS_PHILOX_TARGET, 0), answers[0][9]);
}

static void every_part_of_the_counter_and_the_key_matters(void **state) {
    (void)state;
    const uint32_t word = ds_philox_word(1, 2, 3, 0, 4);
    assert_int_not_equal(word, ds_philox_word(1 + (1ull << 32), 2, 3, 0, 4));
    assert_int_not_equal(word, ds_philox_word(2, 2, 3, 0, 4));
    assert_int_not_equal(word, ds_philox_word(1, 1, 3, 0, 4));
    assert_int_not_equal(word, ds_philox_word(1, 6, 3, 0, 4));
    assert_int_not_equal(word, ds_philox_word(1, 2, 2, 0, 4));
    assert_int_not_equal(word, ds_philox_word(1, 2, 3, 1, 4));
    assert_int_not_equal(word, ds_philox_word(1, 2, 3, 0, 5));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_answers_come_out),
        cmocka_unit_test(a_block_may_be_made_in_place),
        cmocka_unit_test(a_word_is_found_by_id_position_purpose_and_stream),
        cmocka_unit_test(every_part_of_the_counter_and_the_key_matters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
