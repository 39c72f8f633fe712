/*
 * What this machine can do at most, measured: the limits that `dspark bench` and tests/bench compare kernels with. A linear can be
 * no faster than its weights can be read from memory, nor than its products can be made by the arithmetic it uses.
 */
#ifndef DSPARK_CPU_ROOFLINE_H
#define DSPARK_CPU_ROOFLINE_H

#include "ops/ops.h"

struct ds_cpu_roofline {
    const char *isa;                /* of the arithmetic: "avx512vnni" */
    double read;                    /* bytes a second from memory, all threads, over a buffer larger than the caches */
    double macs[DS_TYPE_COUNT];     /* products a second, all threads, of linears with weights of this type; 0: there are none */
};

/*
 * threads and isa as in struct ds_device_params. The best of several tries of each, about half a second together; needs 512 MiB of
 * memory while it runs. Nothing else should run meanwhile. DS_ERROR_MEMORY, DS_ERROR_ARGUMENT for an unknown isa.
 */
ds_status ds_cpu_roofline_measure(unsigned threads, const char *isa, struct ds_cpu_roofline *out, struct ds_error *err);

#endif
