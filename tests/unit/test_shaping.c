/*
 * What a session asks of its tokens beyond plain sampling: penalties, biases of single tokens, rejection sampling. The same stream with and
 * without a drafter; what is out of range is refused.
 */
#include "chi_square.h"
#include "pair_engines.h"

#include <math.h>

enum { MOST = 40, BLOCK = 7 };

static ds_session_params with(float temperature, uint32_t length) {
    ds_session_params params = params_with(temperature, length);
    params.ignore_stop = true;
    return params;
}

static struct stream run(ds_engine *on, const ds_session_params *params, ds_stats *stats) {
    ds_session *session = new_session(on, params);
    append(session, prompt, prompt_count);
    generate(session, MOST);
    const struct stream stream = stream_of(session);
    if (stats) {
        stats->size = sizeof *stats;
        ds_session_get_stats(session, stats);
    }
    ds_session_destroy(session);
    return stream;
}

/* --- penalties and biases --- */

static const ds_logit_bias some_biases[] = {{13, 2.5f}, {262, -INFINITY}, {11, -1}, {500, 0.5f}};

static void penalise(ds_session_params *params) {
    params->penalties = (ds_penalties){.repetition = 1.2f, .presence = 0.3f, .frequency = 0.2f};
    params->logit_bias = some_biases;
    params->n_logit_bias = DS_COUNT(some_biases);
}

