struct scale_args {
    ds_address x, outputs, count;
    uint32_t rows, cols, x_stride, out_stride;
    float factor, softcap;
};
