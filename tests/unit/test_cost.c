/* src/spec/cost.h and survival.h: what a round costs, and how far a drafter's word can be trusted. */
#include "check.h"

#include "ops/numerics.h"
#include "spec/cost.h"
#include "spec/survival.h"

#include <math.h>

static uint64_t state_of_draws = 1;
static double draw(void) {
    state_of_draws = state_of_draws * 6364136223846793005u + 1442695040888963407u;
    return (double)(state_of_draws >> 11) * 0x1p-53;
}

static const uint32_t widths[] = {1, 2, 3, 4, 6, 8};

static struct ds_cost_samples clean_samples(void) {
    struct ds_cost_samples s = {.n = DS_COUNT(widths), .near_context = 100, .far_context = 1100, .block = 7, .feed_rows = 8,
                                .draft_one = 0.4, .draft_whole = 1.0, .draft_whole_far = 1.1, .feed_one = 0.05, .feed_many = 0.12};
    for (size_t i = 0; i < DS_COUNT(widths); i++)
        s.pass[i] = (struct ds_cost_sample){.rows = widths[i], .near = 1 + 0.1 * widths[i], .far = i == 0 || i == 5 ? 1.5 + 0.2 * widths[i] : 0};
    return s;
}

static struct ds_costs costs_of(const struct ds_cost_samples *samples) {
    struct ds_costs costs;
    ds_cost_fit(samples, &costs.table);
    ds_cost_tuning_start(&costs.tuning);
    return costs;
}

static void near(double got, double expected) {
    if (!(fabs(got - expected) < 1e-9)) fail_msg("%.12g; expected %.12g", got, expected);
}

static void clean_times_are_given_back(void **state) {
    (void)state;
    const struct ds_cost_samples samples = clean_samples();
    const struct ds_costs c = costs_of(&samples);
    assert_true(ds_cost_valid(&c.table));
    for (uint32_t rows = 1; rows <= 8; rows++) near(ds_cost_pass(&c, rows, 100), 1 + 0.1 * rows);
    near(ds_cost_pass(&c, 8, 1100), 3.1);
    near(ds_cost_pass(&c, 10, 100), 1.8 * 10 / 8);
    near(ds_cost_draft(&c, 7, 100), 1.0);
    near(ds_cost_draft(&c, 1, 100), 0.4);
    near(ds_cost_draft(&c, 7, 1100), 1.1);
    near(ds_cost_feed(&c, 8), 0.12);
    near(ds_cost_feed(&c, 0), 0);
}

static void expect_ascending(const struct ds_costs *c) {
    for (uint32_t context = 0; context < 5000; context += 700) {
        for (uint32_t rows = 1; rows < 20; rows++) {
            const double here = ds_cost_pass(c, rows, context);
            assert_true(here > 0 && here <= ds_cost_pass(c, rows + 1, context) * (1 + 1e-12));
            assert_true(here <= ds_cost_pass(c, rows, context + 700) * (1 + 1e-12));
        }
    }
}

static void a_table_ascends_whatever_was_measured_and_observed(void **state) {
    (void)state;
    for (int i = 0; i < 300; i++) {
        struct ds_cost_samples s = clean_samples();
        for (size_t k = 0; k < DS_COUNT(widths); k++) {
            s.pass[k].near = draw();
            s.pass[k].far = draw() < 0.5 ? draw() : 0;
        }
        s.draft_one = draw();
        s.draft_whole = draw();
        struct ds_costs c = costs_of(&s);
        assert_true(ds_cost_valid(&c.table));
        expect_ascending(&c);
        for (int k = 0; k < 100; k++) ds_cost_observe_pass(&c, 1 + (uint32_t)(draw() * 12), (uint32_t)(draw() * 3000), draw() * draw());
        expect_ascending(&c);
    }
}

static void a_machine_that_becomes_slower_is_followed_within_some_rounds(void **state) {
    (void)state;
    const struct ds_cost_samples samples = clean_samples();
    struct ds_costs c = costs_of(&samples);
    for (int i = 0; i < 60; i++) ds_cost_observe_pass(&c, 4, 100, 2 * 1.4);
    assert_true(fabs(ds_cost_pass(&c, 4, 100) / 2.8 - 1) < 0.02);
    /* Most of it is the machine's: what was never seen has become dearer, too. */
    assert_true(ds_cost_draft(&c, 7, 100) > 1.4 && ds_cost_pass(&c, 1, 100) > 1.4 * 1.1);
    /* One interruption counts for nothing. */
    const double before = ds_cost_pass(&c, 4, 100);
    ds_cost_observe_pass(&c, 4, 100, 1000);
    assert_true(fabs(ds_cost_pass(&c, 4, 100) / before - 1) < 0.02);
    ds_cost_observe_pass(&c, 4, 100, NAN);
    ds_cost_observe_pass(&c, 4, 100, 0);
    assert_true(fabs(ds_cost_pass(&c, 4, 100) / before - 1) < 0.02);
}

