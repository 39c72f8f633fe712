/*
 * What a GPU can do to a user: memory that is out anywhere, a device that is lost at any moment, a driver or kernels that do not fit. Each is a
 * status and a message that says what to do; nothing is left behind, the engine can be opened again, and the processor's goes on meanwhile.
 */
#include "emulator.h"

#include "../unit/tiny_pair.h"
#include "dspark.h"

enum { SPECULATED = 6, PENALISED = 4, BATCHED = 3, PROMPT = 4, ALL = PROMPT + SPECULATED + PENALISED + BATCHED };

static int begin(void **state) { return write_models(state) == 0 ? load_emulator(state) : -1; }

struct life {
    ds_engine *engine;
    ds_session *session;
    ds_batch *batch;
};

static void end_life(struct life *l) {
    ds_batch_destroy(l->batch);
    ds_session_destroy(l->session);
    ds_engine_destroy(l->engine);
    *l = (struct life){0};
}

static ds_status answer_in_batch(struct life *l, struct ds_error *err) {
    const ds_batch_params params = ds_batch_defaults();
    const ds_batch_request request = {.size = sizeof request, .max_tokens = BATCHED};
    size_t left = 1;
    DS_TRY(ds_batch_create(l->engine, &params, &l->batch, err));
    DS_TRY(ds_batch_add(l->batch, l->session, &request, err));
    while (left) DS_TRY(ds_batch_step(l->batch, &left, err));
    return DS_OK;
}

static ds_status generate(struct life *l, bool penalties, size_t tokens, struct ds_error *err) {
    ds_session_params params = ds_session_defaults();
    params.ignore_stop = true;
    params.spec = DS_SPEC_FIXED;
    params.spec_length = TINY_BLOCK;
    if (penalties) params.penalties.repetition = 1.2f;
    if (!l->session) {
        DS_TRY(ds_session_create(l->engine, &params, &l->session, err));
        DS_TRY(ds_session_append(l->session, (const ds_token[PROMPT]){1, 2, 3, 4}, PROMPT, err));
    } else {
        DS_TRY(ds_session_configure(l->session, &params, err));
    }
    return ds_session_generate(l->session, tokens, NULL, NULL, NULL, err);
}

static ds_status open_engine(struct life *l, const char *device, struct ds_error *err) {
    ds_engine_params params = ds_engine_defaults();
    params.target = target_folder;
    params.drafter = drafter_folder;
    params.device = device;
    params.modules = EMULATOR_FOLDER;
    params.threads = 1;
    params.context = 64;
    params.max_rows = TINY_BLOCK + 1;
    return ds_engine_open(&params, &l->engine, err);
}

/* Opening, rounds, rounds with what most sessions never use, a batch. */
static ds_status live(struct life *l, const char *device, struct ds_error *err) {
    DS_TRY(open_engine(l, device, err));
    DS_TRY(ds_engine_prepare(l->engine, NULL, NULL, err));
    DS_TRY(generate(l, false, SPECULATED, err));
    DS_TRY(generate(l, true, PENALISED, err));
    return answer_in_batch(l, err);
}

static void expect_tokens(const struct life *l, const ds_token expected[ALL]) {
    assert_int_equal(ds_session_length(l->session), ALL);
    assert_memory_equal(ds_session_tokens(l->session), expected, ALL * sizeof *expected);
}

/* The processor's, open all the while. */
static void expect_going_on(struct life *l, const ds_token expected[ALL]) {
    struct ds_error err;
    check_ok(ds_session_rewind(l->session, PROMPT, &err), &err);
    check_ok(generate(l, false, SPECULATED, &err), &err);
    assert_memory_equal(ds_session_tokens(l->session), expected, (PROMPT + SPECULATED) * sizeof *expected);
}

