/* Pages of the cache: none is lost, none is given twice, and no sequence grows beyond its share. */
#include "check.h"
#include "model/pages.h"

enum { SEQUENCES = 5, PER_SEQUENCE = 7 };

/* Every page is either free, once, or in use at one place of one sequence. */
static void check_pages(const struct ds_pager *pager) {
    int seen[SEQUENCES * PER_SEQUENCE] = {0};
    for (uint32_t i = 0; i < pager->n_free; i++) seen[pager->free_pages[i]]++;
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        for (uint32_t i = 0; i < PER_SEQUENCE; i++) {
            const int32_t page = pager->table[s * PER_SEQUENCE + i];
            if (i < pager->lengths[s]) seen[page]++;
            else assert_int_equal(page, 0);
        }
    }
    for (uint32_t p = 0; p < pager->pages; p++) assert_int_equal(seen[p], 1);
}

static void a_random_walk_neither_loses_nor_duplicates_a_page(void **state) {
    (void)state;
    struct ds_pager pager;
    struct ds_error err;
    check_ok(ds_pager_create(SEQUENCES, PER_SEQUENCE, 0, &pager, &err), &err);
    uint32_t random = 1, held[SEQUENCES] = {0}; /* pages each sequence should have */
    bool taken[SEQUENCES] = {false};
    for (int step = 0; step < 20000; step++) {
        random = random * 1664525u + 1013904223u;
        const uint32_t s = (random >> 8) % SEQUENCES, positions = (random >> 12) % (PER_SEQUENCE * DS_PAGE + 1);
        const uint32_t needed = (positions + DS_PAGE - 1) / DS_PAGE;
        const uint64_t before = pager.generation;
        const uint32_t held_before = held[s];
        if (!taken[s]) {
            const int32_t got = ds_pager_take_sequence(&pager);
            assert_true(got >= 0 && !taken[got]);
            taken[got] = true;
            assert_int_equal(pager.lengths[got], 0);
            continue;
        }
        switch ((random >> 28) % 4) {
        case 0:
            ds_pager_truncate(&pager, (int32_t)s, positions);
            held[s] = DS_MIN(held[s], needed);
            break;
        case 1:
            ds_pager_release_sequence(&pager, (int32_t)s);
            held[s] = 0;
            taken[s] = false;
            break;
        default:
            check_ok(ds_pager_reserve(&pager, (int32_t)s, positions, &err), &err);
            held[s] = DS_MAX(held[s], needed);
        }
        assert_int_equal(pager.lengths[s], held[s]);
        assert_true((pager.generation != before) == (held[s] != held_before)); /* devices copy the table when, and only when, it changed */
        check_pages(&pager);
    }
    ds_pager_free(&pager);
}

static void a_reservation_keeps_the_pages_that_are_there(void **state) {
    (void)state;
    struct ds_pager pager;
    struct ds_error err;
    check_ok(ds_pager_create(2, 4, 0, &pager, &err), &err);
    assert_int_equal(ds_pager_take_sequence(&pager), 0);
    assert_int_equal(ds_pager_take_sequence(&pager), 1);
    check_ok(ds_pager_reserve(&pager, 0, 65, &err), &err);
    check_ok(ds_pager_reserve(&pager, 1, 1, &err), &err);
    const int32_t first = pager.table[0], second = pager.table[1];
    check_ok(ds_pager_reserve(&pager, 0, 256, &err), &err);
    assert_int_equal(pager.table[0], first);
    assert_int_equal(pager.table[1], second);
    ds_pager_truncate(&pager, 0, 64);
    assert_int_equal(pager.table[0], first);
    assert_int_equal(pager.lengths[0], 1);
    ds_pager_free(&pager);
}

static void more_positions_than_a_sequence_may_hold_are_refused(void **state) {
    (void)state;
    struct ds_pager pager;
    struct ds_error err;
    check_ok(ds_pager_create(2, 4, 0, &pager, &err), &err);
    (void)ds_pager_take_sequence(&pager);
    check_ok(ds_pager_reserve(&pager, 0, 100, &err), &err);
    assert_int_equal(ds_pager_reserve(&pager, 0, 4 * DS_PAGE + 1, &err), DS_ERROR_LIMIT);
    check_contains(err.message, "257 positions");
    check_contains(err.message, "holds 256");
    assert_int_equal(pager.lengths[0], 2);
    ds_pager_free(&pager);
}

static void when_all_sequences_are_taken_there_is_none(void **state) {
    (void)state;
    struct ds_pager pager;
    struct ds_error err;
    check_ok(ds_pager_create(2, 1, 0, &pager, &err), &err);
    assert_int_equal(ds_pager_take_sequence(&pager), 0);
    assert_int_equal(ds_pager_take_sequence(&pager), 1);
    assert_int_equal(ds_pager_take_sequence(&pager), -1);
    ds_pager_release_sequence(&pager, 0);
    assert_int_equal(ds_pager_take_sequence(&pager), 0);
    ds_pager_free(&pager);
}

static void a_cache_larger_than_any_memory_is_refused_before_it_is_asked_for(void **state) {
    (void)state;
    struct ds_cache_memory cache;
    struct ds_error err;
    assert_int_equal(ds_cache_plan(&cache, NULL, 1024, 1024, 1024, INT32_MAX, false, &err), DS_ERROR_MEMORY);
    check_contains(err.message, "1024 layers");
    assert_null(cache.layers);
    ds_cache_free(&cache);
}

static void keys_and_values_of_all_layers_lie_apart(void **state) {
    (void)state;
    struct ds_cache_memory cache;
    struct ds_error err;
    check_ok(ds_cache_plan(&cache, NULL, 3, 2, 16, 5, true, &err), &err);
    const uint64_t one = 5 * ds_cache_page_bytes(&cache.layers[0]);
    assert_int_equal(one, 5 * 2 * 16 * DS_PAGE * 2);
    for (uint32_t l = 0; l < 3; l++) {
        assert_int_equal(cache.layers[l].k.offset, 2 * l * one);
        assert_int_equal(cache.layers[l].v.offset, (2 * l + 1) * one);
    }
    assert_int_equal(cache.planned.bytes, 6 * one);
    ds_cache_free(&cache);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_random_walk_neither_loses_nor_duplicates_a_page),
        cmocka_unit_test(a_reservation_keeps_the_pages_that_are_there),
        cmocka_unit_test(more_positions_than_a_sequence_may_hold_are_refused),
        cmocka_unit_test(when_all_sequences_are_taken_there_is_none),
        cmocka_unit_test(a_cache_larger_than_any_memory_is_refused_before_it_is_asked_for),
        cmocka_unit_test(keys_and_values_of_all_layers_lie_apart),
    };
    return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
