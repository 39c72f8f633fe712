#include "device.h"
#include "ops/op.h"
#include "shaders/probe.h"

#include "backends/gpu/probe.h"

#include "base/os.h"

#include <stdio.h>

extern const struct ds_vk_code ds_vk_code_probe;

enum { DOTS = 64, WORDS = DS_PROBES + DOTS, THREADS = 64 };

/* What the device must answer. */
static void expect(uint32_t words[WORDS]) {
    const struct ds_float_state state = ds_os_float_begin();
    for (uint32_t i = 0; i < DS_PROBES; i++) words[i] = ds_probe(i);
    ds_os_float_restore(state);
    for (uint32_t i = DS_PROBES; i < WORDS; i++) {
        int32_t sum = 0;
        for (uint32_t k = 0; k < 4; k++) sum += ds_probe_byte(0, i * 4 + k) * ds_probe_byte(1, i * 4 + k);
        words[i] = (uint32_t)sum;
    }
}

static const char *kind_of(uint32_t word) {
    static const char *const kinds[DS_PROBE_KINDS] = {
        "a product", "a sum", "a difference", "a product and a sum (contracted?)", "a quotient", "a square root", "exp", "log", "silu",
        "a conversion to 16 bits", "a conversion to an integer", "a conversion from an integer",
    };
    return word < DS_PROBES ? kinds[word / DS_PROBE_VALUES] : "an integer dot product";
}

static ds_status ask(struct ds_vk_device *device, struct ds_buffer *buffer, uint32_t words[WORDS], struct ds_error *err) {
    struct ds_vk_recorder *recorder;
    DS_TRY(ds_vk_stream_recorder(device->own, &recorder, err));
    const struct ds_slice at = {buffer, 0};
    ds_vk_touch(recorder, &at, WORDS * sizeof *words, true); /* outside of graphs' operands: the read must know of it */
    const struct probe_args args = {.answers = ds_vk_at(recorder, 0, at), .words = WORDS};
    DS_TRY(DS_VK_RUN(recorder, probe, args, ds_vk_blocks(WORDS, THREADS), 1, 1, err, 0));
    return ds_vk_read(device->own, at, words, WORDS * sizeof *words, err);
}

ds_status ds_vk_self_test(struct ds_vk_device *device, struct ds_error *err) {
    uint32_t expected[WORDS], found[WORDS];
    struct ds_buffer *buffer;
    expect(expected);
    if (device->options.no_exact) expected[0] ^= 1;
    DS_TRY(ds_vk_buffer_create(&device->base, sizeof found, &buffer, err));
    const ds_status status = ask(device, buffer, found, err);
    ds_vk_buffer_destroy(buffer);
    DS_TRY(status);
    for (uint32_t i = 0; i < WORDS; i++) {
        if (expected[i] == found[i]) continue;
        snprintf(device->note, sizeof device->note, "%s gives 0x%08x, expected 0x%08x", kind_of(i), found[i], expected[i]);
        break;
    }
    return DS_OK;
}
