/* Graphs: what is built is planned without overlaps, failures wait for the plan, and running does what the ops in order do. */
#include "check.h"
#include "graph/graph.h"

struct bench {
    struct ds_device *device;
    struct ds_stream *stream;
    struct ds_error err;
};

static void setup(struct bench *b, const char *device) {
    check_ok(ds_device_create(device, &(struct ds_device_params){.threads = 2}, &b->device, &b->err), &b->err);
    check_ok(b->device->fns->stream_create(b->device, &b->stream, &b->err), &b->err);
}

static void teardown(struct bench *b) {
    b->device->fns->stream_destroy(b->stream);
    ds_device_destroy(b->device);
}

static struct ds_buffer *buffer_of(struct bench *b, uint64_t bytes) {
    struct ds_buffer *buffer;
    check_ok(b->device->fns->buffer_create(b->device, bytes, &buffer, &b->err), &b->err);
    return buffer;
}

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

enum { ROWS = 3, MOST_COLS = 64, TENSORS = 40 };

/*
 * A random program of sums, copies and norms, each reading tensors made any time before. Every tensor is also held in plain
 * memory by running each op on tensors that share nothing; the graph's results must equal those.
 */
struct program {
    struct bench *bench;
    struct ds_graph *graph;
    struct ds_view in_graph[TENSORS], apart[TENSORS];
    uint32_t count;
};

static void run_apart(struct program *p, ds_op op, const union ds_op_params *params) {
    check_ok(p->bench->device->fns->op[op](p->bench->stream, params, &p->bench->err), &p->bench->err);
}

static void add_glu(struct program *p, uint32_t a, uint32_t b) {
    const struct ds_view out = p->apart[p->count];
    p->in_graph[p->count] = ds_graph_glu(p->graph, p->in_graph[a], p->in_graph[b], DS_ACT_SILU);
    run_apart(p, DS_OP_glu, &(union ds_op_params){.glu = {.gate = p->apart[a], .up = p->apart[b], .out = out, .activation = DS_ACT_SILU}});
}

static void add_norm(struct program *p, uint32_t a, struct ds_slice weight) {
    const struct ds_view out = p->apart[p->count];
    p->in_graph[p->count] = ds_graph_rms_norm(p->graph, p->in_graph[a], out.cols, weight, 1e-6f);
    run_apart(p, DS_OP_rms_norm, &(union ds_op_params){
        .rms_norm = {.x = p->apart[a], .out = out, .dim = out.cols, .weight = weight, .eps = 1e-6f}});
}

static void add_copy(struct program *p, uint32_t a) {
    const struct ds_view out = p->apart[p->count];
    p->in_graph[p->count] = ds_graph_tensor(p->graph, DS_ELEM_F32, out.rows, out.cols);
    ds_graph_copy(p->graph, p->in_graph[a], (struct ds_slice){0}, p->in_graph[p->count]);
    run_apart(p, DS_OP_copy, &(union ds_op_params){.copy = {.x = p->apart[a], .out = out}});
}

