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
        ds_pool_barrier(relay->pool, member);
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

/* --- spinning --- */

static struct ds_pool *create_on(unsigned processors, unsigned whole, const struct ds_os_processor *cores, unsigned threads) {
    struct ds_pool *pool;
    struct ds_error err;
    const struct ds_pool_machine machine = {.processors = processors, .whole = whole, .cores = cores};
    assert_int_equal(ds_pool_create_on(&machine, threads, &pool, &err), DS_OK);
    return pool;
}

/* The same answers, and nobody has spun: by affinity or quota the threads share processors. */
static void more_threads_than_whole_processors_never_spin(void **state) {
    (void)state;
    static const unsigned wholes[] = {0, 1, MOST - 1};
    for (size_t i = 0; i < DS_COUNT(wholes); i++) {
        struct relay context = {.pool = create_on(MOST, wholes[i], NULL, MOST)};
        run(context.pool, relay, &context);
        assert_int_equal(atomic_load(&context.wrong), 0);
        const struct ds_pool_counts counts = ds_pool_get_counts(context.pool);
        assert_int_equal(counts.spins, 0);
        assert_true(counts.sleeps > 0);
        ds_pool_destroy(context.pool);
    }
}

struct late {
    struct ds_pool *pool;
    atomic_bool counted, came;
};

/* Member 0 comes only when all others sleep: they do, though each believes to have a processor of its own. */
static void come_last(void *context, unsigned member, unsigned members) {
    struct late *late = context;
    ds_pool_barrier(late->pool, member);
    if (member == 0) {
        const uint64_t before = ds_pool_get_counts(late->pool).sleeps;
        atomic_store(&late->counted, true);
        while (ds_pool_get_counts(late->pool).sleeps < before + members - 1) {}
        atomic_store(&late->came, true);
    }
    while (!atomic_load(&late->counted)) {}
    ds_pool_barrier(late->pool, member);
    if (!atomic_load(&late->came)) abort();
}

static void threads_do_not_spin_for_one_that_does_not_come(void **state) {
    (void)state;
    struct late late = {.pool = create_on(MOST, MOST, NULL, 9)};
    for (int i = 0; i < 5; i++) {
        atomic_store(&late.counted, false);
        atomic_store(&late.came, false);
        run(late.pool, come_last, &late);
    }
    ds_pool_destroy(late.pool);
}

static void run_on_one_processor(void *user) {
    struct ds_os_processor first;
    *(bool *)user = false;
    if (ds_os_processors(NULL, &first, 1) > 0) {
        ds_os_thread_pin(first.id);
    }
    struct relay context;
    struct ds_error err;
    memset(&context, 0, sizeof context);
    if (ds_pool_create(MOST, &context.pool, &err) != DS_OK || ds_pool_run(context.pool, relay, &context, &err) != DS_OK) return;
    const bool pinned = ds_os_cpu_whole() == 1;
    *(bool *)user = atomic_load(&context.wrong) == 0 && (!pinned || ds_pool_get_counts(context.pool).spins == 0);
    ds_pool_destroy(context.pool);
}

/* The mask is the thread's that makes the pool, so this one gets its own. */
static void sixty_four_threads_share_one_processor_without_spinning(void **state) {
    (void)state;
    struct ds_os_thread *thread;
    struct ds_error err;
    bool good = false;
    assert_int_equal(ds_os_thread_create(run_on_one_processor, &good, "one", &thread, &err), DS_OK);
    ds_os_thread_join(thread);
    assert_true(good);
}

static void one_thread_waits_for_nobody(void **state) {
    (void)state;
    struct relay context = {.pool = create_on(MOST, MOST, NULL, 1)};
    run(context.pool, relay, &context);
    const struct ds_pool_counts counts = ds_pool_get_counts(context.pool);
    assert_int_equal(counts.spins + counts.sleeps, 0);
    ds_pool_destroy(context.pool);
}

/* --- cores that differ --- */

static void shares_follow_the_capacity_of_cores_biggest_first(void **state) {
    (void)state;
    static const struct ds_os_processor cores[] = {{0, 300}, {1, 300}, {2, 1000}, {3, 600}}, alike[] = {{0, 1024}, {1, 1024}}, unknown[] = {{0, 1024}, {1, 0}};
    static const uint32_t edges[] = {0, 1000, 1600, 1900, 2200};
    struct ds_pool *pool = create_on(4, 4, cores, 4);
    assert_memory_equal(ds_pool_edges(pool), edges, sizeof edges);
    ds_pool_destroy(pool);
    pool = create_on(4, 4, cores, 2); /* on the two biggest */
    assert_memory_equal(ds_pool_edges(pool), edges, 3 * sizeof *edges);
    ds_pool_destroy(pool);
    pool = create_on(4, 4, cores, 5); /* no core for each */
    assert_null(ds_pool_edges(pool));
    ds_pool_destroy(pool);
    pool = create_on(2, 2, alike, 2);
    assert_null(ds_pool_edges(pool));
    ds_pool_destroy(pool);
    pool = create_on(2, 2, unknown, 2);
    assert_null(ds_pool_edges(pool));
    ds_pool_destroy(pool);
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
        cmocka_unit_test(more_threads_than_whole_processors_never_spin),
        cmocka_unit_test(threads_do_not_spin_for_one_that_does_not_come),
        cmocka_unit_test(sixty_four_threads_share_one_processor_without_spinning),
        cmocka_unit_test(one_thread_waits_for_nobody),
        cmocka_unit_test(shares_follow_the_capacity_of_cores_biggest_first),
        cmocka_unit_test(a_run_inside_a_run_is_refused_and_the_pool_still_works),
        cmocka_unit_test(too_many_threads_are_refused),
        cmocka_unit_test(pools_come_and_go),
        cmocka_unit_test(a_pool_that_slept_runs_again),
        cmocka_unit_test(members_round_to_nearest_and_the_caller_keeps_its_own_mode),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
