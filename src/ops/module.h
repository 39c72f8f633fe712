/*
 * Backends in shared modules: dspark_NAME.so, loaded at run time, so that one program starts on machines with and without their
 * drivers. A module exports
 *
 *     uint64_t ds_module_interface(void)          ds_module_hash() as the module was compiled
 *     const struct ds_backend *ds_module_backend(void)
 *
 * and is used only if the first equals our own: the ops in their order, every parameter struct's size, the device interface's
 * version and the constants of layout.h are then the same on both sides.
 *
 * Modules are looked for beside the library (or the program it is linked into) and in the folder that was compiled in; in a folder
 * that the caller names, and then nowhere else. A module once used stays mapped until the process ends: drivers start threads
 * of their own, and devices' names are handed out.
 */
#ifndef DSPARK_OPS_MODULE_H
#define DSPARK_OPS_MODULE_H

#include "ops/device.h"

#if defined(__GNUC__)
#define DS_MODULE_EXPORT __attribute__((visibility("default")))
#else
#define DS_MODULE_EXPORT
#endif

#define DS_MODULE_MIX(hash, word) (((hash) ^ (uint64_t)(word)) * UINT64_C(0x100000001b3))

/* FNV-1a over what both sides of a module must agree on. */
static inline uint64_t ds_module_hash(void) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
#define DS_OP(name, text)                                                                          \
    for (const char *letter = #name; *letter; letter++) hash = DS_MODULE_MIX(hash, *letter);       \
    hash = DS_MODULE_MIX(hash, sizeof(struct ds_op_##name));
#include "ops/ops.def"
#undef DS_OP
    const uint64_t facts[] = {
        DS_DEVICE_VERSION, sizeof(struct ds_device_fns), sizeof(struct ds_device_limits), sizeof(struct ds_device_params),
        sizeof(struct ds_graph_node), sizeof(struct ds_sample_row), sizeof(struct ds_error), sizeof(struct ds_buffer), sizeof(struct ds_backend),
        DS_RUN, DS_LANES, DS_PAGE, DS_CHUNK, DS_SUM_GROUP, DS_ALIGN, DS_WEIGHT_ROWS, DS_TYPE_COUNT,
    };
    for (size_t i = 0; i < DS_COUNT(facts); i++) hash = DS_MODULE_MIX(hash, facts[i]);
    return hash;
}

/*
 * The backend of module dspark_NAME.so. DS_ERROR_DEVICE when there is none or it does not fit, saying where it was looked for.
 * NULL folder: beside the library, then the compiled-in one. Thread-safe; keeps nothing but the mapping.
 */
ds_status ds_module_load(const char *folder, const char *name, const struct ds_backend **out, struct ds_error *err);

#endif