static void random_graph_equals_its_ops(struct bench *b, uint32_t seed) {
    uint32_t state = seed;
    const uint32_t cols = 1 + next_random(&state) % MOST_COLS;
    const uint64_t bytes = DS_ALIGN_UP((uint64_t)4 * ROWS * cols, DS_ALIGN);
    struct ds_buffer *apart = buffer_of(b, bytes * TENSORS), *result = buffer_of(b, bytes * TENSORS);
    struct program p = {.bench = b, .graph = ds_graph_create(b->device)};
    assert_non_null(p.graph);
    float first[ROWS * MOST_COLS];
    for (size_t i = 0; i < DS_COUNT(first); i++) first[i] = (float)(next_random(&state) % 1000) / 250.0f - 2.0f;
    for (uint32_t i = 0; i < TENSORS; i++) p.apart[i] = ds_view_of((struct ds_slice){apart, i * bytes}, DS_ELEM_F32, ROWS, cols);
    check_ok(b->device->fns->write(b->stream, p.apart[0].at, first, (uint64_t)4 * ROWS * cols, &b->err), &b->err);
    p.in_graph[0] = p.apart[0]; /* a tensor with a place of its own */
    for (p.count = 1; p.count < TENSORS; p.count++) {
        const uint32_t a = next_random(&state) % p.count, c = next_random(&state) % p.count;
        const uint32_t kind = next_random(&state) % 3;
        if (kind == 0) add_glu(&p, a, c);
        else if (kind == 1) add_norm(&p, a, (struct ds_slice){0});
        else add_copy(&p, a);
    }
    /* Some results are wanted at the end: they live until then. */
    for (uint32_t i = 0; i < TENSORS; i += 5)
        ds_graph_copy(p.graph, p.in_graph[i], (struct ds_slice){0}, ds_view_of((struct ds_slice){result, i * bytes}, DS_ELEM_F32, ROWS, cols));
    uint64_t scratch_bytes;
    check_ok(ds_graph_plan(p.graph, &scratch_bytes, &b->err), &b->err);
    assert_true(scratch_bytes < bytes * TENSORS); /* something is shared, or the test shows nothing */
    struct ds_buffer *scratch = buffer_of(b, scratch_bytes);
    memset(b->device->fns->host(scratch), 0xff, (size_t)scratch_bytes); /* NaNs wherever nothing was written */
    check_ok(ds_graph_place(p.graph, scratch, &b->err), &b->err);
    for (int run = 0; run < 2; run++) check_ok(ds_graph_run(p.graph, b->stream, &b->err), &b->err);
    for (uint32_t i = 0; i < TENSORS; i += 5)
        assert_memory_equal((char *)b->device->fns->host(result) + i * bytes, (char *)b->device->fns->host(apart) + i * bytes,
                            (size_t)4 * ROWS * cols);
    ds_graph_destroy(p.graph);
    b->device->fns->buffer_destroy(scratch);
    b->device->fns->buffer_destroy(result);
    b->device->fns->buffer_destroy(apart);
}

static void random_graphs_equal_their_ops_run_apart(void **state) {
    (void)state;
    static const char *const devices[] = {"ref", "cpu"}; /* the one runs node by node, the other records */
    for (size_t d = 0; d < DS_COUNT(devices); d++) {
        struct bench b;
        setup(&b, devices[d]);
        for (uint32_t seed = 1; seed <= 100; seed++) random_graph_equals_its_ops(&b, seed);
        teardown(&b);
    }
}

/* --- recordings --- */

static uint32_t recorded_nodes, recorded_runs;

static ds_status record(struct ds_device *device, const struct ds_graph_node *nodes, uint32_t count, struct ds_device_graph **out,
                        struct ds_error *err) {
    (void)device;
    (void)err;
    recorded_nodes = count;
    *out = (struct ds_device_graph *)(void *)(uintptr_t)nodes; /* never looked into by the graph */
    return DS_OK;
}

static ds_status replay(struct ds_stream *stream, struct ds_device_graph *graph, struct ds_error *err) {
    (void)stream;
    (void)graph;
    (void)err;
    recorded_runs++;
    return DS_OK;
}

static uint32_t dropped;
static void drop(struct ds_device_graph *graph) { dropped += graph != NULL; }

static void a_device_that_records_gets_the_nodes_once_and_replays_them(void **state) {
    (void)state;
    struct bench b;
    setup(&b, "ref");
    struct ds_device_fns fns = *b.device->fns;
    fns.graph_create = record;
    fns.graph_run = replay;
    fns.graph_destroy = drop;
    b.device->fns = &fns;
    struct ds_buffer *at = buffer_of(&b, 4096);
    struct ds_graph *graph = ds_graph_create(b.device);
    const struct ds_view x = ds_view_of((struct ds_slice){at, 0}, DS_ELEM_F32, 1, 16);
    ds_graph_glu(graph, x, ds_graph_rms_norm(graph, x, 16, (struct ds_slice){0}, 1e-6f), DS_ACT_SILU);
    uint64_t bytes;
    check_ok(ds_graph_plan(graph, &bytes, &b.err), &b.err);
    struct ds_buffer *scratch = buffer_of(&b, bytes);
    check_ok(ds_graph_place(graph, scratch, &b.err), &b.err);
    assert_int_equal(recorded_nodes, 2);
    for (int i = 0; i < 3; i++) check_ok(ds_graph_run(graph, b.stream, &b.err), &b.err);
    assert_int_equal(recorded_runs, 3);
    ds_graph_destroy(graph);
    assert_int_equal(dropped, 1);
    b.device->fns->buffer_destroy(scratch);
    b.device->fns->buffer_destroy(at);
    teardown(&b);
}

/* --- failures --- */

