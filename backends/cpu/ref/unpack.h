/*
 * Block types as integers: what a linear with quantised weights computes with. Shared by the reference, by tests and by
 * the packing code of fast kernels.
 */
#ifndef DSPARK_CPU_REF_UNPACK_H
#define DSPARK_CPU_REF_UNPACK_H

#include "ckpt/blocks.h"
#include "ops/layout.h"

enum { DS_RUN_BLOCKS = DS_RUN / 32, DS_RUN_GROUPS = DS_RUN / 16 };

/*
 * One run of 256 inputs of one row (fewer at the end of a row of a 32-wide type). Input i belongs to group g = i / group:
 *     types of 256:  value = d * scale[g] * q[i] - dmin * minimum[g]
 *     types of 32:   value = block_d[g] * q[i] + block_m[g]
 */
struct ds_unpacked_run {
    uint32_t inputs;
    uint32_t group; /* inputs that share a scale: 16, or 32 */
    bool wide;      /* a type of 256 */
    int8_t q[DS_RUN];
    int16_t scale[DS_RUN_GROUPS], minimum[DS_RUN_GROUPS]; /* minimum 0 where the type has none */
    float d, dmin;
    float block_d[DS_RUN_BLOCKS], block_m[DS_RUN_BLOCKS];
};

/* Run `run` of a row of `cols` columns in file layout. `type` is a block type; `row` may be unaligned. */
void ds_unpack_run(ds_type type, const void *row, uint32_t cols, uint32_t run, struct ds_unpacked_run *out);

#endif
