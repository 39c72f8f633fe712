/*
 * What a session listens for: stop strings, met across the borders of tokens and of rounds, and log-probabilities. Both are the same with and
 * without a drafter.
 */
#include "pair_engines.h"

#include "text/stops.h"

#include <math.h>

/* --- stop strings over pieces of text --- */

/* The text `all` in pieces of `step` bytes, with these stop strings: what comes through, and which was met. */
static int through(const char *const *stops, size_t n, const char *all, size_t step, char out[256]) {
    struct ds_stops *s;
    struct ds_error err;
    check_ok(ds_stops_create(stops, n, 64, &s, &err), &err);
    size_t length = 0;
    const size_t size = strlen(all);
    for (size_t i = 0; i < size; i += step) length += ds_stops_push(s, all + i, size - i < step ? size - i : step, out + length);
    const int met = s->met;
    length += ds_stops_finish(s, out + length);
    out[length] = '\0';
    ds_stops_destroy(s);
    return met;
}

static void a_stop_string_cuts_the_text_however_it_is_divided(void **state) {
    (void)state;
    static const struct {
        const char *stops[3], *text, *expected;
        int met;
    } cases[] = {
        {{"END"}, "one ENDING", "one ", 0},
        {{"END"}, "one EN and ENE", "one EN and ENE", -1},
        {{"aab"}, "aaaab", "aa", 0},
        {{"\n\n", "stop"}, "a\nb stop\n\n", "a\nb ", 1},
        {{"abcd", "bc"}, "xabcx", "xa", 1},
        {{"ab", "abc"}, "abc", "", 0},
        {{"zz"}, "z", "z", -1},
        {{"x"}, "", "", -1},
    };
    for (size_t c = 0; c < DS_COUNT(cases); c++)
        for (size_t step = 1; step <= 12; step++) {
            size_t n = 0;
            while (n < 3 && cases[c].stops[n]) n++;
            char out[256];
            assert_int_equal(through(cases[c].stops, n, cases[c].text, step, out), cases[c].met);
            assert_string_equal(out, cases[c].expected);
        }
}

static void only_what_may_begin_a_stop_string_is_held_back(void **state) {
    (void)state;
    const char *const stops[] = {"\nUser:"};
    struct ds_stops *s;
    struct ds_error err;
    char out[256];
    check_ok(ds_stops_create(stops, 1, 64, &s, &err), &err);
    assert_int_equal(ds_stops_push(s, "Hello\nUs", 8, out), 5);
    assert_int_equal(ds_stops_push(s, "ual", 3, out), 6);
    assert_memory_equal(out, "\nUsual", 6);
    ds_stops_destroy(s);
}

static void empty_long_and_malformed_stop_strings_are_refused(void **state) {
    (void)state;
    struct ds_stops *s;
    struct ds_error err;
    static char longer[DS_MOST_STOP_BYTES + 2];
    memset(longer, 'x', sizeof longer - 1);
    const char *const bad[] = {"", NULL, longer, "\xff\xfe"};
    static const char *const messages[] = {"stop string 1 is empty", "stop string 1 is empty", "has 1025 bytes; expected 1 to 1024", "is not UTF-8"};
    for (size_t i = 0; i < DS_COUNT(bad); i++) {
        const char *const list[] = {"fine", bad[i]};
        assert_int_equal(ds_stops_create(list, 2, 64, &s, &err), DS_ERROR_ARGUMENT);
        check_contains(err.message, messages[i]);
        assert_null(s);
    }
    assert_int_equal(ds_stops_create(NULL, 1, 64, &s, &err), DS_ERROR_ARGUMENT);
    const char *many[DS_MOST_STOPS + 1];
    for (size_t i = 0; i < DS_COUNT(many); i++) many[i] = "x";
    assert_int_equal(ds_stops_create(many, DS_COUNT(many), 64, &s, &err), DS_ERROR_ARGUMENT);
    check_contains(err.message, "65 stop strings; at most 64");
}

/* --- sessions --- */

enum { MOST = 60, TOP = 5 };

static char *text_of(const ds_token *tokens, size_t count) {
    char *text;
    size_t length;
    struct ds_error err;
    check_ok(ds_detokenize(engine, tokens, count, false, &text, &length, &err), &err);
    return text;
}

