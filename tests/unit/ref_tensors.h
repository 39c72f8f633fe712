/* Tensors in the memory of the reference device, for tests of its ops. */
#ifndef DSPARK_TESTS_REF_TENSORS_H
#define DSPARK_TESTS_REF_TENSORS_H

#include "ops/numerics.h"
#include "ref_device.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct ds_buffer *buffers[64];
static size_t n_buffers;

static inline int free_buffers(void **state) {
    (void)state;
    while (n_buffers > 0) device->fns->buffer_destroy(buffers[--n_buffers]);
    return 0;
}

/* A buffer with these bytes, or zeros. */
static inline struct ds_slice put(const void *bytes, size_t n) {
    struct ds_error err;
    assert_true(n_buffers < DS_COUNT(buffers));
    assert_int_equal(device->fns->buffer_create(device, n, &buffers[n_buffers], &err), DS_OK);
    const struct ds_slice at = {.buffer = buffers[n_buffers++]};
    if (bytes) assert_int_equal(device->fns->write(stream, at, bytes, n, &err), DS_OK);
    return at;
}

static inline void *at(struct ds_slice slice) {
    return (uint8_t *)device->fns->host(slice.buffer) + slice.offset;
}

static inline struct ds_view floats(const float *x, uint32_t rows, uint32_t cols) {
    return (struct ds_view){
        .at = put(x, (size_t)rows * cols * 4), .elem = DS_ELEM_F32, .rows = rows, .cols = cols, .stride = cols};
}

static inline struct ds_weight weight(ds_type type, const void *stored, uint32_t rows, uint32_t cols) {
    struct ds_error err;
    const struct ds_weight w = {
        .at = put(NULL, device->fns->weight_bytes(device, type, rows, cols)), .type = type, .rows = rows, .cols = cols};
    assert_int_equal(device->fns->weight_write(stream, &w, 0, rows, stored, &err), DS_OK);
    return w;
}

static inline void run(ds_op op, const union ds_op_params *params) {
    struct ds_error err;
    if (ds_op_check(op, params, &err) != DS_OK) fail_msg("%s", err.message);
    assert_int_equal(device->fns->op[op](stream, params, &err), DS_OK);
}

static uint32_t random_state = 1;
static inline uint32_t random_word(void) {
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8 | random_state << 24;
}
static inline float random_float(void) { /* in [-1, 1) */
    return (float)(int32_t)random_word() * 0x1p-31f;
}

static inline void near(double found, double expected, double tolerance) {
    if (!(fabs(found - expected) <= tolerance)) fail_msg("found %.9g, expected %.9g", found, expected);
}

/* A test whose buffers are given back. */
#define TEST(name) cmocka_unit_test_teardown(name, free_buffers)

#endif
