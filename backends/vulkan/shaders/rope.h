struct rope_args {
    ds_address x, cosines, sines, positions, count;
    uint32_t rows, heads, head_dim, half_rot, neox, stride;
};
