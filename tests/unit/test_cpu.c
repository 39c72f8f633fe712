/* Device `cpu` beyond single ops, which checkops compares with the reference: instruction sets, weights, graphs, threads. */
#include "graph.h"
#include "isa.h"
#include "kernels/attention.h"
#include "pack.h"

#include "base/os.h"
#include "ops/device.h"
#include "ops/numerics.h"

#include <fenv.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- a device, a stream and one buffer that everything lies in --- */

enum { ARENA = 8 << 20 };

struct rig {
    struct ds_device *device;
    struct ds_stream *stream;
    struct ds_buffer *buffer;
    uint64_t used;
};

static void must(ds_status status, const struct ds_error *err) {
    if (status != DS_OK) fail_msg("%s", err->message);
}

static struct rig rig_open(unsigned threads, const char *isa) {
    struct rig rig = {0};
    struct ds_error err;
    must(ds_device_create("cpu", &(struct ds_device_params){.threads = threads, .cpu_isa = isa}, &rig.device, &err), &err);
    must(rig.device->fns->stream_create(rig.device, &rig.stream, &err), &err);
    must(rig.device->fns->buffer_create(rig.device, ARENA, &rig.buffer, &err), &err);
    return rig;
}

static void rig_close(struct rig *rig) {
    rig->device->fns->buffer_destroy(rig->buffer);
    rig->device->fns->stream_destroy(rig->stream);
    ds_device_destroy(rig->device);
}

static struct ds_slice place(struct rig *rig, uint64_t bytes) {
    const struct ds_slice slice = {.buffer = rig->buffer, .offset = rig->used};
    rig->used += DS_ALIGN_UP(bytes, (uint64_t)DS_ALIGN);
    assert_true(rig->used <= ARENA);
    return slice;
}

static void *at(struct ds_slice slice) { return ds_host_at(&slice); }

static struct ds_view floats(struct rig *rig, uint32_t rows, uint32_t cols) {
    return (struct ds_view){.at = place(rig, (uint64_t)rows * cols * 4), .elem = DS_ELEM_F32, .rows = rows, .cols = cols, .stride = cols};
}

static float noise(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(int32_t)*seed * 0x1p-31f;
}

static void fill(struct ds_view view, uint32_t seed) {
    float *x = at(view.at);
    for (uint32_t i = 0; i < view.rows * view.cols; i++) x[i] = noise(&seed);
}

static void run_op(struct rig *rig, ds_op op, const union ds_op_params *params) {
    struct ds_error err;
    must(ds_op_check(op, params, &err), &err);
    must(rig->device->fns->op[op](rig->stream, params, &err), &err);
}

/* A matrix of f32 noise, written in `pieces` calls. */
static struct ds_weight f32_weight(struct rig *rig, uint32_t rows, uint32_t cols, uint32_t seed, uint32_t piece) {
    struct ds_error err;
    const struct ds_device_fns *fns = rig->device->fns;
    const struct ds_weight weight = {.at = place(rig, fns->weight_bytes(rig->device, DS_TYPE_F32, rows, cols)), .type = DS_TYPE_F32, .rows = rows,
                                     .cols = cols};
    float *values = malloc((size_t)rows * cols * sizeof *values);
    assert_non_null(values);
    for (uint32_t i = 0; i < rows * cols; i++) values[i] = noise(&seed);
    for (uint32_t row = 0; row < rows; row += piece)
        must(fns->weight_write(rig->stream, &weight, row, DS_MIN(piece, rows - row), values + (size_t)row * cols, &err), &err);
    free(values);
    return weight;
}

/* --- instruction sets --- */

/* What runs everywhere. */
#if defined(__aarch64__)
#define LOWEST_ISA "neon"
#define LOWEST_LABEL "NEON"
#else
#define LOWEST_ISA "base"
#define LOWEST_LABEL "portable kernels"
#endif

static void an_unknown_instruction_set_is_refused_with_the_available_ones(void **state) {
    (void)state;
    struct ds_device *device;
    struct ds_error err;
    assert_int_equal(ds_device_create("cpu", &(struct ds_device_params){.cpu_isa = "mmx"}, &device, &err), DS_ERROR_ARGUMENT);
    assert_null(device);
    assert_non_null(strstr(err.message, "'mmx'"));
    assert_non_null(strstr(err.message, LOWEST_ISA));
}

