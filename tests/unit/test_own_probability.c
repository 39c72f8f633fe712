/*
 * Confidences of drafters without a confidence head: the log-odds of the greatest probability that a draft is drawn by, held against
 * double precision over the logits that the drafter kept.
 */
#include "linked_drafter.h"

#include "engine/engine_internal.h"

#include <math.h>

enum { VOCABULARY = 4096, SLOTS = 7, TOKENS = 40 };
static const char *const drafters[] = {"dflash", "eagle3"};

/* As open_pair, with what the drafter has computed left readable. */
static ds_engine *open_keeping(void) {
    ds_engine_params params = ds_engine_defaults();
    params.target = PAIR_TARGET;
    params.drafter = folder;
    params.device = "cpu";
    params.context = 256;
    params.threads = 1;
    params.log = keep_warning;
    warning[0] = '\0';
    ds_engine *engine;
    struct ds_error err;
    check_ok(ds_engine_open(&params, &engine, &err), &err);
    struct ds_placement *home = &engine->placements[0];
    const struct ds_drafter_params keep = {.device = home->device, .stream = home->stream, .kv_f16 = true, .keep_outputs = true};
    ds_drafter_free(&engine->drafter);
    check_ok(ds_drafter_plan(&engine->drafter, engine->draft_model, &engine->target, &keep, &err), &err);
    home->scratch_bytes = DS_MAX(home->scratch_bytes, engine->drafter.scratch_bytes);
    check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err);
    assert_string_equal(warning, "");
    return engine;
}

static void read_rows(const ds_engine *engine, struct ds_view view, float *out) {
    struct ds_error err;
    const struct ds_placement *home = &engine->placements[0];
    assert_true(view.at.buffer && view.stride == view.cols && view.rows == SLOTS);
    check_ok(home->device->fns->read(home->stream, view.at, out, (size_t)SLOTS * view.cols * sizeof *out, &err), &err);
}

struct watch {
    const ds_engine *engine;
    const ds_logit_bias *bias; /* of the session; NULL: none */
    size_t n_bias;
    bool penalised; /* the adjusted logits are read instead of reckoned */
    bool greedy;
    size_t drafts, unlikely; /* compared; of these, drawn tokens that were not the likeliest */
};

/* The logits a slot's draft was drawn from, by the drafter's own ids; *n of them. */
static const float *drawn_from(const struct watch *w, size_t slot, uint32_t *n) {
    static float rows[SLOTS * VOCABULARY];
    const struct ds_drafter *d = &w->engine->drafter;
    const struct ds_view sampled = ds_view_of((struct ds_slice){d->sampled, 0}, DS_ELEM_F32, SLOTS, VOCABULARY);
    const struct ds_view view = w->penalised ? sampled : d->block_outputs.logits;
    read_rows(w->engine, view, rows);
    *n = view.cols;
    float *row = rows + slot * view.cols;
    for (size_t i = 0; i < w->n_bias && !w->penalised; i++) row[w->bias[i].token] += w->bias[i].bias;
    return row;
}

/* log(p / (1 - p)) of the greatest p. *rest: (1 - p) / p. */
static double log_odds(const float *row, uint32_t n, uint32_t *best, double *rest) {
    *best = 0;
    *rest = 0;
    for (uint32_t i = 1; i < n; i++)
        if (row[i] > row[*best]) *best = i;
    for (uint32_t i = 0; i < n; i++)
        if (i != *best) *rest += exp((double)row[i] - (double)row[*best]);
    return -log(*rest);
}

static void compare(void *user, const ds_round *round) {
    struct watch *w = user;
    if (!round->n_draft) return;
    assert_non_null(round->confidence_logits);
    const int32_t *map = w->engine->draft_model->vocabulary_map;
    for (size_t k = 0; k < round->n_draft; k++) {
        uint32_t n, best;
        double rest;
        const float *row = drawn_from(w, k, &n);
        const double expected = log_odds(row, n, &best, &rest);
        const ds_token likeliest = map && !w->penalised ? map[best] : (ds_token)best;
        if (w->greedy) assert_int_equal(round->draft[k], likeliest);
        w->unlikely += round->draft[k] != likeliest;
        /* Masses are rounded to 2^-32, each by half of that at most: where little is left beside the greatest, that much of it. */
        const double tolerance = 1e-5 + n * 0.5 * 0x1p-32 / rest;
        const double found = (double)round->confidence_logits[k];
        if (!(fabs(found - expected) <= tolerance)) fail_msg("draft %zu: %.9g, expected %.9g +- %.2g", k + 1, found, expected, tolerance);
        w->drafts++;
    }
}

