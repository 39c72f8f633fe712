/*
 * The reference ops mean what they should: cases small enough to compute by hand, and formulas written independently, in double
 * precision, with a tolerance. That fast kernels equal the reference is checkops' business. Here: linears and what they read.
 */
#include "ref_tensors.h"

#include "ref/unpack.h"

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
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
