/* Stretches of columns are shared out among threads. Meaning and order of sums: ref/expert_sum.c. */
#include "kernels.h"
#include "kernels/vec.h"

enum { STRETCH = 256 };

void DS_CPU_NAME(expert_sum)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_expert_sum *p = &params->expert_sum;
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows), cols = p->y.cols, each = (cols + STRETCH - 1) / STRETCH;
    uint64_t unit, end;
    ds_cpu_share(work, (uint64_t)rows * each, &unit, &end);
    for (; unit < end; unit++) {
        const uint32_t r = (uint32_t)(unit / each), first = (uint32_t)(unit % each) * STRETCH, n = DS_MIN(cols - first, (uint32_t)STRETCH);
        const float *x = (const float *)ds_host_row(&p->x, r) + first, *weights = ds_host_row(&p->weights, r);
        float sum[STRETCH] = {0};
        for (uint32_t s = 0; s < p->weights.cols; s++, x += cols)
            for (uint32_t i = 0; i < n; i++) sum[i] = sum[i] + weights[s] * x[i];
        if (p->residual.at.buffer) {
            const float *residual = (const float *)ds_host_row(&p->residual, r) + first;
            for (uint32_t i = 0; i < n; i++) sum[i] = sum[i] + residual[i];
        }
        memcpy((float *)ds_host_row(&p->y, r) + first, sum, n * sizeof(float));
    }
}
