/* Memory, clock, randomness, threads, floating point and modules keep what os.h promises. */
#include "check.h"

#include <fenv.h>
#include <signal.h>
#include <sys/stat.h>

/* --- memory, time, randomness --- */

static void pages_are_zeroed_and_aligned(void **state) {
    (void)state;
    static const uint64_t sizes[] = {0, 1, 4096, 4097, 9 << 20};
    for (size_t i = 0; i < DS_COUNT(sizes); i++) {
        for (uint64_t alignment = 64; alignment <= UINT64_C(1) << 22; alignment *= 8) {
            unsigned char *p = ds_os_alloc_pages(sizes[i], alignment);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % alignment, 0);
            for (uint64_t j = 0; j < sizes[i]; j += 511) assert_int_equal(p[j], 0);
            memset(p, 1, (size_t)sizes[i]);
            ds_os_free_pages(p, sizes[i]);
        }
    }
    assert_null(ds_os_alloc_pages(UINT64_MAX, 64));
    assert_null(ds_os_alloc_pages(UINT64_C(1) << 62, 64));
    ds_os_free_pages(NULL, 5);
}

static void the_machine_is_described_plausibly(void **state) {
    (void)state;
    assert_true(ds_os_cpu_count() >= 1 && ds_os_cpu_whole() <= ds_os_cpu_count());
    const uint64_t memory = ds_os_physical_memory(), peak = ds_os_peak_rss();
    if (memory && peak) assert_true(peak > 4096 && peak < memory);
    const double before = ds_os_seconds();
    assert_true(ds_os_seconds() >= before);
}

#if defined(__linux__)
static void a_quota_is_read_from_either_version_of_cgroups(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t thousandths;
    } maxima[] = {{"max 100000\n", 0}, {"150000 100000\n", 1500}, {"50000 100000", 500}, {"1 100000\n", 1}, {"200000 50000\n", 4000}, {"", 0},
                  {"junk\n", 0}, {"100000\n", 0}, {"-1 100000\n", 0}, {"100000 0\n", 0}, {"18446744073709551615 1\n", 0}};
    for (size_t i = 0; i < DS_COUNT(maxima); i++) {
        char *folder = check_make_folder();
        check_write_text(folder, "cpu.max", maxima[i].text);
        assert_int_equal(ds_os_cgroup_cpu(folder), maxima[i].thousandths);
        check_remove_folder(folder);
    }
    char *folder = check_make_folder();
    assert_int_equal(ds_os_cgroup_cpu(folder), 0);
    check_write_text(folder, "cpu.cfs_quota_us", "-1\n");
    check_write_text(folder, "cpu.cfs_period_us", "100000\n");
    assert_int_equal(ds_os_cgroup_cpu(folder), 0);
    check_write_text(folder, "cpu.cfs_quota_us", "250000\n");
    assert_int_equal(ds_os_cgroup_cpu(folder), 2500);
    check_remove_folder(folder);
}

static void processors_are_those_of_the_mask_with_their_capacities(void **state) {
    (void)state;
    struct ds_os_processor all[4096], one[1];
    const unsigned count = ds_os_processors("/nonexistent", all, 4096);
    if (count == 0 || count > 4096) skip();
    assert_true(count >= ds_os_cpu_count());
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(all[i].capacity, 0);
        if (i > 0) assert_true(all[i].id > all[i - 1].id);
    }
    char *folder = check_make_folder(), name[32];
    snprintf(name, sizeof name, "cpu%u", all[0].id);
    char *place = ds_os_join(folder, name);
    assert_int_equal(mkdir(place, 0700), 0);
    check_write_text(place, "cpu_capacity", "446\n");
    assert_int_equal(ds_os_processors(folder, one, 1), count);
    assert_int_equal(one[0].id, all[0].id);
    assert_int_equal(one[0].capacity, 446);
    check_write_text(place, "cpu_capacity", "99999999999\n");
    ds_os_processors(folder, one, 1);
    assert_int_equal(one[0].capacity, 0);
    char *file = ds_os_join(place, "cpu_capacity");
    remove(file);
    remove(place);
    free(file);
    free(place);
    check_remove_folder(folder);
}
#endif

static void random_bytes_differ_and_fill_all(void **state) {
    (void)state;
    unsigned char a[1000] = {0}, b[1000] = {0};
    struct ds_error err;
    check_ok(ds_os_random(a, sizeof a, &err), &err);
    check_ok(ds_os_random(b, sizeof b, &err), &err);
    assert_memory_not_equal(a, b, sizeof a);
    static const unsigned char zeros[64];
    for (size_t i = 0; i + 64 <= sizeof a; i += 64) assert_memory_not_equal(a + i, zeros, 64);
}

/* --- threads, floating point --- */

struct shared {
    struct ds_os_mutex *mutex;
    struct ds_os_cond *cond;
    int waiting, awake;
    bool go, signals_blocked;
    float smallest;
};

