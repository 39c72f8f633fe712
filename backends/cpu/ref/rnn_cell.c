/*
 * gates = [gate | candidate | output], s = sigmoid(gate):
 *
 *   next = (s * state) + ((1 - s) * tanh(candidate)),   out = tanh(output)
 *
 * each product, difference and sum rounded; an absent state is +0. sigmoid and tanh are those of numerics.h.
 *
 * Fast kernels: every element is on its own.
 */
#include "ref/ref.h"

#include "ops/numerics.h"

ds_status ds_ref_rnn_cell(const struct ds_op_rnn_cell *p, struct ds_error *err) {
    (void)err;
    const uint32_t rows = ds_host_rows(&p->count, p->next.rows), size = p->next.cols;
    for (uint32_t r = 0; r < rows; r++) {
        const float *gates = ds_host_row(&p->gates, r), *state = p->state.at.buffer ? ds_host_row(&p->state, r) : NULL;
        float *next = ds_host_row(&p->next, r), *out = ds_host_row(&p->out, r);
        for (uint32_t c = 0; c < size; c++) {
            const float s = ds_sigmoid(gates[c]), kept = s * (state ? state[c] : 0.0f), taken = (1.0f - s) * ds_tanh(gates[size + c]);
            next[c] = kept + taken;
            out[c] = ds_tanh(gates[2 * size + c]);
        }
    }
    return DS_OK;
}
