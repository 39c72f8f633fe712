#include "ops/module.h"

#include "base/os.h"
#include "dspark_build.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static ds_status use(const char *path, const struct ds_backend **out, struct ds_error *err) {
    struct ds_os_module *module;
    DS_TRY(ds_os_module_open(path, true, &module, err));
    uint64_t (*interface)(void);
    *(void **)(void *)&interface = ds_os_module_symbol(module, "ds_module_interface");
    const struct ds_backend *(*backend)(void);
    *(void **)(void *)&backend = ds_os_module_symbol(module, "ds_module_backend");
    const uint64_t expected = ds_module_hash(), found = interface ? interface() : 0;
    ds_os_module_close(module);
    if (!interface || !backend) return ds_fail(err, DS_ERROR_DEVICE, "'%s' is not a module of dspark", path);
    if (found != expected)
        return ds_fail(err, DS_ERROR_DEVICE,
                       "'%s' was built for another version of dspark (its interface is %016" PRIx64 ", expected %016" PRIx64
                       "): install the modules that came with this one",
                       path, found, expected);
    *out = backend();
    return DS_OK;
}

/* DS_ERROR_DEVICE with an empty message: there is no such file. */
static ds_status use_from(const char *folder, const char *name, const struct ds_backend **out, struct ds_error *err) {
    char file[64];
    snprintf(file, sizeof file, "dspark_%s.so", name);
    char *path = ds_os_join(folder, file);
    if (!path) return ds_fail_memory(err, sizeof file, "the path of a module");
    ds_status status = DS_ERROR_DEVICE;
    if (ds_os_path_kind(path) == DS_PATH_FILE) status = use(path, out, err);
    else err->message[0] = 0;
    free(path);
    return status;
}

ds_status ds_module_load(const char *folder, const char *name, const struct ds_backend **out, struct ds_error *err) {
    *out = NULL;
    char *own = folder ? NULL : ds_os_own_folder();
    const char *const folders[] = {folder ? folder : own, folder ? NULL : DS_MODULES_FOLDER};
    ds_status status = DS_ERROR_DEVICE;
    err->message[0] = 0;
    for (size_t i = 0; i < DS_COUNT(folders) && status != DS_OK && !err->message[0]; i++)
        if (folders[i] && *folders[i]) status = use_from(folders[i], name, out, err);
    if (status != DS_OK && !err->message[0])
        status = ds_fail(err, DS_ERROR_DEVICE, "there is no module dspark_%s.so in '%s'%s%s%s", name, folders[0] ? folders[0] : ".",
                         folders[1] && *folders[1] ? " or '" : "", folders[1] ? folders[1] : "", folders[1] && *folders[1] ? "'" : "");
    free(own);
    return status;
}
