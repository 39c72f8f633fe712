/* Measurements (dspark_dev.h): they count what the model has, leave a session as it was, and refuse what cannot be measured. */
#include "dspark_dev.h"
#include "tiny_model.h"

enum { CONTEXT = 100, PROMPT = 30, TOKENS = 24 };

static char *target_folder, *drafter_folder;
static ds_engine *engine;

static int open_models(void **state) {
    (void)state;
    struct tiny_model target = tiny_target(), drafter = tiny_drafter();
    target_folder = tiny_write(&target);
    drafter_folder = tiny_write(&drafter);
    ds_engine_params params = ds_engine_defaults();
    params.target = target_folder;
    params.drafter = drafter_folder;
    params.context = CONTEXT;
    params.threads = 2;
    struct ds_error err;
    check_ok(ds_engine_open(&params, &engine, &err), &err);
    return 0;
}

static int remove_models(void **state) {
    (void)state;
    ds_engine_destroy(engine);
    check_remove_folder(target_folder);
    check_remove_folder(drafter_folder);
    return 0;
}

static ds_session *start(ds_spec_mode spec) {
    ds_session_params params = ds_session_defaults();
    ds_session *session;
    ds_token tokens[PROMPT];
    struct ds_error err;
    params.spec = spec;
    params.spec_length = spec == DS_SPEC_FIXED ? 3 : 0;
    params.ignore_stop = true;
    for (int i = 0; i < PROMPT; i++) tokens[i] = i * 7 % TINY_VOCABULARY;
    check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err);
    check_ok(ds_session_create(engine, &params, &session, &err), &err);
    check_ok(ds_session_append(session, tokens, PROMPT, &err), &err);
    return session;
}

static void generate(ds_session *session, size_t count) {
    struct ds_error err;
    check_ok(ds_session_generate(session, count, NULL, NULL, NULL, &err), &err);
}

static void measure_all(ds_session *session, ds_spec_mode spec) {
    static ds_dev_profile profile;
    struct ds_error err;
    double seconds;
    for (uint32_t rows = 1; rows <= 16; rows++) {
        check_ok(ds_dev_time_pass(session, rows, rows, &seconds, &err), &err);
        assert_true(seconds > 0);
    }
    check_ok(ds_dev_profile_pass(session, 3, &profile, &err), &err);
    if (spec == DS_SPEC_OFF) return;
    check_ok(ds_dev_time_draft(session, &seconds, &err), &err);
    assert_true(seconds > 0);
}

static void measuring_between_rounds_changes_no_token_and_no_round(void **state) {
    (void)state;
    static const ds_spec_mode modes[] = {DS_SPEC_OFF, DS_SPEC_FIXED}; /* not AUTO, whose rounds depend on the machine */
    for (size_t m = 0; m < DS_COUNT(modes); m++) {
        ds_token expected[PROMPT + TOKENS];
        ds_stats alone = {.size = sizeof alone}, measured = {.size = sizeof measured};
        for (int measure = 0; measure < 2; measure++) {
            ds_session *session = start(modes[m]);
            for (int i = 0; i < TOKENS; i++) { /* one at a time: rounds overshoot, too */
                generate(session, 1);
                if (measure) measure_all(session, modes[m]);
            }
            assert_int_equal(ds_session_length(session), PROMPT + TOKENS);
            if (measure) assert_memory_equal(ds_session_tokens(session), expected, sizeof expected);
            else memcpy(expected, ds_session_tokens(session), sizeof expected);
            ds_session_get_stats(session, measure ? &measured : &alone);
            ds_session_destroy(session);
        }
        assert_int_equal(measured.rounds, alone.rounds);
        assert_int_equal(measured.accepted, alone.accepted);
    }
}

static void refuse_pass(ds_session *session, uint32_t rows, ds_status expected, const char *part) {
    static ds_dev_profile profile;
    struct ds_error err;
    double seconds = 1;
    assert_int_equal(ds_dev_time_pass(session, rows, rows, &seconds, &err), expected);
    check_contains(err.message, part);
    assert_true(seconds == 0);
    assert_int_equal(ds_dev_profile_pass(session, rows, &profile, &err), expected);
    assert_int_equal(profile.count, 0);
    assert_int_equal(ds_dev_time_pass(session, rows, rows, &seconds, NULL), expected);
}

