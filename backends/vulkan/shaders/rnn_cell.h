struct rnn_cell_args {
    ds_address gates, state, next, outputs, count;
    uint32_t rows, size, gates_stride, state_stride, next_stride, out_stride;
};
