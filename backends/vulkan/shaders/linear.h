struct linear_args {
    ds_address weight, x, y, bias, residual, ids, count;
    uint32_t rows, inputs, outputs;
    uint32_t x_pitch, scale_at, sum_at; /* words from a row of x to the next (halves: bf16), and to its scales and sums */
    uint32_t y_stride, residual_stride;
    uint32_t slots, x_slots, ids_stride; /* experts: of a row; of a row of x, 1 or `slots` */
    uint32_t first_tile, end_tile;       /* experts: of the tiles that are shown */
    float fill;                          /* top_linear: of outputs that are not computed */
};