/* The formula of dspark.h, by hand, over logits that a plain session gives. */
static ds_token expected_token(ds_session *plain, const ds_session_params *params) {
    static float logits[VOCABULARY];
    struct ds_error err;
    check_ok(ds_session_logits(plain, 1, logits, &err), &err);
    const ds_penalties *p = &params->penalties;
    const size_t length = ds_session_length(plain), first = p->window && p->window < length ? length - p->window : 0;
    static uint32_t counts[VOCABULARY];
    memset(counts, 0, sizeof counts);
    for (size_t i = first; i < length; i++) counts[ds_session_tokens(plain)[i]]++;
    for (uint32_t i = 0; i < VOCABULARY; i++) {
        if (!counts[i]) continue;
        logits[i] = logits[i] > 0 ? logits[i] / p->repetition : logits[i] * p->repetition;
        logits[i] = logits[i] - p->presence;
        logits[i] = logits[i] - (float)counts[i] * p->frequency;
    }
    for (size_t i = 0; i < params->n_logit_bias; i++) logits[params->logit_bias[i].token] += params->logit_bias[i].bias;
    ds_token best = 0;
    for (ds_token i = 1; i < VOCABULARY; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static void greedy_tokens_are_those_of_the_formula_whatever_is_drafted(void **state) {
    (void)state;
    for (uint32_t window = 0; window <= 5; window += 5) {
        for (uint32_t length = 0; length <= BLOCK; length = length ? length + 3 : 1) {
            ds_session_params params = with(0, length), plain = with(0, 0);
            penalise(&params);
            params.penalties.window = window;
            const struct stream got = run(length ? engine : alone, &params, NULL);
            ds_session *session = new_session(alone, &plain);
            append(session, prompt, prompt_count);
            for (size_t i = prompt_count; i < got.count; i++) {
                const ds_token token = expected_token(session, &params);
                if (token != got.tokens[i])
                    fail_msg("window %u, length %u: token %zu is %d, the formula says %d", window, length, i, (int)got.tokens[i], (int)token);
                append(session, &token, 1);
            }
            ds_session_destroy(session);
        }
    }
}

static void penalties_change_the_stream_and_leave_drafts_as_good(void **state) {
    (void)state;
    ds_session_params params = with(0.8f, BLOCK);
    ds_stats plain, penalised;
    const struct stream before = run(engine, &params, &plain);
    penalise(&params);
    const struct stream after = run(engine, &params, &penalised);
    assert_memory_not_equal(before.tokens + prompt_count, after.tokens + prompt_count, MOST * sizeof(ds_token));
    params.spec = DS_SPEC_OFF;
    const struct stream alone_stream = run(alone, &params, NULL);
    same_stream(&after, &alone_stream);
    /* Were drafts not penalised like the target's tokens, hardly one would be accepted behind a repetition. */
    const double tau = (double)penalised.committed_in_rounds / (double)penalised.rounds, unbent = (double)plain.committed_in_rounds / (double)plain.rounds;
    if (!(tau > 0.6 * unbent && tau > 1.3)) fail_msg("%.2f tokens a round, %.2f without penalties", tau, unbent);
}

static void penalties_follow_a_session_that_is_cut_and_goes_on(void **state) {
    (void)state;
    ds_session_params params = with(0.8f, BLOCK);
    penalise(&params);
    const struct stream once = run(engine, &params, NULL);
    ds_session *session = new_session(engine, &params);
    struct ds_error err;
    append(session, prompt, prompt_count);
    generate(session, MOST / 2);
    check_ok(ds_session_rewind(session, prompt_count + 3, &err), &err);
    const ds_token other[] = {77, 78, 79, 80, 81};
    append(session, other, 5);
    generate(session, 7);
    check_ok(ds_session_rewind(session, prompt_count + 3, &err), &err);
    generate(session, MOST - 3);
    const struct stream twice = stream_of(session);
    same_stream(&once, &twice);
    ds_session_destroy(session);
}

static void a_bias_forbids_or_forces_and_a_session_without_one_is_not_touched(void **state) {
    (void)state;
    ds_session_params params = with(0.8f, BLOCK);
    const struct stream before = run(engine, &params, NULL);
    const ds_logit_bias forced[] = {{1234, 1000}}, forbidden[] = {{before.tokens[prompt_count], -INFINITY}, {before.tokens[prompt_count + 1], -INFINITY}};
    params.logit_bias = forced;
    params.n_logit_bias = 1;
    const struct stream all_one = run(engine, &params, NULL);
    for (size_t i = prompt_count; i < all_one.count; i++) assert_int_equal(all_one.tokens[i], 1234);
    params.logit_bias = forbidden;
    params.n_logit_bias = forbidden[0].token == forbidden[1].token ? 1 : 2;
    const struct stream without = run(engine, &params, NULL);
    for (size_t i = prompt_count; i < without.count; i++)
        for (size_t k = 0; k < params.n_logit_bias; k++) assert_int_not_equal(without.tokens[i], forbidden[k].token);
    params.n_logit_bias = 0;
    const struct stream again = run(engine, &params, NULL);
    same_stream(&before, &again);
}

/* --- rejection sampling --- */

static void rejection_at_temperature_0_is_greedy(void **state) {
    (void)state;
    ds_session_params params = with(0, BLOCK);
    const struct stream greedy = run(alone, &params, NULL);
    params.acceptance = DS_REJECTION;
    const struct stream rejection = run(engine, &params, NULL);
    same_stream(&greedy, &rejection);
}

static void a_fixed_length_repeats_its_stream(void **state) {
    (void)state;
    ds_session_params params = with(1, 4);
    params.acceptance = DS_REJECTION;
    ds_stats stats;
    const struct stream first = run(engine, &params, &stats), second = run(engine, &params, NULL);
    same_stream(&first, &second);
    assert_true(stats.accepted > 0 && stats.accepted < stats.verified);
    params.spec = DS_SPEC_AUTO; /* lengths are chosen by measured times, so the stream is another each time; it comes, though */
    const struct stream third = run(engine, &params, NULL);
    assert_int_equal(third.count, first.count);
}

/*
 * Pairs of tokens behind a prompt: rejection sampling with a drafter against plain sampling, by the chi-square test of two samples. Filters
 * leave few tokens, so that most pairs are met often.
 */
enum { SAMPLES = 3000, KEPT = 4 };
static uint32_t sample_pairs(const ds_session_params *params, uint32_t *pairs, uint32_t *keys, uint32_t n_keys) {
    ds_session_params own = *params;
    ds_session *session = new_session(engine, &own);
    struct ds_error err;
    append(session, prompt, prompt_count);
    for (uint32_t i = 0; i < SAMPLES; i++) {
        own.sampling.stream = i;
        check_ok(ds_session_configure(session, &own, &err), &err);
        check_ok(ds_session_rewind(session, prompt_count, &err), &err);
        generate(session, 3); /* the first comes from the prompt's pass, the others from rounds */
        const ds_token *t = ds_session_tokens(session) + prompt_count;
        const uint32_t key = (uint32_t)t[1] << 16 | (uint32_t)t[2];
        uint32_t k = 0;
        while (k < n_keys && keys[k] != key) k++;
        assert_true(k < VOCABULARY);
        if (k == n_keys) keys[n_keys++] = key;
        pairs[k]++;
    }
    ds_session_destroy(session);
    return n_keys;
}

static void rejection_with_a_drafter_has_the_distribution_of_plain_sampling(void **state) {
    (void)state;
    static uint32_t keys[VOCABULARY], plain[VOCABULARY], drafted[VOCABULARY];
    ds_session_params params = with(0.8f, 0);
    params.sampling.top_k = KEPT;
    uint32_t n = sample_pairs(&params, plain, keys, 0);
    params.acceptance = DS_REJECTION;
    params.spec = DS_SPEC_FIXED;
    params.spec_length = 2;
    params.sampling.seed = 4;
    n = sample_pairs(&params, drafted, keys, n);
    double sum = 0, rare_a = 0, rare_b = 0;
    int freedom = -1;
    for (uint32_t k = 0; k < n; k++) {
        const double a = plain[k], b = drafted[k];
        if (a + b < 20) {
            rare_a += a;
            rare_b += b;
            continue;
        }
        sum += (a - b) * (a - b) / (a + b);
        freedom++;
    }
    if (rare_a + rare_b >= 20) {
        sum += (rare_a - rare_b) * (rare_a - rare_b) / (rare_a + rare_b);
        freedom++;
    }
    assert_true(freedom >= 5);
    if (sum > chi_square_limit(freedom)) fail_msg("chi square %.1f with %d degrees of freedom", sum, freedom);
}

static void penalties_and_rejection_go_together(void **state) {
    (void)state;
    ds_session_params params = with(1, 4);
    penalise(&params);
    params.acceptance = DS_REJECTION;
    ds_stats stats;
    const struct stream stream = run(engine, &params, &stats);
    assert_int_equal(stream.count, prompt_count + MOST);
    assert_true(stats.accepted > 0);
    for (size_t i = prompt_count; i < stream.count; i++) assert_int_not_equal(stream.tokens[i], 262);
}

/* --- bad input --- */

static void refuse(ds_session_params params, const char *message) {
    ds_session *session = NULL;
    struct ds_error err;
    assert_int_equal(ds_session_create(engine, &params, &session, &err), DS_ERROR_ARGUMENT);
    assert_null(session);
    check_contains(err.message, message);
}

static void what_is_out_of_range_is_refused_by_name(void **state) {
    (void)state;
    static const float bad[] = {-1, NAN, INFINITY, -INFINITY, 1e30f};
    for (size_t i = 0; i < DS_COUNT(bad); i++) {
        ds_session_params params = with(1, 4);
        params.sampling.temperature = bad[i];
        refuse(params, "temperature is");
        params = with(1, 4);
        params.sampling.top_p = bad[i];
        refuse(params, "top_p is");
        params = with(1, 4);
        params.sampling.min_p = bad[i];
        refuse(params, "min_p is");
        params = with(1, 4);
        params.penalties.repetition = bad[i];
        refuse(params, "the repetition penalty is");
        if (bad[i] == -1) continue; /* the others may be negative */
        params = with(1, 4);
        params.penalties.presence = bad[i];
        refuse(params, "the presence penalty is");
        params = with(1, 4);
        params.penalties.frequency = bad[i];
        refuse(params, "the frequency penalty is");
    }
    ds_session_params params = with(1, 4);
    params.acceptance = (ds_acceptance)7;
    refuse(params, "the acceptance 7 is unknown");
    params = with(100.5f, 4);
    refuse(params, "temperature is 100.5; expected 0 to 100");
}

static void biases_of_unknown_tokens_and_of_no_number_are_refused(void **state) {
    (void)state;
    ds_session_params params = with(1, 4);
    ds_logit_bias list[2] = {{5, 1}, {VOCABULARY, 1}};
    params.logit_bias = list;
    params.n_logit_bias = 2;
    refuse(params, "logit bias 1 is of token 4096; the vocabulary has ids 0 to 4095");
    list[1].token = -1;
    refuse(params, "of token -1");
    list[1].token = 5;
    refuse(params, "token 5 has two logit biases");
    static const float bad[] = {NAN, INFINITY, 1001, -1e9f};
    for (size_t i = 0; i < DS_COUNT(bad); i++) {
        list[1] = (ds_logit_bias){6, bad[i]};
        refuse(params, "the logit bias of token 6 is");
    }
    params.logit_bias = NULL;
    refuse(params, "n_logit_bias is 2, but logit_bias is NULL");
    static ds_logit_bias many[VOCABULARY];
    for (ds_token i = 0; i < VOCABULARY; i++) many[i] = (ds_logit_bias){i, 0};
    params.logit_bias = many;
    params.n_logit_bias = VOCABULARY;
    refuse(params, "4096 logit biases; at most 1024 are possible");
}

/* Defined results at the ends of all ranges: an answer of full length, the same with and without a drafter. */
static void the_ends_of_all_ranges_give_answers(void **state) {
    (void)state;
    static const ds_sampling ends[] = {{.temperature = 100}, {.temperature = 0.001f}, {.temperature = 100, .top_k = 1}, {.temperature = 1, .top_k = UINT32_MAX},
                                       {.temperature = 1, .top_p = 1}, {.temperature = 1, .top_p = 1e-30f}, {.temperature = 1, .min_p = 1}};
    static const ds_penalties extremes[] = {{0}, {100, 100, 100, 0}, {0.01f, -100, -100, 0}, {1, 0, 0, 1}, {100, -100, 100, UINT32_MAX}};
    for (size_t i = 0; i < DS_COUNT(ends) + DS_COUNT(extremes); i++) {
        ds_session_params params = with(1, 3);
        if (i < DS_COUNT(ends)) params.sampling = ends[i];
        else params.penalties = extremes[i - DS_COUNT(ends)];
        const struct stream drafted = run(engine, &params, NULL);
        const struct stream plain = run(alone, &params, NULL);
        same_stream(&drafted, &plain);
        params.acceptance = DS_REJECTION;
        const struct stream rejection = run(engine, &params, NULL);
        assert_int_equal(rejection.count, drafted.count);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_tokens_are_those_of_the_formula_whatever_is_drafted),
        cmocka_unit_test(penalties_change_the_stream_and_leave_drafts_as_good),
        cmocka_unit_test(penalties_follow_a_session_that_is_cut_and_goes_on),
        cmocka_unit_test(a_bias_forbids_or_forces_and_a_session_without_one_is_not_touched),
        cmocka_unit_test(rejection_at_temperature_0_is_greedy),
        cmocka_unit_test(a_fixed_length_repeats_its_stream),
        cmocka_unit_test(rejection_with_a_drafter_has_the_distribution_of_plain_sampling),
        cmocka_unit_test(penalties_and_rejection_go_together),
        cmocka_unit_test(what_is_out_of_range_is_refused_by_name),
        cmocka_unit_test(biases_of_unknown_tokens_and_of_no_number_are_refused),
        cmocka_unit_test(the_ends_of_all_ranges_give_answers),
    };
    return cmocka_run_group_tests_name("shaping", tests, open_engines, close_engines);
}
