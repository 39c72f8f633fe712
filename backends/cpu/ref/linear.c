/*
 * y[r, o] = ((sum over inputs i of x[r, i] * w[o, i]) + bias[o]) + residual[r, o], absent terms left out.
 *
 * The inputs are summed in runs of 256: each run on its own, then the runs' sums ascending, both from +0. What a run is:
 *
 *   F32, F16    x in f32; x * w, then added, ascending.
 *   BF16        x in bf16; the same. Products are exact (weight_write bounds the weights as quantize does x), so fused or not.
 *   blocks of 256   isum = sum over groups of scale * (sum of q_w * q_x),  msum = sum over groups of minimum * (sum of q_x),
 *                   int32;  run = (d * d_x) * f32(isum) - (dmin * d_x) * f32(msum)
 *   blocks of 32    S = sum over blocks, ascending, of t = f32(sum of q_w * q_x) * d_w + f32(sum of q_x) * m_w;  run = d_x * S
 *   Q8_0            x has a scale for each block (DS_ELEM_Q8_32):  run = sum over blocks, ascending, of f32(sum of q_w * q_x) * (d_w * d_x)
 *
 * Types without a minimum have dmin = 0 or m_w = 0: the same formulas, since x - 0 = x and a zero's sign is lost in the sum.
 *
 * Fast kernels: integer sums in any order; rows, outputs and runs in any order and on any lane, as long as the runs' sums are
 * added ascending. The sums of 16 q_x are stored beside them (layout.h).
 */
#include "ref/ref.h"
#include "ref/unpack.h"

#include "ops/numerics.h"

#include <stdlib.h>

/* --- float types --- */

static float dot_f32(const float *w, const float *x, uint32_t n) {
    float acc = 0;
    for (uint32_t start = 0; start < n; start += DS_RUN) {
        const uint32_t end = DS_MIN(start + DS_RUN, n);
        float run = 0;
        for (uint32_t i = start; i < end; i++) run = run + x[i] * w[i];
        acc = acc + run;
    }
    return acc;
}

static float dot_bf16(const float *w, const uint16_t *x, uint32_t n) {
    float acc = 0;
    for (uint32_t start = 0; start < n; start += DS_RUN) {
        const uint32_t end = DS_MIN(start + DS_RUN, n);
        float run = 0;
        for (uint32_t i = start; i < end; i++) run = run + ds_bf16_to_f32(x[i]) * w[i];
        acc = acc + run;
    }
    return acc;
}

/* --- block types --- */

/* sum of q_w * q_x and sum of q_x over one group */
static int32_t group_dot(const int8_t *w, const int8_t *x, uint32_t n, int32_t *x_sum) {
    int32_t dot = 0, sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        dot += w[i] * x[i];
        sum += x[i];
    }
    *x_sum = sum;
    return dot;
}

static float run_of_256(const struct ds_unpacked_run *w, const int8_t *q, float d) {
    int32_t isum = 0, msum = 0;
    for (uint32_t g = 0; g < w->inputs / w->group; g++) {
        int32_t x_sum;
        isum += w->scale[g] * group_dot(w->q + g * w->group, q + g * w->group, w->group, &x_sum);
        msum += w->minimum[g] * x_sum;
    }
    return (w->d * d) * (float)isum - (w->dmin * d) * (float)msum;
}

static float run_of_32s(const struct ds_unpacked_run *w, const int8_t *q, float d) {
    float sum = 0;
    for (uint32_t b = 0; b < w->inputs / 32; b++) {
        int32_t x_sum;
        const int32_t dot = group_dot(w->q + b * 32, q + b * 32, 32, &x_sum);
        const float t = (float)dot * w->block_d[b] + (float)x_sum * w->block_m[b];
        sum = sum + t;
    }
    return d * sum;
}

