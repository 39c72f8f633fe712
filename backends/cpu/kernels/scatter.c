/* Stretches of the output's columns are shared out among threads; each looks through all ids. Meaning: ref/scatter.c. */
#include "kernels.h"
#include "kernels/vec.h"

void DS_CPU_NAME(scatter)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_scatter *p = &params->scatter;
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows);
    const int32_t *ids = ds_host_at(&p->ids);
    uint64_t first, end;
    ds_cpu_share(work, p->out.cols, &first, &end);
    for (uint32_t r = 0; r < rows && first < end; r++) {
        const float *x = ds_host_row(&p->x, r);
        float *out = ds_host_row(&p->out, r);
        for (uint64_t c = first; c < end; c++) out[c] = p->fill;
        for (uint32_t c = 0; c < p->x.cols; c++)
            if ((uint64_t)ids[c] >= first && (uint64_t)ids[c] < end) out[ids[c]] = x[c];
    }
}
