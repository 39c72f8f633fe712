/* Shared modules, and where our own code lies. */
#include "base/posix/posix.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

struct ds_os_module {
    void *handle;
};

ds_status ds_os_module_open(const char *path, bool keep, struct ds_os_module **out, struct ds_error *err) {
    *out = NULL;
    struct ds_os_module *module = malloc(sizeof *module);
    if (!module) return ds_fail_memory(err, sizeof *module, "a module");
    module->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | (keep ? RTLD_NODELETE : 0));
    if (!module->handle) {
        free(module);
        const char *reason = dlerror();
        return ds_fail(err, DS_ERROR_IO, "cannot load module '%s': %s", path, reason ? reason : "unknown reason");
    }
    *out = module;
    return DS_OK;
}

void *ds_os_module_symbol(struct ds_os_module *module, const char *name) {
    return dlsym(module->handle, name);
}

void ds_os_module_close(struct ds_os_module *module) {
    if (!module) return;
    dlclose(module->handle);
    free(module);
}

char *ds_os_own_folder(void) {
    static const char here = 0; /* an address inside this library or program */
    Dl_info info;
    if (!dladdr(&here, &info) || !info.dli_fname) return NULL;
    char *path = realpath(info.dli_fname, NULL);
    char *const slash = path ? strrchr(path, '/') : NULL;
    if (slash) slash[slash == path] = 0;
    return path;
}
