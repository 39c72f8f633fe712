/*
 * Linears with quantised weights on kernels/neon_dot.h. Meaning: ref/linear.c.
 */
#ifndef DSPARK_CPU_LINEAR_NEON_H
#define DSPARK_CPU_LINEAR_NEON_H

#include "kernels/linear_rows.h"
#include "kernels/neon_dot.h"

/* --- one group of inputs --- */

/* acc = the dots of `count` vectors of block b from `first` on, by rows or in pairs of rows; everything but b and part is constant. */
DS_INLINE void neon_group(const struct neon_tile *tile, const uint8_t *record, const struct neon_kind kind, const bool planes,
                          const struct ds_tile_row *rows, const int n, int part, const int parts, int b, const int first, const int count,
                          neon_sums acc) {
    const int8_t *q[NEON_ROWS];
    DS_UNROLL for (int r = 0; r < n; r++) q[r] = rows[r].q + b * 32;
    struct neon_source from = {.w = tile->w + b * 8 * 64};
    if (planes) from = neon_planes(record, kind, tile, b);
#if NEON_MATRIX
    if (!planes) {
        neon_products(&from, q, n, part, first, count, acc);
        return;
    }
#endif
    neon_dots(&from, kind, planes, q, n, part, parts, first, count, acc);
}

/* --- a run: total[r] += its sum, for the first `valid` of n rows --- */

/* Of a tile's row of sixteen, what acc[r][i] is multiplied by. */
DS_INLINE int32x4_t neon_factor(const int32_t *scale, const bool pairs, int part, int r, int i) {
    if (!pairs) return vld1q_s32(scale + 4 * (part + i));
    return vreinterpretq_s32_s64(vld1q_dup_s64((const int64_t *)(const void *)(scale + 4 * part + 4 * (r % 2) + 2 * i)));
}

DS_INLINE void neon_add_run(const float32x4_t run, int part, float *total) {
    vst1q_f32(total + 4 * part, vaddq_f32(vld1q_f32(total + 4 * part), run));
}

/* Blocks of 32: d_x * sum of (f32(dot) * d (+ f32(sum of x) * m)), or the sum of f32(dot) * (d * d_x). */
DS_INLINE void neon_run_of_32(const struct neon_tile *tile, const uint8_t *record, const struct neon_kind kind, const bool planes,
                              const struct ds_tile_row *rows, const int n, uint32_t valid, int part, const int parts, float (*total)[DS_TILE]) {
    float32x4_t sum[NEON_ROWS][NEON_PARTS];
    DS_UNROLL for (int r = 0; r < n; r++)
        DS_UNROLL for (int i = 0; i < parts; i++) sum[r][i] = vdupq_n_f32(0);
    for (int b = 0; b < 8; b++) {
        neon_sums acc;
        neon_group(tile, record, kind, planes, rows, n, part, parts, b, 0, 8, acc);
#if NEON_MATRIX
        if (!planes) neon_to_rows(n, acc);
#endif
        DS_UNROLL for (int r = 0; r < n; r++) {
            DS_UNROLL for (int i = 0; i < parts; i++) {
                const float32x4_t d = vld1q_f32(tile->d[b] + 4 * (part + i));
                float32x4_t t = vmulq_f32(vcvtq_f32_s32(acc[r][i]), kind.fine ? vmulq_n_f32(d, rows[r].d[b]) : d);
                if (kind.minimum) {
                    const float x_sum = (float)(rows[r].sums[2 * b] + rows[r].sums[2 * b + 1]);
                    t = vaddq_f32(t, vmulq_n_f32(vld1q_f32(tile->m[b] + 4 * (part + i)), x_sum));
                }
                sum[r][i] = vaddq_f32(sum[r][i], t);
            }
        }
    }
    DS_UNROLL for (int r = 0; r < n; r++)
        DS_UNROLL for (int i = 0; i < parts && (uint32_t)r < valid; i++)
            neon_add_run(kind.fine ? sum[r][i] : vmulq_n_f32(sum[r][i], *rows[r].d), part + i, total[r]);
}

/* Minimums: sum over groups of minimum * (sum of x), below 16 * 16 * 127 * 63. */
DS_INLINE int32x4_t neon_minimum(const struct neon_tile *tile, const struct ds_tile_row *row, const int groups, int part) {
    int16x8_t sums[2] = {vld1q_s16(row->sums), vld1q_s16(row->sums + 8)};
    if (groups == 8) sums[0] = vpaddq_s16(sums[0], sums[1]);
    int32x4_t all = vdupq_n_s32(0);
    DS_UNROLL for (int g = 0; g < groups; g++) all = vmlal_s16(all, vld1_s16(tile->minimum[g] + 4 * part), vdup_n_s16(sums[g / 8][g % 8]));
    return all;
}

