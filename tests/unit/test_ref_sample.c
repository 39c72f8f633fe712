/*
 * The reference ops mean what they should: cases small enough to compute by hand, and formulas written independently, in
 * double precision, with a tolerance. That fast kernels equal the reference is checkops' business. Here: how tokens are drawn.
 */
#include "ref_tensors.h"

static void penalties_and_biases_do_what_the_formula_says(void **state) {
    (void)state;
    enum { V = 6 };
    const float x[V] = {2, -2, 1, 0.5f, INFINITY, 3};
    const int32_t history[8] = {0, 1, 0, 5, 4, -7, 99, 2}, drafted[4] = {3, 1, 3, 2}, ids[3] = {2, 3, 5};
    const float biases[3] = {-INFINITY, 0.25f, 1};
    struct ds_adjust_row how[3] = {
        {.sequence = 0, .first = 0, .end = 9, .drafted_from = 7, .drafted_stride = 2, .repetition = 2, .presence = 0.25f, .frequency = 0.5f, .biases = 2},
        {.sequence = 0, .first = 3, .end = 7, .drafted_from = 7, .repetition = 1, .frequency = 3e38f, .biases = 3},
        {.sequence = -1, .end = 7, .drafted_from = 7, .repetition = 9},
    };
    const struct ds_view in = floats(NULL, 3, V);
    for (int r = 0; r < 3; r++) memcpy((float *)at(in.at) + r * V, x, sizeof x);
    union ds_op_params p = {.adjust = {.x = in, .out = floats(NULL, 3, V), .rows = put(how, sizeof how), .history = floats((const float *)history, 1, 8),
                                       .drafted = put(drafted, sizeof drafted), .n_drafted = 4, .bias_ids = floats((const float *)ids, 1, 3),
                                       .bias_values = floats(biases, 1, 3)}};
    p.adjust.history.elem = p.adjust.bias_ids.elem = DS_ELEM_I32;
    run(DS_OP_adjust, &p);
    /* Row 0: 0 twice, 1, 5 and 3 (drafted twice: at 0 and 2) once or more; the infinity stays. */
    const float most = 3.40282347e+38f, expected[3][V] = {
        {2.0f / 2 - 0.25f - 1, -4 - 0.25f - 0.5f, -most, 0.25f - 0.25f - 1 + 0.25f, INFINITY, 1.5f - 0.25f - 0.5f},
        {2, -2, -most, 0.75f, INFINITY, -3e38f + 1},
        {2, -2, 1, 0.5f, INFINITY, 3}};
    const float *out = at(p.adjust.out.at);
    for (int r = 0; r < 3; r++)
        for (int i = 0; i < V; i++)
            if (out[r * V + i] != expected[r][i]) fail_msg("row %d, token %d: %g, expected %g", r, i, (double)out[r * V + i], (double)expected[r][i]);
}

/* Draws one token from each of `rows` rows of equal logits, row r as how[r % ways] says at position r. */
static const int32_t *draw(const float *logits, uint32_t vocabulary, uint32_t rows, const struct ds_sample_row *how,
                           uint32_t ways, const float *bias, uint32_t bias_rows, const uint32_t **flags) {
    const struct ds_view x = floats(NULL, rows, vocabulary);
    const struct ds_slice settings = put(NULL, rows * sizeof *how);
    for (uint32_t r = 0; r < rows; r++) {
        memcpy((float *)at(x.at) + (size_t)r * vocabulary, logits, vocabulary * 4);
        struct ds_sample_row *row = (struct ds_sample_row *)at(settings) + r;
        *row = how[r % ways];
        row->position = r;
    }
    union ds_op_params p = {
        .sample = {.logits = x, .rows = settings, .tokens = put(NULL, rows * 4), .flags = put(NULL, rows * 4)}};
    if (bias) {
        p.sample.bias = put(bias, (size_t)bias_rows * vocabulary * 4);
        p.sample.bias_rows = bias_rows;
    }
    run(DS_OP_sample, &p);
    if (flags) *flags = at(p.sample.flags);
    return at(p.sample.tokens);
}

