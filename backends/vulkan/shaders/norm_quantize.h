struct norm_quantize_args {
    ds_address x, weight, normed, outputs, flags, count;
    uint32_t rows, groups, cols, x_stride, normed_stride; /* groups: 1 */
    uint32_t pitch, scale_at, sum_at;                     /* as in quantize.h */
    float eps;
};
