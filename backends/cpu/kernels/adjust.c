/* A thread takes a stretch of the vocabulary of every row, and counts the history's tokens that lie in it. Meaning: ref/adjust.c. */
#include "kernels.h"
#include "kernels/vec.h"

static float clamped(float x) { return ds_max(-DS_NUM_LARGEST, ds_min(DS_NUM_LARGEST, x)); }

struct stretch {
    uint32_t first, end;
    uint32_t *counts; /* [end - first], all 0 between rows */
};

/* The history of a row, position by position; the caller compares with its stretch. */
static uint32_t token_at(const struct ds_op_adjust *p, const struct ds_adjust_row *row, uint32_t position) {
    if (position < row->drafted_from) return (uint32_t)((const int32_t *)ds_host_row(&p->history, (uint32_t)row->sequence))[position];
    return (uint32_t)((const int32_t *)ds_host_at(&p->drafted))[row->drafted_at + (size_t)(position - row->drafted_from) * row->drafted_stride];
}

static bool holds(const struct stretch *s, uint32_t token) { return token >= s->first && token < s->end; }

static void penalise(const struct ds_op_adjust *p, const struct ds_adjust_row *row, const struct stretch *s, float *out) {
    for (uint32_t position = row->first; position < row->end; position++) {
        const uint32_t token = token_at(p, row, position);
        if (holds(s, token)) s->counts[token - s->first]++;
    }
    for (uint32_t position = row->first; position < row->end; position++) {
        const uint32_t token = token_at(p, row, position);
        if (!holds(s, token)) continue;
        const uint32_t count = s->counts[token - s->first];
        s->counts[token - s->first] = 0; /* once for each token */
        const float x = out[token];
        if (count == 0 || !ds_is_finite(x)) continue;
        const float scaled = x > 0 ? ds_div(x, row->repetition) : x * row->repetition;
        const float often = (float)(int32_t)count * row->frequency;
        out[token] = clamped((scaled - row->presence) - often);
    }
}

static void adjust(const struct ds_op_adjust *p, uint32_t r, const struct ds_adjust_row *row, const struct stretch *s) {
    const float *x = ds_host_row(&p->x, r);
    float *out = ds_host_row(&p->out, r);
    if (out != x) memcpy(out + s->first, x + s->first, (s->end - s->first) * sizeof *out);
    if (row->sequence < 0) return;
    penalise(p, row, s, out);
    const int32_t *ids = ds_host_row(&p->bias_ids, (uint32_t)row->sequence);
    const float *biases = ds_host_row(&p->bias_values, (uint32_t)row->sequence);
    for (uint32_t i = 0; i < row->biases; i++)
        if (holds(s, (uint32_t)ids[i]) && ds_is_finite(out[ids[i]])) out[ids[i]] = clamped(out[ids[i]] + biases[i]);
}

void DS_CPU_NAME(adjust)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_adjust *p = &params->adjust;
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows);
    const struct ds_adjust_row *how = ds_host_at(&p->rows);
    uint64_t first, end;
    ds_cpu_share(work, p->x.cols, &first, &end);
    const struct stretch stretch = {(uint32_t)first, (uint32_t)end, (uint32_t *)(void *)work->scratch};
    memset(stretch.counts, 0, (end - first) * sizeof *stretch.counts);
    for (uint32_t r = 0; r < rows; r++) adjust(p, r, &how[r], &stretch);
}
