/* Engines: what is wrong is said before anything is allocated, memory is what was planned, and nothing is left behind. */
#include "engine/engine_internal.h"
#include "streams.h"
#include "tiny_pair.h"

#include <dirent.h>

static ds_engine_params tiny_params(void) {
    ds_engine_params params = ds_engine_defaults();
    params.target = target_folder;
    params.drafter = drafter_folder;
    params.context = 200;
    params.threads = 2;
    return params;
}

static void refuse(const ds_engine_params *params, ds_status expected, const char *part) {
    ds_engine *engine = (ds_engine *)(void *)params; /* anything but NULL */
    struct ds_error err;
    const ds_status status = ds_engine_open(params, &engine, &err);
    if (status != expected) fail_msg("expected %s, found %s", ds_status_name(expected), ds_status_name(status));
    assert_null(engine);
    assert_int_equal(err.status, expected);
    check_contains(err.message, part);
    assert_int_equal(ds_engine_open(params, &engine, NULL), expected); /* a caller who wants no message */
}

static void parameters_outside_what_is_documented_are_refused_by_name(void **state) {
    (void)state;
    refuse(NULL, DS_ERROR_ARGUMENT, "ds_engine_params.size is 0");
    ds_engine_params p = tiny_params();
    p.target = NULL;
    refuse(&p, DS_ERROR_ARGUMENT, "no target model");
    p = tiny_params();
    p.kv = (ds_kv_type)2;
    refuse(&p, DS_ERROR_ARGUMENT, "kv type 2");
    p = tiny_params();
    p.weights = (ds_weights)-1;
    refuse(&p, DS_ERROR_ARGUMENT, "weights mode");
    p = tiny_params();
    p.threads = 1025;
    refuse(&p, DS_ERROR_ARGUMENT, "1025 threads");
    p = tiny_params();
    p.max_sessions = 5000;
    refuse(&p, DS_ERROR_ARGUMENT, "5000 sessions");
    p = tiny_params();
    p.max_rows = 257;
    refuse(&p, DS_ERROR_ARGUMENT, "257 rows");
    p = tiny_params();
    p.context = 513;
    refuse(&p, DS_ERROR_ARGUMENT, "was made for at most 512");
    p = tiny_params();
    p.device = "gpu9";
    refuse(&p, DS_ERROR_DEVICE, "\"gpu9\"");
    p = tiny_params();
    p.draft_device = "gpu9";
    refuse(&p, DS_ERROR_DEVICE, "have: cpu, ref");
    p = tiny_params();
    p.drafter = "/nonexistent/drafter";
    refuse(&p, DS_ERROR_IO, "/nonexistent/drafter");
}

static void a_shorter_struct_of_an_older_header_works_and_a_longer_one_does_not(void **state) {
    (void)state;
    ds_engine_params p = tiny_params();
    p.memory_budget = 1; /* behind what the older header knew: never looked at */
    p.size = offsetof(ds_engine_params, memory_budget);
    ds_engine_destroy(open_engine(&p));
    p.size = sizeof p + 8;
    refuse(&p, DS_ERROR_ARGUMENT, "ds_engine_params.size");
    p.size = sizeof p.size;
    refuse(&p, DS_ERROR_ARGUMENT, "no target model");
    p = tiny_params();
    ds_engine *engine = open_engine(&p);
    ds_engine_info info;
    memset(&info, 0x55, sizeof info);
    info.size = offsetof(ds_engine_info, vocabulary);
    ds_engine_get_info(engine, &info);
    assert_string_equal(info.architecture, "qwen3");
    assert_int_equal(info.vocabulary, 0x55555555);
    ds_engine_destroy(engine);
}

static void facts_of_an_engine_are_those_of_its_files(void **state) {
    (void)state;
    ds_engine_params p = tiny_params();
    p.device = "ref";
    p.draft_device = "cpu";
    ds_engine *engine = open_engine(&p);
    ds_engine_info info = {.size = sizeof info};
    ds_engine_get_info(engine, &info);
    assert_string_equal(info.device, "ref");
    assert_string_equal(info.draft_device, "cpu");
    assert_string_equal(info.drafter, "dspark");
    assert_int_equal(info.vocabulary, TINY_VOCABULARY);
    assert_int_equal(info.context, 200);
    assert_int_equal(info.block_size, TINY_BLOCK);
    assert_int_equal(info.hidden_size, TINY_HIDDEN);
    assert_int_equal(info.layers, TINY_LAYERS);
    assert_false(info.has_tokenizer || info.has_chat_template);
    ds_token *tokens;
    size_t count;
    struct ds_error err;
    assert_int_equal(ds_tokenize(engine, "x", 1, 0, &tokens, &count, &err), DS_ERROR_UNSUPPORTED);
    assert_null(tokens);
    check_contains(err.message, "no tokenizer");
    assert_true(ds_is_stop_token(engine, 7));
    assert_false(ds_is_stop_token(engine, 8));
    ds_engine_destroy(engine);
    ds_engine_destroy(NULL);
}

/* --- memory --- */

/* A cpu device's buffers cannot be counted from outside, so the plan is compared with what `ref` is asked for. */
static const struct ds_device_fns *real_fns;
static uint64_t asked_for;

static ds_status counting_create(struct ds_device *device, uint64_t bytes, struct ds_buffer **out, struct ds_error *err) {
    asked_for += bytes;
    return real_fns->buffer_create(device, bytes, out, err);
}

