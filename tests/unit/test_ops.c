/*
 * The front of every backend refuses what would make one read or write where it should not, and says why. Here: what holds
 * for every operand of every op. The rules of single ops: test_op_rules.c.
 */
#include "good_ops.h"

/* --- what holds for every operand of every op --- */

static void good_parameters_of_every_op_are_accepted(void **state) {
    (void)state;
    for (ds_op op = 0; op < DS_OP_COUNT; op++) {
        const union ds_op_params params = good(op);
        assert_accepted(op, &params);
    }
}

static void a_buffer_one_byte_short_is_refused_for_every_operand(void **state) {
    (void)state;
    for (ds_op op = 0; op < DS_OP_COUNT; op++) {
        union ds_op_params params = good(op);
        struct ds_operand operands[DS_MAX_OPERANDS];
        const uint32_t n = ds_op_operands(op, &params, operands);
        assert_true(n >= 3);
        for (uint32_t i = 0; i < n; i++) {
            struct ds_slice *slice = slice_at(&params, &operands[i]);
            slice->offset = 128;
            slice->buffer->bytes = 128 + operands[i].bytes;
            assert_accepted(op, &params);
            slice->buffer->bytes--;
            assert_refused(op, &params, operands[i].name);
            slice->buffer->bytes = 100; /* the offset itself lies outside */
            assert_refused(op, &params, "of a buffer of 100");
            slice->buffer->bytes = BUFFER_BYTES;
        }
    }
}

static void a_misaligned_operand_is_refused(void **state) {
    (void)state;
    for (ds_op op = 0; op < DS_OP_COUNT; op++) {
        union ds_op_params params = good(op);
        struct ds_operand operands[DS_MAX_OPERANDS];
        const uint32_t n = ds_op_operands(op, &params, operands);
        for (uint32_t i = 0; i < n; i++) {
            slice_at(&params, &operands[i])->offset = 1;
            assert_refused(op, &params, "not a multiple of");
            slice_at(&params, &operands[i])->offset = 0;
        }
    }
}

static void only_optional_operands_may_be_absent(void **state) {
    (void)state;
    static const struct {
        ds_op op;
        const char *name;
    } optional[] = {{DS_OP_rms_norm, "weight"}, {DS_OP_quantize, "flags"}, {DS_OP_linear, "bias"},
                    {DS_OP_linear, "residual"}, {DS_OP_copy, "index"},     {DS_OP_sample, "flags"},
                    {DS_OP_route, "scale"},    {DS_OP_expert_sum, "residual"},                     {DS_OP_rnn_cell, "state"},
                    {DS_OP_reject, "drafted"}, {DS_OP_reject, "flags"},
                    {DS_OP_norm_quantize, "weight"},  {DS_OP_norm_quantize, "flags"}, {DS_OP_glu_quantize, "flags"},
                    {DS_OP_heads, "q"},        {DS_OP_heads, "q_norm"},    {DS_OP_heads, "k_norm"}};
    for (ds_op op = 0; op < DS_OP_COUNT; op++) {
        const union ds_op_params all = good(op);
        struct ds_operand operands[DS_MAX_OPERANDS];
        const uint32_t n = ds_op_operands(op, &all, operands);
        for (uint32_t i = 0; i < n; i++) {
            bool may_be_absent = strcmp(operands[i].name, "count") == 0;
            for (size_t k = 0; k < DS_COUNT(optional); k++)
                may_be_absent = may_be_absent || (optional[k].op == op && strcmp(optional[k].name, operands[i].name) == 0);
            union ds_op_params params = all;
            slice_at(&params, &operands[i])->buffer = NULL;
            struct ds_operand fewer[DS_MAX_OPERANDS];
            assert_int_equal(ds_op_operands(op, &params, fewer), n - 1);
            if (may_be_absent)
                assert_accepted(op, &params);
            else
                assert_refused(op, &params, operands[i].name);
        }
    }
}

static void an_output_overlaps_no_input(void **state) {
    (void)state;
    for (ds_op op = 0; op < DS_OP_COUNT; op++) {
        const union ds_op_params all = good(op);
        struct ds_operand operands[DS_MAX_OPERANDS];
        const uint32_t n = ds_op_operands(op, &all, operands);
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t k = 0; k < n; k++) {
                if (i == k || !(operands[i].access & DS_WRITE)) continue;
                union ds_op_params params = all;
                const struct ds_slice *output = slice_at(&params, &operands[i]);
                struct ds_slice *other = slice_at(&params, &operands[k]);
                /* The last byte of the output; then just behind it. */
                *other = (struct ds_slice){.buffer = output->buffer, .offset = (operands[i].bytes - 1) / 64 * 64};
                assert_refused(op, &params, "overlap");
                other->offset = DS_ALIGN_UP(operands[i].bytes, 64);
                assert_accepted(op, &params);
            }
        }
    }
}

