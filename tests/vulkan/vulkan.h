/* What the tests of the Vulkan module's host side share: its counters and injected failures, and a pair of models of a few kilobytes. */
#ifndef DSPARK_TESTS_VULKAN_H
#define DSPARK_TESTS_VULKAN_H

#include "../unit/small_work.h"
#include "../unit/tiny_pair.h"
#include "device.h"
#include "engine/engine_internal.h"

/* Exported by testing.c. */
static struct {
    void (*fail_at)(uint64_t call, int result);
    void (*fail_next)(struct ds_device *device, uint64_t call, int result);
    uint64_t (*calls)(const struct ds_device *device);
    struct ds_vk_counts (*counts)(const struct ds_device *device);
    int64_t (*alive)(void);
    void (*fail_allocation)(uint64_t call, int result);
    void (*fail_next_allocation)(struct ds_device *device, uint64_t call, int result);
    uint64_t (*allocating_calls)(const struct ds_device *device);
} vulkan;

/* Exit status 77, which skips all, where there is no device. */
static inline int vulkan_begin(void **state) {
    struct ds_os_module *module;
    struct ds_error err;
    const char *names[32];
    bool found = false;
    const uint32_t count = DS_MIN(ds_device_names(VULKAN_FOLDER, names, DS_COUNT(names)), (uint32_t)DS_COUNT(names));
    for (uint32_t i = 0; i < count; i++) found |= strcmp(names[i], "vulkan:0") == 0;
    if (!found) {
        puts("1..0 # SKIP no Vulkan device: install mesa-vulkan-drivers for one in software");
        exit(77);
    }
    char *path = ds_os_join(VULKAN_FOLDER, "dspark_vulkan.so");
    check_ok(ds_os_module_open(path, true, &module, &err), &err); /* stays open: the functions are its own */
    free(path);
    *(void **)(void *)&vulkan.fail_at = module_symbol(module, "ds_vk_fail_at");
    *(void **)(void *)&vulkan.fail_next = module_symbol(module, "ds_vk_fail_next");
    *(void **)(void *)&vulkan.calls = module_symbol(module, "ds_vk_calls");
    *(void **)(void *)&vulkan.counts = module_symbol(module, "ds_vk_get_counts");
    *(void **)(void *)&vulkan.alive = module_symbol(module, "ds_vk_alive");
    *(void **)(void *)&vulkan.fail_allocation = module_symbol(module, "ds_vk_fail_allocation");
    *(void **)(void *)&vulkan.fail_next_allocation = module_symbol(module, "ds_vk_fail_next_allocation");
    *(void **)(void *)&vulkan.allocating_calls = module_symbol(module, "ds_vk_allocating_calls");
    return write_models(state);
}

/* --- engines --- */

struct vulkan_engine {
    const char *device, *draft_device; /* draft_device NULL: the target's */
    bool alone;                        /* no drafter */
    bool widened;                      /* weights as f32 */
    const char *cache;
    uint32_t sessions, rows, context;  /* 0: 1; 8; 256 */
};

static inline ds_engine_params engine_params(const struct vulkan_engine *e) {
    ds_engine_params params = ds_engine_defaults();
    params.target = target_folder;
    params.drafter = e->alone ? NULL : drafter_folder;
    params.device = e->device ? e->device : "vulkan:0";
    params.draft_device = e->draft_device;
    params.modules = VULKAN_FOLDER;
    params.cache = e->cache;
    params.threads = 1;
    params.weights = e->widened ? DS_WEIGHTS_F32 : DS_WEIGHTS_FILE;
    params.context = e->context ? e->context : 256;
    params.max_rows = e->rows ? e->rows : 8;
    params.max_sessions = e->sessions;
    params.log_level = DS_LOG_ERROR;
    return params;
}

static inline ds_status try_to_open(const struct vulkan_engine *e, ds_engine **out, struct ds_error *err) {
    const ds_engine_params params = engine_params(e);
    DS_TRY(ds_engine_open(&params, out, err));
    const ds_status status = ds_engine_prepare(*out, NULL, NULL, err);
    if (status != DS_OK) {
        ds_engine_destroy(*out);
        *out = NULL;
    }
    return status;
}

static inline ds_engine *open_engine(const struct vulkan_engine *e) {
    ds_engine *engine;
    struct ds_error err;
    check_ok(try_to_open(e, &engine, &err), &err);
    return engine;
}

static const ds_token tiny_prompt[] = {3, 17, 42, 5, 61};

/* `length`: drafts that are verified; 0: no speculation. */
static inline ds_session *open_session(ds_engine *engine, float temperature, uint32_t length) {
    ds_session_params params = ds_session_defaults();
    params.sampling = (ds_sampling){.temperature = temperature, .seed = 3};
    params.ignore_stop = true;
    params.spec = length ? DS_SPEC_FIXED : DS_SPEC_OFF;
    params.spec_length = length;
    ds_session *session;
    struct ds_error err;
    check_ok(ds_session_create(engine, &params, &session, &err), &err);
    check_ok(ds_session_append(session, tiny_prompt, DS_COUNT(tiny_prompt), &err), &err);
    return session;
}

enum { TINY_LENGTH = 40 };

/* The first TINY_LENGTH tokens behind the prompt. */
static inline void tokens_of(const struct vulkan_engine *e, float temperature, uint32_t length, ds_token out[TINY_LENGTH]) {
    struct ds_error err;
    ds_engine *engine = open_engine(e);
    ds_session *session = open_session(engine, temperature, length);
    check_ok(ds_session_generate(session, TINY_LENGTH, NULL, NULL, NULL, &err), &err);
    memcpy(out, ds_session_tokens(session) + DS_COUNT(tiny_prompt), TINY_LENGTH * sizeof *out);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

static inline void check_same_tokens(const ds_token a[TINY_LENGTH], const ds_token b[TINY_LENGTH], const char *what) {
    for (uint32_t i = 0; i < TINY_LENGTH; i++)
        if (a[i] != b[i]) fail_msg("%s: token %u is %d, expected %d", what, i, (int)a[i], (int)b[i]);
}

#endif
