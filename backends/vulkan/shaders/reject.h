struct reject_args {
    ds_address logits, how, drafted, bias, tokens, flags, count;
    uint32_t rows, vocabulary, stride, drafted_stride;
};
