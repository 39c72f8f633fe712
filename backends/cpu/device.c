/*
 * The device `cpu`: vectorised kernels on a pool of threads, with the reference's bits (docs/numerics.md).
 *
 * Scratch memory grows when a graph is created or an op is run outside a graph for the first time; running a graph allocates
 * nothing.
 */
#include "graph.h"
#include "isa.h"
#include "kernels/attention.h"
#include "pack.h"
#include "pool.h"

#include "base/os.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct cpu_device {
    struct ds_device base;
    const struct ds_cpu_isa *isa;
    struct ds_os_mutex *mutex;    /* one run at a time: streams may belong to different threads, the pool and scratch do not */
    struct ds_pool *pool;
    uint8_t *scratch;             /* threads * size.each, then size.shared */
    struct ds_cpu_scratch size;   /* both multiples of DS_ALIGN */
    char description[160];
};

struct ds_device_graph {
    struct cpu_device *device;
    uint32_t count;
    struct ds_cpu_step steps[];
};

static struct cpu_device *of_stream(const struct ds_stream *stream) { return (struct cpu_device *)stream->device; }

/* --- running --- */

static uint64_t scratch_bytes(const struct cpu_device *device, struct ds_cpu_scratch size) {
    return size.each * ds_pool_threads(device->pool) + size.shared;
}

/* Grows the scratch to what an op needs; it keeps no data between ops. */
static ds_status reserve(struct cpu_device *device, ds_op op, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_cpu_scratch need = ds_cpu_scratch_of(op, params, ds_pool_threads(device->pool));
    const struct ds_cpu_scratch size = {.each = DS_MAX(device->size.each, DS_ALIGN_UP(need.each, (uint64_t)DS_ALIGN)),
                                        .shared = DS_MAX(device->size.shared, DS_ALIGN_UP(need.shared, (uint64_t)DS_ALIGN))};
    if (size.each == device->size.each && size.shared == device->size.shared) return DS_OK;
    uint8_t *scratch = ds_os_alloc_pages(scratch_bytes(device, size), DS_ALIGN);
    if (!scratch) return ds_fail_memory(err, (size_t)scratch_bytes(device, size), "scratch memory of device cpu");
    ds_os_free_pages(device->scratch, scratch_bytes(device, device->size));
    device->scratch = scratch;
    device->size = size;
    return DS_OK;
}

struct run {
    const struct cpu_device *device;
    const struct ds_cpu_step *steps;
    uint32_t count;
};

static void walk(void *context, unsigned member, unsigned members) {
    const struct run *run = context;
    const struct cpu_device *device = run->device;
    const struct ds_cpu_work work = {.member = member, .members = members, .pool = device->pool, .edges = ds_pool_edges(device->pool),
                                     .scratch = device->scratch + member * device->size.each,
                                     .shared = device->scratch + members * device->size.each};
    for (uint32_t i = 0; i < run->count; i++) {
        if (run->steps[i].wait) ds_cpu_meet(&work);
        run->steps[i].kernel(&work, run->steps[i].params);
    }
}

static ds_status run_steps(struct cpu_device *device, const struct ds_cpu_step *steps, uint32_t count, struct ds_error *err) {
    return ds_pool_run(device->pool, walk, &(struct run){.device = device, .steps = steps, .count = count}, err);
}

static ds_status run_op(struct ds_stream *stream, ds_op op, const union ds_op_params *params, struct ds_error *err) {
    struct cpu_device *device = of_stream(stream);
    ds_os_mutex_lock(device->mutex);
    ds_status status = reserve(device, op, params, err);
    if (status == DS_OK) status = run_steps(device, &(struct ds_cpu_step){.kernel = device->isa->kernels->op[op], .params = params}, 1, err);
    ds_os_mutex_unlock(device->mutex);
    return status;
}

#define DS_OP(name, text)                                                                                               \
    static ds_status run_##name(struct ds_stream *stream, const union ds_op_params *params, struct ds_error *err) {        \
        return run_op(stream, DS_OP_##name, params, err);                                                                \
    }
#include "ops/ops.def"
#undef DS_OP

static ds_status graph_create(struct ds_device *base, const struct ds_graph_node *nodes, uint32_t count, struct ds_device_graph **out,
                              struct ds_error *err) {
    struct cpu_device *device = (struct cpu_device *)base;
    *out = NULL;
    ds_status status = DS_OK;
    ds_os_mutex_lock(device->mutex);
    for (uint32_t i = 0; i < count && status == DS_OK; i++) status = reserve(device, nodes[i].op, &nodes[i].params, err);
    ds_os_mutex_unlock(device->mutex);
    if (status != DS_OK) return status;
    const size_t bytes = sizeof(struct ds_device_graph) + count * sizeof(struct ds_cpu_step);
    struct ds_device_graph *graph = malloc(bytes);
    if (!graph) return ds_fail_memory(err, bytes, "a graph");
    graph->device = device;
    graph->count = count;
    status = ds_cpu_plan_steps(nodes, count, device->isa->kernels, graph->steps, err);
    if (status != DS_OK) {
        free(graph);
        return status;
    }
    *out = graph;
    return DS_OK;
}

static ds_status graph_run(struct ds_stream *stream, struct ds_device_graph *graph, struct ds_error *err) {
    (void)stream;
    ds_os_mutex_lock(graph->device->mutex);
    const ds_status status = run_steps(graph->device, graph->steps, graph->count, err);
    ds_os_mutex_unlock(graph->device->mutex);
    return status;
}

static void graph_destroy(struct ds_device_graph *graph) { free(graph); }

/* --- weights --- */

