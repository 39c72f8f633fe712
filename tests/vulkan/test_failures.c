/*
 * Whatever fails on a Vulkan device is an answer: a status, a message, nothing left behind, and the processor goes on. Failures are injected into
 * the driver's functions one by one.
 */
#include "vulkan.h"

#include <sys/stat.h>

static const struct ds_device_params in_tree = {.modules = VULKAN_FOLDER, .threads = 1};

/* --- a device --- */

/* Every call of a device's life, on a device of its own memory with descriptors: the most of them. */
static void a_failure_anywhere_is_an_answer_and_leaves_nothing_behind(void **state) {
    (void)state;
    static const int results[] = {VK_ERROR_OUT_OF_DEVICE_MEMORY, VK_ERROR_DEVICE_LOST};
    struct ds_error err;
    struct small_work good = {0};
    setenv("DSPARK_VULKAN", "no-address,no-unified", 1);
    check_ok(small_work_do(&good, "vulkan:0", &in_tree, &err), &err);
    const uint64_t calls = vulkan.calls(good.device);
    small_work_end(&good);
    const int64_t held = vulkan.alive();
    assert_true(calls > 40);
    for (uint64_t n = 1; n <= calls; n++) {
        struct small_work w = {0};
        const int result = results[n % DS_COUNT(results)];
        vulkan.fail_at(n, result);
        const ds_status status = small_work_do(&w, "vulkan:0", &in_tree, &err);
        vulkan.fail_at(0, 0);
        /* Work that is done before anybody waits for it saves a call: then the last ones are not reached. */
        const bool reached = !w.device || vulkan.calls(w.device) >= n;
        small_work_end(&w);
        assert_true(reached || n + 10 > calls);
        /* A wait that nobody answers for (before a buffer goes) loses the device, whatever it failed with: what comes next says so. */
        const bool lost = result == VK_ERROR_DEVICE_LOST || strstr(err.message, "is lost (out of device memory)");
        if (reached && status != (lost ? DS_ERROR_DEVICE : DS_ERROR_MEMORY))
            fail_msg("call %d of %d failed and gave %s", (int)n, (int)calls, ds_status_name(status));
        if (reached) check_contains(err.message, "vulkan:0");
        assert_int_equal(vulkan.alive(), held);
    }
    struct small_work again = {0};
    check_ok(small_work_do(&again, "vulkan:0", &in_tree, &err), &err);
    assert_memory_equal(again.result, good.result, sizeof good.result);
    small_work_end(&again);
    unsetenv("DSPARK_VULKAN");
}

/* --- memory --- */

static void many_buffers_are_few_allocations(void **state) {
    (void)state;
    enum { BUFFERS = 600 };
    static struct ds_buffer *buffers[BUFFERS];
    struct ds_error err;
    struct ds_device *device;
    check_ok(ds_device_create("vulkan:0", &in_tree, &device, &err), &err);
    const struct ds_vk_counts before = vulkan.counts(device);
    for (uint32_t i = 0; i < BUFFERS; i++) check_ok(device->fns->buffer_create(device, 64 + i * 40, &buffers[i], &err), &err);
    assert_int_equal(vulkan.counts(device).buffers - before.buffers, BUFFERS);
    assert_true(vulkan.counts(device).allocations - before.allocations <= 2);
    for (uint32_t i = 0; i < BUFFERS; i += 2) device->fns->buffer_destroy(buffers[i]);
    for (uint32_t i = 0; i < BUFFERS; i += 2) check_ok(device->fns->buffer_create(device, 64 + i * 40, &buffers[i], &err), &err); /* into the gaps */
    assert_true(vulkan.counts(device).allocations - before.allocations <= 2);
    /* Pieces do not meet. */
    struct ds_stream *stream;
    check_ok(device->fns->stream_create(device, &stream, &err), &err);
    uint8_t data[64];
    for (uint32_t i = 0; i < BUFFERS; i++) {
        memset(data, (int)(i % 251), sizeof data);
        check_ok(device->fns->write(stream, (struct ds_slice){buffers[i], i * 40}, data, sizeof data, &err), &err);
        check_ok(device->fns->write(stream, (struct ds_slice){buffers[i], 0}, data, sizeof data, &err), &err);
    }
    for (uint32_t i = 0; i < BUFFERS; i++) {
        check_ok(device->fns->read(stream, (struct ds_slice){buffers[i], i * 40}, data, sizeof data, &err), &err);
        for (size_t k = 0; k < sizeof data; k++) assert_int_equal(data[k], i % 251);
    }
    for (uint32_t i = 0; i < BUFFERS; i++) device->fns->buffer_destroy(buffers[i]);
    device->fns->stream_destroy(stream);
    ds_device_destroy(device);
}

