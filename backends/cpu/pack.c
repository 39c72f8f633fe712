#include "pack.h"

#include <stddef.h>

static const int8_t iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const int8_t fp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* The bytes of `bits` bits of every weight of a record, and of one [16] row of scales. */
#define PLANE(bits) (DS_RUN * DS_TILE / 8 * (bits))
#define ROWS(count, bytes) (DS_TILE * (count) * (bytes))

#define BLOCKS_OF_32(low, high, has_minimum, ...)                                                                           \
    {.low_bits = low, .high_bits = high, .minimum = has_minimum, .high_at = PLANE(low), .d_at = PLANE((low) + (high)),       \
     .dmin_at = PLANE((low) + (high)) + ROWS(8, 2),                                                                          \
     .run_bytes = DS_ALIGN_UP(PLANE((low) + (high)) + ROWS(8, 2) * (1 + (has_minimum)), DS_ALIGN), __VA_ARGS__}

#define BLOCKS_OF_256(low, high, n, has_minimum, ...)                                                                        \
    {.low_bits = low, .high_bits = high, .groups = n, .minimum = has_minimum, .high_at = PLANE(low),                         \
     .scale_at = PLANE((low) + (high)), .minimum_at = PLANE((low) + (high)) + ROWS(n, 1),                                    \
     .d_at = PLANE((low) + (high)) + ROWS(n, 1) * (1 + (has_minimum)),                                                       \
     .dmin_at = PLANE((low) + (high)) + ROWS(n, 1) * (1 + (has_minimum)) + ROWS(1, 2),                                       \
     .run_bytes = DS_ALIGN_UP(PLANE((low) + (high)) + (ROWS(n, 1) + ROWS(1, 2)) * (1 + (has_minimum)), DS_ALIGN), __VA_ARGS__}

static const struct ds_pack packs[DS_TYPE_COUNT] = {
    [DS_TYPE_Q8_0] = BLOCKS_OF_32(8, 0, 0, .offset = 128),
    [DS_TYPE_Q4_0] = BLOCKS_OF_32(4, 0, 0, .offset = 8),
    [DS_TYPE_Q4_1] = BLOCKS_OF_32(4, 0, 1, .offset = 0),
    [DS_TYPE_Q5_0] = BLOCKS_OF_32(4, 1, 0, .offset = 16),
    [DS_TYPE_Q5_1] = BLOCKS_OF_32(4, 1, 1, .offset = 0),
    [DS_TYPE_IQ4_NL] = BLOCKS_OF_32(4, 0, 0, .offset = 128, .levels = iq4),
    [DS_TYPE_MXFP4] = BLOCKS_OF_32(4, 0, 0, .offset = 128, .levels = fp4, .bf16_scale = true),
    [DS_TYPE_Q2_K] = BLOCKS_OF_256(2, 0, 16, 1, .offset = 0),
    [DS_TYPE_Q3_K] = BLOCKS_OF_256(2, 1, 16, 0, .offset = 4),
    [DS_TYPE_Q4_K] = BLOCKS_OF_256(4, 0, 8, 1, .offset = 0),
    [DS_TYPE_Q5_K] = BLOCKS_OF_256(4, 1, 8, 1, .offset = 0),
    [DS_TYPE_Q6_K] = BLOCKS_OF_256(4, 2, 16, 0, .offset = 32),
    [DS_TYPE_IQ4_XS] = BLOCKS_OF_256(4, 0, 8, 0, .offset = 128, .levels = iq4),
};

const struct ds_pack *ds_pack_get(ds_type type) { return &packs[type]; }

static uint32_t runs_of(uint32_t cols) { return cols / DS_RUN + (cols % DS_RUN != 0); }

uint64_t ds_pack_tile_bytes(ds_type type, uint32_t cols) {
    if (packs[type].low_bits) return (uint64_t)runs_of(cols) * packs[type].run_bytes;
    return (uint64_t)cols * DS_TILE * ds_type_get(type)->bytes;
}

uint64_t ds_pack_bytes(ds_type type, uint32_t rows, uint32_t cols) {
    const bool known = type == DS_TYPE_F32 || type == DS_TYPE_F16 || type == DS_TYPE_BF16 || packs[type].low_bits != 0;
    uint64_t bytes;
    if (!known || rows == 0 || cols == 0 || !ds_type_size(type, rows, cols, &bytes)) return 0;
    const uint64_t tiles = rows / DS_TILE + (rows % DS_TILE != 0);
    if (!ds_mul_u64(tiles, ds_pack_tile_bytes(type, cols), &bytes) || bytes > INT64_MAX) return 0;
    return DS_ALIGN_UP(bytes, (uint64_t)DS_ALIGN);
}
