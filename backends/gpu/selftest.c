#include "device.h"
#include "probe.h"

#include "base/os.h"

#include <stdio.h>
#include <string.h>

enum { PRODUCT_WORDS = 16 * 8, WORDS = DS_PROBES + PRODUCT_WORDS };

/* What the device must answer. */
static void expect(uint32_t words[WORDS]) {
    const struct ds_float_state state = ds_os_float_begin();
    for (uint32_t i = 0; i < DS_PROBES; i++) words[i] = ds_probe(i);
    ds_os_float_restore(state);
    for (uint32_t row = 0; row < 16; row++) {
        for (uint32_t col = 0; col < 8; col++) {
            int32_t sum = 0;
            for (uint32_t k = 0; k < 32; k++) sum += ds_probe_byte(0, row * 32 + k) * ds_probe_byte(1, k * 8 + col);
            words[DS_PROBES + row * 8 + col] = (uint32_t)sum;
        }
    }
}

static const char *kind_of(uint32_t word) {
    static const char *const kinds[DS_PROBE_KINDS] = {
        "a product", "a sum", "a difference", "a product and a sum (contracted?)", "a quotient", "a square root", "exp", "log", "silu",
        "a conversion to 16 bits", "a conversion to an integer", "a conversion from an integer",
    };
    return word < DS_PROBES ? kinds[word / DS_PROBE_VALUES] : "an int8 matrix product";
}

static gpuError_t ask(struct ds_gpu_device *device, void *data, uint32_t words[WORDS]) {
    const struct ds_gpu_launch launch = ds_gpu_launch_on(device, device->own, NULL);
    gpuError_t error = gpuMemsetAsync(data, 0, WORDS * sizeof *words, device->own);
    if (error == gpuSuccess) error = device->kernels->probe(&launch, data, WORDS);
    if (error == gpuSuccess) error = gpuMemcpyAsync(words, data, WORDS * sizeof *words, gpuDeviceToHost, device->own);
    return error == gpuSuccess ? gpuStreamSynchronize(device->own) : error;
}

ds_status ds_gpu_self_test(struct ds_gpu_device *device, struct ds_error *err) {
    uint32_t expected[WORDS], found[WORDS];
    void *data = NULL;
    expect(expected);
    gpuError_t error = gpuMalloc(&data, sizeof found);
    if (error == gpuSuccess) error = ask(device, data, found);
    gpuFree(data);
    if (error != gpuSuccess) return ds_gpu_fail(device, error, "the self-test", sizeof found, err);
    for (uint32_t i = 0; i < WORDS; i++) {
        if (expected[i] == found[i]) continue;
        snprintf(device->note, sizeof device->note, "%s gives 0x%08x, expected 0x%08x", kind_of(i), found[i], expected[i]);
        break;
    }
    return DS_OK;
}
