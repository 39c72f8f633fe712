/* Devices NAME:0, NAME:1, ...: finding, opening, and the slots of ops. */
#include "device.h"
#include "pack.h"

#include "base/os.h"
#include "pool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DECLARE(wave) extern const struct ds_gpu_kernels DS_GPU_TABLE_OF(wave);
DS_GPU_TABLES(DECLARE)
#undef DECLARE

static const struct ds_gpu_kernels *kernels_for(int wave) {
#define CASE(size) \
    if (wave == size) return &DS_GPU_TABLE_OF(size);
    DS_GPU_TABLES(CASE)
#undef CASE
    return NULL;
}

extern const struct ds_backend DS_GPU_BACKEND;

/* --- finding --- */

static const char *const device_names[] = {
    DS_GPU_KIND ":0", DS_GPU_KIND ":1", DS_GPU_KIND ":2",  DS_GPU_KIND ":3",  DS_GPU_KIND ":4",  DS_GPU_KIND ":5",  DS_GPU_KIND ":6",  DS_GPU_KIND ":7",
    DS_GPU_KIND ":8", DS_GPU_KIND ":9", DS_GPU_KIND ":10", DS_GPU_KIND ":11", DS_GPU_KIND ":12", DS_GPU_KIND ":13", DS_GPU_KIND ":14", DS_GPU_KIND ":15",
};

/* How many there are; -1 and a message: they cannot be used. */
static int count_devices(struct ds_error *err) {
    int driver = 0, runtime = 0, count = 0;
    const gpuError_t asked = gpuDriverGetVersion(&driver);
    if (asked != gpuSuccess || driver == 0) {
        ds_fail(err, DS_ERROR_DEVICE, "%s is not installed on this machine: install it, or use device cpu", DS_GPU_DRIVER);
        return -1;
    }
    const gpuError_t error = gpuGetDeviceCount(&count);
    if (error == gpuSuccess) return DS_MIN(count, (int)DS_COUNT(device_names));
    (void)gpuGetLastError();
    (void)gpuRuntimeGetVersion(&runtime);
    ds_fail(err, DS_ERROR_DEVICE, "%s (version %d.%d; this build was made with %d.%d) cannot be used: %s%s", DS_GPU_DRIVER, driver / 1000,
            driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10, gpuGetErrorString(error),
            driver < runtime ? "; install one of that version or later, or use device cpu" : "; use device cpu");
    return -1;
}

static uint32_t list(const char **names, uint32_t capacity) {
    struct ds_error err;
    const int found = count_devices(&err);
    const uint32_t count = found < 0 ? 0 : (uint32_t)found;
    for (uint32_t i = 0; i < DS_MIN(count, capacity); i++) names[i] = device_names[i];
    return count;
}

/* --- ops --- */

static const char *const op_names[] = {
#define DS_OP(name, text) [DS_OP_##name] = #name,
#include "ops/ops.def"
#undef DS_OP
};

struct ds_gpu_launch ds_gpu_launch_on(const struct ds_gpu_device *device, gpuStream_t stream, uint8_t *scratch) {
    return (struct ds_gpu_launch){.stream = stream, .scratch = scratch, .processors = device->processors, .shared_most = device->shared_most,
                                  .overlap = device->overlap, .together = device->together, .fast = device->fast};
}

uint64_t ds_gpu_scratch_of(const struct ds_gpu_device *device, ds_op op, const union ds_op_params *params) {
    if (ds_gpu_blas_takes(device->blas, op, params)) return ds_gpu_blas_scratch(params);
    return device->kernels->scratch_bytes[op] ? device->kernels->scratch_bytes[op](params, device->processors) : 0;
}

gpuError_t ds_gpu_put_op(const struct ds_gpu_device *device, struct ds_gpu_blas_user *user, const struct ds_gpu_launch *launch, ds_op op,
                        const union ds_op_params *params) {
    if (ds_gpu_blas_takes(device->blas, op, params)) return ds_gpu_blas_linear(device->blas, user, device->kernels, launch, params);
    return device->kernels->op[op](launch, params);
}

ds_status ds_gpu_fail_op(const struct ds_gpu_device *device, struct ds_gpu_blas_user *user, gpuError_t error, const char *what, uint64_t bytes,
                         struct ds_error *err) {
    ds_status status;
    if (!ds_gpu_blas_failed(device->blas, user, device->name, &status, err)) return ds_gpu_fail(device, error, what, bytes, err);
    (void)gpuGetLastError();
    return status;
}

