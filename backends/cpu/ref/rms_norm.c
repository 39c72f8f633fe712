/*
 * For each group of `dim` columns:
 *     out[c] = (x[c] * r) * weight[c] (+ residual[c]),    r = 1 / sqrt(mean(x^2) + eps)
 *
 * The squares are summed by 32 lanes, lane l those of elements l, l + 32, ... ascending from +0, joined by the halving tree.
 *
 * Fast kernels: groups and rows in any order; lanes side by side. The order within a lane and the tree are fixed.
 */
#include "ref/ref.h"

#include "ops/numerics.h"

static void norm(const float *x, const float *weight, const float *residual, uint32_t dim, float eps, float *out) {
    float lanes[DS_LANES] = {0};
    for (uint32_t c = 0; c < dim; c++) lanes[c % DS_LANES] = lanes[c % DS_LANES] + x[c] * x[c];
    const float mean = ds_div(ds_ref_tree(lanes), (float)dim);
    const float r = ds_div(1.0f, ds_sqrt(mean + eps));
    for (uint32_t c = 0; c < dim; c++) {
        float scaled = x[c] * r;
        if (weight) scaled = scaled * weight[c];
        out[c] = residual ? scaled + residual[c] : scaled;
    }
}

ds_status ds_ref_rms_norm(const struct ds_op_rms_norm *p, struct ds_error *err) {
    (void)err;
    const float *weight = ds_host_at(&p->weight);
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows);
    for (uint32_t r = 0; r < rows; r++) {
        const float *x = ds_host_row(&p->x, r);
        const float *residual = p->residual.at.buffer ? ds_host_row(&p->residual, r) : NULL;
        float *out = ds_host_row(&p->out, r);
        for (uint32_t c = 0; c < p->x.cols; c += p->dim) norm(x + c, weight, residual ? residual + c : NULL, p->dim, p->eps, out + c);
    }
    return DS_OK;
}