static void memory_that_is_out_at_any_allocation_of_opening_is_an_answer(void **state) {
    (void)state;
    static const struct vulkan_engine kinds[] = {{.alone = true, .rows = 1}, {.rows = 1}};
    for (size_t k = 0; k < DS_COUNT(kinds); k++) {
        struct ds_error err;
        ds_engine *engine = open_engine(&kinds[k]);
        const uint64_t calls = vulkan.allocating_calls(engine->placements[0].device);
        ds_engine_destroy(engine);
        const int64_t held = vulkan.alive();
        for (uint64_t n = 1; n <= calls; n++) {
            vulkan.fail_allocation(n, VK_ERROR_OUT_OF_DEVICE_MEMORY);
            const ds_status status = try_to_open(&kinds[k], &engine, &err);
            if (status != DS_ERROR_MEMORY) fail_msg("allocation %d of %d failed and gave %s", (int)n, (int)calls, ds_status_name(status));
            check_contains(err.message, "vulkan:0");
            check_contains(err.message, "bytes");
            assert_int_equal(vulkan.alive(), held);
        }
        vulkan.fail_allocation(0, 0);
    }
}

/* Memory that is out when a session is made; growing takes pages that are there. */
static void a_sequence_that_cannot_have_memory_leaves_the_others_alone(void **state) {
    (void)state;
    struct ds_error err;
    ds_token expected[TINY_LENGTH];
    tokens_of(&(struct vulkan_engine){.device = "cpu"}, 0, 3, expected);
    ds_engine *engine = open_engine(&(struct vulkan_engine){.sessions = 2});
    struct ds_device *device = engine->placements[0].device;
    ds_session *first = open_session(engine, 0, 3), *second;
    ds_session_params params = ds_session_defaults();
    params.spec = DS_SPEC_AUTO;
    vulkan.fail_next_allocation(device, 1, VK_ERROR_OUT_OF_DEVICE_MEMORY);
    assert_int_equal(ds_session_create(engine, &params, &second, &err), DS_ERROR_MEMORY);
    check_contains(err.message, "vulkan:0");
    vulkan.fail_next_allocation(device, 1, VK_ERROR_OUT_OF_DEVICE_MEMORY);
    check_ok(ds_session_generate(first, 150, NULL, NULL, NULL, &err), &err); /* over pages */
    check_same_tokens(ds_session_tokens(first) + DS_COUNT(tiny_prompt), expected, "beside a failure");
    vulkan.fail_next_allocation(device, 0, 0);
    check_ok(ds_session_create(engine, &params, &second, &err), &err);
    ds_session_destroy(second);
    ds_session_destroy(first);
    ds_engine_destroy(engine);
}

/* --- a lost device --- */

static void a_device_lost_in_mid_round_ends_its_engine_alone(void **state) {
    (void)state;
    struct ds_error err;
    ds_token expected[TINY_LENGTH];
    const int64_t held = vulkan.alive();
    ds_engine *processor = open_engine(&(struct vulkan_engine){.device = "cpu"});
    ds_session *beside = open_session(processor, 0, 3);
    tokens_of(&(struct vulkan_engine){.device = "cpu"}, 0, 3, expected);
    uint64_t calls = 8; /* of a round; found out with the first engine */
    for (uint64_t n = 1; n <= calls; n += 2) {
        ds_engine *engine = open_engine(&(struct vulkan_engine){.rows = 1});
        struct ds_device *device = engine->placements[0].device;
        ds_session *session = open_session(engine, 0, 3);
        check_ok(ds_session_generate(session, 8, NULL, NULL, NULL, &err), &err);
        const uint64_t before = vulkan.calls(device);
        check_ok(ds_session_generate(session, 1, NULL, NULL, NULL, &err), &err);
        if (n == 1) calls = vulkan.calls(device) - before;
        vulkan.fail_next(device, n, VK_ERROR_DEVICE_LOST);
        for (int again = 0; again < 2; again++) { /* it stays lost */
            assert_int_equal(ds_session_generate(session, 20, NULL, NULL, NULL, &err), DS_ERROR_DEVICE);
            check_contains(err.message, "vulkan:0 is lost");
            check_contains(err.message, "open it again");
        }
        ds_session_destroy(session);
        ds_engine_destroy(engine);
        assert_int_equal(vulkan.alive(), held);
    }
    check_ok(ds_session_generate(beside, TINY_LENGTH, NULL, NULL, NULL, &err), &err);
    check_same_tokens(ds_session_tokens(beside) + DS_COUNT(tiny_prompt), expected, "device cpu");
    ds_session_destroy(beside);
    ds_engine_destroy(processor);
    ds_token found[TINY_LENGTH];
    tokens_of(&(struct vulkan_engine){.rows = 1}, 0, 3, found); /* opened anew */
    check_same_tokens(found, expected, "opened again");
}

