/*
 * The reference ops mean what they should: cases small enough to compute by hand, and formulas written independently, in
 * double precision, with a tolerance. That fast kernels equal the reference is checkops' business.
 */
#include "ref_device.h"

#include "ops/numerics.h"
#include "ref/unpack.h"

#include <fenv.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- tensors in the memory of the device --- */

static struct ds_buffer *buffers[64];
static size_t n_buffers;

static int free_buffers(void **state) {
    (void)state;
    while (n_buffers > 0) device->fns->buffer_destroy(buffers[--n_buffers]);
    return 0;
}

/* A buffer with these bytes, or zeros. */
static struct ds_slice put(const void *bytes, size_t n) {
    struct ds_error err;
    assert_true(n_buffers < DS_COUNT(buffers));
    assert_int_equal(device->fns->buffer_create(device, n, &buffers[n_buffers], &err), DS_OK);
    const struct ds_slice at = {.buffer = buffers[n_buffers++]};
    if (bytes) assert_int_equal(device->fns->write(stream, at, bytes, n, &err), DS_OK);
    return at;
}

static void *at(struct ds_slice slice) {
    return (uint8_t *)device->fns->host(slice.buffer) + slice.offset;
}

static struct ds_view floats(const float *x, uint32_t rows, uint32_t cols) {
    return (struct ds_view){
        .at = put(x, (size_t)rows * cols * 4), .elem = DS_ELEM_F32, .rows = rows, .cols = cols, .stride = cols};
}

static struct ds_weight weight(ds_type type, const void *stored, uint32_t rows, uint32_t cols) {
    struct ds_error err;
    const struct ds_weight w = {
        .at = put(NULL, device->fns->weight_bytes(device, type, rows, cols)), .type = type, .rows = rows, .cols = cols};
    assert_int_equal(device->fns->weight_write(stream, &w, 0, rows, stored, &err), DS_OK);
    return w;
}

static void run(ds_op op, const union ds_op_params *params) {
    struct ds_error err;
    if (ds_op_check(op, params, &err) != DS_OK) fail_msg("%s", err.message);
    assert_int_equal(device->fns->op[op](stream, params, &err), DS_OK);
}

static uint32_t random_state = 1;
static uint32_t random_word(void) {
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8 | random_state << 24;
}
static float random_float(void) { /* in [-1, 1) */
    return (float)(int32_t)random_word() * 0x1p-31f;
}

static void near(double found, double expected, double tolerance) {
    if (!(fabs(found - expected) <= tolerance)) fail_msg("found %.9g, expected %.9g", found, expected);
}

/* --- unpacking --- */

/* A random block whose f16 scales are ordinary numbers. */
static void random_row(ds_type type, uint8_t *row, uint32_t blocks) {
    const struct ds_type_info *info = ds_type_get(type);
    for (uint32_t i = 0; i < blocks * info->bytes; i++) row[i] = (uint8_t)random_word();
    for (uint32_t b = 0; b < blocks; b++) {
        uint8_t *block = row + b * info->bytes;
        const uint32_t end = info->bytes;
        const uint16_t d = (uint16_t)ds_f32_to_f16(random_float()), m = (uint16_t)ds_f32_to_f16(random_float());
        switch (type) {
        case DS_TYPE_MXFP4:
            block[0] = (uint8_t)(b < 3 ? b : 120 + b % 10);
            break;
        case DS_TYPE_Q3_K:
        case DS_TYPE_Q6_K:
            memcpy(block + end - 2, &d, 2);
            break;
        case DS_TYPE_Q2_K:
            memcpy(block + end - 4, &d, 2);
            memcpy(block + end - 2, &m, 2);
            break;
        default: /* Q8_0, Q4_0, Q5_0 and IQ4_* have integers where the others' minimum lies: any value does */
            memcpy(block, &d, 2);
            if (type == DS_TYPE_Q4_1 || type == DS_TYPE_Q5_1 || type == DS_TYPE_Q4_K || type == DS_TYPE_Q5_K)
                memcpy(block + 2, &m, 2);
        }
    }
}

static bool block_type(ds_type type) {
    return ds_type_get(type)->block > 1;
}

