/* Inside src/ops: what an op touches, operand by operand. The part of ds_op_check that is about places works on these. */
#ifndef DSPARK_OPS_EXTENTS_H
#define DSPARK_OPS_EXTENTS_H

#include "ops/ops.h"

/* An operand that is present, and how far it reaches. */
struct ds_extent {
    const char *name;
    const struct ds_slice *slice; /* within the op's parameters */
    ds_access access;
    uint32_t alignment; /* of the offset, bytes */
    bool in_place;      /* an input that may be the very same view as an output */
    uint64_t rows;      /* `row_bytes` touched in each, `pitch` bytes apart */
    uint64_t row_bytes, pitch;
    uint64_t bytes;
};

struct ds_extents {
    uint32_t count;
    struct ds_extent list[DS_MAX_OPERANDS];
};

void ds_op_extents(ds_op op, const union ds_op_params *params, struct ds_extents *out);

#endif
