/* A device with fast numerics or without, operands on it, and the stand-in for cuBLAS, for tests. */
#ifndef DSPARK_TESTS_GPU_FAST_RIG_H
#define DSPARK_TESTS_GPU_FAST_RIG_H

#include "emulator.h"

#include "../unit/tiny_pair.h"
#include "blas/blas.h"
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
    *(void **)(void *)&standin.refuse = module_symbol(module, "standin_fail");
    *(void **)(void *)&standin.be_wrong = module_symbol(module, "standin_be_wrong");
    *(void **)(void *)&standin.calls = module_symbol(module, "standin_calls");
    *(void **)(void *)&standin.handles = module_symbol(module, "standin_handles");
    *(void **)(void *)&standin.offences = module_symbol(module, "standin_offences");
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

/* Below 2 in magnitude, as the type has them; malloc'ed. */
static float *values(uint64_t n, ds_type type, uint32_t seed) {
    float *const out = malloc(n * sizeof *out);
    assert_non_null(out);
    for (uint64_t i = 0; i < n; i++) {
        const float x = 2 * noise(&seed);
        out[i] = type == DS_TYPE_BF16 ? ds_float(ds_bits(x) & 0xffff0000u) : type == DS_TYPE_F16 ? ds_f16_to_f32((uint16_t)ds_f32_to_f16(x)) : x;
    }
    return out;
}

#define TEST(name) cmocka_unit_test_teardown(name, end_test)

#endif
