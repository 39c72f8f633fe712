/* Sessions: what comes out does not depend on how it was asked for, and every misuse is refused with a reason. */
#include "streams.h"

#include <math.h>

/* One engine with the drafter and one without, shared by the tests: both are only read. */
static ds_engine *with_drafter, *alone;
static ds_token *prompt;
static size_t prompt_count;

enum { CONTEXT = 160, SOME = 40 /* tokens a stream has behind its prompt */ };

static int open_engines(void **state) {
    (void)state;
    ds_engine_params params = ds_engine_defaults();
    params.target = PAIR_TARGET;
    params.context = CONTEXT;
    params.max_sessions = 2;
    params.threads = 1;
    alone = open_engine(&params);
    params.drafter = PAIR_DRAFTER;
    with_drafter = open_engine(&params);
    prompt = prompt_tokens(alone, example_prompt, &prompt_count);
    assert_true(prompt_count > 8 && prompt_count < 64);
    return 0;
}

static int close_engines(void **state) {
    (void)state;
    ds_free(prompt);
    ds_engine_destroy(with_drafter);
    ds_engine_destroy(alone);
    return 0;
}

static ds_session_params sampled(float temperature) {
    ds_session_params params = ds_session_defaults();
    params.sampling = (ds_sampling){.temperature = temperature, .top_k = 50, .top_p = 0.95f, .seed = 77};
    params.ignore_stop = true;
    return params;
}

/* Verifies whole blocks, on a machine of any speed. */
static ds_session_params whole_blocks(float temperature) {
    ds_session_params params = sampled(temperature);
    params.spec = DS_SPEC_FIXED;
    params.spec_length = 7;
    return params;
}

/* The stream of `most` tokens behind the first `count` tokens of the prompt. */
static struct stream stream_with(ds_engine *engine, const ds_session_params *params, size_t count, size_t most) {
    ds_session *session = new_session(engine, params);
    append(session, prompt, count);
    generate(session, most);
    const struct stream stream = stream_of(session);
    ds_session_destroy(session);
    return stream;
}

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

/* --- the same stream, however it is asked for --- */

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

/* --- stopping --- */

struct limit {
    size_t calls, most;
    ds_session *cancel;
};

static bool take_some(void *user, ds_token token) {
    (void)token;
    struct limit *limit = user;
    if (limit->cancel && limit->calls + 1 == limit->most) ds_cancel(limit->cancel);
    return ++limit->calls < limit->most || limit->cancel;
}

static void a_callback_stops_after_the_token_it_refuses(void **state) {
    (void)state;
    const ds_session_params params = sampled(0.0f);
    const struct stream expected = stream_with(alone, &params, prompt_count, SOME);
    for (size_t most = 1; most <= 12; most += 1 + most / 4) {
        ds_session *session = new_session(with_drafter, &params);
        struct limit limit = {.most = most};
        struct ds_error err;
        ds_stop stop;
        append(session, prompt, prompt_count);
        check_ok(ds_session_generate(session, SOME, take_some, &limit, &stop, &err), &err);
        assert_int_equal(stop, DS_STOP_CALLBACK);
        assert_int_equal(limit.calls, most);
        assert_int_equal(ds_session_length(session), prompt_count + most);
        generate(session, SOME - most); /* and what was overshot does no harm */
        const struct stream got = stream_of(session);
        same_stream(&got, &expected);
        ds_session_destroy(session);
    }
}

struct follower {
    ds_session *session;
    size_t next;
};

static bool follow(void *user, ds_token token) {
    struct follower *f = user;
    assert_int_equal(ds_session_length(f->session), f->next + 1);
    assert_int_equal(ds_session_tokens(f->session)[f->next++], token);
    return true;
}

static void the_callback_sees_the_tokens_in_order_and_as_part_of_the_sequence(void **state) {
    (void)state;
    const ds_session_params params = sampled(0.0f);
    ds_session *session = new_session(with_drafter, &params);
    struct follower f = {session, prompt_count};
    struct ds_error err;
    append(session, prompt, prompt_count);
    check_ok(ds_session_generate(session, 50, follow, &f, NULL, &err), &err);
    assert_int_equal(f.next, prompt_count + 50);
    ds_session_destroy(session);
}