/* Blocks of 256: (d * d_x) * f32(sum of scale * dot) (- (dmin * d_x) * f32(sum of minimum * (sum of x))). */
DS_INLINE void neon_run_of_256(const struct neon_tile *tile, const uint8_t *record, const struct neon_kind kind, const bool planes,
                               const struct ds_tile_row *rows, const int n, uint32_t valid, int part, const int parts, float (*total)[DS_TILE]) {
    const bool pairs = NEON_MATRIX && !planes;
    const int each = kind.groups / 8;
    neon_sums isum;
    neon_clear(n, parts, isum);
    for (int b = 0; b < 8; b++) {
        DS_UNROLL for (int g = 0; g < each; g++) {
            neon_sums acc;
            neon_group(tile, record, kind, planes, rows, n, part, parts, b, g * 4, 8 / each, acc);
            DS_UNROLL for (int r = 0; r < n; r++)
                DS_UNROLL for (int i = 0; i < parts; i++)
                    isum[r][i] = vmlaq_s32(isum[r][i], acc[r][i], neon_factor(tile->scale[b * each + g], pairs, part, r, i));
        }
    }
#if NEON_MATRIX
    if (pairs) neon_to_rows(n, isum);
#endif
    DS_UNROLL for (int r = 0; r < n; r++) {
        DS_UNROLL for (int i = 0; i < parts && (uint32_t)r < valid; i++) {
            float32x4_t run = vmulq_f32(vmulq_n_f32(vld1q_f32(tile->d[0] + 4 * (part + i)), *rows[r].d), vcvtq_f32_s32(isum[r][i]));
            if (kind.minimum) {
                const float32x4_t m = vmulq_n_f32(vld1q_f32(tile->m[0] + 4 * (part + i)), *rows[r].d);
                run = vsubq_f32(run, vmulq_f32(m, vcvtq_f32_s32(neon_minimum(tile, &rows[r], kind.groups, part + i))));
            }
            neon_add_run(run, part + i, total[r]);
        }
    }
}

DS_INLINE void neon_run(const struct neon_tile *tile, const uint8_t *record, const struct neon_kind kind, const bool planes,
                        const struct ds_tile_row *rows, const int n, uint32_t valid, int part, const int parts, float (*total)[DS_TILE]) {
    if (kind.groups) neon_run_of_256(tile, record, kind, planes, rows, n, valid, part, parts, total);
    else neon_run_of_32(tile, record, kind, planes, rows, n, valid, part, parts, total);
}

/* --- rows --- */

/* Four rows at a time, then two, from neon_tile.w; the last row stands in for those that are missing. */
DS_INLINE void neon_all_rows(const struct neon_tile *tile, const struct neon_kind kind, const struct ds_tile_row *rows, uint32_t n,
                             float (*total)[DS_TILE]) {
    const uint32_t most = NEON_DOTPROD ? 4 : 2; /* sums in int16 take twice the registers */
    for (uint32_t r = 0; r < n; r += most) {
        struct ds_tile_row x[NEON_ROWS];
        const uint32_t valid = DS_MIN(n - r, most);
        for (uint32_t i = 0; i < most; i++) x[i] = rows[r + DS_MIN(i, valid - 1)];
        for (int part = 0; part < NEON_PARTS; part += NEON_HALF) {
            if (most == 4 && valid > 2) neon_run(tile, NULL, kind, false, x, 4, valid, part, NEON_HALF, total + r);
            else neon_run(tile, NULL, kind, false, x, 2, valid, part, NEON_HALF, total + r);
        }
    }
}

/* Kernels of several rows differ in what they do with dots, not in how weights were packed. */
typedef void (*neon_rows_fn)(const struct neon_tile *tile, const struct ds_tile_row *rows, uint32_t n, float (*total)[DS_TILE]);
#define NEON_SEVERAL(name, ...)                                                                                                    \
    static void name(const struct neon_tile *tile, const struct ds_tile_row *rows, uint32_t n, float (*total)[DS_TILE]) {         \
        const struct neon_kind kind = {__VA_ARGS__};                                                                              \
        neon_all_rows(tile, kind, rows, n, total);                                                                                \
    }
NEON_SEVERAL(neon_rows_fine, .wide = true, .fine = true)
NEON_SEVERAL(neon_rows_32_wide, .wide = true)
NEON_SEVERAL(neon_rows_32, .wide = false)
NEON_SEVERAL(neon_rows_32_minimum, .minimum = true)
NEON_SEVERAL(neon_rows_8, .groups = 8, .minimum = true)
NEON_SEVERAL(neon_rows_8_wide, .groups = 8, .wide = true)
NEON_SEVERAL(neon_rows_16, .groups = 16)
NEON_SEVERAL(neon_rows_16_minimum, .groups = 16, .minimum = true)

