struct probe_args {
    ds_address answers;
    uint32_t words;
};
