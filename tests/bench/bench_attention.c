/*
 * What attention costs on a GPU in a pass of Qwen3-4B (36 layers of 32 query heads on 8, 128 wide, an f16 cache), each layer reading a cache of its own, all in one
 * graph: by rows, context, and how many rows of a sequence a block serves. And, where the device has one, the variant of fast numerics, held against its bound.
 *
 *     bench_attention --device NAME [--modules DIR] [--layers N] [--rows a,b,c] [--ctx a,b,c]
 */
#include "ops/device.h"

#include "base/os.h"
#include "ops/numerics.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADS = 32, KV_HEADS = 8, HEAD_DIM = 128, MOST_LAYERS = 64, MOST_LIST = 8, TRIES = 8 };

static const char *const settings[] = {"", "1", "4", "8"}; /* of DSPARK_GPU_ROWS_TOGETHER; "": by the shape */

struct bench {
    struct ds_device *device;
    const struct ds_device_fns *fns;
    struct ds_stream *stream;
    uint32_t layers, rows, context, pages;
    uint16_t *cache; /* of one layer, keys or values */
    float *q;
};

static void must(ds_status status, const struct ds_error *err) {
    if (status == DS_OK) return;
    fprintf(stderr, "bench_attention: %s\n", err->message);
    exit(1);
}

static void *memory(size_t bytes) {
    void *const data = malloc(bytes);
    struct ds_error err;
    if (!data) must(ds_fail_memory(&err, bytes, "values"), &err);
    return data;
}

static float noise(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(int32_t)*seed * 0x1p-31f;
}

static uint64_t cache_halves(const struct bench *b) { return (uint64_t)b->pages * DS_PAGE * KV_HEADS * HEAD_DIM; }
static uint64_t q_floats(const struct bench *b) { return (uint64_t)b->rows * HEADS * HEAD_DIM; }

static struct ds_slice place(struct bench *b, const void *data, uint64_t bytes) {
    struct ds_error err;
    struct ds_slice slice = {0};
    must(b->fns->buffer_create(b->device, bytes, &slice.buffer, &err), &err);
    if (data) must(b->fns->write(b->stream, slice, data, bytes, &err), &err);
    return slice;
}

static struct ds_slice integers(struct bench *b, uint32_t count, int32_t first, int32_t step) {
    int32_t *const data = memory(count * sizeof *data);
    for (uint32_t i = 0; i < count; i++) data[i] = first + step * (int32_t)i;
    const struct ds_slice slice = place(b, data, count * sizeof *data);
    free(data);
    return slice;
}

static struct ds_op_attention attention_of(struct bench *b) {
    const uint64_t bytes = cache_halves(b) * b->layers * 2;
    struct ds_op_attention p = {.heads = HEADS, .scale = 0.0883883461f};
    p.q = (struct ds_view){.at = place(b, b->q, q_floats(b) * 4), .elem = DS_ELEM_F32, .rows = b->rows, .cols = HEADS * HEAD_DIM, .stride = HEADS * HEAD_DIM};
    p.out = p.q;
    p.out.at = place(b, NULL, q_floats(b) * 4);
    p.kv = (struct ds_kv){.k = place(b, NULL, bytes), .v = place(b, NULL, bytes), .f16 = true, .pages = b->pages, .kv_heads = KV_HEADS, .head_dim = HEAD_DIM};
    p.paging = (struct ds_paging){.page_table = integers(b, b->pages, 0, 1), .sequences = 1, .pages_per_sequence = b->pages,
                                  .row_sequence = integers(b, b->rows, 0, 0), .positions = integers(b, b->rows, (int32_t)b->context, 1)};
    p.visible = integers(b, b->rows, (int32_t)b->context + 1, 1);
    for (uint32_t l = 0; l < b->layers; l++) {
        struct ds_error err;
        const uint64_t at = l * cache_halves(b) * 2;
        must(b->fns->write(b->stream, (struct ds_slice){p.kv.k.buffer, at}, b->cache, cache_halves(b) * 2, &err), &err);
        must(b->fns->write(b->stream, (struct ds_slice){p.kv.v.buffer, at}, b->cache, cache_halves(b) * 2, &err), &err);
    }
    return p;
}

static void drop(struct ds_op_attention *p) {
    struct ds_slice *const all[] = {&p->q.at, &p->out.at, &p->kv.k, &p->kv.v, &p->paging.page_table, &p->paging.row_sequence, &p->paging.positions, &p->visible};
    for (size_t i = 0; i < DS_COUNT(all); i++) ds_buffer_drop(&all[i]->buffer);
}

static struct ds_device_graph *record(struct bench *b, const struct ds_op_attention *p, struct ds_graph_node nodes[MOST_LAYERS]) {
    struct ds_error err;
    struct ds_device_graph *graph;
    for (uint32_t l = 0; l < b->layers; l++) {
        nodes[l] = (struct ds_graph_node){.op = DS_OP_attention, .params = {.attention = *p}};
        nodes[l].params.attention.kv.k.offset = nodes[l].params.attention.kv.v.offset = l * cache_halves(b) * 2;
        must(ds_op_check(DS_OP_attention, &nodes[l].params, &err), &err);
    }
    must(b->fns->graph_create(b->device, nodes, b->layers, &graph, &err), &err);
    return graph;
}

