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

/* What lies beside the weights of sixteen outputs, as it is found: [output][..]. */
struct beside {
    uint8_t group[DS_TILE][32]; /* integer scales of groups, then their minimums, without a gap */
    uint16_t d[DS_TILE][DS_RUN_BLOCKS], dmin[DS_TILE][DS_RUN_BLOCKS]; /* of blocks of 32, or [0] of the block of 256 */
};

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint8_t bytes32 __attribute__((vector_size(32)));

/* --- types that most models use: u = q + offset at once, scales as they are stored --- */

static void unpack_q8_0(const uint8_t *block, uint32_t blocks, uint8_t *u, uint16_t *d) {
    for (uint32_t b = 0; b < blocks; b++, block += 34) {
        bytes32 q;
        memcpy(&d[b], block, 2);
        memcpy(&q, block + 2, 32);
        q ^= 128;
        memcpy(u + 32 * b, &q, 32);
    }
}

static void unpack_q4_0(const uint8_t *block, uint32_t blocks, uint8_t *u, uint16_t *d) {
    for (uint32_t b = 0; b < blocks; b++, block += 18) {
        bytes16 nibbles;
        memcpy(&d[b], block, 2);
        memcpy(&nibbles, block + 2, 16);
        const bytes16 first = nibbles & 15, second = nibbles >> 4;
        memcpy(u + 32 * b, &first, 16);
        memcpy(u + 32 * b + 16, &second, 16);
    }
}

/* Eight scales, then eight minimums, of six bits each; four bytes at a time. */
static void unpack_six_bits(const uint8_t *packed, uint8_t *out) {
    uint32_t in[3], bytes[4];
    memcpy(in, packed, sizeof in);
    for (int i = 0; i < 2; i++) {
        bytes[2 * i] = in[i] & 0x3f3f3f3f;
        bytes[2 * i + 1] = (in[2] >> 4 * i & 0x0f0f0f0f) | (in[i] >> 2 & 0x30303030);
    }
    memcpy(out, bytes, sizeof bytes);
}

/* Q4_K and, with a fifth bit from `high`, Q5_K. */
static void unpack_q45_k(const uint8_t *block, const uint8_t *high, const uint8_t *nibbles, uint8_t *u, uint32_t lane, struct beside *out) {
    memcpy(out->d[lane], block, 2);
    memcpy(out->dmin[lane], block + 2, 2);
    unpack_six_bits(block + 4, out->group[lane]);
    bytes32 top = {0};
    if (high) memcpy(&top, high, 32);
    DS_UNROLL for (int pair = 0; pair < 4; pair++) {
        bytes32 both;
        memcpy(&both, nibbles + 32 * pair, 32);
        bytes32 first = both & 15, second = both >> 4;
        if (high) {
            first |= (top >> (2 * pair) & 1) << 4;
            second |= (top >> (2 * pair + 1) & 1) << 4;
        }
        memcpy(u + 64 * pair, &first, 32);
        memcpy(u + 64 * pair + 32, &second, 32);
    }
}

static void unpack_q6_k(const uint8_t *block, uint8_t *u, uint32_t lane, struct beside *out) {
    memcpy(out->d[lane], block + 208, 2);
    memcpy(out->group[lane], block + 192, 16);
    for (int half = 0; half < 2; half++) {
        bytes32 low[2], high, q[4];
        memcpy(low, block + 64 * half, 64);
        memcpy(&high, block + 128 + 32 * half, 32);
        q[0] = (low[0] & 15) | (high & 3) << 4;
        q[1] = (low[1] & 15) | (high >> 2 & 3) << 4;
        q[2] = low[0] >> 4 | (high >> 4 & 3) << 4;
        q[3] = low[1] >> 4 | high >> 6 << 4;
        memcpy(u + 128 * half, q, 128);
    }
}

/* --- the others, by the reference's code --- */

/* Scales as the reference widens them; f16 but for an infinity, which stays one where there are instructions for it. */
#if DS_PART > 16
static uint16_t float_to_half(float x) { return _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT); }
#else
static uint16_t float_to_half(float x) { return (uint16_t)ds_f32_to_f16(x); }
#endif

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

static void unpack_other(ds_type type, const uint8_t *row, uint32_t cols, uint32_t run, uint8_t *u, uint32_t lane, struct beside *out) {
    const struct ds_pack *pack = ds_pack_get(type);
    struct ds_unpacked_run unpacked;
    ds_unpack_run(type, row, cols, run, &unpacked);
    to_unsigned(pack, unpacked.q, u);
    for (uint32_t g = 0; g < pack->groups; g++) {
        out->group[lane][g] = (uint8_t)unpacked.scale[g];
        if (pack->minimum) out->group[lane][pack->groups + g] = (uint8_t)unpacked.minimum[g];
    }
    for (uint32_t b = 0; b < (pack->groups ? 1u : DS_RUN_BLOCKS); b++) {
        const float d = pack->groups ? unpacked.d : unpacked.block_d[b];
        out->d[lane][b] = pack->bf16_scale ? (uint16_t)(ds_bits(d) >> 16) : float_to_half(d);
        if (pack->minimum) out->dmin[lane][b] = float_to_half(pack->groups ? unpacked.dmin : unpacked.block_m[b]);
    }
}