static void operands_on_two_devices_are_refused(void **state) {
    (void)state;
    struct ds_device one = {0}, two = {0};
    union ds_op_params params = good(DS_OP_glu);
    params.glu.gate.at.buffer->device = &one;
    params.glu.up.at.buffer->device = &one;
    assert_accepted(DS_OP_glu, &params);
    params.glu.up.at.buffer->device = &two;
    assert_refused(DS_OP_glu, &params, "gate and up lie on different devices");
}

/* --- overlaps of views --- */

static void column_blocks_of_one_matrix_do_not_overlap(void **state) {
    (void)state;
    union ds_op_params params = good(DS_OP_glu);
    struct ds_op_glu *p = &params.glu;
    /* gate, up and out side by side in rows of 150 */
    p->gate.stride = p->up.stride = p->out.stride = 150;
    p->up.at = p->out.at = p->gate.at;
    p->up.at.offset = 50 * 4;
    p->out.at.offset = 100 * 4;
    assert_accepted(DS_OP_glu, &params);
    /* one column into up; then cyclically, out's last columns in the next row's gate */
    p->out.at.offset = 97 * 4;
    assert_refused(DS_OP_glu, &params, "up and out overlap");
    p->out.at.offset = 103 * 4;
    assert_refused(DS_OP_glu, &params, "gate and out overlap");
    /* rows that start later in the same columns */
    p->out.at.offset = (150 * ROWS + 100) * 4;
    assert_accepted(DS_OP_glu, &params);
    p->out.at.offset = 150 * 4;
    assert_refused(DS_OP_glu, &params, "overlap");
    /* another pitch counts as an overlap */
    p->out.at.offset = 100 * 4;
    p->out.stride = 151;
    assert_refused(DS_OP_glu, &params, "overlap");
    /* one row has no pitch */
    p->gate.rows = p->up.rows = p->out.rows = 1;
    assert_accepted(DS_OP_glu, &params);
}

static void in_place_means_the_very_same_view(void **state) {
    (void)state;
    union ds_op_params params = good(DS_OP_glu);
    params.glu.out = params.glu.gate;
    assert_accepted(DS_OP_glu, &params);
    params.glu.out = params.glu.up;
    assert_accepted(DS_OP_glu, &params);
    params.glu.out.at.offset += 4;
    assert_refused(DS_OP_glu, &params, "without being the very same view");

    params = good(DS_OP_rms_norm);
    params.rms_norm.out = params.rms_norm.x;
    assert_accepted(DS_OP_rms_norm, &params);
    params.rms_norm.out.stride++;
    assert_refused(DS_OP_rms_norm, &params, "x and out overlap");

    params = good(DS_OP_linear);
    params.linear.residual = params.linear.y;
    assert_accepted(DS_OP_linear, &params);

    params = good(DS_OP_copy);
    params.copy.x = params.copy.out;
    assert_refused(DS_OP_copy, &params, "x and out overlap");
}

/* --- operands --- */

static uint64_t bytes_of(ds_op op, const char *name, ds_access access) {
    const union ds_op_params params = good(op);
    struct ds_operand operands[DS_MAX_OPERANDS];
    const uint32_t n = ds_op_operands(op, &params, operands);
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(operands[i].name, name) != 0) continue;
        assert_int_equal(operands[i].access, access);
        return operands[i].bytes;
    }
    fail_msg("%s has no operand %s", ds_op_name(op), name);
    return 0;
}

