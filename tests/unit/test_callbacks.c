/* Callbacks: a bias is obeyed and changes nothing else, and what is called from within a callback works or is refused. */
#include "pair_engines.h"

#include <math.h>

enum { MOST = 40 };

/* A host's side of a bias: it sees the session and the drafts behind it. */
struct host {
    ds_session *session;
    size_t rows, drafted_rows;
    bool (*rule)(const struct host *host, const ds_token *tokens, size_t count, float *bias);
    ds_token forbidden;
    size_t forbid_all_at;
    size_t last_drafted;
    ds_token seen[64];
};

static bool ask(void *user, const ds_token *drafted, size_t n_drafted, float *bias) {
    struct host *host = user;
    /* Drafts come one more a row, each row with those of the row before. */
    if (n_drafted > 0) {
        assert_int_equal(n_drafted, host->last_drafted + 1);
        assert_memory_equal(drafted, host->seen, (n_drafted - 1) * sizeof *drafted);
        memcpy(host->seen, drafted, n_drafted * sizeof *drafted);
        host->drafted_rows++;
    }
    host->last_drafted = n_drafted;
    host->rows++;
    for (size_t i = 0; i < VOCABULARY; i += 511) assert_true(bias[i] == 0.0f);
    ds_token all[512];
    const size_t length = ds_session_length(host->session);
    memcpy(all, ds_session_tokens(host->session), length * sizeof *all);
    if (n_drafted) memcpy(all + length, drafted, n_drafted * sizeof *all);
    return host->rule(host, all, length + n_drafted, bias);
}

static ds_status run(ds_engine *on, ds_session_params params, struct host *host, struct stream *out, struct ds_error *err) {
    params.bias = ask;
    params.bias_user = host;
    params.ignore_stop = true;
    host->session = new_session(on, &params);
    append(host->session, prompt, prompt_count);
    const ds_status status = ds_session_generate(host->session, MOST, NULL, NULL, NULL, err);
    *out = stream_of(host->session);
    ds_session_destroy(host->session);
    return status;
}

static ds_session_params with_temperature(float temperature) {
    ds_session_params params = ds_session_defaults();
    params.sampling = (ds_sampling){.temperature = temperature, .seed = 3};
    params.spec = DS_SPEC_FIXED; /* DS_SPEC_AUTO may see that nothing pays here, and draft nothing */
    params.spec_length = 3;
    return params;
}

static bool forbid_one(const struct host *host, const ds_token *tokens, size_t count, float *bias) {
    (void)tokens;
    (void)count;
    bias[host->forbidden] = -INFINITY;
    return true;
}

static bool no_bias(const struct host *host, const ds_token *tokens, size_t count, float *bias) {
    (void)host;
    (void)tokens;
    (void)count;
    for (size_t i = 0; i < VOCABULARY; i++) bias[i] = -INFINITY; /* not looked at */
    return false;
}

static void a_forbidden_token_does_not_come_and_a_declined_bias_changes_nothing(void **state) {
    (void)state;
    struct ds_error err;
    struct stream free_stream, stream;
    struct host host = {.rule = no_bias};
    check_ok(run(engine, with_temperature(0), &host, &free_stream, &err), &err);
    assert_true(host.drafted_rows > 0);
    ds_session_params params = with_temperature(0);
    params.ignore_stop = true;
    ds_session *session = new_session(engine, &params);
    append(session, prompt, prompt_count);
    generate(session, MOST);
    stream = stream_of(session);
    same_stream(&stream, &free_stream);
    ds_session_destroy(session);
    for (size_t i = 0; i < 5; i++) {
        host = (struct host){.rule = forbid_one, .forbidden = free_stream.tokens[prompt_count + 3 * i]};
        check_ok(run(engine, with_temperature(0), &host, &stream, &err), &err);
        for (size_t k = prompt_count; k < stream.count; k++) assert_int_not_equal(stream.tokens[k], host.forbidden);
        assert_int_equal(stream.count, prompt_count + MOST);
    }
}

/* A small grammar over the history: the class of a token follows from the two tokens in front of it. */
static bool grammar(const struct host *host, const ds_token *tokens, size_t count, float *bias) {
    (void)host;
    const uint32_t wanted = (uint32_t)(tokens[count - 1] + 3 * tokens[count - 2]) % 4;
    for (uint32_t id = 0; id < VOCABULARY; id++) bias[id] = id % 4 == wanted ? 0.5f : id % 4 == (wanted + 1) % 4 ? 0.0f : -INFINITY;
    return count % 5 != 0; /* now and then anything goes */
}

