#ifndef DSPARK_BENCH_RANDOM_ROWS_H
#define DSPARK_BENCH_RANDOM_ROWS_H

#include "ckpt/blocks.h"

/* Random bytes whose scales are ordinary numbers: f16 scales lie at the start or end of a block. */
static inline void random_rows(ds_type type, uint64_t bytes, uint8_t *out) {
    uint64_t state = 88172645463325252u;
    const struct ds_type_info *info = ds_type_get(type);
    for (uint64_t i = 0; i < bytes; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out[i] = (uint8_t)(state >> 24) & (info->block == 1 ? 0x3f : 0xff);
    }
    for (uint64_t i = 0; info->block > 1 && i < bytes; i += info->bytes) {
        out[i + 1] = 0x1c;
        out[i + 3 % info->bytes] = 0x1c;
        out[i + info->bytes - 1] = 0x1c;
    }
}

#endif
