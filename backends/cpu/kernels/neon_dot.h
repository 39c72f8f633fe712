/*
 * Integer dot products for arm64, of one record of packed weights (pack.h: 16 outputs x 256 inputs) with rows of int8 activations.
 * Weights are signed here, offsets and codebooks resolved as they are unpacked, so that a dot is one of q and needs no correction.
 * A part is a register of four outputs; kernels of several rows take half of the outputs at a time, so that sums stay in registers.
 *
 *   i8mm      SMMLA: 2 rows x 2 outputs x 8 inputs. Neighbouring vectors are zipped to 2 outputs x 8 inputs when unpacked.
 *   dotprod   SDOT by lane: 4 outputs x 4 inputs, the activations of 16 inputs in one register.
 *   neon      SMLAL into int16: |w| <= 32 allows chains of 8 products (8 * 32 * 127 = 32512), |w| <= 128 chains of 2 (2 * 128 * 127 =
 *             32512); then the lanes are added to int32.
 */
#ifndef DSPARK_CPU_NEON_DOT_H
#define DSPARK_CPU_NEON_DOT_H

#include "kernels/tile.h"

#if defined(__ARM_FEATURE_DOTPROD)
#define NEON_DOTPROD 1
#else
#define NEON_DOTPROD 0
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
#define NEON_MATRIX 1
#else
#define NEON_MATRIX 0
#endif

enum { NEON_ROWS = 4, NEON_HALF = 2, NEON_PARTS = 4 };

/* What a kernel is specialised for; every member is a constant where it is inlined. */
struct neon_kind {
    int low_bits, high_bits, offset; /* as in struct ds_pack */
    bool levels;
    int groups;
    bool minimum;
    bool wide; /* weights of 8 bits, once unpacked */
    bool fine; /* activations have a scale for each block of 32 */
};

struct neon_tile {
    _Alignas(64) float d[8][DS_TILE];   /* of each block of 32, or d[0] of the block of 256 */
    float m[8][DS_TILE];                /* minimums, likewise */
    int32_t scale[16][DS_TILE];
    int16_t minimum[16][DS_TILE];
    int8_t w[DS_RUN * DS_TILE];         /* [64 vectors][16 outputs][4], or with SMMLA [32][16 outputs][8] */
    int8x16_t levels;
};

/* Where weights come from: planes, unpacked on the way, or neon_tile.w. The eight vectors of one block of 32. */
struct neon_source {
    const uint8_t *low, *high;
    const int8_t *w;
    int8x16_t levels;
};

/* Sums of up to four rows. [row][part], or, in pairs of rows p, [2 p + k / 2][k % 2] = the 2 x 2 of outputs 2 k, 2 k + 1. */
typedef int32x4_t neon_sums[NEON_ROWS][NEON_PARTS];

/* --- unpacking --- */

/* Vector j < 8 of a block, one part of it. */
DS_INLINE int8x16_t neon_unpacked(const struct neon_source *from, const struct neon_kind kind, const int j, const int part) {
    const int low_each = 8 / kind.low_bits, low_shift = j % low_each * kind.low_bits, low_mask = (1 << kind.low_bits) - 1;
    uint8x16_t x = vld1q_u8(from->low + j / low_each * 64 + part * 16) >> low_shift;
    if (low_shift + kind.low_bits < 8) x &= (uint8_t)low_mask;
    if (kind.high_bits) {
        const int high_each = 8 / kind.high_bits, up = kind.low_bits - j % high_each * kind.high_bits;
        const uint8x16_t y = vld1q_u8(from->high + j / high_each * 64 + part * 16);
        x |= (up < 0 ? y >> -up : y << up) & (uint8_t)(((1 << kind.high_bits) - 1) << kind.low_bits);
    }
    if (kind.levels) return vqtbl1q_s8(from->levels, x);
    return vreinterpretq_s8_u8(kind.offset ? x - (uint8_t)kind.offset : x);
}

DS_INLINE struct neon_source neon_planes(const uint8_t *record, const struct neon_kind kind, const struct neon_tile *tile, int block) {
    return (struct neon_source){.low = record + block * 64 * kind.low_bits,
                                .high = record + DS_RUN * DS_TILE / 8 * kind.low_bits + block * 64 * kind.high_bits,
                                .levels = tile->levels};
}

