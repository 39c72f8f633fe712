struct kv_store_args {
    ds_address k, v, keys, values, page_table, row_sequence, positions, count;
    uint32_t rows, cols, k_stride, v_stride;
    uint32_t kv_heads, head_dim, pages_per_sequence;
    uint32_t first_page, end_page; /* of the pages that are shown */
};