static void integers_times_scales_are_the_dequantised_values(void **state) {
    (void)state;
    enum { COLS = 1280 };
    for (ds_type type = 0; type < DS_TYPE_COUNT; type++) {
        if (!block_type(type)) continue;
        const uint32_t cols = ds_type_get(type)->block == 32 ? COLS + 96 : COLS;
        uint8_t row[8192];
        float expected[COLS + 96];
        random_row(type, row, cols / ds_type_get(type)->block);
        ds_dequantize_row(type, row, cols, expected);
        for (uint32_t start = 0; start < cols; start += DS_RUN) {
            struct ds_unpacked_run w;
            ds_unpack_run(type, row, cols, start / DS_RUN, &w);
            assert_int_equal(w.inputs, DS_MIN(cols - start, (uint32_t)DS_RUN));
            for (uint32_t i = 0; i < w.inputs; i++) {
                const uint32_t g = i / w.group;
                const double scaled = w.wide ? (double)w.d * w.scale[g] * w.q[i] : (double)w.block_d[g] * w.q[i];
                const double offset = w.wide ? -(double)w.dmin * w.minimum[g] : w.block_m[g];
                near(expected[start + i], scaled + offset, 4e-7 * (fabs(scaled) + fabs(offset)));
            }
        }
    }
}

/* --- linear --- */

static void a_linear_adds_bias_then_residual(void **state) {
    (void)state;
    const float w[] = {1, 2, 3, -1, 0, 0.5f}, x[] = {1, 10, 100, 2, 4, 6}, bias[] = {0.25f, -1},
                residual[] = {1000, 2000, 3000, 4000};
    const float expected[] = {1321.25f, 2048, 3028.25f, 4000};
    union ds_op_params p = {.linear = {.weight = weight(DS_TYPE_F32, w, 2, 3),
                                       .x = floats(x, 2, 3),
                                       .y = floats(NULL, 2, 2),
                                       .bias = put(bias, sizeof bias),
                                       .residual = floats(residual, 2, 2)}};
    run(DS_OP_linear, &p);
    assert_memory_equal(at(p.linear.y.at), expected, sizeof expected);
    /* in place of the residual */
    p.linear.y = p.linear.residual;
    run(DS_OP_linear, &p);
    assert_memory_equal(at(p.linear.y.at), expected, sizeof expected);
}

/* 2^24 swallows a single 1 that is added to it, but not a run's sum of 256 of them. */
static void runs_of_256_are_summed_on_their_own(void **state) {
    (void)state;
    float w[513], x[513];
    for (int i = 0; i < 513; i++) w[i] = x[i] = i == 0 || i >= 256;
    x[0] = 16777216;
    union ds_op_params p = {
        .linear = {.weight = weight(DS_TYPE_F32, w, 1, 512), .x = floats(x, 1, 512), .y = floats(NULL, 1, 1)}};
    run(DS_OP_linear, &p);
    assert_true(*(float *)at(p.linear.y.at) == 16777216 + 256);
    /* a third run of a single input: 2^24 + 256 + 1 rounds to even */
    p.linear.weight = weight(DS_TYPE_F32, w, 1, 513);
    p.linear.x = floats(x, 1, 513);
    run(DS_OP_linear, &p);
    assert_true(*(float *)at(p.linear.y.at) == 16777216 + 256);
}

static struct ds_view activations(ds_elem elem, const struct ds_view *x) {
    if (elem == DS_ELEM_F32) return *x;
    struct ds_view out = {.elem = elem, .rows = x->rows, .cols = x->cols, .stride = x->cols};
    out.at = put(NULL, ds_view_pitch(&out) * x->rows);
    union ds_op_params p = {.quantize = {.x = *x, .out = out}};
    run(DS_OP_quantize, &p);
    return p.quantize.out;
}

/* Input i of row r as a linear sees it. */
static double activation(const struct ds_view *x, uint32_t r, uint32_t i) {
    const uint8_t *row = at(x->at);
    if (x->elem == DS_ELEM_F32) return ((const float *)(const void *)row)[r * x->stride + i];
    if (x->elem == DS_ELEM_BF16) return ds_bf16_to_f32(((const uint16_t *)(const void *)row)[r * x->stride + i]);
    row += r * ds_view_pitch(x);
    const uint32_t block = x->elem == DS_ELEM_Q8 ? DS_RUN : DS_Q8_BLOCK;
    return ((const float *)(const void *)(row + ds_q8_scale_offset(x->cols)))[i / block] * (double)(int8_t)row[i];
}

