/* The reference device and a stream, for a whole test program. */
#ifndef DSPARK_TESTS_REF_DEVICE_H
#define DSPARK_TESTS_REF_DEVICE_H

#include "ops/device.h"

static struct ds_device *device;
static struct ds_stream *stream;

static int open_device(void **state) {
    (void)state;
    struct ds_error err;
    const struct ds_device_params params = {0};
    if (ds_device_create("ref", &params, &device, &err) != DS_OK) return -1;
    return device->fns->stream_create(device, &stream, &err) == DS_OK ? 0 : -1;
}

static int close_device(void **state) {
    (void)state;
    device->fns->stream_destroy(stream);
    ds_device_destroy(device);
    return 0;
}

#endif
