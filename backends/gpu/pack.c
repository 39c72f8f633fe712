#include "pack.h"

#include "ref/unpack.h"

#include "ops/numerics.h"

#include <string.h>

static const struct ds_gpu_pack packs[DS_TYPE_COUNT] = {
#define PACK(type, low, high, n, has_minimum, u_offset, codebook)                                                                  \
    [DS_TYPE_##type] = {.low_bits = low, .high_bits = high, .groups = n, .minimum = has_minimum, .offset = u_offset,                \
                        .levels = DS_GPU_LEVELS_##codebook},
    DS_GPU_PACKS(PACK)
#undef PACK
};

struct ds_gpu_pack ds_gpu_pack_get(ds_type type) { return packs[type]; }

uint64_t ds_gpu_tile_bytes(ds_type type, uint32_t cols) {
    if (packs[type].low_bits) return (uint64_t)((cols + DS_RUN - 1) / DS_RUN) * ds_gpu_run_bytes(packs[type]);
    return ds_gpu_float_tile_bytes(ds_type_get(type)->bytes, cols);
}

uint64_t ds_gpu_matrix_bytes(ds_type type, uint32_t rows, uint32_t cols) {
    return ds_gpu_bytes_in_tiles(type, rows, cols, ds_gpu_tile_bytes(type, cols));
}

uint64_t ds_gpu_bytes_in_tiles(ds_type type, uint32_t rows, uint32_t cols, uint64_t tile_bytes) {
    const bool known = type == DS_TYPE_F32 || type == DS_TYPE_F16 || type == DS_TYPE_BF16 || packs[type].low_bits != 0;
    uint64_t bytes;
    if (!known || rows == 0 || cols == 0 || cols > UINT32_MAX - DS_RUN || !ds_type_size(type, rows, cols, &bytes)) return 0;
    const uint64_t tiles = rows / DS_GPU_TILE + (rows % DS_GPU_TILE != 0);
    if (!ds_mul_u64(tiles, tile_bytes, &bytes) || bytes > INT64_MAX) return 0;
    return DS_ALIGN_UP(bytes, (uint64_t)DS_ALIGN);
}

/* --- float types --- */

void ds_gpu_pack_floats(ds_type type, uint32_t cols, const uint8_t *from, uint64_t row_bytes, uint32_t outputs, uint8_t *tile) {
    const uint32_t size = ds_type_get(type)->bytes, each = DS_GPU_PIECE / size;
    memset(tile, 0, ds_gpu_float_tile_bytes(size, cols));
    for (uint32_t c = 0; c < cols; c += each) {
        const uint32_t n = DS_MIN(cols - c, each);
        for (uint32_t o = 0; o < outputs; o++) {
            uint8_t *const to = tile + ((uint64_t)(c / each) * DS_GPU_TILE + o) * DS_GPU_PIECE;
            memcpy(to, from + o * row_bytes + (uint64_t)c * size, n * size);
            for (uint32_t i = 0; type == DS_TYPE_BF16 && i < n; i++) {
                uint16_t bits;
                memcpy(&bits, to + 2 * i, 2);
                bits = (uint16_t)ds_bf16_bounded(bits);
                memcpy(to + 2 * i, &bits, 2);
            }
        }
    }
}

/* --- block types --- */

static int8_t level_of(uint8_t levels, uint32_t index) {
    const uint64_t low = levels == DS_GPU_LEVELS_IQ4 ? DS_GPU_IQ4_LOW : DS_GPU_FP4_LOW;
    const uint64_t high = levels == DS_GPU_LEVELS_IQ4 ? DS_GPU_IQ4_HIGH : DS_GPU_FP4_HIGH;
    return (int8_t)((index < 8 ? low : high) >> (index % 8 * 8));
}

void ds_gpu_pack_unsigned(struct ds_gpu_pack pack, const int8_t q[DS_RUN], uint8_t u[DS_RUN]) {
    uint8_t index[256] = {0};
    for (uint32_t i = 16; pack.levels && i-- > 0;) index[(uint8_t)level_of(pack.levels, i)] = (uint8_t)i;
    for (int i = 0; i < DS_RUN; i++) u[i] = pack.levels ? index[(uint8_t)q[i]] : (uint8_t)(q[i] + pack.offset);
}

/* `bits` bits from bit `from` up. */
static void put_plane(uint32_t bits, uint32_t from, uint32_t output, const uint8_t *u, uint8_t *plane) {
    for (uint32_t i = 0; i < DS_RUN; i++) {
        const struct ds_gpu_bit at = ds_gpu_bit_of(bits, output, i);
        plane[at.byte] = (uint8_t)(plane[at.byte] | (u[i] >> from & ((1u << bits) - 1)) << at.shift);
    }
}

static void put_u16(uint8_t *table, uint32_t place, uint32_t value) {
    const uint16_t bits = (uint16_t)value;
    memcpy(table + place * 2, &bits, 2);
}

static void put_scales(ds_type type, struct ds_gpu_pack pack, const struct ds_unpacked_run *run, uint32_t output, uint8_t *record) {
    uint8_t *const d_table = record + ds_gpu_d_at(pack), *const dmin_table = record + ds_gpu_dmin_at(pack);
    const uint32_t rows = ds_gpu_scale_rows(pack);
    if (pack.groups == 0) {
        for (uint32_t b = 0; b < DS_RUN_BLOCKS; b++) {
            const float d = run->block_d[b];
            const uint32_t place = ds_gpu_place(rows, b, output);
            put_u16(d_table, place, type == DS_TYPE_MXFP4 ? ds_bits(d) >> 16 : ds_f32_to_f16(d));
            if (pack.minimum) put_u16(dmin_table, place, ds_f32_to_f16(run->block_m[b]));
        }
        return;
    }
    for (uint32_t g = 0; g < pack.groups; g++) {
        const uint32_t place = ds_gpu_place(pack.groups, g, output);
        record[ds_gpu_scale_at(pack) + place] = (uint8_t)run->scale[g];
        if (pack.minimum) record[ds_gpu_minimum_at(pack) + place] = (uint8_t)run->minimum[g];
    }
    put_u16(d_table, ds_gpu_place(rows, 0, output), ds_f32_to_f16(run->d));
    if (pack.minimum) put_u16(dmin_table, ds_gpu_place(rows, 0, output), ds_f32_to_f16(run->dmin));
}

void ds_gpu_pack_tile(ds_type type, uint32_t cols, const uint8_t *from, uint64_t row_bytes, uint32_t outputs, uint8_t *tile) {
    const struct ds_gpu_pack pack = packs[type];
    if (!pack.low_bits) {
        ds_gpu_pack_floats(type, cols, from, row_bytes, outputs, tile);
        return;
    }
    memset(tile, 0, ds_gpu_tile_bytes(type, cols)); /* scale 0 for outputs and inputs that do not exist */
    for (uint32_t run = 0; run * DS_RUN < cols; run++, tile += ds_gpu_run_bytes(pack)) {
        for (uint32_t o = 0; o < outputs; o++) {
            struct ds_unpacked_run unpacked;
            uint8_t u[DS_RUN];
            ds_unpack_run(type, from + o * row_bytes, cols, run, &unpacked);
            ds_gpu_pack_unsigned(pack, unpacked.q, u);
            put_plane(pack.low_bits, 0, o, u, tile);
            if (pack.high_bits) put_plane(pack.high_bits, pack.low_bits, o, u, tile + ds_gpu_high_at(pack));
            put_scales(type, pack, &unpacked, o, tile);
        }
    }
}