static void what_is_allocated_is_what_was_planned(void **state) {
    (void)state;
    for (uint32_t sessions = 1; sessions <= 3; sessions += 2) {
        ds_engine_params p = tiny_params();
        p.device = "ref";
        p.max_sessions = sessions;
        ds_engine *engine;
        struct ds_error err;
        check_ok(ds_engine_open(&p, &engine, &err), &err);
        real_fns = engine->placements[0].device->fns;
        struct ds_device_fns fns = *real_fns;
        fns.buffer_create = counting_create;
        engine->placements[0].device->fns = &fns;
        asked_for = 0;
        check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err);
        ds_engine_info info = {.size = sizeof info};
        ds_engine_get_info(engine, &info);
        assert_int_equal(asked_for, info.weight_bytes + info.kv_bytes + info.scratch_bytes);
        ds_engine_destroy(engine);
    }
}

static void a_budget_one_byte_too_small_is_refused_with_the_sum_and_the_exact_one_works(void **state) {
    (void)state;
    ds_engine_params p = tiny_params();
    ds_engine *engine = open_engine(&p);
    ds_engine_info info = {.size = sizeof info};
    ds_engine_get_info(engine, &info);
    ds_engine_destroy(engine);
    const uint64_t total = info.weight_bytes + info.kv_bytes + info.scratch_bytes;
    p.memory_budget = total - 1;
    refuse(&p, DS_ERROR_MEMORY, "MiB are needed");
    p.memory_budget = total;
    ds_engine_destroy(open_engine(&p));
    p.memory_budget = 1;
    refuse(&p, DS_ERROR_MEMORY, "the budget is 0.0 MiB");
}

static void a_session_before_the_preparation_is_refused(void **state) {
    (void)state;
    const ds_engine_params p = tiny_params();
    const ds_session_params session_params = ds_session_defaults();
    ds_engine *engine;
    ds_session *session;
    struct ds_error err;
    check_ok(ds_engine_open(&p, &engine, &err), &err);
    assert_int_equal(ds_session_create(engine, &session_params, &session, &err), DS_ERROR_ARGUMENT);
    check_contains(err.message, "ds_engine_prepare");
    assert_null(session);
    ds_engine_destroy(engine);
}

/* --- nothing is left behind --- */

/* How many entries a folder of /proc/self has; 0 where there is no such thing. */
static size_t count_entries(const char *path) {
    DIR *folder = opendir(path);
    size_t count = 0;
    if (!folder) return 0;
    while (readdir(folder)) count++;
    closedir(folder);
    return count;
}

static void one_life(const ds_engine_params *params) {
    static const ds_token prompt[] = {1, 2, 3};
    const ds_session_params session_params = ds_session_defaults();
    ds_engine *engine = open_engine(params);
    ds_session *session = new_session(engine, &session_params);
    append(session, prompt, DS_COUNT(prompt));
    generate(session, 5);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

static void a_hundred_engines_leave_no_file_and_no_thread_behind(void **state) {
    (void)state;
    ds_engine_params p = tiny_params();
    one_life(&p); /* what the C library keeps for itself is there now */
    const size_t fds = count_entries("/proc/self/fd"), threads = count_entries("/proc/self/task");
    for (int i = 0; i < 100; i++) {
        p.device = i % 3 == 1 ? "ref" : "cpu";
        p.drafter = i % 4 ? drafter_folder : NULL;
        one_life(&p);
    }
    p.drafter = target_folder; /* failed ones, too */
    for (int i = 0; i < 20; i++) refuse(&p, DS_ERROR_UNSUPPORTED, "not a drafter");
    assert_int_equal(count_entries("/proc/self/fd"), fds);
    assert_int_equal(count_entries("/proc/self/task"), threads);
}

/* --- devices --- */

static void note_device(void *user, const ds_device_info *info) {
    size_t *found = user;
    assert_true(info->name && *info->name && info->description && *info->description && info->note);
    assert_true(info->exact);
    ++*found;
}

static void every_device_describes_itself(void **state) {
    (void)state;
    size_t found = 0;
    struct ds_error err;
    check_ok(ds_devices(NULL, note_device, &found, &err), &err);
    assert_true(found >= 2);
}

static void count_messages(void *user, ds_log_level level, const char *message) {
    size_t *count = user;
    assert_true(level <= DS_LOG_INFO && *message);
    ++*count;
}

static void messages_go_to_the_log_function_up_to_its_level(void **state) {
    (void)state;
    size_t count = 0;
    ds_engine_params p = tiny_params();
    p.log = count_messages;
    p.log_user = &count;
    one_life(&p);
    assert_true(count > 0);
    count = 0;
    p.log_level = DS_LOG_ERROR;
    one_life(&p);
    assert_int_equal(count, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_outside_what_is_documented_are_refused_by_name),
        cmocka_unit_test(a_shorter_struct_of_an_older_header_works_and_a_longer_one_does_not),
        cmocka_unit_test(facts_of_an_engine_are_those_of_its_files),
        cmocka_unit_test(what_is_allocated_is_what_was_planned),
        cmocka_unit_test(a_budget_one_byte_too_small_is_refused_with_the_sum_and_the_exact_one_works),
        cmocka_unit_test(a_session_before_the_preparation_is_refused),
        cmocka_unit_test(a_hundred_engines_leave_no_file_and_no_thread_behind),
        cmocka_unit_test(every_device_describes_itself),
        cmocka_unit_test(messages_go_to_the_log_function_up_to_its_level),
    };
    return cmocka_run_group_tests_name("engine", tests, write_models, remove_models);
}
