/*
 * The reference: every op as one plain scalar function. It *is* the meaning of the op (docs/numerics.md); every other
 * kernel gives the same bits. Written to be read, not to be fast.
 *
 * Parameters have passed ds_op_check and lie in host memory. The caller has set rounding and denormals
 * (ds_os_float_begin). Functions keep no state and may run on any thread; those that need scratch memory fail with
 * DS_ERROR_MEMORY without it.
 */
#ifndef DSPARK_CPU_REF_REF_H
#define DSPARK_CPU_REF_REF_H

#include "host_device.h"

#define DS_OP(name, text) ds_status ds_ref_##name(const struct ds_op_##name *p, struct ds_error *err);
#include "ops/ops.def"
#undef DS_OP

/* The parts of a fused op (ds_op_parts), one after the other. */
ds_status ds_ref_parts(ds_op op, const union ds_op_params *params, struct ds_error *err);

/* The halving tree that ends a row reduction: lane i += lane i + 16, then + 8, 4, 2, 1. Destroys the lanes. */
static inline float ds_ref_tree(float lanes[DS_LANES]) {
    for (int half = DS_LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] = lanes[i] + lanes[i + half];
    return lanes[0];
}

#endif
