/*
 * A target cut by layers: layers that a device has no room for go to the next one, and nobody is left in the dark about it;
 * what cannot be is said by name.
 */
#include "cuts.h"

/* --- memory --- */

static char told[4096];
static ds_log_level told_level;
static void keep_layers(void *user, ds_log_level level, const char *message) {
    (void)user;
    if (strncmp(message, "layers:", 7) != 0) return;
    snprintf(told, sizeof told, "%s", message);
    told_level = level;
}

static ds_engine_params telling(const char *device, const char *drafter) {
    ds_engine_params params = params_on(device, drafter);
    params.log = keep_layers;
    params.log_level = DS_LOG_INFO;
    told[0] = 0;
    return params;
}

static uint64_t bytes_on(const ds_engine *engine, uint32_t place) { return engine->placements[place].planned_bytes; }

static void layers_that_a_device_has_no_room_for_go_to_the_next_and_that_is_told(void **state) {
    (void)state;
    static struct stream expected, found;
    char device[64];
    ds_engine_params params = params_on("cpu", drafter_folder);
    ds_engine *engine = open_engine(&params);
    expected = answer(engine, &all_asked[3]);
    const uint64_t all = bytes_on(engine, 0);
    ds_engine_destroy(engine);
    params = params_on("cpu=0,ref", drafter_folder);
    engine = open_engine(&params);
    const uint64_t none = bytes_on(engine, 0);
    ds_engine_destroy(engine);
    uint32_t before = 0;
    bool some = false;
    for (uint64_t kib = none / 1024 + 1; kib <= all / 1024 + 2; kib += 8) {
        snprintf(device, sizeof device, "cpu=%uK,ref", (unsigned)kib);
        params = telling(device, drafter_folder);
        engine = open_engine(&params);
        const uint32_t here = engine->sharing.layers[0];
        assert_true(bytes_on(engine, 0) <= kib * 1024);
        assert_true(here >= before && here <= TINY_LAYERS);
        some |= here > 0 && here < TINY_LAYERS;
        before = here;
        if (here < TINY_LAYERS) {
            assert_int_equal(told_level, DS_LOG_WARNING);
            check_contains(told, "no room for more");
            check_contains(engine->sharing.text, ",ref=");
        }
        found = answer(engine, &all_asked[3]);
        same_stream(&found, &expected);
        ds_engine_destroy(engine);
    }
    assert_true(some);
    snprintf(device, sizeof device, "cpu=%uK,ref", (unsigned)(all / 1024 + 1));
    params = telling(device, drafter_folder);
    engine = open_engine(&params); /* all fits: the other device is let go */
    assert_int_equal(engine->target.n_stages, 1);
    assert_string_equal(engine->sharing.text, "cpu");
    assert_null(engine->placements[1].device);
    assert_int_equal(told_level, DS_LOG_INFO);
    ds_engine_destroy(engine);
}

/* A device that turns out to have less than was planned. */
static struct {
    const struct ds_device_fns *real;
    struct ds_device_fns fns;
    uint64_t left;
} small;

static ds_status small_create(struct ds_device *device, uint64_t bytes, struct ds_buffer **out, struct ds_error *err) {
    if (bytes > small.left) return ds_fail(err, DS_ERROR_MEMORY, "%llu bytes on a small device", (unsigned long long)bytes);
    DS_TRY(small.real->buffer_create(device, bytes, out, err));
    small.left -= bytes;
    return DS_OK;
}

static void small_destroy(struct ds_buffer *buffer) {
    if (buffer) small.left += buffer->bytes;
    small.real->buffer_destroy(buffer);
}

static void make_small(ds_engine *engine, uint64_t bytes) {
    struct ds_device *device = engine->placements[0].device;
    small.real = device->fns;
    small.fns = *small.real;
    small.fns.buffer_create = small_create;
    small.fns.buffer_destroy = small_destroy;
    small.left = bytes;
    device->fns = &small.fns;
}

