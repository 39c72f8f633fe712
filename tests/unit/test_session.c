/* Sessions: what comes out does not depend on how it was asked for. */
#include "session_engines.h"

static void a_drafter_of_any_length_changes_no_token(void **state) {
    (void)state;
    static const float temperatures[] = {0.0f, 1.0f};
    for (size_t t = 0; t < DS_COUNT(temperatures); t++) {
        ds_session_params params = sampled(temperatures[t]);
        const struct stream expected = stream_with(alone, &params, prompt_count, 50);
        assert_int_equal(expected.count, prompt_count + 50);
        params.spec = DS_SPEC_OFF;
        struct stream got = stream_with(with_drafter, &params, prompt_count, 50);
        same_stream(&got, &expected);
        for (uint32_t length = 2; length <= 7; length += 5) {
            params.spec = DS_SPEC_FIXED;
            params.spec_length = length;
            got = stream_with(with_drafter, &params, prompt_count, 50);
            same_stream(&got, &expected);
        }
        params.spec = DS_SPEC_AUTO;
        got = stream_with(with_drafter, &params, prompt_count, 50);
        same_stream(&got, &expected);
    }
}

static void one_token_asked_for_at_a_time_is_the_stream_asked_for_at_once(void **state) {
    (void)state;
    const ds_session_params params = sampled(1.0f);
    const struct stream expected = stream_with(alone, &params, prompt_count, 40);
    ds_session *session = new_session(with_drafter, &params);
    append(session, prompt, prompt_count);
    for (size_t done = 0, n = 1; done < 40; done += n) { /* 1, 2, 1, 2, ..: within blocks and at their ends */
        n = n == 1 && done + 2 <= 40 ? 2 : 1;
        assert_int_equal(generate(session, n), DS_STOP_LENGTH);
    }
    const struct stream got = stream_of(session);
    same_stream(&got, &expected);
    ds_session_destroy(session);
}

static void the_context_ends_at_exactly_its_length_with_and_without_drafter(void **state) {
    (void)state;
    ds_session_params params = sampled(0.0f);
    const struct stream expected = stream_with(alone, &params, prompt_count, 10 * CONTEXT);
    assert_int_equal(expected.count, CONTEXT);
    const struct stream got = stream_with(with_drafter, &params, prompt_count, 10 * CONTEXT);
    same_stream(&got, &expected);
    /* Also when the block reaches over the end from every distance. */
    for (size_t missing = 1; missing <= 9; missing++) {
        ds_session *session = new_session(with_drafter, &params);
        append(session, expected.tokens, CONTEXT - missing);
        assert_int_equal(generate(session, 100), DS_STOP_LENGTH);
        const struct stream end = stream_of(session);
        same_stream(&end, &expected);
        ds_session_destroy(session);
    }
}

static void what_is_rewound_and_appended_again_goes_on_as_before(void **state) {
    (void)state;
    const ds_session_params params = sampled(0.7f);
    const struct stream expected = stream_with(alone, &params, prompt_count, SOME);
    static const size_t cuts[] = {0, 5, 63, 64, 65};
    for (size_t i = 0; i < DS_COUNT(cuts); i++) {
        ds_session *session = new_session(with_drafter, &params);
        struct ds_error err;
        append(session, prompt, prompt_count);
        generate(session, SOME);
        const size_t cut = cuts[i] < expected.count ? cuts[i] : expected.count;
        check_ok(ds_session_rewind(session, cut, &err), &err);
        assert_int_equal(ds_session_length(session), cut);
        const size_t from = cut < prompt_count ? cut : prompt_count;
        check_ok(ds_session_rewind(session, from, &err), &err); /* twice is no harm */
        append(session, prompt + from, prompt_count - from);
        generate(session, SOME);
        const struct stream got = stream_of(session);
        same_stream(&got, &expected);
        ds_session_destroy(session);
    }
}

static void turning_the_drafter_off_and_on_changes_no_token(void **state) {
    (void)state;
    ds_session_params params = sampled(0.9f);
    const struct stream expected = stream_with(alone, &params, prompt_count, SOME);
    ds_session *session = new_session(with_drafter, &params);
    struct ds_error err;
    append(session, prompt, prompt_count);
    for (int i = 0; i < 4; i++) {
        params.spec = i % 2 ? DS_SPEC_OFF : DS_SPEC_AUTO;
        check_ok(ds_session_configure(session, &params, &err), &err);
        generate(session, 10);
    }
    const struct stream got = stream_of(session);
    same_stream(&got, &expected);
    ds_session_destroy(session);
}

static void a_conversation_that_grows_equals_one_computed_afresh(void **state) {
    (void)state;
    const ds_session_params params = sampled(0.0f);
    ds_session *grown = new_session(with_drafter, &params);
    for (int turn = 0; turn < 3; turn++) {
        append(grown, prompt, prompt_count);
        generate(grown, 15);
        const struct stream so_far = stream_of(grown);
        ds_session *fresh = new_session(with_drafter, &params);
        append(fresh, so_far.tokens, so_far.count - 15);
        generate(fresh, 15);
        const struct stream again = stream_of(fresh);
        same_stream(&so_far, &again);
        ds_session_destroy(fresh);
    }
    ds_session_destroy(grown);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drafter_of_any_length_changes_no_token),
        cmocka_unit_test(one_token_asked_for_at_a_time_is_the_stream_asked_for_at_once),
        cmocka_unit_test(the_context_ends_at_exactly_its_length_with_and_without_drafter),
        cmocka_unit_test(what_is_rewound_and_appended_again_goes_on_as_before),
        cmocka_unit_test(turning_the_drafter_off_and_on_changes_no_token),
        cmocka_unit_test(a_conversation_that_grows_equals_one_computed_afresh),
    };
    return cmocka_run_group_tests_name("session", tests, open_engines, close_engines);
}
