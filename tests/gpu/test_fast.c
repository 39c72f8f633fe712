/*
 * --numerics fast on the emulated device: what a library and tensor cores give lies within the bounds that backends/gpu/blas.h and kernels/attention_fast.h
 * derive, the bounds notice what is wrong, nothing else changes, and each call of the library may fail.
 */
#include "emulator.h"

#include "../unit/tiny_pair.h"
#include "blas/blas.h"
#include "dspark.h"
#include "graph/graph.h"
#include "ops/device.h"
#include "ops/numerics.h"

#include <math.h>
#include <stdlib.h>

static struct {
    void (*refuse)(enum standin_call call, uint32_t n, int status);
    void (*be_wrong)(int wrong);
    uint32_t (*calls)(enum standin_call call);
    int (*handles)(void);
    uint32_t (*offences)(void);
} standin;

static int begin(void **state) {
    struct ds_os_module *module;
    struct ds_error err;
    if (write_models(state) != 0 || load_emulator(state) != 0) return -1;
    setenv("DSPARK_EMU_BLAS", BLAS_FILE, 1);
    check_ok(ds_os_module_open(BLAS_FILE, true, &module, &err), &err);
    *(void **)(void *)&standin.refuse = symbol(module, "standin_fail");
    *(void **)(void *)&standin.be_wrong = symbol(module, "standin_be_wrong");
    *(void **)(void *)&standin.calls = symbol(module, "standin_calls");
    *(void **)(void *)&standin.handles = symbol(module, "standin_handles");
    *(void **)(void *)&standin.offences = symbol(module, "standin_offences");
    ds_os_module_close(module);
    return 0;
}

/* Whatever a test did, the library was used as it wants to be, and every handle was given back. */
static int end_test(void **state) {
    (void)state;
    standin.be_wrong(0);
    setenv("DSPARK_EMU_BLAS", BLAS_FILE, 1);
    return standin.offences() == 0 && standin.handles() == 0 ? 0 : -1;
}

/* --- a device, and operands on it --- */

static char told[2048]; /* by the log */

static void hear(void *user, ds_log_level level, const char *message) {
    (void)user, (void)level;
    const size_t used = strlen(told);
    snprintf(told + used, sizeof told - used, "%s\n", message);
}

struct rig {
    struct ds_device *device;
    struct ds_stream *stream;
    struct ds_buffer *buffers[16];
    uint32_t n;
};

static ds_status open_rig(struct rig *r, const char *name, bool fast, struct ds_error *err) {
    *r = (struct rig){0};
    told[0] = 0;
    const struct ds_device_params params = {.modules = EMULATOR_FOLDER, .threads = 1, .fast = fast, .log = {.fn = hear, .level = DS_LOG_INFO}};
    DS_TRY(ds_device_create(name, &params, &r->device, err));
    return r->device->fns->stream_create(r->device, &r->stream, err);
}

static void close_rig(struct rig *r) {
    for (uint32_t i = 0; i < r->n; i++) ds_buffer_drop(&r->buffers[i]);
    if (r->stream) r->device->fns->stream_destroy(r->stream);
    ds_device_destroy(r->device);
}

static struct ds_slice room_for(struct rig *r, uint64_t bytes) {
    struct ds_error err;
    assert_true(r->n < DS_COUNT(r->buffers));
    check_ok(r->device->fns->buffer_create(r->device, bytes, &r->buffers[r->n], &err), &err);
    return (struct ds_slice){r->buffers[r->n++], 0};
}

static struct ds_slice put(struct rig *r, const void *data, uint64_t bytes) {
    struct ds_error err;
    const struct ds_slice at = room_for(r, bytes);
    check_ok(r->device->fns->write(r->stream, at, data, bytes, &err), &err);
    return at;
}

static float noise(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(int32_t)*seed * 0x1p-31f;
}

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