/* Any three characters in the middle of an answer as a stop string: the sequence ends with the token that completes them. */
static void a_session_ends_with_the_token_that_completes_a_stop_string(void **state) {
    (void)state;
    ds_session_params params = params_with(0, 0);
    ds_session *session = new_session(alone, &params);
    append(session, prompt, prompt_count);
    generate(session, MOST);
    const struct stream whole = stream_of(session);
    ds_session_destroy(session);
    char *text = text_of(whole.tokens + prompt_count, whole.count - prompt_count);
    const size_t size = strlen(text);
    assert_true(size > 20);
    for (size_t at = 3; at + 3 < size && at < 40; at += 5) {
        const char cut[] = {text[at], text[at + 1], text[at + 2], '\0'};
        if (strstr(text, cut) != text + at || (unsigned char)cut[0] >= 128) continue;
        const char *const stops[] = {"never there", cut};
        size_t expected = prompt_count; /* tokens until the text reaches the end of the string */
        for (;;) {
            char *begun = text_of(whole.tokens + prompt_count, ++expected - prompt_count);
            const bool reached = strlen(begun) >= at + 3;
            ds_free(begun);
            if (reached) break;
        }
        for (uint32_t length = 0; length <= 7; length += 7) {
            params = params_with(0, length);
            params.stops = stops;
            params.n_stops = 2;
            session = new_session(length ? engine : alone, &params);
            append(session, prompt, prompt_count);
            assert_int_equal(generate(session, MOST), DS_STOP_STRING);
            const struct stream got = stream_of(session);
            assert_int_equal(got.count, expected);
            assert_memory_equal(got.tokens, whole.tokens, expected * sizeof(ds_token));
            /* The same in pieces of one token, and the text of a stream with the same strings. */
            struct ds_error err;
            check_ok(ds_session_rewind(session, prompt_count, &err), &err);
            ds_stop stop = DS_STOP_LENGTH;
            while (stop == DS_STOP_LENGTH) stop = generate(session, 1);
            assert_int_equal(stop, DS_STOP_STRING);
            assert_int_equal(ds_session_length(session), expected);
            ds_session_destroy(session);
            ds_text_stream *stream;
            check_ok(ds_text_stream_create_until(engine, false, stops, 2, &stream, &err), &err);
            size_t total = 0, n;
            for (size_t i = prompt_count; i < expected; i++) {
                const char *piece = ds_text_stream_push(stream, got.tokens[i], &n);
                assert_memory_equal(piece, text + total, n);
                total += n;
            }
            assert_int_equal(ds_text_stream_stopped(stream), 1);
            assert_int_equal(total, at);
            ds_text_stream_finish(stream, &n);
            assert_int_equal(n, 0);
            ds_text_stream_destroy(stream);
        }
    }
    ds_free(text);
}

static void a_session_refuses_bad_stop_strings_and_too_many_logprobs(void **state) {
    (void)state;
    struct ds_error err;
    ds_session *session;
    ds_session_params params = params_with(0, 0);
    const char *const stops[] = {""};
    params.stops = stops;
    params.n_stops = 1;
    assert_int_equal(ds_session_create(alone, &params, &session, &err), DS_ERROR_ARGUMENT);
    check_contains(err.message, "stop string 0 is empty");
    params = params_with(0, 0);
    params.logprobs = 5;
    assert_int_equal(ds_session_create(alone, &params, &session, &err), DS_ERROR_ARGUMENT);
    check_contains(err.message, "logprobs is 5, but logprobs_fn is NULL");
}

struct told {
    size_t count;
    ds_token_logprob chosen[MOST], top[MOST][TOP];
};

static void hear(void *user, const ds_token_logprob *chosen, const ds_token_logprob *top, size_t n_top) {
    struct told *told = user;
    assert_int_equal(n_top, TOP);
    assert_true(told->count < MOST);
    told->chosen[told->count] = *chosen;
    memcpy(told->top[told->count++], top, sizeof told->top[0]);
}

static struct stream listen_to(ds_engine *on, ds_session_params params, struct told *told) {
    memset(told, 0, sizeof *told);
    params.logprobs = TOP;
    params.logprobs_fn = hear;
    params.logprobs_user = told;
    params.ignore_stop = true;
    ds_session *session = new_session(on, &params);
    append(session, prompt, prompt_count);
    generate(session, MOST);
    const struct stream stream = stream_of(session);
    ds_session_destroy(session);
    return stream;
}

