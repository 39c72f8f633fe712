/* Engines and token streams for the tests of the public API: the trained pair of models/tiny, and how streams are compared. */
#ifndef DSPARK_TESTS_STREAMS_H
#define DSPARK_TESTS_STREAMS_H

#include "check.h"
#include "dspark_dev.h"

#define PAIR_TARGET DSPARK_SOURCE_ROOT "/models/tiny/target"
#define PAIR_DRAFTER DSPARK_SOURCE_ROOT "/models/tiny/dspark"

static inline ds_engine *open_engine(const ds_engine_params *params) {
    ds_engine *engine;
    struct ds_error err;
    check_ok(ds_engine_open(params, &engine, &err), &err);
    check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err);
    return engine;
}

static inline ds_session *new_session(ds_engine *engine, const ds_session_params *params) {
    ds_session *session;
    struct ds_error err;
    check_ok(ds_session_create(engine, params, &session, &err), &err);
    return session;
}

static inline void append(ds_session *session, const ds_token *tokens, size_t count) {
    struct ds_error err;
    check_ok(ds_session_append(session, tokens, count, &err), &err);
}

static inline ds_stop generate(ds_session *session, size_t most) {
    ds_stop stop;
    struct ds_error err;
    check_ok(ds_session_generate(session, most, NULL, NULL, &stop, &err), &err);
    return stop;
}

/* The text of a prompt of the pair as tokens, freed with ds_free. */
static inline ds_token *prompt_tokens(const ds_engine *engine, const char *text, size_t *count) {
    ds_token *tokens;
    struct ds_error err;
    check_ok(ds_tokenize(engine, text, strlen(text), DS_TOKENIZE_SPECIAL, &tokens, count, &err), &err);
    return tokens;
}

static const char example_prompt[] = "<|im_start|>user\nTom has 5 apples and buys 7 more. How many apples does he have?<|im_end|>\n"
                                     "<|im_start|>assistant\n";

struct stream {
    ds_token tokens[4096];
    size_t count;
};

static inline struct stream stream_of(const ds_session *session) {
    struct stream stream = {.count = ds_session_length(session)};
    assert_true(stream.count <= DS_COUNT(stream.tokens));
    if (stream.count) memcpy(stream.tokens, ds_session_tokens(session), stream.count * sizeof *stream.tokens);
    return stream;
}

static inline void same_stream(const struct stream *a, const struct stream *b) {
    const size_t n = a->count < b->count ? a->count : b->count;
    for (size_t i = 0; i < n; i++)
        if (a->tokens[i] != b->tokens[i]) fail_msg("token %zu: %d and %d", i, (int)a->tokens[i], (int)b->tokens[i]);
    assert_int_equal(a->count, b->count);
}

#endif
