/*
 * Weights from file layout into tiles (pack.h). A run of sixteen rows is unpacked to int8, turned so that four inputs of sixteen
 * outputs lie together, and cut into planes. The types that most models use are unpacked by loops that vectorise; the others by
 * the reference's code.
 */
#include "kernels.h"
#include "kernels/transpose.h"
#include "kernels/vec.h"
#include "pack.h"

#include "ref/unpack.h"

#include <assert.h>

/* --- float types --- */

static void pack_words(uint32_t cols, const uint8_t *const rows[DS_TILE], uint32_t outputs, uint32_t *tile) {
    for (uint32_t c = 0; c < cols; c++)
        for (uint32_t lane = 0; lane < outputs; lane++) memcpy(&tile[(size_t)c * DS_TILE + lane], rows[lane] + (size_t)c * 4, 4);
}

static void bound_halves(uint16_t *halves, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) halves[i] = (uint16_t)ds_bf16_bounded(halves[i]);
}

static void pack_halves(uint32_t cols, const uint8_t *const rows[DS_TILE], uint32_t outputs, bool bound, uint16_t *tile) {
    uint32_t c = 0;
#if DS_PART > 16
    for (; outputs == DS_TILE && c + 8 <= cols; c += 8, tile += 8 * DS_TILE) {
        ds_turn_halves_8x8(rows, (size_t)c * 2, tile);
        ds_turn_halves_8x8(rows + 8, (size_t)c * 2, tile + 8);
        if (bound) bound_halves(tile, 8 * DS_TILE);
    }
#endif
    for (; c < cols; c++, tile += DS_TILE) {
        for (uint32_t lane = 0; lane < outputs; lane++) memcpy(&tile[lane], rows[lane] + (size_t)c * 2, 2);
        if (bound) bound_halves(tile, DS_TILE);
    }
}

/* --- block types --- */

/* Scales as they are stored: what these do to an infinity is what the reference does, which widens it. */
#if DS_PART > 16
static float half_to_float(uint16_t half) { return _cvtsh_ss(half); }
static uint16_t float_to_half(float x) { return _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT); }
#else
static float half_to_float(uint16_t half) { return ds_f16_to_f32(half); }
static uint16_t float_to_half(float x) { return (uint16_t)ds_f32_to_f16(x); }
#endif

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint8_t bytes32 __attribute__((vector_size(32)));

/* Each fills the fields of struct ds_unpacked_run that the type has. */
static void unpack_q8_0(const uint8_t *block, uint32_t blocks, struct ds_unpacked_run *out) {
    for (uint32_t b = 0; b < blocks; b++, block += 34) {
        uint16_t d;
        memcpy(&d, block, 2);
        out->block_d[b] = half_to_float(d);
        memcpy(out->q + 32 * b, block + 2, 32);
    }
}

static void unpack_q4_0(const uint8_t *block, uint32_t blocks, struct ds_unpacked_run *out) {
    for (uint32_t b = 0; b < blocks; b++, block += 18) {
        uint16_t d;
        memcpy(&d, block, 2);
        out->block_d[b] = half_to_float(d);
        bytes16 nibbles;
        memcpy(&nibbles, block + 2, 16);
        const bytes16 first = (nibbles & 15) - 8, second = (nibbles >> 4) - 8;
        memcpy(out->q + 32 * b, &first, 16);
        memcpy(out->q + 32 * b + 16, &second, 16);
    }
}

static void unpack_six_bits(const uint8_t *packed, struct ds_unpacked_run *out) {
    for (uint32_t g = 0; g < 4; g++) {
        out->scale[g] = packed[g] & 63;
        out->minimum[g] = packed[g + 4] & 63;
        out->scale[g + 4] = (int16_t)((packed[g + 8] & 15) | packed[g] >> 6 << 4);
        out->minimum[g + 4] = (int16_t)(packed[g + 8] >> 4 | packed[g + 4] >> 6 << 4);
    }
}

