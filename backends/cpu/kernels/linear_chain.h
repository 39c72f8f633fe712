/*
 * Linears with quantised weights on kernels/chain.h.
 */
#ifndef DSPARK_CPU_LINEAR_CHAIN_H
#define DSPARK_CPU_LINEAR_CHAIN_H

#include "kernels/chain.h"
#include "kernels/chain_prepare.h"

/* One record of weights for n rows; `ahead` is a record that will be needed soon. */
typedef void (*record_fn)(const struct ds_pack *pack, const uint8_t *record, const uint8_t *ahead, struct ds_tile *tile, const struct ds_chain_rows rows, uint32_t n,
                          float (*total)[DS_TILE]);

static const struct ds_chain_kind whole_bytes = {.low_bits = 8};

DS_INLINE struct ds_chain_rows rows_from(const struct ds_chain_rows rows, uint32_t r) {
    return (struct ds_chain_rows){.q = rows.q + r * rows.pitch, .d = rows.d + r * rows.pitch, .pitch = rows.pitch,
                                  .prepared = rows.prepared + r * rows.step, .step = rows.step};
}

/* --- narrow weights --- */

/* Rows from `r` on from bytes, as many at a time as registers hold, then what is left. */
DS_INLINE void narrow_rest(const struct ds_chain_scales scales, const uint8_t *u, const struct ds_chain_rows rows, uint32_t r, uint32_t n,
                           const struct ds_chain_kind kind, float (*total)[DS_TILE]) {
    if (DS_ROW_BLOCK >= 8)
        for (; n - r >= 8; r += 8) chain_run(scales, u, whole_bytes, NULL, rows_from(rows, r), DS_MIN(DS_ROW_BLOCK, 8), kind, NULL, total + r);
    for (; n - r >= 4; r += 4) chain_run(scales, u, whole_bytes, NULL, rows_from(rows, r), 4, kind, NULL, total + r);
    switch (n - r) {
    case 3: chain_run(scales, u, whole_bytes, NULL, rows_from(rows, r), 3, kind, NULL, total + r); break;
    case 2: chain_run(scales, u, whole_bytes, NULL, rows_from(rows, r), 2, kind, NULL, total + r); break;
    case 1: chain_run(scales, u, whole_bytes, NULL, rows_from(rows, r), 1, kind, NULL, total + r); break;
    default: break;
    }
}

/* Rows from bytes, by what chains and scales are like; one function each, since they are long. */
typedef void (*rest_fn)(const struct ds_chain_scales scales, const uint8_t *u, const struct ds_chain_rows rows, uint32_t r, uint32_t n, float (*total)[DS_TILE]);
#define REST(name, ...)                                                                                                               \
    static __attribute__((noinline)) void name(const struct ds_chain_scales scales, const uint8_t *u, const struct ds_chain_rows rows, \
                                               uint32_t r, uint32_t n, float (*total)[DS_TILE]) {                                     \
        narrow_rest(scales, u, rows, r, n, (struct ds_chain_kind){__VA_ARGS__}, total);                                               \
    }
REST(rest_32, .length = 8, .start = true)
REST(rest_32_minimum, .length = 8, .minimum = true)
REST(rest_32_short, .length = 4, .minimum = true)
REST(rest_16_minimum, .groups = 16, .length = 4, .minimum = true)
REST(rest_16, .groups = 16, .length = 4, .start = true)
REST(rest_8_small, .groups = 8, .length = 8, .minimum = true, .small = true)
REST(rest_8, .groups = 8, .length = 4, .minimum = true)

