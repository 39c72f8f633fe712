/*
 * Blocks of 256: groups whose scales (and offsets) are small integers times one f16 of the block. Groups are fitted on their
 * own first; then the integers are chosen against the rounded f16s, each among its neighbours, by the error that really comes
 * out; then the f16s are fitted to the integers (least squares) and the integers chosen again, as long as it helps.
 */
#include "ckpt/quantize_fit.h"

enum { BLOCK = 256, TURNS = 1 };

static int nearest_int(double x, int low, int high) {
    if (!(x > low)) return low;
    if (x > high) return high;
    return (int)(x < 0 ? x - 0.5 : x + 0.5);
}

/* --- Q4_K, Q5_K: 8 groups of 32, scales and offsets of 6 bits --- */

enum { GROUPS = 8, GROUP = BLOCK / GROUPS, MOST = 63 };

struct affine_block {
    float d, dmin;
    uint8_t scale[GROUPS], offset[GROUPS];
    double error;
};

/* The best of the integers within 1 of the given ones; adds its error to the block's. */
static void choose_pair(struct affine_block *b, int g, const float *x, int scale, int offset, struct ds_levels levels) {
    float best = -1;
    for (int s = DS_MAX(scale - 1, 0); s <= DS_MIN(scale + 1, MOST); s++) {
        for (int o = DS_MAX(offset - 1, 0); o <= DS_MIN(offset + 1, MOST); o++) {
            const float error = ds_fit_error(x, GROUP, b->d * (float)s, b->dmin * (float)o, levels);
            if (best >= 0 && !(error < best)) continue;
            best = error;
            b->scale[g] = (uint8_t)s;
            b->offset[g] = (uint8_t)o;
        }
    }
    b->error += (double)best;
}

/* The two f16s that suit the block's integers best. False when they do not determine them. */
static bool refit_affine(const struct affine_block *b, const float *x, struct ds_levels levels, float *d, float *dmin) {
    double ss = 0, so = 0, oo = 0, sx = 0, ox = 0; /* of the normal equations for x ~ d * (scale q) - dmin * offset */
    for (int g = 0; g < GROUPS; g++) {
        const float *group = x + g * GROUP;
        const double scale = b->scale[g], offset = b->offset[g];
        const struct ds_fit f = ds_fit_sums(group, GROUP, ds_rounding_of(b->d * (float)scale, b->dmin * (float)offset), levels);
        double sum = 0;
        for (int i = 0; i < GROUP; i++) sum += (double)group[i];
        ss += scale * scale * f.qq;
        so += scale * offset * f.q;
        oo += offset * offset * GROUP;
        sx += scale * f.qx;
        ox += offset * sum;
    }
    const double determinant = ss * oo - so * so;
    if (oo > 0 && determinant > 0) {
        *d = ds_round_f16((float)((sx * oo - so * ox) / determinant));
        *dmin = ds_round_f16((float)((sx * so - ss * ox) / determinant));
    } else {
        *d = ss > 0 ? ds_round_f16((float)(sx / ss)) : 0.0f;
        *dmin = b->dmin;
    }
    return *d > 0 && *dmin >= 0;
}

static struct affine_block fit_affine_block(const float *x, struct ds_levels levels) {
    struct ds_affine fits[GROUPS];
    float largest_scale = 0, largest_offset = 0;
    for (int g = 0; g < GROUPS; g++) {
        fits[g] = ds_fit_affine(x + g * GROUP, GROUP, levels);
        largest_scale = DS_MAX(largest_scale, fits[g].scale);
        largest_offset = DS_MAX(largest_offset, fits[g].offset);
    }
    struct affine_block best = {.d = ds_round_f16(largest_scale / MOST), .dmin = ds_round_f16(largest_offset / MOST)};
    for (int g = 0; g < GROUPS; g++) {
        const int scale = best.d > 0 ? nearest_int((double)fits[g].scale / (double)best.d, 0, MOST) : 0;
        const int offset = best.dmin > 0 ? nearest_int((double)fits[g].offset / (double)best.dmin, 0, MOST) : 0;
        choose_pair(&best, g, x + g * GROUP, scale, offset, levels);
    }
    for (int turn = 0; turn < TURNS; turn++) {
        struct affine_block next = {0};
        if (!refit_affine(&best, x, levels, &next.d, &next.dmin)) break;
        for (int g = 0; g < GROUPS; g++) choose_pair(&next, g, x + g * GROUP, best.scale[g], best.offset[g], levels);
        if (!(next.error < best.error)) break;
        best = next;
    }
    return best;
}

/* 12 bytes: see blocks.c. */
static void store_scales(uint8_t *out, const struct affine_block *b) {
    for (int g = 0; g < 4; g++) {
        out[g] = (uint8_t)(b->scale[g] | b->scale[g + 4] >> 4 << 6);
        out[g + 4] = (uint8_t)(b->offset[g] | b->offset[g + 4] >> 4 << 6);
        out[g + 8] = (uint8_t)((b->scale[g + 4] & 15) | (b->offset[g + 4] & 15) << 4);
    }
}