static void linears_of_all_types_are_dot_products(void **state) {
    (void)state;
    enum { ROWS = 2, OUTPUTS = 3, COLS = 768 };
    for (ds_type type = 0; type < DS_TYPE_COUNT; type++) {
        if (type == DS_TYPE_I32 || type == DS_TYPE_I64) continue;
        const struct ds_type_info *info = ds_type_get(type);
        const uint32_t cols = info->block == DS_RUN ? COLS : COLS - 160, row_bytes = cols / info->block * info->bytes;
        uint8_t stored[OUTPUTS * COLS * 4];
        float x[ROWS * COLS], w[COLS];
        for (uint32_t i = 0; i < ROWS * cols; i++) x[i] = random_float() * (i % 100 == 7 ? 50 : 1);
        for (uint32_t o = 0; o < OUTPUTS; o++) {
            if (block_type(type)) random_row(type, stored + o * row_bytes, cols / info->block);
            for (uint32_t i = 0; i < cols && !block_type(type); i++) {
                const float f = random_float();
                const uint32_t bits = type == DS_TYPE_F32   ? ds_bits(f)
                                      : type == DS_TYPE_F16 ? ds_f32_to_f16(f)
                                                            : ds_f32_to_bf16(f);
                memcpy(stored + o * row_bytes + i * info->bytes, &bits, info->bytes);
            }
        }
        const struct ds_view x_view = floats(x, ROWS, cols);
        const union ds_op_params p = {.linear = {.weight = weight(type, stored, OUTPUTS, cols),
                                                 .x = activations(ds_linear_input(type), &x_view),
                                                 .y = floats(NULL, ROWS, OUTPUTS)}};
        run(DS_OP_linear, &p);
        for (uint32_t o = 0; o < OUTPUTS; o++) {
            ds_dequantize_row(type, stored + o * row_bytes, cols, w);
            for (uint32_t r = 0; r < ROWS; r++) {
                double sum = 0, size = 0;
                for (uint32_t i = 0; i < cols; i++) {
                    sum += activation(&p.linear.x, r, i) * w[i];
                    size += fabs(activation(&p.linear.x, r, i) * w[i]);
                }
                near(((float *)at(p.linear.y.at))[r * OUTPUTS + o], sum, size * 1e-5);
            }
        }
        free_buffers(NULL);
    }
}

static void bf16_weights_are_bounded_when_written(void **state) {
    (void)state;
    const uint16_t stored[] = {0x3f80, 0x217f, 0xa17f, 0x2180, 0x7f00, 0xff00};
    const float expected[] = {1, 0, 0, 0x1p-60f, 0x1p60f, -0x1p60f};
    const int32_t id = 0;
    const union ds_op_params p = {
        .embed = {.table = weight(DS_TYPE_BF16, stored, 1, 6), .ids = put(&id, 4), .out = floats(NULL, 1, 6), .scale = 1}};
    run(DS_OP_embed, &p);
    assert_memory_equal(at(p.embed.out.at), expected, sizeof expected);
}

/* --- quantize --- */

static void q8_rows_hold_values_scales_and_sums(void **state) {
    (void)state;
    float x[2 * 300] = {0};
    x[0] = 254;
    x[1] = -254;
    x[2] = 3; /* 1.5: to even */
    x[3] = 1; /* 0.5: to even */
    x[17] = 100;
    x[299] = -0.5f;
    x[300] = INFINITY;
    x[300 + 256] = 7;
    const uint32_t flags[] = {DS_FLAG_LOGIT, DS_FLAG_LOGIT};
    const struct ds_view x_view = floats(x, 2, 300);
    union ds_op_params p = {
        .quantize = {.x = x_view,
                     .out = {.at = put(NULL, 2 * ds_q8_row_bytes(300)), .elem = DS_ELEM_Q8, .rows = 2, .cols = 300},
                     .flags = put(flags, sizeof flags)}};
    memset(at(p.quantize.out.at), 0x55, 2 * ds_q8_row_bytes(300));
    run(DS_OP_quantize, &p);

    const uint8_t *row = at(p.quantize.out.at);
    const int8_t *q = (const int8_t *)row;
    const float *d = (const float *)(const void *)(row + 512);
    const int16_t *s = (const int16_t *)(const void *)(row + 512 + 8);
    assert_int_equal(q[0], 127);
    assert_int_equal(q[1], -127);
    assert_int_equal(q[2], 2);
    assert_int_equal(q[3], 0);
    assert_int_equal(q[17], 50);
    assert_int_equal(q[299], -127);
    assert_true(d[0] == 2 && d[1] == 0.5f / 127);
    assert_int_equal(s[0], 2);
    assert_int_equal(s[1], 50);
    assert_int_equal(s[299 / 16], -127);
    for (uint32_t i = 300; i < 512; i++) assert_int_equal(q[i], 0);
    for (uint32_t i = 512 + 8 + 64; i < ds_q8_row_bytes(300); i++) assert_int_equal(row[i], 0);

    /* The infinity's run is zeros; the next run of that row is not. */
    row += ds_q8_row_bytes(300);
    for (uint32_t i = 0; i < 256; i++) assert_int_equal(row[i], 0);
    assert_int_equal(row[256], 127);
    const uint32_t *raised = at(p.quantize.flags);
    assert_int_equal(raised[0], DS_FLAG_LOGIT);
    assert_int_equal(raised[1], DS_FLAG_LOGIT | DS_FLAG_ACTIVATION);
}

