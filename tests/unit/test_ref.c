/*
 * The reference ops mean what they should: cases small enough to compute by hand, and formulas written independently, in double
 * precision, with a tolerance. That fast kernels equal the reference is checkops' business. Here: all ops but linears,
 * attention, sampling and experts; and what holds for all.
 */
#include "ref_tensors.h"

#include <fenv.h>

/* --- norms, gates, rotations --- */

static void a_norm_divides_by_the_root_mean_square(void **state) {
    (void)state;
    enum { GROUPS = 3, DIM = 70 };
    float x[GROUPS * DIM], w[DIM];
    for (int i = 0; i < GROUPS * DIM; i++) x[i] = random_float() * 4;
    for (int i = 0; i < DIM; i++) w[i] = random_float();
    const union ds_op_params p = {.rms_norm = {.x = floats(x, 1, GROUPS * DIM),
                                               .out = floats(NULL, 1, GROUPS * DIM),
                                               .dim = DIM,
                                               .weight = put(w, sizeof w),
                                               .eps = 0.01f}};
    run(DS_OP_rms_norm, &p);
    for (int g = 0; g < GROUPS; g++) {
        double ss = 0;
        for (int i = 0; i < DIM; i++) ss += (double)x[g * DIM + i] * x[g * DIM + i];
        for (int i = 0; i < DIM; i++)
            near(((float *)at(p.rms_norm.out.at))[g * DIM + i], x[g * DIM + i] / sqrt(ss / DIM + 0.01f) * w[i], 2e-6);
    }
}

static void gates_are_silu_tanh_gelu_and_sigmoid(void **state) {
    (void)state;
    enum { COLS = 100 };
    float gate[COLS], up[COLS];
    for (int i = 0; i < COLS; i++) {
        gate[i] = random_float() * 8;
        up[i] = random_float() * 3;
    }
    union ds_op_params p = {.glu = {.gate = floats(gate, 1, COLS), .up = floats(up, 1, COLS), .out = floats(NULL, 1, COLS)}};
    for (int activation = DS_ACT_SILU; activation <= DS_ACT_SIGMOID; activation++) {
        p.glu.activation = (ds_activation)activation;
        run(DS_OP_glu, &p);
        for (int i = 0; i < COLS; i++) {
            const double x = gate[i];
            const double expected[] = {[DS_ACT_SILU] = x / (1 + exp(-x)),
                                       [DS_ACT_GELU_TANH] = 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x))),
                                       [DS_ACT_SIGMOID] = 1 / (1 + exp(-x))};
            near(((float *)at(p.glu.out.at))[i], expected[activation] * up[i], 5e-6);
        }
    }
}

static void a_gated_recurrence_keeps_and_takes(void **state) {
    (void)state;
    enum { SIZE = 50 };
    float gates[3 * SIZE], before[SIZE];
    for (int i = 0; i < 3 * SIZE; i++) gates[i] = random_float() * 4;
    for (int i = 0; i < SIZE; i++) before[i] = random_float();
    union ds_op_params p = {.rnn_cell = {.gates = floats(gates, 1, 3 * SIZE), .state = floats(before, 1, SIZE), .next = floats(NULL, 1, SIZE),
                                         .out = floats(NULL, 1, SIZE)}};
    for (int with_state = 1; with_state >= 0; with_state--) {
        if (!with_state) p.rnn_cell.state.at.buffer = NULL;
        run(DS_OP_rnn_cell, &p);
        for (int i = 0; i < SIZE; i++) {
            const double s = 1 / (1 + exp(-(double)gates[i])), kept = with_state ? s * before[i] : 0;
            near(((float *)at(p.rnn_cell.next.at))[i], kept + (1 - s) * tanh(gates[SIZE + i]), 2e-6);
            near(((float *)at(p.rnn_cell.out.at))[i], tanh(gates[2 * SIZE + i]), 2e-6);
        }
    }
}

static void columns_are_scattered_and_the_others_filled(void **state) {
    (void)state;
    static const float x[] = {1, 2, 3, 4, 5, 6}, expected[] = {-9, 3, -9, 1, 2, -9, 6, -9, 4, 5};
    static const int32_t ids[] = {3, 4, 1};
    union ds_op_params p = {.scatter = {.x = floats(x, 2, 3), .ids = put(ids, sizeof ids), .out = floats(NULL, 2, 5), .fill = -9}};
    run(DS_OP_scatter, &p);
    assert_memory_equal(at(p.scatter.out.at), expected, sizeof expected);
}

