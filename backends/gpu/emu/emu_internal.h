/* Inside gpu/emu. */
#ifndef DSPARK_GPU_EMU_INTERNAL_H
#define DSPARK_GPU_EMU_INTERNAL_H

#include "emu.h"

#include <stdbool.h>

/* Memory that ends at a page which may not be touched, and starts behind one. */
struct emu_guarded {
    unsigned char *data;
    void *pages;
    size_t mapped;
};
bool emu_guarded_create(struct emu_guarded *out, size_t bytes);
void emu_guarded_destroy(struct emu_guarded *guarded);

/* Runs a grid now. */
gpuError_t ds_emu_run(const struct emu_launch *launch);

#endif
