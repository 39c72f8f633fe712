/* Units of the grid (grid.h) are shared out among threads. Meaning: ref/glu.c. */
#include "kernels.h"
#include "grid.h"
#include "kernels/vec.h"

enum { STRETCH = DS_RUN };

/* out may be gate or up: a stretch is computed into memory of its own, so that the loops may be vectorised. */
static void stretch(ds_activation activation, const float *gate, const float *up, float *out, uint32_t n) {
    float open[STRETCH];
    if (activation == DS_ACT_SILU) {
        for (uint32_t i = 0; i < n; i++) open[i] = ds_silu(gate[i]);
    } else if (activation == DS_ACT_GELU_TANH) {
        for (uint32_t i = 0; i < n; i++) open[i] = ds_gelu(gate[i]);
    } else {
        for (uint32_t i = 0; i < n; i++) open[i] = ds_sigmoid(gate[i]);
    }
    for (uint32_t i = 0; i < n; i++) open[i] = open[i] * up[i];
    memcpy(out, open, n * sizeof(float));
}

void DS_CPU_NAME(glu)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_glu *p = &params->glu;
    const struct ds_cpu_grid grid = ds_cpu_grid_of_runs(&p->gate);
    uint64_t unit, end;
    ds_cpu_share(work, (uint64_t)ds_host_rows(&p->count, p->gate.rows) * grid.units, &unit, &end);
    for (; unit < end; unit++) {
        const uint32_t r = ds_cpu_grid_row(grid, unit), first = ds_cpu_grid_column(grid, unit);
        stretch(p->activation, (const float *)ds_host_row(&p->gate, r) + first, (const float *)ds_host_row(&p->up, r) + first,
                (float *)ds_host_row(&p->out, r) + first, DS_MIN(p->gate.cols - first, (uint32_t)STRETCH));
    }
}
