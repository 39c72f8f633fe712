/*
 * Dot products of one record of packed weights (pack.h) with rows of int8 activations, for x86. The first rows take the weights from the
 * planes in registers; bytes are kept only where more rows follow. With VNNI there is an exact u8 x s8 dot. AVX2 and AVX-512 without it
 * multiply in pairs, into int16 that saturate (DS_CHAINS):
 *
 * Narrow weights, u of at most 6 bits. A product of two pairs is at most 2 * 63 * 127 < 2^15, so it never saturates, and several of
 * them add up in an int16 before one multiplication by the group's scale widens the sum: a chain. Additions wrap modulo 2^16, so only
 * what a chain ends with must fit, not what it passes through. With w = u - offset, |w| <= W, that is L * 2 * W * 127 <= 32767:
 *
 *     u <= 15            L = 8      30480            Q4_K, Q4_1
 *     u <= 31            L = 4      31496            Q5_K, Q5_1
 *     |w| <= 16          L = 8      32512            Q5_0, Q4_0
 *     |w| <= 32          L = 4      32512            Q6_K, Q3_K; Q2_K has less
 *
 * A chain of w starts from -offset * (its x, added up pair by pair as the products are), which is prepared once a row.
 *
 * Wide weights are widened to int16 for multiplications that are exact in int32, even and odd inputs apart, and so are their x.
 */
#ifndef DSPARK_CPU_CHAIN_H
#define DSPARK_CPU_CHAIN_H

#include "kernels/linear_rows.h"
#include "kernels/tile.h"

/* What a kernel is specialised for; every member is a constant where it is inlined. */
struct ds_chain_kind {
    int low_bits, high_bits; /* as in struct ds_pack */
    int groups;              /* likewise: 0, 8, 16 */
    int length;              /* vectors of a chain: 8, 4 */
    bool start;              /* chains start from what is prepared: the type has an offset */
    bool minimum;
    bool fine;               /* wide: activations have a scale for each 32 */
    bool bf16;               /* scales are no f16 */
    bool small;              /* with VNNI: sums of four groups' scaled dots stay below 2^24, so that floats hold them exactly */
};

/* Rows of activations, at the run of interest; row r lies `pitch` bytes (and `step` in what is prepared) behind the first. */
struct ds_chain_rows {
    const uint8_t *q, *d;
    size_t pitch;
    const uint8_t *prepared;
    size_t step;
};

DS_INLINE vi chain_word(const uint8_t *from) { return vi_set1(ds_tile_load4(from)); }
DS_INLINE const uint8_t *row_q(const struct ds_chain_rows rows, int r) { return rows.q + (size_t)r * rows.pitch; }
DS_INLINE const uint8_t *row_prepared(const struct ds_chain_rows rows, int r) { return rows.prepared + (size_t)r * rows.step; }
DS_INLINE float row_d(const struct ds_chain_rows rows, int r, int block) {
    float d;
    memcpy(&d, rows.d + (size_t)r * rows.pitch + block * 4, 4);
    return d;
}

/* --- unpacking --- */

/* Vector j < 8 of the eight that begin at `low` and `high`. */
DS_INLINE vi chain_vector(const uint8_t *low, const uint8_t *high, const struct ds_chain_kind kind, const int j) {
    const int low_each = 8 / kind.low_bits, high_each = kind.high_bits ? 8 / kind.high_bits : 8;
    if (kind.low_bits == 8) return vi_load(low + j * 64);
    vi x = vi_and(vi_shift_right16(vi_load(low + j / low_each * 64), j % low_each * kind.low_bits), vi_set1(0x01010101 * ((1 << kind.low_bits) - 1)));
    if (kind.high_bits) {
        const int shift = j % high_each * kind.high_bits - kind.low_bits;
        const vi y = vi_load(high + j / high_each * 64), mask = vi_set1(0x01010101 * (((1 << kind.high_bits) - 1) << kind.low_bits));
        x = vi_or(x, vi_and(shift > 0 ? vi_shift_right16(y, shift) : vi_shift_left16(y, -shift), mask));
    }
    return x;
}

