struct attention_args {
    ds_address q, outputs, keys, values, page_table, row_sequence, positions, visible, count;
    uint32_t rows, q_stride, out_stride, kv_heads;
    uint32_t queries, pages_per_sequence, window; /* query heads a kv head */
    float scale, softcap;
};
