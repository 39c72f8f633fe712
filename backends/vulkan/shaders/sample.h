struct sample_args {
    ds_address logits, how, bias, tokens, flags, count;
    uint32_t rows, vocabulary, stride;
};
