struct adjust_args {
    ds_address x, outputs, how, history, drafted, bias_ids, bias_values, count;
    uint32_t rows, cols, x_stride, out_stride, history_stride, ids_stride, values_stride;
};
