/*
 * The reference ops mean what they should: cases small enough to compute by hand, and formulas written independently, in double
 * precision, with a tolerance. That fast kernels equal the reference is checkops' business. Here: mixtures of experts, and
 * outputs chosen by their residuals.
 */
#include "ref_tensors.h"

static union ds_op_params routed(const float *logits, uint32_t experts, uint32_t slots, bool normalise) {
    const union ds_op_params p = {.route = {.logits = floats(logits, 1, experts), .weights = floats(NULL, 1, slots), .normalise = normalise,
                                            .ids = {.at = put(NULL, 4 * slots), .elem = DS_ELEM_I32, .rows = 1, .cols = slots, .stride = slots}}};
    run(DS_OP_route, &p);
    return p;
}

static void experts_are_the_best_ones_listed_by_id_and_of_equals_the_first(void **state) {
    (void)state;
    const float logits[6] = {1.0f, 3.0f, 2.0f, 3.0f, 2.0f, -1.0f};
    const union ds_op_params p = routed(logits, 6, 3, false);
    const int32_t *ids = at(p.route.ids.at);
    assert_int_equal(ids[0], 1);
    assert_int_equal(ids[1], 2); /* not 4, which is equal */
    assert_int_equal(ids[2], 3);
    double sum = 0;
    for (int e = 0; e < 6; e++) sum += exp((double)logits[e]);
    for (int s = 0; s < 3; s++) near(((float *)at(p.route.weights.at))[s], exp((double)logits[ids[s]]) / sum, 1e-6);
}

static void normalised_weights_sum_to_one_before_they_are_scaled(void **state) {
    (void)state;
    const float logits[4] = {0.0f, 1.0f, 2.0f, 80.0f}, scale[4] = {1.0f, 1.0f, 10.0f, 0.5f};
    union ds_op_params p = routed(logits, 4, 1, true);
    assert_true(*(float *)at(p.route.weights.at) == 1.0f);
    p = routed(logits, 4, 4, true);
    p.route.scale = put(scale, sizeof scale);
    run(DS_OP_route, &p);
    const double others = exp(-80.0) + exp(-79.0) + exp(-78.0);
    near(((float *)at(p.route.weights.at))[2], 10 * exp(-78.0) / (1 + others), 1e-6);
    assert_true(((float *)at(p.route.weights.at))[3] == 0.5f);
}

/* Expert e's matrix is [3, 2] with weights 10 e + o everywhere, in a place of 64 rows. */
static void each_row_and_slot_uses_the_weights_of_its_expert(void **state) {
    (void)state;
    enum { EXPERTS = 3, OUTPUTS = 3, ROWS = 2, SLOTS = 2 };
    static float w[EXPERTS * 64][2];
    for (int e = 0; e < EXPERTS; e++)
        for (int o = 0; o < OUTPUTS; o++) w[e * 64 + o][0] = w[e * 64 + o][1] = (float)(10 * e + o);
    const float x[ROWS * SLOTS][2] = {{1, 0}, {2, 0}, {3, 0}, {4, 0}}, weights[ROWS * SLOTS] = {1, 10, 100, 1000}, residual[ROWS * OUTPUTS] = {0.5f};
    const int32_t ids[ROWS * SLOTS] = {0, 2, 1, 2};
    const struct ds_view id_view = {.at = put(ids, sizeof ids), .elem = DS_ELEM_I32, .rows = ROWS, .cols = SLOTS, .stride = SLOTS};
    union ds_op_params p = {.expert_linear = {.weight = weight(DS_TYPE_F32, w[0], EXPERTS * 64, 2), .experts = EXPERTS, .outputs = OUTPUTS,
                                              .x = floats(x[0], ROWS, 2), .ids = id_view, .y = floats(NULL, ROWS, SLOTS * OUTPUTS)}};
    const float *y = at(p.expert_linear.y.at);
    run(DS_OP_expert_linear, &p); /* both slots read the row's one x */
    for (int i = 0; i < ROWS * SLOTS; i++)
        for (int o = 0; o < OUTPUTS; o++) assert_true(y[i * OUTPUTS + o] == x[i / SLOTS][0] * (float)(10 * ids[i] + o));
    p.expert_linear.x = floats(x[0], ROWS * SLOTS, 2);
    run(DS_OP_expert_linear, &p); /* each slot its own */
    for (int i = 0; i < ROWS * SLOTS; i++)
        for (int o = 0; o < OUTPUTS; o++) assert_true(y[i * OUTPUTS + o] == x[i][0] * (float)(10 * ids[i] + o));

    const union ds_op_params sum = {.expert_sum = {.x = p.expert_linear.y, .weights = floats(weights, ROWS, SLOTS), .y = floats(NULL, ROWS, OUTPUTS),
                                                   .residual = floats(residual, ROWS, OUTPUTS)}};
    run(DS_OP_expert_sum, &sum);
    const float *total = at(sum.expert_sum.y.at);
    assert_true(total[0] == 0 * 1 + 40 * 10 + 0.5f);
    assert_true(total[5] == 36 * 100 + 88 * 1000);
}

/*
 * W x = (1, 2, 3, 4, 5): of the five outputs those with the greatest residuals, of equal ones the first; the zeros are equal, a
 * NaN is above all.
 */
static void outputs_with_the_greatest_residuals_are_computed_and_the_others_filled(void **state) {
    (void)state;
    enum { ROWS = 3, OUTPUTS = 5 };
    const float w[OUTPUTS] = {1, 2, 3, 4, 5}, x[ROWS] = {1, 1, 1};
    const float residual[ROWS][OUTPUTS] = {{10, 30, 20, 20, 20}, {-1, 0.0f, -0.0f, 0.0f, -2}, {1, ds_float(0xffc00000u), 3, 2, -1.0f / 0.0f}};
    const float expected[2][OUTPUTS] = {{-9, 32, 23, -9, -9}, {-9, 2, 3, -9, -9}};
    union ds_op_params p = {.top_linear = {.weight = weight(DS_TYPE_F32, w, OUTPUTS, 1), .x = floats(x, ROWS, 1), .residual = floats(residual[0], ROWS, OUTPUTS),
                                           .y = floats(NULL, ROWS, OUTPUTS), .top = 2, .fill = -9}};
    run(DS_OP_top_linear, &p);
    const float *y = at(p.top_linear.y.at);
    assert_memory_equal(y, expected, sizeof expected);
    assert_true(ds_is_nan(y[2 * OUTPUTS + 1]) && y[2 * OUTPUTS + 2] == 6 && y[2 * OUTPUTS] == -9 && y[2 * OUTPUTS + 4] == -9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(experts_are_the_best_ones_listed_by_id_and_of_equals_the_first),
        TEST(normalised_weights_sum_to_one_before_they_are_scaled),
        TEST(each_row_and_slot_uses_the_weights_of_its_expert),
        TEST(outputs_with_the_greatest_residuals_are_computed_and_the_others_filled),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