static void a_grammar_gives_the_same_stream_with_and_without_drafter(void **state) {
    (void)state;
    static const float temperatures[] = {0.0f, 1.0f};
    for (size_t t = 0; t < DS_COUNT(temperatures); t++) {
        struct ds_error err;
        struct stream expected, stream;
        struct host host = {.rule = grammar};
        check_ok(run(alone, with_temperature(temperatures[t]), &host, &expected, &err), &err);
        assert_int_equal(host.drafted_rows, 0);
        for (size_t i = prompt_count; i < expected.count; i++) {
            const uint32_t wanted = (uint32_t)(expected.tokens[i - 1] + 3 * expected.tokens[i - 2]) % 4, found = (uint32_t)expected.tokens[i] % 4;
            assert_true(i % 5 == 0 || found == wanted || found == (wanted + 1) % 4);
        }
        host = (struct host){.rule = grammar};
        check_ok(run(engine, with_temperature(temperatures[t]), &host, &stream, &err), &err);
        assert_true(host.drafted_rows > 0);
        same_stream(&stream, &expected);
    }
}

static bool nothing_from(const struct host *host, const ds_token *tokens, size_t count, float *bias) {
    (void)tokens;
    if (count < host->forbid_all_at) return false;
    for (size_t i = 0; i < VOCABULARY; i++) bias[i] = -INFINITY;
    return true;
}

static void a_bias_that_forbids_all_ends_the_stream_at_the_same_token_with_and_without_drafter(void **state) {
    (void)state;
    for (size_t at = prompt_count; at < prompt_count + 12; at++) {
        struct ds_error err;
        struct stream expected, stream;
        struct host host = {.rule = nothing_from, .forbid_all_at = at};
        assert_int_equal(run(alone, with_temperature(0), &host, &expected, &err), DS_ERROR_ARGUMENT);
        check_contains(err.message, "the bias forbids every token at position");
        assert_int_equal(expected.count, at);
        host = (struct host){.rule = nothing_from, .forbid_all_at = at};
        assert_int_equal(run(engine, with_temperature(0), &host, &stream, &err), DS_ERROR_ARGUMENT);
        same_stream(&stream, &expected);
    }
}

/* --- calls from callbacks --- */

struct nested {
    ds_session *outer, *inner;
    size_t calls;
};

static void refused(ds_status status, const struct ds_error *err) {
    assert_int_equal(status, DS_ERROR_ARGUMENT);
    check_contains(err->message, "middle of a call");
}

static bool call_everything(void *user, ds_token token) {
    struct nested *n = user;
    struct ds_error err;
    ds_stop stop;
    /* Its own session: may be looked at, not changed. */
    const size_t length = ds_session_length(n->outer);
    assert_int_equal(ds_session_tokens(n->outer)[length - 1], token);
    refused(ds_session_append(n->outer, &token, 1, &err), &err);
    refused(ds_session_rewind(n->outer, 0, &err), &err);
    refused(ds_session_generate(n->outer, 1, NULL, NULL, &stop, &err), &err);
    refused(ds_session_logits(n->outer, 1, NULL, &err), &err);
    refused(ds_session_save(n->outer, "/nonexistent/file", &err), &err);
    refused(ds_session_load(n->outer, "/nonexistent/file", &err), &err);
    refused(ds_dev_forward(n->outer, &token, 1, true, NULL, NULL, &err), &err);
    const ds_session_params params = ds_session_defaults();
    refused(ds_session_configure(n->outer, &params, &err), &err);
    assert_int_equal(ds_session_length(n->outer), length);
    ds_stats stats = {.size = sizeof stats};
    ds_session_get_stats(n->outer, &stats);
    assert_int_equal(stats.generated, ++n->calls);
    /* Everything else works: no lock is held. */
    char *text;
    size_t bytes;
    check_ok(ds_detokenize(engine, &token, 1, true, &text, &bytes, &err), &err);
    ds_free(text);
    if (n->calls % 8 == 1) generate(n->inner, 3);
    ds_session *third;
    assert_int_equal(ds_session_create(engine, &params, &third, &err), DS_ERROR_LIMIT);
    return true;
}

static void callbacks_may_call_what_does_not_change_their_session(void **state) {
    (void)state;
    ds_session_params params = with_temperature(0);
    params.ignore_stop = true;
    struct nested n = {.outer = new_session(engine, &params), .inner = new_session(engine, &params)};
    struct ds_error err;
    append(n.outer, prompt, prompt_count);
    append(n.inner, prompt, prompt_count);
    check_ok(ds_session_generate(n.outer, MOST, call_everything, &n, NULL, &err), &err);
    assert_int_equal(n.calls, MOST);
    const struct stream outer = stream_of(n.outer), inner = stream_of(n.inner);
    assert_memory_equal(outer.tokens, inner.tokens, inner.count * sizeof *inner.tokens); /* both undisturbed */
    assert_int_equal(inner.count, prompt_count + 3 * ((MOST + 7) / 8));
    append(n.outer, prompt, 1); /* and free again */
    ds_session_destroy(n.outer);
    ds_session_destroy(n.inner);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_forbidden_token_does_not_come_and_a_declined_bias_changes_nothing),
        cmocka_unit_test(a_grammar_gives_the_same_stream_with_and_without_drafter),
        cmocka_unit_test(a_bias_that_forbids_all_ends_the_stream_at_the_same_token_with_and_without_drafter),
        cmocka_unit_test(callbacks_may_call_what_does_not_change_their_session),
    };
    return cmocka_run_group_tests_name("callbacks", tests, open_engines, close_engines);
}