/* All weights of a record, for kernels of several rows to load. */
DS_INLINE void neon_unpack(const uint8_t *record, const struct neon_kind kind, struct neon_tile *tile) {
    int8_t *out = tile->w;
    for (int b = 0; b < 8; b++, out += 8 * 64) {
        const struct neon_source from = neon_planes(record, kind, tile, b);
        DS_UNROLL for (int part = 0; part < NEON_PARTS; part++) {
            DS_UNROLL for (int j = 0; j < 8; j += 2) {
                const int8x16_t first = neon_unpacked(&from, kind, j, part), second = neon_unpacked(&from, kind, j + 1, part);
                if (NEON_MATRIX) {
                    const int32x4_t a = vreinterpretq_s32_s8(first), b32 = vreinterpretq_s32_s8(second);
                    vst1q_s8(out + j * 64 + part * 32, vreinterpretq_s8_s32(vzip1q_s32(a, b32)));
                    vst1q_s8(out + j * 64 + part * 32 + 16, vreinterpretq_s8_s32(vzip2q_s32(a, b32)));
                } else {
                    vst1q_s8(out + j * 64 + part * 16, first);
                    vst1q_s8(out + j * 64 + 64 + part * 16, second);
                }
            }
        }
    }
}

/* What stands behind the planes. */
DS_INLINE void neon_scales(const struct ds_pack *pack, const uint8_t *record, const struct neon_kind kind, struct neon_tile *tile) {
    const int float_rows = kind.groups ? 1 : 8;
    ds_tile_floats(record + pack->d_at, pack->bf16_scale, float_rows, tile->d);
    if (kind.minimum) ds_tile_floats(record + pack->dmin_at, false, float_rows, tile->m);
    for (int g = 0; g < kind.groups; g++) vi_store(tile->scale[g], vi_widen_s8(record + pack->scale_at + g * DS_TILE));
    for (int g = 0; kind.minimum && g < kind.groups; g++) {
        const uint8x16_t minimum = vld1q_u8(record + pack->minimum_at + g * DS_TILE);
        vst1q_s16(tile->minimum[g], vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(minimum))));
        vst1q_s16(tile->minimum[g] + 8, vreinterpretq_s16_u16(vmovl_high_u8(minimum)));
    }
    if (kind.levels) tile->levels = vld1q_s8(pack->levels);
}

/* --- dots of vectors first .. first + count - 1 of a block, for n rows and `parts` parts from `part` on; all but `part` constants --- */

DS_INLINE int8x16_t neon_weights(const struct neon_source *from, const struct neon_kind kind, const bool planes, const int j, int part) {
    return planes ? neon_unpacked(from, kind, j, part) : vld1q_s8(from->w + j * 64 + part * 16);
}

DS_INLINE void neon_clear(const int n, const int parts, neon_sums acc) {
    DS_UNROLL for (int r = 0; r < n; r++)
        DS_UNROLL for (int i = 0; i < parts; i++) acc[r][i] = vdupq_n_s32(0);
}

#if NEON_DOTPROD
#define NEON_DOT_LANE(lane)                                                                              \
    DS_UNROLL for (int i = 0; i < parts; i++) {                                                          \
        const int8x16_t w = neon_weights(from, kind, planes, j + (lane), part + i);                      \
        DS_UNROLL for (int r = 0; r < n; r++) acc[r][i] = vdotq_laneq_s32(acc[r][i], w, x[r], lane);     \
    }

