/*
 * A device that computes otherwise than the numerics contract says is found out when it is opened, whatever it gets wrong: the note says what, an engine that
 * owes exact tokens refuses it, and one that was asked for fast numerics says what it gives up.
 */
#include "emulator.h"

#include "../unit/tiny_pair.h"
#include "dspark.h"
#include "probe.h"

static const struct ds_device_params in_tree = {.modules = EMULATOR_FOLDER, .threads = 1};

static int begin(void **state) { return write_models(state) == 0 ? load_emulator(state) : -1; }

/* The self-test's note, "" for a device that is exact. */
static void note_of(char note[256]) {
    struct ds_error err;
    struct ds_device *device;
    struct ds_device_limits limits;
    check_ok(ds_device_create("emu:0", &in_tree, &device, &err), &err);
    device->fns->limits(device, &limits);
    assert_int_equal(limits.exact, limits.note[0] == 0);
    snprintf(note, 256, "%s", limits.note);
    ds_device_destroy(device);
}

/* The first and the last result of each kind, and the corners of the matrix product behind them. */
static void a_wrong_bit_in_a_result_of_any_kind_is_found_and_named(void **state) {
    (void)state;
    static const char *const kinds[DS_PROBE_KINDS + 1] = {
        "a product gives", "a sum gives", "a difference gives", "contracted?", "a quotient", "a square root", "exp", "log", "silu", "16 bits",
        "conversion to an integer", "conversion from an integer", "int8 matrix product",
    };
    char note[256];
    for (uint32_t kind = 0; kind <= DS_PROBE_KINDS; kind++) {
        const uint32_t count = kind < DS_PROBE_KINDS ? DS_PROBE_VALUES : 16 * 8;
        for (uint32_t i = 0; i < count; i += count - 1) {
            emulator.spoil(kind * DS_PROBE_VALUES + i);
            note_of(note);
            check_contains(note, kinds[kind]);
            check_contains(note, "expected 0x");
        }
    }
    note_of(note);
    assert_string_equal(note, "");
}

struct warnings {
    char text[1024];
};
static void hear(void *user, ds_log_level level, const char *message) {
    char *const text = ((struct warnings *)user)->text;
    if (level == DS_LOG_WARNING) strncat(text, message, sizeof(struct warnings) - 1 - strlen(text));
}

static ds_status open_engine(ds_numerics numerics, struct warnings *heard, ds_engine **engine, struct ds_error *err) {
    ds_engine_params params = ds_engine_defaults();
    params.target = target_folder;
    params.device = "emu:0";
    params.modules = EMULATOR_FOLDER;
    params.threads = 1;
    params.context = 64;
    params.numerics = numerics;
    params.log = hear;
    params.log_level = DS_LOG_WARNING;
    params.log_user = heard;
    return ds_engine_open(&params, engine, err);
}

/* Not a bit turned over afterwards: its kernels do flush denormals, as those of many small GPUs do. */
static void a_device_that_flushes_denormals_is_refused_and_runs_under_fast_numerics_alone(void **state) {
    (void)state;
#if defined(__x86_64__)
    char note[256];
    struct ds_error err;
    ds_engine *engine;
    struct warnings heard = {{0}};
    emulator.pretend(DS_EMU_FLUSHES);
    note_of(note);
    check_contains(note, "a sum gives 0x"); /* of two denormals */
    assert_int_equal(open_engine(DS_NUMERICS_EXACT, &heard, &engine, &err), DS_ERROR_DEVICE);
    check_contains(err.message, "emu:0");
    check_contains(err.message, note);
    check_contains(err.message, "choose another device");
    check_ok(open_engine(DS_NUMERICS_FAST, &heard, &engine, &err), &err);
    check_contains(heard.text, "tokens may differ");
    ds_engine_destroy(engine);
    emulator.pretend(DS_EMU_SOUND);
    check_ok(open_engine(DS_NUMERICS_EXACT, &heard, &engine, &err), &err);
    ds_engine_destroy(engine);
#else
    skip();
#endif
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrong_bit_in_a_result_of_any_kind_is_found_and_named),
        cmocka_unit_test(a_device_that_flushes_denormals_is_refused_and_runs_under_fast_numerics_alone),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]); /* a name, with * and ? */
    return cmocka_run_group_tests(tests, begin, remove_models);
}
