/* Sessions: every misuse is refused with a reason, and changes nothing. */
#include "session_engines.h"

#include <math.h>

/* --- parameters --- */

static void expect_failure(ds_status status, ds_status expected, const struct ds_error *err, const char *part) {
    assert_int_equal(status, expected);
    assert_int_equal(err->status, expected);
    check_contains(err->message, part);
}

static void refuse_params(const ds_session_params *params, ds_status expected, const char *part) {
    ds_session *session;
    struct ds_error err;
    expect_failure(ds_session_create(with_drafter, params, &session, &err), expected, &err, part);
    assert_null(session);
}

static void parameters_outside_what_is_documented_are_refused_by_name(void **state) {
    (void)state;
    static const float temperatures[] = {-1.0f, NAN, INFINITY, 1e-9f, 101.0f}, shares[] = {-0.1f, 1.1f, NAN};
    for (size_t i = 0; i < DS_COUNT(temperatures); i++) {
        ds_session_params p = ds_session_defaults();
        p.sampling.temperature = temperatures[i];
        refuse_params(&p, DS_ERROR_ARGUMENT, "temperature is");
    }
    for (size_t i = 0; i < DS_COUNT(shares); i++) {
        ds_session_params p = ds_session_defaults();
        p.sampling.top_p = shares[i];
        refuse_params(&p, DS_ERROR_ARGUMENT, "top_p is");
        p = ds_session_defaults();
        p.sampling.min_p = shares[i];
        refuse_params(&p, DS_ERROR_ARGUMENT, "min_p is");
    }
    ds_session_params p = ds_session_defaults();
    p.adapter = 1;
    refuse_params(&p, DS_ERROR_UNSUPPORTED, "adapter is 1");
    p = ds_session_defaults();
    p.spec = (ds_spec_mode)9;
    refuse_params(&p, DS_ERROR_ARGUMENT, "speculation mode 9");
    for (uint32_t length = 0; length <= 8; length += 8) {
        p = ds_session_defaults();
        p.spec = DS_SPEC_FIXED;
        p.spec_length = length;
        refuse_params(&p, DS_ERROR_ARGUMENT, "1 to 7");
    }
}

static void a_shorter_struct_of_an_older_header_works_and_a_longer_one_does_not(void **state) {
    (void)state;
    ds_session_params p = ds_session_defaults();
    p.sampling.temperature = 0.5f;
    p.adapter = 99; /* behind what the older header knew: never looked at */
    p.size = offsetof(ds_session_params, adapter);
    ds_session *session = new_session(with_drafter, &p);
    ds_session_destroy(session);
    p.size = sizeof p + 1;
    refuse_params(&p, DS_ERROR_ARGUMENT, "ds_session_params.size");
    p.size = 0;
    refuse_params(&p, DS_ERROR_ARGUMENT, "ds_session_params.size is 0");
    refuse_params(NULL, DS_ERROR_ARGUMENT, "ds_session_params.size is 0");
    ds_stats stats;
    memset(&stats, 0x55, sizeof stats);
    session = new_session(with_drafter, &(ds_session_params){.size = sizeof p});
    stats.size = offsetof(ds_stats, rounds);
    ds_session_get_stats(session, &stats);
    assert_int_equal(stats.generated, 0);
    assert_int_equal(stats.rounds, 0x5555555555555555); /* not the older header's */
    ds_session_destroy(session);
}

static void a_refused_configuration_leaves_the_session_as_it_was(void **state) {
    (void)state;
    const ds_session_params good = sampled(0.8f);
    ds_session_params bad = good;
    bad.sampling.temperature = -1;
    bad.sampling.seed = 1;
    ds_session *session = new_session(with_drafter, &good);
    struct ds_error err;
    append(session, prompt, prompt_count);
    generate(session, 10);
    assert_int_equal(ds_session_configure(session, &bad, &err), DS_ERROR_ARGUMENT);
    generate(session, 20);
    const struct stream got = stream_of(session), expected = stream_with(with_drafter, &good, prompt_count, 30);
    same_stream(&got, &expected);
    ds_session_destroy(session);
}

