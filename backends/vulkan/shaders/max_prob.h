struct max_prob_args {
    ds_address logits, log_odds, count;
    uint32_t rows, vocabulary, stride, log_odds_stride;
};