static void a_quarter_turn_swaps_the_pairs(void **state) {
    (void)state;
    /* Position 0 does nothing, position 1 turns by 90 degrees; two heads of 6 columns, of which 4 turn. */
    const float cosine[] = {1, 1, 0, 0}, sine[] = {0, 0, 1, 1}, x[] = {1, 2, 3, 4, 5, 6, 10, 20, 30, 40, 50, 60};
    float rows[36];
    for (int r = 0; r < 3; r++) memcpy(rows + 12 * r, x, sizeof x);
    const int32_t positions[] = {0, 1, -1};
    union ds_op_params p = {.rope = {.x = floats(rows, 3, 12),
                                     .head_dim = 6,
                                     .n_rot = 4,
                                     .neox = true,
                                     .cos = put(cosine, sizeof cosine),
                                     .sin = put(sine, sizeof sine),
                                     .table_positions = 2,
                                     .positions = put(positions, sizeof positions)}};
    run(DS_OP_rope, &p);
    const float neox[] = {-3, -4, 1, 2, 5, 6, -30, -40, 10, 20, 50, 60};
    const float *out = at(p.rope.x.at);
    assert_memory_equal(out, x, sizeof x);
    assert_memory_equal(out + 12, neox, sizeof neox);
    assert_memory_equal(out + 24, x, sizeof x);

    p.rope.neox = false;
    p.rope.x = floats(rows, 3, 12);
    run(DS_OP_rope, &p);
    const float pairs[] = {-2, 1, -4, 3, 5, 6, -20, 10, -40, 30, 50, 60};
    assert_memory_equal((float *)at(p.rope.x.at) + 12, pairs, sizeof pairs);
}

static void rows_are_copied_by_index(void **state) {
    (void)state;
    const float x[] = {1, 2, 3, 4, 5, 6};
    const int32_t index[] = {2, 0};
    union ds_op_params p = {.copy = {.x = floats(x, 3, 2), .out = floats(NULL, 2, 2), .index = put(index, sizeof index)}};
    run(DS_OP_copy, &p);
    const float gathered[] = {5, 6, 1, 2};
    assert_memory_equal(at(p.copy.out.at), gathered, sizeof gathered);
    p.copy.index = (struct ds_slice){0};
    run(DS_OP_copy, &p);
    assert_memory_equal(at(p.copy.out.at), x, 16);
}

static void rows_of_a_table_are_gathered_and_scaled(void **state) {
    (void)state;
    const float table[] = {1, 2, 3, 4, 5, 6};
    const int32_t ids[] = {2, 2, 1};
    const union ds_op_params p = {
        .embed = {
            .table = weight(DS_TYPE_F32, table, 3, 2), .ids = put(ids, sizeof ids), .out = floats(NULL, 3, 2), .scale = 0.5f}};
    run(DS_OP_embed, &p);
    const float expected[] = {2.5f, 3, 2.5f, 3, 1.5f, 2};
    assert_memory_equal(at(p.embed.out.at), expected, sizeof expected);
}

static void a_scaled_value_is_capped_smoothly(void **state) {
    (void)state;
    const float x[5] = {0.0f, 1.0f, -20.0f, 400.0f, -400.0f};
    union ds_op_params p = {.scale = {.x = floats(x, 1, 5), .out = floats(NULL, 1, 5), .scale = 0.5f}};
    run(DS_OP_scale, &p);
    for (int i = 0; i < 5; i++) assert_true(((float *)at(p.scale.out.at))[i] == 0.5f * x[i]);
    p.scale.softcap = 30.0f;
    run(DS_OP_scale, &p);
    for (int i = 0; i < 5; i++) near(((float *)at(p.scale.out.at))[i], 30 * tanh(0.5 * (double)x[i] / 30), 2e-6);
}

static void a_norm_adds_its_residual_last(void **state) {
    (void)state;
    const float x[2] = {3.0f, -4.0f}, w[2] = {2.0f, 1.0f}, residual[2] = {100.0f, -1.0f};
    const union ds_op_params p = {.rms_norm = {.x = floats(x, 1, 2), .out = floats(NULL, 1, 2), .dim = 2, .weight = put(w, sizeof w),
                                               .eps = 1e-9f, .residual = floats(residual, 1, 2)}};
    run(DS_OP_rms_norm, &p);
    near(((float *)at(p.rms_norm.out.at))[0], 3 / sqrt(12.5) * 2 + 100, 1e-5);
    near(((float *)at(p.rms_norm.out.at))[1], -4 / sqrt(12.5) - 1, 1e-6);
}