/* Seconds of a layer, the best of some; its result into `out`. */
static double time_layer(struct bench *b, float *out) {
    static struct ds_graph_node nodes[MOST_LAYERS];
    struct ds_error err;
    struct ds_op_attention p = attention_of(b);
    struct ds_device_graph *const graph = record(b, &p, nodes);
    double best = 1e9;
    for (int i = 0; i < TRIES; i++) {
        must(b->fns->stream_sync(b->stream, &err), &err);
        const double start = ds_os_seconds();
        must(b->fns->graph_run(b->stream, graph, &err), &err);
        must(b->fns->stream_sync(b->stream, &err), &err);
        best = DS_MIN(best, ds_os_seconds() - start);
    }
    must(b->fns->read(b->stream, p.out.at, out, q_floats(b) * 4, &err), &err);
    b->fns->graph_destroy(graph);
    drop(&p);
    return best / b->layers;
}

/* Opens the device under a setting. False: fast was asked for, and the device has no such variant. */
static bool open_device(struct bench *b, const char *name, const char *modules, const char *together, bool fast) {
    const struct ds_device_params params = {.modules = modules, .fast = fast};
    struct ds_error err;
    struct ds_device_limits limits;
    if (*together) setenv("DSPARK_GPU_ROWS_TOGETHER", together, 1);
    else unsetenv("DSPARK_GPU_ROWS_TOGETHER");
    must(ds_device_create(name, &params, &b->device, &err), &err);
    b->fns = b->device->fns;
    b->fns->limits(b->device, &limits);
    if (!b->fns->graph_create) must(ds_fail(&err, DS_ERROR_UNSUPPORTED, "this device does not record graphs"), &err);
    must(b->fns->stream_create(b->device, &b->stream, &err), &err);
    return !fast || limits.fast;
}

static void close_device(struct bench *b) {
    b->fns->stream_destroy(b->stream);
    ds_device_destroy(b->device);
}

/* backends/gpu/kernels/attention_fast.h, with q, k and v at most 1 in magnitude. */
static double bound(const struct bench *b) {
    const double u = 0x1p-24, n = b->context + b->rows, most = HEAD_DIM * 0.0883883461, e = (5 * HEAD_DIM + 4) * u * most;
    const double eta = 2 * (exp(2 * e) - 1) + 0x1p-10 + 0x1p-18;
    return 2 * eta / (1 - eta) + n * 0x1p-23 + 5 * n * u;
}

/* All settings of one shape in a line. False: results differ that must not. */
static bool bench_shape(struct bench *b, const char *name, const char *modules) {
    uint32_t seed = 1;
    bool right = true;
    b->pages = (b->context + b->rows + DS_PAGE - 1) / DS_PAGE;
    b->cache = memory(cache_halves(b) * 2);
    b->q = memory(q_floats(b) * 4);
    float *const first = memory(q_floats(b) * 4), *const out = memory(q_floats(b) * 4);
    for (uint64_t i = 0; i < cache_halves(b); i++) b->cache[i] = (uint16_t)ds_f32_to_f16(noise(&seed));
    for (uint64_t i = 0; i < q_floats(b); i++) b->q[i] = noise(&seed);
    printf("%5u positions, rows %2u: microseconds a layer", b->context, b->rows);
    for (size_t s = 0; s <= DS_COUNT(settings); s++) {
        const bool fast = s == DS_COUNT(settings);
        if (open_device(b, name, modules, fast ? "" : settings[s], fast)) {
            const double seconds = time_layer(b, s ? out : first);
            printf("  %s%s %.1f", fast ? "fast" : *settings[s] ? "together " : "by shape", fast ? "" : settings[s], seconds * 1e6);
            double worst = 0;
            for (uint64_t i = 0; s && i < q_floats(b); i++) worst = fmax(worst, fabs((double)first[i] - out[i]));
            if (fast) printf(" (%.3f of its bound)", worst / bound(b));
            right = right && (fast ? worst <= bound(b) : s == 0 || memcmp(first, out, q_floats(b) * 4) == 0);
        }
        close_device(b);
    }
    puts(right ? "" : "  WRONG");
    fflush(stdout);
    free(first), free(out), free(b->cache), free(b->q);
    return right;
}

static uint32_t parse_list(const char *text, uint32_t most, uint32_t out[MOST_LIST]) {
    uint32_t n = 0;
    for (char *end; *text && n < MOST_LIST; text = *end ? end + 1 : end) {
        out[n++] = (uint32_t)strtoul(text, &end, 10);
        if (end == text || out[n - 1] == 0 || out[n - 1] > most) {
            fprintf(stderr, "bench_attention: expected numbers from 1 to %u, separated by commas\n", most);
            exit(2);
        }
    }
    return n;
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"device", 1, NULL, 'd'}, {"modules", 1, NULL, 'm'}, {"layers", 1, NULL, 'l'}, {"rows", 1, NULL, 'r'}, {"ctx", 1, NULL, 'c'}, {0}};
    const char *name = NULL, *modules = NULL;
    uint32_t rows[MOST_LIST] = {1, 4, 8, 16}, n_rows = 4, contexts[MOST_LIST] = {1024, 4096}, n_contexts = 2, one[MOST_LIST];
    struct bench b = {.layers = 36};
    bool right = true;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'd') name = optarg;
        else if (c == 'm') modules = optarg;
        else if (c == 'l') parse_list(optarg, MOST_LAYERS, one), b.layers = one[0];
        else if (c == 'r') n_rows = parse_list(optarg, 256, rows);
        else if (c == 'c') n_contexts = parse_list(optarg, 65536, contexts);
        else return 2;
    }
    for (uint32_t i = 0; i < n_contexts; i++) {
        for (uint32_t k = 0; k < n_rows; k++) {
            b.context = contexts[i], b.rows = rows[k];
            right = bench_shape(&b, name, modules) && right;
        }
    }
    return right ? 0 : 1;
}