static void the_description_names_instruction_set_and_threads(void **state) {
    (void)state;
    struct rig rig = rig_open(3, LOWEST_ISA);
    struct ds_device_limits limits;
    rig.device->fns->limits(rig.device, &limits);
    assert_string_equal(limits.name, "cpu");
    assert_non_null(strstr(limits.description, LOWEST_LABEL ", 3 threads"));
    assert_true(limits.host_memory && limits.exact);
    rig_close(&rig);
}

/* --- weights --- */

static void packed_weights_are_hardly_larger_than_the_file(void **state) {
    (void)state;
    static const ds_type types[] = {DS_TYPE_F32, DS_TYPE_F16, DS_TYPE_BF16, DS_TYPE_Q8_0, DS_TYPE_Q4_0, DS_TYPE_Q4_K, DS_TYPE_Q5_K, DS_TYPE_Q6_K};
    for (size_t i = 0; i < DS_COUNT(types); i++) {
        uint64_t file;
        assert_true(ds_type_size(types[i], 2560, 9728, &file));
        assert_true(ds_pack_bytes(types[i], 2560, 9728) <= file + file * 3 / 100);
    }
}

static void weights_that_cannot_be_run_have_no_size(void **state) {
    (void)state;
    assert_int_equal(ds_pack_bytes(DS_TYPE_I32, 16, 16), 0);
    assert_int_equal(ds_pack_bytes(DS_TYPE_Q4_K, 16, 255), 0);
    assert_int_equal(ds_pack_bytes(DS_TYPE_F32, 0, 16), 0);
    assert_int_equal(ds_pack_bytes(DS_TYPE_F32, UINT32_MAX, UINT32_MAX), 0); /* overflows 64 bits */
}

static void weights_written_in_pieces_are_the_same(void **state) {
    (void)state;
    struct rig rig = rig_open(2, NULL);
    const uint32_t rows = 200, cols = 33;
    const struct ds_weight whole = f32_weight(&rig, rows, cols, 7, rows), pieces = f32_weight(&rig, rows, cols, 7, DS_WEIGHT_ROWS);
    assert_memory_equal(at(whole.at), at(pieces.at), ds_pack_bytes(DS_TYPE_F32, rows, cols));
    struct ds_error err;
    assert_int_equal(rig.device->fns->weight_write(rig.stream, &whole, 10, 64, at(whole.at), &err), DS_ERROR_ARGUMENT);
    rig_close(&rig);
}

/* --- threads --- */

static void a_linear_has_the_same_bits_with_1_and_64_threads(void **state) {
    (void)state;
    enum { ROWS = 9, INPUTS = 300, OUTPUTS = 500 };
    static float results[2][ROWS * OUTPUTS];
    for (int i = 0; i < 2; i++) {
        struct rig rig = rig_open(i ? 64 : 1, NULL);
        union ds_op_params params = {.linear = {.weight = f32_weight(&rig, OUTPUTS, INPUTS, 1, OUTPUTS), .x = floats(&rig, ROWS, INPUTS),
                                                .y = floats(&rig, ROWS, OUTPUTS)}};
        fill(params.linear.x, 2);
        run_op(&rig, DS_OP_linear, &params);
        memcpy(results[i], at(params.linear.y.at), sizeof results[i]);
        rig_close(&rig);
    }
    assert_memory_equal(results[0], results[1], sizeof results[0]);
}

/* 0 active rows: nothing is touched, whatever the number of threads. */
static void no_active_rows_touch_nothing(void **state) {
    (void)state;
    struct rig rig = rig_open(5, NULL);
    union ds_op_params params = {.linear = {.weight = f32_weight(&rig, 64, 64, 1, 64), .x = floats(&rig, 4, 64), .y = floats(&rig, 4, 64),
                                            .count = place(&rig, 4)}};
    fill(params.linear.y, 3);
    float before[4 * 64];
    memcpy(before, at(params.linear.y.at), sizeof before);
    run_op(&rig, DS_OP_linear, &params);
    assert_memory_equal(before, at(params.linear.y.at), sizeof before);
    rig_close(&rig);
}

static void too_many_threads_are_an_error(void **state) {
    (void)state;
    struct ds_device *device;
    struct ds_error err;
    assert_int_equal(ds_device_create("cpu", &(struct ds_device_params){.threads = 1u << 20}, &device, &err), DS_ERROR_ARGUMENT);
    assert_null(device);
}

