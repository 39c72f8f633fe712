/* Stretches of columns are shared out among threads. Meaning: ref/rnn_cell.c. */
#include "kernels.h"
#include "kernels/vec.h"

enum { STRETCH = 256 };

/* next may be the state: a stretch is computed into memory of its own, so that the loops may be vectorised. */
static void stretch(const float *gates, uint32_t size, const float *state, float *next, float *out, uint32_t n) {
    float kept[STRETCH], taken[STRETCH], turned[STRETCH];
    for (uint32_t i = 0; i < n; i++) kept[i] = ds_sigmoid(gates[i]);
    for (uint32_t i = 0; i < n; i++) taken[i] = ds_tanh(gates[size + i]);
    for (uint32_t i = 0; i < n; i++) turned[i] = ds_tanh(gates[2 * size + i]);
    for (uint32_t i = 0; i < n; i++) taken[i] = (1.0f - kept[i]) * taken[i];
    if (state) {
        for (uint32_t i = 0; i < n; i++) kept[i] = kept[i] * state[i];
    } else {
        for (uint32_t i = 0; i < n; i++) kept[i] = kept[i] * 0.0f; /* a NaN stays one */
    }
    for (uint32_t i = 0; i < n; i++) taken[i] = kept[i] + taken[i];
    memcpy(next, taken, n * sizeof(float));
    memcpy(out, turned, n * sizeof(float));
}

void DS_CPU_NAME(rnn_cell)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_rnn_cell *p = &params->rnn_cell;
    const uint32_t rows = ds_host_rows(&p->count, p->next.rows), size = p->next.cols, each = (size + STRETCH - 1) / STRETCH;
    uint64_t unit, end;
    ds_cpu_share(work, (uint64_t)rows * each, &unit, &end);
    for (; unit < end; unit++) {
        const uint32_t r = (uint32_t)(unit / each), first = (uint32_t)(unit % each) * STRETCH;
        const float *state = p->state.at.buffer ? (const float *)ds_host_row(&p->state, r) + first : NULL;
        stretch((const float *)ds_host_row(&p->gates, r) + first, size, state, (float *)ds_host_row(&p->next, r) + first,
                (float *)ds_host_row(&p->out, r) + first, DS_MIN(size - first, (uint32_t)STRETCH));
    }
}
