struct heads_args {
    ds_address q, k, v, q_norm, k_norm, cosines, sines, keys, values, page_table, row_sequence, positions, count;
    uint32_t q_stride, k_stride, v_stride, heads; /* heads: of q in the lower 16 bits, of k in the upper ones */
    uint32_t pages_per_sequence;
    float eps;
}; /* rows are those of the grid: these are 128 bytes already */
