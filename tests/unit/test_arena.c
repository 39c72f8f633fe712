/* The arena gives zeroed, aligned memory that lives until all of it goes. */
#include "base/arena.h"
#include "check.h"

static void memory_is_zeroed_aligned_and_apart(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 15, 16, 17, 1000, 65535, 65536, 65537, 1000000, 3};
    struct ds_arena arena = {0};
    unsigned char *blocks[DS_COUNT(sizes)];
    for (size_t i = 0; i < DS_COUNT(sizes); i++) {
        blocks[i] = ds_arena_alloc(&arena, sizes[i]);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        for (size_t j = 0; j < sizes[i]; j++) assert_int_equal(blocks[i][j], 0);
        memset(blocks[i], (int)i + 1, sizes[i]);
    }
    for (size_t i = 0; i < DS_COUNT(sizes); i++) {
        for (size_t j = 0; j < sizes[i]; j++) assert_int_equal(blocks[i][j], i + 1);
    }
    ds_arena_free(&arena);
}

static void sizes_that_overflow_give_nothing(void **state) {
    (void)state;
    struct ds_arena arena = {0};
    assert_null(ds_arena_alloc(&arena, SIZE_MAX));
    assert_null(ds_arena_array(&arena, SIZE_MAX / 2, 4));
    assert_null(ds_arena_array(&arena, (size_t)1 << 33, (size_t)1 << 33));
    assert_null(ds_arena_copy(&arena, "", SIZE_MAX));
    assert_int_equal(arena.total, 0);
    ds_arena_free(&arena);
}

static void copies_end_in_nul_and_keep_nul_inside(void **state) {
    (void)state;
    struct ds_arena arena = {0};
    const char *copy = ds_arena_copy(&arena, "a\0b", 3);
    assert_memory_equal(copy, "a\0b", 4);
    assert_string_equal(ds_arena_copy(&arena, NULL, 0), "");
    ds_arena_free(&arena);
}

static void an_arena_serves_again_after_it_was_freed(void **state) {
    (void)state;
    struct ds_arena arena = {0};
    assert_non_null(ds_arena_alloc(&arena, 100));
    ds_arena_free(&arena);
    assert_int_equal(arena.total, 0);
    assert_non_null(ds_arena_alloc(&arena, 100));
    ds_arena_free(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_aligned_and_apart),
        cmocka_unit_test(sizes_that_overflow_give_nothing),
        cmocka_unit_test(copies_end_in_nul_and_keep_nul_inside),
        cmocka_unit_test(an_arena_serves_again_after_it_was_freed),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
