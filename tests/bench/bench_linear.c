/*
 * What a linear of 1 to 16 rows costs on a device, read from its memory and not from a cache: for each type, copies of one matrix, 1 GiB in all,
 * are multiplied one after another in one graph.
 *
 *     bench_linear --device NAME [--modules DIR] [--type NAME] [--outputs N] [--inputs N]
 *
 * GB/s are bytes of packed weights; `share` is against what copying on the device moves (reads and writes counted) in the same run.
 */
#include "random_rows.h"

#include "ops/device.h"

#include "base/os.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_COPIES = 4096, MOST_ROWS = 16 };
static const uint64_t all_bytes = UINT64_C(1) << 30;

struct bench {
    struct ds_device *device;
    const struct ds_device_fns *fns;
    struct ds_stream *stream;
    double copy_gbs;
};

static void must(ds_status status, const struct ds_error *err) {
    if (status == DS_OK) return;
    fprintf(stderr, "bench_linear: %s\n", err->message);
    exit(1);
}

static struct ds_slice place(struct bench *b, uint64_t bytes) {
    struct ds_error err;
    struct ds_slice slice = {0};
    must(b->fns->buffer_create(b->device, bytes, &slice.buffer, &err), &err);
    return slice;
}

/* Seconds of a run of `graph`: the best of some. */
static double seconds_of(struct bench *b, struct ds_device_graph *graph) {
    struct ds_error err;
    double best = 1e9;
    for (int i = 0; i < 6; i++) {
        must(b->fns->stream_sync(b->stream, &err), &err);
        const double start = ds_os_seconds();
        must(b->fns->graph_run(b->stream, graph, &err), &err);
        must(b->fns->stream_sync(b->stream, &err), &err);
        const double seconds = ds_os_seconds() - start;
        if (seconds < best) best = seconds;
    }
    return best;
}

static void measure_copy(struct bench *b) {
    struct ds_error err;
    struct ds_slice from = place(b, all_bytes), to = place(b, all_bytes);
    double best = 1e9;
    for (int i = 0; i < 6; i++) {
        const double start = ds_os_seconds();
        must(b->fns->copy(b->stream, to, from, all_bytes, &err), &err);
        must(b->fns->stream_sync(b->stream, &err), &err);
        const double seconds = ds_os_seconds() - start;
        if (seconds < best) best = seconds;
    }
    b->copy_gbs = 2.0 * (double)all_bytes / best * 1e-9;
    printf("copying moves %.0f GB/s\n", b->copy_gbs);
    ds_buffer_drop(&from.buffer);
    ds_buffer_drop(&to.buffer);
}

/* One matrix, written once, then copied. */
static uint32_t place_weights(struct bench *b, ds_type type, uint32_t outputs, uint32_t inputs, struct ds_weight out[MOST_COPIES]) {
    struct ds_error err;
    uint64_t file_bytes = 0;
    const uint64_t bytes = b->fns->weight_bytes(b->device, type, outputs, inputs);
    if (!bytes || !ds_type_size(type, outputs, inputs, &file_bytes)) return 0;
    const uint32_t copies = (uint32_t)DS_MIN(all_bytes / bytes + 1, (uint64_t)MOST_COPIES);
    const struct ds_slice memory = place(b, bytes * copies);
    for (uint32_t i = 0; i < copies; i++)
        out[i] = (struct ds_weight){.at = {memory.buffer, i * bytes}, .type = type, .rows = outputs, .cols = inputs};
    uint8_t *rows = malloc((size_t)file_bytes);
    if (!rows) must(ds_fail_memory(&err, (size_t)file_bytes, "a matrix"), &err);
    random_rows(type, file_bytes, rows);
    must(b->fns->weight_write(b->stream, &out[0], 0, outputs, rows, &err), &err);
    for (uint32_t i = 1; i < copies; i++) must(b->fns->copy(b->stream, out[i].at, out[0].at, bytes, &err), &err);
    must(b->fns->stream_sync(b->stream, &err), &err);
    free(rows);
    return copies;
}

static struct ds_view activations(struct bench *b, ds_elem elem, uint32_t cols) {
    struct ds_view view = {.elem = elem, .rows = MOST_ROWS, .cols = cols, .stride = cols};
    view.at = place(b, ds_view_bytes(&view));
    return view; /* zeros: the time does not depend on values */
}

