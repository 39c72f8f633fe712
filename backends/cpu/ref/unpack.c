#include "ref/unpack.h"

#include "base/bytes.h"
#include "ops/numerics.h"

#include <assert.h>
#include <string.h>

/* The levels of IQ4_NL and IQ4_XS, and twice those of FP4 (E2M1), whose scale is halved in return. */
static const int8_t iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const int8_t fp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static float f16(const uint8_t *p) {
    return ds_f16_to_f32(ds_load_u16(p));
}

/* --- types of 32: byte j of the nibbles holds inputs j and j + 16 --- */

/* Nibbles, with a fifth bit from `high` (0: none), mapped by `level` or shifted by `offset`. */
static void unpack_nibbles(const uint8_t *nibbles, uint32_t high, const int8_t *level, int offset, int8_t *q) {
    for (uint32_t j = 0; j < 32; j++) {
        const uint32_t nibble = j < 16 ? nibbles[j] & 15u : nibbles[j - 16] >> 4;
        q[j] = level ? level[nibble] : (int8_t)((int)(nibble | (high >> j & 1) << 4) - offset);
    }
}

static void unpack_block_of_32(ds_type type, const uint8_t *block, int8_t *q, float *d, float *m) {
    *m = 0;
    *d = type == DS_TYPE_MXFP4 ? 0 : f16(block);
    switch (type) {
    case DS_TYPE_Q8_0:
        memcpy(q, block + 2, 32);
        break;
    case DS_TYPE_Q4_0:
        unpack_nibbles(block + 2, 0, NULL, 8, q);
        break;
    case DS_TYPE_Q5_0:
        unpack_nibbles(block + 6, ds_load_u32(block + 2), NULL, 16, q);
        break;
    case DS_TYPE_IQ4_NL:
        unpack_nibbles(block + 2, 0, iq4, 0, q);
        break;
    case DS_TYPE_Q4_1:
        *m = f16(block + 2);
        unpack_nibbles(block + 4, 0, NULL, 0, q);
        break;
    case DS_TYPE_Q5_1:
        *m = f16(block + 2);
        unpack_nibbles(block + 8, ds_load_u32(block + 4), NULL, 0, q);
        break;
    case DS_TYPE_MXFP4: /* half of 2^(e - 127): a denormal for e below 2 */
        *d = ds_float(block[0] < 2 ? 0x00200000u << block[0] : (uint32_t)(block[0] - 1) << 23);
        unpack_nibbles(block + 1, 0, fp4, 0, q);
        break;
    default:
        assert(!"not a type of 32");
    }
}

/* --- types of 256: two halves of 128, or four pairs of 32; within them the same bits of successive bytes --- */