/* Scratch of an op outside a graph; grows when an op needs more than those before it. */
static ds_status reserve(struct ds_stream *stream, ds_op op, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_gpu_device *device = ds_gpu_device_of(stream);
    const uint64_t bytes = ds_gpu_scratch_of(device, op, params);
    if (bytes <= stream->scratch_bytes) return DS_OK;
    DS_TRY(ds_gpu_stream_sync(stream, err)); /* ops that are under way still use the old one */
    gpuFree(stream->scratch);
    stream->scratch = NULL;
    stream->scratch_bytes = 0;
    void *scratch = NULL;
    const gpuError_t error = gpuMalloc(&scratch, (size_t)bytes);
    if (error != gpuSuccess) return ds_gpu_fail(device, error, "scratch memory of an op", bytes, err);
    stream->scratch = scratch;
    stream->scratch_bytes = bytes;
    return DS_OK;
}

static ds_status run_op(struct ds_stream *stream, ds_op op, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_gpu_device *device = ds_gpu_device_of(stream);
    DS_TRY(ds_gpu_enter(device, err));
    DS_TRY(reserve(stream, op, params, err));
    const struct ds_gpu_launch launch = ds_gpu_launch_on(device, stream->handle, stream->scratch);
    const gpuError_t error = ds_gpu_put_op(device, &stream->blas, &launch, op, params);
    return error == gpuSuccess ? DS_OK : ds_gpu_fail_op(device, &stream->blas, error, op_names[op], 0, err);
}

#define DS_OP(name, text)                                                                                                          \
    static ds_status run_##name(struct ds_stream *stream, const union ds_op_params *params, struct ds_error *err) {                \
        return run_op(stream, DS_OP_##name, params, err);                                                                          \
    }
#include "ops/ops.def"
#undef DS_OP

static bool can_run(const struct ds_device *base, ds_op op, const union ds_op_params *params) {
    const struct ds_gpu_device *device = (const struct ds_gpu_device *)base;
    if (op >= DS_OP_COUNT || !device->kernels->op[op]) return false;
    return !device->kernels->can_run[op] || device->kernels->can_run[op](params);
}

static uint64_t weight_bytes(const struct ds_device *device, ds_type type, uint32_t rows, uint32_t cols) {
    (void)device;
    return ds_gpu_matrix_bytes(type, rows, cols);
}

/* --- the device --- */

enum { MOST_ROWS = 65535 }; /* a grid's second dimension */

static void limits(const struct ds_device *base, struct ds_device_limits *out) {
    const struct ds_gpu_device *device = (const struct ds_gpu_device *)base;
    *out = (struct ds_device_limits){
        .name = device->name,
        .description = device->description,
        .memory_bytes = device->memory_bytes,
        .max_rows = MOST_ROWS,
        .exact = device->note[0] == 0,
        .note = device->note,
        .fast = device->variants[0] ? device->variants : NULL,
    };
}

static void destroy(struct ds_device *base) {
    struct ds_gpu_device *device = (struct ds_gpu_device *)base;
    struct ds_error err;
    if (!device) return;
    (void)ds_gpu_enter(device, &err);
    ds_gpu_blas_end(device->blas, &device->own_blas);
    ds_gpu_blas_close(device->blas);
    if (device->own) gpuStreamDestroy(device->own);
    ds_pool_destroy(device->pool);
    ds_os_mutex_destroy(device->mutex);
    free(device);
}

static const struct ds_device_fns fns = {
    .version = DS_DEVICE_VERSION,
    .destroy = destroy,
    .limits = limits,
    .buffer_create = ds_gpu_buffer_create,
    .buffer_destroy = ds_gpu_buffer_destroy,
    .stream_create = ds_gpu_stream_create,
    .stream_sync = ds_gpu_stream_sync,
    .stream_destroy = ds_gpu_stream_destroy,
    .write = ds_gpu_write,
    .read = ds_gpu_read,
    .copy = ds_gpu_copy,
    .weight_bytes = weight_bytes,
    .weight_write = ds_gpu_weight_write,
    .can_run = can_run,
    .graph_create = ds_gpu_graph_create,
    .graph_run = ds_gpu_graph_run,
    .graph_destroy = ds_gpu_graph_destroy,
    .op =
        {
#define DS_OP(name, text) [DS_OP_##name] = run_##name,
#include "ops/ops.def"
#undef DS_OP
        },
};

static ds_status index_of(const char *name, int *index, struct ds_error *err) {
    const int count = count_devices(err);
    if (count < 0) return ds_fail_context(err, "device %s", name);
    const char *const digits = strchr(name, ':');
    char *end = NULL;
    const unsigned long n = digits ? strtoul(digits + 1, &end, 10) : 0;
    if ((digits && (digits[1] < '0' || digits[1] > '9' || *end)) || n >= (unsigned long)count)
        return ds_fail(err, DS_ERROR_DEVICE, "there is no device %s: this machine has %d of that kind%s", name, count,
                       count > 0 ? ", numbered from " DS_GPU_KIND ":0" : "; use device cpu");
    *index = (int)n;
    return DS_OK;
}

