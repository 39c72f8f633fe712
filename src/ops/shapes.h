/* Inside src/ops: the part of ds_op_check that is about shapes. */
#ifndef DSPARK_OPS_SHAPES_H
#define DSPARK_OPS_SHAPES_H

#include "ops/ops.h"

/* Larger extents are refused, so that products of two of them and an element size need no further thought. */
enum { DS_MAX_EXTENT = 1 << 30 };

/*
 * Presence, element types, shapes and scalars of an op's parameters. DS_ERROR_ARGUMENT, or DS_ERROR_UNSUPPORTED for a matrix
 * that its device cannot hold.
 */
ds_status ds_op_check_shapes(ds_op op, const union ds_op_params *params, struct ds_error *err);

/* What a matrix takes on its device; as it is stored in a file where the device is not known yet. 0: it cannot be. */
uint64_t ds_weight_bytes(const struct ds_weight *weight);

#endif