/* One record for n rows: one row takes the weights from the planes in registers, for more they are unpacked once. */
typedef void (*neon_record_fn)(const struct ds_pack *pack, const uint8_t *record, struct neon_tile *tile, const struct ds_tile_row *rows,
                               uint32_t n, float (*total)[DS_TILE]);
#define NEON_RECORD(name, several, ...)                                                                                            \
    static void name(const struct ds_pack *pack, const uint8_t *record, struct neon_tile *tile, const struct ds_tile_row *rows,    \
                     uint32_t n, float (*total)[DS_TILE]) {                                                                        \
        const struct neon_kind kind = {__VA_ARGS__};                                                                               \
        neon_scales(pack, record, kind, tile);                                                                                     \
        if (n == 1) {                                                                                                              \
            neon_run(tile, record, kind, true, rows, 1, 1, 0, NEON_PARTS, total);                                                  \
        } else {                                                                                                                   \
            neon_unpack(record, kind, tile);                                                                                       \
            several(tile, rows, n, total);                                                                                         \
        }                                                                                                                          \
    }
NEON_RECORD(neon_q8_0, neon_rows_fine, .low_bits = 8, .offset = 128, .wide = true, .fine = true)
NEON_RECORD(neon_q4_0, neon_rows_32, .low_bits = 4, .offset = 8)
NEON_RECORD(neon_q4_1, neon_rows_32_minimum, .low_bits = 4, .minimum = true)
NEON_RECORD(neon_q5_0, neon_rows_32, .low_bits = 4, .high_bits = 1, .offset = 16)
NEON_RECORD(neon_q5_1, neon_rows_32_minimum, .low_bits = 4, .high_bits = 1, .minimum = true)
NEON_RECORD(neon_levels_32, neon_rows_32_wide, .low_bits = 4, .levels = true, .wide = true)
NEON_RECORD(neon_levels_256, neon_rows_8_wide, .low_bits = 4, .levels = true, .wide = true, .groups = 8)
NEON_RECORD(neon_q2_k, neon_rows_16_minimum, .low_bits = 2, .groups = 16, .minimum = true)
NEON_RECORD(neon_q3_k, neon_rows_16, .low_bits = 2, .high_bits = 1, .offset = 4, .groups = 16)
NEON_RECORD(neon_q4_k, neon_rows_8, .low_bits = 4, .groups = 8, .minimum = true)
NEON_RECORD(neon_q5_k, neon_rows_8, .low_bits = 4, .high_bits = 1, .groups = 8, .minimum = true)
NEON_RECORD(neon_q6_k, neon_rows_16, .low_bits = 4, .high_bits = 2, .offset = 32, .groups = 16)

static neon_record_fn neon_record_of(ds_type type) {
    switch (type) {
    case DS_TYPE_Q8_0: return neon_q8_0;
    case DS_TYPE_Q4_1: return neon_q4_1;
    case DS_TYPE_Q5_0: return neon_q5_0;
    case DS_TYPE_Q5_1: return neon_q5_1;
    case DS_TYPE_IQ4_NL:
    case DS_TYPE_MXFP4: return neon_levels_32;
    case DS_TYPE_IQ4_XS: return neon_levels_256;
    case DS_TYPE_Q2_K: return neon_q2_k;
    case DS_TYPE_Q3_K: return neon_q3_k;
    case DS_TYPE_Q4_K: return neon_q4_k;
    case DS_TYPE_Q5_K: return neon_q5_k;
    case DS_TYPE_Q6_K: return neon_q6_k;
    default: return neon_q4_0;
    }
}

/* Nothing is to be prepared. */
static void prepare_rows(const struct ds_op_linear *p, uint32_t first_row, uint32_t rows, uint8_t *prepared) {
    (void)p, (void)first_row, (void)rows, (void)prepared;
}

static void tile_of_blocks(const struct ds_op_linear *p, const uint8_t *prepared, const uint8_t *packed, uint32_t first_row, uint32_t rows,
                           float (*total)[DS_TILE]) {
    (void)prepared;
    const struct ds_pack *pack = ds_pack_get(p->weight.type);
    const neon_record_fn record = neon_record_of(p->weight.type);
    const uint32_t runs = ds_q8_padded(p->x.cols) / DS_RUN;
    struct neon_tile tile;
    for (uint32_t i = 0; i < runs; i++, packed += pack->run_bytes) {
        for (uint32_t at = 0; at < pack->run_bytes; at += 64) __builtin_prefetch(packed + pack->run_bytes + at);
        struct ds_tile_row x[DS_LINEAR_ROWS];
        ds_tile_rows(&p->x, first_row, rows, i, x);
        record(pack, packed, &tile, x, rows, total);
    }
}

#endif