/* Rows of two sequences, enough of them and of chunks that splitting takes more than one wave (kernels/attention.h). */
static union ds_op_params long_attention(struct rig *rig) {
    enum { ROWS = 64, HEADS = 16, DIM = 128, PAGES = 37, LENGTH = PAGES * DS_PAGE - 1 };
    const uint64_t cache = (uint64_t)2 * PAGES * DS_PAGE * DIM;
    struct ds_op_attention p = {.q = floats(rig, ROWS, HEADS * DIM), .out = floats(rig, ROWS, HEADS * DIM), .heads = HEADS, .scale = 0.125f};
    p.kv = (struct ds_kv){.k = place(rig, cache * 2), .v = place(rig, cache * 2), .f16 = true, .pages = 2 * PAGES, .kv_heads = 1, .head_dim = DIM};
    p.paging = (struct ds_paging){.page_table = place(rig, 2 * PAGES * 4), .sequences = 2, .pages_per_sequence = PAGES, .row_sequence = place(rig, ROWS * 4),
                                  .positions = place(rig, ROWS * 4)};
    p.visible = place(rig, ROWS * 4);
    fill(p.q, 21);
    uint32_t seed = 22;
    for (uint64_t i = 0; i < cache; i++) {
        ((uint16_t *)at(p.kv.k))[i] = (uint16_t)ds_f32_to_f16(noise(&seed));
        ((uint16_t *)at(p.kv.v))[i] = (uint16_t)ds_f32_to_f16(noise(&seed));
    }
    for (int32_t i = 0; i < 2 * PAGES; i++) ((int32_t *)at(p.paging.page_table))[i] = (i * 29) % (2 * PAGES);
    for (int32_t r = 0; r < ROWS; r++) {
        const int32_t sequence = r >= 61, position = sequence ? 600 + r : LENGTH - ROWS + r;
        ((int32_t *)at(p.paging.row_sequence))[r] = sequence;
        ((int32_t *)at(p.paging.positions))[r] = r == 7 ? -1 : position;
        ((int32_t *)at(p.visible))[r] = r == 9 ? 0 : position + 1;
    }
    return (union ds_op_params){.attention = p};
}

static void attention_has_the_same_bits_however_chunks_are_split(void **state) {
    (void)state;
    static const unsigned threads[] = {1, 2, 7, 64};
    enum { BYTES = 64 * 16 * 128 * 4 };
    char *expected = malloc(BYTES);
    assert_non_null(expected);
    for (size_t t = 0; t < DS_COUNT(threads); t++) {
        struct rig rig = rig_open(threads[t], NULL);
        const union ds_op_params params = long_attention(&rig);
        assert_true(ds_attention_wave(&params.attention) < (37 * DS_PAGE + DS_CHUNK - 1) / DS_CHUNK);
        run_op(&rig, DS_OP_attention, &params);
        if (t == 0) memcpy(expected, at(params.attention.out.at), BYTES);
        else assert_memory_equal(expected, at(params.attention.out.at), BYTES);
        rig_close(&rig);
    }
    free(expected);
}

/* --- the float state --- */

/* Halves of the least normal number: lost under flush-to-zero, and rounded up under upward rounding. */
static void results_do_not_depend_on_the_callers_float_state(void **state) {
    (void)state;
    struct rig rig = rig_open(1, NULL);
    union ds_op_params params = {.rms_norm = {.x = floats(&rig, 1, 64), .out = floats(&rig, 1, 64), .dim = 64, .eps = 1e-6f}};
    fill(params.rms_norm.x, 5);
    for (int i = 0; i < 32; i++) ((float *)at(params.rms_norm.x.at))[i] = 0x1p-140f * (float)i;
    float expected[64];
    run_op(&rig, DS_OP_rms_norm, &params);
    memcpy(expected, at(params.rms_norm.out.at), sizeof expected);
    assert_true(expected[31] != 0);

#if defined(__SSE__)
    const unsigned saved = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(saved | 0x8040 | 0x4000); /* flush to zero, denormals are zero, round upward */
    run_op(&rig, DS_OP_rms_norm, &params);
    const unsigned after = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(saved);
    assert_int_equal(after & 0xffc0, (saved | 0x8040 | 0x4000) & 0xffc0);
#else
    fesetround(FE_UPWARD);
    run_op(&rig, DS_OP_rms_norm, &params);
    fesetround(FE_TONEAREST);
#endif
    assert_memory_equal(expected, at(params.rms_norm.out.at), sizeof expected);
    rig_close(&rig);
}

/* --- graphs --- */