/* What one block of 32 holds has no effect on the next, and those beyond the last column are zeros. */
static void q8_32_rows_have_a_scale_for_each_block(void **state) {
    (void)state;
    float x[72] = {0};
    x[0] = -254;
    x[31] = 3; /* 1.5: to even */
    x[32] = INFINITY;
    x[33] = 1;
    x[71] = 0.5f;
    const uint32_t flags[] = {0};
    const struct ds_view x_view = floats(x, 1, 72);
    union ds_op_params p = {
        .quantize = {.x = x_view,
                     .out = {.at = put(NULL, ds_q8_32_row_bytes(72)), .elem = DS_ELEM_Q8_32, .rows = 1, .cols = 72},
                     .flags = put(flags, sizeof flags)}};
    memset(at(p.quantize.out.at), 0x55, ds_q8_32_row_bytes(72));
    run(DS_OP_quantize, &p);

    const uint8_t *row = at(p.quantize.out.at);
    const int8_t *q = (const int8_t *)row;
    const float *d = (const float *)(const void *)(row + 256);
    const int16_t *s = (const int16_t *)(const void *)(row + 256 + 32);
    assert_int_equal(q[0], -127);
    assert_int_equal(q[31], 2);
    assert_int_equal(q[33], 0);
    assert_int_equal(q[71], 127);
    assert_true(d[0] == 2 && d[1] == 0 && d[2] == 0.5f / 127);
    for (int b = 3; b < 8; b++) assert_true(d[b] == 0);
    assert_int_equal(s[0], -127);
    assert_int_equal(s[1], 2);
    assert_int_equal(s[2], 0);
    assert_int_equal(s[4], 127);
    for (uint32_t i = 72; i < 256; i++) assert_int_equal(q[i], 0);
    for (uint32_t i = 256 + 32 + 32; i < ds_q8_32_row_bytes(72); i++) assert_int_equal(row[i], 0);
    assert_int_equal(*(uint32_t *)at(p.quantize.flags), DS_FLAG_ACTIVATION);
}

/* f32(dot) * (d_w * d_x), blocks ascending: with scales that are no powers of two the rounding of every other order shows. */
static void q8_0_multiplies_the_scales_of_each_block_first(void **state) {
    (void)state;
    uint8_t stored[2 * 34] = {0};
    float x[64] = {0};
    for (uint32_t b = 0; b < 2; b++) {
        const uint16_t d = (uint16_t)ds_f32_to_f16(b == 0 ? 0.1f : 0.3f);
        memcpy(stored + 34 * b, &d, 2);
        for (uint32_t i = 0; i < 32; i++) {
            stored[34 * b + 2 + i] = (uint8_t)(i * 7 + 3 * b);
            x[32 * b + i] = (float)i - 13 - 7.3f * (float)b;
        }
    }
    const struct ds_view x_view = floats(x, 1, 64);
    const union ds_op_params p = {.linear = {.weight = weight(DS_TYPE_Q8_0, stored, 1, 64),
                                             .x = activations(DS_ELEM_Q8_32, &x_view),
                                             .y = floats(NULL, 1, 1)}};
    run(DS_OP_linear, &p);
    const uint8_t *row = at(p.linear.x.at);
    float sum = 0;
    for (uint32_t b = 0; b < 2; b++) {
        int32_t dot = 0;
        float d_x;
        uint16_t d_w;
        memcpy(&d_x, row + 256 + 4 * b, 4);
        memcpy(&d_w, stored + 34 * b, 2);
        for (uint32_t i = 0; i < 32; i++) dot += (int8_t)stored[34 * b + 2 + i] * (int8_t)row[32 * b + i];
        const float scale = ds_f16_to_f32(d_w) * d_x, product = (float)dot * scale;
        sum = sum + product;
    }
    assert_true(sum != 0 && *(float *)at(p.linear.y.at) == sum);
}

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