static void watch_session(ds_engine *engine, ds_session_params params, struct watch *w) {
    params.spec = DS_SPEC_FIXED;
    params.spec_length = SLOTS;
    params.ignore_stop = true;
    w->engine = engine;
    size_t count;
    ds_token *prompt = prompt_tokens(engine, example_prompt, &count);
    ds_session *session = new_session(engine, &params);
    append(session, prompt, count);
    ds_session_set_trace(session, compare, w);
    generate(session, TOKENS);
    assert_true(w->drafts > 3 * SLOTS);
    ds_session_destroy(session);
    ds_free(prompt);
}

/* --- claims --- */

static void of_greedy_drafts_they_are_the_drafted_tokens_own(const char *name) {
    make_drafter(name);
    ds_engine *engine = open_keeping();
    watch_session(engine, ds_session_defaults(), &(struct watch){.greedy = true});
    ds_engine_destroy(engine);
    check_remove_folder(folder);
}

/* So that rejection sampling may choose lengths by them. */
static void they_do_not_depend_on_the_token_that_is_drawn(const char *name) {
    make_drafter(name);
    ds_engine *engine = open_keeping();
    ds_session_params params = ds_session_defaults();
    params.sampling = (ds_sampling){.temperature = 1.5f, .seed = 3};
    params.acceptance = DS_REJECTION;
    struct watch w = {.greedy = false};
    watch_session(engine, params, &w);
    assert_true(w.unlikely > 3);
    ds_engine_destroy(engine);
    check_remove_folder(folder);
}

/* A bias is reckoned here; of penalties, which see the drafts before, the logits that drafts were drawn from are read. */
static void they_are_of_logits_after_penalties_and_biases(const char *name) {
    static const ds_logit_bias bias[] = {{.token = 13, .bias = 6}, {.token = 300, .bias = 5.5f}, {.token = 7, .bias = -4}};
    make_drafter(name);
    ds_engine *engine = open_keeping();
    ds_session_params params = ds_session_defaults();
    params.logit_bias = bias;
    params.n_logit_bias = DS_COUNT(bias);
    watch_session(engine, params, &(struct watch){.greedy = true, .bias = bias, .n_bias = DS_COUNT(bias)});
    params.penalties = (ds_penalties){.repetition = 1.4f, .presence = 0.5f, .frequency = 0.25f};
    watch_session(engine, params, &(struct watch){.greedy = true, .bias = bias, .n_bias = DS_COUNT(bias), .penalised = true});
    ds_engine_destroy(engine);
    check_remove_folder(folder);
}

/* The kept rows hold the tokens of a shortlist alone. */
static void tokens_that_a_drafter_lacks_weigh_nothing(const char *name) {
    static ds_token tokens[VOCABULARY / 3];
    struct ds_error err;
    char *path;
    make_drafter(name);
    for (size_t i = 0; i < DS_COUNT(tokens); i++) tokens[i] = (ds_token)(VOCABULARY - 1 - 3 * i);
    ds_engine *engine = open_pair();
    check_ok(ds_dev_shortlist_save(engine, tokens, DS_COUNT(tokens), &path, &err), &err);
    ds_free(path);
    ds_engine_destroy(engine);
    engine = open_keeping();
    assert_int_equal(ds_dev_draft_vocabulary(engine), DS_COUNT(tokens));
    watch_session(engine, ds_session_defaults(), &(struct watch){.greedy = true});
    ds_engine_destroy(engine);
    check_remove_folder(folder);
}

#define OF_EVERY_DRAFTER(claim)                                                                                                \
    static void claim##_test(void **state) {                                                                                   \
        (void)state;                                                                                                           \
        for (size_t i = 0; i < DS_COUNT(drafters); i++) claim(drafters[i]);                                                    \
    }
OF_EVERY_DRAFTER(of_greedy_drafts_they_are_the_drafted_tokens_own)
OF_EVERY_DRAFTER(they_do_not_depend_on_the_token_that_is_drawn)
OF_EVERY_DRAFTER(they_are_of_logits_after_penalties_and_biases)
OF_EVERY_DRAFTER(tokens_that_a_drafter_lacks_weigh_nothing)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_greedy_drafts_they_are_the_drafted_tokens_own_test),
        cmocka_unit_test(they_do_not_depend_on_the_token_that_is_drawn_test),
        cmocka_unit_test(they_are_of_logits_after_penalties_and_biases_test),
        cmocka_unit_test(tokens_that_a_drafter_lacks_weigh_nothing_test),
    };
    return cmocka_run_group_tests_name("own_probability", tests, NULL, NULL);
}
