struct rms_norm_args {
    ds_address x, outputs, weight, residual, count;
    uint32_t rows, groups, dim, x_stride, out_stride, residual_stride;
    float eps;
};
