/*
 * The host side of GPU backends, on the emulated device: modules that do not fit are refused; whatever fails is an answer and leaves nothing
 * behind; a pass is one launch.
 */
#include "emulator.h"

#include "dspark.h"
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

/* --- what a token costs the host --- */

static void generate(ds_session *session, const ds_token *prompt, size_t n_prompt, uint32_t tokens, struct ds_emu_counts *spent) {
    struct ds_error err;
    check_ok(ds_session_rewind(session, 0, &err), &err);
    check_ok(ds_session_append(session, prompt, n_prompt, &err), &err);
    check_ok(ds_session_generate(session, 1, NULL, NULL, NULL, &err), &err);
    const struct ds_emu_counts before = emulator.counts();
    check_ok(ds_session_generate(session, tokens, NULL, NULL, NULL, &err), &err);
    const struct ds_emu_counts after = emulator.counts();
    *spent = (struct ds_emu_counts){.launches = after.launches - before.launches, .graphs = after.graphs - before.graphs,
                                    .kernels = after.kernels - before.kernels,
                                    .to_device = after.to_device - before.to_device, .to_host = after.to_host - before.to_host,
                                    .on_device = after.on_device - before.on_device, .waits = after.waits - before.waits,
                                    .allocations = after.allocations - before.allocations};
}

static const ds_token counted_prompt[] = {464, 2106, 286, 262};

/* A session of an engine on `device`; `length`: drafts of `drafter` that are verified. Without a drafter: plain decoding. */
static ds_session *open_on(const char *device, uint32_t context, const char *drafter, uint32_t length, ds_engine **engine) {
    ds_engine_params params = ds_engine_defaults();
    params.target = DSPARK_SOURCE_ROOT "/models/tiny/target";
    params.drafter = drafter;
    params.device = device;
    params.threads = 1;
    params.modules = EMULATOR_FOLDER;
    params.context = context;
    params.max_rows = 8;
    ds_session *session;
    struct ds_error err;
    ds_session_params session_params = ds_session_defaults();
    session_params.ignore_stop = true;
    session_params.spec = drafter ? DS_SPEC_FIXED : DS_SPEC_OFF;
    session_params.spec_length = length;
    check_ok(ds_engine_open(&params, engine, &err), &err);
    check_ok(ds_engine_prepare(*engine, NULL, NULL, &err), &err);
    check_ok(ds_session_create(*engine, &session_params, &session, &err), &err);
    return session;
}

/*
 * A layer: norm_quantize, q k v, heads, attention, quantize, o, norm_quantize, gate up, glu_quantize, down. Then embed, the rows that are
 * wanted, norm_quantize, head, sample. Op by op it would be 166 kernels.
 */
static void a_token_is_one_launch_of_few_kernels(void **state) {
    (void)state;
    enum { TOKENS = 16, LAYERS = 8 };
    ds_engine *engine;
    ds_session *session = open_on("emu:0", 128, NULL, 0, &engine);
    struct ds_emu_counts spent;
    generate(session, counted_prompt, DS_COUNT(counted_prompt), TOKENS, &spent); /* warm-up */
    generate(session, counted_prompt, DS_COUNT(counted_prompt), TOKENS, &spent);
    print_message("# %d tokens: %d graphs of %d kernels, %d single launches, %d copies to the device, %d from it, %d waits\n", TOKENS, (int)spent.graphs,
                  (int)(spent.kernels / DS_MAX(spent.graphs, 1)), (int)spent.launches, (int)spent.to_device, (int)spent.to_host, (int)spent.waits);
    assert_int_equal(spent.graphs, TOKENS);
    assert_true(spent.kernels <= TOKENS * (LAYERS * 10 + 5));
    assert_int_equal(spent.waits, TOKENS);
    assert_int_equal(spent.launches, 0);
    assert_int_equal(spent.allocations, 0);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

/*
 * The block with its sequential head, then the verification, which takes its rows into the drafter's context: a launch each. Its length is
 * fixed, so the drafts go to the target on the device, and all is read behind it. A drafter in steps moves the feature that it goes on from, before and behind.
 */
enum { ROUND_TOKENS = 14, ROUND_LENGTH = 3 };

/* Rounds that take the drafter's context in with the verification draft as those on the processor do: same tokens, same rounds. */
static void check_like_the_processor(const ds_session *session, const ds_stats *found, const char *drafter) {
    ds_engine *engine;
    ds_session *other = open_on("cpu", 64, drafter, ROUND_LENGTH, &engine);
    struct ds_emu_counts unused;
    generate(other, counted_prompt, DS_COUNT(counted_prompt), ROUND_TOKENS, &unused);
    assert_int_equal(ds_session_length(session), ds_session_length(other));
    assert_memory_equal(ds_session_tokens(session), ds_session_tokens(other), ds_session_length(other) * sizeof(ds_token));
    ds_stats expected = {.size = sizeof expected};
    ds_session_get_stats(other, &expected);
    assert_int_equal(found->rounds, expected.rounds);
    assert_int_equal(found->drafted, expected.drafted);
    assert_int_equal(found->accepted, expected.accepted);
    ds_session_destroy(other);
    ds_engine_destroy(engine);
}

static void check_round(const char *drafter, uint32_t moved) {
    ds_engine *engine;
    ds_session *session = open_on("emu:0", 64, drafter, ROUND_LENGTH, &engine); /* one page: the page table changes once */
    struct ds_emu_counts spent;
    generate(session, counted_prompt, DS_COUNT(counted_prompt), ROUND_TOKENS, &spent); /* nothing is warmed up */
    ds_stats stats = {.size = sizeof stats};
    ds_session_get_stats(session, &stats);
    const uint64_t rounds = stats.rounds;
    print_message("# %d rounds: %d graphs, %d single launches, %d copies to the device, %d on it, %d from it, %d waits\n", (int)rounds, (int)spent.graphs,
                  (int)spent.launches, (int)spent.to_device, (int)spent.on_device, (int)spent.to_host, (int)spent.waits);
    assert_true(rounds >= 4);
    assert_int_equal(spent.graphs, 2 * rounds);
    assert_int_equal(spent.launches, 0);
    assert_true(spent.to_device <= 2 * rounds + 2); /* rows of each pass; page tables when they change */
    assert_int_equal(spent.on_device, (moved + 2) * rounds); /* the drafts, to the target; what the drafter found, to where it is read */
    assert_int_equal(spent.to_host, rounds);
    assert_int_equal(spent.waits, rounds);
    assert_int_equal(spent.allocations, 0);
    check_like_the_processor(session, &stats, drafter);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

static void a_round_is_two_launches_and_one_read(void **state) {
    (void)state;
    check_round(DSPARK_SOURCE_ROOT "/models/tiny/dspark", 0);
}

static void a_round_of_a_drafter_in_steps_is_two_launches_and_one_read(void **state) {
    (void)state;
    check_round(DSPARK_SOURCE_ROOT "/models/tiny/eagle3", 2);
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
        cmocka_unit_test(a_token_is_one_launch_of_few_kernels),
        cmocka_unit_test(a_round_is_two_launches_and_one_read),
        cmocka_unit_test(a_round_of_a_drafter_in_steps_is_two_launches_and_one_read),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]); /* a name, with * and ? */
    return cmocka_run_group_tests(tests, load_emulator, NULL);
}