/* All of a record's vectors as bytes. */
DS_INLINE void chain_unpack(const uint8_t *record, const struct ds_chain_kind kind, uint8_t *out) {
    const uint8_t *high = record + DS_RUN * DS_TILE / 8 * kind.low_bits;
    for (int b = 0; b < 8; b++) {
        DS_UNROLL for (int j = 0; j < 8; j++) vi_store(out + (b * 8 + j) * 64, chain_vector(record, high, kind, j));
        record += kind.low_bits * 64;
        high += kind.high_bits * 64;
    }
}

#if DS_CHAINS
/* What wide weights are multiplied by: the scales of a record, widened. */
DS_INLINE void chain_scales(const struct ds_pack *pack, const uint8_t *record, const struct ds_chain_kind kind, struct ds_tile *tile) {
    ds_tile_floats(record + pack->d_at, pack->bf16_scale, kind.groups ? 1 : 8, tile->d);
    for (int g = 0; g < kind.groups; g++) vi_store(tile->scale[g], vi_widen_s8(record + pack->scale_at + g * DS_TILE));
}
#endif

/* --- narrow weights --- */

/* Fetches an eighth of a record that comes later: in small portions, since a processor has few outstanding reads. */
DS_INLINE void chain_fetch(const uint8_t *ahead, const int bits, int b) {
    DS_UNROLL for (int i = 0; i < bits + 1; i++) __builtin_prefetch(ahead + (b * (bits + 1) + i) * 64);
}

/* Where a record keeps what its dots are multiplied by, all of [..][16 outputs]. */
struct ds_chain_scales {
    const uint8_t *scale, *minimum; /* of groups */
    const uint16_t *d, *dmin;       /* f16, of the record or of its blocks of 32 */
};

DS_INLINE struct ds_chain_scales chain_scales_at(const struct ds_pack *pack, const uint8_t *record) {
    return (struct ds_chain_scales){record + pack->scale_at, record + pack->minimum_at, (const uint16_t *)(const void *)(record + pack->d_at),
                                    (const uint16_t *)(const void *)(record + pack->dmin_at)};
}

#if DS_CHAINS
/* The dots of the eight vectors of block b with n rows: int16 pairs summed by chain, then out[r] += chain * factor. */
DS_INLINE void chain_block(const struct ds_chain_scales scales, const uint8_t *low, const uint8_t *high, const struct ds_chain_kind unpack,
                           const struct ds_chain_rows rows, const int n, const struct ds_chain_kind kind, int b, uint8_t *keep, vi *out) {
    DS_UNROLL for (int c = 0; c < 8 / kind.length; c++) {
        vi acc[DS_ROW_BLOCK];
        DS_UNROLL for (int v = 0; v < kind.length; v++) {
            const int j = c * kind.length + v;
            const vi w = chain_vector(low, high, unpack, j);
            if (keep) vi_store(keep + (b * 8 + j) * 64, w);
            DS_UNROLL for (int r = 0; r < n; r++) {
                const vi pairs = vi_maddubs(w, chain_word(row_q(rows, r) + b * 32 + j * 4));
                if (v > 0) acc[r] = vi_add16(acc[r], pairs);
                else if (kind.start) acc[r] = vi_add16(pairs, chain_word(row_prepared(rows, r) + (b * (8 / kind.length) + c) * 4));
                else acc[r] = pairs;
            }
        }
        const int group = kind.groups == 16 ? b * (8 / kind.length) + c : b;
        const vi factor = kind.groups == 0 ? vi_set1(0x00010001) : vi_twice16(scales.scale + group * DS_TILE, kind.start);
        DS_UNROLL for (int r = 0; r < n; r++) out[r] = vi_add(out[r], vi_madd16(acc[r], factor));
    }
}
#else
/* acc[r] += the dots of `count` vectors of block b, from `first` on, with n rows. */
DS_INLINE void chain_dots(const uint8_t *low, const uint8_t *high, const struct ds_chain_kind unpack, const struct ds_chain_rows rows, const int n,
                          int b, const int first, const int count, uint8_t *keep, vi *acc) {
    DS_UNROLL for (int j = first; j < first + count; j++) {
        const vi w = chain_vector(low, high, unpack, j);
        if (keep) vi_store(keep + (b * 8 + j) * 64, w);
        DS_UNROLL for (int r = 0; r < n; r++) acc[r] = vi_dot(acc[r], w, ds_tile_load4(row_q(rows, r) + b * 32 + j * 4));
    }
}

