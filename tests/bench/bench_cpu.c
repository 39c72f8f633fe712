/*
 * How near device `cpu` comes to what the machine can do: for each weight type, shape and number of rows,
 *     efficiency = max(weight bytes / read bandwidth, MACs / peak MACs per second) / time
 * with both limits measured in this run, just before, by the same number of threads.
 *
 *     bench_cpu [--threads N] [--isa NAME] [--type NAME] [--shape OUTPUTSxINPUTS] [--rows a,b,c]
 */
#include "random_rows.h"

#include "host_device.h"
#include "roofline.h"

#include "base/os.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(ds_status status, const struct ds_error *err) {
    if (status == DS_OK) return;
    fprintf(stderr, "bench_cpu: %s\n", err->message);
    exit(1);
}

/* --- linears --- */

struct bench {
    struct ds_device *device;
    struct ds_stream *stream;
    struct ds_cpu_roofline limits;
};

static struct ds_slice place(struct bench *b, uint64_t bytes) {
    struct ds_error err;
    struct ds_slice slice = {0};
    must(b->device->fns->buffer_create(b->device, bytes, &slice.buffer, &err), &err);
    return slice;
}

static double seconds_of(struct bench *b, ds_op op, const union ds_op_params *params) {
    struct ds_error err;
    double best = 1e9;
    must(ds_op_check(op, params, &err), &err);
    const double begin = ds_os_seconds();
    for (int i = 0; i < 4 || (i < 200 && ds_os_seconds() - begin < 0.4); i++) {
        const double start = ds_os_seconds();
        must(b->device->fns->op[op](b->stream, params, &err), &err);
        best = DS_MIN(best, ds_os_seconds() - start);
    }
    return best;
}

static void bench_linear(struct bench *b, ds_type type, uint32_t outputs, uint32_t inputs, const uint32_t *rows, uint32_t row_counts) {
    struct ds_error err;
    const struct ds_device_fns *fns = b->device->fns;
    uint64_t file_bytes;
    if (!ds_type_size(type, outputs, inputs, &file_bytes)) return;
    const uint64_t packed = fns->weight_bytes(b->device, type, outputs, inputs);
    uint8_t *file = ds_os_alloc_pages(file_bytes, 64);
    if (!file) must(ds_fail_memory(&err, (size_t)file_bytes, "weights"), &err);
    random_rows(type, file_bytes, file);

    const uint32_t most = rows[row_counts - 1];
    const struct ds_weight weight = {.at = place(b, packed), .type = type, .rows = outputs, .cols = inputs};
    const ds_elem elem = ds_linear_input(type);
    struct ds_view x32 = {.at = place(b, (uint64_t)most * inputs * 4), .elem = DS_ELEM_F32, .rows = most, .cols = inputs, .stride = inputs};
    struct ds_view x = {.at = place(b, (uint64_t)most * (inputs * 4 + 1024)), .elem = elem, .rows = most, .cols = inputs, .stride = inputs};
    struct ds_view y = {.at = place(b, (uint64_t)most * outputs * 4), .elem = DS_ELEM_F32, .rows = most, .cols = outputs, .stride = outputs};
    float *values = ds_host_at(&x32.at);
    for (uint64_t i = 0; i < (uint64_t)most * inputs; i++) values[i] = (float)((int)(i * 2654435761u >> 8 & 1023) - 512) / 256;
    if (elem == DS_ELEM_F32) x = x32;
    else must(fns->op[DS_OP_quantize](b->stream, &(union ds_op_params){.quantize = {.x = x32, .out = x}}, &err), &err);

    double start = ds_os_seconds();
    must(fns->weight_write(b->stream, &weight, 0, outputs, file, &err), &err);
    must(fns->weight_write(b->stream, &weight, 0, outputs, file, &err), &err);
    const double write = (ds_os_seconds() - start) / 2;
    printf("%-7s %6u x %-5u  %8.1f MB, repacked at %.2f GB/s\n", ds_type_get(type)->name, outputs, inputs, (double)packed * 1e-6,
           (double)file_bytes / write * 1e-9);
    double one = 0;
    for (uint32_t i = 0; i < row_counts; i++) {
        x.rows = y.rows = rows[i];
        const double t = seconds_of(b, DS_OP_linear, &(union ds_op_params){.linear = {.weight = weight, .x = x, .y = y}});
        const double macs = (double)outputs * inputs * rows[i];
        if (i == 0) one = t;
        printf("    rows %3u  %9.3f ms  t/t1 %5.2f  %7.2f GB/s  %8.1f GMAC/s", rows[i], t * 1e3, t / one, (double)packed / t * 1e-9, macs / t * 1e-9);
        const double least = DS_MAX((double)packed / b->limits.read, macs / b->limits.macs[type]);
        printf("  efficiency %.2f\n", least / t);
    }
    ds_os_free_pages(file, file_bytes);
    fns->buffer_destroy(weight.at.buffer);
    fns->buffer_destroy(x32.at.buffer);
    if (x.at.buffer != x32.at.buffer) fns->buffer_destroy(x.at.buffer);
    fns->buffer_destroy(y.at.buffer);
}

