struct copy_args {
    ds_address x, outputs, index, count;
    uint32_t rows, cols, x_stride, out_stride;
};