/* --- attention --- */

enum { HEADS = 4, KV_HEADS = 2, HEAD_DIM = 6, CONTEXT = 600, PAGES = CONTEXT / DS_PAGE + 1 };

/* Keys and values of two sequences, stored through kv_store into pages that run backwards. */
struct cache {
    float k[2][CONTEXT][KV_HEADS * HEAD_DIM], v[2][CONTEXT][KV_HEADS * HEAD_DIM];
    struct ds_kv kv;
    struct ds_slice page_table;
};

static struct cache *make_cache(bool f16) {
    struct cache *c = malloc(sizeof *c);
    assert_non_null(c);
    const size_t bytes = (size_t)2 * PAGES * KV_HEADS * HEAD_DIM * DS_PAGE * (f16 ? 2 : 4);
    c->kv = (struct ds_kv){.k = put(NULL, bytes),
                           .v = put(NULL, bytes),
                           .f16 = f16,
                           .pages = 2 * PAGES,
                           .kv_heads = KV_HEADS,
                           .head_dim = HEAD_DIM};
    memset(at(c->kv.k), 0xff, bytes);
    memset(at(c->kv.v), 0xff, bytes);
    int32_t table[2 * PAGES], sequence[CONTEXT], positions[CONTEXT];
    for (int i = 0; i < 2 * PAGES; i++) table[i] = 2 * PAGES - 1 - i;
    c->page_table = put(table, sizeof table);
    for (int s = 0; s < 2; s++) {
        for (int j = 0; j < CONTEXT; j++) {
            sequence[j] = s;
            positions[j] = j;
            for (int i = 0; i < KV_HEADS * HEAD_DIM; i++) {
                c->k[s][j][i] = random_float() * 2;
                c->v[s][j][i] = random_float();
            }
        }
        const union ds_op_params p = {.kv_store = {.k = floats(&c->k[s][0][0], CONTEXT, KV_HEADS * HEAD_DIM),
                                                   .v = floats(&c->v[s][0][0], CONTEXT, KV_HEADS * HEAD_DIM),
                                                   .kv = c->kv,
                                                   .paging = {.page_table = c->page_table,
                                                              .sequences = 2,
                                                              .pages_per_sequence = PAGES,
                                                              .row_sequence = put(sequence, sizeof sequence),
                                                              .positions = put(positions, sizeof positions)}}};
        run(DS_OP_kv_store, &p);
    }
    return c;
}

/* Softmax attention of one head, as textbooks have it. */
static double attend(const struct cache *c, const struct ds_op_attention *p, int s, int from, int to, const float *q, int head,
                     int dim) {
    const int kv = head / (HEADS / KV_HEADS) * HEAD_DIM;
    double total = 0, out = 0;
    for (int j = from; j < to; j++) {
        double score = 0;
        for (int d = 0; d < HEAD_DIM; d++) score += (double)q[head * HEAD_DIM + d] * c->k[s][j][kv + d];
        score *= p->scale;
        if (p->softcap > 0) score = p->softcap * tanh(score / p->softcap);
        total += exp(score);
        out += exp(score) * c->v[s][j][kv + dim];
    }
    return to > from ? out / total : 0;
}