/* d has a scale for each block. */
static float run_of_scaled_32s(const struct ds_unpacked_run *w, const int8_t *q, const float *d) {
    float sum = 0;
    for (uint32_t b = 0; b < w->inputs / 32; b++) {
        int32_t x_sum;
        const int32_t dot = group_dot(w->q + b * 32, q + b * 32, 32, &x_sum);
        sum = sum + (float)dot * (w->block_d[b] * d[b]);
    }
    return sum;
}

static float dot_q8(const struct ds_unpacked_run *w, const uint8_t *x, uint32_t n) {
    const int8_t *q = (const int8_t *)x;
    const float *d = (const float *)(const void *)(x + ds_q8_scale_offset(n));
    float acc = 0;
    for (uint32_t start = 0, run = 0; start < n; start += DS_RUN, run++) {
        const float sum = w[run].wide ? run_of_256(&w[run], q + start, d[run]) : run_of_32s(&w[run], q + start, d[run]);
        acc = acc + sum;
    }
    return acc;
}

static float dot_q8_32(const struct ds_unpacked_run *w, const uint8_t *x, uint32_t n) {
    const float *d = (const float *)(const void *)(x + ds_q8_32_scale_offset(n));
    float acc = 0;
    for (uint32_t start = 0; start < n; start += DS_RUN)
        acc = acc + run_of_scaled_32s(&w[start / DS_RUN], (const int8_t *)x + start, d + start / DS_Q8_BLOCK);
    return acc;
}

/* --- the op --- */

/* One row of weights, made ready for the dot products with every row of x. */
union row_of_weights {
    float *values;
    struct ds_unpacked_run *runs;
};

static void prepare(const struct ds_weight *weight, uint32_t output, union row_of_weights w) {
    uint64_t row_bytes = 0;
    (void)ds_type_size(weight->type, 1, weight->cols, &row_bytes);
    const uint8_t *row = (const uint8_t *)ds_host_at(&weight->at) + output * row_bytes;
    if (ds_elem_is_q8(ds_linear_input(weight->type))) {
        for (uint32_t run = 0; run * DS_RUN < weight->cols; run++)
            ds_unpack_run(weight->type, row, weight->cols, run, &w.runs[run]);
    } else {
        ds_dequantize_row(weight->type, row, weight->cols, w.values);
    }
}

static float dot(const struct ds_op_linear *p, union row_of_weights w, uint32_t r) {
    const void *x = ds_host_row(&p->x, r);
    switch (p->x.elem) {
    case DS_ELEM_F32:
        return dot_f32(w.values, x, p->x.cols);
    case DS_ELEM_BF16:
        return dot_bf16(w.values, x, p->x.cols);
    case DS_ELEM_Q8_32:
        return dot_q8_32(w.runs, x, p->x.cols);
    default:
        return dot_q8(w.runs, x, p->x.cols);
    }
}

ds_status ds_ref_linear(const struct ds_op_linear *p, struct ds_error *err) {
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows);
    const float *bias = ds_host_at(&p->bias);
    const bool blocks = ds_elem_is_q8(p->x.elem);
    const size_t scratch =
        blocks ? ds_q8_padded(p->x.cols) / DS_RUN * sizeof(struct ds_unpacked_run) : p->x.cols * sizeof(float);
    void *memory = malloc(scratch);
    if (!memory) return ds_fail_memory(err, scratch, "a row of weights");
    const union row_of_weights w = blocks ? (union row_of_weights){.runs = memory} : (union row_of_weights){.values = memory};

    for (uint32_t o = 0; o < p->weight.rows && rows > 0; o++) {
        prepare(&p->weight, o, w);
        for (uint32_t r = 0; r < rows; r++) {
            float sum = dot(p, w, r);
            if (bias) sum = sum + bias[o];
            if (p->residual.at.buffer) sum = sum + ((const float *)ds_host_row(&p->residual, r))[o];
            ((float *)ds_host_row(&p->y, r))[o] = sum;
        }
    }
    free(memory);
    return DS_OK;
}