static void more_sessions_than_asked_for_are_refused_until_one_is_destroyed(void **state) {
    (void)state;
    const ds_session_params params = ds_session_defaults();
    ds_session *a = new_session(alone, &params), *b = new_session(alone, &params), *c;
    struct ds_error err;
    expect_failure(ds_session_create(alone, &params, &c, &err), DS_ERROR_LIMIT, &err, "2 session(s)");
    assert_null(c);
    ds_session_destroy(a);
    c = new_session(alone, &params);
    ds_session_destroy(c);
    ds_session_destroy(b);
    ds_session_destroy(NULL);
}

/* --- the sequence --- */

static void tokens_outside_the_vocabulary_or_the_context_change_nothing(void **state) {
    (void)state;
    const ds_session_params params = ds_session_defaults();
    ds_session *session = new_session(alone, &params);
    struct ds_error err;
    append(session, prompt, 3);
    expect_failure(ds_session_append(session, (const ds_token[]){5, 4096}, 2, &err), DS_ERROR_ARGUMENT, &err,
                   "token 1 is 4096; the vocabulary has ids 0 to 4095");
    expect_failure(ds_session_append(session, (const ds_token[]){-1}, 1, &err), DS_ERROR_ARGUMENT, &err, "token 0 is -1");
    static const ds_token many[CONTEXT];
    expect_failure(ds_session_append(session, many, CONTEXT - 2, &err), DS_ERROR_LIMIT, &err, "the context holds 160 and 3 are in use");
    assert_int_equal(ds_session_append(session, many, CONTEXT - 2, NULL), DS_ERROR_LIMIT); /* without a place for a message, too */
    assert_int_equal(ds_session_length(session), 3);
    assert_memory_equal(ds_session_tokens(session), prompt, 3 * sizeof *prompt);
    append(session, many, CONTEXT - 3);
    append(session, NULL, 0);
    expect_failure(ds_session_rewind(session, CONTEXT + 1, &err), DS_ERROR_ARGUMENT, &err, "cannot rewind to 161");
    assert_int_equal(generate(session, 5), DS_STOP_LENGTH);
    assert_int_equal(ds_session_length(session), CONTEXT);
    ds_session_destroy(session);
}

static void an_empty_sequence_has_nothing_to_generate_from_or_logits_of(void **state) {
    (void)state;
    const ds_session_params params = ds_session_defaults();
    ds_session *session = new_session(alone, &params);
    struct ds_error err;
    ds_stop stop;
    float logits;
    expect_failure(ds_session_generate(session, 1, NULL, NULL, &stop, &err), DS_ERROR_ARGUMENT, &err, "append a prompt");
    assert_int_equal(stop, DS_STOP_NONE);
    expect_failure(ds_session_logits(session, 1, &logits, &err), DS_ERROR_ARGUMENT, &err, "the sequence has 0 tokens");
    append(session, prompt, 2);
    expect_failure(ds_session_logits(session, 0, &logits, &err), DS_ERROR_ARGUMENT, &err, "logits of 0 rows");
    expect_failure(ds_session_logits(session, 3, &logits, &err), DS_ERROR_ARGUMENT, &err, "logits of 3 rows");
    assert_int_equal(generate(session, 0), DS_STOP_LENGTH);
    assert_int_equal(ds_session_length(session), 2);
    ds_session_destroy(session);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_outside_what_is_documented_are_refused_by_name),
        cmocka_unit_test(a_shorter_struct_of_an_older_header_works_and_a_longer_one_does_not),
        cmocka_unit_test(a_refused_configuration_leaves_the_session_as_it_was),
        cmocka_unit_test(more_sessions_than_asked_for_are_refused_until_one_is_destroyed),
        cmocka_unit_test(tokens_outside_the_vocabulary_or_the_context_change_nothing),
        cmocka_unit_test(an_empty_sequence_has_nothing_to_generate_from_or_logits_of),
    };
    return cmocka_run_group_tests_name("session_params", tests, open_engines, close_engines);
}