static void unpack(ds_type type, const uint8_t *row, uint32_t cols, uint32_t run, uint8_t *u, uint32_t lane, struct beside *out) {
    const struct ds_type_info *info = ds_type_get(type);
    const uint8_t *block = row + (size_t)run * (DS_RUN / info->block) * info->bytes;
    const uint32_t blocks = DS_MIN(cols - run * DS_RUN, (uint32_t)DS_RUN) / info->block;
    switch (type) {
    case DS_TYPE_Q8_0:
    case DS_TYPE_Q4_0:
        if (blocks < DS_RUN_BLOCKS) {
            memset(u, ds_pack_get(type)->offset, DS_RUN);
            memset(out->d[lane], 0, sizeof out->d[lane]);
        }
        if (type == DS_TYPE_Q8_0) unpack_q8_0(block, blocks, u, out->d[lane]);
        else unpack_q4_0(block, blocks, u, out->d[lane]);
        break;
    case DS_TYPE_Q4_K: unpack_q45_k(block, NULL, block + 16, u, lane, out); break;
    case DS_TYPE_Q5_K: unpack_q45_k(block, block + 16, block + 48, u, lane, out); break;
    case DS_TYPE_Q6_K: unpack_q6_k(block, u, lane, out); break;
    default: unpack_other(type, row, cols, run, u, lane, out);
    }
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

/* [8][16] of halves, or [1][16]. */
static void pack_halves_beside(uint16_t (*from)[DS_RUN_BLOCKS], uint32_t count, uint8_t *to) {
    uint16_t turned[DS_RUN_BLOCKS][DS_TILE];
    for (uint32_t b = 0; b < count; b++)
        for (uint32_t lane = 0; lane < DS_TILE; lane++) turned[b][lane] = from[lane][b];
    memcpy(to, turned, count * sizeof turned[0]);
}

static void pack_beside(const struct ds_pack *pack, struct beside *from, uint8_t *record) {
    const uint32_t halves = pack->groups ? 1 : DS_RUN_BLOCKS, bytes = pack->groups * (pack->minimum ? 2u : 1u);
    for (uint32_t at = 0; at < bytes; at += 16) ds_turn_bytes(from->group[0] + at, sizeof from->group[0], DS_MIN(bytes - at, 16u), record + pack->scale_at + at * DS_TILE);
    pack_halves_beside(from->d, halves, record + pack->d_at);
    if (pack->minimum) pack_halves_beside(from->dmin, halves, record + pack->dmin_at);
}

static void pack_record(ds_type type, uint32_t cols, const uint8_t *const rows[DS_TILE], uint32_t outputs, uint32_t run, uint8_t *record) {
    const struct ds_pack *pack = ds_pack_get(type);
    _Alignas(64) uint32_t u[DS_TILE][DS_TILE_GROUPS];
    struct beside beside;
    if (outputs < DS_TILE) {
        memset(u, 0, sizeof u);
        memset(&beside, 0, sizeof beside);
        memset(record, 0, pack->run_bytes); /* scale 0 for outputs that do not exist */
    } else {
        memset(record + pack->run_bytes - DS_ALIGN, 0, DS_ALIGN); /* what rounds it up */
    }
    for (uint32_t lane = 0; lane < outputs; lane++) unpack(type, rows[lane], cols, run, (uint8_t *)u[lane], lane, &beside);
    pack_weights(pack, u, record);
    pack_beside(pack, &beside, record);
}

/* Sixteen rows are more streams than processors foresee. */
static void fetch(const uint8_t *const rows[DS_TILE], uint32_t outputs, size_t at, size_t bytes) {
    for (uint32_t lane = 0; lane < outputs; lane++)
        for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(rows[lane] + at + line);
}

/* Past the caches: nobody reads a record before the whole model is loaded. Both lie at multiples of DS_ALIGN. */
static void write_past_caches(uint8_t *restrict to, const uint8_t *restrict from, size_t bytes) {
#if DS_PART > 16
    for (size_t i = 0; i < bytes; i += 32)
        _mm256_stream_si256((__m256i *)(void *)(to + i), _mm256_load_si256((const __m256i *)(const void *)(from + i)));
#else
    memcpy(to, from, bytes);
#endif
}

void DS_CPU_NAME(pack_tile)(ds_type type, uint32_t cols, const uint8_t *from, uint64_t row_bytes, uint32_t outputs, uint8_t *tile) {
    assert(outputs >= 1 && outputs <= DS_TILE);
    const uint8_t *rows[DS_TILE] = {0};
    for (uint32_t lane = 0; lane < outputs; lane++) rows[lane] = from + lane * row_bytes;
    if (ds_pack_get(type)->low_bits) {
        const uint32_t run_bytes = ds_pack_get(type)->run_bytes;
        const size_t file_bytes = DS_RUN / ds_type_get(type)->block * ds_type_get(type)->bytes;
        assert(run_bytes <= DS_PACK_MOST_RUN_BYTES);
        for (uint32_t run = 0; run * DS_RUN < cols; run++) {
            if ((run + 3) * DS_RUN <= cols) fetch(rows, outputs, (run + 2) * file_bytes, file_bytes);
            _Alignas(64) uint8_t record[DS_PACK_MOST_RUN_BYTES];
            pack_record(type, cols, rows, outputs, run, record);
            write_past_caches(tile + (size_t)run * run_bytes, record, run_bytes);
        }
#if DS_PART > 16
        _mm_sfence();
#endif
        return;
    }
    if (outputs < DS_TILE) memset(tile, 0, ds_pack_tile_bytes(type, cols));
    if (type == DS_TYPE_F32) pack_words(cols, rows, outputs, (uint32_t *)(void *)tile);
    else pack_halves(cols, rows, outputs, type == DS_TYPE_BF16, (uint16_t *)(void *)tile);
}
