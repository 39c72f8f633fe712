struct glu_args {
    ds_address gate, up, outputs, count;
    uint32_t rows, cols, gate_stride, up_stride, out_stride;
};
