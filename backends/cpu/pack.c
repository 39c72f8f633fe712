#include "pack.h"

#include "base/bytes.h"
#include "ops/numerics.h"
#include "ref/unpack.h"

#include <assert.h>
#include <string.h>

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

/* --- float types --- */

static void pack_f32(uint32_t cols, const uint8_t *row, uint32_t lane, uint8_t *tile) {
    for (uint32_t c = 0; c < cols; c++) memcpy(tile + ((size_t)c * DS_TILE + lane) * 4, row + (size_t)c * 4, 4);
}

static void pack_16_bits(uint32_t cols, const uint8_t *row, uint32_t lane, bool bound, uint8_t *tile) {
    uint16_t *out = (uint16_t *)(void *)tile + lane;
    for (uint32_t c = 0; c < cols; c++) {
        const uint32_t bits = ds_load_u16(row + (size_t)c * 2);
        out[(size_t)c * DS_TILE] = (uint16_t)(bound ? ds_bf16_bounded(bits) : bits);
    }
}

/* --- block types --- */

static void put_u16(uint8_t *record, uint32_t at, uint32_t row, uint32_t lane, uint32_t value) {
    uint8_t *to = record + at + (row * DS_TILE + lane) * 2;
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

/* Sets `bits` bits of the weight of (input, lane) in a plane that is zero there. */
static inline void put_bits(uint8_t *plane, uint32_t bits, uint32_t input, uint32_t lane, uint32_t value) {
    const uint32_t vector = input / 4, each = 8 / bits;
    plane[(vector / each) * 64 + lane * 4 + input % 4] |= (uint8_t)(value << (vector % each * bits));
}

static void pack_weights(const struct ds_pack *pack, const struct ds_unpacked_run *run, uint32_t lane, uint8_t *record) {
    uint8_t index[256] = {0};
    for (uint32_t i = 16; pack->levels && i-- > 0;) index[(uint8_t)pack->levels[i]] = (uint8_t)i;
    const uint32_t mask = (1u << pack->low_bits) - 1;
    for (uint32_t i = 0; i < DS_RUN; i++) {
        const uint32_t u = pack->levels ? index[(uint8_t)run->q[i]] : (uint32_t)(run->q[i] + pack->offset);
        put_bits(record, pack->low_bits, i, lane, u & mask);
        if (pack->high_bits) put_bits(record + pack->high_at, pack->high_bits, i, lane, u >> pack->low_bits);
    }
}

static void pack_scales(const struct ds_pack *pack, const struct ds_unpacked_run *run, uint32_t lane, uint8_t *record) {
    if (pack->groups == 0) {
        for (uint32_t b = 0; b < DS_RUN_BLOCKS; b++) {
            const float d = run->block_d[b];
            put_u16(record, pack->d_at, b, lane, pack->bf16_scale ? ds_bits(d) >> 16 : ds_f32_to_f16(d));
            if (pack->minimum) put_u16(record, pack->dmin_at, b, lane, ds_f32_to_f16(run->block_m[b]));
        }
        return;
    }
    for (uint32_t g = 0; g < pack->groups; g++) {
        record[pack->scale_at + g * DS_TILE + lane] = (uint8_t)run->scale[g];
        if (pack->minimum) record[pack->minimum_at + g * DS_TILE + lane] = (uint8_t)run->minimum[g];
    }
    put_u16(record, pack->d_at, 0, lane, ds_f32_to_f16(run->d));
    if (pack->minimum) put_u16(record, pack->dmin_at, 0, lane, ds_f32_to_f16(run->dmin));
}

static void pack_blocks(ds_type type, uint32_t cols, const uint8_t *row, uint32_t lane, uint8_t *tile) {
    const struct ds_pack *pack = &packs[type];
    for (uint32_t r = 0; r < runs_of(cols); r++) {
        struct ds_unpacked_run run;
        ds_unpack_run(type, row, cols, r, &run);
        pack_weights(pack, &run, lane, tile + (size_t)r * pack->run_bytes);
        pack_scales(pack, &run, lane, tile + (size_t)r * pack->run_bytes);
    }
}

void ds_pack_tile(ds_type type, uint32_t cols, const uint8_t *rows, uint64_t row_bytes, uint32_t outputs, uint8_t *tile) {
    assert(outputs >= 1 && outputs <= DS_TILE);
    memset(tile, 0, ds_pack_tile_bytes(type, cols)); /* absent outputs have scale 0 or weight 0 */
    for (uint32_t lane = 0; lane < outputs; lane++) {
        const uint8_t *row = rows + lane * row_bytes;
        if (type == DS_TYPE_F32) pack_f32(cols, row, lane, tile);
        else if (packs[type].low_bits == 0) pack_16_bits(cols, row, lane, type == DS_TYPE_BF16, tile);
        else pack_blocks(type, cols, row, lane, tile);
    }
}