/* --- the cache of pipelines --- */

static void open_with_cache(const char *folder) {
    struct ds_error err;
    struct ds_device *device;
    struct ds_device_params params = in_tree;
    params.cache = folder;
    check_ok(ds_device_create("vulkan:0", &params, &device, &err), &err);
    ds_device_destroy(device);
}

/* The one file in the folder, malloc'ed; *path too. */
static char *cache_file(const char *folder, char **path, size_t *bytes) {
    char **names, *data;
    size_t count;
    struct ds_error err;
    check_ok(ds_os_list_folder(folder, &names, &count, &err), &err);
    assert_int_equal(count, 1);
    *path = ds_os_join(folder, names[0]);
    ds_os_free_names(names, count);
    check_ok(ds_os_read_file(*path, 64 << 20, &data, bytes, &err), &err);
    return data;
}

static void a_damaged_or_foreign_pipeline_cache_is_replaced(void **state) {
    (void)state;
    char *folder = check_make_folder(), *path;
    size_t bytes, found;
    open_with_cache(folder);
    char *good = cache_file(folder, &path, &bytes);
    assert_true(bytes > 32);
    static char junk[4096] = "dsvkpc1";
    for (size_t i = 8; i < sizeof junk; i++) junk[i] = (char)(i * 37);
    char *flipped = malloc(bytes), *foreign = malloc(bytes);
    assert_non_null(flipped);
    assert_non_null(foreign);
    memcpy(flipped, good, bytes);
    flipped[bytes / 2] ^= 1;
    memcpy(foreign, good, bytes);
    foreign[24 + 16] ^= 1; /* the driver's UUID, behind our header and four words of its own; the hash is made to fit */
    const uint64_t hash = ds_hash_mix(DS_HASH_START, foreign + 24, bytes - 24);
    memcpy(foreign + 16, &hash, sizeof hash);
    const struct {
        const char *data;
        size_t bytes;
    } bad[] = {{"", 0}, {good, 1}, {good, 23}, {good, 24}, {good, bytes - 1}, {junk, sizeof junk}, {flipped, bytes}, {foreign, bytes}};
    for (size_t i = 0; i < DS_COUNT(bad); i++) {
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(bad[i].data, 1, bad[i].bytes, file), bad[i].bytes);
        assert_int_equal(fclose(file), 0);
        open_with_cache(folder);
        char *again;
        char *now = cache_file(folder, &again, &found);
        assert_int_equal(found, bytes);
        assert_memory_equal(now, good, 24 - 8); /* what the driver wrote may differ from run to run; its header may not */
        assert_memory_equal(now + 24, good + 24, 32);
        free(now);
        free(again);
    }
    free(flipped);
    free(foreign);
    free(good);
    free(path);
    check_remove_folder(folder);
}

static void a_cache_folder_that_cannot_be_used_is_done_without(void **state) {
    (void)state;
    char *folder = check_make_folder();
    check_write_text(folder, "file", "not a folder\n");
    char *inside = ds_os_join(folder, "file/below");
    open_with_cache(inside);
    open_with_cache("/proc/self/there-is-no-such-folder");
    free(inside);
    check_remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_anywhere_is_an_answer_and_leaves_nothing_behind),
        cmocka_unit_test(many_buffers_are_few_allocations),
        cmocka_unit_test(memory_that_is_out_at_any_allocation_of_opening_is_an_answer),
        cmocka_unit_test(a_sequence_that_cannot_have_memory_leaves_the_others_alone),
        cmocka_unit_test(a_device_lost_in_mid_round_ends_its_engine_alone),
        cmocka_unit_test(a_damaged_or_foreign_pipeline_cache_is_replaced),
        cmocka_unit_test(a_cache_folder_that_cannot_be_used_is_done_without),
    };
    return cmocka_run_group_tests(tests, vulkan_begin, remove_models);
}
