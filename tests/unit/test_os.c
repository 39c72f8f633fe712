/* The operating system layer keeps what os.h promises. */
#include "check.h"

#include <fenv.h>
#include <signal.h>
#include <sys/stat.h>

/* --- files --- */

static void a_mapping_shows_the_file_and_survives_release(void **state) {
    (void)state;
    enum { BYTES = 5 * 4096 + 123 };
    char *folder = check_make_folder(), *content = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++) content[i] = (char)(i * 7);
    char *path = check_write_file(folder, "data", content, BYTES);
    struct ds_mapping mapping;
    struct ds_error err;
    check_ok(ds_os_map(path, &mapping, &err), &err);
    assert_int_equal(mapping.size, BYTES);
    ds_os_prefetch(&mapping, 5000, BYTES);
    ds_os_release(&mapping, 100, BYTES);
    ds_os_release(&mapping, UINT64_MAX, UINT64_MAX); /* hints outside the file do nothing */
    ds_os_prefetch(&mapping, UINT64_MAX, UINT64_MAX);
    assert_memory_equal(mapping.data, content, BYTES);
    ds_os_unmap(&mapping);
    ds_os_unmap(&mapping);
    free(path);
    free(content);
    check_remove_folder(folder);
}

static void an_empty_file_maps_to_nothing(void **state) {
    (void)state;
    char *folder = check_make_folder(), *path = check_write_file(folder, "empty", "", 0);
    struct ds_mapping mapping;
    struct ds_error err;
    check_ok(ds_os_map(path, &mapping, &err), &err);
    assert_null(mapping.data);
    assert_int_equal(mapping.size, 0);
    ds_os_unmap(&mapping);
    free(path);
    check_remove_folder(folder);
}

static void what_is_no_regular_file_is_not_mapped(void **state) {
    (void)state;
    char *folder = check_make_folder(), *pipe_path = ds_os_join(folder, "pipe");
    struct ds_mapping mapping;
    struct ds_error err;
    assert_int_equal(ds_os_map(folder, &mapping, &err), DS_ERROR_IO);
    check_contains(err.message, "a folder");
    assert_int_equal(mkfifo(pipe_path, 0600), 0); /* opening it carelessly would wait for a writer */
    assert_int_equal(ds_os_map(pipe_path, &mapping, &err), DS_ERROR_IO);
    check_contains(err.message, pipe_path);
    assert_int_equal(ds_os_map("/nonexistent/file", &mapping, &err), DS_ERROR_IO);
    check_contains(err.message, "/nonexistent/file");
    free(pipe_path);
    check_remove_folder(folder);
}

static void reading_stops_at_the_limit(void **state) {
    (void)state;
    char *folder = check_make_folder(), *path = check_write_file(folder, "five", "12345", 5), *text;
    size_t size;
    struct ds_error err;
    check_ok(ds_os_read_file(path, 5, &text, &size, &err), &err);
    assert_int_equal(size, 5);
    assert_string_equal(text, "12345");
    free(text);
    assert_int_equal(ds_os_read_file(path, 4, &text, &size, &err), DS_ERROR_LIMIT);
    assert_null(text);
    check_contains(err.message, "4 bytes");
    assert_int_equal(ds_os_read_file(folder, 10, &text, &size, &err), DS_ERROR_IO);
    free(path);
    check_remove_folder(folder);
}

static void files_that_claim_no_size_are_read_whole(void **state) {
    (void)state;
    char *text;
    size_t size;
    struct ds_error err;
    if (ds_os_path_kind("/proc/self/maps") != DS_PATH_FILE) skip();
    check_ok(ds_os_read_file("/proc/self/maps", 1 << 24, &text, &size, &err), &err);
    assert_true(size > 0 && strlen(text) == size);
    free(text);
}

static size_t count_names(const char *folder) {
    char **names;
    size_t count;
    struct ds_error err;
    check_ok(ds_os_list_folder(folder, &names, &count, &err), &err);
    ds_os_free_names(names, count);
    return count;
}

static void a_written_file_appears_only_when_complete(void **state) {
    (void)state;
    char *folder = check_make_folder(), *path = check_write_file(folder, "out", "old", 3), *text;
    struct ds_os_writer writer;
    struct ds_error err;
    size_t size;
    check_ok(ds_os_write_begin(path, &writer, &err), &err);
    check_ok(ds_os_write(&writer, "new content", 11, &err), &err);
    check_ok(ds_os_read_file(path, 100, &text, &size, &err), &err);
    assert_string_equal(text, "old");
    free(text);
    check_ok(ds_os_write_commit(&writer, &err), &err);
    check_ok(ds_os_read_file(path, 100, &text, &size, &err), &err);
    assert_string_equal(text, "new content");
    free(text);
    assert_int_equal(count_names(folder), 1);
    free(path);
    check_remove_folder(folder);
}

