/*
 * What the ops of device `cpu` beside the linears cost in a pass of Qwen3-4B: 32 query heads on 8, head_dim 128, hidden 2560, feed-forward
 * 9728, vocabulary 151936. Attention is told against reading its keys and values once, the others by the element.
 *
 *     bench_ops [--threads N] [--isa NAME] [--op NAME] [--rows a,b,c] [--ctx N] [--kv f16,f32]
 */
#include "host_device.h"

#include "base/os.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADS = 32, KV_HEADS = 8, HEAD_DIM = 128, HIDDEN = 2560, FEED_FORWARD = 9728, VOCABULARY = 151936, MAX_ROWS = 16 };

static void must(ds_status status, const struct ds_error *err) {
    if (status == DS_OK) return;
    fprintf(stderr, "bench_ops: %s\n", err->message);
    exit(1);
}

struct bench {
    struct ds_device *device;
    struct ds_stream *stream;
    uint32_t context;
    bool f16;
    uint32_t seed;
};

static float noise(struct bench *b) {
    b->seed = b->seed * 1664525u + 1013904223u;
    return (float)(int32_t)b->seed * 0x1p-31f;
}

static struct ds_slice place(struct bench *b, uint64_t bytes) {
    struct ds_error err;
    struct ds_slice slice = {0};
    must(b->device->fns->buffer_create(b->device, bytes, &slice.buffer, &err), &err);
    return slice;
}

static struct ds_view floats(struct bench *b, uint32_t rows, uint32_t cols) {
    const struct ds_view view = {.at = place(b, (uint64_t)rows * cols * 4), .elem = DS_ELEM_F32, .rows = rows, .cols = cols, .stride = cols};
    float *x = ds_host_at(&view.at);
    for (uint64_t i = 0; i < (uint64_t)rows * cols; i++) x[i] = 3 * noise(b);
    return view;
}

static struct ds_slice integers(struct bench *b, uint32_t count, int32_t first, int32_t step) {
    const struct ds_slice slice = place(b, (uint64_t)count * 4);
    for (uint32_t i = 0; i < count; i++) ((int32_t *)ds_host_at(&slice))[i] = first + step * (int32_t)i;
    return slice;
}

/* The fastest of many, and gives all memory back. */
static double seconds_of(struct bench *b, ds_op op, union ds_op_params *params) {
    struct ds_error err;
    double best = 1e9;
    must(ds_op_check(op, params, &err), &err);
    const double begin = ds_os_seconds();
    for (int i = 0; i < 5 || (i < 2000 && ds_os_seconds() - begin < 0.3); i++) {
        const double start = ds_os_seconds();
        must(b->device->fns->op[op](b->stream, params, &err), &err);
        best = DS_MIN(best, ds_os_seconds() - start);
    }
    struct ds_operand operands[DS_MAX_OPERANDS];
    const uint32_t n = ds_op_operands(op, params, operands);
    for (uint32_t i = 0; i < n; i++) {
        struct ds_slice *slice = (struct ds_slice *)(void *)((char *)params + operands[i].offset);
        b->device->fns->buffer_destroy(slice->buffer);
        slice->buffer = NULL;
    }
    return best;
}

