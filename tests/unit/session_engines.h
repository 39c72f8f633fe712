/* One engine with the drafter and one without, shared by the tests of a program: both are only read. */
#ifndef DSPARK_TESTS_SESSION_ENGINES_H
#define DSPARK_TESTS_SESSION_ENGINES_H

#include "streams.h"

/* One engine with the drafter and one without, shared by the tests: both are only read. */
static ds_engine *with_drafter, *alone;
static ds_token *prompt;
static size_t prompt_count;

enum { CONTEXT = 160, SOME = 40 /* tokens a stream has behind its prompt */ };

static inline int open_engines(void **state) {
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

static inline int close_engines(void **state) {
    (void)state;
    ds_free(prompt);
    ds_engine_destroy(with_drafter);
    ds_engine_destroy(alone);
    return 0;
}

static inline ds_session_params sampled(float temperature) {
    ds_session_params params = ds_session_defaults();
    params.sampling = (ds_sampling){.temperature = temperature, .top_k = 50, .top_p = 0.95f, .seed = 77};
    params.ignore_stop = true;
    return params;
}

/* Verifies whole blocks, on a machine of any speed. */
static inline ds_session_params whole_blocks(float temperature) {
    ds_session_params params = sampled(temperature);
    params.spec = DS_SPEC_FIXED;
    params.spec_length = 7;
    return params;
}

/* The stream of `most` tokens behind the first `count` tokens of the prompt. */
static inline struct stream stream_with(ds_engine *engine, const ds_session_params *params, size_t count, size_t most) {
    ds_session *session = new_session(engine, params);
    append(session, prompt, count);
    generate(session, most);
    const struct stream stream = stream_of(session);
    ds_session_destroy(session);
    return stream;
}

#endif