/* norm -> linear; a copy of something else; linear -> glu with the copy */
static uint32_t small_graph(struct rig *rig, struct ds_graph_node nodes[4]) {
    const struct ds_view x = floats(rig, 3, 128), normed = floats(rig, 3, 128), y = floats(rig, 3, 96), other = floats(rig, 3, 96),
                         copied = floats(rig, 3, 96), out = floats(rig, 3, 96);
    fill(x, 11);
    fill(other, 12);
    nodes[0] = (struct ds_graph_node){.op = DS_OP_rms_norm, .params.rms_norm = {.x = x, .out = normed, .dim = 128, .eps = 1e-6f}};
    nodes[1] = (struct ds_graph_node){.op = DS_OP_copy, .params.copy = {.x = other, .out = copied}};
    nodes[2] = (struct ds_graph_node){.op = DS_OP_linear, .params.linear = {.weight = f32_weight(rig, 96, 128, 13, 96), .x = normed, .y = y}};
    nodes[3] = (struct ds_graph_node){.op = DS_OP_glu, .params.glu = {.gate = y, .up = copied, .out = out}};
    return 4;
}

static void a_graph_gives_the_bits_of_its_ops(void **state) {
    (void)state;
    static const unsigned threads[] = {1, 2, 7};
    for (size_t t = 0; t < DS_COUNT(threads); t++) {
        struct rig rig = rig_open(threads[t], NULL);
        const struct ds_device_fns *fns = rig.device->fns;
        struct ds_graph_node nodes[4];
        const uint32_t count = small_graph(&rig, nodes);
        for (uint32_t i = 0; i < count; i++) run_op(&rig, nodes[i].op, &nodes[i].params);
        const struct ds_view out = nodes[3].params.glu.out;
        float expected[3 * 96];
        memcpy(expected, at(out.at), sizeof expected);

        struct ds_device_graph *graph;
        struct ds_error err;
        must(fns->graph_create(rig.device, nodes, count, &graph, &err), &err);
        for (int i = 0; i < 100; i++) {
            memset(at(out.at), 0, sizeof expected);
            memset(at(nodes[0].params.rms_norm.out.at), 0, 3 * 128 * sizeof(float));
            must(fns->graph_run(rig.stream, graph, &err), &err);
            assert_memory_equal(expected, at(out.at), sizeof expected);
        }
        fns->graph_destroy(graph);
        rig_close(&rig);
    }
}

static void threads_meet_only_where_ops_depend(void **state) {
    (void)state;
    struct rig rig = rig_open(1, NULL);
    struct ds_graph_node nodes[4];
    struct ds_cpu_step steps[4];
    struct ds_error err;
    const struct ds_cpu_isa *isa;
    must(ds_cpu_isa_find(NULL, &isa, &err), &err);
    const uint32_t count = small_graph(&rig, nodes);
    must(ds_cpu_plan_steps(nodes, count, isa->kernels, steps, &err), &err);
    assert_false(steps[0].wait);
    assert_false(steps[1].wait); /* touches nothing of the norm's */
    assert_true(steps[2].wait);  /* reads what the norm wrote */
    assert_true(steps[3].wait);  /* reads what the linear wrote */
    nodes[1].params.copy.out = nodes[1].params.copy.x; /* writes what it read itself: no reason to wait */
    must(ds_cpu_plan_steps(nodes, 2, isa->kernels, steps, &err), &err);
    assert_false(steps[1].wait);
    nodes[1].params.copy.out.at = nodes[0].params.rms_norm.x.at; /* writes what the norm reads */
    must(ds_cpu_plan_steps(nodes, 2, isa->kernels, steps, &err), &err);
    assert_true(steps[1].wait);
    rig_close(&rig);
}

