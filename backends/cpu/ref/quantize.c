/*
 * Activations in the form that linears read.
 *
 * BF16: each value on its own, ds_bf16_activation(x). A value that is not finite raises the row's flag.
 * Q8:   per block of 256 (Q8_32: of 32), with amax = max |x|:  d = amax / 127,  q = nearest even of x * (127 / amax)   (numerics.h),
 *       s = sums of 16 q. A block whose amax is 0 gives zeros; one that holds an infinity or a NaN too, and raises the flag.
 *       Columns beyond `cols` and the bytes that round a row up to DS_ALIGN are zeros, scales of blocks beyond them too.
 * Group g of row r is row r * groups + g of the result.
 *
 * Fast kernels: max and integer sums in any order; blocks and rows in any order.
 */
#include "ref/ref.h"

#include "ops/numerics.h"

#include <string.h>

/* False when a value is not finite. */
static bool to_bf16(const float *x, uint32_t n, uint16_t *out) {
    bool finite = true;
    for (uint32_t i = 0; i < n; i++) {
        finite = finite && ds_is_finite(x[i]);
        out[i] = (uint16_t)ds_bf16_activation(x[i]);
    }
    return finite;
}

static bool block_to_q8(const float *x, uint32_t n, int8_t *q, float *d, int16_t *sums) {
    float amax = 0;
    bool finite = true;
    for (uint32_t i = 0; i < n; i++) {
        finite = finite && ds_is_finite(x[i]);
        amax = ds_max(amax, ds_abs(x[i]));
    }
    if (!finite) amax = 0; /* the block becomes zeros */
    const float pre = ds_quant_pre(amax), inverse = ds_quant_inverse(amax);
    *d = ds_quant_scale(amax);
    for (uint32_t i = 0; i < n && amax > 0; i++) {
        q[i] = (int8_t)ds_quant(x[i], pre, inverse);
        sums[i / DS_SUM_GROUP] = (int16_t)(sums[i / DS_SUM_GROUP] + q[i]);
    }
    return finite;
}

static bool to_q8(const float *x, uint32_t cols, ds_elem elem, uint8_t *out) {
    const bool narrow = elem == DS_ELEM_Q8_32;
    const uint32_t block = narrow ? DS_Q8_BLOCK : DS_RUN;
    memset(out, 0, narrow ? ds_q8_32_row_bytes(cols) : ds_q8_row_bytes(cols));
    int8_t *q = (int8_t *)out;
    float *d = (float *)(void *)(out + ds_q8_scale_offset(cols)); /* the same for both */
    int16_t *sums = (int16_t *)(void *)(out + (narrow ? ds_q8_32_sum_offset(cols) : ds_q8_sum_offset(cols)));
    bool finite = true;
    for (uint32_t c = 0; c < cols; c += block)
        finite = block_to_q8(x + c, DS_MIN(cols - c, block), q + c, d + c / block, sums + c / DS_SUM_GROUP) && finite;
    return finite;
}

ds_status ds_ref_quantize(const struct ds_op_quantize *p, struct ds_error *err) {
    (void)err;
    uint32_t *flags = ds_host_at(&p->flags);
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows), groups = DS_MAX(p->groups, 1), cols = p->out.cols;
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t g = 0; g < groups; g++) {
            const float *x = (const float *)ds_host_row(&p->x, r) + (size_t)g * cols;
            void *out = ds_host_row(&p->out, r * groups + g);
            const bool finite = ds_elem_is_q8(p->out.elem) ? to_q8(x, cols, p->out.elem, out) : to_bf16(x, cols, out);
            if (!finite && flags) flags[r] |= DS_FLAG_ACTIVATION;
        }
    }
    return DS_OK;
}
