/* Heads, the units of the grid (grid.h), are shared out among threads. Meaning: ref/rope.c. */
#include "kernels.h"
#include "grid.h"
#include "kernels/vec.h"

static void rotate_halves(float *restrict first, float *restrict second, const float *restrict cosine, const float *restrict sine,
                          uint32_t half) {
    for (uint32_t i = 0; i < half; i++) {
        const float a = first[i], b = second[i];
        first[i] = a * cosine[i] - b * sine[i];
        second[i] = b * cosine[i] + a * sine[i];
    }
}

static void rotate_neighbours(float *restrict x, const float *restrict cosine, const float *restrict sine, uint32_t half) {
    for (uint32_t i = 0; i < half; i++) {
        const float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cosine[i] - b * sine[i];
        x[2 * i + 1] = b * cosine[i] + a * sine[i];
    }
}

void DS_CPU_NAME(rope)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_rope *p = &params->rope;
    const struct ds_cpu_grid grid = ds_cpu_grid_of_groups(&p->x, p->head_dim);
    const uint32_t half = p->n_rot / 2;
    const int32_t *positions = ds_host_at(&p->positions);
    const float *cosines = ds_host_at(&p->cos), *sines = ds_host_at(&p->sin);
    uint64_t unit, end;
    ds_cpu_share(work, (uint64_t)ds_host_rows(&p->count, p->x.rows) * grid.units, &unit, &end);
    for (; unit < end; unit++) {
        const uint32_t r = ds_cpu_grid_row(grid, unit);
        if (positions[r] < 0) continue;
        const size_t at = (size_t)positions[r] * half;
        float *x = (float *)ds_host_row(&p->x, r) + ds_cpu_grid_column(grid, unit);
        if (p->neox) rotate_halves(x, x + half, cosines + at, sines + at, half);
        else rotate_neighbours(x, cosines + at, sines + at, half);
    }
}
