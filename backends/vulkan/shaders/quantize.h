struct quantize_args {
    ds_address x, outputs, flags, count;
    uint32_t rows, groups, cols, x_stride;
    uint32_t pitch, scale_at, sum_at; /* bytes of a row of out, and within it; halves for bf16 */
};
