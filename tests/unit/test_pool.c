/* The thread pool of device `cpu`. */
#include "pool.h"

#include "base/os.h"

#include <fenv.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct ds_pool *create(unsigned threads) {
    struct ds_pool *pool;
    struct ds_error err;
    assert_int_equal(ds_pool_create(threads, &pool, &err), DS_OK);
    return pool;
}

static void run(struct ds_pool *pool, ds_pool_fn fn, void *context) {
    struct ds_error err;
    assert_int_equal(ds_pool_run(pool, fn, context, &err), DS_OK);
}

/* --- every member runs once, and what it wrote is seen --- */

enum { MOST = 64, ITEMS = 1000 };

struct marks {
    unsigned calls[MOST], members[MOST];
    unsigned items[ITEMS]; /* plain: shares do not overlap, and a run's end orders them before the caller's reads */
};

static void mark(void *context, unsigned member, unsigned members) {
    struct marks *marks = context;
    uint64_t i, end;
    marks->calls[member]++;
    marks->members[member] = members;
    ds_pool_share(ITEMS, member, members, &i, &end);
    for (; i < end; i++) marks->items[i]++;
}

static void every_member_does_its_share_once_with_any_number_of_threads(void **state) {
    (void)state;
    static const unsigned counts[] = {1, 2, 3, 5, 8, 17, MOST};
    for (size_t c = 0; c < DS_COUNT(counts); c++) {
        struct ds_pool *pool = create(counts[c]);
        assert_int_equal(ds_pool_threads(pool), counts[c]);
        struct marks marks = {0};
        enum { RUNS = 50 };
        for (int i = 0; i < RUNS; i++) run(pool, mark, &marks);
        for (unsigned i = 0; i < MOST; i++) {
            assert_int_equal(marks.calls[i], i < counts[c] ? RUNS : 0);
            assert_int_equal(marks.members[i], i < counts[c] ? counts[c] : 0);
        }
        for (int i = 0; i < ITEMS; i++) assert_int_equal(marks.items[i], RUNS);
        ds_pool_destroy(pool);
    }
}

static void shares_are_contiguous_and_even(void **state) {
    (void)state;
    for (unsigned members = 1; members <= 9; members++) {
        for (uint64_t count = 0; count < 40; count++) {
            uint64_t next = 0;
            for (unsigned member = 0; member < members; member++) {
                uint64_t first, end;
                ds_pool_share(count, member, members, &first, &end);
                assert_int_equal(first, next);
                assert_true(end - first == count / members || end - first == count / members + 1);
                next = end;
            }
            assert_int_equal(next, count);
        }
    }
}

/* --- barriers --- */

enum { ROUNDS = 200 };
struct relay {
    struct ds_pool *pool;
    unsigned value[2][MOST]; /* plain: a barrier lies between writing and reading */
    atomic_uint wrong;
};

/* Everyone adds up what all wrote in the round before. */
static void relay(void *context, unsigned member, unsigned members) {
    struct relay *relay = context;
    for (unsigned round = 0; round < ROUNDS; round++) {
        relay->value[round % 2][member] = round + member;
        ds_pool_barrier(relay->pool);
        unsigned sum = 0;
        for (unsigned i = 0; i < members; i++) sum += relay->value[round % 2][i];
        if (sum != members * round + members * (members - 1) / 2) atomic_fetch_add(&relay->wrong, 1);
    }
}

static void a_barrier_orders_all_members(void **state) {
    (void)state;
    static const unsigned counts[] = {1, 2, 3, 16, MOST};
    for (size_t c = 0; c < DS_COUNT(counts); c++) {
        struct relay context = {.pool = create(counts[c])};
        run(context.pool, relay, &context);
        assert_int_equal(atomic_load(&context.wrong), 0);
        ds_pool_destroy(context.pool);
    }
}

/* --- misuse --- */

struct nested {
    struct ds_pool *pool;
    ds_status status;
    struct ds_error err;
};

