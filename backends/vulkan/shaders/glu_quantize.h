struct glu_quantize_args {
    ds_address gate, up, gated, outputs, flags, count;
    uint32_t rows, groups, cols, gate_stride, up_stride, gated_stride;
    uint32_t pitch, scale_at, sum_at; /* as in quantize.h */
};
