struct expert_sum_args {
    ds_address x, weights, y, residual, count;
    uint32_t rows, cols, slots, x_stride, weights_stride, y_stride, residual_stride;
};
