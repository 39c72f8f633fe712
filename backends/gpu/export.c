/* What a shared module shows of itself (ops/module.h). */
#include "gpu_names.h"

#include "ops/module.h"

extern const struct ds_backend DS_GPU_BACKEND;

DS_MODULE_EXPORT uint64_t ds_module_interface(void);
DS_MODULE_EXPORT uint64_t ds_module_interface(void) { return ds_module_hash(); }

DS_MODULE_EXPORT const struct ds_backend *ds_module_backend(void);
DS_MODULE_EXPORT const struct ds_backend *ds_module_backend(void) { return &DS_GPU_BACKEND; }
