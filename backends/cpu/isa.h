/* The instruction sets that this build has kernels for, and which of them this processor and its system can run. */
#ifndef DSPARK_CPU_ISA_H
#define DSPARK_CPU_ISA_H

#include "kernels.h"

struct ds_cpu_isa {
    const char *name;  /* "avx2": as ds_device_params.cpu_isa and --isa take it */
    const char *label; /* "AVX2": for people */
    const struct ds_cpu_kernels *kernels;
};

/* By name, NULL being the best one. DS_ERROR_ARGUMENT for one that is unknown or cannot run here, listing those that can. */
ds_status ds_cpu_isa_find(const char *name, const struct ds_cpu_isa **out, struct ds_error *err);

/* The processor's own name ("Intel(R) Xeon(R) ..."), or "" where it does not say. */
void ds_cpu_brand(char *out, size_t capacity);

#endif
