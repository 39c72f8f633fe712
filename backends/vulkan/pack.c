#include "pack.h"

#include "backends/gpu/pack.h"
#include "ref/unpack.h"

#include "ops/numerics.h"

#include <string.h>

_Static_assert((int)DS_VK_TILE == (int)DS_GPU_TILE && (int)DS_VK_PIECE == (int)DS_GPU_PIECE, "tiles of floats are the same ones");

static uint32_t plane_bytes(uint32_t bits) { return DS_RUN * DS_VK_TILE / 8 * bits; }
static uint32_t d_bytes(struct ds_gpu_pack pack) { return (pack.groups ? 2 : 16) * DS_VK_TILE; }
static uint32_t scale_at(struct ds_gpu_pack pack) { return plane_bytes(pack.low_bits + pack.high_bits); }
static uint32_t minimum_at(struct ds_gpu_pack pack) { return scale_at(pack) + pack.groups * DS_VK_TILE; }
static uint32_t d_at(struct ds_gpu_pack pack) { return minimum_at(pack) + pack.minimum * pack.groups * DS_VK_TILE; }
static uint32_t dmin_at(struct ds_gpu_pack pack) { return d_at(pack) + d_bytes(pack); }

uint32_t ds_vk_run_bytes(ds_type type) {
    const struct ds_gpu_pack pack = ds_gpu_pack_get(type);
    return pack.low_bits ? dmin_at(pack) + pack.minimum * d_bytes(pack) : 0;
}

uint64_t ds_vk_tile_bytes(ds_type type, uint32_t cols) {
    const uint32_t run = ds_vk_run_bytes(type);
    if (run) return (uint64_t)((cols + DS_RUN - 1) / DS_RUN) * run;
    return ds_gpu_float_tile_bytes(ds_type_get(type)->bytes, cols);
}

uint64_t ds_vk_matrix_bytes(ds_type type, uint32_t rows, uint32_t cols) { return ds_gpu_bytes_in_tiles(type, rows, cols, ds_vk_tile_bytes(type, cols)); }

void ds_vk_type_constants(ds_type type, uint32_t out[DS_VK_TYPE_CONSTANTS]) {
    const struct ds_gpu_pack pack = ds_gpu_pack_get(type);
    const uint32_t kind = type == DS_TYPE_F32 ? 1 : type == DS_TYPE_F16 ? 2 : type == DS_TYPE_BF16 ? 3 : type == DS_TYPE_MXFP4 ? 4 : 0;
    const uint32_t facts[DS_VK_TYPE_CONSTANTS] = {kind, pack.low_bits, pack.high_bits, pack.groups, pack.minimum, pack.offset, pack.levels};
    memcpy(out, facts, sizeof facts);
}

/* --- tiles --- */

/* `bits` bits from bit `from` up. */
static void put_plane(uint32_t bits, uint32_t from, uint32_t output, const uint8_t *u, uint8_t *plane) {
    const uint32_t each = 8 / bits;
    for (uint32_t i = 0; i < DS_RUN; i++) {
        const uint32_t quad = i / 4, word = quad / each, shift = quad % each * bits;
        uint8_t *const byte = plane + ((word / 4 * DS_VK_TILE + output) * 4 + word % 4) * 4 + i % 4;
        *byte = (uint8_t)(*byte | (u[i] >> from & ((1u << bits) - 1)) << shift);
    }
}

static void put_u16(uint8_t *table, uint32_t place, uint32_t value) {
    const uint16_t bits = (uint16_t)value;
    memcpy(table + place * 2, &bits, 2);
}

static void put_scales(ds_type type, struct ds_gpu_pack pack, const struct ds_unpacked_run *run, uint32_t output, uint8_t *record) {
    uint8_t *const d = record + d_at(pack), *const dmin = record + dmin_at(pack);
    for (uint32_t b = 0; !pack.groups && b < DS_RUN_BLOCKS; b++) {
        put_u16(d, output * 8 + b, type == DS_TYPE_MXFP4 ? ds_bits(run->block_d[b]) >> 16 : ds_f32_to_f16(run->block_d[b]));
        if (pack.minimum) put_u16(dmin, output * 8 + b, ds_f32_to_f16(run->block_m[b]));
    }
    for (uint32_t g = 0; g < pack.groups; g++) {
        record[scale_at(pack) + output * pack.groups + g] = (uint8_t)run->scale[g];
        if (pack.minimum) record[minimum_at(pack) + output * pack.groups + g] = (uint8_t)run->minimum[g];
    }
    if (pack.groups) put_u16(d, output, ds_f32_to_f16(run->d));
    if (pack.groups && pack.minimum) put_u16(dmin, output, ds_f32_to_f16(run->dmin));
}

void ds_vk_pack_tile(ds_type type, uint32_t cols, const uint8_t *from, uint64_t row_bytes, uint32_t outputs, uint8_t *tile) {
    const struct ds_gpu_pack pack = ds_gpu_pack_get(type);
    if (!pack.low_bits) {
        ds_gpu_pack_floats(type, cols, from, row_bytes, outputs, tile);
        return;
    }
    memset(tile, 0, (size_t)ds_vk_tile_bytes(type, cols)); /* scale 0 for outputs and inputs that do not exist */
    for (uint32_t run = 0; run * DS_RUN < cols; run++, tile += ds_vk_run_bytes(type)) {
        for (uint32_t o = 0; o < outputs; o++) {
            struct ds_unpacked_run unpacked;
            uint8_t u[DS_RUN];
            ds_unpack_run(type, from + o * row_bytes, cols, run, &unpacked);
            ds_gpu_pack_unsigned(pack, unpacked.q, u);
            put_plane(pack.low_bits, 0, o, u, tile);
            if (pack.high_bits) put_plane(pack.high_bits, pack.low_bits, o, u, tile + plane_bytes(pack.low_bits));
            put_scales(type, pack, &unpacked, o, tile);
        }
    }
}
