/* Groups of columns are shared out among threads. Meaning and order of sums: ref/rms_norm.c. */
#include "kernels.h"
#include "kernels/vec.h"

static float sum_of_squares(const float *x, uint32_t dim) {
    vf low = vf_zero(), high = vf_zero();
    uint32_t c = 0;
    for (; c + DS_LANES <= dim; c += DS_LANES) {
        const vf a = vf_load(x + c), b = vf_load(x + c + DS_WIDTH);
        low = vf_add(low, vf_mul(a, a));
        high = vf_add(high, vf_mul(b, b));
    }
    if (c < dim) { /* zeros add +0 to a lane that is not -0 */
        float rest[DS_LANES] = {0};
        memcpy(rest, x + c, (dim - c) * sizeof(float));
        const vf a = vf_load(rest), b = vf_load(rest + DS_WIDTH);
        low = vf_add(low, vf_mul(a, a));
        high = vf_add(high, vf_mul(b, b));
    }
    return vf_tree(low, high);
}

/* x or residual may be out. */
static void norm(const float *x, const float *weight, const float *residual, uint32_t dim, float eps, float *out) {
    const float mean = ds_div(sum_of_squares(x, dim), (float)dim);
    const float r = ds_div(1.0f, ds_sqrt(mean + eps));
    if (residual) {
        for (uint32_t c = 0; c < dim; c++) {
            const float scaled = x[c] * r;
            out[c] = (weight ? scaled * weight[c] : scaled) + residual[c];
        }
    } else if (weight) {
        for (uint32_t c = 0; c < dim; c++) out[c] = (x[c] * r) * weight[c];
    } else {
        for (uint32_t c = 0; c < dim; c++) out[c] = x[c] * r;
    }
}

void DS_CPU_NAME(rms_norm)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_rms_norm *p = &params->rms_norm;
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows), groups = p->x.cols / p->dim;
    uint64_t unit, end;
    ds_cpu_share(work, (uint64_t)rows * groups, &unit, &end);
    for (; unit < end; unit++) {
        const uint32_t r = (uint32_t)(unit / groups);
        const size_t c = (size_t)(unit % groups) * p->dim;
        const float *residual = p->residual.at.buffer ? (const float *)ds_host_row(&p->residual, r) + c : NULL;
        norm((const float *)ds_host_row(&p->x, r) + c, ds_host_at(&p->weight), residual, p->dim, p->eps, (float *)ds_host_row(&p->out, r) + c);
    }
}
