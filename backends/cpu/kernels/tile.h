/*
 * One record of packed weights (pack.h: 16 outputs x 256 inputs) made ready in the first-level cache, and its dot products with
 * rows of int8 activations. Unpacked once for all rows of a batch; its cost is hidden behind the read from memory.
 */
#ifndef DSPARK_CPU_TILE_H
#define DSPARK_CPU_TILE_H

#include "host_device.h"
#include "kernels/vec.h"
#include "pack.h"

struct ds_tile {
    const uint8_t *u;                     /* [64 vectors][16 outputs][4], unsigned; `unpacked` or the record itself */
    _Alignas(64) float d[8][DS_TILE];     /* of each block of 32, or d[0] of the block of 256 */
    float m[8][DS_TILE];                  /* minimums, likewise (m[0] = dmin) */
    int32_t scale[16][DS_TILE];           /* integer scales of groups */
    int16_t minimum[8][DS_TILE][2];       /* integer minimums, of the two groups of 16 in each 32 */
    uint8_t unpacked[DS_RUN * DS_TILE];
};

/* One row's activations of a run. */
struct ds_tile_row {
    const int8_t *q;
    const int16_t *sums;
    const float *d; /* of the run, or of its blocks of 32 (struct ds_tile_kind) */
};

/* Rows `first` to first + n - 1 of quantised activations, at run number `run`. */
static inline void ds_tile_rows(const struct ds_view *x, uint32_t first, uint32_t n, uint32_t run, struct ds_tile_row *out) {
    const bool fine = x->elem == DS_ELEM_Q8_32;
    const uint32_t sums = fine ? ds_q8_32_sum_offset(x->cols) : ds_q8_sum_offset(x->cols), scales = fine ? DS_RUN / DS_Q8_BLOCK : 1;
    for (uint32_t r = 0; r < n; r++) {
        const uint8_t *row = ds_host_row(x, first + r);
        out[r].q = (const int8_t *)row + (size_t)run * DS_RUN;
        out[r].sums = (const int16_t *)(const void *)(row + sums) + (size_t)run * (DS_RUN / DS_SUM_GROUP);
        out[r].d = (const float *)(const void *)(row + ds_q8_scale_offset(x->cols)) + (size_t)run * scales;
    }
}

/* --- unpacking --- */

/* Planes of constant widths into bytes; eight vectors share a byte vector of the narrowest plane. */
DS_INLINE void ds_tile_planes(const uint8_t *low, const uint8_t *high, const int low_bits, const int high_bits, uint8_t *out) {
    const int low_each = 8 / low_bits, high_each = high_bits ? 8 / high_bits : 8;
    const vi low_mask = vi_set1(0x01010101 * ((1 << low_bits) - 1));
    const vi high_mask = vi_set1(0x01010101 * (((1 << high_bits) - 1) << low_bits));
    for (int v = 0; v < DS_TILE_GROUPS; v += 8) {
        DS_UNROLL for (int j = 0; j < 8; j++) {
            const int low_shift = j % low_each * low_bits, high_shift = high_bits ? j % high_each * high_bits : 0;
            vi x = vi_and(vi_shift_right16(vi_load(low + j / low_each * 64), low_shift), low_mask);
            if (high_bits) {
                const vi y = vi_load(high + j / high_each * 64);
                const vi placed = high_shift > low_bits ? vi_shift_right16(y, high_shift - low_bits) : vi_shift_left16(y, low_bits - high_shift);
                x = vi_or(x, vi_and(placed, high_mask));
            }
            vi_store(out + j * 64, x);
        }
        low += low_bits * 64;
        high += high_bits * 64;
        out += 8 * 64;
    }
}

static void ds_tile_levels(const struct ds_pack *pack, struct ds_tile *tile) {
    uint8_t table[16];
    for (int i = 0; i < 16; i++) table[i] = (uint8_t)(pack->levels[i] + pack->offset);
    for (int v = 0; v < DS_TILE_GROUPS; v++) vi_store(tile->unpacked + v * 64, vi_lookup(vi_load(tile->unpacked + v * 64), table));
}

static inline void ds_tile_weights(const struct ds_pack *pack, const uint8_t *record, struct ds_tile *tile) {
    const uint8_t *high = record + pack->high_at;
    tile->u = tile->unpacked;
    switch (pack->low_bits * 4 + pack->high_bits) {
    case 8 * 4: tile->u = record; break;
    case 4 * 4 + 0: ds_tile_planes(record, high, 4, 0, tile->unpacked); break;
    case 4 * 4 + 1: ds_tile_planes(record, high, 4, 1, tile->unpacked); break;
    case 4 * 4 + 2: ds_tile_planes(record, high, 4, 2, tile->unpacked); break;
    case 2 * 4 + 0: ds_tile_planes(record, high, 2, 0, tile->unpacked); break;
    default: ds_tile_planes(record, high, 2, 1, tile->unpacked); break;
    }
    if (pack->levels) ds_tile_levels(pack, tile);
}