static gpuError_t describe(struct ds_gpu_device *device) {
    gpuDeviceProp_t properties;
    size_t unused = 0, all = 0;
    int wave = 0, processors = 0, shared = 0, major = 0, minor = 0;
    gpuError_t error = gpuGetDeviceProperties(&properties, device->index);
    if (error == gpuSuccess) error = gpuDeviceGetAttribute(&wave, gpuAttributeWave, device->index);
    if (error == gpuSuccess) error = gpuDeviceGetAttribute(&processors, gpuAttributeProcessors, device->index);
    if (error == gpuSuccess) error = gpuDeviceGetAttribute(&shared, gpuAttributeShared, device->index);
    if (error == gpuSuccess) error = gpuDeviceGetAttribute(&major, gpuAttributeMajor, device->index);
    if (error == gpuSuccess) error = gpuDeviceGetAttribute(&minor, gpuAttributeMinor, device->index);
    if (error == gpuSuccess) error = gpuMemGetInfo(&unused, &all);
    if (error != gpuSuccess) return error;
    device->kernels = kernels_for(wave);
    device->processors = (uint32_t)processors;
    device->shared_most = (uint64_t)shared;
    device->memory_bytes = all;
    device->architecture = 10 * major + minor;
    snprintf(device->description, sizeof device->description, "%.96s, %d processors, architecture %d.%d", properties.name, processors, major, minor);
    if (!device->kernels) return gpuErrorNoKernelImage;
    device->overlap = device->kernels->overlaps();
    return gpuSuccess;
}

/* For measurements: DSPARK_GPU_ROWS_TOGETHER, 1, 4 or 8; anything else is nothing. It changes no bit. */
static uint32_t asked_together(void) {
    const char *const text = getenv("DSPARK_GPU_ROWS_TOGETHER");
    return text && strchr("148", text[0]) && text[0] && !text[1] ? (uint32_t)(text[0] - '0') : 0;
}

/* What --numerics fast has here: nothing, tensor cores for attention, or these and a library. */
static ds_status open_variants(struct ds_gpu_device *device, const struct ds_log *log, struct ds_error *err) {
#if defined(DS_GPU_FAST)
    enum { LEAST_BLAS = 80 }; /* before architecture 8.0 there is neither bf16 nor TF32 to multiply with */
    device->fast = true;
    if (device->architecture >= LEAST_BLAS) device->blas = ds_gpu_blas_open(device->name, log);
    const gpuError_t error = ds_gpu_blas_begin(device->blas, &device->own_blas);
    if (error != gpuSuccess) return ds_gpu_fail_op(device, &device->own_blas, error, "a handle of a library", 0, err);
    if (!device->blas) snprintf(device->variants, sizeof device->variants, "attention on tensor cores");
    else
        snprintf(device->variants, sizeof device->variants, "attention on tensor cores, float linears of %d rows and more by %s", DS_GPU_BLAS_ROWS,
                 ds_gpu_blas_name(device->blas));
#else
    (void)device, (void)log, (void)err;
#endif
    return DS_OK;
}

static ds_status open_device(struct ds_gpu_device *device, const struct ds_device_params *params, struct ds_error *err) {
    DS_TRY(ds_gpu_enter(device, err));
    gpuError_t error = describe(device);
    if (error == gpuSuccess) error = gpuStreamCreateWithFlags(&device->own, gpuStreamNonBlocking);
    if (error != gpuSuccess) return ds_gpu_fail(device, error, "opening the device", 0, err);
    DS_TRY(ds_gpu_self_test(device, err));
    return params->fast ? open_variants(device, &params->log, err) : DS_OK;
}

static ds_status create(const char *name, const struct ds_device_params *params, struct ds_device **out, struct ds_error *err) {
    *out = NULL;
    int index = 0;
    DS_TRY(index_of(name, &index, err));
    struct ds_gpu_device *device = calloc(1, sizeof *device);
    if (!device) return ds_fail_memory(err, sizeof *device, "a device");
    device->base.fns = &fns;
    device->index = index;
    device->threads = params->threads;
    device->together = asked_together();
    snprintf(device->name, sizeof device->name, "%s:%d", DS_GPU_KIND, index);
    device->mutex = ds_os_mutex_create();
    const ds_status status = device->mutex ? open_device(device, params, err) : ds_fail_memory(err, sizeof(void *), "a lock of a device");
    if (status != DS_OK) {
        destroy(&device->base);
        return status;
    }
    *out = &device->base;
    return DS_OK;
}

const struct ds_backend DS_GPU_BACKEND = {.name = DS_GPU_KIND, .list = list, .create = create};