/* Q4_K and, with a fifth bit from `high`, Q5_K. */
static void unpack_q45_k(const uint8_t *block, const uint8_t *high, const uint8_t *nibbles, struct ds_unpacked_run *out) {
    uint16_t d[2];
    memcpy(d, block, 4);
    out->d = half_to_float(d[0]);
    out->dmin = half_to_float(d[1]);
    unpack_six_bits(block + 4, out);
    bytes32 top = {0};
    if (high) memcpy(&top, high, 32);
    DS_UNROLL for (int pair = 0; pair < 4; pair++) {
        bytes32 both;
        memcpy(&both, nibbles + 32 * pair, 32);
        const bytes32 first = (both & 15) | (top >> (2 * pair) & 1) << 4, second = both >> 4 | (top >> (2 * pair + 1) & 1) << 4;
        memcpy(out->q + 64 * pair, &first, 32);
        memcpy(out->q + 64 * pair + 32, &second, 32);
    }
}

static void unpack_q6_k(const uint8_t *block, struct ds_unpacked_run *out) {
    uint16_t d;
    memcpy(&d, block + 208, 2);
    out->d = half_to_float(d);
    for (int g = 0; g < 16; g++) out->scale[g] = (int8_t)block[192 + g];
    for (int half = 0; half < 2; half++) {
        bytes32 low[2], high, q[4];
        memcpy(low, block + 64 * half, 64);
        memcpy(&high, block + 128 + 32 * half, 32);
        q[0] = ((low[0] & 15) | (high & 3) << 4) - 32;
        q[1] = ((low[1] & 15) | (high >> 2 & 3) << 4) - 32;
        q[2] = (low[0] >> 4 | (high >> 4 & 3) << 4) - 32;
        q[3] = (low[1] >> 4 | high >> 6 << 4) - 32;
        memcpy(out->q + 128 * half, q, 128);
    }
}

static void unpack(ds_type type, const uint8_t *row, uint32_t cols, uint32_t run, struct ds_unpacked_run *out) {
    const struct ds_type_info *info = ds_type_get(type);
    const uint8_t *block = row + (size_t)run * (DS_RUN / info->block) * info->bytes;
    const uint32_t blocks = DS_MIN(cols - run * DS_RUN, (uint32_t)DS_RUN) / info->block;
    switch (type) {
    case DS_TYPE_Q8_0:
    case DS_TYPE_Q4_0:
        if (blocks < DS_RUN_BLOCKS) memset(out, 0, sizeof *out);
        if (type == DS_TYPE_Q8_0) unpack_q8_0(block, blocks, out);
        else unpack_q4_0(block, blocks, out);
        break;
    case DS_TYPE_Q4_K: unpack_q45_k(block, NULL, block + 16, out); break;
    case DS_TYPE_Q5_K: unpack_q45_k(block, block + 16, block + 48, out); break;
    case DS_TYPE_Q6_K: unpack_q6_k(block, out); break;
    default: ds_unpack_run(type, row, cols, run, out);
    }
}

/* q to u: shifted, or the index of a level. */
static void to_unsigned(const struct ds_pack *pack, const int8_t *q, uint8_t *u) {
    if (!pack->levels) {
        for (int i = 0; i < DS_RUN; i++) u[i] = (uint8_t)(q[i] + pack->offset);
        return;
    }
    uint8_t index[256] = {0};
    for (int i = 16; i-- > 0;) index[(uint8_t)pack->levels[i]] = (uint8_t)i;
    for (int i = 0; i < DS_RUN; i++) u[i] = index[(uint8_t)q[i]];
}

/* `bits` bits, from bit `from` up, of every u into a plane. */
DS_INLINE void pack_plane(uint8_t (*u)[64], const int from, const int bits, uint8_t *plane) {
    const int each = 8 / bits;
    const vi mask = vi_set1(0x01010101 * ((1 << bits) - 1));
    for (int v = 0; v < DS_TILE_GROUPS; v += each, plane += 64) {
        vi bytes = vi_set1(0);
        DS_UNROLL for (int j = 0; j < each; j++)
            bytes = vi_or(bytes, vi_shift_left16(vi_and(vi_shift_right16(vi_load(u[v + j]), from), mask), j * bits));
        vi_store(plane, bytes);
    }
}