/* What follows each other in a layer: each thread works on the columns that it made itself, whatever their number. */
static void threads_do_not_meet_between_ops_that_cut_rows_alike(void **state) {
    (void)state;
    enum { ROWS = 3, COLS = 1000, HEAD = 64 };
    struct rig rig = rig_open(1, NULL);
    const struct ds_view x = floats(&rig, ROWS, COLS), normed = floats(&rig, ROWS, COLS), gated = floats(&rig, ROWS, COLS), k = floats(&rig, ROWS, 2 * HEAD),
                         k_normed = floats(&rig, ROWS, 2 * HEAD);
    const struct ds_view out = {.at = place(&rig, (uint64_t)ROWS * ds_q8_row_bytes(COLS)), .elem = DS_ELEM_Q8, .rows = ROWS, .cols = COLS};
    const struct ds_slice table = place(&rig, HEAD * 4), positions = place(&rig, ROWS * 4), count = place(&rig, 4);
    struct ds_graph_node nodes[] = {
        {.op = DS_OP_rms_norm, .params.rms_norm = {.x = x, .out = normed, .dim = COLS, .eps = 1e-6f}},
        {.op = DS_OP_quantize, .params.quantize = {.x = normed, .out = out}},
        {.op = DS_OP_glu, .params.glu = {.gate = normed, .up = normed, .out = gated}},
        {.op = DS_OP_rms_norm, .params.rms_norm = {.x = k, .out = k_normed, .dim = HEAD, .eps = 1e-6f}},
        {.op = DS_OP_rope, .params.rope = {.x = k_normed, .head_dim = HEAD, .n_rot = HEAD, .cos = table, .sin = table, .table_positions = 1, .positions = positions}},
    };
    struct ds_cpu_step steps[DS_COUNT(nodes)];
    struct ds_error err;
    const struct ds_cpu_isa *isa;
    must(ds_cpu_isa_find(NULL, &isa, &err), &err);
    must(ds_cpu_plan_steps(nodes, DS_COUNT(nodes), isa->kernels, steps, &err), &err);
    for (size_t i = 0; i < DS_COUNT(nodes); i++) assert_false(steps[i].wait);

    nodes[1].params.quantize.count = count; /* other rows, hence other shares */
    must(ds_cpu_plan_steps(nodes, DS_COUNT(nodes), isa->kernels, steps, &err), &err);
    assert_true(steps[1].wait);
    nodes[1].params.quantize.count = (struct ds_slice){0};
    nodes[0].params.rms_norm.x = normed; /* in place: rows are not cut */
    must(ds_cpu_plan_steps(nodes, DS_COUNT(nodes), isa->kernels, steps, &err), &err);
    assert_true(steps[1].wait);
    nodes[4].params.rope.head_dim = 2 * HEAD; /* heads of another size */
    nodes[4].params.rope.n_rot = 2 * HEAD;
    must(ds_cpu_plan_steps(nodes, DS_COUNT(nodes), isa->kernels, steps, &err), &err);
    assert_true(steps[4].wait);
    rig_close(&rig);
}

/* What one thread has put there for all would be another op's. A draft is drawn from the logits that max_prob reads. */
static void ops_that_share_scratch_do_not_run_side_by_side(void **state) {
    (void)state;
    struct rig rig = rig_open(1, NULL);
    const struct ds_view logits = floats(&rig, 1, 1000), log_odds = floats(&rig, 1, 1);
    struct ds_graph_node nodes[] = {
        {.op = DS_OP_sample, .params.sample = {.logits = logits, .rows = place(&rig, sizeof(struct ds_sample_row)), .tokens = place(&rig, 4)}},
        {.op = DS_OP_max_prob, .params.max_prob = {.logits = logits, .log_odds = log_odds}},
        {.op = DS_OP_copy, .params.copy = {.x = logits, .out = floats(&rig, 1, 1000)}},
    };
    struct ds_cpu_step steps[DS_COUNT(nodes)];
    struct ds_error err;
    const struct ds_cpu_isa *isa;
    must(ds_cpu_isa_find(NULL, &isa, &err), &err);
    must(ds_cpu_plan_steps(nodes, DS_COUNT(nodes), isa->kernels, steps, &err), &err);
    assert_true(steps[1].wait);
    assert_false(steps[2].wait); /* has none */
    rig_close(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unknown_instruction_set_is_refused_with_the_available_ones),
        cmocka_unit_test(the_description_names_instruction_set_and_threads),
        cmocka_unit_test(packed_weights_are_hardly_larger_than_the_file),
        cmocka_unit_test(weights_that_cannot_be_run_have_no_size),
        cmocka_unit_test(weights_written_in_pieces_are_the_same),
        cmocka_unit_test(a_linear_has_the_same_bits_with_1_and_64_threads),
        cmocka_unit_test(attention_has_the_same_bits_however_chunks_are_split),
        cmocka_unit_test(no_active_rows_touch_nothing),
        cmocka_unit_test(too_many_threads_are_an_error),
        cmocka_unit_test(results_do_not_depend_on_the_callers_float_state),
        cmocka_unit_test(a_graph_gives_the_bits_of_its_ops),
        cmocka_unit_test(threads_meet_only_where_ops_depend),
        cmocka_unit_test(ops_that_share_scratch_do_not_run_side_by_side),
        cmocka_unit_test(threads_do_not_meet_between_ops_that_cut_rows_alike),
    };
    return cmocka_run_group_tests_name("cpu", tests, NULL, NULL);
}