static void fail_everywhere(void (*arrange)(uint64_t n), bool lost) {
    struct ds_error err;
    struct life host = {0}, good = {0};
    ds_token expected[ALL];
    check_ok(live(&host, "cpu", &err), &err);
    memcpy(expected, ds_session_tokens(host.session), sizeof expected);
    emulator.fail_at(0);
    check_ok(live(&good, "emu:0", &err), &err);
    expect_tokens(&good, expected);
    const uint64_t calls = emulator.calls();
    end_life(&good);
    assert_true(calls > 100);
    print_message("# %d places to fail\n", (int)calls);
    const int64_t held = emulator.counts().allocations;
    bool memory = false, device = false;
    for (uint64_t n = 1; n <= calls; n += lost ? 3 : 1) {
        struct life l = {0};
        arrange(n);
        const ds_status status = live(&l, "emu:0", &err);
        if (status != DS_ERROR_MEMORY && status != DS_ERROR_DEVICE)
            fail_msg("call %d of %d failed and gave %s", (int)n, (int)calls, ds_status_name(status));
        memory |= status == DS_ERROR_MEMORY;
        device |= status == DS_ERROR_DEVICE;
        check_contains(err.message, "emu:0");
        check_contains(err.message, status == DS_ERROR_MEMORY ? "fit better" : "open the engine anew");
        if (lost && l.session) { /* it stays lost, and says so */
            assert_int_equal(ds_session_generate(l.session, 1, NULL, NULL, NULL, &err), DS_ERROR_DEVICE);
            check_contains(err.message, "the device is lost");
        }
        if (!lost && l.engine && !l.session) check_ok(ds_engine_prepare(l.engine, NULL, NULL, &err), &err); /* may be called again */
        end_life(&l);
        if (emulator.counts().allocations != held)
            fail_msg("call %d of %d failed, and %d pieces of memory are left", (int)n, (int)calls, (int)(emulator.counts().allocations - held));
        if (n % 10 == 0) expect_going_on(&host, expected);
    }
    assert_int_equal(memory, !lost);
    assert_true(device);
    emulator.fail_at(0);
    check_ok(live(&good, "emu:0", &err), &err);
    expect_tokens(&good, expected);
    end_life(&good);
    end_life(&host);
}

static void what_fails_once_anywhere_is_an_answer_and_the_engine_opens_again(void **state) {
    (void)state;
    fail_everywhere(emulator.fail_at, false);
}

static void a_device_that_is_lost_anywhere_is_an_answer_and_the_processor_goes_on(void **state) {
    (void)state;
    fail_everywhere(emulator.lose_at, true);
}

static int count_devices(void) {
    const char *names[8];
    int count = 0;
    const uint32_t all = ds_device_names(EMULATOR_FOLDER, names, DS_COUNT(names));
    assert_true(all <= DS_COUNT(names));
    for (uint32_t i = 0; i < all; i++) count += strncmp(names[i], "emu:", 4) == 0;
    return count;
}

static void check_machine(enum ds_emu_machine machine, const char *part, const char *advice) {
    struct ds_error err;
    struct life l = {0};
    emulator.fail_at(0);
    emulator.pretend(machine);
    assert_int_equal(count_devices(), machine == DS_EMU_NO_KERNELS ? 2 : 0); /* silently: only who asks for one by name is told */
    assert_int_equal(open_engine(&l, "emu:0", &err), DS_ERROR_DEVICE);
    assert_null(l.engine);
    check_contains(err.message, "emu:0");
    check_contains(err.message, part);
    check_contains(err.message, advice);
    check_ok(live(&l, "cpu", &err), &err);
    end_life(&l);
    emulator.pretend(DS_EMU_SOUND);
    assert_int_equal(count_devices(), 2);
    check_ok(open_engine(&l, "emu:0", &err), &err);
    end_life(&l);
}

static void a_machine_without_the_driver_is_told_to_install_it(void **state) {
    (void)state;
    check_machine(DS_EMU_NO_DRIVER, "is not installed", "install it, or use device cpu");
}

static void a_driver_that_is_too_old_is_named_with_both_versions(void **state) {
    (void)state;
    check_machine(DS_EMU_OLD_DRIVER, "version 11.8; this build was made with 13.0", "install one of that version or later, or use device cpu");
}

static void a_machine_without_a_device_is_told_so(void **state) {
    (void)state;
    check_machine(DS_EMU_NO_DEVICE, "this machine has 0 of that kind", "use device cpu");
}

static void a_device_that_there_are_no_kernels_for_names_the_option_to_build_them(void **state) {
    (void)state;
    check_machine(DS_EMU_NO_KERNELS, "this build has no kernels for it", "-Dnvidia_archs");
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_machine_without_the_driver_is_told_to_install_it),
        cmocka_unit_test(a_driver_that_is_too_old_is_named_with_both_versions),
        cmocka_unit_test(a_machine_without_a_device_is_told_so),
        cmocka_unit_test(a_device_that_there_are_no_kernels_for_names_the_option_to_build_them),
        cmocka_unit_test(what_fails_once_anywhere_is_an_answer_and_the_engine_opens_again),
        cmocka_unit_test(a_device_that_is_lost_anywhere_is_an_answer_and_the_processor_goes_on),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]); /* a name, with * and ? */
    return cmocka_run_group_tests(tests, begin, remove_models);
}
