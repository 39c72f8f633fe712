/*
 * out = x * scale; with a soft-cap c:  out = c * tanh(out / c)   (ds_softcap of numerics.h).
 *
 * Fast kernels: every element is on its own.
 */
#include "ref/ref.h"

#include "ops/numerics.h"

ds_status ds_ref_scale(const struct ds_op_scale *p, struct ds_error *err) {
    (void)err;
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows);
    for (uint32_t r = 0; r < rows; r++) {
        const float *x = ds_host_row(&p->x, r);
        float *out = ds_host_row(&p->out, r);
        for (uint32_t c = 0; c < p->x.cols; c++) {
            const float scaled = x[c] * p->scale;
            out[c] = p->softcap > 0 ? ds_softcap(scaled, p->softcap) : scaled;
        }
    }
    return DS_OK;
}