/* --- the host's state --- */

static void the_callers_rounding_mode_neither_matters_nor_changes(void **state) {
    (void)state;
    float w[256], x[256];
    for (int i = 0; i < 256; i++) {
        w[i] = random_float();
        x[i] = random_float();
    }
    const union ds_op_params p = {
        .linear = {.weight = weight(DS_TYPE_F32, w, 1, 256), .x = floats(x, 1, 256), .y = floats(NULL, 1, 1)}};
    run(DS_OP_linear, &p);
    const float expected = *(float *)at(p.linear.y.at);
    fesetround(FE_UPWARD);
    run(DS_OP_linear, &p);
    const int mode = fegetround();
    fesetround(FE_TONEAREST);
    assert_int_equal(mode, FE_UPWARD);
    assert_true(*(float *)at(p.linear.y.at) == expected);
}

/* --- transfers --- */

static void transfers_outside_a_buffer_are_refused(void **state) {
    (void)state;
    struct ds_error err;
    uint8_t bytes[64] = {0};
    struct ds_slice to = put(NULL, 64), from = put(NULL, 32);
    assert_int_equal(device->fns->write(stream, to, bytes, 64, &err), DS_OK);
    to.offset = 1;
    assert_int_equal(device->fns->write(stream, to, bytes, 64, &err), DS_ERROR_ARGUMENT);
    assert_int_equal(device->fns->read(stream, to, bytes, 64, &err), DS_ERROR_ARGUMENT);
    assert_int_equal(device->fns->copy(stream, to, from, 33, &err), DS_ERROR_ARGUMENT);
    assert_int_equal(device->fns->copy(stream, to, from, 32, &err), DS_OK);
    to.offset = UINT64_MAX;
    assert_int_equal(device->fns->write(stream, to, bytes, 2, &err), DS_ERROR_ARGUMENT);
    struct ds_buffer *none = (struct ds_buffer *)&err;
    assert_int_equal(device->fns->buffer_create(device, UINT64_MAX - 5, &none, &err), DS_ERROR_MEMORY);
    assert_null(none);
}

static void weight_rows_come_in_whole_groups(void **state) {
    (void)state;
    struct ds_error err;
    static float rows[130 * 2];
    const struct ds_weight w = {.at = put(NULL, sizeof rows), .type = DS_TYPE_F32, .rows = 130, .cols = 2};
    assert_int_equal(device->fns->weight_write(stream, &w, 0, 64, rows, &err), DS_OK);
    assert_int_equal(device->fns->weight_write(stream, &w, 64, 66, rows, &err), DS_OK);
    assert_int_equal(device->fns->weight_write(stream, &w, 128, 2, rows, &err), DS_OK);
    assert_int_equal(device->fns->weight_write(stream, &w, 1, 64, rows, &err), DS_ERROR_ARGUMENT);
    assert_int_equal(device->fns->weight_write(stream, &w, 0, 65, rows, &err), DS_ERROR_ARGUMENT);
    assert_int_equal(device->fns->weight_write(stream, &w, 128, 3, rows, &err), DS_ERROR_ARGUMENT);
    assert_int_equal(device->fns->weight_write(stream, &w, 192, 0, rows, &err), DS_ERROR_ARGUMENT);
    assert_true(device->fns->weight_bytes(device, DS_TYPE_I64, 4, 4) == 0);
    assert_true(device->fns->weight_bytes(device, DS_TYPE_Q4_K, 4, 255) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_norm_divides_by_the_root_mean_square),
        TEST(gates_are_silu_tanh_gelu_and_sigmoid),
        TEST(a_gated_recurrence_keeps_and_takes),
        TEST(columns_are_scattered_and_the_others_filled),
        TEST(a_quarter_turn_swaps_the_pairs),
        TEST(rows_are_copied_by_index),
        TEST(rows_of_a_table_are_gathered_and_scaled),
        TEST(a_scaled_value_is_capped_smoothly),
        TEST(a_norm_adds_its_residual_last),
        TEST(the_callers_rounding_mode_neither_matters_nor_changes),
        TEST(transfers_outside_a_buffer_are_refused),
        TEST(weight_rows_come_in_whole_groups),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
