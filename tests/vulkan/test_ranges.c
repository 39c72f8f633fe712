/*
 * Descriptors show fewer bytes than a buffer may have (maxStorageBufferRange): operands beyond that are reached in parts, which changes no token; and
 * what an op of several dispatches has written is waited for.
 */
#include "vulkan.h"

enum { LENGTH = 3 };

static struct ds_vk_counts counts_of(const struct vulkan_engine *e, ds_token out[TINY_LENGTH]) {
    struct ds_error err;
    ds_engine *engine = open_engine(e);
    ds_session *session = open_session(engine, 0.8f, LENGTH);
    check_ok(ds_session_generate(session, TINY_LENGTH, NULL, NULL, NULL, &err), &err);
    memcpy(out, ds_session_tokens(session) + DS_COUNT(tiny_prompt), TINY_LENGTH * sizeof *out);
    const struct ds_vk_counts counts = vulkan.counts(engine->placements[0].device);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
    return counts;
}

/* Embedding, which is the head, and logits are larger than the ranges here; the cache of a layer is not: attention reads it as a whole. */
static void a_matrix_larger_than_a_descriptor_shows_is_reached_in_parts(void **state) {
    (void)state;
    static const char *const masks[] = {"no-address", "no-address,range:8600", "no-address,no-half,no-unified,range:8600"};
    const struct vulkan_engine e = {.device = "vulkan:0", .context = 64, .widened = true};
    ds_token expected[TINY_LENGTH], found[TINY_LENGTH];
    struct vulkan_engine processor = e;
    processor.device = "cpu";
    tokens_of(&processor, 0.8f, LENGTH, expected);
    uint64_t whole = 0;
    for (size_t i = 0; i < DS_COUNT(masks); i++) {
        setenv("DSPARK_VULKAN", masks[i], 1);
        const uint64_t dispatches = counts_of(&e, found).dispatches;
        check_same_tokens(found, expected, masks[i]);
        if (i == 0) whole = dispatches;
        else assert_true(dispatches > whole);
    }
    unsetenv("DSPARK_VULKAN");
}

/* --- one op --- */

struct bench {
    struct ds_device *device;
    struct ds_stream *stream;
    struct ds_buffer *buffer;
};

static struct bench open_bench(uint64_t bytes) {
    static const struct ds_device_params in_tree = {.modules = VULKAN_FOLDER, .threads = 1};
    struct bench b;
    struct ds_error err;
    check_ok(ds_device_create("vulkan:0", &in_tree, &b.device, &err), &err);
    check_ok(b.device->fns->stream_create(b.device, &b.stream, &err), &err);
    check_ok(b.device->fns->buffer_create(b.device, bytes, &b.buffer, &err), &err);
    return b;
}

static void close_bench(struct bench *b) {
    ds_buffer_drop(&b->buffer);
    b->device->fns->stream_destroy(b->stream);
    ds_device_destroy(b->device);
}

static void run(struct bench *b, ds_op op, const union ds_op_params *params) {
    struct ds_error err;
    check_ok(b->device->fns->op[op](b->stream, params, &err), &err);
}

static void a_matrix_is_refused_where_not_even_a_tile_of_it_can_be_shown(void **state) {
    (void)state;
    setenv("DSPARK_VULKAN", "no-address,range:65536", 1);
    struct bench b = open_bench(64);
    const struct ds_device_fns *fns = b.device->fns;
    assert_true(fns->weight_bytes(b.device, DS_TYPE_F32, 1 << 20, 256) == (uint64_t)(1 << 20) * 1024); /* tiles of 32 KiB */
    assert_true(fns->weight_bytes(b.device, DS_TYPE_F32, 64, 4096) == 0);
    assert_true(fns->weight_bytes(b.device, DS_TYPE_F32, 1 << 22, 1024) == 0); /* nor what no buffer holds */
    close_bench(&b);
    unsetenv("DSPARK_VULKAN");
}

/* `scatter` fills, then stores; what reads its result next must wait for the second of the two. */
static void what_follows_an_op_of_several_dispatches_waits_for_the_last_of_them(void **state) {
    (void)state;
    enum { ROW = 64 };
    struct bench b = open_bench(4096);
    const struct ds_view x = ds_view_of((struct ds_slice){b.buffer, 0}, DS_ELEM_F32, 1, 8);
    const struct ds_view wide = ds_view_of((struct ds_slice){b.buffer, 1024}, DS_ELEM_F32, 1, ROW);
    const struct ds_view copied = ds_view_of((struct ds_slice){b.buffer, 2048}, DS_ELEM_F32, 1, ROW);
    const struct ds_slice ids = {b.buffer, 512};
    static const int32_t places[8] = {1, 5, 9, 13, 21, 33, 47, 60};
    struct ds_error err;
    check_ok(b.device->fns->write(b.stream, ids, places, sizeof places, &err), &err);
    run(&b, DS_OP_scatter, &(union ds_op_params){.scatter = {.x = x, .ids = ids, .out = wide, .fill = 2}});
    const uint64_t before = vulkan.counts(b.device).barriers;
    run(&b, DS_OP_copy, &(union ds_op_params){.copy = {.x = wide, .out = copied}});
    assert_int_equal(vulkan.counts(b.device).barriers - before, 1);
    float found[ROW];
    check_ok(b.device->fns->read(b.stream, copied.at, found, sizeof found, &err), &err);
    for (uint32_t i = 0, k = 0; i < ROW; i++) {
        const bool stored = k < 8 && places[k] == (int32_t)i;
        assert_true(found[i] == (stored ? 0.0f : 2.0f));
        k += stored;
    }
    close_bench(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_matrix_larger_than_a_descriptor_shows_is_reached_in_parts),
        cmocka_unit_test(a_matrix_is_refused_where_not_even_a_tile_of_it_can_be_shown),
        cmocka_unit_test(what_follows_an_op_of_several_dispatches_waits_for_the_last_of_them),
    };
    return cmocka_run_group_tests(tests, vulkan_begin, remove_models);
}
