struct choose_args {
    ds_address residual, chosen, count; /* chosen: of each row the last output taken, as (key, output) */
    uint32_t rows, outputs, stride, top;
};