static uint64_t weight_bytes(const struct ds_device *device, ds_type type, uint32_t rows, uint32_t cols) {
    (void)device;
    return ds_pack_bytes(type, rows, cols);
}

struct repack {
    ds_cpu_pack_fn pack_tile;
    const struct ds_weight *weight;
    const uint8_t *from;
    uint64_t row_bytes;
    uint32_t first_row, rows;
};

static void repack_share(void *context, unsigned member, unsigned members) {
    const struct repack *job = context;
    const struct ds_weight *weight = job->weight;
    const uint64_t tile_bytes = ds_pack_tile_bytes(weight->type, weight->cols);
    uint8_t *to = (uint8_t *)ds_host_at(&weight->at) + job->first_row / DS_TILE * tile_bytes;
    uint64_t tile, end;
    ds_pool_share((job->rows + DS_TILE - 1) / DS_TILE, member, members, &tile, &end);
    for (; tile < end; tile++) {
        const uint32_t first = (uint32_t)tile * DS_TILE;
        job->pack_tile(weight->type, weight->cols, job->from + first * job->row_bytes, job->row_bytes,
                     DS_MIN(job->rows - first, (uint32_t)DS_TILE), to + tile * tile_bytes);
    }
}

static ds_status weight_write(struct ds_stream *stream, const struct ds_weight *weight, uint32_t first_row, uint32_t rows,
                              const void *from, struct ds_error *err) {
    struct cpu_device *device = of_stream(stream);
    struct repack job = {.pack_tile = device->isa->kernels->pack_tile, .weight = weight, .from = from, .first_row = first_row, .rows = rows};
    DS_TRY(ds_host_check_weight_rows(weight, first_row, rows, &job.row_bytes, err));
    if (ds_pack_bytes(weight->type, weight->rows, weight->cols) == 0)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "weight_write: device cpu has no layout for %s [%u, %u]", ds_type_get(weight->type)->name,
                       weight->rows, weight->cols);
    ds_os_mutex_lock(device->mutex);
    const ds_status status = ds_pool_run(device->pool, repack_share, &job, err);
    ds_os_mutex_unlock(device->mutex);
    return status;
}

/* --- the device --- */

static bool can_run(const struct ds_device *device, ds_op op, const union ds_op_params *params) {
    (void)device;
    if (op == DS_OP_attention) return params->attention.heads / params->attention.kv.kv_heads <= DS_ATTENTION_QUERIES;
    return op < DS_OP_COUNT;
}

static void limits(const struct ds_device *base, struct ds_device_limits *out) {
    const struct cpu_device *device = (const struct cpu_device *)base;
    *out = (struct ds_device_limits){
        .name = "cpu",
        .description = device->description,
        .memory_bytes = ds_os_physical_memory(),
        .host_memory = true,
        .exact = true,
        .note = "",
    };
}

static void destroy(struct ds_device *base) {
    struct cpu_device *device = (struct cpu_device *)base;
    if (!device) return;
    if (device->pool) ds_os_free_pages(device->scratch, scratch_bytes(device, device->size));
    ds_pool_destroy(device->pool);
    if (device->mutex) ds_os_mutex_destroy(device->mutex);
    free(device);
}

static const struct ds_weight_layout layout = {.name = "cpu", .version = DS_PACK_VERSION};

static const struct ds_device_fns fns = {
    .version = DS_DEVICE_VERSION,
    .destroy = destroy,
    .limits = limits,
    .buffer_create = ds_host_buffer_create,
    .buffer_destroy = ds_host_buffer_destroy,
    .host = ds_host_data,
    .stream_create = ds_host_stream_create,
    .stream_sync = ds_host_stream_sync,
    .stream_destroy = ds_host_stream_destroy,
    .write = ds_host_write,
    .read = ds_host_read,
    .copy = ds_host_copy,
    .weight_bytes = weight_bytes,
    .weight_write = weight_write,
    .can_run = can_run,
    .graph_create = graph_create,
    .graph_run = graph_run,
    .graph_destroy = graph_destroy,
    .weight_layout = &layout,
    .buffer_import = ds_host_buffer_import,
    .op =
        {
#define DS_OP(name, text) [DS_OP_##name] = run_##name,
#include "ops/ops.def"
#undef DS_OP
        },
};

static uint32_t list(const char **names, uint32_t capacity) {
    if (capacity > 0) names[0] = "cpu";
    return 1;
}

static void describe(struct cpu_device *device) {
    char brand[64];
    ds_cpu_brand(brand, sizeof brand);
    const unsigned threads = ds_pool_threads(device->pool);
    snprintf(device->description, sizeof device->description, "%s%s%s, %u thread%s", brand, *brand ? ", " : "", device->isa->label, threads,
             threads == 1 ? "" : "s");
}

static ds_status create(const char *name, const struct ds_device_params *params, struct ds_device **out, struct ds_error *err) {
    (void)name;
    *out = NULL;
    struct cpu_device *device = calloc(1, sizeof *device);
    if (!device) return ds_fail_memory(err, sizeof *device, "device cpu");
    device->base.fns = &fns;
    device->mutex = ds_os_mutex_create();
    ds_status status = device->mutex ? ds_cpu_isa_find(params->cpu_isa, &device->isa, err) : ds_fail_memory(err, 64, "a lock of device cpu");
    if (status == DS_OK) status = ds_pool_create(params->threads, &device->pool, err);
    if (status != DS_OK) {
        destroy(&device->base);
        return status;
    }
    describe(device);
    *out = &device->base;
    return DS_OK;
}

const struct ds_backend ds_backend_cpu = {.name = "cpu", .list = list, .create = create};
