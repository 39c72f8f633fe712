/*
 * Storing floats as blocks: the other way round than ds_dequantize_row.
 *
 * Every block is chosen to have a small squared error after it is widened again, by a search over scales (docs/formats.md).
 * The result is a function of the row alone: the same bits whatever the threads, the instruction set or the compiler.
 */
#ifndef DSPARK_CKPT_QUANTIZE_H
#define DSPARK_CKPT_QUANTIZE_H

#include "ckpt/blocks.h"

/* True for F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K, Q6_K: what ds_quantize_row can make. */
bool ds_type_is_writable(ds_type type);

/*
 * One row of `cols` finite elements (whole blocks) into dst, which has room for ds_type_size(type, 1, cols) bytes. Floats are
 * rounded to the nearest even; what is too large for F16 becomes its largest value (see ds_row_fits). Thread-safe.
 */
void ds_quantize_row(ds_type type, const float *src, uint64_t cols, void *dst);

/*
 * Whether the row can be stored as `type` without something quite different coming out: all elements finite (F32 and BF16
 * hold the others, too) and, for F16, at most 65504. Else *bad is the first element that cannot.
 */
bool ds_row_fits(ds_type type, const float *src, uint64_t cols, uint64_t *bad);

#endif