/* What the dots of group g start from, which turns those of u into those of q. */
DS_INLINE void chain_start(const struct ds_chain_rows rows, const int n, const struct ds_chain_kind kind, int g, vi *acc) {
    DS_UNROLL for (int r = 0; r < n; r++) acc[r] = kind.start ? chain_word(row_prepared(rows, r) + g * 4) : vi_set1(0);
}

/* The dots of block b with n rows: out[r] += dot * scale of its groups, or out[r] = dot where there are none. */
DS_INLINE void chain_block(const struct ds_chain_scales scales, const uint8_t *low, const uint8_t *high, const struct ds_chain_kind unpack,
                           const struct ds_chain_rows rows, const int n, const struct ds_chain_kind kind, int b, uint8_t *keep, vi *out) {
    if (kind.groups == 0) {
        chain_start(rows, n, kind, b, out);
        chain_dots(low, high, unpack, rows, n, b, 0, 8, keep, out);
        return;
    }
    const int each = kind.groups / 8, count = 8 / each;
    DS_UNROLL for (int c = 0; c < each; c++) {
        vi acc[DS_ROW_BLOCK];
        chain_start(rows, n, kind, b * each + c, acc);
        chain_dots(low, high, unpack, rows, n, b, c * count, count, keep, acc);
        const vi scale = vi_widen_s8(scales.scale + (b * each + c) * DS_TILE);
        DS_UNROLL for (int r = 0; r < n; r++) out[r] = vi_add(out[r], vi_mul(acc[r], scale));
    }
}

/*
 * The same for Q4_K in floats, which multiply faster than int32: a group's dot is at most 32 * 15 * 127, times 63, times four
 * groups, is below 2^24. Both halves of a run are exact integers and their sum is rounded once, as the conversion would.
 */
DS_INLINE void chain_block_small(const struct ds_chain_scales scales, const uint8_t *low, const uint8_t *high, const struct ds_chain_kind unpack,
                                 const struct ds_chain_rows rows, const int n, const struct ds_chain_kind kind, int b, uint8_t *keep, vf *half) {
    vi acc[DS_ROW_BLOCK];
    chain_start(rows, n, kind, b, acc);
    chain_dots(low, high, unpack, rows, n, b, 0, 8, keep, acc);
    const vf scale = vi_to_float(vi_widen_s8(scales.scale + b * DS_TILE));
    DS_UNROLL for (int r = 0; r < n; r++) half[r] = vf_add_exact_product(vi_to_float(acc[r]), scale, half[r]);
}
#endif

/* msum[r] = sum over groups of minimum * (sum of x). */
DS_INLINE void chain_minimums(const struct ds_chain_scales scales, const struct ds_chain_rows rows, const int n, const int groups, vi *msum) {
    DS_UNROLL for (int r = 0; r < n; r++) msum[r] = vi_set1(0);
    DS_UNROLL for (int g = 0; g < groups / 2; g++) {
        const vi m = vi_pairs16(scales.minimum + 2 * g * DS_TILE, scales.minimum + (2 * g + 1) * DS_TILE);
        DS_UNROLL for (int r = 0; r < n; r++) msum[r] = vi_dot16(msum[r], m, ds_tile_load4(row_prepared(rows, r) + g * 4));
    }
}

/* Types of 32: sum[r] += f32(dot) * d (+ f32(sum of x) * m) of block b. */
DS_INLINE void chain_add_block(const struct ds_chain_scales scales, const struct ds_chain_rows rows, const int n, const struct ds_chain_kind kind,
                               int b, const vi *dot, vf *sum) {
    const vf d = kind.bf16 ? vf_load_bf16(scales.d + b * DS_TILE) : vf_load_f16(scales.d + b * DS_TILE);
    vf m;
    if (kind.minimum) m = vf_load_f16(scales.dmin + b * DS_TILE);
    DS_UNROLL for (int r = 0; r < n; r++) {
        vf t = vf_mul(vi_to_float(dot[r]), kind.fine ? vf_mul(d, vf_set1(row_d(rows, r, b))) : d);
        if (kind.minimum) {
            float x_sum;
            memcpy(&x_sum, row_prepared(rows, r) + b * 4, 4);
            t = vf_add(t, vf_mul(vf_set1(x_sum), m));
        }
        sum[r] = vf_add(sum[r], t);
    }
}

