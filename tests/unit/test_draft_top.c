/* A sequential head for the likeliest tokens of a slot alone: it says what is drafted, never what is said. */
#include "streams.h"

enum { VOCABULARY = 4096, ROUNDS = 64, BLOCK = 7 };

struct drafts {
    size_t rounds;
    ds_token token[ROUNDS][BLOCK];
};
static void keep_drafts(void *user, const ds_round *round) {
    struct drafts *d = user;
    if (d->rounds == ROUNDS) return;
    assert_int_equal(round->n_draft, BLOCK);
    memcpy(d->token[d->rounds++], round->draft, sizeof d->token[0]);
}

static ds_engine *open_top(uint32_t top, bool drafter) {
    ds_engine_params params = ds_engine_defaults();
    params.target = PAIR_TARGET;
    params.drafter = drafter ? PAIR_DRAFTER : NULL;
    params.context = 256;
    params.threads = 2;
    params.draft_top_k = top;
    return open_engine(&params);
}

static struct stream answer(ds_engine *engine, float temperature, ds_acceptance acceptance, struct drafts *drafts) {
    ds_session_params params = ds_session_defaults();
    params.spec = drafts ? DS_SPEC_FIXED : DS_SPEC_OFF;
    params.spec_length = BLOCK;
    params.acceptance = acceptance;
    params.ignore_stop = true;
    params.sampling = (ds_sampling){.temperature = temperature, .seed = 3};
    size_t count;
    ds_token *prompt = prompt_tokens(engine, example_prompt, &count);
    ds_session *session = new_session(engine, &params);
    append(session, prompt, count);
    if (drafts) {
        memset(drafts, 0, sizeof *drafts);
        ds_session_set_trace(session, keep_drafts, drafts);
    }
    generate(session, 64);
    const struct stream stream = stream_of(session);
    ds_session_destroy(session);
    ds_free(prompt);
    return stream;
}

static void greedy_and_coupled_output_do_not_depend_on_it(void **state) {
    (void)state;
    static const uint32_t tops[] = {1, 8, 65, 512};
    static const float temperatures[] = {0, 1};
    static struct drafts drafts, all;
    ds_engine *alone = open_top(0, false), *full = open_top(0, true);
    bool differs = false;
    for (size_t k = 0; k < DS_COUNT(tops); k++) {
        ds_engine *engine = open_top(tops[k], true);
        for (size_t t = 0; t < DS_COUNT(temperatures); t++) {
            const struct stream plain = answer(alone, temperatures[t], DS_COUPLED, NULL), got = answer(engine, temperatures[t], DS_COUPLED, &drafts);
            same_stream(&got, &plain);
            answer(full, temperatures[t], DS_COUPLED, &all);
            differs |= memcmp(&drafts, &all, sizeof all) != 0;
        }
        ds_engine_destroy(engine);
    }
    assert_true(differs); /* or nothing was restricted */
    ds_engine_destroy(alone);
    ds_engine_destroy(full);
}

static void as_many_as_the_vocabulary_has_are_all_of_them(void **state) {
    (void)state;
    static const uint32_t tops[] = {VOCABULARY, VOCABULARY + 1, UINT32_MAX};
    static const ds_acceptance acceptances[] = {DS_COUPLED, DS_REJECTION};
    static struct drafts drafts, all;
    ds_engine *full = open_top(0, true);
    for (size_t k = 0; k < DS_COUNT(tops); k++) {
        ds_engine *engine = open_top(tops[k], true);
        for (size_t a = 0; a < DS_COUNT(acceptances); a++) {
            const struct stream expected = answer(full, 1, acceptances[a], &all), got = answer(engine, 1, acceptances[a], &drafts);
            same_stream(&got, &expected);
            assert_memory_equal(&drafts, &all, sizeof all);
        }
        ds_engine_destroy(engine);
    }
    ds_engine_destroy(full);
}

/* All but one token: op top_linear does the work, and leaves out what is hardly ever drafted. */
static void one_token_fewer_drafts_what_all_do(void **state) {
    (void)state;
    static struct drafts drafts, all;
    ds_engine *full = open_top(0, true), *engine = open_top(VOCABULARY - 1, true);
    const struct stream expected = answer(full, 0, DS_COUPLED, &all), got = answer(engine, 0, DS_COUPLED, &drafts);
    same_stream(&got, &expected);
    assert_memory_equal(&drafts, &all, sizeof all);
    ds_engine_destroy(engine);
    ds_engine_destroy(full);
}

static void a_drafter_without_such_a_head_is_refused(void **state) {
    (void)state;
    static const char *const drafters[] = {DSPARK_SOURCE_ROOT "/models/tiny/dflash", DSPARK_SOURCE_ROOT "/models/tiny/eagle3"};
    for (size_t d = 0; d < DS_COUNT(drafters); d++) {
        ds_engine_params params = ds_engine_defaults();
        params.target = PAIR_TARGET;
        params.drafter = drafters[d];
        params.draft_top_k = 8;
        ds_engine *engine;
        struct ds_error err;
        assert_int_equal(ds_engine_open(&params, &engine, &err), DS_ERROR_ARGUMENT);
        check_contains(err.message, "draft_top_k is 8");
        check_contains(err.message, "has no sequential (Markov) head to restrict; expected 0");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_and_coupled_output_do_not_depend_on_it),
        cmocka_unit_test(as_many_as_the_vocabulary_has_are_all_of_them),
        cmocka_unit_test(one_token_fewer_drafts_what_all_do),
        cmocka_unit_test(a_drafter_without_such_a_head_is_refused),
    };
    return cmocka_run_group_tests_name("draft_top", tests, NULL, NULL);
}