/* --- the program --- */

enum { MAX_ROWS = 16 };

static uint32_t parse_rows(const char *text, uint32_t *rows) {
    uint32_t n = 0;
    for (char *end; *text && n < MAX_ROWS; text = *end ? end + 1 : end) {
        rows[n++] = (uint32_t)strtoul(text, &end, 10);
        if (end == text || rows[n - 1] == 0 || rows[n - 1] > 4096) {
            fprintf(stderr, "bench_cpu: --rows takes numbers from 1 to 4096, separated by commas\n");
            exit(2);
        }
    }
    return n;
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"threads", required_argument, NULL, 't'}, {"isa", required_argument, NULL, 'i'},
                                            {"type", required_argument, NULL, 'y'}, {"rows", required_argument, NULL, 'r'}, {"shape", required_argument, NULL, 's'}, {0}};
    static const ds_type types[] = {DS_TYPE_Q4_K, DS_TYPE_Q6_K, DS_TYPE_Q8_0, DS_TYPE_Q4_0, DS_TYPE_Q5_K, DS_TYPE_BF16, DS_TYPE_F16, DS_TYPE_F32};
    static const uint32_t shapes[][2] = {{1024, 2560}, {4096, 2560}, {9728, 2560}, {2560, 9728}, {151936, 2560}}; /* Qwen3-4B */
    uint32_t rows[MAX_ROWS] = {1, 2, 4, 8, 16, 64}, row_counts = 6;
    struct ds_device_params params = {0};
    const char *only = NULL;
    uint32_t shape[2] = {0, 0}; /* all */
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 't': params.threads = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'i': params.cpu_isa = optarg; break;
        case 'y': only = optarg; break;
        case 's':
            if (sscanf(optarg, "%ux%u", &shape[0], &shape[1]) != 2 || shape[0] == 0 || shape[1] == 0) return 2;
            break;
        case 'r': row_counts = parse_rows(optarg, rows); break;
        default: return 2;
        }
    }
    struct bench b = {0};
    struct ds_error err;
    must(ds_cpu_roofline_measure(params.threads, params.cpu_isa, &b.limits, &err), &err);
    must(ds_device_create("cpu", &params, &b.device, &err), &err);
    must(b.device->fns->stream_create(b.device, &b.stream, &err), &err);
    struct ds_device_limits limits;
    b.device->fns->limits(b.device, &limits);
    const double *macs = b.limits.macs;
    printf("%s\nread %.2f GB/s, peak GMAC/s:", limits.description, b.limits.read * 1e-9);
    for (ds_type type = 0; type < DS_TYPE_COUNT; type++)
        if (macs[type] > 0) printf(" %s %.1f", ds_type_get(type)->name, macs[type] * 1e-9);
    printf("\n");
    for (size_t t = 0; t < DS_COUNT(types); t++) {
        if (only && strcmp(only, ds_type_get(types[t])->name) != 0) continue;
        if (shape[0]) bench_linear(&b, types[t], shape[0], shape[1], rows, row_counts);
        for (size_t s = 0; s < DS_COUNT(shapes) && !shape[0]; s++) {
            if (shapes[s][0] > 100000 && !only) continue; /* the head takes long: --type NAME */
            bench_linear(&b, types[t], shapes[s][0], shapes[s][1], rows, row_counts);
        }
    }
    b.device->fns->stream_destroy(b.stream);
    ds_device_destroy(b.device);
    return 0;
}
