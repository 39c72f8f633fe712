/* ds_order_key, but the zeros are made one by their bits: the addition of 0 that does it there is folded away by drivers. */
uint ds_key(float x) { return (ds_bits(x) << 1) == 0u ? 0x80000000u : ds_order_key(x); }