static void what_fails_while_building_is_reported_by_the_plan(void **state) {
    (void)state;
    struct bench b;
    setup(&b, "ref");
    struct ds_buffer *at = buffer_of(&b, 4096);
    struct ds_graph *graph = ds_graph_create(b.device);
    const struct ds_view x = ds_view_of((struct ds_slice){at, 0}, DS_ELEM_F32, 2, 16);
    ds_graph_rms_norm(graph, x, 16, (struct ds_slice){0}, 1e-6f);
    ds_graph_rms_norm(graph, x, 5, (struct ds_slice){0}, 1e-6f); /* 16 columns are no groups of 5 */
    uint64_t bytes;
    assert_int_equal(ds_graph_plan(graph, &bytes, &b.err), DS_ERROR_ARGUMENT);
    check_contains(b.err.message, "graph node 1");
    check_contains(b.err.message, "rms_norm");
    ds_graph_destroy(graph);
    b.device->fns->buffer_destroy(at);
    teardown(&b);
}

static bool runs_no_glu(const struct ds_device *device, ds_op op, const union ds_op_params *params) {
    (void)device;
    (void)params;
    return op != DS_OP_glu;
}

static void an_op_the_device_cannot_run_is_named_by_the_plan(void **state) {
    (void)state;
    struct bench b;
    setup(&b, "ref");
    struct ds_device_fns fns = *b.device->fns;
    fns.can_run = runs_no_glu;
    b.device->fns = &fns;
    struct ds_buffer *at = buffer_of(&b, 4096);
    struct ds_graph *graph = ds_graph_create(b.device);
    const struct ds_view x = ds_view_of((struct ds_slice){at, 0}, DS_ELEM_F32, 2, 16);
    ds_graph_glu(graph, x, x, DS_ACT_SILU);
    uint64_t bytes;
    assert_int_equal(ds_graph_plan(graph, &bytes, &b.err), DS_ERROR_UNSUPPORTED);
    check_contains(b.err.message, "device 'ref' cannot run op glu");
    ds_graph_destroy(graph);
    b.device->fns->buffer_destroy(at);
    teardown(&b);
}

/* --- quantised inputs --- */

static uint32_t nodes_of_two_linears(struct bench *b, ds_type type, bool overwritten) {
    enum { INPUTS = 256, OUTPUTS = 64 };
    struct ds_buffer *at = buffer_of(b, 1 << 20);
    const struct ds_weight weight = {.at = {at, 0}, .type = type, .rows = OUTPUTS, .cols = INPUTS};
    const struct ds_view x = ds_view_of((struct ds_slice){at, 1 << 19}, DS_ELEM_F32, 2, INPUTS);
    struct ds_graph *graph = ds_graph_create(b->device);
    ds_graph_linear(graph, &weight, x, (struct ds_slice){0}, (struct ds_view){0});
    if (overwritten) ds_graph_copy(graph, ds_view_of((struct ds_slice){at, 3 << 18}, DS_ELEM_F32, 2, INPUTS), (struct ds_slice){0}, x);
    ds_graph_linear(graph, &weight, x, (struct ds_slice){0}, (struct ds_view){0});
    const uint32_t count = ds_graph_node_count(graph);
    ds_graph_destroy(graph);
    b->device->fns->buffer_destroy(at);
    return count;
}

static void linears_that_share_an_input_quantise_it_once(void **state) {
    (void)state;
    struct bench b;
    setup(&b, "ref");
    assert_int_equal(nodes_of_two_linears(&b, DS_TYPE_F32, false), 2);
    assert_int_equal(nodes_of_two_linears(&b, DS_TYPE_BF16, false), 3);
    assert_int_equal(nodes_of_two_linears(&b, DS_TYPE_Q4_0, false), 3);
    assert_int_equal(nodes_of_two_linears(&b, DS_TYPE_Q4_0, true), 5); /* quantised, copied over, quantised anew */
    teardown(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_graphs_equal_their_ops_run_apart),
        cmocka_unit_test(a_device_that_records_gets_the_nodes_once_and_replays_them),
        cmocka_unit_test(what_fails_while_building_is_reported_by_the_plan),
        cmocka_unit_test(an_op_the_device_cannot_run_is_named_by_the_plan),
        cmocka_unit_test(linears_that_share_an_input_quantise_it_once),
    };
    return cmocka_run_group_tests_name("graph", tests, NULL, NULL);
}