/* Types of 256: total[r] += (d * d_x) * f32(isum) (- (dmin * d_x) * f32(msum)); `isum` is f32 already. */
DS_INLINE void chain_add_run(const struct ds_chain_scales scales, const struct ds_chain_rows rows, const int n, const struct ds_chain_kind kind,
                             const vf *isum, float (*total)[DS_TILE]) {
    vi msum[DS_ROW_BLOCK];
    const vf d = vf_load_f16(scales.d);
    vf m;
    if (kind.minimum) {
        chain_minimums(scales, rows, n, kind.groups, msum);
        m = vf_load_f16(scales.dmin);
    }
    DS_UNROLL for (int r = 0; r < n; r++) {
        const vf d_x = vf_set1(row_d(rows, r, 0));
        vf run = vf_mul(vf_mul(d, d_x), isum[r]);
        if (kind.minimum) run = vf_sub(run, vf_mul(vf_mul(m, d_x), vi_to_float(msum[r])));
        vf_store(total[r], vf_add(vf_load(total[r]), run));
    }
}

/* f32(sum over the groups of a run of scale * dot), the sum an exact int32. */
DS_INLINE void chain_scaled(const struct ds_chain_scales scales, const uint8_t *low, const uint8_t *high, const struct ds_chain_kind unpack,
                            const uint8_t *ahead, const struct ds_chain_rows rows, const int n, const struct ds_chain_kind kind, uint8_t *keep, vf *out) {
    vi isum[DS_ROW_BLOCK];
    DS_UNROLL for (int r = 0; r < n; r++) isum[r] = vi_set1(0);
    for (int b = 0; b < 8; b++, low += unpack.low_bits * 64, high += unpack.high_bits * 64) {
        if (ahead) chain_fetch(ahead, kind.low_bits + kind.high_bits, b);
        chain_block(scales, low, high, unpack, rows, n, kind, b, keep, isum);
    }
    DS_UNROLL for (int r = 0; r < n; r++) out[r] = vi_to_float(isum[r]);
}

#if !DS_CHAINS
DS_INLINE void chain_scaled_small(const struct ds_chain_scales scales, const uint8_t *low, const uint8_t *high, const struct ds_chain_kind unpack,
                                  const uint8_t *ahead, const struct ds_chain_rows rows, const int n, const struct ds_chain_kind kind, uint8_t *keep,
                                  vf *out) {
    DS_UNROLL for (int r = 0; r < n; r++) out[r] = vf_zero();
    for (int b = 0; b < 8;) {
        vf half[DS_ROW_BLOCK];
        DS_UNROLL for (int r = 0; r < n; r++) half[r] = vf_zero();
        for (int end = b + 4; b < end; b++, low += unpack.low_bits * 64, high += unpack.high_bits * 64) {
            if (ahead) chain_fetch(ahead, kind.low_bits + kind.high_bits, b);
            chain_block_small(scales, low, high, unpack, rows, n, kind, b, keep, half);
        }
        DS_UNROLL for (int r = 0; r < n; r++) out[r] = vf_add(out[r], half[r]);
    }
}
#endif

/* Types of 32: the sum over a run's blocks. */
DS_INLINE void chain_blocks(const struct ds_chain_scales scales, const uint8_t *low, const uint8_t *high, const struct ds_chain_kind unpack,
                            const uint8_t *ahead, const struct ds_chain_rows rows, const int n, const struct ds_chain_kind kind, uint8_t *keep, vf *sum) {
    DS_UNROLL for (int r = 0; r < n; r++) sum[r] = vf_zero();
    for (int b = 0; b < 8; b++, low += unpack.low_bits * 64, high += unpack.high_bits * 64) {
        vi dot[DS_ROW_BLOCK];
        DS_UNROLL for (int r = 0; r < n; r++) dot[r] = vi_set1(0);
        if (ahead) chain_fetch(ahead, kind.low_bits + kind.high_bits, b);
        chain_block(scales, low, high, unpack, rows, n, kind, b, keep, dot);
        chain_add_block(scales, rows, n, kind, b, dot, sum);
    }
}