static inline void ds_tile_floats(const uint8_t *from, bool bf16, int rows, float (*out)[DS_TILE]) {
    const uint16_t *bits = (const uint16_t *)(const void *)from;
    for (int i = 0; i < rows; i++) vf_store(out[i], bf16 ? vf_load_bf16(bits + i * DS_TILE) : vf_load_f16(bits + i * DS_TILE));
}

static inline void ds_tile_unpack(const struct ds_pack *pack, const uint8_t *record, struct ds_tile *tile) {
    const int float_rows = pack->groups ? 1 : 8;
    ds_tile_weights(pack, record, tile);
    ds_tile_floats(record + pack->d_at, pack->bf16_scale, float_rows, tile->d);
    if (pack->minimum) ds_tile_floats(record + pack->dmin_at, false, float_rows, tile->m);
    if (pack->groups == 0) return;

    for (int g = 0; g < pack->groups; g++) vi_store(tile->scale[g], vi_widen_s8(record + pack->scale_at + g * DS_TILE));
    if (!pack->minimum) return;
    const uint8_t *minimums = record + pack->minimum_at; /* below 64, so their sign does not matter */
    for (int b = 0; b < 8; b++) {
        const int first = pack->groups == 16 ? 2 * b : b, second = pack->groups == 16 ? 2 * b + 1 : b; /* one minimum serves a group of 32 */
        const vi low = vi_widen_s8(minimums + first * DS_TILE), high = vi_widen_s8(minimums + second * DS_TILE);
        vi_store(tile->minimum[b], vi_or(low, vi_shift_left32(high, 16)));
    }
}

/* --- dot products --- */

/* What a dot kernel is specialised for; every member is a constant where it is inlined. */
struct ds_tile_kind {
    int groups;   /* as in struct ds_pack */
    bool minimum;
    bool fine;    /* activations have a scale for each block of 32 */
    bool small;   /* sums of four groups' scaled dots stay below 2^24: floats hold them exactly */
};

DS_INLINE int32_t ds_tile_load4(const void *from) {
    int32_t x;
    memcpy(&x, from, sizeof x);
    return x;
}

/* acc[r] += dots of vectors first .. first + count - 1 */
DS_INLINE void ds_tile_dots(const struct ds_tile *tile, const struct ds_tile_row *rows, const int n, int first, const int count, vi *acc) {
    DS_UNROLL for (int v = 0; v < count; v++) {
        vi w = vi_load(tile->u + (first + v) * 64);
        DS_UNROLL for (int r = 0; r < n; r++) acc[r] = vi_dot(acc[r], w, ds_tile_load4(rows[r].q + (first + v) * 4));
    }
}

/* start[r][g] = -offset * (sum of the activations of group g), which turns dots of u into dots of q. */
DS_INLINE void ds_tile_start(const struct ds_tile_row *rows, const int n, const int groups, int offset, int32_t (*start)[16]) {
    for (int r = 0; r < n; r++) {
        for (int g = 0; g < (groups == 16 ? 16 : 8); g++)
            start[r][g] = -offset * (groups == 16 ? rows[r].sums[g] : rows[r].sums[2 * g] + rows[r].sums[2 * g + 1]);
    }
}

/* Blocks of 32: total[r] += d_x * sum over blocks of (f32(dot) * d (+ f32(sum of x) * m)), or the sum of f32(dot) * (d * d_x). */
DS_INLINE void ds_tile_blocks(const struct ds_tile *tile, const struct ds_tile_row *rows, const int n, const struct ds_tile_kind kind,
                              int32_t (*start)[16], float (*total)[DS_TILE]) {
    vf sum[DS_ROW_BLOCK];
    DS_UNROLL for (int r = 0; r < n; r++) sum[r] = vf_zero();
    for (int b = 0; b < 8; b++) {
        vi acc[DS_ROW_BLOCK];
        DS_UNROLL for (int r = 0; r < n; r++) acc[r] = vi_set1(start[r][b]);
        ds_tile_dots(tile, rows, n, b * 8, 8, acc);
        DS_UNROLL for (int r = 0; r < n; r++) {
            const vf d = vf_load(tile->d[b]);
            vf t = vf_mul(vi_to_float(acc[r]), kind.fine ? vf_mul(d, vf_set1(rows[r].d[b])) : d);
            if (kind.minimum) {
                const float x_sum = (float)(rows[r].sums[2 * b] + rows[r].sums[2 * b + 1]);
                t = vf_add(t, vf_mul(vf_set1(x_sum), vf_load(tile->m[b])));
            }
            sum[r] = vf_add(sum[r], t);
        }
    }
    DS_UNROLL for (int r = 0; r < n; r++)
        vf_store(total[r], vf_add(vf_load(total[r]), kind.fine ? sum[r] : vf_mul(vf_set1(*rows[r].d), sum[r])));
}