static void greedy_takes_the_largest_and_of_equals_the_first(void **state) {
    (void)state;
    const float logits[] = {-1, 3, 2, 3, -INFINITY},
                bias[] = {0, -INFINITY, 0, -2, 5, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY};
    const struct ds_sample_row how[] = {{.bias_row = -1}, {.bias_row = 0}, {.bias_row = 1}};
    const uint32_t *flags;
    const int32_t *tokens = draw(logits, 4, 1, how, 1, NULL, 0, &flags);
    assert_int_equal(tokens[0], 1);
    assert_int_equal(flags[0], 0);
    /* The bias forbids 1 and lowers 3; then it forbids all. */
    const float four[] = {bias[0], bias[1], bias[2], bias[3], bias[5], bias[6], bias[7], bias[8]};
    tokens = draw(logits, 4, 3, how, 3, four, 2, &flags);
    assert_int_equal(tokens[0], 1);
    assert_int_equal(tokens[1], 2);
    assert_int_equal(tokens[2], -1);
    assert_int_equal(flags[2], DS_FLAG_MASKED);
    /* A logit that is not finite ends it, be it forbidden or not. */
    tokens = draw(logits, 5, 3, how, 3, bias, 2, &flags);
    for (int r = 0; r < 3; r++) {
        assert_int_equal(tokens[r], -1);
        assert_int_equal(flags[r], DS_FLAG_LOGIT);
    }
}

/* Draws at 20000 positions; counts how often each of up to 8 tokens comes. */
static void count_draws(const float *logits, uint32_t vocabulary, struct ds_sample_row how, uint32_t counts[8]) {
    enum { DRAWS = 20000 };
    how.bias_row = -1;
    how.seed_low = 42;
    const int32_t *tokens = draw(logits, vocabulary, DRAWS, &how, 1, NULL, 0, NULL);
    memset(counts, 0, 8 * sizeof *counts);
    for (int r = 0; r < DRAWS; r++) {
        assert_in_range(tokens[r], 0, vocabulary - 1);
        counts[tokens[r]]++;
    }
    free_buffers(NULL);
}

/* The seed is fixed, so this passes or fails for good: five standard deviations. */
static void draws_follow(const float *logits, uint32_t vocabulary, struct ds_sample_row how, const double *mass) {
    uint32_t counts[8];
    double total = 0;
    count_draws(logits, vocabulary, how, counts);
    for (uint32_t i = 0; i < vocabulary; i++) total += mass[i];
    for (uint32_t i = 0; i < vocabulary; i++) {
        const double p = mass[i] / total;
        near(counts[i], 20000 * p, 5 * sqrt(20000 * p * (1 - p)));
    }
}

static void draws_follow_the_softmax_of_what_filters_leave(void **state) {
    (void)state;
    /* probabilities 0.4, 0.1, 0.3, 0.15, 0.05 */
    static const double p[] = {0.4, 0.1, 0.3, 0.15, 0.05};
    float logits[5];
    double squared[5];
    for (int i = 0; i < 5; i++) {
        logits[i] = (float)log(p[i]);
        squared[i] = p[i] * p[i];
    }
    const struct ds_sample_row plain = {.inverse_temperature = 1};
    struct ds_sample_row how = plain;
    draws_follow(logits, 5, how, p);
    how.inverse_temperature = 2;
    draws_follow(logits, 5, how, squared);
    how = plain;
    how.top_k = 2;
    draws_follow(logits, 5, how, (const double[]){0.4, 0, 0.3, 0, 0});
    how = plain;
    how.top_p = 0.71f; /* 0.4 + 0.3 falls short, 0.15 more reaches */
    draws_follow(logits, 5, how, (const double[]){0.4, 0, 0.3, 0.15, 0});
    how.top_p = 0.69f;
    draws_follow(logits, 5, how, (const double[]){0.4, 0, 0.3, 0, 0});
    how.top_p = 1e-6f; /* at least one */
    draws_follow(logits, 5, how, (const double[]){1, 0, 0, 0, 0});
    how = plain;
    how.min_p = 0.3f; /* 0.12 of 0.4 and more */
    draws_follow(logits, 5, how, (const double[]){0.4, 0, 0.3, 0.15, 0});
    /* In this order: top-p is of what top-k leaves, where 0.4 has 57 %. */
    how = plain;
    how.top_k = 2;
    how.top_p = 0.55f;
    draws_follow(logits, 5, how, (const double[]){1, 0, 0, 0, 0});
}