static double time_rows(struct bench *b, const struct ds_weight *weights, uint32_t copies, struct ds_view x, struct ds_view y, uint32_t rows) {
    struct ds_error err;
    struct ds_graph_node *nodes = calloc(copies, sizeof *nodes);
    if (!nodes) must(ds_fail_memory(&err, copies * sizeof *nodes, "a graph"), &err);
    x.rows = y.rows = rows;
    for (uint32_t i = 0; i < copies; i++) {
        nodes[i].op = DS_OP_linear;
        nodes[i].params.linear = (struct ds_op_linear){.weight = weights[i], .x = x, .y = y};
        must(ds_op_check(DS_OP_linear, &nodes[i].params, &err), &err);
    }
    struct ds_device_graph *graph;
    must(b->fns->graph_create(b->device, nodes, copies, &graph, &err), &err);
    const double seconds = seconds_of(b, graph) / copies;
    b->fns->graph_destroy(graph);
    free(nodes);
    return seconds;
}

static void bench_type(struct bench *b, ds_type type, uint32_t outputs, uint32_t inputs) {
    static struct ds_weight weights[MOST_COPIES];
    static const uint32_t rows[] = {1, 2, 3, 4, 6, 8, 12, 16};
    const uint32_t copies = place_weights(b, type, outputs, inputs, weights);
    if (!copies) return;
    struct ds_view x = activations(b, ds_linear_input(type), inputs), y = activations(b, DS_ELEM_F32, outputs);
    const double bytes = (double)b->fns->weight_bytes(b->device, type, outputs, inputs);
    double first = 0;
    for (size_t i = 0; i < DS_COUNT(rows); i++) {
        const double seconds = time_rows(b, weights, copies, x, y, rows[i]);
        if (i == 0) first = seconds;
        printf("%-5s [%5u, %5u] rows %2u  %8.1f us  %7.0f GB/s  share %.2f  t(w)/t(1) %.2f\n", ds_type_get(type)->name, outputs, inputs, rows[i],
               seconds * 1e6, bytes / seconds * 1e-9, bytes / seconds * 1e-9 / b->copy_gbs, seconds / first);
    }
    ds_buffer_drop(&weights[0].at.buffer);
    ds_buffer_drop(&x.at.buffer);
    ds_buffer_drop(&y.at.buffer);
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"device", 1, NULL, 'd'}, {"modules", 1, NULL, 'm'}, {"type", 1, NULL, 't'},
                                            {"outputs", 1, NULL, 'o'}, {"inputs", 1, NULL, 'i'}, {0}};
    static const ds_type types[] = {DS_TYPE_Q4_K, DS_TYPE_Q8_0, DS_TYPE_BF16, DS_TYPE_Q6_K};
    const char *name = NULL;
    struct ds_device_params params = {0};
    ds_type type = DS_TYPE_COUNT;
    uint32_t outputs = 9728, inputs = 2560; /* Qwen3-4B's gate and up */
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'd') name = optarg;
        else if (c == 'm') params.modules = optarg;
        else if (c == 't' && ds_type_from_name(optarg, &type)) continue;
        else if (c == 'o') outputs = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 'i') inputs = (uint32_t)strtoul(optarg, NULL, 10);
        else return 2;
    }
    struct bench b = {0};
    struct ds_error err;
    must(ds_device_create(name, &params, &b.device, &err), &err);
    b.fns = b.device->fns;
    if (!b.fns->graph_create) must(ds_fail(&err, DS_ERROR_UNSUPPORTED, "this device does not record graphs"), &err);
    must(b.fns->stream_create(b.device, &b.stream, &err), &err);
    struct ds_device_limits limits;
    b.fns->limits(b.device, &limits);
    printf("%s: %s\n", limits.name, limits.description);
    measure_copy(&b);
    for (size_t i = 0; i < DS_COUNT(types); i++)
        if (type == DS_TYPE_COUNT || type == types[i]) bench_type(&b, types[i], outputs, inputs);
    b.fns->stream_destroy(b.stream);
    ds_device_destroy(b.device);
    return 0;
}
