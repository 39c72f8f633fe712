/* A module as an older dspark would have made it. */
#include <stdint.h>

__attribute__((visibility("default"))) uint64_t ds_module_interface(void);
__attribute__((visibility("default"))) uint64_t ds_module_interface(void) { return 1; }
__attribute__((visibility("default"))) const void *ds_module_backend(void);
__attribute__((visibility("default"))) const void *ds_module_backend(void) { return (const void *)(uintptr_t)1; /* must not be used */ }