static void ties_are_cut_by_id(void **state) {
    (void)state;
    const float logits[] = {1, 1, 1, 1};
    struct ds_sample_row how = {.inverse_temperature = 1, .top_k = 2};
    draws_follow(logits, 4, how, (const double[]){1, 1, 0, 0});
    how = (struct ds_sample_row){.inverse_temperature = 1, .top_p = 0.6f};
    draws_follow(logits, 4, how, (const double[]){1, 1, 1, 0});
    how.top_p = 0.5f; /* exactly reached by two */
    draws_follow(logits, 4, how, (const double[]){1, 1, 0, 0});
}

static void a_draw_depends_on_seed_position_purpose_and_stream_alone(void **state) {
    (void)state;
    float logits[512];
    for (int i = 0; i < 512; i++) logits[i] = random_float();
    const struct ds_sample_row base = {.inverse_temperature = 1, .bias_row = -1, .seed_low = 7};
    struct ds_sample_row how[6] = {base, base, base, base, base, base};
    how[1].seed_low = 8;
    how[2].seed_high = 1;
    how[3].purpose = 1;
    how[4].stream = 1;
    /* Rows 0..5 are at positions 0..5; compare each with the plain draw there. */
    int32_t varied[6], plain[6];
    memcpy(varied, draw(logits, 512, 6, how, 6, NULL, 0, NULL), sizeof varied);
    memcpy(plain, draw(logits, 512, 6, &base, 1, NULL, 0, NULL), sizeof plain);
    assert_int_equal(varied[0], plain[0]);
    assert_int_equal(varied[5], plain[5]);
    for (int r = 1; r < 5; r++) assert_int_not_equal(varied[r], plain[r]);
    assert_int_not_equal(plain[0], plain[5]);
}

/* log(p / (1 - p)) in double precision; a half; certainty, where all others together count as one unit; nothing where a logit is not finite. */
static void the_greatest_probability_comes_as_log_odds(void **state) {
    (void)state;
    enum { ROWS = 5, N = 4 };
    const float logits[ROWS][N] = {{1, 2.5f, -1, 2}, {7, 7, -90, -80}, {0, 100, 0, 0}, {-3, -3, -3, -3}, {1, 2, 1.0f / 0.0f, 4}};
    union ds_op_params p = {.max_prob = {.logits = floats(logits[0], ROWS, N), .log_odds = floats(NULL, ROWS, 1)}};
    run(DS_OP_max_prob, &p);
    const float *out = at(p.max_prob.log_odds.at);
    near(out[0], -log(exp(-1.5) + exp(-3.5) + exp(-0.5)), 1e-6);
    assert_true(out[1] == 0);
    near(out[2], 32 * log(2), 1e-6);
    near(out[3], -log(3), 1e-6);
    assert_true(out[4] < -1e38f && !ds_is_finite(out[4]) && !ds_is_nan(out[4]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(penalties_and_biases_do_what_the_formula_says),
        TEST(greedy_takes_the_largest_and_of_equals_the_first),
        TEST(draws_follow_the_softmax_of_what_filters_leave),
        TEST(ties_are_cut_by_id),
        TEST(the_greatest_probability_comes_as_log_odds),
        TEST(a_draw_depends_on_seed_position_purpose_and_stream_alone),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
