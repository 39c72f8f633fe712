/*
 * out[r, ids[c]] = x[r, c]; every other column of out is `fill`.
 *
 * Fast kernels: every element is on its own.
 */
#include "ref/ref.h"

ds_status ds_ref_scatter(const struct ds_op_scatter *p, struct ds_error *err) {
    (void)err;
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows);
    const int32_t *ids = ds_host_at(&p->ids);
    for (uint32_t r = 0; r < rows; r++) {
        const float *x = ds_host_row(&p->x, r);
        float *out = ds_host_row(&p->out, r);
        for (uint32_t c = 0; c < p->out.cols; c++) out[c] = p->fill;
        for (uint32_t c = 0; c < p->x.cols; c++) out[ids[c]] = x[c];
    }
    return DS_OK;
}
