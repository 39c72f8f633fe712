struct embed_args {
    ds_address table, ids, outputs, count;
    uint32_t rows, cols, out_stride;
    float scale;
};
