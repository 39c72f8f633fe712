/*
 * y = x W^T (+ bias) (+ residual): every thread takes a contiguous share of the tiles of 16 outputs and reads each weight from
 * memory once for up to ROW_GROUP rows. Meaning: ref/linear.c; layout: pack.h.
 */
#include "kernels.h"
#include "kernels/tile.h"

enum { ROW_GROUP = 64 }; /* rows that a tile's unpacking and reading is spread over; their sums stay in the first-level cache */

/* Sums of one tile's outputs for a group of rows. */
typedef float totals[ROW_GROUP][DS_TILE];

/* --- quantised weights --- */

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
RUN_FN(run_q8_0, .groups = 0, .bytes = true, .fine = true)
RUN_FN(run_levels, .groups = 0, .bytes = true)
RUN_FN(run_q4_0, .groups = 0)
RUN_FN(run_q4_1, .groups = 0, .minimum = true)
RUN_FN(run_q2_k, .groups = 16, .minimum = true)
RUN_FN(run_q6_k, .groups = 16)
RUN_FN(run_q4_k, .groups = 8, .minimum = true, .small = true)
RUN_FN(run_q5_k, .groups = 8, .minimum = true)
RUN_FN(run_iq4_xs, .groups = 8, .bytes = true)

static run_fn run_of(ds_type type) {
    switch (type) {
    case DS_TYPE_Q8_0: return run_q8_0;
    case DS_TYPE_IQ4_NL:
    case DS_TYPE_MXFP4: return run_levels;
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

static void tile_of_blocks(const struct ds_op_linear *p, const uint8_t *packed, uint32_t first_row, uint32_t rows, float (*total)[DS_TILE]) {
    const struct ds_pack *pack = ds_pack_get(p->weight.type);
    const run_fn run = run_of(p->weight.type);
    const uint32_t cols = p->x.cols, runs = ds_q8_padded(cols) / DS_RUN;
    const bool fine = p->x.elem == DS_ELEM_Q8_32;
    const uint32_t sum_offset = fine ? ds_q8_32_sum_offset(cols) : ds_q8_sum_offset(cols), scales = fine ? DS_RUN / DS_Q8_BLOCK : 1;
    struct ds_tile tile;
    for (uint32_t i = 0; i < runs; i++, packed += pack->run_bytes) {
        /* The hardware's prefetcher stops at page ends, and unpacking leaves it gaps. */
        for (uint32_t at = 0; at < pack->run_bytes; at += 64) __builtin_prefetch(packed + pack->run_bytes + at);
        ds_tile_unpack(pack, packed, &tile);
        struct ds_tile_row x[ROW_GROUP];
        for (uint32_t r = 0; r < rows; r++) {
            const uint8_t *row = ds_host_row(&p->x, first_row + r);
            x[r].q = (const int8_t *)row + (size_t)i * DS_RUN;
            x[r].sums = (const int16_t *)(const void *)(row + sum_offset) + (size_t)i * (DS_RUN / DS_SUM_GROUP);
            x[r].d = (const float *)(const void *)(row + ds_q8_scale_offset(cols)) + (size_t)i * scales;
        }
        run(&tile, x, rows, pack->offset, total);
    }
}

/* --- float weights --- */

/* Sixteen weights of one input, widened. */
DS_INLINE vf load_weights(const uint8_t *tile, const ds_type type, size_t input) {
    if (type == DS_TYPE_F32) return vf_load((const float *)(const void *)tile + input * DS_TILE);
    const uint16_t *bits = (const uint16_t *)(const void *)tile + input * DS_TILE;
    return type == DS_TYPE_F16 ? vf_load_f16(bits) : vf_load_bf16(bits);
}

/* total[r] += the sums of one run of `count` inputs, x[r] its f32 activations, for n rows; n and type are constants. */
DS_INLINE void run_of_floats(const uint8_t *tile, const ds_type type, const float *const *x, const int n, uint32_t count,
                             float (*total)[DS_TILE]) {
    vf acc[DS_ROW_BLOCK];
    DS_UNROLL for (int r = 0; r < n; r++) acc[r] = vf_zero();
    for (uint32_t i = 0; i < count; i++) {
        const vf w = load_weights(tile, type, i);
        DS_UNROLL for (int r = 0; r < n; r++) {
            const vf value = vf_set1(x[r][i]);
            acc[r] = type == DS_TYPE_BF16 ? vf_add_exact_product(w, value, acc[r]) : vf_add(acc[r], vf_mul(value, w));
        }
    }
    DS_UNROLL for (int r = 0; r < n; r++) vf_store(total[r], vf_add(vf_load(total[r]), acc[r]));
}

/* A run of n rows' activations as f32: where they lie, or widened into `wide`. */
DS_INLINE void float_activations(const struct ds_op_linear *p, const ds_type type, uint32_t first_row, const int n, uint32_t first,
                                 uint32_t count, float (*wide)[DS_RUN], const float **x) {
    for (int r = 0; r < n; r++) {
        const void *row = ds_host_row(&p->x, first_row + (uint32_t)r);
        x[r] = type == DS_TYPE_BF16 ? wide[r] : (const float *)row + first;
        if (type == DS_TYPE_BF16)
            for (uint32_t i = 0; i < count; i++) wide[r][i] = ds_bf16_to_f32(((const uint16_t *)row)[first + i]);
    }
}

DS_INLINE void rows_of_floats(const struct ds_op_linear *p, const ds_type type, const uint8_t *tile, uint32_t first_row, const int n,
                              uint32_t first, uint32_t count, float (*total)[DS_TILE]) {
    float wide[DS_ROW_BLOCK][DS_RUN];
    const float *x[DS_ROW_BLOCK];
    float_activations(p, type, first_row, n, first, count, wide, x);
    run_of_floats(tile, type, x, n, count, total);
}

DS_INLINE void tile_of_floats(const struct ds_op_linear *p, const ds_type type, const uint8_t *tile, uint32_t first_row, uint32_t rows,
                              float (*total)[DS_TILE]) {
    const size_t bytes = (type == DS_TYPE_F32 ? 4 : 2) * DS_TILE;
    for (uint32_t first = 0; first < p->x.cols; first += DS_RUN) {
        const uint32_t count = DS_MIN(p->x.cols - first, (uint32_t)DS_RUN);
        const uint8_t *run = tile + first * bytes;
        uint32_t r = 0;
        if (DS_ROW_BLOCK >= 8)
            for (; rows - r >= 8; r += 8) rows_of_floats(p, type, run, first_row + r, DS_MIN(DS_ROW_BLOCK, 8), first, count, total + r);
        if (DS_ROW_BLOCK >= 4)
            for (; rows - r >= 4; r += 4) rows_of_floats(p, type, run, first_row + r, DS_MIN(DS_ROW_BLOCK, 4), first, count, total + r);
        for (; r < rows; r++) rows_of_floats(p, type, run, first_row + r, 1, first, count, total + r);
    }
}

/* --- the op --- */

static void tile_of(const struct ds_op_linear *p, const uint8_t *packed, uint32_t first_row, uint32_t rows, totals total) {
    memset(total, 0, rows * sizeof total[0]);
    switch (p->weight.type) {
    case DS_TYPE_F32: tile_of_floats(p, DS_TYPE_F32, packed, first_row, rows, total); break;
    case DS_TYPE_F16: tile_of_floats(p, DS_TYPE_F16, packed, first_row, rows, total); break;
    case DS_TYPE_BF16: tile_of_floats(p, DS_TYPE_BF16, packed, first_row, rows, total); break;
    default: tile_of_blocks(p, packed, first_row, rows, total);
    }
}

/* Bias and residual, for the outputs that exist. */
static void finish(const struct ds_op_linear *p, uint32_t first_output, uint32_t first_row, uint32_t rows, totals total) {
    const uint32_t outputs = DS_MIN(p->weight.rows - first_output, (uint32_t)DS_TILE);
    const float *bias = ds_host_at(&p->bias);
    for (uint32_t r = 0; r < rows; r++) {
        float *sum = total[r], *y = (float *)ds_host_row(&p->y, first_row + r) + first_output;
        if (bias)
            for (uint32_t o = 0; o < outputs; o++) sum[o] += bias[first_output + o];
        if (p->residual.at.buffer) {
            const float *residual = (const float *)ds_host_row(&p->residual, first_row + r) + first_output;
            for (uint32_t o = 0; o < outputs; o++) sum[o] += residual[o];
        }
        memcpy(y, sum, outputs * sizeof(float));
    }
}

void DS_CPU_NAME(linear)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_linear *p = &params->linear;
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows), tiles = (p->weight.rows + DS_TILE - 1) / DS_TILE;
    const uint64_t tile_bytes = ds_pack_tile_bytes(p->weight.type, p->weight.cols);
    const uint8_t *weights = ds_host_at(&p->weight.at);
    uint64_t first, end;
    ds_cpu_share(work, tiles, &first, &end);
    for (uint64_t tile = first; tile < end; tile++) {
        for (uint32_t r = 0; r < rows; r += ROW_GROUP) {
            const uint32_t n = DS_MIN(rows - r, (uint32_t)ROW_GROUP);
            _Alignas(64) totals total;
            tile_of(p, weights + tile * tile_bytes, r, n, total);
            finish(p, (uint32_t)tile * DS_TILE, r, n, total);
        }
    }
}
