/* The emulator's module, loaded by a test that asks it for failures or counts. */
#ifndef DSPARK_TESTS_GPU_EMULATOR_H
#define DSPARK_TESTS_GPU_EMULATOR_H

#include "../unit/small_work.h"
#include "base/os.h"
#include "gpu_names.h"

static struct {
    void (*fail_at)(uint64_t n);
    void (*lose_at)(uint64_t n);
    void (*spoil)(uint64_t word);
    void (*pretend)(enum ds_emu_machine machine);
    uint64_t (*calls)(void);
    struct ds_emu_counts (*counts)(void);
} emulator;

static int load_emulator(void **state) {
    (void)state;
    struct ds_os_module *module;
    struct ds_error err;
    char *path = ds_os_join(EMULATOR_FOLDER, "dspark_emu.so");
    check_ok(ds_os_module_open(path, true, &module, &err), &err);
    *(void **)(void *)&emulator.fail_at = module_symbol(module, "ds_emu_fail_at");
    *(void **)(void *)&emulator.lose_at = module_symbol(module, "ds_emu_lose_at");
    *(void **)(void *)&emulator.spoil = module_symbol(module, "ds_emu_spoil");
    *(void **)(void *)&emulator.pretend = module_symbol(module, "ds_emu_pretend");
    *(void **)(void *)&emulator.calls = module_symbol(module, "ds_emu_calls");
    *(void **)(void *)&emulator.counts = module_symbol(module, "ds_emu_counts");
    ds_os_module_close(module);
    free(path);
    return 0;
}

#endif