static void nothing(void *context, unsigned member, unsigned members) {
    (void)context;
    (void)member;
    (void)members;
}

static void run_inside(void *context, unsigned member, unsigned members) {
    struct nested *nested = context;
    (void)members;
    if (member == 0) nested->status = ds_pool_run(nested->pool, nothing, NULL, &nested->err);
}

static void a_run_inside_a_run_is_refused_and_the_pool_still_works(void **state) {
    (void)state;
    struct nested nested = {.pool = create(3)};
    run(nested.pool, run_inside, &nested);
    assert_int_equal(nested.status, DS_ERROR_ARGUMENT);
    assert_non_null(strstr(nested.err.message, "another one is going on"));
    struct marks marks = {0};
    run(nested.pool, mark, &marks);
    assert_int_equal(marks.calls[2], 1);
    ds_pool_destroy(nested.pool);
}

static void too_many_threads_are_refused(void **state) {
    (void)state;
    struct ds_pool *pool = (struct ds_pool *)(void *)state; /* must become NULL */
    struct ds_error err;
    assert_int_equal(ds_pool_create(DS_POOL_MAX_THREADS + 1, &pool, &err), DS_ERROR_ARGUMENT);
    assert_null(pool);
    assert_non_null(strstr(err.message, "1025"));
    ds_pool_destroy(NULL);
}

/* --- life --- */

static void pools_come_and_go(void **state) {
    (void)state;
    for (unsigned i = 0; i < 300; i++) {
        struct ds_pool *pool = create(1 + i % 7);
        struct marks marks = {0};
        if (i % 3) run(pool, mark, &marks);
        ds_pool_destroy(pool);
    }
}

/* Workers that have gone to sleep between runs wake up again. */
static void a_pool_that_slept_runs_again(void **state) {
    (void)state;
    struct ds_pool *pool = create(4);
    struct marks marks = {0};
    for (int i = 0; i < 20; i++) {
        const double until = ds_os_seconds() + 2e-3;
        while (ds_os_seconds() < until) {}
        run(pool, mark, &marks);
    }
    for (int i = 0; i < 4; i++) assert_int_equal(marks.calls[i], 20);
    ds_pool_destroy(pool);
}

/* --- the float state --- */

/* 1 when this thread rounds to nearest: a little more than 1 is then 1. (fegetround asks the x87 unit, which nobody uses.) */
static int rounds_to_nearest(void) {
    volatile float one = 1.0f, little = 1e-9f;
    return one + little == 1.0f && -one - little == -1.0f;
}

static void note_rounding(void *context, unsigned member, unsigned members) {
    int *nearest = context;
    (void)members;
    nearest[member] = rounds_to_nearest();
}

static void members_round_to_nearest_and_the_caller_keeps_its_own_mode(void **state) {
    (void)state;
    struct ds_pool *pool = create(3);
    int nearest[3] = {-1, -1, -1};
    fesetround(FE_UPWARD);
    struct ds_error err;
    const ds_status status = ds_pool_run(pool, note_rounding, nearest, &err);
    const int after = rounds_to_nearest();
    fesetround(FE_TONEAREST);
    assert_int_equal(status, DS_OK);
    assert_int_equal(after, 0);
    for (int i = 0; i < 3; i++) assert_int_equal(nearest[i], 1);
    ds_pool_destroy(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_member_does_its_share_once_with_any_number_of_threads),
        cmocka_unit_test(shares_are_contiguous_and_even),
        cmocka_unit_test(a_barrier_orders_all_members),
        cmocka_unit_test(a_run_inside_a_run_is_refused_and_the_pool_still_works),
        cmocka_unit_test(too_many_threads_are_refused),
        cmocka_unit_test(pools_come_and_go),
        cmocka_unit_test(a_pool_that_slept_runs_again),
        cmocka_unit_test(members_round_to_nearest_and_the_caller_keeps_its_own_mode),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