static void attention(struct bench *b, uint32_t rows) {
    const uint32_t length = b->context + rows, pages = (length + DS_PAGE - 1) / DS_PAGE, size = b->f16 ? 2 : 4;
    const uint64_t cache = (uint64_t)pages * DS_PAGE * KV_HEADS * HEAD_DIM;
    struct ds_op_attention p = {.q = floats(b, rows, HEADS * HEAD_DIM), .out = floats(b, rows, HEADS * HEAD_DIM), .heads = HEADS, .scale = 0.0883883461f};
    p.kv = (struct ds_kv){.k = place(b, cache * size), .v = place(b, cache * size), .f16 = b->f16, .pages = pages, .kv_heads = KV_HEADS, .head_dim = HEAD_DIM};
    p.paging = (struct ds_paging){.page_table = integers(b, pages, 0, 1), .sequences = 1, .pages_per_sequence = pages,
                                  .row_sequence = integers(b, rows, 0, 0), .positions = integers(b, rows, (int32_t)b->context, 1)};
    p.visible = integers(b, rows, (int32_t)b->context + 1, 1);
    struct ds_op_kv_store store = {.k = floats(b, DS_PAGE, KV_HEADS * HEAD_DIM), .v = floats(b, DS_PAGE, KV_HEADS * HEAD_DIM), .kv = p.kv, .paging = p.paging};
    for (uint32_t page = 0; page < pages; page++) {
        struct ds_error err;
        store.paging.positions = integers(b, DS_PAGE, (int32_t)(page * DS_PAGE), 1);
        store.paging.row_sequence = integers(b, DS_PAGE, 0, 0);
        must(b->device->fns->op[DS_OP_kv_store](b->stream, &(union ds_op_params){.kv_store = store}, &err), &err);
        b->device->fns->buffer_destroy(store.paging.positions.buffer);
        b->device->fns->buffer_destroy(store.paging.row_sequence.buffer);
    }
    b->device->fns->buffer_destroy(store.k.at.buffer);
    b->device->fns->buffer_destroy(store.v.at.buffer);
    const double seconds = seconds_of(b, DS_OP_attention, &(union ds_op_params){.attention = p});
    const double keys = rows * (b->context + (rows + 1) / 2.0), macs = 2 * keys * HEADS * HEAD_DIM;
    printf("attention %s, %u positions, rows %3u  %9.1f us  %6.2f GB/s  %7.2f GMAC/s\n", b->f16 ? "f16" : "f32", b->context, rows, seconds * 1e6,
           2 * (double)(length * KV_HEADS * HEAD_DIM) * size / seconds * 1e-9, macs / seconds * 1e-9);
}

static void tell(const char *what, uint32_t rows, double elements, double seconds) {
    printf("%-28s rows %3u  %9.1f us  %6.2f ns an element\n", what, rows, seconds * 1e6, seconds / elements * 1e9);
}

static void rms_norm(struct bench *b, uint32_t rows) {
    union ds_op_params hidden = {.rms_norm = {.x = floats(b, rows, HIDDEN), .out = floats(b, rows, HIDDEN), .dim = HIDDEN, .weight = floats(b, 1, HIDDEN).at, .eps = 1e-6f}};
    union ds_op_params heads = {.rms_norm = {.x = floats(b, rows, HEADS * HEAD_DIM), .out = floats(b, rows, HEADS * HEAD_DIM), .dim = HEAD_DIM,
                                             .weight = floats(b, 1, HEAD_DIM).at, .eps = 1e-6f}};
    tell("rms_norm of 2560", rows, (double)rows * HIDDEN, seconds_of(b, DS_OP_rms_norm, &hidden));
    tell("rms_norm of 32 x 128", rows, (double)rows * HEADS * HEAD_DIM, seconds_of(b, DS_OP_rms_norm, &heads));
}

static void rope(struct bench *b, uint32_t rows) {
    union ds_op_params p = {.rope = {.x = floats(b, rows, HEADS * HEAD_DIM), .head_dim = HEAD_DIM, .n_rot = HEAD_DIM, .neox = true, .table_positions = rows,
                                     .cos = floats(b, rows, HEAD_DIM / 2).at, .sin = floats(b, rows, HEAD_DIM / 2).at, .positions = integers(b, rows, 0, 1)}};
    tell("rope of 32 x 128", rows, (double)rows * HEADS * HEAD_DIM, seconds_of(b, DS_OP_rope, &p));
}

static void glu(struct bench *b, uint32_t rows) {
    union ds_op_params p = {.glu = {.gate = floats(b, rows, FEED_FORWARD), .up = floats(b, rows, FEED_FORWARD), .out = floats(b, rows, FEED_FORWARD),
                                    .activation = DS_ACT_SILU}};
    tell("glu of 9728", rows, (double)rows * FEED_FORWARD, seconds_of(b, DS_OP_glu, &p));
}

