/*
 * Searching a scale for one group. Squared error as a function of the scale is jagged: every candidate is a different
 * rounding of the elements to levels, for which the best scale is known in closed form; the best of all candidates is then
 * improved by rounding and fitting in turn until nothing changes.
 */
#include "ckpt/quantize_fit.h"

enum { TURNS = 2 };
static const float smallest = 1e-30f; /* below it nothing of a group survives in f16 scales */

/* --- scale alone --- */

/* What a scale fitted to these sums takes off the squared error. */
static double gain(struct ds_fit fit) { return fit.qq > 0 ? fit.qx * fit.qx / fit.qq : 0; }

static float extreme(const float *x, int n) {
    float value = 0;
    for (int i = 0; i < n; i++)
        if (ds_abs(x[i]) > ds_abs(value)) value = x[i];
    return value;
}

float ds_fit_scale(const float *x, int n, struct ds_levels levels) {
    const float largest = extreme(x, n);
    if (ds_abs(largest) < smallest) return 0;
    struct ds_fit best = {0};
    /* From the largest element a whole level outside the range to half a level inside. */
    for (int step = -8; step <= 10; step += 2) {
        const struct ds_rounding r = {(levels.low + 0.1f * (float)step) / largest, 0};
        const struct ds_fit fit = ds_fit_sums(x, n, r, levels);
        if (gain(fit) > gain(best)) best = fit;
    }
    if (!(gain(best) > 0)) return largest / levels.low;
    for (int turn = 0; turn < TURNS; turn++) {
        const struct ds_fit fit = ds_fit_sums(x, n, ds_rounding_of((float)(best.qx / best.qq), 0), levels);
        if (!(gain(fit) > gain(best))) break;
        best = fit;
    }
    return (float)(best.qx / best.qq);
}

/* --- scale and offset --- */

struct moments {
    double n, x, xx;
};

struct candidate {
    double scale, offset, error;
};

static struct candidate fit_levels(struct ds_fit f, struct moments m) {
    struct candidate c = {0};
    const double determinant = m.n * f.qq - f.q * f.q;
    if (determinant > 0) {
        c.scale = (m.n * f.qx - f.q * m.x) / determinant;
        c.offset = (c.scale * f.q - m.x) / m.n;
    } else {
        c.offset = -m.x / m.n;
    }
    if (!(c.offset >= 0)) { /* the format has none below zero */
        c.offset = 0;
        c.scale = f.qq > 0 ? f.qx / f.qq : 0;
    }
    c.error = m.xx - 2 * c.scale * f.qx + c.scale * c.scale * f.qq + 2 * c.offset * m.x - 2 * c.scale * c.offset * f.q + m.n * c.offset * c.offset;
    return c;
}

struct ds_affine ds_fit_affine(const float *x, int n, struct ds_levels levels) {
    float low = 0, high = x[0]; /* zero is within the range of an offset that is not negative */
    struct moments m = {.n = n};
    for (int i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        m.x += (double)x[i];
        m.xx += (double)x[i] * (double)x[i];
    }
    const float range = high - low;
    if (!(range > smallest)) return (struct ds_affine){0, low < -smallest ? -low : 0};
    struct candidate best = {range / levels.high, -low, m.xx};
    for (int step = -8; step <= 4; step += 2) {
        const float inverse = (levels.high + 0.15f * (float)step) / range;
        const struct candidate c = fit_levels(ds_fit_sums(x, n, (struct ds_rounding){inverse, -low * inverse}, levels), m);
        if (c.error < best.error && c.scale > 0) best = c;
    }
    for (int turn = 0; turn < TURNS; turn++) {
        const struct candidate c = fit_levels(ds_fit_sums(x, n, ds_rounding_of((float)best.scale, (float)best.offset), levels), m);
        if (!(c.error < best.error && c.scale > 0)) break;
        best = c;
    }
    return (struct ds_affine){(float)best.scale, (float)best.offset};
}