/* Those of each token of the stream and of the likeliest beside it, against the raw logits that a plain session gives. */
static void expect_logprobs_of(const struct stream *stream, const struct told *told, size_t setting) {
    static float logits[VOCABULARY];
    const ds_session_params params = params_with(0, 0);
    ds_session *session = new_session(alone, &params);
    append(session, stream->tokens, prompt_count);
    struct ds_error err;
    assert_int_equal(told->count, MOST);
    for (size_t i = 0; i < MOST; i++) {
        check_ok(ds_session_logits(session, 1, logits, &err), &err);
        double sum = 0;
        for (int k = 0; k < VOCABULARY; k++) sum += exp((double)logits[k]);
        assert_int_equal(told->chosen[i].token, stream->tokens[prompt_count + i]);
        for (int k = -1; k < TOP; k++) {
            const ds_token_logprob *p = k < 0 ? &told->chosen[i] : &told->top[i][k];
            const double expected = (double)logits[p->token] - log(sum);
            if (fabs((double)p->logprob - expected) > 1e-5)
                fail_msg("setting %zu, token %zu, number %d: %.7f, expected %.7f", setting, i, k, (double)p->logprob, expected);
            size_t better = 0;
            for (int t = 0; t < VOCABULARY; t++) better += logits[t] > logits[p->token] || (logits[t] == logits[p->token] && t < p->token);
            if (k >= 0) assert_int_equal(better, k);
        }
        append(session, &stream->tokens[prompt_count + i], 1);
    }
    ds_session_destroy(session);
}

/* Temperature, filters, penalties, biases and the way of accepting decide which token comes, and not what the model thinks of it. */
static void logprobs_are_the_models_own_under_every_setting(void **state) {
    (void)state;
    static const struct {
        ds_sampling sampling;
        ds_penalties penalties;
        float bias;
        bool rejects;
    } settings[] = {
        {.sampling = {.temperature = 0}},
        {.sampling = {.temperature = 0.8f}},
        {.sampling = {.temperature = 100}},
        {.sampling = {.temperature = 1, .top_k = 3}},
        {.sampling = {.temperature = 1, .top_p = 0.6f}},
        {.sampling = {.temperature = 1, .min_p = 0.1f}},
        {.sampling = {.temperature = 0}, .penalties = {.repetition = 1.3f, .presence = 0.5f, .frequency = 0.2f, .window = 20}},
        {.sampling = {.temperature = 1.2f, .top_k = 40, .top_p = 0.9f, .min_p = 0.02f}, .penalties = {.repetition = 1.2f}, .bias = 4},
        {.sampling = {.temperature = 1}, .rejects = true},
        {.sampling = {.temperature = 0.9f, .top_p = 0.9f}, .penalties = {.frequency = 0.4f}, .bias = -2, .rejects = true},
    };
    static struct told told, plain;
    for (size_t i = 0; i < DS_COUNT(settings); i++) {
        const ds_logit_bias bias = {13, settings[i].bias};
        ds_session_params params = params_with(0, 7);
        params.sampling = settings[i].sampling;
        params.sampling.seed = 3;
        params.penalties = settings[i].penalties;
        if (!params.penalties.repetition) params.penalties.repetition = 1;
        params.logit_bias = &bias;
        params.n_logit_bias = settings[i].bias != 0;
        params.acceptance = settings[i].rejects ? DS_REJECTION : DS_COUPLED;
        const struct stream stream = listen_to(engine, params, &told);
        expect_logprobs_of(&stream, &told, i);
        if (settings[i].rejects) continue; /* without a drafter other words are drawn */
        const struct stream expected = listen_to(alone, params, &plain);
        same_stream(&stream, &expected);
        assert_memory_equal(&told, &plain, sizeof told);
    }
}

static void logprobs_are_the_same_bits_with_and_without_a_drafter(void **state) {
    (void)state;
    static struct told told, drafted;
    const ds_logit_bias bias = {13, 3};
    for (int penalised = 0; penalised < 2; penalised++) {
        ds_session_params params = params_with(0.8f, 7);
        if (penalised) params.penalties.repetition = 1.3f;
        params.logit_bias = &bias;
        params.n_logit_bias = (size_t)penalised;
        const struct stream a = listen_to(engine, params, &drafted), b = listen_to(alone, params, &told);
        same_stream(&a, &b);
        assert_memory_equal(&told, &drafted, sizeof told);
        params.acceptance = DS_REJECTION;
        const struct stream c = listen_to(engine, params, &drafted);
        for (size_t i = 0; i < MOST; i++) assert_int_equal(drafted.chosen[i].token, c.tokens[prompt_count + i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_string_cuts_the_text_however_it_is_divided),
        cmocka_unit_test(only_what_may_begin_a_stop_string_is_held_back),
        cmocka_unit_test(empty_long_and_malformed_stop_strings_are_refused),
        cmocka_unit_test(a_session_ends_with_the_token_that_completes_a_stop_string),
        cmocka_unit_test(a_session_refuses_bad_stop_strings_and_too_many_logprobs),
        cmocka_unit_test(logprobs_are_the_models_own_under_every_setting),
        cmocka_unit_test(logprobs_are_the_same_bits_with_and_without_a_drafter),
    };
    return cmocka_run_group_tests_name("listening", tests, open_engines, close_engines);
}
