/*
 * Linears with quantised weights on kernels/tile.h: the portable ones.
 */
#ifndef DSPARK_CPU_LINEAR_TILE_H
#define DSPARK_CPU_LINEAR_TILE_H

#include "kernels/linear_rows.h"
#include "kernels/tile.h"

typedef void (*run_fn)(const struct ds_tile *tile, const struct ds_tile_row *rows, uint32_t n, int offset, float (*total)[DS_TILE]);

/* As many rows at a time as registers hold, then fewer. */
DS_INLINE void run_rows(const struct ds_tile *tile, const struct ds_tile_row *rows, uint32_t n, const struct ds_tile_kind kind,
                        int offset, float (*total)[DS_TILE]) {
    uint32_t r = 0;
    if (DS_ROW_BLOCK >= 8)
        for (; n - r >= 8; r += 8) ds_tile_run(tile, rows + r, DS_MIN(DS_ROW_BLOCK, 8), kind, offset, total + r);
    if (DS_ROW_BLOCK >= 4)
        for (; n - r >= 4; r += 4) ds_tile_run(tile, rows + r, DS_MIN(DS_ROW_BLOCK, 4), kind, offset, total + r);
    for (; n - r >= 2; r += 2) ds_tile_run(tile, rows + r, 2, kind, offset, total + r);
    if (r < n) ds_tile_run(tile, rows + r, 1, kind, offset, total + r);
}

#define RUN_FN(name, ...)                                                                                                     \
    static void name(const struct ds_tile *tile, const struct ds_tile_row *rows, uint32_t n, int offset, float (*total)[DS_TILE]) { \
        const struct ds_tile_kind kind = {__VA_ARGS__};                                                                       \
        run_rows(tile, rows, n, kind, offset, total);                                                                         \
    }
RUN_FN(run_q8_0, .groups = 0, .fine = true)
RUN_FN(run_q4_0, .groups = 0)
RUN_FN(run_q4_1, .groups = 0, .minimum = true)
RUN_FN(run_q2_k, .groups = 16, .minimum = true)
RUN_FN(run_q6_k, .groups = 16)
RUN_FN(run_q4_k, .groups = 8, .minimum = true, .small = true)
RUN_FN(run_q5_k, .groups = 8, .minimum = true)
RUN_FN(run_iq4_xs, .groups = 8)

static run_fn run_of(ds_type type) {
    switch (type) {
    case DS_TYPE_Q8_0: return run_q8_0;
    case DS_TYPE_Q4_1:
    case DS_TYPE_Q5_1: return run_q4_1;
    case DS_TYPE_Q2_K: return run_q2_k;
    case DS_TYPE_Q3_K:
    case DS_TYPE_Q6_K: return run_q6_k;
    case DS_TYPE_Q4_K: return run_q4_k;
    case DS_TYPE_Q5_K: return run_q5_k;
    case DS_TYPE_IQ4_XS: return run_iq4_xs;
    default: return run_q4_0;
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
    const run_fn run = run_of(p->weight.type);
    const uint32_t runs = ds_q8_padded(p->x.cols) / DS_RUN;
    struct ds_tile tile;
    for (uint32_t i = 0; i < runs; i++, packed += pack->run_bytes) {
        /*
         * Two records ahead, in two portions: one is over before memory has answered, and a processor has few outstanding reads. The
         * hardware's own prefetcher stops at page ends.
         */
        const uint8_t *ahead = packed + 2 * pack->run_bytes;
        for (uint32_t at = 0; at < pack->run_bytes / 2; at += 64) __builtin_prefetch(ahead + at);
        ds_tile_unpack(pack, packed, &tile);
        for (uint32_t at = pack->run_bytes / 2 / 64 * 64; at < pack->run_bytes; at += 64) __builtin_prefetch(ahead + at);
        struct ds_tile_row x[DS_LINEAR_ROWS];
        ds_tile_rows(&p->x, first_row, rows, i, x);
        run(&tile, x, rows, pack->offset, total);
    }
}

#endif
