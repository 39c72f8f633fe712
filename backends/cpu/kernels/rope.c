/* Heads are shared out among threads. Meaning: ref/rope.c. */
#include "kernels.h"
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
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows), heads = p->x.cols / p->head_dim, half = p->n_rot / 2;
    const int32_t *positions = ds_host_at(&p->positions);
    const float *cosines = ds_host_at(&p->cos), *sines = ds_host_at(&p->sin);
    uint64_t unit, end;
    ds_cpu_share(work, (uint64_t)rows * heads, &unit, &end);
    for (; unit < end; unit++) {
        const uint32_t r = (uint32_t)(unit / heads);
        if (positions[r] < 0) continue;
        const size_t at = (size_t)positions[r] * half;
        float *x = (float *)ds_host_row(&p->x, r) + (unit % heads) * p->head_dim;
        if (p->neox) rotate_halves(x, x + half, cosines + at, sines + at, half);
        else rotate_neighbours(x, cosines + at, sines + at, half);
    }
}
