/* The device `ref`: the definitions, one scalar thread, weights as they lie in a file. */
#include "ref/ref.h"

#include "base/os.h"
#include "ops/numerics.h"

#include <stdlib.h>
#include <string.h>

static void limits(const struct ds_device *device, struct ds_device_limits *out) {
    (void)device;
    *out = (struct ds_device_limits){
        .name = "ref",
        .description = "the scalar definition of every op, one thread: slow, for comparison",
        .memory_bytes = ds_os_physical_memory(),
        .host_memory = true,
        .exact = true,
        .note = "",
    };
}

static void destroy(struct ds_device *device) {
    free(device);
}

static uint64_t weight_bytes(const struct ds_device *device, ds_type type, uint32_t rows, uint32_t cols) {
    (void)device;
    uint64_t bytes;
    if (type == DS_TYPE_I32 || type == DS_TYPE_I64 || !ds_type_size(type, rows, cols, &bytes)) return 0;
    return DS_ALIGN_UP(bytes, (uint64_t)DS_ALIGN);
}

/* As in the file, except that BF16 weights are bounded so that their products with activations are exact. */
static ds_status weight_write(struct ds_stream *stream, const struct ds_weight *weight, uint32_t first_row, uint32_t rows,
                              const void *from, struct ds_error *err) {
    (void)stream;
    uint64_t row_bytes;
    DS_TRY(ds_host_check_weight_rows(weight, first_row, rows, &row_bytes, err));
    uint8_t *to = (uint8_t *)ds_host_at(&weight->at) + first_row * row_bytes;
    memcpy(to, from, (size_t)(rows * row_bytes));
    if (weight->type == DS_TYPE_BF16) {
        uint16_t *values = (uint16_t *)(void *)to;
        for (uint64_t i = 0; i < (uint64_t)rows * weight->cols; i++) values[i] = (uint16_t)ds_bf16_bounded(values[i]);
    }
    return DS_OK;
}

static bool can_run(const struct ds_device *device, ds_op op, const union ds_op_params *params) {
    (void)device;
    (void)params;
    return op < DS_OP_COUNT;
}

/* An op runs on the caller's thread, whose rounding and denormal modes are the caller's. */
#define DS_OP(name, text)                                                                                                      \
    static ds_status run_##name(struct ds_stream *stream, const union ds_op_params *params, struct ds_error *err) {            \
        (void)stream;                                                                                                          \
        const struct ds_float_state state = ds_os_float_begin();                                                               \
        const ds_status status = ds_ref_##name(&params->name, err);                                                            \
        ds_os_float_restore(state);                                                                                            \
        return status;                                                                                                         \
    }
#include "ops/ops.def"
#undef DS_OP

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
    .op =
        {
#define DS_OP(name, text) [DS_OP_##name] = run_##name,
#include "ops/ops.def"
#undef DS_OP
        },
};

static uint32_t list(const char **names, uint32_t capacity) {
    if (capacity > 0) names[0] = "ref";
    return 1;
}

static ds_status create(const char *name, const struct ds_device_params *params, struct ds_device **out, struct ds_error *err) {
    (void)name;
    (void)params;
    struct ds_device *device = malloc(sizeof *device);
    *out = device;
    if (!device) return ds_fail_memory(err, sizeof *device, "device ref");
    device->fns = &fns;
    return DS_OK;
}

const struct ds_backend ds_backend_ref = {.name = "ref", .list = list, .create = create};
