/*
 * y[r, c] = (sum over slots s, ascending from +0, of weights[r, s] * x[r, s * cols + c]) + residual[r, c]: multiply, then add. The
 * slots of a row are in the order of their experts' ids (route.c).
 *
 * Fast kernels: every element is on its own.
 */
#include "ref/ref.h"

#include "ops/numerics.h"

ds_status ds_ref_expert_sum(const struct ds_op_expert_sum *p, struct ds_error *err) {
    (void)err;
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows), cols = p->y.cols;
    for (uint32_t r = 0; r < rows; r++) {
        const float *x = ds_host_row(&p->x, r), *weights = ds_host_row(&p->weights, r);
        const float *residual = p->residual.at.buffer ? ds_host_row(&p->residual, r) : NULL;
        float *y = ds_host_row(&p->y, r);
        for (uint32_t c = 0; c < cols; c++) {
            float sum = 0;
            for (uint32_t s = 0; s < p->weights.cols; s++) sum = sum + weights[s] * x[(size_t)s * cols + c];
            y[c] = residual ? sum + residual[c] : sum;
        }
    }
    return DS_OK;
}