/* The first rows begin with the planes; if there are more of them, the bytes are kept for the others. */
#define DIRECT(rows_now) chain_run(scales, record, kind, ahead, rows, DS_MIN(rows_now, DS_ROW_BLOCK), kind, NULL, total)
DS_INLINE void narrow_record(const struct ds_pack *pack, const uint8_t *record, const uint8_t *ahead, struct ds_tile *tile,
                             const struct ds_chain_rows rows, uint32_t n, const struct ds_chain_kind kind, const rest_fn rest, float (*total)[DS_TILE]) {
    const struct ds_chain_scales scales = chain_scales_at(pack, record);
    if (n > DS_ROW_BLOCK) {
        chain_run(scales, record, kind, ahead, rows, DS_ROW_BLOCK, kind, tile->unpacked, total);
        rest(scales, tile->unpacked, rows, DS_ROW_BLOCK, n, total);
        return;
    }
    switch (n) {
    case 1: DIRECT(1); break;
    case 2: DIRECT(2); break;
    case 3: DIRECT(3); break;
    case 4: DIRECT(4); break;
#if DS_PART == 64
    case 5: DIRECT(5); break;
    case 6: DIRECT(6); break;
    case 7: DIRECT(7); break;
    case 8: DIRECT(8); break;
#endif
    default: break;
    }
}

/* Types that are rare: one row begins with the planes, more of them with bytes. */
DS_INLINE void rare_record(const struct ds_pack *pack, const uint8_t *record, const uint8_t *ahead, struct ds_tile *tile,
                           const struct ds_chain_rows rows, uint32_t n, const struct ds_chain_kind kind, const rest_fn rest, float (*total)[DS_TILE]) {
    const struct ds_chain_scales scales = chain_scales_at(pack, record);
    if (n == 1) {
        DIRECT(1);
        return;
    }
    for (int b = 0; b < 8; b++) chain_fetch(ahead, kind.low_bits + kind.high_bits, b);
    chain_unpack(record, kind, tile->unpacked);
    rest(scales, tile->unpacked, rows, 0, n, total);
}
#undef DIRECT

#define RECORD(name, how, rest, ...)                                                                                                  \
    static void name(const struct ds_pack *pack, const uint8_t *record, const uint8_t *ahead, struct ds_tile *tile,                   \
                     const struct ds_chain_rows rows, uint32_t n, float (*total)[DS_TILE]) {                                          \
        how(pack, record, ahead, tile, rows, n, (struct ds_chain_kind){__VA_ARGS__}, rest, total);                                    \
    }
RECORD(record_q4_0, narrow_record, rest_32, .low_bits = 4, .length = 8, .start = true)
RECORD(record_q4_1, rare_record, rest_32_minimum, .low_bits = 4, .length = 8, .minimum = true)
RECORD(record_q5_0, rare_record, rest_32, .low_bits = 4, .high_bits = 1, .length = 8, .start = true)
RECORD(record_q5_1, rare_record, rest_32_short, .low_bits = 4, .high_bits = 1, .length = 4, .minimum = true)
RECORD(record_q2_k, rare_record, rest_16_minimum, .low_bits = 2, .groups = 16, .length = 4, .minimum = true)
RECORD(record_q3_k, rare_record, rest_16, .low_bits = 2, .high_bits = 1, .groups = 16, .length = 4, .start = true)
RECORD(record_q4_k, narrow_record, rest_8_small, .low_bits = 4, .groups = 8, .length = 8, .minimum = true, .small = true)
RECORD(record_q5_k, narrow_record, rest_8, .low_bits = 4, .high_bits = 1, .groups = 8, .length = 4, .minimum = true)
RECORD(record_q6_k, narrow_record, rest_16, .low_bits = 4, .high_bits = 2, .groups = 16, .length = 4, .start = true)

/* --- wide weights --- */

#if DS_CHAINS

