/* Where models lie changes no token: in one buffer or several, on one Vulkan device or two, cut by layers, beside the processor, two engines in one process. */
#include "vulkan.h"

enum { LENGTH = 3 };

static void check_as_on_the_processor(const struct vulkan_engine *e, float temperature, const char *what) {
    ds_token expected[TINY_LENGTH], found[TINY_LENGTH];
    struct vulkan_engine processor = *e;
    processor.device = "cpu";
    processor.draft_device = NULL;
    tokens_of(&processor, temperature, LENGTH, expected);
    tokens_of(e, temperature, LENGTH, found);
    check_same_tokens(found, expected, what);
}

/* The weights of the pair need more than this, and no other buffer does. */
static void weights_larger_than_the_largest_buffer_lie_in_several(void **state) {
    (void)state;
    static const char *const masks[] = {"buffer:50176", "buffer:50176,no-address,no-unified"};
    for (size_t i = 0; i < DS_COUNT(masks); i++) {
        setenv("DSPARK_VULKAN", masks[i], 1);
        const struct vulkan_engine e = {.device = "vulkan:0", .context = 64, .widened = true};
        ds_engine *engine = open_engine(&e);
        struct ds_device_limits limits;
        struct ds_device *device = engine->placements[0].device;
        device->fns->limits(device, &limits);
        assert_int_equal(limits.max_buffer_bytes, 50176);
        ds_engine_info info = {.size = sizeof info};
        ds_engine_get_info(engine, &info);
        assert_true(info.weight_bytes > limits.max_buffer_bytes);
        ds_engine_destroy(engine);
        check_as_on_the_processor(&e, 0, masks[i]);
    }
    unsetenv("DSPARK_VULKAN");
}

static void target_and_drafter_on_two_vulkan_devices_of_one_process(void **state) {
    (void)state;
    setenv("DSPARK_VULKAN", "twice", 1);
    check_as_on_the_processor(&(struct vulkan_engine){.device = "vulkan:0", .draft_device = "vulkan:1"}, 0.8f, "two devices");
    unsetenv("DSPARK_VULKAN");
}

static void a_drafter_on_either_side_of_the_processor(void **state) {
    (void)state;
    check_as_on_the_processor(&(struct vulkan_engine){.device = "vulkan:0", .draft_device = "cpu"}, 0, "drafter on cpu");
    check_as_on_the_processor(&(struct vulkan_engine){.device = "cpu", .draft_device = "vulkan:0"}, 0, "target on cpu");
}

static void a_target_cut_by_layers_between_vulkan_and_the_processor(void **state) {
    (void)state;
    check_as_on_the_processor(&(struct vulkan_engine){.device = "vulkan:0=1,cpu"}, 0, "the end at home on Vulkan");
    check_as_on_the_processor(&(struct vulkan_engine){.device = "cpu=1,vulkan:0"}, 0.8f, "the end at home on cpu");
    check_as_on_the_processor(&(struct vulkan_engine){.device = "cpu=2,vulkan:0", .draft_device = "vulkan:0"}, 0, "the drafter with the second stage");
}

static void a_target_cut_by_layers_over_two_vulkan_devices_of_one_process(void **state) {
    (void)state;
    setenv("DSPARK_VULKAN", "twice", 1);
    check_as_on_the_processor(&(struct vulkan_engine){.device = "vulkan:0=2,vulkan:1"}, 0.8f, "two devices");
    unsetenv("DSPARK_VULKAN");
}

/* Each allocation of a cut engine's first device fails once: layers move on, and tokens stay. */
static void memory_that_is_out_on_the_device_moves_layers_to_the_processor(void **state) {
    (void)state;
    struct ds_error err;
    ds_token expected[TINY_LENGTH];
    tokens_of(&(struct vulkan_engine){.device = "cpu"}, 0, LENGTH, expected);
    for (uint64_t call = 1; call <= 3; call++) {
        const ds_engine_params params = engine_params(&(struct vulkan_engine){.device = "vulkan:0,cpu"});
        ds_engine *engine;
        check_ok(ds_engine_open(&params, &engine, &err), &err);
        vulkan.fail_next_allocation(engine->placements[0].device, call, VK_ERROR_OUT_OF_DEVICE_MEMORY);
        check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err);
        assert_string_equal(engine->sharing.text, "vulkan:0=2,cpu=1");
        ds_session *session = open_session(engine, 0, LENGTH);
        check_ok(ds_session_generate(session, TINY_LENGTH, NULL, NULL, NULL, &err), &err);
        check_same_tokens(ds_session_tokens(session) + DS_COUNT(tiny_prompt), expected, "after memory was out");
        ds_session_destroy(session);
        ds_engine_destroy(engine);
    }
}

/* In turns, so that both have work in hand at once. */
static void two_engines_on_two_devices_do_not_meet(void **state) {
    (void)state;
    struct ds_error err;
    ds_token expected[TINY_LENGTH];
    ds_engine *engines[2];
    ds_session *sessions[2];
    tokens_of(&(struct vulkan_engine){.device = "cpu"}, 0, LENGTH, expected);
    setenv("DSPARK_VULKAN", "twice", 1);
    for (int i = 0; i < 2; i++) {
        engines[i] = open_engine(&(struct vulkan_engine){.device = i ? "vulkan:1" : "vulkan:0"});
        sessions[i] = open_session(engines[i], 0, LENGTH);
    }
    for (int k = 0; k < TINY_LENGTH / 8; k++)
        for (int i = 0; i < 2; i++) check_ok(ds_session_generate(sessions[i], 8, NULL, NULL, NULL, &err), &err);
    for (int i = 0; i < 2; i++) {
        check_same_tokens(ds_session_tokens(sessions[i]) + DS_COUNT(tiny_prompt), expected, "side by side");
        ds_session_destroy(sessions[i]);
        ds_engine_destroy(engines[i]);
    }
    unsetenv("DSPARK_VULKAN");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_larger_than_the_largest_buffer_lie_in_several),
        cmocka_unit_test(target_and_drafter_on_two_vulkan_devices_of_one_process),
        cmocka_unit_test(a_drafter_on_either_side_of_the_processor),
        cmocka_unit_test(a_target_cut_by_layers_between_vulkan_and_the_processor),
        cmocka_unit_test(a_target_cut_by_layers_over_two_vulkan_devices_of_one_process),
        cmocka_unit_test(memory_that_is_out_on_the_device_moves_layers_to_the_processor),
        cmocka_unit_test(two_engines_on_two_devices_do_not_meet),
    };
    return cmocka_run_group_tests(tests, vulkan_begin, remove_models);
}
