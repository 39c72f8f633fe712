/* Stretches of columns are shared out among threads. Meaning: ref/scale.c. */
#include "kernels.h"
#include "kernels/vec.h"

enum { STRETCH = 256 };

void DS_CPU_NAME(scale)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_scale *p = &params->scale;
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows), cols = p->x.cols, each = (cols + STRETCH - 1) / STRETCH;
    uint64_t unit, end;
    ds_cpu_share(work, (uint64_t)rows * each, &unit, &end);
    for (; unit < end; unit++) {
        const uint32_t r = (uint32_t)(unit / each), first = (uint32_t)(unit % each) * STRETCH, n = DS_MIN(cols - first, (uint32_t)STRETCH);
        const float *x = (const float *)ds_host_row(&p->x, r) + first;
        float scaled[STRETCH]; /* x may be out: with memory of its own the loops are vectorised */
        for (uint32_t i = 0; i < n; i++) scaled[i] = x[i] * p->scale;
        if (p->softcap > 0)
            for (uint32_t i = 0; i < n; i++) scaled[i] = ds_softcap(scaled[i], p->softcap);
        memcpy((float *)ds_host_row(&p->out, r) + first, scaled, n * sizeof(float));
    }
}