static void store_affine_block(const float *x, struct ds_levels levels, uint8_t *block, uint8_t *high, uint8_t *nibbles) {
    const struct affine_block b = fit_affine_block(x, levels);
    ds_store_f16(block, b.d);
    ds_store_f16(block + 2, b.dmin);
    store_scales(block + 4, &b);
    memset(nibbles, 0, BLOCK / 2);
    if (high) memset(high, 0, GROUP);
    for (int g = 0; g < GROUPS; g++) {
        int8_t q[GROUP];
        ds_fit_levels(x + g * GROUP, GROUP, b.d * (float)b.scale[g], b.dmin * (float)b.offset[g], levels, q);
        for (int i = 0; i < GROUP; i++) {
            nibbles[GROUP * (g / 2) + i] |= (uint8_t)((q[i] & 15) << 4 * (g % 2));
            if (high) high[i] |= (uint8_t)(q[i] >> 4 << g);
        }
    }
}

void ds_quantize_block_q4_k(const float *x, uint8_t *block) {
    store_affine_block(x, (struct ds_levels){0, 15}, block, NULL, block + 16);
}

void ds_quantize_block_q5_k(const float *x, uint8_t *block) {
    store_affine_block(x, (struct ds_levels){0, 31}, block, block + 16, block + 48);
}

/* --- Q6_K: 16 groups of 16, scales of 8 bits with a sign, no offsets --- */

enum { GROUPS6 = 16, GROUP6 = BLOCK / GROUPS6 };
static const struct ds_levels levels6 = {-32, 31};

struct scaled_block {
    float d;
    int8_t scale[GROUPS6];
    double error;
};

static void choose_scale(struct scaled_block *b, int g, const float *x, int scale) {
    float best = -1;
    for (int s = DS_MAX(scale - 1, -128); s <= DS_MIN(scale + 1, 127); s++) {
        const float error = ds_fit_error(x, GROUP6, b->d * (float)s, 0, levels6);
        if (best >= 0 && !(error < best)) continue;
        best = error;
        b->scale[g] = (int8_t)s;
    }
    b->error += (double)best;
}

static float refit_scaled(const struct scaled_block *b, const float *x) {
    double ss = 0, sx = 0;
    for (int g = 0; g < GROUPS6; g++) {
        const double scale = b->scale[g];
        const struct ds_fit f = ds_fit_sums(x + g * GROUP6, GROUP6, ds_rounding_of(b->d * (float)scale, 0), levels6);
        ss += scale * scale * f.qq;
        sx += scale * f.qx;
    }
    return ss > 0 ? ds_round_f16((float)(sx / ss)) : 0.0f;
}

static struct scaled_block fit_scaled_block(const float *x) {
    float scales[GROUPS6], largest = 0;
    for (int g = 0; g < GROUPS6; g++) {
        scales[g] = ds_fit_scale(x + g * GROUP6, GROUP6, levels6);
        if (ds_abs(scales[g]) > ds_abs(largest)) largest = scales[g];
    }
    /* The largest scale becomes -128, the end of the range that reaches further. */
    struct scaled_block best = {.d = ds_round_f16(largest / -128)};
    for (int g = 0; g < GROUPS6; g++) {
        const double ratio = best.d != 0 ? (double)scales[g] / (double)best.d : 0;
        choose_scale(&best, g, x + g * GROUP6, nearest_int(ratio, -128, 127));
    }
    for (int turn = 0; turn < TURNS; turn++) {
        struct scaled_block next = {.d = refit_scaled(&best, x)};
        for (int g = 0; g < GROUPS6; g++) choose_scale(&next, g, x + g * GROUP6, best.scale[g]);
        if (!(next.error < best.error)) break;
        best = next;
    }
    return best;
}

void ds_quantize_block_q6_k(const float *x, uint8_t *block) {
    uint8_t *low = block, *high = block + 128;
    const struct scaled_block b = fit_scaled_block(x);
    memset(block, 0, 192);
    memcpy(block + 192, b.scale, sizeof b.scale);
    ds_store_f16(block + 208, b.d);
    for (int g = 0; g < GROUPS6; g++) {
        int8_t q[GROUP6];
        ds_fit_levels(x + g * GROUP6, GROUP6, b.d * (float)b.scale[g], 0, levels6, q);
        /* The places of blocks.c: 32 elements a step, of which g is one half. */
        const int step = g / 2, at = GROUP6 * (g % 2);
        for (int i = 0; i < GROUP6; i++) {
            const unsigned level = (unsigned)(q[i] + 32);
            low[64 * (step / 4) + 32 * (step % 2) + at + i] |= (uint8_t)((level & 15) << (step % 4 < 2 ? 0 : 4));
            high[32 * (step / 4) + at + i] |= (uint8_t)(level >> 4 << 2 * (step % 4));
        }
    }
}
