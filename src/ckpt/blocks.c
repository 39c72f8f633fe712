#include "ckpt/blocks.h"

#include "base/bytes.h"

#include <assert.h>

static const struct ds_type_info types[DS_TYPE_COUNT] = {
#define DS_TYPE_LINE(suffix, text, gguf, elements, size)                                                                       \
    [DS_TYPE_##suffix] = {.name = text, .gguf_id = gguf, .block = elements, .bytes = size},
    DS_TYPES(DS_TYPE_LINE)
#undef DS_TYPE_LINE
};

const struct ds_type_info *ds_type_get(ds_type type) {
    assert((unsigned)type < DS_TYPE_COUNT);
    return &types[type];
}

bool ds_type_from_gguf(uint32_t gguf_id, ds_type *out) {
    for (unsigned i = 0; i < DS_TYPE_COUNT; i++) {
        if (types[i].gguf_id == gguf_id) {
            *out = (ds_type)i;
            return true;
        }
    }
    return false;
}

bool ds_type_from_name(const char *name, ds_type *out) {
    for (unsigned i = 0; i < DS_TYPE_COUNT; i++) {
        if (strcmp(types[i].name, name) == 0) {
            *out = (ds_type)i;
            return true;
        }
    }
    return false;
}

bool ds_type_size(ds_type type, uint64_t rows, uint64_t cols, uint64_t *bytes) {
    const struct ds_type_info *info = ds_type_get(type);
    uint64_t blocks;
    return cols % info->block == 0 && ds_mul_u64(rows, cols / info->block, &blocks) && ds_mul_u64(blocks, info->bytes, bytes) &&
           *bytes <= INT64_MAX;
}

/* --- floats --- */

/* Every f16 is an f32: no rounding anywhere. A NaN keeps its payload. */
static float widen_f16(const uint8_t *src) {
    const uint32_t half = ds_load_u16(src);
    const uint32_t sign = (half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 0x1F, mantissa = half & 0x3FF;
    if (exponent == 0x1F) {
        exponent = 0xFF;
    } else if (exponent != 0) {
        exponent += 127 - 15;
    } else if (mantissa != 0) { /* denormal: f32 has the exponents to make it normal */
        exponent = 127 - 15 + 1;
        for (; !(mantissa & 0x400); mantissa <<= 1) exponent--;
        mantissa &= 0x3FF;
    }
    return ds_float_from_bits(sign | exponent << 23 | mantissa << 13);
}

/* --- blocks of 32: bytes of two nibbles, the low ones being elements 0..15 and the high ones 16..31 --- */

static int nibble(const uint8_t *bytes, int i) {
    return i < 16 ? bytes[i] & 15 : bytes[i - 16] >> 4;
}

static int bit(uint32_t word, int i) {
    return (int)(word >> i & 1);
}

static void widen_q4_0(const uint8_t *block, float *out) {
    const float d = widen_f16(block);
    for (int i = 0; i < 32; i++) out[i] = (float)(nibble(block + 2, i) - 8) * d;
}

static void widen_q4_1(const uint8_t *block, float *out) {
    const float d = widen_f16(block), m = widen_f16(block + 2);
    for (int i = 0; i < 32; i++) out[i] = (float)nibble(block + 4, i) * d + m;
}

static void widen_q5_0(const uint8_t *block, float *out) {
    const float d = widen_f16(block);
    const uint32_t high = ds_load_u32(block + 2);
    for (int i = 0; i < 32; i++) out[i] = (float)((nibble(block + 6, i) | bit(high, i) << 4) - 16) * d;
}

static void widen_q5_1(const uint8_t *block, float *out) {
    const float d = widen_f16(block), m = widen_f16(block + 2);
    const uint32_t high = ds_load_u32(block + 4);
    for (int i = 0; i < 32; i++) out[i] = (float)(nibble(block + 8, i) | bit(high, i) << 4) * d + m;
}

static void widen_q8_0(const uint8_t *block, float *out) {
    const float d = widen_f16(block);
    for (int i = 0; i < 32; i++) out[i] = (float)(int8_t)block[2 + i] * d;
}

/* IQ4's sixteen levels: denser around zero, as weights are. */
static const int8_t iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static void widen_iq4_nl(const uint8_t *block, float *out) {
    const float d = widen_f16(block);
    for (int i = 0; i < 32; i++) out[i] = (float)iq4_levels[nibble(block + 2, i)] * d;
}

/* E2M1, doubled to be integers; the scale is halved instead. Minus zero is written as plain zero. */
static const int8_t mxfp4_levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void widen_mxfp4(const uint8_t *block, float *out) {
    /* Half of 2^(e - 127). For e < 2 that is a denormal f32, made by its mantissa. e = 255, NaN in E8M0, is a number here. */
    const uint32_t e = block[0];
    const float d = ds_float_from_bits(e < 2 ? UINT32_C(0x00200000) << e : (e - 1) << 23);
    for (int i = 0; i < 32; i++) out[i] = (float)mxfp4_levels[nibble(block + 1, i)] * d;
}

/* --- blocks of 256: eight groups of 32, some with two scales of 16 --- */

/* Element i of group g where 2 bits are kept: bytes of four, from groups 4h .. 4h + 3 of half h, lowest bits first. */
static int crumb(const uint8_t *bytes, int g, int i) {
    return bytes[32 * (g / 4) + i] >> 2 * (g % 4) & 3;
}

static void widen_q2_k(const uint8_t *block, float *out) {
    const uint8_t *scales = block, *crumbs = block + 16;
    const float d = widen_f16(block + 80), dmin = widen_f16(block + 82);
    for (int g = 0; g < 8; g++) {
        for (int i = 0; i < 32; i++) {
            const int scale = scales[2 * g + i / 16];
            out[32 * g + i] = d * (float)(scale & 15) * (float)crumb(crumbs, g, i) - dmin * (float)(scale >> 4);
        }
    }
}

/* Scale k of 16, 6 bits less 32: four low bits in bytes 0..7 (low nibbles first), two high bits in bytes 8..11. */
static int q3_k_scale(const uint8_t *packed, int k) {
    const int low = k < 8 ? packed[k] & 15 : packed[k - 8] >> 4;
    const int high = packed[8 + k % 4] >> 2 * (k / 4) & 3;
    return (low | high << 4) - 32;
}

static void widen_q3_k(const uint8_t *block, float *out) {
    const uint8_t *high = block, *crumbs = block + 32, *scales = block + 96;
    const float d = widen_f16(block + 108);
    for (int g = 0; g < 8; g++) {
        for (int i = 0; i < 32; i++) {
            const int q = (crumb(crumbs, g, i) | bit(high[i], g) << 2) - 4;
            out[32 * g + i] = d * (float)q3_k_scale(scales, 2 * g + i / 16) * (float)q;
        }
    }
}

/* Scale and minimum of group g, 6 bits each: those of groups 4..7 are nibbles, with their top bits above the others' 6. */
static void q4_k_scale(const uint8_t *packed, int g, int *scale, int *minimum) {
    if (g < 4) {
        *scale = packed[g] & 63;
        *minimum = packed[g + 4] & 63;
    } else {
        *scale = (packed[g + 4] & 15) | packed[g - 4] >> 6 << 4;
        *minimum = packed[g + 4] >> 4 | packed[g] >> 6 << 4;
    }
}

/* Element i of group g where 4 bits are kept: bytes of two, from groups 2c and 2c + 1. */
static int nibble_of_pair(const uint8_t *bytes, int g, int i) {
    return bytes[32 * (g / 2) + i] >> 4 * (g % 2) & 15;
}

static void widen_q4_k(const uint8_t *block, float *out) {
    const uint8_t *scales = block + 4, *nibbles = block + 16;
    const float d = widen_f16(block), dmin = widen_f16(block + 2);
    for (int g = 0; g < 8; g++) {
        int scale, minimum;
        q4_k_scale(scales, g, &scale, &minimum);
        const float step = d * (float)scale, offset = dmin * (float)minimum;
        for (int i = 0; i < 32; i++) out[32 * g + i] = step * (float)nibble_of_pair(nibbles, g, i) - offset;
    }
}

static void widen_q5_k(const uint8_t *block, float *out) {
    const uint8_t *scales = block + 4, *high = block + 16, *nibbles = block + 48;
    const float d = widen_f16(block), dmin = widen_f16(block + 2);
    for (int g = 0; g < 8; g++) {
        int scale, minimum;
        q4_k_scale(scales, g, &scale, &minimum);
        const float step = d * (float)scale, offset = dmin * (float)minimum;
        for (int i = 0; i < 32; i++) {
            const int q = nibble_of_pair(nibbles, g, i) | bit(high[i], g) << 4;
            out[32 * g + i] = step * (float)q - offset;
        }
    }
}

static void widen_q6_k(const uint8_t *block, float *out) {
    const uint8_t *low = block, *high = block + 128, *scales = block + 192;
    const float d = widen_f16(block + 208);
    for (int g = 0; g < 8; g++) {
        /* A half's 64 bytes of nibbles: the low ones are its groups 0 and 1, the high ones 2 and 3. */
        const uint8_t *nibbles = low + 64 * (g / 4) + 32 * (g % 2);
        const int shift = g % 4 < 2 ? 0 : 4;
        for (int i = 0; i < 32; i++) {
            const int q = ((nibbles[i] >> shift & 15) | crumb(high, g, i) << 4) - 32;
            out[32 * g + i] = d * (float)(int8_t)scales[2 * g + i / 16] * (float)q;
        }
    }
}

static void widen_iq4_xs(const uint8_t *block, float *out) {
    const uint8_t *low = block + 4, *nibbles = block + 8;
    const float d = widen_f16(block);
    const uint32_t high = ds_load_u16(block + 2);
    for (int g = 0; g < 8; g++) {
        const int scale = (low[g / 2] >> 4 * (g % 2) & 15) | (int)(high >> 2 * g & 3) << 4;
        const float step = d * (float)(scale - 32);
        for (int i = 0; i < 32; i++) out[32 * g + i] = step * (float)iq4_levels[nibble(nibbles + 16 * g, i)];
    }
}

static void (*const widen[DS_TYPE_COUNT])(const uint8_t *block, float *out) = {
    [DS_TYPE_Q4_0] = widen_q4_0,   [DS_TYPE_Q4_1] = widen_q4_1,     [DS_TYPE_Q5_0] = widen_q5_0,
    [DS_TYPE_Q5_1] = widen_q5_1,   [DS_TYPE_Q8_0] = widen_q8_0,     [DS_TYPE_Q2_K] = widen_q2_k,
    [DS_TYPE_Q3_K] = widen_q3_k,   [DS_TYPE_Q4_K] = widen_q4_k,     [DS_TYPE_Q5_K] = widen_q5_k,
    [DS_TYPE_Q6_K] = widen_q6_k,   [DS_TYPE_IQ4_NL] = widen_iq4_nl, [DS_TYPE_IQ4_XS] = widen_iq4_xs,
    [DS_TYPE_MXFP4] = widen_mxfp4,
};

void ds_dequantize_row(ds_type type, const void *src, uint64_t cols, float *dst) {
    const struct ds_type_info *info = ds_type_get(type);
    assert(cols % info->block == 0);
    const uint8_t *p = src;
    switch (type) {
    case DS_TYPE_F32:
        for (uint64_t i = 0; i < cols; i++) dst[i] = ds_float_from_bits(ds_load_u32(p + 4 * i));
        break;
    case DS_TYPE_F16:
        for (uint64_t i = 0; i < cols; i++) dst[i] = widen_f16(p + 2 * i);
        break;
    case DS_TYPE_BF16:
        for (uint64_t i = 0; i < cols; i++) dst[i] = ds_float_from_bits((uint32_t)ds_load_u16(p + 2 * i) << 16);
        break;
    default:
        assert(widen[type]);
        for (uint64_t i = 0; i < cols; i += info->block, p += info->bytes) widen[type](p, dst + i);
    }
}