/* f32(sum over groups of scale * dot), the sum an exact int32. */
DS_INLINE void ds_tile_scaled(const struct ds_tile *tile, const struct ds_tile_row *rows, const int n, const struct ds_tile_kind kind,
                              int32_t (*start)[16], vf *out) {
    const int vectors = DS_TILE_GROUPS / kind.groups;
    vi isum[DS_ROW_BLOCK];
    DS_UNROLL for (int r = 0; r < n; r++) isum[r] = vi_set1(0);
    for (int g = 0; g < kind.groups; g++) {
        vi acc[DS_ROW_BLOCK];
        DS_UNROLL for (int r = 0; r < n; r++) acc[r] = vi_set1(start[r][g]);
        ds_tile_dots(tile, rows, n, g * vectors, vectors, acc);
        DS_UNROLL for (int r = 0; r < n; r++) isum[r] = vi_add(isum[r], vi_mul(acc[r], vi_load(tile->scale[g])));
    }
    DS_UNROLL for (int r = 0; r < n; r++) out[r] = vi_to_float(isum[r]);
}

/*
 * The same for Q4_K, in floats, which multiply faster than int32: a group's dot is at most 32 * 15 * 127, times 63, times four
 * groups, is below 2^24. Both halves are exact integers and their sum is rounded once, as the conversion would.
 */
DS_INLINE void ds_tile_scaled_small(const struct ds_tile *tile, const struct ds_tile_row *rows, const int n, vf *out) {
    DS_UNROLL for (int half = 0; half < 2; half++) {
        vf sum[DS_ROW_BLOCK];
        DS_UNROLL for (int r = 0; r < n; r++) sum[r] = vf_zero();
        for (int g = half * 4; g < half * 4 + 4; g++) {
            vi acc[DS_ROW_BLOCK];
            DS_UNROLL for (int r = 0; r < n; r++) acc[r] = vi_set1(0);
            ds_tile_dots(tile, rows, n, g * 8, 8, acc);
            const vf scale = vi_to_float(vi_load(tile->scale[g]));
            DS_UNROLL for (int r = 0; r < n; r++) sum[r] = vf_add_exact_product(vi_to_float(acc[r]), scale, sum[r]);
        }
        DS_UNROLL for (int r = 0; r < n; r++) out[r] = half ? vf_add(out[r], sum[r]) : sum[r];
    }
}

/* Blocks of 256: total[r] += (d * d_x) * f32(isum) (- (dmin * d_x) * f32(msum)). */
DS_INLINE void ds_tile_superblock(const struct ds_tile *tile, const struct ds_tile_row *rows, const int n, const struct ds_tile_kind kind,
                                  int32_t (*start)[16], float (*total)[DS_TILE]) {
    vf isum[DS_ROW_BLOCK];
    if (kind.small) ds_tile_scaled_small(tile, rows, n, isum);
    else ds_tile_scaled(tile, rows, n, kind, start, isum);
    DS_UNROLL for (int r = 0; r < n; r++) {
        const vf d = vf_set1(*rows[r].d);
        vf run = vf_mul(vf_mul(vf_load(tile->d[0]), d), isum[r]);
        if (kind.minimum) {
            vi msum = vi_set1(0);
            DS_UNROLL for (int b = 0; b < 8; b++) msum = vi_dot16(msum, vi_load(tile->minimum[b]), ds_tile_load4(rows[r].sums + 2 * b));
            run = vf_sub(run, vf_mul(vf_mul(vf_load(tile->m[0]), d), vi_to_float(msum)));
        }
        vf_store(total[r], vf_add(vf_load(total[r]), run));
    }
}

/* total[r][output] += the run's sum, for n rows; n and kind are constants. */
DS_INLINE void ds_tile_run(const struct ds_tile *tile, const struct ds_tile_row *rows, const int n, const struct ds_tile_kind kind,
                           int offset, float (*total)[DS_TILE]) {
    int32_t start[DS_ROW_BLOCK][16];
    if (!kind.small) ds_tile_start(rows, n, kind.groups, offset, start);
    if (kind.groups == 0) ds_tile_blocks(tile, rows, n, kind, start, total);
    else ds_tile_superblock(tile, rows, n, kind, start, total);
}

#endif