static void check_attention(bool f16, uint32_t window, float softcap) {
    enum { ROWS = 6 };
    static const int32_t sequence[ROWS] = {0, 1, 0, 1, 0, 1}, positions[ROWS] = {0, 63, 300, 598, 10, -1};
    static const int32_t visible[ROWS] = {1, 64, 301, 600, 0, 5};
    struct cache *c = make_cache(f16);
    float q[ROWS * HEADS * HEAD_DIM], untouched[HEADS * HEAD_DIM];
    for (size_t i = 0; i < DS_COUNT(q); i++) q[i] = random_float() * 3;
    const union ds_op_params params = {.attention = {.q = floats(q, ROWS, HEADS * HEAD_DIM),
                                                     .out = floats(q, ROWS, HEADS * HEAD_DIM),
                                                     .heads = HEADS,
                                                     .kv = c->kv,
                                                     .paging = {.page_table = c->page_table,
                                                                .sequences = 2,
                                                                .pages_per_sequence = PAGES,
                                                                .row_sequence = put(sequence, sizeof sequence),
                                                                .positions = put(positions, sizeof positions)},
                                                     .visible = put(visible, sizeof visible),
                                                     .window = window,
                                                     .scale = 0.7f,
                                                     .softcap = softcap}};
    run(DS_OP_attention, &params);
    const float *out = at(params.attention.out.at);
    for (int r = 0; r < ROWS - 1; r++) {
        const int from = window > 0 && positions[r] >= (int)window ? positions[r] - (int)window + 1 : 0;
        for (int i = 0; i < HEADS * HEAD_DIM; i++) {
            const double expected = attend(c, &params.attention, sequence[r], from, visible[r], q + r * HEADS * HEAD_DIM,
                                           i / HEAD_DIM, i % HEAD_DIM);
            near(out[r * HEADS * HEAD_DIM + i], expected, f16 ? 3e-3 : 3e-6);
        }
    }
    memcpy(untouched, q + (ROWS - 1) * HEADS * HEAD_DIM, sizeof untouched);
    assert_memory_equal(out + (ROWS - 1) * HEADS * HEAD_DIM, untouched, sizeof untouched);
    free(c);
    free_buffers(NULL);
}

static void attention_is_softmax_over_the_visible_positions(void **state) {
    (void)state;
    check_attention(false, 0, 0);
    check_attention(true, 0, 0);
    check_attention(false, 0, 5);
    check_attention(false, 64, 0);
    check_attention(true, 300, 2);
    check_attention(false, 1, 0);
}

/* --- sampling --- */

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

/* --- scale, mixtures of experts --- */

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

/* W x = (1, 2, 3, 4, 5): of the five outputs those with the greatest residuals, of equal ones the first; the zeros are equal, a NaN is above all. */
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

#define TEST(name) cmocka_unit_test_teardown(name, free_buffers)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(integers_times_scales_are_the_dequantised_values),
        TEST(a_linear_adds_bias_then_residual),
        TEST(runs_of_256_are_summed_on_their_own),
        TEST(linears_of_all_types_are_dot_products),
        TEST(bf16_weights_are_bounded_when_written),
        TEST(q8_rows_hold_values_scales_and_sums),
        TEST(q8_32_rows_have_a_scale_for_each_block),
        TEST(q8_0_multiplies_the_scales_of_each_block_first),
        TEST(a_norm_divides_by_the_root_mean_square),
        TEST(gates_are_silu_tanh_gelu_and_sigmoid),
        TEST(a_gated_recurrence_keeps_and_takes),
        TEST(columns_are_scattered_and_the_others_filled),
        TEST(penalties_and_biases_do_what_the_formula_says),
        TEST(a_quarter_turn_swaps_the_pairs),
        TEST(rows_are_copied_by_index),
        TEST(rows_of_a_table_are_gathered_and_scaled),
        TEST(attention_is_softmax_over_the_visible_positions),
        TEST(greedy_takes_the_largest_and_of_equals_the_first),
        TEST(draws_follow_the_softmax_of_what_filters_leave),
        TEST(ties_are_cut_by_id),
        TEST(a_draw_depends_on_seed_position_purpose_and_stream_alone),
        TEST(a_scaled_value_is_capped_smoothly),
        TEST(a_norm_adds_its_residual_last),
        TEST(experts_are_the_best_ones_listed_by_id_and_of_equals_the_first),
        TEST(normalised_weights_sum_to_one_before_they_are_scaled),
        TEST(each_row_and_slot_uses_the_weights_of_its_expert),
        TEST(outputs_with_the_greatest_residuals_are_computed_and_the_others_filled),
        TEST(the_callers_rounding_mode_neither_matters_nor_changes),
        TEST(transfers_outside_a_buffer_are_refused),
        TEST(weight_rows_come_in_whole_groups),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
