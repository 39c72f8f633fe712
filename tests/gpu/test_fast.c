/*
 * --numerics fast on the emulated device: what a library gives lies within the bound that backends/gpu/blas.h derives, the bound notices what is wrong, nothing
 * else changes, each call of the library may fail, and an engine says that it is fast. Attention: test_fast_attention.c.
 */
#include "fast_rig.h"

#include "dspark.h"

/* --- linears --- */

struct shape {
    ds_type type;
    uint32_t rows, outputs, inputs, count;
    bool bias, residual; /* the latter in place */
};

/* As values, and as the op takes them. */
struct operands {
    float *x, *w, *bias, *y;
    void *stored_x, *stored_w;
    uint64_t x_bytes, w_bytes;
};

static void *store(ds_type type, const float *from, uint64_t n, uint64_t *bytes) {
    const uint32_t size = type == DS_TYPE_F32 ? 4 : 2;
    uint8_t *const out = malloc(n * size);
    assert_non_null(out);
    for (uint64_t i = 0; i < n; i++) {
        const uint32_t bits = type == DS_TYPE_F32 ? ds_bits(from[i]) : type == DS_TYPE_F16 ? ds_f32_to_f16(from[i]) : ds_bits(from[i]) >> 16;
        memcpy(out + i * size, &bits, size);
    }
    *bytes = n * size;
    return out;
}

static struct operands make_operands(const struct shape *s) {
    const ds_type of_x = s->type == DS_TYPE_BF16 ? DS_TYPE_BF16 : DS_TYPE_F32;
    struct operands o = {.x = values((uint64_t)s->rows * s->inputs, of_x, 1), .w = values((uint64_t)s->outputs * s->inputs, s->type, 2),
                         .bias = values(s->outputs, DS_TYPE_F32, 3), .y = values((uint64_t)s->rows * s->outputs, DS_TYPE_F32, 4)};
    o.stored_x = store(of_x, o.x, (uint64_t)s->rows * s->inputs, &o.x_bytes);
    o.stored_w = store(s->type, o.w, (uint64_t)s->outputs * s->inputs, &o.w_bytes);
    return o;
}

static void free_operands(struct operands *o) {
    free(o->x), free(o->w), free(o->bias), free(o->y), free(o->stored_x), free(o->stored_w);
}

static struct ds_op_linear linear_on(struct rig *r, const struct shape *s, const struct operands *o) {
    struct ds_error err;
    struct ds_op_linear p = {
        .weight = {.at = room_for(r, r->device->fns->weight_bytes(r->device, s->type, s->outputs, s->inputs)), .type = s->type, .rows = s->outputs, .cols = s->inputs},
        .x = ds_view_of(put(r, o->stored_x, o->x_bytes), ds_linear_input(s->type), s->rows, s->inputs),
        .y = ds_view_of(put(r, o->y, (uint64_t)s->rows * s->outputs * 4), DS_ELEM_F32, s->rows, s->outputs),
    };
    check_ok(r->device->fns->weight_write(r->stream, &p.weight, 0, s->outputs, o->stored_w, &err), &err);
    if (s->bias) p.bias = put(r, o->bias, s->outputs * 4);
    if (s->residual) p.residual = p.y;
    if (s->count < s->rows) p.count = put(r, &s->count, sizeof s->count);
    check_ok(ds_op_check(DS_OP_linear, &(union ds_op_params){.linear = p}, &err), &err);
    return p;
}

/* y, malloc'ed. */
static float *result_of(const char *device, bool fast, const struct shape *s, const struct operands *o) {
    struct rig r;
    struct ds_error err;
    const uint64_t bytes = (uint64_t)s->rows * s->outputs * 4;
    float *const y = malloc(bytes);
    check_ok(open_rig(&r, device, fast, &err), &err);
    const struct ds_op_linear p = linear_on(&r, s, o);
    check_ok(r.device->fns->op[DS_OP_linear](r.stream, &(union ds_op_params){.linear = p}, &err), &err);
    check_ok(r.device->fns->read(r.stream, p.y.at, y, bytes, &err), &err);
    close_rig(&r);
    return y;
}