static void a_cancel_keeps_what_was_committed_and_the_session_goes_on(void **state) {
    (void)state;
    const ds_session_params params = sampled(0.0f);
    const struct stream expected = stream_with(alone, &params, prompt_count, SOME);
    ds_session *session = new_session(with_drafter, &params);
    struct limit limit = {.most = 10, .cancel = session};
    struct ds_error err;
    append(session, prompt, prompt_count);
    ds_cancel(session); /* before the call: seen by it */
    assert_int_equal(ds_session_generate(session, SOME, NULL, NULL, NULL, &err), DS_ERROR_CANCELLED);
    assert_int_equal(ds_session_length(session), prompt_count);
    assert_int_equal(ds_session_generate(session, SOME, take_some, &limit, NULL, &err), DS_ERROR_CANCELLED);
    assert_true(limit.calls >= 10 && limit.calls < 10 + 8); /* within the round */
    assert_int_equal(ds_session_length(session), prompt_count + limit.calls);
    generate(session, SOME - limit.calls);
    const struct stream got = stream_of(session);
    same_stream(&got, &expected);
    ds_session_destroy(session);
}

static void a_stop_token_ends_the_stream_wherever_in_a_block_it_falls(void **state) {
    (void)state;
    ds_session_params params = whole_blocks(0.0f);
    params.ignore_stop = false;
    struct stream expected = {.count = 0};
    ds_session *plain = new_session(alone, &params);
    append(plain, prompt, prompt_count);
    assert_int_equal(generate(plain, CONTEXT), DS_STOP_EOS);
    expected = stream_of(plain);
    assert_true(ds_is_stop_token(alone, expected.tokens[expected.count - 1]));
    ds_session_destroy(plain);
    bool inside = false;
    /* Beginning a little further each time, the stop token falls on every place of a block. */
    for (size_t begin = prompt_count; begin + 1 < expected.count && begin < prompt_count + 9; begin++) {
        ds_session *session = new_session(with_drafter, &params);
        append(session, expected.tokens, begin);
        assert_int_equal(generate(session, CONTEXT), DS_STOP_EOS);
        const struct stream got = stream_of(session);
        same_stream(&got, &expected);
        ds_stats stats = {.size = sizeof stats};
        ds_session_get_stats(session, &stats);
        /* A round that ends on an accepted stop token counts its drafts alone. */
        inside |= stats.committed_in_rounds != stats.accepted + stats.rounds;
        ds_session_destroy(session);
    }
    assert_true(inside);
    params.ignore_stop = true;
    const struct stream longer = stream_with(with_drafter, &params, prompt_count, expected.count - prompt_count + 20);
    assert_int_equal(longer.count, expected.count + 20);
    assert_memory_equal(longer.tokens, expected.tokens, expected.count * sizeof *expected.tokens);
}

/* --- what is reported --- */

struct sums {
    const ds_session *session;
    uint64_t rounds, drafted, verified, accepted, committed;
    size_t position;
};

static void add_round(void *user, const ds_round *round) {
    struct sums *s = user;
    s->rounds++;
    s->drafted += round->n_draft;
    s->verified += round->verified;
    s->accepted += round->accepted;
    s->committed += round->accepted + 1;
    assert_true(round->accepted <= round->verified && round->verified <= round->n_draft && round->n_draft <= 7);
    assert_non_null(round->confidence);
    for (size_t i = 0; i < round->n_draft; i++) assert_true(round->confidence[i] > 0 && round->confidence[i] < 1);
    assert_int_equal(round->position + 1, ds_session_length(s->session));
    assert_int_equal(round->anchor, ds_session_tokens(s->session)[round->position]);
}

