#include "ckpt/quantize.h"

#include "ckpt/quantize_fit.h"

#include <assert.h>

/* --- blocks of 32 --- */

static void store_q4_0(const float *x, uint8_t *block) {
    static const struct ds_levels levels = {-8, 7};
    const float scale = ds_store_f16(block, ds_fit_scale(x, 32, levels));
    int8_t q[32];
    ds_fit_levels(x, 32, scale, 0, levels, q);
    for (int i = 0; i < 16; i++) block[2 + i] = (uint8_t)((q[i] + 8) | (q[i + 16] + 8) << 4);
}

/* Eight bits leave little to search: the largest magnitude is 127, the elements are rounded against the stored scale. */
static void store_q8_0(const float *x, uint8_t *block) {
    float largest = 0;
    for (int i = 0; i < 32; i++) largest = DS_MAX(largest, ds_abs(x[i]));
    const float scale = ds_store_f16(block, largest / 127);
    int8_t q[32];
    ds_fit_levels(x, 32, scale, 0, (struct ds_levels){-127, 127}, q);
    memcpy(block + 2, q, sizeof q);
}

static void (*const store[DS_TYPE_COUNT])(const float *x, uint8_t *block) = {
    [DS_TYPE_Q4_0] = store_q4_0,
    [DS_TYPE_Q8_0] = store_q8_0,
    [DS_TYPE_Q4_K] = ds_quantize_block_q4_k,
    [DS_TYPE_Q5_K] = ds_quantize_block_q5_k,
    [DS_TYPE_Q6_K] = ds_quantize_block_q6_k,
};

/* --- rows --- */

static bool is_float(ds_type type) { return type == DS_TYPE_F32 || type == DS_TYPE_F16 || type == DS_TYPE_BF16; }

bool ds_type_is_writable(ds_type type) { return is_float(type) || store[type]; }

void ds_quantize_row(ds_type type, const float *src, uint64_t cols, void *dst) {
    const struct ds_type_info *info = ds_type_get(type);
    assert(cols % info->block == 0 && ds_type_is_writable(type));
    uint8_t *p = dst;
    switch (type) {
    case DS_TYPE_F32:
        for (uint64_t i = 0; i < cols; i++) {
            const uint32_t bits = ds_bits(src[i]);
            ds_store_u16(p + 4 * i, bits & 0xFFFF);
            ds_store_u16(p + 4 * i + 2, bits >> 16);
        }
        break;
    case DS_TYPE_F16:
        for (uint64_t i = 0; i < cols; i++) ds_store_u16(p + 2 * i, ds_f32_to_f16(src[i]));
        break;
    case DS_TYPE_BF16:
        for (uint64_t i = 0; i < cols; i++) ds_store_u16(p + 2 * i, ds_f32_to_bf16(src[i]));
        break;
    default:
        for (uint64_t i = 0; i < cols; i += info->block, p += info->bytes) store[type](src + i, p);
    }
}

bool ds_row_fits(ds_type type, const float *src, uint64_t cols, uint64_t *bad) {
    if (type == DS_TYPE_F32 || type == DS_TYPE_BF16) return true;
    const float most = type == DS_TYPE_F16 ? 65504.0f : 3.4028234663852886e38f;
    for (uint64_t i = 0; i < cols; i++) {
        if (ds_abs(src[i]) <= most) continue; /* false for NaN, too */
        *bad = i;
        return false;
    }
    return true;
}