/* The largest difference, in bounds of blas.h; *others: how many values differ at all. */
static double worst_of(const struct shape *s, const struct operands *o, const float *exact, const float *fast, uint32_t *others) {
    const double u = 0x1p-24, n = s->inputs;
    const double factor = s->type == DS_TYPE_BF16 ? 5 * n * u : 0x1p-9 + 0x1p-20 + 6 * n * u;
    double worst = 0;
    *others = 0;
    for (uint32_t r = 0; r < s->count; r++) {
        for (uint32_t k = 0; k < s->outputs; k++) {
            const size_t at = (size_t)r * s->outputs + k;
            double magnitudes = 0;
            for (uint32_t i = 0; i < s->inputs; i++) magnitudes += fabs((double)o->x[(size_t)r * s->inputs + i] * o->w[(size_t)k * s->inputs + i]);
            const double more = 4 * u * (fabs((double)exact[at]) + fabs((double)o->bias[k]) + fabs((double)o->y[at]));
            worst = fmax(worst, fabs((double)exact[at] - fast[at]) / (factor * magnitudes + more));
            *others += exact[at] != fast[at];
        }
    }
    return worst;
}

static const struct shape shapes[] = {
    {DS_TYPE_BF16, 64, 70, 300, 64, false, false}, {DS_TYPE_BF16, 65, 130, 515, 40, true, true}, {DS_TYPE_F16, 64, 33, 257, 64, true, false},
    {DS_TYPE_F32, 66, 64, 300, 66, false, true},   {DS_TYPE_F32, 64, 1, 7, 1, true, true},       {DS_TYPE_BF16, 128, 200, 256, 127, false, true},
};

static void linears_of_many_rows_are_the_librarys_and_within_its_bound(void **state) {
    (void)state;
    for (size_t i = 0; i < DS_COUNT(shapes); i++) {
        const struct shape *const s = &shapes[i];
        struct operands o = make_operands(s);
        for (int d = 0; d < 2; d++) {
            const char *const device = d ? "emu:1" : "emu:0";
            const uint32_t before = standin.calls(STANDIN_GEMM);
            float *const exact = result_of(device, false, s, &o);
            assert_int_equal(standin.calls(STANDIN_GEMM), before);
            float *const fast = result_of(device, true, s, &o);
            assert_true(standin.calls(STANDIN_GEMM) > before);
            uint32_t others;
            const double worst = worst_of(s, &o, exact, fast, &others);
            print_message("# %s: shape %d: %.3f of the bound, %u values differ\n", device, (int)i, worst, others);
            assert_true(worst <= 1);
            assert_true(others > 0 || s->inputs < 8);
            const size_t counted = (size_t)s->count * s->outputs, all = (size_t)s->rows * s->outputs;
            assert_memory_equal(fast + counted, o.y + counted, (all - counted) * sizeof *fast); /* rows beyond `count` stay */
            free(exact), free(fast);
        }
        free_operands(&o);
    }
}

static void the_bound_notices_a_product_without_its_last_term(void **state) {
    (void)state;
    for (size_t i = 0; i < DS_COUNT(shapes); i++) {
        const struct shape *const s = &shapes[i];
        struct operands o = make_operands(s);
        uint32_t others;
        float *const exact = result_of("emu:0", false, s, &o);
        standin.be_wrong(1);
        float *const wrong = result_of("emu:0", true, s, &o);
        standin.be_wrong(0);
        assert_true(worst_of(s, &o, exact, wrong, &others) > 1);
        free(exact), free(wrong);
        free_operands(&o);
    }
}