static void a_part_that_was_mismeasured_is_corrected_against_the_others(void **state) {
    (void)state;
    const struct ds_cost_samples samples = clean_samples();
    struct ds_costs c = costs_of(&samples);
    for (int i = 0; i < 400; i++) {
        ds_cost_observe_pass(&c, 1, 100, 1.1);
        ds_cost_observe_pass(&c, 8, 100, 3.6); /* the table says 1.8 */
        ds_cost_observe_draft(&c, 7, 100, 1.0);
    }
    assert_true(fabs(ds_cost_pass(&c, 8, 100) / ds_cost_pass(&c, 1, 100) / (3.6 / 1.1) - 1) < 0.1);
    assert_true(fabs(ds_cost_draft(&c, 7, 100) / ds_cost_pass(&c, 1, 100) / (1.0 / 1.1) - 1) < 0.1);
}

static void tables_that_no_measurement_gives_are_not_valid(void **state) {
    (void)state;
    const struct ds_cost_samples samples = clean_samples();
    const struct ds_costs good = costs_of(&samples);
    struct ds_cost_table t = good.table;
    t.n_widths = 0;
    assert_false(ds_cost_valid(&t));
    t.n_widths = DS_COST_MOST_WIDTHS + 1;
    assert_false(ds_cost_valid(&t));
    t = good.table, t.pass[2].base = NAN;
    assert_false(ds_cost_valid(&t));
    t = good.table, t.pass[5].base = 0.01;
    assert_false(ds_cost_valid(&t));
    t = good.table, t.pass[0].base = 0;
    assert_false(ds_cost_valid(&t));
    t = good.table, t.widths[0] = 2;
    assert_false(ds_cost_valid(&t));
    t = good.table, t.draft_slot = -1;
    assert_false(ds_cost_valid(&t));
    t = good.table, t.pass[5].per_position = INFINITY;
    assert_false(ds_cost_valid(&t));
}

/* --- survival --- */

static void a_confidence_is_the_sigmoid_at_its_slots_temperature(void **state) {
    (void)state;
    const float logits[] = {2, 2, NAN, -INFINITY, INFINITY}, temperature[] = {1, 2, 1, 1, 1};
    float c[5];
    ds_confidence(logits, temperature, 5, c);
    assert_true(c[0] == ds_sigmoid(2) && c[1] == ds_sigmoid(1) && c[2] == 0 && c[3] == 0 && c[4] == 1);
    ds_confidence(logits, NULL, 5, c);
    assert_true(c[1] == ds_sigmoid(2));
}

/* `rounds` blocks of 7 with the same confidence, each draft accepted with probability `truth`. */
static void teach(struct ds_reliability *r, float confidence, double truth, int rounds) {
    float c[7];
    for (int k = 0; k < 7; k++) c[k] = confidence;
    for (int i = 0; i < rounds; i++) {
        uint32_t accepted = 0;
        while (accepted < 7 && draw() < truth) accepted++;
        ds_reliability_observe(r, c, 7, accepted);
    }
}

static double first_survival(const struct ds_reliability *r, float confidence) {
    double survival;
    ds_reliability_survival(r, &confidence, 1, &survival);
    return survival;
}

static void a_liar_is_found_out_in_a_few_rounds(void **state) {
    (void)state;
    struct ds_reliability r;
    ds_reliability_start(&r, DS_CONFIDENCE_HEAD);
    teach(&r, 0.9f, 0, 8);
    assert_true(first_survival(&r, 0.9f) < 0.35);
    ds_reliability_start(&r, DS_CONFIDENCE_OWN);
    teach(&r, 0.6f, 0, 5);
    assert_true(first_survival(&r, 0.6f) < 0.25);
}

static void an_honest_head_is_left_as_it_is_and_a_calibrated_one_the_more(void **state) {
    (void)state;
    double spread[2];
    for (int source = 0; source < 2; source++) {
        spread[source] = 0;
        for (int i = 0; i < 200; i++) {
            struct ds_reliability r;
            ds_reliability_start(&r, (enum ds_confidence_source)source);
            teach(&r, 0.8f, 0.8, 10);
            spread[source] += fabs(first_survival(&r, 0.8f) - 0.8) / 200;
        }
        assert_true(spread[source] < 0.1);
    }
    assert_true(spread[DS_CONFIDENCE_CALIBRATED] < spread[DS_CONFIDENCE_HEAD]);
}

static void where_confidences_say_nothing_each_slot_learns_its_own_rate(void **state) {
    (void)state;
    static const double truth[] = {0.9, 0.7, 0.4};
    const float c[] = {0.6f, 0.6f, 0.6f};
    struct ds_reliability r;
    double mean[3] = {0};
    ds_reliability_start(&r, DS_CONFIDENCE_OWN);
    for (int i = 0; i < 4000; i++) {
        uint32_t accepted = 0;
        while (accepted < 3 && draw() < truth[accepted]) accepted++;
        ds_reliability_observe(&r, c, 3, accepted);
        double survival[3];
        ds_reliability_survival(&r, c, 3, survival);
        for (int k = 0; k < 3 && i >= 100; k++) mean[k] += survival[k] / 3900;
    }
    assert_true(fabs(mean[0] - 0.9) < 0.03 && fabs(mean[1] - 0.63) < 0.04 && fabs(mean[2] - 0.252) < 0.04);
}