/* The first rows fetch what lies ahead. */
DS_INLINE void wide_rows(const struct ds_tile *tile, const uint8_t *u, const uint8_t *ahead, const struct ds_chain_rows rows, uint32_t n,
                         const struct ds_chain_kind kind, float (*total)[DS_TILE]) {
    uint32_t r = 0;
    if (DS_ROW_BLOCK >= 8)
        for (; n - r >= 8; r += 8, ahead = NULL) chain_wide_run(tile, u, ahead, rows_from(rows, r), DS_MIN(DS_ROW_BLOCK, 8), kind, total + r);
    for (; n - r >= 4; r += 4, ahead = NULL) chain_wide_run(tile, u, ahead, rows_from(rows, r), 4, kind, total + r);
    switch (n - r) {
    case 3: chain_wide_run(tile, u, ahead, rows_from(rows, r), 3, kind, total + r); break;
    case 2: chain_wide_run(tile, u, ahead, rows_from(rows, r), 2, kind, total + r); break;
    case 1: chain_wide_run(tile, u, ahead, rows_from(rows, r), 1, kind, total + r); break;
    default: break;
    }
}

static void record_q8_0(const struct ds_pack *pack, const uint8_t *record, const uint8_t *ahead, struct ds_tile *tile,
                        const struct ds_chain_rows rows, uint32_t n, float (*total)[DS_TILE]) {
    const struct ds_chain_kind kind = {.low_bits = 8, .fine = true};
    chain_scales(pack, record, kind, tile);
    wide_rows(tile, record, ahead, rows, n, kind, total);
}

/* Codebooks, with float scales of 32 or integer ones. */
DS_INLINE void record_of_levels(const struct ds_pack *pack, const uint8_t *record, const uint8_t *ahead, struct ds_tile *tile,
                                const struct ds_chain_rows rows, uint32_t n, const int groups, float (*total)[DS_TILE]) {
    const struct ds_chain_kind kind = {.low_bits = 4, .groups = groups};
    chain_scales(pack, record, kind, tile);
    chain_unpack(record, kind, tile->unpacked);
    ds_tile_levels(pack, tile);
    wide_rows(tile, tile->unpacked, ahead, rows, n, kind, total);
}
static void record_levels_32(const struct ds_pack *pack, const uint8_t *record, const uint8_t *ahead, struct ds_tile *tile,
                             const struct ds_chain_rows rows, uint32_t n, float (*total)[DS_TILE]) {
    record_of_levels(pack, record, ahead, tile, rows, n, 0, total);
}
static void record_levels_256(const struct ds_pack *pack, const uint8_t *record, const uint8_t *ahead, struct ds_tile *tile,
                              const struct ds_chain_rows rows, uint32_t n, float (*total)[DS_TILE]) {
    record_of_levels(pack, record, ahead, tile, rows, n, 8, total);
}
#define record_iq4_nl record_levels_32
#define record_mxfp4 record_levels_32
#else
REST(rest_fine, .start = true, .fine = true)
REST(rest_bf16, .start = true, .bf16 = true)
REST(rest_8_start, .groups = 8, .start = true)
RECORD(record_q8_0, narrow_record, rest_fine, .low_bits = 8, .start = true, .fine = true)

/* Codebooks: bytes at once. */
DS_INLINE void record_of_levels(const struct ds_pack *pack, const uint8_t *record, const uint8_t *ahead, struct ds_tile *tile,
                                const struct ds_chain_rows rows, uint32_t n, const struct ds_chain_kind kind, const rest_fn rest, float (*total)[DS_TILE]) {
    for (int b = 0; b < 8; b++) chain_fetch(ahead, kind.low_bits, b);
    chain_unpack(record, kind, tile->unpacked);
    ds_tile_levels(pack, tile);
    rest(chain_scales_at(pack, record), tile->unpacked, rows, 0, n, total);
}
RECORD(record_iq4_nl, record_of_levels, rest_32, .low_bits = 4)
RECORD(record_mxfp4, record_of_levels, rest_bf16, .low_bits = 4)
RECORD(record_levels_256, record_of_levels, rest_8_start, .low_bits = 4)
#endif

