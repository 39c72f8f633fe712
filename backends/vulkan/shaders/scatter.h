struct scatter_args {
    ds_address x, ids, outputs, count;
    uint32_t rows, cols, out_cols, x_stride, out_stride;
    float fill;
};