static float *values(uint64_t n, ds_type type, uint32_t seed) {
    float *const out = malloc(n * sizeof *out);
    assert_non_null(out);
    for (uint64_t i = 0; i < n; i++) {
        const float x = 2 * noise(&seed);
        out[i] = type == DS_TYPE_BF16 ? ds_float(ds_bits(x) & 0xffff0000u) : type == DS_TYPE_F16 ? ds_f16_to_f32((uint16_t)ds_f32_to_f16(x)) : x;
    }
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

/* --- attention --- */

struct look {
    uint32_t rows, heads, kv_heads, dim, context, window, sequences, active;
    float softcap;
};

enum { MOST_PAGES = 16 };

static float half_of(float x) { return ds_f16_to_f32((uint16_t)ds_f32_to_f16(x)); }

struct scene {
    float *q;
    uint16_t *k, *v; /* [pages][kv_heads][dim][64], [pages][kv_heads][64][dim] */
    int32_t sequence[256], positions[256], visible[256], table[4 * MOST_PAGES];
    uint32_t pages;
};

/* Rows at the end of their sequences, one behind the other; what nobody may look at is NaN. */
static struct scene make_scene(const struct look *k) {
    struct scene c = {.pages = (k->context + k->rows + DS_PAGE - 1) / DS_PAGE};
    const uint64_t cache = (uint64_t)c.pages * k->sequences * k->kv_heads * k->dim * DS_PAGE;
    assert_true(c.pages <= MOST_PAGES && k->sequences <= 4 && k->rows <= 256);
    c.q = values((uint64_t)k->rows * k->heads * k->dim, DS_TYPE_F32, 5);
    c.k = malloc(cache * 2);
    c.v = malloc(cache * 2);
    memset(c.k, 0xff, cache * 2);
    memset(c.v, 0xff, cache * 2);
    uint32_t seed = 6;
    for (uint32_t i = 0; i < k->sequences * c.pages; i++) c.table[i] = (int32_t)(k->sequences * c.pages - 1 - i);
    const uint32_t each = (k->rows + k->sequences - 1) / k->sequences;
    for (uint32_t r = 0; r < k->rows; r++) {
        c.sequence[r] = (int32_t)(r / each);
        c.positions[r] = r % 11 == 10 ? -1 : (int32_t)(k->context + r % each);
        c.visible[r] = r % 7 == 6 ? 0 : c.positions[r] + 1;
    }
    for (uint32_t s = 0; s < k->sequences; s++) {
        for (uint32_t at = 0; at < k->context + each; at++) {
            const uint64_t page = (uint64_t)c.table[s * c.pages + at / DS_PAGE];
            for (uint32_t h = 0; h < k->kv_heads; h++)
                for (uint32_t d = 0; d < k->dim; d++) {
                    c.k[ds_kv_key_index((uint32_t)page, h, at % DS_PAGE, d, k->kv_heads, k->dim)] = (uint16_t)ds_f32_to_f16(2 * noise(&seed));
                    c.v[ds_kv_value_index((uint32_t)page, h, at % DS_PAGE, d, k->kv_heads, k->dim)] = (uint16_t)ds_f32_to_f16(2 * noise(&seed));
                }
        }
    }
    return c;
}

static void free_scene(struct scene *c) { free(c->q), free(c->k), free(c->v); }

static float scale_of(const struct look *k) { return 1 / sqrtf((float)k->dim); }

static float *seen_by(const char *device, bool fast, const struct look *k, const struct scene *c) {
    struct rig r;
    struct ds_error err;
    const uint64_t cache = (uint64_t)c->pages * k->sequences * k->kv_heads * k->dim * DS_PAGE * 2, bytes = (uint64_t)k->rows * k->heads * k->dim * 4;
    float *const out = malloc(bytes);
    check_ok(open_rig(&r, device, fast, &err), &err);
    memset(out, 0xA5, bytes);
    struct ds_op_attention p = {.q = ds_view_of(put(&r, c->q, bytes), DS_ELEM_F32, k->rows, k->heads * k->dim),
                                .out = ds_view_of(put(&r, out, bytes), DS_ELEM_F32, k->rows, k->heads * k->dim), .heads = k->heads, .scale = scale_of(k),
                                .softcap = k->softcap, .window = k->window};
    p.kv = (struct ds_kv){.k = put(&r, c->k, cache), .v = put(&r, c->v, cache), .f16 = true, .pages = c->pages * k->sequences, .kv_heads = k->kv_heads, .head_dim = k->dim};
    p.paging = (struct ds_paging){.page_table = put(&r, c->table, (uint64_t)k->sequences * c->pages * 4), .sequences = k->sequences, .pages_per_sequence = c->pages,
                                  .row_sequence = put(&r, c->sequence, k->rows * 4), .positions = put(&r, c->positions, k->rows * 4)};
    p.visible = put(&r, c->visible, k->rows * 4);
    if (k->active < k->rows) p.count = put(&r, &k->active, 4);
    const union ds_op_params params = {.attention = p};
    check_ok(ds_op_check(DS_OP_attention, &params, &err), &err);
    check_ok(r.device->fns->op[DS_OP_attention](r.stream, &params, &err), &err);
    check_ok(r.device->fns->read(r.stream, p.out.at, out, bytes, &err), &err);
    close_rig(&r);
    return out;
}

/* The bound of attention_fast.h for one row and head. */
static double bound_of(const struct look *k, const struct scene *c, uint32_t r, uint32_t head) {
    const double u = 0x1p-24;
    const uint32_t kv = head / (k->heads / k->kv_heads);
    const int32_t first = k->window && c->positions[r] - (int32_t)k->window + 1 > 0 ? c->positions[r] - (int32_t)k->window + 1 : 0;
    double most_score = 0, most_value = 0;
    for (int32_t at = first; at < c->visible[r]; at++) {
        const uint32_t page = (uint32_t)c->table[(uint32_t)c->sequence[r] * c->pages + (uint32_t)at / DS_PAGE], slot = (uint32_t)at % DS_PAGE;
        double sum = 0;
        for (uint32_t d = 0; d < k->dim; d++) {
            sum += fabs((double)half_of(c->q[((size_t)r * k->heads + head) * k->dim + d]) * ds_f16_to_f32(c->k[ds_kv_key_index(page, kv, slot, d, k->kv_heads, k->dim)]));
            most_value = fmax(most_value, fabs((double)ds_f16_to_f32(c->v[ds_kv_value_index(page, kv, slot, d, k->kv_heads, k->dim)])));
        }
        most_score = fmax(most_score, sum * scale_of(k));
    }
    const double n = c->visible[r] - first, e = (5 * k->dim + 4) * u * most_score, eta = 2 * (exp(2 * e) - 1) + 0x1p-10 + 0x1p-18;
    return most_value * (2 * eta / (1 - eta) + n * 0x1p-23 + 5 * n * u);
}

static double worst_look(const struct look *k, const struct scene *c, const float *exact, const float *fast, uint32_t *others) {
    double worst = 0;
    *others = 0;
    for (uint32_t r = 0; r < k->active; r++) {
        for (uint32_t h = 0; h < k->heads; h++) {
            const double bound = c->positions[r] >= 0 && c->visible[r] > 0 ? bound_of(k, c, r, h) : 0;
            for (uint32_t d = 0; d < k->dim; d++) {
                const size_t at = ((size_t)r * k->heads + h) * k->dim + d;
                const double off = fabs((double)exact[at] - fast[at]);
                if (bound > 0) worst = fmax(worst, off / bound);
                else if (!(off == 0)) worst = INFINITY;
                if (isnan(off)) worst = INFINITY;
                *others += exact[at] != fast[at];
            }
        }
    }
    return worst;
}

static const struct look looks[] = {
    {.rows = 16, .heads = 4, .kv_heads = 2, .dim = 16, .context = 40, .sequences = 1, .active = 16},
    {.rows = 8, .heads = 8, .kv_heads = 2, .dim = 128, .context = 600, .sequences = 1, .active = 8},                                  /* chunks apart */
    {.rows = 40, .heads = 6, .kv_heads = 2, .dim = 48, .context = 300, .sequences = 3, .active = 37, .softcap = 20, .window = 100},  /* several sequences in a block */
    {.rows = 12, .heads = 8, .kv_heads = 2, .dim = 80, .context = 500, .sequences = 2, .active = 12, .window = 300},
};

static void attention_on_tensor_cores_is_within_its_bound(void **state) {
    (void)state;
    for (size_t i = 0; i < DS_COUNT(looks); i++) {
        const struct look *const k = &looks[i];
        struct scene c = make_scene(k);
        for (int d = 0; d < 2; d++) {
            const char *const device = d ? "emu:1" : "emu:0";
            float *const exact = seen_by(device, false, k, &c), *const fast = seen_by(device, true, k, &c);
            uint32_t others;
            const double worst = worst_look(k, &c, exact, fast, &others);
            print_message("# %s: attention %d: %.3f of the bound, %u values differ\n", device, (int)i, worst, others);
            assert_true(worst <= 1);
            assert_true(others > 0);
            const size_t counted = (size_t)k->active * k->heads * k->dim, all = (size_t)k->rows * k->heads * k->dim;
            assert_memory_equal(exact + counted, fast + counted, (all - counted) * sizeof *fast);
            free(exact), free(fast);
        }
        free_scene(&c);
    }
}

static void the_bound_notices_a_key_that_was_left_out(void **state) {
    (void)state;
    for (size_t i = 0; i < DS_COUNT(looks); i++) {
        const struct look *const k = &looks[i];
        struct scene c = make_scene(k);
        uint32_t others;
        float *const exact = seen_by("emu:0", false, k, &c);
        struct scene wrong = c;
        for (uint32_t r = 0; r < k->rows; r++) wrong.visible[r] -= wrong.visible[r] > 1;
        float *const fast = seen_by("emu:0", true, k, &wrong);
        assert_true(worst_look(k, &c, exact, fast, &others) > 1);
        free(exact), free(fast);
        free_scene(&c);
    }
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

#define TEST(name) cmocka_unit_test_teardown(name, end_test)

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        TEST(linears_of_many_rows_are_the_librarys_and_within_its_bound),
        TEST(the_bound_notices_a_product_without_its_last_term),
        TEST(few_rows_have_the_exact_bits),
        TEST(a_recorded_product_allocates_nothing_and_is_what_it_was_op_by_op),
        TEST(a_library_that_is_absent_or_unfit_is_told_once_and_linears_are_exact),
        TEST(every_call_of_the_library_may_fail),
        TEST(attention_on_tensor_cores_is_within_its_bound),
        TEST(the_bound_notices_a_key_that_was_left_out),
        TEST(an_engine_is_fast_only_when_asked_and_says_so),
        TEST(devices_tell_what_fast_would_use),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]); /* a name, with * and ? */
    return cmocka_run_group_tests(tests, begin, remove_models);
}