static void operands_reach_exactly_as_far_as_the_op_does(void **state) {
    (void)state;
    assert_int_equal(bytes_of(DS_OP_embed, "table", DS_READ), 70 * 144);
    assert_int_equal(bytes_of(DS_OP_embed, "ids", DS_READ), ROWS * 4);
    assert_int_equal(bytes_of(DS_OP_embed, "out", DS_WRITE), ROWS * 256 * 4);
    assert_int_equal(bytes_of(DS_OP_rms_norm, "weight", DS_READ), 32 * 4);
    /* 300 columns: 512 values, 2 scales, 32 sums of 2 bytes, rounded up to 64 */
    assert_int_equal(bytes_of(DS_OP_quantize, "out", DS_WRITE), ROWS * 640);
    assert_int_equal(bytes_of(DS_OP_quantize, "flags", DS_READ_WRITE), ROWS * 4);
    /* 255 columns: 256 values, 8 scales, 16 sums, a whole number of 64 */
    assert_int_equal(ds_view_bytes(&(struct ds_view){.elem = DS_ELEM_Q8_32, .rows = 3, .cols = 255}), 3 * 320);
    assert_int_equal(bytes_of(DS_OP_linear, "weight", DS_READ), 512 * 144);
    assert_int_equal(bytes_of(DS_OP_linear, "bias", DS_READ), 512 * 4);
    assert_int_equal(bytes_of(DS_OP_rope, "x", DS_READ_WRITE), ROWS * 64 * 4);
    assert_int_equal(bytes_of(DS_OP_rope, "cos", DS_READ), 100 * 8 * 4);
    assert_int_equal(bytes_of(DS_OP_kv_store, "kv.k", DS_READ_WRITE), 4 * 2 * 16 * 64 * 2);
    assert_int_equal(bytes_of(DS_OP_kv_store, "paging.page_table", DS_READ), 2 * 2 * 4);
    assert_int_equal(bytes_of(DS_OP_attention, "kv.v", DS_READ), 4 * 2 * 16 * 64 * 2);
    assert_int_equal(bytes_of(DS_OP_attention, "visible", DS_READ), ROWS * 4);
    assert_int_equal(bytes_of(DS_OP_copy, "x", DS_READ), 9 * 7 * 4);
    assert_int_equal(bytes_of(DS_OP_sample, "rows", DS_READ), ROWS * 64);
    assert_int_equal(bytes_of(DS_OP_sample, "bias", DS_READ), 3 * 1000 * 4);
    assert_int_equal(bytes_of(DS_OP_sample, "tokens", DS_WRITE), ROWS * 4);
    assert_int_equal(bytes_of(DS_OP_sample, "count", DS_READ), 4);
    const struct ds_view strided = {.elem = DS_ELEM_F32, .rows = 3, .cols = 10, .stride = 100};
    assert_int_equal(ds_view_bytes(&strided), (2 * 100 + 10) * 4);
}

/* --- devices --- */

static void devices_are_found_by_name_and_others_are_listed(void **state) {
    (void)state;
    const char *names[8];
    const uint32_t count = ds_device_names(NULL, names, DS_COUNT(names));
    assert_true(count >= 1 && count <= DS_COUNT(names));
    assert_string_equal(names[count - 1], "ref"); /* the slowest comes last */
    assert_int_equal(ds_device_names(NULL, NULL, 0), count);

    struct ds_error err;
    const struct ds_device_params params = {.threads = 1};
    for (uint32_t i = 0; i <= count; i++) { /* and the best one, without a name */
        struct ds_device *device;
        assert_int_equal(ds_device_create(i < count ? names[i] : NULL, &params, &device, &err), DS_OK);
        assert_int_equal(device->fns->version, DS_DEVICE_VERSION);
        struct ds_device_limits limits;
        device->fns->limits(device, &limits);
        assert_string_equal(limits.name, names[i < count ? i : 0]);
        ds_device_destroy(device);
    }
    struct ds_device *device = (struct ds_device *)&params;
    assert_int_equal(ds_device_create("gpu:7", &params, &device, &err), DS_ERROR_DEVICE);
    assert_null(device);
    assert_non_null(strstr(err.message, "gpu:7"));
    assert_non_null(strstr(err.message, "ref"));
    ds_device_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_parameters_of_every_op_are_accepted),
        cmocka_unit_test(a_buffer_one_byte_short_is_refused_for_every_operand),
        cmocka_unit_test(a_misaligned_operand_is_refused),
        cmocka_unit_test(only_optional_operands_may_be_absent),
        cmocka_unit_test(an_output_overlaps_no_input),
        cmocka_unit_test(operands_on_two_devices_are_refused),
        cmocka_unit_test(column_blocks_of_one_matrix_do_not_overlap),
        cmocka_unit_test(in_place_means_the_very_same_view),
        cmocka_unit_test(operands_reach_exactly_as_far_as_the_op_does),
        cmocka_unit_test(devices_are_found_by_name_and_others_are_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
