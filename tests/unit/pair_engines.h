/* Two engines for a whole test program, with the drafter and without, and a prompt: for tests that hold their streams against each other. */
#ifndef DSPARK_TESTS_PAIR_ENGINES_H
#define DSPARK_TESTS_PAIR_ENGINES_H

#include "streams.h"

enum { VOCABULARY = 4096 };

static ds_engine *engine, *alone;
static ds_token *prompt;
static size_t prompt_count;

static int open_engines(void **state) {
    (void)state;
    ds_engine_params params = ds_engine_defaults();
    params.target = PAIR_TARGET;
    params.context = 256;
    params.max_sessions = 2;
    params.threads = 1;
    alone = open_engine(&params);
    params.drafter = PAIR_DRAFTER;
    engine = open_engine(&params);
    prompt = prompt_tokens(engine, example_prompt, &prompt_count);
    return 0;
}

static int close_engines(void **state) {
    (void)state;
    ds_free(prompt);
    ds_engine_destroy(engine);
    ds_engine_destroy(alone);
    return 0;
}

/* `length`: drafts that are verified; 0: speculation is off. */
static inline ds_session_params params_with(float temperature, uint32_t length) {
    ds_session_params params = ds_session_defaults();
    params.sampling = (ds_sampling){.temperature = temperature, .seed = 3};
    params.spec = length ? DS_SPEC_FIXED : DS_SPEC_OFF;
    params.spec_length = length;
    return params;
}

#endif