static void memory_that_is_out_while_preparing_moves_layers_and_goes_on(void **state) {
    (void)state;
    static struct stream expected, found;
    ds_engine_params params = params_on("ref", drafter_folder);
    ds_engine *engine = open_engine(&params);
    expected = answer(engine, &all_asked[3]);
    const uint64_t all = bytes_on(engine, 0);
    ds_engine_destroy(engine);
    uint32_t fewest = TINY_LAYERS, most = 0;
    for (uint64_t bytes = all; bytes > all / 2; bytes -= all / 24) {
        struct ds_error err;
        params = telling("ref,cpu", drafter_folder);
        check_ok(ds_engine_open(&params, &engine, &err), &err);
        make_small(engine, bytes);
        const ds_status status = ds_engine_prepare(engine, NULL, NULL, &err);
        if (status != DS_OK) { /* not even embedding and head */
            assert_int_equal(status, DS_ERROR_MEMORY);
            assert_int_equal(engine->sharing.layers[0], 0);
            assert_int_equal(small.left, bytes); /* all was given back */
            ds_engine_destroy(engine);
            break;
        }
        fewest = DS_MIN(fewest, engine->sharing.layers[0]);
        most = DS_MAX(most, engine->sharing.layers[0]);
        if (bytes < all) assert_int_equal(told_level, DS_LOG_WARNING);
        ds_engine_info info = {.size = sizeof info};
        ds_engine_get_info(engine, &info);
        assert_string_equal(info.device, engine->sharing.text);
        found = answer(engine, &all_asked[3]);
        same_stream(&found, &expected);
        ds_engine_destroy(engine);
    }
    assert_int_equal(most, TINY_LAYERS);
    assert_true(fewest < TINY_LAYERS);
}

static void a_number_of_layers_is_kept_even_where_memory_is_out(void **state) {
    (void)state;
    static const char *const devices[] = {"ref=2,cpu", "ref"};
    for (size_t i = 0; i < DS_COUNT(devices); i++) {
        struct ds_error err;
        ds_engine *engine;
        const ds_engine_params params = params_on(devices[i], NULL);
        check_ok(ds_engine_open(&params, &engine, &err), &err);
        make_small(engine, 20000);
        assert_int_equal(ds_engine_prepare(engine, NULL, NULL, &err), DS_ERROR_MEMORY);
        assert_int_equal(small.left, 20000);
        small.left = UINT64_MAX / 2;
        check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err); /* once there is room again */
        ds_engine_destroy(engine);
    }
}

/* --- what cannot be --- */

static void refuse(const char *device, const char *draft_device, ds_status expected, const char *part) {
    ds_engine_params params = params_on(device, drafter_folder);
    params.draft_device = draft_device;
    ds_engine *engine = NULL;
    struct ds_error err;
    const ds_status status = ds_engine_open(&params, &engine, &err);
    if (status != expected) fail_msg("%s: expected %s, found %s", device, ds_status_name(expected), ds_status_name(status));
    assert_null(engine);
    check_contains(err.message, part);
}