static record_fn record_of(ds_type type) {
    switch (type) {
    case DS_TYPE_Q4_1: return record_q4_1;
    case DS_TYPE_Q5_0: return record_q5_0;
    case DS_TYPE_Q5_1: return record_q5_1;
    case DS_TYPE_Q8_0: return record_q8_0;
    case DS_TYPE_Q2_K: return record_q2_k;
    case DS_TYPE_Q3_K: return record_q3_k;
    case DS_TYPE_Q4_K: return record_q4_k;
    case DS_TYPE_Q5_K: return record_q5_k;
    case DS_TYPE_Q6_K: return record_q6_k;
    case DS_TYPE_IQ4_NL: return record_iq4_nl;
    case DS_TYPE_MXFP4: return record_mxfp4;
    case DS_TYPE_IQ4_XS: return record_levels_256;
    default: return record_q4_0;
    }
}

/* --- rows --- */

static uint32_t sums_at(const struct ds_view *x) {
    return x->elem == DS_ELEM_Q8_32 ? ds_q8_32_sum_offset(x->cols) : ds_q8_sum_offset(x->cols);
}
static size_t prepared_run(ds_type type) { return ds_linear_wide(type) ? DS_PREPARED_WIDE : DS_PREPARED_SMALL; }

#if DS_CHAINS
static void prepare_run(const struct ds_pack *pack, ds_type type, const int8_t *q, const int16_t *sums, uint8_t *out) {
    if (ds_linear_wide(type)) chain_prepare_wide(q, sums, (int16_t *)(void *)out);
    else if (pack->minimum) chain_prepare_sums(sums, pack->groups, out);
    else if (pack->groups == 16) chain_prepare_starts(q, 4, pack->offset, (int16_t *)(void *)out);
    else chain_prepare_starts(q, 8, pack->offset, (int16_t *)(void *)out);
}
#else
static void prepare_run(const struct ds_pack *pack, ds_type type, const int8_t *q, const int16_t *sums, uint8_t *out) {
    (void)type, (void)q;
    if (pack->minimum) chain_prepare_sums(sums, pack->groups, out);
    else chain_prepare_dots(sums, pack->groups, pack->offset, (int32_t *)(void *)out);
}
#endif

/* [row][run] */
static void prepare_rows(const struct ds_op_linear *p, uint32_t first_row, uint32_t rows, uint8_t *prepared) {
    const struct ds_pack *pack = ds_pack_get(p->weight.type);
    const uint32_t runs = ds_q8_padded(p->x.cols) / DS_RUN;
    for (uint32_t r = 0; r < rows; r++) {
        const uint8_t *row = ds_host_row(&p->x, first_row + r);
        const int16_t *sums = (const int16_t *)(const void *)(row + sums_at(&p->x));
        for (uint32_t i = 0; i < runs; i++, prepared += prepared_run(p->weight.type))
            prepare_run(pack, p->weight.type, (const int8_t *)row + (size_t)i * DS_RUN, sums + (size_t)i * (DS_RUN / DS_SUM_GROUP), prepared);
    }
}

static void tile_of_blocks(const struct ds_op_linear *p, const uint8_t *prepared, const uint8_t *packed, uint32_t first_row, uint32_t rows,
                           float (*total)[DS_TILE]) {
    const struct ds_pack *pack = ds_pack_get(p->weight.type);
    const record_fn record = record_of(p->weight.type);
    const uint32_t runs = ds_q8_padded(p->x.cols) / DS_RUN;
    const size_t each = prepared_run(p->weight.type), scales = p->x.elem == DS_ELEM_Q8_32 ? DS_RUN / DS_Q8_BLOCK : 1;
    const uint8_t *first = ds_host_row(&p->x, first_row);
    struct ds_chain_rows x = {.q = first, .d = first + ds_q8_scale_offset(p->x.cols), .pitch = ds_view_pitch(&p->x), .prepared = prepared,
                              .step = runs * each};
    struct ds_tile tile;
    for (uint32_t i = 0; i < runs; i++, packed += pack->run_bytes) {
        /* Two records ahead: one is over before memory has answered. The hardware's own prefetcher stops at page ends. */
        record(pack, packed, packed + 2 * pack->run_bytes, &tile, x, rows, total);
        x.q += DS_RUN;
        x.d += 4 * scales;
        x.prepared += each;
    }
}

#endif