static void an_aborted_file_leaves_nothing(void **state) {
    (void)state;
    char *folder = check_make_folder(), *path = ds_os_join(folder, "out");
    struct ds_os_writer writer = {0};
    struct ds_error err;
    ds_os_write_abort(&writer);
    check_ok(ds_os_write_begin(path, &writer, &err), &err);
    check_ok(ds_os_write(&writer, "x", 1, &err), &err);
    assert_int_equal(count_names(folder), 1);
    ds_os_write_abort(&writer);
    ds_os_write_abort(&writer);
    assert_int_equal(count_names(folder), 0);
    free(path);
    check_remove_folder(folder);
}

static void a_link_is_followed_and_a_device_is_not_replaced(void **state) {
    (void)state;
    char *folder = check_make_folder(), *path = check_write_file(folder, "file", "a", 1),
         *link_path = ds_os_join(folder, "link");
    struct ds_os_writer writer;
    struct ds_error err;
    struct stat info;
    assert_int_equal(symlink(path, link_path), 0);
    check_ok(ds_os_write_begin(link_path, &writer, &err), &err);
    check_ok(ds_os_write_commit(&writer, &err), &err);
    assert_int_equal(lstat(link_path, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, 0);
    assert_int_equal(ds_os_write_begin("/dev/null", &writer, &err), DS_ERROR_IO);
    assert_int_equal(ds_os_write_begin(folder, &writer, &err), DS_ERROR_IO);
    free(link_path);
    free(path);
    check_remove_folder(folder);
}

static void folders_are_listed_in_byte_order(void **state) {
    (void)state;
    char *folder = check_make_folder(), **names;
    size_t count;
    struct ds_error err;
    check_write_text(folder, "b", "");
    check_write_text(folder, "B", "");
    check_write_text(folder, ".a", "");
    check_ok(ds_os_list_folder(folder, &names, &count, &err), &err);
    assert_int_equal(count, 3);
    assert_string_equal(names[0], ".a");
    assert_string_equal(names[1], "B");
    assert_string_equal(names[2], "b");
    ds_os_free_names(names, count);
    check_remove_folder(folder);
    assert_int_equal(ds_os_list_folder("/nonexistent", &names, &count, &err), DS_ERROR_IO);
}

static void paths_are_joined_with_one_slash(void **state) {
    (void)state;
    static const char *const cases[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}};
    for (size_t i = 0; i < DS_COUNT(cases); i++) {
        char *joined = ds_os_join(cases[i][0], cases[i][1]);
        assert_string_equal(joined, cases[i][2]);
        free(joined);
    }
}

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
static void write_limit(const char *folder, const char *name, const char *text) { free(check_write_file(folder, name, text, strlen(text))); }

static void a_quota_is_read_from_either_version_of_cgroups(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t thousandths;
    } maxima[] = {{"max 100000\n", 0}, {"150000 100000\n", 1500}, {"50000 100000", 500}, {"1 100000\n", 1}, {"200000 50000\n", 4000}, {"", 0},
                  {"junk\n", 0}, {"100000\n", 0}, {"-1 100000\n", 0}, {"100000 0\n", 0}, {"18446744073709551615 1\n", 0}};
    for (size_t i = 0; i < DS_COUNT(maxima); i++) {
        char *folder = check_make_folder();
        write_limit(folder, "cpu.max", maxima[i].text);
        assert_int_equal(ds_os_cgroup_cpu(folder), maxima[i].thousandths);
        check_remove_folder(folder);
    }
    char *folder = check_make_folder();
    assert_int_equal(ds_os_cgroup_cpu(folder), 0);
    write_limit(folder, "cpu.cfs_quota_us", "-1\n");
    write_limit(folder, "cpu.cfs_period_us", "100000\n");
    assert_int_equal(ds_os_cgroup_cpu(folder), 0);
    write_limit(folder, "cpu.cfs_quota_us", "250000\n");
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
    write_limit(place, "cpu_capacity", "446\n");
    assert_int_equal(ds_os_processors(folder, one, 1), count);
    assert_int_equal(one[0].id, all[0].id);
    assert_int_equal(one[0].capacity, 446);
    write_limit(place, "cpu_capacity", "99999999999\n");
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
        cmocka_unit_test(a_mapping_shows_the_file_and_survives_release),
        cmocka_unit_test(an_empty_file_maps_to_nothing),
        cmocka_unit_test(what_is_no_regular_file_is_not_mapped),
        cmocka_unit_test(reading_stops_at_the_limit),
        cmocka_unit_test(files_that_claim_no_size_are_read_whole),
        cmocka_unit_test(a_written_file_appears_only_when_complete),
        cmocka_unit_test(an_aborted_file_leaves_nothing),
        cmocka_unit_test(a_link_is_followed_and_a_device_is_not_replaced),
        cmocka_unit_test(folders_are_listed_in_byte_order),
        cmocka_unit_test(paths_are_joined_with_one_slash),
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
