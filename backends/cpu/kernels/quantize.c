/* Runs of 256 columns are shared out among threads. Meaning: ref/quantize.c. */
#include "kernels.h"
#include "kernels/vec.h"

/* Magnitudes compare like their bits; anything from infinity's up is not finite. */
static int32_t largest_magnitude(const float *x, uint32_t n) {
    int32_t largest = 0;
    for (uint32_t i = 0; i < n; i++) {
        const int32_t magnitude = ds_abs_bits(x[i]);
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

static bool run_to_bf16(const float *x, uint32_t n, uint16_t *out) {
    for (uint32_t i = 0; i < n; i++) out[i] = (uint16_t)ds_bf16_activation(x[i]);
    return largest_magnitude(x, n) < (int32_t)DS_NUM_INF;
}

/*
 * ds_quant for values that cannot exceed amax: the product is within 127 and a rounding, so the addition that rounds it to
 * an integer needs no care for large values.
 */
DS_INLINE void quantize_block(const float *x, const int n, float pre, float inverse, int8_t *q, int16_t *sums) {
    for (int i = 0; i < n; i++) {
        const float rounded = x[i] * pre * inverse + DS_NUM_ROUND;
        int32_t value = (int32_t)(ds_bits(rounded) - DS_NUM_ROUND_BITS);
        value = value > 127 ? 127 : value;
        q[i] = (int8_t)(value < -127 ? -127 : value);
    }
    for (int g = 0; g < n / DS_SUM_GROUP; g++) {
        int32_t sum = 0;
        for (int i = 0; i < DS_SUM_GROUP; i++) sum += q[g * DS_SUM_GROUP + i];
        sums[g] = (int16_t)sum;
    }
}

/* `n` values that share a scale. False when one is not finite. */
DS_INLINE bool block_to_q8(const float *x, const int n, int8_t *q, float *d, int16_t *sums) {
    const int32_t largest = largest_magnitude(x, (uint32_t)n);
    const float amax = largest < (int32_t)DS_NUM_INF ? ds_float((uint32_t)largest) : 0.0f;
    *d = ds_quant_scale(amax);
    if (amax > 0) {
        quantize_block(x, n, ds_quant_pre(amax), ds_quant_inverse(amax), q, sums);
    } else {
        memset(q, 0, (size_t)n);
        memset(sums, 0, (size_t)n / DS_SUM_GROUP * sizeof *sums);
    }
    return largest < (int32_t)DS_NUM_INF;
}

/* One run, padded with zeros if it is the last of a row. */
static bool run_to_q8(const float *x, uint32_t n, const ds_elem elem, int8_t *q, float *d, int16_t *sums) {
    float padded[DS_RUN];
    if (n < DS_RUN) {
        memset(padded, 0, sizeof padded);
        memcpy(padded, x, n * sizeof(float));
        x = padded;
    }
    if (elem == DS_ELEM_Q8) return block_to_q8(x, DS_RUN, q, d, sums);
    bool finite = true;
    for (int b = 0; b < DS_RUN / DS_Q8_BLOCK; b++)
        finite &= block_to_q8(x + b * DS_Q8_BLOCK, DS_Q8_BLOCK, q + b * DS_Q8_BLOCK, d + b, sums + b * (DS_Q8_BLOCK / DS_SUM_GROUP));
    return finite;
}

/* One run of one group of a row. False when a value is not finite. */
static bool run_of_row(const struct ds_op_quantize *p, uint32_t r, uint32_t group, uint32_t run) {
    const uint32_t first = run * DS_RUN, cols = p->out.cols, n = DS_MIN(cols - first, (uint32_t)DS_RUN);
    const float *x = (const float *)ds_host_row(&p->x, r) + (size_t)group * cols + first;
    uint8_t *out = ds_host_row(&p->out, r * DS_MAX(p->groups, 1) + group);
    if (p->out.elem == DS_ELEM_BF16) return run_to_bf16(x, n, (uint16_t *)(void *)out + first);

    const bool narrow = p->out.elem == DS_ELEM_Q8_32;
    const uint32_t sum_offset = narrow ? ds_q8_32_sum_offset(cols) : ds_q8_sum_offset(cols);
    if (first + n == cols) { /* the last run: with it what rounds the row up */
        const uint32_t used = sum_offset + ds_q8_padded(cols) / DS_SUM_GROUP * 2;
        memset(out + used, 0, ds_view_pitch(&p->out) - used);
    }
    float *d = (float *)(void *)(out + ds_q8_scale_offset(cols)); /* the same for both */
    int16_t *sums = (int16_t *)(void *)(out + sum_offset);
    return run_to_q8(x, n, p->out.elem, (int8_t *)out + first, d + first / (narrow ? DS_Q8_BLOCK : DS_RUN), sums + first / DS_SUM_GROUP);
}

void DS_CPU_NAME(quantize)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_quantize *p = &params->quantize;
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows), groups = DS_MAX(p->groups, 1), runs = (p->out.cols + DS_RUN - 1) / DS_RUN;
    uint32_t *flags = ds_host_at(&p->flags);
    uint64_t unit, end;
    ds_cpu_share(work, (uint64_t)rows * groups * runs, &unit, &end);
    for (; unit < end; unit++) {
        const uint32_t r = (uint32_t)(unit / runs / groups);
        if (!run_of_row(p, r, (uint32_t)(unit / runs % groups), (uint32_t)(unit % runs)) && flags)
            __atomic_fetch_or(&flags[r], (uint32_t)DS_FLAG_ACTIVATION, __ATOMIC_RELAXED); /* threads may share a row */
    }
}
