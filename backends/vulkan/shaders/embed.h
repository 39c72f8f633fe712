struct embed_args {
    ds_address table, ids, outputs, count;
    uint32_t rows, cols, out_stride;
    uint32_t first_tile, end_tile; /* of the tiles that are shown */
    float scale;
};