static void few_rows_have_the_exact_bits(void **state) {
    (void)state;
    const struct shape s = {DS_TYPE_BF16, 63, 40, 300, 63, true, true};
    struct operands o = make_operands(&s);
    const uint32_t before = standin.calls(STANDIN_GEMM);
    float *const exact = result_of("emu:0", false, &s, &o), *const fast = result_of("emu:0", true, &s, &o);
    assert_memory_equal(exact, fast, (size_t)s.rows * s.outputs * sizeof *exact);
    assert_int_equal(standin.calls(STANDIN_GEMM), before);
    free(exact), free(fast);
    free_operands(&o);
}

/* --- recordings --- */

static void a_recorded_product_allocates_nothing_and_is_what_it_was_op_by_op(void **state) {
    (void)state;
    const struct shape *const s = &shapes[1];
    struct operands o = make_operands(s);
    float *const once = result_of("emu:0", true, s, &o), *const y = malloc((size_t)s->rows * s->outputs * 4);
    struct rig r;
    struct ds_error err;
    struct ds_device_graph *graph[2];
    check_ok(open_rig(&r, "emu:0", true, &err), &err);
    const struct ds_op_linear p = linear_on(&r, s, &o);
    const struct ds_graph_node nodes[2] = {{DS_OP_linear, {.linear = p}}, {DS_OP_linear, {.linear = p}}};
    for (int i = 0; i < 2; i++) check_ok(r.device->fns->graph_create(r.device, nodes, (uint32_t)(1 + i), &graph[i], &err), &err);
    const struct ds_emu_counts before = emulator.counts();
    const uint32_t created = standin.calls(STANDIN_CREATE), called = standin.calls(STANDIN_GEMM);
    for (int i = 0; i < 3; i++) {
        check_ok(r.device->fns->write(r.stream, p.y.at, o.y, (uint64_t)s->rows * s->outputs * 4, &err), &err);
        check_ok(r.device->fns->graph_run(r.stream, graph[0], &err), &err);
        check_ok(r.device->fns->read(r.stream, p.y.at, y, (uint64_t)s->rows * s->outputs * 4, &err), &err);
        assert_memory_equal(y, once, (size_t)s->rows * s->outputs * 4);
    }
    check_ok(r.device->fns->graph_run(r.stream, graph[1], &err), &err);
    const struct ds_emu_counts after = emulator.counts();
    assert_int_equal(after.allocations, before.allocations);
    assert_int_equal(after.launches, before.launches);
    assert_int_equal(standin.calls(STANDIN_CREATE), created);
    assert_int_equal(standin.calls(STANDIN_GEMM), called); /* replayed, not called again */
    const uint32_t products = 3; /* of at most 64 outputs of 130 each, between unpacking and finishing */
    assert_int_equal(after.kernels - before.kernels, (3 + 2) * products * 3);
    for (int i = 0; i < 2; i++) r.device->fns->graph_destroy(graph[i]);
    close_rig(&r);
    free(once), free(y);
    free_operands(&o);
}

/* --- failures --- */

static void a_library_that_is_absent_or_unfit_is_told_once_and_linears_are_exact(void **state) {
    (void)state;
    static const struct {
        const char *file, *says;
    } cases[] = {{NULL, "no cuBLAS was found"}, {"/nowhere/libcublas.so", "no cuBLAS was found"}, {FOREIGN_FILE, "has not all the calls"}};
    const struct shape *const s = &shapes[0];
    struct operands o = make_operands(s);
    float *const exact = result_of("emu:0", false, s, &o);
    assert_string_equal(told, "");
    for (size_t i = 0; i <= DS_COUNT(cases); i++) {
        if (i == DS_COUNT(cases)) setenv("DSPARK_EMU_BLAS", BLAS_FILE, 1), standin.refuse(STANDIN_CREATE, 1, 1);
        else if (cases[i].file) setenv("DSPARK_EMU_BLAS", cases[i].file, 1);
        else unsetenv("DSPARK_EMU_BLAS");
        float *const found = result_of("emu:0", true, s, &o);
        check_contains(told, i < DS_COUNT(cases) ? cases[i].says : "does not work here (cublasCreate gives status 1)");
        assert_memory_equal(exact, found, (size_t)s->rows * s->outputs * sizeof *exact);
        free(found);
    }
    standin.refuse(STANDIN_CREATE, 0, 0);
    free(exact);
    free_operands(&o);
}