/*
 * total[r] += the sums of one run, meanings as in tile.h, for n rows. `unpack` says what lies at `weights`: planes, or bytes already.
 * What lies `ahead` is fetched (NULL: nothing). The bytes are kept for more rows if there are any (`keep`, else NULL): writing them costs
 * nothing beside the products.
 */
DS_INLINE void chain_run(const struct ds_chain_scales scales, const uint8_t *weights, const struct ds_chain_kind unpack, const uint8_t *ahead,
                         const struct ds_chain_rows rows, const int n, const struct ds_chain_kind kind, uint8_t *keep, float (*total)[DS_TILE]) {
    const uint8_t *high = weights + DS_RUN * DS_TILE / 8 * unpack.low_bits;
    vf sum[DS_ROW_BLOCK];
    if (kind.groups) {
#if !DS_CHAINS
        if (kind.small) chain_scaled_small(scales, weights, high, unpack, ahead, rows, n, kind, keep, sum);
        else
#endif
            chain_scaled(scales, weights, high, unpack, ahead, rows, n, kind, keep, sum);
        chain_add_run(scales, rows, n, kind, sum, total);
        return;
    }
    chain_blocks(scales, weights, high, unpack, ahead, rows, n, kind, keep, sum);
    DS_UNROLL for (int r = 0; r < n; r++)
        vf_store(total[r], vf_add(vf_load(total[r]), kind.fine ? sum[r] : vf_mul(vf_set1(row_d(rows, r, 0)), sum[r])));
}

#if DS_CHAINS
/* --- wide weights --- */

/* dot[r] += u * x over block b; u = q + 128 as bytes, x as int16 pairs (x0, x2), (x1, x3). */
DS_INLINE void chain_wide_block(const uint8_t *u, const struct ds_chain_rows rows, const int n, int b, vi *dot) {
    DS_UNROLL for (int j = 0; j < 8; j++) {
        const vi w = vi_load(u + (b * 8 + j) * 64), even = vi_and(w, vi_set1(0x00ff00ff)), odd = vi_shift_right16(w, 8);
        DS_UNROLL for (int r = 0; r < n; r++) {
            const uint8_t *x = row_prepared(rows, r) + b * 64 + j * 8;
            dot[r] = vi_add(dot[r], vi_madd16(even, chain_word(x)));
            dot[r] = vi_add(dot[r], vi_madd16(odd, chain_word(x + 4)));
        }
    }
}

DS_INLINE void chain_wide_run(const struct ds_tile *tile, const uint8_t *u, const uint8_t *ahead, const struct ds_chain_rows rows, const int n,
                              const struct ds_chain_kind kind, float (*total)[DS_TILE]) {
    vi isum[DS_ROW_BLOCK];
    vf sum[DS_ROW_BLOCK];
    DS_UNROLL for (int r = 0; r < n; r++) isum[r] = vi_set1(0);
    DS_UNROLL for (int r = 0; r < n; r++) sum[r] = vf_zero();
    for (int b = 0; b < 8; b++) {
        vi dot[DS_ROW_BLOCK];
        DS_UNROLL for (int r = 0; r < n; r++) dot[r] = chain_word(row_prepared(rows, r) + 2 * DS_RUN + b * 4);
        if (ahead) chain_fetch(ahead, kind.low_bits, b);
        chain_wide_block(u, rows, n, b, dot);
        DS_UNROLL for (int r = 0; r < n; r++) {
            if (kind.groups) {
                isum[r] = vi_add(isum[r], vi_mul(dot[r], vi_load(tile->scale[b])));
            } else {
                const vf d = vf_load(tile->d[b]);
                sum[r] = vf_add(sum[r], vf_mul(vi_to_float(dot[r]), kind.fine ? vf_mul(d, vf_set1(row_d(rows, r, b))) : d));
            }
        }
    }
    DS_UNROLL for (int r = 0; r < n; r++) {
        vf run = sum[r];
        if (kind.groups) run = vf_mul(vf_mul(vf_load(tile->d[0]), vf_set1(row_d(rows, r, 0))), vi_to_float(isum[r]));
        else if (!kind.fine) run = vf_mul(vf_set1(row_d(rows, r, 0)), run);
        vf_store(total[r], vf_add(vf_load(total[r]), run));
    }
}
#endif

#endif
