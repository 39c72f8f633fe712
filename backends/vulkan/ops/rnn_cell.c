#include "op.h"

#include "../shaders/rnn_cell.h"

extern const struct ds_vk_code ds_vk_code_rnn_cell;

ds_status ds_vk_op_rnn_cell(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_rnn_cell *p = &params->rnn_cell;
    const struct rnn_cell_args args = {
        .gates = ds_vk_rows(r, 0, &p->gates), .state = ds_vk_rows(r, 1, &p->state), .next = ds_vk_rows(r, 2, &p->next),
        .outputs = ds_vk_rows(r, 3, &p->out), .count = ds_vk_at(r, 4, p->count), .rows = p->next.rows, .size = p->next.cols,
        .gates_stride = p->gates.stride, .state_stride = p->state.stride, .next_stride = p->next.stride, .out_stride = p->out.stride,
    };
    return DS_VK_RUN(r, rnn_cell, args, ds_vk_blocks(args.size, DS_VK_THREADS), args.rows, 1, err, 0);
}