static void traced_rounds_add_up_to_the_statistics_and_the_stream(void **state) {
    (void)state;
    const ds_session_params params = whole_blocks(0.0f);
    ds_session *session = new_session(with_drafter, &params);
    struct sums sums = {.session = session};
    ds_session_set_trace(session, add_round, &sums);
    append(session, prompt, prompt_count);
    generate(session, 100);
    ds_stats stats = {.size = sizeof stats};
    ds_session_get_stats(session, &stats);
    assert_int_equal(stats.prompt_tokens, prompt_count);
    assert_int_equal(stats.generated, 100);
    assert_int_equal(stats.rounds, sums.rounds);
    assert_int_equal(stats.drafted, sums.drafted);
    assert_int_equal(stats.verified, sums.verified);
    assert_int_equal(stats.accepted, sums.accepted);
    assert_int_equal(stats.committed_in_rounds, sums.committed);
    assert_true(1 + sums.committed >= 100 && 1 + sums.committed < 108); /* the last round may overshoot */
    assert_true(sums.accepted > 0);
    ds_session_reset_stats(session);
    ds_session_get_stats(session, &stats);
    assert_int_equal(stats.generated, 0);
    ds_session_destroy(session);
}

static void logits_of_a_session_equal_those_of_a_forward_pass(void **state) {
    (void)state;
    const ds_session_params params = sampled(0.0f);
    const size_t rows = 45, width = 4096; /* more rows than a pass gives logits of */
    const struct stream stream = stream_with(alone, &params, prompt_count, SOME);
    float *all = malloc(stream.count * width * sizeof *all), *last = malloc(rows * width * sizeof *last);
    assert_true(all && last);
    struct ds_error err;
    ds_session *forward = new_session(alone, &params), *session = new_session(with_drafter, &params);
    check_ok(ds_dev_forward(forward, stream.tokens, stream.count, false, all, NULL, &err), &err);
    append(session, prompt, prompt_count);
    generate(session, SOME);
    for (int again = 0; again < 2; again++) {
        check_ok(ds_session_logits(session, rows, last, &err), &err);
        assert_memory_equal(last, all + (stream.count - rows) * width, rows * width * sizeof *last);
    }
    check_ok(ds_session_logits(session, 1, last, &err), &err);
    assert_memory_equal(last, all + (stream.count - 1) * width, width * sizeof *last);
    generate(session, 10);
    const struct stream got = stream_of(session), expected = stream_with(alone, &params, prompt_count, SOME + 10);
    same_stream(&got, &expected); /* looking at logits does not disturb */
    ds_session_destroy(session);
    ds_session_destroy(forward);
    free(all);
    free(last);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_outside_what_is_documented_are_refused_by_name),
        cmocka_unit_test(a_shorter_struct_of_an_older_header_works_and_a_longer_one_does_not),
        cmocka_unit_test(a_refused_configuration_leaves_the_session_as_it_was),
        cmocka_unit_test(more_sessions_than_asked_for_are_refused_until_one_is_destroyed),
        cmocka_unit_test(tokens_outside_the_vocabulary_or_the_context_change_nothing),
        cmocka_unit_test(an_empty_sequence_has_nothing_to_generate_from_or_logits_of),
        cmocka_unit_test(a_drafter_of_any_length_changes_no_token),
        cmocka_unit_test(one_token_asked_for_at_a_time_is_the_stream_asked_for_at_once),
        cmocka_unit_test(the_context_ends_at_exactly_its_length_with_and_without_drafter),
        cmocka_unit_test(what_is_rewound_and_appended_again_goes_on_as_before),
        cmocka_unit_test(turning_the_drafter_off_and_on_changes_no_token),
        cmocka_unit_test(a_conversation_that_grows_equals_one_computed_afresh),
        cmocka_unit_test(a_callback_stops_after_the_token_it_refuses),
        cmocka_unit_test(the_callback_sees_the_tokens_in_order_and_as_part_of_the_sequence),
        cmocka_unit_test(a_cancel_keeps_what_was_committed_and_the_session_goes_on),
        cmocka_unit_test(a_stop_token_ends_the_stream_wherever_in_a_block_it_falls),
        cmocka_unit_test(traced_rounds_add_up_to_the_statistics_and_the_stream),
        cmocka_unit_test(logits_of_a_session_equal_those_of_a_forward_pass),
    };
    return cmocka_run_group_tests_name("session", tests, open_engines, close_engines);
}