static void a_pass_needs_a_session_that_has_generated_and_room_for_its_rows(void **state) {
    (void)state;
    ds_session *session = start(DS_SPEC_OFF);
    refuse_pass(session, 1, DS_ERROR_ARGUMENT, "30 tokens, 0 of them computed");
    generate(session, 1);
    refuse_pass(session, 0, DS_ERROR_LIMIT, "expected 1 to 32");
    refuse_pass(session, 33, DS_ERROR_LIMIT, "expected 1 to 32");
    generate(session, CONTEXT - PROMPT - 4);
    refuse_pass(session, 5, DS_ERROR_LIMIT, "5 rows behind 96 positions");
    double seconds;
    struct ds_error err;
    for (uint32_t outputs = 1; outputs <= 4; outputs++) check_ok(ds_dev_time_pass(session, 4, outputs, &seconds, &err), &err);
    static const uint32_t wrong[] = {0, 5};
    for (size_t i = 0; i < DS_COUNT(wrong); i++) {
        assert_int_equal(ds_dev_time_pass(session, 4, wrong[i], &seconds, &err), DS_ERROR_ARGUMENT);
        check_contains(err.message, "expected 1 to 4");
    }
    ds_session_destroy(session);
}

static void a_draft_needs_a_session_that_speculates(void **state) {
    (void)state;
    ds_session *session = start(DS_SPEC_OFF);
    struct ds_error err;
    double seconds = 1;
    generate(session, 1);
    assert_int_equal(ds_dev_time_draft(session, &seconds, &err), DS_ERROR_ARGUMENT);
    check_contains(err.message, "does not speculate");
    assert_true(seconds == 0);
    ds_session_destroy(session);
}

/* Multiply-adds of a row, from the shapes of tiny_model.h. */
static uint64_t tiny_macs(void) {
    const uint64_t attention = (uint64_t)TINY_HIDDEN * TINY_HEAD_DIM * (2 * TINY_HEADS + 2 * TINY_KV_HEADS);
    return TINY_LAYERS * (attention + 3 * TINY_HIDDEN * TINY_WIDTH) + TINY_VOCABULARY * TINY_HIDDEN;
}

static void limits_count_every_linear_once_a_row(void **state) {
    (void)state;
    ds_dev_roofline limits;
    struct ds_error err;
    check_ok(ds_dev_measure_roofline(engine, &limits, &err), &err);
    assert_int_equal(limits.macs, tiny_macs());
    assert_true(limits.weight_bytes >= 2 * tiny_macs()); /* bf16; a device may pad */
    assert_string_equal(limits.type, "bf16");
    assert_true(limits.isa[0] && limits.read > 0 && limits.peak > 0);
}

static void a_profile_names_every_linear_and_accounts_for_all_rows(void **state) {
    (void)state;
    static const char *const names[] = {"q", "k", "v", "o", "gate", "up", "down", "head"};
    static ds_dev_profile profile;
    struct ds_error err;
    ds_session *session = start(DS_SPEC_OFF);
    generate(session, 1);
    check_ok(ds_dev_profile_pass(session, 5, &profile, &err), &err);
    uint64_t macs = 0;
    size_t linears = 0;
    for (size_t i = 0; i < profile.count; i++) {
        const ds_dev_op_time *op = &profile.ops[i];
        macs += op->macs;
        linears += op->type != NULL;
        assert_true(op->calls > 0 && op->seconds >= 0);
        for (size_t n = 0; n < DS_COUNT(names); n++)
            if (strcmp(op->name, names[n]) == 0) assert_int_equal(op->calls, strcmp(op->name, "head") == 0 ? 1 : TINY_LAYERS);
    }
    assert_int_equal(linears, DS_COUNT(names));
    assert_int_equal(macs, 5 * tiny_macs());
    ds_session_destroy(session);
}

static void limits_need_a_prepared_engine(void **state) {
    (void)state;
    ds_dev_roofline limits;
    struct ds_error err;
    assert_int_equal(ds_dev_measure_roofline(engine, &limits, &err), DS_ERROR_ARGUMENT);
    check_contains(err.message, "not prepared");
    assert_null(limits.isa);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_need_a_prepared_engine), /* first: the others prepare it */
        cmocka_unit_test(measuring_between_rounds_changes_no_token_and_no_round),
        cmocka_unit_test(a_pass_needs_a_session_that_has_generated_and_room_for_its_rows),
        cmocka_unit_test(a_draft_needs_a_session_that_speculates),
        cmocka_unit_test(limits_count_every_linear_once_a_row),
        cmocka_unit_test(a_profile_names_every_linear_and_accounts_for_all_rows),
    };
    return cmocka_run_group_tests(tests, open_models, remove_models);
}