static void check_refused(ds_status status, ds_status expected, const struct ds_error *err, const char *call) {
    assert_int_equal(status, expected);
    check_contains(err->message, "emu:0");
    check_contains(err->message, call);
    check_contains(err->message, "--numerics exact");
}

static void every_call_of_the_library_may_fail(void **state) {
    (void)state;
    static const struct {
        enum standin_call call;
        const char *name;
    } cases[] = {{STANDIN_SET_STREAM, "cublasSetStream"}, {STANDIN_SET_WORKSPACE, "cublasSetWorkspace"}, {STANDIN_GEMM, "cublasGemmEx"}};
    const struct shape *const s = &shapes[1];
    struct operands o = make_operands(s);
    struct rig r;
    struct ds_error err;
    const int64_t held = emulator.counts().allocations;
    for (uint32_t n = 2; n <= 3; n++) { /* the first handle is made to see whether it works: the device's, and a stream's */
        standin.refuse(STANDIN_CREATE, n, 3);
        check_refused(open_rig(&r, "emu:0", true, &err), DS_ERROR_MEMORY, &err, "cublasCreate");
        close_rig(&r);
        assert_int_equal(emulator.counts().allocations, held);
        assert_int_equal(standin.handles(), 0);
    }
    standin.refuse(STANDIN_CREATE, 0, 0);
    check_ok(open_rig(&r, "emu:0", true, &err), &err);
    const struct ds_op_linear p = linear_on(&r, s, &o);
    const union ds_op_params params = {.linear = p};
    const struct ds_graph_node node = {DS_OP_linear, params};
    for (size_t i = 0; i < DS_COUNT(cases); i++) {
        const uint32_t before = standin.calls(cases[i].call);
        struct ds_device_graph *graph;
        check_ok(r.device->fns->op[DS_OP_linear](r.stream, &params, &err), &err);
        const uint32_t of_op = standin.calls(cases[i].call) - before;
        check_ok(r.device->fns->graph_create(r.device, &node, 1, &graph, &err), &err);
        r.device->fns->graph_destroy(graph);
        const uint32_t of_graph = standin.calls(cases[i].call) - before - of_op;
        assert_true(of_op >= 2 && of_graph > of_op);
        const int64_t now = emulator.counts().allocations;
        for (uint32_t n = 1; n <= of_op; n++) {
            standin.refuse(cases[i].call, n, 13);
            check_refused(r.device->fns->op[DS_OP_linear](r.stream, &params, &err), DS_ERROR_DEVICE, &err, cases[i].name);
        }
        for (uint32_t n = 1; n <= of_graph; n++) {
            graph = (struct ds_device_graph *)&err;
            standin.refuse(cases[i].call, n, n % 2 ? 13 : 3);
            check_refused(r.device->fns->graph_create(r.device, &node, 1, &graph, &err), n % 2 ? DS_ERROR_DEVICE : DS_ERROR_MEMORY, &err, cases[i].name);
            assert_null(graph);
            assert_int_equal(emulator.counts().allocations, now);
        }
        standin.refuse(cases[i].call, 0, 0);
        check_ok(r.device->fns->op[DS_OP_linear](r.stream, &params, &err), &err);
    }
    close_rig(&r);
    free_operands(&o);
}

/* --- an engine --- */

enum { PROMPT = 70, TOKENS = 6 };