/* Drafts with log-odds x of their own are right with sigmoid(slope * x + shift): what is believed of x = -1, 1, 3 in the end. */
static void a_drafters_own_probability_is_believed_as_far_as_outcomes_bear_it_out(void **state) {
    (void)state;
    static const struct {
        double slope, shift;
    } truths[] = {{1, 2}, {0.4, 0.2}, {0, -0.5}, {2, -1}};
    for (size_t t = 0; t < sizeof truths / sizeof *truths; t++) {
        struct ds_reliability r;
        double mean[3] = {0};
        ds_reliability_start(&r, DS_CONFIDENCE_OWN);
        for (int i = 0; i < 6000; i++) {
            const double x = 6 * draw() - 2;
            const float c = (float)(1 / (1 + exp(-x)));
            ds_reliability_observe(&r, &c, 1, draw() < 1 / (1 + exp(-(truths[t].slope * x + truths[t].shift))));
            for (int k = 0; k < 3 && i >= 1000; k++) mean[k] += first_survival(&r, (float)(1 / (1 + exp(1 - 2.0 * k)))) / 5000;
        }
        for (int k = 0; k < 3; k++) {
            const double x = 2.0 * k - 1, truth = 1 / (1 + exp(-(truths[t].slope * x + truths[t].shift)));
            if (fabs(mean[k] - truth) > 0.06) fail_msg("slope %g, shift %g: %.3f is believed at log-odds %g, and %.3f is true", truths[t].slope, truths[t].shift, mean[k], x, truth);
        }
    }
}

/* A head's slope is its training's: what is learned of it is a shift. */
static void a_heads_confidences_keep_their_slope(void **state) {
    (void)state;
    struct ds_reliability r;
    ds_reliability_start(&r, DS_CONFIDENCE_HEAD);
    teach(&r, 0.95f, 0.5, 300);
    assert_true(r.slope == 1 && r.shift[0] < -1);
}

/* The fifth slot was tried a few times and failed. Left alone, it is taken to be as good as the fourth before long, and the ones behind it, too. */
static void a_slot_given_up_after_bad_luck_is_believed_in_again(void **state) {
    (void)state;
    float c[7];
    double survival[7];
    struct ds_reliability r;
    for (int k = 0; k < 7; k++) c[k] = 0.6f;
    ds_reliability_start(&r, DS_CONFIDENCE_OWN);
    for (int i = 0; i < 5; i++) ds_reliability_observe(&r, c, 5, 4);
    ds_reliability_survival(&r, c, 7, survival);
    assert_true(survival[4] < 0.4 * survival[3]);
    for (int i = 0; i < 300; i++) ds_reliability_observe(&r, c, 4, 4);
    ds_reliability_survival(&r, c, 7, survival);
    for (int k = 4; k < 7; k++) assert_true(survival[k] > 0.95 * survival[k - 1]);
}

static void extreme_confidences_and_endless_outcomes_stay_finite(void **state) {
    (void)state;
    static const float extremes[] = {0, 1};
    for (int e = 0; e < 2; e++) {
        for (int outcome = 0; outcome < 2; outcome++) {
            struct ds_reliability r;
            ds_reliability_start(&r, DS_CONFIDENCE_HEAD);
            for (int i = 0; i < 3000; i++) ds_reliability_observe(&r, &extremes[e], 1, (uint32_t)outcome);
            const double s = first_survival(&r, extremes[e]);
            assert_true(s >= 0 && s <= 1 && fabs(s - outcome) < 0.05);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clean_times_are_given_back),
        cmocka_unit_test(a_table_ascends_whatever_was_measured_and_observed),
        cmocka_unit_test(a_machine_that_becomes_slower_is_followed_within_some_rounds),
        cmocka_unit_test(a_part_that_was_mismeasured_is_corrected_against_the_others),
        cmocka_unit_test(tables_that_no_measurement_gives_are_not_valid),
        cmocka_unit_test(a_confidence_is_the_sigmoid_at_its_slots_temperature),
        cmocka_unit_test(a_liar_is_found_out_in_a_few_rounds),
        cmocka_unit_test(an_honest_head_is_left_as_it_is_and_a_calibrated_one_the_more),
        cmocka_unit_test(a_drafters_own_probability_is_believed_as_far_as_outcomes_bear_it_out),
        cmocka_unit_test(a_heads_confidences_keep_their_slope),
        cmocka_unit_test(where_confidences_say_nothing_each_slot_learns_its_own_rate),
        cmocka_unit_test(a_slot_given_up_after_bad_luck_is_believed_in_again),
        cmocka_unit_test(extreme_confidences_and_endless_outcomes_stay_finite),
    };
    return cmocka_run_group_tests_name("cost", tests, NULL, NULL);
}
