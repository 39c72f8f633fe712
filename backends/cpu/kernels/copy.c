/* Rows are shared out among threads. Meaning: ref/copy.c. */
#include "kernels.h"

#include <string.h>

void DS_CPU_NAME(copy)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_copy *p = &params->copy;
    const int32_t *index = ds_host_at(&p->index);
    uint64_t row, end;
    ds_cpu_share(work, ds_host_rows(&p->count, p->out.rows), &row, &end);
    for (; row < end; row++) {
        const uint32_t r = (uint32_t)row;
        memcpy(ds_host_row(&p->out, r), ds_host_row(&p->x, index ? (uint32_t)index[r] : r), (size_t)p->x.cols * 4);
    }
}
