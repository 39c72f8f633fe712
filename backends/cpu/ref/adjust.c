/*
 * Penalties and biases of single tokens: ops.h has the formula. v = (penalised x - presence) - f32(c) * frequency, every operation rounded
 * on its own; then clamped; then v + bias, clamped.
 */
#include "ref/ref.h"

#include "ops/numerics.h"

#include <stdlib.h>

static float clamped(float x) { return ds_max(-DS_NUM_LARGEST, ds_min(DS_NUM_LARGEST, x)); }

/* The token at `position`, -1 where it is none of the vocabulary. */
static int32_t token_at(const struct ds_op_adjust *p, const struct ds_adjust_row *row, uint32_t position) {
    int32_t token;
    if (position < row->drafted_from) {
        token = ((const int32_t *)ds_host_row(&p->history, (uint32_t)row->sequence))[position];
    } else {
        const int32_t *drafted = ds_host_at(&p->drafted);
        token = drafted[row->drafted_at + (size_t)(position - row->drafted_from) * row->drafted_stride];
    }
    return token >= 0 && (uint32_t)token < p->x.cols ? token : -1;
}

static float penalised(float x, uint32_t count, const struct ds_adjust_row *row) {
    const float scaled = x > 0 ? ds_div(x, row->repetition) : x * row->repetition;
    const float often = (float)(int32_t)count * row->frequency;
    return clamped((scaled - row->presence) - often);
}

static void adjust(const struct ds_op_adjust *p, uint32_t r, const struct ds_adjust_row *row, uint32_t *counts) {
    const uint32_t n = p->x.cols;
    const float *x = ds_host_row(&p->x, r);
    float *out = ds_host_row(&p->out, r);
    for (uint32_t i = 0; i < n; i++) {
        out[i] = x[i];
        counts[i] = 0;
    }
    if (row->sequence < 0) return;
    for (uint32_t position = row->first; position < row->end; position++) {
        const int32_t token = token_at(p, row, position);
        if (token >= 0) counts[token]++;
    }
    for (uint32_t i = 0; i < n; i++)
        if (counts[i] > 0 && ds_is_finite(out[i])) out[i] = penalised(out[i], counts[i], row);
    const int32_t *ids = ds_host_row(&p->bias_ids, (uint32_t)row->sequence);
    const float *biases = ds_host_row(&p->bias_values, (uint32_t)row->sequence);
    for (uint32_t i = 0; i < row->biases; i++)
        if (ids[i] >= 0 && (uint32_t)ids[i] < n && ds_is_finite(out[ids[i]])) out[ids[i]] = clamped(out[ids[i]] + biases[i]);
}

ds_status ds_ref_adjust(const struct ds_op_adjust *p, struct ds_error *err) {
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows);
    const struct ds_adjust_row *how = ds_host_at(&p->rows);
    uint32_t *counts = malloc(p->x.cols * sizeof *counts);
    if (!counts) return ds_fail_memory(err, p->x.cols * sizeof *counts, "the counts of a row's tokens");
    for (uint32_t r = 0; r < rows; r++) adjust(p, r, &how[r], counts);
    free(counts);
    return DS_OK;
}
