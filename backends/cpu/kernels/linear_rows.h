/*
 * Activations made ready for the dot products of a linear, once for all tiles of a thread: what kernels without an exact u8 x s8 dot
 * would otherwise work out again for every tile. One piece of memory for each row and run of 256, in the thread's scratch.
 */
#ifndef DSPARK_CPU_LINEAR_ROWS_H
#define DSPARK_CPU_LINEAR_ROWS_H

#include "ckpt/blocks.h"
#include "ops/layout.h"

#include <stdbool.h>

enum {
    DS_LINEAR_ROWS = 64,             /* rows that reading and unpacking a weight is spread over */
    DS_PREPARED_SMALL = 64,          /* bytes of a row's run */
    DS_PREPARED_WIDE = 2 * DS_RUN + 64
};

/* Weights that use all 8 bits once they are unpacked. */
static inline bool ds_linear_wide(ds_type type) {
    return type == DS_TYPE_Q8_0 || type == DS_TYPE_IQ4_NL || type == DS_TYPE_IQ4_XS || type == DS_TYPE_MXFP4;
}

/* How many products of narrower weights kernels/chain.h adds up in an int16. */
static inline int ds_linear_chain(ds_type type) {
    return type == DS_TYPE_Q4_0 || type == DS_TYPE_Q4_1 || type == DS_TYPE_Q5_0 || type == DS_TYPE_Q4_K ? 8 : 4;
}

/* Bytes for `rows` rows of `cols` inputs; the same for every instruction set. */
static inline uint64_t ds_linear_prepared_bytes(ds_type type, uint32_t rows, uint32_t cols) {
    const uint64_t n = rows < DS_LINEAR_ROWS ? rows : DS_LINEAR_ROWS;
    if (type == DS_TYPE_F32 || type == DS_TYPE_F16) return 0;
    if (type == DS_TYPE_BF16) return n * cols * sizeof(float);
    return n * (ds_q8_padded(cols) / DS_RUN) * (uint64_t)(ds_linear_wide(type) ? DS_PREPARED_WIDE : DS_PREPARED_SMALL);
}

#endif
