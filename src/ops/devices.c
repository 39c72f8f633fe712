#include "ops/device.h"

#include "ops/module.h"

#include "dspark_build.h"

#include <stdio.h>
#include <string.h>

/* Where a backend comes from: this library, or a module of its name. */
struct source {
    const char *module;
    const struct ds_backend *builtin; /* NULL: the module */
    bool numbered;                    /* its devices are NAME:0, NAME:1, ... */
};

#if defined(DS_BUILTIN_CUDA)
extern const struct ds_backend ds_backend_cuda;
#define CUDA &ds_backend_cuda
#else
#define CUDA NULL
#endif
#if defined(DS_BUILTIN_HIP)
extern const struct ds_backend ds_backend_hip;
#define HIP &ds_backend_hip
#else
#define HIP NULL
#endif

/* Best first: the first device of the first backend that has one is the default. The emulator is for tests and comes last. */
static const struct source sources[] = {
    {"cuda", CUDA, true},           {"hip", HIP, true},              {"vulkan", NULL, true},
    {"cpu", &ds_backend_cpu, false}, {"ref", &ds_backend_ref, false}, {"emu", NULL, true},
};

enum { MAX_DEVICES = 64 }; /* of one backend */

static ds_status backend_of(const struct source *source, const char *modules, const struct ds_backend **out, struct ds_error *err) {
    *out = source->builtin;
    return *out ? DS_OK : ds_module_load(modules, source->module, out, err);
}

uint32_t ds_device_names(const char *modules, const char **names, uint32_t capacity) {
    uint32_t count = 0;
    for (size_t i = 0; i < DS_COUNT(sources); i++) {
        const struct ds_backend *backend;
        struct ds_error err;
        if (backend_of(&sources[i], modules, &backend, &err) != DS_OK) continue;
        const uint32_t room = capacity > count ? capacity - count : 0;
        count += backend->list(names + (room ? count : 0), room);
    }
    return count;
}

/* "ref, cpu" into `text`, cut where it is full. */
static void list_names(const char *modules, char *text, size_t size) {
    const char *names[MAX_DEVICES];
    const uint32_t count = DS_MIN(ds_device_names(modules, names, MAX_DEVICES), (uint32_t)MAX_DEVICES);
    size_t used = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < count && used < size; i++) {
        const int n = snprintf(text + used, size - used, "%s%s", i ? ", " : "", names[i]);
        used += n > 0 ? (size_t)n : 0;
    }
}

/* "cuda:3" belongs to cuda, and so does "cuda" for its first device. */
static bool belongs(const char *device, const struct source *source) {
    const size_t n = strlen(source->module);
    return strncmp(device, source->module, n) == 0 && (device[n] == 0 || (source->numbered && device[n] == ':'));
}

static bool is_exact(const struct ds_device *device) {
    struct ds_device_limits limits;
    device->fns->limits(device, &limits);
    return limits.exact;
}

/* The first device of a backend that is worth taking unasked: fast, exact, and it opens. Why one is passed over is told to the log. */
static ds_status create_best(const struct ds_backend *backend, const struct ds_device_params *params, struct ds_device **out, struct ds_error *err) {
    const char *best;
    if ((backend->preferred ? backend->preferred : backend->list)(&best, 1) == 0) return DS_ERROR_DEVICE;
    if (backend->create(best, params, out, err) != DS_OK) {
        ds_logf(&params->log, DS_LOG_WARNING, "device %s is not used: %s", best, err->message);
        return err->status;
    }
    if (is_exact(*out)) return DS_OK;
    ds_logf(&params->log, DS_LOG_WARNING, "device %s is not used: it fails the self-test of the numerics contract", best);
    ds_device_destroy(*out);
    *out = NULL;
    return DS_ERROR_DEVICE;
}

ds_status ds_device_create(const char *name, const struct ds_device_params *params, struct ds_device **out,
                           struct ds_error *err) {
    *out = NULL;
    const bool any = !name || !*name;
    for (size_t i = 0; i < DS_COUNT(sources); i++) {
        const struct ds_backend *backend;
        if (!any && !belongs(name, &sources[i])) continue;
        const ds_status status = backend_of(&sources[i], params->modules, &backend, err);
        if (!any) return status == DS_OK ? backend->create(name, params, out, err) : ds_fail_context(err, "device %s", name);
        if (status == DS_OK && create_best(backend, params, out, err) == DS_OK) return DS_OK;
    }
    char known[512];
    list_names(params->modules, known, sizeof known);
    return ds_fail(err, DS_ERROR_DEVICE, "there is no device \"%s\"; this build and machine have: %s", any ? "" : name, known);
}

void ds_device_destroy(struct ds_device *device) {
    if (device) device->fns->destroy(device);
}