static void answer(ds_numerics numerics, bool known, ds_token out[PROMPT + TOKENS], int64_t *allocated) {
    struct ds_error err;
    ds_engine *engine;
    ds_session *session;
    ds_engine_params params = ds_engine_defaults();
    params.target = target_folder;
    params.drafter = drafter_folder;
    params.device = "emu:0";
    params.modules = EMULATOR_FOLDER;
    params.threads = 1;
    params.context = 128;
    params.max_rows = 64;
    params.numerics = numerics;
    params.log = hear;
    params.log_level = DS_LOG_WARNING;
    told[0] = 0;
    check_ok(ds_engine_open(&params, &engine, &err), &err);
    ds_engine_info info = {.size = sizeof info};
    ds_engine_get_info(engine, &info);
    assert_int_equal(info.fast[0] != 0, numerics == DS_NUMERICS_FAST);
    if (known && numerics == DS_NUMERICS_FAST) check_contains(info.fast, "standin_blas.so");
    check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err);
    ds_session_params session_params = ds_session_defaults();
    session_params.ignore_stop = true;
    session_params.spec = DS_SPEC_FIXED;
    session_params.spec_length = TINY_BLOCK;
    check_ok(ds_session_create(engine, &session_params, &session, &err), &err);
    ds_token prompt[PROMPT];
    for (int i = 0; i < PROMPT; i++) prompt[i] = (i * 37 + 5) % TINY_VOCABULARY;
    for (int again = 0; again < 2; again++) {
        const int64_t before = emulator.counts().allocations;
        check_ok(ds_session_rewind(session, 0, &err), &err);
        check_ok(ds_session_append(session, prompt, PROMPT, &err), &err);
        check_ok(ds_session_generate(session, TOKENS, NULL, NULL, NULL, &err), &err);
        *allocated = emulator.counts().allocations - before;
    }
    assert_int_equal(ds_session_length(session), PROMPT + TOKENS);
    memcpy(out, ds_session_tokens(session), (PROMPT + TOKENS) * sizeof *out);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

static void an_engine_is_fast_only_when_asked_and_says_so(void **state) {
    (void)state;
    ds_token exact[PROMPT + TOKENS], fast[PROMPT + TOKENS];
    int64_t allocated;
    const uint32_t before = standin.calls(STANDIN_CREATE);
    answer(DS_NUMERICS_EXACT, true, exact, &allocated);
    assert_string_equal(told, "");
    assert_int_equal(standin.calls(STANDIN_CREATE), before);
    const uint32_t products = standin.calls(STANDIN_GEMM);
    answer(DS_NUMERICS_FAST, true, fast, &allocated);
    check_contains(told, "device emu:0: fast numerics: attention on tensor cores, float linears of 64 rows and more by standin_blas.so");
    assert_true(standin.calls(STANDIN_GEMM) > products);
    assert_int_equal(allocated, 0);
    unsetenv("DSPARK_EMU_BLAS");
    answer(DS_NUMERICS_FAST, false, fast, &allocated);
    check_contains(told, "no cuBLAS was found");
    check_contains(told, "fast numerics: attention on tensor cores:");
}

static void hear_of_device(void *user, const ds_device_info *info) {
    if (strncmp(info->name, "emu", 3) == 0) check_contains(info->fast, "standin_blas.so"), ++*(int *)user;
    else assert_string_equal(info->fast, "");
}

static void devices_tell_what_fast_would_use(void **state) {
    (void)state;
    struct ds_error err;
    int found = 0;
    check_ok(ds_devices(EMULATOR_FOLDER, hear_of_device, &found, &err), &err);
    assert_int_equal(found, 2);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        TEST(linears_of_many_rows_are_the_librarys_and_within_its_bound),
        TEST(the_bound_notices_a_product_without_its_last_term),
        TEST(few_rows_have_the_exact_bits),
        TEST(a_recorded_product_allocates_nothing_and_is_what_it_was_op_by_op),
        TEST(a_library_that_is_absent_or_unfit_is_told_once_and_linears_are_exact),
        TEST(every_call_of_the_library_may_fail),
        TEST(an_engine_is_fast_only_when_asked_and_says_so),
        TEST(devices_tell_what_fast_would_use),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]); /* a name, with * and ? */
    return cmocka_run_group_tests(tests, begin, remove_models);
}