static void quantize(struct bench *b, uint32_t rows) {
    struct ds_view out = {.at = place(b, (uint64_t)rows * ds_q8_row_bytes(FEED_FORWARD)), .elem = DS_ELEM_Q8, .rows = rows, .cols = FEED_FORWARD};
    union ds_op_params p = {.quantize = {.x = floats(b, rows, FEED_FORWARD), .out = out}};
    tell("quantize of 9728", rows, (double)rows * FEED_FORWARD, seconds_of(b, DS_OP_quantize, &p));
}

static void sample(struct bench *b, uint32_t rows) {
    static const struct {
        const char *name;
        struct ds_sample_row how;
    } kinds[] = {{"sample, greedy", {.bias_row = -1}},
                 {"sample, temperature 1", {.inverse_temperature = 1, .bias_row = -1}},
                 {"sample, top-k 40, top-p 0.9", {.inverse_temperature = 1, .top_k = 40, .top_p = 0.9f, .bias_row = -1}}};
    for (size_t k = 0; k < DS_COUNT(kinds); k++) {
        union ds_op_params p = {.sample = {.logits = floats(b, rows, VOCABULARY), .rows = place(b, rows * sizeof(struct ds_sample_row)),
                                           .tokens = integers(b, rows, 0, 0)}};
        float *logits = ds_host_at(&p.sample.logits.at);
        for (uint64_t i = 0; i < (uint64_t)rows * VOCABULARY; i++) logits[i] = logits[i] + noise(b) * 3 + noise(b) * 3; /* a bell */
        for (uint32_t r = 0; r < rows; r++) {
            logits[(uint64_t)r * VOCABULARY + r * 977 % VOCABULARY] = 14; /* what the model means to say */
            ((struct ds_sample_row *)ds_host_at(&p.sample.rows))[r] = kinds[k].how;
        }
        tell(kinds[k].name, rows, (double)rows * VOCABULARY, seconds_of(b, DS_OP_sample, &p));
    }
}

static uint32_t parse_rows(const char *text, uint32_t *rows) {
    uint32_t n = 0;
    for (char *end; *text && n < MAX_ROWS; text = *end ? end + 1 : end) {
        rows[n++] = (uint32_t)strtoul(text, &end, 10);
        if (end == text || rows[n - 1] == 0 || rows[n - 1] > 4096) {
            fprintf(stderr, "bench_ops: --rows takes numbers from 1 to 4096, separated by commas\n");
            exit(2);
        }
    }
    return n;
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"threads", required_argument, NULL, 't'}, {"isa", required_argument, NULL, 'i'}, {"op", required_argument, NULL, 'o'},
                                            {"rows", required_argument, NULL, 'r'}, {"ctx", required_argument, NULL, 'c'}, {"kv", required_argument, NULL, 'k'}, {0}};
    static const struct {
        const char *name;
        void (*run)(struct bench *b, uint32_t rows);
    } ops[] = {{"attention", attention}, {"rms_norm", rms_norm}, {"rope", rope}, {"glu", glu}, {"quantize", quantize}, {"sample", sample}};
    uint32_t rows[MAX_ROWS] = {1, 2, 4, 8, 16}, row_counts = 5;
    struct ds_device_params params = {0};
    struct bench b = {.context = 1024, .f16 = true};
    const char *only = NULL;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 't': params.threads = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'i': params.cpu_isa = optarg; break;
        case 'o': only = optarg; break;
        case 'r': row_counts = parse_rows(optarg, rows); break;
        case 'c': b.context = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'k': b.f16 = strcmp(optarg, "f32") != 0; break;
        default: return 2;
        }
    }
    struct ds_error err;
    struct ds_device_limits limits;
    must(ds_device_create("cpu", &params, &b.device, &err), &err);
    must(b.device->fns->stream_create(b.device, &b.stream, &err), &err);
    b.device->fns->limits(b.device, &limits);
    printf("%s\n", limits.description);
    for (size_t o = 0; o < DS_COUNT(ops); o++)
        for (uint32_t i = 0; i < row_counts && (!only || strcmp(only, ops[o].name) == 0); i++) ops[o].run(&b, rows[i]);
    b.device->fns->stream_destroy(b.stream);
    ds_device_destroy(b.device);
    return 0;
}
