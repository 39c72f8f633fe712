/* src/spec/sts.h: temperatures fitted to outcomes, and what calibration error and AUC say. */
#include "check.h"

#include "spec/sts.h"

#include <math.h>

enum { ROUNDS = 6000, SLOTS = 5 };
static struct ds_outcome rounds[2 * ROUNDS];
static const float truth[SLOTS] = {1.5f, 2.2f, 0.7f, 1.0f, 3.0f};

static uint64_t state_of_draws = 3;
static double draw(void) {
    state_of_draws = state_of_draws * 6364136223846793005u + 1442695040888963407u;
    return (double)(state_of_draws >> 11) * 0x1p-53;
}

/* A head whose slot k is right at temperature truth[k]; `known` drafts of each block are verified. */
static void make_rounds(struct ds_outcome *out, size_t n, uint32_t known) {
    for (size_t i = 0; i < n; i++) {
        out[i] = (struct ds_outcome){.slots = SLOTS, .known = known};
        bool alive = true;
        for (uint32_t k = 0; k < SLOTS; k++) {
            const double odds = 6 * draw() - 1; /* of the truth */
            out[i].logits[k] = (float)odds * truth[k];
            alive &= draw() < 1 / (1 + exp(-odds));
            out[i].accepted += alive && k < known;
        }
    }
}

static int start(void **state) {
    (void)state;
    make_rounds(rounds, 2 * ROUNDS, SLOTS);
    return 0;
}

static void each_slot_gets_its_temperature_back(void **state) {
    (void)state;
    float t[SLOTS];
    struct ds_error err;
    check_ok(ds_sts_fit(rounds, ROUNDS, SLOTS, t, &err), &err);
    for (int k = 0; k < SLOTS; k++)
        if (!(fabs(log((double)(t[k] / truth[k]))) < 0.35)) fail_msg("slot %d: temperature %g; expected about %g", k, (double)t[k], (double)truth[k]);
}

static void calibration_halves_the_error_on_rounds_it_has_not_seen_and_keeps_the_order(void **state) {
    (void)state;
    float t[SLOTS];
    struct ds_quality before, after;
    struct ds_error err;
    check_ok(ds_sts_fit(rounds, ROUNDS, SLOTS, t, &err), &err);
    check_ok(ds_sts_quality(rounds + ROUNDS, ROUNDS, SLOTS, NULL, &before, &err), &err);
    check_ok(ds_sts_quality(rounds + ROUNDS, ROUNDS, SLOTS, t, &after, &err), &err);
    assert_true(after.all.ece < 0.015 && after.all.ece < before.all.ece / 2);
    /* A temperature does not change the order of a single slot's forecasts. */
    assert_true(fabs(after.slot[0].auc - before.slot[0].auc) < 1e-3);
    for (int k = 0; k < SLOTS; k++) assert_true(after.slot[k].ece < 0.025 && after.slot[k].auc > 0.6);
}

static void blocks_verified_in_part_teach_the_same(void **state) {
    (void)state;
    static struct ds_outcome part[ROUNDS];
    float t[SLOTS];
    struct ds_quality quality;
    struct ds_error err;
    make_rounds(part, ROUNDS, 2);
    check_ok(ds_sts_fit(part, ROUNDS, SLOTS, t, &err), &err);
    for (int k = 0; k < 2; k++) assert_true(fabs(log((double)(t[k] / truth[k]))) < 0.35);
    check_ok(ds_sts_quality(part, ROUNDS, SLOTS, t, &quality, &err), &err);
    assert_int_equal(quality.slot[1].samples, ROUNDS);
    /* Behind two accepted drafts nothing is known of the third; behind a rejection it is rejected. */
    uint32_t rejected = 0;
    for (size_t i = 0; i < ROUNDS; i++) rejected += part[i].accepted < 2;
    assert_int_equal(quality.slot[2].samples, rejected);
    assert_true(quality.slot[2].observed == 0);
}

static void error_and_auc_of_small_examples_are_those_by_hand(void **state) {
    (void)state;
    /* Forecasts 0.5 (logit 0) of one slot: 1 of 4 accepted. */
    struct ds_outcome few[4] = {{.slots = 1, .known = 1, .accepted = 1}, {.slots = 1, .known = 1}, {.slots = 1, .known = 1}, {.slots = 1, .known = 1}};
    struct ds_quality q;
    struct ds_error err;
    check_ok(ds_sts_quality(few, 4, 1, NULL, &q, &err), &err);
    assert_true(fabs(q.all.ece - 0.25) < 1e-12 && q.all.auc == 0.5 && q.all.forecast == 0.5 && q.all.observed == 0.25);
    assert_int_equal(q.bins[7].samples, 4);
    few[0].logits[0] = 3; /* above the others */
    few[1].logits[0] = 4; /* but below this rejected one */
    check_ok(ds_sts_quality(few, 4, 1, NULL, &q, &err), &err);
    assert_true(fabs(q.all.auc - 2.0 / 3) < 1e-12);
}

static void nothing_and_nonsense_are_no_danger(void **state) {
    (void)state;
    float t[SLOTS];
    struct ds_quality q;
    struct ds_error err;
    check_ok(ds_sts_fit(NULL, 0, SLOTS, t, &err), &err);
    for (int k = 0; k < SLOTS; k++) assert_true(t[k] == 1);
    check_ok(ds_sts_quality(NULL, 0, SLOTS, NULL, &q, &err), &err);
    assert_int_equal(q.all.samples, 0);
    struct ds_outcome wild[3] = {{.slots = 2, .known = 2, .accepted = 2, .logits = {NAN, INFINITY}},
                                 {.slots = 2, .known = 2, .accepted = 0, .logits = {INFINITY, -INFINITY}},
                                 {.slots = 2, .known = 0, .accepted = 0, .logits = {1e30f, -1e30f}}};
    check_ok(ds_sts_fit(wild, 3, SLOTS, t, &err), &err);
    for (int k = 0; k < SLOTS; k++) assert_true(t[k] >= 0.1f && t[k] <= 8);
    check_ok(ds_sts_quality(wild, 3, SLOTS, t, &q, &err), &err);
    assert_true(q.all.ece >= 0 && q.all.ece <= 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_slot_gets_its_temperature_back),
        cmocka_unit_test(calibration_halves_the_error_on_rounds_it_has_not_seen_and_keeps_the_order),
        cmocka_unit_test(blocks_verified_in_part_teach_the_same),
        cmocka_unit_test(error_and_auc_of_small_examples_are_those_by_hand),
        cmocka_unit_test(nothing_and_nonsense_are_no_danger),
    };
    return cmocka_run_group_tests_name("sts", tests, start, NULL);
}
