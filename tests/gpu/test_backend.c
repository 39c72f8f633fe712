/*
 * The host side of GPU backends, on the emulated device: modules that do not fit are refused; whatever fails is an answer and leaves nothing
 * behind; transfers of any size arrive.
 */
#include "emulator.h"

#include "ops/module.h"

static const struct ds_device_params in_tree = {.modules = EMULATOR_FOLDER, .threads = 1};

/* --- modules --- */

static void check_refused(const char *folder, const char *part) {
    const struct ds_backend *backend = (const struct ds_backend *)&in_tree;
    struct ds_error err;
    assert_int_equal(ds_module_load(folder, "cuda", &backend, &err), DS_ERROR_DEVICE);
    assert_null(backend);
    check_contains(err.message, part);
    check_contains(err.message, "dspark_cuda.so");
    struct ds_device *device = (struct ds_device *)&err;
    assert_int_equal(ds_device_create("cuda:0", &(struct ds_device_params){.modules = folder}, &device, &err), DS_ERROR_DEVICE);
    assert_null(device);
    check_contains(err.message, "cuda:0");
    const char *names[8];
    const uint32_t count = ds_device_names(folder, names, DS_COUNT(names)); /* silently not there */
    for (uint32_t i = 0; i < count; i++) assert_null(strstr(names[i], "cuda"));
}

static void a_module_of_another_version_is_refused(void **state) {
    (void)state;
    check_refused(STALE_FOLDER, "another version");
}

static void a_library_that_is_no_module_is_refused(void **state) {
    (void)state;
    check_refused(FOREIGN_FOLDER, "not a module");
}

static void a_missing_module_is_named_with_the_folder(void **state) {
    (void)state;
    check_refused(EMULATOR_FOLDER, EMULATOR_FOLDER);
}

static void a_file_that_is_no_library_is_refused(void **state) {
    (void)state;
    char *folder = check_make_folder();
    check_write_text(folder, "dspark_cuda.so", "not a library\n");
    const struct ds_backend *backend;
    struct ds_error err;
    assert_int_equal(ds_module_load(folder, "cuda", &backend, &err), DS_ERROR_IO);
    check_contains(err.message, "dspark_cuda.so");
    check_remove_folder(folder);
}

static void devices_are_numbered_and_others_are_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {"emu:2", "emu:", "emu:x", "emu:0x", "emu:-1", "emu:99999999999999999999", "cpu:0"};
    struct ds_error err;
    struct ds_device *device;
    for (size_t i = 0; i < DS_COUNT(wrong); i++) {
        assert_int_equal(ds_device_create(wrong[i], &in_tree, &device, &err), DS_ERROR_DEVICE);
        check_contains(err.message, wrong[i]);
    }
    for (int i = 0; i < 2; i++) {
        char name[] = "emu:0";
        name[4] = (char)('0' + i);
        struct ds_device_limits limits;
        check_ok(ds_device_create(name, &in_tree, &device, &err), &err);
        device->fns->limits(device, &limits);
        assert_string_equal(limits.name, name);
        if (!limits.exact) fail_msg("%s: %s", name, limits.note);
        ds_device_destroy(device);
    }
}

/* --- failures --- */

static void a_failure_anywhere_is_an_answer_and_leaves_nothing_behind(void **state) {
    (void)state;
    struct ds_error err;
    struct small_work good = {0};
    emulator.fail_at(0);
    check_ok(small_work_do(&good, "emu:0", &in_tree, &err), &err);
    const uint64_t calls = emulator.calls();
    small_work_end(&good);
    assert_true(calls > 12);
    const int64_t held = emulator.counts().allocations;
    bool memory = false, device = false;
    for (uint64_t n = 1; n <= calls; n++) {
        struct small_work w = {0};
        emulator.fail_at(n);
        const ds_status status = small_work_do(&w, "emu:0", &in_tree, &err);
        small_work_end(&w);
        if (status != DS_ERROR_MEMORY && status != DS_ERROR_DEVICE)
            fail_msg("call %d of %d failed and gave %s", (int)n, (int)calls, ds_status_name(status));
        memory |= status == DS_ERROR_MEMORY;
        device |= status == DS_ERROR_DEVICE;
        check_contains(err.message, "emu:0");
        assert_int_equal(emulator.counts().allocations, held);
    }
    emulator.fail_at(0);
    assert_true(memory && device);
    struct small_work again = {0};
    check_ok(small_work_do(&again, "emu:0", &in_tree, &err), &err);
    assert_memory_equal(again.result, good.result, sizeof good.result);
    small_work_end(&again);
}

static void memory_that_is_out_is_told_with_sizes(void **state) {
    (void)state;
    struct ds_error err;
    struct ds_device *device;
    struct ds_buffer *buffer;
    check_ok(ds_device_create("emu:0", &in_tree, &device, &err), &err);
    assert_int_equal(device->fns->buffer_create(device, UINT64_C(1) << 62, &buffer, &err), DS_ERROR_MEMORY);
    assert_null(buffer);
    check_contains(err.message, "4611686018427387904 bytes");
    check_contains(err.message, "unused");
    ds_device_destroy(device);
}

/* --- transfers --- */

/* Sizes around the slots of the ring that writes pass through, one behind the other without a wait. */
static void writes_of_any_size_arrive(void **state) {
    (void)state;
    static const uint32_t sizes[] = {1, 3, 64, 65, 1000, (1 << 20) - 64, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20, 17};
    struct ds_error err;
    struct ds_device *device;
    struct ds_stream *stream;
    struct ds_buffer *buffer;
    const uint32_t bytes = 12 << 20;
    uint8_t *expected = calloc(1, bytes), *found = malloc(bytes);
    assert_non_null(expected);
    assert_non_null(found);
    check_ok(ds_device_create("emu:0", &in_tree, &device, &err), &err);
    check_ok(device->fns->stream_create(device, &stream, &err), &err);
    check_ok(device->fns->buffer_create(device, bytes, &buffer, &err), &err);
    uint32_t at = 0;
    for (size_t i = 0; i < DS_COUNT(sizes); i++) {
        for (uint32_t k = 0; k < sizes[i]; k++) expected[at + k] = (uint8_t)(k * 7 + i);
        check_ok(device->fns->write(stream, (struct ds_slice){buffer, at}, expected + at, sizes[i], &err), &err);
        at += sizes[i] + 5;
    }
    check_ok(device->fns->read(stream, (struct ds_slice){buffer, 0}, found, bytes, &err), &err);
    assert_memory_equal(found, expected, bytes);
    assert_int_equal(device->fns->write(stream, (struct ds_slice){buffer, bytes - 1}, expected, 2, &err), DS_ERROR_ARGUMENT);
    device->fns->buffer_destroy(buffer);
    device->fns->stream_destroy(stream);
    ds_device_destroy(device);
    free(expected);
    free(found);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_module_of_another_version_is_refused),
        cmocka_unit_test(a_library_that_is_no_module_is_refused),
        cmocka_unit_test(a_missing_module_is_named_with_the_folder),
        cmocka_unit_test(a_file_that_is_no_library_is_refused),
        cmocka_unit_test(devices_are_numbered_and_others_are_refused),
        cmocka_unit_test(a_failure_anywhere_is_an_answer_and_leaves_nothing_behind),
        cmocka_unit_test(memory_that_is_out_is_told_with_sizes),
        cmocka_unit_test(writes_of_any_size_arrive),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]); /* a name, with * and ? */
    return cmocka_run_group_tests(tests, load_emulator, NULL);
}
