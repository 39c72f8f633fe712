/*
 * For each head, the first n_rot columns in pairs (a, b): columns (i, i + n_rot / 2) if neox, else (2i, 2i + 1):
 *     (a, b) <- (a * cos - b * sin, b * cos + a * sin),    cos, sin = tables[position][i]
 * each product rounded, then the sum. Rows of position -1 stay as they are.
 *
 * Fast kernels: every pair is on its own.
 */
#include "ref/ref.h"

ds_status ds_ref_rope(const struct ds_op_rope *p, struct ds_error *err) {
    (void)err;
    const int32_t *positions = ds_host_at(&p->positions);
    const uint32_t half = p->n_rot / 2, rows = ds_host_rows(&p->count, p->x.rows);
    for (uint32_t r = 0; r < rows; r++) {
        if (positions[r] < 0) continue;
        float *x = ds_host_row(&p->x, r);
        const float *cosine = (const float *)ds_host_at(&p->cos) + (size_t)positions[r] * half;
        const float *sine = (const float *)ds_host_at(&p->sin) + (size_t)positions[r] * half;
        for (uint32_t head = 0; head < p->x.cols; head += p->head_dim) {
            for (uint32_t i = 0; i < half; i++) {
                float *first = x + head + (p->neox ? i : 2 * i), *second = p->neox ? first + half : first + 1;
                const float a = *first, b = *second;
                *first = a * cosine[i] - b * sine[i];
                *second = b * cosine[i] + a * sine[i];
            }
        }
    }
    return DS_OK;
}
