struct route_args {
    ds_address logits, ids, weights, factors, count;
    uint32_t rows, experts, slots, normalise, logits_stride, ids_stride, weights_stride;
};
