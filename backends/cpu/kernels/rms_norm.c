/* Units of the grid (grid.h) are shared out among threads. Meaning and order of sums: ref/rms_norm.c. */
#include "kernels.h"
#include "grid.h"
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

static float factor_of(const float *x, uint32_t dim, float eps) {
    const float mean = ds_div(sum_of_squares(x, dim), (float)dim);
    return ds_div(1.0f, ds_sqrt(mean + eps));
}

/* A stretch of a row. x or residual may be out; weight and residual may be NULL. */
struct stretch {
    const float *x, *weight, *residual;
    float *out;
    uint32_t n;
};

static void finish(const struct stretch *s, float r) {
    const vf factor = vf_set1(r);
    uint32_t c = 0;
    for (; c + DS_WIDTH <= s->n; c += DS_WIDTH) {
        vf y = vf_mul(vf_load(s->x + c), factor);
        if (s->weight) y = vf_mul(y, vf_load(s->weight + c));
        if (s->residual) y = vf_add(y, vf_load(s->residual + c));
        vf_store(s->out + c, y);
    }
    for (; c < s->n; c++) {
        float y = s->x[c] * r;
        if (s->weight) y = y * s->weight[c];
        s->out[c] = s->residual ? y + s->residual[c] : y;
    }
}

void DS_CPU_NAME(rms_norm)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_rms_norm *p = &params->rms_norm;
    const struct ds_cpu_grid grid = ds_cpu_norm_grid(p);
    const bool by_runs = ds_cpu_norm_by_runs(p);
    const float *weight = ds_host_at(&p->weight);
    uint32_t summed = UINT32_MAX; /* the row that `factor` belongs to */
    float factor = 0;
    uint64_t unit, end;
    ds_cpu_share(work, (uint64_t)ds_host_rows(&p->count, p->x.rows) * grid.units, &unit, &end);
    for (; unit < end; unit++) {
        const uint32_t r = ds_cpu_grid_row(grid, unit), c = ds_cpu_grid_column(grid, unit);
        const float *x = ds_host_row(&p->x, r);
        const struct stretch stretch = {.x = x + c, .weight = by_runs && weight ? weight + c : weight, .n = by_runs ? DS_MIN(grid.width, p->dim - c) : p->dim,
                                        .residual = p->residual.at.buffer ? (const float *)ds_host_row(&p->residual, r) + c : NULL,
                                        .out = (float *)ds_host_row(&p->out, r) + c};
        if (!by_runs) factor = factor_of(x + c, p->dim, p->eps);
        else if (summed != r) factor = factor_of(x, p->dim, p->eps);
        summed = r;
        finish(&stretch, factor);
    }
}