/* Two bits of input i, for Q2_K, Q3_K and Q6_K's upper bits: 32 bytes a half, four inputs 32 apart in each byte. */
static uint32_t two_bits(const uint8_t *bytes, uint32_t i) {
    return bytes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3u;
}
/* Four bits of input i, for Q4_K and Q5_K: 32 bytes a pair of groups. */
static uint32_t four_bits(const uint8_t *bytes, uint32_t i) {
    return bytes[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15u;
}

static void unpack_q2_k(const uint8_t *block, struct ds_unpacked_run *out) {
    out->group = 16;
    out->d = f16(block + 80);
    out->dmin = f16(block + 82);
    for (uint32_t g = 0; g < 16; g++) {
        out->scale[g] = block[g] & 15;
        out->minimum[g] = block[g] >> 4;
    }
    for (uint32_t i = 0; i < 256; i++) out->q[i] = (int8_t)two_bits(block + 16, i);
}

static void unpack_q3_k(const uint8_t *block, struct ds_unpacked_run *out) {
    const uint8_t *scales = block + 96; /* 16 of 6 bits: low nibbles of 8 bytes, high nibbles, then 2 upper bits in 4 bytes */
    out->group = 16;
    out->d = f16(block + 108);
    for (uint32_t g = 0; g < 16; g++) {
        const uint32_t low = scales[g % 8] >> (g / 8 * 4) & 15u, high = scales[8 + g % 4] >> (g / 4 * 2) & 3u;
        out->scale[g] = (int16_t)((int)(low | high << 4) - 32);
    }
    for (uint32_t i = 0; i < 256; i++) {
        const uint32_t top = block[i % 32] >> (i / 32) & 1u;
        out->q[i] = (int8_t)((int)(two_bits(block + 32, i) | top << 2) - 4);
    }
}

/* Q4_K's and Q5_K's 12 bytes: scales and minimums of eight groups, 6 bits each. */
static void unpack_six_bits(const uint8_t *packed, struct ds_unpacked_run *out) {
    out->group = 32;
    for (uint32_t g = 0; g < 4; g++) {
        out->scale[g] = packed[g] & 63;
        out->minimum[g] = packed[g + 4] & 63;
        out->scale[g + 4] = (int16_t)((packed[g + 8] & 15) | packed[g] >> 6 << 4);
        out->minimum[g + 4] = (int16_t)(packed[g + 8] >> 4 | packed[g + 4] >> 6 << 4);
    }
}

static void unpack_q4_k(const uint8_t *block, struct ds_unpacked_run *out) {
    out->d = f16(block);
    out->dmin = f16(block + 2);
    unpack_six_bits(block + 4, out);
    for (uint32_t i = 0; i < 256; i++) out->q[i] = (int8_t)four_bits(block + 16, i);
}

static void unpack_q5_k(const uint8_t *block, struct ds_unpacked_run *out) {
    out->d = f16(block);
    out->dmin = f16(block + 2);
    unpack_six_bits(block + 4, out);
    for (uint32_t i = 0; i < 256; i++) {
        const uint32_t top = block[16 + i % 32] >> (i / 32) & 1u;
        out->q[i] = (int8_t)(four_bits(block + 48, i) | top << 4);
    }
}

static void unpack_q6_k(const uint8_t *block, struct ds_unpacked_run *out) {
    out->group = 16;
    out->d = f16(block + 208);
    for (uint32_t g = 0; g < 16; g++) out->scale[g] = (int8_t)block[192 + g];
    for (uint32_t i = 0; i < 256; i++) {
        const uint32_t low = block[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15u;
        out->q[i] = (int8_t)((int)(low | two_bits(block + 128, i) << 4) - 32);
    }
}

static void unpack_iq4_xs(const uint8_t *block, struct ds_unpacked_run *out) {
    const uint32_t high = ds_load_u16(block + 2);
    out->group = 32;
    out->d = f16(block);
    for (uint32_t g = 0; g < 8; g++) {
        const uint32_t low = block[4 + g / 2] >> (g % 2 * 4) & 15u;
        out->scale[g] = (int16_t)((int)(low | (high >> 2 * g & 3) << 4) - 32);
        unpack_nibbles(block + 8 + 16 * g, 0, iq4, 0, out->q + 32 * g);
    }
}

void ds_unpack_run(ds_type type, const void *row, uint32_t cols, uint32_t run, struct ds_unpacked_run *out) {
    const struct ds_type_info *info = ds_type_get(type);
    const uint32_t inputs = DS_MIN(cols - run * DS_RUN, (uint32_t)DS_RUN);
    const uint8_t *block = (const uint8_t *)row + (size_t)run * (DS_RUN / info->block) * info->bytes;
    memset(out, 0, sizeof *out);
    out->inputs = inputs;
    out->wide = info->block == DS_RUN;
    switch (type) {
    case DS_TYPE_Q2_K:
        unpack_q2_k(block, out);
        break;
    case DS_TYPE_Q3_K:
        unpack_q3_k(block, out);
        break;
    case DS_TYPE_Q4_K:
        unpack_q4_k(block, out);
        break;
    case DS_TYPE_Q5_K:
        unpack_q5_k(block, out);
        break;
    case DS_TYPE_Q6_K:
        unpack_q6_k(block, out);
        break;
    case DS_TYPE_IQ4_XS:
        unpack_iq4_xs(block, out);
        break;
    default:
        out->group = 32;
        for (uint32_t g = 0; g < inputs / 32; g++)
            unpack_block_of_32(type, block + g * info->bytes, out->q + 32 * g, &out->block_d[g], &out->block_m[g]);
    }
}
