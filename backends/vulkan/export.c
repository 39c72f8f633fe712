/* What the shared module shows of itself (ops/module.h). */
#include "ops/module.h"

extern const struct ds_backend ds_backend_vulkan;

DS_MODULE_EXPORT uint64_t ds_module_interface(void);
DS_MODULE_EXPORT uint64_t ds_module_interface(void) { return ds_module_hash(); }

DS_MODULE_EXPORT const struct ds_backend *ds_module_backend(void);
DS_MODULE_EXPORT const struct ds_backend *ds_module_backend(void) { return &ds_backend_vulkan; }