static void a_list_that_makes_no_sense_is_refused_by_name(void **state) {
    (void)state;
    refuse("cpu,", NULL, DS_ERROR_ARGUMENT, "a name is missing");
    refuse(",cpu", NULL, DS_ERROR_ARGUMENT, "a name is missing");
    refuse("=2,cpu", NULL, DS_ERROR_ARGUMENT, "a name is missing");
    refuse("cpu=,ref", NULL, DS_ERROR_ARGUMENT, "neither a number of layers nor a size");
    refuse("cpu=-1,ref", NULL, DS_ERROR_ARGUMENT, "neither a number of layers nor a size");
    refuse("cpu=2x,ref", NULL, DS_ERROR_ARGUMENT, "neither a number of layers nor a size");
    refuse("cpu=0G,ref", NULL, DS_ERROR_ARGUMENT, "neither a number of layers nor a size");
    refuse("cpu=99999999999999999999,ref", NULL, DS_ERROR_ARGUMENT, "neither a number of layers nor a size");
    refuse("cpu=4294967295T,ref", NULL, DS_ERROR_ARGUMENT, "neither a number of layers nor a size");
    refuse("cpu=1=2,ref", NULL, DS_ERROR_ARGUMENT, "neither a number of layers nor a size");
    refuse("cpu,ref,cpu", NULL, DS_ERROR_ARGUMENT, "device 'cpu' is named twice");
    refuse("cpu,gpu9", NULL, DS_ERROR_DEVICE, "\"gpu9\"");
    refuse("cpu,a,b,c,d,e,f,g,h", NULL, DS_ERROR_ARGUMENT, "more than 8 devices");
    refuse("cpu,aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL, DS_ERROR_ARGUMENT, "longer than any");
    refuse("cpu=4,ref", NULL, DS_ERROR_ARGUMENT, "asks for 4 layers; the model has 3");
    refuse("cpu=4294967297,ref", NULL, DS_ERROR_ARGUMENT, "layers; the model has 3");
    refuse("cpu=1,ref=1", NULL, DS_ERROR_ARGUMENT, "places 2 of the model's 3 layers");
    refuse("cpu=2", NULL, DS_ERROR_ARGUMENT, "places 2 of the model's 3 layers");
    refuse("cpu=1K,ref=2", NULL, DS_ERROR_MEMORY, "fewer layers there");
    refuse("cpu=8K", NULL, DS_ERROR_MEMORY, "a second device named behind it");
    refuse("cpu=1,ref", "cpu,ref", DS_ERROR_ARGUMENT, "a drafter lies on one device");
    refuse("cpu=1,ref", "cpu=1", DS_ERROR_ARGUMENT, "a drafter lies on one device");
}

static void a_device_without_layers_is_not_used(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu=3,ref", "cpu=3", "cpu,ref=0"};
    for (size_t i = 0; i < DS_COUNT(devices); i++) {
        const ds_engine_params params = params_on(devices[i], NULL);
        ds_engine *engine = open_engine(&params);
        assert_int_equal(engine->target.n_stages, 1);
        assert_string_equal(engine->sharing.text, "cpu");
        ds_engine_destroy(engine);
    }
}

static void measured_costs_are_of_one_placement(void **state) {
    (void)state;
    char *files = check_make_folder();
    static const char *const devices[] = {"cpu", "cpu=1,ref", "cpu=2,ref"};
    for (size_t i = 0; i < DS_COUNT(devices); i++) {
        ds_engine_params params = params_on(devices[i], drafter_folder);
        params.cache = files;
        ds_engine *engine = open_engine(&params);
        struct ds_pace_learned learned;
        assert_false(ds_costs_load(engine, &learned)); /* another placement's are not taken */
        (void)answer(engine, &all_asked[2]);
        assert_true(ds_costs_load(engine, &learned));
        ds_engine_destroy(engine);
    }
    check_remove_folder(files);
}

static void a_pass_is_measured_op_by_op_over_all_devices(void **state) {
    (void)state;
    struct ds_error err;
    ds_dev_profile one, cut;
    static const char *const devices[] = {"cpu", "cpu=1,ref"};
    for (size_t i = 0; i < 2; i++) {
        const ds_engine_params params = params_on(devices[i], drafter_folder);
        ds_engine *engine = open_engine(&params);
        const ds_session_params how = session_params(&all_asked[1]);
        ds_session *session = new_session(engine, &how);
        append(session, prompt, DS_COUNT(prompt));
        generate(session, LENGTH);
        check_ok(ds_dev_profile_pass(session, 4, i ? &cut : &one, &err), &err);
        ds_dev_roofline limits;
        if (i) {
            assert_int_equal(ds_dev_measure_roofline(engine, &limits, &err), DS_ERROR_UNSUPPORTED);
            check_contains(err.message, "cpu=1,ref=2");
        }
        generate(session, LENGTH); /* and goes on */
        ds_session_destroy(session);
        ds_engine_destroy(engine);
    }
    uint64_t macs[2] = {0, 0};
    for (size_t i = 0; i < one.count; i++) macs[0] += one.ops[i].macs;
    for (size_t i = 0; i < cut.count; i++) macs[1] += cut.ops[i].macs;
    assert_true(macs[0] > 0 && macs[0] == macs[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_that_a_device_has_no_room_for_go_to_the_next_and_that_is_told),
        cmocka_unit_test(memory_that_is_out_while_preparing_moves_layers_and_goes_on),
        cmocka_unit_test(a_number_of_layers_is_kept_even_where_memory_is_out),
        cmocka_unit_test(a_list_that_makes_no_sense_is_refused_by_name),
        cmocka_unit_test(a_device_without_layers_is_not_used),
        cmocka_unit_test(measured_costs_are_of_one_placement),
        cmocka_unit_test(a_pass_is_measured_op_by_op_over_all_devices),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
