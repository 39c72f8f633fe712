#include "ops/device.h"

#include <stdio.h>
#include <string.h>

/* Best first: the first device of the first backend that has one is the default. */
static const struct ds_backend *const backends[] = {&ds_backend_cpu, &ds_backend_ref};

enum { MAX_DEVICES = 64 }; /* of one backend */

uint32_t ds_device_names(const char **names, uint32_t capacity) {
    uint32_t count = 0;
    for (size_t i = 0; i < DS_COUNT(backends); i++) {
        const uint32_t room = capacity > count ? capacity - count : 0;
        count += backends[i]->list(names + (room ? count : 0), room);
    }
    return count;
}

/* "ref, cpu" into `text`, cut where it is full. */
static void list_names(char *text, size_t size) {
    const char *names[MAX_DEVICES];
    const uint32_t count = DS_MIN(ds_device_names(names, MAX_DEVICES), (uint32_t)MAX_DEVICES);
    size_t used = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < count && used < size; i++) {
        const int n = snprintf(text + used, size - used, "%s%s", i ? ", " : "", names[i]);
        used += n > 0 ? (size_t)n : 0;
    }
}

ds_status ds_device_create(const char *name, const struct ds_device_params *params, struct ds_device **out,
                           struct ds_error *err) {
    *out = NULL;
    const bool any = !name || !*name;
    for (size_t i = 0; i < DS_COUNT(backends); i++) {
        const char *names[MAX_DEVICES];
        const uint32_t count = DS_MIN(backends[i]->list(names, MAX_DEVICES), (uint32_t)MAX_DEVICES);
        for (uint32_t k = 0; k < count; k++)
            if (any || strcmp(names[k], name) == 0) return backends[i]->create(names[k], params, out, err);
    }
    char known[512];
    list_names(known, sizeof known);
    return ds_fail(err, DS_ERROR_DEVICE, "there is no device \"%s\"; this build and machine have: %s", any ? "" : name, known);
}

void ds_device_destroy(struct ds_device *device) {
    if (device) device->fns->destroy(device);
}
