/*
 * out = act(gate) * up, act one of SiLU, GELU (tanh form) and sigmoid of numerics.h.
 *
 * Fast kernels: every element is on its own.
 */
#include "ref/ref.h"

#include "ops/numerics.h"

static float activate(ds_activation activation, float x) {
    switch (activation) {
    case DS_ACT_SILU:
        return ds_silu(x);
    case DS_ACT_GELU_TANH:
        return ds_gelu(x);
    case DS_ACT_SIGMOID:
        break;
    }
    return ds_sigmoid(x);
}

ds_status ds_ref_glu(const struct ds_op_glu *p, struct ds_error *err) {
    (void)err;
    const uint32_t rows = ds_host_rows(&p->count, p->gate.rows);
    for (uint32_t r = 0; r < rows; r++) {
        const float *gate = ds_host_row(&p->gate, r), *up = ds_host_row(&p->up, r);
        float *out = ds_host_row(&p->out, r);
        for (uint32_t c = 0; c < p->gate.cols; c++) out[c] = activate(p->activation, gate[c]) * up[c];
    }
    return DS_OK;
}