DS_INLINE void neon_dots(const struct neon_source *from, const struct neon_kind kind, const bool planes, const int8_t *const *q, const int n,
                         int part, const int parts, const int first, const int count, neon_sums acc) {
    neon_clear(n, parts, acc);
    DS_UNROLL for (int j = first; j < first + count; j += 4) {
        int8x16_t x[NEON_ROWS];
        DS_UNROLL for (int r = 0; r < n; r++) x[r] = vld1q_s8(q[r] + j * 4);
        NEON_DOT_LANE(0)
        NEON_DOT_LANE(1)
        NEON_DOT_LANE(2)
        NEON_DOT_LANE(3)
    }
}
#undef NEON_DOT_LANE
#else
DS_INLINE void neon_dots(const struct neon_source *from, const struct neon_kind kind, const bool planes, const int8_t *const *q, const int n,
                         int part, const int parts, const int first, const int count, neon_sums acc) {
    const int chain = kind.wide ? 2 : count;
    DS_UNROLL for (int c = 0; c < count; c += chain) {
        int16x8_t low[NEON_ROWS][NEON_PARTS], high[NEON_ROWS][NEON_PARTS];
        DS_UNROLL for (int v = 0; v < chain; v++) {
            const int j = first + c + v;
            int8x16_t x[NEON_ROWS];
            DS_UNROLL for (int r = 0; r < n; r++) x[r] = vreinterpretq_s8_s32(vdupq_n_s32(ds_tile_load4(q[r] + j * 4)));
            DS_UNROLL for (int i = 0; i < parts; i++) {
                const int8x16_t w = neon_weights(from, kind, planes, j, part + i);
                DS_UNROLL for (int r = 0; r < n; r++) {
                    low[r][i] = v ? vmlal_s8(low[r][i], vget_low_s8(w), vget_low_s8(x[r])) : vmull_s8(vget_low_s8(w), vget_low_s8(x[r]));
                    high[r][i] = v ? vmlal_high_s8(high[r][i], w, x[r]) : vmull_high_s8(w, x[r]);
                }
            }
        }
        DS_UNROLL for (int r = 0; r < n; r++) {
            DS_UNROLL for (int i = 0; i < parts; i++) {
                const int32x4_t sum = vpaddq_s32(vpaddlq_s16(low[r][i]), vpaddlq_s16(high[r][i]));
                acc[r][i] = c ? vaddq_s32(acc[r][i], sum) : sum;
            }
        }
    }
}
#endif

#if NEON_MATRIX
/* Half of the outputs, n (2 or 4) rows in pairs, from neon_tile.w. */
DS_INLINE void neon_products(const struct neon_source *from, const int8_t *const *q, const int n, int part, const int first, const int count,
                             neon_sums acc) {
    neon_clear(n, NEON_HALF, acc);
    DS_UNROLL for (int j = first; j < first + count; j += 4) {
        int8x16_t x[2][NEON_ROWS / 2];
        DS_UNROLL for (int p = 0; p < n / 2; p++) {
            const int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(q[2 * p] + j * 4)), b = vreinterpretq_s64_s8(vld1q_s8(q[2 * p + 1] + j * 4));
            x[0][p] = vreinterpretq_s8_s64(vzip1q_s64(a, b));
            x[1][p] = vreinterpretq_s8_s64(vzip2q_s64(a, b));
        }
        DS_UNROLL for (int step = 0; step < 2; step++) {
            DS_UNROLL for (int k = 0; k < 2 * NEON_HALF; k++) {
                const int8x16_t w = vld1q_s8(from->w + (j + 2 * step) * 64 + part * 32 + k * 16);
                DS_UNROLL for (int p = 0; p < n / 2; p++) acc[2 * p + k / 2][k % 2] = vmmlaq_s32(acc[2 * p + k / 2][k % 2], x[step][p], w);
            }
        }
    }
}

/* Pairs of rows to rows. */
DS_INLINE void neon_to_rows(const int n, neon_sums acc) {
    DS_UNROLL for (int p = 0; p < n; p += 2) {
        const int64x2_t a = vreinterpretq_s64_s32(acc[p][0]), b = vreinterpretq_s64_s32(acc[p][1]);
        const int64x2_t c = vreinterpretq_s64_s32(acc[p + 1][0]), d = vreinterpretq_s64_s32(acc[p + 1][1]);
        acc[p][0] = vreinterpretq_s32_s64(vzip1q_s64(a, b));
        acc[p][1] = vreinterpretq_s32_s64(vzip1q_s64(c, d));
        acc[p + 1][0] = vreinterpretq_s32_s64(vzip2q_s64(a, b));
        acc[p + 1][1] = vreinterpretq_s32_s64(vzip2q_s64(c, d));
    }
}
#endif

#endif