/* u of sixteen rows, then of [vector][output][4]. */
static void pack_weights(const struct ds_pack *pack, uint32_t (*rows)[DS_TILE_GROUPS], uint8_t *record) {
    _Alignas(64) uint8_t u[DS_TILE_GROUPS][64];
    uint8_t *high = record + pack->high_at;
    ds_turn_words(rows[0], DS_TILE_GROUPS, DS_TILE_GROUPS, (uint32_t *)(void *)(pack->low_bits == 8 ? record : u[0]));
    if (pack->low_bits == 4) pack_plane(u, 0, 4, record);
    if (pack->low_bits == 2) pack_plane(u, 0, 2, record);
    if (pack->high_bits == 1 && pack->low_bits == 4) pack_plane(u, 4, 1, high);
    if (pack->high_bits == 1 && pack->low_bits == 2) pack_plane(u, 2, 1, high);
    if (pack->high_bits == 2) pack_plane(u, 4, 2, high);
}

static void put_u16(uint8_t *record, uint32_t at, uint32_t row, uint32_t lane, uint32_t value) {
    const uint16_t bits = (uint16_t)value;
    memcpy(record + at + (row * DS_TILE + lane) * 2, &bits, 2);
}

static void pack_scales(const struct ds_pack *pack, const struct ds_unpacked_run *run, uint32_t lane, uint8_t *record) {
    if (pack->groups == 0) {
        for (uint32_t b = 0; b < DS_RUN_BLOCKS; b++) {
            const float d = run->block_d[b];
            put_u16(record, pack->d_at, b, lane, pack->bf16_scale ? ds_bits(d) >> 16 : float_to_half(d));
            if (pack->minimum) put_u16(record, pack->dmin_at, b, lane, float_to_half(run->block_m[b]));
        }
        return;
    }
    for (uint32_t g = 0; g < pack->groups; g++) {
        record[pack->scale_at + g * DS_TILE + lane] = (uint8_t)run->scale[g];
        if (pack->minimum) record[pack->minimum_at + g * DS_TILE + lane] = (uint8_t)run->minimum[g];
    }
    put_u16(record, pack->d_at, 0, lane, float_to_half(run->d));
    if (pack->minimum) put_u16(record, pack->dmin_at, 0, lane, float_to_half(run->dmin));
}

static void pack_record(ds_type type, uint32_t cols, const uint8_t *const rows[DS_TILE], uint32_t outputs, uint32_t run, uint8_t *record) {
    const struct ds_pack *pack = ds_pack_get(type);
    _Alignas(64) uint32_t u[DS_TILE][DS_TILE_GROUPS];
    if (outputs < DS_TILE) {
        memset(u, 0, sizeof u);
        memset(record, 0, pack->run_bytes); /* scale 0 for outputs that do not exist */
    } else {
        memset(record + pack->run_bytes - DS_ALIGN, 0, DS_ALIGN); /* what rounds it up */
    }
    for (uint32_t lane = 0; lane < outputs; lane++) {
        struct ds_unpacked_run unpacked;
        unpack(type, rows[lane], cols, run, &unpacked);
        to_unsigned(pack, unpacked.q, (uint8_t *)u[lane]);
        pack_scales(pack, &unpacked, lane, record);
    }
    pack_weights(pack, u, record);
}

void DS_CPU_NAME(pack_tile)(ds_type type, uint32_t cols, const uint8_t *from, uint64_t row_bytes, uint32_t outputs, uint8_t *tile) {
    assert(outputs >= 1 && outputs <= DS_TILE);
    const uint8_t *rows[DS_TILE] = {0};
    for (uint32_t lane = 0; lane < outputs; lane++) rows[lane] = from + lane * row_bytes;
    if (ds_pack_get(type)->low_bits) {
        const uint32_t run_bytes = ds_pack_get(type)->run_bytes;
        for (uint32_t run = 0; run * DS_RUN < cols; run++) pack_record(type, cols, rows, outputs, run, tile + (size_t)run * run_bytes);
        return;
    }
    if (outputs < DS_TILE) memset(tile, 0, ds_pack_tile_bytes(type, cols));
    if (type == DS_TYPE_F32) pack_words(cols, rows, outputs, (uint32_t *)(void *)tile);
    else pack_halves(cols, rows, outputs, type == DS_TYPE_BF16, (uint16_t *)(void *)tile);
}