static volatile float denormal = 1e-40f, half = 0.5f;

static void wait_for_go(void *user) {
    struct shared *s = user;
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    ds_os_mutex_lock(s->mutex);
    s->waiting++;
    s->signals_blocked = sigismember(&blocked, SIGINT) == 1;
    s->smallest = denormal * half;
    ds_os_cond_broadcast(s->cond);
    while (!s->go) ds_os_cond_wait(s->cond, s->mutex);
    s->awake++;
    ds_os_mutex_unlock(s->mutex);
}

static void a_broadcast_wakes_all_threads(void **state) {
    (void)state;
    enum { THREADS = 4 };
    struct ds_os_thread *threads[THREADS];
    struct shared s = {.mutex = ds_os_mutex_create(), .cond = ds_os_cond_create()};
    struct ds_error err;
    assert_non_null(s.mutex);
    assert_non_null(s.cond);
    for (int i = 0; i < THREADS; i++)
        check_ok(ds_os_thread_create(wait_for_go, &s, "a name longer than sixteen bytes", &threads[i], &err), &err);
    ds_os_mutex_lock(s.mutex);
    while (s.waiting < THREADS) ds_os_cond_wait(s.cond, s.mutex);
    s.go = true;
    ds_os_cond_broadcast(s.cond);
    ds_os_mutex_unlock(s.mutex);
    for (int i = 0; i < THREADS; i++) ds_os_thread_join(threads[i]);
    assert_int_equal(s.awake, THREADS);
    assert_true(s.signals_blocked);
    ds_os_cond_destroy(s.cond);
    ds_os_mutex_destroy(s.mutex);
}

#if defined(__SSE__)
#include <xmmintrin.h>
static void set_flush_to_zero(void) {
    _mm_setcsr(_mm_getcsr() | 0x8040); /* results and operands */
}
#elif defined(__aarch64__)
static void set_flush_to_zero(void) {
    __asm__ volatile("msr fpcr, %0" : : "r"(UINT64_C(1) << 24) : "memory");
}
#else
static void set_flush_to_zero(void) {
    skip();
}
#endif

static void a_hostile_floating_point_state_is_replaced_and_restored(void **state) {
    (void)state;
    const struct ds_float_state original = ds_os_float_begin();
    assert_true(denormal * half != 0.0f);
    set_flush_to_zero();
    if (denormal * half != 0.0f) { /* an emulator without the mode: nothing to protect against */
        ds_os_float_restore(original);
        skip();
    }
    fesetround(FE_UPWARD);

    const struct ds_float_state hostile = ds_os_float_begin();
    assert_true(denormal * half != 0.0f);
    assert_true((1.0f + denormal) == 1.0f);
    ds_os_float_restore(hostile);
    assert_true(denormal * half == 0.0f);

    ds_os_float_restore(original);
    fesetround(FE_TONEAREST);
}

static void our_threads_keep_denormals_whatever_the_host_set(void **state) {
    (void)state;
    struct shared s = {.mutex = ds_os_mutex_create(), .cond = ds_os_cond_create(), .go = true};
    struct ds_os_thread *thread;
    struct ds_error err;
    const struct ds_float_state original = ds_os_float_begin();
    set_flush_to_zero(); /* a new thread inherits it */
    const ds_status status = ds_os_thread_create(wait_for_go, &s, "test", &thread, &err);
    ds_os_float_restore(original);
    check_ok(status, &err);
    ds_os_thread_join(thread);
    assert_true(s.smallest != 0.0f);
    ds_os_cond_destroy(s.cond);
    ds_os_mutex_destroy(s.mutex);
}

/* --- modules --- */

static void a_missing_module_is_an_answer(void **state) {
    (void)state;
    struct ds_os_module *module;
    struct ds_error err;
    assert_int_equal(ds_os_module_open("/nonexistent/module.so", false, &module, &err), DS_ERROR_IO);
    assert_null(module);
    check_contains(err.message, "/nonexistent/module.so");
    ds_os_module_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_zeroed_and_aligned),
        cmocka_unit_test(the_machine_is_described_plausibly),
#if defined(__linux__)
        cmocka_unit_test(a_quota_is_read_from_either_version_of_cgroups),
        cmocka_unit_test(processors_are_those_of_the_mask_with_their_capacities),
#endif
        cmocka_unit_test(random_bytes_differ_and_fill_all),
        cmocka_unit_test(a_broadcast_wakes_all_threads),
        cmocka_unit_test(a_hostile_floating_point_state_is_replaced_and_restored),
        cmocka_unit_test(our_threads_keep_denormals_whatever_the_host_set),
        cmocka_unit_test(a_missing_module_is_an_answer),
    };
    return cmocka_run_group_tests_name("os", tests, NULL, NULL);
}
