/* Sessions: how a stream ends, what callbacks see of it on the way, and what is reported afterwards. */
#include "session_engines.h"

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
        cmocka_unit_test(a_callback_stops_after_the_token_it_refuses),
        cmocka_unit_test(the_callback_sees_the_tokens_in_order_and_as_part_of_the_sequence),
        cmocka_unit_test(a_cancel_keeps_what_was_committed_and_the_session_goes_on),
        cmocka_unit_test(a_stop_token_ends_the_stream_wherever_in_a_block_it_falls),
        cmocka_unit_test(traced_rounds_add_up_to_the_statistics_and_the_stream),
        cmocka_unit_test(logits_of_a_session_equal_those_of_a_forward_pass),
    };
    return cmocka_run_group_tests_name("session_ends", tests, open_engines, close_engines);
}
